// train.cpp: `deepseek train`: its options are the table of src/train/options.cpp.
#include "src/base/fields.h"
#include "src/cli/verbs.h"
#include "src/rl/learn.h"
#include "src/train/training.h"

namespace {
std::string type_of(const TrainOption &option) {
    const std::string range = cat(":", format(option.low), "..", format(option.high));
    switch (option.kind) {
    case TrainOption::whole: return "INT" + range;
    case TrainOption::number: return "FLOAT" + range;
    case TrainOption::path: return "PATH";
    case TrainOption::choice: return cat("{", CLI::detail::join(option.choices, ","), "}");
    default: return "TEXT";
    }
}

struct Train {
    TrainOptions o;
    const CLI::App *verb = nullptr;
    Common common;

    void add(CLI::App &v, const TrainOption &option) {
        const std::string name = cat("--", option.name);
        if (option.kind == TrainOption::flag) {
            v.add_flag_function(name, [&](long) { option.set(o, "true"); }, option.help);
        } else if (option.kind == TrainOption::words) {
            const auto all = [&](const std::vector<std::string> &list) { option.set(o, format(list)); };
            v.add_option_function<std::vector<std::string>>(name, all, option.help)->allow_extra_args(false);
        } else {
            const auto set = [&](const std::string &text) { option.set(o, text); };
            v.add_option_function<std::string>(name, set, option.help)
                ->default_str(option.get(o))
                ->type_name(type_of(option))
                ->check(refuse_nothing);
        }
    }
    void options(CLI::App &v) {
        verb = &v;
        for (const TrainOption &option : train_options()) add(v, option);
        v.get_option("--init")->excludes("--preset");
        v.get_option("--tokens")->excludes("--data");
        v.get_option("--tokens")->excludes("--documents");
    }
    void run() const {
        std::vector<std::string> given;
        for (const TrainOption &option : train_options())
            if (verb->count(cat("--", option.name))) given.push_back(option.name);
        TrainOptions settled = o;
        if (!o.resume) settle(settled, given);
        const int code = train(settled, given, [](const TrainOptions &r, const Config &c, Tokenizer &&t) {
            const auto source = asks(r)                ? source_of_rollouts
                                : r.objective == "dpo" ? source_of_pairs
                                                       : source_of_corpus;
            return source(r, c, std::move(t));
        });
        if (code) throw CLI::RuntimeError(code);
    }
};
}  // namespace

void add_train(CLI::App &program) {
    add_verb<Train>(
        program, "train", "Train a model",
        "deepseek train --preset v3-tiny --data stories --steps 500 --out runs/v3\n"
        "  deepseek train --preset r1-tiny --data countdown --steps 2000 --out runs/base\n"
        "  deepseek train --objective grpo --task countdown --init runs/base --lr 3e-4 --out runs/r1");
}

// The verb `deepseek train`: its options are the table of src/train/options.cpp.
#include <CLI/CLI.hpp>

#include "src/cli/verbs.h"
#include "src/train/training.h"

static CLI::Option *add(CLI::App &verb, const TrainOption &option, TrainOptions &o) {
    const std::string name = std::string("--") + option.name, usual = option.get(TrainOptions());
    const auto set = [&](const std::string &text) { option.set(o, text); };
    if (option.kind == TrainOption::flag)
        return verb.add_flag_function(name, [&](long) { option.set(o, "true"); }, option.help);
    if (option.kind == TrainOption::words) {
        const auto all = [&](const std::vector<std::string> &list) {
            std::string text;
            for (const std::string &word : list) text += word + " ";
            option.set(o, text);
        };
        return verb.add_option_function<std::vector<std::string>>(name, all, option.help);
    }
    return verb.add_option_function<std::string>(name, set, option.help)->default_str(usual);
}

void add_train(CLI::App &app) {
    const auto o = std::make_shared<TrainOptions>();
    CLI::App *v = add_verb(app, "train", "Train a model",
                           "deepseek train --preset v3-tiny --data stories --steps 500 --out runs/v3");
    for (const TrainOption &option : train_options()) add(*v, option, *o);
    v->get_option("--init")->excludes("--preset");
    v->get_option("--tokens")->excludes("--data");
    v->callback([o, v] {
        use_common();
        std::vector<std::string> given;
        for (const TrainOption &option : train_options())
            if (v->count(std::string("--") + option.name)) given.push_back(option.name);
        if (const int code = train(*o, given)) throw CLI::RuntimeError(code);
    });
}

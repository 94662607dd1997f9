// options.cpp: the table of training options.
#include "src/train/options.h"

#include <algorithm>
#include <type_traits>

#include "src/base/fields.h"
#include "src/base/text.h"
#include "src/model/config.h"
#include "src/text/games.h"

template <class M> static TrainOption::Kind kind_of(const M &, bool choices) {
    if (std::is_same_v<M, bool>) return TrainOption::flag;
    if (std::is_same_v<M, std::vector<std::string>>) return TrainOption::words;
    if (std::is_same_v<M, std::string>) return choices ? TrainOption::choice : TrainOption::text;
    return std::is_integral_v<M> ? TrainOption::whole : TrainOption::number;
}

// A row whose value is the member `field`.
template <class M> static TrainOption row(const char *name, M TrainOptions::*field, const char *help,
                                          TrainOption::When when, double low = 0, double high = 0,
                                          const std::vector<std::string> &choices = {}) {
    const TrainOption::Kind kind = kind_of(TrainOptions().*field, !choices.empty());
    const auto set = [=](TrainOptions &o, const std::string &text) {
        M x;
        try {
            parse(text, x);
        } catch (const Error &e) {
            fail(cat("--", name, ": ", e.what()), e.hint);
        }
        if constexpr (std::is_arithmetic_v<M> && !std::is_same_v<M, bool>)
            expect(x >= low && x <= high, "--", name, " ", text, " is not between ", format(low), " and ",
                   format(high));
        if (kind == TrainOption::choice && !std::count(choices.begin(), choices.end(), text))
            fail(cat("--", name, " ", text, ": not one of ", format(choices)), did_you_mean(text, choices));
        o.*field = x;
    };
    return {name,    help, [field](const TrainOptions &o) { return format(o.*field); }, set, kind, low, high,
            choices, when};
}

static TrainOption path(const char *name, std::string TrainOptions::*field, const char *help,
                        const std::vector<std::string> &names = {}) {
    TrainOption option = row(name, field, help, TrainOption::fixed);
    option.kind = TrainOption::path;
    option.choices = names;
    return option;
}

static std::vector<std::string> names_of_data() {
    std::vector<std::string> names = game_names();
    names.insert(names.begin(), "stories");
    return names;
}

const std::vector<TrainOption> &train_options() {
    using O = TrainOptions;
    constexpr auto fixed = TrainOption::fixed, remembered = TrainOption::remembered, free = TrainOption::free;
    static const std::vector<TrainOption> table = {
        path("preset", &O::preset, "a preset's name or file; `deepseek config --list` shows them",
             preset_names()),
        path("init", &O::init, "start from a checkpoint's weights and tokenizer; weights it lacks are new"),
        row("set", &O::set, "field=value of the configuration (repeatable)", fixed),
        row("freeze", &O::freeze, "weights that stay as they are, like blocks.0.* (repeatable)", fixed),
        path(
            "data", &O::data,
            "stories; a text, a .jsonl of texts, or a folder (ids are kept in ~/.cache/deepseek); or a game, "
            "like facts:zipf=1 (`deepseek data --game facts` shows it)",
            names_of_data()),
        path("tokens", &O::tokens, "a file of token ids, one sequence a line, instead of --data"),
        path("tokenizer", &O::tokenizer, "bytes (the default), or a tokenizer.json or its folder", {"bytes"}),
        row("documents", &O::documents, "may documents in one window see each other?", fixed, 0, 0,
            {"together", "apart"}),
        row("batch", &O::batch, "sequences of a batch", fixed, 1, 1 << 16),
        row("context", &O::context, "tokens of a sequence; 0: the model's", fixed, 0, 1 << 24),
        row("accumulate", &O::accumulate, "batches of a step", fixed, 1, 1 << 16),
        row("steps", &O::steps, "how many the run has in all; the schedule ends there", remembered, 1, 1e9),
        row("lr", &O::lr, "highest learning rate", remembered, 1e-30, 1e3),
        row("schedule", &O::schedule, "of the learning rate; may change on the way", remembered, 0, 0,
            {"constant", "cosine", "multistep", "wsd"}),
        row("warmup", &O::warmup, "steps; -1: a tenth of the run, at most 100", remembered, -1, 1e9),
        row("weight-decay", &O::weight_decay, "of matrices", fixed, 0, 1e3),
        row("beta1", &O::beta1, "AdamW: decay of the mean of gradients", fixed, 0, 0.999999),
        row("beta2", &O::beta2, "AdamW: decay of the mean of their squares", fixed, 0, 0.999999),
        // Where v = g^2 is 0 in float, g is below 1e-22: small beside the least that is added.
        row("adam-eps", &O::adam_eps, "AdamW: added to the root in the denominator", fixed, 1e-20, 1),
        row("clip", &O::clip, "largest norm of all gradients; 0: none", fixed, 0, 1e30),
        row("seed", &O::seed, "of weights and data", fixed, -2147483648.0, 2147483647),
        row("save-every", &O::save_every, "steps; 0: every five minutes, at the end, and on Ctrl-C", free, 0,
            1e9),
        row("eval-every", &O::eval_every, "steps; 0: five times", free, 0, 1e9),
        row("out", &O::out, "folder for the checkpoint and metrics.csv", free),
        row("resume", &O::resume, "go on with the run in --out, whose options it remembers", free),
    };
    return table;
}

static std::string on_one_line(const std::string &value) {
    std::string text;
    for (char c : value) text += c == '\n' ? "\\n" : c == '\\' ? "\\\\" : std::string(1, c);
    return text;
}

static std::string from_one_line(const std::string &text) {
    std::string value;
    for (size_t i = 0; i < text.size(); i++) {
        const bool escaped = text[i] == '\\' && i + 1 < text.size();
        const char c = text[escaped ? ++i : i];
        value += escaped && c == 'n' ? '\n' : c;
    }
    return value;
}

std::string print_options(const TrainOptions &o) {
    std::string text;
    for (const TrainOption &option : train_options())
        if (option.when != TrainOption::free)
            text += cat(option.name, " = ", on_one_line(option.get(o)), "\n");
    return text;
}

TrainOptions parse_options(const std::string &text, const std::string &where) {
    TrainOptions o;
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
        const size_t equals = line.find(" = ");
        expect(equals != std::string::npos, where, ": '", line, "' is no option");
        const std::string name = line.substr(0, equals);
        const auto &table = train_options();
        const auto at =
            std::find_if(table.begin(), table.end(), [&](const auto &t) { return name == t.name; });
        expect(at != table.end(), where, ": unknown option '", name, "'");
        at->set(o, from_one_line(line.substr(equals + 3)));
    }
    return o;
}

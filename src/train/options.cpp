// options.cpp: the table of training options.
#include "src/train/options.h"

#include <algorithm>
#include <type_traits>

#include "src/base/fields.h"
#include "src/base/text.h"
#include "src/model/config.h"
#include "src/text/games.h"

static long count(const std::vector<std::string> &list, const std::string &word) {
    return std::count(list.begin(), list.end(), word);
}

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
        if (kind == TrainOption::choice && !count(choices, text))
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

// The same row, for some objectives.
static TrainOption of(const std::vector<std::string> &objectives, TrainOption option,
                      const std::map<std::string, std::vector<std::string>> &otherwise = {}) {
    option.objectives = objectives;
    option.otherwise = otherwise;
    return option;
}

using O = TrainOptions;
constexpr auto fixed = TrainOption::fixed, remembered = TrainOption::remembered, any_time = TrainOption::free;

static const std::vector<std::string> asked = {"online-rft", "ppo", "grpo"};
bool asks(const TrainOptions &o) { return count(asked, o.objective); }

// Of what is learned from outputs.
static std::vector<TrainOption> options_on_outputs() {
    const std::vector<std::string> near = {"ppo", "grpo"}, switches = {"on", "off"},
                                   shares = {"sequence", "token", "constant"};
    return {
        of(asked,
           row("task", &O::task, "whose questions are asked; `deepseek task --list` shows all", fixed)),
        of(asked, row("level", &O::level, "of the questions; 0: the usual one", remembered, 0, 1e6)),
        of(asked, row("questions", &O::questions, "of a rollout", fixed, 1, 1 << 16)),
        of(asked, row("group", &O::group, "outputs of each question", fixed, 1, 1 << 16)),
        of(asked, row("updates", &O::updates, "steps that share a rollout, each with a part of it", fixed, 1,
                      1 << 16)),
        of(asked, row("epochs", &O::epochs, "how often each output is learned from", fixed, 1, 1 << 10)),
        of(asked, row("max-tokens", &O::max_tokens, "of an output; 0: as the context allows", remembered, 0,
                      1 << 24)),
        of(asked, row("temperature", &O::temperature, "of policy and sampler", fixed, 1e-3, 1e3)),
        of(asked,
           row("top-p", &O::top_p, "sample among the likeliest up to this probability", fixed, 1e-6, 1)),
        of(asked, row("top-k", &O::top_k, "sample among the k likeliest; 0: all", fixed, 0, 1e9)),
        of(asked,
           row("sampler", &O::sampler, "precision of the sampler's products", fixed, 0, 0, {"f32", "bf16"})),
        of(near, row("reward", &O::reward, "weights of accuracy, format, language, length", fixed)),
        of({"grpo"}, row("reward-at", &O::reward_at, "an output's end, or also each step of its reasoning",
                         fixed, 0, 0, {"end", "step"})),
        of(near, row("eps", &O::eps, "the ratio to the sampling policy is clipped to 1 - eps .. 1 + eps",
                     fixed, 0, 1e6)),
        of({"dpo", "ppo", "grpo"},
           row("beta", &O::beta, "weight of the distance from the reference; of dpo 0.1", fixed, 0, 1e6),
           {{"dpo", {"0.1"}}}),
        of({"grpo"}, row("kl", &O::kl, "how that distance is estimated", fixed, 0, 0, {"k3", "unbiased"})),
        of({"grpo"},
           row("std", &O::std, "advantages divided by their spread in the group", fixed, 0, 0, switches)),
        of({"dpo", "online-rft", "ppo", "grpo"},
           row("length", &O::length, "what an output's terms are divided by; of dpo none, or sequence", fixed,
               0, 0, {"none", "sequence", "token", "constant"}),
           {{"dpo", {"none", "sequence"}}, {"online-rft", shares}, {"ppo", shares}, {"grpo", shares}}),
        of({"grpo"}, row("delta", &O::delta,
                         "bad outputs that the policy has left this far are masked; 0: none", fixed, 0, 1e6)),
        of(near, row("refresh", &O::refresh, "steps until the policy becomes the reference; 0: never", fixed,
                     0, 1e9)),
        of(asked,
           row("keep-routing", &O::keep_routing, "experts as the sampler chose them", fixed, 0, 0, switches)),
        of(asked, row("keep-mask", &O::keep_mask, "probabilities among what the sampler chose among", fixed,
                      0, 0, switches)),
        of({"ppo"}, row("gae-gamma", &O::gae_gamma, "discount of later rewards", fixed, 0, 1)),
        of({"ppo"}, row("gae-lambda", &O::gae_lambda, "of the advantage's estimation", fixed, 0, 1)),
        of({"ppo"},
           row("critic-lr", &O::critic_lr, "the critic's learning rate, times the policy's", fixed, 0, 1e3)),
        of(asked, row("show-every", &O::show_every, "steps between two sample outputs; 0: ten times",
                      any_time, 0, 1e9)),
    };
}

static std::vector<TrainOption> general_options() {
    const std::vector<std::string> texts = {"lm", "distill"}, read = {"lm", "distill", "sft", "rft", "dpo"};
    return {
        row("objective", &O::objective,
            "what is learned: to go on as texts do, as a teacher would, from a file of outputs, or from its "
            "own",
            fixed, 0, 0, {"lm", "distill", "sft", "rft", "dpo", "online-rft", "ppo", "grpo"}),
        path("preset", &O::preset, "a preset's name or file; `deepseek config --list` shows them",
             preset_names()),
        path("init", &O::init, "start from a checkpoint's weights and tokenizer; weights it lacks are new"),
        row("set", &O::set, "field=value of the configuration (repeatable)", fixed),
        row("freeze", &O::freeze, "weights that stay as they are, like blocks.0.* (repeatable)", fixed),
        of(read, path("data", &O::data,
                      "stories; a text, a .jsonl of texts, or a folder (ids are kept in ~/.cache/deepseek); "
                      "or a game, "
                      "like facts:zipf=1 (`deepseek data --game facts` shows it); of sft, rft and dpo "
                      "a .jsonl of outputs, as `deepseek rollout` writes it",
                      names_of_data())),
        of(texts, path("tokens", &O::tokens, "a file of token ids, one sequence a line, instead of --data")),
        path("tokenizer", &O::tokenizer, "bytes (the default), or a tokenizer.json or its folder", {"bytes"}),
        of(texts, row("documents", &O::documents, "may documents in one window see each other?", fixed, 0, 0,
                      {"together", "apart"})),
        of(read, row("batch", &O::batch, "sequences of a batch", fixed, 1, 1 << 16)),
        of(read, row("context", &O::context, "tokens of a sequence; 0: the model's", fixed, 0, 1 << 24)),
        of(read, row("accumulate", &O::accumulate, "batches of a step", fixed, 1, 1 << 16)),
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
        row("save-every", &O::save_every, "steps; 0: every five minutes, at the end, and on Ctrl-C", any_time,
            0, 1e9),
        row("eval-every", &O::eval_every, "steps; 0: five times", any_time, 0, 1e9),
        row("out", &O::out, "folder for the checkpoint and metrics.csv", any_time),
        row("resume", &O::resume, "go on with the run in --out, whose options it remembers", any_time),
        of({"distill"}, path("teacher", &O::teacher, "a checkpoint of the same vocabulary")),
        of({"distill"},
           row("divergence", &O::divergence, "KL of the student from the teacher, or of the teacher from it",
               fixed, 0, 0, {"forward", "reverse"})),
    };
}

const std::vector<TrainOption> &train_options() {
    static const std::vector<TrainOption> table = [] {
        std::vector<TrainOption> all = general_options();
        for (const TrainOption &option : options_on_outputs()) all.push_back(option);
        return all;
    }();
    return table;
}

void settle(TrainOptions &o, const std::vector<std::string> &given) {
    for (const TrainOption &option : train_options()) {
        const bool is_given = count(given, option.name);
        if (is_given && !option.objectives.empty() && !count(option.objectives, o.objective))
            fail(cat("--", option.name, ": does not go with --objective ", o.objective),
                 cat("it goes with ", format(option.objectives)));
        const auto here = option.otherwise.find(o.objective);
        if (here == option.otherwise.end()) continue;
        const auto &[objective, may] = *here;
        if (!is_given) option.set(o, may[0]);
        else if (option.kind == TrainOption::choice && !count(may, option.get(o)))
            fail(cat("--", option.name, " ", option.get(o), ": does not go with --objective ", objective),
                 cat("there it is one of ", format(may)));
    }
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

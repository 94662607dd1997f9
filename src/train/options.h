// options.h: the options of a training run, in one table: it makes the command line, checks ranges, and
// is what a checkpoint remembers.
#pragma once
#include <functional>
#include <map>
#include <string>
#include <vector>

struct TrainOptions {
    std::string objective = "lm";
    std::string preset = "v3-tiny", init, data = "stories", tokens, tokenizer, documents = "together";
    std::vector<std::string> set, freeze;
    int batch = 8, context = 0, accumulate = 1;
    long steps = 500;
    double lr = 3e-3;
    std::string schedule = "cosine";
    int warmup = -1;
    double weight_decay = 0.1, beta1 = 0.9, beta2 = 0.95, adam_eps = 1e-8, clip = 1;
    int seed = 1;
    long save_every = 0, eval_every = 0;
    std::string out;
    bool resume = false;

    std::string teacher, divergence = "forward";
    // Objectives on outputs.
    std::string task, sampler = "f32", reward = "accuracy=1,format=1", reward_at = "end";
    int level = 0, questions = 16, group = 16, updates = 1, epochs = 1, max_tokens = 0, top_k = 0;
    double temperature = 1, top_p = 1;
    double eps = 0.2, beta = 0.04, delta = 0, gae_gamma = 1, gae_lambda = 1, critic_lr = 3;
    std::string kl = "k3", length = "sequence", std = "on", keep_routing = "on", keep_mask = "on";
    long refresh = 0, show_every = 0;
};

struct TrainOption {                                     // a row of the table
    const char *name, *help;                             // the name on the command line, without --
    std::function<std::string(const TrainOptions &)> get;
    std::function<void(TrainOptions &, const std::string &)> set;      // refuses what is out of range
    enum Kind { whole, number, text, path, choice, words, flag } kind;
    double low, high;                                    // of a number
    std::vector<std::string> choices;                    // of a path: the names that are none
    // When a run goes on: must not differ; may differ; belongs to the call, and is not kept.
    enum When { fixed, remembered, free } when;
    std::vector<std::string> objectives = {};            // that it goes with; empty: all
    // By objective, where that changes it: the value if none is given; of a choice, all that there are.
    std::map<std::string, std::vector<std::string>> otherwise = {};
};
const std::vector<TrainOption> &train_options();
bool asks(const TrainOptions &);                    // its objective learns from answers to a task's questions
// Gives the objective's values to options that were not given, and refuses those that it does not have.
void settle(TrainOptions &, const std::vector<std::string> &given);
std::string print_options(const TrainOptions &);         // name = value, a line each: what a checkpoint keeps
TrainOptions parse_options(const std::string &text, const std::string &where);

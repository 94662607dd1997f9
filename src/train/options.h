// options.h: the options of a training run, in one table: it makes the command line, checks ranges, and
// is what a checkpoint remembers.
#pragma once
#include <functional>
#include <string>
#include <vector>

struct TrainOptions {
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
};
const std::vector<TrainOption> &train_options();
std::string print_options(const TrainOptions &);         // name = value, a line each: what a checkpoint keeps
TrainOptions parse_options(const std::string &text, const std::string &where);

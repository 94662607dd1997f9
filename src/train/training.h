// training.h: batches, objectives, the optimiser, one training step, and the run.
#pragma once
#include <functional>

#include "src/model/weights.h"
#include "src/text/corpus.h"

struct Batch {                       // B sequences of up to T+1 tokens: T inputs, T targets
    int B, T;
    long targets;                                        // how many; the rest are padding
    Tensor ids, next;                                    // (B,T): t_i and t_{i+1}, -1 where there is none
    std::vector<Tensor> mtp_ids, mtp_next;               // module k, (B,T-k): t_{i+k} and t_{i+k+1}
};
Batch make_batch(const Sequences &, int D);

struct Losses { Tensor total, lm, mtp, balance; };       // scalars; absent: the model has no such term
Losses language_modelling(const Model &, const Batch &, Aux * = nullptr);                // V3 (24)(25), (17)
double evaluate(const Model &, const std::vector<Sequences> &,                           // nats per token
                const std::function<void(long batches)> &progress = {});

enum class Schedule { constant, cosine, multistep, wsd };
struct Options {                                        // of `deepseek train`; the command line fills them in
    std::string preset = "v3-tiny", init, data = "stories", tokens, tokenizer, out, schedule = "cosine";
    std::vector<std::string> set;
    int batch = 8, context = 0, accumulate = 1, warmup = -1, seed = 1;
    long steps = 500, save_every = 0, eval_every = 0;
    double lr = 3e-3, weight_decay = 0.1, beta1 = 0.9, beta2 = 0.95, adam_eps = 1e-8, clip = 1;
    bool resume = false;
};
std::string tokenizer_of(const Options &);         // its own, or that of --init
double learning_rate(const Options &, long step);        // of step 0, 1, ...

struct Optimiser {                                       // AdamW over the list of weights
    struct Entry {
        Tensor W, m, v;
        Group group;
    };
    std::vector<Entry> entries;
    Tensor norm2;                                        // of all gradients, on the device
    explicit Optimiser(Model &);
    void zero_grad();
    void step(const Options &, double lr, int step);     // clips, moves every weight
};

struct StepReport {
    double loss, lm, mtp, balance, lr, gradient_norm, max_vio;
    long tokens;
    std::vector<std::vector<int>> load;                  // tokens of each expert, router by router
};
struct Training {
    Options o;
    Model model;
    Optimiser optimiser;
    long step = 0, position = 0;                         // steps done; windows read
    Training(const Options &, Model &&);
    StepReport train_step(const std::function<Sequences(long position)> &read);
    void save(const std::string &directory);       // checkpoint for others, training.safetensors for --resume
    void resume(const std::string &directory);
};
std::vector<std::vector<int>> expert_load(const Model &);        // of each router, since the last bias update
double max_violation(const std::vector<std::vector<int>> &load);  // max_i c_i / mean c - 1, mean over routers
int train(const Options &);                              // the verb

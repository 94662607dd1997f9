// training.h: objectives, the optimiser, one training step, and what a run is made of.
#pragma once
#include <functional>

#include "src/train/batch.h"
#include "src/train/options.h"

// ---- objectives
struct Losses {
    Tensor total;                                        // what backward() starts from
    std::vector<Term> terms;                             // lm, mtp, balance, ..., by name
    Tensor term(const std::string &name) const;          // absent: the model has no such term
};
Losses language_modelling(const Model &, const Batch &, Aux * = nullptr);                // V3 (24)(25), (17)
struct Evaluation {
    double nats = 0;                                     // per token
    struct OfKind {
        std::string name;
        double nats, right;                            // right: share of targets that are the likeliest token
    };
    std::vector<OfKind> kinds = {};
    const OfKind *kind(const std::string &name) const;   // null: there was none
    std::string shown() const;                           // for people
};
Evaluation evaluate(const Model &, const std::vector<Examples> &,
                    const std::function<void(long batches)> &progress = {});

// ---- the optimiser
double learning_rate(const TrainOptions &, long step);   // of step 0, 1, ...

struct Optimiser {                                       // AdamW over the weights that want a gradient
    struct Entry {
        std::string name;
        Tensor W, m, v;
        Group group;
    };
    std::vector<Entry> entries;
    Tensor norm2;                                        // of all gradients, on the device
    explicit Optimiser(Model &);
    void zero_grad();
    void watch(const Tensor &loss);                      // a step with a loss that is not finite is not taken
    void measure();                                      // norm2; a step needs it
    void step(const TrainOptions &, double lr, int step);            // clips, moves every weight
    std::vector<std::string> untouched() const;          // names of those that no gradient has reached so far
};

struct Learner {                                        // a model that is trained: the policy, later a critic
    Model model;
    Optimiser optimiser;
    explicit Learner(Model &&m) : model(std::move(m)), optimiser(model) {}
};

// ---- memory (src/train/memory.cpp): what the device does not have is refused
// copies: 4 for weight, gradient and two moments; tokens: of a batch, for what they leave on the tape.
void expect_memory_for(const Config &, int copies, double tokens = 0);

// ---- one step
struct StepReport {
    double loss, lr, gradient_norm, max_vio;
    long tokens;
    std::vector<std::pair<std::string, double>> terms;
    std::vector<std::vector<int>> load;                  // tokens of each expert, router by router
    double term(const std::string &name, double otherwise = 0) const;
};
double max_violation(const std::vector<std::vector<int>> &load);  // max_i c_i / mean c - 1, mean over routers

struct Diverged : Error {
    explicit Diverged(const std::string &cause, const std::string &hint = "a lower --lr or a longer --warmup")
        : Error(cause, hint) {}
};

struct Training {
    TrainOptions o;
    Learner policy;
    long step = 0, position = 0;                         // steps done; sequences read
    std::string data;                                    // what tells the data that are read from others
    Training(const TrainOptions &, Model &&);
    // read(position) gives the sequences of one micro-batch. A step whose gradient is not finite is not
    // taken: Diverged, and weights, moments and step are what they were. sound() is called once the gradient
    // is known to be finite, while the weights are still those that it was measured at.
    StepReport train_step(const std::function<Examples(long position)> &read,
                          const std::function<void()> &sound = {});

    // A checkpoint for others, and training.safetensors for --resume (src/train/checkpoint.cpp).
    void save(const std::string &directory);
    void resume(const std::string &directory);
};
std::string tokenizer_of(const TrainOptions &);          // its own, or that of --init
struct SavedRun {
    TrainOptions options;
    Config config;
    long step;
    std::string data;
};
SavedRun saved_run(const std::string &directory);        // what --resume goes on with, without its tensors

// ---- the verb (src/train/run.cpp). given: names of the options that were on the command line
int train(const TrainOptions &, const std::vector<std::string> &given);

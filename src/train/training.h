// training.h: objectives, the optimiser, one training step, and what a run is made of.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <optional>

#include "src/text/tokenizer.h"
#include "src/train/batch.h"
#include "src/train/objectives.h"
#include "src/train/options.h"

// ---- objectives
struct Losses {
    Tensor total;                                        // what backward() starts from
    std::vector<Term> terms;                             // lm, mtp, balance, ..., by name
    Tensor term(const std::string &name) const;          // absent: the model has no such term
};
Losses language_modelling(const Model &, const Batch &, Aux * = nullptr);                // V3 (24)(25), (17)
// In place of the texts' tokens, all that a teacher says of each.                          V3 5.4.1, in small
Losses distillation(const Model &, const Model &teacher, const Batch &, const Distill &, Aux * = nullptr);
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
    std::vector<std::string> said = {};                  // lines for people
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
    std::optional<Learner> critic;                       // of PPO: the values of what stands before a token
    std::optional<Model> reference;                      // a policy that stays as it was
    std::map<std::string, std::vector<double>> kept;     // what the source of the steps needs to go on
    long step = 0, position = 0;                         // steps done; sequences (questions) read
    std::string data;                                    // what tells the data that are read from others
    Training(const TrainOptions &, Model &&);
    // One step down the sum of the parts' losses. A step whose gradient is not finite is not taken: Diverged,
    // and weights, moments and step are what they were. sound() is called once the gradient is known to be
    // finite, while the weights are still those that it was measured at.
    using Part = std::function<Losses(Aux &)>;
    StepReport update(const std::vector<Part> &, const std::function<void()> &sound = {});
    // On sequences, read(position) of one micro-batch; by language modelling, unless another loss is given.
    using LossOf = std::function<Losses(const Batch &, Aux *)>;
    StepReport train_step(const std::function<Examples(long position)> &read,
                          const std::function<void()> &sound = {}, const LossOf & = {});

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

// ---- the verb (src/train/run.cpp)
using Columns = std::vector<std::pair<std::string, double>>;       // of metrics.csv; NaN: not known
// Where a run's steps come from: a corpus (here), or outputs that are rewarded (src/rl).
class Source {
public:
    virtual ~Source() = default;
    virtual const Tokenizer &tokenizer() const = 0;
    virtual std::string mark() const = 0;                // tells these data from others
    virtual std::string introduction(const Training &) const = 0;
    virtual double tokens_at_once() const = 0;           // of a batch: what memory they need is asked before
    virtual void begin(Training &) {}                    // with the weights that a run begins with
    virtual StepReport step(Training &, const std::function<void()> &sound) = 0;
    virtual Columns terms(const StepReport &) const = 0;             // the same names in every step
    virtual std::string shown(const StepReport &) const = 0;         // beside the bar
    struct HeldOut {
        Columns columns;
        std::string shown;
    };
    virtual std::vector<std::string> held_out_columns() const = 0;   // none: nothing is held out
    virtual HeldOut evaluate(const Model &, const std::function<void(long)> &progress) const = 0;
};
using MakeSource = std::function<std::unique_ptr<Source>(const TrainOptions &, const Config &, Tokenizer &&)>;
std::unique_ptr<Source> source_of_corpus(const TrainOptions &, const Config &, Tokenizer &&);
// given: names of the options that were on the command line
int train(const TrainOptions &, const std::vector<std::string> &given, const MakeSource & = source_of_corpus);

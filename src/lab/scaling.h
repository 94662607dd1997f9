// scaling.h: the scaling laws of DeepSeek LLM (section 3), as a plan of runs and as what such runs say.
//
// A budget is C FLOPs of training. A model costs M FLOPs a token, so that it sees D = C / M tokens. Which M
// gives the lowest loss, with which learning rate and batch? plan_runs() lists runs of several sizes under
// several budgets; each is one `deepseek train`, and its loss goes into the CSV that csv_of() begins and
// read_runs() reads. fit_laws() finds the best size of each budget and the power laws that these follow.
//
// What it is not: it trains nothing, and it fits no surface L(M, D) (the third approach of Chinchilla).
//
//   [1] the paper's laws   [2] the plan   [3] runs in a CSV, and folders of runs   [4] the fit
#pragma once
#include <array>
#include <optional>
#include <string>

#include "src/lab/picture.h"
#include "src/base/statistics.h"

// -------------------------------------------------------------------------------------- [1] the paper's laws
// Fitted from C = 1e17 on: at laptop budgets they are extrapolations over many decades.
double lr_opt(double C);
double batch_opt(double C);                              // tokens, not sequences
double M_opt(double C);                                  // FLOPs per token
double D_opt(double C);                                  // tokens

// ---------------------------------------------------------------------------------------------- [2] the plan
struct Run {
    double C = 0;                                        // budget
    int n_layers = 0, d = 0, l_seq = 0, vocabulary = 0;  // 0: not given
    double M = 0, D = 0;                                 // FLOPs per token, tokens
    double batch = 0, lr = 0;                            // tokens of a step; 0: not given
    long steps = 0, seed = 1;
    double loss = 0;                                     // held out: nats or bits, of a token or a byte
    std::string train;                                   // options of `deepseek train`
    long line = 0;                                       // in the file it came from
};

struct Dimensions { int n_layers, d; };
struct PlanOptions {
    std::vector<double> C = {3e10, 1e11, 3e11, 1e12};
    std::vector<Dimensions> sizes;
    std::vector<long> batch;                             // tokens; empty: batch_opt
    std::vector<double> lr;                              // empty: lr_opt
    int l_seq = 64, vocabulary = 258, seeds = 1;
    long fewest_steps = 20;
    std::string also;                                    // more options of every run
};
struct Plan {
    std::vector<Run> runs;
    std::vector<std::string> refused;                    // which run there cannot be, and why
};
Plan plan_runs(const PlanOptions &);
std::string csv_of(const std::vector<Run> &);            // without losses

// ----------------------------------------------------------------- [3] runs in a CSV, and folders of runs
// A header, then a run a line. Needed are: loss; D or C; M, or n_layers, d and l_seq. Without vocabulary
// there is no 6N2, without batch and lr there are no laws of these, without seed all runs have the same.
// Other columns are ignored. Rows whose loss is empty are runs that are still to come: they are counted.
struct Runs {
    std::vector<Run> rows;
    long to_come = 0;
    std::string name;                                    // of the file
};
Runs read_runs(const std::string &text, const std::string &name);
Run read_run(const std::string &folder);            // what `deepseek train --out` left; loss: nats of a token

// ----------------------------------------------------------------------------------------------- [4] the fit
struct Larger {                                          // a run that is still to be made
    Dimensions size;
    double C;
};
struct FitOptions {
    int points = 5;                                      // of a parabola: see fit_parabola
    double within = 0.25;                                // percent above the best: near-optimal
    int resamples = 1000, seed = 1;                      // of the bootstrap over seeds
    std::vector<double> predict;                         // budgets
    std::optional<Larger> foretell;
};

enum Axis { axis_6N1, axis_6N2, axis_M, n_axes };        // what compute is counted in: times D
constexpr const char *axis_names[n_axes] = {"6N1 D", "6N2 D", "M D"};

struct Optimum {                                         // of one budget
    double C;
    int sizes;
    double M, D, loss, r2;                               // the parabola's vertex, D = C / M
    std::array<double, n_axes> flops;                    // per token, at the vertex; NaN: not known
    std::string left_out;                                // why there is no M; empty: there is
};
struct Law {
    PowerLaw fit;
    Interval k, g;
};                                                       // y = k C^g
struct HeldOut {                                   // relative errors at the largest budget, fitted without it
    double power, offset, last;                          // last: foretold as the loss before it; NaN: no fit
};
struct LossLaw {                                         // L(C), by the form that foretold better
    PowerLaw power;
    std::optional<OffsetLaw> offset;
    bool use_offset;
    std::array<HeldOut, n_axes> held_out;
    double at(double C) const { return use_offset ? offset->at(C) : power.at(C); }
};
struct Prediction {
    double C, loss;
    Interval interval;
};
struct Foretold {                                        // the loss of that run, were it the best of its size
    std::array<double, n_axes> loss;                     // with compute counted so; NaN: not known
    double last;                                         // the loss of the largest budget
};
struct NearOptimal {                                   // the grid of learning rates and batches of one budget
    double C, M;
    int cells, near;
    double loss, lr, batch;                              // of the best cell
    double near_lr, near_batch;                          // geometric means of the near ones
    double excess;                                 // of the loss in the cell next to LLM (1): loss / best - 1
    std::string lr_left_out, batch_left_out;             // why it says nothing about this one
};
struct Fit {
    int seeds;
    std::vector<Optimum> optima;
    std::string no_laws;                                 // why there are none; empty: M, D and L are there
    std::string nothing;                            // why there is not even a grid; empty: there is something
    Law M, D;                                            // M_opt(C), D_opt(C)
    LossLaw loss;
    std::vector<Prediction> predictions;
    std::optional<Foretold> foretold;
    std::vector<NearOptimal> grids;
    std::optional<Law> lr, batch;                        // lr_opt(C), batch_opt(C)
};
Fit fit_laws(const Runs &, const FitOptions &);
// The loss by budget over log10 M, each size at its best learning rate and batch; where every budget has one
// size, over log10 of the learning rate. x: which of the two.
struct BudgetCurves {
    std::vector<Curve> curves;
    std::string x;
};
BudgetCurves budget_curves(const Runs &);

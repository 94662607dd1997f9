// batch.h: sequences of tokens become a batch on the device: what is read, what is predicted, what sees what.
#pragma once
#include <string>
#include <vector>

#include "src/model/weights.h"
#include "src/text/corpus.h"
#include "src/text/games.h"

// A sequence for training: ids t_0 .. t_n. The model reads the first n and predicts the last n.
struct Example {
    std::vector<int> ids;
    std::vector<real> weight =
        {};                  // of each token as a target; empty: 1. With 0 it is read, not learned (a prompt)
    std::vector<int> starts = {};    // where documents begin: they do not see each other. Empty: one document
    std::string kind = {};           // its loss is also reported apart, as lm_<kind>
};
using Examples = std::vector<Example>;
Examples examples(const std::vector<std::vector<int>> &sequences);
std::vector<Examples> examples(const std::vector<std::vector<std::vector<int>>> &batches);
Examples examples(Corpus &, const Tokenizer &, long position, int B,
                  int T);                                                   // windows, or of a game sequences
Examples examples(const std::vector<Sample> &);
std::vector<Examples> in_batches(const Examples &, int B);
std::vector<Examples> held_out_examples(const Corpus &, int B, int T, size_t most = SIZE_MAX);

// One reading of a batch: by the trunk (t_i predicts t_{i+1}), or by module k (t_{i+k}
// helps to predict t_{i+k+1}).
struct Reading {
    Step step;                                           // (B,T-k)
    Tensor next;                                         // (B,T-k): targets, -1 where there is none
    Tensor weight;                                       // (B,T-k) of the targets; absent: 1 each
};
struct Kind {
    std::string name;
    Tensor weight;                                       // (B,T): of the targets of this kind, 0 elsewhere
    double divisor;
};
struct Batch {
    int B, T;
    long tokens = 0;                                     // that are read: padding does not count
    double divisor = 0;                                  // of the loss: the sum of the targets' weights
    double share = 1;                                    // of the step's sequences: for means over sequences
    std::vector<Reading> reading;                        // [0] the trunk, [k] module k
    std::vector<Kind> kinds;
};
Batch make_batch(const Examples &, int D);

// Micro-batches of one training step: their losses and gradients add up to those of the whole, whatever their
// sizes. Here, and not in an evaluation, choices of experts may be dropped (Step::exempt says whose may not).
std::vector<Batch> make_batches(const std::vector<Examples> &, const Config &);

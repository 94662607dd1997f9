// learn.h: a policy learns from its own outputs: `train --objective grpo`, and its relatives.
//
// A step takes a part of a rollout (all of it, unless --updates says otherwise) and goes down one of the
// objectives of train.cpp. What they need beside log-probabilities is made here, once, when the rollout ends:
// rewards, advantages, the values of a critic. Between the steps of a rollout all of that is in
// Training::kept, and so in a checkpoint: a run goes on in the middle as if it had not stopped.
#pragma once
#include "src/rl/rollout.h"
#include "src/train/objectives.h"
#include "src/train/training.h"

// What is learned from one output: (ids) numbers each, but for `routed`.
struct Lesson {
    int group = 0;
    std::vector<int> prompt = {}, ids = {};
    std::vector<real> logp = {};                         // of the sampler: pi_old
    std::vector<real> A = {};                            // advantages
    std::vector<real> V = {}, returns = {};           // of the critic: what it said, what it should have said
    std::vector<int> kept = {};                          // (ids,ceil(V/32)): what the sampler chose among
    Sequences experts = {};                              // [router]: K_r of each token that is read
    double reward = 0;
};
using Lessons = std::vector<Lesson>;
void keep(std::map<std::string, std::vector<double>> &, const Lessons &);
Lessons kept(const std::map<std::string, std::vector<double>> &);

// Lessons side by side, as objectives take them: column t predicts token t+1 of prompt and output.
struct Experience {
    Step step;                                           // (B,T)
    Tensor next;                                         // (B,T): -1 where nothing is learned
    Mask mask;
    Tensor logp_old, A, V_old, returns;                  // (B,T); the last two with a critic
    Tensor allowed;                                      // (B T,ceil(V/32)); absent: all
    std::vector<Tensor> experts;                         // of each router (B T,K_r)
    Tensor reward, group;                                // (B)
};
Experience experience(const Lessons &, int V);
// log pi of the outputs' tokens, under a model that is not trained here.
Tensor fixed_logp(const Model &, const Experience &, double temperature = 1);

std::unique_ptr<Source> source_of_rollouts(const TrainOptions &, const Config &, Tokenizer &&);
// Of --objective dpo, whose outputs are in a file (src/rl/pairs.cpp).
std::unique_ptr<Source> source_of_pairs(const TrainOptions &, const Config &, Tokenizer &&);

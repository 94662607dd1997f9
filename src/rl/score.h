// score.h: what several outputs of each question say of a policy.
#pragma once
#include <string>
#include <vector>

#include "src/rl/rollout.h"

// 1 - C(n-c,k) / C(n,k): that one of k outputs is right, of n that were drawn c were.           Math, Pass@K
double pass_at(int n, int c, int k);
// That the vote of k outputs, drawn from these without putting back, is right; a tie is broken by lot. An
// output without an answer has no vote, and a vote without any is wrong. draws: how many are averaged.
double majority_at(const std::vector<Graded> &, int k, int draws, uint64_t seed);

struct Score {
    std::vector<int> K;                                  // 1, 4, 16, ... up to the number of samples, and it
    std::vector<std::vector<double>> pass, majority;     // [k][question]
    double formed, tokens, steps, steps_right, language, cut;      // means over outputs
    double flat;                                         // share of questions whose rewards do not differ
    double reward;
};
Score score(const std::vector<Rollout> &, int samples, uint64_t seed);
// Can reinforcement start from here, and if not, what would help? In a line.
std::string advice(const Score &);

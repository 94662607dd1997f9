// objectives.h: what a policy learns from outputs o of questions q, as functions of their log-probabilities.
//
// The methods are one formula, the unified paradigm of DeepSeekMath:
//     grad J = E[ 1/|o| sum_t GC grad log pi(o_t | q, o_<t) ]                                      Math (5)
// They differ in where outputs come from (data source), in what rewards them, and so in the gradient
// coefficient GC. None of them is written down as a gradient: each is a loss, -J, and the tape gives GC.
// Tensors are (B,T): B outputs in T places, with prompts and padding in some of them. A mask says which
// places count. What stands in the others is never read: NaN there reaches neither loss nor gradient.
//
// What it is not: it knows no model, no sampler and no reward model. logp comes from the op of that name.
#pragma once
#include "src/tensor/ops.h"

struct Mask {                        // made on the host, with the batch
    int B = 0, T = 0;
    std::vector<int> on;         // (B,T): 1 counts: the tokens of outputs, the end-of-sequence token included
    Tensor idx;                      // (B T, 1): the same for pick(): 0, or -1 where nothing counts
    explicit Mask(const Tensor &ones_and_zeros);
    bool at(int i, int t) const { return on[(long)i * T + t]; }
    int length(int i) const;         // |o_i|
};

// By what the terms of output i are divided; the batch stands for E and 1/G. Each has its bias:
//   sequence   B |o_i|        as printed: an output's tokens share one vote, each of a long one's has less;
//                             short right and long wrong outputs are favoured
//   token      sum of |o_i|   by token all weigh the same, a long output more as a whole; the divisor depends
//                             on the lengths of a batch, so its parts do not add up to it
//   constant   B L            neither: a sum over tokens, and nothing but its scale depends on L (0: T)
enum class Length { sequence, token, constant };
struct Divisor {
    Length by = Length::sequence;
    double L = 0;
};

Tensor sft(const Tensor &logp, const Mask &, const Divisor & = {});                    // Math (6)
Mask rewarded(const Mask &, const Tensor &reward);       // RFT is SFT on outputs with a reward (B) above 0

// Rows 2i and 2i+1 of the tensors are the chosen and the rejected output of pair i.
struct DPO {
    double beta = 0.1;
    bool normalised = false;                             // log-ratios divided by |o|
};
Tensor dpo(const Tensor &logp, const Tensor &logp_ref, const Mask &, const DPO & = {});  // Math (12)

// PPO's two losses, of the policy and of its critic V, which sees what stands before token t. With eps a
// value is held within eps of V_old where that makes the loss larger.
struct PPO {
    double eps = 0.2;
    Divisor divisor = {};
};
Tensor ppo(const Tensor &logp, const Tensor &logp_old, const Tensor &A, const Mask &, const PPO & = {});
Tensor critic(const Tensor &V, const Tensor &V_old, const Tensor &returns, const Mask &, double eps = 0,
              const Divisor & = {});

// GRPO with the KL term in the loss; logp_ref may be absent if beta is 0.
enum class KL {
    k3,                           // at the sampled token; its gradient is, on policy, that of KL(pi_ref | pi)
    unbiased                     // times rho: value and gradient are those of KL(pi | pi_ref), off policy too
};
struct GRPO {
    double eps = 0.2, beta = 0.04;
    double delta = 0;                // of the off-policy sequence mask; 0: none
    KL kl = KL::k3;
    Divisor divisor = {};
};
Tensor grpo(const Tensor &logp, const Tensor &logp_old, const Tensor &logp_ref, const Tensor &A, const Mask &,
            const GRPO & = {});

// Distillation from whole distributions: KL at every place that counts, of the student's softmax(h W^T /
// temperature) and the teacher's, without temperature^2. h (B,T,d) and teacher_h (B,T,d') are what the heads
// read where a token is to be predicted. No gradient reaches the teacher. Forward, the student has to cover
// all that the teacher does; reverse, it must not do what the teacher would not: V4's, on its own outputs.
struct Distill {
    Direction kl = Direction::forward;
    double temperature = 1;
    Divisor divisor = {};
};
Tensor distill(const Tensor &h, const Tensor &W, const Tensor &teacher_h, const Tensor &teacher_W,
               const Mask &, const Distill & = {});

// ---- on the host: advantages, with 0 where nothing counts. group (B): ints, the question of each output
// by_spread: divide by it, as all but V3.2 do. Where rewards do not differ there is no advantage.
Tensor outcome_advantages(const Tensor &reward, const Tensor &group, const Mask &, bool by_spread = true);
// reward (B,T): of the step that ends at this token, NaN where none does.
Tensor process_advantages(const Tensor &reward, const Tensor &group, const Mask &, bool by_spread = true);
// A, with 0 for outputs that did badly and that the policy has left behind by more than delta.
Tensor off_policy_masked(const Tensor &A, const Tensor &logp, const Tensor &logp_old, const Mask &,
                         double delta);

// (B) -> (B,T): the reward at the last token, beta times the distance from pi_ref off at each.
Tensor token_rewards(const Tensor &reward, const Tensor &logp_old, const Tensor &logp_ref, const Mask &,
                     double beta);
struct Estimates { Tensor A, returns; };
// Generalised advantage estimation from rewards and values by token; after the last token there is nothing.
Estimates gae(const Tensor &r, const Tensor &V, const Mask &, double gamma = 1, double lambda = 1);

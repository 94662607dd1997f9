// decoder.h: caches, prefill, decode, samplers.
#pragma once
#include <functional>

#include "deepseek.h"
#include "src/text/corpus.h"

struct Decoder {                     // B sequences that grow at their own pace
    const Model &m;
    int B, T_max;
    Caches caches;
    std::vector<int> length;                             // tokens seen by each
    Decoder(const Model &, int B, int T_max);
    // Feeds tokens, as many as each sequence has (none is fine), and returns the logits
    // after each one's last (B,V).
    Tensor feed(const Sequences &tokens, int chunk = 64);
};
struct Generation {
    Sampling sampling;
    int max_tokens = 200;
    std::vector<int> stop;
};
// Continues each prompt; calls on_token(sequence, id) as they come. Returns what was
// added, without the stop token.
Sequences generate(const Model &, const Sequences &prompts, const Generation &,
                   const std::function<void(int, int)> &on_token = {});

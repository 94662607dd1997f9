// weights.h: the one list of a model's weights, and all that walks it; the caches of decoding.
#pragma once
#include <functional>

#include "deepseek.h"

enum class Group { matrix, gain, embedding, bias, counter };    // decayed: matrix; not trained: bias, counter
using Visitor = std::function<void(const std::string &name, Tensor &, Group, const Shape &)>;
void visit(Model &, const Visitor &);                   // the only list of a model's weights, from its config
Model build(const Config &);                             // allocated, zero
Model initialised(const Config &, uint64_t seed);        // N(0, init_std^2), gains 1
Model clone(Model &);

Caches make_caches(const Config &, int B, int T_max);
Step causal(int B, int T);                               // positions 0 .. T-1, spans [0,t]

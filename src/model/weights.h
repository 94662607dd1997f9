// weights.h: the one list of a model's weights, and all that walks it; the caches of decoding.
#pragma once
#include <functional>

#include "deepseek.h"

// What is done with a weight depends on its group: matrices, routers and heads decay; a bias (of
// selection) is not trained by a gradient.
enum class Group { matrix, router, head, embedding, gain, bias };
inline bool trained(Group g) { return g != Group::bias; }
inline bool decays(Group g) { return g == Group::matrix || g == Group::router || g == Group::head; }

enum class Init { normal, ones, zeros };                 // N(0, init_std^2)
struct Spec {                                            // of one weight
    Shape shape;
    Group group = Group::matrix;
    Init init = Init::normal;
    Precision precision = f32;                           // of its products: the field `linear`, of matrices
};
using Visitor = std::function<void(const std::string &name, Tensor &, const Spec &)>;
void visit(Model &, const Visitor &);                   // the only list of a model's weights, from its config

Model outline(const Config &);                           // shapes alone, nothing allocated
Model build(const Config &);                             // allocated, zero
Model initialised(const Config &, uint64_t seed);        // a weight's random numbers depend on its name alone
Model clone(Model &);                                    // weights of its own: a reference does not follow
Model sharing(Model &, Precision linear);          // the same weights: for rollouts in another precision

// Takes over every weight that `from` has under the same name (another shape is refused), leaves the others.
struct Adopted {
    long taken = 0;
    std::vector<std::string> fresh, left_behind;
};
Adopted adopt(Model &, Model &from);
long freeze(Model &, const std::vector<std::string> &patterns);  // names with *; how many parameters it froze

Caches make_caches(const Config &, int B, int T_max, int D = 0);    // D: of how many MTP modules, too
Step causal(int B, int T);                               // positions 0 .. T-1, spans [0,t]
Step causal(const Tensor &ids);                          // the same, of these tokens

// ops.h: the set of ops, each with its signature and formula, and the functions that call them.
//
// Each op is a forward with its backward below it: for the CPU in src/cpu/ops.cpp, under the same
// name and in the same order for CUDA in deepseek.cu. Those that choose or write in place have no
// gradient: src/cpu/ops_no_grad.cpp and src/cuda/ops_no_grad.cu. Where an equation needs
// something new, a new op says so.
#pragma once
#include <climits>
#include <cmath>
#include <map>

#include "src/tensor/tape.h"

// signature: `?` may be absent, `!` written in place, `'` saved for the backward (no gradient flows into
// it); then what the input may be: `:2` its axes (else 1 to 4), and `:-1<x.0` integers from -1 and below
// x's axis 0 (`<ids`: below the number of ids, `<n`: below the attribute n), `:any` integers, `:both`
// integers or numbers, `:constant` numbers that get no gradient. An attribute's own bounds stand behind it.
// Those that are here are what a kernel relies on; how sizes fit together is the wrapper's business. The
// formula's letters are the signature's.
#define OPS_WITH_GRADIENT(X)                                                                         \
    X(gather_rows, "x:2 ids:1-3:0<x.0 slot?:2:-1<ids -> y", "y_i = x[ids_i]", "")                    \
    X(combine, "y:2 slot:2:-1<y.0 g?:2 -> z", "z_n = sum_k g_nk y[slot_nk], without g: 1", "")       \
    X(concat, "a b -> y", "y = [a; b], b may have one head for all", "")                             \
    X(slice, "x -> y", "y = x[from : from+n] on an axis", "axis from n:1..")                         \
    X(matmul, "x W:2 -> y", "y = x W^T", "precision")                                                \
    X(matmul_heads, "x:2-4 W:3 -> y", "y_i = W_i x_i, head by head", "transpose precision")          \
    X(matmul_grouped, "x:2 W:3 offsets:1:0<x.0+1 -> y", "rows of expert e times W_e^T", "precision") \
    X(weighted_sum, "x w?:1-4:constant -> y", "y = a sum_i w_i x_i, w constant", "a")                \
    X(unary, "x -> y", "y = f(ax + shift)", "f a shift")                                             \
    X(binary, "x y -> z", "z = f(x, y)", "f")                                                        \
    X(swiglu, "a b -> y", "y = silu(a) b", "")                                                       \
    X(scale_rows, "x s -> y", "y_i = s_i x_i", "")                                                   \
    X(affine, "x alpha?:1 b:1 -> y", "y_i = alpha x_i + b", "")                                      \
    X(rmsnorm, "x g?:1 -> y r'", "y = x r g, r = 1 / sqrt(mean x^2 + eps)", "eps")                   \
    X(softmax, "x -> y", "y_j = exp(x_j) / sum exp(x)", "")                                          \
    X(normalize_rows, "x -> y", "y = rho x / (sum x + eps)", "rho eps")                              \
    X(rope, "x:4 pos:1-4:-1<any -> y", "pairs turned by pos theta_i",                                \
      "first dims pairing sign theta scaling factor original beta_fast beta_slow amplitude")         \
    X(attention, "q:4 k:4 v?:4 where:3:any -> o lse'",                                               \
      "o_t = sum_j softmax_j(scale q_t k_j) v_j over what where allows", "scale n:0..1048576 lists") \
    X(pick, "s:2 idx:2:-1<s.1 -> y", "y_nk = s[n, idx_nk], 0 for -1", "")                            \
    X(logp, "h W:2 ids:1-4:-1<W.0 allowed?:1-4:any -> y H lse'",                                     \
      "y = log softmax(h W^T / temperature)[id], H its entropy", "temperature:>0.. precision")       \
    X(kl_vocab, "h W:2 g:1-4:constant U:2:constant pos?:1-4:-1<any -> y lse_q' lse_p'",              \
      "y = KL(p | q), or reverse KL(q | p); q = softmax(h W^T / temperature), p = softmax(g U^T / "  \
      "temperature)",                                                                                \
      "temperature:>0.. reverse precision precision_U")
#define OPS_WITHOUT_GRADIENT(X)                                                                       \
    X(topk, "s:2 b?:1 pos?:1-2:-1<any -> idx", "the K largest of s + b of the kept groups",           \
      "K groups keep best")                                                                           \
    X(hash_route, "ids:1-3:0<any pos?:1-3:-1<any -> idx", "idx_i = mix(ids_i) mod n", "n")            \
    X(drop, "s:2 idx:2:-1<s.1 exempt?:1-2:any -> kept",                                               \
      "idx, or -1 where a group has no room: lowest s first", "groups capacity")                      \
    X(dispatch, "idx:2:-1<n -> slot token offsets counts", "stable counting sort by expert", "n")     \
    X(balance, "idx:2:-1<n -> w", "w_ti = a/T f, of the group of expert i", "a n T groups keep once") \
    X(sample, "z:2 key:1-2:any -> id kept", "id ~ softmax(z / temperature) over the kept",            \
      "temperature top_k top_p seed")                                                                 \
    X(append, "rows!:4 x:4 at:1-4:-1<rows.1 ->", "rows[at] = x", "")                                  \
    X(adamw, "W! m! v! dW norm2? ->", "one AdamW step", "lr beta1 beta2 eps decay clip step")         \
    X(sum_squares, "x total! ->", "total += sum x^2", "")                                             \
    X(scale_add, "y!:1-4:both x:1-4:both ->", "y = ay + bx", "a b")                                   \
    X(bias_update, "b! counts:1-4:0<any ->", "b_i += gamma sign(mean counts - counts_i)", "gamma")
#define OPS(X) OPS_WITH_GRADIENT(X) OPS_WITHOUT_GRADIENT(X)

enum OpCode {
#define X(name, signature, formula, attributes) op_##name,
    OPS(X)
#undef X
        n_ops
};

struct AttributeRange {                                           // of an attribute
    double low = -INFINITY, high = INFINITY;
    bool above = false;                                  // low itself is outside
};
struct InputKind {                                            // what an input may be
    int fewest_axes = 1, most_axes = 4;
    bool ints = false, reals = true, constant = false;
    int low = INT_MIN;
    std::string end;                                     // of integers: "x.0", "x.0+1", "ids", "n"; "": none
};
struct Op {
    const char *name = "";
    std::string signature, attributes;                   // their names alone
    const char *formula = "";
    std::vector<std::string> inputs, outputs;            // their names, in order
    std::vector<InputKind> kinds;                             // of the inputs
    std::map<std::string, AttributeRange> ranges;                 // of the attributes
    unsigned optional = 0, inout = 0;                    // bit i: in[i] may be absent, is written in place
    unsigned saved = 0;                                  // bit i: out[i] is for the backward only
    bool has_gradient = false;
};
extern const std::vector<Op> ops;

using In = const Tensor &;

// ---------------------------------------- with a gradient.  (R,d) = the rows of the flattened tensor
Tensor gather_rows(In x, In ids, In slot = {});          // (R,d), (...), none or (R,K) -> (...,d)
Tensor combine(In y, In slot, In g);                 // (M,d), (N,K), (N,K) or none -> (N,d); slot -1: nothing
Tensor concat(In a, In b);                               // (...,p), (...,q) -> (...,p+q)
Tensor slice(In x, int axis, int from, int n);
Tensor matmul(In x, In W);                               // (...,k), (n,k) -> (...,n)
Tensor matmul_heads(In x, In W, bool transpose = false);  // (...,n_h,a), (n_h,b,a) -> (...,n_h,b)
Tensor matmul_grouped(In x, In W, In offsets);           // (M,a), (E,b,a), (E+1) -> (M,b)
Tensor weighted_sum(In x, In w, double a = 1);           // -> (1)
Tensor mean(In x);                                       // -> (1)
Tensor unary(Unary f, In x, double a = 1, double c = 0);
Tensor binary(Binary f, In x, In y);
Tensor swiglu(In a, In b);
Tensor scale_rows(In x, In s);                           // (R,d), (R)
Tensor affine(In x, In alpha, In b);                     // (R,c), none or (1), (c)
Tensor rmsnorm(In x, In g, double eps);
Tensor softmax(In x);                                    // over the last axis
Tensor normalize_rows(In x, double rho, double eps);
struct Rope {
    int first = 0, dims = 0;
    RopePairing pairing = rope_interleaved;
    RopeAngle angle = {};
    double amplitude = 1, sign = 1;
};
Tensor rope(In x, In pos, const Rope &);                 // (B,T,n,d), (B,T)
Tensor pick(In s, In idx);                               // (N,E), (N,K) -> (N,K)
struct Where {                                           // which keys each query sees
    Tensor keys;                                         // spans or lists
    bool lists = false;
};
// q (B,T,n_h,d_k), k (B,S,n_kv,d_k), v (B,S,n_kv,d_v) -> o (B,T,n_h,d_v). where: spans (B,T,2), the
// visible keys [lo, hi] of a query, hi included, lo > hi sees nothing; or lists (B,T,K) of keys, -1 ignored.
Tensor attention(In q, In k, In v, const Where &where, double scale);
struct First { int n; };                                 // the value is the first n numbers of the key
Tensor attention(In q, In k, First v, const Where &where, double scale);
std::pair<Tensor, Tensor> attention_lse(In q, In k, In v, const Where &where,
                                        double scale);                                     // o, lse (B,T,n_h)
// h (...,d), W (V,d), ids (...) -> (...) and (...); allowed (...,ceil(V/32)): sets, as bits
struct LogP { Tensor logp, entropy; };
LogP logp(In h, In W, In ids, double temperature = 1, In allowed = {});
enum class Direction { forward, reverse };               // KL(teacher | student), KL(student | teacher)
// h (...,d), W (V,d), the teacher's g (...,d') and U (V,d'), positions or none -> (N); position -1: 0
Tensor kl_vocab(In h, In W, In g, In U, In pos = {}, Direction = Direction::forward, double temperature = 1);

inline Tensor add(const Tensor &x, const Tensor &y) { return binary(binary_add, x, y); }
inline Tensor sub(const Tensor &x, const Tensor &y) { return binary(binary_sub, x, y); }
inline Tensor mul(const Tensor &x, const Tensor &y) { return binary(binary_mul, x, y); }
inline Tensor sigmoid(const Tensor &x) { return unary(unary_sigmoid, x); }
inline Tensor times(const Tensor &x, double a) { return unary(unary_identity, x, a); }
inline Tensor heads(const Tensor &x, int n) {            // (B,T,n d) -> (B,T,n,d)
    return reshape(x, {x.shape[0], x.shape[1], n, x.shape[2] / n});
}
inline Tensor merge(const Tensor &x) {
    return reshape(x, {x.shape[0], x.shape[1], (long)x.shape[2] * x.shape[3]});
}

// ---------------------------------------------------------------------------- that choose, that act
struct TopK { int K = 1, groups = 1, keep = 1, best = 1; };
// (N,E), (E) or none, the rows' positions or none -> idx (N,K), best first; position -1: idx -1
Tensor topk(In s, In b, const TopK &, In pos = {});
Tensor hash_route(In ids, int E, In pos = {});           // tokens, and their positions or none -> (N,1)
// (N,E), (N,K), rows (N) that keep all or none -> (N,K): what of idx each of D groups has room for
Tensor drop(In s, In idx, In exempt, int D, double capacity);
struct Dispatch {                                        // of M = N K choices, sorted by expert
    Tensor slot;                                         // (N,K): where (n,k) stands in the list, -1: nowhere
    Tensor token;                                        // (M): whose row stands there
    Tensor offsets, counts;                              // (E+1), (E)
};
Dispatch dispatch(In idx, int E);
// (N,K), sequences of T tokens -> w (N,E). D groups of experts are evened out (0: each expert is one); with M
// a token counts once for a group, and ideally reaches M of them.
Tensor balance(In idx, int E, int T, double alpha, int D = 0, int M = 0);
struct Sampling {
    double temperature = 1, top_p = 1;
    int top_k = 0, seed = 0;
};
struct Sampled { Tensor id, kept; };                     // (N), (N,ceil(V/32)): sets, as bits
Sampled sample(In logits, In key, const Sampling &);     // (N,V), (N,3) = (question, sample, position)
void append(In rows, In x, In at);                       // (B,T_max,n,d), (B,T,n,d), (B,T): -1 nowhere
struct AdamW {
    double lr = 1e-3, beta1 = 0.9, beta2 = 0.95, eps = 1e-8, decay = 0, clip = 0;
    int step = 1;
};
void adamw(In W, In m, In v, In dW, In norm2, const AdamW &);    // norm2 (1): of all gradients, for the clip
void sum_squares(In x, In total);
void scale_add(In y, In x, double a, double b);
void bias_update(In b, In counts, double gamma);

// deepseek.h: the contract. Read this first.
//
// One program holds the models of the DeepSeek papers. Its one idea is a tape of plain records:
//
//     model (deepseek.cpp)  --calls-->  op wrapper  --apply-->  device: cpu | cuda | checked
//                                                      |
//                                                    tape     backward() walks it in reverse
//
// A model is written once, one equation a line, in calls of ops. Every op passes through one door, apply(),
// which runs it on the current device and writes a record. No closures: in a debugger, `print tape[17]` shows
// the call. Each op is a forward with its backward below it, in src/ops.cpp for the CPU and in deepseek.cu
// for CUDA.
//
// What this is not: a framework. Tensors are contiguous; there is no broadcasting, no view but reshape, no
// operator overloading, no graph pass. Where an equation needs something new, a new op says so.
//
//   [1] shapes, tensors        [3] the tape        [5] configuration      [7] what each room exports
//   [2] calls and devices      [4] the ops         [6] weights, models
#pragma once
#include <cstddef>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "src/error.h"
#include "src/numerics.h"

// ============================================================================== [1] shapes, storage, tensors

enum Type : uint8_t { REALS, INTS };                     // numbers; ids, indices, spans (int32)

struct Shape {                                           // (B,T,n_h,d_h): contiguous, last index fastest
    int d[4] = {0, 0, 0, 0};
    int rank = 0;
    Shape() = default;
    Shape(std::initializer_list<long> sizes);
    BOTH int operator[](int axis) const { return d[axis < 0 ? rank + axis : axis]; }
    BOTH long numel() const {
        long n = 1;
        for (int i = 0; i < rank; i++) n *= d[i];
        return n;
    }
    BOTH int width() const { return rank ? d[rank - 1] : 1; }                           // the last size
    BOTH long rows() const { return width() ? numel() / width() : 0; }                // product of the others
    bool operator==(const Shape &) const = default;
    Shape with_width(long width) const;                  // the last size replaced
};
std::string str(const Shape &);                          // "(2,3,5)"
std::ostream &operator<<(std::ostream &, const Shape &);

struct Device;

struct Storage {                     // a block from its device's pool; goes back to it with its last handle
    uint32_t magic = 0xDEE95EEC;     // a debugger can tell a tensor from garbage
    int refs = 0;                    // handles belong to one thread
    Device *home = nullptr;          // whose block it is; apply refuses a tensor that lives elsewhere
    void *data = nullptr;
    real *grad = nullptr;            // null until something flows in, then +=
    Storage *owner = nullptr;        // set in an alias (detach, gradient): the block is the owner's
    long n = 0;
    Type type = REALS;
    bool wants_grad = false;
    int version = 0;                 // raised by every in-place action; backward refuses what changed since
    const char *name = "";           // the weight's name, or the op that made it
};

struct View {                        // what a kernel sees. p null: absent, or gradient not wanted
    void *p = nullptr;
    Shape shape;
    Type type = REALS;
    BOTH explicit operator bool() const { return p != nullptr; }
    BOTH real &operator[](long i) const { return ((real *)p)[i]; }
    BOTH real *row(long i) const { return (real *)p + i * shape.width(); }
    BOTH int &id(long i) const { return ((int *)p)[i]; }
    BOTH long numel() const { return shape.numel(); }
    BOTH long rows() const { return shape.rows(); }
    BOTH int width() const { return shape.width(); }
};

struct Tensor {                      // a counted handle: `=` aliases, clone() copies
    Storage *s = nullptr;
    Shape shape;
    Tensor() = default;
    Tensor(Storage *storage, const Shape &shape);
    Tensor(const Tensor &);
    Tensor(Tensor &&) noexcept;
    Tensor &operator=(Tensor);
    ~Tensor();
    explicit operator bool() const { return s != nullptr; }
    long numel() const { return shape.numel(); }
    View view() const { return s ? View{s->data, shape, s->type} : View{}; }
    View grad_view() const { return s && s->grad ? View{s->grad, shape, REALS} : View{}; }
};

Tensor reals(const Shape &, const char *name = "");      // on the current device, contents undefined
Tensor ints(const Shape &, const char *name = "");
Tensor zeros(const Shape &, const char *name = "");
Tensor zero_ints(const Shape &, const char *name = "");
Tensor from(const std::vector<real> &values, const Shape &, const char *name = "");
Tensor from(const std::vector<int> &values, const Shape &, const char *name = "");
std::vector<real> values(const Tensor &);                // a copy on the host
std::vector<int> int_values(const Tensor &);
void assign(const Tensor &, const std::vector<real> &values);        // overwrite
real item(const Tensor &);                               // of a scalar; waits for the device
Tensor clone(const Tensor &);                            // a new block, off the tape
void copy_into(const Tensor &to, const Tensor &from);    // equal shapes, same device
Tensor reshape(const Tensor &, const Shape &);           // the same block, gradient and all
Tensor detach(const Tensor &);                           // the same numbers, nothing flows back
Tensor gradient(const Tensor &);                         // the gradient as a tensor (an alias)
const Tensor &wants_grad(const Tensor &);                // marks a leaf
const Tensor &parameter(const Tensor &, const char *name);           // marks a weight: named, gradient kept
void zero_grad(const Tensor &);

// ===================================================================================== [2] calls and devices

// The named numbers of a call. One list makes the struct, the printer and `deepseek op --set name=value`.
#define ATTRIBUTES(X)                                                                             \
    X(int,    f,          0,          "function of a pointwise family")                           \
    X(double, a,          1,          "factor: f(ax + c), or of y in ay + bx")                    \
    X(double, b,          0,          "factor of x in ay + bx")                                   \
    X(double, c,          0,          "summand: f(ax + c)")                                       \
    X(int,    axis,       0,          "slice: the axis")                                          \
    X(int,    from,       0,          "slice: first index on the axis")                           \
    X(int,    n,          0,          "how many (slice), or how many experts (dispatch, balance)")\
    X(int,    transpose,  0,          "matmul_heads: multiply by the transposed heads")           \
    X(double, eps,        0,          "added under a root or in a denominator")                   \
    X(double, scale,      1,          "of the attention scores")                                  \
    X(int,    lists,      0,          "where holds spans (0) or lists of indices (1)")            \
    X(int,    first,      0,          "rope: first channel that turns")                           \
    X(int,    dims,       0,          "rope: how many channels turn")                             \
    X(int,    pairing,    0,          "rope: 0 neighbours, 1 half-split")                         \
    X(double, sign,       1,          "rope: -1 turns back")                                      \
    X(double, theta,      10000,      "rope: base of the frequencies")                            \
    X(int,    scaling,    0,          "rope: 0 none, 1 linear, 2 YaRN")                           \
    X(double, factor,     1,          "rope: context extension s")                                \
    X(double, original,   4096,       "rope: context before the extension")                       \
    X(double, beta_fast,  32,         "rope: YaRN ramp begins (turns)")                           \
    X(double, beta_slow,  1,          "rope: YaRN ramp ends (turns)")                             \
    X(double, amplitude,  1,          "rope: factor of cos and sin")                              \
    X(double, rho,        1,          "normalize_rows: what a row sums to")                       \
    X(int,    K,          1,          "topk: how many")                                           \
    X(int,    groups,     1,          "topk: groups of experts (nodes)")                          \
    X(int,    keep,       1,          "topk: groups kept")                                        \
    X(int,    best,       1,          "topk: a group's score is the sum of its best 1, 2, ... scores")\
    X(int,    T,          1,          "balance: tokens of a sequence")                            \
    X(double, temperature, 1,         "logp, sample")                                             \
    X(int,    top_k,      0,          "sample: keep the k most likely, 0 all")                    \
    X(double, top_p,      1,          "sample: keep the most likely up to this mass")             \
    X(int,    seed,       0,          "sample: of its random numbers")                            \
    X(double, lr,         0,          "adamw: learning rate")                                     \
    X(double, beta1,      0.9,        "adamw: decay of the first moment")                         \
    X(double, beta2,      0.95,       "adamw: decay of the second moment")                        \
    X(double, decay,      0,          "adamw: weight decay")                                      \
    X(double, clip,       0,          "adamw: largest global gradient norm, 0 none")              \
    X(int,    step,       1,          "adamw: 1, 2, ... for the bias correction")                 \
    X(double, gamma,      0,          "bias_update: speed")

struct Attr {
#define X(type, name, value, meaning) type name = value;
    ATTRIBUTES(X)
#undef X
    BOTH RopeAngle angle() const { return {theta, dims, scaling, factor, original, beta_fast, beta_slow}; }
};
std::string str(const Attr &); // only what differs from the default: "eps=1e-06 scale=0.25"

constexpr int max_inputs = 6, max_outputs = 4;

// All that a kernel is told: fixed size, nothing allocated, small enough to be a CUDA kernel's parameter.
// Gradients are accumulated (+=). A null din means not wanted; a null dout, that nothing flowed back.
struct Call {
    int op = 0, n_in = 0, n_out = 0;
    View in[max_inputs], out[max_outputs], din[max_inputs], dout[max_outputs];
    Attr a;
    template <int n> BOTH const View (&inputs() const)[n] { return (const View(&)[n])in; }
    template <int n> BOTH const View (&outputs() const)[n] { return (const View(&)[n])out; }
    template <int n> BOTH const View (&input_gradients() const)[n] { return (const View(&)[n])din; }
};
static_assert(sizeof(Call) < 4096, "a call must fit into the parameters of a CUDA kernel");

struct Twin {
    void (*forward)(const Call &);
    void (*backward)(const Call &);                      // null: the op chooses or acts
};

struct Device {                      // where tensors live and ops run
    const char *name;
    const Twin *twins;                                   // by op; null: not in this build
    void *(*take)(size_t bytes);     // from the pool: power-of-two bins, no system call in the steady state
    void (*give)(void *, size_t bytes);
    void (*zero)(void *, size_t bytes);
    void (*up)(void *to_device, const void *from_host, size_t bytes);
    void (*down)(void *to_host, const void *from_device, size_t bytes);
    void (*copy)(void *to, const void *from, size_t bytes);
    void (*wait)();                  // until all that was launched is done
};
extern Device cpu_device, cuda_device, checked_device;   // checked: every op on both, compared
extern Device *device;                                   // the current one
Device *device_named(const std::string &name);           // cpu | cuda | checked; says which are in this build
enum class Kernels { plain, fast };
void use_kernels(Kernels);                     // which rendition of the hot ops the CPU runs; fast by default

struct PoolReport { long system_allocations; size_t held_bytes, peak_bytes; };
PoolReport pool_report(const Device &);

// A kernel's temporary memory, from its own device.
template <class T> struct Scratch {
    Device &home;
    size_t bytes;
    T *p;
    Scratch(Device &home, long n) : home(home), bytes(n * sizeof(T)), p((T *)home.take(bytes)) {}
    ~Scratch() { home.give(p, bytes); }
    Scratch(const Scratch &) = delete;
    T &operator[](long i) const { return p[i]; }
};

// ============================================================================================== [3] the tape

struct Record {
    int op, n_in, n_out;
    Tensor in[max_inputs], out[max_outputs];
    int in_version[max_inputs], out_version[max_outputs];
    Attr a;
};
extern std::vector<Record> tape;                         // print tape[17]
extern bool recording;

struct NoGrad {                                         // nothing is recorded while one of these lives
    bool before = recording;
    NoGrad() { recording = false; }
    ~NoGrad() { recording = before; }
};
struct TapeGuard { ~TapeGuard() { tape.clear(); } };    // an exception before the backward clears the tape

void apply(int op, std::initializer_list<Tensor> in, std::initializer_list<Tensor> out, const Attr &a = {});
void backward(const Tensor &loss);                    // of a scalar: d loss = 1, then every record in reverse

// The integer outputs of ops without a gradient, kept or imposed: so two devices can be held to the same
// choices.
struct Choices {
    enum Mode { off, record, replay } mode = off;
    struct Choice { int op; std::vector<int> values; };
    std::vector<Choice> kept;
    size_t next = 0;
    long differing = 0;                                  // integers that replay found different
    std::string first_difference;                        // "topk, choice 17, entry 3: 5 instead of 2"
};
extern Choices choices;

// Called around every op, forwards and backwards: profiler, NaN trap and trace hang here.
struct OpHook { std::function<void(const Call &, bool backward, double seconds)> after; };
extern OpHook op_hook;

// =============================================================================================== [4] the ops

// signature: `?` may be absent, `!` written in place, `'` saved for the backward (no gradient flows into it).
// The formula's letters are the signature's. OPS_WITH_GRADIENT are in src/ops.cpp, the others in src/act.cpp.
#define OPS_WITH_GRADIENT(X)                                                                      \
    X(gather_rows, "x ids slot? -> y", "y_i = x[ids_i]", "")                                      \
    X(combine, "y slot g -> z", "z_n = sum_k g_nk y[slot_nk]", "")                                \
    X(concat, "a b -> y", "y = [a; b], b may have one head for all", "")                          \
    X(slice, "x -> y", "y = x[from : from+n] on an axis", "axis from n")                          \
    X(matmul, "x W -> y", "y = x W^T", "")                                                        \
    X(matmul_heads, "x W -> y", "y_i = W_i x_i, head by head", "transpose")                       \
    X(matmul_grouped, "x W offsets -> y", "rows of expert e times W_e^T", "")                     \
    X(weighted_sum, "x w? -> y", "y = a sum_i w_i x_i, w constant", "a")                          \
    X(unary, "x -> y", "y = f(ax + c)", "f a c")                                                  \
    X(binary, "x y -> z", "z = f(x, y)", "f")                                                     \
    X(swiglu, "a b -> y", "y = silu(a) b", "")                                                    \
    X(scale_rows, "x s -> y", "y_i = s_i x_i", "")                                                \
    X(rmsnorm, "x g? -> y r'", "y = x r g, r = 1 / sqrt(mean x^2 + eps)", "eps")                  \
    X(softmax, "x -> y", "y_j = exp(x_j) / sum exp(x)", "")                                       \
    X(normalize_rows, "x -> y", "y = rho x / (sum x + eps)", "rho eps")                           \
    X(rope, "x pos -> y", "pairs turned by pos theta_i",                                          \
      "first dims pairing sign theta scaling factor original beta_fast beta_slow amplitude")      \
    X(attention, "q k v? where -> o lse'",                                                        \
      "o_t = sum_j softmax_j(scale q_t k_j) v_j over what where allows", "scale n lists")         \
    X(pick, "s idx -> y", "y_nk = s[n, idx_nk]", "")                                              \
    X(logp, "h W ids allowed? -> y H lse'",                                                       \
      "y = log softmax(h W^T / temperature)[id], H its entropy", "temperature")
#define OPS_WITHOUT_GRADIENT(X)                                                                   \
    X(topk, "s b? -> idx", "the K largest of s + b among the kept groups", "K groups keep best")  \
    X(dispatch, "idx -> slot token offsets counts", "stable counting sort by expert", "n")        \
    X(balance, "idx -> w", "w_ti = a/T f_i, constants of the sequence-wise loss", "a n T")        \
    X(sample, "z key -> id kept", "id ~ softmax(z / temperature) over the kept",                  \
      "temperature top_k top_p seed")                                                             \
    X(append, "rows! length! x at ->", "rows[at] = x, length = max(length, at + 1)", "")          \
    X(adamw, "W! m! v! dW norm2? ->", "one AdamW step",                                           \
      "lr beta1 beta2 eps decay clip step")                                                       \
    X(sum_squares, "x total! ->", "total += sum x^2", "")                                         \
    X(scale_add, "y! x ->", "y = ay + bx", "a b")                                                 \
    X(bias_update, "b! counts ->", "b_i += gamma sign(mean counts - counts_i)", "gamma")
#define OPS(X) OPS_WITH_GRADIENT(X) OPS_WITHOUT_GRADIENT(X)

enum OpCode {
#define X(name, signature, formula, attributes) op_##name,
    OPS(X)
#undef X
    n_ops
};

struct Op {
    const char *name, *signature, *formula, *attributes;
    std::vector<std::string> inputs, outputs;            // their names, in order
    unsigned optional, inout;                            // bit i: in[i] may be absent, is written in place
    unsigned saved;                                      // bit i: out[i] is for the backward only
    bool has_gradient;
};
extern const std::vector<Op> ops;

using In = const Tensor &;

// ---------------------------------------- with a gradient.  (R,d) = the rows of the flattened tensor
Tensor gather_rows(In x, In ids, In slot = {});          // (R,d), (...), none or (R,K) -> (...,d)
Tensor combine(In y, In slot, In g);                     // (M,d), (N,K), (N,K) -> (N,d); slot -1: nothing
Tensor concat(In a, In b);                               // (...,p), (...,q) -> (...,p+q)
Tensor slice(In x, int axis, int from, int n);
Tensor matmul(In x, In W);                               // (...,k), (n,k) -> (...,n)
Tensor matmul_heads(In x, In W, bool transpose = false); // (...,n_h,a), (n_h,b,a) -> (...,n_h,b)
Tensor matmul_grouped(In x, In W, In offsets);           // (M,a), (E,b,a), (E+1) -> (M,b)
Tensor weighted_sum(In x, In w, double a = 1);           // -> (1)
Tensor mean(In x);                                       // -> (1)
Tensor unary(Unary f, In x, double a = 1, double c = 0);
Tensor binary(Binary f, In x, In y);
Tensor swiglu(In a, In b);
Tensor scale_rows(In x, In s);                           // (R,d), (R)
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
// q (B,T,n_h,d_k), k (B,S,n_kv,d_k), v (B,S,n_kv,d_v) -> o (B,T,n_h,d_v). where: spans (B,T,2), the
// visible keys [lo, hi] of a query, hi included, lo > hi sees nothing; or lists (B,T,K) of keys, -1 ignored.
Tensor attention(In q, In k, In v, In where, double scale);
struct First { int n; };                                 // the value is the first n numbers of the key
Tensor attention(In q, In k, First v, In where, double scale);
std::pair<Tensor, Tensor> attention_lse(In q, In k, In v, In where, double scale);       // o, lse (B,T,n_h)
// h (...,d), W (V,d), ids (...) -> (...) and (...); allowed (...,V): ints, 0 = cannot be chosen
struct LogP { Tensor logp, entropy; };
LogP logp(In h, In W, In ids, double temperature = 1, In allowed = {});

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
Tensor topk(In s, In b, const TopK &);                   // (N,E), (E) or none -> idx (N,K), best first
struct Dispatch {                                        // of M = N K choices, sorted by expert
    Tensor slot;                                         // (N,K): where (n,k) stands in the list, -1: nowhere
    Tensor token;                                        // (M): whose row stands there
    Tensor offsets, counts;                              // (E+1), (E)
};
Dispatch dispatch(In idx, int E);
Tensor balance(In idx, int E, int T, double alpha);      // (N,K), sequences of T tokens -> w (N,E)
struct Sampling { double temperature = 1, top_p = 1; int top_k = 0, seed = 0; };
struct Sampled { Tensor id, kept; };                     // (N), (N,V)
Sampled sample(In logits, In key, const Sampling &);     // (N,V), (N,2) = (row, position)
void append(In rows, In length, In x, In at);            // (B,T_max,n,d), (B), (B,T,n,d), (B,T): -1 nowhere
struct AdamW { double lr = 1e-3, beta1 = 0.9, beta2 = 0.95, eps = 1e-8, decay = 0, clip = 0; int step = 1; };
void adamw(In W, In m, In v, In dW, In norm2, const AdamW &);    // norm2 (1): of all gradients, for the clip
void sum_squares(In x, In total);
void scale_add(In y, In x, double a, double b);
void bias_update(In b, In counts, double gamma);

// ========================================================================================= [5] configuration

enum class Attention { MHA, GQA, MLA };
enum class Gate { softmax, sigmoid };
enum class Counted { selected, unbiased };               // which top-K the sequence-wise loss counts

// The papers' symbols, with the released config.json's name beside them. src/config.cpp has one table of
// these fields that parses, prints, validates and saves. Presets are lists of fields: data/presets/*.preset.
struct Config {
    std::string name = "unnamed";
    Attention attention = Attention::MHA;
    int V = 258;                    // vocabulary                                    vocab_size
    int bos = -1;                   // begins a text, -1 = no token does             bos_token_id
    int eos = -1;                   // ends one                                      eos_token_id
    int context = 256;              // longest sequence                              max_position_embeddings
    int d = 128;                    // width of the residual stream                  hidden_size
    int n_layers = 4;               // blocks                                        num_hidden_layers
    int n_h = 4;                    // query heads                                   num_attention_heads
    int n_kv = 4;                   // key-value heads (MHA: n_h)                    num_key_value_heads
    int d_h = 32;                  // head width; MLA: of the content part          head_dim, qk_nope_head_dim
    int d_v = 32;                   // width of a value head                         v_head_dim
    int d_ff = 344;                 // width of the dense feed-forward network       intermediate_size
    bool tied = false;              // output head = embedding                       tie_word_embeddings
    double eps = 1e-6;              // under RMSNorm's root                          rms_norm_eps
    double init_std = 0.02;         // of all matrices at the start                  initializer_range

    int d_c = 32;                   // MLA: latent of keys and values                kv_lora_rank
    int d_cq = 0;                   // MLA: latent of queries, 0 = none              q_lora_rank
    int d_hR = 16;                  // MLA: rotary part of a head                    qk_rope_head_dim

    RopePairing pairing = rope_half_split;   //                                      rope_interleave
    double theta = 10000;           // base of the rotary frequencies                rope_theta
    RopeScaling scaling = rope_plain;        //                                      rope_scaling.type
    double factor = 1;              // context extension s                           rope_scaling.factor
    double original = 4096;  // context before it                             original_max_position_embeddings
    double beta_fast = 32;          // YaRN's ramp                                   beta_fast
    double beta_slow = 1;           //                                               beta_slow
    double mscale = 0;              // YaRN's temperature, 0 = not given             mscale
    double mscale_all_dim = 0;      //                                               mscale_all_dim
    double attention_factor = 0;    // of cos and sin, 0 = not given                 attention_factor

    int N_r = 0;                    // routed experts, 0 = no mixture                n_routed_experts
    int N_s = 1;                    // shared experts                                n_shared_experts
    int K_r = 4;                    // routed experts a token uses                   num_experts_per_tok
    int d_e = 64;                   // width of an expert                            moe_intermediate_size
    int n_dense = 1;                // leading layers without experts                first_k_dense_replace
    int groups = 1;                 // of experts (nodes)                            n_group
    int M = 1;                      // groups a token may use                        topk_group
    int group_best = 2;             // best scores that make a group's score         (V2: 1, V3: 2 = K_r / M)
    Gate gate = Gate::sigmoid;      //                                               scoring_func
    bool norm_gates = true;         // gates of the chosen sum to rho                norm_topk_prob
    double rho = 1;                 // routed scaling                                routed_scaling_factor
    double alpha = 1e-4;            // weight of the sequence-wise balance loss
    Counted counted = Counted::selected;
    double gamma = 1e-3;            // speed of the selection bias

    int D = 0;                      // depth of multi-token prediction               num_nextn_predict_layers
    double lambda = 0.3;            // weight of its loss

    bool has_experts(int layer) const { return N_r > 0 && layer >= n_dense; }
};

struct Field {                                           // one row of the table
    const char *name, *help;
    std::function<std::string(const Config &)> get;
    std::function<void(Config &, const std::string &)> set;
};
const std::vector<Field> &config_fields();
void set_field(Config &, const std::string &assignment); // "d_c=64"; unknown names get the nearest as answer
Config load_preset(const std::string &name_or_file);     // embedded, or a file of `field = value` lines
std::vector<std::string> preset_names();
void validate(const Config &);                           // refuses what cannot be built, naming the field
std::string print_config(const Config &);                // as a preset

struct Census {                                          // exact counts, before anything is built
    struct Part { std::string name; long total, activated; };
    std::vector<Part> parts;                             // activated: what one token multiplies with
    long total = 0, activated = 0;
    long cache_numbers, cache_numbers_MHA;               // per token and layer
    double flops_per_token;                              // forward and backward, at full context
};
Census census(const Config &);
std::string print_census(const Config &);
double nominal_flops(int n_layers, int d, int l_seq);  // M of a dense model                           LLM (2)

// ======================================================================================= [6] weights, models

struct MHA { Tensor W_Q, W_K, W_V, W_O; };
struct MLA { Tensor W_DQ, g_q, W_UQ, W_QR, W_DKV, g_kv, W_KR, W_UK, W_UV, W_O; };    // d_cq = 0: no W_DQ, g_q
struct FFN { Tensor W_g, W_u, W_2; };                    // (d_ff,d), (d_ff,d), (d,d_ff)
struct MoE {
    Tensor e, b;                                       // centroids (N_r,d); selection bias (N_r), not trained
    Tensor load;                                         // ints (N_r): tokens sent since the last bias update
    Tensor W_g, W_u, W_2;                                // (N_r,d_e,d), (N_r,d_e,d), (N_r,d,d_e)
    FFN shared;                                          // N_s experts are one of N_s times the width
};
struct Block {                                        // one attention, one feed-forward; the others are empty
    Tensor g_attn, g_ffn;
    MHA mha;
    MLA mla;
    FFN ffn;
    MoE moe;
};
struct MTP { Tensor g_h, g_e, M, g_out; Block block; };

struct Model {
    Config c;
    Tensor Emb, g, head;                                 // (V,d), (d), (V,d); head is absent when tied
    std::vector<Block> blocks;
    std::vector<MTP> mtp;
    Model() = default;
    Model(Model &&) = default;                           // move-only: a reference must not follow the policy
    Model &operator=(Model &&) = default;
    const Tensor &output_head() const { return head ? head : Emb; }
};
enum class Group { matrix, gain, embedding, bias, counter };    // decayed: matrix; not trained: bias, counter
using Visitor = std::function<void(const std::string &name, Tensor &, Group, const Shape &)>;
void visit(Model &, const Visitor &);                   // the only list of a model's weights, from its config
Model build(const Config &);                             // allocated, zero
Model initialised(const Config &, uint64_t seed);        // N(0, init_std^2), gains 1
Model clone(Model &);

struct Cache { Tensor rows, length; };                   // (B,T_max,n,d), (B): append-only
struct LayerCache { Cache latent = {}, k = {}, v = {}; };        // MLA: the latent; MHA, GQA: keys and values
struct Caches { std::vector<LayerCache> layers; };
Caches make_caches(const Config &, int B, int T_max);

struct Routing { Tensor s, idx; };                       // what a router saw and chose, for reports
struct Aux { std::vector<Tensor> balance; std::vector<Routing> routing; };
struct Step {                    // what a layer must know besides its weights. Training: no past, spans [0,t]
    Tensor pos, where;                                   // (B,T), (B,T,2)
    Tensor at = {};                                      // (B,T): rows of the cache to write, -1 for padding
    Caches *past = nullptr;
    Aux *aux = nullptr;          // training: balance losses are collected, experts counted
};
Step causal(int B, int T);                               // positions 0 .. T-1, spans [0,t]

Tensor mha(const MHA &, const Config &, const Tensor &h, const Step &, LayerCache *past);
Tensor mla(const MLA &, const Config &, const Tensor &h, const Step &);
Tensor mla_absorbed(const MLA &, const Config &, const Tensor &h, const Step &, Cache &latent);
Tensor ffn(const FFN &, const Tensor &u);
Tensor moe(const MoE &, const Config &, const Tensor &u, const Step &);
Tensor block(const Block &, const Config &, const Tensor &h, const Step &, int layer);
Tensor trunk(const Model &, const Tensor &ids, const Step &);        // (B,T) -> (B,T,d), after the final norm
Tensor mtp(const MTP &, const Model &, const Tensor &h, const Tensor &ids, const Step &);    // h^{k-1} -> h^k

// ============================================================================== [7] what each room exports
// ---- src/formats.cpp: Hugging Face directories (config.json, model.safetensors), names and layouts of other
// programs
void save_model(Model &, const std::string &directory);  // config.json, model.safetensors, each atomically
Model load_model(const std::string &directory);  // llama and deepseek_v3 layouts; refuses what it cannot hold
Config load_config(const std::string &directory);
// A tensor of model.safetensors, put together from rows of ours: kv_b_proj interleaves W_UK and W_UV head by
// head.
struct Piece { Tensor ours; long from_row, to_row, rows; };              // rows of the flattened tensors
struct NamedTensor { std::string name; Shape shape; std::vector<Piece> pieces; };
std::vector<NamedTensor> released_names(Model &);

// ---- src/data.cpp: texts become batches
struct Tokenizer;
struct Mapping;
struct Tokens {                                   // ids in memory, or a part of a mapped file that holds them
    std::vector<int> memory = {};
    std::shared_ptr<const Mapping> file = {};
    int width = 4, V = 0;                                // bytes of an id in the file: 2 or 4; below V
    size_t first = 0, count = 0;                         // the part of the file
    size_t size() const { return file ? count : memory.size(); }
    std::vector<int> read(size_t at, size_t count) const;        // a copy
};
struct Corpus {                                          // tokens of a text, documents end with the end token
    std::string source;
    Tokens train, valid;
    double valid_bytes_per_token = 1;
    uint64_t seed = 0;
    long next_story = -1;                     // of the embedded corpus, which grows as it is read; -1: a file
    std::vector<int> order;                              // of a file's windows in this round
    long order_round = -1;
};
Corpus load_corpus(const std::string &source, const Tokenizer &, uint64_t seed);    // stories | FILE | FOLDER
using Sequences = std::vector<std::vector<int>>;
Sequences read_sequences(const std::string &file, int V);                          // ids, one sequence a line
// Windows number `position` .. position + B - 1 of T+1 tokens: consecutive, or, of a file, shuffled anew each
// time through.
Sequences windows(Corpus &, const Tokenizer &, long position, int B, int T);

struct Batch {                       // B sequences of up to T+1 tokens: T inputs, T targets
    int B, T;
    long targets;                                        // how many; the rest are padding
    Tensor ids, next;                                    // (B,T): t_i and t_{i+1}, -1 where there is none
    std::vector<Tensor> mtp_ids, mtp_next;               // module k, (B,T-k): t_{i+k} and t_{i+k+1}
};
Batch make_batch(const Sequences &, int D);

// ---- train.cpp: objectives, optimiser, schedules, the loop
struct Losses { Tensor total, lm, mtp, balance; };       // scalars; absent: the model has no such term
Losses language_modelling(const Model &, const Batch &, Aux * = nullptr);                // V3 (24)(25), (17)
double evaluate(const Model &, const std::vector<Sequences> &,                           // nats per token
                const std::function<void(long batches)> &progress = {});

enum class Schedule { constant, cosine, multistep, wsd };
struct Options {                                        // of `deepseek train`; the command line fills them in
    std::string preset = "v3-tiny", init, data = "stories", tokens, tokenizer, out,
                schedule = "cosine";
    std::vector<std::string> set;
    int batch = 8, context = 0, accumulate = 1, warmup = -1, seed = 1;
    long steps = 500, save_every = 0, eval_every = 0;
    double lr = 3e-3, weight_decay = 0.1, beta1 = 0.9, beta2 = 0.95, adam_eps = 1e-8, clip = 1;
    bool resume = false;
};
double learning_rate(const Options &, long step);        // of step 0, 1, ...

struct Optimiser {                                       // AdamW over the list of weights
    struct Entry { Tensor W, m, v; Group group; };
    std::vector<Entry> entries;
    Tensor norm2;                                        // of all gradients, on the device
    explicit Optimiser(Model &);
    void zero_grad();
    void step(const Options &, double lr, int step);     // clips, moves every weight
};

struct StepReport {
    double loss, lm, mtp, balance, lr, gradient_norm, max_vio;
    long tokens;
    std::vector<std::vector<int>> load;                  // tokens of each expert, router by router
};
struct Training {
    Options o;
    Model model;
    Optimiser optimiser;
    long step = 0, position = 0;                         // steps done; windows read
    Training(const Options &, Model &&);
    StepReport train_step(const std::function<Sequences(long position)> &read);
    void save(const std::string &directory);       // checkpoint for others, training.safetensors for --resume
    void resume(const std::string &directory);
};
std::vector<std::vector<int>> expert_load(const Model &);        // of each router, since the last bias update
double max_violation(const std::vector<std::vector<int>> &load); // max_i c_i / mean c - 1, mean over routers
int train(const Options &);                              // the verb

// ---- infer.cpp: caches, prefill, decode, samplers
struct Decoder {                     // B sequences that grow at their own pace
    const Model &m;
    int B, T_max;
    Caches caches;
    std::vector<int> length;                             // tokens seen by each
    Decoder(const Model &, int B, int T_max);
    // Feeds tokens, as many as each sequence has (none is fine), and returns the logits after each one's last
    // (B,V).
    Tensor feed(const Sequences &tokens, int chunk = 64);
};
struct Generation { Sampling sampling; int max_tokens = 200; std::vector<int> stop; };
// Continues each prompt; calls on_token(sequence, id) as they come. Returns what was added, without the stop
// token.
Sequences generate(const Model &, const Sequences &prompts, const Generation &,
                   const std::function<void(int, int)> &on_token = {});

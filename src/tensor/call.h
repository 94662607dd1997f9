// call.h: what an op is told, and what a device is.
//
// A Call is a plain record of views: inputs, outputs, their gradients, and named numbers. Every kernel of
// every op takes one, forwards and backwards, on every device.
#pragma once
#include "src/tensor/tensor.h"

// The named numbers of a call. One list makes the struct, the printer and `deepseek op --set name=value`, and
// says what each may be: "0..1", ">0.." (above 0), ".." (any finite number).
// What kernels multiply by is real; what is first computed with is double.
#define ATTRIBUTES(X)                                                                               \
    X(int, f, 0, "0..", "function of a pointwise family")                                           \
    X(double, a, 1, "..", "factor: f(ax + shift), or of y in ay + bx")                              \
    X(real, b, 0, "..", "factor of x in ay + bx")                                                   \
    X(real, shift, 0, "..", "summand: f(ax + shift)")                                               \
    X(int, axis, 0, "0..3", "slice: the axis")                                                      \
    X(int, from, 0, "0..", "slice: first index on the axis")                                        \
    X(int, n, 0, "1..1048576", "how many (slice), or how many experts")                             \
    X(int, transpose, 0, "0..1", "matmul_heads: multiply by the transposed heads")                  \
    X(int, precision, 0, "0..1", "of a product's operands: 0 as they are, 1 rounded to bf16")       \
    X(int, precision_U, 0, "0..1", "kl_vocab: the same, of the teacher's g and U")                  \
    X(real, eps, 0, "0..", "added under a root or in a denominator")                                \
    X(real, scale, 1, ">0..", "of the attention scores")                                            \
    X(int, lists, 0, "0..1", "where holds spans (0) or lists of indices (1)")                       \
    X(int, first, 0, "0..1048576", "rope: first channel that turns")                                \
    X(int, dims, 0, "0..1048576", "rope: how many channels turn")                                   \
    X(int, pairing, 0, "0..1", "rope: 0 neighbours, 1 half-split")                                  \
    X(real, sign, 1, "..", "rope: -1 turns back")                                                   \
    X(double, theta, 10000, ">1..", "rope: base of the frequencies")                                \
    X(int, scaling, 0, "0..3", "rope: 0 none, 1 linear, 2 YaRN, 3 Llama 3")                         \
    X(double, factor, 1, ">0..", "rope: context extension s")                                       \
    X(double, original, 4096, ">0..", "rope: context before the extension")                         \
    X(double, beta_fast, 32, ">0..", "rope: turns above which a pair is as it was")                 \
    X(double, beta_slow, 1, ">0..", "rope: turns below which it is interpolated")                   \
    X(real, amplitude, 1, "..", "rope: factor of cos and sin")                                      \
    X(real, rho, 1, "..", "normalize_rows: what a row sums to")                                     \
    X(int, K, 1, "1..1048576", "topk: how many")                                                    \
    X(int, groups, 1, "1..1048576", "topk, drop, balance: groups of experts (nodes, devices)")      \
    X(int, keep, 1, "1..1048576", "topk: groups kept; balance: groups a token ideally reaches")     \
    X(int, once, 0, "0..1", "balance: a token counts once for a group (1), or each of its choices") \
    X(double, capacity, 1, ">0..", "drop: room of a group, in average loads")                       \
    X(int, best, 1, "1..1048576", "topk: a group's score is the sum of its best 1, 2, ... scores")  \
    X(int, T, 1, "1..", "balance: rows of a sequence, padding and all")                             \
    X(double, temperature, 1, "0..", "logp, kl_vocab, sample")                                      \
    X(int, reverse, 0, "0..1", "kl_vocab: 0 KL(p | q) from the teacher, 1 KL(q | p) to it")         \
    X(int, top_k, 0, "0..", "sample: keep the k most likely, 0 all")                                \
    X(double, top_p, 1, ">0..1", "sample: keep the most likely up to this mass")                    \
    X(int, seed, 0, "..", "sample: of its random numbers")                                          \
    X(double, lr, 0, "..", "adamw: learning rate")                                                  \
    X(double, beta1, 0.9, "0..1", "adamw: decay of the first moment")                               \
    X(double, beta2, 0.95, "0..1", "adamw: decay of the second moment")                             \
    X(double, decay, 0, "..", "adamw: weight decay")                                                \
    X(real, clip, 0, "0..", "adamw: largest global gradient norm, 0 none")                          \
    X(int, step, 1, "1..", "adamw: 1, 2, ... for the bias correction")                              \
    X(real, gamma, 0, "..", "bias_update: speed")

struct Attr {
#define X(type, name, value, range, meaning) type name = value;
    ATTRIBUTES(X)
#undef X
    BOTH RopeAngle angle() const { return {theta, dims, scaling, factor, original, beta_fast, beta_slow}; }
};
std::string str(const Attr &);  // only what differs from the default: "eps=1e-06 scale=0.25"

constexpr int max_inputs = 6, max_outputs = 4;

// All that a kernel is told: fixed size, nothing allocated, small enough to be a CUDA kernel's parameter.
// Gradients are accumulated (+=). A null din means not wanted; a null dout, that nothing flowed back.
struct Call {
    int op = 0, n_in = 0, n_out = 0;
    View in[max_inputs], out[max_outputs], din[max_inputs], dout[max_outputs];
    Attr a;
    Panels *panels = nullptr;                          // where in[1], a weight, keeps them; null: it does not
    int version = 0;                                     // of that weight
    template <int n> BOTH const View (&inputs() const)[n] { return (const View(&)[n])in; }
    template <int n> BOTH const View (&outputs() const)[n] { return (const View(&)[n])out; }
    template <int n> BOTH const View (&input_gradients() const)[n] { return (const View(&)[n])din; }
};
static_assert(sizeof(Call) < 4096, "a call must fit into the parameters of a CUDA kernel");

struct OpKernels {
    void (*forward)(const Call &);
    void (*backward)(const Call &);                      // null: it has no gradient
};

struct Device {                      // where tensors live and ops run
    const char *name;
    Device *memory_of;               // whose blocks its tensors are: those of `checked` are the CPU's
    const OpKernels *kernels;        // by op; null: not in this build
    void *(*take)(size_t bytes);     // from the pool: power-of-two bins, no system call in the steady state
    void (*give)(void *, size_t bytes);
    void (*zero)(void *, size_t bytes);
    void (*up)(void *to_device, const void *from_host, size_t bytes);
    void (*down)(void *to_host, const void *from_device, size_t bytes);
    void (*copy)(void *to, const void *from, size_t bytes);
    void (*wait)();                  // until all that was launched is done
    size_t (*memory)();              // bytes there are for us: the host's, or what is free on the GPU
};
extern Device cpu_device, cuda_device, checked_device;   // checked: every op on both, compared
extern Device *device;                                   // the current one
Device *device_named(const std::string &name);           // cpu | cuda | checked; says which are in this build
enum class Kernels { plain, fast };
void use_kernels(Kernels);                     // which rendition of the hot ops the CPU runs; fast by default

struct PoolReport {
    long system_allocations;
    size_t held_bytes, peak_bytes;
};
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

// A call of a product with its operands rounded to its precision: x, W and, where it is an operand too, dy.
// Sums are `real`; the rounding is no part of the derivative ("straight through"). f32: the call as it came.
struct Rounded : Call {
    Device &home;
    Rounded(const Call &c, Device &home, void (*to_bf16)(const real *x, real *to, long n), bool dy)
        : Call(c), home(home) {
        for (View *operand : {&in[0], &in[1], &dout[0]}) {
            if (a.precision == f32 || !*operand || (operand == dout && !dy)) continue;
            const View x = *operand;
            *operand = View(home.take(x.numel() * sizeof(real)), x.shape, REALS);
            to_bf16(&x[0], &(*operand)[0], x.numel());
            taken[n_taken++] = *operand;
        }
    }
    ~Rounded() {
        for (int i = 0; i < n_taken; i++) home.give(taken[i].p, taken[i].numel() * sizeof(real));
    }
    Rounded(const Rounded &) = delete;

private:
    View taken[3];
    int n_taken = 0;
};

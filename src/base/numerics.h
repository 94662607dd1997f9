// numerics.h: scalar mathematics, written once for the CPU and for CUDA.
//
// What a kernel computes for one number stands here, so that both devices cannot disagree about it: the
// pointwise families with their derivatives, the rotary angle, the one comparison that breaks
// ties. Nothing here knows what a tensor is.
//
//   [1] BOTH, pointwise families   [2] rotary angle   [3] ties   [4] sets over the vocabulary   [5] bf16
#pragma once
#include <math.h>      // never <cmath> alone: without this header the global exp(float) is the double one
#include <stdint.h>

#include <limits>
#include <type_traits>

#ifndef REAL
#define REAL float
#endif
using real = REAL;     // float; the gradient check is built with double

constexpr real largest_real = std::numeric_limits<real>::max();

#ifdef __CUDACC__
#define BOTH __host__ __device__ inline
#else
#define BOTH inline
#endif

// ------------------------------------------------------------------------------------------- [1] pointwise
// exp, branch-free so that the compiler can vectorise the loop around it. With n = round(x log2 e) and
// r = x - n ln 2 in [-0.35, 0.35],  exp(x) = 2^n exp(r), and exp(r) is its Taylor polynomial of degree 7.
// The float one is within 1.2e-7 of the exact value (a test walks the range); double goes to the library.
BOTH double exp_of(double x) { return exp(x); }
BOTH float exp_of(float x) {
    const float low = -87.0f, high = 88.0f;
    const float clamped = x < low ? low : (x > high ? high : x);
    const float shifted = clamped * 1.44269504f + 12582912.0f;       // adding 1.5 * 2^23 rounds to an integer
    const float n = shifted - 12582912.0f;
    const float r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;   // ln 2 in two parts keeps r exact
    float p = 1.98412698e-4f;
    p = p * r + 1.38888889e-3f;
    p = p * r + 8.33333333e-3f;
    p = p * r + 4.16666667e-2f;
    p = p * r + 1.66666667e-1f;
    p = p * r + 0.5f;
    p = p * r * r + r + 1.0f;
    union {
        int32_t bits;
        float value;
    } two_to_n = {((int32_t)n + 127) << 23};
    const float y = p * two_to_n.value;
    return x < low ? 0.0f : (x > high ? (float)INFINITY : (x == x ? y : x));
}

BOTH real sigmoid_of(real x) { return 1 / (1 + exp_of(-x)); }
BOTH real log_sigmoid_of(real x) { return (x < 0 ? x : 0) - log1p(exp_of(x < 0 ? x : -x)); }

// e^x - x - 1, and its derivative e^x - 1 by it. Near 0 the difference would lose all its digits, and
// a divergence could become negative; there it is its Taylor series, x^2/2 (1 + x/3 (1 + x/4 (...))).
BOTH bool k3_is_series(real x) { return x > (real)-0.5 && x < (real)0.5; }
BOTH real k3_of(real x) {
    if (!k3_is_series(x)) return exp_of(x) - x - 1;
    real sum = 1;
    for (int n = 16; n >= 3; n--) sum = 1 + x / n * sum;
    return x * x / 2 * sum;
}
BOTH real k3_slope(real x, real y) { return k3_is_series(x) ? x + y : exp_of(x) - 1; }

// name, f(x), df/dx by x and y = f(x).  The enum, the names for the tests, unary_f<kind> and unary_df<kind>
// come from this list.
#define UNARY_FUNCTIONS(X)                                                   \
    X(identity, x, 1)                                                        \
    X(silu, x *sigmoid_of(x), sigmoid_of(x) * (1 + x * (1 - sigmoid_of(x)))) \
    X(sigmoid, sigmoid_of(x), y * (1 - y))                                   \
    X(tanh, tanh(x), 1 - y * y)                                              \
    X(exp, exp_of(x), y)                                                     \
    X(log, log(x), 1 / x)                                                    \
    X(relu, x > 0 ? x : 0, x > 0 ? 1 : 0)                                    \
    X(log_sigmoid, log_sigmoid_of(x), 1 - exp_of(y))                         \
    X(k3, k3_of(x), k3_slope(x, y))

// name, f(x, y), df/dx, df/dy.  min and max send the gradient of a tie to x.
#define BINARY_FUNCTIONS(X)                                \
    X(add, x + y, 1, 1)                                    \
    X(sub, x - y, 1, -1)                                   \
    X(mul, x *y, y, x)                                     \
    X(min, x <= y ? x : y, x <= y ? 1 : 0, x <= y ? 0 : 1) \
    X(max, x >= y ? x : y, x >= y ? 1 : 0, x >= y ? 0 : 1)

enum Unary {
#define X(name, f, df) unary_##name,
    UNARY_FUNCTIONS(X)
#undef X
        n_unary
};
enum Binary {
#define X(name, f, dx, dy) binary_##name,
    BINARY_FUNCTIONS(X)
#undef X
        n_binary
};

template <int kind> BOTH real unary_f(real x);
template <int kind> BOTH real unary_df(real x, real y);
#define X(name, f, df)                                                                               \
    template <> BOTH real unary_f<unary_##name>(real x) { return f; }                                \
    template <> BOTH real unary_df<unary_##name>([[maybe_unused]] real x, [[maybe_unused]] real y) { \
        return df;                                                                                   \
    }
UNARY_FUNCTIONS(X)
#undef X

template <int kind> BOTH real binary_f(real x, real y);
template <int kind> BOTH real binary_dx(real x, real y);
template <int kind> BOTH real binary_dy(real x, real y);
#define X(name, f, dx, dy)                                                                             \
    template <> BOTH real binary_f<binary_##name>(real x, real y) { return f; }                        \
    template <> BOTH real binary_dx<binary_##name>([[maybe_unused]] real x, [[maybe_unused]] real y) { \
        return dx;                                                                                     \
    }                                                                                                  \
    template <> BOTH real binary_dy<binary_##name>([[maybe_unused]] real x, [[maybe_unused]] real y) { \
        return dy;                                                                                     \
    }
BINARY_FUNCTIONS(X)
#undef X

// From a number to a function of its family: body(kind), with kind a constant of the compiler. The choice is
// made once, outside of all loops, and each loop is compiled for its function alone.
template <class Body> BOTH void with_unary(int f, Body body) {
    switch (f) {
#define X(name, ...)                                                             \
    case unary_##name: return body(std::integral_constant<int, unary_##name>());
        UNARY_FUNCTIONS(X)
#undef X
    }
}
template <class Body> BOTH void with_binary(int f, Body body) {
    switch (f) {
#define X(name, ...)                                                               \
    case binary_##name: return body(std::integral_constant<int, binary_##name>());
        BINARY_FUNCTIONS(X)
#undef X
    }
}

// -------------------------------------------------------------------------------------- [2] the rotary angle
enum RopeScaling { rope_plain, rope_linear, rope_yarn, rope_llama3 };
enum RopePairing { rope_interleaved, rope_half_split };      // (x_2i, x_2i+1), or (x_i, x_i+dims/2)

// What the angle depends on, besides the position.  YaRN: V2 section 3.1.4.  Llama 3: its released code.
struct RopeAngle {
    double theta;                   // base of the frequencies, 10000
    int dims;                       // how many channels turn
    int scaling;                    // RopeScaling
    double factor;                  // s: how many times longer than it was trained for
    double original;                // the context it was trained for
    double beta_fast, beta_slow;    // turns within `original`: above: as it was, below: interpolated
};

// theta_i of pair i. YaRN and Llama 3 go from theta_i to the interpolated theta_i / s along a ramp between
// beta_fast and beta_slow turns: YaRN's is straight over the pairs, Llama 3's over the turns.
BOTH real rope_frequency(const RopeAngle &a, int i) {
    const double f = pow(a.theta, -2.0 * i / a.dims);
    if (a.scaling == rope_plain) return (real)f;
    if (a.scaling == rope_linear) return (real)(f / a.factor);
    const double pi = 3.14159265358979323846, turns = a.original * f / (2 * pi);
    const double per_pair = a.dims / (2 * log(a.theta));
    double low = floor(per_pair * log(a.original / (2 * pi * a.beta_fast)));
    double high = ceil(per_pair * log(a.original / (2 * pi * a.beta_slow)));
    low = low < 0 ? 0 : low;
    high = high > a.dims - 1 ? a.dims - 1 : high;
    if (low == high) high += 0.001;                                       // [code] keeps the ramp finite
    double ramp = (i - low) / (high - low);
    if (a.scaling == rope_llama3) ramp = (a.beta_fast - turns) / (a.beta_fast - a.beta_slow);
    ramp = ramp < 0 ? 0 : (ramp > 1 ? 1 : ramp);
    return (real)((1 - ramp) * f + ramp * f / a.factor);
}

// -------------------------------------------------------------------------------------------------- [3] ties
// Does candidate i with score a come before candidate j with score b?  Equal scores: the lower index.
BOTH bool before(real a, int i, real b, int j) { return a > b || (a == b && i < j); }

// What each of D groups may take of all that was chosen, in even shares.
BOTH long room_of(double capacity, long chosen, int D) { return (long)ceil(capacity * chosen / D); }

// ----------------------------------------------------------------------------- [4] sets over the vocabulary
// Bits, 32 ids a word: id v is bit v % 32 of word v / 32.
BOTH int set_words(int V) { return (V + 31) / 32; }
BOTH bool in_set(const int *set, int v) { return (uint32_t)set[v / 32] >> v % 32 & 1; }
BOTH void put_into_set(int *set, int v) { set[v / 32] |= (int)((uint32_t)1 << v % 32); }

// -------------------------------------------------------------------------------------------------- [5] bf16
// x rounded to bfloat16, float without its last 16 bits: to the nearest, ties to the even one. What is half a
// step beyond the largest becomes infinite; NaN stays NaN.
BOTH float to_bf16(float x) {
    union {
        float value;
        uint32_t bits;
    } u = {x};
    u.bits = x == x ? u.bits + 0x7fff + (u.bits >> 16 & 1) : u.bits | 0x400000;
    u.bits &= 0xffff0000u;
    return u.value;
}
// Of a double, by way of a float that is odd where it is not exact: so it is no tie that it was not before.
BOTH double to_bf16(double x) {
    union {
        float value;
        uint32_t bits;
    } u = {(float)x};
    if (u.value != x && !(u.bits & 1)) u.bits += fabs(u.value) > fabs(x) ? -1 : 1;
    return to_bf16(u.value);
}

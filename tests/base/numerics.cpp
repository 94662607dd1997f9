// numerics.cpp: the specification of the scalar mathematics that the CPU and CUDA share.
//
//   [1] exp   [2] pointwise families   [3] the rotary angle   [4] random numbers   [5] ties   [6] bf16
//   [7] sets over the vocabulary
#include <algorithm>
#include <cstring>
#include <limits>

#include "tests/check.h"

// --------------------------------------------------------------------------------------------------- [1] exp

TEST_CASE("exp_of: a float's exponential is within 1.2e-7 of the exact one from -87 to 88") {
    double worst = 0;
    float at = 0;
    const auto look = [&](float x) {
        const double exact = exp((double)x), error = fabs(exp_of(x) - exact) / exact;
        if (error > worst) worst = error, at = x;
    };
    for (int i = 0; i <= 1750000; i++) look((float)(-87 + 1e-4 * i));
    for (float x = 1e-30f; x < 1; x *= 1.01f) look(x), look(-x);
    INFO("worst at ", at);
    CHECK(worst < 1.2e-7);
}

TEST_CASE("exp_of: 0 gives exactly 1, and what a softmax subtracts stays at or below 1") {
    CHECK(exp_of(0.0f) == 1.0f);
    CHECK(exp_of(-0.0f) == 1.0f);
    CHECK(exp_of(0.0) == 1.0);
    for (float x = -1e-9f; x > -90; x *= 1.05f) REQUIRE(exp_of(x) <= 1.0f);
}

TEST_CASE("exp_of: underflow is 0, overflow is infinite, NaN stays NaN") {
    const float infinite = std::numeric_limits<float>::infinity();
    for (float x : {-88.0f, -104.0f, -1e30f, -infinite}) CHECK(exp_of(x) == 0.0f);
    for (float x : {89.0f, 1e30f, infinite}) CHECK(exp_of(x) == infinite);
    CHECK(std::isnan(exp_of(std::numeric_limits<float>::quiet_NaN())));
    CHECK(std::isnan(exp_of(-std::numeric_limits<float>::quiet_NaN())));
    CHECK(exp_of(-INFINITY * 1.0) == 0.0);
}

TEST_CASE("exp_of: never falls where its argument grows, in steps that float can tell apart") {
    float last = 0;
    for (int i = 0; i <= 175000; i++) {
        const float y = exp_of((float)(-87 + 1e-3 * i));
        REQUIRE(y > last);
        last = y;
    }
}

// ------------------------------------------------------------------------------------ [2] pointwise families

TEST_CASE("unary_df: every derivative is the slope of its function") {
    if (!in_double) return;   // differences of floats say less than the test of unary
    const double h = 1e-4;
    for (int f = 0; f < n_unary; f++)
        with_unary(f, [&](auto kind) {
            constexpr int k = decltype(kind)::value;
            for (double x : {-3.0, -1.1, -0.2, 0.3, 1.7, 4.0}) {
                if (k == unary_log && x < 0) continue;
                const auto at = [&](double shift) { return unary_f<k>((real)(x + shift)); };
                const double slope = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
                INFO("function ", f, " at ", x);
                CHECK(fabs(unary_df<k>((real)x, unary_f<k>((real)x)) - slope) < 1e-9 * (1 + fabs(slope)));
            }
        });
}

TEST_CASE("binary_df: both derivatives are the slopes of their function") {
    if (!in_double) return;                              // as above
    const double h = 1e-4;
    for (int f = 0; f < n_binary; f++)
        with_binary(f, [&](auto kind) {
            constexpr int k = decltype(kind)::value;
            for (const auto &pair : {std::pair{1.0, 2.0}, {2.0, 1.0}, {-0.5, 0.3}, {-1.0, -2.0}}) {
                const double x = pair.first, y = pair.second;
                const real dx = binary_dx<k>((real)x, (real)y), dy = binary_dy<k>((real)x, (real)y);
                const auto at = [&](double a, double b) { return binary_f<k>((real)(x + a), (real)(y + b)); };
                INFO("function ", f, " at ", x, ", ", y);
                CHECK(fabs(dx - (at(h, 0) - at(-h, 0)) / (2 * h)) < 1e-9);
                CHECK(fabs(dy - (at(0, h) - at(0, -h)) / (2 * h)) < 1e-9);
            }
        });
}

TEST_CASE("unary_f: the tails of sigmoid, silu and log_sigmoid are finite and right") {
    CHECK(sigmoid_of(-1000) == 0);
    CHECK(sigmoid_of(1000) == 1);
    CHECK(unary_f<unary_silu>(-1000) == 0);
    CHECK(unary_f<unary_silu>(1000) == 1000);
    CHECK(log_sigmoid_of(-1000) == -1000);
    CHECK(log_sigmoid_of(1000) == 0);
    CHECK(unary_df<unary_log_sigmoid>(-1000, log_sigmoid_of(-1000)) == 1);
    CHECK(unary_df<unary_log_sigmoid>(1000, log_sigmoid_of(1000)) == 0);
}

// exp(x) - x - 1 is x^2 / 2 near 0, far below the rounding of the 1 in it. Worst measured: value 8, slope 3
// roundings, both from 0.5 on, where it is a difference again.
TEST_CASE("unary_f: k3 near 0, the estimate of a KL divergence, keeps its digits and is never negative") {
    CHECK(unary_f<unary_k3>(0) == 0);
    CHECK(unary_df<unary_k3>(0, 0) == 0);
    const double eps = std::numeric_limits<real>::epsilon();
    double value = 0, slope = 0, lowest = 0;
    for (double size = sizeof(real) == 8 ? 1e-3 : 1e-6; size < 1; size *= 1.003)
        for (const real x : {(real)size, (real)-size}) {
            const long double exact = expm1l((long double)x) - x;
            const double y = unary_f<unary_k3>(x), dy = unary_df<unary_k3>(x, (real)y);
            value = std::max(value, fabs((double)(y / exact - 1)));
            slope = std::max(slope, fabs((double)(dy / expm1l((long double)x) - 1)));
            lowest = std::min(lowest, y);
        }
    CHECK(value < 20 * eps);
    CHECK(slope < 8 * eps);
    CHECK(lowest == 0);
}

// -------------------------------------------------------------------------------------- [3] the rotary angle

TEST_CASE("rope_frequency: YaRN of V2 turns pairs up to 10 as trained, from 23 on 40 times slower") {
    const RopeAngle plain = {10000, 64, rope_plain, 1, 4096, 32, 1},
                    yarn = {10000, 64, rope_yarn, 40, 4096, 32, 1};
    const real bar = (real)(4 * std::numeric_limits<real>::epsilon());
    for (int i = 0; i < 32; i++) {
        const real theta = rope_frequency(plain, i), mixed = rope_frequency(yarn, i);
        CHECK(theta == doctest::Approx(pow(10000.0, -2.0 * i / 64)).epsilon(bar));
        if (i <= 10) CHECK(mixed == theta);
        if (i >= 23) CHECK(mixed == doctest::Approx(theta / 40).epsilon(bar));
        if (i > 10 && i < 23) {
            const double gamma = (i - 10) / 13.0;
            CHECK(mixed == doctest::Approx((1 - gamma) * theta + gamma * theta / 40).epsilon(bar));
        }
    }
}

TEST_CASE("rope_frequency: linear scaling slows every pair, factor 1 changes nothing") {
    for (int i = 0; i < 8; i++) {
        const real theta = rope_frequency({10000, 16, rope_plain, 1, 4096, 32, 1}, i);
        CHECK(rope_frequency({10000, 16, rope_linear, 4, 4096, 32, 1}, i) == theta / 4);
        CHECK(rope_frequency({10000, 16, rope_linear, 1, 4096, 32, 1}, i) == theta);
        CHECK(rope_frequency({10000, 16, rope_yarn, 1, 4096, 32, 1}, i) ==
              doctest::Approx(theta).epsilon(1e-6));
    }
}

TEST_CASE("rope_frequency: Llama 3.1 turns pairs up to 28 as trained, from 35 on 8 times slower") {
    const RopeAngle plain = {500000, 128, rope_plain, 1, 8192, 4, 1},
                    llama = {500000, 128, rope_llama3, 8, 8192, 4, 1};
    const real bar = (real)(4 * std::numeric_limits<real>::epsilon());
    for (int i = 0; i < 64; i++) {
        const real theta = rope_frequency(plain, i), mixed = rope_frequency(llama, i);
        if (i <= 28) CHECK(mixed == theta);
        if (i >= 35) CHECK(mixed == doctest::Approx(theta / 8).epsilon(bar));
        if (i > 28 && i < 35) CHECK((mixed < theta && mixed > theta / 8));
    }
}

TEST_CASE("rope_frequency: a ramp without width stays finite") {
    for (int i = 0; i < 4; i++) CHECK(std::isfinite(rope_frequency({10000, 8, rope_yarn, 40, 1, 32, 1}, i)));
}

// ---------------------------------------------------------------------------------------- [4] random numbers

static constexpr int many = 100000;                      // a mean is then known to 1 / sqrt(many) = 0.0032

TEST_CASE("uniform: mean 1/2, variance 1/12, inside (0, 1), flat over ten bins") {
    double sum = 0, squares = 0;
    int bins[10] = {};
    for (int i = 0; i < many; i++) {
        const double u = uniform(1, 2, 3, i);
        REQUIRE(u > 0);
        REQUIRE(u < 1);
        sum += u;
        squares += u * u;
        bins[(int)(10 * u)]++;
    }
    CHECK(fabs(sum / many - 0.5) < 0.003);
    CHECK(fabs(squares / many - 1.0 / 3) < 0.003);
    double chi = 0;
    for (int n : bins) chi += (n - many / 10.0) * (n - many / 10.0) / (many / 10.0);
    CHECK(chi < 27.9);                                   // 9 degrees of freedom: above it once in a thousand
}

TEST_CASE("normal: mean 0, variance 1, no skew, kurtosis 3") {
    double m[5] = {};
    for (int i = 0; i < many; i++)
        for (int k = 1; k <= 4; k++) m[k] += pow(normal(1, 2, 3, i), k) / many;
    CHECK(fabs(m[1]) < 0.01);
    CHECK(fabs(m[2] - 1) < 0.015);
    CHECK(fabs(m[3]) < 0.04);
    CHECK(fabs(m[4] - 3) < 0.1);
}

TEST_CASE("random numbers: neighbours in seed, stream, row and position are uncorrelated, and differ") {
    const auto number = [](int axis, int i, int shift) {
        uint64_t k[4] = {7, 7, 7, 7};
        k[(axis + 1) % 4] = i;                           // walk along another axis
        k[axis] += shift;
        return uniform(k[0], k[1], k[2], k[3]);
    };
    for (int axis = 0; axis < 4; axis++)
        for (int shift : {1, 2}) {
            double product = 0;
            for (int i = 0; i < many; i++) {
                const double u = number(axis, i, 0), v = number(axis, i, shift);
                REQUIRE(u != v);
                product += 12 * (u - 0.5) * (v - 0.5) / many;
            }
            INFO("axis ", axis, ", shift ", shift);
            CHECK(fabs(product) < 0.015);
        }
}

TEST_CASE("random numbers: seed, stream, row and position cannot stand for one another") {
    CHECK(random_bits(1, 2, 3, 4) == random_bits(1, 2, 3, 4));
    CHECK(random_bits(1, 2, 3, 4) != random_bits(2, 1, 3, 4));
    CHECK(random_bits(1, 2, 3, 4) != random_bits(1, 3, 2, 4));
    CHECK(random_bits(1, 2, 3, 4) != random_bits(1, 2, 4, 3));
    CHECK(random_bits(0, 0, 0, 1) != random_bits(0, 0, 1, 0));
}

// -------------------------------------------------------------------------------------------------- [5] ties

TEST_CASE("before: the larger score, then the lower index; never both ways") {
    CHECK(before(2, 5, 1, 0));
    CHECK_FALSE(before(1, 0, 2, 5));
    CHECK(before(1, 0, 1, 5));
    CHECK_FALSE(before(1, 5, 1, 0));
    CHECK_FALSE(before(1, 3, 1, 3));
    CHECK(before(-1, 9, -INFINITY, 0));
}

// -------------------------------------------------------------------------------------------------- [6] bf16

static float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
static uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

TEST_CASE("to_bf16: all 65536 are themselves, and the middle of two goes to the even one, its neighbours to "
          "theirs") {
    for (uint32_t code = 0; code < 0x10000; code++) {
        const float x = float_of(code << 16);
        if (std::isnan(x)) {
            REQUIRE((std::isnan(to_bf16(x)) && std::isnan(to_bf16((double)x))));
            continue;
        }
        REQUIRE(bits_of(to_bf16(x)) == code << 16);
        REQUIRE(bits_of((float)to_bf16((double)x)) == code << 16);
        if (std::isinf(x)) continue;
        const uint32_t middle = code << 16 | 0x8000, up = (code + 1) << 16, even = code & 1 ? up : code << 16;
        REQUIRE(bits_of(to_bf16(float_of(middle))) == even);
        REQUIRE(bits_of(to_bf16(float_of(middle - 1))) == code << 16);
        REQUIRE(bits_of(to_bf16(float_of(middle + 1))) == up);
        const double half = float_of(middle), farther = half * (1 + 1e-15), nearer = half * (1 - 1e-15);
        REQUIRE(bits_of((float)to_bf16(half)) == even);
        REQUIRE(bits_of((float)to_bf16(farther)) == up);             // a float would take it for the middle
        REQUIRE(bits_of((float)to_bf16(nearer)) == code << 16);
    }
    CHECK(std::isnan(to_bf16(float_of(0x7f800001))));                // its payload is in the last bits alone
    CHECK(to_bf16(1e300) == INFINITY);
    CHECK(to_bf16(-1e-300) == 0);
}

// ------------------------------------------------------------------------------ [7] sets over the vocabulary

TEST_CASE("in_set: exactly what was put into it") {
    std::vector<int> set(set_words(70), 0);
    CHECK(set.size() == 3);
    CHECK(set_words(64) == 2);
    for (int v : {0, 31, 32, 63, 69}) put_into_set(set.data(), v);
    for (int v = 0; v < 70; v++)
        CHECK(in_set(set.data(), v) == (v == 0 || v == 31 || v == 32 || v == 63 || v == 69));
}

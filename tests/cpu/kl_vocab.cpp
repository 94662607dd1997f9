// kl_vocab.cpp: the specification of kl_vocab, in the manner of ops.cpp. By its name this file runs before
// that one, whose last test asks for the gradient case that is here.
#include <algorithm>

#include "tests/check.h"

namespace {
const Direction both_directions[] = {Direction::forward, Direction::reverse};

struct Taught {                                          // N rows, the last but one of several is padding
    int N, V;
    Tensor h, W, g, U, pos;
    Taught(int N, int V)
        : N(N), V(V), h(randn({N, 3}, "h", 1)), W(randn({V, 3}, "W", 2)), g(randn({N, 4}, "g", 3)),
          U(randn({V, 4}, "U", 4)) {
        std::vector<int> at(N, 0);
        if (N > 1) at[N - 2] = -1;
        pos = from(at, {N}, "pos");
    }
    Tensor kl(Direction way, double T = 1) const { return kl_vocab(h, W, g, U, pos, way, T); }
};

std::vector<double> probabilities(const Tensor &h, const Tensor &W, int n, double T) {
    Numbers x(h), w(W);
    std::vector<double> p(W.shape[0]);
    double sum = 0;
    for (int v = 0; v < W.shape[0]; v++) {
        double z = 0;
        for (int j = 0; j < W.shape[1]; j++) z += x(n, j) * w(v, j) / T;
        sum += p[v] = exp(z);
    }
    for (double &a : p) a /= sum;
    return p;
}

Numbers kl_oracle(const Taught &x, Direction way, double T) {
    Numbers y({x.N}), pos(x.pos);
    for (int n = 0; n < x.N; n++) {
        const std::vector<double> q = probabilities(x.h, x.W, n, T), p = probabilities(x.g, x.U, n, T);
        for (int v = 0; v < x.V && pos(n) >= 0; v++)
            y(n) +=
                way == Direction::reverse ? q[v] * (log(q[v]) - log(p[v])) : p[v] * (log(p[v]) - log(q[v]));
    }
    return y;
}

// Of one row, of given probabilities.
double kl_of(const std::vector<real> &q, const std::vector<real> &p, Direction way) {
    const auto logits = [](std::vector<real> x) {
        for (real &a : x) a = (real)log((double)a);
        return from(x, {(long)x.size(), 1}, "logits");
    };
    const Tensor one = from(std::vector<real>{1}, {1, 1}, "one");
    return item(kl_vocab(one, logits(q), one, logits(p), {}, way));
}
}  // namespace

TEST_CASE("kl_vocab: KL of the teacher's and the student's softmax, both ways, with the student's gradient") {
    for (int N : {1, 2, 3, 9, 70})
        for (Direction way : both_directions)
            for (double T : {1.0, 0.7}) {
                if (N == 70 && T == 1) continue;
                INFO("N ", N, ", temperature ", T, way == Direction::reverse ? ", reverse" : "");
                const Taught x(N, 5);
                for (Kernels kernels : {Kernels::plain, Kernels::fast}) {
                    WithKernels use(kernels);
                    CHECK(relative_error(x.kl(way, T), kl_oracle(x, way, T), 1) < oracle_bar);
                }
                check_gradient([&] { return x.kl(way, T); }, {x.h, x.W});
            }
    const Taught x(3, 5);
    CHECK(same_bits(kl_vocab(x.h, x.W, x.g, x.U),
                    kl_vocab(x.h, x.W, x.g, x.U, from(std::vector<int>{0, 7, 2}, {3}, "pos"))));
    CHECK(error_of([&] { kl_vocab(x.h, x.W, x.g, randn({6, 4}, "U", 5)); }) ==
          "kl_vocab: the teacher's g (3,4) and U (6,4) do not fit h (3,3) and W (5,3)");
}

TEST_CASE("kl_vocab: forward pays for what the student leaves out, reverse for what it adds") {
    const std::vector<real> two = {(real)0.4999, (real)0.4999, (real)0.0002},
                            one = {(real)0.9998, 1e-4, 1e-4},
                            all = {(real)(1 / 3.0), (real)(1 / 3.0), (real)(1 / 3.0)};
    const auto forward = [&](const std::vector<real> &q) { return kl_of(q, two, Direction::forward); };
    const auto reverse = [&](const std::vector<real> &q) { return kl_of(q, two, Direction::reverse); };
    CHECK(forward(one) == doctest::Approx(3.9113).epsilon(1e-4));    // half of it is log(0.4999 / 0.0001)
    CHECK(reverse(one) == doctest::Approx(0.6921).epsilon(1e-3));   // about log 2: it keeps to one of the two
    CHECK(forward(all) == doctest::Approx(0.4038).epsilon(1e-3));    // about log(3/2)
    CHECK(reverse(all) == doctest::Approx(2.2028).epsilon(1e-3));    // a third of it is log(0.3333 / 0.0002)
}

TEST_CASE("kl_vocab: a teacher that is the student is exactly 0 away, and moves nothing") {
    const Taught x(70, 131);
    const Tensor g = clone(x.h), U = clone(x.W);
    for (Kernels kernels : {Kernels::plain, Kernels::fast})
        for (Direction way : both_directions)
            for (Precision precision : {f32, bf16}) {
                WithKernels use(kernels);
                x.W.s->precision = U.s->precision = precision;
                wants_grad(x.h), wants_grad(x.W);
                zero_grad(x.h), zero_grad(x.W);
                const Tensor y = kl_vocab(x.h, x.W, g, U, x.pos, way, 0.8);
                backward(weighted_sum(y, {}));
                CHECK(values(y) == std::vector<real>(70, 0));
                CHECK(values(gradient(x.h)) == std::vector<real>(70 * 3, 0));
                CHECK(values(gradient(x.W)) == std::vector<real>(131 * 3, 0));
            }
}

TEST_CASE("kl_vocab: position -1 gives 0, and NaN there reaches neither the other rows nor a gradient") {
    for (int N : {2, 70})
        for (Kernels kernels : {Kernels::plain, Kernels::fast})
            for (Direction way : both_directions) {
                WithKernels use(kernels);
                const Taught clean(N, 131);
                Taught spoilt = clean;
                for (Tensor *t : {&spoilt.h, &spoilt.g}) {
                    std::vector<real> v = values(*t);
                    for (int j = 0; j < t->shape[1]; j++) v[(N - 2) * t->shape[1] + j] = (real)NAN;
                    *t = from(v, t->shape, "spoilt");
                }
                const auto expected =
                               outputs_and_gradients([&] { return clean.kl(way); }, {clean.h, clean.W}),
                           got = outputs_and_gradients([&] { return spoilt.kl(way); }, {spoilt.h, spoilt.W});
                for (size_t i = 0; i < got.size(); i++) CHECK(same_bits(got[i], expected[i]));
                CHECK(values(got[0])[N - 2] == 0);
                wants_grad(spoilt.h), zero_grad(spoilt.h);
                backward(weighted_sum(spoilt.kl(way), {}));
                for (int j = 0; j < 3; j++) CHECK(Numbers(gradient(spoilt.h))(N - 2, j) == 0);
                spoilt.pos = {};                         // where it counts it is seen
                CHECK(std::isnan(item(weighted_sum(spoilt.kl(way), {}))));
            }
}

TEST_CASE("kl_vocab: no gradient reaches the teacher, not even through weights that it shares") {
    const Taught x(9, 5);
    for (Kernels kernels : {Kernels::plain, Kernels::fast})
        for (Direction way : both_directions) {
            WithKernels use(kernels);
            const Tensor W = clone(x.W), same = wants_grad(clone(x.W)), own = wants_grad(clone(x.h));
            const auto slope = [&](const Tensor &g, const Tensor &U) {
                zero_grad(wants_grad(W));
                backward(weighted_sum(kl_vocab(own, W, g, U, x.pos, way), {}));
                return clone(gradient(W));
            };
            const Tensor g = wants_grad(randn({9, 3}, "g", 5));
            const Tensor apart = slope(g, same), shared = slope(g, W);
            CHECK(same_bits(apart, shared));
            CHECK(values(gradient(g)) == std::vector<real>(9 * 3, 0));
            CHECK(values(gradient(same)) == std::vector<real>(5 * 3, 0));
        }
}

TEST_CASE("kl_vocab: fast says what plain says over many chunks of rows and words") {
    const Taught x(1100, 131);
    for (Direction way : both_directions)
        check_kernels([&] { return x.kl(way, 0.8); }, {x.h, x.W}, oracle_bar);
}

TEST_CASE("kl_vocab: neither all logits nor all their gradients exist at once") {
    static size_t largest;
    static void *(*take)(size_t);
    const Taught x(2500, 700);
    Device &home = *device->memory_of;
    for (Kernels kernels : {Kernels::plain, Kernels::fast}) {
        WithKernels use(kernels);
        largest = 0;
        take = home.take;
        home.take = [](size_t bytes) {
            largest = std::max(largest, bytes);
            return take(bytes);
        };
        outputs_and_gradients([&] { return x.kl(Direction::forward); }, {x.h, x.W});
        home.take = take;
        CHECK(largest >= x.V * sizeof(real));
        CHECK(largest < x.N * x.V * sizeof(real) / 2);
    }
}

TEST_CASE("kl_vocab: a row's bits do not depend on its neighbours") {
    for (int V : {1, 2, 5, 33})
        for (Direction way : both_directions) {
            const Taught x(9, V);
            const Tensor all = kl_vocab(x.h, x.W, x.g, x.U, {}, way);
            for (int n = 1; n <= 9; n++)
                for (int from : {0, 9 - n}) {
                    INFO("rows ", from, " to ", from + n, " of 9, ", V, " words");
                    const Tensor some =
                        kl_vocab(slice(x.h, 0, from, n), x.W, slice(x.g, 0, from, n), x.U, {}, way);
                    CHECK(same_bits(some, slice(all, 0, from, n)));
                }
        }
}

TEST_CASE("kl_vocab: the number of threads changes no bit") {
    const Taught x(70, 9000);
    check_threads([&] { return x.kl(Direction::reverse); }, {x.h, x.W});
}

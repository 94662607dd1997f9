// check.cpp: see check.h.
#include "tests/check.h"

#include <omp.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

// -------------------------------------------------------------------------------------- numbers to test with
uint64_t seeded(uint64_t seed) {
    static const char *const text = getenv("TEST_SEED");
    static const uint64_t shift = text ? strtoull(text, nullptr, 10) : 0;
    return shift ? mix(shift) ^ seed : seed;
}

Tensor randn(const Shape &shape, const char *name, uint64_t seed, double size) {
    std::vector<real> v(shape.numel());
    for (size_t i = 0; i < v.size(); i++) v[i] = (real)(size * normal(seeded(seed), 1, 0, i));
    return from(v, shape, name);
}

Tensor away_from_zero(const Shape &shape, const char *name, uint64_t seed) {
    std::vector<real> v(shape.numel());
    for (size_t i = 0; i < v.size(); i++) {
        const double u = uniform(seeded(seed), 2, 0, i);
        v[i] = (real)((0.3 + 3.4 * fabs(u - 0.5)) * (u < 0.5 ? -1 : 1));
    }
    return from(v, shape, name);
}

std::vector<int> random_ints(long n, int below, uint64_t seed) {
    std::vector<int> v(n);
    for (long i = 0; i < n; i++) v[i] = (int)(uniform(seeded(seed), 3, 0, i) * below);
    return v;
}

Tensor sets(const std::vector<int> &may, int V) {
    const long N = (long)may.size() / V, words = set_words(V);
    std::vector<int> bits(N * words, 0);
    for (long i = 0; i < N * V; i++)
        if (may[i]) put_into_set(&bits[i / V * words], i % V);
    return from(bits, {N, words}, "sets");
}

Numbers::Numbers(const Tensor &t) : shape(t.shape) {
    if (t.s->type == REALS) {
        for (real x : values(t)) v.push_back(x);
    } else {
        for (int x : int_values(t)) v.push_back(x);
    }
}

double relative_error(const std::vector<double> &got, const std::vector<double> &expected, double scale,
                      long *where) {
    REQUIRE(got.size() == expected.size());
    double largest = scale, worst = 0;
    for (double x : expected)
        if (std::isfinite(x)) largest = std::max(largest, fabs(x));
    for (size_t i = 0; i < got.size(); i++) {
        const bool same = got[i] == expected[i] || (std::isnan(got[i]) && std::isnan(expected[i]));
        const bool finite = std::isfinite(got[i]) && std::isfinite(expected[i]);
        const double error = same ? 0 : (finite ? fabs(got[i] - expected[i]) / largest : INFINITY);
        if (where && error > worst) *where = (long)i;
        worst = std::max(worst, error);
    }
    return worst;
}

double relative_error(const Tensor &got, const Numbers &expected, double scale) {
    REQUIRE(got.shape == expected.shape);
    return relative_error(Numbers(got).v, expected.v, scale);
}

double relative_error(const Tensor &got, const Tensor &expected) {
    return relative_error(got, Numbers(expected));
}

bool same_bits(const Tensor &a, const Tensor &b) {
    if (a.s->type == INTS) return int_values(a) == int_values(b);
    const std::vector<real> x = values(a), y = values(b);
    return x.size() == y.size() && !memcmp(x.data(), y.data(), x.size() * sizeof(real));
}

std::vector<double> numbers_of(const View &v) {
    std::vector<real> x(v.numel());
    device->down(x.data(), v.p, x.size() * sizeof(real));
    return {x.begin(), x.end()};
}

WithThreads::WithThreads(int n) : before(omp_get_max_threads()) { omp_set_num_threads(n); }
WithThreads::~WithThreads() { omp_set_num_threads(before); }

// ------------------------------------------------------------------------------------------------- gradients
std::set<int> ops_with_checked_gradient;

namespace {

std::vector<real> random_weights(const Tensor &y, uint64_t seed) {
    std::vector<real> w(y.numel());
    for (size_t i = 0; i < w.size(); i++) w[i] = (real)normal(seeded(seed), 4, 0, i);
    return w;
}
std::vector<real> start_of(const Tensor &leaf) { return random_weights(leaf, 99); }

// The weighted sum of all outputs: on the tape, and in double beside it.
Tensor weighted(const Outputs &outputs) {
    Tensor sum = zeros({1}, "sum");
    for (size_t k = 0; k < outputs.size(); k++) {
        const Tensor &y = outputs[k];
        sum = add(sum, weighted_sum(y, from(random_weights(y, k), y.shape, "weights")));
    }
    return sum;
}
double weighted_in_double(const Outputs &outputs) {
    double sum = 0;
    for (size_t k = 0; k < outputs.size(); k++) {
        const std::vector<real> y = values(outputs[k]), w = random_weights(outputs[k], k);
        for (size_t i = 0; i < y.size(); i++) sum += (double)w[i] * y[i];
    }
    return sum;
}

struct FrozenChoices {                                   // the first run chooses, the others follow
    FrozenChoices() { choices = {Choices::record, {}, 0, 0, ""}; }
    ~FrozenChoices() { choices = {}; }
    void follow() {
        choices.mode = Choices::replay;
        choices.next = 0;
    }
};

// What backward adds to each leaf's gradient. With only >= 0 that leaf alone wants one.
std::vector<Tensor> added_gradients(const Function &f, const Leaves &leaves, int only, bool note_ops) {
    TapeGuard clear;
    tape.clear();
    for (size_t l = 0; l < leaves.size(); l++) {
        leaves[l].s->wants_grad = only < 0 || (int)l == only;
        assign(gradient(leaves[l]), start_of(leaves[l]));
    }
    const Outputs outputs = f();
    for (const Record &r : tape)
        if (note_ops) ops_with_checked_gradient.insert(r.op);
    const Tensor loss = weighted(outputs);
    backward(loss);
    std::vector<Tensor> added;
    for (const Tensor &leaf : leaves) {
        std::vector<real> g = values(gradient(leaf));
        const std::vector<real> start = start_of(leaf);
        for (size_t i = 0; i < g.size(); i++) g[i] -= start[i];
        added.push_back(from(g, leaf.shape, leaf.s->name));
    }
    return added;
}

// f' = (8 (f(x+h) - f(x-h)) - (f(x+2h) - f(x-2h))) / 12h, exact up to h^4.
std::vector<double> slopes(const Function &f, const Tensor &leaf, double h, FrozenChoices &frozen) {
    NoGrad off;
    const std::vector<real> x = values(leaf);
    std::vector<double> slope(x.size());
    for (size_t i = 0; i < x.size(); i++) {
        const auto at = [&](double shift) {
            std::vector<real> moved = x;
            moved[i] += (real)shift;
            assign(leaf, moved);
            frozen.follow();
            return weighted_in_double(f());
        };
        slope[i] = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
    }
    assign(leaf, x);
    return slope;
}

}  // namespace

GradientReport gradient_report(const Function &f, const Leaves &leaves, const GradientOptions &o) {
    const double step = in_double ? 1e-3 : 0.04;
    const double scale = 1e-2;                      // outputs are of order 1: a smaller slope is as good as 0
    FrozenChoices frozen;
    const std::vector<Tensor> added = added_gradients(f, leaves, -1, true);
    GradientReport report;
    for (size_t l = 0; l < leaves.size(); l++) {
        const std::vector<double> got = Numbers(added[l]).v;
        std::vector<double> differences = slopes(f, leaves[l], step, frozen);
        long at = 0;
        double error = relative_error(got, differences, scale, &at);
        if (error >= o.bar) {
            differences = slopes(f, leaves[l], step / 4, frozen);
            error = relative_error(got, differences, scale, &at);
        }
        if (report.text.size() && error <= report.error) continue;
        report.error = error;
        report.text = cat(leaves[l].s->name, " ", leaves[l].shape, " at [", at, "]: backward ", got[at],
                          ", differences ", differences[at], "; relative error ", error);
    }
    return report;
}

void check_gradient(const Function &f, const Leaves &leaves, const GradientOptions &o) {
    for (Kernels kernels : {Kernels::plain, Kernels::fast}) {
        WithKernels use(kernels);
        const std::string which = kernels == Kernels::plain ? "plain: " : "fast: ";
        const GradientReport report = gradient_report(f, leaves, o);
        CHECK_MESSAGE(report.error < o.bar, which, report.text);
        if (leaves.size() == 1) continue;
        const std::vector<Tensor> together = added_gradients(f, leaves, -1, false);
        for (size_t only = 0; only < leaves.size(); only++) {
            const std::vector<Tensor> alone = added_gradients(f, leaves, (int)only, false);
            for (size_t l = 0; l < leaves.size(); l++) {
                INFO(which, std::string(leaves[l].s->name), " when only ", std::string(leaves[only].s->name),
                     " wants a gradient");
                CHECK(same_bits(alone[l], l == only ? together[l] : zeros(leaves[l].shape)));
            }
        }
    }
}

// ----------------------------------------------------------------------------------- one run against another
std::vector<Tensor> outputs_and_gradients(const Function &f, const Leaves &leaves) {
    TapeGuard clear;
    tape.clear();
    for (const Tensor &leaf : leaves) {
        leaf.s->wants_grad = true;
        assign(gradient(leaf), start_of(leaf));
    }
    Outputs all = f();
    const Tensor loss = weighted(all);
    backward(loss);
    for (const Tensor &leaf : leaves) all.push_back(clone(gradient(leaf)));
    return all;
}

void check_kernels(const Function &f, const Leaves &leaves, double bar) {
    std::vector<Tensor> plain;
    {
        WithKernels use(Kernels::plain);
        plain = outputs_and_gradients(f, leaves);
    }
    const std::vector<Tensor> fast = outputs_and_gradients(f, leaves);
    for (size_t i = 0; i < plain.size(); i++) {
        INFO("output or gradient ", i, ": ", std::string(plain[i].s->name), " ", plain[i].shape);
        CHECK(relative_error(fast[i], plain[i]) < bar);
    }
}

void check_threads(const Function &f, const Leaves &leaves) {
    for (Kernels kernels : {Kernels::plain, Kernels::fast}) {
        WithKernels use(kernels);
        std::vector<Tensor> first;
        for (int threads : {1, 2, 3}) {
            WithThreads run(threads);
            const std::vector<Tensor> now = outputs_and_gradients(f, leaves);
            if (first.empty()) first = now;
            for (size_t i = 0; i < now.size(); i++) {
                INFO(threads, " threads, output or gradient ", i, ": ", std::string(now[i].s->name), " ",
                     now[i].shape);
                CHECK(same_bits(now[i], first[i]));
            }
        }
    }
}

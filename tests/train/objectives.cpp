// objectives.cpp: the objectives on outputs. Each is typed once more in plain loops, as its published
// gradient: a coefficient GC by token, times a share of the whole; gradients are held against differences;
// and what a paper says of an expectation is computed as one, over all outputs of a small tree.
//
//   [1] tools   [2] closed forms   [3] gradients   [4] what is never read, what overflows   [5] clip, lengths
//   [6] advantages   [7] exact expectations   [8] CPU and CUDA   [9] a step of distillation
#include <numeric>

#include "src/model/config.h"
#include "src/train/training.h"
#include "tests/models.h"

// ------------------------------------------------------------------------------------------------- [1] tools
namespace {
constexpr int B = 6, T = 7;
const real nothing = std::numeric_limits<real>::quiet_NaN();

// Outputs of 5, 1, 3, 7, 2 and 4 tokens behind prompts of different lengths, one with a gap (of a tool).
const std::vector<real> ragged = {0, 0, 1, 1, 1, 1, 1,    // the whole rest
                                  0, 0, 0, 1, 0, 0, 0,    // one token
                                  0, 1, 1, 1, 0, 0, 0,    // padding
                                  1, 1, 1, 1, 1, 1, 1,    // no prompt
                                  0, 1, 1, 0, 0, 0, 0,    //
                                  1, 1, 0, 0, 1, 1, 0};   // a gap

Tensor mask_of(const std::vector<real> &on = ragged) { return from(on, {(long)on.size() / T, T}, "mask"); }

// NaN wherever nothing counts.
Tensor spoilt(const Tensor &x, const char *name) {
    std::vector<real> v = values(x);
    for (size_t j = 0; j < v.size(); j++)
        if (ragged[j] == 0) v[j] = nothing;
    return from(v, x.shape, name);
}

// Log-ratios of -0.5, -0.1, 0.1 and 0.5, almost: on all sides of a clip with eps 0.2 and far from its
// corners; and their means, over 1 to 7 tokens, are far from delta.
constexpr double delta = 0.314;
Tensor beside(const Tensor &logp, const char *name, uint64_t seed) {
    std::vector<real> v = values(logp);
    const std::vector<int> which = random_ints(v.size(), 4, seed);
    const std::vector<real> wobble = values(randn(logp.shape, "wobble", seed));
    const double around[] = {-0.5, -0.1, 0.1, 0.5};
    for (size_t j = 0; j < v.size(); j++)
        v[j] -= (real)(around[which[j]] + 0.005 * std::tanh((double)wobble[j]));
    return from(v, logp.shape, name);
}

// Outputs 1 and 4 are much less likely than they were.
Tensor abandoned(const Tensor &logp, const Tensor &old) {
    std::vector<real> v = values(old);
    const std::vector<real> p = values(logp);
    for (int i : {1, 4})
        for (int t = 0; t < T; t++) v[i * T + t] = p[i * T + t] + (real)0.5;
    return from(v, old.shape, "old");
}

struct Drawn {                                        // random, of the shape above
    Tensor logp, old, ref, A, V, V_old, returns;
    Mask mask;
    explicit Drawn(uint64_t seed = 1) : mask(mask_of()) {
        const auto made = [&](const char *name, uint64_t s) { return randn({B, T}, name, 10 * seed + s); };
        const Tensor p = made("logp", 1);
        logp = spoilt(p, "logp");
        old = spoilt(abandoned(p, beside(p, "old", 10 * seed + 2)), "logp_old");
        ref = spoilt(beside(p, "ref", 10 * seed + 3), "logp_ref");
        std::vector<real> a = values(away_from_zero({B, T}, "A", 10 * seed + 4));
        a[1 * T + 3] = -1, a[4 * T + 1] = -1, a[4 * T + 2] = 1;      // in these outputs, both signs
        A = spoilt(from(a, {B, T}, "A"), "A");
        V = spoilt(made("V", 5), "V");
        V_old = spoilt(beside(V, "V_old", 10 * seed + 6), "V_old");
        returns = spoilt(made("returns", 7), "returns");
    }
};

// The shares, from their description.
double share(const Mask &mask, int i, const Divisor &d) {
    int all = 0;
    for (int on : mask.on) all += on;
    if (d.by == Length::sequence) return 1.0 / mask.B / mask.length(i);
    if (d.by == Length::token) return 1.0 / all;
    return 1.0 / mask.B / (d.L > 0 ? d.L : mask.T);
}

struct Value {
    double loss;
    Numbers slope;
};                                                       // a closed form: a number, and its slope by token
template <class Term> Value sum_over(const Mask &mask, const Divisor &d, Term term) {
    Value v = {0, Numbers(Shape{mask.B, mask.T})};
    for (int i = 0; i < mask.B; i++)
        for (int t = 0; t < mask.T; t++) {
            if (!mask.at(i, t)) continue;
            const auto [J, GC] = term(i, t);
            v.loss -= share(mask, i, d) * J;
            v.slope(i, t) = -share(mask, i, d) * GC;
        }
    return v;
}
using JandGC = std::pair<double, double>;

Tensor slope_of(const Function &loss, const Tensor &leaf) {
    const TapeGuard clear;
    wants_grad(leaf);
    assign(gradient(leaf), std::vector<real>(leaf.numel(), 0));
    backward(loss()[0]);
    return clone(gradient(leaf));
}

void check_form(const Function &loss, const Tensor &leaf, const Value &expected) {
    Numbers value(Shape{1});
    value(0) = expected.loss;
    CHECK(relative_error(loss()[0], value, 0.1) < oracle_bar);
    CHECK(relative_error(slope_of(loss, leaf), expected.slope) < oracle_bar);
}

const std::vector<Divisor> divisors = {
    {Length::sequence, 0}, {Length::token, 0}, {Length::constant, 0}, {Length::constant, 20}};

// How far the policy has left output i behind, and whether V3.2 leaves it out then.
bool left_out(const Drawn &x, int i, double A, double limit) {
    Numbers p(x.logp), old(x.old);
    double sum = 0;
    for (int t = 0; t < T; t++)
        if (x.mask.at(i, t)) sum += old(i, t) - p(i, t);
    return limit > 0 && A < 0 && sum / x.mask.length(i) > limit;
}

// A student and a teacher of other width; hidden states are NaN wherever nothing counts, but in `clean`.
struct Taught {
    static constexpr int V = 9, d = 3, d_teacher = 4;
    Tensor h, W, teacher_h, teacher_W;
    Mask mask;
    explicit Taught(uint64_t seed = 1, bool clean = false)
        : h(states(d, "h", 10 * seed + 1, clean)), W(randn({V, d}, "W", 10 * seed + 2)),
          teacher_h(states(d_teacher, "teacher_h", 10 * seed + 3, clean)),
          teacher_W(randn({V, d_teacher}, "teacher_W", 10 * seed + 4)), mask(mask_of()) {}
    Tensor loss(const Distill &o) const { return distill(h, W, teacher_h, teacher_W, mask, o); }

private:
    static Tensor states(int width, const char *name, uint64_t seed, bool clean) {
        std::vector<real> v = values(randn({B, T, width}, name, seed));
        for (size_t j = 0; j < v.size(); j++)
            if (ragged[j / width] == 0) v[j] = clean ? 0 : nothing;
        return from(v, {B, T, width}, name);
    }
};

// log softmax(h W^T / temperature) of the token at (i, t).
std::vector<double> log_probabilities(Numbers &h, Numbers &W, int i, int t, double temperature) {
    std::vector<double> log_p(W.shape[0], 0);
    double sum = 0;
    for (int v = 0; v < W.shape[0]; v++) {
        for (int j = 0; j < W.shape[1]; j++) log_p[v] += h(i, t, j) * W(v, j) / temperature;
        sum += std::exp(log_p[v]);
    }
    for (double &x : log_p) x -= std::log(sum);
    return log_p;
}

double softened(double x) { return 1 / (1 + std::exp(-x)); }
}  // namespace

// ------------------------------------------------------------------------------------------ [2] closed forms
TEST_CASE("objective sft: GC is 1 on every token that counts") {
    const Drawn x;
    for (const Divisor &d : divisors) {
        Numbers p(x.logp);
        const Value v = sum_over(x.mask, d, [&](int i, int t) { return JandGC(p(i, t), 1); });
        check_form([&] { return sft(x.logp, x.mask, d); }, x.logp, v);
    }
}

TEST_CASE("objective rft: GC is 1 where the reward is above 0; without any, there is nothing to learn") {
    const Drawn x;
    const Tensor reward = from(std::vector<real>{1, 0, 0.5, -1, 0, 2}, {B}, "reward");
    const Mask right = rewarded(x.mask, reward);
    Numbers p(x.logp), r(reward);
    for (const Divisor &d : divisors) {
        double tokens = 0;
        for (int i = 0; i < B; i++) tokens += r(i) > 0 ? x.mask.length(i) : 0;
        Divisor same = d;                                // by token: of the rewarded ones
        if (d.by == Length::token) same = {Length::constant, tokens / B};
        const Value v =
            sum_over(x.mask, same, [&](int i, int t) { return JandGC(r(i) > 0 ? p(i, t) : 0, r(i) > 0); });
        check_form([&] { return sft(x.logp, right, d); }, x.logp, v);
        const Mask none = rewarded(x.mask, zeros({B}));
        CHECK(item(sft(x.logp, none, d)) == 0);
        CHECK(same_bits(slope_of([&] { return sft(x.logp, none, d); }, x.logp), zeros({B, T})));
    }
}

TEST_CASE("objective dpo: GC is beta sigmoid(-margin), as published and divided by lengths") {
    const Drawn x;
    Numbers p(x.logp), ref(x.ref);
    for (bool normalised : {false, true})
        for (double beta : {0.1, 2.0}) {
            const auto n = [&](int i) { return normalised ? x.mask.length(i) : 1; };
            Value v = {0, Numbers(Shape{B, T})};
            for (int pair = 0; pair < B / 2; pair++) {
                double margin = 0;
                for (int i : {2 * pair, 2 * pair + 1})
                    for (int t = 0; t < T; t++)
                        if (x.mask.at(i, t)) margin += (i % 2 ? -1 : 1) * beta * (p(i, t) - ref(i, t)) / n(i);
                v.loss -= std::log(softened(margin)) / (B / 2);
                for (int i : {2 * pair, 2 * pair + 1})
                    for (int t = 0; t < T; t++)
                        if (x.mask.at(i, t))
                            v.slope(i, t) = -(i % 2 ? -1 : 1) * beta * softened(-margin) / n(i) / (B / 2);
            }
            check_form([&] { return dpo(x.logp, x.ref, x.mask, {beta, normalised}); }, x.logp, v);
        }
    const Mask odd(mask_of({1, 1, 1, 1, 1, 1, 1}));
    CHECK(error_of([&] { dpo(zeros({1, T}), zeros({1, T}), odd); }).find("no pairs") != std::string::npos);
}

TEST_CASE("objective ppo: GC is rho A, and 0 where the clip binds") {
    const Drawn x;
    Numbers p(x.logp), old(x.old), A(x.A);
    for (const Divisor &d : divisors)
        for (double eps : {0.2, 10.0}) {
            const Value v = sum_over(x.mask, d, [&](int i, int t) {
                const double rho = std::exp(p(i, t) - old(i, t)), a = A(i, t);
                const bool binds = a > 0 ? rho > 1 + eps : rho < 1 - eps;
                return binds ? JandGC((a > 0 ? 1 + eps : 1 - eps) * a, 0) : JandGC(rho * a, rho * a);
            });
            check_form([&] { return ppo(x.logp, x.old, x.A, x.mask, {eps, d}); }, x.logp, v);
        }
}

TEST_CASE("objective critic: half the squared error; clipped, the larger of two") {
    const Drawn x;
    Numbers V(x.V), V_old(x.V_old), R(x.returns);
    for (const Divisor &d : divisors)
        for (double eps : {0.0, 0.2}) {
            const Value v = sum_over(x.mask, d, [&](int i, int t) {
                const double far = V(i, t) - R(i, t), step = V(i, t) - V_old(i, t);
                const double near = V_old(i, t) + std::max(-eps, std::min(eps, step)) - R(i, t);
                const bool held = eps > 0 && std::abs(step) > eps && near * near > far * far;
                return held ? JandGC(-near * near / 2, 0) : JandGC(-far * far / 2, -far);
            });
            check_form([&] { return critic(x.V, x.V_old, x.returns, x.mask, eps, d); }, x.V, v);
        }
}

TEST_CASE("objective grpo: GC is rho A and the pull to the reference, with every switch") {
    const Drawn x;
    Numbers p(x.logp), old(x.old), ref(x.ref), A(x.A);
    int masked = 0;
    for (const Divisor &d : divisors)
        for (KL kl : {KL::k3, KL::unbiased})
            for (double beta : {0.0, 0.04, 3.0})
                for (double limit : {0.0, delta}) {
                    const GRPO o = {0.2, beta, limit, kl, d};
                    const Value v = sum_over(x.mask, d, [&](int i, int t) {
                        const double a = A(i, t), rho = std::exp(p(i, t) - old(i, t));
                        const double log_x = ref(i, t) - p(i, t);
                        double D = std::exp(log_x) - log_x - 1, GC = beta * (std::exp(log_x) - 1);
                        if (kl == KL::unbiased) D *= rho, GC = beta * rho * log_x;
                        const bool out = left_out(x, i, a, limit);
                        masked += out;
                        if (out) return JandGC(-beta * D, GC);
                        const bool binds = a > 0 ? rho > 1.2 : rho < 0.8;
                        const double J = binds ? (a > 0 ? 1.2 : 0.8) * a : rho * a;
                        return JandGC(J - beta * D, (binds ? 0 : rho * a) + GC);
                    });
                    check_form([&] { return grpo(x.logp, x.old, x.ref, x.A, x.mask, o); }, x.logp, v);
                }
    CHECK(masked >= 2 * 3 * 4 * 2);                      // those of `abandoned`, of every setting
}

TEST_CASE("objective distill: GC is p of every id; reverse, q log(p / q)") {
    const Taught x;
    Numbers h(x.h), W(x.W), teacher_h(x.teacher_h), teacher_W(x.teacher_W);
    for (const Divisor &d : divisors)
        for (Direction kl : {Direction::forward, Direction::reverse})
            for (double temperature : {1.0, 2.5}) {
                const Distill o = {kl, temperature, d};
                Value of_h = {0, Numbers(x.h.shape)}, of_W = {0, Numbers(x.W.shape)};
                for (int at = 0; at < B * T; at++) {
                    const int i = at / T, t = at % T;
                    if (!x.mask.at(i, t)) continue;
                    const double w = share(x.mask, i, d);
                    const auto q = log_probabilities(h, W, i, t, temperature),
                               p = log_probabilities(teacher_h, teacher_W, i, t, temperature);
                    double all = 0;                      // grad log q_v = grad z_v - sum_u q_u grad z_u
                    std::vector<double> GC;
                    for (int v = 0; v < x.V; v++) {
                        const bool reverse = kl == Direction::reverse;
                        GC.push_back(reverse ? std::exp(q[v]) * (p[v] - q[v]) : std::exp(p[v]));
                        all += GC[v];
                        of_h.loss += w * (reverse ? -GC[v] : GC[v] * (p[v] - q[v]));
                    }
                    for (int v = 0; v < x.V; v++)
                        for (int j = 0; j < x.d; j++) {
                            const double dz = -w * (GC[v] - all * std::exp(q[v])) / temperature;
                            of_h.slope(i, t, j) += dz * W(v, j);
                            of_W.slope(v, j) += dz * h(i, t, j);
                        }
                }
                of_W.loss = of_h.loss;
                check_form([&] { return x.loss(o); }, x.h, of_h);
                check_form([&] { return x.loss(o); }, x.W, of_W);
                CHECK(of_h.loss > 0);
            }
    CHECK(item(x.loss({Direction::forward})) != item(x.loss({Direction::reverse})));
    CHECK(error_of([&] {
              distill(x.h, x.W, x.teacher_h, x.teacher_W, Mask(mask_of({1, 1, 1, 1, 1, 1, 1})));
          }) == "kl_vocab: h (6,7,3) and pos (7,1) do not fit");
}

TEST_CASE("objective distill: a teacher that is the student is exactly right, and gets no gradient itself") {
    const Taught x;
    for (Direction kl : {Direction::forward, Direction::reverse}) {
        const auto loss = [&] { return distill(x.h, x.W, clone(x.h), clone(x.W), x.mask, {kl, 0.7, {}}); };
        CHECK(item(loss()) == 0);
        CHECK(values(slope_of(loss, x.h)) == std::vector<real>(x.h.numel(), 0));
        CHECK(values(slope_of(loss, x.W)) == std::vector<real>(x.W.numel(), 0));
        const auto other = [&] { return x.loss({kl, 0.7, {}}); };
        CHECK(values(slope_of(other, x.teacher_h)) == std::vector<real>(x.teacher_h.numel(), 0));
        CHECK(values(slope_of(other, x.teacher_W)) == std::vector<real>(x.teacher_W.numel(), 0));
    }
}

// --------------------------------------------------------------------------------------------- [3] gradients
// Worst measured in double: 1.0e-11.
TEST_CASE("objective gradients: of every objective with every switch") {
    const Drawn x(2);
    const Tensor reward = from(std::vector<real>{1, 0, 0.5, -1, 0, 2}, {B}, "reward");
    const Mask right = rewarded(x.mask, reward);
    for (const Divisor &d : divisors) {
        check_gradient([&] { return sft(x.logp, x.mask, d); }, {x.logp});
        check_gradient([&] { return sft(x.logp, right, d); }, {x.logp});
        for (double eps : {0.2, 10.0})
            check_gradient([&] { return ppo(x.logp, x.old, x.A, x.mask, {eps, d}); }, {x.logp});
        for (double eps : {0.0, 0.2})
            check_gradient([&] { return critic(x.V, x.V_old, x.returns, x.mask, eps, d); }, {x.V});
        for (KL kl : {KL::k3, KL::unbiased})
            for (double limit : {0.0, delta}) {
                const GRPO o = {0.2, 0.7, limit, kl, d};
                check_gradient([&] { return grpo(x.logp, x.old, x.ref, x.A, x.mask, o); }, {x.logp});
            }
    }
    for (bool normalised : {false, true})
        check_gradient([&] { return dpo(x.logp, x.ref, x.mask, {0.5, normalised}); }, {x.logp});
    const Taught clean(2, true);                        // differences of a number that is NaN are NaN
    for (Direction kl : {Direction::forward, Direction::reverse})
        check_gradient([&] { return clean.loss({kl, 0.7, {}}); }, {clean.h, clean.W});
}

TEST_CASE("objective gradients: policy and critic together, as two leaves") {
    const Drawn x(3);
    const auto both = [&] {
        return Outputs{ppo(x.logp, x.old, x.A, x.mask), critic(x.V, x.V_old, x.returns, x.mask, 0.2)};
    };
    check_gradient(both, {x.logp, x.V});
}

// ------------------------------------------------------------------- [4] what is never read, what overflows
TEST_CASE("objective padding: NaN where nothing counts changes no bit; NaN where something does is seen") {
    const Drawn x;
    const auto cleared = [](const Tensor &t) {
        std::vector<real> v = values(t);
        for (real &a : v)
            if (std::isnan(a)) a = 0;
        return from(v, t.shape, "cleared");
    };
    const Tensor p = cleared(x.logp), old = cleared(x.old), ref = cleared(x.ref), A = cleared(x.A);
    const GRPO o = {0.2, 0.3, delta, KL::unbiased, {}};
    const auto with_nan = [&] { return grpo(x.logp, x.old, x.ref, x.A, x.mask, o); };
    const auto without = [&] { return grpo(p, old, ref, A, x.mask, o); };
    CHECK(same_bits(with_nan(), without()));
    CHECK(same_bits(slope_of(with_nan, x.logp), slope_of(without, p)));
    CHECK(same_bits(dpo(x.logp, x.ref, x.mask), dpo(p, ref, x.mask)));
    CHECK(same_bits(critic(x.V, x.V_old, x.returns, x.mask, 0.2),
                    critic(cleared(x.V), cleared(x.V_old), cleared(x.returns), x.mask, 0.2)));

    const Taught y, z(1, true);
    for (Direction kl : {Direction::forward, Direction::reverse}) {
        const auto spoilt = [&] { return y.loss({kl}); };
        const auto clean = [&] { return z.loss({kl}); };
        CHECK(same_bits(spoilt(), clean()));
        CHECK(same_bits(slope_of(spoilt, y.h), slope_of(clean, z.h)));
        CHECK(same_bits(slope_of(spoilt, y.W), slope_of(clean, z.W)));
    }

    std::vector<real> v = values(x.logp);
    v[2] = nothing;                                      // where the mask is 1
    const Tensor bad = from(v, {B, T}, "bad");
    CHECK(std::isnan(item(sft(bad, x.mask))));
    CHECK(std::isnan(item(ppo(bad, x.old, x.A, x.mask))));
    CHECK(std::isnan(item(dpo(bad, x.ref, x.mask))));
    for (double limit : {0.0, delta})
        CHECK(std::isnan(item(grpo(bad, x.old, x.ref, x.A, x.mask, {0.2, 0.3, limit, KL::k3, {}}))));
}

TEST_CASE("objective on policy: logp itself may be logp_old, and gets the same gradient") {
    const Drawn x;
    const auto itself = [&] { return grpo(x.logp, x.logp, x.ref, x.A, x.mask); };
    const auto copied = [&] { return grpo(x.logp, clone(x.logp), x.ref, x.A, x.mask); };
    CHECK(same_bits(slope_of(itself, x.logp), slope_of(copied, x.logp)));
}

TEST_CASE("objective overflow: probabilities that are hopelessly apart give numbers, not NaN") {
    const Mask mask(from(std::vector<real>(4, 1), {1, 4}, "mask"));
    const Tensor A = from(std::vector<real>{1, -1, 0, -1}, {1, 4}, "A");
    for (double far : {60.0, 800.0})
        for (KL kl : {KL::k3, KL::unbiased}) {
            const real f = (real)far;
            const Tensor logp = from(std::vector<real>{-f, -f, -1, -1}, {1, 4}, "logp");
            const Tensor old = from(std::vector<real>{-1, -1, -f, -f}, {1, 4}, "old");
            const Tensor ref = from(std::vector<real>{-1, -f, -1, -f}, {1, 4}, "ref");
            const auto loss = [&] { return grpo(logp, old, ref, A, mask, {0.2, 0.1, 0, kl, {}}); };
            CHECK(std::isfinite(item(loss())));
            for (real g : values(slope_of(loss, logp))) CHECK(std::isfinite(g));
        }
}

// ----------------------------------------------------------------------------------------- [5] clip, lengths
TEST_CASE("objective clip: binds above for A > 0 and below for A < 0, never at the other two corners") {
    const Mask mask(from(std::vector<real>{1}, {1, 1}, "mask"));
    const Tensor old = zeros({1, 1});
    const auto GC = [&](double A, double rho, double eps) {
        const Tensor logp = from(std::vector<real>{(real)std::log(rho)}, {1, 1}, "logp");
        const Tensor a = from(std::vector<real>{(real)A}, {1, 1}, "A");
        return -values(slope_of([&] { return ppo(logp, old, a, mask, {eps, {}}); }, logp))[0];
    };
    CHECK(GC(2, 1.5, 0.2) == 0);
    CHECK(GC(-2, 0.5, 0.2) == 0);
    CHECK(GC(2, 0.5, 0.2) == doctest::Approx(1));
    CHECK(GC(-2, 1.5, 0.2) == doctest::Approx(-3));
    CHECK(GC(2, 1, 0.2) == 2);                           // on policy: nothing is lost, with no room either
    CHECK(GC(-2, 1, 0.2) == -2);
    CHECK(GC(2, 1, 0) == 2);
    CHECK(GC(2, 10.9, 10) == doctest::Approx(21.8));     // R1's eps of 10: its lower end, -9, is never met
    CHECK(GC(2, 11.1, 10) == 0);
    CHECK(GC(-2, 1e-3, 10) == doctest::Approx(-2e-3));
}

TEST_CASE("objective lengths: what a token of a long output weighs beside one of a short output") {
    std::vector<real> on(2 * 20, 0);
    for (int t = 0; t < 20; t++) on[t] = t < 2, on[20 + t] = 1;
    const Mask mask(from(on, {2, 20}, "mask"));
    const Tensor logp = zeros({2, 20});
    const auto weights = [&](const Divisor &d) {
        return values(slope_of([&] { return sft(logp, mask, d); }, logp));
    };
    const auto by_sequence = weights({Length::sequence, 0}), by_token = weights({Length::token, 0}),
               by_constant = weights({Length::constant, 40});
    CHECK(by_sequence[0] / by_sequence[20] == doctest::Approx(10));
    CHECK(by_sequence[0] == doctest::Approx(-1.0 / 4));
    CHECK(by_token[0] == by_token[20]);
    CHECK(by_token[0] == doctest::Approx(-1.0 / 22));
    CHECK(by_constant[0] == by_constant[20]);
    CHECK(by_constant[0] == doctest::Approx(-1.0 / 80));
    CHECK(weights({Length::constant, 0})[0] == doctest::Approx(-1.0 / 40));
}

TEST_CASE("objective off-policy mask: whole outputs, only bad ones, and the mean over what counts decides") {
    const Mask mask(from(std::vector<real>{1, 1, 1, 0, 1, 1, 1, 0, 1, 1, 0, 0}, {3, 4}, "mask"));
    const Tensor A = from(std::vector<real>{-1, 2, -1, 0, -1, -1, -1, 0, -1, -1, 0, 0}, {3, 4}, "A");
    const Tensor old = zeros({3, 4});
    const real far = (real)-0.5, near = (real)-0.1, up = (real)0.3;
    const Tensor logp =
        from(std::vector<real>{far, 0, 0, nothing, near, near, near, nothing, far, up, 0, 0}, {3, 4}, "logp");
    CHECK(values(off_policy_masked(A, logp, old, mask, 0.15)) ==
          std::vector<real>{0, 2, 0, 0, -1, -1, -1, 0, -1, -1, 0, 0});
    CHECK(values(off_policy_masked(A, logp, old, mask, 0.09)) ==
          std::vector<real>{0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0});
    CHECK(same_bits(off_policy_masked(A, logp, old, mask, 0.2), A));
}

// -------------------------------------------------------------------------------------------- [6] advantages
TEST_CASE("objective advantages: by group, population spread, none where rewards do not differ") {
    const Tensor reward = from(std::vector<real>{1, 5, 0, 5, 2, 5}, {B}, "reward");
    const Tensor group = from(std::vector<int>{0, 7, 0, 7, 0, 7}, {B}, "group");
    const Mask mask(mask_of());
    Numbers with(outcome_advantages(reward, group, mask)),
        raw(outcome_advantages(reward, group, mask, false));
    const double spread = std::sqrt(2.0 / 3);            // of 1, 0, 2 around 1
    const double expected[] = {0, 0, -1 / spread, 0, 1 / spread, 0};
    for (int i = 0; i < B; i++)
        for (int t = 0; t < T; t++) {
            const double on = mask.at(i, t);
            CHECK(with(i, t) == doctest::Approx(on * expected[i]));
            CHECK(raw(i, t) == doctest::Approx(on * expected[i] * spread));
        }
    const Tensor tenths = from(std::vector<real>(B, (real)0.1), {B}, "reward");    // a mean that is not exact
    CHECK(same_bits(outcome_advantages(tenths, group, mask), zeros({B, T})));
}

// Output 0 has all steps right, output 1 all wrong: alone each would be 0 / 0. Output 2 belongs elsewhere.
TEST_CASE("objective process advantages: one pool a question, what is still to come, 0 after the last step") {
    const real no = nothing;
    const Tensor reward = from(std::vector<real>{no, no, no, 1,  no, 1,  no,  // two steps, then a token
                                                 0,  no, no, 0,  5,  5,  no,  // 5: where nothing counts
                                                 3,  no, 1,  no, no, no, no},
                               {3, T}, "reward");
    const Mask mask(from(std::vector<real>{0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0},
                         {3, T}, "mask"));
    const Tensor group = from(std::vector<int>{4, 4, 0}, {3}, "group");
    const std::vector<real> A = values(process_advantages(reward, group, mask));
    const std::vector<real> expected = {0,  0,  2,  2,  1, 1, 0,                   //
                                        -2, -1, -1, -1, 0, 0, 0,                   //
                                        0,  -1, -1, 0,  0, 0, 0};
    for (size_t j = 0; j < A.size(); j++) CHECK(A[j] == doctest::Approx(expected[j]));
    CHECK(values(process_advantages(reward, group, mask, false))[2] == doctest::Approx(1));
}

TEST_CASE("objective gae: the sum of what follows, discounted, over the tokens that count") {
    const Drawn x;
    const Tensor reward = randn({B}, "reward", 3);
    Numbers R(reward), old(x.old), ref(x.ref), V(x.V_old);
    for (const auto &[beta, gamma, lambda] :
         {std::tuple{0.0, 1.0, 1.0}, {0.3, 1.0, 0.95}, {0.3, 0.9, 0.0}, {0.0, 0.9, 0.5}}) {
        const Tensor r = token_rewards(reward, x.old, x.ref, x.mask, beta);
        const Estimates made = gae(r, x.V_old, x.mask, gamma, lambda);
        Numbers A(Shape{B, T}), returns(Shape{B, T});
        for (int i = 0; i < B; i++) {
            std::vector<int> at;                         // what counts, in order
            for (int t = 0; t < T; t++)
                if (x.mask.at(i, t)) at.push_back(t);
            for (size_t t = 0; t < at.size(); t++) {
                for (size_t l = 0; t + l < at.size(); l++) {
                    const int now = at[t + l];
                    const bool last = t + l + 1 == at.size();
                    const double KL = beta > 0 ? beta * (old(i, now) - ref(i, now)) : 0;
                    const double next = last ? 0 : V(i, at[t + l + 1]);
                    const double missed = (last ? R(i) : 0) - KL + gamma * next - V(i, now);
                    A(i, at[t]) += std::pow(gamma * lambda, l) * missed;
                }
                returns(i, at[t]) = A(i, at[t]) + V(i, at[t]);
            }
        }
        CHECK(relative_error(made.A, A) < oracle_bar);
        CHECK(relative_error(made.returns, returns) < oracle_bar);
    }
}

// ------------------------------------------------------------------------------------ [7] exact expectations
// A policy over a tree: of three tokens the first ends an output, which has at most three. The policy is a
// table of logits, one row for each of the 7 beginnings; all outputs are listed, with what they pass.
namespace {
constexpr int V = 3, depth = 3, states = 7, unknowns = states * V;
struct Tree {
    std::vector<std::vector<int>> outputs, passed;
    Tree() { grow({}, {}, 0); }
    void grow(std::vector<int> tokens, std::vector<int> seen, int state) {
        if (tokens.size() == depth || (tokens.size() && tokens.back() == 0)) {
            outputs.push_back(tokens);
            passed.push_back(seen);
            return;
        }
        seen.push_back(state);
        tokens.push_back(0);
        for (int token = 0; token < V; token++) {
            tokens.back() = token;
            grow(tokens, seen, 2 * state + token);       // 0 -> 1, 2 -> 3, 4, 5, 6
        }
    }
    int size() const { return (int)outputs.size(); }
};

struct Policy {                                          // log pi(a | s), and what a batch says of it
    const Tree &tree;
    Numbers log_pi;
    Policy(const Tree &tree, uint64_t seed) : tree(tree), log_pi(randn({states, V}, "logits", seed)) {
        for (int s = 0; s < states; s++) {
            double sum = 0;
            for (int a = 0; a < V; a++) sum += std::exp(log_pi(s, a));
            for (int a = 0; a < V; a++) log_pi(s, a) -= std::log(sum);
        }
    }
    double pi(int s, int a) { return std::exp(log_pi(s, a)); }
    double of_output(int o) {
        double log_p = 0;
        for (size_t t = 0; t < tree.outputs[o].size(); t++)
            log_p += log_pi(tree.passed[o][t], tree.outputs[o][t]);
        return std::exp(log_p);
    }
    double of_state(int s) {                             // to come through it
        double p = 0;
        for (int o = 0; o < tree.size(); o++)
            for (int passed : tree.passed[o]) p += passed == s ? of_output(o) : 0;
        return p;
    }
    Tensor logp(const std::vector<int> &outputs) {
        std::vector<real> v(outputs.size() * depth, nothing);
        for (size_t i = 0; i < outputs.size(); i++)
            for (size_t t = 0; t < tree.outputs[outputs[i]].size(); t++)
                v[i * depth + t] = (real)log_pi(tree.passed[outputs[i]][t], tree.outputs[outputs[i]][t]);
        return from(v, {(long)outputs.size(), depth}, "logp");
    }
    // sum_i weight_i sum_t g_it grad log pi(o_it); of log pi(a | s), by the logit of b: 1[a = b] - pi(b | s).
    std::vector<double> pulled_back(const std::vector<int> &outputs, const std::vector<double> &weight,
                                    Numbers g) {
        std::vector<double> dlogits(unknowns, 0);
        for (size_t i = 0; i < outputs.size(); i++)
            for (size_t t = 0; t < tree.outputs[outputs[i]].size(); t++) {
                const int s = tree.passed[outputs[i]][t], a = tree.outputs[outputs[i]][t];
                for (int b = 0; b < V; b++) dlogits[s * V + b] += weight[i] * g(i, t) * ((a == b) - pi(s, b));
            }
        return dlogits;
    }
};

Mask mask_of(const Tree &tree, const std::vector<int> &outputs) {
    std::vector<real> on;
    for (int o : outputs)
        for (int t = 0; t < depth; t++) on.push_back(t < (int)tree.outputs[o].size());
    return Mask(from(on, {(long)outputs.size(), depth}, "mask"));
}
// Worst measured in double: 4.2e-15.
constexpr double exact_bar = in_double ? 1e-12 : 1e-5;
}  // namespace

// Of the divergence by token, at the beginnings that pi_old comes to: that pi comes to others as it moves is
// in no term of the objective.
TEST_CASE(
    "objective unbiased KL: its expected gradient is that of KL(pi | pi_ref), off policy too; k3's is not") {
    const Tree tree;
    REQUIRE(tree.size() == 1 + 2 * (1 + 2 * 3));
    Policy pi(tree, 1), other(tree, 2), ref(tree, 3);
    std::vector<int> all(tree.size());
    std::iota(all.begin(), all.end(), 0);
    const Mask mask = mask_of(tree, all);
    const Tensor logp = pi.logp(all), logp_ref = ref.logp(all), A = zeros(logp.shape);
    for (Policy *old : {&pi, &other}) {
        const Tensor logp_old = old->logp(all);
        const auto expected_gradient = [&](KL kl) {
            const GRPO o = {0.2, 0.5, 0, kl, {Length::constant, 1}};
            const Tensor g = slope_of([&] { return grpo(logp, logp_old, logp_ref, A, mask, o); }, logp);
            std::vector<double> weight;                  // of the batch's mean, of beta: taken out again
            for (int o : all) weight.push_back(old->of_output(o) * tree.size() / 0.5);
            return pi.pulled_back(all, weight, Numbers(g));
        };
        std::vector<double> reverse(unknowns), forward(unknowns);
        for (int s = 0; s < states; s++) {
            double KL = 0;
            for (int a = 0; a < V; a++) KL += pi.pi(s, a) * (pi.log_pi(s, a) - ref.log_pi(s, a));
            for (int a = 0; a < V; a++) {
                const double log_x = pi.log_pi(s, a) - ref.log_pi(s, a);
                reverse[s * V + a] = old->of_state(s) * pi.pi(s, a) * (log_x - KL);
                forward[s * V + a] = old->of_state(s) * (pi.pi(s, a) - ref.pi(s, a));
            }
        }
        CHECK(relative_error(expected_gradient(KL::unbiased), reverse) < exact_bar);
        CHECK(relative_error(expected_gradient(KL::k3), reverse) > 0.01);
        if (old == &pi)
            CHECK(relative_error(expected_gradient(KL::k3), forward) < exact_bar);           // the other KL's
    }
}

// All groups of three: 15^3 of them. The group's mean contains the output itself, so a factor (G - 1) / G
// remains of the policy gradient; its direction is exact. Divided by the spread it is another direction.
TEST_CASE(
    "objective grpo: on policy, without spread and clip, it is the policy gradient with a group baseline") {
    const Tree tree;
    Policy pi(tree, 4);
    const int N = tree.size(), G = 3;
    std::vector<int> outputs, question;
    std::vector<real> rewards;
    std::vector<double> weight;
    const std::vector<double> r = Numbers(randn({N}, "reward", 5)).v;
    for (int first = 0; first < N; first++)
        for (int second = 0; second < N; second++)
            for (int third = 0; third < N; third++) {
                const double p = pi.of_output(first) * pi.of_output(second) * pi.of_output(third);
                for (int o : {first, second, third}) {
                    question.push_back((int)outputs.size() / G);
                    outputs.push_back(o);
                    rewards.push_back((real)r[o]);
                    weight.push_back(p * N * N * N);     // instead of the batch's 1 / N^3
                }
            }
    const long rows = (long)outputs.size();
    const Mask mask = mask_of(tree, outputs);
    const Tensor logp = pi.logp(outputs), group = from(question, {rows}, "group");
    const auto expected_gradient = [&](bool by_spread) {
        const Tensor A = outcome_advantages(from(rewards, {rows}, "reward"), group, mask, by_spread);
        const GRPO o = {1e6, 0, 0, KL::k3, {Length::constant, 1}};
        const Tensor g = slope_of([&] { return grpo(logp, clone(logp), {}, A, mask, o); }, logp);
        return pi.pulled_back(outputs, weight, Numbers(g));
    };
    std::vector<int> all(N);
    std::iota(all.begin(), all.end(), 0);
    std::vector<double> loss_weight;                     // of -E[r], times (G - 1) / G
    for (int o : all) loss_weight.push_back(-pi.of_output(o) * r[o] * (G - 1) / G);
    Numbers ones(Shape{N, depth});
    ones.v.assign(ones.v.size(), 1);
    const std::vector<double> exact = pi.pulled_back(all, loss_weight, ones);
    CHECK(relative_error(expected_gradient(false), exact) < exact_bar);
    CHECK(relative_error(expected_gradient(true), exact) > 0.01);
}

// ------------------------------------------------------------------------------------------ [8] CPU and CUDA
TEST_CASE("objective parity: all of them pass on the device checked") {
    if (!cuda_device.kernels) return;
    const Restored keep(device);
    device = &checked_device;
    const Drawn x(4);
    const auto run = [&](const Function &loss, const Tensor &leaf) {
        for (real g : values(slope_of(loss, leaf))) CHECK(std::isfinite(g));
    };
    for (const Divisor &d : divisors) {
        run([&] { return sft(x.logp, x.mask, d); }, x.logp);
        run([&] { return ppo(x.logp, x.old, x.A, x.mask, {0.2, d}); }, x.logp);
        run([&] { return critic(x.V, x.V_old, x.returns, x.mask, 0.2, d); }, x.V);
        for (KL kl : {KL::k3, KL::unbiased}) {
            const GRPO o = {0.2, 0.7, delta, kl, d};
            run([&] { return grpo(x.logp, x.old, x.ref, x.A, x.mask, o); }, x.logp);
        }
    }
    for (bool normalised : {false, true})
        run([&] { return dpo(x.logp, x.ref, x.mask, {0.5, normalised}); }, x.logp);
    const Taught y(4);
    for (Direction kl : {Direction::forward, Direction::reverse})
        for (const Tensor &leaf : {y.h, y.W}) run([&] { return y.loss({kl, 0.7, {}}); }, leaf);
}

// -------------------------------------------------------------------------------- [9] a step of distillation
TEST_CASE("distillation: of itself a model learns nothing; of another the same in one batch as in two") {
    const Config c = load_preset("llm-nano");
    const Model student = random_model(c, 1), teacher = random_model(c, 2);
    Examples sequences = random_sequences(4, 6, c.V, 3);
    sequences[1].ids.resize(4);                          // padding
    sequences[2].weight = {0, 0, 0, 1, 1, 1, 1};         // a prompt
    const auto gradient_of = [&](const std::vector<Examples> &lists, const Model &of, double &loss) {
        zero_grad(student.blocks[0].mha.W_Q);
        loss = 0;
        for (const Batch &b : make_batches(lists, c)) {
            TapeGuard clear;
            const Losses l = distillation(student, of, b, {.divisor = {.by = Length::token}});
            loss += item(l.total);
            backward(l.total);
        }
        return values(gradient(student.blocks[0].mha.W_Q));
    };
    double loss, in_two;
    for (real x : gradient_of({sequences}, student, loss)) CHECK(x == 0);
    CHECK(loss == 0);
    const std::vector<real> whole = gradient_of({sequences}, teacher, loss);
    const std::vector<real> parts =
        gradient_of({{sequences[0]}, {sequences[1], sequences[2], sequences[3]}}, teacher, in_two);
    CHECK(loss > 0.01);
    CHECK(in_two == doctest::Approx(loss).epsilon(in_double ? 1e-12 : 1e-5));
    double most = 0, off = 0;
    for (size_t i = 0; i < whole.size(); i++) {
        most = std::max(most, std::fabs((double)whole[i]));
        off = std::max(off, std::fabs((double)whole[i] - parts[i]));
    }
    CHECK(off < (in_double ? 1e-12 : 1e-5) * most);
}

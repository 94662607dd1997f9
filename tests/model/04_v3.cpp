// 04_v3.cpp: DeepSeek-V3 (2412.19437) section 2: experts, their balance, and multi-token prediction.
//
// Each equation stands here once more in plain double loops, naive on purpose: a token asks every expert in
// turn, O(N E), where the model sorts rows by expert. Then the traps: a bias that weighs, a group scored by
// its maximum, a bias moved once per micro-batch, labels one off. MLA has its own file, 03_mla.cpp.
//
// The layer in plain doubles is in experts.h, DeepSeekMoE and V2 in 02_moe.cpp.
//
//   [1] moe equals it   [2] the choice   [3] the sequence-wise loss   [4] the bias update
//   [5] multi-token prediction   [6] gradients   [7] the census
#include <algorithm>
#include <cmath>

#include "src/infer/decoder.h"
#include "src/model/config.h"
#include "src/model/huggingface.h"
#include "src/model/weights.h"
#include "src/train/training.h"
#include "tests/model/experts.h"

namespace {
// Gains are not all 1, and the selection bias is not 0.
double error_of_moe(const Config &c) {
    NoGrad off;
    const Model m = random_model(c);
    const Tensor u = randn({3, 7, c.d}, "u", 3);
    return relative_error(moe(m.blocks[1].moe, c, u, causal(3, 7)), moe_of(m.blocks[1].moe, c, u));
}

// The worst measured of all cases below: float 2.2e-7, double 7.2e-16.
constexpr double moe_bar = in_double ? 1e-14 : 1e-6;

// A router whose affinities for token t are exactly sigmoid(z[t][i]): token t is the t-th unit vector.
struct Hand {
    Config c = small();
    Model m;
    Tensor u;
    Hand(int N_r, int K_r, const std::vector<Vec> &s) {
        c.N_r = N_r, c.K_r = K_r, c.groups = 1, c.M = 1, c.d = (int)std::max<size_t>(s.size(), 2);
        m = initialised(c, seeded(5));
        std::vector<real> e((size_t)N_r * c.d), rows(s.size() * c.d);
        for (size_t t = 0; t < s.size(); t++) {
            rows[t * c.d + t] = 1;
            for (int i = 0; i < N_r; i++) e[(size_t)i * c.d + t] = (real)std::log(s[t][i] / (1 - s[t][i]));
        }
        assign(router().e, e);
        u = from(rows, {1, (long)s.size(), c.d}, "u");
    }
    const MoE &router() const { return m.blocks[1].moe; }
};
}  // namespace

// ----------------------------------------------------------------------------------------- [1] moe equals it
TEST_CASE("moe: equals asking every expert in turn, V3 (12)-(16), with bias, groups and rho") {
    CHECK(error_of_moe(small()) < moe_bar);
}

TEST_CASE("moe: without shared experts") {
    Config c = small();
    c.N_s = 0;
    CHECK(error_of_moe(c) < moe_bar);
}

TEST_CASE("moe: gates that are not normalised are rho s") {
    Config c = small();
    c.norm_gates = false;
    CHECK(error_of_moe(c) < moe_bar);
}

TEST_CASE("moe: a softmax over all routed experts as gate, groups scored by their best one, as in V2") {
    Config c = small();
    c.gate = Gate::softmax;
    c.norm_gates = false;
    c.group_best = 1;
    CHECK(error_of_moe(c) < moe_bar);
}

TEST_CASE("moe: without groups every expert may be chosen; all of them may be") {
    Config c = small();
    c.groups = c.M = 1;
    CHECK(error_of_moe(c) < moe_bar);
    c.K_r = c.N_r;
    CHECK(error_of_moe(c) < moe_bar);
}

TEST_CASE("moe: the gates of the chosen experts sum to rho") {
    NoGrad off;
    const Model m = random_model(small());
    std::vector<double> sums;
    const auto before = op_hook;
    op_hook.after = [&](const Call &call, bool, double) {
        if (call.op != op_combine) return;
        const View g = call.in[2];
        const std::vector<double> gates = numbers_of(g);
        for (long n = 0; n < g.rows(); n++) {
            sums.push_back(0);
            for (int k = 0; k < g.width(); k++) sums.back() += gates[n * g.width() + k];
        }
    };
    moe(m.blocks[1].moe, m.c, randn({1, 9, m.c.d}, "u", 3), causal(1, 9));
    op_hook = before;
    REQUIRE(sums.size() == 9);
    for (double sum : sums) CHECK(sum == doctest::Approx(2.5).epsilon(1e-6));
}

TEST_CASE("block: the first n_dense layers have a dense network, the others experts") {
    Config c = small();
    c.n_layers = 3, c.n_dense = 2;
    const Model m = random_model(c);
    for (int l = 0; l < 3; l++) {
        CHECK(bool(m.blocks[l].moe.e) == (l == 2));
        CHECK(bool(m.blocks[l].ffn.W_g) == (l != 2));
    }
    NoGrad off;
    const Tensor h = randn({1, 4, c.d}, "h", 3);
    const Step step = causal(1, 4);
    for (int l : {1, 2}) {                               // V3 (12): u + FFN(norm(u)), u = h + MLA(norm(h))
        const Block &w = m.blocks[l];
        const Tensor u = add(h, mla(w.mla, c, rmsnorm(h, w.g_attn, c.eps), step));
        const Tensor y = rmsnorm(u, w.g_ffn, c.eps);
        CHECK(same_bits(block(w, c, h, step, l), add(u, l == 2 ? moe(w.moe, c, y, step) : ffn(w.ffn, y))));
    }
}

// -------------------------------------------------------------------------------------------- [2] the choice
TEST_CASE("moe: the bias chooses but never weighs: a huger one that chooses the same changes no bit") {
    NoGrad off;
    const Model m = random_model(small());
    const MoE &w = m.blocks[1].moe;
    const Tensor u = randn({2, 5, m.c.d}, "u", 3);
    std::vector<real> b(12, 0);
    b[9] = 30, b[10] = 20, b[1] = 10;                    // groups 3 and 0, and these three in this order
    assign(w.b, b);
    const Tensor y = moe(w, m.c, u, causal(2, 5));
    for (const auto &chosen : seen_by(w, m.c, u).idx) CHECK(chosen == std::vector<int>{9, 10, 1});
    CHECK(relative_error(y, moe_of(w, m.c, u)) < moe_bar);
    b[9] = 3e6, b[10] = 2e6, b[1] = 1e6;
    assign(w.b, b);
    CHECK(same_bits(moe(w, m.c, u, causal(2, 5)), y));
}

TEST_CASE("moe: no gradient reaches the bias, even if somebody asks for one") {
    const TapeGuard clear;
    const Model m = random_model(small());
    const MoE &w = m.blocks[1].moe;
    wants_grad(w.b);
    zero_grad(w.e);
    const Tensor u = randn({1, 5, m.c.d}, "u", 3);
    backward(weighted_sum(moe(w, m.c, u, causal(1, 5)), randn(u.shape, "w", 4)));
    CHECK(!w.b.s->grad);
    double largest = 0;
    for (real x : values(gradient(w.e))) largest = std::max(largest, std::fabs((double)x));
    CHECK(largest > 1e-3);                               // while the centroids do get one, through s
}

TEST_CASE("moe: a group's score is the sum of its best two, not its best one") {
    Hand hand(4, 2, {{0.9, 0.1, 0.6, 0.6}});             // groups {0.9, 0.1} and {0.6, 0.6}
    hand.c.groups = 2, hand.c.M = 1;
    hand.c.group_best = 2;
    CHECK(seen_by(hand.router(), hand.c, hand.u).idx[0] == std::vector<int>{2, 3});      // V3: 1.2 over 1.0
    hand.c.group_best = 1;
    CHECK(seen_by(hand.router(), hand.c, hand.u).idx[0] == std::vector<int>{0, 1});      // V2: 0.9 over 0.6
}

TEST_CASE("moe: groups are scored with the bias") {
    Hand hand(4, 2, {{0.9, 0.8, 0.6, 0.6}});
    hand.c.groups = 2, hand.c.M = 1;
    CHECK(seen_by(hand.router(), hand.c, hand.u).idx[0] == std::vector<int>{0, 1});
    assign(hand.router().b, {0, 0, 0.3, 0.3});
    CHECK(seen_by(hand.router(), hand.c, hand.u).idx[0] == std::vector<int>{2, 3});
}

TEST_CASE("moe: a token uses at most M groups") {
    Config c = small();
    c.N_r = 24, c.groups = 8, c.M = 2, c.K_r = 5;
    const Model m = random_model(c);
    std::set<int> used;
    for (const auto &chosen : seen_by(m.blocks[1].moe, c, randn({4, 16, c.d}, "u", 3)).idx) {
        std::set<int> groups;
        for (int i : chosen) groups.insert(i / 3);
        CHECK(groups.size() <= 2);
        used.insert(groups.begin(), groups.end());
    }
    CHECK(used.size() > 4);                              // and not the same two for all tokens
}

// -------------------------------------------------------------------------------- [3] the sequence-wise loss
namespace {
// alpha sum_i f_i P_i of each sequence of T tokens, averaged.   V3 (17)-(20)
double balance_of(const Config &c, const Seen &seen, const std::vector<std::vector<int>> &counted, int T) {
    const int N = (int)counted.size();
    double sum = 0;
    for (int from = 0; from < N; from += T) {
        for (int i = 0; i < c.N_r; i++) {
            double f = 0, P = 0;
            for (int t = from; t < from + T; t++) {
                const Vec s = row(seen.s, t);
                double total = 0;
                for (double s_j : s) total += s_j;
                f += std::count(counted[t].begin(), counted[t].end(), i) * (double)c.N_r /
                     (c.K_r * T);        // V3 (18)
                P += s[i] / total / T;   // V3 (19)(20)
            }
            sum += c.alpha * f * P;   // V3 (17)
        }
    }
    return sum / (N / T);
}
}  // namespace

TEST_CASE("balance loss: equals V3 (17)-(20) by hand, counting what was chosen or the unbiased best") {
    Config c = small();
    c.alpha = 0.5;
    const Model m = random_model(c);
    const MoE &w = m.blocks[1].moe;
    std::vector<real> b(12, 0);
    b[4] = b[5] = b[11] = 5;                             // what the bias chooses is not what s would
    assign(w.b, b);
    const Tensor u = randn({3, 6, c.d}, "u", 3);
    const Seen seen = seen_by(w, c, u);
    std::vector<std::vector<int>> unbiased;
    Config free = c;
    free.groups = free.M = 1;
    for (int n = 0; n < 18; n++) unbiased.push_back(choice(free, row(seen.s, n), Vec(12, 0.0)));
    const double selected = balance_of(c, seen, seen.idx, 6), as_printed = balance_of(c, seen, unbiased, 6);
    CHECK(seen.balance == doctest::Approx(selected).epsilon(1e-5));
    c.counted = Counted::unbiased;
    CHECK(seen_by(w, c, u).balance == doctest::Approx(as_printed).epsilon(1e-5));
    CHECK(std::abs(selected - as_printed) > 1e-4);
}

TEST_CASE("balance loss: perfect balance costs alpha, all to one expert N_r / K_r times that") {
    std::vector<Vec> balanced(4, Vec(4, 0.1)), collapsed(4, Vec(4, 1e-6));
    for (int t = 0; t < 4; t++) balanced[t][t] = 0.9, collapsed[t][2] = 0.9;
    Hand even(4, 1, balanced), uneven(4, 1, collapsed);
    even.c.alpha = uneven.c.alpha = 0.25;
    CHECK(seen_by(even.router(), even.c, even.u).balance == doctest::Approx(0.25).epsilon(1e-6));
    CHECK(seen_by(uneven.router(), uneven.c, uneven.u).balance == doctest::Approx(1.0).epsilon(1e-4));
}

TEST_CASE("balance loss: in a sequence of one token f is 0 or N_r / K_r") {
    Hand hand(4, 2, {{0.8, 0.4, 0.5, 0.3}});             // s' = 0.4, 0.2, 0.25, 0.15; experts 0 and 2
    hand.c.alpha = 1;
    CHECK(seen_by(hand.router(), hand.c, hand.u).balance ==
          doctest::Approx(4 / 2 * (0.4 + 0.25)).epsilon(1e-5));
}

TEST_CASE("balance loss: it is of each sequence, not of the batch") {
    std::vector<Vec> s(4, Vec(4, 0.1));
    s[0][0] = s[1][0] = s[2][1] = s[3][1] = 0.9;         // two tokens to expert 0, two to expert 1
    Hand hand(4, 1, s);
    hand.c.alpha = 1;
    const double P = 0.9 / 1.2, rest = 0.1 / 1.2;
    CHECK(seen_by(hand.router(), hand.c, hand.u).balance ==
          doctest::Approx(2 * (P / 2 + rest / 2) * 2).epsilon(1e-5));
    hand.u = reshape(hand.u, {2, 2, hand.c.d});
    CHECK(seen_by(hand.router(), hand.c, hand.u).balance == doctest::Approx(4 * P).epsilon(1e-5));
}

TEST_CASE("balance loss: gradient, f being constant") {
    for (Counted counted : {Counted::selected, Counted::unbiased}) {
        Config c = small();
        c.d = 6, c.alpha = 1, c.counted = counted;
        const Model m = random_model(c);
        const MoE &w = m.blocks[1].moe;
        const Tensor u = randn({2, 4, c.d}, "u", 3);
        check_gradient(
            [&] {
                Aux aux;
                Step step = causal(2, 4);
                step.aux = &aux;
                moe(w, c, u, step);
                return aux.losses[0].value;
            },
            {u, w.e});
    }
}

TEST_CASE("balance loss: alpha = 0 makes none") {
    Config c = small();
    c.alpha = 0;
    const Model m = random_model(c);
    const TapeGuard clear;
    CHECK(!language_modelling(m, make_batch(examples({{1, 2, 3, 4, 5}}), 0)).term("balance"));
}

// --------------------------------------------------------------------------------------- [4] the bias update
namespace {
TrainOptions frozen_weights() {                               // lr = 0: only the biases move
    TrainOptions o;
    o.schedule = "constant";
    o.warmup = 0;
    o.lr = 0;
    o.steps = 10;
    return o;
}

std::vector<std::vector<real>> biases(Model &m) {
    std::vector<std::vector<real>> b;
    visit(m, [&](const std::string &, Tensor &w, const Spec &spec) {
        if (spec.group == Group::bias) b.push_back(values(w));
    });
    return b;
}

}  // namespace

TEST_CASE("bias update: an overloaded expert's b falls by gamma, an idle one's rises, once a step") {
    Config c = small();
    c.D = 1;
    c.gamma = 0.0625;                                    // a power of two: sums are exact
    Model m = initialised(c, seeded(5));
    const Examples batch = random_sequences(4, 9, c.V, 1);
    std::vector<std::vector<int>> expected;            // the same forward: its load is what the step will see
    {
        const TapeGuard clear;
        Aux aux;
        language_modelling(m, make_batch(batch, c.D), &aux);
        for (const Routing &r : aux.routing) expected.push_back(int_values(r.counts));
    }
    REQUIRE(expected.size() == 2);                       // the layer's router, and the MTP module's
    Training t(frozen_weights(), std::move(m));
    const auto counted = t.train_step([&](long) { return batch; }).load;
    CHECK(counted == expected);
    const auto b = biases(t.policy.model);
    for (size_t l = 0; l < 2; l++) {
        int total = 0;
        for (int n : expected[l]) total += n;
        CHECK(total == 4 * (l ? 8 : 9) * c.K_r);         // nobody is dropped; the module sees a token less
        for (int i = 0; i < c.N_r; i++) {
            const int sign = expected[l][i] * c.N_r < total ? 1 : expected[l][i] * c.N_r > total ? -1 : 0;
            CHECK(b[l][i] == (real)(0.0625 * sign));
        }
    }
    CHECK(t.train_step([&](long) { return batch; }).load[0].size() == (size_t)c.N_r);
    CHECK(biases(t.policy.model) != b);                  // counted anew in the next step
}

TEST_CASE("bias update: one batch of 8 and 4 accumulated batches of 2 move b alike, to the bit") {
    Config c = small();
    c.D = 1;
    c.gamma = 0.003;
    TrainOptions whole = frozen_weights(), parts = whole;
    parts.accumulate = 4;
    Model untouched = initialised(c, seeded(5));
    Training a(whole, initialised(c, seeded(5))), b(parts, initialised(c, seeded(5)));
    for (int step = 0; step < 5; step++) {
        const Examples batch = random_sequences(8, 9, c.V, step + 1);
        a.train_step([&](long) { return batch; });
        b.train_step([&](long position) {
            const long from = position % 8;
            return Examples(batch.begin() + from, batch.begin() + from + 2);
        });
        CHECK(biases(a.policy.model) == biases(b.policy.model));
    }
    CHECK(biases(a.policy.model) != biases(untouched));             // and they did move
}

TEST_CASE("bias update: it evens out the load of a router that starts lopsided") {
    Config c = small();
    c.gamma = 0.02;
    Model m = initialised(c, seeded(5));
    assign(m.blocks[1].moe.b, {1, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0});
    Training t(frozen_weights(), std::move(m));
    const Examples batch = random_sequences(8, 16, c.V, 1);
    const double first = t.train_step([&](long) { return batch; }).max_vio;
    double last = 0;
    for (int step = 0; step < 80; step++) last = t.train_step([&](long) { return batch; }).max_vio;
    INFO("MaxVio ", first, " at first, ", last, " at last");
    CHECK(last < first / 2);
}

// -------------------------------------------------------------------------------- [5] multi-token prediction
namespace {
Config with_modules(int D) {
    Config c = small();
    c.D = D;
    c.lambda = 0.3;
    c.alpha = 0.01;
    return c;
}

double log_P(const Numbers &head, const Vec &h, int token) {   // log softmax(head h)[token]
    const Vec z = times(head, h);
    double total = 0;
    for (double z_v : z) total += std::exp(z_v);
    return z[token] - std::log(total);
}

// L_main and each L_MTP^k, with tokens t_1 .. t_(T+1) in sequence[0 .. T].
Vec losses_of(const Model &m, const Examples &examples) {
    NoGrad off;
    Sequences batch;
    for (const Example &e : examples) batch.push_back(e.ids);
    const int B = (int)batch.size(), T = (int)batch[0].size() - 1;
    const Numbers head(m.head), Emb(m.Emb);
    std::vector<int> ids;
    for (const auto &t : batch) ids.insert(ids.end(), t.begin(), t.begin() + T);
    Tensor h = trunk(m, causal(from(ids, {B, T}, "ids")));
    Vec L(1 + m.c.D, 0.0);
    for (int b = 0; b < B; b++)
        for (int i = 0; i < T; i++)
            L[0] -= log_P(head, row(Numbers(h), b * T + i), batch[b][i + 1]) / (B * T);
    for (int k = 1; k <= m.c.D; k++) {
        const MTP &w = m.mtp[k - 1];
        const Numbers H(h), g_h(w.g_h), g_e(w.g_e), M(w.M), g_out(w.g_out);
        std::vector<real> h_prime;
        for (int b = 0; b < B; b++) {
            for (int i = 0; i < T - k; i++) {   // V3 (21)   embedding first
                Vec both = RMSNorm(row(Emb, batch[b][i + k]), g_e, m.c.eps);
                const Vec below = RMSNorm(row(H, b * (T - k + 1) + i), g_h, m.c.eps);
                both.insert(both.end(), below.begin(), below.end());
                for (double x : times(M, both)) h_prime.push_back((real)x);
            }
        }
        const Tensor input = from(h_prime, {B, T - k, m.c.d}, "h'");
        h = block(w.block, m.c, input, causal(B, T - k), m.c.n_layers);                  // V3 (22)
        for (int b = 0; b < B; b++)
            for (int i = 0; i < T - k; i++) {   // V3 (23)(24)   divisor T
                const Vec read = RMSNorm(row(Numbers(h), b * (T - k) + i), g_out, m.c.eps);
                L[k] -= log_P(head, read, batch[b][i + k + 1]) / (B * T);
            }
    }
    return L;
}

// Trains on sequences that `next` makes; the report of the last step.
StepReport trained(const Config &c, int steps, double lr, const std::function<Examples(int step)> &next) {
    TrainOptions o;
    o.schedule = "cosine";
    o.warmup = 5;
    o.lr = lr;
    o.steps = steps;
    o.weight_decay = 0;
    Training t(o, initialised(c, seeded(5)));
    StepReport last = {};
    for (int step = 0; step < steps; step++) last = t.train_step([&](long) { return next(step); });
    return last;
}

Config nano(int D) {
    Config c = load_preset("v3-nano");
    c.V = 16;
    c.D = D;
    return c;
}
}  // namespace

TEST_CASE("mtp: losses of two modules equal V3 (21)-(25) in plain doubles, with divisor T") {
    const TapeGuard clear;
    const Model m = random_model(with_modules(2));
    const Examples batch = random_sequences(3, 7, m.c.V, 1);
    const Losses l = language_modelling(m, make_batch(batch, 2));
    const Vec L = losses_of(m, batch);
    const auto error = [](const Tensor &got, double expected) {
        return std::abs(item(got) - expected) / expected;
    };
    CHECK(error(l.term("lm"), L[0]) < moe_bar);
    CHECK(error(l.term("mtp"), (L[1] + L[2]) / 2) < moe_bar);
    CHECK(error(l.total, L[0] + 0.3 / 2 * (L[1] + L[2]) + item(l.term("balance"))) < moe_bar);   // V3 (25)
}

TEST_CASE("mtp: module k reads token i+k and predicts token i+k+1") {
    const Batch b = make_batch(examples({{10, 11, 12, 13, 14}}), 2);
    CHECK(b.T == 4);
    CHECK(b.tokens == 4);
    CHECK(int_values(b.reading[0].step.ids) == std::vector<int>{10, 11, 12, 13});
    CHECK(int_values(b.reading[0].next) == std::vector<int>{11, 12, 13, 14});
    CHECK(int_values(b.reading[1].step.ids) == std::vector<int>{11, 12, 13});
    CHECK(int_values(b.reading[1].next) == std::vector<int>{12, 13, 14});
    CHECK(int_values(b.reading[2].step.ids) == std::vector<int>{12, 13});
    CHECK(int_values(b.reading[2].next) == std::vector<int>{13, 14});
}

TEST_CASE("mtp: its loss trains the model's own head, embedding and trunk") {
    const Model m = random_model(with_modules(1));
    const Batch batch = make_batch(random_sequences(2, 6, m.c.V, 1), 1);
    struct Gradients { Tensor head, Emb, W_O; };
    const auto gradients = [&](const std::function<Tensor(const Losses &)> &loss) {
        const TapeGuard clear;
        const std::vector<Tensor> weights = {m.head, m.Emb, m.blocks[0].mla.W_O};
        for (const Tensor &w : weights) zero_grad(w);
        backward(loss(language_modelling(m, batch)));
        NoGrad off;
        return Gradients{clone(gradient(m.head)), clone(gradient(m.Emb)),
                         clone(gradient(m.blocks[0].mla.W_O))};
    };
    const Gradients main = gradients([](const Losses &l) { return l.term("lm"); }),
                    module = gradients([](const Losses &l) { return l.term("mtp"); });
    const Gradients balance = gradients([](const Losses &l) { return l.term("balance"); });
    const Gradients total = gradients([](const Losses &l) { return l.total; });
    NoGrad off;
    for (auto part : {&Gradients::head, &Gradients::Emb, &Gradients::W_O}) {
        CHECK(relative_error(module.*part, zeros((module.*part).shape)) > 0);
        const Tensor sum = add(add(main.*part, times(module.*part, 0.3)), balance.*part);
        CHECK(relative_error(total.*part, sum) < moe_bar);
    }
}

TEST_CASE("mtp: on a sequence of period 3 the model and both modules reach a loss of 0") {
    const StepReport r = trained(nano(2), 120, 0.01, [](int) {
        Examples batch;
        for (int phase = 0; phase < 3; phase++) {
            batch.emplace_back();
            for (int t = 0; t < 13; t++) batch.back().ids.push_back(3 + (t + phase) % 3);
        }
        return batch;
    });
    INFO("lm ", r.term("lm"), ", mtp ", r.term("mtp"));
    CHECK(r.term("lm") < 0.02);
    CHECK(r.term("mtp") < 0.04);
}

// Pairs x, x+8 with x drawn at random from 8: only every second token can be known. The module at i is given
// t_(i+1), so it knows t_(i+2) if that closes a pair, and can do no better than ln 8 where a pair begins.
// With T = 16, even i begins a pair: the model knows 8 targets of 16; of the module's 15, i = 1, 3, .. 13 are
// known, 8 are not. One label earlier everything would be given, one later nothing could be known.
TEST_CASE("mtp: it knows what one token more can tell, not less and not more") {
    const StepReport r = trained(nano(1), 250, 0.01, [](int step) {
        Examples batch;
        for (int b = 0; b < 8; b++) {
            batch.emplace_back();
            for (int x : random_ints(9, 8, step * 8 + b)) {
                batch.back().ids.push_back(x);
                batch.back().ids.push_back(x + 8);
            }
            batch.back().ids.resize(17);
        }
        return batch;
    });
    const double ln8 = std::log(8.0);
    INFO("lm ", r.term("lm"), ", at best ", ln8 / 2, "; mtp ", r.term("mtp"), ", at best ", ln8 / 2);
    CHECK(r.term("lm") == doctest::Approx(ln8 * 8 / 16).epsilon(0.1));
    CHECK(r.term("mtp") == doctest::Approx(ln8 * 8 / 16).epsilon(0.1));
}

// --------------------------------------------------------------------------------------------- [6] gradients
TEST_CASE("moe: gradient of every weight and of the input, the choices frozen") {
    for (bool norm_gates : {true, false}) {
        Config c = small();
        c.d = 5, c.d_e = 3, c.N_r = 6, c.groups = 3, c.K_r = 2, c.N_s = 1;
        c.norm_gates = norm_gates;
        c.gate = norm_gates ? Gate::sigmoid : Gate::softmax;
        const Model m = random_model(c);
        const MoE &w = m.blocks[1].moe;
        const Tensor u = randn({1, 5, c.d}, "u", 3);
        check_gradient([&] { return moe(w, c, u, causal(1, 5)); },
                       {u, w.e, w.W_g, w.W_u, w.W_2, w.shared.W_g, w.shared.W_u, w.shared.W_2});
    }
}

// A chain of two norms, attention and experts, six numbers wide: in float the
// differences are known to 1e-3 only.
TEST_CASE("mtp: gradient of its weights, of the embedding and of the hidden state" *
          doctest::skip(!in_double)) {
    Config c = with_modules(1);
    c.V = 5, c.d = 5, c.n_layers = 1, c.n_h = c.n_kv = 1, c.d_h = 3, c.d_v = 2, c.d_hR = 2, c.d_c = 4,
    c.d_cq = 3;
    c.N_r = 4, c.groups = 2, c.M = 1, c.K_r = 2, c.d_e = 2, c.N_s = 1;
    Model m = random_model(c);
    const Tensor h = randn({1, 4, c.d}, "h", 3), ids = from(std::vector<int>{1, 0, 4, 1}, {1, 4}, "ids");
    Leaves leaves = {h, m.Emb};
    visit(m, [&](const std::string &name, Tensor &w, const Spec &spec) {
        const bool trained = spec.group != Group::bias;
        if (name.starts_with("mtp.") && name != "mtp.0.g_out" && trained) leaves.push_back(w);
    });
    REQUIRE(leaves.size() ==
            2 + 3 + 12 + 7);   // g_h, g_e, M; the attention's 10 and two gains; the experts' 7
    check_gradient([&] { return mtp(m.mtp[0], m, h, causal(ids)); }, leaves);
}

// -------------------------------------------------------------------------------------------- [7] the census
TEST_CASE("census: DeepSeek-V3 has 671B parameters, 37B activated, and 11.5B in its MTP module") {
    const Census n = census(load_preset("deepseek-v3"));
    CHECK(std::lround(n.total / 1e9) == 671);
    long embedding = 0, modules = 0;
    for (const Census::Part &p : n.parts) {
        if (p.name == "embedding") embedding = p.total;
        if (p.name == "MTP modules") modules = p.total;
    }
    CHECK(embedding == 129280l * 7168);
    CHECK(std::lround((n.activated - embedding) / 1e9) == 37);       // a look-up multiplies nothing
    CHECK(modules > 11.45e9);
    CHECK(modules < 11.65e9);
    CHECK(n.cache_numbers == 576);
}

TEST_CASE("census: DeepSeek-V3 part by part, from its shapes") {
    const Config c = load_preset("deepseek-v3");
    const long attention = 7168l * 1536 + 1536 + 1536l * 128 * (128 + 64) + 7168l * (512 + 64) + 512 +
                           512l * 128 * (128 + 128) + 128l * 128 * 7168;
    const long expert = 3l * 7168 * 2048;
    long total = 0;
    for (const Census::Part &p : census(c).parts) {
        INFO(p.name);
        if (p.name == "attention") CHECK(p.total == 61 * attention);
        if (p.name == "dense FFN") CHECK(p.total == 3 * 3l * 7168 * 18432);
        if (p.name == "routed experts") CHECK(p.total == 58 * 256 * expert);
        if (p.name == "routed experts") CHECK(p.activated == 58 * 8 * expert);
        if (p.name == "shared experts") CHECK(p.total == 58 * expert);
        if (p.name == "router") CHECK(p.total == 58 * 256l * 7168);
        if (p.name == "norms") CHECK(p.total == (2 * 61 + 1) * 7168l);
        if (p.name == "output head") CHECK(p.total == 129280l * 7168);
        if (p.name != "MTP modules") total += p.total;
    }
    CHECK(total == census(c).total);
}

// 02_moe.cpp: DeepSeekMoE (2401.06066) and the experts of DeepSeek-V2 (2405.04434 section 2.2): a softmax
// gate that is not normalised, GShard, Switch and hash layers as baselines, balance losses of experts,
// devices and communication, dropping; with the exact figures of both papers.
//
// Each equation stands here once more in plain loops (experts.h has the layer). Then the traps: gates that
// are normalised, a router that learns only from who was chosen, a device counted twice, dropping that weighs
// the rest anew or happens in an evaluation.
//
//   [1] the layer   [2] balance losses   [3] dropping   [4] figures of the papers
#include "src/infer/decoder.h"
#include "src/model/config.h"
#include "src/train/training.h"
#include "tests/model/experts.h"

namespace {
Config softmax_gate() {                                  // 2 shared and 3 of 12 experts, as in MoE (9)-(11)
    Config c = small();
    c.attention = Attention::MHA;
    c.n_kv = c.n_h, c.d_h = 4;
    c.gate = Gate::softmax, c.norm_gates = false, c.selection_bias = false;
    c.groups = c.M = c.group_best = 1;
    c.rho = 1, c.alpha = 0;
    return c;
}
Config v2() {                                            // on 4 devices, of which a token reaches 2
    Config c = softmax_gate();
    c.groups = 4, c.M = 2, c.rho = 2.5;
    return c;
}

const MoE &layer(const Model &m) { return m.blocks[1].moe; }

double error_of_moe(const Config &c) {
    validate(c);
    NoGrad off;
    const Model m = random_model(c);
    const Tensor u = randn({3, 7, c.d}, "u", 3);
    return relative_error(moe(layer(m), c, u, causal(3, 7)), moe_of(layer(m), c, u));
}
// The worst measured of all cases below and of 10 seeds: float 3.3e-7, double 7.8e-16.
constexpr double moe_bar = in_double ? 1e-14 : 1e-6;

std::vector<std::vector<int>> rows_of(const Tensor &idx) {
    const std::vector<int> all = int_values(idx);
    std::vector<std::vector<int>> rows;
    for (size_t n = 0; n < all.size(); n += idx.shape[1])
        rows.emplace_back(all.begin() + n, all.begin() + n + idx.shape[1]);
    return rows;
}

// One forward of the layer, as in training.
struct Told {
    Tensor y;
    Aux aux;
};
Told told_by(const Model &m, const Tensor &u, const Tensor &exempt = {}) {
    Told t;
    Step step = causal(u.shape[0], u.shape[1]);
    step.aux = &t.aux;
    step.exempt = exempt;
    t.y = moe(layer(m), m.c, u, step);
    return t;
}
}  // namespace

// --------------------------------------------------------------------------------------------- [1] the layer
TEST_CASE(
    "moe: DeepSeekMoE, GShard, Switch and V2 equal asking every expert in turn, MoE (3)-(11), V2 (20)-(22)") {
    Config GShard = softmax_gate(), Switch = softmax_gate();
    GShard.N_s = Switch.N_s = 0;
    GShard.K_r = 2, Switch.K_r = 1;
    for (const Config &c : {softmax_gate(), GShard, Switch, v2()}) {
        INFO("K_r ", c.K_r, ", N_s ", c.N_s, ", groups ", c.groups);
        CHECK(error_of_moe(c) < moe_bar);
    }
}

TEST_CASE(
    "moe: gates are the softmax over all routed experts: what the chosen have of it, less than 1 in all") {
    NoGrad off;
    const Model m = random_model(softmax_gate());
    const Tensor u = randn({1, 9, m.c.d}, "u", 3);
    const auto before = op_hook;
    std::vector<double> gates;
    op_hook.after = [&](const Call &call, bool, double) {
        if (call.op == op_combine) gates = numbers_of(call.in[2]);
    };
    const Told t = told_by(m, u);
    op_hook = before;
    const Numbers s(t.aux.routing[0].s);
    const auto idx = rows_of(t.aux.routing[0].idx);
    for (int n = 0; n < 9; n++) {
        double total = 0;
        for (int k = 0; k < 3; k++) {
            CHECK(gates[n * 3 + k] == s.v[n * 12 + idx[n][k]]);
            total += gates[n * 3 + k];
        }
        CHECK(total < 1 - 1e-4);
    }
}

TEST_CASE("moe: the router learns from experts that were not chosen, too: the softmax's denominator") {
    for (const Config &c : {softmax_gate(), v2()}) {
        Config few = c;
        few.d = 6, few.K_r = 1;
        const Model m = random_model(few);
        const Tensor u = randn({1, 2, few.d}, "u", 3);   // two tokens: at least ten experts are not chosen
        check_gradient([&] { return moe(layer(m), few, u, causal(1, 2)); },
                       {u, layer(m).e, layer(m).W_2, layer(m).shared.W_2});
        int without = 0;
        const std::vector<real> de = values(gradient(layer(m).e));
        for (int i = 0; i < few.N_r; i++) without += de[i * few.d] == 0;
        CHECK(without == 0);
    }
}

TEST_CASE("moe: hash layers: an expert by the token's id, gate 1, no router and no loss") {
    Config c = softmax_gate();
    c.gate = Gate::hash, c.K_r = 1, c.alpha = 0.1;
    validate(c);
    Model m = random_model(c);
    CHECK(!layer(m).e);
    CHECK(!layer(m).b);
    Step step = causal(from(std::vector<int>{3, 5, 3, 12, 5, 3}, {1, 6}, "ids"));
    Aux aux;
    step.aux = &aux;
    const Tensor u = randn({1, 6, c.d}, "u", 3);
    NoGrad off;
    const Tensor y = moe(layer(m), c, u, step);
    const auto idx = rows_of(aux.routing[0].idx);
    CHECK(idx[0] == idx[2]);
    CHECK(idx[0] == idx[5]);
    CHECK(idx[1] == idx[4]);
    CHECK(aux.losses.empty());
    CHECK(relative_error(y, moe_of(layer(m), c, u, idx, idx)) < moe_bar);
    c.K_r = 2;
    CHECK(error_of([&] { validate(c); }) == "gate = hash: a token has one expert, not K_r = 2");
}

TEST_CASE("moe: an expert that nobody chooses gets no gradient, and decays like the others") {
    Config c = softmax_gate();
    c.n_dense = 0, c.n_layers = 1;
    Model m = random_model(c);
    std::vector<real> e = values(m.blocks[0].moe.e);
    TrainOptions o;
    o.lr = 0.01, o.steps = 10, o.warmup = 0, o.schedule = "constant", o.weight_decay = 0.5;
    for (int i = 0; i < c.d; i++) e[7 * c.d + i] = 0;    // expert 7 has logit 0, the others are far apart
    for (int j = 0; j < c.N_r; j++)
        for (int i = 0; j != 7 && i < c.d; i++) e[j * c.d + i] *= 40;
    assign(m.blocks[0].moe.e, e);
    const std::vector<real> before = values(m.blocks[0].moe.W_2);
    Training t(o, std::move(m));
    const StepReport r = t.train_step([&](long) { return random_sequences(1, 3, c.V, 1); });
    const std::vector<real> after = values(t.policy.model.blocks[0].moe.W_2);
    int idle = 0;
    for (int i = 0; i < c.N_r; i++) {
        if (r.load[0][i] > 0) continue;
        idle++;
        const long at = (long)i * c.d * c.d_e;
        CHECK(after[at] == doctest::Approx(before[at] * (1 - 0.01 * 0.5)).epsilon(1e-5));
    }
    CHECK(idle >= 3);
}

// --------------------------------------------------------------------------------------- [2] balance losses
namespace {
// By hand, of one sequence after the other: how often f counts a token for a group, and its even share.
double loss_by_hand(const Config &c, const Told &t, int T, int D, bool once) {
    const Numbers s(t.aux.routing[0].s);
    const auto idx = rows_of(t.aux.routing[0].idx);
    const int N = (int)idx.size(), size = c.N_r / D;
    double sum = 0;
    for (int from = 0; from < N; from += T)
        for (int g = 0; g < D; g++) {
            double f = 0, P = 0;
            for (int n = from; n < from + T; n++) {
                int choices = 0;
                for (int i : idx[n]) choices += i / size == g;
                f += once ? (choices > 0) * (double)D / (c.M * T) : choices * (double)D / (c.K_r * T);
                for (int i = g * size; i < (g + 1) * size; i++) P += s.v[n * c.N_r + i] / T;
            }
            sum += f * P / (N / T);
        }
    return sum;
}
double named(const Told &t, const std::string &name) {
    for (const Term &term : t.aux.losses)
        if (term.name == name) return item(term.value);
    return NAN;
}
}  // namespace

TEST_CASE("balance losses: of experts, devices and communication, MoE (12)-(17), V2 (23)-(31)") {
    NoGrad off;
    Config c = v2();
    c.alpha = 0.5, c.alpha_dev = 0.25, c.alpha_comm = 0.75;
    const Model m = random_model(c);
    const Told t = told_by(m, randn({3, 6, c.d}, "u", 3));
    CHECK(named(t, "balance") == doctest::Approx(0.5 * loss_by_hand(c, t, 6, 12, false)).epsilon(1e-5));
    CHECK(named(t, "balance_dev") == doctest::Approx(0.25 * loss_by_hand(c, t, 6, 4, false)).epsilon(1e-5));
    CHECK(named(t, "balance_comm") == doctest::Approx(0.75 * loss_by_hand(c, t, 6, 4, true)).epsilon(1e-5));
}

TEST_CASE("balance losses: on a batch's tokens together where its scope is the batch, V3 4.5.3") {
    Config c = v2();
    c.alpha = 0.5, c.scope = Scope::batch;
    const Model m = random_model(c);
    const Tensor u = randn({3, 6, c.d}, "u", 3);
    const double by_sequence = [&] {
        NoGrad off;
        const Told t = told_by(m, u);
        CHECK(named(t, "balance") == doctest::Approx(0.5 * loss_by_hand(c, t, 18, 12, false)).epsilon(1e-5));
        return 0.5 * loss_by_hand(c, t, 6, 12, false);
    }();
    const Told t = told_by(m, u);
    CHECK(item(t.aux.losses[0].value) < 0.99 * by_sequence);     // sequences differ: together they are evener
    check_gradient([&] { return told_by(m, u).aux.losses[0].value; }, {u, layer(m).e});
}

TEST_CASE("balance losses: V2 (27) is the mean of its experts' f, (28) the sum of their P") {
    NoGrad off;
    const int T = 8, E = 12, K = 3, D = 4;
    const Tensor idx = from(random_ints(T * K, E, 1), {T, K}, "idx");
    const std::vector<real> f = values(balance(idx, E, T, 1)), f_dev = values(balance(idx, E, T, 1, D));
    for (int g = 0; g < D; g++) {
        double mean = 0;
        for (int i = 3 * g; i < 3 * g + 3; i++) mean += f[i] / 3;
        CHECK(f_dev[3 * g] == doctest::Approx(mean).epsilon(1e-6));
    }
}

TEST_CASE("balance losses: gradient of all three, f being constant") {
    Config c = v2();
    c.d = 6, c.alpha = 1, c.alpha_dev = 2, c.alpha_comm = 3;
    const Model m = random_model(c);
    const Tensor u = randn({2, 4, c.d}, "u", 3);
    check_gradient(
        [&] {
            const Told t = told_by(m, u);
            return add(add(t.aux.losses[0].value, t.aux.losses[1].value), t.aux.losses[2].value);
        },
        {u, layer(m).e});
}

TEST_CASE("balance losses: train reports each by its name, and none that has no weight") {
    Config c = v2();
    c.alpha = 0.003, c.alpha_dev = 0.05;
    TrainOptions o;
    o.steps = 10;
    Training t(o, initialised(c, seeded(5)));
    const StepReport r = t.train_step([&](long) { return random_sequences(2, 9, c.V, 1); });
    CHECK(r.term("balance") > 0.002);
    CHECK(r.term("balance_dev") > 0.03);
    CHECK(r.term("balance_comm") == 0);
    CHECK(r.loss == doctest::Approx(r.term("lm") + r.term("balance") + r.term("balance_dev")).epsilon(1e-5));
}

// ---------------------------------------------------------------------------------------------- [3] dropping
TEST_CASE("drop: in training a device computes at most its share, evaluation computes all, gates stay as "
          "they are") {
    NoGrad off;
    Config c = v2();
    c.capacity = 1;
    const Model m = random_model(c);
    const Tensor u = randn({2, 9, c.d}, "u", 3), none = zero_ints({2, 9});
    const Told t = told_by(m, u, none);
    const auto idx = rows_of(t.aux.routing[0].idx);
    const std::vector<int> counts = int_values(t.aux.routing[0].counts),
                           processed = int_values(t.aux.routing[0].processed);
    int dropped = 0;
    for (int g = 0; g < 4; g++) {
        int load = 0;
        for (int i = 3 * g; i < 3 * g + 3; i++) {
            load += processed[i];
            dropped += counts[i] - processed[i];
        }
        CHECK(load <= 14);                               // 18 tokens x 3 choices on 4 devices: 13.5
    }
    CHECK(dropped > 0);
    const auto kept = rows_of(drop(t.aux.routing[0].s, t.aux.routing[0].idx, none, 4, 1));
    CHECK(relative_error(t.y, moe_of(layer(m), c, u, idx, kept)) < moe_bar);
    CHECK(same_bits(told_by(m, u, zero_ints({2, 9})).y, t.y));
    CHECK(relative_error(told_by(m, u).y, moe_of(layer(m), c, u)) < moe_bar);       // no `exempt`: evaluation
    CHECK(relative_error(told_by(m, u, from(std::vector<int>(18, 1), {2, 9}, "all")).y,
                         moe_of(layer(m), c, u)) < moe_bar);
}

TEST_CASE("drop: gates that are normalised are normalised over all that was chosen") {
    NoGrad off;
    Config c = v2();
    c.capacity = 0.5, c.norm_gates = true;
    const Model m = random_model(c);
    const Tensor u = randn({2, 9, c.d}, "u", 3), none = zero_ints({2, 9});
    const Told t = told_by(m, u, none);
    const auto kept = rows_of(drop(t.aux.routing[0].s, t.aux.routing[0].idx, none, 4, 0.5));
    CHECK(relative_error(t.y, moe_of(layer(m), c, u, rows_of(t.aux.routing[0].idx), kept)) < moe_bar);
}

TEST_CASE("drop: gradient; what was dropped has none, balance losses count what was chosen") {
    Config c = v2();
    c.d = 6, c.capacity = 0.7, c.alpha_dev = 1;
    const Model m = random_model(c);
    const Tensor u = randn({2, 4, c.d}, "u", 3), none = zero_ints({2, 4});
    check_gradient(
        [&] {
            const Told t = told_by(m, u, none);
            return Outputs{t.y, t.aux.losses[0].value};
        },
        {u, layer(m).e, layer(m).W_g});
    NoGrad off;
    const Told t = told_by(m, u, none);
    CHECK(named(t, "balance_dev") == doctest::Approx(loss_by_hand(c, t, 4, 4, false)).epsilon(1e-5));
}

TEST_CASE("drop: a training step drops and says how much; an evaluation of the same batch does not") {
    Config c = v2();
    c.capacity = 0.5, c.exempt = 0;
    const Examples batch = random_sequences(4, 9, c.V, 1);
    TrainOptions o;
    o.steps = 10, o.lr = 0, o.schedule = "constant", o.warmup = 0;
    Training t(o, random_model(c));
    const StepReport r = t.train_step([&](long) { return batch; });
    CHECK(r.term("dropped") >= 0.45);
    Config all = c;
    all.capacity = 0;
    CHECK(evaluate(t.policy.model, {batch}).nats == evaluate(random_model(all), {batch}).nats);
    CHECK(std::abs(r.term("lm") - evaluate(t.policy.model, {batch}).nats) > 1e-4);
    c.exempt = 1;
    Training spared(o, random_model(c));
    CHECK(spared.train_step([&](long) { return batch; }).term("dropped") == 0);
}

TEST_CASE("drop: a tenth of the sequences is exempt, each by its own tokens, whatever the batch") {
    Config c = v2();
    c.capacity = 1;
    const auto exempt = [&](const std::vector<Examples> &lists) {
        std::vector<int> flags;
        for (const Batch &b : make_batches(lists, c)) {
            const std::vector<int> rows = int_values(b.reading[0].step.exempt);
            for (int row = 0; row < b.B; row++) flags.push_back(rows[row * b.T]);
        }
        return flags;
    };
    const Examples all = random_sequences(400, 5, c.V, 1);
    std::vector<Examples> apart;
    for (const Example &e : all) apart.push_back({e});
    const std::vector<int> flags = exempt({all});
    CHECK(flags == exempt(apart));
    const long spared = std::count(flags.begin(), flags.end(), 1);
    CHECK(spared > 40 - 4 * 6);                          // 40 expected, with a standard deviation of 6
    CHECK(spared < 40 + 4 * 6);
    c.capacity = 0;
    CHECK(!make_batches({all}, c)[0].reading[0].step.exempt);
}

// -------------------------------------------------------------------------------- [4] figures of the papers
TEST_CASE("census: MoE 2B and 16B, V2 and V2-Lite have the papers' parameters, to the one") {
    const auto counted = [](const char *preset) { return census(load_preset(preset)); };
    CHECK(counted("moe-16b").total == 16'375'728'128);               // printed 16.4B
    CHECK(counted("deepseek-v2").total == 235'741'434'880);          // printed 236B
    CHECK(counted("deepseek-v2-lite").total == 15'706'484'224);      // printed 15.7B
    // Table 7: 9 layers of 4 d^2 + 64 experts of 3 d d_e + centroids + two norms, two embeddings, a norm.
    const long d = 1280, d_e = 853;
    CHECK(counted("moe-2b").total == 9 * (4 * d * d + 64 * 3 * d * d_e + 63 * d + 2 * d) + 2 * 8000 * d + d);
    CHECK(counted("moe-2b").total == doctest::Approx(2.0e9).epsilon(0.02));
    CHECK(counted("moe-2b").activated == doctest::Approx(0.3e9).epsilon(0.06));
    CHECK(counted("moe-16b").activated == doctest::Approx(2.8e9).epsilon(0.02));
    // V2 counts one of the two embeddings as activated: 21B, 2.4B.
    CHECK(counted("deepseek-v2").activated - 102400l * 5120 == doctest::Approx(21e9).epsilon(0.01));
    CHECK(counted("deepseek-v2-lite").activated - 102400l * 2048 == doctest::Approx(2.4e9).epsilon(0.025));
}

TEST_CASE("census: FLOPs of a sequence, forward and backward, as MoE prints them") {
    const auto flops = [](Config c) { return census(c).flops_per_token * c.context / 1e12; };
    Config GShard = load_preset("moe-2b");
    CHECK(flops(GShard) == doctest::Approx(4.33).epsilon(0.005));    // 1 + 7 of 63
    GShard.N_s = 0, GShard.N_r = 16, GShard.K_r = 2, GShard.d_e = 3413;
    CHECK(flops(GShard) == doctest::Approx(4.33).epsilon(0.005));    // printed equal
    Config dense = GShard;
    dense.N_r = 0;
    CHECK(flops(dense) == doctest::Approx(2.88).epsilon(0.005));
    dense.d_ff *= 16;
    CHECK(flops(dense) == doctest::Approx(24.62).epsilon(0.005));    // Dense x 16
    CHECK(flops(load_preset("moe-16b")) == doctest::Approx(74.4).epsilon(0.02));
}

TEST_CASE("census: a token's cache in V2: 34,560 numbers, 1.76% of attention with as many heads") {
    const Config c = load_preset("deepseek-v2"), lite = load_preset("deepseek-v2-lite");
    CHECK(census(c).cache_numbers * c.n_layers == 34'560);
    CHECK(census(lite).cache_numbers * lite.n_layers == 15'552);                     // Table 9
    CHECK(census(c).cache_numbers_MHA * c.n_layers == 1'966'080);
    const Config dense = load_preset("deepseek-llm-67b");
    const double of_67b = 16.0 * census(dense).cache_numbers * dense.n_layers;       // in bits
    CHECK(1 - 6.0 * 34'560 / of_67b == doctest::Approx(0.933).epsilon(1e-3));        // with 6 bits a number
    CHECK(1 - 16.0 * 34'560 / of_67b == doctest::Approx(0.822).epsilon(1e-3));       // with 16
}

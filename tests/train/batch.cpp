// Batches: ragged sequences, packed documents, weights and kinds of targets. What a sequence gives must
// not depend on what stands beside it.
#include "src/train/batch.h"

#include <cmath>
#include <map>

#include "src/model/config.h"
#include "src/train/training.h"
#include "tests/check.h"

namespace {
Config nano() {
    Config c = load_preset("v3-nano");
    c.alpha = 0.1;                                       // so that the balance loss is seen
    return c;
}

// Each weight's gradient, scaled, and each router's load, of one batch.
struct Flow {
    std::map<std::string, std::vector<double>> gradient;
    std::vector<std::vector<int>> load;
};
Flow flow_of(Model &m, const Batch &b) {
    visit(m, [](const std::string &, Tensor &w, const Spec &) { zero_grad(w); });
    const TapeGuard clear;
    Aux aux;
    backward(language_modelling(m, b, &aux).total);
    Flow f;
    for (const Routing &r : aux.routing) f.load.push_back(int_values(r.counts));
    visit(m, [&](const std::string &name, Tensor &w, const Spec &) {
        if (w.s->wants_grad) f.gradient[name] = Numbers(gradient(w)).v;
    });
    return f;
}
void add_to(Flow &sum, const Flow &part) {
    for (const auto &[name, g] : part.gradient) {
        auto &s = sum.gradient[name];
        s.resize(g.size());
        for (size_t i = 0; i < g.size(); i++) s[i] += g[i];
    }
    sum.load.resize(std::max(sum.load.size(), part.load.size()));
    for (size_t r = 0; r < part.load.size(); r++) {
        sum.load[r].resize(part.load[r].size());
        for (size_t e = 0; e < part.load[r].size(); e++) sum.load[r][e] += part.load[r][e];
    }
}
void check_same_flow(const Flow &got, const Flow &expected) {
    double worst = 0;
    for (const auto &[name, g] : expected.gradient)
        worst = std::max(worst, relative_error(got.gradient.at(name), g));
    INFO("worst relative error of a weight's gradient ", worst);
    CHECK(worst < (in_double ? 1e-13 : 1e-5));
    CHECK(got.load == expected.load);
}
}  // namespace

// Measured: the worst weight's gradient differs by 1.2e-6 in float (a mean over 3 is not a sum of thirds).
TEST_CASE("batch: ragged sequences give what each gives alone: gradients, balance loss, expert load") {
    Model m = initialised(nano(), seeded(3));
    const Examples ragged = examples({random_ints(14, m.c.V, 1), random_ints(3, m.c.V, 2),
                                      random_ints(9, m.c.V, 3), random_ints(2, m.c.V, 4)});
    const Flow together = flow_of(m, make_batch(ragged, 1));
    std::vector<Examples> one_by_one;
    for (const Example &e : ragged) one_by_one.push_back({e});
    Flow alone;
    for (const Batch &b : make_batches(one_by_one, m.c)) add_to(alone, flow_of(m, b));
    check_same_flow(together, alone);
}

TEST_CASE("batch: documents packed into one sequence give what each gives alone") {
    Config c = nano();
    c.alpha = 0;                                         // of the balance loss the sequence is the unit
    Model m = initialised(c, seeded(3));
    const std::vector<std::vector<int>> documents = {random_ints(6, c.V, 1), random_ints(4, c.V, 2),
                                                     random_ints(8, c.V, 3)};
    Example packed;
    for (const auto &d : documents) {
        packed.starts.push_back((int)packed.ids.size());
        packed.ids.insert(packed.ids.end(), d.begin(), d.end());
    }
    std::vector<Examples> one_by_one;
    for (const auto &d : documents) one_by_one.push_back(examples({d}));
    Flow alone;
    for (const Batch &b : make_batches(one_by_one, m.c)) add_to(alone, flow_of(m, b));
    Flow together = flow_of(m, make_batch({packed}, 1));
    together.load = alone.load;                  // the last token of a document is read, and predicts nothing
    check_same_flow(together, alone);
}

TEST_CASE("batch: positions, spans and targets of packed and padded sequences") {
    Example packed = {.ids = {10, 11, 12, 20, 21}, .weight = {}, .starts = {0, 3}, .kind = {}};
    const Batch b = make_batch({packed, {.ids = {30, 31}}}, 1);
    CHECK(b.T == 4);
    CHECK(b.tokens == 5);
    CHECK(b.divisor == 4);                               // 11 12 . 21 of the first, 31 of the second
    const Reading &r = b.reading[0];
    CHECK(int_values(r.step.pos) == std::vector<int>{0, 1, 2, 0, 0, -1, -1, -1});
    CHECK(int_values(r.next) == std::vector<int>{11, 12, -1, 21, 31, -1, -1, -1});
    CHECK(int_values(r.step.where.keys) ==
          std::vector<int>{0, 0, 0, 1, 0, 2, 3, 3, 0, 0, 0, -1, 0, -1, 0, -1});
    const Reading &module = b.reading[1];                // reads a token ahead, predicts two ahead
    CHECK(int_values(module.step.ids) == std::vector<int>{11, 12, 20, 0, 0, 0});
    CHECK(int_values(module.next) == std::vector<int>{12, -1, -1, -1, -1, -1});
}

TEST_CASE("batch: a target of weight 0 is read and not learned, others count by their weight") {
    NoGrad off;
    const Model m = initialised(nano(), seeded(3));
    const std::vector<int> ids = random_ints(7, m.c.V, 1);
    const auto loss = [&](const std::vector<real> &weight) {
        return (double)item(
            language_modelling(m, make_batch({{.ids = ids, .weight = weight}}, 0)).term("lm"));
    };
    const double first = loss({0, 1, 0, 0, 0, 0, 0}), last = loss({0, 0, 0, 0, 0, 0, 1});
    CHECK(loss({0, 3, 0, 0, 0, 0, 1}) == doctest::Approx((3 * first + last) / 4).epsilon(1e-6));
    CHECK(loss({9, 1, 1, 1, 1, 1, 1}) == loss({}));      // nothing predicts the first token
    CHECK(error_of([&] { loss({1, 0, 0, 0, 0, 0, 0}); }).find("no token to learn") != std::string::npos);
}

TEST_CASE("batch: a kind's loss is reported apart, over all micro-batches, and changes no gradient") {
    Model m = initialised(nano(), seeded(3));
    const Examples mixed = {{.ids = random_ints(9, m.c.V, 1), .kind = "code"},
                            {.ids = random_ints(5, m.c.V, 2)},
                            {.ids = random_ints(7, m.c.V, 3), .kind = "code"}};
    Examples plain = mixed;
    for (Example &e : plain) e.kind.clear();
    check_same_flow(flow_of(m, make_batch(mixed, 1)), flow_of(m, make_batch(plain, 1)));
    TrainOptions o;
    o.accumulate = 3;
    o.lr = 1e-30;
    Training t(o, initialised(nano(), seeded(3)));
    const StepReport r = t.train_step([&](long i) { return Examples{mixed[i]}; });
    NoGrad off;
    const double code = item(language_modelling(m, make_batch({mixed[0], mixed[2]}, 0)).term("lm"));
    CHECK(r.term("lm_code") == doctest::Approx(code).epsilon(1e-6));
    CHECK(r.loss ==
          doctest::Approx(r.term("lm") + m.c.lambda * r.term("mtp") + r.term("balance")).epsilon(1e-6));
}

TEST_CASE("batch: micro-batches of unequal lengths weigh by their targets: one loss, one gradient norm") {
    const Examples list = examples({random_ints(12, 258, 1), random_ints(3, 258, 2)});
    TrainOptions whole, parts;
    whole.batch = 2, parts.batch = 1, parts.accumulate = 2;
    Training a(whole, initialised(nano(), seeded(3))), b(parts, initialised(nano(), seeded(3)));
    const StepReport one = a.train_step([&](long) { return list; });
    const StepReport two = b.train_step([&](long i) { return Examples{list[i]}; });
    CHECK(one.loss == doctest::Approx(two.loss).epsilon(1e-6));
    CHECK(one.gradient_norm == doctest::Approx(two.gradient_norm).epsilon(1e-5));
}

TEST_CASE("routing: choices that are imposed are taken, and the gates come from the scores") {
    NoGrad off;
    const Model m = initialised(nano(), seeded(3));
    const Batch b = make_batch(examples({random_ints(9, m.c.V, 1)}), 1);
    Aux first, second, third;
    const double own = item(language_modelling(m, b, &first).total);
    std::vector<Tensor> kept;
    for (const Routing &r : first.routing) kept.push_back(r.idx);
    Batch again = b;
    for (Reading &r : again.reading) r.step.imposed = &kept;
    CHECK(item(language_modelling(m, again, &second).total) == own);
    std::vector<int> other = int_values(kept[0]);
    for (int &i : other) i = (i + 1) % m.c.N_r;
    kept[0] = from(other, kept[0].shape, "idx");
    CHECK(item(language_modelling(m, again, &third).total) != own);
    CHECK(int_values(third.routing[0].idx) == other);
}

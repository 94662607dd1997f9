// training.cpp: from a batch of tokens to better weights, and nothing that should not matter matters: neither
// the number of threads, nor an interruption, nor how a batch is cut, nor the device.
//
//   [1] the gradient of every weight   [2] objectives   [3] schedules   [4] the optimiser
//   [5] a run: repeat, resume   [6] data   [7] parity of whole runs
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>
#include <unistd.h>

#include "src/base/json.h"
#include "src/base/safetensors.h"
#include "src/text/games.h"
#include "src/text/stories.h"
#include "src/text/tokenizer.h"
#include "src/infer/decoder.h"
#include "src/model/config.h"
#include "src/model/huggingface.h"
#include "src/model/weights.h"
#include "src/train/training.h"
#include "tests/models.h"

namespace fs = std::filesystem;

namespace {
TrainOptions usual(long steps) {
    TrainOptions o;
    o.preset = "v3-nano";
    o.steps = steps;
    o.lr = 0.003;
    o.warmup = 2;
    return o;
}

// All that a run has changed, in the order of visit(): weights, biases, loads.
std::vector<Tensor> weights(Model &m) {
    std::vector<Tensor> list;
    visit(m, [&](const std::string &, Tensor &w, const Spec &) { list.push_back(w); });
    return list;
}
void check_same_bits(Model &a, Model &b) {
    const auto x = weights(a), y = weights(b);
    for (size_t i = 0; i < x.size(); i++) {
        INFO(std::string(x[i].s->name));
        CHECK(same_bits(x[i], y[i]));
    }
}

struct Folder {                                          // of one test, gone afterwards
    fs::path path = fs::temp_directory_path() / cat("deepseek-test-", getpid());
    Folder() { fs::remove_all(path); }
    ~Folder() { fs::remove_all(path); }
};
}  // namespace

// -------------------------------------------------------------------------- [1] the gradient of every weight
// The whole model at once is too large for entry by entry (that is done layer by layer in 01, 03 and 04). So
// each weight is moved along random directions R, and the slope of the loss is held against <dW, R>: a wrong
// entry anywhere shows, by its share of |dW|. Choices are frozen, so that no step flips the routing.
namespace {
void check_every_gradient(const Config &c, double bar) {
    Model m = random_model(c);
    const Batch batch = make_batch(random_sequences(2, 7, c.V, 1), c.D);
    const auto loss = [&] {
        Aux aux;
        return language_modelling(m, batch, &aux).total;
    };
    const Restored keep(choices);
    choices = {.mode = Choices::record};
    {
        const TapeGuard clear;
        backward(loss());
    }
    choices.mode = Choices::replay;
    NoGrad off;
    double worst = 0;
    visit(m, [&](const std::string &name, Tensor &W, const Spec &spec) {
        if (spec.group == Group::bias) return;
        const std::vector<double> dW = Numbers(gradient(W)).v;
        const double size = std::sqrt(std::inner_product(dW.begin(), dW.end(), dW.begin(), 0.0));
        CHECK_MESSAGE(size > 0, name, " gets no gradient");
        const Tensor start = clone(W);
        for (uint64_t direction = 1; direction <= 3; direction++) {
            const Tensor R = randn(spec.shape, "R", direction);
            const auto at = [&](double shift) {
                copy_into(W, start);
                scale_add(W, R, 1, shift);
                choices.next = 0;
                return (double)item(loss());
            };
            const double h = 1e-4, slope = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
            const std::vector<double> r = Numbers(R).v;
            const double error =
                std::abs(slope - std::inner_product(dW.begin(), dW.end(), r.begin(), 0.0)) / size;
            CHECK_MESSAGE(error < bar, name, " along direction ", direction, ": relative error ", error);
            worst = std::max(worst, error);
        }
        copy_into(W, start);
    });
    MESSAGE(c.name, ": worst relative error ", worst);
}
}  // namespace

// Differences of a loss of about 6 nats need double: rounding alone is 1e-10 here, in float it would be
// everything. Measured in double: llm-nano 8.2e-10, v3-nano 8.6e-9, tied with YaRN 1.1e-9.
TEST_CASE("language_modelling: gradient of every weight of llm-nano" * doctest::skip(!in_double)) {
    check_every_gradient(load_preset("llm-nano"), 1e-7);
}
TEST_CASE("language_modelling: gradient of every weight of v3-nano" * doctest::skip(!in_double)) {
    Config c = load_preset("v3-nano");
    c.alpha = 0.1;                                       // so that the balance loss is seen
    check_every_gradient(c, 1e-7);
}
TEST_CASE("language_modelling: gradient of every weight of V2's and DeepSeekMoE's experts" *
          doctest::skip(!in_double)) {
    Config v2 = load_preset("v3-nano"), hash = load_preset("llm-nano");
    v2.gate = Gate::softmax, v2.norm_gates = v2.selection_bias = false, v2.group_best = 1, v2.D = 0;
    v2.alpha = 0.1, v2.alpha_dev = 0.2, v2.alpha_comm = 0.3;
    check_every_gradient(v2, 1e-7);
    hash.gate = Gate::hash, hash.N_r = 4, hash.K_r = 1, hash.n_dense = 0, hash.d_e = 8;
    check_every_gradient(hash, 1e-7);
}
TEST_CASE("language_modelling: gradient of every weight, tied, with YaRN" * doctest::skip(!in_double)) {
    Config c = load_preset("llm-nano");
    c.tied = true;
    c.scaling = rope_yarn;
    c.factor = 8, c.original = 16;
    check_every_gradient(c, 1e-7);
}

// -------------------------------------------------------------------------------------------- [2] objectives
TEST_CASE("language_modelling: shorter sequences of a batch are padded, and padding counts nowhere") {
    NoGrad off;
    const Config c = load_preset("llm-nano");
    const Model m = random_model(c);
    const Sequences ragged = {random_ints(9, c.V, 1), random_ints(4, c.V, 2), random_ints(6, c.V, 3)};
    double nats = 0;
    for (const auto &s : ragged)
        nats += (double)item(language_modelling(m, make_batch(examples({s}), 0)).term("lm")) * (s.size() - 1);
    const Batch all = make_batch(examples(ragged), 0);
    CHECK(all.tokens == 8 + 3 + 5);
    CHECK(item(language_modelling(m, all).term("lm")) ==
          doctest::Approx(nats / 16).epsilon(in_double ? 1e-12 : 1e-6));
}

TEST_CASE("language_modelling: a model that knows nothing needs ln V nats a token") {
    NoGrad off;
    Config c = load_preset("llm-nano");
    c.init_std = 0;
    const Model m = initialised(c, seeded(5));
    const Batch batch = make_batch(random_sequences(2, 8, c.V, 1), 0);
    CHECK(item(language_modelling(m, batch).term("lm")) == doctest::Approx(std::log(258.0)).epsilon(1e-6));
}

// --------------------------------------------------------------------------------------------- [3] schedules
TEST_CASE("learning_rate: warm-up is a line from 1/n to 1, whatever comes after") {
    for (const char *schedule : {"constant", "cosine", "multistep", "wsd"}) {
        TrainOptions o = usual(1000);
        o.schedule = schedule;
        o.lr = 2;
        o.warmup = 4;
        INFO(std::string(schedule));
        CHECK(learning_rate(o, 0) == 0.5);
        CHECK(learning_rate(o, 1) == 1);
        CHECK(learning_rate(o, 3) == 2);
        CHECK(learning_rate(o, 4) == doctest::Approx(2).epsilon(1e-12));
        o.warmup = 0;
        CHECK(learning_rate(o, 0) == doctest::Approx(2).epsilon(1e-12));
        o.warmup = -1;                                   // a tenth of the run, at most 100
        CHECK(learning_rate(o, 49) == 1);
        o.steps = 100;
        CHECK(learning_rate(o, 4) == 1);
    }
}

TEST_CASE("learning_rate: multistep is 1, then 0.316 from 80% and 0.1 from 90% of the run") {
    TrainOptions o = usual(1000);
    o.schedule = "multistep";
    o.lr = 1;
    CHECK(learning_rate(o, 799) == 1);
    CHECK(learning_rate(o, 800) == 0.316);
    CHECK(learning_rate(o, 899) == 0.316);
    CHECK(learning_rate(o, 900) == 0.1);
    CHECK(learning_rate(o, 999) == 0.1);
}

TEST_CASE("learning_rate: cosine is at the mean in the middle and at a tenth at the end") {
    TrainOptions o = usual(1100);
    o.schedule = "cosine";
    o.lr = 1;
    o.warmup = 100;
    CHECK(learning_rate(o, 600) == doctest::Approx(0.55).epsilon(1e-12));
    CHECK(learning_rate(o, 350) == doctest::Approx(0.1 + 0.45 * (1 + std::sqrt(0.5))).epsilon(1e-12));
    CHECK(learning_rate(o, 1100) == doctest::Approx(0.1).epsilon(1e-12));
}

TEST_CASE("learning_rate: wsd is stable up to 80%, then a line down to 0; constant stays") {
    TrainOptions o = usual(1000);
    o.schedule = "wsd";
    o.lr = 1;
    CHECK(learning_rate(o, 799) == 1);
    CHECK(learning_rate(o, 900) == doctest::Approx(0.5).epsilon(1e-12));
    CHECK(learning_rate(o, 1000) == doctest::Approx(0).epsilon(1e-12));
    o.schedule = "constant";
    CHECK(learning_rate(o, 999) == 1);
}

// ----------------------------------------------------------------------------------------- [4] the optimiser
TEST_CASE("optimiser: decay makes matrices smaller, and leaves gains and the embedding alone") {
    const Config c = load_preset("v3-nano");
    TrainOptions with = usual(10), without = usual(10);
    with.weight_decay = 0.5;
    without.weight_decay = 0;
    with.lr = without.lr = 0.25;                         // large, so that decay is far above rounding
    with.warmup = without.warmup = 0;
    Model start = initialised(c, seeded(1));
    Training a(with, initialised(c, seeded(1))), b(without, initialised(c, seeded(1)));
    const Examples batch = random_sequences(2, 8, c.V, 1);
    a.train_step([&](long) { return batch; });
    b.train_step([&](long) { return batch; });
    const auto W0 = weights(start), decayed = weights(a.policy.model), W = weights(b.policy.model);
    size_t i = 0;
    visit(a.policy.model, [&](const std::string &name, Tensor &, const Spec &spec) {
        INFO(name);
        if (decays(spec.group)) {                            // the same step, and lr * decay * W less
            NoGrad off;
            const Tensor expected = add(W[i], times(W0[i], -0.25 * 0.5));
            CHECK(relative_error(decayed[i], expected) < (in_double ? 1e-14 : 1e-6));
        } else {
            CHECK(same_bits(decayed[i], W[i]));
        }
        i++;
    });
}

TEST_CASE("optimiser: all gradients together are clipped to the norm asked for, smaller ones are not") {
    const Config c = load_preset("v3-nano");
    const Examples batch = random_sequences(2, 8, c.V, 1);
    const auto norms =
        [&](double clip) {   // reported; and of the first moments, which are 0.1 of the gradients
            TrainOptions o = usual(10);
            o.clip = clip;
            Training t(o, initialised(c, seeded(1)));
            const double reported = t.train_step([&](long) { return batch; }).gradient_norm;
            double squares = 0;
            for (const auto &e : t.policy.optimiser.entries)
                for (double m : Numbers(e.m).v) squares += m * m;
            return std::pair{reported, std::sqrt(squares) / 0.1};
        };
    const auto [norm, unclipped] = norms(0);
    CHECK(norm > 0.1);
    CHECK(unclipped == doctest::Approx(norm).epsilon(1e-5));
    const auto [again, clipped] = norms(norm / 8);
    CHECK(again == norm);                                // what is reported is the norm before
    CHECK(clipped == doctest::Approx(norm / 8).epsilon(1e-5));
    CHECK(norms(2 * norm).second == doctest::Approx(norm).epsilon(1e-5));
}

// Gradients, the worst of all weights: float 5.9e-7, double 9.2e-16.
TEST_CASE("training: four accumulated batches of 2 are one batch of 8, up to rounding") {
    Config c = load_preset("v3-nano");
    TrainOptions whole = usual(10), parts = usual(10);
    parts.accumulate = 4;
    Training a(whole, initialised(c, seeded(1))), b(parts, initialised(c, seeded(1)));
    const Examples batch = random_sequences(8, 12, c.V, 1);
    const StepReport one = a.train_step([&](long) { return batch; });
    const StepReport four =
        b.train_step([&](long at) { return Examples(batch.begin() + at, batch.begin() + at + 2); });
    CHECK(a.position == 1 * 8);
    CHECK(b.position == 4 * 2);
    CHECK(one.tokens == four.tokens);
    CHECK(one.loss == doctest::Approx(four.loss).epsilon(1e-6));
    CHECK(one.term("balance") == doctest::Approx(four.term("balance")).epsilon(1e-5));
    CHECK(one.max_vio == four.max_vio);
    for (size_t i = 0; i < a.policy.optimiser.entries.size(); i++) {
        INFO(std::string(a.policy.optimiser.entries[i].W.s->name));
        CHECK(relative_error(gradient(b.policy.optimiser.entries[i].W),
                             gradient(a.policy.optimiser.entries[i].W)) < (in_double ? 1e-14 : 2e-6));
    }
}

TEST_CASE("training: a step whose gradient is not finite is not taken: weights, moments and step stay") {
    const Config c = load_preset("v3-nano");
    for (int case_ = 0; case_ < 2; case_++) {            // a NaN loss; a finite loss whose gradient overflows
        Training t(usual(10), initialised(c, seeded(1)));
        t.train_step([&](long) { return random_sequences(1, 8, c.V, 1); });
        std::vector<real> g = values(t.policy.model.g);
        g[3] = case_ == 0 ? (real)NAN : largest_real / 4;
        assign(t.policy.model.g, g);
        Model before = clone(t.policy.model);
        const auto m = values(t.policy.optimiser.entries[0].m);
        const std::string error =
            error_of([&] { t.train_step([&](long) { return random_sequences(1, 8, c.V, 1); }); });
        CHECK(error.find("step 2 was not taken") == 0);
        check_same_bits(t.policy.model, before);
        CHECK(values(t.policy.optimiser.entries[0].m) == m);
        CHECK(t.step == 1);
        CHECK(t.position == 1);
    }
}

TEST_CASE("training: weights that are not finite are not saved over those that were") {
    const Folder folder;
    const Config c = load_preset("v3-nano");
    Training t(usual(10), initialised(c, seeded(1)));
    t.save(folder.path);
    Model good = load_model(folder.path);
    std::vector<real> head = values(t.policy.model.head);
    head[5] = INFINITY;
    assign(t.policy.model.head, head);
    CHECK(error_of([&] { t.save(folder.path); }).find("head holds a inf") != std::string::npos);
    Model still = load_model(folder.path);
    check_same_bits(good, still);
    CHECK(saved_run(folder.path).step == 0);
}

TEST_CASE(
    "training: the weights of a step are called sound once the next gradient is finite, before they move") {
    Training t(usual(10), initialised(load_preset("v3-nano"), seeded(1)));
    int sound = 0;
    const auto step = [&] {
        Model before = clone(t.policy.model);
        t.train_step([&](long) { return random_sequences(1, 8, 258, 1); },
                     [&] {
                         sound++;
                         check_same_bits(t.policy.model, before);
                     });
    };
    step();
    CHECK(sound == 1);
    CHECK(t.step == 1);
    std::vector<real> g = values(t.policy.model.g);
    g[3] = largest_real / 4;
    assign(t.policy.model.g, g);
    CHECK_THROWS_AS(step(), Diverged);
    CHECK(sound == 1);
}

TEST_CASE("freeze: frozen weights keep their bits, have no gradient and no moments; the others move") {
    const Config c = load_preset("v3-nano");
    Model m = initialised(c, seeded(1));
    CHECK(error_of([&] { freeze(m, {"blocks.9.*"}); }).find("--freeze blocks.9.*") == 0);
    CHECK(freeze(m, {"blocks.0.*", "Emb", "*.moe.b"}) > 0);
    Model before = clone(m);
    Training t(usual(10), std::move(m));
    for (const auto &e : t.policy.optimiser.entries) CHECK(!e.name.starts_with("blocks.0."));
    t.train_step([&](long) { return random_sequences(2, 8, c.V, 1); });
    const auto then = weights(before), now = weights(t.policy.model);
    size_t i = 0, moved = 0;
    visit(t.policy.model, [&](const std::string &name, Tensor &w, const Spec &) {
        const bool frozen = name.starts_with("blocks.0.") || name == "Emb" || name.ends_with(".moe.b");
        INFO(name);
        if (frozen) CHECK(same_bits(then[i], now[i]));
        if (frozen) CHECK(!w.s->grad);
        moved += !frozen && !same_bits(then[i], now[i]);
        i++;
    });
    CHECK(moved > i / 2);
}

TEST_CASE("adopt: what has a name in common is taken over, the rest is new; another shape is refused") {
    Config plain = load_preset("v3-nano");
    plain.D = 0;
    Config with = plain;
    with.D = 1;
    Model from = initialised(plain, seeded(1)), m = initialised(with, seeded(2));
    const Model fresh = initialised(with, seeded(2));
    const Adopted a = adopt(m, from);
    CHECK(a.left_behind.empty());
    CHECK(a.fresh.size() == 24);                         // g_h, g_e, M, g_out; the block's 2 + 10 + 8
    CHECK(a.taken > 20);
    CHECK(same_bits(m.head, from.head));
    CHECK(same_bits(m.mtp[0].M, fresh.mtp[0].M));
    Config wide = plain;
    wide.d_e++;
    Model other = initialised(wide, seeded(3));
    CHECK(error_of([&] {
              adopt(other, from);
          }).find("blocks.1.moe.W_g is (8,16,32) there and (8,17,32) here") == 0);
}

TEST_CASE("initialised: a component more leaves the numbers of all others alone") {
    Config plain = load_preset("v3-nano"), more = plain;
    more.D = 2, more.n_layers++;
    Model a = initialised(plain, seeded(7)), b = initialised(more, seeded(7));
    const Adopted same = adopt(a, b);                    // nothing to compare with but bits:
    CHECK(same.fresh.empty());
    Model untouched = initialised(plain, seeded(7));
    check_same_bits(a, untouched);
}

TEST_CASE("training: a loss that is no number stops the run with an error") {
    const Config c = load_preset("v3-nano");
    Training t(usual(10), initialised(c, seeded(1)));
    std::vector<real> g = values(t.policy.model.g);
    g[3] = NAN;
    assign(t.policy.model.g, g);
    const std::string error =
        error_of([&] { t.train_step([&](long) { return random_sequences(1, 8, c.V, 1); }); });
    CHECK(error.find("was not taken") != std::string::npos);
}

// --------------------------------------------------------------------------------- [5] a run: repeat, resume
namespace {
struct Stories {                                         // what `train --data stories` reads
    Tokenizer bytes = byte_tokenizer();
    Corpus corpus = load_corpus("stories", bytes, 1);
    Examples read(long position, int B, int T) { return examples(windows(corpus, bytes, position, B, T)); }
};
}  // namespace

TEST_CASE("training: the loss falls on stories with v3-nano, on held-out ones too") {
    Stories stories;
    TrainOptions o = usual(60);
    o.lr = 0.01;
    Training t(o, initialised(load_preset("v3-nano"), seeded(1)));
    std::vector<Examples> held_out(1);
    for (int i = 0; i < 8; i++) {
        held_out[0].push_back({.ids = stories.corpus.valid.read(i * 32, 33)});
    }
    const double before = evaluate(t.policy.model, held_out).nats;
    StepReport first = {}, last = {};
    for (int step = 0; step < 60; step++) {
        last = t.train_step([&](long position) { return stories.read(position, 8, 32); });
        if (step == 0) first = last;
    }
    const double after = evaluate(t.policy.model, held_out).nats;
    INFO("lm ", first.term("lm"), " to ", last.term("lm"), ", mtp ", first.term("mtp"), " to ",
         last.term("mtp"), ", held out ", before, " to ", after);
    CHECK(first.term("lm") > 5.3);                               // ln 258 = 5.55
    CHECK(last.term("lm") < 3.2);
    CHECK(last.term("mtp") < 3.4);
    CHECK(after < 3.2);
}

TEST_CASE("evaluate: by kind, a model that is made to be right scores 1, and 0 where it is wrong") {
    const Model m = random_model(load_preset("v3-nano"));
    Generation g;
    g.sampling.temperature = 0, g.max_tokens = 8;
    std::vector<Examples> batches;
    double nats = 0;
    for (int i = 0; i < 6; i++) {                        // what it says itself, and each time something else
        Example e = {
            .ids = random_ints(5 + i, m.c.V, i), .weight = std::vector<real>(5 + i, 0), .kind = "own"};
        const Sequences added = generate(m, {e.ids}, g);
        for (int id : added[0]) e.ids.push_back(id), e.weight.push_back(1);
        Example other = {.ids = e.ids, .weight = std::vector<real>(e.ids.size(), 0), .kind = "other"};
        other.ids.back() = (other.ids.back() + 1) % m.c.V, other.weight.back() = 1;
        Example both = e;
        both.kind = "both", both.weight.assign(e.ids.size(), 0), both.weight.back() = 3;
        Example wrong = other;
        wrong.kind = "both";
        batches.push_back({e, other});
        batches.push_back({both, wrong, {.ids = e.ids}});
        const NoGrad off;
        nats += item(language_modelling(m, make_batch({other}, 0)).term("lm")) / 6;
    }
    const Evaluation all = evaluate(m, batches);
    CHECK(all.kinds.size() == 3);
    CHECK(all.kind("own")->right == 1);
    CHECK(all.kind("other")->right == 0);
    CHECK(all.kind("both")->right == doctest::Approx(0.75).epsilon(1e-6));
    CHECK(all.kind("other")->nats == doctest::Approx(nats).epsilon(1e-5));
    CHECK(!all.kind(""));
}

TEST_CASE("training: facts are learned by heart, and only what is asked is scored") {
    const Tokenizer words = load_game("facts")->tokenizer();
    Corpus corpus = load_corpus("facts:facts=16,zipf=0,grammar=0", words, 1);
    Config c = load_preset("llm-nano");
    c.V = words.size();
    TrainOptions o = usual(80);
    o.lr = 0.02;
    Training t(o, initialised(c, seeded(1)));
    StepReport r = {};
    for (int step = 0; step < 80; step++)
        r = t.train_step([&](long position) { return examples(corpus, words, position, 16, 3); });
    CHECK(r.term("lm_fact") == doctest::Approx(r.loss));
    const Evaluation e = evaluate(t.policy.model, held_out_examples(corpus, 16, 3, 64));
    INFO("loss ", r.loss, ", held out ", e.shown());
    CHECK(e.kinds.size() == 1);
    CHECK(e.kind("fact")->right == 1);
    CHECK(e.kind("fact")->nats == doctest::Approx(e.nats).epsilon(1e-6));
    CHECK(e.nats < 0.5);
}

TEST_CASE("training: the same seed gives the same bits, another seed does not") {
    const auto run = [](int seed) {
        const Config c = load_preset("v3-nano");
        Training t(usual(10), initialised(c, seed));
        for (int step = 0; step < 3; step++)
            t.train_step([&](long at) { return random_sequences(2, 8, c.V, at); });
        return values(t.policy.model.head);
    };
    CHECK(run(1) == run(1));
    CHECK(run(1) != run(2));
}

TEST_CASE("training: the number of threads changes no bit") {
    const Config c = load_preset("v3-tiny");             // large enough that every op does cut its work
    const Examples batch = random_sequences(3, 40, c.V, 1);
    Training a(usual(10), initialised(c, seeded(1))), b(usual(10), initialised(c, seeded(1)));
    for (int step = 0; step < 2; step++) {
        StepReport one, two;
        {
            const WithThreads run(1);
            one = a.train_step([&](long) { return batch; });
        }
        {
            const WithThreads run(2);
            two = b.train_step([&](long) { return batch; });
        }
        CHECK(one.loss == two.loss);
        CHECK(one.gradient_norm == two.gradient_norm);
    }
    check_same_bits(a.policy.model, b.policy.model);
}

TEST_CASE("training: six steps are three steps, a checkpoint and three more, to the bit") {
    const Folder folder;
    const Config c = load_preset("v3-nano");
    const TrainOptions o = usual(6);
    Stories all, before, after;
    std::vector<double> losses;
    Training whole(o, initialised(c, seeded(1)));
    for (int step = 0; step < 6; step++)
        losses.push_back(whole.train_step([&](long at) { return all.read(at, 2, 16); }).loss);
    {
        Training first(o, initialised(c, seeded(1)));
        for (int step = 0; step < 3; step++)
            first.train_step([&](long at) { return before.read(at, 2, 16); });
        first.save(folder.path);
    }
    Training second(o, initialised(c, seeded(77)));       // other weights: everything must come from the file
    second.resume(folder.path);
    CHECK(second.step == 3);
    CHECK(second.position == 6);
    for (int step = 3; step < 6; step++)
        CHECK(second.train_step([&](long at) { return after.read(at, 2, 16); }).loss == losses[step]);
    check_same_bits(whole.policy.model, second.policy.model);
    for (size_t i = 0; i < whole.policy.optimiser.entries.size(); i++) {
        CHECK(same_bits(whole.policy.optimiser.entries[i].m, second.policy.optimiser.entries[i].m));
        CHECK(same_bits(whole.policy.optimiser.entries[i].v, second.policy.optimiser.entries[i].v));
    }
}

TEST_CASE("training: a checkpoint is the model, for others too") {
    const Folder folder;
    const Config c = load_preset("v3-nano");
    Training t(usual(6), initialised(c, seeded(1)));
    t.train_step([&](long) { return random_sequences(2, 8, c.V, 1); });
    t.save(folder.path);
    Model loaded = load_model(folder.path);
    check_same_bits(t.policy.model, loaded);
}

TEST_CASE("sharing: a sampler in bf16 follows the policy, and only its products with matrices are rounded") {
    Training t(usual(6), initialised(load_preset("v3-nano"), seeded(1)));
    Model sampler = sharing(t.policy.model, bf16);
    CHECK(sampler.blocks[1].moe.W_g.s->precision == bf16);
    for (const Tensor *w : {&sampler.Emb, &sampler.head, &sampler.g, &sampler.blocks[1].moe.e})
        CHECK(w->s->precision == f32);
    CHECK(t.policy.model.blocks[1].moe.W_g.s->precision == f32);
    const Examples batch = random_sequences(2, 8, 258, 1);
    const auto loss = [&](const Model &m) {
        NoGrad off;
        return (double)item(language_modelling(m, make_batch(batch, 0)).term("lm"));
    };
    t.train_step([&](long) { return batch; });
    check_same_bits(sampler, t.policy.model);
    CHECK(loss(sampler) != loss(t.policy.model));
    CHECK(loss(sampler) == doctest::Approx(loss(t.policy.model)).epsilon(0.01));
    CHECK(loss(sharing(sampler, f32)) == loss(t.policy.model));
}

TEST_CASE("training: with linear = bf16 the loss falls as in float, and a checkpoint remembers it") {
    const Folder folder;
    Config c = load_preset("v3-nano");
    c.linear = bf16;
    Training t(usual(30), initialised(c, seeded(1)));
    const Examples batch = random_sequences(2, 12, 258, 1);
    const double first = t.train_step([&](long) { return batch; }).loss;
    double last = 0;
    for (int step = 1; step < 30; step++) last = t.train_step([&](long) { return batch; }).loss;
    CHECK(last < first - 2);
    t.save(folder.path);
    const Model loaded = load_model(folder.path);
    CHECK(loaded.c.linear == bf16);
    CHECK(loaded.blocks[0].ffn.W_g.s->precision == bf16);
}

TEST_CASE("checkpoint: moments are kept by the name of their weight") {
    const Folder folder;
    Training t(usual(6), initialised(load_preset("v3-nano"), seeded(1)));
    t.train_step([&](long) { return random_sequences(2, 8, 258, 1); });
    t.save(folder.path);
    const Safetensors file = read_safetensors((folder.path / "training.safetensors").string());
    for (const auto &e : t.policy.optimiser.entries) {
        INFO(e.name);
        REQUIRE(file.tensors.count("m." + e.name));
        std::vector<real> m(e.m.numel());
        read_reals(file.tensors.at("m." + e.name), m.data());
        CHECK(m == values(e.m));
    }
}

TEST_CASE("training: a run remembers its options, and nothing is resumed from nothing") {
    const Folder folder;
    TrainOptions o = usual(6);
    o.batch = 3, o.lr = 0.0123, o.schedule = "wsd", o.set = {"D=2", "name=my \"own\" model"};
    o.data = "a\ntext\\.txt", o.freeze = {""};
    Training t(o, initialised(load_preset("v3-nano"), seeded(1)));
    t.save(folder.path);
    const SavedRun run = saved_run(folder.path);
    CHECK(print_options(run.options) == print_options(o));
    CHECK(run.options.data == o.data);
    CHECK(run.options.set == o.set);
    CHECK(run.options.freeze == o.freeze);
    CHECK(print_config(run.config) == print_config(t.policy.model.c));
    CHECK(error_of([&] { saved_run((folder.path / "nowhere").string()); }).find("does not exist") !=
          std::string::npos);
}

TEST_CASE("training: after the first steps the pool asks the system for nothing") {
    const Config c = load_preset("v3-nano");
    Training t(usual(10), initialised(c, seeded(1)));
    const auto step = [&] { t.train_step([&](long at) { return random_sequences(2, 16, c.V, at); }); };
    step();
    step();
    const long before = pool_report(cpu_device).system_allocations;
    for (int i = 0; i < 4; i++) step();
    CHECK(pool_report(cpu_device).system_allocations == before);
}

// -------------------------------------------------------------------------------------------------- [6] data
namespace {
Corpus counting(int n, uint64_t seed) {                  // a "file" whose tokens are their own positions
    Corpus c;
    c.source = "counting";
    c.seed = seed;
    c.train.memory.resize(n);
    std::iota(c.train.memory.begin(), c.train.memory.end(), 0);
    return c;
}
std::vector<int> starts(Corpus &c, long position, int B, int T) {
    std::vector<int> list;
    for (const auto &w : windows(c, byte_tokenizer(), position, B, T)) {
        CHECK((int)w.size() == T + 1);
        CHECK(w.back() == w[0] + T);                     // consecutive tokens
        list.push_back(w[0]);
    }
    return list;
}
}  // namespace

TEST_CASE("windows: of a file, each comes once a round, and the next round has another order") {
    Corpus c = counting(1000, 3);
    const int T = 10, n = (1000 - 1 - T) / T;
    std::vector<int> first = starts(c, 0, n, T), second = starts(c, n, n, T);
    CHECK(first != second);
    for (std::vector<int> round : {first, second}) {
        CHECK(!std::is_sorted(round.begin(), round.end()));
        std::sort(round.begin(), round.end());
        for (int i = 1; i < n; i++) CHECK(round[i] == round[i - 1] + T);     // no gap and no overlap
        CHECK(round.front() < T);
    }
}

TEST_CASE("windows: rounds are cut at different offsets, so in time every token begins a window") {
    Corpus c = counting(1000, 3);
    std::set<int> offsets;
    const int T = 10, n = (1000 - 1 - T) / T;
    for (int round = 0; round < 60; round++) offsets.insert(starts(c, (long)round * n, 1, T)[0] % T);
    CHECK(offsets.size() == T);
}

TEST_CASE("windows: a window's number alone says what it is, forwards and backwards, however it is batched") {
    Corpus a = counting(500, 3), b = counting(500, 3), other = counting(500, 4);
    const std::vector<int> all = starts(a, 0, 120, 10);
    for (int position : {110, 3, 60, 0}) {
        const std::vector<int> some = starts(b, position, 4, 10);
        CHECK(std::equal(some.begin(), some.end(), all.begin() + position));
    }
    CHECK(starts(other, 0, 120, 10) != all);
}

TEST_CASE("windows: stories follow each other without overlap, and are those of the seed") {
    Stories stories;
    const int T = 100;
    Sequences w;
    for (const Example &e : stories.read(0, 12, T)) w.push_back(e.ids);
    std::vector<int> text = w[0];
    for (size_t i = 1; i < w.size(); i++) {
        CHECK(w[i][0] == w[i - 1][T]);                   // what was predicted last is read next
        text.insert(text.end(), w[i].begin() + 1, w[i].end());
    }
    std::vector<int> expected;
    for (long i = 0; expected.size() < text.size(); i++) {
        const Tale tale = tell(1, i);
        if (tale.held_out) continue;
        for (int id : stories.bytes.encode_plain(tale.text)) expected.push_back(id);
        expected.push_back(257);
    }
    expected.resize(text.size());
    CHECK(text == expected);
    Stories later;
    const Examples again = later.read(7, 3, T);
    for (int i = 0; i < 3; i++) CHECK(again[i].ids == w[7 + i]);
}

namespace {
namespace fs = std::filesystem;

// A folder with a text, and a cache of its own.
struct TextFile {
    fs::path folder = fs::temp_directory_path() / cat("deepseek-data-", getpid());
    std::string text = (folder / "text.txt").string();
    TextFile() {
        fs::create_directories(folder);
        setenv("XDG_CACHE_HOME", folder.c_str(), 1);
    }
    ~TextFile() { fs::remove_all(folder); }
    void write(const std::string &content) const { write_atomically(text, content); }
    std::vector<fs::path> cached() const {
        std::vector<fs::path> files;
        for (const auto &entry : fs::directory_iterator(folder / "deepseek")) files.push_back(entry.path());
        return files;
    }
};

std::vector<int> all_tokens(const Corpus &c) {
    std::vector<int> ids = c.train.read(0, c.train.size()), last = c.valid.read(0, c.valid.size());
    ids.insert(ids.end(), last.begin(), last.end());
    return ids;
}
std::vector<int> with_end(const Tokenizer &t, const std::string &text) {
    std::vector<int> ids = t.encode_plain(text);
    ids.push_back(t.special("<｜end▁of▁sentence｜>"));
    return ids;
}
}  // namespace

TEST_CASE("data: a file's ids are kept on disk, and used while text and tokenizer stay the same") {
    const TextFile file;
    const Tokenizer bytes = byte_tokenizer();
    const std::string first = story_set(true, 3000, 0), second = story_set(true, 3000, 1);
    file.write(first);
    CHECK(all_tokens(load_corpus(file.text, bytes, 1)) == with_end(bytes, first));
    REQUIRE(file.cached().size() == 1);
    const fs::path ids = file.cached()[0];
    CHECK(fs::file_size(ids) == 2 * (first.size() + 1) + 56);     // 16 bits an id, and the footer
    const auto made = fs::last_write_time(ids);
    CHECK(all_tokens(load_corpus(file.text, bytes, 1)) == with_end(bytes, first));
    CHECK(fs::last_write_time(ids) == made);             // not made again

    file.write(second);                                  // another text: made anew, in the same place
    CHECK(all_tokens(load_corpus(file.text, bytes, 1)) == with_end(bytes, second));
    CHECK(file.cached().size() == 1);

    Tokenizer large = bytes;                             // another tokenizer: a file of its own, of 32 bits
    large.vocabulary.resize(70000);
    large.vocabulary[69999] = "<x>";
    large.added.push_back({"<x>", 69999, false, false});
    large.prepare();
    CHECK(all_tokens(load_corpus(file.text, large, 1)) == with_end(large, second));
    CHECK(file.cached().size() == 2);
}

TEST_CASE("data: ids on disk that are damaged or cut off are made anew") {
    const TextFile file;
    const Tokenizer bytes = byte_tokenizer();
    const std::string text = story_set(true, 3000, 0);
    file.write(text);
    load_corpus(file.text, bytes, 1);
    const std::string ids = file.cached()[0];
    const std::string good = read_text(ids, 1 << 20);
    for (const std::string &bad : {good.substr(0, 100), good.substr(0, 7), good + "x", good.substr(2),
                                   good.substr(0, good.size() - 1) + "\x7f"}) {
        write_atomically(ids, bad);
        CHECK(all_tokens(load_corpus(file.text, bytes, 1)) == with_end(bytes, text));
    }
}

TEST_CASE("data: what is held out is the same text for every tokenizer, and its bytes are its own") {
    const TextFile file;
    std::string text = story_set(true, 19000, 0) + "\n", last;
    while (last.size() < 2000) last += "中文。\n";           // the last twentieth is unlike the rest
    file.write(text + last);
    Trainer trainer(pretokenizer("v3"));
    trainer.read(text);
    for (const Tokenizer &t : {byte_tokenizer(), trainer.train(400)}) {
        const Corpus c = load_corpus(file.text, t, 1);
        std::vector<int> ids = c.valid.read(0, c.valid.size());
        REQUIRE(ids.back() == t.special("<｜end▁of▁sentence｜>"));
        ids.pop_back();
        const std::string held_out = t.decode(ids);
        CHECK(last.ends_with(held_out));
        CHECK(held_out.size() > 900);
        CHECK(c.valid_bytes_per_token * (ids.size() + 1) == doctest::Approx(held_out.size()));
    }
}

TEST_CASE("data: a folder is its files in order; what is held out may begin where one ends") {
    const TextFile file;
    const Tokenizer bytes = byte_tokenizer();
    file.write(std::string(95, 'a'));
    write_atomically((file.folder / "u.txt").string(), "bbbbb");
    setenv("XDG_CACHE_HOME", (file.folder.string() + "-cache").c_str(), 1);
    const Corpus c = load_corpus(file.folder.string(), bytes, 1);
    CHECK(c.train.size() == 96);
    CHECK(c.valid.read(0, 6) == std::vector<int>{'b', 'b', 'b', 'b', 'b', 257});
    CHECK(c.valid_bytes_per_token == doctest::Approx(5.0 / 6));
    fs::remove_all(file.folder.string() + "-cache");
}

TEST_CASE("data: ids that no tokenizer has made are told, not used") {
    const TextFile file;
    const Tokenizer bytes = byte_tokenizer();
    file.write(story_set(true, 3000, 0));
    load_corpus(file.text, bytes, 1);
    const std::string ids = file.cached()[0];
    std::string bad = read_text(ids, 1 << 20);
    bad[2001] = '\x7f';
    write_atomically(ids, bad);
    const Corpus c = load_corpus(file.text, bytes, 1);
    CHECK(error_of([&] { c.train.read(990, 20); }).find("damaged") != std::string::npos);
    CHECK(c.train.read(0, 990).size() == 990);
}

TEST_CASE("data: a text of many megabytes, with broken characters, becomes the ids of the whole") {
    const TextFile file;
    const Tokenizer bytes = byte_tokenizer();
    std::string text;
    while (text.size() < 9 << 20) text += story_set(true, 1 << 17, 0) + "\xff\xc3(\xe2\x82";
    file.write(text);
    const Corpus c = load_corpus(file.text, bytes, 1);
    CHECK(all_tokens(c) == with_end(bytes, text));
    const double part = 20.0 * c.valid.size() / (c.train.size() + c.valid.size());
    CHECK(part > 0.99);
    CHECK(part <= 1);
}

TEST_CASE("data: a file that is missing or shorter than a context is refused") {
    const Tokenizer bytes = byte_tokenizer();
    CHECK(error_of([&] { load_corpus("/no/such/file", bytes, 1); }).find("no such file") !=
          std::string::npos);
    Corpus c = counting(50, 3);
    CHECK(error_of([&] { windows(c, bytes, 0, 1, 64); }).find("fewer than one context") != std::string::npos);
    CHECK(error_of([&] { read_sequences("/no/such/file", 258); }).find("cannot be read") !=
          std::string::npos);
}

// ---------------------------------------------------------------------------------- [7] parity of whole runs
namespace {
// A twenty-step run of v3-nano: reports, and the last step's gradients and weights, on the host.
struct Run {
    std::vector<StepReport> reports;
    std::vector<Numbers> gradients, weights;
    std::vector<std::string> names;
};
Run run_on(Device &d, int steps) {
    const Restored keep(device);
    device = &d;
    const Config c = load_preset("v3-nano");
    Training t(usual(steps), initialised(c, seeded(1)));
    Run r;
    for (int step = 0; step < steps; step++)
        r.reports.push_back(t.train_step([&](long at) { return random_sequences(2, 8, c.V, at); }));
    for (const auto &e : t.policy.optimiser.entries) {
        r.names.push_back(e.W.s->name);
        r.gradients.emplace_back(gradient(e.W));
        r.weights.emplace_back(e.W);
    }
    return r;
}
bool no_cuda() {
    if (!cuda_device.kernels) MESSAGE("this build has no CUDA, not even emulated: nothing is compared");
    return !cuda_device.kernels;
}
constexpr int parity_steps = 20;

struct Worst { double loss = 0, gradient = 0, weight = 0; };
Worst worst_of(const Run &a, const Run &b) {
    Worst w;
    for (size_t i = 0; i < a.reports.size(); i++)
        w.loss = std::max(w.loss, std::abs(a.reports[i].loss - b.reports[i].loss) / a.reports[i].loss);
    for (size_t i = 0; i < a.names.size(); i++) {
        w.gradient = std::max(w.gradient, relative_error(b.gradients[i].v, a.gradients[i].v));
        w.weight = std::max(w.weight, relative_error(b.weights[i].v, a.weights[i].v));
    }
    return w;
}
}  // namespace

TEST_CASE("train: what a model needs is held against the memory of the device it trains on") {
    Device small = cpu_device;
    small.memory = [] { return size_t(1000); };
    const Restored keep(device);
    device = &small;
    TrainOptions o;
    o.preset = "v3-nano";
    CHECK(error_of([&] { train(o, {}); }).starts_with("v3-nano: weights, gradients and moments need "));
    small.memory = [] { return size_t(30) << 20; };
    o.batch = 4096;
    CHECK(error_of([&] {
              train(o, {});
          }).starts_with("v3-nano: weights, gradients and moments, and a batch of 262144 tokens, need "));
}

// Each device rounds in its own order; AdamW divides by the gradient's own size, so what is rounding in a
// gradient near 0 is a step of full length in the weight, and from there on the runs drift apart: in float,
// how far is a matter of luck. Measured after 20 steps, worst of 40 seeds: float losses 1.7e-6, gradients
// 3.4e-4, weights 1.1e-3; double losses 3.3e-15, gradients 6.7e-13, weights 1.7e-12.
TEST_CASE("parity of a run: with the CPU's choices replayed, cuda has the same losses and weights") {
    if (no_cuda()) return;
    const Restored keep(choices);
    choices = {.mode = Choices::record};
    const Run cpu = run_on(cpu_device, parity_steps);
    choices.mode = Choices::replay;
    choices.next = 0;
    const Run cuda = run_on(cuda_device, parity_steps);
    const long differing = choices.differing;
    CHECK(choices.next == choices.kept.size());
    const Worst w = worst_of(cpu, cuda);
    MESSAGE("losses ", w.loss, ", gradients ", w.gradient, ", weights ", w.weight, ", choices overruled ",
            differing);
    CHECK(w.loss < (in_double ? 1e-14 : 5e-6));
    CHECK(w.gradient < (in_double ? 2e-12 : 2e-3));
    CHECK(w.weight < (in_double ? 1e-11 : 2e-3));
}

namespace {
// Where two free runs first choose otherwise, and how near the call was: the
// difference of the two experts' scores.
struct OtherChoice {
    size_t at = 0;
    int token = 0;
    double gap = 0;
    bool found = false;
};
OtherChoice first_other(const std::vector<Choices::Choice> &theirs, const std::vector<Choices::Choice> &ours,
                        const std::vector<Numbers> &scores, int K) {
    size_t routed = 0;                                   // how many of the choices so far were topk's
    for (size_t i = 0; i < theirs.size(); i++) {
        const auto &a = theirs[i].values, &b = ours[i].values;
        const size_t at = std::mismatch(a.begin(), a.end(), b.begin()).first - a.begin();
        if (at < a.size() && theirs[i].op == op_topk) {
            const int token = (int)at / K;
            const long row = (long)token * scores[routed].shape.width();
            return {i, token, std::abs(scores[routed].v[row + a[at]] - scores[routed].v[row + b[at]]), true};
        }
        routed += theirs[i].op == op_topk;
    }
    return {};
}
}  // namespace

TEST_CASE("parity of a run: the first other choice and its gap are found") {
    Numbers s({2, 3});
    s.v = {0.5, 0.25, 0.75, 0.5, 0.75, 0.125};
    const std::vector<Choices::Choice> a = {{op_dispatch, {7}}, {op_topk, {2, 0, 1, 0}}},
                                       b = {{op_dispatch, {7}}, {op_topk, {2, 0, 0, 1}}};
    const OtherChoice other = first_other(a, b, {s}, 2);
    CHECK(other.found);
    CHECK(other.at == 1);
    CHECK(other.token == 1);
    CHECK(other.gap == 0.25);
    CHECK(!first_other(a, a, {s}, 2).found);
}

// Measured: all choices of twenty steps are the same, in float and in double.
TEST_CASE("parity of a run: left free, cuda chooses as the CPU does, or the call was too near") {
    if (no_cuda()) return;
    std::vector<Numbers> scores;                         // s + b of every choice on the CPU
    const Restored keep_choices(choices);
    choices = {.mode = Choices::record};
    const Restored keep_hook(op_hook);
    op_hook.after = [&](const Call &c, bool, double) {
        if (c.op != op_topk) return;
        scores.emplace_back(c.in[0].shape);
        for (long i = 0; i < c.in[0].numel(); i++)
            scores.back().v[i] = c.in[0][i] + c.in[1][i % c.in[0].width()];
    };
    const Run cpu = run_on(cpu_device, parity_steps);
    op_hook.after = nullptr;
    const std::vector<Choices::Choice> theirs = choices.kept;
    choices = {.mode = Choices::record};
    const Run cuda = run_on(cuda_device, parity_steps);
    const std::vector<Choices::Choice> ours = choices.kept;
    REQUIRE(ours.size() == theirs.size());
    const OtherChoice other = first_other(theirs, ours, scores, load_preset("v3-nano").K_r);
    const size_t a_step = ours.size() / parity_steps;
    const std::string told = !other.found
                                 ? cat("all ", ours.size(), " choices are the same")
                                 : cat("first other choice: step ", other.at / a_step, ", choice ",
                                       other.at % a_step, ", token ", other.token, ", score gap ", other.gap);
    MESSAGE(told, "; losses ", worst_of(cpu, cuda).loss);
    CHECK(other.gap < (in_double ? 1e-9 : 1e-3));        // weights may be off by that much: see above
    CHECK(worst_of(cpu, cuda).loss < (other.found ? 1e-2 : in_double ? 1e-14 : 5e-6));
}

TEST_CASE("parity of a run: a training on the device checked passes, and is the CPU's to the bit") {
    if (no_cuda()) return;
    const Run cpu = run_on(cpu_device, 3), checked = run_on(checked_device, 3);
    for (int step = 0; step < 3; step++) CHECK(cpu.reports[step].loss == checked.reports[step].loss);
    for (size_t i = 0; i < cpu.names.size(); i++) CHECK(cpu.weights[i].v == checked.weights[i].v);
}

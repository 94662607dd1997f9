// slots.cpp: many questions, few slots. Who shares a batch with whom, which slot an answer gets and whose it
// was before is a matter of speed alone: ids, log-probabilities and choices of experts are the same bits.
//
//   [1] slots are freed, forked, rolled back   [2] decode: whatever batch, slot or refill
//   [3] what is sampled, and what is recorded   [4] the panels of a weight
#include <algorithm>
#include <cmath>

#include "src/infer/decoder.h"
#include "src/model/config.h"
#include "src/model/weights.h"
#include "src/train/training.h"
#include "tests/models.h"

namespace {
// Every kind of cache, with and without experts.
std::vector<Config> kinds() {
    Config mha = load_preset("llm-nano"), moe = load_preset("llm-nano"), deep = load_preset("v3-nano");
    mha.name = "MHA", mha.attention = Attention::MHA, mha.n_kv = mha.n_h;
    moe.name = "GQA with experts", moe.N_r = 8, moe.K_r = 2, moe.d_e = 16, moe.gate = Gate::softmax,
    moe.norm_gates = moe.selection_bias = false;
    deep.name = "MLA, three layers", deep.n_layers = 3;
    return {load_preset("v3-nano"), load_preset("llm-nano"), mha, moe, deep};
}

using Logits = std::vector<real>;
Logits row_of(const Tensor &x, int b) {
    const std::vector<real> all = values(x);
    const long n = x.shape.width();
    return Logits(all.begin() + b * n, all.begin() + (b + 1) * n);
}
Logits told(Decoder &d, const Sequences &tokens, int b, int chunk = 64) {
    return row_of(d.logits(d.feed(tokens, chunk)), b);
}
Logits fresh(const Model &m, const std::vector<int> &tokens) {
    Decoder d(m, 1, 64);
    return told(d, {tokens}, 0);
}
std::vector<int> joined(std::vector<int> a, const std::vector<int> &b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
}

// NaN wherever a cache holds nothing that counts.
void spoil(Decoder &d) {
    for (LayerCache &layer : d.caches.layers)
        for (const Tensor *rows : {&layer.latent, &layer.k, &layer.v}) {
            if (!*rows) continue;
            std::vector<real> x = values(*rows);
            const long width = (long)rows->shape[2] * rows->shape[3];
            for (int b = 0; b < d.B; b++)
                std::fill(x.begin() + (b * d.T_max + d.length[b]) * width,
                          x.begin() + (b + 1) * d.T_max * width, NAN);
            assign(*rows, x);
        }
}

// Six questions, fifteen answers, prompts of all lengths, some ended by a token, one by the context.
std::vector<Request> questions(int V) {
    std::vector<Request> list;
    const int samples[] = {3, 1, 4, 2, 4, 1}, tokens[] = {9, 30, 5, 12, 1, 20},
              length[] = {5, 1, 17, 2, 9, 50};
    for (int i = 0; i < 6; i++)
        list.push_back({.prompt = random_ints(length[i], V, i),
                        .samples = samples[i],
                        .question = 10 + i,
                        .max_tokens = tokens[i],
                        .stop = random_ints(12, V, 100)});
    list.back().stop = {};
    return list;
}
DecodeOptions all_recorded(int slots) {
    return {.sampling = {.temperature = 0.9, .top_p = 0.95, .top_k = 200, .seed = 3},
            .slots = slots,
            .logp = true,
            .kept = true,
            .routing = true};
}
bool same(const Answer &a, const Answer &b) {
    return a.ids == b.ids && a.end == b.end && a.logp == b.logp && a.kept == b.kept && a.experts == b.experts;
}
bool same(const std::vector<Answer> &a, const std::vector<Answer> &b) {
    return a.size() == b.size() &&
           std::equal(a.begin(), a.end(), b.begin(), [](auto &x, auto &y) { return same(x, y); });
}
}  // namespace

// ------------------------------------------------------------------ [1] slots are freed, forked, rolled back
TEST_CASE("decoder: a fork goes on as its origin does, and neither disturbs the other") {
    for (const Config &c : kinds()) {
        const Model m = random_model(c);
        const std::vector<int> prefix = random_ints(11, c.V, 1), mine = random_ints(3, c.V, 2),
                               yours = random_ints(6, c.V, 3);
        INFO(c.name);
        Decoder d(m, 3, 40);
        d.feed({{}, prefix, random_ints(20, c.V, 4)});
        d.fork(1, 2);                                    // onto another one's longer text
        CHECK(d.length[2] == 11);
        CHECK(row_of(d.h, 2) == row_of(d.h, 1));
        const Tensor z = d.logits(d.feed({{}, mine, yours}, 4));
        CHECK(row_of(z, 1) == fresh(m, joined(prefix, mine)));
        CHECK(row_of(z, 2) == fresh(m, joined(prefix, yours)));
        Decoder other(m, 2, 17);                         // another room, another slot
        other.take(d, 1, 0);
        CHECK(told(other, {{7}, {}}, 0) == fresh(m, joined(joined(prefix, mine), {7})));
    }
}

TEST_CASE("decoder: rolled back, another continuation is that of a fresh start") {
    for (const Config &c : kinds()) {
        const Model m = random_model(c);
        const std::vector<int> prefix = random_ints(8, c.V, 1), once = random_ints(9, c.V, 2),
                               again = random_ints(4, c.V, 3);
        Decoder d(m, 2, 40);
        d.feed({random_ints(5, c.V, 4), prefix});
        d.feed({{1}, once});
        d.rollback(1, 8);
        INFO(c.name);
        CHECK(d.length[1] == 8);
        CHECK(told(d, {{2}, again}, 1) == fresh(m, joined(prefix, again)));
        CHECK(row_of(d.logits(d.h), 0) == fresh(m, joined(random_ints(5, c.V, 4), {1, 2})));
    }
}

TEST_CASE("decoder: what a freed slot held reaches nothing, not even as NaN; nor does empty room") {
    for (Kernels kernels : {Kernels::plain, Kernels::fast})
        for (const Config &c : kinds()) {
            const WithKernels run(kernels);
            const Model m = random_model(c);
            const std::vector<int> first = random_ints(30, c.V, 1), second = random_ints(7, c.V, 2),
                                   other = random_ints(3, c.V, 3);
            INFO(c.name);
            Decoder d(m, 3, 40);
            spoil(d);
            d.feed({first, other, {}});
            d.free(0);
            spoil(d);
            CHECK(told(d, {second, {4}, {}}, 0, 3) == fresh(m, second));
            CHECK(row_of(d.logits(d.h), 1) == fresh(m, joined(other, {4})));
            d.fork(0, 2);
            spoil(d);
            CHECK(told(d, {{}, {}, {5}}, 2) == fresh(m, joined(second, {5})));
        }
}

TEST_CASE("decoder: a NaN in the embedding of the token that stands for padding reaches nothing") {
    for (Kernels kernels : {Kernels::plain, Kernels::fast})
        for (const Config &c : kinds()) {
            const WithKernels run(kernels);
            const Model m = random_model(c);
            if (c.tied) continue;
            std::vector<int> longer = random_ints(20, c.V - 1, 1), shorter = random_ints(3, c.V - 1, 2);
            for (auto *list : {&longer, &shorter})
                for (int &id : *list) id++;              // none is token 0
            const Logits expected = fresh(m, longer), of_shorter = fresh(m, shorter);
            std::vector<real> Emb = values(m.Emb);
            std::fill_n(Emb.begin(), c.d, NAN);
            assign(m.Emb, Emb);
            Decoder d(m, 3, 40);
            const Tensor z = d.logits(d.feed({longer, shorter, {}}, 7));
            INFO(c.name);
            CHECK(row_of(z, 0) == expected);
            CHECK(row_of(z, 1) == of_shorter);
        }
}

TEST_CASE("decoder: hidden states and experts of every token, where asked, are those of one at a time") {
    for (const Config &c : kinds()) {
        const Model m = random_model(c);
        const Sequences tokens = {random_ints(9, c.V, 1), random_ints(4, c.V, 2), {}};
        Decoder d(m, 3, 20);
        EveryToken every = {.hidden = true, .routing = true};
        const Tensor h = d.feed(tokens, 4, &every);
        REQUIRE(every.h.shape == Shape{3, 9, c.d});
        INFO(c.name);
        for (int b = 0; b < 2; b++) {
            Decoder one(m, 1, 20);
            std::vector<Sequences> experts(every.experts.size(), Sequences(1));
            for (size_t t = 0; t < tokens[b].size(); t++) {
                EveryToken single = {.routing = true};
                CHECK(row_of(every.h, b * 9 + (int)t) == row_of(one.feed({{tokens[b][t]}}, 64, &single), 0));
                for (size_t i = 0; i < experts.size(); i++)
                    experts[i][0] = joined(experts[i][0], single.experts[i][0]);
            }
            for (size_t i = 0; i < experts.size(); i++) {
                CHECK(every.experts[i][b] == experts[i][0]);
                CHECK(experts[i][0].size() == tokens[b].size() * c.K_r);
            }
            CHECK(row_of(every.h, b * 9 + (int)tokens[b].size() - 1) == row_of(h, b));
        }
        const Logits before = row_of(h, 0);
        d.feed({{1}, {}, {}});
        CHECK(row_of(h, 0) == before);                   // a later call leaves it as it was
    }
}

// --------------------------------------------------------------- [2] decode: whatever batch, slot or refill
TEST_CASE("decode: an answer is the same to the bit whatever the number of slots") {
    for (const Config &c : kinds()) {
        const Model m = random_model(c);
        const auto expected = decode(m, questions(c.V), all_recorded(1));
        std::set<End> ends;
        for (const auto &group : expected)
            for (const Answer &a : group) ends.insert(a.end);
        CHECK(ends.size() == 3);                         // the questions are such that all are met
        for (int slots : {2, 3, 5, 14, 64}) {
            const auto got = decode(m, questions(c.V), all_recorded(slots));
            for (size_t i = 0; i < expected.size(); i++) {
                INFO(c.name, ", ", slots, " slots, question ", i);
                CHECK(same(got[i], expected[i]));
            }
        }
    }
}

TEST_CASE("decode: the order of the questions, and how many are asked, change no answer") {
    for (const Config &c : kinds()) {
        const Model m = random_model(c);
        std::vector<Request> asked = questions(c.V);
        const auto expected = decode(m, asked, all_recorded(4));
        std::reverse(asked.begin(), asked.end());
        auto backwards = decode(m, asked, all_recorded(4));
        std::reverse(backwards.begin(), backwards.end());
        std::reverse(asked.begin(), asked.end());
        for (size_t i = 0; i < asked.size(); i++) {
            INFO(c.name, ", question ", i);
            CHECK(same(backwards[i], expected[i]));
            CHECK(same(decode(m, {asked[i]}, all_recorded(64))[0], expected[i]));
            asked[i].samples = 1;
            CHECK(same(decode(m, {asked[i]}, all_recorded(64))[0][0], expected[i][0]));
        }
    }
}

// Large enough that every product is shared out among threads.
TEST_CASE("decode: 1 slot or 17, 1 thread or 3: the same bits, with plain kernels and with fast ones") {
    Config c = load_preset("v3-tiny");
    c.n_layers = 2, c.d_ff = 200;
    const Model m = random_model(c);
    std::vector<Request> asked;
    for (int i = 0; i < 5; i++)
        asked.push_back(
            {.prompt = random_ints(3 + 20 * i, c.V, i), .samples = 4, .question = i, .max_tokens = 4});
    for (Kernels kernels : {Kernels::plain, Kernels::fast}) {
        const WithKernels run(kernels);
        std::vector<std::vector<Answer>> expected;
        for (int slots : {1, 17})
            for (int threads : {1, 3}) {
                const WithThreads with(threads);
                const auto got = decode(m, asked, all_recorded(slots));
                if (expected.empty()) expected = got;
                for (size_t i = 0; i < asked.size(); i++) CHECK(same(got[i], expected[i]));
            }
    }
}

TEST_CASE("decode: on the device checked it says what it says on the CPU") {
    try {
        device_named("checked");
    } catch (const Error &) {
        return;                                          // no CUDA in this build
    }
    for (const Config &c : kinds()) {
        const Model m = random_model(c);
        std::vector<Request> asked = questions(c.V);
        asked.resize(4);
        const auto expected = decode(m, asked, all_recorded(3));
        const Restored keep(device);
        device = &checked_device;
        const auto got = decode(m, asked, all_recorded(3));
        INFO(c.name);
        for (size_t i = 0; i < asked.size(); i++) CHECK(same(got[i], expected[i]));
    }
}

TEST_CASE("decode: a prompt is computed once, whatever the samples and slots") {
    const Model m = random_model(load_preset("llm-nano"));
    const std::vector<Request> asked = {
        {.prompt = random_ints(20, m.c.V, 1), .samples = 5, .question = 0, .max_tokens = 3},
        {.prompt = random_ints(30, m.c.V, 2), .samples = 4, .question = 1, .max_tokens = 6}};
    for (int slots : {1, 2, 9}) {
        std::vector<int> lengths;
        const Restored keep(op_hook);
        op_hook.after = [&](const Call &c, bool, double) {
            if (c.op == op_attention && c.in[0].shape[1] > 1) lengths.push_back(c.in[0].shape[1]);
        };
        decode(m, asked, {.slots = slots});
        CHECK(lengths == std::vector<int>{20, 20, 30, 30});              // in each of two layers
    }
}

TEST_CASE("decode: once nobody waits, slots that stay empty are not computed") {
    const Model m = random_model(load_preset("llm-nano"));
    std::vector<Request> asked;
    for (int i = 0; i < 8; i++)
        asked.push_back({.prompt = {1, 2}, .question = i, .max_tokens = i == 5 ? 9 : i == 3 ? 6 : 3});
    std::vector<int> rows;                               // of each step, in the first layer
    const Restored keep(op_hook);
    op_hook.after = [&](const Call &c, bool, double) {
        if (c.op == op_attention && c.in[0].shape[1] == 1) rows.push_back(c.in[0].shape[0]);
    };
    decode(m, asked, {.slots = 8});
    std::vector<int> of_first_layer;
    for (size_t i = 0; i < rows.size(); i += 2) of_first_layer.push_back(rows[i]);
    CHECK(of_first_layer == std::vector<int>{8, 8, 8, 2, 2, 2, 1, 1});
}

// --------------------------------------------------------------- [3] what is sampled, and what is recorded
TEST_CASE("decode: every token is drawn with the key (question, sample, position), the first one too") {
    NoGrad off;
    for (const Config &c : kinds()) {
        const Model m = random_model(c);
        const Request r = {.prompt = random_ints(6, c.V, 1), .samples = 5, .question = 9, .max_tokens = 4};
        const DecodeOptions o = {.sampling = {.temperature = 1.1, .seed = 2}};
        const auto answers = decode(m, {r}, o)[0];
        std::set<int> firsts;
        for (int s = 0; s < 5; s++) {
            std::vector<int> text = r.prompt;
            for (int id : answers[s].ids) {
                const Tensor z = from(fresh(m, text), {1, c.V});
                const Tensor key = from(std::vector<int>{9, s, (int)text.size()}, {1, 3});
                INFO(c.name, ", sample ", s, ", position ", text.size());
                CHECK(int_values(sample(z, key, o.sampling).id)[0] == id);
                text.push_back(id);
            }
            firsts.insert(answers[s].ids[0]);
        }
        CHECK(firsts.size() > 1);
    }
}

namespace {
// What training makes of answers: one padded batch, the trunk without a cache, logp over what the sampler
// kept. Of each row of the batch: the log-probabilities of its targets, and what its routers chose.
struct Trained {
    std::vector<std::vector<real>> logp;
    std::vector<Sequences> experts;
};
struct Pair {
    const Request &request;
    const Answer &answer;
};
Trained as_training_sees(const Model &m, const std::vector<Pair> &pairs, double temperature, bool replay) {
    NoGrad off;
    Examples list;
    for (const auto &[r, a] : pairs) {
        std::vector<real> weight(r.prompt.size(), 0);
        weight.resize(r.prompt.size() + a.ids.size(), 1);
        list.push_back({.ids = joined(r.prompt, a.ids), .weight = weight});
    }
    const Batch batch = make_batch(list, 0);
    const int B = batch.B, T = batch.T, words = set_words(m.c.V);
    std::vector<int> allowed(B * T * words, -1);
    std::vector<std::vector<int>> chosen(pairs[0].answer.experts.size(),
                                         std::vector<int>(B * T * m.c.K_r, -1));
    for (int b = 0; b < B; b++) {
        const auto &[r, a] = pairs[b];
        std::copy(a.kept.begin(), a.kept.end(), &allowed[(b * T + r.prompt.size() - 1) * words]);
        for (size_t i = 0; i < chosen.size(); i++)
            std::copy(a.experts[i].begin(), a.experts[i].end(), &chosen[i][b * T * m.c.K_r]);
    }
    std::vector<Tensor> imposed;
    for (const auto &router : chosen) imposed.push_back(from(router, {B * T, m.c.K_r}));
    Aux aux;
    Step step = batch.reading[0].step;
    step.aux = &aux;
    if (replay) step.imposed = &imposed;
    const Tensor h = trunk(m, step), may = from(allowed, {B, T, words});
    const std::vector<real> y =
        values(logp(h, m.output_head(), batch.reading[0].next, temperature, may).logp);
    Trained t;
    for (int b = 0; b < B; b++) {
        const auto &[r, a] = pairs[b];
        const auto first = y.begin() + b * T + r.prompt.size() - 1;
        t.logp.emplace_back(first, first + a.ids.size());
        t.experts.emplace_back();
        for (const Routing &router : aux.routing) {
            const std::vector<int> idx = int_values(router.idx);
            const auto begin = idx.begin() + b * T * m.c.K_r;
            t.experts[b].emplace_back(begin, begin + (list[b].ids.size() - 1) * m.c.K_r);
        }
    }
    return t;
}
double worst_gap(const std::vector<real> &a, const std::vector<real> &b) {
    REQUIRE(a.size() == b.size());
    double worst = 0;
    for (size_t i = 0; i < a.size(); i++) worst = std::max(worst, (double)std::abs(a[i] - b[i]));
    return worst;
}
}  // namespace

// Keys and values are the same numbers with a cache and without. Absorbed MLA multiplies in another order
// than naive MLA; with the experts imposed, that is rounding. Measured, worst: float 9.5e-7, double 1.8e-15.
TEST_CASE("decode: the sampler's log-probabilities are training's, to the bit where no order differs") {
    for (const Config &c : kinds()) {
        const Model m = random_model(c);
        const std::vector<Request> asked = questions(c.V);
        const auto answers = decode(m, asked, all_recorded(4));
        std::vector<Pair> pairs;
        for (size_t i = 0; i < asked.size(); i++)
            for (const Answer &a : answers[i]) pairs.push_back({asked[i], a});
        const Trained replayed = as_training_sees(m, pairs, 0.9, true);
        const Trained free = as_training_sees(m, pairs, 0.9, false);
        double worst = 0;
        for (size_t i = 0; i < pairs.size(); i++) {
            worst = std::max(worst, worst_gap(pairs[i].answer.logp, replayed.logp[i]));
            CHECK(replayed.experts[i] == pairs[i].answer.experts);
            if (c.attention == Attention::MLA) continue;
            CHECK(free.logp[i] == pairs[i].answer.logp);
            CHECK(free.experts[i] == pairs[i].answer.experts);
        }
        INFO(c.name, ": ", worst);
        if (c.attention != Attention::MLA) CHECK(worst == 0);
        CHECK(worst < (in_double ? 1e-14 : 4e-6));
    }
}

TEST_CASE("decode: an answer says how it ended, and keeps the stop token that ended it") {
    const Model m = random_model(load_preset("v3-nano"));
    Request r = {.prompt = random_ints(60, m.c.V, 1), .samples = 2, .max_tokens = 3};
    const auto enough = decode(m, {r}, {})[0];
    CHECK(enough[0].end == End::max_tokens);
    CHECK(enough[0].text() == enough[0].ids);
    r.stop = {enough[1].ids[1]};
    const auto stopped = decode(m, {r}, {})[0];
    CHECK(stopped[1].end == End::stop);
    CHECK(stopped[1].ids.back() == r.stop[0]);
    CHECK(joined(stopped[1].text(), r.stop) == stopped[1].ids);
    r.stop = {}, r.max_tokens = 100;
    const auto full = decode(m, {r}, {})[0];
    CHECK(full[0].end == End::context);
    CHECK(full[0].ids.size() == 5);
    r.samples = 0;
    CHECK(decode(m, {r}, {})[0].empty());
    CHECK(decode(m, {}, {}).empty());
}

// ------------------------------------------------------------------------------ [4] the panels of a weight
namespace {
void check_follows(const Model &m, const char *how) {
    Model copy = clone(const_cast<Model &>(m));          // its weights have never been in panels
    const std::vector<int> text = random_ints(5, m.c.V, 1);
    INFO(m.c.name, ", ", how);
    CHECK(fresh(m, text) == fresh(copy, text));
}
}  // namespace

TEST_CASE("panels: a weight that is changed in place is read anew, whoever changed it") {
    for (const Config &c : kinds()) {
        Model m = random_model(c);
        const Logits before = fresh(m, random_ints(5, c.V, 1));
        check_follows(m, "untouched");
        visit(m, [&](const std::string &, Tensor &w, const Spec &) {
            std::vector<real> x = values(w);
            for (real &x_i : x) x_i *= (real)1.25;
            assign(w, x);
        });
        check_follows(m, "assign");
        CHECK(fresh(m, random_ints(5, c.V, 1)) != before);
        Optimiser adam(m);
        visit(m, [&](const std::string &name, Tensor &w, const Spec &spec) {
            if (trained(spec.group)) assign(gradient(w), values(randn(w.shape, "dW", hash_of(name))));
        });
        adam.measure();
        adam.step({}, 0.01, 1);
        check_follows(m, "adamw");
        Model other = random_model(c, 8);
        adopt(m, other);
        check_follows(m, "copy_into");
        Model alias = sharing(m, f32);
        check_follows(alias, "an alias");
        {
            const NoGrad off;
            visit(m, [&](const std::string &, Tensor &w, const Spec &) { scale_add(w, w, 0.5, 0.1); });
        }
        check_follows(alias, "what it is an alias of");
    }
}

TEST_CASE("panels: their memory goes back when the model learns, and with the model") {
    const size_t before = pool_report(cpu_device).held_bytes;
    {
        const WithKernels run(Kernels::fast);
        const Model m = random_model(load_preset("v3-nano"));
        const size_t bare = pool_report(cpu_device).held_bytes;
        fresh(m, {1, 2, 3});
        const size_t kept = pool_report(cpu_device).held_bytes;
        CHECK(kept > bare);
        fresh(m, {4, 5});
        detach(m.output_head());                         // an alias has none of its own
        CHECK(pool_report(cpu_device).held_bytes == kept);
        {
            const TapeGuard clear;
            language_modelling(m, make_batch(examples({random_ints(9, m.c.V, 1)}), 0));
        }
        CHECK(pool_report(cpu_device).held_bytes < kept);
        fresh(m, {4, 5});
        CHECK(pool_report(cpu_device).held_bytes == kept);
    }
    CHECK(pool_report(cpu_device).held_bytes == before);
}

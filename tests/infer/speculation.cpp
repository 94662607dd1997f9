// speculation.cpp: DeepSeek-V3 section 5.4.3. MTP modules draft, the trunk verifies, and no text shows it: at
// temperature 0 it is the same to the bit, otherwise it has the same distribution.
//
//   [1] the rule   [2] drafts   [3] decode with drafts   [4] what it reports, and what is refused
#include <algorithm>
#include <cmath>

#include "src/infer/decoder.h"
#include "src/model/config.h"
#include "src/model/weights.h"
#include "tests/models.h"

namespace {
// So few tokens that an untrained module is right now and then.
Config few_tokens(const char *preset, const char *name, int D) {
    Config c = load_preset(preset);
    c.name = cat(name, ", D = ", D);
    c.V = 5, c.D = D;
    return c;
}
std::vector<Config> kinds() {
    std::vector<Config> list;
    for (int D : {1, 2}) {
        Config mha = few_tokens("llm-nano", "MHA", D),
               experts = few_tokens("llm-nano", "GQA with experts", D);
        mha.attention = Attention::MHA, mha.n_kv = mha.n_h;
        experts.N_r = 8, experts.K_r = 2, experts.d_e = 16, experts.gate = Gate::softmax;
        experts.norm_gates = experts.selection_bias = false;
        Config dense = few_tokens("v3-nano", "MLA", D);
        dense.N_r = 0;
        list.insert(list.end(), {few_tokens("v3-nano", "MLA with experts", D), dense,
                                 few_tokens("llm-nano", "GQA", D), mha, experts});
    }
    return list;
}
std::vector<int> joined(std::vector<int> a, const std::vector<int> &b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
}

// Prompts of all lengths, the shortest too; ends by a token, by number, by the context of 64.
std::vector<Request> questions(int V, bool stops = true) {
    std::vector<Request> list;
    const int samples[] = {3, 1, 2, 4, 1}, tokens[] = {30, 40, 1, 17, 20}, length[] = {5, 1, 2, 20, 55};
    for (int i = 0; i < 5; i++)
        list.push_back({.prompt = random_ints(length[i], V, i),
                        .samples = samples[i],
                        .question = 10 + i,
                        .max_tokens = tokens[i]});
    if (stops) list[3].stop = {2};
    return list;
}
DecodeOptions options(double temperature, int speculate, int slots, Speculation *told = nullptr) {
    return {.sampling = {.temperature = temperature, .top_p = 0.95, .top_k = 4, .seed = 3},
            .slots = slots,
            .logp = true,
            .kept = true,
            .routing = true,
            .speculate = speculate,
            .speculation = told};
}
bool same(const Answer &a, const Answer &b) {
    return a.ids == b.ids && a.end == b.end && a.logp == b.logp && a.kept == b.kept && a.experts == b.experts;
}

// What `sample` draws from after a text, read token by token.
std::vector<double> p_after(const Model &m, const std::vector<int> &text, const Sampling &s) {
    NoGrad off;
    Decoder d(m, 1, 64);
    const Tensor z = d.logits(d.feed({text})), kept = sample(z, zero_ints({1, 3}), s).kept;
    const std::vector<real> z_v = values(z);
    const std::vector<int> set = int_values(kept);
    std::vector<double> p(m.c.V, 0.0);
    double sum = 0;
    for (int v = 0; v < m.c.V; v++)
        if (in_set(set.data(), v)) sum += p[v] = std::exp((double)z_v[v] / s.temperature);
    for (double &x : p) x /= sum;
    return p;
}
}  // namespace

// ---------------------------------------------------------------------------------------------- [1] the rule
namespace {
// Adds to chance[y] the measure of the u between low and high for which y stands. Of each y they are one
// interval, so that equal ends are equal throughout.
void measure(const std::vector<double> &p, const std::vector<double> &q, int x, double low, double high,
             std::vector<double> &chance) {
    const int y = accept(p, q, x, low);
    if (high - low < 1e-15 || y == accept(p, q, x, high)) {
        chance[y] += high - low;
        return;
    }
    const double middle = (low + high) / 2;
    measure(p, q, x, low, middle, chance);
    measure(p, q, x, middle, high, chance);
}
std::vector<double> normalised(std::vector<double> p) {
    double sum = 0;
    for (double x : p) sum += x;
    for (double &x : p) x /= sum;
    return p;
}
}  // namespace

TEST_CASE("accept: over x drawn from q, what stands is a draw from p, by exact enumeration") {
    std::vector<std::pair<std::vector<double>, std::vector<double>>> cases = {
        {{0, 1, 0}, {0, 1, 0}},       {{0, 1, 0}, {1, 0, 0}},
        {{0.5, 0.5, 0}, {0, 0, 1}},   {{0.2, 0.3, 0.5}, {0.2, 0.3, 0.5}},
        {{0.2, 0.3, 0.5}, {0, 1, 0}}, {{1, 0, 0}, {0.2, 0.3, 0.5}}};
    for (int n = 0; n < 20; n++) {
        std::vector<double> p, q;
        for (int v = 0; v < 7; v++) {
            p.push_back(std::max(0.0, uniform(seeded(1), 1, n, v) - 0.2));
            q.push_back(std::max(0.0, uniform(seeded(1), 2, n, v) - 0.2));
        }
        cases.push_back({normalised(p), normalised(q)});
    }
    for (const auto &[p, q] : cases) {
        std::vector<double> said(p.size(), 0.0);
        for (size_t x = 0; x < p.size(); x++) {
            if (q[x] == 0) continue;
            std::vector<double> chance(p.size(), 0.0);   // P(y | x)
            measure(p, q, (int)x, 0, 1 - 1e-16, chance);
            CHECK(chance[x] == doctest::Approx(std::min(1.0, p[x] / q[x])).epsilon(1e-12));
            for (size_t y = 0; y < p.size(); y++) said[y] += q[x] * chance[y];
        }
        for (size_t y = 0; y < p.size(); y++) CHECK(std::abs(said[y] - p[y]) < 1e-12);
    }
}

// ------------------------------------------------------------------------------------------------ [2] drafts
namespace {
// Module k without a cache, as training runs it, over all that was read.
std::vector<std::vector<double>> equation(const Model &m, const std::vector<int> &text,
                                          const Drafts &drafts) {
    NoGrad off;
    std::vector<int> tokens = text;
    for (const Draft &x : drafts) tokens.push_back(x.id);
    const int T = (int)text.size() - 1;
    const auto ids = [&](int k) {
        return from(std::vector<int>(tokens.begin() + k, tokens.begin() + k + T), {1, T});
    };
    Tensor h = trunk(m, causal(ids(0)));                 // h^0 of rows 0 .. T-1
    std::vector<std::vector<double>> q;
    for (int k = 1; k <= m.c.D; k++) {
        h = mtp(m.mtp[k - 1], m, h, causal(ids(k)));
        const Numbers H(rmsnorm(h, m.mtp[k - 1].g_out, m.c.eps)), W(m.output_head());
        Vec z = times(W, row(H, T - 1));
        for (double &x : z) x = std::exp(x);
        q.push_back(normalised(z));
    }
    return q;
}
// With a cache MLA is absorbed, another order of products. Measured, worst: float 1.4e-7, double 3.9e-16.
constexpr double draft_bar = in_double ? 3e-15 : 1e-6;
}  // namespace

// Two slots, one far ahead of the other, with drafts that stand or not by chance.
TEST_CASE("draft: whatever was drafted and refused before, it is V3 (21)-(23) over the text alone") {
    for (const Config &c : kinds()) {
        const Model m = random_model(c);
        Decoder d(m, 3, 60, c.D);
        Sequences text = {random_ints(2, c.V, 1), random_ints(23, c.V, 2), {}};
        d.feed({{text[0][0]}, std::vector<int>(text[1].begin(), text[1].end() - 1), {}});
        double worst = 0;
        for (int round = 0; round < 12; round++) {
            const auto drafts = d.draft(text, {.seed = 4}, {1, 2, 3, 4, 5, 6});
            Decoder fresh(m, 3, 60, c.D);
            Sequences read = text;
            for (int b : {0, 1}) read[b].pop_back();
            fresh.feed(read, 7);
            const auto anew = fresh.draft(text, {.seed = 4}, {1, 2, 3, 4, 5, 6});
            CHECK(drafts[2].empty());
            Sequences fed(3);
            for (int b : {0, 1}) {
                const auto q = equation(m, text[b], drafts[b]);
                REQUIRE((int)drafts[b].size() == c.D);
                fed[b] = {text[b].back()};
                for (int k = 0; k < c.D; k++) {
                    CHECK(drafts[b][k].id == anew[b][k].id);
                    CHECK(drafts[b][k].q == anew[b][k].q);
                    for (int v = 0; v < c.V; v++)
                        worst = std::max(worst, std::abs(q[k][v] - drafts[b][k].q[v]));
                    fed[b].push_back(drafts[b][k].id);
                }
            }
            d.feed(fed);
            for (int b : {0, 1}) {
                const int stand = (int)(mix(seeded(round * 2 + b)) % (c.D + 1));
                d.rollback(b, (int)text[b].size() + stand);
                for (int k = 0; k < stand; k++) text[b].push_back(drafts[b][k].id);
                text[b].push_back((int)(mix(round) % c.V));
            }
            if (round % 5 != 3) continue;                // far back, and another way on
            d.rollback(1, 9);
            text[1].resize(9);
            text[1].push_back(round % c.V);
        }
        INFO(c.name, ": ", worst);
        CHECK(worst < draft_bar);
    }
}

TEST_CASE("draft: of a long prompt, that is read in several windows, and of one that was taken over") {
    for (const Config &c : kinds()) {
        const Model m = random_model(c);
        const std::vector<int> prompt = random_ints(150, c.V, 1);
        Decoder d(m, 2, 160, c.D);
        d.feed({{}, prompt});
        const Drafts at_once = d.draft({{}, joined(prompt, {3})}, {}, {0, 0, 0, 0})[1];
        const auto q = equation(m, joined(prompt, {3}), at_once);
        for (int k = 0; k < c.D; k++)
            for (int v = 0; v < c.V; v++) CHECK(std::abs(q[k][v] - at_once[k].q[v]) < draft_bar);
        Decoder one(m, 1, 151, c.D);
        one.feed({prompt});
        one.draft({prompt}, {}, {0, 0});
        d.take(one, 0, 0);
        const Drafts taken = d.draft({joined(prompt, {3}), {}}, {}, {0, 0, 0, 0})[0];
        INFO(c.name);
        for (int k = 0; k < c.D; k++) CHECK(taken[k].q == at_once[k].q);
    }
}

// ------------------------------------------------------------------------------------ [3] decode with drafts
TEST_CASE("speculation: at temperature 0 every bit of an answer is that of plain decoding") {
    long accepted = 0, refused = 0;
    for (Kernels kernels : {Kernels::plain, Kernels::fast})
        for (Config c : kinds()) {
            const WithKernels run(kernels);
            c.init_std = 0.5;                            // else many texts repeat one token for ever
            const Model m = random_model(c);
            const auto plain = decode(m, questions(c.V), options(0, 0, 4));
            for (int D = 1; D <= c.D; D++)
                for (int slots : {1, 3, 64}) {
                    Speculation told;
                    const auto answers = decode(m, questions(c.V), options(0, D, slots, &told));
                    INFO(c.name, ", ", D, " drafts, ", slots, " slots");
                    for (size_t i = 0; i < plain.size(); i++)
                        for (size_t s = 0; s < plain[i].size(); s++) CHECK(same(answers[i][s], plain[i][s]));
                    accepted += told.accepted[0];
                    refused += told.drafted[0] - told.accepted[0];
                }
        }
    CHECK(std::min(accepted, refused) > 100);
}

TEST_CASE("speculation: what is sampled, and recorded, depends on no slot and no order") {
    for (const Config &c : kinds()) {
        const Model m = random_model(c);
        std::vector<Request> asked = questions(c.V);
        const auto expected = decode(m, asked, options(0.8, c.D, 1));
        INFO(c.name);
        for (int slots : {2, 5, 64}) {
            std::reverse(asked.begin(), asked.end());
            auto answers = decode(m, asked, options(0.8, c.D, slots));
            if (asked[0].question != 10) std::reverse(answers.begin(), answers.end());
            for (size_t i = 0; i < expected.size(); i++)
                for (size_t s = 0; s < expected[i].size(); s++) CHECK(same(answers[i][s], expected[i][s]));
        }
        for (Request &r : asked) r.max_tokens = std::max(1, r.max_tokens / 2);       // the same, cut short
        if (asked[0].question != 10) std::reverse(asked.begin(), asked.end());
        const auto shorter = decode(m, asked, options(0.8, c.D, 3));
        for (size_t i = 0; i < expected.size(); i++)
            for (size_t s = 0; s < expected[i].size(); s++) {
                const std::vector<int> &ids = shorter[i][s].ids, &all = expected[i][s].ids;
                CHECK(std::equal(ids.begin(), ids.end(), all.begin()));
            }
    }
}

TEST_CASE("speculation: log-probabilities, sets and experts are those of reading the answer again") {
    NoGrad off;
    for (const Config &c : kinds()) {
        const Model m = random_model(c);
        const std::vector<Request> asked = questions(c.V);
        const DecodeOptions o = options(0.8, c.D, 3);
        const auto answers = decode(m, asked, o);
        for (size_t i = 0; i < asked.size(); i++)
            for (const Answer &a : answers[i]) {
                std::vector<int> text = joined(asked[i].prompt, a.ids);
                text.pop_back();
                Decoder d(m, 1, 64);
                EveryToken every = {.hidden = true, .routing = true};
                d.feed({text}, 64, &every);
                const int n = (int)a.ids.size(), T = (int)text.size();
                const Tensor h = reshape(slice(every.h, 1, T - n, n), {n, c.d}),
                             kept = sample(d.logits(h), zero_ints({n, 3}), o.sampling).kept;
                INFO(c.name, ", question ", i);
                CHECK(a.kept == int_values(kept));
                CHECK(a.logp == values(logp(h, m.output_head(), from(a.ids, {n}), 0.8, kept).logp));
                REQUIRE(a.experts.size() == every.experts.size());
                for (size_t r = 0; r < a.experts.size(); r++) CHECK(a.experts[r] == every.experts[r][0]);
            }
    }
}

TEST_CASE("speculation: on the device checked it says what it says on the CPU") {
    try {
        device_named("checked");
    } catch (const Error &) {
        return;                                          // no CUDA in this build
    }
    for (const Config &c : kinds()) {
        const Model m = random_model(c);
        std::vector<Request> asked = questions(c.V);
        asked.resize(2);
        for (Request &r : asked) r.max_tokens = 9;
        const auto expected = decode(m, asked, options(0.8, c.D, 3));
        const Restored keep(device);
        device = &checked_device;
        const auto got = decode(m, asked, options(0.8, c.D, 3));
        INFO(c.name);
        for (size_t i = 0; i < asked.size(); i++)
            for (size_t s = 0; s < expected[i].size(); s++) CHECK(same(got[i][s], expected[i][s]));
    }
}

namespace {
// Wilson and Hilferty: the cube root of chi-square by its degrees of freedom is nearly normal.
double p_value(const std::vector<double> &n, const std::vector<double> &p, double draws) {
    double chi = 0, bins = -1;
    for (size_t i = 0; i < n.size(); i++) {
        if (p[i] == 0) CHECK(n[i] == 0);
        else chi += (n[i] - draws * p[i]) * (n[i] - draws * p[i]) / (draws * p[i]), bins++;
    }
    const double spread = 2 / (9 * bins), z = (std::cbrt(chi / bins) - 1 + spread) / std::sqrt(spread);
    return std::erfc(z / std::sqrt(2.0)) / 2;
}
}  // namespace

// 10^5 answers of three tokens, against the probability of each by the trunk alone. The first comes from the
// prompt, the others are drafts, what stands in their place, or what a forward says behind them. One certain
// model and seed, so that p > 0.01 is a fact: 0.11 and 0.10.
TEST_CASE(
    "speculation: three tokens are distributed as the trunk alone says them, whatever the modules say") {
    for (int D : {1, 2}) {
        Config c = few_tokens("v3-nano", "MLA with experts", D);
        c.init_std = 0.5;                                // decided, and drafts otherwise
        const Model m = initialised(c, 5);
        const Sampling s = {.temperature = 0.7, .top_p = 0.97, .top_k = 4, .seed = 11};
        const std::vector<int> prompt = {1, 4, 2};
        const int V = c.V, draws = 100000;
        std::vector<double> p, n(V * V * V, 0.0);
        for (int cell = 0; cell < V * V * V; cell++) {
            double chance = 1;
            std::vector<int> text = prompt;
            for (int x : {cell / (V * V), cell / V % V, cell % V}) {
                if (chance > 0) chance *= p_after(m, text, s)[x];
                text.push_back(x);
            }
            p.push_back(chance);
        }
        Speculation told;
        const auto answers = decode(m, {{.prompt = prompt, .samples = draws, .max_tokens = 3}},
                                    {.sampling = s, .slots = 500, .speculate = D, .speculation = &told});
        for (const Answer &a : answers[0]) n[(a.ids[0] * V + a.ids[1]) * V + a.ids[2]]++;
        const double accepted = (double)told.accepted[0] / (double)told.drafted[0];
        const double chance = p_value(n, p, draws);
        INFO("D = ", D, ", accepted ", accepted, ", p-value ", chance);
        CHECK(accepted > 0.3);
        CHECK(accepted < 0.9);
        CHECK(chance > 0.01);
    }
}

// ------------------------------------------------------------------ [4] what it reports, and what is refused
// Blocks that add nothing: the trunk sees its token alone, and module k the token k later, as the trunk will.
TEST_CASE(
    "speculation: modules that see what the trunk will see give 1 + D tokens a forward, each accepted") {
    Config c = load_preset("v3-nano");
    c.D = 2;
    Model m = initialised(c, seeded(3));
    visit(m, [&](const std::string &name, Tensor &w, const Spec &) {
        std::vector<real> x(w.numel(), 0);
        if (name.ends_with("W_O") || name.ends_with("W_2")) assign(w, x);
        if (!name.ends_with(".M")) return;
        for (int i = 0; i < c.d; i++) x[i * 2 * c.d + i] = 1;
        assign(w, x);
    });
    for (double temperature : {0.0, 1.0}) {
        Speculation s;
        const Request r = {.prompt = {7, 8}, .samples = 2, .max_tokens = 1 + 3 * 15};
        decode(m, {r}, options(temperature, 2, 2, &s));
        CHECK(s.drafted == std::vector<long>{30, 30});
        CHECK(s.accepted == s.drafted);
        CHECK(s.forwards == 30);
        CHECK(s.tokens_per_forward() == 3);
        REQUIRE(std::min({s.t_1.size(), s.t_1D.size(), s.t_mtp.size()}) == 1);
        CHECK(std::min({s.t_1[0], s.t_1D[0], s.t_mtp[0]}) > 0);
        CHECK(s.gain() == 3 * s.t_1[0] / (s.t_1D[0] + s.t_mtp[0]));
    }
}

TEST_CASE("speculation: tokens a forward are one more than the drafts it accepts") {
    for (const Config &c : kinds()) {
        const Model m = random_model(c);
        Speculation s;
        const Request r = {.prompt = {1, 2, 3}, .samples = 50, .max_tokens = 60};
        decode(m, {r}, options(0.8, c.D, 50, &s));
        double accepted = 0;
        for (long n : s.accepted) accepted += (double)n;
        INFO(c.name);                                    // but where the last ones stand behind the end
        CHECK(s.tokens == 50 * 59);
        CHECK((double)s.forwards + accepted >= (double)s.tokens);
        CHECK((double)s.forwards + accepted <= (double)s.tokens + 50 * c.D);
        CHECK(s.drafted[0] <= s.forwards);
    }
}

TEST_CASE("speculation: more modules than the model has are refused") {
    const Model m = random_model(few_tokens("v3-nano", "shallow", 1)),
                none = random_model(load_preset("llm-nano"));
    const auto error = [](const Model &model, int D) {
        return error_of([&] { decode(model, {{.prompt = {1}}}, {.speculate = D}); });
    };
    CHECK(error(m, 2) == "--speculate 2: shallow, D = 1 has 1 module of multi-token prediction");
    CHECK(error(m, -1) == "--speculate -1: shallow, D = 1 has 1 module of multi-token prediction");
    CHECK(error(none, 1) == "--speculate 1: llm-nano has no multi-token prediction");
    CHECK(error(m, 1).empty());
    CHECK(error(none, 0).empty());
}

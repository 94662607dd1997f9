// measures.cpp: the specification of the measures: each against plain loops on a random model, what must hold
// to the bit, and questions to which a model has no answer.
//
//   [1] where tokens go   [2] experts taken away   [3] the cache   [4] drafts   [5] counting   [6] refused
#include "src/lab/measures.h"

#include <map>
#include <set>

#include "src/base/statistics.h"
#include "src/model/config.h"
#include "src/train/training.h"
#include "tests/model/experts.h"

using doctest::Approx;

namespace {
Config shape() {                                         // two layers of experts, one above the other
    Config c = small();
    c.n_layers = 3, c.D = 1;
    return c;
}
Config hashed() {
    Config c = shape();
    c.gate = Gate::hash, c.K_r = 1, c.groups = c.M = 1;
    return c;
}

// Unequal lengths: there is padding.
std::vector<Sequences> batches_of(const Config &c) {
    std::vector<Sequences> batches(2);
    for (int i = 0; i < 7; i++) batches[i / 4].push_back(random_ints(6 + i, c.V, 30 + i));
    return batches;
}

Table table_of(const std::string &name, Model &m, const std::vector<Sequences> &batches,
               const std::vector<std::string> &labels = {}) {
    return measured(measure_named(name), {.model = m, .batches = examples(batches), .labels = labels});
}

// A token's experts, of its scores and the selection bias.
using Pick = std::function<std::vector<int>(const Vec &s, const Vec &b)>;
struct Routed {
    int layer, sequence;
    Vec s;
    std::vector<int> idx;
};

// The loss with choices of experts that are made token by token, and all of those.
struct Plain {
    double loss = 0;
    std::vector<Routed> routed;
};
Tensor layer_of(const Block &w, const Config &c, const Tensor &h, const Batch &b, int l, int first,
                const Pick &pick, Plain &plain) {
    const Step &step = b.reading[0].step;
    const Tensor u = add(h, mla(w.mla, c, rmsnorm(h, w.g_attn, c.eps), step));
    const Tensor y = rmsnorm(u, w.g_ffn, c.eps);
    if (!c.has_experts(l)) return add(u, ffn(w.ffn, y));
    const std::vector<int> pos = int_values(step.pos);
    const Numbers Y(y);
    std::vector<std::vector<int>> idx;
    for (long n = 0; n < y.shape.rows(); n++) {
        const Vec s = affinities(w.moe, c, row(Y, n));
        idx.push_back(pick(s, Numbers(w.moe.b).v));
        if (pos[n] >= 0) plain.routed.push_back({l, first + (int)n / b.T, s, idx.back()});
    }
    const Numbers z = moe_of(w.moe, c, y, idx, idx);
    return add(u, from(std::vector<real>(z.v.begin(), z.v.end()), u.shape));
}
Plain plain_loss(const Model &m, const Config &c, const std::vector<Sequences> &batches, const Pick &pick) {
    NoGrad off;
    Plain plain;
    double targets = 0;
    int first = 0;
    for (const Sequences &batch : batches) {
        const Batch b = make_batch(examples(batch), 0);
        Tensor h = gather_rows(m.Emb, b.reading[0].step.ids);
        for (int l = 0; l < c.n_layers; l++) h = layer_of(m.blocks[l], c, h, b, l, first, pick, plain);
        const Numbers H(rmsnorm(h, m.g, c.eps)), W(m.output_head());
        const std::vector<int> next = int_values(b.reading[0].next);
        for (size_t n = 0; n < next.size(); n++) {
            if (next[n] < 0) continue;
            const Vec z = times(W, row(H, (long)n));
            double sum = 0;
            for (double z_v : z) sum += std::exp(z_v);
            plain.loss += std::log(sum) - z[next[n]];
            targets++;
        }
        first += b.B;
    }
    plain.loss /= targets;
    return plain;
}
Pick own(const Config &c) {
    return [c](const Vec &s, const Vec &b) { return choice(c, s, b); };
}

// The worst measured of 10 seeds: float 5.3e-8, double 7.5e-16.
constexpr double loss_bar = in_double ? 1e-14 : 1e-6;

std::string hint_of(const std::function<void()> &action) {
    try {
        action();
    } catch (const Error &e) {
        return e.hint;
    }
    return "";
}
}  // namespace

// --------------------------------------------------------------------------------------- [1] where tokens go
TEST_CASE("load: tokens of experts and devices, MaxVio and gate mass are those of asking token by token") {
    Config c = shape();
    Model m = random_model(c);
    const auto batches = batches_of(c);
    const Table t = table_of("load", m, batches);
    const Plain plain = plain_loss(m, c, batches, own(c));
    const int size = c.N_r / c.groups;
    for (int l : {1, 2}) {
        Vec experts(c.N_r, 0), devices(c.groups, 0), received(c.groups, 0);
        double tokens = 0, mass = 0, of_best = 0, reached = 0;
        for (const Routed &r : plain.routed) {
            if (r.layer != l) continue;
            tokens++;
            Vec sorted = r.s;
            std::sort(sorted.rbegin(), sorted.rend());
            double chosen = 0, all = 0, best = 0;
            for (int i : r.idx) experts[i]++, devices[i / size]++, chosen += r.s[i];
            for (double s_i : r.s) all += s_i;
            for (int k = 0; k < c.K_r; k++) best += sorted[k];
            mass += chosen / all, of_best += chosen / best;
            for (int d = 0; d < c.groups; d++) {
                bool here = false;
                for (int i : r.idx) here |= i / size == d;
                received[d] += here, reached += here;
            }
        }
        const std::string router = cat("blocks.", l);
        const double average = tokens * c.K_r / c.N_r;
        double few = 0;
        for (int i = 0; i < c.N_r; i++) {
            CHECK(t.at(cat(router, " expert ", i), "tokens") == experts[i]);
            CHECK(t.at(cat(router, " expert ", i), "of_mean") == Approx(experts[i] / average));
            few += experts[i] < 0.1 * average;
        }
        for (int d = 0; d < c.groups; d++) {
            CHECK(t.at(cat(router, " device ", d), "tokens") == devices[d]);
            CHECK(t.at(cat(router, " device ", d), "received") == received[d]);
        }
        const auto largest = [](const Vec &v) { return *std::max_element(v.begin(), v.end()); };
        CHECK(t.at(router, "tokens") == tokens);
        CHECK(t.at(router, "max_vio") == Approx(largest(experts) / average - 1));
        CHECK(t.at(router, "below_tenth") == Approx(few / c.N_r));
        CHECK(t.at(router, "device_max_vio") == Approx(largest(devices) * c.groups / (tokens * c.K_r) - 1));
        CHECK(t.at(router, "received_max_vio") == Approx(largest(received) * c.groups / reached - 1));
        CHECK(t.at(router, "devices_per_token") == Approx(reached / tokens));
        CHECK(t.at(router, "mass") == Approx(mass / tokens).epsilon(1e-5));
        CHECK(t.at(router, "mass_of_best") == Approx(of_best / tokens).epsilon(1e-5));
        CHECK(t.at(router, "devices_per_token") <= c.M);
    }
    CHECK(t.at("mtp.0", "tokens") == t.at("blocks.1", "tokens") - 7);   // each sequence has one position less
    CHECK(t.at("summary", "max_vio") ==
          Approx((t.at("blocks.1", "max_vio") + t.at("blocks.2", "max_vio") + t.at("mtp.0", "max_vio")) / 3));
}

TEST_CASE("load: a hash layer has loads and no gates; free choice of devices captures all of the best mass") {
    Config c = hashed();
    Model m = random_model(c);
    const Table t = table_of("load", m, batches_of(c));
    CHECK(std::isnan(t.at("blocks.1", "mass")));
    CHECK(t.at("blocks.1", "max_vio") == t.at("blocks.2", "max_vio"));
    Config free = shape();
    free.groups = free.M = 1, free.selection_bias = false;
    Model n = random_model(free);
    CHECK(table_of("load", n, batches_of(free)).at("blocks.1", "mass_of_best") == Approx(1));
}

TEST_CASE("information: of what is one and the same it is the entropy, of independent things 0") {
    CHECK(mutual_information({{5, 0, 0}, {0, 0, 3}, {0, 2, 0}}) == Approx(entropy({5, 3, 2})));
    CHECK(std::abs(mutual_information({{1, 2, 3}, {2, 4, 6}})) < 1e-12);
    CHECK(entropy({1, 1, 1, 1}) == Approx(std::log(4)));
    const double I = 0.4 * std::log(0.4 / (0.5 * 0.6)) + 0.1 * std::log(0.1 / (0.5 * 0.4)) +
                     0.2 * std::log(0.2 / (0.5 * 0.6)) + 0.3 * std::log(0.3 / (0.5 * 0.4));
    CHECK(mutual_information({{4, 1}, {2, 3}}) == Approx(I));
}

TEST_CASE("specialisation: experts by a hash of the token tell all of a label that is the token") {
    Config c = hashed();
    Model m = random_model(c);
    std::map<int, int> token_of;                         // by expert
    for (int id = 0; id < c.V; id++) token_of[(int)(mix(id) % c.N_r)] = id;
    REQUIRE(token_of.size() > 3);
    Sequences sequences;
    std::vector<std::string> labels;
    for (int i = 0; i < 40; i++)
        for (int expert : {token_of.begin()->first, token_of.rbegin()->first}) {
            sequences.push_back(std::vector<int>(5, token_of[expert]));
            labels.push_back(cat(expert));
        }
    const Table t = table_of("specialisation", m, {sequences}, labels);
    for (const char *router : {"blocks.1", "blocks.2", "mtp.0", "summary"}) {
        CHECK(t.at(router, "entropy") == Approx(std::log(2)));
        CHECK(t.at(router, "information") == Approx(std::log(2)));
        CHECK(t.at(router, "share") == Approx(1));
        CHECK(t.at(router, "shuffled") < 0.05);          // expected: 1 / (2 80)
        CHECK(t.at(router, "shuffled_deviation") < 0.05);
    }
}

TEST_CASE("specialisation: the information is that of the table of labels and chosen experts") {
    Config c = shape();
    Model m = random_model(c);
    const auto batches = batches_of(c);
    const std::vector<std::string> labels = {"a", "b", "c", "a", "b", "c", "a"};
    const Table t = table_of("specialisation", m, batches, labels);
    const Plain plain = plain_loss(m, c, batches, own(c));
    for (int l : {1, 2}) {
        std::map<std::string, double> p_label;
        std::map<int, double> p_expert;
        std::map<std::pair<std::string, int>, double> p;
        double n = 0, I = 0;
        for (const Routed &r : plain.routed)
            for (int i : r.idx)
                if (r.layer == l)
                    p_label[labels[r.sequence]]++, p_expert[i]++, p[{labels[r.sequence], i}]++, n++;
        for (const auto &[pair, count] : p)
            I += count / n * std::log(count * n / (p_label[pair.first] * p_expert[pair.second]));
        CHECK(t.at(cat("blocks.", l), "information") == Approx(I));
    }
}

// ------------------------------------------------------------------------------------ [3] experts taken away
TEST_CASE("measures: nothing taken away is what evaluate says, to the bit") {
    Config c = shape();
    Model m = random_model(c);
    const auto batches = batches_of(c);
    const double loss = evaluate(m, examples(batches)).nats;
    CHECK(loss == Approx(plain_loss(m, c, batches, own(c)).loss).epsilon(loss_bar));
    CHECK(table_of("redundancy", m, batches).at("0/16", "loss") == loss);
    CHECK(table_of("fewer-experts", m, batches).at("K = 3", "loss") == loss);
    CHECK(table_of("without-shared", m, batches).at("as trained", "loss") == loss);
    CHECK(evaluate(m, examples(batches)).nats == loss);       // and the model is what it was
}

TEST_CASE("redundancy: the experts of the highest s are out, the rest is chosen by s + b, in both layers") {
    Config few = shape(), starved = shape();
    starved.K_r = 5;                                     // of 6 in two groups, some of them masked
    for (const Config &c : {few, starved}) {
        Model m = random_model(c, 5, 0.5);
        const auto batches = batches_of(c);
        const Table t = table_of("redundancy", m, batches);
        size_t fewest = c.K_r;
        for (int sixteenths = 1; sixteenths <= 4; sixteenths++) {
            const int n = (int)std::lround(c.N_r * sixteenths / 16.0);
            const Pick pick = [&](Vec s, const Vec &b) {
                for (int i = 0; i < n; i++) *std::max_element(s.begin(), s.end()) = -1e30;
                std::vector<int> idx = choice(c, s, b);
                std::erase_if(idx, [&](int i) { return s[i] == -1e30; });
                fewest = std::min(fewest, idx.size());
                return idx;
            };
            CHECK(t.at(cat(sixteenths, "/16"), "masked") == n);
            CHECK(t.at(cat(sixteenths, "/16"), "loss") ==
                  Approx(plain_loss(m, c, batches, pick).loss).epsilon(loss_bar));
        }
        CHECK((fewest < (size_t)c.K_r) == (c.K_r == 5));
    }
}

TEST_CASE("fewer-experts: K of them are chosen, and their gates sum to rho") {
    Config c = shape();
    Model m = random_model(c);
    const auto batches = batches_of(c);
    const Table t = table_of("fewer-experts", m, batches);
    for (int K = 1; K <= c.K_r; K++) {
        Config fewer = c;
        fewer.K_r = K;
        CHECK(t.at(cat("K = ", K), "loss") ==
              Approx(plain_loss(m, fewer, batches, own(fewer)).loss).epsilon(loss_bar));
    }
    CHECK(t.rows.size() == 4);
}

TEST_CASE("without-shared: one more is routed; the control loses one routed expert, and keeps the shared") {
    Config c = shape();
    Model m = random_model(c);
    const auto batches = batches_of(c);
    const Table t = table_of("without-shared", m, batches);
    Config without = c;
    without.N_s = 0, without.K_r++;
    const double off = plain_loss(m, without, batches, own(without)).loss;
    CHECK(t.at("shared off", "loss") == Approx(off).epsilon(loss_bar));
    Random random = {1};
    const Pick one_less = [&](const Vec &s, const Vec &b) {
        std::vector<int> idx = choice(c, s, b);
        idx.erase(idx.begin() + random.below(c.K_r));
        return idx;
    };
    const double control = plain_loss(m, c, batches, one_less).loss,
                 full = evaluate(m, examples(batches)).nats;
    CHECK(t.at("one routed off", "loss") == Approx(control).epsilon(loss_bar));
    CHECK(t.at("summary", "of_control") == Approx((off - full) / (control - full)).epsilon(1e-3));
}

// --------------------------------------------------------------------------------------------- [3] the cache
TEST_CASE("cache: the decoder holds what the census says, with latents, groups and heads") {
    Config gqa = load_preset("llm-nano");
    gqa.attention = Attention::GQA, gqa.n_kv = 1;
    for (const Config &c : {load_preset("v3-nano"), load_preset("llm-nano"), gqa, shape()}) {
        INFO(c.name);
        Model m = initialised(c, seeded(1));
        const Table t = measured(measure_named("cache"), {.model = m, .length = 19});
        CHECK(t.at("allocated", "numbers") == Approx((double)census(c).cache_numbers * c.n_layers));
        CHECK(t.at("allocated", "bytes") ==
              Approx(census(c).cache_numbers * c.n_layers * (double)sizeof(real)));
        CHECK(t.at("formula", "numbers") == Approx(t.at("allocated", "numbers")));
        CHECK(t.at("the pool's blocks", "bytes") >= t.at("allocated", "bytes"));
        CHECK(t.at("MHA", "per_layer") == 2 * c.n_h * c.d_h);
        CHECK(t.at("MQA", "per_layer") == 2 * c.d_h);
    }
}

TEST_CASE(
    "cache: V2 saves 98.2% of MHA's, 82.2% of DeepSeek 67B's, and 93.3% with 6 bits; nothing is built") {
    Model m = outline(load_preset("deepseek-v2"));
    const PoolReport before = pool_report(*device);
    const Table t = measured(measure_named("cache"), {.model = m});
    CHECK(pool_report(*device).peak_bytes == before.peak_bytes);
    CHECK(t.at("formula", "numbers") == 34560);
    CHECK(t.at("formula", "GQA_groups") == 2.25);
    CHECK(t.at("MHA", "numbers") == 1966080);
    CHECK(t.at("MQA", "numbers") == 15360);
    const auto per_mille = [&](const char *item) { return std::round(1000 * t.at(item, "saved")); };
    CHECK(per_mille("MHA") == 982);
    CHECK(per_mille("deepseek-llm-67b") == 822);
    CHECK(per_mille("deepseek-llm-67b in 16 bits beside 6") == 933);
    CHECK(t.at("summary", "saved") == t.at("MHA", "saved"));
}

// ------------------------------------------------------------------------------------------------ [4] drafts
// Blocks that add nothing: the trunk sees only the token, module k only the token k later, or the one before.
static Model bare(const Config &c, bool sees_later) {
    Model m = initialised(c, seeded(3));
    visit(m, [&](const std::string &name, Tensor &w, const Spec &) {
        if (name.ends_with("W_O") || name.ends_with("W_2")) assign(w, std::vector<real>(w.numel(), 0));
        if (!name.ends_with(".M")) return;
        std::vector<real> M(w.numel(), 0);
        for (int x = 0; x < c.d; x++) M[x * 2 * c.d + (sees_later ? x : c.d + x)] = 1;
        assign(w, M);
    });
    return m;
}

TEST_CASE(
    "acceptance: modules that see what the trunk will see agree with it always, shifted ones by chance") {
    Config c = shape();
    c.D = 2;
    Model exact = bare(c, true), shifted = bare(c, false);
    const Table t = table_of("acceptance", exact, batches_of(c));
    for (const char *module : {"module 1", "module 2", "summary"}) CHECK(t.at(module, "accepted") == 1);
    CHECK(t.at("module 1", "error") == 0);
    CHECK(t.at("module 1", "positions") == t.at("module 2", "positions") + 7);
    CHECK(table_of("acceptance", shifted, batches_of(c)).at("summary", "accepted") < 0.7);
}

TEST_CASE("acceptance: the share of positions, and its standard error over sequences") {
    Config c = shape();
    c.D = 2;
    Model m = random_model(c);
    const auto batches = batches_of(c);
    const Table t = table_of("acceptance", m, batches);
    NoGrad off;
    const Numbers W(m.output_head());
    const auto best = [&](const Numbers &H, long n) {
        const Vec z = times(W, row(H, n));
        return std::max_element(z.begin(), z.end()) - z.begin();
    };
    for (int k : {1, 2}) {
        Values shares;
        double same = 0, positions = 0;
        for (const Sequences &batch : batches)
            for (const std::vector<int> &ids : batch) {  // one by one: nothing is padded
                const Batch b = make_batch(examples({ids}), 2);
                const Tensor h0 = trunk(m, b.reading[0].step);
                Tensor h = h0;
                for (int j = 1; j <= k; j++)
                    h = mtp(m.mtp[j - 1], m, slice(h, 1, 0, b.T - j), b.reading[j].step);
                const Numbers H0(h0), H(rmsnorm(h, m.mtp[k - 1].g_out, c.eps));
                double right = 0;
                for (int i = 0; i < b.T - k; i++) right += best(H, i) == best(H0, i + k);
                shares.push_back(right / (b.T - k));
                same += right, positions += b.T - k;
            }
        CHECK(t.at(cat("module ", k), "positions") == positions);
        CHECK(t.at(cat("module ", k), "accepted") == Approx(same / positions));
        CHECK(t.at(cat("module ", k), "error") == Approx(standard_error(shares)));
    }
}

// ---------------------------------------------------------------------------------------------- [5] counting
TEST_CASE("bigram: counts plus alpha, that alpha which foretells the training part's end best") {
    Config c = shape();
    Model m = random_model(c);
    const auto batches = batches_of(c);
    const std::vector<int> text = random_ints(203, c.V / 2, 9);
    const Table t = measured(measure_named("bigram"),
                             {.model = m, .batches = examples(batches), .training = examples({text})});
    const auto nats = [&](int from, int to, const std::vector<int> &of, int first, double alpha,
                          bool bigram) {
        double sum = 0;
        for (size_t i = first; i < of.size(); i++) {
            double both = alpha, context = alpha * c.V;
            for (int j = from; j < to; j++) {
                const bool same = !bigram || text[j] == of[i - 1];
                context += same, both += same && text[j + 1] == of[i];
            }
            sum -= std::log(both / context);
        }
        return sum;
    };
    for (const bool bigram : {false, true}) {
        double best = INFINITY, alpha = 0;
        for (int power = -16; power <= 6; power++) {     // 202 pairs, the last 10 of them
            const double loss = nats(0, 192, text, 193, std::exp2(power), bigram);
            if (loss < best) best = loss, alpha = std::exp2(power);
        }
        double sum = 0, targets = 0;
        for (const Sequences &batch : batches)
            for (const auto &ids : batch)
                sum += nats(0, 202, ids, 1, alpha, bigram), targets += ids.size() - 1.0;
        const char *item = bigram ? "bigram" : "unigram";
        CHECK(t.at(item, "alpha") == alpha);
        CHECK(t.at(item, "counted") == 202);
        CHECK(t.at(item, "loss") == Approx(sum / targets));
        CHECK(t.at(item, "more") == Approx(sum / targets - evaluate(m, examples(batches)).nats));
    }
    CHECK(t.at("model", "loss") == evaluate(m, examples(batches)).nats);
}

TEST_CASE("bigram: of a text with period 3 pairs say everything, single tokens nothing") {
    Config c = shape();
    Model m = random_model(c);
    std::vector<int> text;
    for (int i = 0; i < 3000; i++) text.push_back(i % 3);
    const Examples held_out = {{.ids = {1, 2, 0, 1, 2, 0, 1, 2}, .weight = {1, 1, 1, 1, 1, 1, 1, 0}}};
    const Table t =
        measured(measure_named("bigram"), {.model = m, .batches = {held_out}, .training = examples({text})});
    CHECK(t.at("bigram", "loss") < 0.01);
    CHECK(t.at("unigram", "loss") == Approx(std::log(3)).epsilon(0.01));
    CHECK(t.at("summary", "loss") == t.at("bigram", "loss"));
    const Examples wrong_where_nothing_is_asked = {
        {.ids = {1, 2, 0, 1, 2, 0, 1, 1}, .weight = {1, 1, 1, 1, 1, 1, 1, 0}}};
    CHECK(measured(measure_named("bigram"),
                   {.model = m, .batches = {wrong_where_nothing_is_asked}, .training = examples({text})})
              .at("bigram", "loss") == t.at("bigram", "loss"));
}

TEST_CASE("bigram: its drafts are accepted where its most likely token is the trunk's") {
    Config c = shape();
    Model m = random_model(c);
    const auto batches = batches_of(c);
    const std::vector<int> text = random_ints(3000, c.V, 9);
    const Table t = measured(measure_named("bigram"),
                             {.model = m, .batches = examples(batches), .training = examples({text})});
    std::vector<std::map<int, int>> after(c.V);
    for (size_t i = 1; i < text.size(); i++) after[text[i - 1]][text[i]]++;
    double same = 0, positions = 0;
    NoGrad off;
    const Numbers W(m.output_head());
    for (const Sequences &batch : batches)
        for (const std::vector<int> &ids : batch) {
            const Batch b = make_batch(examples({ids}), 0);
            const Numbers H(trunk(m, b.reading[0].step));
            for (int i = 0; i < b.T; i++, positions++) {
                const Vec z = times(W, row(H, i));
                const auto &next = after[ids[i]];
                const auto best = std::max_element(next.begin(), next.end(),
                                                   [](auto &a, auto &b) { return a.second < b.second; });
                same += !next.empty() && best->first == std::max_element(z.begin(), z.end()) - z.begin();
            }
        }
    CHECK(t.at("bigram", "accepted") == Approx(same / positions));
    CHECK(t.at("model", "accepted") == 1);
}

// ----------------------------------------------------------------------------------------------- [6] refused
TEST_CASE("measures: what a model has no answer to is refused, with what would have one") {
    Model dense = initialised(load_preset("llm-nano"), 1);
    const auto asked = [](const char *name, Model &m, const std::vector<std::string> &labels = {}) {
        return [&m, name, labels] { table_of(name, m, {{{1, 2, 3}}}, labels); };
    };
    for (const char *name : {"load", "specialisation", "redundancy", "without-shared", "fewer-experts"}) {
        CHECK(error_of(asked(name, dense)) == "llm-nano: has no routed experts");
        CHECK(hint_of(asked(name, dense)).find("moe-tiny") != std::string::npos);
    }
    CHECK(error_of(asked("acceptance", dense)) == "llm-nano: has no multi-token prediction");
    CHECK(error_of(asked("bigram", dense)) == "bigram: nothing to count in the training part");
    CHECK(error_of([] { measure_named("redundance"); }) == "no measure 'redundance'");
    CHECK(hint_of([] { measure_named("redundance"); }).starts_with("did you mean redundancy?"));

    Config none = shape(), all = shape();
    none.N_s = 0;
    all.K_r = 6;
    Model without = random_model(none), full = random_model(all), hash = random_model(hashed());
    CHECK(error_of(asked("without-shared", without)).find("has no shared experts") != std::string::npos);
    CHECK(error_of(asked("without-shared", full)).find("not one more") != std::string::npos);
    CHECK(error_of(asked("redundancy", hash)).find("without scores") != std::string::npos);
    CHECK(error_of(asked("specialisation", full, {"a"})) == "specialisation: all sequences have one label");
    all.groups = all.M = 1, all.K_r = 10;
    Model many = random_model(all);
    CHECK(error_of(asked("redundancy", many)).find("K_r = 10 are not left") != std::string::npos);
    assign(full.g, std::vector<real>(full.c.d, INFINITY));
    CHECK_THROWS_WITH_AS(asked("fewer-experts", full)(), "unnamed, K = 6: the loss is no number",
                         std::runtime_error);
}

TEST_CASE("measures: every one has its name alone, a sentence, a paper and different columns") {
    std::set<std::string> names;
    for (const Measure &m : measures()) {
        CHECK(names.insert(m.name).second);
        CHECK(std::string(m.sentence) + m.paper != "");
        CHECK(std::set<std::string>(m.columns.begin(), m.columns.end()).size() == m.columns.size());
    }
}

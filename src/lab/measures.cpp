// measures.cpp: see measures.h.
//
//   [1] readings   [2] where tokens go   [3] experts taken away   [4] the cache   [5] drafts
//   [6] counting   [7] reinforcement   [8] the list
#include "src/lab/measures.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>
#include <unordered_map>

#include "src/base/random.h"
#include "src/base/text.h"
#include "src/infer/decoder.h"
#include "src/base/statistics.h"
#include "src/model/config.h"
#include "src/train/training.h"

using Rows = std::vector<Row>;

double Table::at(const std::string &item, const std::string &column) const {
    const auto row = std::find_if(rows.begin(), rows.end(), [&](const Row &r) { return r.item == item; });
    const auto name = std::find(columns.begin(), columns.end(), column);
    assert(row != rows.end() && name != columns.end());
    return row->values[name - columns.begin()];
}

// ---------------------------------------------------------------------------------------------- [1] readings
// In the order in which Aux meets them, named as their weights.
static std::vector<std::string> routers_of(const Config &c) {
    std::vector<std::string> names;
    for (int l = 0; l < c.n_layers; l++)
        if (c.has_experts(l)) names.push_back(cat("blocks.", l));
    for (int k = 0; k < c.D; k++)
        if (c.has_experts(c.n_layers)) names.push_back(cat("mtp.", k));
    if (names.empty()) fail(c.name + ": has no routed experts", "a model of --preset moe-tiny has some");
    return names;
}

// What the routers of the trunk and of the modules did, batch by batch.
static void read_routing(const Subject &s, const std::function<void(const Batch &, const Aux &)> &use) {
    NoGrad off;
    for (size_t i = 0; i < s.batches.size(); i++) {
        const Batch b = make_batch(s.batches[i], s.model.c.D);
        Aux aux;
        language_modelling(s.model, b, &aux);
        use(b, aux);
        if (s.progress) s.progress("routing", (long)i + 1);
    }
}

// The trunk, where choices are made by `choose` from a layer's scores. Those depend on the choices below, so
// that each layer is run twice: for its scores, and with the choices imposed.
using Choose = std::function<Tensor(const MoE &, const Routing &own, const Tensor &pos)>;
static Tensor steered_trunk(const Model &m, const Step &step, const Choose &choose) {
    Tensor h = gather_rows(m.Emb, step.ids);
    for (int l = 0; l < m.c.n_layers; l++) {
        Aux own, unused;
        Step first = step, second = step;
        first.aux = &own;
        Tensor after = block(m.blocks[l], m.c, h, first, l);
        if (m.c.has_experts(l)) {
            const std::vector<Tensor> imposed = {choose(m.blocks[l].moe, own.routing[0], step.pos)};
            second.aux = &unused;
            second.imposed = &imposed;
            after = block(m.blocks[l], m.c, h, second, l);
        }
        h = after;
    }
    return rmsnorm(h, m.g, m.c.eps);
}

// What `deepseek eval` says, of m: the subject's model, or its weights under another configuration.
static double loss_of(const Subject &s, const Model &m, const std::string &what, const Choose &choose = {}) {
    NoGrad off;
    const auto progress = [&](long done) {
        if (s.progress) s.progress(what, done);
    };
    double nats = 0, targets = 0;
    for (size_t i = 0; choose && i < s.batches.size(); i++) {
        const Batch b = make_batch(s.batches[i], 0);
        const Reading &r = b.reading[0];
        const Tensor h = steered_trunk(m, r.step, choose);
        nats -= (double)item(weighted_sum(logp(h, m.output_head(), r.next).logp, r.weight));
        targets += b.divisor;
        progress((long)i + 1);
    }
    const double loss = choose ? nats / targets : evaluate(m, s.batches, progress).nats;
    if (!std::isfinite(loss)) throw std::runtime_error(cat(m.c.name, ", ", what, ": the loss is no number"));
    return loss;
}

static Row mean_of(const Rows &rows) {
    Row mean = {"summary", Values(rows[0].values.size(), 0)};
    for (size_t j = 0; j < mean.values.size(); j++)
        for (const Row &row : rows) mean.values[j] += row.values[j] / (double)rows.size();
    return mean;
}

// --------------------------------------------------------------------------------------- [2] where tokens go
namespace {
struct Load {                                            // of a router
    std::vector<int> experts, devices;                   // choices
    std::vector<int> received;                           // by device: a token counts once
    double tokens = 0, reached = 0;                      // devices reached, summed over tokens
    double mass = 0, of_best = 0;                        // shares of the scores, summed over tokens
    explicit Load(const Config &c) : experts(c.N_r, 0), devices(c.groups, 0), received(c.groups, 0) {}
    void add(const Config &, const Routing &);
    Row row(const std::string &router) const;
};
}  // namespace

void Load::add(const Config &c, const Routing &r) {
    const std::vector<int> idx = int_values(r.idx);
    const size_t K = r.idx.shape[1], E = c.N_r, tokens_here = idx.size() / K;
    const std::vector<real> s = r.s ? values(r.s) : std::vector<real>(tokens_here * E, NAN);
    for (size_t n = 0; n < tokens_here; n++) {
        if (idx[n * K] < 0) continue;                    // padding
        Values scores(s.begin() + n * E, s.begin() + (n + 1) * E);
        std::set<int> reaches;
        double chosen = 0;
        for (size_t k = 0; k < K; k++) {
            const int i = idx[n * K + k], device = i / (c.N_r / c.groups);
            experts[i]++;
            devices[device]++;
            reaches.insert(device);
            chosen += scores[i];
        }
        std::sort(scores.rbegin(), scores.rend());
        mass += chosen / std::accumulate(scores.begin(), scores.end(), 0.0);
        of_best += chosen / std::accumulate(scores.begin(), scores.begin() + K, 0.0);
        for (int device : reaches) received[device]++;
        reached += (double)reaches.size();
        tokens++;
    }
}

static double share_of_mean(const std::vector<int> &counts, size_t i) {
    return counts[i] * (double)counts.size() / std::accumulate(counts.begin(), counts.end(), 0.0);
}

Row Load::row(const std::string &router) const {
    double few = 0;
    for (size_t i = 0; i < experts.size(); i++) few += share_of_mean(experts, i) < 0.1;
    return {router,
            {tokens, NAN, NAN, max_violation({experts}), few / (double)experts.size(),
             max_violation({devices}), max_violation({received}), reached / tokens, mass / tokens,
             of_best / tokens}};
}

static Rows measure_load(const Subject &s) {
    const Config &c = s.model.c;
    const std::vector<std::string> names = routers_of(c);
    std::vector<Load> loads(names.size(), Load(c));
    read_routing(s, [&](const Batch &, const Aux &aux) {
        for (size_t i = 0; i < aux.routing.size(); i++) loads[i].add(c, aux.routing[i]);
    });
    Rows rows, routers;
    for (size_t r = 0; r < names.size(); r++) {
        const Load &l = loads[r];
        const auto add_detail = [&](const char *kind, size_t i, const std::vector<int> &counts) {
            Row row = {cat(names[r], kind, i), {(double)counts[i], share_of_mean(counts, i)}, true};
            row.values.resize(10, NAN);
            if (&counts == &l.devices) row.values[2] = l.received[i];
            rows.push_back(row);
        };
        for (size_t i = 0; i < l.experts.size(); i++) add_detail(" expert ", i, l.experts);
        for (size_t i = 0; i < l.devices.size(); i++) add_detail(" device ", i, l.devices);
        routers.push_back(l.row(names[r]));
        rows.push_back(routers.back());
    }
    rows.push_back(mean_of(routers));
    return rows;
}

// Choices of each expert, label by label, from those window by window.
static std::vector<Values> by_label(const std::vector<Values> &windows, const std::vector<int> &labels,
                                    int n) {
    std::vector<Values> table(n, Values(windows[0].size(), 0));
    for (size_t w = 0; w < windows.size(); w++)
        for (size_t i = 0; i < windows[w].size(); i++) table[labels[w]][i] += windows[w][i];
    return table;
}

// I(label; expert) of the choices, and of the same windows with the labels dealt out anew: what is left then
// is what so few windows show by chance.
static Rows measure_specialisation(const Subject &s) {
    const std::vector<std::string> names = routers_of(s.model.c);
    std::map<std::string, int> known;
    for (const std::string &label : s.labels) known.try_emplace(label, (int)known.size());
    if (known.size() < 2)
        fail("specialisation: all sequences have one label",
             "--data with a folder of several files, or --tokens with --labels");
    if (s.labels.size() == known.size())
        fail("specialisation: each sequence has a label of its own",
             "more --windows, or texts of the same kind");
    std::vector<int> labels;
    for (const std::string &label : s.labels) labels.push_back(known[label]);
    std::vector<std::vector<int>> shuffled(20, labels);
    for (size_t p = 0; p < shuffled.size(); p++)
        for (size_t i = labels.size() - 1; i > 0; i--)
            std::swap(shuffled[p][i], shuffled[p][random_bits(1, 21, p, i) % (i + 1)]);

    std::vector<std::vector<Values>> windows(names.size());              // [router][window][expert]
    for (auto &router : windows) router.assign(labels.size(), Values(s.model.c.N_r, 0));
    size_t first = 0;
    read_routing(s, [&](const Batch &b, const Aux &aux) {
        for (size_t r = 0; r < aux.routing.size(); r++) {
            const std::vector<int> idx = int_values(aux.routing[r].idx);
            for (size_t at = 0; at < idx.size(); at++)
                if (idx[at] >= 0) windows[r][first + at / (idx.size() / b.B)][idx[at]]++;
        }
        first += b.B;
    });
    Rows rows;
    for (size_t r = 0; r < names.size(); r++) {
        const auto information = [&](const std::vector<int> &l) {
            return mutual_information(by_label(windows[r], l, (int)known.size()));
        };
        Values of_label, control;
        for (const Values &counts : by_label(windows[r], labels, (int)known.size()))
            of_label.push_back(std::accumulate(counts.begin(), counts.end(), 0.0));
        for (const auto &l : shuffled) control.push_back(information(l));
        const double I = information(labels), H = entropy(of_label);
        rows.push_back({names[r],
                        {I, H, I / H, mean(control), standard_deviation(control), (double)known.size(),
                         (double)labels.size()}});
    }
    rows.push_back(mean_of(rows));
    return rows;
}

// ------------------------------------------------------------------------------------ [3] experts taken away
static void expect_scores(const Config &c, const char *measure) {
    routers_of(c);
    expect(c.gate != Gate::hash, measure, ": ", c.name, " routes by a hash, without scores to choose by");
}

// Without the n experts of the highest s, whatever the selection bias says of them; of the rest a router
// chooses as ever. Where the kept groups have fewer than K_r left, a token has fewer: no s of a masked one is
// infinite, for that is what topk makes of groups that are not kept.
static Tensor masked(const Config &c, const MoE &w, const Routing &own, const Tensor &pos, int n) {
    const real out = -1e30;
    std::vector<real> s = values(own.s);
    const std::vector<int> best = n ? int_values(topk(own.s, {}, {.K = n})) : std::vector<int>();
    for (size_t i = 0; i < best.size(); i++) s[i / n * c.N_r + best[i]] = out;
    const Tensor rest = from(s, own.s.shape, "s");
    std::vector<int> idx = int_values(topk(rest, w.b, {c.K_r, c.groups, c.M, c.group_best}, pos));
    for (size_t i = 0; i < idx.size(); i++)
        if (idx[i] >= 0 && s[i / c.K_r * c.N_r + idx[i]] == out) idx[i] = -1;
    return from(idx, own.idx.shape, "idx");
}

// A loss beside that of the model as it is: nats more, and how many times as much.
static Row compared(const std::string &item, int experts, double loss, double full) {
    return {item, {(double)experts, loss, loss - full, loss / full}};
}

static Row worst_of(const Rows &rows) {
    const auto less = [](const Row &a, const Row &b) { return a.values[1] < b.values[1]; };
    return {"summary", std::max_element(rows.begin(), rows.end(), less)->values};
}

static Rows measure_redundancy(const Subject &s) {
    const Config &c = s.model.c;
    expect_scores(c, "redundancy");
    Rows rows;
    for (int sixteenths = 0; sixteenths <= 4; sixteenths++) {
        const int n = (int)std::lround(c.N_r * sixteenths / 16.0);
        expect(n + c.K_r <= c.N_r, "redundancy: without ", n, " of N_r = ", c.N_r, " experts, K_r = ", c.K_r,
               " are not left");
        const auto choose = [&](const MoE &w, const Routing &own, const Tensor &pos) {
            return masked(c, w, own, pos, n);
        };
        const std::string item = cat(sixteenths, "/16");
        const double loss = loss_of(s, s.model, item, choose);
        rows.push_back(compared(item, n, loss, rows.empty() ? loss : rows[0].values[1]));
    }
    rows.push_back(worst_of(rows));
    return rows;
}

static Rows measure_fewer_experts(const Subject &s) {
    routers_of(s.model.c);
    Model m = sharing(s.model, s.model.c.linear);
    Rows rows;
    for (; m.c.K_r >= 1; m.c.K_r--) {
        const std::string item = cat("K = ", m.c.K_r);
        const double loss = loss_of(s, m, item);
        rows.push_back(compared(item, m.c.K_r, loss, rows.empty() ? loss : rows[0].values[1]));
    }
    rows.push_back(worst_of(rows));
    return rows;
}

// The control: of each token's experts a random one is left out, as if the others alone had been chosen.
static Rows measure_without_shared(const Subject &s) {
    const Config &c = s.model.c;
    expect_scores(c, "without-shared");
    expect(c.N_s > 0, "without-shared: ", c.name, " has no shared experts");
    expect(c.K_r < c.N_r / c.groups * c.M, "without-shared: all of the ", c.K_r,
           " experts that a token may use are chosen, there is not one more");
    Model m = sharing(s.model, c.linear);
    m.c.N_s = 0;
    m.c.K_r++;
    Random random = {1};
    const auto one_less = [&](const MoE &, const Routing &own, const Tensor &) {
        std::vector<int> idx = int_values(own.idx);
        for (size_t i = 0; i < idx.size(); i += c.K_r) idx[i + random.below(c.K_r)] = -1;
        return from(idx, own.idx.shape, "idx");
    };
    const double full = loss_of(s, s.model, "as trained");
    Rows rows = {compared("as trained", c.K_r, full, full)};
    rows.push_back(compared("shared off", c.K_r + 1, loss_of(s, m, "shared off"), full));
    rows.push_back(
        compared("one routed off", c.K_r - 1, loss_of(s, s.model, "one routed off", one_less), full));
    for (Row &row : rows) row.values.push_back(NAN);
    rows.push_back({"summary", rows[1].values});
    rows.back().values.back() = rows[1].values[2] / rows[2].values[2];
    return rows;
}

// --------------------------------------------------------------------------------------------- [4] the cache
// Of a token: numbers in all layers and in one, bytes, how many groups of GQA have as many, and what this
// model's formula saves of the bytes.
static Rows measure_cache(const Subject &s) {
    const Config &c = s.model.c;
    const double formula = (double)census(c).cache_numbers * c.n_layers;
    Rows rows;
    const auto add = [&](const std::string &item, const Config &shape, double numbers,
                         double bits_of_formula = 1, double bits = 1) {
        rows.push_back({item,
                        {numbers, numbers / shape.n_layers, numbers * sizeof(real),
                         numbers / shape.n_layers / (2.0 * shape.d_h),
                         1 - formula * bits_of_formula / (numbers * bits)}});
    };
    if (s.length > 0) {
        expect(formula * s.length * sizeof(real) < (double)device->memory(), "cache: of ", s.length,
               " tokens it does not fit into the memory");
        const size_t before = pool_report(*device).held_bytes;
        const Decoder decoder(s.model, 1, s.length);
        double numbers = 0;
        for (const LayerCache &layer : decoder.caches.layers)
            for (const Tensor *cache : {&layer.latent, &layer.k, &layer.v})
                if (*cache) numbers += (double)cache->s->n / s.length;
        add("allocated", c, numbers);
        const double held = (double)(pool_report(*device).held_bytes - before) / s.length;
        rows.push_back({"the pool's blocks", {NAN, NAN, held, NAN, NAN}});       // powers of two
    }
    add("formula", c, formula);
    Row summary = {"summary", rows.back().values};
    add("MHA", c, 2.0 * c.n_h * c.d_h * c.n_layers);
    for (int groups : {8, 4, 2})
        if (groups < c.n_h && c.n_h % groups == 0)
            add(cat("GQA-", groups), c, 2.0 * groups * c.d_h * c.n_layers);
    add("MQA", c, 2.0 * c.d_h * c.n_layers);
    if (!s.length) {                                     // what V2 compares itself with
        const Config before = load_preset("deepseek-llm-67b");
        const double numbers = (double)census(before).cache_numbers * before.n_layers;
        add(before.name, before, numbers);
        add(before.name + " in 16 bits beside 6", before, numbers, 6, 16);
    }
    summary.values.back() = 1 - formula / (2.0 * c.n_h * c.d_h * c.n_layers);            // of MHA's
    rows.push_back(summary);
    return rows;
}

// ------------------------------------------------------------------------------------------------ [5] drafts
static std::vector<int> most_likely(const Model &m, const Tensor &h) {
    const long n = h.shape.rows();
    const Tensor logits = matmul(reshape(h, {n, m.c.d}), m.output_head());
    return int_values(sample(logits, zero_ints({n, 3}), {.temperature = 0}).id);
}

// Module k says at position i what the trunk will say k tokens later, both reading the text as it is.
static Rows measure_acceptance(const Subject &s) {
    NoGrad off;
    const Model &m = s.model;
    if (!m.c.D) fail(m.c.name + ": has no multi-token prediction", "a model of --preset v3-tiny has");
    std::vector<Values> shares(m.c.D);                   // of each sequence
    Values same(m.c.D, 0), positions(m.c.D, 0);
    for (size_t i = 0; i < s.batches.size(); i++) {
        const Batch b = make_batch(s.batches[i], m.c.D);
        Tensor h = trunk(m, b.reading[0].step);
        const std::vector<int> later = most_likely(m, h);
        for (int k = 1; k < (int)b.reading.size(); k++) {
            const MTP &w = m.mtp[k - 1];
            const int T = b.T - k;
            h = mtp(w, m, slice(h, 1, 0, T), b.reading[k].step);                     // V3 (21)(22)
            const std::vector<int> draft = most_likely(m, rmsnorm(h, w.g_out, m.c.eps));
            const std::vector<int> pos = int_values(b.reading[k].step.pos);
            for (int row = 0; row < b.B; row++) {
                double n = 0, right = 0;
                for (int t = 0; t < T && pos[row * T + t] >= 0; t++, n++)
                    right += draft[row * T + t] == later[row * b.T + t + k];
                if (n) shares[k - 1].push_back(right / n);
                same[k - 1] += right;
                positions[k - 1] += n;
            }
        }
        if (s.progress) s.progress("drafts", (long)i + 1);
    }
    Rows rows;
    for (int k = 0; k < m.c.D; k++)
        rows.push_back(
            {cat("module ", k + 1),
             {same[k] / positions[k], shares[k].size() > 1 ? standard_error(shares[k]) : NAN, positions[k]}});
    const auto sum = [](const Values &x) { return std::accumulate(x.begin(), x.end(), 0.0); };
    rows.push_back({"summary", {sum(same) / sum(positions), NAN, sum(positions)}});
    return rows;
}

// ---------------------------------------------------------------------------------------------- [6] counting
namespace {
struct Pair {                                            // a token, and the next
    int x, y;
    double weight;                                       // as a target
};
using Pairs = std::vector<Pair>;
struct Counts {                                          // p(y | x) = (n(x,y) + alpha) / (n(x) + alpha V)
    int V;
    std::unordered_map<long, long> n_xy, n_x;
    void add(const Pairs &pairs) {
        for (const auto &[x, y, weight] : pairs) n_xy[(long)x * V + y]++, n_x[x]++;
    }
    double loss(const Pairs &pairs, double alpha) const {
        const auto count = [](const auto &n, long key) {
            const auto at = n.find(key);
            return at == n.end() ? 0.0 : (double)at->second;
        };
        double nats = 0, targets = 0;
        for (const auto &[x, y, weight] : pairs) {
            if (weight == 0) continue;
            nats -= weight * std::log((count(n_xy, (long)x * V + y) + alpha) / (count(n_x, x) + alpha * V));
            targets += weight;
        }
        return nats / targets;
    }
    std::unordered_map<int, int> most_likely() const {   // x -> y, of several the lowest
        std::unordered_map<int, int> best;
        for (const auto &[key, n] : n_xy) {
            const int x = int(key / V), y = int(key % V), before = best.try_emplace(x, y).first->second;
            const long most = n_xy.at((long)x * V + before);
            if (n > most || (n == most && y < before)) best[x] = y;
        }
        return best;
    }
};
}  // namespace

// Without context every token follows the same one: a unigram.
static Pairs pairs_of(const Examples &list, bool context) {
    Pairs pairs;
    for (const Example &e : list)
        for (size_t i = 1; i < e.ids.size(); i++)
            pairs.push_back(
                {context ? e.ids[i - 1] : 0, e.ids[i], e.weight.empty() ? 1 : (double)e.weight[i]});
    return pairs;
}

// Of the training part; alpha is the power of two that foretells its last twentieth best from the others.
static std::pair<Counts, double> counts_of(const Pairs &training, int V) {
    const size_t most = training.size() - std::max<size_t>(1, training.size() / 20);
    const Pairs first(training.begin(), training.begin() + most),
        last(training.begin() + most, training.end());
    Counts counts = {V, {}, {}};
    counts.add(first);
    double alpha = 1;
    for (int power = -16; power <= 6; power++)
        if (counts.loss(last, std::exp2(power)) < counts.loss(last, alpha)) alpha = std::exp2(power);
    counts.add(last);
    return {counts, alpha};
}

// What the trunk would say after each token of the held-out part.
static Pairs said_by(const Subject &s) {
    NoGrad off;
    Pairs pairs;
    for (const Examples &list : s.batches) {
        const Batch b = make_batch(list, 0);
        const std::vector<int> said = most_likely(s.model, trunk(s.model, b.reading[0].step));
        for (int row = 0; row < b.B; row++)
            for (size_t i = 0; i + 1 < list[row].ids.size(); i++)
                pairs.push_back({list[row].ids[i], said[row * b.T + i], 1});
    }
    return pairs;
}

static Rows measure_bigram(const Subject &s) {
    Examples held_out;
    for (const Examples &batch : s.batches) held_out.insert(held_out.end(), batch.begin(), batch.end());
    const double model = loss_of(s, s.model, "model");
    const Pairs trunk = said_by(s);
    const auto row = [&](const char *item, bool context) -> Row {
        const Pairs training = pairs_of(s.training, context);
        expect(training.size() >= 2, "bigram: nothing to count in the training part");
        const auto [counts, alpha] = counts_of(training, s.model.c.V);
        const double loss = counts.loss(pairs_of(held_out, context), alpha);
        const auto best = counts.most_likely();
        double accepted = 0;
        for (const auto &[x, said, weight] : trunk) {
            const auto at = best.find(context ? x : 0);
            accepted += at != best.end() && at->second == said;
        }
        return {item, {loss, alpha, (double)training.size(), loss - model, accepted / (double)trunk.size()}};
    };
    Rows rows = {row("unigram", false), row("bigram", true), {"model", {model, NAN, NAN, 0, 1}}};
    const bool bigram = rows[1].values[0] < rows[0].values[0];
    rows.push_back({"summary", rows[bigram].values});    // what counting reaches
    return rows;
}

// -------------------------------------------------------------------------- [7] can reinforcement start?
static std::vector<Row> measure_viability(const Subject &s) {
    std::vector<Row> rows;
    for (const auto &[level, score] : s.scores)
        rows.push_back({level,
                        {mean(score.pass[0]), mean(score.pass.back()), mean(score.majority.back()),
                         1 - score.flat, score.formed, score.tokens, score.cut}});
    if (!rows.empty()) rows.push_back({"summary", rows.back().values});
    return rows;
}

// ---------------------------------------------------------------------------------------------- [8] the list
static const std::vector<Measure> list = {
    {"load",
     "where tokens go, by expert and by device (a group of experts)",
     "V2 2.2, V3 2.1.2, loss-free balancing",
     reads_text,
     {"tokens", "of_mean", "received", "max_vio", "below_tenth", "device_max_vio", "received_max_vio",
      "devices_per_token", "mass", "mass_of_best"},
     "tokens: choices of an expert or a device's experts; of_mean: beside an even share; received: "
     "tokens that reach a device, each once; max_vio, device_max_vio, received_max_vio: the largest "
     "of them beside the mean, less 1; below_tenth: share of experts below a tenth of the mean; "
     "mass: share of a token's scores that is chosen, mass_of_best: of its K_r best; the summary is "
     "the mean of the routers",
     measure_load},
    {"specialisation",
     "what a routed expert tells of its sequence's label",
     "V3 4.5.3",
     reads_text | reads_labels,
     {"information", "entropy", "share", "shuffled", "shuffled_deviation", "labels", "sequences"},
     "information: nats; entropy: of the labels; share: of it; shuffled and its deviation: the same "
     "with labels dealt anew; the summary is the mean of the routers",
     measure_specialisation},
    {"redundancy",
     "the loss without each token's best-scored experts, others chosen instead",
     "MoE figure 4",
     reads_text,
     {"masked", "loss", "more", "times"},
     "masked: experts; loss: nats a token; more, times: than with all; the summary is the worst row",
     measure_redundancy},
    {"without-shared",
     "the loss with the shared experts off and one more routed on",
     "MoE 4.5",
     reads_text,
     {"routed", "loss", "more", "times", "of_control"},
     "routed: experts of a token; loss: nats a token; more, times: than as trained; of_control: nats "
     "more with the shared off beside one routed off; the summary is the shared experts off",
     measure_without_shared},
    {"fewer-experts",
     "the loss with K_r, K_r - 1, ... 1 experts of each token",
     "MoE figure 5",
     reads_text,
     {"routed", "loss", "more", "times"},
     "routed: experts of a token; loss: nats a token; more, times: than as trained; the summary is "
     "the worst row",
     measure_fewer_experts},
    {"cache",
     "a token's cache, as allocated and by formula, beside others'",
     "V2 2.1.4",
     reads_length,
     {"numbers", "per_layer", "bytes", "GQA_groups", "saved"},
     "numbers: of a token in all layers; per_layer; bytes: in float32; GQA_groups: key-value heads "
     "with as large a cache; saved: of the row's bytes; the summary is the formula, saved of MHA's",
     measure_cache},
    {"acceptance",
     "how often MTP module k's most likely token is the trunk's, k tokens later",
     "V3 5.4.3",
     reads_text,
     {"accepted", "error", "positions"},
     "accepted: share of positions; error: its standard error over sequences; the summary is over "
     "all modules",
     measure_acceptance},
    {"bigram",
     "the loss of counting tokens, and pairs of them, in the training part",
     "a control",
     reads_text | reads_training,
     {"loss", "alpha", "counted", "more", "accepted"},
     "loss: nats a token; alpha: added to each count; counted: pairs; more: nats more than the "
     "model; accepted: share of positions; the summary is the better of the two",
     measure_bigram},
    {"rl-viability",
     "can reinforcement start: does a policy's own sampling find what would be rewarded?",
     "R1, v2 (small bases); Math 5.2",
     reads_task,
     {"pass_1", "pass_K", "maj_K", "differing", "formed", "tokens", "cut"},
     "pass_1: an output is right; pass_K: one of a question's K is; maj_K: their vote is; differing: "
     "share of questions whose outputs are not all right or all wrong, the only ones that teach; formed: of "
     "the asked form; cut: did not end; the summary is the usual level",
     measure_viability},
};

const std::vector<Measure> &measures() { return list; }

const Measure &measure_named(const std::string &name) {
    std::vector<std::string> names;
    for (const Measure &m : measures()) {
        if (m.name == name) return m;
        names.push_back(m.name);
    }
    fail("no measure '" + name + "'", did_you_mean(name, names, "`deepseek measure --list` shows all"));
}

Table measured(const Measure &measure, const Subject &s) {
    Table table = {measure.columns, measure.rows(s)};
    for (const Row &row : table.rows) assert(row.values.size() == table.columns.size());
    return table;
}

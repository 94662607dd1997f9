// batch.cpp: sequences of tokens become a batch on the device.
#include "src/train/batch.h"

#include <algorithm>
#include <map>


Examples examples(const std::vector<std::vector<int>> &sequences) {
    Examples list;
    for (const auto &ids : sequences) list.push_back({.ids = ids});
    return list;
}

std::vector<Examples> examples(const std::vector<std::vector<std::vector<int>>> &batches) {
    std::vector<Examples> list;
    for (const auto &sequences : batches) list.push_back(examples(sequences));
    return list;
}

static Example example(const Sample &s) {
    return {.ids = s.ids, .weight = s.weight, .starts = s.starts, .kind = s.kind};
}

Examples examples(const std::vector<Sample> &samples) {
    Examples list;
    for (const Sample &s : samples) list.push_back(example(s));
    return list;
}

std::vector<Examples> in_batches(const Examples &list, int B) {
    std::vector<Examples> batches;
    for (size_t i = 0; i < list.size(); i++) {
        if (i % B == 0) batches.emplace_back();
        batches.back().push_back(list[i]);
    }
    return batches;
}

Examples examples(Corpus &c, const Tokenizer &tokenizer, long position, int B, int T) {
    if (!c.game) return examples(windows(c, tokenizer, position, B, T));
    Examples list;
    for (int i = 0; i < B; i++) list.push_back(example(c.game->sample(c.seed, position + i, T)));
    return list;
}

std::vector<Examples> held_out_examples(const Corpus &c, int B, int T, size_t most) {
    if (!c.game) return examples(held_out_windows(c, B, T, most));
    const size_t n = std::min<size_t>(most, std::max(256, (1 << 17) / T));
    Examples list;
    for (size_t i = 0; i < n; i++) list.push_back(example(c.game->held_out((long)i, T)));
    return in_batches(list, B);
}

// document[i]: where the document of token i begins.
static std::vector<int> documents(const Example &e) {
    std::vector<int> begin(e.ids.size(), 0);
    for (int start : e.starts) {
        assert(start >= 0 && start < (int)e.ids.size());
        std::fill(begin.begin() + start, begin.end(), start);
    }
    return begin;
}

static real weight_of(const Example &e, size_t i) { return e.weight.empty() ? 1 : e.weight[i]; }

namespace {
struct Columns {                                         // of one reading, row by row
    std::vector<int> ids, pos, keys, next;
    std::vector<real> weight;
    bool weighted = false;
    // Position i of e, read k tokens ahead. A target belongs to the document of the token that predicts it.
    void add(const Example &e, const std::vector<int> &document, int i, int k) {
        const size_t n = e.ids.size(), target = i + k + 1;
        const bool real_token = target < n, learned = real_token && document[target] == document[i];
        ids.push_back(real_token ? e.ids[i + k] : 0);
        pos.push_back(real_token ? i - document[i] : -1);
        keys.insert(keys.end(), {real_token ? document[i] : 0, real_token ? i : -1});
        weight.push_back(learned ? weight_of(e, target) : 0);
        next.push_back(weight.back() != 0 ? e.ids[target] : -1);
        weighted |= weight.back() != 0 && weight.back() != 1;
    }
    Reading reading(int B, int T) const {
        Reading r = {.step = {.ids = from(ids, {B, T}, "ids"),
                              .pos = from(pos, {B, T}, "pos"),
                              .where = {from(keys, {B, T, 2}, "where")}},
                     .next = from(next, {B, T}, "next"),
                     .weight = {}};
        if (weighted) r.weight = from(weight, {B, T}, "weight");
        return r;
    }
};
}  // namespace

static void add_kinds(Batch &b, const Examples &list, const std::vector<real> &weight) {
    std::map<std::string, std::vector<real>> kinds;
    for (int row = 0; row < b.B; row++) {
        if (list[row].kind.empty()) continue;
        auto &mine = kinds.try_emplace(list[row].kind, weight.size(), 0).first->second;
        std::copy_n(weight.begin() + row * b.T, b.T, mine.begin() + row * b.T);
    }
    for (const auto &[name, mine] : kinds) {
        double sum = 0;
        for (real w : mine) sum += w;
        if (sum > 0) b.kinds.push_back({name, from(mine, {b.B, b.T}, "weight"), sum});
    }
}

Batch make_batch(const Examples &list, int D) {
    size_t longest = 0;
    for (const Example &e : list) {
        assert(e.weight.empty() || e.weight.size() == e.ids.size());
        longest = std::max(longest, e.ids.size());
    }
    assert(longest >= 2);
    Batch b = {.B = (int)list.size(), .T = (int)longest - 1, .reading = {}, .kinds = {}};
    for (int k = 0; k <= std::min(D, b.T - 1); k++) {
        Columns columns;
        for (const Example &e : list) {
            const std::vector<int> document = documents(e);
            for (int i = 0; i < b.T - k; i++) columns.add(e, document, i, k);
        }
        b.reading.push_back(columns.reading(b.B, b.T - k));
        if (k > 0) continue;
        for (int p : columns.pos) b.tokens += p >= 0;
        for (real w : columns.weight) b.divisor += w;
        add_kinds(b, list, columns.weight);
    }
    return b;
}

// A sequence is exempt from dropping or not by its tokens alone: whatever the batch, and every time.
static void mark_exempt(Batch &b, const Examples &list, double share) {
    std::vector<uint64_t> key(b.B, 0);
    for (int row = 0; row < b.B; row++)
        for (int id : list[row].ids) key[row] = mix(key[row] ^ id);
    for (Reading &r : b.reading) {
        const int T = r.step.pos.shape[1];
        std::vector<int> exempt;
        for (int i = 0; i < b.B * T; i++) exempt.push_back(uniform(key[i / T], 0, 0, 0) < share);
        r.step.exempt = from(exempt, {b.B, T}, "exempt");
    }
}

std::vector<Batch> make_batches(const std::vector<Examples> &lists, const Config &c) {
    std::vector<Batch> batches;
    double divisor = 0, sequences = 0;
    std::map<std::string, double> of_kind;
    for (const auto &list : lists) {
        batches.push_back(make_batch(list, c.D));
        if (c.capacity > 0) mark_exempt(batches.back(), list, c.exempt);
        divisor += batches.back().divisor;
        sequences += batches.back().B;
        for (const Kind &kind : batches.back().kinds) of_kind[kind.name] += kind.divisor;
    }
    for (Batch &b : batches) {
        b.divisor = divisor;
        b.share = b.B / sequences;
        for (Kind &kind : b.kinds) kind.divisor = of_kind[kind.name];
    }
    return batches;
}

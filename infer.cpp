// infer.cpp: using a trained model. Sequences of a batch grow at their own pace, each with its
// own length in the caches; what a query may see is a span over the cache's rows, so padding
// costs a row and changes nothing.
//
//   [1] Decoder: prefill and decode are the same call, with many tokens or with one   [2] generate
#include <algorithm>

#include "src/infer/decoder.h"
#include "src/model/weights.h"

// ----------------------------------------------------------------------------------------------- [1] Decoder
Decoder::Decoder(const Model &m, int B, int T_max) : m(m), B(B), T_max(T_max), length(B, 0) {
    NoGrad off;
    caches = make_caches(m.c, B, T_max);
}

// One chunk: T columns, row b holds tokens[b][from .. from+T) or padding (position -1, sees nothing, written
// nowhere). last[b] becomes the row of b's last token, at[b] 0, if it has one in this chunk.
static Tensor feed_chunk(Decoder &d, const Sequences &tokens, size_t from_token, int T,
                         std::vector<int> &last, std::vector<int> &at) {
    std::vector<int> ids, pos, keys;
    for (int b = 0; b < d.B; b++) {
        for (int t = 0; t < T; t++) {
            const bool real_token = from_token + t < tokens[b].size();
            ids.push_back(real_token ? tokens[b][from_token + t] : 0);
            pos.push_back(real_token ? d.length[b]++ : -1);
            keys.insert(keys.end(), {0, pos.back()});
            if (real_token) last[b] = b * T + t, at[b] = 0;
        }
    }
    const Tensor position = from(pos, {d.B, T}, "pos");
    const Step step = {.ids = from(ids, {d.B, T}, "ids"),
                       .pos = position,
                       .where = {from(keys, {d.B, T, 2}, "where")},
                       .at = position,
                       .past = &d.caches};
    return trunk(d.m, step);
}

Tensor Decoder::feed(const Sequences &tokens, int chunk) {
    NoGrad off;
    assert((int)tokens.size() == B);
    size_t longest = 0;
    for (int b = 0; b < B; b++) {
        longest = std::max(longest, tokens[b].size());
        expect(length[b] + (long)tokens[b].size() <= T_max, "sequence ", b, ": ",
               length[b] + tokens[b].size(), " tokens do not fit into the cache of ", T_max);
        for (int id : tokens[b]) expect(id >= 0 && id < m.c.V, "token id ", id, " is not below ", m.c.V);
    }
    const Tensor h_last = zeros({B, 1, 1, m.c.d}), one = zero_ints({B});     // a cache of one row: the last
    for (size_t from_token = 0; from_token < longest; from_token += chunk) {
        const int T = (int)std::min<size_t>(chunk, longest - from_token);
        std::vector<int> last(B, 0), at(B, -1);
        const Tensor h = feed_chunk(*this, tokens, from_token, T, last, at);
        const Tensor rows = gather_rows(reshape(h, {(long)B * T, m.c.d}), from(last, {B}));
        append(h_last, one, reshape(rows, {B, 1, 1, m.c.d}), from(at, {B, 1}));
    }
    return matmul(reshape(h_last, {B, m.c.d}), m.output_head());
}

// ---------------------------------------------------------------------------------------------- [2] generate
Sequences generate(const Model &m, const Sequences &prompts, const Generation &g,
                   const std::function<void(int, int)> &on_token) {
    NoGrad off;
    const int B = (int)prompts.size();
    size_t longest = 0;
    for (const auto &prompt : prompts) {
        expect(!prompt.empty(), "generate: an empty prompt");
        longest = std::max(longest, prompt.size());
    }
    expect((long)longest < m.c.context, "the prompt has ", longest, " tokens, the model's context ",
           m.c.context);
    Decoder decoder(m, B, (int)std::min<long>(m.c.context, (long)longest + g.max_tokens));
    Sequences added(B), next = prompts;
    std::vector<bool> done(B, false);
    for (int n = 0; n < g.max_tokens; n++) {
        const Tensor logits = decoder.feed(next);
        std::vector<int> key;
        for (int b = 0; b < B; b++) key.insert(key.end(), {b, decoder.length[b]});
        const auto ids = int_values(sample(logits, from(key, {B, 2}, "key"), g.sampling).id);
        for (int b = 0; b < B; b++) {
            next[b].clear();
            done[b] = done[b] || std::count(g.stop.begin(), g.stop.end(), ids[b]);
            if (done[b]) continue;
            added[b].push_back(ids[b]);
            if (on_token) on_token(b, ids[b]);
            if (decoder.length[b] >= decoder.T_max) done[b] = true;
            else next[b] = {ids[b]};
        }
        if (std::count(done.begin(), done.end(), true) == B) break;
    }
    return added;
}

// infer.cpp: using a trained model. Sequences of a batch grow at their own pace, each with its
// own length in the caches; what a query may see is a span over the cache's rows, so padding
// costs a row and changes nothing.
//
// A row's bits depend neither on the rows beside it nor on the number of threads. So who shares a batch with
// whom is a matter of speed alone: slots are filled as they become free, and an answer is the same to the bit
// in any of them, whatever the order of the questions.
//
//   [1] Decoder: prefill and decode are the same call, with many tokens or with one
//   [2] decode: questions go through the slots of a decoder   [3] generate
#include <algorithm>
#include <memory>

#include "src/infer/decoder.h"
#include "src/model/weights.h"

// ----------------------------------------------------------------------------------------------- [1] Decoder
Decoder::Decoder(const Model &m, int B, int T_max) : m(m), B(B), T_max(T_max), length(B, 0) {
    NoGrad off;
    caches = make_caches(m.c, B, T_max);
}

// T columns, row b holds tokens[b][from .. from+T) or padding (position -1, sees nothing, written nowhere).
namespace {
struct Chunk {
    int T;
    std::vector<int> ids = {}, pos = {}, keys = {}, column = {};
    std::vector<int> last, at;     // the row of each slot's last token; 0 where it has one here, else -1
};
}  // namespace

static Chunk chunk_of(Decoder &d, const Sequences &tokens, size_t from_token, int T) {
    Chunk c = {.T = T, .last = std::vector<int>(d.B, 0), .at = std::vector<int>(d.B, -1)};
    for (int b = 0; b < d.B; b++)
        for (int t = 0; t < T; t++) {
            const bool real_token = from_token + t < tokens[b].size();
            c.ids.push_back(real_token ? tokens[b][from_token + t] : 0);
            c.pos.push_back(real_token ? d.length[b]++ : -1);
            c.keys.insert(c.keys.end(), {0, c.pos.back()});
            c.column.push_back(real_token ? (int)from_token + t : -1);
            if (real_token) c.last[b] = b * T + t, c.at[b] = 0;
        }
    return c;
}

static void record_experts(const Aux &aux, const Chunk &c, EveryToken &every) {
    every.experts.resize(aux.routing.size(), Sequences(c.last.size()));
    for (size_t i = 0; i < aux.routing.size(); i++) {
        const std::vector<int> idx = int_values(aux.routing[i].idx);
        const size_t K = idx.size() / c.pos.size();
        for (size_t row = 0; row < c.pos.size(); row++) {
            std::vector<int> &list = every.experts[i][row / c.T];
            if (c.pos[row] >= 0) list.insert(list.end(), &idx[row * K], &idx[row * K] + K);
        }
    }
}

static void feed_chunk(Decoder &d, const Chunk &c, EveryToken *every) {
    const int B = d.B, T = c.T, width = d.m.c.d;
    const Tensor position = from(c.pos, {B, T}, "pos");
    Aux aux;
    const Step step = {.ids = from(c.ids, {B, T}, "ids"),
                       .pos = position,
                       .where = {from(c.keys, {B, T, 2}, "where")},
                       .at = position,
                       .past = &d.caches,
                       .aux = every && every->routing ? &aux : nullptr};
    const Tensor h = trunk(d.m, step);
    const Tensor last = gather_rows(reshape(h, {(long)B * T, width}), from(c.last, {B}));
    append(reshape(d.h, {B, 1, 1, width}), reshape(last, {B, 1, 1, width}), from(c.at, {B, 1}));
    if (step.aux) record_experts(aux, c, *every);
    if (every && every->hidden)
        append(reshape(every->h, {B, every->h.shape[1], 1, width}), reshape(h, {B, T, 1, width}),
               from(c.column, {B, T}));
}

Tensor Decoder::feed(const Sequences &tokens, int chunk, EveryToken *every) {
    NoGrad off;
    assert((int)tokens.size() == B);
    size_t longest = 0;
    for (int b = 0; b < B; b++) {
        longest = std::max(longest, tokens[b].size());
        expect(length[b] + (long)tokens[b].size() <= T_max, "sequence ", b, ": ",
               length[b] + tokens[b].size(), " tokens do not fit into the cache of ", T_max);
        for (int id : tokens[b]) expect(id >= 0 && id < m.c.V, "token id ", id, " is not below ", m.c.V);
    }
    h = h ? clone(h) : zeros({B, m.c.d}, "h");           // who holds the last one keeps it as it was
    if (every && every->hidden) every->h = zeros({B, (long)longest, m.c.d}, "h");
    if (every) every->experts.clear();
    for (size_t from_token = 0; from_token < longest; from_token += chunk) {
        const int T = (int)std::min<size_t>(chunk, longest - from_token);
        feed_chunk(*this, chunk_of(*this, tokens, from_token, T), every);
    }
    return h;
}

Tensor Decoder::logits(const Tensor &h) const {
    NoGrad off;
    return matmul(h, m.output_head());
}

void Decoder::rollback(int slot, int to) {
    assert(to >= 0 && to <= length[slot]);
    length[slot] = to;
}

// Only the rows that count: of a cache (B,T_max,n,w) the first `length` of a slot, one after the other.
void Decoder::take(const Decoder &other, int from, int to) {
    const int n = other.length[from];
    assert(n <= T_max && other.h && &m == &other.m);
    if (this == &other && from == to) return;
    for (size_t l = 0; l < caches.layers.size(); l++)
        for (Tensor LayerCache::*part : {&LayerCache::latent, &LayerCache::k, &LayerCache::v}) {
            const Tensor &rows = caches.layers[l].*part, &theirs = other.caches.layers[l].*part;
            if (!rows) continue;
            const long of_token = rows.shape[2];
            copy_rows(rows, to * T_max * of_token, theirs, from * other.T_max * of_token, n * of_token);
        }
    if (!h) h = zeros({B, m.c.d}, "h");
    copy_rows(h, to, other.h, from, 1);
    length[to] = n;
}

// ------------------------------------------------------------------------------------------------ [2] decode
std::vector<int> Answer::text() const {
    return std::vector<int>(ids.begin(), ids.end() - (end == End::stop && !ids.empty()));
}

namespace {
using OnToken = std::function<void(int request, int sample, int id)>;

// A prompt is fed to a decoder of its own, with one slot, so that no neighbour waits in padding for it; every
// sample then takes it over from there, hidden state and all. Samples of a request follow each other, so one
// such slot is enough.
struct Decoding {
    const Model &m;
    const std::vector<Request> &requests;
    const DecodeOptions &o;
    const OnToken &on_token;
    std::vector<std::vector<Answer>> answers;

    struct Slot { int request = -1, sample = 0; };       // -1: nobody's
    std::vector<Slot> slots;
    Slot next = {0, 0};                                  // who comes into the next slot that is free
    Decoder prompt;
    std::unique_ptr<Decoder> decoder;
    int prompt_of = -1;
    EveryToken of_prompt = {}, of_step = {};

    void run();
    void refill();
    void shrink();
    void feed_prompt(int request);
    std::vector<int> busy() const;
    Sequences sample_step(const std::vector<int> &busy);
    bool add(int slot, int id);                          // false: that was its last
};

int total(const std::vector<Request> &requests) {
    int n = 0;
    for (const Request &r : requests) n += r.samples;
    return n;
}
int longest(const std::vector<Request> &requests, int context, bool answer) {
    long most = 1;
    for (const Request &r : requests)
        most = std::max(most, (long)r.prompt.size() + (answer ? r.max_tokens : 0));
    return (int)std::min<long>(most, context);
}

void Decoding::feed_prompt(int request) {
    if (prompt_of == request) return;
    prompt.free(0);
    prompt.feed({requests[request].prompt}, 64, &of_prompt);
    prompt_of = request;
}

void Decoding::refill() {
    for (int b = 0; b < decoder->B; b++) {
        while (next.request < (int)requests.size() && next.sample >= requests[next.request].samples)
            next = {next.request + 1, 0};
        if (slots[b].request >= 0 || next.request >= (int)requests.size()) continue;
        feed_prompt(next.request);
        decoder->take(prompt, 0, b);
        for (const Sequences &router : of_prompt.experts)
            answers[next.request][next.sample].experts.push_back(router[0]);
        slots[b] = next;
        next.sample++;
    }
}

// Once nobody waits, slots stay empty, and their rows would be computed for nothing: the answers under way
// move into a decoder of as many slots as they are, whenever that halves it.
void Decoding::shrink() {
    const std::vector<int> now = busy();
    if (next.request < (int)requests.size() || 2 * (int)now.size() > decoder->B || now.empty()) return;
    auto smaller = std::make_unique<Decoder>(m, (int)now.size(), decoder->T_max);
    std::vector<Slot> theirs;
    for (int b : now) {
        smaller->take(*decoder, b, (int)theirs.size());
        theirs.push_back(slots[b]);
    }
    decoder = std::move(smaller);
    slots = std::move(theirs);
}

std::vector<int> Decoding::busy() const {
    std::vector<int> list;
    for (int b = 0; b < decoder->B; b++)
        if (slots[b].request >= 0) list.push_back(b);
    return list;
}

bool Decoding::add(int slot, int id) {
    const auto [request, sample] = slots[slot];
    const Request &r = requests[request];
    Answer &a = answers[request][sample];
    a.ids.push_back(id);
    if (std::count(r.stop.begin(), r.stop.end(), id)) {
        a.end = End::stop;
        return false;
    }
    if (on_token) on_token(request, sample, id);
    const bool enough = (int)a.ids.size() >= r.max_tokens;
    a.end = enough ? End::max_tokens : End::context;
    return !enough && decoder->length[slot] < m.c.context;
}

// The next token of every answer under way, and what is to be fed for it.
Sequences Decoding::sample_step(const std::vector<int> &busy) {
    const int n = (int)busy.size(), words = set_words(m.c.V);
    const Tensor h = gather_rows(decoder->h, from(busy, {n}, "busy"));
    std::vector<int> key;
    for (int b : busy)
        key.insert(key.end(), {requests[slots[b].request].question, slots[b].sample, decoder->length[b]});
    const Sampled drawn = sample(decoder->logits(h), from(key, {n, 3}, "key"), o.sampling);
    const std::vector<int> ids = int_values(drawn.id);
    std::vector<int> kept;
    if (o.kept) kept = int_values(drawn.kept);
    std::vector<real> log_p;
    const double temperature = o.sampling.temperature;
    if (o.logp)
        log_p = values(logp(h, m.output_head(), drawn.id, temperature ? temperature : 1, drawn.kept).logp);
    Sequences fed(decoder->B);
    for (int i = 0; i < n; i++) {
        Slot &slot = slots[busy[i]];
        Answer &a = answers[slot.request][slot.sample];
        if (o.logp) a.logp.push_back(log_p[i]);
        if (o.kept) a.kept.insert(a.kept.end(), &kept[i * words], &kept[i * words] + words);
        if (add(busy[i], ids[i])) fed[busy[i]] = {ids[i]};
        else slot = {};
    }
    return fed;
}

void Decoding::run() {
    of_prompt.routing = of_step.routing = o.routing;
    for (;;) {
        refill();
        shrink();
        const std::vector<int> now = busy();
        if (now.empty()) return;
        decoder->feed(sample_step(now), 64, &of_step);
        for (size_t i = 0; i < of_step.experts.size(); i++)
            for (int b : busy()) {
                std::vector<int> &list = answers[slots[b].request][slots[b].sample].experts[i];
                list.insert(list.end(), of_step.experts[i][b].begin(), of_step.experts[i][b].end());
            }
    }
}
}  // namespace

std::vector<std::vector<Answer>> decode(const Model &m, const std::vector<Request> &requests,
                                        const DecodeOptions &o, const OnToken &on_token) {
    NoGrad off;
    std::vector<std::vector<Answer>> answers;
    for (const Request &r : requests) {
        expect(!r.prompt.empty(), "generate: an empty prompt");
        expect((long)r.prompt.size() < m.c.context, "the prompt has ", r.prompt.size(),
               " tokens, the model's context ", m.c.context);
        expect(r.samples >= 0 && r.max_tokens > 0, "generate: ", r.samples, " samples of ", r.max_tokens,
               " tokens");
        answers.emplace_back(r.samples);
    }
    const int B = std::max(1, std::min(o.slots, total(requests)));
    Decoding d = {.m = m,
                  .requests = requests,
                  .o = o,
                  .on_token = on_token,
                  .answers = answers,
                  .slots = std::vector<Decoding::Slot>(B),
                  .prompt = Decoder(m, 1, longest(requests, m.c.context, false)),
                  .decoder = std::make_unique<Decoder>(m, B, longest(requests, m.c.context, true))};
    d.run();
    return d.answers;
}

// ---------------------------------------------------------------------------------------------- [3] generate
Sequences generate(const Model &m, const Sequences &prompts, const Generation &g,
                   const std::function<void(int, int)> &on_token) {
    std::vector<Request> requests;
    for (size_t b = 0; b < prompts.size(); b++)
        requests.push_back(
            {.prompt = prompts[b], .question = (int)b, .max_tokens = g.max_tokens, .stop = g.stop});
    Sequences added;
    const auto told = [&](int request, int, int id) {
        if (on_token) on_token(request, id);
    };
    for (const auto &group : decode(m, requests, {.sampling = g.sampling}, told))
        added.push_back(group[0].text());
    return added;
}

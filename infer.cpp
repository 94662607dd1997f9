// infer.cpp: using a trained model. Sequences of a batch grow at their own pace, each with its
// own length in the caches; what a query may see is a span over the cache's rows, so padding
// costs a row and changes nothing.
//
// A row's bits depend neither on the rows beside it nor on the number of threads. So who shares a batch with
// whom is a matter of speed alone: slots are filled as they become free, and an answer is the same to the bit
// in any of them, whatever the order of the questions.
//
//   [1] Decoder: prefill and decode are the same call, with many tokens or with one
//   [2] speculation: MTP modules draft, the trunk verifies         DeepSeek-V3 (2412.19437) section 5.4.3
//   [3] decode: questions go through the slots of a decoder   [4] generate
#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>

#include "src/base/random.h"
#include "src/infer/decoder.h"
#include "src/model/weights.h"

// ----------------------------------------------------------------------------------------------- [1] Decoder
Decoder::Decoder(const Model &m, int B, int T_max, int D)
    : m(m), B(B), T_max(T_max), D(D), length(B, 0), foreseen(B, 0) {
    NoGrad off;
    caches = make_caches(m.c, B, T_max, D);
    if (D) h_0 = zeros({B, T_max, 1, m.c.d}, "h_0");
}

// A row sees what its own slot has up to it.
static Step step_at(const std::vector<int> &pos, int B) {
    std::vector<int> keys;
    for (int i : pos) keys.insert(keys.end(), {0, i});
    const int T = (int)pos.size() / B;
    const Tensor position = from(pos, {B, T}, "pos");
    return {.pos = position, .where = {from(keys, {B, T, 2}, "where")}, .at = position};
}

// T columns, row b holds tokens[b][from .. from+T) or padding (position -1, sees nothing, written nowhere).
namespace {
struct Chunk {
    int T;
    std::vector<int> ids = {}, pos = {}, column = {};
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
    Aux aux;
    Step step = step_at(c.pos, B);
    step.ids = from(c.ids, {B, T}, "ids");
    step.past = &d.caches;
    step.aux = every && every->routing ? &aux : nullptr;
    const Tensor h = trunk(d.m, step);
    if (d.h_0) append(d.h_0, reshape(h, {B, T, 1, width}), step.at);
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
    foreseen[slot] = std::min(foreseen[slot], std::max(0, to - D));
}

// All that is kept of tokens, (B,T_max,n,width) each.
static std::vector<Tensor> kept_of(const Decoder &d) {
    std::vector<Tensor> list;
    for (const auto *caches : {&d.caches.layers, &d.caches.mtp})
        for (const LayerCache &c : *caches)
            for (const Tensor *rows : {&c.latent, &c.k, &c.v})
                if (*rows) list.push_back(*rows);
    if (d.h_0) list.push_back(d.h_0);
    return list;
}

// Only the rows that count: the first `length` of a slot, one after the other.
void Decoder::take(const Decoder &other, int from, int to) {
    const int n = other.length[from];
    assert(n <= T_max && other.h && &m == &other.m && D == other.D);
    if (this == &other && from == to) return;
    const std::vector<Tensor> rows = kept_of(*this), theirs = kept_of(other);
    for (size_t i = 0; i < rows.size(); i++) {
        const long of_token = rows[i].shape[2];
        copy_rows(rows[i], to * T_max * of_token, theirs[i], from * other.T_max * of_token, n * of_token);
    }
    if (!h) h = zeros({B, m.c.d}, "h");
    copy_rows(h, to, other.h, from, 1);
    length[to] = n;
    foreseen[to] = other.foreseen[from];
}

// ------------------------------------------------------------------------------------------- [2] speculation
// A text has tokens 0 .. i+1, and the trunk has read all but the last. Module k foretells token i+k+1 from
// h^{k-1}_i and token i+k, which for k > 1 is a draft itself. Then the trunk reads token i+1 and the D drafts
// in one forward: h^0 after each says what stands behind it, and the first draft that is refused ends them.
//
// Modules have caches of their own, with a row i for each token that the trunk has read. Rows that read a
// draft are computed anew when the text is known: the last D - 1, beside those that came since.

// (B,T): the tokens that module k reads at these rows.
static Tensor tokens_ahead(const Sequences &texts, const std::vector<int> &rows, int k) {
    const int B = (int)texts.size(), T = (int)rows.size() / B;
    std::vector<int> ids;
    for (int i = 0; i < B * T; i++) ids.push_back(rows[i] < 0 ? 0 : texts[i / T].at(rows[i] + k));
    return from(ids, {B, T}, "ids");
}

// What the op `sample` draws from, row by row.
static std::vector<std::vector<double>> distributions(const Tensor &logits, const Tensor &kept,
                                                      double temperature) {
    const std::vector<real> z = values(logits);
    const std::vector<int> sets = int_values(kept);
    const int V = logits.shape[1];
    std::vector<std::vector<double>> list;
    for (int n = 0; n < logits.shape[0]; n++) {
        const real *z_n = &z[(long)n * V], largest = *std::max_element(z_n, z_n + V);
        std::vector<double> p(V, 0.0);
        double sum = 0;
        for (int v = 0; v < V; v++)
            if (in_set(&sets[(long)n * kept.shape[1]], v))
                sum += p[v] = std::exp((double)(z_n[v] - largest) / (temperature ? temperature : 1));
        for (double &p_v : p) p_v /= sum;
        list.push_back(std::move(p));
    }
    return list;
}

// Module k's token after the last row of each text.
static void foretell(const Decoder &d, int k, const Tensor &h, const Sampling &s,
                     const std::vector<int> &names, Sequences &texts, std::vector<Drafts> &drafts) {
    const Tensor last = reshape(slice(h, 1, h.shape[1] - 1, 1), {d.B, d.m.c.d});
    const Tensor logits = d.logits(rmsnorm(last, d.m.mtp[k - 1].g_out, d.m.c.eps));      // V3 (23)
    std::vector<int> key;
    for (int b = 0; b < d.B; b++)
        key.insert(key.end(), {names[2 * b], names[2 * b + 1], (int)texts[b].size()});
    const Sampled x = sample(logits, from(key, {d.B, 3}, "key"), s);
    const std::vector<int> id = int_values(x.id);
    auto q = distributions(logits, x.kept, s.temperature);
    for (int b = 0; b < d.B; b++) {
        if (texts[b].size() < 2) continue;
        drafts[b].push_back({id[b], std::move(q[b])});
        texts[b].push_back(id[b]);
    }
}

std::vector<Drafts> Decoder::draft(Sequences texts, const Sampling &s, const std::vector<int> &names) {
    NoGrad off;
    std::vector<int> first(B, 0), end(B, 0);             // rows of each that are computed
    int left = 0;
    for (int b = 0; b < B; b++) {
        if (texts[b].size() < 2) continue;
        end[b] = (int)texts[b].size() - 1;
        assert(end[b] <= length[b]);
        first[b] = std::min(foreseen[b], end[b] - 1);
        left = std::max(left, end[b] - first[b]);
        foreseen[b] = std::max(0, end[b] + 1 - D);
    }
    std::vector<Drafts> drafts(B);
    for (int T; left > 0; left -= T) {
        T = (left - 1) % 64 + 1;                         // the last rows, which meet drafts, come together
        std::vector<int> pos, row;
        for (int i = 0; i < B * T; i++) {
            const int b = i / T, at = end[b] - left + i % T;
            pos.push_back(at < first[b] ? -1 : at);
            row.push_back(b * T_max + std::max(0, pos.back()));
        }
        Step step = step_at(pos, B);
        Tensor h = gather_rows(reshape(h_0, {(long)B * T_max, m.c.d}), from(row, {B, T}));
        for (int k = 1; k <= D; k++) {
            step.ids = tokens_ahead(texts, pos, k);
            h = mtp(m.mtp[k - 1], m, h, step, &caches.mtp[k - 1]);                       // V3 (21)(22)
            if (T == left) foretell(*this, k, h, s, names, texts, drafts);
        }
    }
    return drafts;
}

// Over x ~ q this is a draw from p: y comes as a draft that stands, min(p, q)(y), or in the place of another,
// with the rest, (p - q)_+(y). A u that refuses x is uniform above p(x)/q(x), so that one u is enough.
int accept(const std::vector<double> &p, const std::vector<double> &q, int x, double u) {
    const double r = p[x] / q[x];
    if (u < r) return x;
    double rest = 0;
    for (size_t y = 0; y < p.size(); y++) rest += std::max(0.0, p[y] - q[y]);
    double left = rest * (u - r) / (1 - r);
    int said = x;
    for (size_t y = 0; y < p.size(); y++) {
        if (p[y] <= q[y]) continue;
        said = (int)y;
        if ((left -= p[y] - q[y]) < 0) break;
    }
    return said;
}

double Speculation::median(std::vector<double> x) {
    std::nth_element(x.begin(), x.begin() + x.size() / 2, x.end());
    return x[x.size() / 2];
}

// ------------------------------------------------------------------------------------------------ [3] decode
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

    struct Slot {
        int request = -1, sample = 0;                    // -1: nobody's
        Drafts drafts = {};                              // the last tokens it was fed
    };
    struct Said {                                        // after tokens: a row each, a slot's side by side
        std::vector<int> key, ids, kept;                 // key: (question, sample, position)
        std::vector<real> logp;
        std::vector<size_t> count;                       // of each slot: its rows that hold
    };
    std::vector<Slot> slots;
    Slot next = {0, 0};                                  // who comes into the next slot that is free
    Decoder prompt;
    std::unique_ptr<Decoder> decoder;
    int prompt_of = -1;
    EveryToken of_prompt = {}, of_step = {};
    int steps = 0;

    void run();
    void refill();
    void shrink();
    void feed_prompt(int request);
    std::vector<int> busy() const;
    Said say(const std::vector<int> &busy) const;
    void verify(const std::vector<int> &busy, const std::vector<std::vector<double>> &p, Said &) const;
    Sequences sample_step(const std::vector<int> &busy);
    bool add(int slot, int id);                          // false: that was its last
    void forget_refused(int slot);
    void draft_step(Sequences &fed);
    void report(int slot, size_t accepted, size_t tokens) const;
    double seconds_of_forward(const Sequences &tokens);
    void time_step(const Sequences &fed);
};

int total(const std::vector<Request> &requests) {
    int n = 0;
    for (const Request &r : requests) n += r.samples;
    return n;
}
int longest(const std::vector<Request> &requests, int context, bool answer, int drafts = 0) {
    long most = 1;
    for (const Request &r : requests)
        most = std::max(most, (long)r.prompt.size() + (answer ? r.max_tokens + drafts : 0));
    return (int)std::min<long>(most, context);
}

void Decoding::feed_prompt(int request) {
    if (prompt_of == request) return;
    prompt.free(0);
    prompt.feed({requests[request].prompt}, 64, &of_prompt);
    if (o.speculate) prompt.draft({requests[request].prompt}, {.temperature = 0}, {0, 0});     // for its rows
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
    auto smaller = std::make_unique<Decoder>(m, (int)now.size(), decoder->T_max, o.speculate);
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
    const int request = slots[slot].request, sample = slots[slot].sample;
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
    return !enough && (int)(r.prompt.size() + a.ids.size()) <= m.c.context;
}

// Drafts hold up to the first that is refused; another token is in its place, and nothing holds behind it.
void Decoding::verify(const std::vector<int> &busy, const std::vector<std::vector<double>> &p,
                      Said &said) const {
    size_t row = 0;
    for (int b : busy) {
        const Drafts &drafts = slots[b].drafts;
        size_t n = 0;
        for (; n < drafts.size(); n++) {
            const Draft &x = drafts[n];
            const int *name = &said.key[3 * (row + n)];
            const double u = uniform(o.sampling.seed, name[0], name[1], name[2]);
            said.ids[row + n] = accept(p[row + n], x.q, x.id, u);
            if (said.ids[row + n] != x.id) break;
        }
        said.count.push_back(n + 1);
        row += drafts.size() + 1;
    }
}

// What stands after each busy slot's last token that is certain, and after each draft behind it.
Decoding::Said Decoding::say(const std::vector<int> &busy) const {
    Said said;
    std::vector<int> row;                                // of the hidden states
    for (int b : busy)
        for (int j = -(int)slots[b].drafts.size(); j <= 0; j++) {
            const int position = decoder->length[b] + j;
            said.key.insert(said.key.end(), {requests[slots[b].request].question, slots[b].sample, position});
            row.push_back(o.speculate ? b * decoder->T_max + position - 1 : b);
        }
    const int n = (int)row.size(), d = m.c.d;
    const Tensor all =
        o.speculate ? reshape(decoder->h_0, {(long)decoder->B * decoder->T_max, d}) : decoder->h;
    const Tensor h = gather_rows(all, from(row, {n}, "row")), logits = decoder->logits(h);
    const Sampled drawn = sample(logits, from(said.key, {n, 3}, "key"), o.sampling);
    said.ids = int_values(drawn.id);
    std::vector<std::vector<double>> p;
    if (o.speculate) p = distributions(logits, drawn.kept, o.sampling.temperature);
    verify(busy, p, said);
    if (o.kept) said.kept = int_values(drawn.kept);
    const double temperature = o.sampling.temperature ? o.sampling.temperature : 1;
    if (o.logp)
        said.logp = values(logp(h, m.output_head(), from(said.ids, {n}), temperature, drawn.kept).logp);
    return said;
}

// The next tokens of every answer under way, and what is to be fed for them.
Sequences Decoding::sample_step(const std::vector<int> &busy) {
    const Said said = say(busy);
    const int words = set_words(m.c.V);
    Sequences fed(decoder->B);
    size_t first = 0;                                    // row of a slot
    for (size_t i = 0; i < busy.size(); i++) {
        const int b = busy[i];
        Answer &a = answers[slots[b].request][slots[b].sample];
        bool more = true;
        size_t row = first;
        for (; more && row < first + said.count[i]; row++) {
            if (o.logp) a.logp.push_back(said.logp[row]);
            if (o.kept) a.kept.insert(a.kept.end(), &said.kept[row * words], &said.kept[row * words] + words);
            more = add(b, said.ids[row]);
        }
        if (o.speculation && a.ids.size() > row - first) report(b, said.count[i] - 1, row - first);
        first += slots[b].drafts.size() + 1;
        forget_refused(b);
        if (more) fed[b] = {a.ids.back()};
        else slots[b] = {};
    }
    return fed;
}

// Back to a text whose last token was not read: without drafts that were refused, or stand behind its end.
void Decoding::forget_refused(int slot) {
    Answer &a = answers[slots[slot].request][slots[slot].sample];
    const size_t read = requests[slots[slot].request].prompt.size() + a.ids.size() - 1;
    for (std::vector<int> &list : a.experts) list.resize(list.size() / decoder->length[slot] * read);
    decoder->rollback(slot, (int)read);
}

// Adds to what is fed the drafts behind it, as many as the context has room for.
void Decoding::draft_step(Sequences &fed) {
    Sequences texts(decoder->B);
    std::vector<int> names(2 * decoder->B, 0);
    for (int b : busy()) {
        const auto &[request, sample, drafts] = slots[b];
        const std::vector<int> &ids = answers[request][sample].ids;
        texts[b] = requests[request].prompt;
        texts[b].insert(texts[b].end(), ids.begin(), ids.end());
        names[2 * b] = requests[request].question;
        names[2 * b + 1] = sample;
    }
    Sampling s = o.sampling;
    s.seed = (int)mix(hash_of("draft") ^ s.seed);        // other numbers than those that verify
    std::vector<Drafts> drafts = decoder->draft(texts, s, names);
    for (int b : busy()) {
        drafts[b].resize(std::min(o.speculate, m.c.context - (int)texts[b].size()));
        for (const Draft &x : drafts[b]) fed[b].push_back(x.id);
        slots[b].drafts = std::move(drafts[b]);
    }
}

void Decoding::report(int slot, size_t accepted, size_t tokens) const {
    Speculation &s = *o.speculation;
    s.forwards++;
    s.tokens += (long)tokens;
    for (size_t k = 0; k < slots[slot].drafts.size(); k++) {
        s.drafted[k]++;
        s.accepted[k] += k < accepted;
    }
}

template <class F> double seconds_of(F f) {
    using Clock = std::chrono::steady_clock;
    const auto start = Clock::now();
    f();
    device->wait();
    return std::chrono::duration<double>(Clock::now() - start).count();
}

// Of the trunk, and of what it says after each token.
double Decoding::seconds_of_forward(const Sequences &tokens) {
    const std::vector<int> length = decoder->length;
    EveryToken every = {.hidden = true};
    const double seconds = seconds_of([&] {
        decoder->feed(tokens, 64, &every);
        const long rows = every.h.shape.rows();
        sample(decoder->logits(reshape(every.h, {rows, m.c.d})), zero_ints({rows, 3}), o.sampling);
    });
    for (int b = 0; b < decoder->B; b++) decoder->rollback(b, length[b]);
    return seconds;
}

// Does the step beforehand, part by part; it will do the same again.
void Decoding::time_step(const Sequences &fed) {
    Sequences with_drafts = fed;
    const double t_1 = seconds_of_forward(fed), t_mtp = seconds_of([&] { draft_step(with_drafts); });
    for (int b : busy())
        if ((int)with_drafts[b].size() < 1 + o.speculate) return;
    o.speculation->t_1.push_back(t_1);
    o.speculation->t_mtp.push_back(t_mtp);
    o.speculation->t_1D.push_back(seconds_of_forward(with_drafts));
}

void Decoding::run() {
    of_prompt.routing = of_step.routing = o.routing;
    for (;;) {
        refill();
        shrink();
        const std::vector<int> now = busy();
        if (now.empty()) return;
        Sequences fed = sample_step(now);
        if (o.speculate && o.speculation && steps++ % 32 == 4) time_step(fed);
        if (o.speculate) draft_step(fed);
        decoder->feed(fed, 64, &of_step);
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
    const std::string asked = cat("--speculate ", o.speculate, ": ", m.c.name, " has ");
    if (o.speculate && !m.c.D)
        fail(asked + "no multi-token prediction", "--speculate 0, or a model of --set D=1");
    if (o.speculate < 0 || o.speculate > m.c.D)
        fail(cat(asked, m.c.D, m.c.D > 1 ? " modules" : " module", " of multi-token prediction"),
             cat("--speculate ", m.c.D));
    if (o.speculation)
        *o.speculation = {.drafted = std::vector<long>(o.speculate),
                          .accepted = std::vector<long>(o.speculate)};
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
                  .prompt = Decoder(m, 1, longest(requests, m.c.context, false), o.speculate),
                  .decoder = std::make_unique<Decoder>(
                      m, B, longest(requests, m.c.context, true, o.speculate), o.speculate)};
    d.run();
    return d.answers;
}

// ---------------------------------------------------------------------------------------------- [4] generate
DecodeOptions Generation::options() const {
    return {.sampling = sampling, .speculate = speculate, .speculation = speculation};
}

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
    for (const auto &group : decode(m, requests, g.options(), told)) added.push_back(group[0].text());
    return added;
}

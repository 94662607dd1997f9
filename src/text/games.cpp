// games.cpp: synthetic corpora whose rule is known.
//
//   [1] what they are made of   [2] facts   [3] factors   [4] recall, needle   [5] bytes
//   [6] options, and what all games have in common
#include "src/text/games.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "src/base/error.h"
#include "src/base/fields.h"
#include "src/base/text.h"
#include "src/text/tokenizer.h"

namespace stream {                                       // of random numbers
enum : uint64_t { training = 31, held_out, grammar, facts, factors, names };
}

// ------------------------------------------------------------------------------- [1] what they are made of
namespace {
// k = 0, 1, ... n-1 with probability ~ (k+1)^-exponent.
struct Zipf {
    std::vector<double> up_to;                           // k, and all before
    Zipf(int n, double exponent) {
        double sum = 0;
        for (int k = 0; k < n; k++) up_to.push_back(sum += std::pow(k + 1.0, -exponent));
        for (double &p : up_to) p /= sum;
    }
    int draw(Random &r) const {
        const auto at = std::upper_bound(up_to.begin(), up_to.end(), r.uniform());
        return (int)std::min<size_t>(at - up_to.begin(), up_to.size() - 1);
    }
    double probability(int k) const { return up_to[k] - (k ? up_to[k - 1] : 0); }
};

// A one-to-one map of the numbers below 2^bits onto themselves that looks like none.
int scrambled(int x, int bits, uint64_t seed) {
    const uint64_t mask = (1ull << bits) - 1;
    uint64_t y = x;
    for (uint64_t turn = 0; turn < 4; turn++) {
        const uint64_t random = random_bits(seed, stream::names, turn, bits);
        y = (y * (random | 1) + (random >> 32)) & mask;
        y ^= y >> (bits / 2);
    }
    return (int)y;
}

// Is sequence `index` of the share that is dealt out evenly: of a half, every second?
long dealt(long index, double share) { return (long)std::floor((double)index * share + 1e-9); }
bool is_due(long index, double share) { return dealt(index + 1, share) > dealt(index, share); }

// Nats of the targets for one who does not know which of n hypotheses made the sequence: they are weighed by
// what was read so far. probability(h, i): of token i, given h and the tokens before.
template <class P> double mixture(const Sample &s, int n, P probability) {
    std::vector<double> belief(n, 1.0 / n);
    double nats = 0;
    for (size_t i = 0; i < s.ids.size(); i++) {
        double sum = 0;
        for (int h = 0; h < n; h++) sum += belief[h] *= probability(h, i);
        if (sum == 0) return INFINITY;                   // no hypothesis explains it
        if (i > 0) nats -= (s.weight.empty() ? 1 : s.weight[i]) * std::log(sum);
        for (double &b : belief) b /= sum;
    }
    return nats;
}

// Sparse Markov text: in each topic a token has four successors, of weights 1, 1/2, 1/3 and 1/4.
struct Grammar {
    static constexpr int topics = 16, n = 32, successors = 4;
    const Zipf weights = Zipf(successors, 1);
    std::vector<int> next;                               // (topics, n, successors)
    explicit Grammar(int world) {
        for (int i = 0; i < topics * n * successors; i++)
            next.push_back((int)(random_bits(world, stream::grammar, i, 0) % n));
    }
    const int *after(int topic, int x) const { return &next[(topic * n + x) * successors]; }
    std::vector<int> text(Random &r, int topic, int length) const {
        std::vector<int> ids = {r.below(n)};
        while ((int)ids.size() < length) ids.push_back(after(topic, ids.back())[weights.draw(r)]);
        return ids;
    }
    double probability(int topic, int x, int y) const {
        double p = 0;
        for (int j = 0; j < successors; j++)
            if (after(topic, x)[j] == y) p += weights.probability(j);
        return p;
    }
    // Of a text whose words begin with id `first`.
    double optimum(const Sample &s, int first) const {
        return mixture(s, topics, [&](int topic, size_t i) {
            return i ? probability(topic, s.ids[i - 1] - first, s.ids[i] - first) : 1.0 / n;
        });
    }
    Sample sample(Random &r, int first, int T) const {
        const int topic = r.below(topics);
        Sample s = {.ids = text(r, topic, T + 1), .kind = "grammar", .topic = topic};
        for (int &id : s.ids) id += first;
        return s;
    }
};

// A segment of 4 to 16 random tokens, again and again: it must be found by what it is, for where differs.
constexpr int shortest_period = 4, periods = 13;
Sample repeats(Random &r, int V, int T) {
    Sample s = {.kind = "repeat"};
    const int p = shortest_period + r.below(periods);
    for (int i = 0; i <= T; i++) s.ids.push_back(i < p ? r.below(V) : s.ids[i - p]);
    return s;
}
double optimum_of_repeats(const Sample &s, int V) {
    return mixture(s, periods, [&](int h, size_t i) {
        const size_t p = shortest_period + h;
        return i < p ? 1.0 / V : s.ids[i] == s.ids[i - p] ? 1.0 : 0.0;
    });
}

// Adds a token, and whether it is asked for.
void put(Sample &s, int id, bool asked = false) {
    s.ids.push_back(id);
    s.weight.push_back(asked);
}

// n of 0 .. of-1 in random order.
std::vector<int> choose(Random &r, int n, int of) {
    std::vector<int> all(of);
    for (int i = 0; i < of; i++) all[i] = i;
    for (int i = 0; i < n; i++) std::swap(all[i], all[i + r.below(of - i)]);
    all.resize(n);
    return all;
}

// ------------------------------------------------------------------------------------------------ [2] facts
// a b r v, one fact after the other: v is a function of (a, b, r) that only parameters can keep. All facts
// of a sequence are of one topic, and each topic has its own a's. Only v is asked, and only where the
// sequence has not told the fact before: the book is closed.
constexpr int n_a = 8, n_b = 64, n_r = 16, n_v = 64;     // a: of a topic
constexpr int facts_of_a_topic = n_a * n_b * n_r, bits_of_a_topic = 13;
}  // namespace

std::vector<int> fact(int world, int k) {
    const int topic = k % Grammar::topics;
    const int cell = scrambled(k / Grammar::topics, bits_of_a_topic, mix(world) + topic);
    const int a = topic * n_a + cell % n_a, b = cell / n_a % n_b, r = cell / n_a / n_b;
    return {a, b, r, (int)(random_bits(world, stream::facts, topic, cell) % n_v)};
}

namespace {
class Facts : public Game {
    const Grammar grammar;
    const Zipf rank;                                     // of a fact in its topic
    int first_b, first_r, first_v, first_word;

public:
    explicit Facts(Keys k)
        : Game(k), grammar((int)k["world"]), rank((int)k["facts"] / Grammar::topics, k["zipf"]) {
        expect((int)k["facts"] % Grammar::topics == 0, "facts ", k["facts"], " is not a multiple of the ",
               Grammar::topics, " topics");
        kinds = {"fact", "grammar"};
        shortest = 3;
        add_words("a", n_a * Grammar::topics);
        first_b = add_words("b", n_b);
        first_r = add_words("r", n_r);
        first_v = add_words("v", n_v);
        first_word = add_words("w", Grammar::n);
    }
    Sample play(Random &r, long index, int T, bool) const override {
        if (is_due(index, key.at("grammar"))) return grammar.sample(r, first_word, T);
        Sample s = {.kind = "fact", .topic = r.below(Grammar::topics)};
        std::vector<int> told;
        while ((int)s.ids.size() <= T) {
            const int k = rank.draw(r) * Grammar::topics + s.topic;
            const std::vector<int> f = fact((int)key.at("world"), k);
            put(s, f[0]), put(s, first_b + f[1]), put(s, first_r + f[2]);
            put(s, first_v + f[3], !std::count(told.begin(), told.end(), k));
            told.push_back(k);
        }
        s.ids.resize(T + 1), s.weight.resize(T + 1);
        return s;
    }
    double optimum(const Sample &s) const override {
        return s.kind == "fact" ? 0 : grammar.optimum(s, first_word);
    }
};

// ---------------------------------------------------------------------------------------------- [3] factors
// What comes next is decided by three hidden factors together, topic, style and format, of eight values each:
// each adds its table of logits, by the token before. 512 combinations, no two alike.
class Factors : public Game {
    static constexpr int n = 32, values = 8, combinations = values * values * values;
    std::vector<double> p;                               // (combinations, n, n)
    int first_name = n;                                  // of the tokens that name the values, if told

    const double *after(int combination, int x) const { return &p[((long)combination * n + x) * n]; }
    static int value(int combination, int factor) {      // 0: topic, 1: style, 2: format
        return factor == 0 ? combination / 64 : factor == 1 ? combination / 8 % 8 : combination % 8;
    }

public:
    explicit Factors(Keys k) : Game(k) {
        kinds = {"factors"};
        add_words("w", n);
        if (k["told"])
            for (const char *factor : {"topic", "style", "format"}) add_words(factor, values);
        std::vector<double> e;                           // exp of the tables' entries: (3, values, n, n)
        for (int i = 0; i < 3 * values * n * n; i++)
            e.push_back(std::exp(k["size"] * normal((uint64_t)k["world"], stream::factors, i, 0)));
        for (int c = 0; c < combinations; c++)
            for (int x = 0; x < n; x++) {
                double sum = 0;
                for (int y = 0; y < n; y++) {
                    p.push_back(1);
                    for (int f = 0; f < 3; f++) p.back() *= e[((f * values + value(c, f)) * n + x) * n + y];
                    sum += p.back();
                }
                for (int y = 0; y < n; y++) p[p.size() - n + y] /= sum;
            }
    }
    Sample play(Random &r, long, int T, bool) const override {
        Sample s = {.kind = kinds[0], .topic = r.below(combinations)};
        for (int f = 0; f < 3 && key.at("told"); f++) put(s, first_name + f * values + value(s.topic, f));
        put(s, r.below(n));
        while ((int)s.ids.size() <= T) {
            const double *next = after(s.topic, s.ids.back()), u = r.uniform();
            int y = 0;
            for (double sum = next[0]; sum < u && y + 1 < n; sum += next[++y]) {}
            put(s, y, true);
        }
        s.ids.resize(T + 1), s.weight.resize(T + 1);
        if (!key.at("told")) s.weight.clear();
        return s;
    }
    double optimum(const Sample &s) const override {
        return mixture(s, combinations, [&](int c, size_t i) {
            if (s.ids[i] >= n) return s.ids[i] == first_name + (int)i * values + value(c, (int)i) ? 1.0 : 0.0;
            return i && s.ids[i - 1] < n ? after(c, s.ids[i - 1])[s.ids[i]] : 1.0 / n;
        });
    }
};

// --------------------------------------------------------------------------------------- [4] recall, needle
constexpr int n_keys = 32;                               // and as many values

// Pairs of keys and values, then keys again: the values of those are asked. Alone this stays at chance for
// millions of tokens; beside repeats it is learned.
class Recall : public Game {
    int pairs, n, first_value;                           // n keys, and as many values

public:
    explicit Recall(Keys k) : Game(k), pairs((int)k["pairs"]), n((int)k["keys"]) {
        expect(pairs <= n, pairs, " pairs of ", n, " keys");
        kinds = {"recall", "repeat"};
        shortest = 2 * pairs + 1;
        add_words("k", n);
        first_value = add_words("v", n);
    }
    Sample play(Random &r, long index, int T, bool) const override {
        if (is_due(index, key.at("repeats"))) return repeats(r, V(), T);
        Sample s = {.kind = "recall"};
        const std::vector<int> keys = choose(r, pairs, n);
        std::vector<int> values;
        for (int k : keys) {
            values.push_back(first_value + r.below(n));
            put(s, k), put(s, values.back());
        }
        while ((int)s.ids.size() <= T) {
            const int i = r.below(pairs);
            put(s, keys[i]), put(s, values[i], true);
        }
        s.ids.resize(T + 1), s.weight.resize(T + 1);
        return s;
    }
    double optimum(const Sample &s) const override {
        return s.kind == "recall" ? 0 : optimum_of_repeats(s, V());
    }
};

// Keys with their values among Markov text; at the end one of the keys, and its value is asked.
class Needle : public Game {
    const Grammar grammar;
    int needles, first_key, first_value;

public:
    explicit Needle(Keys k) : Game(k), grammar((int)k["world"]), needles((int)k["needles"]) {
        expect(k["repeats"] + k["grammar"] <= 1, "repeats and grammar are shares, and more than 1 together");
        kinds = {"needle", "repeat", "grammar"};
        shortest = 2 * needles + 2;
        add_words("w", Grammar::n);
        first_key = add_words("k", n_keys);
        first_value = add_words("v", n_keys);
    }
    Sample play(Random &r, long index, int T, bool) const override {
        const double q = key.at("repeats"), rest = key.at("grammar") / std::max(1 - q, 1e-9);
        if (is_due(index, q)) return repeats(r, V(), T);
        if (is_due(index - dealt(index, q), rest)) return grammar.sample(r, 0, T);
        const int filler = T - 1 - 2 * needles, topic = r.below(Grammar::topics);
        const std::vector<int> text = grammar.text(r, topic, filler), keys = choose(r, needles, n_keys);
        std::multimap<int, std::pair<int, int>> hidden;  // before which token of the text: key, value
        std::pair<int, int> asked;
        for (int i = 0; i < needles; i++) {
            const std::pair<int, int> needle = {first_key + keys[i], first_value + r.below(n_keys)};
            const double depth = i == 0 && key.at("depth") >= 0 ? key.at("depth") : r.uniform();
            hidden.insert({(int)std::lround(depth * filler), needle});
            if (i == 0) asked = needle;
        }
        Sample s = {.kind = "needle", .topic = topic};
        for (int i = 0; i <= filler; i++) {
            for (auto [at, end] = hidden.equal_range(i); at != end; ++at)
                put(s, at->second.first), put(s, at->second.second);
            if (i < filler) put(s, text[i]);
        }
        put(s, asked.first), put(s, asked.second, true);
        return s;
    }
    double optimum(const Sample &s) const override {
        return s.kind == "needle"   ? 0
               : s.kind == "repeat" ? optimum_of_repeats(s, V())
                                    : grammar.optimum(s, 0);
    }
};

// ------------------------------------------------------------------------------------------------ [5] bytes
// "bakote likes dumi." Text of facts of which the k-th is told with a probability ~ 1/k: however long one
// has read, rarer ones are left to learn, and the loss falls like a power law, as that of real text does.
class Bytes : public Game {
    static constexpr int bits_of_a_name = 18;
    const Zipf rank;

    static std::string syllables(uint64_t x, int n) {
        std::string word;
        for (; n > 0; n--, x /= 80) word += {"bdfghjklmnprstvz"[x % 80 / 5], "aeiou"[x % 5]};
        return word;
    }
    std::string line(int k) const {
        static const char *const relations[] = {"likes", "fears", "is in",   "comes from", "has",   "makes",
                                                "sells", "is a",  "eats",    "knows",      "hides", "is near",
                                                "sees",  "wants", "is with", "looks like"};
        const uint64_t world = (uint64_t)key.at("world"), random = random_bits(world, stream::facts, k, 1);
        return cat(syllables(scrambled(k, bits_of_a_name, world), 3), " ", relations[random % 16], " ",
                   syllables(random >> 8, 2), ".\n");
    }

public:
    explicit Bytes(Keys k) : Game(k), rank((int)k["facts"], k["zipf"]) {
        is_text = true;
        for (int b = 0; b < 128; b++) words.push_back(std::string(1, (char)b));
    }
    // A window begins anywhere in a line.
    Sample play(Random &r, long, int T, bool training) const override {
        std::string text = line(rank.draw(r));
        text = text.substr(r.below((int)text.size()));
        while ((int)text.size() <= T) text += line(rank.draw(r));
        Sample s = {.ids = {text.begin(), text.begin() + T + 1}};
        for (int &id : s.ids)
            if (training && r.uniform() < key.at("noise")) id = r.below(128);
        return s;
    }
    // Which line comes is all that one does not know: its entropy over its mean length, for a long text.
    double optimum(const Sample &s) const override {
        double nats = 0, length = 0;
        for (int k = 0; k < (int)rank.up_to.size(); k++) {
            nats -= rank.probability(k) * std::log(rank.probability(k));
            length += rank.probability(k) * line(k).size();
        }
        return nats / length * (s.ids.size() - 1);
    }
};
}  // namespace

// ------------------------------------------------------------ [6] options, and what all games have in common
namespace {
struct Entry {
    std::string name;
    std::vector<Key> keys;
    std::function<std::shared_ptr<Game>(const Keys &)> make;
};
template <class G> std::shared_ptr<Game> make(const Keys &keys) { return std::make_shared<G>(keys); }

std::vector<Entry> &games() {
    static std::vector<Entry> list = {
        {"facts",
         {{"facts", 8192, 16, facts_of_a_topic * Grammar::topics, true, "how many there are"},
          {"zipf", 0.7, 0, 4, false, "the k-th of a topic is told ~ k^-zipf"},
          {"grammar", 0.5, 0, 1, false, "share of sequences that are Markov text"},
          {"world", 1, 0, 1e9, true, "which facts, which grammar"}},
         make<Facts>},
        {"factors",
         {{"told", 1, 0, 1, true, "0: a sequence does not begin with its factors' names"},
          {"size", 1.5, 0, 10, false, "standard deviation of a table's logits"},
          {"world", 1, 0, 1e9, true, "which tables"}},
         make<Factors>},
        {"recall",
         {{"pairs", 8, 1, 4096, true, "of a key and a value"},
          {"keys", 16, 1, 4096, true, "there are, and as many values"},
          {"repeats", 0.5, 0, 1, false, "share of sequences that repeat a random segment"}},
         make<Recall>},
        {"needle",
         {{"depth", -1, -1, 1, false, "where: 0 first, 1 last; below 0: anywhere"},
          {"needles", 1, 1, n_keys, true, "of which one is asked"},
          {"repeats", 0.25, 0, 1, false, "share of sequences that repeat a random segment"},
          {"grammar", 0.25, 0, 1, false, "share of sequences that are Markov text alone"},
          {"world", 1, 0, 1e9, true, "which grammar"}},
         make<Needle>},
        {"bytes",
         {{"facts", 1 << 16, 1, 1 << 18, true, "how many there are"},
          {"zipf", 1, 0, 4, false, "the k-th is told ~ k^-zipf"},
          {"noise", 0, 0, 1, false, "share of bytes that are random, in training only"},
          {"world", 1, 0, 1e9, true, "which facts"}},
         make<Bytes>},
    };
    return list;
}

// The game's keys as they are given, the others as in the table.
Keys keys_of(const Entry &game, const std::string &given) {
    Keys keys;
    std::vector<std::string> known;
    std::string all;
    for (const Key &k : game.keys) {
        keys[k.name] = k.value;
        known.push_back(k.name);
        all += cat(all.empty() ? "it knows " : ", ", k.name, "=", format(k.value), " (", k.help, ")");
    }
    std::set<std::string> seen;
    std::istringstream pairs(given);
    for (std::string pair; std::getline(pairs, pair, ',');) {
        const size_t equals = pair.find('=');
        const std::string name = pair.substr(0, equals);
        const auto k =
            std::find_if(game.keys.begin(), game.keys.end(), [&](const Key &k) { return k.name == name; });
        if (k == game.keys.end()) fail(cat("no key '", name, "'"), did_you_mean(name, known, all));
        expect(equals != pair.npos, "'", pair, "' is not KEY=VALUE");
        expect(seen.insert(name).second, name, " is there twice");
        double &x = keys[name];
        parse(pair.substr(equals + 1), x);
        expect(!k->whole || x == std::floor(x), name, ": ", format(x), " is no whole number");
        expect(x >= k->low && x <= k->high, name, " ", format(x), " is not between ", format(k->low), " and ",
               format(k->high));
    }
    return keys;
}
}  // namespace

void add_game(const std::string &name, const std::vector<Key> &keys,
              const std::function<std::shared_ptr<Game>(const Keys &)> &make) {
    games().push_back({name, keys, make});
}

std::vector<std::string> game_names() {
    std::vector<std::string> names;
    for (const Entry &g : games()) names.push_back(g.name);
    return names;
}

std::shared_ptr<const Game> load_game(const std::string &data) {
    const size_t colon = data.find(':');
    for (const Entry &g : games()) {
        if (data.substr(0, colon) != g.name) continue;
        try {
            const auto game = g.make(keys_of(g, colon == data.npos ? "" : data.substr(colon + 1)));
            game->name = g.name;
            return game;
        } catch (const Error &e) {
            fail(cat(data, ": ", e.what()), e.hint);
        }
    }
    return nullptr;
}

void pack(Sample &s, const std::vector<int> &prompt, const std::vector<int> &output) {
    if (!s.ids.empty()) s.starts.push_back((int)s.ids.size());
    for (const std::vector<int> *part : {&prompt, &output}) {
        s.ids.insert(s.ids.end(), part->begin(), part->end());
        s.weight.resize(s.ids.size(), part == &output);
    }
}

int Game::add_words(const std::string &stem, int n) {
    const int first = V();
    for (int i = 0; i < n; i++) words.push_back(cat(stem, i));
    return first;
}

Sample Game::played(Random r, long index, int T, bool training) const {
    expect(T >= shortest, name, ": a context of ", T, " is too short for it; it needs ", shortest);
    return play(r, index, T, training);
}
Sample Game::sample(uint64_t seed, long index, int T) const {
    return played({random_bits(seed, stream::training, index, 0)}, index, T, true);
}
Sample Game::held_out(long index, int T) const {
    return played({random_bits(0, stream::held_out, index, 0)}, index, T, false);
}

std::string Game::shown(const Sample &s) const {
    std::string text;
    for (size_t i = 0; i < s.ids.size(); i++) {
        const std::string &word = words[s.ids[i]];
        if (!is_text && i > 0) text += " ";
        text += !s.weight.empty() && s.weight[i] != 0 ? "[" + word + "]" : word;
    }
    return text;
}

Tokenizer Game::tokenizer() const {
    Tokenizer t;
    t.stages = pretokenizer("none");
    t.vocabulary = words;
    if (is_text) {
        const Tokenizer bytes = byte_tokenizer();
        t.vocabulary.assign(bytes.vocabulary.begin(), bytes.vocabulary.begin() + V());
    }
    for (int id = 0; id < V() && !is_text; id++) t.added.push_back({words[id], id, false, false});
    t.prepare();
    return t;
}

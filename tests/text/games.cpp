// Games: their sequences come from the seed alone, are as frequent as they should be, and can be answered
// from what they say; and the best prediction is a probability, that of what is really there.
#include "src/text/games.h"

#include <cmath>
#include <doctest/doctest.h>
#include <set>

#include "src/base/error.h"
#include "tests/check.h"
#include "src/text/tokenizer.h"

namespace {
bool asked(const Sample &s, size_t i) { return s.weight.empty() || s.weight[i] != 0; }

// What stands behind the first token like the one before this: the answer, if it was told at all.
int answer(const Sample &s, size_t i) {
    for (size_t j = 0; j + 1 < i - 1; j++)
        if (s.ids[j] == s.ids[i - 1]) return s.ids[j + 1];
    return -1;
}

// Sum over bins of (n - expected)^2 / expected, in standard deviations above its mean.
double chi_square(const std::vector<double> &n, const std::vector<double> &p) {
    double all = 0, chi = 0, bins = -1;
    for (double x : n) all += x;
    for (size_t i = 0; i < n.size(); i++) {
        if (p[i] == 0) CHECK(n[i] == 0);
        else chi += (n[i] - all * p[i]) * (n[i] - all * p[i]) / (all * p[i]), bins++;
    }
    return (chi - bins) / std::sqrt(2 * bins);
}
std::vector<double> zipf(int n, double exponent) {
    double sum = 0;
    std::vector<double> p;
    for (int k = 1; k <= n; k++) sum += std::pow(k, -exponent);
    for (int k = 1; k <= n; k++) p.push_back(std::pow(k, -exponent) / sum);
    return p;
}
constexpr double surprising = 4;                         // standard deviations
}  // namespace

// ------------------------------------------------------------------------------------------------- all games
TEST_CASE("games: a sequence is a function of seed and index, whatever was read before") {
    for (const std::string &name : game_names()) {
        INFO(name);
        const auto game = load_game(name), again = load_game(name);
        std::vector<Sample> forward;
        for (long i = 0; i < 40; i++) forward.push_back(game->sample(3, i, 64));
        for (long i = 39; i >= 0; i--) {
            const Sample s = again->sample(3, i, 64);
            CHECK(s.ids == forward[i].ids);
            CHECK(s.weight == forward[i].weight);
            CHECK(s.kind == forward[i].kind);
            CHECK(s.topic == forward[i].topic);
            CHECK(again->sample(4, i, 64).ids != s.ids);
        }
    }
}

TEST_CASE(
    "games: sequences are as long as they should be, of the vocabulary, of a known kind, and ask something") {
    for (const std::string &name : game_names())
        for (int T : {40, 63, 64, 200}) {
            const auto game = load_game(name);
            for (long i = 0; i < 40; i++) {
                const Sample s = game->sample(3, i, T);
                INFO(name, " ", T, ": ", game->shown(s));
                CHECK((int)s.ids.size() == T + 1);
                CHECK((s.weight.empty() || s.weight.size() == s.ids.size()));
                bool any = false;
                for (size_t j = 1; j < s.ids.size(); j++) any |= asked(s, j);
                CHECK(any);
                for (int id : s.ids) CHECK((id >= 0 && id < game->V()));
                CHECK((game->kinds.empty()
                           ? s.kind.empty()
                           : std::count(game->kinds.begin(), game->kinds.end(), s.kind) == 1));
            }
        }
}

TEST_CASE("games: what is held out is no training sequence of any seed") {
    for (const std::string &name : game_names()) {
        INFO(name);
        const auto game = load_game(name);
        std::set<std::vector<int>> trained;
        for (uint64_t seed : {0, 1, 2})
            for (long i = 0; i < 500; i++) trained.insert(game->sample(seed, i, 64).ids);
        CHECK(trained.size() == 1500);
        for (long i = 0; i < 500; i++) CHECK(!trained.count(game->held_out(i, 64).ids));
    }
}

TEST_CASE("games: a game's tokenizer reads its words, with blanks or without, and comes back from its file") {
    for (const std::string &name : game_names()) {
        INFO(name);
        const auto game = load_game(name);
        const Tokenizer t = game->tokenizer();
        CHECK(t.size() == game->V());
        Sample s = game->sample(1, 1, 64);
        s.weight.clear();
        CHECK(t.encode(game->shown(s)) == s.ids);
        CHECK(t.encode(t.decode(s.ids)) == s.ids);
        if (t.eos.empty()) CHECK(t.encode_plain(t.decode(s.ids)) == s.ids);      // else it is a word there
        CHECK(parse_tokenizer(t.to_json(), "itself").encode(game->shown(s)) == s.ids);
    }
}

TEST_CASE("games: what is wrong with a name, a key or a value is said, and what there is") {
    for (const char *none : {"stories", "fact", "facts.txt", "", "./facts"}) CHECK(!load_game(none));
    const auto cause = [](const char *data) { return refusal([&] { load_game(data); }).cause; };
    CHECK(cause("facts:fact=3") == "facts:fact=3: no key 'fact'");
    CHECK(refusal([] {
              load_game("facts:fact=3");
          }).hint.starts_with("did you mean facts? it knows facts=8192"));
    CHECK(cause("recall:world=2") == "recall:world=2: no key 'world'");
    CHECK(cause("facts:zipf") == "facts:zipf: 'zipf' is not KEY=VALUE");
    CHECK(cause("facts:zipf=") == "facts:zipf=: '' is no number");
    CHECK(cause("facts:zipf=1,zipf=1") == "facts:zipf=1,zipf=1: zipf is there twice");
    CHECK(cause("facts:zipf=4.5") == "facts:zipf=4.5: zipf 4.5 is not between 0 and 4");
    CHECK(cause("facts:zipf=nan") == "facts:zipf=nan: 'nan' is not finite");
    CHECK(cause("facts:world=1.5") == "facts:world=1.5: world: 1.5 is no whole number");
    CHECK(cause("facts:facts=1000") == "facts:facts=1000: facts 1000 is not a multiple of the 16 topics");
    CHECK(cause("recall:pairs=9,keys=8") == "recall:pairs=9,keys=8: 9 pairs of 8 keys");
    CHECK(cause("needle:repeats=0.6,grammar=0.6").ends_with("are shares, and more than 1 together"));
    for (const char *edge :
         {"facts:grammar=0", "facts:grammar=1", "needle:repeats=1,grammar=0", "bytes:noise=1",
          "needle:needles=32", "facts:facts=16", "facts:facts=131072", "bytes:facts=1"})
        for (long i = 0; i < 3; i++) CHECK(load_game(edge)->sample(1, i, 66).ids.size() == 67);
    CHECK(refusal([] { load_game("recall")->sample(1, 0, 16); }).cause ==
          "recall: a context of 16 is too short for it; it needs 17");
    for (long i = 0; i < 4; i++) {
        CHECK(load_game("recall")->sample(1, i, 17).ids.size() == 18);
        CHECK(load_game("needle:needles=3")->sample(1, i, 8).ids.size() == 9);
        CHECK(load_game("facts")->sample(1, i, 3).ids.size() == 4);
    }
}

// -------------------------------------------------------------------------------------- the best that can be
namespace {
// Of all that three tokens can be, the first given: the probabilities that the optimum means.
double all_continuations(const Game &game, Sample s, int first, int n) {
    double sum = 0;
    for (int y = 0; y < n; y++)
        for (int z = 0; z < n; z++) {
            s.ids = {first + 3, first + y, first + z};
            sum += std::exp(-game.optimum(s));
        }
    return sum;
}
}  // namespace

TEST_CASE("games: the best prediction is a probability: over all continuations it sums to 1") {
    const auto facts = load_game("facts"), factors = load_game("factors:told=0"),
               recall = load_game("recall");
    const int first = facts->V() - 32;
    CHECK(facts->words[first] == "w0");
    CHECK(all_continuations(*facts, {.kind = "grammar"}, first, 32) == doctest::Approx(1).epsilon(1e-9));
    CHECK(all_continuations(*factors, {.kind = "factors"}, 0, 32) == doctest::Approx(1).epsilon(1e-9));
    CHECK(all_continuations(*recall, {.kind = "repeat"}, 0, 32) == doctest::Approx(1).epsilon(1e-9));
    Sample s = {.ids = {1, 2, 3, 4, 1, 2, 3, 4}, .kind = "repeat"};      // period 4, or 8 to 16 by chance
    CHECK(recall->optimum(s) ==
          doctest::Approx(-std::log((1 / std::pow(32, 3) + 9 / std::pow(32, 7)) / 13)).epsilon(1e-9));
    for (int i = 5; i < 18; i++) s.ids.push_back(i);
    CHECK(recall->optimum(s) == INFINITY);               // no period explains them
}

TEST_CASE("games: tokens are as frequent as the best prediction says") {
    for (const char *name : {"facts:grammar=1", "factors:told=0"}) {
        const auto game = load_game(name);
        const int n = 32, first = game->V() - n;
        std::vector<double> seen(n), p;
        for (long i = 0; i < 400000; i++) {
            const Sample s = game->sample(5, i, 3);
            if (s.ids[0] == first + 3) seen[s.ids[1] - first]++;
        }
        for (int y = 0; y < n; y++)
            p.push_back(
                std::exp(-game->optimum({.ids = {first + 3, first + y}, .kind = game->kinds.back()})));
        INFO(name, ": ", chi_square(seen, p));
        CHECK(chi_square(seen, p) < surprising);
    }
}

// In a long text the topic is known, and the loss is the entropy of its pairs of neighbours: counted, that of
// 300,000 tokens is a thousandth too low.
TEST_CASE("games: of a long text the best loss is the entropy of its neighbours") {
    for (const char *name : {"facts:grammar=1", "factors:told=0"}) {
        const auto game = load_game(name);
        const Sample s = game->held_out(1, 300000);
        std::map<int, double> n;
        std::map<std::pair<int, int>, double> pairs;
        for (size_t i = 1; i < s.ids.size(); i++) n[s.ids[i - 1]]++, pairs[{s.ids[i - 1], s.ids[i]}]++;
        double nats = 0;
        for (const auto &[pair, count] : pairs) nats += count * std::log(n[pair.first] / count);
        MESSAGE(name, ": ", game->optimum(s) / 300000, " nats, counted ", nats / 300000);
        CHECK(std::abs(game->optimum(s) - nats) / 300000 < 0.004);
    }
}

TEST_CASE("factors: who is told the factors is told which of 512 combinations it is") {
    const auto told = load_game("factors"), hidden = load_game("factors:told=0");
    double with = 0, without = 0;
    for (long i = 0; i < 100; i++) {
        Sample s = told->sample(1, i, 23);
        CHECK(told->words[s.ids[0]] == cat("topic", s.topic / 64));
        CHECK(told->words[s.ids[1]] == cat("style", s.topic / 8 % 8));
        CHECK(told->words[s.ids[2]] == cat("format", s.topic % 8));
        with += told->optimum(s);
        s.ids.erase(s.ids.begin(), s.ids.begin() + 3);
        s.weight.clear();
        without += hidden->optimum(s);
    }
    INFO("told ", with / 2000, ", hidden ", without / 2000);
    CHECK(with < without - 100);
}

// ----------------------------------------------------------------------------------------------------- facts
TEST_CASE(
    "facts: each is told once a window asks for it, agrees with the table, and is of the sequence's topic") {
    const auto game = load_game("facts:facts=1024,grammar=0");
    std::map<std::vector<int>, int> table;
    for (int k = 0; k < 1024; k++) {
        const std::vector<int> f = fact(1, k);
        CHECK(f[0] / 8 == k % 16);
        table[{f[0], f[1], f[2]}] = f[3];
    }
    CHECK(table.size() == 1024);
    int repeated = 0;
    for (long i = 0; i < 400; i++) {
        const Sample s = i % 2 ? game->held_out(i, 64) : game->sample(1, i, 64);
        std::set<std::vector<int>> told;
        for (size_t j = 0; j < s.ids.size(); j += 4) {
            for (size_t x = j; x < std::min(j + 3, s.ids.size()); x++) CHECK(s.weight[x] == 0);
            CHECK(s.ids[j] / 8 == s.topic);
            if (j + 3 >= s.ids.size()) continue;
            const std::vector<int> key = {s.ids[j], s.ids[j + 1] - 128, s.ids[j + 2] - 192};
            REQUIRE(table.count(key));
            CHECK(s.ids[j + 3] == 208 + table[key]);
            const bool fresh = told.insert(key).second;
            CHECK(s.weight[j + 3] == fresh);
            repeated += !fresh;
        }
    }
    CHECK(repeated > 100);
}

TEST_CASE("facts: the k-th of a topic is told as Zipf's law says, each topic as often") {
    const auto game = load_game("facts:facts=512,zipf=0.7,grammar=0");
    std::map<std::vector<int>, int> rank;
    for (int k = 0; k < 512; k++) rank[{fact(1, k)[0], fact(1, k)[1], fact(1, k)[2]}] = k / 16;
    std::vector<double> ranks(32), topics(16);
    for (long i = 0; i < 4000; i++) {
        const Sample s = game->sample(2, i, 63);
        topics[s.topic]++;
        for (int j = 0; j < 64; j += 4) ranks[rank.at({s.ids[j], s.ids[j + 1] - 128, s.ids[j + 2] - 192})]++;
    }
    CHECK(chi_square(ranks, zipf(32, 0.7)) < surprising);
    CHECK(chi_square(topics, std::vector<double>(16, 1.0 / 16)) < surprising);
}

TEST_CASE("facts: 131,072 are all different, their values are spread evenly, and another world has others") {
    std::set<std::vector<int>> keys;
    std::vector<double> values(64);
    int same = 0;
    for (int k = 0; k < 131072; k++) {
        const std::vector<int> f = fact(1, k);
        CHECK(keys.insert({f[0], f[1], f[2]}).second);
        values[f[3]]++;
        same += fact(2, k) == f;
    }
    CHECK(chi_square(values, std::vector<double>(64, 1.0 / 64)) < surprising);
    CHECK(same < 10);
}

// -------------------------------------------------------------------------------------------- recall, needle
TEST_CASE("recall and needle: every answer stands in the context, and is found by five lines") {
    for (const char *name :
         {"recall", "recall:pairs=3,keys=5", "needle", "needle:needles=5", "needle:depth=0"}) {
        const auto game = load_game(name);
        int answered = 0;
        for (long i = 0; i < 400; i++) {
            const Sample s = i % 2 ? game->held_out(i / 2, 50) : game->sample(1, i / 2, 50);
            if (s.kind != "recall" && s.kind != "needle") continue;
            for (size_t j = 1; j < s.ids.size(); j++) {
                if (!asked(s, j)) continue;
                INFO(game->shown(s));
                CHECK(answer(s, j) == s.ids[j]);
                answered++;
            }
            CHECK(game->optimum(s) == 0);
        }
        CHECK(answered >= 200);
    }
}

TEST_CASE("recall: pairs come first, all keys are different, and each is asked as often") {
    const auto game = load_game("recall");
    std::vector<double> asked_for(8);
    for (long i = 0; i < 2000; i++) {
        const Sample s = game->sample(1, i, 64);
        if (s.kind != "recall") continue;
        std::map<int, int> place;
        for (int j = 0; j < 8; j++) place[s.ids[2 * j]] = j;
        CHECK(place.size() == 8);
        for (size_t j = 0; j < s.ids.size(); j++) CHECK(asked(s, j) == (j > 16 && j % 2 == 1));
        for (size_t j = 16; j < s.ids.size(); j += 2) asked_for[place.at(s.ids[j])]++;
    }
    CHECK(chi_square(asked_for, std::vector<double>(8, 1.0 / 8)) < surprising);
}

TEST_CASE("recall: half of the sequences repeat a segment of 4 to 16 tokens, each length as often") {
    const auto game = load_game("recall");
    std::vector<double> periods(13);
    int repeats = 0;
    for (long i = 0; i < 4000; i++) {
        const Sample s = game->sample(1, i, 64);
        if (s.kind != "repeat") continue;
        repeats++;
        size_t p = 1;
        while (!std::equal(s.ids.begin() + p, s.ids.end(), s.ids.begin())) p++;
        REQUIRE((p >= 4 && p <= 16));
        periods[p - 4]++;
        CHECK(s.weight.empty());
    }
    CHECK(repeats == 2000);
    CHECK(chi_square(periods, std::vector<double>(13, 1.0 / 13)) < surprising);
}

TEST_CASE(
    "needle: the one that is asked lies at its depth, whatever the length; the last token alone is asked") {
    for (const auto &[depth, at] : std::map<std::string, double>{{"0", 0}, {"0.25", 0.25}, {"1", 1}}) {
        const auto game = load_game("needle:needles=1,repeats=0,grammar=0,depth=" + depth);
        for (int T : {30, 1000}) {
            const Sample s = game->sample(1, 0, T);
            const int key = s.ids[T - 1];
            CHECK(std::find(s.ids.begin(), s.ids.end(), key) - s.ids.begin() == std::lround(at * (T - 3)));
            for (int i = 0; i <= T; i++) CHECK(asked(s, i) == (i == T));
        }
    }
}

// ----------------------------------------------------------------------------------------------------- bytes
TEST_CASE("bytes: a name has one line, and the k-th fact is told ~ 1/k") {
    const auto game = load_game("bytes:facts=1000");
    std::map<std::string, std::string> line_of;
    std::map<std::string, double> n;
    double lines = 0;
    for (long i = 0; i < 200; i++) {
        const std::string text = game->shown(game->held_out(i, 2000));
        for (size_t at = text.find('\n') + 1, end; (end = text.find('\n', at)) != text.npos; at = end + 1) {
            const std::string line = text.substr(at, end - at), name = line.substr(0, line.find(' '));
            CHECK(line_of.try_emplace(name, line).first->second == line);
            n[name]++, lines++;
        }
    }
    std::vector<double> sorted;
    for (const auto &[name, count] : n) sorted.push_back(count / lines);
    std::sort(sorted.rbegin(), sorted.rend());
    const std::vector<double> p = zipf(1000, 1);
    for (int k = 0; k < 10; k++) CHECK(std::abs(sorted[k] - p[k]) < 4 * std::sqrt(p[k] / lines));
    CHECK(n.size() > 900);
}

TEST_CASE("bytes: noise replaces its share of the training's bytes, and none of what is held out") {
    const auto clean = load_game("bytes"), noisy = load_game("bytes:noise=0.3");
    double differing = 0;
    for (long i = 0; i < 100; i++) {
        const std::vector<int> a = clean->sample(1, i, 999).ids, b = noisy->sample(1, i, 999).ids;
        for (int j = 0; j < 1000; j++) differing += a[j] != b[j];
        CHECK(clean->held_out(i, 99).ids == noisy->held_out(i, 99).ids);
    }
    CHECK(std::abs(differing / 1e5 - 0.3 * 127 / 128) < 4 * std::sqrt(0.3 * 0.7 / 1e5));
}

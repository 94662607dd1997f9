// Texts become a corpus: what is a duplicate, what is refused, how much of a source is written.
#include <doctest/doctest.h>

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "src/text/corpus.h"
#include "src/text/filter.h"
#include "src/text/minhash.h"
#include "src/text/prepare.h"
#include "src/text/tokenizer.h"
#include "tests/check.h"
#include "tests/text/folder.h"

namespace {
bool contains(const std::string &text, const std::string &part) { return text.find(part) != text.npos; }

// A word of letters; a text of them repeats no five words by chance.
std::string word(uint64_t i) {
    std::string letters;
    for (i += 26 * 26; i; i /= 26) letters += char('a' + i % 26);
    return letters;
}
std::string random_text(int words, uint64_t seed, int vocabulary = 5000) {
    std::string text;
    for (int i = 0; i < words; i++)
        text += word(random_bits(seeded(seed), 41, 0, i) % vocabulary) + (i % 12 == 11 ? "\n" : " ");
    return text;
}
std::string edited(const std::string &text, int words, uint64_t seed) {     // so many of its words are others
    std::vector<std::string_view> all = words_of(text);
    std::vector<std::string> others(words);
    for (int i = 0; i < words; i++) {
        others[i] = word(100000 + random_bits(seed, 42, 1, i) % 100000);
        all[random_bits(seed, 42, 0, i) % all.size()] = others[i];
    }
    std::string out;
    for (std::string_view w : all) out += std::string(w) + " ";
    return out;
}
Shingles shingles(const std::string &text) { return shingles_of(words_of(text)); }

// Two random sets of which `both` of `either` elements are in both.
std::pair<Shingles, Shingles> pair_of_sets(int both, int either, uint64_t seed) {
    std::pair<Shingles, Shingles> sets;
    for (int i = 0; i < either; i++) {
        const uint64_t x = random_bits(seeded(seed), 43, 0, i);
        if (i < both || i % 2) sets.first.push_back(x);
        if (i < both || i % 2 == 0) sets.second.push_back(x);
    }
    std::sort(sets.first.begin(), sets.first.end());
    std::sort(sets.second.begin(), sets.second.end());
    return sets;
}

struct Kept { std::string text, source, path; };
std::vector<Kept> read_jsonl(const std::string &file) {
    std::vector<Kept> all;
    std::istringstream lines(read_text(file, 1 << 28));
    for (std::string line; std::getline(lines, line);) {
        const auto json = nlohmann::json::parse(line);
        all.push_back({json["text"], json["source"], json["path"]});
    }
    return all;
}
std::vector<std::string> sorted_paths(const std::string &file) {
    std::vector<std::string> paths;
    for (const Kept &k : read_jsonl(file)) paths.push_back(k.path);
    std::sort(paths.begin(), paths.end());
    return paths;
}
const Removed &by(const PrepareReport &report, const std::string &name) {
    for (const Removed &r : report.removed)
        if (r.name == name) return r;
    FAIL("no such stage: " << name);
    return report.removed[0];
}
using Paths = std::vector<std::string>;
}  // namespace

// ------------------------------------------------------------------------------------------------- MinHash
TEST_CASE("minhash: words are what stands between blanks, and each Chinese character") {
    const std::vector<std::string_view> expected = {"if", "(a+b)", "你", "好", "，", "x", "カ", "é."};
    CHECK(words_of(" if\t(a+b)\r\n你好，x\vカ é.\f") == expected);
    CHECK(words_of(" \n").empty());
    CHECK(words_of("a\x80z").size() == 1);                          // broken characters are no end
}

TEST_CASE("minhash: shingles are five words in a row, each once; fewer words are one") {
    CHECK(shingles("").empty());
    CHECK(shingles("a b").size() == 1);
    CHECK(shingles("a b") != shingles("b a"));
    CHECK(shingles("a b c d e").size() == 1);
    CHECK(shingles("a b c d e f").size() == 2);
    CHECK(shingles("a a a a a a a").size() == 1);
    CHECK(jaccard(shingles("a b c d e f"), shingles("b  c\nd e f g")) == doctest::Approx(1 / 3.0));
    CHECK(jaccard(shingles("a b c d e"), shingles("a b c d x")) == 0);
    CHECK(jaccard({}, {}) == 1);
}

TEST_CASE("minhash: the estimate is off by the binomial standard error, and by no more") {
    double z_sum = 0, z2_sum = 0;
    int n = 0;
    for (int both : {20, 60, 100, 140, 180})
        for (uint64_t seed = 0; seed < 100; seed++) {
            const auto [a, b] = pair_of_sets(both, 200, 1000 * both + seed);
            const double s = jaccard(a, b);
            CHECK(s == both / 200.0);
            const Signature x = minhash(a), y = minhash(b);
            double same = 0;
            for (int i = 0; i < n_hashes; i++) same += x[i] == y[i];
            const double z = (same / n_hashes - s) / std::sqrt(s * (1 - s) / n_hashes);
            CHECK(std::fabs(z) < 6);
            z_sum += z;
            z2_sum += z * z;
            n++;
        }
    CHECK(std::fabs(z_sum / n) < 5 / std::sqrt(n));                    // no bias
    CHECK(std::fabs(z2_sum / n - 1) < 5 * std::sqrt(2.0 / n));         // a spread of one standard error
}

TEST_CASE("minhash: two texts meet in a band with probability 1 - (1 - s^8)^16") {
    for (int both : {50, 60, 70, 80, 90}) {
        const int pairs = 2000;
        int met = 0;
        for (uint64_t seed = 0; seed < pairs; seed++) {
            const auto [a, b] = pair_of_sets(both, 100, 77000 * both + seed);
            const Bands x = bands_of(minhash(a)), y = bands_of(minhash(b));
            bool meet = false;
            for (int band = 0; band < n_bands; band++) meet |= x[band] == y[band];
            met += meet;
        }
        const double s = both / 100.0, p = 1 - std::pow(1 - std::pow(s, band_rows), n_bands);
        INFO("s = " << s << ": " << met << " of " << pairs << ", expected " << p * pairs);
        CHECK(std::fabs(met - p * pairs) < 5 * std::sqrt(p * (1 - p) * pairs) + 2);
    }
}

TEST_CASE("minhash: what is removed has a near duplicate among what stays; a chain keeps its far end") {
    std::vector<std::string> texts = {random_text(300, 1)};
    for (int i = 1; i < 12; i++) texts.push_back(edited(texts.back(), 4, 100 + i));
    std::vector<Bands> bands;
    for (const std::string &text : texts) bands.push_back(bands_of(minhash(shingles(text))));
    const std::vector<long> repeats = near_duplicates(bands, [&](long i) { return shingles(texts[i]); });
    CHECK(repeats[0] == -1);
    int stay = 0;
    for (size_t i = 0; i < texts.size(); i++) {
        stay += repeats[i] < 0;
        if (repeats[i] < 0) continue;
        CHECK(repeats[i] < (long)i);
        CHECK(repeats[repeats[i]] == -1);
        CHECK(jaccard(shingles(texts[i]), shingles(texts[repeats[i]])) >= near_duplicate);
    }
    CHECK(jaccard(shingles(texts[0]), shingles(texts[11])) < near_duplicate);
    CHECK(stay >= 2);                                    // connected components would leave one
}

TEST_CASE("minhash: blocks change nothing: the answer is that of one loop over all earlier documents") {
    std::vector<Shingles> sets;
    for (int i = 0; i < 3 * block_size; i++)
        sets.push_back(shingles(edited(random_text(120, 10 + random_bits(seeded(3), 44, 0, i) % 150),
                                       int(random_bits(seeded(3), 44, 1, i) % 4), i)));
    std::vector<Bands> bands;
    for (const Shingles &set : sets) bands.push_back(bands_of(minhash(set)));
    std::vector<long> expected(sets.size(), -1);
    for (size_t i = 0; i < sets.size(); i++)
        for (size_t j = 0; j < i && expected[i] < 0; j++) {
            bool meet = false;
            for (int b = 0; b < n_bands; b++) meet |= bands[i][b] == bands[j][b];
            if (meet && expected[j] < 0 && jaccard(sets[i], sets[j]) >= near_duplicate) expected[i] = (long)j;
        }
    CHECK(near_duplicates(bands, [&](long i) { return sets[i]; }) == expected);
}

// -------------------------------------------------------------------------------------------- deduplicate
TEST_CASE("prepare: normalised texts are equal but for how lines end") {
    CHECK(normalised("a \t\r\nb\r\n\n \n") == "a\nb");
    CHECK(normalised("a\nb") == "a\nb");
    CHECK(normalised(" a\r") == " a");
    CHECK(normalised("a b") != normalised("a  b"));
    CHECK(normalised("") == "");
}

TEST_CASE("prepare: exact duplicates are all found, and texts of one hash are compared") {
    const Paths texts = {"a", "b", "a", "c", "b", "a"};
    const auto read = [&](long i) { return texts[i]; };
    const std::vector<long> expected = {-1, -1, 0, -1, 1, 0};
    CHECK(exact_duplicates(std::vector<uint64_t>(6, 7), read) == expected);      // every two collide
    CHECK(exact_duplicates({9, 8, 9, 7, 8, 9}, read) == expected);
    CHECK(exact_duplicates({}, read).empty());
}

TEST_CASE("prepare: the first by path stays of exact and of near duplicates") {
    const Folder folder;
    const std::string page = random_text(200, 5);
    std::string crlf;
    for (char c : page) crlf += c == '\n' ? "  \r\n" : std::string(1, c);
    folder.put("in/b/1.txt", page);
    folder.put("in/a/2.txt", crlf + "\n\n");
    folder.put("in/c/3.txt", edited(page, 1, 1));
    folder.put("in/c/4.txt", edited(page, 40, 2));
    folder.put("in/c/5.txt", random_text(200, 6));
    const PrepareReport r = prepare({.in = folder / "in", .out = folder / "out.jsonl"});
    CHECK(sorted_paths(folder / "out.jsonl") == Paths{"a/2.txt", "c/4.txt", "c/5.txt"});
    CHECK(by(r, "exact-duplicate").tally.documents == 1);
    CHECK(by(r, "exact-duplicate").example == "b/1.txt");
    CHECK(by(r, "exact-duplicate").why == "repeats 'a/2.txt'");
    CHECK(by(r, "near-duplicate").example == "c/3.txt");
    CHECK(by(r, "near-duplicate").why == "repeats 'a/2.txt'");
    CHECK(r.dedup_rate() == doctest::Approx(2 / 5.0));
}

// The wider the scope, the more is removed: DeepSeek LLM's Table 1 has 22.2% of one dump, 89.8% of 91. Here a
// dump is 60 pages of a pool of 1,500, page k with a probability of 1/k, each with up to two of its 300 words
// changed since; 180 of them are a header that all pages share.
TEST_CASE("prepare: 32 dumps of one web: the rate rises with the scope, and distinct pages stay apart") {
    constexpr int pages = 1500, per_dump = 60, dumps = 32;
    std::vector<double> up_to(pages);
    for (int k = 0; k < pages; k++) up_to[k] = (k ? up_to[k - 1] : 0) + 1.0 / (k + 1);
    const std::string header = random_text(180, 7);
    std::vector<int> page;
    std::vector<Shingles> sets;
    std::vector<Bands> bands;
    std::vector<std::string> texts;
    for (int i = 0; i < dumps * per_dump; i++) {
        const double u = uniform(seeded(8), 45, 0, i) * up_to.back();
        page.push_back(int(std::lower_bound(up_to.begin(), up_to.end(), u) - up_to.begin()));
        const std::string body = random_text(120, 1000 + page.back());
        texts.push_back(edited(header + body, int(random_bits(seeded(8), 45, 1, i) % 3), seeded(9) + i));
        sets.push_back(shingles(texts.back()));
        bands.push_back(bands_of(minhash(sets.back())));
    }
    const auto removed = [&](int first, int last) {      // near duplicates, which exact ones are, too
        const std::vector<Bands> part(bands.begin() + first * per_dump, bands.begin() + last * per_dump);
        return near_duplicates(part, [&](long i) { return sets[first * per_dump + i]; });
    };
    const auto rate = [](const std::vector<long> &repeats) {
        return 1 - (double)std::count(repeats.begin(), repeats.end(), -1) / repeats.size();
    };
    double single = 0, before = 0;
    for (int scope : {1, 2, 4, 8, 16, 32}) {             // the mean over all disjoint parts of so many dumps
        double now = 0;
        for (int d = 0; d < dumps; d += scope) now += rate(removed(d, d + scope)) * scope / dumps;
        INFO(scope << " dumps: " << now);
        CHECK(now > before);
        if (scope == 1) single = now;
        before = now;
    }
    INFO("one dump " << single << ", all " << before);
    CHECK(before > 2 * single);
    const std::vector<long> repeats = removed(0, dumps);
    int false_merges = 0, exact = 0, missed = 0;
    std::set<std::string> seen;
    const std::set<int> distinct(page.begin(), page.end());
    CHECK(std::count(repeats.begin(), repeats.end(), -1) <= 1.05 * distinct.size());
    for (int i = 0; i < dumps * per_dump; i++) {
        false_merges += repeats[i] >= 0 && page[i] != page[repeats[i]];
        const bool again = !seen.insert(texts[i]).second;
        exact += again;
        missed += again && repeats[i] < 0;
    }
    CHECK(false_merges <= dumps * per_dump / 100);
    CHECK(exact > 0);
    CHECK(missed == 0);
}

TEST_CASE("prepare: lines of many documents stay in the first alone; short ones and rare ones stay") {
    const Folder folder;
    const std::string banner = "Accept all of our cookies";
    for (int i = 0; i < 5; i++)
        folder.put(cat("in/", i, ".txt"), cat(random_text(60, 20 + i), "\n", banner, i == 2 ? " \r\n" : "\n",
                                              "}\n", i < 3 ? "seen in three documents\n" : "", banner, "\n"));
    const PrepareReport all = prepare({.in = folder / "in", .out = folder / "all.jsonl"});
    CHECK(all.lines.documents == 0);
    const PrepareReport r = prepare({.in = folder / "in", .out = folder / "o.jsonl", .repeated_lines = 3});
    CHECK(r.lines.documents == 8);
    CHECK(r.lines.bytes == all.out.bytes - r.out.bytes);
    for (const Kept &k : read_jsonl(folder / "o.jsonl")) {
        CHECK(contains(k.text, banner) == (k.path == "0.txt"));
        CHECK(contains(k.text, "}\n"));
        CHECK(contains(k.text, "seen in three documents\n") == (k.path < "3"));
    }
}

// ------------------------------------------------------------------------------------------------- filter
TEST_CASE("filter: every rule has a text that it alone refuses, and a near one that it keeps") {
    const auto times = [](int n, auto part) {
        std::string text;
        for (int i = 0; i < n; i++) text += part(i);
        return text;
    };
    const auto words = [&](int n) {
        return times(n, [](int i) { return cat("word", char('a' + i % 26), i, " "); });
    };
    const auto letters = [&](const char *word) {
        return times(25, [&](int i) { return cat(word, i + 10, " "); });
    };
    const auto lines = [&](int again) {
        return times(
            20, [&](int i) { return i % 4 < again ? "same few words\n" : cat("ab", i, " cd", i, " ef\n"); });
    };
    const std::map<std::string, std::pair<std::string, std::string>> cases = {
        {"too-short", {words(19), words(20)}},
        {"invalid-utf8", {words(40) + "\x80\x81\x82\x83", words(40) + "\x80"}},
        {"few-letters", {letters("123"), letters("1ab")}},
        {"many-symbols", {letters("abcd+*-?!+-"), letters("abcd+*-")}},
        {"word-length", {letters("abcdefghijklmnopqrstuvwxyz"), letters("abcdefghijklmnopqrst")}},
        {"repeated-lines", {lines(3), lines(1)}},
        {"repeated-words", {words(20) + words(20) + words(20), words(20) + words(20)}},
    };
    CHECK(cases.size() == filter_rules().size());
    for (const Rule &rule : filter_rules()) {
        INFO(rule.name);
        const auto &[refused, kept] = cases.at(rule.name);
        for (const Rule &other : filter_rules()) {
            INFO(other.name << ": " << measure(refused).*other.value << " and "
                            << measure(kept).*other.value);
            CHECK(other.refuses(measure(refused)) == (other.name == rule.name));
            CHECK(!other.refuses(measure(kept)));
        }
    }
}

TEST_CASE("filter: other scripts and programs are texts, too") {
    const std::string chinese =
        "深度求索发布了新的语言模型。它在两万亿个词元上训练，数据经过去重、过滤和重新混合三个阶段。";
    const std::string russian =
        "Это обычный текст на русском языке, в котором больше двадцати слов, и ни одно из "
        "правил не должно его отбросить, потому что он ничем не хуже английского текста.";
    for (const std::string &text : {chinese, russian, read_text(SOURCE_DIR "/src/text/minhash.cpp", 1 << 20)})
        for (const Rule &rule : filter_rules()) {
            INFO(text.substr(0, 60) << " " << rule.name << " " << measure(text).*rule.value);
            CHECK(!rule.refuses(measure(text)));
        }
    for (const Rule &rule : filter_rules()) CHECK(std::isfinite(measure("").*rule.value));
}

TEST_CASE("prepare: a rule is counted by its name, and can be switched off") {
    const Folder folder;
    folder.put("in/a.txt", random_text(60, 1));
    folder.put("in/b.txt", "Not found.");
    folder.put("in/c.txt", "404 Not found.");
    const PrepareReport r = prepare({.in = folder / "in", .out = folder / "o.jsonl"});
    CHECK(by(r, "too-short").tally.documents == 2);
    CHECK(by(r, "too-short").tally.bytes == 24);
    CHECK(by(r, "too-short").example == "b.txt");
    CHECK(by(r, "too-short").why == "words 2, below 20");
    CHECK(r.out.documents == 1);
    const PrepareReport all =
        prepare({.in = folder / "in", .out = folder / "p.jsonl", .no_filter = {"too-short"}});
    CHECK(all.out.documents == 3);
}

// -------------------------------------------------------------------------------------------------- remix
TEST_CASE("prepare: a weight is met within half of a document, and the seed chooses which") {
    const int n = 40;
    std::vector<size_t> bytes;
    std::vector<uint64_t> order, other;
    for (int i = 0; i < n; i++) {
        bytes.push_back(100 + random_bits(seeded(4), 46, 0, i) % 1000);
        order.push_back(random_bits(seeded(4), 46, 1, i));
        other.push_back(random_bits(seeded(4), 46, 2, i));
    }
    const double all = std::accumulate(bytes.begin(), bytes.end(), 0.0);
    for (double weight : {0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.75}) {
        const std::vector<int> c = copies(weight, bytes, order);
        double written = 0;
        for (int i = 0; i < n; i++) {
            written += c[i] * (double)bytes[i];
            CHECK((c[i] == std::floor(weight) || c[i] == std::ceil(weight)));
        }
        INFO(weight << ": " << written << " of " << weight * all);
        CHECK(std::fabs(written - weight * all) <= 1100 / 2.0);
    }
    CHECK(copies(0.5, bytes, order) != copies(0.5, bytes, other));
}

TEST_CASE("prepare: --mix changes the sources it names, and the report says by how much") {
    const Folder folder;
    for (int i = 0; i < 20; i++)
        for (const char *source : {"code", "web", "wiki"})
            folder.put(cat("in/", source, "/", i, ".txt"), random_text(50 + i, 100 * source[1] + i));
    PrepareOptions o = {.in = folder / "in", .out = folder / "o.jsonl", .mix = {{"web", 0.5}, {"code", 2}}};
    o.tokenizer = "bytes";
    const PrepareReport r = prepare(o);
    std::map<std::string, std::map<std::string, int>> written;
    std::map<std::string, long> bytes;
    std::vector<std::string> order;
    for (const Kept &k : read_jsonl(folder / "o.jsonl")) {
        if (written[k.source][k.path]++) CHECK(order.back() == k.path);      // copies are neighbours
        bytes[k.source] += (long)k.text.size();
        order.push_back(k.path);
    }
    for (const auto &[path, n] : written["code"]) CHECK(n == 2);
    CHECK(written["code"].size() == 20);
    CHECK(written["wiki"].size() == 20);
    CHECK(std::labs(bytes["web"] - r.sources.at("web").in.bytes / 2) <= 400);
    for (const auto &[source, s] : r.sources) {
        CHECK(s.out.bytes == bytes[source]);
        CHECK(s.out.tokens == s.out.bytes);
        CHECK(s.kept.bytes == s.in.bytes);
    }
    CHECK(!std::is_sorted(order.begin(), order.end()));
    o.out = folder / "p.jsonl";
    o.seed = 2;
    prepare(o);
    CHECK(sorted_paths(o.out) != sorted_paths(folder / "o.jsonl"));
}

// ---------------------------------------------------------------------------------------------- in and out
TEST_CASE("prepare: the same bytes with 1, 2 and 3 threads") {
    const Folder folder;
    for (int i = 0; i < 600; i++)
        folder.put(cat("in/", i % 3, "/", i, ".txt"), edited(random_text(100, i % 250), i % 2, i % 400));
    std::string first;
    for (int threads : {1, 2, 3}) {
        const WithThreads with(threads);
        prepare({.in = folder / "in",
                 .out = folder / "o.jsonl",
                 .report = folder / "r.json",
                 .repeated_lines = 2,
                 .mix = {{"1", 0.5}, {"2", 1.5}}});
        const std::string all =
            read_text(folder / "o.jsonl", 1 << 28) + read_text(folder / "r.json", 1 << 20);
        if (first.empty()) first = all;
        CHECK(all == first);
    }
}

TEST_CASE("prepare: documents are files, lines of a .jsonl, or what stands between separators") {
    const Folder folder;
    folder.put("in/web/a.txt", "one\n---\n\n---\ntwo\n--- \r\nthree");
    folder.put("in/b.jsonl",
               "{\"text\": \"four\"}\n\n{\"text\": \"five\", \"source\": \"book\", \"path\": \"5\"}\n");
    folder.put("in/web/c.jsonl", "{\"text\": \"s\\u00e9x\", \"id\": 7}");
    const Paths filters = {"too-short"};
    prepare({.in = folder / "in", .out = folder / "o.jsonl", .separator = "---", .no_filter = filters});
    std::map<std::string, Kept> by_path;
    for (const Kept &k : read_jsonl(folder / "o.jsonl")) by_path[k.path] = k;
    CHECK(by_path.size() == 6);
    CHECK(by_path["web/a.txt#1"].text == "one\n");
    CHECK(by_path["web/a.txt#2"].text == "two\n");
    CHECK(by_path["web/a.txt#3"].text == "three");
    CHECK(by_path["web/a.txt#3"].source == "web");
    CHECK(by_path["b.jsonl:1"].text == "four");
    CHECK(by_path["b.jsonl:1"].source == ".");
    CHECK(by_path["5"].source == "book");
    CHECK(by_path["web/c.jsonl:1"].text == "séx");
    CHECK(by_path["web/c.jsonl:1"].source == "web");
    const PrepareReport again =
        prepare({.in = folder / "o.jsonl", .out = folder / "p.jsonl", .no_filter = filters});
    CHECK(again.sources.count("book"));
    CHECK(sorted_paths(folder / "p.jsonl") == sorted_paths(folder / "o.jsonl"));
}

TEST_CASE("prepare: training reads the .jsonl and the folder as the same documents") {
    const Folder folder;
    for (int i = 0; i < 6; i++) folder.put(cat("in/", i, ".txt"), random_text(40, i) + "\xFF\n");
    for (const char *out : {"o.jsonl", "o"})
        prepare({.in = folder / "in", .out = folder / out, .no_filter = {"invalid-utf8"}});
    const Corpus a = load_corpus(folder / "o.jsonl", byte_tokenizer(), 1);
    const Corpus b = load_corpus(folder / "o", byte_tokenizer(), 1);
    CHECK(a.train.size() > 100);
    CHECK(a.train.read(0, a.train.size()) == b.train.read(0, b.train.size()));
    CHECK(a.valid.read(0, a.valid.size()) == b.valid.read(0, b.valid.size()));
}

TEST_CASE("prepare: bad input is refused by its cause, and leaves nothing") {
    const Folder folder;
    folder.put("in/web/a.txt", random_text(60, 1));
    folder.put("bad/a.jsonl", "{\"text\": \"good\"}\n\n{\"text\": 3}\n");
    folder.put("worse/a.jsonl", "{\"text\": \"good\"}\n{\"text\": \"no end}\n");
    folder.put("other/a.jsonl", "{\"content\": \"good\"}\n");
    folder.put("full/a", "something");
    std::filesystem::create_directories(folder / "empty");
    const auto refused = [&](const std::string &in, const std::string &out, const std::string &report = "",
                             const std::map<std::string, double> &mix = {}) {
        return error_of([&] {
            prepare({.in = folder / in,
                     .out = folder / out,
                     .report = report.empty() ? "" : folder / report,
                     .mix = mix});
        });
    };
    CHECK(contains(refused("empty", "o"), "no texts in it"));
    CHECK(contains(refused("nowhere", "o"), "nowhere"));
    CHECK(contains(refused("bad", "o"), "bad/a.jsonl: line 3: text is 3"));
    CHECK(contains(refused("worse", "o.jsonl"), "worse/a.jsonl: line 2"));
    CHECK(contains(refused("other", "o"), "line 1: text is missing"));
    CHECK(contains(refused("in", "o", "", {{"wob", 2}}), "--mix wob: no such source"));
    CHECK(contains(refused("in", "o", "", {{"web", -1}}), "--mix web=-1"));
    CHECK(contains(refused("in", "o", "", {{"web", 0}}), "nothing is left of the 1 documents"));
    CHECK(contains(refused("in", "in/o"), "is inside of --prepare"));
    CHECK(contains(refused("in", "in/web/../../in/o.jsonl"), "is inside of --prepare"));
    CHECK(contains(refused("in/web/a.txt", "in/web/a.txt"), "is inside of --prepare"));
    CHECK(contains(refused("in", "o", "o/r.json"), "--report"));
    CHECK(contains(refused("in", "o", "in/r.json"), "--report"));
    CHECK(contains(refused("in", "full"), "no empty folder"));
    CHECK(contains(refused("in", "nowhere/o"), "cannot be made"));
    CHECK(contains(refused("in", "nowhere/o.jsonl"), "cannot be written"));
    CHECK(contains(
        error_of([&] { prepare({.in = folder / "in", .out = folder / "o", .no_filter = {"too-long"}}); }),
        "--no-filter too-long: no such rule"));
    std::set<std::string> left;
    for (const auto &entry : std::filesystem::directory_iterator(folder.at))
        left.insert(entry.path().filename());
    CHECK(left == std::set<std::string>{"bad", "empty", "full", "in", "other", "worse"});
}

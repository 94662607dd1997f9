// The tokenizer: golden ids of the reference library, the rules of learning on a hand's worth of words,
// prompts letter by letter, and files that want to do harm. Run in the project's root (data/golden is read).
#ifdef TOKENIZER_STANDALONE
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#endif
#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "src/base/error.h"
#include "src/base/utf8.h"
#include "src/text/regex.h"
#include "src/text/tokenizer.h"

using nlohmann::json;

static const char *begin_token = "<｜begin▁of▁sentence｜>";
#define REQUIRES_PCRE2              \
    if (!Regex::available()) return

// A tokenizer of the three presets, learned from a few lines.
static Tokenizer small(const std::string &style, int vocabulary = 330) {
    Trainer trainer(pretokenizer(style));
    for (int i = 0; i < 3; i++)
        trainer.read("the cat sat on the mat, the other cat sat on the 1234 hats.\n\nこれは猫です 猫 ");
    return trainer.train(vocabulary);
}

static std::string error_of(const std::string &text) {
    try {
        parse_tokenizer(text, "t.json");
    } catch (const Error &e) {
        return e.what();
    }
    return "";
}

static bool contains(const std::string &text, const std::string &part) {
    return text.find(part) != std::string::npos;
}

static std::vector<std::string> pieces(const Tokenizer &t, const std::string &text) {
    std::vector<std::string> out;
    for (int id : t.encode(text)) out.push_back(t.bytes(id));
    return out;
}

typedef std::vector<std::string> Words;

// ------------------------------------------------------------------------------------------------ golden ids

static void check_golden(const std::string &path) {
    std::ifstream in(path);
    REQUIRE_MESSAGE(in.good(), path, " is not there: run this in the project's root");
    std::string line;
    std::getline(in, line);
    const Tokenizer t = parse_tokenizer(line, path);
    const Tokenizer again = parse_tokenizer(t.to_json(), path);
    int cases = 0;
    for (; std::getline(in, line); cases++) {
        const json c = json::parse(line);
        const std::string text = c["text"];
        CAPTURE(text);
        const std::vector<int> ids = t.encode(text);
        CHECK(ids == c["ids"].get<std::vector<int>>());
        CHECK(t.decode(ids) == c.value("decoded", text));
        CHECK(t.decode(ids, true) == c.value("words", text));
        CHECK(again.encode(text) == ids);
        std::string streamed;
        StreamDecoder stream{t, ""};
        for (int id : ids) streamed += stream.push(id);
        CHECK(streamed + stream.finish() == t.decode(ids));
    }
    CHECK(cases >= 100);
}

TEST_CASE("tokenizer: the ids and texts of a real DeepSeek tokenizer are the reference library's") {
    REQUIRES_PCRE2;
    check_golden("data/golden/tokenizer_v3.jsonl");
}

TEST_CASE("tokenizer: so are those of the coder rules") {
    REQUIRES_PCRE2;
    check_golden("data/golden/tokenizer_coder.jsonl");
}

TEST_CASE("tokenizer: so are those of the llm rules") {
    REQUIRES_PCRE2;
    check_golden("data/golden/tokenizer_llm.jsonl");
}

// ------------------------------------------------------------------------------------------------- the rules

TEST_CASE("tokenizer: bytes are the ids 0 to 255, then come begin and end") {
    const Tokenizer t = byte_tokenizer();
    CHECK(t.size() == 258);
    CHECK(t.encode("Aé") == std::vector<int>{65, 0xC3, 0xA9});
    CHECK(t.special(begin_token) == 256);
    CHECK(t.special("<｜end▁of▁sentence｜>") == 257);
    CHECK(t.encode(std::string(begin_token) + "A") == std::vector<int>{256, 65});
    CHECK(t.decode({256, 65}, true) == "A");
}

TEST_CASE("tokenizer: the most frequent pair is merged first") {
    Trainer trainer(pretokenizer("none"), {});
    trainer.read("abcbcbc");                                   // bc three times, ab once, cb twice
    const Tokenizer t = trainer.train(258);
    CHECK(pieces(t, "abcbcbc") == Words{"a", "bcbc", "bc"});
}

TEST_CASE("tokenizer: of equally frequent pairs the one with the smaller left id, then right id, is merged") {
    Trainer trainer(pretokenizer("none"), {});
    for (const char *unit : {"xz", "xy", "ab", "ac"}) trainer.read(unit);
    const Tokenizer t = trainer.train(259);
    CHECK(t.vocabulary[256] == "ab");
    CHECK(t.vocabulary[257] == "ac");
    CHECK(t.vocabulary[258] == "xy");
}

TEST_CASE("tokenizer: aaa counts two pairs and becomes (aa)a") {
    Trainer trainer(pretokenizer("none"), {});
    for (const char *unit : {"aaa", "bc"}) trainer.read(unit);
    trainer.smallest_count = 2;                                // aa twice; bc and (aa)a once
    const Tokenizer t = trainer.train(300);
    CHECK(t.merges.size() == 1);
    CHECK(pieces(t, "aaa") == Words{"aa", "a"});
}

TEST_CASE("tokenizer: a merge that spells an added token takes its id") {
    Trainer trainer(pretokenizer("none"), {{"ab", 0, false, false}});
    trainer.read("abc");
    const Tokenizer t = trainer.train(258);
    CHECK(t.merges[0].result == 0);
    CHECK(t.vocabulary[257] == "abc");
}

TEST_CASE("tokenizer: learning stops when no pair is left") {
    Trainer trainer(pretokenizer("none"), {});
    trainer.read("abab");
    CHECK(trainer.train(1000).size() == 258);                  // ab, abab
}

TEST_CASE("tokenizer: no merge crosses from one text into the next") {
    Trainer trainer(pretokenizer("none"), {});
    for (int i = 0; i < 5; i++) trainer.read("x");
    CHECK(trainer.train(300).merges.empty());
}

// Counts every pair anew for every merge, as the definition says.
TEST_CASE("tokenizer: kept counts learn what counting anew learns") {
    std::mt19937 random(3);
    std::vector<std::vector<std::string>> words(40);
    Trainer trainer(pretokenizer("none"), {});
    for (auto &word : words) {
        std::string text;
        for (unsigned n = 1 + random() % 12; n > 0; n--) text += (char)('a' + random() % 3);
        for (char c : text) word.emplace_back(1, c);
        trainer.read(text);
    }
    const Tokenizer t = trainer.train(300);
    std::map<std::string, int> id;
    for (int i = 0; i < 256; i++) id[t.vocabulary[i]] = i;
    for (const Merge &merge : t.merges) {
        std::map<std::pair<int, int>, int> count;
        for (const auto &word : words)
            for (size_t i = 0; i + 1 < word.size(); i++) count[{id[word[i]], id[word[i + 1]]}]++;
        auto best = count.begin();
        for (auto it = count.begin(); it != count.end(); ++it)
            if (it->second > best->second) best = it;  // the map is in order of ids: ties stay with the first
        CHECK(best->first == std::pair<int, int>{merge.left, merge.right});
        for (auto &word : words)
            for (size_t i = 0; i + 1 < word.size(); i++)
                if (id[word[i]] == merge.left && id[word[i + 1]] == merge.right) {
                    word[i] += word[i + 1];
                    word.erase(word.begin() + i + 1);
                }
        id[t.vocabulary[merge.result]] = merge.result;
    }
    CHECK(t.merges.size() == 44);
}

TEST_CASE("tokenizer: a long piece is merged like a short one") {
    Trainer trainer(pretokenizer("none"), {});
    std::mt19937 random(5);
    std::string text;
    for (int i = 0; i < 3000; i++) text += (char)('a' + random() % 4);
    trainer.read(text);
    const Tokenizer t = trainer.train(600);
    for (int length = 90; length < 110; length++) {            // the change of method is at 100
        const std::string piece = text.substr(7, length);
        std::vector<int> expected;                      // the definition: the lowest rank, the leftmost place
        for (unsigned char b : piece) expected.push_back(t.encode(std::string(1, b))[0]);
        for (const Merge &merge : t.merges)                    // a merge cannot make an earlier one possible
            for (size_t i = 0; i + 1 < expected.size(); i++)
                if (expected[i] == merge.left && expected[i + 1] == merge.right) {
                    expected[i] = merge.result;
                    expected.erase(expected.begin() + i + 1);
                }
        CHECK(t.encode(piece) == expected);
    }
}

TEST_CASE("tokenizer: a megabyte of one letter ends in seconds") {
    for (const char *style : {"none", "v3", "coder", "llm"}) {
        if (std::string(style) != "none" && !Regex::available()) continue;
        const Tokenizer t = small(style);
        for (const char *letter : {"a", "1", "!", "\n", "\xE7\x8C\xAB"}) {
            std::string run;
            while (run.size() < 1000000) run += letter;
            CHECK(t.decode(t.encode(run)) == run);
        }
        const std::string spaces = std::string(300000, ' ') + "1";     // \s+$ is tried at every place
        CHECK(t.decode(t.encode(spaces)) == spaces);
    }
}

TEST_CASE("tokenizer: V3 cuts digits in threes from the left, coder and llm one by one") {
    REQUIRES_PCRE2;
    Trainer v3(pretokenizer("v3")), coder(pretokenizer("coder"));
    for (Trainer *trainer : {&v3, &coder})
        for (int i = 0; i < 9; i++) trainer->read("123 456 78");
    CHECK(pieces(v3.train(300), "12345678") == Words{"123", "456", "78"});
    CHECK(pieces(coder.train(300), "12345678").size() == 8);
}

TEST_CASE(
    "tokenizer: a piece is its own text for the next stage, so two spaces before a digit stay together") {
    REQUIRES_PCRE2;
    Trainer trainer(pretokenizer("v3"));
    for (int i = 0; i < 9; i++) trainer.read("  1");
    CHECK(pieces(trainer.train(300), "a  1") == Words{"a", "  ", "1"});
}

TEST_CASE("tokenizer: patterns see white space and letters as the reference does") {
    CHECK(translate_regex("\\S") != "\\S");
    CHECK(contains(translate_regex("\\p{L}"), "\\x{31350}-\\x{323AF}"));
    CHECK_THROWS_AS(translate_regex("[a[b]]"), Error);
    CHECK_THROWS_AS(translate_regex("[a&&b]"), Error);
    CHECK_THROWS_AS(translate_regex("(?m:.)"), Error);
    CHECK_THROWS_AS(translate_regex("a{1,2}+"), Error);
    REQUIRES_PCRE2;
    size_t begin, end;
    CHECK_FALSE(Regex("\\s").find("\u180E", 0, &begin, &end));
    CHECK(Regex("\\s").find("\u3000", 0, &begin, &end));
    CHECK(Regex("[^\\S]").find("\u2028", 0, &begin, &end));
    CHECK(Regex("\\p{N}").find("\U0001E5F1", 0, &begin, &end));       // a digit of Unicode 16
}

TEST_CASE("tokenizer: a pattern that the reference engine reads otherwise, or refuses, is refused by name") {
    for (const char *pattern :
         {"(?s).",       "(?i-s)a",  "(?m:.)",      "(?x) a",       "(?|a|b)",      "(*UTF)a",
          "(?P<n>a)",    "(?<n>a)",  "(?#c)",       "a(?i)b|c",     "[\\d-z]",      "[a-\\d]",
          "[]a]",        "[a[b]]",   "[[:alpha:]]", "[a&&b]",       "[\\P{L}]",     "[\\W]",
          "\\Qa\\E",     "\\R",      "\\X",         "\\N",          "\\Ka",         "\\Ga",
          "\\C",         "(a)\\1",   "\\101",       "\\xE9",        "\\cA",         "\\p{C}",
          "\\p{Cn}",     "\\p{Any}", "\\p{Alpha}",  "\\p{Upper}",   "\\p{Emoji}",   "\\p{Greek}",
          "\\p{Mn}",     "\\pL",     "a{1,2}+",     "a{2}?",        "a{,2}",        "a{2}{3}",
          "a**",         "^*",       "(?=a)*",      "(?<=(a))b",    "(?<=(?=a)a)b", "(?i)ss",
          "(?i:s(?:t))", "(?i)é",    "(?i)[à-ü]",   "(?i)[\\p{L}]", "\\",           "(",
          ")",           "[a",       "[b-a]"}) {
        CAPTURE(pattern);
        CHECK_THROWS_AS(translate_regex(pattern), Error);
    }
}

static bool finds(const std::string &pattern, const std::string &text) {
    size_t begin, end;
    return Regex(pattern).find(text, 0, &begin, &end) && begin == 0 && end == text.size();
}

TEST_CASE("tokenizer: a pattern that both engines read is the reference's to the last character") {
    REQUIRES_PCRE2;
    for (const char *ending : {"'s", "'S", "'\u017F", "'T", "'rE", "'Ve", "'m", "'LL", "'D"})
        CHECK(finds("(?i:'s|'t|'re|'ve|'m|'ll|'d)", ending));
    CHECK(finds("(?i)[a-z]", "\u212A"));
    CHECK_FALSE(finds("(?i)i", "\u0131"));
    CHECK_FALSE(finds("(?i:a)b", "AB"));
    CHECK(finds("\\w", "\u00B2"));                             // superscript two: alone, but not in [ ]
    CHECK_FALSE(finds("[\\w]", "\u00B2"));
    CHECK(finds("[\\p{Han}]", "\U00031350"));
    CHECK_FALSE(finds("\\p{Han}", "\u3001"));                  // a comma of Han, Hiragana ...: of no script
    CHECK(finds("\\p{ l_u }", "A"));
    CHECK(finds("\\P{^L}", "a"));
    CHECK(finds("\\v", "\v"));
    CHECK_FALSE(finds("\\v", "\n"));
    CHECK(finds("[a-c-e]", "-"));
    CHECK_FALSE(finds("[a-c-e]", "d"));
    CHECK(finds("\\u00e9\\x{e9}\\x41", "ééA"));
    CHECK(finds("a{x", "a{x"));
    CHECK(finds("e\\b\u0301|.+", "e\u0301"));                  // a mark is a word character: no border there
}

TEST_CASE("tokenizer: the longest added token wins, and the first round goes before the second") {
    Tokenizer t = byte_tokenizer();
    for (const auto &[text, normalized] :
         {std::pair("<a", false), {"<a>", false}, {"x<a", true}, {"bc", true}, {"abcd", true}}) {
        t.added.push_back({text, t.size(), false, normalized});
        t.vocabulary.push_back(text);
    }
    t.prepare();
    CHECK(pieces(t, "<a><a") == Words{"<a>", "<a"});
    CHECK(pieces(t, "x<a") == Words{"x", "<a"});               // of the second round, and too late
    CHECK(pieces(t, "abcdbc") == Words{"abcd", "bc"});
    CHECK(pieces(t, "abcbc") == Words{"a", "bc", "bc"});
}

TEST_CASE("tokenizer: users' text makes no control tokens") {
    const Tokenizer t = byte_tokenizer();
    CHECK(t.encode_plain(begin_token).size() == std::string(begin_token).size());
    CHECK(t.encode(begin_token).size() == 1);
}

TEST_CASE("tokenizer: a special token that is missing is an error that names it") {
    const Tokenizer t = byte_tokenizer();
    CHECK(t.find("<｜User｜>") == -1);
    CHECK_THROWS_WITH_AS(t.special("<｜User｜>"), "tokenizer: it has no token <｜User｜>", Error);
}

// --------------------------------------------------------------------------------------------------- UTF-8

TEST_CASE("tokenizer: invalid UTF-8 becomes one U+FFFD per longest beginning of a character") {
    const std::string bad = "\uFFFD";
    for (const auto &[text, repaired] : std::initializer_list<std::pair<std::string, std::string>>{
             {"\xF0\x9F\x92"
              "a",
              bad + "a"},
             {"\xC0\xAF", bad + bad},
             {"\xF5", bad},
             {"\xED\xA0\x80", bad + bad + bad},
             {"\xE4\xBD", bad},
             {"a\x80z", "a" + bad + "z"},
             {"\xF4\x90\x80\x80", bad + bad + bad + bad},
             {"é猫👍", "é猫👍"}}) {
        long count = 0;
        CHECK(repair_utf8(text, &count) == repaired);
        CHECK((count > 0) == (text != repaired));
        const Tokenizer t = byte_tokenizer();
        CHECK(t.decode(t.encode(text)) == repaired);
    }
}

TEST_CASE("tokenizer: a stream never shows half a character, and all of it is what decode gives") {
    const Tokenizer t = byte_tokenizer();
    for (const std::string text : {"é猫👍x",
                                   "\xF0\x9F\x92"
                                   "a\xE4\xBD",
                                   "\xE4\xC3\xA9"}) {
        std::vector<int> ids;
        for (unsigned char b : text) ids.push_back(b);
        StreamDecoder stream{t, ""};
        std::string all;
        for (int id : ids) {
            const std::string part = stream.push(id);
            CHECK(repair_utf8(part) == part);
            CHECK(stream.held.size() < 4);
            all += part;
        }
        CHECK(all + stream.finish() == t.decode(ids));
    }
}

TEST_CASE("tokenizer: every valid text comes back byte for byte") {
    std::mt19937 random(11);
    for (const char *style : {"none", "v3", "coder", "llm"}) {
        if (std::string(style) != "none" && !Regex::available()) continue;
        const Tokenizer t = small(style);
        for (int i = 0; i < 300; i++) {
            std::string text;
            for (unsigned n = random() % 60; n > 0; n--) text += (char)(random() % (i % 2 ? 256 : 128));
            text = repair_utf8(text);
            CHECK(t.decode(t.encode(text)) == text);
            CHECK(t.decode(t.encode_plain(text)) == text);
        }
    }
}

// ------------------------------------------------------------------------------------------------- prompts

static std::string chat(const std::string &style, const std::vector<Message> &messages,
                        bool thinking = false) {
    return chat_prompt(style, messages, thinking).text();
}

static const std::vector<Message> talk = {
    {"user", "q", {}, ""}, {"assistant", "a", {}, ""}, {"user", "r", {}, ""}};
static const std::string B = begin_token, E = "<｜end▁of▁sentence｜>", U = "<｜User｜>",
                         A = "<｜Assistant｜>";

TEST_CASE("tokenizer: prompts of deepseek-llm and V2 are words") {
    CHECK(chat("llm", talk) == B + "User: q\n\nAssistant: a" + E + "User: r\n\nAssistant:");
    CHECK(chat("v2", {{"system", "s", {}, ""}, {"user", "q", {}, ""}}) == B + "s\n\nUser: q\n\nAssistant:");
    CHECK_THROWS_AS(chat("llm", {{"system", "s", {}, ""}}), Error);
}

TEST_CASE("tokenizer: prompts of V3, R1, V3.1 and V3.2 without tools") {
    const std::vector<Message> systems = {
        {"system", "s", {}, ""}, {"system", "t", {}, ""}, {"user", "q", {}, ""}};
    const std::vector<Message> thoughts = {
        {"user", "q", {}, ""}, {"assistant", "why</think>a", {}, ""}, {"user", "r", {}, ""}};
    CHECK(chat("v3", talk) == B + U + "q" + A + "a" + E + U + "r" + A);
    CHECK(chat("v3", systems) == B + "s\n\nt" + U + "q" + A);
    CHECK(chat("r1", systems) == B + "t" + U + "q" + A + "<think>\n");
    CHECK(chat("r1", thoughts) == B + U + "q" + A + "a" + E + U + "r" + A + "<think>\n");
    CHECK(chat("v3.1", thoughts) == B + U + "q" + A + "</think>a" + E + U + "r" + A + "</think>");
    CHECK(chat("v3.1", talk, true) == B + U + "q" + A + "</think>a" + E + U + "r" + A + "<think>");
    CHECK(chat("v3.2", talk, true) == B + U + "q" + A + "</think>a" + E + U + "r" + A + "<think>");
    CHECK(chat("v3.2", {{"user", "q", {}, ""}, {"assistant", "a", {}, "why"}}, true) ==
          B + U + "q" + A + "<think>why</think>a" + E);
}

static std::string call(const std::string &name) {
    return "<｜tool▁call▁begin｜>function<｜tool▁sep｜>" + name + "\n```json\n{}\n```<｜tool▁call▁end｜>";
}
static std::string output(const std::string &text) {
    return "<｜tool▁output▁begin｜>" + text + "<｜tool▁output▁end｜>";
}
static const std::string calls_begin = "<｜tool▁calls▁begin｜>", calls_end = "<｜tool▁calls▁end｜>";

TEST_CASE("tokenizer: V3 never closes one tool call and closes three twice, R1 closes once") {
    const Message one{"assistant", "", {{"f", "{}"}}, ""},
        three{"assistant", "", {{"f", "{}"}, {"g", "{}"}, {"h", "{}"}}, ""};
    const Message user{"user", "q", {}, ""};
    const std::string start = B + U + "q" + A + calls_begin, close = calls_end + E;
    CHECK(chat("v3", {user, one}) == start + call("f") + A);
    CHECK(chat("v3", {user, three}) ==
          start + call("f") + "\n" + call("g") + close + "\n" + call("h") + close + A);
    CHECK(chat("r1", {user, three}) ==
          start + call("f") + "\n" + call("g") + "\n" + call("h") + close + A + "<think>\n");
}

TEST_CASE("tokenizer: tools' answers in V3 open once and close before the next words") {
    const Message user{"user", "q", {}, ""}, x{"tool", "x", {}, ""}, y{"tool", "y", {}, ""},
        one{"assistant", "", {{"f", "{}"}}, ""};
    const std::string start = B + U + "q" + A + calls_begin + call("f") + "<｜tool▁outputs▁begin｜>";
    CHECK(chat("v3", {user, one, x, y}) ==
          start + output("x") + "\n" + output("y") + "<｜tool▁outputs▁end｜>");
    CHECK(chat("v3", {user, one, x, {"assistant", "a", {}, ""}, user}) ==
          start + output("x") + "<｜tool▁outputs▁end｜>a" + E + U + "q" + A);
}

TEST_CASE("tokenizer: tools in V3.1 and V3.2") {
    const Message user{"user", "q", {}, ""},
        two{"assistant", "t", {{"f", "{}"}, {"g", "{\"n\": [1, {\"a\":2}], \"k\": \"v\"}"}}, "why"};
    const Message x{"tool", "x", {}, ""}, y{"tool", "y", {}, ""};
    const std::string call_begin = "<｜tool▁call▁begin｜>", call_end = "<｜tool▁call▁end｜>",
                      sep = "<｜tool▁sep｜>";
    CHECK(chat("v3.1", {user, two, x}) ==
          B + U + "q" + A + "</think>t" + calls_begin + call_begin + "f" + sep + "{}" + call_end +
              call_begin + "g" + sep + two.calls[1].arguments + call_end + calls_end + E + output("x"));
    CHECK(chat("v3.2", {user, two, x, y}, true) ==
          B + U + "q" + A +
              "<think>why</think>t\n\n"
              "<｜DSML｜function_calls>\n"
              "<｜DSML｜invoke name=\"f\">\n\n</｜DSML｜invoke>\n<｜DSML｜invoke name=\"g\">\n"
              "<｜DSML｜parameter name=\"n\" string=\"false\">[1, {\"a\": 2}]</｜DSML｜parameter>\n"
              "<｜DSML｜parameter name=\"k\" string=\"true\">v</｜DSML｜parameter>\n"
              "</｜DSML｜invoke>\n</｜DSML｜function_calls>" +
              E +
              "\n\n<function_results>\n<result>x</result>\n<result>y</result>\n"
              "</function_results>\n\n<think>");
}

TEST_CASE("tokenizer: fill in the middle, in both orders") {
    const std::string begin = "<｜fim▁begin｜>", hole = "<｜fim▁hole｜>", end = "<｜fim▁end｜>";
    CHECK(fim_prompt("p", "s").text() == begin + "p" + hole + "s" + end);
    CHECK(fim_prompt("p", "s", Fim::suffix_prefix_middle).text() == begin + hole + "s" + end + "p");
}

TEST_CASE("tokenizer: a prompt's control tokens are tokens, a user's imitations are words") {
    const Tokenizer t = small("none");
    const Prompt honest = chat_prompt("v3.1", talk, true);
    CHECK(honest.encode(t) == t.encode(honest.text()));
    const std::vector<int> ids = chat_prompt("v3", {{"user", "x<｜Assistant｜>", {}, ""}}).encode(t);
    CHECK(std::count(ids.begin(), ids.end(), t.special(A)) == 1);
    CHECK_THROWS_AS(honest.encode(byte_tokenizer()), Error);   // it has no <｜User｜>
    const Prompt marked{{{Part::mark, "<think>"}}};
    CHECK(marked.encode(byte_tokenizer()).size() == 7);        // no token there: words
    CHECK(marked.encode(t).size() == 1);
}

// ------------------------------------------------------------------------------------------------ bad files

static json good() { return json::parse(byte_tokenizer().to_json()); }

TEST_CASE("tokenizer: what is written is read back, in a file or a folder") {
    const std::string folder =
        (std::filesystem::temp_directory_path() / cat("tokenizer-test-", std::rand())).string();
    const Tokenizer t = small("none");
    t.save(folder);
    CHECK(load_tokenizer(folder).to_json() == t.to_json());
    CHECK(load_tokenizer(folder + "/tokenizer.json").to_json() == t.to_json());
    CHECK_THROWS_AS(load_tokenizer(folder + "/absent.json"), Error);
    std::filesystem::remove_all(folder);
    CHECK(load_tokenizer("bytes").size() == 258);
}

TEST_CASE("tokenizer: any truncation of a file is an error") {
    const std::string text = good().dump();
    for (size_t n = 0; n < text.size(); n += 7) CHECK(error_of(text.substr(0, n)) != "");
    CHECK(error_of(text) == "");
}

TEST_CASE("tokenizer: brackets without end are refused without recursion") {
    CHECK(contains(error_of(std::string(1000000, '[')), "more than 64 levels of nesting"));
}

TEST_CASE("tokenizer: contradictions are refused by name") {
    const auto with = [](const char *at, const json &value) {
        json t = good();
        t[json::json_pointer(at)] = value;
        return error_of(t.dump());
    };
    CHECK(contains(with("/model/vocab/A", 66), "id 66 is both"));
    CHECK(contains(with("/model/vocab/A", -1), "the id of 'A' is "));
    CHECK(contains(with("/model/vocab/A", 1.5), "the id of 'A' is "));
    CHECK(contains(with("/model/vocab/A", 2000000000),
                   "the id of 'A' is 2000000000, not an integer below 1048576"));
    CHECK(contains(with("/model/vocab/A", 18446744073709551615u), "not an integer below"));
    CHECK(contains(with("/added_tokens/0/id", 18446744073709551615u),
                   "': id is 18446744073709551615, outside 0 .. "));
    CHECK(contains(with("/model/vocab", {1, 2}), "vocab: is a list, not an object"));
    CHECK(contains(with("/model/merges", "x"), "not a list"));
    CHECK(contains(with("/model/vocab/A", json::array()), "is a list, not an integer"));
    CHECK(contains(with("/model/merges", {"A B"}), "'AB' is not in the vocabulary"));
    CHECK(contains(with("/model/merges", {"猫 B"}), "'猫' is not in the vocabulary"));
    CHECK(contains(with("/model/merges", {"A B C"}), "not two pieces"));
    CHECK(contains(with("/model/merges", {{"A"}}), "not two pieces"));
    CHECK(contains(with("/model/merges", {7}), "not two pieces"));
    CHECK(contains(with("/model/type", "WordPiece"), "'WordPiece' is not supported"));
    CHECK(contains(with("/model/dropout", 0.1), "dropout is not supported"));
    CHECK(contains(with("/added_tokens/0/id", 3), "id 3 is both"));
    CHECK(contains(with("/added_tokens/0/id", -3), "id is -3, outside"));
    CHECK(contains(with("/added_tokens/0/lstrip", true), "lstrip is not supported"));
    CHECK(contains(with("/added_tokens/1/content", begin_token), "listed twice"));
    CHECK(contains(with("/normalizer", {{"type", "NFC"}}), "'NFC' is not supported"));
    CHECK(contains(with("/pre_tokenizer", {{"type", "Metaspace"}}), "'Metaspace' is not supported"));
    CHECK(contains(with("/pre_tokenizer", nullptr), "ByteLevel is not the last stage"));
    CHECK(contains(with("/decoder/type", "Metaspace"), "decoder: 'Metaspace' is not supported"));
    CHECK(contains(with("/post_processor/type", "Some"), "post_processor: 'Some' is not supported"));
    CHECK(contains(with("/truncation", {{"max_length", 3}}), "truncation is not supported"));
    CHECK(contains(with("/padding", {{"strategy", "BatchLongest"}}), "padding is not supported"));
    CHECK(contains(with("/version", "2.0"), "version: '2.0' is not supported"));
    CHECK(contains(with("/model", nullptr), "is no tokenizer.json"));
    CHECK(contains(error_of("{}"), "is no tokenizer.json"));
    CHECK(with("/model/type", "B\n\x1b[31mPE") == "t.json: model: 'B??[31mPE' is not supported, only BPE");
    const json split = {{"type", "Split"}, {"pattern", {{"String", "a"}}}, {"behavior", "Isolated"}};
    CHECK(contains(with("/pre_tokenizer/pretokenizers", std::vector<json>(60000, split)), "64 stages"));
    for (const char *key : {"\"model\":", "\"merges\":", "\"pre_tokenizer\":", "\"content\":"}) {
        std::string text = good().dump();
        text.insert(text.find(key), cat(key, "null,"));
        CHECK(contains(error_of(text), "is there twice"));
    }
    std::string twice = good().dump();
    twice.insert(twice.find("\"vocab\":{") + 9, "\"A\":7,");
    CHECK(contains(error_of(twice), "the key 'A' is there twice"));
}

TEST_CASE("tokenizer: what becomes of unknown bytes matters only to a vocabulary that lacks some") {
    json t = good();
    t["model"]["byte_fallback"] = true;
    t["model"]["unk_token"] = "<unk>";
    t["model"]["fuse_unk"] = true;
    CHECK(parse_tokenizer(t.dump(), "t.json").encode("aé\x01") == byte_tokenizer().encode("aé\x01"));
    t["model"]["vocab"].erase("\u0120");                       // a space
    CHECK(contains(error_of(t.dump()), "byte_fallback is not supported in a vocabulary that lacks some"));
    t["model"]["byte_fallback"] = false;
    CHECK(contains(error_of(t.dump()), "unk_token is not supported in a vocabulary that lacks some"));
    t["model"]["unk_token"] = nullptr;
    CHECK(error_of(t.dump()) == "");
    t = good();
    t["model"]["end_of_word_suffix"] = "</w>";
    CHECK(contains(error_of(t.dump()), "end_of_word_suffix is not supported"));
}

TEST_CASE("tokenizer: without a decoder texts become ids, and ids no texts") {
    json file = good();
    file["decoder"] = nullptr;
    const Tokenizer t = parse_tokenizer(file.dump(), "t.json");
    CHECK(t.encode("ab") == std::vector<int>{97, 98});
    CHECK_THROWS_AS(t.decode({97}), Error);
    StreamDecoder stream{t, ""};
    CHECK_THROWS_AS(stream.push(97), Error);
    CHECK_FALSE(parse_tokenizer(t.to_json(), "t.json").decodes);
}

TEST_CASE("tokenizer: merges in a cycle cannot be written, for each result is longer than its parts") {
    json t = good();
    t["model"]["vocab"]["AA"] = 258;
    t["model"]["merges"] = {"A A", "A A"};
    CHECK(error_of(t.dump()) == "");
    t["model"]["merges"] = {"AA ", " AA"};
    CHECK(contains(error_of(t.dump()), "not in the vocabulary"));
}

static std::string with_pattern(const std::string &pattern) {
    json t = good();
    auto &stages = t["pre_tokenizer"]["pretokenizers"];
    const json split = {
        {"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}};
    stages.insert(stages.begin(), split);
    return t.dump();
}

TEST_CASE(
    "tokenizer: a regular expression that does not compile is refused, one that explodes ends in an error") {
    REQUIRES_PCRE2;
    CHECK(contains(error_of(with_pattern("(a")), "regex: missing closing parenthesis"));
    CHECK(contains(error_of(with_pattern("(((((a{1,999}){1,999}){1,999}){1,999}){1,999})")), "regex: "));
    CHECK(contains(error_of(with_pattern("")), "empty pattern"));
    const Tokenizer t = parse_tokenizer(with_pattern("(a+)+$"), "t.json");
    CHECK_THROWS_AS(t.encode(std::string(60, 'a') + "b"), Error);
}

TEST_CASE("tokenizer: control tokens in plain text are words, added tokens that are text are tokens") {
    json t = good();
    const int next = (int)t["model"]["vocab"].size() + (int)t["added_tokens"].size();
    for (const auto &[text, id] : {std::pair{"ü", next}, {"<x>", next + 1}}) {
        json token = {{"id", id}, {"content", text}, {"special", false}, {"normalized", true}};
        for (const char *flag : {"single_word", "lstrip", "rstrip"}) token[flag] = false;
        t["added_tokens"].push_back(token);
    }
    const Tokenizer tokenizer = parse_tokenizer(t.dump(), "t.json");
    const auto has = [&](const std::vector<int> &ids, const char *text) {
        REQUIRE(tokenizer.find(text) >= 0);
        return std::find(ids.begin(), ids.end(), tokenizer.find(text)) != ids.end();
    };
    const std::string text = "a ü <x>";
    CHECK(has(tokenizer.encode(text), "ü"));
    CHECK(has(tokenizer.encode(text), "<x>"));
    CHECK(has(tokenizer.encode_plain(text), "ü"));
    CHECK(!has(tokenizer.encode_plain(text), "<x>"));
}

TEST_CASE("tokenizer: without PCRE2 bytes and plain BPE work and a pattern is a clear error") {
    CHECK(small("none").merges.size() > 10);
    if (Regex::available()) return;
    CHECK(contains(error_of(with_pattern("a")), "this build has no PCRE2"));
    CHECK_THROWS_AS(Trainer(pretokenizer("v3")), Error);
}

TEST_CASE("parts: of a long text encode to the ids of the whole, with all pre-tokenisers") {
    std::string text;
    const std::string lines[] = {"One day, Tom's 12345 cats\n",
                                 "  indented   \n\n",
                                 "x = {1};\r\n",
                                 "中文。\n",
                                 "字\n\u3000\n",
                                 "word\n\u00a0\nword\n",
                                 "\n",
                                 "  \n  ...\n",
                                 "end!?\n\n\n",
                                 "émile\u3000\n",
                                 "a\tb \n"};
    std::mt19937 random(1);
    for (int i = 0; i < 3000; i++) text += lines[random() % std::size(lines)];
    for (const char *name : {"v3", "coder", "llm"}) {
        CAPTURE(name);
        Trainer trainer(pretokenizer(name));
        trainer.read(text);
        const Tokenizer t = trainer.train(400);
        const std::vector<std::string_view> parts = t.parts(text, 500);
        CHECK(parts.size() > text.size() / 500);
        std::vector<int> ids;
        std::string whole;
        for (std::string_view part : parts) {
            CHECK(part.size() <= 500);
            whole += part;
            const std::vector<int> more = t.encode_plain(part);
            ids.insert(ids.end(), more.begin(), more.end());
        }
        CHECK(whole == text);
        CHECK(ids == t.encode_plain(text));
    }
}

TEST_CASE("parts: without a line's end they end between characters, and a text that must stay whole does") {
    std::string text;
    for (int i = 0; i < 1000; i++) text += "中é😀";
    std::string whole;
    const Tokenizer bytes = byte_tokenizer();
    for (std::string_view part : bytes.parts(text, 100)) {
        CHECK(repair_utf8(part) == part);
        whole += part;
    }
    CHECK(whole == text);
    CHECK(bytes.parts(text, 100).size() == 91);          // 9,000 bytes; 99 = 11 times 9 are the most that fit
    Trainer trainer(pretokenizer("none"));               // one piece, so merges reach over every seam
    trainer.read("abababab");
    CHECK(trainer.train(260 + 20).parts(std::string(1000, '\n'), 100).size() == 1);
}

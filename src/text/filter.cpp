// filter.cpp: see filter.h.
#include "src/text/filter.h"

#include <algorithm>
#include <cmath>
#include <unordered_set>

#include "src/base/utf8.h"
#include "src/text/lines.h"
#include "src/text/minhash.h"

const std::vector<Rule> &filter_rules() {
    static const std::vector<Rule> rules = {
        {"too-short", "words", &Measures::words, 20, INFINITY, "titles, error pages, stubs"},
        {"invalid-utf8", "share of broken characters", &Measures::broken, 0, 0.01,
         "another encoding, or no text"},
        {"few-letters", "share of letters", &Measures::letters, 0.3, 1, "tables of numbers"},
        {"many-symbols", "share of symbols", &Measures::symbols, 0, 0.5, "rulers, drawings, markup alone"},
        {"word-length", "letters a word", &Measures::word_length, 2, 25,
         "base64, minified code, s p a c e d"},
        {"repeated-lines", "share of bytes in lines that repeat", &Measures::repeated_lines, 0, 0.5,
         "menus, logs"},
        {"repeated-words", "share of 5 words that repeat", &Measures::repeated_shingles, 0, 0.5,
         "search bait"},
    };
    return rules;
}

// Without a table of Unicode: beyond ASCII all are letters but these signs of Latin-1, the blocks of
// punctuation, arrows, mathematics and boxes, fullwidth signs, and emoji.
static bool is_letter(uint32_t code) {
    static const uint32_t signs[][2] = {
        {0x80, 0xA9},     {0xAB, 0xB4},     {0xB6, 0xB9},     {0xBB, 0xBF},     {0xD7, 0xD7},
        {0xF7, 0xF7},     {0x2000, 0x2BFF}, {0x3000, 0x3004}, {0x3008, 0x3020}, {0xFE00, 0xFE6F},
        {0xFF00, 0xFF20}, {0xFF3B, 0xFF40}, {0xFF5B, 0xFF65}, {0xFFE0, 0xFFFF}, {0x1F000, 0x1FAFF}};
    if (code < 0x80) return (code | 32) >= 'a' && (code | 32) <= 'z';
    return std::none_of(std::begin(signs), std::end(signs),
                        [&](const auto &range) { return code >= range[0] && code <= range[1]; });
}

static double repeated_lines(std::string_view text) {
    std::unordered_set<std::string_view> seen;
    double all = 0, again = 0;
    for_each_line(text, [&](std::string_view line, long) {
        const std::string_view bare = without_end(line);
        all += bare.size();
        if (!seen.insert(bare).second) again += bare.size();
    });
    return all ? again / all : 0;
}

Measures measure(std::string_view text) {
    const std::vector<std::string_view> words = words_of(text);
    double characters = 0, letters = 0, symbols = 0, broken = 0, in_words = 0, long_words = 0;
    for (std::string_view word : words) {
        const double before = characters;
        uint32_t code = 0;
        for (size_t at = 0; at < word.size(); characters++) {
            const Character c = character_at(word, at);
            const bool whole = c.state == Character::whole && c.code != 0xFFFD;
            const bool letter = whole && is_letter(c.code), digit = whole && c.code - '0' < 10;
            letters += letter;
            broken += !whole;
            symbols += whole && !letter && !digit;
            code = c.code;
            at += c.length;
        }
        if (stands_alone(code)) continue;
        in_words += characters - before;
        long_words++;
    }
    const double n = characters ? characters : 1;
    const double shingles = std::max((double)words.size() - shingle_words + 1, 1.0);
    return {.words = (double)words.size(),
            .word_length = 2 * long_words > words.size() ? in_words / long_words : 2,
            .letters = letters / n,
            .symbols = symbols / n,
            .broken = broken / n,
            .repeated_lines = repeated_lines(text),
            .repeated_shingles = 1 - shingles_of(words).size() / shingles};
}

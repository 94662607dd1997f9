// filter.cpp: see filter.h.
#include "src/text/filter.h"

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

// Without a table of Unicode: beyond ASCII all are letters but Latin-1's signs, the blocks of punctuation,
// arrows, mathematics, boxes and emoji, and U+FFFD.
static bool is_letter(uint32_t code) {
    if (code < 0x80) return (code | 32) >= 'a' && (code | 32) <= 'z';
    const bool latin1 = code < 0xC0 && code != 0xAA && code != 0xB5 && code != 0xBA;
    const bool punctuation = code == 0xD7 || code == 0xF7 || (code >= 0x2000 && code < 0x2C00) ||
                             (code >= 0x3000 && code < 0x3005) || (code >= 0x3008 && code < 0x3021);
    const bool fullwidth = code >= 0xFE00 && code < 0x10000 && (code < 0xFE70 || code >= 0xFF00) &&
                           !(code >= 0xFF21 && code < 0xFF3B) && !(code >= 0xFF41 && code < 0xFF5B) &&
                           !(code >= 0xFF66 && code < 0xFFDD);
    return !latin1 && !punctuation && !fullwidth && !(code >= 0x1F000 && code < 0x1FB00);
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

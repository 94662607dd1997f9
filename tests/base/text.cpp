// Characters of UTF-8, quoting, hashes and the generator that programs roll.
#include <doctest/doctest.h>

#include "src/base/random.h"
#include "src/base/utf8.h"

static std::string utf8_of(uint32_t c) {                             // by the table of the standard
    const auto tail = [&](int shift) { return char(0x80 | (c >> shift & 63)); };
    if (c < 0x80) return {char(c)};
    if (c < 0x800) return {char(0xC0 | c >> 6), tail(0)};
    if (c < 0x10000) return {char(0xE0 | c >> 12), tail(6), tail(0)};
    return {char(0xF0 | c >> 18), tail(12), tail(6), tail(0)};
}

TEST_CASE("utf8: every code point but surrogates is a character, and no part of one is") {
    long wrong = 0;
    for (uint32_t c = 0; c < 0x110000; c++) {
        const std::string text = utf8_of(c);
        const Character got = character_at(text, 0);
        const bool surrogate = c >= 0xD800 && c < 0xE000;
        const bool whole = got.state == Character::whole && got.length == int(text.size()) && got.code == c;
        wrong += whole == surrogate || valid_utf8(text) == surrogate;
        for (size_t n = 1; n < text.size() && !surrogate; n++) {
            const Character part = character_at(text.substr(0, n), 0);
            wrong += part.state != Character::cut || part.length != int(n);
            wrong += start_of_character(text, n) != 0;
        }
    }
    CHECK(wrong == 0);
}

TEST_CASE("utf8: a byte that belongs to no character stands for itself") {
    const std::string text(10, '\x80');
    CHECK(start_of_character(text, 7) == 7);
    CHECK(start_of_character("a\x80", 1) == 1);
    CHECK(start_of_character("\u732B", 3) == 3);                     // the end of the text
    CHECK(character_at("\xC3(", 0).length == 1);
    CHECK(character_at("\xE2\x82(", 0).length == 2);
    CHECK(character_at("\xE2\x82(", 0).state == Character::broken);
}

TEST_CASE("in_quotes: text of strangers is one line that a terminal shows and does not obey") {
    CHECK(in_quotes("a name") == "'a name'");
    CHECK(in_quotes("\u732B \U0001F44D") == "'\u732B \U0001F44D'");
    CHECK(in_quotes("a\nb\x1b[31m\x7F\u0085\u202E\u200B\uFEFFz") == "'a?b?[31m?????z'");
    CHECK(in_quotes("a\xFF\xE2\x82z\xC3") == "'a??z?'");
    CHECK(in_quotes(std::string(80, 'x')) == "'" + std::string(80, 'x') + "'");
    CHECK(in_quotes(std::string(81, 'x')) == "'" + std::string(80, 'x') + "...'");
    CHECK(in_quotes(std::string(79, 'x') + "\u00E9") == "'" + std::string(79, 'x') + "...'");
}

TEST_CASE("random: rolls and hashes are the published splitmix64 and FNV-1a") {
    Random random{1234567};
    CHECK(random.next() == 6457827717110365317u);                    // Rosetta Code's first two of this seed
    CHECK(random.next() == 3203168211198807973u);
    CHECK(hash_of("") == 0xCBF29CE484222325u);
    CHECK(hash_of("a") == 0xAF63DC4C8601EC8Cu);
    CHECK(hash_of("foobar") == 0x85944171F73967E8u);
    CHECK(hash_of("bar", hash_of("foo")) == hash_of("foobar"));
}

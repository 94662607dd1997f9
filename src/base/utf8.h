// utf8.h: characters of UTF-8, and text of strangers in our messages.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

// A character is one to four bytes: the first says how many, and narrows the range of the second; the others
// are 80..BF. `length` bytes are whole (a character, with its code point), broken (no continuation can make
// them one), or cut (the text ends inside). Broken ones are taken as long as they could still have become a
// character: each such stretch is replaced by one U+FFFD, as the Unicode standard advises and browsers do.
struct Character {
    int length;
    enum State { whole, broken, cut } state;
    uint32_t code = 0;
};
Character longer_character_at(std::string_view text, size_t at);      // not one of ASCII
inline Character character_at(std::string_view text, size_t at) {
    const unsigned char first = text[at];
    return first < 0x80 ? Character{1, Character::whole, first} : longer_character_at(text, at);
}
size_t start_of_character(std::string_view text, size_t at);        // of the one that byte `at` belongs to
bool valid_utf8(std::string_view text);
// Broken characters become U+FFFD, and are counted.
std::string repair_utf8(std::string_view text, long *repaired = nullptr);

// Controls, marks that show nothing, marks that turn the direction of writing: what a terminal would obey.
bool invisible(uint32_t code);

// Text of a file or of the command line, fit for a message of one line: 'a name', at most 80 bytes of it.
std::string in_quotes(std::string_view text);

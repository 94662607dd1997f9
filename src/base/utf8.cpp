// utf8.cpp: the one decoder.
#include "src/base/utf8.h"

Character longer_character_at(std::string_view text, size_t at) {
    const auto byte = [&](size_t i) { return (unsigned char)text[i]; };
    const unsigned first = byte(at);
    if (first < 0xC2 || first > 0xF4) return {1, Character::broken};
    const int length = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    uint32_t code = first & (0x7F >> length);
    for (int i = 1; i < length; i++) {
        if (at + i >= text.size()) return {i, Character::cut};
        unsigned low = 0x80, high = 0xBF;
        if (i == 1 && first == 0xE0) low = 0xA0;               // shorter forms exist
        if (i == 1 && first == 0xED) high = 0x9F;              // surrogates
        if (i == 1 && first == 0xF0) low = 0x90;
        if (i == 1 && first == 0xF4) high = 0x8F;              // beyond U+10FFFF
        if (byte(at + i) < low || byte(at + i) > high) return {i, Character::broken};
        code = code << 6 | (byte(at + i) & 0x3F);
    }
    return {length, Character::whole, code};
}

size_t start_of_character(std::string_view text, size_t at) {
    size_t start = at;
    while (start > 0 && start < text.size() && at - start < 3 && (text[start] & 0xC0) == 0x80) start--;
    return start < text.size() && start + character_at(text, start).length > at ? start : at;
}

bool valid_utf8(std::string_view text) {
    for (size_t at = 0; at < text.size();) {
        const Character c = character_at(text, at);
        if (c.state != Character::whole) return false;
        at += c.length;
    }
    return true;
}

std::string repair_utf8(std::string_view text, long *repaired) {
    std::string out;
    long broken = 0;
    for (size_t at = 0; at < text.size();) {
        const Character c = character_at(text, at);
        const bool whole = c.state == Character::whole;
        out += whole ? text.substr(at, c.length) : "\xEF\xBF\xBD";
        broken += !whole;
        at += c.length;
    }
    if (repaired) *repaired += broken;
    return out;
}

bool invisible(uint32_t code) {
    return code < 0x20 || (code >= 0x7F && code < 0xA0) || code == 0x61C || code == 0x180E ||
           (code >= 0x200B && code <= 0x200F) || (code >= 0x202A && code <= 0x202E) ||
           (code >= 0x2060 && code <= 0x206F) || code == 0xFEFF;
}

std::string in_quotes(std::string_view text) {
    constexpr size_t most = 80;
    std::string out = "'";
    size_t at = 0;
    while (at < text.size()) {
        const Character c = character_at(text, at);
        if (at + c.length > most) break;
        const bool shows = c.state == Character::whole && !invisible(c.code);
        out += shows ? text.substr(at, c.length) : "?";
        at += c.length;
    }
    return out + (at < text.size() ? "...'" : "'");
}

// fields.h: a struct whose members have names: one table parses, prints and checks
// them, and makes the command line.
#pragma once
#include <charconv>
#include <cmath>
#include <iomanip>
#include <string>
#include <vector>

#include "src/base/error.h"

inline std::string format(int x) { return std::to_string(x); }
inline std::string format(long x) { return std::to_string(x); }
inline std::string format(bool x) { return x ? "true" : "false"; }
inline std::string format(const std::string &x) { return x; }
inline std::string format(double x) {
    char text[32];
    return std::string(text, std::to_chars(text, text + sizeof text, x).ptr);
}
inline std::string format(const std::vector<std::string> &list) {        // words between blanks; a word that
    std::ostringstream text;                                             // has blanks, or nothing, in quotes
    for (const std::string &x : list) {
        const bool plain = !x.empty() && x.find_first_of(" \t\r\n\v\f\"\\") == x.npos;
        text << (&x == list.data() ? "" : " ");
        plain ? text << x : text << std::quoted(x);
    }
    return text.str();
}

template <class N> void parse_number(const std::string &text, N &x, const char *kind) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), x);
    expect(error == std::errc() && end == text.data() + text.size(), "'", text, "' is no ", kind);
}
inline void parse(const std::string &text, int &x) { parse_number(text, x, "whole number"); }
inline void parse(const std::string &text, long &x) { parse_number(text, x, "whole number"); }
inline void parse(const std::string &text, double &x) {
    parse_number(text, x, "number");
    expect(std::isfinite(x), "'", text, "' is not finite");
}
inline void parse(const std::string &text, bool &x) {
    expect(text == "true" || text == "false", "'", text, "' is neither true nor false");
    x = text == "true";
}
inline void parse(const std::string &text, std::string &x) { x = text; }
inline void parse(const std::string &text, std::vector<std::string> &list) {
    list.clear();
    int marks = 0;
    for (size_t i = 0; i < text.size(); i++) marks += text[i] == '"' && (i == 0 || text[i - 1] != '\\');
    expect(marks % 2 == 0, "'", text, "': a quotation mark is not closed");
    std::istringstream words(text);
    for (std::string word; words >> std::quoted(word);) list.push_back(word);
}

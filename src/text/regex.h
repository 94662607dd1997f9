// Regular expressions as tokenizer.json files write them, run by PCRE2.
//
// The reference library runs them with another engine (Oniguruma, Ruby's dialect, newer Unicode tables);
// translate_regex() rewrites the few things that differ, or refuses by name what it cannot say exactly.
// Without PCRE2 (HAVE_PCRE2 undefined) everything compiles, and making a Regex is an error that says so.
#pragma once
#include <memory>
#include <string>
#include <string_view>

class Regex {
public:
    explicit Regex(const std::string &pattern, bool literal = false);    // literal: plain text, not a pattern
    // The first match that starts at `from` or later; `subject` must be valid UTF-8.
    // Not for two threads at once.
    bool find(std::string_view subject, size_t from, size_t *begin, size_t *end) const;
    static bool available();                                              // was PCRE2 there at build time?

private:
    struct Compiled;
    std::shared_ptr<Compiled> compiled;
};

std::string hex_ranges(const std::string &table);                         // "41-5A 61": \x{41}-\x{5A}\x{61}
std::string translate_regex(const std::string &oniguruma);                // to PCRE2's dialect, Unicode 16

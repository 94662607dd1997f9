// Oniguruma's regular expressions on PCRE2: what differs, and how it is made equal.
//
// A real tokenizer.json was made, and is read by the reference library, with Oniguruma. One code point in
// another class gives other tokens, so "nearly the same" is not enough. What differs in patterns for
// tokenizers:
//
//   \s \S       PCRE2 counts U+180E as white space, Oniguruma does not: both are spelled out
//   \p{L} ...   Oniguruma 6.9.10 knows Unicode 16, PCRE2 10.42 Unicode 14: the categories only grew, so the
//               additions are written beside \p{X}. (U+1171E alone moved, from Mn to Mc. A PCRE2 that knows
//               more than Unicode 16 would need the whole category spelled out.)
//   \h \w \d    \h is a hexadecimal digit there, \d is \p{Nd}, and \w has its own list
//   ^ $         match at every line, so PCRE2_MULTILINE
//   refused     what would compile here and mean something else: nested sets and && in [ ], (?m), {n}+, {,n}
//
// [1] tables   [2] translation   [3] matching
#include "src/regex.h"

#include <algorithm>
#include <vector>

#include "src/error.h"

#ifdef HAVE_PCRE2
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#endif

// ------------------------------------------------------------------------------------------------ [1] tables

static const char *white_space = "9-D 20 85 A0 1680 2000-200A 2028 2029 202F 205F 3000";
static const char *not_white_space =
    "0-8 E-1F 21-84 86-9F A1-167F 1681-1FFF 200B-2027 202A-202E 2030-205E 2060-2FFF 3001-10FFFF";

// What Unicode 15 and 16 added to each category, in hexadecimal. \p{L} is all that begin with L.
struct Added { std::string_view name; const char *ranges; };
static const Added newer_unicode[] = {
    {"Lu", "1C89 A7CB-A7CC A7DA A7DC 10D50-10D65"},
    {"Ll", "1C8A A7CD A7DB 10D70-10D85 1DF25-1DF2A"},
    {"Lm", "10D4E 10D6F 16D40-16D42 16D6B-16D6C 1E030-1E06D 1E4EB"},
    {"Lo", "105C0-105F3 10D4A-10D4D 10D4F 10EC2-10EC4 1123F-11240 11380-11389 1138B 1138E 11390-113B5 "
           "113B7 113D1 113D3 11BC0-11BE0 11F02 11F04-11F10 11F12-11F33 1342F 13441-13446 13460-143FA "
           "16100-1611D 16D43-16D6A 18CFF 1B132 1B155 1E4D0-1E4EA 1E5D0-1E5ED 1E5F0 2B739 2EBF0-2EE5D "
           "31350-323AF"},
    {"Mn", "897 ECE 10D69-10D6D 10EFC-10EFF 11241 113BB-113C0 113CE 113D0 113D2 113E1-113E2 11F00-11F01 "
           "11F36-11F3A 11F40 11F42 11F5A 13440 13447-13455 1611E-16129 1612D-1612F 1E08F 1E4EC-1E4EF "
           "1E5EE-1E5EF"},
    {"Mc", "CF3 113B8-113BA 113C2 113C5 113C7-113CA 113CC-113CD 113CF 1171E 11F03 11F34-11F35 11F3E-11F3F "
           "11F41 1612A-1612C"},
    {"Nd", "10D40-10D49 116D0-116E3 11BF0-11BF9 11F50-11F59 16130-16139 16D70-16D79 1CCF0-1CCF9 "
           "1E4F0-1E4F9 1E5F1-1E5FA"},
    {"No", "1D2C0-1D2D3"},
    {"Pd", "10D6E"},
    {"Po", "1B4E-1B4F 1B7F 113D4-113D5 113D7-113D8 11B00-11B09 11BE1 11F43-11F4F 16D6D-16D6F 1E5FF"},
    {"Sm", "10D8E-10D8F"},
    {"So", "2427-2429 2FFC-2FFF 31E4-31E5 31EF 1CC00-1CCEF 1CD00-1CEB3 1F6DC 1F774-1F776 1F77B-1F77F 1F7D9 "
           "1F8B2-1F8BB 1F8C0-1F8C1 1FA75-1FA77 1FA87-1FA89 1FA8F 1FAAD-1FAAF 1FABB-1FABF 1FAC6 "
           "1FACE-1FACF 1FADA-1FADC 1FADF 1FAE8-1FAE9 1FAF7-1FAF8 1FBCB-1FBEF"},
    {"Cf", "13439-1343F"},
};

// What \w has besides letters, marks, digits and connectors: superscripts and fractions of Latin-1, letters
// in circles and squares.
static const char *other_word_characters = "B2-B3 B9 BC-BE 24B6-24E9 1F130-1F149 1F150-1F169 1F170-1F189";

// --------------------------------------------------------------------------------------- [2] translation

// "41-5A 61" becomes \x{41}-\x{5A}\x{61}, which stands inside [ ].
std::string hex_ranges(const std::string &table) {
    std::string out = "\\x{";
    for (char c : table) {
        if (c == ' ') out += "}\\x{";
        else if (c == '-') out += "}-\\x{";
        else out += c;
    }
    return out + "}";
}

static std::string property(const std::string &name) {
    std::string out = "\\p{" + name + "}";
    for (const auto &[category, added] : newer_unicode)
        if (category.starts_with(name)) out += hex_ranges(added);
    return out;
}

std::string shown(std::string_view text) {
    std::string out;
    int characters = 0;
    for (unsigned char byte : text) {
        if ((byte & 0xC0) != 0x80 && ++characters > 60) return out + "...";
        out += byte < 32 || byte == 127 ? '?' : (char)byte;
    }
    return out;
}

[[noreturn]] static void refuse(const std::string &what, const std::string &pattern) {
    fail(cat("regex: ", what, " is not supported: ", shown(pattern)),
         "the reference engine gives it another meaning, or none");
}

// One \p{...} or \P{...} at `i` (on the p); leaves `i` on its last character.
static std::string translate_property(const std::string &pattern, size_t &i, bool in_set) {
    bool negative = pattern[i] == 'P';
    size_t close = pattern.find('}', i);
    if (i + 1 >= pattern.size() || pattern[i + 1] != '{' || close == std::string::npos)
        refuse("\\p without {name}", pattern);
    std::string name = pattern.substr(i + 2, close - i - 2);
    if (!name.empty() && name[0] == '^') {
        negative = !negative;
        name.erase(0, 1);
    }
    i = close;
    if (negative && in_set) refuse("a negative \\p inside [ ]", pattern);
    if (in_set) return property(name);
    return (negative ? "[^" : "[") + property(name) + "]";
}

// The escape after the backslash at `i`; leaves `i` on its last character.
static std::string translate_escape(const std::string &pattern, size_t &i, bool in_set) {
    if (++i >= pattern.size()) refuse("a lone backslash at the end", pattern);
    const char c = pattern[i];
    std::string set;
    if (c == 'p' || c == 'P') return translate_property(pattern, i, in_set);
    else if (c == 's') set = hex_ranges(white_space);
    else if (c == 'S') set = hex_ranges(not_white_space);
    else if (c == 'h') set = "0-9A-Fa-f";
    else if (c == 'd') set = property("Nd");
    else if (c == 'w')
        set = property("L") + property("M") + property("Nd") + "\\p{Nl}\\p{Pc}" +
              hex_ranges(other_word_characters);
    else if (c == 'H' || c == 'D' || c == 'W') refuse(std::string("\\") + c, pattern);
    else return {'\\', c};
    return in_set ? set : "[" + set + "]";
}

std::string translate_regex(const std::string &pattern) {
    std::string out;
    bool in_set = false, first_in_set = false;
    for (size_t i = 0; i < pattern.size(); i++) {
        const std::string two = pattern.substr(i, 2), three = pattern.substr(i, 3);
        if (pattern[i] == '\\') {
            out += translate_escape(pattern, i, in_set);
            first_in_set = false;
            continue;
        }
        if (in_set) {
            if (two == "&&" || pattern[i] == '[') refuse("a set inside [ ]", pattern);
            if (pattern[i] == ']' && !first_in_set) in_set = false;
            if (pattern[i] != '^') first_in_set = false;
        } else if (pattern[i] == '[') {
            in_set = first_in_set = true;
        } else if (three == "(?m" || two == "}+" || two == "{,") {
            refuse(three == "(?m" ? three : two, pattern);
        }
        out += pattern[i];
    }
    return out;
}

// ------------------------------------------------------------------------------------------ [3] matching

#ifdef HAVE_PCRE2

// A subject of n bytes may cost a fixed number of steps and some more per byte; a pattern that needs more
// than that is exploding (think of (a+)+$ on a long run), and ends in an error instead of in hours.
static const uint32_t steps_at_least = 10000000, steps_per_byte = 40;

struct Regex::Compiled {
    std::string pattern;
    pcre2_code *code = nullptr;
    pcre2_match_data *result = nullptr;
    pcre2_match_context *context = nullptr;
    pcre2_jit_stack *stack = nullptr;
    bool machine_code = false;
    ~Compiled() {
        pcre2_jit_stack_free(stack);
        pcre2_match_context_free(context);
        pcre2_match_data_free(result);
        pcre2_code_free(code);
    }
};

bool Regex::available() { return true; }

Regex::Regex(const std::string &pattern, bool literal) : compiled(std::make_shared<Compiled>()) {
    expect(pattern.size() < 65536, "regex: a pattern of ", pattern.size(), " bytes is too long");
    const std::string text = literal ? pattern : translate_regex(pattern);
    const uint32_t options = PCRE2_UTF | (literal ? PCRE2_LITERAL : PCRE2_UCP | PCRE2_MULTILINE);
    int error = 0;
    PCRE2_SIZE at = 0;
    auto *settings = pcre2_compile_context_create(nullptr);
    pcre2_set_newline(settings, PCRE2_NEWLINE_LF);
    compiled->pattern = pattern;
    compiled->code = pcre2_compile((PCRE2_SPTR)text.data(), text.size(), options, &error, &at, settings);
    pcre2_compile_context_free(settings);
    if (!compiled->code) {
        PCRE2_UCHAR message[128];
        pcre2_get_error_message(error, message, sizeof message);
        fail(cat("regex: ", (const char *)message, ": ", shown(pattern)));
    }
    compiled->machine_code = pcre2_jit_compile(compiled->code, PCRE2_JIT_COMPLETE) == 0;
    compiled->result = pcre2_match_data_create_from_pattern(compiled->code, nullptr);
    compiled->context = pcre2_match_context_create(nullptr);
    compiled->stack = pcre2_jit_stack_create(64 << 10, 16 << 20, nullptr);
    pcre2_jit_stack_assign(compiled->context, nullptr, compiled->stack);
}

bool Regex::find(std::string_view subject, size_t from, size_t *begin, size_t *end) const {
    const Compiled &c = *compiled;
    const size_t steps = steps_at_least + steps_per_byte * subject.size();
    pcre2_set_match_limit(c.context, (uint32_t)std::min<size_t>(steps, UINT32_MAX));
    const auto match = c.machine_code ? pcre2_jit_match : pcre2_match;
    const int found = match(c.code, (PCRE2_SPTR)subject.data(), subject.size(), from, PCRE2_NO_UTF_CHECK,
                            c.result, c.context);
    if (found == PCRE2_ERROR_NOMATCH) return false;
    if (found < 0) {
        PCRE2_UCHAR message[128];
        pcre2_get_error_message(found, message, sizeof message);
        fail(cat("regex: ", (const char *)message, ": ", shown(c.pattern)), "does this pattern explode?");
    }
    const PCRE2_SIZE *span = pcre2_get_ovector_pointer(c.result);
    expect(span[0] <= span[1], "regex: a match that ends before it begins (\\K): ", shown(c.pattern));
    *begin = span[0];
    *end = span[1];
    return true;
}

#else

struct Regex::Compiled {};

bool Regex::available() { return false; }

Regex::Regex(const std::string &, bool) {
    fail("this build has no PCRE2, so tokenizers with a regular expression cannot be used",
         "install libpcre2-dev and rebuild, or use --tokenizer bytes or --pretokenizer none");
}

bool Regex::find(std::string_view, size_t, size_t *, size_t *) const { return false; }

#endif

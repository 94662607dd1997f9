// Oniguruma's regular expressions on PCRE2: what differs, and how it is made equal.
//
// A real tokenizer.json was made, and is read by the reference library, with Oniguruma. One
// code point in another class gives other tokens, so "nearly the same" is not enough. What
// differs in patterns for tokenizers:
//
//   \s \S       PCRE2 counts U+180E as white space, Oniguruma does not: both are spelled out
//   \p{L} ...   Oniguruma 6.9.10 knows Unicode 16, PCRE2 10.42 Unicode 14: the categories only grew, so the
//               additions are written beside \p{X}. (U+1171E alone moved, from Mn to Mc. A PCRE2 that knows
//               more than Unicode 16 would need the whole category spelled out.)
//   \h \w \d    \h is a hexadecimal digit there, \d is \p{Nd}, and \w has its own list
//   \b          a border of \w, so it is written with look-arounds
//   (?i)        each letter is written in all its cases
//   ^ $         match at every line, so PCRE2_MULTILINE
//   refused     all else: what is not in the Translator below, such as sets in sets, (?m), {n}+, named groups
//
// tests/oracle/check_tokenizer.py --only regex compares: classes over all code points, and random patterns.
//
// [1] tables   [2] translation   [3] matching
#include "src/text/regex.h"

#include <algorithm>
#include <cctype>
#include <vector>

#include "src/base/error.h"
#include "src/base/utf8.h"

#ifdef HAVE_PCRE2
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#endif

// ------------------------------------------------------------------------------------------------ [1] tables

static const char *white_space = "9-D 20 85 A0 1680 2000-200A 2028 2029 202F 205F 3000";
static const char *not_white_space =
    "0-8 E-1F 21-84 86-9F A1-167F 1681-1FFF 200B-2027 202A-202E 2030-205E 2060-2FFF 3001-10FFFF";

// What Unicode 15 and 16 added to each category, in hexadecimal. \p{L} is all that begin with L.
struct Added {
    std::string_view name;
    const char *ranges;
};
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

// What \w has besides letters, marks, digits and connectors: letters in circles and squares, and, where it
// stands alone and not in [ ], superscripts and fractions of Latin-1.
static const char *other_word_characters = "24B6-24E9 1F130-1F149 1F150-1F169 1F170-1F189";
static const char *word_characters_alone = "B2-B3 B9 BC-BE";

// The names that \p{...} may have. (Not C and Cn: what is assigned grows with every
// Unicode. Not Mn: it lost U+1171E.)
static const std::string_view categories[] = {
    "L",  "Lu", "Ll", "Lt", "Lm", "Lo", "M",  "Mc", "Me", "N", "Nd", "Nl", "No", "P",  "Pc", "Pd", "Ps",
    "Pe", "Pi", "Pf", "Po", "S",  "Sm", "Sc", "Sk", "So", "Z", "Zs", "Zl", "Zp", "Cc", "Cf", "Co"};

// Scripts, as far as tokenizers ask for them, and what Unicode 15 and 16 added.
struct Script {
    std::string_view name;
    const char *added;
};
static const Script scripts[] = {
    {"han", "2B739 2EBF0-2EE5D 31350-323AF"}, {"hiragana", "1B132"}, {"katakana", "1B155"}, {"hangul", ""}};

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

// Reads a pattern from left to right and writes it anew. It knows every construct that both engines
// read alike, and what to write for those that differ; all else is refused by name. So nothing reaches
// PCRE2 that was not looked at.
class Translator {
public:
    explicit Translator(const std::string &pattern) : pattern(pattern) {}

    std::string translate() {
        while (at < pattern.size()) step();
        if (open.size() > 1) wrong("missing closing parenthesis");
        return out;
    }

private:
    struct Group {
        bool ignores_case;                                     // inside (?i) or (?i: )
        bool looks = false, looks_behind = false;              // a look-around; inside a look-behind
    };
    enum Repeatable { nothing, atom, already };
    const std::string &pattern;
    size_t at = 0;                                             // of the next character to read
    std::string out;
    std::vector<Group> open = {{false}};
    Repeatable last = nothing;                                 // what a quantifier would stand behind
    char letter = 0;                                           // under (?i): the letter just before, or 0

    [[noreturn]] void refuse(const std::string &what) const {
        fail(cat("regex: ", what, " is not supported: ", in_quotes(pattern)),
             "the reference engine gives it another meaning, or none");
    }

    [[noreturn]] void wrong(const std::string &what) const {
        fail(cat("regex: ", what, ": ", in_quotes(pattern)));
    }

    bool next_is(std::string_view text) const { return pattern.compare(at, text.size(), text) == 0; }
    bool digit_at(size_t i) const { return i < pattern.size() && pattern[i] >= '0' && pattern[i] <= '9'; }

    void write(const std::string &text, Repeatable what) {
        out += text;
        last = what;
        letter = 0;
    }

    void step() {
        const char c = pattern[at];
        if (c == '[') return read_set();
        if (c == '(') return open_group();
        if (c == ')') return close_group();
        if (c == '\\') return read_escape();
        if (c == '*' || c == '+' || c == '?') return read_quantifier(1);
        if (c == '{' && (digit_at(at + 1) || pattern[at + 1] == ',')) return read_quantifier(braces());
        if (c != '|' && c != '^' && c != '$' && c != '.') return write_literal(read_character());
        at++;
        write(std::string(1, c), c == '.' ? atom : nothing);
    }

    // The length of {n}, {n,} or {n,m}.
    size_t braces() const {
        size_t end = at + 1;
        while (digit_at(end)) end++;
        if (end == at + 1) refuse("{,n}");
        if (pattern[end] == ',') end++;
        while (digit_at(end)) end++;
        if (pattern[end] != '}') refuse("{ that begins no {n,m}");
        return end + 1 - at;
    }

    // A quantifier of so many characters, and the ? or + behind it. {n}? and {n}+ mean other things there.
    void read_quantifier(size_t length) {
        const std::string text = pattern.substr(at, length);
        if (last == nothing) wrong("a " + text + " that repeats nothing");
        if (last == already) refuse("a second quantifier, " + text + ",");
        at += length;
        out += text;
        last = already;
        const bool braced = text[0] == '{', counts = braced && text.find(',') == std::string::npos;
        if (at < pattern.size() && ((pattern[at] == '?' && !counts) || (pattern[at] == '+' && !braced)))
            out += pattern[at++];
    }

    void open_group() {
        static const struct {
            const char *text;
            bool looks, behind;
        } kinds[] = {{"(?:", false, false}, {"(?>", false, false}, {"(?=", true, false},
                     {"(?!", true, false},  {"(?<=", true, true},  {"(?<!", true, true}};
        for (const auto &kind : kinds)
            if (next_is(kind.text)) return open_group(kind.text, kind.looks, kind.behind);
        if (next_is("(?i:") || next_is("(?-i:")) {
            const bool ignore = next_is("(?i:");
            at += ignore ? 4 : 5;
            push({ignore, false, open.back().looks_behind}, "(?:");
        } else if (next_is("(?i)") || next_is("(?-i)")) {
            const bool begins = at == 0 || out.ends_with('(') || out.ends_with("(?:");
            if (!begins) refuse("(?i) that is not at the beginning");
            open.back().ignores_case = next_is("(?i)");
            at += next_is("(?i)") ? 4 : 5;
        } else if (next_is("(?") || next_is("(*")) {
            refuse(in_quotes(pattern.substr(at, 3)));
        } else {
            if (open.back().looks_behind) refuse("a group with a number inside a look-behind");
            open_group("(", false, false);
        }
    }

    void open_group(const std::string &text, bool looks, bool behind) {
        if (looks && open.back().looks_behind) refuse("a look-around inside a look-behind");
        at += text.size();
        push({open.back().ignores_case, looks, behind || open.back().looks_behind}, text);
    }

    void push(Group group, const std::string &text) {
        open.push_back(group);
        out += text;                                           // `letter` stays: (?:s)(?:s) is ss there
        last = nothing;
    }

    void close_group() {
        if (open.size() == 1) wrong("a closing parenthesis too many");
        last = open.back().looks ? nothing : atom;
        open.pop_back();
        out += pattern[at++];
    }

    // ---------------------------------------------------------------------------------- single characters

    // A character as PCRE2 shall see it. Its code tells about case.
    struct Character {
        std::string text;
        long code;
    };

    static Character character(long code) {
        std::ostringstream hex;
        hex << "\\x{" << std::hex << code << "}";
        return {hex.str(), code};
    }

    Character read_character() {
        const auto [length, state, code] = ::character_at(pattern, at);
        if (state != ::Character::whole) wrong("is not UTF-8");
        at += length;
        return code < 128 ? character(code) : Character{pattern.substr(at - length, length), code};
    }

    // \x41 (below 80 only: above, it is a byte there), \x{4E00}, \\u4E00; `at` is on the x or u.
    Character read_hex() {
        const bool braces = next_is("x{"), four = pattern[at] == 'u';
        const size_t begin = at + (braces ? 2 : 1), most = braces ? 8 : four ? 4 : 2;
        size_t end = begin;
        const auto hex = [&] { return end < pattern.size() && std::isxdigit((unsigned char)pattern[end]); };
        while (end < begin + most && hex()) end++;
        const bool whole = end > begin && (!four || end == begin + 4) && (!braces || pattern[end] == '}');
        if (!whole) refuse("an incomplete \\" + std::string(1, pattern[at]));
        const long code = std::stol(pattern.substr(begin, end - begin), nullptr, 16);
        if (!braces && !four && code > 127) refuse("\\x of a single byte beyond 7F");
        if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) refuse("a \\x that is no character");
        at = end + braces;
        return character(code);
    }

    // An escape that is one character; `at` is behind the backslash.
    Character read_escaped() {
        static const struct {
            char name, code;
        } controls[] = {{'n', 10}, {'r', 13}, {'t', 9}, {'f', 12}, {'v', 11}, {'a', 7}, {'e', 27}};
        const char c = pattern[at];
        if (c == 'x' || c == 'u') return read_hex();
        for (const auto &[name, code] : controls)
            if (c == name) {
                at++;
                return character(code);
            }
        if (std::isalnum((unsigned char)c)) refuse(std::string("\\") + c);
        return read_character();
    }

    // Case. PCRE2's and Oniguruma's rules differ, so letters that (?i) covers are written with all their
    // cases, of which only s and k have a third. Oniguruma also takes ß for ss, ﬁ for fi and so on: where two
    // letters stand that have such a ligature, or a letter beyond ASCII, the pattern is refused.
    void write_literal(const Character &c) {
        const char before = letter;
        if (!open.back().ignores_case) return write(c.text, atom);
        check_case(c.code, c.code);
        const bool is_letter = c.code < 128 && std::isalpha((int)c.code);
        write(is_letter ? "[" + c.text + other_cases(c.code, c.code) + "]" : c.text, atom);
        if (!is_letter) return;
        letter = (char)std::tolower((int)c.code);
        for (const char *pair : {"ss", "ff", "fi", "fl", "st"})
            if (before == pair[0] && letter == pair[1])
                refuse(cat(pair, " under (?i), which has a ligature,"));
    }

    void check_case(long low, long high) const {
        const bool punctuation = low >= 0x2000 && high < 0x2070, Asian = low >= 0x3000 && high < 0xA000;
        const bool caseless = high < 128 || punctuation || Asian;
        if (!caseless) refuse("a character beyond ASCII under (?i)");
    }

    static std::string other_cases(long low, long high) {
        std::string set;
        for (long c = low; c <= high && c < 128; c++) {
            if (!std::isalpha((int)c)) continue;
            set += (char)(c ^ 32);
            if ((c | 32) == 's') set += "\u017F";
            if ((c | 32) == 'k') set += "\u212A";
        }
        return set;
    }

    // ---------------------------------------------------------------------------- classes of characters

    void read_escape() {
        if (++at == pattern.size()) wrong("a lone backslash at the end");
        const char c = pattern[at];
        if (c == 'b' || c == 'B') {
            if (open.back().looks_behind) refuse("\\b inside a look-behind");
            at++;
            const std::string w = "[" + word_characters(false) + "]";
            const std::string inside = "(?<=" + w + ")(?=" + w + ")";
            const std::string outside = "(?<!" + w + ")(?!" + w + ")";
            const std::string edge = "(?<=" + w + ")(?!" + w + ")|(?<!" + w + ")(?=" + w + ")";
            write("(?:" + (c == 'b' ? edge : inside + "|" + outside) + ")", nothing);
        } else if (is_class(c)) {
            bool negative = false;
            const std::string members = read_class(false, negative);
            write((negative ? "[^" : "[") + members + "]", atom);
        } else {
            write_literal(read_escaped());
        }
    }

    static bool is_class(char c) { return std::string_view("pPsShHdDwW").find(c) != std::string_view::npos; }

    // The members of \s, \p{L} ...; `at` is behind the backslash.
    std::string read_class(bool in_set, bool &negative) {
        const char c = pattern[at];
        if (c == 'p' || c == 'P') return read_property(in_set, negative);
        at++;
        negative = c == 'H' || c == 'D' || c == 'W';
        if (negative && in_set) refuse(std::string("\\") + c + " inside [ ]");
        if (in_set && c == 'w' && open.back().ignores_case) refuse("\\w inside [ ] under (?i)");
        if (c == 's') return hex_ranges(white_space);
        if (c == 'S') return hex_ranges(not_white_space);
        if (c == 'h' || c == 'H') return "0-9A-Fa-f";
        if (c == 'd' || c == 'D') return category("Nd");
        return word_characters(in_set);
    }

    static std::string category(const std::string &name) {
        std::string out = "\\p{" + name + "}";
        for (const auto &[category, added] : newer_unicode)
            if (category.starts_with(name)) out += hex_ranges(added);
        return out;
    }

    static std::string word_characters(bool in_set) {
        return category("L") + category("M") + category("Nd") + "\\p{Nl}\\p{Pc}" +
               hex_ranges(other_word_characters) + (in_set ? "" : hex_ranges(word_characters_alone));
    }

    // \p{Lu}, \P{Lu}, \p{^Lu}; names in any case, with blanks, - and _ where people like them.
    std::string read_property(bool in_set, bool &negative) {
        negative = pattern[at] == 'P';
        const size_t close = pattern.find('}', at);
        if (!next_is("p{") && !next_is("P{")) refuse("\\p without {name}");
        if (close == std::string::npos) wrong("\\p{ without }");
        std::string given = pattern.substr(at + 2, close - at - 2), name;
        at = close + 1;
        if (given.starts_with('^')) {
            negative = !negative;
            given.erase(0, 1);
        }
        for (char c : given)
            if (c != ' ' && c != '-' && c != '_') name += (char)std::tolower((unsigned char)c);
        if (negative && in_set) refuse("a negative \\p inside [ ]");
        if (in_set && open.back().ignores_case) refuse("\\p inside [ ] under (?i)");
        for (const auto &[script, added] : scripts)
            if (name == script)
                return "\\p{sc:" + std::string(script) + "}" + (*added ? hex_ranges(added) : "");
        if (!name.empty()) name[0] = (char)std::toupper((unsigned char)name[0]);
        if (std::find(std::begin(categories), std::end(categories), name) == std::end(categories))
            refuse("the class " + in_quotes(given));
        return category(name);
    }

    // ------------------------------------------------------------------------------------------- sets

    void read_set() {
        std::string set = "[";
        at++;
        if (next_is("^")) set += pattern[at++];
        if (next_is("]")) refuse("a ] that begins a set");
        while (!next_is("]")) {
            if (at == pattern.size()) wrong("a [ without ]");
            if (pattern[at] == '[' || next_is("&&")) refuse("a set inside [ ]");
            set += read_member();
        }
        at++;
        write(set + "]", atom);
    }

    // A character, a range or a class. A hyphen is itself at the beginning, at the end, and behind a range.
    std::string read_member() {
        const bool range_before = at > 0 && hyphen_is_literal;
        hyphen_is_literal = false;
        if (range_before && next_is("--")) refuse("-- behind a range in [ ]");
        if (next_is("\\") && at + 1 < pattern.size() && is_class(pattern[at + 1])) {
            at++;
            bool negative = false;
            const std::string members = read_class(true, negative);
            if (next_is("-") && !next_is("-]")) refuse("a range that begins with a class");
            return members;
        }
        const Character low = read_end_of_range();
        const bool range = next_is("-") && !next_is("-]") && !(range_before && low.code == '-');
        at += range;
        const Character high = range ? read_end_of_range() : low;
        if (high.code < low.code) wrong("a range that ends before it begins");
        hyphen_is_literal = range;
        const std::string member = range ? low.text + "-" + high.text : low.text;
        if (!open.back().ignores_case) return member;
        check_case(low.code, high.code);
        return member + other_cases(low.code, high.code);
    }
    bool hyphen_is_literal = false;                            // the member before was a range

    Character read_end_of_range() {
        if (at == pattern.size()) wrong("a [ without ]");
        if (next_is("[") || next_is("&&")) refuse("a set inside [ ]");
        if (!next_is("\\")) return read_character();
        if (++at == pattern.size()) wrong("a lone backslash at the end");
        if (is_class(pattern[at])) refuse("a range that ends with a class");
        return read_escaped();
    }
};

std::string translate_regex(const std::string &pattern) { return Translator(pattern).translate(); }

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
        fail(cat("regex: ", (const char *)message, ": ", in_quotes(pattern)));
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
        fail(cat("regex: ", (const char *)message, ": ", in_quotes(c.pattern)), "does this pattern explode?");
    }
    const PCRE2_SIZE *span = pcre2_get_ovector_pointer(c.result);
    expect(span[0] <= span[1], "regex: a match that ends before it begins (\\K): ", in_quotes(c.pattern));
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

// The text of a proof: formulas and how they are written, tokens, layout, and the header of a theorem.
//
// Everything here knows the grammar and nothing of proving. A text becomes a list of tokens once, in one
// pass: comments turn into blanks that keep lines and columns, what is no token stops the list there. The
// reader walks it line by line.
//
//   [1] codes and names      [3] tokens, layout, comments
//   [2] formulas             [4] formulas and headers, read
#include "src/lean/syntax.h"

#include <algorithm>
#include <cstring>
#include <unordered_map>

#include "src/base/utf8.h"

namespace lean {

// --------------------------------------------------------------------------------------- [1] codes and names

const char *name(Code code) {
#define X(code) #code,
    const static char *const names[] = {LEAN_CODES(X)};
#undef X
    return names[code];
}

std::string hypothesis_name(int name) {
    return name == 0 ? "h" : name == ih ? "ih" : "h" + std::to_string(name);
}

std::string Failure::print() const {
    return cat("error ", lean::name(code), " line ", line, " col ", column, ": ", message);
}

std::vector<std::string> visible(std::string_view text) {
    std::vector<std::string> out;
    for (size_t at = 0; at < text.size();) {
        const Character c = character_at(text, at);
        const bool whole = c.state == Character::whole;
        char escaped[16];
        if (whole) snprintf(escaped, sizeof escaped, "<U+%04X>", unsigned(c.code));
        else snprintf(escaped, sizeof escaped, "\\x%02x", uint8_t(text[at]));
        const bool as_it_is = whole && !invisible(c.code) && c.code != 0xA0;
        out.push_back(as_it_is ? std::string(text.substr(at, c.length)) : escaped);
        at += whole ? c.length : 1;
    }
    return out;
}

// ---------------------------------------------------------------------------------------------- [2] formulas

Formula Formulas::make(Kind kind, int a, int b) {
    if (2 * nodes.size() >= slots.size()) grow();
    const uint64_t hash = mix((uint64_t(kind) << 56) ^ (uint64_t(uint32_t(a)) << 28) ^ uint32_t(b));
    size_t i = hash & (slots.size() - 1);
    for (; slots[i].generation == generation; i = (i + 1) & (slots.size() - 1)) {
        const Node &n = nodes[slots[i].f];
        if (n.kind == kind && n.a == a && n.b == b) return slots[i].f;
    }
    const int size = kind < Iff ? 1 : std::min(1 << 20, 1 + nodes[a].size + nodes[b].size);
    slots[i] = {generation, int(nodes.size())};
    nodes.push_back({kind, a, b, size});
    return slots[i].f;
}

void Formulas::grow() {
    const std::vector<Node> old = std::move(nodes);
    slots.assign(2 * slots.size(), {});
    nodes.clear();
    for (const Node &n : old) make(n.kind, n.a, n.b);  // in the old order: indices stay
}

void Formulas::clear() {
    nodes.clear();
    if (++generation == 0) {
        slots.assign(slots.size(), {});
        generation = 1;
    }
}

// How a binary connective is written: its level, and the lowest level that its left and
// right side may have unbracketed.
struct Operator {
    const char *symbol;
    int level, left, right;
};
const static Operator operators[] = {{"↔", 20, 25, 25}, {"→", 25, 30, 25}, {"∨", 30, 35, 30},
                                     {"∧", 35, 40, 35},  // in the order of Kind, from Iff
                                     {"=", 50, 51, 51}, {"+", 65, 65, 66}, {"*", 70, 70, 71}};
constexpr int level_of_formula = 20, level_of_not = 40, level_of_sum = 65;

static void print_formula(const Formulas &formulas, Formula f, int level, std::string &out) {
    const Formulas::Node n = formulas[f];
    switch (n.kind) {
    case Variable: out += char(n.a); return;
    case Truth: out += "True"; return;
    case Falsity: out += "False"; return;
    case Number: out += std::to_string(n.a); return;
    default: break;
    }
    const bool negation = n.kind == Implies && formulas[n.b].kind == Falsity;
    const Operator &op = operators[n.kind - Iff];
    const bool bracket = (negation ? level_of_not : op.level) < level;
    if (bracket) out += '(';
    if (negation) {
        out += "¬";
        print_formula(formulas, n.a, level_of_not, out);
    } else {
        print_formula(formulas, n.a, op.left, out);
        out.append(" ").append(op.symbol).append(" ");
        print_formula(formulas, n.b, op.right, out);
    }
    if (bracket) out += ')';
}

std::string Formulas::print(Formula f) const {
    std::string out;
    print_formula(*this, f, 0, out);
    return out;
}

std::string print(const Formulas &formulas, const Statement &s) {
    std::string out = "theorem " + s.name + " (";
    for (char v : s.variables) out.append(1, v).append(" ");
    out += s.nat ? ": Nat)" : ": Prop)";
    for (const Hypothesis &h : s.hypotheses)
        out += " (" + hypothesis_name(h.name) + " : " + formulas.print(h.formula) + ")";
    return out + " : " + formulas.print(s.goal) + " := by\n";
}

// ------------------------------------------------------------------------------ [3] tokens, layout, comments

// The lemmas of level 2, both sides in prefix notation: `++abc` is a + b + c.
const Lemma lemmas[] = {{"Nat.add_comm", 2, "+ab", "+ba"},      {"Nat.add_assoc", 3, "++abc", "+a+bc"},
                        {"Nat.zero_add", 1, "+0a", "a"},        {"Nat.add_zero", 1, "+a0", "a"},
                        {"Nat.mul_comm", 2, "*ab", "*ba"},      {"Nat.mul_assoc", 3, "**abc", "*a*bc"},
                        {"Nat.mul_add", 3, "*a+bc", "+*ab*ac"}, {"Nat.add_mul", 3, "*+abc", "+*ac*bc"},
                        {"Nat.mul_one", 1, "*a1", "a"},         {"Nat.one_mul", 1, "*1a", "a"},
                        {"Nat.mul_zero", 1, "*a0", "0"},        {"Nat.zero_mul", 1, "*0a", "0"}};

struct Word {
    TokenKind kind = T_word;
    int value = 0;
};

// In the order of TokenKind, from T_theorem.
static const char *const keywords[] = {"theorem", "Prop",    "Nat",        "by",    "with",        "fun",
                                       "True",    "False",   "inl",        "inr",   "zero",        "succ",
                                       "ih",      "intro",   "exact",      "apply", "constructor", "left",
                                       "right",   "exfalso", "assumption", "sorry", "rcases",      "obtain",
                                       "have",    "cases",   "rfl",        "rw",    "induction"};
static_assert(std::size(keywords) == T_induction - T_theorem + 1);
static const std::pair<const char *, Constant> constants[] = {
    {"And.intro", And_intro},   {"Iff.intro", Iff_intro},   {"Or.inl", Or_inl},
    {"Or.inr", Or_inr},         {"False.elim", False_elim}, {"absurd", Absurd},
    {"True.intro", True_intro}, {"trivial", True_intro}};

static const std::unordered_map<std::string_view, Word> &words() {
    static const std::unordered_map<std::string_view, Word> table = [] {
        std::unordered_map<std::string_view, Word> t;
        for (int i = 0; i < int(std::size(keywords)); i++) t[keywords[i]] = {TokenKind(T_theorem + i)};
        t["ih"].value = ih;
        for (const auto &[text, constant] : constants) t[text] = {T_constant, constant};
        for (const Lemma &l : lemmas) t[l.name] = {T_lemma, int(&l - lemmas)};
        for (char c : {'p', 'q', 'r', 's', 't', 'u'}) t[{strchr("pqrstu", c), 1}] = {T_variable, c};
        for (char c : {'a', 'b', 'c', 'k', 'm', 'n'}) t[{strchr("abckmn", c), 1}] = {T_nat_variable, c};
        return t;
    }();
    return table;
}

static bool digit(char c) { return c >= '0' && c <= '9'; }
static bool letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
static bool word_character(char c) { return letter(c) || digit(c) || c == '\''; }

// Three disjoint classes of names that no keyword and no constant of Lean belongs to, so nothing can shadow
// anything: `h`, `h1` to `h99`; one letter; `thm` and more of a-z, 0-9 and _.
static Word classify(std::string_view w) {
    if (w[0] == 'h' && w.size() <= 3) {
        if (w.size() == 1) return {T_hypothesis, 0};
        if (w[1] >= '1' && w[1] <= '9' && (w.size() == 2 || digit(w[2])))
            return {T_hypothesis, w.size() == 2 ? w[1] - '0' : 10 * (w[1] - '0') + w[2] - '0'};
    }
    const auto known = words().find(w);
    if (known != words().end()) return known->second;
    const auto plain = [](char c) { return (c >= 'a' && c <= 'z') || digit(c) || c == '_'; };
    if (w.substr(0, 3) == "thm" && std::all_of(w.begin(), w.end(), plain)) return {T_theorem_name, 0};
    return {T_word, 0};
}

// Splits a text into tokens. What is no token becomes one T_bad, and nothing is read beyond it: the
// parser reports it when it gets there, so that the steps before it count. Comments turn into blanks
// that keep lines and columns.
struct Lexer {
    std::string_view text;
    bool nat;
    std::vector<Token> &tokens;
    Failure bad = {};  // why, if the last token is T_bad
    size_t at = 0;
    int line = 1, column = 0;
    size_t first_without_end = 0;    // tokens from here on do not know their line_end yet
    bool blank = true;               // before the token to come
    int doc_line = 0;                // where a doc comment began that waits for its theorem, or 0
    std::vector<int> brackets = {};  // open `(` and `⟨`

    struct Stop {};

    [[noreturn]] void stop(Code code, int at_line, int at_column, const std::string &message) {
        bad = {code, at_line, at_column, message};
        throw Stop{};
    }
    [[noreturn]] void stop(Code code, const std::string &message) { stop(code, line, column, message); }

    Character character() {
        const Character c = character_at(text, at);
        if (c.state != Character::whole)
            stop(E_LEX, cat("not valid UTF-8: ", visible(text.substr(at, 1))[0]));
        return c;
    }

    bool next_is(const char *s) const { return text.compare(at, strlen(s), s) == 0; }

    bool at_newline() const { return next_is("\n") || next_is("\r\n"); }     // Lean reads both as one

    void newline() {
        at += text[at] == '\r' ? 2 : 1;
        line++;
        column = 0;
    }

    void comment_character() {
        if (at_newline()) return newline();
        const Character c = character();
        if (invisible(c.code)) stop(E_LEX, "a control character or an invisible mark in a comment");
        at += c.length;
        column++;
    }

    // `/-- ` is part of the theorem that follows, so Lean takes it nowhere else. It follows links to its own
    // manual, and one that leads nowhere is an error.
    void doc_comment() {
        if (column != 0) stop(E_LEX, "a doc comment starts in column 0, before a theorem");
        if (doc_line > 0) stop(E_LEX, "two doc comments before one theorem");
        const bool spaced = next_is("/-- ") || next_is("/--\n") || next_is("/--\r\n");
        if (!spaced) stop(E_LEX, "`/--` begins a doc comment, and a blank belongs behind it");
        const size_t end = text.find("-/", at + 3);
        if (text.substr(at, end - at).find("lean-manual") != text.npos)
            stop(E_LEX, "a doc comment with a link to Lean's manual is outside this subset");
        doc_line = line;
    }

    void doc_comment_waits() {
        if (doc_line > 0) stop(E_LEX, doc_line, 0, "a doc comment with no theorem behind it");
    }

    void block_comment() {
        const int start_line = line, start_column = column;
        if (next_is("/-!")) stop(E_LEX, "`/-!`, a comment on a whole file, is outside this subset");
        const bool doc = next_is("/--");
        if (doc) doc_comment();
        const int opening = doc ? 3 : 2;
        at += opening;
        column += opening;
        while (!next_is("-/")) {
            if (next_is("/-")) stop(E_LEX, "comments do not nest");
            if (at >= text.size()) stop(E_LEX, start_line, start_column, "this comment has no end");
            comment_character();
        }
        at += 2;
        column += 2;
    }

    void push(TokenKind kind, int value, int bytes, int columns) {
        if (tokens.size() >= size_t(max_tokens)) stop(E_LIMIT, cat("more than ", max_tokens, " tokens"));
        if (kind != T_theorem) doc_comment_waits();
        doc_line = 0;
        tokens.push_back({kind, !blank, value, int(at), int(at) + bytes, line, column, -1});
        at += bytes;
        column += columns;
        blank = false;
        if (kind == T_open || kind == T_open_angle) brackets.push_back(int(tokens.size()) - 1);
        else if ((kind == T_close || kind == T_close_angle) && !brackets.empty()) brackets.pop_back();
        else if (kind == T_comma && !brackets.empty()) tokens[brackets.back()].value++;
    }

    size_t word_end(size_t from) const {
        while (from < text.size() && word_character(text[from])) from++;
        return from;
    }

    void word() {
        size_t end = word_end(at);
        Word w = classify(text.substr(at, end - at));
        const std::string_view head = text.substr(at, end - at);
        const bool dotted =
            end < text.size() && text[end] == '.' && w.kind != T_hypothesis && head.size() <= 5;
        if (dotted) {  // a constant, perhaps
            const size_t end_of_all = word_end(end + 1);
            const Word whole = classify(text.substr(at, end_of_all - at));
            if (whole.kind == T_constant || whole.kind == T_lemma) {
                w = whole;
                end = end_of_all;
            }
        }
        push(w.kind, w.value, int(end - at), int(end - at));
    }

    void number() {
        const size_t end = word_end(at);
        long value = 0;
        for (size_t i = at; i < end; i++) {
            if (!digit(text[i]) || (i == at + 1 && text[at] == '0'))
                stop(E_LEX, "numerals are 0 or a digit 1-9 and more digits");
            value = std::min(10 * value + text[i] - '0', max_value);
        }
        if (value >= max_value) stop(E_LIMIT, "a number of 2^31 or more");
        push(T_number, int(value), int(end - at), int(end - at));
    }

    // `.1` and the like. That it stands behind a hypothesis or a projection is left to the parser.
    void projection() {
        const static char *const names[] = {"1", "2", "left", "right", "mp", "mpr"};
        const size_t end = word_end(at + 1);
        const std::string_view name = text.substr(at + 1, end - at - 1);
        const auto *known = std::find(std::begin(names), std::end(names), name);
        if (blank || known == std::end(names))
            stop(E_LEX, "a projection is .1 .2 .left .right .mp .mpr, with no space around its dot");
        push(T_projection, int(known - names), int(end - at), int(end - at));
    }

    bool symbol() {
        struct Symbol {
            const char *text;
            TokenKind kind;
            int columns;
            bool nat;
        };
        const static Symbol symbols[] = {
            {"(", T_open, 1, false},       {")", T_close, 1, false},       {",", T_comma, 1, false},
            {":=", T_assign, 2, false},    {":", T_colon, 1, false},       {"=>", T_then, 2, false},
            {"|", T_bar, 1, false},        {"⟨", T_open_angle, 1, false},  {"⟩", T_close_angle, 1, false},
            {"·", T_bullet, 1, false},     {"→", T_arrow, 1, false},       {"∧", T_and, 1, false},
            {"∨", T_or, 1, false},         {"¬", T_not, 1, false},         {"↔", T_iff, 1, false},
            {"+", T_plus, 1, true},        {"*", T_times, 1, true},        {"=", T_equal, 1, true},
            {"[", T_open_square, 1, true}, {"]", T_close_square, 1, true}, {"←", T_left_arrow, 1, true}};
        for (const Symbol &s : symbols)
            if (text[at] == s.text[0] && next_is(s.text) && (nat || !s.nat)) {
                push(s.kind, 0, int(strlen(s.text)), s.columns);
                return true;
            }
        return false;
    }

    void token() {
        const char c = text[at];
        if (letter(c)) word();
        else if (nat && digit(c)) number();
        else if (c == '.') projection();
        else if (!symbol()) {
            const int length = character().length;
            const bool level2 = !nat && c != '\0' && strchr("=+*[]", c);
            stop(E_LEX, cat("`", visible(text.substr(at, length))[0], "` is no token of this subset",
                            level2 ? " (of level 2, equations on Nat, which is off)" : ""));
        }
    }

    void line_ends() {
        for (; first_without_end < tokens.size(); first_without_end++)
            tokens[first_without_end].line_end = int(at);
    }

    void next() {
        if (at_newline()) {
            newline();
            blank = true;
            line_ends();
        } else if (text[at] == ' ') {
            at++;
            column++;
            blank = true;
        } else if (next_is("--")) {
            while (at < text.size() && !at_newline()) comment_character();
            blank = true;
        } else if (next_is("/-")) {
            block_comment();
            blank = true;
        } else {
            token();
        }
    }

    void run() {
        tokens.clear();
        TokenKind last = T_end;
        try {
            if (text.size() > max_bytes) stop(E_LIMIT, cat("more than ", max_bytes, " bytes"));
            while (at < text.size()) next();
            doc_comment_waits();
            line_ends();  // the last line may end with the text
        } catch (Stop) {
            last = T_bad;
        }
        tokens.push_back({last, !blank, 0, int(at), int(at), line, column, int(at)});
    }
};

Failure lex(std::string_view text, bool nat, std::vector<Token> &tokens) {
    Lexer lexer{text, nat, tokens};
    lexer.run();
    return lexer.bad;
}

// ---------------------------------------------------------------------------- [4] formulas and headers, read

Formula Reader::formula() {
    connectives = 0;
    if (!nat) return expression(level_of_formula);
    const Formula left = expression(level_of_sum);
    expect_token(T_equal, "`=`");
    return formulas.make(Equal, left, expression(level_of_sum));
}

// Precedence climbing: what binds at `level` or tighter. `ceiling` forbids a second `↔`, and makes `+`, `*`
// group to the left (for those on the right, the right side has taken all of the same level already).
Formula Reader::expression(int level) {
    Formula left = primary();
    for (int ceiling = level_of_sum + 5;;) {
        const TokenKind kind = peek();
        const bool known = nat ? kind == T_plus || kind == T_times : kind >= T_iff && kind <= T_and;
        if (!known) return left;
        const Operator &op = operators[kind - T_iff];
        if (op.level < level || op.level > ceiling) return left;
        if (++connectives > max_formula)
            refuse(E_LIMIT, *at, cat("a formula of more than ", max_formula, " connectives and brackets"));
        take();
        left = formulas.make(Kind(int(kind) - T_iff + Iff), left, expression(op.right));
        ceiling = op.left <= op.level ? op.level : op.level - 1;
    }
}

Formula Reader::primary() {
    const Token &t = *at;
    const TokenKind kind = peek();
    if ((kind == T_open || kind == T_not) && ++connectives > max_formula)
        refuse(E_LIMIT, t, cat("a formula of more than ", max_formula, " connectives and brackets"));
    if (accept(T_open)) {
        const Formula f = expression(nat ? level_of_sum : level_of_formula);
        expect_token(T_close, "`)`");
        return f;
    }
    if (kind == (nat ? T_nat_variable : T_variable)) {
        if (!(scope >> (t.value - 'a') & 1))
            refuse(E_PARSE, t, cat("the variable ", shown(t), " is not declared here"));
        take();
        return formulas.make(Variable, t.value);
    }
    if (nat) {
        if (!accept(T_number)) unexpected("a variable, a numeral or `(`");
        return formulas.make(Number, t.value);
    }
    if (accept(T_not)) return formulas.negation(expression(level_of_not));
    if (accept(T_True)) return formulas.make(Truth);
    if (!accept(T_False))
        unexpected(kind == T_nat_variable ? "a formula (equations on Nat are level 2, which is off)"
                                          : "a formula");
    return formulas.make(Falsity);
}

// ( VAR+ : Prop )   or, at level 2,   ( NVAR+ : Nat )
void Reader::variables(Statement &s) {
    expect_token(T_open, "`(`");
    const TokenKind kind = peek();
    if (kind != T_variable && !(options.nat && kind == T_nat_variable))
        unexpected(kind == T_nat_variable ? "one of p q r s t u (equations on Nat are level 2, which is off)"
                                          : "a variable, one of p q r s t u");
    scope = 0;
    for (; peek() == kind; take()) {
        if (scope >> (at->value - 'a') & 1)
            refuse(E_NAME_USED, *at, cat("the variable ", shown(*at), " is declared twice"));
        scope |= 1u << (at->value - 'a');
        s.variables += char(at->value);
    }
    nat = s.nat = kind == T_nat_variable;
    expect_token(T_colon, "`:`");
    expect_token(nat ? T_Nat : T_Prop, nat ? "`Nat`" : "`Prop`");
    expect_token(T_close, "`)`");
}

// The header line of a theorem, up to its `by`.
Statement Reader::statement() {
    Statement s;
    line = at->line;
    if (at->kind == T_end) refuse(E_PARSE, *at, "there is no theorem in this text");
    if (at->kind != T_bad && at->column != 0 && !is_question)
        refuse(E_LAYOUT, *at, "a theorem starts in column 0");
    expect_token(T_theorem, "`theorem`");
    s.name = std::string(text.substr(at->begin, at->end - at->begin));
    expect_token(T_theorem_name, "a theorem's name, `thm` and more of a-z, 0-9 and _");
    variables(s);
    while (accept(T_open)) {
        const Token &t = *at;
        expect_token(T_hypothesis, "a hypothesis, `h` or `h1` to `h99`");
        for (const Hypothesis &h : s.hypotheses)
            if (h.name == t.value)
                refuse(E_NAME_USED, t, cat("the hypothesis ", shown(t), " is declared twice"));
        expect_token(T_colon, "`:`");
        s.hypotheses.push_back({t.value, formula()});
        expect_token(T_close, "`)`");
    }
    expect_token(T_colon, "`:`");
    s.goal = formula();
    const bool ends_here = is_question && (peek() == T_line_end || peek() == T_end);
    if (!ends_here) {
        expect_token(T_assign, "`:=`");
        expect_token(T_by, "`by`");
    }
    return s;
}

// A formula or an equation alone: a theorem about the variables in it.
Statement Reader::bare_statement() {
    Statement s;
    const bool about_numbers = std::any_of(tokens.begin(), tokens.end(), [](const Token &t) {
        return t.kind == T_nat_variable || t.kind == T_number || t.kind == T_equal;
    });
    nat = s.nat = options.nat && about_numbers;
    line = at->line;
    scope = ~0u;
    const Token *first = at;
    s.goal = formula();
    if (at->kind == T_bad) throw Refusal{bad};
    if (at->kind != T_end) refuse(E_PARSE, *at, cat("the formula ends before ", shown(*at)));
    for (char v : std::string(nat ? "abckmn" : "pqrstu"))
        if (std::any_of(first, at, [&](const Token &t) {
                return t.kind == (nat ? T_nat_variable : T_variable) && t.value == v;
            }))
            s.variables += v;
    if (s.variables.empty()) s.variables = nat ? "n" : "p";
    return s;
}

bool read_question(Formulas &formulas, std::string_view source, bool nat, Statement &s, Failure &failure) {
    Reader reader(formulas);
    reader.open(source, {nat, false});
    reader.is_question = true;
    try {
        if (reader.at->kind == T_end) reader.refuse(E_PARSE, *reader.at, "there is no statement");
        s = reader.at->kind == T_theorem ? reader.statement() : reader.bare_statement();
        return true;
    } catch (const Refusal &r) {
        failure = r.failure;
        return false;
    }
}

// The statement of a header; what follows it is ignored.
Statement read_statement(Formulas &formulas, std::string_view source, bool nat) {
    Reader reader(formulas);
    reader.open(source, {nat, false});
    try {
        return reader.statement();
    } catch (const Refusal &r) {
        fail("statement: " + r.failure.print(),
             "write one line: theorem thm0 (p q : Prop) (h : p) : p ∨ q := by");
    }
}

}  // namespace lean

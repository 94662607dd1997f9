// The rules of the Lean subset once more, from their written form alone, and by other means than
// src/lean/checker.cpp: formulas are trees compared node by node, a text is parsed as a whole before
// anything runs, goals are copied freely. Slow and plain. Whatever the checker accepts must be accepted
// here, too; the fuzzer and the tests compare them.
#include "tests/lean/second_opinion.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>
#include <vector>

namespace {

struct No { std::string why; };
[[noreturn]] void no(const std::string &why) { throw No{why}; }
void must(bool yes, const std::string &why) {
    if (!yes) no(why);
}

// ------------------------------------------------------------------------------------------------------ text

using Text = std::vector<uint32_t>;  // code points

Text decode(const std::string &s) {
    Text out;
    for (size_t i = 0; i < s.size();) {
        uint8_t c = uint8_t(s[i]);
        int n = c < 0x80 ? 1 : c < 0xc0 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf8 ? 4 : 0;
        must(n > 0 && i + size_t(n) <= s.size(), "utf-8");
        uint32_t v = n == 1 ? c : c & (0xff >> (n + 1));
        for (int k = 1; k < n; k++) {
            must((uint8_t(s[i + size_t(k)]) & 0xc0) == 0x80, "utf-8");
            v = v * 64 + (uint8_t(s[i + size_t(k)]) & 0x3f);
        }
        const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
        must(v >= least[n] && v < 0x110000 && (v < 0xd800 || v > 0xdfff), "utf-8");
        out.push_back(v);
        i += size_t(n);
    }
    return out;
}

bool forbidden_in_comment(uint32_t c) {
    if (c == '\n') return false;
    if (c < 32 || (c >= 127 && c <= 159)) return true;
    const uint32_t zero_width_and_bidi[] = {0x61c,  0x200b, 0x200c, 0x200d, 0x200e, 0x200f,
                                            0x202a, 0x202b, 0x202c, 0x202d, 0x202e, 0x2060,
                                            0x2066, 0x2067, 0x2068, 0x2069, 0xfeff};
    for (uint32_t z : zero_width_and_bidi)
        if (c == z) return true;
    return false;
}

bool letter_or_digit(uint32_t c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '\'';
}

std::string run_of_letters(const Text &t, size_t from) {
    std::string s;
    while (from < t.size() && letter_or_digit(t[from])) s += char(t[from++]);
    return s;
}

// Every comment becomes blanks; newlines stay. What follows a doc comment is a theorem.
void blank_comments(Text &t) {
    std::vector<std::pair<size_t, size_t>> docs;
    auto is = [&](size_t i, const char *two) {
        return i + 1 < t.size() && t[i] == uint32_t(two[0]) && t[i + 1] == uint32_t(two[1]);
    };
    auto wipe = [&](size_t i) {
        must(!forbidden_in_comment(t[i]), "a forbidden mark in a comment");
        if (t[i] != '\n') t[i] = ' ';
    };
    for (size_t i = 0; i < t.size(); i++) {
        if (is(i, "--")) {
            for (; i < t.size() && t[i] != '\n'; i++) wipe(i);
        } else if (is(i, "/-")) {
            size_t j = i + 2;
            const bool doc = j < t.size() && t[j] == '-';
            if (doc) {
                must(i == 0 || t[i - 1] == '\n', "a doc comment in column 0");
                j++;
                must(j < t.size() && (t[j] == ' ' || t[j] == '\n'), "a blank in a doc comment");
            }
            must(j >= t.size() || t[j] != '!', "a module's comment");
            for (; !is(j, "-/"); j++)
                must(j < t.size() && !is(j, "/-"), "a comment that has no end, or a nested one");
            const std::string link = "lean-manual";
            const auto found =
                std::search(t.begin() + long(i), t.begin() + long(j), link.begin(), link.end());
            must(!doc || found == t.begin() + long(j), "a link to the manual");
            if (doc) docs.push_back({i, j + 2});
            for (; i < j + 2; i++) wipe(i);
            i--;
        }
    }
    for (size_t d = 0; d < docs.size(); d++) {
        size_t next = docs[d].second;
        while (next < t.size() && (t[next] == ' ' || t[next] == '\n')) next++;
        must(d + 1 == docs.size() || next < docs[d + 1].first, "a theorem between two doc comments");
        must(run_of_letters(t, next) == "theorem", "a theorem after a doc comment");
    }
}

struct Tok {
    std::string s;
    int column;
    bool glued;  // to the token before it
};
using Line = std::vector<Tok>;

std::string encode(uint32_t c) {
    std::string s;
    if (c < 0x80) s = {char(c)};
    else if (c < 0x800) s = {char(0xc0 | c >> 6), char(0x80 | (c & 63))};
    else if (c < 0x10000) s = {char(0xe0 | c >> 12), char(0x80 | (c >> 6 & 63)), char(0x80 | (c & 63))};
    else
        s = {char(0xf0 | c >> 18), char(0x80 | (c >> 12 & 63)), char(0x80 | (c >> 6 & 63)),
             char(0x80 | (c & 63))};
    return s;
}

bool is_hypothesis(const std::string &s) {
    if (s.empty() || s[0] != 'h' || s.size() > 3) return false;
    for (size_t i = 1; i < s.size(); i++)
        if (s[i] < '0' || s[i] > '9') return false;
    return s.size() == 1 || s[1] != '0';
}
bool is_number(const std::string &s) { return s[0] >= '0' && s[0] <= '9'; }

const std::set<std::string> dotted = {
    "And.intro",    "Or.inl",        "Or.inr",       "Iff.intro",    "False.elim",   "True.intro",
    "Nat.add_comm", "Nat.add_assoc", "Nat.zero_add", "Nat.add_zero", "Nat.mul_comm", "Nat.mul_assoc",
    "Nat.mul_add",  "Nat.add_mul",   "Nat.mul_one",  "Nat.one_mul",  "Nat.mul_zero", "Nat.zero_mul"};
const std::set<std::string> projections = {".1", ".2", ".left", ".right", ".mp", ".mpr"};

// The token that starts at i.
std::string token_at(const Text &t, size_t i, bool nat) {
    std::string s = run_of_letters(t, i);
    if (t[i] == '.') return "." + run_of_letters(t, i + 1);
    if (s.empty()) {
        s = encode(t[i]);
        if (i + 1 < t.size() && ((s == ":" && t[i + 1] == '=') || (s == "=" && t[i + 1] == '>')))
            s += char(t[i + 1]);
        const std::set<std::string> plain = {"(", ")", "⟨", "⟩", ",", ":", ":=", "=>",
                                             "|", "·", "→", "∧", "∨", "¬", "↔"};
        const std::set<std::string> more = {"+", "*", "=", "[", "]", "←"};
        must(plain.count(s) || (nat && more.count(s)), "no token: " + s);
        return s;
    }
    if (i + s.size() < t.size() && t[i + s.size()] == '.') {
        std::string whole = s + "." + run_of_letters(t, i + s.size() + 1);
        if (dotted.count(whole)) return whole;
    }
    if (is_number(s)) {
        must(nat && s.find_first_not_of("0123456789") == std::string::npos, "number");
        must(s.size() == 1 || s[0] != '0', "leading zero");
        must(s.size() < 10 || (s.size() == 10 && std::stoll(s) < (1ll << 31)), "a large number");
    }
    return s;
}

// Lines of tokens, empty lines left out.
std::vector<Line> tokens(const Text &t, bool nat) {
    std::vector<Line> lines(1);
    int column = 0;
    size_t count = 0;
    for (size_t i = 0; i < t.size();) {
        if (t[i] == '\n') {
            if (!lines.back().empty()) lines.emplace_back();
            column = 0;
            i++;
            continue;
        }
        if (t[i] == ' ') {
            column++;
            i++;
            continue;
        }
        Line &line = lines.back();
        bool glued = i > 0 && t[i - 1] != ' ' && t[i - 1] != '\n';
        std::string s = token_at(t, i, nat);
        if (s[0] == '.') {
            must(glued && projections.count(s) && !line.empty(), "dot");
            must(is_hypothesis(line.back().s) || projections.count(line.back().s), "projection of nothing");
        }
        line.push_back({s, column, glued && !line.empty()});
        int length = int(decode(s).size());
        column += length;
        i += size_t(length);
        must(++count <= 4096, "too many tokens");
    }
    if (lines.back().empty()) lines.pop_back();
    return lines;
}

// ------------------------------------------------------------------------------- formulas and terms as trees

struct Form {  // op: p, T, F, ∧ & | > ~ and for Nat a # + * =
    char op = 'T';
    long value = 0;
    std::vector<Form> kids = {};
    bool operator==(const Form &o) const { return op == o.op && value == o.value && kids == o.kids; }
    bool operator!=(const Form &o) const { return !(*this == o); }
};
Form number(long v) { return {'#', v, {}}; }
Form two(char op, const Form &a, const Form &b) { return {op, 0, {a, b}}; }
Form negate(const Form &a) { return two('>', a, {'F'}); }
size_t connectives(const Form &f) {
    size_t n = f.kids.empty() ? 0 : 1;
    for (const Form &k : f.kids) n += connectives(k);
    return n;
}

struct Term {
    enum { name, apply, tuple, fun, constant } kind;
    std::string text = {};                // name or constant
    std::vector<std::string> extra = {};  // projections, or the names of fun
    std::vector<Term> parts = {};         // function and arguments, parts, body
};

struct Tac {
    std::string name, h = {};             // h: what it takes apart
    std::vector<std::string> names = {};  // new ones
    bool bar = false, with = false, backwards = false, by = false;
    Form form = {};
    Term term = {Term::name};
    std::vector<std::pair<std::string, std::vector<std::string>>> heads = {};  // of alternatives
    std::vector<std::vector<Tac>> blocks = {};
};

struct Theorem {
    std::string name;
    bool nat = false;
    std::set<char> variables = {};
    std::map<std::string, Form> hypotheses = {};
    Form goal = {};
    std::vector<Tac> proof = {};
};

// ---------------------------------------------------------------------------------------------------- parser

struct Parser {
    std::vector<Line> lines;
    bool nat_allowed;
    size_t l = 0, k = 0;  // line, token in it
    bool nat = false;
    std::set<char> scope = {};
    int depth = 0, tactics = 0, brackets = 0, open = 0;  // open: brackets of a term

    std::string peek() const { return l < lines.size() && k < lines[l].size() ? lines[l][k].s : ""; }
    const Tok &tok() const { return lines[l][k]; }
    std::string next() {
        std::string s = peek();
        must(!s.empty(), "the line ends too early");
        k++;
        return s;
    }
    void eat(const std::string &s) { must(next() == s, "expected " + s); }
    void end_line() {
        must(peek().empty(), "the line goes on");
        l++;
        k = 0;
    }
    std::string hypothesis() {
        std::string s = next();
        must(is_hypothesis(s), "no hypothesis name: " + s);
        return s;
    }

    // form20 [↔], form25 [→], form30 [∨], form35 [∧], form40: one function a level, as the grammar has it
    Form form20() {
        Form a = form25();
        if (peek() != "↔") return a;
        next();
        return two('~', a, form25());
    }
    Form right(Form (Parser::*tighter)(), Form (Parser::*same)(), const char *symbol, char op) {
        Form a = (this->*tighter)();
        if (peek() != symbol) return a;
        next();
        return two(op, a, (this->*same)());
    }
    Form form25() { return right(&Parser::form30, &Parser::form25, "→", '>'); }
    Form form30() { return right(&Parser::form35, &Parser::form30, "∨", '|'); }
    Form form35() { return right(&Parser::form40, &Parser::form35, "∧", '&'); }
    Form form40() {
        std::string s = next();
        if (s == "¬") return negate(form40());
        if (s == "True") return {'T'};
        if (s == "False") return {'F'};
        if (s == "(") {
            must(++brackets <= 256, "brackets");
            Form f = form20();
            eat(")");
            return f;
        }
        must(s.size() == 1 && s[0] >= 'p' && s[0] <= 'u' && scope.count(s[0]), "no variable: " + s);
        return {s[0]};
    }
    Form atom() {
        std::string s = next();
        if (s == "(") {
            must(++brackets <= 256, "brackets");
            Form f = sum();
            eat(")");
            return f;
        }
        if (is_number(s)) return number(std::stol(s));
        must(s.size() == 1 && scope.count(s[0]), "no variable: " + s);
        return {s[0]};
    }
    Form product() {
        Form f = atom();
        while (peek() == "*") {
            next();
            f = two('*', f, atom());
        }
        return f;
    }
    Form sum() {
        Form f = product();
        while (peek() == "+") {
            next();
            f = two('+', f, product());
        }
        return f;
    }
    Form form() {
        brackets = 0;
        Form f;
        if (nat) {
            Form a = sum();
            eat("=");
            f = two('=', a, sum());
        } else {
            f = form20();
        }
        must(connectives(f) <= 256, "formula too large");
        return f;
    }

    bool argument_follows() const {
        std::string s = peek();
        return is_hypothesis(s) || s == "trivial" || s == "True.intro" || s == "(" || s == "⟨";
    }
    Term named() {
        Term t = {Term::name, hypothesis()};
        while (projections.count(peek())) t.extra.push_back(next());
        return t;
    }
    Term head() {
        if (peek() != "(") return named();
        next();
        must(++open <= 64, "term too deep");
        Term t = iterm();
        open--;
        eat(")");
        return t;
    }
    Term iterm() {
        Term t = {Term::apply, "", {}, {head()}};
        while (argument_follows()) t.parts.push_back(argument());
        return t;
    }
    Term argument() {
        must(argument_follows() && !tok().glued, "an argument needs a space before it");
        std::string s = peek();
        if (s == "⟨") return tuple();
        if (s == "(") {
            next();
            must(++open <= 64, "term too deep");
            Term t = term();
            open--;
            eat(")");
            return t;
        }
        if (!is_hypothesis(s)) return {Term::constant, next()};
        return named();
    }
    Term tuple() {
        Term t = {Term::tuple};
        eat("⟨");
        t.parts.push_back(term());
        do {
            eat(",");
            t.parts.push_back(term());
        } while (peek() == ",");
        eat("⟩");
        return t;
    }
    Term term() {
        const std::map<std::string, int> constants = {{"And.intro", 2},  {"Or.inl", 1},     {"Or.inr", 1},
                                                      {"Iff.intro", 2},  {"False.elim", 1}, {"absurd", 2},
                                                      {"True.intro", 0}, {"trivial", 0}};
        if (peek() == "⟨") return tuple();
        if (peek() == "fun") {
            next();
            Term t = {Term::fun};
            do t.extra.push_back(hypothesis());
            while (peek() != "=>");
            next();
            t.parts.push_back(term());
            return t;
        }
        auto c = constants.find(peek());
        if (c == constants.end()) return iterm();
        Term t = {Term::constant, next()};
        for (int i = 0; i < c->second; i++) {
            bool first_of_absurd = c->first == "absurd" && i == 0;
            must(!first_of_absurd || peek() == "(" || is_hypothesis(peek()),
                 "absurd needs a type it can read off");
            if (first_of_absurd && peek() == "(") {
                must(!tok().glued, "an argument needs a space before it");
                t.parts.push_back(head());
            } else {
                t.parts.push_back(argument());
            }
        }
        return t;
    }

    std::vector<Tac> block(int column, bool on_this_line = false) {
        must(++depth <= 32, "blocks too deep");
        std::vector<Tac> tacs;
        if (!on_this_line) {
            must(peek().empty(), "a block starts on the next line");
            l++;
            k = 0;
        }
        must(l < lines.size() && k < lines[l].size(), "a block is missing");
        const bool deeper = !on_this_line && tok().column == column + 2;
        if (deeper) column += 2;
        must(tok().column == column, "block's column");
        while (l < lines.size() && tok().column >= column) {
            must(tok().column == column, "block's column");
            tacs.push_back(tactic(column));
        }
        depth--;
        return tacs;
    }
    // Reads a tactic and everything below it; afterwards the cursor is at the start of a line.
    Tac tactic(int column) {
        Tac t = {next()};
        must(t.name == "·" || ++tactics <= 256, "too many tactics");
        if (t.name == "·") {
            must(!peek().empty() && tok().column == column + 2, "one space after the bullet");
            t.blocks.push_back(block(column + 2, true));
            return t;
        }
        if (nat ? nat_tactic(t, column) : prop_tactic(t, column)) end_line();
        return t;
    }
    bool prop_tactic(Tac &t, int column) {
        const std::set<std::string> bare = {"constructor", "left", "right", "exfalso", "assumption", "sorry"};
        if (t.name == "intro") {
            do t.names.push_back(hypothesis());
            while (!peek().empty());
        } else if (t.name == "exact") {
            t.term = term();
        } else if (t.name == "apply") {
            t.term = iterm();
        } else if (t.name == "rcases") {
            t.h = hypothesis();
            eat("with");
            t.bar = peek() != "⟨";
            if (!t.bar) next();
            t.names.push_back(hypothesis());
            eat(t.bar ? "|" : ",");
            t.names.push_back(hypothesis());
            if (!t.bar) eat("⟩");
        } else if (t.name == "obtain") {
            eat("⟨");
            t.names.push_back(hypothesis());
            eat(",");
            t.names.push_back(hypothesis());
            eat("⟩");
            eat(":=");
            t.h = hypothesis();
        } else if (t.name == "have") {
            t.names.push_back(hypothesis());
            eat(":");
            t.form = form();
            eat(":=");
            t.by = peek() == "by";
            if (t.by) {
                next();
                must(peek() != "sorry", "sorry");
                t.blocks.push_back(block(column + 2));
                return false;
            }
            t.term = term();
        } else if (t.name == "cases") {
            t.h = hypothesis();
            t.with = peek() == "with";
            if (t.with) {
                next();
                end_line();
                alternatives(t, column);
                return false;
            }
        } else {
            must(bare.count(t.name), "no tactic: " + t.name);
        }
        return true;
    }
    void alternatives(Tac &t, int column) {
        while (peek() == "|" && tok().column == column) {
            next();
            std::string word = next();
            std::vector<std::string> names;
            while (peek() != "=>") names.push_back(next());
            next();
            t.heads.push_back({word, names});
            std::set<char> outside = scope;
            if (nat && word == "zero") scope.erase(t.h[0]);
            t.blocks.push_back(block(column + 2));
            scope = outside;
        }
    }
    bool nat_tactic(Tac &t, int column) {
        if (t.name == "rw") {
            eat("[");
            t.backwards = peek() == "←";
            if (t.backwards) next();
            equation(t);
            eat("]");
        } else if (t.name == "exact") {
            equation(t);
        } else if (t.name == "induction") {
            t.h = next();
            must(t.h.size() == 1 && scope.count(t.h[0]), "induction on what is no variable here");
            eat("with");
            end_line();
            alternatives(t, column);
            return false;
        } else {
            must(t.name == "rfl" || t.name == "sorry", "no tactic: " + t.name);
        }
        return true;
    }
    // A hypothesis (then t.h has its name), or a lemma's equation, left in t.form.
    void equation(Tac &t) {
        std::string s = next();
        if (is_hypothesis(s) || s == "ih") {
            t.h = s;
            return;
        }
        struct Shape { const char *names, *left, *right; };  // reverse Polish
        const std::map<std::string, Shape> shapes = {
            {"Nat.add_comm", {"ab", "ab+", "ba+"}},       {"Nat.add_assoc", {"abc", "ab+c+", "abc++"}},
            {"Nat.zero_add", {"a", "0a+", "a"}},          {"Nat.add_zero", {"a", "a0+", "a"}},
            {"Nat.mul_comm", {"ab", "ab*", "ba*"}},       {"Nat.mul_assoc", {"abc", "ab*c*", "abc**"}},
            {"Nat.mul_add", {"abc", "abc+*", "ab*ac*+"}}, {"Nat.add_mul", {"abc", "ab+c*", "ac*bc*+"}},
            {"Nat.mul_one", {"a", "a1*", "a"}},           {"Nat.one_mul", {"a", "1a*", "a"}},
            {"Nat.mul_zero", {"a", "a0*", "0"}},          {"Nat.zero_mul", {"a", "0a*", "0"}}};
        auto shape = shapes.find(s);
        must(shape != shapes.end(), "no equation: " + s);
        std::map<char, Form> given;
        for (const char *c = shape->second.names; *c; c++) {
            must(!peek().empty() && !tok().glued, "an argument needs a space before it");
            brackets = 0;
            given[*c] = atom();
        }
        auto polish = [&](const char *p) {
            std::vector<Form> stack;
            for (; *p; p++) {
                if (*p == '0' || *p == '1') {
                    stack.push_back(number(*p - '0'));
                } else if (*p == '+' || *p == '*') {
                    Form b = stack.back();
                    stack.pop_back();
                    stack.back() = two(*p, stack.back(), b);
                } else {
                    stack.push_back(given[*p]);
                }
            }
            return stack.back();
        };
        t.form = two('=', polish(shape->second.left), polish(shape->second.right));
    }

    Theorem theorem() {
        Theorem t;
        must(k == 0 && tok().column == 0, "a theorem starts in column 0");
        eat("theorem");
        t.name = next();
        must(t.name.substr(0, 3) == "thm", "theorem's name");
        must(t.name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_") == std::string::npos,
             "theorem's name");
        eat("(");
        std::string names =
            peek().size() == 1 && std::string("pqrstu").find(peek()) < 6 ? "pqrstu" : "abckmn";
        nat = t.nat = names == "abckmn";
        must(!nat || nat_allowed, "Nat is level 2");
        do {
            std::string v = next();
            must(v.size() == 1 && names.find(v) < 6 && t.variables.insert(v[0]).second, "variables");
        } while (peek() != ":");
        scope = t.variables;
        next();
        eat(nat ? "Nat" : "Prop");
        eat(")");
        while (peek() == "(") {
            next();
            std::string h = hypothesis();
            eat(":");
            must(t.hypotheses.emplace(h, form()).second, "a hypothesis twice");
            eat(")");
        }
        eat(":");
        t.goal = form();
        eat(":=");
        eat("by");
        t.proof = block(2);
        return t;
    }
};

// --------------------------------------------------------------------------------------------------- running

struct Goal {
    std::map<std::string, Form> hypotheses;
    Form target;
};

struct Runner {
    std::set<char> scope;
    size_t suspended = 0;  // goals outside the block being run

    static bool halves(const Form &f, Form &a, Form &b) {
        if (f.op == '&') a = f.kids[0], b = f.kids[1];
        else if (f.op == '~') a = two('>', f.kids[0], f.kids[1]), b = two('>', f.kids[1], f.kids[0]);
        else return false;
        return true;
    }
    static Form known(const Goal &g, const std::string &h) {
        auto found = g.hypotheses.find(h);
        must(found != g.hypotheses.end(), "unknown " + h);
        return found->second;
    }
    static void fresh(Goal &g, const std::string &h, const Form &f) {
        must(is_hypothesis(h) || h == "ih", "no name: " + h);
        must(g.hypotheses.emplace(h, f).second, "name in use: " + h);
    }

    Form infer(const Term &t, const Goal &g, int depth) {
        must(depth <= 64, "term too deep");
        if (t.kind == Term::apply) {
            Form f = infer(t.parts[0], g, depth);
            for (size_t i = 1; i < t.parts.size(); i++) {
                must(f.op == '>', "no function");
                Form a = f.kids[0], b = f.kids[1];
                check(t.parts[i], a, g, depth + 1);
                f = b;
            }
            return f;
        }
        must(t.kind == Term::name, "a type that cannot be read off");
        Form f = known(g, t.text);
        for (const std::string &p : t.extra) {
            Form a, b;
            must(halves(f, a, b), "no projection");
            if (p == ".left" || p == ".right") must(f.op == '&', "no .left, .right");
            if (p == ".mp" || p == ".mpr") must(f.op == '~', "no .mp, .mpr");
            f = p == ".1" || p == ".left" || p == ".mp" ? a : b;
        }
        return f;
    }
    void check(const Term &t, const Form &wanted, Goal g, int depth) {
        must(depth <= 64, "term too deep");
        Form a, b;
        if (t.kind == Term::tuple) {
            Form rest = wanted;
            for (size_t i = 0; i + 1 < t.parts.size(); i++) {
                must(halves(rest, a, b), "tuple");
                check(t.parts[i], a, g, depth + 1);
                rest = b;
            }
            check(t.parts.back(), rest, g, depth + 1);
        } else if (t.kind == Term::fun) {
            Form rest = wanted;
            for (const std::string &h : t.extra) {
                must(rest.op == '>', "fun");
                fresh(g, h, rest.kids[0]);
                rest = Form(rest.kids[1]);
            }
            check(t.parts[0], rest, g, depth + 1);
        } else if (t.kind == Term::constant) {
            const std::string &c = t.text;
            if (c == "And.intro" || c == "Iff.intro") {
                must(wanted.op == (c == "And.intro" ? '&' : '~') && halves(wanted, a, b), c);
                check(t.parts[0], a, g, depth + 1);
                check(t.parts[1], b, g, depth + 1);
            } else if (c == "Or.inl" || c == "Or.inr") {
                must(wanted.op == '|', c);
                check(t.parts[0], wanted.kids[c == "Or.inl" ? 0 : 1], g, depth + 1);
            } else if (c == "False.elim") {
                check(t.parts[0], {'F'}, g, depth + 1);
            } else if (c == "absurd") {
                check(t.parts[1], negate(infer(t.parts[0], g, depth + 1)), g, depth + 1);
            } else {
                must(wanted == Form{'T'}, c);
            }
        } else {
            must(infer(t, g, depth) == wanted, "type mismatch");
        }
    }

    // Runs a block on one goal, which it must close.
    void prove(const std::vector<Tac> &tacs, const Goal &goal) {
        std::vector<Goal> goals = {goal};
        for (const Tac &t : tacs) {
            must(!goals.empty(), "no goals");
            Goal g = goals.front();
            goals.erase(goals.begin());
            suspended += goals.size();
            std::vector<Goal> made = run(t, g);
            suspended -= goals.size();
            goals.insert(goals.begin(), made.begin(), made.end());
            must(goals.size() + suspended <= 64, "too many goals");
        }
        must(goals.empty(), "unsolved");
    }
    // The goals that a tactic leaves of its goal.
    std::vector<Goal> run(const Tac &t, Goal g) {
        Form a, b;
        if (t.name == "·") {
            prove(t.blocks[0], g);
            return {};
        }
        if (t.name == "intro") {
            for (const std::string &h : t.names) {
                must(g.target.op == '>', "intro");
                fresh(g, h, g.target.kids[0]);
                g.target = Form(g.target.kids[1]);
            }
            return {g};
        }
        if (t.name == "apply") return apply(infer(t.term, g, 1), g);
        if (t.name == "constructor") {
            if (g.target == Form{'T'}) return {};
            must(halves(g.target, a, b), "constructor");
            return {{g.hypotheses, a}, {g.hypotheses, b}};
        }
        if (t.name == "left" || t.name == "right") {
            must(g.target.op == '|', "left, right");
            return {{g.hypotheses, g.target.kids[t.name == "left" ? 0 : 1]}};
        }
        if (t.name == "exfalso") return {{g.hypotheses, {'F'}}};
        if (t.name == "assumption") {
            for (const auto &h : g.hypotheses)
                if (h.second == g.target) return {};
            no("assumption");
        }
        if (t.name == "rcases" || t.name == "obtain" || t.name == "cases") return take_apart(t, g);
        if (t.name == "have") {
            Goal side = {g.hypotheses, t.form};
            fresh(g, t.names[0], t.form);
            if (t.by) prove(t.blocks[0], side);
            else check(t.term, t.form, side, 1);
            return {g};
        }
        if (t.name == "exact" && g.target.op != '=') {
            check(t.term, g.target, g, 1);
            return {};
        }
        return nat(t, g);
    }
    static std::vector<Goal> apply(const Form &whole, const Goal &g) {
        auto spine = [](Form f) {
            std::vector<Form> s;
            for (; f.op == '>'; f = Form(f.kids[1])) s.push_back(f);
            s.push_back(f);
            return s;
        };
        std::vector<Form> suffixes = spine(whole);
        size_t n = suffixes.size() - 1, m = spine(g.target).size() - 1;
        for (size_t k = n > m ? n - m : 0; k <= n; k++) {
            if (suffixes[k] != g.target) continue;
            std::vector<Goal> goals;
            for (size_t i = 0; i < k; i++) goals.push_back({g.hypotheses, suffixes[i].kids[0]});
            return goals;
        }
        no("apply");
    }
    std::vector<Goal> take_apart(const Tac &t, Goal g) {
        Form f = known(g, t.h), a, b;
        g.hypotheses.erase(t.h);
        if (t.name == "cases" && !t.with) {
            must(f.op == 'F', "cases");
            return {};
        }
        if (t.name == "cases") {
            std::set<std::string> wanted = {"intro"};
            if (f.op == '|') wanted = {"inl", "inr"};
            else must(halves(f, a, b), "cases");
            for (size_t i = 0; i < t.heads.size(); i++) {
                const auto &[word, names] = t.heads[i];
                must(wanted.erase(word) == 1, "alternative");
                must(names.size() == (word == "intro" ? 2u : 1u), "names of an alternative");
                Goal inner = g;
                fresh(inner, names[0], word == "intro" ? a : f.kids[word == "inl" ? 0 : 1]);
                if (word == "intro") fresh(inner, names[1], b);
                prove(t.blocks[i], inner);
            }
            must(wanted.empty(), "an alternative is missing");
            return {};
        }
        if (t.bar) {
            must(f.op == '|', "rcases");
            Goal left = g, right = g;
            fresh(left, t.names[0], f.kids[0]);
            fresh(right, t.names[1], f.kids[1]);
            return {left, right};
        }
        must(halves(f, a, b), "pattern");
        fresh(g, t.names[0], a);
        fresh(g, t.names[1], b);
        return {g};
    }

    // ------------------------------------------------------------ Nat

    static size_t nodes(const Form &f) {
        size_t n = 1;
        for (const Form &k : f.kids) n += nodes(k);
        return n;
    }
    // The rules of D, applied at the root until none fits, the operands first.
    Form normal(const Form &f, bool products) {
        if (f.kids.empty()) return f;
        return root(two(f.op, normal(f.kids[0], products), normal(f.kids[1], products)), products);
    }
    Form root(const Form &f, bool products) {
        const Form &x = f.kids[0], &y = f.kids[1];
        must(nodes(f) <= 4096, "normal form too large");
        bool is_offset = y.op == '+' && y.kids[1].op == '#';
        if (x.op == '#' && y.op == '#') {
            long v = f.op == '+' ? x.value + y.value : x.value * y.value;
            must(v < (1l << 31), "value too large");
            return number(v);
        }
        if (f.op == '+') {
            if (y == number(0)) return x;
            if (is_offset) return root(two('+', root(two('+', x, y.kids[0]), products), y.kids[1]), products);
            if (y.op == '#' && x.op == '+' && x.kids[1].op == '#')
                return root(two('+', x.kids[0], root(two('+', x.kids[1], y), products)), products);
            return f;
        }
        if (!products || (y.op != '#' && !is_offset)) return f;
        Form sum = is_offset ? root(two('*', x, y.kids[0]), products) : number(0);
        long copies = is_offset ? y.kids[1].value : y.value;
        must(copies <= 200, "too many copies");
        for (long i = 0; i < copies; i++) sum = root(two('+', sum, x), products);
        return sum;
    }
    static long largest(const Form &f) {
        long n = f.op == '#' ? f.value : 0;
        for (const Form &k : f.kids) n = std::max(n, largest(k));
        return n;
    }
    Form rewrite(const Form &f, const Form &from, const Form &to, bool &found) {
        if (f == from) {
            found = true;
            return to;
        }
        if (f.op == from.op && (f.op == '+' || f.op == '*'))
            must(normal(f, true) != normal(from, true), "ambiguous instance");
        Form g = f;
        for (Form &k : g.kids) k = rewrite(Form(k), from, to, found);
        return g;
    }
    static Form with(const Form &f, char variable, const Form &by) {
        if (f.op == variable) return by;
        Form g = f;
        for (Form &k : g.kids) k = with(Form(k), variable, by);
        return g;
    }
    std::vector<Goal> nat(const Tac &t, Goal g) {
        must(t.name != "sorry", "sorry");
        Form left = g.target.kids[0], right = g.target.kids[1];
        Form e = t.h.empty() || t.name == "induction" ? t.form : known(g, t.h);
        if (t.name == "exact") {
            must(e == g.target, "not the goal");
            return {};
        }
        if (t.name == "rfl") {
            if (left == right) return {};
            Form same = normal(left, false);
            must(same == normal(right, false), "rfl");
            must(same.op == '#' || std::max({largest(left), largest(right), largest(same)}) <= 10,
                 "a numeral beside a variable that Lean was not seen to move");
            return {};
        }
        if (t.name == "rw") {
            bool found = false;
            const Form &from = e.kids[t.backwards ? 1 : 0], &to = e.kids[t.backwards ? 0 : 1];
            left = rewrite(left, from, to, found);
            right = rewrite(right, from, to, found);
            must(found, "nothing to rewrite");
            if (left == right) return {};
            must(normal(left, true) != normal(right, true), "rw might close the goal");
            return {{g.hypotheses, two('=', left, right)}};
        }
        must(t.name == "induction", "no tactic");
        char n = t.h[0];
        must(scope.count(n), "variable out of scope");
        for (const auto &h : g.hypotheses)
            must(with(h.second, n, number(0)) == h.second, "a hypothesis mentions it");
        std::set<std::string> wanted = {"zero", "succ"};
        for (size_t i = 0; i < t.heads.size(); i++) {
            const auto &[word, names] = t.heads[i];
            must(wanted.erase(word) == 1, "alternative");
            Goal inner = {g.hypotheses,
                          with(g.target, n, word == "zero" ? number(0) : two('+', {n}, number(1)))};
            std::set<char> outside = scope;
            if (word == "zero") {
                must(names.empty(), "zero has no names");
                scope.erase(n);
            } else {
                must(names.size() == 2 && names[0] == t.h && names[1] == "ih", "succ n ih");
                fresh(inner, "ih", g.target);
            }
            prove(t.blocks[i], inner);
            scope = outside;
        }
        must(wanted.empty(), "an alternative is missing");
        return {};
    }
};

}  // namespace

bool second_opinion(const std::string &source, bool nat, std::string &why) {
    try {
        Text text = decode(source);
        must(!text.empty(), "no text");
        for (size_t i = 0; i + 1 < text.size(); i++)
            if (text[i] == '\r' && text[i + 1] == '\n') text.erase(text.begin() + long(i));
        if (text.back() != '\n') text.push_back('\n');
        blank_comments(text);
        Parser parser{tokens(text, nat), nat};
        std::set<std::string> names;
        must(!parser.lines.empty(), "no theorem");
        while (parser.l < parser.lines.size()) {
            Theorem t = parser.theorem();
            must(names.insert(t.name).second, "a theorem's name twice");
            Runner{t.variables}.prove(t.proof, {t.hypotheses, t.goal});
        }
    } catch (const No &n) {
        why = n.why;
        return false;
    }
    return true;
}

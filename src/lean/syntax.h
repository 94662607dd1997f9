// syntax.h: tokens, and the reader that checker.cpp builds on. Other floors include lean.h.
#pragma once
#include <cassert>

#include "src/base/error.h"
#include "src/lean/lean.h"

namespace lean {

// The limits of a text. They keep checking fast on any input, and Lean far from its own limit on recursion.
constexpr int max_tokens = 4096, max_tactics = 256, max_blocks = 32, max_goals = 64, max_formula = 256,
              max_term = 64;
constexpr int max_copies = 200, max_nodes = 4096;  // of one product, of a normal form (level 2)
constexpr long max_value = 1l << 31;               // of a number (level 2)
// The largest numeral beside a variable that `rfl` may move: as far as Lean was seen to do it (level 2).
constexpr int max_offset = 10;
constexpr size_t max_bytes = 1 << 26;              // only comments and blanks could fill them

constexpr int ih = 100;  // the name of induction's hypothesis

// Thrown at the first error, caught in Checker::check.
struct Refusal { Failure failure; };

// clang-format off
enum TokenKind : uint8_t {
    T_end, T_line_end, T_bad,                     // end of the text; of this line; something that is no token
    T_word, T_theorem_name, T_hypothesis, T_variable, T_nat_variable, T_number, T_projection, T_constant,
    T_lemma,
    T_theorem, T_Prop, T_Nat, T_by, T_with, T_fun, T_True, T_False, T_inl, T_inr, T_zero, T_succ, T_ih,
    T_intro, T_exact, T_apply, T_constructor, T_left, T_right, T_exfalso, T_assumption, T_sorry, T_rcases,
    T_obtain, T_have, T_cases, T_rfl, T_rw, T_induction,
    // in the order of Kind, from Iff:
    T_iff, T_arrow, T_or, T_and, T_equal, T_plus, T_times,
    T_not, T_open, T_close, T_open_angle, T_close_angle, T_comma, T_colon, T_assign, T_then, T_bar, T_bullet,
    T_open_square, T_close_square, T_left_arrow
};
// clang-format on
enum Constant { And_intro, Iff_intro, Or_inl, Or_inr, False_elim, Absurd, True_intro };  // trivial, too
enum Projection { P_1, P_2, P_left, P_right, P_mp, P_mpr };

// A lemma of level 2, both sides in prefix notation: `++abc` is a + b + c.
struct Lemma {
    const char *name;
    int arguments;
    const char *left, *right;
};
extern const Lemma lemmas[];  // a T_lemma's value is an index

struct Token {
    TokenKind kind;
    bool touches;  // no blank or comment before it
    int value;     // a number, a name, a letter, which constant; of `⟨`: its commas
    int begin, end, line, column;
    int line_end; // after the first newline behind it that is in no comment, or at the end of the text; or -1
};

// Splits a text into tokens; the last one is T_end, or T_bad with the reason.
Failure lex(std::string_view text, bool nat, std::vector<Token> &tokens);

// The common ground of all readers: a cursor that never leaves its line by itself.
struct Reader {
    Formulas &formulas;
    std::vector<Token> tokens;
    std::string_view text;
    Failure bad;
    Options options;
    const Token *at = nullptr;
    int line = 0;  // of the tactic or header being read
    long work = 0;
    int connectives = 0;  // and brackets, of the formula being read
    bool nat = false;     // this theorem is about Nat
    uint32_t scope = 0;   // variables in scope, a bit for each letter

    explicit Reader(Formulas &formulas) : formulas(formulas) {}

    void open(std::string_view source, Options o) {
        text = source;
        options = o;
        bad = lex(source, o.nat, tokens);
        at = tokens.data();
        work = 0;
        scope = 0;
    }

    [[noreturn]] void refuse(Code code, const Token &t, const std::string &message) {
        throw Refusal{{code, t.line, t.column, message}};
    }

    TokenKind peek() {
        if (at->line != line) return T_line_end;
        if (at->kind == T_bad) throw Refusal{bad};
        return at->kind;
    }
    void take() {
        assert(at->line == line && at->kind > T_bad);
        at++;
        work++;
    }
    bool accept(TokenKind kind) {
        if (peek() != kind) return false;
        take();
        return true;
    }
    std::string shown(const Token &t) const {
        const std::string_view token = text.substr(t.begin, t.end - t.begin);
        return cat("`", token.substr(0, 40), token.size() > 40 ? "..." : "", "`");
    }

    // Something else than the grammar wants. A line that goes on below, deeper, is refused as layout.
    [[noreturn]] void unexpected(const char *wanted) {
        const TokenKind kind = peek();
        if (kind == T_line_end && at->kind != T_end && at->column > 2)
            refuse(E_LAYOUT, *at,
                   cat("expected ", wanted, " on line ", line, ": a tactic ends with its line"));
        const bool ends = kind == T_line_end || kind == T_end;
        refuse(E_PARSE, *at, cat("expected ", wanted, ", found ", ends ? "the end of the line" : shown(*at)));
    }
    void expect_token(TokenKind kind, const char *wanted) {
        if (!accept(kind)) unexpected(wanted);
    }
    void end_of_line() {
        const TokenKind kind = peek();
        if (kind != T_line_end && kind != T_end) unexpected("the end of the line");
    }

    bool is_question = false;  // a statement alone: blanks before it, and no `:= by`, will do

    Formula formula();
    Formula expression(int level);
    Formula primary();
    Statement statement();
    Statement bare_statement();
    void variables(Statement &s);
};

}  // namespace lean

// checker.cpp: the proof checker, a strict subset of Lean 4 whose every yes is Lean's yes.
// lean.h says what it is and is not.
//
// Reading, typing and running are one walk over the tokens: `exact h1 (h2 h3)` is typed while it is read, and
// a tactic acts on the goals as soon as its line is read. So errors come in the order of the text, and every
// line finished before the first error is a step that can be kept. Nothing is read twice; the work is linear
// in the text, but for looking names up in a context of at most a hundred hypotheses.
//
// Soundness rests on three habits. (1) Layout: Lean's blocks are sensitive to columns, and `intro` swallows
// whatever stands deeper than its block, so only one layout is legal here, and a tactic ends with its line.
// (2) Names never shadow. (3) Types are compared by index, after `¬A` became `A → False`: exactly the
// unfolding that Lean does, at any depth.
//
//   [1] terms and their types      [3] tactics of level 1            [5] a whole text, steps, truncation
//   [2] goals and open blocks      [4] level 2: equations on Nat
#include <algorithm>
#include <utility>

#include "src/lean/syntax.h"

namespace lean {

// --------------------------------------------------------------------------------- [1] terms and their types

using Context = std::vector<Hypothesis>;

struct Terms : Reader {
    Context *context = nullptr;  // where the term being read lives

    using Reader::Reader;

    std::string quoted(Formula f) const { return "'" + formulas.print(f) + "'"; }

    const Hypothesis *find(int name) {
        work += long(context->size());
        for (size_t i = context->size(); i-- > 0;)
            if ((*context)[i].name == name) return &(*context)[i];
        return nullptr;
    }

    // A hypothesis name, and that a new hypothesis may have it: Lean would shadow an old one,
    // refusing keeps states printable.
    const Token &name() {
        const Token &t = *at;
        expect_token(T_hypothesis, "a hypothesis name, `h` or `h1` to `h99`");
        if (peek() == T_projection) unexpected("a name");
        return t;
    }
    int unused(const Token &t) {
        if (find(t.value)) refuse(E_NAME_USED, t, cat(shown(t), " is already the name of a hypothesis"));
        return t.value;
    }

    // The formula of a hypothesis that is named here, `ih` included.
    Formula hypothesis() {
        const Token &t = *at;
        const TokenKind kind = peek();
        if (kind <= T_bad || kind >= T_iff) unexpected("a hypothesis");
        if (kind == T_fun || kind == T_constant)
            refuse(E_UNKNOWN_ID, t,
                   cat(shown(t), " here is outside the subset: the head of an application and an argument ",
                       "without brackets start with a hypothesis"));
        const Hypothesis *h = kind == T_hypothesis || kind == T_ih ? find(t.value) : nullptr;
        if (!h) refuse(E_UNKNOWN_ID, t, cat("there is no hypothesis ", shown(t)));
        take();
        return h->formula;
    }

    // The two halves of a conjunction or an equivalence.
    bool halves(Formula f, Formula &a, Formula &b) {
        const Formulas::Node n = formulas[f];
        a = n.kind == Iff ? formulas.make(Implies, n.a, n.b) : n.a;
        b = n.kind == Iff ? formulas.make(Implies, n.b, n.a) : n.b;
        return n.kind == And || n.kind == Iff;
    }

    void same(const Token &t, Formula found, Formula wanted) {
        if (found != wanted)
            refuse(E_TYPE_MISMATCH, t,
                   cat("this proves ", quoted(found), ", but ", quoted(wanted), " is wanted"));
    }

    void deep(int depth) {
        if (depth > max_term) refuse(E_LIMIT, *at, cat("a term deeper than ", max_term));
    }

    Formula head(int &depth);
    Formula infer(int depth);
    void check(Formula wanted, int depth);
    void argument(Formula wanted, int depth);
    void argument_start();
    void tuple(Formula wanted, int depth);
    void function(Formula wanted, int depth);
    void constant(Formula wanted, int depth);
};

// HYP proj*   |   ( iterm )           Depth counts brackets, tuples, functions, projections, arguments.
Formula Terms::head(int &depth) {
    deep(depth);
    if (accept(T_open)) {
        const Formula f = infer(depth + 1);
        expect_token(T_close, "`)`");
        return f;
    }
    Formula f = hypothesis();
    while (peek() == T_projection) {
        const Token &t = *at;
        Formula half[2];
        const Kind kind = formulas[f].kind;
        const bool named = t.value == P_1 || t.value == P_2 || (t.value >= P_mp ? kind == Iff : kind == And);
        if (!halves(f, half[0], half[1]) || !named)
            refuse(E_TYPE_MISMATCH, t, cat(quoted(f), " has no ", shown(t)));
        f = half[t.value & 1];
        take();
        deep(++depth);
    }
    return f;
}

// A term whose type can be read off it: a head and its arguments.
Formula Terms::infer(int depth) {
    const Token &t = *at;
    Formula f = head(depth);
    for (;;) {
        const TokenKind kind = peek();
        const bool simple = kind == T_constant && at->value == True_intro;
        if (kind != T_hypothesis && kind != T_open && kind != T_open_angle && kind != T_word && !simple)
            return f;
        const Formulas::Node n = formulas[f];
        if (kind != T_word && n.kind != Implies) {
            argument_start();
            refuse(E_TYPE_MISMATCH, t, cat(quoted(f), " is no implication, so it takes no argument"));
        }
        argument(n.a, ++depth);
        f = n.b;
    }
}

// Lean glues `h(h1)` to something else than an application, so an argument needs a blank before it.
void Terms::argument_start() {
    if (peek() != T_line_end && at->touches)
        refuse(E_PARSE, *at, cat("an argument needs a space before it: ", shown(*at)));
}

void Terms::argument(Formula wanted, int depth) {
    argument_start();
    deep(depth);
    const Token &t = *at;
    if (peek() == T_open_angle) return tuple(wanted, depth);
    if (accept(T_open)) {
        check(wanted, depth + 1);
        return expect_token(T_close, "`)`");
    }
    if (peek() == T_constant && t.value == True_intro) {
        take();
        return same(t, formulas.make(Truth), wanted);
    }
    same(t, head(depth), wanted);
}

// Is the term at the cursor a proof of `wanted`?
void Terms::check(Formula wanted, int depth) {
    deep(depth);
    const Token &t = *at;
    switch (peek()) {
    case T_open_angle: return tuple(wanted, depth);
    case T_fun: return function(wanted, depth);
    case T_constant: return constant(wanted, depth);
    default: return same(t, infer(depth), wanted);
    }
}

// ⟨a, b, c⟩ is ⟨a, ⟨b, c⟩⟩. The lexer has counted the commas, so each part knows its type before it is read.
void Terms::tuple(Formula wanted, int depth) {
    const Token &t = *at;
    take();
    if (t.value == 0) refuse(E_PARSE, t, "⟨...⟩ needs two parts or more");
    for (int commas = t.value; commas > 0; commas--) {
        Formula a, b;
        if (!halves(wanted, a, b))
            refuse(E_TYPE_MISMATCH, t, cat("⟨...⟩ proves ∧ or ↔, but ", quoted(wanted), " is wanted"));
        check(a, ++depth);
        expect_token(T_comma, "`,`");
        wanted = b;
    }
    check(wanted, depth + 1);
    expect_token(T_close_angle, "`⟩`");
}

void Terms::function(Formula wanted, int depth) {
    take();
    const size_t outside = context->size();
    do {
        const Token &t = name();
        const Formulas::Node n = formulas[wanted];
        if (n.kind != Implies)
            refuse(E_TYPE_MISMATCH, t, cat("a function proves →, but ", quoted(wanted), " is wanted"));
        context->push_back({unused(t), n.a});
        wanted = n.b;
        deep(++depth);
    } while (peek() == T_hypothesis);
    expect_token(T_then, "`=>`");
    check(wanted, depth);
    context->resize(outside);
}

void Terms::constant(Formula wanted, int depth) {
    const Token &t = *at;
    take();
    const Formulas::Node n = formulas[wanted];
    const auto needs = [&](Kind kind) {
        if (n.kind != kind) refuse(E_TYPE_MISMATCH, t, cat(shown(t), " does not prove ", quoted(wanted)));
    };
    Formula a, b;
    switch (Constant(t.value)) {
    case And_intro:
    case Iff_intro:
        needs(t.value == And_intro ? And : Iff);
        halves(wanted, a, b);
        argument(a, depth + 1);
        return argument(b, depth + 1);
    case Or_inl:
    case Or_inr: needs(Or); return argument(t.value == Or_inl ? n.a : n.b, depth + 1);
    case False_elim: return argument(formulas.make(Falsity), depth + 1);
    case Absurd:      // absurd (a : A) (b : ¬A) proves anything
        argument_start();
        a = head(++depth);
        return argument(formulas.negation(a), depth + 1);
    case True_intro: return needs(Truth);
    }
}

// --------------------------------------------------------------------------------- [2] goals and open blocks

struct Goal {
    Context context;
    Formula target;
    mutable std::shared_ptr<const GoalText> text = {};  // as it was last printed, if it is still the same
};

// A block that is being read. Blocks that suspend others form a chain to the theorem's own.
struct Block {
    Block *outer;
    int column;
    std::vector<Goal> goals;         // the main goal is the last
    std::vector<Goal> pending = {};  // of alternatives that come after this block
};

struct Goals : Terms {
    Block *block = nullptr;  // the innermost open one
    Result result;
    State state_now;  // with steps: where the cursor is
    int tactics = 0, blocks = 0;
    int step_end = 0;  // in bytes, of the last step

    using Terms::Terms;

    // To be read or changed: its text is forgotten.
    Goal &main_goal() {
        Goal &g = block->goals.back();
        g.text.reset();
        return g;
    }

    void add_goal(Goal g) {
        block->goals.push_back(std::move(g));
        size_t open = 0;
        for (const Block *b = block; b; b = b->outer) open += b->goals.size() + b->pending.size();
        if (open > size_t(max_goals)) refuse(E_LIMIT, at[-1], cat("more than ", max_goals, " goals"));
    }
    // The main goal becomes `first`, then `second`.
    void split(Formula first, Formula second) {
        Goal g = {main_goal().context, second};
        main_goal().target = first;
        block->goals.insert(block->goals.end() - 1, std::move(g));
        Goal last = std::move(main_goal());
        block->goals.pop_back();
        add_goal(std::move(last));  // counted
    }
    void close_goal() { block->goals.pop_back(); }

    const std::shared_ptr<const GoalText> &text_of(const Goal &g) const {
        if (g.text) return g.text;
        GoalText text;
        std::vector<std::string> lines;
        for (const Hypothesis &h : g.context) {
            lines.push_back(formulas.print(h.formula) + "\n");
            text.named += hypothesis_name(h.name) + " : " + lines.back();
        }
        std::sort(lines.begin(), lines.end());
        for (const std::string &l : lines) text.nameless += l;
        const std::string target = "⊢ " + formulas.print(g.target) + "\n";
        text.named += target;
        text.nameless += target;
        g.text = std::make_shared<const GoalText>(std::move(text));
        return g.text;
    }
    // All open goals, the main one first; then those of suspended blocks, from the inside out.
    State state() const {
        State s;
        const auto add = [&](const Goal &g) { s.goals.push_back(text_of(g)); };
        for (const Block *b = block; b; b = b->outer) {
            std::for_each(b->goals.rbegin(), b->goals.rend(), add);
            std::for_each(b->pending.begin(), b->pending.end(), add);
        }
        return s;
    }
    void note_state() {
        if (options.steps) state_now = state();
    }
    // Where the next tactic stands: a block without goals is over, its alternatives stand where `cases` does.
    int next_column() const {
        const Block *b = block;
        while (b->outer && b->goals.empty() && b->pending.empty()) b = b->outer;
        return b->goals.empty() && !b->pending.empty() ? b->outer->column : b->column;
    }

    void tactic_starts() {
        if (++tactics > max_tactics) refuse(E_LIMIT, *at, cat("more than ", max_tactics, " tactics"));
    }
    // A tactic has finished with the token before the cursor. The step ends with that token's line; when the
    // same line finished an inner tactic before, this one replaces it. A line whose newline hides in a
    // comment cannot be cut off: it goes with the next.
    void tactic_finishes() {
        if (!options.steps) return;
        state_now = state();
        const int end = at[-1].line_end;
        if (end >= 0 && at->begin >= end) end_step(end, false);
    }
    void end_step(int end, bool header) {
        if (end > step_end)
            result.steps.push_back({std::string(text.substr(step_end, end - step_end)), 0, {}, 0, header});
        step_end = end;
        Step &s = result.steps.back();
        s.indent = next_column();
        s.after = state_now;
        s.sorries = result.sorries;
    }
};

std::string State::print() const {
    std::string out;
    for (const auto &g : goals) out += (out.empty() ? "" : "\n") + g->named;
    return out.empty() ? "no goals\n" : out;
}

std::string State::alpha() const {
    std::string out;
    for (const auto &g : goals) out += (out.empty() ? "" : "\n") + g->nameless;
    return out.empty() ? "no goals\n" : out;
}

// ------------------------------------------------------------------------------------ [3] tactics of level 1

struct Proof : Goals {
    Proof(Formulas &formulas) : Goals(formulas) {}

    void run_block(Block &b, const Token &opener);
    void nested_block(Block &b, const Token &opener);
    void tactic_line();
    void tactic(TokenKind kind, const Token &t);
    void nat_tactic(TokenKind kind, const Token &t);
    void bullet();
    void intro();
    void apply(const Token &t);
    void constructor(const Token &t);
    void left_or_right(const Token &t);
    void assumption(const Token &t);
    Formula consumed(int &old_name);
    void pair(const Token *names[2]);
    void take_apart(const Token &t, int old_name, Formula f, const Token *const names[2]);
    void rcases(const Token &t);
    void obtain(const Token &t);
    void have(const Token &t);
    void cases(const Token &t);
    struct Alternative {
        TokenKind word;
        Goal goal;  // as it is shown while it waits
        std::vector<Formula> fields;
    };
    template <class ReadNames>
    void alternatives(const Token &t, std::vector<Alternative> open, ReadNames read_names);
    // level 2
    std::vector<Formula> normal_forms[2];
    const Token *blamed = nullptr;  // the term whose computing goes too far
    Formula within_limits(Formula f);
    Formula normal(Formula f, bool products);
    Formula add(Formula u, Formula v);
    Formula add_number(Formula u, long k);
    Formula multiply(Formula u, Formula v);
    Formula rewrite(Formula f, Formula from, Formula to, bool &found);
    Formula replace(Formula f, int variable, Formula by);
    bool has_large_number(Formula f);
    bool mentions(Formula f, int variable);
    Formula lemma_side(const char *&s, const Formula *arguments);
    Formula equation();
    void rfl(const Token &t);
    void rw(const Token &t);
    void induction(const Token &t);
    // the whole
    Result run(std::string_view source, Options options);
    void theorem();
    void header_finishes(const Token &by);
    std::vector<std::string> names;
    bool in_header = false;  // there are no goals to show
};

// Lines in exactly the block's column, until one stands to the left of it. A first line that is deeper or
// less deep than the block's column is layout, as is a deeper one later.
void Proof::run_block(Block &b, const Token &opener) {
    if (++blocks > max_blocks) refuse(E_LIMIT, opener, cat("blocks nested deeper than ", max_blocks));
    block = &b;
    do {
        if (at->kind == T_bad) throw Refusal{bad};
        if (at->column != b.column)
            refuse(E_LAYOUT, *at, cat("this block's lines start in column ", b.column));
        tactic_line();
    } while (at->kind == T_bad || (at->kind != T_end && at->column >= b.column));
    if (!b.goals.empty()) {
        const std::string target = quoted(b.goals.back().target);
        refuse(E_UNSOLVED, opener, cat("the block ends with ", b.goals.size(), " open: ", target));
    }
    block = b.outer;
    blocks--;
}

// A block on the lines below its opener: two columns deeper, or four.
void Proof::nested_block(Block &b, const Token &opener) {
    end_of_line();
    block = &b;
    note_state();
    if (at->kind == T_end) refuse(E_LAYOUT, *at, "a block is missing at the end of the text");
    if (at->kind != T_bad && at->column != b.column && at->column != b.column + 2)
        refuse(E_LAYOUT, *at, cat("a block starts in column ", b.column, " or ", b.column + 2, " here"));
    b.column = at->column;
    run_block(b, opener);
}

void Proof::tactic_line() {
    const Token &t = *at;
    line = t.line;
    const TokenKind kind = peek();
    if (block->goals.empty()) refuse(E_NO_GOALS, t, "there is no goal left");
    const bool level1 = (kind >= T_intro && kind <= T_cases) || kind == T_bullet;
    const bool level2 = kind == T_rfl || kind == T_rw || kind == T_exact || kind == T_induction ||
                        kind == T_sorry || kind == T_bullet;
    if (nat ? !level2 : !level1) unexpected("a tactic");
    if (kind != T_bullet) tactic_starts();
    take();
    if (kind == T_bullet) bullet();
    else if (nat) nat_tactic(kind, t);
    else tactic(kind, t);
    tactic_finishes();
}

void Proof::tactic(TokenKind kind, const Token &t) {
    context = &main_goal().context;
    switch (kind) {
    case T_intro: intro(); break;
    case T_exact:
        check(main_goal().target, 1);
        end_of_line();
        return close_goal();
    case T_apply: apply(t); break;
    case T_constructor: constructor(t); break;
    case T_left:
    case T_right: left_or_right(t); break;
    case T_exfalso: main_goal().target = formulas.make(Falsity); break;
    case T_assumption: assumption(t); break;
    case T_sorry:
        result.sorries++;
        close_goal();
        break;
    case T_rcases: rcases(t); break;
    case T_obtain: obtain(t); break;
    case T_have: return have(t);
    case T_cases: return cases(t);
    default: assert(false);
    }
    end_of_line();
}

// `· ` focuses the first goal: its block starts on the same line, two columns further.
void Proof::bullet() {
    const Token &dot = at[-1];
    const TokenKind kind = peek();
    if (kind == T_line_end || kind == T_end)
        refuse(E_LAYOUT, *at, "`·` is followed by one space and a tactic");
    Block inner = {block, dot.column + 2, {std::move(main_goal())}};
    close_goal();
    run_block(inner, dot);
}

void Proof::intro() {
    do {
        const Token &t = name();
        const Formulas::Node n = formulas[main_goal().target];
        if (n.kind != Implies)
            refuse(E_INTRO, t, cat("nothing to introduce: the goal is ", quoted(main_goal().target)));
        context->push_back({unused(t), n.a});
        main_goal().target = n.b;
    } while (peek() == T_hypothesis);
}

// The term proves A1 → ... → An → R, the target has m arrows. As Lean does, try to leave k = max(0, n - m),
// ... n premises open, and take the first k with A(k+1) → ... → R equal to the target.
void Proof::apply(const Token &t) {
    Formula whole = infer(1), target = main_goal().target;
    const auto arrows = [&](Formula f) {
        int n = 0;
        for (; formulas[f].kind == Implies; f = formulas[f].b) n++;
        return n;
    };
    int n = arrows(whole), least = std::max(0, n - arrows(target));
    std::vector<Formula> premises;
    Formula rest = whole;
    while (int(premises.size()) < least || (rest != target && int(premises.size()) < n)) {
        premises.push_back(formulas[rest].a);
        rest = formulas[rest].b;
    }
    if (rest != target) refuse(E_APPLY, t, cat("cannot unify ", quoted(rest), " with goal ", quoted(target)));
    const Goal g = std::move(main_goal());
    close_goal();
    for (size_t i = premises.size(); i-- > 0;) add_goal({g.context, premises[i]});
}

void Proof::constructor(const Token &t) {
    Formula a, b;
    if (formulas[main_goal().target].kind == Truth) return close_goal();
    if (!halves(main_goal().target, a, b))
        refuse(E_CONSTRUCTOR, t, cat("the goal is no ∧, ↔ or True: ", quoted(main_goal().target)));
    split(a, b);
}

void Proof::left_or_right(const Token &t) {
    const Formulas::Node n = formulas[main_goal().target];
    if (n.kind != Or) refuse(E_LEFT_RIGHT, t, cat("the goal is no ∨: ", quoted(main_goal().target)));
    main_goal().target = t.kind == T_left ? n.a : n.b;
}

void Proof::assumption(const Token &t) {
    work += long(context->size());
    for (const Hypothesis &h : *context)
        if (h.formula == main_goal().target) return close_goal();
    refuse(E_ASSUMPTION, t, cat("no hypothesis is ", quoted(main_goal().target)));
}

static void forget(Context &context, int name) {
    context.erase(
        std::find_if(context.begin(), context.end(), [&](const Hypothesis &h) { return h.name == name; }));
}

// h   in a tactic that takes it apart
Formula Proof::consumed(int &old_name) {
    if (peek() != T_hypothesis) unexpected("a hypothesis");
    old_name = at->value;
    return hypothesis();
}

// ⟨a, b⟩
void Proof::pair(const Token *names[2]) {
    expect_token(T_open_angle, "`⟨`");
    names[0] = &name();
    expect_token(T_comma, "`,`");
    names[1] = &name();
    expect_token(T_close_angle, "`⟩`");
}

void Proof::take_apart(const Token &t, int old_name, Formula f, const Token *const names[2]) {
    Formula half[2];
    if (!halves(f, half[0], half[1])) refuse(E_CASES, t, cat("⟨...⟩ takes ∧ or ↔ apart, not ", quoted(f)));
    forget(*context, old_name);
    for (int i : {0, 1}) context->push_back({unused(*names[i]), half[i]});
}

// rcases h with ⟨a, b⟩   |   rcases h with a | b          The consumed name is free again for the new ones.
void Proof::rcases(const Token &t) {
    int old_name;
    const Token *names[2];
    const Formula f = consumed(old_name);
    expect_token(T_with, "`with`");
    if (peek() == T_open_angle) {
        pair(names);
        return take_apart(t, old_name, f, names);
    }
    names[0] = &name();
    expect_token(T_bar, "`|`");
    names[1] = &name();
    const Formulas::Node n = formulas[f];
    if (n.kind != Or) refuse(E_CASES, t, cat("`|` takes ∨ apart, not ", quoted(f)));
    forget(*context, old_name);
    Hypothesis first = {unused(*names[0]), n.a}, second = {unused(*names[1]), n.b};
    split(main_goal().target, main_goal().target);
    main_goal().context.push_back(first);
    block->goals.end()[-2].context.push_back(second);
}

// obtain ⟨a, b⟩ := h
void Proof::obtain(const Token &t) {
    int old_name;
    const Token *names[2];
    pair(names);
    expect_token(T_assign, "`:=`");
    const Formula f = consumed(old_name);
    take_apart(t, old_name, f, names);
}

// have h : F := e   |   have h : F := by sorry   |   have h : F := by NL block
// While the block runs, the goal it is for waits outside, with the new hypothesis in it already.
void Proof::have(const Token &t) {
    const Token &h = name();
    expect_token(T_colon, "`:`");
    Formula f = formula();
    expect_token(T_assign, "`:=`");
    const Token &by = *at;
    unused(h);
    if (!accept(T_by)) {
        check(f, 1);
        end_of_line();
        return context->push_back({h.value, f});
    }
    if (accept(T_sorry)) {
        end_of_line();
        result.sorries++;
        return context->push_back({h.value, f});
    }
    if (peek() != T_line_end) refuse(E_LAYOUT, *at, "the block of `by` starts on the next line");
    Block inner = {block, t.column + 2, {{*context, f}}};
    context->push_back({h.value, f});
    nested_block(inner, by);
}

// cases h   |   cases h with alternatives, in the column of `cases`
void Proof::cases(const Token &t) {
    int old_name;
    Formula f = consumed(old_name), a, b;
    if (!accept(T_with)) {
        end_of_line();
        if (formulas[f].kind != Falsity)
            refuse(E_CASES, t, cat("only False is closed by `cases` alone, not ", quoted(f)));
        return close_goal();
    }
    end_of_line();
    const Formulas::Node n = formulas[f];
    Goal rest = main_goal();
    forget(rest.context, old_name);
    const auto shown_as = [&](Formula field) {
        Goal g = rest;
        g.context.push_back({old_name, field});
        return g;
    };
    std::vector<Alternative> open;
    if (n.kind == Or) open = {{T_inl, shown_as(n.a), {n.a}}, {T_inr, shown_as(n.b), {n.b}}};
    else if (halves(f, a, b)) open = {{T_intro, shown_as(f), {a, b}}};
    else refuse(E_CASES, t, cat("`cases` takes ∨, ∧ or ↔ apart, not ", quoted(f)));
    alternatives(t, std::move(open), [&](Alternative &chosen) {
        chosen.goal.context.pop_back();  // the name under which it waited
        for (Formula field : chosen.fields) context->push_back({unused(name()), field});
    });
}

// `| word names =>` and a block, each alternative exactly once, in any order, in the column of `t`.
template <class ReadNames>
void Proof::alternatives(const Token &t, std::vector<Alternative> open, ReadNames read_names) {
    close_goal();
    while (!open.empty()) {
        if (at->kind != T_bar || at->column != t.column)
            refuse(E_CASES, t, cat("an alternative is missing: they stand in column ", t.column));
        line = at->line;
        take();
        const TokenKind kind = peek();
        const auto is_chosen = [&](const Alternative &a) { return a.word == kind; };
        const auto chosen = std::find_if(open.begin(), open.end(), is_chosen);
        if (chosen == open.end()) {
            const Token &word = *at;
            if (kind == T_word) take();
            const bool named = peek() == T_hypothesis || peek() == T_ih;
            const bool foreign =
                kind == T_word ? named : kind == T_intro || (kind >= T_inl && kind <= T_succ);
            if (!foreign) unexpected("an alternative, its names and `=>`");
            refuse(E_CASES, word, cat("there is no such alternative, or not any more: ", shown(word)));
        }
        take();
        Alternative alternative = std::move(*chosen);
        open.erase(chosen);
        const uint32_t scope_outside = scope;
        context = &alternative.goal.context;
        read_names(alternative);
        const Token &then = *at;
        expect_token(T_then, "`=>`");
        if (peek() != T_line_end) refuse(E_LAYOUT, *at, "the block of `=>` starts on the next line");
        Block inner = {block, t.column + 2, {std::move(alternative.goal)}};
        for (const Alternative &a : open) inner.pending.push_back(a.goal);
        nested_block(inner, then);
        scope = scope_outside;
    }
    if (at->kind == T_bar && at->column == t.column) refuse(E_CASES, *at, "one alternative too many");
}

// ----------------------------------------------------------------------------- [4] level 2: equations on Nat

void Proof::nat_tactic(TokenKind kind, const Token &t) {
    context = &main_goal().context;
    switch (kind) {
    case T_sorry:
        result.sorries++;
        close_goal();
        break;
    case T_exact: {
        const Token &term = *at;
        same(term, equation(), main_goal().target);
        close_goal();
        break;
    }
    case T_rfl: rfl(t); break;
    case T_rw: rw(t); break;
    case T_induction: return induction(t);
    default: assert(false);
    }
    end_of_line();
}

Formula Proof::within_limits(Formula f) {
    if (formulas[f].size > max_nodes)
        refuse(E_LIMIT, *blamed, cat("a normal form of more than ", max_nodes, " nodes"));
    return f;
}

// D-normal form: what unfolding + and * on their second argument gives, and folding of ground terms; no
// commutativity. A normal form is a number, or a core, or core + number; two terms are D-equal if their
// normal forms are the same index. Without `products` the rules of * stay away, except on two numbers: that
// is as much as `rfl` may rely on.
Formula Proof::normal(Formula f, bool products) {
    std::vector<Formula> &known = normal_forms[products];
    if (known.size() <= size_t(f)) known.resize(formulas.count() + f, -1);
    if (known[f] >= 0) return known[f];
    const Formulas::Node n = formulas[f];
    Formula result = f;
    if (n.kind == Plus || n.kind == Times) {
        Formula u = normal(n.a, products), v = normal(n.b, products);
        const bool numbers = formulas[u].kind == Number && formulas[v].kind == Number;
        if (n.kind == Plus) result = add(u, v);
        else result = products || numbers ? multiply(u, v) : within_limits(formulas.make(Times, u, v));
    }
    normal_forms[products][f] = result;
    return result;
}

Formula Proof::add_number(Formula u, long k) {
    const Formulas::Node n = formulas[u];
    const bool offset = n.kind == Plus && formulas[n.b].kind == Number;
    const long value = k + (n.kind == Number ? n.a : offset ? formulas[n.b].a : 0);
    if (value >= max_value) refuse(E_LIMIT, *blamed, "a value of 2^31 or more");
    if (k == 0) return u;
    const Formula number = formulas.make(Number, int(value));
    return n.kind == Number ? number : within_limits(formulas.make(Plus, offset ? n.a : u, number));
}

// x + (y + k) is (x + y) + k
Formula Proof::add(Formula u, Formula v) {
    const Formulas::Node n = formulas[v];
    if (n.kind == Number) return add_number(u, n.a);
    if (n.kind == Plus && formulas[n.b].kind == Number) {
        const int k = formulas[n.b].a;
        return add_number(within_limits(formulas.make(Plus, u, n.a)), k);
    }
    return within_limits(formulas.make(Plus, u, v));
}

// x * 0 is 0, and x * (y + k) is x * y and k copies of x
Formula Proof::multiply(Formula u, Formula v) {
    const Formulas::Node m = formulas[u], n = formulas[v];
    if (m.kind == Number && n.kind == Number) {
        if (long(m.a) * n.a >= max_value) refuse(E_LIMIT, *blamed, "a value of 2^31 or more");
        return formulas.make(Number, m.a * n.a);
    }
    const bool offset = n.kind == Plus && formulas[n.b].kind == Number;
    const int copies = n.kind == Number ? n.a : offset ? formulas[n.b].a : 0;
    if (copies > max_copies)
        refuse(E_LIMIT, *blamed, cat("a product unfolds to more than ", max_copies, " copies"));
    Formula sum = n.kind == Number ? formulas.make(Number, 0) : formulas.make(Times, u, offset ? n.a : v);
    within_limits(sum);
    for (int i = 0; i < copies; i++) sum = add(sum, u);
    return sum;
}

bool Proof::mentions(Formula f, int variable) {
    const Formulas::Node n = formulas[f];
    return n.kind == Variable ? n.a == variable
                              : n.kind >= Iff && (mentions(n.a, variable) || mentions(n.b, variable));
}

Formula Proof::replace(Formula f, int variable, Formula by) {
    const Formulas::Node n = formulas[f];
    if (n.kind == Variable) return n.a == variable ? by : f;
    if (n.kind < Iff) return f;
    const Formula a = replace(n.a, variable, by);
    return formulas.make(n.kind, a, replace(n.b, variable, by));
}

// Replaces every instance of `from`, from the top, not into an instance. Lean looks for instances up to a
// part of D that is hard to state, but only at subterms with the pattern's head: a D-equal one there that is
// not the same text is refused.
Formula Proof::rewrite(Formula f, Formula from, Formula to, bool &found) {
    if (f == from) {
        found = true;
        return to;
    }
    const Formulas::Node n = formulas[f];
    if (n.kind < Iff) return f;
    if (n.kind == formulas[from].kind && normal(f, true) == normal(from, true))
        refuse(E_AMBIGUOUS, *blamed, cat(quoted(f), " equals ", quoted(from), " by computation only"));
    const Formula a = rewrite(n.a, from, to, found);
    return formulas.make(n.kind, a, rewrite(n.b, from, to, found));
}

// One side of a lemma: prefix notation, the letters a, b, c stand for its arguments.
Formula Proof::lemma_side(const char *&s, const Formula *arguments) {
    const char c = *s++;
    if (c == '0' || c == '1') return formulas.make(Number, c - '0');
    if (c >= 'a' && c <= 'c') return arguments[c - 'a'];
    const Formula left = lemma_side(s, arguments);
    return formulas.make(c == '+' ? Plus : Times, left, lemma_side(s, arguments));
}

// HYP   |   ih   |   LEMMA atom+
Formula Proof::equation() {
    if (peek() != T_lemma) return hypothesis();
    const Lemma &lemma = lemmas[at->value];
    take();
    Formula arguments[3] = {};
    for (int i = 0; i < lemma.arguments; i++) {
        argument_start();
        connectives = 0;
        arguments[i] = primary();
    }
    const char *left = lemma.left, *right = lemma.right;
    const Formula from = lemma_side(left, arguments);
    return formulas.make(Equal, from, lemma_side(right, arguments));
}

bool Proof::has_large_number(Formula f) {
    const Formulas::Node n = formulas[f];
    if (n.kind < Iff) return n.kind == Number && n.a > max_offset;
    return has_large_number(n.a) || has_large_number(n.b);
}

// Two closed terms Lean compares as literals, whatever their size. But a numeral beside a variable it may
// unfold, one successor after the other, against a limit on recursion: `a + (b + 600) = a + b + 600` is true,
// and yet Lean's yes is not certain. So there only numerals of a size that was tried against Lean are moved.
void Proof::rfl(const Token &t) {
    blamed = &t;
    const Formulas::Node n = formulas[main_goal().target];
    if (n.a == n.b) return close_goal();
    const Formula u = normal(n.a, false);
    if (u != normal(n.b, false))
        refuse(E_RFL, t,
               cat("the two sides of ", quoted(main_goal().target), " are not the same by computation"));
    if (formulas[u].kind != Number && (has_large_number(main_goal().target) || has_large_number(u)))
        refuse(E_LIMIT, t, cat("beside variables `rfl` moves numerals up to ", max_offset, " only"));
    close_goal();
}

// Afterwards Lean tries a weak `rfl`: what is certainly closed by it is closed
// here, what might be is refused.
void Proof::rw(const Token &t) {
    expect_token(T_open_square, "`[`");
    const bool backwards = accept(T_left_arrow);
    blamed = at;
    const Formulas::Node e = formulas[equation()];
    expect_token(T_close_square, "`]`");
    bool found = false;
    const Formula from = backwards ? e.b : e.a;
    const Formula goal = rewrite(main_goal().target, from, backwards ? e.a : e.b, found);
    if (!found) refuse(E_RW, t, cat(quoted(from), " is not in the goal ", quoted(main_goal().target)));
    if (formulas[goal].size > 2 * max_formula + 1)
        refuse(E_LIMIT, *blamed, cat("a goal of more than ", max_formula, " connectives"));
    const Formulas::Node n = formulas[goal];
    if (n.a == n.b) return close_goal();
    if (normal(n.a, true) == normal(n.b, true))
        refuse(E_AMBIGUOUS, *blamed,
               cat("the sides of ", quoted(goal), " become equal by computation: Lean might close the goal"));
    main_goal().target = goal;
}

// induction n with alternatives `zero` and `succ n ih`. In `zero` the variable is gone.
void Proof::induction(const Token &t) {
    const Token &v = *at;
    expect_token(T_nat_variable, "a variable");
    bool fixed = !(scope >> (v.value - 'a') & 1);
    for (const Hypothesis &h : *context) fixed |= mentions(h.formula, v.value);
    if (fixed) refuse(E_INDUCTION, v, cat(shown(v), " is not in scope, or a hypothesis mentions it"));
    expect_token(T_with, "`with`");
    end_of_line();
    Goal zero = main_goal(), succ = main_goal();
    const Formula n = formulas.make(Variable, v.value);
    zero.target = replace(zero.target, v.value, formulas.make(Number, 0));
    succ.target = replace(succ.target, v.value, formulas.make(Plus, n, formulas.make(Number, 1)));
    if (formulas[succ.target].size > 2 * max_formula + 1)
        refuse(E_LIMIT, t, cat("a goal of more than ", max_formula, " connectives"));
    succ.context.push_back({ih, main_goal().target});
    bool taken = find(ih);
    alternatives(t, {{T_zero, zero, {}}, {T_succ, succ, {}}}, [&](Alternative &chosen) {
        if (chosen.word == T_zero) {
            scope &= ~(1u << (v.value - 'a'));
            return;
        }
        if (peek() != T_nat_variable || at->value != v.value)
            refuse(E_PARSE, *at, cat("the variable here is ", shown(v), " again"));
        take();
        if (taken) refuse(E_NAME_USED, *at, "`ih` is already the name of a hypothesis");
        expect_token(T_ih, "`ih`");
    });
}

// ----------------------------------------------------------------------- [5] a whole text, steps, truncation

void Proof::theorem() {
    const Token &first = *at;
    state_now = {};
    in_header = true;
    Statement s = statement();
    if (std::find(names.begin(), names.end(), s.name) != names.end())
        refuse(E_NAME_USED, (&first)[1], cat("there is a theorem ", s.name, " already"));
    names.push_back(s.name);
    const Token &by = at[-1];
    Block own = {nullptr, 2, {{std::move(s.hypotheses), s.goal}}};
    in_header = false;
    block = &own;
    note_state();
    if (options.steps) header_finishes(by);
    nested_block(own, by);
}

// The first header comes before all steps, a further one is a step of its own.
void Proof::header_finishes(const Token &by) {
    const bool own_line = by.line_end >= 0 && at->begin >= by.line_end;
    if (names.size() > 1) {
        if (own_line) end_step(by.line_end, true);
        return;
    }
    result.header = std::string(text.substr(0, own_line ? by.line_end : by.end));
    result.start = state_now;
    step_end = int(result.header.size());
}

Result Proof::run(std::string_view source, Options o) {
    formulas.clear();
    normal_forms[0].clear();
    normal_forms[1].clear();
    result = {};
    names.clear();
    state_now = {};
    in_header = true;
    block = nullptr;
    tactics = blocks = step_end = 0;
    open(source, o);
    try {
        do theorem();
        while (at->kind != T_end);
        result.pass = true;
        result.complete = result.sorries == 0;
    } catch (const Refusal &r) {
        result.error = r.failure;
    }
    if (options.steps && (result.pass || !in_header)) result.final_state = state_now.print();
    state_now = {};
    result.work = work;
    return std::move(result);
}

struct Checker::Memory {
    Formulas formulas;
    Proof proof{formulas};
};

Checker::Checker() : memory(std::make_unique<Memory>()) {}
Checker::~Checker() = default;

Result Checker::check(std::string_view source, Options options) { return memory->proof.run(source, options); }

std::string truncate(const Result &r) {
    std::string kept = r.header;
    for (const Step &s : r.steps) {
        if (s.sorries > 0) break;
        kept += s.text;
    }
    if (!kept.empty() && kept.back() != '\n') kept += '\n';
    return kept;
}

std::string resume_prompt(const Result &r) {
    const Step *last = nullptr;
    for (const Step &s : r.steps) {
        if (s.sorries > 0) break;
        last = &s;
    }
    std::string kept = truncate(r);
    if (kept.empty()) return kept;
    const std::string indent(last ? last->indent : 2, ' ');
    return kept + indent + "/- tactic state:\n" + (last ? last->after : r.start).print() + "-/\n";
}

}  // namespace lean

// A proof checker for a strict subset of Lean 4, and the theorems to prove with it.
//
// What it is: the verifier from whose verdicts the provers learn. A text that it calls `complete` is
// accepted, byte for byte, by the real Lean 4 (core, no imports). Wherever Lean's answer hangs on
// its version, its unifier or a subtlety of layout, this checker refuses: it would rather be narrow
// than wrong. What it is not: Lean. There are no types beyond Prop and Nat, no elaborator, no
// Mathlib; its messages are not ours.
//
//   Formulas                      every formula once, compared by its index             syntax.cpp [2]
//   Checker::check                a text's verdict, and its steps with their states     checker.cpp
//   truncate, resume_prompt       what is kept of a proof that went wrong               checker.cpp [5]
//   Decider, extract, Generator   statements: provable or not, a proof, new ones        theorems.cpp
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "src/base/random.h"

namespace lean {

// ----------------------------------------------------------------------------------------------------- codes

// clang-format off: stable codes, one for each reason to refuse. The last four are of level 2, sums on Nat.
#define LEAN_CODES(X)                                                                                     \
    X(OK) X(E_LEX) X(E_PARSE) X(E_LAYOUT) X(E_LIMIT) X(E_NAME_USED) X(E_UNKNOWN_ID) X(E_TYPE_MISMATCH)    \
    X(E_NO_GOALS) X(E_UNSOLVED) X(E_INTRO) X(E_ASSUMPTION) X(E_APPLY) X(E_CONSTRUCTOR) X(E_LEFT_RIGHT)    \
    X(E_CASES) X(E_RFL) X(E_RW) X(E_AMBIGUOUS) X(E_INDUCTION)
// clang-format on
#define X(code) code,
enum Code : uint8_t { LEAN_CODES(X) };
#undef X
const char *name(Code code);

// -------------------------------------------------------------------------------------------------- formulas

using Formula = int;  // an index into Formulas: equal formulas have equal indices
enum Kind : uint8_t { Variable, Truth, Falsity, Number, Iff, Implies, Or, And, Equal, Plus, Times };

// Nodes {kind, a, b}, each stored once. A negation is an implication, as in Lean: `¬A` is `A → False`.
// A variable's `a` is its letter, a number's its value. `size` counts the nodes of the tree, not of the
// shared graph. Formulas live until clear().
class Formulas {
public:
    struct Node {
        Kind kind;
        int a, b, size;
    };
    Formulas() : slots(1024) {}
    Formula make(Kind kind, int a = 0, int b = 0);
    Formula negation(Formula f) { return make(Implies, f, make(Falsity)); }
    const Node &operator[](Formula f) const { return nodes[f]; }
    std::string print(Formula f) const;  // with the fewest parentheses
    void clear();
    size_t count() const { return nodes.size(); }

private:
    struct Slot {
        uint32_t generation = 0;
        Formula f = 0;
    };
    std::vector<Node> nodes;
    std::vector<Slot> slots;  // open addressing; a slot of another generation is empty
    uint32_t generation = 1;
    void grow();
};

struct Hypothesis {
    int name;  // 0 is `h`, 1 to 99 are `h1` to `h99`, 100 is `ih`
    Formula formula;
};
std::string hypothesis_name(int name);

// Everything before `:= by`.
struct Statement {
    std::string name = "thm0";
    std::string variables;  // one letter each, in the order of the header
    bool nat = false;
    std::vector<Hypothesis> hypotheses;
    Formula goal = 0;
};
std::string print(const Formulas &formulas, const Statement &s);  // the header line, with its newline
// The statement of a header; what follows it is ignored. One that the subset refuses is the user's mistake.
Statement read_statement(Formulas &formulas, std::string_view source, bool nat = false);
struct Failure;
// A statement that someone asks about: a header, with or without `:= by`, or a formula or equation alone.
bool read_question(Formulas &formulas, std::string_view source, bool nat, Statement &s, Failure &failure);
// The code points of a text, as they may be shown on a terminal: control characters, invisible marks and
// bytes that are no UTF-8 are spelled out.
std::vector<std::string> visible(std::string_view text);

// ----------------------------------------------------------------------------------------------- the checker

struct Options {
    bool nat = false;    // level 2: equations on Nat
    bool steps = false;  // record steps and states (a verdict alone is faster)
};

struct Failure {
    Code code = OK;
    int line = 0, column = 0;  // lines from 1, columns from 0 in code points, as Lean counts them
    std::string message;
    std::string print() const;  // error E_APPLY line 4 col 2: ...
};

// All open goals at one moment, the main one first. A tactic changes one or two of them, so states share the
// texts of their goals: 256 states of 64 wide goals would else be a hundred times as long as the proof.
struct GoalText { std::string named, nameless; };
struct State {
    std::vector<std::shared_ptr<const GoalText>> goals;
    std::string print() const;  // the key of a search tree's node; without goals: `no goals`
    std::string alpha() const;  // the same without names, contexts sorted: merges more states
};

struct Step {
    std::string text;     // from the end of the step before, whole lines
    int indent = 0;       // the column of the tactic that may follow
    State after;          // the goals
    int sorries = 0;      // so far
    bool header = false;  // no tactic: a further theorem begins, with the goal of its header
    std::string state_after() const { return after.print(); }
    std::string key_alpha() const { return after.alpha(); }
};

struct Result {
    bool pass = false;      // no error
    bool complete = false;  // and no goal left, and no sorry
    int sorries = 0;
    Failure error;
    std::string header;  // with steps: what comes before the first step
    State start;         // and the goal of that header
    std::vector<Step> steps;
    std::string final_state;  // with steps: the goals at the end, or where the error is ("": in a header)
    long work = 0;            // tokens read and hypotheses looked at: a measure that no clock disturbs
};

// One object for each thread: it keeps its memory from text to text, and nothing else.
class Checker {
public:
    Checker();
    ~Checker();
    Result check(std::string_view source, Options options = {});

private:
    struct Memory;
    std::unique_ptr<Memory> memory;
};

// The longest prefix of steps before the first error or sorry: header, then text that the
// checker and Lean both follow.
std::string truncate(const Result &r);
// The same, ending in a comment that shows the state: what a model is asked to continue.
std::string resume_prompt(const Result &r);

// --------------------------------------------------------------------- theorems to prove (theorems.cpp)

enum Answer : uint8_t { No, Yes, Unknown };  // Unknown: the budget is spent

// Does a proof exist in the subset? G4ip, a sequent calculus that needs no loop check; complete for
// intuitionistic logic. Answers are kept, so a Decider belongs to one Formulas.
class Decider {
public:
    explicit Decider(Formulas &formulas);
    ~Decider();
    // `spent` is told how much of the budget it took.
    Answer provable(const std::vector<Formula> &context, Formula goal, long budget = 200000,
                    long *spent = nullptr);
    void forget();  // after Formulas::clear
private:
    struct Search;
    std::unique_ptr<Search> search;
};

// V: the hypotheses contradict each other; T: they prove the goal; N: they deny it; U: none of these.
enum Class : uint8_t { V, T, N, U };
Class classify(Formulas &formulas, Decider &decider, const Statement &s, bool *known = nullptr);

using Script = std::vector<std::string>;  // the lines of a proof, indented, without newlines
bool extract(Formulas &formulas, Decider &decider, const Statement &s, Random &random, Script &script);
// The shortest of four; empty if there is none.
Script shortest_script(Formulas &formulas, Decider &decider, const Statement &s, Random &random);
int difficulty(const Script &script);  // 1 to 5: up to 4, 7, 11, 16 lines, or more

Formula random_formula(Formulas &formulas, Random &random, int connectives, int variables);
Statement random_statement(Formulas &formulas, Random &random, int hypotheses, int variables);
Statement chain(Formulas &formulas, Random &random, int length);
bool composite(Formulas &formulas, Decider &decider, Random &random, int parts, Statement &s, Script &script);
bool random_equation(Formulas &formulas, Checker &checker, Random &random, Statement &s, Script &script);
// `rfl`, or few rewritings, or an induction whose cases take few: a small search, so false means nothing.
bool prove_equation(Formulas &formulas, Checker &checker, const Statement &s, Script &script);
Statement negation(Formulas &formulas, const Statement &s);

// The same string for statements that differ in the names of variables, the order of
// hypotheses, or the sides of ∧ ∨ ↔ =.
std::string canonical(const Formulas &formulas, const Statement &s);
enum Split : uint8_t { Train, Valid, Test };
Split split(const std::string &canonical_form);  // by its hash: disjoint across runs, seeds and settings

struct Theorem {
    std::string name;
    Script script;
    std::string source;  // header and proof
    int difficulty = 0;
    Split split = Train;
};
// Theorems with proofs, deterministic by seed, no two with the same canonical form.
class Generator {
public:
    explicit Generator(uint64_t seed, bool nat = false);
    ~Generator();
    Theorem next(int difficulty = 0);  // 0: as they come
private:
    struct Memory;
    std::unique_ptr<Memory> memory;
};
}  // namespace lean

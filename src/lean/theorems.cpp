// Theorems to prove: which statements have a proof, what a short proof looks like, and
// where new statements come from.
//
// A prover learns from statements whose answer is known. So everything here rests on one decision procedure,
// G4ip: it says whether a sequent has an intuitionistic proof, it always ends, and on the sizes met here it
// takes microseconds. With it, scripts are extracted by a search that never enters a dead branch, and random
// statements are sorted into provable, refutable and neither. A canonical form decides once and for all on
// which side of the split a statement is.
//
//   [1] G4ip          [3] random formulas, chains, composites, equations
//   [2] scripts       [4] canonical form and split
//                     [5] the generator
#include <algorithm>
#include <cassert>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include "src/base/error.h"
#include "src/lean/lean.h"

namespace lean {

// -------------------------------------------------------------------------------------------------- [1] G4ip

using Sequent = std::vector<Formula>;  // sorted hypotheses, then the goal
struct SequentHash {
    size_t operator()(const Sequent &s) const {
        uint64_t h = 0;
        for (Formula f : s) h = mix(h ^ uint64_t(f));
        return h;
    }
};

struct Decider::Search {
    Formulas &formulas;
    std::unordered_map<Sequent, bool, SequentHash> known = {};
    size_t known_size = 0;  // formulas in the keys of `known`
    long spent = 0, budget = 0;
    int depth = 0;

    struct OutOfBudget {};
    static constexpr int max_depth = 5000;  // calls: the stack is no place to find out
    static constexpr size_t max_known = 10000000, page = 64;

    // Everything is paid for: a sequent, each further `page` hypotheses that are copied with it, and each
    // formula that is taken apart.
    void pay(size_t amount) {
        spent += long(amount);
        if (spent > budget) throw OutOfBudget{};
    }

    Kind kind(Formula f) const { return formulas[f].kind; }
    static bool has(const Sequent &s, Formula f) { return std::binary_search(s.begin(), s.end(), f); }
    static void insert(Sequent &s, Formula f) {
        const auto at = std::lower_bound(s.begin(), s.end(), f);
        if (at == s.end() || *at != f) s.insert(at, f);
    }
    static Sequent without(Sequent s, Formula f) {
        s.erase(std::lower_bound(s.begin(), s.end(), f));
        return s;
    }
    Formula implies(Formula a, Formula b) { return formulas.make(Implies, a, b); }

    bool simplify(Sequent &context, std::vector<Formula> &todo);
    void implication(Sequent &context, std::vector<Formula> &todo, Formula f);
    bool prove(Sequent context, std::vector<Formula> todo, Formula goal);
    bool choose(const Sequent &context, Formula goal);
    void forget() {
        known.clear();
        known_size = 0;
    }
};

// An implication on the left, by its antecedent. What is left in the context: p → B, and (C → D) → B.
void Decider::Search::implication(Sequent &context, std::vector<Formula> &todo, Formula f) {
    const Formulas::Node n = formulas[f], a = formulas[n.a];
    switch (a.kind) {
    case Truth: todo.push_back(n.b); break;
    case Falsity: break;
    case And: todo.push_back(implies(a.a, implies(a.b, n.b))); break;
    case Iff: todo.push_back(implies(implies(a.a, a.b), implies(implies(a.b, a.a), n.b))); break;
    case Or:
        todo.push_back(implies(a.a, n.b));
        todo.push_back(implies(a.b, n.b));
        break;
    case Variable:
        if (has(context, n.a)) todo.push_back(n.b);
        else insert(context, f);
        break;
    default: insert(context, f);
    }
}

// The invertible rules on the left: adds `todo` to the context, taken apart. True if the context has False.
// A context is a set, so what was taken apart once is not again: (C ∨ D) → B gives B twice, and a conjunction
// of n such antecedents would give it 2^n times.
bool Decider::Search::simplify(Sequent &context, std::vector<Formula> &todo) {
    std::unordered_set<Formula> seen;
    while (!todo.empty()) {
        const Formula f = todo.back();
        todo.pop_back();
        if (!seen.insert(f).second || has(context, f)) continue;
        pay(1);
        const Formulas::Node n = formulas[f];
        switch (n.kind) {
        case Truth: break;
        case Falsity: return true;
        case And: todo.insert(todo.end(), {n.a, n.b}); break;
        case Iff: todo.insert(todo.end(), {implies(n.a, n.b), implies(n.b, n.a)}); break;
        case Implies: implication(context, todo, f); break;
        case Variable: {
            Sequent rest;
            for (Formula g : context) {
                const bool fires = kind(g) == Implies && formulas[g].a == f;
                (fires ? todo : rest).push_back(fires ? formulas[g].b : g);
            }
            context = std::move(rest);
            insert(context, f);
            break;
        }
        default: insert(context, f);
        }
    }
    return false;
}

bool Decider::Search::prove(Sequent context, std::vector<Formula> todo, Formula goal) {
    pay(1 + context.size() / page);
    if (depth >= max_depth) throw OutOfBudget{};
    if (kind(goal) == Truth || std::find(todo.begin(), todo.end(), goal) != todo.end() ||
        simplify(context, todo))
        return true;
    if (has(context, goal)) return true;
    depth++;
    const Formulas::Node n = formulas[goal];
    bool yes;
    if (n.kind == Implies) yes = prove(context, {n.a}, n.b);
    else if (n.kind == And) yes = prove(context, {}, n.a) && prove(context, {}, n.b);
    else if (n.kind == Iff) yes = prove(context, {n.a}, n.b) && prove(context, {n.b}, n.a);
    else yes = choose(context, goal);
    depth--;
    return yes;
}

// Nothing invertible is left but ∨ on the left: then the real choices, remembered by sequent.
bool Decider::Search::choose(const Sequent &context, Formula goal) {
    Sequent key = context;
    key.push_back(goal);
    const auto remembered = known.find(key);
    if (remembered != known.end()) return remembered->second;
    const Formulas::Node n = formulas[goal];
    bool yes = false;
    const auto disjunction =
        std::find_if(context.begin(), context.end(), [&](Formula f) { return kind(f) == Or; });
    if (disjunction != context.end()) {
        const Formulas::Node d = formulas[*disjunction];
        const Sequent rest = without(context, *disjunction);
        yes = prove(rest, {d.a}, goal) && prove(rest, {d.b}, goal);
    } else {
        if (n.kind == Or) yes = prove(context, {}, n.a) || prove(context, {}, n.b);
        for (size_t i = 0; i < context.size() && !yes; i++) {
            const Formulas::Node f = formulas[context[i]];
            if (f.kind != Implies || kind(f.a) != Implies) continue;
            const Formulas::Node inner = formulas[f.a];  // (C → D) → B
            const Sequent rest = without(context, context[i]);
            yes = prove(rest, {implies(inner.b, f.b), inner.a}, inner.b) && prove(rest, {f.b}, goal);
        }
    }
    if (known_size >= max_known) forget();
    known_size += key.size();
    known.emplace(std::move(key), yes);
    return yes;
}

Decider::Decider(Formulas &formulas) : search(new Search{formulas}) {}
Decider::~Decider() = default;
void Decider::forget() { search->forget(); }

Answer Decider::provable(const std::vector<Formula> &context, Formula goal, long budget, long *spent) {
    search->spent = search->depth = 0;
    search->budget = budget;
    Answer answer = Unknown;
    try {
        answer = search->prove({}, context, goal) ? Yes : No;
    } catch (Search::OutOfBudget) {}
    if (spent) *spent = search->spent;
    return answer;
}

Class classify(Formulas &formulas, Decider &decider, const Statement &s, bool *known) {
    std::vector<Formula> context;
    for (const Hypothesis &h : s.hypotheses) context.push_back(h.formula);
    const std::pair<Class, Formula> questions[] = {
        {V, formulas.make(Falsity)}, {T, s.goal}, {N, formulas.negation(s.goal)}};
    if (known) *known = true;
    for (auto [c, goal] : questions) {
        const Answer answer = decider.provable(context, goal);
        if (answer == Yes) return c;
        if (answer == Unknown && known) *known = false;
    }
    return U;
}

// ----------------------------------------------------------------------------------------------- [2] scripts

template <class Item> static void shuffle(Random &random, std::vector<Item> &items) {
    for (size_t i = items.size(); i > 1; i--) std::swap(items[i - 1], items[random.below(int(i))]);
}

// Searches backwards for a flat script: Lean runs tactics on the first goal, so the lines for the
// first new goal come first. Every branch is tested by G4ip before it is entered; what can still
// fail is running in a circle.
struct Extraction {
    Formulas &formulas;
    Decider &decider;
    Random &random;
    Script script = {};
    std::set<Sequent> branch = {};  // the sequents from the root to here
    int column = 2, visits = 0;
    long left = 1000000;  // sequents for all questions together
    static constexpr size_t max_lines = 200;
    static constexpr int max_visits = 2000;
    static constexpr long max_sequents = 200000;  // for one question

    struct Sub {
        std::vector<Hypothesis> context;
        Formula goal;
    };

    Kind kind(Formula f) const { return formulas[f].kind; }
    bool provable(const std::vector<Hypothesis> &context, Formula goal) {
        std::vector<Formula> gamma;
        for (const Hypothesis &h : context) gamma.push_back(h.formula);
        long spent = 0;
        const bool yes = decider.provable(gamma, goal, std::min(left, max_sequents), &spent) == Yes;
        left -= std::min(left, spent);
        return yes;
    }
    bool line(const std::string &tactic) {
        script.push_back(std::string(column, ' ') + tactic);
        return script.size() <= max_lines;
    }
    static int free_name(const std::vector<Hypothesis> &context) {  // the smallest of h1, h2, ...
        for (int name = 1;; name++)
            if (std::none_of(context.begin(), context.end(),
                             [&](const Hypothesis &h) { return h.name == name; }))
                return name;
    }
    const static Hypothesis *holds(const std::vector<Hypothesis> &context, Formula f) {
        for (const Hypothesis &h : context)
            if (h.formula == f) return &h;
        return nullptr;
    }
    static std::vector<Hypothesis> dropped(std::vector<Hypothesis> context, int name) {
        context.erase(std::find_if(context.begin(), context.end(), [&](auto &h) { return h.name == name; }));
        return context;
    }

    bool close(const Sub &s);
    bool close_all(const std::string &tactic, const std::vector<Sub> &subs);
    bool steps(const Sub &s);
    bool take_pair(const Sub &s, const Hypothesis &h);
    bool take_or(const Sub &s, const Hypothesis &h);
    bool forward(const Sub &s, const std::vector<Hypothesis> &needed, bool &tried);
    bool choices(const Sub &s, const std::vector<Hypothesis> &needed);
    bool lemma(const Sub &s, const std::vector<Hypothesis> &needed);
    std::vector<Hypothesis> needed_for(const Sub &s, bool newest_first);
    bool steps_with(const Sub &s, const std::vector<Hypothesis> &needed);
};

// A line, and then everything that it leaves; undone if something of it fails.
bool Extraction::close_all(const std::string &tactic, const std::vector<Sub> &subs) {
    const size_t before = script.size();
    const bool done =
        line(tactic) && std::all_of(subs.begin(), subs.end(), [&](const Sub &s) { return close(s); });
    if (!done) script.resize(before);
    return done;
}

bool Extraction::close(const Sub &s) {
    Sequent key;
    for (const Hypothesis &h : s.context) key.push_back(h.formula);
    std::sort(key.begin(), key.end());
    key.erase(std::unique(key.begin(), key.end()), key.end());
    key.push_back(s.goal);
    if (++visits > max_visits || !branch.insert(key).second) return false;
    const bool done = steps(s);
    branch.erase(key);
    return done;
}

// Drop each hypothesis as long as the rest still proves the goal, newest or oldest first.
std::vector<Hypothesis> Extraction::needed_for(const Sub &s, bool newest_first) {
    std::vector<Hypothesis> candidates = s.context, needed = s.context;
    if (newest_first) std::reverse(candidates.begin(), candidates.end());
    for (const Hypothesis &h : candidates) {
        std::vector<Hypothesis> fewer = dropped(needed, h.name);
        if (provable(fewer, s.goal)) needed = std::move(fewer);
    }
    return needed;
}

bool Extraction::steps(const Sub &s) {
    const Formulas::Node n = formulas[s.goal];
    if (const Hypothesis *h = holds(s.context, s.goal)) return line("exact " + hypothesis_name(h->name));
    if (const Hypothesis *h = holds(s.context, formulas.make(Falsity)))
        return line("exfalso") && line("exact " + hypothesis_name(h->name));
    if (n.kind == Truth) return line("constructor");
    if (n.kind == Implies) {
        Sub after = {s.context, n.b};
        after.context.push_back({free_name(s.context), n.a});
        return close_all("intro " + hypothesis_name(after.context.back().name), {after});
    }
    std::vector<Hypothesis> needed = needed_for(s, true);
    if (steps_with(s, needed)) return true;
    // The older of two sets that would do may lead in a circle: after `have h3 : q ∧ r := h1 h2` the goal r
    // needs h1 and h2 no more, but h3.
    std::vector<Hypothesis> others = needed_for(s, false);
    const auto same_name = [](const Hypothesis &a, const Hypothesis &b) { return a.name == b.name; };
    return !std::equal(needed.begin(), needed.end(), others.begin(), others.end(), same_name) &&
           steps_with(s, others);
}

// The lines that touch needed hypotheses only.
bool Extraction::steps_with(const Sub &s, const std::vector<Hypothesis> &needed) {
    const Formulas::Node n = formulas[s.goal];
    for (const Hypothesis &h : needed)
        if (kind(h.formula) == And || kind(h.formula) == Iff) return take_pair(s, h);
    if (n.kind == And) return close_all("constructor", {{s.context, n.a}, {s.context, n.b}});
    if (n.kind == Iff) {
        Formula forth = formulas.make(Implies, n.a, n.b), back = formulas.make(Implies, n.b, n.a);
        return close_all("constructor", {{s.context, forth}, {s.context, back}});
    }
    for (const Hypothesis &h : needed)
        if (kind(h.formula) == Or) return take_or(s, h);
    bool tried = false;
    const bool done = forward(s, needed, tried);
    if (tried) return done;
    const bool all_needed = needed.size() == s.context.size();
    return choices(s, needed) || lemma(s, needed) || (!all_needed && choices(s, s.context));
}

bool Extraction::take_pair(const Sub &s, const Hypothesis &h) {
    const Formulas::Node n = formulas[h.formula];
    Sub after = {dropped(s.context, h.name), s.goal};
    const bool iff = n.kind == Iff;
    const int a = h.name;  // the consumed name is free again
    after.context.push_back({a, iff ? formulas.make(Implies, n.a, n.b) : n.a});
    const int b = free_name(after.context);
    after.context.push_back({b, iff ? formulas.make(Implies, n.b, n.a) : n.b});
    std::string old_name = hypothesis_name(h.name), names = hypothesis_name(a) + ", " + hypothesis_name(b);
    return close_all("rcases " + old_name + " with ⟨" + names + "⟩", {after});
}

bool Extraction::take_or(const Sub &s, const Hypothesis &h) {
    const Formulas::Node n = formulas[h.formula];
    Sub left = {dropped(s.context, h.name), s.goal}, right = left;
    left.context.push_back({h.name, n.a});
    right.context.push_back({h.name, n.b});
    const std::string name = hypothesis_name(h.name);
    return close_all("rcases " + name + " with " + name + " | " + name, {left, right});
}

// Modus ponens with two hypotheses.
bool Extraction::forward(const Sub &s, const std::vector<Hypothesis> &needed, bool &tried) {
    for (const Hypothesis &h : needed) {
        const Formulas::Node n = formulas[h.formula];
        const Hypothesis *a = n.kind == Implies ? holds(s.context, n.a) : nullptr;
        if (!a || holds(s.context, n.b)) continue;
        tried = true;
        const std::string term = hypothesis_name(h.name) + " " + hypothesis_name(a->name);
        if (n.b == s.goal) return line("exact " + term);
        Sub after = s;
        after.context.push_back({free_name(s.context), n.b});
        const std::string name = hypothesis_name(after.context.back().name);
        return close_all("have " + name + " : " + formulas.print(n.b) + " := " + term, {after});
    }
    return false;
}

// left, right, exfalso, and `apply` of what concludes the goal: in random order,
// those whose goals can be proved.
bool Extraction::choices(const Sub &s, const std::vector<Hypothesis> &needed) {
    struct Choice {
        std::string tactic;
        std::vector<Sub> subs;
    };
    std::vector<Choice> possible;
    const Formulas::Node n = formulas[s.goal];
    if (n.kind == Or) possible = {{"left", {{s.context, n.a}}}, {"right", {{s.context, n.b}}}};
    if (n.kind != Falsity) possible.push_back({"exfalso", {{s.context, formulas.make(Falsity)}}});
    for (const Hypothesis &h : needed) {
        Choice c = {"apply " + hypothesis_name(h.name), {}};
        Formula f = h.formula;
        for (; kind(f) == Implies; f = formulas[f].b) c.subs.push_back({s.context, formulas[f].a});
        if (f == s.goal && !c.subs.empty()) possible.push_back(std::move(c));
    }
    shuffle(random, possible);
    for (const Choice &c : possible) {
        const bool alive = std::all_of(c.subs.begin(), c.subs.end(),
                                       [&](auto &sub) { return provable(sub.context, sub.goal); });
        if (alive && close_all(c.tactic, c.subs)) return true;
    }
    return false;
}

// The antecedent of a needed implication, proved in a block of its own.
bool Extraction::lemma(const Sub &s, const std::vector<Hypothesis> &needed) {
    for (const Hypothesis &h : needed) {
        const Formulas::Node n = formulas[h.formula];
        if (n.kind != Implies || holds(s.context, n.a) || !provable(s.context, n.a)) continue;
        const size_t before = script.size();
        Sub after = s;
        after.context.push_back({free_name(s.context), n.a});
        line("have " + hypothesis_name(after.context.back().name) + " : " + formulas.print(n.a) + " := by");
        column += 2;
        const bool block = close({s.context, n.a});
        column -= 2;
        if (block && close(after)) return true;
        script.resize(before);
    }
    return false;
}

bool extract(Formulas &formulas, Decider &decider, const Statement &s, Random &random, Script &script) {
    Extraction e{formulas, decider, random};
    const bool found = e.provable(s.hypotheses, s.goal) && e.close({s.hypotheses, s.goal});
    script = found ? std::move(e.script) : Script();
    return found;
}

Script shortest_script(Formulas &formulas, Decider &decider, const Statement &s, Random &random) {
    Script best;
    for (int i = 0; i < 4; i++) {
        Script script;
        if (extract(formulas, decider, s, random, script) && (best.empty() || script.size() < best.size()))
            best = std::move(script);
    }
    return best;
}

int difficulty(const Script &script) {
    const size_t n = script.size();
    return n <= 4 ? 1 : n <= 7 ? 2 : n <= 11 ? 3 : n <= 16 ? 4 : 5;
}

// -------------------------------------------------------- [3] random formulas, chains, composites, equations

const static char letters[] = "pqrstu", nat_letters[] = "abckmn";

Formula random_formula(Formulas &formulas, Random &random, int connectives, int variables) {
    if (connectives == 0) {
        const bool variable = random.chance(95);
        return variable ? formulas.make(Variable, letters[random.below(variables)]) : formulas.make(Falsity);
    }
    const int dice = random.below(100);
    if (dice < 14) return formulas.negation(random_formula(formulas, random, connectives - 1, variables));
    const Kind kind = dice < 50 ? Implies : dice < 72 ? And : dice < 94 ? Or : Iff;
    const int left = random.below(connectives);
    const Formula a = random_formula(formulas, random, left, variables);
    return formulas.make(kind, a, random_formula(formulas, random, connectives - 1 - left, variables));
}

// Without hypotheses 3 to 10 connectives; with some, each of them and the goal have 1 to 4.
Statement random_statement(Formulas &formulas, Random &random, int hypotheses, int variables) {
    Statement s;
    s.variables = std::string(letters, size_t(variables));
    for (int i = 1; i <= hypotheses; i++)
        s.hypotheses.push_back({i, random_formula(formulas, random, 1 + random.below(4), variables)});
    const int connectives = hypotheses == 0 ? 3 + random.below(8) : 1 + random.below(4);
    s.goal = random_formula(formulas, random, connectives, variables);
    return s;
}

// p0 → p1, p1 → p2, ... in some order, with distractors; goal p0 → pd. As many steps as
// links, and nothing to search.
Statement chain(Formulas &formulas, Random &random, int length) {
    expect(length >= 1 && length <= 5, "chain: ", length, " links, but there are six variables");
    Statement s;
    s.variables = letters;
    std::vector<Formula> links, v;
    for (char c : s.variables) v.push_back(formulas.make(Variable, c));
    shuffle(random, v);
    for (int i = 0; i < length; i++) links.push_back(formulas.make(Implies, v[i], v[i + 1]));
    for (int i = length + 1; i < 6; i++)  // distractors lead away from the chain
        links.push_back(formulas.make(Implies, v[random.below(length + 1)], v[i]));
    shuffle(random, links);
    for (size_t i = 0; i < links.size(); i++) s.hypotheses.push_back({int(i) + 1, links[i]});
    s.goal = formulas.make(Implies, v[0], v[length]);
    return s;
}

// Several provable conclusions of common hypotheses, joined by ∧: at most four lines once the parts are
// known, twelve or more without them, and every part is missed when it is left out.
bool composite(Formulas &formulas, Decider &decider, Random &random, int parts, Statement &s,
               Script &script) {
    s = random_statement(formulas, random, 2 + random.below(2), 3);
    std::vector<Formula> conclusions;
    for (int attempt = 0; attempt < 60 && int(conclusions.size()) < parts; attempt++) {
        s.goal = random_formula(formulas, random, 3 + random.below(4), 3);
        const bool fresh = std::find(conclusions.begin(), conclusions.end(), s.goal) == conclusions.end();
        if (fresh && classify(formulas, decider, s) == T) conclusions.push_back(s.goal);
    }
    if (int(conclusions.size()) < parts) return false;
    s.goal = conclusions.back();
    for (size_t i = conclusions.size() - 1; i-- > 0;) s.goal = formulas.make(And, conclusions[i], s.goal);
    script = shortest_script(formulas, decider, s, random);
    if (script.size() < 12) return false;
    for (int missing = -1; missing < parts; missing++) {
        Statement known = s;
        for (int i = 0; i < parts; i++)
            if (i != missing) known.hypotheses.push_back({20 + i, conclusions[i]});
        const Script with_parts = shortest_script(formulas, decider, known, random);
        const bool is_short = !with_parts.empty() && with_parts.size() <= 4;
        if (is_short != (missing < 0)) return false;
    }
    return true;
}

static Formula random_sum(Formulas &formulas, Random &random, int operations, int variables) {
    if (operations == 0) {
        const bool variable = random.chance(75);
        return variable ? formulas.make(Variable, nat_letters[random.below(variables)])
                        : formulas.make(Number, random.below(3));
    }
    const int left = random.below(operations);
    const Formula a = random_sum(formulas, random, left, variables);
    const Kind kind = random.chance(60) ? Plus : Times;
    return formulas.make(kind, a, random_sum(formulas, random, operations - 1 - left, variables));
}

// A place in a term where a lemma applies: its text in `rw`, all arguments given, and what becomes of it.
struct Rewriting {
    std::string lemma;
    Formula from, to;
};

// All of them, from left to right. What only makes a term longer (← Nat.add_zero and the like) is left out.
struct Rewritings {
    Formulas &formulas;
    std::vector<Rewriting> found = {};

    std::string text(Formula f) const {
        return formulas[f].kind < Iff ? formulas.print(f) : "(" + formulas.print(f) + ")";
    }
    bool is(Formula f, int number) const { return formulas[f].kind == Number && formulas[f].a == number; }
    void note(const std::string &lemma, std::initializer_list<Formula> arguments, Formula from, Formula to) {
        std::string call = lemma;
        for (Formula f : arguments) call += " " + text(f);
        found.push_back({call, from, to});
    }

    void in(Formula f) {
        const Formulas::Node n = formulas[f];
        if (n.kind < Iff) return;
        if (n.kind == Plus || n.kind == Times) {
            with_numbers(f);
            regrouped(f);
        }
        in(n.a);
        in(n.b);
    }
    void with_numbers(Formula f) {
        const Formulas::Node n = formulas[f];
        const bool sum = n.kind == Plus;
        const std::string family = sum ? "Nat.add_" : "Nat.mul_";
        if (is(n.b, 0)) note(family + "zero", {n.a}, f, sum ? n.a : n.b);
        if (is(n.a, 0)) note(sum ? "Nat.zero_add" : "Nat.zero_mul", {n.b}, f, sum ? n.b : n.a);
        if (!sum && is(n.b, 1)) note("Nat.mul_one", {n.a}, f, n.a);
        if (!sum && is(n.a, 1)) note("Nat.one_mul", {n.b}, f, n.b);
    }
    void regrouped(Formula f) {
        const auto make = [&](Kind kind, Formula a, Formula b) { return formulas.make(kind, a, b); };
        const Formulas::Node n = formulas[f], a = formulas[n.a], b = formulas[n.b];
        const std::string family = n.kind == Plus ? "Nat.add_" : "Nat.mul_";
        note(family + "comm", {n.a, n.b}, f, make(n.kind, n.b, n.a));
        if (a.kind == n.kind)
            note(family + "assoc", {a.a, a.b, n.b}, f, make(n.kind, a.a, make(n.kind, a.b, n.b)));
        if (b.kind == n.kind)
            note("← " + family + "assoc", {n.a, b.a, b.b}, f, make(n.kind, make(n.kind, n.a, b.a), b.b));
        if (n.kind == Times && b.kind == Plus)
            note("Nat.mul_add", {n.a, b.a, b.b}, f, make(Plus, make(Times, n.a, b.a), make(Times, n.a, b.b)));
        if (n.kind == Times && a.kind == Plus)
            note("Nat.add_mul", {a.a, a.b, n.b}, f, make(Plus, make(Times, a.a, n.b), make(Times, a.b, n.b)));
        const bool products = n.kind == Plus && a.kind == Times && b.kind == Times;
        if (products && a.a == b.a)
            note("← Nat.mul_add", {a.a, a.b, b.b}, f, make(Times, a.a, make(Plus, a.b, b.b)));
        if (products && a.b == b.b)
            note("← Nat.add_mul", {a.a, b.a, a.b}, f, make(Times, make(Plus, a.a, b.a), a.b));
    }
};

static std::vector<Rewriting> rewritings(Formulas &formulas, Formula f) {
    Rewritings all{formulas};
    all.in(f);
    return std::move(all.found);
}

static Formula substitute(Formulas &formulas, Formula f, Formula from, Formula to) {
    const Formulas::Node n = formulas[f];
    if (f == from || n.kind < Iff) return f == from ? to : f;
    const Formula a = substitute(formulas, n.a, from, to);
    return formulas.make(n.kind, a, substitute(formulas, n.b, from, to));
}

static std::string source_of(const Formulas &formulas, const Statement &s, const Script &script) {
    std::string out = print(formulas, s);
    for (const std::string &l : script) out += l + "\n";
    return out;
}

static bool complete(const Formulas &formulas, Checker &checker, const Statement &s, const Script &script) {
    return checker.check(source_of(formulas, s, script), {true, false}).complete;
}

// What has to be proved by induction: in the statement and in the lines `@` is the variable, X and Y are any
// terms without it. The case zero is `rfl` where that is enough. Each step of succ uses ih.
struct Induction { const char *statement, *zero, *succ; };
const static Induction inductions[] = {
    {"0 + @ = @", "rfl", "rw [← Nat.add_assoc 0 @ 1]|rw [ih]"},
    {"1 * @ = @", "rfl", "rw [Nat.mul_add 1 @ 1]|rw [Nat.mul_one 1]|rw [ih]"},
    {"0 * @ = 0", "rfl", "rw [Nat.mul_add 0 @ 1]|rw [Nat.mul_one 0]|rw [Nat.add_zero (0 * @)]|exact ih"},
    {"X + 1 + @ = X + @ + 1", "rfl", "rw [← Nat.add_assoc (X + 1) @ 1]|rw [← Nat.add_assoc X @ 1]|rw [ih]"},
    {"X + @ = @ + X", "rw [Nat.add_zero X]|rw [Nat.zero_add X]",
     "rw [← Nat.add_assoc X @ 1]|rw [ih]|rw [Nat.add_assoc @ X 1]|rw [Nat.add_assoc @ 1 X]|"
     "rw [Nat.add_comm X 1]"},
    {"X + Y + @ = X + (Y + @)", "rfl",
     "rw [← Nat.add_assoc Y @ 1]|rw [← Nat.add_assoc X (Y + @) 1]|rw [← Nat.add_assoc (X + Y) @ 1]|rw [ih]"},
    {"X * @ = @ * X", "rw [Nat.mul_zero X]|rw [Nat.zero_mul X]",
     "rw [Nat.mul_add X @ 1]|rw [Nat.mul_one X]|rw [ih]|rw [Nat.add_mul @ 1 X]|rw [Nat.one_mul X]"},
    {"X * Y * @ = X * (Y * @)", "exact Nat.mul_assoc X Y 0",
     "rw [Nat.mul_add (X * Y) @ 1]|rw [Nat.mul_one (X * Y)]|rw [ih]|rw [Nat.mul_add Y @ 1]|"
     "rw [Nat.mul_one Y]|rw [Nat.mul_add X (Y * @) Y]"},
    {"X * (Y + @) = X * Y + X * @", "exact Nat.mul_add X Y 0",
     "rw [← Nat.add_assoc Y @ 1]|rw [Nat.mul_add X (Y + @) 1]|rw [ih]|rw [Nat.mul_add X @ 1]|"
     "rw [← Nat.add_assoc (X * Y) (X * @) (X * 1)]"},
    {"(X + Y) * @ = X * @ + Y * @", "exact Nat.add_mul X Y 0",
     "rw [Nat.mul_add (X + Y) @ 1]|rw [Nat.mul_one (X + Y)]|rw [ih]|rw [Nat.mul_add X @ 1]|"
     "rw [Nat.mul_one X]|rw [Nat.mul_add Y @ 1]|rw [Nat.mul_one Y]|"
     "rw [Nat.add_assoc (X * @) (Y * @) (X + Y)]|rw [← Nat.add_assoc (Y * @) X Y]|"
     "rw [Nat.add_comm (Y * @) X]|rw [Nat.add_assoc X (Y * @) Y]|"
     "rw [← Nat.add_assoc (X * @) X (Y * @ + Y)]"}};

static void add_lines(Script &script, int column, const std::string &lines) {
    for (size_t i = 0; i <= lines.size();) {
        const size_t end = std::min(lines.find('|', i), lines.size());
        script.push_back(std::string(size_t(column), ' ') + lines.substr(i, end - i));
        i = end + 1;
    }
}

static Script by_induction(char variable, const std::string &zero, const std::string &succ) {
    const std::string v(1, variable);
    Script script = {"  induction " + v + " with", "  | zero =>"};
    add_lines(script, 4, zero);
    script.push_back("  | succ " + v + " ih =>");
    add_lines(script, 4, succ);
    return script;
}

// An instance of one of them, sometimes behind rewritings that lead to it: those are added in front, the
// statement being what the last rewriting starts from.
static bool random_induction(Formulas &formulas, Checker &checker, Random &random, Statement &s,
                             Script &script) {
    const Induction &form = inductions[random.below(int(std::size(inductions)))];
    int others = 1 + random.below(2);
    s.variables = std::string(nat_letters, size_t(others + 1));
    char v = s.variables[size_t(others)];
    const auto term = [&] {
        const Formula f = random_sum(formulas, random, random.below(3), others);
        return formulas[f].kind < Iff ? formulas.print(f) : "(" + formulas.print(f) + ")";
    };
    std::string x = term(), y = term();
    const auto filled = [&](const char *text) {
        std::string out;
        for (const char *c = text; *c; c++)
            out += *c == '@' ? std::string(1, v) : *c == 'X' ? x : *c == 'Y' ? y : std::string(1, *c);
        return out;
    };
    Statement blank = s;
    blank.goal = formulas.make(Equal, formulas.make(Number, 0), formulas.make(Number, 0));
    std::string header = print(formulas, blank);
    header.replace(header.find("0 = 0"), 5, filled(form.statement));
    s.goal = read_statement(formulas, header, true).goal;
    script = by_induction(v, "rfl", filled(form.succ));
    if (!complete(formulas, checker, s, script))
        script = by_induction(v, filled(form.zero), filled(form.succ));
    for (int more = random.below(3); more > 0; more--) {
        std::vector<Rewriting> possible = rewritings(formulas, s.goal);
        const Rewriting &r = possible[random.below(int(possible.size()))];
        const bool back = r.lemma.compare(0, 3, "←") == 0;
        Statement before = s;
        before.goal = substitute(formulas, s.goal, r.from, r.to);
        Script longer = {"  rw [" + (back ? r.lemma.substr(4) : "← " + r.lemma) + "]"};
        longer.insert(longer.end(), script.begin(), script.end());
        if (complete(formulas, checker, before, longer)) {
            s = before;
            script = longer;
        }
    }
    return complete(formulas, checker, s, script);
}

// A walk of rewritings from a random term: its ends are the statement, its steps the proof, unless `rfl` is
// enough. Not every walk is a proof (a rewriting also changes the other side, or the goal closes early), so
// the checker has the last word.
static bool random_walk(Formulas &formulas, Checker &checker, Random &random, Statement &s, Script &script) {
    const int variables = 2 + random.below(2);
    s.variables = std::string(nat_letters, size_t(variables));
    Formula start = random_sum(formulas, random, 2 + random.below(4), variables), f = start;
    script.clear();
    for (int steps = 1 + random.below(5); steps > 0; steps--) {
        std::vector<Rewriting> possible = rewritings(formulas, f);
        if (possible.empty()) break;
        const Rewriting &r = possible[random.below(int(possible.size()))];
        f = substitute(formulas, f, r.from, r.to);
        script.push_back("  rw [" + r.lemma + "]");
    }
    s.goal = formulas.make(Equal, start, f);
    if (start != f && complete(formulas, checker, s, {"  rfl"})) {
        script = {"  rfl"};
        return true;
    }
    while (!script.empty()) {
        const Result r = checker.check(source_of(formulas, s, script), {true, false});
        if (r.complete) return true;
        if (r.error.code != E_NO_GOALS) return false;
        script.pop_back();  // closed early
    }
    return false;
}

bool random_equation(Formulas &formulas, Checker &checker, Random &random, Statement &s, Script &script) {
    s = Statement();
    s.nat = true;
    const bool induction = random.chance(20);
    return induction ? random_induction(formulas, checker, random, s, script)
                     : random_walk(formulas, checker, random, s, script);
}

// ------------------------------------------------------------------------- equations that someone asks about

// Breadth first through the goals that single rewritings lead to. The checker says which lines are legal and
// when a goal is closed; `before` are the lines of an induction that come first.
struct EquationSearch {
    Formulas &formulas;
    Checker &checker;
    const Statement &statement;
    Script before = {};
    std::string indent = "  ";
    int checks = 3000;

    struct Node {
        Formula goal;
        Script lines;
    };
    enum Outcome { Closed, Open, Refused };

    Outcome outcome(const Script &lines) {
        Script all = before;
        all.insert(all.end(), lines.begin(), lines.end());
        checks--;
        const Result r = checker.check(source_of(formulas, statement, all), {true, false});
        const bool zero_done = r.error.code == E_CASES;  // succ is still to come
        return r.complete || zero_done ? Closed : r.error.code == E_UNSOLVED ? Open : Refused;
    }
    std::vector<Rewriting> moves(Formula goal, const std::vector<Hypothesis> &known) {
        std::vector<Rewriting> all;
        for (const Hypothesis &h : known) {
            const Formulas::Node e = formulas[h.formula];
            all.push_back({hypothesis_name(h.name), e.a, e.b});
            all.push_back({"← " + hypothesis_name(h.name), e.b, e.a});
        }
        for (Rewriting &r : rewritings(formulas, goal)) all.push_back(std::move(r));
        return all;
    }
    bool run(Formula goal, const std::vector<Hypothesis> &known, Script &script) {
        script = {indent + "rfl"};
        if (outcome(script) == Closed) return true;
        for (const Hypothesis &h : known) {
            script = {indent + "exact " + hypothesis_name(h.name)};
            if (h.formula == goal && outcome(script) == Closed) return true;
        }
        std::vector<Node> nodes = {{goal, {}}};
        std::unordered_set<Formula> seen = {goal};
        for (size_t i = 0; i < nodes.size(); i++)
            for (const Rewriting &r : moves(nodes[i].goal, known)) {
                const Formula next = substitute(formulas, nodes[i].goal, r.from, r.to);
                if (!seen.insert(next).second) continue;
                if (checks <= 0) return false;
                script = nodes[i].lines;
                script.push_back(indent + "rw [" + r.lemma + "]");
                const Outcome o = outcome(script);
                if (o == Closed) return true;
                if (o == Open) nodes.push_back({next, script});
            }
        return false;
    }
};

static bool search_induction(Formulas &formulas, Checker &checker, const Statement &s, char v,
                             Script &script) {
    Formula n = formulas.make(Variable, v), one = formulas.make(Number, 1);
    EquationSearch search{formulas, checker, s};
    search.before = {std::string("  induction ") + v + " with", "  | zero =>"};
    search.indent = "    ";
    Script lines;
    if (!search.run(substitute(formulas, s.goal, n, formulas.make(Number, 0)), s.hypotheses, lines))
        return false;
    search.before.insert(search.before.end(), lines.begin(), lines.end());
    search.before.push_back(std::string("  | succ ") + v + " ih =>");
    std::vector<Hypothesis> known = s.hypotheses;
    known.push_back({100, s.goal});  // ih
    search.checks = 6000;
    if (!search.run(substitute(formulas, s.goal, n, formulas.make(Plus, n, one)), known, lines)) return false;
    script = search.before;
    script.insert(script.end(), lines.begin(), lines.end());
    return true;
}

bool prove_equation(Formulas &formulas, Checker &checker, const Statement &s, Script &script) {
    EquationSearch direct{formulas, checker, s};
    if (direct.run(s.goal, s.hypotheses, script)) return true;
    for (char v : s.variables)
        if (search_induction(formulas, checker, s, v, script) && complete(formulas, checker, s, script))
            return true;
    script.clear();
    return false;
}

Statement negation(Formulas &formulas, const Statement &s) {
    Statement n = s;
    n.name += "_neg";
    n.goal = formulas.negation(s.goal);
    return n;
}

// ------------------------------------------------------------------------------ [4] canonical form and split

// Prefix notation; the two sides of ∧ ∨ ↔ = in the order of their strings, letters renamed.
static std::string serialise(const Formulas &formulas, Formula f, const char *renamed) {
    const Formulas::Node n = formulas[f];
    switch (n.kind) {
    case Variable: return std::string(1, renamed[uint8_t(n.a)]);
    case Truth: return "1";
    case Falsity: return "0";
    case Number: return "#" + std::to_string(n.a) + ";";
    default: break;
    }
    std::string a = serialise(formulas, n.a, renamed), b = serialise(formulas, n.b, renamed);
    const bool commutes = n.kind == And || n.kind == Or || n.kind == Iff || n.kind == Equal;
    if (commutes && b < a) std::swap(a, b);
    return "=>|&~+*"[n.kind - Iff] + a + b;
}

static void note_variables(const Formulas &formulas, Formula f, std::set<char> &used) {
    const Formulas::Node n = formulas[f];
    if (n.kind == Variable) used.insert(char(n.a));
    if (n.kind >= Iff) {
        note_variables(formulas, n.a, used);
        note_variables(formulas, n.b, used);
    }
}

std::string canonical(const Formulas &formulas, const Statement &s) {
    std::set<char> used;
    note_variables(formulas, s.goal, used);
    for (const Hypothesis &h : s.hypotheses) note_variables(formulas, h.formula, used);
    std::string order(used.begin(), used.end()), best;
    std::string names = std::string("abcdef").substr(0, order.size());
    do {
        char renamed[128] = {};
        for (size_t i = 0; i < order.size(); i++) renamed[uint8_t(order[i])] = names[i];
        std::vector<std::string> hypotheses;
        for (const Hypothesis &h : s.hypotheses)
            hypotheses.push_back(serialise(formulas, h.formula, renamed));
        std::sort(hypotheses.begin(), hypotheses.end());
        std::string form = s.nat ? "N" : "P";
        for (const std::string &h : hypotheses) form += h + ",";
        form += ":" + serialise(formulas, s.goal, renamed);
        if (best.empty() || form < best) best = std::move(form);
    } while (std::next_permutation(names.begin(), names.end()));
    return best;
}

Split split(const std::string &canonical_form) {
    const uint64_t part = hash_of(canonical_form) % 100;
    return part < 80 ? Train : part < 90 ? Valid : Test;
}

// ----------------------------------------------------------------------------------------- [5] the generator

struct Generator::Memory {
    Random random;
    bool nat;
    Formulas formulas = {};
    Decider decider{formulas};
    Checker checker = {};
    std::unordered_set<std::string> seen = {};
    long made = 0;

    // One attempt: a statement and a script, or nothing.
    bool attempt(Statement &s, Script &script) {
        if (nat) return random_equation(formulas, checker, random, s, script);
        const int dice = random.below(100);
        if (dice < 2) return composite(formulas, decider, random, 2, s, script);
        if (dice < 4) s = chain(formulas, random, 2 + random.below(4));
        else s = random_statement(formulas, random, dice < 50 ? 0 : 1 + random.below(3), 2 + random.below(3));
        if (classify(formulas, decider, s) != T) return false;
        script = shortest_script(formulas, decider, s, random);
        return !script.empty();
    }
};

Generator::Generator(uint64_t seed, bool nat) : memory(new Memory{{seed}, nat}) {}
Generator::~Generator() = default;

Theorem Generator::next(int wanted) {
    Memory &m = *memory;
    constexpr int max_attempts = 200000;
    constexpr size_t max_formulas = 500000;
    for (int attempt = 0; attempt < max_attempts; attempt++) {
        if (m.formulas.count() > max_formulas) {
            m.formulas.clear();
            m.decider.forget();
        }
        Theorem t;
        Statement s;
        if (!m.attempt(s, t.script) || (wanted && difficulty(t.script) != wanted)) continue;
        const std::string form = canonical(m.formulas, s);
        if (!m.seen.insert(form).second) continue;
        t.name = s.name = "thm" + std::to_string(m.made++);
        t.source = source_of(m.formulas, s, t.script);
        t.difficulty = difficulty(t.script);
        t.split = split(form);
        return t;
    }
    fail(cat("generator: no theorem of difficulty ", wanted, " in ", max_attempts, " attempts"));
}

}  // namespace lean

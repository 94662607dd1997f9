// Theorems to prove: what is provable, scripts, generators, canonical forms, the split; and the verb. The
// checker has the last word on every script, the second reading of the rules beside it.
#include <doctest/doctest.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "src/base/error.h"
#include "src/cli/verbs.h"
#include "src/lean/lean.h"
#include "tests/lean/second_opinion.h"

using namespace lean;

namespace {

using Lines = std::vector<std::string>;

std::string theorem(const std::string &statement, const Lines &lines) {
    std::string text = "theorem thm0 (p q r : Prop) " + statement + " := by\n";
    for (const std::string &l : lines) text += "  " + l + "\n";
    return text;
}

bool complete(const std::string &text, bool nat = false) {
    static Checker checker;
    Result r = checker.check(text, {nat, true});
    std::string why;
    CHECK_MESSAGE(r.complete == second_opinion(text, nat, why), text << r.error.print() << " / " << why);
    return r.complete;
}

Formula parse(Formulas &formulas, const std::string &form) {
    return read_statement(formulas, "theorem thm0 (p q r s t u : Prop) : " + form + " := by\n").goal;
}

std::string joined(const std::string &between, const Lines &parts) {
    std::string out;
    for (const std::string &p : parts) out += (out.empty() ? "" : between) + p;
    return out;
}

std::string source_of(const Formulas &formulas, const Statement &s, const Script &script) {
    return print(formulas, s) + joined("\n", script) + "\n";
}

}  // namespace

// -------------------------------------------------------------------------------------------------- theorems

namespace {

// Classical truth, for all values of the variables.
bool holds(const Formulas &formulas, Formula f, unsigned values) {
    const Formulas::Node n = formulas[f];
    switch (n.kind) {
    case Variable: return values >> (n.a - 'p') & 1;
    case Truth: return true;
    case Falsity: return false;
    case And: return holds(formulas, n.a, values) && holds(formulas, n.b, values);
    case Or: return holds(formulas, n.a, values) || holds(formulas, n.b, values);
    case Iff: return holds(formulas, n.a, values) == holds(formulas, n.b, values);
    default: return !holds(formulas, n.a, values) || holds(formulas, n.b, values);
    }
}
bool tautology(const Formulas &formulas, Formula f) {
    for (unsigned values = 0; values < 16; values++)
        if (!holds(formulas, f, values)) return false;
    return true;
}

}  // namespace

TEST_CASE("lean G4ip: known theorems and non-theorems of intuitionistic logic") {
    Formulas formulas;
    Decider decider(formulas);
    auto provable = [&](const char *f) { return decider.provable({}, parse(formulas, f)); };
    for (const char *f :
         {"p → p", "¬¬(p ∨ ¬p)", "¬¬¬p → ¬p", "(p → q → r) → (p → q) → p → r", "¬(p ∨ q) ↔ ¬p ∧ ¬q",
          "¬p ∨ q → p → q", "¬¬(((p → q) → p) → p)", "((p ↔ q) → p) → (q ↔ p) → q",
          "((((p → q) → p) → p) → q) → q", "True", "¬(p ↔ ¬p)"})
        CHECK_MESSAGE(provable(f) == Yes, f);
    for (const char *f :
         {"p ∨ ¬p", "¬¬p → p", "((p → q) → p) → p", "¬(p ∧ q) → ¬p ∨ ¬q", "(p → q) ∨ (q → p)", "¬p ∨ ¬¬p",
          "p", "False", "(p → q ∨ r) → (p → q) ∨ (p → r)", "(¬p → q ∨ r) → (¬p → q) ∨ (¬p → r)"})
        CHECK_MESSAGE(provable(f) == No, f);
}

TEST_CASE("lean G4ip: ¬¬F is provable exactly if F is a tautology (Glivenko)") {
    Formulas formulas;
    Decider decider(formulas);
    Random random{3};
    int tautologies = 0;
    for (int i = 0; i < 4000; i++) {
        Formula f = random_formula(formulas, random, 1 + random.below(12), 1 + random.below(4));
        Formula twice = formulas.negation(formulas.negation(f));
        bool classical = tautology(formulas, f);
        tautologies += classical;
        REQUIRE((decider.provable({}, twice) == Yes) == classical);
        if (decider.provable({}, f) == Yes) REQUIRE(classical);
    }
    CHECK(tautologies > 300);
}

TEST_CASE("lean G4ip: a further hypothesis never loses provability") {
    Formulas formulas;
    Decider decider(formulas);
    Random random{4};
    int provable = 0;
    for (int i = 0; i < 3000; i++) {
        std::vector<Formula> context = {random_formula(formulas, random, 1 + random.below(5), 3)};
        Formula goal = random_formula(formulas, random, 1 + random.below(6), 3);
        if (decider.provable(context, goal) != Yes) continue;
        provable++;
        context.push_back(random_formula(formulas, random, 1 + random.below(6), 3));
        REQUIRE(decider.provable(context, goal) == Yes);
    }
    CHECK(provable > 500);
}

TEST_CASE("lean G4ip: a spent budget is Unknown, not an answer") {
    Formulas formulas;
    Decider decider(formulas);
    CHECK(decider.provable({}, parse(formulas, "¬¬(p ∨ ¬p)"), 2) == Unknown);
    CHECK(decider.provable({}, parse(formulas, "¬¬(p ∨ ¬p)")) == Yes);
}

TEST_CASE("lean: scripts of the search are complete proofs, and most provable formulas get one") {
    Formulas formulas;
    Decider decider(formulas);
    Random random{5};
    int provable = 0, found = 0;
    for (int i = 0; i < 3000; i++) {
        Statement s = random_statement(formulas, random, random.below(3), 2 + random.below(3));
        if (classify(formulas, decider, s) != T) continue;
        provable++;
        Script script = shortest_script(formulas, decider, s, random);
        found += !script.empty();
        if (!script.empty()) REQUIRE(complete(source_of(formulas, s, script)));
    }
    CHECK(provable > 400);
    CHECK(found * 100 >= provable * 99);
}

TEST_CASE("lean: a script uses what a step forward has won, also where it could be won again") {
    Formulas formulas;
    Decider decider(formulas);
    Random random{12};
    for (const char *f : {"(p → q ∧ r) → p → r", "(p → q ∨ r) → p → r ∨ q", "(p → q ↔ r) → p → r → r",
                          "¬¬(r ∧ p → p)", "(p ∨ p → p ↔ p) → p", "(p → (q ∧ r) ∧ s) → p → r ∧ s"}) {
        Statement s;
        s.variables = "pqrs";
        s.goal = parse(formulas, f);
        Script script = shortest_script(formulas, decider, s, random);
        CHECK_MESSAGE(!script.empty(), f);
        CHECK(complete(source_of(formulas, s, script)));
    }
}

TEST_CASE("lean: a script takes the smallest free name") {
    Formulas formulas;
    Decider decider(formulas);
    Random random{13};
    auto script = [&](const std::string &statement) {
        Statement s = read_statement(formulas, "theorem thm0 (p q r : Prop) " + statement + " := by\n");
        return shortest_script(formulas, decider, s, random);
    };
    CHECK(script("(h1 : q) (h3 : r) : p → p") == Script{"  intro h2", "  exact h2"});
    CHECK(script("(h : q) (h2 : r) : p → p") == Script{"  intro h1", "  exact h1"});
    CHECK(script("(h2 : p ∧ q) : q") == Script{"  rcases h2 with ⟨h2, h1⟩", "  exact h1"});
}

TEST_CASE("lean G4ip: work is bounded: many equal antecedents, and what costs the whole budget") {
    Formulas formulas;
    Decider decider(formulas);
    long spent = 0;
    auto answer = [&](const std::string &f) {
        return decider.provable({}, parse(formulas, f), 200000, &spent);
    };
    std::string many = joined(" ∧ ", Lines(60, "(p ∨ q)"));
    std::string four = joined(" ∧ ", Lines(30, "(p ∨ q ∨ r ∨ s)"));
    std::string iffs = joined(" ∧ ", Lines(40, "(p ↔ q)"));
    CHECK(answer("p → q → (" + many + " → r) → s") == No);
    CHECK(spent < 1000);
    CHECK(answer("p → q → (" + many + " → r) → r") == Yes);
    CHECK(spent < 1000);
    CHECK(answer("(" + four + " → t) → p → t") == Yes);
    CHECK(spent < 1000);
    CHECK(answer("(" + iffs + " → r) → s") == No);
    CHECK(spent < 10000);

    auto start = std::chrono::steady_clock::now();
    int unknown = 0;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        Random random{seed};
        std::vector<Formula> context;
        for (int i = 0; i < 6; i++) context.push_back(random_formula(formulas, random, 20, 6));
        Formula goal = random_formula(formulas, random, 10, 6);
        unknown += decider.provable(context, goal, 200000, &spent) == Unknown;
        CHECK(spent <= 200000 + 100);
    }
    CHECK(unknown > 0);  // 0.03 s each where this was measured
    CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(20));
}

TEST_CASE("lean: a search for a script ends, found or not") {
    Formulas formulas;
    Decider decider(formulas);
    Random random{4};
    Statement s;
    s.variables = "pqrstu";
    for (int i = 1; i <= 12; i++) s.hypotheses.push_back({i, random_formula(formulas, random, 20, 6)});
    s.goal = formulas.make(Or, random_formula(formulas, random, 10, 6), s.hypotheses[7].formula);
    auto start = std::chrono::steady_clock::now();
    Script script = shortest_script(formulas, decider, s, random);
    CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(20));
}

TEST_CASE("lean: random pools have the classes that were measured") {
    const double expected[4][4] = {
        {0, 18, 7, 75}, {5, 24, 10, 62}, {14, 31, 13, 42}, {26, 32, 14, 28}};  // V T N U, in %
    for (int k = 0; k < 4; k++) {
        Formulas formulas;
        Decider decider(formulas);
        Random random{uint64_t(k) + 6};
        double n[4] = {};
        for (int i = 0; i < 3000; i++)
            n[classify(formulas, decider,
                       random_statement(formulas, random, k, k == 0 ? 2 + random.below(3) : 3))]++;
        for (int c = 0; c < 4; c++)  // a standard error is below 1 point
            CHECK_MESSAGE(std::abs(n[c] / 30 - expected[k][c]) < 4,
                          "k " << k << " class " << c << ": " << n[c] / 30 << "%");
    }
}

TEST_CASE("lean: generated theorems are complete, differ, are as difficult as asked, repeat by seed") {
    for (bool nat : {false, true}) {
        Generator a(7, nat), b(7, nat), c(8, nat);
        int inductions = 0, with_ih = 0;
        std::set<std::string> sources;
        bool differs = false;
        for (int i = 0; i < 150; i++) {
            Theorem t = a.next();
            REQUIRE(complete(t.source, nat));
            REQUIRE(t.source == b.next().source);
            differs |= t.source != c.next().source;
            sources.insert(t.source);
            inductions += t.source.find("induction") != std::string::npos;
            with_ih += t.source.find("rw [ih]") != std::string::npos ||
                       t.source.find("exact ih") != std::string::npos;
        }
        CHECK((inductions > 10) == nat);
        CHECK(with_ih == inductions);
        CHECK(sources.size() == 150);
        CHECK(differs);
    }
    Generator g(9), sums(9, true);
    for (int d = 1; d <= 5; d++) {
        CHECK(g.next(d).difficulty == d);
        CHECK(sums.next(d).difficulty == d);
    }
}

TEST_CASE("lean nat: every kind of induction that is generated is a proof") {
    Generator g(31, true);
    std::set<std::string> first_steps;  // of the case succ
    for (int i = 0; i < 1500; i++) {
        Theorem t = g.next();
        size_t succ = t.source.find("| succ");
        if (succ == std::string::npos) continue;
        REQUIRE(complete(t.source, true));
        size_t begin = t.source.find("rw [", succ), end = t.source.find_first_of(" ", begin + 9);
        first_steps.insert(t.source.substr(begin, end - begin));
    }
    CHECK(first_steps.size() >= 2);  // ← Nat.add_assoc and Nat.mul_add
}

TEST_CASE("lean nat: a small search proves what rfl, a few rewritings or a plain induction prove") {
    Formulas formulas;
    Checker checker;
    auto search = [&](const std::string &statement) {
        Statement s = read_statement(formulas, "theorem thm1 (a b n : Nat) " + statement + " := by\n", true);
        Script script;
        bool found = prove_equation(formulas, checker, s, script);
        CHECK((!found || complete(source_of(formulas, s, script), true)));
        return found ? script.size() : 0;
    };
    CHECK(search(": a + 1 + 1 = a + 2") == 1);
    CHECK(search("(h : a = b) : a = b") == 1);
    CHECK(search("(h : a = b) (h1 : b = n) : a = n") == 2);
    CHECK(search(": a * (b + n) = n * a + b * a") == 3);
    CHECK(search(": 0 + n = n") == 1);
    CHECK(search(": n + 1 + b = n + b + 1") > 1);
    CHECK(search(": a = b") == 0);
    CHECK(search("(h : n = 0) : n + a = a") == 2);
}

TEST_CASE("lean: difficulty is the number of lines: up to 4, 7, 11, 16, or more") {
    const int lines[] = {1, 4, 5, 7, 8, 11, 12, 16, 17, 90}, wanted[] = {1, 1, 2, 2, 3, 3, 4, 4, 5, 5};
    for (int i = 0; i < 10; i++) CHECK(difficulty(Script(size_t(lines[i]), "x")) == wanted[i]);
}

TEST_CASE("lean: a chain of d links takes as many steps as links and an intro") {
    for (int d = 2; d <= 5; d++) {
        Formulas formulas;
        Decider decider(formulas);
        Random random{uint64_t(d)};
        Statement s = chain(formulas, random, d);
        CHECK(classify(formulas, decider, s) == T);
        CHECK(shortest_script(formulas, decider, s, random).size() == size_t(d) + 1);
    }
}

TEST_CASE("lean: a composite takes twelve lines or more, and four when its parts are known") {
    Formulas formulas;
    Decider decider(formulas);
    Random random{10};
    Statement s;
    Script script;
    int found = 0;
    for (int i = 0; i < 3000 && found < 3; i++)
        if (composite(formulas, decider, random, 2, s, script)) {
            found++;
            CHECK(script.size() >= 12);
            Statement known = s;
            known.hypotheses.push_back({50, formulas[s.goal].a});
            known.hypotheses.push_back({51, formulas[s.goal].b});
            CHECK(shortest_script(formulas, decider, known, random).size() <= 4);
            for (size_t part : {0, 1}) {
                Statement fewer = known;
                fewer.hypotheses.erase(fewer.hypotheses.end() - 2 + long(part));
                CHECK(shortest_script(formulas, decider, fewer, random).size() > 4);
            }
        }
    CHECK(found == 3);
}

TEST_CASE("lean: canonical forms do not see variables' names, order, or the sides of ∧ ∨ ↔") {
    auto form = [](const std::string &statement) {
        Formulas formulas;
        return canonical(formulas,
                         read_statement(formulas, "theorem thm0 (p q r : Prop) " + statement + " := by\n"));
    };
    std::string base = form("(h : p ∧ q) (h1 : r) : p ∨ ¬q");
    CHECK(base == form("(h : q ∧ p) (h1 : r) : p ∨ ¬q"));
    CHECK(base == form("(h1 : p) (h : r ∧ q) : ¬q ∨ r"));
    CHECK(base != form("(h : p ∧ q) (h1 : r) : q ∨ ¬r"));
    CHECK(form(": p → q") != form(": q → q"));
    CHECK(form(": p → q") == form(": q → p"));
    CHECK(form(": p ∨ (p → q)") == form(": (r → p) ∨ r"));
}

TEST_CASE("lean: train, validation and test are disjoint up to renaming and commutation") {
    std::set<std::string> forms[3];
    Formulas formulas;
    for (uint64_t seed : {1, 2, 3}) {
        Generator g(seed);
        for (int i = 0; i < 300; i++) {
            Theorem t = g.next();
            Statement s = read_statement(formulas, t.source);
            std::string form = canonical(formulas, s);
            CHECK(split(form) == t.split);
            forms[t.split].insert(form);
        }
    }
    for (int a = 0; a < 3; a++)
        for (int b = a + 1; b < 3; b++)
            for (const std::string &f : forms[a]) REQUIRE(forms[b].count(f) == 0);
    CHECK(forms[Train].size() > 600);
    CHECK(forms[Valid].size() > 50);
    CHECK(forms[Test].size() > 50);
}

TEST_CASE("lean: the negation of a statement keeps its hypotheses and denies its goal") {
    Formulas formulas;
    Statement s =
        negation(formulas, read_statement(formulas, "theorem thm7 (p q : Prop) (h : p) : p ∨ q := by\n"));
    CHECK(print(formulas, s) == "theorem thm7_neg (p q : Prop) (h : p) : ¬(p ∨ q) := by\n");
}

TEST_CASE("lean: a question is a header, with or without := by, or a formula about its own variables") {
    auto read = [](const std::string &text, bool nat = false) {
        Formulas formulas;
        Statement s;
        Failure e;
        bool good = read_question(formulas, text, nat, s, e);
        return good ? print(formulas, s) : cat(name(e.code), " ", e.line, ":", e.column);
    };
    CHECK(read("q → p") == "theorem thm0 (p q : Prop) : q → p := by\n");
    CHECK(read("  (q)  -- so\n") == "theorem thm0 (q : Prop) : q := by\n");
    CHECK(read("True") == "theorem thm0 (p : Prop) : True := by\n");
    CHECK(read("n = a", true) == "theorem thm0 (a n : Nat) : n = a := by\n");
    CHECK(read("p → p", true) == "theorem thm0 (p : Prop) : p → p := by\n");
    for (const char *end :
         {"", "\n", " := by", " := by\n", " := by\n  intro", " -- c", " /- c -/ := by -- d\n"})
        CHECK(read(std::string(" theorem thm3 (p q : Prop) (h : q) : p") + end) ==
              "theorem thm3 (p q : Prop) (h : q) : p := by\n");
    CHECK(read("p →") == "E_PARSE 1:3");
    CHECK(read("p → x") == "E_PARSE 1:4");
    CHECK(read("p q") == "E_PARSE 1:2");
    CHECK(read("p\n→ p") == "E_PARSE 2:0");
    CHECK(read("p ; q") == "E_LEX 1:2");
    CHECK(read("n = n") == "E_PARSE 1:0");
    CHECK(read(" \n") == "E_PARSE 2:0");
    CHECK(read("theorem thm3 (p : Prop) : p :=") == "E_PARSE 1:30");
}

// -------------------------------------------------------------------------------------------------- the verb

namespace {

// Runs `lean` with these arguments: its exit code, and what it printed.
int verb(std::vector<std::string> arguments, std::string &out) {
    CLI::App app{"deepseek"};
    add_lean(app);
    arguments.insert(arguments.begin(), "lean");
    std::reverse(arguments.begin(), arguments.end());  // CLI11 wants them last first
    std::ostringstream captured, errors;
    std::streambuf *old = std::cout.rdbuf(captured.rdbuf()), *old_errors = std::cerr.rdbuf(errors.rdbuf());
    int code = 0;
    try {
        app.parse(arguments);
    } catch (const CLI::RuntimeError &e) {
        code = e.get_exit_code();
    } catch (const Error &e) {
        captured << e.what();
        code = 2;
    }
    std::cout.rdbuf(old);
    std::cerr.rdbuf(old_errors);
    out = captured.str();
    return code;
}

struct File {
    std::string path;
    File(const std::string &path, const std::string &text) : path(path) { std::ofstream(path) << text; }
    ~File() { std::remove(path.c_str()); }
    std::string read() const {
        std::stringstream s;
        s << std::ifstream(path).rdbuf();
        return s.str();
    }
};

}  // namespace

TEST_CASE("lean verb: a good file exits with 0, a bad one with 1 and a compiler's message") {
    File good("build_lean_good.tmp", theorem(": True", {"constructor"}));
    File bad("build_lean_bad.tmp", theorem("(h : p) : p ∧ q", {"constructor", "exact h", "exact h"}));
    std::string out;
    CHECK(verb({good.path}, out) == 0);
    CHECK(out == good.path + ": complete, 1 step\n");
    CHECK(verb({bad.path}, out) == 1);
    CHECK(out == bad.path +
                     ":4:8: E_TYPE_MISMATCH: this proves 'p', but 'q' is wanted\n  exact h\n        ^\n"
                     "the goals at this point:\n  h : p\n  ⊢ q\n");
    CHECK(verb({good.path, "--goals"}, out) == 0);
    CHECK(out.find("  constructor\n      | no goals\n") != std::string::npos);
    CHECK(verb({"no_such_file.lean"}, out) == 2);
    CHECK(verb({}, out) == 2);
}

TEST_CASE("lean verb: --jsonl writes a verdict for each line") {
    nlohmann::json a = {{"id", "x"}, {"source", theorem(": True", {"constructor"})}},
                   b = {{"source", theorem(": p", {"intro h"})}},
                   c = {{"id", 3}, {"source", theorem(": p", {"sorry"})}};
    File in("build_lean_in.tmp", a.dump() + "\n" + b.dump() + "\n" + c.dump() + "\n"),
        to("build_lean_out.tmp", "");
    std::string out;
    CHECK(verb({"--jsonl", in.path, "--out", to.path}, out) == 0);
    CHECK(to.read() == "{\"id\":\"x\",\"verdict\":\"complete\",\"code\":\"\",\"line\":0,\"column\":0}\n"
                       "{\"id\":2,\"verdict\":\"reject\",\"code\":\"E_INTRO\",\"line\":2,\"column\":8}\n"
                       "{\"id\":3,\"verdict\":\"sorry\",\"code\":\"\",\"line\":0,\"column\":0}\n");
    File broken("build_lean_broken.tmp", "{\"source\": 3}\n");
    CHECK(verb({"--jsonl", broken.path}, out) == 2);
}

TEST_CASE("lean verb: what --generate writes, --jsonl judges complete; --decide knows it") {
    File file("build_lean_made.tmp", "");
    std::string out;
    for (bool nat : {false, true}) {
        std::vector<std::string> flag = nat ? Lines{"--nat"} : Lines{};
        Lines arguments = {"--generate", "20", "--seed", "3", "--out", file.path};
        arguments.insert(arguments.end(), flag.begin(), flag.end());
        CHECK(verb(arguments, out) == 0);
        arguments = {"--jsonl", file.path};
        arguments.insert(arguments.end(), flag.begin(), flag.end());
        CHECK(verb(arguments, out) == 0);
        CHECK(std::count(out.begin(), out.end(), '\n') == 20);
        CHECK(out.find("reject") == std::string::npos);
    }
    CHECK(verb({"--generate", "2", "--difficulty", "D9"}, out) == 2);
    CHECK(verb({"--decide", "p ∨ ¬p"}, out) == 0);
    CHECK(out.find("no: there is no proof") != std::string::npos);
    CHECK(verb({"--decide", "¬¬(p ∨ ¬p)"}, out) == 0);
    CHECK(out.find("yes: D2, 7 lines") != std::string::npos);
    CHECK(out.find("theorem thm0 (p : Prop)") == 0);
    CHECK(verb({"--decide", "p ∨"}, out) == 2);
    CHECK(out.find("column 3:") != std::string::npos);
}

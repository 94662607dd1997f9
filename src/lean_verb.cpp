// `deepseek lean`: check a file of theorems, look at its goals, judge a file of JSON lines, generate and
// decide statements.
//
// Columns are counted from 0 in code points, lines from 1, everywhere: as Lean's own messages do.
// Exit codes: 0 all is complete (or the question was answered), 1 a text was refused or has a sorry, 2 bad
// input.
#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

#include "src/error.h"
#include "src/lean.h"

namespace lean {

struct Arguments {
    std::string file, jsonl, out, decide, difficulty;
    long generate = 0;
    uint64_t seed = 1;
    bool goals = false, nat = false;
};

static const char *const examples = R"text(Examples:
  deepseek lean proof.lean                            check a file: errors with line, column and goals
  deepseek lean proof.lean --goals                    the goals after each step
  deepseek lean sums.lean --nat                       level 2: equations on Nat (works with every form)
  deepseek lean --jsonl proofs.jsonl --out verdicts.jsonl
  deepseek lean --generate 10 --seed 7 --difficulty D3
  deepseek lean --generate 1000 --nat --out sums.jsonl
  deepseek lean --decide "¬¬(p ∨ ¬p)"                 has it a proof in the subset? then one is shown
  deepseek lean --decide statements.lean              the same for each theorem of a file

proof.lean may hold these three lines:
theorem thm0 (p q : Prop) : p ∧ q → q ∧ p := by
  intro h
  exact ⟨h.2, h.1⟩
)text";

static std::string read(const std::string &path) {
    std::stringstream text;
    if (path == "-") {
        text << std::cin.rdbuf();
        return text.str();
    }
    std::ifstream in(path, std::ios::binary);
    expect(in && (text << in.rdbuf()), "lean: cannot read ", path);
    return text.str();
}

// A line of the text, safe for a terminal.
static std::string line_of(const std::string &text, int line) {
    std::istringstream in(text);
    std::string l;
    for (int i = 0; i < line; i++)
        if (!std::getline(in, l))
            return "";
    for (char &c : l)
        if ((c >= 0 && c < ' ') || c == 127)
            c = '?';
    return l;
}

static std::string indented(const std::string &lines, const char *prefix) {
    std::string out;
    std::istringstream in(lines);
    for (std::string l; std::getline(in, l);)
        out += (l.empty() ? "" : prefix + l) + "\n";
    return out;
}

static std::string shown_as_error(const std::string &file, const std::string &text, const Result &r) {
    const Failure &e = r.error;
    std::string out = cat(file, ":", e.line, ":", e.column, ": ", name(e.code), ": ", e.message, "\n");
    std::string line = line_of(text, e.line);
    if (line.size() <= 1000)
        out += line + "\n" + std::string(size_t(e.column), ' ') + "^\n";
    if (!r.final_state.empty())
        out += "the goals at this point:\n" + indented(r.final_state, "  ");
    return out;
}

static bool check_file(const Arguments &a) {
    std::string text = read(a.file);
    Checker checker;
    Result r = checker.check(text, {a.nat, true});
    if (a.goals) {
        std::cout << r.header;
        for (const Step &s : r.steps)
            std::cout << s.text << indented(s.state_after(), "      | ");
    }
    if (!r.pass)
        std::cout << shown_as_error(a.file, text, r);
    else if (r.sorries > 0)
        std::cout << a.file << ": no error, but " << r.sorries << " sorry\n";
    else
        std::cout << a.file << ": complete, " << r.steps.size()
                  << (r.steps.size() == 1 ? " step\n" : " steps\n");
    return r.complete;
}

static const char *verdict(const Result &r) { return r.complete ? "complete" : r.pass ? "sorry" : "reject"; }

// Each line of IN is an object with `source` (and perhaps `id`); each line of OUT is its verdict.
static void judge(const Arguments &a, std::ostream &out) {
    using nlohmann::json;
    std::ifstream in(a.jsonl);
    expect(in, "lean: cannot read ", a.jsonl);
    Checker checker;
    long count = 0, complete = 0, number = 0;
    auto start = std::chrono::steady_clock::now();
    for (std::string line; std::getline(in, line);) {
        number++;
        if (line.empty())
            continue;
        json object = json::parse(line, nullptr, false);
        bool good = object.is_object() && object.contains("source") && object["source"].is_string();
        if (!good)
            fail(cat(a.jsonl, ":", number, ": no JSON object with a text `source`"));
        Result r = checker.check(object["source"].get_ref<const std::string &>(), {a.nat, false});
        nlohmann::ordered_json answer;
        answer["id"] = object.contains("id") ? object["id"] : json(number);
        answer["verdict"] = verdict(r);
        answer["code"] = r.pass ? "" : name(r.error.code);
        answer["line"] = r.error.line;
        answer["column"] = r.error.column;
        out << answer.dump() << "\n";
        count++;
        complete += r.complete;
    }
    double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    std::cerr << cat(count, " texts, ", complete, " complete, ",
                     long(double(count) / std::max(seconds, 1e-9)), " per second\n");
}

static int difficulty_number(const std::string &d) {
    if (d.empty())
        return 0;
    bool known = d.size() == 2 && d[0] == 'D' && d[1] >= '1' && d[1] <= '5';
    if (!known)
        fail(cat("lean: --difficulty ", d, " is none"), "D1 D2 D3 D4 D5: up to 4, 7, 11, 16 lines, or more");
    return d[1] - '0';
}

static void generate(const Arguments &a, std::ostream &out) {
    static const char *const splits[] = {"train", "valid", "test"};
    int wanted = difficulty_number(a.difficulty);
    expect(a.generate > 0, "lean: --generate ", a.generate, ": how many?");
    Generator generator(a.seed, a.nat);
    for (long i = 0; i < a.generate; i++) {
        Theorem t = generator.next(wanted);
        if (a.out.empty()) {
            out << "-- D" << t.difficulty << ", " << splits[t.split] << "\n" << t.source << "\n";
            continue;
        }
        nlohmann::ordered_json object;
        object["id"] = t.name;
        object["source"] = t.source;
        object["difficulty"] = cat("D", t.difficulty);
        object["split"] = splits[t.split];
        out << object.dump() << "\n";
    }
}

// One statement: yes, with a proof; no; or unknown.
static void decide_one(const std::string &header, const Arguments &a) {
    Formulas formulas;
    Decider decider(formulas);
    Statement s = read_statement(formulas, header, a.nat);
    std::string line = print(formulas, s);
    if (s.nat) {
        Checker checker;
        bool yes = checker.check(line + "  rfl\n", {true, false}).complete;
        std::cout << line
                  << (yes ? "  rfl\nyes\n"
                          : "unknown: equations have no decision procedure here, only `rfl` was tried\n");
        return;
    }
    std::vector<Formula> context;
    for (const Hypothesis &h : s.hypotheses)
        context.push_back(h.formula);
    Answer answer = decider.provable(context, s.goal);
    std::cout << line;
    if (answer != Yes) {
        std::cout << (answer == No ? "no: there is no proof in the subset\n"
                                   : "unknown: the budget is spent\n");
        return;
    }
    Random random{a.seed};
    Script script = shortest_script(formulas, decider, s, random);
    for (const std::string &l : script)
        std::cout << l << "\n";
    if (script.empty())
        std::cout << "yes, but the search for a short proof found none\n";
    else
        std::cout << "yes: D" << difficulty(script) << ", " << script.size() << " lines\n";
}

// A bare formula or equation becomes a theorem about the variables in it.
static std::string header_of(const std::string &form, bool nat) {
    std::string variables;
    auto is_letter = [&](size_t i) { return i < form.size() && isalpha(uint8_t(form[i])); };
    for (char v : std::string(nat ? "abckmn" : "pqrstu"))
        for (size_t i = 0; i < form.size(); i++)
            if (form[i] == v && !is_letter(i + 1) && (i == 0 || !is_letter(i - 1))) {
                variables += std::string(1, v) + " ";
                break;
            }
    if (variables.empty())
        variables = nat ? "n " : "p ";
    return "theorem thm0 (" + variables + (nat ? ": Nat) : " : ": Prop) : ") + form + " := by\n";
}

// A file with theorems, a theorem's header, or just a formula.
static void decide(const Arguments &a) {
    std::ifstream in(a.decide);
    if (!in) {
        bool bare = a.decide.compare(0, 8, "theorem ") != 0;
        return decide_one(bare ? header_of(a.decide, a.nat) : a.decide, a);
    }
    long count = 0;
    for (std::string line; std::getline(in, line);)
        if (line.compare(0, 8, "theorem ") == 0) {
            decide_one(line + "\n", a);
            count++;
        }
    expect(count > 0, "lean: ", a.decide, " has no line that starts with `theorem `");
}

static void run(const Arguments &a) {
    int forms = !a.file.empty() + !a.jsonl.empty() + (a.generate != 0) + !a.decide.empty();
    if (forms != 1)
        fail(forms ? "lean: one thing at a time" : "lean: nothing to do",
             "give a FILE, --jsonl, --generate or --decide; --help shows examples");
    std::ofstream file;
    if (!a.out.empty()) {
        file.open(a.out, std::ios::binary);
        expect(file, "lean: cannot write ", a.out);
    }
    std::ostream &out = a.out.empty() ? std::cout : file;
    bool good = true;
    if (!a.file.empty())
        good = check_file(a);
    else if (!a.jsonl.empty())
        judge(a, out);
    else if (a.generate)
        generate(a, out);
    else
        decide(a);
    out.flush();
    expect(out.good(), "lean: cannot write ", a.out.empty() ? "the output" : a.out);
    if (!good)
        throw CLI::RuntimeError(1);
}

void lean_verb(CLI::App &app) {
    auto a = std::make_shared<Arguments>();
    app.description("Check proofs in a strict subset of Lean 4; generate and decide theorems.");
    app.footer(examples);
    app.add_option("file", a->file, "a file of theorems with proofs; - is the standard input")
        ->type_name("FILE");
    app.add_flag("--goals", a->goals, "show the goals after each step");
    app.add_flag("--nat", a->nat, "level 2: equations on Nat");
    app.add_option("--jsonl", a->jsonl, "judge each line, an object with `source`")->type_name("IN");
    app.add_option("--out", a->out, "where --jsonl and --generate write JSON lines (else: the terminal)")
        ->type_name("OUT");
    app.add_option("--generate", a->generate, "write N theorems with proofs")->type_name("N");
    app.add_option("--seed", a->seed, "the same seed gives the same theorems")->type_name("S");
    app.add_option("--difficulty", a->difficulty, "only this: D1 to D5")->type_name("D1..D5");
    app.add_option("--decide", a->decide, "does a proof exist? a formula, a header or a file")
        ->type_name("STATEMENT");
    app.callback([a] { run(*a); });
}

}  // namespace lean

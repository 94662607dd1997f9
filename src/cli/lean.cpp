// `deepseek lean`: check a file of theorems, look at its goals, judge a file of JSON lines,
// generate and decide statements.
//
// Columns are counted from 0 in code points, lines from 1, everywhere: as Lean's own messages do. Exit codes:
// 0 all is complete (or the question was answered), 1 a text was refused or has a sorry, 2 bad input.
#include <CLI/CLI.hpp>
#include <charconv>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <limits>
#include <memory>
#include <optional>

#include "src/base/error.h"
#include "src/base/files.h"
#include "src/base/json.h"
#include "src/cli/verbs.h"
#include "src/lean/lean.h"
#include "src/base/progress.h"

namespace lean {

struct Arguments {
    std::string file, jsonl, out, decide, difficulty, generate, seed = "1";
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

// The whole text of a file, or of the standard input (`-`).
static std::string read(const std::string &path) {
    if (path == "-") return std::string(std::istreambuf_iterator<char>(std::cin), {});
    expect(!std::filesystem::is_directory(path), "lean: ", path, " is a folder");
    std::ifstream in(path, std::ios::binary);
    expect(in.good(), "lean: cannot read ", path);
    return std::string(std::istreambuf_iterator<char>(in), {});
}

// What --jsonl and --generate write: to the terminal record by record, each whole, so that Ctrl-C cuts
// none; to a file all or nothing.
struct Output {
    std::unique_ptr<AtomicFile> file;
    std::optional<CatchInterrupt> stop;
    explicit Output(const std::string &path) {
        if (path.empty()) return;
        file = std::make_unique<AtomicFile>(path);
        stop.emplace();  // the temporary file is to be cleared away
    }
    void write(const std::string &record) {
        if (file) return file->write(record.data(), record.size());
        std::cout << record << std::flush;
        expect(std::cout.good(), "lean: cannot write the output");
    }
    static void stop_if_interrupted() {
        if (interrupted) throw Interrupted{};
    }
    void commit() {
        if (file) file->commit();
    }
};

// The line of an error and a caret under its column. Of a long line, the part around it.
static std::string excerpt(const std::string &text, int line, int column) {
    constexpr size_t before = 70, width = 100;
    size_t begin = 0;
    for (int i = 1; i < line && begin < text.size(); i++)
        begin = std::min(text.find('\n', begin), text.size() - 1) + 1;
    size_t end = std::min(text.find('\n', begin), text.size());
    if (begin < end && text[end - 1] == '\r') end--;
    if (begin == end) return "";
    std::vector<std::string> characters = visible(std::string_view(text).substr(begin, end - begin));
    size_t caret = size_t(column), from = caret > before ? caret - before : 0;
    size_t to = std::min(characters.size(), from + width);
    std::string shown = from > 0 ? "..." : "", blanks = from > 0 ? "   " : "";
    for (size_t i = from; i < to; i++) {
        shown += characters[i];
        if (i < caret) blanks += std::string(visible(characters[i]).size(), ' ');
    }
    return shown + (to < characters.size() ? "..." : "") + "\n" + blanks + "^\n";
}

static std::string indented(const std::string &lines, const char *prefix) {
    std::string out;
    std::istringstream in(lines);
    for (std::string l; std::getline(in, l);) out += (l.empty() ? "" : prefix + l) + "\n";
    return out;
}

static std::string counted(long n, const char *what) { return cat(n, " ", what, n == 1 ? "" : "s"); }

static std::string shown_as_error(const std::string &file, const std::string &text, const Result &r) {
    const Failure &e = r.error;
    std::string out = cat(file, ":", e.line, ":", e.column, ": ", name(e.code), ": ", e.message, "\n");
    out += excerpt(text, e.line, e.column);
    if (!r.final_state.empty()) out += "the goals at this point:\n" + indented(r.final_state, "  ");
    return out;
}

static bool check_file(const Arguments &a) {
    std::string text = read(a.file);
    Checker checker;
    Result r = checker.check(text, {a.nat, true});
    long tactics = 0;
    if (a.goals) std::cout << r.header;
    for (const Step &s : r.steps) {
        tactics += !s.header;
        if (a.goals) std::cout << s.text << (s.header ? "" : indented(s.state_after(), "      | "));
    }
    if (!r.pass) std::cout << shown_as_error(a.file, text, r);
    else if (r.sorries > 0) std::cout << a.file << ": no error, but " << r.sorries << " sorry\n";
    else std::cout << a.file << ": complete, " << counted(tactics, "step") << "\n";
    return r.complete;
}

static const char *verdict(const Result &r) { return r.complete ? "complete" : r.pass ? "sorry" : "reject"; }

// One line of --jsonl: its verdict, as a line.
static std::string judge_line(Checker &checker, const std::string &line, const std::string &file, long number,
                              bool nat, bool &complete) {
    const Json object = parse_json(line, file, number);
    const std::string where = cat(file, ": line ", number);
    const bool good = object.is_object() && object.contains("source") && object["source"].is_string();
    expect(good, where, ": no JSON object with a text `source`");
    const bool has_id = object.contains("id");
    const Json id = has_id ? object["id"] : Json(number);
    expect(id.is_string() || id.is_number(), where, ": `id` is neither a text nor a number");
    Result r = checker.check(object["source"].get_ref<const std::string &>(), {nat, false});
    complete = r.complete;
    Json answer = {{"id", id},
                   {"verdict", verdict(r)},
                   {"code", r.pass ? "" : name(r.error.code)},
                   {"line", r.error.line},
                   {"column", r.error.column}};
    return answer.dump() + "\n";
}

// Each line of IN is an object with `source` (and perhaps `id`); each line of OUT is its verdict.
static void judge(const Arguments &a) {
    std::ifstream file;
    const bool from_terminal = a.jsonl == "-";
    if (!from_terminal) {
        expect(!std::filesystem::is_directory(a.jsonl), "lean: ", a.jsonl, " is a folder");
        file.open(a.jsonl, std::ios::binary);
        expect(file.good(), "lean: cannot read ", a.jsonl);
        std::error_code none;
        expect(a.out.empty() || !std::filesystem::equivalent(a.jsonl, a.out, none), "lean: --out ", a.out,
               " is the file that --jsonl reads");
    }
    std::istream &in = from_terminal ? std::cin : file;
    Output out(a.out);
    Checker checker;
    long count = 0, complete = 0, number = 0;
    auto start = std::chrono::steady_clock::now();
    for (std::string line; std::getline(in, line);) {
        Output::stop_if_interrupted();
        number++;
        if (line.find_first_not_of(" \t\r") == line.npos) continue;
        bool is_complete = false;
        out.write(judge_line(checker, line, a.jsonl, number, a.nat, is_complete));
        count++;
        complete += is_complete;
    }
    Output::stop_if_interrupted();
    expect(!in.bad(), "lean: cannot read ", a.jsonl);
    expect(count > 0, "lean: ", a.jsonl, " holds no text to judge");
    out.commit();
    double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    std::cerr << cat(count, " texts, ", complete, " complete, ",
                     long(double(count) / std::max(seconds, 1e-9)), " per second\n");
}

static int difficulty_number(const std::string &d) {
    if (d.empty()) return 0;
    bool known = d.size() == 2 && d[0] == 'D' && d[1] >= '1' && d[1] <= '5';
    if (!known)
        fail(cat("lean: --difficulty ", d, " is none"), "D1 D2 D3 D4 D5: up to 4, 7, 11, 16 lines, or more");
    return d[1] - '0';
}

// Digits and nothing else, within the limits.
static uint64_t number(const char *option, const std::string &text, uint64_t low, uint64_t high) {
    uint64_t value = 0;
    const char *end = text.data() + text.size();
    auto [rest, error] = std::from_chars(text.data(), end, value);
    expect(error == std::errc() && rest == end && value >= low && value <= high, "lean: ", option, " ", text,
           " is no number from ", low, " to ", high);
    return value;
}
static uint64_t seed_of(const Arguments &a) {
    return number("--seed", a.seed, 0, std::numeric_limits<uint64_t>::max());
}

static void generate(const Arguments &a) {
    static const char *const splits[] = {"train", "valid", "test"};
    const int wanted = difficulty_number(a.difficulty);
    const uint64_t count = number("--generate", a.generate, 1, 1000000000);
    Generator generator(seed_of(a), a.nat);
    Output out(a.out);
    for (uint64_t i = 0; i < count; i++) {
        Output::stop_if_interrupted();
        Theorem t = generator.next(wanted);
        if (a.out.empty()) {
            out.write(cat("-- D", t.difficulty, ", ", splits[t.split], "\n", t.source, "\n"));
            continue;
        }
        Json object = {{"id", t.name},
                       {"source", t.source},
                       {"difficulty", cat("D", t.difficulty)},
                       {"split", splits[t.split]}};
        out.write(object.dump() + "\n");
    }
    out.commit();
}

static std::string lines_of(const Script &script) {
    std::string out;
    for (const std::string &l : script) out += l + "\n";
    return out;
}

// What is known of a statement: yes, with a proof; no; or unknown.
static std::string answer(Formulas &formulas, const Statement &s, uint64_t seed) {
    Script script;
    if (s.nat) {
        Checker checker;
        if (!prove_equation(formulas, checker, s, script))
            return "unknown: equations have no decision procedure here, and a small search found no proof\n";
        return lines_of(script) + "yes: " + counted(long(script.size()), "line") + "\n";
    }
    Decider decider(formulas);
    std::vector<Formula> context;
    for (const Hypothesis &h : s.hypotheses) context.push_back(h.formula);
    Answer provable = decider.provable(context, s.goal);
    if (provable != Yes)
        return provable == No ? "no: there is no proof in the subset\n" : "unknown: the budget is spent\n";
    Random random{seed};
    script = shortest_script(formulas, decider, s, random);
    if (script.empty()) return "yes, but the search for a short proof found none\n";
    return lines_of(script) +
           cat("yes: D", difficulty(script), ", ", counted(long(script.size()), "line"), "\n");
}

// `file` and its line number are for errors; without a file the columns are those of what was typed.
static void decide_one(const std::string &statement, const Arguments &a, const std::string &file, int line) {
    Formulas formulas;
    Statement s;
    Failure e;
    if (!read_question(formulas, statement, a.nat, s, e)) {
        std::string where = cat(file, ":", line + e.line - 1, ":", e.column);
        if (file.empty())
            where = cat("--decide: ", e.line > 1 ? cat("line ", e.line, ", ") : "", "column ", e.column);
        fail(cat(where, ": ", name(e.code), ": ", e.message),
             "a formula such as \"p → p ∨ q\", or a header: theorem thm0 (p q : Prop) (h : p) : p ∨ q := by");
    }
    std::cout << print(formulas, s) << answer(formulas, s, seed_of(a)) << std::flush;
}

// A file with theorems, a theorem's header, or just a formula. Only what ends in .lean is a file; what looks
// like another path is no formula either.
static void decide(const Arguments &a) {
    const std::string &d = a.decide;
    seed_of(a);  // refused before anything is printed
    if (!d.ends_with(".lean")) {
        bool ascii_symbol = d.find("/\\") != d.npos || d.find("\\/") != d.npos;
        bool comment = d.find("/-") != d.npos || d.find("-/") != d.npos;
        if (d.find('/') != d.npos && !ascii_symbol && !comment)
            fail(cat("lean: cannot read ", d, " as a formula, and a file of statements ends in .lean"));
        return decide_one(d, a, "", 1);
    }
    std::istringstream in(read(d));
    long count = 0;
    int line_number = 0;
    for (std::string line; std::getline(in, line);) {
        line_number++;
        bool begins = line.compare(0, 7, "theorem") == 0 && (line.size() == 7 || !isalnum(uint8_t(line[7])));
        if (begins) {
            decide_one(line + "\n", a, d, line_number);
            count++;
        }
    }
    expect(count > 0, "lean: ", d, " has no line that starts with `theorem `");
}

// Each option where it means something; elsewhere it would be ignored silently, so it is refused.
static void refuse_strangers(const CLI::App &app, const std::string &form) {
    static const std::pair<const char *, const char *> meant_for[] = {{"--goals", "FILE"},
                                                                      {"--out", "--jsonl --generate"},
                                                                      {"--seed", "--generate --decide"},
                                                                      {"--difficulty", "--generate"}};
    for (auto [option, forms] : meant_for)
        if (app.count(option) > 0 && std::string(forms).find(form) == std::string::npos)
            fail(cat("lean: ", option, " means nothing with ", form == "FILE" ? "a FILE" : form),
                 cat("it goes with ", forms));
}

static void run(const CLI::App &app, const Arguments &a) {
    std::vector<std::string> forms;
    for (const char *form : {"FILE", "--jsonl", "--generate", "--decide"})
        if (app.count(form[0] == 'F' ? "file" : form) > 0) forms.push_back(form);
    if (forms.size() != 1)
        fail(forms.empty() ? "lean: nothing to do" : "lean: one thing at a time",
             "give a FILE, --jsonl, --generate or --decide; --help shows examples");
    refuse_strangers(app, forms[0]);
    expect(app.count("--out") == 0 || !a.out.empty(), "lean: --out needs a name");
    if (forms[0] == "FILE" && !check_file(a)) throw CLI::RuntimeError(1);
    if (forms[0] == "--jsonl") judge(a);
    if (forms[0] == "--generate") generate(a);
    if (forms[0] == "--decide") decide(a);
    std::cout.flush();
    expect(std::cout.good(), "lean: cannot write the output");
}

struct Lean : Arguments {
    const CLI::App *verb = nullptr;
    void options(CLI::App &v) {
        verb = &v;
        v.footer(examples);
        v.add_option("file", file, "a file of theorems with proofs; - is the standard input")
            ->type_name("FILE");
        v.add_flag("--goals", goals, "show the goals after each step");
        v.add_flag("--nat", nat, "level 2: equations on Nat");
        v.add_option("--jsonl", jsonl, "judge each line, an object with `source`; - is the standard input")
            ->type_name("IN");
        v.add_option("--out", out, "where --jsonl and --generate write JSON lines (else: the terminal)")
            ->type_name("OUT");
        v.add_option("--generate", generate, "write N theorems with proofs")->type_name("N");
        v.add_option("--seed", seed, "the same seed gives the same theorems")->type_name("S");
        v.add_option("--difficulty", difficulty, "only this: D1 to D5")->type_name("D1..D5");
        v.add_option("--decide", decide, "does a proof exist? a formula, a header or a file (.lean)")
            ->type_name("STATEMENT");
    }
    void run() const { lean::run(*verb, *this); }
};

}  // namespace lean

void add_lean(CLI::App &program) {
    add_verb<lean::Lean>(program, "lean",
                         "Check proofs in a strict subset of Lean 4; generate and decide theorems", "");
}

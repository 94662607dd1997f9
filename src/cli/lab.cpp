// lab.cpp: `deepseek lab`: tries a paper's claim on tiny models, and says what came of it.
#include <filesystem>
#include <iomanip>
#include <iostream>

#include "src/base/fields.h"
#include "src/base/files.h"
#include "src/base/folder.h"
#include "src/base/progress.h"
#include "src/cli/verbs.h"
#include "src/lab/engine.h"
#include "src/lab/picture.h"
#include "src/lab/scoreboard.h"

namespace {
struct LabVerb {
    std::string name, results = "data/labs/results";
    LabOptions o;
    bool list = false, json = false, show = false, score = false;
    const CLI::App *verb = nullptr;

    void options(CLI::App &v) {
        verb = &v;
        v.add_option("name", name, "a lab, a file of one, or all (with --quick)")->type_name("NAME");
        v.add_option("--out", o.out,
                     "folder for its runs, tables and picture (runs/lab/NAME); the file of --scoreboard");
        v.add_option("--seeds", o.seeds, "runs of each arm, instead of the lab's own number")
            ->check(between(1, 1000));
        v.add_option("--jobs", o.jobs, "runs at a time, of one thread each; 0: as many as there are cores")
            ->check(between(0, 1024))
            ->capture_default_str();
        v.add_flag("--quick", o.quick, "two seeds, a few steps: does it run? gives no verdict");
        v.add_flag("--show", show, "only what it claims, compares and demands");
        v.add_flag("--list", list, "the labs, their claims and minutes");
        v.add_flag("--json", json, "--list as JSON");
        v.add_flag("--scoreboard", score, "the papers' headline claims, and what the labs say of them");
        v.add_option("--results", results, "folder of verdicts, NAME/verdict.json, for --scoreboard")
            ->capture_default_str();
    }
    void run();
};

std::string command_of(const Lab &lab) { return "deepseek lab " + lab.name; }

void list_labs(bool as_json) {
    Json all = Json::array();
    for (const std::string &name : lab_names()) {
        const Lab lab = load_lab(name);
        all.push_back({{"name", name},
                       {"claim", lab.claim},
                       {"paper", lab.paper},
                       {"section", lab.section},
                       {"minutes", lab.minutes},
                       {"seeds", lab.seeds},
                       {"command", command_of(lab)}});
        if (!as_json)
            std::cout << std::left << std::setw(28) << name << std::setw(5) << lab.paper << std::right
                      << std::setw(4) << lab.minutes << " min  " << lab.claim << "\n";
    }
    if (as_json) std::cout << dump_json(all) << "\n";
}

void show_lab(const Lab &lab) {
    std::cout << lab.claim << "\n  " << source_of(lab) << "\n  refuted by: " << lab.falsifier
              << "\n  pilot: " << lab.pilot << "\n  about " << lab.minutes << " minutes on two cores, "
              << lab.seeds << " seeds\n\n";
    for (const Arm &arm : lab.arms) {
        std::cout << "  arm " << arm.name << ":";
        for (const std::string &word : arm.train) std::cout << " " << word;
        for (const std::string &line : arm.before) std::cout << "\n      before " << line;
        for (const std::string &line : arm.then) std::cout << "\n      then " << line;
        std::cout << "\n";
    }
    for (const std::string &line : lab.after) std::cout << "  after " << line << "\n";
    for (const Metric &m : lab.metrics)
        std::cout << "  metric " << m.name << (m.arms.empty() ? "" : " of " + format(m.arms)) << " = "
                  << m.formula << "\n";
    for (const Bar &b : lab.bars) std::cout << "  bar " << b.name << ": " << b.text << "\n";
}

void write_results(const Lab &lab, const LabOptions &o, const Results &results, const Judgement *judgement,
                   double minutes) {
    write_atomically(o.out + "/results.csv", results_csv(results));
    if (judgement) {
        const Json json = verdict_json(lab, results, *judgement, minutes);
        write_atomically(o.out + "/verdict.json", dump_json(json) + "\n");
    }
    if (lab.curve != "none") {
        std::vector<Curve> curves;
        for (const Arm &arm : lab.arms)
            curves.push_back(curve_of(arm.name, folders_of(lab, arm, o), lab.curve));
        write_atomically(o.out + "/curves.csv", curves_csv(curves));
        write_atomically(o.out + "/curves.svg", picture_of(lab.claim, "step", lab.curve, curves));
    }
}

// What was said before the first run holds after the last.
void expect_form(const std::string &file, const Lab &lab) {
    std::string form;
    for (const Metric &m : lab.metrics) form += cat("metric ", m.name, " = ", m.formula, "\n");
    for (const Bar &b : lab.bars) form += cat("bar ", b.name, ": ", b.text, "\n");
    if (exists(file) && read_text(file, 1 << 20) != form)
        fail(file + ": metrics or bars have changed since the first run",
             "another --out, or remove the folder");
    write_atomically(file, form);
}

void run_one(const Lab &asked, LabOptions o) {
    const Lab lab = o.quick ? quick_form(asked) : asked;
    if (o.out.empty()) o.out = "runs/lab/" + lab.name + (o.quick ? "-quick" : "");
    std::cout << lab.claim << "\n" << source_of(lab) << "\n";
    const OwnFolder own(o.out, {"results.csv", "verdict.json"});         // nobody else's meanwhile
    expect_form(o.out + "/form.txt", lab);
    const auto [results, minutes] = run_lab(lab, o);
    std::cout << run_after(lab, o);
    if (o.quick) {
        judge(lab, results);                             // its bars can be computed
        write_results(lab, o, results, nullptr, 0);
        std::cout << table_of(lab, results, nullptr);
        return;
    }
    const Judgement judgement = judge(lab, results);
    write_results(lab, o, results, &judgement, minutes);
    std::cout << table_of(lab, results, &judgement) << "\n"
              << o.out << ": verdict.json, results.csv, curves.svg\n";
}

void write_scoreboard(const std::string &results, const std::string &out) {
    std::vector<Lab> labs;
    for (const std::string &name : lab_names()) labs.push_back(load_lab(name));
    const std::string page = scoreboard(headline_claims(), labs, results);
    if (out.empty()) std::cout << page;
    else write_atomically(out, page);
}

void LabVerb::run() {
    const int asked = list + score + !name.empty();
    expect(asked == 1, asked ? "--list, --scoreboard: of all labs, one of the two, without a name"
                             : "a lab's name, --list, or --scoreboard, is needed");
    expect(!json || list, "--json goes with --list");
    if (list) return list_labs(json);
    if (score) {
        expect(!verb->count("--results") || std::filesystem::is_directory(results), "--results ", results,
               ": no such folder");
        return write_scoreboard(results, o.out);
    }
    if (name != "all") return show ? show_lab(load_lab(name)) : run_one(load_lab(name), o);
    expect(o.quick, "all: only with --quick; in full they take hours, one by one");
    expect(o.out.empty(), "all: each lab has a folder of its own; --out is of one");
    for (const std::string &each : lab_names()) run_one(load_lab(each), o);
}
}  // namespace

void add_lab(CLI::App &program) {
    add_verb<LabVerb>(program, "lab", "Try a paper's claim on tiny models: arms, seeds, a bar, a verdict",
                      "deepseek lab --list\n  deepseek lab loss-free-balancing");
}

// scoreboard.cpp: see scoreboard.h.
//
//   [1] claims   [2] results   [3] the page
#include "src/lab/scoreboard.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <iomanip>
#include <map>
#include <regex>

#include "src/base/fields.h"
#include "src/base/files.h"
#include "src/base/text.h"
#include "src/lab/verdict.h"

namespace fs = std::filesystem;

// ------------------------------------------------------------------------------------------------ [1] claims
static Claim claim_of(const std::string &line, const std::string &at) {
    static const std::regex bar(R"(\s*\|\s*)"), how(R"((lab|test|not here:) (.+))");
    const std::vector<std::string> cells(std::sregex_token_iterator(line.begin(), line.end(), bar, -1), {});
    std::smatch found;
    const bool tried = std::regex_match(cells.back(), found, how);
    expect(cells.size() == 4 || (cells.size() == 3 && !tried), at,
           ": a claim is: claim | where | figure | how");
    Claim c = {cells[0], cells[1], cells[2], "", "", "", {}};
    if (cells.size() == 3) return c;
    expect(tried, at, ": '", cells[3], "' is none of: lab NAME, test NAME, not here: REASON");
    if (found[1] == "lab") {
        parse(found[2], c.bars);
        c.lab = c.bars[0];
        c.bars.erase(c.bars.begin());
    } else {
        (found[1] == "test" ? c.test : c.reason) = found[2];
    }
    return c;
}

std::vector<Paper> parse_claims(const std::string &text, const std::string &name) {
    static const std::regex head(R"(\[(\S+)\] (.+))");
    std::vector<Paper> papers;
    std::string claim, at;
    const auto finish = [&] {
        if (!claim.empty()) papers.back().claims.push_back(claim_of(claim, at));
        claim.clear();
    };
    std::istringstream in(text);
    int number = 0;
    for (std::string line; std::getline(in, line);) {
        number++;
        const size_t from = line.find_first_not_of(' ');
        if (from == line.npos || line[0] == '#') continue;
        if (from > 0 && !claim.empty()) {                // goes on with the line before
            claim += line.substr(from - 1);
            continue;
        }
        finish();
        at = cat(name, ":", number);
        if (std::smatch found; std::regex_match(line, found, head)) {
            papers.push_back({found[1], found[2], {}});
            continue;
        }
        expect(from == 0 && !papers.empty(), at, ": a claim stands below its paper, [TAG] NAME");
        claim = line;
    }
    finish();
    return papers;
}

std::vector<Paper> headline_claims() {
    static const char *const text =
#include "claims.inc"                                    // made by CMake from data/labs/claims.txt
        ;
    return parse_claims(text, "claims.txt");
}

// Every claim's lab and bars are there, and every bar of every lab is counted by some claim: none is hidden.
static void check(const std::vector<Paper> &papers, const std::vector<Lab> &labs) {
    std::vector<std::string> known;
    std::map<std::string, std::vector<std::string>> uncounted;
    for (const Lab &lab : labs) {
        known.push_back(lab.name);
        for (const Bar &bar : lab.bars) uncounted[lab.name].push_back(bar.name);
    }
    for (const Paper &paper : papers)
        for (const Claim &c : paper.claims) {
            if (c.lab.empty()) continue;
            const auto lab =
                std::find_if(labs.begin(), labs.end(), [&](const Lab &l) { return l.name == c.lab; });
            if (lab == labs.end())
                fail(cat(paper.tag, ": '", c.says, "': no lab '", c.lab, "'"), did_you_mean(c.lab, known));
            for (const std::string &bar : c.bars)
                expect(std::any_of(lab->bars.begin(), lab->bars.end(),
                                   [&](const Bar &b) { return b.name == bar; }),
                       paper.tag, ": '", c.says, "': lab ", c.lab, " has no bar '", bar, "'");
            std::erase_if(uncounted[c.lab], [&](const std::string &bar) {
                return c.bars.empty() || std::count(c.bars.begin(), c.bars.end(), bar);
            });
        }
    for (const auto &[lab, bars] : uncounted)
        expect(bars.empty(), "lab ", lab, ": no claim counts its bar ", bars[0]);
}

// ----------------------------------------------------------------------------------------------- [2] results
namespace {
struct Result {
    Judgement judgement;
    double minutes;
    std::string machine;
};
}  // namespace

static bool of_this_form(const JsonObject &verdict, const Lab &lab) {
    const Json &bars = need(verdict, "bars");
    bool same = need(verdict, "arms") == arms_json(lab) && need(verdict, "formulas") == formulas_json(lab) &&
                bars.size() == lab.bars.size();
    for (size_t i = 0; same && i < bars.size(); i++)
        same = bars[i].value("name", "") == lab.bars[i].name && bars[i].value("bar", "") == lab.bars[i].text;
    return same;
}

// Judges once more by the numbers of all seeds.
static Result read_result(const std::string &path, const Lab &lab) {
    const Json json = parse_json(read_text(path, 1 << 24), path);
    const JsonObject verdict(json, path);
    expect(of_this_form(verdict, lab), path, ": is of another form of lab ", lab.name,
           ": arms, metrics or bars have changed since; run it again");
    Results results;
    for (const auto &[metric, arms] : get_object(verdict, "metrics").json.items())
        for (const auto &[arm, seeds] : JsonObject(arms, path).json.items()) {
            if (arm == "noise_floor") continue;
            const JsonObject values(seeds, path);
            for (const auto &each : seeds.items()) {
                long seed = 0;
                parse(each.key(), seed);
                const bool known = !each.value().is_null();
                results[metric][arm][seed] =
                    known ? get_real(values, each.key().c_str(), -1e300, 1e300) : NAN;
            }
        }
    const Result r = {judge(lab, results), get_real(verdict, "minutes", 0, 1e6),
                      get_string(verdict, "machine")};
    const std::string says = get_string(verdict, "verdict"), found = word_of(r.judgement.verdict);
    expect(says == found, path, ": says ", says, ", but its numbers say ", found);
    return r;
}

static std::map<std::string, Result> read_results(const std::vector<Lab> &labs, const std::string &folder) {
    std::map<std::string, Result> results;
    for (const Lab &lab : labs)
        if (const std::string path = cat(folder, "/", lab.name, "/verdict.json"); exists(path))
            results.emplace(lab.name, read_result(path, lab));
    for (const auto &entry : exists(folder) ? fs::directory_iterator(folder) : fs::directory_iterator())
        expect(results.count(entry.path().filename()), entry.path().string(),
               ": is no lab's, or has no verdict.json");
    return results;
}

// ---------------------------------------------------------------------------------------------- [3] the page
static const char *const head = R"(# Scoreboard

What the papers claim, and what came of it here. `make scoreboard` writes this page from data/labs/claims.txt
and data/labs/results/NAME/verdict.json; `make pages` fails where it says anything else.

`deepseek lab NAME` makes an experiment again: it trains small models, each arm once a seed, and judges them
by bars that were written down before the first run and are not moved after it; with `--show` it only prints
them. Arms are paired by seed, there are three seeds or more, and only what exceeds two standard errors of the
mean counts. "Ours" is each bar's mean over seeds, its standard error, and what it should be. The verdict is
that on the worst bar, and about the effect in models of a million parameters, not about the paper's models:

- *reproduced*: every bar holds; *not reproduced*: one is missed; *opposite*: one shows an effect of the other
  sign; *inconclusive*: the seeds do not tell; *not run yet*: the lab is there, its result is not;
- *tested*: no matter of seeds: a test of `make test` checks it;
- *not here*: cannot be tried at this size, and why; *no lab yet*: could be, but is not.

)";

namespace {
struct Row { std::string ours, verdict, command, minutes, picture; };
struct Page {
    const std::vector<Lab> &labs;
    std::string folder;
    std::map<std::string, Result> results;
    std::vector<std::string> machines;                   // the footnotes
    Row row(const Claim &);
    void tried(const Claim &, const Result &, Row &);
};
}  // namespace

void Page::tried(const Claim &c, const Result &r, Row &row) {
    Verdict worst = Verdict::reproduced;
    std::ostringstream ours;
    ours << std::setprecision(3);
    for (const Judged &j : r.judgement.bars) {
        if (!c.bars.empty() && !std::count(c.bars.begin(), c.bars.end(), j.bar.name)) continue;
        worst = std::max(worst, j.verdict);
        ours << j.bar.name << " " << j.mean << " ± " << j.error << (j.bar.above ? " > " : " < ")
             << j.bar.limit << (j.verdict == Verdict::reproduced ? "" : ": " + word_of(j.verdict)) << "; ";
    }
    row.ours = cat(ours.str(), r.judgement.bars[0].values.size(), " seeds");
    row.verdict = word_of(worst);
    size_t machine = std::find(machines.begin(), machines.end(), r.machine) - machines.begin();
    if (machine++ == machines.size()) machines.push_back(r.machine);
    row.minutes = cat(r.minutes, " [^", machine, "]");
    const fs::path picture = fs::path(folder) / c.lab / "curves.svg";
    if (fs::exists(picture)) row.picture = (".." / picture).string();          // as notebooks/ sees it
}

Row Page::row(const Claim &c) {
    if (!c.test.empty()) return {"", "tested", "build/release/tests -tc=\"" + c.test + "\"", "", ""};
    if (!c.reason.empty()) return {c.reason, "not here", "", "", ""};
    if (c.lab.empty()) return {"", "no lab yet", "", "", ""};
    const Lab &lab = *std::find_if(labs.begin(), labs.end(), [&](const Lab &l) { return l.name == c.lab; });
    Row row = {"", "not run yet", "deepseek lab " + c.lab, cat("about ", lab.minutes), ""};
    if (const auto result = results.find(c.lab); result != results.end()) tried(c, result->second, row);
    return row;
}

std::string scoreboard(const std::vector<Paper> &papers, const std::vector<Lab> &labs,
                       const std::string &results) {
    check(papers, labs);
    Page page = {labs, results, read_results(labs, results), {}};
    std::map<std::string, int> count;
    int claims = 0;
    std::ostringstream tables;
    for (const Paper &paper : papers) {
        tables << "\n## " << paper.tag << ": " << paper.name
               << "\n\n| claim | the paper's figure | ours | verdict | command | minutes |\n"
               << "|---|---|---|---|---|---|\n";
        for (const Claim &c : paper.claims) {
            const Row row = page.row(c);
            count[row.verdict]++, claims++;
            tables << "| " << c.says << " (" << c.where << ") | " << c.figure << " | " << row.ours << " | "
                   << (row.picture.empty() ? row.verdict : "[" + row.verdict + "](" + row.picture + ")")
                   << " | " << (row.command.empty() ? "" : "`" + row.command + "`") << " | " << row.minutes
                   << " |\n";
        }
    }
    std::ostringstream out;
    out << head << "| verdict | claims |\n|---|---|\n";
    for (const char *verdict : {"reproduced", "not reproduced", "opposite", "inconclusive", "not run yet",
                                "tested", "not here", "no lab yet"})
        out << "| " << verdict << " | " << count[verdict] << " |\n";
    out << "| all | " << claims << " |\n" << tables.str();
    for (size_t i = 0; i < page.machines.size(); i++)
        out << (i ? "" : "\n") << "[^" << i + 1 << "]: " << page.machines[i] << "\n";
    return out.str();
}

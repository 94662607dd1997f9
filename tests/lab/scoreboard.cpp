// scoreboard.cpp: made-up claims, labs and verdicts, and what the page says of them, or why it refuses.
#include "src/lab/scoreboard.h"

#include "src/lab/verdict.h"
#include "tests/check.h"
#include "tests/text/folder.h"

namespace {
const char *const claims = R"(# a comment
[LLM] DeepSeek LLM, arXiv
Width helps | 2.3 | 0.5 nats | lab width
Depth helps,
    and more of it more | 3 | 0.4 nats | lab depth helps
Depth hurts | 3 | none | lab depth hurts

[V2] DeepSeek-V2
It is counted | 2 | 7 | test census: seven*
It is large | abstract | 236B | not here: needs 236B parameters
It is open | 5 | none
)";

// Bars on loss(low) - loss(high), which made_up() says is `effect`, give or take `noise`.
Lab lab_of(const std::string &name, const std::string &bars) {
    return parse_lab("claim = It helps.\npaper = LLM\nfalsifier = not\npilot = none\nminutes = 3\n"
                     "all = --preset llm-nano\ndiffer = lr\nmetric loss = last(loss)\n" +
                         bars + "[arm low]\ntrain = --lr 1e-3\n[arm high]\ntrain = --lr 2e-3\n",
                     name);
}
std::vector<Lab> labs_of() {
    return {
        lab_of("width", "bar wide = loss(low) - loss(high) > 0.1\n"),
        lab_of("depth", "bar helps = loss(low) - loss(high) > 0\nbar hurts = loss(low) - loss(high) < 0\n")};
}
Json made_up(const Lab &lab, double effect, double noise, const std::string &machine = "a Laptop, 2 cores") {
    Results results;
    for (long seed = 1; seed <= 4; seed++) {
        results["loss"]["low"][seed] = 3 + seed + effect + (seed % 2 ? noise : -noise);
        results["loss"]["high"][seed] = 3 + seed;
    }
    Json json = verdict_json(lab, results, judge(lab, results), 2.5);
    json["machine"] = machine;
    return json;
}

struct Board {
    Folder results;
    std::vector<Lab> labs = labs_of();
    std::string text = claims;
    void put(const std::string &lab, const Json &verdict) {
        results.put(lab + "/verdict.json", dump_json(verdict));
    }
    std::string page() { return scoreboard(parse_claims(text, "claims"), labs, results.at.string()); }
    std::string refused() {
        return error_of([&] { page(); });
    }
    std::string refused(const std::string &from, const std::string &to) {    // with this change to the claims
        text = claims;
        const size_t at = text.find(from);
        REQUIRE(at != std::string::npos);
        text.replace(at, from.size(), to);
        return refused();
    }
    bool says(const std::string &words) { return page().find(words) != std::string::npos; }
};
}  // namespace

TEST_CASE("scoreboard: every verdict, a test, a reason and a claim without a lab have their row") {
    Board b;
    CHECK(b.says("## LLM: DeepSeek LLM, arXiv\n"));
    CHECK(b.says("| Width helps (2.3) | 0.5 nats |  | not run yet | `deepseek lab width` | about 3 |\n"));
    CHECK(
        b.says("| It is counted (2) | 7 |  | tested | `build/release/tests -tc=\"census: seven*\"` |  |\n"));
    CHECK(b.says("| It is large (abstract) | 236B | needs 236B parameters | not here |  |  |\n"));
    CHECK(b.says("| It is open (5) | none |  | no lab yet |  |  |\n"));
    CHECK(b.says("| not run yet | 3 |\n| tested | 1 |\n| not here | 1 |\n| no lab yet | 1 |\n| all | 6 |\n"));
    const auto verdict = [&](double effect, double noise) {
        b.put("width", made_up(b.labs[0], effect, noise));
        const std::string page = b.page();
        const size_t at = page.find("| Width helps");
        return page.substr(at, page.find('\n', at) - at);
    };
    const std::string begins = "| Width helps (2.3) | 0.5 nats | wide ",
                      ends = " | `deepseek lab width` | 2.5 [^1] |";
    CHECK(verdict(0.5, 0.01) == begins + "0.5 ± 0.00577 > 0.1; 4 seeds | reproduced" + ends);
    CHECK(verdict(0.05, 0) == begins + "0.05 ± 0 > 0.1: not reproduced; 4 seeds | not reproduced" + ends);
    CHECK(verdict(-0.5, 0) == begins + "-0.5 ± 0 > 0.1: opposite; 4 seeds | opposite" + ends);
    CHECK(verdict(0.125, 0.5) == begins + "0.125 ± 0.289 > 0.1: inconclusive; 4 seeds | inconclusive" + ends);
    CHECK(b.says("| inconclusive | 1 |\n| not run yet | 2 |\n"));
}

TEST_CASE("scoreboard: a claim is judged by the bars that it names, the worst of them") {
    Board b;
    b.put("depth", made_up(b.labs[1], 0.5, 0));
    CHECK(b.says(
        "| Depth helps, and more of it more (3) | 0.4 nats | helps 0.5 ± 0 > 0; 4 seeds | reproduced |"));
    CHECK(b.says("| Depth hurts (3) | none | hurts 0.5 ± 0 < 0: opposite; 4 seeds | opposite |"));
    b.text.replace(b.text.find("lab depth helps"), 15, "lab depth");
    CHECK(b.says("| helps 0.5 ± 0 > 0; hurts 0.5 ± 0 < 0: opposite; 4 seeds | opposite |"));
}

TEST_CASE("scoreboard: a machine is one footnote, a picture that is there is a link") {
    Board b;
    b.put("width", made_up(b.labs[0], 0.5, 0));
    b.put("depth", made_up(b.labs[1], 0.5, 0, "a Desktop"));
    CHECK(b.says("2.5 [^1] |"));
    CHECK(b.page().ends_with("\n\n[^1]: a Laptop, 2 cores\n[^2]: a Desktop\n"));
    CHECK(!b.says("curves.svg"));
    b.results.put("width/curves.svg", "<svg/>");
    CHECK(b.says(" | [reproduced](" + b.results.at.string() + "/width/curves.svg) | "));
}

TEST_CASE("scoreboard: a lab or bar that is not there, and a bar that no claim counts, are errors") {
    Board b;
    CHECK(b.refused("lab width", "lab wide") == "LLM: 'Width helps': no lab 'wide'");
    CHECK(b.refused("lab depth helps", "lab depth helped") ==
          "LLM: 'Depth helps, and more of it more': lab depth has no bar 'helped'");
    CHECK(b.refused("lab depth hurts", "lab depth helps") == "lab depth: no claim counts its bar hurts");
    CHECK(b.refused(" | lab width", "") == "lab width: no claim counts its bar wide");
    CHECK(b.refused("lab width", "labs width") ==
          "claims:3: 'labs width' is none of: lab NAME, test NAME, not here: REASON");
    CHECK(b.refused(" | 236B", "") == "claims:10: a claim is: claim | where | figure | how");
    CHECK(b.refused("[LLM] ", "") == "claims:2: a claim stands below its paper, [TAG] NAME");
}

TEST_CASE("scoreboard: a verdict of another form of its lab, of no lab, or against its numbers is an error") {
    Board b;
    const std::string at = b.results / "width/verdict.json";
    const Json good = made_up(b.labs[0], 0.5, 0);
    const std::string form =
        at + ": is of another form of lab width: arms, metrics or bars have changed since; run it again";
    b.put("width", made_up(lab_of("width", "bar wide = loss(low) - loss(high) > 0.2\n"), 0.5, 0));
    CHECK(b.refused() == form);
    b.put("width", made_up(lab_of("width", "bar broad = loss(low) - loss(high) > 0.1\n"), 0.5, 0));
    CHECK(b.refused() == form);
    b.put("width", made_up(b.labs[1], 0.5, 0));
    CHECK(b.refused() == form);
    Json other = good;
    other["arms"]["high"] = "--preset llm-nano --lr 3e-3";
    b.put("width", other);
    CHECK(b.refused() == form);
    other = good;
    other["verdict"] = "opposite";
    b.put("width", other);
    CHECK(b.refused() == at + ": says opposite, but its numbers say reproduced");
    b.put("width", good);
    CHECK(b.refused() == "");
    b.put("height", good);
    CHECK(b.refused() == b.results / "height" + ": is no lab's, or has no verdict.json");
}

TEST_CASE("scoreboard: the program's claims are of its labs, every bar counted, every paper there") {
    std::vector<Lab> labs;
    for (const std::string &name : lab_names()) labs.push_back(load_lab(name));
    const std::vector<Paper> papers = headline_claims();
    CHECK(papers.size() == 17);                          // and one for what is this program's own
    for (const Paper &paper : papers) {
        INFO(paper.tag);
        CHECK((paper.tag == "ours" || paper.claims.size() >= 4));
    }
    CHECK(error_of([&] { scoreboard(papers, labs, "no such folder"); }) == "");
}

// lab.cpp: what labs promise: formulas compute, files hide nothing, and made-up results of known truth get
// the verdict that they deserve.
#include "src/lab/lab.h"

#include <cmath>
#include <filesystem>

#include "src/base/files.h"
#include "src/base/random.h"
#include "src/lab/engine.h"
#include "src/lab/expression.h"
#include "src/lab/picture.h"
#include "tests/check.h"

using doctest::Approx;

// ---------------------------------------------------------------------------------------------- [1] formulas
TEST_CASE("lab: formulas have the usual order, signs, functions, and calls of the caller's meaning") {
    std::vector<std::string> asked;
    const auto value = [&](const std::string &text) {
        return evaluate(text, "here", [&](const std::string &name, const std::vector<std::string> &words) {
            asked = words;
            if (name == "two") return 2.0;
            fail("no '" + name + "'");
        });
    };
    CHECK(value("1 + 2 * 3") == 7);
    CHECK(value("(1 + 2) * 3 / 4 - 0.25") == 2);
    CHECK(value("10 - 2 - 3") == 5);
    CHECK(value("-(2 - 3) * -2") == -2);
    CHECK(value("1e-3 * 2.5E+2") == Approx(0.25));
    CHECK(value("abs(1 - two(a, b c)) + ln(exp(2)) + sqrt(16)") == Approx(7));
    CHECK(asked == std::vector<std::string>{"a", "b c"});
    CHECK(value("least(3, two(x), 2 + 5) * most(1, two(x))") == 4);
    for (const char *wrong : {"", "1 +", "2 3", "(1", "abs(1", "two(x", "1..2", "*", "least(1"}) {
        INFO(std::string(wrong));
        CHECK(error_of([&] { value(wrong); }).starts_with("here: '"));
    }
    CHECK(error_of([&] { value("three(x)"); }) == "no 'three'");
}

// ---------------------------------------------------------------------------------------- [2] files of labs
namespace {
const char *const honest = R"(# a comment
claim = Width helps.
paper = LLM
falsifier = It does
    not.
pilot = none
minutes = 1
all = --preset llm-nano --steps 20 --batch 2
quick = --steps 3
differ = lr
metric loss = last(valid_nats)
bar better = loss(low) - loss(high) > 0   # by any amount
[arm low]
train = --lr 1e-3
[arm high]
train = --lr 2e-3
then = eval --model {run} --data stories
)";
std::string with(const std::string &from, const std::string &to) {
    std::string text = honest;
    const size_t at = text.find(from);
    REQUIRE(at != std::string::npos);
    return text.replace(at, from.size(), to);
}
std::string refused(const std::string &text) {
    return error_of([&] { parse_lab(text, "it"); });
}
}  // namespace

TEST_CASE("lab: a file says claim, arms, metrics and bars; lines may go on") {
    const Lab lab = parse_lab(honest, "it");
    CHECK(lab.claim == "Width helps.");
    CHECK(lab.falsifier == "It does not.");
    REQUIRE(lab.arms.size() == 2);
    CHECK(lab.arms[1].options.lr == 2e-3);
    CHECK(lab.arms[1].options.steps == 20);
    CHECK(lab.arms[1].then == std::vector<std::string>{"eval --model {run} --data stories"});
    CHECK(lab.arms[0].then.empty());
    CHECK(lab.bars[0].value == "loss(low) - loss(high)");
    CHECK(lab.bars[0].above);
    CHECK(quick_form(lab).arms[0].options.steps == 3);
    CHECK(quick_form(lab).arms[0].options.batch == 2);
    CHECK(
        quick_form(parse_lab(with("quick = --steps 3", "quick = --steps /5"), "it")).arms[1].options.steps ==
        4);
}

TEST_CASE("lab: commands before and after each training, after all; metrics of some arms") {
    const Lab lab = parse_lab(
        with("[arm low]",
             "before = op list\nafter = op list {runs}\nmetric x of high low = last(lm)\n[arm low]"),
        "it");
    CHECK(lab.arms[1].before == std::vector<std::string>{"op list"});
    CHECK(lab.after == std::vector<std::string>{"op list {runs}"});
    CHECK(lab.metrics.back().arms == std::vector<std::string>{"high", "low"});
    CHECK(arms_json(lab)["high"].get<std::string>().find("op list; ") == 0);
    CHECK(arms_json(lab)["high"].get<std::string>().find("; then eval") != std::string::npos);
    CHECK(refused(with("[arm low]", "metric x of hihg = last(lm)\n[arm low]")) ==
          "it: metric x of hihg: no such arm");
    CHECK(refused(with("then = eval", "then = lab it.lab")) ==
          "it:17: then = lab it.lab --model {run} --data stories: a lab does not begin others");
    CHECK(refused(with("then = eval", "then = evil")) == "it:17: then: 'evil' is no verb for a lab");
    CHECK(refused(with("metric loss", "metric loss for all")).find("is no key") != std::string::npos);
}

TEST_CASE("lab: what is missing or unknown is refused by its line") {
    CHECK(refused(with("claim = Width helps.\n", "")) == "it: no claim: a lab says it before its first run");
    CHECK(refused(with("pilot = none\n", "")) == "it: no pilot: a lab says it before its first run");
    CHECK(refused(with("minutes = 1", "minutes = soon")) == "it:7: 'soon' is no number");
    CHECK(refused(with("claim", "clam")).find("it:2: unknown key 'clam'") == 0);
    CHECK(refused(with("> 0", "is good")).find("it:12: a bar is") == 0);
    CHECK(refused(with("> 0 ", "> nothing ")).find("it:12: 'nothing' is no number") == 0);
    CHECK(refused(with("[arm low]", "[low]")) == "it:13: a section is [arm NAME]");
    CHECK(refused(with("--lr 1e-3", "--lrr 1e-3")) == "it, arm low: train has no option --lrr");
    CHECK(refused(with("--lr 1e-3", "--lr fast")).find("it, arm low: --lr: ") == 0);
    CHECK(refused(with("--lr 1e-3", "--lr")) == "it, arm low: --lr has no value");
    CHECK(refused(with("--lr 1e-3", "--seed 7")) == "it, arm low: --seed is the engine's business");
    CHECK(refused(with("llm-nano", "llm-nanno")).find("no preset") == 0);
}

TEST_CASE("lab: what would be found after the last run is found before the first") {
    CHECK(refused(with("metric loss = last(valid_nats)", "metric loss = lst(valid_nats)")) ==
          "it: metric loss: 'lst' is unknown");
    CHECK(refused(with("metric loss = last(valid_nats)", "metric loss = 5")) ==
          "it: metric loss: reads no column");
    CHECK(refused(with("last(valid_nats)", "last(load.max_vio)")) ==
          "it: metric loss: no command of arm low writes load.csv");
    CHECK(refused(with("bar better", "metric loss = last(lm)\nbar better")) ==
          "it: metric loss is there twice");
    CHECK(refused(with("[arm low]", "bar better = loss(low) > 1\n[arm low]")) ==
          "it: bar better is there twice");
    CHECK(refused(with("[arm high]", "[arm low]")) == "it, arm 'low': is there twice");
    for (const char *name : {"../evil", "/evil", "..", "a/b", "w,x"})
        CHECK(refused(with("[arm high]", cat("[arm ", name, "]"))).find("a name is of letters") !=
              std::string::npos);
    CHECK(refused(with("[arm high]", "[arm others]")) == "it, arm 'others': {others} means something else");
    CHECK(refused(with("[arm high]", "[arm verdict.json]")).find("a file of the lab") != std::string::npos);
    CHECK(refused(with("differ = lr", "differ = lr d_fff")) == "it: differ: 'd_fff' is no option or field");
    CHECK(refused(with("quick = --steps 3", "quick = --steps")) ==
          "it: quick: --steps: options, each with its value");
    CHECK(refused(with("pilot = none", "pilot = none\npilot = another")) == "it:7: pilot is there twice");
    CHECK(refused(with("all = --preset", "all = \"--preset")).find("a quotation mark is not closed") !=
          std::string::npos);
    CHECK(refused(with("then = eval --model {run} --data stories", "then =")) == "it:17: then says nothing");
    CHECK(refused(with("--lr 1e-3", "--threads 2")) == "it, arm low: --threads is the engine's business");
    CHECK(parse_lab("\xEF\xBB\xBF" + std::string(honest), "it").claim == "Width helps.");
}

TEST_CASE("lab: arms that differ in what was not declared are refused: options, fields, tokens, sizes") {
    CHECK(refused(with("differ = lr", "differ = batch")) ==
          "it, arm high: --lr is 0.002, in low 0.001: not declared in `differ`");
    CHECK(refused(with("--lr 2e-3", "--lr 2e-3 --warmup 7")).find("--warmup is 7, in low -1") !=
          std::string::npos);
    CHECK(refused(with("--lr 2e-3", "--lr 2e-3 --steps 21")).find("--steps is 21") != std::string::npos);
    CHECK(refused(with("--lr 2e-3", "--lr 2e-3 --set eps=1e-5")).find("eps is 1e-05") != std::string::npos);
    const std::string wider = with("--lr 2e-3", "--lr 2e-3 --set d_ff=99");
    CHECK(refused(wider).find("d_ff is 99") != std::string::npos);
    const auto declared = [&](const std::string &also) {
        std::string text = wider;
        return text.replace(text.find("differ = lr"), 11, "differ = lr d_ff\nequal = " + also);
    };
    CHECK(refused(declared("tokens")) == "");
    CHECK(refused(declared("parameters")).find("parameters: ") != std::string::npos);
    CHECK(refused(declared("flops")).find("they must be equal within 1%") != std::string::npos);
    CHECK(refused(declared("beauty")).find("equal: beauty is none of") != std::string::npos);
}

TEST_CASE("lab: every lab of the program can be read, in its quick form, too") {
    CHECK(lab_names().size() >= 10);
    for (const std::string &name : lab_names()) {
        INFO(name);
        const Lab lab = load_lab(name);
        CHECK(lab.seeds >= 3);
        CHECK(lab.minutes <= 15);
        CHECK(quick_form(lab).arms.size() == lab.arms.size());
    }
    CHECK(error_of([] { load_lab("loss-free-balansing"); }) == "no lab or file 'loss-free-balansing'");
}

// ---------------------------------------------------------------------------------------------- [3] verdicts
namespace {
Lab lab_with(const std::string &bar) { return parse_lab(with("loss(low) - loss(high) > 0", bar), "it"); }

// Arm high is better than low by `effect`; each seed shifts both alike, and has a little of its own.
Results made_up(double effect, double noise, int seeds = 5) {
    Results results;
    for (long seed = 1; seed <= seeds; seed++) {
        const double both = normal(seeded(1), 1, 0, seed), own = noise * (seed % 2 ? 1 : -1);
        results["loss"]["low"][seed] = 3 + both + own;
        results["loss"]["high"][seed] = 3 + both - effect;
    }
    return results;
}
Verdict verdict_of(const std::string &bar, const Results &results) {
    return judge(lab_with(bar), results).verdict;
}
}  // namespace

TEST_CASE("lab: made-up results of known truth get their verdicts, all four") {
    const std::string effect = "loss(low) - loss(high) > 0.1";
    CHECK(verdict_of(effect, made_up(0.5, 0.01)) == Verdict::reproduced);
    CHECK(verdict_of(effect, made_up(0.05, 0.01)) == Verdict::not_reproduced);        // there, but too small
    CHECK(verdict_of(effect, made_up(-0.5, 0.01)) == Verdict::opposite);
    CHECK(verdict_of(effect, made_up(0.12, 0.2)) == Verdict::inconclusive);
    const std::string below = "loss(high) - loss(low) < -0.1";       // the same claim the other way round
    CHECK(verdict_of(below, made_up(0.5, 0.01)) == Verdict::reproduced);
    CHECK(verdict_of(below, made_up(0.05, 0.01)) == Verdict::not_reproduced);
    CHECK(verdict_of(below, made_up(-0.5, 0.01)) == Verdict::opposite);
    const std::string no_worse =
        "loss(high) - loss(low) < 0.1";                          // a bar that allows a little has no opposite
    CHECK(verdict_of(no_worse, made_up(0, 0.01)) == Verdict::reproduced);
    CHECK(verdict_of(no_worse, made_up(-0.5, 0.01)) == Verdict::not_reproduced);
}

TEST_CASE("lab: seeds are paired: what a seed does to both arms, however much, is no noise") {
    const Judgement j = judge(lab_with("loss(low) - loss(high) > 0"), made_up(0.05, 0.001));
    CHECK(j.verdict == Verdict::reproduced);
    CHECK(j.bars[0].mean == Approx(0.05).epsilon(0.05));
    CHECK(j.bars[0].error == Approx(0.001 * std::sqrt(24.0 / 25 / 4 * 5 / 5)).epsilon(0.02));
    CHECK(noise_floor(lab_with("loss(low) > 0"), made_up(0.05, 0.001), "loss") > 0.1);
}

TEST_CASE("lab: fewer than three seeds resolve nothing; a seed that an arm lacks is left out") {
    const Judgement two = judge(lab_with("loss(low) - loss(high) > 0"), made_up(0.5, 0, 2));
    CHECK(two.verdict == Verdict::inconclusive);
    CHECK(two.bars[0].unresolved == "three seeds or more");
    Results results = made_up(0.5, 0.01);
    results["loss"]["high"].erase(2);
    CHECK(judge(lab_with("loss(low) - loss(high) > 0"), results).bars[0].values.count(2) == 0);
}

TEST_CASE("lab: the verdict on a claim is that on its worst bar") {
    Lab lab = lab_with("loss(low) - loss(high) > 0");
    lab.bars.push_back({"large", "loss(low) - loss(high) > 1", "loss(low) - loss(high)", true, 1});
    CHECK(judge(lab, made_up(0.5, 0.01)).verdict == Verdict::not_reproduced);
    CHECK(judge(lab, made_up(0.5, 0.01)).bars[0].verdict == Verdict::reproduced);
}

TEST_CASE("lab: what an inconclusive one would take: seeds by the square of what is missing") {
    const Judgement j = judge(lab_with("loss(low) - loss(high) > 0"), made_up(0.05, 0.1));
    CHECK(j.verdict == Verdict::inconclusive);
    CHECK(j.bars[0].unresolved.find("seeds, if the mean stays where it is") != std::string::npos);
}

TEST_CASE("lab: a number that a run could not know leaves its bar open, and says at which seed") {
    Results results = made_up(1, 0.001);
    const Lab lab = lab_with("loss(low) > 0");
    REQUIRE(judge(lab, results).verdict == Verdict::reproduced);
    results["loss"]["low"][2] = NAN;
    const Judgement open = judge(lab, results);
    CHECK(open.verdict == Verdict::inconclusive);
    CHECK(open.bars[0].unresolved == "what is not known at seed 2");
    CHECK(verdict_json(lab, results, open, 1)["metrics"]["loss"]["low"]["2"].is_null());
}

TEST_CASE("lab: a bar that asks for an absent metric or arm is refused") {
    const auto bar = [](const std::string &text) {
        return refused(with("loss(low) - loss(high) > 0", text));
    };
    CHECK(bar("los(low) > 0") == "it: bar better: no metric 'los'");
    CHECK(bar("loss(hi) > 0") == "it: bar better: loss has no arm 'hi'");
    CHECK(bar("1 > 0") == "it: bar better: asks for no metric");
    CHECK(bar("loss(low > 0").find("a parenthesis is not closed") != std::string::npos);
    CHECK(bar("loss(low) >= 0").find("a bar is: ") != std::string::npos);
    CHECK(bar(std::string(60000, '(') + "loss(low) > 0").find("nested too deeply") != std::string::npos);
    CHECK(error_of([] {
              judge(lab_with("ln(loss(low) - 99) > 0"), made_up(0, 1));
          }).find("its value at seed 1") != std::string::npos);
}

TEST_CASE("lab: verdict.json names claim, bar, seeds, error, floor and verdict") {
    const Lab lab = lab_with("loss(low) - loss(high) > 0");
    const Results results = made_up(0.5, 0.01, 3);
    const Json json = verdict_json(lab, results, judge(lab, results), 1.23);
    CHECK(json["verdict"] == "reproduced");
    CHECK(json["bars"][0]["by_seed"].size() == 3);
    CHECK(json["bars"][0]["standard_error"].get<double>() > 0);
    CHECK(json["metrics"]["loss"]["noise_floor"].get<double>() > 0);
    CHECK(json["metrics"]["loss"]["high"]["2"] == results.at("loss").at("high").at(2));
    CHECK(json["arms"]["low"] == "--preset llm-nano --steps 20 --batch 2 --lr 1e-3");
    CHECK(json["minutes"] == 1.2);
}

// ------------------------------------------------------------------------------ [4] numbers, and pictures
namespace {
struct Folder {
    std::string at = (std::filesystem::temp_directory_path() / "lab-XXXXXX").string();
    Folder() { REQUIRE(mkdtemp(at.data())); }
    ~Folder() { std::filesystem::remove_all(at); }
};
}  // namespace

TEST_CASE("lab: a metric is a formula of columns; empty cells are skipped, an absent column is named") {
    Folder folder;
    write_atomically(folder.at + "/metrics.csv", "step,loss,valid_nats\n1,5,\n2,3,2.5\n3,1,\n4,2,1.5\n");
    write_atomically(folder.at + "/load.csv", "router,devices\n0,2.5\n1,3.5\n");
    const auto value = [&](const std::string &formula) { return metric_of({"m", formula}, folder.at); };
    CHECK(value("last(valid_nats)") == 1.5);
    CHECK(value("first(valid_nats) - min(loss)") == 1.5);
    CHECK(value("mean(loss, 2)") == 1.5);
    CHECK(value("mean(loss)") == 2.75);
    CHECK(value("max(loss, 100)") == 5);
    CHECK(value("mean(load.devices)") == 3);
    CHECK(value("at(load.devices, 1)") == 3.5);
    CHECK(value("reached(loss, 2)") == 1);
    CHECK(value("reached(valid_nats, 2.6)") == 4);       // never: the last row that has a value
    CHECK(error_of([&] { value("at(load.devices, 7)"); }) == "metric m: load.devices: no row '7'");
    CHECK(error_of([&] { value("last(lost)"); }).find("/metrics.csv: no column 'lost'") != std::string::npos);
    CHECK(error_of([&] { value("last(other.x)"); }).find("other.csv") != std::string::npos);
    CHECK(error_of([&] { value("median(loss)"); }) == "metric m: 'median' is unknown");
    CHECK(error_of([&] { value("mean(loss, 0)"); }) == "metric m: 0 rows");
}

TEST_CASE(
    "lab: a curve is the mean over seeds with its extremes; its picture is an SVG with every arm's name") {
    Folder a, b;
    std::string one = "step,loss\n", other = one;
    for (int step = 1; step <= 600; step++) {
        one += cat(step, ",", 1, "\n");
        other += cat(step, ",", step <= 300 ? 3 : 2, "\n");
    }
    write_atomically(a.at + "/metrics.csv", one);
    write_atomically(b.at + "/metrics.csv", other);
    const Curve c = curve_of("a <b>", {a.at, b.at}, "loss");
    REQUIRE(c.x.size() == 60);
    CHECK(c.x.back() == 600);
    CHECK(c.mean[0] == 2);
    CHECK(c.low[0] == 1);
    CHECK(c.high[59] == 2);
    const std::string svg = picture_of("claim", "step", "loss", {c});
    CHECK(svg.starts_with("<svg "));
    CHECK(svg.find("a &lt;b>") != std::string::npos);
    CHECK(svg.find("nan") == std::string::npos);
    CHECK(curves_csv({c}).find("a <b>,600,1.5,1,2\n") != std::string::npos);
}

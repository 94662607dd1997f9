// verdict.cpp: see verdict.h.
#include "src/lab/verdict.h"

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <set>
#include <thread>

#include "src/base/error.h"
#include "src/base/text.h"
#include "src/lab/expression.h"

std::string word_of(Verdict v) {
    static const char *const words[] = {"reproduced", "inconclusive", "not reproduced", "opposite"};
    return words[(int)v];
}

// ----------------------------------------------------------------------------------------------- [1] judging
// The seeds that every arm has.
static std::set<long> seeds_of(const Results &results) {
    std::map<long, int> times;
    int columns = 0;
    for (const auto &[metric, arms] : results)
        for (const auto &[arm, seeds] : arms) {
            columns++;
            for (const auto &[seed, value] : seeds) times[seed]++;
        }
    std::set<long> complete;
    for (const auto &[seed, n] : times)
        if (n == columns) complete.insert(seed);
    return complete;
}

static double look_up(const Results &results, const Bar &bar, long seed, const std::string &metric,
                      const std::vector<std::string> &words) {
    std::vector<std::string> known;
    for (const auto &found : results) known.push_back(found.first);
    const auto at = results.find(metric);
    if (at == results.end())
        fail(cat("bar ", bar.name, ": no metric '", metric, "'"), did_you_mean(metric, known));
    expect(words.size() == 1, "bar ", bar.name, ": ", metric, "(ARM): of one arm");
    known.clear();
    for (const auto &arm : at->second) known.push_back(arm.first);
    const auto arm = at->second.find(words[0]);
    if (arm == at->second.end())
        fail(cat("bar ", bar.name, ": no arm '", words[0], "'"), did_you_mean(words[0], known));
    return arm->second.at(seed);
}

static Verdict verdict_on(const Bar &bar, double mean, double error) {
    const double side = bar.above ? 1 : -1, margin = side * (mean - bar.limit);
    if (margin > 2 * error) return Verdict::reproduced;
    const bool of_an_effect = side * bar.limit >= 0;
    if (of_an_effect && side * mean < -2 * error) return Verdict::opposite;
    return margin < -2 * error ? Verdict::not_reproduced : Verdict::inconclusive;
}

static Judged judged(const Bar &bar, const Results &results) {
    Judged j = {.bar = bar,
                .values = {},
                .mean = 0,
                .error = NAN,
                .verdict = Verdict::inconclusive,
                .unresolved = ""};
    for (long seed : seeds_of(results)) {
        bool known = true;
        const double x = evaluate(bar.value, "bar " + bar.name, [&](const auto &metric, const auto &words) {
            const double value = look_up(results, bar, seed, metric, words);
            known &= std::isfinite(value);
            return value;
        });
        expect(!known || std::isfinite(x), "bar ", bar.name, ": its value at seed ", seed, " is ", x);
        if (known) j.values[seed] = x;
        else j.unresolved += cat(j.unresolved.empty() ? "what is not known at seed " : ", ", seed);
    }
    Values values;
    for (const auto &[seed, x] : j.values) values.push_back(x);
    j.mean = values.empty() ? NAN : mean(values);
    if (values.size() > 1) j.error = standard_error(values);
    if (!j.unresolved.empty()) return j;
    if (values.size() < 3) {
        j.unresolved = "three seeds or more";
        return j;
    }
    j.verdict = verdict_on(bar, j.mean, j.error);
    if (j.verdict != Verdict::inconclusive) return j;
    const double far = std::abs(j.mean - bar.limit) / (2 * j.error);             // of what would be seen
    j.unresolved = far > 0.1 ? cat("as many as ", (long)std::ceil(values.size() / (far * far)),
                                   " seeds, if the mean stays where it is")
                             : "a larger run: the mean is at the bar";
    return j;
}

Judgement judge(const Lab &lab, const Results &results) {
    Judgement all = {{}, Verdict::reproduced};
    for (const Bar &bar : lab.bars) {
        all.bars.push_back(judged(bar, results));
        all.verdict = std::max(all.verdict, all.bars.back().verdict);
    }
    return all;
}

static Values values_of(const std::map<long, double> &by_seed) {
    Values values;
    for (const auto &[seed, x] : by_seed)
        if (std::isfinite(x)) values.push_back(x);
    return values;
}

double noise_floor(const Lab &lab, const Results &results, const std::string &metric) {
    const auto &arms = results.at(metric);
    const auto control_arm =
        std::find_if(lab.arms.begin(), lab.arms.end(), [&](const Arm &arm) { return arms.count(arm.name); });
    if (control_arm == lab.arms.end()) return NAN;
    const Values control = values_of(arms.at(control_arm->name));
    return control.size() < 2 ? NAN : standard_deviation(control) * std::sqrt(2.0 / control.size());
}

// ----------------------------------------------------------------------------------------------- [2] telling
static std::string number(double x) { return cat(std::setprecision(4), x); }

std::string source_of(const Lab &lab) {
    return cat(lab.paper, lab.section.empty() ? "" : " ", lab.section, lab.published.empty() ? "" : ": ",
               lab.published);
}

std::string table_of(const Lab &lab, const Results &results, const Judgement *judgement) {
    std::ostringstream out;
    for (const auto &[metric, arms] : results) {
        const double floor = noise_floor(lab, results, metric);
        out << metric << (std::isfinite(floor) ? "   noise floor " + number(floor) : "") << "\n";
        for (const Arm &arm : lab.arms) {
            const auto at = arms.find(arm.name);
            if (at == arms.end()) continue;
            const Values x = values_of(at->second);
            out << "    " << std::left << std::setw(24) << arm.name << std::right << std::setw(10)
                << (x.empty() ? "not known" : number(mean(x)))
                << (x.size() > 1 ? " +- " + number(standard_error(x)) : "") << "   by seed:";
            for (double value : x) out << " " << number(value);
            out << "\n";
        }
    }
    if (!judgement) return out.str() + "quick: no verdict\n";
    out << "\n";
    for (const Judged &j : judgement->bars)
        out << j.bar.name << ": " << j.bar.text << "\n    " << number(j.mean) << " +- " << number(j.error)
            << ": " << word_of(j.verdict)
            << (j.unresolved.empty() ? "" : " (it would take " + j.unresolved + ")") << "\n";
    out << "\n"
        << lab.claim << "\n    " << source_of(lab) << "\n    here: " << word_of(judgement->verdict) << "\n";
    return out.str();
}

std::string results_csv(const Results &results) {
    std::ostringstream out;
    out << "metric,arm,seed,value\n" << std::setprecision(9);
    for (const auto &[metric, arms] : results)
        for (const auto &[arm, seeds] : arms)
            for (const auto &[seed, value] : seeds)
                out << metric << "," << arm << "," << seed << "," << value << "\n";
    return out.str();
}

static std::string first_line_of(const char *command) {
    std::string line;
    if (FILE *pipe = popen(command, "r")) {
        char text[256];
        if (fgets(text, sizeof text, pipe)) line = text;
        pclose(pipe);
    }
    while (!line.empty() && isspace((unsigned char)line.back())) line.pop_back();
    return line;
}

static Json known(double x) { return std::isfinite(x) ? Json(x) : Json(nullptr); }
static Json numbers(const std::map<long, double> &by_seed) {
    Json json = Json::object();
    for (const auto &[seed, x] : by_seed) json[cat(seed)] = known(x);
    return json;
}

Json formulas_json(const Lab &lab) {
    Json json = Json::object();
    for (const Metric &metric : lab.metrics) json[metric.name] = metric.formula;
    return json;
}

Json arms_json(const Lab &lab) {
    Json json = Json::object();
    for (const Arm &arm : lab.arms) {
        std::string words;
        for (const std::string &word : arm.train) words += (words.empty() ? "" : " ") + word;
        for (const std::string &line : arm.before) words = cat(line, "; ", words);
        for (const std::string &line : arm.then) words += "; then " + line;
        json[arm.name] = words;
    }
    return json;
}

Json verdict_json(const Lab &lab, const Results &results, const Judgement &judgement, double minutes) {
    Json json = {{"lab", lab.name},
                 {"claim", lab.claim},
                 {"paper", lab.paper},
                 {"section", lab.section},
                 {"published", lab.published},
                 {"falsifier", lab.falsifier},
                 {"pilot", lab.pilot},
                 {"verdict", word_of(judgement.verdict)}};
    for (const Judged &j : judgement.bars) {
        Json bar = {{"name", j.bar.name},
                    {"bar", j.bar.text},
                    {"mean", known(j.mean)},
                    {"verdict", word_of(j.verdict)}};
        bar["standard_error"] = known(j.error);
        if (!j.unresolved.empty()) bar["it_would_take"] = j.unresolved;
        bar["by_seed"] = numbers(j.values);
        json["bars"].push_back(bar);
    }
    for (const auto &[metric, arms] : results) {
        json["metrics"][metric]["noise_floor"] = known(noise_floor(lab, results, metric));
        for (const auto &[arm, seeds] : arms) json["metrics"][metric][arm] = numbers(seeds);
    }
    json["formulas"] = formulas_json(lab);
    json["arms"] = arms_json(lab);
    const std::string cpu = first_line_of("sed -n 's/^model name.*: //p' /proc/cpuinfo 2>/dev/null");
    json["machine"] = cat(cpu.empty() ? "unknown" : cpu, ", ", std::thread::hardware_concurrency(), " cores");
    json["commit"] = first_line_of(                      // of the folder that this program lies in
        "git -C \"$(dirname \"$(readlink -f /proc/$PPID/exe)\")\" describe --always --dirty=+changes "
        "2>/dev/null");
    json["minutes"] = std::round(10 * minutes) / 10;
    return json;
}

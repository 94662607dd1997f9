// lab.cpp: the files of labs, and what they may not hide: an arm that differs in anything not declared.
#include "src/lab/lab.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <set>

#include "src/base/fields.h"
#include "src/base/files.h"
#include "src/base/text.h"
#include "src/lab/expression.h"

// ------------------------------------------------------------------------------------- [1] lines of the file
namespace {
struct Line {                                            // metric NAME of ARMS = value
    std::string key, name, value, where;
    std::vector<std::string> arms = {};
};
}  // namespace

static std::string trimmed(const std::string &text) {
    const size_t from = text.find_first_not_of(" \t\r"), to = text.find_last_not_of(" \t\r");
    return from == std::string::npos ? "" : text.substr(from, to - from + 1);
}

static std::vector<std::string> words_of(const std::string &text) {
    std::vector<std::string> words;
    parse(text, words);
    return words;
}

static std::vector<Line> lines_of(const std::string &text, const std::string &from) {
    std::vector<Line> lines;
    std::istringstream in(text);
    int number = 0;
    for (std::string line; std::getline(in, line);) {
        if (number++ == 0 && line.starts_with("\xEF\xBB\xBF")) line.erase(0, 3);         // a byte order mark
        if (const size_t hash = line.find('#'); hash == 0 || (hash != line.npos && line[hash - 1] == ' '))
            line.resize(hash);
        if (trimmed(line).empty()) continue;
        const std::string where = cat(from, ":", number);
        if (line[0] == ' ' || line[0] == '\t') {
            expect(!lines.empty(), where, ": goes on with nothing");
            lines.back().value += " " + trimmed(line);
            continue;
        }
        if (line[0] == '[') {
            const std::vector<std::string> words =
                words_of(trimmed(line).substr(1, trimmed(line).size() - 2));
            expect(trimmed(line).back() == ']' && words.size() == 2 && words[0] == "arm", where,
                   ": a section is [arm NAME]");
            lines.push_back({"[arm", words[1], "", where});
            continue;
        }
        const size_t equals = line.find('=');
        expect(equals != std::string::npos, where, ": '", trimmed(line), "' is not of the form key = value");
        const std::vector<std::string> key = words_of(line.substr(0, equals));
        const bool named = key.size() == 2 && (key[0] == "metric" || key[0] == "bar");
        const bool of_arms = key.size() > 3 && key[0] == "metric" && key[2] == "of";
        expect(key.size() == 1 || named || of_arms, where, ": '", trimmed(line.substr(0, equals)),
               "' is no key");
        lines.push_back({key[0], key.size() > 1 ? key[1] : "", trimmed(line.substr(equals + 1)), where});
        if (of_arms) lines.back().arms = {key.begin() + 3, key.end()};
    }
    return lines;
}

static void read_bar(Lab &lab, const Line &line) {
    const size_t sign = line.value.find_last_of("<>");
    expect(sign != std::string::npos && line.value.find_first_of("<>") == sign && !line.name.empty() &&
               line.value.substr(sign + 1, 1) != "=",
           line.where, ": a bar is: bar NAME = value > number, or value < number");
    Bar bar = {line.name, line.value, trimmed(line.value.substr(0, sign)), line.value[sign] == '>', 0};
    try {
        parse(trimmed(line.value.substr(sign + 1)), bar.limit);
    } catch (const Error &e) {
        fail(line.where + ": " + e.what());
    }
    lab.bars.push_back(bar);
}

// ------------------------------------------------------------------------------------------ [2] what it says
namespace {
struct Shared { std::vector<std::string> all, before, then; };
}  // namespace

static void read_line(Lab &lab, Shared &shared, const Line &line) {
    const std::pair<const char *, std::string Lab::*> texts[] = {
        {"claim", &Lab::claim},         {"paper", &Lab::paper},         {"section", &Lab::section},
        {"published", &Lab::published}, {"falsifier", &Lab::falsifier}, {"pilot", &Lab::pilot},
        {"curve", &Lab::curve}};
    for (const auto &[key, field] : texts)
        if (line.key == key) return void(lab.*field = line.value);
    if (line.key == "[arm")
        return void(lab.arms.push_back({line.name, shared.all, shared.before, shared.then, {}, {}}));
    if (line.key == "minutes") return parse(line.value, lab.minutes);
    if (line.key == "seeds") return parse(line.value, lab.seeds);
    if (line.key == "all") return void(shared.all = words_of(line.value));
    if (line.key == "quick") return void(lab.quick = words_of(line.value));
    if (line.key == "differ") return void(lab.differ = words_of(line.value));
    if (line.key == "equal") return void(lab.equal = words_of(line.value));
    if (line.key == "metric") return void(lab.metrics.push_back({line.name, line.value, line.arms}));
    if (line.key == "bar") return read_bar(lab, line);
    if (line.key == "before" || line.key == "then" || line.key == "after") {
        static const std::vector<std::string> verbs = {"train", "eval",    "measure",  "scaling",
                                                       "data",  "rollout", "generate", "export",
                                                       "op",    "tape",    "config"};
        expect(!line.value.empty(), line.key, " says nothing");
        const std::string verb = words_of(line.value)[0];
        expect(verb != "lab", line.key, " = ", line.value, ": a lab does not begin others");
        if (!std::count(verbs.begin(), verbs.end(), verb))
            fail(cat(line.key, ": '", verb, "' is no verb for a lab"),
                 did_you_mean(verb, verbs, "there are " + format(verbs)));
    }
    if (line.key == "after") return lab.after.push_back(line.value);
    if (line.key == "before")
        return (lab.arms.empty() ? shared.before : lab.arms.back().before).push_back(line.value);
    if (line.key == "then")
        return (lab.arms.empty() ? shared.then : lab.arms.back().then).push_back(line.value);
    expect(line.key == "train" && !lab.arms.empty(), line.where, ": unknown key '", line.key, "'");
    const std::vector<std::string> own = words_of(line.value);
    lab.arms.back().train.insert(lab.arms.back().train.end(), own.begin(), own.end());
}

// The words of a command line of `train`, by its own table.
static TrainOptions options_of(const std::vector<std::string> &words, const std::string &where) {
    TrainOptions o;
    const auto &table = train_options();
    for (const char *engine : {"seed", "out", "resume", "threads", "device", "kernels"})
        expect(std::find(words.begin(), words.end(), cat("--", engine)) == words.end(), where, ": --", engine,
               " is the engine's business");
    for (size_t i = 0; i + 1 < words.size(); i += 2) {
        const auto at = std::find_if(table.begin(), table.end(),
                                     [&](const TrainOption &t) { return words[i] == cat("--", t.name); });
        std::vector<std::string> names;
        for (const TrainOption &t : table) names.push_back(cat("--", t.name));
        if (at == table.end())
            fail(cat(where, ": train has no option ", words[i]), did_you_mean(words[i], names));
        const std::string before = at->kind == TrainOption::words ? at->get(o) : "";
        try {
            at->set(o, cat(before, before.empty() ? "" : " ", words[i + 1]));
        } catch (const Error &e) {
            fail(cat(where, ": ", words[i], ": ", e.what()), e.hint);
        }
    }
    expect(words.size() % 2 == 0, where, ": ", words.empty() ? "" : words.back(), " has no value");
    return o;
}

static void settle(Lab &lab) {
    for (Arm &arm : lab.arms) {
        const std::string where = lab.name + ", arm " + arm.name;
        arm.options = options_of(arm.train, where);
        if (!arm.options.init.empty()) {                 // its configuration is in a checkpoint
            const auto from = std::find_if(lab.arms.begin(), lab.arms.end(), [&](const Arm &other) {
                return arm.options.init == "{" + other.name + "}";
            });
            if (from == lab.arms.end()) continue;        // of somebody's model: not known here
            expect(from < lab.arms.begin() + (&arm - lab.arms.data()), where, ": ", arm.options.init,
                   " comes after it");
            arm.config = from->config;
        } else {
            arm.config = load_preset(arm.options.preset);
        }
        for (const std::string &field : arm.options.set) set_field(arm.config, field);
        validate(arm.config);
    }
    for (const Arm &arm : lab.arms) {
        const std::string difference = undeclared_difference(lab, lab.arms[0], arm);
        expect(difference.empty(), lab.name, ", arm ", arm.name, ": ", difference);
    }
}

// ----------------------------------------------------------- [3] what would be found after the last run
// An arm's name is that of its folder.
static void expect_arm_names(const Lab &lab) {
    std::set<std::string> names;
    for (const Arm &arm : lab.arms) {
        const std::string where = lab.name + ", arm '" + arm.name + "'";
        const bool letters = std::all_of(arm.name.begin(), arm.name.end(), [](unsigned char c) {
            return isalnum(c) || c == '-' || c == '_' || c == '.';
        });
        expect(letters && arm.name.size() <= 64 && isalnum((unsigned char)arm.name[0]), where,
               ": a name is of letters, digits, '-', '_' and '.'");
        for (const char *taken : {"run", "others", "seed", "lab", "runs"})
            expect(arm.name != taken, where, ": {", taken, "} means something else");
        for (const char *end : {".json", ".csv", ".svg", ".txt"})
            expect(!arm.name.ends_with(end), where, ": would be mistaken for a file of the lab");
        expect(names.insert(arm.name).second, where, ": is there twice");
    }
}

// metrics.csv is written by train, any other by a command that names it.
static void expect_written(const Lab &lab, const Metric &metric, const std::string &column) {
    const size_t dot = column.rfind('.');
    if (dot == column.npos) return;
    const std::string file = "/" + column.substr(0, dot) + ".csv";
    for (const Arm &arm : lab.arms) {
        if (!metric.arms.empty() && !std::count(metric.arms.begin(), metric.arms.end(), arm.name)) continue;
        std::string commands;
        for (const auto *lines : {&arm.before, &arm.then})
            for (const std::string &line : *lines) commands += line + "\n";
        expect(commands.find(file) != commands.npos, lab.name, ": metric ", metric.name,
               ": no command of arm ", arm.name, " writes ", file.substr(1));
    }
}

static void expect_metrics(const Lab &lab, const std::vector<std::string> &arms) {
    for (const Metric &metric : lab.metrics) {
        const std::string where = lab.name + ": metric " + metric.name;
        for (const std::string &arm : metric.arms)
            if (!std::count(arms.begin(), arms.end(), arm))
                fail(cat(where, " of ", arm, ": no such arm"), did_you_mean(arm, arms));
        int columns = 0;
        evaluate(metric.formula, where, [&](const std::string &f, const std::vector<std::string> &words) {
            if (!std::count(readings.begin(), readings.end(), f))
                fail(cat(where, ": '", f, "' is unknown"),
                     did_you_mean(f, readings, "of a column: " + format(readings)));
            const bool two = f == "at" || f == "reached";
            expect(words.size() == 2 || (words.size() == 1 && !two), where, ": ", f,
                   two ? "(column, row or limit)" : "(column), or (column, last rows)");
            expect_written(lab, metric, words[0]);
            columns++;
            return 1.0;
        });
        expect(columns, where, ": reads no column");
    }
}

static void expect_bars(const Lab &lab, const std::vector<std::string> &arms) {
    std::vector<std::string> known;
    for (const Metric &m : lab.metrics) known.push_back(m.name);
    for (const Bar &bar : lab.bars) {
        const std::string where = lab.name + ": bar " + bar.name;
        int read = 0;
        evaluate(bar.value, where, [&](const std::string &name, const std::vector<std::string> &words) {
            const auto at = std::find(known.begin(), known.end(), name);
            if (at == known.end()) fail(cat(where, ": no metric '", name, "'"), did_you_mean(name, known));
            expect(words.size() == 1, where, ": ", name, "(ARM): of one arm");
            const std::vector<std::string> &named = lab.metrics[at - known.begin()].arms;
            const std::vector<std::string> &of = named.empty() ? arms : named;
            if (!std::count(of.begin(), of.end(), words[0]))
                fail(cat(where, ": ", name, " has no arm '", words[0], "'"), did_you_mean(words[0], of));
            read++;
            return 1.0;
        });
        expect(read, where, ": asks for no metric");
    }
}

template <class Named>
static void expect_once(const Lab &lab, const std::vector<Named> &list, const char *what) {
    std::set<std::string> names;
    for (const Named &x : list)
        expect(names.insert(x.name).second, lab.name, ": ", what, " ", x.name, " is there twice");
}

static void expect_sound(const Lab &lab) {
    std::vector<std::string> arms, known;
    for (const Arm &arm : lab.arms) arms.push_back(arm.name);
    expect_arm_names(lab);
    expect_once(lab, lab.metrics, "metric");
    expect_once(lab, lab.bars, "bar");
    expect_metrics(lab, arms);
    expect_bars(lab, arms);
    for (const TrainOption &option : train_options()) known.push_back(option.name);
    for (const Field &field : config_fields()) known.push_back(field.name);
    for (const std::string &name : lab.differ)
        if (!std::count(known.begin(), known.end(), name))
            fail(cat(lab.name, ": differ: '", name, "' is no option or field"), did_you_mean(name, known));
    bool pairs = lab.quick.size() % 2 == 0;
    for (size_t i = 0; pairs && i < lab.quick.size(); i += 2) pairs = lab.quick[i].starts_with("--");
    expect(pairs, lab.name, ": quick: ", format(lab.quick), ": options, each with its value");
}

Lab parse_lab(const std::string &text, const std::string &name) {
    Lab lab;
    lab.name = name;
    Shared shared;
    std::set<std::string> once;
    const std::set<std::string> many = {"metric", "bar", "[arm", "train", "before", "then", "after"};
    for (const Line &line : lines_of(text, name)) {
        expect(many.count(line.key) || once.insert(line.key).second, line.where, ": ", line.key,
               " is there twice");
        try {
            read_line(lab, shared, line);
        } catch (const Error &e) {
            fail(std::string(e.what()).starts_with(name) ? e.what() : line.where + ": " + e.what(), e.hint);
        }
    }
    for (const auto &[what, value] : {std::pair<const char *, std::string>{"claim", lab.claim},
                                      {"paper", lab.paper},
                                      {"falsifier", lab.falsifier},
                                      {"pilot", lab.pilot}})
        expect(!value.empty(), name, ": no ", what, ": a lab says it before its first run");
    expect(!lab.arms.empty() && !lab.metrics.empty() && !lab.bars.empty(), name,
           ": a lab has arms, metrics and bars");
    expect(lab.seeds >= 1 && lab.minutes > 0, name, ": minutes and seeds are above 0");
    settle(lab);
    expect_sound(lab);
    return lab;
}

// Replaces the value of option `name`, if it is among the words; "/9": by a ninth of what it was.
static bool replace(std::vector<std::string> &words, const std::string &name, const std::string &value) {
    const auto at = std::find(words.begin(), words.end(), name);
    if (at == words.end() || at + 1 == words.end()) return false;
    if (value[0] != '/') return at[1] = value, true;
    long whole, by;
    parse(at[1], whole), parse(value.substr(1), by);
    expect(by > 0, "quick: ", name, " ", value, ": divides by nothing");
    at[1] = cat(std::max(2l, whole / by));
    return true;
}

Lab quick_form(const Lab &lab) {
    Lab quick = lab;
    quick.seeds = 2;
    for (Arm &arm : quick.arms)
        for (size_t i = 0; i + 1 < lab.quick.size(); i += 2) {
            const std::string &name = lab.quick[i], &value = lab.quick[i + 1];
            if (!replace(arm.train, name, value)) arm.train.insert(arm.train.end(), {name, value});
            for (std::string &line : arm.then) {
                std::vector<std::string> words = words_of(line);
                if (words[0] == "train" && replace(words, name, value)) line = format(words);
            }
        }
    settle(quick);
    return quick;
}

// ------------------------------------------------------------------------------- [4] undeclared differences
static bool unequal(double a, double b) {
    return std::abs(a - b) > 0.01 * std::max(std::abs(a), std::abs(b));
}

// Parameters of the feed-forward networks, dense or of experts: total, activated. Centroids of routers not.
static std::pair<double, double> experts_of(const Census &n) {
    double total = 0, activated = 0;
    for (const Census::Part &part : n.parts) {
        if (part.name != "routed experts" && part.name != "shared experts" && part.name != "dense FFN")
            continue;
        total += part.total;
        activated += part.activated;
    }
    return {total, activated};
}

std::string undeclared_difference(const Lab &lab, const Arm &control, const Arm &arm) {
    const auto declared = [&](const std::string &name) {
        return std::count(lab.differ.begin(), lab.differ.end(), name) > 0;
    };
    for (const TrainOption &option : train_options()) {
        const std::string name = option.name, a = option.get(control.options), b = option.get(arm.options);
        if (a != b && name != "set" && !declared(name))
            return cat("--", name, " is ", b, ", in ", control.name, " ", a, ": not declared in `differ`");
    }
    for (const Field &field : config_fields()) {
        const std::string a = field.get(control.config), b = field.get(arm.config);
        if (a != b && std::string(field.name) != "name" && !declared(field.name))
            return cat(field.name, " is ", b, ", in ", control.name, " ", a, ": not declared in `differ`");
    }
    const Census a = census(control.config), b = census(arm.config);
    const auto tokens = [](const Arm &x) {
        const double T = x.options.context ? x.options.context : x.config.context;
        return T * x.options.batch * x.options.accumulate * x.options.steps;
    };
    const std::vector<std::tuple<std::string, double, double>> counted = {
        {"parameters", a.total, b.total},
        {"activated", a.activated, b.activated},
        {"experts", experts_of(a).first, experts_of(b).first},
        {"activated-experts", experts_of(a).second, experts_of(b).second},
        {"flops", a.flops_per_token, b.flops_per_token},
        {"cache", a.cache_numbers * control.config.n_layers, b.cache_numbers * arm.config.n_layers},
        {"tokens", tokens(control), tokens(arm)},
        {"compute", a.flops_per_token * tokens(control), b.flops_per_token * tokens(arm)}};
    for (const std::string &quantity : lab.equal) {
        const auto at = std::find_if(counted.begin(), counted.end(),
                                     [&](const auto &known) { return std::get<0>(known) == quantity; });
        if (at == counted.end())
            return cat("equal: ", quantity,
                       " is none of parameters, activated, experts, activated-experts, flops, cache, tokens, "
                       "compute");
        if (unequal(std::get<1>(*at), std::get<2>(*at)))
            return cat(quantity, ": ", std::get<2>(*at), ", in ", control.name, " ", std::get<1>(*at),
                       ": they must be equal within 1%");
    }
    return "";
}

// ------------------------------------------------------------------------------- [5] those of the program
static const std::vector<std::pair<std::string, std::string>> built_in = {
#include "labs.inc"                                      // made by CMake from data/labs
};

std::vector<std::string> lab_names() {
    std::vector<std::string> names;
    for (const auto &lab : built_in) names.push_back(lab.first);
    return names;
}

Lab load_lab(const std::string &name) {
    for (const auto &lab : built_in)
        if (lab.first == name) return parse_lab(lab.second, name);
    if (!exists(name))
        fail("no lab or file '" + name + "'",
             did_you_mean(name, lab_names(), "`deepseek lab --list` shows all"));
    const size_t slash = name.rfind('/') + 1;            // 0 if there is none
    return parse_lab(read_text(name, 1 << 20), name.substr(slash, name.find_last_of('.') - slash));
}

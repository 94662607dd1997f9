// engine.cpp: the runs of a lab as processes of this program.
//
//   [1] what a run has measured   [2] a run: its commands, one after the other   [3] all of them
#include "src/lab/engine.h"

#include <sys/prctl.h>
#include <sys/wait.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <optional>
#include <thread>

#include "src/base/error.h"
#include "src/base/fields.h"
#include "src/base/files.h"
#include "src/base/progress.h"
#include "src/base/text.h"
#include "src/lab/expression.h"

namespace fs = std::filesystem;

// --------------------------------------------------------------------------- [1] what a run has measured
static std::vector<std::string> cells_of(const std::string &line) {
    std::vector<std::string> cells;
    std::istringstream in(line);
    for (std::string cell; std::getline(in, cell, ',');) cells.push_back(cell);
    return cells;
}

namespace {
struct Column {                                          // without its empty cells
    std::vector<std::string> row;                        // each row's name: its `item`, or its first cell
    Values values;
};
}  // namespace

static Column read_column(const std::string &name, const std::string &folder) {
    const size_t dot = name.find('.');
    const std::string column = dot == name.npos ? name : name.substr(dot + 1);
    const std::string path = cat(folder, "/", dot == name.npos ? "metrics" : name.substr(0, dot), ".csv");
    std::istringstream in(read_text(path, 1l << 30));
    std::string line;
    std::getline(in, line);
    const std::vector<std::string> head = cells_of(line);
    const size_t at = std::find(head.begin(), head.end(), column) - head.begin();
    if (at == head.size()) fail(cat(path, ": no column '", column, "'"), did_you_mean(column, head));
    const size_t item = std::find(head.begin(), head.end(), "item") - head.begin();
    Column found;
    while (std::getline(in, line)) {
        const std::vector<std::string> cells = cells_of(line);
        if (at >= cells.size() || cells[at].empty()) continue;
        found.row.push_back(cells[item < head.size() ? item : 0]);
        parse(cells[at], found.values.emplace_back());
    }
    return found;
}

Values column_of(const std::string &name, const std::string &folder) {
    return read_column(name, folder).values;
}

// at(column, row), reached(column, limit); last, first, ... of a column or of its last n rows.
static double value_of(const std::string &f, const std::vector<std::string> &words,
                       const std::string &folder) {
    expect(words.size() == 1 || words.size() == 2, f, "(column) or ", f, "(column, last rows)");
    auto [row, values] = read_column(words[0], folder);
    if (values.empty()) return NAN;
    if (f == "at" || f == "reached") {
        expect(words.size() == 2, f, "(column, ", f == "at" ? "row)" : "limit)");
        double limit = 0;
        if (f == "reached") parse(words[1], limit);
        size_t i = 0;
        while (i < row.size() && !(f == "at" ? row[i] == words[1] : values[i] >= limit)) i++;
        if (f == "at" && i == row.size())
            fail(cat(words[0], ": no row '", words[1], "'"), did_you_mean(words[1], row));
        if (f == "at") return values[i];
        double where;
        parse(row[std::min(i, row.size() - 1)], where);
        return where;
    }
    if (words.size() == 2) {
        long n = 0;
        parse(words[1], n);
        expect(n >= 1, n, " rows");
        if ((size_t)n < values.size()) values.erase(values.begin(), values.end() - n);
    }
    if (f == "last") return values.back();
    if (f == "first") return values.front();
    if (f == "mean") return mean(values);
    if (f == "min") return *std::min_element(values.begin(), values.end());
    if (f == "max") return *std::max_element(values.begin(), values.end());
    fail(cat("'", f, "' is unknown"), did_you_mean(f, readings, "of a column: " + format(readings)));
}

double metric_of(const Metric &metric, const std::string &folder) {
    return evaluate(metric.formula, "metric " + metric.name, [&](const auto &f, const auto &words) {
        try {
            return value_of(f, words, folder);
        } catch (const Error &e) {
            fail(cat("metric ", metric.name, ": ", e.what()), e.hint);
        }
    });
}

// ------------------------------------------------------- [2] a run: its commands, one after the other
using Words = std::vector<std::string>;

// This program once more, as a process that ends with us. What it says goes to the end of the log.
static pid_t spawn(const Words &words, const std::string &log) {
    std::vector<char *> pointers = {(char *)"deepseek"};
    for (const std::string &word : words) pointers.push_back((char *)word.c_str());
    pointers.push_back(nullptr);
    const pid_t process = fork();
    expect(process >= 0, "a process cannot be started");
    if (process > 0) return process;
    setpgid(0, 0);                                       // Ctrl-C comes through us, once
    prctl(PR_SET_PDEATHSIG, SIGTERM);                    // if we are killed, it saves and ends
    const int file = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
    dup2(file, 1), dup2(file, 2);
    execv("/proc/self/exe", pointers.data());
    _exit(127);
}

static void expect_success(int status, const std::string &where, const Words &words, const std::string &log) {
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return;
    const std::string said = exists(log) ? read_text(log, 1l << 30) : "";
    fail(cat(where, ": deepseek ", format(words), "\nfailed; its log ends with\n",
             said.substr(said.size() > 600 ? said.find('\n', said.size() - 600) + 1 : 0)));
}

namespace {
class LabRun {
public:
    LabRun(const Lab &lab, const Arm &arm, long seed, const std::string &out)
        : lab(lab), arm(arm), seed(seed), out(out), folder(cat(out, "/", arm.name, "/", seed)) {
        for (const std::string &line : arm.before) parse(line, commands.emplace_back());
        training = (long)commands.size();
        Words &train = commands.emplace_back(Words{"train"});
        train.insert(train.end(), arm.train.begin(), arm.train.end());
        for (const char *word : {"--seed", "{seed}", "--out", "{run}", "--threads", "1"})
            train.push_back(word);
        for (const std::string &line : arm.then) parse(line, commands.emplace_back());
        for (Words &words : commands) words = with_others(words);
        for (Words &words : commands)
            for (std::string &word : words) word = filled(word);
        for (const Words &words : commands) text += format(words) + "\n";
    }
    const Lab &lab;
    const Arm &arm;
    const long seed;
    const std::string out, folder;
    std::vector<std::string> needs;                      // folders of runs that must be there before
    pid_t process = 0;
    bool done = false;
    double seconds = 0;                                  // that the start took which ended it

    // What an earlier start has left: nothing, a part, or all.
    void look() {
        if (!exists(folder + "/commands.txt")) return;
        if (read_text(folder + "/commands.txt", 1 << 20) != text)
            fail(folder + ": is of another form of this lab", "another --out, or remove it");
        done = exists(folder + "/done");
        if (done) parse(read_text(folder + "/done", 100), seconds);
        if (exists(folder + "/ended")) parse(read_text(folder + "/ended", 100), next);
    }
    void start() {
        if (!exists(folder + "/commands.txt")) {
            fs::create_directories(folder);
            write_atomically(folder + "/commands.txt", text);
        }
        if (!clock) clock.emplace(0, 1);
        Words words = commands[next];
        if (next == training && exists(folder + "/training.safetensors"))
            words = {"train", "--resume", "--out", folder, "--threads", "1"};
        process = spawn(words, folder + "/log.txt");
    }
    // Its process has ended: the next command, or the end.
    void ended(int status) {
        process = 0;
        expect_success(status, folder, commands[next], folder + "/log.txt");
        if (++next < (long)commands.size()) {
            write_atomically(folder + "/ended", cat(next));
            return start();
        }
        seconds = clock->seconds();
        write_atomically(folder + "/done", format(seconds));
        done = true;
    }
    double share() const {                               // of its steps that are done
        if (done || next > training) return 1;
        std::ifstream in(folder + "/metrics.csv", std::ios::ate);
        if (!in || in.tellg() < 1) return 0;
        in.seekg(std::max<long>(0, (long)in.tellg() - 2000));
        std::string line, last;
        while (std::getline(in, line))
            if (!line.empty()) last = line;
        return std::min(1.0, std::atof(last.c_str()) / arm.options.steps);
    }

private:
    std::vector<Words> commands;
    std::string text;
    long next = 0, training = 0;                         // indices of commands
    std::optional<Progress> clock;

    // {others}: as many words as there are arms before this one.
    Words with_others(const Words &words) const {
        Words out;
        for (const std::string &word : words) {
            if (word != "{others}") out.push_back(word);
            else if (&arm == &lab.arms[0])
                fail(cat(lab.name, ", arm ", arm.name, ": {others}: there are none before it"));
            else
                for (const Arm *other = &lab.arms[0]; other < &arm; other++)
                    out.push_back("{" + other->name + "}");
        }
        return out;
    }
    std::string filled(std::string word) {
        const auto replace = [&](const std::string &what, const std::string &by) {
            for (size_t at; (at = word.find(what)) != word.npos;) word.replace(at, what.size(), by);
        };
        replace("{run}", folder);
        replace("{seed}", cat(seed));
        for (const Arm &other : lab.arms) {
            const std::string name = "{" + other.name + "}", there = cat(out, "/", other.name, "/", seed);
            if (word.find(name) == word.npos) continue;
            expect(&other < &arm, lab.name, ", arm ", arm.name, ": ", name, " comes after it");
            needs.push_back(there);
            replace(name, there);
        }
        expect(word.find('{') == word.npos, lab.name, ", arm ", arm.name, ": '", word,
               "': {run}, {seed}, {others} or {ARM}");
        return word;
    }
};
}  // namespace

// ----------------------------------------------------------------------------------------- [3] all of them
namespace {
struct Children {                                        // none outlives us: they save, and end
    std::vector<LabRun> &runs;
    ~Children() {
        for (LabRun &run : runs)
            if (run.process) kill(run.process, SIGTERM);
        for (LabRun &run : runs)
            if (run.process) waitpid(run.process, nullptr, 0);
    }
};
}  // namespace

static void add_results(Results &results, const Lab &lab, const LabRun &run) {
    for (const Metric &metric : lab.metrics)
        if (metric.arms.empty() || std::count(metric.arms.begin(), metric.arms.end(), run.arm.name))
            results[metric.name][run.arm.name][run.seed] = metric_of(metric, run.folder);
}

static double mega_flops(const Arm &arm) {
    const TrainOptions &o = arm.options;
    const double T = o.context ? o.context : arm.config.context;
    return census(arm.config).flops_per_token * T * o.batch * o.accumulate * (double)o.steps / 1e6;
}

static bool ready(const LabRun &run, const std::vector<LabRun> &all) {
    return std::all_of(run.needs.begin(), run.needs.end(), [&](const std::string &folder) {
        return std::any_of(all.begin(), all.end(),
                           [&](const LabRun &other) { return other.folder == folder && other.done; });
    });
}

static void reap(std::vector<LabRun> &runs, const Lab &lab, Results &results) {
    for (LabRun &run : runs) {
        int status = 0;
        if (!run.process || waitpid(run.process, &status, WNOHANG) != run.process) continue;
        run.ended(status);
        if (run.done) add_results(results, lab, run);    // so that a metric without a column is told at once
    }
}

std::vector<std::string> folders_of(const Lab &lab, const Arm &arm, const LabOptions &o) {
    std::vector<std::string> folders;
    for (int seed = 1; seed <= (o.seeds ? o.seeds : lab.seeds); seed++)
        folders.push_back(cat(o.out, "/", arm.name, "/", seed));
    return folders;
}

LabResults run_lab(const Lab &lab, const LabOptions &o) {
    std::vector<LabRun> runs;
    for (int seed = 1; seed <= (o.seeds ? o.seeds : lab.seeds); seed++)
        for (const Arm &arm : lab.arms) runs.emplace_back(lab, arm, seed, o.out);
    LabResults all;
    Results &results = all.results;
    for (LabRun &run : runs) {
        run.look();
        if (run.done) add_results(results, lab, run);
    }
    const int jobs = o.jobs ? o.jobs : (int)std::max(1u, std::thread::hardware_concurrency());
    const CatchInterrupt catching("\nfinishing the steps that are begun; the same command goes on ...\n");
    const Children children{runs};
    double work = 0, before = 0;
    for (const LabRun &run : runs) {
        work += mega_flops(run.arm);
        before += run.share() * mega_flops(run.arm);
    }
    Progress progress(std::lround(before), std::lround(work));
    while (!std::all_of(runs.begin(), runs.end(), [](const LabRun &run) { return run.done; })) {
        if (interrupted) throw Interrupted();
        reap(runs, lab, results);
        int busy = 0, done = 0;
        double taken = 0;
        for (LabRun &run : runs) busy += run.process > 0;
        for (LabRun &run : runs) {
            if (!run.done && !run.process && busy < jobs && ready(run, runs)) run.start(), busy++;
            done += run.done;
            taken += run.share() * mega_flops(run.arm);
        }
        const bool every = done == (int)runs.size();     // what comes after the training takes time, too
        progress.update(std::min(std::lround(taken), std::lround(work) - !every),
                        cat("MFLOPs of ", lab.name, "; ", done, " of ", runs.size(), " runs"));
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    for (const LabRun &run : runs) all.minutes += run.seconds / 60 / jobs;
    return all;
}

std::string run_after(const Lab &lab, const LabOptions &o) {
    const std::string log = o.out + "/after.txt";
    fs::remove(log);
    for (const std::string &line : lab.after) {
        Words words, filled;
        parse(line, words);
        for (std::string word : words) {
            if (const size_t at = word.find("{lab}"); at != word.npos) word.replace(at, 5, o.out);
            if (word != "{runs}") filled.push_back(word);
            else
                for (const Arm &arm : lab.arms)
                    for (const std::string &folder : folders_of(lab, arm, o)) filled.push_back(folder);
        }
        int status = 0;
        const pid_t process = spawn(filled, log);
        while (waitpid(process, &status, 0) < 0 && errno == EINTR) {}
        expect_success(status, lab.name, filled, log);
    }
    return exists(log) ? read_text(log, 1l << 30) : "";
}

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

// The numbers of a column, without its empty cells.
Values column_of(const std::string &name, const std::string &folder) {
    const size_t dot = name.find('.');
    const std::string column = dot == name.npos ? name : name.substr(dot + 1);
    const std::string path = cat(folder, "/", dot == name.npos ? "metrics" : name.substr(0, dot), ".csv");
    std::istringstream in(read_text(path, 1l << 30));
    std::string line;
    std::getline(in, line);
    const std::vector<std::string> head = cells_of(line);
    const size_t at = std::find(head.begin(), head.end(), column) - head.begin();
    if (at == head.size()) fail(cat(path, ": no column '", column, "'"), did_you_mean(column, head));
    Values values;
    while (std::getline(in, line)) {
        const std::vector<std::string> cells = cells_of(line);
        if (at >= cells.size() || cells[at].empty()) continue;
        parse(cells[at], values.emplace_back());
    }
    expect(!values.empty(), path, ": column '", column, "' is empty");
    return values;
}

double metric_of(const Metric &metric, const std::string &folder) {
    const double x = evaluate(metric.formula, "metric " + metric.name, [&](const auto &f, const auto &words) {
        expect(words.size() == 1 || words.size() == 2, "metric ", metric.name, ": ", f, "(column) or ", f,
               "(column, last rows)");
        Values values = column_of(words[0], folder);
        if (words.size() == 2) {
            long n = 0;
            parse(words[1], n);
            expect(n >= 1, "metric ", metric.name, ": ", n, " rows");
            if ((size_t)n < values.size()) values.erase(values.begin(), values.end() - n);
        }
        if (f == "last") return values.back();
        if (f == "first") return values.front();
        if (f == "mean") return mean(values);
        if (f == "min") return *std::min_element(values.begin(), values.end());
        if (f == "max") return *std::max_element(values.begin(), values.end());
        fail(cat("metric ", metric.name, ": '", f, "' is unknown"),
             "last, first, mean, min or max of a column");
    });
    expect(std::isfinite(x), "metric ", metric.name, " of ", folder, " is ", x);
    return x;
}

// ------------------------------------------------------- [2] a run: its commands, one after the other
namespace {
using Words = std::vector<std::string>;
class LabRun {
public:
    LabRun(const Lab &lab, const Arm &arm, long seed, const std::string &out)
        : lab(lab), arm(arm), seed(seed), out(out), folder(cat(out, "/", arm.name, "/", seed)) {
        commands.push_back({"train"});
        commands[0].insert(commands[0].end(), arm.train.begin(), arm.train.end());
        for (const char *word : {"--seed", "{seed}", "--out", "{run}", "--threads", "1"})
            commands[0].push_back(word);
        for (const std::string &line : arm.then) parse(line, commands.emplace_back());
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

    // What an earlier start has left: nothing, a part, or all.
    void look() {
        if (!exists(folder + "/commands.txt")) return;
        if (read_text(folder + "/commands.txt", 1 << 20) != text)
            fail(folder + ": is of another form of this lab", "another --out, or remove it");
        done = exists(folder + "/done");
    }
    void start() {
        if (!exists(folder + "/commands.txt")) {
            fs::create_directories(folder);
            write_atomically(folder + "/commands.txt", text);
        }
        Words words = commands[next];
        if (next == 0 && exists(folder + "/training.safetensors"))
            words = {"train", "--resume", "--out", folder, "--threads", "1"};
        spawn(words);
    }
    // Its process has ended: the next command, or the end.
    void ended(int status) {
        process = 0;
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
            fail(cat(folder, ": deepseek ", format(commands[next]), "\nfailed; its log ends with\n",
                     end_of_log()));
        if (++next < commands.size()) return start();
        write_atomically(folder + "/done", "");
        done = true;
    }
    double share() const {                               // of its steps that are done
        if (done || next > 0) return 1;
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
    size_t next = 0;

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
               "': {run}, {seed} or {ARM}");
        return word;
    }
    void spawn(const Words &words) {
        const std::string log = folder + "/log.txt";
        std::vector<char *> pointers = {(char *)"deepseek"};
        for (const std::string &word : words) pointers.push_back((char *)word.c_str());
        pointers.push_back(nullptr);
        process = fork();
        expect(process >= 0, "a process cannot be started");
        if (process > 0) return;
        setpgid(0, 0);                                   // Ctrl-C comes through us, once
        prctl(PR_SET_PDEATHSIG, SIGTERM);                // if we are killed, it saves and ends
        const int file = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
        dup2(file, 1), dup2(file, 2);
        execv("/proc/self/exe", pointers.data());
        _exit(127);
    }
    std::string end_of_log() const {
        const std::string log = exists(folder + "/log.txt") ? read_text(folder + "/log.txt", 1l << 30) : "";
        return log.substr(log.size() > 600 ? log.find('\n', log.size() - 600) + 1 : 0);
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
        results[metric.name][run.arm.name][run.seed] = metric_of(metric, run.folder);
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

Results run_lab(const Lab &lab, const LabOptions &o) {
    std::vector<LabRun> runs;
    for (int seed = 1; seed <= (o.seeds ? o.seeds : lab.seeds); seed++)
        for (const Arm &arm : lab.arms) runs.emplace_back(lab, arm, seed, o.out);
    Results results;
    for (LabRun &run : runs) {
        run.look();
        if (run.done) add_results(results, lab, run);
    }
    const int jobs = o.jobs ? o.jobs : (int)std::max(1u, std::thread::hardware_concurrency());
    const CatchInterrupt catching("\nfinishing the steps that are begun ...\n");
    const Children children{runs};
    double steps = 0, before = 0;
    for (const LabRun &run : runs) {
        steps += run.arm.options.steps;
        before += run.share() * run.arm.options.steps;
    }
    Progress progress(std::lround(before), std::lround(steps));
    while (!std::all_of(runs.begin(), runs.end(), [](const LabRun &run) { return run.done; })) {
        if (interrupted) throw Interrupted();
        reap(runs, lab, results);
        int busy = 0, done = 0;
        double taken = 0;
        for (LabRun &run : runs) busy += run.process > 0;
        for (LabRun &run : runs) {
            if (!run.done && !run.process && busy < jobs && ready(run, runs)) run.start(), busy++;
            done += run.done;
            taken += run.share() * run.arm.options.steps;
        }
        progress.update(std::lround(taken),
                        cat("steps of ", lab.name, "; ", done, " of ", runs.size(), " runs"));
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    return results;
}

// task.cpp: `deepseek task`: the tasks that policies are trained on, their questions, traces and grades.
#include <cstdio>
#include <iostream>

#include "src/base/error.h"
#include "src/base/json.h"
#include "src/cli/verbs.h"
#include "src/rl/task.h"

namespace {
struct TaskVerb {
    std::string name;
    int n = 5, seed = 1, level = 0;
    bool list = false, json = false, gold = false;

    void options(CLI::App &v) {
        v.add_option("NAME", name,
                     "whose questions to show, each with a trace of mixed quality and its grade");
        v.add_flag("--list", list, "all tasks");
        v.add_flag("--json", json, "the list, or the questions, as JSON");
        v.add_option("--n", n, "how many questions")->check(between(1, 1e7))->capture_default_str();
        v.add_option("--seed", seed, "which ones: a run with this --seed is asked the same")
            ->capture_default_str();
        v.add_option("--level", level, "of difficulty; 0: the usual one")->check(between(0, 1e6));
        v.add_flag("--gold", gold, "traces as they should be");
    }
    void run() const {
        expect(list != !name.empty(), "task: a name or --list is needed, not both");
        list ? show_list() : show_questions(task_named(name));
    }
    void show_list() const {
        Json all = Json::array();
        for (const Task *task : tasks()) {
            if (json)
                all.push_back({{"name", task->name},
                               {"what", task->sentence},
                               {"levels", task->levels},
                               {"lowest", task->lowest},
                               {"usual", task->usual},
                               {"highest", task->highest},
                               {"alphabet", task->alphabet}});
            else
                printf("%-10s %s\n           levels %d to %d, usually %d: %s\n", task->name, task->sentence,
                       task->lowest, task->highest, task->usual, task->levels);
        }
        if (json) std::cout << dump(all, 2) << "\n";
    }
    void show_questions(const Task &task) const {
        for (int i = 0; i < n; i++) {
            const Question q = question_of(task, seed, i, level);
            Random r = {random_bits(seed, hash_of("trace"), i, 0)};
            const std::string trace = task.trace(r, q, gold);
            const Graded g = task.grade(q, trace);
            if (json)
                std::cout << dump({{"prompt", q.prompt},
                                   {"level", q.level},
                                   {"trace", trace},
                                   {"right", g.right},
                                   {"formed", g.formed},
                                   {"answer", g.answer}},
                                  -1)
                          << "\n";
            else
                printf("%s%s\n    %s%s\n", q.prompt.c_str(), trace.c_str(), g.right ? "right" : "wrong",
                       g.formed ? "" : ", not as it should be formed");
        }
    }
};
}  // namespace

void add_task(CLI::App &program) {
    add_verb<TaskVerb>(program, "task", "Tasks with answers that a rule can check",
                       "deepseek task --list\n  deepseek task countdown --n 3 --seed 1");
}

// main.cpp: the list of verbs. Each is a file beside this one.
#include <cstdlib>

#include "src/cli/verbs.h"
#include "src/rl/task.h"

static const char *first_visit =
    R"(The models of the DeepSeek papers, small enough to read: train, sample, measure, take apart.

A first visit:
  deepseek tokenize --tokenizer bytes --text "Once upon a time"
  deepseek train --preset v3-tiny --data stories --steps 500 --out runs/v3
  deepseek eval --model runs/v3
  deepseek generate --model runs/v3 --prompt "Once upon a time"
)";

// Idle OpenMP threads spin before they sleep, libgomp's 300,000 times for milliseconds, which others'
// work pays for where cores are shared. 20 steps of v3-tiny with 2 threads, on 2 cores with 4 to 10
// other jobs, seconds of the four runs that took turns: 300,000: 76 73 25 98, 50,000: 43 14 52 83,
// 5,000: 21 6 20 27, none: 11 5 14 18. On idle cores sleeping at once costs a third, so a short spin
// stays. libgomp reads its environment before main begins; it is linked as an archive (CMakeLists.txt),
// so that this runs still earlier.
__attribute__((constructor(101))) static void let_idle_threads_sleep_soon() {
    if (!getenv("OMP_WAIT_POLICY")) setenv("GOMP_SPINCOUNT", "5000", 0);
}

int main(int argc, char **argv) {
    tasks_become_games();
    CLI::App program{first_visit};
    program.require_subcommand(0, 1);
    program.footer("`deepseek VERB --help` shows a verb's options and an example.");
    add_tokenize(program);
    add_train(program);
    add_eval(program);
    add_generate(program);
    add_chat(program);
    add_data(program);
    add_export(program);
    add_config(program);
    add_op(program);
    add_loss(program);
    add_check(program);
    add_tape(program);
    add_dump(program);
    add_bench(program);
    add_map(program);
    add_measure(program);
    add_scaling(program);
    add_task(program);
    add_rollout(program);
    add_lab(program);
    add_lean(program);
    return run_command_line(program, argc, argv);
}

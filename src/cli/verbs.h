// verbs.h: the verbs of the program, one file each, and what their options have in common.
//
// A verb is a struct: its fields are its options, options() names them to CLI11, run() does the work. One
// instance lives as long as the command line that fills it in.
#pragma once
#include <CLI/CLI.hpp>
#include <memory>
#include <string>

void add_tokenize(CLI::App &program);
void add_train(CLI::App &program);
void add_generate(CLI::App &program);
void add_chat(CLI::App &program);
void add_eval(CLI::App &program);
void add_data(CLI::App &program);
void add_export(CLI::App &program);
void add_config(CLI::App &program);
void add_dump(CLI::App &program);
void add_op(CLI::App &program);
void add_loss(CLI::App &program);
void add_check(CLI::App &program);
void add_tape(CLI::App &program);
void add_bench(CLI::App &program);
void add_map(CLI::App &program);
void add_measure(CLI::App &program);
void add_scaling(CLI::App &program);
void add_task(CLI::App &program);
void add_rollout(CLI::App &program);
void add_lab(CLI::App &program);
void add_lean(CLI::App &program);

// Parses, runs the verb that was named, and says what went wrong: the program's exit code.
int run_command_line(CLI::App &program, int argc, char **argv);

// A number from low to high. (CLI::Range lets NaN pass.)
CLI::Validator between(double low, double high);
std::string refuse_nothing(const std::string &text);     // a check: "" names nothing

// Can it be written, and is nothing lost that belongs to a model, or that the verb itself reads? Asked before
// there is anything to write.
void expect_replaceable(const std::string &file, const std::vector<std::string> &read = {});

// Where and how a verb computes.
struct Common {
#ifdef DEBUG_PRESET                                      // one thing after another, as the equations say
    std::string device = "cpu", kernels = "plain";
    int threads = 1;
#else
    std::string device = "cpu", kernels = "fast";
    int threads = 0;
#endif
    void options(CLI::App &verb);
    void use() const;
};

template <class Verb>
void add_verb(CLI::App &program, const char *name, const char *what, const std::string &example) {
    const auto verb = std::make_shared<Verb>();
    CLI::App *v = program.add_subcommand(name, what);
    v->footer("Example:\n  " + example);
    verb->options(*v);
    if constexpr (requires { verb->common; }) verb->common.options(*v);
    v->callback([verb] {
        if constexpr (requires { verb->common; }) verb->common.use();
        verb->run();
    });
}

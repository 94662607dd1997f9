// dump.cpp: `deepseek dump`: logits, loss and gradients of a model, for comparison with others.
#include "src/cli/inspect.h"
#include "src/cli/verbs.h"

namespace {
struct Dump {
    std::string model, tokens, out;
    bool grads = false;
    Common common;

    void options(CLI::App &v) {
        v.add_option("--model", model, "a checkpoint's folder")->required();
        v.add_option("--tokens", tokens, "token ids, one sequence a line")->required();
        v.add_option("--out", out, "a safetensors file")->required();
        v.add_flag("--grads", grads, "with the gradient of every weight, as grad.<name>");
    }
    void run() const { dump(model, tokens, out, grads); }
};
}  // namespace

void add_dump(CLI::App &program) {
    add_verb<Dump>(program, "dump", "Write logits, loss and gradients for comparison",
                   "deepseek dump --model DIR --tokens ids.txt --out dump.safetensors --grads");
}

// op.cpp: `deepseek op`: one op, called from outside.
#include "src/base/error.h"
#include "src/cli/inspect.h"
#include "src/cli/verbs.h"

namespace {
struct OpVerb {
    std::string name, in, out;
    std::vector<std::string> set;
    bool list = false, json = false, grads = false;
    Common common;

    void options(CLI::App &v) {
        v.add_option("name", name, "which op");
        v.add_flag("--list", list, "show all ops: inputs, outputs, formula, attributes");
        v.add_flag("--json", json, "the list as JSON");
        v.add_option("--in", in, "safetensors with the inputs by name; with --grads also d<output>");
        v.add_option("--out", out, "outputs by name; with --grads also d<input>");
        v.add_option("--set", set, "attribute=value (repeatable)");
        v.add_flag("--grads", grads, "run the backward too");
    }
    void run() const {
        if (list || name.empty()) return list_ops(json);
        expect(!in.empty() && !out.empty(), "op ", name, ": --in and --out are needed");
        run_op(name, in, out, set, grads);
    }
};
}  // namespace

void add_op(CLI::App &program) {
    add_verb<OpVerb>(program, "op", "Call one op",
                     "deepseek op rmsnorm --in x.safetensors --out y.safetensors --set eps=1e-6 --grads");
}

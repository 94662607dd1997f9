// op.cpp: `deepseek op`: one op, called from outside.
#include <iostream>

#include "src/base/error.h"
#include "src/base/text.h"
#include "src/cli/verbs.h"
#include "src/tensor/op_engine.h"
#include "src/tensor/ops.h"

namespace {
struct OpVerb {
    RandomCall call;
    std::string in, out;
    bool list = false, json = false, grads = false, random = false;
    Common common;

    void options(CLI::App &v) {
        const auto name = v.add_option("name", call.name, "which op");
        v.add_flag("--list", list, "show all ops: inputs, outputs, formula, attributes")->excludes(name);
        v.add_flag("--json", json, "the list as JSON")->excludes(name);
        const auto file =
            v.add_option("--in", in, "safetensors with the inputs by name; with --grads also d<output>");
        const auto result = v.add_option("--out", out, "outputs by name; with --grads also d<input>");
        v.add_option("--set", call.set, "attribute=value (repeatable)")->allow_extra_args(false);
        v.add_flag("--grads", grads, "run the backward too");
        const auto by_chance =
            v.add_flag("--random", random, "random inputs; print them, outputs and gradients")
                ->excludes(file)
                ->excludes(result);
        v.add_option("--shape", call.shapes, "--random: of an input, as x=2,3 (repeatable)")
            ->needs(by_chance)
            ->allow_extra_args(false);
        v.add_option("--seed", call.seed, "--random: the same seed, the same inputs")->capture_default_str();
    }
    void run() const {
        std::vector<std::string> names;
        for (const Op &op : ops) names.push_back(op.name);
        const std::string all = "`deepseek op --list` shows all";
        if (call.name.empty()) {
            const bool to_do = random || grads || !call.set.empty() || !in.empty() || !out.empty();
            if (to_do) fail("op: which one?", all);
            return list_ops(std::cout, json);
        }
        if (!std::count(names.begin(), names.end(), call.name))
            fail("no op '" + call.name + "'", did_you_mean(call.name, names, all));
        if (random) return run_random_op(std::cout, call);
        expect(!in.empty() && !out.empty(), "op ", call.name, ": --in and --out are needed, or --random");
        expect_replaceable(out);
        run_op(call.name, in, out, call.set, grads);
    }
};
}  // namespace

void add_op(CLI::App &program) {
    add_verb<OpVerb>(program, "op", "Call one op",
                     "deepseek op rmsnorm --random --shape x=2,4\n"
                     "  deepseek op rmsnorm --in x.safetensors --out y.safetensors --set eps=1e-6 --grads");
}

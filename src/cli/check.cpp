// check.cpp: `deepseek check`: gradients of an op, of all, or of a preset's loss, against differences.
#include <cstdio>

#include "src/base/error.h"
#include "src/base/random.h"
#include "src/cli/verbs.h"
#include "src/model/config.h"
#include "src/tensor/op_engine.h"
#include "src/text/corpus.h"
#include "src/train/training.h"

namespace {
struct Check {
    RandomCall call;
    std::string preset;
    std::vector<std::string> fields;
    long entries = 4;
    Common common;

    void options(CLI::App &v) {
        const auto op = v.add_option("op", call.name, "which op; without a name: all that have a gradient");
        v.add_option("--shape", call.shapes, "of an op's input, as x=2,3 (repeatable)")
            ->needs(op)
            ->allow_extra_args(false);
        v.add_option("--attribute", call.set, "attribute=value of the op (repeatable)")
            ->needs(op)
            ->allow_extra_args(false);
        const auto model = v.add_option("--preset", preset, "the loss of this model instead")->excludes(op);
        v.add_option("--set", fields, "field=value of its configuration (repeatable)")
            ->needs(model)
            ->allow_extra_args(false);
        v.add_option("--entries", entries, "how many numbers of each of its weights")
            ->check(between(1, 1e6))
            ->capture_default_str();
        v.add_option("--seed", call.seed, "of inputs and weights")->capture_default_str();
    }
    void run() const;
    GradientError check_model() const;
};

// What the routers chose at first they choose again: a choice has no slope.
GradientError Check::check_model() const {
    Config c = load_preset(preset);
    for (const std::string &field : fields) set_field(c, field);
    validate(c);
    expect_memory_for(c, 2);
    Model m = initialised(c, call.seed);
    const int B = 2, T = std::min(c.context, 16);
    Sequences sequences(B, std::vector<int>(T + 1));
    for (int b = 0; b < B; b++)
        for (int t = 0; t <= T; t++) sequences[b][t] = (int)(random_bits(call.seed, 1, b, t) % c.V);
    const Batch batch = make_batch(examples(sequences), c.D);
    const Restored keep(choices);
    choices = {Choices::record, {}, 0, 0, ""};
    backward(language_modelling(m, batch).total);
    choices.mode = Choices::replay;
    std::vector<Tensor> leaves;
    visit(m, [&](const std::string &, Tensor &W, const Spec &) {
        if (W.s->wants_grad && W.s->grad) leaves.push_back(W);
    });
    const auto value = [&] {
        choices.next = 0;
        return (double)item(language_modelling(m, batch).total);
    };
    return against_differences(value, leaves, entries);
}

void Check::run() const {
    const bool in_float = sizeof(real) == 4;
    // Measured: ops 8e-6; of v3-nano, 16 numbers of each weight, 2.3e-2, since its loss is rounded to float.
    const double bar = in_float ? (preset.empty() ? 1e-3 : 5e-2) : 1e-6;
    bool fine = true;
    const auto report = [&](const std::string &name, const GradientError &e) {
        printf("%-16s %.1e   %ld numbers; worst: %s\n", name.c_str(), e.worst, e.compared, e.where.c_str());
        fine &= e.worst < bar;
    };
    if (in_float)
        printf("in float, where differences are good to %.0e; `make gradcheck` does it in double\n", bar);
    if (!preset.empty()) report(preset, check_model());
    for (const std::string &op :
         call.name.empty() ? ops_with_gradient() : std::vector<std::string>{call.name})
        if (preset.empty()) report(op, check_op({op, call.shapes, call.set, call.seed}));
    if (fine) return;
    printf("more than %.0e: a gradient is wrong\n", bar);
    throw CLI::RuntimeError(1);
}
}  // namespace

void add_check(CLI::App &program) {
    add_verb<Check>(program, "check", "Hold gradients against differences",
                    "deepseek check rmsnorm --shape x=2,4 --shape g=4\n"
                    "  deepseek check --preset v3-nano");
}

// tape.cpp: `deepseek tape`: what one training step's forward leaves on the tape.
#include <cstdio>

#include "src/base/random.h"
#include "src/cli/verbs.h"
#include "src/model/config.h"
#include "src/tensor/ops.h"
#include "src/text/corpus.h"
#include "src/train/training.h"

namespace {
struct Tape {
    std::string preset = "v3-nano";
    std::vector<std::string> set;
    int batch = 2, context = 8;
    Common common;

    void options(CLI::App &v) {
        v.add_option("--preset", preset, "a preset's name or file")->capture_default_str();
        v.add_option("--set", set, "field=value of its configuration (repeatable)")->allow_extra_args(false);
        v.add_option("--batch", batch, "sequences")->check(between(1, 4096))->capture_default_str();
        v.add_option("--context", context, "tokens of a sequence")
            ->check(between(2, 1e6))
            ->capture_default_str();
    }
    void run() const;
};

std::string described(const Tensor &t) { return t ? cat(t.s->name, " ", t.shape) : "-"; }

void Tape::run() const {
    Config c = load_preset(preset);
    for (const std::string &field : set) set_field(c, field);
    validate(c);
    expect(context <= c.context, "--context ", context, ": the model's longest sequence is ", c.context);
    expect_memory_for(c, 1, (double)batch * context);
    const Model m = initialised(c, 1);
    Sequences sequences(batch, std::vector<int>(context + 1));
    for (int b = 0; b < batch; b++)
        for (int t = 0; t <= context; t++) sequences[b][t] = (int)(random_bits(1, 1, b, t) % c.V);
    TapeGuard clear;
    const Losses losses = language_modelling(m, make_batch(examples(sequences), c.D));
    for (size_t i = 0; i < tape.size(); i++) {
        const Record &r = tape[i];
        const Op &op = ops[r.op];
        std::string in, out;
        for (int k = 0; k < r.n_in; k++) in += (k ? ", " : "") + op.inputs[k] + " = " + described(r.in[k]);
        for (int k = 0; k < r.n_out; k++) out += (k ? ", " : "") + op.outputs[k] + " " + str(r.out[k].shape);
        printf("[%zu] %s -> %s\n      %s    %s\n      %s\n", i, op.name, out.c_str(), op.formula,
               str(r.a).c_str(), in.c_str());
    }
    printf("%zu records; loss %.4f\n", tape.size(), (double)item(losses.total));
}
}  // namespace

void add_tape(CLI::App &program) {
    add_verb<Tape>(program, "tape", "Show what one training step leaves on the tape",
                   "deepseek tape --preset v3-nano");
}

// memory.cpp: is there enough of it? Told before anything is allocated.
#include <cmath>

#include "src/model/config.h"
#include "src/model/weights.h"
#include "src/train/training.h"

// What a token leaves on the tape, in numbers: what each of its weights reads and writes, an expert's K_r
// times; logits are not kept. backward() gives it free as it walks, so that few gradients are there at a
// time. The peaks of v3-nano, v3-tiny, v3-small and llm-tiny, with batches of 512 to 16,384 tokens, are 0.95
// to 1.05 of it.
static double left_by_token(const Config &c) {
    double numbers = 0;
    Model shapes = outline(c);
    visit(shapes, [&](const std::string &, Tensor &, const Spec &spec) {
        const Shape &s = spec.shape;
        const bool matrix = s.rank > 1 && spec.group != Group::embedding;
        const double widths = s.width() + (matrix ? s[s.rank - 2] : 0.0);
        if (trained(spec.group) && spec.group != Group::head) numbers += widths * (s.rank == 3 ? c.K_r : 1);
    });
    return numbers;
}

void expect_memory_for(const Config &c, int copies, double tokens) {
    const Census n = census(c);
    const double bytes = sizeof(real) * (copies * (double)(n.total + n.mtp) + tokens * left_by_token(c));
    const double memory = (double)device->memory();
    if (bytes <= memory) return;
    const std::string what = copies == 4 ? "weights, gradients and moments" : "weights";
    fail(cat(c.name, ": ", what, tokens ? cat(", and a batch of ", (long)tokens, " tokens,") : "",
             " need memory of ", std::lround(bytes / 1e9), " GB; here are ", std::lround(memory / 1e9)),
         tokens ? "a smaller --batch or a shorter --context" : "`deepseek config` shows what a model costs");
}

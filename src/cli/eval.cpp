// eval.cpp: `deepseek eval`: a model's loss on held-out text.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <optional>

#include "src/base/progress.h"
#include "src/cli/verbs.h"
#include "src/infer/chat.h"
#include "src/model/huggingface.h"
#include "src/text/corpus.h"
#include "src/train/training.h"

namespace {
struct Eval {
    std::string model, data = "stories";
    int batch = 8, context = 0;
    Common common;

    void options(CLI::App &v) {
        v.add_option("--model", model, "a checkpoint's folder")->required()->check(refuse_nothing);
        v.add_option("--data", data,
                     "stories, a file or a folder; only what is held out is read, the last twentieth")
            ->capture_default_str();
        v.add_option("--batch", batch, "sequences at a time")
            ->check(between(1, 1 << 16))
            ->capture_default_str();
        v.add_option("--context", context, "tokens of a sequence; 0: the model's")->check(between(0, 1e9));
    }
    void run() const {
        const Model m = load_model(model);
        const Tokenizer tokenizer = tokenizer_of(m, model);
        expect(context <= m.c.context, "--context ", context, ": the model's longest sequence is ",
               m.c.context);
        const Corpus corpus = load_corpus(data, tokenizer, 1);
        const auto batches = held_out_windows(corpus, batch, context ? context : m.c.context);
        long targets = 0;
        for (const Sequences &windows : batches)
            for (const auto &window : windows) targets += (long)window.size() - 1;
        std::optional<Progress> bar;
        if (isatty(1)) bar.emplace(0, (long)batches.size());
        const double nats = evaluate(m, examples(batches), [&](long done) {
            if (bar) bar->update(done, "batches");
        });
        bar.reset();
        if (!std::isfinite(nats))
            throw std::runtime_error(
                cat(model, ": its loss is no number: weights, or what they make, overflow"));
        printf("%.4f nats per token, %.4f bits per byte, perplexity %.3f, on %ld held-out tokens\n", nats,
               nats / std::log(2.0) / corpus.valid_bytes_per_token, std::exp(nats), targets);
    }
};
}  // namespace

void add_eval(CLI::App &program) {
    add_verb<Eval>(program, "eval", "Measure a model on held-out text",
                   "deepseek eval --model runs/v3 --data stories");
}

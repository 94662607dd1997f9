// eval.cpp: `deepseek eval`: a model's loss on held-out text.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <optional>

#include "src/base/fields.h"
#include "src/base/files.h"
#include "src/base/progress.h"
#include "src/cli/verbs.h"
#include "src/infer/chat.h"
#include "src/model/huggingface.h"
#include "src/text/corpus.h"
#include "src/train/training.h"

namespace {
struct Eval {
    std::string model, data = "stories", out;
    int batch = 8, context = 0;
    Common common;

    void options(CLI::App &v) {
        v.add_option("--model", model, "a checkpoint's folder")->required()->check(refuse_nothing);
        v.add_option("--data", data,
                     "stories, a game, a file or a folder; only what is held out is read, of a file the last "
                     "twentieth")
            ->capture_default_str();
        v.add_option("--batch", batch, "sequences at a time")
            ->check(between(1, 1 << 16))
            ->capture_default_str();
        v.add_option("--context", context, "tokens of a sequence; 0: the model's")->check(between(0, 1e9));
        v.add_option("--out", out, "a CSV: the loss of all, and of each kind of a game's sequences");
    }
    void run() const {
        if (!out.empty()) expect_replaceable(out, {data});
        const Model m = load_model(model);
        const Tokenizer tokenizer = tokenizer_of(m, model);
        expect(context <= m.c.context, "--context ", context, ": the model's longest sequence is ",
               m.c.context);
        const Corpus corpus = load_corpus(data, tokenizer, 1);
        const auto batches = held_out_examples(corpus, batch, context ? context : m.c.context);
        double targets = 0;
        for (const Examples &list : batches) targets += make_batch(list, 0).divisor;
        std::optional<Progress> bar;
        if (isatty(1)) bar.emplace(0, (long)batches.size());
        const Evaluation e = evaluate(m, batches, [&](long done) {
            if (bar) bar->update(done, "batches");
        });
        bar.reset();
        if (!std::isfinite(e.nats))
            throw std::runtime_error(
                cat(model, ": its loss is no number: weights, or what they make, overflow"));
        printf("%.4f nats per token", e.nats);
        const double bits = e.nats / std::log(2.0) / corpus.valid_bytes_per_token;
        if (!std::isnan(bits)) printf(", %.4f bits per byte", bits);
        printf(", perplexity %.3f, on %.0f held-out tokens\n", std::exp(e.nats), targets);
        for (const auto &[name, nats, right] : e.kinds)
            printf("%s: %.4f nats per token, %.2f%% right\n", name.c_str(), nats, 100 * right);
        if (out.empty()) return;
        std::string csv = cat("kind,nats,right\nall,", format(e.nats), ",\n");
        for (const auto &[name, nats, right] : e.kinds)
            csv += cat(name, ",", format(nats), ",", format(right), "\n");
        write_atomically(out, csv);
    }
};
}  // namespace

void add_eval(CLI::App &program) {
    add_verb<Eval>(program, "eval", "Measure a model on held-out text",
                   "deepseek eval --model runs/v3 --data stories");
}

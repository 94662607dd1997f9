// eval.cpp: `deepseek eval`: a model's loss on held-out text.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <optional>

#include "src/base/fields.h"
#include "src/base/files.h"
#include "src/base/json.h"
#include "src/base/progress.h"
#include "src/base/statistics.h"
#include "src/cli/verbs.h"
#include "src/infer/chat.h"
#include "src/model/huggingface.h"
#include "src/rl/score.h"
#include "src/text/corpus.h"
#include "src/train/training.h"

namespace {
// ---- on a task: several outputs of each question
struct Figure {
    std::string name;
    double value;
    Interval interval = {NAN, NAN};                      // of 95%, by the bootstrap over questions
};

std::vector<Figure> figures(const Score &s) {
    std::vector<Figure> list;
    for (size_t k = 0; k < s.K.size(); k++)
        for (const auto &[name, of] : {std::pair{"pass_", &s.pass[k]}, std::pair{"maj_", &s.majority[k]}}) {
            const auto mean_of = [&](const std::vector<int> &chosen) -> Values {
                double sum = 0;
                for (int i : chosen) sum += (*of)[i];
                return {sum / (double)chosen.size()};
            };
            const Bootstrap b = bootstrap((int)of->size(), 1000, 1, mean_of);
            list.push_back({cat(name, s.K[k]), b.estimates[0], b.intervals[0]});
        }
    for (const auto &[name, value] :
         std::initializer_list<std::pair<const char *, double>>{{"formed", s.formed},
                                                                {"language", s.language},
                                                                {"tokens", s.tokens},
                                                                {"cut", s.cut},
                                                                {"steps", s.steps},
                                                                {"steps_right", s.steps_right},
                                                                {"flat_groups", s.flat}})
        list.push_back({name, value});
    return list;
}

void show_figures(const std::vector<Figure> &list) {
    for (const Figure &f : list) {
        printf("%-12s %8.4f", f.name.c_str(), f.value);
        if (!std::isnan(f.interval.low)) printf("   %.4f .. %.4f", f.interval.low, f.interval.high);
        printf("\n");
    }
    printf("pass_K: one of K outputs is right; maj_K: their vote is (with 95%% intervals over questions); "
           "formed: share of outputs of the asked form; cut: not ended; steps: of reasoning; flat_groups: "
           "questions whose outputs are all worth the same\n");
}

struct Eval {
    std::string model, data = "stories", out, task, json;
    int batch = 8, context = 0, questions = 256, samples = 16, level = 0, max_tokens = 0, show = 0;
    Sampling sampling;
    CLI::App *verb = nullptr;
    Common common;

    void options(CLI::App &v) {
        verb = &v;
        v.add_option("--model", model, "a checkpoint's folder")->required()->check(refuse_nothing);
        v.add_option("--data", data,
                     "stories, a game, a file or a folder; only what is held out is read, of a file the last "
                     "twentieth")
            ->capture_default_str();
        v.add_option("--batch", batch, "sequences at a time")
            ->check(between(1, 1 << 16))
            ->capture_default_str();
        v.add_option("--context", context, "tokens of a sequence; 0: the model's")->check(between(0, 1e9));
        v.add_option("--out", out,
                     "a CSV: the loss of all, and of each kind of a game's sequences; or the figures");
        v.add_option("--task", task, "instead: ask its held-out questions; `deepseek task --list` shows all");
        v.add_option("--questions", questions, "how many")->check(between(1, 1e7))->capture_default_str();
        v.add_option("--samples", samples, "outputs of each question")
            ->check(between(1, 1e5))
            ->capture_default_str();
        v.add_option("--level", level, "of the questions; 0: the usual one")->check(between(0, 1e6));
        v.add_option("--max-tokens", max_tokens, "of an output; 0: as the context allows")
            ->check(between(0, 1e9));
        v.add_option("--temperature", sampling.temperature, "0: the likeliest")
            ->check(between(0, 1e9))
            ->capture_default_str();
        v.add_option("--top-p", sampling.top_p, "sample among the likeliest up to this probability")
            ->check(between(1e-6, 1))
            ->capture_default_str();
        v.add_option("--seed", sampling.seed, "of the sampling")->capture_default_str();
        v.add_option("--show", show, "print the first output to so many questions")->check(between(0, 1e6));
        v.add_option("--json", json, "a file: the figures, and each question's outputs, how many are right");
    }
    void expect_together() const {
        const auto none_of = [&](const std::vector<const char *> &names, const char *why) {
            for (const char *name : names) expect(!verb->count(name), name, ": ", why);
        };
        if (task.empty())
            none_of({"--questions", "--samples", "--level", "--max-tokens", "--temperature", "--top-p",
                     "--seed", "--show", "--json"},
                    "only goes with --task");
        else none_of({"--data", "--batch", "--context"}, "does not go with --task");
    }
    void run() const {
        expect_together();
        if (!out.empty()) expect_replaceable(out, {data});
        if (!json.empty()) expect_replaceable(json);
        const Model m = load_model(model);
        task.empty() ? on_text(m) : on_task(m);
    }
    void on_task(const Model &m) const {
        const Task &t = task_named(task);
        const Tokenizer tokenizer = tokenizer_of(m, model);
        expect_fits(t, tokenizer, m.c);
        std::vector<Question> asked;
        for (int i = 0; i < questions; i++) asked.push_back(held_out_question(t, i, level));
        const Sampler sampler = {.tokenizer = tokenizer,
                                 .task = t,
                                 .max_tokens = max_tokens,
                                 .decode = {.sampling = sampling, .slots = 64}};
        std::vector<Rollout> rollouts;
        Progress bar(0, questions, 2);
        const int some = std::max(1, 4096 / samples);    // questions at a time, for the bar
        for (int i = 0; i < questions; i += some) {
            const std::vector<Question> now(asked.begin() + i, asked.begin() + std::min(questions, i + some));
            for (Rollout &r : roll_out(m, sampler, now, samples, i)) rollouts.push_back(std::move(r));
            bar.update(std::min(questions, i + some), "questions");
        }
        const std::vector<Figure> list = figures(score(rollouts, samples, (uint64_t)sampling.seed));
        printf("%s, level %d: %d held-out %s, %d %s of each\n", t.name, asked[0].level, questions,
               questions == 1 ? "question" : "questions", samples, samples == 1 ? "output" : "outputs");
        for (int i = 0; i < std::min(show, questions); i++) show_output(rollouts[(size_t)i * samples]);
        show_figures(list);
        if (!out.empty()) write_atomically(out, csv_of(list));
        if (!json.empty()) write_atomically(json, json_of(list, rollouts) + "\n");
    }
    static void show_output(const Rollout &r) {
        printf("    %s %s%s  (%s%s)\n", r.question.prompt.c_str(), r.text.c_str(), r.ended() ? "" : "...",
               r.graded.right ? "right" : "wrong", r.graded.formed ? "" : ", not well formed");
    }
    static std::string csv_of(const std::vector<Figure> &list) {
        std::string csv = "figure,value,low,high\n";
        const auto shown = [](double x) { return std::isnan(x) ? "" : format(x); };
        for (const auto &[name, value, interval] : list)
            csv += cat(name, ",", format(value), ",", shown(interval.low), ",", shown(interval.high), "\n");
        return csv;
    }
    std::string json_of(const std::vector<Figure> &list, const std::vector<Rollout> &rollouts) const {
        Json all = {
            {"task", task}, {"model", model}, {"samples", samples}, {"temperature", sampling.temperature}};
        for (const auto &[name, value, interval] : list)
            all["figures"][name] =
                std::isnan(interval.low) ? Json(value) : Json{value, interval.low, interval.high};
        all["questions"] = Json::array();
        for (size_t first = 0; first < rollouts.size(); first += samples) {
            Json outputs = Json::array();
            int right = 0;
            for (int i = 0; i < samples; i++) {
                outputs.push_back(rollouts[first + i].text);
                right += rollouts[first + i].graded.right;
            }
            all["questions"].push_back(
                {{"prompt", rollouts[first].question.prompt}, {"right", right}, {"outputs", outputs}});
        }
        return dump(all, 1);
    }
    void on_text(const Model &m) const {
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
    add_verb<Eval>(program, "eval", "Measure a model on held-out text, or on a task's questions",
                   "deepseek eval --model runs/v3 --data stories\n"
                   "  deepseek eval --model runs/r1 --task countdown --samples 64");
}

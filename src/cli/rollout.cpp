// rollout.cpp: `deepseek rollout`: a policy's outputs to a task's questions become a file to learn from. They
// are the questions of training: what is held out stays so.
#include <cstdio>
#include <set>

#include "src/base/error.h"
#include "src/base/fields.h"
#include "src/base/files.h"
#include "src/base/json.h"
#include "src/base/progress.h"
#include "src/base/utf8.h"
#include "src/cli/verbs.h"
#include "src/infer/chat.h"
#include "src/model/huggingface.h"
#include "src/rl/rollout.h"

namespace {
struct RolloutVerb {
    std::string model, task, out, reward = "accuracy=1,format=1";
    int questions = 256, samples = 16, level = 0, max_tokens = 0;
    bool right = false, distinct = false, pairs = false;
    Sampling sampling = {.seed = 1};
    const CLI::App *verb = nullptr;
    Common common;

    void options(CLI::App &v) {
        verb = &v;
        v.add_option("--model", model, "a checkpoint's folder")->required()->check(refuse_nothing);
        v.add_option("--task", task, "whose questions are asked; `deepseek task --list` shows all")
            ->required();
        v.add_option("--out", out,
                     "a .jsonl, a line an output: prompt, output, right, formed, reward, question")
            ->required()
            ->check(refuse_nothing);
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
        v.add_option("--seed", sampling.seed,
                     "of the sampling, and which questions: a run with this --seed is asked the same")
            ->capture_default_str();
        v.add_option("--reward", reward, "weights of accuracy, format, language, length")
            ->capture_default_str();
        v.add_flag("--right", right, "only outputs whose answer is right");
        v.add_flag("--distinct", distinct, "what is written twice to a question comes once");
        v.add_flag(
            "--pairs", pairs,
            "instead, of each question with right and wrong outputs the first of each: prompt, chosen, "
            "rejected");
    }
    void run() const {
        for (const char *option : {"--right", "--distinct", "--reward"})
            expect(!pairs || !verb->count(option), option, ": does not go with --pairs");
        expect_replaceable(out);
        const Reward worth = parse_reward(reward);
        const Task &t = task_named(task);
        const Model m = load_model(model);
        const Tokenizer tokenizer = tokenizer_of(m, model);
        expect_fits(t, tokenizer, m.c);
        const Sampler sampler = {.tokenizer = tokenizer,
                                 .task = t,
                                 .reward = worth,
                                 .max_tokens = max_tokens,
                                 .decode = {.sampling = sampling, .slots = 256}};
        Lines lines;
        ask(m, sampler, lines);
        const long asked = (long)questions * samples;
        const std::string found = cat(asked, " outputs: ", lines.right, " right, ", lines.cut, " cut off, ",
                                      lines.twice, " duplicates dropped");
        if (!lines.written)
            fail(cat(out, ": is not written, for nothing is left of ", found),
                 "more --samples, another --temperature, or an easier --level");
        write_atomically(out, lines.text);
        printf("%s: %s; %ld %s in %s\n", t.name, found.c_str(), lines.written, pairs ? "pairs" : "lines",
               out.c_str());
    }

private:
    struct Lines {
        std::string text;
        long right = 0, cut = 0, twice = 0, written = 0;
        std::set<std::pair<std::string, std::string>> seen;
        void add(const Json &line) {
            text += dump(line, -1) + "\n";
            written++;
        }
    };
    void ask(const Model &m, const Sampler &sampler, Lines &lines) const {
        const CatchInterrupt stop;
        Progress bar(0, questions, 2);
        const int some = std::max(1, 4096 / samples);    // questions at a time, for the bar
        for (int i = 0; i < questions; i += some) {
            std::vector<Question> now;
            for (int q = i; q < std::min(questions, i + some); q++)
                now.push_back(question_of(sampler.task, sampling.seed, q, level));
            const auto rollouts = roll_out(m, sampler, now, samples, i, [](long) {
                if (interrupted) throw Interrupted();
            });
            for (size_t first = 0; first < rollouts.size(); first += samples)
                write(&rollouts[first], i + (long)first / samples, lines);
            bar.update(std::min(questions, i + some), "questions");
        }
    }
    // Of one question. What was cut off has no end, and what is no UTF-8 no JSON: to learn from, they are not
    // what the policy wrote.
    void write(const Rollout *outputs, long question, Lines &lines) const {
        const Rollout *first[2] = {};                    // wrong, right
        for (const Rollout *r = outputs; r < outputs + samples; r++) {
            const bool is_right = r->graded.right;
            if (!r->ended() || !valid_utf8(r->text)) {
                lines.cut++;
                continue;
            }
            lines.right += is_right;
            if (!first[is_right]) first[is_right] = r;
            if (pairs || (right && !is_right)) continue;
            if (distinct && !lines.seen.insert({r->question.prompt, r->text}).second) {
                lines.twice++;
                continue;
            }
            lines.add({{"prompt", r->question.prompt},
                       {"output", r->text},
                       {"right", is_right},
                       {"formed", r->graded.formed},
                       {"reward", r->reward},
                       {"question", question}});
        }
        if (pairs && first[0] && first[1])
            lines.add({{"prompt", outputs->question.prompt},
                       {"chosen", first[1]->text},
                       {"rejected", first[0]->text}});
    }
};
}  // namespace

void add_rollout(CLI::App &program) {
    add_verb<RolloutVerb>(
        program, "rollout", "A policy's outputs to a task's questions, as a file to learn from",
        "deepseek rollout --model runs/r1 --task countdown --right --distinct --out right.jsonl\n"
        "  deepseek train --objective sft --data right.jsonl --init runs/v3 --out runs/distilled");
}

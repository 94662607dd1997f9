// rollout.cpp: see rollout.h.
#include "src/rl/rollout.h"

#include <algorithm>

#include "src/base/error.h"
#include "src/base/fields.h"
#include "src/base/text.h"

double Reward::of(const Graded &g, double share_of_length) const {
    return accuracy * g.right + format * g.formed + language * g.language - length * share_of_length;
}

Reward parse_reward(const std::string &text) {
    Reward r = {.accuracy = 0};
    const std::vector<std::pair<std::string, double *>> weights = {
        {"accuracy", &r.accuracy}, {"format", &r.format}, {"language", &r.language}, {"length", &r.length}};
    std::vector<std::string> names;
    for (const auto &[name, weight] : weights) names.push_back(name);
    std::istringstream pairs(text);
    for (std::string pair; std::getline(pairs, pair, ',');) {
        const size_t equals = pair.find('=');
        const std::string name = pair.substr(0, equals);
        const auto at =
            std::find_if(weights.begin(), weights.end(), [&](const auto &w) { return w.first == name; });
        if (at == weights.end())
            fail("--reward: no '" + name + "'", did_you_mean(name, names, "there are " + format(names)));
        expect(equals != pair.npos, "--reward: '", pair, "' is not NAME=WEIGHT");
        parse(pair.substr(equals + 1), *at->second);
    }
    return r;
}

void expect_fits(const Task &task, const Tokenizer &tokenizer, const Config &c) {
    if (tokenizer.eos.empty())
        fail(cat("task ", task.name, ": the model has no token that ends an output"),
             cat("train it on outputs that end: --data ", task.name));
    std::string missing;
    for (const char *p = task.alphabet; *p; p++)
        if (tokenizer.decode(tokenizer.encode_plain(std::string(1, *p))) != std::string(1, *p)) missing += *p;
    if (!missing.empty())
        fail(cat("task ", task.name, ": the model has no tokens for '", missing, "'"),
             cat("train it on the task's texts: --data ", task.name));
    expect(tokenizer.size() <= c.V, "the tokenizer has ", tokenizer.size(),
           " tokens, the model's vocabulary only ", c.V);
}

static std::vector<Request> requests_of(const Model &m, const Sampler &s,
                                        const std::vector<Question> &questions, int samples, long first) {
    std::vector<Request> list;
    for (size_t i = 0; i < questions.size(); i++) {
        const std::vector<int> prompt = s.tokenizer.begun(s.tokenizer.encode_plain(questions[i].prompt));
        expect((int)prompt.size() < m.c.context, "task ", s.task.name, ": a question of ", prompt.size(),
               " tokens leaves no room for an answer in the model's context of ", m.c.context);
        list.push_back({.prompt = prompt,
                        .samples = samples,
                        .question = (int)(first + (long)i),
                        .max_tokens = s.max_tokens ? s.max_tokens : m.c.context,
                        .stop = s.tokenizer.eos});
    }
    return list;
}

std::vector<Rollout> roll_out(const Model &m, const Sampler &s, const std::vector<Question> &questions,
                              int samples, long first, const std::function<void(long done)> &progress) {
    const std::vector<Request> requests = requests_of(m, s, questions, samples, first);
    long tokens = 0;
    const auto told = [&](int, int, int) {
        if (progress) progress(++tokens);
    };
    auto answers = decode(m, requests, s.decode, told);
    std::vector<Rollout> rollouts;
    for (size_t i = 0; i < questions.size(); i++)
        for (Answer &answer : answers[i]) {
            const int room = std::min(requests[i].max_tokens, m.c.context - (int)requests[i].prompt.size());
            const double share = (double)answer.ids.size() / room;
            Rollout r = {.question = questions[i],
                         .group = (int)i,
                         .prompt = requests[i].prompt,
                         .answer = std::move(answer),
                         .text = {},
                         .graded = {.language = 0}};
            r.text = s.tokenizer.decode(r.answer.text());
            if (r.ended()) r.graded = s.task.grade(r.question, r.text);
            r.reward = s.reward.of(r.graded, share);
            rollouts.push_back(std::move(r));
        }
    return rollouts;
}

// task.cpp: the list of tasks, their questions by number, and what makes each a corpus.
#include "src/rl/task.h"

#include <cmath>

#include "src/base/error.h"
#include "src/base/text.h"
#include "src/text/tokenizer.h"

const std::vector<const Task *> &tasks() {
#define X(name) &task_##name,
    static const std::vector<const Task *> list = {TASKS(X)};
#undef X
    return list;
}

const Task &task_named(const std::string &name) {
    std::vector<std::string> names;
    for (const Task *task : tasks()) {
        if (task->name == name) return *task;
        names.push_back(task->name);
    }
    fail("no task '" + name + "'", did_you_mean(name, names, "`deepseek task --list` shows all"));
}

// ------------------------------------------------------------------------------------- questions by number
bool is_held_out(const std::string &prompt) { return mix(hash_of(prompt)) % 16 == 0; }

// The first question of the stream that is on the wanted side.
static Question drawn(const Task &task, uint64_t seed, long index, int level, bool held_out) {
    expect(level == 0 || (level >= task.lowest && level <= task.highest), task.name, ": level ", level,
           " is not between ", task.lowest, " and ", task.highest);
    Random r = {random_bits(seed, hash_of(task.name), index, held_out)};
    for (;;) {
        const Question q = task.question(r, level ? level : task.usual);
        if (is_held_out(q.prompt) == held_out) return q;
    }
}
Question question_of(const Task &task, uint64_t seed, long index, int level) {
    return drawn(task, seed, index, level, false);
}
Question held_out_question(const Task &task, long index, int level) {
    return drawn(task, 0, index, level, true);
}

// ---------------------------------------------------------------------------------------------- as a corpus
static constexpr const char *end_of_text = "<|endoftext|>";

Tokenizer tokenizer_of(const Task &task) {
    const Tokenizer bytes = byte_tokenizer();
    Tokenizer t;
    t.stages = pretokenizer("none");
    for (const char *c = task.alphabet; *c; c++) t.vocabulary.push_back(bytes.vocabulary[(unsigned char)*c]);
    t.added.push_back({end_of_text, t.size(), true, false});
    t.vocabulary.push_back(end_of_text);
    t.prepare();
    return t;
}

namespace {
class Traces : public Game {
    const Task &task;
    const Tokenizer by_character;

public:
    Traces(const Task &task, const std::map<std::string, double> &keys)
        : Game(keys), task(task), by_character(tokenizer_of(task)) {
        words = by_character.vocabulary;
        const double level = keys.at("level");
        expect(level == 0 || level >= task.lowest, "level ", level, " is below ", task.lowest);
    }
    Tokenizer tokenizer() const override { return by_character; }
    double optimum(const Sample &) const override { return NAN; }

protected:
    // One question after the other; the last may be cut.
    Sample play(Random &r, long, int T, bool training) const override {
        Sample s;
        while ((int)s.ids.size() <= T) {
            Question q;
            do q = task.question(r, key.at("level") ? (int)key.at("level") : task.usual);
            while (is_held_out(q.prompt) == training);
            std::vector<int> trace = by_character.encode(task.trace(r, q, key.at("gold") != 0));
            trace.push_back(by_character.eos[0]);
            pack(s, by_character.encode(q.prompt), trace);
        }
        s.ids.resize(T + 1);
        s.weight.resize(T + 1);
        return s;
    }
};
}  // namespace

void tasks_become_games() {
    for (const Task *task : tasks())
        add_game(task->name,
                 {{"level", 0, 0, (double)task->highest, true, "of its questions, 0: the usual"},
                  {"gold", 0, 0, 1, true, "1: traces as they should be, not of mixed quality"}},
                 [task](const auto &keys) { return std::make_shared<Traces>(*task, keys); });
}

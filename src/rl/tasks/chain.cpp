// chain.cpp: a register of three digits, operated on.                               DeepSeekMath, in small
//
//     315+74*30-18=  ->  065;086;995;#995        513 + 47 = 560, 560 * 3 = 680, 680 - 81 = 599 (mod 1000)
//
// Steps are what the register holds after each operation. Luck finds one answer in a thousand, and the three
// operations are learned at different speeds: a base that was stopped early errs systematically, which is
// what keeps its majority far below its best of many.
#include "src/rl/steps.h"

static Question question(Random &r, int level) {
    Question q = {.prompt = written(r.below(1000), 3), .level = level};
    for (int i = 0; i < level; i++) {
        const bool times = r.chance(34);
        q.prompt += times ? '*' : "+-"[r.below(2)];
        q.prompt += written(times ? 2 + r.below(8) : 10 + r.below(90), 2);
    }
    q.prompt += '=';
    return q;
}

static std::string read(const Question &, const std::string &text) { return fits(text, "000;") ? text : ""; }
static std::string next(const Question &q, int i, const std::string &before) {
    const char operation = q.prompt[3 + 3 * i];
    const int x = number(before.empty() ? q.prompt : before, 0, 3), y = number(q.prompt, 4 + 3 * i, 2);
    const int z = operation == '*' ? x * y : operation == '+' ? x + y : x - y + 1000;
    return written(z % 1000, 3) + ";";
}
static std::string answer(const std::string &reasoning) { return reasoning.substr(reasoning.size() - 4, 3); }
static bool is_answer(const Question &, const std::string &text) { return fits(text, "000"); }

static constexpr Steps steps = {4, true, read, next, answer, is_answer};

// Of mixed quality: one step in fifty has a wrong digit, and it is carried on.
static std::string trace(Random &r, const Question &q, bool gold) {
    std::string reasoning, step;
    for (int i = 0; i < q.level; i++) {
        step = next(q, i, step);
        char &digit = step[r.below(3)];
        if (!gold && r.chance(2)) digit = (char)('0' + (digit - '0' + 1 + r.below(9)) % 10);
        reasoning += step;
    }
    return reasoning + "#" + answer(reasoning);
}
static Graded grade(const Question &q, const std::string &output) { return grade_steps(steps, q, output); }

const Task task_chain = {
    .name = "chain",
    .sentence = "a register of three digits after some operations; steps are what it holds after each",
    .levels = "how many operations",
    .lowest = 1,
    .usual = 3,
    .highest = 8,
    .alphabet = "0123456789+-*=;#",
    .question = question,
    .grade = grade,
    .trace = trace};

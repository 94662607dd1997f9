// add.cpp: addition, column by column, as three authors write it.                  Math-Shepherd, in small
//
//     7351+6420=  ->  7+6=31,3+4=80,5+2=70,1+0=10,#38710           1537 + 246 = 01783
//
// Numbers begin with their last digit, the sums of columns too: 7 + 6 = 13 is 31, and the 1 is the carry.
// An author who drops carries errs always in the same way, which no vote repairs; one who sometimes writes a
// wrong sum down but goes on with the right one has a right answer by wrong steps.
#include "src/rl/steps.h"

static Question question(Random &r, int level) {
    Question q = {.prompt = {}, .level = level};
    for (const char *behind : {"+", "="}) {
        for (int i = 0; i < level; i++) q.prompt += (char)('0' + r.below(10));
        q.prompt += behind;
    }
    return q;
}

static std::string read(const Question &, const std::string &text) {
    return fits(text, "0+0=00,") ? text : "";
}
static std::string next(const Question &q, int i, const std::string &before) {
    const char a = q.prompt[i], b = q.prompt[q.level + 1 + i], carry = before.empty() ? '0' : before[5];
    return std::string{a, '+', b, '='} + written(a - '0' + b - '0' + carry - '0', 2) + ",";
}
static std::string answer(const std::string &reasoning) {
    std::string digits;
    for (size_t at = 0; at < reasoning.size(); at += 7) digits += reasoning[at + 4];
    return digits + reasoning[reasoning.size() - 2];     // the last carry
}
static bool is_answer(const Question &q, const std::string &text) {
    return fits(text, std::string(q.level + 1, '0'));
}

static constexpr Steps steps = {7, true, read, next, answer, is_answer};

// A column's sum that is off by 1 or by 10, but could be one.
static std::string slip(Random &r, const std::string &step) {
    for (;;) {
        const int size = r.chance(50) ? 1 : 10, wrong = number(step, 4, 2) + (r.chance(50) ? size : -size);
        if (wrong >= 0 && wrong < 20) return step.substr(0, 4) + written(wrong, 2) + ",";
    }
}

// Of mixed quality: of ten authors two are careful, four drop every carry, four are sloppy. A sloppy one
// writes every fourth sum wrong, and goes on with it; in one of ten such cases with the right one.
static std::string trace(Random &r, const Question &q, bool gold) {
    const int author = gold ? 0 : r.below(10);
    const bool drops = author >= 2 && author < 6, sloppy = author >= 6;
    std::string shown, meant, step;
    for (int i = 0; i < q.level; i++) {
        step = next(q, i, drops ? "" : step);
        const std::string slipped = sloppy && r.chance(25) ? slip(r, step) : step;
        if (!r.chance(10)) step = slipped;
        shown += slipped;
        meant += step;
    }
    return shown + "#" + answer(meant);
}
static Graded grade(const Question &q, const std::string &output) { return grade_steps(steps, q, output); }

const Task task_add = {.name = "add",
                       .sentence = "addition, last digits first; a step is a column with its carry",
                       .levels = "how many digits",
                       .lowest = 2,
                       .usual = 4,
                       .highest = 10,
                       .alphabet = "0123456789+=,#",
                       .question = question,
                       .grade = grade,
                       .trace = trace};

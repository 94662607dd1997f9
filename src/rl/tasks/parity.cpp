// parity.cpp: is the number of ones odd?                                                 R1-Zero, in small
//
//     0110100100=  ->  0100111000#0         or at once  #0
//
// Steps are the parity so far, bit by bit. A guess is right every second time, all steps always; so who is
// paid for right answers alone, and has learned from people who hardly ever take the steps, learns to write
// more. The form asks for one step only: it must not pay for the length.
#include "src/rl/steps.h"

static Question question(Random &r, int level) {
    Question q = {.prompt = {}, .level = level};
    for (int i = 0; i < level; i++) q.prompt += "01"[r.below(2)];
    q.prompt += '=';
    return q;
}

static bool is_answer(const Question &, const std::string &text) { return text == "0" || text == "1"; }
static std::string read(const Question &q, const std::string &text) { return is_answer(q, text) ? text : ""; }
static std::string next(const Question &q, int i, const std::string &before) {
    return before == "1" ? (q.prompt[i] == '1' ? "0" : "1") : q.prompt.substr(i, 1);
}
static std::string answer(const std::string &reasoning) { return reasoning.substr(reasoning.size() - 1); }

static constexpr Steps steps = {1, false, read, next, answer, is_answer};

// Of mixed quality: nine in ten guess.
static std::string trace(Random &r, const Question &q, bool gold) {
    if (!gold && r.chance(90)) return std::string("#") + "01"[r.below(2)];
    const std::string reasoning = gold_steps(steps, q);
    return reasoning + "#" + answer(reasoning);
}
static Graded grade(const Question &q, const std::string &output) { return grade_steps(steps, q, output); }

const Task task_parity = {
    .name = "parity",
    .sentence = "is the number of ones odd? steps are the parity so far; guesses are right half of the time",
    .levels = "how many bits",
    .lowest = 10,
    .usual = 14,
    .highest = 20,
    .alphabet = "01=#",
    .question = question,
    .grade = grade,
    .trace = trace};

// permute.cpp: five things, rearranged again and again.                        V3's distillation, in small
//
//     23451*21345*54321=  ->  bcdea;cbdea;aedbc;#aedbc              place i gets what stood at place p_i
//
// Steps are the arrangement after each permutation, the first of abcde. Permutations do not commute, so there
// is no shorter way than all of them; a guess is right once in 120.
#include <algorithm>

#include "src/rl/steps.h"

static std::string shuffled(Random &r, std::string things) {
    for (size_t i = 1; i < things.size(); i++) std::swap(things[i], things[r.below((int)i + 1)]);
    return things;
}
static Question question(Random &r, int level) {
    Question q = {.prompt = {}, .level = level};
    for (int i = 0; i < level; i++) q.prompt += shuffled(r, "12345") + (i + 1 < level ? "*" : "=");
    return q;
}

static bool is_answer(const Question &, const std::string &text) {
    return text.size() == 5 && std::is_permutation(text.begin(), text.end(), "abcde");
}
static std::string read(const Question &q, const std::string &text) {
    return text[5] == ';' && is_answer(q, text.substr(0, 5)) ? text : "";
}
static std::string next(const Question &q, int i, const std::string &before) {
    const std::string from = before.empty() ? "abcde" : before;
    std::string to;
    for (int k = 0; k < 5; k++) to += from[q.prompt[6 * i + k] - '1'];
    return to + ";";
}
static std::string answer(const std::string &reasoning) { return reasoning.substr(reasoning.size() - 6, 5); }

static constexpr Steps steps = {6, true, read, next, answer, is_answer};

// Of mixed quality: every second one guesses.
static std::string trace(Random &r, const Question &q, bool gold) {
    if (!gold && r.chance(50)) return "#" + shuffled(r, "abcde");
    const std::string reasoning = gold_steps(steps, q);
    return reasoning + "#" + answer(reasoning);
}
static Graded grade(const Question &q, const std::string &output) { return grade_steps(steps, q, output); }

const Task task_permute = {.name = "permute",
                           .sentence =
                               "five things after some permutations; steps are the arrangement after each",
                           .levels = "how many permutations",
                           .lowest = 2,
                           .usual = 4,
                           .highest = 12,
                           .alphabet = "12345*=abcde;#",
                           .question = question,
                           .grade = grade,
                           .trace = trace};

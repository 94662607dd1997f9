// countdown.cpp: signs between digits, so that they make a number.                       R1, in small: 11 E1
//
//     743210|  ->  (+11-08-10x+11-08+10!)#+-+        7 + 4 - 3 + 2 = 10
//
// Between # and the end stand the signs. Between the parentheses stand attempts: each sign with the sum so
// far (mod 100), then x for a miss or ! for a hit. A model that tries again after a miss finds what one that
// answers blindly cannot: of 2^(n-1) candidates about one is right.
#include <algorithm>

#include "src/rl/steps.h"

// The digits stand in front of the two of the target and the bar.
static int digits_of(const Question &q) { return (int)q.prompt.size() - 3; }
static int value(const std::string &text, int at) { return 10 * (text[at] - '0') + text[at + 1] - '0'; }
static std::string two_digits(int x) {
    const int y = (x % 100 + 100) % 100;
    return {(char)('0' + y / 10), (char)('0' + y % 10)};
}
static int sum_of(const std::string &prompt, const std::string &signs) {
    int sum = prompt[0] - '0';
    for (size_t i = 0; i < signs.size(); i++) sum += (signs[i] == '+' ? 1 : -1) * (prompt[i + 1] - '0');
    return sum;
}

static Question question(Random &r, int level) {
    Question q = {.prompt = {}, .level = level};
    for (;;) {
        std::string signs;
        q.prompt.clear();
        for (int i = 0; i < level; i++) q.prompt += (char)('1' + r.below(9));
        for (int i = 1; i < level; i++) signs += "+-"[r.below(2)];
        const int target = sum_of(q.prompt, signs);
        if (target < 0) continue;                        // it would need a sign of its own
        q.prompt += two_digits(target) + "|";
        return q;
    }
}

// An attempt: for each sign it and the sum so far; then its mark.
static std::string attempt(const Question &q, const std::string &signs, int slip_at) {
    std::string text;
    int sum = q.prompt[0] - '0';
    for (size_t i = 0; i < signs.size(); i++) {
        sum += (signs[i] == '+' ? 1 : -1) * (q.prompt[i + 1] - '0') + ((int)i == slip_at);
        text += signs[i] + two_digits(sum);
    }
    return text + (two_digits(sum) == q.prompt.substr(digits_of(q), 2) ? "!" : "x");
}

// Of mixed quality: one in five answers blindly; the others try signs in random order, and after each miss
// two in five give up and answer with what just failed; three in ten forget the parentheses; one sum in a
// hundred is wrong.
static std::string trace(Random &r, const Question &q, bool gold) {
    const int n = digits_of(q) - 1;
    std::vector<std::string> candidates;
    for (int bits = 0; bits < 1 << n; bits++) {
        std::string signs;
        for (int i = 0; i < n; i++) signs += "+-"[bits >> i & 1];
        candidates.push_back(signs);
    }
    for (int i = 1; i < 1 << n; i++) std::swap(candidates[i], candidates[r.below(i + 1)]);
    if (!gold && r.chance(20)) return "#" + candidates[0];
    std::string reasoning, signs;
    for (const std::string &candidate : candidates) {
        signs = candidate;
        reasoning += attempt(q, signs, !gold && r.chance(n) ? r.below(n) : -1);
        if (reasoning.back() == '!' || (!gold && r.chance(40))) break;
    }
    const bool parentheses = gold || !r.chance(30);
    return (parentheses ? "(" + reasoning + ")" : reasoning) + "#" + signs;
}

// Attempts from the front, as far as they can be read. Returns where they end.
static size_t read_attempts(const Question &q, const std::string &text, size_t at, Graded &g) {
    const size_t n = digits_of(q) - 1, length = 3 * n + 1;
    for (; at + length <= text.size(); at += length) {
        std::string signs;
        for (size_t i = 0; i < n; i++) {
            const char sign = text[at + 3 * i], tens = text[at + 3 * i + 1], ones = text[at + 3 * i + 2];
            if ((sign != '+' && sign != '-') || !fits({tens, ones}, "00")) return at;
            signs += sign;
        }
        const char mark = text[at + length - 1];
        if (mark != 'x' && mark != '!') return at;
        g.steps.push_back({(int)(at + length), text.substr(at, length) == attempt(q, signs, -1)});
    }
    return at;
}

// The form: ( attempts, one or more ) # signs. Reasoning that is empty would be bought for nothing.
static Graded grade(const Question &q, const std::string &output) {
    Graded g;
    const size_t n = digits_of(q) - 1, hash = output.find('#'), begin = output.starts_with("(");
    const std::string reasoning = output.substr(0, hash);
    const size_t end = read_attempts(q, reasoning, begin, g);
    const std::string rest = reasoning.substr(end);      // as in steps.h: one wrong step
    if (!rest.empty() && !(begin && rest == ")")) g.steps.push_back({(int)reasoning.size(), false});
    if (hash == output.npos) return g;
    const std::string signs = output.substr(hash + 1);
    if (signs.size() != n || signs.find_first_not_of("+-") != signs.npos) return g;
    g.answer = signs;
    g.right = sum_of(q.prompt, signs) == value(q.prompt, digits_of(q));
    g.formed = begin && !g.steps.empty() && rest == ")";
    return g;
}

const Task task_countdown = {
    .name = "countdown",
    .sentence = "signs between digits, so that they make a number; tried one after the other",
    .levels = "how many digits",
    .lowest = 2,
    .usual = 4,
    .highest = 6,
    .alphabet = "0123456789|()+-x!#",
    .question = question,
    .grade = grade,
    .trace = trace};

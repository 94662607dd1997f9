// steps.cpp: outputs of steps and an answer, read and graded.
#include "src/rl/steps.h"

#include <algorithm>

std::string gold_steps(const Steps &s, const Question &q) {
    std::string text, step;
    for (int i = 0; i < q.level; i++) text += step = s.next(q, i, step);
    return text;
}

Graded grade_steps(const Steps &s, const Question &q, const std::string &output) {
    Graded g;
    const size_t hash = std::min(output.find('#'), output.size());
    size_t end = 0;
    std::string before;
    for (int i = 0; i < q.level && end + s.width <= hash; i++) {
        const std::string step = s.read(q, output.substr(end, s.width));
        if (step.empty()) break;
        end += s.width;
        g.steps.push_back({(int)end, step == s.next(q, i, before)});
        before = step;
    }
    const size_t n = g.steps.size();
    if (end < hash) g.steps.push_back({(int)hash, false});
    if (hash == output.size()) return g;
    const std::string answer = output.substr(hash + 1);
    if (!s.is_answer(q, answer)) return g;
    g.answer = answer;
    g.right = answer == s.answer(gold_steps(s, q));
    g.formed = end == hash && n >= (s.all ? (size_t)q.level : 1);
    return g;
}

bool fits(const std::string &text, const std::string &pattern) {
    const auto like = [](char c, char p) { return p == '?' || (p == '0' ? c >= '0' && c <= '9' : c == p); };
    return std::equal(text.begin(), text.end(), pattern.begin(), pattern.end(), like);
}
int number(const std::string &text, size_t at, int digits) {
    int x = 0;
    while (digits-- > 0) x = 10 * x + text[at + digits] - '0';
    return x;
}
std::string written(int x, int digits) {
    std::string text;
    for (; digits > 0; digits--, x /= 10) text += (char)('0' + x % 10);
    return text;
}

// words.cpp: counting, told in one of two languages.                          R1's two languages, in small
//
//     had5add3fed2big4?  ->  add3all8.fed2all6.big4all4.#4          5 + 3 = 8, 8 - 2 = 6, 6 * 4 = 24 (mod 10)
//     own5put3out2pow4?  ->  put3now8.out2now6.pow4now4.#4          the same
//
// The languages share no letter. One may reason in either, and a step is as right in the other; `language` is
// the share of the reasoning's words that are in the prompt's.
#include <algorithm>

#include "src/rl/steps.h"

enum { more, less, times, makes, start };
static const std::vector<std::string> languages[] = {{"add", "fed", "big", "all", "had"},
                                                     {"put", "out", "pow", "now", "own"}};
static int language_of(const Question &q) { return q.prompt.starts_with(languages[1][start]); }
// In either language; -1: it is no word.
static int meaning(const std::string &word) {
    for (const auto &words : languages)
        for (int m = more; m <= start; m++)
            if (words[m] == word) return m;
    return -1;
}
static std::string told(int language, int event, char count, char sum) {
    const auto &words = languages[language];
    return words[event] + count + words[makes] + sum + ".";
}

static Question question(Random &r, int level) {
    const auto &words = languages[r.below(2)];
    Question q = {.prompt = words[start] + (char)('0' + r.below(10)), .level = level};
    for (int i = 0; i < level; i++) {
        const int event = r.below(3), least = event == times ? 2 : 1;
        q.prompt += words[event] + (char)('0' + least + r.below(10 - least));
    }
    q.prompt += '?';
    return q;
}

// In the prompt's language, whichever it was written in.
static std::string read(const Question &q, const std::string &text) {
    const int event = meaning(text.substr(0, 3));
    if (!fits(text, "???0???0.") || event < more || event > times || meaning(text.substr(4, 3)) != makes)
        return "";
    return told(language_of(q), event, text[3], text[7]);
}
static std::string next(const Question &q, int i, const std::string &before) {
    const int event = meaning(q.prompt.substr(4 + 4 * i, 3));
    const char count = q.prompt[7 + 4 * i];
    const int x = (before.empty() ? q.prompt[3] : before[7]) - '0', y = count - '0';
    const int sum = event == times ? x * y : event == more ? x + y : x - y + 10;
    return told(language_of(q), event, count, (char)('0' + sum % 10));
}
static std::string answer(const std::string &reasoning) { return reasoning.substr(reasoning.size() - 2, 1); }
static bool is_answer(const Question &, const std::string &text) { return fits(text, "0"); }

static constexpr Steps steps = {9, true, read, next, answer, is_answer};

// Of mixed quality: of twenty steps seven are in the other language.
static std::string trace(Random &r, const Question &q, bool gold) {
    std::string reasoning, step;
    for (int i = 0; i < q.level; i++) {
        step = next(q, i, step);
        const bool other = !gold && r.chance(35);
        reasoning += told(language_of(q) ^ other, meaning(step.substr(0, 3)), step[3], step[7]);
    }
    return reasoning + "#" + answer(reasoning);
}

// Of the words before the answer. No words: 0, or saying nothing would be the best language.
static double share_in_language(const Question &q, const std::string &output) {
    const auto &words = languages[language_of(q)];
    const std::string reasoning = output.substr(0, output.find('#')) + "#";
    int all = 0, right = 0;
    std::string word;
    for (char c : reasoning) {
        if (c >= 'a' && c <= 'z') word += c;
        else if (!word.empty()) {
            all++;
            right += std::count(words.begin(), words.end(), word) > 0;
            word.clear();
        }
    }
    return all ? (double)right / all : 0;
}
static Graded grade(const Question &q, const std::string &output) {
    Graded g = grade_steps(steps, q, output);
    g.language = share_in_language(q, output);
    return g;
}

const Task task_words = {.name = "words",
                         .sentence =
                             "counting (mod 10), told in one of two languages, to be reasoned in the same",
                         .levels = "how many events",
                         .lowest = 2,
                         .usual = 4,
                         .highest = 8,
                         .alphabet = "0123456789?.#abdefghilnoptuw",
                         .question = question,
                         .grade = grade,
                         .trace = trace};

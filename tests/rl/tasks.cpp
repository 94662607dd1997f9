// Tasks: their questions are pure functions and split for good, their gold traces are right, and their
// graders say of anything what a second solver and a regular expression, typed here once more, say of it.
#include "src/rl/task.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <regex>
#include <set>

#include "src/base/error.h"
#include "src/text/tokenizer.h"
#include "tests/check.h"

// --------------------------------------------------------------------------------------- each task once more
namespace {
std::string times(const std::string &pattern, int n) { return "(?:" + pattern + "){" + cat(n) + "}"; }
std::string reversed(const std::string &text) { return {text.rbegin(), text.rend()}; }
std::string written(long x, int digits) {                // last digit first
    std::string text = std::to_string(x);
    return reversed(std::string(digits - text.size(), '0') + text);
}
struct Pair { std::string a, b; };                       // the groups of a match
std::vector<Pair> all_of(const std::string &text, const char *pattern) {
    const std::regex expression(pattern);
    std::vector<Pair> found;
    for (std::sregex_iterator m(text.begin(), text.end(), expression), end; m != end; ++m)
        found.push_back({(*m)[1], (*m)[2]});
    return found;
}

bool countdown_solves(const std::string &prompt, const std::string &answer) {
    int sum = 0;
    const std::string signs = "+" + answer;
    for (size_t i = 0; i < signs.size(); i++) sum += (44 - signs[i]) * (prompt[i] - 48);   // + is 43, - is 45
    return sum == std::stoi(prompt.substr(signs.size(), 2));
}
bool chain_solves(const std::string &prompt, const std::string &answer) {
    long x = std::stol(reversed(prompt.substr(0, 3)));
    for (const auto &[sign, digits] : all_of(prompt, "([-+*])([0-9]{2})")) {
        const long y = std::stol(reversed(digits));
        x = sign == "+" ? x + y : sign == "-" ? x - y : x * y;
    }
    return answer == written((x % 1000 + 1000) % 1000, 3);      // of the whole: exact up to level 8
}
bool add_solves(const std::string &prompt, const std::string &answer) {
    const size_t n = prompt.find('+');
    const long a = std::stol(reversed(prompt.substr(0, n))), b = std::stol(reversed(prompt.substr(n + 1, n)));
    return answer == written(a + b, (int)n + 1);
}
bool words_solves(const std::string &prompt, const std::string &answer) {
    const std::map<std::string, char> sign = {{"add", '+'}, {"fed", '-'}, {"big", '*'},
                                              {"put", '+'}, {"out", '-'}, {"pow", '*'}};
    long x = prompt[3] - '0';
    for (const auto &[word, digit] : all_of(prompt.substr(4), "([a-z]{3})([0-9])")) {
        const long y = std::stol(digit);
        x = sign.at(word) == '+' ? x + y : sign.at(word) == '-' ? x - y : x * y;
    }
    return answer == std::to_string((x % 10 + 10) % 10);
}
// From the back: which thing does place i get, through all permutations?
bool permute_solves(const std::string &prompt, const std::string &answer) {
    std::string end;
    for (int place = 1; place <= 5; place++) {
        int at = place;
        for (int p = (int)prompt.size() / 6 - 1; p >= 0; p--) at = prompt[6 * p + at - 1] - '0';
        end += " abcde"[at];
    }
    return answer == end;
}
bool parity_solves(const std::string &prompt, const std::string &answer) {
    return answer == std::to_string(std::count(prompt.begin(), prompt.end(), '1') % 2);
}

// All five within the next five.
const std::string arrangement = "(?=.{0,4}a)(?=.{0,4}b)(?=.{0,4}c)(?=.{0,4}d)(?=.{0,4}e)[a-e]{5}";

struct Again {
    const char *task;
    bool (*solves)(const std::string &prompt, const std::string &answer);
    std::string (*reasoning)(int level), (*answer)(int level);          // regular expressions
    double right, formed, language;                      // shares of mixed traces, at the usual level
};
#define PATTERN(text) [](int n) -> std::string { return (void)n, text; }
// Where the shares come from: countdown's right ones, all questions and orders gone through, 0.312 without
// slips; chain's 0.98^3; of add's authors 0.2 + 0.4 * 0.55^3 + 0.4 * 0.775^4, and errors that cancel.
const std::vector<Again> again = {
    {"countdown", countdown_solves, PATTERN("\\((?:" + times("[-+][0-9][0-9]", n - 1) + "[x!])+\\)"),
     PATTERN(times("[-+]", n - 1)), 0.309, 0.8 * 0.7, 1},
    {"chain", chain_solves, PATTERN(times("[0-9]{3};", n)), PATTERN("[0-9]{3}"), 0.941, 1, 1},
    {"add", add_solves, PATTERN(times("[0-9]\\+[0-9]=[0-9]{2},", n)), PATTERN(times("[0-9]", n + 1)), 0.411,
     1, 1},
    {"words", words_solves, PATTERN(times("(?:add|fed|big|put|out|pow)[0-9](?:all|now)[0-9]\\.", n)),
     PATTERN("[0-9]"), 1, 1, 0.65},
    {"permute", permute_solves, PATTERN(times(arrangement + ";", n)), PATTERN(arrangement), 0.5 + 0.5 / 120,
     0.5, 1},
    {"parity", parity_solves, PATTERN("[01]{1," + cat(n) + "}"), PATTERN("[01]"), 0.9 / 2 + 0.1, 0.1, 1}};
#undef PATTERN
const Again &again_of(const Task &task) {
    for (const Again &a : again)
        if (std::string(a.task) == task.name) return a;
    FAIL("task ", task.name, " has no second solver here");
    return again[0];
}
bool all_steps_right(const Graded &g) {
    return std::all_of(g.steps.begin(), g.steps.end(), [](const auto &step) { return step.right; });
}
Question nth(const Task &task, long i, int level = 0) { return question_of(task, seeded(1), i, level); }
}  // namespace

// ------------------------------------------------------------------------------------------------- questions
TEST_CASE("tasks: a question is a pure function of seed, index and level") {
    for (const Task *task : tasks())
        for (int level : {task->lowest, task->usual, task->highest}) {
            INFO(task->name, " ", level);
            std::vector<std::string> forward, held_out;
            for (long i = 0; i < 50; i++) {
                forward.push_back(nth(*task, i, level).prompt);
                held_out.push_back(held_out_question(*task, i, level).prompt);
                CHECK(nth(*task, i, level).level == level);
            }
            int same = 0;
            for (long i = 49; i >= 0; i--) {
                CHECK(nth(*task, i, level).prompt == forward[i]);
                CHECK(held_out_question(*task, i, level).prompt == held_out[i]);
                same += question_of(*task, seeded(2), i, level).prompt == forward[i];
            }
            CHECK(same < 10);
            CHECK(std::set<std::string>(forward.begin(), forward.end()).size() > 30);
        }
    for (const Task *task : tasks()) {
        CHECK(nth(*task, 3).prompt == nth(*task, 3, task->usual).prompt);
        for (int none : {-1, task->lowest - 1, task->highest + 1})
            if (none != 0)
                CHECK(error_of([&] { nth(*task, 0, none); }) == cat(task->name, ": level ", none,
                                                                    " is not between ", task->lowest, " and ",
                                                                    task->highest));
    }
}

// So few coincide that a run does not learn its prompts by heart, and its held-out ones are not all the same.
TEST_CASE("tasks: there are thousands of prompts, and none of the held-out ones is trained on") {
    for (const Task *task : tasks()) {
        INFO(task->name);
        std::set<std::string> trained, held_out;
        for (long i = 0; i < 4000; i++) trained.insert(nth(*task, i).prompt);
        for (long i = 0; i < 500; i++) held_out.insert(held_out_question(*task, i).prompt);
        CHECK(trained.size() > 2000);
        CHECK(held_out.size() > 250);
        for (const std::string &prompt : trained) CHECK(!is_held_out(prompt));
        for (const std::string &prompt : held_out) CHECK(is_held_out(prompt));
    }
}

TEST_CASE("tasks: as a corpus, prompts are on their side of the split and only traces are learned") {
    for (const Task *task : tasks())
        for (const char *gold : {"0", "1"}) {
            const auto game = load_game(cat(task->name, ":gold=", gold));
            const Tokenizer t = game->tokenizer();
            int documents = 0, right = 0;
            for (long i = 0; i < 40; i++)
                for (const bool training : {true, false}) {
                    const Sample s = training ? game->sample(seeded(1), i, 256) : game->held_out(i, 256);
                    std::vector<int> starts = {0};
                    starts.insert(starts.end(), s.starts.begin(), s.starts.end());
                    for (size_t d = 0; d + 1 < starts.size(); d++) {
                        std::string prompt, trace;
                        for (int k = starts[d]; k + 1 < starts[d + 1]; k++)
                            (s.weight[k] != 0 ? trace : prompt) += t.decode({s.ids[k]});
                        INFO(task->name, ": ", prompt, " ", trace);
                        CHECK(std::vector<int>{s.ids[starts[d + 1] - 1]} == t.eos);
                        CHECK(s.weight[starts[d + 1] - 1] == 1);
                        CHECK(is_held_out(prompt) == !training);
                        right += task->grade({.prompt = prompt, .level = task->usual}, trace).right;
                        documents++;
                    }
                }
            CHECK(documents > 80);
            CHECK((right == documents) == (*gold == '1' || std::string(task->name) == "words"));
        }
}

// ---------------------------------------------------------------------------------------------------- traces
TEST_CASE(
    "tasks: prompts and traces are of the alphabet, gold traces right, formed, and right in all steps") {
    for (const Task *task : tasks()) {
        const Again &a = again_of(*task);
        const std::string alphabet = task->alphabet;
        CHECK(std::set<char>(alphabet.begin(), alphabet.end()).size() == alphabet.size());
        for (int level = task->lowest; level <= task->highest; level++)
            for (long i = 0; i < 100; i++) {
                Random r = {seeded(i)};
                const Question q = nth(*task, i, level);
                const std::string gold = task->trace(r, q, true), mixed = task->trace(r, q, false);
                const Graded g = task->grade(q, gold);
                INFO(q.prompt, gold, "  ", mixed);
                CHECK((q.prompt + gold + mixed).find_first_not_of(alphabet) == std::string::npos);
                CHECK(g.right);
                CHECK(a.solves(q.prompt, g.answer));
                CHECK(gold.ends_with("#" + g.answer));
                CHECK(g.formed);
                CHECK(g.language == 1);
                CHECK(!g.steps.empty());
                CHECK(all_steps_right(g));
                int end = gold[0] == '(';               // steps are equally long and end where reasoning does
                for (const Graded::Step &step : g.steps) {
                    CHECK(step.end - end == g.steps[0].end - (gold[0] == '('));
                    end = step.end;
                }
                CHECK(gold.find_first_of(")#") == (size_t)end);
            }
    }
}

// Five standard deviations of 2000 draws.
TEST_CASE("tasks: traces of mixed quality are as good as they should be") {
    const int n = 2000;
    const auto about = [&](double share, double expected) {
        const double bar = 5 * std::sqrt(expected * (1 - expected) / n);
        CHECK(share >= expected - bar);
        CHECK(share <= expected + bar);
    };
    for (const Task *task : tasks()) {
        double right = 0, formed = 0, language = 0;
        for (long i = 0; i < n; i++) {
            Random r = {seeded(i)};
            const Question q = nth(*task, i);
            const Graded g = task->grade(q, task->trace(r, q, false));
            right += g.right, formed += g.formed, language += g.language;
        }
        INFO(task->name, ": right ", right / n, ", formed ", formed / n, ", language ", language / n);
        about(right / n, again_of(*task).right);
        about(formed / n, again_of(*task).formed);
        about(language / n, again_of(*task).language);
    }
}

// ---------------------------------------------------------------------------------------------------- grades
namespace {
struct Case {
    const char *output;
    bool right, formed;
    const char *answer, *steps;                          // + right, - wrong
    double language = 1;
};
struct ByHand {
    const char *task;
    Question question;
    std::vector<Case> cases;
};
constexpr bool yes = true, no = false;
const std::vector<ByHand> by_hand = {
    {"countdown",
     {.prompt = "743210|", .level = 4},
     {{"(+11-08+10!)#+-+", yes, yes, "+-+", "+"},
      {"(+11-08-06x+11-08+10!)#+-+", yes, yes, "+-+", "++"},
      {"(+00+00+00!)#+-+", yes, yes, "+-+", "-"},
      {"(+11-08+10x)#+-+", yes, yes, "+-+", "-"},                          // a hit called a miss
      {"(+11-08+10!)#+++", no, yes, "+++", "+"},
      {"()#+-+", yes, no, "+-+", ""},
      {"(#+-+", yes, no, "+-+", ""},
      {"#+-+", yes, no, "+-+", ""},
      {"+11-08+10!#+-+", yes, no, "+-+", "+"},
      {"(+11-08+10!#+-+", yes, no, "+-+", "+"},
      {"((+11-08+10!))#+-+", yes, no, "+-+", "-"},
      {"(+11-08+10!))#+-+", yes, no, "+-+", "+-"},
      {"(+11-08+1 !)#+-+", yes, no, "+-+", "-"},
      {"743210|#+-+", yes, no, "+-+", "-"},
      {"(+11-08+10!)#+-+#+-+", no, no, "", "+"},
      {"(+11-08+10!)#+-++", no, no, "", "+"},
      {"(+11-08+10!)#+-+ ", no, no, "", "+"},
      {"(+11-08+10!)#+-", no, no, "", "+"},
      {"(+11-08+10!)#", no, no, "", "+"},
      {"(+11-08+10!)+-+", no, no, "", "+-"},
      {"", no, no, "", ""}}},
    {"chain",
     {.prompt = "315+74*30-18=", .level = 3},  // 513, 560, 680, 599
     {{"065;086;995;#995", yes, yes, "995", "+++"},
      {"065;096;906;#906", no, yes, "906", "+-+"},                           // 690 - 81 = 609
      {"065;096;995;#995", yes, yes, "995", "+--"},
      {"000;000;919;#919", no, yes, "919", "-++"},                           // 0 - 81
      {"065;086;995;#599", no, yes, "599", "+++"},
      {"#995", yes, no, "995", ""},
      {"065;086;#995", yes, no, "995", "++"},
      {"065;086;995;995;#995", yes, no, "995", "+++-"},
      {"065;086;995#995", yes, no, "995", "++-"},
      {"65;086;995;#995", yes, no, "995", "-"},
      {"315+74*30-18=#995", yes, no, "995", "-"},
      {";;;#995", yes, no, "995", "-"},
      {"065;086;995;#995#995", no, no, "", "+++"},
      {"065;086;995;#995;", no, no, "", "+++"},
      {"065;086;995;#-995", no, no, "", "+++"},
      {"065;086;995;# 995", no, no, "", "+++"},
      {"065;086;995;#9950", no, no, "", "+++"},
      {"065;086;995;#99", no, no, "", "+++"},
      {"065;086;995;##995", no, no, "", "+++"},
      {"065;086;995;", no, no, "", "+++"},
      {"99999999999999999999#99999999999999999999", no, no, "", "-"}}},
    {"add",
     {.prompt = "7351+6420=", .level = 4},  // 1537 + 246 = 1783
     {{"7+6=31,3+4=80,5+2=70,1+0=10,#38710", yes, yes, "38710", "++++"},
      {"7+6=31,3+4=70,5+2=70,1+0=10,#37710", no, yes, "37710", "+-++"},
      {"7+6=30,3+4=70,5+2=70,1+0=10,#37710", no, yes, "37710", "-+++"},
      {"7+6=41,3+4=80,5+2=70,1+0=10,#38710", yes, yes, "38710", "-+++"},
      {"6+7=31,3+4=80,5+2=70,1+0=10,#38710", yes, yes, "38710", "-+++"},
      {"7+6=39,3+4=61,5+2=80,1+0=10,#38710", yes, yes, "38710", "-+++"},                 // carries of 9 and 1
      {"7+6=31,3+4=80,5+2=70,1+0=10,#01783", no, yes, "01783", "++++"},
      {"#38710", yes, no, "38710", ""},
      {"7+6=31,3+4=80,5+2=70,#38710", yes, no, "38710", "+++"},
      {"7+6=31,3+4=80,5+2=70,1+0=10,1+0=10,#38710", yes, no, "38710", "++++-"},
      {"7+6=31,3+4=80,5+2=70,1+0=10#38710", yes, no, "38710", "+++-"},
      {"7351+6420=#38710", yes, no, "38710", "-"},
      {"7+6=31,3+4=80,5+2=70,1+0=10,#3871", no, no, "", "++++"},
      {"7+6=31,3+4=80,5+2=70,1+0=10,#387100", no, no, "", "++++"},
      {"7+6=31,3+4=80,5+2=70,1+0=10,#38710#38710", no, no, "", "++++"},
      {"7+6=31,3+4=80,5+2=70,1+0=10,#38710,", no, no, "", "++++"},
      {"7+6=31,3+4=80,5+2=70,1+0=10,#+38710", no, no, "", "++++"},
      {"7+6=31,3+4=80,5+2=70,1+0=10,# 38710", no, no, "", "++++"},
      {"38710", no, no, "", "-"}}},
    {"words",
     {.prompt = "had5add3fed2big4?", .level = 3},  // 8, 6, 24
     {{"add3all8.fed2all6.big4all4.#4", yes, yes, "4", "+++", 1},
      {"put3now8.out2now6.pow4now4.#4", yes, yes, "4", "+++", 0},
      {"put3all8.fed2all6.big4all4.#4", yes, yes, "4", "+++", 5 / 6.},
      {"add3all9.out2now7.big4all8.#8", no, yes, "8", "-++", 4 / 6.},
      {"fed3all8.fed2all6.big4all4.#4", yes, yes, "4", "-++", 1},
      {"add3all8.fed3all6.big4all4.#4", yes, yes, "4", "+-+", 1},
      {"#4", yes, no, "4", "", 0},
      {"add3all8.#4", yes, no, "4", "+", 1},
      {"all3add8.fed2all6.big4all4.#4", yes, no, "4", "-", 1},
      {"had3all8.fed2all6.big4all4.#4", yes, no, "4", "-", 1},
      {"addaddadd#4", yes, no, "4", "-", 0},                                 // no word at all
      {"add.put.add.#4", yes, no, "4", "-", 2 / 3.},
      {"3.8.2.6.4.4.#4", yes, no, "4", "-", 0},
      {"had5add3fed2big4?#4", yes, no, "4", "-", 1},
      {"add3all8.fed2all6.big4all4.#4now", no, no, "", "+++", 1},
      {"put3now8.out2now6.pow4now4.#all", no, no, "", "+++", 0},
      {"#4add", no, no, "", "", 0},
      {"add3all8.fed2all6.big4all4.#04", no, no, "", "+++", 1},
      {"add3all8.fed2all6.big4all4.#4#4", no, no, "", "+++", 1},
      {"add3all8.fed2all6.big4all4.#24", no, no, "", "+++", 1},
      {"add3all8.fed2all6.big4all4.", no, no, "", "+++", 1},
      {"", no, no, "", "", 0}}},
    {"words",
     {.prompt = "own5put9?", .level = 1},
     {{"put9now4.#4", yes, yes, "4", "+", 1},
      {"add9all4.#4", yes, yes, "4", "+", 0},
      {"add9now4.#4", yes, yes, "4", "+", 0.5},
      {"put9now5.#5", no, yes, "5", "-", 1},
      {"put9now4#4", yes, no, "4", "-", 1},
      {"put9now4.put9now3.#4", yes, no, "4", "+-", 1},
      {" put9now4.#4", yes, no, "4", "-", 1},
      {"PUT9NOW4.#4", yes, no, "4", "-", 0},
      {"put9now4.#14", no, no, "", "+", 1},
      {"put9now4.#four", no, no, "", "+", 1}}},
    {"permute",
     {.prompt = "23451*21345*54321=", .level = 3},
     {{"bcdea;cbdea;aedbc;#aedbc", yes, yes, "aedbc", "+++"},
      {"bcdea;bcdea;aedcb;#aedcb", no, yes, "aedcb", "+-+"},
      {"bcdea;bcdea;aedbc;#aedbc", yes, yes, "aedbc", "+--"},
      {"eabcd;aebcd;dcbea;#dcbea", no, yes, "dcbea", "-++"},                 // the first one inverted
      {"#aedbc", yes, no, "aedbc", ""},
      {"bcdea;cbdea;#aedbc", yes, no, "aedbc", "++"},
      {"bcdea;cbdea;aedbc;aedbc;#aedbc", yes, no, "aedbc", "+++-"},
      {"bcdea;cbdea;aedbb;#aedbc", yes, no, "aedbc", "++-"},                 // no arrangement
      {"23451;cbdea;aedbc;#aedbc", yes, no, "aedbc", "-"},
      {"23451*21345*54321=#aedbc", yes, no, "aedbc", "-"},
      {"bcdea;cbdea;aedbc;#aedbb", no, no, "", "+++"},
      {"bcdea;cbdea;aedbc;#aedb", no, no, "", "+++"},
      {"bcdea;cbdea;aedbc;#aedbca", no, no, "", "+++"},
      {"bcdea;cbdea;aedbc;#aedbc;", no, no, "", "+++"},
      {"bcdea;cbdea;aedbc;# aedbc", no, no, "", "+++"},
      {"bcdea;cbdea;aedbc;#15423", no, no, "", "+++"},
      {"bcdea;cbdea;aedbc;#aedbc#aedbc", no, no, "", "+++"},
      {"bcdea;cbdea;aedbc;", no, no, "", "+++"}}},
    {"parity",
     {.prompt = "0110100100=", .level = 10},
     {{"0100111000#0", yes, yes, "0", "++++++++++"},
      {"0101000111#1", no, yes, "1", "+++-++++++"},
      {"0101000111#0", yes, yes, "0", "+++-++++++"},
      {"0#0", yes, yes, "0", "+"},
      {"1#0", yes, yes, "0", "-"},
      {"#0", yes, no, "0", ""},
      {"#1", no, no, "1", ""},
      {"01001110000#0", yes, no, "0", "++++++++++-"},
      {"0110100100=#0", yes, no, "0", "++--+-++-+-"},                       // a copy of the prompt
      {"=#0", yes, no, "0", "-"},
      {"01 0#0", yes, no, "0", "++-"},
      {"0100111000#00", no, no, "", "++++++++++"},
      {"0100111000#0#0", no, no, "", "++++++++++"},
      {"0100111000#0 ", no, no, "", "++++++++++"},
      {"0100111000#+0", no, no, "", "++++++++++"},
      {"0100111000#0=", no, no, "", "++++++++++"},
      {"0100111000#", no, no, "", "++++++++++"},
      {"0100111000", no, no, "", "++++++++++"}}}};
}  // namespace

TEST_CASE("tasks: grades of what might fool a grader are those worked out by hand") {
    for (const Task *task : tasks()) {
        size_t n = 0;
        for (const ByHand &by : by_hand)
            for (const Case &c : by.cases) {
                if (std::string(by.task) != task->name) continue;
                const Graded g = task->grade(by.question, c.output);
                std::string steps;
                for (const Graded::Step &step : g.steps) steps += step.right ? '+' : '-';
                INFO(by.question.prompt, c.output);
                CHECK(g.right == c.right);
                CHECK(g.formed == c.formed);
                CHECK(g.answer == c.answer);
                CHECK(steps == c.steps);
                CHECK(g.language == doctest::Approx(c.language));
                n++;
            }
        INFO(task->name, " has too few cases here");
        CHECK(n >= 10);
    }
}

// ---------------------------------------------------------------------------------------- grades of anything
namespace {
std::string random_text(Random &r, const std::string &alphabet, int n) {
    std::string text;
    while (n-- > 0) text += alphabet[r.below((int)alphabet.size())];
    return text;
}
// A trace in which up to three places were changed.
std::string spoiled(Random &r, const Task &task, const Question &q) {
    std::string text = task.trace(r, q, r.chance(50));
    for (int edits = r.below(4); edits > 0 && !text.empty(); edits--) {
        const size_t at = r.below((int)text.size()), n = r.below(12);
        const std::string one = random_text(r, task.alphabet, 1);
        const int kind = r.below(4);
        if (kind == 0) text.replace(at, 1, one);
        if (kind == 1) text.insert(at, one);
        if (kind == 2) text.erase(at, n);
        if (kind == 3) text.insert(at, text.substr(at, n));
    }
    return text;
}
void check_steps(const Graded &g, const std::string &output) {
    int end = 0;
    for (const Graded::Step &step : g.steps) {
        CHECK(step.end > end);
        end = step.end;
    }
    CHECK(end <= (int)std::min(output.size(), output.find('#')));
}
}  // namespace

TEST_CASE("tasks: of 10,000 strings, what is right or formed is what a second solver and an expression say") {
    for (const Task *task : tasks()) {
        const Again &a = again_of(*task);
        Random r = {seeded(7)};
        std::map<std::string, int> seen;
        for (long i = 0; i < 200; i++) {
            const Question q = nth(*task, i, task->lowest + r.below(task->usual - task->lowest + 1));
            const std::string answer_form = a.answer(q.level);
            const std::regex form(a.reasoning(q.level) + "#" + answer_form), answer("[^#]*#" + answer_form);
            for (int k = 0; k < 50; k++) {
                const bool random = r.chance(40);
                const std::string output =
                    random ? random_text(r, task->alphabet, r.below(50)) : spoiled(r, *task, q);
                const Graded g = task->grade(q, output);
                const bool readable = std::regex_match(output, answer);
                const std::string said = readable ? output.substr(output.find('#') + 1) : "";
                INFO(task->name, ": ", q.prompt, output);
                CHECK(g.answer == said);
                CHECK(g.right == (readable && a.solves(q.prompt, said)));
                CHECK(g.formed == std::regex_match(output, form));
                check_steps(g, output);
                seen[g.right ? "right" : "wrong"]++;
                seen[g.formed ? "formed" : "not formed"]++;
                seen[g.right && !g.formed ? "right, not formed" : "other"]++;
            }
        }
        for (const char *kind : {"right", "wrong", "formed", "not formed", "right, not formed"}) {
            INFO(task->name, ": ", kind);
            CHECK(seen[kind] > 200);
        }
    }
}

TEST_CASE("tasks: any bytes of any length can be graded") {
    std::string bytes;
    for (int c = 0; c < 256; c++) bytes += (char)c;
    for (const Task *task : tasks()) {
        Random r = {seeded(8)};
        for (long i = 0; i < 1000; i++) {
            const Question q = nth(*task, i);
            const std::string gold = task->trace(r, q, true);
            const std::string text = random_text(r, i % 2 ? bytes : task->alphabet, r.below(400));
            const char any = bytes[r.below(256)];
            INFO(task->name, ": ", q.prompt, text);
            for (const std::string &output : {text, gold + text, text + gold, gold + any, gold + '\0'}) {
                const Graded g = task->grade(q, output);
                check_steps(g, output);
                CHECK((g.language >= 0 && g.language <= 1));
                CHECK((!g.formed || !g.answer.empty()));
                CHECK(g.answer.find('\0') == std::string::npos);
            }
            CHECK(!task->grade(q, gold + any).right);
            CHECK(!task->grade(q, gold + '\0').formed);
        }
    }
}

// Ten times the length takes ten times as long, and a hundred times if it is quadratic.
TEST_CASE("tasks: the time that a grade takes grows no faster than the output") {
    const auto seconds = [](const Task &task, const Question &q, const std::vector<std::string> &outputs) {
        double least = INFINITY;
        for (int turn = 0; turn < 20; turn++) {
            const auto start = std::chrono::steady_clock::now();
            for (const std::string &output : outputs) CHECK(!task.grade(q, output).right);
            least = std::min(least,
                             std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
        }
        return least;
    };
    for (const Task *task : tasks()) {
        const Question q = nth(*task, 0);
        Random r = {seeded(9)};
        const std::string gold = task->trace(r, q, true), reasoning = gold.substr(0, gold.find('#'));
        std::string steps = reasoning;                   // countdown's can be read on and on without these
        std::erase_if(steps, [](char c) { return c == '(' || c == ')'; });
        const auto outputs = [&](size_t n) {
            std::vector<std::string> all;
            for (const std::string &part :
                 {gold, reasoning, steps, std::string("#"), std::string(1, task->alphabet[0])}) {
                std::string text;
                while (text.size() < n) text += part;
                all.push_back(text);
            }
            return all;
        };
        const double short_ones = seconds(*task, q, outputs(3000)),
                     long_ones = seconds(*task, q, outputs(30000));
        INFO(task->name, ": ", short_ones, " s, ", long_ones, " s");
        CHECK(long_ones < 40 * short_ones);
    }
}

TEST_CASE("tasks: the two languages of words share no letter, and both are asked in") {
    std::map<std::string, std::set<char>> letters;       // by how prompts begin
    Random r = {seeded(10)};
    for (long i = 0; i < 200; i++) {
        const Question q = nth(task_words, i);
        for (char c : q.prompt + task_words.trace(r, q, true))
            if (c >= 'a' && c <= 'z') letters[q.prompt.substr(0, 3)].insert(c);
    }
    CHECK(letters.size() == 2);
    for (char c : letters["had"]) CHECK(!letters["own"].count(c));
}

TEST_CASE("tasks: an unknown one is refused with the nearest") {
    try {
        task_named("countdwon");
        FAIL("no refusal");
    } catch (const Error &error) {
        CHECK(std::string(error.what()) == "no task 'countdwon'");
        CHECK(error.hint.starts_with("did you mean countdown?"));
    }
    for (const Task *task : tasks()) CHECK(&task_named(task->name) == task);
}

// task.h: questions whose answers a rule can check.
//
// A task is a file in src/rl/tasks/ and a name in TASKS below: it makes questions, it grades outputs, and it
// writes traces, outputs as a base model may have seen them. Its texts are single characters of printable
// ASCII; an output ends with the model's end-of-document token, which is not part of the text.
//
// A grader reads what a policy wrote, so it must hold against anything: it is strict, a pure function of
// question and output, and what it cannot read is wrong. An output that was cut off never reaches it.
//
// What it is not: it knows no model and no reward. Weights of what is graded are the run's business.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "src/base/random.h"
#include "src/text/games.h"

struct Question {
    std::string prompt;                                  // all that a policy sees
    std::string secret = {};                             // what the grader needs besides
    int level = 0;
};
struct Graded {
    bool right = false;                                  // the answer alone, however it was found
    bool formed = false;                                 // the whole output has the form that is asked for
    std::string answer = {};                             // in one form, for votes; empty: none can be read
    double language = 1;                                 // share of the reasoning in the prompt's language
    struct Step {
        int end;                                         // characters of the output up to its end
        bool right;                                      // given what stands before it
    };
    std::vector<Step> steps = {};                        // of the reasoning
};
struct Task {
    const char *name, *sentence, *levels;                // levels: what they are
    int lowest, usual, highest;                          // levels
    const char *alphabet;                                // all characters of prompts and traces
    Question (*question)(Random &, int level);
    Graded (*grade)(const Question &, const std::string &output);
    // An output with its reasoning. gold: as one should; else as people do, of mixed quality.
    std::string (*trace)(Random &, const Question &, bool gold);
};

#define TASKS(X) X(countdown) X(chain) X(add) X(words) X(permute) X(parity)
#define X(name) extern const Task task_##name;
TASKS(X)
#undef X
const std::vector<const Task *> &tasks();
const Task &task_named(const std::string &name);         // refuses an unknown one with the nearest

// Question number `index`: of training by this seed, or held out (one of 16, by the hash of its prompt).
// Level 0: the usual one.
Question question_of(const Task &, uint64_t seed, long index, int level = 0);
Question held_out_question(const Task &, long index, int level = 0);
bool is_held_out(const std::string &prompt);

Tokenizer tokenizer_of(const Task &);                    // a token a character, and one that ends a text
// Each task is also a corpus, --data NAME:level=..,gold=..: questions with traces, packed, none of which sees
// another; only traces are learned. To be called once, before names of corpora are looked up.
void tasks_become_games();

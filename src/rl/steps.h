// steps.h: what tasks share whose outputs are steps of one width, then # and the answer.
//
// A task says how a step is read and which one comes next; gold reasoning, right answer and grades follow. A
// step is right if it follows from the one written before it, be that wrong. What cannot be read as steps is
// one wrong step: nonsense is no way around a verdict on steps.
#pragma once
#include "src/rl/task.h"

struct Steps {
    size_t width;
    bool all;                                           // the form asks for all of them; else for one or more
    // A step as it is compared; empty: the text is none.
    std::string (*read)(const Question &, const std::string &text);
    // Step i, given the one before; empty: there is none.
    std::string (*next)(const Question &, int i, const std::string &before);
    std::string (*answer)(const std::string &reasoning);  // that these steps lead to
    bool (*is_answer)(const Question &, const std::string &text);
};
std::string gold_steps(const Steps &, const Question &);
Graded grade_steps(const Steps &, const Question &, const std::string &output);

// Does a text look like this? 0 stands for a digit, ? for anything, all else for itself.
bool fits(const std::string &text, const std::string &pattern);
// Numbers begin with their last digit, so that carries flow as one writes.
int number(const std::string &text, size_t at, int digits);
std::string written(int x, int digits);

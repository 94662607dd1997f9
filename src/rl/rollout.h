// rollout.h: questions are answered by a policy, and what it wrote is graded and rewarded.
#pragma once
#include "src/infer/decoder.h"
#include "src/rl/task.h"
#include "src/text/tokenizer.h"

// What a task's grades are worth: weights of a sum. R1 adds accuracy and format with equal weights, and to
// them the share of the reasoning that is in the prompt's language.                     R1 (N 4), (N 7)
struct Reward {
    double accuracy = 1, format = 0, language = 0;
    double length = 0;                                   // what an output that fills max_tokens loses
    double of(const Graded &, double share_of_length) const;
};
Reward parse_reward(const std::string &text);            // accuracy=1,format=1; what is not named is 0

struct Rollout {
    Question question;
    int group = 0;                                       // outputs of a question have the same
    std::vector<int> prompt;
    Answer answer;                                       // its ids, with what the sampler knows of them
    std::string text;
    Graded graded;                                       // of an output that was cut off: nothing is right
    double reward = 0;
    bool ended() const { return answer.end == End::stop; }
};

struct Sampler {                                         // how a policy answers
    const Tokenizer &tokenizer;
    const Task &task;
    Reward reward = {};
    int max_tokens = 0;                                  // of an output; 0: what the context has room for
    DecodeOptions decode = {};
};
// Does the model know the task's characters, and an end? Has it room? Else an Error says what is missing.
void expect_fits(const Task &, const Tokenizer &, const Config &);

// `samples` outputs of each question. The random numbers of output j to question i are those of number
// first + i, whatever else is asked: so is its text.
std::vector<Rollout> roll_out(const Model &, const Sampler &, const std::vector<Question> &, int samples,
                              long first, const std::function<void(long done)> &progress = {});

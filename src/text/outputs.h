// outputs.h: a .jsonl of prompts and of what a policy, a teacher or a person wrote to them. SFT, RFT and DPO
// learn from it; `deepseek rollout` writes one.
//
//   {"prompt": ..., "output": ...}     and, for RFT, "right": true or false, or "reward": a number
//   {"prompt": ..., "chosen": ..., "rejected": ...}
//
// Other keys are not read. A line that cannot be learned from as it stands is an Error that names it.
#pragma once
#include "src/text/corpus.h"
#include "src/text/games.h"

enum class Lines { all, rewarded, pairs };               // rewarded: of each output that was right, one

struct Prompted {                                        // a line, as tokens
    std::vector<int> prompt;
    Sequences outputs;                                   // one, or chosen and rejected; each with its end
};
struct OutputFile {
    std::vector<Prompted> train, held_out;               // the last twentieth, no prompt of which is in train
    long lines = 0, wrong = 0, twice = 0;                // that were read; that were left out of them
};
// T: tokens that a model reads at once.
OutputFile read_outputs(const std::string &file, const Tokenizer &, int T, Lines);
// Whole documents, as many as find room behind each other in T+1 tokens, then the next sequence.
std::vector<Sample> packed(const std::vector<Prompted> &, int T);

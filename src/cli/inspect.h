// inspect.h: verbs that open the program up for comparison with others.
#pragma once
#include <string>
#include <vector>

void list_ops(bool json);                                // deepseek op --list
// deepseek op NAME: tensors by the op's names from a safetensors file, outputs and
// (grads) input gradients to another
void run_op(const std::string &name, const std::string &in, const std::string &out,
            const std::vector<std::string> &set, bool grads);
// deepseek dump: logits (B,T,V), loss (mean next-token cross-entropy), and grad.<name> of every weight
void dump(const std::string &model, const std::string &tokens, const std::string &out, bool grads);

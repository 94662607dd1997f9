// op_engine.h: every op, called by its name.
#pragma once
#include <iosfwd>
#include <string>
#include <vector>

#include "src/base/safetensors.h"
#include "src/tensor/gradient_check.h"

void list_ops(std::ostream &, bool json);                // deepseek op --list
// Tensors by the op's names from a safetensors file, outputs and (grads) input gradients to another.
void run_op(const std::string &name, const std::string &in, const std::string &out,
            const std::vector<std::string> &set, bool grads);

struct RandomCall {                                      // an op with random inputs
    std::string name;
    std::vector<std::string> shapes, set;          // x=2,3 and attribute=value, where the usual is not wanted
    int seed = 1;
};
void run_random_op(std::ostream &, const RandomCall &);  // prints inputs, outputs, gradients
GradientError check_op(const RandomCall &);              // its backward against differences of its forward
std::vector<std::string> ops_with_gradient();
Tensor tensor_of(const TensorEntry &,
                 const char *name);                    // reals or integers of 1 to 4 axes, none of them empty
std::vector<std::string> ops_without_wrapper();         // that cannot be called by name: there should be none

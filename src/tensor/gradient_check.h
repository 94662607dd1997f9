// gradient_check.h: a backward against differences of its forward.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "src/tensor/tape.h"

struct GradientError {
    double worst = 0;                // of |backward - differences| over the largest of the leaf
    std::string where;               // "W (4,3) at [5]: backward 0.25, differences 0.251"
    long compared = 0;               // numbers
};
// The leaves' gradients as they stand, against f' = (8 (f(x+h) - f(x-h)) - (f(x+2h) - f(x-2h))) / 12h of
// value(), at `most` numbers of each leaf. What ops choose on the way must be
// kept: see Choices.
GradientError against_differences(const std::function<double()> &value, const std::vector<Tensor> &leaves,
                                  long most = 1 << 20);

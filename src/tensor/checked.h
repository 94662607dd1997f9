// checked.h: what the device `checked` knows, for tests and for whoever wants the table of worst errors.
#pragma once
#include "src/tensor/ops.h"

// Of max|a - b| over the largest finite |a|: how much, and at which element. NaN equals NaN; NaN or infinity
// against anything else is an infinite error. Integers are equal or infinitely wrong.
struct Difference {
    double error = 0;
    long at = 0;
};
Difference worst_difference(const View &a, const View &b);               // two tensors on the host
inline double relative_error(const View &a, const View &b) { return worst_difference(a, b).error; }

struct Parity {                                          // of one op, since the program began
    double forward = 0, backward = 0;                    // worst relative errors
    long seen_forward = 0, seen_backward = 0;            // how often it was compared
};
const Parity &parity_of(int op);

double parity_tolerance(bool backward);                  // what `checked` lets pass

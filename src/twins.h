// twins.h: the forward and backward of every op, declared once for each device from the list of ops.
#pragma once
#include "../deepseek.h"

#define FORWARD(name, ...) void name##_forward(const Call &);
#define BACKWARD(name, ...) void name##_backward(const Call &);
namespace cpu {                                          // src/ops.cpp and src/act.cpp
OPS(FORWARD)
OPS_WITH_GRADIENT(BACKWARD)
}
namespace gpu {                                          // deepseek.cu and src/act.cu
OPS(FORWARD)
OPS_WITH_GRADIENT(BACKWARD)
}
#undef FORWARD
#undef BACKWARD

// A device's table, in the order of the ops:  #define TWIN_NAMESPACE cpu,  then  Twin table[] = {ALL_TWINS};
#define TWINS_WITH(name, ...) {TWIN_NAMESPACE::name##_forward, TWIN_NAMESPACE::name##_backward},
#define TWINS_WITHOUT(name, ...) {TWIN_NAMESPACE::name##_forward, nullptr},
#define ALL_TWINS OPS_WITH_GRADIENT(TWINS_WITH) OPS_WITHOUT_GRADIENT(TWINS_WITHOUT)

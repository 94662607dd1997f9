// kernels.h: the forward and backward of every op, declared once for each device from the list of ops.
#pragma once
#include "src/tensor/ops.h"

#define FORWARD(name, ...) void name##_forward(const Call &);
#define BACKWARD(name, ...) void name##_backward(const Call &);
namespace cpu {                                          // src/cpu/ops.cpp and src/cpu/ops_no_grad.cpp
OPS(FORWARD)
OPS_WITH_GRADIENT(BACKWARD)
Rounded rounded(const Call &, bool dy = true);
}  // namespace cpu
namespace gpu {                                          // deepseek.cu and src/cuda/ops_no_grad.cu
OPS(FORWARD)
OPS_WITH_GRADIENT(BACKWARD)
Rounded rounded(const Call &, bool dy = true);
}  // namespace gpu
#undef FORWARD
#undef BACKWARD

// A device's table, in the order of the ops:  #define KERNELS_OF cpu,  then
// OpKernels table[] = {ALL_KERNELS};
#define KERNELS_GRAD(name, ...) {KERNELS_OF::name##_forward, KERNELS_OF::name##_backward},
#define KERNELS_NO_GRAD(name, ...) {KERNELS_OF::name##_forward, nullptr},
#define ALL_KERNELS OPS_WITH_GRADIENT(KERNELS_GRAD) OPS_WITHOUT_GRADIENT(KERNELS_NO_GRAD)

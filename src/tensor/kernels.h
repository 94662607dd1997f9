// kernels.h: the forward and backward of every op, declared once for each device from the list of ops.
#pragma once
#include "src/tensor/ops.h"

#define FORWARD(name, ...) void name##_forward(const Call &);
#define BACKWARD(name, ...) void name##_backward(const Call &);
namespace cpu {                                          // src/cpu/ops.cpp and src/cpu/ops_no_grad.cpp
OPS(FORWARD)
OPS_WITH_GRADIENT(BACKWARD)
Rounded rounded(const Call &, bool dy = true);
// A row of kl_vocab, from its logits; and its backward, which writes dz_q in the place of z_q.
void kl_row(const Call &, long n, const real *z_q, const real *z_p);
void kl_row_gradient(const Call &, long n, real *z_q, const real *z_p);
}  // namespace cpu
namespace gpu {                                          // deepseek.cu and src/cuda/ops_no_grad.cu
OPS(FORWARD)
OPS_WITH_GRADIENT(BACKWARD)
Rounded rounded(const Call &, bool dy = true);
}  // namespace gpu
#undef FORWARD
#undef BACKWARD

// The half of a kl_vocab that makes the student's logits, or the teacher's, as a call of logp.
inline Call student_of(const Call &c) {
    Call half = c;
    half.in[2] = c.in[4];
    half.in[3] = {};
    return half;
}
inline Call teacher_of(const Call &c) {
    Call half = student_of(c);
    half.in[0] = c.in[2];
    half.in[1] = c.in[3];
    half.a.precision = c.a.precision_U;
    return half;
}

// A device's table, in the order of the ops:  #define KERNELS_OF cpu,  then
// OpKernels table[] = {ALL_KERNELS};
#define KERNELS_GRAD(name, ...) {KERNELS_OF::name##_forward, KERNELS_OF::name##_backward},
#define KERNELS_NO_GRAD(name, ...) {KERNELS_OF::name##_forward, nullptr},
#define ALL_KERNELS OPS_WITH_GRADIENT(KERNELS_GRAD) OPS_WITHOUT_GRADIENT(KERNELS_NO_GRAD)

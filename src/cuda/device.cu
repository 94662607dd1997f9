// device.cu: the CUDA device: its table of ops, its memory, and the check that a
// call lies inside that memory.
//
// Blocks come from a pool of their own over device_alloc. One stream runs everything in order; therefore a
// block that is given back may be handed out again at once, although its last kernel has not run yet.
// `down` waits, and so does `up`, because the host's memory is pageable. Built without CUDA and without its
// emulation (NO_CUDA), the device exists and has no ops: device_named says so.
#include "src/tensor/pool.h"
#include "src/tensor/ops.h"

#ifdef NO_CUDA
Device cuda_device = {.name = "cuda", .memory_of = &cuda_device};
Pool *cuda_pool() { return nullptr; }
const char *cuda_missing() { return "this build has no CUDA"; }
#else

#include "src/cuda/cuda_on_cpu.h"
#include "src/tensor/kernels.h"

static Pool pool{[](size_t bytes) -> void * {
    void *p = device_alloc(bytes);
    if (!p)
        fail(cat("out of memory on the CUDA device: ", bytes >> 20, " MiB wanted"),
             "a smaller batch, context or model needs less");
    return p;
}};
Pool *cuda_pool() { return &pool; }
const char *cuda_missing() { return device_missing(); }

static void *take(size_t bytes) {
    void *p = pool.take(bytes);
    device_use(p, bytes);              // in the emulation, what lies beyond belongs to nobody
    return p;
}
static void give(void *p, size_t bytes) {
    device_use(p, 0);
    pool.give(p, bytes);
}

#define KERNELS_OF gpu
static const OpKernels kernels[n_ops] = {ALL_KERNELS};

Device cuda_device = {.name = "cuda",
                      .memory_of = &cuda_device,
                      .kernels = kernels,
                      .take = take,
                      .give = give,
                      .zero = device_zero,
                      .up = copy_up,
                      .down = copy_down,
                      .copy = copy_device,
                      .wait = device_synchronise,
                      .memory = device_memory};

#ifndef __CUDACC__
// launch shows this every argument that is a Call, before the kernel runs.
void check_argument(const Call &c) {
    const auto check = [](const View &v) {
        const size_t size = v.type == REALS ? sizeof(real) : sizeof(int);
        if (v && !device_owns(v.p, v.numel() * size))
            launch_error("a View of the Call is not the device's memory");
    };
    for (const View &v : c.in) check(v);
    for (const View &v : c.out) check(v);
    for (const View &v : c.din) check(v);
    for (const View &v : c.dout) check(v);
}
#endif
#endif

// checked.cpp: the device `checked`. Its tensors live on the CPU; every op runs on the CPU and on CUDA
// with the same inputs, forwards and backwards, and the first one that differs is an error that names
// op, tensor, shape and index:
//
//     checked: rope.backward din0 (2,6,1,4): CPU -0.00733121438, CUDA 0.00892419368 at [28];
//         relative error 1.08e+00                       (one line)
//
// What it is not: a comparison of two runs. After each op the CPU's result stands, so errors never
// accumulate, and whatever is reported happened in this op. Nothing is tested more: tests/tensor/parity.cpp.
//
//   [1] the difference of two tensors   [3] run on both and compare
//   [2] copies on the CUDA device       [4] the device
#include "src/tensor/checked.h"

#include <cstring>

#include "src/tensor/pool.h"

// ------------------------------------------------------------------------- [1] the difference of two tensors
Difference worst_difference(const View &a, const View &b) {
    assert(a.type == b.type && a.numel() == b.numel());
    Difference worst;
    const auto found = [&](double error, long at) {
        if (error > worst.error) worst = {error, at};
    };
    if (a.type == INTS) {
        for (long i = 0; i < a.numel(); i++)
            if (a.id(i) != b.id(i)) found(INFINITY, i);
        return worst;
    }
    double largest = 0;
    for (long i = 0; i < a.numel(); i++)
        if (std::isfinite(a[i])) largest = std::max(largest, fabs((double)a[i]));
    for (long i = 0; i < a.numel(); i++) {
        const double x = a[i], y = b[i];
        if (x == y || (std::isnan(x) && std::isnan(y))) continue;
        if (!std::isfinite(x) || !std::isfinite(y)) found(INFINITY, i);
        else found(fabs(x - y) / largest, i);            // largest is 0: infinite
    }
    return worst;
}

// Both devices add up the same numbers in different orders, and CUDA fuses multiplications with additions.
// Of n terms of both signs the sum is off by about sqrt(n) roundings of itself: 6e-8 each in float, so 5e-6
// for the 8192 rows of a large batch; a gradient chains two such sums. The worst that
// tests/tensor/parity.cpp measures with sums of up to 300 terms: float 2.8e-7 forwards and 6.0e-7 backwards,
// double 5.8e-13 (a weighted_sum that cancels).
double parity_tolerance(bool backward) {
    if (sizeof(real) == sizeof(double)) return 1e-11;
    return backward ? 5e-5 : 2e-5;
}

static Parity table[n_ops];
const Parity &parity_of(int op) { return table[op]; }

#ifdef NO_CUDA
static const OpKernels *checked_kernels = nullptr;
#else

// ----------------------------------------------------------------------------- [2] copies on the CUDA device
namespace {
size_t bytes_of(const View &v) { return v.numel() * (v.type == REALS ? sizeof(real) : sizeof(int)); }

// Outputs start as NaN on both sides (integers as something no op says), so that what is not written shows.
void fill_unwritten(const View &v) { memset(v.p, v.type == REALS ? 0xff : 0x55, bytes_of(v)); }

// A call whose views are copies on the CUDA device. The same tensor given twice
// (mul(x, x)) is one copy there too.
class Copies {
    struct Copy {
        void *host, *device;
        size_t bytes;
    };
    std::vector<Copy> copies;
    void *copy_of(const View &v) {
        for (const Copy &c : copies)
            if (c.host == v.p) return c.device;
        copies.push_back({v.p, cuda_device.take(bytes_of(v)), bytes_of(v)});
        cuda_device.up(copies.back().device, v.p, bytes_of(v));
        return copies.back().device;
    }

public:
    Call call;
    explicit Copies(const Call &c) : call(c) {
        for (View *views : {call.in, call.out, call.din, call.dout})
            for (int i = 0; i < (views == call.in || views == call.din ? c.n_in : c.n_out); i++)
                if (views[i]) views[i].p = copy_of(views[i]);
    }
    ~Copies() {
        for (const Copy &c : copies) cuda_device.give(c.device, c.bytes);
    }
    Copies(const Copies &) = delete;
};

// ------------------------------------------------------------------------------- [3] run on both and compare
std::string number(const View &v, long i) {
    char text[32];
    if (v.type == INTS) snprintf(text, sizeof text, "%d", v.id(i));
    else snprintf(text, sizeof text, "%.9g", (double)v[i]);
    return text;
}

// Compares one tensor of the CPU with CUDA's copy of it. `role` and i name it: din0
void compare(const Call &c, bool backward, const char *role, int i, const View &on_cpu, const View &on_cuda) {
    std::vector<std::byte> memory(bytes_of(on_cpu));
    cuda_device.down(memory.data(), on_cuda.p, memory.size());
    const View ours(memory.data(), on_cpu.shape, on_cpu.type);
    const Difference d = worst_difference(on_cpu, ours);
    double &worst = backward ? table[c.op].backward : table[c.op].forward;
    if (d.error > parity_tolerance(backward)) {
        char error[32];
        snprintf(error, sizeof error, "%.2e", d.error);
        fail(cat("checked: ", ops[c.op].name, backward ? ".backward " : ".forward ", role, i, " ",
                 on_cpu.shape, ": CPU ", number(on_cpu, d.at), ", CUDA ", number(ours, d.at), " at [", d.at,
                 "]; relative error ", error),
             "the CPU's version is in src/cpu/ops.cpp or src/cpu/ops_no_grad.cpp, CUDA's in deepseek.cu or "
             "src/cuda/ops_no_grad.cu");
    }
    worst = std::max(worst, d.error);
}

void forward(const Call &c) {
    for (int i = 0; i < c.n_out; i++) fill_unwritten(c.out[i]);
    const Copies cuda(c);
    cuda_device.kernels[c.op].forward(cuda.call);
    cpu_device.kernels[c.op].forward(c);
    for (int i = 0; i < c.n_out; i++) compare(c, false, "out", i, c.out[i], cuda.call.out[i]);
    for (int i = 0; i < c.n_in; i++)
        if (ops[c.op].inout >> i & 1 && c.in[i]) compare(c, false, "in", i, c.in[i], cuda.call.in[i]);
    table[c.op].seen_forward++;
}

void backward_of(const Call &c) {                        // gradients start from the CPU's, and are added to
    const Copies cuda(c);
    cuda_device.kernels[c.op].backward(cuda.call);
    cpu_device.kernels[c.op].backward(c);
    for (int i = 0; i < c.n_in; i++)
        if (c.din[i]) compare(c, true, "din", i, c.din[i], cuda.call.din[i]);
    table[c.op].seen_backward++;
}
}  // namespace

#define WITH(name, ...) {forward, backward_of},
#define WITHOUT(name, ...) {forward, nullptr},
static const OpKernels checked_kernels[n_ops] = {OPS_WITH_GRADIENT(WITH) OPS_WITHOUT_GRADIENT(WITHOUT)};
#undef WITH
#undef WITHOUT
#endif

// -------------------------------------------------------------------------------------------- [4] the device
// Its memory is the CPU's. Not cpu_device's pointers themselves: they may not be there
// yet when this is initialised.
static void host_zero(void *p, size_t bytes) {
    if (bytes) memset(p, 0, bytes);
}
static void host_copy(void *to, const void *from, size_t bytes) {
    if (bytes) memcpy(to, from, bytes);
}

Device checked_device = {.name = "checked",
                         .memory_of = &cpu_device,
                         .kernels = checked_kernels,
                         .take = [](size_t bytes) { return cpu_device.take(bytes); },
                         .give = [](void *p, size_t bytes) { cpu_device.give(p, bytes); },
                         .zero = host_zero,
                         .up = host_copy,
                         .down = host_copy,
                         .copy = host_copy,
                         .wait = [] {},
                         .memory = [] { return cpu_device.memory(); }};

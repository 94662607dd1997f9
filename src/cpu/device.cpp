// device.cpp: the CPU as a device: the pool its blocks come from, its table of kernels,
// and the list of all devices.
#include <cstring>
#include <unistd.h>

#include "src/tensor/kernels.h"
#include "src/tensor/pool.h"

void *Pool::take(size_t bytes) {
    const int bin = bin_of(bytes);
    held += (size_t)1 << bin;
    peak = std::max(peak, held);
    if (free_blocks[bin].empty()) {
        system_allocations++;
        return raw_allocate((size_t)1 << bin);
    }
    void *block = free_blocks[bin].back();
    free_blocks[bin].pop_back();
    return block;
}

void Pool::give(void *block, size_t bytes) {
    const int bin = bin_of(bytes);
    held -= (size_t)1 << bin;
    free_blocks[bin].push_back(block);
}

static void *host_allocate(size_t bytes) {
    void *p = std::aligned_alloc(64, bytes);
    if (!p)
        fail(cat("out of memory: ", bytes >> 20, " MiB wanted"),
             "a smaller batch, context or model needs less");
    return p;
}
static Pool &host_pool = *new Pool{host_allocate};       // outlives every static tensor

static void *host_take(size_t bytes) { return host_pool.take(bytes); }
static void host_give(void *p, size_t bytes) { host_pool.give(p, bytes); }
static void host_zero(void *p, size_t bytes) {
    if (bytes) memset(p, 0, bytes);
}
static size_t host_memory() { return (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGE_SIZE); }
static void host_copy(void *to, const void *from, size_t bytes) {
    if (bytes) memcpy(to, from, bytes);                  // an empty vector's data() is null
}

#define KERNELS_OF cpu
static const OpKernels plain_kernels[n_ops] = {ALL_KERNELS};
void install_fast(OpKernels *kernels);                // src/cpu/fast.cpp: the second rendition of the hot ops

static const OpKernels *fast_kernels() {
    static const std::vector<OpKernels> kernels = [] {
        std::vector<OpKernels> t(plain_kernels, plain_kernels + n_ops);
        install_fast(t.data());
        return t;
    }();
    return kernels.data();
}

Device cpu_device = {.name = "cpu",
                     .memory_of = &cpu_device,
                     .kernels = fast_kernels(),
                     .take = host_take,
                     .give = host_give,
                     .zero = host_zero,
                     .up = host_copy,
                     .down = host_copy,
                     .copy = host_copy,
                     .wait = [] {},
                     .memory = host_memory};
Device *device = &cpu_device;

void use_kernels(Kernels kernels) {
    cpu_device.kernels = kernels == Kernels::fast ? fast_kernels() : plain_kernels;
}

const char *cuda_missing();              // src/cuda/device.cu: why its kernels cannot run; null: they can
Device *device_named(const std::string &name) {
    for (Device *d : {&cpu_device, &cuda_device, &checked_device}) {
        if (name != d->name) continue;
        const char *missing = d == &cpu_device ? nullptr : cuda_missing();
        expect(!missing, "--device ", name, ": ", missing);
        return d;
    }
    fail("--device " + name + ": unknown", "one of cpu, cuda, checked");
}

Pool *cuda_pool();                                   // src/cuda/device.cu; null without CUDA
PoolReport pool_report(const Device &d) {
    const Pool &pool = &d == &cuda_device && cuda_pool() ? *cuda_pool() : host_pool;
    return {pool.system_allocations, pool.held, pool.peak};
}

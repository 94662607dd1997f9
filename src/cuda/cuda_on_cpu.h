// The few words our kernels are written in, and what they mean: CUDA when nvcc compiles the
// file, otherwise plain C++ that runs every CUDA thread as a fiber on the CPU. A kernel is
// written once and never needs an #ifdef.
//
//     __global__ void scale(const __grid_constant__ Call c) { ... threadIdx, SHARED, barrier, block_sum ... }
//     launch(scale, rows, 64, 0, c);             // kernel, grid, block, bytes of shared memory, arguments
//
// It is no simulator of a GPU: no memory model, no warps that run in step, no timing, and no words but these.
// It is for testing kernels where there is no GPU (or in gdb), and stricter than a GPU: the host cannot touch
// device memory; shared and fresh device memory is NaN; threads run in ascending, descending, shuffled or
// interleaved order; threads that part ways at a barrier are reported; AddressSanitizer sees every access
// that leaves a block of memory. One launch at a time. Link with -lboost_context.
//
//   [1] what both meanings share: sizes, the limits of a launch, how a reduction folds
//   [2] the words in CUDA
//   [3] the words on the CPU, those that neither wait nor allocate; and `emulator`, what a test may turn
//   [4] device memory: an arena that only kernels and copies can open
//   [5] threads as fibers: workers, blocks, and who runs next
//   [6] the words that wait: barrier, block_sum, block_max, and the warp's
//   [7] launch
#pragma once
#if defined(REAL_CUDA) && !defined(__CUDACC__)
#error "this build has a GPU's kernels: only .cu files may include cuda_on_cpu.h"
#endif
#include <cassert>
#include <concepts>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <math.h>
#include <type_traits>

// --------------------------------------------------------------------------------------- [1] what both share
#ifndef __CUDACC__
#define __global__
#define __device__
#define __host__
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
#endif

struct Extent {                                        // the size of a grid or block, from a number or a dim3
    long x = 1, y = 1, z = 1;
    template <std::integral N> Extent(N n) : x(static_cast<long>(n)) {}
    template <class D>
        requires requires(D d) { d.x + d.y + d.z; }
    Extent(const D &d) : x(d.x), y(d.y), z(d.z) {}
};

// What every GPU refuses, and g++ cannot see. null: nothing to complain about.
inline const char *launch_limit(const Extent &grid, const Extent &block, size_t shared_bytes) {
    if (grid.x < 0 || grid.y < 0 || grid.z < 0) return "a negative grid";
    if (grid.x >= 1L << 31 || grid.y > 65535 || grid.z > 65535) return "a grid above (2^31-1, 65535, 65535)";
    if (block.x < 1 || block.y < 1 || block.z < 1) return "a block without threads";
    if (block.x > 1024 || block.y > 1024 || block.z > 64) return "a block above (1024, 1024, 64)";
    if (block.x * block.y * block.z > 1024) return "more than 1024 threads in a block";
    if (shared_bytes > 48 * 1024) return "more than 48 KB of shared memory";
    return nullptr;
}

// A reduction folds the 32 values of a warp as a butterfly (lane i with i^16, i^8, ... i^1), then the warps'
// results the same way: the order is fixed, and the same on both sides. A NaN anywhere makes the maximum NaN.
struct Sum {
    template <class T> static constexpr T nothing = 0;     // what changes no result
    template <class T> __host__ __device__ T operator()(T a, T b) const { return a + b; }
};
struct Largest {
    template <class T> using Limits = std::numeric_limits<T>;
    template <class T> static constexpr T nothing =
        Limits<T>::has_infinity ? -Limits<T>::infinity() : Limits<T>::lowest();
    template <class T> __host__ __device__ T operator()(T a, T b) const { return b > a || b != b ? b : a; }
};

__host__ __device__ inline bool aligned(const void *p, size_t bytes) {         // a float4 wants 16
    return reinterpret_cast<size_t>(p) % bytes == 0;
}

#define launch(kernel, ...) launch_kernel(#kernel, kernel, __VA_ARGS__)

#ifdef __CUDACC__
// ------------------------------------------------------------------------------------- [2] the words in CUDA
#define SHARED(type, name)                                               \
    extern __shared__ __align__(16) unsigned char launch_shared_bytes[]; \
    type *const name = reinterpret_cast<type *>(launch_shared_bytes)

// Any error but a lack of memory: the program ends, for after most of them the GPU refuses all that follows.
// Kernels run later than they are launched, so the call that reports an error need not be the one that made
// it. Nothing is destroyed: destructors would call CUDA.
inline const char *last_launched = nullptr;
[[noreturn]] inline void launch_error(const char *what) {      // ours: as an assert
    fprintf(stderr, "CUDA: kernel %s: %s\n", last_launched ? last_launched : "(none)", what);
    abort();
}
inline void cuda_expect(cudaError_t error, const char *call) {
    if (error == cudaSuccess) return;
    fflush(stdout);
    fprintf(stderr, "deepseek: CUDA: %s: %s: %s\n", call, cudaGetErrorName(error), cudaGetErrorString(error));
    if (last_launched)
        fprintf(stderr, "  the last kernel launched: %s; with CUDA_LAUNCH_BLOCKING=1 each is waited for\n",
                last_launched);
    std::_Exit(1);
}

__device__ __forceinline__ void barrier() { __syncthreads(); }
template <class T> __device__ __forceinline__ T shuffle(T v, int lane) { return __shfl_sync(~0u, v, lane); }
template <class T> __device__ __forceinline__ T shuffle_xor(T v, int k) { return __shfl_xor_sync(~0u, v, k); }
template <class T> __device__ __forceinline__ T shuffle_down(T v, int k) {
    return __shfl_down_sync(~0u, v, k);
}
template <class T, class Fold> __device__ __forceinline__ T warp_fold(T v, Fold fold) {
    for (int k = 16; k > 0; k /= 2) v = fold(v, shuffle_xor(v, k));
    return v;
}
template <class T, class Fold> __device__ __forceinline__ T block_fold(T v, Fold fold) {
    __shared__ T of_warp[32];
    constexpr T nothing = Fold::template nothing<T>;
    const int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    const int threads = blockDim.x * blockDim.y * blockDim.z, lane = thread % 32, warps = threads / 32;
    assert(threads % 32 == 0);
    v = warp_fold(v, fold);
    __syncthreads();                                   // the last reduction's of_warp has been read
    if (lane == 0) of_warp[thread / 32] = v;
    __syncthreads();
    return warp_fold(lane < warps ? of_warp[lane] : nothing, fold);
}
template <class T> __device__ __forceinline__ T warp_sum(T v) { return warp_fold(v, Sum()); }
template <class T> __device__ __forceinline__ T warp_max(T v) { return warp_fold(v, Largest()); }
template <class T> __device__ __forceinline__ T block_sum(T v) { return block_fold(v, Sum()); }
template <class T> __device__ __forceinline__ T block_max(T v) { return block_fold(v, Largest()); }
__device__ __forceinline__ int atomic_add(int *p, int n) { return atomicAdd(p, n); }
template <class T> __device__ T atomic_add(T *, T) = delete;   // floats: the order would not be fixed

inline const char *device_missing() {                  // why nothing can run here; null: it can
    int driver = 0, devices = 0;
    if (cudaDriverGetVersion(&driver) == cudaSuccess && driver == 0) return "there is no NVIDIA driver";
    const cudaError_t error = cudaGetDeviceCount(&devices);
    if (error != cudaSuccess) return cudaGetErrorString(error);
    return devices ? nullptr : "there is no GPU";
}
inline size_t device_memory() {                        // what other programs have left of it
    size_t free = 0, all = 0;
    cuda_expect(cudaMemGetInfo(&free, &all), "device_memory");
    return free;
}
inline void *device_alloc(size_t bytes) {              // null when the device is full
    void *p = nullptr;
    const cudaError_t error = cudaMalloc(&p, bytes ? bytes : 1);
    if (error == cudaErrorMemoryAllocation) {
        cudaGetLastError();                            // forget it: the caller decides
        return nullptr;
    }
    cuda_expect(error, "device_alloc");
    return p;
}
inline void device_free(void *p) { cuda_expect(cudaFree(p), "device_free"); }
inline void device_use(void *, size_t) {}
inline bool device_owns(const void *p, size_t) {
    cudaPointerAttributes of;
    return cudaPointerGetAttributes(&of, p) == cudaSuccess && of.type == cudaMemoryTypeDevice;
}
inline void device_zero(void *p, size_t bytes) { cuda_expect(cudaMemsetAsync(p, 0, bytes), "device_zero"); }
// The host's memory is pageable: cudaMemcpy waits for the kernels before it and returns when it has read all
// bytes, so the caller may overwrite them at once.
inline void copy_up(void *device, const void *host, size_t bytes) {
    cuda_expect(cudaMemcpy(device, host, bytes, cudaMemcpyHostToDevice), "copy_up");
}
inline void copy_down(void *host, const void *device, size_t bytes) {
    cuda_expect(cudaMemcpy(host, device, bytes, cudaMemcpyDeviceToHost), "copy_down");
}
inline void copy_device(void *to, const void *from, size_t bytes) {
    cuda_expect(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice), "copy_device");
}
inline void device_synchronise() { cuda_expect(cudaDeviceSynchronize(), "device_synchronise"); }

template <class... P, class... A> void launch_kernel(const char *name, void (*kernel)(P...), Extent grid,
                                                     Extent block, size_t shared, const A &...a) {
    static_assert((sizeof(P) + ... + 0) <= 4096 && (std::is_trivially_copyable_v<P> && ...));
    last_launched = name;
    if (const char *why = launch_limit(grid, block, shared)) launch_error(why);
    if (grid.x * grid.y * grid.z == 0) return;
    const dim3 blocks(grid.x, grid.y, grid.z), threads(block.x, block.y, block.z);
    kernel<<<blocks, threads, shared>>>(static_cast<P>(a)...);
    cuda_expect(cudaGetLastError(), name);
#ifdef DEBUG_PRESET
    cuda_expect(cudaDeviceSynchronize(), name);
#endif
}

#else
// ---------------------------------------------------------------------------------- [3] the words on the CPU
#include <algorithm>
#include <boost/context/detail/fcontext.hpp>
#include <cstdarg>
#include <cstdint>
#include <cstring>
#include <deque>
#include <map>
#include <new>
#include <numeric>
#include <sanitizer/asan_interface.h>                  // without the sanitizer its macros do nothing
#include <sys/mman.h>
#include <tuple>
#include <unistd.h>
#include <utility>
#include <vector>
#if defined(__SANITIZE_ADDRESS__)
#define EMULATOR_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EMULATOR_ASAN 1
#endif
#endif

struct uint3 { unsigned x, y, z; };
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

inline uint3 threadIdx, blockIdx;                      // of the thread that runs now
inline dim3 blockDim, gridDim;
constexpr int warpSize = 32;

// CUDA's global min and max: these pairs and no others, so that a call which nvcc finds ambiguous is so here.
#define EMULATED_MIN_MAX(A, B, Result)                                                                  \
    constexpr Result min(A a, B b) { return std::min(static_cast<Result>(a), static_cast<Result>(b)); } \
    constexpr Result max(A a, B b) { return std::max(static_cast<Result>(a), static_cast<Result>(b)); }
#define EMULATED_INTEGERS(I, U) \
    EMULATED_MIN_MAX(I, I, I)   \
    EMULATED_MIN_MAX(U, U, U)   \
    EMULATED_MIN_MAX(I, U, U)   \
    EMULATED_MIN_MAX(U, I, U)
EMULATED_INTEGERS(int, unsigned)
EMULATED_INTEGERS(long, unsigned long)
EMULATED_INTEGERS(long long, unsigned long long)
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }
inline double min(float a, double b) { return fmin(a, b); }
inline double max(float a, double b) { return fmax(a, b); }
inline double min(double a, float b) { return fmin(a, b); }
inline double max(double a, float b) { return fmax(a, b); }

struct Site {
    const char *file;
    int line;
};                                                     // a place in a kernel's source

// What a test may turn. `emulator = {}` puts everything back. To sweep the barriers: run once, then in every
// order for each skip_barrier below barriers_seen.size(); some order must give a wrong result. (block_sum and
// the like are barriers too, but not swept: without them there is no number to go on with.)
struct Emulator {
    enum Order { ascending, descending, shuffled, interleaved };       // the last: four blocks at a time
    Order order = ascending;                       // of threads and of blocks
    unsigned seed = 1;                             // of shuffled and interleaved
    int skip_barrier = -1;                         // barriers_seen[skip_barrier] does nothing: who notices?
    std::vector<Site> barriers_seen;               // the lines at which a barrier() was met, in that order
    long launches = 0, threads = 0, barriers = 0;  // how many so far; barriers: counted once a block
};
inline Emulator emulator;

namespace emulated {
// ----------------------------------------------------------------------------------------- [4] device memory
// One reservation of address space, handed out from the bottom, accessible only while an Open exists. A block
// has a redzone behind it and, when freed, waits poisoned for a request of its size. Huge pages, because to
// open and to close takes time in proportion to their number (measured for 64 MB:
// 2.6 ms with small pages, 15 us with huge).
struct Arena {
    static constexpr size_t reserved = size_t(64) << 30, huge_page = 2 << 20, unit = 256;
    struct Span { size_t used, room; };
    char *base = nullptr;
    size_t top = unit;                                 // bytes handed out; the first unit is a redzone
    int opened = 0;
    std::map<const char *, Span> live;
    std::multimap<size_t, char *> freed;               // by room

    bool reserve() {
        const int kind = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
        void *p = mmap(nullptr, reserved + huge_page, PROT_NONE, kind, -1, 0);
        if (p == MAP_FAILED) return false;
        base = static_cast<char *>(p) + (huge_page - reinterpret_cast<size_t>(p) % huge_page);
        madvise(base, reserved, MADV_HUGEPAGE);        // only a wish
        ASAN_POISON_MEMORY_REGION(base, unit);
        return true;
    }
    char *take(size_t room) {                          // null when there is no more
        if (auto old = freed.find(room); old != freed.end()) {
            char *start = old->second;
            freed.erase(old);
            return start;
        }
        if ((!base && !reserve()) || room > reserved - top - unit) return nullptr;
        char *start = base + top;
        top += room + unit;
        ASAN_POISON_MEMORY_REGION(start, room + unit);
        return start;
    }
    void protect(int rights) {
        const size_t bytes = (top + huge_page - 1) / huge_page * huge_page;
        if (!base || mprotect(base, bytes, rights) == 0) return;
        perror("emulated CUDA: mprotect");
        abort();
    }
};
inline Arena arena;

struct Open {
    Open() {
        if (arena.opened++ == 0) arena.protect(PROT_READ | PROT_WRITE);
    }
    ~Open() {
        if (--arena.opened == 0) arena.protect(PROT_NONE);
    }
    Open(const Open &) = delete;
};

// ------------------------------------------------------------------ [5] threads as fibers, and who runs next
// A worker is a stack. It starts thread after thread, for as long as they return without waiting: such a
// thread costs a function call. A thread that waits keeps its stack, and a free worker (or a new one) starts
// the next. The first worker is the caller's own stack, so that in a debugger a kernel without barriers has
// its whole history below it. Stacks are kept for the next launch; none is left while a kernel is on it.
constexpr int max_threads = 1024, max_resident = 4;
constexpr size_t shared_room = 48 * 1024, redzone = 256, stack_bytes = 256 * 1024;

namespace fcontext = boost::context::detail;
struct Block;
struct Worker {
    fcontext::fcontext_t context = nullptr;        // where to go on, while it does not run
    Block *block = nullptr;                        // the thread it has; null: none
    int thread = 0;
    const void *stack = nullptr;                   // bottom and size, for the sanitizer
    size_t stack_size = 0;
    void *fake_stack = nullptr;
};

// Where threads wait for each other: each block has one of all its threads, and one of each warp.
struct Meeting {
    int first = 0, size = 0, arrived = 0;          // its threads, and how many of them wait
    Site at = {};                                  // where, and for what, the first of them waits
    const char *word = nullptr;
    int earliest = 0;
    unsigned char *in = nullptr, *out = nullptr;   // 8 bytes a thread: what they bring, what they take away
};

struct Block {
    uint3 index = {};
    int started = 0, finished = 0;
    std::vector<int> order;                            // the threads, as they are to start
    std::vector<Worker *> ready;                       // those that may go on, from ready[next_ready]
    size_t next_ready = 0;
    Worker *of_thread[max_threads] = {};
    Meeting all, warp[max_threads / 32];
    alignas(16) unsigned char in[2][max_threads * 8], out[2][max_threads * 8];
    alignas(256) unsigned char shared[redzone + shared_room + redzone];
};

struct Machine {                                       // the launch that runs
    const char *name = nullptr;                        // null: none
    void (*call)(const void *) = nullptr;
    const void *arguments = nullptr;
    int threads = 0, resident = 1;
    size_t shared_bytes = 0;
    uint64_t blocks = 0, opened = 0, first = 0, stride = 1, random = 1;
    Block *block[max_resident] = {};
    uint3 places[max_threads] = {};
    std::deque<Worker> fibers;
    std::vector<Worker *> idle;
    Worker caller, *running = nullptr;
};
inline Machine machine;

// The one way to complain: kernel, block, thread, source line, what is wrong.
[[noreturn]] __attribute__((format(printf, 2, 3))) inline void stop(Site at, const char *format, ...) {
    const uint3 b = blockIdx, t = threadIdx;
    fprintf(stderr, "emulated CUDA: kernel %s", machine.name ? machine.name : "(none)");
    if (machine.running)
        fprintf(stderr, ", block (%u,%u,%u), thread (%u,%u,%u)", b.x, b.y, b.z, t.x, t.y, t.z);
    if (at.file) fprintf(stderr, ", %s:%d", at.file, at.line);
    fprintf(stderr, ": ");
    va_list rest;
    va_start(rest, format);
    vfprintf(stderr, format, rest);
    va_end(rest);
    fprintf(stderr, "\n");
    abort();
}

inline uint64_t random_below(uint64_t n) {             // xorshift64*: a launch is a function of its seed
    uint64_t &r = machine.random;
    r ^= r >> 12;
    r ^= r << 25;
    r ^= r >> 27;
    return (r * 2685821657736338717ull >> 16) % n;
}

inline void arrange(int *threads, int n) {             // given in ascending order
    if (emulator.order == Emulator::ascending) return;
    if (emulator.order == Emulator::descending) return std::reverse(threads, threads + n);
    for (int i = n - 1; i > 0; i--) std::swap(threads[i], threads[random_below(i + 1)]);
}

inline bool open_block(Block &b) {                     // the next block moves in; false if there is none
    if (machine.opened == machine.blocks) return false;
    const uint64_t i = (machine.first + machine.opened++ * machine.stride) % machine.blocks;
    const uint64_t x = gridDim.x, y = gridDim.y;
    b.index = {unsigned(i % x), unsigned(i / x % y), unsigned(i / x / y)};
    b.started = b.finished = 0;
    b.order.resize(machine.threads);
    std::iota(b.order.begin(), b.order.end(), 0);
    arrange(b.order.data(), machine.threads);
    memset(b.shared + redzone, 0xff, machine.shared_bytes);    // NaN as float and as double, -1 as int
    return true;
}

inline Block *choose_block() {                         // one that has a thread to go on with; null: none has
    const int n = machine.resident, first = n == 1 ? 0 : int(random_below(n));
    for (int i = 0; i < n; i++) {
        Block &b = *machine.block[first + i < n ? first + i : first + i - n];
        if (b.finished == machine.threads && !open_block(b)) continue;
        if (b.started < machine.threads || b.next_ready < b.ready.size()) return &b;
    }
    return nullptr;
}

// Nobody can go on: those who wait, wait for threads that returned, or that wait elsewhere.
[[noreturn]] inline void stuck() {
    std::vector<Meeting *> held;
    for (int i = 0; i < machine.resident && held.empty(); i++) {
        Block &b = *machine.block[i];
        blockIdx = b.index;
        if (b.all.arrived) held.push_back(&b.all);
        for (Meeting &m : b.warp)
            if (m.arrived) held.push_back(&m);
    }
    const Meeting &a = *held.front(), &z = *held.back();
    threadIdx = machine.places[a.earliest];
    if (&a == &z) stop(a.at, "waits at %s for threads that have returned", a.word);
    stop(a.at, "waits at %s for ever, while thread %d waits at %s:%d (%s)", a.word, z.earliest, z.at.file,
         z.at.line, z.word);
}

inline void fiber_main(fcontext::transfer_t from);

inline Worker *idle_worker() {                         // if there is none: a new stack, a guard page below it
    if (!machine.idle.empty()) {
        Worker *w = machine.idle.back();
        machine.idle.pop_back();
        return w;
    }
    const size_t guard = 4096;
    const int kind = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void *mapped = mmap(nullptr, guard + stack_bytes, PROT_READ | PROT_WRITE, kind, -1, 0);
    char *memory = static_cast<char *>(mapped);
    if (mapped == MAP_FAILED || mprotect(memory, guard, PROT_NONE) != 0) stop({}, "no memory for a stack");
    Worker &w = machine.fibers.emplace_back();
    w.stack = memory + guard;
    w.stack_size = stack_bytes - machine.fibers.size() % 16 * 256;     // or all tops share a line of cache
    w.context = fcontext::make_fcontext(memory + guard + w.stack_size, w.stack_size, fiber_main);
    return &w;
}

// Who goes on, now that the running thread has returned (free: its stack) or waits (free is null)? The answer
// has a thread to go on with; or it is the caller without one: then the launch is done.
inline Worker *next(Worker *free) {
    Block *b = choose_block();
    if (b && b->next_ready == b->ready.size()) {       // start a thread
        Worker *w = free ? free : idle_worker();
        w->block = b;
        w->thread = b->order[b->started++];
        b->of_thread[w->thread] = w;
        return w;
    }
    if (free) {
        free->block = nullptr;
        machine.idle.push_back(free);
    }
    if (b) return b->ready[b->next_ready++];
    for (int i = 0; i < machine.resident; i++)
        if (machine.block[i]->finished < machine.threads) stuck();
    std::erase(machine.idle, &machine.caller);
    return &machine.caller;
}

inline void arrived_from(Worker &me, fcontext::transfer_t from) {
    Worker &other = *static_cast<Worker *>(from.data);
    other.context = from.fctx;
#ifdef EMULATOR_ASAN
    __sanitizer_finish_switch_fiber(me.fake_stack, &other.stack, &other.stack_size);
#endif
    machine.running = &me;
    if (!me.block) return;
    threadIdx = machine.places[me.thread];
    blockIdx = me.block->index;
}

inline void switch_to(Worker &to) {
    Worker &me = *machine.running;
    if (&to == &me) return;
    machine.running = &to;
#ifdef EMULATOR_ASAN
    __sanitizer_start_switch_fiber(&me.fake_stack, to.stack, to.stack_size);
#endif
    arrived_from(me, fcontext::jump_fcontext(to.context, &me));
}

inline void run_thread(Worker &me) {
    Block &b = *me.block;
    threadIdx = machine.places[me.thread];
    blockIdx = b.index;
    try {
        machine.call(machine.arguments);
    } catch (...) {
        stop({}, "a kernel must not throw");
    }
    b.finished++;
}

inline void serve(Worker &me) {                        // only the caller's ever ends
    while (me.block) {
        run_thread(me);
        switch_to(*next(&me));
    }
}

inline void fiber_main(fcontext::transfer_t from) {
    arrived_from(*machine.running, from);
    serve(*machine.running);
}

// ----------------------------------------------------------------------------------- [6] the words that wait
// The running thread comes to a meeting. The last to come calls `complete`; all go on in the chosen order.
template <class Complete> void meet(Meeting &m, Site at, const char *word, Complete complete) {
    Worker &me = *machine.running;
    Block &b = *me.block;
    if (&m == &b.all && b.finished) stop(at, "%s, but %d threads have returned", word, b.finished);
    if (m.arrived == 0) {
        m.at = at;
        m.word = word;
        m.earliest = me.thread;
    }
    if (m.at.line != at.line || m.word != word || (m.at.file != at.file && strcmp(m.at.file, at.file) != 0))
        stop(at, "%s, while thread %d waits at %s:%d (%s)", word, m.earliest, m.at.file, m.at.line, m.word);
    if (++m.arrived < m.size) return switch_to(*next(nullptr));
    complete();
    m.arrived = 0;
    if (b.next_ready == b.ready.size()) {
        b.ready.clear();
        b.next_ready = 0;
    }
    int threads[max_threads];
    std::iota(threads, threads + m.size, m.first);
    arrange(threads, m.size);
    for (int i = 0; i < m.size; i++) b.ready.push_back(b.of_thread[threads[i]]);
    switch_to(*next(nullptr));
}

// Each thread brings v; the last one calls fold(in, out), arrays in thread order; all see what it left there.
template <class T, class Fold> const T *exchange(bool in_warp, T v, Site at, const char *word, Fold fold) {
    static_assert(sizeof(T) <= 8);
    Worker &me = *machine.running;
    if (machine.threads % 32) stop(at, "%s needs whole warps, not %d threads", word, machine.threads);
    Meeting &m = in_warp ? me.block->warp[me.thread / 32] : me.block->all;
    T *in = reinterpret_cast<T *>(m.in), *out = reinterpret_cast<T *>(m.out);
    new (in + (me.thread - m.first)) T(v);
    meet(m, at, word, [&] { fold(in, out); });
    return out;
}

template <class T, class Fold> T butterfly(T (&v)[32], Fold fold) {    // as shuffles by 16, 8, 4, 2, 1 would
    for (int k = 16; k > 0; k /= 2)
        for (int i = 0; i < k; i++) v[i] = fold(v[i], v[i + k]);
    return v[0];
}

template <class T, class Fold> T reduce(bool in_warp, T v, Site at, const char *word, Fold fold) {
    const int warps = in_warp ? 1 : machine.threads / 32;
    return *exchange(in_warp, v, at, word, [=](T *in, T *out) {
        T part[32], of_warp[32];
        std::fill(of_warp, of_warp + 32, Fold::template nothing<T>);
        for (int w = 0; w < warps; w++) {
            std::copy(in + 32 * w, in + 32 * w + 32, part);
            of_warp[w] = butterfly(part, fold);
        }
        new (out) T(in_warp ? of_warp[0] : butterfly(of_warp, fold));
    });
}

template <class T> T shuffled(T v, Site at, const char *word, int from) {
    const int lane = machine.running->thread % 32;
    const T *out = exchange(true, v, at, word, [](T *in, T *out) { std::copy(in, in + 32, out); });
    return out[from >= 0 && from < 32 ? from : lane];
}

inline int number_of(Site at) {                        // its place in emulator.barriers_seen, added if new
    auto &seen = emulator.barriers_seen;
    for (size_t i = 0; i < seen.size(); i++)
        if (seen[i].line == at.line && strcmp(seen[i].file, at.file) == 0) return int(i);
    seen.push_back(at);
    return int(seen.size()) - 1;
}
}   // namespace emulated

#define SITE Site at = {__builtin_FILE(), __builtin_LINE()}    // by default the place of the call
inline void barrier(SITE) {
    using namespace emulated;
    Meeting &all = machine.running->block->all;
    if (emulator.skip_barrier >= 0 && number_of(at) == emulator.skip_barrier) return;
    meet(all, at, "barrier", [&] {
        number_of(at);
        emulator.barriers++;
    });
}
template <class T> T block_sum(T v, SITE) { return emulated::reduce(false, v, at, "block_sum", Sum()); }
template <class T> T block_max(T v, SITE) { return emulated::reduce(false, v, at, "block_max", Largest()); }
template <class T> T warp_sum(T v, SITE) { return emulated::reduce(true, v, at, "warp_sum", Sum()); }
template <class T> T warp_max(T v, SITE) { return emulated::reduce(true, v, at, "warp_max", Largest()); }
template <class T> T shuffle(T v, int lane, SITE) { return emulated::shuffled(v, at, "shuffle", lane & 31); }
template <class T> T shuffle_down(T v, int k, SITE) {
    return emulated::shuffled(v, at, "shuffle_down", emulated::machine.running->thread % 32 + k);
}
template <class T> T shuffle_xor(T v, int k, SITE) {
    return emulated::shuffled(v, at, "shuffle_xor", (emulated::machine.running->thread % 32) ^ k);
}
#undef SITE
inline int atomic_add(int *p, int n) { return std::exchange(*p, *p + n); }
template <class T> T atomic_add(T *, T) = delete;      // floats: the order would not be fixed

// The block's dynamic shared memory, launch's fourth argument; one in a kernel.
#define SHARED(type, name) type *const name = static_cast<type *>(emulated::shared_memory())
namespace emulated {
inline void *shared_memory() {
    if (machine.shared_bytes == 0) stop({}, "SHARED, but launched without shared memory");
    return machine.running->block->shared + redzone;
}
}   // namespace emulated

// --------------------------------------------------------------------- [7] the words of the host, and launch
[[noreturn]] inline void launch_error(const char *what) { emulated::stop({}, "%s", what); }

inline const char *device_missing() { return nullptr; }
inline size_t device_memory() {                        // the host's
    return static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<size_t>(sysconf(_SC_PAGE_SIZE));
}
inline void *device_alloc(size_t bytes) {              // null when the device is full. Starts as NaN
    using namespace emulated;
    const size_t unit = Arena::unit, room = (bytes + unit - 1) / unit * unit;
    char *start = arena.take(room);
    if (!start) return nullptr;
    arena.live[start] = {bytes, room};
    ASAN_UNPOISON_MEMORY_REGION(start, bytes);
    Open open;
    memset(start, 0xff, bytes);
    return start;
}

// A pool that hands out a part of a block tells how many bytes of it are in use now (0: it lies in the pool).
// What is beyond them belongs to nobody: launch refuses it, and AddressSanitizer sees it touched.
inline void device_use(void *p, size_t bytes) {
    using namespace emulated;
    auto block = arena.live.find(static_cast<char *>(p));
    if (block == arena.live.end()) stop({}, "device_use(%p): not a block of the device", p);
    auto &[used, room] = block->second;
    if (bytes > room) stop({}, "device_use(%p): %zu bytes of %zu", p, bytes, room);
    used = bytes;
    ASAN_POISON_MEMORY_REGION(p, room);
    ASAN_UNPOISON_MEMORY_REGION(p, bytes);
}

inline void device_free(void *p) {
    using namespace emulated;
    if (!p) return;
    auto block = arena.live.find(static_cast<char *>(p));
    if (block == arena.live.end()) stop({}, "device_free(%p): not a block of the device", p);
    ASAN_POISON_MEMORY_REGION(p, block->second.room);
    arena.freed.emplace(block->second.room, static_cast<char *>(p));
    arena.live.erase(block);
}

inline bool device_owns(const void *p, size_t bytes) {  // do these bytes lie in one live block?
    const char *at = static_cast<const char *>(p);
    auto after = emulated::arena.live.upper_bound(at);
    if (after == emulated::arena.live.begin()) return false;
    auto &[start, span] = *std::prev(after);
    const size_t offset = at - start;
    return offset <= span.used && bytes <= span.used - offset;
}

namespace emulated {
inline void expect_device(const void *p, size_t bytes, const char *word) {
    if (machine.running) stop({}, "%s in a kernel", word);
    if (!device_owns(p, bytes)) stop({}, "%s: %zu bytes at %p are not the device's", word, bytes, p);
}
inline void expect_host(const void *p, const char *word) {
    if (device_owns(p, 1)) stop({}, "%s: %p is the device's, not the host's", word, p);
}
}   // namespace emulated

inline void device_zero(void *p, size_t bytes) {
    if (bytes == 0) return;
    emulated::expect_device(p, bytes, "device_zero");
    emulated::Open open;
    memset(p, 0, bytes);
}
inline void copy_up(void *device, const void *host, size_t bytes) {
    if (bytes == 0) return;
    emulated::expect_device(device, bytes, "copy_up");
    emulated::expect_host(host, "copy_up");
    emulated::Open open;
    memcpy(device, host, bytes);
}
inline void copy_down(void *host, const void *device, size_t bytes) {
    if (bytes == 0) return;
    emulated::expect_device(device, bytes, "copy_down");
    emulated::expect_host(host, "copy_down");
    emulated::Open open;
    memcpy(host, device, bytes);
}
inline void copy_device(void *to, const void *from, size_t bytes) {
    if (bytes == 0) return;
    emulated::expect_device(to, bytes, "copy_device");
    emulated::expect_device(from, bytes, "copy_device");
    emulated::Open open;
    memmove(to, from, bytes);
}
inline void device_synchronise() {}

// launch shows each argument to check_argument: overload it for a struct that holds pointers, beside that
// struct (it is found by the argument's namespace), and call launch_error for one that is not the device's.
template <class T> void check_argument(const T &) {}
template <class T> void check_argument(T *const &p) {
    if (p && !device_owns(const_cast<const T *>(p), 1)) launch_error("an argument is a pointer of the host");
}

namespace emulated {
template <class... P> struct Bound {
    void (*kernel)(P...);
    std::tuple<P...> arguments;
    static void call(const void *bound) {
        const Bound &b = *static_cast<const Bound *>(bound);
        std::apply(b.kernel, b.arguments);
    }
};

inline void prepare(const Extent &grid, const Extent &block, size_t shared) {
    Machine &m = machine;
    m.threads = int(block.x * block.y * block.z);
    m.blocks = uint64_t(grid.x) * grid.y * grid.z;
    m.shared_bytes = shared;
    m.random = (emulator.seed + 1ull) * 0x9e3779b97f4a7c15ull | 1;
    m.opened = m.first = 0;
    m.stride = 1;
    if (emulator.order == Emulator::descending) m.first = m.stride = m.blocks - 1;
    if (emulator.order >= Emulator::shuffled) {
        m.first = random_below(m.blocks);
        do {
            m.stride = 1 + random_below(m.blocks);
        } while (std::gcd(m.stride, m.blocks) != 1);
    }
    blockDim = dim3(block.x, block.y, block.z);
    gridDim = dim3(grid.x, grid.y, grid.z);
    uint3 *place = m.places;
    for (unsigned z = 0; z < blockDim.z; z++)
        for (unsigned y = 0; y < blockDim.y; y++)
            for (unsigned x = 0; x < blockDim.x; x++) *place++ = {x, y, z};
    m.resident = emulator.order == Emulator::interleaved ? max_resident : 1;
    for (int i = 0; i < m.resident; i++) {
        if (!m.block[i]) m.block[i] = new Block;
        Block &b = *m.block[i];
        b.finished = m.threads;                        // empty: a block of the grid may move in
        b.all.size = m.threads;
        b.all.in = b.in[0];
        b.all.out = b.out[0];
        for (int w = 0; w < max_threads / 32; w++) {
            b.warp[w].first = 32 * w;
            b.warp[w].size = 32;
            b.warp[w].in = b.in[1] + 32 * 8 * w;
            b.warp[w].out = b.out[1] + 32 * 8 * w;
        }
        ASAN_POISON_MEMORY_REGION(b.shared, sizeof b.shared);
        ASAN_UNPOISON_MEMORY_REGION(b.shared + redzone, shared);
    }
    emulator.launches++;
    emulator.threads += m.blocks * m.threads;
}

inline void run() {
    Open open;
    Machine &m = machine;
    m.running = &m.caller;
    switch_to(*next(&m.caller));
    serve(m.caller);
    m.running = nullptr;
}
}   // namespace emulated

template <class... P, class... A> void launch_kernel(const char *name, void (*kernel)(P...), Extent grid,
                                                     Extent block, size_t shared, const A &...a) {
    static_assert((sizeof(P) + ... + 0) <= 4096 && (std::is_trivially_copyable_v<P> && ...));
    using namespace emulated;
    if (machine.running) stop({}, "a kernel launches %s", name);
    machine.name = name;
    if (const char *why = launch_limit(grid, block, shared)) stop({}, "%s", why);
    if (grid.x * grid.y * grid.z == 0) return;
    (check_argument(a), ...);
    const Bound<P...> bound{kernel, std::tuple<P...>(a...)};
    machine.call = &Bound<P...>::call;
    machine.arguments = &bound;
    prepare(grid, block, shared);
    run();
    machine.name = nullptr;
}
#endif

// words.cu: the words in which kernels are written mean the same on a GPU and in the emulation. Where nvcc
// compiles this file the GPU runs it; otherwise src/cuda/cuda_on_cpu.h does, in every order of threads.
// What only the emulation can do (see mistakes, above all) is tested in emulator.cpp.
//
//   [1] threads and blocks   [2] reductions and warps   [3] shared memory   [4] memory   [5] errors
#include "tests/cuda/on_device.h"

#include <algorithm>
#include <cmath>
#include <doctest/doctest.h>
#include <numeric>

namespace {
template <class Action> void in_every_order(Action action) {
#ifdef REAL_CUDA
    action();
#else
    using enum Emulator::Order;
    for (auto order : {ascending, descending, shuffled, interleaved}) {
        emulator = {};
        emulator.order = order;
        action();
    }
    emulator = {};
#endif
}

// ---------------------------------------------------------------------------------- [1] threads and blocks
__device__ int thread_number() { return threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z); }

__global__ void visit(int *visits, int *seen) {
    const int threads = blockDim.x * blockDim.y * blockDim.z;
    const int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    atomic_add(&visits[block * threads + thread_number()], 1);
    barrier();
    if (block == 0) seen[thread_number()] = 100 * threadIdx.z + 10 * threadIdx.y + threadIdx.x;
}

TEST_CASE("words: every thread of every block runs once, in every order") {
    in_every_order([] {
        for (unsigned blocks : {1u, 2u, 3u, 7u}) {
            OnDevice<int> visits(std::vector<int>(blocks * 3 * 2 * 12)), seen(12);
            launch(visit, dim3(blocks, 3, 2), dim3(3, 2, 2), 0, visits.p, seen.p);
            CHECK(visits.down() == std::vector<int>(blocks * 3 * 2 * 12, 1));
            CHECK(seen.down() == std::vector<int>{0, 1, 2, 10, 11, 12, 100, 101, 102, 110, 111, 112});
        }
    });
}

TEST_CASE("words: an empty grid runs nothing") {
    OnDevice<int> visits(std::vector<int>(1)), seen(1);
    launch(visit, 0, 1, 0, visits.p, seen.p);
    launch(visit, dim3(1, 0, 1), 1, 0, visits.p, seen.p);
    CHECK(visits.down()[0] == 0);
}

// ------------------------------------------------------------------------------- [2] reductions and warps
template <class T> __global__ void reduce_all(const T *x, T *sums, T *maxima) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    for (int round = 0; round < 3; round++) {          // one after another: no reduction may disturb the next
        sums[i] = block_sum(x[i]);
        maxima[i] = block_max(x[i]);
    }
}

template <class T> void check_reductions(int threads) {
    const int blocks = 5;
    std::vector<T> x(blocks * threads);
    for (size_t i = 0; i < x.size(); i++) x[i] = T(int(i * 7919 % 1000) - 700) / T(8);     // sums are exact
    std::vector<T> sums, maxima;
    for (int b = 0; b < blocks; b++) {
        const T *row = &x[b * threads];
        sums.insert(sums.end(), threads, std::accumulate(row, row + threads, T(0)));
        maxima.insert(maxima.end(), threads, *std::max_element(row, row + threads));
    }
    in_every_order([&] {
        OnDevice<T> in(x), sum(x.size()), maximum(x.size());
        launch(reduce_all<T>, blocks, threads, 0, in.p, sum.p, maximum.p);
        CHECK(sum.down() == sums);
        CHECK(maximum.down() == maxima);
    });
}

TEST_CASE("words: block_sum and block_max give every thread one number, in every order") {
    for (int threads : {32, 64, 96, 1024}) {
        check_reductions<float>(threads);
        check_reductions<double>(threads);
        check_reductions<int>(threads);
    }
}

TEST_CASE("words: block_sum adds as a butterfly does, to the bit, in every order") {
    const int threads = 96;
    std::vector<float> x(threads);
    for (int i = 0; i < threads; i++) x[i] = std::sin(i + 1.0f) * float(1 << i % 20);
    auto butterfly = [](std::vector<float> v) {        // as lane 0 of a warp of shuffles sees it
        for (int k = 16; k > 0; k /= 2) {
            const std::vector<float> old = v;
            for (int i = 0; i < 32; i++) v[i] = old[i] + old[i ^ k];
        }
        return v[0];
    };
    std::vector<float> warps(32, 0);
    for (int w = 0; w < 3; w++) warps[w] = butterfly({&x[32 * w], &x[32 * w] + 32});
    const float expected = butterfly(warps);
    CHECK(expected != std::accumulate(x.begin(), x.end(), 0.0f));      // the data can tell orders apart
    in_every_order([&] {
        OnDevice<float> in(x), sum(threads), maximum(threads);
        launch(reduce_all<float>, 1, threads, 0, in.p, sum.p, maximum.p);
        CHECK(sum.down() == std::vector<float>(threads, expected));
    });
}

TEST_CASE("words: one NaN makes the maximum NaN, wherever it is; -inf is a maximum") {
    for (int at : {0, 5, 31, 32, 63}) {
        std::vector<float> x(64, 1);
        x[at] = NAN;
        OnDevice<float> in(x), sum(64), maximum(64);
        launch(reduce_all<float>, 1, 64, 0, in.p, sum.p, maximum.p);
        for (float m : maximum.down()) CHECK(std::isnan(m));
    }
    OnDevice<float> in(std::vector<float>(64, -INFINITY)), sum(64), maximum(64);
    launch(reduce_all<float>, 1, 64, 0, in.p, sum.p, maximum.p);
    CHECK(maximum.down() == std::vector<float>(64, -INFINITY));
}

__global__ void warp_words(int *out) {                 // five answers a thread
    const int t = threadIdx.x;
    int *mine = out + 5 * t;
    for (int round = 0; round < 2; round++) {
        mine[0] = warp_sum(t);
        mine[1] = warp_max(t);
        mine[2] = shuffle(t, 3);
        mine[3] = shuffle_down(t, 4);
        mine[4] = shuffle_xor(t, 5);
        if (t >= 32) mine[0] = warp_sum(t);            // a whole warp may do more than another
    }
}

TEST_CASE("words: the warp's words stay in their warp, in every order") {
    in_every_order([] {
        OnDevice<int> out(5 * 64);
        launch(warp_words, 1, 64, 0, out.p);
        const auto v = out.down();
        for (int t = 0; t < 64; t++) {
            const int base = t / 32 * 32, lane = t % 32;
            CHECK(v[5 * t] == 32 * base + 31 * 16);
            CHECK(v[5 * t + 1] == base + 31);
            CHECK(v[5 * t + 2] == base + 3);
            CHECK(v[5 * t + 3] == (lane + 4 < 32 ? t + 4 : t));        // beyond the warp: one's own
            CHECK(v[5 * t + 4] == (t ^ 5));
        }
    });
}

__global__ void least_and_largest(float *out) {
    out[0] = min(3, -2);
    out[1] = max(3u, 5);
    out[2] = max(NAN, 1.0f);
    out[3] = min(2.0, 1.5f);
}

TEST_CASE("words: min and max take CUDA's mixtures of types") {
    static_assert(std::is_same_v<decltype(min(1, 2u)), unsigned>);
    static_assert(std::is_same_v<decltype(max(1L, 2L)), long>);
    static_assert(std::is_same_v<decltype(max(1.0f, 2.0)), double>);
    OnDevice<float> out(4);
    launch(least_and_largest, 1, 1, 0, out.p);
    CHECK(out.down() == std::vector<float>{-2, 5, 1, 1.5});            // as fmin and fmax: NaN loses
}

// -------------------------------------------------------------------------------------- [3] shared memory
__global__ void rotate(int *x, int blocks_of_numbers) {      // x_i = x_(i+1) of each block of numbers
    SHARED(int, row);
    for (int k = 0; k < blocks_of_numbers; k++, x += blockDim.x) {
        row[threadIdx.x] = x[threadIdx.x];
        barrier();
        x[threadIdx.x] = row[(threadIdx.x + 1) % blockDim.x];
        barrier();                                     // before row is filled again
    }
}

TEST_CASE("words: shared memory is the block's, and a barrier orders it, in every order") {
    std::vector<int> x(4 * 192), expected;
    std::iota(x.begin(), x.end(), 0);
    for (int i = 0; i < (int)x.size(); i++) expected.push_back(i / 192 * 192 + (i + 1) % 192);
    in_every_order([&] {
        OnDevice<int> on_device(x);
        launch(rotate, 1, 192, 192 * sizeof(int), on_device.p, 4);
        CHECK(on_device.down() == expected);
    });
}

// --------------------------------------------------------------------------------------------- [4] memory
TEST_CASE("words: copies, zeros, and a device that is full") {
    OnDevice<int> a(std::vector<int>{1, 2, 3, 4}), b(4);
    copy_device(b.p, a.p, 16);
    device_zero(b.p + 1, 8);
    CHECK(b.down() == std::vector<int>{1, 0, 0, 4});
    CHECK(device_owns(a.p, 16));
    CHECK(aligned(a.p, 256));
    CHECK(device_alloc(size_t(1) << 60) == nullptr);
    device_synchronise();                              // being full is no error that stays
    CHECK(device_missing() == nullptr);
    CHECK(device_memory() > size_t(1) << 30);
    void *nothing = device_alloc(0);
    CHECK(nothing != nullptr);
    device_free(nothing);
    device_free(nullptr);
}

__global__ void increase(int *x, int n) {
    for (int i = threadIdx.x; i < n; i += blockDim.x) x[i]++;
}

TEST_CASE("words: what was copied up may be overwritten at once; copies and kernels keep their order") {
    const int n = 1 << 20;
    std::vector<int> host(n);
    OnDevice<int> x(host);
    for (int round = 0; round < 4; round++) {
        std::fill(host.begin(), host.end(), round);
        launch(increase, 1, 1024, 0, x.p, n);          // must not see the numbers that come next
        copy_up(x.p, host.data(), n * sizeof(int));
        std::fill(host.begin(), host.end(), -1);
        launch(increase, 1, 1024, 0, x.p, n);
        CHECK(x.down() == std::vector<int>(n, round + 1));
    }
}

// --------------------------------------------------------------------------------------------- [5] errors
// Ends the program, as it must: tests/tools/gpu_check.sh runs it alone and reads what it says.
__global__ void writes_to_nowhere(int *p) { *p = 1; }

TEST_CASE("words: a kernel that writes to nowhere ends the program" * doctest::skip()) {
    launch(writes_to_nowhere, 1, 1, 0, static_cast<int *>(nullptr));
    device_synchronise();
    FAIL("nothing was noticed");
}
}   // namespace

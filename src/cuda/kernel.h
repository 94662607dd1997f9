// kernel.h: what the kernels of all ops share: who computes what, and a product of matrices by tiles.
#pragma once
#include <algorithm>

#include "src/cuda/cuda_on_cpu.h"
#include "src/tensor/kernels.h"

#ifndef __CUDACC__
void check_argument(const Call &);     // src/cuda/device.cu: every View must be the device's memory
#endif

// Elementwise: thread number element() of the grid owns one element. Rows: a block owns a row, and its
// threads share the columns:  for (int j = threadIdx.x; j < d; j += blockDim.x).
constexpr int per_block = 128;
static inline long blocks_for(long elements) { return (elements + per_block - 1) / per_block; }
static inline __device__ long element() { return (long)blockIdx.x * blockDim.x + threadIdx.x; }

static inline int threads_for(long width) {                // of a row's block: whole warps, 32 to 256 threads
    return (int)std::clamp((width + 31) / 32 * 32, 32l, 256l);
}

static inline __device__ real dot(const real *a, const real *b, int n) {
    real sum = 0;
    for (int i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

// A block computes tile x tile outputs  sum_k a(i, k) b(k, j),  one a thread: row i = tile_row(), column j =
// tile_column(). Step by step it brings a tile of a and a tile of b to shared memory, each number read once
// for `tile` uses, 0 outside. The sum runs over k in order, so that it does not depend on the other rows.
constexpr int tile = 16;
constexpr size_t tile_bytes = 2 * tile * tile * sizeof(real);
static const dim3 tile_block(tile, tile);
static inline long tiles_for(long n) { return (n + tile - 1) / tile; }
static inline dim3 tile_grid(long rows, long columns, int matrices = 1) {
    return dim3((unsigned)tiles_for(rows), (unsigned)tiles_for(columns), (unsigned)matrices);
}
static inline __device__ long tile_row() { return (long)blockIdx.x * tile + threadIdx.y; }
static inline __device__ long tile_column() { return (long)blockIdx.y * tile + threadIdx.x; }

template <class A, class B>
static inline __device__ real tile_product(long i, long rows, long j, long columns, long inner, A a, B b) {
    SHARED(real, tile_a);
    real *const tile_b = tile_a + tile * tile;
    const int x = threadIdx.x, y = threadIdx.y;
    real sum = 0;
    for (long first = 0; first < inner; first += tile) {
        tile_a[y * tile + x] = i < rows && first + x < inner ? a(i, first + x) : 0;
        tile_b[y * tile + x] = j < columns && first + y < inner ? b(first + y, j) : 0;
        barrier();
        for (int k = 0; k < tile; k++) sum += tile_a[y * tile + k] * tile_b[k * tile + x];
        barrier();
    }
    return sum;
}

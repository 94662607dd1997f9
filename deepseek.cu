// deepseek.cu: the ops with a gradient, on CUDA.
//
// The same ops as src/ops.cpp, under the same names and in the same order: read an op there first. There
// stand its formula, its wrapper and the derivation of its backward; here each backward has the one line of
// the forward that it reverses. A forward is the kernel name_fwd, a backward the kernel name_bwd (or one for
// each gradient, where they need different owners), and gpu::name_forward and gpu::name_backward launch them.
//
// What this is: the plain rendition. One thread computes an output element, or one block a row where a row is
// reduced, and the loops read like the CPU's. It repeats its own bits: there are no atomics on numbers, and a
// sum over rows has one owner that walks them in order. The host is never waited for: what only the device
// knows (how many rows an expert got, which keys a query sees) decides nothing about a launch; the grid is
// the fixed bound, and blocks without work return. What this is not: fast. The words in which kernels are
// written (launch, SHARED, barrier, block_sum, ...) are those of src/cuda_on_cpu.h, which also runs this file
// where there is no GPU.
//
//   [1] rows by index: gather_rows, combine, concat, slice, pick
//   [2] products: matmul, matmul_heads, matmul_grouped
//   [3] pointwise: weighted_sum, unary, binary, swiglu, scale_rows
//   [4] norms: rmsnorm, softmax, normalize_rows
//   [5] position and attention: rope, attention
//   [6] the one loss: logp
#include <algorithm>

#include "deepseek.h"
#include "src/cuda_on_cpu.h"
#include "src/twins.h"

#ifndef __CUDACC__
void check_argument(const Call &);     // src/device.cu: every View must be the device's memory
#endif

// ----------------------------------------------------------------------------------------- who computes what
// Elementwise: thread number element() of the grid owns one element. Rows: a block owns a row, and its
// threads share the columns:  for (int j = threadIdx.x; j < d; j += blockDim.x).
constexpr int per_block = 128;
static long blocks_for(long elements) { return (elements + per_block - 1) / per_block; }
static __device__ long element() { return (long)blockIdx.x * blockDim.x + threadIdx.x; }

static int threads_for(long width) {                     // of a row's block: whole warps, 32 to 256 threads
    return (int)std::clamp((width + 31) / 32 * 32, 32l, 256l);
}

static __device__ real dot(const real *a, const real *b, int n) {
    real sum = 0;
    for (int i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

// ========================================================================================= [1] rows by index

// ---------------------------------------------------------------- gather_rows:  y_i = x[ids_i]
static __global__ void gather_rows_fwd(const __grid_constant__ Call c) {
    const auto &[x, ids] = c.inputs<2>();
    const View &y = c.out[0];
    const long e = element(), i = e / x.width(), j = e % x.width();
    if (e < y.numel()) y[e] = x.row(ids.id(i))[j];
}

void gpu::gather_rows_forward(const Call &c) {
    launch(gather_rows_fwd, blocks_for(c.out[0].numel()), per_block, 0, c);
}

// y_i = x[ids_i]:  the first position that names a row sums all of them, in order.
static __global__ void gather_rows_bwd(const __grid_constant__ Call c) {
    const View &ids = c.in[1], &dx = c.din[0], &dy = c.dout[0];
    const long i = blockIdx.x, r = ids.id(i);
    int named_before = 0;
    for (long e = threadIdx.x; e < i; e += blockDim.x) named_before |= ids.id(e) == r;
    if (block_max(named_before)) return;
    for (long e = i; e < ids.numel(); e++) {
        if (ids.id(e) != r) continue;
        for (int j = threadIdx.x; j < dx.width(); j += blockDim.x) dx.row(r)[j] += dy.row(e)[j];
    }
}

// With slot, the inverse of ids, row r knows its own positions.
static __global__ void gather_rows_bwd_slot(const __grid_constant__ Call c) {
    const View &slot = c.in[2], &dx = c.din[0], &dy = c.dout[0];
    const long e = element(), r = e / dx.width(), j = e % dx.width();
    const int K = slot.width();
    if (e >= dx.numel()) return;
    for (int k = 0; k < K; k++)
        if (slot.id(r * K + k) >= 0) dx[e] += dy.row(slot.id(r * K + k))[j];
}

void gpu::gather_rows_backward(const Call &c) {
    if (c.in[2]) launch(gather_rows_bwd_slot, blocks_for(c.din[0].numel()), per_block, 0, c);
    else launch(gather_rows_bwd, c.in[1].numel(), threads_for(c.din[0].width()), 0, c);
}

// ---------------------------------------------------------------- combine:  z_n = sum_k g_nk y[slot_nk]
static __global__ void combine_fwd(const __grid_constant__ Call c) {
    const auto &[y, slot, g] = c.inputs<3>();
    const View &z = c.out[0];
    const int d = y.width(), K = slot.width();
    const long e = element(), n = e / d, j = e % d;
    if (e >= z.numel()) return;
    z[e] = 0;
    for (int k = 0; k < K; k++)
        if (slot.id(n * K + k) >= 0) z[e] += g.row(n)[k] * y.row(slot.id(n * K + k))[j];
}

void gpu::combine_forward(const Call &c) {
    launch(combine_fwd, blocks_for(c.out[0].numel()), per_block, 0, c);
}

// z_n = sum_k g_nk y[slot_nk]:  a block for each (n, k), to which its slot belongs alone.
static __global__ void combine_bwd(const __grid_constant__ Call c) {
    const auto &[y, slot, g] = c.inputs<3>();
    const View &dy = c.din[0], &dg = c.din[2], &dz = c.dout[0];
    const long nk = blockIdx.x, n = nk / slot.width(), s = slot.id(nk);
    if (s < 0) return;
    real sum = 0;
    for (int j = threadIdx.x; j < y.width(); j += blockDim.x) {
        if (dy) dy.row(s)[j] += g[nk] * dz.row(n)[j];
        sum += y.row(s)[j] * dz.row(n)[j];
    }
    sum = block_sum(sum);
    if (dg && threadIdx.x == 0) dg[nk] += sum;
}

void gpu::combine_backward(const Call &c) {
    launch(combine_bwd, c.in[1].numel(), threads_for(c.in[0].width()), 0, c);
}

// ---------------------------------------------------------------- concat:  y = [a; b]
static __global__ void concat_fwd(const __grid_constant__ Call c) {
    const auto &[a, b] = c.inputs<2>();
    const View &y = c.out[0];
    const long share = a.rows() / b.rows(), e = element(), i = e / y.width(), j = e % y.width();
    if (e < y.numel()) y[e] = j < a.width() ? a.row(i)[j] : b.row(i / share)[j - a.width()];
}

void gpu::concat_forward(const Call &c) {
    launch(concat_fwd, blocks_for(c.out[0].numel()), per_block, 0, c);
}

// y = [a; b]:  da and db are the parts of dy, db summed over the heads that share it.
// One thread has column j of both, for they may be the same tensor.
static __global__ void concat_bwd(const __grid_constant__ Call c) {
    const View &da = c.din[0], &db = c.din[1], &dy = c.dout[0];
    const int p = c.in[0].width(), q = c.in[1].width();
    const long share = c.in[0].rows() / c.in[1].rows(), i = blockIdx.x;
    for (int j = threadIdx.x; j < p || j < q; j += blockDim.x)
        for (long h = i * share; h < (i + 1) * share; h++) {
            if (da && j < p) da.row(h)[j] += dy.row(h)[j];
            if (db && j < q) db.row(i)[j] += dy.row(h)[p + j];
        }
}

void gpu::concat_backward(const Call &c) {
    launch(concat_bwd, c.in[1].rows(), threads_for(c.dout[0].width()), 0, c);
}

// ---------------------------------------------------------------- slice:  y = x[from : from+n] on an axis
// Where element e of y stands in x, both seen as (outer, size of the axis, inner).
static __device__ long place_in_x(const Call &c, long e) {
    long inner = 1;
    for (int i = c.a.axis + 1; i < c.in[0].shape.rank; i++) inner *= c.in[0].shape[i];
    const long block = c.a.n * inner, stride = c.in[0].shape[c.a.axis] * inner;
    return e / block * stride + c.a.from * inner + e % block;
}

static __global__ void slice_fwd(const __grid_constant__ Call c) {
    const View &x = c.in[0], &y = c.out[0];
    const long e = element();
    if (e < y.numel()) y[e] = x[place_in_x(c, e)];
}

void gpu::slice_forward(const Call &c) {
    launch(slice_fwd, blocks_for(c.out[0].numel()), per_block, 0, c);
}

// y = x[from : from+n]:  dy returns to where it came from.
static __global__ void slice_bwd(const __grid_constant__ Call c) {
    const View &dx = c.din[0], &dy = c.dout[0];
    const long e = element();
    if (e < dy.numel()) dx[place_in_x(c, e)] += dy[e];
}

void gpu::slice_backward(const Call &c) {
    launch(slice_bwd, blocks_for(c.dout[0].numel()), per_block, 0, c);
}

// ---------------------------------------------------------------- pick:  y_nk = s[n, idx_nk]
static __global__ void pick_fwd(const __grid_constant__ Call c) {
    const auto &[s, idx] = c.inputs<2>();
    const View &y = c.out[0];
    const long e = element();
    if (e < y.numel()) y[e] = s.row(e / idx.width())[idx.id(e)];
}

void gpu::pick_forward(const Call &c) {
    launch(pick_fwd, blocks_for(c.out[0].numel()), per_block, 0, c);
}

// y_nk = s[n, idx_nk]:  a thread has a row, in which an index may stand twice.
static __global__ void pick_bwd(const __grid_constant__ Call c) {
    const View &idx = c.in[1], &ds = c.din[0], &dy = c.dout[0];
    const int K = idx.width();
    const long n = element();
    if (n >= dy.rows()) return;
    for (int k = 0; k < K; k++) ds.row(n)[idx.id(n * K + k)] += dy.row(n)[k];
}

void gpu::pick_backward(const Call &c) {
    launch(pick_bwd, blocks_for(c.dout[0].rows()), per_block, 0, c);
}

// ============================================================================================== [2] products

// A block computes tile x tile outputs  sum_k a(i, k) b(k, j),  one a thread: row i = tile_row(), column j =
// tile_column(). Step by step it brings a tile of a and a tile of b to shared memory, each number read once
// for `tile` uses, 0 outside. The sum runs over k in order, so that it does not depend on the other rows.
constexpr int tile = 16;
constexpr size_t tile_bytes = 2 * tile * tile * sizeof(real);
static const dim3 tile_block(tile, tile);
static long tiles_for(long n) { return (n + tile - 1) / tile; }
static dim3 tile_grid(long rows, long columns, int matrices = 1) {
    return dim3((unsigned)tiles_for(rows), (unsigned)tiles_for(columns), (unsigned)matrices);
}
static __device__ long tile_row() { return (long)blockIdx.x * tile + threadIdx.y; }
static __device__ long tile_column() { return (long)blockIdx.y * tile + threadIdx.x; }

template <class A, class B>
static __device__ real tile_product(long i, long rows, long j, long columns, long inner, A a, B b) {
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

// ---------------------------------------------------------------- matmul:  y = x W^T
static __global__ void matmul_fwd(const __grid_constant__ Call c) {
    const View x = c.in[0], W = c.in[1], y = c.out[0];
    const long i = tile_row(), o = tile_column();
    const real sum = tile_product(i, y.rows(), o, y.width(), x.width(),
                                  [&](long i, long j) { return x.row(i)[j]; },
                                  [&](long j, long o) { return W.row(o)[j]; });
    if (i < y.rows() && o < y.width()) y.row(i)[o] = sum;
}

void gpu::matmul_forward(const Call &c) {
    launch(matmul_fwd, tile_grid(c.out[0].rows(), c.out[0].width()), tile_block, tile_bytes, c);
}

// y_io = sum_j x_ij W_oj:  dx = dy W
static __global__ void matmul_bwd_x(const __grid_constant__ Call c) {
    const View W = c.in[1], dx = c.din[0], dy = c.dout[0];
    const long i = tile_row(), j = tile_column();
    const real sum = tile_product(i, dx.rows(), j, dx.width(), dy.width(),
                                  [&](long i, long o) { return dy.row(i)[o]; },
                                  [&](long o, long j) { return W.row(o)[j]; });
    if (i < dx.rows() && j < dx.width()) dx.row(i)[j] += sum;
}

// and dW = dy^T x
static __global__ void matmul_bwd_W(const __grid_constant__ Call c) {
    const View x = c.in[0], dW = c.din[1], dy = c.dout[0];
    const long o = tile_row(), j = tile_column();
    const real sum = tile_product(o, dW.rows(), j, dW.width(), x.rows(),
                                  [&](long o, long i) { return dy.row(i)[o]; },
                                  [&](long i, long j) { return x.row(i)[j]; });
    if (o < dW.rows() && j < dW.width()) dW.row(o)[j] += sum;
}

void gpu::matmul_backward(const Call &c) {
    const View dx = c.din[0], dW = c.din[1];
    if (dx) launch(matmul_bwd_x, tile_grid(dx.rows(), dx.width()), tile_block, tile_bytes, c);
    if (dW) launch(matmul_bwd_W, tile_grid(dW.rows(), dW.width()), tile_block, tile_bytes, c);
}

// ---------------------------------------------------------------- matmul_heads:  y_i = W_i x_i, head by head
// blockIdx.z is the head h; its rows are h, h + n_h, h + 2 n_h, ...

// Element (o, j) of head h's matrix as the formula uses it, transposed or not.
static __device__ long at(const Call &c, int h, long o, long j) {
    const Shape &W = c.in[1].shape;
    return (long)h * W[1] * W[2] + (c.a.transpose ? j * W[2] + o : o * W[2] + j);
}

static __global__ void matmul_heads_fwd(const __grid_constant__ Call c) {
    const View x = c.in[0], W = c.in[1], y = c.out[0];
    const int h = blockIdx.z, n_h = W.shape[0];
    const long i = tile_row(), o = tile_column(), rows = y.rows() / n_h;
    const real sum = tile_product(i, rows, o, y.width(), x.width(),
                                  [&](long i, long j) { return x.row(i * n_h + h)[j]; },
                                  [&](long j, long o) { return W[at(c, h, o, j)]; });
    if (i < rows && o < y.width()) y.row(i * n_h + h)[o] = sum;
}

void gpu::matmul_heads_forward(const Call &c) {
    const View y = c.out[0];
    const int n_h = c.in[1].shape[0];
    launch(matmul_heads_fwd, tile_grid(y.rows() / n_h, y.width(), n_h), tile_block, tile_bytes, c);
}

// y_o = sum_j W_oj x_j in each head:  dx = dy W
static __global__ void matmul_heads_bwd_x(const __grid_constant__ Call c) {
    const View W = c.in[1], dx = c.din[0], dy = c.dout[0];
    const int h = blockIdx.z, n_h = W.shape[0];
    const long i = tile_row(), j = tile_column(), rows = dx.rows() / n_h;
    const real sum = tile_product(i, rows, j, dx.width(), dy.width(),
                                  [&](long i, long o) { return dy.row(i * n_h + h)[o]; },
                                  [&](long o, long j) { return W[at(c, h, o, j)]; });
    if (i < rows && j < dx.width()) dx.row(i * n_h + h)[j] += sum;
}

// and dW = dy^T x, over the rows of the head
static __global__ void matmul_heads_bwd_W(const __grid_constant__ Call c) {
    const View x = c.in[0], dW = c.din[1], dy = c.dout[0];
    const int h = blockIdx.z, n_h = c.in[1].shape[0];
    const long o = tile_row(), j = tile_column();
    const real sum = tile_product(o, dy.width(), j, x.width(), x.rows() / n_h,
                                  [&](long o, long i) { return dy.row(i * n_h + h)[o]; },
                                  [&](long i, long j) { return x.row(i * n_h + h)[j]; });
    if (o < dy.width() && j < x.width()) dW[at(c, h, o, j)] += sum;
}

void gpu::matmul_heads_backward(const Call &c) {
    const View dx = c.din[0], dW = c.din[1];
    const int n_h = c.in[1].shape[0], a = c.in[0].width(), b = c.dout[0].width();
    if (dx) launch(matmul_heads_bwd_x, tile_grid(dx.rows() / n_h, a, n_h), tile_block, tile_bytes, c);
    if (dW) launch(matmul_heads_bwd_W, tile_grid(b, a, n_h), tile_block, tile_bytes, c);
}

// ------------------------------------------------------------- matmul_grouped:  rows of expert e times W_e^T
// How many rows an expert has only the device knows. A tile holds rows of one expert, and the unused rows
// count as those of one more, E: so M rows make at most M / tile + E + 1 tiles. A block finds its own.
struct ExpertTile {
    int e;
    long row, end;                                       // this thread's row, and the end of the expert's
    __device__ ExpertTile(const View &offsets, long M) {
        const int E = (int)offsets.numel() - 1;
        long t = blockIdx.x;
        for (e = 0; e <= E; e++) {
            const long first = offsets.id(e);
            end = e < E ? offsets.id(e + 1) : M;
            const long tiles = (end - first + tile - 1) / tile;
            row = first + t * tile + threadIdx.y;
            if (t < tiles) return;
            t -= tiles;
        }
    }
    __device__ bool none(int E) const { return e > E; }
};
static dim3 expert_grid(long M, int E, long columns) {
    return dim3((unsigned)(M / tile + E + 1), (unsigned)tiles_for(columns), 1);
}

static __global__ void matmul_grouped_fwd(const __grid_constant__ Call c) {
    const View x = c.in[0], W = c.in[1], offsets = c.in[2], y = c.out[0];
    const int E = W.shape[0], b = W.shape[1], a = W.shape[2];
    const ExpertTile mine(offsets, x.rows());
    if (mine.none(E)) return;
    const long i = mine.row, o = tile_column(), W_e = (long)mine.e * b;
    const real sum = tile_product(i, mine.end, o, b, mine.e < E ? a : 0,
                                  [&](long i, long j) { return x.row(i)[j]; },
                                  [&](long j, long o) { return W.row(W_e + o)[j]; });
    if (i < mine.end && o < b) y.row(i)[o] = sum;
}

void gpu::matmul_grouped_forward(const Call &c) {
    const View x = c.in[0], W = c.in[1];
    launch(matmul_grouped_fwd, expert_grid(x.rows(), W.shape[0], W.shape[1]), tile_block, tile_bytes, c);
}

// As matmul's, with the rows and the matrix of each expert.
static __global__ void matmul_grouped_bwd_x(const __grid_constant__ Call c) {
    const View W = c.in[1], offsets = c.in[2], dx = c.din[0], dy = c.dout[0];
    const int E = W.shape[0], b = W.shape[1], a = W.shape[2];
    const ExpertTile mine(offsets, dx.rows());
    if (mine.e >= E) return;
    const long i = mine.row, j = tile_column(), W_e = (long)mine.e * b;
    const real sum = tile_product(i, mine.end, j, a, b,
                                  [&](long i, long o) { return dy.row(i)[o]; },
                                  [&](long o, long j) { return W.row(W_e + o)[j]; });
    if (i < mine.end && j < a) dx.row(i)[j] += sum;
}

static __global__ void matmul_grouped_bwd_W(const __grid_constant__ Call c) {
    const View x = c.in[0], W = c.in[1], offsets = c.in[2], dW = c.din[1], dy = c.dout[0];
    const int e = blockIdx.z, b = W.shape[1], a = W.shape[2];
    const long o = tile_row(), j = tile_column(), first = offsets.id(e);
    const real sum = tile_product(o, b, j, a, offsets.id(e + 1) - first,
                                  [&](long o, long i) { return dy.row(first + i)[o]; },
                                  [&](long i, long j) { return x.row(first + i)[j]; });
    if (o < b && j < a) dW.row((long)e * b + o)[j] += sum;
}

void gpu::matmul_grouped_backward(const Call &c) {
    const View x = c.in[0], W = c.in[1];
    const int E = W.shape[0], b = W.shape[1], a = W.shape[2];
    if (c.din[0]) launch(matmul_grouped_bwd_x, expert_grid(x.rows(), E, a), tile_block, tile_bytes, c);
    if (c.din[1]) launch(matmul_grouped_bwd_W, tile_grid(b, a, E), tile_block, tile_bytes, c);
}

// ============================================================================================= [3] pointwise

// ------------------------------------------------------------ weighted_sum:  y = a sum_i w_i x_i, w constant
// In two steps: a block adds up `span` numbers, then one block adds what the blocks found.
constexpr long span = 4096;

static __global__ void weighted_sum_parts(const __grid_constant__ Call c, double *part) {
    const auto &[x, w] = c.inputs<2>();
    const long first = blockIdx.x * span, end = first + span < x.numel() ? first + span : x.numel();
    double sum = 0;
    for (long i = first + threadIdx.x; i < end; i += blockDim.x) sum += (double)x[i] * (w ? w[i] : 1);
    sum = block_sum(sum);
    if (threadIdx.x == 0) part[blockIdx.x] = sum;
}

static __global__ void weighted_sum_fwd(const __grid_constant__ Call c, const double *part, long parts) {
    double sum = 0;
    for (long i = threadIdx.x; i < parts; i += blockDim.x) sum += part[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) c.out[0][0] = (real)(c.a.a * sum);
}

void gpu::weighted_sum_forward(const Call &c) {
    const long n = c.in[0].numel(), parts = std::max(1l, (n + span - 1) / span);
    Scratch<double> part(cuda_device, parts);
    launch(weighted_sum_parts, parts, threads_for(n), 0, c, part.p);
    launch(weighted_sum_fwd, 1, threads_for(parts), 0, c, (const double *)part.p, parts);
}

// y = a sum w_i x_i:  dx_i += a w_i dy
static __global__ void weighted_sum_bwd(const __grid_constant__ Call c) {
    const auto &[x, w] = c.inputs<2>();
    const View &dx = c.din[0];
    const long i = element();
    if (i < x.numel()) dx[i] += (real)c.a.a * (w ? w[i] : 1) * c.dout[0][0];
}

void gpu::weighted_sum_backward(const Call &c) {
    if (c.din[0]) launch(weighted_sum_bwd, blocks_for(c.in[0].numel()), per_block, 0, c);
}

// ---------------------------------------------------------------- unary:  y = f(ax + c)
static __global__ void unary_fwd(const __grid_constant__ Call c) {
    const View &x = c.in[0], &y = c.out[0];
    const long i = element();
    if (i < y.numel()) y[i] = unary_f(c.a.f, (real)c.a.a * x[i] + (real)c.a.c);
}

void gpu::unary_forward(const Call &c) { launch(unary_fwd, blocks_for(c.out[0].numel()), per_block, 0, c); }

// y = f(u), u = ax + c:  dx += a f'(u) dy
static __global__ void unary_bwd(const __grid_constant__ Call c) {
    const View &x = c.in[0], &y = c.out[0], &dx = c.din[0], &dy = c.dout[0];
    const real a = (real)c.a.a;
    const long i = element();
    if (i < y.numel()) dx[i] += a * unary_df(c.a.f, a * x[i] + (real)c.a.c, y[i]) * dy[i];
}

void gpu::unary_backward(const Call &c) { launch(unary_bwd, blocks_for(c.out[0].numel()), per_block, 0, c); }

// ---------------------------------------------------------------- binary:  z = f(x, y), equal shapes
static __global__ void binary_fwd(const __grid_constant__ Call c) {
    const auto &[x, y] = c.inputs<2>();
    const View &z = c.out[0];
    const long i = element();
    if (i < z.numel()) z[i] = binary_f(c.a.f, x[i], y[i]);
}

void gpu::binary_forward(const Call &c) { launch(binary_fwd, blocks_for(c.out[0].numel()), per_block, 0, c); }

// z = f(x, y):  dx += f_x dz  and  dy += f_y dz
static __global__ void binary_bwd(const __grid_constant__ Call c) {
    const auto &[x, y] = c.inputs<2>();
    const auto &[dx, dy] = c.input_gradients<2>();
    const View &dz = c.dout[0];
    const long i = element();
    if (i >= dz.numel()) return;
    real f_x, f_y;
    binary_df(c.a.f, x[i], y[i], f_x, f_y);
    if (dx) dx[i] += f_x * dz[i];
    if (dy) dy[i] += f_y * dz[i];
}

void gpu::binary_backward(const Call &c) {
    launch(binary_bwd, blocks_for(c.out[0].numel()), per_block, 0, c);
}

// ---------------------------------------------------------------- swiglu:  y = silu(a) b
static __global__ void swiglu_fwd(const __grid_constant__ Call c) {
    const auto &[a, b] = c.inputs<2>();
    const View &y = c.out[0];
    const long i = element();
    if (i < y.numel()) y[i] = a[i] * sigmoid_of(a[i]) * b[i];
}

void gpu::swiglu_forward(const Call &c) { launch(swiglu_fwd, blocks_for(c.out[0].numel()), per_block, 0, c); }

// y = a s b, s = sigmoid(a):  da += s (1 + a (1 - s)) b dy  and  db += a s dy
static __global__ void swiglu_bwd(const __grid_constant__ Call c) {
    const auto &[a, b] = c.inputs<2>();
    const auto &[da, db] = c.input_gradients<2>();
    const View &dy = c.dout[0];
    const long i = element();
    if (i >= dy.numel()) return;
    const real s = sigmoid_of(a[i]);
    if (da) da[i] += s * (1 + a[i] * (1 - s)) * b[i] * dy[i];
    if (db) db[i] += a[i] * s * dy[i];
}

void gpu::swiglu_backward(const Call &c) {
    launch(swiglu_bwd, blocks_for(c.out[0].numel()), per_block, 0, c);
}

// ---------------------------------------------------------------- scale_rows:  y_i = s_i x_i
static __global__ void scale_rows_fwd(const __grid_constant__ Call c) {
    const auto &[x, s] = c.inputs<2>();
    const View &y = c.out[0];
    const long e = element();
    if (e < y.numel()) y[e] = s[e / x.width()] * x[e];
}

void gpu::scale_rows_forward(const Call &c) {
    launch(scale_rows_fwd, blocks_for(c.out[0].numel()), per_block, 0, c);
}

// y_i = s_i x_i:  dx_i += s_i dy_i  and  ds_i += <x_i, dy_i>
static __global__ void scale_rows_bwd(const __grid_constant__ Call c) {
    const auto &[x, s] = c.inputs<2>();
    const auto &[dx, ds] = c.input_gradients<2>();
    const View &dy = c.dout[0];
    const long i = blockIdx.x;
    real sum = 0;
    for (int j = threadIdx.x; j < x.width(); j += blockDim.x) {
        if (dx) dx.row(i)[j] += s[i] * dy.row(i)[j];
        sum += x.row(i)[j] * dy.row(i)[j];
    }
    sum = block_sum(sum);
    if (ds && threadIdx.x == 0) ds[i] += sum;
}

void gpu::scale_rows_backward(const Call &c) {
    launch(scale_rows_bwd, c.in[0].rows(), threads_for(c.in[0].width()), 0, c);
}

// ================================================================================================= [4] norms

// -------------------------------------------------------- rmsnorm:  y = x r g,  r = 1 / sqrt(mean x^2 + eps)
static __global__ void rmsnorm_fwd(const __grid_constant__ Call c) {
    const auto &[x, g] = c.inputs<2>();
    const auto &[y, r] = c.outputs<2>();
    const long i = blockIdx.x;
    const int d = x.width();
    real sum = 0;
    for (int j = threadIdx.x; j < d; j += blockDim.x) sum += x.row(i)[j] * x.row(i)[j];
    const real r_i = 1 / sqrt(block_sum(sum) / d + (real)c.a.eps);
    for (int j = threadIdx.x; j < d; j += blockDim.x) y.row(i)[j] = x.row(i)[j] * r_i * (g ? g[j] : 1);
    if (threadIdx.x == 0) r[i] = r_i;
}

void gpu::rmsnorm_forward(const Call &c) {
    launch(rmsnorm_fwd, c.in[0].rows(), threads_for(c.in[0].width()), 0, c);
}

// y_j = g_j r x_j and dr/dx_j = -r^3 x_j / d:  dx_j += r (g_j dy_j - x_j r^2/d sum_k g_k dy_k x_k)
static __global__ void rmsnorm_bwd(const __grid_constant__ Call c) {
    const auto &[x, g] = c.inputs<2>();
    const View &r = c.out[1], &dx = c.din[0], &dy = c.dout[0];
    const long i = blockIdx.x;
    const int d = x.width();
    real dot = 0;
    for (int j = threadIdx.x; j < d; j += blockDim.x) dot += (g ? g[j] : 1) * dy.row(i)[j] * x.row(i)[j];
    const real pull = r[i] * r[i] / d * block_sum(dot);
    for (int j = threadIdx.x; j < d; j += blockDim.x)
        dx.row(i)[j] += r[i] * ((g ? g[j] : 1) * dy.row(i)[j] - x.row(i)[j] * pull);
}

// dg_j += sum over rows of r x_j dy_j
static __global__ void rmsnorm_bwd_g(const __grid_constant__ Call c) {
    const View &x = c.in[0], &r = c.out[1], &dg = c.din[1], &dy = c.dout[0];
    const long j = element();
    if (j >= x.width()) return;
    for (long i = 0; i < x.rows(); i++) dg[j] += r[i] * x.row(i)[j] * dy.row(i)[j];
}

void gpu::rmsnorm_backward(const Call &c) {
    const int d = c.in[0].width();
    if (c.din[0]) launch(rmsnorm_bwd, c.in[0].rows(), threads_for(d), 0, c);
    if (c.din[1]) launch(rmsnorm_bwd_g, blocks_for(d), per_block, 0, c);
}

// ---------------------------------------------------------------- softmax:  y_j = exp(x_j) / sum_k exp(x_k)
static __global__ void softmax_fwd(const __grid_constant__ Call c) {
    const View &x = c.in[0], &y = c.out[0];
    const long i = blockIdx.x;
    const int d = x.width();
    real top = -INFINITY, sum = 0;
    for (int j = threadIdx.x; j < d; j += blockDim.x) top = Largest()(top, x.row(i)[j]);
    top = block_max(top);
    for (int j = threadIdx.x; j < d; j += blockDim.x) sum += y.row(i)[j] = exp_of(x.row(i)[j] - top);
    sum = block_sum(sum);
    for (int j = threadIdx.x; j < d; j += blockDim.x) y.row(i)[j] /= sum;
}

void gpu::softmax_forward(const Call &c) {
    launch(softmax_fwd, c.in[0].rows(), threads_for(c.in[0].width()), 0, c);
}

// dy_j/dx_k = y_j (1[j=k] - y_k):  dx_j += y_j (dy_j - sum_k y_k dy_k)
static __global__ void softmax_bwd(const __grid_constant__ Call c) {
    const View &y = c.out[0], &dx = c.din[0], &dy = c.dout[0];
    const long i = blockIdx.x;
    const int d = y.width();
    real dot = 0;
    for (int j = threadIdx.x; j < d; j += blockDim.x) dot += y.row(i)[j] * dy.row(i)[j];
    dot = block_sum(dot);
    for (int j = threadIdx.x; j < d; j += blockDim.x) dx.row(i)[j] += y.row(i)[j] * (dy.row(i)[j] - dot);
}

void gpu::softmax_backward(const Call &c) {
    launch(softmax_bwd, c.out[0].rows(), threads_for(c.out[0].width()), 0, c);
}

// ---------------------------------------------------------------- normalize_rows:  y = rho x / (sum x + eps)
static __global__ void normalize_rows_fwd(const __grid_constant__ Call c) {
    const View &x = c.in[0], &y = c.out[0];
    const long i = blockIdx.x;
    real sum = 0;
    for (int j = threadIdx.x; j < x.width(); j += blockDim.x) sum += x.row(i)[j];
    sum = block_sum(sum) + (real)c.a.eps;
    for (int j = threadIdx.x; j < x.width(); j += blockDim.x) y.row(i)[j] = (real)c.a.rho * x.row(i)[j] / sum;
}

void gpu::normalize_rows_forward(const Call &c) {
    launch(normalize_rows_fwd, c.in[0].rows(), threads_for(c.in[0].width()), 0, c);
}

// y_j = rho x_j / S, S = sum x + eps:  dx_j += (rho dy_j - sum_k dy_k y_k) / S
static __global__ void normalize_rows_bwd(const __grid_constant__ Call c) {
    const View &x = c.in[0], &y = c.out[0], &dx = c.din[0], &dy = c.dout[0];
    const long i = blockIdx.x;
    real sum = 0, dot = 0;
    for (int j = threadIdx.x; j < x.width(); j += blockDim.x) {
        sum += x.row(i)[j];
        dot += dy.row(i)[j] * y.row(i)[j];
    }
    sum = block_sum(sum) + (real)c.a.eps;
    dot = block_sum(dot);
    for (int j = threadIdx.x; j < x.width(); j += blockDim.x)
        dx.row(i)[j] += ((real)c.a.rho * dy.row(i)[j] - dot) / sum;
}

void gpu::normalize_rows_backward(const Call &c) {
    launch(normalize_rows_bwd, c.in[0].rows(), threads_for(c.in[0].width()), 0, c);
}

// ================================================================================ [5] position and attention

// -------------------------------------------------------------- rope:  pairs turned by the angle pos theta_i
// A block has the rows of one position.
// turn: for every pair a, b of a row, and the cosine and sine of its angle
template <class F> static __device__ void for_pairs(const Call &c, double sign, F turn) {
    const long t = blockIdx.x;
    const int n = c.in[0].shape[2], half = c.a.dims / 2;
    for (int i = threadIdx.x; i < half; i += blockDim.x) {
        const real angle = c.in[1].id(t) * rope_frequency(c.a.angle(), i);
        const real cosine = (real)c.a.amplitude * cos(angle);
        const real sine = (real)(c.a.amplitude * sign) * sin(angle);
        const int a = c.a.first + (c.a.pairing == rope_interleaved ? 2 * i : i);
        const int b = a + (c.a.pairing == rope_interleaved ? 1 : half);
        for (int h = 0; h < n; h++) turn(t * n + h, a, b, cosine, sine);
    }
}

// pass: for every channel j of a row that does not turn
template <class F> static __device__ void for_others(const Call &c, F pass) {
    const long t = blockIdx.x;
    const int n = c.in[0].shape[2], d = c.in[0].width(), first = c.a.first, last = first + c.a.dims;
    for (int j = threadIdx.x; j < d; j += blockDim.x)
        for (int h = 0; (j < first || j >= last) && h < n; h++) pass(t * n + h, j);
}

static __global__ void rope_fwd(const __grid_constant__ Call c) {
    const View x = c.in[0], y = c.out[0];
    for_others(c, [&](long r, int j) { y.row(r)[j] = x.row(r)[j]; });
    for_pairs(c, c.a.sign, [&](long r, int a, int b, real cosine, real sine) {
        const real p = x.row(r)[a], q = x.row(r)[b];
        y.row(r)[a] = p * cosine - q * sine;
        y.row(r)[b] = p * sine + q * cosine;
    });
}

void gpu::rope_forward(const Call &c) {
    launch(rope_fwd, c.in[1].numel(), threads_for(c.in[0].width()), 0, c);
}

// A rotation is turned back by its transpose, the rotation by minus the angle.
static __global__ void rope_bwd(const __grid_constant__ Call c) {
    const View dx = c.din[0], dy = c.dout[0];
    for_others(c, [&](long r, int j) { dx.row(r)[j] += dy.row(r)[j]; });
    for_pairs(c, -c.a.sign, [&](long r, int a, int b, real cosine, real sine) {
        const real p = dy.row(r)[a], q = dy.row(r)[b];
        dx.row(r)[a] += p * cosine - q * sine;
        dx.row(r)[b] += p * sine + q * cosine;
    });
}

void gpu::rope_backward(const Call &c) {
    launch(rope_bwd, c.in[1].numel(), threads_for(c.in[0].width()), 0, c);
}

// ------------------------------------------------------ attention:  o_t = sum_j softmax_j(scale q_t k_j) v_j
struct Seen {                                            // the keys that query row t = b T + t' sees
    const int *list;
    int lo, n;
    __device__ Seen(const Call &c, long t) {
        const View &where = c.in[3];
        list = c.a.lists ? &where.id(t * where.width()) : nullptr;
        lo = c.a.lists ? 0 : where.id(2 * t);
        n = c.a.lists ? where.width() : where.id(2 * t + 1) - lo + 1;
    }
    __device__ int operator[](int i) const { return list ? list[i] : lo + i; }      // -1: nobody
    __device__ int count(int j) const {                  // how often key j is among them
        if (!list) return j >= lo && j < lo + n;
        int times = 0;
        for (int i = 0; i < n; i++) times += list[i] == j;
        return times;
    }
};

static int attention_threads(const Call &c) {
    return threads_for(std::max(c.in[0].width(), c.out[0].width()));
}

// A block takes things a block's worth at a time: where the chunk that begins at `first` of n ends.
static __device__ int chunk_end(int first, int n) { return min(first + (int)blockDim.x, n); }

// A block has a query row. It takes the keys a block's worth at a time, one a thread, and keeps what it has
// of the sum as if the largest score so far were the last one: when a larger one comes, everything shrinks
// ("online"). Between a chunk's p and the next chunk's stands a block_max, which no thread leaves before all
// have come.
static __global__ void attention_fwd(const __grid_constant__ Call c) {
    const View q = c.in[0], k = c.in[1], v = c.in[2] ? c.in[2] : c.in[1], o = c.out[0], lse = c.out[1];
    const int T = q.shape[1], n_h = q.shape[2], S = k.shape[1], n_kv = k.shape[2], d_v = o.width();
    const long row = blockIdx.x, t = row / n_h, b = t / T, i = row % n_h;
    const Seen seen(c, t);
    const auto key = [&](int j) { return (b * S + seen[j]) * n_kv + i * n_kv / n_h; };
    SHARED(real, p);
    real top = -INFINITY, sum = 0;
    for (int x = threadIdx.x; x < d_v; x += blockDim.x) o.row(row)[x] = 0;
    for (int first = 0; first < seen.n; first += blockDim.x) {
        const int mine = first + threadIdx.x, end = chunk_end(first, seen.n);
        const bool sees = mine < end && seen[mine] >= 0;
        const real s = sees ? (real)c.a.scale * dot(q.row(row), k.row(key(mine)), q.width()) : -INFINITY;
        const real before = top;
        top = Largest()(top, block_max(s));
        if (top == -INFINITY) continue;                  // nothing seen yet
        const real shrink = exp_of(before - top);
        p[threadIdx.x] = exp_of(s - top);
        sum = sum * shrink + block_sum(p[threadIdx.x]);
        for (int x = threadIdx.x; x < d_v; x += blockDim.x) {
            real o_x = o.row(row)[x] * shrink;
            for (int j = first; j < end; j++)
                if (seen[j] >= 0) o_x += p[j - first] * v.row(key(j))[x];
            o.row(row)[x] = o_x;
        }
    }
    for (int x = threadIdx.x; top != -INFINITY && x < d_v; x += blockDim.x) o.row(row)[x] /= sum;
    if (threadIdx.x == 0) lse[row] = top == -INFINITY ? top : top + log(sum);
}

void gpu::attention_forward(const Call &c) {
    const int threads = attention_threads(c);
    launch(attention_fwd, c.in[0].rows(), threads, threads * sizeof(real), c);
}

// With p_j = exp(s_j - lse), s_j = scale q k_j:  ds_j = p_j (<do, v_j> - <do, o>),
// dq += scale sum_j ds_j k_j
static __global__ void attention_bwd_q(const __grid_constant__ Call c) {
    const View q = c.in[0], k = c.in[1], v = c.in[2] ? c.in[2] : c.in[1], o = c.out[0], lse = c.out[1];
    const View dq = c.din[0];
    const int T = q.shape[1], n_h = q.shape[2], S = k.shape[1], n_kv = k.shape[2];
    const int d_k = q.width(), d_v = o.width();
    const long row = blockIdx.x, t = row / n_h, b = t / T, i = row % n_h;
    if (lse[row] == -INFINITY) return;
    const Seen seen(c, t);
    const auto key = [&](int j) { return (b * S + seen[j]) * n_kv + i * n_kv / n_h; };
    const real *d_o = c.dout[0].row(row), mean = dot(d_o, o.row(row), d_v);
    SHARED(real, ds);
    for (int first = 0; first < seen.n; first += blockDim.x) {
        const int mine = first + threadIdx.x, end = chunk_end(first, seen.n);
        if (mine < end && seen[mine] >= 0) {
            const real p = exp_of((real)c.a.scale * dot(q.row(row), k.row(key(mine)), d_k) - lse[row]);
            ds[threadIdx.x] = (real)c.a.scale * p * (dot(d_o, v.row(key(mine)), d_v) - mean);
        }
        barrier();
        for (int x = threadIdx.x; x < d_k; x += blockDim.x)
            for (int j = first; j < end; j++)
                if (seen[j] >= 0) dq.row(row)[x] += ds[j - first] * k.row(key(j))[x];
        barrier();
    }
}

// and  dv_j += sum_t p_j do,  dk_j += scale sum_t ds_j q.  A block has a key row: it walks all queries and
// query heads that may see it in order, one a thread. A list may hold the key twice.
static __global__ void attention_bwd_kv(const __grid_constant__ Call c) {
    const View q = c.in[0], k = c.in[1], v = c.in[2] ? c.in[2] : c.in[1], o = c.out[0], lse = c.out[1];
    const View dk = c.din[1], dv = c.in[2] ? c.din[2] : c.din[1], dout = c.dout[0];
    const int T = q.shape[1], n_h = q.shape[2], S = k.shape[1], n_kv = k.shape[2];
    const int d_k = q.width(), d_v = o.width();
    const long key = blockIdx.x, g = key % n_kv, j = key / n_kv % S, b = key / n_kv / S;
    const int share = n_h / n_kv, queries = T * share;
    const auto row_of = [&](int i) { return (b * T + i / share) * n_h + g * share + i % share; };
    SHARED(real, p);
    real *const ds = p + blockDim.x;
    for (int first = 0; first < queries; first += blockDim.x) {
        const int mine = first + threadIdx.x, end = chunk_end(first, queries);
        const int times = mine < end ? Seen(c, b * T + mine / share).count((int)j) : 0;
        p[threadIdx.x] = 0;
        if (times && lse[row_of(mine)] != -INFINITY) {
            const long row = row_of(mine);
            const real *d_o = dout.row(row), mean = dot(d_o, o.row(row), d_v);
            const real s = (real)c.a.scale * dot(q.row(row), k.row(key), d_k);
            const real p_j = times * exp_of(s - lse[row]);
            p[threadIdx.x] = p_j;
            ds[threadIdx.x] = (real)c.a.scale * p_j * (dot(d_o, v.row(key), d_v) - mean);
        }
        barrier();
        for (int x = threadIdx.x; x < d_k || x < d_v; x += blockDim.x)
            for (int i = first; i < end; i++) {
                if (p[i - first] == 0) continue;         // sees nothing of this key
                if (dv && x < d_v) dv.row(key)[x] += p[i - first] * dout.row(row_of(i))[x];
                if (dk && x < d_k) dk.row(key)[x] += ds[i - first] * q.row(row_of(i))[x];
            }
        barrier();
    }
}

void gpu::attention_backward(const Call &c) {
    const int threads = attention_threads(c);
    const size_t bytes = threads * sizeof(real);
    if (c.din[0]) launch(attention_bwd_q, c.in[0].rows(), threads, bytes, c);
    if (c.din[1] || c.din[2]) launch(attention_bwd_kv, c.in[1].rows(), threads, 2 * bytes, c);
}

// ========================================================================================== [6] the one loss

// ----------------------------------------------------------- logp:  y = log softmax(h W^T / temperature)[id]
// The logits of `chunk` rows exist at a time, in temporary memory: never N x V.
constexpr long chunk = 128;

// f: for every chunk its first row, how many they are, and the memory for their logits
template <class F> static void for_chunks(const Call &c, F f) {
    const long N = c.in[2].numel(), V = c.in[1].shape[0];
    Scratch<real> z(cuda_device, std::min(N, chunk) * V);
    for (long first = 0; first < N; first += chunk) f(first, std::min(chunk, N - first), z.p);
}

static __global__ void logp_logits(const __grid_constant__ Call c, long first, long rows, real *z) {
    const View h = c.in[0], W = c.in[1], allowed = c.in[3];
    const int V = W.shape[0];
    const long i = tile_row(), v = tile_column();
    const real sum = tile_product(i, rows, v, V, W.width(),
                                  [&](long i, long j) { return h.row(first + i)[j]; },
                                  [&](long j, long v) { return W.row(v)[j]; });
    if (i >= rows || v >= V) return;
    const bool may = !allowed || allowed.id((first + i) * V + v);
    z[i * V + v] = may ? sum / (real)c.a.temperature : -INFINITY;
}

static void logits_of(const Call &c, long first, long rows, real *z) {
    launch(logp_logits, tile_grid(rows, c.in[1].shape[0]), tile_block, tile_bytes, c, first, rows, z);
}

static __global__ void logp_fwd(const __grid_constant__ Call c, long first, real *z_of_chunk) {
    const View ids = c.in[2], y = c.out[0], H = c.out[1], lse = c.out[2];
    const int V = c.in[1].shape[0];
    const long n = first + blockIdx.x;
    const real *z = z_of_chunk + (long)blockIdx.x * V;
    if (threadIdx.x == 0) y[n] = H[n] = lse[n] = 0;
    if (ids.id(n) < 0) return;
    real top = -INFINITY, sum = 0, sum_z = 0;            // of e^(z - top), and weighted by z - top
    for (int v = threadIdx.x; v < V; v += blockDim.x) top = Largest()(top, z[v]);
    top = block_max(top);
    for (int v = threadIdx.x; v < V; v += blockDim.x) {
        const real e = exp_of(z[v] - top);
        sum += e;
        if (e > 0) sum_z += e * (z[v] - top);
    }
    sum = block_sum(sum);
    sum_z = block_sum(sum_z);
    if (threadIdx.x != 0) return;
    lse[n] = top + log(sum);
    y[n] = z[ids.id(n)] - lse[n];
    H[n] = log(sum) - sum_z / sum;
}

void gpu::logp_forward(const Call &c) {
    for_chunks(c, [&](long first, long rows, real *z) {
        logits_of(c, first, rows, z);
        launch(logp_fwd, rows, threads_for(c.in[1].shape[0]), 0, c, first, z);
    });
}

// With p = softmax(z):  dy/dz_v = 1[v=id] - p_v,  dH/dz_v = -p_v (log p_v + H).  dz takes the place of z.
static __global__ void logp_bwd_z(const __grid_constant__ Call c, long first, long rows, real *z) {
    const View &ids = c.in[2], &H = c.out[1], &lse = c.out[2], &dy = c.dout[0], &dH = c.dout[1];
    const int V = c.in[1].shape[0];
    const long e = element(), n = first + e / V, v = e % V;
    if (e >= rows * V) return;
    const real log_p = z[e] - lse[n], p = exp_of(log_p);
    real dz = dy ? dy[n] * ((v == ids.id(n)) - p) : 0;
    if (dH && p > 0) dz -= dH[n] * p * (log_p + H[n]);
    z[e] = dz / (real)c.a.temperature;
}

// and then as matmul:  dh += dz W
static __global__ void logp_bwd_h(const __grid_constant__ Call c, long first, long rows, const real *dz) {
    const View W = c.in[1], ids = c.in[2], dh = c.din[0];
    const int V = W.shape[0];
    const long i = tile_row(), j = tile_column();
    const real sum = tile_product(i, rows, j, dh.width(), V,
                                  [&](long i, long v) { return dz[i * V + v]; },
                                  [&](long v, long j) { return W.row(v)[j]; });
    if (i < rows && j < dh.width() && ids.id(first + i) >= 0) dh.row(first + i)[j] += sum;
}

// and dW += dz^T h, over the rows that have a target
static __global__ void logp_bwd_W(const __grid_constant__ Call c, long first, long rows, const real *dz) {
    const View h = c.in[0], ids = c.in[2], dW = c.din[1];
    const int V = dW.shape[0];
    const long v = tile_row(), j = tile_column();
    const auto has_target = [&](long i) { return ids.id(first + i) >= 0; };
    const real sum = tile_product(v, V, j, dW.width(), rows,
                                  [&](long v, long i) { return has_target(i) ? dz[i * V + v] : 0; },
                                  [&](long i, long j) { return has_target(i) ? h.row(first + i)[j] : 0; });
    if (v < V && j < dW.width()) dW.row(v)[j] += sum;
}

void gpu::logp_backward(const Call &c) {
    const View W = c.in[1];
    for_chunks(c, [&](long first, long rows, real *z) {
        const real *dz = z;
        logits_of(c, first, rows, z);
        launch(logp_bwd_z, blocks_for(rows * W.shape[0]), per_block, 0, c, first, rows, z);
        const dim3 of_h = tile_grid(rows, W.width()), of_W = tile_grid(W.rows(), W.width());
        if (c.din[0]) launch(logp_bwd_h, of_h, tile_block, tile_bytes, c, first, rows, dz);
        if (c.din[1]) launch(logp_bwd_W, of_W, tile_block, tile_bytes, c, first, rows, dz);
    });
}

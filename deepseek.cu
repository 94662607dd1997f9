// deepseek.cu: the ops with a gradient, on CUDA.
//
// The same ops as src/cpu/ops.cpp, under the same names and in the same order: read an op there first. There
// stand its formula, its wrapper and the derivation of its backward; here each backward has the one line of
// the forward that it reverses. A forward is the kernel name_fwd, a backward the kernel name_bwd (or one for
// each gradient, where they need different owners), and gpu::name_forward and gpu::name_backward launch them.
//
// What this is: the plain rendition. One thread computes an output element, or one block a row where a row
// is reduced, and the loops read like the CPU's. It repeats its own bits: there are no atomics on numbers,
// and a sum over rows has one owner that walks them in order. The host is never waited for: what only the
// device knows (how many rows an expert got, which keys a query sees) decides nothing about a launch; the
// grid is the fixed bound, and blocks without work return. What this is not: fast. The words in which
// kernels are written (launch, SHARED, barrier, block_sum, ...) are those of src/cuda/cuda_on_cpu.h, which
// also runs this file where there is no GPU.
//
//   [1] rows by index: gather_rows, combine, concat, slice, pick
//   [2] products: matmul, matmul_heads, matmul_grouped
//   [3] pointwise: weighted_sum, unary, binary, swiglu, scale_rows, affine
//   [4] norms: rmsnorm, softmax, normalize_rows
//
// rope, attention, logp and kl_vocab are in src/cuda/sequence.cu.
#include <algorithm>

#include "src/cuda/kernel.h"

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
        if (slot.ids(r)[k] >= 0) dx[e] += dy.row(slot.ids(r)[k])[j];
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
        if (slot.ids(n)[k] >= 0) z[e] += (g ? g.row(n)[k] : 1) * y.row(slot.ids(n)[k])[j];
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
        if (dy) dy.row(s)[j] += (g ? g[nk] : 1) * dz.row(n)[j];
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

void gpu::concat_forward(const Call &c) { launch(concat_fwd, blocks_for(c.out[0].numel()), per_block, 0, c); }

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

void gpu::slice_forward(const Call &c) { launch(slice_fwd, blocks_for(c.out[0].numel()), per_block, 0, c); }

// y = x[from : from+n]:  dy returns to where it came from.
static __global__ void slice_bwd(const __grid_constant__ Call c) {
    const View &dx = c.din[0], &dy = c.dout[0];
    const long e = element();
    if (e < dy.numel()) dx[place_in_x(c, e)] += dy[e];
}

void gpu::slice_backward(const Call &c) { launch(slice_bwd, blocks_for(c.dout[0].numel()), per_block, 0, c); }

// ---------------------------------------------------------------- pick:  y_nk = s[n, idx_nk], 0 for -1
static __global__ void pick_fwd(const __grid_constant__ Call c) {
    const auto &[s, idx] = c.inputs<2>();
    const View &y = c.out[0];
    const long e = element();
    if (e < y.numel()) y[e] = idx.id(e) < 0 ? 0 : s.row(e / idx.width())[idx.id(e)];
}

void gpu::pick_forward(const Call &c) { launch(pick_fwd, blocks_for(c.out[0].numel()), per_block, 0, c); }

// y_nk = s[n, idx_nk]:  a thread has a row, in which an index may stand twice.
static __global__ void pick_bwd(const __grid_constant__ Call c) {
    const View &idx = c.in[1], &ds = c.din[0], &dy = c.dout[0];
    const int K = idx.width();
    const long n = element();
    if (n >= dy.rows()) return;
    for (int k = 0; k < K; k++)
        if (idx.ids(n)[k] >= 0) ds.row(n)[idx.ids(n)[k]] += dy.row(n)[k];
}

void gpu::pick_backward(const Call &c) { launch(pick_bwd, blocks_for(c.dout[0].rows()), per_block, 0, c); }

// ============================================================================================== [2] products

// Each in the precision of its weight: in bf16 the kernels below see rounded operands.
static __global__ void round_to_bf16(const real *x, real *to, long n) {
    const long i = element();
    if (i < n) to[i] = to_bf16(x[i]);
}

Rounded gpu::rounded(const Call &c, bool dy) {
    const auto to_bf16_all = [](const real *x, real *to, long n) {
        launch(round_to_bf16, blocks_for(n), per_block, 0, x, to, n);
    };
    return {c, cuda_device, to_bf16_all, dy};
}

// ---------------------------------------------------------------- matmul:  y = x W^T
static __global__ void matmul_fwd(const __grid_constant__ Call c) {
    const View &x = c.in[0], &W = c.in[1], &y = c.out[0];
    const long i = tile_row(), o = tile_column();
    const real sum = tile_product(
        i, y.rows(), o, y.width(), x.width(), [&](long i, long j) { return x.row(i)[j]; },
        [&](long j, long o) { return W.row(o)[j]; });
    if (i < y.rows() && o < y.width()) y.row(i)[o] = sum;
}

void gpu::matmul_forward(const Call &call) {
    const Rounded operands = rounded(call);
    const Call &c = operands;
    launch(matmul_fwd, tile_grid(c.out[0].rows(), c.out[0].width()), tile_block, tile_bytes, c);
}

// y_io = sum_j x_ij W_oj:  dx = dy W
static __global__ void matmul_bwd_x(const __grid_constant__ Call c) {
    const View &W = c.in[1], &dx = c.din[0], &dy = c.dout[0];
    const long i = tile_row(), j = tile_column();
    const real sum = tile_product(
        i, dx.rows(), j, dx.width(), dy.width(), [&](long i, long o) { return dy.row(i)[o]; },
        [&](long o, long j) { return W.row(o)[j]; });
    if (i < dx.rows() && j < dx.width()) dx.row(i)[j] += sum;
}

// and dW = dy^T x
static __global__ void matmul_bwd_W(const __grid_constant__ Call c) {
    const View &x = c.in[0], &dW = c.din[1], &dy = c.dout[0];
    const long o = tile_row(), j = tile_column();
    const real sum = tile_product(
        o, dW.rows(), j, dW.width(), x.rows(), [&](long o, long i) { return dy.row(i)[o]; },
        [&](long i, long j) { return x.row(i)[j]; });
    if (o < dW.rows() && j < dW.width()) dW.row(o)[j] += sum;
}

void gpu::matmul_backward(const Call &call) {
    const Rounded operands = rounded(call);
    const Call &c = operands;
    const View &dx = c.din[0], &dW = c.din[1];
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
    const View &x = c.in[0], &W = c.in[1], &y = c.out[0];
    const int h = blockIdx.z, n_h = W.shape[0];
    const long i = tile_row(), o = tile_column(), rows = y.rows() / n_h;
    const real sum = tile_product(
        i, rows, o, y.width(), x.width(), [&](long i, long j) { return x.row(i * n_h + h)[j]; },
        [&](long j, long o) { return W[at(c, h, o, j)]; });
    if (i < rows && o < y.width()) y.row(i * n_h + h)[o] = sum;
}

void gpu::matmul_heads_forward(const Call &call) {
    const Rounded operands = rounded(call);
    const Call &c = operands;
    const View &y = c.out[0];
    const int n_h = c.in[1].shape[0];
    launch(matmul_heads_fwd, tile_grid(y.rows() / n_h, y.width(), n_h), tile_block, tile_bytes, c);
}

// y_o = sum_j W_oj x_j in each head:  dx = dy W
static __global__ void matmul_heads_bwd_x(const __grid_constant__ Call c) {
    const View &W = c.in[1], &dx = c.din[0], &dy = c.dout[0];
    const int h = blockIdx.z, n_h = W.shape[0];
    const long i = tile_row(), j = tile_column(), rows = dx.rows() / n_h;
    const real sum = tile_product(
        i, rows, j, dx.width(), dy.width(), [&](long i, long o) { return dy.row(i * n_h + h)[o]; },
        [&](long o, long j) { return W[at(c, h, o, j)]; });
    if (i < rows && j < dx.width()) dx.row(i * n_h + h)[j] += sum;
}

// and dW = dy^T x, over the rows of the head
static __global__ void matmul_heads_bwd_W(const __grid_constant__ Call c) {
    const View &x = c.in[0], &dW = c.din[1], &dy = c.dout[0];
    const int h = blockIdx.z, n_h = c.in[1].shape[0];
    const long o = tile_row(), j = tile_column();
    const real sum = tile_product(
        o, dy.width(), j, x.width(), x.rows() / n_h, [&](long o, long i) { return dy.row(i * n_h + h)[o]; },
        [&](long i, long j) { return x.row(i * n_h + h)[j]; });
    if (o < dy.width() && j < x.width()) dW[at(c, h, o, j)] += sum;
}

void gpu::matmul_heads_backward(const Call &call) {
    const Rounded operands = rounded(call);
    const Call &c = operands;
    const View &dx = c.din[0], &dW = c.din[1];
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
    const View &x = c.in[0], &W = c.in[1], &offsets = c.in[2], &y = c.out[0];
    const int E = W.shape[0], b = W.shape[1], a = W.shape[2];
    const ExpertTile mine(offsets, x.rows());
    if (mine.none(E)) return;
    const long i = mine.row, o = tile_column(), W_e = (long)mine.e * b;
    const real sum = tile_product(
        i, mine.end, o, b, mine.e < E ? a : 0, [&](long i, long j) { return x.row(i)[j]; },
        [&](long j, long o) { return W.row(W_e + o)[j]; });
    if (i < mine.end && o < b) y.row(i)[o] = sum;
}

void gpu::matmul_grouped_forward(const Call &call) {
    const Rounded operands = rounded(call);
    const Call &c = operands;
    const View &x = c.in[0], &W = c.in[1];
    launch(matmul_grouped_fwd, expert_grid(x.rows(), W.shape[0], W.shape[1]), tile_block, tile_bytes, c);
}

// As matmul's, with the rows and the matrix of each expert.
static __global__ void matmul_grouped_bwd_x(const __grid_constant__ Call c) {
    const View &W = c.in[1], &offsets = c.in[2], &dx = c.din[0], &dy = c.dout[0];
    const int E = W.shape[0], b = W.shape[1], a = W.shape[2];
    const ExpertTile mine(offsets, dx.rows());
    if (mine.e >= E) return;
    const long i = mine.row, j = tile_column(), W_e = (long)mine.e * b;
    const real sum = tile_product(
        i, mine.end, j, a, b, [&](long i, long o) { return dy.row(i)[o]; },
        [&](long o, long j) { return W.row(W_e + o)[j]; });
    if (i < mine.end && j < a) dx.row(i)[j] += sum;
}

static __global__ void matmul_grouped_bwd_W(const __grid_constant__ Call c) {
    const View &x = c.in[0], &W = c.in[1], &offsets = c.in[2], &dW = c.din[1], &dy = c.dout[0];
    const int e = blockIdx.z, b = W.shape[1], a = W.shape[2];
    const long o = tile_row(), j = tile_column(), first = offsets.id(e);
    const real sum = tile_product(
        o, b, j, a, offsets.id(e + 1) - first, [&](long o, long i) { return dy.row(first + i)[o]; },
        [&](long i, long j) { return x.row(first + i)[j]; });
    if (o < b && j < a) dW.row((long)e * b + o)[j] += sum;
}

void gpu::matmul_grouped_backward(const Call &call) {
    const Rounded operands = rounded(call);
    const Call &c = operands;
    const View &x = c.in[0], &W = c.in[1];
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
    const real a = c.a.a;
    const long i = element();
    if (i < x.numel()) dx[i] += a * (w ? w[i] : 1) * c.dout[0][0];
}

void gpu::weighted_sum_backward(const Call &c) {
    if (c.din[0]) launch(weighted_sum_bwd, blocks_for(c.in[0].numel()), per_block, 0, c);
}

// ---------------------------------------------------------------- unary:  y = f(ax + shift)
static __global__ void unary_fwd(const __grid_constant__ Call c) {
    const View &x = c.in[0], &y = c.out[0];
    const real a = c.a.a, shift = c.a.shift;
    const long i = element();
    if (i >= y.numel()) return;
    with_unary(c.a.f, [&](auto f) { y[i] = unary_f<decltype(f)::value>(a * x[i] + shift); });
}

void gpu::unary_forward(const Call &c) { launch(unary_fwd, blocks_for(c.out[0].numel()), per_block, 0, c); }

// y = f(u), u = ax + shift:  dx += a f'(u) dy
static __global__ void unary_bwd(const __grid_constant__ Call c) {
    const View &x = c.in[0], &y = c.out[0], &dx = c.din[0], &dy = c.dout[0];
    const real a = c.a.a, shift = c.a.shift;
    const long i = element();
    if (i >= y.numel()) return;
    with_unary(c.a.f,
               [&](auto f) { dx[i] += a * unary_df<decltype(f)::value>(a * x[i] + shift, y[i]) * dy[i]; });
}

void gpu::unary_backward(const Call &c) { launch(unary_bwd, blocks_for(c.out[0].numel()), per_block, 0, c); }

// ---------------------------------------------------------------- binary:  z = f(x, y), equal shapes
static __global__ void binary_fwd(const __grid_constant__ Call c) {
    const auto &[x, y] = c.inputs<2>();
    const View &z = c.out[0];
    const long i = element();
    if (i >= z.numel()) return;
    with_binary(c.a.f, [&](auto f) { z[i] = binary_f<decltype(f)::value>(x[i], y[i]); });
}

void gpu::binary_forward(const Call &c) { launch(binary_fwd, blocks_for(c.out[0].numel()), per_block, 0, c); }

// z = f(x, y):  dx += f_x dz  and  dy += f_y dz
static __global__ void binary_bwd(const __grid_constant__ Call c) {
    const auto &[x, y] = c.inputs<2>();
    const auto &[dx, dy] = c.input_gradients<2>();
    const View &dz = c.dout[0];
    const long i = element();
    if (i >= dz.numel()) return;
    with_binary(c.a.f, [&](auto f) {
        constexpr int kind = decltype(f)::value;
        const real f_x = binary_dx<kind>(x[i], y[i]), f_y = binary_dy<kind>(x[i], y[i]);   // dx may be dy
        if (dx) dx[i] += f_x * dz[i];
        if (dy) dy[i] += f_y * dz[i];
    });
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

// ---------------------------------------------------------------- affine:  y_i = alpha x_i + b
static __global__ void affine_fwd(const __grid_constant__ Call c) {
    const View &x = c.in[0], &alpha = c.in[1], &b = c.in[2], &y = c.out[0];
    const long e = element();
    if (e < y.numel()) y[e] = (alpha ? alpha[0] : 1) * x[e] + b[e % x.width()];
}

void gpu::affine_forward(const Call &c) { launch(affine_fwd, blocks_for(c.out[0].numel()), per_block, 0, c); }

// y_i = alpha x_i + b:  dx_i += alpha dy_i
static __global__ void affine_bwd(const __grid_constant__ Call c) {
    const View &alpha = c.in[1], &dx = c.din[0], &dy = c.dout[0];
    const long e = element();
    if (e < dy.numel()) dx[e] += (alpha ? alpha[0] : 1) * dy[e];
}

// dalpha += sum_i <x_i, dy_i>:  one block
static __global__ void affine_bwd_alpha(const __grid_constant__ Call c) {
    const View &x = c.in[0], &dalpha = c.din[1], &dy = c.dout[0];
    real sum = 0;
    for (long e = threadIdx.x; e < x.numel(); e += blockDim.x) sum += x[e] * dy[e];
    sum = block_sum(sum);
    if (threadIdx.x == 0) dalpha[0] += sum;
}

// db += sum_i dy_i
static __global__ void affine_bwd_b(const __grid_constant__ Call c) {
    const View &db = c.din[2], &dy = c.dout[0];
    const long j = element();
    if (j >= dy.width()) return;
    for (long i = 0; i < dy.rows(); i++) db[j] += dy.row(i)[j];
}

void gpu::affine_backward(const Call &c) {
    const long n = c.in[0].numel();
    if (c.din[0]) launch(affine_bwd, blocks_for(n), per_block, 0, c);
    if (c.din[1]) launch(affine_bwd_alpha, 1, threads_for(n), 0, c);
    if (c.din[2]) launch(affine_bwd_b, blocks_for(c.in[0].width()), per_block, 0, c);
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
    const real r_i = 1 / sqrt(block_sum(sum) / d + c.a.eps);
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
    sum = block_sum(sum) + c.a.eps;
    for (int j = threadIdx.x; j < x.width(); j += blockDim.x) y.row(i)[j] = c.a.rho * x.row(i)[j] / sum;
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
    sum = block_sum(sum) + c.a.eps;
    dot = block_sum(dot);
    for (int j = threadIdx.x; j < x.width(); j += blockDim.x)
        dx.row(i)[j] += (c.a.rho * dy.row(i)[j] - dot) / sum;
}

void gpu::normalize_rows_backward(const Call &c) {
    launch(normalize_rows_bwd, c.in[0].rows(), threads_for(c.in[0].width()), 0, c);
}

// fast.cpp: the second rendition of the hot ops on the CPU; the only file that includes Eigen.
//
// Each function computes what its plain kernel in ops.cpp says, faster: products of matrices by gemm.h's
// tiles, scores by blocks of queries that stay in the cache, logits by chunks of rows, sums and maxima of
// a row by Eigen. `--kernels plain` switches back.
//
// A row's bits do not depend on its neighbours, so decoding equals the full forward exactly. For products,
// gemm.h sees to that. A softmax adds up its row in vectors that begin at fixed positions, and attention's
// sum over the keys is cut at fixed positions, wherever the block of queries begins to see.
//
//   [1] chunks   [2] matmul   [3] matmul_grouped   [4] attention   [5] logp
#define EIGEN_DONT_PARALLELIZE
#define EIGEN_NO_DEBUG
#include <Eigen/Core>
#include <algorithm>

#include "src/cpu/gemm.h"
#include "src/base/parallel.h"
#include "src/tensor/kernels.h"

// ------------------------------------------------------------------------------------------------ [1] chunks
using gemm::Product, gemm::Strided, gemm::as_it_stands, gemm::transposed, gemm::accumulate, gemm::overwrite;

using Row = Eigen::Map<Eigen::Array<real, Eigen::Dynamic, 1>>;

// Rows are shared out in chunks of this size where something is done between two products.
constexpr long chunk_rows = 64;
static long chunks(long n) { return (n + chunk_rows - 1) / chunk_rows; }

namespace fast {

// ------------------------------------------------------------------------------------------------ [2] matmul
static void matmul_forward(const Call &c) {              // y = x W^T
    const View &x = c.in[0], &W = c.in[1], &y = c.out[0];
    const long n = x.rows(), a = x.width(), b = y.width();
    Scratch<real> panels(cpu_device, gemm::packed_size(a, b));
    gemm::pack_in_parallel(panels.p, transposed(&W[0], a), a, b);
    Product{&y[0], b, as_it_stands(&x[0], a), panels.p, n, a, b, overwrite}.in_parallel();
}

static void matmul_backward(const Call &c) {             // dx += dy W,  dW += dy^T x
    const View &x = c.in[0], &W = c.in[1], &dx = c.din[0], &dW = c.din[1], &dy = c.dout[0];
    const long n = x.rows(), a = x.width(), b = dy.width();
    if (dx) {
        Scratch<real> panels(cpu_device, gemm::packed_size(b, a));
        gemm::pack_in_parallel(panels.p, as_it_stands(&W[0], a), b, a);
        Product{&dx[0], a, as_it_stands(&dy[0], b), panels.p, n, b, a, accumulate}.in_parallel();
    }
    if (dW) {
        Scratch<real> panels(cpu_device, gemm::packed_size(n, a));
        gemm::pack_in_parallel(panels.p, as_it_stands(&x[0], a), n, a);
        Product{&dW[0], a, transposed(&dy[0], b), panels.p, b, n, a, accumulate}.in_parallel();
    }
}

// ---------------------------------------------------------------------------------------- [3] matmul_grouped
// The list of chunks: rows [from, from + count) of one expert. Chunks never cross
// from one expert to the next.
struct GroupChunk {
    int e;
    long from, count;
};
static std::vector<GroupChunk> group_chunks(const View &offsets, int E) {
    std::vector<GroupChunk> list;
    for (int e = 0; e < E; e++)
        for (long from = offsets.id(e); from < offsets.id(e + 1); from += chunk_rows)
            list.push_back({e, from, std::min(chunk_rows, offsets.id(e + 1) - from)});
    return list;
}

// out (rows, columns) = or += in (rows, depth) B_e (depth, columns), the rows of each expert e together.
// Matrices of experts without rows are left alone: in decoding that is most of them.
static void grouped_product(const View &out, const View &in, const View &W, const View &offsets, bool by_rows,
                            gemm::Write write) {
    const long E = W.shape[0], b = W.shape[1], a = W.shape[2];
    const long depth = in.width(), columns = out.width(), size = gemm::packed_size(depth, columns);
    Scratch<real> panels(cpu_device, E * size);
    for_rows(E, a * b / 4, [&](long e) {
        if (offsets.id(e) == offsets.id(e + 1)) return;
        const real *W_e = &W[e * a * b];
        gemm::pack(panels.p + e * size, by_rows ? as_it_stands(W_e, a) : transposed(W_e, a), depth, columns);
    });
    const auto list = group_chunks(offsets, E);
    for_rows(list.size(), in.rows() * a * b / gemm::lanes / std::max<long>(1, list.size()), [&](long i) {
        const auto [e, from, count] = list[i];
        Product{out.row(from), columns, as_it_stands(in.row(from), depth), panels.p + e * size, count, depth,
                columns,       write}
            .all_tiles();
    });
}

static void matmul_grouped_forward(const Call &c) {
    const View &x = c.in[0], &W = c.in[1], &offsets = c.in[2], &y = c.out[0];
    grouped_product(y, x, W, offsets, false, overwrite);
    std::fill(y.row(offsets.id(W.shape[0])), y.row(y.rows()), 0);
}

static void matmul_grouped_backward(const Call &c) {
    const View &x = c.in[0], &W = c.in[1], &offsets = c.in[2], &dx = c.din[0], &dW = c.din[1],
               &dy = c.dout[0];
    const long E = W.shape[0], b = W.shape[1], a = W.shape[2];
    if (dx) grouped_product(dx, dy, W, offsets, true, accumulate);
    if (!dW) return;
    long most = 0;
    for (int e = 0; e < E; e++) most = std::max<long>(most, offsets.id(e + 1) - offsets.id(e));
    const long size = gemm::packed_size(most, a);
    Scratch<real> scratch(cpu_device, omp_get_max_threads() * size);
    for_rows(E, x.numel() * b / gemm::lanes / E, [&](long e) {
        const long from = offsets.id(e), count = offsets.id(e + 1) - from;
        real *panels = &scratch[omp_get_thread_num() * size];
        gemm::pack(panels, as_it_stands(x.row(from), a), count, a);
        Product{&dW[e * a * b], a, transposed(dy.row(from), b), panels, b, count, a, accumulate}.all_tiles();
    });
}

// --------------------------------------------------------------------------------------------- [4] attention
// A block of queries of one head attends to its keys at once: scores S = scale Q K^T (block x keys),
// softmax by rows, O = S V. Only one block of scores exists per thread. Keys outside a query's span
// are masked within the block.
constexpr long query_block = 64;

struct Span { int lo, hi; };
static Span span(const View &where, long t) { return {where.id(2 * t), where.id(2 * t + 1)}; }

// Queries t0 .. t0+count of one head; [lo, hi) covers all keys they see.
struct Block {
    long b, head, t0, count, lo, hi;
    Block(const Call &c, long i, long blocks) {
        const int T = c.in[0].shape[1], n_h = c.in[0].shape[2];
        b = i / blocks / n_h, head = i / blocks % n_h;
        t0 = i % blocks * query_block;
        count = std::min(query_block, T - t0);
        lo = c.in[1].shape[1], hi = 0;
        for (long t = t0; t < t0 + count; t++) {
            const Span s = span(c.in[3], b * T + t);
            if (s.lo > s.hi) continue;
            lo = std::min<long>(lo, s.lo);
            hi = std::max<long>(hi, s.hi + 1);
        }
    }
    long keys() const { return std::max(0l, hi - lo); }
};

// Row t of one head of x (B,T,n,d), and the way from there to the next row of that head.
static real *head_row(const View &x, long b, long t, long head) {
    return &x[((b * x.shape[1] + t) * x.shape[2] + head) * x.width()];
}
static long head_stride(const View &x) { return (long)x.shape[2] * x.width(); }
static Strided head_rows(const View &x, long b, long t, long head) {
    return as_it_stands(head_row(x, b, t, head), head_stride(x));
}
static Strided head_columns(const View &x, long b, long t, long head) {
    return transposed(head_row(x, b, t, head), head_stride(x));
}

// Scores in place: scale, masked exponentials that sum to 1. Column 0 of S (count, width) is the key
// `start`. The loops run over whole vectors, and what they do beyond the row's own keys is wiped out. lse
// is -inf where nothing is seen.
static void masked_softmax(const Call &c, const Block &k, long start, real *S, long width) {
    const int T = c.in[0].shape[1], n_h = c.in[0].shape[2];
    const real scale = c.a.scale;
    for (long r = 0; r < k.count; r++) {
        const Span s = span(c.in[3], k.b * T + k.t0 + r);
        real *p = S + r * width, &lse = c.out[1][(k.b * T + k.t0 + r) * n_h + k.head];
        if (s.lo > s.hi) {
            std::fill_n(p, width, 0);
            lse = -INFINITY;
            continue;
        }
        const long first = s.lo - start, end = s.hi + 1 - start;
        const long from = first / gemm::lanes * gemm::lanes, to = gemm::whole_vectors(end);
        const real top = scale * Row(p + first, end - first).maxCoeff();
        std::fill(p + from, p + first, 0);
        std::fill(p + end, p + to, 0);
        for (long j = from; j < to; j++) p[j] = exp_of(p[j] * scale - top);
        std::fill_n(p, first, 0);
        std::fill(p + end, p + width, 0);
        Row seen(p + from, to - from);
        const real sum = seen.sum();
        seen *= 1 / sum;
        lse = top + log(sum);
    }
}

// O = S V runs over the keys in blocks that begin at fixed positions, not at the first key that some query of
// the block sees: then the zeros of masked keys are all that a query's neighbours add to its sum.
static void attention_forward(const Call &c) {
    if (c.a.lists)
        return cpu::attention_forward(c);            // lists are gathered one by one: the plain loop is right
    const View &q = c.in[0], &k = c.in[1], &v = c.in[2] ? c.in[2] : c.in[1], &o = c.out[0];
    const long T = q.shape[1], n_h = q.shape[2], n_kv = k.shape[2], d_k = q.width(), d_v = o.width();
    const long blocks = (T + query_block - 1) / query_block, most = gemm::whole_vectors(k.shape[1]);
    const long panels_size = std::max(gemm::packed_size(d_k, most), gemm::packed_size(most, d_v));
    const long size = query_block * most + panels_size;
    Scratch<real> scratch(cpu_device, omp_get_max_threads() * size);
    const long work = std::min(query_block, T) * most * (d_k + d_v) / gemm::lanes;
    for_rows(q.shape[0] * n_h * blocks, work, [&](long i) {
        const Block a(c, i, blocks);
        const long g = a.head * n_kv / n_h, start = a.lo / gemm::lanes * gemm::lanes;
        const long width = a.keys() ? gemm::whole_vectors(a.hi - start) : 0;
        real *S = &scratch[omp_get_thread_num() * size], *panels = S + query_block * most;
        if (a.keys()) {
            gemm::pack(panels, head_columns(k, a.b, a.lo, g), d_k, a.keys());
            Product{S + a.lo - start, width,    head_rows(q, a.b, a.t0, a.head), panels, a.count, d_k,
                    a.keys(),         overwrite}
                .all_tiles();
        }
        masked_softmax(c, a, start, S, width);
        real *O = head_row(o, a.b, a.t0, a.head);
        for (long r = 0; r < a.count; r++) std::fill_n(O + r * head_stride(o), d_v, 0);
        for (long j = a.lo, n; j < a.hi; j += n) {
            n = std::min(a.hi, (j / gemm::block_depth + 1) * gemm::block_depth) - j;
            gemm::pack(panels, head_rows(v, a.b, j, g), n, d_v);
            Product{O,   head_stride(o), as_it_stands(S + j - start, width), panels, a.count, n,
                    d_v, accumulate}
                .all_tiles();
        }
    });
}

// The part of one block of queries. P and dS (count, keys up to whole vectors) and the panels are temporary.
//     dS = P (dO V^T - rowsum(dO O)) scale:  dQ += dS K,  dK += dS^T Q,  dV += P^T dO.
static void attention_block_backward(const Call &c, const Block &a, long g, real *P, real *dS, real *panels) {
    const View &q = c.in[0], &k = c.in[1], &v = c.in[2] ? c.in[2] : c.in[1], &o = c.out[0], &lse = c.out[1],
               &dout = c.dout[0];
    const View &dq = c.din[0], &dk = c.din[1], &dv = c.in[2] ? c.din[2] : c.din[1];
    const long T = q.shape[1], n_h = q.shape[2], d_k = q.width(), d_v = o.width(), n = a.keys();
    const long width = gemm::whole_vectors(n);
    const real scale = c.a.scale;
    const Strided Q = head_rows(q, a.b, a.t0, a.head), dO = head_rows(dout, a.b, a.t0, a.head);
    gemm::pack(panels, head_columns(k, a.b, a.lo, g), d_k, n);
    Product{P, width, Q, panels, a.count, d_k, n, overwrite}.all_tiles();
    gemm::pack(panels, head_columns(v, a.b, a.lo, g), d_v, n);
    Product{dS, width, dO, panels, a.count, d_v, n, overwrite}.all_tiles();
    for (long r = 0; r < a.count; r++) {
        const Span s = span(c.in[3], a.b * T + a.t0 + r);
        const real row_lse = lse[(a.b * T + a.t0 + r) * n_h + a.head];
        const real mean = dot(dO.from(r, 0).p, head_row(o, a.b, a.t0 + r, a.head), d_v);
        real *p = P + r * width, *ds = dS + r * width;
        const long first = std::max(0l, s.lo - a.lo), end = std::max(first, s.hi + 1 - a.lo);
        for (long j = 0; j < width; j++) p[j] = exp_of(scale * p[j] - row_lse);
        std::fill(p, p + std::min(first, width), 0);
        std::fill(p + std::min(end, width), p + width, 0);
        for (long j = 0; j < width; j++) ds[j] = scale * p[j] * (ds[j] - mean);
    }
    if (dq) {
        gemm::pack(panels, head_rows(k, a.b, a.lo, g), n, d_k);
        Product{head_row(dq, a.b, a.t0, a.head),
                head_stride(dq),
                as_it_stands(dS, width),
                panels,
                a.count,
                n,
                d_k,
                accumulate}
            .all_tiles();
    }
    if (dk) {
        gemm::pack(panels, Q, a.count, d_k);
        Product{head_row(dk, a.b, a.lo, g),
                head_stride(dk),
                transposed(dS, width),
                panels,
                n,
                a.count,
                d_k,
                accumulate}
            .all_tiles();
    }
    if (dv) {
        gemm::pack(panels, dO, a.count, d_v);
        Product{head_row(dv, a.b, a.lo, g),
                head_stride(dv),
                transposed(P, width),
                panels,
                n,
                a.count,
                d_v,
                accumulate}
            .all_tiles();
    }
}

// One thread owns a key head and takes its query heads and blocks in order.
static void attention_backward(const Call &c) {
    if (c.a.lists) return cpu::attention_backward(c);
    const View &q = c.in[0], &k = c.in[1];
    const long T = q.shape[1], n_h = q.shape[2], n_kv = k.shape[2], share = n_h / n_kv;
    const long blocks = (T + query_block - 1) / query_block, most = gemm::whole_vectors(k.shape[1]);
    const long d = gemm::whole_vectors(std::max(q.width(), c.out[0].width()));
    const long size = 2 * query_block * most + d * std::max(most, query_block);
    Scratch<real> scratch(cpu_device, omp_get_max_threads() * size);
    for_rows(q.shape[0] * n_kv, 5 * share * T * most * d / gemm::lanes, [&](long bg) {
        const long b = bg / n_kv, g = bg % n_kv;
        real *P = &scratch[omp_get_thread_num() * size], *dS = P + query_block * most;
        for (long head = g * share; head < (g + 1) * share; head++)
            for (long block = 0; block < blocks; block++) {
                const Block a(c, (b * n_h + head) * blocks + block, blocks);
                if (a.keys()) attention_block_backward(c, a, g, P, dS, dS + query_block * most);
            }
    });
}

// -------------------------------------------------------------------------------------------------- [5] logp
// Logits of a chunk of rows at a time; the backward turns them into dz in place and multiplies twice.
static void chunk_logits(const Call &c, const real *panels, long from, long count, real *z) {
    const View &h = c.in[0], &W = c.in[1], &allowed = c.in[3];
    const long V = W.shape[0], d = W.width();
    Product{z, V, as_it_stands(h.row(from), d), panels, count, d, V, overwrite}.all_tiles();
    if (c.a.temperature != 1) Row(z, count * V) /= (real)c.a.temperature;
    for (long i = 0; allowed && i < count; i++)
        for (long v = 0; v < V; v++)
            if (!in_set(allowed.ids(from + i), v)) z[i * V + v] = -INFINITY;
}

static void logp_forward(const Call &c) {
    const View &W = c.in[1], &ids = c.in[2], &y = c.out[0], &H = c.out[1], &lse = c.out[2];
    const long V = W.shape[0], d = W.width(), N = ids.numel();
    Scratch<real> panels(cpu_device, gemm::packed_size(d, V));
    Scratch<real> logits(cpu_device, omp_get_max_threads() * chunk_rows * V);      // a chunk for each thread
    gemm::pack_in_parallel(panels.p, transposed(&W[0], d), d, V);
    for_rows(chunks(N), 2 * chunk_rows * W.numel() / gemm::lanes, [&](long i) {
        const long from = i * chunk_rows, count = std::min(chunk_rows, N - from);
        real *Z = &logits[omp_get_thread_num() * chunk_rows * V];
        chunk_logits(c, panels.p, from, count, Z);
        for (long n = from; n < from + count; n++) {
            y[n] = H[n] = lse[n] = 0;
            if (ids.id(n) < 0) continue;
            const real *z = Z + (n - from) * V, target = z[ids.id(n)];
            const real top = Row(Z + (n - from) * V, V).maxCoeff();
            real sum = 0, sum_z = 0;
#pragma omp simd reduction(+ : sum, sum_z)
            for (long v = 0; v < V; v++) {
                const real below = z[v] - top, e = exp_of(below);
                sum += e;
                sum_z += e * std::max<real>(below, -1000);     // below may be -inf, and 0 times that is NaN
            }
            lse[n] = top + log(sum);
            y[n] = target - lse[n];
            H[n] = log(sum) - sum_z / sum;
        }
    });
}

// dz_v = dy (1[v = id] - p_v) - dH p_v (log p_v + H), in the place of the logits of row n.
static void logits_gradient(const Call &c, long n, real *z) {
    const View &dy = c.dout[0], &dH = c.dout[1], &H = c.out[1], &lse = c.out[2];
    const long V = c.in[1].shape[0], id = c.in[2].id(n);
    if (id < 0) {                                        // its logits may overflow: 0 times infinity is NaN
        std::fill_n(z, V, 0);
        return;
    }
    const real a = dy ? dy[n] / (real)c.a.temperature : 0, b = dH ? dH[n] / (real)c.a.temperature : 0;
    for (long v = 0; v < V; v++) {
        const real log_p = z[v] - lse[n], p = exp_of(log_p);
        z[v] = -a * p - (b != 0 && p > 0 ? b * p * (log_p + H[n]) : 0);
    }
    z[id] += a;
}

// dh += dz W,  dW += dz^T h,  for a thousand rows at a time: that bounds the memory for dz.
static void logp_backward(const Call &c) {
    const View &h = c.in[0], &W = c.in[1], &dh = c.din[0], &dW = c.din[1];
    const long V = W.shape[0], d = W.width(), N = c.in[2].numel(), most = std::min(16 * chunk_rows, N);
    Scratch<real> by_word(cpu_device, gemm::packed_size(d, V)), by_width(cpu_device, gemm::packed_size(V, d));
    Scratch<real> rows(cpu_device, gemm::packed_size(most, d)), Z(cpu_device, most * V);
    gemm::pack_in_parallel(by_word.p, transposed(&W[0], d), d, V);
    gemm::pack_in_parallel(by_width.p, as_it_stands(&W[0], d), V, d);
    for (long start = 0; start < N; start += most) {
        const long total = std::min(most, N - start);
        for_rows(chunks(total), 4 * chunk_rows * W.numel() / gemm::lanes, [&](long i) {
            const long from = i * chunk_rows, count = std::min(chunk_rows, total - from);
            real *z = &Z[from * V];
            chunk_logits(c, by_word.p, start + from, count, z);
            for (long r = 0; r < count; r++) logits_gradient(c, start + from + r, z + r * V);
            if (dh)
                Product{dh.row(start + from), d, as_it_stands(z, V), by_width.p, count, V, d, accumulate}
                    .all_tiles();
        });
        if (!dW) continue;
        gemm::pack_in_parallel(rows.p, as_it_stands(h.row(start), d), total, d);
        Product{&dW[0], d, transposed(Z.p, V), rows.p, V, total, d, accumulate}.in_parallel();
    }
}

}  // namespace fast

void install_fast(OpKernels *kernels) {
    kernels[op_matmul] = {fast::matmul_forward, fast::matmul_backward};
    kernels[op_matmul_grouped] = {fast::matmul_grouped_forward, fast::matmul_grouped_backward};
    kernels[op_attention] = {fast::attention_forward, fast::attention_backward};
    kernels[op_logp] = {fast::logp_forward, fast::logp_backward};
}

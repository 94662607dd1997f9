// fast.cpp: the second rendition of the hot ops on the CPU; the only file that includes Eigen.
//
// Each function computes what its plain twin in ops.cpp says, faster: products by Eigen's GEMM, scores by
// blocks of queries that stay in the cache, logits by chunks of rows. `--kernels plain` switches back.
//
// Two rules keep the bits. Eigen's own threading would change the blocking with the number of threads, so the
// work is cut into fixed chunks of rows, each a single-threaded product. And Eigen treats the last rows of a
// chunk that are no multiple of 4 (and a lone row) by another kernel with other rounding, so chunks are
// padded with zero rows to a multiple of 4, keys of attention come in blocks of 64 at absolute positions, and
// Eigen's other product for small matrices is switched off. Then a row's bits do not depend on its
// neighbours: decoding equals the full forward exactly.
//
//   [1] chunks   [2] matmul   [3] matmul_grouped   [4] attention   [5] logp
#define EIGEN_DONT_PARALLELIZE
#define EIGEN_NO_DEBUG
#define EIGEN_GEMM_TO_COEFFBASED_THRESHOLD 0
#include <Eigen/Core>
#include <algorithm>

#include "../deepseek.h"
#include "gemm.h"
#include "parallel.h"
#include "twins.h"

// ------------------------------------------------------------------------------------------------ [1] chunks
using gemm::Product, gemm::as_it_stands, gemm::transposed, gemm::accumulate, gemm::overwrite;

// Rows are shared out in chunks of this size where something is done between two products.
constexpr long chunk_rows = 64;
static long chunks(long n) { return (n + chunk_rows - 1) / chunk_rows; }

using Matrix = Eigen::Matrix<real, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Rows = Eigen::Map<Matrix, 0, Eigen::OuterStride<>>;

static Rows rows(real *p, long n, long width, long stride) {
    return Rows(p, n, width, Eigen::OuterStride<>(stride));
}
static long padded(long n) { return (n + 3) & ~3l; }

namespace fast {

// ------------------------------------------------------------------------------------------------ [2] matmul
static void matmul_forward(const Call &c) {              // y = x W^T
    const View x = c.in[0], W = c.in[1], y = c.out[0];
    const long n = x.rows(), a = x.width(), b = y.width();
    Scratch<real> panels(cpu_device, gemm::packed_size(a, b));
    gemm::pack(panels.p, transposed(&W[0], a), a, b);
    Product{&y[0], as_it_stands(&x[0], a), panels.p, n, a, b, overwrite}.in_parallel();
}

static void matmul_backward(const Call &c) {             // dx += dy W,  dW += dy^T x
    const View x = c.in[0], W = c.in[1], dx = c.din[0], dW = c.din[1], dy = c.dout[0];
    const long n = x.rows(), a = x.width(), b = dy.width();
    if (dx) {
        Scratch<real> panels(cpu_device, gemm::packed_size(b, a));
        gemm::pack(panels.p, as_it_stands(&W[0], a), b, a);
        Product{&dx[0], as_it_stands(&dy[0], b), panels.p, n, b, a, accumulate}.in_parallel();
    }
    if (dW) {
        Scratch<real> panels(cpu_device, gemm::packed_size(n, a));
        gemm::pack(panels.p, as_it_stands(&x[0], a), n, a);
        Product{&dW[0], transposed(&dy[0], b), panels.p, b, n, a, accumulate}.in_parallel();
    }
}

// ---------------------------------------------------------------------------------------- [3] matmul_grouped
// The list of chunks: rows [from, from + count) of one expert. Chunks never cross from one expert to the
// next.
struct GroupChunk { int e; long from, count; };
static std::vector<GroupChunk> group_chunks(const View &offsets, int E) {
    std::vector<GroupChunk> list;
    for (int e = 0; e < E; e++)
        for (long from = offsets.id(e); from < offsets.id(e + 1); from += chunk_rows)
            list.push_back({e, from, std::min(chunk_rows, offsets.id(e + 1) - from)});
    return list;
}

// out (rows, columns) = or += in (rows, depth) B_e (depth, columns), rows of one expert together. The matrices
// of experts that have no rows are left alone: in decoding that is most of them.
static void grouped_product(const View &out, const View &in, const View &W, const View &offsets, bool by_rows,
                            gemm::Write write) {
    const long E = W.shape[0], b = W.shape[1], a = W.shape[2];
    const long depth = in.width(), columns = out.width(), size = gemm::packed_size(depth, columns);
    Scratch<real> panels(cpu_device, E * size);
    for_rows(E, a * b, [&](long e) {
        if (offsets.id(e) == offsets.id(e + 1)) return;
        const real *W_e = &W[e * a * b];
        gemm::pack(panels.p + e * size, by_rows ? as_it_stands(W_e, a) : transposed(W_e, a), depth, columns);
    });
    const auto list = group_chunks(offsets, E);
    for_rows(list.size(), chunk_rows * a * b / gemm::lanes, [&](long i) {
        const auto [e, from, count] = list[i];
        Product{out.row(from), as_it_stands(in.row(from), depth), panels.p + e * size, count, depth, columns,
                write}.all_tiles();
    });
}

static void matmul_grouped_forward(const Call &c) {
    const View x = c.in[0], W = c.in[1], offsets = c.in[2], y = c.out[0];
    grouped_product(y, x, W, offsets, false, overwrite);
    std::fill(y.row(offsets.id(W.shape[0])), y.row(y.rows()), 0);
}

static void matmul_grouped_backward(const Call &c) {
    const View x = c.in[0], W = c.in[1], offsets = c.in[2], dx = c.din[0], dW = c.din[1], dy = c.dout[0];
    const long E = W.shape[0], b = W.shape[1], a = W.shape[2], size = gemm::packed_size(1, a);
    if (dx) grouped_product(dx, dy, W, offsets, true, accumulate);
    if (!dW) return;
    Scratch<real> panels(cpu_device, x.rows() * size);
    for_rows(E, x.numel() * b / gemm::lanes / E, [&](long e) {
        const long from = offsets.id(e), count = offsets.id(e + 1) - from;
        gemm::pack(panels.p + from * size, as_it_stands(x.row(from), a), count, a);
        Product{&dW[e * a * b], transposed(dy.row(from), b), panels.p + from * size, b, count, a,
                accumulate}.all_tiles();
    });
}

// --------------------------------------------------------------------------------------------- [4] attention
// A block of queries of one head attends to its keys at once: scores S = scale Q K^T (block x keys), softmax
// by rows, O = S V. Only one block of scores exists per thread. Keys outside a query's span are masked within
// the block.
constexpr long query_block = 64;                         // a multiple of 4

struct Span { int lo, hi; };
static Span span(const View &where, long t) { return {where.id(2 * t), where.id(2 * t + 1)}; }

// The block's queries as a dense (32, d) matrix with zero rows for padding; [lo, hi) covers all they see.
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

// Rows t0 .. t0+count of one head of x (B,T,n,d).
static Rows head_rows(const View &x, long b, long t, long head, long count, long width) {
    const long n = x.shape[2], d = x.width();
    return rows(&x[((b * x.shape[1] + t) * n + head) * d], count, width, n * d);
}

constexpr long key_block = 64;
// The keys (or values) at positions from .. from+64, zero where no query of the block looks.
static Matrix key_rows(const View &x, const Block &a, long head, long from, long width) {
    Matrix rows = Matrix::Zero(key_block, width);
    const long first = std::max(from, a.lo), last = std::min(from + key_block, a.hi);
    if (last > first)
        rows.middleRows(first - from, last - first) = head_rows(x, a.b, first, head, last - first, width);
    return rows;
}

// Scores in place: scale, masked exponentials that sum to 1. Returns lse per row; -inf where nothing is seen.
static void masked_softmax(const Call &c, const Block &k, long start, Matrix &S, real *lse) {
    const int T = c.in[0].shape[1];
    const real scale = (real)c.a.scale;
    for (long r = 0; r < S.rows(); r++) {
        const Span s = r < k.count ? span(c.in[3], k.b * T + k.t0 + r) : Span{1, 0};
        auto row = S.row(r);
        if (s.lo > s.hi) {
            row.setZero();
            lse[r] = -INFINITY;
            continue;
        }
        const long first = s.lo - start, n = s.hi - s.lo + 1;
        real *p = row.data();
        std::fill_n(p, first, 0);
        std::fill(p + first + n, p + S.cols(), 0);
        real top = -INFINITY, sum = 0;
        p += first;
#pragma omp simd reduction(max : top)
        for (long j = 0; j < n; j++) top = std::max(top, p[j]);
        top *= scale;
        for (long j = 0; j < n; j++) p[j] = exp_of(p[j] * scale - top);
#pragma omp simd reduction(+ : sum)
        for (long j = 0; j < n; j++) sum += p[j];
        for (long j = 0; j < n; j++) p[j] *= 1 / sum;
        lse[r] = top + log(sum);
    }
}

static void attention_forward(const Call &c) {
    if (c.a.lists) return cpu::attention_forward(c); // lists are gathered one by one: the plain loop is right
    const View q = c.in[0], k = c.in[1], v = c.in[2] ? c.in[2] : c.in[1], o = c.out[0], lse = c.out[1];
    const int T = q.shape[1], n_h = q.shape[2], n_kv = k.shape[2], d_k = q.width(), d_v = o.width();
    const long blocks = (T + query_block - 1) / query_block;
    for_rows(q.shape[0] * n_h * blocks, query_block * k.shape[1] * (d_k + d_v), [&](long i) {
        const Block a(c, i, blocks);
        const long start = a.lo / key_block * key_block, g = a.head * n_kv / n_h, size = padded(a.count);
        const long n = a.keys() ? (a.hi - start + key_block - 1) / key_block * key_block : 0;
        Matrix Q = Matrix::Zero(size, d_k), S(size, n), O = Matrix::Zero(size, d_v);
        real block_lse[query_block];
        Q.topRows(a.count) = head_rows(q, a.b, a.t0, a.head, a.count, d_k);
        for (long j = 0; j < n; j += key_block)
            S.middleCols(j, key_block).noalias() = Q * key_rows(k, a, g, start + j, d_k).transpose();
        masked_softmax(c, a, start, S, block_lse);
        for (long j = 0; j < n; j += key_block)
            O.noalias() += S.middleCols(j, key_block) * key_rows(v, a, g, start + j, d_v);
        head_rows(o, a.b, a.t0, a.head, a.count, d_v) = O.topRows(a.count);
        for (long r = 0; r < a.count; r++) lse[(a.b * T + a.t0 + r) * n_h + a.head] = block_lse[r];
    });
}

// dS = P (dO V^T - rowsum(dO O)) scale:  dQ += dS K,  dK += dS^T Q,  dV += P^T dO.
// One thread owns a key head and takes its query heads and blocks in order.
static void attention_backward(const Call &c) {
    if (c.a.lists) return cpu::attention_backward(c);
    const View q = c.in[0], k = c.in[1], v = c.in[2] ? c.in[2] : c.in[1], o = c.out[0], lse = c.out[1],
               dout = c.dout[0];
    const View dq = c.din[0], dk = c.din[1], dv = c.in[2] ? c.din[2] : c.din[1];
    const int T = q.shape[1], n_h = q.shape[2], n_kv = k.shape[2], d_k = q.width(), d_v = o.width(),
              share = n_h / n_kv;
    const long blocks = (T + query_block - 1) / query_block;
    const real scale = (real)c.a.scale;
    const auto one_block = [&](long b, long head, long block) {
        const Block a(c, (b * n_h + head) * blocks + block, blocks);
        const long n = a.keys(), g = head / share;
        if (!n) return;
        const Matrix Q = head_rows(q, b, a.t0, head, a.count, d_k),
                     dO = head_rows(dout, b, a.t0, head, a.count, d_v);
        const Rows K = head_rows(k, b, a.lo, g, n, d_k), V = head_rows(v, b, a.lo, g, n, d_v);
        Matrix P(a.count, n), dS(a.count, n);
        P.noalias() = Q * K.transpose();
        dS.noalias() = dO * V.transpose();
        for (long r = 0; r < a.count; r++) {
            const Span s = span(c.in[3], b * T + a.t0 + r);
            const real row_lse = lse[(b * T + a.t0 + r) * n_h + head];
            const real mean = dO.row(r).dot(head_rows(o, b, a.t0 + r, head, 1, d_v).row(0));
            real *p = P.row(r).data(), *ds = dS.row(r).data();
            const long first = std::max(0l, s.lo - a.lo), end = std::max(first, s.hi - a.lo + 1);
            std::fill(p, p + std::min(first, n), 0);
            std::fill(p + std::min(end, n), p + n, 0);
            for (long j = first; j < end; j++) p[j] = exp_of(scale * p[j] - row_lse);
            for (long j = 0; j < n; j++) ds[j] = scale * p[j] * (ds[j] - mean);
        }
        if (dq) head_rows(dq, b, a.t0, head, a.count, d_k).noalias() += dS * K;
        if (dk) head_rows(dk, b, a.lo, g, n, d_k).noalias() += dS.transpose() * Q;
        if (dv) head_rows(dv, b, a.lo, g, n, d_v).noalias() += P.transpose() * dO;
    };
    for_rows(q.shape[0] * n_kv, (long)share * T * k.shape[1] * (d_k + d_v), [&](long bg) {
        for (long head = bg % n_kv * share; head < (bg % n_kv + 1) * share; head++)
            for (long block = 0; block < blocks; block++) one_block(bg / n_kv, head, block);
    });
}

// -------------------------------------------------------------------------------------------------- [5] logp
// Logits of a chunk of rows at a time; the backward turns them into dz in place and multiplies twice.
static void chunk_logits(const Call &c, const real *panels, long from, long count, real *z) {
    const View h = c.in[0], W = c.in[1], allowed = c.in[3];
    const long V = W.shape[0], d = W.width();
    Product{z, as_it_stands(h.row(from), d), panels, count, d, V, overwrite}.all_tiles();
    const real temperature = (real)c.a.temperature;
    for (long i = 0; temperature != 1 && i < count * V; i++) z[i] /= temperature;
    for (long i = 0; allowed && i < count * V; i++)
        if (!allowed.id(from * V + i)) z[i] = -INFINITY;
}

static void logp_forward(const Call &c) {
    const View W = c.in[1], ids = c.in[2], y = c.out[0], H = c.out[1], lse = c.out[2];
    const long V = W.shape[0], d = W.width(), N = ids.numel();
    Scratch<real> panels(cpu_device, gemm::packed_size(d, V));
    Scratch<real> logits(cpu_device, omp_get_max_threads() * chunk_rows * V);      // a chunk for each thread
    gemm::pack(panels.p, transposed(&W[0], d), d, V);
    for_rows(chunks(N), 2 * chunk_rows * W.numel() / gemm::lanes, [&](long i) {
        const long from = i * chunk_rows, count = std::min(chunk_rows, N - from);
        real *Z = &logits[omp_get_thread_num() * chunk_rows * V];
        chunk_logits(c, panels.p, from, count, Z);
        for (long n = from; n < from + count; n++) {
            y[n] = H[n] = lse[n] = 0;
            if (ids.id(n) < 0) continue;
            const real *z = Z + (n - from) * V, target = z[ids.id(n)];
            real top = -INFINITY, sum = 0, sum_z = 0;
#pragma omp simd reduction(max : top)
            for (long v = 0; v < V; v++) top = std::max(top, z[v]);
#pragma omp simd reduction(+ : sum, sum_z)
            for (long v = 0; v < V; v++) {
                const real below = z[v] - top, e = exp_of(below);
                sum += e;
                sum_z += e > 0 ? e * below : 0;
            }
            lse[n] = top + log(sum);
            y[n] = target - lse[n];
            H[n] = log(sum) - sum_z / sum;
        }
    });
}

// dz_v = dy (1[v = id] - p_v) - dH p_v (log p_v + H), in the place of the logits of row n.
static void logits_gradient(const Call &c, long n, real *z) {
    const View dy = c.dout[0], dH = c.dout[1], H = c.out[1], lse = c.out[2];
    const long V = c.in[1].shape[0], id = c.in[2].id(n);
    if (id < 0) {                                        // its logits may overflow, and 0 times infinity is NaN
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
    const View h = c.in[0], W = c.in[1], dh = c.din[0], dW = c.din[1];
    const long V = W.shape[0], d = W.width(), N = c.in[2].numel(), most = std::min(16 * chunk_rows, N);
    Scratch<real> by_word(cpu_device, gemm::packed_size(d, V)), by_width(cpu_device, gemm::packed_size(V, d));
    Scratch<real> rows(cpu_device, gemm::packed_size(most, d)), Z(cpu_device, most * V);
    gemm::pack(by_word.p, transposed(&W[0], d), d, V);
    gemm::pack(by_width.p, as_it_stands(&W[0], d), V, d);
    for (long start = 0; start < N; start += most) {
        const long total = std::min(most, N - start);
        for_rows(chunks(total), 4 * chunk_rows * W.numel() / gemm::lanes, [&](long i) {
            const long from = i * chunk_rows, count = std::min(chunk_rows, total - from);
            real *z = &Z[from * V];
            chunk_logits(c, by_word.p, start + from, count, z);
            for (long r = 0; r < count; r++) logits_gradient(c, start + from + r, z + r * V);
            if (dh)
                Product{dh.row(start + from), as_it_stands(z, V), by_width.p, count, V, d, accumulate}.all_tiles();
        });
        if (!dW) continue;
        gemm::pack(rows.p, as_it_stands(h.row(start), d), total, d);
        Product{&dW[0], transposed(Z.p, V), rows.p, V, total, d, accumulate}.in_parallel();
    }
}

}  // namespace fast

void install_fast(Twin *twins) {
    twins[op_matmul] = {fast::matmul_forward, fast::matmul_backward};
    twins[op_matmul_grouped] = {fast::matmul_grouped_forward, fast::matmul_grouped_backward};
    twins[op_attention] = {fast::attention_forward, fast::attention_backward};
    twins[op_logp] = {fast::logp_forward, fast::logp_backward};
}

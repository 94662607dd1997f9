// fast.cpp: the second rendition of the hot ops on the CPU.
//
// Each function computes what its plain kernel says (ops.cpp, sequence.cpp), faster: products of matrices by
// gemm.h's tiles, scores by blocks of queries that stay in the cache, logits by chunks of rows. `--kernels
// plain` switches back.
//
// A row's bits do not depend on its neighbours, so decoding equals the full forward exactly. For products,
// gemm.h sees to that. A softmax adds up its row in vectors that begin at fixed positions, and attention's
// sum over the keys is cut at fixed positions, wherever the block of queries begins to see.
//
// Where a product has few rows, as in decoding, bringing W into panels costs as much as the product. A weight
// that does not change from token to token keeps its panels: of its version.
//
//   [1] matrices, chunks, memory   [2] matmul, matmul_heads   [3] matmul_grouped   [4] attention   [5] logp
//   [6] kl_vocab
#include <algorithm>

#include "src/base/parallel.h"
#include "src/cpu/gemm.h"
#include "src/tensor/kernels.h"

// ------------------------------------------------------------------------------ [1] matrices, chunks, memory
using gemm::accumulate, gemm::overwrite, gemm::Product, gemm::Strided;

// Rows are shared out in chunks of this size where something is done between two products.
constexpr long chunk_rows = 64;
static long chunks(long n) { return (n + chunk_rows - 1) / chunk_rows; }

namespace fast {

// A matrix wherever it lies: element (i, j) is p[i * down + j * across].
struct Matrix {
    real *p;
    long rows, columns, down, across = 1;
    Matrix t() const { return {p, columns, rows, across, down}; }
    Matrix from_column(long j, long n) const { return {p + j * across, rows, n, down, across}; }
    real *row(long i) const { return p + i * down; }
    Strided strided() const { return {p, down, across}; }
};
static Matrix matrix(real *p, long rows, long columns) { return {p, rows, columns, columns}; }
static Matrix matrix(const View &x) { return matrix(x.row(0), x.rows(), x.width()); }

// C = or += A B, with B in panels.
static Product product(const Matrix &C, const Matrix &A, const real *panels, gemm::Write write) {
    return {.C = C.p,
            .stride = C.down,
            .A = A.strided(),
            .panels = panels,
            .rows = C.rows,
            .depth = A.columns,
            .columns = C.columns,
            .write = write};
}
static long panels_size(const Matrix &B) { return gemm::packed_size(B.rows, B.columns); }

// By one thread, which has room for the panels; or by all threads.
static void multiply(const Matrix &C, const Matrix &A, const Matrix &B, real *panels, gemm::Write write) {
    gemm::pack(panels, B.strided(), B.rows, B.columns);
    product(C, A, panels, write).all_tiles();
}
static void multiply(const Matrix &C, const Matrix &A, const Matrix &B, gemm::Write write) {
    Scratch<real> panels(cpu_device, panels_size(B));
    gemm::pack_in_parallel(panels.p, B.strided(), B.rows, B.columns);
    product(C, A, panels.p, write).in_parallel();
}

// Temporary memory, a piece for each thread.
struct PerThread {
    long size;
    Scratch<real> all;
    explicit PerThread(long size) : size(size), all(cpu_device, omp_get_max_threads() * size) {}
    real *mine() const { return &all[omp_get_thread_num() * size]; }
};

static real largest(const real *x, long n) {
    real top = -INFINITY;
#pragma omp simd reduction(max : top)
    for (long i = 0; i < n; i++) top = x[i] > top ? x[i] : top;
    return top;
}

// W^T, of a list of matrices W the transpose of each, as the weight keeps it; null: it does not. More rows
// than a few pay for panels of their own: what is evaluated in large batches needs no memory for them.
constexpr long few_rows = 64;
static const real *kept_panels(const Call &call, long rows) {
    Panels *kept = call.panels;
    const Shape &of = call.in[1].shape;
    if (!kept || call.a.precision != f32) return nullptr;
    const bool valid = kept->p && kept->of == of && kept->version == call.version;
    if (valid || rows > few_rows) return valid ? kept->p : nullptr;
    const long E = of.rank == 3 ? of[0] : 1, columns = of[-2], depth = of[-1];
    const long size = gemm::packed_size(depth, columns);
    if (kept->n != E * size) {
        if (kept->p) cpu_device.give(kept->p, kept->n * sizeof(real));
        kept->p = (real *)cpu_device.take(E * size * sizeof(real));
    }
    *kept = {.p = kept->p, .n = E * size, .of = of, .version = call.version};
    for (long e = 0; e < E; e++) {
        const Matrix W = matrix(&call.in[1][e * columns * depth], columns, depth);
        gemm::pack_in_parallel(kept->p + e * size, W.t().strided(), depth, columns);
    }
    return kept->p;
}

// ---------------------------------------------------------------------------------- [2] matmul, matmul_heads
static void matmul_forward(const Call &call) {           // y = x W^T
    if (const real *kept = kept_panels(call, call.in[0].rows()))
        return product(matrix(call.out[0]), matrix(call.in[0]), kept, overwrite).in_parallel();
    const Rounded c = cpu::rounded(call);
    multiply(matrix(c.out[0]), matrix(c.in[0]), matrix(c.in[1]).t(), overwrite);
}

static void matmul_backward(const Call &call) {          // dx += dy W,  dW += dy^T x
    const Rounded c = cpu::rounded(call);
    const Matrix x = matrix(c.in[0]), W = matrix(c.in[1]), dy = matrix(c.dout[0]);
    if (c.din[0]) multiply(matrix(c.din[0]), dy, W, accumulate);
    if (c.din[1]) multiply(matrix(c.din[1]), dy.t(), x, accumulate);
}

static Matrix matrix_of(const View &W, long e) {         // of a head, of an expert
    return matrix(&W[e * W.shape[1] * W.shape[2]], W.shape[1], W.shape[2]);
}

// y_i = W_i x_i, or its transpose. A head's rows lie n_h apart. Only absorbed MLA calls this, so the backward
// has one rendition.
static void matmul_heads_forward(const Call &call) {
    const Rounded c = cpu::rounded(call);
    const View &x = c.in[0], &W = c.in[1], &y = c.out[0];
    const long n_h = W.shape[0], rows = x.rows() / n_h, size = gemm::packed_size(x.width(), y.width());
    const PerThread panels(size);
    for_rows(n_h, (rows + gemm::lanes) * W.numel() / n_h / gemm::lanes, [&](long i) {
        const Matrix W_i = matrix_of(W, i);
        const Matrix X = {.p = x.row(i), .rows = rows, .columns = x.width(), .down = n_h * x.width()};
        const Matrix Y = {.p = y.row(i), .rows = rows, .columns = y.width(), .down = n_h * y.width()};
        multiply(Y, X, c.a.transpose ? W_i : W_i.t(), panels.mine(), overwrite);
    });
}

// ---------------------------------------------------------------------------------------- [3] matmul_grouped
// The list of chunks: rows [from, from + count) of one expert. A chunk never reaches into the next expert.
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
static Matrix some_rows(const View &x, long from, long count) {
    return matrix(x.row(from), count, x.width());
}

// out = or += in W_e, or its transpose, the rows of each expert e together, with all experts in panels.
static void grouped_product(const View &out, const View &in, const View &offsets, int E, const real *panels,
                            gemm::Write write) {
    const auto list = group_chunks(offsets, E);
    const long size = gemm::packed_size(in.width(), out.width());
    const long work = in.rows() * in.width() * out.width() / gemm::lanes / std::max<long>(1, list.size());
    for_rows(list.size(), work, [&](long i) {
        const auto [e, from, count] = list[i];
        product(some_rows(out, from, count), some_rows(in, from, count), panels + e * size, write)
            .all_tiles();
    });
}

// Matrices of experts without rows are left alone: of few tokens that is most of them.
static void grouped_product(const View &out, const View &in, const View &W, const View &offsets,
                            bool transpose, gemm::Write write) {
    const long E = W.shape[0], of_expert = W.numel() / E, size = gemm::packed_size(in.width(), out.width());
    Scratch<real> panels(cpu_device, E * size);
    for_rows(E, of_expert / 4, [&](long e) {
        if (offsets.id(e) == offsets.id(e + 1)) return;
        const Matrix B = transpose ? matrix_of(W, e).t() : matrix_of(W, e);
        gemm::pack(panels.p + e * size, B.strided(), B.rows, B.columns);
    });
    grouped_product(out, in, offsets, E, panels.p, write);
}

static void matmul_grouped_forward(const Call &call) {
    const int E = call.in[1].shape[0];
    const View &offsets = call.in[2], &y = call.out[0];
    if (const real *kept = kept_panels(call, call.in[0].rows() / E)) {
        grouped_product(y, call.in[0], offsets, E, kept, overwrite);
    } else {
        const Rounded c = cpu::rounded(call);
        grouped_product(y, c.in[0], c.in[1], offsets, true, overwrite);
    }
    std::fill(y.row(offsets.id(E)), y.row(y.rows()), 0);
}

static void matmul_grouped_backward(const Call &call) {
    const Rounded c = cpu::rounded(call);
    const View &x = c.in[0], &W = c.in[1], &offsets = c.in[2], &dx = c.din[0], &dW = c.din[1],
               &dy = c.dout[0];
    const long E = W.shape[0];
    if (dx) grouped_product(dx, dy, W, offsets, false, accumulate);
    if (!dW) return;
    long most = 0;
    for (int e = 0; e < E; e++) most = std::max<long>(most, offsets.id(e + 1) - offsets.id(e));
    const PerThread panels(gemm::packed_size(most, x.width()));
    for_rows(E, x.numel() * dy.width() / gemm::lanes / E, [&](long e) {
        const long from = offsets.id(e), count = offsets.id(e + 1) - from;
        multiply(matrix_of(dW, e), some_rows(dy, from, count).t(), some_rows(x, from, count), panels.mine(),
                 accumulate);
    });
}

// --------------------------------------------------------------------------------------------- [4] attention
// A block of queries of one head attends to its keys at once: scores S = scale Q K^T (block x keys),
// softmax by rows, O = S V. Only one block of scores exists per thread. Keys outside a query's span
// are masked within the block.
constexpr long query_block = 64;

struct Span { int lo, hi; };
static Span span(const View &where, long t) { return {where.id(2 * t), where.id(2 * t + 1)}; }

// Queries t0 .. t0+count of one head, which uses key head g; [lo, hi) covers all keys they see.
struct QueryBlock {
    long b, head, g, t0, count, lo, hi;
    bool masked = false;                                 // some query sees less than that
    QueryBlock(const Call &c, long b, long head, long t0, long count)
        : b(b), head(head), g(head * c.in[1].shape[2] / c.in[0].shape[2]), t0(t0), count(count),
          lo(c.in[1].shape[1]), hi(0) {
        const auto seen = [&](long t) { return span(c.in[3], b * c.in[0].shape[1] + t); };
        for (long t = t0; t < t0 + count; t++) {
            if (seen(t).lo > seen(t).hi) continue;
            lo = std::min<long>(lo, seen(t).lo);
            hi = std::max<long>(hi, seen(t).hi + 1);
        }
        for (long t = t0; t < t0 + count; t++) masked |= seen(t).lo > lo || seen(t).hi + 1 < hi;
    }
    long keys() const { return std::max(0l, hi - lo); }
    // The rows of this head's queries, or of its keys from j on, in some tensor (B,T,n,d).
    Matrix queries(const View &x) const { return rows(x, t0, head, count); }
    Matrix keys(const View &x, long j, long n) const { return rows(x, j, g, n); }
    Matrix keys(const View &x) const { return keys(x, lo, keys()); }

private:
    Matrix rows(const View &x, long t, long i, long n) const {
        return {x.head(b, t, i), n, x.width(), (long)x.shape[2] * x.width()};
    }
};

// Where a key is masked its probability is 0, and 0 times a number is 0; but 0 times NaN or infinity is NaN,
// and would reach a query that does not see the key. A block with such a number in it is taken apart: one
// query alone masks none.
static bool finite(const Matrix &m) {
    real sum = 0;
    for (long i = 0; i < m.rows; i++) {
        const real *x = m.row(i);
#pragma omp simd reduction(+ : sum)
        for (long j = 0; j < m.columns; j++) sum += x[j] * 0;
    }
    return sum == 0;
}
template <class F> static void one_by_one(const Call &c, const QueryBlock &a, F f) {
    for (long t = a.t0; t < a.t0 + a.count; t++) f(QueryBlock(c, a.b, a.head, t, 1));
}

// f(block), for blocks of the queries of one head, first to last.
template <class F> static void for_blocks(const Call &c, long b, long head, F f) {
    const long T = c.in[0].shape[1];
    for (long t0 = 0; t0 < T; t0 += query_block) f(QueryBlock(c, b, head, t0, std::min(query_block, T - t0)));
}

// Scores in place: scale, masked exponentials that sum to 1. Column 0 of S is the key `start`. The loops run
// over whole vectors, and what they do beyond the row's own keys is wiped out. lse: -inf if none is seen.
static void masked_softmax(const Call &c, const QueryBlock &a, long start, const Matrix &S) {
    const real scale = c.a.scale;
    for (long r = 0; r < S.rows; r++) {
        const long t = a.b * c.in[0].shape[1] + a.t0 + r;
        const Span s = span(c.in[3], t);
        real *p = S.row(r), &lse = c.out[1].row(t)[a.head];
        if (s.lo > s.hi) {
            std::fill_n(p, S.columns, 0);
            lse = -INFINITY;
            continue;
        }
        const long first = s.lo - start, end = s.hi + 1 - start;
        const long from = first / gemm::lanes * gemm::lanes, to = gemm::whole_vectors(end);
        const real top = scale * largest(p + first, end - first);
        std::fill(p + from, p + first, 0);
        std::fill(p + end, p + to, 0);
        for (long j = from; j < to; j++) p[j] = exp_of(p[j] * scale - top);
        std::fill_n(p, first, 0);
        std::fill(p + end, p + S.columns, 0);
        gemm::Vector sums = {};
        for (long j = from; j < to; j += gemm::lanes) sums += *(const gemm::LooseVector *)(p + j);
        real sum = 0;
        for (int l = 0; l < gemm::lanes; l++) sum += sums[l];
        const real inverse = 1 / sum;
        for (long j = from; j < to; j++) p[j] *= inverse;
        lse = top + log(sum);
    }
}

// scores: room for a block's; panels: for the packed keys, or a part of the values.
static void attend(const Call &c, const QueryBlock &a, real *scores, real *panels) {
    const View &q = c.in[0], &k = c.in[1], &v = c.in[2] ? c.in[2] : c.in[1], &o = c.out[0];
    const long d_v = o.width(), start = a.lo / gemm::lanes * gemm::lanes;
    const Matrix S = matrix(scores, a.count, a.keys() ? gemm::whole_vectors(a.hi - start) : 0);
    const Matrix V = a.keys(v).from_column(0, d_v), O = a.queries(o);                 // v may be k, and wider
    if (a.masked && !finite(V))
        return one_by_one(c, a, [&](const QueryBlock &one) { attend(c, one, scores, panels); });

    // 1 scores
    if (a.keys())
        multiply(S.from_column(a.lo - start, a.keys()), a.queries(q), a.keys(k).t(), panels, overwrite);

    // 2 softmax
    masked_softmax(c, a, start, S);

    // 3 values: the sum is cut where it always is, and not at the first key that some query of the block
    // sees; then the zeros of masked keys are all that a query's neighbours add to it
    for (long r = 0; r < a.count; r++) std::fill_n(O.row(r), d_v, 0);
    for (long j = a.lo, n; j < a.hi; j += n) {
        n = std::min(a.hi, (j / gemm::block_depth + 1) * gemm::block_depth) - j;
        multiply(O, S.from_column(j - start, n), a.keys(v, j, n).from_column(0, d_v), panels, accumulate);
    }
}

static void attention_forward(const Call &c) {
    if (c.a.lists)
        return cpu::attention_forward(c);            // lists are gathered one by one: the plain loop is right
    const View &q = c.in[0], &k = c.in[1], &o = c.out[0];
    const long T = q.shape[1], n_h = q.shape[2], d_k = q.width(), d_v = o.width();
    const long blocks = (T + query_block - 1) / query_block, most = gemm::whole_vectors(k.shape[1]);
    const PerThread scores(query_block * most);
    const PerThread panels(std::max(gemm::packed_size(d_k, most), gemm::packed_size(most, d_v)));
    const long work = std::min(query_block, T) * most * (d_k + d_v) / gemm::lanes;
    for_rows(q.shape[0] * n_h * blocks, work, [&](long i) {
        const long t0 = i % blocks * query_block;
        const QueryBlock block(c, i / blocks / n_h, i / blocks % n_h, t0, std::min(query_block, T - t0));
        attend(c, block, scores.mine(), panels.mine());
    });
}

// The part of one block of queries.  dS = P (dO V^T - rowsum(dO O)) scale:
//     dQ += dS K,  dK += dS^T Q,  dV += P^T dO
struct BackwardMemory { real *P, *dS, *panels; };
static void attend_backward(const Call &c, const QueryBlock &a, const BackwardMemory &memory) {
    const View &q = c.in[0], &k = c.in[1], &v = c.in[2] ? c.in[2] : c.in[1], &o = c.out[0], &lse = c.out[1];
    const View &dq = c.din[0], &dk = c.din[1], &dv = c.in[2] ? c.din[2] : c.din[1];
    const long d_v = o.width(), n = a.keys(), width = gemm::whole_vectors(n);
    const Matrix Q = a.queries(q), dO = a.queries(c.dout[0]), O = a.queries(o), K = a.keys(k);
    const Matrix V = a.keys(v).from_column(0, d_v);
    if (n == 0) return;
    if (a.masked && !(finite(Q) && finite(K) && finite(dO)))
        return one_by_one(c, a, [&](const QueryBlock &one) { attend_backward(c, one, memory); });

    // 1 scores again, and dO V^T
    const Matrix P = matrix(memory.P, a.count, width), dS = matrix(memory.dS, a.count, width);
    const Matrix P_seen = P.from_column(0, n), dS_seen = dS.from_column(0, n);
    multiply(P_seen, Q, K.t(), memory.panels, overwrite);
    multiply(dS_seen, dO, V.t(), memory.panels, overwrite);

    // 2 probabilities, and the softmax's Jacobian
    const real scale = c.a.scale;
    for (long r = 0; r < a.count; r++) {
        const long t = a.b * q.shape[1] + a.t0 + r;
        const Span s = span(c.in[3], t);
        const real row_lse = lse.row(t)[a.head], mean = dot(dO.row(r), O.row(r), d_v);
        real *p = P.row(r), *ds = dS.row(r);
        const long first = std::clamp(s.lo - a.lo, 0l, width),
                   end = std::clamp(s.hi + 1 - a.lo, first, width);
        for (long j = 0; j < width; j++) p[j] = exp_of(scale * p[j] - row_lse);
        for (long j = 0; j < width; j++) ds[j] = scale * p[j] * (ds[j] - mean);
        for (real *x : {p, ds}) {
            std::fill(x, x + first, 0);
            std::fill(x + end, x + width, 0);
        }
    }

    // 3 gradients
    if (dq) multiply(a.queries(dq), dS_seen, K, memory.panels, accumulate);
    if (dk) multiply(a.keys(dk), dS_seen.t(), Q, memory.panels, accumulate);
    if (dv) multiply(a.keys(dv).from_column(0, d_v), P_seen.t(), dO, memory.panels, accumulate);
}

// One thread owns a key head and takes its query heads and blocks in order.
static void attention_backward(const Call &c) {
    if (c.a.lists) return cpu::attention_backward(c);
    const View &q = c.in[0], &k = c.in[1];
    const long T = q.shape[1], n_kv = k.shape[2], share = q.shape[2] / n_kv;
    const long most = gemm::whole_vectors(k.shape[1]);
    const long d = gemm::whole_vectors(std::max(q.width(), c.out[0].width()));
    const PerThread P(query_block * most), dS(query_block * most), panels(d * std::max(most, query_block));
    for_rows(q.shape[0] * n_kv, 5 * share * T * most * d / gemm::lanes, [&](long bg) {
        const BackwardMemory memory = {P.mine(), dS.mine(), panels.mine()};
        for (long head = bg % n_kv * share; head < (bg % n_kv + 1) * share; head++)
            for_blocks(c, bg / n_kv, head,
                       [&](const QueryBlock &block) { attend_backward(c, block, memory); });
    });
}

// -------------------------------------------------------------------------------------------------- [5] logp
// Logits of a chunk of rows at a time; the backward turns them into dz in place and multiplies twice.
static void chunk_logits(const Call &c, const real *panels, long from, long count, real *z) {
    const View &h = c.in[0], &W = c.in[1], &allowed = c.in[3];
    const long V = W.shape[0];
    const real temperature = c.a.temperature;
    product(matrix(z, count, V), some_rows(h, from, count), panels, overwrite).all_tiles();
    for (long i = 0; temperature != 1 && i < count * V; i++) z[i] /= temperature;
    for (long i = 0; allowed && i < count; i++)
        for (long v = 0; v < V; v++)
            if (!in_set(allowed.ids(from + i), v)) z[i * V + v] = -INFINITY;
}

static void logp_forward(const Call &call) {
    const Rounded c = cpu::rounded(call, false);
    const View &W = c.in[1], &ids = c.in[2], &y = c.out[0], &H = c.out[1], &lse = c.out[2];
    const long V = W.shape[0], d = W.width(), N = ids.numel();
    const real *kept = kept_panels(call, N);
    Scratch<real> panels(cpu_device, kept ? 1 : gemm::packed_size(d, V));
    const PerThread logits(chunk_rows * V);
    if (!kept) gemm::pack_in_parallel(panels.p, matrix(W).t().strided(), d, V);
    for_rows(chunks(N), 2 * chunk_rows * W.numel() / gemm::lanes, [&](long i) {
        const long from = i * chunk_rows, count = std::min(chunk_rows, N - from);
        real *Z = logits.mine();
        chunk_logits(c, kept ? kept : panels.p, from, count, Z);
        for (long n = from; n < from + count; n++) {
            y[n] = H[n] = lse[n] = 0;
            if (ids.id(n) < 0) continue;
            const real *z = Z + (n - from) * V, target = z[ids.id(n)];
            const real top = largest(z, V);
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
    const real temperature = c.a.temperature;
    const real a = dy ? dy[n] / temperature : 0, b = dH ? dH[n] / temperature : 0;
    for (long v = 0; v < V; v++) {
        const real log_p = z[v] - lse[n], p = exp_of(log_p);
        z[v] = -a * p - (b != 0 && p > 0 ? b * p * (log_p + H[n]) : 0);
    }
    z[id] += a;
}

// dh += dz W,  dW += dz^T h,  for a thousand rows at a time: that bounds the memory for dz.
static void logp_backward(const Call &call) {
    const Rounded c = cpu::rounded(call, false);
    const View &h = c.in[0], &W = c.in[1], &dh = c.din[0], &dW = c.din[1];
    const long V = W.shape[0], d = W.width(), N = c.in[2].numel(), most = std::min(16 * chunk_rows, N);
    Scratch<real> by_word(cpu_device, gemm::packed_size(d, V)), by_width(cpu_device, gemm::packed_size(V, d));
    Scratch<real> Z(cpu_device, most * V);
    gemm::pack_in_parallel(by_word.p, matrix(W).t().strided(), d, V);
    gemm::pack_in_parallel(by_width.p, matrix(W).strided(), V, d);
    for (long start = 0; start < N; start += most) {
        const long total = std::min(most, N - start);
        for_rows(chunks(total), 4 * chunk_rows * W.numel() / gemm::lanes, [&](long i) {
            const long from = i * chunk_rows, count = std::min(chunk_rows, total - from);
            real *z = &Z[from * V];
            chunk_logits(c, by_word.p, start + from, count, z);
            for (long r = 0; r < count; r++) logits_gradient(c, start + from + r, z + r * V);
            const Matrix dz = matrix(z, count, V);
            if (dh) product(some_rows(dh, start + from, count), dz, by_width.p, accumulate).all_tiles();
        });
        if (!dW) continue;
        multiply(matrix(dW), matrix(Z.p, total, V).t(), some_rows(h, start, total), accumulate);
    }
}

// ---------------------------------------------------------------------------------------------- [6] kl_vocab
// As logp, with the logits of both; a row that does not count is left out.
struct BothHeads {
    const Rounded student, teacher;
    const long V;
    Scratch<real> W, U;                                  // W^T and U^T in panels
    explicit BothHeads(const Call &c)
        : student(cpu::rounded(student_of(c), false)), teacher(cpu::rounded(teacher_of(c), false)),
          V(c.in[1].shape[0]), W(cpu_device, panels_size(matrix(student.in[1]).t())),
          U(cpu_device, panels_size(matrix(teacher.in[1]).t())) {
        gemm::pack_in_parallel(W.p, matrix(student.in[1]).t().strided(), student.in[1].width(), V);
        gemm::pack_in_parallel(U.p, matrix(teacher.in[1]).t().strided(), teacher.in[1].width(), V);
    }
    void logits(long from, long count, real *z_q, real *z_p) const {
        chunk_logits(student, W.p, from, count, z_q);
        chunk_logits(teacher, U.p, from, count, z_p);
    }
    long work() const {                                  // of a chunk
        return chunk_rows * V * (student.in[1].width() + teacher.in[1].width()) / gemm::lanes;
    }
};

static void kl_vocab_forward(const Call &c) {
    const BothHeads heads(c);
    const View &pos = c.in[4];
    const long V = heads.V, N = pos.numel();
    const PerThread logits(2 * chunk_rows * V);
    for_rows(chunks(N), 2 * heads.work(), [&](long i) {
        const long from = i * chunk_rows, count = std::min(chunk_rows, N - from);
        real *z_q = logits.mine(), *z_p = z_q + chunk_rows * V;
        heads.logits(from, count, z_q, z_p);
        for (long r = 0; r < count; r++) {
            if (pos.id(from + r) >= 0) cpu::kl_row(c, from + r, z_q + r * V, z_p + r * V);
            else c.out[0][from + r] = c.out[1][from + r] = c.out[2][from + r] = 0;
        }
    });
}

// dh += dz W,  dW += dz^T h,  for a thousand rows at a time, as in logp_backward. In rows that do not count
// both dz and h are 0: 0 times what may stand there could be NaN.
static void kl_vocab_backward(const Call &c) {
    const BothHeads heads(c);
    const View &h = heads.student.in[0], &W = heads.student.in[1], &pos = c.in[4], &dh = c.din[0],
               &dW = c.din[1];
    const long V = heads.V, d = W.width(), N = pos.numel(), most = std::min(16 * chunk_rows, N);
    Scratch<real> by_width(cpu_device, panels_size(matrix(W))), Z(cpu_device, most * V),
        H(cpu_device, most * d);
    const PerThread logits(chunk_rows * V);
    gemm::pack_in_parallel(by_width.p, matrix(W).strided(), V, d);
    for (long start = 0; start < N; start += most) {
        const long total = std::min(most, N - start);
        for_rows(chunks(total), 3 * heads.work(), [&](long i) {
            const long from = i * chunk_rows, count = std::min(chunk_rows, total - from);
            real *z_q = &Z[from * V], *z_p = logits.mine();
            heads.logits(start + from, count, z_q, z_p);
            for (long r = 0; r < count; r++) {
                const long n = start + from + r;
                const bool counts = pos.id(n) >= 0;
                if (counts) cpu::kl_row_gradient(c, n, z_q + r * V, z_p + r * V);
                else std::fill_n(z_q + r * V, V, 0);
                for (long j = 0; j < d; j++) H[(from + r) * d + j] = counts ? h.row(n)[j] : 0;
            }
            const Matrix dz = matrix(z_q, count, V);
            if (dh) product(some_rows(dh, start + from, count), dz, by_width.p, accumulate).all_tiles();
        });
        if (dW) multiply(matrix(dW), matrix(Z.p, total, V).t(), matrix(H.p, total, d), accumulate);
    }
}

}  // namespace fast

void install_fast(OpKernels *kernels) {
    kernels[op_matmul] = {fast::matmul_forward, fast::matmul_backward};
    kernels[op_matmul_heads] = {fast::matmul_heads_forward, cpu::matmul_heads_backward};
    kernels[op_matmul_grouped] = {fast::matmul_grouped_forward, fast::matmul_grouped_backward};
    kernels[op_attention] = {fast::attention_forward, fast::attention_backward};
    kernels[op_logp] = {fast::logp_forward, fast::logp_backward};
    kernels[op_kl_vocab] = {fast::kl_vocab_forward, fast::kl_vocab_backward};
}

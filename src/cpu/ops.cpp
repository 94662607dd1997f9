// ops.cpp: the ops with a gradient, on the CPU.
//
// Each op stands here whole: its formula, the wrapper that checks and allocates, the forward, and directly
// below it the backward, which begins with the forward's line and two lines of derivation. deepseek.cu has
// the same kernels for CUDA, under the same names and in the same order; those that look along a sequence are
// in sequence.cpp, and those that have no gradient in ops_no_grad.cpp.
//
// Conventions: gradients are accumulated (+=), a null din is not wanted, a null dout did not flow. A row
// belongs to one thread, and a sum over rows runs in the order of the rows, so the number of threads
// changes no bit. These are the plain renditions: matmul, matmul_grouped, attention and logp have a
// second, fast one in fast.cpp.
//
//   [1] rows by index: gather_rows, combine, concat, slice, pick
//   [2] products: matmul, matmul_heads, matmul_grouped
//   [3] pointwise: weighted_sum, unary, binary, swiglu, scale_rows, affine
//   [4] norms: rmsnorm, softmax, normalize_rows
#include <algorithm>

#include "src/base/parallel.h"
#include "src/tensor/kernels.h"

constexpr long chunk = 4096;                             // elements that one thread takes at a time

// ========================================================================================= [1] rows by index

// ---------------------------------------------------------------- gather_rows:  y_i = x[ids_i]
Tensor gather_rows(const Tensor &x, const Tensor &ids, const Tensor &slot) {
    expect(x.shape.rank == 2, "gather_rows: x ", x.shape, " is not a matrix");
    expect(!slot || slot.shape[0] == x.shape[0], "gather_rows: x ", x.shape, " and slot ", slot.shape,
           ": rows differ");
    Shape shape = ids.shape;
    assert(shape.rank < 4);
    shape.d[shape.rank++] = x.shape[1];
    Tensor y = reals(shape);
    apply(op_gather_rows, {x, ids, slot}, {y});
    return y;
}

void cpu::gather_rows_forward(const Call &c) {
    const View &x = c.in[0], &ids = c.in[1], &y = c.out[0];
    for_rows(ids.numel(), x.width(), [&](long i) { std::copy_n(x.row(ids.id(i)), x.width(), y.row(i)); });
}

// y_i = x[ids_i]:  dx_r = sum of dy_i over the i that name r.
// With slot, the inverse of ids that dispatch gives, row r knows its own positions.
void cpu::gather_rows_backward(const Call &c) {
    const View &ids = c.in[1], &slot = c.in[2], &dx = c.din[0], &dy = c.dout[0];
    const int d = dx.width(), K = slot.width();
    if (!slot) {
        for (long i = 0; i < ids.numel(); i++) add_scaled(dx.row(ids.id(i)), 1, dy.row(i), d);
        return;
    }
    for_rows(dx.rows(), K * d, [&](long r) {
        for (int k = 0; k < K; k++)
            if (slot.ids(r)[k] >= 0) add_scaled(dx.row(r), 1, dy.row(slot.ids(r)[k]), d);
    });
}

// ---------------------------------------------------------------- combine:  z_n = sum_k g_nk y[slot_nk]
Tensor combine(const Tensor &y, const Tensor &slot, const Tensor &g) {
    expect(!g || slot.shape == g.shape, "combine: slot ", slot.shape, " and g ", g.shape, " differ");
    Tensor z = reals({slot.shape[0], y.shape[1]});
    apply(op_combine, {y, slot, g}, {z});
    return z;
}

void cpu::combine_forward(const Call &c) {
    const View &y = c.in[0], &slot = c.in[1], &g = c.in[2], &z = c.out[0];
    const int d = y.width(), K = slot.width();
    for_rows(z.rows(), K * d, [&](long n) {
        std::fill_n(z.row(n), d, 0);
        for (int k = 0; k < K; k++) {
            const int s = slot.ids(n)[k];
            if (s >= 0) add_scaled(z.row(n), g ? g.row(n)[k] : 1, y.row(s), d);
        }
    });
}

// z_n = sum_k g_nk y[slot_nk]:  dy[slot_nk] += g_nk dz_n  and  dg_nk += <y[slot_nk], dz_n>.
// A slot belongs to one (n, k), so rows may run side by side.
void cpu::combine_backward(const Call &c) {
    const View &y = c.in[0], &slot = c.in[1], &g = c.in[2], &dy = c.din[0], &dg = c.din[2], &dz = c.dout[0];
    const int d = y.width(), K = slot.width();
    for_rows(dz.rows(), 2 * K * d, [&](long n) {
        for (int k = 0; k < K; k++) {
            const int s = slot.ids(n)[k];
            if (s < 0) continue;
            if (dy) add_scaled(dy.row(s), g ? g.row(n)[k] : 1, dz.row(n), d);
            if (dg) dg.row(n)[k] += dot(y.row(s), dz.row(n), d);
        }
    });
}

// ---------------------------------------------------------------- concat:  y = [a; b]
// b may have one head for all heads of a: k^R of MLA. In rows: every b row serves a.rows / b.rows rows of a.
Tensor concat(const Tensor &a, const Tensor &b) {
    bool fits = a.shape.rank == b.shape.rank;
    for (int i = 0; fits && i < a.shape.rank - 1; i++)
        fits = a.shape[i] == b.shape[i] || (i == a.shape.rank - 2 && b.shape[i] == 1);
    expect(fits, "concat: a ", a.shape, " and b ", b.shape, ": leading sizes differ");
    Tensor y = reals(a.shape.with_width(a.shape.width() + b.shape.width()));
    apply(op_concat, {a, b}, {y});
    return y;
}

void cpu::concat_forward(const Call &c) {
    const View &a = c.in[0], &b = c.in[1], &y = c.out[0];
    const long share = a.rows() / b.rows();
    for_rows(y.rows(), y.width(), [&](long i) {
        std::copy_n(a.row(i), a.width(), y.row(i));
        std::copy_n(b.row(i / share), b.width(), y.row(i) + a.width());
    });
}

// y = [a; b]:  da and db are the parts of dy, db summed over the heads that share it.
void cpu::concat_backward(const Call &c) {
    const View &da = c.din[0], &db = c.din[1], &dy = c.dout[0];
    const int p = c.in[0].width(), q = c.in[1].width();
    const long share = c.in[0].rows() / c.in[1].rows();
    for_rows(c.in[1].rows(), share * (p + q), [&](long i) {
        for (long h = i * share; h < (i + 1) * share; h++) {
            if (da) add_scaled(da.row(h), 1, dy.row(h), p);
            if (db) add_scaled(db.row(i), 1, dy.row(h) + p, q);
        }
    });
}

// ---------------------------------------------------------------- slice:  y = x[from : from+n] on an axis
// Seen as (outer, size of the axis, inner), a slice copies n * inner numbers from each outer block.
Tensor slice(const Tensor &x, int axis, int from, int n) {
    expect(axis >= 0 && axis < x.shape.rank && from >= 0 && n >= 0 && (long)from + n <= x.shape[axis],
           "slice: ", from, " to ", (long)from + n, " on axis ", axis, " of x ", x.shape);
    Shape shape = x.shape;
    shape.d[axis] = n;
    Tensor y = reals(shape);
    apply(op_slice, {x}, {y}, {.axis = axis, .from = from, .n = n});
    return y;
}

static long inner_of(const Call &c) {
    long inner = 1;
    for (int i = c.a.axis + 1; i < c.in[0].shape.rank; i++) inner *= c.in[0].shape[i];
    return inner;
}

void cpu::slice_forward(const Call &c) {
    const View &x = c.in[0], &y = c.out[0];
    const long inner = inner_of(c), block = c.a.n * inner, stride = x.shape[c.a.axis] * inner;
    if (!block) return;
    for_rows(y.numel() / block, block,
             [&](long o) { std::copy_n(&x[o * stride + c.a.from * inner], block, &y[o * block]); });
}

// y = x[from : from+n]:  dy returns to where it came from.
void cpu::slice_backward(const Call &c) {
    const View &dx = c.din[0], &dy = c.dout[0];
    const long inner = inner_of(c), block = c.a.n * inner, stride = c.in[0].shape[c.a.axis] * inner;
    if (!block) return;
    for_rows(dy.numel() / block, block, [&](long o) {
        for (long i = 0; i < block; i++) dx[o * stride + c.a.from * inner + i] += dy[o * block + i];
    });
}

// ---------------------------------------------------------------- pick:  y_nk = s[n, idx_nk], 0 for -1
Tensor pick(const Tensor &s, const Tensor &idx) {
    expect(s.shape.rank == 2 && idx.shape.rank == 2 && s.shape[0] == idx.shape[0], "pick: s ", s.shape,
           " and idx ", idx.shape, ": rows differ");
    Tensor y = reals(idx.shape);
    apply(op_pick, {s, idx}, {y});
    return y;
}

void cpu::pick_forward(const Call &c) {
    const View &s = c.in[0], &idx = c.in[1], &y = c.out[0];
    const int K = idx.width();
    for_rows(y.rows(), K, [&](long n) {
        for (int k = 0; k < K; k++) y.row(n)[k] = idx.ids(n)[k] < 0 ? 0 : s.row(n)[idx.ids(n)[k]];
    });
}

// y_nk = s[n, idx_nk]:  ds[n, idx_nk] += dy_nk
void cpu::pick_backward(const Call &c) {
    const View &idx = c.in[1], &ds = c.din[0], &dy = c.dout[0];
    const int K = idx.width();
    for_rows(dy.rows(), K, [&](long n) {
        for (int k = 0; k < K; k++)
            if (idx.ids(n)[k] >= 0) ds.row(n)[idx.ids(n)[k]] += dy.row(n)[k];
    });
}

// ============================================================================================== [2] products

// Each in the precision of its weight: in bf16 the loops below see operands that are rounded.
Rounded cpu::rounded(const Call &c, bool dy) {
    const auto to_bf16_all = [](const real *x, real *to, long n) {
        for_rows((n + chunk - 1) / chunk, chunk, [=](long r) {
            for (long i = r * chunk; i < std::min(n, (r + 1) * chunk); i++) to[i] = to_bf16(x[i]);
        });
    };
    return {c, cpu_device, to_bf16_all, dy};
}

// ---------------------------------------------------------------- matmul:  y = x W^T
Tensor matmul(const Tensor &x, const Tensor &W) {
    expect(W.shape.rank == 2 && x.shape.width() == W.shape[1], "matmul: x ", x.shape, " and W ", W.shape,
           ": inner sizes differ");
    Tensor y = reals(x.shape.with_width(W.shape[0]));
    apply(op_matmul, {x, W}, {y}, {.precision = W.s->precision});
    return y;
}

void cpu::matmul_forward(const Call &call) {
    const Rounded c = rounded(call);
    const View &x = c.in[0], &W = c.in[1], &y = c.out[0];
    for_rows(y.rows(), W.numel(), [&](long i) {
        for (int o = 0; o < y.width(); o++) y.row(i)[o] = dot(x.row(i), W.row(o), x.width());
    });
}

// y_io = sum_j x_ij W_oj:  dx_ij += sum_o dy_io W_oj  and  dW_oj += sum_i dy_io x_ij.
// Each dx row and each dW row has one owner.
void cpu::matmul_backward(const Call &call) {
    const Rounded c = rounded(call);
    const View &x = c.in[0], &W = c.in[1], &dx = c.din[0], &dW = c.din[1], &dy = c.dout[0];
    const int k = x.width(), n = dy.width();
    if (dx)
        for_rows(x.rows(), W.numel(), [&](long i) {
            for (int o = 0; o < n; o++) add_scaled(dx.row(i), dy.row(i)[o], W.row(o), k);
        });
    if (dW)
        for_rows(n, x.numel(), [&](long o) {
            for (long i = 0; i < x.rows(); i++) add_scaled(dW.row(o), dy.row(i)[o], x.row(i), k);
        });
}

// ---------------------------------------------------------------- matmul_heads:  y_i = W_i x_i, head by head
// W (n_h,b,a); with transpose it maps b back to a: the absorption of MLA moves W^UK to the query side so.
Tensor matmul_heads(const Tensor &x, const Tensor &W, bool transpose) {
    expect(W.shape.rank == 3 && x.shape.rank >= 2 && x.shape[-2] == W.shape[0] &&
               x.shape.width() == W.shape[transpose ? 1 : 2],
           "matmul_heads: x ", x.shape, " and W ", W.shape, ": heads or inner sizes differ");
    Tensor y = reals(x.shape.with_width(W.shape[transpose ? 2 : 1]));
    apply(op_matmul_heads, {x, W}, {y}, {.transpose = transpose, .precision = W.s->precision});
    return y;
}

// Element (o, j) of head h's matrix as the formula uses it, transposed or not.
static long at(const Call &c, int h, int o, int j) {
    const Shape &W = c.in[1].shape;
    return (long)h * W[1] * W[2] + (c.a.transpose ? (long)j * W[2] + o : (long)o * W[2] + j);
}

void cpu::matmul_heads_forward(const Call &call) {
    const Rounded c = rounded(call);
    const View &x = c.in[0], &W = c.in[1], &y = c.out[0];
    const int n_h = W.shape[0];
    for_rows(y.rows(), W.numel() / n_h, [&](long i) {
        std::fill_n(y.row(i), y.width(), 0);
        for (int o = 0; o < y.width(); o++)
            for (int j = 0; j < x.width(); j++) y.row(i)[o] += W[at(c, i % n_h, o, j)] * x.row(i)[j];
    });
}

// y_o = sum_j W_oj x_j in each head:  dx_j += sum_o W_oj dy_o  and  dW_oj += sum over rows of dy_o x_j
void cpu::matmul_heads_backward(const Call &call) {
    const Rounded c = rounded(call);
    const View &x = c.in[0], &W = c.in[1], &dx = c.din[0], &dW = c.din[1], &dy = c.dout[0];
    const int n_h = W.shape[0], a = x.width(), b = dy.width();
    if (dx)
        for_rows(x.rows(), a * b, [&](long i) {
            for (int o = 0; o < b; o++)
                for (int j = 0; j < a; j++) dx.row(i)[j] += W[at(c, i % n_h, o, j)] * dy.row(i)[o];
        });
    if (dW)
        for_rows(n_h, x.numel() / n_h * b, [&](long h) {
            for (long i = h; i < x.rows(); i += n_h)
                for (int o = 0; o < b; o++)
                    for (int j = 0; j < a; j++) dW[at(c, h, o, j)] += dy.row(i)[o] * x.row(i)[j];
        });
}

// ------------------------------------------------------------- matmul_grouped:  rows of expert e times W_e^T
// Rows are sorted by expert (dispatch): expert e owns offsets[e] .. offsets[e+1]. Rows
// after the last are unused: 0.
Tensor matmul_grouped(const Tensor &x, const Tensor &W, const Tensor &offsets) {
    expect(x.shape.rank == 2 && W.shape.rank == 3 && x.shape[1] == W.shape[2] &&
               offsets.numel() == W.shape[0] + 1,
           "matmul_grouped: x ", x.shape, ", W ", W.shape, ", offsets ", offsets.shape, " do not fit");
    Tensor y = reals({x.shape[0], W.shape[1]});
    apply(op_matmul_grouped, {x, W, offsets}, {y}, {.precision = W.s->precision});
    return y;
}

void cpu::matmul_grouped_forward(const Call &call) {
    const Rounded c = rounded(call);
    const View &x = c.in[0], &W = c.in[1], &offsets = c.in[2], &y = c.out[0];
    const int E = W.shape[0], b = W.shape[1], a = W.shape[2];
    for (int e = 0; e < E; e++)
        for (long i = offsets.id(e); i < offsets.id(e + 1); i++)
            for (int o = 0; o < b; o++) y.row(i)[o] = dot(x.row(i), W.row((long)e * b + o), a);
    std::fill(y.row(offsets.id(E)), y.row(y.rows()), 0);
}

// As matmul's, with the rows and the matrix of each expert.
void cpu::matmul_grouped_backward(const Call &call) {
    const Rounded c = rounded(call);
    const View &x = c.in[0], &W = c.in[1], &offsets = c.in[2], &dx = c.din[0], &dW = c.din[1],
               &dy = c.dout[0];
    const int E = W.shape[0], b = W.shape[1], a = W.shape[2];
    for (int e = 0; e < E; e++)
        for (long i = offsets.id(e); i < offsets.id(e + 1); i++)
            for (int o = 0; o < b; o++) {
                const long r = (long)e * b + o;
                if (dx) add_scaled(dx.row(i), dy.row(i)[o], W.row(r), a);
                if (dW) add_scaled(dW.row(r), dy.row(i)[o], x.row(i), a);
            }
}

// ============================================================================================= [3] pointwise

// ------------------------------------------------------------ weighted_sum:  y = a sum_i w_i x_i, w constant
Tensor weighted_sum(const Tensor &x, const Tensor &w, double a) {
    expect(!w || w.numel() == x.numel(), "weighted_sum: x ", x.shape, " and w ", w.shape, " differ");
    Tensor y = reals({1});
    apply(op_weighted_sum, {x, w}, {y}, {.a = a});
    return y;
}
Tensor mean(const Tensor &x) { return weighted_sum(x, {}, 1.0 / x.numel()); }

void cpu::weighted_sum_forward(const Call &c) {
    const View &x = c.in[0], &w = c.in[1];
    double sum = 0;                                      // one number: the sum can afford double
#pragma omp simd reduction(+ : sum)
    for (long i = 0; i < x.numel(); i++) sum += (double)x[i] * (w ? w[i] : 1);
    c.out[0][0] = (real)(c.a.a * sum);
}

// y = a sum w_i x_i:  dx_i += a w_i dy
void cpu::weighted_sum_backward(const Call &c) {
    const View &x = c.in[0], &w = c.in[1], &dx = c.din[0];
    const real a = c.a.a, dy = c.dout[0][0];
    for (long i = 0; dx && i < x.numel(); i++) dx[i] += a * (w ? w[i] : 1) * dy;
}

// ---------------------------------------------------------------- unary:  y = f(ax + shift)
template <class F> static void for_elements(long n, F f) {
    for_rows((n + chunk - 1) / chunk, chunk, [=](long r) {
        const long end = std::min(n, (r + 1) * chunk);
        for (long i = r * chunk; i < end; i++) f(i);
    });
}

Tensor unary(Unary f, const Tensor &x, double a, double shift) {
    Tensor y = reals(x.shape);
    apply(op_unary, {x}, {y}, {.f = f, .a = a, .shift = (real)shift});
    return y;
}

void cpu::unary_forward(const Call &c) {
    const View &x = c.in[0], &y = c.out[0];
    const real a = c.a.a, shift = c.a.shift;
    with_unary(c.a.f, [&](auto f) {
        for_elements(x.numel(), [&](long i) { y[i] = unary_f<decltype(f)::value>(a * x[i] + shift); });
    });
}

// y = f(u), u = ax + shift:  dx += a f'(u) dy
void cpu::unary_backward(const Call &c) {
    const View &x = c.in[0], &y = c.out[0], &dx = c.din[0], &dy = c.dout[0];
    const real a = c.a.a, shift = c.a.shift;
    with_unary(c.a.f, [&](auto f) {
        for_elements(x.numel(), [&](long i) {
            dx[i] += a * unary_df<decltype(f)::value>(a * x[i] + shift, y[i]) * dy[i];
        });
    });
}

// ---------------------------------------------------------------- binary:  z = f(x, y), equal shapes
Tensor binary(Binary f, const Tensor &x, const Tensor &y) {
    expect(x.shape == y.shape, "binary: x ", x.shape, " and y ", y.shape, " differ");
    Tensor z = reals(x.shape);
    apply(op_binary, {x, y}, {z}, {.f = f});
    return z;
}

void cpu::binary_forward(const Call &c) {
    const View &x = c.in[0], &y = c.in[1], &z = c.out[0];
    with_binary(c.a.f, [&](auto f) {
        for_elements(z.numel(), [&](long i) { z[i] = binary_f<decltype(f)::value>(x[i], y[i]); });
    });
}

// z = f(x, y):  dx += f_x dz  and  dy += f_y dz
void cpu::binary_backward(const Call &c) {
    const View &x = c.in[0], &y = c.in[1], &dx = c.din[0], &dy = c.din[1], &dz = c.dout[0];
    with_binary(c.a.f, [&](auto f) {
        constexpr int kind = decltype(f)::value;
        if (dx) for_elements(dz.numel(), [&](long i) { dx[i] += binary_dx<kind>(x[i], y[i]) * dz[i]; });
        if (dy) for_elements(dz.numel(), [&](long i) { dy[i] += binary_dy<kind>(x[i], y[i]) * dz[i]; });
    });
}

// ---------------------------------------------------------------- swiglu:  y = silu(a) b
Tensor swiglu(const Tensor &a, const Tensor &b) {
    expect(a.shape == b.shape, "swiglu: a ", a.shape, " and b ", b.shape, " differ");
    Tensor y = reals(a.shape);
    apply(op_swiglu, {a, b}, {y});
    return y;
}

void cpu::swiglu_forward(const Call &c) {
    const View &a = c.in[0], &b = c.in[1], &y = c.out[0];
    for_elements(y.numel(), [&](long i) { y[i] = a[i] * sigmoid_of(a[i]) * b[i]; });
}

// y = a s b, s = sigmoid(a), s' = s (1 - s):  da += s (1 + a (1 - s)) b dy  and  db += a s dy
void cpu::swiglu_backward(const Call &c) {
    const View &a = c.in[0], &b = c.in[1], &da = c.din[0], &db = c.din[1], &dy = c.dout[0];
    if (da)
        for_elements(dy.numel(), [&](long i) {
            const real s = sigmoid_of(a[i]);
            da[i] += s * (1 + a[i] * (1 - s)) * b[i] * dy[i];
        });
    if (db) for_elements(dy.numel(), [&](long i) { db[i] += a[i] * sigmoid_of(a[i]) * dy[i]; });
}

// ---------------------------------------------------------------- scale_rows:  y_i = s_i x_i
Tensor scale_rows(const Tensor &x, const Tensor &s) {
    expect(s.numel() == x.shape.rows(), "scale_rows: x ", x.shape, " and s ", s.shape, ": rows differ");
    Tensor y = reals(x.shape);
    apply(op_scale_rows, {x, s}, {y});
    return y;
}

void cpu::scale_rows_forward(const Call &c) {
    const View &x = c.in[0], &s = c.in[1], &y = c.out[0];
    for_rows(x.rows(), x.width(), [&](long i) {
        for (int j = 0; j < x.width(); j++) y.row(i)[j] = s[i] * x.row(i)[j];
    });
}

// y_i = s_i x_i:  dx_i += s_i dy_i  and  ds_i += <x_i, dy_i>
void cpu::scale_rows_backward(const Call &c) {
    const View &x = c.in[0], &s = c.in[1], &dx = c.din[0], &ds = c.din[1], &dy = c.dout[0];
    for_rows(x.rows(), 2 * x.width(), [&](long i) {
        if (dx) add_scaled(dx.row(i), s[i], dy.row(i), x.width());
        if (ds) ds[i] += dot(x.row(i), dy.row(i), x.width());
    });
}

// ---------------------------------------------------------------- affine:  y_i = alpha x_i + b
Tensor affine(const Tensor &x, const Tensor &alpha, const Tensor &b) {
    expect(b.shape.rank == 1 && b.shape[0] == x.shape.width(), "affine: x ", x.shape, " and b ", b.shape,
           ": widths differ");
    expect(!alpha || alpha.numel() == 1, "affine: alpha ", alpha.shape, " is not one number");
    Tensor y = reals(x.shape);
    apply(op_affine, {x, alpha, b}, {y});
    return y;
}

void cpu::affine_forward(const Call &c) {
    const View &x = c.in[0], &alpha = c.in[1], &b = c.in[2], &y = c.out[0];
    const real a = alpha ? alpha[0] : 1;
    for_rows(x.rows(), x.width(), [&](long i) {
        for (int j = 0; j < x.width(); j++) y.row(i)[j] = a * x.row(i)[j] + b[j];
    });
}

// y_i = alpha x_i + b:  dx_i += alpha dy_i,  dalpha += sum_i <x_i, dy_i>  and  db += sum_i dy_i
void cpu::affine_backward(const Call &c) {
    const View &x = c.in[0], &alpha = c.in[1], &dy = c.dout[0];
    const auto &[dx, dalpha, db] = c.input_gradients<3>();
    const real a = alpha ? alpha[0] : 1;
    const int d = x.width();
    if (dx) for_rows(x.rows(), d, [&](long i) { add_scaled(dx.row(i), a, dy.row(i), d); });
    double sum = 0;                                      // one number: the sum can afford double
    for (long i = 0; dalpha && i < x.numel(); i++) sum += (double)x[i] * dy[i];
    if (dalpha) dalpha[0] += (real)sum;
    for (long i = 0; db && i < x.rows(); i++) add_scaled(&db[0], 1, dy.row(i), d);
}

// ================================================================================================= [4] norms

// -------------------------------------------------------- rmsnorm:  y = x r g,  r = 1 / sqrt(mean x^2 + eps)
Tensor rmsnorm(const Tensor &x, const Tensor &g, double eps) {
    expect(!g || (g.shape.rank == 1 && g.shape[0] == x.shape.width()), "rmsnorm: x ", x.shape, " and g ",
           g.shape, ": widths differ");
    Tensor y = reals(x.shape), r = reals({x.shape.rows()});
    apply(op_rmsnorm, {x, g}, {y, r}, {.eps = (real)eps});
    return y;
}

void cpu::rmsnorm_forward(const Call &c) {
    const View &x = c.in[0], &g = c.in[1], &y = c.out[0], &r = c.out[1];
    const int d = x.width();
    for_rows(x.rows(), 2 * d, [&](long i) {
        r[i] = 1 / sqrt(dot(x.row(i), x.row(i), d) / d + c.a.eps);
        for (int j = 0; j < d; j++) y.row(i)[j] = x.row(i)[j] * r[i] * (g ? g[j] : 1);
    });
}

// y_j = g_j r x_j and dr/dx_j = -r^3 x_j / d:  dx_j += r (g_j dy_j - x_j r^2/d sum_k g_k dy_k x_k)
//                                              dg_j += sum over rows of r x_j dy_j
void cpu::rmsnorm_backward(const Call &c) {
    const View &x = c.in[0], &g = c.in[1], &r = c.out[1], &dx = c.din[0], &dg = c.din[1], &dy = c.dout[0];
    const int d = x.width();
    if (dx)
        for_rows(x.rows(), 4 * d, [&](long i) {
            real sum = 0;
#pragma omp simd reduction(+ : sum)
            for (int j = 0; j < d; j++) sum += (g ? g[j] : 1) * dy.row(i)[j] * x.row(i)[j];
            const real pull = r[i] * r[i] / d * sum;
            for (int j = 0; j < d; j++)
                dx.row(i)[j] += r[i] * ((g ? g[j] : 1) * dy.row(i)[j] - x.row(i)[j] * pull);
        });
    for (long i = 0; dg && i < x.rows(); i++) {
        const real *x_i = x.row(i), *dy_i = dy.row(i), r_i = r[i];
        for (int j = 0; j < d; j++) dg[j] += r_i * x_i[j] * dy_i[j];
    }
}

// ---------------------------------------------------------------- softmax:  y_j = exp(x_j) / sum_k exp(x_k)
Tensor softmax(const Tensor &x) {
    Tensor y = reals(x.shape);
    apply(op_softmax, {x}, {y});
    return y;
}

void cpu::softmax_forward(const Call &c) {
    const View &x = c.in[0], &y = c.out[0];
    const int d = x.width();
    for_rows(x.rows(), 8 * d, [&](long i) {
        const real top = *std::max_element(x.row(i), x.row(i) + d);
        real sum = 0;
        for (int j = 0; j < d; j++) sum += y.row(i)[j] = exp_of(x.row(i)[j] - top);
        for (int j = 0; j < d; j++) y.row(i)[j] /= sum;
    });
}

// dy_j/dx_k = y_j (1[j=k] - y_k):  dx_j += y_j (dy_j - sum_k y_k dy_k)
void cpu::softmax_backward(const Call &c) {
    const View &y = c.out[0], &dx = c.din[0], &dy = c.dout[0];
    const int d = y.width();
    for_rows(y.rows(), 3 * d, [&](long i) {
        const real sum = dot(y.row(i), dy.row(i), d);
        for (int j = 0; j < d; j++) dx.row(i)[j] += y.row(i)[j] * (dy.row(i)[j] - sum);
    });
}

// ---------------------------------------------------------------- normalize_rows:  y = rho x / (sum x + eps)
Tensor normalize_rows(const Tensor &x, double rho, double eps) {
    Tensor y = reals(x.shape);
    apply(op_normalize_rows, {x}, {y}, {.eps = (real)eps, .rho = (real)rho});
    return y;
}

void cpu::normalize_rows_forward(const Call &c) {
    const View &x = c.in[0], &y = c.out[0];
    for_rows(x.rows(), x.width(), [&](long i) {
        real sum = c.a.eps;
        for (int j = 0; j < x.width(); j++) sum += x.row(i)[j];
        for (int j = 0; j < x.width(); j++) y.row(i)[j] = c.a.rho * x.row(i)[j] / sum;
    });
}

// y_j = rho x_j / S, S = sum x + eps:  dx_j += (rho dy_j - sum_k dy_k y_k) / S
void cpu::normalize_rows_backward(const Call &c) {
    const View &x = c.in[0], &y = c.out[0], &dx = c.din[0], &dy = c.dout[0];
    for_rows(x.rows(), 3 * x.width(), [&](long i) {
        real sum = c.a.eps;
        for (int j = 0; j < x.width(); j++) sum += x.row(i)[j];
        const real mean = dot(dy.row(i), y.row(i), x.width());
        for (int j = 0; j < x.width(); j++) dx.row(i)[j] += (c.a.rho * dy.row(i)[j] - mean) / sum;
    });
}

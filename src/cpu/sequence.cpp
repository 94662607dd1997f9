// sequence.cpp: the ops with a gradient that look along a sequence or over the vocabulary, on the CPU:
// rope, attention, logp, kl_vocab. The conventions are those of ops.cpp.
#include <algorithm>

#include "src/base/parallel.h"
#include "src/tensor/kernels.h"

// ================================================================================ [1] position and attention

// -------------------------------------------------------------- rope:  pairs turned by the angle pos theta_i
// Channels first .. first+dims of each head turn, the others pass. Pair i is (x_2i, x_2i+1) or, in half-split
// order, (x_i, x_i+dims/2).
Tensor rope(const Tensor &x, const Tensor &pos, const Rope &r) {
    expect(x.shape.rank == 4 && x.shape.rows() == pos.numel() * x.shape[2], "rope: x ", x.shape, " and pos ",
           pos.shape, " do not fit");
    expect(r.dims % 2 == 0 && r.dims >= 0 && r.first >= 0 && (long)r.first + r.dims <= x.shape.width(),
           "rope: channels ", r.first, " to ", (long)r.first + r.dims, " of x ", x.shape, " do not pair up");
    Tensor y = reals(x.shape);
    apply(op_rope, {x, pos}, {y},
          {.first = r.first,
           .dims = r.dims,
           .pairing = r.pairing,
           .sign = (real)r.sign,
           .theta = r.angle.theta,
           .scaling = r.angle.scaling,
           .factor = r.angle.factor,
           .original = r.angle.original,
           .beta_fast = r.angle.beta_fast,
           .beta_slow = r.angle.beta_slow,
           .amplitude = (real)r.amplitude});
    return y;
}

// turn: for every pair of every row, to[a], to[b] from the pair x_a, x_b and the cosine and sine of its angle
template <class F> static void for_pairs(const Call &c, real sign, F turn) {
    const View &x = c.in[0], &pos = c.in[1];
    const int n = x.shape[2], half = c.a.dims / 2;
    Scratch<real> frequency(cpu_device, std::max(half, 1));
    for (int i = 0; i < half; i++) frequency[i] = rope_frequency(c.a.angle(), i);
    for_rows(pos.numel(), (20 + n) * half, [&](long t) {
        for (int i = 0; i < half; i++) {
            const real angle = pos.id(t) * frequency[i];
            const real cosine = c.a.amplitude * cos(angle), sine = c.a.amplitude * sign * sin(angle);
            const int a = c.a.first + (c.a.pairing == rope_interleaved ? 2 * i : i);
            const int b = a + (c.a.pairing == rope_interleaved ? 1 : half);
            for (int h = 0; h < n; h++) turn(t * n + h, a, b, cosine, sine);
        }
    });
}

void cpu::rope_forward(const Call &c) {
    const View &x = c.in[0], &y = c.out[0];
    if (c.a.dims < x.width()) std::copy_n(x.row(0), x.numel(), y.row(0));
    for_pairs(c, c.a.sign, [&](long r, int a, int b, real cosine, real sine) {
        const real p = x.row(r)[a], q = x.row(r)[b];
        y.row(r)[a] = p * cosine - q * sine;
        y.row(r)[b] = p * sine + q * cosine;
    });
}

// A rotation is turned back by its transpose, the rotation by minus the angle.
void cpu::rope_backward(const Call &c) {
    const View &dx = c.din[0], &dy = c.dout[0];
    const int first = c.a.first, last = first + c.a.dims;
    if (c.a.dims < dx.width())
        for_rows(dx.rows(), dx.width(), [&](long r) {
            for (int j = 0; j < dx.width(); j++)
                if (j < first || j >= last) dx.row(r)[j] += dy.row(r)[j];
        });
    for_pairs(c, -c.a.sign, [&](long r, int a, int b, real cosine, real sine) {
        const real p = dy.row(r)[a], q = dy.row(r)[b];
        dx.row(r)[a] += p * cosine - q * sine;
        dx.row(r)[b] += p * sine + q * cosine;
    });
}

// ------------------------------------------------------ attention:  o_t = sum_j softmax_j(scale q_t k_j) v_j
// j runs over what `where` lets query t see. Query head i uses key head floor(i n_kv / n_h). A query that
// sees nothing gets o = 0, lse = -inf and no gradient. Without v the value is the first n numbers of the key.
static std::pair<Tensor, Tensor> attend(const Tensor &q, const Tensor &k, const Tensor &v, int n,
                                        const Where &where, double scale) {
    const bool fits = q.shape.rank == 4 && k.shape.rank == 4 && q.shape[0] == k.shape[0] &&
                      q.shape[3] == k.shape[3] && k.shape[2] && q.shape[2] % k.shape[2] == 0;
    expect(fits, "attention: q ", q.shape, " and k ", k.shape, " do not fit");
    expect(!v || (v.shape.rank == 4 && v.shape.with_width(1) == k.shape.with_width(1)), "attention: k ",
           k.shape, " and v ", v.shape, " do not fit");
    const Shape &keys = where.keys.shape;
    expect(keys.rank == 3 && keys[0] == q.shape[0] && keys[1] == q.shape[1] && (where.lists || keys[2] == 2),
           "attention: q ", q.shape, " and where ", keys, where.lists ? " of lists" : " of spans",
           " do not fit");
    expect(scale > 0, "attention: scale ", scale, " is not positive");
    Tensor o = reals(q.shape.with_width(v ? v.shape.width() : n)),
           lse = reals({q.shape[0], q.shape[1], q.shape[2]});
    apply(op_attention, {q, k, v, where.keys}, {o, lse},
          {.n = n, .scale = (real)scale, .lists = where.lists});
    return {o, lse};
}

Tensor attention(const Tensor &q, const Tensor &k, const Tensor &v, const Where &where, double scale) {
    return attend(q, k, v, 0, where, scale).first;
}
Tensor attention(const Tensor &q, const Tensor &k, First v, const Where &where, double scale) {
    expect(v.n <= k.shape.width(), "attention: the first ", v.n, " numbers of k ", k.shape);
    return attend(q, k, {}, v.n, where, scale).first;
}
std::pair<Tensor, Tensor> attention_lse(const Tensor &q, const Tensor &k, const Tensor &v, const Where &where,
                                        double scale) {
    return attend(q, k, v, 0, where, scale);
}

namespace {
struct Seen {                                            // the keys that query row t = b T + t' sees
    const int *list;
    int lo, n;
    Seen(const Call &c, long t) {
        const View &where = c.in[3];
        list = c.a.lists ? where.ids(t) : nullptr;
        lo = c.a.lists ? 0 : where.id(2 * t);
        n = c.a.lists ? where.width() : std::max(0, where.id(2 * t + 1) - lo + 1);
    }
    int operator[](int i) const { return list ? list[i] : lo + i; }      // -1: nobody
};
}  // namespace

void cpu::attention_forward(const Call &c) {
    const View &q = c.in[0], &k = c.in[1], &v = c.in[2] ? c.in[2] : c.in[1], &where = c.in[3];
    const View &o = c.out[0], &lse = c.out[1];
    const int T = q.shape[1], n_h = q.shape[2], S = k.shape[1], n_kv = k.shape[2], d_v = o.width();
    const long most = c.a.lists ? where.width() : S;
    Scratch<real> scores(cpu_device, std::max(1l, q.shape[0] * n_h * most));
    for_rows(q.shape[0] * n_h, (long)T * S * q.width(), [&](long bh) {
        const long b = bh / n_h, i = bh % n_h, g = i * n_kv / n_h;
        real *s = &scores[bh * most];
        for (int t = 0; t < T; t++) {
            const Seen seen(c, b * T + t);
            real *o_t = o.head(b, t, i), &lse_t = lse.row(b * T + t)[i];

            // 1 scores
            real top = -INFINITY, sum = 0;
            bool sees = false;
            for (int j = 0; j < seen.n; j++) {
                sees |= seen[j] >= 0;
                s[j] = seen[j] < 0 ? -INFINITY
                                   : c.a.scale * dot(q.head(b, t, i), k.head(b, seen[j], g), q.width());
                top = std::max(top, s[j]);
            }

            // 2 softmax
            std::fill_n(o_t, d_v, 0);
            lse_t = -INFINITY;
            if (!sees) continue;
            for (int j = 0; j < seen.n; j++) sum += s[j] = exp_of(s[j] - top);
            lse_t = top + log(sum);

            // 3 values
            for (int j = 0; j < seen.n; j++)
                if (seen[j] >= 0) add_scaled(o_t, s[j] / sum, v.head(b, seen[j], g), d_v);
        }
    });
}

// With p_j = exp(s_j - lse), s_j = scale q k_j, o = sum_j p_j v_j and the softmax's Jacobian:
//   dv_j += p_j do,   ds_j = p_j (<do, v_j> - <do, o>),   dq += scale ds_j k_j,   dk_j += scale ds_j q
static void query_backward(const Call &c, long b, int t, long i) {
    const View &q = c.in[0], &k = c.in[1], &v = c.in[2] ? c.in[2] : c.in[1], &o = c.out[0], &lse = c.out[1];
    const View &dq = c.din[0], &dk = c.din[1], &dv = c.in[2] ? c.din[2] : c.din[1];
    const int d_k = q.width(), d_v = o.width();
    const long g = i * k.shape[2] / q.shape[2], row = b * q.shape[1] + t;
    const Seen seen(c, row);
    const real *q_t = q.head(b, t, i), *do_t = c.dout[0].head(b, t, i), lse_t = lse.row(row)[i];
    if (lse_t == -INFINITY) return;
    const real mean = dot(do_t, o.head(b, t, i), d_v);
    for (int j = 0; j < seen.n; j++) {
        if (seen[j] < 0) continue;
        const real *k_j = k.head(b, seen[j], g), *v_j = v.head(b, seen[j], g);
        const real p = exp_of(c.a.scale * dot(q_t, k_j, d_k) - lse_t);
        const real ds = c.a.scale * p * (dot(do_t, v_j, d_v) - mean);
        if (dv) add_scaled(dv.head(b, seen[j], g), p, do_t, d_v);
        if (dq) add_scaled(dq.head(b, t, i), ds, k_j, d_k);
        if (dk) add_scaled(dk.head(b, seen[j], g), ds, q_t, d_k);
    }
}

// One thread owns a key head, with all queries and query heads that use it.
void cpu::attention_backward(const Call &c) {
    const View &q = c.in[0], &k = c.in[1];
    const int T = q.shape[1], S = k.shape[1], n_kv = k.shape[2], share = q.shape[2] / n_kv;
    for_rows(q.shape[0] * n_kv, (long)share * T * S * (q.width() + c.out[0].width()), [&](long bg) {
        for (int t = 0; t < T; t++)
            for (long i = bg % n_kv * share; i < (bg % n_kv + 1) * share; i++)
                query_backward(c, bg / n_kv, t, i);
    });
}

// ================================================================================== [2] over the vocabulary

// ----------------------------------------------------------- logp:  y = log softmax(h W^T / temperature)[id]
// The head and the softmax are fused: logits exist for one row at a time. H is the entropy
// of the distribution. id -1 is nobody's target: y = H = 0, no gradient. Every objective of
// the papers is an equation on y.
LogP logp(const Tensor &h, const Tensor &W, const Tensor &ids, double temperature, const Tensor &allowed) {
    expect(W.shape.rank == 2 && h.shape.width() == W.shape[1] && ids.numel() == h.shape.rows(), "logp: h ",
           h.shape, ", W ", W.shape, ", ids ", ids.shape, " do not fit");
    const int words = set_words(W.shape[0]);
    expect(!allowed || (allowed.shape.width() == words && allowed.numel() == ids.numel() * words),
           "logp: ids ", ids.shape, ", W ", W.shape, ", allowed ", allowed.shape, " do not fit: one bit for ",
           "each of ", W.shape[0], " ids makes ", words, " words");
    Tensor y = reals(ids.shape), H = reals(ids.shape), lse = reals(ids.shape);
    apply(op_logp, {h, W, ids, allowed}, {y, H, lse},
          {.precision = W.s->precision, .temperature = temperature});
    return {y, H};
}

static void logits_of(const Call &c, long n, real *z) {
    const View &h = c.in[0], &W = c.in[1], &allowed = c.in[3];
    const int V = W.shape[0];
    const real temperature = c.a.temperature;
    for_rows(V, W.width(), [&](long v) {
        const bool may = !allowed || in_set(allowed.ids(n), v);
        z[v] = may ? dot(h.row(n), W.row(v), W.width()) / temperature : -INFINITY;
    });
}

void cpu::logp_forward(const Call &call) {
    const Rounded c = rounded(call, false);
    const View &ids = c.in[2], &y = c.out[0], &H = c.out[1], &lse = c.out[2];
    const int V = c.in[1].shape[0];
    Scratch<real> z(cpu_device, V);
    for (long n = 0; n < ids.numel(); n++) {
        y[n] = H[n] = lse[n] = 0;
        if (ids.id(n) < 0) continue;
        logits_of(c, n, z.p);
        const real top = *std::max_element(z.p, z.p + V);
        real sum = 0, sum_z = 0;                         // of e^(z - top), and weighted by z - top
        for (int v = 0; v < V; v++) {
            const real e = exp_of(z[v] - top);
            sum += e;
            if (e > 0) sum_z += e * (z[v] - top);
        }
        lse[n] = top + log(sum);
        y[n] = z[ids.id(n)] - lse[n];
        H[n] = log(sum) - sum_z / sum;
    }
}

// With p = softmax(z), z = h W^T / temperature:  dy/dz_v = 1[v=id] - p_v,  dH/dz_v = -p_v (log p_v + H),
// and then as matmul:  dh += dz W,  dW += dz^T h.  Also in bf16 dz stays as it is: two devices' dz differ in
// their last bits, and rounding would now and then make half a percent of that.
void cpu::logp_backward(const Call &call) {
    const Rounded c = rounded(call, false);
    const View &h = c.in[0], &W = c.in[1], &ids = c.in[2], &dh = c.din[0], &dW = c.din[1], &dy = c.dout[0],
               &dH = c.dout[1];
    const View &H = c.out[1], &lse = c.out[2];
    const int V = W.shape[0], d = W.width();
    const real temperature = c.a.temperature;
    Scratch<real> z(cpu_device, V);
    for (long n = 0; n < ids.numel(); n++) {
        if (ids.id(n) < 0) continue;
        logits_of(c, n, z.p);
        for (int v = 0; v < V; v++) {
            const real log_p = z[v] - lse[n], p = exp_of(log_p);
            real dz = dy ? dy[n] * ((v == ids.id(n)) - p) : 0;
            if (dH && p > 0) dz -= dH[n] * p * (log_p + H[n]);
            dz /= temperature;
            if (dh) add_scaled(dh.row(n), dz, W.row(v), d);
            if (dW) add_scaled(dW.row(v), dz, h.row(n), d);
        }
    }
}

// ------------------------- kl_vocab:  y = KL(p | q), or KL(q | p), of the teacher's p and the student's q
// Each is softmax(h W^T / temperature) with its own h and W, and their logits exist for one row at a time. No
// gradient reaches the teacher. Position -1 does not count: y = 0, no gradient. There is no temperature^2 in
// front, with which others keep the gradient's size as the temperature grows.
Tensor kl_vocab(const Tensor &h, const Tensor &W, const Tensor &g, const Tensor &U, const Tensor &pos,
                Direction direction, double temperature) {
    const long N = h.shape.rows();
    expect(W.shape.rank == 2 && h.shape.width() == W.shape[1], "kl_vocab: h ", h.shape, " and W ", W.shape,
           " do not fit");
    expect(U.shape.rank == 2 && g.shape.width() == U.shape[1] && g.shape.rows() == N &&
               U.shape[0] == W.shape[0],
           "kl_vocab: the teacher's g ", g.shape, " and U ", U.shape, " do not fit h ", h.shape, " and W ",
           W.shape);
    expect(!pos || pos.numel() == N, "kl_vocab: h ", h.shape, " and pos ", pos.shape, " do not fit");
    Tensor y = reals({N}), lse_q = reals({N}), lse_p = reals({N});
    apply(op_kl_vocab, {h, W, g, U, pos ? pos : zero_ints({N})}, {y, lse_q, lse_p},
          {.precision = W.s->precision,
           .precision_U = U.s->precision,
           .temperature = temperature,
           .reverse = direction == Direction::reverse});
    return y;
}

static real log_sum_exp(const real *z, long n) {
    real top = -INFINITY, sum = 0;
#pragma omp simd reduction(max : top)
    for (long v = 0; v < n; v++) top = z[v] > top ? z[v] : top;
#pragma omp simd reduction(+ : sum)
    for (long v = 0; v < n; v++) sum += exp_of(z[v] - top);
    return top + log(sum);
}

void cpu::kl_row(const Call &c, long n, const real *z_q, const real *z_p) {
    const View &y = c.out[0], &lse_q = c.out[1], &lse_p = c.out[2];
    const long V = c.in[1].shape[0];
    lse_q[n] = log_sum_exp(z_q, V);
    lse_p[n] = log_sum_exp(z_p, V);
    const real *z_a = c.a.reverse ? z_q : z_p, *z_b = c.a.reverse ? z_p : z_q;
    const real lse_a = c.a.reverse ? lse_q[n] : lse_p[n], lse_b = c.a.reverse ? lse_p[n] : lse_q[n];
    real sum = 0;                                        // KL(a | b) = sum_v a_v (log a_v - log b_v)
#pragma omp simd reduction(+ : sum)
    for (long v = 0; v < V; v++) {
        const real log_a = z_a[v] - lse_a, log_b = z_b[v] - lse_b;
        sum += exp_of(log_a) * (log_a - log_b);
    }
    y[n] = sum;
}

void cpu::kl_vocab_forward(const Call &c) {
    const Rounded student = rounded(student_of(c), false), teacher = rounded(teacher_of(c), false);
    const View &pos = c.in[4], &y = c.out[0], &lse_q = c.out[1], &lse_p = c.out[2];
    const int V = c.in[1].shape[0];
    Scratch<real> z_q(cpu_device, V), z_p(cpu_device, V);
    for (long n = 0; n < y.numel(); n++) {
        y[n] = lse_q[n] = lse_p[n] = 0;
        if (pos.id(n) < 0) continue;
        logits_of(student, n, z_q.p);
        logits_of(teacher, n, z_p.p);
        kl_row(c, n, z_q.p, z_p.p);
    }
}

// dy/dz_v = q_v - p_v; reverse: q_v (log q_v - log p_v - y). And then as logp.
void cpu::kl_row_gradient(const Call &c, long n, real *z_q, const real *z_p) {
    const View &y = c.out[0], &dy = c.dout[0];
    const long V = c.in[1].shape[0];
    const real lse_q = c.out[1][n], lse_p = c.out[2][n], temperature = c.a.temperature;
    for (long v = 0; v < V; v++) {
        const real log_q = z_q[v] - lse_q, log_p = z_p[v] - lse_p, q = exp_of(log_q);
        z_q[v] = dy[n] / temperature * (c.a.reverse ? q * (log_q - log_p - y[n]) : q - exp_of(log_p));
    }
}

void cpu::kl_vocab_backward(const Call &c) {
    const Rounded student = rounded(student_of(c), false), teacher = rounded(teacher_of(c), false);
    const View &h = student.in[0], &W = student.in[1], &pos = c.in[4], &dh = c.din[0], &dW = c.din[1];
    const int V = W.shape[0], d = W.width();
    Scratch<real> z_q(cpu_device, V), z_p(cpu_device, V);
    for (long n = 0; n < pos.numel(); n++) {
        if (pos.id(n) < 0) continue;
        logits_of(student, n, z_q.p);
        logits_of(teacher, n, z_p.p);
        kl_row_gradient(c, n, z_q.p, z_p.p);
        for (int v = 0; v < V; v++) {
            if (dh) add_scaled(dh.row(n), z_q[v], W.row(v), d);
            if (dW) add_scaled(dW.row(v), z_q[v], h.row(n), d);
        }
    }
}

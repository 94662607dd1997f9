// sequence.cu: the ops of src/cpu/sequence.cpp on CUDA, in the same order.
#include <algorithm>

#include "src/cuda/kernel.h"

// ================================================================================ [1] position and attention

// -------------------------------------------------------------- rope:  pairs turned by the angle pos theta_i
// A block has the rows of one position.
// turn: for every pair a, b of a row, and the cosine and sine of its angle
template <class F> static __device__ void for_pairs(const Call &c, real sign, F turn) {
    const long t = blockIdx.x;
    const int n = c.in[0].shape[2], half = c.a.dims / 2;
    for (int i = threadIdx.x; i < half; i += blockDim.x) {
        const real angle = c.in[1].id(t) * rope_frequency(c.a.angle(), i);
        const real cosine = c.a.amplitude * cos(angle);
        const real sine = c.a.amplitude * sign * sin(angle);
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
    const View &x = c.in[0], &y = c.out[0];
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
    const View &dx = c.din[0], &dy = c.dout[0];
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
        list = c.a.lists ? where.ids(t) : nullptr;
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

// A block has a query row. It takes the keys a block's worth at a time, one a thread, and keeps what it
// has of the sum as if the largest score so far were the last one: when a larger one comes, everything
// shrinks ("online"). Between a chunk's p and the next chunk's stands a block_max, which no thread
// leaves before all have come.
static __global__ void attention_fwd(const __grid_constant__ Call c) {
    const View &q = c.in[0], &k = c.in[1], &v = c.in[2] ? c.in[2] : c.in[1], &o = c.out[0], &lse = c.out[1];
    const int T = q.shape[1], n_h = q.shape[2], d_v = o.width();
    const long row = blockIdx.x, b = row / n_h / T, i = row % n_h, g = i * k.shape[2] / n_h;
    const Seen seen(c, row / n_h);
    const real *const q_t = q.row(row);
    real *const o_t = o.row(row);
    SHARED(real, p);
    real top = -INFINITY, sum = 0;
    for (int x = threadIdx.x; x < d_v; x += blockDim.x) o_t[x] = 0;
    for (int first = 0; first < seen.n; first += blockDim.x) {
        // 1 scores
        const int mine = first + threadIdx.x, end = chunk_end(first, seen.n);
        const bool sees = mine < end && seen[mine] >= 0;
        const real s = sees ? c.a.scale * dot(q_t, k.head(b, seen[mine], g), q.width()) : -INFINITY;

        // 2 softmax so far
        const real before = top;
        top = Largest()(top, block_max(s));
        if (top == -INFINITY) continue;                  // nothing seen yet
        const real shrink = exp_of(before - top);
        p[threadIdx.x] = exp_of(s - top);
        sum = sum * shrink + block_sum(p[threadIdx.x]);

        // 3 values
        for (int x = threadIdx.x; x < d_v; x += blockDim.x) {
            real o_x = o_t[x] * shrink;
            for (int j = first; j < end; j++)
                if (seen[j] >= 0) o_x += p[j - first] * v.head(b, seen[j], g)[x];
            o_t[x] = o_x;
        }
    }
    for (int x = threadIdx.x; top != -INFINITY && x < d_v; x += blockDim.x) o_t[x] /= sum;
    if (threadIdx.x == 0) lse[row] = top == -INFINITY ? top : top + log(sum);
}

void gpu::attention_forward(const Call &c) {
    const int threads = attention_threads(c);
    launch(attention_fwd, c.in[0].rows(), threads, threads * sizeof(real), c);
}

// With p_j = exp(s_j - lse), s_j = scale q k_j:  ds_j = p_j (<do, v_j> - <do, o>),
// dq += scale sum_j ds_j k_j
static __global__ void attention_bwd_q(const __grid_constant__ Call c) {
    const View &q = c.in[0], &k = c.in[1], &v = c.in[2] ? c.in[2] : c.in[1], &o = c.out[0], &lse = c.out[1];
    const View &dq = c.din[0];
    const int T = q.shape[1], n_h = q.shape[2], d_k = q.width(), d_v = o.width();
    const long row = blockIdx.x, b = row / n_h / T, i = row % n_h, g = i * k.shape[2] / n_h;
    if (lse[row] == -INFINITY) return;
    const Seen seen(c, row / n_h);
    const real *const q_t = q.row(row), *const do_t = c.dout[0].row(row), mean = dot(do_t, o.row(row), d_v);
    SHARED(real, ds);
    for (int first = 0; first < seen.n; first += blockDim.x) {
        const int mine = first + threadIdx.x, end = chunk_end(first, seen.n);
        if (mine < end && seen[mine] >= 0) {
            const real p = exp_of(c.a.scale * dot(q_t, k.head(b, seen[mine], g), d_k) - lse[row]);
            ds[threadIdx.x] = c.a.scale * p * (dot(do_t, v.head(b, seen[mine], g), d_v) - mean);
        }
        barrier();
        for (int x = threadIdx.x; x < d_k; x += blockDim.x)
            for (int j = first; j < end; j++)
                if (seen[j] >= 0) dq.row(row)[x] += ds[j - first] * k.head(b, seen[j], g)[x];
        barrier();
    }
}

// and  dv_j += sum_t p_j do,  dk_j += scale sum_t ds_j q.  A block has a key row: it walks all queries and
// query heads that may see it in order, one a thread. A list may hold the key twice.
static __global__ void attention_bwd_kv(const __grid_constant__ Call c) {
    const View &q = c.in[0], &k = c.in[1], &v = c.in[2] ? c.in[2] : c.in[1], &o = c.out[0], &lse = c.out[1];
    const View &dk = c.din[1], &dv = c.in[2] ? c.din[2] : c.din[1], &dout = c.dout[0];
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
            const real s = c.a.scale * dot(q.row(row), k.row(key), d_k);
            const real p_j = times * exp_of(s - lse[row]);
            p[threadIdx.x] = p_j;
            ds[threadIdx.x] = c.a.scale * p_j * (dot(d_o, v.row(key), d_v) - mean);
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

// ================================================================================== [2] over the vocabulary

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
    const View &h = c.in[0], &W = c.in[1], &allowed = c.in[3];
    const int V = W.shape[0];
    const real temperature = c.a.temperature;
    const long i = tile_row(), v = tile_column();
    const real sum = tile_product(
        i, rows, v, V, W.width(), [&](long i, long j) { return h.row(first + i)[j]; },
        [&](long j, long v) { return W.row(v)[j]; });
    if (i >= rows || v >= V) return;
    const bool may = !allowed || in_set(allowed.ids(first + i), v);
    z[i * V + v] = may ? sum / temperature : -INFINITY;
}

static void logits_of(const Call &c, long first, long rows, real *z) {
    launch(logp_logits, tile_grid(rows, c.in[1].shape[0]), tile_block, tile_bytes, c, first, rows, z);
}

static __global__ void logp_fwd(const __grid_constant__ Call c, long first, real *z_of_chunk) {
    const View &ids = c.in[2], &y = c.out[0], &H = c.out[1], &lse = c.out[2];
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

void gpu::logp_forward(const Call &call) {
    const Rounded operands = rounded(call, false);
    const Call &c = operands;
    for_chunks(c, [&](long first, long rows, real *z) {
        logits_of(c, first, rows, z);
        launch(logp_fwd, rows, threads_for(c.in[1].shape[0]), 0, c, first, z);
    });
}

// With p = softmax(z):  dy/dz_v = 1[v=id] - p_v,  dH/dz_v = -p_v (log p_v + H).  dz takes the place of z.
static __global__ void logp_bwd_z(const __grid_constant__ Call c, long first, long rows, real *z) {
    const View &ids = c.in[2], &H = c.out[1], &lse = c.out[2], &dy = c.dout[0], &dH = c.dout[1];
    const int V = c.in[1].shape[0];
    const real temperature = c.a.temperature;
    const long e = element(), n = first + e / V, v = e % V;
    if (e >= rows * V) return;
    const real log_p = z[e] - lse[n], p = exp_of(log_p);
    real dz = dy ? dy[n] * ((v == ids.id(n)) - p) : 0;
    if (dH && p > 0) dz -= dH[n] * p * (log_p + H[n]);
    z[e] = dz / temperature;
}

// and then as matmul:  dh += dz W
static __global__ void logp_bwd_h(const __grid_constant__ Call c, long first, long rows, const real *dz) {
    const View &W = c.in[1], &ids = c.in[2], &dh = c.din[0];
    const int V = W.shape[0];
    const long i = tile_row(), j = tile_column();
    const real sum = tile_product(
        i, rows, j, dh.width(), V, [&](long i, long v) { return dz[i * V + v]; },
        [&](long v, long j) { return W.row(v)[j]; });
    if (i < rows && j < dh.width() && ids.id(first + i) >= 0) dh.row(first + i)[j] += sum;
}

// and dW += dz^T h, over the rows that have a target
static __global__ void logp_bwd_W(const __grid_constant__ Call c, long first, long rows, const real *dz) {
    const View &h = c.in[0], &ids = c.in[2], &dW = c.din[1];
    const int V = dW.shape[0];
    const long v = tile_row(), j = tile_column();
    const auto has_target = [&](long i) { return ids.id(first + i) >= 0; };
    const real sum = tile_product(
        v, V, j, dW.width(), rows, [&](long v, long i) { return has_target(i) ? dz[i * V + v] : 0; },
        [&](long i, long j) { return has_target(i) ? h.row(first + i)[j] : 0; });
    if (v < V && j < dW.width()) dW.row(v)[j] += sum;
}

static void head_backward(const Call &c, long first, long rows, const real *dz) {
    const View &W = c.in[1];
    const dim3 of_h = tile_grid(rows, W.width()), of_W = tile_grid(W.rows(), W.width());
    if (c.din[0]) launch(logp_bwd_h, of_h, tile_block, tile_bytes, c, first, rows, dz);
    if (c.din[1]) launch(logp_bwd_W, of_W, tile_block, tile_bytes, c, first, rows, dz);
}

void gpu::logp_backward(const Call &call) {
    const Rounded operands = rounded(call, false);
    const Call &c = operands;
    for_chunks(c, [&](long first, long rows, real *z) {
        logits_of(c, first, rows, z);
        launch(logp_bwd_z, blocks_for(rows * c.in[1].shape[0]), per_block, 0, c, first, rows, z);
        head_backward(c, first, rows, z);
    });
}

// ------------------------- kl_vocab:  y = KL(p | q), or KL(q | p), of the teacher's p and the student's q
static __device__ real block_log_sum_exp(const real *z, int V) {
    real top = -INFINITY, sum = 0;
    for (int v = threadIdx.x; v < V; v += blockDim.x) top = Largest()(top, z[v]);
    top = block_max(top);
    for (int v = threadIdx.x; v < V; v += blockDim.x) sum += exp_of(z[v] - top);
    return top + log(block_sum(sum));
}

static __global__ void kl_vocab_fwd(const __grid_constant__ Call c, long first, const real *q,
                                    const real *p) {
    const View &pos = c.in[4], &y = c.out[0], &lse_q = c.out[1], &lse_p = c.out[2];
    const int V = c.in[1].shape[0];
    const long n = first + blockIdx.x;
    const real *z_q = q + (long)blockIdx.x * V, *z_p = p + (long)blockIdx.x * V;
    if (threadIdx.x == 0) y[n] = lse_q[n] = lse_p[n] = 0;
    if (pos.id(n) < 0) return;
    const real of_q = block_log_sum_exp(z_q, V), of_p = block_log_sum_exp(z_p, V);
    real sum = 0;
    for (int v = threadIdx.x; v < V; v += blockDim.x) {
        const real log_q = z_q[v] - of_q, log_p = z_p[v] - of_p;
        sum += c.a.reverse ? exp_of(log_q) * (log_q - log_p) : exp_of(log_p) * (log_p - log_q);
    }
    sum = block_sum(sum);
    if (threadIdx.x != 0) return;
    lse_q[n] = of_q;
    lse_p[n] = of_p;
    y[n] = sum;
}

// f: for every chunk its first row, how many they are, the student's logits and the teacher's
template <class F> static void for_chunks_of_both(const Call &student, const Call &teacher, F f) {
    for_chunks(student, [&](long first, long rows, real *z_q) {
        Scratch<real> z_p(cuda_device, rows * student.in[1].shape[0]);
        logits_of(student, first, rows, z_q);
        logits_of(teacher, first, rows, z_p.p);
        f(first, rows, z_q, z_p.p);
    });
}

void gpu::kl_vocab_forward(const Call &c) {
    const Rounded student = rounded(student_of(c), false), teacher = rounded(teacher_of(c), false);
    for_chunks_of_both(student, teacher, [&](long first, long rows, const real *z_q, const real *z_p) {
        launch(kl_vocab_fwd, rows, threads_for(c.in[1].shape[0]), 0, c, first, z_q, z_p);
    });
}

// dy/dz_v = q_v - p_v; reverse: q_v (log q_v - log p_v - y).  dz takes the place of z_q, and then as logp.
static __global__ void kl_vocab_bwd_z(const __grid_constant__ Call c, long first, long rows, real *z_q,
                                      const real *z_p) {
    const View &y = c.out[0], &lse_q = c.out[1], &lse_p = c.out[2], &dy = c.dout[0];
    const int V = c.in[1].shape[0];
    const real temperature = c.a.temperature;
    const long e = element(), n = first + e / V;
    if (e >= rows * V) return;
    const real log_q = z_q[e] - lse_q[n], log_p = z_p[e] - lse_p[n], q = exp_of(log_q);
    z_q[e] = dy[n] / temperature * (c.a.reverse ? q * (log_q - log_p - y[n]) : q - exp_of(log_p));
}

void gpu::kl_vocab_backward(const Call &c) {
    const Rounded student = rounded(student_of(c), false), teacher = rounded(teacher_of(c), false);
    for_chunks_of_both(student, teacher, [&](long first, long rows, real *z_q, const real *z_p) {
        launch(kl_vocab_bwd_z, blocks_for(rows * c.in[1].shape[0]), per_block, 0, c, first, rows, z_q, z_p);
        head_backward(student, first, rows, z_q);
    });
}

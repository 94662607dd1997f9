// ops_no_grad.cu: the ops without a gradient, on CUDA: those that choose (topk, hash_route, drop,
// dispatch, balance, sample) and those that write into their first operands (append, adamw,
// sum_squares, scale_add, bias_update).
//
// The same names and the same order as src/cpu/ops_no_grad.cpp, where formulas and wrappers stand. The
// integers must be the CPU's exactly. So nothing here depends on the order of threads: a rank is counted
// ("how many come before me?", which is a stable sort without moving anything), and what has to be added in
// order is added by one thread. Some kernels are therefore slower than they could be; like deepseek.cu,
// this is the plain rendition.
#include <algorithm>

#include "src/base/random.h"
#include "src/cuda/kernel.h"

// ------------------------------------------------------- topk:  the K largest of s + b among the kept groups
// Of score(first .. first+count), the sum of the n best, best first.
template <class Score> static __device__ real sum_of_best(Score score, int first, int count, int n) {
    real sum = 0;
    int last = -1;                                       // the one taken last
    for (int k = 0; k < n; k++) {
        int best = -1;
        for (int i = first; i < first + count; i++) {
            const bool left = last < 0 || before(score(last), last, score(i), i);
            if (left && (best < 0 || before(score(i), i, score(best), best))) best = i;
        }
        if (best < 0) break;                             // only if there are NaNs
        sum += score(best);
        last = best;
    }
    return sum;
}

// A block has a row. A group is kept if fewer than `keep` groups come before it; a candidate that k
// candidates of kept groups come before is choice k.
static __global__ void topk_fwd(const __grid_constant__ Call c) {
    const View &s = c.in[0], &b = c.in[1], &pos = c.in[2], &idx = c.out[0];
    const int E = s.width(), K = c.a.K, groups = c.a.groups, size = E / groups;
    const long n = blockIdx.x;
    const auto score = [&](int i) { return s.row(n)[i] + (b ? b[i] : 0); };
    SHARED(real, group);
    for (int g = threadIdx.x; g < groups; g += blockDim.x)
        group[g] = sum_of_best(score, g * size, size, c.a.best);
    for (int k = threadIdx.x; k < K; k += blockDim.x) idx.ids(n)[k] = k;       // valid even among NaNs
    if (pos && pos.id(n) < 0) {
        for (int k = threadIdx.x; k < K; k += blockDim.x) idx.ids(n)[k] = -1;
        return;
    }
    barrier();
    const auto kept = [&](int g) {
        int rank = 0;
        for (int other = 0; other < groups; other++) rank += before(group[other], other, group[g], g);
        return rank < c.a.keep;
    };
    for (int i = threadIdx.x; i < E; i += blockDim.x) {
        if (!kept(i / size)) continue;
        int rank = 0;
        for (int g = 0; g < groups; g++)
            for (int j = g * size; kept(g) && j < (g + 1) * size; j++)
                rank += before(score(j), j, score(i), i);
        if (rank < K) idx.ids(n)[rank] = i;
    }
}

void gpu::topk_forward(const Call &c) {
    launch(topk_fwd, c.in[0].rows(), threads_for(c.in[0].width()), c.a.groups * sizeof(real), c);
}

// ---------------------------------------------------------------- hash_route:  an expert by the token's id
static __global__ void hash_route_fwd(const __grid_constant__ Call c) {
    const View &ids = c.in[0], &pos = c.in[1], &idx = c.out[0];
    const long i = element();
    if (i < ids.numel()) idx.id(i) = pos && pos.id(i) < 0 ? -1 : (int)(mix(ids.id(i)) % c.a.n);
}

void gpu::hash_route_forward(const Call &c) {
    launch(hash_route_fwd, blocks_for(c.in[0].numel()), per_block, 0, c);
}

// ------------------------------------------------ drop:  what a group has no room for, lowest affinity first
// A block has a choice, and counts those of its group that come before it.
static __global__ void drop_fwd(const __grid_constant__ Call c) {
    const View &s = c.in[0], &idx = c.in[1], &exempt = c.in[2], &kept = c.out[0];
    const int K = idx.width(), size = s.width() / c.a.groups, M = (int)idx.numel(), i = blockIdx.x;
    const auto safe = [&](int j) { return exempt && exempt.id(j / K); };
    const auto affinity = [&](int j) { return s.row(j / K)[idx.id(j)]; };
    int chosen = 0, earlier = 0;
    for (int j = threadIdx.x; j < M; j += blockDim.x) {
        chosen += idx.id(j) >= 0;
        if (idx.id(j) < 0 || idx.id(i) < 0 || idx.id(j) / size != idx.id(i) / size) continue;
        earlier += safe(i) != safe(j) ? safe(j) : before(affinity(j), j, affinity(i), i);
    }
    chosen = block_sum(chosen);
    earlier = block_sum(earlier);
    if (threadIdx.x > 0) return;
    kept.id(i) = earlier < room_of(c.a.capacity, chosen, c.a.groups) || safe(i) ? idx.id(i) : -1;
}

void gpu::drop_forward(const Call &c) {
    launch(drop_fwd, c.in[1].numel(), threads_for(c.in[1].numel()), 0, c);
}

// ---------------------------------------------------------------- dispatch:  stable counting sort by expert
static __global__ void dispatch_count(const __grid_constant__ Call c) {            // a block has an expert
    const View &idx = c.in[0], &counts = c.out[3];
    int count = 0;
    for (long i = threadIdx.x; i < idx.numel(); i += blockDim.x) count += idx.id(i) == (int)blockIdx.x;
    count = block_sum(count);
    if (threadIdx.x == 0) counts.id(blockIdx.x) = count;
}

// A block has an expert and walks idx a block's worth at a time; mine[] says which threads have met the
// expert. The last block has what belongs to nobody.
static __global__ void dispatch_fwd(const __grid_constant__ Call c) {
    const View &idx = c.in[0];
    const auto &[slot, token, offsets, counts] = c.outputs<4>();
    const int e = blockIdx.x, E = c.a.n, K = idx.width(), N = (int)idx.numel();
    int next = 0;
    for (int before = 0; before < e; before++) next += counts.id(before);
    if (threadIdx.x == 0) offsets.id(e) = next;
    if (e == E) {
        for (int i = threadIdx.x; i < N; i += blockDim.x)
            if (idx.id(i) < 0) slot.id(i) = -1;
        for (int s = next + threadIdx.x; s < N; s += blockDim.x) token.id(s) = 0;
        return;
    }
    SHARED(int, mine);
    for (int first = 0; first < N; first += blockDim.x) {
        const int i = first + threadIdx.x;
        mine[threadIdx.x] = i < N && idx.id(i) == e;
        barrier();
        int earlier = 0, all = 0;
        for (int t = 0; t < (int)blockDim.x; t++) {
            earlier += t < (int)threadIdx.x && mine[t];
            all += mine[t];
        }
        if (mine[threadIdx.x]) {
            slot.id(i) = next + earlier;
            token.id(next + earlier) = i / K;
        }
        next += all;
        barrier();
    }
}

void gpu::dispatch_forward(const Call &c) {
    const int threads = threads_for(c.in[0].numel());
    launch(dispatch_count, c.a.n, threads, 0, c);
    launch(dispatch_fwd, c.a.n + 1, threads, threads * sizeof(int), c);
}

// ---------------------------------------------------------------- balance:  w_ti = a/T f, of the group of i
static __device__ bool is_padding(const View &idx, long row) {
    for (int k = 0; k < idx.width(); k++)
        if (idx.id(row * idx.width() + k) >= 0) return false;
    return true;
}

// Does a token count for group g, and how often?
static __device__ int counts_for(const View &idx, long n, int g, int size, int once) {
    int count = 0;
    for (int k = 0; k < idx.width(); k++) count += idx.ids(n)[k] >= 0 && idx.ids(n)[k] / size == g;
    return once ? count > 0 : count;
}

static __global__ void balance_fwd(const __grid_constant__ Call c) {               // a block has a sequence
    const View &idx = c.in[0], &w = c.out[0];
    const int E = c.a.n, T = c.a.T, K = idx.width(), D = c.a.groups, size = E / D;
    const long first = blockIdx.x * (long)T, end = first + T;
    int real_tokens = 0;
    for (long n = first + threadIdx.x; n < end; n += blockDim.x) real_tokens += !is_padding(idx, n);
    real_tokens = block_sum(real_tokens);
    const double T_real = real_tokens > 0 ? real_tokens : 1, even = (c.a.once ? c.a.keep : K) * T_real / D;
    for (int i = threadIdx.x; i < E; i += blockDim.x) {
        real counted = 0;
        for (long n = first; n < end; n++) counted += counts_for(idx, n, i / size, size, c.a.once);
        const real f = counted * (real)(c.a.a / T_real / even);
        for (long n = first; n < end; n++) w.row(n)[i] = is_padding(idx, n) ? 0 : f;
    }
}

void gpu::balance_forward(const Call &c) {
    launch(balance_fwd, c.in[0].shape[0] / c.a.T, threads_for(c.a.n), 0, c);
}

// ------------------------------------------------------ sample:  id ~ softmax(z / temperature) over the kept
// First every candidate counts those before it, which is its place in the order; all
// candidates of all rows at once.
static __global__ void sample_order(const __grid_constant__ Call c, int *order) {
    const View &z = c.in[0];
    const int V = z.width();
    const long e = element(), n = e / V;
    const int v = (int)(e % V);
    if (e >= z.numel()) return;
    const real *row = z.row(n);
    int rank = 0;
    for (int u = 0; u < V; u++) rank += before(row[u], u, row[v], v);
    order[n * V + rank] = v;
}

// Then a block has a row: all threads compute weights, and one adds them up, in the CPU's order.
static __global__ void sample_fwd(const __grid_constant__ Call c, const int *orders, double *weights) {
    const View &z = c.in[0], &key = c.in[1], &id = c.out[0], &kept = c.out[1];
    const int V = z.width();
    const bool greedy = c.a.temperature == 0;
    const int top_k = greedy ? 1 : (c.a.top_k > 0 && c.a.top_k < V ? c.a.top_k : V);
    const double T = greedy ? 1 : c.a.temperature;
    const long n = blockIdx.x;
    const int *order = orders + n * V;
    double *weight = weights + n * V;                    // by candidate
    for (int v = threadIdx.x; v < V; v += blockDim.x) {
        weight[v] = exp((double)(z.row(n)[v] - z.row(n)[order[0]]) / T);
        if (v % 32 == 0) kept.ids(n)[v / 32] = 0;
    }
    barrier();
    if (threadIdx.x != 0) return;
    const bool sorted = top_k < V || c.a.top_p < 1;      // else all are kept, in the order of their ids
    double mass = 0, reached = 0;
    for (int k = 0; k < top_k; k++) mass += weight[sorted ? order[k] : k];
    for (int k = 0; k < top_k && (!sorted || k == 0 || reached < c.a.top_p * mass); k++) {
        const int v = sorted ? order[k] : k;
        put_into_set(kept.ids(n), v);
        reached += weight[v];
    }
    double left = reached * uniform(c.a.seed, key.id(3 * n), key.id(3 * n + 1), key.id(3 * n + 2));
    id.id(n) = order[0];
    for (int v = 0; v < V; v++) {
        if (!in_set(kept.ids(n), v)) continue;
        id.id(n) = v;
        if ((left -= weight[v]) < 0) break;
    }
}

void gpu::sample_forward(const Call &c) {
    const View &z = c.in[0];
    Scratch<int> order(cuda_device, z.numel());
    Scratch<double> weight(cuda_device, z.numel());
    cuda_device.zero(order.p, z.numel() * sizeof(int));                            // valid even among NaNs
    launch(sample_order, blocks_for(z.numel()), per_block, 0, c, order.p);
    launch(sample_fwd, z.rows(), threads_for(z.width()), 0, c, (const int *)order.p, weight.p);
}

// ------------------------------------------------------- append:  rows[at] = x
// A thread has a column of a sequence, and writes its tokens in order: of two at one
// position the last one stays.
static __global__ void append_fwd(const __grid_constant__ Call c) {
    const auto &[rows, x, at] = c.inputs<3>();
    const int T = x.shape[1], T_max = rows.shape[1];
    const long block = (long)x.shape[2] * x.shape[3], b = element() / block, j = element() % block;
    if (b >= x.shape[0]) return;
    for (long t = b * T; t < (b + 1) * T; t++) {
        if (at.id(t) < 0 || at.id(t) >= T_max) continue;
        rows[(b * T_max + at.id(t)) * block + j] = x[t * block + j];
    }
}

void gpu::append_forward(const Call &c) {
    const Shape &x = c.in[1].shape;
    launch(append_fwd, blocks_for((long)x[0] * x[2] * x[3]), per_block, 0, c);
}

// ---------------------------------------------------------------- adamw:  one step on one weight
// fix1, fix2: the corrections for the start at 0, the same for all elements.
static __global__ void adamw_fwd(const __grid_constant__ Call c, real fix1, real fix2) {
    const auto &[W, m, v, dW, norm2] = c.inputs<5>();
    const real norm = norm2 ? sqrt(norm2[0]) : 0;
    if (!(norm <= largest_real)) return;                 // NaN or infinity: the step is not taken
    const real shrink = norm2 && c.a.clip > 0 && norm > c.a.clip ? c.a.clip / (norm + (real)1e-6) : 1;
    const real beta1 = c.a.beta1, beta2 = c.a.beta2, lr = c.a.lr, eps = c.a.eps;
    const real keep = 1 - c.a.lr * c.a.decay;
    const long j = element();
    if (j >= W.numel()) return;
    const real g = dW[j] * shrink;
    m[j] = beta1 * m[j] + (1 - beta1) * g;
    v[j] = beta2 * v[j] + (1 - beta2) * g * g;
    W[j] = keep * W[j] - lr * (m[j] * fix1) / (sqrt(v[j] * fix2) + eps);
}

void gpu::adamw_forward(const Call &c) {
    const real fix1 = (real)(1 / (1 - pow(c.a.beta1, c.a.step)));
    const real fix2 = (real)(1 / (1 - pow(c.a.beta2, c.a.step)));
    launch(adamw_fwd, blocks_for(c.in[0].numel()), per_block, 0, c, fix1, fix2);
}

// ---------------------------------------------------------------- sum_squares:  total += sum x^2
// In two steps: a block adds up `span` numbers, then one block adds what the blocks found.
constexpr long span = 4096;

static __global__ void sum_squares_parts(const __grid_constant__ Call c, double *part) {
    const View &x = c.in[0];
    const long first = blockIdx.x * span, end = first + span < x.numel() ? first + span : x.numel();
    double sum = 0;
    for (long i = first + threadIdx.x; i < end; i += blockDim.x) sum += (double)x[i] * x[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) part[blockIdx.x] = sum;
}

static __global__ void sum_squares_fwd(const __grid_constant__ Call c, const double *part, long parts) {
    double sum = 0;
    for (long i = threadIdx.x; i < parts; i += blockDim.x) sum += part[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) c.in[1][0] += (real)sum;
}

void gpu::sum_squares_forward(const Call &c) {
    const long n = c.in[0].numel(), parts = std::max(1l, (n + span - 1) / span);
    Scratch<double> part(cuda_device, parts);
    launch(sum_squares_parts, parts, threads_for(n), 0, c, part.p);
    launch(sum_squares_fwd, 1, threads_for(parts), 0, c, (const double *)part.p, parts);
}

// -------------------------------------------------------------- scale_add:  y = ay + bx, numbers or integers
static __global__ void scale_add_fwd(const __grid_constant__ Call c) {
    const auto &[y, x] = c.inputs<2>();
    const real a = c.a.a, b = c.a.b;
    const long i = element();
    if (i >= y.numel()) return;
    if (y.type == INTS) y.id(i) = (int)a * y.id(i) + (int)b * x.id(i);
    else y[i] = a * y[i] + b * x[i];
}

void gpu::scale_add_forward(const Call &c) {
    launch(scale_add_fwd, blocks_for(c.in[0].numel()), per_block, 0, c);
}

// ---------------------------------------------------------- bias_update:  b_i += gamma sign(mean - counts_i)
static __global__ void bias_update_fwd(const __grid_constant__ Call c) {
    const auto &[b, counts] = c.inputs<2>();
    const long i = element(), E = b.numel();
    if (i >= E) return;
    long total = 0;
    for (long e = 0; e < E; e++) total += counts.id(e);
    const long less = total - E * counts.id(i);          // E (mean - counts_i), in integers: exact
    b[i] += c.a.gamma * ((less > 0) - (less < 0));
}

void gpu::bias_update_forward(const Call &c) {
    launch(bias_update_fwd, blocks_for(c.in[0].numel()), per_block, 0, c);
}

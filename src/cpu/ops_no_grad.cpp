// ops_no_grad.cpp: the ops without a gradient, on the CPU. Some choose (topk, hash_route, drop, dispatch,
// balance, sample): their integers are constants for the backward. Some write into their first operands
// (append, adamw, sum_squares, scale_add, bias_update). They are ops, and not host code, so that a step
// never waits for the host, and so that CUDA's versions (ops_no_grad.cu, same names, same order) are
// compared with these.
#include <algorithm>
#include <numeric>

#include "src/base/parallel.h"
#include "src/base/random.h"
#include "src/tensor/kernels.h"

// ------------------------------------------------------- topk:  the K largest of s + b among the kept groups
// Node-limited routing, V3 section 2.1.2: experts stand in equal contiguous groups; a group's score is
// the sum of its `best` largest s + b; the `keep` best groups stay. b only chooses: gates are picked
// from s. Ties: the lower index.
Tensor topk(const Tensor &s, const Tensor &b, const TopK &t, const Tensor &pos) {
    expect(s.shape.rank == 2 && (!b || b.numel() == s.shape[1]), "topk: s ", s.shape, " and b ", b.shape,
           " do not fit");
    const int E = s.shape[1];
    const bool grouped = t.groups >= 1 && E % t.groups == 0 && t.keep >= 1 && t.keep <= t.groups;
    expect(grouped && (t.keep == t.groups || t.best <= E / t.groups), "topk: keep ", t.keep, " of ", t.groups,
           " groups, scored by their best ", t.best, ", of ", E, " experts");
    expect(t.K >= 1 && t.K <= E / t.groups * t.keep, "topk: ", t.K, " of ", E / t.groups * t.keep,
           " candidates");
    expect(!pos || pos.numel() == s.shape[0], "topk: s ", s.shape, " and pos ", pos.shape, " do not fit");
    Tensor idx = ints({s.shape[0], t.K});
    apply(op_topk, {s, b, pos}, {idx}, {.K = t.K, .groups = t.groups, .keep = t.keep, .best = t.best});
    return idx;
}

// The n best indices of score[0..count), best first, into chosen; score is destroyed.
template <class Out> static void take_best(real *score, int count, int n, Out chosen) {
    for (int k = 0; k < n; k++) {
        int best = -1;
        for (int i = 0; i < count; i++)
            if (score[i] == score[i] && (best < 0 || before(score[i], i, score[best], best))) best = i;
        chosen(k, best < 0 ? k : best);                  // below 0 only if there are NaNs
        if (best >= 0) score[best] = NAN;                // taken; -infinity would be taken again
    }
}

void cpu::topk_forward(const Call &c) {
    const View &s = c.in[0], &b = c.in[1], &pos = c.in[2], &idx = c.out[0];
    const int E = s.width(), K = c.a.K, size = E / c.a.groups;
    Scratch<real> work(cpu_device, s.rows() * (2 * E + c.a.groups));
    for_rows(s.rows(), (K + c.a.best + 2) * E, [&](long n) {
        if (pos && pos.id(n) < 0) return (void)std::fill_n(idx.ids(n), K, -1);
        real *score = &work[n * (2 * E + c.a.groups)], *copy = score + E, *group = copy + E;
        for (int i = 0; i < E; i++) score[i] = copy[i] = s.row(n)[i] + (b ? b[i] : 0);
        if (c.a.keep < c.a.groups) {
            for (int g = 0; g < c.a.groups; g++) {
                group[g] = 0;
                take_best(copy + g * size, size, c.a.best,
                          [&](int, int i) { group[g] += score[g * size + i]; });
            }
            std::fill_n(copy, E, -INFINITY);
            take_best(group, c.a.groups, c.a.keep,
                      [&](int, int g) { std::copy_n(score + g * size, size, copy + g * size); });
            std::copy_n(copy, E, score);
        }
        take_best(score, E, K, [&](int k, int i) { idx.ids(n)[k] = i; });
    });
}

// ---------------------------------------------------------------- hash_route:  an expert by the token's id
// Hash layers, a baseline of DeepSeekMoE: which expert a token goes to is fixed before training.
Tensor hash_route(const Tensor &ids, int E, const Tensor &pos) {
    expect(!pos || pos.numel() == ids.numel(), "hash_route: ids ", ids.shape, " and pos ", pos.shape,
           " do not fit");
    Tensor idx = ints({ids.numel(), 1});
    apply(op_hash_route, {ids, pos}, {idx}, {.n = E});
    return idx;
}

void cpu::hash_route_forward(const Call &c) {
    const View &ids = c.in[0], &pos = c.in[1], &idx = c.out[0];
    for (long i = 0; i < ids.numel(); i++)
        idx.id(i) = pos && pos.id(i) < 0 ? -1 : (int)(mix(ids.id(i)) % c.a.n);
}

// ------------------------------------------------ drop:  what a group has no room for, lowest affinity first
// V2 section 2.2.4. A group of experts (a device) takes its most affine choices, up to `capacity` times what
// all groups get on average. Exempt rows lose nothing; they come first, so they do take room. Ties: the
// lower index stays. A dropped choice is -1.
Tensor drop(const Tensor &s, const Tensor &idx, const Tensor &exempt, int D, double capacity) {
    expect(idx.shape.rank == 2 && s.shape.rank == 2 && idx.shape[0] == s.shape[0], "drop: s ", s.shape,
           " and idx ", idx.shape, " do not fit");
    expect(!exempt || exempt.numel() == s.shape[0], "drop: s ", s.shape, " and exempt ", exempt.shape,
           " do not fit");
    expect(D >= 1 && s.shape[1] % D == 0, "drop: ", s.shape[1], " experts are not ", D, " equal groups");
    Tensor kept = ints(idx.shape);
    apply(op_drop, {s, idx, exempt}, {kept}, {.groups = D, .capacity = capacity});
    return kept;
}

void cpu::drop_forward(const Call &c) {
    const View &s = c.in[0], &idx = c.in[1], &exempt = c.in[2], &kept = c.out[0];
    const int K = idx.width(), size = s.width() / c.a.groups, M = (int)idx.numel();
    Scratch<int> order(cpu_device, M), used(cpu_device, c.a.groups);
    int chosen = 0;
    for (int i = 0; i < M; i++)
        if (idx.id(i) >= 0) order[chosen++] = i;
    const auto safe = [&](int i) { return exempt && exempt.id(i / K); };
    const auto affinity = [&](int i) { return s.row(i / K)[idx.id(i)]; };
    std::stable_sort(order.p, order.p + chosen, [&](int i, int j) {          // stays inside among NaNs, too
        return safe(i) != safe(j) ? safe(i) : before(affinity(i), i, affinity(j), j);
    });
    const long room = room_of(c.a.capacity, chosen, c.a.groups);
    std::fill_n(used.p, c.a.groups, 0);
    std::copy_n(&idx.id(0), M, &kept.id(0));
    for (int k = 0; k < chosen; k++)
        if (used[idx.id(order[k]) / size]++ >= room && !safe(order[k])) kept.id(order[k]) = -1;
}

// ---------------------------------------------------------------- dispatch:  stable counting sort by expert
// (n, k) with expert e goes to slot offsets[e] + how many before it chose e; -1 goes nowhere (slot -1). token
// names the row of each slot; slots past the last used one name row 0, and matmul_grouped writes 0 there.
Dispatch dispatch(const Tensor &idx, int E) {
    expect(idx.shape.rank == 2, "dispatch: idx ", idx.shape, " is not a matrix");
    Dispatch d = {ints(idx.shape), ints({idx.numel()}), ints({E + 1}), ints({E})};
    apply(op_dispatch, {idx}, {d.slot, d.token, d.offsets, d.counts}, {.n = E});
    return d;
}

void cpu::dispatch_forward(const Call &c) {
    const View &idx = c.in[0], &slot = c.out[0], &token = c.out[1], &offsets = c.out[2], &counts = c.out[3];
    const int E = c.a.n, K = idx.width();
    std::fill_n(&counts.id(0), E, 0);
    std::fill_n(&token.id(0), token.numel(), 0);
    for (long i = 0; i < idx.numel(); i++)
        if (idx.id(i) >= 0) counts.id(idx.id(i))++;
    offsets.id(0) = 0;
    for (int e = 0; e < E; e++) offsets.id(e + 1) = offsets.id(e) + counts.id(e);
    Scratch<int> next(cpu_device, E);
    std::copy_n(&offsets.id(0), E, next.p);
    for (long i = 0; i < idx.numel(); i++) {
        slot.id(i) = idx.id(i) < 0 ? -1 : next[idx.id(i)]++;
        if (slot.id(i) >= 0) token.id(slot.id(i)) = i / K;
    }
}

// ---------------------------------------------------------------- balance:  w_ti = a/T f, of the group of i
// A balance loss is alpha sum_g f_g P_g over D groups of experts, P_g = 1/T sum_t s'_t of its experts, and
// averaged over the sequences: it is linear in s', with constants w. Here a = alpha / number of sequences,
// and f_g is the load of a group relative to an even one:
//     f_g = D / (K T) choices of it         every expert a group: V3 (17)-(20), MoE (12)-(14), V2 (23)-(25)
//                                           a device a group: MoE (15)-(17), V2 (26)-(28)
//     f_g = D / (M T) tokens that reach it  V2 (29)-(31)
// T counts the real tokens: a row of -1 is padding.
Tensor balance(const Tensor &idx, int E, int T, double alpha, int D, int M) {
    expect(T > 0 && idx.shape[0] % T == 0, "balance: ", idx.shape[0], " tokens are no sequences of ", T);
    if (D == 0) D = E;
    expect(D >= 1 && E % D == 0, "balance: ", E, " experts are not ", D, " equal groups");
    Tensor w = reals({idx.shape[0], E});
    apply(
        op_balance, {idx}, {w},
        {.a = alpha * T / idx.shape[0], .n = E, .groups = D, .keep = std::max(M, 1), .once = M > 0, .T = T});
    return w;
}

static bool is_padding(const View &idx, long row) {
    const int *k = &idx.id(row * idx.width());
    return std::all_of(k, k + idx.width(), [](int i) { return i < 0; });
}

// Is choice k of a token its first one in that group?
static bool reaches_first(const int *idx, int k, int size) {
    for (int earlier = 0; earlier < k; earlier++)
        if (idx[earlier] >= 0 && idx[earlier] / size == idx[k] / size) return false;
    return true;
}

void cpu::balance_forward(const Call &c) {
    const View &idx = c.in[0], &w = c.out[0];
    const int E = c.a.n, T = c.a.T, K = idx.width(), D = c.a.groups, size = E / D;
    Scratch<real> f(cpu_device, w.rows() / T * D);
    for_rows(idx.shape[0] / T, T * (K + E), [&](long b) {
        real *f_b = &f[b * D];
        int real_tokens = 0;
        std::fill_n(f_b, D, 0);
        for (long n = b * T; n < (b + 1) * T; n++) {
            real_tokens += !is_padding(idx, n);
            for (int k = 0; k < K; k++)
                if (idx.ids(n)[k] >= 0 && (!c.a.once || reaches_first(idx.ids(n), k, size)))
                    f_b[idx.ids(n)[k] / size] += 1;
        }
        const double T_real = std::max(1, real_tokens), even = (c.a.once ? c.a.keep : K) * T_real / D;
        for (int g = 0; g < D; g++) f_b[g] *= (real)(c.a.a / T_real / even);
        for (long n = b * T; n < (b + 1) * T; n++)
            for (int i = 0; i < E; i++) w.row(n)[i] = is_padding(idx, n) ? 0 : f_b[i / size];
    });
}

// ------------------------------------------------------ sample:  id ~ softmax(z / temperature) over the kept
// Kept are the top_k largest, of these the fewest whose probability reaches top_p; temperature
// 0 keeps the largest. The random number depends on the key alone, which the caller names: (question,
// sample, position). So no batching can change what a row says.
Sampled sample(const Tensor &logits, const Tensor &key, const Sampling &s) {
    expect(logits.shape.rank == 2 && key.numel() == 3 * logits.shape[0], "sample: logits ", logits.shape,
           " and key ", key.shape, " do not fit");
    Sampled r = {ints({logits.shape[0]}), ints({logits.shape[0], set_words(logits.shape[1])})};
    apply(op_sample, {logits, key}, {r.id, r.kept},
          {.temperature = s.temperature, .top_k = s.top_k, .top_p = s.top_p, .seed = s.seed});
    return r;
}

// A sort is all that takes long here, and only a choice among some needs one.
void cpu::sample_forward(const Call &c) {
    const View &z = c.in[0], &key = c.in[1], &id = c.out[0], &kept = c.out[1];
    const int V = z.width();
    const bool greedy = c.a.temperature == 0;
    const int top_k = greedy ? 1 : (c.a.top_k > 0 && c.a.top_k < V ? c.a.top_k : V);
    const bool sorted = !greedy && (top_k < V || c.a.top_p < 1);
    const double T = greedy ? 1 : c.a.temperature;
    Scratch<int> order(cpu_device, V);
    Scratch<double> weight(cpu_device, V);
    for (long n = 0; n < z.rows(); n++) {
        const real *row = z.row(n);
        const auto first = [&](int i, int j) { return before(row[i], i, row[j], j); };
        std::iota(order.p, order.p + V, 0);
        const int best = *std::min_element(order.p, order.p + V, first);
        if (sorted) std::stable_sort(order.p, order.p + V, first);
        if (greedy) order[0] = best;
        for (int v = 0; v < V; v++) weight[v] = exp((double)(row[v] - row[best]) / T);
        double mass = 0, reached = 0;
        for (int k = 0; k < top_k; k++) mass += weight[order[k]];
        std::fill_n(kept.ids(n), kept.width(), 0);
        for (int k = 0; k < top_k && (!sorted || k == 0 || reached < c.a.top_p * mass); k++) {
            put_into_set(kept.ids(n), order[k]);
            reached += weight[order[k]];
        }
        double left = reached * uniform(c.a.seed, key.id(3 * n), key.id(3 * n + 1), key.id(3 * n + 2));
        id.id(n) = best;
        for (int v = 0; v < V; v++) {
            if (!in_set(kept.ids(n), v)) continue;
            id.id(n) = v;
            if ((left -= weight[v]) < 0) break;
        }
    }
}

// ------------------------------------------------------- append:  rows[at] = x
// A cache of (B, T_max, n, d); position -1 is written nowhere.
void append(const Tensor &rows, const Tensor &x, const Tensor &at) {
    const bool fits = rows.shape.rank == 4 && x.shape.rank == 4 && rows.shape[0] == x.shape[0] &&
                      rows.shape[2] == x.shape[2] && rows.shape[3] == x.shape[3] &&
                      at.numel() == x.shape[0] * x.shape[1];
    expect(fits, "append: rows ", rows.shape, ", x ", x.shape, ", at ", at.shape, " do not fit");
    apply(op_append, {rows, x, at}, {});
}

void cpu::append_forward(const Call &c) {
    const View &rows = c.in[0], &x = c.in[1], &at = c.in[2];
    const int B = x.shape[0], T = x.shape[1], T_max = rows.shape[1];
    const long block = (long)x.shape[2] * x.shape[3];
    for_rows(B, T * block, [&](long b) {
        for (long t = b * T; t < (b + 1) * T; t++) {
            if (at.id(t) < 0 || at.id(t) >= T_max) continue;
            std::copy_n(&x[t * block], block, &rows[(b * T_max + at.id(t)) * block]);
        }
    });
}

// ---------------------------------------------------------------- adamw:  one step on one weight
// g = dW min(1, clip / |all gradients|);  m, v: running means of g, g^2, corrected for their start at 0
// W = (1 - lr decay) W - lr m^ / (sqrt(v^) + eps)
void adamw(const Tensor &W, const Tensor &m, const Tensor &v, const Tensor &dW, const Tensor &norm2,
           const AdamW &o) {
    expect(W.shape == m.shape && W.shape == v.shape && W.shape == dW.shape, "adamw: W ", W.shape, ", m ",
           m.shape, ", v ", v.shape, ", dW ", dW.shape, " differ");
    expect(!norm2 || norm2.numel() == 1, "adamw: norm2 ", norm2.shape, " is not one number");
    apply(op_adamw, {W, m, v, dW, norm2}, {},
          {.eps = (real)o.eps,
           .lr = o.lr,
           .beta1 = o.beta1,
           .beta2 = o.beta2,
           .decay = o.decay,
           .clip = (real)o.clip,
           .step = o.step});
}

void cpu::adamw_forward(const Call &c) {
    const View &W = c.in[0], &m = c.in[1], &v = c.in[2], &dW = c.in[3], &norm2 = c.in[4];
    const real norm = norm2 ? sqrt(norm2[0]) : 0;
    if (!(norm <= largest_real)) return;                 // NaN or infinity: the step is not taken
    const real shrink = norm2 && c.a.clip > 0 && norm > c.a.clip ? c.a.clip / (norm + (real)1e-6) : 1;
    const real beta1 = c.a.beta1, beta2 = c.a.beta2, lr = c.a.lr, eps = c.a.eps;
    const real keep = 1 - c.a.lr * c.a.decay;
    const real fix1 = (real)(1 / (1 - pow(c.a.beta1, c.a.step))),
               fix2 = (real)(1 / (1 - pow(c.a.beta2, c.a.step)));
    for_rows(W.rows(), 8 * W.width(), [&](long i) {
        const long end = (i + 1) * W.width();
        for (long j = i * W.width(); j < end; j++) {
            const real g = dW[j] * shrink;
            m[j] = beta1 * m[j] + (1 - beta1) * g;
            v[j] = beta2 * v[j] + (1 - beta2) * g * g;
            W[j] = keep * W[j] - lr * (m[j] * fix1) / (sqrt(v[j] * fix2) + eps);
        }
    });
}

// ---------------------------------------------------------------- sum_squares:  total += sum x^2
void sum_squares(const Tensor &x, const Tensor &total) {
    expect(total.numel() == 1, "sum_squares: total ", total.shape, " is not one number");
    apply(op_sum_squares, {x, total}, {});
}

void cpu::sum_squares_forward(const Call &c) {
    const View &x = c.in[0];
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (long i = 0; i < x.numel(); i++) sum += (double)x[i] * x[i];
    c.in[1][0] += (real)sum;
}

// -------------------------------------------------------------- scale_add:  y = ay + bx, numbers or integers
void scale_add(const Tensor &y, const Tensor &x, double a, double b) {
    expect(y.shape == x.shape && y.s->type == x.s->type, "scale_add: y ", y.shape, " and x ", x.shape,
           " differ");
    apply(op_scale_add, {y, x}, {}, {.a = a, .b = (real)b});
}

void cpu::scale_add_forward(const Call &c) {
    const View &y = c.in[0], &x = c.in[1];
    const real a = c.a.a, b = c.a.b;
    if (y.type == INTS)
        for (long i = 0; i < y.numel(); i++) y.id(i) = (int)a * y.id(i) + (int)b * x.id(i);
    else
        for (long i = 0; i < y.numel(); i++) y[i] = a * y[i] + b * x[i];
}

// ---------------------------------------------------------- bias_update:  b_i += gamma sign(mean - counts_i)
// An expert that got less than its share becomes easier to choose: loss-free balancing, Algorithm 1.
void bias_update(const Tensor &b, const Tensor &counts, double gamma) {
    expect(b.numel() == counts.numel(), "bias_update: b ", b.shape, " and counts ", counts.shape, " differ");
    apply(op_bias_update, {b, counts}, {}, {.gamma = (real)gamma});
}

void cpu::bias_update_forward(const Call &c) {
    const View &b = c.in[0], &counts = c.in[1];
    const long E = b.numel();
    long total = 0;
    for (long i = 0; i < E; i++) total += counts.id(i);
    for (long i = 0; i < E; i++) {
        const long less = total - E * counts.id(i);                 // E (mean - counts_i), in integers: exact
        b[i] += c.a.gamma * ((less > 0) - (less < 0));
    }
}

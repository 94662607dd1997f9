// experts.h: a layer of experts in plain double loops, naive on purpose: a token asks every expert in turn,
// O(N E), where the model sorts rows by expert.
#pragma once
#include <algorithm>

#include "tests/models.h"

inline Vec gated(const Vec &g, const Vec &u) {
    Vec a(g.size());
    for (size_t i = 0; i < a.size(); i++) a[i] = g[i] / (1 + std::exp(-g[i])) * u[i];
    return a;
}

// Affinities of a token to all experts.
inline Vec affinities(const MoE &w, const Config &c, const Vec &u) {
    Vec s = times(Numbers(w.e), u);
    double total = 0;
    for (double &s_i : s) {
        s_i = c.gate == Gate::sigmoid ? 1 / (1 + std::exp(-s_i)) : std::exp(s_i);        // V3 (15)   MoE (5)
        total += s_i;
    }
    if (c.gate == Gate::softmax)
        for (double &s_i : s) s_i /= total;
    return s;
}

// The K_r best of s + b among the M best groups, best first; a group's score is the sum of its best few.
inline std::vector<int> choice(const Config &c, const Vec &s, const Vec &b) {
    const int size = c.N_r / c.groups;
    std::vector<std::pair<double, int>> groups, experts;
    for (int i = 0; i < c.groups; i++) {
        Vec scores;
        for (int j = i * size; j < (i + 1) * size; j++) scores.push_back(s[j] + b[j]);
        std::sort(scores.rbegin(), scores.rend());
        double score = 0;
        for (int n = 0; n < std::min(c.group_best, size); n++) score += scores[n];
        groups.push_back({-score, i});
    }
    std::sort(groups.begin(), groups.end());
    for (int k = 0; k < c.M; k++)
        for (int j = 0; j < size; j++) {
            const int i = groups[k].second * size + j;
            experts.push_back({-(s[i] + b[i]), i});
        }
    std::sort(experts.begin(), experts.end());
    std::vector<int> chosen;
    for (int k = 0; k < c.K_r; k++) chosen.push_back(experts[k].second);
    return chosen;
}

// idx: the experts of each token, -1 for one that was dropped. Gates are what they were before.
inline Numbers moe_of(const MoE &w, const Config &c, const Tensor &h,
                      const std::vector<std::vector<int>> &idx, const std::vector<std::vector<int>> &kept) {
    const Numbers U(h), W_g(w.W_g), W_u(w.W_u), W_2(w.W_2);
    Numbers result(h.shape);
    for (long n = 0; n < h.shape.rows(); n++) {
        const Vec u = row(U, n), s = c.gate == Gate::hash ? Vec(c.N_r, 1) : affinities(w, c, u);
        Vec y(c.d, 0.0);
        if (c.N_s)
            y = times(Numbers(w.shared.W_2),
                      gated(times(Numbers(w.shared.W_g), u), times(Numbers(w.shared.W_u), u)));
        double total = 0;
        for (int i : idx[n]) total += s[i];
        for (int i = 0; i < c.N_r; i++) {   // every expert is asked
            if (!std::count(kept[n].begin(), kept[n].end(), i)) continue;
            const double scale = c.gate == Gate::hash ? 1 : c.rho / (c.norm_gates ? total : 1);
            const Vec a = gated(times(W_g, u, (long)i * c.d_e, c.d_e), times(W_u, u, (long)i * c.d_e, c.d_e));
            const Vec FFN_i = times(W_2, a, (long)i * c.d, c.d);
            for (int x = 0; x < c.d; x++) y[x] += scale * s[i] * FFN_i[x];               // V3 (12)(13)(14)
        }
        std::copy(y.begin(), y.end(), result.v.begin() + n * c.d);
    }
    return result;
}
inline Numbers moe_of(const MoE &w, const Config &c, const Tensor &h) {
    const Numbers U(h);
    const Vec b = w.b ? Numbers(w.b).v : Vec(c.N_r, 0.0);
    std::vector<std::vector<int>> idx;
    for (long n = 0; n < h.shape.rows(); n++) idx.push_back(choice(c, affinities(w, c, row(U, n)), b));
    return moe_of(w, c, h, idx, idx);
}

inline Config small() {                                  // every size is another number
    Config c;
    c.attention = Attention::MLA;
    c.pairing = rope_interleaved;
    c.V = 13, c.context = 32, c.d = 10, c.n_layers = 2, c.n_h = c.n_kv = 2, c.d_h = 5, c.d_v = 4, c.d_hR = 6;
    c.d_c = 7, c.d_cq = 8, c.d_ff = 9;
    c.N_r = 12, c.N_s = 2, c.K_r = 3, c.d_e = 6, c.n_dense = 1, c.groups = 4, c.M = 2, c.rho = 2.5;
    c.init_std = 0.4;
    return c;
}

// What a layer chose and what its balance loss was, for rows u (B,T,d).
struct Seen {
    std::vector<std::vector<int>> idx;
    Numbers s;
    double balance;
};
inline Seen seen_by(const MoE &w, const Config &c, const Tensor &u) {
    NoGrad off;
    Aux aux;
    Step step = causal(u.shape[0], u.shape[1]);
    step.aux = &aux;
    moe(w, c, u, step);
    Seen seen = {{}, Numbers(aux.routing[0].s), aux.losses.empty() ? 0 : (double)item(aux.losses[0].value)};
    const std::vector<int> idx = int_values(aux.routing[0].idx);
    for (size_t n = 0; n < idx.size(); n += c.K_r)
        seen.idx.emplace_back(idx.begin() + n, idx.begin() + n + c.K_r);
    return seen;
}

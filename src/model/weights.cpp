// weights.cpp: the list of a model's weights, with their shapes: building, initialisation, optimiser,
// checkpoints, census and gradient checks all walk this one.
#include "src/model/weights.h"

#include <cmath>
#include <set>

#include "src/base/random.h"

static void visit(MHA &w, const Config &c, const std::string &at, const Visitor &f) {
    f(at + "W_Q", w.W_Q, Group::matrix, {c.n_h * c.d_h, c.d});
    f(at + "W_K", w.W_K, Group::matrix, {c.n_kv * c.d_h, c.d});
    f(at + "W_V", w.W_V, Group::matrix, {c.n_kv * c.d_h, c.d});
    f(at + "W_O", w.W_O, Group::matrix, {c.d, c.n_h * c.d_h});
}

static void visit(MLA &w, const Config &c, const std::string &at, const Visitor &f) {
    const int from = c.d_cq ? c.d_cq : c.d;
    if (c.d_cq) f(at + "W_DQ", w.W_DQ, Group::matrix, {c.d_cq, c.d});
    if (c.d_cq) f(at + "g_q", w.g_q, Group::gain, {c.d_cq});
    f(at + "W_UQ", w.W_UQ, Group::matrix, {c.n_h * c.d_h, from});
    f(at + "W_QR", w.W_QR, Group::matrix, {c.n_h * c.d_hR, from});
    f(at + "W_DKV", w.W_DKV, Group::matrix, {c.d_c, c.d});
    f(at + "g_kv", w.g_kv, Group::gain, {c.d_c});
    f(at + "W_KR", w.W_KR, Group::matrix, {c.d_hR, c.d});
    f(at + "W_UK", w.W_UK, Group::matrix, {c.n_h * c.d_h, c.d_c});
    f(at + "W_UV", w.W_UV, Group::matrix, {c.n_h * c.d_v, c.d_c});
    f(at + "W_O", w.W_O, Group::matrix, {c.d, c.n_h * c.d_v});
}

static void visit(FFN &w, const Config &c, int width, const std::string &at, const Visitor &f) {
    f(at + "W_g", w.W_g, Group::matrix, {width, c.d});
    f(at + "W_u", w.W_u, Group::matrix, {width, c.d});
    f(at + "W_2", w.W_2, Group::matrix, {c.d, width});
}

static void visit(MoE &w, const Config &c, const std::string &at, const Visitor &f) {
    f(at + "e", w.e, Group::matrix, {c.N_r, c.d});
    f(at + "b", w.b, Group::bias, {c.N_r});
    f(at + "load", w.load, Group::counter, {c.N_r});
    f(at + "W_g", w.W_g, Group::matrix, {c.N_r, c.d_e, c.d});
    f(at + "W_u", w.W_u, Group::matrix, {c.N_r, c.d_e, c.d});
    f(at + "W_2", w.W_2, Group::matrix, {c.N_r, c.d, c.d_e});
    if (c.N_s) visit(w.shared, c, c.N_s * c.d_e, at + "shared.", f);
}

static void visit(Block &w, const Config &c, int layer, const std::string &at, const Visitor &f) {
    f(at + "g_attn", w.g_attn, Group::gain, {c.d});
    if (c.attention == Attention::MLA) visit(w.mla, c, at + "mla.", f);
    else visit(w.mha, c, at + "mha.", f);
    f(at + "g_ffn", w.g_ffn, Group::gain, {c.d});
    if (c.has_experts(layer)) visit(w.moe, c, at + "moe.", f);
    else visit(w.ffn, c, c.d_ff, at + "ffn.", f);
}

void visit(Model &m, const Visitor &f) {
    const Config &c = m.c;
    m.blocks.resize(c.n_layers);
    m.mtp.resize(c.D);
    f("Emb", m.Emb, Group::embedding, {c.V, c.d});
    for (int l = 0; l < c.n_layers; l++) visit(m.blocks[l], c, l, cat("blocks.", l, "."), f);
    f("g", m.g, Group::gain, {c.d});
    if (!c.tied) f("head", m.head, Group::matrix, {c.V, c.d});
    for (int k = 0; k < c.D; k++) {
        const std::string at = cat("mtp.", k, ".");
        f(at + "g_h", m.mtp[k].g_h, Group::gain, {c.d});
        f(at + "g_e", m.mtp[k].g_e, Group::gain, {c.d});
        f(at + "M", m.mtp[k].M, Group::matrix, {c.d, 2 * c.d});
        visit(m.mtp[k].block, c, c.n_layers, at + "block.", f);
        f(at + "g_out", m.mtp[k].g_out, Group::gain, {c.d});
    }
}

Model build(const Config &c) {
    Model m;
    m.c = c;
    visit(m, [](const std::string &name, Tensor &w, Group group, const Shape &shape) {
        static std::set<std::string> names;                               // a storage only points to its name
        const char *kept = names.insert(name).first->c_str();
        w = group == Group::counter ? zero_ints(shape, kept) : zeros(shape, kept);
        if (group != Group::counter && group != Group::bias) parameter(w, kept);
    });
    return m;
}

Model initialised(const Config &c, uint64_t seed) {
    Model m = build(c);
    uint64_t stream = 0;
    visit(m, [&](const std::string &, Tensor &w, Group group, const Shape &shape) {
        stream++;
        if (group == Group::gain) assign(w, std::vector<real>(shape.numel(), 1));
        if (group != Group::matrix && group != Group::embedding) return;
        std::vector<real> values(shape.numel());
        for (size_t i = 0; i < values.size(); i++)
            values[i] = (real)(c.init_std * normal(seed, stream, 0, i));
        assign(w, values);
    });
    return m;
}

Model clone(Model &m) {
    Model copy = build(m.c);
    std::vector<Tensor> from;
    visit(m, [&](const std::string &, Tensor &w, Group, const Shape &) { from.push_back(w); });
    size_t i = 0;
    visit(copy, [&](const std::string &, Tensor &w, Group, const Shape &) { copy_into(w, from[i++]); });
    return copy;
}

// What decoding remembers: the latent and the rotary key (MLA), or keys and values.
Caches make_caches(const Config &c, int B, int T_max) {
    const auto cache = [&](int n, int width) {
        return Cache{zeros({B, T_max, n, width}, "cache"), zero_ints({B}, "length")};
    };
    Caches caches;
    for (int l = 0; l < c.n_layers; l++) {
        if (c.attention == Attention::MLA) caches.layers.push_back({.latent = cache(1, c.d_c + c.d_hR)});
        else caches.layers.push_back({.k = cache(c.n_kv, c.d_h), .v = cache(c.n_kv, c.d_h)});
    }
    return caches;
}

Step causal(int B, int T) {
    std::vector<int> pos, where;
    for (int i = 0; i < B * T; i++) {
        pos.push_back(i % T);
        where.insert(where.end(), {0, i % T});
    }
    return {.pos = from(pos, {B, T}, "pos"), .where = from(where, {B, T, 2}, "where")};
}

// weights.cpp: the list of a model's weights, with their shapes: building, initialisation, optimiser,
// checkpoints, census and gradient checks all walk this one.
#include "src/model/weights.h"

#include <fnmatch.h>
#include <map>
#include <set>

#include "src/base/random.h"

static Spec matrix(const Config &c, long rows, long columns) {
    return {{rows, columns}, Group::matrix, Init::normal, c.linear};
}
static Spec experts(const Config &c, long rows, long columns) {
    return {{c.N_r, rows, columns}, Group::matrix, Init::normal, c.linear};
}
static Spec gain(long width) { return {{width}, Group::gain, Init::ones}; }
static Spec offset(long width) { return {{width}, Group::gain, Init::zeros}; }           // of a linear map

static void visit(MHA &w, const Config &c, const std::string &at, const Visitor &f) {
    f(at + "W_Q", w.W_Q, matrix(c, c.n_h * c.d_h, c.d));
    f(at + "W_K", w.W_K, matrix(c, c.n_kv * c.d_h, c.d));
    f(at + "W_V", w.W_V, matrix(c, c.n_kv * c.d_h, c.d));
    f(at + "W_O", w.W_O, matrix(c, c.d, c.n_h * c.d_h));
    if (c.bias_qkv) f(at + "b_Q", w.b_Q, offset(c.n_h * c.d_h));
    if (c.bias_qkv) f(at + "b_K", w.b_K, offset(c.n_kv * c.d_h));
    if (c.bias_qkv) f(at + "b_V", w.b_V, offset(c.n_kv * c.d_h));
    if (c.bias_o) f(at + "b_O", w.b_O, offset(c.d));
}

static void visit(MLA &w, const Config &c, const std::string &at, const Visitor &f) {
    const int from = c.d_cq ? c.d_cq : c.d;
    if (c.d_cq) f(at + "W_DQ", w.W_DQ, matrix(c, c.d_cq, c.d));
    if (c.d_cq) f(at + "g_q", w.g_q, gain(c.d_cq));
    f(at + "W_UQ", w.W_UQ, matrix(c, c.n_h * c.d_h, from));
    f(at + "W_QR", w.W_QR, matrix(c, c.n_h * c.d_hR, from));
    f(at + "W_DKV", w.W_DKV, matrix(c, c.d_c, c.d));
    f(at + "g_kv", w.g_kv, gain(c.d_c));
    f(at + "W_KR", w.W_KR, matrix(c, c.d_hR, c.d));
    f(at + "W_UK", w.W_UK, matrix(c, c.n_h * c.d_h, c.d_c));
    f(at + "W_UV", w.W_UV, matrix(c, c.n_h * c.d_v, c.d_c));
    f(at + "W_O", w.W_O, matrix(c, c.d, c.n_h * c.d_v));
}

static void visit(FFN &w, const Config &c, int width, const std::string &at, const Visitor &f) {
    f(at + "W_g", w.W_g, matrix(c, width, c.d));
    f(at + "W_u", w.W_u, matrix(c, width, c.d));
    f(at + "W_2", w.W_2, matrix(c, c.d, width));
    if (c.bias_ffn) f(at + "b_g", w.b_g, offset(width));
    if (c.bias_ffn) f(at + "b_u", w.b_u, offset(width));
    if (c.bias_ffn) f(at + "b_2", w.b_2, offset(c.d));
}

static void visit(MoE &w, const Config &c, const std::string &at, const Visitor &f) {
    if (c.gate != Gate::hash) f(at + "e", w.e, {{c.N_r, c.d}, Group::router});
    if (c.has_selection_bias()) f(at + "b", w.b, {{c.N_r}, Group::bias, Init::zeros});
    f(at + "W_g", w.W_g, experts(c, c.d_e, c.d));
    f(at + "W_u", w.W_u, experts(c, c.d_e, c.d));
    f(at + "W_2", w.W_2, experts(c, c.d, c.d_e));
    if (c.N_s) visit(w.shared, c, c.N_s * c.d_e, at + "shared.", f);
}

static void visit(Block &w, const Config &c, int layer, const std::string &at, const Visitor &f) {
    f(at + "g_attn", w.g_attn, gain(c.d));
    if (c.attention == Attention::MLA) visit(w.mla, c, at + "mla.", f);
    else visit(w.mha, c, at + "mha.", f);
    f(at + "g_ffn", w.g_ffn, gain(c.d));
    if (c.has_experts(layer)) visit(w.moe, c, at + "moe.", f);
    else visit(w.ffn, c, c.d_ff, at + "ffn.", f);
}

void visit(Model &m, const Visitor &f) {
    const Config &c = m.c;
    m.blocks.resize(c.n_layers);
    m.mtp.resize(c.D);
    f("Emb", m.Emb, {{c.V, c.d}, Group::embedding});
    for (int l = 0; l < c.n_layers; l++) visit(m.blocks[l], c, l, cat("blocks.", l, "."), f);
    f("g", m.g, gain(c.d));
    if (c.scalar_head) f("value", m.head, {{1, c.d}, Group::head, Init::zeros});
    else if (!c.tied) f("head", m.head, {{c.V, c.d}, Group::head});
    for (int k = 0; k < c.D; k++) {
        const std::string at = cat("mtp.", k, ".");
        f(at + "g_h", m.mtp[k].g_h, gain(c.d));
        f(at + "g_e", m.mtp[k].g_e, gain(c.d));
        f(at + "M", m.mtp[k].M, matrix(c, c.d, 2 * c.d));
        visit(m.mtp[k].block, c, c.n_layers, at + "block.", f);
        f(at + "g_out", m.mtp[k].g_out, gain(c.d));
    }
}

Model outline(const Config &c) {
    Model m;
    m.c = c;
    visit(m, [](const std::string &, Tensor &w, const Spec &spec) { w.shape = spec.shape; });
    return m;
}

Model build(const Config &c) {
    Model m;
    m.c = c;
    visit(m, [](const std::string &name, Tensor &w, const Spec &spec) {
        static std::set<std::string> names;                               // a storage only points to its name
        const char *kept = names.insert(name).first->c_str();
        w = zeros(spec.shape, kept);
        w.s->precision = spec.precision;
        w.s->keeps = true;
        if (trained(spec.group)) parameter(w, kept);
    });
    return m;
}

Model initialised(const Config &c, uint64_t seed) {
    Model m = build(c);
    visit(m, [&](const std::string &name, Tensor &w, const Spec &spec) {
        if (spec.init == Init::zeros) return;
        std::vector<real> values(w.numel(), 1);
        const uint64_t stream = hash_of(name);      // its own: a component more leaves all others as they are
        for (size_t i = 0; spec.init == Init::normal && i < values.size(); i++)
            values[i] = (real)(c.init_std * normal(seed, stream, 0, i));
        assign(w, values);
    });
    return m;
}

static std::map<std::string, Tensor> by_name(Model &m) {
    std::map<std::string, Tensor> weights;
    visit(m, [&](const std::string &name, Tensor &w, const Spec &) { weights[name] = w; });
    return weights;
}

Model clone(Model &m) {
    Model copy = build(m.c);
    const auto from = by_name(m);
    visit(copy, [&](const std::string &name, Tensor &w, const Spec &) { copy_into(w, from.at(name)); });
    return copy;
}

Model sharing(Model &m, Precision linear) {
    Model other;
    other.c = m.c;
    other.c.linear = linear;
    const auto from = by_name(m);
    visit(other, [&](const std::string &name, Tensor &w, const Spec &spec) {
        w = detach(from.at(name));
        w.s->precision = spec.precision;
    });
    return other;
}

Adopted adopt(Model &m, Model &from) {
    auto known = by_name(from);
    Adopted result;
    visit(m, [&](const std::string &name, Tensor &w, const Spec &) {
        const auto at = known.find(name);
        if (at == known.end()) return result.fresh.push_back(name);
        expect(at->second.shape == w.shape, name, " is ", at->second.shape, " there and ", w.shape, " here");
        copy_into(w, at->second);
        known.erase(at);
        result.taken++;
    });
    for (const auto &rest : known) result.left_behind.push_back(rest.first);
    return result;
}

long freeze(Model &m, const std::vector<std::string> &patterns) {
    std::vector<bool> used(patterns.size(), false);
    long frozen = 0;
    visit(m, [&](const std::string &name, Tensor &w, const Spec &) {
        bool hit = false;
        for (size_t i = 0; i < patterns.size(); i++)
            if (fnmatch(patterns[i].c_str(), name.c_str(), 0) == 0) hit = used[i] = true;
        if (!hit) return;
        if (w.s->wants_grad) frozen += w.numel();
        constant(w);
    });
    for (size_t i = 0; i < patterns.size(); i++)
        if (!used[i])
            fail("--freeze " + patterns[i] + ": no weight has such a name",
                 "names are like blocks.0.mla.W_O; * stands for anything: blocks.0.*");
    return frozen;
}

// What decoding remembers: the latent and the rotary key (MLA), or keys and values.
Caches make_caches(const Config &c, int B, int T_max, int D) {
    const auto cache = [&](int n, int width) { return zeros({B, T_max, n, width}, "cache"); };
    const auto of_block = [&]() -> LayerCache {
        if (c.attention == Attention::MLA) return {.latent = cache(1, c.d_c + c.d_hR)};
        return {.k = cache(c.n_kv, c.d_h), .v = cache(c.n_kv, c.d_h)};
    };
    Caches caches;
    for (int l = 0; l < c.n_layers; l++) caches.layers.push_back(of_block());
    for (int k = 0; k < D; k++) caches.mtp.push_back(of_block());
    return caches;
}

Step causal(int B, int T) {
    std::vector<int> pos, keys;
    for (int i = 0; i < B * T; i++) {
        pos.push_back(i % T);
        keys.insert(keys.end(), {0, i % T});
    }
    return {.pos = from(pos, {B, T}, "pos"), .where = {from(keys, {B, T, 2}, "where")}};
}

Step causal(const Tensor &ids) {
    Step step = causal(ids.shape[0], ids.shape[1]);
    step.ids = ids;
    return step;
}

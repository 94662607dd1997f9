// deepseek.cpp: the models, in the order of the papers, and nothing else.
//
// Every line is an equation of a paper, in its letters, with its number at the end of the line. The
// functions call ops (src/tensor/ops.h); how an op computes, and its backward, is written in
// src/cpu/ops.cpp. Nothing here knows of devices, losses or optimisers. [code] marks what only the released
// code says, [ours] what we decided.
//
//   [1] the dense block: RMSNorm, RoPE, attention, SwiGLU      DeepSeek LLM (2401.02954) section 2.2
//   [2] Multi-head Latent Attention                            DeepSeek-V2 (2405.04434) section 2.1
//   [3] DeepSeekMoE, balance losses, loss-free balancing   MoE (2401.06066), V2 2.2, V3 (2412.19437) 2.1.2
//   [4] the model: blocks, trunk                               V3 section 2.1
//   [5] multi-token prediction                                 V3 section 2.2
#include "deepseek.h"

#include <cmath>

// [1] The dense block                                                                DeepSeek LLM section 2.2
//
// YaRN's temperature, V2 section 3.1.4: cos and sin are multiplied by m(s, mscale) / m(s, mscale_all_dim),
// and MLA's scores by m(s, mscale_all_dim)^2, where m(s, k) = 0.1 k ln s + 1.
static double yarn_m(double s, double k) { return s <= 1 ? 1 : 0.1 * k * std::log(s) + 1; }

static Rope rope_of(const Config &c, int dims) {
    Rope r = {0, dims, c.pairing, {c.theta, dims, c.scaling, c.factor, c.original, c.beta_fast, c.beta_slow}};
    if (c.scaling == rope_yarn && c.attention_factor > 0) r.amplitude = c.attention_factor;  // [code]
    else if (c.scaling == rope_yarn && c.mscale && c.mscale_all_dim)
        r.amplitude = yarn_m(c.factor, c.mscale) / yarn_m(c.factor, c.mscale_all_dim);  // [code]
    else if (c.scaling == rope_yarn) r.amplitude = yarn_m(c.factor, 1);              // [code]
    return r;
}

// A linear map; llama and Qwen2 may add a bias.
static Tensor linear(const Tensor &x, const Tensor &W, const Tensor &b) {
    return b ? affine(matmul(x, W), {}, b) : matmul(x, W);
}

// Multi-head attention; with n_kv < n_h, grouped-query attention: query head i uses key head
// floor(i n_kv / n_h).
// Shapes: h, u (B,T,d)   q (B,T,n_h,d_h)   k, v (B,T,n_kv,d_h), or the cache's (B,T_max,n_kv,d_h)
Tensor mha(const MHA &w, const Config &c, const Tensor &h, const Step &step, LayerCache *past) {
    const Rope R = rope_of(c, c.d_h);
    Tensor q = rope(heads(linear(h, w.W_Q, w.b_Q), c.n_h), step.pos, R);             // V2 (1)
    Tensor k = rope(heads(linear(h, w.W_K, w.b_K), c.n_kv), step.pos, R);            // V2 (2)    cached
    Tensor v = heads(linear(h, w.W_V, w.b_V), c.n_kv);                               // V2 (3)    cached
    if (past) {
        append(past->k, k, step.at);
        append(past->v, v, step.at);
        k = past->k;
        v = past->v;
    }
    Tensor o = attention(q, k, v, step.where, 1 / std::sqrt(c.d_h));                 // V2 (7)
    return linear(merge(o), w.W_O, w.b_O);                                           // V2 (8)
}

Tensor ffn(const FFN &w, const Tensor &u) {
    return linear(swiglu(linear(u, w.W_g, w.b_g), linear(u, w.W_u, w.b_u)), w.W_2, w.b_2);    // LLM 2.2
}

// [2] Multi-head Latent Attention                                       DeepSeek-V2 section 2.1, eq. (9)-(19)
//
// Keys and values of all heads are decompressed from one small latent c_KV, so a cache needs to
// hold only c_KV and one rotary key k_R per token: d_c + d_hR numbers instead of 2 n_h d_h. Without
// W_DQ queries are not compressed.
// Shapes: h, u (B,T,d)   c_KV (B,T,d_c)   q, k (B,T,n_h,d_h+d_hR)   v, o (B,T,n_h,d_v)

// The norms of the latents keep this eps, whatever rms_norm_eps says.                               [code]
constexpr double latent_eps = 1e-6;

// The temperature of the scores belongs to every scaling of rope, not to YaRN alone.                [code]
static double mla_scale(const Config &c) {
    const double m = c.scaling != rope_plain && c.mscale_all_dim ? yarn_m(c.factor, c.mscale_all_dim) : 1;
    return m * m / std::sqrt(c.d_h + c.d_hR);
}

Tensor mla(const MLA &w, const Config &c, const Tensor &h, const Step &step) {
    const Rope R = rope_of(c, c.d_hR);
    Tensor c_Q = w.W_DQ ? rmsnorm(matmul(h, w.W_DQ), w.g_q, latent_eps) : h;         // V2 (12)   norm: 3.1.2
    Tensor q_C = heads(matmul(c_Q, w.W_UQ), c.n_h);                                  // V2 (13)
    Tensor q_R = rope(heads(matmul(c_Q, w.W_QR), c.n_h), step.pos, R);               // V2 (14)

    Tensor c_KV = rmsnorm(matmul(h, w.W_DKV), w.g_kv, latent_eps);                   // V2 (9)    cached
    Tensor k_R = rope(heads(matmul(h, w.W_KR), 1), step.pos, R);                     // V2 (15)   cached
    Tensor k_C = heads(matmul(c_KV, w.W_UK), c.n_h);                                 // V2 (10)
    Tensor v_C = heads(matmul(c_KV, w.W_UV), c.n_h);                                 // V2 (11)

    Tensor q = concat(q_C, q_R);                                                     // V2 (16)
    Tensor k = concat(k_C, k_R);                                                     // V2 (17)   one k_R
    Tensor o = attention(q, k, v_C, step.where, mla_scale(c));                       // V2 (18)
    return matmul(merge(o), w.W_O);                                                  // V2 (19)
}

// The same function without ever building k_C or v_C ("absorption", V2 section 2.1.2):
//     q_C . k_C = q_C . (W_UK c_KV) = (W_UK^T q_C) . c_KV          sum_j p_j v_C = W_UV (sum_j p_j c_KV)
// so every head attends to the cached latents themselves: multi-query attention with a d_c-wide value.
Tensor mla_absorbed(const MLA &w, const Config &c, const Tensor &h, const Step &step, const Tensor &latent) {
    const Rope R = rope_of(c, c.d_hR);
    const Tensor W_UK = reshape(w.W_UK, {c.n_h, c.d_h, c.d_c}), W_UV = reshape(w.W_UV, {c.n_h, c.d_v, c.d_c});
    Tensor c_Q = w.W_DQ ? rmsnorm(matmul(h, w.W_DQ), w.g_q, latent_eps) : h;         // V2 (12)
    Tensor q_C = heads(matmul(c_Q, w.W_UQ), c.n_h);                                  // V2 (13)
    Tensor q_R = rope(heads(matmul(c_Q, w.W_QR), c.n_h), step.pos, R);               // V2 (14)
    Tensor c_KV = rmsnorm(matmul(h, w.W_DKV), w.g_kv, latent_eps);                   // V2 (9)
    Tensor k_R = rope(heads(matmul(h, w.W_KR), 1), step.pos, R);                     // V2 (15)

    append(latent, concat(heads(c_KV, 1), k_R), step.at);                            // d_c + d_hR a token
    Tensor q = concat(matmul_heads(q_C, W_UK, true), q_R);                           // V2 (10) absorbed
    Tensor o_c = attention(q, latent, First{c.d_c}, step.where, mla_scale(c));       // V2 (18) on latents
    return matmul(merge(matmul_heads(o_c, W_UV)), w.W_O);                            // V2 (11) and (19)
}

// [3] DeepSeekMoE      MoE (3)-(17), DeepSeek-V2 section 2.2 (20)-(31), DeepSeek-V3 section 2.1.2 (12)-(20)
//
// Each token goes through the shared experts and through its K_r best routed experts. Who is chosen: the best
// by s of all experts (MoE), of the M best devices' (V2), or by s plus a selection bias b that only chooses
// (V3: gates come from the unbiased s). GShard is K_r = 2 without shared experts, Switch K_r = 1; a hash
// layer has no gate. The chosen rows are sorted by expert, multiplied group by group, and gathered again.
// Shapes: u (B,T,d) = (N,d) rows   s (N,N_r)   idx, slot, g (N,K_r)   rows sorted by expert (N K_r, ...)
//
// The gate's gradient, put together from its ops. With y = sum_k g_k E_k(u), g_k = rho s_k / S, S the sum of
// the chosen s, and s = sigmoid(z):
//     combine          dg_k = <E_k(u), dy>
//     normalize_rows   ds_k = (rho dg_k - sum_j dg_j g_j) / S    an expert gains what it does better than
//     pick, sigmoid    dz_k = s_k (1 - s_k) ds_k                     the mean; who was not chosen, nothing
// With a softmax gate, not normalised, g_k = rho s_k, and its denominator reaches every expert:
//     pick, softmax    dz_i = s_i (ds_i - sum_j s_j ds_j)
static Tensor affinity(const MoE &w, const Config &c, const Tensor &u) {
    if (c.gate == Gate::hash) return {};
    Tensor z = matmul(u, w.e);
    return c.gate == Gate::sigmoid ? sigmoid(z) : softmax(z);                        // V3 (15)   MoE (5)
}

// Which experts: a token's own choice, or one that was recorded and is imposed.
static Tensor choice(const MoE &w, const Config &c, const Tensor &s, const Step &step) {
    if (step.imposed) return step.imposed->at(step.aux->routing.size());
    if (!s) return hash_route(step.ids, c.N_r, step.pos);                            // MoE 4.1.2
    return topk(s, w.b, {c.K_r, c.groups, c.M, c.group_best}, step.pos);             // V3 (16)   MoE (10)
}

static Tensor gates(const Config &c, const Tensor &s, const Tensor &idx) {
    if (!s) return {};                                                               // by hash: 1
    Tensor g_prime = pick(s, idx);                                                   // V3 (14)   MoE (10)
    return c.norm_gates ? normalize_rows(g_prime, c.rho, 1e-20) : times(g_prime, c.rho);        // V3 (13)
}

static Tensor routed(const MoE &w, const Tensor &u, const Dispatch &to, const Tensor &g) {
    Tensor x = gather_rows(u, to.token, to.slot);                                    // (N K_r,d)
    Tensor a = swiglu(matmul_grouped(x, w.W_g, to.offsets), matmul_grouped(x, w.W_u, to.offsets));
    return combine(matmul_grouped(a, w.W_2, to.offsets), to.slot, g);                // MoE (9)   routed
}

// Each is alpha sum_g f_g P_g over groups of experts, averaged over the sequences. The f_g are constants, so
// that it is linear in s'.
static void balance_losses(const Config &c, const Tensor &s, const Tensor &idx, const Step &step) {
    if (!s) return;
    const int T = step.pos.shape[1];
    const double share = step.aux->share;
    Tensor s_prime = c.gate == Gate::sigmoid ? normalize_rows(s, 1, 1e-20) : s;      // V3 (19)
    const auto add_loss = [&](const char *name, const Tensor &f) {
        step.aux->losses.push_back({name, weighted_sum(s_prime, f)});
    };
    if (c.alpha > 0) {
        const bool printed = c.counted == Counted::unbiased;                         // else [code]: selected
        Tensor chosen = printed ? topk(s, {}, {.K = c.K_r}, step.pos) : idx;         // V3 (18)
        const int rows = c.scope == Scope::batch ? idx.shape[0] : T;                 // V3 4.5.3
        add_loss("balance", balance(chosen, c.N_r, rows, c.alpha * share));          // V3 (17)   MoE (12)
    }
    if (c.alpha_dev > 0)
        add_loss("balance_dev", balance(idx, c.N_r, T, c.alpha_dev * share, c.groups));          // MoE (15)
    if (c.alpha_comm > 0)
        add_loss("balance_comm", balance(idx, c.N_r, T, c.alpha_comm * share, c.groups, c.M));   // V2 (29)
}

Tensor moe(const MoE &w, const Config &c, const Tensor &h, const Step &step) {
    Tensor u = reshape(h, {h.shape.rows(), c.d});
    Tensor s = affinity(w, c, u);
    Tensor idx = choice(w, c, s, step);
    Tensor g = gates(c, s, idx);
    const bool drops = c.capacity > 0 && step.exempt && s;                           // V2 2.2.4   in training
    Tensor kept = drops ? drop(s, idx, step.exempt, c.groups, c.capacity) : idx;
    Dispatch to = dispatch(kept, c.N_r);
    if (step.aux) {
        step.aux->routing.push_back({s, idx, drops ? dispatch(idx, c.N_r).counts : to.counts, to.counts});
        balance_losses(c, s, idx, step);
    }
    Tensor y = routed(w, u, to, g);
    if (c.N_s > 0) y = add(ffn(w.shared, u), y);                                     // MoE (9)   shared
    return reshape(y, h.shape);
}

// [4] The model
//
// A pre-norm residual block; the first n_dense layers keep a dense feed-forward network.
Tensor block(const Block &w, const Config &c, const Tensor &h, const Step &step, int layer,
             LayerCache *past) {
    Tensor x = rmsnorm(h, w.g_attn, c.eps);
    Tensor u = c.attention != Attention::MLA ? mha(w.mha, c, x, step, past)
               : past                        ? mla_absorbed(w.mla, c, x, step, past->latent)
                                             : mla(w.mla, c, x, step);
    u = add(h, u);
    Tensor y = rmsnorm(u, w.g_ffn, c.eps);
    return add(u, c.has_experts(layer) ? moe(w.moe, c, y, step) : ffn(w.ffn, y));    // V3 (12)   residual
}

Tensor trunk(const Model &m, const Step &step) {
    Tensor h = gather_rows(m.Emb, step.ids);
    for (int l = 0; l < m.c.n_layers; l++)
        h = block(m.blocks[l], m.c, h, step, l, step.past ? &step.past->layers[l] : nullptr);
    return rmsnorm(h, m.g, m.c.eps);
}

// [5] Multi-token prediction                                           DeepSeek-V3 section 2.2, eq. (21)-(25)
//
// Module k sees h^{k-1}_i and the embedding of token i+k, and predicts token i+k+1 with the model's own
// embedding and head. ids (B,T-k) are tokens 1+k .. T. h^0 is the trunk's output after its final norm
// [code]. The stored matrix takes the embedding first [code]; the paper prints the hidden state first, the
// same map with columns exchanged.
Tensor mtp(const MTP &w, const Model &m, const Tensor &h, const Step &step, LayerCache *past) {
    Tensor e = rmsnorm(gather_rows(m.Emb, step.ids), w.g_e, m.c.eps);
    Tensor h_prime = matmul(concat(e, rmsnorm(h, w.g_h, m.c.eps)), w.M);             // V3 (21)
    return block(w.block, m.c, h_prime, step, m.c.n_layers, past);                   // V3 (22)
}

// deepseek.h: the contract of the models. Read this first.
//
// One program holds the models of the DeepSeek papers. Its one idea is a tape of plain records:
//
//     model (deepseek.cpp)  --calls-->  op wrapper  --apply-->  device: cpu | cuda | checked
//                                                      |
//                                                    tape     backward() walks it in reverse
//
// A model is written once, one equation a line, in calls of ops. Here are a model's configuration, its
// weights and its layers. The ops it calls, with formulas and shapes, are in src/tensor/ops.h; tensors,
// calls and the tape beside it.
//
// What this is not: a framework. Tensors are contiguous; there is no broadcasting, no view but reshape, no
// operator overloading, no graph pass. Where an equation needs something new, a new op says so.
//
//   [1] configuration   [2] weights   [3] what a layer must know   [4] layers, models
#pragma once
#include "src/tensor/ops.h"

// ========================================================================================= [1] configuration

enum class Attention { MHA, GQA, MLA };
enum class Gate { softmax, sigmoid, hash };              // hash: no gate, an expert by the token's id
enum class Scope { sequence, batch };                    // within which tokens the load shall be even
enum class Counted { selected, unbiased };               // which top-K the expert-level loss counts

// The papers' symbols, with the released config.json's name beside them. One table in src/model/config.cpp
// parses, prints, validates and saves these fields. Presets are lists of fields: data/presets/*.preset.
struct Config {
    std::string name = "unnamed";
    Attention attention = Attention::MHA;
    int V = 258;                    // vocabulary                                    vocab_size
    int bos = -1;                   // begins a text, -1 = no token does             bos_token_id
    std::vector<int> eos;           // each ends one; documents end with the first   eos_token_id
    int context = 256;              // longest sequence                              max_position_embeddings
    int d = 128;                    // width of the residual stream                  hidden_size
    int n_layers = 4;               // blocks                                        num_hidden_layers
    int n_h = 4;                    // query heads                                   num_attention_heads
    int n_kv = 4;                   // key-value heads (MHA: n_h)                    num_key_value_heads
    int d_h = 32;                  // head width; MLA: of the content part          head_dim, qk_nope_head_dim
    int d_v = 32;                   // width of a value head                         v_head_dim
    int d_ff = 344;                 // width of the dense feed-forward network       intermediate_size
    bool tied = false;              // output head = embedding                       tie_word_embeddings
    bool scalar_head = false;       // in its place one number a token: a critic
    double eps = 1e-6;              // under RMSNorm's root                          rms_norm_eps
    double init_std = 0.02;         // of all matrices at the start                  initializer_range
    bool bias_qkv = false;          // W_Q, W_K, W_V add a bias (Qwen2)              attention_bias
    bool bias_o = false;            // W_O, too (llama)                              attention_bias
    bool bias_ffn = false;          // W_g, W_u, W_2 add one                         mlp_bias

    int d_c = 32;                   // MLA: latent of keys and values                kv_lora_rank
    int d_cq = 0;                   // MLA: latent of queries, 0 = none              q_lora_rank
    int d_hR = 16;                  // MLA: rotary part of a head                    qk_rope_head_dim

    RopePairing pairing = rope_half_split;   //                                      rope_interleave
    double theta = 10000;           // base of the rotary frequencies                rope_theta
    RopeScaling scaling = rope_plain;        //                                      rope_scaling.type
    double factor = 1;              // context extension s                           rope_scaling.factor
    double original = 4096;  // context before it                             original_max_position_embeddings
    double beta_fast = 32;          // turns: above, as it was                 beta_fast, high_freq_factor
    double beta_slow = 1;           // below, interpolated                     beta_slow, low_freq_factor
    double mscale = 0;              // YaRN's temperature, 0 = not given             mscale
    double mscale_all_dim = 0;      //                                               mscale_all_dim
    double attention_factor = 0;    // of cos and sin, 0 = not given                 attention_factor

    int N_r = 0;                    // routed experts, 0 = no mixture                n_routed_experts
    int N_s = 1;                    // shared experts                                n_shared_experts
    int K_r = 4;                    // routed experts a token uses                   num_experts_per_tok
    int d_e = 64;                   // width of an expert                            moe_intermediate_size
    int n_dense = 1;                // leading layers without experts                first_k_dense_replace
    int groups = 1;                 // of experts (nodes)                            n_group
    int M = 1;                      // groups a token may use                        topk_group
    int group_best = 2;             // best scores that make a group's score         (V2: 1, V3: 2 = K_r / M)
    Gate gate = Gate::sigmoid;      //                                               scoring_func
    bool norm_gates = true;         // gates of the chosen sum to rho                norm_topk_prob
    double rho = 1;                 // routed scaling                                routed_scaling_factor
    bool selection_bias = true;     // a bias helps to choose: loss-free balancing   topk_method: noaux_tc
    double gamma = 1e-3;            // its speed
    double alpha = 1e-4;            // weight of the expert-level balance loss
    Scope scope = Scope::sequence;  // of that loss
    double alpha_dev = 0;           // of the device-level loss: groups are devices
    double alpha_comm = 0;          // of the communication loss
    Counted counted = Counted::selected;
    double capacity = 0;            // of a device in training, in average loads; 0: no choice is dropped
    double exempt = 0.1;            // share of sequences that lose none

    int D = 0;                      // depth of multi-token prediction               num_nextn_predict_layers
    double lambda = 0.3;            // weight of its loss

    Precision linear = f32;         // of products with matrices: f32, bf16          (router, head: f32)

    bool has_experts(int layer) const { return N_r > 0 && layer >= n_dense; }
    bool has_selection_bias() const { return selection_bias && gate != Gate::hash; }
};

// ======================================================================================= [2] weights, models

struct MHA { Tensor W_Q, W_K, W_V, W_O, b_Q, b_K, b_V, b_O; };          // b: absent without a bias
struct MLA { Tensor W_DQ, g_q, W_UQ, W_QR, W_DKV, g_kv, W_KR, W_UK, W_UV, W_O; };    // d_cq = 0: no W_DQ, g_q
struct FFN { Tensor W_g, W_u, W_2, b_g, b_u, b_2; };      // (d_ff,d), (d_ff,d), (d,d_ff); b: as in MHA
struct MoE {
    Tensor e, b;                            // centroids (N_r,d), selection bias (N_r); absent when not used
    Tensor W_g, W_u, W_2;                                // (N_r,d_e,d), (N_r,d_e,d), (N_r,d,d_e)
    FFN shared;                                          // N_s experts are one of N_s times the width
};
struct Block {                                        // one attention, one feed-forward; the others are empty
    Tensor g_attn, g_ffn;
    MHA mha;
    MLA mla;
    FFN ffn;
    MoE moe;
};
struct MTP {
    Tensor g_h, g_e, M, g_out;
    Block block;
};

struct Model {
    Config c;
    Tensor Emb, g, head;                                 // (V,d), (d), (V,d); head is absent when tied
    std::vector<Block> blocks;
    std::vector<MTP> mtp;
    Model() = default;
    Model(Model &&) = default;                           // move-only: a reference must not follow the policy
    Model &operator=(Model &&) = default;
    const Tensor &output_head() const { return head ? head : Emb; }
};
// Rows of the past, (B,T_max,n,d) each. How many of them count says Step::where, not the cache.
struct LayerCache { Tensor latent = {}, k = {}, v = {}; };       // MLA: the latent; MHA, GQA: keys and values
struct Caches { std::vector<LayerCache> layers, mtp; };   // of the trunk's blocks, and of MTP modules

// ================================================================= [3] what a layer must know, and tells

struct Routing {                                         // of a router
    Tensor s, idx;                                       // scores (none by hash), choices
    Tensor counts, processed;                            // of each expert: its choices, and those not dropped
};
struct Term {                                            // a scalar of the loss
    std::string name;
    Tensor value;
};
struct Aux {                         // what layers report; who reads it decides what to do with it
    double share = 1;                                    // of the step's sequences that are in this batch
    std::vector<Term> losses = {};                       // "balance", ...: to be added to the loss
    std::vector<Routing> routing = {};                   // router by router, in the order of the layers
};
// Made once for a batch. A position of -1 is padding: it sees nothing, goes to no expert, counts in no mean.
struct Step {
    Tensor ids = {};                                     // (B,T)
    Tensor pos = {};                                     // (B,T)
    Where where = {};                                    // what each query sees
    Tensor at = {};                                      // decoding: rows of the cache to write
    Caches *past = nullptr;
    Aux *aux = nullptr;
    const std::vector<Tensor> *imposed = nullptr;  // choices of experts, router by router (aux counts them)
    Tensor exempt = {};              // (B,T), in training: 1 where no choice may be dropped
};

// ============================================================================ [4] layers, and the models

Tensor mha(const MHA &, const Config &, const Tensor &h, const Step &, LayerCache *past);
Tensor mla(const MLA &, const Config &, const Tensor &h, const Step &);
Tensor mla_absorbed(const MLA &, const Config &, const Tensor &h, const Step &, const Tensor &latent);
Tensor ffn(const FFN &, const Tensor &u);
Tensor moe(const MoE &, const Config &, const Tensor &u, const Step &);
Tensor block(const Block &, const Config &, const Tensor &h, const Step &, int layer,
             LayerCache *past = nullptr);
Tensor trunk(const Model &, const Step &);                           // -> (B,T,d), after the final norm
Tensor mtp(const MTP &, const Model &, const Tensor &h, const Step &,
           LayerCache *past = nullptr);                                                      // h^{k-1} -> h^k

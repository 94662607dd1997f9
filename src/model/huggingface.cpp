// formats.cpp: a model as a Hugging Face directory, config.json and model.safetensors, and back.
//
// Other programs read what is written here: the dense model is a `llama`, MLA with or without experts a
// `deepseek_v3`, with their keys, names and layouts. What neither can express (experts behind ordinary
// attention, a softmax gate, ...) is written in the same layout under model_type `deepseek_edu`, with all our
// fields, so that nobody else takes it for something that it is not.
//
// A directory that comes in is hostile until it has been checked: first config.json, then the size of all
// weights against the size of the files, then every name and shape, and only then is memory taken. An error
// names the key or the tensors. How JSON and safetensors are read is in files.h; here is what they mean.
//
//   [1] config.json, out   [2] config.json, in   [3] names and layouts   [4] save and load
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <set>

#include "src/base/json.h"
#include "src/base/safetensors.h"
#include "src/model/config.h"
#include "src/model/huggingface.h"
#include "src/model/weights.h"
#include "src/base/files.h"

// ------------------------------------------------------------------------------------- [1] config.json, out

// The sizes that have a key of their own.
struct Size {
    const char *key;
    int Config::*field;
    long lowest = 1;
};
const Size sizes_of_all[] = {{"vocab_size", &Config::V},
                             {"hidden_size", &Config::d},
                             {"intermediate_size", &Config::d_ff},
                             {"num_hidden_layers", &Config::n_layers},
                             {"num_attention_heads", &Config::n_h},
                             {"max_position_embeddings", &Config::context}};
const Size sizes_of_mla[] = {{"kv_lora_rank", &Config::d_c},
                             {"qk_nope_head_dim", &Config::d_h},
                             {"qk_rope_head_dim", &Config::d_hR},
                             {"v_head_dim", &Config::d_v}};
const Size sizes_of_experts[] = {{"n_routed_experts", &Config::N_r, 0},
                                 {"n_shared_experts", &Config::N_s, 0},
                                 {"num_experts_per_tok", &Config::K_r},
                                 {"moe_intermediate_size", &Config::d_e},
                                 {"first_k_dense_replace", &Config::n_dense, 0},
                                 {"n_group", &Config::groups},
                                 {"topk_group", &Config::M}};

template <size_t n> static void write_sizes(Json &json, const Size (&sizes)[n], const Config &c) {
    for (const Size &size : sizes) json[size.key] = c.*size.field;
}
template <size_t n> static void read_sizes(const JsonObject &json, const Size (&sizes)[n], Config &c) {
    constexpr long most = 1 << 30;                       // validate() knows the finer limits
    for (const Size &size : sizes) c.*size.field = (int)get_int(json, size.key, size.lowest, most);
}

// Can a program that knows only llama or deepseek_v3 compute this model? V3's gate is a sigmoid, a group's
// score is the sum of its best two, and rotary pairs of a llama are half-split.
static std::string model_type(const Config &c) {
    const bool mla = c.attention == Attention::MLA, groups_of_v3 = c.groups == 1 || c.group_best == 2;
    const bool gate_of_v3 = c.gate == Gate::sigmoid && groups_of_v3 && c.N_r >= 2 * c.groups;
    if (mla && (c.N_r == 0 || gate_of_v3)) return "deepseek_v3";
    return !mla && c.N_r == 0 && c.D == 0 && c.pairing == rope_half_split ? "llama" : "deepseek_edu";
}

// What the public keys cannot say. A deepseek_edu directory says everything here.
static bool is_own_field(const std::string &field, const std::string &type) {
    static const std::set<std::string> own = {"name", "alpha", "counted", "gamma", "lambda"};
    return type == "deepseek_edu" || own.count(field);
}

static Json rope_scaling(const Config &c) {
    if (c.scaling == rope_plain) return nullptr;
    const char *type = c.scaling == rope_linear ? "linear" : "yarn";
    Json json = {{"type", type}, {"rope_type", type}, {"factor", c.factor}};
    if (c.scaling == rope_linear) return json;
    json["original_max_position_embeddings"] = (long)c.original;
    json["beta_fast"] = c.beta_fast;
    json["beta_slow"] = c.beta_slow;
    if (c.mscale) json["mscale"] = c.mscale;
    if (c.mscale_all_dim) json["mscale_all_dim"] = c.mscale_all_dim;
    if (c.attention_factor) json["attention_factor"] = c.attention_factor;
    return json;
}

static void write_attention(Json &json, const Config &c) {
    json["num_key_value_heads"] = c.attention == Attention::MLA ? c.n_h : c.n_kv;
    json["attention_bias"] = false;
    json["attention_dropout"] = 0.0;
    if (c.attention != Attention::MLA) return void(json["head_dim"] = c.d_h);
    json["q_lora_rank"] = c.d_cq ? Json(c.d_cq) : Json(nullptr);
    write_sizes(json, sizes_of_mla, c);
    json["rope_interleave"] = c.pairing == rope_interleaved;
}

static void write_experts(Json &json, const Config &c) {
    write_sizes(json, sizes_of_experts, c);
    if (c.N_r == 0) json["first_k_dense_replace"] = c.n_layers;
    json["moe_layer_freq"] = 1;
    json["topk_method"] = "noaux_tc";
    json["scoring_func"] = c.gate == Gate::sigmoid ? "sigmoid" : "softmax";
    json["norm_topk_prob"] = c.norm_gates;
    json["routed_scaling_factor"] = c.rho;
    json["num_nextn_predict_layers"] = c.D;
}

// Sizes are JSON integers and factors JSON reals (1.0, never 1): transformers checks it.
static Json config_json(const Config &c) {
    const std::string type = model_type(c), dtype = sizeof(real) == 4 ? "float32" : "float64";
    const char *name = type == "llama" ? "Llama" : type == "deepseek_v3" ? "DeepseekV3" : "DeepseekEdu";
    Json json = {{"model_type", type}, {"torch_dtype", dtype}};
    json["architectures"] = Json::array({cat(name, "ForCausalLM")});
    write_sizes(json, sizes_of_all, c);
    write_attention(json, c);
    if (type != "llama") write_experts(json, c);
    else json["mlp_bias"] = false;
    json["hidden_act"] = "silu";
    json["rms_norm_eps"] = c.eps;
    json["rope_theta"] = c.theta;
    json["rope_scaling"] = rope_scaling(c);
    json["initializer_range"] = c.init_std;
    json["tie_word_embeddings"] = c.tied;
    json["bos_token_id"] = c.bos < 0 ? Json(nullptr) : Json(c.bos);
    json["eos_token_id"] = c.eos < 0 ? Json(nullptr) : Json(c.eos);
    json["use_cache"] = true;
    for (const Field &field : config_fields())
        if (is_own_field(field.name, type)) json["deepseek"][field.name] = field.get(c);
    return json;
}

// -------------------------------------------------------------------------------------- [2] config.json, in

// Errors of others get the file's name in front.
template <class Action> static void naming(const std::string &file, Action action) {
    try {
        action();
    } catch (const Error &e) {
        fail(file + ": " + e.what(), e.hint);
    }
}

static void read_own_fields(const JsonObject &json, Config &c, const std::string &type) {
    if (!given(json, "deepseek") && type != "deepseek_edu") return;
    const JsonObject own = get_object(json, "deepseek");
    for (const auto &item : own.json.items()) {
        const std::string &key = item.key();
        expect(item.value().is_string(), own.name, ": '", key, "' is not a string");
        expect(is_own_field(key, type), own.name, ": '", key, "' does not belong here");
        naming(own.name, [&] { set_field(c, key + "=" + item.value().get<std::string>()); });
    }
}

static void read_scaling(const JsonObject &scaling, Config &c) {
    std::string type = "default";
    for (const char *key : {"type", "rope_type"})
        if (given(scaling, key)) type = get_string(scaling, key);
    if (given(scaling, "rope_theta")) c.theta = get_real(scaling, "rope_theta", 1, 1e12);
    if (given(scaling, "partial_rotary_factor"))
        expect(get_real(scaling, "partial_rotary_factor", 0, 1) == 1, scaling.name,
               ": partial_rotary_factor: only whole heads are turned here");
    if (type == "default") return;
    expect(type == "linear" || type == "yarn", scaling.name, ": rope_type '", type, "' is not supported");
    c.scaling = type == "linear" ? rope_linear : rope_yarn;
    c.factor = get_real(scaling, "factor", 1e-3, 1e6);
    if (type == "linear") return;
    const auto optional = [&](const char *key, double otherwise) {
        const double x = given(scaling, key) ? get_real(scaling, key, 0, 1e9) : 0;
        return x ? x : otherwise;                        // 0 is "not given" to transformers, too
    };
    c.original = optional("original_max_position_embeddings", c.context);
    c.beta_fast = optional("beta_fast", 32);
    c.beta_slow = optional("beta_slow", 1);
    c.mscale = optional("mscale", 0);
    c.mscale_all_dim = optional("mscale_all_dim", 0);
    c.attention_factor = optional("attention_factor", 0);
    expect(get_bool(scaling, "truncate", true), scaling.name, ": truncate: only true is supported");
}

// Newer programs write one object rope_parameters; an old rope_scaling beside it wins, as in transformers.
static void read_rope(const JsonObject &json, Config &c) {
    if (given(json, "rope_theta")) c.theta = get_real(json, "rope_theta", 1, 1e12);
    for (const char *key : {"rope_scaling", "rope_parameters"})
        if (given(json, key)) return read_scaling(get_object(json, key), c);
}

static void read_ordinary_attention(const JsonObject &json, Config &c) {
    c.n_kv = given(json, "num_key_value_heads") ? (int)get_int(json, "num_key_value_heads", 1, c.n_h) : c.n_h;
    c.attention = c.n_kv == c.n_h ? Attention::MHA : Attention::GQA;
    expect(given(json, "head_dim") || c.d % c.n_h == 0, json.name, ": hidden_size is no multiple of ", c.n_h,
           " heads, and there is no head_dim");
    c.d_h = given(json, "head_dim") ? (int)get_int(json, "head_dim", 1, 1 << 14) : c.d / c.n_h;
    c.pairing = rope_half_split;
}

static void read_mla(const JsonObject &json, Config &c) {
    c.attention = Attention::MLA;
    expect(json.json.contains("q_lora_rank"), json.name, ": 'q_lora_rank' is missing (null: no compression)");
    c.d_cq = given(json, "q_lora_rank") ? (int)get_int(json, "q_lora_rank", 0, 1 << 17) : 0;
    read_sizes(json, sizes_of_mla, c);
    c.n_kv = c.n_h;
    if (given(json, "num_key_value_heads")) get_int(json, "num_key_value_heads", c.n_h, c.n_h);
    const bool null = json.json.contains("rope_interleave") && !given(json, "rope_interleave");
    c.pairing = !null && get_bool(json, "rope_interleave", true) ? rope_interleaved : rope_half_split;
}

static void read_experts(const JsonObject &json, Config &c) {
    read_sizes(json, sizes_of_experts, c);
    c.norm_gates = get_bool(json, "norm_topk_prob");
    c.rho = get_real(json, "routed_scaling_factor", 1e-6, 1e6);
    c.gate = Gate::sigmoid;
    c.group_best = 2;
    c.D = (int)get_int(json, "num_nextn_predict_layers", 0, 64, 0);
    const auto is = [&](const char *key, const char *value) { return get_string(json, key, value) == value; };
    expect(is("scoring_func", "sigmoid"), json.name, ": scoring_func: the gate of deepseek_v3 is a sigmoid");
    expect(is("topk_method", "noaux_tc"), json.name, ": topk_method: the one of deepseek_v3 is noaux_tc");
}

static void refuse_unknown_parts(const JsonObject &json) {
    for (const char *key : {"attention_bias", "mlp_bias"})
        expect(!get_bool(json, key, false), json.name, ": ", key, ": linear maps have no bias here");
    expect(get_string(json, "hidden_act", "silu") == "silu", json.name, ": hidden_act: only silu is known");
    expect(!given(json, "quantization_config"), json.name, ": quantization_config: cannot be read");
}

// Of several tokens that end a text, the first. One beyond the vocabulary, which some have, is none.
static int token_id(const JsonObject &json, const char *key, int V) {
    if (!given(json, key)) return -1;
    const Json &value = json.json.at(key), &id = value.is_array() && !value.empty() ? value.front() : value;
    return id.is_number_unsigned() && id.get<uint64_t>() < (uint64_t)V ? (int)id.get<uint64_t>() : -1;
}

static Config parse_config(const JsonObject &json) {
    const std::string type = get_string(json, "model_type");
    Config c;
    read_own_fields(json, c, type);
    if (type == "deepseek_edu") return c;
    if (type != "llama" && type != "deepseek_v3")
        fail(json.name + ": unknown model_type '" + type + "'", "known: llama, deepseek_v3, deepseek_edu");
    refuse_unknown_parts(json);
    read_sizes(json, sizes_of_all, c);
    c.bos = token_id(json, "bos_token_id", c.V);
    c.eos = token_id(json, "eos_token_id", c.V);
    c.eps = get_real(json, "rms_norm_eps", 0, 1, 1e-6);
    c.init_std = get_real(json, "initializer_range", 0, 100, 0.02);
    c.tied = get_bool(json, "tie_word_embeddings", false);
    if (type == "llama") read_ordinary_attention(json, c);
    else read_mla(json, c);
    if (type != "llama") read_experts(json, c);
    read_rope(json, c);
    return c;
}

Config load_config(const std::string &directory) {
    const std::string path = directory + "/config.json";
    const Json json = parse_json(read_text(path, 1 << 20), path);
    const JsonObject object(json, path);
    Config c = parse_config(object);
    naming(path, [&] { validate(c); });
    return c;
}

// ------------------------------------------------------------------------------------ [3] names and layouts
using Names = std::vector<NamedTensor>;

static void add(Names &list, const std::string &name, const Tensor &w) {
    list.push_back({name, w.shape, {{w, 0, 0, w.shape.rows()}}});
}

// n times: the next rows of a, then the next rows of b.
static void add_in_turns(Names &list, const std::string &name, const Tensor &a, const Tensor &b, int n,
                         const Shape &shape) {
    const long rows_a = a.shape.rows() / n, rows_b = b.shape.rows() / n, both = rows_a + rows_b;
    NamedTensor whole = {name, shape, {}};
    for (long i = 0; i < n; i++) {
        whole.pieces.push_back({a, i * rows_a, i * both, rows_a});
        whole.pieces.push_back({b, i * rows_b, i * both + rows_a, rows_b});
    }
    list.push_back(whole);
}

static void add_mha(Names &list, const MHA &w, const std::string &at) {
    add(list, at + "q_proj.weight", w.W_Q);
    add(list, at + "k_proj.weight", w.W_K);
    add(list, at + "v_proj.weight", w.W_V);
    add(list, at + "o_proj.weight", w.W_O);
}

// Per head: the rows of W_UQ, then those of W_QR; the rows of W_UK, then those of W_UV.
static void add_mla(Names &list, const MLA &w, const Config &c, const std::string &at) {
    const Shape q = {c.n_h * (c.d_h + c.d_hR), w.W_UQ.shape.width()}, kv = {c.n_h * (c.d_h + c.d_v), c.d_c};
    if (c.d_cq) {
        add(list, at + "q_a_proj.weight", w.W_DQ);
        add(list, at + "q_a_layernorm.weight", w.g_q);
    }
    add_in_turns(list, at + (c.d_cq ? "q_b_proj.weight" : "q_proj.weight"), w.W_UQ, w.W_QR, c.n_h, q);
    add_in_turns(list, at + "kv_a_proj_with_mqa.weight", w.W_DKV, w.W_KR, 1, {c.d_c + c.d_hR, c.d});
    add(list, at + "kv_a_layernorm.weight", w.g_kv);
    add_in_turns(list, at + "kv_b_proj.weight", w.W_UK, w.W_UV, c.n_h, kv);
    add(list, at + "o_proj.weight", w.W_O);
}

static void add_ffn(Names &list, const FFN &w, const std::string &at) {
    add(list, at + "gate_proj.weight", w.W_g);
    add(list, at + "up_proj.weight", w.W_u);
    add(list, at + "down_proj.weight", w.W_2);
}

static void add_expert(Names &list, const std::string &name, const Tensor &w, long i) {
    const long rows = w.shape[1];
    list.push_back({name, {rows, w.shape[2]}, {{w, i * rows, 0, rows}}});
}

// Experts are stored one by one, or (fused, as transformers holds them in memory) all in two tensors. Without
// shared experts transformers still has their three matrices, of width zero.
static void add_moe(Names &list, const MoE &w, const Config &c, const std::string &at, bool fused) {
    add(list, at + "gate.weight", w.e);
    add(list, at + "gate.e_score_correction_bias", w.b);
    if (fused) {
        add_in_turns(list, at + "experts.gate_up_proj", w.W_g, w.W_u, c.N_r, {c.N_r, 2l * c.d_e, c.d});
        add(list, at + "experts.down_proj", w.W_2);
    }
    for (int i = 0; i < c.N_r && !fused; i++) {
        const std::string expert = cat(at, "experts.", i, ".");
        add_expert(list, expert + "gate_proj.weight", w.W_g, i);
        add_expert(list, expert + "up_proj.weight", w.W_u, i);
        add_expert(list, expert + "down_proj.weight", w.W_2, i);
    }
    if (c.N_s) return add_ffn(list, w.shared, at + "shared_experts.");
    list.push_back({at + "shared_experts.gate_proj.weight", {0, c.d}, {}});
    list.push_back({at + "shared_experts.up_proj.weight", {0, c.d}, {}});
    list.push_back({at + "shared_experts.down_proj.weight", {c.d, 0}, {}});
}

static void add_block(Names &list, const Block &w, const Config &c, int layer, int number, bool fused) {
    const std::string at = cat("model.layers.", number, ".");
    add(list, at + "input_layernorm.weight", w.g_attn);
    if (c.attention == Attention::MLA) add_mla(list, w.mla, c, at + "self_attn.");
    else add_mha(list, w.mha, at + "self_attn.");
    add(list, at + "post_attention_layernorm.weight", w.g_ffn);
    if (c.has_experts(layer)) add_moe(list, w.moe, c, at + "mlp.", fused);
    else add_ffn(list, w.ffn, at + "mlp.");
}

// MTP modules are numbered on after the layers, and hold copies of the embedding and the output head. The
// stored matrix takes the embedding first, as ours does. Every module's block is built like layer n_layers.
static Names names_of(const Model &m, bool fused) {
    const Config &c = m.c;
    const Tensor &head = c.tied ? m.Emb : m.head;
    Names list;
    add(list, "model.embed_tokens.weight", m.Emb);
    for (int l = 0; l < c.n_layers; l++) add_block(list, m.blocks[l], c, l, l, fused);
    add(list, "model.norm.weight", m.g);
    if (!c.tied) add(list, "lm_head.weight", m.head);
    for (int k = 0; k < c.D; k++) {
        const MTP &w = m.mtp[k];
        const std::string at = cat("model.layers.", c.n_layers + k, ".");
        add(list, at + "embed_tokens.weight", m.Emb);
        add(list, at + "enorm.weight", w.g_e);
        add(list, at + "hnorm.weight", w.g_h);
        add(list, at + "eh_proj.weight", w.M);
        add_block(list, w.block, c, c.n_layers, c.n_layers + k, fused);
        add(list, at + "shared_head.norm.weight", w.g_out);
        add(list, at + "shared_head.head.weight", head);
    }
    return list;
}

Names released_names(Model &m) { return names_of(m, false); }

// ------------------------------------------------------------------------------------------- [4] save, load

static std::vector<real> gathered(const NamedTensor &tensor) {
    std::vector<real> values(tensor.shape.numel());
    for (const auto &[ours, from_row, to_row, rows] : tensor.pieces) {
        const long width = ours.shape.width();
        const real *data = (const real *)ours.s->data + from_row * width;
        ours.s->home->down(values.data() + to_row * width, data, rows * width * sizeof(real));
    }
    return values;
}

static void scatter(const std::vector<real> &values, const NamedTensor &tensor) {
    for (const auto &[ours, from_row, to_row, rows] : tensor.pieces) {
        const long width = ours.shape.width();
        real *data = (real *)ours.s->data + from_row * width;
        ours.s->home->up(data, values.data() + to_row * width, rows * width * sizeof(real));
    }
}

void save_model(Model &m, const std::string &directory) {
    std::error_code e;
    std::filesystem::create_directories(directory, e);
    expect(std::filesystem::is_directory(directory), directory, ": cannot make it: ", e.message());
    std::vector<std::vector<real>> kept;                 // what the file is made of, until it is written
    std::vector<TensorOut> out;
    for (const NamedTensor &tensor : released_names(m)) {
        kept.push_back(gathered(tensor));
        const std::vector<long> shape(tensor.shape.d, tensor.shape.d + tensor.shape.rank);
        out.push_back({tensor.name, sizeof(real) == 4 ? "F32" : "F64", shape, kept.back().data()});
    }
    write_safetensors(directory + "/model.safetensors", out);
    write_atomically(directory + "/config.json", dump_json(config_json(m.c)) + "\n");
}

// Weights that must be there once may stand there again: then they must be equal.
static bool is_copy(const std::string &name, const Config &c) {
    return (c.tied && name == "lm_head.weight") ||
           (name.starts_with("model.layers.") &&
            (name.ends_with(".embed_tokens.weight") || name.ends_with(".shared_head.head.weight")));
}

// All names that its files may have.
static Names wanted_of(const Model &m, bool fused) {
    Names wanted = names_of(m, fused);
    if (m.c.tied) add(wanted, "lm_head.weight", m.Emb);
    return wanted;
}

static std::string without_prefix(const std::string &name) {
    return name.starts_with("model.") ? name.substr(6) : name;
}

static bool any_in_layer(const ModelFiles &files, int layer) {
    const std::string at = cat("layers.", layer, ".");
    const auto in_layer = [&](const auto &tensor) { return without_prefix(tensor.first).starts_with(at); };
    return std::any_of(files.tensors.begin(), files.tensors.end(), in_layer);
}

// Before the list of names is made: a config.json that asks for far more than the files hold. Twice as many
// weights as there is room for at 16 bits are let through, so that what is missing can be named.
static void expect_enough(Model &outline, const ModelFiles &files, const std::string &from) {
    double weights = 0, bytes = 0;
    for (const auto &[name, entry] : files.tensors) bytes += (double)entry.bytes;
    visit(outline, [&](auto &, Tensor &, const Spec &spec) { weights += (double)spec.shape.numel(); });
    expect(weights <= bytes, from, ": config.json asks for ", weights, " weights, and has ", bytes, " bytes");
}

struct Complaint {                                       // "2 tensors are missing: a, b"
    std::string what, names;
    int n = 0;
    void add(const std::string &name) {
        if (n++ < 50) names += (n > 1 ? ", " : "") + name;
    }
    std::string told() const {
        if (n == 0) return "";
        const std::string more = n > 50 ? cat(" and ", n - 50, " more") : "";
        return cat("; ", n, n > 1 ? " tensors " : " tensor ", what, ": ", names, more);
    }
};

using Found = std::map<std::string, const TensorEntry *>;

// Every tensor that is wanted, under its name with or without `model.`; refuses what is missing,
// unexpected or has another shape.
static Found find_all(const Names &wanted, const Config &c, const ModelFiles &files, const std::string &in) {
    Complaint missing{"missing", ""}, unexpected{"not expected", ""}, misshapen{"of another shape", ""};
    Found found;
    std::map<const TensorEntry *, bool> used;
    for (const NamedTensor &tensor : wanted) {
        auto at = files.tensors.find(tensor.name);
        if (at == files.tensors.end()) at = files.tensors.find(without_prefix(tensor.name));
        if (at == files.tensors.end()) {
            if (!is_copy(tensor.name, c) && tensor.shape.numel()) missing.add(tensor.name);
            continue;
        }
        used[&at->second] = true;
        const std::vector<long> &stored = at->second.shape;
        if (stored != std::vector<long>(tensor.shape.d, tensor.shape.d + tensor.shape.rank)) {
            std::string text;
            for (long n : stored) text += cat(text.empty() ? "" : ",", n);
            misshapen.add(cat(tensor.name, " (", text, ") instead of ", str(tensor.shape)));
        }
        found[tensor.name] = &at->second;
    }
    for (const auto &[name, entry] : files.tensors)
        if (!used.count(&entry) && !name.ends_with("rotary_emb.inv_freq")) unexpected.add(name);
    const std::string told = missing.told() + misshapen.told() + unexpected.told();
    expect(told.empty(), in, ": the weights do not fit config.json: ", told.substr(2));
    return found;
}

static std::vector<real> finite_values(const TensorEntry &entry) {
    std::vector<real> values(entry.numel());
    read_reals(entry, values.data());
    for (real x : values) expect(std::isfinite(x), entry.where, " holds an infinity or what is no number");
    return values;
}

Model load_model(const std::string &directory) {
    Config c = load_config(directory);
    const ModelFiles files = read_model_files(directory);
    if (c.D && !any_in_layer(files, c.n_layers)) c.D = 0;    // transformers announces modules that it drops
    bool fused = false;
    for (const auto &[name, entry] : files.tensors) fused |= name.ends_with("mlp.experts.gate_up_proj");
    Model shapes = outline(c);
    expect_enough(shapes, files, directory);
    const Found found = find_all(wanted_of(shapes, fused), c, files, directory);
    Model m = build(c);
    const Names wanted = wanted_of(m, fused);
    for (bool copies : {false, true})
        for (const NamedTensor &tensor : wanted) {
            const auto at = found.find(tensor.name);
            if (at == found.end() || is_copy(tensor.name, c) != copies) continue;
            const std::vector<real> values = finite_values(*at->second);
            if (!copies) scatter(values, tensor);
            else expect(values == gathered(tensor), at->second->where, " is not the copy that it should be");
        }
    return m;
}

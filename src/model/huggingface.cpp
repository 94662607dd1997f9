// huggingface.cpp: a model as a Hugging Face directory, config.json and model.safetensors, and back.
//
// Other programs read what is written here: the dense model is a `llama` (or, with biases on queries, keys
// and values alone, a `qwen2`), MLA with or without experts a `deepseek_v3` or, with a softmax gate and no
// selection bias, a `deepseek_v2`, with their keys, names and layouts. What none of them can express (experts
// behind ordinary attention, MTP behind a softmax gate, ...) is written in the same layout under model_type
// `deepseek_edu`, with all our fields, so that nobody else takes it for something that it is not. What would
// be lost is refused by name: expect_savable walks weights and fields.
//
// A directory that comes in is hostile until it has been checked: first config.json, then the size of all
// weights against the size of the files, then every name and shape, and only then is memory taken. An error
// names the key or the tensors. How JSON and safetensors are read is in src/base; here is what they mean.
//
//   [1] config.json, out   [2] config.json, in   [3] what would be lost   [4] names and layouts
//   [5] save and load
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>
#include <map>
#include <set>

#include "src/base/json.h"
#include "src/base/safetensors.h"
#include "src/model/config.h"
#include "src/model/huggingface.h"
#include "src/model/weights.h"
#include "src/base/files.h"
#include "src/base/utf8.h"

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
                             {"num_attention_heads", &Config::n_h}};
const Size sizes_of_mla[] = {{"kv_lora_rank", &Config::d_c},
                             {"qk_nope_head_dim", &Config::d_h},
                             {"qk_rope_head_dim", &Config::d_hR},
                             {"v_head_dim", &Config::d_v}};
const Size sizes_of_experts[] = {{"n_routed_experts", &Config::N_r, 0},
                                 {"num_experts_per_tok", &Config::K_r},
                                 {"moe_intermediate_size", &Config::d_e}};

template <size_t n> static void write_sizes(Json &json, const Size (&sizes)[n], const Config &c) {
    for (const Size &size : sizes) json[size.key] = c.*size.field;
}
template <size_t n> static void read_sizes(const JsonObject &json, const Size (&sizes)[n], Config &c) {
    constexpr long most = 1 << 30;                       // validate() knows the finer limits
    for (const Size &size : sizes) c.*size.field = (int)get_int(json, size.key, size.lowest, most);
}

// What the public keys cannot say. A deepseek_edu directory says everything here.
static bool is_own_field(const std::string &field, const std::string &type) {
    static const std::set<std::string> own = {"name",  "alpha",   "alpha_dev", "alpha_comm",
                                              "scope", "counted", "capacity",  "exempt",
                                              "gamma", "lambda",  "linear"};
    return type == "deepseek_edu" || own.count(field);
}

constexpr const char *scaling_names[] = {"default", "linear", "yarn", "llama3"};      // by RopeScaling

static Json rope_scaling(const Config &c) {
    if (c.scaling == rope_plain) return nullptr;
    const char *type = scaling_names[c.scaling];
    const bool llama3 = c.scaling == rope_llama3;
    Json json = {{"type", type}, {"rope_type", type}, {"factor", c.factor}};
    if (c.scaling != rope_linear) {
        json["original_max_position_embeddings"] = (long)c.original;
        json[llama3 ? "high_freq_factor" : "beta_fast"] = c.beta_fast;
        json[llama3 ? "low_freq_factor" : "beta_slow"] = c.beta_slow;
    }
    if (c.mscale) json["mscale"] = c.mscale;
    if (c.mscale_all_dim) json["mscale_all_dim"] = c.mscale_all_dim;
    if (c.attention_factor) json["attention_factor"] = c.attention_factor;
    return json;
}

static void write_attention(Json &json, const Config &c) {
    json["num_key_value_heads"] = c.attention == Attention::MLA ? c.n_h : c.n_kv;
    json["attention_bias"] = c.bias_o;
    json["attention_dropout"] = 0.0;
    if (c.attention != Attention::MLA) return void(json["head_dim"] = c.d_h);
    json["q_lora_rank"] = c.d_cq ? Json(c.d_cq) : Json(nullptr);
    write_sizes(json, sizes_of_mla, c);
    json["rope_interleave"] = c.pairing == rope_interleaved;
}

static void write_experts(Json &json, const Config &c, const std::string &type) {
    const bool v2 = type == "deepseek_v2";
    write_sizes(json, sizes_of_experts, c);
    json["n_shared_experts"] = c.N_s;
    json["first_k_dense_replace"] = c.N_r ? c.n_dense : c.n_layers;
    json["n_group"] = c.groups;
    json["topk_group"] = c.M;
    json["moe_layer_freq"] = 1;
    json["topk_method"] = !v2 ? "noaux_tc" : c.groups == 1 ? "greedy" : "group_limited_greedy";
    json["scoring_func"] = c.gate == Gate::sigmoid ? "sigmoid" : "softmax";
    json["norm_topk_prob"] = c.norm_gates;
    json["routed_scaling_factor"] = c.rho;
    json["num_nextn_predict_layers"] = c.D;
}

static Json one_or_list(const std::vector<int> &ids) {
    return ids.empty() ? Json(nullptr) : ids.size() == 1 ? Json(ids[0]) : Json(ids);
}

static const std::map<std::string, std::string> class_names = {{"llama", "Llama"},
                                                               {"qwen2", "Qwen2"},
                                                               {"deepseek_v2", "DeepseekV2"},
                                                               {"deepseek_v3", "DeepseekV3"},
                                                               {"deepseek_edu", "DeepseekEdu"}};

// Sizes are JSON integers and factors JSON reals (1.0, never 1): transformers checks it.
static Json config_json(const Config &c, const std::string &type, const std::string &dtype) {
    const bool dense = type == "llama" || type == "qwen2";
    Json json = {{"model_type", type}, {"torch_dtype", dtype}};
    json["architectures"] = Json::array({class_names.at(type) + "ForCausalLM"});
    write_sizes(json, sizes_of_all, c);
    json["max_position_embeddings"] = c.context;
    write_attention(json, c);
    if (!dense) write_experts(json, c, type);
    if (type == "llama") json["mlp_bias"] = c.bias_ffn;
    if (type == "qwen2") json.erase("attention_bias"), json["use_sliding_window"] = false;
    json["hidden_act"] = "silu";
    json["rms_norm_eps"] = c.eps;
    json["rope_theta"] = c.theta;
    json["rope_scaling"] = rope_scaling(c);
    json["initializer_range"] = c.init_std;
    json["tie_word_embeddings"] = c.tied;
    json["bos_token_id"] = c.bos < 0 ? Json(nullptr) : Json(c.bos);
    json["eos_token_id"] = one_or_list(c.eos);
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

// What a config.json says: the configuration, and what in it cannot be computed here. A census does not mind.
struct Reading {
    Config c;
    std::vector<std::string> cannot;
    template <class... Parts> void demand(bool known, const Parts &...parts) {
        if (!known) cannot.push_back(cat(parts...));
    }
};

static void read_scaling(const JsonObject &scaling, Reading &read) {
    Config &c = read.c;
    std::string type = "default";
    for (const char *key : {"type", "rope_type"})
        if (given(scaling, key)) type = get_string(scaling, key);
    if (given(scaling, "rope_theta")) c.theta = get_real(scaling, "rope_theta", 1, 1e12);
    const double turned =
        given(scaling, "partial_rotary_factor") ? get_real(scaling, "partial_rotary_factor", 0, 1) : 1;
    read.demand(turned == 1, scaling.name, ": partial_rotary_factor: only whole heads are turned here");
    if (type == "default") return;
    const auto at = std::find(std::begin(scaling_names), std::end(scaling_names), type);
    if (at == std::end(scaling_names))
        return read.demand(false, scaling.name, ": rope_type '", type, "' is not supported");
    c.scaling = (RopeScaling)(at - scaling_names);
    c.factor = get_real(scaling, "factor", 1e-3, 1e6);
    const auto optional = [&](const char *key, double otherwise) {
        const double x = given(scaling, key) ? get_real(scaling, key, 0, 1e9) : 0;
        return x ? x : otherwise;                        // 0 is "not given" to transformers, too
    };
    c.mscale = optional("mscale", 0);
    c.mscale_all_dim = optional("mscale_all_dim", 0);
    if (c.scaling == rope_linear) return;
    c.original = optional("original_max_position_embeddings", c.context);
    if (c.scaling == rope_llama3) {
        c.beta_fast = get_real(scaling, "high_freq_factor", 1e-6, 1e9);
        c.beta_slow = get_real(scaling, "low_freq_factor", 1e-6, 1e9);
        return;
    }
    c.beta_fast = optional("beta_fast", 32);
    c.beta_slow = optional("beta_slow", 1);
    c.attention_factor = optional("attention_factor", 0);
    read.demand(get_bool(scaling, "truncate", true), scaling.name, ": truncate: only true is supported");
}

// Newer programs write one object rope_parameters; an old rope_scaling beside it wins, as in transformers.
static void read_rope(const JsonObject &json, Reading &read) {
    if (given(json, "rope_theta")) read.c.theta = get_real(json, "rope_theta", 1, 1e12);
    for (const char *key : {"rope_scaling", "rope_parameters"})
        if (given(json, key)) return read_scaling(get_object(json, key), read);
}

// A window may be shorter than the context. qwen2 says if it is used; a mistral without the key has one.
static void read_window(const JsonObject &json, const std::string &type, Reading &read) {
    const bool used = type == "qwen2" ? get_bool(json, "use_sliding_window", false) : type == "mistral";
    const Json *value = json.json.contains("sliding_window") ? &json.json.at("sliding_window") : nullptr;
    if (!used || (value && value->is_null())) return;
    const long window = value ? get_int(json, "sliding_window", 1, 1 << 30) : 4096;
    read.demand(window >= read.c.context, json.name, ": sliding_window: ", window,
                " is shorter than the context of ", read.c.context, ", and all of it is attended here");
}

static void read_ordinary_attention(const JsonObject &json, const std::string &type, Reading &read) {
    Config &c = read.c;
    const long n_kv = type == "mistral" ? 8 : c.n_h;
    c.n_kv = given(json, "num_key_value_heads") ? (int)get_int(json, "num_key_value_heads", 1, c.n_h) : n_kv;
    c.attention = c.n_kv == c.n_h ? Attention::MHA : Attention::GQA;
    expect(given(json, "head_dim") || c.d % c.n_h == 0, json.name, ": hidden_size is no multiple of ", c.n_h,
           " heads, and there is no head_dim");
    c.d_h = given(json, "head_dim") ? (int)get_int(json, "head_dim", 1, 1 << 14) : c.d / c.n_h;
    c.pairing = rope_half_split;
    c.bias_o = type == "llama" && get_bool(json, "attention_bias", false);
    c.bias_qkv = type == "qwen2" || c.bias_o;
    c.bias_ffn = type == "llama" && get_bool(json, "mlp_bias", false);
    read_window(json, type, read);
}

// `all` still has its nulls: they mean no compression of queries, and half-split pairs.
static void read_mla(const JsonObject &json, const JsonObject &all, const std::string &type, Config &c) {
    c.attention = Attention::MLA;
    expect(all.json.contains("q_lora_rank"), json.name, ": 'q_lora_rank' is missing (null: no compression)");
    c.d_cq = given(json, "q_lora_rank") ? (int)get_int(json, "q_lora_rank", 0, 1 << 17) : 0;
    read_sizes(json, sizes_of_mla, c);
    c.n_kv = c.n_h;
    if (given(json, "num_key_value_heads")) get_int(json, "num_key_value_heads", c.n_h, c.n_h);
    const bool null = all.json.contains("rope_interleave") && !given(json, "rope_interleave");
    const bool in_turns = type == "deepseek_v2" || (!null && get_bool(json, "rope_interleave", true));
    c.pairing = in_turns ? rope_interleaved : rope_half_split;
    for (const char *key : {"attention_bias", "mlp_bias"})
        expect(!get_bool(json, key, false), json.name, ": ", key, ": MLA and experts have no biases here");
}

// Keys that are missing have transformers' defaults; a null of the groups says that there are none.
static void read_experts(const JsonObject &json, const JsonObject &all, const std::string &type,
                         Reading &read) {
    Config &c = read.c;
    const bool v2 = type == "deepseek_v2";
    const auto groups = [&](const char *key, long usual) {
        const bool none = v2 || all.json.contains(key);
        return (int)get_int(json, key, 1, 1 << 30, given(json, key) ? 0 : none ? 1 : usual);
    };
    read_sizes(json, sizes_of_experts, c);
    c.N_s = (int)get_int(json, "n_shared_experts", 0, 1 << 30, v2 ? 2 : 1);
    c.n_dense = (int)get_int(json, "first_k_dense_replace", 0, 1 << 30, v2 ? 0 : 3);
    c.groups = groups("n_group", 8);
    c.M = groups("topk_group", 4);
    c.norm_gates = get_bool(json, "norm_topk_prob", !v2);
    c.rho = get_real(json, "routed_scaling_factor", 1e-6, 1e6, v2 ? 1 : 2.5);
    c.D = v2 ? 0 : (int)get_int(json, "num_nextn_predict_layers", 0, 64, 0);
    c.gate = v2 ? Gate::softmax : Gate::sigmoid;
    c.group_best = v2 ? 1 : 2;
    c.selection_bias = !v2;
    const std::string gate = v2 ? "softmax" : "sigmoid";
    const std::string method = get_string(json, "topk_method", v2 ? "greedy" : "noaux_tc");
    read.demand(get_string(json, "scoring_func", gate) == gate, json.name, ": scoring_func: the gate of ",
                type, " is a ", gate);
    read.demand(get_int(json, "moe_layer_freq", 1, 1 << 30, 1) == 1, json.name,
                ": moe_layer_freq: all layers from first_k_dense_replace on have experts here");
    if (!v2)
        return read.demand(method == "noaux_tc", json.name,
                           ": topk_method: the one of deepseek_v3 is noaux_tc");
    read.demand(method == "greedy" || method == "group_limited_greedy", json.name, ": topk_method: '", method,
                "' is unknown");
    if (method == "greedy") c.groups = c.M = 1;
    // The authors' code would leave out routed_scaling_factor then, transformers' ignores the key.
    read.demand(!c.norm_gates, json.name, ": norm_topk_prob: gates of deepseek_v2 are not normalised");
}

// One id or a list. One beyond the vocabulary, which some have, is none.
static std::vector<int> token_ids(const JsonObject &json, const char *key, int V) {
    std::vector<int> ids;
    if (!given(json, key)) return ids;
    const Json &value = json.json.at(key);
    for (const Json &id : value.is_array() ? value : Json::array({value}))
        if (id.is_number_integer() && id.get<int64_t>() >= 0 && id.get<int64_t>() < V)
            ids.push_back(id.get<int>());
    return ids;
}

// The model types that are read, each with the context that transformers gives it where no key does.
static const std::map<std::string, int> usual_context = {
    {"llama", 2048}, {"mistral", 131072}, {"qwen2", 32768}, {"deepseek_v2", 2048}, {"deepseek_v3", 4096}};

static Reading parse_config(const JsonObject &all) {
    Json present = Json::object();                       // a null is "not given"
    for (const auto &[key, value] : all.json.items())
        if (!value.is_null()) append(present, key, value);
    const JsonObject json(present, all.name);
    const std::string type = get_string(json, "model_type");
    Reading read;
    Config &c = read.c;
    read_own_fields(json, c, type);
    if (type == "deepseek_edu") return read;
    if (!usual_context.count(type))
        fail(json.name + ": unknown model_type '" + type + "'",
             "known: llama, mistral, qwen2, deepseek_v2, deepseek_v3, deepseek_edu");
    read.demand(get_string(json, "hidden_act", "silu") == "silu", json.name,
                ": hidden_act: only silu is known");
    read.demand(!given(json, "quantization_config"), json.name, ": quantization_config: cannot be read");
    read_sizes(json, sizes_of_all, c);
    c.context = (int)get_int(json, "max_position_embeddings", 1, 1 << 30, usual_context.at(type));
    const std::vector<int> bos = token_ids(json, "bos_token_id", c.V);
    c.bos = bos.empty() ? -1 : bos[0];
    c.eos = token_ids(json, "eos_token_id", c.V);
    c.eps = get_real(json, "rms_norm_eps", 0, 1, 1e-6);
    c.init_std = get_real(json, "initializer_range", 0, 100, 0.02);
    c.tied = get_bool(json, "tie_word_embeddings", false);
    const bool mla = type.starts_with("deepseek");
    if (!mla) read_ordinary_attention(json, type, read);
    else read_mla(json, all, type, c);
    if (mla) read_experts(json, all, type, read);
    read_rope(json, read);
    return read;
}

// generation_config.json may know more tokens that end a text.
static void read_generation_config(const std::string &path, Config &c) {
    if (!exists(path)) return;
    const Json json = parse_json(read_text(path, 1 << 20), path);
    for (int id : token_ids(JsonObject(json, path), "eos_token_id", c.V))
        if (!std::count(c.eos.begin(), c.eos.end(), id)) c.eos.push_back(id);
}

static Reading read_config(const std::string &path) {
    const Json json = parse_json(read_text(path, 1 << 20), path);
    Reading read = parse_config(JsonObject(json, path));
    naming(path, [&] { validate(read.c); });
    return read;
}

Config load_config(const std::string &directory) {
    Reading read = read_config(directory + "/config.json");
    if (!read.cannot.empty())
        fail(read.cannot[0], "`deepseek config --model` can still count its parameters");
    read_generation_config(directory + "/generation_config.json", read.c);
    return read.c;
}

Config load_config_for_census(const std::string &path, std::vector<std::string> &cannot) {
    const std::filesystem::path place = std::filesystem::absolute(path).lexically_normal();
    const bool folder = is_directory(path);
    Reading read = read_config(folder ? path + "/config.json" : path);
    cannot = read.cannot;
    const std::filesystem::path parent = folder && place.has_filename() ? place : place.parent_path();
    if (read.c.name == Config{}.name) read.c.name = parent.filename().string();
    return read.c;
}

// ------------------------------------------------------------------------------------ [3] what would be lost

// Fields that this configuration makes no use of get their usual values: two that differ in them alone are
// the same model.
static Config essential(Config c) {
    const Config usual;
    const auto forget = [&](auto... fields) { ((c.*fields = usual.*fields), ...); };
    if (c.attention != Attention::MLA) forget(&Config::d_v, &Config::d_c, &Config::d_cq, &Config::d_hR);
    else c.n_kv = c.n_h;
    if (c.groups == 1) forget(&Config::group_best);
    if (c.N_r == 0) {
        forget(&Config::N_s, &Config::K_r, &Config::d_e, &Config::n_dense, &Config::groups, &Config::M);
        forget(&Config::group_best, &Config::gate, &Config::norm_gates, &Config::rho);
        forget(&Config::selection_bias);
    }
    if (c.scaling == rope_plain) forget(&Config::factor, &Config::mscale_all_dim);
    if (c.scaling != rope_yarn) forget(&Config::mscale, &Config::attention_factor);
    if (c.scaling == rope_plain || c.scaling == rope_linear)
        forget(&Config::original, &Config::beta_fast, &Config::beta_slow);
    return c;
}

// The fields that a config.json of this type would lose: it is written and read again.
static std::vector<std::string> fields_lost(const Config &c, const std::string &type) {
    const Json json = config_json(c, type, "float32");
    Reading read;
    try {
        read = parse_config(JsonObject(json, "config.json"));
    } catch (const Error &e) {
        return {e.what()};
    }
    const Config before = essential(c), after = essential(read.c);
    std::vector<std::string> lost = read.cannot;
    for (const Field &field : config_fields())
        if (field.get(before) != field.get(after)) lost.push_back(field.name);
    return lost;
}

// The first type that says all of a configuration: so a program that knows it can compute this model.
std::string model_type(const Config &c) {
    for (const char *type : {"llama", "qwen2", "deepseek_v3", "deepseek_v2"})
        if (fields_lost(c, type).empty()) return type;
    return "deepseek_edu";
}

// ------------------------------------------------------------------------------------ [4] names and layouts
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
    if (w.b_Q.shape.rank) add(list, at + "q_proj.bias", w.b_Q);
    if (w.b_K.shape.rank) add(list, at + "k_proj.bias", w.b_K);
    if (w.b_V.shape.rank) add(list, at + "v_proj.bias", w.b_V);
    if (w.b_O.shape.rank) add(list, at + "o_proj.bias", w.b_O);
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
    if (w.b_g.shape.rank) add(list, at + "gate_proj.bias", w.b_g);
    if (w.b_u.shape.rank) add(list, at + "up_proj.bias", w.b_u);
    if (w.b_2.shape.rank) add(list, at + "down_proj.bias", w.b_2);
}

static void add_expert(Names &list, const std::string &name, const Tensor &w, long i) {
    const long rows = w.shape[1];
    list.push_back({name, {rows, w.shape[2]}, {{w, i * rows, 0, rows}}});
}

// Experts are stored one by one, or (fused, as transformers holds them in memory) all in two tensors. Without
// shared experts transformers still has their three matrices, of width zero.
static void add_moe(Names &list, const MoE &w, const Config &c, const std::string &at, bool fused) {
    if (w.e.shape.rank) add(list, at + "gate.weight", w.e);
    if (w.b.shape.rank) add(list, at + "gate.e_score_correction_bias", w.b);
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

// ------------------------------------------------------------------------------------------- [5] save, load

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

// Weights that must be there once may stand there again: then they must be equal.
static bool is_copy(const std::string &name, const Config &c) {
    return (c.tied && name == "lm_head.weight") ||
           (name.starts_with("model.layers.") &&
            (name.ends_with(".embed_tokens.weight") || name.ends_with(".shared_head.head.weight")));
}

std::vector<std::string> weights_lost(Model &m, const std::vector<NamedTensor> &names) {
    std::map<const Storage *, long> rows;                // of each weight, that some name holds
    for (const NamedTensor &tensor : names)
        for (const Piece &piece : tensor.pieces)
            if (!is_copy(tensor.name, m.c)) rows[piece.ours.s] += piece.rows;
    std::vector<std::string> lost;
    visit(m, [&](const std::string &name, Tensor &w, const Spec &spec) {
        if (rows[w.s] != spec.shape.rows()) lost.push_back(name);
    });
    return lost;
}

static std::string listed(const std::vector<std::string> &words) {
    std::string text;
    for (const std::string &word : words) text += (text.empty() ? "" : ", ") + word;
    return text;
}

void expect_savable(Model &m, const std::string &type) {
    const std::vector<std::string> weights = weights_lost(m, released_names(m));
    if (!weights.empty())
        fail("cannot be saved: no name in model.safetensors for " + listed(weights),
             "names_of in src/model/huggingface.cpp gives weights their names");
    const std::vector<std::string> fields = fields_lost(m.c, type.empty() ? model_type(m.c) : type);
    expect(fields.empty(), "cannot be saved: config.json", type.empty() ? "" : " of a " + type,
           " would lose ", listed(fields));
}

// A file of 16 bits has the nearest numbers. A selection bias stays as it is: transformers demands it.
static std::string dtype_of(const NamedTensor &tensor, const Saving &how) {
    const bool whole = how.dtype == "" || tensor.name.ends_with("e_score_correction_bias");
    return whole ? (sizeof(real) == 4 ? "F32" : "F64") : how.dtype;
}

static std::vector<uint16_t> halves(const std::vector<real> &values, const std::string &dtype,
                                    const std::string &name) {
    std::vector<uint16_t> bits(values.size());
    for (size_t i = 0; i < bits.size(); i++)
        bits[i] = dtype == "BF16" ? bf16_bits(values[i]) : f16_bits(values[i]);
    for (size_t i = 0; i < bits.size(); i++)
        expect(dtype != "F16" || (bits[i] & 0x7FFF) < 0x7C00, name, " holds ", values[i],
               ", beyond F16's largest number, 65504: BF16 has room for it");
    return bits;
}

static void write_shard(const std::string &path, const Names &names, const Saving &how) {
    std::vector<real> reals;                             // of the tensor that is being written
    std::vector<uint16_t> bits;
    std::vector<TensorOut> out;
    for (const NamedTensor &tensor : names) {
        const std::string dtype = dtype_of(tensor, how);
        const std::vector<long> shape(tensor.shape.d, tensor.shape.d + tensor.shape.rank);
        const auto made = [&reals, &bits, &tensor, dtype]() -> const void * {
            reals = gathered(tensor);
            if (dtype_size(dtype) != 2) return reals.data();
            bits = halves(reals, dtype, tensor.name);
            return bits.data();
        };
        out.push_back({tensor.name, dtype, shape, nullptr, made});
    }
    write_safetensors(path, out);
}

// Full in order, each as long as the next tensor fits; a tensor that is larger has a file of its own.
static void write_weights(const Names &names, const std::string &directory, const Saving &how) {
    std::vector<Names> shards(1);
    long bytes = 0, total = 0;
    for (const NamedTensor &tensor : names) {
        const long size = tensor.shape.numel() * (long)dtype_size(dtype_of(tensor, how));
        if (how.shard_bytes && bytes && bytes + size > how.shard_bytes) shards.emplace_back(), bytes = 0;
        shards.back().push_back(tensor);
        bytes += size;
        total += size;
    }
    if (shards.size() == 1) return write_shard(directory + "/model.safetensors", names, how);
    Json map = Json::object();
    for (size_t i = 0; i < shards.size(); i++) {
        char file[64];
        snprintf(file, sizeof file, "model-%05zu-of-%05zu.safetensors", i + 1, shards.size());
        write_shard(directory + "/" + file, shards[i], how);
        for (const NamedTensor &tensor : shards[i]) append(map, tensor.name, file);
    }
    const Json index = {{"metadata", {{"total_size", total}}}, {"weight_map", map}};
    write_atomically(directory + "/model.safetensors.index.json", dump_json(index) + "\n");
}

void save_model(Model &m, const std::string &directory, const Saving &how) {
    static const std::map<std::string, std::string> dtypes = {
        {"", sizeof(real) == 4 ? "float32" : "float64"}, {"BF16", "bfloat16"}, {"F16", "float16"}};
    assert(dtypes.count(how.dtype));
    expect_savable(m, how.type);
    std::error_code e;
    std::filesystem::create_directories(directory, e);
    expect(std::filesystem::is_directory(directory), directory, ": cannot make it: ", e.message());
    write_weights(released_names(m), directory, how);
    const Json config = config_json(m.c, how.type.empty() ? model_type(m.c) : how.type, dtypes.at(how.dtype));
    write_atomically(directory + "/config.json", dump_json(config) + "\n");
    Json generation = Json::object();                    // transformers' generate reads its tokens from here
    for (const char *key : {"bos_token_id", "eos_token_id"})
        if (!config[key].is_null()) generation[key] = config[key];
    write_atomically(directory + "/generation_config.json", dump_json(generation) + "\n");
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

// DataParallel and torch.compile put their names in front of a weight's.
static void take_off_wrappers(ModelFiles &files) {
    std::map<std::string, TensorEntry> bare;
    for (const auto &[name, entry] : files.tensors) {
        std::string rest = name;
        for (const char *wrapper : {"module.", "_orig_mod.", "module.", "_orig_mod."})
            if (rest.starts_with(wrapper)) rest = rest.substr(std::string(wrapper).size());
        expect(bare.emplace(rest, entry).second, entry.where, ": ", in_quotes(rest), " is there twice");
    }
    files.tensors = std::move(bare);
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
    expect(weights <= bytes, from, ": config.json asks for ", weights,
           " weights, and the files of weights have ", bytes, " bytes");
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
    ModelFiles files = read_model_files(directory);
    take_off_wrappers(files);
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

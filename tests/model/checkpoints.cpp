// The specification of src/formats: what a checkpoint directory means, that it comes back, what is refused.
//
// data/golden/oracle-* was built, saved and computed by transformers (tests/oracle/make_goldens.py): logits,
// loss and gradients of models that we did not write. All else is made on the spot in a temporary folder.
//
//   [1] goldens   [2] save and load   [3] names and keys   [4] other layouts   [5] hostile directories
#include <doctest/doctest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>

#include "src/base/json.h"
#include "src/base/safetensors.h"
#include "src/infer/decoder.h"
#include "src/model/config.h"
#include "src/model/huggingface.h"
#include "src/model/weights.h"
#include "src/train/training.h"
#include "tests/check.h"

namespace {

struct Folder {                                          // of its own for each test, gone when it ends
    std::string at;
    Folder() {
        at = (std::filesystem::temp_directory_path() / "checkpoint-XXXXXX").string();
        REQUIRE(mkdtemp(at.data()));
    }
    ~Folder() { std::filesystem::remove_all(at); }
};

Config configured(std::initializer_list<const char *> assignments) {
    Config c;
    for (const char *assignment : assignments) set_field(c, assignment);
    validate(c);
    return c;
}

// Tiny, with no two sizes alike.
Config tiny_llama() {
    return configured(
        {"attention=GQA", "V=23", "context=32", "d=12", "n_layers=2", "n_h=4", "n_kv=2", "d_h=6", "d_ff=10"});
}

Config tiny_v3() {
    return configured(
        {"attention=MLA", "V=23",    "context=32", "d=12",   "n_layers=3", "n_h=2",    "n_kv=2",
         "d_h=5",         "d_v=7",   "d_c=8",      "d_cq=9", "d_hR=4",     "d_ff=10",  "pairing=interleaved",
         "N_r=6",         "N_s=2",   "K_r=2",      "d_e=11", "n_dense=1",  "groups=3", "M=2",
         "group_best=2",  "rho=2.5", "D=1"});
}

Config with(Config c, std::initializer_list<const char *> assignments) {
    for (const char *assignment : assignments) set_field(c, assignment);
    validate(c);
    return c;
}

Config tiny_v2() {
    return with(tiny_v3(),
                {"gate=softmax", "norm_gates=false", "selection_bias=false", "group_best=1", "D=0"});
}

Model random_model(const Config &c) {
    Model m = initialised(c, seeded(5));
    uint64_t seed = 100;
    visit(m, [&](const std::string &, Tensor &w, const Spec &spec) {
        if (spec.group == Group::gain || spec.group == Group::bias)
            copy_into(w, randn(spec.shape, "w", seed++));
    });
    return m;
}

// Every number of a model, by our names.
std::map<std::string, std::vector<real>> numbers(Model &m) {
    std::map<std::string, std::vector<real>> all;
    visit(m, [&](const std::string &name, Tensor &w, const Spec &) { all[name] = values(w); });
    return all;
}

std::string told(const std::function<void()> &action) {  // the cause of the Error, or "" if there is none
    try {
        action();
    } catch (const Error &e) {
        return e.what();
    }
    return "";
}

bool contains(const std::string &text, const std::string &part) {
    return text.find(part) != std::string::npos;
}

// A checkpoint taken apart, to be changed and written again.
struct Parts {
    struct Weight {
        std::string dtype;
        std::vector<long> shape;
        std::vector<uint8_t> bytes;
    };
    Json config;
    std::map<std::string, Weight> weights;

    explicit Parts(const Config &c) {
        Folder folder;
        Model m = random_model(c);
        save_model(m, folder.at);
        config = parse_json(read_text(folder.at + "/config.json", 1 << 20), "config.json");
        const Safetensors file = read_safetensors(folder.at + "/model.safetensors");
        for (const auto &[name, t] : file.tensors)
            weights[name] = {t.dtype, t.shape, {t.data, t.data + t.bytes}};
    }
    void write(const std::string &directory) const {
        std::vector<TensorOut> out;
        for (const auto &[name, w] : weights) out.push_back({name, w.dtype, w.shape, w.bytes.data()});
        write_safetensors(directory + "/model.safetensors", out);
        write_atomically(directory + "/config.json", dump_json(config));
    }
    Model load() const {
        Folder folder;
        write(folder.at);
        return load_model(folder.at);
    }
    std::string refused() const {
        return told([&] { load(); });
    }
    real *reals_of(const std::string &name) { return (real *)weights.at(name).bytes.data(); }
};

// ---------------------------------------------------------------------------------------------- [1] goldens

std::vector<double> doubles(const TensorEntry &entry) {
    std::vector<double> x(entry.numel());
    read_reals(entry, x.data());
    return x;
}

std::vector<double> gradient_of(const NamedTensor &tensor) {
    std::vector<double> all(tensor.shape.numel());
    for (const Piece &piece : tensor.pieces) {
        const std::vector<real> g = values(gradient(piece.ours));
        const long width = piece.ours.shape.width();
        std::copy_n(g.begin() + piece.from_row * width, piece.rows * width,
                    all.begin() + piece.to_row * width);
    }
    return all;
}

// The goldens are doubles rounded to float32. Beside each bar: the worst that was measured.
void check_golden(const std::string &name) {
    const std::string directory = std::string(SOURCE_DIR) + "/data/golden/" + name;
    const Safetensors golden = read_safetensors(directory + "/golden.safetensors");
    const TensorEntry &tokens = golden.tensors.at("tokens");
    const int B = (int)tokens.shape[0], T = (int)tokens.shape[1];
    std::vector<int> ids(tokens.numel()), next(tokens.numel(), -1);
    read_ints(tokens, ids.data());
    for (int i = 0; i + 1 < B * T; i++)
        if ((i + 1) % T) next[i] = ids[i + 1];

    Model m = load_model(directory);
    CHECK(m.c.D == 0);
    const Tensor h = trunk(m, causal(from(ids, {B, T})));
    const Tensor loss =
        weighted_sum(logp(h, m.output_head(), from(next, {B, T})).logp, {}, -1.0 / (B * (T - 1)));
    Tensor logits;
    {
        NoGrad off;
        logits = matmul(h, m.output_head());
    }
    backward(loss);
    const auto error = [&](const std::vector<real> &got, const std::string &of) {
        return relative_error(std::vector<double>(got.begin(), got.end()), doubles(golden.tensors.at(of)));
    };
    CHECK(error(values(logits), "logits") < 3e-6);       // measured 9e-7
    CHECK(error(values(loss), "loss") < 5e-7);           // measured 0
    int compared = 0;
    for (const NamedTensor &tensor : released_names(m)) {
        if (tensor.name.ends_with("e_score_correction_bias")) continue;      // nothing flows into it
        INFO(name, ": ", tensor.name);
        CHECK(relative_error(gradient_of(tensor), doubles(golden.tensors.at("grad." + tensor.name))) <
              2e-5);   // 5e-6
        compared++;
    }
    CHECK(compared + 3 == (int)golden.tensors.size());   // tokens, logits, loss
}

}  // namespace

TEST_CASE("checkpoints: a llama with grouped queries has the logits, loss and gradients of transformers") {
    check_golden("oracle-llama");
}
TEST_CASE("checkpoints: a deepseek_v3 with groups and biases near -5 has those of transformers") {
    check_golden("oracle-v3");
}
TEST_CASE(
    "checkpoints: a tied deepseek_v3 with YaRN, without query compression or normalised gates has those, "
    "too") {
    check_golden("oracle-v3-yarn");
}

// ---------------------------------------------------------------------------------------- [2] save and load

namespace {
const std::pair<const char *, Config> round_trips[] = {
    {"llama", tiny_llama()},
    {"llama", with(tiny_llama(), {"attention=MHA", "n_kv=4", "tied=true", "name=tied"})},
    {"llama", with(tiny_llama(), {"scaling=linear", "factor=4", "theta=100000"})},
    {"llama", with(tiny_llama(), {"bias_qkv=true", "bias_o=true", "bias_ffn=true", "bos=3", "eos=5,2,7"})},
    {"llama",
     with(tiny_llama(), {"scaling=llama3", "factor=8", "original=16", "beta_fast=4", "beta_slow=0.5"})},
    {"qwen2", with(tiny_llama(), {"bias_qkv=true", "tied=true", "eos=1"})},
    {"deepseek_v3", with(tiny_v3(), {"scaling=linear", "factor=4", "mscale_all_dim=1"})},
    {"deepseek_edu", with(tiny_llama(), {"bias_o=true"})},
    {"llama", with(tiny_llama(),
                   {"scaling=yarn", "factor=8", "original=16", "attention_factor=1.25", "beta_fast=16"})},
    {"deepseek_v3", tiny_v3()},
    {"deepseek_v3",
     with(tiny_v3(), {"tied=true", "D=2", "alpha=0.003", "gamma=0.02", "counted=unbiased", "lambda=0.1"})},
    {"deepseek_v3",
     with(tiny_v3(), {"d_cq=0", "D=0", "norm_gates=false", "pairing=half_split", "n_dense=0"})},
    {"deepseek_v3", with(tiny_v3(), {"N_s=0", "groups=1", "M=1", "init_std=0.006"})},
    {"deepseek_v3", with(tiny_v3(), {"n_dense=3", "D=0"})},
    {"deepseek_v3", with(tiny_v3(), {"n_dense=3", "D=2"})},
    {"deepseek_v3",
     with(tiny_v3(), {"scaling=yarn", "factor=40", "mscale=1", "mscale_all_dim=0.707", "original=64"})},
    {"deepseek_v2", tiny_v2()},
    {"deepseek_v2",
     with(tiny_v2(), {"groups=1", "M=1", "d_cq=0", "alpha_dev=0.5", "capacity=1", "exempt=0.2"})},
    {"deepseek_v2", with(tiny_v2(), {"scaling=yarn", "factor=40", "mscale=0.707", "mscale_all_dim=0.707"})},
    {"deepseek_edu", with(tiny_v2(), {"D=1"})},
    {"deepseek_edu", with(tiny_v2(), {"norm_gates=true"})},
    {"deepseek_edu", with(tiny_v2(), {"selection_bias=true"})},
    {"deepseek_edu", with(tiny_v2(), {"pairing=half_split"})},
    {"deepseek_edu", with(tiny_v2(), {"gate=hash", "K_r=1"})},
    {"deepseek_edu", with(tiny_v3(), {"gate=softmax"})},
    {"deepseek_edu", with(tiny_v3(), {"group_best=1"})},
    {"deepseek_edu", with(tiny_v3(), {"attention=MHA", "pairing=half_split", "d_h=4"})},
    {"deepseek_edu", with(tiny_llama(), {"D=1"})},
    {"deepseek_edu", with(tiny_llama(), {"pairing=interleaved"})},
};
}  // namespace

TEST_CASE("checkpoints: what is saved comes back bit by bit, and says which programs can compute it") {
    for (const auto &trip : round_trips) {
        const Config &c = trip.second;
        INFO(print_config(c));
        Folder folder;
        Model m = random_model(c);
        save_model(m, folder.at);
        const Json json = parse_json(read_text(folder.at + "/config.json", 1 << 20), "config.json");
        CHECK(json["model_type"] == trip.first);
        Model back = load_model(folder.at);
        CHECK(numbers(back) == numbers(m));
        CHECK(print_config(back.c) == print_config(c));
        CHECK(print_config(load_config(folder.at)) == print_config(c));
    }
}

TEST_CASE("checkpoints: a type that was asked for says all of a model, or is refused by what it would lose") {
    Folder folder;
    Model m = random_model(tiny_v2());
    CHECK(contains(told([&] { save_model(m, folder.at, {.type = "deepseek_v3"}); }),
                   "cannot be saved: config.json of a deepseek_v3 would lose"));
    CHECK(contains(told([&] { save_model(m, folder.at, {.type = "deepseek_v3"}); }), "selection_bias"));
    m.c.D = 0;
    save_model(m, folder.at, {.type = "deepseek_edu"});
    CHECK(contains(read_text(folder.at + "/config.json", 1 << 20), "deepseek_edu"));
    CHECK(print_config(load_config(folder.at)) == print_config(m.c));
}

TEST_CASE("checkpoints: what a deepseek_v2 says that cannot be computed is refused by its key") {
    const auto refused = [](const char *key, const Json &value) {
        Parts parts(tiny_v2());
        parts.config[key] = value;
        Folder folder;
        parts.write(folder.at);
        return told([&] { load_model(folder.at); });
    };
    CHECK(contains(refused("norm_topk_prob", true), "norm_topk_prob"));
    CHECK(contains(refused("scoring_func", "sigmoid"), "scoring_func: the gate of deepseek_v2 is a softmax"));
    CHECK(contains(refused("topk_method", "noaux_tc"), "topk_method: 'noaux_tc' is unknown"));
    CHECK(contains(refused("moe_layer_freq", 2), "moe_layer_freq"));
    CHECK(refused("n_group", 3) == "");
}

TEST_CASE("checkpoints: MLA without any experts is a deepseek_v3 of dense layers") {
    Folder folder;
    Model m = random_model(with(tiny_v3(), {"N_r=0", "D=1"}));
    save_model(m, folder.at);
    Model back = load_model(folder.at);
    CHECK(numbers(back) == numbers(m));
    CHECK(back.c.n_dense == back.c.n_layers);
    CHECK(back.c.N_r == 0);
}

TEST_CASE("checkpoints: one model makes the same files each time") {
    Folder one, other;
    Model m = random_model(tiny_v3());
    save_model(m, one.at);
    save_model(m, other.at + "/a/new/folder");
    for (const char *file : {"/config.json", "/generation_config.json", "/model.safetensors"})
        CHECK(read_text(one.at + file, 1 << 24) == read_text(other.at + "/a/new/folder" + file, 1 << 24));
}

TEST_CASE("checkpoints: a selection bias is loaded") {
    Parts parts(tiny_v3());
    Model m = parts.load();
    CHECK(values(m.blocks[1].moe.b)[2] ==
          parts.reals_of("model.layers.1.mlp.gate.e_score_correction_bias")[2]);
}

// What cannot be saved is refused, never dropped: both lists are walked, the weights and the fields.
TEST_CASE("checkpoints: a weight that no name in the file holds, or only a part of, is refused by its name") {
    for (const Config &c : {tiny_llama(), tiny_v3()}) {
        Model m = random_model(c);
        const std::vector<NamedTensor> all = released_names(m);
        CHECK(weights_lost(m, all).empty());
        for (size_t i = 0; i < all.size(); i++) {
            std::vector<NamedTensor> some = all;
            some.erase(some.begin() + (long)i);
            INFO(all[i].name);
            const bool copy = all[i].name == "model.layers.3.embed_tokens.weight" ||
                              all[i].name == "model.layers.3.shared_head.head.weight";
            CHECK(weights_lost(m, some).empty() == copy);
        }
    }
    Folder folder;
    Model m = random_model(tiny_llama());
    m.c.bias_ffn = true;                                 // now visit lists weights that have no numbers
    for (const auto &action : {std::function<void()>([&] { expect_savable(m); }),
                               std::function<void()>([&] { save_model(m, folder.at + "/new"); })})
        CHECK(
            contains(told(action), "blocks.0.ffn.b_g, blocks.0.ffn.b_u, blocks.0.ffn.b_2, blocks.1.ffn.b_g"));
    CHECK(!std::filesystem::exists(folder.at + "/new"));
}

TEST_CASE("checkpoints: a field that would not come back is refused by its name") {
    Folder folder;
    Model m = random_model(tiny_v3());
    m.c.name = " with blanks around it ";
    CHECK(contains(told([&] { expect_savable(m); }), "would lose name"));
    CHECK(contains(told([&] { save_model(m, folder.at + "/new"); }), "would lose name"));
}

TEST_CASE("checkpoints: every field of the table comes back with another value than its usual one") {
    const Config bases[] = {tiny_llama(), with(tiny_v3(), {"scaling=yarn", "factor=4", "mscale=0.5"})};
    const Config usual;
    for (const Field &field : config_fields()) {
        std::vector<std::string> values = {"true",    "false",    "yarn",  "MLA",        "MHA",
                                           "softmax", "unbiased", "batch", "half_split", "interleaved",
                                           "other",   "7,3",      "bf16"};
        for (const Config &base : bases)
            for (double x : {2.0, 0.5}) values.push_back(cat(std::atof(field.get(base).c_str()) * x));
        for (int x : {1, 2, 3, 4, 6, 18}) values.push_back(cat(x));
        int came_back = 0;
        for (const Config &base : bases)
            for (const std::string &value : values) {
                Config c = base;
                if (told([&] { set_field(c, cat(field.name, "=", value)), validate(c); }) != "") continue;
                if (field.get(c) == field.get(usual) || field.get(c) == field.get(base)) continue;
                Folder folder;
                Model m = build(c);
                save_model(m, folder.at);
                came_back += field.get(load_config(folder.at)) == field.get(c);
            }
        INFO(std::string(field.name));
        CHECK(came_back > 0);
    }
}

TEST_CASE("checkpoints: all tokens that end a text are kept, also those of generation_config.json") {
    Folder folder;
    Model m = random_model(with(tiny_llama(), {"eos=5,2", "bos=3"}));
    save_model(m, folder.at);
    const auto read = [&](const char *file) {
        return parse_json(read_text(folder.at + file, 1 << 20), file);
    };
    CHECK(read("/config.json")["eos_token_id"] == Json::array({5, 2}));
    CHECK(read("/generation_config.json") == Json({{"bos_token_id", 3}, {"eos_token_id", {5, 2}}}));
    const auto eos = [&](const Json &of_config, const Json &of_generation) {
        Json config = read("/config.json");
        config["eos_token_id"] = of_config;
        write_atomically(folder.at + "/config.json", dump_json(config));
        write_atomically(folder.at + "/generation_config.json",
                         dump_json(Json{{"eos_token_id", of_generation}, {"temperature", 0.6}}));
        return load_config(folder.at).eos;
    };
    CHECK(eos(5, 7) == std::vector<int>{5, 7});
    CHECK(eos(Json::array({4, 2}), Json::array({2, 9, 4})) == std::vector<int>{4, 2, 9});
    CHECK(eos(nullptr, 1) == std::vector<int>{1});
    CHECK(eos(23, nullptr) == std::vector<int>{});       // beyond the vocabulary
    write_atomically(folder.at + "/generation_config.json", "{");
    CHECK(contains(told([&] { load_config(folder.at); }), "generation_config.json"));
}

TEST_CASE("checkpoints: a file of 16 bits holds the nearest numbers, and selection biases as they are") {
    for (const std::string dtype : {"BF16", "F16"}) {
        Folder folder;
        Model m = random_model(tiny_v3());
        save_model(m, folder.at, {dtype});
        Model back = load_model(folder.at);
        const auto of_file = numbers(back), exact = numbers(m);
        for (const auto &[name, values] : exact)
            for (size_t i = 0; i < values.size(); i++) {
                const uint16_t bits = dtype == "BF16" ? bf16_bits(values[i]) : f16_bits(values[i]);
                const TensorEntry entry = {"", dtype, {1}, (const uint8_t *)&bits, 2};
                real nearest = 0;
                read_reals(entry, &nearest);
                if (name.ends_with("moe.b")) nearest = values[i];
                REQUIRE(of_file.at(name)[i] == nearest);
            }
        const Json json = parse_json(read_text(folder.at + "/config.json", 1 << 20), "config.json");
        CHECK(json["torch_dtype"] == (dtype == "BF16" ? "bfloat16" : "float16"));
        CHECK(std::filesystem::file_size(folder.at + "/model.safetensors") < 60000);
    }
    Folder folder;
    Model m = random_model(tiny_llama());
    std::vector<real> values(12, 1);
    values[7] = 65520;                                   // to_f16 would make it infinite
    assign(m.g, values);
    CHECK(contains(told([&] { save_model(m, folder.at, {"F16"}); }), "model.norm.weight holds 65520"));
    CHECK(told([&] { save_model(m, folder.at, {"BF16"}); }) == "");
}

TEST_CASE("checkpoints: shards are as long as asked, their index names every tensor, the model is the same") {
    Folder folder;
    Model m = random_model(tiny_v3());
    save_model(m, folder.at, {"", 20000});
    CHECK(!std::filesystem::exists(folder.at + "/model.safetensors"));
    const Json index = parse_json(read_text(folder.at + "/model.safetensors.index.json", 1 << 20), "index");
    std::map<std::string, long> bytes;
    long total = 0;
    for (const auto &[name, file] : index["weight_map"].items()) {
        const Safetensors shard = read_safetensors(folder.at + "/" + file.get<std::string>());
        bytes[file] += (long)shard.tensors.at(name).bytes;
        total += (long)shard.tensors.at(name).bytes;
    }
    CHECK(index["metadata"]["total_size"] == total);
    REQUIRE(bytes.size() >= 3);
    CHECK(bytes.count(cat("model-00001-of-0000", bytes.size(), ".safetensors")));
    for (const auto &shard : bytes) CHECK(shard.second <= 20000);
    for (auto a = bytes.begin(), b = std::next(a); b != bytes.end(); a++, b++)
        CHECK(a->second + b->second > 20000);            // what follows did not fit any more
    Model back = load_model(folder.at);
    CHECK(numbers(back) == numbers(m));
}

// --------------------------------------------------------------------------------------- [3] names and keys

TEST_CASE("checkpoints: the names and shapes of a deepseek_v3 are the released ones") {
    const Parts parts(tiny_v3());
    const std::map<std::string, std::vector<long>> layer = {
        {"input_layernorm.weight", {12}},
        {"post_attention_layernorm.weight", {12}},
        {"self_attn.q_a_proj.weight", {9, 12}},
        {"self_attn.q_a_layernorm.weight", {9}},
        {"self_attn.q_b_proj.weight", {2 * (5 + 4), 9}},
        {"self_attn.kv_a_proj_with_mqa.weight", {8 + 4, 12}},
        {"self_attn.kv_a_layernorm.weight", {8}},
        {"self_attn.kv_b_proj.weight", {2 * (5 + 7), 8}},
        {"self_attn.o_proj.weight", {12, 2 * 7}}};
    const std::map<std::string, std::vector<long>> experts = {
        {"mlp.gate.weight", {6, 12}},
        {"mlp.gate.e_score_correction_bias", {6}},
        {"mlp.shared_experts.gate_proj.weight", {2 * 11, 12}},
        {"mlp.shared_experts.up_proj.weight", {2 * 11, 12}},
        {"mlp.shared_experts.down_proj.weight", {12, 2 * 11}},
        {"mlp.experts.0.gate_proj.weight", {11, 12}},
        {"mlp.experts.5.up_proj.weight", {11, 12}},
        {"mlp.experts.5.down_proj.weight", {12, 11}}};
    const std::map<std::string, std::vector<long>> others = {
        {"model.embed_tokens.weight", {23, 12}},
        {"model.norm.weight", {12}},
        {"lm_head.weight", {23, 12}},
        {"model.layers.0.mlp.gate_proj.weight", {10, 12}},
        {"model.layers.0.mlp.up_proj.weight", {10, 12}},
        {"model.layers.0.mlp.down_proj.weight", {12, 10}},
        {"model.layers.3.embed_tokens.weight", {23, 12}},
        {"model.layers.3.enorm.weight", {12}},
        {"model.layers.3.hnorm.weight", {12}},
        {"model.layers.3.eh_proj.weight", {12, 24}},
        {"model.layers.3.shared_head.norm.weight", {12}},
        {"model.layers.3.shared_head.head.weight", {23, 12}}};
    std::map<std::string, std::vector<long>> expected = others;
    for (int l = 0; l < 4; l++) {
        for (const auto &[name, shape] : layer) expected[cat("model.layers.", l, ".", name)] = shape;
        for (const auto &[name, shape] : experts)
            if (l >= 1) expected[cat("model.layers.", l, ".", name)] = shape;
    }
    for (const auto &tensor : expected) {
        INFO(tensor.first);
        REQUIRE(parts.weights.count(tensor.first));
        CHECK(parts.weights.at(tensor.first).shape == tensor.second);
    }
    CHECK(parts.weights.size() == expected.size() + 3 * (3 * 6 - 3));    // the experts not spelled out above
}

TEST_CASE("checkpoints: q_b_proj and kv_b_proj take turns head by head, kv_a_proj has the latent first") {
    Parts parts(tiny_v3());
    Model m = parts.load();
    const MLA &w = m.blocks[0].mla;
    const auto row = [](const Tensor &t, long i) {
        const auto v = values(t);
        return std::vector<real>(v.begin() + i * t.shape.width(), v.begin() + (i + 1) * t.shape.width());
    };
    const auto stored = [&](const std::string &name, long i, long width) {
        const real *v = parts.reals_of("model.layers.0.self_attn." + name + ".weight") + i * width;
        return std::vector<real>(v, v + width);
    };
    CHECK(row(w.W_UQ, 4) == stored("q_b_proj", 4, 9));           // head 0: 5 content rows, then 4 rotary ones
    CHECK(row(w.W_QR, 0) == stored("q_b_proj", 5, 9));
    CHECK(row(w.W_UQ, 5) == stored("q_b_proj", 9, 9));           // head 1
    CHECK(row(w.W_QR, 7) == stored("q_b_proj", 17, 9));
    CHECK(row(w.W_UK, 4) == stored("kv_b_proj", 4, 8));          // head 0: 5 key rows, then 7 value rows
    CHECK(row(w.W_UV, 0) == stored("kv_b_proj", 5, 8));
    CHECK(row(w.W_UK, 5) == stored("kv_b_proj", 12, 8));
    CHECK(row(w.W_UV, 13) == stored("kv_b_proj", 23, 8));
    CHECK(row(w.W_DKV, 7) == stored("kv_a_proj_with_mqa", 7, 12));
    CHECK(row(w.W_KR, 0) == stored("kv_a_proj_with_mqa", 8, 12));
}

TEST_CASE(
    "checkpoints: sizes are JSON integers, factors reals and switches booleans, as transformers demands") {
    const Json json = Parts(with(tiny_v3(), {"rho=1", "eps=1e-6"})).config;
    for (const char *key : {"vocab_size",
                            "hidden_size",
                            "intermediate_size",
                            "moe_intermediate_size",
                            "num_hidden_layers",
                            "num_attention_heads",
                            "num_key_value_heads",
                            "q_lora_rank",
                            "kv_lora_rank",
                            "qk_nope_head_dim",
                            "qk_rope_head_dim",
                            "v_head_dim",
                            "n_routed_experts",
                            "n_shared_experts",
                            "num_experts_per_tok",
                            "num_nextn_predict_layers",
                            "first_k_dense_replace",
                            "moe_layer_freq",
                            "n_group",
                            "topk_group",
                            "max_position_embeddings"}) {
        INFO(key);
        REQUIRE(json.contains(key));
        CHECK(json[key].is_number_integer());
    }
    for (const char *key :
         {"routed_scaling_factor", "rms_norm_eps", "rope_theta", "attention_dropout", "initializer_range"}) {
        INFO(key);
        REQUIRE(json.contains(key));
        CHECK(json[key].is_number_float());
    }
    for (const char *key :
         {"norm_topk_prob", "attention_bias", "tie_word_embeddings", "use_cache", "rope_interleave"}) {
        INFO(key);
        REQUIRE(json.contains(key));
        CHECK(json[key].is_boolean());
    }
    CHECK(json["architectures"] == Json::array({"DeepseekV3ForCausalLM"}));
    CHECK(json["torch_dtype"] == (in_double ? "float64" : "float32"));
    CHECK(json["rope_scaling"].is_null());
    CHECK(!json.contains("head_dim"));                   // transformers would take it for the rotary width
    CHECK(Parts(with(tiny_v3(), {"d_cq=0"})).config["q_lora_rank"].is_null());
    CHECK(Parts(tiny_llama()).config["head_dim"] == 6);
}

TEST_CASE("checkpoints: the newer keys mean the same as the older ones") {
    const Config c = with(
        tiny_v3(), {"scaling=yarn", "factor=4", "original=8", "mscale=1", "mscale_all_dim=0.5", "theta=700"});
    Parts parts(c);
    Json rope = parts.config["rope_scaling"];
    rope["rope_theta"] = parts.config["rope_theta"];
    rope.erase("type");
    for (const char *key : {"rope_scaling", "rope_theta", "torch_dtype"}) parts.config.erase(key);
    parts.config["rope_parameters"] = rope;
    parts.config["dtype"] = "float32";
    parts.config["head_dim"] = 4;                        // what transformers writes for MLA: the rotary width
    parts.config["qk_head_dim"] = 9;
    parts.config["some_later_key"] = Json::array({1, 2});
    CHECK(print_config(parts.load().c) == print_config(c));
    parts.config["rope_scaling"] = {{"type", "linear"}, {"factor", 2}};
    CHECK(parts.load().c.scaling == rope_linear);        // an old key beside the new one wins
}

TEST_CASE("checkpoints: absent keys have the values that transformers gives them") {
    Parts llama(with(tiny_llama(), {"attention=MHA", "n_kv=4", "d_h=3", "d_h=6", "d=24"}));
    for (const char *key : {"head_dim", "num_key_value_heads", "rms_norm_eps", "rope_theta", "rope_scaling",
                            "deepseek", "tie_word_embeddings", "attention_bias", "mlp_bias", "hidden_act"})
        llama.config.erase(key);
    const Config c = llama.load().c;
    CHECK(c.d_h == 6);
    CHECK(c.attention == Attention::MHA);
    CHECK(c.eps == 1e-6);
    CHECK(c.theta == 10000);
    Parts v3(tiny_v3());
    v3.config.erase("rope_interleave");
    CHECK(v3.load().c.pairing == rope_interleaved);
    v3.config["rope_interleave"] = nullptr;
    CHECK(v3.load().c.pairing == rope_half_split);
}

TEST_CASE("checkpoints: experts without a key are as in transformers, a null is `not given`") {
    Parts v3(with(tiny_v3(), {"N_r=16", "groups=8", "M=4", "n_dense=3", "D=0", "N_s=1", "rho=2.5"}));
    const std::string as_it_was = print_config(v3.load().c);
    for (const char *key : {"n_group", "topk_group", "first_k_dense_replace", "n_shared_experts",
                            "norm_topk_prob", "routed_scaling_factor", "scoring_func", "topk_method",
                            "num_nextn_predict_layers", "moe_layer_freq"})
        v3.config.erase(key);
    CHECK(print_config(v3.load().c) == as_it_was);
    for (const char *key : {"first_k_dense_replace", "n_shared_experts", "norm_topk_prob", "scoring_func",
                            "routed_scaling_factor", "topk_method", "num_nextn_predict_layers"})
        v3.config[key] = nullptr;
    CHECK(print_config(v3.load().c) == as_it_was);
    v3.config["n_group"] = v3.config["topk_group"] = nullptr;            // no groups
    CHECK(v3.load().c.groups == 1);
    CHECK(v3.load().c.M == 1);
    Parts llama(tiny_llama());
    llama.config.erase("max_position_embeddings");
    CHECK(llama.load().c.context == 2048);
}

TEST_CASE("checkpoints: a mistral is a llama, unless its window is shorter than its context") {
    Parts parts(tiny_llama());
    parts.config["model_type"] = "mistral";
    parts.config["sliding_window"] = nullptr;
    CHECK(parts.load().c.n_kv == 2);
    parts.config["sliding_window"] = 32;
    CHECK(parts.refused() == "");
    parts.config["sliding_window"] = 31;
    CHECK(contains(parts.refused(), "sliding_window: 31"));
    parts.config.erase("sliding_window");                // transformers' own is 4096
    CHECK(parts.refused() == "");
    parts.config["max_position_embeddings"] = 8192;
    CHECK(contains(parts.refused(), "sliding_window: 4096"));
}

TEST_CASE("checkpoints: a qwen2 has biases on queries, keys and values, and its window is said to be used") {
    Parts parts(with(tiny_llama(), {"bias_qkv=true"}));
    CHECK(parts.weights.count("model.layers.1.self_attn.k_proj.bias"));
    CHECK(!parts.weights.count("model.layers.1.self_attn.o_proj.bias"));
    CHECK(!parts.config.contains("attention_bias"));
    parts.config["sliding_window"] = 8;
    CHECK(parts.refused() == "");
    parts.config["use_sliding_window"] = true;
    CHECK(contains(parts.refused(), "sliding_window: 8"));
}

TEST_CASE("checkpoints: linear scaling with mscale_all_dim multiplies MLA's scores, as every scaling does") {
    for (const char *scaling : {"scaling=linear", "scaling=llama3", "scaling=yarn", "scaling=plain"}) {
        NoGrad off;
        const Config c = with(tiny_v3(), {scaling, "factor=4", "original=16", "mscale_all_dim=1", "D=0"});
        Model m = random_model(c);
        double scale = 0;
        const auto before = op_hook;
        op_hook.after = [&](const Call &call, bool, double) {
            if (call.op == op_attention) scale = call.a.scale;
        };
        mla(m.blocks[0].mla, c, randn({1, 1, c.d}, "h", 3), causal(1, 1));
        op_hook = before;
        const double once = c.scaling == rope_plain ? 1 : 0.1 * std::log(4) + 1;
        INFO(scaling);
        CHECK(scale == doctest::Approx(once * once / 3).epsilon(1e-6));          // d_h + d_hR = 9
    }
}

// ---------------------------------------------------------------------------------------- [4] other layouts

TEST_CASE("checkpoints: experts fused into two tensors are the same model") {
    Parts parts(tiny_v3());
    Model m = parts.load();
    for (int l = 1; l < 4; l++) {
        const std::string at = cat("model.layers.", l, ".mlp.experts.");
        Parts::Weight both = {parts.weights.at(at + "0.up_proj.weight").dtype, {6, 22, 12}, {}}, down = both;
        down.shape = {6, 12, 11};
        for (int i = 0; i < 6; i++) {
            for (const char *name : {"gate_proj", "up_proj", "down_proj"}) {
                auto part = parts.weights.extract(cat(at, i, ".", name, ".weight")).mapped();
                auto &bytes = name == std::string("down_proj") ? down.bytes : both.bytes;
                bytes.insert(bytes.end(), part.bytes.begin(), part.bytes.end());
            }
        }
        parts.weights[at + "gate_up_proj"] = both;
        parts.weights[at + "down_proj"] = down;
    }
    Model fused = parts.load();
    CHECK(numbers(fused) == numbers(m));
}

TEST_CASE("checkpoints: names without `model.` are the same model") {
    Parts parts(tiny_v3()), bare = parts;
    bare.weights.clear();
    for (const auto &[name, w] : parts.weights)
        bare.weights[name.starts_with("model.") ? name.substr(6) : name] = w;
    Model m = parts.load(), same = bare.load();
    CHECK(numbers(same) == numbers(m));
}

TEST_CASE("checkpoints: DataParallel's and torch.compile's names in front of a weight's are taken off") {
    for (const char *wrapper : {"module.", "_orig_mod.", "_orig_mod.module."}) {
        Parts parts(tiny_llama()), wrapped = parts;
        wrapped.weights.clear();
        for (const auto &[name, w] : parts.weights) wrapped.weights[wrapper + name] = w;
        Model m = parts.load(), same = wrapped.load();
        CHECK(numbers(same) == numbers(m));
        wrapped.weights["model.norm.weight"] = parts.weights.at("model.norm.weight");
        CHECK(contains(wrapped.refused(), "'model.norm.weight' is there twice"));
    }
}

TEST_CASE("checkpoints: MTP modules may leave out their copies of embedding and head") {
    Parts parts(tiny_v3());
    Model m = parts.load();
    parts.weights.erase("model.layers.3.embed_tokens.weight");
    parts.weights.erase("model.layers.3.shared_head.head.weight");
    Model same = parts.load();
    CHECK(numbers(same) == numbers(m));
}

TEST_CASE("checkpoints: MTP modules that are announced but not there are left out, part of one is an error") {
    Parts parts(with(tiny_v3(), {"D=0"}));
    parts.config["num_nextn_predict_layers"] = 1;
    CHECK(parts.load().c.D == 0);
    Parts broken(tiny_v3());
    broken.weights.erase("model.layers.3.enorm.weight");
    CHECK(contains(broken.refused(), "missing: model.layers.3.enorm.weight"));
}

TEST_CASE("checkpoints: an output head beside a tied embedding must be the embedding") {
    Parts parts(with(tiny_llama(), {"tied=true"}));
    CHECK(!parts.weights.count("lm_head.weight"));
    parts.weights["lm_head.weight"] = parts.weights.at("model.embed_tokens.weight");
    CHECK(parts.refused() == "");
    parts.reals_of("lm_head.weight")[7] += 1;
    CHECK(contains(parts.refused(), "lm_head.weight"));
}

TEST_CASE("checkpoints: old files' inv_freq is ignored") {
    Parts parts(tiny_llama());
    parts.weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = {"F32", {3}, std::vector<uint8_t>(12)};
    CHECK(parts.refused() == "");
}

TEST_CASE("checkpoints: weights of 16 bits are read exactly") {
    Parts parts(tiny_llama());
    for (auto &[name, w] : parts.weights) {
        const long n = (long)(w.bytes.size() / sizeof(real));
        std::vector<uint8_t> halves(2 * n);
        for (long i = 0; i < n; i++) {
            const uint16_t bits =
                name.ends_with("norm.weight") ? 0x3c01 : (uint16_t)(0x3f80 + i % 64 + (i % 2 ? 0x8000 : 0));
            std::memcpy(&halves[2 * i], &bits, 2);
        }
        w = {name.ends_with("norm.weight") ? "F16" : "BF16", w.shape, halves};
    }
    Model m = parts.load();
    CHECK(values(m.g)[3] == (real)(1 + 1.0 / 1024));                     // F16 0x3c01
    CHECK(values(m.Emb)[5] == (real)(-1 - 5.0 / 128));                   // BF16 0xbf85
}

// ---------------------------------------------------------------------------------- [5] hostile directories

namespace {
struct Lie {   // key = value in config.json, and what the error must name
    const char *key;
    Json value;
    const char *named;
};

void check_lies(const Config &c, const std::vector<Lie> &lies) {
    const Parts honest(c);
    for (const Lie &lie : lies) {
        Parts parts = honest;
        parts.config[lie.key] = lie.value;
        const size_t before = pool_report(cpu_device).peak_bytes;
        const std::string error = parts.refused();
        INFO(lie.key, " = ", lie.value.dump(), ": ", error);
        CHECK(contains(error, lie.named));
        CHECK(error.size() < 20000);
        CHECK(pool_report(cpu_device).peak_bytes == before);             // nothing was built first
    }
}
}  // namespace

TEST_CASE("checkpoints: a config.json with impossible sizes or types is refused by the name of the key") {
    check_lies(tiny_llama(),
               {
                   {"model_type", "gpt2", "gpt2"},
                   {"model_type", 3, "model_type"},
                   {"model_type", nullptr, "model_type"},
                   {"vocab_size", -1, "vocab_size"},
                   {"vocab_size", 23.0, "vocab_size"},
                   {"vocab_size", "23", "vocab_size"},
                   {"vocab_size", 1e30, "vocab_size"},
                   {"vocab_size", 4294967319, "vocab_size"},
                   {"vocab_size", true, "vocab_size"},
                   {"hidden_size", 0, "hidden_size"},
                   {"hidden_size", nullptr, "hidden_size"},
                   {"hidden_size", Json::array(), "hidden_size"},
                   {"num_hidden_layers", 0, "num_hidden_layers"},
                   {"num_hidden_layers", 1 << 29, "n_layers"},
                   {"num_hidden_layers", 4096, "weights"},
                   {"vocab_size", 1 << 24, "weights"},
                   {"intermediate_size", 1 << 20, "weights"},
                   {"num_attention_heads", 3, "n_h"},
                   {"num_key_value_heads", 3, "n_kv"},
                   {"num_key_value_heads", 0, "num_key_value_heads"},
                   {"num_key_value_heads", 8, "num_key_value_heads"},
                   {"head_dim", 5, "d_h"},
                   {"head_dim", -6, "head_dim"},
                   {"head_dim", nullptr, "d_h"},
                   {"rms_norm_eps", -1e-6, "rms_norm_eps"},
                   {"rms_norm_eps", "1e-6", "rms_norm_eps"},
                   {"tie_word_embeddings", 1, "tie_word_embeddings"},
                   {"attention_bias", true, "self_attn.o_proj.bias"},
                   {"mlp_bias", true, "mlp.down_proj.bias"},
                   {"mlp_bias", 1, "mlp_bias"},
                   {"hidden_act", "gelu", "hidden_act"},
                   {"rope_theta", 0, "rope_theta"},
                   {"rope_theta", -10000.0, "rope_theta"},
                   {"rope_scaling", 4, "rope_scaling"},
                   {"rope_scaling", {{"type", "ntk"}}, "ntk"},
                   {"rope_scaling", {{"type", "linear"}}, "factor"},
                   {"rope_scaling", {{"type", "linear"}, {"factor", 0}}, "factor"},
                   {"rope_scaling", {{"rope_type", "yarn"}, {"factor", 4}, {"beta_fast", -1}}, "beta_fast"},
                   {"rope_scaling", {{"rope_type", "yarn"}, {"factor", 4}, {"truncate", false}}, "truncate"},
                   {"rope_scaling", {{"rope_type", 4}}, "rope_type"},
                   {"rope_scaling", {{"rope_type", "llama3"}, {"factor", 4}}, "high_freq_factor"},
                   {"rope_scaling",
                    {{"rope_type", "llama3"}, {"factor", 4}, {"high_freq_factor", 1}, {"low_freq_factor", 1}},
                    "beta_fast = 1 is not above"},
                   {"rope_scaling", {{"partial_rotary_factor", 0.5}}, "partial_rotary"},
                   {"quantization_config", {{"quant_method", "fp8"}}, "quantization_config"},
                   {"deepseek", 1, "deepseek"},
                   {"deepseek", {{"d", "64"}}, "'d'"},
                   {"deepseek", {{"alpha", 1}}, "alpha"},
                   {"deepseek", {{"alpha", "x"}}, "alpha"},
               });
}

TEST_CASE("checkpoints: a config.json with impossible experts or latents is refused by the name of the key") {
    check_lies(tiny_v3(), {
                              {"n_routed_experts", 7, "N_r"},
                              {"n_routed_experts", 65535, "weights"},
                              {"n_routed_experts", nullptr, "n_routed_experts"},
                              {"n_routed_experts", -6, "n_routed_experts"},
                              {"num_experts_per_tok", 5, "K_r"},
                              {"num_experts_per_tok", 0, "num_experts"},
                              {"n_group", 0, "n_group"},
                              {"n_group", 4, "N_r"},
                              {"n_group", 6, "group_best"},
                              {"topk_group", 4, "M ="},
                              {"n_group", true, "n_group"},
                              {"attention_bias", true, "attention_bias"},
                              {"n_shared_experts", -1, "n_shared_experts"},
                              {"q_lora_rank", "9", "q_lora_rank"},
                              {"qk_rope_head_dim", 3, "d_hR"},
                              {"kv_lora_rank", 0, "kv_lora_rank"},
                              {"num_key_value_heads", 1, "num_key_value_heads"},
                              {"scoring_func", "softmax", "scoring_func"},
                              {"topk_method", "greedy", "topk_method"},
                              {"norm_topk_prob", 1, "norm_topk"},
                              {"routed_scaling_factor", 0, "routed_scaling"},
                              {"num_nextn_predict_layers", 65, "num_nextn"},
                              {"num_nextn_predict_layers", -1, "num_nextn"},
                              {"first_k_dense_replace", -1, "first_k_dense"},
                              {"rope_interleave", 1, "rope_interleave"},
                              {"moe_intermediate_size", 1 << 20, "weights"},
                          });
}

TEST_CASE("checkpoints: a config.json without a key that has no usual value is refused by the key's name") {
    const Parts honest(tiny_v3());
    for (const char *key :
         {"model_type", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "q_lora_rank",
          "num_attention_heads", "kv_lora_rank", "qk_nope_head_dim", "v_head_dim", "qk_rope_head_dim",
          "n_routed_experts", "num_experts_per_tok", "moe_intermediate_size"}) {
        Parts parts = honest;
        parts.config.erase(key);
        INFO(key);
        CHECK(contains(parts.refused(), key));
    }
}

TEST_CASE("checkpoints: a deepseek_edu whose fields are wrong or gone is refused") {
    Parts parts(with(tiny_v3(), {"gate=softmax"}));
    parts.config["deepseek"]["d"] = "-4";
    CHECK(contains(parts.refused(), "d = -4"));
    parts.config["deepseek"]["d"] = 12;
    CHECK(contains(parts.refused(), "'d' is not a string"));
    parts.config.erase("deepseek");
    CHECK(contains(parts.refused(), "deepseek"));
}

TEST_CASE("checkpoints: every tensor that is missing, unexpected or has another shape is named") {
    Parts parts(tiny_v3());
    parts.weights.erase("model.norm.weight");
    parts.weights.erase("model.layers.2.mlp.experts.4.up_proj.weight");
    parts.weights["model.layers.0.self_attn.k_proj.weight"] = parts.weights.at("lm_head.weight");
    parts.weights["model.layers.9.enorm.weight"] = parts.weights.at("lm_head.weight");
    parts.weights.at("model.layers.1.mlp.gate.weight").shape = {12, 6};
    parts.weights.at("model.layers.1.mlp.gate.e_score_correction_bias").shape = {6, 1};
    const std::string error = parts.refused();
    INFO(error);
    for (const char *part :
         {"2 tensors missing: ", "model.norm.weight", "model.layers.2.mlp.experts.4.up_proj.weight",
          "2 tensors of another shape: ", "model.layers.1.mlp.gate.weight (12,6) instead of (6,12)",
          "e_score_correction_bias (6,1) instead of (6)", "2 tensors not expected: ",
          "model.layers.0.self_attn.k_proj.weight", "model.layers.9.enorm.weight"})
        CHECK(contains(error, part));
}

TEST_CASE("checkpoints: a weight that is not a number or infinite is refused by name") {
    for (const char *name :
         {"model.norm.weight", "model.layers.3.mlp.experts.5.down_proj.weight", "model.embed_tokens.weight"})
        for (real bad : {std::numeric_limits<real>::quiet_NaN(), -std::numeric_limits<real>::infinity()}) {
            Parts parts(tiny_v3());
            parts.reals_of(name)[11] = bad;
            CHECK(contains(parts.refused(), name));
        }
}

TEST_CASE("checkpoints: a weight of integers is refused by name") {
    Parts parts(tiny_llama());
    parts.weights["model.norm.weight"] = {"I32", {12}, std::vector<uint8_t>(48)};
    CHECK(contains(parts.refused(), "model.norm.weight"));
}

TEST_CASE("checkpoints: an MTP copy that differs from what it copies is refused by name") {
    for (const char *name :
         {"model.layers.3.embed_tokens.weight", "model.layers.3.shared_head.head.weight"}) {
        Parts parts(tiny_v3());
        parts.reals_of(name)[0] += 1;
        CHECK(contains(parts.refused(), name));
    }
}

TEST_CASE("checkpoints: what is no checkpoint is refused") {
    Folder folder;
    CHECK(contains(told([&] { load_model(folder.at + "/none"); }), folder.at + "/none"));
    CHECK(contains(told([&] { load_model(folder.at); }), "config.json"));
    for (const char *text :
         {"", "{", "[]", "3", "{}", "{\"model_type\": \"llama\", \"model_type\": \"llama\"}"}) {
        std::ofstream(folder.at + "/config.json") << text;
        INFO(text);
        CHECK(contains(told([&] { load_model(folder.at); }), "config.json"));
    }
    Parts(tiny_llama()).write(folder.at);
    std::filesystem::resize_file(folder.at + "/model.safetensors", 1000);
    CHECK(contains(told([&] { load_model(folder.at); }), "model.safetensors"));
    std::filesystem::remove(folder.at + "/model.safetensors");
    CHECK(contains(told([&] { load_model(folder.at); }), "model.safetensors"));
}

TEST_CASE("checkpoints: a model is not saved where a file stands") {
    Folder folder;
    std::ofstream(folder.at + "/file") << "here";
    Model m = random_model(tiny_llama());
    CHECK(contains(told([&] { save_model(m, folder.at + "/file"); }), "/file"));
    CHECK(read_text(folder.at + "/file", 100) == "here");
}

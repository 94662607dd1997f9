// 01_llm.cpp: the dense block of DeepSeek LLM (2401.02954) says what its equations say.
//
// The equations stand here once more, token by token, in plain double loops that share nothing with
// the ops. Then what must hold whatever the numbers are: nobody sees the future, only distances
// count. And the paper's table 3.
//
//   [1] the equations in plain doubles   [2] the block equals them   [3] properties   [4] gradients
//   [5] the census
#include <cmath>
#include <filesystem>
#include <unistd.h>

#include "src/base/files.h"
#include "src/infer/decoder.h"
#include "src/model/config.h"
#include "src/model/huggingface.h"
#include "src/model/weights.h"
#include "src/train/training.h"
#include "tests/models.h"

// ------------------------------------------------------------------------ [1] the equations in plain doubles
namespace {
// theta_i = theta^(-2i/d_h); linear: divided by s; YaRN: divided by s where the pair turns less than
// beta_slow times in the original context, untouched above beta_fast turns, a ramp between, straight over the
// pairs. Llama 3 does the same with a ramp that is straight over the turns.
double frequency(const Config &c, int dims, int i) {
    const double f = std::pow(c.theta, -2.0 * i / dims);
    if (c.scaling == rope_plain) return f;
    if (c.scaling == rope_linear) return f / c.factor;
    if (c.scaling == rope_llama3) {
        const double turns = c.original * f / (2 * M_PI);
        const double kept = std::clamp((turns - c.beta_slow) / (c.beta_fast - c.beta_slow), 0.0, 1.0);
        return kept * f + (1 - kept) * f / c.factor;
    }
    const auto pair_that_turns = [&](double r) {
        return dims * std::log(c.original / (2 * M_PI * r)) / (2 * std::log(c.theta));
    };
    const double low = std::max(0.0, std::floor(pair_that_turns(c.beta_fast)));
    const double high = std::min(dims - 1.0, std::ceil(pair_that_turns(c.beta_slow)));
    const double ramp = std::min(1.0, std::max(0.0, (i - low) / (high - low)));
    return (1 - ramp) * f + ramp * f / c.factor;
}

Vec RoPE(const Vec &x, double t, const Config &c) {
    const int dims = (int)x.size();
    const double amplitude = c.scaling == rope_yarn ? 0.1 * std::log(c.factor) + 1 : 1;
    Vec y = x;
    for (int i = 0; i < dims / 2; i++) {
        const bool neighbours = c.pairing == rope_interleaved;
        const int a = neighbours ? 2 * i : i, b = neighbours ? 2 * i + 1 : i + dims / 2;
        const double angle = t * frequency(c, dims, i), cosine = std::cos(angle), sine = std::sin(angle);
        y[a] = amplitude * (x[a] * cosine - x[b] * sine);
        y[b] = amplitude * (x[a] * sine + x[b] * cosine);
    }
    return y;
}

Vec affine_of(const Tensor &W, const Tensor &b, const Vec &x) {  // W x, or W x + b
    Vec y = times(Numbers(W), x);
    if (!b) return y;
    const Numbers B(b);
    for (size_t i = 0; i < y.size(); i++) y[i] += B.v[i];
    return y;
}

// One sequence of normed inputs through the attention: query head i uses key head floor(i n_kv / n_h).
std::vector<Vec> attention_of(const MHA &w, const Config &c, const std::vector<Vec> &x) {
    std::vector<Vec> u;
    for (size_t t = 0; t < x.size(); t++) {
        Vec o;
        for (int i = 0; i < c.n_h; i++) {
            const int kv = i * c.n_kv / c.n_h;
            const Vec q = RoPE(head(affine_of(w.W_Q, w.b_Q, x[t]), i, c.d_h), (double)t, c);
            Vec sum(c.d_h, 0.0);
            double total = 0;
            for (size_t j = 0; j <= t; j++) {                            // causal
                const Vec k = RoPE(head(affine_of(w.W_K, w.b_K, x[j]), kv, c.d_h), (double)j, c);
                const Vec v = head(affine_of(w.W_V, w.b_V, x[j]), kv, c.d_h);
                double score = 0;
                for (int y = 0; y < c.d_h; y++) score += q[y] * k[y];
                const double p = std::exp(score / std::sqrt(c.d_h));
                total += p;
                for (int y = 0; y < c.d_h; y++) sum[y] += p * v[y];
            }
            for (double s : sum) o.push_back(s / total);
        }
        u.push_back(affine_of(w.W_O, w.b_O, o));
    }
    return u;
}

Vec FFN_of(const FFN &w, const Vec &x) {                                 // W_2 (SiLU(W_g x) * W_u x)
    Vec a = affine_of(w.W_g, w.b_g, x);
    const Vec b = affine_of(w.W_u, w.b_u, x);
    for (size_t i = 0; i < a.size(); i++) a[i] = a[i] / (1 + std::exp(-a[i])) * b[i];
    return affine_of(w.W_2, w.b_2, a);
}

Vec plus(Vec x, const Vec &y) {
    for (size_t i = 0; i < x.size(); i++) x[i] += y[i];
    return x;
}

Numbers block_of(const Block &w, const Config &c, const Tensor &h) {
    const Numbers H(h), g_attn(w.g_attn), g_ffn(w.g_ffn);
    const int B = h.shape[0], T = h.shape[1];
    Numbers result(h.shape);
    for (int b = 0; b < B; b++) {
        std::vector<Vec> x;
        for (int t = 0; t < T; t++) x.push_back(RMSNorm(row(H, b * T + t), g_attn, c.eps));
        const std::vector<Vec> attended = attention_of(w.mha, c, x);
        for (int t = 0; t < T; t++) {
            const Vec u = plus(row(H, b * T + t), attended[t]);          // u = x + Attn(RMSNorm(x))
            const Vec y = plus(u, FFN_of(w.ffn, RMSNorm(u, g_ffn, c.eps)));      // y = u + FFN(RMSNorm(u))
            std::copy(y.begin(), y.end(), result.v.begin() + (long)(b * T + t) * c.d);
        }
    }
    return result;
}

// Odd sizes on purpose: nothing is a power of two, and d is not n_h d_h.
Config small() {
    Config c;
    c.attention = Attention::GQA;
    c.V = 11, c.context = 32, c.d = 10, c.n_layers = 2, c.n_h = 6, c.n_kv = 2, c.d_h = 4, c.d_ff = 7;
    c.init_std = 0.4;
    return c;
}

// As at the start of training, but with gains that are not all 1.
double error_of_block(const Config &c) {
    NoGrad off;
    const Model m = random_model(c);
    const Tensor h = randn({2, 9, c.d}, "h", 3);
    return relative_error(block(m.blocks[0], c, h, causal(2, 9), 0), block_of(m.blocks[0], c, h));
}

// A block is a chain of some ten ops. The worst measured of all cases below: float 4.1e-7, double 7.6e-16.
constexpr double block_bar = in_double ? 1e-14 : 1e-6;

Tensor read_at(const Model &m, const Tensor &ids, int from) {   // the trunk, positions shifted by `from`
    Step step = causal(ids);
    std::vector<int> pos = int_values(step.pos);
    for (int &p : pos) p += from;
    step.pos = ::from(pos, ids.shape, "pos");
    return trunk(m, step);
}
}  // namespace

// --------------------------------------------------------------------------------- [2] the block equals them
TEST_CASE("block: multi-head attention equals the paper's equations written out token by token") {
    Config c = small();
    c.attention = Attention::MHA;
    c.n_kv = c.n_h;
    CHECK(error_of_block(c) < block_bar);
}

TEST_CASE("block: grouped-query attention, query head i uses key head floor(i n_kv / n_h)") {
    CHECK(error_of_block(small()) < block_bar);
}

TEST_CASE("block: one key head for all queries") {
    Config c = small();
    c.n_kv = 1;
    CHECK(error_of_block(c) < block_bar);
}

TEST_CASE("block: rotary pairs may be neighbours or halves, and that is not the same") {
    Config c = small();
    c.pairing = rope_interleaved;
    CHECK(error_of_block(c) < block_bar);
    NoGrad off;
    const Model m = random_model(c);
    const Tensor h = randn({1, 5, c.d}, "h", 3);
    const Tensor neighbours = block(m.blocks[0], c, h, causal(1, 5), 0);
    c.pairing = rope_half_split;
    CHECK(relative_error(block(m.blocks[0], c, h, causal(1, 5), 0), neighbours) > 1e-3);
}

TEST_CASE("block: linear scaling divides every frequency by s") {
    Config c = small();
    c.scaling = rope_linear;
    c.factor = 4;
    CHECK(error_of_block(c) < block_bar);
}

TEST_CASE("block: YaRN leaves fast pairs, slows slow pairs s times, stretches q and k by 0.1 ln s + 1") {
    Config c = small();
    c.scaling = rope_yarn;
    c.d_h = 12;
    c.factor = 8;
    c.original = 64;
    c.beta_fast = 4;   // here the ramp begins at pair 0 and ends at pair 2 of 6
    CHECK(error_of_block(c) < block_bar);
}

TEST_CASE(
    "block: Llama 3's scaling leaves fast pairs, slows slow pairs s times, mixes between by the turns") {
    Config c = small();
    c.scaling = rope_llama3;
    c.d_h = 12;
    c.factor = 8;
    c.original = 64;
    c.beta_fast = 4;   // of 6 pairs the first turns 10 times in 64 positions, the second 2.2, the third 0.5
    CHECK(error_of_block(c) < block_bar);
}

TEST_CASE("block: linear maps may add biases, each its own, to every row") {
    Config c = small();
    c.bias_qkv = true;
    CHECK(error_of_block(c) < block_bar);
    c.bias_o = c.bias_ffn = true;
    CHECK(error_of_block(c) < block_bar);
    NoGrad off;                                          // and each of them counts
    Model m = random_model(c);
    const Tensor h = randn({1, 4, c.d}, "h", 3), before = block(m.blocks[0], c, h, causal(1, 4), 0);
    visit(m, [&](const std::string &name, Tensor &w, const Spec &) {
        if (!name.starts_with("blocks.0.") || name.find(".b_") == std::string::npos) return;
        const Tensor kept = clone(w);
        copy_into(w, zeros(w.shape));
        INFO(name);
        CHECK(relative_error(block(m.blocks[0], c, h, causal(1, 4), 0), before) > 1e-3);
        copy_into(w, kept);
    });
}

TEST_CASE("block: YaRN's stretch of cos and sin can be given, or be the ratio of two temperatures") {
    Config c = small();
    c.scaling = rope_yarn;
    c.factor = 8;
    const auto stretch_of = [](const Config &c) {        // of a query at position 0, where nothing turns
        NoGrad off;
        const Model m = random_model(c);
        const Tensor h = randn({1, 1, c.d}, "h", 3);
        double stretch = 0;
        const auto before = op_hook;
        op_hook.after = [&](const Call &call, bool, double) {
            if (call.op == op_rope) stretch = numbers_of(call.out[0])[0] / numbers_of(call.in[0])[0];
        };
        mha(m.blocks[0].mha, c, h, causal(1, 1), nullptr);
        op_hook = before;
        return stretch;
    };
    CHECK(stretch_of(c) == doctest::Approx(0.1 * std::log(8) + 1).epsilon(1e-6));
    c.mscale = 2, c.mscale_all_dim = 0.5;
    CHECK(stretch_of(c) == doctest::Approx((0.2 * std::log(8) + 1) / (0.05 * std::log(8) + 1)).epsilon(1e-6));
    c.attention_factor = 1.7;                            // wins over both
    CHECK(stretch_of(c) == doctest::Approx(1.7).epsilon(1e-6));
}

TEST_CASE("trunk: embedding, blocks, final norm, nothing else") {
    NoGrad off;
    const Model m = random_model(small());
    const std::vector<int> tokens = {3, 1, 4, 1, 5};
    const Tensor ids = from(tokens, {1, 5}, "ids");
    Numbers x({1, 5, m.c.d});
    const Numbers Emb(m.Emb), g(m.g);
    for (int t = 0; t < 5; t++)
        for (int i = 0; i < m.c.d; i++) x(0, t, i) = Emb.v[tokens[t] * m.c.d + i];
    std::vector<real> h(x.v.begin(), x.v.end());
    for (int l = 0; l < 2; l++) {   // rounded to real between the blocks, as the trunk's h is
        const Numbers y = block_of(m.blocks[l], m.c, from(h, x.shape));
        h.assign(y.v.begin(), y.v.end());
    }
    x.v.assign(h.begin(), h.end());
    Numbers expected(x.shape);
    for (int t = 0; t < 5; t++) {
        const Vec y = RMSNorm(row(x, t), g, m.c.eps);
        std::copy(y.begin(), y.end(), expected.v.begin() + t * m.c.d);
    }
    CHECK(relative_error(trunk(m, causal(ids)), expected) < block_bar);
}

// -------------------------------------------------------------------------------------------- [3] properties
TEST_CASE("trunk: a later token changes nothing before it, not a bit") {
    NoGrad off;
    const Model m = random_model(small());
    const std::vector<int> tokens = random_ints(12, m.c.V, 7);
    const std::vector<real> before = values(trunk(m, causal(from(tokens, {1, 12}, "ids"))));
    for (int t = 0; t < 12; t++) {
        std::vector<int> other = tokens;
        other[t] = (other[t] + 1) % m.c.V;
        const std::vector<real> after = values(trunk(m, causal(from(other, {1, 12}, "ids"))));
        INFO("token ", t);
        CHECK(std::equal(before.begin(), before.begin() + t * m.c.d, after.begin()));
        CHECK(!std::equal(before.begin() + t * m.c.d, before.begin() + (t + 1) * m.c.d,
                          after.begin() + t * m.c.d));
    }
}

TEST_CASE("trunk: sequences of a batch do not see each other") {
    NoGrad off;
    const Model m = random_model(small());
    const std::vector<int> tokens = random_ints(3 * 8, m.c.V, 7);
    const std::vector<real> together = values(trunk(m, causal(from(tokens, {3, 8}, "ids"))));
    for (int b = 0; b < 3; b++) {
        const std::vector<int> one(tokens.begin() + b * 8, tokens.begin() + (b + 1) * 8);
        const std::vector<real> alone = values(trunk(m, causal(from(one, {1, 8}, "ids"))));
        CHECK(std::equal(alone.begin(), alone.end(), together.begin() + (long)b * 8 * m.c.d));
    }
}

// Far angles are rounded more coarsely: ten radians to 1e-6 in float. Measured, worst of the scalings and of
// 40 seeds: float 2.5e-6, double 5.3e-15.
TEST_CASE("trunk: only relative positions count, shifting every token by 1000 changes nothing") {
    NoGrad off;
    for (RopeScaling scaling : {rope_plain, rope_linear, rope_yarn, rope_llama3}) {
        Config c = small();
        c.scaling = scaling;
        c.factor = scaling == rope_plain ? 1 : 4;
        const Model m = random_model(c);
        const Tensor ids = from(random_ints(10, c.V, 7), {1, 10}, "ids");
        CHECK(relative_error(read_at(m, ids, 1000), read_at(m, ids, 0)) < (in_double ? 1e-14 : 5e-6));
    }
}

TEST_CASE("trunk: but the order of tokens counts") {
    NoGrad off;
    Config c = small();
    c.n_layers = 1;   // without rotation, one layer sees earlier tokens as a set
    const Model m = random_model(c);
    const Tensor a = trunk(m, causal(from(std::vector<int>{1, 2, 3}, {1, 3}, "ids")));
    const Tensor b = trunk(m, causal(from(std::vector<int>{2, 1, 3}, {1, 3}, "ids")));
    CHECK(relative_error(slice(a, 1, 2, 1), slice(b, 1, 2, 1)) > 1e-3);
}

// --------------------------------------------------------------------------------------------- [4] gradients
TEST_CASE("mha: gradient of every weight, with MHA, GQA and one key head") {
    for (int n_kv : {4, 2, 1}) {
        Config c = small();
        c.d = 6, c.n_h = 4, c.n_kv = n_kv, c.d_h = 4;
        const Model m = random_model(c);
        const MHA &w = m.blocks[0].mha;
        const Tensor h = randn({2, 3, c.d}, "h", 3);
        check_gradient([&] { return mha(w, c, h, causal(2, 3), nullptr); }, {h, w.W_Q, w.W_K, w.W_V, w.W_O});
    }
}

TEST_CASE("block: gradient of every weight and of the input") {
    Config c = small();
    c.d = 6, c.n_h = 2, c.n_kv = 1, c.d_h = 4, c.d_ff = 5;
    const Model m = random_model(c);
    const Block &w = m.blocks[0];
    const Tensor h = randn({1, 4, c.d}, "h", 3);
    check_gradient(
        [&] { return block(w, c, h, causal(1, 4), 0); },
        {h, w.g_attn, w.mha.W_Q, w.mha.W_K, w.mha.W_V, w.mha.W_O, w.g_ffn, w.ffn.W_g, w.ffn.W_u, w.ffn.W_2});
}

TEST_CASE("block: gradient of every bias") {
    Config c = small();
    c.d = 6, c.n_h = 2, c.n_kv = 1, c.d_h = 4, c.d_ff = 5;
    c.bias_qkv = c.bias_o = c.bias_ffn = true;
    const Model m = random_model(c);
    const MHA &a = m.blocks[0].mha;
    const FFN &f = m.blocks[0].ffn;
    const Tensor h = randn({1, 4, c.d}, "h", 3);
    check_gradient([&] { return block(m.blocks[0], c, h, causal(1, 4), 0); },
                   {h, a.b_Q, a.b_K, a.b_V, a.b_O, f.b_g, f.b_u, f.b_2});
}

TEST_CASE("tied head: the embedding's gradient is the sum of both its uses") {
    const auto gradients = [](const Model &m) {
        const TapeGuard clear;
        zero_grad(m.Emb);
        if (m.head) zero_grad(m.head);
        const Batch b = make_batch(examples({{3, 1, 4, 1, 5, 9, 2, 6}}), 0);
        backward(language_modelling(m, b).total);
        NoGrad off;
        return m.head ? add(gradient(m.Emb), gradient(m.head)) : clone(gradient(m.Emb));
    };
    Config c = small();
    Model untied = random_model(c);
    c.tied = true;
    Model tied = random_model(c);
    copy_into(untied.Emb, tied.Emb);
    copy_into(untied.head, tied.Emb);
    CHECK(!tied.head);
    CHECK(relative_error(gradients(tied), gradients(untied)) < block_bar);
}

// -------------------------------------------------------------------------------------------- [5] the census
namespace {
double printed(double x, int digits) {                   // as a table prints it
    char text[40];
    snprintf(text, sizeof text, "%.*e", digits - 1, x);
    return atof(text);
}

Config dense(int n_layers, int d) {
    Config c;
    c.V = 102400, c.context = 4096, c.n_layers = n_layers, c.d = d, c.d_h = 64, c.n_h = c.n_kv = d / 64;
    c.d_ff = (int)std::lround(8.0 / 3 * d);
    return c;
}

long part(const Census &n, const std::string &name) {
    for (const Census::Part &p : n.parts)
        if (p.name == name) return p.total;
    FAIL("the census has no part ", name);
    return 0;
}
}  // namespace

TEST_CASE("census: DeepSeek LLM table 3, N1, N2 and M to the printed digits") {
    struct Row {
        int n_layers, d;
        double N1, N2, M, ratio1, ratio2;
    };
    for (const Row &r : {Row{8, 512, 25.2e6, 77.6e6, 352e6, 0.43, 1.32},
                         {12, 768, 84.9e6, 164e6, 963e6, 0.53, 1.02},
                         {24, 1024, 302e6, 407e6, 3.02e9, 0.60, 0.81},
                         {24, 2048, 1.21e9, 1.42e9, 9.66e9, 0.75, 0.88},
                         {32, 4096, 6.44e9, 6.86e9, 45.1e9, 0.86, 0.91},
                         {40, 5120, 12.6e9, 13.1e9, 85.6e9, 0.88, 0.92},
                         {80, 8192, 64.4e9, 65.3e9, 419e9, 0.92, 0.94}}) {
        INFO("d = ", r.d, ", ", r.n_layers, " layers");
        const Census n = census(dense(r.n_layers, r.d));
        const double N1 = (double)part(n, "attention") + (double)part(n, "dense FFN");
        const double N2 = N1 + (double)part(n, "output head"), M = nominal_flops(r.n_layers, r.d, 4096);
        CHECK(printed(N1, 3) == printed(r.N1, 3));
        CHECK(printed(N2, 3) == printed(r.N2, 3));
        CHECK(printed(M, 3) == printed(r.M, 3));
        CHECK(std::round(100 * 6 * N1 / M) ==
              std::round(100 * r.ratio1));   // the fifth is printed as 0.85: cut off
        CHECK(std::round(100 * 6 * N2 / M) == std::round(100 * r.ratio2));
    }
}

TEST_CASE("census: 183.5 and 2057.5 TFLOPs per 4K tokens, as DeepSeekMoE prints for 7B and 67B") {
    const auto per_sequence = [](int n_layers, double d) {
        return (nominal_flops(n_layers, (int)d, 4096) + 6 * 102400 * d) * 4096;
    };
    CHECK(printed(per_sequence(30, 4096), 4) == 183.5e12);
    CHECK(printed(per_sequence(95, 8192), 5) == 2057.5e12);
}

TEST_CASE("census: the 7B model has 6,910,365,696 parameters, the 67B model 67,425,001,472") {
    CHECK(census(load_preset("deepseek-llm-7b")).total == 6'910'365'696);
    CHECK(census(load_preset("deepseek-llm-67b")).total == 67'425'001'472);
}

namespace {
// A config.json as it was published, as far as it matters here.
Census published(const std::string &text, const std::string &only_counted = "") {
    std::string file = (std::filesystem::temp_directory_path() / "config-XXXXXX").string();
    close(mkstemp(file.data()));
    write_atomically(file, text);
    std::vector<std::string> cannot;
    const Config c = load_config_for_census(file, cannot);
    std::filesystem::remove(file);
    CHECK(cannot.empty() == only_counted.empty());
    if (!cannot.empty()) CHECK(cannot[0].find(only_counted) != std::string::npos);
    return census(c);
}
}  // namespace

TEST_CASE("census: published config.json files have the parameters that are published") {
    const char *llama = R"({"model_type": "llama", "attention_bias": false, "bos_token_id": 128000,
        "eos_token_id": [128001, 128008, 128009], "head_dim": 64, "hidden_act": "silu", "hidden_size": 2048,
        "initializer_range": 0.02, "intermediate_size": 8192, "max_position_embeddings": 131072,
        "mlp_bias": false, "num_attention_heads": 32, "num_hidden_layers": 16, "num_key_value_heads": 8,
        "rms_norm_eps": 1e-05, "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0,
        "low_freq_factor": 1.0, "original_max_position_embeddings": 8192, "rope_type": "llama3"},
        "rope_theta": 500000.0, "tie_word_embeddings": true, "vocab_size": 128256})";
    CHECK(published(llama).total == 1'235'814'400);      // Llama-3.2-1B
    const char *qwen = R"({"model_type": "qwen2", "bos_token_id": 151643, "eos_token_id": 151643,
        "hidden_act": "silu", "hidden_size": 896, "intermediate_size": 4864,
        "max_position_embeddings": 131072, "max_window_layers": 24,
        "num_attention_heads": 14, "num_hidden_layers": 24, "num_key_value_heads": 2,
        "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 131072,
        "tie_word_embeddings": true, "use_sliding_window": false, "vocab_size": 151936})";
    CHECK(published(qwen).total == 494'032'768);         // Qwen2-0.5B
    const char *mistral = R"({"model_type": "mistral", "hidden_act": "silu", "hidden_size": 4096,
        "intermediate_size": 14336, "max_position_embeddings": 32768, "num_attention_heads": 32,
        "num_hidden_layers": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-05, "sliding_window": 4096,
        "tie_word_embeddings": false, "vocab_size": 32000})";
    CHECK(published(mistral, "sliding_window").total == 7'241'732'096);          // Mistral-7B-v0.1
    const char *lite = R"({"model_type": "deepseek_v2", "first_k_dense_replace": 1, "hidden_size": 2048,
        "intermediate_size": 10944, "kv_lora_rank": 512, "max_position_embeddings": 163840,
        "moe_intermediate_size": 1408, "n_group": 1, "n_routed_experts": 64, "n_shared_experts": 2,
        "num_attention_heads": 16, "num_experts_per_tok": 6, "num_hidden_layers": 27,
        "num_key_value_heads": 16, "q_lora_rank": null, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
        "scoring_func": "softmax", "topk_method": "greedy", "v_head_dim": 128, "vocab_size": 102400})";
    CHECK(published(lite).total == 15'706'484'224);       // DeepSeek-V2-Lite
    const char *v3 = R"({"model_type": "deepseek_v3", "first_k_dense_replace": 3, "hidden_size": 7168,
        "intermediate_size": 18432, "kv_lora_rank": 512, "max_position_embeddings": 163840,
        "moe_intermediate_size": 2048, "n_group": 8, "n_routed_experts": 256, "n_shared_experts": 1,
        "num_attention_heads": 128, "num_experts_per_tok": 8, "num_hidden_layers": 61,
        "num_key_value_heads": 128, "q_lora_rank": 1536, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
        "quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]},
        "topk_group": 4, "v_head_dim": 128, "vocab_size": 129280})";
    CHECK(published(v3, "quantization_config").total == census(load_preset("deepseek-v3")).total);
    CHECK_THROWS_AS(published(R"({"model_type": "gpt2", "n_embd": 768})"), Error);
}

TEST_CASE("census: a cache of n_kv heads, and FLOPs with every pair of positions counted") {
    const Census b67 = census(load_preset("deepseek-llm-67b"));
    CHECK(b67.cache_numbers == 2 * 8 * 128);
    CHECK(b67.cache_numbers_MHA == 2 * 64 * 128);
    const Census b7 =
        census(load_preset("deepseek-llm-7b"));   // MHA and n_h d_h = d: only the FFN is not 8/3 d
    const double nominal = nominal_flops(30, 4096, 4096) + 6.0 * 102400 * 4096;
    const double wider = 6.0 * 30 * 3 * 4096 * 11008 - 6.0 * 30 * 8 * 4096 * 4096;
    CHECK(b7.flops_per_token == doctest::Approx(nominal + wider).epsilon(1e-12));
}

TEST_CASE("census: counts what is built, of every preset that a test can hold") {
    for (const char *name : {"llm-nano", "llm-tiny", "v3-nano", "v3-tiny"}) {
        const Config c = load_preset(name);
        Model m = build(c);
        long trunk = 0, modules = 0;
        visit(m, [&](const std::string &weight, Tensor &w, const Spec &spec) {
            if (spec.group != Group::bias) (weight.starts_with("mtp.") ? modules : trunk) += w.numel();
        });
        const Census n = census(c);
        INFO(std::string(name));
        CHECK(n.total == trunk);
        if (c.D) CHECK(part(n, "MTP modules") == modules);
    }
}

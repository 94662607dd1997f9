// 03_mla.cpp: Multi-head Latent Attention says what DeepSeek-V2 (2405.04434) section 2.1 says.
//
// First the equations (9)-(19) once more, token by token in plain double loops that share nothing with
// the ops. Then the two claims that make MLA what it is: the absorbed form is the same function, and its
// cache holds d_c + d_hR numbers a token. A wrong MLA that is wrong everywhere passes gradient checks
// and parity; here it does not.
//
//   [1] the equations in plain doubles   [2] mla equals them   [3] absorption   [4] the cache   [5] gradients
#include <cmath>

#include "src/infer/decoder.h"
#include "src/model/config.h"
#include "src/model/huggingface.h"
#include "src/model/weights.h"
#include "src/train/training.h"
#include "tests/models.h"

// ------------------------------------------------------------------------ [1] the equations in plain doubles
namespace {
constexpr double latent_eps = 1e-6;                      // of the latents' norms, whatever eps says
double dot(const Vec &a, const Vec &b) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); i++) sum += a[i] * b[i];
    return sum;
}

// Neighbours (x_2i, x_2i+1) turn by t theta^(-2i/d_hR), slower with YaRN (V2 section 3.1.4).
Vec RoPE(const Vec &x, int t, const Config &c) {
    Vec y = x;
    const double two_log = 2 * std::log(c.theta);
    const double low =
        std::max(0.0, std::floor(c.d_hR * std::log(c.original / (2 * M_PI * c.beta_fast)) / two_log));
    const double high =
        std::min(c.d_hR - 1.0, std::ceil(c.d_hR * std::log(c.original / (2 * M_PI * c.beta_slow)) / two_log));
    for (int i = 0; i < c.d_hR / 2; i++) {
        double f = std::pow(c.theta, -2.0 * i / c.d_hR);
        const double ramp = std::min(1.0, std::max(0.0, (i - low) / (high - low)));
        if (c.scaling == rope_yarn) f = (1 - ramp) * f + ramp * f / c.factor;
        y[2 * i] = x[2 * i] * std::cos(t * f) - x[2 * i + 1] * std::sin(t * f);
        y[2 * i + 1] = x[2 * i] * std::sin(t * f) + x[2 * i + 1] * std::cos(t * f);
    }
    return y;
}

// Temperature: with mscale = mscale_all_dim = k the scores are multiplied by (0.1 k
// ln s + 1)^2, cos and sin by 1.
double temperature(const Config &c) {
    return c.scaling == rope_yarn ? std::pow(0.1 * c.mscale_all_dim * std::log(c.factor) + 1, 2) : 1;
}

// One token's part of the equations; i runs over the heads.
struct Token { std::vector<Vec> q, k, v_C; };

Token token_of(const MLA &w, const Config &c, const Vec &h, int t) {
    const Vec c_Q = w.W_DQ ? RMSNorm(times(Numbers(w.W_DQ), h), Numbers(w.g_q), latent_eps) : h;    // V2 (12)
    const Vec q_C = times(Numbers(w.W_UQ), c_Q);                                                 // V2 (13)
    const Vec W_QR_c_Q = times(Numbers(w.W_QR), c_Q);
    const Vec c_KV = RMSNorm(times(Numbers(w.W_DKV), h), Numbers(w.g_kv), latent_eps);               // V2 (9)
    const Vec k_C = times(Numbers(w.W_UK), c_KV);                                                // V2 (10)
    const Vec v_C = times(Numbers(w.W_UV), c_KV);                                                // V2 (11)
    const Vec k_R = RoPE(times(Numbers(w.W_KR), h), t, c);                                       // V2 (15)
    Token token;
    for (int i = 0; i < c.n_h; i++) {
        const Vec q_R = RoPE(head(W_QR_c_Q, i, c.d_hR), t, c);                                   // V2 (14)
        Vec q = head(q_C, i, c.d_h), k = head(k_C, i, c.d_h);
        q.insert(q.end(), q_R.begin(), q_R.end());                                               // V2 (16)
        k.insert(k.end(), k_R.begin(), k_R.end());                                               // V2 (17)
        token.q.push_back(q);
        token.k.push_back(k);
        token.v_C.push_back(head(v_C, i, c.d_v));
    }
    return token;
}

Numbers mla_of(const MLA &w, const Config &c, const Tensor &h) {
    const Numbers H(h), W_O(w.W_O);
    const int B = h.shape[0], T = h.shape[1];
    Numbers result(h.shape);
    for (int b = 0; b < B; b++) {
        std::vector<Token> tokens;
        for (int t = 0; t < T; t++) {
            const auto at = H.v.begin() + (long)(b * T + t) * c.d;
            tokens.push_back(token_of(w, c, Vec(at, at + c.d), t));
            Vec o;
            for (int i = 0; i < c.n_h; i++) {                                                    // V2 (18)
                Vec o_i(c.d_v, 0.0);
                double total = 0;
                for (int j = 0; j <= t; j++) {
                    const double score = dot(tokens[t].q[i], tokens[j].k[i]) / std::sqrt(c.d_h + c.d_hR);
                    const double p = std::exp(temperature(c) * score);
                    total += p;
                    for (int y = 0; y < c.d_v; y++) o_i[y] += p * tokens[j].v_C[i][y];
                }
                for (double x : o_i) o.push_back(x / total);
            }
            const Vec u = times(W_O, o);                                                         // V2 (19)
            std::copy(u.begin(), u.end(), result.v.begin() + (long)(b * T + t) * c.d);
        }
    }
    return result;
}

// Every size is another number, so that none can stand for another.
Config small() {
    Config c;
    c.attention = Attention::MLA;
    c.pairing = rope_interleaved;
    c.V = 11, c.context = 32, c.d = 10, c.n_layers = 1, c.n_h = 3, c.n_kv = 3, c.d_h = 5, c.d_v = 4,
    c.d_hR = 6;
    c.d_c = 7, c.d_cq = 8, c.d_ff = 9;
    c.init_std = 0.4;
    return c;
}
Config without_compression() {
    Config c = small();
    c.d_cq = 0;
    return c;
}
Config with_yarn() {
    Config c = small();
    c.scaling = rope_yarn;
    c.factor = 40, c.original = 64, c.beta_fast = 4, c.mscale = c.mscale_all_dim = 0.707;
    return c;
}

double error_of_mla(const Config &c) {
    NoGrad off;
    const Model m = random_model(c);
    const Tensor h = randn({2, 9, c.d}, "h", 3);
    return relative_error(mla(m.blocks[0].mla, c, h, causal(2, 9)), mla_of(m.blocks[0].mla, c, h));
}

// The worst measured of all cases below: float 3.6e-7, double 7.6e-16.
constexpr double mla_bar = in_double ? 1e-14 : 1e-6;

Step with_cache(int B, int T) {                          // an empty cache, filled by this very call
    Step step = causal(B, T);
    step.at = step.pos;
    return step;
}

double difference_of_absorbed(const Config &c) {
    NoGrad off;
    const Model m = random_model(c);
    const MLA &w = m.blocks[0].mla;
    const int T = 40;
    const Tensor h = randn({2, T, c.d}, "h", 3);
    Caches caches = make_caches(c, 2, T);
    return relative_error(mla_absorbed(w, c, h, with_cache(2, T), caches.layers[0].latent),
                          mla(w, c, h, causal(2, T)));
}
}  // namespace

// --------------------------------------------------------------------------------------- [2] mla equals them
TEST_CASE("mla: equals V2 (9)-(19) written out token by token, d_v another than d_h") {
    CHECK(error_of_mla(small()) < mla_bar);
}

TEST_CASE("mla: without query compression W_UQ and W_QR act on h itself") {
    const Model m = random_model(without_compression());
    CHECK(!m.blocks[0].mla.W_DQ);
    CHECK(error_of_mla(without_compression()) < mla_bar);
}

TEST_CASE("mla: YaRN on the rotary part, and its temperature squared on the whole score") {
    CHECK(error_of_mla(with_yarn()) < mla_bar);
}

TEST_CASE("mla: V2's temperature multiplies content scores by 1.58963") {
    Config c = small();
    c.scaling = rope_yarn;
    c.factor = 40, c.mscale = c.mscale_all_dim = 0.707;
    const auto scale_of = [](const Config &c) {
        NoGrad off;
        const Model m = random_model(c);
        double scale = 0;
        const auto before = op_hook;
        op_hook.after = [&](const Call &call, bool, double) {
            if (call.op == op_attention) scale = call.a.scale;
        };
        mla(m.blocks[0].mla, c, randn({1, 2, c.d}, "h", 3), causal(1, 2));
        op_hook = before;
        return scale;
    };
    const double exact = in_double ? 1e-12 : 1e-7;   // an attribute is as exact as the numbers it multiplies
    CHECK(scale_of(small()) == doctest::Approx(1 / std::sqrt(5 + 6)).epsilon(exact));
    CHECK(scale_of(c) * std::sqrt(5 + 6) == doctest::Approx(1.58963).epsilon(2e-6));  // five printed decimals
    c.mscale_all_dim = 0;                            // not given: cos and sin carry it, the scale does not
    CHECK(scale_of(c) * std::sqrt(5 + 6) == doctest::Approx(1).epsilon(exact));
}

TEST_CASE("mla: without a rotary part in the queries positions do not matter") {
    NoGrad off;
    const Model m = random_model(small());
    MLA w = m.blocks[0].mla;
    w.W_QR = zeros(w.W_QR.shape);
    const Tensor h = randn({1, 6, m.c.d}, "h", 3);
    Step far = causal(1, 6);
    far.pos = from(std::vector<int>{9, 3, 3, 20, 1, 7}, {1, 6}, "pos");
    CHECK(same_bits(mla(w, m.c, h, far), mla(w, m.c, h, causal(1, 6))));
    far.where = causal(1, 6).where;
    CHECK(!same_bits(mla(m.blocks[0].mla, m.c, h, far), mla(m.blocks[0].mla, m.c, h, causal(1, 6))));
}

TEST_CASE("mla: rotary pairs are neighbours, halves are another function") {
    NoGrad off;
    Config c = small();
    const Model m = random_model(c);
    const Tensor h = randn({1, 6, c.d}, "h", 3);
    const Tensor neighbours = mla(m.blocks[0].mla, c, h, causal(1, 6));
    c.pairing = rope_half_split;
    CHECK(relative_error(mla(m.blocks[0].mla, c, h, causal(1, 6)), neighbours) > 1e-3);
}

// Measured: float 2.7e-7, double 2e-16.
TEST_CASE("mla: sees only relative positions, shifting every token by 1000 changes nothing") {
    NoGrad off;
    const Model m = random_model(small());
    const Tensor h = randn({1, 8, m.c.d}, "h", 3);
    Step shifted = causal(1, 8);
    std::vector<int> pos = int_values(shifted.pos);
    for (int &p : pos) p += 1000;
    shifted.pos = from(pos, {1, 8}, "pos");
    const MLA &w = m.blocks[0].mla;
    CHECK(relative_error(mla(w, m.c, h, shifted), mla(w, m.c, h, causal(1, 8))) < (in_double ? 1e-14 : 2e-6));
}

TEST_CASE("mla: a later token changes nothing before it, not a bit") {
    NoGrad off;
    const Model m = random_model(small());
    const Tensor h = randn({1, 8, m.c.d}, "h", 3);
    const std::vector<real> before = values(mla(m.blocks[0].mla, m.c, h, causal(1, 8)));
    std::vector<real> moved = values(h);
    for (int i = 5 * m.c.d; i < 6 * m.c.d; i++) moved[i] += 1;
    const std::vector<real> after = values(mla(m.blocks[0].mla, m.c, from(moved, h.shape), causal(1, 8)));
    CHECK(std::equal(before.begin(), before.begin() + 5 * m.c.d, after.begin()));
    CHECK(!std::equal(before.begin() + 5 * m.c.d, before.begin() + 6 * m.c.d, after.begin() + 5 * m.c.d));
}

// With W_UK = 0 the scores come from q_R . k_R alone. If k_R were made of c_KV, they would move with W_DKV;
// if it were normed like c_KV, they would not double with W_KR.
TEST_CASE("mla: the rotary key comes from h and not from the latent, and is not normed") {
    const Config c = small();
    const Model m = random_model(c);
    MLA w = m.blocks[0].mla;
    w.W_UK = zeros(w.W_UK.shape);
    const Tensor h = randn({1, 6, c.d}, "h", 3);
    struct Seen { Tensor q, k; };
    const auto scores = [&](const MLA &w) {              // what the attention is given
        NoGrad off;
        Seen seen;
        const auto before = op_hook;
        op_hook.after = [&](const Call &call, bool, double) {
            if (call.op != op_attention) return;
            const std::vector<double> q = numbers_of(call.in[0]), k = numbers_of(call.in[1]);
            seen.q = from(std::vector<real>(q.begin(), q.end()), call.in[0].shape);
            seen.k = from(std::vector<real>(k.begin(), k.end()), call.in[1].shape);
        };
        mla(w, c, h, causal(1, 6));
        op_hook = before;
        return seen;
    };
    const Seen first = scores(w);
    MLA other = w;
    other.W_DKV = randn(w.W_DKV.shape, "W_DKV", 77);
    CHECK(same_bits(scores(other).k, first.k));
    other = w;
    {
        NoGrad off;
        other.W_KR = ::times(w.W_KR, 2);
        CHECK(same_bits(scores(other).k, ::times(first.k, 2)));
    }
    for (int i = 1; i < c.n_h; i++) {                    // and one for all heads
        NoGrad off;
        CHECK(same_bits(slice(first.k, 2, i, 1), slice(first.k, 2, 0, 1)));
    }
}

// -------------------------------------------------------------------------------------------- [3] absorption
// The products are taken in another order, sums of d_c terms instead of d_h: rounding is all that may differ.
// The worst measured: float 4.1e-7, double 4.8e-16.
constexpr double absorbed_bar = in_double ? 1e-14 : 1e-6;

TEST_CASE("mla absorbed: equals the naive form, with d_v another than d_h") {
    CHECK(difference_of_absorbed(small()) < absorbed_bar);
}
TEST_CASE("mla absorbed: equals the naive form without query compression") {
    CHECK(difference_of_absorbed(without_compression()) < absorbed_bar);
}
TEST_CASE("mla absorbed: equals the naive form with YaRN's temperature") {
    CHECK(difference_of_absorbed(with_yarn()) < absorbed_bar);
}

TEST_CASE("mla absorbed: equals the naive form over 200 tokens and a latent of 64") {
    Config c = small();
    c.n_h = c.n_kv = 4, c.d = 64, c.d_h = c.d_v = 16, c.d_hR = 8, c.d_c = 64, c.d_cq = 48, c.context = 200,
    c.init_std = 0.1;
    NoGrad off;
    const Model m = random_model(c);
    const Tensor h = randn({1, 200, c.d}, "h", 3);
    Caches caches = make_caches(c, 1, 200);
    const Tensor absorbed = mla_absorbed(m.blocks[0].mla, c, h, with_cache(1, 200), caches.layers[0].latent);
    CHECK(relative_error(absorbed, mla(m.blocks[0].mla, c, h, causal(1, 200))) < absorbed_bar);
}

TEST_CASE("mla absorbed: one token at a time from the cache gives the bits of all at once") {
    NoGrad off;
    const Model m = random_model(small());
    const MLA &w = m.blocks[0].mla;
    const int T = 11;
    const Tensor h = randn({1, T, m.c.d}, "h", 3);
    Caches all = make_caches(m.c, 1, T), grown = make_caches(m.c, 1, T);
    const Tensor once = mla_absorbed(w, m.c, h, with_cache(1, T), all.layers[0].latent);
    for (int t = 0; t < T; t++) {
        const Tensor pos = from(std::vector<int>{t}, {1, 1}, "pos");
        const Step step = {
            .pos = pos, .where = {from(std::vector<int>{0, t}, {1, 1, 2}, "where")}, .at = pos};
        const Tensor u = mla_absorbed(w, m.c, slice(h, 1, t, 1), step, grown.layers[0].latent);
        INFO("token ", t);
        CHECK(same_bits(u, slice(once, 1, t, 1)));
    }
    CHECK(same_bits(grown.layers[0].latent, all.layers[0].latent));
}

// --------------------------------------------------------------------------------------------- [4] the cache
TEST_CASE("mla cache: holds the normed latent and the turned rotary key, d_c + d_hR numbers a token") {
    NoGrad off;
    const Config c = small();
    const Model m = random_model(c);
    const MLA &w = m.blocks[0].mla;
    const Tensor h = randn({1, 5, c.d}, "h", 3);
    Caches caches = make_caches(c, 1, 5);
    mla_absorbed(w, c, h, with_cache(1, 5), caches.layers[0].latent);
    Numbers expected({1, 5, 1, c.d_c + c.d_hR});
    const Numbers H(h);
    for (int t = 0; t < 5; t++) {
        const Vec h_t(H.v.begin() + t * c.d, H.v.begin() + (t + 1) * c.d);
        Vec row = RMSNorm(times(Numbers(w.W_DKV), h_t), Numbers(w.g_kv), latent_eps);
        const Vec k_R = RoPE(times(Numbers(w.W_KR), h_t), t, c);
        row.insert(row.end(), k_R.begin(), k_R.end());
        std::copy(row.begin(), row.end(), expected.v.begin() + t * (c.d_c + c.d_hR));
    }
    CHECK(relative_error(caches.layers[0].latent, expected) < mla_bar);
    CHECK(!caches.layers[0].k);
}

TEST_CASE("census: V2's and V3's shape caches 576 numbers a token and layer, multi-head attention 32768") {
    const Census n = census(load_preset("deepseek-v3"));
    CHECK(n.cache_numbers == 576);
    CHECK(n.cache_numbers_MHA == 32768);
}

TEST_CASE("census: a cache saves 98.2% against MHA, 82.2% against 67B's GQA, 93.3% with 6 bits a number") {
    const double mla = 60.0 * census(load_preset("deepseek-v3")).cache_numbers;          // V2 has 60 layers
    const double mha = 60.0 * census(load_preset("deepseek-v3")).cache_numbers_MHA;
    const double gqa = 95.0 * census(load_preset("deepseek-llm-67b")).cache_numbers;
    CHECK(mla == 34560);
    CHECK(mha == 1966080);
    CHECK(gqa == 194560);
    const auto saved = [](double now, double before) { return std::round(1000 * (1 - now / before)) / 10; };
    CHECK(saved(mla, mha) == 98.2);
    CHECK(saved(mla, gqa) == 82.2);
    CHECK(saved(mla * 6, gqa * 16) == 93.3);
}

TEST_CASE("caches: what is allocated for decoding is what the census says") {
    for (const char *name : {"v3-nano", "llm-nano"}) {
        const Config c = load_preset(name);
        const Caches caches = make_caches(c, 3, 7);
        long numbers = 0;
        for (const LayerCache &l : caches.layers)
            for (const Tensor *cache : {&l.latent, &l.k, &l.v}) numbers += *cache ? cache->numel() : 0;
        INFO(std::string(name));
        CHECK(numbers == 3 * 7 * c.n_layers * census(c).cache_numbers);
    }
}

// --------------------------------------------------------------------------------------------- [5] gradients
TEST_CASE("mla: gradient of every weight and of the input") {
    Config c = small();
    c.d = 6, c.n_h = c.n_kv = 2, c.d_h = 3, c.d_v = 2, c.d_hR = 4, c.d_c = 4, c.d_cq = 5;
    const Model m = random_model(c);
    const MLA &w = m.blocks[0].mla;
    const Tensor h = randn({2, 3, c.d}, "h", 3);
    check_gradient([&] { return mla(w, c, h, causal(2, 3)); },
                   {h, w.W_DQ, w.g_q, w.W_UQ, w.W_QR, w.W_DKV, w.g_kv, w.W_KR, w.W_UK, w.W_UV, w.W_O});
}

TEST_CASE("mla: gradient without query compression, with YaRN") {
    Config c = with_yarn();
    c.d = 6, c.n_h = c.n_kv = 2, c.d_h = 3, c.d_v = 2, c.d_hR = 4, c.d_c = 4, c.d_cq = 0;
    const Model m = random_model(c);
    const MLA &w = m.blocks[0].mla;
    const Tensor h = randn({1, 4, c.d}, "h", 3);
    check_gradient([&] { return mla(w, c, h, causal(1, 4)); },
                   {h, w.W_UQ, w.W_QR, w.W_DKV, w.g_kv, w.W_KR, w.W_UK, w.W_UV, w.W_O});
}

// decoder.cpp: decoding says what the full forward says, however the tokens come: one by one, in chunks, side
// by side with shorter and longer neighbours. On the CPU that holds to the bit, because a row's bits do not
// depend on the rows beside it; so these cases compare bits, and only naive against absorbed MLA, another
// order of products, is compared within rounding.
//
//   [1] decode, prefill and the full forward   [2] generate   [3] evaluate   [4] what is refused
#include <algorithm>
#include <cmath>

#include "src/infer/decoder.h"
#include "src/model/config.h"
#include "src/model/huggingface.h"
#include "src/model/weights.h"
#include "src/train/training.h"
#include "tests/models.h"

namespace {
// Latent cache and experts; KV cache; and sizes that are no multiples of anything, without query compression.
std::vector<Config> shapes() {
    Config odd = load_preset("v3-nano");
    odd.name = "odd";
    odd.d = 30, odd.n_h = odd.n_kv = 3, odd.d_h = 10, odd.d_v = 7, odd.d_hR = 6, odd.d_c = 11, odd.d_cq = 0;
    odd.N_r = 9, odd.groups = 3, odd.K_r = 3, odd.d_e = 7;
    return {load_preset("v3-nano"), load_preset("llm-nano"), odd};
}

using Logits = std::vector<real>;
Logits logits_of(const Tensor &logits, int b) {
    const std::vector<real> all = values(logits);
    const long V = logits.shape[1];
    return Logits(all.begin() + b * V, all.begin() + (b + 1) * V);
}

// The logits after each one's last token.
Tensor fed(Decoder &d, const Sequences &tokens, int chunk = 64) { return d.logits(d.feed(tokens, chunk)); }

// After every token, as training sees it: the trunk without a cache.
std::vector<Logits> full_forward(const Model &m, const std::vector<int> &tokens) {
    NoGrad off;
    const int T = (int)tokens.size();
    const Tensor h = trunk(m, causal(from(tokens, {1, T}, "ids")));
    const Tensor logits = matmul(reshape(h, {T, m.c.d}), m.output_head());
    std::vector<Logits> list;
    for (int t = 0; t < T; t++) list.push_back(logits_of(logits, t));
    return list;
}

std::vector<Logits> one_by_one(const Model &m, const std::vector<int> &tokens, int T_max) {
    Decoder d(m, 1, T_max);
    std::vector<Logits> list;
    for (int id : tokens) list.push_back(logits_of(fed(d, {{id}}), 0));
    return list;
}

double difference_of(const Logits &got, const Logits &expected) {
    return relative_error(std::vector<double>(got.begin(), got.end()),
                          std::vector<double>(expected.begin(), expected.end()));
}

Generation greedy(int max_tokens) {
    Generation g;
    g.sampling.temperature = 0;
    g.max_tokens = max_tokens;
    return g;
}
Generation random_sampling(int seed, int max_tokens) {
    Generation g;
    g.sampling.seed = seed;
    g.max_tokens = max_tokens;
    return g;
}
}  // namespace

// ------------------------------------------------------------------ [1] decode, prefill and the full forward
TEST_CASE("decode: with the KV cache, one token at a time gives the bits of the full forward") {
    const Model m = random_model(load_preset("llm-nano"));
    const std::vector<int> tokens = random_ints(23, m.c.V, 1);
    const auto full = full_forward(m, tokens), decoded = one_by_one(m, tokens, 40);
    for (size_t t = 0; t < tokens.size(); t++) {
        INFO("token ", t);
        CHECK(decoded[t] == full[t]);
    }
}

// The full forward is naive MLA, decoding the absorbed one: another order of products, through two layers.
// Measured, worst of all tokens: float 6.4e-7, double 1.2e-15.
TEST_CASE("decode: with the latent cache, one token at a time gives the full forward up to rounding") {
    for (const Config &c : shapes()) {
        if (c.attention != Attention::MLA) continue;
        const Model m = random_model(c);
        const std::vector<int> tokens = random_ints(23, c.V, 1);
        const auto full = full_forward(m, tokens), decoded = one_by_one(m, tokens, 40);
        double worst = 0;
        for (size_t t = 0; t < tokens.size(); t++)
            worst = std::max(worst, difference_of(decoded[t], full[t]));
        INFO(c.name);
        CHECK(worst < (in_double ? 1e-14 : 2e-6));
    }
}

TEST_CASE("decode: one token at a time gives the bits of a prefill in one piece") {
    for (const Config &c : shapes()) {
        const Model m = random_model(c);
        const std::vector<int> tokens = random_ints(19, c.V, 1);
        const auto decoded = one_by_one(m, tokens, 64);
        for (size_t n = 1; n <= tokens.size(); n++) {
            Decoder d(m, 1, 64);
            INFO(c.name, ", ", n, " tokens");
            CHECK(logits_of(fed(d, {std::vector<int>(tokens.begin(), tokens.begin() + n)}), 0) ==
                  decoded[n - 1]);
            CHECK(d.length[0] == (int)n);
        }
    }
}

TEST_CASE("prefill: the size of its chunks changes no bit") {
    for (const Config &c : shapes()) {
        const Model m = random_model(c);
        const std::vector<int> tokens = random_ints(50, c.V, 1);
        Decoder whole(m, 1, 64);
        const Logits expected = logits_of(fed(whole, {tokens}), 0);
        for (int chunk : {1, 2, 3, 7, 8, 31, 32, 33}) {
            Decoder d(m, 1, 64);
            INFO(c.name, ", chunks of ", chunk);
            CHECK(logits_of(fed(d, {tokens}, chunk), 0) == expected);
        }
    }
}

TEST_CASE("prefill: the room in the cache changes no bit, with several blocks of keys too") {
    Config c = load_preset("v3-nano");
    c.context = 200;
    const Model m = random_model(c);
    const std::vector<int> tokens = random_ints(150, c.V, 1);
    Decoder tight(m, 1, 150), roomy(m, 1, 200);
    const Logits expected = logits_of(fed(tight, {tokens}), 0);
    CHECK(logits_of(fed(roomy, {tokens}, 37), 0) == expected);
}

TEST_CASE("decode: a ragged batch is each sequence alone, to the bit") {
    for (const Config &c : shapes()) {
        const Model m = random_model(c);
        const Sequences prompts = {random_ints(3, c.V, 1), random_ints(20, c.V, 2), random_ints(1, c.V, 3),
                                   random_ints(11, c.V, 4)};
        const Sequences next = {random_ints(5, c.V, 5), {}, random_ints(2, c.V, 6), random_ints(9, c.V, 7)};
        Decoder together(m, 4, 40);
        const Tensor first = fed(together, prompts, 8), second = fed(together, next, 4);
        for (int b = 0; b < 4; b++) {
            Decoder alone(m, 1, 40);
            INFO(c.name, ", sequence ", b);
            CHECK(logits_of(first, b) == logits_of(fed(alone, {prompts[b]}), 0));
            if (!next[b].empty()) CHECK(logits_of(second, b) == logits_of(fed(alone, {next[b]}), 0));
            CHECK(together.length[b] == (int)(prompts[b].size() + next[b].size()));
        }
    }
}

TEST_CASE("decode: what a sequence was fed does not leak into its neighbours") {
    const Model m = random_model(load_preset("v3-nano"));
    Decoder a(m, 2, 40), b(m, 2, 40);
    const std::vector<int> mine = random_ints(4, m.c.V, 1);
    const Tensor x = fed(a, {mine, random_ints(17, m.c.V, 2)}), y = fed(b, {mine, random_ints(9, m.c.V, 3)});
    CHECK(logits_of(x, 0) == logits_of(y, 0));
    CHECK(logits_of(x, 1) != logits_of(y, 1));
}

// ---------------------------------------------------------------------------------------------- [2] generate
TEST_CASE("generate: temperature 0 is the likeliest token of the full forward") {
    const Model m = random_model(load_preset("llm-nano"));
    const std::vector<int> prompt = random_ints(5, m.c.V, 1);
    std::vector<int> expected = prompt;
    for (int n = 0; n < 12; n++) {
        const Logits z = full_forward(m, expected).back();
        expected.push_back((int)(std::max_element(z.begin(), z.end()) - z.begin()));
    }
    expected.erase(expected.begin(), expected.begin() + 5);
    Generation g = greedy(12);
    CHECK(generate(m, {prompt}, g)[0] == expected);
    g.sampling.seed = 99;
    CHECK(generate(m, {prompt}, g)[0] == expected);
    g.sampling.temperature = 1;
    g.sampling.top_k = 1;   // the likeliest one is also the only one that is kept
    CHECK(generate(m, {prompt}, g)[0] == expected);
}

TEST_CASE("generate: the seed decides, and the same seed decides alike") {
    const Model m = random_model(load_preset("v3-nano"));
    const std::vector<int> prompt = random_ints(5, m.c.V, 1);
    const Sequences a = generate(m, {prompt}, random_sampling(1, 20)),
                    again = generate(m, {prompt}, random_sampling(1, 20));
    CHECK(a == again);
    CHECK(a != generate(m, {prompt}, random_sampling(2, 20)));
}

TEST_CASE("generate: what is sampled does not depend on who else is in the batch") {
    for (const Config &c : shapes()) {
        const Model m = random_model(c);
        const Sequences prompts = {random_ints(5, c.V, 1), random_ints(12, c.V, 2), random_ints(2, c.V, 3),
                                   random_ints(7, c.V, 4)};
        const Sequences four = generate(m, prompts, random_sampling(1, 15));
        for (size_t B = 1; B < 4; B++) {
            const Sequences fewer =
                generate(m, Sequences(prompts.begin(), prompts.begin() + B), random_sampling(1, 15));
            INFO(c.name, ", ", B, " of 4 prompts");
            CHECK(std::equal(fewer.begin(), fewer.end(), four.begin()));
        }
        Sequences others = prompts;
        others[0] = random_ints(9, c.V, 8);
        const Sequences changed = generate(m, others, random_sampling(1, 15));
        CHECK(changed[1] == four[1]);
        CHECK(changed[0] != four[0]);
    }
}

TEST_CASE("generate: equal prompts side by side get different continuations") {
    const Model m = random_model(load_preset("v3-nano"));
    const Sequences added = generate(m, Sequences(3, random_ints(5, m.c.V, 1)), random_sampling(1, 20));
    CHECK(added[0] != added[1]);
    CHECK(added[1] != added[2]);
}

TEST_CASE("generate: a stop token ends its own sequence, and is not part of the text") {
    const Model m = random_model(load_preset("v3-nano"));
    const Sequences prompts = {random_ints(5, m.c.V, 1), random_ints(3, m.c.V, 2)};
    Generation g = random_sampling(1, 20);
    const Sequences free = generate(m, prompts, g);
    REQUIRE(free[0].size() == 20);
    g.stop = {free[0][6]};
    const Sequences stopped = generate(m, prompts, g);
    for (int b = 0; b < 2; b++) {                        // the other one goes on to its own end
        const auto end = std::find(free[b].begin(), free[b].end(), free[0][6]);
        CHECK(stopped[b] == std::vector<int>(free[b].begin(), end));
    }
    CHECK(stopped[0].size() <= 6);
}

TEST_CASE("generate: tokens are told as they come, the same that are returned") {
    const Model m = random_model(load_preset("v3-nano"));
    Sequences told(2);
    const Sequences added = generate(m, {random_ints(5, m.c.V, 1), random_ints(3, m.c.V, 2)},
                                     random_sampling(1, 10), [&](int b, int id) { told[b].push_back(id); });
    CHECK(told == added);
}

TEST_CASE("generate: ends where the context ends, after the token that the last position predicts") {
    const Model m = random_model(load_preset("v3-nano"));        // context 64
    const Sequences prompts = {random_ints(60, m.c.V, 1), random_ints(63, m.c.V, 2),
                               random_ints(2, m.c.V, 3)};
    const Sequences added = generate(m, prompts, random_sampling(1, 1000));
    for (int b = 0; b < 3; b++) CHECK(prompts[b].size() + added[b].size() == 65);
}

// ---------------------------------------------------------------------------------------------- [3] evaluate
TEST_CASE("evaluate: is the sum of -log P over all targets by hand, divided by how many there are") {
    for (const Config &c : shapes()) {
        const Model m = random_model(c);
        const std::vector<Sequences> batches = {{random_ints(9, c.V, 1), random_ints(14, c.V, 2)},
                                                {random_ints(5, c.V, 3)}};
        double nats = 0;
        for (const Sequences &batch : batches)
            for (const auto &s : batch) {
                const auto z = full_forward(m, std::vector<int>(s.begin(), s.end() - 1));
                for (size_t t = 0; t + 1 < s.size(); t++) {
                    double total = 0;
                    for (real z_v : z[t]) total += std::exp((double)z_v);
                    nats += std::log(total) - z[t][s[t + 1]];
                }
            }
        std::vector<Examples> as_examples;
        for (const auto &batch : batches) as_examples.push_back(examples(batch));
        INFO(c.name);
        CHECK(std::abs(evaluate(m, as_examples).nats * (8 + 13 + 4) / nats - 1) < (in_double ? 1e-14 : 1e-6));
    }
}

TEST_CASE("evaluate: leaves no trace, no record, no gradient, no count") {
    Model m = random_model(load_preset("v3-nano"));
    evaluate(m, {examples({random_ints(9, m.c.V, 1)})});
    CHECK(tape.empty());
    visit(m, [](const std::string &name, Tensor &w, const Spec &spec) {
        INFO(name);
        if (spec.group == Group::matrix) CHECK(relative_error(gradient(w), zeros(w.shape)) == 0);
    });
}

// --------------------------------------------------------------------------------------- [4] what is refused
TEST_CASE("generate: a prompt that fills the context, or none, is refused in one line") {
    const Model m = random_model(load_preset("v3-nano"));
    const std::string error = error_of([&] { generate(m, {random_ints(64, m.c.V, 1)}, greedy(5)); });
    CHECK(error == "the prompt has 64 tokens, the model's context 64");
    CHECK(error_of([&] { generate(m, {{1, 2}, {}}, greedy(5)); }) == "generate: an empty prompt");
    CHECK(error_of([&] { generate(m, {random_ints(63, m.c.V, 1)}, greedy(5)); }).empty());
}

TEST_CASE("decoder: what does not fit into the cache, and tokens that do not exist, are refused") {
    const Model m = random_model(load_preset("v3-nano"));
    Decoder d(m, 2, 10);
    d.feed({{1, 2, 3, 4, 5, 6}, {1}});
    CHECK(error_of([&] { d.feed({{1, 2, 3, 4, 5}, {1}}); }) ==
          "sequence 0: 11 tokens do not fit into the cache of 10");
    CHECK(error_of([&] { d.feed({{1}, {258}}); }) == "token id 258 is not below 258");
    CHECK(!error_of([&] { d.feed({{1}, {-1}}); }).empty());
}

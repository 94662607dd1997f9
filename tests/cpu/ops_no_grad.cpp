// ops_no_grad.cpp: the specification of the ops that choose (topk, dispatch, balance, sample) or write in
// place (append, adamw, sum_squares, scale_add, bias_update). They have no gradient; ops.cpp has the others.
#include <algorithm>
#include <climits>
#include <numeric>

#include "tests/check.h"

namespace {

Tensor ids(const std::vector<int> &v, const Shape &shape) { return from(v, shape, "ids"); }
Tensor row(const std::vector<real> &v, const char *name = "s") { return from(v, {1, (long)v.size()}, name); }
Tensor vec(const std::vector<real> &v, const char *name = "b") { return from(v, {(long)v.size()}, name); }

}  // namespace

// ====================================================================================================== topk

// By sorting: groups by the sum of their best, then the experts of the kept groups.
// Stable: the lower index first.
static std::vector<int> topk_oracle(const std::vector<double> &score, const TopK &t) {
    const int E = (int)score.size(), size = E / t.groups;
    std::vector<double> group(t.groups, 0.0);
    for (int g = 0; g < t.groups; g++) {
        std::vector<double> s(score.begin() + g * size, score.begin() + (g + 1) * size);
        std::sort(s.rbegin(), s.rend());
        for (int i = 0; i < t.best; i++) group[g] = (real)(group[g] + s[i]);
    }
    std::vector<int> order(t.groups), kept, best;
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int i, int j) { return group[i] > group[j]; });
    for (int i = 0; i < E; i++)
        if (std::find(order.begin(), order.begin() + t.keep, i / size) < order.begin() + t.keep)
            kept.push_back(i);
    std::stable_sort(kept.begin(), kept.end(), [&](int i, int j) { return score[i] > score[j]; });
    return {kept.begin(), kept.begin() + t.K};
}

TEST_CASE("topk: the K best of the kept groups, best first, as sorting finds them") {
    const TopK cases[] = {{1, 1, 1, 1}, {3, 1, 1, 1}, {12, 1, 1, 1}, {2, 4, 2, 1}, {4, 4, 2, 2},
                          {3, 3, 1, 4}, {6, 6, 3, 2}, {6, 4, 2, 3},  {12, 4, 4, 2}};
    for (const TopK &t : cases)
        for (int kind = 0; kind < 4; kind++) {   // plain; with bias; many ties; strongly negative bias
            INFO("K ", t.K, ", ", t.keep, " of ", t.groups, " groups by their best ", t.best, ", kind ",
                 kind);
            Tensor s = softmax(randn({40, 12}, "s", 1 + kind)),
                   b = randn({12}, "b", 2, kind == 3 ? 1e4 : 0.1);
            if (kind == 2) {
                std::vector<real> v;
                for (int x : random_ints(40 * 12, 3, 5)) v.push_back((real)x);
                s = from(v, {40, 12}, "s");
            }
            if (kind == 0 || kind == 2) b = {};
            if (kind == 3) b = unary(unary_identity, b, 1, -5e4);
            const std::vector<int> idx = int_values(topk(s, b, t));
            const std::vector<real> scores = values(s);
            for (int n = 0; n < 40; n++) {
                std::vector<double> score(12);
                for (int i = 0; i < 12; i++) score[i] = (real)(scores[n * 12 + i] + (b ? values(b)[i] : 0));
                REQUIRE(std::vector<int>(&idx[n * t.K], &idx[n * t.K] + t.K) == topk_oracle(score, t));
            }
        }
}

TEST_CASE("topk: a group's score is its best expert (V2) or the sum of its best two (V3)") {
    const Tensor s = row({0.9, 0.0, 0.6, 0.5});
    CHECK(int_values(topk(s, {}, {1, 2, 1, 1})) == std::vector<int>{0});
    CHECK(int_values(topk(s, {}, {2, 2, 1, 1})) == std::vector<int>{0, 1});
    CHECK(int_values(topk(s, {}, {2, 2, 1, 2})) == std::vector<int>{2, 3});
}

TEST_CASE("topk: ties take the lower index, of experts and of groups") {
    CHECK(int_values(topk(row({1, 2, 2, 2}), {}, {2, 1, 1, 1})) == std::vector<int>{1, 2});
    CHECK(int_values(topk(row({1, 2, 2, 1, 0, 2}), {}, {2, 3, 2, 2})) == std::vector<int>{1, 2});
    CHECK(int_values(topk(row({0, 0, 0, 0}), {}, {3, 2, 2, 1})) == std::vector<int>{0, 1, 2});
}

TEST_CASE("topk: a dropped group stays dropped when every score is far below zero") {
    const Tensor s = row({-5e8, -6e8, -1e8, -9e8});
    CHECK(int_values(topk(s, {}, {2, 2, 1, 2})) == std::vector<int>{2, 3});
    CHECK(int_values(topk(s, {}, {2, 2, 1, 1})) == std::vector<int>{2, 3});
}

TEST_CASE("topk: K indices of a row are K different ones, also among scores of -inf") {
    const real out = -INFINITY;
    std::vector<int> idx = int_values(topk(row({out, 1, out, out}), {}, {3, 1, 1, 1}));
    CHECK(idx[0] == 1);
    std::sort(idx.begin(), idx.end());
    CHECK(std::unique(idx.begin(), idx.end()) == idx.end());
}

TEST_CASE("topk: a huge bias decides who is picked and never what the gate weighs") {
    const Tensor s = row({0.1, 0.2, 0.3, 0.4}), b = vec({1e6, 0, 1e6, 0}), idx = topk(s, b, {2, 1, 1, 1});
    std::vector<int> chosen = int_values(idx);
    std::sort(chosen.begin(), chosen.end());
    CHECK(chosen == std::vector<int>{0, 2});
    const std::vector<real> gates = values(pick(s, idx));
    for (int k = 0; k < 2; k++) CHECK(gates[k] == values(s)[int_values(idx)[k]]);
}

TEST_CASE("topk: padding, a position of -1, chooses nobody, and the other rows are as without it") {
    const Tensor s = randn({6, 8}, "s", 1), pos = ids({0, 1, -1, -1, 0, -1}, {2, 3});
    for (const TopK &t : {TopK{3, 1, 1, 1}, TopK{2, 4, 2, 1}}) {
        std::vector<int> expected = int_values(topk(s, {}, t));
        for (int n : {2, 3, 5}) std::fill_n(&expected[n * t.K], t.K, -1);
        CHECK(int_values(topk(s, {}, t, pos)) == expected);
    }
    CHECK(error_of([&] { topk(s, {}, {1, 1, 1, 1}, ids({0}, {1})); }) ==
          "topk: s (6,8) and pos (1) do not fit");
}

TEST_CASE("topk: refuses groups and counts that cannot be") {
    const Tensor s = row({1, 2, 3, 4});
    CHECK(error_of([&] { topk(s, {}, {1, 3, 1, 1}); }) ==
          "topk: keep 1 of 3 groups, scored by their best 1, of 4 experts");
    CHECK(error_of([&] { topk(s, {}, {1, 2, 3, 1}); }) != "");
    CHECK(error_of([&] { topk(s, {}, {1, 2, 1, 3}); }) != "");
    CHECK(error_of([&] { topk(s, {}, {3, 2, 1, 1}); }) == "topk: 3 of 2 candidates");
    CHECK(error_of([&] { topk(s, vec({1, 2}), {1, 1, 1, 1}); }) == "topk: s (1,4) and b (2) do not fit");
}

// ========================================================================================= dispatch, balance

TEST_CASE("dispatch: a stable permutation of the choices, sorted by expert") {
    const int N = 50, K = 3, E = 7;
    std::vector<int> idx = random_ints(N * K, E - 1, 1);     // the last expert gets nothing
    for (int i = 0; i < N * K; i += 11) idx[i] = -1;         // dropped
    const Dispatch d = dispatch(ids(idx, {N, K}), E);
    const std::vector<int> slot = int_values(d.slot), token = int_values(d.token),
                           offsets = int_values(d.offsets);
    const std::vector<int> counts = int_values(d.counts);
    int next = 0;
    for (int e = 0; e < E; e++) {
        CHECK(offsets[e] == next);
        for (int i = 0; i < N * K; i++) {
            if (idx[i] != e) continue;
            REQUIRE(slot[i] == next);                        // in the order of the tokens
            REQUIRE(token[next] == i / K);
            next++;
        }
        CHECK(counts[e] == next - offsets[e]);
    }
    CHECK(offsets[E] == next);
    CHECK(counts[E - 1] == 0);
    for (int i = 0; i < N * K; i += 11) CHECK(slot[i] == -1);
    for (int i = next; i < N * K; i++) CHECK(token[i] == 0);
}

// Sum over tokens and experts of w s', as the model forms the loss.
static double balance_loss(const std::vector<int> &idx, int N, int K, int E, int T, double alpha,
                           const Tensor &s) {
    return item(weighted_sum(s, balance(ids(idx, {N, K}), E, T, alpha)));
}

TEST_CASE("balance: perfectly balanced routing costs exactly alpha") {
    const int T = 8, E = 4, K = 2;
    std::vector<int> idx;
    for (int t = 0; t < 3 * T; t++) idx.insert(idx.end(), {t % E, (t + 1) % E});
    const Tensor s = normalize_rows(sigmoid(randn({3 * T, E}, "s", 1)), 1, 0);
    CHECK(balance_loss(idx, 3 * T, K, E, T, 0.25, s) == doctest::Approx(0.25).epsilon(1e-6));
}

TEST_CASE("balance: routing that collapsed onto K experts costs alpha E / K") {
    const int T = 8, E = 6, K = 2;
    std::vector<int> idx;
    std::vector<real> s;
    for (int t = 0; t < 2 * T; t++) {
        idx.insert(idx.end(), {4, 1});
        s.insert(s.end(), {0, (real)0.75, 0, 0, (real)0.25, 0});
    }
    CHECK(balance_loss(idx, 2 * T, K, E, T, 0.5, from(s, {2 * T, E})) ==
          doctest::Approx(0.5 * E / K).epsilon(1e-6));
}

TEST_CASE("balance: alpha sum_i f_i P_i of each sequence, averaged, V3 (17)-(20)") {
    const int B = 3, T = 5, E = 4, K = 2;
    std::vector<int> idx = random_ints(B * T * K, E, 1);
    idx[3] = -1;
    const Tensor s = softmax(randn({B * T, E}, "s", 2));
    Numbers S(s);
    double loss = 0;
    for (int b = 0; b < B; b++)
        for (int i = 0; i < E; i++) {
            double f = 0, P = 0;
            for (int t = b * T; t < (b + 1) * T; t++) {
                for (int k = 0; k < K; k++) f += (idx[t * K + k] == i) * (double)E / (K * T);    // V3 (18)
                P += S(t, i) / T;                                                                // V3 (20)
            }
            loss += 0.01 * f * P / B;                                                            // V3 (17)
        }
    CHECK(balance_loss(idx, B * T, K, E, T, 0.01, s) == doctest::Approx(loss).epsilon(1e-6));
    CHECK(error_of([&] { balance(ids(idx, {B * T, K}), E, 4, 1); }) ==
          "balance: 15 tokens are no sequences of 4");
}

TEST_CASE("balance: padding is not counted: a padded sequence weighs as it would alone, and padding 0") {
    const int T = 6, E = 5, K = 2;
    std::vector<int> idx = random_ints(3 * T * K, E, 1);
    const std::vector<int> tokens = {T, 2, 0};           // of the three sequences
    for (int b = 0; b < 3; b++) std::fill(&idx[(b * T + tokens[b]) * K], &idx[0] + (b + 1) * T * K, -1);
    idx[1] = -1;                                         // dropped: its token still counts
    const std::vector<real> w = values(balance(ids(idx, {3 * T, K}), E, T, 3));
    for (int b = 0; b < 2; b++) {
        const std::vector<int> own(&idx[b * T * K], &idx[(b * T + tokens[b]) * K]);
        const std::vector<real> alone = values(balance(ids(own, {tokens[b], K}), E, tokens[b], 1));
        for (size_t i = 0; i < alone.size(); i++) CHECK(w[b * T * E + i] == alone[i]);
        for (int i = tokens[b] * E; i < T * E; i++) REQUIRE(w[b * T * E + i] == 0);
    }
    for (int i = 2 * T * E; i < 3 * T * E; i++) REQUIRE(w[i] == 0);
}

TEST_CASE("balance: by device and by communication, a token that uses a device twice counts once there") {
    const int T = 4, E = 6, K = 3, D = 3;                // experts 0 1 | 2 3 | 4 5
    const std::vector<int> idx = {0, 1, 2, 0, 1, 2, 4, 5, 3, -1, -1, -1};
    const std::vector<real> devices = values(balance(ids(idx, {T, K}), E, T, 1, D)),
                            sent = values(balance(ids(idx, {T, K}), E, T, 1, D, 2));
    const double choices[] = {4, 3, 2}, tokens[] = {2, 3, 1};        // of three real tokens
    for (int i = 0; i < E; i++) {
        CHECK(devices[i] == doctest::Approx(choices[i / 2] * D / (K * 3.0) / 3).epsilon(1e-6));
        CHECK(sent[i] == doctest::Approx(tokens[i / 2] * D / (2 * 3.0) / 3).epsilon(1e-6));
        CHECK(devices[3 * E + i] == 0);
    }
    CHECK(error_of([&] { balance(ids(idx, {T, K}), E, T, 1, 4); }) ==
          "balance: 6 experts are not 4 equal groups");
}

TEST_CASE("balance: every token on exactly M devices, all alike, costs exactly alpha by communication, too") {
    const int T = 8, E = 8, K = 2;
    std::vector<int> idx;
    for (int t = 0; t < T; t++) idx.insert(idx.end(), {t % E, (t + 2) % E});         // two of four devices
    const Tensor s = softmax(randn({T, E}, "s", 1));
    for (int M : {0, 2})
        CHECK(item(weighted_sum(s, balance(ids(idx, {T, K}), E, T, 0.25, 4, M))) ==
              doctest::Approx(0.25).epsilon(1e-6));
}

// ===================================================================================== hash_route, drop

TEST_CASE("hash_route: an expert by the id alone, every one about as often, -1 for padding") {
    const int E = 7, N = 7000;
    std::vector<int> id(N), pos(N, 0), count(E, 0);
    for (int i = 0; i < N; i++) id[i] = i;
    pos[3] = -1;
    const std::vector<int> idx = int_values(hash_route(ids(id, {N}), E, ids(pos, {N})));
    CHECK(idx[3] == -1);
    for (int i = 0; i < N; i++) {
        if (i == 3) continue;
        REQUIRE(idx[i] == (int)(mix(i) % E));
        count[idx[i]]++;
    }
    for (int n : count) CHECK(std::abs(n - N / E) < 4 * 30);         // binomial: a standard deviation of 29
    CHECK(hash_route(ids(id, {70, 100}), E).shape == Shape{N, 1});
    CHECK(error_of([&] { hash_route(ids(id, {N}), E, ids({1}, {1})); }) != "");
}

TEST_CASE(
    "drop: a group's least affine choices go, until its share of all is left; ties: the later one goes") {
    // Four tokens with two choices of four experts, on two devices: each has room for 4 of the 8 choices.
    const Tensor idx = ids({0, 1, 0, 1, 1, 0, 0, 2}, {4, 2});
    const std::vector<real> affinity = {0.6, 0.1, 0, 0, 0.3, 0.2, 0, 0, 0.2, 0.5, 0, 0, 0.3, 0, 0.4, 0};
    const Tensor s = from(affinity, {4, 4}, "s");
    CHECK(int_values(drop(s, idx, {}, 2, 1)) == std::vector<int>{0, -1, 0, -1, 1, -1, 0, 2});
    CHECK(int_values(drop(s, idx, {}, 2, 0.5)) ==
          std::vector<int>{0, -1, -1, -1, 1, -1, -1, 2});                                        // room for 2
    CHECK(int_values(drop(s, idx, {}, 2, 2)) == int_values(idx));
    // The third token is exempt: it keeps both choices, and they take room from the others.
    CHECK(int_values(drop(s, idx, ids({0, 0, 1, 0}, {4}), 2, 0.5)) ==
          std::vector<int>{-1, -1, -1, -1, 1, 0, -1, 2});
    CHECK(int_values(drop(s, idx, ids({1, 1, 1, 1}, {4}), 2, 0.1)) == int_values(idx));
    // Equal affinities, by index; what is -1 already takes no room.
    const Tensor flat = from(std::vector<real>(8, 1), {4, 2}, "s");
    CHECK(int_values(drop(flat, ids({0, 0, 0, 0}, {4, 1}), {}, 2, 1)) == std::vector<int>{0, 0, -1, -1});
    CHECK(int_values(drop(flat, ids({0, -1, 0, -1}, {4, 1}), {}, 2, 1)) == std::vector<int>{0, -1, -1, -1});
    CHECK(error_of([&] { drop(s, idx, {}, 3, 1); }) == "drop: 4 experts are not 3 equal groups");
}

TEST_CASE("drop: against sorting each device by itself, over many tokens") {
    const int N = 60, E = 12, K = 3, D = 4;
    const Tensor s = softmax(randn({N, E}, "s", 1)), idx = topk(s, {}, {.K = K});
    const std::vector<int> exempt = random_ints(N, 4, 2);            // a quarter: those that are 0
    std::vector<int> flags;
    for (int x : exempt) flags.push_back(x == 0);
    const std::vector<int> chosen = int_values(idx), kept = int_values(drop(s, idx, ids(flags, {N}), D, 0.8));
    const Numbers S(s);
    for (int g = 0; g < D; g++) {
        std::vector<std::pair<double, int>> rest;        // of this device, most affine first
        int room = (int)std::ceil(0.8 * N * K / D);
        for (int i = 0; i < N * K; i++) {
            if (chosen[i] / 3 != g) continue;
            if (flags[i / K]) room--;
            else rest.push_back({-S.v[i / K * E + chosen[i]], i});
            if (flags[i / K]) CHECK(kept[i] == chosen[i]);
        }
        std::sort(rest.begin(), rest.end());
        for (int r = 0; r < (int)rest.size(); r++)
            CHECK(kept[rest[r].second] == (r < room ? chosen[rest[r].second] : -1));
    }
}

// ==================================================================================================== sample

namespace {

// The same logits in N rows, each with its own key (question, sample, position).
Sampled sample_rows(const std::vector<real> &logits, int N, const Sampling &s, int first = 0) {
    std::vector<real> all;
    std::vector<int> key;
    for (int n = first; n < first + N; n++) {
        all.insert(all.end(), logits.begin(), logits.end());
        key.insert(key.end(), {n / 50, n % 5, n / 5 % 10});
    }
    return sample(from(all, {N, (long)logits.size()}), ids(key, {N, 3}), s);
}
std::vector<int> kept_of(const std::vector<real> &logits, const Sampling &s) {
    const std::vector<int> kept = int_values(sample_rows(logits, 1, s).kept);
    std::vector<int> which;
    for (size_t v = 0; v < logits.size(); v++)
        if (in_set(kept.data(), (int)v)) which.push_back((int)v);
    return which;
}
// sum (seen - expected)^2 / expected over what can be drawn; the rest must not occur.
double chi_square(const std::vector<int> &drawn, const std::vector<double> &p) {
    std::vector<double> seen(p.size(), 0.0);
    for (int id : drawn) seen[id]++;
    double sum = 0;
    for (size_t v = 0; v < p.size(); v++) {
        const double expected = p[v] * drawn.size();
        if (expected == 0) REQUIRE(seen[v] == 0);
        else sum += (seen[v] - expected) * (seen[v] - expected) / expected;
    }
    return sum;
}

}  // namespace

TEST_CASE("sample: frequencies match softmax(z / temperature)") {
    const std::vector<real> z = {1, -1, 0, 2, (real)0.5, -2};
    for (double T : {0.5, 1.0, 2.0})
        for (int seed : {1, 2}) {
            std::vector<double> p;
            for (real x : z) p.push_back(exp(x / T));
            const double sum = std::accumulate(p.begin(), p.end(), 0.0);
            for (double &x : p) x /= sum;
            // 5 degrees of freedom: above 20.5 once in a thousand draws; the seeds are fixed.
            CHECK(chi_square(int_values(sample_rows(z, 20000, {T, 1, 0, seed}).id), p) < 20.5);
        }
}

TEST_CASE("sample: frequencies over the kept are those of the kept alone") {
    const std::vector<real> z = {1, -1, 0, 2};
    const double sum = exp(1) + exp(2) + exp(0);
    CHECK(chi_square(int_values(sample_rows(z, 10000, {1, 1, 3, 7}).id),
                     {exp(1) / sum, 0, exp(0) / sum, exp(2) / sum}) < 13.8);
}

TEST_CASE("sample: top_k keeps the k most likely, ties the lower index") {
    const std::vector<real> z = {1, 3, 3, 0, 3, 2};
    CHECK(kept_of(z, {1, 1, 1, 0}) == std::vector<int>{1});
    CHECK(kept_of(z, {1, 1, 2, 0}) == std::vector<int>{1, 2});
    CHECK(kept_of(z, {1, 1, 4, 0}) == std::vector<int>{1, 2, 4, 5});
    CHECK(kept_of(z, {1, 1, 0, 0}).size() == 6);
    CHECK(kept_of(z, {1, 1, 60, 0}).size() == 6);
}

TEST_CASE("sample: top_p keeps the fewest whose probability reaches it, and always one") {
    const std::vector<real> z = {(real)log(0.1), (real)log(0.5), (real)log(0.15), (real)log(0.25)};
    CHECK(kept_of(z, {1, 0.0, 0, 0}) == std::vector<int>{1});
    CHECK(kept_of(z, {1, 0.49, 0, 0}) == std::vector<int>{1});
    CHECK(kept_of(z, {1, 0.51, 0, 0}) == std::vector<int>{1, 3});
    CHECK(kept_of(z, {1, 0.76, 0, 0}) == std::vector<int>{1, 2, 3});
    CHECK(kept_of(z, {1, 0.95, 0, 0}).size() == 4);
    CHECK(kept_of(z, {1, 0.68, 2, 0}) ==
          std::vector<int>{1, 3});   // of the mass of the two: 0.5 / 0.75 < 0.68
    CHECK(kept_of(z, {1, 0.66, 2, 0}) == std::vector<int>{1});               // 0.5 / 0.75 = 0.667 reaches it
    CHECK(kept_of(z, {1, 0.6, 0, 0}) == std::vector<int>{1, 3});
    CHECK(kept_of(z, {4, 0.6, 0, 0}) == std::vector<int>{1, 2, 3});          // temperature first, then top_p
}

TEST_CASE("sample: what is kept is 32 ids a word, of each row its own words") {
    std::vector<real> z(70, -1);
    z[31] = 3, z[32] = 2, z[69] = 1;
    CHECK(kept_of(z, {1, 1, 3, 0}) == std::vector<int>{31, 32, 69});
    const Sampled two = sample_rows(z, 2, {1, 1, 3, 0});
    CHECK(two.kept.shape == Shape{2, 3});
    CHECK(int_values(two.kept) == std::vector<int>{INT_MIN, 1, 32, INT_MIN, 1, 32});
}

TEST_CASE("sample: temperature 0 takes the largest, the lower index of a tie, and keeps it alone") {
    const std::vector<real> z = {1, 3, 3, 0};
    const Sampled s = sample_rows(z, 50, {0, 1, 0, 5});
    for (int id : int_values(s.id)) REQUIRE(id == 1);
    CHECK(kept_of(z, {0, 1, 3, 0}) == std::vector<int>{1});
}

TEST_CASE("sample: a row says the same alone and in any batch, and another seed says something else") {
    const std::vector<real> z = {1, -1, 0, 2, (real)0.5, -2};
    const std::vector<int> all = int_values(sample_rows(z, 200, {1, 1, 0, 3}).id);
    for (int n = 0; n < 200; n += 13) CHECK(int_values(sample_rows(z, 1, {1, 1, 0, 3}, n).id)[0] == all[n]);
    CHECK(int_values(sample_rows(z, 200, {1, 1, 0, 4}).id) != all);
    CHECK(int_values(sample_rows(z, 200, {1, 1, 0, 3}).id) == all);
}

TEST_CASE("sample: the drawn id is one of the kept, also far out and with -inf") {
    const real out = -INFINITY;
    for (const std::vector<real> &z :
         {std::vector<real>{out, 5, out, 5}, {-1e4, 1e4, 0, 9e3}, {-700, -701, -702, -703}}) {
        const Sampled s = sample_rows(z, 100, {1, 0.9, 0, 1});
        const std::vector<int> id = int_values(s.id), kept = int_values(s.kept);
        for (int n = 0; n < 100; n++) {
            REQUIRE(in_set(&kept[n], id[n]));
            REQUIRE(z[id[n]] > out);
        }
    }
}

// ====================================================================================== that write in place

TEST_CASE("append: rows go where `at` says, -1 goes nowhere") {
    const int B = 3, T_max = 5, n = 2, d = 3;
    const Tensor rows = zeros({B, T_max, n, d}, "rows");
    const Tensor x = randn({B, 2, n, d}, "x", 1), y = randn({B, 1, n, d}, "y", 2);
    append(rows, x, ids({0, 1, 0, -1, -1, -1}, {B, 2}));
    append(rows, y, ids({2, 1, 3}, {B, 1}));
    append(rows, y, ids({0, -1, -1}, {B, 1}));
    Numbers R(rows), X(x), Y(y), expected({B, T_max, n, d});
    for (int h = 0; h < n; h++)
        for (int j = 0; j < d; j++) {
            expected(0, 0, h, j) = Y(0, 0, h, j);
            expected(0, 1, h, j) = X(0, 1, h, j);
            expected(0, 2, h, j) = Y(0, 0, h, j);
            expected(1, 0, h, j) = X(1, 0, h, j);
            expected(1, 1, h, j) = Y(1, 0, h, j);
            expected(2, 3, h, j) = Y(2, 0, h, j);
        }
    CHECK(R.v == expected.v);
    CHECK(rows.s->version == 3);
}

TEST_CASE("adamw: twenty steps equal the textbook's, clipped and decayed") {
    const int n = 7;
    const AdamW o = {
        .lr = 0.02, .beta1 = 0.9, .beta2 = 0.95, .eps = 0.05, .decay = 0.1, .clip = 2, .step = 0};
    const Tensor W = randn({n}, "W", 1), m = zeros({n}), v = zeros({n});
    std::vector<double> w = Numbers(W).v, m_(n, 0.0), v_(n, 0.0);
    int clipped = 0;
    for (int step = 1; step <= 20; step++) {
        const Tensor dW = randn({n}, "dW", 100 + step), norm2 = zeros({1});
        sum_squares(dW, norm2);
        AdamW now = o;
        now.step = step;
        adamw(W, m, v, dW, norm2, now);
        std::vector<double> g = Numbers(dW).v;
        const double norm = sqrt(std::inner_product(g.begin(), g.end(), g.begin(), 0.0));
        clipped += norm > 2;
        for (int i = 0; i < n; i++) {
            if (norm > 2) g[i] *= 2 / (norm + 1e-6);
            m_[i] = 0.9 * m_[i] + 0.1 * g[i];
            v_[i] = 0.95 * v_[i] + 0.05 * g[i] * g[i];
            const double m_hat = m_[i] / (1 - pow(0.9, step)), v_hat = v_[i] / (1 - pow(0.95, step));
            w[i] = w[i] - 0.02 * 0.1 * w[i] - 0.02 * m_hat / (sqrt(v_hat) + 0.05);
        }
        CHECK(relative_error(Numbers(W).v, w) < (in_double ? 1e-12 : 2e-6));
    }
    CHECK(clipped > 5);
    CHECK(clipped < 20);
    CHECK(relative_error(Numbers(m).v, m_) < (in_double ? 1e-12 : 2e-6));
    CHECK(relative_error(Numbers(v).v, v_) < (in_double ? 1e-12 : 2e-6));
}

TEST_CASE("adamw: the first step moves every number by lr, whatever its gradient's size") {
    const Tensor W = zeros({3}), m = zeros({3}), v = zeros({3}), dW = vec({1e-3, -5, 70});
    adamw(W, m, v, dW, {}, {.lr = 0.5, .eps = 0});
    const std::vector<real> w = values(W);
    const double expected[] = {-0.5, 0.5, -0.5};
    for (int i = 0; i < 3; i++) CHECK(w[i] == doctest::Approx(expected[i]).epsilon(1e-5));
}

TEST_CASE("adamw: a matrix is updated entry by entry, on any number of threads") {
    std::vector<real> first;
    for (int threads : {1, 2, 3}) {
        WithThreads run(threads);
        const Tensor W = randn({40, 300}, "W", 1), m = randn({40, 300}, "m", 2), v = zeros({40, 300});
        adamw(W, m, v, randn({40, 300}, "dW", 3), {}, {.lr = 0.1, .decay = 0.1, .step = 3});
        if (first.empty()) first = values(W);
        CHECK(values(W) == first);
        const Tensor w = slice(W, 0, 39, 1);
        CHECK(values(w)[299] != values(randn({40, 300}, "W", 1)).back());
    }
}

TEST_CASE("topk, balance, append: the number of threads changes nothing") {
    const Tensor s = softmax(randn({600, 32}, "s", 1)), b = randn({32}, "b", 2, 0.1),
                 x = randn({2, 300, 2, 80}, "x", 3);
    std::vector<int> at(600);
    for (int i = 0; i < 600; i++) at[i] = i % 300;
    std::vector<Tensor> first;
    for (int threads : {1, 2, 3}) {
        WithThreads run(threads);
        const Tensor idx = topk(s, b, {6, 4, 2, 2}), rows = zeros({2, 300, 2, 80});
        append(rows, x, ids(at, {2, 300}));
        const std::vector<Tensor> now = {idx, balance(idx, 32, 300, 0.1), rows};
        if (first.empty()) first = now;
        for (size_t i = 0; i < now.size(); i++) CHECK(same_bits(now[i], first[i]));
        CHECK(same_bits(rows, x));
    }
}

TEST_CASE("sum_squares: adds to what is there, so that one number sums all weights") {
    const Tensor total = vec({10}, "total");
    sum_squares(vec({1, 2, 3}), total);
    CHECK(item(total) == 24);
    sum_squares(row({-2, 0}), total);
    CHECK(item(total) == 28);
}

TEST_CASE("scale_add: y = ay + bx, for numbers and for integers") {
    const Tensor y = vec({1, 2, 3}, "y"), i = ids({1, 2, 3}, {3});
    scale_add(y, vec({10, 20, 30}), 0.5, -2);
    CHECK(values(y) == std::vector<real>{-19.5, -39, -58.5});
    scale_add(i, ids({10, 20, -30}, {3}), 1, 1);
    CHECK(int_values(i) == std::vector<int>{11, 22, -27});
    scale_add(i, ids({1, 1, 1}, {3}), 2, -3);
    CHECK(int_values(i) == std::vector<int>{19, 41, -57});
    CHECK(error_of([&] { scale_add(y, i, 1, 1); }) == "scale_add: y (3) and x (3) differ");
}

TEST_CASE("bias_update: experts below the mean go up by gamma, above it down, at it nowhere") {
    const Tensor b = vec({0.5, 0.5, 0.5, 0.5});
    bias_update(b, ids({1, 6, 4, 5}, {4}), 0.125);
    CHECK(values(b) == std::vector<real>{0.625, 0.375, 0.5, 0.375});
    bias_update(b, ids({0, 0, 1, 0}, {4}), 0.125);           // the mean is 1/4, no integer
    CHECK(values(b) == std::vector<real>{0.75, 0.5, 0.375, 0.5});
}

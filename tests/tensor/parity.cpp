// parity.cpp: CUDA computes what the CPU computes. Every op runs in both directions through the device
// `checked`, which throws at the first tensor that differs; so most cases here contain no CHECK, only shapes
// that are awkward: one row, odd widths, more than a block, more than a tile, ties, slots that are nobody's,
// queries that see nothing. Gradients are not zero at the start, so that `=` where `+=` belongs is found.
//
// Where there is no GPU, the kernels run in src/cuda/cuda_on_cpu.h; then this file also walks them in
// every order of threads, and removes each barrier to see whether somebody notices.
//
//   [1] tools                  [3] ops that choose or act   [5] does checked find it?
//   [2] ops with a gradient    [4] what is covered          [6] orders of threads, barriers
#ifndef NO_CUDA
#include <cstdlib>
#include <cstring>

#include "src/tensor/checked.h"
#include "src/tensor/pool.h"
#include "src/infer/decoder.h"
#include "src/model/config.h"
#include "src/model/huggingface.h"
#include "src/model/weights.h"
#include "src/train/training.h"
#include "tests/check.h"

// ------------------------------------------------------------------------------------------------- [1] tools
namespace {
struct OnChecked {                   // tensors and ops belong to `checked` while one of these lives
    Device *before = device;
    OnChecked() { device = &checked_device; }
    ~OnChecked() { device = before; }
};

// A case is a test of its own, and one of those that [4] and [6] walk.
struct Case {
    const char *name;
    void (*run)();
};
std::vector<Case> cases;
struct Registered {
    Registered(const char *name, void (*run)()) { cases.push_back({name, run}); }
};
void run_on_checked(void (*run)()) {
    const OnChecked here;
    const TapeGuard clear;
    run();
}
#define PARITY_AS(f, text)                            \
    void f();                                         \
    const Registered registered_##f(text, f);         \
    TEST_CASE("parity: " text) { run_on_checked(f); } \
    void f()
#define PARITY_NAMED(f, text) PARITY_AS(f, text)
#define PARITY(text) PARITY_NAMED(DOCTEST_ANONYMOUS(parity_), text)

Tensor numbers(const Shape &shape, uint64_t seed = 1) { return randn(shape, "x", seed); }
Tensor ids(const std::vector<int> &v, const Shape &shape) { return from(v, shape, "ids"); }
Tensor random_ids(const Shape &shape, int below, uint64_t seed = 1) {
    return ids(random_ints(shape.numel(), below, seed), shape);
}

void start_gradient(const Tensor &leaf, uint64_t seed) {
    wants_grad(leaf);
    assign(gradient(leaf), values(randn(leaf.shape, "gradient", seed)));
}

// f forwards and backwards; first with a gradient into all leaves, then into each
// alone: the others get no view.
void both_ways(const Function &f, const Leaves &leaves) {
    for (int only = -1; only < (int)leaves.size(); only++) {
        if (only >= 0 && leaves.size() == 1) return;
        for (int i = 0; i < (int)leaves.size(); i++) {
            if (only < 0 || only == i) start_gradient(leaves[i], 100 + i);
            else leaves[i].s->wants_grad = false;
        }
        Tensor loss;
        for (const Tensor &y : f()) {
            const Tensor term = weighted_sum(y, randn(y.shape, "w", 99));
            loss = loss ? add(loss, term) : term;
        }
        backward(loss);
    }
}
}  // namespace

// ----------------------------------------------------------------------------------- [2] ops with a gradient
namespace {
PARITY("gather_rows, with rows named often and never, one row, more than a block of columns") {
    for (int d : {1, 5, 33, 300}) {
        const Tensor x = numbers({9, d}), many = random_ids({7, 11}, 7), one = ids({3}, {1});
        both_ways([&] { return gather_rows(x, many); }, {x});
        both_ways([&] { return gather_rows(x, one); }, {x});
    }
}

PARITY("gather_rows and combine by the slots of a dispatch, some of them nobody's") {
    std::vector<int> chosen = random_ints(41 * 3, 5, 3);
    for (int i = 0; i < 41 * 3; i += 7) chosen[i] = -1;
    const Dispatch to = dispatch(ids(chosen, {41, 3}), 6);
    for (int d : {1, 6, 37}) {
        const Tensor x = numbers({41, d}), g = numbers({41, 3}, 2), y = numbers({41 * 3, d}, 3);
        both_ways([&] { return gather_rows(x, to.token, to.slot); }, {x});
        both_ways([&] { return combine(y, to.slot, g); }, {y, g});
        both_ways([&] { return combine(y, to.slot, {}); }, {y});
    }
}

PARITY("concat, with one head for all, with itself, with more than a block of columns") {
    const Tensor a = numbers({2, 3, 4, 5}), one = numbers({2, 3, 1, 7}, 2), all = numbers({2, 3, 4, 2}, 3);
    const Tensor wide = numbers({3, 290}, 4);
    both_ways([&] { return concat(a, one); }, {a, one});
    both_ways([&] { return concat(a, all); }, {a, all});
    both_ways([&] { return concat(a, a); }, {a});
    both_ways([&] { return concat(wide, wide); }, {wide});
}

PARITY("slice on every axis, of nothing, of everything") {
    const Tensor x = numbers({3, 4, 5, 6});
    for (int axis = 0; axis < 4; axis++) {
        both_ways([&] { return slice(x, axis, 1, 2); }, {x});
        both_ways([&] { return slice(x, axis, 0, x.shape[axis]); }, {x});
        both_ways([&] { return slice(x, axis, 2, 0); }, {x});
    }
}

PARITY("pick, with an index twice in a row, and with -1") {
    const Tensor s = numbers({150, 6});
    both_ways([&] { return pick(s, random_ids({150, 4}, 6)); }, {s});
    std::vector<int> idx = random_ints(150 * 4, 6, 1);
    for (size_t i = 0; i < idx.size(); i += 7) idx[i] = -1;
    both_ways([&] { return pick(s, ids(idx, {150, 4})); }, {s});
}

PARITY("matmul, with tails of tiles in every size") {
    const int sizes[][3] = {{1, 1, 1}, {1, 40, 3}, {5, 37, 19}, {16, 16, 16}, {33, 17, 34}};
    for (const auto &[rows, k, n] : sizes) {
        const Tensor x = numbers({rows, k}), W = numbers({n, k}, 2);
        both_ways([&] { return matmul(x, W); }, {x, W});
    }
    const Tensor x = numbers({2, 3, 5}), square = numbers({6, 6}, 2);
    both_ways([&] { return matmul(x, numbers({4, 5}, 2)); }, {x});
    both_ways([&] { return matmul(square, square); }, {square});
}

PARITY("matmul_heads, plain and transposed") {
    for (int n_h : {1, 3}) {
        const Tensor x = numbers({2, 17, n_h, 18}), z = numbers({2, 17, n_h, 21}, 3);
        const Tensor W = numbers({n_h, 21, 18}, 2);
        both_ways([&] { return matmul_heads(x, W); }, {x, W});
        both_ways([&] { return matmul_heads(z, W, true); }, {z, W});
    }
}

PARITY("matmul_grouped, with empty experts, several tiles of rows, unused rows, nothing at all") {
    const Tensor x = numbers({45, 19}), W = numbers({5, 18, 19}, 2);
    const std::vector<int> tails = {0, 0, 20, 20, 37, 45}, full = {0, 16, 32, 45, 45, 45}, none(6, 0);
    for (const auto &of : {tails, full, none}) {
        const Tensor offsets = ids(of, {6});
        both_ways([&] { return matmul_grouped(x, W, offsets); }, {x, W});
    }
}

PARITY("products in bf16") {
    const Tensor x = numbers({20, 18}), W = numbers({19, 18}, 2), offsets = ids({0, 7, 7, 18}, {4});
    const Tensor by_head = numbers({5, 3, 18}, 3), heads = numbers({3, 17, 18}, 4), id = random_ids({20}, 19);
    W.s->precision = heads.s->precision = bf16;
    both_ways([&] { return matmul(x, W); }, {x, W});
    both_ways([&] { return matmul_heads(by_head, heads); }, {by_head, heads});
    both_ways([&] { return matmul_grouped(x, heads, offsets); }, {x, heads});
    both_ways([&] { return logp(x, W, id, 0.7); }, {x, W});
    both_ways([&] { return kl_vocab(x, W, numbers({20, 3}, 5), numbers({19, 3}, 6)); }, {x, W});
}

PARITY("weighted_sum, of one number and of more than a block adds up") {
    for (int n : {1, 31, 5000}) {
        const Tensor x = numbers({n}), w = numbers({n}, 2);
        both_ways([&] { return weighted_sum(x, w, 0.25); }, {x});
        both_ways([&] { return weighted_sum(x, {}, 0.25); }, {x});
    }
}

PARITY("unary, every function") {
    for (int f = 0; f < n_unary; f++)
        for (int n : {1, 333}) {
            const Tensor x = numbers({n}), positive = unary(unary_exp, x);
            both_ways([&] { return unary((Unary)f, positive, 1.5, 0.25); }, {positive});
            if (f != unary_log) both_ways([&] { return unary((Unary)f, x, -0.5, 0.1); }, {x});
        }
}

PARITY("binary, every function, with ties and with itself") {
    for (int f = 0; f < n_binary; f++) {
        const Tensor x = from(std::vector<real>{1, 2, 3, -1, 0, 5, 7}, {7});
        const Tensor y = from(std::vector<real>{2, 2, 1, -1, 0, 7, 5}, {7});
        const Tensor many = numbers({3, 111}), others = numbers({3, 111}, 2);
        both_ways([&] { return binary((Binary)f, x, y); }, {x, y});
        both_ways([&] { return binary((Binary)f, x, x); }, {x});
        both_ways([&] { return binary((Binary)f, many, others); }, {many, others});
    }
}

PARITY("swiglu, scale_rows and affine") {
    for (int d : {1, 6, 290}) {
        const Tensor a = numbers({5, d}), b = numbers({5, d}, 2), s = numbers({5}, 3);
        const Tensor bias = numbers({d}, 4), alpha = numbers({1}, 5);
        both_ways([&] { return swiglu(a, b); }, {a, b});
        both_ways([&] { return swiglu(a, a); }, {a});
        both_ways([&] { return scale_rows(a, s); }, {a, s});
        both_ways([&] { return affine(a, alpha, bias); }, {a, alpha, bias});
        both_ways([&] { return affine(a, {}, bias); }, {a, bias});
    }
}

PARITY("rmsnorm, softmax and normalize_rows, of one column, a block, and more than a block") {
    for (int d : {1, 32, 33, 300})
        for (int rows : {1, 7}) {
            const Tensor x = numbers({rows, d}), g = numbers({d}, 2), positive = unary(unary_exp, x);
            both_ways([&] { return rmsnorm(x, g, 1e-6); }, {x, g});
            both_ways([&] { return rmsnorm(x, {}, 1e-6); }, {x});
            both_ways([&] { return softmax(x); }, {x});
            both_ways([&] { return normalize_rows(positive, 2.5, 1e-3); }, {positive});
        }
}

PARITY("softmax: -inf gets no probability, NaN spoils its row alone") {
    std::vector<real> v(4 * 40, (real)0.5);
    v[3] = v[39] = -INFINITY;
    v[40 + 33] = NAN;
    for (int j = 80; j < 120; j++) v[j] = -INFINITY;
    softmax(from(v, {4, 40}));
}

PARITY("rope, both pairings, every scaling, some channels that pass") {
    const Tensor pos = random_ids({2, 5}, 100);
    for (int scaling : {rope_plain, rope_linear, rope_yarn, rope_llama3})
        for (RopePairing pairing : {rope_interleaved, rope_half_split}) {
            const Tensor x = numbers({2, 5, 3, 10}), wide = numbers({2, 5, 1, 80}, 2);
            const auto angle = [&](int dims) { return RopeAngle{10000, dims, scaling, 4, 16, 32, 1}; };
            both_ways([&] { return rope(x, pos, {3, 6, pairing, angle(6), 1.2, 1}); }, {x});
            both_ways([&] { return rope(x, pos, {0, 10, pairing, angle(10), 1, -1}); }, {x});
            both_ways([&] { return rope(wide, pos, {0, 80, pairing, angle(80), 1, 1}); }, {wide});
        }
}

Where causal(int B, int T, int offset = 0) {            // query t sees the keys 0 .. t + offset
    std::vector<int> spans;
    for (int t = 0; t < B * T; t++) spans.insert(spans.end(), {0, t % T + offset});
    return {ids(spans, {B, T, 2})};
}

void attention_both_ways(const Tensor &q, const Tensor &k, const Tensor &v, const Where &where) {
    both_ways([&] { return attention(q, k, v, where, 0.3); }, {q, k, v});
    both_ways([&] { return attention(q, k, First{2}, where, 0.3); }, {q, k});
}

PARITY("attention over causal spans longer than a block, with shared key heads and a narrow value") {
    for (int n_kv : {1, 2, 4}) {
        const Tensor q = numbers({2, 41, 4, 6}), k = numbers({2, 41, n_kv, 6}, 2);
        attention_both_ways(q, k, numbers({2, 41, n_kv, 3}, 3), causal(2, 41));
    }
}

PARITY("attention of one query over a cache, and with more columns than a block has threads") {
    const Tensor q = numbers({3, 1, 2, 5}), k = numbers({3, 70, 1, 5}, 2), v = numbers({3, 70, 1, 7}, 3);
    attention_both_ways(q, k, v, {ids({0, 69, 0, 4, 10, 64}, {3, 1, 2})});
    const Tensor wide = randn({1, 3, 1, 270}, "q", 1, 0.2), wide_k = numbers({1, 3, 1, 270}, 2);
    attention_both_ways(wide, wide_k, numbers({1, 3, 1, 290}, 3), causal(1, 3));
}

PARITY("attention over windows and over spans that see nothing") {
    const Tensor q = numbers({1, 5, 2, 4}), k = numbers({1, 40, 2, 4}, 2), v = numbers({1, 40, 2, 4}, 3);
    attention_both_ways(q, k, v, {ids({0, -1, 3, 39, 5, 4, 39, 39, 0, 33}, {1, 5, 2})});
}

PARITY("attention over lists with gaps, repetitions, and nobody") {
    const Tensor q = numbers({2, 3, 2, 4}), k = numbers({2, 40, 1, 4}, 2), v = numbers({2, 40, 1, 5}, 3);
    std::vector<int> lists = random_ints(2 * 3 * 37, 40, 5);
    for (int i = 0; i < 2 * 3 * 37; i += 3) lists[i] = -1;
    for (int i = 37; i < 2 * 37; i++) lists[i] = -1;
    lists[5] = lists[4] = lists[2];
    attention_both_ways(q, k, v, {ids(lists, {2, 3, 37}), true});
}

PARITY("attention: an infinite or missing number ends where the CPU's does") {
    std::vector<real> spoiled = values(numbers({1, 6, 1, 4}));
    spoiled[7] = NAN;
    const Tensor q = numbers({1, 6, 1, 4}, 2), v = numbers({1, 6, 1, 4}, 3);
    attention(q, from(spoiled, {1, 6, 1, 4}), v, causal(1, 6), 0.5);
    attention(q, v, from(spoiled, {1, 6, 1, 4}), causal(1, 6), 0.5);
}

PARITY("logp, of more rows than a chunk, with rows that have no target") {
    std::vector<int> targets = random_ints(150, 37, 1);
    for (int i = 0; i < 150; i += 11) targets[i] = -1;
    const Tensor h = numbers({150, 5}), W = numbers({37, 5}, 2), id = ids(targets, {150});
    both_ways([&] { return logp(h, W, id); }, {h, W});
    both_ways([&] { return logp(h, W, id, 0.7); }, {h, W});
    both_ways([&] { return logp(h, W, id).logp; }, {h, W});
    both_ways([&] { return logp(h, W, id).entropy; }, {h, W});
}

PARITY("logp over an allowed set, of one row, over more ids than a block has threads") {
    std::vector<int> may = random_ints(6 * 300, 2, 4);
    for (int n = 0; n < 6; n++) may[n * 300 + 7 + n] = 1;
    const Tensor h = numbers({2, 3, 20}), W = numbers({300, 20}, 2), id = ids({7, 8, 9, 10, 11, 12}, {2, 3});
    both_ways([&] { return logp(h, W, id, 1.3, reshape(sets(may, 300), {2, 3, 10})); }, {h, W});
    const Tensor one = numbers({1, 3}), few = numbers({2, 3}, 2);
    both_ways([&] { return logp(one, few, ids({1}, {1})); }, {one, few});
}

PARITY(
    "kl_vocab, of more rows than a chunk, with NaN in those that do not count, over more ids than a block") {
    std::vector<int> at(150, 0);
    std::vector<real> spoilt = values(numbers({150, 5}));
    for (int i = 0; i < 150; i += 11) at[i] = -1, spoilt[5 * i] = NAN;
    const Tensor h = from(spoilt, {150, 5}), pos = ids(at, {150}), g = numbers({150, 7}, 2);
    for (Direction way : {Direction::forward, Direction::reverse})
        for (int V : {1, 37, 300}) {
            const Tensor W = numbers({V, 5}, 3), U = numbers({V, 7}, 4);
            both_ways([&] { return kl_vocab(h, W, g, U, pos, way, 0.7); }, {h, W});
        }
    const Tensor one = numbers({1, 5}), W = numbers({37, 5}, 3), U = numbers({37, 7}, 4);
    both_ways([&] { return kl_vocab(one, W, numbers({1, 7}, 5), U); }, {one, W});
    const Tensor same = clone(h), copy = clone(W);
    for (Direction way : {Direction::forward, Direction::reverse})
        both_ways([&] { return kl_vocab(h, W, same, copy, pos, way); }, {h, W});
}

// -------------------------------------------------------------------------------- [3] ops that choose or act
PARITY("topk, with ties, with and without groups and bias, of more experts than a block has threads") {
    const Tensor pos = ids({0, 1, -1, 0, -1, -1, 0, 1, 2}, {3, 3});
    for (int E : {1, 8, 40, 304}) {
        std::vector<real> scores;
        for (int i : random_ints(9 * E, 5, 1)) scores.push_back((real)i / 4);      // many ties
        const Tensor tied = from(scores, {9, E}), s = numbers({9, E}), b = numbers({E}, 2);
        for (const Tensor &score : {tied, s})
            for (const Tensor &bias : {b, Tensor()}) {
                topk(score, bias, {.K = 1});
                topk(score, bias, {.K = E});
                topk(score, bias, {.K = E}, pos);
                if (E < 8) continue;
                topk(score, bias, {.K = 5, .groups = 4, .keep = 3, .best = 1});
                topk(score, bias, {.K = E / 4, .groups = 4, .keep = 1, .best = 2});
                topk(score, bias, {.K = 2, .groups = E, .keep = 2, .best = 1});
            }
    }
}

PARITY("dispatch, stable, with experts that nobody chose and choices of nobody") {
    for (int n : {1, 20, 151})
        for (int E : {1, 3, 40}) {
            std::vector<int> chosen = random_ints(n * 2, E, 2);
            for (int i = 0; i < n * 2; i += 5) chosen[i] = -1;
            dispatch(ids(chosen, {n, 2}), E);
            dispatch(random_ids({n, 2}, E), E + 2);
        }
}

PARITY("balance, over several sequences, some of them padded, some nothing else") {
    std::vector<int> chosen = random_ints(12 * 3, 40, 2);
    chosen[4] = -1;
    for (int T : {1, 4, 12}) balance(ids(chosen, {12, 3}), 40, T, 0.01);
    std::fill_n(chosen.begin() + 3, 3 * 5, -1);       // rows 1 to 5: with T = 4, most of one, some of another
    for (int T : {1, 2, 4, 12}) balance(ids(chosen, {12, 3}), 40, T, 0.01);
}

PARITY("balance, by device and by communication") {
    std::vector<int> chosen = random_ints(12 * 5, 40, 2);
    std::fill_n(chosen.begin() + 3, 5 * 4, -1);
    for (int D : {1, 4, 10, 40})
        for (int M : {0, 1, 3}) balance(ids(chosen, {12, 5}), 40, 4, 0.01, D, M);
}

PARITY("hash_route, more than a block, some of it padding") {
    for (int n : {1, 300}) {
        std::vector<int> pos = random_ints(n, 5, 2);
        for (int &p : pos) p -= 1;
        hash_route(random_ids({n, 1}, 50257), 7, ids(pos, {n, 1}));
        hash_route(random_ids({n}, 97), 64);
    }
}

PARITY("drop, with ties, exempt rows and choices of nobody") {
    for (int n : {1, 7, 130}) {
        const Tensor s = softmax(numbers({n, 12})), flat = zeros({n, 12});
        std::vector<int> chosen = int_values(topk(s, {}, {.K = 3}));
        for (int i = 0; i < n * 3; i += 7) chosen[i] = -1;
        const Tensor idx = ids(chosen, {n, 3}), exempt = random_ids({n}, 2, 5);
        for (const Tensor &affinity : {s, flat})
            for (int D : {1, 4, 12})
                for (double capacity : {0.3, 1.0, 2.0}) {
                    drop(affinity, idx, exempt, D, capacity);
                    drop(affinity, idx, {}, D, capacity);
                }
    }
}

PARITY("sample: greedy, top_k, top_p and all, with ties") {
    std::vector<real> tied;
    for (int i : random_ints(5 * 300, 7, 3)) tied.push_back((real)i);
    const Tensor key = random_ids({5, 3}, 1000);
    for (const Tensor &z : {from(tied, {5, 300}), numbers({5, 300}), numbers({5, 1})})
        for (double temperature : {0.0, 0.6, 1.0})
            for (int top_k : {0, 1, 17, 1000})
                for (double top_p : {0.01, 0.8, 1.0})
                    sample(z, key, {.temperature = temperature, .top_p = top_p, .top_k = top_k, .seed = 4});
}

PARITY("append, with a position of nobody, one past the end, one twice") {
    const Tensor rows = numbers({3, 8, 2, 70}), x = numbers({3, 4, 2, 70}, 2);
    append(rows, x, ids({0, 1, 2, 3, -1, 3, 8, 3, 7, -1, 6, 6}, {3, 4}));
}

PARITY("adamw, with and without clipping, early and late") {
    for (int step : {1, 1000})
        for (double clip : {0.0, 0.5, 1e6}) {
            const Tensor W = numbers({7, 43}), m = numbers({7, 43}, 2), dW = numbers({7, 43}, 4);
            const Tensor v = unary(unary_exp, numbers({7, 43}, 3)), norm2 = zeros({1});
            sum_squares(dW, norm2);
            adamw(W, m, v, dW, norm2, {.lr = 0.01, .decay = 0.1, .clip = clip, .step = step});
            adamw(W, m, v, dW, {}, {.lr = 0.01, .step = step});
        }
}

PARITY("sum_squares and scale_add, numbers and integers, with themselves") {
    for (int n : {1, 33, 9000}) {
        const Tensor x = numbers({n}), y = numbers({n}, 2), total = numbers({1}, 3);
        sum_squares(x, total);
        scale_add(y, x, 0.9, -0.2);
        scale_add(y, y, 0.5, 0.25);
        scale_add(random_ids({n}, 100), random_ids({n}, 50, 2), 2, -3);
    }
}

PARITY("bias_update, of experts above, below and at the mean") {
    bias_update(numbers({5}), ids({1, 3, 2, 0, 4}, {5}), 0.001);
    bias_update(numbers({300}), random_ids({300}, 9), 0.001);
}
}  // namespace

// --------------------------------------------------------------------------------------- [4] what is covered
TEST_CASE("parity: the cases above see every op, forwards and, where it has a gradient, backwards") {
    std::vector<Parity> before(n_ops);
    for (int op = 0; op < n_ops; op++) before[op] = parity_of(op);
    for (const Case &c : cases) run_on_checked(c.run);
    for (int op = 0; op < n_ops; op++) {
        INFO(ops[op].name);
        CHECK(parity_of(op).seen_forward > before[op].seen_forward);
        CHECK((parity_of(op).seen_backward > before[op].seen_backward) == ops[op].has_gradient);
    }
    CHECK(pool_report(cuda_device).held_bytes == 0);     // every comparison gave its copies back
}

TEST_CASE("parity: what is not covered is named, not shown as an address") {
    CHECK(doctest::toString(ops[op_rmsnorm].name) == "rmsnorm");
}

TEST_CASE("parity: the CPU's plain kernels and its fast ones agree with CUDA alike") {
    for (const Case &c : cases) {
        const WithKernels plain(Kernels::plain);
        run_on_checked(c.run);
    }
    CHECK(pool_report(cuda_device).held_bytes == 0);
}

TEST_CASE("parity: table of worst errors so far (PARITY_TABLE=1 prints it)") {
    std::string text;
    for (int op = 0; op < n_ops; op++) {
        const Parity &p = parity_of(op);
        CHECK(p.forward <= parity_tolerance(false));
        CHECK(p.backward <= parity_tolerance(true));
        char line[128];
        snprintf(line, sizeof line, "%-16s forward %8.1e in %5ld   backward %8.1e in %5ld\n", ops[op].name,
                 p.forward, p.seen_forward, p.backward, p.seen_backward);
        text += line;
    }
    if (getenv("PARITY_TABLE")) MESSAGE("worst relative errors, and how often compared\n" << text);
}

// --------------------------------------------------------------------------------- [5] does checked find it?
TEST_CASE("checked: an error is the largest difference over the largest number; NaN equals NaN alone") {
    std::vector<real> a = {1, -4, 2, 0, 3, 1, 2}, b = a;
    const auto view = [](std::vector<real> &v) { return View{v.data(), {(long)v.size()}, REALS}; };
    CHECK(relative_error(view(a), view(b)) == 0);
    b[2] += 1;
    CHECK(relative_error(view(a), view(b)) == 0.25);
    CHECK(worst_difference(view(a), view(b)).at == 2);
    b[3] = NAN;                                          // one NaN in mid-tensor
    CHECK(relative_error(view(a), view(b)) == INFINITY);
    CHECK(worst_difference(view(a), view(b)).at == 3);
    CHECK(relative_error(view(b), view(a)) == INFINITY);
    a[3] = NAN;
    CHECK(relative_error(view(a), view(b)) == 0.25);
    a[5] = b[5] = INFINITY;                              // equal, and no measure of what is large
    CHECK(relative_error(view(a), view(b)) == 0.25);
    b[5] = -INFINITY;
    CHECK(relative_error(view(a), view(b)) == INFINITY);
    b[5] = 5;
    CHECK(worst_difference(view(a), view(b)).at == 5);
    std::vector<real> zeros = {0, 0}, tiny = {0, (real)1e-30};
    CHECK(relative_error(view(zeros), view(tiny)) == INFINITY);
    CHECK(relative_error(view(zeros), view(zeros)) == 0);
    std::vector<int> i = {1, 2, 3}, j = {1, 2, 4};
    CHECK(relative_error(View{i.data(), {3}, INTS}, View{i.data(), {3}, INTS}) == 0);
    CHECK(worst_difference(View{i.data(), {3}, INTS}, View{j.data(), {3}, INTS}).at == 2);
}

namespace {
// CUDA's table with a mistake in one op, while one of these lives; one at a time.
const OpKernels *honest = nullptr;
struct WithMistake {
    std::vector<OpKernels> table{cuda_device.kernels, cuda_device.kernels + n_ops};
    WithMistake(int op, OpKernels mistaken) {
        honest = cuda_device.kernels;
        if (mistaken.forward) table[op].forward = mistaken.forward;
        if (mistaken.backward) table[op].backward = mistaken.backward;
        cuda_device.kernels = table.data();
    }
    ~WithMistake() { cuda_device.kernels = honest; }
};

void overwrite(const View &v, long at, real value) { cuda_device.up((real *)v.p + at, &value, sizeof value); }

std::string what_checked_says(const std::function<void()> &action) {
    const OnChecked here;
    const TapeGuard clear;
    return error_of(action);
}
}  // namespace

TEST_CASE("checked: one NaN in mid-tensor is found and named") {
    const WithMistake planted(op_swiglu, {[](const Call &c) {
                                              honest[op_swiglu].forward(c);
                                              overwrite(c.out[0], 7, NAN);
                                          },
                                          nullptr});
    const std::string said = what_checked_says([] { swiglu(numbers({3, 5}), numbers({3, 5}, 2)); });
    INFO(said);
    CHECK(said.starts_with("checked: swiglu.forward out0 (3,5): CPU "));
    CHECK(said.ends_with(", CUDA nan at [7]; relative error inf"));
    CHECK(pool_report(cuda_device).held_bytes == 0);     // even then all copies were given back
}

TEST_CASE("checked: an output that CUDA does not write is found") {
    const OpKernels lazy = {[](const Call &) {}, nullptr};
    {
        const WithMistake of_reals(op_softmax, lazy);
        const std::string said = what_checked_says([] { softmax(numbers({3, 5})); });
        CHECK(said.starts_with("checked: softmax.forward out0 (3,5): CPU "));
    }
    const WithMistake of_integers(op_dispatch, lazy);
    const std::string said = what_checked_says([] { dispatch(ids({-1, -1}, {2, 1}), 1); });
    CHECK(said.starts_with("checked: dispatch.forward out0 (2,1): CPU -1, CUDA "));
}

TEST_CASE("checked: `=` where `+=` belongs is found, because gradients do not start at zero") {
    const WithMistake forgetful(op_matmul, {nullptr, [](const Call &c) {
                                                cuda_device.zero(c.din[1].p, c.din[1].numel() * sizeof(real));
                                                honest[op_matmul].backward(c);
                                            }});
    const std::string said = what_checked_says([] {
        const Tensor x = numbers({3, 5}), W = numbers({4, 5}, 2);
        both_ways([&] { return matmul(x, W); }, {x, W});
    });
    CHECK(said.starts_with("checked: matmul.backward din1 (4,5): CPU "));
}

TEST_CASE("checked: a wrong in-place operand is found") {
    const WithMistake stuck(op_append, {[](const Call &) {}, nullptr});
    const std::string said =
        what_checked_says([] { append(numbers({1, 4, 1, 3}), numbers({1, 1, 1, 3}, 2), ids({2}, {1, 1})); });
    CHECK(said.starts_with("checked: append.forward in0 (1,4,1,3): CPU "));
}

TEST_CASE("checked: after an op the CPU's result stands") {
    const WithMistake slightly(op_swiglu, {[](const Call &c) {
                                               honest[op_swiglu].forward(c);
                                               overwrite(c.out[0], 0, (real)(0.5 * parity_tolerance(false)));
                                           },
                                           nullptr});
    const OnChecked here;
    const Tensor zero = from(std::vector<real>{0, 1}, {2});
    CHECK(values(swiglu(zero, zero))[0] == 0);
}

// --------------------------------------------------------------------------- [6] orders of threads, barriers
// Only where this program emulates CUDA. REAL_CUDA: nvcc compiled the kernels, and a GPU chooses the order.
#ifndef REAL_CUDA
#include <omp.h>
#include <sys/wait.h>
#include <unistd.h>

#include "src/cuda/cuda_on_cpu.h"

namespace {
void walk(Emulator::Order order, unsigned seed) {
    emulator.order = order;
    emulator.seed = seed;
    for (const Case &c : cases) run_on_checked(c.run);
}

// Does the walk without this barrier go wrong? In a child, for it may also end in an abort.
bool noticed_without(int barrier, Emulator::Order order, unsigned seed) {
    const pid_t child = fork();
    if (child == 0) {
        if (!freopen("/dev/null", "w", stderr)) _exit(1);
        omp_set_num_threads(1);                          // the parent's threads are not in the child
        emulator.skip_barrier = barrier;
        const std::string said = error_of([&] { walk(order, seed); });
        _exit(said.empty() ? 0 : 1);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}
}  // namespace

TEST_CASE("parity: in whatever order threads and blocks run") {
    using enum Emulator::Order;
    for (auto order : {ascending, descending, shuffled, interleaved}) {
        INFO("order " << (int)order);
        CHECK(error_of([&] { walk(order, 1); }) == "");
    }
    emulator = {};
}

TEST_CASE("parity: without any one of its barriers some kernel goes wrong") {
    emulator = {};
    walk(Emulator::ascending, 1);
    const std::vector<Site> seen = emulator.barriers_seen;
    REQUIRE(!seen.empty());
    for (int i = 0; i < (int)seen.size(); i++) {
        INFO(seen[i].file << ":" << seen[i].line);
        bool noticed = false;
        for (auto order : {Emulator::descending, Emulator::ascending, Emulator::shuffled})
            noticed = noticed || noticed_without(i, order, 1);
        CHECK(noticed);
    }
    emulator = {};
}
#endif
#endif

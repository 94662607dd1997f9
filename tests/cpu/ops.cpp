// ops.cpp: the specification of the ops with a gradient, in the order of src/cpu/ops.cpp.
//
// For each op: its equation in plain double loops, its gradient, and what must be true of it whatever the
// numbers. -tc="rope*" runs one op's guards. Those without a gradient are in ops_no_grad.cpp.
//
//   [1] rows by index   [2] products   [3] pointwise   [4] norms   [5] position and attention   [6] logp
//   [7] bits: neighbours and threads   [8] the table
#include <algorithm>
#include <cstring>

#include "tests/check.h"

namespace {

Tensor ids(const std::vector<int> &v, const Shape &shape) { return from(v, shape, "ids"); }
Tensor random_ids(const Shape &shape, int below, uint64_t seed) {
    return ids(random_ints(shape.numel(), below, seed), shape);
}

// Rows [first, first + n) of a tensor's flattened rows, as a matrix.
Tensor some_rows(const Tensor &x, long first, long n) {
    const std::vector<real> v = values(x);
    const long d = x.shape.width();
    return from(std::vector<real>(v.begin() + first * d, v.begin() + (first + n) * d), {n, d}, x.s->name);
}

}  // namespace

// ========================================================================================= [1] rows by index

TEST_CASE("gather_rows: y_i is the row of x that ids_i names") {
    const Tensor x = randn({4, 3}, "x", 1), id = ids({2, 0, 2, 3, 1, 2}, {2, 3}), y = gather_rows(x, id);
    Numbers X(x), I(id), Y({2, 3, 3});
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < 3; k++)
            for (int j = 0; j < 3; j++) Y(i, k, j) = X(I(i, k), j);
    CHECK(relative_error(y, Y) == 0);
}

TEST_CASE("gather_rows: gradient, with rows named often and never") {
    const Tensor x = randn({5, 3}, "x", 1), id = ids({2, 0, 2, 4, 2, 0, 1}, {7});
    check_gradient([&] { return gather_rows(x, id); }, {x});
}

TEST_CASE("gather_rows: gradient by slots, the inverse that dispatch gives") {
    const Tensor x = randn({5, 3}, "x", 1), idx = ids({2, 0, 1, -1, 2, 1, -1, -1, 0, 2}, {5, 2});
    const Tensor g = randn({5, 2}, "g", 2);
    const Dispatch d = dispatch(idx, 3);
    const auto through = [&](const Tensor &slot) {
        return combine(gather_rows(x, d.token, slot), d.slot, g);
    };
    check_gradient([&] { return through(d.slot); }, {x, g});
    const auto with = outputs_and_gradients([&] { return through(d.slot); }, {x});
    const auto without = outputs_and_gradients([&] { return through({}); }, {x});
    CHECK(relative_error(with[1], without[1]) < oracle_bar);
}

TEST_CASE("combine: a row is the gated sum of its slots, slot -1 is nothing") {
    const Tensor y = randn({6, 3}, "y", 1), g = randn({3, 2}, "g", 2),
                 slot = ids({4, 0, -1, 1, -1, -1}, {3, 2});
    const Tensor z = combine(y, slot, g);
    Numbers Y(y), G(g), S(slot), Z({3, 3});
    for (int n = 0; n < 3; n++)
        for (int k = 0; k < 2; k++)
            for (int j = 0; j < 3 && S(n, k) >= 0; j++) Z(n, j) += G(n, k) * Y(S(n, k), j);
    CHECK(relative_error(z, Z) < oracle_bar);
    check_gradient([&] { return combine(y, slot, g); }, {y, g});
    CHECK(same_bits(combine(y, slot, {}), combine(y, slot, from(std::vector<real>(6, 1), {3, 2}))));
    check_gradient([&] { return combine(y, slot, {}); }, {y});
}

TEST_CASE("concat: the numbers of a, then those of b; one head of b serves all heads") {
    for (int b_heads : {3, 1}) {
        const Tensor a = randn({2, 2, 3, 3}, "a", 1), b = randn({2, 2, b_heads, 2}, "b", 2), y = concat(a, b);
        Numbers A(a), B(b), Y({2, 2, 3, 5});
        for (int i = 0; i < 2; i++)
            for (int t = 0; t < 2; t++)
                for (int h = 0; h < 3; h++) {
                    for (int j = 0; j < 3; j++) Y(i, t, h, j) = A(i, t, h, j);
                    for (int j = 0; j < 2; j++) Y(i, t, h, 3 + j) = B(i, t, b_heads == 1 ? 0 : h, j);
                }
        CHECK(relative_error(y, Y) == 0);
        check_gradient([&] { return concat(a, b); }, {a, b});
    }
}

TEST_CASE("concat: refuses leading sizes that differ") {
    const Tensor a = randn({2, 3, 4, 1}, "a", 1);
    CHECK(error_of([&] { concat(a, randn({2, 3, 3, 1}, "b", 2)); }) ==
          "concat: a (2,3,4,1) and b (2,3,3,1): leading sizes differ");
    CHECK(error_of([&] { concat(a, randn({3, 2, 4, 1}, "b", 2)); }) != "");
    CHECK(error_of([&] { concat(a, randn({2, 1, 4, 1}, "b", 2)); }) != "");
}

TEST_CASE("slice: a range of any axis, copied") {
    const Tensor x = randn({3, 4, 2, 5}, "x", 1);
    Numbers X(x);
    for (int axis = 0; axis < 4; axis++)
        for (int from : {0, 1}) {
            const int n = x.shape[axis] - 1;
            const Tensor y = slice(x, axis, from, n);
            Numbers Y(y.shape);
            CHECK(y.shape[axis] == n);
            int s[4] = {0, 0, 0, 0};
            s[axis] = from;
            for (int a = 0; a < y.shape[0]; a++)
                for (int b = 0; b < y.shape[1]; b++)
                    for (int c = 0; c < y.shape[2]; c++)
                        for (int d = 0; d < y.shape[3]; d++)
                            Y(a, b, c, d) = X(a + s[0], b + s[1], c + s[2], d + s[3]);
            CHECK(relative_error(y, Y) == 0);
            check_gradient([&] { return slice(x, axis, from, n); }, {x});
        }
}

TEST_CASE("slice: refuses a range outside of the axis") {
    const Tensor x = randn({3, 4}, "x", 1);
    CHECK(error_of([&] { slice(x, 1, 2, 3); }) == "slice: 2 to 5 on axis 1 of x (3,4)");
    CHECK(error_of([&] { slice(x, 2, 0, 1); }) != "");
    CHECK(error_of([&] { slice(x, 0, -1, 2); }) != "");
    CHECK(error_of([&] { slice(x, -1, 0, 2); }) != "");
}

TEST_CASE("pick: the numbers of a row that its indices name, also twice") {
    const Tensor s = randn({3, 4}, "s", 1), idx = ids({3, 0, 2, 2, 1, 3}, {3, 2}), y = pick(s, idx);
    Numbers S(s), I(idx), Y({3, 2});
    for (int n = 0; n < 3; n++)
        for (int k = 0; k < 2; k++) Y(n, k) = S(n, I(n, k));
    CHECK(relative_error(y, Y) == 0);
    check_gradient([&] { return pick(s, idx); }, {s});
}

TEST_CASE("pick: -1 names nobody, and gives 0 and no gradient") {
    const Tensor s = randn({2, 3}, "s", 1), idx = ids({-1, 2, -1, -1}, {2, 2});
    CHECK(values(pick(s, idx)) == std::vector<real>{0, values(s)[2], 0, 0});
    check_gradient([&] { return pick(s, idx); }, {s});
}

// ============================================================================================== [2] products

static Numbers matmul_oracle(const Tensor &x, const Tensor &W) {
    const long n = x.shape.rows(), a = x.shape.width(), b = W.shape[0];
    Numbers X(reshape(x, {n, a})), w(W), Y({n, b});
    for (long i = 0; i < n; i++)
        for (long o = 0; o < b; o++)
            for (long j = 0; j < a; j++) Y(i, o) += X(i, j) * w(o, j);
    Y.shape = x.shape.with_width(b);
    return Y;
}

TEST_CASE("matmul: y = x W^T and its gradient, for 1 to 9 rows and odd widths") {
    for (int rows = 1; rows <= 9; rows++)
        for (const auto &pair : {std::pair{1, 1}, {3, 5}, {7, 2}, {5, 9}}) {
            const int a = pair.first, b = pair.second;
            const Tensor x = randn({rows, a}, "x", 1), W = randn({b, a}, "W", 2);
            INFO(rows, " rows, ", a, " to ", b);
            for (Kernels kernels : {Kernels::plain, Kernels::fast}) {
                WithKernels use(kernels);
                CHECK(relative_error(matmul(x, W), matmul_oracle(x, W)) < oracle_bar);
            }
            check_gradient([&] { return matmul(x, W); }, {x, W});
        }
}

TEST_CASE("matmul: leading sizes are rows, and more rows than a chunk change nothing") {
    const Tensor x = randn({2, 35, 19}, "x", 1), W = randn({71, 19}, "W", 2);
    for (Kernels kernels : {Kernels::plain, Kernels::fast}) {
        WithKernels use(kernels);
        CHECK(relative_error(matmul(x, W), matmul_oracle(x, W)) < oracle_bar);
    }
    check_kernels([&] { return matmul(x, W); }, {x, W}, oracle_bar);
}

TEST_CASE("matmul: refuses inner sizes that differ, naming both shapes") {
    CHECK(error_of([&] { matmul(randn({2, 3, 5}, "x", 1), randn({4, 6}, "W", 2)); }) ==
          "matmul: x (2,3,5) and W (4,6): inner sizes differ");
}

TEST_CASE("matmul_heads: head h of x times its own matrix, or its transpose") {
    for (bool transpose : {false, true})
        for (int rows = 1; rows <= 5; rows += 2) {
            const Tensor x = randn({rows, 2, 3, transpose ? 4 : 5}, "x", 1), W = randn({3, 4, 5}, "W", 2);
            const Tensor y = matmul_heads(x, W, transpose);
            Numbers X(x), w(W), Y({rows, 2, 3, transpose ? 5 : 4});
            for (int b = 0; b < rows; b++)
                for (int t = 0; t < 2; t++)
                    for (int h = 0; h < 3; h++)
                        for (int o = 0; o < Y.shape[3]; o++)
                            for (int j = 0; j < X.shape[3]; j++)
                                Y(b, t, h, o) += X(b, t, h, j) * (transpose ? w(h, j, o) : w(h, o, j));
            CHECK(relative_error(y, Y) < oracle_bar);
            check_gradient([&] { return matmul_heads(x, W, transpose); }, {x, W});
        }
}

// Experts with 0 to 9 rows; two rows at the end belong to nobody.
TEST_CASE("matmul_grouped: rows of expert e times its matrix, rows of nobody give 0") {
    const std::vector<std::vector<int>> cases = {
        {0, 0, 3, 3, 4}, {0, 1, 10, 17, 25}, {0, 0, 0, 0, 0}, {0, 2, 6, 14, 14}};
    for (const std::vector<int> &offset : cases)
        for (const auto &pair : {std::pair{3, 5}, {1, 2}, {7, 1}}) {
            const int a = pair.first, b = pair.second;
            const long M = offset.back() + 2;
            const Tensor x = randn({M, a}, "x", 1), W = randn({4, b, a}, "W", 2), offsets = ids(offset, {5});
            Numbers X(x), w(W), Y({M, b});
            for (int e = 0; e < 4; e++)
                for (int i = offset[e]; i < offset[e + 1]; i++)
                    for (int o = 0; o < b; o++)
                        for (int j = 0; j < a; j++) Y(i, o) += X(i, j) * w(e, o, j);
            for (Kernels kernels : {Kernels::plain, Kernels::fast}) {
                WithKernels use(kernels);
                CHECK(relative_error(matmul_grouped(x, W, offsets), Y) < oracle_bar);
            }
            check_gradient([&] { return matmul_grouped(x, W, offsets); }, {x, W});
        }
}

TEST_CASE("matmul_grouped: more rows than a chunk for one expert change nothing") {
    const Tensor x = randn({150, 9}, "x", 1), W = randn({3, 11, 9}, "W", 2),
                 offsets = ids({0, 67, 67, 149}, {4});
    check_kernels([&] { return matmul_grouped(x, W, offsets); }, {x, W}, oracle_bar);
}

namespace {

Tensor rounded(const Tensor &x) {
    std::vector<real> v = values(x);
    for (real &a : v) a = to_bf16(a);
    return from(v, x.shape, x.s->name);
}

// Output, dx and dW of a product, for a given dy.
Outputs product_and_gradients(const std::function<Tensor(const Tensor &, const Tensor &)> &product,
                              const Tensor &x, const Tensor &W, const Tensor &dy) {
    const Tensor own_x = wants_grad(clone(x)), own_W = wants_grad(clone(W)), y = product(own_x, own_W);
    backward(weighted_sum(y, dy));
    return {y, gradient(own_x), gradient(own_W)};
}

// In bf16 a product is, to the bit, the plain product of operands that were rounded before, and its backward
// the plain backward on them and on a rounded dy. Without it W is what it was.
void check_bf16(const std::function<Tensor(const Tensor &, const Tensor &)> &product, const Tensor &x,
                const Tensor &W, bool round_dy = true) {
    for (Kernels kernels : {Kernels::plain, Kernels::fast}) {
        WithKernels use(kernels);
        const Tensor dy = randn(product(x, W).shape, "dy", 3);
        const Outputs in_f32 = product_and_gradients(product, x, W, dy);
        const Outputs expected =
            product_and_gradients(product, rounded(x), rounded(W), round_dy ? rounded(dy) : dy);
        W.s->precision = bf16;
        const Outputs got = product_and_gradients(product, x, W, dy);
        W.s->precision = f32;
        const Outputs again = product_and_gradients(product, x, W, dy);
        for (size_t i = 0; i < 3; i++) {
            INFO((kernels == Kernels::plain ? "plain" : "fast"), ", number ", i, " of y, dx, dW");
            CHECK(same_bits(got[i], expected[i]));
            CHECK(!same_bits(got[i], in_f32[i]));
            CHECK(same_bits(again[i], in_f32[i]));
            CHECK(relative_error(got[i], in_f32[i]) < 0.02);         // two operands, 2^-9 each, of few terms
        }
    }
}

}  // namespace

TEST_CASE("matmul: bf16 rounds x, W and dy, and nothing else") {
    check_bf16([](const Tensor &x, const Tensor &W) { return matmul(x, W); }, randn({7, 19}, "x", 1),
               randn({5, 19}, "W", 2));
}

TEST_CASE("matmul_heads: bf16 rounds x, W and dy, and nothing else") {
    for (bool transpose : {false, true})
        check_bf16([=](const Tensor &x, const Tensor &W) { return matmul_heads(x, W, transpose); },
                   randn({2, 3, 4, 6}, "x", 1), randn({4, 6, 6}, "W", 2));
}

TEST_CASE("matmul_grouped: bf16 rounds x, W and dy, and nothing else") {
    const Tensor offsets = ids({0, 4, 4, 9}, {4});
    check_bf16([&](const Tensor &x, const Tensor &W) { return matmul_grouped(x, W, offsets); },
               randn({9, 8}, "x", 1), randn({3, 5, 8}, "W", 2));
}

TEST_CASE("logp: bf16 rounds h and W, and neither logits nor their gradient") {
    const Tensor id = random_ids({9}, 11, 4);
    check_bf16([&](const Tensor &h, const Tensor &W) { return logp(h, W, id, 0.7).logp; },
               randn({9, 6}, "h", 1), randn({11, 6}, "W", 2), false);
}

TEST_CASE("kl_vocab: bf16 rounds h and W, and, of a teacher in bf16, g and U") {
    const Tensor h = randn({9, 6}, "h", 1), W = randn({11, 6}, "W", 2), g = randn({9, 7}, "g", 3),
                 U = randn({11, 7}, "U", 4), coarse = clone(U);
    coarse.s->precision = bf16;
    for (Direction way : {Direction::forward, Direction::reverse}) {
        for (const Tensor &head : {U, coarse})
            check_bf16(
                [&](const Tensor &h, const Tensor &W) { return kl_vocab(h, W, g, head, {}, way, 0.7); }, h, W,
                false);
        CHECK(same_bits(kl_vocab(h, W, g, coarse, {}, way), kl_vocab(h, W, rounded(g), rounded(U), {}, way)));
        CHECK(!same_bits(kl_vocab(h, W, g, coarse, {}, way), kl_vocab(h, W, g, U, {}, way)));
    }
}

TEST_CASE("precision: an alias and a copy of a weight keep it, a product's output has none") {
    const Tensor W = randn({3, 4}, "W", 1), x = randn({2, 4}, "x", 2);
    W.s->precision = bf16;
    CHECK(clone(W).s->precision == bf16);
    CHECK(detach(W).s->precision == bf16);
    CHECK(reshape(W, {4, 3}).s->precision == bf16);
    CHECK(matmul(x, W).s->precision == f32);
}

// ============================================================================================= [3] pointwise

TEST_CASE("weighted_sum: a sum_i w_i x_i, and without w every weight is 1") {
    const Tensor x = randn({3, 5}, "x", 1), w = randn({3, 5}, "w", 2);
    Numbers X(x), w_(w), with({1}), without({1});
    for (int i = 0; i < 15; i++) {
        with(0) += -1.5 * w_.v[i] * X.v[i];
        without(0) += X.v[i] / 15;
    }
    CHECK(relative_error(weighted_sum(x, w, -1.5), with) < oracle_bar);
    CHECK(relative_error(mean(x), without) < oracle_bar);
    check_gradient([&] { return weighted_sum(x, w, -1.5); }, {x});
    check_gradient([&] { return mean(x); }, {x});
}

TEST_CASE("weighted_sum: w is a constant and gets no gradient") {
    const Tensor x = randn({3}, "x", 1), w = randn({3}, "w", 2);
    const auto r = outputs_and_gradients([&] { return weighted_sum(x, w); }, {w});
    const auto s = outputs_and_gradients([&] { return weighted_sum(x, detach(w)); }, {w});
    CHECK(same_bits(r[1], s[1]));
}

// The families typed once more, by the library's functions in double.
static double unary_oracle(int f, double x) {
    switch (f) {
    case unary_identity: return x;
    case unary_silu: return x / (1 + exp(-x));
    case unary_sigmoid: return 1 / (1 + exp(-x));
    case unary_tanh: return tanh(x);
    case unary_exp: return exp(x);
    case unary_log: return log(x);
    case unary_relu: return x > 0 ? x : 0;
    case unary_log_sigmoid: return -log(1 + exp(-x));
    case unary_k3: return exp(x) - 1 - x;
    }
    FAIL("unary function ", f, " has no oracle");
    return NAN;
}

TEST_CASE("unary: y = f(ax + c) and its gradient, for every function of the family") {
    for (int f = 0; f < n_unary; f++)
        for (const auto &pair : {std::pair{1.0, 0.0}, {-0.7, 0.0}, {1.0, 0.25}, {0.5, -0.5}}) {
            const double a = pair.first, c = pair.second;
            INFO("function ", f, ", a ", a, ", c ", c);
            Tensor x = away_from_zero({3, 7}, "x", 11 + f);
            if (c != 0 || f == unary_log) {                              // keeps ax + c on the safe side of 0
                std::vector<real> v = values(x);
                for (real &u : v) u = (real)((1 + fabs(u)) / a);
                assign(x, v);
            }
            const Tensor y = unary((Unary)f, x, a, c);
            Numbers X(x), Y(x.shape);
            for (size_t i = 0; i < Y.v.size(); i++) Y.v[i] = unary_oracle(f, a * X.v[i] + c);
            CHECK(relative_error(y, Y) < oracle_bar);
            check_gradient([&] { return unary((Unary)f, x, a, c); }, {x});
        }
}

TEST_CASE("unary: tensors longer than a chunk are done to the end") {
    const Tensor x = randn({9000}, "x", 1);
    const std::vector<real> v = values(x), y = values(unary(unary_identity, x, -2, 1));
    for (size_t i = 0; i < v.size(); i++) REQUIRE(y[i] == -2 * v[i] + 1);
}

static double binary_oracle(int f, double x, double y) {
    switch (f) {
    case binary_add: return x + y;
    case binary_sub: return x - y;
    case binary_mul: return x * y;
    case binary_min: return x < y ? x : y;
    case binary_max: return x < y ? y : x;
    }
    FAIL("binary function ", f, " has no oracle");
    return NAN;
}

TEST_CASE("binary: z = f(x, y) and its gradient, for every function of the family") {
    for (int f = 0; f < n_binary; f++) {
        INFO("function ", f);
        const Tensor x = randn({3, 7}, "x", 1), y = away_from_zero({3, 7}, "y", 2);
        assign(y, values(add(x, y)));   // x and y stay apart: min and max have a kink
        Numbers X(x), Y(y), Z(x.shape);
        for (size_t i = 0; i < Z.v.size(); i++) Z.v[i] = binary_oracle(f, X.v[i], Y.v[i]);
        CHECK(relative_error(binary((Binary)f, x, y), Z) < oracle_bar);
        check_gradient([&] { return binary((Binary)f, x, y); }, {x, y});
    }
}

TEST_CASE("binary: a tie of min or max sends its gradient to x") {
    for (Binary f : {binary_min, binary_max}) {
        const Tensor x = from(std::vector<real>{1, 2}, {2}, "x"), y = clone(x);
        wants_grad(x), wants_grad(y);
        backward(weighted_sum(binary(f, x, y), {}));
        CHECK(values(gradient(x)) == std::vector<real>{1, 1});
        CHECK(values(gradient(y)) == std::vector<real>{0, 0});
    }
}

TEST_CASE("binary: refuses shapes that differ") {
    CHECK(error_of([&] { add(randn({2, 3}, "x", 1), randn({3, 2}, "y", 1)); }) ==
          "binary: x (2,3) and y (3,2) differ");
}

TEST_CASE("swiglu: silu(a) b") {
    const Tensor a = randn({3, 5}, "a", 1, 2), b = randn({3, 5}, "b", 2);
    Numbers A(a), B(b), Y(a.shape);
    for (size_t i = 0; i < Y.v.size(); i++) Y.v[i] = A.v[i] / (1 + exp(-A.v[i])) * B.v[i];
    CHECK(relative_error(swiglu(a, b), Y) < oracle_bar);
    check_gradient([&] { return swiglu(a, b); }, {a, b});
}

TEST_CASE("scale_rows: row i times s_i") {
    for (int rows = 1; rows <= 9; rows += 4) {
        const Tensor x = randn({rows, 2, 3}, "x", 1), s = randn({rows, 2}, "s", 2);
        Numbers X(x), S(s), Y(x.shape);
        for (int i = 0; i < rows; i++)
            for (int k = 0; k < 2; k++)
                for (int j = 0; j < 3; j++) Y(i, k, j) = S(i, k) * X(i, k, j);
        CHECK(relative_error(scale_rows(x, s), Y) < oracle_bar);
        check_gradient([&] { return scale_rows(x, s); }, {x, s});
    }
}

TEST_CASE("affine: alpha times every row, plus b; alpha may be absent") {
    for (int rows = 1; rows <= 9; rows += 4) {
        const Tensor x = randn({rows, 2, 3}, "x", 1), alpha = randn({1}, "alpha", 2), b = randn({3}, "b", 3);
        Numbers X(x), B(b), Y(x.shape), plain(x.shape);
        for (int i = 0; i < rows; i++)
            for (int k = 0; k < 2; k++)
                for (int j = 0; j < 3; j++) {
                    Y(i, k, j) = Numbers(alpha).v[0] * X(i, k, j) + B.v[j];
                    plain(i, k, j) = X(i, k, j) + B.v[j];
                }
        CHECK(relative_error(affine(x, alpha, b), Y) < oracle_bar);
        CHECK(relative_error(affine(x, {}, b), plain) < oracle_bar);
        check_gradient([&] { return affine(x, alpha, b); }, {x, alpha, b});
        check_gradient([&] { return affine(x, {}, b); }, {x, b});
    }
}

// ================================================================================================= [4] norms

TEST_CASE("rmsnorm: x / sqrt(mean x^2 + eps), times g where there is one") {
    for (bool gain : {true, false})
        for (double eps : {1e-6, 0.5}) {
            const Tensor x = randn({2, 3, 7}, "x", 1), g = gain ? randn({7}, "g", 2) : Tensor();
            Numbers X(x), Y(x.shape);
            for (int i = 0; i < 6; i++) {
                double mean = 0;
                for (int j = 0; j < 7; j++) mean += X.v[i * 7 + j] * X.v[i * 7 + j] / 7;
                for (int j = 0; j < 7; j++)
                    Y.v[i * 7 + j] = X.v[i * 7 + j] / sqrt(mean + eps) * (gain ? (double)values(g)[j] : 1);
            }
            CHECK(relative_error(rmsnorm(x, g, eps), Y) < oracle_bar);
            check_gradient([&] { return rmsnorm(x, g, eps); }, gain ? Leaves{x, g} : Leaves{x});
        }
}

TEST_CASE("rmsnorm: a row's size does not matter, a row of zeros gives zeros") {
    const Tensor x = randn({3, 8}, "x", 1), g = randn({8}, "g", 2);
    CHECK(relative_error(rmsnorm(times(x, 8), g, 0), rmsnorm(x, g, 0)) < oracle_bar);
    CHECK(values(rmsnorm(zeros({1, 8}), g, 1e-6)) == std::vector<real>(8, 0));
}

TEST_CASE("softmax: exp(x_j) over their sum") {
    for (int d : {1, 2, 7}) {
        const Tensor x = randn({3, d}, "x", 1, 2);
        Numbers X(x), Y(x.shape);
        for (int i = 0; i < 3; i++) {
            double sum = 0;
            for (int j = 0; j < d; j++) sum += exp(X(i, j));
            for (int j = 0; j < d; j++) Y(i, j) = exp(X(i, j)) / sum;
        }
        CHECK(relative_error(softmax(x), Y) < oracle_bar);
        if (d > 1) check_gradient([&] { return softmax(x); }, {x});
    }
}

TEST_CASE("softmax: adding a number to a row changes nothing, and large numbers do not overflow") {
    const Tensor x = from(std::vector<real>{1, -2, 0.5, 3}, {1, 4}, "x");
    CHECK(relative_error(softmax(unary(unary_identity, x, 1, 4096)), softmax(x)) < oracle_bar);
    CHECK(relative_error(softmax(unary(unary_identity, x, 1, -4096)), softmax(x)) < oracle_bar);
}

TEST_CASE("normalize_rows: rho x over the row's sum and eps") {
    for (const auto &pair : {std::pair{1.0, 0.0}, {2.5, 1e-3}, {16.0, 0.5}}) {
        const double rho = pair.first, eps = pair.second;
        const Tensor x = softmax(randn({4, 5}, "x", 1));
        Numbers X(x), Y(x.shape);
        for (int i = 0; i < 4; i++) {
            double sum = 0;
            for (int j = 0; j < 5; j++) sum += X(i, j);
            for (int j = 0; j < 5; j++) Y(i, j) = rho * X(i, j) / (sum + eps);
        }
        CHECK(relative_error(normalize_rows(x, rho, eps), Y) < oracle_bar);
        check_gradient([&] { return normalize_rows(x, rho, eps); }, {x});
    }
}

// ================================================================================ [5] position and attention

namespace {

struct RopeCase {
    std::string what;
    Rope rope;
};
// Eight channels; partial, late, both pairings, every scaling. The YaRN ramp of 8
// channels lies over pairs 1 to 3.
const RopeCase rope_cases[] = {
    {"neighbours", {.dims = 8, .angle = {10000, 8, rope_plain, 1, 4096, 32, 1}}},
    {"half-split", {.dims = 8, .pairing = rope_half_split, .angle = {10000, 8, rope_plain, 1, 4096, 32, 1}}},
    {"first four", {.dims = 4, .angle = {100, 4, rope_plain, 1, 4096, 32, 1}}},
    {"last four, half-split",
     {.first = 4, .dims = 4, .pairing = rope_half_split, .angle = {100, 4, rope_plain, 1, 4096, 32, 1}}},
    {"linear", {.dims = 8, .angle = {10000, 8, rope_linear, 4, 4096, 32, 1}}},
    {"yarn", {.dims = 8, .angle = {10000, 8, rope_yarn, 40, 4096, 32, 1}}},
    {"yarn, half-split, amplitude",
     {.dims = 8,
      .pairing = rope_half_split,
      .angle = {10000, 8, rope_yarn, 4, 512, 32, 1},
      .amplitude = 1.25}},
    {"Llama 3", {.dims = 8, .pairing = rope_half_split, .angle = {10000, 8, rope_llama3, 8, 128, 4, 1}}},
    {"turned back, amplitude",
     {.first = 2, .dims = 6, .angle = {500, 6, rope_plain, 1, 4096, 32, 1}, .amplitude = 0.5, .sign = -1}},
};

// YaRN: V2 section 3.1.4, with the clipping of the released code. Llama 3, in its code's words: wavelengths
// below `shortest` stay, above `longest` they grow by the factor, and between them 1/wavelength is mixed.
double rope_theta_oracle(const RopeAngle &a, int i) {
    const double theta = pow(a.theta, -2.0 * i / a.dims);
    if (a.scaling == rope_plain) return theta;
    if (a.scaling == rope_linear) return theta / a.factor;
    if (a.scaling == rope_llama3) {
        const double wavelength = 2 * M_PI / theta, shortest = a.original / a.beta_fast,
                     longest = a.original / a.beta_slow;
        if (wavelength < shortest) return theta;
        if (wavelength > longest) return theta / a.factor;
        const double smooth = (a.original / wavelength - a.beta_slow) / (a.beta_fast - a.beta_slow);
        return (1 - smooth) * theta / a.factor + smooth * theta;
    }
    const auto dim = [&](double turns) {
        return a.dims * log(a.original / (2 * M_PI * turns)) / (2 * log(a.theta));
    };
    const double low = std::max(floor(dim(a.beta_fast)), 0.0),
                 high = std::min(ceil(dim(a.beta_slow)), a.dims - 1.0);
    const double gamma = std::clamp((i - low) / (high - low), 0.0, 1.0);
    return (1 - gamma) * theta + gamma * theta / a.factor;
}

}  // namespace

TEST_CASE("rope: pair i of a token turns by its position times theta_i, other channels pass") {
    const Tensor x = randn({2, 3, 2, 8}, "x", 1), pos = ids({0, 1, 5, 7, 2, 300}, {2, 3});
    for (const RopeCase &c : rope_cases) {
        const Rope &r = c.rope;
        INFO(c.what);
        Numbers X(x), P(pos), Y(x);
        for (int b = 0; b < 2; b++)
            for (int t = 0; t < 3; t++)
                for (int h = 0; h < 2; h++)
                    for (int i = 0; i < r.dims / 2; i++) {
                        const double angle = r.sign * P(b, t) * rope_theta_oracle(r.angle, i);
                        const int p = r.first + (r.pairing == rope_interleaved ? 2 * i : i);
                        const int q = r.pairing == rope_interleaved ? p + 1 : p + r.dims / 2;
                        Y(b, t, h, p) =
                            r.amplitude * (X(b, t, h, p) * cos(angle) - X(b, t, h, q) * sin(angle));
                        Y(b, t, h, q) =
                            r.amplitude * (X(b, t, h, p) * sin(angle) + X(b, t, h, q) * cos(angle));
                    }
        CHECK(relative_error(rope(x, pos, r), Y) < oracle_bar);
        check_gradient([&] { return rope(x, pos, r); }, {x});
    }
}

TEST_CASE("rope: sign -1 undoes it") {
    const Tensor x = randn({2, 3, 2, 8}, "x", 1), pos = ids({0, 1, 5, 7, 2, 300}, {2, 3});
    for (const RopeCase &c : rope_cases) {
        const Rope &r = c.rope;
        INFO(c.what);
        Rope back = r;
        back.sign = -r.sign;
        back.amplitude = 1 / r.amplitude;
        Tensor y = rope(rope(x, pos, r), pos, back);
        if (r.amplitude != 1 || r.dims < 8) y = slice(y, 3, r.first, r.dims);
        CHECK(relative_error(y, r.dims < 8 ? slice(x, 3, r.first, r.dims) : x) < oracle_bar);
    }
}

TEST_CASE("rope: a query times a key depends only on how far apart they are") {
    const Tensor q = randn({1, 1, 1, 8}, "q", 1), k = randn({1, 1, 1, 8}, "k", 2);
    for (const RopeCase &c : rope_cases) {
        const Rope &r = c.rope;
        INFO(c.what);
        const auto score = [&](int t, int j) {
            return item(weighted_sum(mul(rope(q, ids({t}, {1, 1}), r), rope(k, ids({j}, {1, 1}), r)), {}));
        };
        CHECK(score(7, 3) == doctest::Approx(score(104, 100)).epsilon(in_double ? 1e-12 : 1e-4));
        double farthest = 0;
        for (int j : {0, 4, 5}) farthest = std::max(farthest, (double)fabs(score(7, j) - score(7, 3)));
        CHECK(farthest > 1e-2);
    }
}

TEST_CASE("rope: refuses an odd range of channels and positions that do not fit") {
    const Tensor x = randn({1, 2, 1, 4}, "x", 1), pos = ids({0, 1}, {1, 2});
    CHECK(error_of([&] { rope(x, pos, {.dims = 3}); }) != "");
    CHECK(error_of([&] { rope(x, pos, {.first = 2, .dims = 4}); }) ==
          "rope: channels 2 to 6 of x (1,2,1,4) do not pair up");
    CHECK(error_of([&] { rope(x, ids({0}, {1, 1}), {.dims = 4}); }) ==
          "rope: x (1,2,1,4) and pos (1,1) do not fit");
}

namespace {

enum Visible { see_causal, see_windows, see_late, see_holes, see_lists };
const std::string visible_names[] = {"causal", "windows", "late", "holes", "lists"};

// What query t of T sees of S keys; the last query stands at the last key.
Where make_where(Visible kind, int B, int T, int S) {
    std::vector<int> w;
    for (int b = 0; b < B; b++)
        for (int t = 0; t < T; t++) {
            const int hi = S - T + t;
            if (kind == see_causal) w.insert(w.end(), {0, hi});
            if (kind == see_windows) w.insert(w.end(), {std::max(0, hi - 2 - b), hi});
            if (kind == see_late) w.insert(w.end(), {std::min(hi, S / 2 + b), std::max(hi, S / 2 + b)});
            if (kind == see_holes && (t + b) % 2) w.insert(w.end(), {t % 3 ? 1 : 5, 0});
            if (kind == see_holes && (t + b) % 2 == 0) w.insert(w.end(), {hi / 2, hi});
            if (kind == see_lists && t == 1) w.insert(w.end(), {-1, -1, -1});
            if (kind == see_lists && t != 1) w.insert(w.end(), {hi, -1, hi > 0 ? (hi + b) / 2 : -1});
            if (kind == see_lists && t != 1 && w.back() == hi) w.back() = -1;        // an index stands once
        }
    return {ids(w, {B, T, kind == see_lists ? 3 : 2}), kind == see_lists};
}

struct Head {
    int B, T, S, n_h, n_kv, d_k, d_v;
    bool first;
};                                                               // first: v is the first d_v numbers of k
const Head head_cases[] = {
    {1, 1, 1, 1, 1, 2, 2, false}, {2, 5, 5, 2, 2, 3, 3, false}, {2, 3, 7, 4, 2, 3, 5, false},
    {1, 4, 6, 3, 1, 5, 1, false}, {2, 3, 5, 2, 1, 5, 3, true},  {1, 9, 9, 1, 1, 1, 2, false},
};

struct AttentionOracle { Numbers o, lse; };
AttentionOracle attention_oracle(const Head &c, const Tensor &q, const Tensor &k, const Tensor &v,
                                 const Where &where, double scale) {
    Numbers Q(q), K(k), V(c.first ? k : v), W(where.keys), o({c.B, c.T, c.n_h, c.d_v}),
        lse({c.B, c.T, c.n_h});
    for (int b = 0; b < c.B; b++)
        for (int t = 0; t < c.T; t++)
            for (int i = 0; i < c.n_h; i++) {
                const int g = i / (c.n_h / c.n_kv);
                std::vector<int> seen;
                for (int j = 0; j < c.S; j++) {
                    bool sees = !where.lists && j >= W(b, t, 0) && j <= W(b, t, 1);
                    for (int m = 0; where.lists && m < where.keys.shape[2]; m++) sees |= W(b, t, m) == j;
                    if (sees) seen.push_back(j);
                }
                double sum = 0;
                std::vector<double> e(c.S);
                for (int j : seen) {
                    double score = 0;
                    for (int x = 0; x < c.d_k; x++) score += scale * Q(b, t, i, x) * K(b, j, g, x);
                    sum += e[j] = exp(score);
                }
                lse(b, t, i) = log(sum);                                 // log 0 = -inf: it sees nothing
                for (int j : seen)
                    for (int x = 0; x < c.d_v; x++) o(b, t, i, x) += e[j] / sum * V(b, j, g, x);
            }
    return {o, lse};
}

}  // namespace

TEST_CASE("attention: softmax over the visible keys, and its gradient, for every kind of where") {
    const double scale = 0.6;
    for (const Head &c : head_cases)
        for (Visible kind : {see_causal, see_windows, see_late, see_holes, see_lists}) {
            INFO(visible_names[kind], ": T ", c.T, ", S ", c.S, ", ", c.n_h, " heads on ", c.n_kv,
                 ", widths ", c.d_k, " and ", c.d_v);
            const Tensor q = randn({c.B, c.T, c.n_h, c.d_k}, "q", 1),
                         k = randn({c.B, c.S, c.n_kv, c.d_k}, "k", 2);
            const Tensor v = c.first ? Tensor() : randn({c.B, c.S, c.n_kv, c.d_v}, "v", 3);
            const Where where = make_where(kind, c.B, c.T, c.S);
            const auto attend = [&] {
                return c.first ? attention(q, k, First{c.d_v}, where, scale)
                               : attention(q, k, v, where, scale);
            };
            const AttentionOracle expected = attention_oracle(c, q, k, v, where, scale);
            for (Kernels kernels : {Kernels::plain, Kernels::fast}) {
                WithKernels use(kernels);
                CHECK(relative_error(attend(), expected.o) < oracle_bar);
                if (!c.first)
                    CHECK(relative_error(attention_lse(q, k, v, where, scale).second, expected.lse) <
                          oracle_bar);
            }
            check_gradient(attend, c.first ? Leaves{q, k} : Leaves{q, k, v});
        }
}

TEST_CASE("attention: gradient where queries and keys fill more than one block") {
    const Tensor q = randn({1, 35, 2, 2}, "q", 1), k = randn({1, 37, 1, 2}, "k", 2),
                 v = randn({1, 37, 1, 1}, "v", 3);
    for (Visible kind : {see_windows, see_holes}) {
        const Where where = make_where(kind, 1, 35, 37);
        check_gradient([&] { return attention(q, k, v, where, 1); }, {q, k, v});
    }
}

TEST_CASE("attention: a query that sees nothing gives 0 and lse -inf, and no gradient") {
    const Tensor q = randn({1, 2, 1, 3}, "q", 1), k = randn({1, 2, 1, 3}, "k", 2),
                 v = randn({1, 2, 1, 3}, "v", 3);
    for (Kernels kernels : {Kernels::plain, Kernels::fast})
        for (const Where &where :
             {Where{ids({1, 0, 1, 0}, {1, 2, 2})}, Where{ids({-1, -1, -1, -1}, {1, 2, 2}), true}}) {
            WithKernels use(kernels);
            const auto [o, lse] = attention_lse(q, k, v, where, 1);
            CHECK(values(o) == std::vector<real>(6, 0));
            CHECK(values(lse) == std::vector<real>(2, -INFINITY));
            const auto r = outputs_and_gradients([&] { return attention(q, k, v, where, 1); }, {q, k, v});
            const auto none = outputs_and_gradients([&] { return times(detach(q), 1); }, {q, k, v});
            for (int i = 1; i <= 3; i++) CHECK(same_bits(r[i], none[i]));
        }
}

TEST_CASE("attention: a list that names all keys equals the span over them") {
    const Tensor q = randn({1, 4, 2, 5}, "q", 1), k = randn({1, 4, 2, 5}, "k", 2),
                 v = randn({1, 4, 2, 5}, "v", 3);
    const Where list = {ids({0, -1, -1, -1, 1, 0, -1, -1, 2, -1, 0, 1, 0, 3, 1, 2}, {1, 4, 4}), true};
    CHECK(relative_error(attention(q, k, v, list, 1),
                         attention(q, k, v, make_where(see_causal, 1, 4, 4), 1)) < oracle_bar);
}

TEST_CASE("attention: a list of two keys is a list, not a span") {
    const Tensor q = randn({1, 1, 1, 3}, "q", 1), k = randn({1, 5, 1, 3}, "k", 2),
                 v = randn({1, 5, 1, 2}, "v", 3);
    const Tensor two = attention(q, k, v, {ids({0, 4}, {1, 1, 2}), true}, 1);
    CHECK(relative_error(two, attention(q, k, v, {ids({4, -1, 0}, {1, 1, 3}), true}, 1)) < oracle_bar);
    CHECK(relative_error(two, attention(q, k, v, {ids({0, 4}, {1, 1, 2})}, 1)) > 1e-3);
}

TEST_CASE("attention: adding a vector to all keys changes no output") {
    const Tensor q = randn({1, 4, 1, 3}, "q", 1), k = randn({1, 4, 1, 3}, "k", 2),
                 v = randn({1, 4, 1, 3}, "v", 3);
    const Tensor one = unary(unary_identity, zeros(k.shape), 1, 0.75);
    const Where where = make_where(see_causal, 1, 4, 4);
    CHECK(relative_error(attention(q, add(k, one), v, where, 1), attention(q, k, v, where, 1)) < oracle_bar);
}

TEST_CASE("attention: scores far beyond the range of exp do not overflow") {
    const Tensor q = from(std::vector<real>{40}, {1, 1, 1, 1}, "q"),
                 k = from(std::vector<real>{50, -50}, {1, 2, 1, 1}, "k");
    const Tensor v = from(std::vector<real>{3, 5}, {1, 2, 1, 1}, "v");
    for (Kernels kernels : {Kernels::plain, Kernels::fast}) {
        WithKernels use(kernels);
        CHECK(item(attention(q, k, v, {ids({0, 1}, {1, 1, 2})}, 1)) == 3);
    }
}

TEST_CASE("attention: a NaN in a query comes out as NaN, not as a silent number") {
    const Tensor q = from(std::vector<real>{(real)NAN}, {1, 1, 1, 1}, "q"), k = randn({1, 2, 1, 1}, "k", 1);
    for (Kernels kernels : {Kernels::plain, Kernels::fast}) {
        WithKernels use(kernels);
        CHECK(std::isnan(item(attention(q, k, k, {ids({0, 1}, {1, 1, 2})}, 1))));
    }
}

TEST_CASE("attention: NaN and infinity stay with those who see them, forwards and backwards") {
    const Shape q_shape = {2, 70, 4, 9}, k_shape = {2, 75, 2, 9}, v_shape = {2, 75, 2, 7};
    for (Visible kind : {see_causal, see_windows, see_holes})
        for (int spoiled = 0; spoiled < 3; spoiled++)
            for (const real bad : {(real)NAN, (real)INFINITY}) {
                Tensor x[] = {randn(q_shape, "q", 1), randn(k_shape, "k", 2), randn(v_shape, "v", 3)};
                std::vector<real> numbers = values(x[spoiled]);
                numbers[40 * x[spoiled].shape[2] * x[spoiled].shape[3] + 1] =
                    bad;                                                       // of row 40, of the first head
                assign(x[spoiled], numbers);
                INFO(visible_names[kind], ", ", std::string(x[spoiled].s->name), " holds ", bad);
                const Where where = make_where(kind, 2, 70, 75);
                check_kernels([&] { return attention(x[0], x[1], x[2], where, 0.3); }, {x[0], x[1], x[2]},
                              oracle_bar);
                long spoiled_numbers = 0;
                for (real y : values(attention(x[0], x[1], x[2], where, 0.3)))
                    spoiled_numbers += !std::isfinite(y);
                CHECK(spoiled_numbers > 0);
                CHECK(spoiled_numbers <=
                      35 * 2 * 7);               // later queries of the first sequence, the heads on that key
            }
}

TEST_CASE("attention: fast says what plain says for long sequences") {
    const Tensor q = randn({2, 70, 4, 9}, "q", 1), k = randn({2, 75, 2, 9}, "k", 2),
                 v = randn({2, 75, 2, 7}, "v", 3);
    for (Visible kind : {see_causal, see_windows, see_late, see_holes, see_lists}) {
        const Where where = make_where(kind, 2, 70, 75);
        check_kernels([&] { return attention(q, k, v, where, 0.3); }, {q, k, v}, oracle_bar);
    }
}

// ========================================================================================== [6] the one loss

static void logp_oracle(const Tensor &h, const Tensor &W, const Tensor &id, double T, const Tensor &allowed,
                        Numbers &y, Numbers &H) {
    Numbers x(h), w(W), I(id);
    const int N = h.shape[0], V = W.shape[0];
    const std::vector<int> may = allowed ? int_values(allowed) : std::vector<int>();
    for (int n = 0; n < N; n++) {
        if (I(n) < 0) continue;
        std::vector<double> z(V);
        double sum = 0;
        for (int v = 0; v < V; v++) {
            for (int j = 0; j < h.shape[1]; j++) z[v] += x(n, j) * w(v, j) / T;
            if (allowed && !in_set(&may[n * set_words(V)], v)) z[v] = -INFINITY;
            sum += exp(z[v]);
        }
        y(n) = z[(int)I(n)] - log(sum);
        for (int v = 0; v < V; v++)
            if (z[v] > -INFINITY) H(n) -= exp(z[v]) / sum * (z[v] - log(sum));
    }
}

TEST_CASE("logp: log-probability and entropy of softmax(h W^T / temperature), with both gradients") {
    for (int N : {1, 2, 3, 5, 9, 70})
        for (double T : {1.0, 0.7})
            for (bool masked : {false, true}) {
                if (N == 70 && (T == 1 || !masked)) continue;
                const int V = 5;
                INFO("N ", N, ", temperature ", T, masked ? ", masked" : "");
                const Tensor h = randn({N, 3}, "h", 1), W = randn({V, 3}, "W", 2);
                std::vector<int> id = random_ints(N, V, 3), may = random_ints(N * V, 2, 4);
                for (int n = 0; n < N; n++) may[n * V + id[n]] = 1;
                if (N > 1) id[N / 2] = -1;
                const Tensor wanted = ids(id, {N}), allowed = masked ? sets(may, V) : Tensor();
                Numbers y({N}), H({N});
                logp_oracle(h, W, wanted, T, allowed, y, H);
                for (Kernels kernels : {Kernels::plain, Kernels::fast}) {
                    WithKernels use(kernels);
                    const LogP r = logp(h, W, wanted, T, allowed);
                    CHECK(relative_error(r.logp, y, 1) < oracle_bar);          // what rounds are the logits
                    CHECK(relative_error(r.entropy, H, 1) < oracle_bar);
                }
                check_gradient([&] { return logp(h, W, wanted, T, allowed); }, {h, W});
                check_gradient([&] { return logp(h, W, wanted, T, allowed).logp; }, {h, W});
                check_gradient([&] { return logp(h, W, wanted, T, allowed).entropy; }, {h, W});
            }
}

TEST_CASE("logp: what is allowed is 32 ids a word, and an id above 31 is in the next one") {
    const int V = 70;
    const Tensor h = randn({3, 4}, "h", 1), W = randn({V, 4}, "W", 2), id = ids({31, 32, 69}, {3});
    std::vector<int> may = random_ints(3 * V, 2, 3);
    for (int n : {0, 1, 2}) may[n * V + int_values(id)[n]] = 1;
    Numbers y({3}), H({3});
    logp_oracle(h, W, id, 1, sets(may, V), y, H);
    CHECK(sets(may, V).shape == Shape{3, 3});
    for (Kernels kernels : {Kernels::plain, Kernels::fast}) {
        WithKernels use(kernels);
        const LogP r = logp(h, W, id, 1, sets(may, V));
        CHECK(relative_error(r.logp, y) < oracle_bar);
        CHECK(relative_error(r.entropy, H) < oracle_bar);
    }
    CHECK(error_of([&] { logp(h, W, id, 1, ids(may, {3, V})); }) ==
          "logp: ids (3), W (70,4), allowed (3,70) do not fit: one bit for each of 70 ids makes 3 words");
}

TEST_CASE("logp: a uniform distribution has log-probability -log V and entropy log V") {
    const LogP r = logp(zeros({1, 3}), randn({7, 3}, "W", 1), ids({4}, {1}));
    CHECK(item(r.logp) == doctest::Approx(-log(7.0)));
    CHECK(item(r.entropy) == doctest::Approx(log(7.0)));
}

TEST_CASE("logp: id -1 gives 0 and sends no gradient, also where the logits are huge") {
    const Tensor h = from(std::vector<real>{1, 900}, {2, 1}, "h"),
                 W = from(std::vector<real>{1, -1, 0.5}, {3, 1}, "W");
    const Tensor id = ids({2, -1}, {2}), alone = ids({2}, {1});
    for (Kernels kernels : {Kernels::plain, Kernels::fast}) {
        WithKernels use(kernels);
        const auto both = outputs_and_gradients([&] { return logp(h, W, id); }, {h, W});
        CHECK(values(both[0])[1] == 0);
        CHECK(values(both[1])[1] == 0);
        wants_grad(h), wants_grad(W);
        zero_grad(h), zero_grad(W);
        backward(weighted_sum(logp(h, W, id).logp, {}));
        const std::vector<real> dh = values(gradient(h)), dW = values(gradient(W));
        zero_grad(W);
        const Tensor first = from(std::vector<real>{1}, {1, 1}, "h");
        backward(weighted_sum(logp(first, W, alone).logp, {}));
        CHECK(dh[1] == 0);
        CHECK(dW == values(gradient(W)));
    }
}

TEST_CASE("logp: fast says what plain says over many chunks of rows and words") {
    const Tensor h = randn({1100, 5}, "h", 1), W = randn({131, 5}, "W", 2), id = random_ids({1100}, 131, 3);
    check_kernels([&] { return logp(h, W, id, 0.8); }, {h, W}, oracle_bar);
}

TEST_CASE("matmul: fast says what plain says, whatever is left over of tiles, vectors and blocks") {
    const auto check = [](int n, int a, int b) {
        INFO(n, " rows, ", a, " to ", b);
        const Tensor x = randn({n, a}, "x", 1), W = randn({b, a}, "W", 2);
        check_kernels([&] { return matmul(x, W); }, {x, W}, oracle_bar);
    };
    for (int n : {1, 5, 6, 7, 8, 9, 17})                 // the sum runs over a, b and n in turn
        for (int b : {1, 7, 8, 15, 16, 17, 33, 48, 49, 97}) check(n, 3, b);
    for (int depth : {255, 256, 257, 600}) check(3, depth, 5), check(3, 5, depth), check(depth, 3, 5);
}

TEST_CASE("matmul_grouped: fast says what plain says over more than a block") {
    const Tensor x = randn({600, 270}, "x", 1), W = randn({3, 20, 270}, "W", 2);
    const Tensor offsets = ids({0, 290, 290, 597}, {4});
    check_kernels([&] { return matmul_grouped(x, W, offsets); }, {x, W}, oracle_bar);
}

// ================================================================================================== [7] bits

// A product's rows, alone or among neighbours. Widths below and above the sizes
// at which a product may be cut.
TEST_CASE("matmul: a row's bits do not depend on its neighbours") {
    for (int a : {1, 2, 3, 5, 8, 17, 64, 131, 700})
        for (int b : {1, 2, 3, 4, 7, 16, 65}) {
            const Tensor x = randn({9, a}, "x", 1), W = randn({b, a}, "W", 2), all = matmul(x, W);
            for (int n = 1; n <= 9; n++)
                for (int from : {0, 9 - n}) {
                    INFO("rows ", from, " to ", from + n, " of 9, ", a, " to ", b);
                    CHECK(same_bits(matmul(some_rows(x, from, n), W), some_rows(all, from, n)));
                }
        }
}

TEST_CASE("matmul: a row's bits are the same in a chunk of 64 and alone") {
    for (const auto &pair : {std::pair{3, 2}, {31, 17}, {300, 40}}) {
        const int a = pair.first, b = pair.second;
        const Tensor x = randn({130, a}, "x", 1), W = randn({b, a}, "W", 2), all = matmul(x, W);
        for (int row : {0, 1, 37, 63, 64, 127, 128, 129})
            CHECK(same_bits(matmul(some_rows(x, row, 1), W), some_rows(all, row, 1)));
    }
}

TEST_CASE("matmul_grouped: a row's bits do not depend on its neighbours") {
    for (const auto &pair : {std::pair{1, 3}, {2, 2}, {5, 7}, {17, 1}, {64, 33}}) {
        const int a = pair.first, b = pair.second;
        const Tensor x = randn({9, a}, "x", 1), W = randn({2, b, a}, "W", 2);
        const Tensor all = matmul_grouped(x, W, ids({0, 0, 9}, {3}));
        for (int n = 1; n <= 9; n++)
            for (int from : {0, 9 - n}) {
                INFO("rows ", from, " to ", from + n, " of 9, ", a, " to ", b);
                const Tensor some = matmul_grouped(some_rows(x, from, n), W, ids({0, 0, n}, {3}));
                CHECK(same_bits(some, some_rows(all, from, n)));
            }
    }
}

// Queries [first, first + n) of a sequence, with the keys they may see.
static void check_attention_rows(Visible kind, int T, int n_h, int n_kv, int d_k, int d_v, int most) {
    const Tensor q = randn({1, T, n_h, d_k}, "q", 1), k = randn({1, T, n_kv, d_k}, "k", 2);
    const Tensor v = randn({1, T, n_kv, d_v}, "v", 3);
    const Where where = make_where(kind, 1, T, T);
    const std::vector<int> w = int_values(where.keys);
    const Tensor all = attention(q, k, v, where, 0.4);
    for (int n = 1; n <= most; n++)
        for (int from : {0, (T - n) / 2, T - n}) {
            INFO(visible_names[kind], ": queries ", from, " to ", from + n, " of ", T, ", widths ", d_k,
                 " and ", d_v);
            const Tensor some = slice(q, 1, from, n);
            const Tensor seen =
                ids(std::vector<int>(w.begin() + 2 * from, w.begin() + 2 * (from + n)), {1, n, 2});
            CHECK(same_bits(attention(some, k, v, {seen}, 0.4), slice(all, 1, from, n)));
        }
}

TEST_CASE("attention: a query's bits do not depend on its neighbours") {
    for (Visible kind : {see_causal, see_windows, see_late, see_holes})
        for (const auto &pair : {std::pair{1, 1}, {3, 5}, {16, 16}, {24, 16}}) {
            const int d_k = pair.first, d_v = pair.second;
            check_attention_rows(kind, 9, 2, 1, d_k, d_v, 9);
            check_attention_rows(kind, 40, 2, 2, d_k, d_v, 9);
        }
}

TEST_CASE("attention: a query's bits do not depend on its neighbours in a long context") {
    for (int T : {257, 700}) check_attention_rows(see_causal, T, 1, 1, 16, 16, 5);
}

TEST_CASE("logp: a row's bits do not depend on its neighbours") {
    for (int d : {1, 3, 17, 130})
        for (int V : {1, 2, 5, 33}) {
            const Tensor h = randn({9, d}, "h", 1), W = randn({V, d}, "W", 2);
            const std::vector<int> id = random_ints(9, V, 3);
            const LogP all = logp(h, W, ids(id, {9}));
            for (int n = 1; n <= 9; n++)
                for (int from : {0, 9 - n}) {
                    INFO("rows ", from, " to ", from + n, " of 9, width ", d, ", ", V, " words");
                    const Tensor wanted =
                        ids(std::vector<int>(id.begin() + from, id.begin() + from + n), {n});
                    const LogP some = logp(some_rows(h, from, n), W, wanted);
                    CHECK(same_bits(some.logp, slice(all.logp, 0, from, n)));
                    CHECK(same_bits(some.entropy, slice(all.entropy, 0, from, n)));
                }
        }
}

TEST_CASE("matmul: the number of threads changes no bit") {
    const Tensor x = randn({150, 40}, "x", 1), W = randn({133, 40}, "W", 2);
    check_threads([&] { return matmul(x, W); }, {x, W});
}

TEST_CASE("matmul_heads: the number of threads changes no bit") {
    const Tensor x = randn({50, 4, 21}, "x", 1), W = randn({4, 23, 21}, "W", 2);
    check_threads([&] { return matmul_heads(x, W); }, {x, W});
}

TEST_CASE("matmul_grouped: the number of threads changes no bit") {
    const Tensor x = randn({200, 30}, "x", 1), W = randn({3, 31, 30}, "W", 2),
                 offsets = ids({0, 90, 90, 190}, {4});
    check_threads([&] { return matmul_grouped(x, W, offsets); }, {x, W});
}

TEST_CASE("attention: the number of threads changes no bit") {
    const Tensor q = randn({2, 50, 4, 9}, "q", 1), k = randn({2, 50, 2, 9}, "k", 2),
                 v = randn({2, 50, 2, 7}, "v", 3);
    for (Visible kind : {see_causal, see_lists}) {
        const Where where = make_where(kind, 2, 50, 50);
        check_threads([&] { return attention(q, k, v, where, 0.3); }, {q, k, v});
    }
}

TEST_CASE("logp: the number of threads changes no bit") {
    const Tensor h = randn({70, 20}, "h", 1), W = randn({3500, 20}, "W", 2), id = random_ids({70}, 3500, 3);
    check_threads([&] { return logp(h, W, id); }, {h, W});
}

TEST_CASE("gather_rows, combine, concat, slice, pick: the number of threads changes no bit") {
    const Tensor x = randn({700, 64}, "x", 1), g = randn({700, 2}, "g", 2), idx = random_ids({700, 2}, 5, 3);
    const Dispatch d = dispatch(idx, 5);
    check_threads([&] { return combine(gather_rows(x, d.token, d.slot), d.slot, g); }, {x, g});
    const Tensor a = randn({300, 4, 64}, "a", 4), b = randn({300, 1, 64}, "b", 5);
    check_threads([&] { return slice(concat(a, b), 2, 3, 120); }, {a, b});
    const Tensor s = randn({3000, 30}, "s", 6), chosen = random_ids({3000, 25}, 30, 7);
    check_threads([&] { return pick(s, chosen); }, {s});
}

TEST_CASE("unary, binary, swiglu, scale_rows, affine, weighted_sum: the number of threads changes no bit") {
    const Tensor x = randn({300, 250}, "x", 1), y = randn({300, 250}, "y", 2), s = randn({300}, "s", 3),
                 b = randn({250}, "b", 4), alpha = randn({1}, "alpha", 5);
    check_threads(
        [&] {
            return Outputs{unary(unary_silu, x), mul(x, y),           swiglu(x, y),
                           scale_rows(x, s),     affine(x, alpha, b), mean(y)};
        },
        {x, y, s, b, alpha});
}

TEST_CASE("rmsnorm, softmax, normalize_rows, rope: the number of threads changes no bit") {
    const Tensor x = randn({2, 150, 4, 64}, "x", 1), g = randn({64}, "g", 2),
                 pos = random_ids({2, 150}, 500, 3);
    const Rope r = {.dims = 64, .angle = {10000, 64, rope_plain, 1, 4096, 32, 1}};
    check_threads(
        [&] {
            return Outputs{rmsnorm(x, g, 1e-6), softmax(x), normalize_rows(sigmoid(x), 1, 1e-6),
                           rope(x, pos, r)};
        },
        {x, g});
}

// ============================================================================================= [8] the table

// Tests of one file run in the order they stand in, so this one comes after all gradient cases above it.
TEST_CASE("every op with a gradient has been through the gradient check") {
    for (int op = 0; op < n_ops; op++) {
        if (!ops[op].has_gradient) continue;
        INFO(ops[op].name, " has no gradient case here. (Alone, this test has seen none and fails.)");
        CHECK(ops_with_checked_gradient.count(op));
    }
}

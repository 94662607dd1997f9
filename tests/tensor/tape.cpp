// tape.cpp: the specification of tensors, of the tape and of the pool.
//
//   [1] what is recorded   [2] what backward adds   [3] what it refuses   [4] blocks and the pool
//   [5] choices   [6] tensors and messages   [7] the gradient check itself
#include <cstring>

#include "src/model/config.h"
#include "src/train/training.h"
#include "tests/check.h"

namespace {

Tensor vec(const std::vector<real> &v, const char *name = "x") { return from(v, {(long)v.size()}, name); }
Tensor ids(const std::vector<int> &v, const Shape &shape) { return from(v, shape, "ids"); }
Tensor sum(const Tensor &x) { return weighted_sum(x, {}); }

}  // namespace

// -------------------------------------------------------------------------------------- [1] what is recorded

TEST_CASE("tape: an op whose input wants a gradient is recorded, with its attributes and its tensors") {
    TapeGuard clear;
    const Tensor x = vec({1, 2}), y = unary(unary_silu, wants_grad(x), 3, 0.5);
    REQUIRE(tape.size() == 1);
    CHECK(tape[0].op == op_unary);
    CHECK(tape[0].a.a == 3);
    CHECK(tape[0].a.shift == 0.5);
    CHECK(tape[0].in[0].s == x.s);
    CHECK(tape[0].out[0].s == y.s);
    CHECK(y.s->wants_grad);
    CHECK(std::string(y.s->name) == "unary");
}

TEST_CASE("tape: an op of constants is not recorded, and its output wants no gradient") {
    const Tensor y = add(vec({1}), vec({2}));
    CHECK(tape.empty());
    CHECK_FALSE(y.s->wants_grad);
}

TEST_CASE("tape: NoGrad records nothing while it lives, also nested") {
    TapeGuard clear;
    const Tensor x = vec({1, 2});
    wants_grad(x);
    {
        NoGrad off;
        {
            NoGrad again;
            CHECK_FALSE(times(x, 2).s->wants_grad);
        }
        CHECK_FALSE(recording);
        times(x, 2);
        CHECK(tape.empty());
    }
    CHECK(recording);
    times(x, 2);
    CHECK(tape.size() == 1);
}

TEST_CASE("tape: ops that choose are never recorded") {
    TapeGuard clear;
    const Tensor s = from(std::vector<real>{1, 2, 3}, {1, 3}, "s");
    const Tensor idx = topk(wants_grad(s), {}, {.K = 2});
    dispatch(idx, 3);
    CHECK(tape.empty());
}

// ------------------------------------------------------------------------------------ [2] what backward adds

TEST_CASE("backward: a weight that is used twice sums its gradients") {
    const Tensor w = vec({2, 3}, "w");
    wants_grad(w);
    backward(sum(add(mul(w, w), times(w, 5))));
    CHECK(values(gradient(w)) == std::vector<real>{2 * 2 + 5, 2 * 3 + 5});
}

TEST_CASE("backward: both inputs of an op may be the same tensor, for every op of two") {
    const Tensor x = randn({3, 3}, "x", 1), y = randn({1, 3, 1, 3}, "y", 2),
                 where = ids({0, 0, 0, 1, 0, 2}, {1, 3, 2});
    check_gradient([&] { return mul(x, x); }, {x});
    check_gradient([&] { return swiglu(x, x); }, {x});
    check_gradient([&] { return concat(x, x); }, {x});
    check_gradient([&] { return matmul(x, x); }, {x});
    check_gradient([&] { return attention(y, y, y, {where}, 0.7); }, {y});
}

TEST_CASE("backward: gradients add up over calls, until zero_grad") {
    const Tensor w = vec({2}, "w");
    parameter(w, "w");
    for (int i = 1; i <= 3; i++) {
        backward(sum(times(w, 4)));
        CHECK(item(gradient(w)) == 4 * i);
    }
    zero_grad(w);
    CHECK(item(gradient(w)) == 0);
}

TEST_CASE("backward: detach stops the gradient exactly, and keeps the numbers") {
    const Tensor x = vec({2, 3}), y = vec({5, 7}, "y");
    wants_grad(x), wants_grad(y);
    const Tensor z = detach(mul(x, y));
    CHECK(values(z) == std::vector<real>{10, 21});
    backward(sum(mul(z, y)));
    CHECK(values(gradient(x)) == std::vector<real>{0, 0});
    CHECK(values(gradient(y)) == std::vector<real>{10, 21});
}

TEST_CASE("backward: a reshaped tensor shares its gradient, a clone does not") {
    const Tensor x = vec({1, 2, 3, 4});
    wants_grad(x);
    backward(sum(mul(reshape(x, {2, 2}), reshape(x, {2, 2}))));
    CHECK(values(gradient(x)) == std::vector<real>{2, 4, 6, 8});
    const Tensor c = clone(x);
    wants_grad(c);
    backward(sum(times(c, 3)));
    CHECK(values(gradient(x)) == std::vector<real>{2, 4, 6, 8});
    CHECK(values(gradient(c)) == std::vector<real>{3, 3, 3, 3});
}

TEST_CASE("backward: a branch that does not reach the loss gets nothing") {
    const Tensor x = vec({1, 2}), y = vec({3, 4}, "y");
    wants_grad(x), wants_grad(y);
    const Tensor unused = mul(x, y);
    backward(sum(x));
    CHECK(values(gradient(y)) == std::vector<real>{0, 0});
    CHECK(values(gradient(x)) == std::vector<real>{1, 1});
    CHECK(unused.s->grad == nullptr);
}

// --------------------------------------------------------------------------------------- [3] what it refuses

TEST_CASE("backward: refuses a loss that is not one number") {
    TapeGuard clear;
    const Tensor x = vec({1, 2});
    CHECK(error_of([&] { backward(times(wants_grad(x), 2)); }) ==
          "backward: the loss has shape (2), not one number");
}

TEST_CASE("backward: refuses an input that was changed in place since it was recorded") {
    const Tensor x = vec({1, 2}), y = vec({3, 4}, "y");
    wants_grad(x);
    const Tensor loss = sum(mul(x, y));
    scale_add(y, y, 1, 1);
    CHECK(error_of([&] { backward(loss); }) == "backward of binary: y (2) was changed in place since");
    CHECK(tape.empty());
}

TEST_CASE("backward: refuses an output that was changed in place since it was recorded") {
    const Tensor x = vec({1, 2});
    const Tensor y = times(wants_grad(x), 2), loss = sum(y);
    {
        NoGrad off;
        scale_add(y, y, 1, 1);
    }
    CHECK(error_of([&] { backward(loss); }).find("unary (2) was changed in place since") !=
          std::string::npos);
    CHECK(tape.empty());
}

TEST_CASE("backward: refuses what was changed in place through a detached handle") {
    TapeGuard clear;
    const Tensor x = vec({1, 2}), y = vec({3, 4}, "y");
    wants_grad(x);
    const std::function<void()> changes[] = {[&] { scale_add(detach(y), detach(y), 1, 1); },
                                             [&] { assign(detach(y), {5, 6}); },
                                             [&] { copy_into(detach(y), x); }};
    for (const auto &change : changes) {
        const Tensor loss = sum(mul(x, y));
        change();
        CHECK(error_of([&] { backward(loss); }) != "");
    }
}

TEST_CASE("a weight has no gradient's memory before a backward reaches it: who only reads it pays nothing") {
    const Tensor W = parameter(vec({1, 2}), "W");
    CHECK(!W.s->grad);
    backward(sum(mul(W, vec({3, 4}))));
    CHECK(values(gradient(W)) == std::vector<real>{3, 4});
}

TEST_CASE("apply: refuses an op in place while recording, if an input wants a gradient") {
    const Tensor x = vec({1, 2});
    wants_grad(x);
    CHECK(error_of([&] { scale_add(x, vec({1, 1}), 1, 1); }) ==
          "scale_add: writes in place, and an input wants a gradient: not while recording");
    CHECK(error_of([&] { scale_add(vec({1, 1}), x, 1, 1); }) != "");
    CHECK(values(x) == std::vector<real>{1, 2});
    CHECK(x.s->version == 0);
    NoGrad off;
    scale_add(x, vec({1, 1}), 1, 1);
    CHECK(values(x) == std::vector<real>{2, 3});
    CHECK(x.s->version == 1);
}

TEST_CASE("tape: an exception between forward and backward clears it") {
    const Tensor x = randn({2, 3}, "x", 1), W = randn({4, 2}, "W", 2);
    const auto step = [&] {
        TapeGuard clear;
        matmul(times(wants_grad(x), 2), W);
    };
    CHECK(error_of(step) == "matmul: x (2,3) and W (4,2): inner sizes differ");
    CHECK(tape.empty());
}

TEST_CASE("apply: refuses a tensor that lives on another device, and says which") {
    Device other = cpu_device;
    other.name = "elsewhere";
    other.memory_of = &other;
    const Tensor x = vec({1, 2}), W = from(std::vector<real>{1, 2}, {1, 2}, "W");
    const Restored keep(device);
    device = &other;
    const std::string message = error_of([&] { matmul(reshape(x, {1, 2}), W); });
    CHECK(message == "matmul: x lives on cpu, not on elsewhere");
}

TEST_CASE("device_named: knows cpu, and names the choices for what it does not know") {
    CHECK(device_named("cpu") == &cpu_device);
    CHECK(error_of([] { device_named("tpu"); }) == "--device tpu: unknown");
}

const char *cuda_missing();                              // src/cuda/device.cu
TEST_CASE("device_named: cuda and checked are there, or refused with the reason; each knows its memory") {
    for (Device *d : {&cuda_device, &checked_device}) {
        const std::string said = error_of([&] { CHECK(device_named(d->name) == d); });
        CHECK(said == (cuda_missing() ? cat("--device ", d->name, ": ", cuda_missing()) : ""));
        if (!cuda_missing()) CHECK(d->memory() > size_t(1) << 28);
    }
    CHECK(cpu_device.memory() > size_t(1) << 28);
}

// ----------------------------------------------------------------------------------- [4] blocks and the pool

namespace {

// A small step of everything: embedding, attention, experts, loss, backward, update.
void training_step(const Leaves &w) {
    const Tensor tokens = ids({1, 4, 2, 0, 3, 3}, {1, 6}),
                 where = ids({0, 0, 0, 1, 0, 2, 0, 3, 0, 4, 0, 5}, {1, 6, 2});
    const Tensor x = gather_rows(w[0], tokens), q = heads(matmul(x, w[1]), 2);
    const Tensor h = add(x, merge(attention(q, q, q, {where}, 0.5)));
    const Tensor u = reshape(rmsnorm(h, w[2], 1e-6), {6, 8}), s = softmax(u), idx = topk(s, {}, {.K = 2});
    const Dispatch d = dispatch(idx, 8);
    const Tensor y = combine(gather_rows(u, d.token, d.slot), d.slot, pick(s, idx));
    backward(mean(logp(add(reshape(h, {6, 8}), y), w[0], reshape(tokens, {6})).logp));
    NoGrad off;
    for (const Tensor &weight : w) {
        scale_add(weight, gradient(weight), 1, -0.01);
        zero_grad(weight);
    }
}

}  // namespace

TEST_CASE("pool: a step returns all its blocks, and after the first the system is asked for nothing") {
    const Leaves w = {randn({5, 8}, "E", 1), randn({8, 8}, "W", 2), randn({8}, "g", 3)};
    for (const Tensor &weight : w) ensure_grad(parameter(weight, weight.s->name).s);
    for (Kernels kernels : {Kernels::plain, Kernels::fast}) {
        WithKernels use(kernels);
        const PoolReport before = pool_report(cpu_device);
        training_step(w);
        const PoolReport first = pool_report(cpu_device);
        CHECK(first.held_bytes == before.held_bytes);
        for (int i = 0; i < 3; i++) training_step(w);
        const PoolReport last = pool_report(cpu_device);
        CHECK(last.held_bytes == before.held_bytes);
        CHECK(last.system_allocations == first.system_allocations);
        CHECK(last.peak_bytes == first.peak_bytes);
    }
}

TEST_CASE("pool: blocks return with their last handle, gradients with their tensor") {
    const size_t before = pool_report(cpu_device).held_bytes;
    {
        const Tensor x = zeros({1000});
        const size_t one = pool_report(cpu_device).held_bytes - before;
        CHECK(one >= 1000 * sizeof(real));
        const Tensor same = x, shaped = reshape(x, {10, 100}), off = detach(x);
        CHECK(pool_report(cpu_device).held_bytes == before + one);
        const Tensor g = gradient(x);
        CHECK(pool_report(cpu_device).held_bytes == before + 2 * one);
    }
    CHECK(pool_report(cpu_device).held_bytes == before);
    Tensor kept;
    {
        const Tensor x = vec({7, 8});
        kept = detach(x);
    }
    CHECK(values(kept) == std::vector<real>{7, 8});
}

TEST_CASE("backward: pops records as it walks, so a chain's gradients never live all at once") {
    const Tensor x = zeros({5000});
    wants_grad(x);
    const size_t before = pool_report(cpu_device).held_bytes;
    Tensor y = x;
    for (int i = 0; i < 20; i++) y = times(y, 1);
    const Tensor loss = sum(y);
    y = {};
    const size_t forward = pool_report(cpu_device).held_bytes - before;
    CHECK(tape.size() == 21);
    size_t most = 0;
    op_hook.after = [&](const Call &, bool, double) {
        most = std::max(most, pool_report(cpu_device).held_bytes - before);
    };
    backward(loss);
    op_hook.after = nullptr;
    CHECK(tape.empty());
    CHECK(most < forward + 4 * forward / 20);                // not 2 * forward
}

TEST_CASE("NoGrad: blocks return at once") {
    const Tensor x = zeros({5000});
    wants_grad(x);
    const auto held_by_a_chain = [&] {
        const size_t before = pool_report(cpu_device).held_bytes;
        Tensor y = x;
        for (int i = 0; i < 20; i++) y = times(y, 1);
        return pool_report(cpu_device).held_bytes - before;
    };
    NoGrad off;
    const size_t alone = held_by_a_chain();
    CHECK(alone <= 2 * 8192 * sizeof(real));
}

TEST_CASE("op_hook: sees every op, forwards and backwards in reverse") {
    std::string seen;
    op_hook.after = [&](const Call &c, bool backward, double seconds) {
        seen += std::string(backward ? "-" : "+") + ops[c.op].name + " ";
        CHECK(seconds >= 0);
    };
    const Tensor x = vec({1, 2});
    backward(sum(times(wants_grad(x), 2)));
    op_hook.after = nullptr;
    CHECK(seen == "+unary +weighted_sum +unary -weighted_sum -unary ");
}

// ----------------------------------------------------------------------------------------------- [5] choices

TEST_CASE("choices: replay imposes what record kept, counts what differs and names the first") {
    const Tensor s = from(std::vector<real>{3, 2, 1, 1, 2, 3}, {2, 3}, "s"),
                 t = from(std::vector<real>{3, 2, 1, 3, 2, 1}, {2, 3}, "s");
    choices = {Choices::record, {}, 0, 0, ""};
    const std::vector<int> first = int_values(topk(s, {}, {.K = 2}));
    CHECK(first == std::vector<int>{0, 1, 2, 1});
    topk(s, {}, {.K = 1});
    CHECK(choices.kept.size() == 2);
    choices.mode = Choices::replay;
    CHECK(int_values(topk(t, {}, {.K = 2})) == first);
    CHECK(choices.differing == 1);
    CHECK(choices.first_difference == "topk, choice 0, entry 2: 0 instead of 2");
    topk(t, {}, {.K = 1});
    CHECK(choices.differing == 2);
    CHECK(choices.first_difference == "topk, choice 0, entry 2: 0 instead of 2");
    CHECK(choices.next == 2);
    choices = {};
    CHECK(int_values(topk(t, {}, {.K = 2})) == std::vector<int>{0, 1, 0, 1});
}

// ------------------------------------------------------------------------------------- [6] tensors, messages

TEST_CASE("tensors: an alias that goes leaves the block to its owner") {
    const Tensor x = vec({1, 2, 3});
    {
        const Tensor alias = detach(x);
        CHECK(values(alias) == values(x));
    }
    const Tensor other = vec({7, 8, 9});                 // would get x's block, had the alias given it back
    CHECK(values(x) == std::vector<real>{1, 2, 3});
    CHECK(values(other) == std::vector<real>{7, 8, 9});
}

TEST_CASE("tensors: a handle aliases, clone copies, assign raises the version") {
    const Tensor x = vec({1, 2}), same = x, copy = clone(x);
    assign(x, {5, 6});
    CHECK(values(same) == std::vector<real>{5, 6});
    CHECK(values(copy) == std::vector<real>{1, 2});
    CHECK(x.s->version == 1);
    CHECK(item(vec({4})) == 4);
    CHECK(int_values(zero_ints({2})) == std::vector<int>{0, 0});
}

TEST_CASE("shapes: sizes, rows and printing") {
    const Shape s = {2, 3, 5};
    CHECK(str(s) == "(2,3,5)");
    CHECK(s.numel() == 30);
    CHECK(s.width() == 5);
    CHECK(s.rows() == 6);
    CHECK(s[-2] == 3);
    CHECK(str(s.with_width(7)) == "(2,3,7)");
    CHECK(str(Attr{}) == "");
    CHECK(str(Attr{.scale = 0.25}) == "scale=0.25");
}

TEST_CASE("ops: the table knows what may be absent, is written in place, is saved") {
    CHECK(ops.size() == n_ops);
    CHECK(ops[op_gather_rows].inputs == std::vector<std::string>{"x", "ids", "slot"});
    CHECK(ops[op_gather_rows].optional == 4);
    CHECK(ops[op_rmsnorm].saved == 2);
    CHECK(ops[op_append].inout == 1);
    CHECK(ops[op_adamw].inout == 7);
    for (int op = 0; op < n_ops; op++) {
        CHECK(ops[op].inputs.size() <= max_inputs);
        CHECK(ops[op].outputs.size() <= max_outputs);
        CHECK((ops[op].inout == 0 || !ops[op].has_gradient));
    }
}

// ----------------------------------------------------------------------------- [7] the gradient check itself

TEST_CASE("check_gradient: sees a missing half, and names the tensor, the index and both numbers") {
    const Tensor x = vec({1, -3, 2});
    const GradientReport wrong = gradient_report([&] { return mul(x, detach(x)); }, {x});
    CHECK(wrong.error == doctest::Approx(0.5).epsilon(1e-3));
    CHECK(wrong.text.find("x (3) at [") == 0);
    CHECK(wrong.text.find("backward ") != std::string::npos);
    CHECK(wrong.text.find("differences ") != std::string::npos);
    CHECK(gradient_report([&] { return mul(x, x); }, {x}).error < GradientOptions().bar);
}

TEST_CASE("check_gradient: holds choices still, so that a kink of routing is no error") {
    const Tensor s = from(std::vector<real>{1, (real)1.0001, (real)0.9999}, {1, 3}, "s");
    check_gradient([&] { return pick(s, topk(s, {}, {.K = 2})); }, {s});
    CHECK(choices.mode == Choices::off);
}

TEST_CASE("relative_error: NaN equals NaN, and either a NaN or an infinity against a number is infinite") {
    CHECK(relative_error({1, 2}, std::vector<double>{1, 4}) == 0.5);
    CHECK(relative_error({NAN, 4, INFINITY}, std::vector<double>{NAN, 4, INFINITY}) == 0);
    CHECK(relative_error({1, NAN, 2}, std::vector<double>{1, 3, 2}) == INFINITY);
    CHECK(relative_error({1, 3, 2}, std::vector<double>{1, NAN, 2}) == INFINITY);
    CHECK(relative_error({1, -INFINITY}, std::vector<double>{1, INFINITY}) == INFINITY);
    CHECK(relative_error({1e-30}, std::vector<double>{0}) == INFINITY);
}

TEST_CASE(
    "clone: a copied model keeps its bits while the original trains: a reference policy does not follow") {
    TrainOptions o;
    o.steps = 3;
    Training t(o, initialised(load_preset("v3-nano"), seeded(1)));
    Model copy = clone(t.policy.model);
    std::vector<std::vector<real>> before;
    visit(copy, [&](const std::string &, Tensor &w, const Spec &) { before.push_back(values(w)); });
    for (int i = 0; i < 3; i++)
        t.train_step([](long) { return examples({{1, 2, 3, 4, 5}, {6, 7, 8, 9, 10}}); });
    size_t at = 0, moved = 0;
    visit(copy, [&](const std::string &name, Tensor &w, const Spec &) {
        INFO(name);
        CHECK(values(w) == before[at++]);
    });
    at = 0;
    visit(t.policy.model,
          [&](const std::string &, Tensor &w, const Spec &) { moved += values(w) != before[at++]; });
    CHECK(moved > before.size() / 2);
}

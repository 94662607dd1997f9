// op_engine.cpp: every op can be called by its name, and what its signature says of its inputs is checked.
#include "src/tensor/op_engine.h"
#include "src/tensor/ops.h"
#include "tests/check.h"

TEST_CASE("op engine: every op has its row, so that it can be called by name") {
    for (const std::string &name : ops_without_wrapper()) FAIL_CHECK(name, " has no row in op_engine.cpp");
}

TEST_CASE("op engine: every op runs on the random inputs of its row, and prints what it gave and got") {
    for (const Op &op : ops) {
        INFO(std::string(op.name));
        std::ostringstream out;
        run_random_op(out, {op.name, {}, {}, 1});
        CHECK(out.str().find(op.formula) != std::string::npos);
        CHECK(out.str().find("nan") == std::string::npos);
        for (const std::string &output : op.outputs)
            CHECK(out.str().find("\n" + output + " (") != std::string::npos);
        CHECK(op.has_gradient == (out.str().find("\nand back") != std::string::npos));
    }
}

TEST_CASE("op engine: check holds every gradient against differences") {
    for (const std::string &name : ops_with_gradient()) {
        const GradientError e = check_op({name, {}, {}, 1});
        INFO(name, ": ", e.where);
        CHECK(e.worst < (in_double ? 1e-7 : 1e-3));
        CHECK(e.compared > 0);
    }
}

TEST_CASE("op engine: check finds a gradient that is wrong") {
    const Tensor x = randn({4}, "x", 1);
    backward(weighted_sum(wants_grad(x), {}, 2));
    const auto value = [&] { return (double)item(weighted_sum(x, {}, 2)); };
    CHECK(against_differences(value, {x}).worst < 1e-4);
    assign(gradient(x), {(real)2.2, (real)2.2, (real)2.2, (real)2.2});
    const GradientError e = against_differences(value, {x});
    CHECK(e.worst == doctest::Approx(0.1 / 1.1).epsilon(0.01));
    CHECK(e.where.find("x (4)") == 0);
    CHECK(e.compared == 4);
    assign(gradient(x), {2, 2, (real)NAN, 2});
    CHECK(std::isinf(against_differences(value, {x}).worst));
    assign(gradient(x), {2, 2, 2.5, 2});
    CHECK(against_differences(value, {x}, 2).worst == doctest::Approx(0.2).epsilon(0.01));  // entries 0 and 2
}

TEST_CASE("op engine: shapes are the caller's, and a misspelt one is refused") {
    std::ostringstream out;
    run_random_op(out, {"matmul", {"x=1,2,7", "W=3,7"}, {}, 1});
    CHECK(out.str().find("y (1,2,3)") != std::string::npos);
    for (const char *shape : {"X=2", "x", "x=", "x=0", "x=2,many", "x=1,1,1,1,1", "x=2,9"}) {
        INFO(std::string(shape));
        CHECK_THROWS_AS(run_random_op(out, {"matmul", {shape}, {}, 1}), Error);
    }
}

TEST_CASE("ops: a signature says what each input may be, and prints without it") {
    const Op &gather = ops[op_gather_rows];
    CHECK(gather.signature == "x ids slot? -> y");
    CHECK(gather.kinds[0].most_axes == 2);
    CHECK(gather.kinds[0].reals);
    CHECK(gather.kinds[1].ints);
    CHECK_FALSE(gather.kinds[1].reals);
    CHECK(gather.kinds[1].fewest_axes == 1);
    CHECK(gather.kinds[1].most_axes == 3);
    CHECK(gather.kinds[1].low == 0);
    CHECK(gather.kinds[1].end == "x.0");
    CHECK(gather.kinds[2].low == -1);
    CHECK(gather.kinds[2].end == "ids");
    CHECK(ops[op_scale_add].kinds[0].ints);
    CHECK(ops[op_scale_add].kinds[0].reals);
    CHECK(ops[op_attention].ranges.at("n").low == 0);
    CHECK(ops[op_dispatch].ranges.at("n").low == 1);
    CHECK(ops[op_logp].ranges.at("temperature").above);
    CHECK_FALSE(ops[op_sample].ranges.at("temperature").above);
    CHECK(ops[op_slice].attributes == "axis from n");
}

TEST_CASE("ops: every bound names an input of the op, with an axis that it has, or the attribute n") {
    for (const Op &op : ops) {
        CHECK(op.kinds.size() == op.inputs.size());
        for (const InputKind &kind : op.kinds) {
            if (kind.end.empty()) continue;
            INFO(std::string(op.name), ": ", kind.end);
            const size_t dot = kind.end.find('.');
            const auto at = std::find(op.inputs.begin(), op.inputs.end(), kind.end.substr(0, dot));
            if (kind.end == "n") CHECK(op.ranges.count("n") == 1);
            else REQUIRE(at != op.inputs.end());
            if (dot != std::string::npos)
                CHECK(kind.end[dot + 1] - '0' < op.kinds[at - op.inputs.begin()].fewest_axes);
        }
    }
}

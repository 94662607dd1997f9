// inspect.cpp: `deepseek op` and `deepseek dump`. Anyone can hold an op, or a whole model
// with all its gradients, against a few lines of NumPy or PyTorch: tensors go in and come out
// by name, in safetensors files.
//
// The kernels trust their indices, since a model's are right by construction. Here they come from a file: so
// tables say what each input and each attribute may be, and whatever is outside is refused by name.
//
//   [1] every op from outside     [3] the verb, and its list
//   [2] what an op takes          [4] logits, loss and gradients of a model
#include "src/cli/inspect.h"

#include <charconv>
#include <climits>
#include <cmath>
#include <iostream>
#include <map>

#include "src/model/config.h"
#include "src/model/huggingface.h"
#include "src/model/weights.h"
#include "src/text/corpus.h"
#include "src/base/json.h"
#include "src/base/safetensors.h"
#include "src/base/text.h"

namespace {

struct Output {                                          // keeps the numbers until the file is written
    std::vector<TensorOut> tensors;
    std::vector<std::vector<real>> numbers;
    std::vector<std::vector<int>> integers;
    void add(const std::string &name, const Shape &shape, const std::vector<real> &x) {
        numbers.push_back(x);
        tensors.push_back({name,
                           sizeof(real) == 4 ? "F32" : "F64",
                           {shape.d, shape.d + shape.rank},
                           numbers.back().data()});
    }
    void add(const std::string &name, const Shape &shape, const std::vector<int> &x) {
        integers.push_back(x);
        tensors.push_back({name, "I32", {shape.d, shape.d + shape.rank}, integers.back().data()});
    }
    void add(const std::string &name, const Tensor &t) {
        if (t.s->type == INTS) add(name, t.shape, int_values(t));
        else add(name, t.shape, values(t));
    }
};

Tensor tensor_of(const TensorEntry &entry, const char *name) {
    expect(entry.shape.size() >= 1 && entry.shape.size() <= 4, entry.where, " has ", entry.shape.size(),
           " axes, not 1 to 4");
    Shape shape;
    for (long size : entry.shape) {
        expect(size > 0, entry.where, " is empty: an axis of size ", size);
        expect(size <= INT_MAX, entry.where, " has an axis of size ", size, ", the most is ", INT_MAX);
        shape.d[shape.rank++] = (int)size;
    }
    if (entry.dtype == "I32" || entry.dtype == "I64") {
        std::vector<int> ids(entry.numel());
        read_ints(entry, ids.data());
        return from(ids, shape, name);
    }
    std::vector<real> numbers(entry.numel());
    read_reals(entry, numbers.data());
    return from(numbers, shape, name);
}

// --------------------------------------------------------------------------------- [1] every op from outside
using In = const std::vector<Tensor> &;
Rope rope_of(const Attr &a) {
    return {a.first, a.dims, (RopePairing)a.pairing, a.angle(), a.amplitude, a.sign};
}
AdamW adamw_of(const Attr &a) { return {a.lr, a.beta1, a.beta2, a.eps, a.decay, a.clip, a.step}; }

// The wrappers, by op: they check the shapes and allocate.
const std::map<int, std::function<void(In, const Attr &)>> wrappers = {
    {op_gather_rows, [](In x, const Attr &) { gather_rows(x[0], x[1], x[2]); }},
    {op_combine, [](In x, const Attr &) { combine(x[0], x[1], x[2]); }},
    {op_concat, [](In x, const Attr &) { concat(x[0], x[1]); }},
    {op_slice, [](In x, const Attr &a) { slice(x[0], a.axis, a.from, a.n); }},
    {op_matmul, [](In x, const Attr &) { matmul(x[0], x[1]); }},
    {op_matmul_heads, [](In x, const Attr &a) { matmul_heads(x[0], x[1], a.transpose); }},
    {op_matmul_grouped, [](In x, const Attr &) { matmul_grouped(x[0], x[1], x[2]); }},
    {op_weighted_sum, [](In x, const Attr &a) { weighted_sum(x[0], x[1], a.a); }},
    {op_unary, [](In x, const Attr &a) { unary((Unary)a.f, x[0], a.a, a.c); }},
    {op_binary, [](In x, const Attr &a) { binary((Binary)a.f, x[0], x[1]); }},
    {op_swiglu, [](In x, const Attr &) { swiglu(x[0], x[1]); }},
    {op_scale_rows, [](In x, const Attr &) { scale_rows(x[0], x[1]); }},
    {op_affine, [](In x, const Attr &) { affine(x[0], x[1], x[2]); }},
    {op_rmsnorm, [](In x, const Attr &a) { rmsnorm(x[0], x[1], a.eps); }},
    {op_softmax, [](In x, const Attr &) { softmax(x[0]); }},
    {op_normalize_rows, [](In x, const Attr &a) { normalize_rows(x[0], a.rho, a.eps); }},
    {op_rope, [](In x, const Attr &a) { rope(x[0], x[1], rope_of(a)); }},
    {op_attention,
     [](In x, const Attr &a) {
         const Where where = {x[3], (bool)a.lists};
         if (x[2]) attention(x[0], x[1], x[2], where, a.scale);
         else attention(x[0], x[1], First{a.n}, where, a.scale);
     }},
    {op_pick, [](In x, const Attr &) { pick(x[0], x[1]); }},
    {op_logp, [](In x, const Attr &a) { logp(x[0], x[1], x[2], a.temperature, x[3]); }},
    {op_topk, [](In x, const Attr &a) { topk(x[0], x[1], {a.K, a.groups, a.keep, a.best}, x[2]); }},
    {op_dispatch, [](In x, const Attr &a) { dispatch(x[0], a.n); }},
    {op_balance, [](In x, const Attr &a) { balance(x[0], a.n, a.T, a.a * x[0].shape[0] / a.T); }},
    {op_sample, [](In x, const Attr &a) { sample(x[0], x[1], {a.temperature, a.top_p, a.top_k, a.seed}); }},
    {op_append, [](In x, const Attr &) { append(x[0], x[1], x[2], x[3]); }},
    {op_adamw, [](In x, const Attr &a) { adamw(x[0], x[1], x[2], x[3], x[4], adamw_of(a)); }},
    {op_sum_squares, [](In x, const Attr &) { sum_squares(x[0], x[1]); }},
    {op_scale_add, [](In x, const Attr &a) { scale_add(x[0], x[1], a.a, a.b); }},
    {op_bias_update, [](In x, const Attr &a) { bias_update(x[0], x[1], a.gamma); }},
};

// -------------------------------------------------------------------------------------- [2] what an op takes
// The bounds of integers, from the sizes of the op's inputs.
using Bound = long (*)(In, const Attr &);
template <int input, int axis> long size_of(In x, const Attr &) { return x[input].shape[axis]; }
template <int input, int axis> long up_to_size_of(In x, const Attr &) { return x[input].shape[axis] + 1l; }
template <int input> long numel_of(In x, const Attr &) { return x[input].numel(); }
long experts(In, const Attr &a) { return a.n; }
long any_integer(In, const Attr &) { return INT_MAX + 1l; }

struct Input {
    int op;
    const char *name;
    int fewest_axes, most_axes;
    long low = 0;                                        // integers lie in [low, end)
    Bound end = nullptr;                                 // null: numbers, not integers
};

// Inputs that are not here are numbers of 1 to 4 axes; what their sizes have to do with each
// other is the wrappers' business.
const std::vector<Input> input_rules = {
    {op_gather_rows, "x", 2, 2},
    {op_gather_rows, "ids", 1, 3, 0, size_of<0, 0>},
    {op_gather_rows, "slot", 2, 2, -1, numel_of<1>},
    {op_combine, "y", 2, 2},
    {op_combine, "slot", 2, 2, -1, size_of<0, 0>},
    {op_combine, "g", 2, 2},
    {op_matmul, "W", 2, 2},
    {op_matmul_heads, "x", 2, 4},
    {op_matmul_heads, "W", 3, 3},
    {op_matmul_grouped, "x", 2, 2},
    {op_matmul_grouped, "W", 3, 3},
    {op_matmul_grouped, "offsets", 1, 1, 0, up_to_size_of<0, 0>},
    {op_affine, "alpha", 1, 1},
    {op_affine, "b", 1, 1},
    {op_rmsnorm, "g", 1, 1},
    {op_rope, "x", 4, 4},
    {op_rope, "pos", 1, 4, -1, any_integer},
    {op_attention, "q", 4, 4},
    {op_attention, "k", 4, 4},
    {op_attention, "v", 4, 4},
    {op_attention, "where", 3, 3, INT_MIN, any_integer},                // check_where says more
    {op_pick, "s", 2, 2},
    {op_pick, "idx", 2, 2, -1, size_of<0, 1>},
    {op_logp, "W", 2, 2},
    {op_logp, "ids", 1, 4, -1, size_of<1, 0>},
    {op_logp, "allowed", 1, 4, INT_MIN, any_integer},
    {op_topk, "s", 2, 2},
    {op_topk, "b", 1, 1},
    {op_topk, "pos", 1, 2, -1, any_integer},
    {op_dispatch, "idx", 2, 2, -1, experts},
    {op_balance, "idx", 2, 2, -1, experts},
    {op_sample, "z", 2, 2},
    {op_sample, "key", 1, 2, INT_MIN, any_integer},
    {op_append, "rows", 4, 4},
    {op_append, "length", 1, 1, 0, up_to_size_of<0, 1>},
    {op_append, "x", 4, 4},
    {op_append, "at", 1, 4, -1, size_of<0, 1>},
    {op_bias_update, "counts", 1, 4, 0, any_integer},
};

Input rule_of(int op, const std::string &name) {
    for (const Input &rule : input_rules)
        if (rule.op == op && name == rule.name) return rule;
    return {op, "", 1, 4};
}

void check_kind(const Op &op, const Input &rule, const std::string &name, const Tensor &t) {
    const int fewest = rule.fewest_axes, most = rule.most_axes, rank = t.shape.rank;
    expect(rank >= fewest && rank <= most, op.name, ": ", name, " ", t.shape, " has ", rank, " axes, not ",
           fewest, fewest < most ? cat(" to ", most) : "");
    if (rule.op == op_scale_add) return;                 // of numbers or of integers
    const bool integers = t.s->type == INTS;
    expect(integers || !rule.end, op.name, ": ", name, " holds numbers, not integers (I32)");
    expect(!integers || rule.end, op.name, ": ", name, " holds integers, not numbers (F32)");
}

void check_bounds(const Op &op, const Input &rule, In inputs, const Tensor &t, const Attr &a) {
    const long end = rule.end(inputs, a);
    for (int i : int_values(t))
        expect(i >= rule.low && i < end, op.name, ": ", rule.name, " holds ", i, ", outside of ", rule.low,
               " to ", end - 1);
}

// Expert e owns rows offsets[e] to offsets[e+1].
void check_offsets(const Tensor &offsets) {
    const std::vector<int> at = int_values(offsets);
    expect(at[0] == 0, "matmul_grouped: offsets begin with ", at[0], ", not with 0");
    for (size_t e = 1; e < at.size(); e++)
        expect(at[e] >= at[e - 1], "matmul_grouped: offsets fall from ", at[e - 1], " to ", at[e]);
}

// Spans [lo, hi] of keys, empty when lo > hi (within reason: hi - lo must not overflow), or lists of keys.
void check_where(In x, const Attr &a) {
    const int S = x[1].shape[1], far = 1 << 30;
    const bool spans = !a.lists;
    const std::vector<int> where = int_values(x[3]);
    expect(!spans || x[3].shape[2] == 2, "attention: where ", x[3].shape,
           " holds no spans: lists = 1 is needed");
    for (size_t i = 0; spans && i < where.size(); i += 2) {
        const int lo = where[i], hi = where[i + 1];
        const bool empty = lo > hi && lo <= far && hi >= -far;
        expect(empty || (lo >= 0 && lo <= hi && hi < S), "attention: where holds the span ", lo, " to ", hi,
               ", outside of the ", S, " keys");
    }
    for (size_t i = 0; !spans && i < where.size(); i++)
        expect(where[i] >= -1 && where[i] < S, "attention: where holds ", where[i], ", outside of -1 to ",
               S - 1);
}

void check_inputs(const Op &op, int code, In inputs, const Attr &a) {
    for (size_t i = 0; i < inputs.size(); i++)
        if (inputs[i]) check_kind(op, rule_of(code, op.inputs[i]), op.inputs[i], inputs[i]);
    for (size_t i = 0; i < inputs.size(); i++) {
        const Input rule = rule_of(code, op.inputs[i]);
        if (inputs[i] && rule.end) check_bounds(op, rule, inputs, inputs[i], a);
    }
    if (code == op_matmul_grouped) check_offsets(inputs[2]);
    if (code == op_attention) check_where(inputs, a);
    if (code == op_attention && !inputs[2])
        expect(a.n >= 1 && a.n <= inputs[1].shape[3], "attention: n = ", a.n, ", outside of 1 to ",
               inputs[1].shape[3], ": without v the value is the first n numbers of the key");
    if (code == op_balance)
        expect((long)a.n * inputs[0].shape[0] <= 1l << 28, "balance: n = ", a.n, " for ", inputs[0].shape[0],
               " tokens is too large");
    if (code == op_scale_add && inputs[0].s->type == INTS)
        for (double x : {a.a, a.b})
            expect(x == std::trunc(x) && std::abs(x) <= 1 << 15, "scale_add: integers times ", x,
                   ": not a whole number of at most ", 1 << 15);
}

struct AttributeRule {
    const char *name;
    int op;                                              // n_ops: of all that have it
    double low, high;
    bool above = false;                                  // low itself is outside
};
constexpr double far = INFINITY, sizes = 1 << 20;       // sizes: enough for whoever compares, and no overflow

// The first that fits counts. Those that are not here may be any finite number.
const std::vector<AttributeRule> attribute_rules = {
    {"f", op_unary, 0, n_unary - 1},
    {"f", op_binary, 0, n_binary - 1},
    {"axis", n_ops, 0, 3},
    {"from", n_ops, 0, INT_MAX},
    {"n", op_slice, 1, INT_MAX},
    {"n", op_attention, 0, sizes},
    {"n", n_ops, 1, sizes},
    {"transpose", n_ops, 0, 1},
    {"eps", n_ops, 0, far},
    {"scale", n_ops, 0, far, true},
    {"lists", n_ops, 0, 1},
    {"first", n_ops, 0, sizes},
    {"dims", n_ops, 0, sizes},
    {"pairing", n_ops, 0, 1},
    {"theta", n_ops, 1, far, true},
    {"scaling", n_ops, 0, 3},
    {"factor", n_ops, 0, far, true},
    {"original", n_ops, 0, far, true},
    {"beta_fast", n_ops, 0, far, true},
    {"beta_slow", n_ops, 0, far, true},
    {"K", n_ops, 1, sizes},
    {"groups", n_ops, 1, sizes},
    {"keep", n_ops, 1, sizes},
    {"best", n_ops, 1, sizes},
    {"T", n_ops, 1, INT_MAX},
    {"temperature", op_logp, 0, far, true},
    {"temperature", n_ops, 0, far},
    {"top_k", n_ops, 0, INT_MAX},
    {"top_p", n_ops, 0, 1, true},
    {"beta1", n_ops, 0, 1},
    {"beta2", n_ops, 0, 1},
    {"clip", n_ops, 0, far},
    {"step", n_ops, 1, INT_MAX},
};

void check_attribute(const Op &op, int code, const std::string &name, double value) {
    expect(std::isfinite(value), op.name, ": ", name, " = ", value, " is not finite");
    for (const AttributeRule &rule : attribute_rules) {
        if (name != rule.name || (rule.op != n_ops && rule.op != code)) continue;
        const bool inside = value >= rule.low && value <= rule.high && !(rule.above && value == rule.low);
        expect(inside, op.name, ": ", name, " = ", value, ", outside of ", rule.above ? "above " : "",
               rule.low, rule.high == far ? " and up" : cat(" to ", rule.high));
        return;
    }
}

std::vector<std::string> words_of(const std::string &text) {
    std::istringstream stream(text);
    std::vector<std::string> words;
    for (std::string word; stream >> word;) words.push_back(word);
    return words;
}

// Names of the pointwise families: `--set f=silu` is `--set f=1`.
std::vector<std::string> functions_of(int op) {
#define X(name, ...) #name,
    if (op == op_unary) return {UNARY_FUNCTIONS(X)};
    if (op == op_binary) return {BINARY_FUNCTIONS(X)};
#undef X
    return {};
}

template <class N> void read_number(const std::string &assignment, const std::string &text, N &x) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), x);
    expect(error == std::errc() && end == text.data() + text.size(), "--set ", assignment, ": '", text,
           "' is no ", std::is_integral_v<N> ? "integer" : "number");
}

void set_attribute(const Op &op, int code, Attr &a, const std::string &assignment) {
    const size_t equals = assignment.find('=');
    expect(equals != std::string::npos, "--set ", assignment, ": not of the form name=value");
    const std::string name = assignment.substr(0, equals), value = assignment.substr(equals + 1);
    const std::vector<std::string> names = words_of(op.attributes), functions = functions_of(code);
    if (std::find(names.begin(), names.end(), name) == names.end())
        fail("--set " + name + ": unknown attribute of " + op.name,
             names.empty() ? cat(op.name, " has none") : did_you_mean(name, names));
    if (name == "f" && !value.empty() && std::isalpha((unsigned char)value[0])) {
        const auto at = std::find(functions.begin(), functions.end(), value);
        const std::string all = "`deepseek op --list` shows all";
        if (at == functions.end())
            fail("--set " + assignment + ": no such function", did_you_mean(value, functions, all));
        a.f = (int)(at - functions.begin());
    }
#define X(type, attribute, usual, meaning)                                    \
    else if (name == #attribute) read_number(assignment, value, a.attribute);
    ATTRIBUTES(X)
#undef X
}

void check_attributes(const Op &op, int code, const Attr &a) {
    const std::vector<std::string> names = words_of(op.attributes);
#define X(type, attribute, usual, meaning)                                \
    if (std::find(names.begin(), names.end(), #attribute) != names.end()) \
        check_attribute(op, code, #attribute, a.attribute);
    ATTRIBUTES(X)
#undef X
}

// Whatever is in the file must have a part in the call, or a misspelt name would be a missing one.
void check_names(const Op &op, const std::string &in, const Safetensors &file) {
    std::vector<std::string> known = op.inputs;
    for (size_t i = 0; op.has_gradient && i < op.outputs.size(); i++)
        if (!(op.saved >> i & 1)) known.push_back("d" + op.outputs[i]);
    for (const auto &[name, entry] : file.tensors)
        if (std::find(known.begin(), known.end(), name) == known.end())
            fail(cat(in, ": tensor '", name, "' is unknown to ", op.name, " (", op.signature, ")"),
                 did_you_mean(name, known, "`deepseek op --list` shows all"));
}

const Op &op_named(const std::string &name) {
    std::vector<std::string> names;
    for (const Op &op : ops) {
        if (name == op.name) return op;
        names.push_back(op.name);
    }
    fail("no op '" + name + "'", did_you_mean(name, names, "`deepseek op --list` shows all"));
}

// sum_i <out_i, d_i>: its backward hands every output the gradient that the file names.
Tensor weighted(const Record &r, const Op &op, const std::map<std::string, TensorEntry> &given) {
    Tensor loss;
    for (int i = 0; i < r.n_out; i++) {
        const auto at = given.find("d" + op.outputs[i]);
        if (op.saved >> i & 1 || at == given.end()) continue;
        const Tensor d = tensor_of(at->second, "d");
        expect(d.s->type == REALS && d.shape == r.out[i].shape, op.name, ": d", op.outputs[i], " ", d.shape,
               d.s->type == INTS ? " of integers" : "", " is no gradient of ", op.outputs[i], " ",
               r.out[i].shape);
        const Tensor part = weighted_sum(r.out[i], d);
        loss = loss ? add(loss, part) : part;
    }
    expect(loss, "--grads: no gradient of an output (d", op.outputs[0], ") in the file");
    return loss;
}

std::vector<Tensor> read_inputs(const Op &op, int code, const std::string &in, const Safetensors &file,
                                const Attr &a, bool grads) {
    std::vector<Tensor> inputs;
    for (size_t i = 0; i < op.inputs.size(); i++) {
        const auto at = file.tensors.find(op.inputs[i]);
        const bool there = at != file.tensors.end();
        expect(there || op.optional >> i & 1, in, ": no tensor '", op.inputs[i], "', which ", op.name, " (",
               op.signature, ") needs");
        inputs.push_back(there ? tensor_of(at->second, op.inputs[i].c_str()) : Tensor{});
        if (grads && there && inputs.back().s->type == REALS) wants_grad(inputs.back());
    }
    check_names(op, in, file);
    check_inputs(op, code, inputs, a);
    return inputs;
}

// -------------------------------------------------------------------------------- [3] the verb, and its list
struct Detail {
    std::string name, meaning, usual;
    Json value;
};

std::vector<Detail> details_of(const Op &op, int code) {
    std::vector<Detail> details;
    const Attr usual;
    for (const std::string &name : words_of(op.attributes)) {
#define X(type, attribute, value, meaning)                                                             \
    if (name == #attribute) details.push_back({name, meaning, cat(usual.attribute), usual.attribute});
        ATTRIBUTES(X)
#undef X
        if (code == op_attention && name == "n")
            details.back().meaning = "without v: the value is the first n numbers of the key";
    }
    return details;
}

std::string joined(const std::vector<std::string> &words) {
    std::string text;
    for (const std::string &word : words) text += (text.empty() ? "" : " ") + word;
    return text;
}

std::vector<std::string> integers_of(const Op &op, int code) {
    std::vector<std::string> names;
    for (const std::string &name : op.inputs)
        if (rule_of(code, name).end) names.push_back(name);
    return names;
}

void print_op(const Op &op, int code) {
    std::cout << op.name << "\n    " << op.signature << "\n    " << op.formula << "\n";
    const auto integers = integers_of(op, code), functions = functions_of(code);
    if (!integers.empty()) std::cout << "    integers: " << joined(integers) << "\n";
    for (const Detail &d : details_of(op, code))
        std::cout << "    --set " << d.name << "=" << d.usual
                  << std::string(14 - std::min<size_t>(13, d.name.size() + d.usual.size()), ' ') << d.meaning
                  << "\n";
    if (!functions.empty()) std::cout << "    f, by name: " << joined(functions) << "\n";
}

Json json_of(const Op &op, int code) {
    Json entry;
    entry["name"] = op.name;
    entry["signature"] = op.signature;
    entry["inputs"] = op.inputs;
    entry["outputs"] = op.outputs;
    entry["optional"] = Json::array();
    entry["in_place"] = Json::array();
    for (size_t i = 0; i < op.inputs.size(); i++) {
        if (op.optional >> i & 1) entry["optional"].push_back(op.inputs[i]);
        if (op.inout >> i & 1) entry["in_place"].push_back(op.inputs[i]);
    }
    entry["integers"] = integers_of(op, code);
    entry["attributes"] = op.attributes;
    entry["attribute_details"] = Json::array();
    for (const Detail &d : details_of(op, code)) {
        Json detail;
        detail["name"] = d.name;
        detail["meaning"] = d.meaning;
        detail["default"] = d.value;
        entry["attribute_details"].push_back(detail);
    }
    entry["functions"] = functions_of(code);
    entry["formula"] = op.formula;
    entry["gradient"] = op.has_gradient;
    return entry;
}

const char *example = R"(
? may be absent, ! is written in place, ' is for the backward only. --set shows the defaults. From Python:

import subprocess, numpy
from safetensors.numpy import load_file, save_file
save_file({"x": numpy.eye(4, dtype="float32"), "dy": numpy.ones((4, 4), "float32")}, "in.safetensors")
subprocess.run("./deepseek op rmsnorm --in in.safetensors --out out.safetensors --grads".split(), check=True)
print(load_file("out.safetensors"))
)";

}  // namespace

void list_ops(bool json) {
    Json list = Json::array();
    for (int code = 0; code < n_ops; code++) {
        if (json) list.push_back(json_of(ops[code], code));
        else print_op(ops[code], code);
    }
    if (json) std::cout << list.dump(1) << "\n";
    else std::cout << example;
}

void run_op(const std::string &name, const std::string &in, const std::string &out,
            const std::vector<std::string> &set, bool grads) {
    const Op &op = op_named(name);
    const int code = (int)(&op - ops.data());
    expect(!grads || op.has_gradient, "--grads: ", op.name, " has no gradient");
    const Safetensors file = read_safetensors(in);
    Attr a;
    for (const auto &assignment : set) set_attribute(op, code, a, assignment);
    check_attributes(op, code, a);
    const std::vector<Tensor> inputs = read_inputs(op, code, in, file, a, grads);
    Output result;
    op_hook.after = [&](const Call &c, bool, double) {  // the wrapper hides saved outputs; the call shows all
        for (int i = 0; i < c.n_out; i++) {
            const Storage view = {
                .home = device, .data = c.out[i].p, .n = c.out[i].numel(), .type = c.out[i].type};
            std::vector<char> bytes(view.n * (view.type == REALS ? sizeof(real) : sizeof(int)));
            device->down(bytes.data(), view.data, bytes.size());
            if (view.type == REALS)
                result.add(op.outputs[i], c.out[i].shape,
                           std::vector<real>((real *)bytes.data(), (real *)bytes.data() + view.n));
            else
                result.add(op.outputs[i], c.out[i].shape,
                           std::vector<int>((int *)bytes.data(), (int *)bytes.data() + view.n));
        }
    };
    wrappers.at(code)(inputs, a);
    op_hook.after = nullptr;
    for (size_t i = 0; i < inputs.size(); i++)
        if (op.inout >> i & 1) result.add(op.inputs[i], inputs[i]);
    if (grads) {
        backward(weighted(Record(tape.back()), op, file.tensors));
        for (size_t i = 0; i < inputs.size(); i++)
            if (inputs[i] && inputs[i].s->grad) result.add("d" + op.inputs[i], gradient(inputs[i]));
    }
    write_safetensors(out, result.tensors);
}

// ----------------------------------------------------------------- [4] logits, loss and gradients of a model
// MTP modules stand behind the last layer, and have no part in this loss.
static bool beyond_trunk(const std::string &name, int n_layers) {
    const std::string before = "model.layers.";
    return name.starts_with(before) && std::stoi(name.substr(before.size())) >= n_layers;
}

void dump(const std::string &directory, const std::string &tokens, const std::string &out, bool grads) {
    Model m = load_model(directory);
    const Sequences sequences = read_sequences(tokens, m.c.V);
    for (const auto &s : sequences) {
        expect(s.size() == sequences[0].size(), "--tokens ", tokens, ": sequences differ in length");
        expect((int)s.size() <= m.c.context, "--tokens ", tokens, ": ", s.size(), " tokens, the context is ",
               m.c.context);
    }
    const int B = (int)sequences.size(), T = (int)sequences[0].size();
    std::vector<int> ids, next;
    for (const auto &s : sequences) {
        ids.insert(ids.end(), s.begin(), s.end());
        next.insert(next.end(), s.begin() + 1, s.end());
        next.push_back(-1);
    }
    Output result;
    const Tensor h = trunk(m, causal(from(ids, {B, T})));
    const Tensor loss =
        weighted_sum(logp(h, m.output_head(), from(next, {B, T})).logp, {}, -1.0 / (B * (T - 1)));
    {
        NoGrad off;
        result.add("logits", matmul(h, m.output_head()));
        result.add("loss", loss);
    }
    backward(loss);
    Tensor last;
    std::vector<real> numbers;                       // of last's gradient; an expert's tensor has many pieces
    for (const NamedTensor &t : released_names(m)) {
        if (!grads || beyond_trunk(t.name, m.c.n_layers)) continue;
        std::vector<real> g(t.shape.numel());
        bool trained = true;
        for (const Piece &piece : t.pieces) {
            trained &= piece.ours.s->wants_grad;
            if (!trained) break;
            if (last.s != piece.ours.s) numbers = values(gradient(piece.ours));
            last = piece.ours;
            const long width = t.shape.width();
            std::copy_n(numbers.begin() + piece.from_row * width, piece.rows * width,
                        g.begin() + piece.to_row * width);
        }
        if (trained) result.add("grad." + t.name, t.shape, g);
    }
    write_safetensors(out, result.tensors);
}

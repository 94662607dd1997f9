// inspect.cpp: `deepseek op` and `deepseek dump`. Anyone can hold an op, or a whole model with all its
// gradients, against a few lines of NumPy or PyTorch: tensors go in and come out by name, in safetensors
// files.
//
//   [1] every op from outside   [2] logits, loss and gradients of a model
#include "inspect.h"

#include <charconv>
#include <iostream>
#include <map>

#include "../deepseek.h"
#include "files.h"
#include "text.h"

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
    for (long size : entry.shape) shape.d[shape.rank++] = (int)size;
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
    {op_rmsnorm, [](In x, const Attr &a) { rmsnorm(x[0], x[1], a.eps); }},
    {op_softmax, [](In x, const Attr &) { softmax(x[0]); }},
    {op_normalize_rows, [](In x, const Attr &a) { normalize_rows(x[0], a.rho, a.eps); }},
    {op_rope, [](In x, const Attr &a) { rope(x[0], x[1], rope_of(a)); }},
    {op_attention, [](In x, const Attr &a) {
         if (x[2]) attention(x[0], x[1], x[2], x[3], a.scale);
         else attention(x[0], x[1], First{a.n}, x[3], a.scale);
     }},
    {op_pick, [](In x, const Attr &) { pick(x[0], x[1]); }},
    {op_logp, [](In x, const Attr &a) { logp(x[0], x[1], x[2], a.temperature, x[3]); }},
    {op_topk, [](In x, const Attr &a) { topk(x[0], x[1], {a.K, a.groups, a.keep, a.best}); }},
    {op_dispatch, [](In x, const Attr &a) { dispatch(x[0], a.n); }},
    {op_balance, [](In x, const Attr &a) { balance(x[0], a.n, a.T, a.a * x[0].shape[0] / a.T); }},
    {op_sample, [](In x, const Attr &a) { sample(x[0], x[1], {a.temperature, a.top_p, a.top_k, a.seed}); }},
    {op_append, [](In x, const Attr &) { append(x[0], x[1], x[2], x[3]); }},
    {op_adamw, [](In x, const Attr &a) { adamw(x[0], x[1], x[2], x[3], x[4], adamw_of(a)); }},
    {op_sum_squares, [](In x, const Attr &) { sum_squares(x[0], x[1]); }},
    {op_scale_add, [](In x, const Attr &a) { scale_add(x[0], x[1], a.a, a.b); }},
    {op_bias_update, [](In x, const Attr &a) { bias_update(x[0], x[1], a.gamma); }},
};

template <class N> void read_number(const std::string &text, N &x) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), x);
    expect(error == std::errc() && end == text.data() + text.size(), "--set: '", text, "' is no number");
}

void set_attribute(Attr &a, const std::string &assignment) {
    const size_t equals = assignment.find('=');
    expect(equals != std::string::npos, "--set ", assignment, ": not of the form name=value");
    const std::string name = assignment.substr(0, equals), value = assignment.substr(equals + 1);
    std::vector<std::string> names;
#define X(type, attribute, usual, meaning)                          \
    names.push_back(#attribute);                                    \
    if (name == #attribute) return read_number(value, a.attribute);
    ATTRIBUTES(X)
#undef X
    fail("--set " + name + ": unknown attribute", "did you mean " + nearest(name, names) + "?");
}

const Op &op_named(const std::string &name) {
    std::vector<std::string> names;
    for (const Op &op : ops) {
        if (name == op.name) return op;
        names.push_back(op.name);
    }
    fail("no op '" + name + "'", "did you mean " + nearest(name, names) + "? `deepseek op --list` shows all");
}

// sum_i <out_i, d_i>: its backward hands every output the gradient that the file names.
Tensor weighted(const Record &r, const Op &op, const std::map<std::string, TensorEntry> &given) {
    Tensor loss;
    for (int i = 0; i < r.n_out; i++) {
        const auto at = given.find("d" + op.outputs[i]);
        if (op.saved >> i & 1 || at == given.end()) continue;
        const Tensor part = weighted_sum(r.out[i], tensor_of(at->second, "d"));
        loss = loss ? add(loss, part) : part;
    }
    expect(loss, "--grads: no gradient of an output (d", op.outputs[0], ") in the file");
    return loss;
}

}  // namespace

void list_ops(bool json) {
    Json list = Json::array();
    for (const Op &op : ops) {
        if (!json) std::cout << op.name << "\n    " << op.signature << "\n    " << op.formula << "\n";
        if (!json && *op.attributes) std::cout << "    --set " << op.attributes << "\n";
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
        entry["attributes"] = op.attributes;
        entry["formula"] = op.formula;
        entry["gradient"] = op.has_gradient;
        list.push_back(entry);
    }
    if (json) std::cout << list.dump(1) << "\n";
}

void run_op(const std::string &name, const std::string &in, const std::string &out,
            const std::vector<std::string> &set, bool grads) {
    const Op &op = op_named(name);
    const int code = (int)(&op - ops.data());
    const Safetensors file = read_safetensors(in);
    Attr a;
    for (const auto &assignment : set) set_attribute(a, assignment);
    std::vector<Tensor> inputs;
    for (size_t i = 0; i < op.inputs.size(); i++) {
        const auto at = file.tensors.find(op.inputs[i]);
        const bool there = at != file.tensors.end();
        expect(there || op.optional >> i & 1, in, ": no tensor '", op.inputs[i], "', which ", op.name, " (",
               op.signature, ") needs");
        inputs.push_back(there ? tensor_of(at->second, op.inputs[i].c_str()) : Tensor{});
        if (grads && op.has_gradient && there && inputs.back().s->type == REALS) wants_grad(inputs.back());
    }
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
        expect(op.has_gradient, "--grads: ", op.name, " has no gradient");
        backward(weighted(Record(tape.back()), op, file.tensors));
        for (size_t i = 0; i < inputs.size(); i++)
            if (inputs[i] && inputs[i].s->grad) result.add("d" + op.inputs[i], gradient(inputs[i]));
    }
    write_safetensors(out, result.tensors);
}

// ----------------------------------------------------------------- [2] logits, loss and gradients of a model
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
    const Tensor h = trunk(m, from(ids, {B, T}), causal(B, T));
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

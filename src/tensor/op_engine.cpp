// op_engine.cpp: every op, called by its name. Anyone can hold one against a few lines of NumPy or PyTorch:
// tensors go in and come out by name, in safetensors files; or random ones, printed.
//
// The kernels trust their indices, since a model's are right by construction. Here they come from outside: so
// whatever the op's signature and attributes (ops.h) do not allow is refused by name.
//
//   [1] the wrappers, by op       [3] inputs, from a file or random     [5] the list
//   [2] what an op takes          [4] the call                          [6] gradients against differences
#include "src/tensor/op_engine.h"

#include <algorithm>
#include <charconv>
#include <climits>
#include <cmath>
#include <iomanip>

#include "src/base/json.h"
#include "src/base/random.h"
#include "src/base/text.h"
#include "src/tensor/gradient_check.h"
#include "src/tensor/ops.h"
#include "src/tensor/tensors_out.h"

namespace {

// --------------------------------------------------------------------------------- [1] the wrappers, by op
using Inputs = std::vector<Tensor>;
using X = const Inputs &;
using A = const Attr &;
Rope rope_of(const Attr &a) {
    return {a.first, a.dims, (RopePairing)a.pairing, a.angle(), a.amplitude, a.sign};
}
const Tensor &in_precision(const Tensor &W, A a) {
    W.s->precision = (Precision)a.precision;
    return W;
}
AdamW adamw_of(const Attr &a) { return {a.lr, a.beta1, a.beta2, a.eps, a.decay, a.clip, a.step}; }


// The functions of ops.h, which check the shapes and allocate; and what --random gives them by itself.
struct Wrapper {
    int op;
    void (*call)(X, A);
    const char *shapes, *set = "";
    const char *positive = "";                           // inputs that must be
};
const std::vector<Wrapper> wrappers = {
    {op_gather_rows, [](X x, A) { gather_rows(x[0], x[1], x[2]); }, "x=4,3 ids=5"},
    {op_combine, [](X x, A) { combine(x[0], x[1], x[2]); }, "y=6,3 slot=4,2 g=4,2"},
    {op_concat, [](X x, A) { concat(x[0], x[1]); }, "a=2,3 b=2,2"},
    {op_slice, [](X x, A a) { slice(x[0], a.axis, a.from, a.n); }, "x=3,5", "axis=1 from=1 n=3"},
    {op_matmul, [](X x, A a) { matmul(x[0], in_precision(x[1], a)); }, "x=2,3 W=4,3"},
    {op_matmul_heads, [](X x, A a) { matmul_heads(x[0], in_precision(x[1], a), a.transpose); },
     "x=2,2,3 W=2,4,3"},
    {op_matmul_grouped, [](X x, A a) { matmul_grouped(x[0], in_precision(x[1], a), x[2]); },
     "x=5,3 W=2,4,3 offsets=3"},
    {op_weighted_sum, [](X x, A a) { weighted_sum(x[0], x[1], a.a); }, "x=2,3 w=2,3"},
    {op_unary, [](X x, A a) { unary((Unary)a.f, x[0], a.a, a.shift); }, "x=2,4", "f=silu"},
    {op_binary, [](X x, A a) { binary((Binary)a.f, x[0], x[1]); }, "x=2,3 y=2,3", "f=mul"},
    {op_swiglu, [](X x, A) { swiglu(x[0], x[1]); }, "a=2,3 b=2,3"},
    {op_scale_rows, [](X x, A) { scale_rows(x[0], x[1]); }, "x=3,4 s=3"},
    {op_affine, [](X x, A) { affine(x[0], x[1], x[2]); }, "x=3,4 alpha=1 b=4"},
    {op_rmsnorm, [](X x, A a) { rmsnorm(x[0], x[1], a.eps); }, "x=2,4 g=4", "eps=1e-6"},
    {op_softmax, [](X x, A) { softmax(x[0]); }, "x=2,4"},
    {op_normalize_rows, [](X x, A a) { normalize_rows(x[0], a.rho, a.eps); }, "x=2,4", "", "x"},
    {op_rope, [](X x, A a) { rope(x[0], x[1], rope_of(a)); }, "x=1,3,2,4 pos=1,3", "dims=4"},
    {op_attention,
     [](X x, A a) {
         const Where where = {x[3], (bool)a.lists};
         if (x[2]) attention(x[0], x[1], x[2], where, a.scale);
         else attention(x[0], x[1], First{a.n}, where, a.scale);
     },
     "q=1,3,2,4 k=1,3,1,4 v=1,3,1,2 where=1,3,2", "scale=0.5"},
    {op_pick, [](X x, A) { pick(x[0], x[1]); }, "s=3,4 idx=3,2"},
    {op_logp, [](X x, A a) { logp(x[0], in_precision(x[1], a), x[2], a.temperature, x[3]); },
     "h=3,4 W=5,4 ids=3"},
    {op_kl_vocab,
     [](X x, A a) {
         x[3].s->precision = (Precision)a.precision_U;
         kl_vocab(x[0], in_precision(x[1], a), x[2], x[3], x[4], (Direction)a.reverse, a.temperature);
     },
     "h=3,4 W=5,4 g=3,2 U=5,2 pos=3"},
    {op_topk, [](X x, A a) { topk(x[0], x[1], {a.K, a.groups, a.keep, a.best}, x[2]); }, "s=3,6", "K=2"},
    {op_hash_route, [](X x, A a) { hash_route(x[0], a.n, x[1]); }, "ids=4", "n=3"},
    {op_drop, [](X x, A a) { drop(x[0], x[1], x[2], a.groups, a.capacity); }, "s=4,4 idx=4,2", "groups=2"},
    {op_dispatch, [](X x, A a) { dispatch(x[0], a.n); }, "idx=4,2", "n=3"},
    {op_balance,
     [](X x, A a) { balance(x[0], a.n, a.T, a.a * x[0].shape[0] / a.T, a.groups, a.once ? a.keep : 0); },
     "idx=4,2", "n=4 T=4 groups=4"},
    {op_sample, [](X x, A a) { sample(x[0], x[1], {a.temperature, a.top_p, a.top_k, a.seed}); },
     "z=3,5 key=3,3"},
    {op_append, [](X x, A) { append(x[0], x[1], x[2]); }, "rows=1,4,1,3 x=1,2,1,3 at=1,2"},
    {op_adamw, [](X x, A a) { adamw(x[0], x[1], x[2], x[3], x[4], adamw_of(a)); }, "W=2,3 m=2,3 v=2,3 dW=2,3",
     "lr=0.01 eps=1e-8", "v"},
    {op_sum_squares, [](X x, A) { sum_squares(x[0], x[1]); }, "x=2,3 total=1"},
    {op_scale_add, [](X x, A a) { scale_add(x[0], x[1], a.a, a.b); }, "y=2,3 x=2,3", "b=0.5"},
    {op_bias_update, [](X x, A a) { bias_update(x[0], x[1], a.gamma); }, "b=4 counts=4", "gamma=0.1"},
};

const Wrapper &wrapper_of(int op) {
    for (const Wrapper &w : wrappers)
        if (w.op == op) return w;
    fail(cat(ops[op].name, ": has no row in op_engine.cpp"));
}

int code_of(const Op &op) { return (int)(&op - ops.data()); }

// -------------------------------------------------------------------------------------- [2] what an op takes
void check_kind(const Op &op, size_t i, const Tensor &t) {
    const InputKind &kind = op.kinds[i];
    const int fewest = kind.fewest_axes, most = kind.most_axes, rank = t.shape.rank;
    const std::string &name = op.inputs[i];
    expect(rank >= fewest && rank <= most, op.name, ": ", name, " ", t.shape, " has ", rank, " axes, not ",
           fewest, fewest < most ? cat(" to ", most) : "");
    const bool integers = t.s->type == INTS;
    expect(integers || kind.reals, op.name, ": ", name, " holds numbers, not integers (I32)");
    expect(!integers || kind.ints, op.name, ": ", name, " holds integers, not numbers (F32)");
}

// Where the integers of an input end: "n", "ids" (its numel), "x.0", "x.0+1".
long end_of(const Op &op, size_t i, X inputs, A a) {
    const std::string &end = op.kinds[i].end;
    if (end.empty()) return INT_MAX + 1l;
    if (end == "n") return a.n;
    const size_t dot = end.find('.');
    const auto at = std::find(op.inputs.begin(), op.inputs.end(), end.substr(0, dot));
    assert(at != op.inputs.end());
    const Tensor &other = inputs[at - op.inputs.begin()];
    if (dot == std::string::npos) return other.numel();
    return other.shape[end[dot + 1] - '0'] + (end.ends_with("+1") ? 1l : 0l);
}

void check_bounds(const Op &op, size_t i, X inputs, A a) {
    const long low = op.kinds[i].low, end = end_of(op, i, inputs, a);
    for (int x : int_values(inputs[i]))
        expect(x >= low && x < end, op.name, ": ", op.inputs[i], " holds ", x, ", outside of ", low, " to ",
               end - 1);
}

// Expert e owns rows offsets[e] to offsets[e+1].
void check_offsets(const Tensor &offsets) {
    const std::vector<int> at = int_values(offsets);
    expect(at[0] == 0, "matmul_grouped: offsets begin with ", at[0], ", not with 0");
    for (size_t e = 1; e < at.size(); e++)
        expect(at[e] >= at[e - 1], "matmul_grouped: offsets fall from ", at[e - 1], " to ", at[e]);
}

// Spans [lo, hi] of keys, empty when lo > hi (within reason: hi - lo must not overflow), or lists of keys.
void check_where(X x, A a) {
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

// What one input or attribute alone cannot say.
void check_together(int code, X inputs, A a) {
    if (code == op_matmul_grouped) check_offsets(inputs[2]);
    if (code == op_attention) check_where(inputs, a);
    if (code == op_attention && !inputs[2])
        expect(a.n >= 1 && a.n <= inputs[1].shape[3], "attention: n = ", a.n, ", outside of 1 to ",
               inputs[1].shape[3], ": without v the value is the first n numbers of the key");
    if (code == op_balance)
        expect((long)a.n * inputs[0].shape[0] <= 1l << 28, "balance: n = ", a.n, " for ", inputs[0].shape[0],
               " tokens is too large");
    if (code == op_scale_add && inputs[0].s->type == INTS)
        for (double x : {a.a, (double)a.b})
            expect(x == std::trunc(x) && std::abs(x) <= 1 << 15, "scale_add: integers times ", x,
                   ": not a whole number of at most ", 1 << 15);
}

void check_inputs(const Op &op, X inputs, A a) {
    for (size_t i = 0; i < inputs.size(); i++)
        if (inputs[i]) check_kind(op, i, inputs[i]);
    for (size_t i = 0; i < inputs.size(); i++)
        if (inputs[i] && inputs[i].s->type == INTS) check_bounds(op, i, inputs, a);
    check_together(code_of(op), inputs, a);
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

void set_attribute(const Op &op, Attr &a, const std::string &assignment) {
    const size_t equals = assignment.find('=');
    expect(equals != std::string::npos, "--set ", assignment, ": not of the form name=value");
    const std::string name = assignment.substr(0, equals), value = assignment.substr(equals + 1);
    const std::vector<std::string> names = words_of(op.attributes), functions = functions_of(code_of(op));
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
#define X(type, attribute, usual, range, meaning)                             \
    else if (name == #attribute) read_number(assignment, value, a.attribute);
    ATTRIBUTES(X)
#undef X
}

void check_attributes(const Op &op, A a) {
    const auto check = [&](const std::string &name, double value) {
        AttributeRange range = op.ranges.at(name);
        if (name == "f") range.high = (double)functions_of(code_of(op)).size() - 1;
        expect(std::isfinite(value), op.name, ": ", name, " = ", value, " is not finite");
        expect(value >= range.low && value <= range.high && !(range.above && value == range.low), op.name,
               ": ", name, " = ", value, ", but it is ", range.above ? "above " : "at least ", range.low,
               std::isinf(range.high) ? "" : cat(" and at most ", range.high));
    };
#define X(type, attribute, usual, range, meaning)                    \
    if (op.ranges.count(#attribute)) check(#attribute, a.attribute);
    ATTRIBUTES(X)
#undef X
}

Attr attributes_of(const Op &op, const std::string &usual, const std::vector<std::string> &set) {
    Attr a;
    for (const std::string &assignment : words_of(usual)) set_attribute(op, a, assignment);
    for (const std::string &assignment : set) set_attribute(op, a, assignment);
    check_attributes(op, a);
    return a;
}

// ------------------------------------------------------------------- [3] inputs, from a file or random
}  // namespace
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

namespace {
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

Inputs read_inputs(const Op &op, const std::string &in, const Safetensors &file, A a) {
    Inputs inputs;
    for (size_t i = 0; i < op.inputs.size(); i++) {
        const auto at = file.tensors.find(op.inputs[i]);
        const bool there = at != file.tensors.end();
        expect(there || op.optional >> i & 1, in, ": no tensor '", op.inputs[i], "', which ", op.name, " (",
               op.signature, ") needs");
        inputs.push_back(there ? tensor_of(at->second, op.inputs[i].c_str()) : Tensor{});
    }
    check_names(op, in, file);
    check_inputs(op, inputs, a);
    return inputs;
}

Shape shape_of(const std::string &assignment, std::string &name) {       // x=2,3
    const size_t equals = assignment.find('=');
    expect(equals != std::string::npos, "--shape ", assignment, ": not of the form x=2,3");
    name = assignment.substr(0, equals);
    Shape shape;
    std::istringstream sizes(assignment.substr(equals + 1));
    for (std::string size; std::getline(sizes, size, ',');) {
        int n = 0;
        const auto [end, error] = std::from_chars(size.data(), size.data() + size.size(), n);
        expect(error == std::errc() && end == size.data() + size.size() && n >= 1 && n <= 4096, "--shape ",
               assignment, ": '", size, "' is no size from 1 to 4096");
        expect(shape.rank < 4, "--shape ", assignment, ": more than 4 axes");
        shape.d[shape.rank++] = n;
    }
    expect(shape.rank > 0, "--shape ", assignment, ": no size");
    return shape;
}

std::vector<int> random_integers(const Op &op, size_t i, const Shape &shape, X inputs, A a, int seed) {
    const long end = end_of(op, i, inputs, a), low = std::max(0, op.kinds[i].low);
    const std::string &name = op.inputs[i];
    std::vector<int> x(shape.numel());
    for (long j = 0; j < (long)x.size(); j++) {
        if (name == "where") {                           // every key up to the query's own place
            const int S = inputs[1].shape[1], t = (int)(j / shape.width() % shape[1]);
            x[j] = a.lists ? (int)(j % shape.width() % S) : j % 2 ? std::min(t, S - 1) : 0;
        } else if (name == "offsets") {
            x[j] = (int)(j * inputs[0].shape[0] / std::max<long>(1, (long)x.size() - 1));
        } else if (name == "at" || op.kinds[i].end.empty()) {
            x[j] = (int)(j % end);                       // positions, keys, counts: 0, 1, 2, ...
        } else {
            x[j] = (int)(low + (long)(random_bits(seed, i, 0, j) % std::max(1l, end - low)));
        }
    }
    return x;
}

std::vector<real> random_numbers(long n, int seed, int stream, bool positive) {
    std::vector<real> x(n);
    for (long j = 0; j < n; j++) {
        const double z = normal(seed, stream, 1, j);
        x[j] = (real)(positive ? std::abs(z) + 0.1 : z);
    }
    return x;
}

Inputs random_inputs(const Op &op, A a, const std::vector<std::string> &given, int seed) {
    const Wrapper &w = wrapper_of(code_of(op));
    std::map<std::string, Shape> shapes;
    std::string name;
    for (const std::string &usual : words_of(w.shapes)) {
        const Shape shape = shape_of(usual, name);
        shapes[name] = shape;
    }
    for (const std::string &assignment : given) {
        const Shape shape = shape_of(assignment, name);
        if (std::find(op.inputs.begin(), op.inputs.end(), name) == op.inputs.end())
            fail(cat("--shape ", assignment, ": ", op.name, " (", op.signature, ") has no such input"),
                 did_you_mean(name, op.inputs));
        shapes[name] = shape;
    }
    const std::vector<std::string> positive = words_of(w.positive);
    Inputs inputs;
    for (size_t i = 0; i < op.inputs.size(); i++) {
        const std::string &input = op.inputs[i];
        const auto at = shapes.find(input);
        if (at == shapes.end()) inputs.push_back({});
        else if (op.kinds[i].reals)
            inputs.push_back(from(random_numbers(at->second.numel(), seed, (int)i,
                                                 std::count(positive.begin(), positive.end(), input)),
                                  at->second, input.c_str()));
        else
            inputs.push_back(
                from(random_integers(op, i, at->second, inputs, a, seed), at->second, input.c_str()));
    }
    check_inputs(op, inputs, a);
    return inputs;
}

// ------------------------------------------------------------------------------------------- [4] the call
using Named = std::vector<std::pair<std::string, Tensor>>;

// The wrapper hides saved outputs; the hook sees all.
Named call(const Op &op, X inputs, A a) {
    Named outputs;
    const Restored keep(op_hook);
    op_hook.after = [&](const Call &c, bool, double) {
        for (int i = 0; i < c.n_out; i++) {
            const View &v = c.out[i];
            std::vector<char> bytes(v.numel() * (v.type == REALS ? sizeof(real) : sizeof(int)));
            device->down(bytes.data(), v.p, bytes.size());
            const real *x = (const real *)bytes.data();
            const int *ids = (const int *)bytes.data();
            outputs.emplace_back(op.outputs[i], v.type == REALS
                                                    ? from(std::vector<real>(x, x + v.numel()), v.shape)
                                                    : from(std::vector<int>(ids, ids + v.numel()), v.shape));
        }
    };
    wrapper_of(code_of(op)).call(inputs, a);
    return outputs;
}

// sum_i <out_i, d_i>: its backward hands every output the gradient that was given for it.
Tensor weighted(const Record &r, const Op &op, const std::map<std::string, Tensor> &given) {
    Tensor loss;
    for (int i = 0; i < r.n_out; i++) {
        const auto at = given.find("d" + op.outputs[i]);
        if (op.saved >> i & 1 || at == given.end()) continue;
        const Tensor &d = at->second;
        expect(d.s->type == REALS && d.shape == r.out[i].shape, op.name, ": d", op.outputs[i], " ", d.shape,
               d.s->type == INTS ? " of integers" : "", " is no gradient of ", op.outputs[i], " ",
               r.out[i].shape);
        const Tensor part = weighted_sum(r.out[i], d);
        loss = loss ? add(loss, part) : part;
    }
    expect(loss, "--grads: no gradient of an output (d", op.outputs[0], ") in the file");
    return loss;
}

std::map<std::string, Tensor> random_gradients(const Op &op, const Named &outputs, int seed) {
    std::map<std::string, Tensor> given;
    for (size_t i = 0; i < outputs.size(); i++)
        if (!(op.saved >> i & 1))
            given["d" + outputs[i].first] =
                from(random_numbers(outputs[i].second.numel(), seed, 100 + (int)i, false),
                     outputs[i].second.shape);
    return given;
}

void print(std::ostream &out, const std::string &name, const Tensor &t) {
    const int most_rows = 16, most_columns = 12, width = t.shape.width();
    const std::vector<real> numbers = t.s->type == REALS ? values(t) : std::vector<real>();
    const std::vector<int> ids = t.s->type == INTS ? int_values(t) : std::vector<int>();
    out << name << " " << t.shape << "\n";
    for (long row = 0; row < std::min<long>(t.shape.rows(), most_rows); row++) {
        for (int x = 0; x < std::min(width, most_columns); x++)
            if (numbers.empty()) out << std::setw(6) << ids[row * width + x];
            else out << std::setw(12) << std::setprecision(5) << numbers[row * width + x];
        out << (width > most_columns ? " ...\n" : "\n");
    }
    if (t.shape.rows() > most_rows) out << "   ...\n";
}

// -------------------------------------------------------------------------------------------- [5] the list
struct Detail {
    std::string name, meaning, usual;
    Json value;
};

std::vector<Detail> details_of(const Op &op) {
    std::vector<Detail> details;
    const Attr usual;
    for (const std::string &name : words_of(op.attributes)) {
#define X(type, attribute, value, range, meaning)                                                      \
    if (name == #attribute) details.push_back({name, meaning, cat(usual.attribute), usual.attribute});
        ATTRIBUTES(X)
#undef X
        if (code_of(op) == op_attention && name == "n")
            details.back().meaning = "without v: the value is the first n numbers of the key";
    }
    return details;
}

std::string joined(const std::vector<std::string> &words) {
    std::string text;
    for (const std::string &word : words) text += (text.empty() ? "" : " ") + word;
    return text;
}

std::vector<std::string> integers_of(const Op &op) {
    std::vector<std::string> names;
    for (size_t i = 0; i < op.inputs.size(); i++)
        if (!op.kinds[i].reals) names.push_back(op.inputs[i]);
    return names;
}

void print_op(std::ostream &out, const Op &op) {
    out << op.name << "\n    " << op.signature << "\n    " << op.formula << "\n";
    const auto integers = integers_of(op), functions = functions_of(code_of(op));
    if (!integers.empty()) out << "    integers: " << joined(integers) << "\n";
    for (const Detail &d : details_of(op))
        out << "    --set " << d.name << "=" << d.usual
            << std::string(14 - std::min<size_t>(13, d.name.size() + d.usual.size()), ' ') << d.meaning
            << "\n";
    if (!functions.empty()) out << "    f, by name: " << joined(functions) << "\n";
}

Json json_of(const Op &op) {
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
    entry["integers"] = integers_of(op);
    entry["attributes"] = op.attributes;
    entry["attribute_details"] = Json::array();
    for (const Detail &d : details_of(op)) {
        Json detail;
        detail["name"] = d.name;
        detail["meaning"] = d.meaning;
        detail["default"] = d.value;
        entry["attribute_details"].push_back(detail);
    }
    entry["functions"] = functions_of(code_of(op));
    entry["formula"] = op.formula;
    entry["gradient"] = op.has_gradient;
    return entry;
}

const char *example = R"(
? may be absent, ! is written in place, ' is for the backward only. --set shows the defaults.
`deepseek op NAME --random` shows one at work. From Python:

import subprocess, numpy
from safetensors.numpy import load_file, save_file
save_file({"x": numpy.eye(4, dtype="float32"), "dy": numpy.ones((4, 4), "float32")}, "in.safetensors")
subprocess.run("./deepseek op rmsnorm --in in.safetensors --out out.safetensors --grads".split(), check=True)
print(load_file("out.safetensors"))
)";

}  // namespace

std::vector<std::string> ops_without_wrapper() {
    std::vector<std::string> names;
    for (const Op &op : ops)
        if (std::none_of(wrappers.begin(), wrappers.end(),
                         [&](const Wrapper &w) { return w.op == code_of(op); }))
            names.push_back(op.name);
    return names;
}

void list_ops(std::ostream &out, bool json) {
    Json list = Json::array();
    for (const Op &op : ops) {
        if (json) list.push_back(json_of(op));
        else print_op(out, op);
    }
    if (json) out << list.dump(1) << "\n";
    else out << example;
}

void run_op(const std::string &name, const std::string &in, const std::string &out,
            const std::vector<std::string> &set, bool grads) {
    const Op &op = op_named(name);
    expect(!grads || op.has_gradient, "--grads: ", op.name, " has no gradient");
    const Safetensors file = read_safetensors(in);
    const Attr a = attributes_of(op, "", set);
    const Inputs inputs = read_inputs(op, in, file, a);
    for (const Tensor &x : inputs)
        if (grads && x && x.s->type == REALS) wants_grad(x);
    TensorsOut result;
    for (const auto &[output, t] : call(op, inputs, a)) result.add(output, t);
    for (size_t i = 0; i < inputs.size(); i++)
        if (op.inout >> i & 1 && inputs[i]) result.add(op.inputs[i], inputs[i]);
    if (grads) {
        std::map<std::string, Tensor> given;
        for (const auto &[key, entry] : file.tensors)
            if (key[0] == 'd') given[key] = tensor_of(entry, "d");
        backward(weighted(Record(tape.back()), op, given));
        for (size_t i = 0; i < inputs.size(); i++)
            if (inputs[i] && inputs[i].s->grad) result.add("d" + op.inputs[i], gradient(inputs[i]));
    }
    write_safetensors(out, result.tensors);
}

void run_random_op(std::ostream &out, const RandomCall &r) {
    const Op &op = op_named(r.name);
    const Attr a = attributes_of(op, wrapper_of(code_of(op)).set, r.set);
    const Inputs inputs = random_inputs(op, a, r.shapes, r.seed);
    out << op.name << ":  " << op.formula << "    " << str(a) << "\n";
    for (size_t i = 0; i < inputs.size(); i++) {
        if (!inputs[i]) continue;
        print(out, op.inputs[i], inputs[i]);
        if (op.has_gradient && op.kinds[i].reals && !op.kinds[i].constant) wants_grad(inputs[i]);
    }
    out << "->\n";
    const Named outputs = call(op, inputs, a);
    for (const auto &[name, t] : outputs) print(out, name, t);
    for (size_t i = 0; i < inputs.size(); i++)
        if (op.inout >> i & 1 && inputs[i]) print(out, op.inputs[i], inputs[i]);
    if (!op.has_gradient) return;
    const auto given = random_gradients(op, outputs, r.seed);
    out << "and back: given\n";
    for (const auto &[name, t] : given) print(out, name, t);
    backward(weighted(Record(tape.back()), op, given));
    out << "->\n";
    for (size_t i = 0; i < inputs.size(); i++)
        if (inputs[i] && inputs[i].s->grad) print(out, "d" + op.inputs[i], gradient(inputs[i]));
}

// ----------------------------------------------------------------------- [6] gradients against differences
GradientError check_op(const RandomCall &r) {
    const Op &op = op_named(r.name);
    expect(op.has_gradient, op.name, " has no gradient");
    const Attr a = attributes_of(op, wrapper_of(code_of(op)).set, r.set);
    const Inputs inputs = random_inputs(op, a, r.shapes, r.seed);
    Inputs leaves;
    for (size_t i = 0; i < inputs.size(); i++)
        if (inputs[i] && inputs[i].s->type == REALS && !op.kinds[i].constant)
            leaves.push_back(wants_grad(inputs[i]));
    const auto given = random_gradients(op, call(op, inputs, a), r.seed);
    backward(weighted(Record(tape.back()), op, given));
    const auto value = [&] {                             // the same sum, in double
        double sum = 0;
        for (const auto &[name, t] : call(op, inputs, a)) {
            const auto at = given.find("d" + name);
            if (at == given.end()) continue;
            const std::vector<real> y = values(t), d = values(at->second);
            for (size_t j = 0; j < y.size(); j++) sum += (double)y[j] * d[j];
        }
        return sum;
    };
    return against_differences(value, leaves);
}

std::vector<std::string> ops_with_gradient() {
    std::vector<std::string> names;
    for (const Op &op : ops)
        if (op.has_gradient) names.push_back(op.name);
    return names;
}

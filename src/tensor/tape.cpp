// tape.cpp: the table of ops; apply, through which every op passes; backward, which walks the tape.
//
//   [1] the table of ops   [2] apply: run and record   [3] backward: walk the tape
#include <chrono>
#include <cstring>

#include "src/tensor/ops.h"

// -------------------------------------------------------------------------------------- [1] the table of ops
static std::vector<std::string> cut(const std::string &text, char at) {
    std::vector<std::string> parts;
    std::istringstream stream(text);
    for (std::string part; std::getline(stream, part, at);)
        if (!part.empty()) parts.push_back(part);
    return parts;
}

// ":1-3:0<x.0", cut at its colons.
static InputKind kind_of(const std::vector<std::string> &word) {
    InputKind kind;
    if (word.size() > 1) {
        kind.fewest_axes = word[1].front() - '0';
        kind.most_axes = word[1].back() - '0';
    }
    if (word.size() < 3) return kind;
    kind.constant = word[2] == "constant";
    kind.ints = !kind.constant;
    kind.reals = kind.constant || word[2] == "both";
    const std::vector<std::string> bound = cut(word[2], '<');
    if (bound.size() < 2) return kind;
    kind.low = std::stoi(bound[0]);
    if (bound[1] != "any") kind.end = bound[1];
    return kind;
}

static AttributeRange range_of(std::string text) {                // "0..1", ">0..", ".."
    AttributeRange range;
    range.above = text[0] == '>';
    if (range.above) text.erase(0, 1);
    const size_t dots = text.find("..");
    if (dots > 0) range.low = std::stod(text.substr(0, dots));
    if (dots + 2 < text.size()) range.high = std::stod(text.substr(dots + 2));
    return range;
}

static AttributeRange usual_range(const std::string &attribute) {
#define X(type, name, value, range, meaning)        \
    if (attribute == #name) return range_of(range);
    ATTRIBUTES(X)
#undef X
    fail(attribute + " is no attribute");
}

static Op parse_op(const char *name, const char *signature, const char *formula, const char *attributes,
                   bool has_gradient) {
    Op op;
    op.name = name;
    op.formula = formula;
    op.has_gradient = has_gradient;
    bool output = false;
    for (const std::string &text : cut(signature, ' ')) {
        std::vector<std::string> word = cut(text, ':');
        op.signature += (op.signature.empty() ? "" : " ") + word[0];
        if (text == "->") {
            output = true;
            continue;
        }
        auto &names = output ? op.outputs : op.inputs;
        const unsigned bit = 1u << names.size();
        const char mark = word[0].back();
        if (mark == '?') op.optional |= bit;
        if (mark == '!') op.inout |= bit;
        if (mark == '\'') op.saved |= bit;
        if (strchr("?!'", mark)) word[0].pop_back();
        names.push_back(word[0]);
        if (!output) op.kinds.push_back(kind_of(word));
    }
    for (const std::string &text : cut(attributes, ' ')) {
        const std::vector<std::string> word = cut(text, ':');
        op.attributes += (op.attributes.empty() ? "" : " ") + word[0];
        op.ranges[word[0]] = word.size() > 1 ? range_of(word[1]) : usual_range(word[0]);
    }
    return op;
}

#define WITH(name, signature, formula, attributes) parse_op(#name, signature, formula, attributes, true),
#define WITHOUT(name, signature, formula, attributes) parse_op(#name, signature, formula, attributes, false),
const std::vector<Op> ops = {OPS_WITH_GRADIENT(WITH) OPS_WITHOUT_GRADIENT(WITHOUT)};
#undef WITH
#undef WITHOUT

// ------------------------------------------------------------------------------------------------- [2] apply
std::vector<Record> tape;
bool recording = true;
Choices choices;
OpHook op_hook;

static void run(const Call &c, bool backward) {
    const OpKernels &kernel = device->kernels[c.op];
    if (!op_hook.after) return (backward ? kernel.backward : kernel.forward)(c);
    const auto start = std::chrono::steady_clock::now();
    (backward ? kernel.backward : kernel.forward)(c);
    device->wait();
    op_hook.after(c, backward,
                  std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
}

static void keep_or_impose_choices(int op, const Tensor *out, int n_out) {
    for (int i = 0; i < n_out; i++) {
        if (!out[i] || out[i].s->type != INTS) continue;
        const std::vector<int> mine = int_values(out[i]);
        if (choices.mode == Choices::record) {
            choices.kept.push_back({op, mine});
            continue;
        }
        assert(choices.next < choices.kept.size());
        const Choices::Choice &theirs = choices.kept[choices.next];
        assert(theirs.op == op && theirs.values.size() == mine.size());
        for (size_t j = 0; j < mine.size(); j++) {
            if (mine[j] == theirs.values[j]) continue;
            if (!choices.differing++)
                choices.first_difference = cat(ops[op].name, ", choice ", choices.next, ", entry ", j, ": ",
                                               mine[j], " instead of ", theirs.values[j]);
        }
        choices.next++;
        out[i].s->home->up(out[i].s->data, theirs.values.data(), mine.size() * sizeof(int));
    }
}

// Panels are kept while nothing learns. Where something does, a weight is another one in the next step, and
// their memory is better spent.
static void offer_panels(Call &c, const Tensor &W) {
    if (!W || !W.s->keeps) return;
    if (recording) return drop_panels(W.s);
    c.panels = &W.s->panels;
    c.version = version_of(W);
}

void apply(int op, std::initializer_list<Tensor> in, std::initializer_list<Tensor> out, const Attr &a) {
    assert(in.size() <= max_inputs && out.size() <= max_outputs);
    Call c;
    c.op = op;
    c.a = a;
    bool differentiable = false;
    for (const Tensor &t : in) {
        if (t && t.s->home->memory_of != device->memory_of)
            fail(cat(ops[op].name, ": ", ops[op].inputs[c.n_in], " lives on ", t.s->home->name, ", not on ",
                     device->name));
        if (t && t.s->wants_grad) differentiable = true;
        c.in[c.n_in++] = t.view();
    }
    for (const Tensor &t : out) {
        if (!*t.s->name) t.s->name = ops[op].name;
        c.out[c.n_out++] = t.view();
    }
    if (in.size() > 1) offer_panels(c, in.begin()[1]);
    if (ops[op].inout && recording && differentiable)
        fail(cat(ops[op].name, ": writes in place, and an input wants a gradient: not while recording"));
    run(c, false);
    if (choices.mode != Choices::off && !ops[op].has_gradient)
        keep_or_impose_choices(op, out.begin(), c.n_out);
    for (int i = 0; i < c.n_in; i++)
        if (ops[op].inout >> i & 1 && in.begin()[i]) version_of(in.begin()[i])++;
    if (!recording || !differentiable || !ops[op].has_gradient) return;

    Record r{op, c.n_in, c.n_out, {}, {}, {}, {}, a};
    for (int i = 0; i < c.n_in; i++) {
        r.in[i] = in.begin()[i];
        r.in_version[i] = r.in[i] ? version_of(r.in[i]) : 0;
    }
    for (int i = 0; i < c.n_out; i++) {
        r.out[i] = out.begin()[i];
        r.out_version[i] = version_of(r.out[i]);
        r.out[i].s->wants_grad = !(ops[op].saved >> i & 1);
    }
    tape.push_back(std::move(r));
}

// ---------------------------------------------------------------------------------------------- [3] backward
static void expect_unchanged(const Tensor &t, int version, const Record &r) {
    if (t && version_of(t) != version)
        fail(cat("backward of ", ops[r.op].name, ": ", t.s->name, " ", t.shape,
                 " was changed in place since"));
}

static void backward_of(const Record &r) {
    bool flowed = false;
    for (int i = 0; i < r.n_out; i++) flowed |= r.out[i].s->grad != nullptr;
    if (!flowed) return;
    Call c;
    c.op = r.op;
    c.a = r.a;
    c.n_in = r.n_in;
    c.n_out = r.n_out;
    for (int i = 0; i < r.n_in; i++) {
        expect_unchanged(r.in[i], r.in_version[i], r);
        c.in[i] = r.in[i].view();
        if (!r.in[i] || !r.in[i].s->wants_grad) continue;
        ensure_grad(r.in[i].s);
        c.din[i] = r.in[i].grad_view();
    }
    for (int i = 0; i < r.n_out; i++) {
        expect_unchanged(r.out[i], r.out_version[i], r);
        c.out[i] = r.out[i].view();
        c.dout[i] = r.out[i].grad_view();
    }
    run(c, true);
}

void backward(const Tensor &loss) {
    TapeGuard clear;
    expect(loss.numel() == 1, "backward: the loss has shape ", loss.shape, ", not one number");
    ensure_grad(loss.s);
    {                                           // d loss = 1, by an op: a copy from the host would wait
        NoGrad off;
        const Tensor one = unary(unary_identity, loss, 0, 1);
        loss.s->home->copy(loss.s->grad, one.s->data, sizeof(real));
    }
    while (!tape.empty()) {
        Record r = std::move(tape.back());
        tape.pop_back();
        backward_of(r);
    }
}

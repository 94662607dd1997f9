// tape.cpp: tensors, the pool their blocks come from, and the one door through which every op passes.
//
//   [1] shapes and printing   [2] the pool, the CPU device   [3] tensors   [4] the table of ops
//   [5] apply: run and record   [6] backward: walk the tape
#include <algorithm>
#include <chrono>
#include <cstring>

#include "../deepseek.h"
#include "pool.h"
#include "twins.h"

// -------------------------------------------------------------------------------------- [1] shapes, printing
Shape::Shape(std::initializer_list<long> sizes) {
    assert(sizes.size() <= 4);
    for (long size : sizes) {
        assert(size >= 0 && size < (1l << 31));
        d[rank++] = (int)size;
    }
}

Shape Shape::with_width(long width) const {
    Shape s = *this;
    s.d[rank - 1] = (int)width;
    return s;
}

std::string str(const Shape &s) {
    std::string text = "(";
    for (int i = 0; i < s.rank; i++) text += (i ? "," : "") + std::to_string(s.d[i]);
    return text + ")";
}

std::ostream &operator<<(std::ostream &out, const Shape &s) { return out << str(s); }

std::string str(const Attr &a) {
    std::ostringstream s;
    const Attr usual;
#define X(type, name, value, meaning) \
    if (a.name != usual.name) s << (s.tellp() ? " " : "") << #name "=" << a.name;
    ATTRIBUTES(X)
#undef X
    return s.str();
}

// ------------------------------------------------------------------------------ [2] the pool, the CPU device
void *Pool::take(size_t bytes) {
    const int bin = bin_of(bytes);
    held += (size_t)1 << bin;
    peak = std::max(peak, held);
    if (free_blocks[bin].empty()) {
        system_allocations++;
        return raw_allocate((size_t)1 << bin);
    }
    void *block = free_blocks[bin].back();
    free_blocks[bin].pop_back();
    return block;
}

void Pool::give(void *block, size_t bytes) {
    const int bin = bin_of(bytes);
    held -= (size_t)1 << bin;
    free_blocks[bin].push_back(block);
}

static void *host_allocate(size_t bytes) {
    void *p = std::aligned_alloc(64, bytes);
    if (!p)
        fail(cat("out of memory: ", bytes >> 20, " MiB wanted"),
             "a smaller batch, context or model needs less");
    return p;
}
static Pool &host_pool = *new Pool{host_allocate};       // outlives every static tensor

static void *host_take(size_t bytes) { return host_pool.take(bytes); }
static void host_give(void *p, size_t bytes) { host_pool.give(p, bytes); }
static void host_zero(void *p, size_t bytes) {
    if (bytes) memset(p, 0, bytes);
}
static void host_copy(void *to, const void *from, size_t bytes) {
    if (bytes) memcpy(to, from, bytes);                  // an empty vector's data() is null
}

#define TWIN_NAMESPACE cpu
static const Twin plain_twins[n_ops] = {ALL_TWINS};
void install_fast(Twin *twins);                      // src/fast.cpp: the second rendition of the hot ops

static const Twin *fast_twins() {
    static const std::vector<Twin> twins = [] {
        std::vector<Twin> t(plain_twins, plain_twins + n_ops);
        install_fast(t.data());
        return t;
    }();
    return twins.data();
}

Device cpu_device = {"cpu",     fast_twins(), host_take, host_give, host_zero,
                     host_copy, host_copy,    host_copy, [] {}};
Device *device = &cpu_device;

void use_kernels(Kernels kernels) {
    cpu_device.twins = kernels == Kernels::fast ? fast_twins() : plain_twins;
}

Device *device_named(const std::string &name) {
    for (Device *d : {&cpu_device, &cuda_device, &checked_device}) {
        if (name != d->name) continue;
        expect(d->twins, "--device ", name, ": this build has no CUDA");
        return d;
    }
    fail("--device " + name + ": unknown", "one of cpu, cuda, checked");
}

Pool *cuda_pool();                                   // src/device.cu; null without CUDA
PoolReport pool_report(const Device &d) {
    const Pool &pool = &d == &cuda_device && cuda_pool() ? *cuda_pool() : host_pool;
    return {pool.system_allocations, pool.held, pool.peak};
}

// ----------------------------------------------------------------------------------------------- [3] tensors
Tensor::Tensor(Storage *storage, const Shape &shape) : s(storage), shape(shape) { s->refs++; }
Tensor::Tensor(const Tensor &other) : s(other.s), shape(other.shape) {
    if (s) s->refs++;
}
Tensor::Tensor(Tensor &&other) noexcept : s(other.s), shape(other.shape) { other.s = nullptr; }
Tensor &Tensor::operator=(Tensor other) {
    std::swap(s, other.s);
    std::swap(shape, other.shape);
    return *this;
}

static void release(Storage *s) {
    if (!s || --s->refs) return;
    const size_t size = s->type == REALS ? sizeof(real) : sizeof(int);
    if (s->owner) release(s->owner);
    else s->home->give(s->data, s->n * size);
    if (s->grad) s->home->give(s->grad, s->n * sizeof(real));
    s->magic = 0;
    delete s;
}
Tensor::~Tensor() { release(s); }

static Tensor block(const Shape &shape, Type type, const char *name) {
    auto *s = new Storage;
    s->home = device;
    s->n = shape.numel();
    s->type = type;
    s->name = name;
    s->data = device->take(s->n * (type == REALS ? sizeof(real) : sizeof(int)));
    return Tensor(s, shape);
}

static Tensor alias(const Tensor &t, void *data) {
    auto *s = new Storage(*t.s);
    s->refs = 0;
    s->data = data;
    s->grad = nullptr;
    s->owner = t.s;
    s->wants_grad = false;
    t.s->refs++;
    return Tensor(s, t.shape);
}

static void ensure_grad(Storage *s) {
    if (s->grad) return;
    s->grad = (real *)s->home->take(s->n * sizeof(real));
    s->home->zero(s->grad, s->n * sizeof(real));
}

Tensor reals(const Shape &shape, const char *name) { return block(shape, REALS, name); }
Tensor ints(const Shape &shape, const char *name) { return block(shape, INTS, name); }

Tensor zeros(const Shape &shape, const char *name) {
    Tensor t = reals(shape, name);
    device->zero(t.s->data, t.s->n * sizeof(real));
    return t;
}

Tensor zero_ints(const Shape &shape, const char *name) {
    Tensor t = ints(shape, name);
    device->zero(t.s->data, t.s->n * sizeof(int));
    return t;
}

Tensor from(const std::vector<real> &values, const Shape &shape, const char *name) {
    assert((long)values.size() == shape.numel());
    Tensor t = reals(shape, name);
    device->up(t.s->data, values.data(), values.size() * sizeof(real));
    return t;
}

Tensor from(const std::vector<int> &values, const Shape &shape, const char *name) {
    assert((long)values.size() == shape.numel());
    Tensor t = ints(shape, name);
    device->up(t.s->data, values.data(), values.size() * sizeof(int));
    return t;
}

std::vector<real> values(const Tensor &t) {
    assert(t && t.s->type == REALS);
    std::vector<real> v(t.numel());
    t.s->home->down(v.data(), t.s->data, v.size() * sizeof(real));
    return v;
}

std::vector<int> int_values(const Tensor &t) {
    assert(t && t.s->type == INTS);
    std::vector<int> v(t.numel());
    t.s->home->down(v.data(), t.s->data, v.size() * sizeof(int));
    return v;
}

void assign(const Tensor &t, const std::vector<real> &values) {
    assert((long)values.size() == t.numel() && t.s->type == REALS);
    t.s->home->up(t.s->data, values.data(), values.size() * sizeof(real));
    t.s->version++;
}

real item(const Tensor &t) {
    assert(t.numel() == 1);
    return values(t)[0];
}

void copy_into(const Tensor &to, const Tensor &from) {
    assert(to.shape == from.shape && to.s->type == from.s->type);
    device->copy(to.s->data, from.s->data, from.s->n * (from.s->type == REALS ? sizeof(real) : sizeof(int)));
    to.s->version++;
}

Tensor clone(const Tensor &t) {
    Tensor c = block(t.shape, t.s->type, t.s->name);
    copy_into(c, t);
    return c;
}

Tensor reshape(const Tensor &t, const Shape &shape) {
    assert(t.numel() == shape.numel());
    return Tensor(t.s, shape);
}

static int &version_of(const Tensor &t) {
    Storage *s = t.s;
    while (s->owner && s->owner->data == s->data) s = s->owner;
    return s->version;
}

Tensor detach(const Tensor &t) { return alias(t, t.s->data); }

Tensor gradient(const Tensor &t) {
    ensure_grad(t.s);
    return alias(t, t.s->grad);
}

const Tensor &wants_grad(const Tensor &t) {
    t.s->wants_grad = true;
    return t;
}

const Tensor &parameter(const Tensor &t, const char *name) {
    t.s->wants_grad = true;
    t.s->name = name;
    ensure_grad(t.s);
    return t;
}

void zero_grad(const Tensor &t) {
    if (t.s->grad) t.s->home->zero(t.s->grad, t.s->n * sizeof(real));
}

// -------------------------------------------------------------------------------------- [4] the table of ops
static Op parse_op(const char *name, const char *signature, const char *formula, const char *attributes,
                   bool has_gradient) {
    Op op = {name, signature, formula, attributes, {}, {}, 0, 0, 0, has_gradient};
    std::istringstream words(signature);
    bool output = false;
    for (std::string word; words >> word;) {
        if (word == "->") {
            output = true;
            continue;
        }
        auto &names = output ? op.outputs : op.inputs;
        const unsigned bit = 1u << names.size();
        if (word.back() == '?') op.optional |= bit;
        if (word.back() == '!') op.inout |= bit;
        if (word.back() == '\'') op.saved |= bit;
        if (strchr("?!'", word.back())) word.pop_back();
        names.push_back(word);
    }
    return op;
}

#define WITH(name, signature, formula, attributes) parse_op(#name, signature, formula, attributes, true),
#define WITHOUT(name, signature, formula, attributes) parse_op(#name, signature, formula, attributes, false),
const std::vector<Op> ops = {OPS_WITH_GRADIENT(WITH) OPS_WITHOUT_GRADIENT(WITHOUT)};
#undef WITH
#undef WITHOUT

// ------------------------------------------------------------------------------------------------- [5] apply
std::vector<Record> tape;
bool recording = true;
Choices choices;
OpHook op_hook;

static void run(const Call &c, bool backward) {
    const Twin &twin = device->twins[c.op];
    if (!op_hook.after) return (backward ? twin.backward : twin.forward)(c);
    const auto start = std::chrono::steady_clock::now();
    (backward ? twin.backward : twin.forward)(c);
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

void apply(int op, std::initializer_list<Tensor> in, std::initializer_list<Tensor> out, const Attr &a) {
    assert(in.size() <= max_inputs && out.size() <= max_outputs);
    Call c;
    c.op = op;
    c.a = a;
    bool differentiable = false;
    for (const Tensor &t : in) {
        if (t && t.s->home->take != device->take)
            fail(cat(ops[op].name, ": ", ops[op].inputs[c.n_in], " lives on ", t.s->home->name, ", not on ",
                     device->name));
        if (t && t.s->wants_grad) differentiable = true;
        c.in[c.n_in++] = t.view();
    }
    for (const Tensor &t : out) {
        if (!*t.s->name) t.s->name = ops[op].name;
        c.out[c.n_out++] = t.view();
    }
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

// ---------------------------------------------------------------------------------------------- [6] backward
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

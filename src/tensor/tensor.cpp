// tensor.cpp: shapes and how they are printed; tensors, counted handles on blocks of a device.
#include <algorithm>
#include <cstring>

#include "src/tensor/call.h"

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
#define X(type, name, value, range, meaning)                                      \
    if (a.name != usual.name) s << (s.tellp() ? " " : "") << #name "=" << a.name;
    ATTRIBUTES(X)
#undef X
    return s.str();
}

// ----------------------------------------------------------------------------------------------- [2] tensors
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

void drop_panels(Storage *s) {
    if (s->panels.p) s->home->give(s->panels.p, s->panels.n * sizeof(real));
    s->panels = {};
}

static void release(Storage *s) {
    if (!s || --s->refs) return;
    const size_t size = s->type == REALS ? sizeof(real) : sizeof(int);
    if (s->owner) release(s->owner);
    else s->home->give(s->data, s->n * size);
    if (s->grad) s->home->give(s->grad, s->n * sizeof(real));
    drop_panels(s);
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
    s->panels = {};
    s->wants_grad = false;
    t.s->refs++;
    return Tensor(s, t.shape);
}

void ensure_grad(Storage *s) {
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
    version_of(t)++;
}

real item(const Tensor &t) {
    assert(t.numel() == 1);
    return values(t)[0];
}

void copy_into(const Tensor &to, const Tensor &from) {
    assert(to.shape == from.shape && to.s->type == from.s->type);
    device->copy(to.s->data, from.s->data, from.s->n * (from.s->type == REALS ? sizeof(real) : sizeof(int)));
    version_of(to)++;
}

// Rows as long as the last size, of the flattened tensors.
void copy_rows(const Tensor &to, long to_row, const Tensor &from, long from_row, long n) {
    const size_t row = to.shape.width() * sizeof(real);
    assert(to.shape.width() == from.shape.width() && to.s->type == REALS && from.s->type == REALS);
    assert(to_row + n <= to.shape.rows() && from_row + n <= from.shape.rows());
    device->copy((char *)to.s->data + to_row * row, (char *)from.s->data + from_row * row, n * row);
    version_of(to)++;
}

Tensor clone(const Tensor &t) {
    Tensor c = block(t.shape, t.s->type, t.s->name);
    c.s->precision = t.s->precision;
    copy_into(c, t);
    return c;
}

Tensor reshape(const Tensor &t, const Shape &shape) {
    assert(t.numel() == shape.numel());
    return Tensor(t.s, shape);
}

int &version_of(const Tensor &t) {
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
    return t;
}

const Tensor &constant(const Tensor &t) {
    t.s->wants_grad = false;
    t.s->frozen = true;
    if (t.s->grad) t.s->home->give(t.s->grad, t.s->n * sizeof(real));
    t.s->grad = nullptr;
    return t;
}

void zero_grad(const Tensor &t) {
    if (t.s->grad) t.s->home->zero(t.s->grad, t.s->n * sizeof(real));
}

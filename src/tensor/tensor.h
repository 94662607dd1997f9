// tensor.h: shapes, storage, tensors, and the view of one that a kernel sees.
//
// Tensors are contiguous, the last index fastest; a Tensor is a counted handle on a block of its device.
// There is no broadcasting, no view but reshape, no operator overloading.
#pragma once
#include <cstddef>
#include <initializer_list>
#include <string>
#include <vector>

#include "src/base/error.h"
#include "src/base/numerics.h"

enum Type : uint8_t { REALS, INTS };                     // numbers; ids, indices, spans (int32)
enum Precision : uint8_t { f32, bf16 };             // to which a product rounds its operands; f32: not at all

struct Shape {                                           // (B,T,n_h,d_h): contiguous, last index fastest
    int d[4] = {0, 0, 0, 0};
    int rank = 0;
    Shape() = default;
    Shape(std::initializer_list<long> sizes);
    BOTH int operator[](int axis) const { return d[axis < 0 ? rank + axis : axis]; }
    BOTH long numel() const {
        long n = 1;
        for (int i = 0; i < rank; i++) n *= d[i];
        return n;
    }
    BOTH int width() const { return rank ? d[rank - 1] : 1; }                           // the last size
    BOTH long rows() const { return width() ? numel() / width() : 0; }                // product of the others
    bool operator==(const Shape &) const = default;
    Shape with_width(long width) const;                  // the last size replaced
};
std::string str(const Shape &);                          // "(2,3,5)"
std::ostream &operator<<(std::ostream &, const Shape &);

struct Device;

struct Panels {                      // a weight in the order in which a fast product reads it
    real *p = nullptr;
    long n = 0;
    Shape of;
    int version = 0;                 // of the weight that they were made from
};

struct Storage {                     // a block from its device's pool; goes back to it with its last handle
    uint32_t magic = 0xDEE95EEC;     // a debugger can tell a tensor from garbage
    int refs = 0;                    // handles belong to one thread
    Device *home = nullptr;          // whose block it is; apply refuses a tensor that lives elsewhere
    void *data = nullptr;
    real *grad = nullptr;            // null until something flows in, then +=
    Storage *owner = nullptr;        // set in an alias (detach, gradient): the block is the owner's
    long n = 0;
    Type type = REALS;
    bool wants_grad = false;
    bool frozen = false;             // nothing moves it, not even what is no gradient
    Precision precision = f32;       // of a weight's products
    int version = 0;                 // raised by every in-place action; backward refuses what changed since
    bool keeps = false;              // a weight: fast kernels keep its panels from token to token
    Panels panels;
    const char *name = "";           // the weight's name, or the op that made it
};

// What a kernel sees of a tensor. p null: absent, or gradient not wanted. The sizes that kernels ask for
// again and again are stored, not multiplied out of the shape each time: that put half of CUDA's kernels'
// Views into memory.
struct View {
    void *p = nullptr;
    Shape shape;
    Type type = REALS;
    View() = default;
    View(void *p, const Shape &shape, Type type)
        : p(p), shape(shape), type(type), last(shape.width()), row_count(shape.rows()), count(shape.numel()) {
    }
    BOTH explicit operator bool() const { return p != nullptr; }
    BOTH real &operator[](long i) const { return ((real *)p)[i]; }
    BOTH int &id(long i) const { return ((int *)p)[i]; }
    BOTH real *row(long i) const { return (real *)p + i * last; }
    BOTH int *ids(long i) const { return (int *)p + i * last; }                        // a row of integers
    BOTH real *head(long b, long t, long i) const {                                    // of (B,T,n,d)
        return (real *)p + ((b * shape.d[1] + t) * shape.d[2] + i) * last;
    }
    BOTH int width() const { return last; }
    BOTH long rows() const { return row_count; }
    BOTH long numel() const { return count; }

private:
    int last = 0;
    long row_count = 0, count = 0;
};

struct Tensor {                      // a counted handle: `=` aliases, clone() copies
    Storage *s = nullptr;
    Shape shape;
    Tensor() = default;
    Tensor(Storage *storage, const Shape &shape);
    Tensor(const Tensor &);
    Tensor(Tensor &&) noexcept;
    Tensor &operator=(Tensor);
    ~Tensor();
    explicit operator bool() const { return s != nullptr; }
    long numel() const { return shape.numel(); }
    View view() const { return s ? View(s->data, shape, s->type) : View(); }
    View grad_view() const { return s && s->grad ? View(s->grad, shape, REALS) : View(); }
};

Tensor reals(const Shape &, const char *name = "");      // on the current device, contents undefined
Tensor ints(const Shape &, const char *name = "");
Tensor zeros(const Shape &, const char *name = "");
Tensor zero_ints(const Shape &, const char *name = "");
Tensor from(const std::vector<real> &values, const Shape &, const char *name = "");
Tensor from(const std::vector<int> &values, const Shape &, const char *name = "");
std::vector<real> values(const Tensor &);                // a copy on the host
std::vector<int> int_values(const Tensor &);
void assign(const Tensor &, const std::vector<real> &values);        // overwrite
real item(const Tensor &);                               // of a scalar; waits for the device
Tensor clone(const Tensor &);                            // a new block, off the tape
void copy_into(const Tensor &to, const Tensor &from);    // equal shapes, same device
void copy_rows(const Tensor &to, long to_row, const Tensor &from, long from_row, long n);   // same device
void drop_panels(Storage *);
Tensor reshape(const Tensor &, const Shape &);           // the same block, gradient and all
Tensor detach(const Tensor &);                           // the same numbers, nothing flows back
Tensor gradient(const Tensor &);                         // the gradient as a tensor (an alias)
const Tensor &wants_grad(const Tensor &);                // marks a leaf
const Tensor &parameter(const Tensor &, const char *name);           // marks a weight: a leaf with a name
const Tensor &constant(const Tensor &);                  // freezes a weight: no gradient, no memory for one
void zero_grad(const Tensor &);
void ensure_grad(Storage *);                             // its gradient exists from now on, zero at first
int &version_of(const Tensor &);                         // of the block, whichever alias names it

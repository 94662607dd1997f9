// check.h: what the tests of the ops and layers share.
//
// An op owes three guards, and each has its tool here: check_gradient holds its backward against differences
// of its forward; Numbers lets a test type the op's equation once more in plain double loops; check_kernels
// and check_threads hold one run against another. Errors are relative to the largest number of the tensor.
#pragma once
#include <doctest/doctest.h>

#include <set>

#include "src/base/random.h"
#include "src/tensor/ops.h"

// doctest alone prints the address of a text, not the text: INFO(ops[op].name) shall say which op.
template <> struct doctest::StringMaker<const char *> {
    static String convert(const char *text) { return text; }
};

constexpr bool in_double = sizeof(real) == 8;

// -------------------------------------------------------------------------------------- numbers to test with
// What holds, holds for every seed: TEST_SEED=n gives all tests other numbers. A test of one certain number
// does not ask for `seeded`.
uint64_t seeded(uint64_t seed);
// Normal, a function of the seed alone; and sizes 0.3 to 2 of both signs, for functions with a kink at 0.
Tensor randn(const Shape &, const char *name, uint64_t seed, double size = 1);
Tensor away_from_zero(const Shape &, const char *name, uint64_t seed);
std::vector<int> random_ints(long n, int below, uint64_t seed);
// Sets over V ids, as bits: id v is in row n's where may[n V + v] is not 0.
Tensor sets(const std::vector<int> &may, int V);
std::vector<double> numbers_of(const View &);            // of a call, wherever its memory is

// A tensor in double, with indices: X(b, t, i).
struct Numbers {
    Shape shape;
    std::vector<double> v;
    explicit Numbers(const Shape &shape) : shape(shape), v(shape.numel(), 0.0) {}
    explicit Numbers(const Tensor &);                    // reals or integers
    template <class... Index> double &operator()(Index... index) {
        assert((int)sizeof...(index) == shape.rank);
        long at = 0;
        int axis = 0;
        ((assert((long)index >= 0 && (long)index < shape[axis]), at = at * shape[axis++] + (long)index), ...);
        return v[at];
    }
};

// max |got - expected| / max |expected|; a tensor that is smaller than `scale` is measured by it. NaN equals
// NaN, an infinity itself; against a number they are infinite.
double relative_error(const std::vector<double> &got, const std::vector<double> &expected, double scale = 0,
                      long *where = nullptr);
double relative_error(const Tensor &got, const Numbers &expected, double scale = 0);
double relative_error(const Tensor &got, const Tensor &expected);
bool same_bits(const Tensor &, const Tensor &);

// Against an equation in double, or fast against plain. The worst measured over all ops: float 1.0e-6, double
// 4.3e-15 (both kl_vocab's gradient over 1100 rows).
constexpr double oracle_bar = in_double ? 1e-12 : 3e-6;

struct WithKernels {   // the rendition while one of these lives
    const OpKernels *before = cpu_device.kernels;
    explicit WithKernels(Kernels kernels) { use_kernels(kernels); }
    ~WithKernels() { cpu_device.kernels = before; }
};
struct WithThreads {
    int before;
    explicit WithThreads(int n);
    ~WithThreads();
};

// ------------------------------------------------------------------------------------------------- gradients
struct Outputs : std::vector<Tensor> {                   // what a function under test returns
    Outputs(const Tensor &y) : std::vector<Tensor>{y} {}
    Outputs(std::initializer_list<Tensor> y) : std::vector<Tensor>(y) {}
    Outputs(const LogP &y) : std::vector<Tensor>{y.logp, y.entropy} {}
};
using Function = std::function<Outputs()>;
using Leaves = std::vector<Tensor>;

// The worst measured over all ops: double 2.7e-11, float 6.8e-5 (both logp): there the rounding of the
// function itself, divided by the step, is all that is left.
struct GradientOptions { double bar = in_double ? 1e-7 : 5e-4; };

// The function's outputs are weighted at random and summed. The slope of that number along each entry of each
// leaf, by central differences of fourth order, is held against what backward adds to gradients that are not
// zero before; where the function bends too much for the step, once more with a quarter of it. Integer
// outputs of ops that choose are frozen. The worst entry of all leaves:
struct GradientReport {
    double error = 0;
    std::string text;   // "x (2,3) at [4]: backward 0.5, differences 0.25; relative error 1"
};
GradientReport gradient_report(const Function &, const Leaves &, const GradientOptions & = {});

// With plain and with fast kernels; then with each leaf as the only one that wants a gradient: the same bits,
// and nothing into the others.
void check_gradient(const Function &, const Leaves &, const GradientOptions & = {});

extern std::set<int> ops_with_checked_gradient;          // every op that check_gradient met on the tape

// ----------------------------------------------------------------------------------- one run against another
// Outputs, then the gradients of the leaves, under the same random weights as above.
std::vector<Tensor> outputs_and_gradients(const Function &, const Leaves &);
void check_kernels(const Function &, const Leaves &, double bar);      // fast says what plain says
void check_threads(const Function &, const Leaves &);                  // 1, 2 and 3 threads: the same bits

// What a failing action told the user, and the hint beside it; empty if it did not fail.
struct Refusal { std::string cause, hint; };
template <class Action> Refusal refusal(Action action) {
    try {
        action();
    } catch (const Error &error) {
        return {error.what(), error.hint};
    }
    return {};
}
template <class Action> std::string error_of(Action action) { return refusal(action).cause; }

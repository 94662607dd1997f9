// models.h: what the tests that type equations of a model once more share: vectors in double, and models
// whose numbers hide nothing.
#pragma once
#include <cmath>

#include "src/train/batch.h"
#include "tests/check.h"

using Vec = std::vector<double>;

inline Vec row(const Numbers &X, long i) {
    const long n = X.shape.width();
    return Vec(X.v.begin() + i * n, X.v.begin() + (i + 1) * n);
}

inline Vec times(const Numbers &W, const Vec &x, long from_row = 0,
                 long rows = -1) {                                                   // W x, of some rows of W
    Vec y(rows < 0 ? W.shape.rows() : rows, 0.0);
    for (size_t i = 0; i < y.size(); i++)
        for (size_t k = 0; k < x.size(); k++) y[i] += W.v[(from_row + i) * x.size() + k] * x[k];
    return y;
}

inline Vec RMSNorm(const Vec &x, const Numbers &g, double eps) {
    double squares = 0;
    for (double x_i : x) squares += x_i * x_i;
    Vec y = x;
    for (size_t i = 0; i < x.size(); i++) y[i] = g.v[i] * x[i] / std::sqrt(squares / x.size() + eps);
    return y;
}

inline Vec head(const Vec &x, int i, int width) {
    return Vec(x.begin() + i * width, x.begin() + (i + 1) * width);
}

// Gains are not all 1, biases not 0.
inline Model random_model(const Config &c, uint64_t seed = 5, double bias = 0.05) {
    NoGrad off;
    Model m = initialised(c, seeded(seed));
    uint64_t stream = 50;
    visit(m, [&](const std::string &, Tensor &w, const Spec &spec) {
        if (spec.group == Group::gain) copy_into(w, add(w, randn(spec.shape, "g", ++stream, 0.3)));
        if (spec.group == Group::bias) copy_into(w, randn(spec.shape, "b", ++stream, bias));
    });
    return m;
}

inline Examples random_sequences(int B, int T, int V, uint64_t seed) {
    Examples s;
    for (int b = 0; b < B; b++) s.push_back({.ids = random_ints(T + 1, V, seed * 100 + b)});
    return s;
}

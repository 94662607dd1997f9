// gradient_check.cpp: a backward against differences of its forward.
#include "src/tensor/gradient_check.h"

#include <algorithm>
#include <cmath>

GradientError against_differences(const std::function<double()> &value, const std::vector<Tensor> &leaves,
                                  long most) {
    const double h = sizeof(real) == 8 ? 1e-3 : 0.04;    // in float a shorter step drowns in rounding
    NoGrad off;
    GradientError error;
    for (const Tensor &leaf : leaves) {
        const std::vector<real> x = values(leaf), g = values(gradient(leaf));
        const long n = (long)x.size(), count = std::min(n, most);
        std::vector<double> slope(count);
        double largest = 1e-30;
        for (real each : g) largest = std::max(largest, (double)std::abs(each));
        for (long k = 0; k < count; k++) {
            const auto at = [&](double shift) {
                std::vector<real> moved = x;
                moved[k * n / count] += (real)shift;
                assign(leaf, moved);
                return value();
            };
            slope[k] = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
            largest = std::max(largest, std::abs(slope[k]));
        }
        assign(leaf, x);
        for (long k = 0; k < count; k++, error.compared++) {
            const long i = k * n / count;
            const double e = std::abs(g[i] - slope[k]) / largest;
            if (e <= error.worst && !error.where.empty()) continue;
            error.worst = std::isnan(e) ? INFINITY : e;
            error.where = cat(leaf.s->name, " ", leaf.shape, " at [", i, "]: backward ", g[i],
                              ", differences ", slope[k]);
        }
    }
    return error;
}

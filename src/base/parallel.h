// parallel.h: the only parallel loop, and the one sum that all rows use. Fixed chunks of rows, so that the
// number of threads changes no bit; below a threshold of work one thread does it all, because waking the
// others costs more than the loop.
#pragma once
#include <exception>
#include <omp.h>
#include <vector>

#include "src/base/numerics.h"

constexpr long parallel_threshold = 1 << 17;     // in scalar operations

// One loop for both cases: compiled twice, it might round differently (a product fused into a sum or not).
template <class F> void for_rows(long n, long work_per_row, F f) {
#pragma omp parallel for schedule(static) if (n > 1 && n * work_per_row >= parallel_threshold)
    for (long i = 0; i < n; i++) f(i);
}

// Rows that are much work each and may fail. No exception may leave a parallel loop: that of the first row is
// thrown behind it.
template <class F> void for_rows_that_may_fail(long first, long end, F f) {
    std::vector<std::exception_ptr> failed(end - first);
    for_rows(end - first, parallel_threshold, [&](long i) {
        try {
            f(first + i);
        } catch (...) {
            failed[i] = std::current_exception();
        }
    });
    for (const std::exception_ptr &e : failed)
        if (e) std::rethrow_exception(e);
}

// <a, b>, in vector lanes: another order than one after the other, but always the same one.
inline real dot(const real *a, const real *b, long n) {
    real sum = 0;
#pragma omp simd reduction(+ : sum)
    for (long i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

// y += a x
inline void add_scaled(real *y, real a, const real *x, long n) {
    for (long i = 0; i < n; i++) y[i] += a * x[i];
}

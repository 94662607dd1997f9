// statistics.cpp: the specification of what experiments are judged by. tests/oracle/check_statistics.py asks
// SciPy for its opinion.
#include "src/base/statistics.h"

#include <cmath>

#include "tests/check.h"

using doctest::Approx;

static Values values_of(const Values &x, const std::function<double(double)> &f) {
    Values y;
    for (double v : x) y.push_back(f(v));
    return y;
}

// ------------------------------------------------------------------------------------------------- [1] means

TEST_CASE("statistics: the standard deviation is a sample's, and the mean's error is that by root n") {
    const Values x = {2, 4, 4, 4, 5, 5, 7, 9};
    CHECK(mean(x) == 5);
    CHECK(standard_deviation(x) == Approx(std::sqrt(32 / 7.0)).epsilon(1e-14));
    CHECK(standard_error(x) == Approx(std::sqrt(32 / 7.0 / 8)).epsilon(1e-14));
    CHECK(error_of([] { mean(Values{}); }) == "mean: of no number");
    CHECK(error_of([] { standard_error({1}); }) == "standard deviation: of 1 numbers, at least 2 are needed");
}

TEST_CASE("statistics: arms are compared seed by seed, so what a seed does to both falls out") {
    const Difference d = paired_difference({{1, 10}, {2, 20}, {7, 30}}, {{7, 31}, {2, 22}, {1, 13}});
    CHECK(d.mean == 2);
    CHECK(d.error == Approx(1 / std::sqrt(3)).epsilon(1e-14));
    CHECK(d.n == 3);
    CHECK(d.interval.high == Approx(2 + std::sqrt(2 * 0.9025 / 0.0975 / 3)).epsilon(1e-12));
    CHECK(error_of([] { paired_difference({{1, 1}, {2, 1}}, {{1, 1}, {3, 1}}); }) ==
          "paired difference: seed 3 is in the second arm only");
    CHECK(error_of([] { paired_difference({{1, 1}, {2, 1}}, {{1, 1}}); }) ==
          "paired difference: seed 2 is in the first arm only");
}

// ------------------------------------------------------------------------------------------- [2] Student's t

TEST_CASE("t_quantile: the printed table, odd and even, up to the normal distribution's 1.96") {
    for (const auto &[df, q] : std::map<long, double>{{1, 12.70620473617471},
                                                      {2, 4.302652729749464},
                                                      {3, 3.182446305284263},
                                                      {4, 2.776445105197800},
                                                      {9, 2.262157162854099},
                                                      {30, 2.042272456301238},
                                                      {100, 1.983971518523552},
                                                      {1000000, 1.959966357}}) {
        INFO("df = ", df);
        CHECK(t_quantile(df) == Approx(q).epsilon(1e-9));
    }
    CHECK_THROWS_AS(t_quantile(0), Error);
    CHECK(std::isnan(t_interval(1, 0, 0).low));
}

// ----------------------------------------------------------------------------------- [3] lines and parabolas

TEST_CASE("fit_line: Anscombe's first quartet has the line and the standard errors that are published") {
    const Line line = fit_line({10, 8, 13, 9, 11, 14, 6, 4, 12, 7, 5},
                               {8.04, 6.95, 7.58, 8.81, 8.33, 9.96, 7.24, 4.26, 10.84, 4.82, 5.68});
    CHECK(line.a == Approx(3.00009).epsilon(1e-5));
    CHECK(line.b == Approx(0.50009).epsilon(1e-5));
    CHECK(line.error_a == Approx(1.12475).epsilon(1e-5));
    CHECK(line.error_b == Approx(0.11791).epsilon(1e-4));
    const Line two = fit_line({1, 3}, {5, 9});
    CHECK(two.at(10) == Approx(23).epsilon(1e-14));
    CHECK(std::isnan(two.error_b));
    CHECK(error_of([] { fit_line({2, 2}, {1, 2}); }) == "line: 1 different x, at least 2 are needed");
    CHECK(error_of([] { fit_line({1, 2, 3}, {1, 2}); }) == "line: 3 x and 2 y");
}

TEST_CASE("fit_parabola: exact through three points and through many of one parabola, wherever they are") {
    const auto y = [](double x) { return 7 + 0.5 * (x - 21.3) * (x - 21.3); };
    for (const Values &x : {Values{20, 21, 24}, Values{24, 19, 23.5, 20, 22, 21}}) {
        const Parabola p = fit_parabola(x, values_of(x, y));
        CHECK(p.vertex == Approx(21.3).epsilon(1e-12));
        CHECK(p.lowest == Approx(7).epsilon(1e-12));
        CHECK(p.curvature == Approx(0.5).epsilon(1e-11));
        CHECK(p.r2 == Approx(1).epsilon(1e-12));
        CHECK(p.minimum == Minimum::inside);
    }
    CHECK_THROWS_AS(fit_parabola({1, 2, 2}, {1, 0, 1}), Error);
    CHECK_THROWS_AS(fit_parabola({1, 2, 3}, {1, 0, 1}, 2), Error);
}

TEST_CASE("fit_parabola: least squares: what is left is orthogonal to 1, x and x^2") {
    const Values x = {-2, -1, 0.5, 1, 3}, y = {7, 2, 0, 1, 4};
    const Parabola p = fit_parabola(x, y);
    double sums[3] = {}, residual = 0, total = 0;
    for (int i = 0; i < 5; i++) {
        const double r = y[i] - p.lowest - p.curvature * (x[i] - p.vertex) * (x[i] - p.vertex);
        for (int power = 0; power < 3; power++) sums[power] += r * std::pow(x[i], power);
        residual += r * r;
        total += (y[i] - mean(y)) * (y[i] - mean(y));
    }
    for (double sum : sums) CHECK(std::abs(sum) < 1e-13);
    CHECK(p.r2 == Approx(1 - residual / total).epsilon(1e-13));
}

TEST_CASE("fit_parabola: an edge is no minimum, nor is a curve that opens downwards") {
    const Values x = {1, 2, 3, 4, 5};
    CHECK(fit_parabola(x, {1, 2, 4, 7, 11}).minimum == Minimum::low_edge);
    CHECK(fit_parabola(x, {11, 7, 4, 2, 1}).minimum == Minimum::high_edge);
    CHECK(fit_parabola(x, {1.0, 1.1, 1.4, 1.9, 0.99}, 3).minimum == Minimum::high_edge);
    CHECK(fit_parabola(x, {0, 4, 1, 4, 0.1}).minimum == Minimum::low_edge);
    CHECK(fit_parabola(x, {4, 3.9, 5, 4.5, 4}).minimum == Minimum::none);
    CHECK(fit_parabola(x, {1, 1, 1, 1, 1}).minimum != Minimum::inside);
    // The lowest point is inside, but the curve through all of them has not turned by the last.
    CHECK(fit_parabola(x, {20, 11, 6, 2, 2.1}).minimum == Minimum::inside);
    CHECK(fit_parabola(x, {9, 7.5, 5.6, 3, 3.2}).minimum != Minimum::inside);
}

TEST_CASE("fit_parabola: of many points only the neighbours of the lowest count, also near an end") {
    const Values x = {0, 1, 2, 3, 4, 5, 6};
    const Parabola middle = fit_parabola(x, {99, 5, 2, 1, 2, 5, 99}, 3);
    CHECK(middle.vertex == Approx(3));
    CHECK(middle.lowest == Approx(1));
    const Parabola early = fit_parabola(x, {2, 1, 2, 5, 10, 99, 99}, 5);      // of 0..4, not of -1..3
    CHECK(early.vertex == Approx(1));
    CHECK(early.curvature == Approx(1));
}

// -------------------------------------------------------------------------------------------- [4] power laws

TEST_CASE("fit_power_law: exact on its own numbers, refuses what has no logarithm") {
    const Values C = {1e17, 1e18, 3e19, 3e20};
    const PowerLaw law =
        fit_power_law(C, values_of(C, [](double c) { return 0.1715 * std::pow(c, 0.5243); }));
    CHECK(law.k == Approx(0.1715).epsilon(1e-10));
    CHECK(law.g == Approx(0.5243).epsilon(1e-12));
    CHECK(law.at(1e24) == Approx(0.1715 * std::pow(1e24, 0.5243)).epsilon(1e-10));
    CHECK(error_of([] { fit_power_law({1, 2}, {3, 0}); }) ==
          "power law: 0 is not above 0, and has no logarithm");
    CHECK_THROWS_AS(fit_power_law({-1, 2}, {3, 1}), Error);
    CHECK_THROWS_AS(fit_power_law({1, 2}, {3, NAN}), Error);
}

TEST_CASE("fit_offset_law: exact on its own numbers, laptop budgets or a cluster's") {
    for (double first : {1e10, 1e21})
        for (double g : {0.05, 0.154, 0.6}) {
            const double k = 1.5 * std::pow(first, g);
            Values C, y;
            for (int i = 0; i < 5; i++) {
                C.push_back(first * std::pow(10, i));
                y.push_back(1.69 + k * std::pow(C.back(), -g));
            }
            const OffsetLaw law = fit_offset_law(C, y);
            INFO("from ", first, ", g = ", g);
            CHECK(law.inside);
            CHECK(law.g == Approx(g).epsilon(1e-5));
            CHECK(law.y_inf == Approx(1.69).epsilon(1e-5));
            CHECK(law.at(1e3 * C.back()) == Approx(1.69 + k * std::pow(1e3 * C.back(), -g)).epsilon(1e-6));
        }
    CHECK_THROWS_AS(fit_offset_law({1, 2}, {2, 1}), Error);
    CHECK_THROWS_AS(fit_offset_law({0, 1, 2}, {3, 2, 1}), Error);
}

TEST_CASE("fit_offset_law: says where the numbers have no such law") {
    const Values x = {1, 10, 100, 1000};
    CHECK_FALSE(fit_offset_law(x, {4, 3, 2, 1}).inside);             // straight in ln x: g is 0
    CHECK_FALSE(fit_offset_law(x, {1, 1.5, 1.75, 1.875}).inside);    // rises: k below 0
    CHECK_FALSE(fit_offset_law(x, {4, 2.9, 1.9, 0.98}).inside);      // would end below 0
    CHECK(fit_offset_law(x, {4, 3, 2.5, 2.25}).inside);
}

// ----------------------------------------------------------------------------------------- [5] the bootstrap

static Bootstrap of_the_mean(const Values &x, int resamples, uint64_t seed) {
    return bootstrap((int)x.size(), resamples, seed, [&](const std::vector<int> &chosen) {
        Values drawn;
        for (int i : chosen) drawn.push_back(x[i]);
        return Values{mean(drawn)};
    });
}

TEST_CASE("bootstrap: the interval of a mean is Student's, and the same whenever it is asked for") {
    const Values x = {3.1, 2.7, 4.4, 3.9, 2.2};
    const Bootstrap b = of_the_mean(x, 20000, 1);
    const Interval exact = t_interval(mean(x), standard_error(x), 4);
    CHECK(b.estimates[0] == mean(x));
    CHECK(b.fitted == 20000);
    CHECK(b.intervals[0].low == Approx(exact.low).epsilon(0.01));
    CHECK(b.intervals[0].high == Approx(exact.high).epsilon(0.01));
    CHECK(of_the_mean(x, 100, 7).intervals[0].low == of_the_mean(x, 100, 7).intervals[0].low);
    CHECK(of_the_mean(x, 100, 7).intervals[0].low != of_the_mean(x, 100, 8).intervals[0].low);
    CHECK(std::isnan(of_the_mean({3.1}, 100, 1).intervals[0].low));
}

// Measured: 1902 of 2000 draws of five, 1901 of three; the percentiles' interval holds in 83% and 75%.
TEST_CASE("bootstrap: holds the truth in 95 of 100 draws, of five units as of three") {
    for (int n : {3, 5}) {
        int held = 0;
        for (int draw = 0; draw < 2000; draw++) {
            Values x;
            for (int i = 0; i < n; i++) x.push_back(normal(seeded(n), draw, 0, i));
            held += of_the_mean(x, 200, draw).intervals[0].holds(0);
        }
        INFO(n, " units: ", held, " of 2000");
        CHECK(held > 1850);                            // 1900 less or more 5 standard deviations of the count
        CHECK(held < 1950);
    }
}

TEST_CASE("bootstrap: draws without a fit are counted; where they are the most, nothing is known") {
    for (const auto &[least, known] : std::map<int, bool>{{2, true}, {4, false}}) {
        const Bootstrap b = bootstrap(4, 1000, seeded(1), [&](const std::vector<int> &chosen) -> Values {
            const std::set<int> different(chosen.begin(), chosen.end());
            if ((int)different.size() < least) return {};
            return {(double)chosen[0]};
        });
        CHECK(b.fitted < 1000);
        CHECK(std::isnan(b.intervals[0].low) != known);
    }
    CHECK_THROWS_AS(bootstrap(3, 10, 1, [](const auto &) { return Values{}; }), Error);
}

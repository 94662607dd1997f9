// statistics.cpp: see statistics.h. Sums run in the order of the list.
#include "src/base/statistics.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

#include "src/base/error.h"
#include "src/base/random.h"

static void expect_points(const char *what, const Values &x, const Values &y, size_t fewest) {
    expect(x.size() == y.size(), what, ": ", x.size(), " x and ", y.size(), " y");
    Values different = x;
    std::sort(different.begin(), different.end());
    different.erase(std::unique(different.begin(), different.end()), different.end());
    expect(different.size() >= fewest, what, ": ", different.size(), " different x, at least ", fewest,
           " are needed");
}

static Values logarithms(const char *what, const Values &x) {
    Values logs;
    for (double v : x) {
        expect(v > 0, what, ": ", v, " is not above 0, and has no logarithm");
        logs.push_back(std::log(v));
    }
    return logs;
}

static double sum_of_products(const Values &x, const Values &y) {
    return std::inner_product(x.begin(), x.end(), y.begin(), 0.0);
}

static Values minus(Values x, double c) {
    for (double &v : x) v -= c;
    return x;
}

// ------------------------------------------------------------------------------------------------- [1] means
double mean(const Values &x) {
    expect(!x.empty(), "mean: of no number");
    return std::accumulate(x.begin(), x.end(), 0.0) / (double)x.size();
}

double standard_deviation(const Values &x) {
    expect(x.size() >= 2, "standard deviation: of ", x.size(), " numbers, at least 2 are needed");
    const Values deviation = minus(x, mean(x));
    return std::sqrt(sum_of_products(deviation, deviation) / (double)(x.size() - 1));
}

double standard_error(const Values &x) { return standard_deviation(x) / std::sqrt((double)x.size()); }

Difference paired_difference(const std::map<long, double> &a, const std::map<long, double> &b) {
    Values differences;
    for (const auto &[seed, y] : b) {
        const auto x = a.find(seed);
        expect(x != a.end(), "paired difference: seed ", seed, " is in the second arm only");
        differences.push_back(y - x->second);
    }
    for (const auto &[seed, x] : a)
        expect(b.count(seed), "paired difference: seed ", seed, " is in the first arm only");
    const int n = (int)differences.size();
    const double m = mean(differences), error = standard_error(differences);
    return {m, error, n, t_interval(m, error, n - 1)};
}

// ------------------------------------------------------------------------------------------- [2] Student's t
// P(|t| <= sqrt(df) tan phi). For whole degrees of freedom it is a finite sum: with s, c = sin, cos of phi,
//   df odd:   2/pi (phi + s (c + 2/3 c^3 + 2 4 / (3 5) c^5 + ... c^(df-2)))
//   df even:  s (1 + 1/2 c^2 + 1 3 / (2 4) c^4 + ... c^(df-2))             Abramowitz & Stegun 26.7.3, 26.7.4
static double probability_within(double phi, long df) {
    const bool odd = df % 2;
    const double s = std::sin(phi), c = std::cos(phi);
    double term = odd ? c : 1, sum = 0;
    for (long power = odd; power <= df - 2; power += 2) {
        sum += term;
        term *= c * c * (double)(power + 1) / (double)(power + 2);
    }
    return odd ? 2 / std::numbers::pi * (phi + s * sum) : s * sum;
}

double t_quantile(long df) {
    expect(df >= 1, "t quantile: ", df, " degrees of freedom, at least 1 is needed");
    double low = 0, high = std::numbers::pi / 2;
    for (int i = 0; i < 60; i++) {                       // halves the angle's interval to its last bit
        const double middle = (low + high) / 2;
        (probability_within(middle, df) < 0.95 ? low : high) = middle;
    }
    return std::sqrt((double)df) * std::tan(low);
}

Interval t_interval(double estimate, double error, long df) {
    const double reach = df >= 1 ? t_quantile(df) * error : NAN;
    return {estimate - reach, estimate + reach};
}

// ----------------------------------------------------------------------------------- [3] lines and parabolas
Line fit_line(const Values &x, const Values &y) {
    expect_points("line", x, y, 2);
    const double n = (double)x.size(), x_mean = mean(x), y_mean = mean(y);
    const Values u = minus(x, x_mean), v = minus(y, y_mean);
    const double uu = sum_of_products(u, u), b = sum_of_products(u, v) / uu;
    double residual = 0;
    for (size_t i = 0; i < x.size(); i++) residual += (v[i] - b * u[i]) * (v[i] - b * u[i]);
    const double sigma = n > 2 ? std::sqrt(residual / (n - 2)) : NAN;
    return {y_mean - b * x_mean, b, sigma * std::sqrt(1 / n + x_mean * x_mean / uu), sigma / std::sqrt(uu),
            (int)n};
}

// Through all points, in polynomials that are orthogonal over them: y = mean y + b u + c p, where
// u = x - mean x and p = u^2 - skew u - mean u^2, so that each coefficient is a quotient of two sums.
static Parabola parabola_through(const Values &x, const Values &y) {
    const double n = (double)x.size(), x_mean = mean(x), y_mean = mean(y);
    const Values u = minus(x, x_mean), v = minus(y, y_mean);
    const double uu = sum_of_products(u, u);
    Values squares;
    for (double t : u) squares.push_back(t * t);
    const double skew = sum_of_products(squares, u) / uu;
    Values p;
    for (double t : u) p.push_back(t * t - skew * t - uu / n);
    const double b = sum_of_products(u, v) / uu, c = sum_of_products(p, v) / sum_of_products(p, p);
    const double at = skew / 2 - b / (2 * c);            // where b + c (2 u - skew) = 0
    double residual = 0;
    for (size_t i = 0; i < x.size(); i++) residual += std::pow(v[i] - b * u[i] - c * p[i], 2);
    const double r2 = 1 - residual / sum_of_products(v, v);
    return {x_mean + at, y_mean + b * at + c * (at * at - skew * at - uu / n), c, r2, Minimum::inside};
}

Parabola fit_parabola(const Values &x, const Values &y, int points) {
    expect_points("parabola", x, y, 3);
    expect(points == 0 || points >= 3, "parabola: through ", points, " points, at least 3 are needed");
    std::vector<std::pair<double, double>> sorted;
    for (size_t i = 0; i < x.size(); i++) sorted.emplace_back(x[i], y[i]);
    std::sort(sorted.begin(), sorted.end());
    const int n = (int)x.size(), used = points ? std::min(points, n) : n;
    const int lowest = (int)(std::min_element(sorted.begin(), sorted.end(),
                                              [](auto &p, auto &q) { return p.second < q.second; }) -
                             sorted.begin());
    const int first = std::clamp(lowest - used / 2, 0, n - used);
    Values near_x, near_y;
    for (int i = first; i < first + used; i++) {
        near_x.push_back(sorted[i].first);
        near_y.push_back(sorted[i].second);
    }
    expect_points("parabola", near_x, near_y, 3);
    Parabola fit = parabola_through(near_x, near_y);
    if (lowest == 0) fit.minimum = Minimum::low_edge;
    else if (lowest == n - 1) fit.minimum = Minimum::high_edge;
    else if (!(fit.curvature > 0)) fit.minimum = Minimum::none;
    else if (fit.vertex <= near_x.front()) fit.minimum = Minimum::low_edge;
    else if (fit.vertex >= near_x.back()) fit.minimum = Minimum::high_edge;
    return fit;
}

// -------------------------------------------------------------------------------------------- [4] power laws
double PowerLaw::at(double x) const { return std::exp(line.at(std::log(x))); }

PowerLaw fit_power_law(const Values &x, const Values &y) {
    const Line line = fit_line(logarithms("power law", x), logarithms("power law", y));
    return {std::exp(line.a), line.b, line};
}

double OffsetLaw::at(double x) const { return y_inf + k * std::pow(x, -g); }

OffsetLaw fit_offset_law(const Values &x, const Values &y) {
    expect_points("offset power law", x, y, 3);
    Values logs = logarithms("offset power law", x);
    const double middle = mean(logs);                    // powers of x / exp(middle) stay near 1
    logs = minus(logs, middle);
    const auto line_for = [&](double g) {
        Values powers;
        for (double v : logs) powers.push_back(std::exp(-g * v));
        return fit_line(powers, y);
    };
    const auto residual_for = [&](double ln_g) {
        const double g = std::exp(ln_g);
        const Line line = line_for(g);
        double sum = 0;
        for (size_t i = 0; i < y.size(); i++) sum += std::pow(y[i] - line.at(std::exp(-g * logs[i])), 2);
        return sum;
    };
    constexpr int steps = 100;
    const double first = std::log(0.01), width = std::log(10 / 0.01) / steps;
    int best = 0;
    for (int i = 1; i <= steps; i++)
        if (residual_for(first + i * width) < residual_for(first + best * width)) best = i;
    double low = first + std::max(best - 1, 0) * width, high = first + std::min(best + 1, steps) * width;
    for (int i = 0; i < 60; i++) {                       // golden section
        const double third = (high - low) * (2 - std::numbers::phi);
        if (residual_for(low + third) < residual_for(high - third)) high -= third;
        else low += third;
    }
    const double g = std::exp((low + high) / 2);
    const Line line = line_for(g);
    return {line.a, line.b * std::exp(g * middle), g, best > 0 && best < steps && line.a >= 0 && line.b > 0};
}

// ----------------------------------------------------------------------------------------- [5] the bootstrap
Bootstrap bootstrap(int n, int resamples, uint64_t seed, const Statistics &statistics) {
    expect(n >= 1, "bootstrap: of no units");
    std::vector<int> chosen(n);
    std::iota(chosen.begin(), chosen.end(), 0);
    Bootstrap result{statistics(chosen), {}, 0};
    expect(!result.estimates.empty(), "bootstrap: all units together have no fit");
    std::vector<Values> draws(result.estimates.size());
    Random random{seed};
    for (int i = 0; i < resamples && n > 1; i++) {
        for (int &unit : chosen) unit = random.below(n);
        const Values drawn = statistics(chosen);
        for (size_t j = 0; j < drawn.size(); j++) draws[j].push_back(drawn[j]);
        result.fitted += !drawn.empty();
    }
    const bool known = result.fitted >= 2 && 2 * result.fitted > resamples;
    for (size_t j = 0; j < draws.size(); j++) {
        const double error = known ? standard_deviation(draws[j]) * std::sqrt((double)n / (n - 1)) : NAN;
        result.intervals.push_back(t_interval(result.estimates[j], error, n - 1));
    }
    return result;
}

// ------------------------------------------------------------------------------------------- [6] information
double entropy(const Values &counts) {
    const double n = std::accumulate(counts.begin(), counts.end(), 0.0);
    double H = 0;
    for (double n_x : counts)
        if (n_x > 0) H -= n_x / n * std::log(n_x / n);
    return H;
}

double mutual_information(const std::vector<Values> &counts) {
    Values rows, columns(counts.at(0).size(), 0), cells;
    for (const Values &row : counts) {
        rows.push_back(std::accumulate(row.begin(), row.end(), 0.0));
        for (size_t y = 0; y < row.size(); y++) columns[y] += row[y];
        cells.insert(cells.end(), row.begin(), row.end());
    }
    return entropy(rows) + entropy(columns) - entropy(cells);
}

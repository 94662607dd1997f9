// statistics.h: what a few measurements say, and how surely: means, straight lines, parabolas, power laws.
//
// Pure functions of doubles. A list that is too short, two that differ in length, and a number that has no
// logarithm are refused with an Error that says so. What is not known (the standard error of a line through
// two points) is NaN, never 0.
//
//   [1] means   [2] Student's t   [3] lines and parabolas   [4] power laws   [5] the bootstrap
//   [6] information
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <vector>

using Values = std::vector<double>;

// ------------------------------------------------------------------------------------------------- [1] means
double mean(const Values &);                             // sum x / n
double standard_deviation(const Values &);               // sqrt(sum (x - mean)^2 / (n - 1)), of a sample
double standard_error(const Values &);                   // of the mean: standard deviation / sqrt n

struct Interval {                                        // of 95% confidence; NaN: not known
    double low, high;
    bool holds(double x) const { return low <= x && x <= high; }
};

// What arm b does better or worse than arm a: the mean of b - a, seed by seed, so that what a seed does to
// both falls out. Both arms must have the same seeds, two or more.
struct Difference {
    double mean, error;                                  // standard error
    int n;
    Interval interval;                                   // by Student's t
};
Difference paired_difference(const std::map<long, double> &a, const std::map<long, double> &b);

// ------------------------------------------------------------------------------------------- [2] Student's t
double t_quantile(long df);                              // P(|t| <= q) = 0.95 with df >= 1 degrees of freedom
Interval t_interval(double estimate, double error, long df);     // estimate -+ q error; df < 1: not known

// --------------------------------------------------------------------------------- [3] lines and parabolas
struct Line {                                            // y = a + b x
    double a, b, error_a, error_b;                       // standard errors: NaN for two points
    int n;
    double at(double x) const { return a + b * x; }
};
Line fit_line(const Values &x, const Values &y);         // least squares; two different x or more

enum class Minimum { inside, low_edge, high_edge, none };   // of the points in x; none: not curved upwards
struct Parabola {                                        // y = lowest + curvature (x - vertex)^2
    double vertex, lowest, curvature, r2;                // r2: share of y's variance that it explains
    Minimum minimum;                                     // only if inside, the vertex is one
};
// Least squares through the `points` neighbours in x around the lowest point (0: through all). Three are
// exact. It is neighbours, not the lowest ones, because they lie on both sides of the minimum whatever the
// noise. Where the lowest point of all is the first or the last in x, the minimum is at that edge.
Parabola fit_parabola(const Values &x, const Values &y, int points = 0);

// ------------------------------------------------------------------------------------------ [4] power laws
struct PowerLaw {                                        // y = k x^g
    double k, g;
    Line line;                                           // ln y = ln k + g ln x
    double at(double x) const;
};
PowerLaw fit_power_law(const Values &x, const Values &y);        // by the line; x and y positive

struct OffsetLaw {                                       // y = y_inf + k x^-g
    double y_inf, k, g;
    bool inside;                                         // false: y_inf or k below 0, or g at a bound
    double at(double x) const;
};
// Least squares in y; three different x or more, all positive. For a given g the law is a straight line in
// x^-g, so that only g is searched, from 0.01 to 10.
OffsetLaw fit_offset_law(const Values &x, const Values &y);

// --------------------------------------------------------------------------------------- [5] the bootstrap
// `statistics` computes one or more numbers from the units (seeds, runs) chosen among 0..n-1, where some come
// twice and some not at all; an empty answer: these have no fit.
using Statistics = std::function<Values(const std::vector<int> &chosen)>;
struct Bootstrap {
    Values estimates;                                    // of all units, each once
    std::vector<Interval> intervals;
    int fitted;                                          // resamples that had a fit, of those tried
};
// The estimate -+ the standard deviation over `resamples` draws of n units, made wider: by sqrt(n / (n - 1)),
// for draws vary as if the units' variance had been divided by n, and by Student's t of n - 1. The usual
// interval, between two percentiles of the draws, is right for many units; with five it holds the truth in
// 83% of cases, not in 95. Not known for one unit, or where half of the draws or more have no fit.
Bootstrap bootstrap(int n, int resamples, uint64_t seed, const Statistics &statistics);

// ------------------------------------------------------------------------------------------- [6] information
double entropy(const Values &counts);                    // in nats, of what is counted
// Of row and column, in nats, where counts[x][y] pairs were seen: how much less is open about the one when
// the other is known.
double mutual_information(const std::vector<Values> &counts);

// picture.h: curves with their spread, as a CSV and as an SVG that needs nothing else.
#pragma once
#include <string>
#include <vector>

#include "src/base/statistics.h"

struct Curve {                                  // of an arm: at each x the mean, and the extremes, over seeds
    std::string name;
    Values x, mean, low, high;
};
// Of a column by step: each run's rows are averaged over equal parts of its steps, 60 at most.
Curve curve_of(const std::string &name, const std::vector<std::string> &folders, const std::string &column);
std::string curves_csv(const std::vector<Curve> &);
std::string picture_of(const std::string &title, const std::string &x, const std::string &y,
                       const std::vector<Curve> &);

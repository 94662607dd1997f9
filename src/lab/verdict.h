// verdict.h: from the numbers of all runs to an answer, the same one for everybody: statistics, words, JSON.
#pragma once
#include <map>
#include <string>

#include "src/base/json.h"
#include "src/lab/lab.h"
#include "src/base/statistics.h"

// metric -> arm -> seed -> value
using Results = std::map<std::string, std::map<std::string, std::map<long, double>>>;

// A bar's margin is what a seed's value is beyond the limit, to the side that the claim wants; arms are
// paired by seed. With three seeds or more, and counting only what exceeds two standard errors of the mean:
//     reproduced       the margin is above 0
//     not reproduced   it is below 0
//     opposite         it is below 0, and so is the value: the effect has the other sign (of bars on an
//                      effect, whose limit is 0 or on the claim's side of it)
//     inconclusive     neither
enum class Verdict { reproduced, inconclusive, not_reproduced, opposite };
std::string word_of(Verdict);

struct Judged {
    Bar bar;
    std::map<long, double> values;                       // by seed
    double mean, error;                                  // standard error, over seeds
    Verdict verdict;
    std::string unresolved;                              // inconclusive: what it would take
};
struct Judgement {
    std::vector<Judged> bars;
    Verdict verdict;                                     // the worst: opposite, not reproduced, inconclusive
};
Judgement judge(const Lab &, const Results &);           // refuses a bar that asks for what was not measured

// How far the control arm, the first that has the metric, is from itself: the standard error of the
// difference of two means of its n seeds.
double noise_floor(const Lab &, const Results &, const std::string &metric);

std::string source_of(const Lab &);                     // V3 4.5.2: what was published
std::string table_of(const Lab &, const Results &, const Judgement *);       // for a terminal
std::string results_csv(const Results &);                // arm,seed,metric,value
Json arms_json(const Lab &);                         // arm: the words that it trains with, its other commands
Json formulas_json(const Lab &);                        // metric: its formula
Json verdict_json(const Lab &, const Results &, const Judgement &, double minutes);

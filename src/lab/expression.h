// expression.h: small formulas over named numbers, as labs write them: loss(free) / loss(aux) - 1,
// mean(max_vio, 50). The meaning of a call is the caller's.
#pragma once
#include <functional>
#include <string>
#include <vector>

// name(words): "loss", {"free"}. It refuses what it does not know.
using Lookup = std::function<double(const std::string &name, const std::vector<std::string> &words)>;

// Sums, products, signs, parentheses, numbers, calls; abs, ln, exp, sqrt of an expression, least and most of
// several. Refuses, with `where` and the place, what is none.
double evaluate(const std::string &text, const std::string &where, const Lookup &);

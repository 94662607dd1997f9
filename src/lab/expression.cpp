// expression.cpp: small formulas over named numbers, by recursive descent.
#include "src/lab/expression.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstring>

#include "src/base/error.h"
#include "src/base/fields.h"

namespace {
class Reader {
public:
    Reader(const std::string &text, const std::string &where, const Lookup &lookup)
        : text(text), where(where), lookup(lookup) {}
    double whole() {
        const double x = sum();
        blanks();
        if (at < text.size()) refuse("what follows is no part of a formula");
        return x;
    }

private:
    const std::string &text, &where;
    const Lookup &lookup;
    size_t at = 0;
    int depth = 0;

    [[noreturn]] void refuse(const std::string &why) const {
        fail(cat(where, ": '", text, "', at '", text.substr(std::min(at, text.size()), 12), "': ", why));
    }
    void blanks() {
        while (at < text.size() && isspace((unsigned char)text[at])) at++;
    }
    bool next(char c) {
        blanks();
        if (at >= text.size() || text[at] != c) return false;
        at++;
        return true;
    }
    double sum() {
        double x = product();
        while (true) {
            if (next('+')) x += product();
            else if (next('-')) x -= product();
            else return x;
        }
    }
    double product() {
        double x = factor();
        while (true) {
            if (next('*')) x *= factor();
            else if (next('/')) x /= factor();
            else return x;
        }
    }
    double factor() {
        if (depth++ > 100) refuse("that is nested too deeply");
        const double x = primary();
        depth--;
        return x;
    }
    double primary() {
        if (next('-')) return -factor();
        if (next('(')) {
            const double x = sum();
            if (!next(')')) refuse("a parenthesis is not closed");
            return x;
        }
        blanks();
        const size_t from = at;
        if (at < text.size() && (isdigit((unsigned char)text[at]) || text[at] == '.')) return number();
        while (at < text.size() && (isalnum((unsigned char)text[at]) || text[at] == '_')) at++;
        if (at == from) refuse("a number or a name is needed");
        return call(text.substr(from, at - from));
    }
    double number() {
        const size_t end = text.find_first_not_of("0123456789.eE", at);
        size_t stop = end == std::string::npos ? text.size() : end;
        if (stop < text.size() && strchr("+-", text[stop]) && strchr("eE", text[stop - 1]))      // 1e-3
            stop = std::min(text.find_first_not_of("0123456789", stop + 1), text.size());
        double x;
        try {
            parse(text.substr(at, stop - at), x);
        } catch (const Error &e) {
            refuse(e.what());
        }
        at = stop;
        return x;
    }
    double call(const std::string &name) {
        if (!next('(')) return lookup(name, {});
        for (const auto &[known, f] : {std::pair<const char *, double (*)(double)>{"abs", std::fabs},
                                       {"ln", std::log},
                                       {"exp", std::exp},
                                       {"sqrt", std::sqrt}}) {
            if (name != known) continue;
            const double x = sum();
            if (!next(')')) refuse("a parenthesis is not closed");
            return f(x);
        }
        if (name == "least" || name == "most") {
            double x = sum();
            while (next(',')) x = name == "least" ? std::min(x, sum()) : std::max(x, sum());
            if (!next(')')) refuse("a parenthesis is not closed");
            return x;
        }
        const size_t end = text.find(')', at);
        if (end == std::string::npos) refuse("a parenthesis is not closed");
        std::vector<std::string> words;
        std::istringstream list(text.substr(at, end - at));
        for (std::string word; std::getline(list, word, ',');) {
            const size_t from = word.find_first_not_of(' '), to = word.find_last_not_of(' ');
            words.push_back(from == std::string::npos ? "" : word.substr(from, to - from + 1));
        }
        at = end + 1;
        return lookup(name, words);
    }
};
}  // namespace

double evaluate(const std::string &text, const std::string &where, const Lookup &lookup) {
    return Reader(text, where, lookup).whole();
}

// error.h: two kinds of failure. expect(): the user's mistake, told in one line with a hint; the program then
// ends with exit code 2. assert(): our own mistake.
#pragma once
#include <cassert>
#include <sstream>
#include <stdexcept>
#include <string>

struct Error : std::runtime_error {
    std::string hint;
    explicit Error(const std::string &cause, const std::string &hint = "")
        : std::runtime_error(cause), hint(hint) {}
};

template <class... Parts> std::string cat(const Parts &...parts) {       // cat("x ", 3, " y") = "x 3 y"
    std::ostringstream s;
    (s << ... << parts);
    return s.str();
}

[[noreturn]] inline void fail(const std::string &cause, const std::string &hint = "") {
    throw Error(cause, hint);
}

// The message is built only when the condition fails:  expect(n > 0, "batch: ", n, " is not positive");
#define expect(condition, ...)                    \
    do {                                          \
        if (!(condition)) fail(cat(__VA_ARGS__)); \
    } while (0)

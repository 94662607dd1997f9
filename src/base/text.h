// text.h: words that people type, and what they may have meant.
#pragma once
#include <algorithm>
#include <cmath>
#include <iomanip>
#include <sstream>
#include <string>
#include <vector>

// How many letters must be inserted, deleted or replaced to get from a to b.
inline int edit_distance(const std::string &a, const std::string &b) {
    std::vector<int> row(b.size() + 1);
    for (size_t j = 0; j <= b.size(); j++) row[j] = (int)j;
    for (size_t i = 1; i <= a.size(); i++) {
        int diagonal = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= b.size(); j++) {
            const int replaced = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
        }
    }
    return row[b.size()];
}

// The up to three known words nearest to what was typed: "did you mean v3-nano, v3-tiny?". A word is near if
// it keeps half of its letters. `all` says where all are listed.
inline std::string did_you_mean(const std::string &word, std::vector<std::string> known,
                                const std::string &all = "") {
    std::stable_sort(known.begin(), known.end(), [&](const auto &a, const auto &b) {
        return edit_distance(word, a) < edit_distance(word, b);
    });
    std::string list;
    for (size_t i = 0; i < known.size() && i < 3; i++)
        if (edit_distance(word, known[i]) <= std::max(1, (int)word.size() / 2))
            list += (i ? ", " : "did you mean ") + known[i];
    return list.empty() ? all : list + "?" + (all.empty() ? "" : " ") + all;
}

// 1.68M, 670.1B: a count for people.
inline std::string in_units(double x) {
    const char *units[] = {"", "K", "M", "B", "T"};
    int unit = 0;
    while (std::abs(x) >= 999.5 && unit < 4) x /= 1000, unit++;
    std::ostringstream out;
    out << std::setprecision(3) << x << units[unit];
    return out.str();
}

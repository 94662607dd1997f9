// text.h: small helpers for words that people type and read.
#pragma once
#include <algorithm>
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

// The up to three known words nearest to what was typed: "v3-nano, v3-tiny".
inline std::string nearest(const std::string &word, std::vector<std::string> known) {
    std::stable_sort(known.begin(), known.end(), [&](const auto &a, const auto &b) {
        return edit_distance(word, a) < edit_distance(word, b);
    });
    std::string list;
    for (size_t i = 0; i < std::min<size_t>(3, known.size()); i++) list += (i ? ", " : "") + known[i];
    return list;
}

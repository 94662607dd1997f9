// lines.h: a text line by line.
#pragma once
#include <algorithm>
#include <string_view>

// use(line without its \n, its number from 1)
template <class Use> void for_each_line(std::string_view text, Use use) {
    for (long number = 1; !text.empty(); number++) {
        const std::string_view line = text.substr(0, text.find('\n'));
        use(line, number);
        text.remove_prefix(std::min(text.size(), line.size() + 1));
    }
}
// Without the blanks at its end: a carriage return, too.
inline std::string_view without_end(std::string_view text) {
    return text.substr(0, text.find_last_not_of(" \t\r\n") + 1);
}

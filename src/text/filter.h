// filter.h: rules that refuse a text by what can be counted in it, without a model: one table.
//
// The rules are those of MassiveText (Gopher, arXiv 2112.11446, appendix A) as far as they hold for every
// language and for code; DeepSeek LLM section 2.1 names none. The limits are [ours].
#pragma once
#include <string_view>
#include <vector>

struct Measures {                                        // of a text; shares of nothing are 0
    double words = 0;                                    // as words_of counts them
    double word_length = 0;                              // characters of one; 2 where most are Chinese
    double letters = 0, symbols = 0, broken = 0;         // shares of the characters that are no blanks
    double repeated_lines = 0;                          // share of the bytes, in lines that were there before
    double repeated_shingles = 0;                        // share of the shingles that were there before
};
Measures measure(std::string_view text);

struct Rule {
    const char *name, *what;
    double Measures::*value;
    double low, high;
    const char *reason;
    bool refuses(const Measures &m) const { return m.*value < low || m.*value > high; }
};
const std::vector<Rule> &filter_rules();

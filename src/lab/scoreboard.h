// scoreboard.h: the papers' headline claims, data/labs/claims.txt, and what came of them here.
#pragma once
#include <string>
#include <vector>

#include "src/lab/lab.h"

struct Claim {                                           // at most one of lab, test, reason is there
    std::string says, where, figure, lab, test, reason;
    std::vector<std::string> bars;                       // those of the lab that count; none: all
};
struct Paper {
    std::string tag, name;
    std::vector<Claim> claims;
};
std::vector<Paper> parse_claims(const std::string &text, const std::string &name);
std::vector<Paper> headline_claims();                    // of the program

// The page, in Markdown. RESULTS/NAME/verdict.json is what a lab found. Refuses a claim of an unknown lab or
// bar, a bar that no claim counts, and a verdict of another form of its lab or that its own numbers belie.
std::string scoreboard(const std::vector<Paper> &, const std::vector<Lab> &, const std::string &results);

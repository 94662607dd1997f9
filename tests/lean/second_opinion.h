// A second reading of the subset's rules, for tests only: see second_opinion.cpp.
#pragma once
#include <string>

// Is the text complete by the rules? If not, `why` is a hint for a human. `nat` admits equations on Nat.
bool second_opinion(const std::string &source, bool nat, std::string &why);

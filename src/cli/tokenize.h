// The verb `deepseek tokenize`: adds itself to the program's command line.
#pragma once
#include <CLI/CLI.hpp>

void add_tokenize_verb(CLI::App &program);

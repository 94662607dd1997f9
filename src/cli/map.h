// The verb `deepseek map`: adds itself to the program's command line.
#pragma once
#include <CLI/CLI.hpp>

void add_map(CLI::App &program);

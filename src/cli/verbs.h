// verbs.h: one function a verb, which adds it to the command line; and what all verbs share.
#pragma once
#include <CLI/CLI.hpp>

// A verb with --device, --threads and --kernels, and an example at the end of its --help.
CLI::App *add_verb(CLI::App &, const std::string &name, const std::string &what, const std::string &example);
void use_common();                                       // puts those three into force

void add_train(CLI::App &);
void add_map(CLI::App &);

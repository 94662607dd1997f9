// config.h: the table of a configuration's fields, presets, and the census of what a model costs.
#pragma once
#include <functional>

#include "deepseek.h"

struct Field {                                           // one row of the table
    const char *name, *help;
    std::function<std::string(const Config &)> get;
    std::function<void(Config &, const std::string &)> set;
};
const std::vector<Field> &config_fields();
void set_field(Config &, const std::string &assignment);  // "d_c=64"; unknown names get the nearest as answer
// Of assignments, the fields that this model does not read, and why; empty: it reads all.
std::string without_effect(const Config &, const std::vector<std::string> &assignments);
Config load_preset(const std::string &name_or_file);     // embedded, or a file of `field = value` lines
Config parse_config(const std::string &fields, const std::string &from);        // `field = value` lines
std::vector<std::string> preset_names();
void validate(const Config &);                           // refuses what cannot be built, naming the field
std::string print_config(const Config &);                // as a preset

struct Census {                                          // exact counts, before anything is built
    struct Part {
        std::string name;
        long total, activated;
    };
    std::vector<Part> parts;                             // activated: what one token multiplies with
    long total = 0, activated = 0;
    long mtp = 0;                                        // of the MTP modules, which the others leave out
    long cache_numbers, cache_numbers_MHA;               // per token and layer
    double flops_per_token;                              // forward and backward, at full context
};
Census census(const Config &);
std::string print_census(const Config &);
// Three measures of a dense model's size, in FLOPs per token; only M counts attention's scores.
double nominal_flops(int n_layers, int d, int l_seq);    // M
double nominal_6N1(int n_layers, int d);                 // of the matrices in the blocks
double nominal_6N2(int n_layers, int d, int V);          // and of the output head

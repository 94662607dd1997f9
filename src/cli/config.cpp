// config.cpp: `deepseek config`: a configuration, and what its model costs.
#include <cstdio>
#include <iostream>

#include "src/cli/verbs.h"
#include "src/model/config.h"
#include "src/model/huggingface.h"

namespace {
void print_fields(const Config &c) {
    for (const Field &field : config_fields())
        printf("  %-18s %-10s %s\n", field.name, field.get(c).c_str(), field.help);
}

struct ConfigVerb {
    std::string preset, model;
    std::vector<std::string> set;
    bool list = false, all = false;

    void options(CLI::App &v) {
        const auto by_name =
            v.add_option("--preset", preset, "a preset's name or file")->check(refuse_nothing);
        const auto by_folder = v.add_option("--model", model, "or a checkpoint's folder, or a config.json")
                                   ->excludes(by_name)
                                   ->check(refuse_nothing);
        v.add_option("--set", set, "field=value (repeatable)")->allow_extra_args(false);
        v.add_flag("--all", all, "every field, also those that have their usual value, with its meaning");
        v.add_flag("--list", list, "show presets, and the fields with their usual values")
            ->excludes(by_name)
            ->excludes(by_folder);
    }
    void run() const {
        if (preset.empty() && model.empty()) {
            expect(set.empty() && !all, all ? "--all" : "--set", ": needs --preset or --model");
            std::cout << "presets:";
            for (const auto &name : preset_names()) std::cout << " " << name;
            std::cout << "\nfields:" << std::endl;
            return print_fields({});
        }
        std::vector<std::string> cannot;                 // what stands between this and a computation here
        Config c = model.empty() ? load_preset(preset) : load_config_for_census(model, cannot);
        for (const auto &assignment : set) set_field(c, assignment);
        validate(c);
        if (all) print_fields(c);
        else std::cout << print_config(c) << "(the other fields have their usual values; --all shows them)\n";
        fflush(stdout);
        std::cout << "\n" << print_census(c);
        for (const std::string &what : cannot) std::cout << "only counted: " << what << "\n";
    }
};
}  // namespace

void add_config(CLI::App &program) {
    add_verb<ConfigVerb>(program, "config", "Show a configuration and what it costs",
                         "deepseek config --preset deepseek-v3");
}

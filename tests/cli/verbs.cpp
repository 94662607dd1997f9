// The command line: every option says what it is for.
#include <doctest/doctest.h>

#include "src/cli/verbs.h"

TEST_CASE("command line: every verb and every option has a description and a long name") {
    CLI::App program;
    for (auto add : {add_tokenize, add_train,   add_eval,    add_generate, add_chat,    add_data, add_export,
                     add_config,   add_op,      add_loss,    add_dump,     add_check,   add_tape, add_bench,
                     add_map,      add_measure, add_scaling, add_task,     add_rollout, add_lab,  add_lean})
        add(program);
    std::vector<const CLI::App *> verbs;
    for (const CLI::App *verb : program.get_subcommands({})) {
        verbs.push_back(verb);
        for (const CLI::App *part : verb->get_subcommands({})) verbs.push_back(part);
    }
    CHECK(verbs.size() == 21 + 2);
    for (const CLI::App *verb : verbs) {
        INFO(verb->get_name());
        CHECK(!verb->get_description().empty());
        for (const CLI::Option *option : verb->get_options()) {
            INFO(option->get_name());
            CHECK(!option->get_description().empty());
            CHECK((option->get_positional() || !option->get_lnames().empty()));
        }
    }
}

TEST_CASE("command line: between refuses what is no number, NaN included") {
    const auto refused = [](const std::string &text) {
        std::string input = text;
        return !between(0, 2)(input).empty();
    };
    CHECK(!refused("0"));
    CHECK(!refused("2"));
    for (const char *text : {"2.5", "-1", "nan", "inf", "many", ""}) {
        INFO(text);
        CHECK(refused(text));
    }
}

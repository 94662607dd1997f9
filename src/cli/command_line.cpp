// command_line.cpp: the options that verbs share, and what the program says when it cannot do as told.
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <omp.h>

#include "src/base/error.h"
#include "src/base/fields.h"
#include "src/base/files.h"
#include "src/base/progress.h"
#include "src/base/text.h"
#include "src/cli/verbs.h"
#include "src/tensor/call.h"

CLI::Validator between(double low, double high) {
    const auto check = [low, high](const std::string &text) {
        double x;
        const bool inside = CLI::detail::lexical_cast(text, x) && x >= low && x <= high;
        return inside ? std::string() : cat(text, " is not between ", format(low), " and ", format(high));
    };
    return CLI::Validator(check, cat(format(low), "..", format(high)), "between");
}

std::string refuse_nothing(const std::string &text) { return text.empty() ? "is empty" : ""; }

void expect_replaceable(const std::string &file, const std::vector<std::string> &read) {
    std::error_code none;
    for (const std::string &other : read)
        if (!other.empty() &&
            std::filesystem::weakly_canonical(file, none) == std::filesystem::weakly_canonical(other, none))
            fail(file + ": would be written over while it is read", "name another file");
    const auto folder = std::filesystem::weakly_canonical(file, none).parent_path();
    if (exists(file) && exists(folder / "config.json"))
        fail(file + ": belongs to a model (config.json is beside it)", "name another file");
    const AtomicFile can_be_written(file);
}

void Common::options(CLI::App &verb) {
    verb.add_option("--device", device, "where to compute; checked: on both, compared op by op")
        ->check(CLI::IsMember({"cpu", "cuda", "checked"}))
        ->capture_default_str();
    verb.add_option("--threads", threads, "of the CPU; 0: all")->check(between(0, 1024));
    verb.add_option("--kernels", kernels, "plain: the equations as they are read")
        ->check(CLI::IsMember({"fast", "plain"}))
        ->capture_default_str();
}

void Common::use() const {
    if (threads) omp_set_num_threads(threads);
    use_kernels(kernels == "fast" ? Kernels::fast : Kernels::plain);
    ::device = device_named(device);
}

static int complain(const std::string &cause, const std::string &hint) {
    std::cerr << "deepseek: " << cause << "\n";
    if (!hint.empty()) std::cerr << "  " << hint << "\n";
    return 2;
}

// CLI11 knows what is wrong; what was meant is told here: the options, or the choices {a,b}, nearest to it.
static std::string hint_for(const CLI::ParseError &e, const CLI::App &verb) {
    std::string words;                                   // scaling plan
    for (const CLI::App *v = &verb; v->get_parent(); v = v->get_parent()) words = v->get_name() + " " + words;
    const std::string cause = e.what(), help = cat("`deepseek ", words, "--help` shows the options");
    std::vector<std::string> known;
    const std::vector<std::string> left = verb.remaining();
    if (!left.empty()) {
        for (const CLI::Option *option : verb.get_options()) known.push_back(option->get_name());
        return did_you_mean(left[0], known, help);
    }
    const size_t colon = cause.find(": "), open = cause.find(" not in {");
    if (colon > open || open == std::string::npos) return help;
    std::istringstream choices(cause.substr(cause.find('{') + 1));
    for (std::string choice; std::getline(choices, choice, ',');)
        known.push_back(choice.substr(0, choice.find('}')));
    return did_you_mean(cause.substr(colon + 2, open - colon - 2), known, help);
}

static int run_verb(CLI::App &program, int argc, char **argv) {
    std::vector<std::string> verbs;
    for (const CLI::App *v : program.get_subcommands({})) verbs.push_back(v->get_name());
    if (argv[1][0] != '-' && !std::count(verbs.begin(), verbs.end(), argv[1]))
        return complain(cat("no verb '", argv[1], "'"),
                        did_you_mean(argv[1], verbs, "`deepseek --help` shows all"));
    try {
        program.parse(argc, argv);
        return 0;
    } catch (const CLI::CallForHelp &e) {
        return program.exit(e);
    } catch (const CLI::RuntimeError &e) {
        return e.get_exit_code();
    } catch (const CLI::ParseError &e) {
        const CLI::App *named = &program;
        while (!named->get_subcommands().empty()) named = named->get_subcommands()[0];
        return complain(e.what(), hint_for(e, *named));
    } catch (const Interrupted &) {
        return 130;
    } catch (const Error &e) {
        return complain(e.what(), e.hint);
    } catch (const std::filesystem::filesystem_error &e) {
        return complain(cat(e.path1().string(), ": ", e.code().message()), "");
    } catch (const std::exception &e) {
        std::cerr << "deepseek: " << e.what() << "\n";
        return 1;
    }
}

// What a verb has printed is its result: a full disk behind > must not look like success.
int run_command_line(CLI::App &program, int argc, char **argv) {
    if (argc < 2) std::cout << program.help();
    const int code = argc < 2 ? 0 : run_verb(program, argc, argv);
    errno = 0;
    std::cout.flush();
    const bool lost = fflush(stdout) != 0 || ferror(stdout) || !std::cout;
    if (code || !lost) return code;
    return complain(
        cat("standard output: cannot be written", errno ? ": " : "", errno ? strerror(errno) : ""), "");
}

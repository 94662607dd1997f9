// main.cpp: the test program. doctest's own options select tests:  -tc="rmsnorm*"  runs one op's guards,
// -s  shows every comparison with its numbers, -ltc lists the names. A filter that matches no test fails.
// TEST_DEVICE=cuda or checked: tests that choose no device run there. The guards of every op and layer can;
// tests that read a tensor's memory as the host's cannot. TEST_SEED=n: other random numbers in all of them.
#define DOCTEST_CONFIG_IMPLEMENT
#include <cstdio>
#include <cstdlib>
#include <doctest/doctest.h>
#include <iostream>

#include "src/rl/task.h"
#include "src/tensor/call.h"

namespace {

unsigned matched = 0;

struct Counting : doctest::IReporter {
    explicit Counting(const doctest::ContextOptions &) {}
    void report_query(const doctest::QueryData &) override {}
    void test_run_start() override {}
    void test_run_end(const doctest::TestRunStats &run) override { matched = run.numTestCasesPassingFilters; }
    void test_case_start(const doctest::TestCaseData &) override {}
    void test_case_reenter(const doctest::TestCaseData &) override {}
    void test_case_end(const doctest::CurrentTestCaseStats &) override {}
    void test_case_exception(const doctest::TestCaseException &) override {}
    void subcase_start(const doctest::SubcaseSignature &) override {}
    void subcase_end() override {}
    void log_assert(const doctest::AssertData &) override {}
    void log_message(const doctest::MessageData &) override {}
    void test_case_skipped(const doctest::TestCaseData &) override {}
};
REGISTER_LISTENER("counting", 1, Counting);

}  // namespace

int main(int argc, char **argv) {
    tasks_become_games();
    try {
        if (const char *name = getenv("TEST_DEVICE")) device = device_named(name);
    } catch (const Error &error) {
        std::cerr << "tests: " << error.what() << "\n";
        return 2;
    }
    doctest::Context context(argc, argv);
    const int failed = context.run();
    if (context.shouldExit() || matched > 0) return failed;
    std::fprintf(stderr, "tests: no test case of this build matches the filter; -ltc lists their names\n");
    return 1;
}

// main.cpp: the test program. doctest's own options select tests:  -tc="rmsnorm*"  runs one op's guards,
// -s  shows every comparison with its numbers, -ltc lists the names. Nothing is printed after its summary.
// TEST_DEVICE=cuda or checked: tests that choose no device run there. The guards of every op and layer can;
// tests that read a tensor's memory as the host's cannot.
#define DOCTEST_CONFIG_IMPLEMENT
#include <cstdlib>
#include <doctest/doctest.h>
#include <iostream>

#include "src/tensor/call.h"

int main(int count, char **arguments) {
    try {
        if (const char *name = getenv("TEST_DEVICE")) device = device_named(name);
    } catch (const Error &error) {
        std::cerr << "tests: " << error.what() << "\n";
        return 2;
    }
    return doctest::Context(count, arguments).run();
}

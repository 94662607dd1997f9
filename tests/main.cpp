// main.cpp: the test program. doctest's own options select tests:  -tc="rmsnorm*"  runs one op's guards,
// -s  shows every comparison with its numbers, -ltc lists the names. Nothing is printed after its summary.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

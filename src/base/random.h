// random.h: random numbers, all from one mixing function.
//
// A model's numbers are a pure function of (seed, stream, row, position): the same on both devices, whatever
// the batching. Where a program rolls one number after the other (stories, theorems), Random counts for it.
#pragma once
#include <string_view>

#include "src/base/numerics.h"

BOTH uint64_t mix(uint64_t z) {                                           // the finaliser of splitmix64
    z += 0x9E3779B97F4A7C15ull;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}
BOTH uint64_t random_bits(uint64_t seed, uint64_t stream, uint64_t row, uint64_t position) {
    return mix(mix(mix(mix(seed) ^ stream) ^ row) ^ position);
}
BOTH double uniform(uint64_t seed, uint64_t stream, uint64_t row, uint64_t position) {      // in (0, 1)
    return ((random_bits(seed, stream, row, position) >> 12) + 0.5) * (1.0 / 4503599627370496.0);
}
BOTH double normal(uint64_t seed, uint64_t stream, uint64_t row, uint64_t position) {       // Box-Muller
    const double u = uniform(seed, stream, row, 2 * position);
    const double v = uniform(seed, stream, row, 2 * position + 1);
    return sqrt(-2 * log(u)) * cos(6.28318530717958647692 * v);
}

struct Random {                                     // splitmix64: every roll is a function of the ones before
    uint64_t state;
    uint64_t next() {
        const uint64_t z = mix(state);
        state += 0x9E3779B97F4A7C15ull;
        return z;
    }
    int below(int n) { return int(next() % uint64_t(n)); }
    bool chance(int percent) { return below(100) < percent; }
    double uniform() { return ((next() >> 12) + 0.5) * (1.0 / 4503599627370496.0); }        // in (0, 1)
};

constexpr uint64_t hash_of(std::string_view text, uint64_t h = 0xCBF29CE484222325ull) {    // FNV-1a
    for (unsigned char c : text) h = (h ^ c) * 0x100000001B3ull;
    return h;
}

// pool.h: blocks of memory in power-of-two bins. The system is asked for nothing after a first training step.
#pragma once
#include <bit>
#include <cstddef>
#include <vector>

struct Pool {
    void *(*raw_allocate)(size_t bytes);
    std::vector<void *> free_blocks[48] = {};
    long system_allocations = 0;
    size_t held = 0, peak = 0;

    static int bin_of(size_t bytes) { return bytes <= 256 ? 8 : std::bit_width(bytes - 1); }
    void *take(size_t bytes);
    void give(void *block, size_t bytes);
};

// on_device.h: numbers on the device, for tests of the words that kernels are written in.
#pragma once
#include <vector>

#include "src/cuda/cuda_on_cpu.h"

template <class T> struct OnDevice {                   // n numbers on the device
    T *p;
    size_t n;
    explicit OnDevice(size_t n) : p(static_cast<T *>(device_alloc(n * sizeof(T)))), n(n) {}
    explicit OnDevice(const std::vector<T> &v) : OnDevice(v.size()) { copy_up(p, v.data(), n * sizeof(T)); }
    ~OnDevice() { device_free(p); }
    OnDevice(const OnDevice &) = delete;
    std::vector<T> down() const {
        std::vector<T> v(n);
        copy_down(v.data(), p, n * sizeof(T));
        return v;
    }
};

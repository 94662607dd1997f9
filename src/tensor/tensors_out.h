// tensors_out.h: tensors on their way into a safetensors file.
#pragma once
#include <list>

#include "src/base/safetensors.h"
#include "src/tensor/tensor.h"

struct TensorsOut {                                      // keeps the numbers until the file is written
    std::vector<TensorOut> tensors;
    std::list<std::vector<real>> numbers;
    std::list<std::vector<int>> integers;
    void add(const std::string &name, const Shape &shape, const std::vector<real> &x) {
        numbers.push_back(x);
        tensors.push_back({name,
                           sizeof(real) == 4 ? "F32" : "F64",
                           {shape.d, shape.d + shape.rank},
                           numbers.back().data()});
    }
    void add(const std::string &name, const Shape &shape, const std::vector<int> &x) {
        integers.push_back(x);
        tensors.push_back({name, "I32", {shape.d, shape.d + shape.rank}, integers.back().data()});
    }
    void add(const std::string &name, const Tensor &t) {
        if (t.s->type == INTS) add(name, t.shape, int_values(t));
        else add(name, t.shape, values(t));
    }
};

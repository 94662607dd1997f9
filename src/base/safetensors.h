// safetensors.h: the file format of Hugging Face checkpoints.
//
// What it is not: it knows nothing of models. Which tensors a checkpoint needs is
// the business of those who call.
//
//   [1] in    read_safetensors, parse_safetensors, read_reals, read_ints
//   [2] out   write_safetensors
//   [3] a model's weights: read_model_files: one file, or an index and the shards that it names
#pragma once
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "src/base/files.h"

// ---------------------------------------------------------------- [1] in

// One tensor of a file: a view, valid as long as its file. The data may lie at any address: read
// it with the functions below.
struct TensorEntry {
    std::string where;                      // for messages: "model.safetensors: tensor 'lm_head.weight'"
    std::string dtype;                      // "F32", "BF16", ...: also one that we cannot read
    std::vector<long> shape;                // in C order; empty: a single number
    const uint8_t *data = nullptr;
    size_t bytes = 0;
    long numel() const;
};

struct Safetensors {
    Mapping file;
    std::map<std::string, TensorEntry> tensors;
    std::map<std::string, std::string> metadata;
};

Safetensors read_safetensors(const std::string &path);
Safetensors parse_safetensors(const uint8_t *data, size_t size, const std::string &name);  // borrows data

size_t dtype_size(const std::string &dtype);                        // bytes of an element; 0: unknown

// The numbers of a tensor, numel() of them. From F32, F64, BF16 and F16; every conversion is exact but F64 to
// float, which rounds to nearest.
void read_reals(const TensorEntry &tensor, float *out);
void read_reals(const TensorEntry &tensor, double *out);
void read_ints(const TensorEntry &tensor, int32_t *out);            // from I32, and I64 within int32

// ---------------------------------------------------------------- [2] out

// The nearest number of 16 bits, ties to even; what is too large becomes infinity, and NaN stays NaN.
uint16_t bf16_bits(double x);
uint16_t f16_bits(double x);

struct TensorOut {
    std::string name, dtype;                // F32, F64, I32, ...; BF16, F16: `data` holds 16-bit patterns
    std::vector<long> shape;
    const void *data;
    std::function<const void *()> made = {};     // instead of data: called when its turn comes, read at once
};

// Whatever the order of `tensors`, the file holds them by decreasing element size, then by name,
// behind a header padded with spaces to a multiple of 8: so every element is aligned, and the same
// tensors always make the same file.
void write_safetensors(const std::string &path, std::vector<TensorOut> tensors,
                       const std::map<std::string, std::string> &metadata = {{"format", "pt"}});

// ---------------------------------------------------------------- [3] a model's weights

struct ModelFiles {
    std::vector<Mapping> files;
    std::map<std::string, TensorEntry> tensors;             // of all files
    std::map<std::string, std::string> metadata;            // of all files; the first to name a key wins
};

ModelFiles read_model_files(const std::string &directory);

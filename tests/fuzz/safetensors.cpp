// libFuzzer target: any bytes are a safetensors file, or an Error.
//
// Random bytes almost never begin with the length of their own header, so an odd first byte asks for help:
// the next two bytes are taken as that length, and the file is what follows.
#include <cstdlib>
#include <cstring>
#include "src/base/error.h"
#include "src/base/json.h"
#include "src/base/safetensors.h"

static void require(bool condition) {
    if (!condition) std::abort();
}

// What a reader of the weights does, and what it may rely on.
static void use(const Safetensors &model, const uint8_t *data, size_t size) {
    size_t bytes = 0;
    for (const auto &[name, tensor] : model.tensors) {
        require(tensor.data >= data && tensor.bytes <= size_t(data + size - tensor.data));
        bytes += tensor.bytes;
        if (dtype_size(tensor.dtype) == 0) continue;
        require(size_t(tensor.numel()) * dtype_size(tensor.dtype) == tensor.bytes);
        std::vector<double> reals(size_t(tensor.numel()));
        std::vector<int32_t> ints(size_t(tensor.numel()));
        try {
            read_reals(tensor, reals.data());
        } catch (const Error &) {}
        try {
            read_ints(tensor, ints.data());
        } catch (const Error &) {}
    }
    uint64_t n = 0;
    std::memcpy(&n, data, 8);
    require(8 + n + bytes == size);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    std::vector<uint8_t> file;
    if (size >= 3 && data[0] % 2 == 1) {
        const uint64_t n = data[1] + 256u * data[2];
        file.resize(8 + size - 3);
        std::memcpy(file.data(), &n, 8);
        std::memcpy(file.data() + 8, data + 3, size - 3);
    } else if (size >= 1) {
        file.assign(data + 1, data + size);
    }
    file.shrink_to_fit();                                   // so that a read beyond the end is seen
    try {
        use(parse_safetensors(file.data(), file.size(), "fuzz"), file.data(), file.size());
    } catch (const Error &error) {
        require(std::strchr(error.what(), '\n') == nullptr);
    }
    return 0;
}

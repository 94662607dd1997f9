// safetensors.cpp: the checks of the format, in the order of the file.
//
//   [1] in   [2] out   [3] a model's weights
#include "src/base/safetensors.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <optional>
#include <set>

#include "src/base/error.h"
#include "src/base/json.h"
#include "src/base/utf8.h"

static_assert(std::endian::native == std::endian::little, "the numbers of safetensors are little-endian");

// ---------------------------------------------------------------- [1] in
//
//   8 bytes   N, little-endian
//   N bytes   JSON: {"__metadata__": {}, "w": {"dtype": "F32", "shape": [2,3], "data_offsets": [0,24]}, ...}
//   the rest  the numbers; offsets count from here, and the tensors cover it without hole or overlap

constexpr uint64_t most_header = 100'000'000;               // bytes; the format's own limit
constexpr uint64_t most_integer = 1ull << 53;               // beyond it, readers that use doubles see another

// Types newer than this list are let through with their size unchecked, and refused when someone reads them.
size_t dtype_size(const std::string &dtype) {
    static const std::map<std::string, size_t> sizes = {
        {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"F8_E8M0", 1},
        {"I16", 2},  {"U16", 2}, {"F16", 2}, {"BF16", 2},    {"I32", 4},     {"U32", 4},
        {"F32", 4},  {"I64", 8}, {"U64", 8}, {"F64", 8}};
    const auto at = sizes.find(dtype);
    return at == sizes.end() ? 0 : at->second;
}

// The product of a shape, or nothing if it does not fit. Zeros are left out while it is formed, so that the
// product of any part of an accepted shape fits too.
static std::optional<long> product(const std::vector<long> &shape) {
    long n = 1;
    for (long d : shape)
        if (d != 0 && __builtin_mul_overflow(n, d, &n)) return std::nullopt;
    return std::count(shape.begin(), shape.end(), 0) ? 0 : n;
}

long TensorEntry::numel() const { return product(shape).value(); }

static std::string_view header_of(const uint8_t *data, size_t size, const std::string &name) {
    const char *hint = "is it a safetensors file, downloaded to its end (and not a Git LFS pointer)?";
    if (size < 8) fail(cat(name, ": ", size, " bytes are too few for a safetensors file"), hint);
    uint64_t n = 0;
    std::memcpy(&n, data, 8);
    const std::string claim = cat(name, ": claims a header of ", n, " bytes, ");
    if (n > most_header) fail(cat(claim, "but at most ", most_header, " are allowed"), hint);
    if (n > size - 8) fail(cat(claim, "but only ", size - 8, " follow"), hint);
    return {reinterpret_cast<const char *>(data) + 8, size_t(n)};
}

static std::vector<long> get_naturals(const JsonObject &object, const char *key) {
    const Json &list = need(object, key);
    expect(list.is_array(), object.name, ": ", key, " is ", shown_json(list), ", not a list");
    std::vector<long> numbers;
    for (const Json &number : list) {
        expect(number.is_number_unsigned() && number.get<uint64_t>() <= most_integer, object.name, ": ", key,
               " holds ", shown_json(number), ", not an integer of 0 .. 2^53");
        numbers.push_back(number.get<long>());
    }
    return numbers;
}

static TensorEntry read_entry(const JsonObject &object, const uint8_t *data, size_t size) {
    const std::string &where = object.name;
    TensorEntry entry;
    entry.where = where;
    entry.dtype = get_string(object, "dtype");
    entry.shape = get_naturals(object, "shape");
    const std::vector<long> offsets = get_naturals(object, "data_offsets");
    expect(offsets.size() == 2, where, ": data_offsets has ", offsets.size(), " numbers, not 2");
    const size_t begin = size_t(offsets[0]), end = size_t(offsets[1]);
    expect(begin <= end, where, ": ends at ", end, ", before its begin at ", begin);
    expect(end <= size, where, ": ends at ", end, ", beyond the ", size, " bytes of data");
    entry.data = data + begin;
    entry.bytes = end - begin;
    const std::optional<long> n = product(entry.shape);
    expect(n, where, ": its shape has more elements than can be counted");
    const size_t each = dtype_size(entry.dtype);
    expect(each == 0 || (entry.bytes % each == 0 && entry.bytes / each == size_t(*n)), where, ": ", *n,
           " elements of ", entry.dtype, " do not take ", entry.bytes, " bytes");
    return entry;
}

static std::map<std::string, std::string> read_metadata(const JsonObject &object) {
    std::map<std::string, std::string> metadata;
    for (const auto &[key, value] : object.json.items()) {
        expect(value.is_string(), object.name, ": ", in_quotes(key), " is ", shown_json(value),
               ", not a text");
        metadata[key] = value.get<std::string>();
    }
    return metadata;
}

// Laid side by side in the order of their data, the tensors must cover it: a hole could hide something, and
// an overlap makes two weights of one.
static void check_cover(const Safetensors &model, const uint8_t *data, size_t size, const std::string &name) {
    std::vector<const TensorEntry *> order;
    for (const auto &[key, entry] : model.tensors) order.push_back(&entry);
    std::sort(order.begin(), order.end(), [](const TensorEntry *a, const TensorEntry *b) {
        return std::pair(a->data, a->bytes) < std::pair(b->data, b->bytes);
    });
    const uint8_t *covered = data;
    for (const TensorEntry *entry : order) {
        expect(entry->data >= covered, entry->where, ": overlaps the tensor before it");
        expect(entry->data == covered, entry->where, ": ", entry->data - covered, " unused bytes before it");
        covered += entry->bytes;
    }
    const size_t rest = size_t(data + size - covered);
    expect(rest == 0, name, ": ", rest, " bytes at the end belong to no tensor");
}

Safetensors parse_safetensors(const uint8_t *data, size_t size, const std::string &name) {
    const std::string_view text = header_of(data, size, name);
    const Json json = parse_json(text, name + ": header");
    const JsonObject header(json, name + ": header");
    const uint8_t *numbers = data + 8 + text.size();
    const size_t bytes = size - 8 - text.size();
    Safetensors model;
    for (const auto &[key, value] : header.json.items()) {
        const std::string what = key == "__metadata__" ? key : cat("tensor ", in_quotes(key));
        const JsonObject entry(value, cat(name, ": ", what));
        if (key == "__metadata__") model.metadata = read_metadata(entry);
        else model.tensors[key] = read_entry(entry, numbers, bytes);
    }
    check_cover(model, numbers, bytes, name);
    return model;
}

Safetensors read_safetensors(const std::string &path) {
    Mapping file(path);
    Safetensors model = parse_safetensors(file.data, file.size, path);
    model.file = std::move(file);
    return model;
}

// Calls store(i, number) for each element, whatever its alignment.
template <class Number, class Store> static void each(const TensorEntry &tensor, Store store) {
    const long n = tensor.numel();
    assert(tensor.bytes == size_t(n) * sizeof(Number));
    for (long i = 0; i < n; i++) {
        Number number;
        std::memcpy(&number, tensor.data + size_t(i) * sizeof number, sizeof number);
        store(i, number);
    }
}

static float from_bf16(uint16_t bits) { return std::bit_cast<float>(uint32_t(bits) << 16); }

// 1 bit of sign, 5 of exponent (bias 15), 10 of mantissa.
static float from_f16(uint16_t bits) {
    const uint32_t sign = uint32_t(bits & 0x8000) << 16, exponent = bits >> 10 & 31, mantissa = bits & 1023;
    if (exponent == 0) return (sign ? -1.0f : 1.0f) * float(mantissa) * 0x1p-24f;           // subnormal
    const uint32_t wide = exponent == 31 ? 255 : exponent - 15 + 127;                       // 31: inf and NaN
    return std::bit_cast<float>(sign | wide << 23 | mantissa << 13);
}

[[noreturn]] static void refuse_dtype(const TensorEntry &tensor, const char *wanted) {
    const bool fp8 = tensor.dtype.starts_with("F8_");
    fail(cat(tensor.where, ": is of type ", in_quotes(tensor.dtype), "; ", wanted, " can be read here"),
         fp8 ? "FP8 weights with their scales cannot be read yet: convert the model to BF16" : "");
}

template <class Real> static void read_as(const TensorEntry &tensor, Real *out) {
    const std::string &type = tensor.dtype;
    if (type == "F32") each<float>(tensor, [&](long i, float x) { out[i] = Real(x); });
    else if (type == "F64") each<double>(tensor, [&](long i, double x) { out[i] = Real(x); });
    else if (type == "BF16") each<uint16_t>(tensor, [&](long i, uint16_t x) { out[i] = from_bf16(x); });
    else if (type == "F16") each<uint16_t>(tensor, [&](long i, uint16_t x) { out[i] = from_f16(x); });
    else refuse_dtype(tensor, "F32, F64, BF16 and F16");
}

void read_reals(const TensorEntry &tensor, float *out) { read_as(tensor, out); }
void read_reals(const TensorEntry &tensor, double *out) { read_as(tensor, out); }

void read_ints(const TensorEntry &tensor, int32_t *out) {
    if (tensor.dtype == "I32") {
        each<int32_t>(tensor, [&](long i, int32_t x) { out[i] = x; });
    } else if (tensor.dtype == "I64") {
        each<int64_t>(tensor, [&](long i, int64_t x) {
            expect(x == int32_t(x), tensor.where, ": element ", i, " is ", x, ", beyond 32 bits");
            out[i] = int32_t(x);
        });
    } else {
        refuse_dtype(tensor, "I32 and I64");
    }
}

// ---------------------------------------------------------------- [2] out

// Numbers of one exponent e are multiples of 2^(e - mantissa); below the lowest exponent they are so, too. So
// x is rounded to a whole number m of these steps, and as the leading 1 of m counts one up in the exponent,
// the pattern is a sum: of a subnormal as of a normal number, and of one that was rounded up to the next 2^e.
static uint16_t rounded(double x, int mantissa, int lowest) {
    const uint16_t infinity = uint16_t(0x7FFF >> mantissa << mantissa), sign = std::signbit(x) ? 0x8000 : 0;
    if (std::isnan(x)) return uint16_t(sign | infinity | 1 << (mantissa - 1));
    const int e = x == 0 ? lowest : std::max(std::min(std::ilogb(x), 1 - lowest), lowest);
    const double steps = std::nearbyint(std::ldexp(std::fabs(x), mantissa - e));
    const double pattern = steps + (double)((long)(e - lowest) << mantissa);
    return uint16_t(sign | (pattern < infinity ? (uint16_t)pattern : infinity));
}
uint16_t bf16_bits(double x) { return rounded(x, 7, -126); }
uint16_t f16_bits(double x) { return rounded(x, 10, -14); }

static size_t bytes_of(const TensorOut &tensor) {
    const size_t each = dtype_size(tensor.dtype);
    const std::optional<long> n = product(tensor.shape);
    assert(each > 0 && n && *n >= 0);                       // a type we know, a shape that exists
    return each * size_t(*n);
}

void write_safetensors(const std::string &path, std::vector<TensorOut> tensors,
                       const std::map<std::string, std::string> &metadata) {
    std::sort(tensors.begin(), tensors.end(), [](const TensorOut &a, const TensorOut &b) {
        return std::pair(dtype_size(b.dtype), a.name) < std::pair(dtype_size(a.dtype), b.name);
    });
    Json header = Json::object(), notes = Json::object();
    for (const auto &[key, value] : metadata) append(notes, key, value);
    if (!metadata.empty()) append(header, "__metadata__", notes);
    std::set<std::string> names = {"__metadata__"};
    size_t end = 0;
    for (const TensorOut &tensor : tensors) {
        expect(names.insert(tensor.name).second, path, ": the name ", in_quotes(tensor.name), " is taken");
        const size_t begin = end;
        end += bytes_of(tensor);
        append(header, tensor.name,
               {{"dtype", tensor.dtype}, {"shape", tensor.shape}, {"data_offsets", {begin, end}}});
    }
    std::string text = dump(header, -1);
    text.resize((text.size() + 7) / 8 * 8, ' ');
    expect(text.size() <= most_header, path, ": the header would be longer than the format allows");
    const uint64_t n = text.size();
    AtomicFile file(path);
    file.write(&n, 8);
    file.write(text.data(), text.size());
    for (const TensorOut &tensor : tensors)
        file.write(tensor.made ? tensor.made() : tensor.data, bytes_of(tensor));
    file.commit();
}

// ---------------------------------------------------------------- [3] a model's weights

constexpr size_t most_index = 64'000'000;                   // bytes

// A shard lies beside its index: a name that could lead elsewhere is refused.
static void check_shard_name(const std::string &file, const std::string &index) {
    bool plain = !file.empty() && file.find("..") == file.npos;
    for (char c : file) plain = plain && c != '/' && c != '\\' && (unsigned char)c >= 0x20;
    expect(plain, index, ": ", in_quotes(file), " is not the name of a file in the same directory");
}

static void add(ModelFiles &model, Safetensors &&part) {
    model.tensors.merge(part.tensors);
    model.metadata.merge(part.metadata);
    model.files.push_back(std::move(part.file));
}

// The index says which shard holds which tensor, and each shard what it holds: both must tell the same story.
static ModelFiles read_shards(const std::string &directory, const std::string &index) {
    const Json json = parse_json(read_text(index, most_index), index);
    const JsonObject weight_map = get_object(JsonObject(json, index), "weight_map");
    std::map<std::string, std::set<std::string>> shards;                            // each file, its tensors
    for (const auto &[tensor, file] : weight_map.json.items()) {
        const std::string *name = file.get_ptr<const std::string *>();
        expect(name, weight_map.name, ": ", in_quotes(tensor), " is ", shown_json(file),
               ", not a file's name");
        check_shard_name(*name, weight_map.name);
        shards[*name].insert(tensor);
    }
    expect(!shards.empty(), index, ": weight_map names no tensor");
    ModelFiles model;
    for (const auto &[file, names] : shards) {
        Safetensors part = read_safetensors(directory + "/" + file);
        for (const std::string &name : names)
            expect(part.tensors.count(name), index, ": no tensor ", in_quotes(name), " in ", in_quotes(file));
        for (const auto &[name, entry] : part.tensors)
            expect(names.count(name), entry.where, ": the index does not say that it is here");
        add(model, std::move(part));
    }
    return model;
}

ModelFiles read_model_files(const std::string &directory) {
    expect(exists(directory), directory, ": there is no such directory");
    expect(is_directory(directory), directory, ": is a file, and a model is a directory");
    const std::string single = directory + "/model.safetensors", index = single + ".index.json";
    if (exists(single)) {
        ModelFiles model;
        add(model, read_safetensors(single));
        return model;
    }
    if (exists(index)) return read_shards(directory, index);
    for (const char *name : {"/pytorch_model.bin", "/pytorch_model.bin.index.json"})
        if (exists(directory + name))
            fail(cat(directory, name, ": pickled weights are not read, for they can hold any program"),
                 "convert the model to safetensors");
    fail(cat(directory, ": has neither model.safetensors nor model.safetensors.index.json"));
}

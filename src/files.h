// Files in and out: whole files, JSON, and safetensors, the file format of Hugging Face checkpoints.
//
// Every byte that comes in is hostile until it has been checked. A damaged or malicious file ends in one
// line that names the file and the place (an Error, see error.h): never in a crash, and never in an
// allocation that is large only because the file said so. What goes out appears whole or not at all.
//
// What it is not: it knows nothing of models. Which keys a config.json has and which tensors a checkpoint
// needs is the business of those who call.
//
//   [1] whole files        Mapping, read_text, AtomicFile, write_atomically, files_below
//   [2] JSON               parse_json, dump_json, get_int, get_real, get_bool, get_string
//   [3] safetensors, in    read_safetensors, parse_safetensors, read_reals, read_ints
//   [4] safetensors, out   write_safetensors
//   [5] a model's weights  read_model_files: one file, or an index and the shards that it names
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>
#include <nlohmann/json.hpp>

// ---------------------------------------------------------------- [1] whole files

// A file in memory, read-only: its pages come from the disk when they are touched, so opening a large
// checkpoint takes no time and no memory. It stays readable when the file is replaced by a new one (as
// write_atomically does); a program that shortens the file in place breaks it, as it breaks any mapping.
struct Mapping {
    const uint8_t *data = nullptr;
    size_t size = 0;

    Mapping() = default;
    explicit Mapping(const std::string &path);              // refuses what is missing, empty, no plain file
    Mapping(Mapping &&other) noexcept;
    Mapping &operator=(Mapping &&other) noexcept;
    ~Mapping();
};

// A file that appears whole or not at all: the bytes go to a temporary file beside it, and only commit()
// gives them the name, after they are safely on the disk. Without a commit() nothing is left behind.
class AtomicFile {
public:
    explicit AtomicFile(const std::string &path);
    AtomicFile(const AtomicFile &) = delete;
    AtomicFile &operator=(const AtomicFile &) = delete;
    ~AtomicFile();
    void write(const void *data, size_t bytes);
    void commit();

private:
    [[noreturn]] void refuse(const char *action);
    std::string path, temporary;
    int file = -1;
};

void write_atomically(const std::string &path, std::string_view text);
std::vector<std::string> files_below(const std::string &path);     // of a folder, sorted; or just this file
std::string read_text(const std::string &path, size_t limit);      // limit: the most bytes it may have

// ---------------------------------------------------------------- [2] JSON

// Keys stay in the order of the file. Looking a key up walks over all of them, so go through a large object
// (a vocabulary, a weight map) with a loop over items(), and add to one with append().
using Json = nlohmann::ordered_json;

constexpr size_t json_depth = 64;                                  // objects and arrays inside each other
constexpr size_t json_values = 4'000'000;                          // of one text: they bound its memory

// Strict: no comments, no trailing comma, no byte order mark, no key twice in an object, valid UTF-8, no
// number beyond a double. An integer beyond 64 bits becomes a real (Hugging Face has 10^30 for "no limit"),
// which get_int refuses. `name` is what errors call the text: `config.json: line 3, column 17: ...`.
Json parse_json(std::string_view text, const std::string &name);
std::string dump_json(const Json &json);                           // indented; 1.0 stays 1.0, NaN is refused
void append(Json &object, const std::string &key, Json value);     // a key that is not there yet

// An object and the name that errors give it. The getters answer with the value or an error that names file
// and key; a key that is missing gives `otherwise`, where there is one. A null is a value, of none of these
// types (what it means depends on the key): ask given().
struct JsonObject {
    const Json &json;
    std::string name;

    JsonObject(const Json &json, const std::string &name);
    JsonObject(Json &&, const std::string &) = delete;              // it would outlive what it points to
};
bool given(const JsonObject &object, const char *key);              // there, and not null
long get_int(const JsonObject &object, const char *key, long low, long high,
             std::optional<long> otherwise = std::nullopt);         // a JSON integer: 64, not 64.0
double get_real(const JsonObject &object, const char *key, double low, double high,
                std::optional<double> otherwise = std::nullopt);    // an integer will do
bool get_bool(const JsonObject &object, const char *key, std::optional<bool> otherwise = std::nullopt);
std::string get_string(const JsonObject &object, const char *key,
                       const std::optional<std::string> &otherwise = std::nullopt);
JsonObject get_object(const JsonObject &object, const char *key);

// ---------------------------------------------------------------- [3] safetensors, in

// One tensor of a file: a view, valid as long as its file. The data may lie at any address: read it with the
// functions below.
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

// ---------------------------------------------------------------- [4] safetensors, out

struct TensorOut {
    std::string name, dtype;                // F32, F64, I32, ...; BF16: `data` holds the 16-bit patterns
    std::vector<long> shape;
    const void *data;
};

// Whatever the order of `tensors`, the file holds them by decreasing element size, then by name, behind a
// header padded with spaces to a multiple of 8: so every element is aligned, and the same tensors always make
// the same file.
void write_safetensors(const std::string &path, std::vector<TensorOut> tensors,
                       const std::map<std::string, std::string> &metadata = {{"format", "pt"}});

// ---------------------------------------------------------------- [5] a model's weights

struct ModelFiles {
    std::vector<Mapping> files;
    std::map<std::string, TensorEntry> tensors;             // of all files
    std::map<std::string, std::string> metadata;            // of all files; the first to name a key wins
};

ModelFiles read_model_files(const std::string &directory);

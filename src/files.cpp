// Files in and out: see files.h for what is promised; here is how.
//
//   [1] whole files        system calls, each with its error told
//   [2] JSON               the library's event parser, and a builder that is stricter than the library's own
//   [3] safetensors, in    the checks of the format, in the order of the file
//   [4] safetensors, out
//   [5] a model's weights
#include "src/files.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fcntl.h>
#include <limits>
#include <set>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>
#include "src/error.h"

static_assert(std::endian::native == std::endian::little, "the numbers of safetensors are little-endian");

// A name out of a file, fit for a message of one line.
static std::string in_quotes(std::string_view name) {
    const size_t most = 80;
    size_t end = std::min(name.size(), most);
    while (end > 0 && end < name.size() && (name[end] & 0xC0) == 0x80) end--;       // never half a character
    std::string text = "'";
    for (char c : name.substr(0, end)) text += (unsigned char)c < 0x20 || c == 0x7F ? '?' : c;
    return text + (end < name.size() ? "...'" : "'");
}

// ---------------------------------------------------------------- [1] whole files

static bool is_directory(const std::string &path) {
    struct stat info;
    return ::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

static bool exists(const std::string &path) {
    struct stat info;
    return ::stat(path.c_str(), &info) == 0;
}

// A plain file, open for reading until the end of the scope.
struct Input {
    int file;
    size_t size = 0;

    explicit Input(const std::string &path) {
        file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);      // a pipe must not make us wait
        expect(file >= 0, path, ": cannot be read: ", std::strerror(errno));
        struct stat info = {};
        const bool known = ::fstat(file, &info) == 0;
        size = size_t(info.st_size);
        if (known && S_ISREG(info.st_mode)) return;
        ::close(file);
        fail(cat(path, S_ISDIR(info.st_mode) ? ": is a directory, not a file" : ": is not a plain file"));
    }
    ~Input() { ::close(file); }
};

Mapping::Mapping(const std::string &path) {
    const Input input(path);
    expect(input.size > 0, path, ": is empty");
    void *pages = ::mmap(nullptr, input.size, PROT_READ, MAP_PRIVATE, input.file, 0);
    expect(pages != MAP_FAILED, path, ": cannot be mapped into memory: ", std::strerror(errno));
    size = input.size;
    data = static_cast<const uint8_t *>(pages);
}

Mapping::Mapping(Mapping &&other) noexcept
    : data(std::exchange(other.data, nullptr)), size(std::exchange(other.size, 0)) {}

Mapping &Mapping::operator=(Mapping &&other) noexcept {
    std::swap(data, other.data);
    std::swap(size, other.size);
    return *this;
}

Mapping::~Mapping() {
    if (data) ::munmap(const_cast<uint8_t *>(data), size);
}

std::string read_text(const std::string &path, size_t limit) {
    const Input input(path);
    expect(input.size <= limit, path, ": has ", input.size, " bytes; at most ", limit, " are read");
    std::string text(input.size, '\0');
    for (size_t done = 0; done < text.size();) {
        const ssize_t n = ::read(input.file, &text[done], text.size() - done);
        if (n < 0 && errno == EINTR) continue;
        expect(n >= 0, path, ": cannot be read: ", std::strerror(errno));
        expect(n > 0, path, ": became shorter while it was read");
        done += size_t(n);
    }
    return text;
}

static std::string directory_of(const std::string &path) {
    const size_t slash = path.rfind('/');
    return slash == std::string::npos ? "." : path.substr(0, slash + 1);
}

// The temporary file is in the directory of its target, for a rename cannot cross file systems. A target that
// is there and no plain file is refused: the rename would replace /dev/null itself.
AtomicFile::AtomicFile(const std::string &path) : path(path) {
    struct stat info;
    if (::stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode))
        fail(cat(path, ": is not a plain file, so it cannot be replaced"));
    for (int attempt = 0; file < 0; attempt++) {
        temporary = cat(path, ".tmp-", ::getpid(), "-", attempt);
        file = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (file < 0 && (errno != EEXIST || attempt == 1000)) {
            temporary.clear();                              // not ours: leave it
            refuse("be written");
        }
    }
}

AtomicFile::~AtomicFile() {
    if (file >= 0) ::close(file);
    if (!temporary.empty()) ::unlink(temporary.c_str());
}

void AtomicFile::refuse(const char *action) {
    const int cause = errno;
    fail(cat(path, ": cannot ", action, ": ", std::strerror(cause)),
         cause == ENOSPC || cause == EDQUOT ? "free some space or choose another place" : "");
}

void AtomicFile::write(const void *data, size_t bytes) {
    assert(file >= 0);
    for (const char *next = static_cast<const char *>(data); bytes > 0;) {
        const ssize_t n = ::write(file, next, bytes);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) refuse("be written");
        next += n;
        bytes -= size_t(n);
    }
}

void AtomicFile::commit() {
    assert(file >= 0);
    if (::fsync(file) != 0) refuse("be brought to the disk");
    if (::close(std::exchange(file, -1)) != 0) refuse("be closed");
    if (::rename(temporary.c_str(), path.c_str()) != 0) refuse("get its name");
    temporary.clear();
    const int directory = ::open(directory_of(path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0) return;                              // best effort: the file is whole either way
    ::fsync(directory);
    ::close(directory);
}

void write_atomically(const std::string &path, std::string_view text) {
    AtomicFile file(path);
    file.write(text.data(), text.size());
    file.commit();
}

// The order of a folder is not the same everywhere, so it is sorted. Empty files are left out.
std::vector<std::string> files_below(const std::string &path) {
    namespace fs = std::filesystem;
    if (!fs::is_directory(path)) return {path};
    std::vector<std::string> files;
    for (const auto &entry :
         fs::recursive_directory_iterator(path, fs::directory_options::skip_permission_denied))
        if (entry.is_regular_file() && entry.file_size()) files.push_back(entry.path());
    expect(!files.empty(), path, ": no files in it");
    std::sort(files.begin(), files.end());
    return files;
}

// ---------------------------------------------------------------- [2] JSON

// The library's parser takes any iterator; this one tells how far it has read.
struct Reading {
    using iterator_category = std::input_iterator_tag;
    using value_type = char;
    using difference_type = std::ptrdiff_t;
    using pointer = const char *;
    using reference = const char &;

    const char *next;
    const char **progress;

    const char &operator*() const { return *next; }
    bool operator==(const Reading &other) const { return next == other.next; }
    bool operator!=(const Reading &other) const { return next != other.next; }
    Reading &operator++() {
        *progress = ++next;
        return *this;
    }
    Reading operator++(int) {
        const Reading before = *this;
        ++*this;
        return before;
    }
};

// Builds the value from the parser's events. The library's own builder takes a key twice and any depth, and
// looks for each key among all before it, which a vocabulary of 129,280 keys would feel. The parser does not
// recurse, so text nested too deeply costs nothing: the event that goes too far ends it.
class Builder : public nlohmann::json_sax<Json> {
public:
    Json root;

    Builder(std::string_view text, const std::string &name) : text(text), name(name) {}

    bool parse() {
        const char *end = text.data() + text.size();
        return Json::sax_parse(Reading{text.data(), &progress}, Reading{end, &progress}, this);
    }

    bool null() override { return put(nullptr); }
    bool boolean(bool value) override { return put(value); }
    bool number_integer(number_integer_t value) override { return put(value); }
    bool number_unsigned(number_unsigned_t value) override { return put(value); }
    bool number_float(number_float_t value, const string_t &) override { return put(value); }
    bool string(string_t &value) override { return put(std::move(value)); }
    bool binary(binary_t &) override { return false; }              // no such thing in text
    bool start_object(size_t) override { return open_one(Json::object()); }
    bool start_array(size_t) override { return open_one(Json::array()); }

    bool key(string_t &value) override {
        if (!keys.back().insert(value).second) refuse(cat("the key ", in_quotes(value), " is there twice"));
        open.back()->get_ref<Json::object_t &>().emplace_back(std::move(value), nullptr);
        return true;
    }

    bool end_object() override { return close_one(); }
    bool end_array() override { return close_one(); }

    // Of the library's message, which may quote the whole text, the part that says what it met and wanted.
    bool parse_error(size_t position, const std::string &, const Json::exception &error) override {
        std::string cause = error.what();
        if (error.id == 406) refuse(position, "a number too large for a double");
        const size_t start = cause.find(": ");
        if (start != cause.npos) cause.erase(0, start + 2);
        const size_t quote = cause.find("; last read: ");
        if (quote != cause.npos) cause.erase(quote);
        const std::string prefix = "syntax error while ";
        if (cause.starts_with(prefix)) cause.erase(0, prefix.size());
        refuse(position, cause);
    }

private:
    std::string_view text;
    const std::string &name;
    const char *progress = text.data();
    std::vector<Json *> open;                               // the containers around the next value
    std::vector<std::set<std::string>> keys;                // and the keys that each has had
    size_t count = 0;                                       // of the values so far

    // position: of the offending character, from 1; one more than there are: the text ends too early.
    [[noreturn]] void refuse(size_t position, const std::string &cause) const {
        const std::string_view before = text.substr(0, position > 0 ? position - 1 : 0);
        const long line = 1 + std::count(before.begin(), before.end(), '\n');
        const size_t newline = before.rfind('\n');
        const size_t column = newline == before.npos ? before.size() + 1 : before.size() - newline;
        fail(cat(name, ": line ", line, ", column ", column, ": ", cause));
    }

    [[noreturn]] void refuse(const std::string &cause) const {
        refuse(size_t(progress - text.data()), cause);
    }

    bool put(Json value) { return place(std::move(value)) != nullptr; }

    Json *place(Json &&value) {
        if (++count > json_values) refuse(cat("more than ", json_values, " values"));
        if (open.empty()) return &(root = std::move(value));
        if (open.back()->is_array()) {
            open.back()->push_back(std::move(value));
            return &open.back()->back();
        }
        Json &last = open.back()->get_ref<Json::object_t &>().back().second;
        return &(last = std::move(value));
    }

    bool open_one(Json &&container) {
        if (open.size() == json_depth) refuse(cat("more than ", json_depth, " levels of nesting"));
        open.push_back(place(std::move(container)));
        keys.emplace_back();
        return true;
    }

    bool close_one() {
        open.pop_back();
        keys.pop_back();
        return true;
    }
};

// Two things that the library lets pass are caught first: a byte order mark, and a zero byte, which it takes
// for the end of the text, whatever follows.
Json parse_json(std::string_view text, const std::string &name) {
    expect(!text.starts_with("\xEF\xBB\xBF"), name, ": begins with a byte order mark, not allowed in JSON");
    const size_t zero = text.find('\0');
    expect(zero == text.npos, name, ": has a zero byte at offset ", zero, ", not allowed in JSON");
    Builder builder(text, name);
    const bool parsed = builder.parse();
    assert(parsed);                                         // whatever is wrong has been thrown
    (void)parsed;
    return std::move(builder.root);
}

static bool all_finite(const Json &json) {
    if (json.is_number_float()) return std::isfinite(json.get<double>());
    return !json.is_structured() || std::all_of(json.begin(), json.end(), all_finite);
}

static std::string dump(const Json &json, int indent) {
    expect(all_finite(json), "JSON: a number to be written is infinite or no number, and JSON has neither");
    try {
        return json.dump(indent);
    } catch (const Json::exception &) {
        fail("JSON: a text to be written is not UTF-8");
    }
}

std::string dump_json(const Json &json) { return dump(json, 2) + "\n"; }

void append(Json &object, const std::string &key, Json value) {
    object.get_ref<Json::object_t &>().emplace_back(key, std::move(value));
}

// A value as an error shows it.
static std::string shown(const Json &json) {
    if (json.is_string()) return in_quotes(json.get_ref<const std::string &>());
    if (json.is_object()) return "an object";
    if (json.is_array()) return "a list";
    return json.dump();
}

JsonObject::JsonObject(const Json &json, const std::string &name) : json(json), name(name) {
    expect(json.is_object(), name, ": is ", shown(json), ", not an object { ... }");
}

static const Json *find(const JsonObject &object, const char *key) {
    const auto at = object.json.find(key);
    return at == object.json.end() ? nullptr : &*at;
}

static const Json &need(const JsonObject &object, const char *key) {
    const Json *value = find(object, key);
    expect(value, object.name, ": ", key, " is missing");
    return *value;
}

bool given(const JsonObject &object, const char *key) {
    const Json *value = find(object, key);
    return value && !value->is_null();
}

long get_int(const JsonObject &object, const char *key, long low, long high, std::optional<long> otherwise) {
    if (otherwise && !find(object, key)) return *otherwise;
    const Json &value = need(object, key);
    if (!value.is_number_integer())
        fail(cat(object.name, ": ", key, " is ", shown(value), ", not an integer"),
             value.is_number_float() ? "an integer has neither point nor exponent: 64, not 64.0" : "");
    const uint64_t most = uint64_t(std::numeric_limits<long>::max());
    const bool huge = value.is_number_unsigned() && value.get<uint64_t>() > most;
    expect(!huge && value.get<long>() >= low && value.get<long>() <= high,
           object.name, ": ", key, " is ", shown(value), ", outside ", low, " .. ", high);
    return value.get<long>();
}

double get_real(const JsonObject &object, const char *key, double low, double high,
                std::optional<double> otherwise) {
    if (otherwise && !find(object, key)) return *otherwise;
    const Json &value = need(object, key);
    expect(value.is_number(), object.name, ": ", key, " is ", shown(value), ", not a number");
    const double number = value.get<double>();
    expect(number >= low && number <= high,
           object.name, ": ", key, " is ", shown(value), ", outside ", low, " .. ", high);
    return number;
}

bool get_bool(const JsonObject &object, const char *key, std::optional<bool> otherwise) {
    if (otherwise && !find(object, key)) return *otherwise;
    const Json &value = need(object, key);
    expect(value.is_boolean(), object.name, ": ", key, " is ", shown(value), ", not true or false");
    return value.get<bool>();
}

std::string get_string(const JsonObject &object, const char *key,
                       const std::optional<std::string> &otherwise) {
    if (otherwise && !find(object, key)) return *otherwise;
    const Json &value = need(object, key);
    expect(value.is_string(), object.name, ": ", key, " is ", shown(value), ", not a text in quotes");
    return value.get<std::string>();
}

JsonObject get_object(const JsonObject &object, const char *key) {
    return JsonObject(need(object, key), cat(object.name, ": ", key));
}

// ---------------------------------------------------------------- [3] safetensors, in
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
    expect(list.is_array(), object.name, ": ", key, " is ", shown(list), ", not a list");
    std::vector<long> numbers;
    for (const Json &number : list) {
        expect(number.is_number_unsigned() && number.get<uint64_t>() <= most_integer,
               object.name, ": ", key, " holds ", shown(number), ", not an integer of 0 .. 2^53");
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
    expect(each == 0 || (entry.bytes % each == 0 && entry.bytes / each == size_t(*n)),
           where, ": ", *n, " elements of ", entry.dtype, " do not take ", entry.bytes, " bytes");
    return entry;
}

static std::map<std::string, std::string> read_metadata(const JsonObject &object) {
    std::map<std::string, std::string> metadata;
    for (const auto &[key, value] : object.json.items()) {
        expect(value.is_string(), object.name, ": ", in_quotes(key), " is ", shown(value), ", not a text");
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

// ---------------------------------------------------------------- [4] safetensors, out

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
    for (const TensorOut &tensor : tensors) file.write(tensor.data, bytes_of(tensor));
    file.commit();
}

// ---------------------------------------------------------------- [5] a model's weights

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
        expect(name, weight_map.name, ": ", in_quotes(tensor), " is ", shown(file), ", not a file's name");
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

// files.cpp: what is accepted of files, what is refused and in which words; what goes out comes back.
//
//   [1] whole files     [2] JSON     [3] safetensors, in     [4] safetensors, out     [5] a model's weights
#include <doctest/doctest.h>

#include <cmath>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include "src/base/error.h"
#include "src/base/folder.h"
#include "src/base/json.h"
#include "src/base/safetensors.h"

namespace {

using std::filesystem::path;

// A directory of its own for each test, gone when it ends.
struct Folder {
    path at;

    Folder() {
        std::string name = (std::filesystem::temp_directory_path() / "formats-XXXXXX").string();
        REQUIRE(mkdtemp(name.data()));
        at = name;
    }
    ~Folder() { std::filesystem::remove_all(at); }

    std::string operator/(const std::string &name) const { return (at / name).string(); }
    std::string put(const std::string &name, const std::string &text) const {
        std::ofstream(at / name, std::ios::binary) << text;
        return *this / name;
    }
    long files() const { return std::distance(std::filesystem::directory_iterator(at), {}); }
};

// The one line that a user would see; empty if nothing was refused.
template <class Action> std::string error_of(Action action) {
    try {
        action();
    } catch (const Error &error) {
        const std::string text = error.what();
        CHECK(text.find('\n') == text.npos);
        CHECK(text.size() < 500);
        return text + (error.hint.empty() ? "" : "  [" + error.hint + "]");
    }
    return "";
}

bool contains(const std::string &text, const std::string &part) {
    INFO(text);
    const bool found = text.find(part) != text.npos;
    CHECK_MESSAGE(found, "expected in it: " << part);
    return found;
}

std::string file_of(const std::string &header, const std::string &data = "", long n = -1) {
    const uint64_t length = n < 0 ? header.size() : uint64_t(n);
    std::string file(8, '\0');
    std::memcpy(file.data(), &length, 8);
    return file + header + data;
}

std::string file_with(const std::string &entries, const std::string &data = "") {
    return file_of("{" + entries + "}", data);
}

// Parsed from a copy of its exact size, so that a sanitizer sees a read beyond its end;
// it lives until the next call.
Safetensors parse(const std::string &bytes) {
    static std::vector<uint8_t> copy;
    copy = std::vector<uint8_t>(bytes.begin(), bytes.end());
    return parse_safetensors(copy.data(), copy.size(), "file");
}

std::string refusal(const std::string &bytes) {
    return error_of([&] { parse(bytes); });
}

std::string refused_json(std::string_view text) {
    return error_of([&] { parse_json(text, "config.json"); });
}

std::string entry(const std::string &name, const std::string &dtype, const std::string &shape, long from,
                  long to) {
    return cat('"', name, R"(":{"dtype":")", dtype, R"(","shape":)", shape, R"(,"data_offsets":[)", from, ",",
               to, "]}");
}

std::string bytes_of_file(const std::string &name) { return read_text(name, 1 << 24); }

}  // namespace

// ------------------------------------------------------------------------------------------- [1] whole files

TEST_CASE("files: a mapping shows the bytes of its file, and moving it does not copy them") {
    const Folder folder;
    Mapping mapping(folder.put("a", "hello"));
    const uint8_t *data = mapping.data;
    CHECK(std::string(data, data + mapping.size) == "hello");
    Mapping other = std::move(mapping);
    CHECK(other.data == data);
    CHECK(mapping.data == nullptr);
    other = Mapping(folder.put("b", "world!"));
    CHECK(std::string(other.data, other.data + other.size) == "world!");
}

TEST_CASE("files: missing, empty, unreadable, a directory and a pipe are refused in those words") {
    const Folder folder;
    const auto refused = [&](const std::string &name) {
        return error_of([&] { Mapping mapping(folder / name); });
    };
    contains(refused("none"), "none: cannot be read: No such file or directory");
    folder.put("empty", "");
    contains(refused("empty"), "empty: is empty");
    contains(refused("."), "is a directory, not a file");
    REQUIRE(mkfifo((folder / "pipe").c_str(), 0600) == 0);
    contains(refused("pipe"), "pipe: is not a plain file");
    if (geteuid() != 0) {                                       // root may read everything
        REQUIRE(chmod(folder.put("secret", "x").c_str(), 0) == 0);
        contains(refused("secret"), "secret: cannot be read: Permission denied");
    }
}

TEST_CASE("files: a mapping keeps the old bytes when its file is replaced") {
    const Folder folder;
    const Mapping mapping(folder.put("a", "old"));
    write_atomically(folder / "a", "new text");
    CHECK(std::string(mapping.data, mapping.data + mapping.size) == "old");
    CHECK(read_text(folder / "a", 100) == "new text");
}

TEST_CASE("files: a text has at most as many bytes as the caller allows, and may be empty") {
    const Folder folder;
    CHECK(read_text(folder.put("a", "12345"), 5) == "12345");
    contains(error_of([&] { read_text(folder / "a", 4); }), "a: has 5 bytes; at most 4 are read");
    CHECK(read_text(folder.put("b", ""), 5) == "");
    contains(error_of([&] { read_text(folder / "c", 4); }), "No such file");
    contains(error_of([&] { read_text(folder.at.string(), 4); }), "is a directory");
}

TEST_CASE("files: a written file appears at commit and leaves nothing beside it") {
    const Folder folder;
    {
        AtomicFile file(folder.put("a", "before"));
        file.write("after", 5);
        CHECK(read_text(folder / "a", 100) == "before");
        CHECK(folder.files() == 2);
        file.commit();
    }
    CHECK(read_text(folder / "a", 100) == "after");
    CHECK(folder.files() == 1);
}

TEST_CASE("files: without a commit the old file stays and the temporary one goes") {
    const Folder folder;
    {
        AtomicFile file(folder.put("a", "before"));
        file.write("after", 5);
    }
    CHECK(read_text(folder / "a", 100) == "before");
    CHECK(folder.files() == 1);
}

TEST_CASE("folder: what killed runs left of these files goes, all else stays, whatever its name") {
    const Folder folder;
    for (const char *name : {"model.tmp-12-0", "model.tmp-old", "notes.tmp-12-0", "probe", "model"})
        folder.put(name, "mine");
    { const OwnFolder own(folder.at, {"model", "log"}); }
    CHECK(!exists(folder / "model.tmp-12-0"));
    CHECK(folder.files() == 4);
    CHECK(read_text(folder / "probe", 100) == "mine");
    std::filesystem::create_directory(folder.at / "log");
    contains(error_of([&] { OwnFolder(folder.at, {"model", "log"}); }), "log: is not a plain file");
}

TEST_CASE("files: two writers of one file do not disturb each other, and the last to commit wins") {
    const Folder folder;
    AtomicFile first(folder / "a"), second(folder / "a");
    first.write("first", 5);
    second.write("second", 6);
    second.commit();
    CHECK(read_text(folder / "a", 100) == "second");
    first.commit();
    CHECK(read_text(folder / "a", 100) == "first");
    CHECK(folder.files() == 1);
}

TEST_CASE("files: writing where nothing can be written is an error, and devices are never replaced") {
    const Folder folder;
    contains(error_of([&] { write_atomically(folder / "none/a", "x"); }), "cannot be written: No such file");
    contains(error_of([&] { write_atomically(folder.at.string(), "x"); }), "is not a plain file");
    contains(error_of([] { write_atomically("/dev/null", "x"); }), "/dev/null: is not a plain file");
    CHECK(folder.files() == 0);
}

TEST_CASE("files: a symbolic link stays one, and what it leads to is replaced, be it there or not") {
    namespace fs = std::filesystem;
    const Folder folder;
    fs::create_directory(folder / "real");
    fs::create_symlink("real", folder / "alias");
    fs::create_symlink("alias/a", folder / "link");
    fs::create_symlink((folder.at / "link").string(), folder / "longer");
    for (const char *text : {"first", "second"}) {
        AtomicFile file(folder / "longer");
        file.write(text, strlen(text));
        CHECK(std::distance(fs::directory_iterator(folder / "real"), {}) == 1 + (*text == 's'));
        file.commit();
        CHECK(read_text(folder / "real/a", 100) == text);
    }
    CHECK(fs::read_symlink(folder / "link") == "alias/a");
    CHECK(fs::is_symlink(folder / "longer"));
    CHECK(std::distance(fs::directory_iterator(folder / "real"), {}) == 1);
    fs::create_symlink("/dev/null", folder / "null");
    contains(error_of([&] { write_atomically(folder / "null", "x"); }), "/dev/null: is not a plain file");
    fs::create_symlink("b", folder / "a");
    fs::create_symlink("a", folder / "b");
    contains(error_of([&] { write_atomically(folder / "a", "x"); }), "in a circle");
}

TEST_CASE("files: when the disk refuses a write, the cause is told and the old file stays, alone") {
    const Folder folder;
    folder.put("a", "before");
    rlimit old;
    REQUIRE(getrlimit(RLIMIT_FSIZE, &old) == 0);
    const rlimit small = {1000, old.rlim_max};
    const auto handler = std::signal(SIGXFSZ, SIG_IGN);
    REQUIRE(setrlimit(RLIMIT_FSIZE, &small) == 0);                  // stands for a full disk
    const std::string refused = error_of([&] { write_atomically(folder / "a", std::string(5000, 'x')); });
    REQUIRE(setrlimit(RLIMIT_FSIZE, &old) == 0);
    std::signal(SIGXFSZ, handler);
    contains(refused, "a: cannot be written: File too large");
    CHECK(read_text(folder / "a", 100) == "before");
    CHECK(folder.files() == 1);
}

// -------------------------------------------------------------------------------------------------- [2] JSON

TEST_CASE("json: every kind of value is read, and keys keep the order of the file") {
    const Json json =
        parse_json(R"( {"z": 1, "a": [true, null, -2, 2.5e3], "s": "\u00e9\ud83d\ude00\n"} )", "x");
    CHECK(json.begin().key() == "z");
    CHECK(json["a"] == Json::array({true, nullptr, -2, 2500.0}));
    CHECK(json["s"] == "\xC3\xA9\xF0\x9F\x98\x80\n");
    CHECK(parse_json("3", "x") == 3);
    CHECK(parse_json("[[],{}]", "x").size() == 2);
}

TEST_CASE("json: an error names the file, the line, the column and what was found there") {
    contains(refused_json("{\n  \"a\": 1,\n  \"b\": x\n}"),
             "config.json: line 3, column 8: parsing value - invalid");
    contains(refused_json("{\"a\" 1}"),
             "line 1, column 6: parsing object separator - unexpected number literal");
    contains(refused_json(""), "line 1, column 1: parsing value - unexpected end of input");
    contains(refused_json("{\"a\": 1,\n"), "line 2, column 1: parsing object key - unexpected end of input");
}

TEST_CASE("json: of a text that is a line of a file, errors name the line of the file") {
    contains(error_of([] { parse_json("{\"a\": x}", "in.jsonl", 17); }), "in.jsonl: line 17, column 7: ");
}

TEST_CASE("json: what the standard does not allow is refused") {
    for (const char *text :
         {"",      " ",        "{",         "{\"a\"}", "{\"a\":}",  "[1,]",     "{\"a\":1,}", "[1 2]",
          "{a:1}", "'a'",      "01",        "+1",      ".5",        "5.",       "1e",         "0x10",
          "NaN",   "Infinity", "-Infinity", "nul",     "True",      "1 2",      "{} {}",      "]",
          "[}",    "\"abc",    "\"\t\"",    "\"\\x\"", "\"\\u12\"", "// no\n1", "/* no */ 1", "1 // no"})
        CHECK_MESSAGE(refused_json(text) != "", text);
}

TEST_CASE("json: text that is not UTF-8 is refused, as are a byte order mark and a zero byte") {
    for (const char *text :
         {"\"\xFF\"", "\"\xC3\"", "\"\xC0\x80\"", "\"\xE0\x80\x80\"", "\"\xED\xA0\x80\"", "\"\\ud800\"",
          "\"\\udc00\\ud800\"", "\"\xF4\x90\x80\x80\"", "\"\xF5\x80\x80\x80\"", "\xA0", "{\"\x80\":1}"})
        CHECK_MESSAGE(refused_json(text) != "", text);
    contains(refused_json("\xEF\xBB\xBF{}"), "byte order mark");
    contains(refused_json(std::string_view("{}\0 anything", 12)), "zero byte at offset 2");
    CHECK(parse_json("\"\\u0000\"", "x") == std::string(1, '\0'));  // escaped it is text
}

TEST_CASE("json: a key twice in one object is refused, in two objects it is not") {
    contains(refused_json("{\"a\": 1,\n \"b\": {\"a\": 2},\n \"a\": 3}"),
             "line 3, column 4: the key 'a' is there twice");
    contains(refused_json("[{\"b\": {\"c\": 1, \"\\u0063\": 1}}]"), "the key 'c' is there twice");
    CHECK(refused_json("[{\"a\": {\"a\": 1}}, {\"a\": 2}]") == "");
}

TEST_CASE("json: 64 levels of nesting are read, 65 are refused, and so are 200 MB of brackets at once") {
    const std::string ends(64, ']');
    CHECK(refused_json(std::string(64, '[') + ends) == "");
    contains(refused_json(std::string(65, '[') + ends + "]"),
             "line 1, column 65: more than 64 levels of nesting");
    contains(refused_json(std::string(200'000'000, '[')), "column 65: more than 64 levels");
    std::string objects;
    for (int i = 0; i < 65; i++) objects += "{\"a\":";
    contains(refused_json(objects), "more than 64 levels of nesting");
}

TEST_CASE("json: a text with millions of tiny values is refused before they fill the memory") {
    std::string text = "[0";
    for (size_t i = 0; i < json_values; i++) text += ",0";
    contains(refused_json(text + "]"), "more than 4000000 values");
}

TEST_CASE("json: a number beyond a double is refused, an integer beyond 64 bits is a real") {
    contains(refused_json("[1e999]"), "line 1, column 6: a number too large for a double");
    CHECK(refused_json("-1e999") != "");
    CHECK(refused_json(std::string(400, '9')) != "");
    CHECK(parse_json("18446744073709551615", "x").get<uint64_t>() == std::numeric_limits<uint64_t>::max());
    CHECK(parse_json("1000000000000000019884624838656", "x") == 1e30);
}

TEST_CASE("json: an error stays one short line whatever is in the text") {
    CHECK(refused_json("\"" + std::string(100'000, 'x')) != "");
    CHECK(refused_json("{\"a\nb\": 1}") != "");
    const std::string name = std::string(79, 'x') + "\xC3\xA9 and\\n more";
    const std::string error = refused_json("{\"" + name + "\": 1, \"" + name + "\": 1}");
    contains(error, "'" + std::string(79, 'x') + "...'");  // half a letter is none
    contains(refused_json("{\"a\\nb\": 1, \"a\\nb\": 1}"), "'a?b'");
}

TEST_CASE("json: a getter gives the value, or names file, key and what it found") {
    const Json json =
        parse_json(R"({"n": 64, "x": 64.0, "t": true, "s": "silu", "o": {"n": -3}, "none": null})", "x");
    const JsonObject config(json, "config.json");
    CHECK(get_int(config, "n", 1, 100) == 64);
    CHECK(get_real(config, "x", 0, 100) == 64.0);
    CHECK(get_real(config, "n", 0, 100) == 64.0);
    CHECK(get_bool(config, "t") == true);
    CHECK(get_string(config, "s") == "silu");
    CHECK(get_int(get_object(config, "o"), "n", -10, 10) == -3);
    contains(error_of([&] { get_int(config, "n", 1, 63); }), "config.json: n is 64, outside 1 .. 63");
    contains(error_of([&] { get_int(config, "n", 65, 70); }), "config.json: n is 64, outside 65 .. 70");
    contains(error_of([&] { get_int(config, "d", 1, 63); }), "config.json: d is missing");
    contains(error_of([&] { get_int(config, "s", 1, 63); }), "config.json: s is 'silu', not an integer");
    contains(error_of([&] { get_int(config, "t", 0, 63); }), "config.json: t is true, not an integer");
    contains(error_of([&] { get_int(get_object(config, "o"), "n", 0, 9); }),
             "config.json: o: n is -3, outside");
    contains(error_of([&] { get_real(config, "s", 0, 1); }), "config.json: s is 'silu', not a number");
    contains(error_of([&] { get_real(config, "x", 0, 1); }), "config.json: x is 64.0, outside 0 .. 1");
    contains(error_of([&] { get_bool(config, "n"); }), "config.json: n is 64, not true or false");
    contains(error_of([&] { get_string(config, "o"); }), "config.json: o is an object, not a text in quotes");
    contains(error_of([&] { get_object(config, "n"); }), "config.json: n: is 64, not an object");
    contains(error_of([&] { JsonObject(json["s"], "config.json"); }),
             "config.json: is 'silu', not an object");
}

TEST_CASE("json: an integer is written without a point, and get_int says so") {
    const Json json =
        parse_json(R"({"a": 64.0, "b": 1e3, "c": 1000000000000000000000, "d": 9223372036854775808})", "x");
    const JsonObject config(json, "config.json");
    const std::string error = error_of([&] { get_int(config, "a", 0, 100); });
    contains(error, "config.json: a is 64.0, not an integer");
    contains(error, "64, not 64.0");
    for (const char *key : {"b", "c", "d"}) {
        const long most = std::numeric_limits<long>::max();
        CHECK_MESSAGE(error_of([&] { get_int(config, key, -most - 1, most); }) != "", key);
    }
}

TEST_CASE("json: a missing key gives the default, and a null is not a missing key") {
    const Json json = parse_json(R"({"none": null, "n": 5})", "x");
    const JsonObject config(json, "config.json");
    CHECK(get_int(config, "d", 0, 9, 3) == 3);
    CHECK(get_int(config, "n", 0, 9, 3) == 5);
    CHECK(get_real(config, "d", 0, 9, 0.5) == 0.5);
    CHECK(get_bool(config, "d", false) == false);
    CHECK(get_string(config, "d", "silu") == "silu");
    contains(error_of([&] { get_int(config, "none", 0, 9, 3); }), "none is null, not an integer");
    contains(error_of([&] { get_string(config, "none", ""); }), "none is null, not a text");
    CHECK_FALSE(given(config, "none"));
    CHECK_FALSE(given(config, "d"));
    CHECK(given(config, "n"));
}

TEST_CASE("json: 1.0 is written as 1.0, integers as integers, keys in their order, numbers to the last bit") {
    Json json = Json::object();
    append(json, "routed_scaling_factor", 1.0);
    append(json, "rms_norm_eps", 1e-6);
    append(json, "hidden_size", 64);
    append(json, "rope_theta", 10000.0);
    append(json, "large", 1e22);
    append(json, "third", 1.0 / 3);
    const std::string text = dump_json(json);
    CHECK(text == "{\n  \"routed_scaling_factor\": 1.0,\n  \"rms_norm_eps\": 1e-06,\n  \"hidden_size\": 64,\n"
                  "  \"rope_theta\": 10000.0,\n  \"large\": 1e+22,\n  \"third\": 0.3333333333333333\n}\n");
    const Json back = parse_json(text, "x");
    for (const char *key : {"routed_scaling_factor", "rms_norm_eps", "rope_theta", "large", "third"}) {
        CHECK_MESSAGE(back[key].is_number_float(), key);
        CHECK_MESSAGE(back[key].get<double>() == json[key].get<double>(), key);
    }
    CHECK(back["hidden_size"].is_number_unsigned());
}

TEST_CASE("json: a NaN, an infinity and bytes that are no text cannot be written") {
    const double infinity = std::numeric_limits<double>::infinity();
    contains(error_of([] { dump_json(std::nan("")); }), "infinite or no number");
    contains(error_of([&] { dump_json({{"a", {1.0, {{"b", infinity}}}}}); }), "infinite or no number");
    contains(error_of([] { dump_json({{"a", "\xFF"}}); }), "not UTF-8");
}

// --------------------------------------------------------------------------------------- [3] safetensors, in

TEST_CASE("safetensors: a good file gives its tensors, shapes, bytes and metadata") {
    const float numbers[3] = {1.5f, -2.0f, 0.25f};
    const std::string data(reinterpret_cast<const char *>(numbers), sizeof numbers);
    const std::string entries = entry("b", "F32", "[2,1]", 0, 8) + "," + entry("a", "F32", "[]", 8, 12);
    const Safetensors model = parse(file_with(R"("__metadata__":{"format":"pt"},)" + entries, data));
    CHECK(model.metadata == std::map<std::string, std::string>{{"format", "pt"}});
    REQUIRE(model.tensors.size() == 2);
    const TensorEntry &a = model.tensors.at("a"), &b = model.tensors.at("b");
    CHECK(b.dtype == "F32");
    CHECK(b.shape == std::vector<long>{2, 1});
    CHECK(b.numel() == 2);
    CHECK(a.numel() == 1);
    double values[2];
    read_reals(b, values);
    CHECK(values[0] == 1.5);
    CHECK(values[1] == -2.0);
    read_reals(a, values);
    CHECK(values[0] == 0.25);
}

TEST_CASE("safetensors: an empty header, spaces around it, zero sizes and unknown keys are allowed") {
    CHECK(parse(file_of("{}")).tensors.empty());
    CHECK(parse(file_of("  {} \n  ")).tensors.empty());
    CHECK(parse(file_with(entry("a", "F32", "[0,5]", 0, 0) + "," + entry("b", "U8", "[3]", 0, 3) + "," +
                              entry("c", "I64", "[0]", 0, 0) + "," + entry("d", "I64", "[0]", 3, 3),
                          "xyz"))
              .tensors.size() == 4);
    CHECK(refusal(file_of(R"({"a":{"dtype":"U8","new":[{"x":1}],"shape":[1],"data_offsets":[0,1]}})", "x")) ==
          "");
}

TEST_CASE("safetensors: tensors may come in any order and at any alignment") {
    const float number = 3.5f;
    const std::string data = "x" + std::string(reinterpret_cast<const char *>(&number), 4);
    const Safetensors model =
        parse(file_with(entry("f", "F32", "[1]", 1, 5) + "," + entry("x", "U8", "[1]", 0, 1), data));
    float back = 0;
    read_reals(model.tensors.at("f"), &back);
    CHECK(back == 3.5f);
}

TEST_CASE("safetensors: a file too short, a header too long or longer than its file is refused") {
    contains(refusal(""), "file: 0 bytes are too few");
    contains(refusal("1234567"), "file: 7 bytes are too few");
    contains(refusal(file_of("{}", "", 3)), "claims a header of 3 bytes, but only 2 follow");
    contains(refusal(file_of("{}", "", 100'000'001)), "at most 100000000 are allowed");
    contains(refusal(std::string(8, '\xFF') + "{}"), "claims a header of 18446744073709551615 bytes");
    contains(refusal("version https://git-lfs.github.com/spec/v1\n"), "Git LFS");
    contains(refusal(std::string(8, '\0')), "header: line 1, column 1");
}

TEST_CASE("safetensors: every truncation of a good file is refused") {
    const std::string good = file_with(entry("a", "F32", "[2]", 0, 8), "12345678");
    REQUIRE(refusal(good) == "");
    for (size_t n = 0; n < good.size(); n++)
        CHECK_MESSAGE(refusal(good.substr(0, n)) != "", "cut after " << n);
    contains(refusal(good + "x"), "1 bytes at the end belong to no tensor");
}

TEST_CASE("safetensors: a header that is not strict JSON, or no object, is refused") {
    for (const char *header :
         {"", "[]", "3", "null", "\"a\"", "{", "{}}", "{} x", "\xEF\xBB\xBF{}", "{\"\xFF\":1}", "{,}"})
        CHECK_MESSAGE(refusal(file_of(header)) != "", header);
    contains(refusal(file_of("[]")), "file: header: is a list, not an object");
    contains(refusal(file_of(std::string("{}\0\0", 4))), "zero byte");
}

TEST_CASE("safetensors: nesting is refused at once, even 100 MB of it") {
    contains(refusal(file_of(std::string(100'000'000, '['))), "more than 64 levels of nesting");
    contains(refusal(file_of("{\"a\":" + std::string(99'000'000, '['))), "more than 64 levels of nesting");
    contains(refusal(file_of(std::string(200'000'000, '['))), "at most 100000000 are allowed");
}

TEST_CASE("safetensors: a key twice is refused, in the header and in an entry") {
    const std::string a = entry("a", "U8", "[1]", 0, 1);
    contains(refusal(file_with(a + "," + a, "x")), "the key 'a' is there twice");
    contains(refusal(file_with(a + "," + entry("\\u0061", "U8", "[1]", 1, 2), "xy")),
             "the key 'a' is there twice");
    contains(refusal(file_of(R"({"a":{"dtype":"U8","shape":[1],"shape":[1],"data_offsets":[0,1]}})", "x")),
             "'shape' is there twice");
    contains(refusal(file_of(R"({"__metadata__":{},"__metadata__":{}})")), "'__metadata__' is there twice");
}

TEST_CASE("safetensors: an entry needs dtype, shape and data_offsets, each of its type") {
    const auto entry_with = [](const std::string &text) {
        return refusal(file_of("{\"a\":" + text + "}", "x"));
    };
    CHECK(entry_with(R"({"dtype":"U8","shape":[1],"data_offsets":[0,1]})") == "");
    contains(entry_with("3"), "file: tensor 'a': is 3, not an object");
    contains(entry_with("[]"), "file: tensor 'a': is a list, not an object");
    contains(entry_with(R"({"shape":[1],"data_offsets":[0,1]})"), "file: tensor 'a': dtype is missing");
    contains(entry_with(R"({"dtype":"U8","data_offsets":[0,1]})"), "shape is missing");
    contains(entry_with(R"({"dtype":"U8","shape":[1],"offsets":[0,1]})"), "data_offsets is missing");
    contains(entry_with(R"({"dtype":8,"shape":[1],"data_offsets":[0,1]})"), "dtype is 8, not a text");
    contains(entry_with(R"({"dtype":"U8","shape":1,"data_offsets":[0,1]})"), "shape is 1, not a list");
    contains(entry_with(R"({"dtype":"U8","shape":{},"data_offsets":[0,1]})"),
             "shape is an object, not a list");
    contains(entry_with(R"({"dtype":"U8","shape":[1],"data_offsets":{"0":0}})"), "data_offsets is an object");
    contains(entry_with(R"({"dtype":"U8","shape":[1],"data_offsets":[1]})"),
             "data_offsets has 1 numbers, not 2");
    contains(entry_with(R"({"dtype":"U8","shape":[1],"data_offsets":[0,1,1]})"),
             "data_offsets has 3 numbers, not 2");
}

TEST_CASE("safetensors: negative, fractional and huge numbers in shape or offsets are refused") {
    for (const char *number : {"-1", "-0", "1.0", "1.5", "1e0", "9007199254740993", "18446744073709551615",
                               "1e30", "null", "true", "\"1\"", "[1]", "100000000000000000000000000000000"}) {
        const std::string header = R"({"a":{"dtype":"U8",)";
        contains(refusal(file_of(cat(header, R"("shape":[)", number, R"(],"data_offsets":[0,1]}})"), "x")),
                 "shape holds");
        contains(refusal(file_of(cat(header, R"("shape":[1],"data_offsets":[0,)", number, "]}}"), "x")),
                 "data_offsets holds");
        contains(refusal(file_of(cat(header, R"("shape":[1],"data_offsets":[)", number, ",1]}}"), "x")),
                 "data_offsets holds");
    }
}

TEST_CASE("safetensors: shape and dtype must take exactly the bytes between the offsets") {
    contains(refusal(file_with(entry("a", "F32", "[2]", 0, 7), "1234567")),
             "2 elements of F32 do not take 7 bytes");
    contains(refusal(file_with(entry("a", "F32", "[2]", 0, 4), "1234")),
             "2 elements of F32 do not take 4 bytes");
    contains(refusal(file_with(entry("a", "F32", "[]", 0, 0))), "1 elements of F32 do not take 0 bytes");
    contains(refusal(file_with(entry("a", "U8", "[0]", 0, 1), "x")), "0 elements of U8 do not take 1 bytes");
    contains(refusal(file_with(entry("a", "U8", "[1]", 0, 2), "x")), "ends at 2, beyond the 1 bytes of data");
    contains(refusal(file_with(entry("a", "U8", "[1]", 1, 0), "x")), "ends at 0, before its begin at 1");
}

TEST_CASE("safetensors: a shape whose product overflows is refused, also behind a zero") {
    const std::string big = "4294967296";
    contains(refusal(file_with(entry("a", "U8", "[" + big + "," + big + "]", 0, 0))), "more elements than");
    contains(refusal(file_with(entry("a", "U8", "[" + big + "," + big + ",0]", 0, 0))), "more elements than");
    contains(refusal(file_with(entry("a", "U8", "[0," + big + "," + big + "]", 0, 0))), "more elements than");
    contains(refusal(file_with(entry("a", "F64", "[2305843009213693952]", 0, 0))), "shape holds");
    contains(refusal(file_with(entry("a", "F64", "[2147483648,1073741824]", 0, 0))), "do not take 0 bytes");
    CHECK(refusal(file_with(entry("a", "F64", "[2147483648,1073741824,0]", 0, 0))) == "");
}

TEST_CASE("safetensors: holes and overlaps between tensors are refused, and bytes that belong to none") {
    const auto two = [](long a0, long a1, long b0, long b1, const std::string &data) {
        return refusal(file_with(entry("a", "U8", cat("[", a1 - a0, "]"), a0, a1) + "," +
                                     entry("b", "U8", cat("[", b1 - b0, "]"), b0, b1),
                                 data));
    };
    CHECK(two(0, 2, 2, 4, "1234") == "");
    CHECK(two(2, 4, 0, 2, "1234") == "");
    contains(two(0, 2, 3, 4, "1234"), "tensor 'b': 1 unused bytes before it");
    contains(two(1, 2, 2, 4, "1234"), "tensor 'a': 1 unused bytes before it");
    contains(two(0, 3, 2, 4, "1234"), "tensor 'b': overlaps the tensor before it");
    contains(two(0, 4, 0, 4, "1234"), "overlaps the tensor before it");
    contains(two(0, 4, 1, 2, "1234"), "tensor 'b': overlaps the tensor before it");
    contains(two(0, 4, 2, 2, "1234"), "overlaps the tensor before it");
    contains(two(0, 1, 1, 2, "1234"), "file: 2 bytes at the end belong to no tensor");
    contains(refusal(file_of("{}", "x")), "file: 1 bytes at the end belong to no tensor");
}

TEST_CASE("safetensors: metadata is a flat map of texts") {
    CHECK(parse(file_of(R"({"__metadata__":{"a":"b","c":""}})")).metadata.size() == 2);
    CHECK(parse(file_of(R"({"__metadata__":{}})")).metadata.empty());
    contains(refusal(file_of(R"({"__metadata__":{"a":1}})")), "__metadata__: 'a' is 1, not a text");
    contains(refusal(file_of(R"({"__metadata__":{"a":{"b":"c"}}})")), "'a' is an object, not a text");
    contains(refusal(file_of(R"({"__metadata__":[]})")), "__metadata__: is a list, not an object");
}

TEST_CASE("safetensors: a tensor of an unknown or FP8 type is refused by name, when it is needed") {
    const Safetensors model =
        parse(file_with(entry("new", "F6_E9", "[7]", 0, 5) + "," + entry("fp8", "F8_E4M3", "[1]", 5, 6) +
                            "," + entry("ids", "U8", "[1]", 6, 7),
                        "1234567"));
    float out[7];
    int32_t ints[7];
    contains(error_of([&] { read_reals(model.tensors.at("new"), out); }),
             "file: tensor 'new': is of type 'F6_E9'");
    const std::string fp8 = error_of([&] { read_reals(model.tensors.at("fp8"), out); });
    contains(fp8, "file: tensor 'fp8': is of type 'F8_E4M3'");
    contains(fp8, "FP8 weights with their scales cannot be read yet");
    contains(error_of([&] { read_reals(model.tensors.at("ids"), out); }),
             "type 'U8'; F32, F64, BF16 and F16 can be");
    contains(error_of([&] { read_ints(model.tensors.at("ids"), ints); }),
             "type 'U8'; I32 and I64 can be read here");
}

// The value of a small float from its fields, by the definition of the format.
double value_of(unsigned bits, int exponent_bits, int mantissa_bits) {
    const int bias = (1 << (exponent_bits - 1)) - 1, top = (1 << exponent_bits) - 1;
    const double sign = bits >> (exponent_bits + mantissa_bits) ? -1 : 1;
    const int exponent = int(bits >> mantissa_bits) & top;
    const double fraction = std::ldexp(double(bits & ((1u << mantissa_bits) - 1)), -mantissa_bits);
    if (exponent == top) return fraction == 0 ? sign * std::numeric_limits<double>::infinity() : std::nan("");
    return sign *
           (exponent == 0 ? std::ldexp(fraction, 1 - bias) : std::ldexp(1 + fraction, exponent - bias));
}

TEST_CASE("safetensors: all 65,536 codes of F16 and of BF16 are read exactly, as float and as double") {
    std::vector<uint16_t> codes(65536);
    for (size_t i = 0; i < codes.size(); i++) codes[i] = uint16_t(i);
    const std::string data(reinterpret_cast<const char *>(codes.data()), 131072);
    for (const bool half : {true, false}) {
        const std::string dtype = half ? "F16" : "BF16";
        const Safetensors model = parse(file_with(entry("w", dtype, "[256,256]", 0, 131072), data));
        std::vector<float> floats(65536);
        std::vector<double> doubles(65536);
        read_reals(model.tensors.at("w"), floats.data());
        read_reals(model.tensors.at("w"), doubles.data());
        long wrong = 0;
        for (unsigned i = 0; i < 65536; i++) {
            const double want = half ? value_of(i, 5, 10) : value_of(i, 8, 7);
            const bool same = std::isnan(want) ? std::isnan(floats[i]) && std::isnan(doubles[i])
                                               : floats[i] == want && doubles[i] == want &&
                                                     std::signbit(floats[i]) == std::signbit(want);
            wrong += !same;
        }
        CHECK_MESSAGE(wrong == 0, dtype);
    }
}

TEST_CASE("safetensors: F64 is exact as double and rounded to nearest as float, F32 keeps NaN and infinity") {
    const double numbers[3] = {0.1, 1.0 + 0x1p-24, 1.0 + 0x1.8p-24};
    const std::string data(reinterpret_cast<const char *>(numbers), sizeof numbers);
    const Safetensors model = parse(file_with(entry("w", "F64", "[3]", 0, 24), data));
    double doubles[3];
    float floats[3];
    read_reals(model.tensors.at("w"), doubles);
    read_reals(model.tensors.at("w"), floats);
    for (int i = 0; i < 3; i++) CHECK(doubles[i] == numbers[i]);
    CHECK(floats[0] == 0.1f);
    CHECK(floats[1] == 1.0f);                                       // a tie goes to the even one
    CHECK(floats[2] == 1.0f + 0x1p-23f);
    const float odd[2] = {std::nanf(""), -std::numeric_limits<float>::infinity()};
    const std::string more(reinterpret_cast<const char *>(odd), sizeof odd);
    const Safetensors second = parse(file_with(entry("w", "F32", "[2]", 0, 8), more));
    read_reals(second.tensors.at("w"), floats);
    CHECK(std::isnan(floats[0]));
    CHECK(floats[1] == odd[1]);
}

TEST_CASE("safetensors: 64-bit integers are read if they fit 32 bits, and else refused with their place") {
    const int64_t numbers[3] = {-2147483648LL, 2147483647LL, 2147483648LL};
    const std::string data(reinterpret_cast<const char *>(numbers), sizeof numbers);
    const Safetensors model =
        parse(file_with(entry("ok", "I64", "[2]", 0, 16) + "," + entry("far", "I64", "[1]", 16, 24), data));
    int32_t ints[2];
    read_ints(model.tensors.at("ok"), ints);
    CHECK(ints[0] == std::numeric_limits<int32_t>::min());
    CHECK(ints[1] == std::numeric_limits<int32_t>::max());
    contains(error_of([&] { read_ints(model.tensors.at("far"), ints); }),
             "tensor 'far': element 0 is 2147483648, beyond 32");
}

// -------------------------------------------------------------------------------------- [4] safetensors, out

// Read by the code above, which is exact: the number of a 16-bit pattern.
static double number_of(uint16_t bits, const char *dtype) {
    const TensorEntry entry = {"", dtype, {1}, (const uint8_t *)&bits, 2};
    double x = 0;
    read_reals(entry, &x);
    return x;
}

TEST_CASE("safetensors: a number goes to the nearest of 16 bits, a tie to the even pattern, of all 65,536") {
    struct Format {
        const char *dtype;
        uint16_t (*to)(double);
        uint16_t infinity;
    };
    for (const Format &f : {Format{"BF16", bf16_bits, 0x7F80}, {"F16", f16_bits, 0x7C00}}) {
        long wrong = 0;
        for (uint32_t bits = 0; bits < f.infinity; bits++)
            for (uint16_t sign : {0, 0x8000}) {
                const auto code = [&](uint32_t b) { return uint16_t(b | sign); };
                const double x = number_of(code(bits), f.dtype);
                wrong += f.to(x) != code(bits);
                if (bits + 1 == f.infinity) continue;
                const double next = number_of(code(bits + 1), f.dtype), middle = (x + next) / 2;
                wrong += f.to(middle) != code(bits % 2 ? bits + 1 : bits);
                wrong += f.to(std::nextafter(middle, x)) != code(bits);
                wrong += f.to(std::nextafter(middle, next)) != code(bits + 1);
            }
        CHECK(wrong == 0);
        const double largest = number_of(f.infinity - 1, f.dtype), below = number_of(f.infinity - 2, f.dtype);
        const double end = largest + (largest - below) / 2;              // a tie with what would come next
        CHECK(f.to(std::nextafter(end, 0)) == f.infinity - 1);
        CHECK(f.to(end) == f.infinity);
        CHECK(f.to(1e300) == f.infinity);
        CHECK(f.to(-INFINITY) == (f.infinity | 0x8000));
        CHECK(std::isnan(number_of(f.to(NAN), f.dtype)));
        CHECK(f.to(5e-324) == 0);
    }
}

TEST_CASE("safetensors: what is written is read back, bit by bit") {
    const Folder folder;
    const float floats[6] = {1, 2, 3, -0.0f, 1e-45f, std::numeric_limits<float>::infinity()};
    const double real = 1.0 / 3;
    const uint16_t codes[3] = {0x3F80, 0xBF80, 0x7FC0};
    const int32_t ids[2] = {-1, 2147483647};
    write_safetensors(folder / "a", {{"x", "F32", {2, 3}, floats},
                                     {"r", "F64", {}, &real},
                                     {"c", "BF16", {3, 1}, codes},
                                     {"ids", "I32", {2}, ids},
                                     {"none", "F32", {0, 4}, nullptr}});
    const Safetensors model = read_safetensors(folder / "a");
    CHECK(model.metadata == std::map<std::string, std::string>{{"format", "pt"}});
    CHECK(model.tensors.size() == 5);
    const auto same = [&](const char *name, const std::vector<long> &shape, const void *data, size_t bytes) {
        const TensorEntry &tensor = model.tensors.at(name);
        return tensor.shape == shape && tensor.bytes == bytes && std::memcmp(tensor.data, data, bytes) == 0;
    };
    CHECK(same("x", {2, 3}, floats, sizeof floats));
    CHECK(same("r", {}, &real, sizeof real));
    CHECK(same("c", {3, 1}, codes, sizeof codes));
    CHECK(same("ids", {2}, ids, sizeof ids));
    CHECK(model.tensors.at("none").shape == std::vector<long>{0, 4});
    int32_t back[2];
    read_ints(model.tensors.at("ids"), back);
    CHECK(back[0] == -1);
    CHECK(back[1] == 2147483647);
}

TEST_CASE("safetensors: numbers may be made when their turn comes, one tensor at a time") {
    const Folder folder;
    std::vector<float> numbers;
    std::vector<TensorOut> out;
    for (const char *name : {"b", "a", "c"})
        out.push_back({name, "F32", {2}, nullptr, [&numbers, name] {
                           numbers = {(float)name[0], -1};
                           return numbers.data();
                       }});
    write_safetensors(folder / "made", out);
    const Safetensors file = read_safetensors(folder / "made");
    for (const char *name : {"a", "b", "c"}) {
        float read[2];
        read_reals(file.tensors.at(name), read);
        CHECK(read[0] == (float)name[0]);
        CHECK(read[1] == -1);
    }
}

TEST_CASE("safetensors: a written header is one JSON line with format pt, padded with spaces to 8") {
    const Folder folder;
    const double real = 1;
    const uint16_t code = 2;
    const float number = 3;
    for (int length = 1; length <= 8; length++) {                   // every remainder of the header's length
        const std::string name(size_t(length), 'n');
        write_safetensors(folder / "a", {{"h", "BF16", {1}, &code},
                                         {"z", "F32", {1}, &number},
                                         {"b", "F32", {1}, &number},
                                         {name, "F64", {1}, &real}});
        const std::string file = bytes_of_file(folder / "a");
        uint64_t n = 0;
        std::memcpy(&n, file.data(), 8);
        CHECK(n % 8 == 0);
        std::string header = file.substr(8, n);
        header.erase(header.find_last_not_of(' ') + 1);
        CHECK(n - header.size() < 8);
        CHECK(header == "{\"__metadata__\":{\"format\":\"pt\"}," + entry(name, "F64", "[1]", 0, 8) + "," +
                            entry("b", "F32", "[1]", 8, 12) + "," + entry("z", "F32", "[1]", 12, 16) + "," +
                            entry("h", "BF16", "[1]", 16, 18) + "}");
        CHECK(file.size() == 8 + n + 18);
    }
}

TEST_CASE("safetensors: the same tensors in another order make the same file") {
    const Folder folder;
    const float a = 1, b = 2;
    write_safetensors(folder / "1", {{"a", "F32", {1}, &a}, {"b", "F32", {1}, &b}}, {{"k", "v"}});
    write_safetensors(folder / "2", {{"b", "F32", {1}, &b}, {"a", "F32", {1}, &a}}, {{"k", "v"}});
    CHECK(bytes_of_file(folder / "1") == bytes_of_file(folder / "2"));
    CHECK(read_safetensors(folder / "1").metadata.at("k") == "v");
}

TEST_CASE("safetensors: a name may be any text and comes back; what is not UTF-8 is refused") {
    const Folder folder;
    const float number = 1;
    const std::string name = "a\"b\\c\n\xE4\xB8\xAD";
    write_safetensors(folder / "a", {{name, "F32", {1}, &number}});
    CHECK(read_safetensors(folder / "a").tensors.count(name) == 1);
    contains(error_of([&] { write_safetensors(folder / "b", {{"\xFF", "F32", {1}, &number}}); }),
             "not UTF-8");
    CHECK(folder.files() == 1);
}

TEST_CASE("safetensors: two tensors of one name cannot be written, nor one that is called __metadata__") {
    const Folder folder;
    const float number = 1;
    const TensorOut a = {"a", "F32", {1}, &number}, m = {"__metadata__", "F32", {1}, &number};
    contains(error_of([&] { write_safetensors(folder / "x", {a, a}); }), "the name 'a' is taken");
    contains(error_of([&] { write_safetensors(folder / "x", {m}); }), "the name '__metadata__' is taken");
    CHECK(folder.files() == 0);
}

// ------------------------------------------------------------------------------------- [5] a model's weights

namespace {

void put_tensor(const Folder &folder, const std::string &file, const std::string &name, float value) {
    write_safetensors(folder / file, {{name, "F32", {1}, &value}}, {{"format", "pt"}, {file, "seen"}});
}

std::string refused_index(const Folder &folder, const std::string &text) {
    folder.put("model.safetensors.index.json", text);
    return error_of([&] { read_model_files(folder.at.string()); });
}

}  // namespace

TEST_CASE("weights: a directory with model.safetensors gives its tensors") {
    const Folder folder;
    put_tensor(folder, "model.safetensors", "w", 5);
    const ModelFiles model = read_model_files(folder.at.string());
    float value = 0;
    read_reals(model.tensors.at("w"), &value);
    CHECK(value == 5);
    CHECK(model.metadata.at("format") == "pt");
}

TEST_CASE("weights: an index and its shards give the tensors of all of them, under any file names") {
    const Folder folder;
    put_tensor(folder, "model-00001-of-000002.safetensors", "a", 1);
    put_tensor(folder, "other", "b", 2);
    CHECK(refused_index(folder, R"({"metadata":{"total_size":8},"weight_map":{"b":"other",
                                    "a":"model-00001-of-000002.safetensors"}})") == "");
    const ModelFiles model = read_model_files(folder.at.string());
    CHECK(model.files.size() == 2);
    CHECK(model.tensors.size() == 2);
    CHECK(model.metadata.at("other") == "seen");
    float value = 0;
    read_reals(model.tensors.at("b"), &value);
    CHECK(value == 2);
}

TEST_CASE("weights: a shard must be a file in the directory itself") {
    const Folder folder;
    put_tensor(folder, "shard", "a", 1);
    for (const char *name :
         {"/etc/passwd", "../shard", "sub/shard", "..", "a..b", "sub\\\\shard", "", "shard\\u0000", "a\\nb"})
        contains(refused_index(folder, cat(R"({"weight_map":{"a":")", name, "\"}}")),
                 "not the name of a file in the same");
    contains(refused_index(folder, R"({"weight_map":{"a":"."}})"), "is a directory");
    contains(refused_index(folder, R"({"weight_map":{"a":"missing"}})"),
             "missing: cannot be read: No such file");
    contains(refused_index(folder, R"({"weight_map":{"a":3}})"), "'a' is 3, not a file's name");
}

TEST_CASE("weights: the index and the shards must name the same tensors, each in the same shard") {
    const Folder folder;
    put_tensor(folder, "one", "a", 1);
    put_tensor(folder, "two", "b", 2);
    CHECK(refused_index(folder, R"({"weight_map":{"a":"one","b":"two"}})") == "");
    contains(refused_index(folder, R"({"weight_map":{"a":"one","b":"two","c":"two"}})"),
             "no tensor 'c' in 'two'");
    contains(refused_index(folder, R"({"weight_map":{"a":"two","b":"two"}})"), "no tensor 'a' in 'two'");
    write_safetensors(folder / "two", {{"a", "U8", {1}, "x"}, {"b", "U8", {1}, "x"}});
    contains(refused_index(folder, R"({"weight_map":{"a":"one","b":"two"}})"),
             "two: tensor 'a': the index does not say");
}

TEST_CASE("weights: an index without a weight_map of texts is refused") {
    const Folder folder;
    contains(refused_index(folder, "{}"), "index.json: weight_map is missing");
    contains(refused_index(folder, R"({"weight_map":[]})"), "weight_map: is a list, not an object");
    contains(refused_index(folder, R"({"weight_map":{}})"), "weight_map names no tensor");
    contains(refused_index(folder, R"({"weight_map":{"a":"x","a":"x"}})"), "the key 'a' is there twice");
    contains(refused_index(folder, "[]"), "is a list, not an object");
}

TEST_CASE("weights: a directory without weights says so, and pickled weights are never opened") {
    const Folder folder;
    contains(error_of([&] { read_model_files(folder / "none"); }), "none: there is no such directory");
    contains(error_of([&] { read_model_files(folder.at.string()); }), "has neither model.safetensors nor");
    folder.put("pytorch_model.bin", "x");
    const std::string error = error_of([&] { read_model_files(folder.at.string()); });
    contains(error, "pytorch_model.bin: pickled weights are not read");
    contains(error, "convert the model to safetensors");
    contains(error_of([&] { read_model_files(folder / "pytorch_model.bin"); }),
             "is a file, and a model is a directory");
}

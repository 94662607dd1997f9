// json.h: strict JSON, and getters that name file and key in their errors.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <nlohmann/json.hpp>

// Keys stay in the order of the file. Looking a key up walks over all of them, so go through a large object
// (a vocabulary, a weight map) with a loop over items(), and add to one with append().
using Json = nlohmann::ordered_json;

constexpr size_t json_depth = 64;                                  // objects and arrays inside each other
constexpr size_t json_values = 4'000'000;                          // of one text: they bound its memory

// Strict: no comments, no trailing comma, no byte order mark, no key twice in an object, valid UTF-8, no
// number beyond a double. An integer beyond 64 bits becomes a real (Hugging Face has 10^30 for "no limit"),
// which get_int refuses. `name` is what errors call the text: `config.json: line 3, column 17: ...`; a text
// that is a line of a file says which.
Json parse_json(std::string_view text, const std::string &name, long first_line = 1);
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
const Json &need(const JsonObject &object, const char *key);       // refuses a key that is missing
std::string shown_json(const Json &json);                               // for messages: short, on one line
std::string dump(const Json &json, int indent);
JsonObject get_object(const JsonObject &object, const char *key);

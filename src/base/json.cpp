// json.cpp: the library's event parser, and a builder that is stricter than the library's own.
#include "src/base/json.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "src/base/error.h"
#include "src/base/utf8.h"

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

    Builder(std::string_view text, const std::string &name, long first_line)
        : text(text), name(name), first_line(first_line) {}

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
    long first_line;
    const char *progress = text.data();
    std::vector<Json *> open;                               // the containers around the next value
    std::vector<std::set<std::string>> keys;                // and the keys that each has had
    size_t count = 0;                                       // of the values so far

    // position: of the offending character, from 1; one more than there are: the text ends too early.
    [[noreturn]] void refuse(size_t position, const std::string &cause) const {
        const std::string_view before = text.substr(0, position > 0 ? position - 1 : 0);
        const long line = first_line + std::count(before.begin(), before.end(), '\n');
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
Json parse_json(std::string_view text, const std::string &name, long first_line) {
    expect(!text.starts_with("\xEF\xBB\xBF"), name, ": begins with a byte order mark, not allowed in JSON");
    const size_t zero = text.find('\0');
    expect(zero == text.npos, name, ": has a zero byte at offset ", zero, ", not allowed in JSON");
    Builder builder(text, name, first_line);
    const bool parsed = builder.parse();
    assert(parsed);                                         // whatever is wrong has been thrown
    (void)parsed;
    return std::move(builder.root);
}

static bool all_finite(const Json &json) {
    if (json.is_number_float()) return std::isfinite(json.get<double>());
    return !json.is_structured() || std::all_of(json.begin(), json.end(), all_finite);
}

std::string dump(const Json &json, int indent) {
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
std::string shown_json(const Json &json) {
    if (json.is_string()) return in_quotes(json.get_ref<const std::string &>());
    if (json.is_object()) return "an object";
    if (json.is_array()) return "a list";
    return json.dump();
}

JsonObject::JsonObject(const Json &json, const std::string &name) : json(json), name(name) {
    expect(json.is_object(), name, ": is ", shown_json(json), ", not an object { ... }");
}

static const Json *find(const JsonObject &object, const char *key) {
    const auto at = object.json.find(key);
    return at == object.json.end() ? nullptr : &*at;
}

const Json &need(const JsonObject &object, const char *key) {
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
        fail(cat(object.name, ": ", key, " is ", shown_json(value), ", not an integer"),
             value.is_number_float() ? "an integer has neither point nor exponent: 64, not 64.0" : "");
    const uint64_t most = uint64_t(std::numeric_limits<long>::max());
    const bool huge = value.is_number_unsigned() && value.get<uint64_t>() > most;
    expect(!huge && value.get<long>() >= low && value.get<long>() <= high, object.name, ": ", key, " is ",
           shown_json(value), ", outside ", low, " .. ", high);
    return value.get<long>();
}

double get_real(const JsonObject &object, const char *key, double low, double high,
                std::optional<double> otherwise) {
    if (otherwise && !find(object, key)) return *otherwise;
    const Json &value = need(object, key);
    expect(value.is_number(), object.name, ": ", key, " is ", shown_json(value), ", not a number");
    const double number = value.get<double>();
    expect(number >= low && number <= high, object.name, ": ", key, " is ", shown_json(value), ", outside ",
           low, " .. ", high);
    return number;
}

bool get_bool(const JsonObject &object, const char *key, std::optional<bool> otherwise) {
    if (otherwise && !find(object, key)) return *otherwise;
    const Json &value = need(object, key);
    expect(value.is_boolean(), object.name, ": ", key, " is ", shown_json(value), ", not true or false");
    return value.get<bool>();
}

std::string get_string(const JsonObject &object, const char *key,
                       const std::optional<std::string> &otherwise) {
    if (otherwise && !find(object, key)) return *otherwise;
    const Json &value = need(object, key);
    expect(value.is_string(), object.name, ": ", key, " is ", shown_json(value), ", not a text in quotes");
    return value.get<std::string>();
}

JsonObject get_object(const JsonObject &object, const char *key) {
    return JsonObject(need(object, key), cat(object.name, ": ", key));
}

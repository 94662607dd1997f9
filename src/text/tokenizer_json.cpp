// Reading and writing tokenizer.json, the Hugging Face format.
//
// The reader believes nothing: a file may be truncated, contradict itself, or be made to hurt. The parser
// calls back at every value, so that nesting stops at a small depth and values are counted before
// anything is built; vocabulary and merges (nearly all of a file) go straight into vectors, only the
// small rest becomes a tree. Components that tokenizer.cpp does not have are refused by name: a tokenizer
// that is nearly right is wrong.
//
// [1] parsing   [2] components   [3] writing
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <set>

#include "src/base/error.h"
#include "src/base/files.h"
#include "src/base/json.h"
#include "src/text/regex.h"
#include "src/text/tokenizer.h"

using nlohmann::json;

// ------------------------------------------------------------------------------------------- [1] parsing

static const int deepest = 16;                                 // real files nest 6 levels
static const size_t most_stages = 64;                          // of the pre-tokenizer: real files have 6
static const size_t largest_file = (size_t)1 << 30;
static const long most_values = 1000000;                       // outside of vocabulary and merges

// The file in three parts.
struct File {
    json rest;
    StringMap<long> vocabulary;                                // text -> id
    std::vector<std::pair<std::string, std::string>> merges;
};

// "a b" or ["a", "b"]
static std::pair<std::string, std::string> merge_pair(const json &value) {
    if (value.is_string()) {
        const std::string text = value;
        const size_t space = text.find(' ');
        expect(space != std::string::npos && text.find(' ', space + 1) == std::string::npos,
               "model.merges: not two pieces: ", shown(text));
        return {text.substr(0, space), text.substr(space + 1)};
    }
    expect(value.is_array() && value.size() == 2 && value[0].is_string() && value[1].is_string(),
           "model.merges: an entry is not two pieces");
    return {value[0], value[1]};
}

// Called by the parser at every key and value; true keeps it in the tree. `depth` counts the objects and
// arrays around it; path[1] is the key of the file that we are in, path[2] the key inside of that, and so on.
struct Listener {
    File &file;
    std::vector<std::string> path = {};
    std::vector<std::set<std::string>> seen = {};              // the keys of the open object of each depth
    long values = 0;

    bool in_model(const char *part, int depth) const {         // the entries of model.vocab and model.merges
        return depth >= 3 && path.size() > 2 && path[1] == "model" && path[2] == part;
    }

    bool operator()(int depth, json::parse_event_t event, json &value) {
        expect(depth <= deepest, "nested deeper than ", deepest, " levels");
        if (event == json::parse_event_t::key) return read_key(depth, value);
        const bool starts =
            event == json::parse_event_t::array_start || event == json::parse_event_t::object_start;
        if (in_model("vocab", depth)) {
            const std::string &piece = path.back();
            expect(!starts && value.is_number_unsigned() && value.get<uint64_t>() < (1ul << 40),
                   "model.vocab: the id of ", shown(piece), " is not a usable number");
            file.vocabulary[piece] = value;
            return false;
        }
        if (starts) {
            seen.resize(depth + 1);                            // the keys inside are new ones
            return true;
        }
        if (in_model("merges", depth) && depth == 3) {
            values -= value.is_array() ? (long)value.size() : 0;
            file.merges.push_back(merge_pair(value));
            return false;
        }
        expect(++values < most_values, "more than ", most_values, " values beside vocabulary and merges");
        return true;
    }

    bool read_key(int depth, const json &value) {
        path.resize(depth + 1);
        path[depth] = value;
        const std::string &key = path[depth];
        if (in_model("vocab", depth)) {
            expect(!file.vocabulary.count(key), "model.vocab: ", shown(key), " is listed twice");
            return false;                              // not into the tree: the value comes here all the same
        }
        seen.resize(std::max<size_t>(seen.size(), depth + 1));
        expect(seen[depth].insert(key).second, "the key ", shown(key), " is there twice");
        return true;
    }
};

static File parse_file(const std::string &text) {
    File file;
    Listener listener{file};
    const auto callback = [&](int depth, json::parse_event_t event, json &value) {
        return listener(depth, event, value);
    };
    try {
        file.rest = json::parse(text, callback);
    } catch (const json::exception &e) {
        const std::string what = e.what();            // "[json.exception.parse_error.101] parse error at ..."
        fail(cat("not JSON: ", shown(what.substr(what.find(' ') + 1))), "is the file truncated?");
    }
    expect(file.rest.is_object(), "not a JSON object");
    return file;
}

// ---------------------------------------------------------------------------------------- [2] components

static const json nothing;

static const json &get(const json &object, const char *key) {
    const auto found = object.is_object() ? object.find(key) : object.end();
    return object.is_object() && found != object.end() ? *found : nothing;
}

static bool flag(const json &object, const char *key, bool fallback) {
    const json &value = get(object, key);
    if (value.is_null()) return fallback;
    expect(value.is_boolean(), key, ": not true or false");
    return value;
}

static std::string text_of(const json &object, const char *key) {
    const json &value = get(object, key);
    expect(value.is_string(), key, ": missing, or not a string");
    return value;
}

static const std::pair<const char *, Stage::Keep> behaviors[] = {{"Isolated", Stage::isolated},
                                                                 {"Removed", Stage::removed},
                                                                 {"MergedWithPrevious", Stage::with_previous},
                                                                 {"MergedWithNext", Stage::with_next},
                                                                 {"Contiguous", Stage::contiguous}};

// GPT-2's pattern, which ByteLevel applies where use_regex is true.
static const char *gpt2_pattern =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

static Stage read_split(const json &value) {
    Stage stage;
    const json &pattern = get(value, "pattern");
    stage.literal = !get(pattern, "String").is_null();
    stage.pattern = text_of(pattern, stage.literal ? "String" : "Regex");
    stage.invert = flag(value, "invert", false);
    expect(!stage.pattern.empty(), "pre_tokenizer: an empty pattern");
    const std::string behavior = text_of(value, "behavior");
    for (const auto &[name, keep] : behaviors) {
        stage.keep = keep;
        if (behavior == name) return stage;
    }
    fail(cat("pre_tokenizer: unknown behavior ", shown(behavior)));
}

static void read_stages(const json &value, std::vector<Stage> &stages) {
    const std::string type = value.is_null() ? "null" : text_of(value, "type");
    expect(stages.empty() || stages.back().kind != Stage::byte_level, "pre_tokenizer: ", shown(type),
           " after ByteLevel");
    expect(stages.size() < most_stages, "pre_tokenizer: more than ", most_stages, " stages");
    if (type == "Sequence") {
        const json &list = get(value, "pretokenizers");
        expect(list.is_array(), "pre_tokenizer: a Sequence without pretokenizers");
        for (const json &entry : list) read_stages(entry, stages);
    } else if (type == "Split") {
        stages.push_back(read_split(value));
    } else if (type == "Digits") {
        Stage stage{.kind = Stage::digits};
        if (!flag(value, "individual_digits", false)) stage.keep = Stage::contiguous;
        stages.push_back(stage);
    } else if (type == "ByteLevel") {
        Stage stage{.kind = Stage::byte_level};
        stage.prefix_space = flag(value, "add_prefix_space", true);
        if (flag(value, "use_regex", true)) stage.pattern = gpt2_pattern;
        stages.push_back(stage);
    } else {
        fail(cat("pre_tokenizer: ", shown(type), " is not supported"),
             "supported: Split, Digits, ByteLevel, Sequence");
    }
}

static void read_normalizer(const json &value) {
    if (value.is_null()) return;
    const std::string type = text_of(value, "type");
    const json &list = get(value, "normalizers");
    expect(type == "Sequence" && list.is_array(), "normalizer: ", shown(type), " is not supported");
    for (const json &entry : list) read_normalizer(entry);
}

// Encoding here never adds special tokens (a prompt writes them), so the known ones have nothing to do.
static void check_post_processor(const json &value) {
    if (value.is_null()) return;
    const std::string type = text_of(value, "type");
    if (type == "Sequence") {
        const json &list = get(value, "processors");
        expect(list.is_array(), "post_processor: a Sequence without processors");
        for (const json &entry : list) check_post_processor(entry);
        return;
    }
    const bool known = type == "ByteLevel" || type == "TemplateProcessing" || type == "RobertaProcessing" ||
                       type == "BertProcessing";
    expect(known, "post_processor: ", shown(type), " is not supported");
}

// What the whole file says about its ids. The reference library cuts and pads every text where it is told to.
static void check_file(const json &file) {
    expect(get(file, "model").is_object(), "is no tokenizer.json: it has no model");
    const json &version = get(file, "version");
    expect(version.is_null() || version == "1.0", "version: ", shown(version.dump()), " is not supported");
    for (const char *key : {"truncation", "padding"})
        if (!get(file, key).is_null())
            fail(cat(key, " is not supported"), cat("it changes the ids of texts: set ", key, " to null"));
}

static void check_decoder(const json &decoder) {
    const std::string type = decoder.is_null() ? "null" : text_of(decoder, "type");
    expect(type == "ByteLevel", "decoder: ", shown(type), " is not supported, only ByteLevel");
}

// Anything that would give other ids than plain byte-level BPE.
static void check_model(const json &model) {
    const std::string type = text_of(model, "type");
    expect(type == "BPE", "model: ", shown(type), " is not supported, only BPE");
    const json &dropout = get(model, "dropout");
    expect(dropout.is_null() || dropout == 0, "model: dropout is not supported");
    expect(!flag(model, "byte_fallback", false), "model: byte_fallback is not supported");
    for (const char *key : {"unk_token", "continuing_subword_prefix", "end_of_word_suffix"}) {
        const json &value = get(model, key);
        expect(value.is_null() || value == "", "model: ", key, " is not supported");
    }
}

// Ids must fit into a table: a file with few entries may not ask for a large one.
static long largest_id(size_t entries) { return std::max(1L << 20, 4 * (long)entries); }

static void read_vocabulary(const File &file, Tokenizer &t) {
    const long limit = largest_id(file.vocabulary.size());
    for (const auto &[text, id] : file.vocabulary) {
        expect(id < limit, "model.vocab: id ", id, " is huge for ", file.vocabulary.size(), " entries");
        expect(!text.empty(), "model.vocab: an empty piece, id ", id);
        if (id >= t.size()) t.vocabulary.resize(id + 1);
        expect(t.vocabulary[id].empty(), "model.vocab: id ", id, " is both ", shown(t.vocabulary[id]),
               " and ", shown(text));
        t.vocabulary[id] = text;
    }
    const auto known = [&](const std::string &piece) {
        const auto found = file.vocabulary.find(piece);
        expect(found != file.vocabulary.end(), "model.merges: ", shown(piece), " is not in the vocabulary");
        return (int)found->second;
    };
    for (const auto &[left, right] : file.merges)
        t.merges.push_back({known(left), known(right), known(left + right)});
}

// The reference library ignores the ids of added tokens: one that is in the vocabulary has the id that
// it has there, the others are numbered from the vocabulary's size on. Files agree with this; where
// one does not, a note says so.
static void read_added(const File &file, Tokenizer &t) {
    const json &list = get(file.rest, "added_tokens");
    expect(list.is_null() || list.is_array(), "added_tokens: not a list");
    std::set<std::string> given;
    long next = (long)file.vocabulary.size();
    for (const json &entry : list) {
        const std::string text = text_of(entry, "content");
        const json &id = get(entry, "id");
        const uint64_t limit = largest_id(file.vocabulary.size() + list.size());
        expect(id.is_number_unsigned() && id.get<uint64_t>() < limit, "added_tokens: ", shown(text),
               " has no usable id");
        for (const char *key : {"single_word", "lstrip", "rstrip"})
            expect(!flag(entry, key, false), "added_tokens: ", shown(text), ": ", key, " is not supported");
        if (text.empty()) continue;
        expect(!given.count(text), "added_tokens: ", shown(text), " is listed twice");
        const auto known = file.vocabulary.find(text);
        const long real = known != file.vocabulary.end() ? known->second : next;
        next = std::max(next, real + 1);
        if (real >= t.size()) t.vocabulary.resize(real + 1);
        expect(t.vocabulary[real].empty() || t.vocabulary[real] == text, "added_tokens: id ", real,
               " is both ", shown(t.vocabulary[real]), " and ", shown(text));
        const bool taken = id < t.size() && id != real && !t.vocabulary[(size_t)id].empty();
        expect(!taken, "added_tokens: id ", (long)id, " is both ", shown(t.vocabulary[(size_t)id]), " and ",
               shown(text));
        if (id != real)
            t.notes.push_back(cat("added token ", shown(text), " has id ", real, ", not ", (long)id));
        t.vocabulary[real] = text;
        given.insert(text);
        t.added.push_back({text, (int)real, flag(entry, "special", false), flag(entry, "normalized", true)});
    }
}

Tokenizer parse_tokenizer(const std::string &text, const std::string &name) {
    Tokenizer t;
    try {
        const File file = parse_file(text);
        check_file(file.rest);
        const json &model = get(file.rest, "model");
        check_model(model);
        expect(get(model, "vocab").is_object(), "model.vocab: not a JSON object");
        expect(get(model, "merges").is_array(), "model.merges: not a list");
        t.ignore_merges = flag(model, "ignore_merges", false);
        read_vocabulary(file, t);
        read_added(file, t);
        read_normalizer(get(file.rest, "normalizer"));
        read_stages(get(file.rest, "pre_tokenizer"), t.stages);
        check_post_processor(get(file.rest, "post_processor"));
        check_decoder(get(file.rest, "decoder"));
        t.prepare();
    } catch (const Error &e) {
        fail(cat(name, ": ", e.what()), e.hint);
    } catch (const json::exception &e) {
        fail(cat(name, ": ", shown(e.what())));
    }
    return t;
}

Tokenizer load_tokenizer(const std::string &name) {
    if (name == "bytes") return byte_tokenizer();
    const bool folder = std::filesystem::is_directory(name);
    const std::string path = folder ? name + "/tokenizer.json" : name;
    return parse_tokenizer(read_text(path, largest_file), path);
}

typedef nlohmann::ordered_json Ordered;

// As Python writes it, which made the training texts: a space after each comma and colon.
static std::string spaced(const Ordered &value, int depth = 0) {
    expect(depth < deepest, "chat: the arguments of a call nest deeper than ", deepest, " levels");
    if (!value.is_structured()) return value.dump();
    std::string out;
    for (const auto &[key, part] : value.items()) {
        if (!out.empty()) out += ", ";
        if (value.is_object()) out += Ordered(key).dump() + ": ";
        out += spaced(part, depth + 1);
    }
    return value.is_object() ? "{" + out + "}" : "[" + out + "]";
}

std::vector<Argument> tool_arguments(const std::string &text) {
    const Ordered object = Ordered::parse(text, nullptr, false);
    expect(object.is_object(), "chat: the arguments of a call are not a JSON object: ", shown(text));
    std::vector<Argument> out;
    for (const auto &[name, value] : object.items())
        if (value.is_string()) out.push_back({name, value.get<std::string>(), true});
        else out.push_back({name, spaced(value), false});
    return out;
}

// ------------------------------------------------------------------------------------------- [3] writing

static Ordered write_stage(const Stage &stage) {
    if (stage.kind == Stage::digits)
        return {{"type", "Digits"}, {"individual_digits", stage.keep != Stage::contiguous}};
    if (stage.kind == Stage::byte_level)
        return {{"type", "ByteLevel"},
                {"add_prefix_space", stage.prefix_space},
                {"trim_offsets", true},
                {"use_regex", !stage.pattern.empty()}};
    Ordered out = {{"type", "Split"}, {"pattern", {{stage.literal ? "String" : "Regex", stage.pattern}}}};
    for (const auto &[name, keep] : behaviors)
        if (keep == stage.keep) out["behavior"] = name;
    out["invert"] = stage.invert;
    return out;
}

// Written by us, a tokenizer puts the begin-of-sentence token before a text where the reference library is
// asked to add special tokens. (Encoding here never does: prompts write it.)
static Ordered write_post_processor(const Tokenizer &t) {
    const std::string begin = "<｜begin▁of▁sentence｜>";
    const int id = t.find(begin);
    if (id < 0) return nullptr;
    const Ordered token = {{"SpecialToken", {{"id", begin}, {"type_id", 0}}}};
    const Ordered first = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
    const Ordered second = {{"Sequence", {{"id", "B"}, {"type_id", 1}}}};
    Ordered out = {{"type", "TemplateProcessing"}};
    out["single"] = Ordered::array({token, first});
    out["pair"] = Ordered::array({token, first, second});
    out["special_tokens"][begin] = {
        {"id", begin}, {"ids", Ordered::array({id})}, {"tokens", Ordered::array({begin})}};
    return out;
}

std::string Tokenizer::to_json() const {
    Ordered out = {{"version", "1.0"}, {"truncation", nullptr}, {"padding", nullptr}};
    out["added_tokens"] = Ordered::array();
    for (const AddedToken &a : added)
        out["added_tokens"].push_back({{"id", a.id},
                                       {"content", a.text},
                                       {"single_word", false},
                                       {"lstrip", false},
                                       {"rstrip", false},
                                       {"normalized", a.normalized},
                                       {"special", a.special}});
    out["normalizer"] = nullptr;
    out["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", Ordered::array()}};
    for (const Stage &stage : stages) out["pre_tokenizer"]["pretokenizers"].push_back(write_stage(stage));
    out["post_processor"] = write_post_processor(*this);
    const Ordered byte_level = {
        {"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", true}, {"use_regex", true}};
    out["decoder"] = byte_level;
    json vocab = json::object(), pairs = json::array();        // ordered_json would search linearly
    for (int id = 0; id < size(); id++)
        if (!vocabulary[id].empty()) vocab[vocabulary[id]] = id;
    for (const Merge &m : merges) pairs.push_back(vocabulary[m.left] + " " + vocabulary[m.right]);
    out["model"] = {{"type", "BPE"},
                    {"dropout", nullptr},
                    {"unk_token", nullptr},
                    {"continuing_subword_prefix", nullptr},
                    {"end_of_word_suffix", nullptr},
                    {"fuse_unk", false},
                    {"byte_fallback", false},
                    {"ignore_merges", ignore_merges}};
    std::string text = out.dump(1);
    const size_t end = text.rfind("\n }");                     // of the model: its two large parts go in here
    text.insert(end, ",\n  \"vocab\": " + vocab.dump() + ",\n  \"merges\": " + pairs.dump());
    return text + "\n";
}

void Tokenizer::save(const std::string &path) const {
    const bool file = path.size() > 5 && path.compare(path.size() - 5, 5, ".json") == 0;
    std::error_code ignored;
    if (!file) std::filesystem::create_directories(path, ignored);
    write_atomically(file ? path : path + "/tokenizer.json", to_json());
}

// Reading and writing tokenizer.json, the Hugging Face format.
//
// The reader believes nothing: a file may be truncated, contradict itself, or be made to hurt (base/json.h
// bounds its nesting and its values, and refuses a key that is there twice). Components that tokenizer.cpp
// does not have are refused by name, for a tokenizer that is nearly right is wrong; but only where they could
// change an id. A null is what is not given.
//
// [1] components   [2] vocabulary and merges   [3] writing
#include <algorithm>
#include <filesystem>
#include <set>

#include "src/base/error.h"
#include "src/base/files.h"
#include "src/base/json.h"
#include "src/base/utf8.h"
#include "src/text/tokenizer.h"

// ---------------------------------------------------------------------------------------- [1] components

static const size_t most_stages = 64;                          // of the pre-tokenizer: real files have 6
static const size_t largest_file = (size_t)1 << 30;

static bool flag(const JsonObject &object, const char *key, bool fallback) {
    return given(object, key) ? get_bool(object, key) : fallback;
}

static const Json &get_list(const JsonObject &object, const char *key) {
    const Json &list = need(object, key);
    expect(list.is_array(), object.name, ": ", key, " is ", shown_json(list), ", not a list");
    return list;
}

static const std::pair<const char *, Stage::Keep> behaviors[] = {{"Isolated", Stage::isolated},
                                                                 {"Removed", Stage::removed},
                                                                 {"MergedWithPrevious", Stage::with_previous},
                                                                 {"MergedWithNext", Stage::with_next},
                                                                 {"Contiguous", Stage::contiguous}};

// GPT-2's pattern, which ByteLevel applies where use_regex is true.
static const char *gpt2_pattern =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

static Stage read_split(const JsonObject &split) {
    Stage stage;
    const JsonObject pattern = get_object(split, "pattern");
    stage.literal = given(pattern, "String");
    stage.pattern = get_string(pattern, stage.literal ? "String" : "Regex");
    stage.invert = flag(split, "invert", false);
    expect(!stage.pattern.empty(), "pre_tokenizer: an empty pattern");
    const std::string behavior = get_string(split, "behavior");
    for (const auto &[name, keep] : behaviors) {
        stage.keep = keep;
        if (behavior == name) return stage;
    }
    fail(cat("pre_tokenizer: unknown behavior ", in_quotes(behavior)));
}

static void read_stages(const Json &value, std::vector<Stage> &stages) {
    const JsonObject entry(value, "pre_tokenizer");
    const std::string type = get_string(entry, "type");
    expect(stages.empty() || stages.back().kind != Stage::byte_level, "pre_tokenizer: ", in_quotes(type),
           " after ByteLevel");
    expect(stages.size() < most_stages, "pre_tokenizer: more than ", most_stages, " stages");
    if (type == "Sequence") {
        for (const Json &part : get_list(entry, "pretokenizers")) read_stages(part, stages);
    } else if (type == "Split") {
        stages.push_back(read_split(entry));
    } else if (type == "Digits") {
        Stage stage{.kind = Stage::digits};
        if (!flag(entry, "individual_digits", false)) stage.keep = Stage::contiguous;
        stages.push_back(stage);
    } else if (type == "ByteLevel") {
        Stage stage{.kind = Stage::byte_level};
        stage.prefix_space = flag(entry, "add_prefix_space", true);
        if (flag(entry, "use_regex", true)) stage.pattern = gpt2_pattern;
        stages.push_back(stage);
    } else {
        fail(cat("pre_tokenizer: ", in_quotes(type), " is not supported"),
             "supported: Split, Digits, ByteLevel, Sequence");
    }
}

static void check_normalizer(const Json &value) {
    const JsonObject entry(value, "normalizer");
    const std::string type = get_string(entry, "type");
    expect(type == "Sequence", "normalizer: ", in_quotes(type), " is not supported");
    for (const Json &part : get_list(entry, "normalizers")) check_normalizer(part);
}

static void add_begin(const Json &id, Tokenizer &t) {
    expect(id.is_number_integer() && id.get<int64_t>() >= 0 && id.get<int64_t>() < t.size(),
           "post_processor: ", shown_json(id), " is no token's id");
    t.begin.push_back(id.get<int>());
}

// The special tokens before a single text. (What stands behind it is not for a text that goes on.)
static void read_template(const JsonObject &entry, Tokenizer &t) {
    const JsonObject tokens = get_object(entry, "special_tokens");
    for (const Json &part : get_list(entry, "single")) {
        const JsonObject piece(part, entry.name + ": single");
        if (given(piece, "Sequence")) return;
        const std::string name = get_string(get_object(piece, "SpecialToken"), "id");
        for (const Json &id : get_list(get_object(tokens, name.c_str()), "ids")) add_begin(id, t);
    }
}

// What the tokenizer puts before each text: tokens that its model was trained with.
static void read_post_processor(const Json &value, Tokenizer &t) {
    const JsonObject entry(value, "post_processor");
    const std::string type = get_string(entry, "type");
    if (type == "Sequence") {
        for (const Json &part : get_list(entry, "processors")) read_post_processor(part, t);
    } else if (type == "TemplateProcessing") {
        read_template(entry, t);
    } else if (type == "RobertaProcessing" || type == "BertProcessing") {
        const Json &cls = get_list(entry, "cls");
        expect(cls.size() == 2, "post_processor: cls is no token and its id");
        add_begin(cls[1], t);
    } else {
        expect(type == "ByteLevel", "post_processor: ", in_quotes(type), " is not supported");
    }
}

static void check_decoder(const JsonObject &decoder) {
    const std::string type = get_string(decoder, "type");
    expect(type == "ByteLevel", "decoder: ", in_quotes(type), " is not supported, only ByteLevel");
}

// What the whole file says about its ids. The reference library cuts and pads every text where it is told to.
static void check_file(const JsonObject &file) {
    expect(given(file, "model"), "is no tokenizer.json: it has no model");
    if (given(file, "version")) {
        const Json &version = need(file, "version");
        expect(version == "1.0", "version: ", shown_json(version), " is not supported");
    }
    for (const char *key : {"truncation", "padding"})
        if (given(file, key))
            fail(cat(key, " is not supported"), cat("it changes the ids of texts: set ", key, " to null"));
}

// Anything that would give other ids than plain byte-level BPE. What becomes of characters that the
// vocabulary lacks (byte_fallback, unk_token) changes nothing where it has all bytes: then it lacks none.
static void check_model(const JsonObject &model, bool all_bytes) {
    const std::string type = get_string(model, "type");
    expect(type == "BPE", "model: ", in_quotes(type), " is not supported, only BPE");
    expect(!given(model, "dropout") || need(model, "dropout") == 0, "model: dropout is not supported");
    const char *lacks = " is not supported in a vocabulary that lacks some of the 256 bytes";
    expect(all_bytes || !flag(model, "byte_fallback", false), "model: byte_fallback", lacks);
    for (const char *key : {"unk_token", "continuing_subword_prefix", "end_of_word_suffix"}) {
        if (!given(model, key) || get_string(model, key).empty()) continue;
        const bool unknown = std::string(key) == "unk_token";
        expect(all_bytes && unknown, "model: ", key, unknown ? lacks : " is not supported");
    }
}

// ----------------------------------------------------------------------------- [2] vocabulary and merges

// Ids must fit into a table: a file with few entries may not ask for a large one.
static long largest_id(size_t entries) { return std::max(1L << 20, 4 * (long)entries); }

// Writes into t.vocabulary and returns text -> id.
static StringMap<int> read_vocabulary(const JsonObject &vocab, Tokenizer &t) {
    StringMap<int> known;
    const uint64_t limit = largest_id(vocab.json.size());
    for (const auto &[text, number] : vocab.json.items()) {
        expect(number.is_number_unsigned() && number.get<uint64_t>() < limit, "model.vocab: the id of ",
               in_quotes(text), " is ", shown_json(number), ", not an integer below ", limit, " (for ",
               vocab.json.size(), " entries)");
        const int id = number.get<int>();
        expect(!text.empty(), "model.vocab: an empty piece, id ", id);
        if (id >= t.size()) t.vocabulary.resize(id + 1);
        expect(t.vocabulary[id].empty(), "model.vocab: id ", id, " is both ", in_quotes(t.vocabulary[id]),
               " and ", in_quotes(text));
        t.vocabulary[id] = text;
        known.emplace(text, id);
    }
    return known;
}

// "a b" or ["a", "b"]
static std::pair<std::string, std::string> merge_pair(const Json &value) {
    const bool list = value.is_array() && value.size() == 2 && value[0].is_string() && value[1].is_string();
    if (list) return {value[0].get<std::string>(), value[1].get<std::string>()};
    const std::string text = value.is_string() ? value.get<std::string>() : "";
    const size_t space = text.find(' ');
    expect(space != text.npos && text.find(' ', space + 1) == text.npos, "model.merges: ", shown_json(value),
           " is not two pieces");
    return {text.substr(0, space), text.substr(space + 1)};
}

static void read_merges(const Json &list, const StringMap<int> &known, Tokenizer &t) {
    const auto id_of = [&](const std::string &piece) {
        const auto found = known.find(piece);
        expect(found != known.end(), "model.merges: ", in_quotes(piece), " is not in the vocabulary");
        return found->second;
    };
    for (const Json &value : list) {
        const auto [left, right] = merge_pair(value);
        t.merges.push_back({id_of(left), id_of(right), id_of(left + right)});
    }
}

// The reference library ignores the ids of added tokens: one that is in the vocabulary has the id that
// it has there, the others are numbered from the vocabulary's size on. Files agree with this; where
// one does not, a note says so.
static void read_added(const Json &list, const StringMap<int> &known, Tokenizer &t) {
    std::set<std::string> seen;
    int next = (int)known.size();
    const long limit = largest_id(known.size() + list.size());
    for (const Json &value : list) {
        const JsonObject entry(value, "added_tokens");
        const std::string text = get_string(entry, "content");
        const std::string where = "added_tokens: " + in_quotes(text);
        const int id = (int)get_int(JsonObject(value, where), "id", 0, limit - 1);
        for (const char *key : {"single_word", "lstrip", "rstrip"})
            expect(!flag(entry, key, false), where, ": ", key, " is not supported");
        if (text.empty()) continue;
        expect(seen.insert(text).second, where, " is listed twice");
        const auto found = known.find(text);
        const int real = found != known.end() ? found->second : next;
        next = std::max(next, real + 1);
        if (real >= t.size()) t.vocabulary.resize(real + 1);
        for (int place : {real, id}) {
            const std::string there = place < t.size() ? t.vocabulary[place] : "";
            expect(there.empty() || there == text, "added_tokens: id ", place, " is both ", in_quotes(there),
                   " and ", in_quotes(text));
        }
        if (id != real)
            t.notes.push_back(cat("added token ", in_quotes(text), " has id ", real, ", not ", id));
        t.vocabulary[real] = text;
        t.added.push_back({text, real, flag(entry, "special", false), flag(entry, "normalized", true)});
    }
}

static void read_file(const JsonObject &file, Tokenizer &t) {
    check_file(file);
    const JsonObject model(need(file, "model"), "model");
    const StringMap<int> known = read_vocabulary(get_object(model, "vocab"), t);
    check_model(model, has_all_bytes(known));
    read_merges(get_list(model, "merges"), known, t);
    t.ignore_merges = flag(model, "ignore_merges", false);
    if (given(file, "added_tokens")) read_added(get_list(file, "added_tokens"), known, t);
    if (given(file, "normalizer")) check_normalizer(need(file, "normalizer"));
    if (given(file, "pre_tokenizer")) read_stages(need(file, "pre_tokenizer"), t.stages);
    if (given(file, "post_processor")) read_post_processor(need(file, "post_processor"), t);
    t.decodes = given(file, "decoder");
    if (t.decodes) check_decoder(JsonObject(need(file, "decoder"), "decoder"));
}

Tokenizer parse_tokenizer(const std::string &text, const std::string &name) {
    Tokenizer t;
    const Json file = parse_json(text, name);
    try {
        read_file(JsonObject(file, "the file"), t);
        t.prepare();
    } catch (const Error &e) {
        fail(cat(name, ": ", e.what()), e.hint);
    }
    return t;
}

// tokenizer_config.json names the tokens that begin and end a text, as a string or as an added token.
static void read_tokenizer_config(const std::string &path, Tokenizer &t) {
    const Json config = parse_json(read_text(path, 1 << 24), path);
    const auto token = [&](const char *key) {
        const Json value = config.is_object() && config.contains(key) ? config[key] : Json(nullptr);
        const Json text = value.is_object() && value.contains("content") ? value["content"] : value;
        return text.is_string() ? t.find(text.get<std::string>()) : -1;
    };
    t.set_boundary(token("bos_token"),
                   token("eos_token") < 0 ? std::vector<int>{} : std::vector{token("eos_token")});
    const JsonObject object(config, path);
    if (!given(object, "add_bos_token")) return;
    t.begin.clear();
    if (get_bool(object, "add_bos_token") && t.bos >= 0) t.begin = {t.bos};
}

Tokenizer load_tokenizer(const std::string &name) {
    if (name == "bytes") return byte_tokenizer();
    const bool folder = std::filesystem::is_directory(name);
    const std::string path = folder ? name + "/tokenizer.json" : name;
    Tokenizer t = parse_tokenizer(read_text(path, largest_file), path);
    const std::string beside = std::filesystem::path(path).replace_filename("tokenizer_config.json").string();
    if (exists(beside)) read_tokenizer_config(beside, t);
    return t;
}

// As Python writes it, which made the training texts: a space after each comma and colon.
static std::string spaced(const Json &value) {
    if (!value.is_structured()) return dump(value, -1);
    std::string out;
    for (const auto &[key, part] : value.items()) {
        if (!out.empty()) out += ", ";
        if (value.is_object()) out += dump(key, -1) + ": ";
        out += spaced(part);
    }
    return value.is_object() ? "{" + out + "}" : "[" + out + "]";
}

std::vector<Argument> tool_arguments(const std::string &text) {
    const Json arguments = parse_json(text, "chat: the arguments of a call");
    const JsonObject object(arguments, "chat: the arguments of a call");
    std::vector<Argument> out;
    for (const auto &[name, value] : object.json.items())
        if (value.is_string()) out.push_back({name, value.get<std::string>(), true});
        else out.push_back({name, spaced(value), false});
    return out;
}

// ------------------------------------------------------------------------------------------- [3] writing

static Json write_stage(const Stage &stage) {
    if (stage.kind == Stage::digits)
        return {{"type", "Digits"}, {"individual_digits", stage.keep != Stage::contiguous}};
    if (stage.kind == Stage::byte_level)
        return {{"type", "ByteLevel"},
                {"add_prefix_space", stage.prefix_space},
                {"trim_offsets", true},
                {"use_regex", !stage.pattern.empty()}};
    Json out = {{"type", "Split"}, {"pattern", {{stage.literal ? "String" : "Regex", stage.pattern}}}};
    for (const auto &[name, keep] : behaviors)
        if (keep == stage.keep) out["behavior"] = name;
    out["invert"] = stage.invert;
    return out;
}

// Asked to add special tokens, the reference library puts before a text what training has put there.
static Json write_post_processor(const Tokenizer &t) {
    if (t.begin.empty()) return nullptr;
    Json out = {{"type", "TemplateProcessing"}, {"single", Json::array()}};
    for (int id : t.begin) {
        const std::string text = t.vocabulary[id];
        out["single"].push_back({{"SpecialToken", {{"id", text}, {"type_id", 0}}}});
        out["special_tokens"][text] = {
            {"id", text}, {"ids", Json::array({id})}, {"tokens", Json::array({text})}};
    }
    out["single"].push_back({{"Sequence", {{"id", "A"}, {"type_id", 0}}}});
    out["pair"] = out["single"];
    out["pair"].push_back({{"Sequence", {{"id", "B"}, {"type_id", 1}}}});
    return out;
}

// Its class adds nothing of its own to what tokenizer.json says.
static std::string write_tokenizer_config(const Tokenizer &t) {
    Json out = {{"tokenizer_class", "PreTrainedTokenizerFast"}, {"clean_up_tokenization_spaces", false}};
    if (!t.begin.empty()) out["bos_token"] = t.vocabulary[t.begin[0]];
    if (!t.eos.empty()) out["eos_token"] = t.vocabulary[t.eos[0]];
    out["add_bos_token"] = !t.begin.empty();
    return dump(out, 1) + "\n";
}

std::string Tokenizer::to_json() const {
    Json out = {{"version", "1.0"}, {"truncation", nullptr}, {"padding", nullptr}};
    out["added_tokens"] = Json::array();
    for (const AddedToken &a : added)
        out["added_tokens"].push_back({{"id", a.id},
                                       {"content", a.text},
                                       {"single_word", false},
                                       {"lstrip", false},
                                       {"rstrip", false},
                                       {"normalized", a.normalized},
                                       {"special", a.special}});
    out["normalizer"] = nullptr;
    out["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", Json::array()}};
    for (const Stage &stage : stages) out["pre_tokenizer"]["pretokenizers"].push_back(write_stage(stage));
    out["post_processor"] = write_post_processor(*this);
    const Json byte_level = {
        {"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", true}, {"use_regex", true}};
    out["decoder"] = decodes ? byte_level : Json();
    Json vocab = Json::object(), pairs = Json::array();
    for (int id = 0; id < size(); id++)
        if (!vocabulary[id].empty()) append(vocab, vocabulary[id], id);
    for (const Merge &m : merges) pairs.push_back(vocabulary[m.left] + " " + vocabulary[m.right]);
    out["model"] = {{"type", "BPE"},
                    {"dropout", nullptr},
                    {"unk_token", nullptr},
                    {"continuing_subword_prefix", nullptr},
                    {"end_of_word_suffix", nullptr},
                    {"fuse_unk", false},
                    {"byte_fallback", false},
                    {"ignore_merges", ignore_merges}};
    std::string text = dump(out, 1);
    const size_t end = text.rfind("\n }");                     // of the model: its two large parts go in here
    text.insert(end, ",\n  \"vocab\": " + dump(vocab, -1) + ",\n  \"merges\": " + dump(pairs, -1));
    return text + "\n";
}

void Tokenizer::save(const std::string &path) const {
    const bool file = path.size() > 5 && path.compare(path.size() - 5, 5, ".json") == 0;
    std::error_code ignored;
    if (!file) std::filesystem::create_directories(path, ignored);
    write_atomically(file ? path : path + "/tokenizer.json", to_json());
    if (!file) write_atomically(path + "/tokenizer_config.json", write_tokenizer_config(*this));
}

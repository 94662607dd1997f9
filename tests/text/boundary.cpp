// Where documents begin and end: the same in training, in prompts and in what is written.
#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "src/base/error.h"
#include "src/base/files.h"
#include "src/text/corpus.h"
#include "src/text/tokenizer.h"

using nlohmann::json;

namespace {

struct Folder {                                          // of its own for each test, gone when it ends
    std::string at;
    Folder() {
        at = (std::filesystem::temp_directory_path() / "corpus-XXXXXX").string();
        REQUIRE(mkdtemp(at.data()));
        setenv("XDG_CACHE_HOME", (at + "/cache").c_str(), 1);
    }
    ~Folder() {
        unsetenv("XDG_CACHE_HOME");
        std::filesystem::remove_all(at);
    }
};

constexpr int begin = 256, end = 257;

// A file's ids, training part and held-out part together.
std::vector<int> all_ids(const Folder &folder, const Tokenizer &t, const std::string &text) {
    write_atomically(folder.at + "/text.txt", text);
    const Corpus c = load_corpus(folder.at + "/text.txt", t, 1);
    std::vector<int> ids = c.train.read(0, c.train.size()), rest = c.valid.read(0, c.valid.size());
    ids.insert(ids.end(), rest.begin(), rest.end());
    return ids;
}

json written(const Tokenizer &t) { return json::parse(t.to_json()); }

}  // namespace

TEST_CASE("boundary: a tokenizer made here puts nothing before a text, and says so to others") {
    const Tokenizer t = byte_tokenizer();
    CHECK(t.begin.empty());
    CHECK(t.eos == std::vector<int>{end});
    CHECK(written(t)["post_processor"].is_null());
    CHECK(t.begun({65, 66}) == std::vector<int>{65, 66});
    CHECK(t.begun({}) == std::vector<int>{end});        // what stands before every document
}

TEST_CASE("boundary: what a post-processor puts before a text, training puts there, and so do prompts") {
    Folder folder;
    Tokenizer t = byte_tokenizer();
    t.begin = {begin};
    const json processor = written(t)["post_processor"];
    CHECK(processor["type"] == "TemplateProcessing");
    CHECK(processor["single"].size() == 2);
    CHECK(processor["pair"].size() == 3);
    CHECK(processor["special_tokens"]["<｜begin▁of▁sentence｜>"]["ids"] == json({begin}));
    const Tokenizer back = parse_tokenizer(t.to_json(), "t");
    CHECK(back.begin == std::vector<int>{begin});
    CHECK(back.begun({65}) == std::vector<int>{begin, 65});
    CHECK(back.begun({begin, 65}) == std::vector<int>{begin, 65});         // a prompt that says so itself
    CHECK(back.begun({}) == std::vector<int>{begin});
    const std::string text(100, 'x');
    std::vector<int> expected = {begin};
    expected.insert(expected.end(), text.begin(), text.end());
    expected.push_back(end);
    CHECK(all_ids(folder, back, text) == expected);
}

TEST_CASE("boundary: documents end with the model's first token that ends a text, kept ids are made anew") {
    Folder folder;
    const std::string text(100, 'x');
    for (const std::vector<int> &eos : {std::vector<int>{}, {7, 9}, {9}}) {
        Tokenizer t = byte_tokenizer();
        t.set_boundary(-1, eos);
        CHECK(all_ids(folder, t, text).back() == (eos.empty() ? end : eos[0]));
        CHECK(t.eos.back() == end);                      // the tokenizer's own still ends a text
        CHECK(t.eos.size() == eos.size() + 1);
    }
}

TEST_CASE("boundary: tokenizer_config.json names the tokens, and says whether one stands before a text") {
    Folder folder;
    const auto load = [&](const json &config) {
        byte_tokenizer().save(folder.at);
        write_atomically(folder.at + "/tokenizer_config.json", config.dump());
        return load_tokenizer(folder.at);
    };
    const std::string bos = "<｜begin▁of▁sentence｜>", eos = "<｜end▁of▁sentence｜>";
    Tokenizer t = load({{"bos_token", {{"content", bos}}}, {"eos_token", bos}, {"add_bos_token", true}});
    CHECK(t.begin == std::vector<int>{begin});
    CHECK(t.eos == std::vector<int>{begin, end});
    t = load({{"bos_token", bos}, {"eos_token", eos}});
    CHECK(t.begin.empty());
    CHECK(t.begun({}) == std::vector<int>{begin});
    t = load({{"bos_token", nullptr}, {"eos_token", "not a token"}});
    CHECK(t.begun({}) == std::vector<int>{end});
    CHECK_THROWS_AS(load({{"add_bos_token", 1}}), Error);
    CHECK_THROWS_AS(load(json::array()), Error);
    byte_tokenizer().save(folder.at);                    // ours: read again, the same
    CHECK(load_tokenizer(folder.at).begin.empty());
    CHECK(load_tokenizer(folder.at).eos == std::vector<int>{end});
}

TEST_CASE("boundary: a tokenizer without any token that begins or ends a text has no empty prompt") {
    json file = written(byte_tokenizer());
    file["added_tokens"] = json::array();
    Tokenizer t = parse_tokenizer(file.dump(), "t");
    CHECK(t.eos.empty());
    CHECK_THROWS_AS(t.begun({}), Error);
    t.set_boundary(3, {});
    CHECK(t.begun({}) == std::vector<int>{3});
}

TEST_CASE("boundary: a post-processor that names what is no token is refused") {
    Tokenizer t = byte_tokenizer();
    t.begin = {begin};
    json file = written(t);
    file["post_processor"]["special_tokens"]["<｜begin▁of▁sentence｜>"]["ids"] = {258};
    CHECK_THROWS_AS(parse_tokenizer(file.dump(), "t"), Error);
    file["post_processor"]["special_tokens"] = json::object();
    CHECK_THROWS_AS(parse_tokenizer(file.dump(), "t"), Error);
    file["post_processor"] = {{"type", "RobertaProcessing"}, {"cls", {"x", begin}}, {"sep", {"y", end}}};
    CHECK(parse_tokenizer(file.dump(), "t").begin == std::vector<int>{begin});
    file["post_processor"]["cls"] = "x";
    CHECK_THROWS_AS(parse_tokenizer(file.dump(), "t"), Error);
}

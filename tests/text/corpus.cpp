// Which files of a folder are texts, and what is said of texts that are too short.
#include <doctest/doctest.h>

#include "src/base/error.h"
#include "src/text/corpus.h"
#include "src/text/tokenizer.h"
#include "tests/text/folder.h"

namespace fs = std::filesystem;
namespace {

std::vector<std::string> texts(const Folder &folder, const std::string &below) {      // their names below it
    std::vector<std::string> names;
    for (const std::string &path : texts_below((folder.at / below).string()))
        names.push_back(fs::relative(path, folder.at / below).string());
    return names;
}

struct Refusal { std::string cause, hint; };
template <class Action> Refusal refusal(Action action) {
    try {
        action();
    } catch (const Error &e) {
        return {e.what(), e.hint};
    }
    return {"nothing refused", ""};
}
bool contains(const std::string &text, const std::string &part) { return text.find(part) != text.npos; }
}  // namespace

TEST_CASE("corpus: a folder's texts in order, without what is hidden, empty or no text") {
    const Folder folder;
    const std::string large(1 << 17, 'x');
    folder.put("f/b.txt", "two");
    folder.put("f/a/z.md", "one");
    folder.put("f/empty", "");
    folder.put("f/.hidden", "no");
    folder.put("f/.git/config", "no");
    folder.put("f/zero.bin", std::string("no\0text", 7));
    folder.put("f/80.bin", std::string(40000, '\x80'));
    folder.put("f/latin1.txt", "K\xF6ln und D\xFCsseldorf am Rhein, und so fort");     // two of 38 are broken
    folder.put("f/koi8.txt", "\xF0\xD2\xC9\xD7\xC5\xD4, \xCD\xC9\xD2");                   // nearly all are
    folder.put("f/chinese.txt", "x\xE4\xBD\xA0\xE5\xA5\xBD");
    folder.put("f/far.txt", large + std::string(1, '\0'));           // only the beginning is looked at
    CHECK(texts(folder, "f") ==
          std::vector<std::string>{"a/z.md", "b.txt", "chinese.txt", "far.txt", "latin1.txt"});
    folder.put(".dot/a", "seen");                                    // what is named is not hidden
    CHECK(texts(folder, ".dot") == std::vector<std::string>{"a"});
    folder.put("g/.a", "x");
    folder.put("g/b", std::string(3, '\0'));
    CHECK(contains(refusal([&] { texts(folder, "g"); }).cause,
                   "g: no texts in it (left out: 1 hidden, 1 that are no text)"));
    CHECK(texts_below(folder.put("h/.one", std::string(1, '\0'))).size() == 1);           // nor is a file
}

TEST_CASE("corpus: a folder whose first file is no text trains on the others") {
    const Folder folder;
    folder.put("f/a.bin", std::string(40000, '\x80'));
    folder.put("f/b.txt", std::string(100, 'b'));
    const Corpus c = load_corpus((folder.at / "f").string(), byte_tokenizer(), 1);
    CHECK(c.train.read(0, c.train.size()) == std::vector<int>(95, 'b'));
    CHECK(c.valid.size() == 6);
}

TEST_CASE("corpus: broken bytes at the end of the training part do not move it to the beginning") {
    const Folder folder;
    const std::string text = std::string(500, 'a') + std::string(500, '\x80');
    const Corpus c = load_corpus(folder.put("t", text), byte_tokenizer(), 1);
    CHECK(c.train.size() == 500 + 3 * 450);                         // each broken byte is U+FFFD, three bytes
}

TEST_CASE(
    "corpus: a text of few tokens is refused in those words, and one shorter than a context with a way out") {
    const Folder folder;
    const Tokenizer bytes = byte_tokenizer();
    for (const char *text : {"a", "ab", "a text of a few words"})
        CHECK(contains(refusal([&] { load_corpus(folder.put("t", text), bytes, 1); }).cause,
                       "tokens are too few to train on"));
    CHECK(contains(refusal([&] { load_corpus(folder.put("t", ""), bytes, 1); }).cause, "is empty"));
    Corpus c = load_corpus(folder.put("t", std::string(60, 'x')), bytes, 1);
    const Refusal short_text = refusal([&] { windows(c, bytes, 0, 1, 57); });
    CHECK(contains(short_text.cause, "57 tokens, fewer than one context of 57"));
    CHECK(short_text.hint == "--context 56 is the longest that fits");
    CHECK(windows(c, bytes, 0, 1, 56)[0].size() == 57);

    Trainer trainer(pretokenizer("none"), {});                       // 64 letters become one token
    trainer.read(std::string(64, 'a'));
    std::string text;
    for (int i = 0; i < 1216; i++) text += char('b' + i * i % 17);
    CHECK(contains(refusal([&] {
                       load_corpus(folder.put("u", text + std::string(64, 'a')), trainer.train(300), 1);
                   }).cause,
                   "the last twentieth, which is held out, is 1 token; two are needed"));
}

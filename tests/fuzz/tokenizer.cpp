// Two things to fuzz; the first byte chooses:
//   even   the rest is a tokenizer.json: it is read, used and written, or refused with an Error, nothing else
//   odd    the rest is a text: encode and decode give it back (after its repair, when it is not UTF-8), under
//          all pre-tokenisers; a stream shows what decode gives
#include <cstdio>
#include <cstdlib>

#include "src/base/error.h"
#include "src/base/utf8.h"
#include "src/text/regex.h"
#include "src/text/tokenizer.h"

static void require(bool condition, const char *what) {
    if (condition) return;
    std::fprintf(stderr, "broken: %s\n", what);
    std::abort();
}

static void read_hostile(const std::string &json) {
    try {
        const Tokenizer t = parse_tokenizer(json, "fuzz");
        const std::vector<int> ids = t.encode("Hello, wörld! 12345 \n\n\t  猫 <｜User｜>");
        t.decode(ids, true);
        require(parse_tokenizer(t.to_json(), "again").encode("Hello 猫") == t.encode("Hello 猫"),
                "written = read");
    } catch (const Error &) {}
}

static std::vector<Tokenizer> all_styles() {
    std::vector<Tokenizer> out = {byte_tokenizer()};
    for (const char *style : {"none", "v3", "coder", "llm"}) {
        if (!Regex::available() && std::string(style) != "none") continue;
        Trainer trainer(pretokenizer(style));
        for (int i = 0; i < 3; i++)
            trainer.read("the cat sat on the mats 1234 times.\r\n\r\n  'tis 猫です ёж 👍🏽 aaaaaaaa");
        out.push_back(trainer.train(400));
    }
    return out;
}

static void round_trip(const std::string &bytes) {
    static const std::vector<Tokenizer> tokenizers = all_styles();
    const std::string text = repair_utf8(bytes);
    require(repair_utf8(text) == text, "a repaired text needs no repair");
    for (const Tokenizer &t : tokenizers) {
        const std::vector<int> ids = t.encode(bytes);
        require(t.decode(ids) == text, "decode(encode(text)) = text");
        require(t.decode(t.encode_plain(text)) == text, "decode(encode_plain(text)) = text");
        StreamDecoder stream{t, ""};
        std::string streamed;
        for (int id : ids) streamed += stream.push(id);
        require(streamed + stream.finish() == text, "stream = text");
    }
}

extern "C" int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size) {
    if (size == 0) return 0;
    const std::string rest((const char *)data + 1, size - 1);
    if (data[0] % 2 == 0) read_hostile(rest);
    else round_trip(rest);
    return 0;
}

// chat.cpp: what a person sees of decoding. A conversation always fits, and says what the model cannot know.
#include "src/infer/chat.h"
#include "src/model/config.h"
#include "src/model/weights.h"
#include "tests/check.h"

namespace {
Generation short_answers() {
    Generation g;
    g.sampling.temperature = 0;
    g.max_tokens = 4;
    return g;
}
Model nano() {
    Config c = load_preset("v3-nano");
    c.V = byte_tokenizer().size();
    return initialised(c, seeded(1));
}
const Print silent = [](const std::string &) {};
const char *begin_token = "<｜begin▁of▁sentence｜>";
}  // namespace

TEST_CASE("stream: the printed parts are the text, and the context's end is told apart from --max-tokens") {
    const Model m = nano();
    const Tokenizer tokenizer = byte_tokenizer();
    Generation g = short_answers();
    std::string printed;
    const auto collect = [&](const std::string &part) { printed += part; };
    const Continuation some = stream(m, tokenizer, std::vector<int>(8, 'x'), g, collect);
    CHECK(printed == some.text);
    CHECK(!some.text.empty());
    CHECK(!some.cut);
    CHECK(stream(m, tokenizer, std::vector<int>(m.c.context - 1, 'x'), g, collect).cut);
    CHECK(!stream(m, tokenizer, std::vector<int>(m.c.context - 4, 'x'), g, collect).cut);
}

TEST_CASE("chat: the oldest turns go, the system text and the newest stay") {
    const Model m = nano();
    const Tokenizer tokenizer = byte_tokenizer();
    Chat chat(m, tokenizer, "v2", "Hi", false, short_answers());
    const size_t bare = chat.prompt().size();
    for (int turn = 0; turn < 5; turn++) {
        chat.say("question " + std::to_string(turn));
        chat.answer(silent);
    }
    chat.say("last");
    const std::string text = tokenizer.decode(chat.prompt());
    CHECK(chat.prompt().size() <= (size_t)m.c.context - 4);
    CHECK(text.find("Hi") != std::string::npos);
    CHECK(text.find("last") != std::string::npos);
    CHECK(text.find("question 0") == std::string::npos);
    chat.begin_anew();
    CHECK(chat.prompt().size() == bare);
    CHECK_THROWS_AS(chat.say(std::string(100, 'x')), Error);
    CHECK(chat.prompt().size() == bare);
}

TEST_CASE("chat: control tokens that no text held are named, once some others have learned") {
    Model m = nano();
    const Tokenizer tokenizer = byte_tokenizer();
    CHECK(untrained_tokens(m).empty());                  // nothing has learned: nothing can be said
    const std::vector<real> before = values(m.Emb);
    std::vector<real> after = before;
    const auto learn = [&](int id) {
        for (int i = 0; i < m.c.d; i++) after[(long)id * m.c.d + i] *= 3;
    };
    for (int id = 'a'; id <= 'z'; id++) learn(id);
    learn(tokenizer.find("<｜end▁of▁sentence｜>"));
    assign(m.Emb, after);
    const std::vector<bool> untrained = untrained_tokens(m);
    CHECK(!untrained['a']);
    CHECK(untrained['A']);
    const Chat chat(m, tokenizer, "v2", "", false, short_answers());
    CHECK(chat.strangers() == std::vector<std::string>{begin_token});
    learn(tokenizer.find(begin_token));
    assign(m.Emb, after);
    CHECK(chat.strangers().empty());
}

// chat.cpp: text that streams, and conversations.
//
//   [1] the tokens of a model   [2] a text that streams   [3] a conversation   [4] who was never trained
#include "src/infer/chat.h"

#include <algorithm>
#include <cmath>

// --------------------------------------------------------------------------------- [1] the tokens of a model
Tokenizer tokenizer_of(const Model &m, const std::string &folder) {
    Tokenizer tokenizer = load_tokenizer(folder);
    expect(tokenizer.size() <= m.c.V, folder, ": the tokenizer has ", tokenizer.size(),
           " tokens, the model's vocabulary only ", m.c.V);
    tokenizer.set_boundary(m.c.bos, m.c.eos);
    return tokenizer;
}

// ------------------------------------------------------------------------------- [2] a text that streams
Continuation stream(const Model &m, const Tokenizer &tokenizer, const std::vector<int> &prompt,
                    const Generation &g, const Print &print) {
    StreamDecoder words{tokenizer, ""};
    Continuation c;
    const auto push = [&](const std::string &part) {
        c.text += part;
        print(part);
    };
    const Request request = {.prompt = prompt, .max_tokens = g.max_tokens, .stop = g.stop};
    const auto added = decode(m, {request}, g.options(), [&](int, int, int id) { push(words.push(id)); });
    push(words.finish());
    c.cut = added[0][0].end == End::context;
    return c;
}

// ------------------------------------------------------------------------------------- [3] a conversation
Chat::Chat(const Model &m, const Tokenizer &tokenizer, const std::string &style, const std::string &system,
           bool thinking, const Generation &generation)
    : m(m), tokenizer(tokenizer), style(style), thinking(thinking), g(generation) {
    if (!system.empty()) talk.push_back({"system", system, {}, ""});
    opening = talk.size();
    fits = m.c.context - std::min(g.max_tokens, m.c.context / 2);
    expect(prompt().size() < fits, "--system: ", prompt().size(), " tokens leave no room in a context of ",
           m.c.context);
    g.stop = tokenizer.eos;
    expect(!g.stop.empty(), "chat: neither the model nor its tokenizer names a token that ends an answer");
}

std::vector<int> Chat::prompt() const { return chat_prompt(style, talk, thinking).encode(tokenizer); }

void Chat::say(const std::string &line) {
    talk.push_back({"user", line, {}, ""});
    while (prompt().size() > fits && talk.size() > opening + 1)
        talk.erase(talk.begin() + opening, talk.begin() + opening + 2);
    const size_t tokens = prompt().size();
    if (tokens <= fits) return;
    talk.pop_back();
    fail(cat("too long: ", tokens, " tokens, and there is room for ", fits));
}

// What the model thought (V3.2's template wants it apart) is all before </think>.
Continuation Chat::answer(const Print &print) {
    const Continuation c = stream(m, tokenizer, prompt(), g, print);
    const std::string end_think = "</think>";
    const size_t end = c.text.find(end_think);
    if (end == std::string::npos) talk.push_back({"assistant", c.text, {}, ""});
    else talk.push_back({"assistant", c.text.substr(end + end_think.size()), {}, c.text.substr(0, end)});
    return c;
}

std::vector<std::string> Chat::strangers() const {
    const std::vector<Message> turns = {
        {"user", "x", {}, ""}, {"assistant", "y", {}, ""}, {"user", "z", {}, ""}};
    const std::vector<bool> untrained = untrained_tokens(m);
    std::vector<std::string> names;
    for (const Part &part : chat_prompt(style, turns, thinking).parts) {
        if (part.kind == Part::words) continue;
        const int id = tokenizer.find(part.text);
        const bool strange = id < 0 || (!untrained.empty() && untrained[id]);
        if (strange && !std::count(names.begin(), names.end(), part.text)) names.push_back(part.text);
    }
    return names;
}

// ----------------------------------------------------------------------------- [4] who was never trained
// A row's mean square begins at init_std^2, give or take 1/sqrt(2 d) of its root. What no text holds stays
// there: the embedding is not decayed. Without a twentieth of rows that clearly left, nothing can be said.
std::vector<bool> untrained_tokens(const Model &m) {
    if (!m.head) return {};
    const std::vector<real> Emb = values(m.Emb);
    const int d = m.c.d;
    const double most = m.c.init_std * (1 + 4 / std::sqrt(2.0 * d));
    std::vector<bool> untrained;
    for (int id = 0; id < m.c.V; id++) {
        double squares = 0;
        for (int i = 0; i < d; i++) squares += (double)Emb[(long)id * d + i] * Emb[(long)id * d + i];
        untrained.push_back(std::sqrt(squares / d) <= most);
    }
    const long moved = std::count(untrained.begin(), untrained.end(), false);
    return moved * 20 >= m.c.V ? untrained : std::vector<bool>();
}

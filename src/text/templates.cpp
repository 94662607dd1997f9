// templates.cpp: the prompts of the released models, chat and fill-in-the-middle.
//
// A chat model was trained on one exact way to write a conversation. Control tokens are looked up by
// name in the tokenizer that is loaded: numbers differ from model to model (<think> is 128798 in R1,
// 128821 in V4, no token in V3). What people and tools said goes in as words: a user who types
// <｜Assistant｜> does not get the token.
#include "src/base/error.h"
#include "src/base/json.h"
#include "src/text/tokenizer.h"

static const std::string begin_text = "<｜begin▁of▁sentence｜>", end_text = "<｜end▁of▁sentence｜>";
static const std::string calls_begin = "<｜tool▁calls▁begin｜>", calls_end = "<｜tool▁calls▁end｜>";
static const std::string call_begin = "<｜tool▁call▁begin｜>", call_end = "<｜tool▁call▁end｜>";
static const std::string outputs_begin = "<｜tool▁outputs▁begin｜>", outputs_end = "<｜tool▁outputs▁end｜>";
static const std::string output_begin = "<｜tool▁output▁begin｜>", output_end = "<｜tool▁output▁end｜>";
static const std::string separator = "<｜tool▁sep｜>", user_turn = "<｜User｜>",
                         assistant_turn = "<｜Assistant｜>";
static const std::string think = "<think>", end_think = "</think>", dsml = "｜DSML｜";

std::string Prompt::text() const {
    std::string out;
    for (const Part &part : parts) out += part.text;
    return out;
}

// Neighbouring words are encoded together, for a token may lie across two parts.
std::vector<int> Prompt::encode(const Tokenizer &tokenizer) const {
    std::vector<int> ids;
    std::string words;
    const auto flush = [&] {
        const std::vector<int> plain = tokenizer.encode_plain(words);
        ids.insert(ids.end(), plain.begin(), plain.end());
        words.clear();
    };
    for (const Part &part : parts) {
        if (part.kind == Part::words || (part.kind == Part::mark && tokenizer.find(part.text) < 0)) {
            words += part.text;
            continue;
        }
        flush();
        ids.push_back(tokenizer.special(part.text));
    }
    flush();
    return ids;
}

// Writes a prompt: `tokens` for control tokens, `words` for text, `marks` for what is
// a token in some vocabularies.
struct Writer {
    Prompt prompt;
    Writer &tokens(const std::string &text) { return add(Part::token, text); }
    Writer &words(const std::string &text) { return add(Part::words, text); }
    Writer &marks(const std::string &text) { return add(Part::mark, text); }
    Writer &add(Part::Kind kind, const std::string &text) {
        if (!text.empty()) prompt.parts.push_back({kind, text});
        return *this;
    }
};

static std::string joined_system(const std::vector<Message> &messages) {
    std::string out;
    for (const Message &m : messages)
        if (m.role == "system") out += (out.empty() ? "" : "\n\n") + m.content;
    return out;
}

static std::string after_first(const std::string &text, const std::string &mark) {
    const size_t at = text.find(mark);
    return at == std::string::npos ? text : text.substr(at + mark.size());
}

static std::string after_last(const std::string &text, const std::string &mark) {
    const size_t at = text.rfind(mark);
    return at == std::string::npos ? text : text.substr(at + mark.size());
}

// deepseek-llm and V2: no control tokens but begin and end; V2 allows a system text.
static Prompt chat_in_words(const std::vector<Message> &messages, bool system_text, bool answer) {
    Writer w;
    w.tokens(begin_text);
    for (const Message &m : messages) {
        expect(m.role != "tool" && m.calls.empty(), "chat: this model has no template for tools");
        expect(m.role != "system" || system_text, "chat: deepseek-llm has no system text");
        if (m.role == "system") w.words(m.content + "\n\n");
        if (m.role == "user") w.words("User: " + m.content + "\n\n");
        if (m.role == "assistant") w.words("Assistant: " + m.content).tokens(end_text);
    }
    if (answer) w.words("Assistant:");                 // and no space: it belongs to the answer's first token
    return w.prompt;
}

// V3 and R1. In V3's published template a single call is never closed and three calls are closed twice, and
// neither "first" below is ever reset: a model that was trained on it expects it, so it stays. R1 closes
// once, takes the last system text only, drops past thoughts, and begins its answer with <think>.
static Prompt chat_v3(const std::vector<Message> &messages, bool r1, bool answer) {
    Writer w;
    std::string system = joined_system(messages);
    for (const Message &m : messages)
        if (r1 && m.role == "system") system = m.content;
    w.tokens(begin_text).words(system);
    bool after_tool = false, first_call = true, first_output = true;
    for (const Message &m : messages) {
        if (m.role == "user") w.tokens(user_turn).words(m.content);
        if (m.role == "user") after_tool = false;
        for (const ToolCall &call : m.calls) {
            if (first_call) w.tokens(assistant_turn).tokens(calls_begin);
            else w.words("\n");
            w.tokens(call_begin).words(call.type).tokens(separator);
            w.words(call.name + "\n```json\n" + call.arguments + "\n```").tokens(call_end);
            if (!r1 && !first_call) w.tokens(calls_end).tokens(end_text);
            first_call = after_tool = false;
        }
        if (r1 && !m.calls.empty()) w.tokens(calls_end).tokens(end_text);
        if (m.role == "assistant" && m.calls.empty()) {
            w.tokens(after_tool ? outputs_end : assistant_turn);
            w.words(r1 ? after_last(m.content, end_think) : m.content).tokens(end_text);
            after_tool = false;
        }
        if (m.role == "tool") {
            if (first_output) w.tokens(outputs_begin);
            else w.words("\n");
            w.tokens(output_begin).words(m.content).tokens(output_end);
            first_output = false;
            after_tool = true;
        }
    }
    if (after_tool) w.tokens(outputs_end);
    else if (answer) w.tokens(assistant_turn);
    if (!after_tool && answer && r1) w.marks(think).words("\n");
    return w.prompt;
}

// V3.1: one model that thinks or does not. The first token after Assistant says which;
// history never holds thoughts.
static Prompt chat_v31(const std::vector<Message> &messages, bool thinking, bool answer) {
    Writer w;
    w.tokens(begin_text).words(joined_system(messages));
    bool after_user = false;
    for (const Message &m : messages) {
        if (m.role == "user") w.tokens(user_turn).words(m.content);
        if (m.role == "assistant") {
            if (after_user) w.tokens(assistant_turn).marks(end_think);
            w.words(after_first(m.content, end_think));
            if (!m.calls.empty()) w.tokens(calls_begin);
            for (const ToolCall &call : m.calls) {
                w.tokens(call_begin).words(call.name).tokens(separator);
                w.words(call.arguments).tokens(call_end);
            }
            if (!m.calls.empty()) w.tokens(calls_end);
            w.tokens(end_text);
        }
        if (m.role == "tool") w.tokens(output_begin).words(m.content).tokens(output_end);
        after_user = m.role == "user" || (after_user && m.role != "assistant");
    }
    if (answer && after_user) w.tokens(assistant_turn).marks(thinking ? think : end_think);
    return w.prompt;
}

// V3.2: calls are written in tags; every user turn is followed at once by Assistant, and thoughts are kept as
// long as no newer user turn came (so a model can go on thinking after a tool answered).
static void calls_v32(Writer &w, const Message &m) {
    if (m.calls.empty()) return;
    w.words("\n\n<").marks(dsml).words("function_calls>\n");
    for (size_t i = 0; i < m.calls.size(); i++) {
        w.words(i > 0 ? "\n<" : "<").marks(dsml).words("invoke name=\"" + m.calls[i].name + "\">\n");
        const char *line = "<";                                // arguments stand on lines of their own
        for (const auto &[name, value, is_string] : tool_arguments(m.calls[i].arguments)) {
            w.words(line).marks(dsml).words("parameter name=\"" + name + "\" string=\"");
            w.words((is_string ? "true\">" : "false\">") + value + "</").marks(dsml).words("parameter>");
            line = "\n<";
        }
        w.words("\n</").marks(dsml).words("invoke>");
    }
    w.words("\n</").marks(dsml).words("function_calls>");
}

static Prompt chat_v32(const std::vector<Message> &messages, bool thinking, bool answer) {
    Writer w;
    size_t last_user = 0;
    for (size_t i = 0; i < messages.size(); i++)
        if (messages[i].role == "user") last_user = i;
    w.tokens(begin_text);
    for (size_t i = 0; i < messages.size(); i++) {
        const Message &m = messages[i];
        const bool last = i + 1 == messages.size(), thinks = thinking && i >= last_user;
        if (m.role == "system") w.words(m.content);
        if (m.role == "user") w.tokens(user_turn).words(m.content);
        if (m.role == "user" && (answer || !last)) w.tokens(assistant_turn).marks(thinks ? think : end_think);
        if (m.role == "assistant") {
            if (thinks) w.words(m.reasoning).marks(end_think);
            w.words(m.content);
            calls_v32(w, m);
            w.tokens(end_text);
        }
        if (m.role == "tool") {
            if (i == 0 || messages[i - 1].role != "tool") w.words("\n\n<function_results>");
            w.words("\n<result>" + m.content + "</result>");
            if (last || messages[i + 1].role != "tool")
                w.words("\n</function_results>\n\n").marks(thinks ? think : end_think);
        }
    }
    return w.prompt;
}

Prompt chat_prompt(const std::string &style, const std::vector<Message> &messages, bool thinking,
                   bool answer) {
    for (const Message &m : messages)
        expect(m.role == "system" || m.role == "user" || m.role == "assistant" || m.role == "tool",
               "chat: ", m.role, " is not one of system, user, assistant, tool");
    if (style == "llm" || style == "v2") return chat_in_words(messages, style == "v2", answer);
    if (style == "v3" || style == "r1") return chat_v3(messages, style == "r1", answer);
    if (style == "v3.1") return chat_v31(messages, thinking, answer);
    if (style == "v3.2") return chat_v32(messages, thinking, answer);
    fail(cat("chat: ", style, " is not one of llm, v2, v3, r1, v3.1, v3.2"));
}

// Fill in the middle (Coder, V2, V3): the model sees what stands before and after a hole and continues with
// what was in it. Prefix-suffix-middle is what they were trained on. The other order is the usual one where
// the middle directly continues the prefix: [ours], with the same three tokens.
Prompt fim_prompt(const std::string &prefix, const std::string &suffix, Fim order) {
    const std::string begin = "<｜fim▁begin｜>", hole = "<｜fim▁hole｜>", end = "<｜fim▁end｜>";
    Writer w;
    if (order == Fim::prefix_suffix_middle)
        w.tokens(begin).words(prefix).tokens(hole).words(suffix).tokens(end);
    else w.tokens(begin).tokens(hole).words(suffix).tokens(end).words(prefix);
    return w.prompt;
}

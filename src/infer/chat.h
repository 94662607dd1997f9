// chat.h: what a person sees of decoding: a text that streams, and a conversation that fits the context.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "src/infer/decoder.h"
#include "src/text/tokenizer.h"

// Of a folder, with what the model says of where texts begin and end; one larger than the model is refused.
Tokenizer tokenizer_of(const Model &, const std::string &folder);

using Print = std::function<void(const std::string &part)>;
// Continues one prompt; `print` gets the words as they come, never half a character. Returns all of them.
struct Continuation {
    std::string text;
    bool cut = false;                                    // the context ended it
};
Continuation stream(const Model &, const Tokenizer &, const std::vector<int> &prompt, const Generation &,
                    const Print &print);

// A conversation in a model's template. When it no longer fits into the context, its oldest turns go.
class Chat {
public:
    Chat(const Model &, const Tokenizer &, const std::string &style, const std::string &system, bool thinking,
         const Generation &);
    void begin_anew() { talk.resize(opening); }
    void say(const std::string &line);                  // the user's turn; refused if there is no room for it
    std::vector<int> prompt() const;                     // all up to where the answer begins
    Continuation answer(const Print &);
    std::vector<std::string> strangers() const;          // control tokens that the model does not know

private:
    const Model &m;
    const Tokenizer &tokenizer;
    std::string style;
    bool thinking;
    Generation g;
    std::vector<Message> talk;
    size_t opening, fits;
};
// Ids whose rows of the embedding are as they were at the start: no text that the model learned
// from had them. Empty where that cannot be seen: in a model that has learned nothing yet, or
// whose head is its embedding.
std::vector<bool> untrained_tokens(const Model &);

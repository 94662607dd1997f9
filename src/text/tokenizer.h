// What tokenizer.cpp exports: text to token ids and back, training, and the prompts of the released models.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

// A map of strings where a view can be looked up. (Not noexcept: this makes libstdc++ store the hashes.)
struct Hash {
    typedef void is_transparent;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
};
template <class Value> using StringMap = std::unordered_map<std::string, Value, Hash, std::equal_to<>>;

struct Merge { int left, right, result; };                     // two neighbours become one
struct AddedToken {                                            // found before anything else
    std::string text;
    int id;
    bool special, normalized;
};

// One pre-tokeniser: it cuts each piece into matches of a pattern and the gaps between them.
struct Stage {
    enum Kind { split, digits, byte_level } kind = split;      // byte_level: the last one, bytes as letters
    enum Keep { isolated, removed, with_previous, with_next, contiguous } keep = isolated;    // its matches
    std::string pattern = "";                                  // empty: this stage does not cut
    bool literal = false;                                      // the pattern is plain text
    bool invert = false;                                       // gaps count as matches and matches as gaps
    bool prefix_space = false;                                 // byte_level: a piece begins with a space
};

// A byte-level BPE tokenizer: the fields are what tokenizer.json says, prepare() checks them and builds the
// tables. It keeps a cache of pieces, so one tokenizer belongs to one thread.
struct Tokenizer {
    std::vector<std::string> vocabulary;                       // id -> text, bytes as letters; "" = unused
    std::vector<Merge> merges;                                 // the first ones go first
    std::vector<Stage> stages;
    std::vector<AddedToken> added;
    bool ignore_merges = false;                                // a piece that is a token is not merged
    bool decodes = true;                                       // false: the file says null; decode() refuses
    // Where a text begins and ends, the same in training, in prompts and in what is written: the tokens
    // before each text, those that end one (a document ends with the first), what an empty prompt may be.
    std::vector<int> begin, eos;
    int bos = -1;
    std::vector<std::string> notes;                            // what a reader of the file should be told

    void prepare();
    void set_boundary(int bos, const std::vector<int> &eos);   // of the model: before the tokenizer's own
    int size() const { return (int)vocabulary.size(); }        // ids are 0 .. size()-1
    int find(std::string_view text) const;                     // id of an added token, or -1
    int special(std::string_view text) const;                  // the same, but an Error when there is none
    const std::string &bytes(int id) const;                    // what it decodes to; unknown: ""
    bool is_special(int id) const;
    std::vector<int> encode(std::string_view text) const;      // added tokens in the text are tokens
    std::vector<int> encode_plain(std::string_view text) const;   // control tokens are words: for users' text
    std::vector<int> begun(std::vector<int> ids) const;        // a prompt behind what begins a text, once
    std::string decode(const std::vector<int> &ids, bool skip_special = false) const;
    std::vector<std::string_view> parts(std::string_view text,
                                        size_t most = 1 << 22) const;                        // of a long text
    std::string to_json() const;
    void save(const std::string &path) const;                  // a folder: tokenizer.json in it

    struct Tables;
    std::shared_ptr<Tables> tables;
};

// Text that appears while tokens arrive: never half a character; the parts together are what decode() gives.
struct StreamDecoder {
    const Tokenizer &tokenizer;
    std::string held;                                          // the beginning of a character
    std::string push(int id);
    std::string finish();
};

Tokenizer byte_tokenizer();                           // ids 0..255 are the bytes, 256 begins, 257 ends a text
Tokenizer load_tokenizer(const std::string &name);          // "bytes", a tokenizer.json, or a folder with one
Tokenizer parse_tokenizer(const std::string &json, const std::string &name);
std::vector<Stage> pretokenizer(const std::string &name);      // v3, coder, llm, none
std::vector<AddedToken> usual_added_tokens();                  // what a tokenizer trained here gets
bool has_all_bytes(const StringMap<int> &ids);                 // the letters of all 256

// Learns merges: read() every text, then train().
struct Trainer {
    Tokenizer tokenizer;                              // its stages cut the texts, its added tokens come first
    StringMap<int64_t> words;                                // every distinct piece and how often it was read
    int64_t smallest_count = 1;                                // a pair that is rarer is not merged
    explicit Trainer(std::vector<Stage> stages, std::vector<AddedToken> added = usual_added_tokens());
    void read(std::string_view text);
    Tokenizer train(int vocabulary, const std::function<void(int done, int total)> &progress = {});
};

// A prompt in parts, because control tokens are the template's to write and never the user's.
struct Part {
    enum Kind { words, token, mark } kind;                     // mark: words where it is no token (<think>)
    std::string text;
};
struct Prompt {
    std::vector<Part> parts;
    std::string text() const;                                  // as the published templates print it
    std::vector<int> encode(
        const Tokenizer &tokenizer) const;                     // a token that the tokenizer lacks is an Error
};
struct ToolCall { std::string name, arguments, type = "function"; };
struct Message {
    std::string role, content;                                 // system, user, assistant, tool
    std::vector<ToolCall> calls;
    std::string reasoning;                                     // V3.2: thoughts of an assistant
};
struct Argument {
    std::string name, value;
    bool is_string;
};
std::vector<Argument> tool_arguments(const std::string &json);    // of one call: strings raw, others as JSON
// style: llm, v2, v3, r1, v3.1, v3.2. `answer`: end where the assistant's next words begin.
Prompt chat_prompt(const std::string &style, const std::vector<Message> &messages, bool thinking = false,
                   bool answer = true);
enum class Fim { prefix_suffix_middle, suffix_prefix_middle };
Prompt fim_prompt(const std::string &prefix, const std::string &suffix,
                  Fim order = Fim::prefix_suffix_middle);

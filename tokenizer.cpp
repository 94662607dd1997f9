// Text to tokens and back: three tokenizers of growing power.
//
// A language model sees numbers. The first tokenizer gives every byte of the text its number: nothing to
// learn, and sequences as long as the text. The second one (byte pair encoding, BPE) learns which
// neighbours occur together most often and gives them a number of their own: four or five bytes a token.
// The third is what released models use: before BPE the text is cut into words, numbers and punctuation,
// which no token crosses, and some strings (begin of sentence, user, assistant ...) are tokens by decree.
// All three are one struct, Tokenizer, whose fields are those of a Hugging Face tokenizer.json; the first
// has no merges, the second no stages.
//
// This file gives exactly the ids of the reference library (tests/oracle/check_tokenizer.py compares). It is
// not a general tokenizer library: no normalisers, no word pieces, no unigram models. Reading and writing
// tokenizer.json is src/text/tokenizer_json.cpp, regular expressions are src/text/regex.cpp.
//
// [1] bytes        bytes as letters, the byte tokenizer
// [2] BPE          learning merges, applying merges
// [3] the rest     pre-tokenisers, added tokens, encode, decode, streaming
#include "src/text/tokenizer.h"

#include <algorithm>
#include <climits>
#include <queue>

#include "src/base/error.h"
#include "src/base/utf8.h"
#include "src/text/regex.h"

// ================================================================================================= [1] bytes

// tokenizer.json is text, and tokens are bytes, not always whole characters. So each byte is written
// as a letter: the 188 printable ones of Latin-1 as themselves, the other 68 as U+0100 and following
// (a space is Ġ, a newline Ċ).
struct Letters {
    int of_byte[256];                                          // the letter, a code point below 324
    int to_byte[324];
    std::string utf8[256];
    Letters() {
        std::fill(to_byte, to_byte + 324, -1);
        int next = 256;
        for (int b = 0; b < 256; b++) {
            const bool printable = (b > 32 && b < 127) || (b > 160 && b < 173) || b > 173;
            const int letter = printable ? b : next++;
            of_byte[b] = letter;
            to_byte[letter] = b;
            if (letter >= 128) utf8[b] += (char)(0xC0 | letter >> 6);
            utf8[b] += (char)(letter >= 128 ? 0x80 | (letter & 63) : letter);
        }
    }
};
static const Letters letters;

static std::string to_letters(std::string_view bytes) {
    std::string out;
    for (unsigned char b : bytes) out += letters.utf8[b];
    return out;
}

// The bytes that a text of letters stands for. A text that holds anything else stands for itself: this is how
// <｜User｜> decodes to <｜User｜>, and also why an added token `ü` decodes to the lone byte FC.
static std::string from_letters(const std::string &text) {
    std::string out;
    for (size_t at = 0; at < text.size();) {
        const Character c = character_at(text, at);
        if (c.state != Character::whole || c.code >= 324 || letters.to_byte[c.code] < 0) return text;
        out += (char)letters.to_byte[c.code];
        at += c.length;
    }
    return out;
}

bool has_all_bytes(const StringMap<int> &ids) {
    return std::all_of(letters.utf8, letters.utf8 + 256,
                       [&](const auto &letter) { return ids.count(letter); });
}

// The first tokenizer. 256 tokens, and two more to say where a text begins and ends.
Tokenizer byte_tokenizer() {
    Tokenizer t;
    for (int b = 0; b < 256; b++) t.vocabulary.push_back(letters.utf8[b]);
    t.added = {{"<｜begin▁of▁sentence｜>", 256, true, false}, {"<｜end▁of▁sentence｜>", 257, true, false}};
    for (const AddedToken &a : t.added) t.vocabulary.push_back(a.text);
    t.stages = pretokenizer("none");
    t.prepare();
    return t;
}

// =================================================================================================== [2] BPE

// A map from a pair of ids to a number; open addressing, for this is the innermost loop of all that follows.
class PairMap {
    struct Slot { int left = -1, right = -1, value = -1; };
    std::vector<Slot> slots = std::vector<Slot>(1024);
    size_t used = 0;
    size_t place(int left, int right) const {
        const uint64_t mixed = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9E3779B97F4A7C15u;
        size_t i = (mixed ^ mixed >> 32) & (slots.size() - 1);
        while (slots[i].left >= 0 && (slots[i].left != left || slots[i].right != right))
            i = (i + 1) & (slots.size() - 1);
        return i;
    }
    void grow() {
        std::vector<Slot> old(slots.size() * 2);
        old.swap(slots);
        for (const Slot &s : old)
            if (s.left >= 0) slots[place(s.left, s.right)] = s;
    }

public:
    int find(int left, int right) const { return slots[place(left, right)].value; }          // -1: not there
    int &at(int left, int right) {                                                          // made if need be
        if (used * 2 >= slots.size()) grow();
        Slot &s = slots[place(left, right)];
        if (s.left < 0) {
            s = {left, right, -1};
            used++;
        }
        return s.value;
    }
};

// The second tokenizer: learning. Write the text as single bytes. Then, until the vocabulary is full:
//
//     count every pair of neighbours;
//     take the most frequent one (ties: the smaller left id, then the smaller right id);
//     give it a new id;
//     replace it everywhere, from left to right.
//
// Counting anew each time would read the text once per token. But a merge changes only the neighbours of the
// places where it happens, so counts are kept and corrected there:
//
//     ... q left right r ...      (q,left) and (right,r) lose one
//     ... q    new     r ...      (q,new)  and (new,r)   gain one
//
// Equal words behave equally, so each distinct word is stored once, with its count as its weight. All words
// stand in one array of symbols with links to the neighbours in the word; each pair keeps the places where it
// was seen, some of which have changed since (a look at the symbols tells). The heap of pairs is lazy in the
// same way: an entry whose count is out of date goes back with the true one. `aaa` holds two pairs (a,a);
// places are taken in order, so it becomes `(aa) a`.
class MergeLearner {
public:
    std::vector<Merge> merges;

    void add_word(const std::vector<int> &ids, int64_t count) {
        expect(symbol.size() + ids.size() < INT_MAX, "train: more than 2^31 symbols in distinct words");
        for (size_t i = 0; i < ids.size(); i++) {
            const int here = (int)symbol.size();
            symbol.push_back(ids[i]);
            weight.push_back(count);
            previous.push_back(i > 0 ? here - 1 : -1);
            next.push_back(i + 1 < ids.size() ? here + 1 : -1);
        }
    }

    // Fills the vocabulary up to `size`. A merge may spell a token that is there already (an added one): the
    // merge is recorded, and the vocabulary does not grow.
    void learn(std::vector<std::string> &vocabulary, int size, int64_t smallest_count,
               const std::function<void(int, int)> &progress) {
        StringMap<int> known;
        for (size_t id = 0; id < vocabulary.size(); id++) known[vocabulary[id]] = (int)id;
        for (int at = 0; at < (int)symbol.size(); at++)
            if (next[at] >= 0) change(at, symbol[at], symbol[next[at]], +1);
        push_grown();
        while ((int)vocabulary.size() < size && !heap.empty()) {
            const Entry top = heap.top();
            heap.pop();
            const int64_t count = pairs[index.find(top.left, top.right)].count;
            if (count < top.count && count > 0) heap.push({count, top.left, top.right});
            if (count != top.count) continue;
            if (count < std::max<int64_t>(1, smallest_count)) break;
            const std::string text = vocabulary[top.left] + vocabulary[top.right];
            const auto [name, fresh] = known.emplace(text, (int)vocabulary.size());
            if (fresh) vocabulary.push_back(text);
            merges.push_back({top.left, top.right, name->second});
            merge_everywhere(merges.back());
            push_grown();
            if (progress) progress((int)vocabulary.size(), size);
        }
    }

private:
    struct Pair {
        int left, right;
        int64_t count = 0;
        bool grown = false;                                    // waits to enter the heap
        std::vector<int> places = {};
    };
    struct Entry {
        int64_t count;
        int left, right;
        bool operator<(const Entry &other) const {       // less urgent: std::priority_queue gives the largest
            if (count != other.count) return count < other.count;
            if (left != other.left) return left > other.left;
            return right > other.right;
        }
    };
    std::vector<int> symbol, previous, next;                   // links: -1 at the ends of a word
    std::vector<int64_t> weight;
    PairMap index;                                             // (left, right) -> place in pairs
    std::vector<Pair> pairs;
    std::vector<int> grown;
    std::priority_queue<Entry> heap;

    // The pair at `at` appears (+1) or disappears (-1).
    void change(int at, int left, int right, int sign) {
        int &i = index.at(left, right);
        if (i < 0) {
            i = (int)pairs.size();
            pairs.push_back({left, right});
        }
        Pair &pair = pairs[i];
        pair.count += sign * weight[at];
        if (sign < 0) return;
        pair.places.push_back(at);
        if (!pair.grown) grown.push_back(i);
        pair.grown = true;
    }

    void push_grown() {
        for (int i : grown) {
            pairs[i].grown = false;
            if (pairs[i].count > 0) heap.push({pairs[i].count, pairs[i].left, pairs[i].right});
        }
        grown.clear();
    }

    void merge_everywhere(const Merge &merge) {
        const int i = index.find(merge.left, merge.right);
        std::vector<int> places = std::move(pairs[i].places);
        pairs[i].places = {};
        std::sort(places.begin(), places.end());
        for (int at : places) {
            const int right = next[at];
            if (symbol[at] != merge.left || right < 0 || symbol[right] != merge.right) continue;
            const int q = previous[at], r = next[right];
            if (q >= 0) change(q, symbol[q], merge.left, -1);
            if (r >= 0) change(right, merge.right, symbol[r], -1);
            symbol[at] = merge.result;
            symbol[right] = -1;
            next[at] = r;
            next[right] = -1;
            if (r >= 0) previous[r] = at;
            if (q >= 0) change(q, symbol[q], merge.result, +1);
            if (r >= 0) change(at, merge.result, symbol[r], +1);
        }
        pairs[i].count = 0;
    }
};

// Applying what was learned: start from single bytes and repeat the merges in the order in which
// they were learned, the leftmost first. That is: as long as any two neighbours have a merge, do
// the one with the lowest rank.
//
// rank[i] is the rank of the pair (i, i+1), so a merge looks up only its two new pairs. Finding the lowest is
// a walk over the piece, which for a word is quicker than anything clever.
static const int no_rank = INT_MAX;

static int rank_of(const PairMap &ranks, int left, int right) {
    const int rank = ranks.find(left, right);
    return rank < 0 ? no_rank : rank;
}

static void merge_word(const PairMap &ranks, const std::vector<Merge> &merges, std::vector<int> &symbols) {
    static thread_local std::vector<int> rank;
    rank.clear();
    for (size_t i = 0; i + 1 < symbols.size(); i++)
        rank.push_back(rank_of(ranks, symbols[i], symbols[i + 1]));
    while (!rank.empty()) {
        const size_t i = std::min_element(rank.begin(), rank.end()) - rank.begin();     // the leftmost lowest
        if (rank[i] == no_rank) break;
        symbols[i] = merges[rank[i]].result;
        symbols.erase(symbols.begin() + i + 1);
        rank.erase(rank.begin() + i);
        if (i > 0) rank[i - 1] = rank_of(ranks, symbols[i - 1], symbols[i]);
        if (i < rank.size()) rank[i] = rank_of(ranks, symbols[i], symbols[i + 1]);
    }
}

// The same for long pieces, where walking would be quadratic (a megabyte of one letter): a
// heap finds the lowest rank, links find the neighbours. Entries of the heap that no longer
// describe the symbols are skipped.
static void merge_long(const PairMap &ranks, const std::vector<Merge> &merges, std::vector<int> &symbols) {
    const int n = (int)symbols.size();
    std::vector<int> previous(n), next(n);
    typedef std::pair<int, int> Entry;                                                       // rank, place
    std::priority_queue<Entry, std::vector<Entry>, std::greater<Entry>> heap;
    const auto push = [&](int i) {
        const int rank = next[i] < n ? rank_of(ranks, symbols[i], symbols[next[i]]) : no_rank;
        if (rank != no_rank) heap.push({rank, i});
    };
    for (int i = 0; i < n; i++) {
        previous[i] = i - 1;
        next[i] = i + 1;
    }
    for (int i = 0; i < n; i++) push(i);
    while (!heap.empty()) {
        const auto [rank, i] = heap.top();
        heap.pop();
        const Merge &merge = merges[rank];
        const int right = next[i];
        if (symbols[i] != merge.left || right >= n || symbols[right] != merge.right) continue;
        symbols[i] = merge.result;
        symbols[right] = -1;
        next[i] = next[right];
        if (next[i] < n) previous[next[i]] = i;
        if (previous[i] >= 0) push(previous[i]);
        push(i);
    }
    symbols.erase(std::remove(symbols.begin(), symbols.end(), -1), symbols.end());
}

// ============================================================================================== [3] the rest

// Left alone, BPE learns `dog.`, `dog!` and ` dog?` as three tokens, and joins digits as they come. So
// released models cut the text first, by rules that nobody learned: each stage cuts every piece of the stage
// before into the matches of a regular expression and the gaps between them. A piece is a text of its own for
// the next stage: a look-ahead sees where the piece ends, not how the text goes on. V3 isolates up to three
// digits, then Chinese and Japanese, then words (with one character before them), punctuation and white
// space. The last stage, byte_level, writes bytes as letters: BPE below works on the bytes themselves.
static const char *cased_letters =            // of deepseek-llm: letters that have a case, in hexadecimal
    "41-5A 61-7A B5 C0-D6 D8-F6 F8-1BA 1BC-1BF 1C4-293 295-2AF 370-373 376 377 37B-37D 37F 386 388-38A "
    "38C 38E-3A1 3A3-3F5 3F7-481 48A-52F 531-556 10A0-10C5 13A0-13F5 13F8-13FD 1C90-1CBA 1CBD-1CBF "
    "1D00-1D2B 1D6B-1D77 1D79-1D9A 1E00-1F15 1F18-1F1D 1F20-1F45 1F48-1F4D 1F50-1F57 1F59 1F5B 1F5D "
    "1F5F-1F7D 1F80-1FB4 1FB6-1FBC 1FBE 1FC2-1FC4 1FC6-1FCC 1FD0-1FD3 1FD6-1FDB 1FE0-1FEC 1FF2-1FF4 "
    "1FF6-1FFC 2102 2107 210A-2113 2115 2119-211D 2124 2126 2128 212A-212D 212F-2134 2139 213C-213F "
    "2145-2149 214E 2183 2184 2C00-2C7B 2C7E-2CE4 2CEB-2CEE 2CF2 2CF3 A640-A66D A680-A69B A722-A76F "
    "A771-A787 A78B-A78E AB70-ABBF FB00-FB06 FB13-FB17 FF21-FF3A FF41-FF5A 10400-1044F 104B0-104D3 "
    "104D8-104FB 10C80-10CB2 10CC0-10CF2 118A0-118DF 1E900-1E943";

std::vector<Stage> pretokenizer(const std::string &name) {
    const char *Asian = "[\\x{4E00}-\\x{9FA5}\\x{0800}-\\x{4E00}\\x{AC00}-\\x{D7FF}]+";
    std::vector<std::string> patterns;
    bool digits = true;                                        // each digit is a token
    if (name == "v3") {
        digits = false;
        patterns = {"\\p{N}{1,3}", "[\\x{4E00}-\\x{9FA5}\\x{3040}-\\x{309F}\\x{30A0}-\\x{30FF}]+",
                    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+"
                    "|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
                    "| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"};
    } else if (name == "coder") {
        patterns = {"[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", Asian};
    } else if (name == "llm") {
        const std::string marks = "FF01-FF0F FF1A-FF5E 2018-201F 3000-3002";
        patterns = {"[\\r\\n]", "\\s?[" + hex_ranges(cased_letters) + "]+",
                    "\\s?[!-/:-~" + hex_ranges(marks) + "]+", "\\s+$", Asian};
    } else {
        expect(name == "none", "pretokenizer: ", name, " is not one of v3, coder, llm, none");
        digits = false;
    }
    std::vector<Stage> stages;
    for (const std::string &p : patterns) stages.push_back({.pattern = p});
    if (digits) stages.push_back({.kind = Stage::digits});
    stages.push_back({.kind = Stage::byte_level});
    return stages;
}

// What V3 calls its control tokens. Only `special` ones are left out by decode(ids, true).
std::vector<AddedToken> usual_added_tokens() {
    std::vector<AddedToken> all;
    for (const char *text : {"<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"})
        all.push_back({text, (int)all.size(), true, false});
    for (const char *text :
         {"<｜fim▁hole｜>", "<｜fim▁begin｜>", "<｜fim▁end｜>", "<｜User｜>", "<｜Assistant｜>", "<|EOT|>",
          "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>",
          "<｜tool▁outputs▁begin｜>", "<｜tool▁outputs▁end｜>", "<｜tool▁output▁begin｜>",
          "<｜tool▁output▁end｜>", "<｜tool▁sep｜>", "<think>", "</think>", "｜DSML｜"})
        all.push_back({text, (int)all.size(), std::string(text) == "<|EOT|>", false});
    return all;
}

// Cuts one piece. A match may be kept as a piece, dropped, or joined to what stands before or after it;
// contiguous matches may become one. Empty matches move on by one character.
static void cut(const Stage &stage, const Regex &regex, std::string_view piece,
                std::vector<std::string_view> &out) {
    struct Span {
        size_t begin, end;
        bool match;
    };
    static thread_local std::vector<Span> spans;
    spans.clear();
    size_t done = 0, from = 0, begin, end;
    while (from <= piece.size() && regex.find(piece, from, &begin, &end)) {
        if (begin == end && end == done && from > 0) {         // an empty match right behind the last one
            from += from < piece.size() ? character_at(piece, from).length : 1;
            continue;
        }
        if (begin > done) spans.push_back({done, begin, stage.invert});
        spans.push_back({begin, end, !stage.invert});
        done = from = end;
        if (begin == end) from += from < piece.size() ? character_at(piece, from).length : 1;
    }
    if (done < piece.size()) spans.push_back({done, piece.size(), stage.invert});

    const bool backwards = stage.keep == Stage::with_next;
    if (backwards) std::reverse(spans.begin(), spans.end());
    size_t kept = 0;
    bool after_match = false;
    for (const Span span : spans) {
        bool join = false;
        if (stage.keep == Stage::contiguous) join = span.match == after_match;
        if (stage.keep == Stage::with_previous || backwards) join = span.match && !after_match;
        after_match = span.match;
        if (stage.keep == Stage::removed && span.match) continue;
        if (!join || kept == 0) spans[kept++] = span;
        else if (backwards) spans[kept - 1].begin = span.begin;
        else spans[kept - 1].end = span.end;
    }
    spans.resize(kept);
    if (backwards) std::reverse(spans.begin(), spans.end());
    for (const Span &span : spans)
        if (span.end > span.begin) out.push_back(piece.substr(span.begin, span.end - span.begin));
}

// Finds the longest of many strings that begins at a place. A node is a prefix of some of them.
struct Trie {
    PairMap next;                                              // (node, byte) -> node
    std::vector<int> id = {-1};                                // of the string that ends in this node
    bool starts[256] = {};
    void add(const std::string &text, int token) {
        int node = 0;
        starts[(unsigned char)text[0]] = true;
        for (unsigned char byte : text) {
            int &child = next.at(node, byte);
            if (child < 0) {
                child = (int)id.size();
                id.push_back(-1);
            }
            node = child;
        }
        id[node] = token;
    }
    int longest(std::string_view text, size_t at, size_t *length) const {
        int node = 0, found = -1;
        for (size_t i = at; i < text.size(); i++) {
            node = next.find(node, (unsigned char)text[i]);
            if (node < 0) break;
            if (id[node] < 0) continue;
            found = id[node];
            *length = i - at + 1;
        }
        return found;
    }
};

// What prepare() makes of a tokenizer's fields.
struct Tokenizer::Tables {
    StringMap<int> ids, added;                                 // text -> id
    std::vector<std::string> bytes;                            // id -> what it decodes to
    std::vector<bool> special;
    int of_byte[256];                                          // -1: this byte is not in the vocabulary
    PairMap ranks;                                             // (left, right) -> place in merges
    Trie first, second;                                        // added tokens: not normalized, normalized
    Trie plain_first, plain_second;                            // the same without control tokens
    std::vector<std::shared_ptr<Regex>> regexes;               // one a stage, null where it does not cut
    StringMap<std::vector<int>> cache;                         // pieces that were merged before
};

static std::shared_ptr<Regex> regex_of(const Stage &stage) {
    // The reference's own table of numerals is one Unicode version ahead of its regex engine.
    const std::string numeral = "[\\p{N}" + hex_ranges("11DE0-11DE9 16FF4-16FF6") + "]";
    if (stage.kind == Stage::digits) return std::make_shared<Regex>(numeral);
    if (stage.pattern.empty()) return nullptr;
    return std::make_shared<Regex>(stage.pattern, stage.literal);
}

// Begin of sentence, <think>, <｜User｜>: what a template writes and no user may. Others are text, like the `ü`
// of deepseek-llm, which has a token of its own because its vocabulary lacks that byte.
static bool is_control(const AddedToken &a) {
    return a.special || a.text[0] == '<' || a.text.find("｜") != std::string::npos;
}

void Tokenizer::prepare() {
    auto t = std::make_shared<Tables>();
    for (const AddedToken &a : added) {
        expect(a.id >= 0 && a.id < size(), "added token ", in_quotes(a.text), ": no room for id ", a.id);
        expect(vocabulary[a.id] == a.text, "id ", a.id, " is both ", in_quotes(vocabulary[a.id]), " and ",
               in_quotes(a.text));
        if (!t->added.emplace(a.text, a.id).second) continue;
        (a.normalized ? t->second : t->first).add(a.text, a.id);
        if (!is_control(a)) (a.normalized ? t->plain_second : t->plain_first).add(a.text, a.id);
    }
    t->special.resize(size());
    for (const AddedToken &a : added) t->special[a.id] = a.special;
    for (int id = 0; id < size(); id++) {
        t->bytes.push_back(from_letters(vocabulary[id]));
        if (vocabulary[id].empty()) continue;
        const bool fresh = t->ids.emplace(vocabulary[id], id).second;
        expect(fresh, "two ids, ", t->ids[vocabulary[id]], " and ", id, ", for ", in_quotes(vocabulary[id]));
    }
    for (int b = 0; b < 256; b++) {
        const auto found = t->ids.find(letters.utf8[b]);
        t->of_byte[b] = found == t->ids.end() ? -1 : found->second;
    }
    for (size_t rank = 0; rank < merges.size(); rank++) {
        const auto [left, right, result] = merges[rank];
        expect(std::min({left, right, result}) >= 0 && std::max({left, right, result}) < size() &&
                   vocabulary[left] + vocabulary[right] == vocabulary[result],
               "merge ", rank, " does not add up");
        t->ranks.at(left, right) = (int)rank;                  // listed twice: the last one counts
    }
    expect(!stages.empty() && stages.back().kind == Stage::byte_level,
           "pre-tokenizer: ByteLevel is not the last stage");
    for (const Stage &stage : stages) t->regexes.push_back(regex_of(stage));
    tables = t;
    if (eos.empty())                                     // where nobody says what ends a text
        for (const char *text :
             {"<｜end▁of▁sentence｜>", "<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>"})
            if (eos.empty() && find(text) >= 0) eos = {find(text)};
}

void Tokenizer::set_boundary(int bos_of_model, const std::vector<int> &eos_of_model) {
    if (bos_of_model >= 0) bos = bos_of_model;
    std::vector<int> all = eos_of_model;
    for (int id : eos)
        if (!std::count(all.begin(), all.end(), id)) all.push_back(id);
    eos = all;
}

// The pieces that BPE sees. `made` owns those that are not part of the text.
static std::vector<std::string_view> cut_pieces(const Tokenizer &tokenizer, std::string_view text,
                                                std::vector<std::unique_ptr<std::string>> &made) {
    std::vector<std::string_view> pieces = {text}, cuts;
    for (size_t i = 0; i < tokenizer.stages.size(); i++) {
        const Stage &stage = tokenizer.stages[i];
        const Regex *regex = tokenizer.tables->regexes[i].get();
        if (stage.prefix_space) {
            for (std::string_view &piece : pieces) {
                if (piece[0] == ' ') continue;
                made.push_back(std::make_unique<std::string>(" "));
                *made.back() += piece;
                piece = *made.back();
            }
        }
        if (!regex) continue;
        cuts.clear();
        for (std::string_view piece : pieces) cut(stage, *regex, piece, cuts);
        pieces.swap(cuts);
    }
    return pieces;
}

// BPE of one piece. Most pieces of a text were seen before in it, so results are kept.
static void encode_piece(const Tokenizer &tokenizer, std::string_view piece, std::vector<int> &ids) {
    Tokenizer::Tables &t = *tokenizer.tables;
    const auto known = t.cache.find(piece);
    if (known != t.cache.end()) {
        ids.insert(ids.end(), known->second.begin(), known->second.end());
        return;
    }
    std::vector<int> symbols;
    const auto whole = tokenizer.ignore_merges ? t.ids.find(to_letters(piece)) : t.ids.end();
    if (whole != t.ids.end()) {
        symbols = {whole->second};
    } else {
        for (unsigned char byte : piece)
            if (t.of_byte[byte] >= 0) symbols.push_back(t.of_byte[byte]);
        if (symbols.size() < 100) merge_word(t.ranks, tokenizer.merges, symbols);
        else merge_long(t.ranks, tokenizer.merges, symbols);
    }
    ids.insert(ids.end(), symbols.begin(), symbols.end());
    if (piece.size() > 100) return;
    if (t.cache.size() > 200000) t.cache.clear();
    t.cache.emplace(piece, std::move(symbols));
}

static void encode_words(const Tokenizer &tokenizer, std::string_view text, std::vector<int> &ids) {
    std::vector<std::unique_ptr<std::string>> made;
    if (text.empty()) return;
    for (std::string_view piece : cut_pieces(tokenizer, text, made)) encode_piece(tokenizer, piece, ids);
}

// From left to right, the longest added token at each place becomes its id; `gap` gets what lies between.
template <class Gap>
static void split_at(const Trie &added, std::string_view text, std::vector<int> &ids, Gap gap) {
    size_t begin = 0, length = 0;
    for (size_t at = 0; at < text.size();) {
        const int id = added.starts[(unsigned char)text[at]] ? added.longest(text, at, &length) : -1;
        if (id < 0) {
            at++;
            continue;
        }
        gap(text.substr(begin, at - begin));
        ids.push_back(id);
        begin = at += length;
    }
    gap(text.substr(begin));
}

// The third tokenizer, whole: added tokens (in two rounds: a short one of the first goes before a longer one
// of the second), pre-tokenisers, bytes, merges.
static std::vector<int> encode_around(const Tokenizer &t, std::string_view text, const Trie &first,
                                      const Trie &second) {
    if (!valid_utf8(text)) return encode_around(t, repair_utf8(text), first, second);
    std::vector<int> ids;
    split_at(first, text, ids, [&](std::string_view gap) {
        split_at(second, gap, ids, [&](std::string_view words) { encode_words(t, words, ids); });
    });
    return ids;
}

std::vector<int> Tokenizer::encode(std::string_view text) const {
    return encode_around(*this, text, tables->first, tables->second);
}

std::vector<int> Tokenizer::encode_plain(std::string_view text) const {
    return encode_around(*this, text, tables->plain_first, tables->plain_second);
}

// Not a control character, and no space of any script (nor anything of the block of general
// punctuation that holds most of them).
static bool visible(std::string_view text, size_t at) {
    const uint32_t c = character_at(text, start_of_character(text, at)).code;
    return c > ' ' && !(c >= 0x7F && c <= 0xA0) && c != 0x1680 && !(c >= 0x2000 && c <= 0x206F) &&
           c != 0x3000;
}

// A text larger than memory is encoded in parts of at most `most` bytes. They end after a line, between two
// visible characters: there all the pre-tokenisers of the released models cut as well, so the parts' ids are
// those of the whole. (Only in a line longer than `most` does a part end between any two characters. With a
// prefix space, or without a pattern, nothing but the whole text will do.)
std::vector<std::string_view> Tokenizer::parts(std::string_view text, size_t most) const {
    bool cut = merges.empty();
    for (const Stage &stage : stages) cut = cut || !stage.pattern.empty();
    for (const Stage &stage : stages) cut = cut && !stage.prefix_space;
    std::vector<std::string_view> list;
    while (cut && text.size() > most) {
        size_t end = most;
        for (; end > 2; end--) {
            const size_t before = end - (text[end - 2] == '\r' && end > 3 ? 3 : 2);
            if (text[end - 1] == '\n' && visible(text, before) && visible(text, end)) break;
        }
        if (end <= 2) end = most;
        end = start_of_character(text, end);
        list.push_back(text.substr(0, end));
        text.remove_prefix(end);
    }
    list.push_back(text);
    return list;
}

static void check_decoder(const Tokenizer &t) {
    if (!t.decodes)
        fail("tokenizer: it has no decoder, so its ids cannot become text",
             "in its tokenizer.json, set \"decoder\" to {\"type\": \"ByteLevel\"}");
}

std::string Tokenizer::decode(const std::vector<int> &ids, bool skip_special) const {
    check_decoder(*this);
    std::string out;
    for (int id : ids)
        if (!skip_special || !is_special(id)) out += bytes(id);
    return valid_utf8(out) ? out : repair_utf8(out);
}

const std::string &Tokenizer::bytes(int id) const {
    static const std::string none;
    return id >= 0 && id < size() ? tables->bytes[id] : none;
}

bool Tokenizer::is_special(int id) const { return id >= 0 && id < size() && tables->special[id]; }

int Tokenizer::find(std::string_view text) const {
    const auto found = tables->added.find(text);
    return found == tables->added.end() ? -1 : found->second;
}

std::vector<int> Tokenizer::begun(std::vector<int> ids) const {
    const bool already = ids.size() >= begin.size() && std::equal(begin.begin(), begin.end(), ids.begin());
    if (!already) ids.insert(ids.begin(), begin.begin(), begin.end());
    if (ids.empty() && bos >= 0) ids = {bos};
    if (ids.empty() && !eos.empty()) ids = {eos[0]};             // what stands before every document
    if (ids.empty())
        fail("an empty prompt: the model has no token that begins or ends a text", "--prompt TEXT");
    return ids;
}

int Tokenizer::special(std::string_view text) const {
    const int id = find(text);
    if (id < 0)
        fail(cat("tokenizer: it has no token ", text), "this prompt is for a model with another tokenizer");
    return id;
}

// A token may end in mid-character. What is held back is at most three bytes: the beginning of a character
// that the next token may complete.
std::string StreamDecoder::push(int id) {
    check_decoder(tokenizer);
    held += tokenizer.bytes(id);
    size_t ready = 0;
    while (ready < held.size()) {
        const Character c = character_at(held, ready);
        if (c.state == Character::cut) break;
        ready += c.length;
    }
    const std::string out = repair_utf8(std::string_view(held).substr(0, ready));
    held.erase(0, ready);
    return out;
}

std::string StreamDecoder::finish() {
    const std::string out = repair_utf8(held);
    held.clear();
    return out;
}

// Learning for the third tokenizer: added tokens take the first ids, then come the 256 bytes in the order of
// their letters, then the merges. One text given to read() is one unit: no piece reaches from one into
// another. Added tokens inside the text are words like others here, as in the reference trainer.
Trainer::Trainer(std::vector<Stage> stages, std::vector<AddedToken> added) {
    std::vector<std::string> bytes(letters.utf8, letters.utf8 + 256);
    std::sort(bytes.begin(), bytes.end());                     // UTF-8 sorts as its code points
    for (const AddedToken &a : added) tokenizer.vocabulary.push_back(a.text);
    tokenizer.vocabulary.insert(tokenizer.vocabulary.end(), bytes.begin(), bytes.end());
    tokenizer.stages = std::move(stages);
    tokenizer.added = std::move(added);
    tokenizer.prepare();
}

void Trainer::read(std::string_view text) {
    if (!valid_utf8(text)) return read(repair_utf8(text));
    std::vector<std::unique_ptr<std::string>> made;
    if (text.empty()) return;
    for (std::string_view piece : cut_pieces(tokenizer, text, made)) {
        const auto known = words.find(piece);                  // no copy of a piece that was seen before
        if (known != words.end()) known->second++;
        else words.emplace(piece, 1);
    }
}

Tokenizer Trainer::train(int vocabulary, const std::function<void(int, int)> &progress) {
    Tokenizer t = tokenizer;
    expect(vocabulary >= t.size(), "train: a vocabulary of ", vocabulary, " has no room for ", t.size() - 256,
           " added tokens and 256 bytes");
    MergeLearner learner;
    for (const auto &[word, count] : words) {
        std::vector<int> symbols;
        for (unsigned char byte : word) symbols.push_back(t.tables->of_byte[byte]);
        learner.add_word(symbols, count);
    }
    learner.learn(t.vocabulary, vocabulary, smallest_count, progress);
    t.merges = learner.merges;
    t.prepare();
    return t;
}

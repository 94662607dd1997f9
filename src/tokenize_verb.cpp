// deepseek tokenize: see tokens, turn files into ids and back, count, train a tokenizer.
#include "src/tokenize_verb.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "src/error.h"
#include "tokenizer.h"

using nlohmann::json;

static const char *examples =
    "Examples:\n"
    "  deepseek tokenize --tokenizer runs/v3 --text \"Hello, world!\"          see the tokens\n"
    "  deepseek tokenize --tokenizer tokenizer.json --in book.txt --count    tokens, bytes, bytes per token\n"
    "  deepseek tokenize --tokenizer bytes --in book.txt --out ids.txt\n"
    "  deepseek tokenize --tokenizer bytes --decode --in ids.txt\n"
    "  deepseek tokenize --train book.txt --vocab 2048 --out my-tokenizer\n"
    "Invalid UTF-8 is replaced by U+FFFD.";

struct TokenizeOptions {
    std::string tokenizer, text, in, jsonl, out, train, pretokenizer = "v3", color = "auto";
    int vocab = 0;
    int64_t min_count = 1;
    bool decode = false, count = false;
    CLI::Option *text_given = nullptr;
};

static double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

static std::string read_file(const std::string &path) {
    std::ifstream in(path, std::ios::binary);
    expect(in.good() && !std::filesystem::is_directory(path), path, ": cannot be read");
    std::stringstream text;
    text << in.rdbuf();
    return text.str();
}

// The text of a file; what is not UTF-8 in it is replaced, and said once.
static std::string read_text(const std::string &path) {
    long repaired = 0;
    std::string text = repair_utf8(read_file(path), &repaired);
    if (repaired) std::cerr << path << ": not all UTF-8; " << repaired << " times replaced by U+FFFD\n";
    return text;
}

// Standard output, or the file of --out, whose writing is checked.
class Output {
    std::string path;
    std::ofstream file;

public:
    explicit Output(const std::string &path) : path(path) {
        if (!path.empty()) file.open(path, std::ios::binary);
        expect(path.empty() || file.good(), path, ": cannot be written");
    }
    std::ostream &stream() { return path.empty() ? std::cout : file; }
    void done() {
        stream().flush();
        expect(stream().good(), path.empty() ? "standard output" : path, ": cannot be written");
    }
};

// --------------------------------------------------------------------------------------------- seeing tokens

// A token's bytes as something visible: escapes for control characters, <E4> for bytes that are no character.
static std::string visible(const std::string &bytes) {
    const bool characters = repair_utf8(bytes) == bytes;
    std::string out;
    char hex[8];
    for (unsigned char b : bytes) {
        std::snprintf(hex, sizeof hex, "<%02X>", b);
        if (b == '\n') out += "\\n";
        else if (b == '\r') out += "\\r";
        else if (b == '\t') out += "\\t";
        else if (b < 32 || b == 127 || (b >= 128 && !characters)) out += hex;
        else out += (char)b;
    }
    return out;
}

static void show_plain(const Tokenizer &tokenizer, const std::vector<int> &ids) {
    for (int id : ids) std::cout << id << "\t" << visible(tokenizer.bytes(id)) << "\n";
}

// The text once with each token on a colour of its own, and once more as ids in the same colours.
static void show_colored(const Tokenizer &tokenizer, const std::vector<int> &ids) {
    static const int colors[] = {153, 222, 157, 217, 183};
    const auto paint = [&](size_t i, const std::string &s) {
        const char *weight =
            tokenizer.find(tokenizer.bytes(ids[i])) == ids[i] ? "1;" : "";   // added tokens: bold
        std::cout << "\x1b[" << weight << "38;5;16;48;5;" << colors[i % 5] << "m" << s << "\x1b[0m";
    };
    for (size_t i = 0; i < ids.size(); i++) {
        const std::string &bytes = tokenizer.bytes(ids[i]);
        paint(i, visible(bytes));
        if (!bytes.empty() && bytes.back() == '\n') std::cout << "\n";
    }
    std::cout << "\n";
    for (size_t i = 0; i < ids.size(); i++) {
        paint(i, std::to_string(ids[i]));
        std::cout << " ";
    }
    std::cout << "\n" << ids.size() << " tokens\n";
}

// ----------------------------------------------------------------------------------------- encode and decode

struct Totals {
    long tokens = 0, bytes = 0;
    double seconds = 0;
    void print() const {
        std::printf("tokens %ld  bytes %ld  bytes per token %.4f  (%.3f s, %.1f MB/s)\n", tokens, bytes,
                    tokens ? (double)bytes / tokens : 0.0, seconds,
                    seconds > 0 ? bytes / seconds / 1e6 : 0.0);
    }
};

static std::vector<int> encode(const Tokenizer &tokenizer, const std::string &text, Totals &totals) {
    const double start = now();
    std::vector<int> ids = tokenizer.encode(text);
    totals.seconds += now() - start;
    totals.tokens += (long)ids.size();
    totals.bytes += (long)text.size();
    return ids;
}

// "1 2 3", "1,2,3" or "[1, 2, 3]"
static std::vector<int> parse_ids(const std::string &text, const std::string &name) {
    std::vector<int> ids;
    for (size_t at = 0; at < text.size();) {
        if (std::string(" \t\r\n,[]").find(text[at]) != std::string::npos) {
            at++;
            continue;
        }
        size_t end = at;
        long id = 0;
        while (end < text.size() && text[end] >= '0' && text[end] <= '9' && id < INT32_MAX)
            id = id * 10 + (text[end++] - '0');
        expect(end > at && id < INT32_MAX, name, ": not a token id: ", text.substr(at, 20));
        ids.push_back((int)id);
        at = end;
    }
    return ids;
}

// One JSON string or one JSON array of ids, on a line of its own.
static json parse_line(const std::string &line, const std::string &name, long number, bool ids) {
    const json value = json::parse(line, nullptr, false);
    if (!ids) expect(value.is_string(), name, ", line ", number, ": not a JSON string in UTF-8");
    if (!ids) return value;
    expect(value.is_array(), name, ", line ", number, ": not a JSON array of ids");
    for (const json &id : value)
        expect(id.is_number_unsigned() && id.get<uint64_t>() < INT32_MAX, name, ", line ", number,
               ": not a token id: ", id.dump().substr(0, 20));
    return value;
}

static void tokenize_jsonl(const Tokenizer &tokenizer, const TokenizeOptions &o, Totals &totals) {
    std::ifstream in(o.jsonl, std::ios::binary);
    expect(in.good() && !std::filesystem::is_directory(o.jsonl), o.jsonl, ": cannot be read");
    Output out(o.out);
    std::string line;
    for (long number = 1; std::getline(in, line); number++) {
        const json value = parse_line(line, o.jsonl, number, o.decode);
        if (o.decode) {
            out.stream() << json(tokenizer.decode(value)).dump() << "\n";
            continue;
        }
        const std::vector<int> ids = encode(tokenizer, value, totals);
        if (!o.count) out.stream() << json(ids).dump() << "\n";
    }
    out.done();
}

static void tokenize_text(const Tokenizer &tokenizer, const TokenizeOptions &o, Totals &totals) {
    const bool file = !o.in.empty();
    if (o.decode) {
        Output out(o.out);
        out.stream() << tokenizer.decode(parse_ids(file ? read_file(o.in) : o.text, file ? o.in : "--text"));
        if (!file && o.out.empty()) out.stream() << "\n";
        return out.done();
    }
    const std::vector<int> ids = encode(tokenizer, file ? read_text(o.in) : repair_utf8(o.text), totals);
    if (o.count) return;
    if (file || !o.out.empty()) {
        Output out(o.out);
        for (size_t i = 0; i < ids.size(); i++) out.stream() << (i ? " " : "") << ids[i];
        out.stream() << "\n";
        return out.done();
    }
    const bool color = o.color == "always" || (o.color == "auto" && isatty(1));
    if (color) show_colored(tokenizer, ids);
    else show_plain(tokenizer, ids);
}

// -------------------------------------------------------------------------------------------------- training

static std::vector<std::string> files_of(const std::string &path) {
    if (!std::filesystem::is_directory(path)) return {path};
    std::vector<std::string> files;
    const auto options = std::filesystem::directory_options::skip_permission_denied;
    for (const auto &entry : std::filesystem::recursive_directory_iterator(path, options))
        if (entry.is_regular_file()) files.push_back(entry.path().string());
    expect(!files.empty(), path, ": no files in it");
    std::sort(files.begin(), files.end());                 // the order of a folder is not the same everywhere
    return files;
}

// One line that is rewritten on a terminal; nothing in a file.
static void show_progress(const char *what, long done, long total) {
    static double last = 0;
    if (!isatty(2) || (done < total && now() - last < 0.1)) return;
    last = now();
    const int full = total ? (int)(30 * done / total) : 30;
    std::fprintf(stderr, "\r%s [%s%s] %ld / %ld ", what, std::string(full, '#').c_str(),
                 std::string(30 - full, '.').c_str(), done, total);
    if (done >= total) std::fprintf(stderr, "\n");
}

static void train_tokenizer(const TokenizeOptions &o) {
    expect(o.vocab > 0 && o.vocab <= 1 << 24, "--vocab: a number of tokens is needed, at most 2^24");
    expect(!o.out.empty(), "--out: a folder for the tokenizer is needed");
    Trainer trainer(pretokenizer(o.pretokenizer));
    trainer.smallest_count = o.min_count;
    const std::vector<std::string> files = files_of(o.train);
    long bytes = 0;
    const double start = now();
    for (size_t i = 0; i < files.size(); i++) {
        const std::string text = read_text(files[i]);
        bytes += (long)text.size();
        trainer.read(text);
        if (files.size() > 1) show_progress("reading ", (long)i + 1, (long)files.size());
    }
    const double middle = now();
    const Tokenizer tokenizer =
        trainer.train(o.vocab, [](int done, int total) { show_progress("learning", done, total); });
    const double end = now();
    tokenizer.save(o.out);
    std::printf(
        "%s: %d tokens, %zu merges, from %ld bytes, %zu distinct pieces (reading %.3f s, learning %.3f s)\n",
        o.out.c_str(), tokenizer.size(), tokenizer.merges.size(), bytes, trainer.words.size(), middle - start,
        end - middle);
    if (tokenizer.size() < o.vocab) std::printf("the text has no more pairs to merge\n");
}

// -------------------------------------------------------------------------------------------------- the verb

static void tokenize(const TokenizeOptions &o) {
    if (!o.train.empty()) return train_tokenizer(o);
    expect(!o.tokenizer.empty(),
           "--tokenizer: bytes, a tokenizer.json or a folder with one is needed (or --train)");
    const int sources = (o.text_given->count() > 0) + !o.in.empty() + !o.jsonl.empty();
    expect(sources == 1, "exactly one of --text, --in and --jsonl is needed");
    expect(!(o.decode && o.count), "--count counts what is encoded; it does not go with --decode");
    const Tokenizer tokenizer = load_tokenizer(o.tokenizer);
    for (const std::string &note : tokenizer.notes) std::cerr << o.tokenizer << ": " << note << "\n";
    Totals totals;
    if (!o.jsonl.empty()) tokenize_jsonl(tokenizer, o, totals);
    else tokenize_text(tokenizer, o, totals);
    if (o.count) totals.print();
}

void add_tokenize_verb(CLI::App &program) {
    const auto o = std::make_shared<TokenizeOptions>();
    CLI::App *verb = program.add_subcommand("tokenize", "text to tokens and back; train a tokenizer");
    verb->add_option("--tokenizer", o->tokenizer, "bytes, a tokenizer.json, or a folder with one");
    o->text_given = verb->add_option("--text", o->text, "show the tokens of this text");
    verb->add_option("--in", o->in, "a text file: its ids on one line (with --decode: a file of ids)");
    verb->add_option("--jsonl", o->jsonl,
                     "a JSON string a line: a JSON array of ids a line (with --decode: back)");
    verb->add_option("--out", o->out, "write here, not to standard output");
    verb->add_flag("--decode", o->decode, "from ids to text");
    verb->add_flag("--count", o->count, "print tokens, bytes and bytes per token only");
    verb->add_option("--color", o->color, "auto, always, never")
        ->check(CLI::IsMember({"auto", "always", "never"}));
    verb->add_option("--train", o->train, "learn a tokenizer from this file, or all files of this folder");
    verb->add_option("--vocab", o->vocab, "its number of tokens, added ones included");
    verb->add_option("--pretokenizer", o->pretokenizer, "v3, coder, llm, none")
        ->check(CLI::IsMember({"v3", "coder", "llm", "none"}));
    verb->add_option("--min-count", o->min_count, "merge only pairs that occur at least this often");
    verb->footer(examples);
    verb->callback([o] { tokenize(*o); });
}

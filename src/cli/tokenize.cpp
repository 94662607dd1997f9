// deepseek tokenize: see tokens, turn files into ids and back, count, train a tokenizer.
#include "src/cli/verbs.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>

#include "src/base/error.h"
#include "src/base/files.h"
#include "src/base/json.h"
#include "src/base/progress.h"
#include "src/base/utf8.h"
#include "src/text/corpus.h"
#include "src/text/documents.h"
#include "src/text/tokenizer.h"

static const char *examples =
    "Examples:\n"
    "  deepseek tokenize --tokenizer runs/v3 --text \"Hello, world!\"          see the tokens\n"
    "  deepseek tokenize --tokenizer tokenizer.json --in book.txt --count    tokens, bytes, bytes per token\n"
    "  deepseek tokenize --tokenizer bytes --in book.txt --out ids.txt\n"
    "  deepseek tokenize --tokenizer bytes --decode --in ids.txt\n"
    "  deepseek tokenize --train book.txt --vocab 2048 --out my-tokenizer\n"
    "--in and --jsonl take - for standard input. Empty lines of --jsonl are skipped. Invalid UTF-8 is\n"
    "replaced by U+FFFD. --decode reads what --text prints, too. A file of --out appears when all is right.";

struct TokenizeOptions {
    std::string tokenizer, text, in, jsonl, out, train, pretokenizer = "v3", color = "auto";
    int vocab = 0;
    int64_t min_count = 1;
    bool decode = false, count = false;
    const CLI::App *verb = nullptr;
    bool given(const char *option) const { return verb->count(option) > 0; }
};

static double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

static const size_t largest_text = (size_t)4 << 30;            // bytes of a file that is read whole

static bool is_standard_input(const std::string &path) { return path == "-" || path == "/dev/stdin"; }

static std::string read_file(const std::string &path) {
    if (!is_standard_input(path)) return read_text(path, largest_text);
    std::string text;
    std::vector<char> part(1 << 16);
    while (std::cin.read(part.data(), (std::streamsize)part.size()), std::cin.gcount() > 0) {
        text.append(part.data(), (size_t)std::cin.gcount());
        expect(text.size() <= largest_text, path, ": more than ", largest_text, " bytes");
    }
    return text;
}

static void tell_repaired(const std::string &path, long repaired) {
    if (repaired) std::cerr << path << ": not all UTF-8; " << repaired << " times replaced by U+FFFD\n";
}

// The text of a file. What is not UTF-8 in it will be replaced, which is said once.
static std::string read_text_file(const std::string &path) {
    long repaired = 0;
    std::string text = read_file(path);
    if (!valid_utf8(text)) repair_utf8(text, &repaired);
    tell_repaired(path, repaired);
    return text;
}

// Calls use(line, its number) for each line of a file of any size.
template <class Use> static void for_each_line(const std::string &path, Use use) {
    long number = 0;
    if (is_standard_input(path)) {
        for (std::string line; std::getline(std::cin, line);) use(std::string_view(line), ++number);
        return;
    }
    std::error_code none;
    if (std::filesystem::is_regular_file(path, none) && std::filesystem::file_size(path, none) == 0) return;
    const Mapping file(path);
    std::string_view rest((const char *)file.data, file.size);
    while (!rest.empty()) {
        const std::string_view line = rest.substr(0, rest.find('\n'));
        use(line, ++number);
        rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    }
}

// Standard output, or the file of --out, which appears when done() says that all is right, also in the place
// of the file that is read. Ctrl-C leaves no half of it behind.
class Output {
    std::optional<CatchInterrupt> interrupt;
    std::optional<AtomicFile> file;
    std::string waiting;

    void flush() {
        if (file) file->write(waiting.data(), waiting.size());
        else std::cout.write(waiting.data(), (std::streamsize)waiting.size()).flush();
        expect(file || std::cout.good(), "standard output: cannot be written");
        waiting.clear();
    }

public:
    explicit Output(const std::string &path) {
        if (path.empty()) return;
        file.emplace(path);
        interrupt.emplace();
    }
    static void stop_if_interrupted() {
        if (interrupted) throw Interrupted();
    }
    void write(std::string_view text) {
        stop_if_interrupted();
        waiting += text;
        if (waiting.size() > 1 << 16) flush();
    }
    void done() {
        flush();
        if (file) file->commit();
    }
};

// --------------------------------------------------------------------------------------------- seeing tokens

static std::string escaped(const Character &c, char first) {
    static const std::pair<char, const char *> named[] = {{'\n', "\\n"}, {'\r', "\\r"}, {'\t', "\\t"}};
    for (const auto &[character, name] : named)
        if (first == character) return name;
    char hex[16];
    std::snprintf(hex, sizeof hex, c.code < 128 ? "<%02X>" : "<U+%04X>", (unsigned)c.code);
    return hex;
}

// A token's bytes as something visible: escapes for what a terminal would obey and not show, <E4> for bytes
// where a token ends or begins within a character.
static std::string visible(const std::string &bytes) {
    const bool characters = valid_utf8(bytes);
    std::string out;
    for (size_t at = 0; at < bytes.size();) {
        const unsigned char byte = bytes[at];
        const Character c = characters ? character_at(bytes, at) : Character{1, Character::whole, byte};
        const bool shows = characters ? !invisible(c.code) : byte >= 32 && byte < 127;
        out += shows ? bytes.substr(at, c.length) : escaped(c, byte);
        at += c.length;
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
    std::vector<int> ids = tokenizer.encode(text);             // which repairs what is no UTF-8
    totals.seconds += now() - start;
    totals.tokens += (long)ids.size();
    totals.bytes += (long)text.size();
    return ids;
}

static int checked_id(const Tokenizer &tokenizer, uint64_t id, const std::string &name) {
    expect(id < (uint64_t)tokenizer.size(), name, ": id ", id, " is beyond the vocabulary, which ends at ",
           tokenizer.size() - 1);
    return (int)id;
}

// "1 2 3", "1,2,3" or "[1, 2, 3]"; or what --text prints: an id, a tab and its piece, which is not read.
static std::vector<int> parse_ids(const Tokenizer &tokenizer, const std::string &text,
                                  const std::string &name) {
    std::vector<int> ids;
    bool line_begins = true;
    for (size_t at = 0; at < text.size();) {
        if (std::string(" \r\n,[]").find(text[at]) != std::string::npos) {
            line_begins = text[at++] == '\n' || line_begins;
            continue;
        }
        size_t end = at;
        uint64_t id = 0;
        while (end < text.size() && text[end] >= '0' && text[end] <= '9' && id < INT32_MAX)
            id = id * 10 + (text[end++] - '0');
        expect(end > at, name, ": not a token id: ", in_quotes(std::string_view(text).substr(at, 20)));
        ids.push_back(checked_id(tokenizer, id, name));
        const bool piece = line_begins && end < text.size() && text[end] == '\t';
        if (piece) end = std::min(text.find('\n', end), text.size());
        line_begins = false;
        at = end;
    }
    return ids;
}

static std::vector<int> ids_of(const Tokenizer &tokenizer, const Json &list, const std::string &where) {
    expect(list.is_array(), where, ": is ", shown_json(list), ", not a JSON array of ids");
    std::vector<int> ids;
    for (const Json &id : list) {
        expect(id.is_number_unsigned(), where, ": not a token id: ", shown_json(id));
        ids.push_back(checked_id(tokenizer, id.get<uint64_t>(), where));
    }
    return ids;
}

// Each line is one JSON string or, with --decode, one JSON array of ids.
static void tokenize_jsonl(const Tokenizer &tokenizer, const TokenizeOptions &o, Totals &totals) {
    Output out(o.out);
    long repaired = 0;
    for_each_line(o.jsonl, [&](std::string_view line, long number) {
        if (line.find_first_not_of(" \t\r") == line.npos) return;
        const std::string where = cat(o.jsonl, ": line ", number);
        const Json value = parse_json(repair_utf8(line, &repaired), o.jsonl, number);
        if (o.decode) {
            out.write(dump(tokenizer.decode(ids_of(tokenizer, value, where)), -1) + "\n");
            return;
        }
        expect(value.is_string(), where, ": is ", shown_json(value), ", not a JSON string");
        const std::vector<int> ids = encode(tokenizer, value.get_ref<const std::string &>(), totals);
        if (!o.count) out.write(dump(ids, -1) + "\n");
    });
    tell_repaired(o.jsonl, repaired);
    out.done();
}

static void tokenize_text(const Tokenizer &tokenizer, const TokenizeOptions &o, Totals &totals) {
    const bool file = !o.in.empty();
    if (o.decode) {
        const std::vector<int> ids =
            parse_ids(tokenizer, file ? read_file(o.in) : o.text, file ? o.in : "--text");
        Output out(o.out);
        out.write(tokenizer.decode(ids));
        if (!file && o.out.empty()) out.write("\n");
        return out.done();
    }
    const std::vector<int> ids = encode(tokenizer, file ? read_text_file(o.in) : o.text, totals);
    if (o.count) return;
    if (file || !o.out.empty()) {
        Output out(o.out);
        for (size_t i = 0; i < ids.size(); i++) out.write((i ? " " : "") + std::to_string(ids[i]));
        out.write("\n");
        return out.done();
    }
    const bool color = o.color == "always" || (o.color == "auto" && isatty(1));
    if (color) show_colored(tokenizer, ids);
    else show_plain(tokenizer, ids);
}

// -------------------------------------------------------------------------------------------------- training

// The file that --out means. Not beside a model: its weights belong to the ids that it was trained with.
static std::string tokenizer_file(const std::string &out) {
    namespace fs = std::filesystem;
    std::error_code ignored;
    if (!out.ends_with(".json")) fs::create_directories(out, ignored);
    const fs::path file = out.ends_with(".json") ? fs::path(out) : fs::path(out) / "tokenizer.json";
    const fs::path folder = fs::weakly_canonical(file, ignored).parent_path();
    for (const char *part : {"config.json", "model.safetensors", "model.safetensors.index.json"})
        if (fs::exists(folder / part))
            fail(cat("--out ", out, ": a model is there (", part,
                     "), whose ids another tokenizer would change"),
                 "choose a folder of its own; train --tokenizer FOLDER copies it into a run");
    return file;
}

static void train_tokenizer(const TokenizeOptions &o) {
    expect(o.vocab > 0 && o.vocab <= 1 << 24, "--vocab: a number of tokens is needed, at most 2^24");
    expect(o.min_count >= 1, "--min-count ", o.min_count, " is not positive");
    expect(!o.out.empty(), "--out: a folder for the tokenizer is needed");
    Trainer trainer(pretokenizer(o.pretokenizer));
    trainer.smallest_count = o.min_count;
    const std::vector<std::string> files = texts_below(o.train);
    Output out(tokenizer_file(o.out));
    long bytes = 0;
    const double start = now();
    {
        Progress bar(0, (long)files.size(), 1);
        for (size_t i = 0; i < files.size(); i++) {
            const auto read = [&](std::string_view text) {
                bytes += (long)text.size();
                trainer.read(text);
            };
            if (is_jsonl(files[i])) for_each_document(files[i], read);
            else read(read_text_file(files[i]));
            bar.update((long)i + 1, "files");
            out.stop_if_interrupted();
        }
    }
    expect(bytes > 0, "--train ", o.train, ": there is no text in it");
    const double middle = now();
    const auto learn = [&] {
        Progress bar(0, o.vocab, 1);
        return trainer.train(o.vocab, [&](int done, int) {
            bar.update(done, "tokens");
            out.stop_if_interrupted();
        });
    };
    const Tokenizer tokenizer = learn();
    const double end = now();
    out.write(tokenizer.to_json());
    out.done();
    std::printf(
        "%s: %d tokens, %zu merges, from %ld bytes, %zu distinct pieces (reading %.3f s, learning %.3f s)\n",
        o.out.c_str(), tokenizer.size(), tokenizer.merges.size(), bytes, trainer.words.size(), middle - start,
        end - middle);
    if (tokenizer.size() < o.vocab) std::printf("the text has no more pairs to merge\n");
}

// -------------------------------------------------------------------------------------------------- the verb

static void check_options(const TokenizeOptions &o) {
    const bool train = o.given("--train");
    for (const char *option : {"--text", "--in", "--jsonl", "--decode", "--count", "--tokenizer", "--color"})
        expect(!train || !o.given(option), option, ": does not go with --train");
    for (const char *option : {"--vocab", "--min-count", "--pretokenizer"})
        expect(train || !o.given(option), option, ": only goes with --train");
    if (train) return;
    expect(!o.tokenizer.empty(),
           "--tokenizer: bytes, a tokenizer.json or a folder with one is needed (or --train)");
    const int sources = o.given("--text") + o.given("--in") + o.given("--jsonl");
    expect(sources == 1, "exactly one of --text, --in and --jsonl is needed");
    expect(!(o.decode && o.count), "--count counts what is encoded; it does not go with --decode");
    expect(!(o.count && o.given("--out")), "--count prints its line; it does not go with --out");
    const bool shows = o.given("--text") && !o.decode && !o.count && !o.given("--out");
    expect(shows || !o.given("--color"), "--color: only goes with --text, where tokens are shown");
    for (const char *option : {"--in", "--jsonl", "--out"})
        expect(!o.given(option) || !o.verb->get_option(option)->as<std::string>().empty(), option,
               ": is empty");
}

static void tokenize(const TokenizeOptions &o) {
    check_options(o);
    if (o.given("--train")) return train_tokenizer(o);
    const Tokenizer tokenizer = load_tokenizer(o.tokenizer);
    for (const std::string &note : tokenizer.notes) std::cerr << o.tokenizer << ": " << note << "\n";
    Totals totals;
    if (o.given("--jsonl")) tokenize_jsonl(tokenizer, o, totals);
    else tokenize_text(tokenizer, o, totals);
    if (o.count) totals.print();
}

namespace {
struct Tokenize : TokenizeOptions {
    void options(CLI::App &v) {
        verb = &v;
        v.footer(examples);
        v.add_option("--tokenizer", tokenizer, "bytes, a tokenizer.json, or a folder with one");
        v.add_option("--text", text, "show the tokens of this text");
        v.add_option("--in", in, "a text file: its ids on one line (with --decode: a file of ids)");
        v.add_option("--jsonl", jsonl,
                     "a JSON string a line: a JSON array of ids a line (with --decode: back)");
        v.add_option("--out", out, "write here, not to standard output");
        v.add_flag("--decode", decode, "from ids to text");
        v.add_flag("--count", count, "print tokens, bytes and bytes per token only");
        v.add_option("--color", color, "auto, always, never")
            ->check(CLI::IsMember({"auto", "always", "never"}));
        v.add_option("--train", train, "learn a tokenizer from this file, or all files of this folder");
        v.add_option("--vocab", vocab, "its number of tokens, added ones included");
        v.add_option("--pretokenizer", pretokenizer, "v3, coder, llm, none")
            ->check(CLI::IsMember({"v3", "coder", "llm", "none"}));
        v.add_option("--min-count", min_count, "merge only pairs that occur at least this often");
    }
    void run() const { tokenize(*this); }
};
}  // namespace

void add_tokenize(CLI::App &program) {
    add_verb<Tokenize>(program, "tokenize", "Text to tokens and back; train a tokenizer", "");
}

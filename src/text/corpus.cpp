// corpus.cpp: texts become tokens, tokens become windows.
//
// A corpus has a training part and a held-out part. The embedded stories have no end: story i is a
// function of the seed, so the stream grows as it is read and nothing is seen twice. A file is read in
// windows, shuffled anew and cut at another offset each time through. A window's number is all that a
// checkpoint must remember of the data.
//
//   [1] texts become tokens   [2] files, encoded only once   [3] tokens become windows
#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <numeric>
#include <optional>
#include <unistd.h>

#include "src/base/error.h"
#include "src/base/fields.h"
#include "src/base/random.h"
#include "src/text/corpus.h"
#include "src/text/documents.h"
#include "src/text/games.h"
#include "src/text/tokenizer.h"
#include "src/base/files.h"
#include "src/base/progress.h"
#include "src/base/utf8.h"
#include "src/text/stories.h"

namespace fs = std::filesystem;

constexpr long held_out_bytes = 1 << 17;                 // of the stories; of a file: a twentieth, or
constexpr size_t most_held_out_bytes = 1 << 24;

// ----------------------------------------------------------------------------------- [1] texts become tokens
static std::vector<int> end_of_document(const Tokenizer &tokenizer) {
    return {tokenizer.eos.begin(), tokenizer.eos.begin() + std::min<size_t>(tokenizer.eos.size(), 1)};
}

static void append_document(std::vector<int> &tokens, const std::string &text, const Tokenizer &tokenizer) {
    for (const auto &ids : {tokenizer.begin, tokenizer.encode_plain(text), end_of_document(tokenizer)})
        tokens.insert(tokens.end(), ids.begin(), ids.end());
}

static Corpus stories(const Tokenizer &tokenizer, uint64_t seed) {
    Corpus c;
    c.source = "stories";
    c.seed = seed;
    c.next_story = 0;
    std::istringstream lines(story_set(true, held_out_bytes, 0));
    long bytes = 0;
    for (std::string line; std::getline(lines, line);) {
        append_document(c.valid.memory, line, tokenizer);
        bytes += (long)line.size() + 1;
    }
    expect(c.valid.size() >= 2, "--data stories: the tokenizer knows none of their letters");
    c.valid_bytes_per_token = (double)bytes / c.valid.size();
    return c;
}

std::vector<std::string> Corpus::kinds() const { return game ? game->kinds : std::vector<std::string>(); }

static Corpus played(const std::shared_ptr<const Game> &game, const std::string &source,
                     const Tokenizer &tokenizer, uint64_t seed) {
    expect(game->V() <= tokenizer.size(), "--data ", source, ": has ", game->V(),
           " tokens, the tokenizer only ", tokenizer.size());
    Corpus c;
    c.source = source;
    c.seed = seed;
    c.game = game;
    c.next_story = 0;
    c.valid_bytes_per_token = game->is_text ? 1 : NAN;
    return c;
}

static std::string cache_folder() {
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (cache && *cache) return cat(cache, "/deepseek");
    if (!home || !*home)
        fail("HOME is not set: a text's ids have no folder", "XDG_CACHE_HOME names a place for them");
    return cat(home, "/.cache/deepseek");
}

std::vector<int> Tokens::read(size_t at, size_t count) const {
    assert(at + count <= size());
    if (!file) return {memory.begin() + at, memory.begin() + at + count};
    const uint8_t *p = file->data + (first + at) * width;
    const std::vector<int> ids = width == 2
                                     ? std::vector<int>((const uint16_t *)p, (const uint16_t *)p + count)
                                     : std::vector<int>((const int32_t *)p, (const int32_t *)p + count);
    for (int id : ids)
        if (id < 0 || id >= V)
            fail(cat("the ids kept in ", cache_folder(), " are damaged: ", id, " is not below ", V),
                 "delete that folder; it is made anew");
    return ids;
}

// ------------------------------------------------------------------------------ [2] files, encoded only once
// The ids of a corpus are kept in a file: numbers of 16 or 32 bits, and at the end a footer that says what
// they were made of. It is mapped, not read, so that a corpus may be larger than the memory. Another
// tokenizer, or a text with another size or time, and it is made anew.
struct Footer {
    char magic[8] = {'d', 's', ' ', 'i', 'd', 's', ' ', '2'};
    uint64_t made_of, tokens = 0, train_tokens = 0;      // train_tokens: the first ones; the rest is held out
    uint64_t bytes = 0, train_bytes, width;              // bytes: of the text; width: of an id
};

// Does it begin like text? No zero byte, and at most a tenth of the bytes is no UTF-8.
static bool looks_like_text(const std::string &path) {
    std::string head(1 << 16, '\0');
    std::ifstream in(path, std::ios::binary);
    in.read(head.data(), (std::streamsize)head.size());
    head.resize((size_t)in.gcount());
    long broken = 0;
    repair_utf8(head, &broken);
    return head.find('\0') == head.npos && broken * 10 <= (long)head.size();
}

std::vector<std::string> texts_below(const std::string &path) {
    if (!fs::is_directory(path)) return {path};
    std::vector<std::string> files;
    int hidden = 0, binary = 0;
    const auto options = fs::directory_options::skip_permission_denied;
    for (fs::recursive_directory_iterator entry(path, options), end; entry != end; ++entry) {
        if (entry->path().filename().string().starts_with('.')) {
            entry.disable_recursion_pending();
            hidden++;
        } else if (entry->is_regular_file() && entry->file_size()) {
            const bool text = looks_like_text(entry->path());
            binary += !text;
            if (text) files.push_back(entry->path());
        }
    }
    const std::string left_out = cat("left out: ", hidden, " hidden, ", binary, " that are no text");
    expect(!files.empty(), path, ": no texts in it (", left_out, ")");
    if (hidden || binary) std::cerr << path << ": " << left_out << "\n";
    std::sort(files.begin(), files.end());
    return files;
}

// Where to cut a text near `at`: behind the end of a line, if there is one in the next `slack` bytes,
// else between two characters.
static size_t cut_near(std::string_view text, size_t at, size_t slack) {
    const size_t line = text.substr(at, slack).find('\n');
    if (line != std::string_view::npos) return at + line + 1;
    return start_of_character(text, at);
}

// Writes the ids of one text, part by part; adds to the footer's counts and to `repaired`. The text in which
// the training part ends is cut there, and `divided` from then on.
static void encode_text(std::string_view text, const Tokenizer &tokenizer, AtomicFile &out, Footer &f,
                        bool &divided, long &repaired, const std::function<void()> &progress) {
    const auto write = [&](const std::vector<int> &ids) {
        const std::vector<uint16_t> narrow(f.width == 2 ? ids.begin() : ids.end(), ids.end());
        out.write(f.width == 2 ? (const void *)narrow.data() : ids.data(), ids.size() * f.width);
        f.tokens += ids.size();
    };
    const auto encode = [&](std::string_view stretch) {
        for (std::string_view part : tokenizer.parts(stretch)) {
            write(tokenizer.encode_plain(repair_utf8(part, &repaired)));
            f.bytes += part.size();
            progress();
        }
    };
    const bool last = !divided && f.bytes + text.size() > f.train_bytes;
    const size_t at = f.train_bytes - f.bytes, cut = last ? cut_near(text, at, (text.size() - at) / 2) : 0;
    write(tokenizer.begin);
    if (cut) encode(text.substr(0, cut));
    if (last) divided = true, f.train_bytes = f.bytes, f.train_tokens = f.tokens;
    encode(text.substr(cut));
    write(end_of_document(tokenizer));
}

static void encode_files(const std::vector<std::string> &paths, const Tokenizer &tokenizer,
                         const std::string &target, Footer f) {
    size_t total = 0;
    long repaired = 0;
    bool divided = false;
    for (const std::string &path : paths)
        for_each_document(path, [&](std::string_view text) { total += text.size(); });
    f.train_bytes = total - std::min(total / 20, most_held_out_bytes);
    std::optional<Progress> bar;                         // only where it takes more than a moment
    if (total > 1 << 24) bar.emplace(0, (long)(total >> 20));
    const CatchInterrupt stop;
    AtomicFile out(target);
    const auto progress = [&] {
        if (interrupted) throw Interrupted();
        if (bar) bar->update((long)f.bytes >> 20, "MiB of text become tokens");
    };
    for (const std::string &path : paths)
        for_each_document(path, [&](std::string_view text) {
            encode_text(text, tokenizer, out, f, divided, repaired, progress);
        });
    out.write(&f, sizeof f);
    out.commit();
    if (repaired) std::cerr << "the text is not all UTF-8; " << repaired << " times replaced by U+FFFD\n";
}

// The mapped ids and their footer, if the file is there, whole, and made of just this.
static std::optional<Footer> open_ids(const std::string &path, uint64_t made_of, Tokens &tokens) {
    if (!fs::is_regular_file(path) || fs::file_size(path) < sizeof(Footer)) return {};
    tokens.file = std::make_shared<Mapping>(path);
    Footer f, expected;
    memcpy(&f, tokens.file->data + tokens.file->size - sizeof f, sizeof f);
    const bool whole = memcmp(f.magic, expected.magic, sizeof f.magic) == 0 && f.made_of == made_of &&
                       (f.width == 2 || f.width == 4) && tokens.file->size - sizeof f == f.tokens * f.width &&
                       f.train_tokens <= f.tokens;
    tokens.width = (int)f.width;
    tokens.count = f.tokens;
    return whole ? std::optional(f) : std::nullopt;
}

// A file is a document, or many if it is a .jsonl (documents.h). The last twentieth of the bytes is held out,
// so that tokenizers can be compared on the same text.
static Corpus files(const std::string &source, const Tokenizer &tokenizer, uint64_t seed) {
    const std::vector<std::string> paths = texts_below(source);
    const std::string tokenizer_json = tokenizer.to_json();
    std::string ingredients = tokenizer_json;
    for (int id : end_of_document(tokenizer)) ingredients += cat("\nends with ", id);
    for (const std::string &path : paths)
        ingredients += cat("\n", path, " ", fs::file_size(path), " ",
                           fs::last_write_time(path).time_since_epoch().count());
    const fs::path place = fs::weakly_canonical(source);
    const std::string stem = place.stem().string();
    std::ostringstream name;                             // one file for each pair of source and tokenizer
    if (stem.size() < 60) name << stem << "-";
    name << std::hex << hash_of(place.string() + tokenizer_json) << ".ids";
    const std::string target = cache_folder() + "/" + name.str();

    Corpus c;
    c.source = source;
    c.seed = seed;
    const Footer f = {
        .made_of = hash_of(ingredients), .train_bytes = 0, .width = tokenizer.size() <= 1 << 16 ? 2u : 4u};
    c.train.V = tokenizer.size();
    if (!open_ids(target, f.made_of, c.train)) {
        std::error_code cannot;
        fs::create_directories(cache_folder(), cannot);
        if (cannot || access(cache_folder().c_str(), W_OK) != 0)
            fail("the folder for a text's ids, " + cache_folder() + ", cannot be written",
                 "XDG_CACHE_HOME names another place for it");
        encode_files(paths, tokenizer, target, f);
    }
    const auto known = open_ids(target, f.made_of, c.train);
    expect(known, target, ": was replaced while it was read");
    expect(known->tokens >= 40, "--data ", source, ": ", known->tokens,
           " tokens are too few to train on and to hold a twentieth out; 40 are needed");
    c.valid = c.train;
    c.valid.first = c.train.count = known->train_tokens;
    c.valid.count = known->tokens - known->train_tokens;
    expect(c.valid.count >= 2, "--data ", source, ": the last twentieth, which is held out, is ",
           c.valid.count, " token; two are needed");
    c.valid_bytes_per_token = (double)(known->bytes - known->train_bytes) / c.valid.count;
    return c;
}

Corpus load_corpus(const std::string &source, const Tokenizer &tokenizer, uint64_t seed) {
    if (source == "stories") return stories(tokenizer, seed);
    if (const auto game = load_game(source)) return played(game, source, tokenizer, seed);
    if (!fs::exists(source))
        fail("--data " + source + ": no such file or folder",
             cat("or `stories`, the embedded corpus, or a game: ", format(game_names())));
    return files(source, tokenizer, seed);
}

// ------------------------------------------------------------- [3] tokens become windows
Sequences read_sequences(const std::string &file, int V) {
    std::ifstream in(file);
    expect(in.good(), "--tokens ", file, ": cannot be read");
    Sequences sequences;
    int number = 0;
    for (std::string line; std::getline(in, line);) {
        number++;
        std::vector<int> ids;
        std::istringstream words(line);
        for (std::string word; words >> word;) {
            const bool digits = word.find_first_not_of("0123456789") == std::string::npos && word.size() < 10;
            expect(digits && std::stoi(word) < V, file, ":", number, ": '", word, "' is no token id below ",
                   V);
            ids.push_back(std::stoi(word));
        }
        if (ids.size() == 1) fail(cat(file, ":", number, ": a sequence of one token has nothing to predict"));
        if (!ids.empty()) sequences.push_back(ids);
    }
    expect(!sequences.empty(), "--tokens ", file, ": no sequence in it");
    return sequences;
}

long Shuffled::at(uint64_t seed, long g, long n) {
    if (round != g / n || (long)order.size() != n) {
        order.resize(n);
        round = g / n;
        std::iota(order.begin(), order.end(), 0);
        for (long i = n - 1; i > 0; i--)
            std::swap(order[i], order[random_bits(seed, 11, round, i) % (i + 1)]);
    }
    return order[g % n];
}

// The start of window g. Each time through a file of n windows has its own offset and order.
static long window_start(Corpus &c, long g, int T) {
    const long n = std::max(1l, ((long)c.train.size() - 1 - T) / T), slack = (long)c.train.size() - 1 - n * T;
    return c.shuffled.at(c.seed, g, n) * T +
           (long)(random_bits(c.seed, 12, g / n, 0) % (std::min<long>(slack, T - 1) + 1));
}

Sequences windows(Corpus &c, const Tokenizer &tokenizer, long position, int B, int T) {
    Sequences batch;
    for (long g = position; g < position + B; g++) {
        long start = g * T;
        while (c.next_story >= 0 && (long)c.train.size() < start + T + 1) {
            const Tale tale = tell(c.seed, c.next_story++);
            if (!tale.held_out) append_document(c.train.memory, tale.text, tokenizer);
        }
        if (c.next_story < 0) {
            if ((long)c.train.size() <= T)
                fail(cat("--data ", c.source, ": ", c.train.size(), " tokens, fewer than one context of ", T),
                     cat("--context ", c.train.size() - 1, " is the longest that fits"));
            start = window_start(c, g, T);
        }
        batch.push_back(c.train.read(start, T + 1));
    }
    return batch;
}

std::vector<Sequences> held_out_windows(const Corpus &c, int B, int T, size_t most) {
    std::vector<Sequences> batches;
    for (size_t at = 0, n = 0; n < most && at + 1 < c.valid.size(); at += T, n++) {
        if (n % B == 0) batches.emplace_back();
        batches.back().push_back(c.valid.read(at, std::min<size_t>(T + 1, c.valid.size() - at)));
    }
    return batches;
}

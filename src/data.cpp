// data.cpp: texts become tokens, tokens become windows, windows become batches.
//
// A corpus has a training part and a held-out part. The embedded stories have no end: story i is a function
// of the seed, so the stream grows as it is read and nothing is seen twice. A file is read in windows,
// shuffled anew and cut at another offset each time through. A window's number is all that a checkpoint must
// remember of the data.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <numeric>

#include "../deepseek.h"
#include "../tokenizer.h"
#include "files.h"
#include "stories.h"

namespace fs = std::filesystem;

constexpr long held_out_bytes = 1 << 17;
constexpr const char *end_token = "<｜end▁of▁sentence｜>";

static void append_document(std::vector<int> &tokens, const std::string &text, const Tokenizer &tokenizer) {
    const auto ids = tokenizer.encode_plain(text);
    tokens.insert(tokens.end(), ids.begin(), ids.end());
    if (tokenizer.find(end_token) >= 0) tokens.push_back(tokenizer.find(end_token));
}

static Corpus stories(const Tokenizer &tokenizer, uint64_t seed) {
    Corpus c;
    c.source = "stories";
    c.seed = seed;
    c.next_story = 0;
    std::istringstream lines(story_set(true, held_out_bytes, 0));
    long bytes = 0;
    for (std::string line; std::getline(lines, line);) {
        append_document(c.valid, line, tokenizer);
        bytes += (long)line.size() + 1;
    }
    c.valid_bytes_per_token = (double)bytes / c.valid.size();
    return c;
}

// Every file of a folder is a document; so is a single file. The last twentieth is held out.
Corpus load_corpus(const std::string &source, const Tokenizer &tokenizer, uint64_t seed) {
    if (source == "stories") return stories(tokenizer, seed);
    if (!fs::exists(source))
        fail("--data " + source + ": no such file or folder", "or `stories`, the embedded corpus");
    std::vector<std::string> paths;
    if (!fs::is_directory(source)) paths.push_back(source);
    else for (const auto &entry : fs::recursive_directory_iterator(source))
        if (entry.is_regular_file() && entry.file_size()) paths.push_back(entry.path());
    std::sort(paths.begin(), paths.end());

    Corpus c;
    c.source = source;
    c.seed = seed;
    long bytes = 0;
    for (const auto &path : paths) {
        const Mapping text(path);
        append_document(c.train, std::string((const char *)text.data, text.size), tokenizer);
        bytes += (long)text.size;
    }
    expect(c.train.size() >= 40, "--data ", source, ": ", c.train.size(), " tokens are too few to train on");
    c.valid_bytes_per_token = (double)bytes / c.train.size();
    const long keep = (long)c.train.size() * 19 / 20;
    c.valid.assign(c.train.begin() + keep, c.train.end());
    c.train.resize(keep);
    return c;
}

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

// The start of window g. A file of n windows is gone through in rounds; each has its own offset and order.
static long window_start(Corpus &c, long g, int T) {
    const long n = std::max(1l, ((long)c.train.size() - 1 - T) / T), round = g / n;
    if (c.order_round != round || (long)c.order.size() != n) {
        c.order.resize(n);
        c.order_round = round;
        std::iota(c.order.begin(), c.order.end(), 0);
        for (long i = n - 1; i > 0; i--)
            std::swap(c.order[i], c.order[random_bits(c.seed, 11, round, i) % (i + 1)]);
    }
    const long slack = (long)c.train.size() - 1 - n * T;
    return c.order[g % n] * (long)T +
           (long)(random_bits(c.seed, 12, round, 0) % (std::min<long>(slack, T - 1) + 1));
}

Sequences windows(Corpus &c, const Tokenizer &tokenizer, long position, int B, int T) {
    Sequences batch;
    for (long g = position; g < position + B; g++) {
        long start = g * T;
        while (c.next_story >= 0 && (long)c.train.size() < start + T + 1) {
            const Tale tale = tell(c.seed, c.next_story++);
            if (!tale.held_out) append_document(c.train, tale.text, tokenizer);
        }
        if (c.next_story < 0) {
            expect((long)c.train.size() > T, "--data ", c.source, ": ", c.train.size(),
                   " tokens, fewer than one context of ", T);
            start = window_start(c, g, T);
        }
        batch.emplace_back(c.train.begin() + start, c.train.begin() + start + T + 1);
    }
    return batch;
}

Batch make_batch(const Sequences &sequences, int D) {
    const int B = (int)sequences.size();
    size_t longest = 0;
    for (const auto &s : sequences) longest = std::max(longest, s.size());
    Batch b = {
        .B = B, .T = (int)longest - 1, .targets = 0, .ids = {}, .next = {}, .mtp_ids = {}, .mtp_next = {}};
    for (int k = 0; k <= std::min(D, b.T - 1); k++) {                    // k = 0: the model itself
        std::vector<int> ids, next;
        for (const auto &s : sequences) {
            for (int i = 0; i < b.T - k; i++) {
                const size_t at = i + k;
                ids.push_back(at < s.size() ? s[at] : 0);
                next.push_back(at + 1 < s.size() ? s[at + 1] : -1);
                if (k == 0) b.targets += next.back() >= 0;
            }
        }
        const Tensor id = from(ids, {B, b.T - k}, "ids"), target = from(next, {B, b.T - k}, "next");
        if (k == 0) b.ids = id, b.next = target;
        else b.mtp_ids.push_back(id), b.mtp_next.push_back(target);
    }
    return b;
}

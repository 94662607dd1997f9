// corpus.h: texts become tokens, tokens become windows.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

class Game;
struct Tokenizer;
struct Shuffled {                        // n things, gone through again and again, each time in another order
    std::vector<int> order = {};                         // of this round
    long round = -1;
    long at(uint64_t seed, long g, long n);              // which of them is number g = 0, 1, ...
};
struct Mapping;
struct Tokens {                                   // ids in memory, or a part of a mapped file that holds them
    std::vector<int> memory = {};
    std::shared_ptr<const Mapping> file = {};
    int width = 4, V = 0;                                // bytes of an id in the file: 2 or 4; below V
    size_t first = 0, count = 0;                         // the part of the file
    size_t size() const { return file ? count : memory.size(); }
    std::vector<int> read(size_t at, size_t count) const;        // a copy
};
struct Corpus {                           // tokens of a text, documents as the tokenizer begins and ends them
    std::string source;
    Tokens train, valid;
    double valid_bytes_per_token = 1;                    // NaN: its tokens are no bytes
    uint64_t seed = 0;
    long next_story = -1;                     // of the embedded corpus, which grows as it is read; -1: a file
    std::shared_ptr<const Game> game;         // in place of all tokens: games.h makes sequences
    Shuffled shuffled;                                   // a file's windows
    std::vector<std::string> kinds() const;              // of a game's sequences
};
// The texts of a folder in the same order everywhere, or just this file. Hidden files and what is no text are
// left out, and said; so are, silently, empty files.
std::vector<std::string> texts_below(const std::string &path);
Corpus load_corpus(const std::string &source, const Tokenizer &,
                   uint64_t seed);                                           // stories | GAME | FILE | FOLDER
using Sequences = std::vector<std::vector<int>>;
Sequences read_sequences(const std::string &file, int V);                          // ids, one sequence a line
// Windows number `position` .. position + B - 1 of T+1 tokens: consecutive, or, of a file,
// shuffled anew each time through.
Sequences windows(Corpus &, const Tokenizer &, long position, int B, int T);
// The held-out part in windows of T+1 tokens, B at a time, each beginning with the token that the one
// before it ended with; the last is as long as what is left. `most`: of the windows.
std::vector<Sequences> held_out_windows(const Corpus &, int B, int T, size_t most = SIZE_MAX);

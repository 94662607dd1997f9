// prepare.h: a folder of texts becomes a corpus: deduplicate, filter, remix.        DeepSeek LLM section 2.1
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

struct PrepareOptions {
    std::string in, out;                                 // out: NAME.jsonl, or a folder of .txt
    std::string report = "";                             // a JSON file; empty: none
    std::string tokenizer = "";                          // counts tokens; empty: bytes only
    std::optional<std::string> separator = {};
    long repeated_lines = 0;                             // more documents than that: boilerplate; 0: keep all
    std::vector<std::string> no_filter = {};
    std::map<std::string, double> mix = {};              // weights of sources; of others 1
    uint64_t seed = 1;                                   // of the mix and of the order
};

struct Tally { long documents = 0, bytes = 0, tokens = 0; };
struct Removed {                                         // by one stage or rule
    std::string name, reason;
    Tally tally = {};
    std::string example = "", why = "";                  // the first one's path
};
struct SourceTally {
    Tally in, kept, out;                                 // kept: before it is remixed
    double weight = 1;
};
struct PrepareReport {
    Tally in, out;
    std::vector<Removed> removed;                        // exact-duplicate, near-duplicate, then every rule
    Tally lines;                                         // boilerplate: `documents` counts lines
    std::map<std::string, SourceTally> sources;
    double dedup_rate() const;                           // of the documents
    std::string table() const;
    std::string json() const;
};
PrepareReport prepare(const PrepareOptions &);

// ------------------------------------------------------------------------------------------------ its parts
std::string normalised(std::string_view text);           // CRLF is LF, and no blanks end a line or the text

// For each document -1, or an earlier one with the same text; texts of one hash are compared.
std::vector<long> exact_duplicates(const std::vector<uint64_t> &hashes,
                                   const std::function<std::string(long)> &text);

// How often each document of a source is written, so that there are `weight` times its bytes, but for half a
// document: each as often as the weight has wholes, and the first ones in `order` once more.
std::vector<int> copies(double weight, const std::vector<size_t> &bytes, const std::vector<uint64_t> &order);

// minhash.h: which texts say nearly the same, without comparing each with each.
//
// A text is the set of its shingles, five words in a row. How alike two texts are is their Jaccard index,
// |A and B| / |A or B|. Under a random hash the least value of A and of B is the same one with just that
// probability, so 128 least values estimate it, with a standard error of sqrt(s (1-s) / 128). They are cut
// into 16 bands of 8: two texts meet in some band with probability 1 - (1 - s^8)^16, which is 0.95 at s = 0.8
// and 0.06 at s = 0.5. What meets is compared exactly. The numbers are [ours]: DeepSeek LLM section 2.1 and
// its release notes say MinHash-LSH and no more.
#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

constexpr int shingle_words = 5, n_hashes = 128, n_bands = 16, band_rows = n_hashes / n_bands;
constexpr double near_duplicate = 0.8;

// What stands between blanks, as it stands: in a program, punctuation is what is said. Chinese and Japanese
// have no blanks, so each of their characters is a word.
std::vector<std::string_view> words_of(std::string_view text);
bool stands_alone(uint32_t code);

using Shingles = std::vector<uint64_t>;                  // hashes of 64 bits: sorted, each once
Shingles shingles_of(const std::vector<std::string_view> &words);     // fewer than five words are one
double jaccard(const Shingles &a, const Shingles &b);

using Signature = std::array<uint32_t, n_hashes>;
Signature minhash(const Shingles &);
using Bands = std::array<uint64_t, n_bands>;             // all that is kept of a text
Bands bands_of(const Signature &);

constexpr long block_size = 256;                         // documents that are looked at at the same time

// For each document -1, or an earlier one that stays and that it nearly repeats. Greedy, not by connected
// components: what is removed has a near duplicate among what stays, and a chain of small changes does not
// make one document of its two ends. All documents of a block look at what stayed before it at the same time,
// and what is still new then at the block itself, one after the other: the answer is that of one long loop.
// `after_block` hears how many are done.
std::vector<long> near_duplicates(const std::vector<Bands> &bands,
                                  const std::function<Shingles(long)> &shingles,
                                  const std::function<void(long)> &after_block = {});

// minhash.cpp: see minhash.h.
#include "src/text/minhash.h"

#include <algorithm>
#include <string>
#include <unordered_map>
#include <utility>

#include "src/base/parallel.h"
#include "src/base/random.h"
#include "src/base/utf8.h"

// Chinese and Japanese characters and their punctuation; Korean has blanks.
bool stands_alone(uint32_t code) {
    return (code >= 0x2E80 && code < 0xA000) || (code >= 0xF900 && code < 0xFB00) ||
           (code >= 0xFF00 && code < 0xFFF0) || (code >= 0x20000 && code < 0x40000);
}

std::vector<std::string_view> words_of(std::string_view text) {
    std::vector<std::string_view> words;
    size_t start = 0;
    const auto end_at = [&](size_t end) {
        if (end > start) words.push_back(text.substr(start, end - start));
    };
    for (size_t at = 0; at < text.size();) {
        const Character c = character_at(text, at);
        const bool blank = c.code == ' ' || (c.code >= '\t' && c.code <= '\r');
        if (blank || stands_alone(c.code)) {
            end_at(at);
            start = at;
            at += c.length;
            if (!blank) end_at(at);
            start = at;
        } else at += c.length;
    }
    end_at(text.size());
    return words;
}

Shingles shingles_of(const std::vector<std::string_view> &words) {
    std::vector<uint64_t> hashes;
    for (std::string_view word : words) hashes.push_back(hash_of(word));
    const size_t length = std::min<size_t>(shingle_words, words.size());
    Shingles set;
    for (size_t i = 0; length && i + length <= words.size(); i++) {
        uint64_t h = 0;
        for (size_t j = 0; j < length; j++) h = mix(h ^ hashes[i + j]);
        set.push_back(h);
    }
    std::sort(set.begin(), set.end());
    set.erase(std::unique(set.begin(), set.end()), set.end());
    return set;
}

double jaccard(const Shingles &a, const Shingles &b) {
    size_t both = 0;
    for (size_t i = 0, j = 0; i < a.size() && j < b.size();) {
        both += a[i] == b[j];
        const bool less = a[i] <= b[j], more = b[j] <= a[i];
        i += less;
        j += more;
    }
    const size_t either = a.size() + b.size() - both;
    return either ? (double)both / either : 1;
}

Signature minhash(const Shingles &shingles) {
    static const auto keys = [] {
        std::array<uint64_t, n_hashes> keys;
        for (int i = 0; i < n_hashes; i++) keys[i] = random_bits(0, hash_of("minhash"), 0, i);
        return keys;
    }();
    Signature least;
    least.fill(UINT32_MAX);
    for (uint64_t shingle : shingles)
        for (int i = 0; i < n_hashes; i++)
            least[i] = std::min(least[i], (uint32_t)(mix(shingle ^ keys[i]) >> 32));
    return least;
}

Bands bands_of(const Signature &signature) {
    Bands bands;
    for (int b = 0; b < n_bands; b++) {
        uint64_t h = b;
        for (int row = 0; row < band_rows; row++) h = mix(h ^ signature[b * band_rows + row]);
        bands[b] = h;
    }
    return bands;
}

// What stays, by band: each bucket is a chain from its newest document to its first.
struct Buckets {
    const std::vector<Bands> &bands;
    std::unordered_map<uint64_t, long> newest;
    std::unordered_map<long, std::array<long, n_bands>> before;       // in each of a document's buckets

    void add(long document) {
        auto &earlier = before[document];
        for (int b = 0; b < n_bands; b++) {
            const auto [bucket, empty] = newest.try_emplace(bands[document][b], document);
            earlier[b] = empty ? -1 : std::exchange(bucket->second, document);
        }
    }
    // Those from `from` on that meet this one in some band, in order.
    std::vector<long> meet(long document, long from) const {
        std::vector<long> found;
        for (int b = 0; b < n_bands; b++) {
            const auto bucket = newest.find(bands[document][b]);
            if (bucket == newest.end()) continue;
            for (long d = bucket->second; d >= from; d = before.at(d)[b]) found.push_back(d);
        }
        std::sort(found.begin(), found.end());
        found.erase(std::unique(found.begin(), found.end()), found.end());
        return found;
    }
};

std::vector<long> near_duplicates(const std::vector<Bands> &bands,
                                  const std::function<Shingles(long)> &shingles,
                                  const std::function<void(long)> &after_block) {
    const long n = (long)bands.size();
    std::vector<long> repeats(n, -1);
    Buckets stay{bands, {}, {}};
    const auto repeated = [&](long document, long from) {
        const std::vector<long> candidates = stay.meet(document, from);
        const Shingles mine = candidates.empty() ? Shingles() : shingles(document);
        for (long d : candidates)
            if (jaccard(mine, shingles(d)) >= near_duplicate) return d;
        return -1l;
    };
    for (long start = 0; start < n; start += block_size) {
        const long end = std::min(n, start + block_size);
        for_rows_that_may_fail(start, end, [&](long i) { repeats[i] = repeated(i, 0); });
        for (long i = start; i < end; i++) {
            if (repeats[i] < 0) repeats[i] = repeated(i, start);
            if (repeats[i] < 0) stay.add(i);
        }
        if (after_block) after_block(end);
    }
    return repeats;
}

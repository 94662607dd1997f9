// batch.cpp: sequences of tokens become a batch on the device.
#include <algorithm>

#include "src/train/training.h"

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

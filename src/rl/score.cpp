// score.cpp: see score.h.
#include "src/rl/score.h"

#include <algorithm>
#include <map>
#include <set>

double pass_at(int n, int c, int k) {
    double miss = 1;                                     // a product, for the binomials overflow
    for (int i = 0; i < k; i++) miss *= std::max(0.0, (double)(n - c - i) / (n - i));
    return 1 - miss;
}

// One vote of the outputs in `order`: how sure it is to be right.
static double vote(const std::vector<Graded> &outputs, const std::vector<int> &order, int k) {
    struct Class { int votes = 0, right = 0; };
    std::map<std::string, Class> classes;
    int most = 0;
    for (int i = 0; i < k; i++) {
        const Graded &g = outputs[order[i]];
        if (g.answer.empty()) continue;
        Class &c = classes[g.answer];
        c.right = g.right;
        most = std::max(most, ++c.votes);
    }
    double winners = 0, right = 0;
    for (const auto &[answer, c] : classes)
        if (c.votes == most) winners++, right += c.right;
    return winners ? right / winners : 0;
}

double majority_at(const std::vector<Graded> &outputs, int k, int draws, uint64_t seed) {
    std::vector<int> order(outputs.size());
    for (size_t i = 0; i < order.size(); i++) order[i] = (int)i;
    if (k == (int)order.size()) return vote(outputs, order, k);
    double sum = 0;
    if (k == 1) {                                        // each output once
        for (const Graded &g : outputs) sum += g.right && !g.answer.empty();
        return sum / (double)outputs.size();
    }
    Random r = {seed};
    for (int d = 0; d < draws; d++) {
        for (int i = 0; i < k; i++) std::swap(order[i], order[i + r.below((int)order.size() - i)]);
        sum += vote(outputs, order, k);
    }
    return sum / draws;
}

Score score(const std::vector<Rollout> &rollouts, int samples, uint64_t seed) {
    Score s = {};
    for (int k = 1; k < samples; k *= 4) s.K.push_back(k);
    s.K.push_back(samples);
    s.pass.resize(s.K.size());
    s.majority.resize(s.K.size());
    const double n = (double)rollouts.size(), questions = n / samples;
    double steps = 0, right_steps = 0;
    for (size_t first = 0; first < rollouts.size(); first += samples) {
        std::vector<Graded> outputs;
        std::set<double> rewards;
        int right = 0;
        for (int i = 0; i < samples; i++) {
            const Rollout &r = rollouts[first + i];
            outputs.push_back(r.graded);
            rewards.insert(r.reward);
            right += r.graded.right;
            s.formed += r.graded.formed / n;
            s.language += r.graded.language / n;
            s.tokens += r.answer.ids.size() / n;
            s.cut += !r.ended() / n;
            s.reward += r.reward / n;
            steps += (double)r.graded.steps.size();
            for (const Graded::Step &step : r.graded.steps) right_steps += step.right;
        }
        s.flat += (rewards.size() == 1) / questions;
        for (size_t k = 0; k < s.K.size(); k++) {
            s.pass[k].push_back(pass_at(samples, right, s.K[k]));
            s.majority[k].push_back(majority_at(outputs, s.K[k], 64, mix(seed ^ first)));
        }
    }
    s.steps = steps / n;
    s.steps_right = steps ? right_steps / steps : 0;
    return s;
}

// Only questions whose outputs differ in worth teach anything. The thresholds are rules of thumb.      [ours]
std::string advice(const Score &s) {
    const double differing = 1 - s.flat;
    double right = 0;
    for (double p : s.pass[0]) right += p / (double)s.pass[0].size();
    if (s.cut > 0.5)
        return "most outputs do not end: a larger --max-tokens or context, or a base that has learned to end";
    if (right > 0.95) return "hardly anything is left to learn: a higher --level";
    if (differing < 0.05)
        return "it cannot start, hardly any question has both right and wrong outputs: a lower --level, a "
               "larger "
               "--group, or a base that has read more traces";
    if (s.formed < 0.05)
        return "it can start from right answers, but hardly any output has the form: traces that have it";
    if (differing < 0.3) return "it will start slowly: a larger --group, or a lower --level first";
    return "it can start";
}

// bench.cpp: what this machine can do, and how much of it the models get.
//
// First the machine's own peaks, measured now: a large product and a large copy. Then, for each model, tokens
// a second of training and of decoding, as a fraction of those peaks, and the time of every op in both
// directions. Machines are noisy: compare ratios of one run, not seconds of two.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <map>
#include <omp.h>

#include "src/base/random.h"
#include "src/infer/decoder.h"
#include "src/model/config.h"
#include "src/train/training.h"
#include "src/base/files.h"
#include "src/base/json.h"
#include "src/cli/verbs.h"

namespace {
double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// The shortest of a few runs of f, in seconds.
template <class F> double best_time(int runs, F f) {
    double best = 1e30;
    for (int i = 0; i < runs; i++) {
        const double start = now();
        f();
        best = std::min(best, now() - start);
    }
    return best;
}

struct Peaks { double flops, bytes; };

Peaks measure_peaks() {
    NoGrad off;
    const int n = 1024;
    const Tensor x = zeros({n, n}), W = zeros({n, n});
    const double gemm = best_time(8, [&] {
        matmul(x, W);
        device->wait();
    });
    const long big = 1 << 24;
    const Tensor a = zeros({big}), b = zeros({big});
    const double stream = best_time(5, [&] {
        scale_add(a, b, 1, 1);
        device->wait();
    });
    return {2.0 * n * n * n / gemm, 3.0 * big * sizeof(real) / stream};
}

struct Bench {
    std::vector<std::string> presets = {"v3-tiny", "v3-small"}, set;
    int batch = 8, context = 0, steps = 5;
    std::string json;
    Common common;

    void options(CLI::App &v);
    void run() const;
    Json measure(const std::string &preset, const Peaks &) const;
};

struct OpTime {
    double forward = 0, backward = 0;
    long calls = 0;
};

Sequences random_batch(const Config &c, int B, int T, int step) {
    Sequences batch(B, std::vector<int>(T + 1));
    for (int b = 0; b < B; b++)
        for (int t = 0; t <= T; t++) batch[b][t] = (int)(random_bits(step, 1, b, t) % c.V);
    return batch;
}

// Tokens a second of 64 answers of n tokens, so many side by side, sampled and with log-probabilities: as a
// rollout makes them.
double decode_rate(const Model &m, int slots, int n) {
    std::vector<Request> requests;
    const Sequences prompts = random_batch(m.c, 64, 7, 0);
    for (int i = 0; i < 64; i++) requests.push_back({.prompt = prompts[i], .question = i, .max_tokens = n});
    const double start = now();
    decode(m, requests, {.slots = slots, .logp = true});
    return 64 * n / (now() - start);
}

// Milliseconds of a step by op, the longest first: printed, and returned.
Json op_table(const std::map<std::string, OpTime> &times, int steps) {
    printf("  %-16s %10s %10s %8s   ms a step\n", "op", "forward", "backward", "calls");
    std::vector<std::pair<std::string, OpTime>> sorted(times.begin(), times.end());
    std::sort(sorted.begin(), sorted.end(), [](const auto &x, const auto &y) {
        return x.second.forward + x.second.backward > y.second.forward + y.second.backward;
    });
    Json table;
    for (const auto &[name, time] : sorted) {
        printf("  %-16s %10.3f %10.3f %8ld\n", name.c_str(), 1e3 * time.forward, 1e3 * time.backward,
               time.calls / steps);
        table[name] = {{"forward_ms", 1e3 * time.forward},
                       {"backward_ms", 1e3 * time.backward},
                       {"calls", time.calls / steps}};
    }
    return table;
}

Json Bench::measure(const std::string &preset, const Peaks &peak) const {
    TrainOptions o;
    Config c = load_preset(preset);
    for (const auto &field : set) set_field(c, field);
    validate(c);
    o.batch = batch;
    expect(context <= c.context, "--context ", context, ": the longest sequence of ", preset, " is ",
           c.context);
    const int T = context ? context : std::min(128, c.context);
    expect(T >= 2, preset, ": a context of ", T, " is too short to decode");
    expect_memory_for(c, 4, (double)batch * T);
    Training t(o, initialised(c, 1));
    const auto read = [&](long position) { return examples(random_batch(c, batch, T, (int)position)); };
    t.train_step(read);                                  // fills the pool
    std::vector<double> seconds;
    for (int i = 0; i < steps; i++) {
        const double start = now();
        t.train_step(read);
        seconds.push_back(now() - start);
    }
    std::nth_element(seconds.begin(), seconds.begin() + steps / 2, seconds.end());
    const double rate = (double)batch * T / seconds[steps / 2];                      // of the median step

    std::map<std::string, OpTime> times;
    {
        const Restored keep(op_hook);
        op_hook.after = [&](const Call &call, bool backward, double seconds) {
            OpTime &time = times[ops[call.op].name];
            (backward ? time.backward : time.forward) += seconds / steps;
            time.calls++;
        };
        for (int i = 0; i < steps; i++) t.train_step(read);
    }

    c.context = T;                                       // the attention's share depends on it
    const double fraction = census(c).flops_per_token * rate / peak.flops;
    const int n = std::min(64, T / 2);
    std::map<int, double> decoding;                      // by how many answers are side by side
    for (int slots : {1, 8, 64}) decoding[slots] = decode_rate(t.policy.model, slots, n);
    printf("\n%s  (batch %d x %d)\n", preset.c_str(), batch, T);
    printf("  training  %10.0f tokens/s   %4.1f%% of the GEMM peak\n", rate, 100 * fraction);
    printf("  decoding  %10.0f tokens/s alone, %.0f by 8, %.0f by 64 (%.1f times)\n", decoding[1],
           decoding[8], decoding[64], decoding[64] / decoding[1]);
    const Json table = op_table(times, steps);
    Json result;
    result["preset"] = preset;
    result["batch"] = batch;
    result["context"] = T;
    result["training_tokens_per_s"] = rate;
    result["fraction_of_peak"] = fraction;
    result["decode_tokens_per_s"] = decoding[1];
    result["decode_8_tokens_per_s"] = decoding[8];
    result["decode_64_tokens_per_s"] = decoding[64];
    result["ops"] = table;
    return result;
}

void Bench::run() const {
    if (!json.empty()) expect_replaceable(json);
    const Peaks peak = measure_peaks();
    printf("device %s, %d threads: GEMM %.1f GFLOP/s, memory %.1f GB/s\n", device->name,
           omp_get_max_threads(), peak.flops / 1e9, peak.bytes / 1e9);
    Json result;
    result["device"] = device->name;
    result["threads"] = omp_get_max_threads();
    result["gemm_flops"] = peak.flops;
    result["bandwidth"] = peak.bytes;
    result["models"] = Json::array();
    for (const auto &preset : presets) result["models"].push_back(measure(preset, peak));
    if (!json.empty()) write_atomically(json, dump_json(result));
}

void Bench::options(CLI::App &v) {
    v.add_option("--preset", presets, "which models (repeatable)")
        ->capture_default_str()
        ->allow_extra_args(false);
    v.add_option("--set", set, "field=value of their configurations (repeatable)")->allow_extra_args(false);
    v.add_option("--batch", batch, "sequences of a training step")
        ->check(between(1, 1 << 16))
        ->capture_default_str();
    v.add_option("--context", context, "tokens of a sequence; 0: 128, or the model's if that is less")
        ->check(between(0, 1e9));
    v.add_option("--steps", steps, "timed steps")->check(between(1, 1e6))->capture_default_str();
    v.add_option("--json", json, "write the figures there");
}
}  // namespace

void add_bench(CLI::App &program) {
    add_verb<Bench>(program, "bench", "Measure this machine and the models on it",
                    "deepseek bench --json bench.json");
}

// decoder.h: caches, prefill, decode; many questions answered side by side.
#pragma once
#include <functional>

#include "deepseek.h"
#include "src/text/corpus.h"

struct EveryToken {                  // what feed() tells of each of its tokens, where it is asked to
    bool hidden = false, routing = false;
    Tensor h = {};                                       // (B,longest,d)
    std::vector<Sequences> experts = {};                 // [router][slot]: K_r of each token
};

struct Draft {                       // a token that an MTP module foretells
    int id = 0;
    std::vector<double> q = {};                               // the distribution it was drawn from
};
using Drafts = std::vector<Draft>;                       // of modules 1, 2, ...

// B slots, each a sequence that grows at its own pace. Slots are freed and used again while others go on: how
// much of a slot counts is its length alone, what lies behind that is never read.
struct Decoder {
    const Model &m;
    int B, T_max, D;                                     // D: MTP modules that draft
    Caches caches;
    std::vector<int> length;                             // tokens seen by each
    std::vector<int> foreseen;                           // rows of the modules that have read no draft
    Tensor h;                                            // (B,d): hidden state after each one's last token
    Tensor h_0;                                          // (B,T_max,1,d): after all of them, if D > 0
    Decoder(const Model &, int B, int T_max, int D = 0);
    // Feeds tokens, as many as each slot has (none is fine), and returns h, which no later feed changes.
    Tensor feed(const Sequences &tokens, int chunk = 64, EveryToken * = nullptr);
    Tensor logits(const Tensor &h) const;                // (...,d) -> (...,V)
    // The D tokens behind each text (empty: none wanted), of which the trunk need not have read the last.
    // names: (question, sample) of each slot.
    std::vector<Drafts> draft(Sequences texts, const Sampling &, const std::vector<int> &names);
    void rollback(int slot, int length);                 // forgets all tokens from there on; then feed it
    void free(int slot) { rollback(slot, 0); }
    void fork(int from, int to) { take(*this, from, to); }
    void take(const Decoder &, int from, int to);        // what a slot, here or elsewhere, has seen: copied
};

// What stands where x was drawn from q and the model says p: x with probability min(1, p(x)/q(x)), else a
// token of (p - q)_+. u is uniform in (0,1).
int accept(const std::vector<double> &p, const std::vector<double> &q, int x, double u);

struct Speculation {                 // how it went
    std::vector<long> drafted = {}, accepted = {};                 // by module
    long forwards = 0, tokens = 0;                       // of the trunk after prompts, and what they gave
    std::vector<double> t_1 = {}, t_1D = {}, t_mtp = {};     // now and then, seconds: see gain()
    double tokens_per_forward() const { return (double)tokens / (double)forwards; }
    // A trunk forward of 1 + D tokens and D drafts, instead of a forward for each token.
    double gain() const { return tokens_per_forward() * median(t_1) / (median(t_1D) + median(t_mtp)); }
    static double median(std::vector<double>);
};

// A question: a prompt, and how many answers. The random numbers of an answer are named (question, sample,
// position), so that it says the same wherever and beside whomever it is decoded.
struct Request {
    std::vector<int> prompt;
    int samples = 1, question = 0;
    int max_tokens = 200;
    std::vector<int> stop = {};                          // each ends an answer
};
struct DecodeOptions {
    Sampling sampling = {};
    int slots = 64;                                      // answers side by side
    bool logp = false, kept = false, routing = false;    // what is recorded for training
    int speculate = 0;                                   // MTP modules that draft
    Speculation *speculation = nullptr;                  // is told how it went
};
enum class End { stop, max_tokens, context };
struct Answer {
    std::vector<int> ids = {};                           // the last may be a stop token
    End end = End::stop;
    std::vector<real> logp = {};                       // of ids, under the sampler: temperature, top-k, top-p
    std::vector<int> kept = {};                          // (ids,ceil(V/32)): what the sampler chose among
    Sequences experts = {};          // [router]: K_r of each token that was read: prompt and ids but the last
    std::vector<int> text() const;                       // ids without the stop token
};
// Answers every request, slot by slot as they become free; a prompt is computed once for all its samples.
// Calls on_token(request, sample, id) as they come, not for a stop token. Returns [request][sample].
std::vector<std::vector<Answer>> decode(const Model &, const std::vector<Request> &, const DecodeOptions &,
                                        const std::function<void(int, int, int)> &on_token = {});

struct Generation {
    Sampling sampling;
    int max_tokens = 200;
    std::vector<int> stop;
    int speculate = 0;
    Speculation *speculation = nullptr;
    DecodeOptions options() const;
};
// Continues each prompt once, as questions 0, 1, ...; calls on_token(prompt, id) as they come. Returns what
// was added, without the stop token.
Sequences generate(const Model &, const Sequences &prompts, const Generation &,
                   const std::function<void(int, int)> &on_token = {});

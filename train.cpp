// train.cpp: from a batch of tokens to better weights.
//
// An objective is a function of a filled batch that returns scalars; backward() does the rest. One training
// step: read windows, objective, backward (as often as --accumulate says, gradients add up), then AdamW on
// every weight and the bias update of every router. Within a step nothing waits for results of the device;
// only the report at its end does.
//
//   [1] objectives   [2] schedules   [3] the optimiser   [4] one step
#include <algorithm>
#include <cmath>
#include <numeric>

#include "src/train/training.h"

// -------------------------------------------------------------------------------------------- [1] objectives
// Language modelling, with what the model brings along: MTP modules and the routers' balance losses.
//   L_main  = -1/T sum_i log P(t_{i+1})
//   L_MTP^k = -1/T sum_i log P^k(t_{i+k+1}), i up to T-k; the divisor stays T                      V3 (24)
//   L       = L_main + lambda/D sum_k L_MTP^k + sum over layers of L_Bal                          V3 (25)
Losses language_modelling(const Model &m, const Batch &b, Aux *aux) {
    Aux unused;
    Aux &collected = aux ? *aux : unused;
    Step step = causal(b.B, b.T);
    step.aux = &collected;
    Losses l;
    Tensor h = trunk(m, b.ids, step);
    l.lm = weighted_sum(logp(h, m.output_head(), b.next).logp, {}, -1.0 / b.targets);    // V3 (24)   k = 0
    l.total = l.lm;
    for (size_t k = 1; k <= b.mtp_ids.size(); k++) {
        const int T_k = b.T - (int)k;
        Step shorter = causal(b.B, T_k);
        shorter.aux = &collected;
        h = mtp(m.mtp[k - 1], m, slice(h, 1, 0, T_k), b.mtp_ids[k - 1], shorter);        // V3 (21)(22)
        Tensor read = rmsnorm(h, m.mtp[k - 1].g_out, m.c.eps);
        Tensor P = logp(read, m.output_head(), b.mtp_next[k - 1]).logp;      // V3 (23)   the model's own head
        Tensor loss = weighted_sum(P, {}, -1.0 / b.targets);                             // V3 (24)
        l.mtp = l.mtp ? add(l.mtp, loss) : loss;
    }
    if (l.mtp) l.total = add(l.total, times(l.mtp, m.c.lambda / m.c.D));                 // V3 (25)
    for (const Tensor &loss : collected.balance) l.balance = l.balance ? add(l.balance, loss) : loss;
    if (l.balance) l.total = add(l.total, l.balance);
    return l;
}

double evaluate(const Model &m, const std::vector<Sequences> &batches,
                const std::function<void(long)> &progress) {
    NoGrad off;
    double nats = 0;
    long targets = 0;
    for (size_t i = 0; i < batches.size(); i++) {
        const Batch b = make_batch(batches[i], 0);
        nats += (double)item(
            weighted_sum(logp(trunk(m, b.ids, causal(b.B, b.T)), m.output_head(), b.next).logp, {}, -1));
        targets += b.targets;
        if (progress) progress((long)i + 1);
    }
    return nats / targets;
}

// --------------------------------------------------------------------------------------------- [2] schedules
// All start with a linear warm-up. multistep is LLM section 2.3: 1, then 0.316 from 80% and 0.1 from 90% of
// the run. wsd: warm-up, stable, and a linear decay over the last fifth. cosine ends at a tenth.
static long warmup_steps(const Options &o) { return o.warmup >= 0 ? o.warmup : std::min(100l, o.steps / 10); }

double learning_rate(const Options &o, long step) {
    const long warmup = warmup_steps(o);
    if (step < warmup) return o.lr * (step + 1) / warmup;
    const double p = (double)step / o.steps;
    if (o.schedule == "constant") return o.lr;
    if (o.schedule == "multistep") return o.lr * (p < 0.8 ? 1 : p < 0.9 ? 0.316 : 0.1);
    if (o.schedule == "wsd") return o.lr * (p < 0.8 ? 1 : std::max(0.0, (1 - p) / 0.2));
    expect(o.schedule == "cosine", "--schedule ", o.schedule,
           ": not one of constant, cosine, multistep, wsd");
    const double q = (double)(step - warmup) / std::max(1l, o.steps - warmup);
    return o.lr * (0.1 + 0.45 * (1 + std::cos(3.14159265358979 * std::min(1.0, q))));
}

// ----------------------------------------------------------------------------------------- [3] the optimiser
Optimiser::Optimiser(Model &m) : norm2(zeros({1}, "norm2")) {
    visit(m, [&](const std::string &, Tensor &W, Group group, const Shape &shape) {
        if (group == Group::bias || group == Group::counter) return;
        entries.push_back({W, zeros(shape, "m"), zeros(shape, "v"), group});
    });
}

void Optimiser::zero_grad() {
    for (const Entry &e : entries) ::zero_grad(e.W);
}

// Weight decay on matrices only: not on gains, not on the embedding.                              [ours]
void Optimiser::step(const Options &o, double lr, int step) {
    NoGrad off;
    scale_add(norm2, norm2, 0, 0);
    for (const Entry &e : entries) sum_squares(gradient(e.W), norm2);
    for (const Entry &e : entries)
        adamw(e.W, e.m, e.v, gradient(e.W), norm2,
              {.lr = lr,
               .beta1 = o.beta1,
               .beta2 = o.beta2,
               .eps = o.adam_eps,
               .decay = e.group == Group::matrix ? o.weight_decay : 0,
               .clip = o.clip,
               .step = step});
}

// ---------------------------------------------------------------------------------------------- [4] one step
static std::vector<const MoE *> routers(const Model &m) {
    std::vector<const MoE *> list;
    for (const Block &b : m.blocks)
        if (b.moe.e) list.push_back(&b.moe);
    for (const MTP &k : m.mtp)
        if (k.block.moe.e) list.push_back(&k.block.moe);
    return list;
}

std::vector<std::vector<int>> expert_load(const Model &m) {
    std::vector<std::vector<int>> load;
    for (const MoE *w : routers(m)) load.push_back(int_values(w->load));
    return load;
}

double max_violation(const std::vector<std::vector<int>> &load) {
    double sum = 0;
    for (const auto &layer : load) {
        const double total = std::accumulate(layer.begin(), layer.end(), 0.0);
        if (total > 0) sum += *std::max_element(layer.begin(), layer.end()) * layer.size() / total - 1;
    }
    return load.empty() ? 0 : sum / load.size();
}

// The load is that of the whole batch, all micro-batches together; it starts again from 0.     [LF] Alg. 1
static void update_biases(const Model &m) {
    NoGrad off;
    for (const MoE *w : routers(m)) {
        if (m.c.gamma > 0) bias_update(w->b, w->load, m.c.gamma);
        scale_add(w->load, w->load, 0, 0);
    }
}

Training::Training(const Options &options, Model &&m) : o(options), model(std::move(m)), optimiser(model) {}

StepReport Training::train_step(const std::function<Sequences(long position)> &read) {
    StepReport r = {};
    r.lr = learning_rate(o, step);
    optimiser.zero_grad();
    std::vector<Losses> parts;
    for (int i = 0; i < o.accumulate; i++) {
        const Batch b = make_batch(read(position), model.c.D);
        TapeGuard clear;
        parts.push_back(language_modelling(model, b));
        backward(o.accumulate == 1 ? parts.back().total : times(parts.back().total, 1.0 / o.accumulate));
        position += b.B;
        r.tokens += b.targets;
    }
    optimiser.step(o, r.lr, (int)++step);
    for (const Losses &l : parts) {                      // only now does anything wait for the device
        r.loss += item(l.total) / o.accumulate;
        r.lm += item(l.lm) / o.accumulate;
        r.mtp += l.mtp ? item(l.mtp) / o.accumulate : 0;
        r.balance += l.balance ? item(l.balance) / o.accumulate : 0;
    }
    r.gradient_norm = std::sqrt(item(optimiser.norm2));
    r.load = expert_load(model);
    r.max_vio = max_violation(r.load);
    update_biases(model);
    if (!std::isfinite(r.loss))
        fail(cat("step ", step, ": the loss is ", r.loss), "a lower --lr or a longer --warmup");
    return r;
}

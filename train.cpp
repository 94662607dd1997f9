// train.cpp: from a batch of tokens to better weights.
//
// An objective is a function of a filled batch that returns scalars; backward() does the rest. One training
// step: read sequences, objective, backward (as often as --accumulate says, gradients add up), then AdamW on
// every weight and the bias update of every router. Within a step nothing waits for results of the device;
// only the report at its end does, and a checkpoint that is due.
//
//   [1] objectives   [2] schedules   [3] the optimiser   [4] one step
#include <algorithm>
#include <cmath>
#include <iomanip>
#include <map>
#include <numeric>

#include "src/train/training.h"

// -------------------------------------------------------------------------------------------- [1] objectives
Tensor Losses::term(const std::string &name) const {
    for (const Term &t : terms)
        if (t.name == name) return t.value;
    return {};
}

// Adds to the term of that name.
static void collect(std::vector<Term> &terms, const std::string &name, const Tensor &value) {
    for (Term &term : terms)
        if (term.name == name) return void(term.value = add(term.value, value));
    terms.push_back({name, value});
}

// Language modelling, with what the model brings along: MTP modules and the losses of its layers.
//   L_main  = -1/T sum_i w_i log P(t_{i+1})
//   L_MTP^k = -1/T sum_i w_i log P^k(t_{i+k+1}), i up to T-k; the divisor stays T                   V3 (24)
//   L       = L_main + lambda/D sum_k L_MTP^k + sum over layers of L_Bal                          V3 (25)
Losses language_modelling(const Model &m, const Batch &b, Aux *report) {
    expect(b.divisor > 0, "the batch has no token to learn: all weights are 0");
    Aux unused, &aux = report ? *report : unused;
    aux.share = b.share;
    const auto told = [&](Step step) {
        step.aux = &aux;
        return step;
    };
    Losses l;
    const Reading &main = b.reading[0];
    Tensor h = trunk(m, told(main.step));
    Tensor y = logp(h, m.output_head(), main.next).logp;
    l.total = weighted_sum(y, main.weight, -1 / b.divisor);                              // V3 (24)   k = 0
    collect(l.terms, "lm", l.total);
    for (const Kind &kind : b.kinds)
        collect(l.terms, "lm_" + kind.name, weighted_sum(detach(y), kind.weight, -1 / kind.divisor));

    for (int k = 1; k < (int)b.reading.size(); k++) {
        const Reading &r = b.reading[k];
        const MTP &w = m.mtp[k - 1];
        h = mtp(w, m, slice(h, 1, 0, b.T - k), told(r.step));                            // V3 (21)(22)
        y = logp(rmsnorm(h, w.g_out, m.c.eps), m.output_head(), r.next).logp;         // V3 (23)   shared head
        collect(l.terms, "mtp", weighted_sum(y, r.weight, -1 / b.divisor / m.c.D));      // V3 (24)
    }
    if (b.reading.size() > 1) l.total = add(l.total, times(l.term("mtp"), m.c.lambda));  // V3 (25)
    for (const Term &term : aux.losses) {
        collect(l.terms, term.name, term.value);
        l.total = add(l.total, term.value);
    }
    return l;
}

const Evaluation::OfKind *Evaluation::kind(const std::string &name) const {
    for (const OfKind &k : kinds)
        if (k.name == name) return &k;
    return nullptr;
}

std::string Evaluation::shown() const {
    std::ostringstream text;
    text << std::fixed << std::setprecision(3) << nats << " nats per token";
    for (const OfKind &k : kinds)
        text << "; " << k.name << " " << k.nats << ", " << std::setprecision(1) << 100 * k.right << "% right"
             << std::setprecision(3);
    return text.str();
}

// Of each target, 1 if it is the token that the model finds likeliest.
static Tensor hits(const Model &m, const Tensor &h, const Reading &r) {
    const Tensor z = reshape(matmul(h, m.output_head()), {h.shape.rows(), m.c.V});
    const std::vector<int> likeliest = int_values(topk(z, {}, {.K = 1})), next = int_values(r.next);
    std::vector<real> hit;
    for (size_t i = 0; i < next.size(); i++) hit.push_back(likeliest[i] == next[i]);
    return from(hit, r.next.shape, "hits");
}

Evaluation evaluate(const Model &m, const std::vector<Examples> &batches,
                    const std::function<void(long)> &progress) {
    NoGrad off;
    double nats = 0, targets = 0;
    struct Sums { double nats, right, weight; };
    std::map<std::string, Sums> of_kind;
    for (size_t i = 0; i < batches.size(); i++) {
        const Batch b = make_batch(batches[i], 0);
        const Reading &r = b.reading[0];
        const Tensor h = trunk(m, r.step), y = logp(h, m.output_head(), r.next).logp;
        nats -= (double)item(weighted_sum(y, r.weight));
        targets += b.divisor;
        const Tensor hit = b.kinds.empty() ? Tensor() : hits(m, h, r);
        for (const Kind &kind : b.kinds) {
            Sums &sums = of_kind[kind.name];
            sums.nats -= (double)item(weighted_sum(y, kind.weight));
            sums.right += (double)item(weighted_sum(hit, kind.weight));
            sums.weight += kind.divisor;
        }
        if (progress) progress((long)i + 1);
    }
    Evaluation e = {.nats = nats / targets};
    for (const auto &[name, sums] : of_kind)
        e.kinds.push_back({name, sums.nats / sums.weight, sums.right / sums.weight});
    return e;
}

// --------------------------------------------------------------------------------------------- [2] schedules
// All start with a linear warm-up. multistep is LLM section 2.3: 1, then 0.316 from 80% and 0.1 from 90% of
// the run. wsd: warm-up, stable, and a linear decay over the last fifth. cosine ends at a tenth.
double learning_rate(const TrainOptions &o, long step) {
    const long warmup = o.warmup >= 0 ? o.warmup : std::min(100l, o.steps / 10);
    if (step < warmup) return o.lr * (step + 1) / warmup;
    const double p = (double)step / o.steps;
    if (o.schedule == "constant") return o.lr;
    if (o.schedule == "multistep") return o.lr * (p < 0.8 ? 1 : p < 0.9 ? 0.316 : 0.1);
    if (o.schedule == "wsd") return o.lr * (p < 0.8 ? 1 : std::max(0.0, (1 - p) / 0.2));
    assert(o.schedule == "cosine");
    const double q = (double)(step - warmup) / std::max(1l, o.steps - warmup);
    return o.lr * (0.1 + 0.45 * (1 + std::cos(3.14159265358979 * std::min(1.0, q))));
}

// ----------------------------------------------------------------------------------------- [3] the optimiser
Optimiser::Optimiser(Model &m) : norm2(zeros({1}, "norm2")) {
    visit(m, [&](const std::string &name, Tensor &W, const Spec &spec) {
        if (!W.s->wants_grad) return;
        entries.push_back({name, W, zeros(W.shape, "m"), zeros(W.shape, "v"), spec.group});
    });
}

void Optimiser::zero_grad() {
    for (const Entry &e : entries) ::zero_grad(e.W);
    norm2.s->home->zero(norm2.s->data, sizeof(real));    // it may be NaN, which no factor clears
}

// 0 times a loss that is not finite is NaN: then adamw leaves everything as it is, as for a gradient.
void Optimiser::watch(const Tensor &loss) {
    NoGrad off;
    scale_add(norm2, loss, 1, 0);
}

void Optimiser::measure() {
    NoGrad off;
    for (const Entry &e : entries) sum_squares(gradient(e.W), norm2);
}

// Weight decay on matrices only: not on gains, not on the embedding.                              [ours]
void Optimiser::step(const TrainOptions &o, double lr, int step) {
    NoGrad off;
    for (const Entry &e : entries)
        adamw(e.W, e.m, e.v, gradient(e.W), norm2,
              {.lr = lr,
               .beta1 = o.beta1,
               .beta2 = o.beta2,
               .eps = o.adam_eps,
               .decay = decays(e.group) ? o.weight_decay : 0,
               .clip = o.clip,
               .step = step});
}

// Names of the weights that no gradient has reached since the run began: their second moments are still 0.
std::vector<std::string> Optimiser::untouched() const {
    NoGrad off;
    std::vector<std::string> names;
    for (const Entry &e : entries) {
        const Tensor total = zeros({1});
        sum_squares(e.v, total);
        if (item(total) == 0) names.push_back(e.name);
    }
    return names;
}

// ---------------------------------------------------------------------------------------------- [4] one step
// Of the trunk, then of the modules: the order in which Aux meets them.
static std::vector<const MoE *> routers(const Model &m) {
    std::vector<const MoE *> list;
    for (const Block &b : m.blocks)
        if (b.moe.W_g) list.push_back(&b.moe);
    for (const MTP &k : m.mtp)
        if (k.block.moe.W_g) list.push_back(&k.block.moe);
    return list;
}

double max_violation(const std::vector<std::vector<int>> &load) {
    double sum = 0;
    for (const auto &layer : load) {
        const double total = std::accumulate(layer.begin(), layer.end(), 0.0);
        if (total > 0) sum += *std::max_element(layer.begin(), layer.end()) * layer.size() / total - 1;
    }
    return load.empty() ? 0 : sum / load.size();
}

// The load is that of the whole step, all micro-batches together.            loss-free balancing, Algorithm 1
struct Load { Tensor counts, processed; };               // of a router, by expert
static void add_load(std::vector<Load> &load, const Aux &aux) {
    NoGrad off;
    for (size_t i = 0; i < aux.routing.size(); i++) {
        const Routing &r = aux.routing[i];
        if (i == load.size()) load.push_back({zero_ints(r.counts.shape), zero_ints(r.counts.shape)});
        scale_add(load[i].counts, r.counts, 1, 1);
        scale_add(load[i].processed, r.processed, 1, 1);
    }
}

static void update_biases(Model &m, const std::vector<Load> &load) {
    NoGrad off;
    const auto list = routers(m);
    for (size_t i = 0; i < load.size() && m.c.gamma > 0; i++)
        if (list[i]->b && !list[i]->b.s->frozen) bias_update(list[i]->b, load[i].counts, m.c.gamma);
}

double StepReport::term(const std::string &name, double otherwise) const {
    for (const auto &[known, value] : terms)
        if (known == name) return value;
    return otherwise;
}

Training::Training(const TrainOptions &options, Model &&m) : o(options), policy(std::move(m)) {}

// Of all choices, those that found no room.                                                      V2 2.2.4
static double dropped_share(const std::vector<Load> &load) {
    long chosen = 0, processed = 0;
    for (const Load &router : load) {
        for (int n : int_values(router.counts)) chosen += n;
        for (int n : int_values(router.processed)) processed += n;
    }
    return chosen ? 1 - (double)processed / chosen : 0;
}

// Only here does anything wait for the device.
static StepReport report(const std::vector<Losses> &parts, const std::vector<Load> &load,
                         const Optimiser &opt) {
    StepReport r = {};
    for (const Losses &l : parts) {
        r.loss += item(l.total);
        for (const Term &term : l.terms) {
            const auto same = [&](const auto &known) { return known.first == term.name; };
            auto at = std::find_if(r.terms.begin(), r.terms.end(), same);
            if (at == r.terms.end()) at = r.terms.insert(at, {term.name, 0});
            at->second += item(term.value);
        }
    }
    for (const Load &router : load) r.load.push_back(int_values(router.counts));
    r.max_vio = max_violation(r.load);
    r.gradient_norm = std::sqrt(item(opt.norm2));
    return r;
}

StepReport Training::train_step(const std::function<Examples(long position)> &read,
                                const std::function<void()> &sound) {
    std::vector<Examples> lists;
    long next = position;
    for (int i = 0; i < o.accumulate; i++) {
        lists.push_back(read(next));
        next += (long)lists.back().size();
    }
    policy.optimiser.zero_grad();
    std::vector<Losses> parts;
    std::vector<Load> load;
    long tokens = 0;
    const std::vector<Batch> batches = make_batches(lists, policy.model.c);
    for (const Batch &b : batches) {
        TapeGuard clear;
        Aux aux;
        parts.push_back(language_modelling(policy.model, b, &aux));
        backward(parts.back().total);
        policy.optimiser.watch(parts.back().total);
        add_load(load, aux);
        tokens += b.tokens;
    }
    policy.optimiser.measure();
    if (sound && std::isfinite(item(policy.optimiser.norm2))) sound();
    const double lr = learning_rate(o, step);
    policy.optimiser.step(o, lr, (int)step + 1);
    StepReport r = report(parts, load, policy.optimiser);
    if (policy.model.c.capacity > 0) r.terms.push_back({"dropped", dropped_share(load)});
    if (!std::isfinite(r.gradient_norm))
        throw Diverged(cat("step ", step + 1, " was not taken: its loss is ", r.loss,
                           ", the norm of its gradient ", r.gradient_norm));
    update_biases(policy.model, load);
    step++;
    position = next;
    r.lr = lr;
    r.tokens = tokens;
    return r;
}

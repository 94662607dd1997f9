// train.cpp: from a batch of tokens to better weights.
//
// An objective is a function of a filled batch that returns scalars; backward() does the rest. One training
// step: read sequences, objective, backward (as often as --accumulate says, gradients add up), then AdamW on
// every weight and the bias update of every router. Within a step nothing waits for results of the device;
// only the report at its end does, and a checkpoint that is due.
//
//   [1] language modelling   [2] objectives on outputs   [3] on the host: masks, advantages
//   [4] schedules            [5] the optimiser           [6] one step
#include <algorithm>
#include <cmath>
#include <iomanip>
#include <map>
#include <numeric>

#include "src/train/objectives.h"
#include "src/train/training.h"

// ------------------------------------------------------------------------------------ [1] language modelling
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

// Each batch has its share of the step's targets; the modules of MTP have no teacher.
Losses distillation(const Model &m, const Model &teacher, const Batch &b, const Distill &o, Aux *report) {
    Aux unused, &aux = report ? *report : unused;
    const Reading &r = b.reading[0];
    Tensor g;
    {
        NoGrad off;
        g = trunk(teacher, r.step);
    }
    std::vector<real> counts;
    for (int id : int_values(r.next)) counts.push_back(id >= 0);
    const Mask mask(from(counts, r.next.shape, "mask"));
    Step step = r.step;
    step.aux = &aux;
    aux.share = b.share;
    const Tensor h = trunk(m, step);
    const double share = std::accumulate(counts.begin(), counts.end(), 0.0) / b.divisor;
    Losses l;
    l.total = times(distill(h, m.output_head(), g, teacher.output_head(), mask, o), share);
    collect(l.terms, "divergence", l.total);
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

// --------------------------------------------------------------------------------- [2] objectives on outputs
// Side by side, as the unified paradigm has them; objectives.h says what they share. Where a paper writes pi,
// the names here mean log pi of the sampled tokens, as the tensors do: logp, logp_old, logp_ref. Only logp,
// the critic's V and the student's h and W get a gradient; so on policy logp may stand in for logp_old.

// x where it counts, 0 elsewhere: pick reads nothing else, and sends no gradient there.
static Tensor counted(const Tensor &x, const Mask &mask) {
    return reshape(pick(reshape(x, {x.numel(), 1}), mask.idx), x.shape);
}

// min and max hand NaN on where it is their second operand, as x is here.
static Tensor clip(const Tensor &x, double low, double high) {
    const auto constant = [&](double c) { return unary(unary_identity, zeros(x.shape), 1, c); };
    return binary(binary_min, constant(high), binary(binary_max, constant(low), x));
}

// log of a ratio of probabilities, within e^-20 and e^20: floats end at e^88, and infinity times 0 is NaN.
static Tensor log_ratio(const Tensor &p, const Tensor &q, const Mask &mask) {
    return clip(sub(counted(p, mask), counted(q, mask)), -20, 20);
}

// (B,T): each term's share of the whole.
static Tensor shares(const Mask &mask, const Divisor &divisor) {
    const double L = divisor.L > 0 ? divisor.L : mask.T;
    double tokens = 0;
    for (int i = 0; i < mask.B; i++) tokens += mask.length(i);
    std::vector<real> w(mask.on.size());
    for (int i = 0; i < mask.B; i++) {
        const double by_length = (double)mask.B * mask.length(i);
        const double n = divisor.by == Length::sequence ? by_length
                         : divisor.by == Length::token  ? tokens
                                                        : mask.B * L;
        for (int t = 0; t < mask.T; t++) w[(long)i * mask.T + t] = (real)(mask.at(i, t) ? 1 / n : 0);
    }
    return from(w, {mask.B, mask.T}, "shares");
}

// GC = 1                                                                                         Math (7)
Tensor sft(const Tensor &logp, const Mask &mask, const Divisor &divisor) {
    return weighted_sum(counted(logp, mask), shares(mask, divisor), -1);                 // Math (6)(8)
}

// The margin is a sum over a pair's 2T tokens, with beta in front of the chosen and -beta of the rejected.
// GC = beta sigmoid(-margin), with that sign. Math (14) prints it without beta, and with the margin of a
// token; this is what (12) has for its derivative.                                          Math (13)(14)
Tensor dpo(const Tensor &logp, const Tensor &logp_ref, const Mask &mask, const DPO &o) {
    expect(mask.B % 2 == 0, "dpo: ", mask.B, " rows are no pairs of a chosen and a rejected output");
    std::vector<real> beta(mask.on.size());
    for (int i = 0; i < mask.B; i++) {
        const double n = o.normalised ? std::max(1, mask.length(i)) : 1;
        for (int t = 0; t < mask.T; t++) beta[(long)i * mask.T + t] = (real)((i % 2 ? -1 : 1) * o.beta / n);
    }
    const int pairs = mask.B / 2, tokens = 2 * mask.T;
    const Tensor ones = from(std::vector<real>(tokens, 1), {1, tokens}, "ones");
    const Tensor x = sub(counted(logp, mask), counted(detach(logp_ref), mask));
    const Tensor terms = mul(x, from(beta, {mask.B, mask.T}, "beta"));
    const Tensor margin = matmul(reshape(terms, {pairs, tokens}), ones);
    return weighted_sum(unary(unary_log_sigmoid, margin), {}, -1.0 / pairs);             // Math (12)
}

// min(rho A, clip(rho) A): no gradient where rho has gone far enough to A's side. At rho = 1 both are equal,
// and min sends the gradient of a tie to its first operand.
static Tensor surrogate(const Tensor &rho, const Tensor &A, double eps) {
    return binary(binary_min, mul(rho, A), mul(clip(rho, 1 - eps, 1 + eps), A));
}

// GC = rho A, or 0 where the clip binds; A on policy, where rho = 1.                           Math (16)-(18)
Tensor ppo(const Tensor &logp, const Tensor &logp_old, const Tensor &A, const Mask &mask, const PPO &o) {
    const Tensor rho = unary(unary_exp, log_ratio(logp, detach(logp_old), mask));
    const Tensor J = surrogate(rho, counted(detach(A), mask), o.eps);                    // Math (1)(15)
    return weighted_sum(J, shares(mask, o.divisor), -1);
}

// 1/2 (V - returns)^2.                                              [ours] the paper leaves it to PPO
Tensor critic(const Tensor &V, const Tensor &V_old, const Tensor &returns, const Mask &mask, double eps,
              const Divisor &divisor) {
    const Tensor target = counted(detach(returns), mask), v = counted(V, mask);
    const auto half_square = [&](const Tensor &value) {
        const Tensor d = sub(value, target);
        return times(mul(d, d), 0.5);
    };
    Tensor loss = half_square(v);
    if (eps > 0) {
        const Tensor v_old = counted(detach(V_old), mask), near = add(v_old, clip(sub(v, v_old), -eps, eps));
        loss = binary(binary_max, loss, half_square(near));
    }
    return weighted_sum(loss, shares(mask, divisor));
}

// GC = rho A + beta (pi_ref / pi - 1), the first 0 where the clip binds.                     Math (19)-(21)
// Unbiased: rho A + beta rho log(pi_ref / pi).
Tensor grpo(const Tensor &logp, const Tensor &logp_old, const Tensor &logp_ref, const Tensor &A,
            const Mask &mask, const GRPO &o) {
    const Tensor kept = o.delta > 0 ? off_policy_masked(A, logp, logp_old, mask, o.delta) : A;
    const Tensor rho = unary(unary_exp, log_ratio(logp, detach(logp_old), mask));        // V3.2 (6)
    Tensor J = surrogate(rho, counted(detach(kept), mask), o.eps);                       // Math (3), V3.2 (5)
    if (o.beta > 0) {
        Tensor D = unary(unary_k3, log_ratio(detach(logp_ref), logp, mask));             // Math (4)
        if (o.kl == KL::unbiased) D = mul(rho, D);                                       // V3.2 (7)
        J = sub(J, times(D, o.beta));
    }
    return weighted_sum(J, shares(mask, o.divisor), -1);
}

// GC = p of each id of the vocabulary, as if all were sampled; reverse: q log(p / q).                  [ours]
Tensor distill(const Tensor &h, const Tensor &W, const Tensor &teacher_h, const Tensor &teacher_W,
               const Mask &mask, const Distill &o) {
    const Tensor D = kl_vocab(h, W, detach(teacher_h), detach(teacher_W), mask.idx, o.kl, o.temperature);
    return weighted_sum(reshape(D, {mask.B, mask.T}), shares(mask, o.divisor));
}

// ------------------------------------------------------------------------ [3] on the host: masks, advantages
// Nothing here is differentiated.
Mask::Mask(const Tensor &mask) : B(mask.shape[0]), T(mask.shape[1]) {
    std::vector<int> at;
    for (real x : values(mask)) {
        expect(x == 0 || x == 1, "mask: ", x, " is neither 1 (counts) nor 0");
        on.push_back(x == 1);
        at.push_back(x == 1 ? 0 : -1);
    }
    idx = from(at, {(long)B * T, 1}, "idx");
}

int Mask::length(int i) const {
    return std::accumulate(on.begin() + (long)i * T, on.begin() + (long)(i + 1) * T, 0);
}

// GC = 1 if the reward is above 0, else 0                                                      Math (9)-(11)
Mask rewarded(const Mask &mask, const Tensor &reward) {
    const std::vector<real> r = values(reward);
    std::vector<real> on(mask.on.begin(), mask.on.end());
    for (int i = 0; i < mask.B; i++)
        for (int t = 0; t < mask.T; t++) on[(long)i * mask.T + t] *= r[i] > 0;
    return Mask(from(on, {mask.B, mask.T}, "mask"));
}

// A reward within its group: (r - mean) / spread, over the population.                           Math 4.1.2
struct Reward {
    int group;
    double r;
};
static std::vector<double> normalised(const std::vector<Reward> &rewards, bool by_spread) {
    struct Group { double n = 0, mean = 0, square = 0; };
    std::map<int, Group> groups;
    for (const Reward &x : rewards) groups[x.group].n++;
    for (const Reward &x : rewards) groups[x.group].mean += x.r / groups[x.group].n;
    for (const Reward &x : rewards) {
        Group &g = groups[x.group];
        g.square += (x.r - g.mean) * (x.r - g.mean) / g.n;
    }
    std::vector<double> A;
    for (const Reward &x : rewards) {
        const Group &g = groups[x.group];
        const double spread = std::sqrt(g.square);
        A.push_back(spread < 1e-8 ? 0 : (x.r - g.mean) / (by_spread ? spread : 1));        // V2 (34), V3 (28)
    }
    return A;
}

Tensor outcome_advantages(const Tensor &reward, const Tensor &group, const Mask &mask, bool by_spread) {
    const std::vector<real> r = values(reward);
    const std::vector<int> q = int_values(group);
    std::vector<Reward> rewards;
    for (int i = 0; i < mask.B; i++) rewards.push_back({q[i], r[i]});
    const std::vector<double> of_output = normalised(rewards, by_spread);
    std::vector<real> A(mask.on.size());
    for (size_t j = 0; j < A.size(); j++) A[j] = (real)(mask.on[j] * of_output[j / mask.T]);
    return from(A, {mask.B, mask.T}, "A");
}

// One pool of all steps of all of a question's outputs; a token has what its own step and all later ones
// earned, so that outputs of many steps have more terms.                                          Math 4.1.3
Tensor process_advantages(const Tensor &reward, const Tensor &group, const Mask &mask, bool by_spread) {
    const std::vector<real> r = values(reward);
    const std::vector<int> q = int_values(group);
    const auto ends = [&](size_t j) { return mask.on[j] && !std::isnan(r[j]); };
    std::vector<Reward> steps;
    for (size_t j = 0; j < r.size(); j++)
        if (ends(j)) steps.push_back({q[j / mask.T], r[j]});
    std::vector<double> of_step = normalised(steps, by_spread);
    std::vector<real> A(r.size());
    double sum = 0;
    for (size_t j = r.size(); j-- > 0;) {
        if (j % mask.T == (size_t)mask.T - 1) sum = 0;
        if (ends(j)) {
            sum += of_step.back();
            of_step.pop_back();
        }
        A[j] = (real)(mask.on[j] * sum);
    }
    return from(A, {mask.B, mask.T}, "A");
}

// It needs the policy's numbers on the host: the one wait of a step that has it.
Tensor off_policy_masked(const Tensor &A, const Tensor &logp, const Tensor &logp_old, const Mask &mask,
                         double delta) {
    const std::vector<real> p = values(logp), old = values(logp_old);
    std::vector<real> kept = values(A);
    for (int i = 0; i < mask.B; i++) {
        double distance = 0;
        for (int t = 0; t < mask.T; t++) {
            const long j = (long)i * mask.T + t;
            if (mask.on[j]) distance += ((double)old[j] - p[j]) / mask.length(i);
        }
        for (int t = 0; t < mask.T; t++) {
            real &a = kept[(long)i * mask.T + t];
            if (a < 0 && distance > delta) a = 0;                                        // V3.2 (8)(9)
        }
    }
    return from(kept, A.shape, "A");
}

Tensor token_rewards(const Tensor &reward, const Tensor &logp_old, const Tensor &logp_ref, const Mask &mask,
                     double beta) {
    const std::vector<real> R = values(reward), old = beta > 0 ? values(logp_old) : std::vector<real>(),
                            ref = beta > 0 ? values(logp_ref) : std::vector<real>();
    std::vector<real> r(mask.on.size(), 0);
    for (int i = 0; i < mask.B; i++) {
        long last = -1;
        for (long j = (long)i * mask.T; j < (long)(i + 1) * mask.T; j++) {
            if (!mask.on[j]) continue;
            if (beta > 0) r[j] = (real)(-beta * ((double)old[j] - ref[j]));              // Math (2)
            last = j;
        }
        if (last >= 0) r[last] += R[i];
    }
    return from(r, {mask.B, mask.T}, "r");
}

// delta_t = r_t + gamma V_t+1 - V_t, A_t = sum_l (gamma lambda)^l delta_t+l, backwards over what counts: the
// token after a gap, such as a tool's answer, is the next one.
Estimates gae(const Tensor &rewards, const Tensor &values_old, const Mask &mask, double gamma,
              double lambda) {
    const std::vector<real> r = values(rewards), V = values(values_old);
    std::vector<real> A(r.size(), 0), returns(r.size(), 0);
    for (int i = 0; i < mask.B; i++) {
        double next = 0, sum = 0;
        for (long j = (long)(i + 1) * mask.T - 1; j >= (long)i * mask.T; j--) {
            if (!mask.on[j]) continue;
            sum = r[j] + gamma * next - V[j] + gamma * lambda * sum;
            next = V[j];
            A[j] = (real)sum;
            returns[j] = (real)(sum + V[j]);
        }
    }
    return {from(A, {mask.B, mask.T}, "A"), from(returns, {mask.B, mask.T}, "returns")};
}

// --------------------------------------------------------------------------------------------- [4] schedules
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

// ----------------------------------------------------------------------------------------- [5] the optimiser
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

// ---------------------------------------------------------------------------------------------- [6] one step
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

StepReport Training::update(const std::vector<Part> &parts, const std::function<void()> &sound) {
    std::vector<Learner *> learners = {&policy};
    if (critic) learners.push_back(&*critic);
    for (Learner *l : learners) l->optimiser.zero_grad();
    std::vector<Losses> losses;
    std::vector<Load> load;
    for (const Part &part : parts) {
        TapeGuard clear;
        Aux aux;
        losses.push_back(part(aux));
        backward(losses.back().total);
        for (Learner *l : learners) l->optimiser.watch(losses.back().total);
        add_load(load, aux);
    }
    for (Learner *l : learners) l->optimiser.measure();
    if (sound && std::isfinite(item(policy.optimiser.norm2))) sound();
    const double lr = learning_rate(o, step);
    policy.optimiser.step(o, lr, (int)step + 1);
    if (critic) critic->optimiser.step(o, lr * o.critic_lr, (int)step + 1);
    StepReport r = report(losses, load, policy.optimiser);
    if (policy.model.c.capacity > 0) r.terms.push_back({"dropped", dropped_share(load)});
    if (!std::isfinite(r.gradient_norm))
        throw Diverged(cat("step ", step + 1, " was not taken: its loss is ", r.loss,
                           ", the norm of its gradient ", r.gradient_norm));
    update_biases(policy.model, load);
    step++;
    r.lr = lr;
    return r;
}

StepReport Training::train_step(const std::function<Examples(long position)> &read,
                                const std::function<void()> &sound, const LossOf &loss) {
    std::vector<Examples> lists;
    long next = position;
    for (int i = 0; i < o.accumulate; i++) {
        lists.push_back(read(next));
        next += (long)lists.back().size();
    }
    const std::vector<Batch> batches = make_batches(lists, policy.model.c);
    std::vector<Part> parts;
    long tokens = 0;
    for (const Batch &b : batches) {
        parts.push_back(
            [&](Aux &aux) { return loss ? loss(b, &aux) : language_modelling(policy.model, b, &aux); });
        tokens += b.tokens;
    }
    StepReport r = update(parts, sound);
    position = next;
    r.tokens = tokens;
    return r;
}

// pairs.cpp: a policy learns which of two outputs is the better one: `train --objective dpo`.
//
// The pairs are in a file, so nothing is sampled. A batch is --batch of them, each two rows of a tensor, the
// chosen output above the rejected one. The reference is the policy of the run's beginning.
#include <cmath>
#include <filesystem>
#include <iomanip>

#include "src/base/error.h"
#include "src/base/random.h"
#include "src/rl/learn.h"
#include "src/text/outputs.h"

namespace {
// Sums over pairs, of what people watch: by how much the policy prefers what was chosen, and at whose cost.
struct Watched {
    double pairs = 0, loss = 0, margin = 0, preferred = 0, chosen = 0, rejected = 0, tokens = 0, distance = 0;
    void read(const Mask &mask, const Tensor &logp, const Tensor &logp_ref, const DPO &dpo) {
        const std::vector<real> p = values(logp), ref = values(logp_ref);
        for (int i = 0; i < mask.B; i += 2) {
            double sum[2] = {}, ratio[2] = {};           // of the chosen, of the rejected output
            for (int t = 0; t < 2 * mask.T; t++) {
                const int j = i * mask.T + t, which = t / mask.T;
                if (!mask.on[j]) continue;
                sum[which] += p[j];
                ratio[which] += ((double)p[j] - ref[j]) / (dpo.normalised ? mask.length(i + which) : 1);
                distance += std::fabs((double)p[j] - ref[j]);
                tokens++;
            }
            const double m = dpo.beta * (ratio[0] - ratio[1]);
            pairs++;
            loss += std::log1p(std::exp(-m));
            margin += m;
            preferred += m > 0 ? 1 : m == 0 ? 0.5 : 0;   // a tie is broken by lot
            chosen += sum[0];
            rejected += sum[1];
        }
    }
};

class FromPairs : public Source {
public:
    FromPairs(const TrainOptions &, const Config &, Tokenizer &&);
    const Tokenizer &tokenizer() const override { return words; }
    std::string mark() const override;
    std::string introduction(const Training &) const override;
    double tokens_at_once() const override { return 2.0 * o.batch * T; }
    void begin(Training &t) override {
        t.reference = clone(t.policy.model);
        reference = &*t.reference;
    }
    StepReport step(Training &, const std::function<void()> &sound) override;
    Columns terms(const StepReport &r) const override { return r.terms; }
    std::string shown(const StepReport &) const override;
    std::vector<std::string> held_out_columns() const override {
        return {"valid_loss", "valid_margin", "valid_accuracy"};
    }
    HeldOut evaluate(const Model &, const std::function<void(long)> &progress) const override;

private:
    const TrainOptions o;
    const DPO dpo;
    Tokenizer words;
    const int T;
    OutputFile file;
    Shuffled shuffled;
    const Model *reference = nullptr;

    Losses loss(const Model &, const Lessons &, Aux &, Watched &) const;
};

// One pair more.
void add(Lessons &lessons, const Prompted &pair) {
    for (const std::vector<int> &ids : pair.outputs) lessons.push_back({.prompt = pair.prompt, .ids = ids});
}
}  // namespace

FromPairs::FromPairs(const TrainOptions &o, const Config &c, Tokenizer &&tokenizer)
    : o(o), dpo{.beta = o.beta, .normalised = o.length == "sequence"}, words(std::move(tokenizer)),
      T(o.context ? o.context : c.context) {
    words.set_boundary(c.bos, c.eos);
    expect(T <= c.context, "--context ", T, ": the model's longest sequence is ", c.context);
    expect(o.beta > 0, "--beta 0: nothing would be learned from pairs");
    file = read_outputs(o.data, words, T, Lines::pairs);
}

std::string FromPairs::mark() const {
    std::string all;
    for (const auto *part : {&file.train, &file.held_out})
        for (const Prompted &pair : *part)
            for (const auto &ids : pair.outputs) all.append((const char *)ids.data(), 4 * ids.size());
    return cat(file.lines, " ", hash_of(all));
}

std::string FromPairs::introduction(const Training &t) const {
    const double read = (double)(o.steps - t.step) * o.accumulate * o.batch, n = (double)file.train.size();
    return cat("dpo on ", o.data, ": ", (long)read, " pairs in ", o.steps - t.step, " steps, ",
               std::setprecision(3), read / n, " times the ", (long)n, " there are; ", file.held_out.size(),
               " held out");
}

Losses FromPairs::loss(const Model &m, const Lessons &pairs, Aux &aux, Watched &watched) const {
    const Experience e = experience(pairs, m.c.V);
    Step step = e.step;
    step.aux = &aux;
    aux.share = 1.0 / o.accumulate;
    const Tensor logp = ::logp(trunk(m, step), m.output_head(), e.next).logp,
                 logp_ref = fixed_logp(*reference, e);
    watched.read(e.mask, logp, logp_ref, dpo);
    Losses l;
    l.total = times(::dpo(logp, logp_ref, e.mask, dpo), aux.share);                      // Math (12)
    for (const Term &term : aux.losses) l.total = ::add(l.total, term.value);
    return l;
}

StepReport FromPairs::step(Training &t, const std::function<void()> &sound) {
    std::vector<Training::Part> parts;
    Watched watched;
    long next = t.position, read = 0;
    for (int part = 0; part < o.accumulate; part++) {
        Lessons pairs;
        for (int i = 0; i < o.batch; i++)
            add(pairs, file.train[shuffled.at(o.seed, next++, (long)file.train.size())]);
        for (const Lesson &l : pairs) read += (long)(l.prompt.size() + l.ids.size()) - 1;
        parts.push_back([&, pairs](Aux &aux) { return loss(t.policy.model, pairs, aux, watched); });
    }
    StepReport r = t.update(parts, sound);
    t.position = next;
    r.tokens = read;
    for (const auto &[name, sum] : Columns{{"margin", watched.margin},
                                           {"accuracy", watched.preferred},
                                           {"logp_chosen", watched.chosen},
                                           {"logp_rejected", watched.rejected}})
        r.terms.push_back({name, sum / watched.pairs});
    r.terms.push_back({"distance", watched.distance / watched.tokens});
    return r;
}

std::string FromPairs::shown(const StepReport &r) const {
    return cat(std::fixed, std::setprecision(3), "loss ", r.loss, "  margin ", r.term("margin"),
               "  accuracy ", r.term("accuracy"));
}

Source::HeldOut FromPairs::evaluate(const Model &m, const std::function<void(long)> &progress) const {
    Watched watched;
    for (size_t first = 0; first < file.held_out.size(); first += o.batch) {
        Lessons pairs;
        for (size_t i = first; i < std::min(file.held_out.size(), first + o.batch); i++)
            add(pairs, file.held_out[i]);
        const Experience e = experience(pairs, m.c.V);
        watched.read(e.mask, fixed_logp(m, e), fixed_logp(*reference, e), dpo);
        if (progress) progress((long)first);
    }
    if (!watched.pairs) return {};
    const Columns columns = {{"valid_loss", watched.loss / watched.pairs},
                             {"valid_margin", watched.margin / watched.pairs},
                             {"valid_accuracy", watched.preferred / watched.pairs}};
    return {columns,
            cat(std::fixed, std::setprecision(3), "loss ", columns[0].second, ", margin ", columns[1].second,
                ", ", std::setprecision(1), 100 * columns[2].second, "% prefer the chosen output")};
}

std::unique_ptr<Source> source_of_pairs(const TrainOptions &o, const Config &c, Tokenizer &&tokenizer) {
    return std::make_unique<FromPairs>(o, c, std::move(tokenizer));
}

// learn.cpp: see learn.h.
//
//   [1] lessons   [2] from rollouts to lessons   [3] losses   [4] the source of a run's steps
#include "src/rl/learn.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <iomanip>
#include <numeric>

#include "src/base/error.h"
#include "src/base/files.h"
#include "src/base/json.h"
#include "src/base/progress.h"
#include "src/base/text.h"
#include "src/model/weights.h"
#include "src/rl/score.h"

using Numbers = std::map<std::string, std::vector<double>>;
// f(name, list of a lesson) for every list that a lesson has.
template <class L, class F> static void for_lists(L &l, size_t routers, F f) {
    f("prompt", l.prompt);
    f("ids", l.ids);
    f("logp", l.logp);
    f("A", l.A);
    f("V", l.V);
    f("returns", l.returns);
    f("chosen_among", l.kept);
    for (size_t r = 0; r < routers; r++) f(cat("experts.", r), l.experts[r]);
}

void keep(Numbers &numbers, const Lessons &lessons) {
    for (const Lesson &l : lessons) {
        for_lists(l, l.experts.size(), [&](const std::string &name, const auto &list) {
            numbers[name + ".length"].push_back((double)list.size());
            std::vector<double> &all = numbers[name];
            all.insert(all.end(), list.begin(), list.end());
        });
        numbers["group"].push_back(l.group);
        numbers["reward"].push_back(l.reward);
        numbers["routers"].push_back((double)l.experts.size());
    }
}

Lessons kept(const Numbers &numbers) {
    Lessons lessons;
    std::map<std::string, size_t> at;
    for (size_t i = 0; numbers.count("group") && i < numbers.at("group").size(); i++) {
        Lesson l = {.group = (int)numbers.at("group")[i], .reward = numbers.at("reward")[i]};
        l.experts.resize((size_t)numbers.at("routers")[i]);
        for_lists(l, l.experts.size(), [&](const std::string &name, auto &list) {
            const double *from = numbers.at(name).data() + at[name];
            const size_t n = (size_t)numbers.at(name + ".length")[i];
            list.assign(from, from + n);
            at[name] += n;
        });
        lessons.push_back(l);
    }
    return lessons;
}

// A (B,T) of numbers that belong to a lesson's output, 0 elsewhere.
static Tensor placed(const Lessons &lessons, int T, std::vector<real> Lesson::*list, const char *name) {
    std::vector<real> x(lessons.size() * T, 0);
    for (size_t b = 0; b < lessons.size(); b++) {
        const std::vector<real> &numbers = lessons[b].*list;
        if (numbers.empty()) return {};
        std::copy(numbers.begin(), numbers.end(), x.begin() + b * T + lessons[b].prompt.size() - 1);
    }
    return from(x, {(long)lessons.size(), T}, name);
}

static Tensor allowed(const Lessons &lessons, int T, int words) {
    if (lessons[0].kept.empty()) return {};
    std::vector<int> bits(lessons.size() * T * words, -1);
    for (size_t b = 0; b < lessons.size(); b++)
        std::copy(lessons[b].kept.begin(), lessons[b].kept.end(),
                  bits.begin() + (b * T + lessons[b].prompt.size() - 1) * words);
    return from(bits, {(long)lessons.size() * T, words}, "allowed");
}

static std::vector<Tensor> experts(const Lessons &lessons, int T) {
    std::vector<Tensor> routers;
    for (size_t r = 0; r < lessons[0].experts.size(); r++) {
        const size_t read = lessons[0].prompt.size() + lessons[0].ids.size() - 1;
        const int K = (int)(lessons[0].experts[r].size() / read);
        std::vector<int> idx(lessons.size() * T * K, -1);
        for (size_t b = 0; b < lessons.size(); b++)
            std::copy(lessons[b].experts[r].begin(), lessons[b].experts[r].end(), idx.begin() + b * T * K);
        routers.push_back(from(idx, {(long)lessons.size() * T, K}, "idx"));
    }
    return routers;
}

Experience experience(const Lessons &lessons, int V) {
    Examples examples;
    for (const Lesson &l : lessons) {
        Example e = {.ids = l.prompt, .weight = std::vector<real>(l.prompt.size(), 0)};
        e.ids.insert(e.ids.end(), l.ids.begin(), l.ids.end());
        e.weight.resize(e.ids.size(), 1);
        examples.push_back(e);
    }
    const Batch b = make_batch(examples, 0);
    std::vector<real> counts, rewards;
    std::vector<int> groups;
    for (int id : int_values(b.reading[0].next)) counts.push_back(id >= 0);
    for (const Lesson &l : lessons) {
        rewards.push_back((real)l.reward);
        groups.push_back(l.group);
    }
    return {.step = b.reading[0].step,
            .next = b.reading[0].next,
            .mask = Mask(from(counts, {b.B, b.T}, "mask")),
            .logp_old = placed(lessons, b.T, &Lesson::logp, "logp_old"),
            .A = placed(lessons, b.T, &Lesson::A, "A"),
            .V_old = placed(lessons, b.T, &Lesson::V, "V_old"),
            .returns = placed(lessons, b.T, &Lesson::returns, "returns"),
            .allowed = allowed(lessons, b.T, (V + 31) / 32),
            .experts = experts(lessons, b.T),
            .reward = from(rewards, {(long)lessons.size()}, "reward"),
            .group = from(groups, {(long)lessons.size()}, "group")};
}

// ------------------------------------------------------------------------------ [2] from rollouts to lessons
// Lessons with much the same length beside each other, at most so many tokens with their padding.
static std::vector<Lessons> batches(Lessons lessons, size_t most_tokens = 4096) {
    const auto length = [](const Lesson &l) { return l.prompt.size() + l.ids.size(); };
    std::stable_sort(lessons.begin(), lessons.end(),
                     [&](const Lesson &a, const Lesson &b) { return length(a) > length(b); });
    std::vector<Lessons> list;
    for (const Lesson &l : lessons) {
        if (list.empty() || (list.back().size() + 1) * length(list.back()[0]) > most_tokens)
            list.emplace_back();
        list.back().push_back(l);
    }
    return list;
}

// What stands in x (B,T) where their tokens are predicted becomes the lessons'.
static void give(Lessons &lessons, std::vector<real> Lesson::*list, const Tensor &x) {
    const std::vector<real> numbers = values(x);
    const long T = x.shape[1];
    for (size_t b = 0; b < lessons.size(); b++) {
        const auto row = numbers.begin() + (long)(b * T + lessons[b].prompt.size() - 1);
        (lessons[b].*list).assign(row, row + (long)lessons[b].ids.size());
    }
}

// (B,T): each step of the reasoning by whether it and all before it are right, and what the whole output is
// worth where it ends.                                                          Math 4.1.3, with a rule
static Tensor step_rewards(const std::vector<Rollout> &rollouts, const Tokenizer &tokenizer, int T) {
    std::vector<real> x(rollouts.size() * T, NAN);
    for (size_t b = 0; b < rollouts.size(); b++) {
        const Rollout &r = rollouts[b];
        size_t characters = 0, next = 0;
        real *row = &x[b * T + r.prompt.size() - 1];
        bool right = true;
        for (size_t t = 0; t < r.answer.ids.size(); t++) {
            characters += tokenizer.decode({r.answer.ids[t]}).size();
            for (; next < r.graded.steps.size() && r.graded.steps[next].end <= (int)characters; next++) {
                right &= r.graded.steps[next].right;
                row[t] = right;
            }
        }
        row[r.answer.ids.size() - 1] = (real)r.reward;
    }
    return from(x, {(long)rollouts.size(), T}, "reward");
}

// ------------------------------------------------------------------------------------------------ [3] losses
Tensor fixed_logp(const Model &m, const Experience &e, double temperature) {
    NoGrad off;
    return logp(trunk(m, e.step), m.output_head(), e.next, temperature, e.allowed).logp;
}

static Tensor values_of(const Model &critic, const Experience &e) {
    const Tensor V = matmul(trunk(critic, e.step), critic.output_head());
    return reshape(V, e.next.shape);
}

static Divisor divisor_of(const TrainOptions &o, int longest) {
    return {.by = o.length == "token"      ? Length::token
                  : o.length == "constant" ? Length::constant
                                           : Length::sequence,
            .L = (double)longest};
}

// Sums over the tokens that count, of what people watch.
namespace {
struct Watched {
    double tokens = 0, kl = 0, entropy = 0, clipped = 0, drift = 0;
    void read(const Experience &e, const LogP &now, const Tensor &logp_ref, const TrainOptions &o) {
        const std::vector<real> p = values(now.logp), old = values(e.logp_old), H = values(now.entropy),
                                A = e.A ? values(e.A) : std::vector<real>(p.size(), 1),
                                ref = logp_ref ? values(logp_ref) : p;
        for (size_t i = 0; i < p.size(); i++) {
            if (!e.mask.on[i]) continue;
            const double rho = std::exp(p[i] - old[i]), x = ref[i] - p[i];
            tokens++;
            kl += std::exp(x) - x - 1;
            entropy += H[i];
            clipped += (A[i] > 0 && rho > 1 + o.eps) || (A[i] < 0 && rho < 1 - o.eps);
            drift += std::fabs(p[i] - old[i]);
        }
    }
};
}  // namespace

// ------------------------------------------------------------------------- [4] the source of a run's steps
// What is told of a rollout in each of its steps; beside the lessons it is kept under this name.
static const std::vector<std::string> figures = {"reward",          "reward_spread",  "right",  "formed",
                                                 "language",        "flat_groups",    "tokens", "cut",
                                                 "reasoning_steps", "reasoning_right"};
static const std::string kept_figures = "figures";

namespace {
class FromRollouts : public Source {
public:
    FromRollouts(const TrainOptions &, const Config &, Tokenizer &&);
    const Tokenizer &tokenizer() const override { return words; }
    std::string mark() const override { return cat(task.name, " ", o.seed); }
    std::string introduction(const Training &) const override;
    double tokens_at_once() const override { return std::max(4096, context); }
    void begin(Training &) override;
    StepReport step(Training &, const std::function<void()> &sound) override;
    Columns terms(const StepReport &r) const override { return r.terms; }
    std::string shown(const StepReport &) const override;
    std::vector<std::string> held_out_columns() const override {
        return {"valid_right", "valid_reward", "valid_formed", "valid_tokens"};
    }
    HeldOut evaluate(const Model &, const std::function<void(long)> &progress) const override;

private:
    const TrainOptions o;
    const Task &task;
    Tokenizer words;
    Reward reward;
    int context;
    bool has_experts;
    double seconds_of_rollout = 0;

    int steps_of_rollout() const { return o.updates * o.epochs; }
    Sampler sampler() const;
    void roll(Training &);
    void advise(Training &, Lessons &, const std::vector<Rollout> &) const;
    void estimate(Training &, Lessons &, const Experience &) const;
    Lessons part(const Lessons &, long step) const;
    Tensor objective(Training &, const Experience &, const LogP &, const Tensor &logp_ref) const;
    Losses loss(Training &, const Experience &, double share, Aux &, Watched &) const;
    std::vector<double> told(const std::vector<Rollout> &, long step);
    void write_samples(long steps_done);
    std::vector<std::string> said, samples;              // lines for people, for samples.jsonl
};
}  // namespace

FromRollouts::FromRollouts(const TrainOptions &o, const Config &c, Tokenizer &&tokenizer)
    : o(o), task(task_named(o.task)), words(std::move(tokenizer)), reward(parse_reward(o.reward)),
      context(c.context), has_experts(c.N_r > 0) {
    words.set_boundary(c.bos, c.eos);
    expect_fits(task, words, c);
    question_of(task, o.seed, 0, o.level);               // its level is refused before anything is sampled
    expect((long)o.questions * o.group % o.updates == 0, "--updates ", o.updates, ": ", o.questions * o.group,
           " outputs of a rollout do not part into so many");
}

std::string FromRollouts::introduction(const Training &t) const {
    const long rollouts = (o.steps - t.step + steps_of_rollout() - 1) / steps_of_rollout();
    return cat(o.objective, " on ", task.name, ": ", rollouts,
               rollouts == 1 ? " rollout of " : " rollouts of ", o.questions, " questions x ", o.group,
               " outputs, ", o.steps - t.step, " steps; reward ", o.reward);
}

// The reference is the policy of the run's beginning. The critic begins as the policy, too, with a head of
// its own that says 0.                                                                          Math 4.1.1
void FromRollouts::begin(Training &t) {
    Model &m = t.policy.model;
    const bool near = o.objective == "ppo" || o.objective == "grpo";
    if (near && o.beta > 0) t.reference = clone(m);
    if (o.objective != "ppo") return;
    Config c = m.c;
    c.scalar_head = true;
    c.D = 0;
    Model critic = initialised(c, o.seed);
    adopt(critic, m);
    t.critic.emplace(std::move(critic));
}

Sampler FromRollouts::sampler() const {
    return {
        .tokenizer = words,
        .task = task,
        .reward = reward,
        .max_tokens = o.max_tokens,
        .decode = {
            .sampling = {.temperature = o.temperature, .top_p = o.top_p, .top_k = o.top_k, .seed = o.seed},
            .slots = 64,
            .logp = true,
            .kept = o.keep_mask == "on" && (o.top_p < 1 || o.top_k > 0),
            .routing = o.keep_routing == "on" && has_experts}};
}

void FromRollouts::roll(Training &t) {
    const auto start = std::chrono::steady_clock::now();
    std::vector<Question> questions;
    for (int i = 0; i < o.questions; i++)
        questions.push_back(question_of(task, o.seed, t.position + i, o.level));
    std::vector<Rollout> rollouts;
    if (o.sampler == "bf16") {
        const Model rounded = sharing(t.policy.model, bf16);
        rollouts = roll_out(rounded, sampler(), questions, o.group, t.position);
    } else {
        rollouts = roll_out(t.policy.model, sampler(), questions, o.group, t.position);
    }
    Lessons lessons;
    for (const Rollout &r : rollouts)
        lessons.push_back({.group = r.group,
                           .prompt = r.prompt,
                           .ids = r.answer.ids,
                           .logp = r.answer.logp,
                           .kept = r.answer.kept,
                           .experts = r.answer.experts,
                           .reward = o.objective == "online-rft" ? r.graded.right : r.reward});   // Math (11)
    advise(t, lessons, rollouts);
    t.kept.clear();
    keep(t.kept, lessons);
    t.kept[kept_figures] = told(rollouts, t.step);
    seconds_of_rollout = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// What people are told of a rollout: its figures; now and then the best and the worst output.
std::vector<double> FromRollouts::told(const std::vector<Rollout> &rollouts, long step) {
    const Score s = score(rollouts, o.group, 0);
    double spread = 0, right = 0;
    for (const Rollout &r : rollouts) {
        spread += (r.reward - s.reward) * (r.reward - s.reward) / (double)rollouts.size();
        right += r.graded.right / (double)rollouts.size();
    }
    const std::vector<double> all = {s.reward, std::sqrt(spread), right, s.formed, s.language,
                                     s.flat,   s.tokens,          s.cut, s.steps,  s.steps_right};
    const long every = o.show_every ? o.show_every : std::max(1l, o.steps / 10);
    if (step % every >= steps_of_rollout()) return all;
    const auto less = [](const Rollout &a, const Rollout &b) { return a.reward < b.reward; };
    const Rollout &best = *std::max_element(rollouts.begin(), rollouts.end(), less);
    const Rollout &worst = *std::min_element(rollouts.begin(), rollouts.end(), less);
    for (const Rollout *r : {&best, &worst}) {
        said.push_back(cat("  ", r->question.prompt, " ", r->text, r->ended() ? "" : "...", "  (",
                           r->graded.right ? "right" : "wrong", r->graded.formed ? "" : ", not well formed",
                           ", reward ", r->reward, ")"));
        samples.push_back(dump({{"step", step},
                                {"prompt", r->question.prompt},
                                {"output", r->text},
                                {"reward", r->reward},
                                {"right", r->graded.right},
                                {"formed", r->graded.formed},
                                {"ended", r->ended()}},
                               -1));
    }
    return all;
}

// samples.jsonl of the run's folder. What a resumed run had written after its checkpoint comes again.
void FromRollouts::write_samples(long steps_done) {
    if (o.out.empty()) return;
    const std::string path = o.out + "/samples.jsonl";
    std::vector<std::string> lines;
    std::ifstream old(path);
    for (std::string line; std::getline(old, line);) {
        const Json sample = parse_json(line, path, (long)lines.size() + 1);
        if (get_int(JsonObject(sample, path), "step", 0, 1l << 40) < steps_done) lines.push_back(line);
    }
    lines.insert(lines.end(), samples.begin(), samples.end());
    std::string text;
    for (const std::string &line : lines) text += line + "\n";
    if (!text.empty()) write_atomically(path, text);
    samples.clear();
}

// What the objective needs to know of each token.
void FromRollouts::advise(Training &t, Lessons &lessons, const std::vector<Rollout> &rollouts) const {
    NoGrad off;
    const Experience all = experience(lessons, t.policy.model.c.V);
    const int T = all.next.shape[1];
    const bool by_spread = o.std == "on";
    if (o.objective == "ppo") return estimate(t, lessons, all);
    if (o.objective != "grpo") return;
    give(lessons, &Lesson::A,
         o.reward_at == "step"
             ? process_advantages(step_rewards(rollouts, words, T), all.group, all.mask, by_spread)
             : outcome_advantages(all.reward, all.group, all.mask, by_spread));
}

// The critic's values, and by them advantages and returns.
void FromRollouts::estimate(Training &t, Lessons &lessons, const Experience &all) const {
    const Tensor V = values_of(t.critic->model, all);
    const Tensor logp_ref = t.reference ? fixed_logp(*t.reference, all, o.temperature) : Tensor();
    const Tensor r = token_rewards(all.reward, all.logp_old, logp_ref, all.mask, t.reference ? o.beta : 0);
    const Estimates found = gae(r, V, all.mask, o.gae_gamma, o.gae_lambda);
    give(lessons, &Lesson::V, V);
    give(lessons, &Lesson::A, found.A);
    give(lessons, &Lesson::returns, found.returns);
}

// The lessons of this step: all, or one of --updates parts, dealt anew in each epoch.
Lessons FromRollouts::part(const Lessons &lessons, long step) const {
    if (o.updates == 1) return lessons;
    std::vector<int> order(lessons.size());
    std::iota(order.begin(), order.end(), 0);
    Random r = {random_bits(o.seed, hash_of("part"), step / o.updates, 0)};
    for (size_t i = order.size() - 1; i > 0; i--) std::swap(order[i], order[r.below((int)i + 1)]);
    const size_t n = lessons.size() / o.updates, first = step % o.updates * n;
    Lessons some;
    for (size_t i = first; i < first + n; i++) some.push_back(lessons[order[i]]);
    return some;
}

Tensor FromRollouts::objective(Training &t, const Experience &e, const LogP &now,
                               const Tensor &logp_ref) const {
    const Divisor divisor = divisor_of(o, o.max_tokens ? o.max_tokens : context);
    if (o.objective == "grpo")
        return grpo(now.logp, e.logp_old, logp_ref, e.A, e.mask,
                    {.eps = o.eps,
                     .beta = o.beta,
                     .delta = o.delta,
                     .kl = o.kl == "k3" ? KL::k3 : KL::unbiased,
                     .divisor = divisor});
    if (o.objective == "online-rft") return sft(now.logp, rewarded(e.mask, e.reward), divisor);
    const Tensor policy = ppo(now.logp, e.logp_old, e.A, e.mask, {.eps = o.eps, .divisor = divisor});
    return add(policy, critic(values_of(t.critic->model, e), e.V_old, e.returns, e.mask, 0, divisor));
}

Losses FromRollouts::loss(Training &t, const Experience &e, double share, Aux &aux, Watched &watched) const {
    const Model &m = t.policy.model;
    Step step = e.step;
    step.aux = &aux;
    aux.share = share;
    if (!e.experts.empty()) step.imposed = &e.experts;
    const LogP now = logp(trunk(m, step), m.output_head(), e.next, o.temperature, e.allowed);
    const Tensor logp_ref = t.reference ? fixed_logp(*t.reference, e, o.temperature) : Tensor();
    watched.read(e, now, logp_ref, o);
    Losses l;
    l.total = times(objective(t, e, now, logp_ref), share);
    for (const Term &term : aux.losses) l.total = add(l.total, term.value);
    return l;
}

StepReport FromRollouts::step(Training &t, const std::function<void()> &sound) {
    const long now = t.step % steps_of_rollout();
    const auto start = std::chrono::steady_clock::now();
    seconds_of_rollout = 0;
    if (o.refresh && t.reference && t.step % o.refresh == 0 && t.step > 0)
        t.reference = clone(t.policy.model);
    if (now == 0) {
        roll(t);
        if (!samples.empty()) write_samples(t.step);
    }
    const Lessons lessons = part(kept(t.kept), t.step);
    double outputs = 0, tokens = 0;
    for (const Lesson &l : lessons) outputs++, tokens += (double)l.ids.size();
    std::vector<Training::Part> parts;
    Watched watched;
    long read = 0;
    for (const Lessons &batch : batches(lessons)) {
        double of_batch = 0;
        for (const Lesson &l : batch) {
            of_batch += (double)l.ids.size();
            read += (long)(l.prompt.size() + l.ids.size()) - 1;
        }
        const double share = o.length == "token" ? of_batch / tokens : batch.size() / outputs;
        parts.push_back([&, batch, share](Aux &aux) {
            return loss(t, experience(batch, t.policy.model.c.V), share, aux, watched);
        });
    }
    StepReport r = t.update(parts, sound);
    for (size_t i = 0; i < figures.size(); i++) r.terms.push_back({figures[i], t.kept.at(kept_figures)[i]});
    if (now == steps_of_rollout() - 1) {
        t.kept.clear();
        t.position += o.questions;
    }
    r.tokens = read;
    const double all = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    for (const auto &[name, sum] : Columns{{"kl", watched.kl},
                                           {"entropy", watched.entropy},
                                           {"clipped", watched.clipped},
                                           {"drift", watched.drift}})
        r.terms.push_back({name, sum / watched.tokens});
    r.terms.push_back({"rollout_share", seconds_of_rollout / all});
    r.said = std::move(said);
    said.clear();
    return r;
}

std::string FromRollouts::shown(const StepReport &r) const {
    return cat(std::fixed, std::setprecision(3), "reward ", r.term("reward"), "  right ", r.term("right"),
               std::setprecision(1), "  ", r.term("tokens"), " tokens");
}

Source::HeldOut FromRollouts::evaluate(const Model &m, const std::function<void(long)> &progress) const {
    std::vector<Question> questions;
    for (int i = 0; i < 256; i++) questions.push_back(held_out_question(task, i, o.level));
    const Score s = score(roll_out(m, sampler(), questions, 1, 0, progress), 1, 0);
    double right = 0;
    for (double p : s.pass[0]) right += p / s.pass[0].size();
    return {{{"valid_right", right},
             {"valid_reward", s.reward},
             {"valid_formed", s.formed},
             {"valid_tokens", s.tokens}},
            cat(std::fixed, std::setprecision(1), 100 * right, "% right, ", 100 * s.formed, "% well formed, ",
                s.tokens, " tokens")};
}

std::unique_ptr<Source> source_of_rollouts(const TrainOptions &o, const Config &c, Tokenizer &&tokenizer) {
    return std::make_unique<FromRollouts>(o, c, std::move(tokenizer));
}

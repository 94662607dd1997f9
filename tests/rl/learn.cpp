// learn.cpp: outputs of a policy, how they are scored, and what becomes of them. What a rollout and the
// training say of the same token must be the same bits: else there is no telling what "off policy" means.
//
//   [1] scores   [2] rollouts   [3] lessons   [4] rollout and training   [5] steps
#include <cmath>
#include <filesystem>

#include "src/model/config.h"
#include "src/rl/learn.h"
#include "src/rl/score.h"
#include "tests/models.h"

// ------------------------------------------------------------------------------------------------ [1] scores
namespace {
// f(chosen) for every choice of k among n.
template <class F> void for_choices(int n, int k, F f) {
    for (int bits = 0; bits < 1 << n; bits++) {
        if (__builtin_popcount(bits) != k) continue;
        std::vector<int> chosen;
        for (int i = 0; i < n; i++)
            if (bits >> i & 1) chosen.push_back(i);
        f(chosen);
    }
}
Graded answered(const std::string &answer, bool right = false) {
    Graded g;
    g.answer = answer;
    g.right = right;
    return g;
}
}  // namespace

TEST_CASE("score: Pass@K is the share of choices of K outputs among which one is right") {
    for (int n = 1; n <= 7; n++)
        for (int c = 0; c <= n; c++)
            for (int k = 1; k <= n; k++) {
                double all = 0, passed = 0;
                for_choices(n, k, [&](const std::vector<int> &chosen) {
                    all++;
                    passed += chosen[0] < c;             // the right ones come first
                });
                CHECK(pass_at(n, c, k) == doctest::Approx(passed / all).epsilon(1e-12));
            }
    CHECK(pass_at(100000, 50000, 64) == doctest::Approx(1));
    CHECK(pass_at(64, 0, 64) == 0);
}

TEST_CASE("score: a vote is right as often as over all choices, ties by lot") {
    const std::vector<Graded> outputs = {answered("7", true), answered("3"), answered("7", true),
                                         answered("3"),       answered("5"), answered(""),
                                         answered("")};
    for (int k = 1; k <= 7; k++) {
        double all = 0, right = 0;
        for_choices(7, k, [&](const std::vector<int> &chosen) {
            std::map<std::string, int> votes;
            for (int i : chosen)
                if (!outputs[i].answer.empty()) votes[outputs[i].answer]++;
            int most = 0, winners = 0;
            for (const auto &[answer, n] : votes) most = std::max(most, n);
            for (const auto &[answer, n] : votes) winners += n == most;
            all++;
            if (votes.count("7") && votes["7"] == most) right += 1.0 / winners;
        });
        INFO("k ", k, ": ", right / all);
        CHECK(majority_at(outputs, k, 20000, 1) == doctest::Approx(right / all).epsilon(0.03));
    }
    CHECK(majority_at(outputs, 1, 1, 1) == doctest::Approx(2.0 / 7).epsilon(1e-12));
    CHECK(majority_at({answered(""), answered("")}, 2, 1, 1) == 0);
}

TEST_CASE("score: whether reinforcement can start hangs on questions with right and wrong outputs") {
    const auto advised = [](double right, double flat, double formed, double cut) {
        Score s = {};
        s.pass = {{right}};
        s.flat = flat;
        s.formed = formed;
        s.cut = cut;
        return advice(s);
    };
    CHECK(advised(0.3, 0.1, 0.6, 0) == "it can start");
    CHECK(advised(0, 1, 0.6, 0).starts_with("it cannot start"));
    CHECK(advised(0.5, 0.97, 0.6, 0).starts_with("it cannot start"));
    CHECK(advised(0.02, 0.8, 0.6, 0).starts_with("it will start slowly"));
    CHECK(advised(0.99, 0.9, 1, 0).starts_with("hardly anything is left"));
    CHECK(advised(0.3, 0.1, 0, 0).starts_with("it can start from right answers"));
    CHECK(advised(0, 1, 0, 0.9).starts_with("most outputs do not end"));
}

// ---------------------------------------------------------------------------------------------- [2] rollouts
namespace {
// Whatever was written is right: what is not counted then was refused by the rollout itself.
Graded always_right(const Question &, const std::string &output) {
    Graded g;
    g.right = g.formed = true;
    g.answer = output + ".";
    return g;
}
const Task generous = [] {
    Task task = task_countdown;
    task.grade = always_right;
    return task;
}();

Config with_vocabulary(Config c, const Task &task) {
    const Tokenizer t = tokenizer_of(task);
    c.V = t.size();
    c.eos = t.eos;
    return c;
}
std::vector<Question> some_questions(int n) {
    std::vector<Question> list;
    for (int i = 0; i < n; i++) list.push_back(question_of(task_countdown, 1, i));
    return list;
}
bool same(const Rollout &a, const Rollout &b) {
    return a.answer.ids == b.answer.ids && a.answer.logp == b.answer.logp && a.reward == b.reward;
}
}  // namespace

TEST_CASE("rollouts: what is cut off is worth nothing, however right it looks") {
    const Tokenizer words = tokenizer_of(task_countdown);
    const Model m = random_model(with_vocabulary(load_preset("llm-nano"), task_countdown));
    const Sampler sampler = {.tokenizer = words,
                             .task = generous,
                             .reward = {.accuracy = 1, .format = 2, .language = 4},
                             .max_tokens = 12};
    int ended = 0, cut = 0;
    for (const Rollout &r : roll_out(m, sampler, some_questions(8), 8, 0)) {
        (r.ended() ? ended : cut)++;
        CHECK(r.ended() == (r.answer.ids.back() == words.eos[0]));
        CHECK(r.graded.right == r.ended());
        CHECK(r.graded.answer.empty() == !r.ended());
        CHECK(r.reward == (r.ended() ? 7 : 0));
    }
    CHECK(ended > 0);
    CHECK(cut > 0);
}

TEST_CASE("rollouts: an output is the same in any company, slot and order of questions") {
    const Tokenizer words = tokenizer_of(task_countdown);
    const Model m = random_model(with_vocabulary(load_preset("llm-nano"), task_countdown));
    Sampler sampler = {.tokenizer = words, .task = task_countdown, .max_tokens = 16};
    sampler.decode.logp = true;
    const std::vector<Question> all = some_questions(6);
    const std::vector<Rollout> together = roll_out(m, sampler, all, 4, 100);
    for (int slots : {1, 3, 64}) {
        sampler.decode.slots = slots;
        for (int i = 0; i < 6; i++) {
            const std::vector<Rollout> alone = roll_out(m, sampler, {all[i]}, 4, 100 + i);
            for (int j = 0; j < 4; j++) CHECK(same(alone[j], together[4 * i + j]));
        }
    }
    int different = 0;                                   // outputs of a question are drawn apart
    for (int i = 0; i < 24; i += 4) different += together[i].answer.ids != together[i + 1].answer.ids;
    CHECK(different >= 4);
}

TEST_CASE("rollouts: a reward is the weighted sum of what was graded") {
    Graded g;
    g.right = true;
    g.formed = false;
    g.language = 0.25;
    const Reward r = parse_reward("accuracy=2,format=8,language=4,length=1");
    CHECK(r.of(g, 0.5) == 2 + 1 - 0.5);
    CHECK(parse_reward("format=1").of(g, 1) == 0);
    CHECK(refusal([] { parse_reward("acuracy=1"); }).hint.starts_with("did you mean accuracy"));
    CHECK(refusal([] { parse_reward("accuracy"); }).cause == "--reward: 'accuracy' is not NAME=WEIGHT");
    CHECK(refusal([] { parse_reward("accuracy=x"); }).cause == "'x' is no number");
}

TEST_CASE("rollouts: a model that lacks the task's characters, an end or room is refused") {
    Config c = with_vocabulary(load_preset("llm-nano"), task_countdown);
    Tokenizer words = tokenizer_of(task_countdown);
    CHECK_NOTHROW(expect_fits(task_countdown, words, c));
    Task other = task_countdown;
    other.alphabet = "012abc";
    CHECK(refusal([&] { expect_fits(other, words, c); }).cause ==
          "task countdown: the model has no tokens for 'abc'");
    CHECK_NOTHROW(expect_fits(task_countdown, byte_tokenizer(), load_preset("llm-nano")));
    words.eos.clear();
    CHECK(refusal([&] { expect_fits(task_countdown, words, c); }).cause ==
          "task countdown: the model has no token that ends an output");
    c.context = 7;
    words = tokenizer_of(task_countdown);
    const Model m = random_model(c);
    CHECK(refusal([&] {
              roll_out(m, {.tokenizer = words, .task = task_countdown}, some_questions(1), 1, 0);
          }).cause.starts_with("task countdown: a question of 7 tokens leaves no room"));
}

// ----------------------------------------------------------------------------------------------- [3] lessons
namespace {
Lessons some_lessons() {
    Lessons list(3);
    for (int i = 0; i < 3; i++) {
        Lesson &l = list[i];
        l.group = i / 2;
        l.reward = 0.1 + i;
        l.prompt = random_ints(2 + i, 19, i);
        l.ids = random_ints(5 - 2 * i, 19, 10 + i);
        for (size_t t = 0; t < l.ids.size(); t++) {
            l.logp.push_back((real)(-0.1 * (int)t - i));
            l.A.push_back((real)(i + 1));
            l.kept.push_back((int)(1u << 31) + (int)t);
        }
        l.experts = {random_ints(2 * (l.prompt.size() + l.ids.size() - 1), 8, 20 + i)};
    }
    return list;
}
}  // namespace

TEST_CASE("lessons: what a checkpoint keeps of them is all of them, to the bit") {
    const Lessons before = some_lessons();
    std::map<std::string, std::vector<double>> numbers;
    keep(numbers, before);
    const Lessons after = kept(numbers);
    REQUIRE(after.size() == 3);
    for (int i = 0; i < 3; i++) {
        CHECK(after[i].prompt == before[i].prompt);
        CHECK(after[i].ids == before[i].ids);
        CHECK(after[i].logp == before[i].logp);
        CHECK(after[i].A == before[i].A);
        CHECK(after[i].V.empty());
        CHECK(after[i].kept == before[i].kept);
        CHECK(after[i].experts == before[i].experts);
        CHECK(after[i].group == before[i].group);
        CHECK(after[i].reward == before[i].reward);
    }
    CHECK(kept({}).empty());
}

TEST_CASE("lessons: side by side, each number stands where its token is predicted") {
    const Lessons lessons = some_lessons();
    const Experience e = experience(lessons, 19);
    const std::vector<int> next = int_values(e.next), bits = int_values(e.allowed),
                           idx = int_values(e.experts[0]);
    const std::vector<real> old = values(e.logp_old), A = values(e.A);
    const int T = e.next.shape[1];
    for (int b = 0; b < 3; b++) {
        const Lesson &l = lessons[b];
        const int first = (int)l.prompt.size() - 1;      // the column that predicts the output's first token
        CHECK(e.mask.length(b) == (int)l.ids.size());
        for (int t = 0; t < T; t++) {
            const int j = b * T + t, i = t - first;
            const bool counts = i >= 0 && i < (int)l.ids.size();
            CHECK(e.mask.at(b, t) == counts);
            CHECK(next[j] == (counts ? l.ids[i] : -1));
            CHECK(old[j] == (counts ? l.logp[i] : 0));
            CHECK(A[j] == (counts ? l.A[i] : 0));
            if (counts) CHECK(bits[j] == l.kept[i]);
            const bool read = t < (int)(l.prompt.size() + l.ids.size()) - 1;
            for (int k = 0; k < 2; k++) CHECK(idx[2 * j + k] == (read ? l.experts[0][2 * t + k] : -1));
        }
    }
}

// ---------------------------------------------------------------------------------- [4] rollout and training
namespace {
// The largest difference of rollout's and training's log-probabilities.
double drift(const Config &from, Sampling sampling, bool keep_mask) {
    const Tokenizer words = tokenizer_of(task_countdown);
    const Config c = with_vocabulary(from, task_countdown);
    const Model m = random_model(c);
    Sampler sampler = {.tokenizer = words, .task = task_countdown, .max_tokens = 20};
    sampler.decode = {.sampling = sampling, .logp = true, .kept = true, .routing = true};
    Lessons lessons;
    for (const Rollout &r : roll_out(m, sampler, some_questions(5), 3, 0))
        lessons.push_back({.prompt = r.prompt,
                           .ids = r.answer.ids,
                           .logp = r.answer.logp,
                           .kept = r.answer.kept,
                           .experts = r.answer.experts});
    const Experience e = experience(lessons, c.V);
    NoGrad off;
    Aux aux;
    Step step = e.step;
    step.aux = &aux;
    if (!e.experts.empty()) step.imposed = &e.experts;
    const std::vector<real> now = values(logp(trunk(m, step), m.output_head(), e.next, sampling.temperature,
                                              keep_mask ? e.allowed : Tensor())
                                             .logp),
                            old = values(e.logp_old);
    double most = 0;
    for (size_t i = 0; i < now.size(); i++)
        if (e.mask.on[i]) most = std::max(most, std::fabs((double)now[i] - old[i]));
    return most;
}
Config dense() { return load_preset("llm-nano"); }
Config with_experts() {
    Config c = load_preset("llm-nano");
    c.N_r = 8, c.K_r = 2, c.d_e = 16, c.gate = Gate::softmax, c.norm_gates = c.selection_bias = false;
    return c;
}
}  // namespace

TEST_CASE("rollout and training say the same of each token, to the bit") {
    for (const Config &c : {dense(), with_experts()}) {
        CHECK(drift(c, {}, true) == 0);
        CHECK(drift(c, {.temperature = 0.7}, true) == 0);
        CHECK(drift(c, {.temperature = 0.7, .top_p = 0.8, .top_k = 9}, true) == 0);
        CHECK(drift(c, {.top_p = 0.6}, false) > 0.1);    // among all tokens each is less likely
    }
    // MLA decodes in another order of products (V2 2.1.2): sums of 16 to 32 products, rounded otherwise.
    const double of_mla = drift(load_preset("v3-nano"), {}, true);
    CHECK(of_mla > 0);
    CHECK(of_mla < (in_double ? 1e-13 : 5e-6));
}

// ------------------------------------------------------------------------------------------------- [5] steps
namespace {
TrainOptions options(const std::string &objective) {
    TrainOptions o;
    o.objective = objective;
    o.task = "countdown";
    o.level = 2;
    o.questions = 4;
    o.group = 4;
    o.steps = 8;
    o.lr = 1e-3;
    o.schedule = "constant";
    o.warmup = 0;
    o.max_tokens = 12;
    o.reward = "accuracy=1,format=1,length=0.5";         // so that groups are not all worth the same
    return o;
}
struct Under {                                           // a training under test
    std::unique_ptr<Source> source;
    Training t;
    Under(const TrainOptions &o, const Config &from, int context = 64)
        : source(made(o, from, context)), t(o, random_model(config(from, context))) {
        source->begin(t);
    }
    static Config config(Config c, int context) {
        c = with_vocabulary(c, task_countdown);
        c.context = context;
        return c;
    }
    static std::unique_ptr<Source> made(const TrainOptions &o, const Config &from, int context) {
        return source_of_rollouts(o, config(from, context), tokenizer_of(task_countdown));
    }
    StepReport step() { return source->step(t, {}); }
};
}  // namespace

TEST_CASE("steps: on policy the ratio is 1, the reference is where the policy is, and nothing is clipped") {
    TrainOptions o = options("grpo");
    Under run(o, dense());
    StepReport r = run.step();
    CHECK(r.term("drift", NAN) == 0);
    CHECK(r.term("kl", NAN) == 0);
    CHECK(r.term("clipped", NAN) == 0);
    CHECK(std::fabs(r.loss) < 1e-6);                     // advantages of a group sum to 0 only by sequence
    r = run.step();
    CHECK(r.term("drift", NAN) == 0);                    // sampled anew
    CHECK(r.term("kl", NAN) > 0);                        // while the reference stays
}

TEST_CASE("steps: with --refresh the policy of that moment becomes the reference") {
    TrainOptions o = options("grpo");
    o.refresh = 3;
    Under run(o, dense());
    for (int step = 0; step < 7; step++) CHECK((run.step().term("kl", NAN) == 0) == (step % 3 == 0));
}

TEST_CASE("steps: later updates of a rollout are off policy, and each output is learned from once an epoch") {
    TrainOptions o = options("grpo");
    o.updates = 4;
    o.epochs = 2;
    Under run(o, dense());
    std::vector<double> reward;
    long read = 0;
    for (int step = 0; step < 8; step++) {
        const StepReport r = run.step();
        CHECK((r.term("drift", NAN) == 0) == (step == 0));
        CHECK(r.term("reward", NAN) == (reward.empty() ? r.term("reward") : reward[0]));
        reward.push_back(r.term("reward"));
        read += r.tokens;
        CHECK(run.t.kept.empty() == (step == 7));
        CHECK(run.t.position == (step == 7 ? 4 : 0));
    }
    Under once(options("grpo"), dense());
    CHECK(read == 2 * once.step().tokens);
}

TEST_CASE("steps: the loss is that of all outputs together, however many batches they are dealt to") {
    for (const char *length : {"sequence", "token", "constant"}) {
        INFO(length);
        TrainOptions o = options("grpo");
        o.questions = 80;                                // some 5,000 tokens: more than one batch
        o.epochs = 2;                                   // so the lessons are still there after the first step
        o.beta = 0;
        o.std = "off";
        o.length = length;
        Under run(o, dense());
        const double loss = run.step().loss;
        const Lessons lessons = kept(run.t.kept);
        double tokens = 0, read = 0, J = 0;
        for (const Lesson &l : lessons) {
            tokens += (double)l.ids.size();
            read += (double)(l.prompt.size() + l.ids.size());
        }
        REQUIRE(read > 4096);
        for (const Lesson &l : lessons) {                // on policy rho = 1: J is a sum of advantages
            const double n = o.length == "sequence" ? (double)(lessons.size() * l.ids.size())
                             : o.length == "token"  ? tokens
                                                    : (double)lessons.size() * o.max_tokens;
            for (real A : l.A) J += A / n;
        }
        CHECK(std::fabs(loss + J) < (in_double ? 1e-14 : 1e-7));        // measured: 1.7e-9 in float
        if (o.length != "sequence") CHECK(std::fabs(J) > 1e-4);
    }
}

TEST_CASE("steps: kept routing: the experts are the sampler's, and the router still learns") {
    TrainOptions o = options("grpo");
    o.updates = 2;
    o.lr = 0.05;                                         // after the first step it would choose others
    for (const Config &c : {with_experts(), load_preset("v3-nano")}) {
        Under run(o, c);
        std::vector<int> counted(c.N_r, 0), chosen(c.N_r, 0);
        const auto count = [&](const StepReport &r) {
            for (int e = 0; e < c.N_r; e++) counted[e] += r.load[0][e];
        };
        count(run.step());
        const Lessons lessons = kept(run.t.kept);
        CHECK((int)lessons[0].experts.size() == c.n_layers - c.n_dense);
        for (const Lesson &l : lessons)
            for (int e : l.experts[0]) chosen[e]++;
        count(run.step());
        CHECK(counted == chosen);                        // each lesson in one of the two steps
        for (const Optimiser::Entry &e : run.t.policy.optimiser.entries)
            if (e.group == Group::router && e.name.starts_with("blocks.")) {
                INFO(e.name);
                double most = 0;
                for (real x : values(gradient(e.W))) most = std::max(most, std::fabs((double)x));
                CHECK(most > 0);
            }
    }
}

TEST_CASE("steps: a group whose outputs are all worth the same teaches nothing") {
    TrainOptions o = options("grpo");
    o.reward = "accuracy=0";
    o.weight_decay = 0;
    o.beta = 0;
    Under run(o, dense());
    const std::vector<real> before = values(run.t.policy.model.blocks[0].mha.W_Q);
    const StepReport r = run.step();
    CHECK(r.term("flat_groups") == 1);
    CHECK(r.gradient_norm == 0);
    CHECK(values(run.t.policy.model.blocks[0].mha.W_Q) == before);
}

TEST_CASE("steps: PPO's critic begins at 0 and comes to say what outputs earn; only it is changed by that") {
    TrainOptions o = options("ppo");
    o.reward = "accuracy=0,length=1";
    o.updates = 2;
    o.steps = 60;
    o.lr = 1e-6;
    o.critic_lr = 3000;
    Under run(o, dense());
    std::vector<double> error;                           // mean square, rollout by rollout
    for (int rollout = 0; rollout < 30; rollout++) {
        run.step();
        const auto &V = run.t.kept.at("V"), &returns = run.t.kept.at("returns");
        error.push_back(0);
        for (size_t i = 0; i < V.size(); i++)
            error.back() += (V[i] - returns[i]) * (V[i] - returns[i]) / V.size();
        if (rollout == 0)
            for (double v : V) CHECK(v == 0);
        run.step();
    }
    INFO(error.front(), " ", error.back());
    CHECK(error.back() < 0.5 * error.front());
    CHECK(run.t.critic->model.head.shape == Shape({1, run.t.policy.model.c.d}));
    for (const Optimiser::Entry &e : run.t.critic->optimiser.entries) CHECK(e.name != "head");
}

TEST_CASE("steps: at another temperature, among fewer tokens, the first step is still on policy") {
    TrainOptions o = options("grpo");
    o.temperature = 0.6;
    o.top_p = 0.9;
    Under run(o, dense());
    CHECK(run.step().term("drift", NAN) == 0);
    o.keep_mask = "off";
    Under without(o, dense());
    CHECK(without.step().term("drift", NAN) > 0);
    o.top_p = 1;
    o.sampler = "bf16";
    Under rounded(o, dense());
    const double drift = rounded.step().term("drift", NAN);
    CHECK(drift > 0);
    CHECK(drift < 0.05);                                 // products rounded to 8 bits
}

TEST_CASE("steps: one with the sampler's experts on the device checked passes, and is the CPU's to the bit") {
    if (!cuda_device.kernels) {
        MESSAGE("this build has no CUDA, not even emulated: nothing is compared");
        return;
    }
    TrainOptions o = options("grpo");
    o.questions = 2;
    o.max_tokens = 8;
    o.length = "constant";                               // by sequence a group's terms sum to 0, and to noise
    std::vector<double> losses;
    for (Device *d : {&cpu_device, &checked_device}) {
        const Restored keep(device);
        device = d;
        Under run(o, with_experts());
        for (int step = 0; step < 2; step++) losses.push_back(run.step().loss);
    }
    CHECK(losses[0] == losses[2]);
    CHECK(losses[1] == losses[3]);
}

// outputs.cpp: learning from files of outputs. What a file says must be what is learned: whole outputs, and
// nothing else, each as often as the others; documents do not see each other.
//
//   [1] the file   [2] packed   [3] pairs
#include "src/text/outputs.h"

#include <cmath>
#include <map>

#include "src/base/json.h"
#include "src/model/config.h"
#include "src/rl/learn.h"
#include "tests/models.h"
#include "tests/text/folder.h"

namespace {
const Tokenizer &words() {
    static const Tokenizer t = tokenizer_of(task_countdown);
    return t;
}
std::vector<int> with_end(const std::string &text) {
    std::vector<int> ids = words().encode(text);
    ids.push_back(words().eos[0]);
    return ids;
}
struct Texts { std::string prompt, chosen, rejected; };
// Distinct prompts, gold traces, and others; of several lengths.
std::vector<Texts> some_texts(int n) {
    std::vector<Texts> list;
    std::map<std::string, int> seen;
    for (long i = 0; (int)list.size() < n; i++) {
        const Question q = question_of(task_countdown, seeded(1), i, 2 + (int)i % 2);
        Random r = {seeded(i)};
        const std::string gold = task_countdown.trace(r, q, true);
        if (gold.size() < 45 && !seen[q.prompt]++)
            list.push_back({q.prompt, gold, gold.substr(0, gold.find(')')) + "x"});
    }
    return list;
}
std::string file_of(const Folder &folder, const std::vector<Texts> &texts, bool pairs) {
    std::string lines;
    for (const Texts &t : texts)
        lines += dump(pairs ? Json{{"prompt", t.prompt}, {"chosen", t.chosen}, {"rejected", t.rejected}}
                            : Json{{"prompt", t.prompt}, {"output", t.chosen}},
                      -1) +
                 "\n";
    return folder.put("outputs.jsonl", lines);
}
Config nano(const char *preset = "llm-nano") {
    Config c = load_preset(preset);
    c.V = words().size();
    c.eos = words().eos;
    c.context = 64;
    c.alpha = 0;                                         // the balance loss is of sequences, packed or not
    c.D = 0;
    return c;
}
}  // namespace

// ---------------------------------------------------------------------------------------------- [1] the file
TEST_CASE(
    "outputs: a file's lines are its prompts and outputs, each with one end; chosen comes before rejected") {
    const Folder folder;
    const std::vector<Texts> texts = some_texts(9);
    const OutputFile outputs = read_outputs(file_of(folder, texts, false), words(), 64, Lines::all),
                     pairs = read_outputs(file_of(folder, texts, true), words(), 64, Lines::pairs);
    REQUIRE(outputs.train.size() == 9);
    REQUIRE(pairs.train.size() == 9);
    for (int i = 0; i < 9; i++) {
        CHECK(outputs.train[i].prompt == words().encode(texts[i].prompt));
        CHECK(outputs.train[i].outputs == Sequences{with_end(texts[i].chosen)});
        CHECK(pairs.train[i].outputs == Sequences{with_end(texts[i].chosen), with_end(texts[i].rejected)});
    }
    CHECK(outputs.held_out.empty());
}

TEST_CASE("outputs: a twentieth is held out, but no prompt that is trained on") {
    const Folder folder;
    std::vector<Texts> texts = some_texts(100);
    texts[97].prompt = texts[3].prompt;
    const OutputFile f = read_outputs(file_of(folder, texts, false), words(), 64, Lines::all);
    CHECK(f.train.size() == 96);
    REQUIRE(f.held_out.size() == 4);
    for (int i = 0; i < 4; i++) CHECK(f.held_out[i].prompt == words().encode(texts[i + 95 + (i > 1)].prompt));
}

TEST_CASE("outputs: RFT learns from what is right, once; a reward speaks where there is no verdict") {
    const Folder folder;
    const std::string file =
        folder.put("outputs.jsonl", R"({"prompt": "11", "output": "+", "right": true, "reward": 0}
{"prompt": "11", "output": "-", "right": false, "reward": 2}

{"prompt": "11", "output": "+", "right": true}
{"prompt": "22", "output": "+", "reward": 0.5}
{"prompt": "33", "output": "+", "reward": 0}
{"prompt": "44", "output": "+", "right": null, "reward": 1}
)");
    const OutputFile f = read_outputs(file, words(), 64, Lines::rewarded);
    REQUIRE(f.train.size() == 3);
    for (int i : {0, 1, 2}) CHECK(f.train[i].prompt == words().encode(std::vector{"11", "22", "44"}[i]));
    CHECK(f.lines == 6);
    CHECK(f.wrong == 2);
    CHECK(f.twice == 1);
    CHECK(read_outputs(file, words(), 64, Lines::all).train.size() == 6);
}

TEST_CASE("outputs: a line that cannot be learned from is refused, and named") {
    const Folder folder;
    const std::string good = R"({"prompt": "1", "output": "2", "right": true})"
                             "\n";
    const auto cause = [&](const std::string &line, Lines which = Lines::all) {
        const std::string file = folder.put("x.jsonl", line);
        const std::string error = error_of([&] { read_outputs(file, words(), 8, which); });
        return error.substr(std::min(error.size(), error.find("x.jsonl")));
    };
    CHECK(cause("") == "x.jsonl: is empty");
    CHECK(cause("\n \n") == "x.jsonl: no lines in it");
    CHECK(cause(good + "[1]") == "x.jsonl: line 2: is a list, not an object { ... }");
    CHECK(cause(good + "{").starts_with("x.jsonl: line 2, column 2: "));
    CHECK(cause(good + "\n" + R"({"prompt": "1"})") == "x.jsonl: line 3: output is missing");
    CHECK(cause(good + R"({"output": "1"})") == "x.jsonl: line 2: prompt is missing");
    CHECK(cause(R"({"prompt": 1, "output": "2"})") == "x.jsonl: line 1: prompt is 1, not a text in quotes");
    CHECK(cause(R"({"prompt": "1234", "output": "1234"})") == "");
    CHECK(cause(R"({"prompt": "1234", "output": "12345"})") ==
          "x.jsonl: line 1: prompt, output and end are 10 tokens; a context of 8 has room for 9");
    CHECK(cause(R"({"prompt": "1ä2", "output": "1"})") ==
          "x.jsonl: line 1: prompt: the tokenizer makes '2' of 'ä2'");
    CHECK(cause(R"({"prompt": "1", "output": "1b"})") ==
          "x.jsonl: line 1: output: the tokenizer makes '' of 'b'");
    CHECK(cause(R"({"prompt": "1", "output": "2"})", Lines::rewarded) ==
          "x.jsonl: line 1: right, or a reward, is missing");
    CHECK(cause(R"({"prompt": "1", "output": "2", "right": 1})", Lines::rewarded) ==
          "x.jsonl: line 1: right is 1, not true or false");
    CHECK(cause(R"({"prompt": "1", "output": "2", "reward": "1"})", Lines::rewarded) ==
          "x.jsonl: line 1: reward is '1', not a number");
    CHECK(cause(R"({"prompt": "1", "output": "2", "right": false})", Lines::rewarded) ==
          "x.jsonl: none of its 1 outputs is right");
    CHECK(cause(R"({"prompt": "1", "chosen": "2"})", Lines::pairs) == "x.jsonl: line 1: rejected is missing");
    CHECK(cause(R"({"prompt": "1", "chosen": "2", "rejected": "2"})", Lines::pairs) ==
          "x.jsonl: line 1: chosen and rejected are the same");
    CHECK(cause(R"({"prompt": "1", "chosen": "2", "rejected": "12345678"})", Lines::pairs) ==
          "x.jsonl: line 1: prompt, rejected and end are 10 tokens; a context of 8 has room for 9");
    Tokenizer endless = words();
    endless.eos.clear();
    CHECK(error_of([&] {
              read_outputs(folder.put("x.jsonl", good), endless, 8, Lines::all);
          }).ends_with("the model has no token that ends an output"));
    CHECK(
        refusal([&] { read_outputs(folder / "none", words(), 8, Lines::all); }).hint.ends_with("writes it"));
}

// ------------------------------------------------------------------------------------------------ [2] packed
TEST_CASE("packed: every document once and whole; of each its output is learned, from its own prompt alone") {
    const Folder folder;
    const std::vector<Prompted> documents =
        read_outputs(file_of(folder, some_texts(30), false), words(), 64, Lines::all).train;
    size_t next = 0;
    for (const Example &e : examples(packed(documents, 64))) {
        CHECK(e.ids.size() <= 65);
        const Batch b = make_batch({e}, 0);
        const Reading &r = b.reading[0];
        const std::vector<int> pos = int_values(r.step.pos), target = int_values(r.next),
                               sees = int_values(r.step.where.keys);
        std::vector<int> starts = {0};
        starts.insert(starts.end(), e.starts.begin(), e.starts.end());
        for (size_t d = 0; d < starts.size(); d++) {
            const Prompted &p = documents[next++];
            std::vector<int> ids = p.prompt;
            ids.insert(ids.end(), p.outputs[0].begin(), p.outputs[0].end());
            const int n = (int)ids.size();
            REQUIRE(starts[d] + n == (d + 1 < starts.size() ? starts[d + 1] : (int)e.ids.size()));
            for (int i = 0; i < n; i++) {
                const int t = starts[d] + i;
                CHECK(e.ids[t] == ids[i]);
                if (t == b.T) continue;                  // the last is only predicted
                const bool learned = i + 1 >= (int)p.prompt.size() && i + 1 < n;
                CHECK(target[t] == (learned ? ids[i + 1] : -1));
                CHECK(pos[t] == i);
                CHECK(sees[2 * t] == starts[d]);
                CHECK(sees[2 * t + 1] == t);
            }
        }
    }
    CHECK(next == documents.size());
    const size_t sequences = packed(documents, 64).size();
    CHECK(sequences > 1);
    CHECK(3 * sequences < 2 * documents.size());
}

TEST_CASE("shuffled: each time through every thing comes once, in another order, the same by the same seed") {
    Shuffled a, b;
    std::vector<std::vector<long>> rounds(3);
    for (long g = 0; g < 30; g++) rounds[g / 10].push_back(a.at(seeded(1), g, 10));
    for (auto round : rounds) {
        std::sort(round.begin(), round.end());
        for (long i = 0; i < 10; i++) CHECK(round[i] == i);
    }
    CHECK(rounds[0] != rounds[1]);
    CHECK(rounds[1] != rounds[2]);
    CHECK(b.at(seeded(1), 17, 10) == rounds[1][7]);      // from the middle
}

// Worst measured: float 7.0e-7, double 1.1e-15.
TEST_CASE("packed: gradients are the sum of those of the documents alone") {
    const Folder folder;
    const std::vector<Prompted> documents =
        read_outputs(file_of(folder, some_texts(12), false), words(), 64, Lines::all).train;
    for (const char *preset : {"llm-nano", "v3-nano"}) {
        Model m = random_model(nano(preset));
        const auto gradients = [&](const std::vector<Examples> &parts) {
            visit(m, [](const std::string &, Tensor &w, const Spec &) { zero_grad(w); });
            for (const Batch &b : make_batches(parts, m.c)) {
                const TapeGuard clear;
                backward(language_modelling(m, b).total);
            }
            std::map<std::string, std::vector<double>> all;
            visit(m, [&](const std::string &name, Tensor &w, const Spec &) {
                if (w.s->wants_grad) all[name] = Numbers(gradient(w)).v;
            });
            return all;
        };
        std::vector<Examples> alone;
        for (const Prompted &d : documents) alone.push_back(examples(packed({d}, 64)));
        const auto expected = gradients(alone), got = gradients({examples(packed(documents, 64))});
        double worst = 0;
        for (const auto &[name, g] : expected) worst = std::max(worst, relative_error(got.at(name), g));
        INFO(preset, ": worst relative error of a weight's gradient ", worst);
        CHECK(worst < (in_double ? 1e-13 : 1e-5));
    }
}

namespace {
TrainOptions options(const std::string &objective, const std::string &file) {
    TrainOptions o;
    o.objective = objective;
    o.data = file;
    o.batch = 4;
    o.steps = 12;
    o.lr = 2e-3;
    o.schedule = "constant";
    o.warmup = 0;
    o.length = "none";
    o.beta = 0.1;
    return o;
}
struct Under {                                           // a training under test
    std::unique_ptr<Source> source;
    Training t;
    Under(const TrainOptions &o, const Config &c = nano(), uint64_t seed = 5)
        : source((o.objective == "dpo" ? source_of_pairs : source_of_corpus)(o, c, Tokenizer(words()))),
          t(o, random_model(c, seed)) {
        source->begin(t);
    }
    StepReport step() { return source->step(t, {}); }
};
Lessons lessons_of(const std::vector<Prompted> &lines) {
    Lessons list;
    for (const Prompted &p : lines)
        for (const auto &ids : p.outputs) list.push_back({.prompt = p.prompt, .ids = ids});
    return list;
}
}  // namespace

// Two sums of the same 500 numbers: measured 1.2e-7.
TEST_CASE("sft: the loss of a file is Math (6) of its outputs, each token with the same share") {
    const Folder folder;
    const std::string file = file_of(folder, some_texts(15), false);
    const std::vector<Prompted> documents = read_outputs(file, words(), 64, Lines::all).train;
    TrainOptions o = options("sft", file);
    Shuffled shuffled;
    std::vector<Prompted> mixed;
    for (long i = 0; i < 15; i++) mixed.push_back(documents[shuffled.at(o.seed, i, 15)]);
    o.batch = (int)packed(mixed, 64).size();             // all of them in one step
    Under run(o);
    CHECK(run.source->introduction(run.t).find(", 12 times the ") != std::string::npos);
    NoGrad off;
    const Experience e = experience(lessons_of(documents), nano().V);
    const double expected = item(sft(fixed_logp(run.t.policy.model, e), e.mask, {.by = Length::token}));
    CHECK(run.step().loss == doctest::Approx(expected).epsilon(1e-6));
}

// ------------------------------------------------------------------------------------------------- [3] pairs
namespace {
// log pi(o | q), token by token, one sequence at a time.
double log_likelihood(const Model &m, const std::string &prompt, const std::string &output) {
    NoGrad off;
    const std::vector<int> begin = words().encode(prompt), end = with_end(output);
    std::vector<int> all = begin;
    all.insert(all.end(), end.begin(), end.end());
    const Batch b = make_batch(examples({all}), 0);
    const Numbers y(logp(trunk(m, b.reading[0].step), m.output_head(), b.reading[0].next).logp);
    double sum = 0;
    for (size_t t = begin.size(); t < all.size(); t++) sum += y.v[t - 1];
    return sum;
}
}  // namespace

TEST_CASE(
    "dpo: begins at the reference, margin 0 and loss log 2; then the chosen outputs gain on the rejected") {
    const Folder folder;
    const std::vector<Texts> texts = some_texts(8);
    for (const char *length : {"none", "sequence"}) {
        TrainOptions o = options("dpo", file_of(folder, texts, true));
        o.length = length;
        o.batch = 8;
        o.beta = std::string(length) == "none" ? 0.1 : 1;
        Under run(o);
        Model before = clone(run.t.policy.model);
        StepReport r = run.step();
        CHECK(r.term("margin", NAN) == 0);
        CHECK(r.term("accuracy", NAN) == 0.5);
        CHECK(r.term("distance", NAN) == 0);
        CHECK(r.loss == doctest::Approx(std::log(2.0)).epsilon(1e-6));
        for (int step = 1; step < 11; step++) run.step();
        double margin = 0, loss = 0, chosen = 0, rejected = 0, preferred = 0;
        for (const Texts &t : texts) {
            const double n[2] = {t.chosen.size() + 1.0, t.rejected.size() + 1.0};
            const double now[2] = {log_likelihood(run.t.policy.model, t.prompt, t.chosen),
                                   log_likelihood(run.t.policy.model, t.prompt, t.rejected)};
            double m = 0;
            for (int i : {0, 1}) {
                const std::string &text = i ? t.rejected : t.chosen;
                const double ratio = now[i] - log_likelihood(before, t.prompt, text);
                m += (i ? -1 : 1) * o.beta * (o.length == "none" ? ratio : ratio / n[i]);
            }
            margin += m / 8, loss += std::log1p(std::exp(-m)) / 8, preferred += (m > 0) / 8.0;
            chosen += now[0] / 8, rejected += now[1] / 8;
        }
        r = run.step();
        INFO(length, ": margin ", margin, ", loss ", loss);
        CHECK(margin > 0.1);
        CHECK(r.term("margin") == doctest::Approx(margin).epsilon(1e-4));
        CHECK(r.term("accuracy") == doctest::Approx(preferred));
        CHECK(r.term("logp_chosen") == doctest::Approx(chosen).epsilon(1e-5));
        CHECK(r.term("logp_rejected") == doctest::Approx(rejected).epsilon(1e-5));
        CHECK(r.loss == doctest::Approx(loss).epsilon(1e-4));
    }
}

TEST_CASE("dpo: micro-batches of pairs add up to the whole batch") {
    const Folder folder;
    const std::string file = file_of(folder, some_texts(8), true);
    TrainOptions whole = options("dpo", file), parts = whole;
    whole.batch = 8, parts.batch = 2, parts.accumulate = 4;
    for (const char *preset : {"llm-nano", "v3-nano"}) {
        Under a(whole, nano(preset)), b(parts, nano(preset));
        for (int step = 0; step < 3; step++) {
            const StepReport x = a.step(), y = b.step();
            CHECK(x.loss == doctest::Approx(y.loss).epsilon(1e-5));
            CHECK(x.gradient_norm == doctest::Approx(y.gradient_norm).epsilon(1e-4));
            CHECK(x.term("margin") == doctest::Approx(y.term("margin")).epsilon(1e-3));
        }
    }
}

TEST_CASE("dpo: held out, the pairs are measured as in training") {
    const Folder folder;
    std::vector<Texts> texts = some_texts(40);
    TrainOptions o = options("dpo", file_of(folder, texts, true));
    Under run(o);
    for (int step = 0; step < 5; step++) run.step();
    const Source::HeldOut got = run.source->evaluate(run.t.policy.model, {});
    double margin = 0;
    for (int i : {38, 39})
        for (const Model *m : {&run.t.policy.model, &*run.t.reference})
            margin += (m == &*run.t.reference ? -0.5 : 0.5) * o.beta *
                      (log_likelihood(*m, texts[i].prompt, texts[i].chosen) -
                       log_likelihood(*m, texts[i].prompt, texts[i].rejected));
    REQUIRE(got.columns.size() == 3);
    CHECK(got.columns[1].second == doctest::Approx(margin).epsilon(1e-3));
    CHECK(got.columns[0].second > 0);
}

TEST_CASE("outputs: a run that stops goes on as if it had not, reference and order of the lines included") {
    const Folder folder;
    for (const char *objective : {"sft", "dpo"}) {
        const std::string file = file_of(folder, some_texts(40), std::string(objective) == "dpo");
        const TrainOptions o = options(objective, file);
        Under whole(o), first(o), second(o, nano(), 77);  // other weights: everything must come from the file
        for (int step = 0; step < 12; step++) whole.step();
        for (int step = 0; step < 5; step++) first.step();
        first.t.save(folder / objective);
        second.t.resume(folder / objective);
        StepReport r;
        for (int step = 5; step < 12; step++) r = second.step();
        for (size_t i = 0; i < whole.t.policy.optimiser.entries.size(); i++)
            CHECK(same_bits(whole.t.policy.optimiser.entries[i].W, second.t.policy.optimiser.entries[i].W));
        if (whole.t.reference) CHECK(same_bits(whole.t.reference->Emb, second.t.reference->Emb));
    }
}

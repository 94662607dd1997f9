// run.cpp: the verb `train`: from options to a run that can be watched, interrupted and resumed.
//
//   [1] which options, which weights   [2] where its data come from   [3] its logs   [4] the loop
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <omp.h>
#include <optional>

#include "src/base/files.h"
#include "src/base/folder.h"
#include "src/base/progress.h"
#include "src/base/text.h"
#include "src/base/random.h"
#include "src/model/config.h"
#include "src/model/huggingface.h"
#include "src/text/corpus.h"
#include "src/text/games.h"
#include "src/text/outputs.h"
#include "src/text/tokenizer.h"
#include "src/train/training.h"

namespace fs = std::filesystem;

// ------------------------------------------------------------------------- [1] which options, which weights
// A path as it is kept: from the root, so that a run goes on from any folder. Names like `stories` stay.
static std::string settled(const TrainOption &option, const TrainOptions &o) {
    const std::string value = option.get(o);
    const bool name =
        option.kind != TrainOption::path || std::count(option.choices.begin(), option.choices.end(), value);
    return name || value.empty() || !fs::exists(value) ? value : fs::weakly_canonical(value).string();
}

static TrainOptions with_settled_paths(TrainOptions o) {
    for (const TrainOption &option : train_options()) option.set(o, settled(option, o));
    return o;
}

// The options of the run in --out, and of those given now what may change.
static TrainOptions resumed_options(const TrainOptions &now, const std::vector<std::string> &given,
                                    const SavedRun &run) {
    TrainOptions o = run.options;
    std::string differing;
    for (const TrainOption &option : train_options()) {
        const bool is_given = std::count(given.begin(), given.end(), option.name);
        const std::string value = settled(option, now);
        if (option.when == TrainOption::free || (option.when == TrainOption::remembered && is_given)) {
            option.set(o, value);
        } else if (is_given && value != option.get(o)) {
            differing += cat(differing.empty() ? "" : ", ", "--", option.name, " ", value, " (the run has ",
                             option.get(o).empty() ? "none" : option.get(o), ")");
        }
    }
    if (!differing.empty())
        fail("--resume: other options than those of the run in " + now.out + ": " + differing,
             "leave them out: a run goes on with its own options");
    return o;
}

std::string tokenizer_of(const TrainOptions &o) {        // weights and the tokens they know belong together
    if (!o.tokenizer.empty()) return o.tokenizer;
    return !o.init.empty() && fs::exists(o.init + "/tokenizer.json") ? o.init : "bytes";
}

static std::string joined(const std::vector<std::string> &names) {
    std::string text;
    for (size_t i = 0; i < names.size() && i < 6; i++) text += (i ? ", " : "") + names[i];
    return names.size() > 6 ? cat(text, ", ... (", names.size(), ")") : text;
}

// The weights of --init under the names that both have; a component switched on by --set is new.
static Model adopted_model(const TrainOptions &o, const Config &c, Model &from) {
    Model m = initialised(c, o.seed);
    Adopted a;
    try {
        a = adopt(m, from);
    } catch (const Error &e) {
        fail(cat("--init ", o.init, ": ", e.what()), e.hint);
    }
    if (a.fresh.empty() && a.left_behind.empty()) return m;
    std::cout << "from " << o.init << ": " << a.taken << " weights";
    if (!a.fresh.empty()) std::cout << "; new: " << joined(a.fresh);
    if (!a.left_behind.empty()) std::cout << "; left behind: " << joined(a.left_behind);
    std::cout << "\n";
    return m;
}

static Model starting_model(const TrainOptions &o, const Tokenizer &tokenizer) {
    std::optional<Model> from;
    Config c;
    if (!o.init.empty()) {
        from = load_model(o.init);
        c = from->c;
    } else {
        c = load_preset(o.preset);
        if (o.tokens.empty()) {                                          // unless --set says more
            c.V = tokenizer.size();
            c.bos = tokenizer.begin.empty() ? -1 : tokenizer.begin[0];   // only what training will see
            c.eos = tokenizer.eos;
        }
    }
    for (const std::string &field : o.set) set_field(c, field);
    expect(!o.tokens.empty() || tokenizer.size() <= c.V, "the tokenizer has ", tokenizer.size(),
           " tokens, the model's vocabulary only ", c.V);
    validate(c);
    if (const std::string idle = without_effect(c, o.set); !idle.empty())
        std::cout << "--set: " << idle << "\n";
    expect_memory_for(c, 4);
    return from ? adopted_model(o, c, *from) : initialised(c, o.seed);
}

// ---------------------------------------------------------------------------- [2] where its data come from
namespace {
class FromCorpus : public Source {
public:
    FromCorpus(const TrainOptions &, const Config &, Tokenizer &&);
    const Tokenizer &tokenizer() const override { return words; }
    std::string mark() const override;
    std::string introduction(const Training &) const override;
    double tokens_at_once() const override { return (double)batch * longest(); }
    StepReport step(Training &t, const std::function<void()> &sound) override;
    Columns terms(const StepReport &) const override;
    std::string shown(const StepReport &) const override;
    std::vector<std::string> held_out_columns() const override;
    HeldOut evaluate(const Model &, const std::function<void(long)> &progress) const override;

private:
    std::string name;
    Tokenizer words;
    Corpus corpus;
    Examples fixed;                  // in place of a corpus: read again and again
    bool in_turn = true;             // or shuffled anew each time
    mutable Shuffled shuffled;
    std::string about;               // a file of outputs
    int batch, T, eos;
    bool apart;                      // documents do not see each other
    std::vector<Examples> held_out;
    std::optional<Model> teacher;    // of distillation
    Distill how;

    void read_tokens(const TrainOptions &, int V);
    void read_outputs(const TrainOptions &);
    Examples read(long position);
    const Example &at(long position) const;              // of what is fixed
    long tokens() const;             // of the training part; 0: it has no end
    double tokens(long position, double sequences) const;            // of the next so many
    int longest() const;
};
}  // namespace

static Model teacher_of(const TrainOptions &o, const Config &student) {
    expect(!o.teacher.empty(), "--objective distill: --teacher is needed");
    Model m = load_model(o.teacher);
    expect(m.c.V == student.V, "--teacher ", o.teacher, ": a vocabulary of ", m.c.V, ", the student's has ",
           student.V);
    expect(m.c.context >= (o.context ? o.context : student.context), "--teacher ", o.teacher,
           ": its context of ", m.c.context, " is shorter than the sequences");
    return m;
}

FromCorpus::FromCorpus(const TrainOptions &o, const Config &c, Tokenizer &&tokenizer)
    : name(o.tokens.empty() ? o.data : o.tokens), words(std::move(tokenizer)), batch(o.batch),
      T(o.context ? o.context : c.context), apart(o.documents == "apart") {
    how.kl = o.divergence == "forward" ? Direction::forward : Direction::reverse;
    how.divisor.by = Length::token;
    if (o.objective == "distill") teacher = teacher_of(o, c);
    words.set_boundary(c.bos, c.eos);
    eos = words.eos.empty() ? -1 : words.eos[0];
    expect(T <= c.context, "--context ", T, ": the model's longest sequence is ", c.context);
    expect(!apart || eos >= 0, "--documents apart: the model has no token that ends a document");
    if (!o.tokens.empty()) {
        read_tokens(o, c.V);
    } else if (o.objective == "rft" || (o.objective == "sft" && !load_game(o.data))) {
        read_outputs(o);
    } else {
        corpus = load_corpus(o.data, words, o.seed);
        held_out = held_out_examples(corpus, batch, T, 16ul * batch);
    }
}

void FromCorpus::read_tokens(const TrainOptions &o, int V) {
    fixed = examples(read_sequences(o.tokens, V));
    for (const Example &e : fixed)
        expect((int)e.ids.size() <= T + 1, "--tokens: a sequence of ", e.ids.size(),
               " is longer than the context of ", T);
}

// Outputs with a weight of 1 and prompts with none: language modelling is then SFT, each token of the step's
// outputs with the same share.                                                                       Math (6)
void FromCorpus::read_outputs(const TrainOptions &o) {
    const bool right = o.objective == "rft";
    const OutputFile file = ::read_outputs(o.data, words, T, right ? Lines::rewarded : Lines::all);
    const long n = (long)file.train.size();
    std::vector<Prompted> mixed;                         // outputs of a question do not share a sequence
    for (long i = 0; i < n; i++) mixed.push_back(file.train[shuffled.at(o.seed, i, n)]);
    fixed = examples(packed(mixed, T));
    in_turn = false;
    corpus.seed = o.seed;
    corpus.valid_bytes_per_token = NAN;
    Examples valid = examples(packed(file.held_out, T));
    valid.resize(std::min<size_t>(valid.size(), 16ul * batch));
    held_out = in_batches(valid, batch);
    about = cat("; ", file.lines, " outputs, ",
                right ? cat(file.wrong, " not right, ", file.twice, " twice, ") : "", file.held_out.size(),
                " held out");
}

StepReport FromCorpus::step(Training &t, const std::function<void()> &sound) {
    const auto window = [&](long position) { return read(position); };
    if (!teacher) return t.train_step(window, sound);
    return t.train_step(window, sound, [&](const Batch &b, Aux *aux) {
        return distillation(t.policy.model, *teacher, b, how, aux);
    });
}

std::unique_ptr<Source> source_of_corpus(const TrainOptions &o, const Config &c, Tokenizer &&tokenizer) {
    return std::make_unique<FromCorpus>(o, c, std::move(tokenizer));
}

Examples FromCorpus::read(long position) {
    if (fixed.empty()) {
        Examples list = examples(corpus, words, position, batch, T);
        for (Example &e : list)
            for (size_t i = 0; apart && i + 1 < e.ids.size(); i++)
                if (e.ids[i] == eos) e.starts.push_back((int)i + 1);
        return list;
    }
    Examples b;
    for (int i = 0; i < batch; i++) b.push_back(at(position + i));
    return b;
}

const Example &FromCorpus::at(long position) const {
    const long n = (long)fixed.size();
    return fixed[in_turn ? position % n : shuffled.at(corpus.seed, position, n)];
}

long FromCorpus::tokens() const {
    long n = 0;
    for (const Example &e : fixed) n += (long)e.ids.size() - 1;
    return fixed.empty() && corpus.next_story < 0 ? (long)corpus.train.size() : n;
}

double FromCorpus::tokens(long position, double sequences) const {
    if (fixed.empty()) return sequences * T;
    const double rounds = std::floor(sequences / fixed.size());
    double n = rounds * tokens();
    for (long i = 0; i < sequences - rounds * fixed.size(); i++) n += at(position + i).ids.size() - 1.0;
    return n;
}

int FromCorpus::longest() const {
    size_t most = 0;
    for (const Example &e : fixed) most = std::max(most, e.ids.size() - 1);
    return fixed.empty() ? T : (int)most;
}

// What tells these data from others: how many tokens there are, and a hash of some all over them.
std::string FromCorpus::mark() const {
    std::string some;
    const auto add = [&](const std::vector<int> &ids) {
        some.append((const char *)ids.data(), 4 * ids.size());
    };
    for (const Example &e : fixed) add(e.ids);
    for (int i = 0; corpus.game && i < 8; i++) add(corpus.game->sample(corpus.seed, i, T).ids);
    for (const Tokens *part : {&corpus.train, &corpus.valid})
        for (size_t i = 0; i < 256 && i < part->size(); i++) add(part->read(i * (part->size() - 1) / 256, 1));
    return cat(fixed.empty() ? corpus.train.size() + corpus.valid.size() : tokens(), " ", hash_of(some));
}

std::string FromCorpus::introduction(const Training &t) const {
    const double read = tokens(t.position, (double)(t.o.steps - t.step) * t.o.accumulate * batch);
    return cat(name, ": ", in_units(read), " tokens in ", t.o.steps - t.step, " steps",
               corpus.game ? cat(", a vocabulary of ", words.size()) : "",
               tokens() ? cat(", ", std::setprecision(3), read / tokens(), " times the ", in_units(tokens()),
                              " there are")
                        : "",
               about);
}

Columns FromCorpus::terms(const StepReport &r) const {
    Columns list;
    for (const auto &[term, value] : r.terms)
        if (!term.starts_with("lm_")) list.push_back({term, value});
    for (const std::string &kind : corpus.kinds()) list.push_back({"lm_" + kind, r.term("lm_" + kind, NAN)});
    return list;
}

std::string FromCorpus::shown(const StepReport &r) const {
    const std::string lm = cat(" (lm ", std::fixed, std::setprecision(3), r.term("lm"), ")");
    return cat(std::fixed, std::setprecision(3), teacher ? "divergence " : "loss ", r.loss,
               r.terms.size() > 1 && !teacher ? lm : "");
}

std::vector<std::string> FromCorpus::held_out_columns() const {
    std::vector<std::string> names = {"valid_nats", "valid_bits_per_byte"};
    for (const std::string &kind : corpus.kinds()) {
        names.push_back("valid_" + kind);
        names.push_back("valid_" + kind + "_right");
    }
    return names;
}

Source::HeldOut FromCorpus::evaluate(const Model &m, const std::function<void(long)> &progress) const {
    if (held_out.empty()) return {};
    const Evaluation e = ::evaluate(m, held_out, progress);
    const double bits = e.nats / std::log(2.0) / corpus.valid_bytes_per_token;
    Columns columns = {{"valid_nats", e.nats}, {"valid_bits_per_byte", bits}};
    for (const std::string &kind : corpus.kinds()) {
        const Evaluation::OfKind *k = e.kind(kind);
        columns.push_back({"valid_" + kind, k ? k->nats : NAN});
        columns.push_back({"valid_" + kind + "_right", k ? k->right : NAN});
    }
    const std::string in_bits = cat(std::fixed, std::setprecision(3), ", ", bits, " bits per byte");
    return {columns, e.shown() + (std::isnan(bits) ? "" : in_bits)};
}

// ------------------------------------------------------------------------------------------- [3] its logs
namespace {
// A CSV whose first column is the step. What a resumed run had written after its
// checkpoint comes again: so it is cut.
class Log {
public:
    Log(const std::string &path, const std::string &begin, long steps_done) : path(path) {
        std::vector<std::string> keep;
        std::ifstream old(path);
        for (std::string line; std::getline(old, line);)
            if (keep.empty() || std::atol(line.c_str()) <= steps_done) keep.push_back(line);
        if (!keep.empty() && !keep[0].starts_with(begin))
            fail(path + ": is no log of a run, and would be overwritten", "choose another --out, or move it");
        expect(std::ofstream(path, std::ios::app).good(), path, ": cannot be written");
        if (keep.empty() || !steps_done) return;
        head = keep[0];
        file.open(path);
        for (const std::string &line : keep) file << line << "\n";
        file.flush();
    }
    void row(const std::string &columns, const std::string &values) {
        if (!file.is_open()) {
            head = columns;
            file.open(path);
            file << head << "\n";
        }
        expect(head == columns, path, ": has other columns than this run");
        file << values << std::endl;
        expect(file.good(), path, ": cannot be written");
    }

private:
    std::string path, head;
    std::ofstream file;
};

struct Logs {
    Log metrics, expert_load;
    Logs(const std::string &folder, long steps_done)
        : metrics(folder + "/metrics.csv", "step,loss", steps_done),
          expert_load(folder + "/expert_load.csv", "step,router", steps_done) {}
};
}  // namespace

// The same columns in every step: what is not known there is empty.
static void write_metrics(Log &log, long step, const StepReport &r, double tokens_per_s, const Columns &terms,
                          const Columns &held_out) {
    std::ostringstream head, row;
    head << "step,loss,tokens_per_s";
    row << step << std::setprecision(9) << "," << r.loss << "," << std::lround(tokens_per_s);
    const auto add = [&](const Columns &columns) {
        for (const auto &[name, value] : columns) {
            head << "," << name;
            row << ",";
            if (!std::isnan(value)) row << value;
        }
    };
    add(terms);
    add({{"lr", r.lr}, {"gradient_norm", r.gradient_norm}, {"max_vio", r.max_vio}});
    add(held_out);
    log.row(head.str(), row.str());
}

// How many tokens each expert got in this step, a row a router.
static void write_load(Log &log, long step, const std::vector<std::vector<int>> &load) {
    for (size_t l = 0; l < load.size(); l++) {
        std::string row = cat(step, ",", l);
        for (int n : load[l]) row += cat(",", n);
        log.row("step,router,tokens of expert 0,1,2,...", row);
    }
}

// ------------------------------------------------------------------------------------------- [4] the loop
static bool has_model(const std::string &folder) {
    for (const char *file : {"model.safetensors", "config.json", "tokenizer.json"})
        if (!fs::exists(folder + "/" + file)) return false;
    return true;
}

namespace {
class Run {
public:
    Run(const TrainOptions &o, Training &t, Source &source, std::optional<Logs> &logs)
        : o(o), t(t), source(source), logs(logs), progress(t.step, o.steps) {
        if (o.resume && has_model(o.out)) saved_step = t.step;
    }
    int loop();
    void introduce(long frozen);

private:
    const TrainOptions &o;
    Training &t;
    Source &source;
    std::optional<Logs> &logs;
    Progress progress;
    long saved_step = -1;
    bool due = false;                                    // to be saved, once the next gradient is finite
    double saved_at = 0, saving = 0, spent = 0;
    long tokens = 0;

    void step();
    void save();
    void save_if_possible();
    Columns evaluated(const StepReport &);
    bool evaluation_due() const;
};
}  // namespace

void Run::introduce(long frozen) {
    const Config &c = t.policy.model.c;
    const Census n = census(c);
    progress.say(cat(c.name, ": ", in_units(n.total), " parameters, ", in_units(n.activated), " activated",
                     n.mtp ? cat(", ", in_units(n.mtp), " more of MTP") : "",
                     frozen ? cat(", ", in_units(frozen), " frozen") : "", "; ", device->name, ", ",
                     omp_get_max_threads(), omp_get_max_threads() == 1 ? " thread" : " threads"));
    progress.say(source.introduction(t));
    progress.say(o.out.empty() ? "NOT saved: no --out" : "saved in " + o.out);
}

void Run::save() {
    due = false;
    if (o.out.empty() || saved_step == t.step) return;
    const double before = progress.seconds();
    source.tokenizer().save(o.out);
    t.save(o.out);
    saved_step = t.step;
    saved_at = progress.seconds();
    saving += saved_at - before;
}

bool Run::evaluation_due() const {
    const long every = o.eval_every ? o.eval_every : std::max(1l, o.steps / 5);
    return t.step % every == 0 || t.step == o.steps;
}

Columns Run::evaluated(const StepReport &r) {
    Columns unknown;
    for (const std::string &name : source.held_out_columns()) unknown.push_back({name, NAN});
    if (unknown.empty() || !evaluation_due()) return unknown;
    Source::HeldOut valid;
    try {
        valid = source.evaluate(t.policy.model, [](long) {
            if (interrupted) throw Interrupted();
        });
    } catch (const Interrupted &) {
        return unknown;
    }
    if (valid.columns.empty()) return unknown;
    if (!std::isfinite(valid.columns[0].second))
        throw Diverged(
            cat("after step ", t.step, " ", valid.columns[0].first, " is ", valid.columns[0].second));
    progress.say(
        cat("step ", t.step, "  held out: ", valid.shown,
            r.load.empty() ? "" : cat("  (MaxVio ", std::fixed, std::setprecision(3), r.max_vio, ")")));
    if (t.step == o.steps)
        for (const std::string &name : t.policy.optimiser.untouched())
            progress.say(name + ": no gradient has reached it in the whole run");
    return valid.columns;
}

void Run::step() {
    const double before = progress.seconds(), saving_before = saving;
    const auto sound = [&] { save(); };
    const StepReport r = source.step(t, due ? sound : std::function<void()>());
    const double took = progress.seconds() - before - (saving - saving_before);
    spent += took;
    tokens += r.tokens;
    for (const std::string &line : r.said) progress.say(line);
    const Columns valid = evaluated(r);
    if (logs) {
        write_metrics(logs->metrics, t.step, r, r.tokens / took, source.terms(r), valid);
        if (!valid.empty() && !std::isnan(valid[0].second)) write_load(logs->expert_load, t.step, r.load);
    }
    progress.update(t.step, cat(source.shown(r), std::fixed, std::setprecision(1), "  ",
                                tokens / spent / 1000, "k tokens/s"));
}

// An error of something else than numbers: the weights are worth keeping, and what went wrong is to be told.
void Run::save_if_possible() {
    try {
        save();
    } catch (const std::exception &) {
        return;
    }
}

// Finite weights need not be good ones: a step that ruined them is known by the next. So a checkpoint waits
// for the next gradient, and where that is not finite, the one before stays.
int Run::loop() {
    const long first = t.step;
    while (t.step < o.steps && !interrupted) {
        try {
            step();
        } catch (const Diverged &e) {
            throw Diverged(
                e.what(), saved_step < 0 ? e.hint : cat(e.hint, ": --resume goes on from step ", saved_step));
        } catch (...) {
            if (t.step > first) save_if_possible();
            throw;
        }
        const bool minutes = !o.save_every && progress.seconds() - saved_at > 300;
        due |= minutes || (o.save_every && t.step % o.save_every == 0);
    }
    save();
    if (t.step == first && o.resume && !interrupted)
        progress.say(cat("nothing to do: ", o.out, " is at step ", t.step, " of ", o.steps));
    else if (interrupted)
        progress.say(cat("stopped after step ", t.step, o.out.empty() ? "" : "; --resume goes on from here"));
    else if (!o.out.empty()) progress.say(cat("the model is in ", o.out));
    return interrupted ? 130 : 0;
}

static void expect_no_run(const std::string &out) {
    for (const char *file : {"training.safetensors", "model.safetensors", "config.json"})
        if (fs::exists(out + "/" + file))
            fail("--out " + out + ": a run is already there (" + file + ")",
                 "--resume goes on with it; another --out starts a new one");
}

// A folder may be there, and a tokenizer in it: but it must be that of the run.
static void expect_no_other_tokenizer(const std::string &out, const Tokenizer &tokenizer) {
    const std::string file = out + "/tokenizer.json";
    if (exists(file) && read_text(file, 1l << 30) != tokenizer.to_json())
        fail(file + ": is another tokenizer than that of the run, and would be overwritten",
             "--tokenizer trains with it; another --out leaves it alone");
}

static void announce_changes(const SavedRun &then, const Training &t) {
    std::string changes;
    for (const TrainOption &option : train_options())
        if (option.when == TrainOption::remembered && option.get(then.options) != option.get(t.o))
            changes += cat("--", option.name, " ", option.get(t.o), ": the run was of ",
                           option.get(then.options), "; ");
    if (!changes.empty())
        std::cout << changes << "the learning rate of step " << t.step + 1 << " is "
                  << learning_rate(t.o, t.step) << " instead of " << learning_rate(then.options, t.step)
                  << "\n";
    if (!then.data.empty() && then.data != t.data)
        std::cout << (t.o.tokens.empty() ? t.o.data : t.o.tokens)
                  << ": is not what the run has read so far; it goes on with what is there now\n";
}

// All that a run writes.
static const std::vector<std::string> files_of_a_run = {
    "training.safetensors", "model.safetensors",     "config.json", "generation_config.json",
    "tokenizer.json",       "tokenizer_config.json", "metrics.csv", "expert_load.csv",
    "samples.jsonl"};

static void expect_something_trained(const Config &c, long frozen) {
    const Census n = census(c);
    expect(frozen < n.total + n.mtp, "--freeze: all weights are frozen, so nothing is trained");
}

// A run goes on with its own. A game has one, too; a policy that is asked questions keeps what it has.
static Tokenizer tokenizer_of_run(const TrainOptions &o, bool resumed) {
    if (resumed && fs::exists(o.out + "/tokenizer.json")) return load_tokenizer(o.out);
    const bool asked = asks(o);
    expect(!asked || !o.task.empty(), "--objective ", o.objective, ": --task is needed");
    const auto game = o.tokens.empty() ? load_game(asked ? o.task : o.data) : nullptr;
    const std::string named = tokenizer_of(o);
    if (!game || (asked && named != "bytes")) return load_tokenizer(named);
    expect(o.tokenizer.empty(), "--tokenizer ", o.tokenizer, ": ", asked ? o.task : o.data,
           " is no text and has a vocabulary of its own");
    return game->tokenizer();
}

int train(const TrainOptions &asked, const std::vector<std::string> &given, const MakeSource &make_source) {
    expect(!asked.resume || !asked.out.empty(), "--resume needs --out, the run to go on with");
    if (!asked.resume && !asked.out.empty()) expect_no_run(asked.out);
    std::optional<OwnFolder> folder;
    std::optional<SavedRun> run;
    if (asked.resume) run = saved_run(asked.out);
    const TrainOptions o = run ? resumed_options(asked, given, *run) : with_settled_paths(asked);
    expect(!run || o.steps >= run->step, "--steps ", o.steps, ": ", o.out, " is at step ", run->step,
           " already");
    if (!o.out.empty()) folder.emplace(o.out, files_of_a_run);

    Tokenizer tokenizer = tokenizer_of_run(o, run.has_value());
    expect(!run || !o.tokens.empty() || tokenizer.size() <= run->config.V, o.out, ": its tokenizer has ",
           tokenizer.size(), " tokens, its model's vocabulary only ", run->config.V);
    if (run) expect_memory_for(run->config, 4);
    Model model = run ? build(run->config) : starting_model(o, tokenizer);
    const std::unique_ptr<Source> source = make_source(o, model.c, std::move(tokenizer));
    if (!run && !o.out.empty()) expect_no_other_tokenizer(o.out, source->tokenizer());
    expect_memory_for(model.c, 4, source->tokens_at_once());
    const long frozen = freeze(model, o.freeze);
    expect_something_trained(model.c, frozen);
    if (!o.out.empty()) expect_savable(model);
    Training t(o, std::move(model));
    t.data = source->mark();
    source->begin(t);
    const CatchInterrupt stop("\nfinishing this step; Ctrl-C again ends at once\n");
    if (run) {
        t.resume(o.out);
        announce_changes(*run, t);
    }
    std::optional<Logs> logs;
    if (!o.out.empty()) logs.emplace(o.out, t.step);
    Run loop(o, t, *source, logs);
    loop.introduce(frozen);
    return loop.loop();
}

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

#include "src/base/folder.h"
#include "src/base/progress.h"
#include "src/model/config.h"
#include "src/model/huggingface.h"
#include "src/text/corpus.h"
#include "src/text/tokenizer.h"
#include "src/train/training.h"

namespace fs = std::filesystem;

// ------------------------------------------------------------------------- [1] which options, which weights
static bool is_path(const TrainOption &option) {
    for (const char *name : {"preset", "init", "data", "tokens", "tokenizer"})
        if (std::string(name) == option.name) return true;
    return false;
}

// A path as it is kept: from the root, so that a run goes on from any folder. Names like `stories` stay.
static std::string settled(const std::string &value) {
    return !value.empty() && fs::exists(value) ? fs::weakly_canonical(value).string() : value;
}

static TrainOptions with_settled_paths(TrainOptions o) {
    for (const TrainOption &option : train_options())
        if (is_path(option)) option.set(o, settled(option.get(o)));
    return o;
}

// The options of the run in --out, and of those given now what may change.
static TrainOptions resumed_options(const TrainOptions &now, const std::vector<std::string> &given,
                                    const SavedRun &run) {
    TrainOptions o = run.options;
    std::string differing;
    for (const TrainOption &option : train_options()) {
        const bool is_given = std::count(given.begin(), given.end(), option.name);
        const std::string value = is_path(option) ? settled(option.get(now)) : option.get(now);
        if (option.when == TrainOption::free) {
            if (is_given || std::string(option.name) != "steps") option.set(o, option.get(now));
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

static void expect_memory_for(const Config &c) {
    const double needed = 4.0 * sizeof(real) * census(c).total;           // weight, gradient, two moments
    const double memory = (double)device->memory();
    if (needed > memory)
        fail(cat(c.name, ": training needs memory of ", std::lround(needed / 1e9),
                 " GB for weights, gradients and moments; here are ", std::lround(memory / 1e9)),
             "`deepseek config` shows what a model costs");
}

static std::string joined(const std::vector<std::string> &names) {
    std::string text;
    for (size_t i = 0; i < names.size() && i < 6; i++) text += (i ? ", " : "") + names[i];
    return names.size() > 6 ? cat(text, ", ... (", names.size(), ")") : text;
}

// The weights of --init under the names that both have; a component switched on by --set is new.
static Model adopted_model(const TrainOptions &o, const Config &c, Model &from) {
    Model m = initialised(c, o.seed);
    const Adopted a = adopt(m, from);
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
    expect_memory_for(c);
    return from ? adopted_model(o, c, *from) : initialised(c, o.seed);
}

// ---------------------------------------------------------------------------- [2] where its data come from
namespace {
struct Data {
    Tokenizer tokenizer;
    Corpus corpus;
    Sequences fixed;                 // --tokens: taken as they are, again and again
    int batch, T, eos;
    bool apart;                      // documents do not see each other
    Examples read(long position) {
        if (fixed.empty()) {
            Examples list = examples(windows(corpus, tokenizer, position, batch, T));
            for (Example &e : list)
                for (size_t i = 0; apart && i + 1 < e.ids.size(); i++)
                    if (e.ids[i] == eos) e.starts.push_back((int)i + 1);
            return list;
        }
        Sequences b;
        for (int i = 0; i < batch; i++) b.push_back(fixed[(position + i) % fixed.size()]);
        return examples(b);
    }
    long tokens() const {            // of the training part; 0: it has no end
        long n = 0;
        for (const auto &s : fixed) n += (long)s.size();
        return fixed.empty() && corpus.next_story < 0 ? (long)corpus.train.size() : n;
    }
};
}  // namespace

static Data open_data(const TrainOptions &o, const Config &c, Tokenizer &&tokenizer) {
    tokenizer.set_boundary(c.bos, c.eos);
    const int eos = tokenizer.eos.empty() ? -1 : tokenizer.eos[0];
    Data d = {.tokenizer = std::move(tokenizer),
              .corpus = {},
              .fixed = {},
              .batch = o.batch,
              .T = o.context ? o.context : c.context,
              .eos = eos,
              .apart = o.documents == "apart"};
    expect(d.T >= 1 && d.T <= c.context, "--context ", d.T, ": the model's longest sequence is ", c.context);
    expect(!d.apart || eos >= 0, "--documents apart: the model has no token that ends a document");
    if (!o.tokens.empty()) {
        d.fixed = read_sequences(o.tokens, c.V);
        for (const auto &s : d.fixed)
            expect((int)s.size() <= c.context + 1, "--tokens: a sequence of ", s.size(),
                   " is longer than the context of ", c.context);
        return d;
    }
    d.corpus = load_corpus(o.data, d.tokenizer, o.seed);
    return d;
}

// ------------------------------------------------------------------------------------------- [3] its logs
namespace {
// A CSV whose first column is the step. What a resumed run had written after its
// checkpoint comes again: so it is cut.
class Log {
public:
    Log(const std::string &path, long steps_done) : path(path) {
        std::vector<std::string> keep;
        std::ifstream old(path);
        for (std::string line; steps_done && std::getline(old, line);)
            if (keep.empty() || std::atol(line.c_str()) <= steps_done) keep.push_back(line);
        if (keep.empty()) return;
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
        : metrics(folder + "/metrics.csv", steps_done), expert_load(folder + "/expert_load.csv", steps_done) {
    }
};

struct HeldOut { double nats, bits; };                   // per token, per byte
}  // namespace

static void write_metrics(Log &log, long step, const StepReport &r, double tokens_per_s,
                          const std::optional<HeldOut> &valid) {
    std::ostringstream head, row;
    head << "step,loss,tokens_per_s";
    row << step << std::setprecision(9) << "," << r.loss << "," << std::lround(tokens_per_s);
    for (const auto &[name, value] : r.terms) {
        head << "," << name;
        row << "," << value;
    }
    head << ",lr,gradient_norm,max_vio,valid_nats,valid_bits_per_byte";
    row << "," << r.lr << "," << r.gradient_norm << "," << r.max_vio << ",";
    if (valid) row << valid->nats << "," << valid->bits;
    else row << ",";
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
namespace {
class Run {
public:
    Run(const TrainOptions &o, Training &t, Data &data, std::optional<Logs> &logs)
        : o(o), t(t), data(data), logs(logs), progress(t.step, o.steps),
          held_out(examples(held_out_windows(data.corpus, data.batch, data.T, 16ul * data.batch))) {}
    int loop();
    void introduce(long frozen);

private:
    const TrainOptions &o;
    Training &t;
    Data &data;
    std::optional<Logs> &logs;
    Progress progress;
    std::vector<Examples> held_out;
    long saved_step = -1;
    double saved_at = 0, spent = 0;
    long tokens = 0;

    void step();
    void save();
    std::optional<HeldOut> evaluated(const StepReport &);
};
}  // namespace

static std::string in_units(double n) {
    return cat(std::setprecision(3),
               n < 1e6   ? n / 1e3
               : n < 1e9 ? n / 1e6
                         : n / 1e9,
               n < 1e6   ? "K"
               : n < 1e9 ? "M"
                         : "B");
}

void Run::introduce(long frozen) {
    const Config &c = t.policy.model.c;
    const Census n = census(c);
    const double read = (double)(o.steps - t.step) * o.accumulate * o.batch * data.T;
    progress.say(cat(c.name, ": ", in_units(n.total), " parameters, ", in_units(n.activated), " activated",
                     frozen ? cat(", ", in_units(frozen), " frozen") : "", "; ", device->name, ", ",
                     omp_get_max_threads(), omp_get_max_threads() == 1 ? " thread" : " threads"));
    progress.say(cat(o.tokens.empty() ? o.data : o.tokens, ": ", in_units(read), " tokens in ",
                     o.steps - t.step, " steps",
                     data.tokens() ? cat(", ", std::setprecision(3), read / data.tokens(), " times the ",
                                         in_units(data.tokens()), " there are")
                                   : ""));
    progress.say(o.out.empty() ? "NOT saved: no --out" : "saved in " + o.out);
}

void Run::save() {
    if (o.out.empty() || saved_step == t.step) return;
    data.tokenizer.save(o.out);
    t.save(o.out);
    saved_step = t.step;
    saved_at = progress.seconds();
}

std::optional<HeldOut> Run::evaluated(const StepReport &r) {
    const long every = o.eval_every ? o.eval_every : std::max(1l, o.steps / 5);
    if (held_out.empty() || (t.step % every != 0 && t.step != o.steps)) return {};
    const double nats = evaluate(t.policy.model, held_out);
    const HeldOut valid = {nats, nats / std::log(2.0) / data.corpus.valid_bytes_per_token};
    progress.say(
        cat("step ", t.step, std::fixed, std::setprecision(3), "  held out: ", nats, " nats per token, ",
            valid.bits, " bits per byte",
            r.load.empty() ? "" : cat("  (MaxVio ", std::fixed, std::setprecision(3), r.max_vio, ")")));
    if (t.step == o.steps)
        for (const std::string &name : t.policy.optimiser.untouched())
            progress.say(name + ": no gradient has reached it in the whole run");
    return valid;
}

void Run::step() {
    const double before = progress.seconds();
    const StepReport r = t.train_step([&](long position) { return data.read(position); });
    const double took = progress.seconds() - before;
    spent += took;
    tokens += r.tokens;
    const std::optional<HeldOut> valid = evaluated(r);
    if (logs) {
        write_metrics(logs->metrics, t.step, r, r.tokens / took, valid);
        if (valid) write_load(logs->expert_load, t.step, r.load);
    }
    const bool more = r.terms.size() > 1;
    progress.update(t.step, cat(std::fixed, std::setprecision(3), "loss ", r.loss,
                                more ? cat(" (lm ", std::fixed, std::setprecision(3), r.term("lm"), ")") : "",
                                std::setprecision(1), "  ", tokens / spent / 1000, "k tokens/s"));
}

int Run::loop() {
    const long first = t.step;
    saved_step = o.resume ? t.step : -1;
    while (t.step < o.steps && !interrupted) {
        try {
            step();
        } catch (...) {                                  // the weights are those before the step that failed
            if (t.step > first) save();
            throw;
        }
        const bool minutes = !o.save_every && progress.seconds() - saved_at > 300;
        if (minutes || (o.save_every && t.step % o.save_every == 0)) save();
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

static void announce_stretch(const TrainOptions &then, const TrainOptions &now, long step) {
    if (then.steps == now.steps) return;
    std::cout << "--steps " << now.steps << ": the run was of " << then.steps
              << "; the learning rate of step " << step + 1 << " is " << learning_rate(now, step)
              << " instead of " << learning_rate(then, step) << "\n";
}

int train(const TrainOptions &asked, const std::vector<std::string> &given) {
    expect(!asked.resume || !asked.out.empty(), "--resume needs --out, the run to go on with");
    if (!asked.resume && !asked.out.empty()) expect_no_run(asked.out);
    std::optional<OwnFolder> folder;
    std::optional<SavedRun> run;
    if (asked.resume) run = saved_run(asked.out);
    const TrainOptions o = run ? resumed_options(asked, given, *run) : with_settled_paths(asked);
    if (!o.out.empty()) folder.emplace(o.out);

    Tokenizer tokenizer =
        load_tokenizer(run && fs::exists(o.out + "/tokenizer.json") ? o.out : tokenizer_of(o));
    expect(!run || !o.tokens.empty() || tokenizer.size() <= run->config.V, o.out, ": its tokenizer has ",
           tokenizer.size(), " tokens, its model's vocabulary only ", run->config.V);
    Model model = run ? build(run->config) : starting_model(o, tokenizer);
    const long frozen = freeze(model, o.freeze);
    if (!o.out.empty()) expect_savable(model);
    Training t(o, std::move(model));
    Data data = open_data(o, t.policy.model.c, std::move(tokenizer));
    const CatchInterrupt stop;
    if (run) {
        t.resume(o.out);
        announce_stretch(run->options, o, t.step);
    }
    std::optional<Logs> logs;
    if (!o.out.empty()) logs.emplace(o.out, t.step);
    Run loop(o, t, data, logs);
    loop.introduce(frozen);
    return loop.loop();
}

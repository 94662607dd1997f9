// run.cpp: the verb `train`: from options to a run that can be watched, interrupted and resumed.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iomanip>

#include "src/base/progress.h"
#include "src/model/config.h"
#include "src/model/huggingface.h"
#include "src/text/tokenizer.h"
#include "src/train/training.h"

namespace fs = std::filesystem;

static std::vector<std::pair<std::string, Shape>> shapes_of(const Config &c) {
    std::vector<std::pair<std::string, Shape>> list;
    Model m;
    m.c = c;
    visit(m, [&](const std::string &name, Tensor &, Group, const Shape &shape) {
        list.emplace_back(name, shape);
    });
    return list;
}

static Model starting_model(const Options &o, const Tokenizer &tokenizer) {
    Config c;
    const auto check = [&] {
        expect(!o.tokens.empty() || tokenizer.size() <= c.V, "the tokenizer has ", tokenizer.size(),
               " tokens, the model's vocabulary only ", c.V);
        validate(c);
    };
    if (!o.init.empty()) {
        Model m = load_model(o.init);
        c = m.c;
        for (const std::string &field : o.set) set_field(c, field);
        check();
        if (shapes_of(c) != shapes_of(m.c))
            fail("--set: changes the shape of the weights in " + o.init,
                 "rates, scales and losses may change");
        m.c = c;
        return m;
    }
    c = load_preset(o.preset);
    if (o.tokens.empty()) {                                              // unless --set says more
        c.V = tokenizer.size();
        c.bos = tokenizer.find("<｜begin▁of▁sentence｜>");
        c.eos = tokenizer.find("<｜end▁of▁sentence｜>");
    }
    for (const std::string &field : o.set) set_field(c, field);
    check();
    const double needed = 4.0 * sizeof(real) * census(c).total;           // weight, gradient, two moments
    const double memory = (double)device->memory();
    if (needed > memory)
        fail(cat(c.name, ": training needs memory of ", std::lround(needed / 1e9),
                 " GB for weights, gradients and moments; here are ", std::lround(memory / 1e9)),
             "`deepseek config` shows what a model costs");
    return initialised(c, o.seed);
}

// metrics.csv; on --resume the rows after the checkpoint are dropped, they will come again.
// Beside it, at every evaluation, how many tokens each expert got in that step: rows of expert_load.csv.
static void write_load(const Options &o, long step, const std::vector<std::vector<int>> &load) {
    if (o.out.empty() || load.empty()) return;
    const std::string path = o.out + "/expert_load.csv";
    const bool fresh = !fs::exists(path);
    std::ofstream out(path, std::ios::app);
    if (fresh) out << "step,router,tokens of expert 0,1,2,...\n";
    for (size_t l = 0; l < load.size(); l++) {
        out << step << "," << l;
        for (int n : load[l]) out << "," << n;
        out << "\n";
    }
}

static std::ofstream open_metrics(const std::string &path, long steps_done) {
    std::vector<std::string> keep;
    std::ifstream old(path);
    for (std::string line; steps_done && std::getline(old, line);)
        if (keep.empty() || std::atol(line.c_str()) <= steps_done) keep.push_back(line);
    if (keep.empty())
        keep = {
            "step,loss,tokens_per_s,lm,mtp,balance,lr,gradient_norm,max_vio,valid_nats,valid_bits_per_byte"};
    std::ofstream out(path);
    for (const auto &line : keep) out << line << "\n";
    return out;
}

struct Data {                        // where a run's windows come from
    Tokenizer tokenizer;
    Corpus corpus;
    Sequences fixed;                 // --tokens: taken as they are, again and again
    int batch, T;
    Sequences read(long position) {
        if (fixed.empty()) return windows(corpus, tokenizer, position, batch, T);
        Sequences b;
        for (int i = 0; i < batch; i++) b.push_back(fixed[(position + i) % fixed.size()]);
        return b;
    }
    std::vector<Sequences> held_out() const {
        std::vector<Sequences> batches;
        const size_t n = corpus.valid.size(), T = n ? std::min<size_t>(this->T, n - 1) : 0;
        const size_t end = std::min(n, T * batch * 16 + 1);
        for (size_t at = 0; T > 0 && at + T + 1 <= end; at += T) {
            if (batches.empty() || (int)batches.back().size() == batch) batches.emplace_back();
            batches.back().push_back(corpus.valid.read(at, T + 1));
        }
        return batches;
    }
};

static Data open_data(const Options &o, const Config &c, Tokenizer &&tokenizer) {
    Data d = {.tokenizer = std::move(tokenizer),
              .corpus = {},
              .fixed = {},
              .batch = o.batch,
              .T = o.context ? o.context : c.context};
    expect(d.T >= 1 && d.T <= c.context, "--context ", d.T, ": the model's longest sequence is ", c.context);
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

static void check_options(const Options &o) {
    const auto between = [](const char *option, double x, double low, double high) {
        expect(x >= low && x <= high, option, " ", std::setprecision(12), x, " is not between ", low, " and ",
               high);
    };
    between("--batch", o.batch, 1, 1 << 16);
    between("--accumulate", o.accumulate, 1, 1 << 16);
    between("--steps", o.steps, 1, 1e12);
    between("--warmup", o.warmup, -1, 1e9);
    between("--lr", o.lr, 1e-30, 1e3);
    between("--weight-decay", o.weight_decay, 0, 1e3);
    between("--beta1", o.beta1, 0, 0.999999);
    between("--beta2", o.beta2, 0, 0.999999);
    between("--adam-eps", o.adam_eps, 0, 1);
    between("--clip", o.clip, 0, 1e30);
    between("--save-every", o.save_every, 0, 1e12);
    between("--eval-every", o.eval_every, 0, 1e12);
    learning_rate(o, 0);
    expect(!o.resume || !o.out.empty(), "--resume needs --out, the run to go on with");
    for (const char *file : {"training.safetensors", "model.safetensors", "config.json", "metrics.csv"})
        if (!o.out.empty() && !o.resume && fs::exists(o.out + "/" + file))
            fail("--out " + o.out + ": a run is already there (" + file + ")",
                 "--resume goes on with it; another --out starts a new one");
}

int train(const Options &o) {
    check_options(o);
    Tokenizer tokenizer = load_tokenizer(tokenizer_of(o));
    if (o.resume && fs::exists(o.out + "/tokenizer.json") &&
        load_tokenizer(o.out).to_json() != tokenizer.to_json())
        fail("--resume: " + o.out + " was trained with another tokenizer",
             "the same options go on with a run");
    Training t(o, starting_model(o, tokenizer));
    Data data = open_data(o, t.model.c, std::move(tokenizer));
    const CatchInterrupt stop;
    if (o.resume) t.resume(o.out);
    std::error_code cannot;
    if (!o.out.empty()) fs::create_directories(o.out, cannot);
    expect(!cannot, "--out ", o.out, ": cannot be made: ", cannot.message());
    std::ofstream metrics;
    if (!o.out.empty()) metrics = open_metrics(o.out + "/metrics.csv", t.step);

    const auto save = [&] {
        if (o.out.empty()) return;
        data.tokenizer.save(o.out);
        t.save(o.out);
    };
    Progress progress(t.step, o.steps);
    const std::vector<Sequences> held_out = data.held_out();
    const long eval_every = o.eval_every ? o.eval_every : std::max(1l, o.steps / 5), first = t.step;
    double spent = 0;
    long tokens = 0;
    while (t.step < o.steps && !interrupted) {
        const double before = progress.seconds();
        const StepReport r = t.train_step([&](long position) { return data.read(position); });
        const double took = progress.seconds() - before;
        spent += took;
        tokens += r.tokens;
        std::ostringstream row;
        row << t.step << std::setprecision(9) << "," << r.loss << "," << std::lround(r.tokens / took) << ","
            << r.lm << "," << r.mtp << "," << r.balance << "," << r.lr << "," << r.gradient_norm << ","
            << r.max_vio << ",";
        if (!held_out.empty() && (t.step % eval_every == 0 || t.step == o.steps)) {
            const double nats = evaluate(t.model, held_out);
            const double bits = nats / std::log(2.0) / data.corpus.valid_bytes_per_token;
            row << nats << "," << bits;
            write_load(o, t.step, r.load);
            progress.say(cat("step ", t.step, std::fixed, std::setprecision(3), "  held out: ", nats,
                             " nats per token, ", bits, " bits per byte  (MaxVio ", r.max_vio, ")"));
        } else {
            row << ",";
        }
        if (metrics) metrics << row.str() << std::endl;
        progress.update(t.step, cat(std::fixed, std::setprecision(3), "loss ", r.loss, std::setprecision(1),
                                    "  ", tokens / spent / 1000, "k tokens/s"));
        if (o.save_every && t.step % o.save_every == 0) save();
    }
    if (t.step > first || !o.resume) save();
    else progress.say(cat("nothing to do: ", o.out, " is at step ", t.step, " of ", o.steps));
    if (interrupted)
        progress.say(cat("stopped after step ", t.step, o.out.empty() ? "" : "; --resume goes on from here"));
    return interrupted ? 130 : 0;
}

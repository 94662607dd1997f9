// train.cpp: from a batch of tokens to better weights.
//
// An objective is a function of a filled batch that returns scalars; backward() does the rest. One training
// step: read windows, objective, backward (as often as --accumulate says, gradients add up), then AdamW on
// every weight and the bias update of every router. Within a step nothing waits for results of the device;
// only the report at its end does.
//
//   [1] objectives   [2] schedules   [3] the optimiser   [4] one step   [5] checkpoints   [6] the loop
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iomanip>
#include <numeric>
#include <unistd.h>

#include "deepseek.h"
#include "src/files.h"
#include "src/progress.h"
#include "tokenizer.h"

namespace fs = std::filesystem;

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
              {.lr = lr, .beta1 = o.beta1, .beta2 = o.beta2, .eps = o.adam_eps,
               .decay = e.group == Group::matrix ? o.weight_decay : 0, .clip = o.clip, .step = step});
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

// ------------------------------------------------------------------------------ [5] checkpoints and --resume
// Weights and the tokens they know belong together: --init brings its tokenizer along.
static std::string tokenizer_of(const Options &o) {
    if (!o.tokenizer.empty()) return o.tokenizer;
    return !o.init.empty() && fs::exists(o.init + "/tokenizer.json") ? o.init : "bytes";
}

// Two things are saved. The directory is a checkpoint in Hugging Face's layout, for everybody.
// training.safetensors is one file with all that --resume needs, so that it is never half of one step and
// half of another: weights, moments, selection biases, and in its metadata the step, the position in the data
// and the options that fix the numbers.
static std::string fixed_options(const Options &o, const Model &m) {
    return cat(print_config(m.c), "batch = ", o.batch, "\ncontext = ", o.context ? o.context : m.c.context,
               "\naccumulate = ", o.accumulate, "\ndata = ", o.data, "\ntokens = ", o.tokens,
               "\ntokenizer = ", tokenizer_of(o), "\nseed = ", o.seed, "\nlr = ", o.lr,
               "\nschedule = ", o.schedule, "\nwarmup = ", o.warmup, "\nweight decay = ", o.weight_decay,
               "\nbeta1 = ", o.beta1, "\nbeta2 = ", o.beta2, "\nadam eps = ", o.adam_eps, "\nclip = ", o.clip,
               "\n");
}

// The same options go on with a run; --steps alone may differ.
static void expect_same_options(const std::string &path, const std::string &then, const std::string &now) {
    std::istringstream old_lines(then), new_lines(now);
    for (std::string a, b; then != now;) {
        std::getline(old_lines, a);
        std::getline(new_lines, b);
        if (a != b || !old_lines || !new_lines)
            fail(path + ": was trained with other options: `" + a + "`, not `" + b + "`",
                 "the same options go on with a run");
    }
}

static long whole_number(const std::string &path, const char *key, const std::string &text) {
    const bool digits =
        !text.empty() && text.size() < 16 && text.find_first_not_of("0123456789") == std::string::npos;
    expect(digits, path, ": ", key, " '", text, "' is no count");
    return std::stol(text);
}

static void for_state(Training &t, const std::function<void(const std::string &, Tensor &)> &f) {
    size_t i = 0;
    visit(t.model, [&](const std::string &name, Tensor &w, Group group, const Shape &) {
        f(name, w);
        if (group == Group::bias || group == Group::counter) return;
        f("m." + name, t.optimiser.entries[i].m);
        f("v." + name, t.optimiser.entries[i++].v);
    });
}

void Training::save(const std::string &directory) {
    fs::create_directories(directory);
    save_model(model, directory);
    std::vector<TensorOut> out;
    std::vector<std::vector<real>> numbers;              // hold the copies until they are written
    std::vector<std::vector<int>> integers;
    for_state(*this, [&](const std::string &name, Tensor &w) {
        const std::vector<long> shape(w.shape.d, w.shape.d + w.shape.rank);
        if (w.s->type == INTS) integers.push_back(int_values(w));
        else numbers.push_back(values(w));
        const void *data = w.s->type == INTS ? (const void *)integers.back().data() : numbers.back().data();
        out.push_back({name, w.s->type == INTS ? "I32" : sizeof(real) == 4 ? "F32" : "F64", shape, data});
    });
    write_safetensors(
        directory + "/training.safetensors", out,
        {{"step", cat(step)}, {"position", cat(position)}, {"options", fixed_options(o, model)}});
}

void Training::resume(const std::string &directory) {
    const std::string path = directory + "/training.safetensors";
    expect(fs::exists(path), "--resume: ", path, " does not exist");
    const Safetensors file = read_safetensors(path);
    const auto text = [&](const char *key) {
        expect(file.metadata.count(key), path, ": no ", key, " in its metadata");
        return file.metadata.at(key);
    };
    expect_same_options(path, text("options"), fixed_options(o, model));
    step = whole_number(path, "step", text("step"));
    position = whole_number(path, "position", text("position"));
    expect(step <= 1000000000 && position <= step * o.accumulate * o.batch, path, ": position ", position,
           " is beyond step ", step);
    for_state(*this, [&](const std::string &name, Tensor &w) {
        const auto at = file.tensors.find(name);
        expect(at != file.tensors.end(), path, ": no tensor ", name);
        expect(at->second.shape == std::vector<long>(w.shape.d, w.shape.d + w.shape.rank), path, ": ", name,
               " has another shape than ", w.shape);
        std::vector<int> ids(w.s->type == INTS ? w.numel() : 0);
        std::vector<real> numbers(w.s->type == INTS ? 0 : w.numel());
        if (w.s->type == INTS) read_ints(at->second, ids.data());
        else read_reals(at->second, numbers.data());
        for (real x : numbers)
            expect(std::isfinite(x) && (x >= 0 || !name.starts_with("v.")), path, ": ", name, " holds a ", x);
        if (w.s->type == INTS) w.s->home->up(w.s->data, ids.data(), ids.size() * sizeof(int));
        else assign(w, numbers);
    });
}

// ---------------------------------------------------------------------------------------------- [6] the loop
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
    const double memory = (double)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGE_SIZE);
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

// scaling.cpp: see scaling.h.
#include "src/lab/scaling.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "src/base/fields.h"
#include "src/base/files.h"
#include "src/base/text.h"
#include "src/base/utf8.h"
#include "src/lab/engine.h"
#include "src/model/config.h"
#include "src/train/training.h"

// -------------------------------------------------------------------------------------- [1] the paper's laws
double lr_opt(double C) { return 0.3118 * std::pow(C, -0.1250); }                    // LLM (1)
double batch_opt(double C) { return 0.2920 * std::pow(C, 0.3271); }                  // LLM (1)
double M_opt(double C) { return 0.1715 * std::pow(C, 0.5243); }                      // LLM (4)
double D_opt(double C) { return 5.8316 * std::pow(C, 0.4757); }                      // LLM (4)

// ---------------------------------------------------------------------------------------------- [2] the plan
// A number as a person would type it: a learning rate or a deviation needs no more digits.
static double rounded(double x) {
    std::ostringstream text;
    text.precision(3);
    text << x;
    return std::stod(text.str());
}

// Four heads or more, as wide as they can be: the widest power of two up to 128 that divides d.
static int head_width(int d) {
    int d_h = 128;
    while (d_h > 2 && (d % d_h || d / d_h < 4)) d_h /= 2;
    return d_h;
}

// The model of these dimensions with 12 d^2 weights a block: as many key-value heads as heads, and a
// feed-forward network of 8/3 d. Its matrices start at 0.6 / sqrt d as in the small presets: with the
// paper's 0.006, the logits of a width of 32 stay near 0 for long.                                    [ours]
static std::string train_options_of(const Run &run, const std::string &also) {
    const int d_h = head_width(run.d), n_h = run.d / d_h;
    const std::string fields =
        cat("attention=MHA V=", run.vocabulary, " context=", run.l_seq, " n_layers=", run.n_layers,
            " d=", run.d, " n_h=", n_h, " n_kv=", n_h, " d_h=", d_h, " d_ff=", std::lround(run.d * 8 / 3.0),
            " init_std=", rounded(0.6 / std::sqrt(run.d)));
    std::string sets;
    std::istringstream words(fields);
    for (std::string field; words >> field;) sets += " --set " + field;
    return cat("--preset llm-nano", sets, " --batch ", std::lround(run.batch / run.l_seq), " --steps ",
               run.steps, " --lr ", format(run.lr), " --schedule multistep --warmup ",
               std::max(1l, run.steps / 20), " --seed ", run.seed, also.empty() ? "" : " ", also);
}

static void validate(const PlanOptions &o) {
    expect(!o.C.empty(), "plan: no budget");
    expect(!o.sizes.empty(), "plan: no size");
    for (size_t i = 0; i < o.C.size(); i++)
        expect(std::find(&o.C[0], &o.C[i], o.C[i]) == &o.C[i], "plan: the budget ", o.C[i],
               " is there twice");
    for (size_t i = 0; i < o.sizes.size(); i++)
        for (size_t j = 0; j < i; j++)
            expect(o.sizes[i].n_layers != o.sizes[j].n_layers || o.sizes[i].d != o.sizes[j].d,
                   "plan: the size ", o.sizes[i].n_layers, "x", o.sizes[i].d, " is there twice");
    for (double C : o.C) expect(C > 0, "plan: a budget of ", C, " FLOPs");
    for (const Dimensions &size : o.sizes) {
        expect(size.n_layers >= 1 && size.d >= 2, "plan: a model of ", size.n_layers, "x", size.d);
        expect(size.d % 2 == 0, "plan: ", size.n_layers, "x", size.d,
               ": the width is odd, but heads have pairs of channels");
    }
    for (long tokens : o.batch)
        if (tokens < o.l_seq || tokens % o.l_seq)
            fail(cat("plan: a batch of ", tokens, " tokens is no whole number of sequences of ", o.l_seq),
                 cat("a batch is counted in tokens: ", o.l_seq, ", ", 2 * o.l_seq, ", ..."));
    for (double lr : o.lr) expect(lr > 0, "plan: a learning rate of ", lr);
    expect(o.also.find_first_of(",\"\n") == std::string::npos, "plan: --also ", in_quotes(o.also),
           " has a comma, a quotation mark or a line break, which would end its cell of the CSV");
}

constexpr long most_steps = 1'000'000'000;               // that training takes

Plan plan_runs(const PlanOptions &o) {
    validate(o);
    Plan result;
    for (double C : o.C) {
        const long whole = std::max(1l, std::lround(batch_opt(C) / o.l_seq)) * o.l_seq;
        const auto batches = o.batch.empty() ? std::vector<long>{whole} : o.batch;
        const auto rates = o.lr.empty() ? std::vector<double>{rounded(lr_opt(C))} : o.lr;
        for (const Dimensions &size : o.sizes) {
            Run run;
            run.C = C, run.n_layers = size.n_layers, run.d = size.d;
            run.l_seq = o.l_seq, run.vocabulary = o.vocabulary;
            run.M = nominal_flops(size.n_layers, size.d, o.l_seq);
            run.D = C / run.M;
            for (long tokens : batches) {
                run.batch = (double)tokens;
                const double steps = std::round(run.D / run.batch);
                if (steps < (double)o.fewest_steps || steps > most_steps) {
                    result.refused.push_back(cat("C = ", C, ", ", size.n_layers, "x", size.d, ": ", run.D,
                                                 " tokens are ", steps, " steps of ", tokens,
                                                 steps > most_steps ? ", more than " : ", fewer than ",
                                                 steps > most_steps ? most_steps : o.fewest_steps));
                    continue;
                }
                run.steps = (long)steps;
                for (double lr : rates)
                    for (run.lr = lr, run.seed = 1; run.seed <= o.seeds; run.seed++) {
                        run.train = train_options_of(run, o.also);
                        result.runs.push_back(run);
                    }
            }
        }
    }
    if (result.runs.empty())
        fail("plan: no run is left: " + result.refused[0], "larger budgets, smaller models or batches");
    return result;
}

std::string csv_of(const std::vector<Run> &runs) {
    std::string text = "C,n_layers,d,l_seq,vocabulary,6N1,6N2,M,D,batch,lr,steps,seed,loss,train\n";
    for (const Run &r : runs)
        text += cat(format(r.C), ",", r.n_layers, ",", r.d, ",", r.l_seq, ",", r.vocabulary, ",",
                    format(nominal_6N1(r.n_layers, r.d)), ",",
                    format(nominal_6N2(r.n_layers, r.d, r.vocabulary)), ",", format(r.M), ",", format(r.D),
                    ",", format(r.batch), ",", format(r.lr), ",", r.steps, ",", r.seed, ",,", r.train, "\n");
    return text;
}

// ----------------------------------------------------------------- [3] runs in a CSV, and folders of runs
static std::vector<std::string> cells_of(const std::string &line) {
    std::vector<std::string> cells;
    std::istringstream parts(line + ",");
    for (std::string cell; std::getline(parts, cell, ',');) {
        const size_t from = cell.find_first_not_of(" \t\r"), to = cell.find_last_not_of(" \t\r");
        cells.push_back(from == std::string::npos ? "" : cell.substr(from, to - from + 1));
    }
    return cells;
}

namespace {
// The header, and the cells of one line under its names.
struct Row {
    const std::vector<std::string> &header;
    std::vector<std::string> cells;
    std::string where;                                   // runs.csv: line 7

    bool has(const char *column) const { return std::count(header.begin(), header.end(), column); }
    const std::string &cell(const char *column) const {
        return cells[std::find(header.begin(), header.end(), column) - header.begin()];
    }
    // Where there is no such column, x stays as it is.
    template <class N> void read(const char *column, N &x) const {
        if (!has(column)) return;
        try {
            parse(cell(column), x);
        } catch (const Error &) {
            fail(cat(where, ", column ", column, ": ", in_quotes(cell(column)), " is no ",
                     std::is_integral_v<N> ? "whole number" : "finite number"));
        }
    }
    template <class N> void read_positive(const char *column, N &x) const {
        read(column, x);
        expect(!has(column) || x > 0, where, ", column ", column, ": ", cell(column), " is not above 0");
    }
};
}  // namespace

static void expect_columns(const std::vector<std::string> &header, const std::string &name) {
    const Row row{header, {}, name};
    const auto need = [&](bool there, const std::string &column, const std::string &hint) {
        if (!there) fail(cat(name, ": line 1 names no column ", column), hint);
    };
    for (const std::string &column : header)
        expect(column.empty() || std::count(header.begin(), header.end(), column) == 1, name,
               ": line 1 names the column ", in_quotes(column), " twice");
    need(row.has("loss"), "loss", did_you_mean("loss", header));
    need(row.has("D") || row.has("C"), "D", "tokens of the run; or C, its FLOPs: one of them is needed");
    for (const char *column : {"n_layers", "d", "l_seq"})
        need(row.has("M") || row.has(column), column, "M is computed from n_layers, d and l_seq, or given");
}

// What a run has by LLM (2), where it is not given; where it is given, it must agree.
static void complete(Run &run, const Row &row) {
    const bool shaped = run.n_layers && run.d && run.l_seq;
    const double M = shaped ? nominal_flops(run.n_layers, run.d, run.l_seq) : run.M;
    if (run.M && std::abs(run.M / M - 1) > 0.01)
        fail(cat(row.where, ", column M: ", run.M, " is not ", M, ", which ", run.n_layers, " layers of ",
                 run.d, " cost a token"),
             "M = 72 n_layers d^2 + 12 n_layers d l_seq: forward and backward, without the vocabulary");
    run.M = M;
    if (run.C && run.D && std::abs(run.C / (M * run.D) - 1) > 0.05)
        fail(cat(row.where, ", column C: ", run.C, " is not M D = ", M * run.D),
             "C = M D: M holds the factor 6 already, and D is tokens, not sequences");
    if (!run.C) run.C = M * run.D;
    if (!run.D) run.D = run.C / M;
}

Runs read_runs(const std::string &text, const std::string &name) {
    Runs runs;
    runs.name = name;
    std::istringstream lines(text);
    std::string line;
    std::getline(lines, line);
    const std::vector<std::string> header = cells_of(line);
    expect_columns(header, name);
    for (long number = 2; std::getline(lines, line); number++) {
        const Row row{header, cells_of(line), cat(name, ": line ", number)};
        if (row.cells == std::vector<std::string>{""}) continue;
        expect(row.cells.size() == header.size(), row.where, " has ", row.cells.size(), " cells, the header ",
               header.size());
        if (row.cell("loss").empty()) {
            runs.to_come++;
            continue;
        }
        Run run;
        run.line = number;
        row.read_positive("C", run.C);
        row.read_positive("n_layers", run.n_layers);
        row.read_positive("d", run.d);
        row.read_positive("l_seq", run.l_seq);
        row.read_positive("vocabulary", run.vocabulary);
        row.read_positive("M", run.M);
        row.read_positive("D", run.D);
        row.read_positive("batch", run.batch);
        row.read_positive("lr", run.lr);
        row.read("seed", run.seed);
        row.read_positive("loss", run.loss);
        complete(run, row);
        runs.rows.push_back(run);
    }
    if (runs.rows.empty())
        fail(name + ": no run has a loss",
             "`deepseek scaling plan` leaves that column empty: the runs fill it");
    return runs;
}

Run read_run(const std::string &folder) {
    if (!exists(folder + "/training.safetensors"))
        fail(folder + ": is no run of `deepseek train`", "its training.safetensors is not there");
    const auto [o, c, step, data] = saved_run(folder);
    expect(step == o.steps, folder, ": its run is not finished: ", step, " of ", o.steps, " steps");
    Run run;
    run.n_layers = c.n_layers, run.d = c.d, run.l_seq = o.context ? o.context : c.context,
    run.vocabulary = c.V;
    run.lr = o.lr, run.steps = o.steps, run.seed = o.seed;
    run.M = nominal_flops(run.n_layers, run.d, run.l_seq);
    run.batch = (double)run.l_seq * o.batch * o.accumulate;
    run.D = run.batch * (double)run.steps;
    run.C = run.M * run.D;
    run.loss = column_of("valid_nats", folder).back();
    return run;
}

// ----------------------------------------------------------------------------------------------- [4] the fit
namespace {
struct Cell {                                            // runs that differ in their seed only
    int budget;
    double M, flops_6N1, flops_6N2, batch, lr;
    Values loss;                                         // seed by seed; 0: there is no such run
    std::vector<long> line;

    double mean_of(const std::vector<int> &chosen) const {
        double sum = 0;
        for (int seed : chosen) sum += loss[seed];
        return sum / (double)chosen.size();
    }
};
struct Grid {
    Values C;                                            // budgets, ascending
    std::vector<long> seeds;
    std::vector<Cell> cells;
};
}  // namespace

// Where C comes from D, and D from whole steps, the runs of a budget differ a little.
constexpr double same_budget = 1.1;

static Values budgets_of(const std::vector<Run> &rows) {
    Values all, smallest;
    for (const Run &run : rows) all.push_back(run.C);
    std::sort(all.begin(), all.end());
    for (double C : all)
        if (smallest.empty() || C > smallest.back() * same_budget) smallest.push_back(C);
    return smallest;
}

static std::vector<long> seeds_of(const std::vector<Run> &rows) {
    std::vector<long> seeds;
    for (const Run &run : rows) seeds.push_back(run.seed);
    std::sort(seeds.begin(), seeds.end());
    seeds.erase(std::unique(seeds.begin(), seeds.end()), seeds.end());
    return seeds;
}

static Cell cell_of(const Run &run, const Grid &grid) {
    const auto above = std::upper_bound(grid.C.begin(), grid.C.end(), run.C);
    const bool shaped = run.n_layers && run.d;
    return {.budget = int(above - grid.C.begin()) - 1,
            .M = run.M,
            .flops_6N1 = shaped ? nominal_6N1(run.n_layers, run.d) : NAN,
            .flops_6N2 = shaped && run.vocabulary ? nominal_6N2(run.n_layers, run.d, run.vocabulary) : NAN,
            .batch = run.batch,
            .lr = run.lr,
            .loss = Values(grid.seeds.size()),
            .line = std::vector<long>(grid.seeds.size())};
}

// Every cell has every seed: arms are compared within a seed, and seeds are what the bootstrap draws.
static Grid grid_of(const Runs &runs) {
    Grid grid{budgets_of(runs.rows), seeds_of(runs.rows), {}};
    std::map<std::array<double, 4>, Cell> cells;
    for (const Run &run : runs.rows) {
        const Cell empty = cell_of(run, grid);
        const std::array key = {(double)empty.budget, run.M, run.batch, run.lr};
        Cell &cell = cells.try_emplace(key, empty).first->second;
        const size_t seed =
            std::lower_bound(grid.seeds.begin(), grid.seeds.end(), run.seed) - grid.seeds.begin();
        if (cell.loss[seed])
            fail(cat(runs.name, ": line ", run.line, " is the run of line ", cell.line[seed], " once more"),
                 "a run is known by C, M, batch, lr and seed");
        cell.line[seed] = run.line;
        cell.loss[seed] = run.loss;
    }
    for (const auto &[key, cell] : cells) {
        const long there = *std::max_element(cell.line.begin(), cell.line.end());
        for (size_t seed = 0; seed < grid.seeds.size(); seed++)
            if (!cell.loss[seed])
                fail(cat(runs.name, ": line ", there, ": that run is not there with seed ", grid.seeds[seed]),
                     "all runs need the same seeds: they are compared seed by seed");
        grid.cells.push_back(cell);
    }
    return grid;
}

// y at x between the points (xs, ys) on either side; xs ascending.
static double between_neighbours(double x, const Values &xs, const Values &ys) {
    const size_t i =
        std::clamp<size_t>(std::lower_bound(xs.begin(), xs.end(), x) - xs.begin(), 1, xs.size() - 1);
    return ys[i - 1] + (x - xs[i - 1]) / (xs[i] - xs[i - 1]) * (ys[i] - ys[i - 1]);
}

// M_opt(C) = argmin over M of the loss at C = M D.                                                    LLM (3)
static Optimum optimum_of(const Grid &grid, int budget, const std::vector<int> &chosen, int points) {
    std::map<double, std::pair<double, const Cell *>> best;      // of each M, over learning rates and batches
    for (const Cell &cell : grid.cells) {
        if (cell.budget != budget) continue;
        const double loss = cell.mean_of(chosen);
        const auto [at, fresh] = best.try_emplace(cell.M, loss, &cell);
        if (!fresh && loss < at->second.first) at->second = {loss, &cell};
    }
    Optimum o{grid.C[budget], (int)best.size(), NAN, NAN, NAN, NAN, {NAN, NAN, NAN}, ""};
    if (o.sizes < 3) {
        o.left_out = cat(o.sizes, o.sizes == 1 ? " size" : " sizes", ", at least 3 are needed");
        return o;
    }
    Values ln_M, loss, ln_6N1, ln_6N2;
    for (const auto &[M, at] : best) {
        ln_M.push_back(std::log(M));
        loss.push_back(at.first);
        ln_6N1.push_back(std::log(at.second->flops_6N1));
        ln_6N2.push_back(std::log(at.second->flops_6N2));
    }
    const Parabola p = fit_parabola(ln_M, loss, points);
    o.r2 = p.r2;
    if (p.minimum == Minimum::low_edge) o.left_out = "the minimum is at the smallest size: add smaller ones";
    if (p.minimum == Minimum::high_edge) o.left_out = "the minimum is at the largest size: add larger ones";
    if (p.minimum == Minimum::none) o.left_out = "the parabola does not open upwards";
    if (!o.left_out.empty()) return o;
    o.M = std::exp(p.vertex);
    o.D = o.C / o.M;                                                                 // LLM (3)
    o.loss = p.lowest;
    o.flops[axis_6N1] = std::exp(between_neighbours(p.vertex, ln_M, ln_6N1));
    o.flops[axis_6N2] = std::exp(between_neighbours(p.vertex, ln_M, ln_6N2));
    o.flops[axis_M] = o.M;
    return o;
}

namespace {
struct Frontier {                                        // the budgets that have an optimum
    std::vector<Optimum> all;
    Values C, M, D, loss;
};
}  // namespace

static Frontier frontier_of(const Grid &grid, const std::vector<int> &chosen, int points) {
    Frontier f;
    for (int budget = 0; budget < (int)grid.C.size(); budget++) {
        const Optimum o = optimum_of(grid, budget, chosen, points);
        f.all.push_back(o);
        if (!o.left_out.empty()) continue;
        f.C.push_back(o.C);
        f.M.push_back(o.M);
        f.D.push_back(o.D);
        f.loss.push_back(o.loss);
    }
    return f;
}

static std::optional<OffsetLaw> offset_law(const Values &C, const Values &loss) {
    if (C.size() < 3) return std::nullopt;
    const OffsetLaw law = fit_offset_law(C, loss);
    return law.inside ? std::optional(law) : std::nullopt;
}

// The largest budget foretold from the others.
static HeldOut held_out(Values compute, Values loss) {
    for (double C : compute)
        if (std::isnan(C)) return {NAN, NAN, NAN};
    const double C = compute.back(), measured = loss.back();
    compute.pop_back();
    loss.pop_back();
    const auto offset = offset_law(compute, loss);
    return {fit_power_law(compute, loss).at(C) / measured - 1, offset ? offset->at(C) / measured - 1 : NAN,
            loss.back() / measured - 1};
}

static LossLaw loss_law(const Frontier &f) {
    LossLaw law{fit_power_law(f.C, f.loss), offset_law(f.C, f.loss), false, {}};
    for (int axis = 0; axis < n_axes; axis++) {
        Values compute;
        for (const Optimum &o : f.all)
            if (o.left_out.empty()) compute.push_back(o.flops[axis] * o.D);
        law.held_out[axis] = held_out(compute, f.loss);
    }
    const HeldOut &errors = law.held_out[axis_M];
    law.use_offset = law.offset && std::abs(errors.offset) < std::abs(errors.power);
    return law;
}

// By each way of counting compute, with the form of the law by M.
static Foretold foretold(const Frontier &f, const LossLaw &law, const Larger &run, const Run &like) {
    const auto [n_layers, d] = run.size;
    const double M = nominal_flops(n_layers, d, like.l_seq), D = run.C / M;
    const double per_token[n_axes] = {nominal_6N1(n_layers, d),
                                      like.vocabulary ? nominal_6N2(n_layers, d, like.vocabulary) : NAN, M};
    Foretold result{{NAN, NAN, NAN}, f.loss.back()};
    for (int axis = 0; axis < n_axes; axis++) {
        Values compute;
        for (const Optimum &o : f.all)
            if (o.left_out.empty()) compute.push_back(o.flops[axis] * o.D);
        if (std::isnan(per_token[axis] + compute[0])) continue;
        const auto offset = law.use_offset ? offset_law(compute, f.loss) : std::nullopt;
        const double C = per_token[axis] * D;
        result.loss[axis] = offset ? offset->at(C) : fit_power_law(compute, f.loss).at(C);
    }
    return result;
}

static Interval exponential(const Interval &i) { return {std::exp(i.low), std::exp(i.high)}; }

// With the intervals of the regression, whose units are the points.
static Law law_of_points(const Values &C, const Values &y) {
    const PowerLaw fit = fit_power_law(C, y);
    const long df = (long)C.size() - 2;
    return {fit, exponential(t_interval(fit.line.a, fit.line.error_a, df)),
            t_interval(fit.g, fit.line.error_b, df)};
}

// M_opt(C), D_opt(C) and L(C), with intervals of the bootstrap over seeds; of one seed, of the regression.
static void fit_frontier(Fit &fit, const Frontier &f, const Grid &grid, const FitOptions &options) {
    fit.M = law_of_points(f.C, f.M);                                                 // LLM (4)
    fit.D = law_of_points(f.C, f.D);                                                 // LLM (4)
    fit.loss = loss_law(f);
    for (double C : options.predict) fit.predictions.push_back({C, fit.loss.at(C), {NAN, NAN}});
    if (fit.seeds == 1) return;
    const auto laws = [&](const std::vector<int> &chosen) -> Values {
        const Frontier g = frontier_of(grid, chosen, options.points);
        if (g.C.size() < 3) return {};
        const Line M = fit_power_law(g.C, g.M).line, D = fit_power_law(g.C, g.D).line;
        return {M.a, M.b, D.a, D.b};
    };
    const auto losses = [&](const std::vector<int> &chosen) -> Values {
        const Frontier g = frontier_of(grid, chosen, options.points);
        if (g.C.size() < 3) return {};
        const auto offset = fit.loss.use_offset ? offset_law(g.C, g.loss) : std::nullopt;
        if (fit.loss.use_offset && !offset) return {};
        const PowerLaw power = fit_power_law(g.C, g.loss);
        Values values;
        for (double C : options.predict) values.push_back(offset ? offset->at(C) : power.at(C));
        return values;
    };
    const auto intervals = bootstrap(fit.seeds, options.resamples, options.seed, laws).intervals;
    fit.M.k = exponential(intervals[0]);
    fit.M.g = intervals[1];
    fit.D.k = exponential(intervals[2]);
    fit.D.g = intervals[3];
    if (options.predict.empty()) return;
    const auto reaches = bootstrap(fit.seeds, options.resamples, options.seed, losses).intervals;
    for (size_t i = 0; i < reaches.size(); i++) fit.predictions[i].interval = reaches[i];
}

// Why a grid says nothing about the best of these values: too few of them, or the best is the first or last.
static std::string no_optimum_in(Values values, double best, const char *what) {
    std::sort(values.begin(), values.end());
    const long different = std::unique(values.begin(), values.end()) - values.begin();
    if (different < 3) return cat(different, " ", what, different == 1 ? "" : "s", ", at least 3 are needed");
    if (best == values[0]) return cat("the best is the smallest ", what, ": add smaller ones");
    if (best == values[different - 1]) return cat("the best is the largest ", what, ": add larger ones");
    return "";
}

// The cells of one budget, at the size that has most of them (the paper varies learning rate and batch at
// one size), that are within so many percent of the best.
static NearOptimal near_optimal(const Grid &grid, int budget, double within,
                                std::vector<const Cell *> &near) {
    std::map<double, std::vector<const Cell *>> by_size;
    for (const Cell &cell : grid.cells)
        if (cell.budget == budget) by_size[cell.M].push_back(&cell);
    const auto &[M, cells] = *std::max_element(
        by_size.begin(), by_size.end(), [](auto &a, auto &b) { return a.second.size() < b.second.size(); });
    std::vector<double> losses, rates, batches, from_law, ln_lr, ln_batch;
    for (const Cell *cell : cells) {
        losses.push_back(mean(cell->loss));
        rates.push_back(cell->lr);
        batches.push_back(cell->batch);
        from_law.push_back(std::hypot(std::log(cell->lr / lr_opt(grid.C[budget])),
                                      std::log(cell->batch / batch_opt(grid.C[budget]))));
    }
    const size_t best = std::min_element(losses.begin(), losses.end()) - losses.begin();
    const size_t law = std::min_element(from_law.begin(), from_law.end()) - from_law.begin();
    for (size_t i = 0; i < cells.size(); i++) {
        if (losses[i] > losses[best] * (1 + within / 100)) continue;
        near.push_back(cells[i]);
        ln_lr.push_back(std::log(rates[i]));
        ln_batch.push_back(std::log(batches[i]));
    }
    return {.C = grid.C[budget],
            .M = M,
            .cells = (int)cells.size(),
            .near = (int)near.size(),
            .loss = losses[best],
            .lr = rates[best],
            .batch = batches[best],
            .near_lr = std::exp(mean(ln_lr)),
            .near_batch = std::exp(mean(ln_batch)),
            .excess = losses[law] / losses[best] - 1,
            .lr_left_out = no_optimum_in(rates, rates[best], "learning rate"),
            .batch_left_out = no_optimum_in(batches, batches[best], "batch")};
}

// lr_opt(C) and B_opt(C): lines through all near-optimal cells, as the paper draws them.             LLM (1)
static void fit_grids(Fit &fit, const Grid &grid, double within) {
    Values C_lr, lr, C_batch, batch;
    int budgets_lr = 0, budgets_batch = 0;
    for (int budget = 0; budget < (int)grid.C.size(); budget++) {
        std::vector<const Cell *> near;
        const NearOptimal &n = fit.grids.emplace_back(near_optimal(grid, budget, within, near));
        budgets_lr += n.lr_left_out.empty();
        budgets_batch += n.batch_left_out.empty();
        for (const Cell *cell : near) {
            if (n.lr_left_out.empty()) C_lr.push_back(n.C), lr.push_back(cell->lr);
            if (n.batch_left_out.empty()) C_batch.push_back(n.C), batch.push_back(cell->batch);
        }
    }
    if (budgets_lr >= 3) fit.lr = law_of_points(C_lr, lr);                           // LLM (1)
    if (budgets_batch >= 3) fit.batch = law_of_points(C_batch, batch);               // LLM (1)
}

Fit fit_laws(const Runs &runs, const FitOptions &options) {
    const Grid grid = grid_of(runs);
    if (grid.C.size() < 3)
        fail(cat(runs.name, ": ", grid.C.size(), grid.C.size() == 1 ? " budget" : " budgets",
                 ", a law needs at least 3"),
             runs.to_come ? cat(runs.to_come, " rows have no loss yet") : "a budget is a value of C = M D");
    std::vector<int> all(grid.seeds.size());
    for (size_t i = 0; i < all.size(); i++) all[i] = (int)i;
    const Frontier f = frontier_of(grid, all, options.points);
    Fit fit{};
    fit.seeds = (int)grid.seeds.size();
    fit.optima = f.all;
    if (f.C.size() < 3)
        fit.no_laws = cat(f.C.size(), " of ", grid.C.size(), " budgets have an optimum, a law needs 3");
    else {
        fit_frontier(fit, f, grid, options);
        if (options.foretell) fit.foretold = foretold(f, fit.loss, *options.foretell, runs.rows[0]);
    }
    fit_grids(fit, grid, options.within);
    const auto has_grid = [](const NearOptimal &n) { return n.cells > 1; };
    if (fit.no_laws.empty() || std::any_of(fit.grids.begin(), fit.grids.end(), has_grid)) return fit;
    for (const Optimum &o : f.all)
        if (!o.left_out.empty())
            fit.nothing += cat(fit.nothing.empty() ? "" : "; ", "C = ", o.C, ": ", o.left_out);
    return fit;
}

BudgetCurves budget_curves(const Runs &runs) {
    const Grid grid = grid_of(runs);
    std::vector<std::map<double, const Cell *>> by_size(grid.C.size()),
        by_lr(grid.C.size());                                                                 // the best each
    for (const Cell &cell : grid.cells)
        for (auto [best, x] : {std::pair(&by_size[cell.budget], cell.M), {&by_lr[cell.budget], cell.lr}})
            if (const auto [at, fresh] = best->try_emplace(x, &cell);
                mean(cell.loss) < mean(at->second->loss))
                at->second = &cell;
    const bool sizes =
        std::any_of(by_size.begin(), by_size.end(), [](const auto &of) { return of.size() > 1; });
    BudgetCurves result{{}, sizes ? "log10 M" : "log10 of the learning rate"};
    for (size_t budget = 0; budget < grid.C.size(); budget++) {
        const auto &best = sizes ? by_size[budget] : by_lr[budget];
        if (best.size() < 2) continue;
        Curve &curve = result.curves.emplace_back(Curve{cat("C = ", grid.C[budget]), {}, {}, {}, {}});
        for (const auto &[x, cell] : best) {
            curve.x.push_back(std::log10(x));
            curve.mean.push_back(mean(cell->loss));
            curve.low.push_back(*std::min_element(cell->loss.begin(), cell->loss.end()));
            curve.high.push_back(*std::max_element(cell->loss.begin(), cell->loss.end()));
        }
    }
    return result;
}

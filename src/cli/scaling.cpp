// scaling.cpp: `deepseek scaling`: plan runs of several sizes under several budgets, and fit the laws that
// they follow (src/lab/scaling.h).
//
//   [1] the plan   [2] the fit, for people   [3] the fit, for programs   [4] the verbs
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>

#include "src/base/fields.h"
#include "src/base/files.h"
#include "src/base/json.h"
#include "src/cli/verbs.h"
#include "src/lab/scaling.h"
#include "src/model/config.h"

namespace {
// ---------------------------------------------------------------------------------------------- [1] the plan
struct PlanVerb {
    std::vector<std::string> sizes = {"1x16", "1x24", "1x32", "2x32", "2x48",
                                      "3x48", "3x64", "4x80", "4x112"};
    PlanOptions o;
    std::string out;

    void options(CLI::App &v) {
        v.add_option("--compute", o.C, "budgets C, in FLOPs (several)")
            ->check(between(1, 1e30))
            ->capture_default_str();
        v.add_option("--size", sizes, "models: layers x width (several)")->capture_default_str();
        v.add_option("--batch", o.batch, "tokens of a step (several make a grid); without: LLM (1)")
            ->check(between(1, 1e12));
        v.add_option("--lr", o.lr, "highest learning rates (several make a grid); without: LLM (1)")
            ->check(between(1e-30, 1e3));
        v.add_option("--context", o.l_seq, "tokens of a sequence, l_seq")
            ->check(between(1, 1 << 24))
            ->capture_default_str();
        v.add_option("--vocabulary", o.vocabulary, "n_vocab; 258: bytes")
            ->check(between(2, 1 << 24))
            ->capture_default_str();
        v.add_option("--seeds", o.seeds, "runs of each kind, with seeds 1, 2, ...")
            ->check(between(1, 1e4))
            ->capture_default_str();
        v.add_option("--min-steps", o.fewest_steps, "shorter runs are refused")
            ->check(between(1, 1e9))
            ->capture_default_str();
        v.add_option("--also", o.also, "more options of `deepseek train` for every run");
        v.add_option("--out", out, "a CSV with a row for each run, for `deepseek scaling fit`");
    }
    void run();
};

bool has_losses(const std::string &csv) {
    try {
        return !read_runs(read_text(csv, 1 << 28), csv).rows.empty();
    } catch (const Error &) {                            // a plan without losses, or something else
        return false;
    }
}

Dimensions dimensions_of(const std::string &text, const char *option) {
    const size_t x = text.find('x');
    Dimensions size;
    try {
        parse(text.substr(0, x), size.n_layers);
        parse(x == std::string::npos ? "" : text.substr(x + 1), size.d);
    } catch (const Error &) {
        fail(cat(option, " ", text, " is not of the form LAYERSxWIDTH"), "like 2x48: two layers of width 48");
    }
    expect(size.n_layers >= 1 && size.d >= 1, option, " ", text, ": a model has layers and a width");
    return size;
}

void PlanVerb::run() {
    for (const std::string &size : sizes) o.sizes.push_back(dimensions_of(size, "--size"));
    if (!out.empty() && exists(out)) {
        expect_replaceable(out);
        if (has_losses(out)) fail(out + ": has losses of runs already", "name another file, or remove it");
    }
    const Plan plan = plan_runs(o);
    double C = 0, all = 0;
    for (const Run &r : plan.runs) {
        all += r.C;
        if (r.seed > 1) continue;
        if (r.C != C) {
            C = r.C;
            printf("%sC = %.3g   LLM (1): lr %.3g, batch %.0f tokens   LLM (4): M %.3g, D %.3g tokens\n",
                   C == plan.runs[0].C ? "" : "\n", C, lr_opt(C), batch_opt(C), M_opt(C), D_opt(C));
            printf("  %-10s %9s %7s %7s %9s %8s %9s %8s\n", "size", "M", "6N1/M", "6N2/M", "D", "batch", "lr",
                   "steps");
        }
        printf("  %-10s %9.3g %7.2f %7.2f %9.3g %8.0f %9.3g %8ld\n", cat(r.n_layers, "x", r.d).c_str(), r.M,
               nominal_6N1(r.n_layers, r.d) / r.M, nominal_6N2(r.n_layers, r.d, r.vocabulary) / r.M, r.D,
               r.batch, r.lr, r.steps);
    }
    if (!plan.refused.empty()) printf("\n");
    for (const std::string &why : plan.refused) printf("refused: %s\n", why.c_str());
    printf("\n%zu runs, %.3g FLOPs without the vocabulary's\n", plan.runs.size(), all);
    if (!out.empty()) write_atomically(out, csv_of(plan.runs));
}

// ----------------------------------------------------------------------------------- [2] the fit, for people
struct FitVerb {
    std::vector<std::string> runs;
    std::string out, json, laws, picture, foretell;
    FitOptions o;

    void options(CLI::App &v) {
        v.add_option(
             "RUNS", runs,
             "a CSV: loss, n_layers, d, l_seq (or M), D (or C), vocabulary, batch, lr, seed; or folders of "
             "finished runs")
            ->required();
        v.add_option("--predict", o.predict, "foretell the loss at these budgets")->check(between(1, 1e30));
        v.add_option("--points", o.points, "sizes of a parabola, around the lowest; 0: all")
            ->check(between(0, 1000))
            ->capture_default_str();
        v.add_option("--within", o.within, "percent above the best loss that are near-optimal")
            ->check(between(0, 100))
            ->capture_default_str();
        v.add_option("--resamples", o.resamples, "of the bootstrap over seeds")
            ->check(between(2, 1e6))
            ->capture_default_str();
        v.add_option("--seed", o.seed, "of the bootstrap")->capture_default_str();
        v.add_option("--foretell", foretell,
                     "and of a run of LAYERSxWIDTH:FLOPs, by each way of counting compute");
        v.add_option("--out", out, "a CSV with a row for each budget");
        v.add_option("--laws", laws,
                     "a CSV with one row: what the laws say, for labs; empty cells where there are none");
        v.add_option("--json", json, "write the figures there");
        v.add_option("--picture", picture, "an SVG: the loss by size, or by learning rate, at each budget");
    }
    void run();
    Runs read() const;
};

std::string shown(const Interval &i) {
    char text[64];
    snprintf(text, sizeof text, "[%.4g, %.4g]", i.low, i.high);
    return std::isnan(i.low) ? "not known" : text;
}

std::string percent(double x) {
    char text[32];
    snprintf(text, sizeof text, "%+.2f%%", 100 * x);
    return std::isnan(x) ? "-" : text;
}

void print_law(const char *name, const Law &law, const char *paper) {
    printf("  %-6s = %9.4g C^%-8.4f   exponent %-20s factor %-22s paper: %s\n", name, law.fit.k, law.fit.g,
           shown(law.g).c_str(), shown(law.k).c_str(), paper);
}

void print_optima(const Fit &f, int points) {
    printf("\nThe best size of each budget: a parabola of the loss in ln M through %s   LLM (3)\n",
           points ? cat(points, " sizes around the lowest").c_str() : "all sizes");
    printf("  %9s %6s %10s %10s %9s %6s   LLM (4): M_opt, D_opt\n", "C", "sizes", "M_opt", "D_opt", "loss",
           "R2");
    for (const Optimum &o : f.optima) {
        if (!o.left_out.empty()) printf("  %9.3g %6d   left out: %s\n", o.C, o.sizes, o.left_out.c_str());
        else
            printf("  %9.3g %6d %10.3g %10.3g %9.4f %6.3f   %10.3g %10.3g\n", o.C, o.sizes, o.M, o.D, o.loss,
                   o.r2, M_opt(o.C), D_opt(o.C));
    }
}

void print_laws(const Fit &f) {
    printf("\n");
    print_law("M_opt", f.M, "0.1715 C^0.5243");
    print_law("D_opt", f.D, "5.8316 C^0.4757");
    printf("  a + b  = %.6f; intervals of 95%%, %s\n", f.M.fit.g + f.D.fit.g,
           f.seeds > 1 ? cat("bootstrap over ", f.seeds, " seeds").c_str()
                       : "of the regressions: one seed says nothing about seeds");
    const LossLaw &l = f.loss;
    printf("\nThe loss at the optimum, %s\n", l.use_offset ? "with an offset" : "a power law");
    printf("  L = %.4g C^%.4f\n", l.power.k, l.power.g);
    if (l.offset) printf("  L = %.4f + %.4g C^-%.4f\n", l.offset->y_inf, l.offset->k, l.offset->g);
    else printf("  no form with an offset: too few budgets, or they do not bend\n");
    printf("  errors at the largest budget, fitted without it, with compute counted as\n");
    printf("  %-8s %10s %10s %16s\n", "", "power law", "offset", "the loss before");
    for (int axis = 0; axis < n_axes; axis++) {
        const HeldOut &e = l.held_out[axis];
        printf("  %-8s %10s %10s %16s\n", axis_names[axis], percent(e.power).c_str(),
               percent(e.offset).c_str(), percent(e.last).c_str());
    }
    for (const Prediction &p : f.predictions)
        printf("  at C = %.3g: %.4f %s\n", p.C, p.loss, shown(p.interval).c_str());
    if (!f.foretold) return;
    printf("  foretold of the larger run, with compute counted as");
    for (int axis = 0; axis < n_axes; axis++) printf("  %s: %.4f", axis_names[axis], f.foretold->loss[axis]);
    printf("; the largest budget had %.4f\n", f.foretold->last);
}

void print_grids(const Fit &f, double within) {
    const auto alone = [](const NearOptimal &n) { return n.cells == 1; };
    if (std::all_of(f.grids.begin(), f.grids.end(), alone))
        return void(printf("\nLearning rate and batch: every size has one of each, which says nothing\n"));
    printf("\nLearning rate and batch: cells within %g%% of the best   LLM (1)\n", within);
    printf("  %9s %9s %6s %6s %9s %9s %9s   LLM (1): lr, batch\n", "C", "M", "cells", "near", "loss", "lr",
           "batch");
    for (const NearOptimal &n : f.grids) {
        printf("  %9.3g %9.3g %6d %6d %9.4f %9.3g %9.0f   %9.3g %9.0f\n", n.C, n.M, n.cells, n.near, n.loss,
               n.lr, n.batch, lr_opt(n.C), batch_opt(n.C));
        printf("  %9s the cell next to LLM (1) is %s above the best\n", "", percent(n.excess).c_str());
        if (!n.lr_left_out.empty()) printf("  %9s no learning rate: %s\n", "", n.lr_left_out.c_str());
        if (!n.batch_left_out.empty()) printf("  %9s no batch: %s\n", "", n.batch_left_out.c_str());
    }
    if (f.lr) print_law("lr", *f.lr, "0.3118 C^-0.1250");
    if (f.batch) print_law("batch", *f.batch, "0.2920 C^0.3271");
    if (!f.lr || !f.batch)
        printf("  no law of one that has fewer than 3 budgets with a grid around its best\n");
}

// --------------------------------------------------------------------------------- [3] the fit, for programs
Json number(double x) { return std::isfinite(x) ? Json(x) : Json(); }                // unknown: null
Json json_of(const Interval &i) { return Json::array({number(i.low), number(i.high)}); }
Json json_of(const Law &law) {
    return {{"k", law.fit.k},
            {"k_interval", json_of(law.k)},
            {"exponent", law.fit.g},
            {"exponent_interval", json_of(law.g)},
            {"ln_k_error", number(law.fit.line.error_a)},
            {"exponent_error", number(law.fit.line.error_b)},
            {"points", law.fit.line.n}};
}
Json json_of(const LossLaw &l) {
    Json j = {{"form", l.use_offset ? "offset" : "power"},
              {"power", {{"k", l.power.k}, {"exponent", l.power.g}}},
              {"offset", nullptr}};
    if (l.offset) j["offset"] = {{"L_inf", l.offset->y_inf}, {"k", l.offset->k}, {"exponent", -l.offset->g}};
    for (int axis = 0; axis < n_axes; axis++) {
        const HeldOut &e = l.held_out[axis];
        j["held_out"][axis_names[axis]] = {
            {"power", number(e.power)}, {"offset", number(e.offset)}, {"last", number(e.last)}};
    }
    return j;
}
Json json_of(const Fit &f) {
    Json j = {{"seeds", f.seeds}, {"budgets", Json::array()}, {"no_laws", f.no_laws}};
    for (const Optimum &o : f.optima)
        j["budgets"].push_back({{"C", o.C},
                                {"sizes", o.sizes},
                                {"M", number(o.M)},
                                {"D", number(o.D)},
                                {"loss", number(o.loss)},
                                {"r2", number(o.r2)},
                                {"left_out", o.left_out}});
    if (f.no_laws.empty()) {
        j["M_opt"] = json_of(f.M);
        j["D_opt"] = json_of(f.D);
        j["loss"] = json_of(f.loss);
        j["predictions"] = Json::array();
        for (const Prediction &p : f.predictions)
            j["predictions"].push_back({{"C", p.C}, {"loss", p.loss}, {"interval", json_of(p.interval)}});
        if (f.foretold) {
            for (int axis = 0; axis < n_axes; axis++)
                j["foretold"][axis_names[axis]] = number(f.foretold->loss[axis]);
            j["foretold"]["last"] = number(f.foretold->last);
        }
    }
    for (const NearOptimal &n : f.grids)
        j["grids"].push_back({{"C", n.C},
                              {"M", n.M},
                              {"cells", n.cells},
                              {"near", n.near},
                              {"loss", n.loss},
                              {"lr", n.lr},
                              {"batch", n.batch},
                              {"near_lr", number(n.near_lr)},
                              {"near_batch", number(n.near_batch)},
                              {"excess_of_law", number(n.excess)},
                              {"lr_left_out", n.lr_left_out},
                              {"batch_left_out", n.batch_left_out}});
    j["lr_opt"] = f.lr ? json_of(*f.lr) : Json();
    j["batch_opt"] = f.batch ? json_of(*f.batch) : Json();
    return j;
}

std::string cell(double x) { return std::isnan(x) ? "" : format(x); }

std::string csv_of(const Fit &f) {
    std::string text = "C,sizes,M_opt,D_opt,loss,r2,cells,near,lr,batch,excess_of_law,left_out\n";
    for (size_t i = 0; i < f.optima.size(); i++) {
        const Optimum &o = f.optima[i];
        const NearOptimal &n = f.grids[i];
        text += cat(format(o.C), ",", o.sizes, ",", cell(o.M), ",", cell(o.D), ",", cell(o.loss), ",",
                    cell(o.r2), ",", n.cells, ",", n.near, ",", cell(n.near_lr), ",", cell(n.near_batch), ",",
                    cell(n.excess), ",\"", o.left_out, "\"\n");
    }
    return text;
}

// One row. Where there are no laws, its cells are empty.
std::string laws_csv(const Fit &f) {
    const bool known = f.no_laws.empty();
    const double nan = NAN;
    long inside = 0;
    for (const Optimum &o : f.optima) inside += o.left_out.empty();
    std::string names = "budgets,inside,M_exponent,D_exponent,predicted",
                row = cat(f.optima.size(), ",", inside);
    for (double x : {known ? f.M.fit.g : nan, known ? f.D.fit.g : nan,
                     f.predictions.empty() ? nan : f.predictions[0].loss})
        row += "," + cell(x);
    const char *const axes[n_axes] = {"6N1", "6N2", "M"};
    for (int axis = 0; axis < n_axes; axis++) {
        names += cat(",foretold_", axes[axis]);
        row += "," + cell(f.foretold ? f.foretold->loss[axis] : nan);
    }
    return cat(names, ",last\n", row, ",", cell(f.foretold ? f.foretold->last : nan), "\n");
}

Runs FitVerb::read() const {
    if (runs.size() == 1 && !std::filesystem::is_directory(runs[0]))
        return read_runs(read_text(runs[0], 1 << 28), runs[0]);
    Runs all;
    all.name = runs[0] + (runs.size() > 1 ? ", ..." : "");
    for (const std::string &folder : runs) {
        all.rows.push_back(read_run(folder));
        all.rows.back().line = (long)all.rows.size();
    }
    return all;
}

Larger larger_of(const std::string &text) {
    const size_t colon = text.find(':');
    Larger run{dimensions_of(text.substr(0, colon), "--foretell"), 0};
    try {
        parse(colon == text.npos ? "" : text.substr(colon + 1), run.C);
    } catch (const Error &) {}
    if (!(run.C > 0)) fail("--foretell " + text + " is not of the form LAYERSxWIDTH:FLOPs", "like 3x64:1e13");
    return run;
}

void FitVerb::run() {
    expect(o.points == 0 || o.points >= 3, "--points ", o.points,
           ": a parabola needs 3 or more, or 0 for all");
    std::vector<std::string> written = runs;
    for (const std::string &file : {out, laws, json, picture})
        if (!file.empty()) {
            expect_replaceable(file, written);
            written.push_back(file);
        }
    if (!foretell.empty()) o.foretell = larger_of(foretell);
    const Runs read = this->read();
    for (const Run &run : read.rows)
        if (o.foretell && o.foretell->C <= run.C)
            fail(cat("--foretell ", foretell, ": there are runs of ", run.C, " FLOPs already"),
                 "it is about a larger run");
    const Fit f = fit_laws(read, o);
    if (!f.nothing.empty() && laws.empty()) fail(cat(read.name, ": ", f.no_laws), f.nothing);
    printf("%s: %zu runs, %zu budgets, %d seed%s", read.name.c_str(), read.rows.size(), f.optima.size(),
           f.seeds, f.seeds == 1 ? "" : "s");
    if (read.to_come) printf("; %ld rows have no loss yet", read.to_come);
    printf("\n");
    print_optima(f, o.points);
    if (f.no_laws.empty()) print_laws(f);
    else printf("  no laws: %s\n", f.no_laws.c_str());
    print_grids(f, o.within);
    if (!out.empty()) write_atomically(out, csv_of(f));
    if (!laws.empty()) write_atomically(laws, laws_csv(f));
    if (!json.empty()) write_atomically(json, dump_json(json_of(f)));
    if (picture.empty()) return;
    const BudgetCurves shown = budget_curves(read);
    expect(!shown.curves.empty(), "--picture: every budget has one size and one learning rate");
    write_atomically(picture, picture_of("The loss at equal compute", shown.x, "loss", shown.curves));
}
}  // namespace

void add_scaling(CLI::App &program) {
    CLI::App *v =
        program.add_subcommand("scaling", "Scaling laws: plan runs under budgets of compute, fit them");
    v->require_subcommand(1);
    v->footer("`deepseek scaling plan --help` and `deepseek scaling fit --help` show the options.");
    add_verb<PlanVerb>(
        *v, "plan", "List runs of several sizes under several budgets",
        "deepseek scaling plan --compute 1e11 3e11 1e12 --lr 0.004 --batch 256 --seeds 3 --out runs.csv\n"
        "  cut -d, -f15 runs.csv | tail -n +2     the options of `deepseek train`, run by run");
    add_verb<FitVerb>(*v, "fit", "Fit the laws of size, loss, learning rate and batch to runs",
                      "deepseek scaling fit runs.csv --predict 1e13 --json laws.json\n"
                      "  deepseek scaling fit runs/a runs/b runs/c runs/d --foretell 3x64:1e13");
}

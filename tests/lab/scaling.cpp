// scaling.cpp: the specification of the scaling laws: the paper's figures, plans that training accepts, laws
// that were planted and must be found again, and files that are wrong.
#include "src/lab/scaling.h"

#include <algorithm>
#include <cmath>

#include "src/model/config.h"
#include "tests/check.h"

using doctest::Approx;

static double printed(double x, int digits) {            // as a table prints it
    const double unit = std::pow(10, std::floor(std::log10(x)) - digits + 1);
    return std::round(x / unit) * unit;
}

// -------------------------------------------------------------------------------------- [1] the paper's laws

TEST_CASE("scaling: table 3 by LLM (2), from layers and width to the printed digits") {
    struct Printed {
        int n_layers, d;
        double N1, N2, ratio1, ratio2;
    };
    for (const Printed &r : {Printed{8, 512, 25.2e6, 77.6e6, 0.43, 1.32},
                             {12, 768, 84.9e6, 164e6, 0.53, 1.02},
                             {24, 1024, 302e6, 407e6, 0.60, 0.81},
                             {24, 2048, 1.21e9, 1.42e9, 0.75, 0.88},
                             {32, 4096, 6.44e9, 6.86e9, 0.86, 0.91},         // printed as 0.85: cut off
                             {40, 5120, 12.6e9, 13.1e9, 0.88, 0.92},
                             {80, 8192, 64.4e9, 65.3e9, 0.92, 0.94}}) {
        INFO(r.n_layers, "x", r.d);
        const double N1 = nominal_6N1(r.n_layers, r.d) / 6, N2 = nominal_6N2(r.n_layers, r.d, 102400) / 6;
        const double M = nominal_flops(r.n_layers, r.d, 4096);
        CHECK(printed(N1, 3) == Approx(r.N1).epsilon(1e-12));
        CHECK(printed(N2, 3) == Approx(r.N2).epsilon(1e-12));
        CHECK(std::round(600 * N1 / M) == std::round(100 * r.ratio1));
        CHECK(std::round(600 * N2 / M) == std::round(100 * r.ratio2));
    }
}

TEST_CASE("scaling: LLM (1) gives 7B and 67B nearly the learning rates and batches that they had") {
    const double C7 = nominal_flops(30, 4096, 4096) * 2e12, C67 = nominal_flops(95, 8192, 4096) * 2e12;
    CHECK(printed(C7, 4) == Approx(8.456e22));
    CHECK(printed(C67, 3) == Approx(9.95e23));
    CHECK(printed(lr_opt(C7), 3) == Approx(4.25e-4));    // they had 4.2e-4
    CHECK(std::round(batch_opt(C7) / 4096) == 2252);     // 2304
    CHECK(printed(lr_opt(C67), 3) == Approx(3.12e-4));   // 3.2e-4
    CHECK(std::round(batch_opt(C67) / 4096) == 5043);    // 4608
}

TEST_CASE("scaling: LLM (4) is one fit, M_opt D_opt = C, and finds 7B trained far beyond its optimum") {
    for (double C = 1e10; C < 1e25; C *= 10) CHECK(M_opt(C) * D_opt(C) == Approx(C).epsilon(2e-4));
    const double C7 = nominal_flops(30, 4096, 4096) * 2e12, C67 = nominal_flops(95, 8192, 4096) * 2e12;
    CHECK(printed(M_opt(C7), 3) == Approx(1.80e11));
    CHECK(printed(D_opt(C7), 2) == Approx(0.47e12));
    CHECK(printed(M_opt(C67), 2) == Approx(6.5e11));
    CHECK(printed(D_opt(C67), 2) == Approx(1.5e12));
}

// ---------------------------------------------------------------------------------------------- [2] the plan

TEST_CASE(
    "plan: every run has C = M D, whole batches, and the hyper-parameters of LLM (1) if none are given") {
    PlanOptions o;
    o.sizes = {{1, 16}, {2, 48}, {4, 112}};
    o.seeds = 2;
    const Plan p = plan_runs(o);
    CHECK(p.runs.size() == 2 * 11);
    for (const Run &r : p.runs) {
        CHECK(r.M == nominal_flops(r.n_layers, r.d, r.l_seq));
        CHECK(r.M * r.D == Approx(r.C).epsilon(1e-12));
        CHECK(std::fmod(r.batch, r.l_seq) == 0);
        CHECK(std::abs(r.batch - batch_opt(r.C)) <= r.l_seq / 2.0);
        CHECK(r.lr == Approx(lr_opt(r.C)).epsilon(0.005));
        CHECK(std::abs(r.steps * r.batch - r.D) <= r.batch / 2);
    }
    CHECK(p.runs[0].seed == 1);
    CHECK(p.runs[1].seed == 2);
    REQUIRE(p.refused.size() == 1);
    CHECK(p.refused[0] == "C = 3e+10, 4x112: 7582.01 tokens are 10 steps of 768, fewer than 20");
}

TEST_CASE("plan: batches and learning rates make a grid, counted in tokens") {
    PlanOptions o;
    o.C = {1e11};
    o.sizes = {{2, 32}};
    o.batch = {128, 256};
    o.lr = {0.002, 0.004, 0.008};
    CHECK(plan_runs(o).runs.size() == 6);
    o.batch = {100};
    CHECK(error_of([&] { plan_runs(o); }) ==
          "plan: a batch of 100 tokens is no whole number of sequences of 64");
    o.batch = {64000};
    CHECK(error_of([&] {
              plan_runs(o);
          }).starts_with("plan: no run is left: C = 1e+11, 2x32: 508626 tokens are 8"));
    o.C = {1e30};
    CHECK(error_of([&] { plan_runs(o); }).ends_with(" steps of 64000, more than 1000000000"));
    o.sizes = {{2, 33}};
    CHECK(error_of([&] { plan_runs(o); }).find("2x33: the width is odd") != std::string::npos);
    o.sizes = {{2, 32}};
    o.also = "--data a,b";
    CHECK(error_of([&] { plan_runs(o); }).starts_with("plan: --also '--data a,b' has a comma"));
}

// The words of a run's options: name -> words.
static std::map<std::string, std::vector<std::string>> words_of(const std::string &text) {
    std::map<std::string, std::vector<std::string>> options;
    std::string name;
    std::istringstream words(text);
    for (std::string word; words >> word;)
        if (word.starts_with("--")) options[name = word];
        else options[name].push_back(word);
    return options;
}

TEST_CASE("plan: the options of a run make the model that LLM (2) counts, of its own size") {
    PlanOptions o;
    o.C = {1e15};
    o.sizes = {{1, 2}, {1, 16}, {3, 34}, {2, 48}, {5, 80}, {4, 112}, {8, 512}, {2, 1536}};
    o.vocabulary = 300;
    o.also = "--data stories";
    for (const Run &r : plan_runs(o).runs) {
        auto words = words_of(r.train);
        Config c = load_preset(words["--preset"][0]);
        for (const std::string &field : words["--set"]) set_field(c, field);
        validate(c);
        long matrices = 0;
        for (const auto &part : census(c).parts)
            if (part.name == "attention" || part.name == "dense FFN") matrices += part.total;
        INFO(r.train);
        CHECK(std::abs(6.0 * matrices - nominal_6N1(r.n_layers, r.d)) <= 6.0 * r.n_layers * 3 * r.d);
        CHECK(c.V == 300);
        CHECK(c.context == r.l_seq);
        CHECK((c.n_h >= 4 || r.d < 8 || r.d % 8));
        CHECK(std::stod(words["--batch"][0]) * r.l_seq == r.batch);
        CHECK(std::stol(words["--steps"][0]) == r.steps);
        CHECK(std::stod(words["--lr"][0]) == r.lr);
        CHECK(words["--data"][0] == "stories");
    }
}

TEST_CASE("plan: its CSV, with losses filled in, is what the fit reads") {
    PlanOptions o;
    o.sizes = {{1, 16}, {2, 48}};
    const std::vector<Run> runs = plan_runs(o).runs;
    std::string text = csv_of(runs), filled;
    CHECK(error_of([&] { read_runs(text, "runs.csv"); }) == "runs.csv: no run has a loss");
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
        const size_t gap = line.find(",,");              // all but the first run
        filled += (filled.empty() || line.find(",16,") == std::string::npos || gap == std::string::npos
                       ? line
                       : line.substr(0, gap + 1) + "2.5" + line.substr(gap + 1)) +
                  "\r\n";
    }
    const Runs read = read_runs(filled, "runs.csv");
    REQUIRE(read.rows.size() == 4);
    CHECK(read.to_come == 4);
    for (size_t i = 0; i < 4; i++) {
        const Run &a = runs[2 * i], &b = read.rows[i];
        CHECK(std::array{a.C, a.M, a.D, a.batch, a.lr} == std::array{b.C, b.M, b.D, b.batch, b.lr});
        CHECK(std::array{a.n_layers, a.d, a.l_seq, a.vocabulary} ==
              std::array{b.n_layers, b.d, b.l_seq, b.vocabulary});
        CHECK(b.loss == 2.5);
        CHECK(b.line == 2 + 2 * (long)i);
    }
}

// -------------------------------------------------------------------------------------- [3] runs in a CSV

TEST_CASE("read_runs: what is not given is computed by C = M D and LLM (2)") {
    const Runs a = read_runs("n_layers,d,l_seq,C,loss\n2,32,64,1e11,2.5\n\n", "a");
    CHECK(a.rows[0].M == 196608);
    CHECK(a.rows[0].D == Approx(1e11 / 196608));
    CHECK(a.rows[0].seed == 1);
    const Runs b = read_runs("loss, M, D, comment\n2.5, 2e5, 5e5, of no interest\n", "b");
    CHECK(b.rows[0].C == 1e11);
    CHECK(b.rows[0].lr == 0);
}

TEST_CASE("read_runs: errors name the line and the column") {
    const auto wrong = [](const std::string &text) { return error_of([&] { read_runs(text, "r.csv"); }); };
    CHECK(wrong("") == "r.csv: line 1 names no column loss");
    CHECK(wrong("M,D,los\n") == "r.csv: line 1 names no column loss");
    CHECK(wrong("M,loss\n") == "r.csv: line 1 names no column D");
    CHECK(wrong("D,n_layers,d,loss\n") == "r.csv: line 1 names no column l_seq");
    CHECK(wrong("M,D,loss,M\n") == "r.csv: line 1 names the column 'M' twice");
    const std::string head = "n_layers,d,l_seq,M,C,D,lr,seed,loss\n";
    CHECK(wrong(head + "2,32,64,196608,,,,1,2\n") == "r.csv: line 2, column C: '' is no finite number");
    const std::string good = "2,32,64,196608,196608e6,1e6,0.1,1,2\n";
    CHECK(wrong(head + good).empty());
    CHECK(wrong(head + good + "2,32,64,196608,196608e6,1e6,0.1,2,many\n") ==
          "r.csv: line 3, column loss: 'many' is no finite number");
    CHECK(wrong(head + "2.5,32,64,196608,196608e6,1e6,0.1,1,2\n") ==
          "r.csv: line 2, column n_layers: '2.5' is no whole number");
    CHECK(wrong(head + "2,32,64,196608,196608e6,1e6,0,1,2\n") ==
          "r.csv: line 2, column lr: 0 is not above 0");
    CHECK(wrong(head + "2,32,64,196608,196608e6,1e6,0.1,1,nan\n") ==
          "r.csv: line 2, column loss: 'nan' is no finite number");
    CHECK(wrong(head + "2,32,64,196608,2\n") == "r.csv: line 2 has 5 cells, the header 9");
    CHECK(wrong(head + "2,32,64,147456,196608e6,1e6,0.1,1,2\n")
              .starts_with("r.csv: line 2, column M: 147456 is"));
    CHECK(wrong(head + "2,32,64,196608,196608e6,3e6,0.1,1,2\n")
              .starts_with("r.csv: line 2, column C: 1.96608e+11"));
}

// ----------------------------------------------------------------------------------------------- [4] the fit

namespace {
// Runs of a world whose laws are known: L = 2 + k C^-0.12 along M = 0.2 C^0.5, and a parabola in ln M across.
constexpr double planted_a = 0.5, planted_k = 0.2, planted_offset = 2, planted_g = 0.12;
double planted_loss(double C) { return planted_offset + 40 * std::pow(C, -planted_g); }

struct World {
    int seeds = 5, sizes = 9;
    double shared = 0.01, own = 0.003;                   // noise: of a seed, of a run
    Values C = {1e12, 1e13, 1e14, 1e15, 1e16};

    Runs runs(uint64_t draw) const {
        Runs all;
        all.name = "planted.csv";
        for (double c : C)
            for (int size = 0; size < sizes; size++)
                for (int seed = 1; seed <= seeds; seed++) {
                    Run r;
                    r.C = c;
                    r.M = planted_k * std::pow(c, planted_a) * std::exp(0.4 * (size - sizes / 2) + 0.1);
                    r.D = c / r.M;
                    r.seed = seed;
                    const double off = std::log(r.M / (planted_k * std::pow(c, planted_a)));
                    r.loss = planted_loss(c) + 0.03 * off * off + shared * normal(seeded(1), draw, 0, seed) +
                             own * normal(seeded(2), draw, seed, all.rows.size());
                    r.line = (long)all.rows.size() + 2;
                    all.rows.push_back(r);
                }
        return all;
    }
};
}  // namespace

TEST_CASE("fit: without noise, the planted laws to eight digits, a + b = 1, and the loss far beyond") {
    World world;
    world.shared = world.own = 0;
    world.seeds = 1;
    FitOptions o;
    o.predict = {1e19};
    for (int points : {3, 5, 0}) {
        o.points = points;
        const Fit f = fit_laws(world.runs(0), o);
        REQUIRE(f.no_laws.empty());
        CHECK(f.M.fit.g == Approx(planted_a).epsilon(1e-8));
        CHECK(f.M.fit.k == Approx(planted_k).epsilon(1e-7));
        CHECK(f.M.fit.g + f.D.fit.g == Approx(1).epsilon(1e-12));
        CHECK(f.M.fit.k * f.D.fit.k == Approx(1).epsilon(1e-9));
        CHECK(f.loss.use_offset);
        CHECK(f.loss.offset->g == Approx(planted_g).epsilon(1e-4));
        CHECK(f.predictions[0].loss == Approx(planted_loss(1e19)).epsilon(1e-5));
        CHECK(std::abs(f.loss.held_out[axis_M].offset) < 1e-5);
        CHECK(std::abs(f.loss.held_out[axis_M].power) > 1e-3);
        CHECK(std::abs(f.loss.held_out[axis_M].last) > 1e-2);
        CHECK(std::isnan(f.loss.held_out[axis_6N1].power));          // no shapes are given
        CHECK(std::isnan(f.predictions[0].interval.low));            // one seed says nothing about seeds
    }
}

// Measured with five seeds: a, b and k in 195 of 200 draws, the loss two decades beyond in 187; under ten
// other TEST_SEEDs a in 191 to 196, the loss in 187 to 193.
TEST_CASE("fit: the 95% intervals hold the planted exponents in 95 of 100 draws") {
    FitOptions o;
    o.resamples = 100;
    o.predict = {1e18};
    constexpr int draws = 200;
    int a = 0, b = 0, k = 0, loss = 0;
    for (int draw = 0; draw < draws; draw++) {
        const Fit f = fit_laws(World().runs(draw), o);
        a += f.M.g.holds(planted_a);
        b += f.D.g.holds(1 - planted_a);
        k += f.M.k.holds(planted_k);
        loss += f.predictions[0].interval.holds(planted_loss(1e18));
    }
    INFO("of ", draws, ": a ", a, ", b ", b, ", k ", k, ", loss ", loss);
    CHECK(a >= 0.9 * draws);
    CHECK(b == a);
    CHECK(k >= 0.9 * draws);
    CHECK(loss >= 0.88 * draws);                         // 4 standard deviations below 95%, as above
}

// A minimum is one that is inside, of a parabola that explains 80% of the variance.
TEST_CASE("fit: shuffling the losses of a budget among its sizes destroys the minimum") {
    World world;
    world.seeds = 1;
    FitOptions o;
    o.points = 0;
    int good = 0, budgets = 0;
    for (int draw = 0; draw < 100; draw++)
        for (const bool shuffled : {false, true}) {
            Runs runs = world.runs(draw);
            Random random{seeded(draw)};
            for (int i = 0; i < (int)runs.rows.size() && shuffled; i++) {
                const int first = i / world.sizes * world.sizes;             // Fisher-Yates within the budget
                std::swap(runs.rows[i].loss, runs.rows[first + random.below(i - first + 1)].loss);
            }
            int minima = 0;
            try {
                for (const Optimum &x : fit_laws(runs, o).optima) minima += x.left_out.empty() && x.r2 > 0.8;
            } catch (const Error &) {                    // fewer than three minima
            }
            if (!shuffled) CHECK(minima == (int)world.C.size());
            else budgets += minima, good += minima == (int)world.C.size();
        }
    CHECK(good == 0);
    CHECK(budgets <= 25);                                // of 500; measured 3, and at most 4 under ten seeds
}

TEST_CASE("fit: a budget whose minimum is at an edge is named and counts in no law") {
    World world;
    world.shared = world.own = 0;
    world.seeds = 1;
    Runs runs = world.runs(0);
    for (Run &r : runs.rows)
        if (r.C == 1e12) r.loss = 3 + 0.001 * r.M;
    const Fit f = fit_laws(runs, {});
    CHECK(f.optima[0].left_out == "the minimum is at the smallest size: add smaller ones");
    CHECK(f.M.fit.line.n == 4);
    CHECK(f.M.fit.g == Approx(planted_a).epsilon(1e-8));
    for (Run &r : runs.rows)
        if (r.C < 1e15) r.loss = 3 - 0.001 * r.M / r.C;
    const Fit none = fit_laws(runs, {});
    CHECK(none.no_laws == "2 of 5 budgets have an optimum, a law needs 3");
    CHECK(none.nothing.starts_with("C = "));
}

TEST_CASE("fit: where attention is much of M, compute counted as M D foretells better than 6N1 D and 6N2 D") {
    Runs runs;
    for (double C : {1e11, 4e11, 1.6e12, 6.4e12, 2.56e13})
        for (int d = 16; d <= 320; d += d < 64 ? 8 : 32) {
            Run r;
            r.n_layers = std::max(1, d / 32);
            r.d = d;
            r.l_seq = 1024;
            r.vocabulary = 8192;
            r.M = nominal_flops(r.n_layers, d, r.l_seq);
            r.C = C;
            r.D = C / r.M;
            const double off = std::log(r.M / (3 * std::pow(C, 0.5)));
            r.loss = planted_loss(C) + 0.03 * off * off;
            runs.rows.push_back(r);
        }
    FitOptions o;
    o.points = 3;
    const Fit f = fit_laws(runs, o);
    const auto error = [&](Axis axis) { return std::abs(f.loss.held_out[axis].offset); };
    CHECK(f.M.fit.line.n == 5);
    CHECK(error(axis_M) < 1e-4);
    CHECK(error(axis_6N1) > 10 * error(axis_M));
    CHECK(error(axis_6N2) > 10 * error(axis_M));

    // A run of ten times the largest budget, at nearly its best size: foretold with compute counted each way.
    const double C = 2.56e14, optimum = 3 * std::pow(C, 0.5);
    Larger best{{1, 16}, C};
    for (int d = 16; d < 2000; d += 16)
        for (int layers = 1; layers < 40; layers++)
            if (std::abs(std::log(nominal_flops(layers, d, 1024) / optimum)) <
                std::abs(std::log(nominal_flops(best.size.n_layers, best.size.d, 1024) / optimum)))
                best.size = {layers, d};
    o.foretell = best;
    const Fit larger = fit_laws(runs, o);
    REQUIRE(larger.foretold);
    const auto wrong = [&](Axis axis) { return std::abs(larger.foretold->loss[axis] / planted_loss(C) - 1); };
    CHECK(wrong(axis_M) < 1e-4);
    CHECK(wrong(axis_6N1) > 10 * wrong(axis_M));
    CHECK(wrong(axis_6N2) > 10 * wrong(axis_M));
    CHECK(larger.foretold->last == Approx(planted_loss(2.56e13)).epsilon(1e-3));
    for (Run &r : runs.rows) r.vocabulary = 0;
    CHECK(std::isnan(fit_laws(runs, o).foretold->loss[axis_6N2]));
}

TEST_CASE("fit: LLM (1) from grids of learning rates and batches, by the cells near the best") {
    Runs runs;
    for (double C : {1e12, 1e13, 1e14, 1e15})
        for (int i = -4; i <= 4; i++)
            for (int j = -4; j <= 4; j++) {
                Run r;
                r.C = C;
                r.M = 1e5;
                r.lr = 0.3 * std::pow(C, -0.125) * std::exp2(0.5 * i);
                r.batch = 0.3 * std::pow(C, 0.33) * std::exp2(0.5 * j);
                r.loss = planted_loss(C) * (1 + 0.001 * (i * i + j * j));
                runs.rows.push_back(r);
            }
    const Fit f = fit_laws(runs, {});
    CHECK(f.no_laws == "0 of 4 budgets have an optimum, a law needs 3");
    REQUIRE(f.lr);
    REQUIRE(f.batch);
    CHECK(f.grids[0].cells == 81);
    CHECK(f.grids[0].near == 9);                         // i^2 + j^2 <= 2.5
    CHECK(f.grids[0].near_lr == Approx(0.3 * std::pow(1e12, -0.125)));
    CHECK(f.grids[3].near_batch == Approx(0.3 * std::pow(1e15, 0.33)));
    CHECK(f.grids[0].excess == Approx(0).epsilon(1e-9));         // LLM (1) is next to the planted law
    const BudgetCurves over = budget_curves(runs);
    CHECK(over.x == "log10 of the learning rate");
    REQUIRE(over.curves.size() == 4);
    CHECK(over.curves[0].x.size() == 9);
    CHECK(over.curves[0].mean[4] == Approx(planted_loss(1e12)));
    CHECK(f.lr->fit.g == Approx(-0.125).epsilon(1e-9));
    CHECK(f.lr->fit.k == Approx(0.3).epsilon(1e-8));
    CHECK(f.batch->fit.g == Approx(0.33).epsilon(1e-9));
    CHECK(f.lr->g.holds(-0.125));
    FitOptions wide;
    wide.within = 1.5;
    CHECK(fit_laws(runs, wide).grids[0].near == 45);     // i^2 + j^2 <= 15
    std::erase_if(runs.rows, [](const Run &r) { return r.C == 1e12 && r.lr > 0.3 * std::pow(1e12, -0.125); });
    const Fit cut = fit_laws(runs, {});
    CHECK(cut.grids[0].lr_left_out == "the best is the largest learning rate: add larger ones");
    CHECK(cut.lr->fit.line.n == 27);
    CHECK(cut.batch->fit.line.n == 33);
}

TEST_CASE("fit: refuses what it cannot compare, and names the lines") {
    const auto wrong = [](Runs runs) { return error_of([&] { fit_laws(runs, {}); }); };
    const Runs good = World().runs(0);
    Runs runs = good;
    runs.rows.push_back(runs.rows[7]);
    runs.rows.back().line = 300;
    CHECK(wrong(runs) == "planted.csv: line 300 is the run of line 9 once more");
    runs = good;
    runs.rows.erase(runs.rows.begin() + 7);
    CHECK(wrong(runs) == "planted.csv: line 11: that run is not there with seed 3");
    runs = good;
    std::erase_if(runs.rows, [](const Run &r) { return r.C > 1e13; });
    CHECK(wrong(runs) == "planted.csv: 2 budgets, a law needs at least 3");
    runs = good;
    const double optimum = planted_k * std::pow(1e14, planted_a);
    std::erase_if(runs.rows, [&](const Run &r) { return r.C == 1e14 && r.M < optimum * 3; });
    CHECK(fit_laws(runs, {}).optima[2].left_out == "2 sizes, at least 3 are needed");
}

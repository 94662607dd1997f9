// lab.h: a claim of a paper as an experiment: what is compared, what is measured, which result would confirm
// it and which refute it; written down before a run is made. A lab is a file, data/labs/NAME.lab:
//
//     claim = ...            one sentence                 paper, section, published = where, and its figure
//     falsifier = ...        what would refute it         pilot = what chose the sizes
//     minutes = 9            on two cores                 seeds = 3
//     all = --preset v3-tiny --steps 400 ...              options of `deepseek train` that all arms share
//     quick = --steps 4 --warmup /9 ...                   what --quick puts in their place; /9: a ninth of it
//     before = ..., then = measure load --model {run} ... more verbs before and after each training
//     after = scaling fit {runs} --picture {lab}/a.svg    and one when all is done
//     differ = alpha gamma                                options and fields in which arms may differ
//     equal = parameters activated flops                  what the census must find equal (1%)
//     curve = lm                                          of metrics.csv, for the picture; none: no picture
//     metric loss = last(valid_nats)                      of a run, from its CSVs; loss of A B: of these arms
//     bar lower = loss(aux) - loss(free) > 0.002          of the arms: must hold for every bar
//     [arm free]                                          the first is the control
//     train = --set alpha=0                               its own options; then = its own verbs
//
// A line that begins with a blank goes on with the one before it; # begins a comment.
#pragma once
#include <string>
#include <vector>

#include "src/model/config.h"
#include "src/train/options.h"

struct Arm {
    std::string name;
    std::vector<std::string> train;                      // words of its command line, those of `all` first
    // Commands. {run} is its folder, {NAME} that of another arm, {others} all those before it; {seed}.
    std::vector<std::string> before, then;
    TrainOptions options;                                // what train says, parsed
    Config config;
};
// What a metric's formula may say of a column: see metric_of in engine.h.
inline const std::vector<std::string> readings = {"last", "first", "mean", "min", "max", "at", "reached"};
struct Metric {
    std::string name, formula;
    std::vector<std::string> arms = {};                  // empty: all
};
struct Bar {
    std::string name, text, value;                       // value: a formula of metric(arm)
    bool above;                                          // value > limit, or value < limit
    double limit;
};
struct Lab {
    std::string name, claim, paper, section, published, falsifier, pilot, curve = "loss";
    double minutes = 0;
    int seeds = 3;
    std::vector<std::string> quick, differ, equal, after;
    std::vector<Arm> arms;
    std::vector<Metric> metrics;
    std::vector<Bar> bars;
};

Lab parse_lab(const std::string &text, const std::string &name);     // refuses undeclared differences, too
Lab load_lab(const std::string &name);                   // of the program, or a file
std::vector<std::string> lab_names();
Lab quick_form(const Lab &);                             // its options replaced by those of `quick`

// What an arm has that the control has not, and nobody declared; "" if nothing.
std::string undeclared_difference(const Lab &, const Arm &control, const Arm &);

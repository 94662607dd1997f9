// measures.h: what the papers measure of a trained model on text that it has not seen: where its experts'
// tokens go, what they know, what the loss says when some of them are taken away, how large its cache is, how
// often its drafts are right, and what counting alone would have reached.
//
// A measure is a row of the list measures(): a name, what it says, and a function that answers with a table.
// It changes nothing in the model; where it needs another choice of experts, it imposes one, layer by layer.
//
// What it is not: it trains nothing, and compares no two models. Their tables do.
#pragma once
#include <functional>

#include "deepseek.h"
#include "src/rl/score.h"
#include "src/train/batch.h"

struct Row {
    std::string item;
    std::vector<double> values;                    // by column; NaN: not known, or not of this kind of item
    bool detail = false;                                 // one of many: for the CSV, not for the eye
};
struct Table {
    std::vector<std::string> columns;
    std::vector<Row> rows;                               // the last is the summary
    double at(const std::string &item, const std::string &column) const;
};

struct Subject {                                         // what is measured, and on what
    Model &model;
    std::vector<Examples> batches = {};                  // held out, as `deepseek eval` reads it
    std::vector<std::string> labels = {};                // of each sequence
    Examples training = {};                              // what is counted
    int length = 0;                                      // of a cache; 0: formulas alone, nothing allocated
    std::vector<std::pair<std::string, Score>> scores = {};   // on a task, by level; the usual one comes last
    std::function<void(const std::string &item, long batches)> progress = {};
};

enum Reads : unsigned {
    reads_text = 1,
    reads_labels = 2,
    reads_training = 4,
    reads_length = 8,
    reads_task = 16
};
struct Measure {
    const char *name, *sentence, *paper;
    unsigned reads;
    std::vector<std::string> columns;
    const char *legend;                                  // what they are, and of what the summary is
    std::vector<Row> (*rows)(const Subject &);
};
const std::vector<Measure> &measures();
const Measure &measure_named(const std::string &name);   // refuses an unknown one with the nearest
Table measured(const Measure &, const Subject &);

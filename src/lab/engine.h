// engine.h: runs a lab: arms x seeds, each a run of this same program, and what came of them.
#pragma once
#include "src/lab/verdict.h"

struct LabOptions {
    std::string out;                                     // its folder; runs are OUT/ARM/SEED
    int seeds = 0, jobs = 0;                             // 0: those of the lab; as many as there are cores
    bool quick = false;
};
// As many runs at once as there are cores, of one thread each. A run that is finished is not made again, one
// that was stopped goes on from its checkpoint. One that fails stops the lab, with the last lines of its log.
struct LabResults {
    Results results;
    double minutes = 0;                                  // of all runs, those of earlier starts, too
};
LabResults run_lab(const Lab &, const LabOptions &);
std::string run_after(const Lab &, const LabOptions &);  // its `after`, once; what that said

// A number of a finished run, from its CSVs; NaN: not known, for the column is empty. `load.max_vio` is a
// column of load.csv; without a file's name it is one of metrics.csv.
//     last, first, mean, min, max      of a column, of all its rows or of the last n: mean(max_vio, 50)
//     at(redundancy.more, 1/16)        in the row of that name: its `item`, or its first cell
//     reached(valid_right, 0.9)        the first cell of the first row with so much; if none has, of the last
double metric_of(const Metric &, const std::string &folder);
Values column_of(const std::string &name, const std::string &folder);      // its numbers, without empty cells
std::vector<std::string> folders_of(const Lab &, const Arm &, const LabOptions &);   // its runs, seed by seed

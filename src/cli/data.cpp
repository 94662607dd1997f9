// data.cpp: `deepseek data`: the embedded stories.
#include <iostream>

#include "src/base/files.h"
#include "src/cli/verbs.h"
#include "src/text/stories.h"

namespace {
struct Data {
    std::string out;
    int n = 3, seed = 1;

    void options(CLI::App &v) {
        v.add_option("--n", n, "how many stories of the training part")
            ->check(between(1, 1e7))
            ->capture_default_str();
        v.add_option("--seed", seed, "which stories: a run with this --seed reads the same")
            ->capture_default_str();
        v.add_option("--out", out, "a text file, one story a line; else the terminal");
    }
    void run() const {
        std::string text;
        for (long i = 0, found = 0; found < n; i++) {
            const Tale tale = tell(seed, i);
            if (tale.held_out) continue;
            text += tale.text + (out.empty() ? "\n\n" : "\n");
            found++;
        }
        if (out.empty()) std::cout << text;
        else write_atomically(out, text);
    }
};
}  // namespace

void add_data(CLI::App &program) {
    add_verb<Data>(program, "data", "Show or write the embedded stories",
                   "deepseek data --n 20000 --out stories.txt");
}

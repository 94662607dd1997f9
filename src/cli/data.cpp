// data.cpp: `deepseek data`: the embedded stories, and a folder of texts that becomes a corpus.
#include <array>
#include <iomanip>
#include <chrono>
#include <iostream>
#include <omp.h>

#include "src/base/error.h"
#include "src/base/fields.h"
#include "src/base/files.h"
#include "src/base/text.h"
#include "src/cli/verbs.h"
#include "src/text/games.h"
#include "src/text/prepare.h"
#include "src/text/stories.h"

namespace {
struct Data {
    int n = 3, seed = 1, threads = 0, context = 64;
    std::string game;
    std::vector<std::string> mix;
    PrepareOptions o;
    CLI::App *verb = nullptr;

    void options(CLI::App &v) {
        verb = &v;
        v.add_option("--game", game, "instead of stories a synthetic corpus: NAME or NAME:key=value,...");
        v.add_option("--context", context, "of --game: tokens of a sequence")
            ->check(between(1, 1 << 24))
            ->capture_default_str();
        v.add_option("--n", n, "how many stories (sequences) of the training part")
            ->check(between(1, 1e7))
            ->capture_default_str();
        v.add_option("--seed", seed,
                     "which stories: a run with this --seed reads the same; of --prepare, choice and order")
            ->capture_default_str();
        v.add_option("--out", o.out, "a text file, one story a line; else the terminal");
        v.add_option(
            "--prepare", o.in,
            "deduplicate, filter, remix this file or folder into --out: NAME.jsonl, or a folder of .txt");
        v.add_option("--separator", o.separator, "a line that stands between two documents of a text file");
        v.add_option("--repeated-lines", o.repeated_lines,
                     "of lines that more documents have than this, only the first stays; 0: all stay")
            ->check(between(0, 1e9));
        v.add_option("--no-filter", o.no_filter, "rules that shall not refuse: too-short,few-letters")
            ->delimiter(',');
        v.add_option("--mix", mix, "weights of sources, the first folders: web=0.5,code=2; others 1")
            ->delimiter(',');
        v.add_option("--report", o.report, "a JSON file: what was removed, why, and the sources");
        v.add_option("--tokenizer", o.tokenizer,
                     "count tokens, too: bytes, a tokenizer.json, or a folder with one");
        v.add_option("--threads", threads, "of the CPU; 0: all")->check(between(0, 1024));
    }
    bool given(const char *option) const { return verb->count(option) > 0; }

    void run() {
        if (given("--prepare")) return prepare_texts();
        for (const char *option : {"--separator", "--repeated-lines", "--no-filter", "--mix", "--report",
                                   "--tokenizer", "--threads"})
            expect(!given(option), option, ": only goes with --prepare");
        expect(!given("--context") || given("--game"), "--context: only goes with --game");
        if (!o.out.empty()) expect_replaceable(o.out);
        if (given("--game")) return play();
        std::string text;
        for (long i = 0, found = 0; found < n; i++) {
            const Tale tale = tell(seed, i);
            if (tale.held_out) continue;
            text += tale.text + (o.out.empty() ? "\n\n" : "\n");
            found++;
        }
        print(text);
    }
    void print(const std::string &text) const {
        if (o.out.empty()) std::cout << text;
        else write_atomically(o.out, text);
    }
    // What the game is like, on the terminal; then its sequences.
    void play() const {
        const auto g = load_game(game);
        if (!g)
            fail("--game " + game + ": no such game",
                 did_you_mean(game, game_names(), "there are " + format(game_names())));
        std::map<std::string, std::array<double, 3>> kinds;        // sequences, nats at best, targets
        for (int i = 0; i < 256; i++) {
            const Sample s = g->held_out(i, context);
            auto &[sequences, nats, targets] = kinds[s.kind];
            sequences++;
            nats += g->optimum(s);
            for (size_t j = 1; j < s.ids.size(); j++) targets += s.weight.empty() ? 1 : s.weight[j];
        }
        std::cerr << g->name << ": a vocabulary of " << g->V() << "; of 256 held-out sequences\n";
        for (const auto &[kind, sums] : kinds)
            fprintf(stderr, "  %-8s %3.0f sequences, %.1f targets each%s\n",
                    kind.empty() ? "all" : kind.c_str(), sums[0], sums[2] / sums[0],
                    std::isnan(sums[1]) ? ""
                                        : cat(std::fixed, std::setprecision(4), ", at best ",
                                              sums[1] / sums[2], " nats a target")
                                              .c_str());
        std::string text;
        for (int i = 0; i < n; i++)
            text += g->shown(g->sample(seed, i, context)) + (o.out.empty() ? "\n\n" : "\n");
        print(text);
    }
    void prepare_texts() {
        for (const char *option : {"--n", "--game", "--context"})
            expect(!given(option), option, ": does not go with --prepare");
        expect(!o.out.empty(), "--out: NAME.jsonl or a folder is needed for what is prepared");
        o.seed = seed;
        for (const std::string &weight : mix) {
            const size_t equals = weight.rfind('=');
            expect(equals != weight.npos, "--mix ", weight, ": is not SOURCE=WEIGHT");
            const std::string source = weight.substr(0, equals);
            expect(!o.mix.count(source), "--mix ", source, ": is there twice");
            try {
                parse(weight.substr(equals + 1), o.mix[source]);
            } catch (const Error &e) {
                fail(cat("--mix ", weight, ": ", e.what()));
            }
        }
        if (threads) omp_set_num_threads(threads);
        const auto start = std::chrono::steady_clock::now();
        const PrepareReport report = prepare(o);
        const double seconds =
            std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        printf("%s\n%s: %.1f s, %.0f documents/s, %.1f MB/s\n", report.table().c_str(), o.out.c_str(),
               seconds, report.in.documents / seconds, report.in.bytes / seconds / 1e6);
    }
};
}  // namespace

void add_data(CLI::App &program) {
    add_verb<Data>(
        program, "data", "The embedded stories; or texts, deduplicated, filtered and remixed",
        "deepseek data --n 20000 --out stories.txt\n"
        "  deepseek data --prepare texts --mix web=0.5,code=2 --out corpus.jsonl --report report.json");
}

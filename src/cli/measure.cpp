// measure.cpp: `deepseek measure`: what the papers measure of a trained model (src/lab/measures.h).
#include <cmath>
#include <cstdio>
#include <optional>

#include "src/base/fields.h"
#include "src/base/files.h"
#include "src/base/json.h"
#include "src/base/progress.h"
#include "src/cli/verbs.h"
#include "src/infer/chat.h"
#include "src/lab/measures.h"
#include "src/model/config.h"
#include "src/model/huggingface.h"
#include "src/model/weights.h"
#include "src/text/games.h"

namespace {
constexpr long counted_stories = 1'000'000;              // tokens

struct MeasureVerb {
    std::string which, model, preset, data = "stories", tokens, labels, train_tokens, out, task;
    int batch = 8, context = 0, length = 0, questions = 64, samples = 16, level = 0;
    long most = 0, counted = 0;
    bool list = false, json = false;
    Common common;
    CLI::App *verb = nullptr;

    void options(CLI::App &v);
    void run();

private:
    void expect_read(const Measure &) const;
    void read(Subject &, const Measure &) const;
    void ask(Subject &) const;
    Examples read_ids(Subject &, int T) const;
    Examples read_sources(Subject &, const Measure &, int T) const;
};

void MeasureVerb::options(CLI::App &v) {
    verb = &v;
    const auto name = v.add_option("NAME", which, "which measure");
    v.add_flag("--list", list, "show all measures: what each says, its paper, its columns")->excludes(name);
    v.add_flag("--json", json, "the list as JSON")->needs("--list");
    const auto folder = v.add_option("--model", model, "a checkpoint's folder")->check(refuse_nothing);
    v.add_option("--preset", preset, "cache: by the formulas, nothing is allocated")->excludes(folder);
    const auto text = v.add_option("--data", data,
                                   "stories, a game, a file or a folder; only what is held out is read, the "
                                   "last twentieth; for labels, a game's topics or a folder's files")
                          ->capture_default_str();
    const auto ids = v.add_option("--tokens", tokens, "or a file of token ids, one sequence a line, all read")
                         ->excludes(text);
    v.add_option("--labels", labels, "specialisation: a file with a label for each sequence, one a line")
        ->needs(ids);
    v.add_option("--train-tokens", train_tokens, "bigram: the sequences to count, beside --tokens")
        ->needs(ids);
    v.add_option("--counted", counted,
                 "bigram: how many tokens of the training part; 0: all, of the stories a million")
        ->excludes(ids)
        ->check(between(0, 1 << 30));
    v.add_option("--windows", most, "at most so many of a source's held-out sequences; 0: all")
        ->excludes(ids)
        ->check(between(0, 1e9));
    v.add_option("--batch", batch, "sequences at a time")->check(between(1, 1 << 16))->capture_default_str();
    v.add_option("--context", context, "tokens of a sequence; 0: the model's")->check(between(0, 1e9));
    v.add_option("--length", length, "cache: for how many tokens; 0: the model's context")
        ->check(between(0, 1e9));
    v.add_option("--task", task, "rl-viability: whose held-out questions; `deepseek task --list` shows all");
    v.add_option("--level", level, "of them; 0: every one")->check(between(0, 1e6));
    v.add_option("--questions", questions, "of each level")->check(between(1, 1e6))->capture_default_str();
    v.add_option("--samples", samples, "outputs of each question")
        ->check(between(1, 1e5))
        ->capture_default_str();
    v.add_option("--out", out, "a CSV with all rows");
}

void print_list(bool json) {
    Json all = Json::array();
    for (const Measure &m : measures()) {
        all.push_back({{"name", m.name},
                       {"sentence", m.sentence},
                       {"paper", m.paper},
                       {"columns", m.columns},
                       {"legend", m.legend}});
        if (json) continue;
        std::string columns;
        for (const std::string &column : m.columns) columns += " " + column;
        printf("%s   (%s)\n  %s\n  columns:%s\n  %s\n", m.name, m.paper, m.sentence, columns.c_str(),
               m.legend);
    }
    if (json) printf("%s\n", dump_json(all).c_str());
}

// Options that a measure would ignore are refused.
void MeasureVerb::expect_read(const Measure &m) const {
    const std::pair<const char *, unsigned> needs[] = {
        {"--preset", reads_length},         {"--length", reads_length},    {"--labels", reads_labels},
        {"--train-tokens", reads_training}, {"--counted", reads_training}, {"--data", reads_text},
        {"--tokens", reads_text},           {"--windows", reads_text},     {"--batch", reads_text},
        {"--context", reads_text},          {"--task", reads_task},        {"--level", reads_task},
        {"--questions", reads_task},        {"--samples", reads_task}};
    for (const auto &[option, need] : needs)
        expect(!verb->count(option) || m.reads & need, option, ": does not go with the measure ", m.name);
    expect(!model.empty() || !preset.empty(), "measure ", m.name, ": --model is needed",
           m.reads & reads_length ? ", or --preset" : "");
    expect(!(m.reads & reads_task) || !task.empty(), "measure ", m.name, ": --task is needed");
    expect(preset.empty() || !length, "--length: goes with --model, a preset allocates nothing");
}

Examples MeasureVerb::read_ids(Subject &s, int T) const {
    const Sequences sequences = read_sequences(tokens, s.model.c.V);
    for (const auto &ids : sequences)
        expect((int)ids.size() <= T + 1, "--tokens: a sequence of ", ids.size(),
               " is longer than the context of ", T);
    if (!train_tokens.empty()) s.training = examples(read_sequences(train_tokens, s.model.c.V));
    if (labels.empty()) return examples(sequences);
    std::istringstream lines(read_text(labels, 1 << 28));
    for (std::string line; std::getline(lines, line);)
        if (!line.empty()) s.labels.push_back(line);
    expect(s.labels.size() == sequences.size(), "--labels ", labels, ": ", s.labels.size(), " labels for ",
           sequences.size(), " sequences");
    return examples(sequences);
}

// A label is a file; so every file's last twentieth is read, where eval reads only that of the whole folder.
Examples MeasureVerb::read_sources(Subject &s, const Measure &measure, int T) const {
    const Tokenizer tokenizer = tokenizer_of(s.model, model);
    Examples all;
    const bool labelled = measure.reads & reads_labels && is_directory(data);
    for (const std::string &source : labelled ? texts_below(data) : std::vector<std::string>{data}) {
        Corpus corpus = load_corpus(source, tokenizer, 1);
        for (const Examples &window : held_out_examples(corpus, 1, T, most ? most : SIZE_MAX)) {
            s.labels.push_back(
                corpus.game ? cat(window[0].kind, " ", corpus.game->held_out((long)all.size(), T).topic)
                            : source);
            all.push_back(window[0]);
        }
        if (!(measure.reads & reads_training)) continue;
        const bool endless = corpus.next_story >= 0;
        const long there = (long)corpus.train.size(), wanted = counted ? counted : counted_stories;
        if (corpus.game) s.training = examples(corpus, tokenizer, 0, (int)((wanted + T - 1) / T), T);
        else if (endless) s.training = examples(windows(corpus, tokenizer, 0, 1, (int)wanted));
        else s.training = examples({corpus.train.read(0, counted ? std::min(counted, there) : there)});
    }
    return all;
}

void MeasureVerb::read(Subject &s, const Measure &measure) const {
    const Config &c = s.model.c;
    expect(context <= c.context, "--context ", context, ": the model's longest sequence is ", c.context);
    const int T = context ? context : c.context;
    const Examples all = tokens.empty() ? read_sources(s, measure, T) : read_ids(s, T);
    for (size_t i = 0; i < all.size(); i++) {
        if (i % batch == 0) s.batches.emplace_back();
        s.batches.back().push_back(all[i]);
    }
}

// Every level, the usual one last; or the one that was asked for.
void MeasureVerb::ask(Subject &s) const {
    const Task &t = task_named(task);
    const Tokenizer tokenizer = tokenizer_of(s.model, model);
    expect_fits(t, tokenizer, s.model.c);
    std::vector<int> levels;
    for (int l = t.lowest; l <= t.highest && !level; l++)
        if (l != t.usual) levels.push_back(l);
    levels.push_back(level ? level : t.usual);
    for (int l : levels) {
        std::vector<Question> asked;
        for (int i = 0; i < questions; i++) asked.push_back(held_out_question(t, i, l));
        const Sampler sampler = {.tokenizer = tokenizer, .task = t, .decode = {}};
        s.scores.push_back(
            {cat("level ", l), score(roll_out(s.model, sampler, asked, samples, 0), samples, 1)});
    }
}

std::string shown(double x) {
    char text[32];
    const double size = std::abs(x);
    const char *form = x == std::round(x) || size > 1e4 ? "%.0f" : size < 0.1 ? "%.3g" : "%.4f";
    snprintf(text, sizeof text, form, x);
    return std::isnan(x) ? "-" : text;
}

void print_table(const Table &t) {
    size_t width = 0, details = 0;
    for (const Row &row : t.rows) width = std::max(width, row.detail ? 0 : row.item.size());
    printf("  %-*s", (int)width, "");
    for (const std::string &column : t.columns)
        printf("  %*s", std::max(8, (int)column.size()), column.c_str());
    for (const Row &row : t.rows) {
        details += row.detail;
        if (row.detail) continue;
        printf("\n  %-*s", (int)width, row.item.c_str());
        for (size_t j = 0; j < row.values.size(); j++)
            printf("  %*s", std::max(8, (int)t.columns[j].size()), shown(row.values[j]).c_str());
    }
    printf("\n");
    if (details)
        printf("  (--out FILE.csv has %zu rows more: expert by expert, device by device)\n", details);
}

std::string csv_of(const std::string &measure, const Table &t) {
    std::string text = "measure,item";
    for (const std::string &column : t.columns) text += "," + column;
    for (const Row &row : t.rows) {
        text += cat("\n", measure, ",", row.item);
        for (double x : row.values) text += "," + (std::isnan(x) ? "" : format(x));
    }
    return text + "\n";
}

void MeasureVerb::run() {
    if (which.empty()) {
        if (!list) fail("measure: which one?", "`deepseek measure --list` shows all");
        return print_list(json);
    }
    const Measure &measure = measure_named(which);
    expect_read(measure);
    if (!out.empty()) expect_replaceable(out, {data, tokens, labels, train_tokens});
    Model m = preset.empty() ? load_model(model) : outline(load_preset(preset));
    Subject s = {.model = m};
    if (measure.reads & reads_text) read(s, measure);
    if (measure.reads & reads_task) ask(s);
    if (measure.reads & reads_length && preset.empty()) s.length = length ? length : m.c.context;
    std::optional<Progress> bar;
    if (isatty(1)) bar.emplace(0, (long)s.batches.size());
    s.progress = [&](const std::string &item, long done) {
        if (bar) bar->update(done, item);
    };
    const Table table = measured(measure, s);
    bar.reset();
    long sequences = 0;
    for (const Examples &batch : s.batches) sequences += (long)batch.size();
    printf("%s of %s%s: %s\n", measure.name, m.c.name.c_str(),
           sequences ? cat(", on ", sequences, " sequences").c_str() : "", measure.sentence);
    print_table(table);
    printf("  %s\n", measure.legend);
    if (!s.scores.empty())
        printf("  %s: %s\n", s.scores.back().first.c_str(), advice(s.scores.back().second).c_str());
    if (!out.empty()) write_atomically(out, csv_of(measure.name, table));
}
}  // namespace

void add_measure(CLI::App &program) {
    add_verb<MeasureVerb>(program, "measure", "What the papers measure of a trained model",
                          "deepseek measure --list\n"
                          "  deepseek measure load --model runs/v3 --data stories --out load.csv\n"
                          "  deepseek measure specialisation --model runs/v3 --data a-folder-of-texts\n"
                          "  deepseek measure cache --preset deepseek-v2");
}

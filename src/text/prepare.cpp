// prepare.cpp: a folder of texts becomes a corpus: deduplicate, filter, remix.      DeepSeek LLM section 2.1
//
// Every stage goes once through the documents that are left, in blocks: the documents of a block are read and
// worked on at the same time, and what was found is taken in their order. So the number of threads changes
// nothing, and of each document only a hash and 16 bands stay in memory.
//
//   [1] parts   [2] writing   [3] the stages   [4] the report
#include "src/text/prepare.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>
#include <unordered_map>
#include <unordered_set>

#include "src/base/error.h"
#include "src/base/fields.h"
#include "src/base/files.h"
#include "src/base/folder.h"
#include "src/base/json.h"
#include "src/base/parallel.h"
#include "src/base/progress.h"
#include "src/base/random.h"
#include "src/base/text.h"
#include "src/base/utf8.h"
#include "src/text/documents.h"
#include "src/text/filter.h"
#include "src/text/lines.h"
#include "src/text/minhash.h"
#include "src/text/tokenizer.h"

namespace fs = std::filesystem;

// ------------------------------------------------------------------------------------------------- [1] parts
std::string normalised(std::string_view text) {
    std::string out;
    for_each_line(text, [&](std::string_view line, long) { out.append(without_end(line)) += '\n'; });
    out.resize(without_end(out).size());
    return out;
}

std::vector<long> exact_duplicates(const std::vector<uint64_t> &hashes,
                                   const std::function<std::string(long)> &text) {
    const long n = (long)hashes.size();
    std::vector<long> order(n), repeats(n, -1), starts;      // a group of one hash starts at each of `starts`
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](long i, long j) { return hashes[i] < hashes[j]; });
    for (long k = 0; k < n; k++)
        if (k == 0 || hashes[order[k]] != hashes[order[k - 1]]) starts.push_back(k);
    starts.push_back(n);
    for_rows_that_may_fail(0, (long)starts.size() - 1, [&](long g) {
        if (starts[g + 1] - starts[g] == 1) return;
        std::vector<std::pair<std::string, long>> distinct;      // one, unless two texts have one hash
        for (long k = starts[g]; k < starts[g + 1]; k++) {
            const std::string mine = text(order[k]);
            const auto same = std::find_if(distinct.begin(), distinct.end(),
                                           [&](const auto &known) { return known.first == mine; });
            if (same == distinct.end()) distinct.emplace_back(mine, order[k]);
            else repeats[order[k]] = same->second;
        }
    });
    return repeats;
}

std::vector<int> copies(double weight, const std::vector<size_t> &bytes, const std::vector<uint64_t> &order) {
    const double whole = std::floor(weight);
    double left = (weight - whole) * std::accumulate(bytes.begin(), bytes.end(), 0.0);
    std::vector<int> copies(bytes.size(), (int)whole);
    std::vector<size_t> by_chance(bytes.size());
    std::iota(by_chance.begin(), by_chance.end(), 0);
    std::stable_sort(by_chance.begin(), by_chance.end(),
                     [&](size_t i, size_t j) { return order[i] < order[j]; });
    for (size_t i : by_chance) {
        if (bytes[i] > 2 * left) break;
        copies[i]++;
        left -= bytes[i];
    }
    return copies;
}

// ----------------------------------------------------------------------------------------------- [2] writing
static fs::path whole_path(const std::string &path) {
    std::string whole = fs::weakly_canonical(fs::absolute(path)).string();
    if (whole.ends_with('/')) whole.pop_back();
    return whole;
}

static bool inside(const std::string &path, const std::string &folder) {
    const fs::path inner = whole_path(path), outer = whole_path(folder);
    return std::mismatch(outer.begin(), outer.end(), inner.begin(), inner.end()).first == outer.end();
}

// The documents as they are written: numbered files of a folder, or lines of a .jsonl.
class CorpusOut {
    std::optional<AtomicFile> file;
    std::optional<AtomicFolder> folder;
    long number = 0;

public:
    explicit CorpusOut(const std::string &path) {
        if (is_jsonl(path)) file.emplace(path);
        else folder.emplace(path);
    }
    void write(const Document &d, const std::string &text) {
        number++;
        if (file) {
            const std::string line =
                dump({{"text", text}, {"source", d.source}, {"path", d.path}}, -1) + "\n";
            return file->write(line.data(), line.size());
        }
        std::string name = d.path.substr(d.path.size() - std::min<size_t>(d.path.size(), 80));
        for (char &c : name)
            if (!isalnum((unsigned char)c) && !strchr("._-", c)) c = '-';
        char digits[24];
        snprintf(digits, sizeof digits, "%08ld", number);
        folder->write(cat(digits, "-", name, name.ends_with(".txt") ? "" : ".txt"), text);
    }
    void commit() { file ? file->commit() : folder->commit(); }
};

// ------------------------------------------------------------------------------------------- [3] the stages
namespace {
class Pipeline {
public:
    explicit Pipeline(const PrepareOptions &o) : o(o), documents(o.in, o.separator) {
        left.resize(documents.list.size());
        std::iota(left.begin(), left.end(), 0);
        report.removed = {
            {"exact-duplicate", "the same text, but for blanks where lines end"},
            {"near-duplicate", cat("at least ", near_duplicate, " of the shingles are the same")}};
        for (const Rule &rule : filter_rules()) report.removed.push_back({rule.name, rule.reason});
    }
    void remove_exact_duplicates();
    void remove_near_duplicates();
    void find_repeated_lines();
    void filter();
    void remix_into(CorpusOut &out);
    PrepareReport report;

private:
    const PrepareOptions &o;
    Documents documents;
    std::vector<long> left;                              // of the documents, in order
    std::unordered_map<std::string, long> boilerplate;   // lines, and the document that keeps each

    template <class Work, class Take> void each(const char *what, Work work, Take take);
    void remove(long i, int row, const std::string &why);
    void remove_repeats(const std::vector<long> &repeats, int row);
    void check_mix() const;
    std::vector<long> count_tokens() const;
    std::vector<int> times_written();
    std::string text_of(long i, Tally *removed = nullptr) const;
};

void stop_if_interrupted() {
    if (interrupted) throw Interrupted();
}

// take(i, work(i)) for all that are left, the takes one after the other.
template <class Work, class Take> void Pipeline::each(const char *what, Work work, Take take) {
    const long n = (long)left.size();
    Progress bar(0, n, 1);
    for (long start = 0; start < n; start += block_size) {
        const long end = std::min(n, start + block_size);
        std::vector<decltype(work(0l))> found(end - start);
        for_rows_that_may_fail(start, end, [&](long k) { found[k - start] = work(left[k]); });
        for (long k = start; k < end; k++) take(left[k], found[k - start]);
        bar.update(end, what);
        stop_if_interrupted();
    }
}

void Pipeline::remove(long i, int row, const std::string &why) {
    Removed &r = report.removed[row];
    if (!r.tally.documents++) {
        r.example = documents.list[i].path;
        r.why = why;
    }
    r.tally.bytes += documents.list[i].bytes;
}

// repeats: for each that is left, which of them it repeats, or -1.
void Pipeline::remove_repeats(const std::vector<long> &repeats, int row) {
    std::vector<long> stay;
    for (size_t k = 0; k < left.size(); k++)
        if (repeats[k] < 0) stay.push_back(left[k]);
        else remove(left[k], row, "repeats " + in_quotes(documents.list[left[repeats[k]]].path));
    left = stay;
}

void Pipeline::remove_exact_duplicates() {
    std::vector<uint64_t> hashes;
    each(
        "documents are read", [&](long i) { return hash_of(normalised(documents.read_first(i))); },
        [&](long i, uint64_t hash) {
            hashes.push_back(hash);
            for (Tally *t : {&report.in, &report.sources[documents.list[i].source].in}) {
                t->documents++;
                t->bytes += documents.list[i].bytes;
            }
        });
    check_mix();
    const auto text = [&](long k) {
        stop_if_interrupted();
        return normalised(documents.read(left[k]));
    };
    remove_repeats(exact_duplicates(hashes, text), 0);
}

// Before work that takes long: a name that is none.
void Pipeline::check_mix() const {
    std::vector<std::string> known;
    std::string all;
    for (const auto &[source, tally] : report.sources) {
        known.push_back(source);
        all += (all.empty() ? "the sources are " : ", ") + in_quotes(source);
    }
    for (const auto &[source, weight] : o.mix)
        if (!report.sources.count(source))
            fail(cat("--mix ", source, ": no such source"), did_you_mean(source, known, all));
}

void Pipeline::remove_near_duplicates() {
    std::vector<Bands> bands;
    const auto shingles = [&](long i) { return shingles_of(words_of(documents.read(i))); };
    each(
        "signatures", [&](long i) { return bands_of(minhash(shingles(i))); },
        [&](long, const Bands &b) { bands.push_back(b); });
    Progress bar(0, (long)left.size(), 1);
    remove_repeats(near_duplicates(
                       bands, [&](long k) { return shingles(left[k]); },
                       [&](long done) {
                           bar.update(done, "compared with what is alike");
                           stop_if_interrupted();
                       }),
                   1);
}

// Lines of three words or more, for a brace or a "Yes." is no boilerplate.
using Lines = std::unordered_set<std::string>;
Lines lines_of(std::string_view text) {
    Lines lines;
    for_each_line(text, [&](std::string_view line, long) {
        if (words_of(line).size() >= 3) lines.emplace(without_end(line));
    });
    return lines;
}

// String-level deduplication, of the documents that are left: lines of a page that was crawled often are no
// boilerplate. Lines are counted by hash, and those of a frequent hash once more by their text.
void Pipeline::find_repeated_lines() {
    std::unordered_map<uint64_t, long> by_hash;
    std::unordered_map<std::string, std::pair<long, long>> by_text;      // how often, and where first
    each(
        "lines are counted", [&](long i) { return lines_of(documents.read(i)); },
        [&](long, const Lines &lines) {
            for (const std::string &line : lines) by_hash[hash_of(line)]++;
        });
    each(
        "repeated lines are counted", [&](long i) { return lines_of(documents.read(i)); },
        [&](long i, const Lines &lines) {
            for (const std::string &line : lines)
                if (by_hash[hash_of(line)] > o.repeated_lines)
                    by_text.try_emplace(line, 0, i).first->second.first++;
        });
    for (const auto &[line, found] : by_text)
        if (found.first > o.repeated_lines) boilerplate.emplace(line, found.second);
}

// A document without the lines that only its first document keeps.
std::string Pipeline::text_of(long i, Tally *removed) const {
    std::string text = documents.read(i), out;
    if (boilerplate.empty()) return text;
    for_each_line(text, [&](std::string_view line, long) {
        const auto known = boilerplate.find(std::string(without_end(line)));
        const size_t length = line.size() + (line.data() + line.size() < text.data() + text.size());
        if (known == boilerplate.end() || known->second == i) {
            out.append(line.data(), length);
        } else if (removed) {
            removed->documents++;
            removed->bytes += length;
        }
    });
    return out;
}

void Pipeline::filter() {
    const std::vector<Rule> &rules = filter_rules();
    const auto on = [&](const Rule &rule) {
        return !std::count(o.no_filter.begin(), o.no_filter.end(), rule.name);
    };
    struct Found {
        const Rule *rule;
        double value;
        size_t bytes;
        Tally lines;
    };
    std::vector<long> stay;
    each(
        "filtered",
        [&](long i) {
            Found f = {};
            const std::string text = text_of(i, &f.lines);
            const Measures m = measure(text);
            f.bytes = text.size();
            const auto rule = std::find_if(rules.begin(), rules.end(),
                                           [&](const Rule &rule) { return on(rule) && rule.refuses(m); });
            if (rule == rules.end()) return f;
            f.rule = &*rule;
            f.value = m.*rule->value;
            return f;
        },
        [&](long i, const Found &f) {
            documents.list[i].bytes = f.bytes;
            report.lines.documents += f.lines.documents;
            report.lines.bytes += f.lines.bytes;
            if (!f.rule) return stay.push_back(i);
            const bool low = f.value < f.rule->low;
            remove(i, 2 + int(f.rule - rules.data()),
                   cat(f.rule->what, " ", std::round(f.value * 1000) / 1000, low ? ", below " : ", above ",
                       low ? f.rule->low : f.rule->high));
        });
    left = stay;
}

std::vector<long> Pipeline::count_tokens() const {
    std::vector<long> tokens(left.size());
    if (o.tokenizer.empty()) return tokens;
    const Tokenizer tokenizer = load_tokenizer(o.tokenizer);
    Progress bar(0, (long)left.size(), 1);
    for (size_t k = 0; k < left.size(); k++) {
        tokens[k] = (long)tokenizer.encode_plain(text_of(left[k])).size();
        bar.update((long)k + 1, "tokens are counted");
        stop_if_interrupted();
    }
    return tokens;
}

// A random number of a document, the same whatever else is there.
uint64_t chance(const PrepareOptions &o, const char *stream, const Document &d) {
    return random_bits(o.seed, hash_of(stream), hash_of(d.path), 0);
}

std::vector<int> Pipeline::times_written() {
    std::map<std::string, std::vector<size_t>> members;
    for (size_t k = 0; k < left.size(); k++) members[documents.list[left[k]].source].push_back(k);
    std::vector<int> times(left.size());
    for (const auto &[source, all] : members) {
        std::vector<size_t> bytes;
        std::vector<uint64_t> order;
        for (size_t k : all) {
            bytes.push_back(documents.list[left[k]].bytes);
            order.push_back(chance(o, "mix", documents.list[left[k]]));
        }
        const std::vector<int> n = copies(report.sources[source].weight, bytes, order);
        for (size_t j = 0; j < n.size(); j++) times[all[j]] = n[j];
    }
    return times;
}

// In a random order, the copies of a document one behind the other: training holds the last twentieth out,
// which shall be of all sources, and of no document that is also trained on.
void Pipeline::remix_into(CorpusOut &out) {
    for (const auto &[source, weight] : o.mix) report.sources[source].weight = weight;
    const std::vector<long> tokens = count_tokens();
    const std::vector<int> times = times_written();
    std::vector<size_t> order(left.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](size_t i, size_t j) {
        return chance(o, "order", documents.list[left[i]]) < chance(o, "order", documents.list[left[j]]);
    });
    Progress bar(0, (long)left.size(), 1);
    for (size_t done = 0; done < order.size(); done++) {
        const size_t k = order[done];
        const Document &d = documents.list[left[k]];
        SourceTally &all = report.sources[d.source];
        for (const auto &[t, n] : {std::pair(&all.kept, 1), {&all.out, times[k]}, {&report.out, times[k]}}) {
            t->documents += n;
            t->bytes += n * (long)d.bytes;
            t->tokens += n * tokens[k];
        }
        const std::string text = times[k] ? text_of(left[k]) : "";
        for (int n = 0; n < times[k]; n++) out.write(d, text);
        bar.update((long)done + 1, "written");
        stop_if_interrupted();
    }
    expect(report.out.documents, "nothing is left of the ", report.in.documents, " documents");
}

void check(const PrepareOptions &o) {
    for (const std::string &name : o.no_filter) {
        std::vector<std::string> known;
        for (const Rule &rule : filter_rules()) known.push_back(rule.name);
        if (!std::count(known.begin(), known.end(), name))
            fail("--no-filter " + name + ": no such rule",
                 did_you_mean(name, known, "they are " + format(known)));
    }
    for (const auto &[source, weight] : o.mix)
        expect(weight >= 0 && weight <= 1000, "--mix ", source, "=", weight, ": is not between 0 and 1000");
    expect(!inside(o.out, o.in), "--out ", o.out, ": is inside of --prepare ", o.in);
    for (const std::string &place : {o.in, o.out})
        expect(o.report.empty() || !inside(o.report, place), "--report ", o.report, ": is inside of ", place);
}
}  // namespace

PrepareReport prepare(const PrepareOptions &o) {
    check(o);
    const CatchInterrupt stop;
    CorpusOut out(o.out);
    Pipeline p(o);
    std::optional<AtomicFile> report;
    if (!o.report.empty()) report.emplace(o.report);
    p.remove_exact_duplicates();
    p.remove_near_duplicates();
    if (o.repeated_lines) p.find_repeated_lines();
    p.filter();
    p.remix_into(out);
    const std::string text = p.report.json();
    if (report) report->write(text.data(), text.size());
    out.commit();
    if (report) report->commit();
    return p.report;
}

// ------------------------------------------------------------------------------------------ [4] the report
double PrepareReport::dedup_rate() const {
    return double(removed[0].tally.documents + removed[1].tally.documents) / in.documents;
}

static Json as_json(const Tally &t) {
    return {{"documents", t.documents}, {"bytes", t.bytes}, {"tokens", t.tokens}};
}

std::string PrepareReport::json() const {
    Json stages = Json::array(), by_source = Json::object();
    for (const Removed &r : removed)
        stages.push_back({{"name", r.name},
                          {"reason", r.reason},
                          {"documents", r.tally.documents},
                          {"bytes", r.tally.bytes},
                          {"example", r.example},
                          {"why", r.why}});
    for (const auto &[name, s] : sources)
        append(by_source, name,
               {{"in", as_json(s.in)},
                {"kept", as_json(s.kept)},
                {"weight", s.weight},
                {"out", as_json(s.out)}});
    return dump_json({{"in", as_json(in)},
                      {"out", as_json(out)},
                      {"dedup_rate", dedup_rate()},
                      {"removed", stages},
                      {"repeated_lines", {{"lines", lines.documents}, {"bytes", lines.bytes}}},
                      {"sources", by_source}});
}

std::string PrepareReport::table() const {
    constexpr size_t most_sources = 20;
    std::string text;
    const auto row = [&](std::string name, auto... cells) {
        name.resize(std::max<size_t>(name.size(), 20), ' ');
        text += name;
        for (const std::string &cell : {std::string(cells)...})
            text += std::string(cell.size() < 12 ? 12 - cell.size() : 1, ' ') + cell;
        text += "\n";
    };
    const auto counts = [&](const std::string &name, const Tally &t, const std::string &example) {
        row(name, format(t.documents), format(t.bytes));
        if (!example.empty()) text.insert(text.size() - 1, "  " + example);
    };
    row("", "documents", "bytes");
    counts("in", in, "");
    for (const Removed &r : removed)
        if (r.tally.documents) counts("  " + r.name, r.tally, in_quotes(r.example) + ": " + r.why);
    if (lines.documents) counts("  repeated-lines", lines, "lines of documents that stay");
    counts("out", out, "");
    text += cat("deduplication removed ", std::round(1000 * dedup_rate()) / 10, "% of the documents\n\n");
    std::vector<std::pair<long, std::string>> largest;
    for (const auto &[name, s] : sources) largest.emplace_back(-s.in.bytes, name);
    std::sort(largest.begin(), largest.end());
    row("source", "in", "bytes", "kept", "bytes", "weight", "out", "bytes", "tokens");
    for (size_t i = 0; i < std::min(largest.size(), most_sources); i++) {
        const SourceTally &s = sources.at(largest[i].second);
        row(in_quotes(largest[i].second), format(s.in.documents), format(s.in.bytes),
            format(s.kept.documents), format(s.kept.bytes), format(s.weight), format(s.out.documents),
            format(s.out.bytes), s.kept.tokens ? format(s.out.tokens) : "-");
    }
    if (largest.size() > most_sources) text += cat("and ", largest.size() - most_sources, " more\n");
    return text;
}

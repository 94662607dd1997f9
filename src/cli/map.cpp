// map.cpp: `deepseek map` answers where an equation is, and which equations are in a function. It reads the
// tags of the sources, and data/equations.txt, which lists the papers' equations; so it runs where these are.
//
// A tag is a paper's short name and numbers, in a comment: V3 (21)(22), V3 (17)-(20), V2 (11) and (19). With
// --out it writes them all, and fails on an equation that has neither a tag nor a reason in the list, on a
// reason that is out of date, and on a tag that the list does not know.
#include "src/cli/verbs.h"

#include <filesystem>
#include <iostream>
#include <map>
#include <regex>

#include "src/base/error.h"
#include "src/base/files.h"
#include "src/base/text.h"

namespace {

struct Place {
    std::string file, function, code;                    // code empty: a lone comment
    int line;
    std::string at() const { return cat(file, ":", line); }
};
struct Equation {
    std::string key, chapter, says, reason;
    std::vector<Place> places;
};
struct Papers {
    std::vector<Equation> equations;
    std::map<std::string, size_t> index;                 // "V2 (9)" -> its place among them
    std::vector<std::string> names, wrong;
};

const char *const list = "data/equations.txt";

std::string trimmed(const std::string &text) {
    const size_t from = text.find_first_not_of(" \t"), to = text.find_last_not_of(" \t");
    return from == std::string::npos ? "" : text.substr(from, to - from + 1);
}

std::vector<std::string> lines_of(const std::string &path) {
    std::istringstream text(read_text(path, 1 << 24));
    std::vector<std::string> lines;
    for (std::string line; std::getline(text, line);) lines.push_back(line);
    return lines;
}

Papers read_equations(const std::string &folder) {
    const std::string path = (std::filesystem::path(folder) / list).string();
    if (!exists(path))
        fail(path + ": no such file", "run `deepseek map` in the folder of the sources, or give --sources");
    static const std::regex row(R"(([\w.]+) \((\d+)\)\s*(.*))");
    Papers papers;
    std::string chapter;
    for (const std::string &line : lines_of(path)) {
        std::smatch found;
        if (line.starts_with("# ---"))
            chapter = trimmed(line.substr(line.find_last_of('-', line.find("- ")) + 1));
        if (line.starts_with("#") || trimmed(line).empty()) continue;
        expect(std::regex_match(line, found, row), path, ": no equation: ", line);
        const std::string rest = found[3], key = cat(found[1], " (", found[2], ")");
        const size_t bar = rest.find(" | ");
        papers.index[key] = papers.equations.size();
        papers.equations.push_back({key,
                                    chapter,
                                    trimmed(rest.substr(0, bar)),
                                    bar == std::string::npos ? "" : trimmed(rest.substr(bar + 3)),
                                    {}});
        if (papers.names.empty() || papers.names.back() != found[1]) papers.names.push_back(found[1]);
    }
    return papers;
}

// The keys of all tags in a comment; ranges are spelled out.
std::vector<std::string> tags(const std::string &comment) {
    static const std::regex tag(
        R"((?:^|[^A-Za-z0-9-])([A-Z][A-Za-z0-9]*(?:\.\d+)?) (\(\d+\)(?:(?:-|, | and )?\(\d+\))*))");
    static const std::regex number(R"((-)?(?:, | and )?\((\d+)\))");
    std::vector<std::string> keys;
    for (std::sregex_iterator t(comment.begin(), comment.end(), tag), end; t != end; ++t) {
        const std::string numbers = (*t)[2];
        int last = 0;
        for (std::sregex_iterator n(numbers.begin(), numbers.end(), number); n != end; ++n) {
            const int to = std::stoi((*n)[2]);
            for (int i = (*n)[1].matched ? last + 1 : to; i <= to; i++)
                keys.push_back(cat((*t)[1], " (", i, ")"));
            last = to;
        }
    }
    return keys;
}

// Adds the tags of one file. A function begins at a line without indentation that has a parenthesis, and ends
// at a brace without indentation; the comments above it are its own.
void read_source(Papers &papers, const std::string &folder, const std::string &file) {
    static const std::regex head(R"(^[A-Za-z].*?(\w+)\(.*)");
    std::vector<std::pair<std::string, Place>> waiting;  // of comments above a function
    std::string function;
    int at = 0;
    const auto take = [&](const std::string &key, const Place &place) {
        const std::string paper = key.substr(0, key.find(' '));
        if (std::count(papers.names.begin(), papers.names.end(), paper) == 0) return;
        if (!papers.index.count(key)) papers.wrong.push_back(cat(place.at(), ": ", key, " is not in ", list));
        else papers.equations[papers.index[key]].places.push_back(place);
    };
    const auto settle = [&] {
        for (auto &[key, place] : waiting) {
            place.function = function;
            take(key, place);
        }
        waiting.clear();
    };
    for (const std::string &line : lines_of((std::filesystem::path(folder) / file).string())) {
        at++;
        std::smatch found;
        if (function.empty() && std::regex_match(line, found, head) && line.back() != ';')
            function = found[1];
        const size_t comment = line.find("//");
        if (!function.empty() || trimmed(line).empty()) settle();
        if (comment != std::string::npos)
            for (const std::string &key : tags(line.substr(comment + 2)))
                waiting.push_back({key, {file, "", trimmed(line.substr(0, comment)), at}});
        if (!function.empty() || comment != 0) settle();
        if (line == "}" || (line.find('}') != std::string::npos && !line.starts_with(' '))) function.clear();
    }
    settle();
}

std::vector<std::string> source_files(const std::string &folder) {
    const std::filesystem::path root(folder);
    std::vector<std::string> files;
    const auto add = [&](const std::filesystem::directory_entry &entry) {
        const std::string kind = entry.path().extension();
        if (kind == ".h" || kind == ".cpp") files.push_back(entry.path().lexically_relative(root).string());
    };
    for (const auto &entry : std::filesystem::directory_iterator(root)) add(entry);
    for (const auto &entry : std::filesystem::recursive_directory_iterator(root / "src"))
        if (entry.path().parent_path().filename() != "cli") add(entry);            // which has examples only
    std::sort(files.begin(), files.end());
    return files;
}

void check(Papers &papers) {
    for (const Equation &e : papers.equations) {
        const bool later = e.reason.starts_with("later"), as = e.reason.starts_with("as ");
        if (e.places.empty() && !later && !as && !e.reason.starts_with("text: "))
            papers.wrong.push_back(
                cat(e.key, ": neither a tag in the sources nor a reason in ", list, ": ", e.says));
        if (!e.places.empty() && later)
            papers.wrong.push_back(cat(e.key, ": has a tag, so it is not `later` any more in ", list));
        const auto other = papers.index.find(as ? e.reason.substr(3) : e.key);
        if (as && (other == papers.index.end() || papers.equations[other->second].places.empty()))
            papers.wrong.push_back(cat(e.key, ": ", e.reason, ", which has no tag"));
    }
}

std::string page(const Papers &papers) {
    std::ostringstream out;
    out << "# Where is which equation\n\nWritten by `make map` from the tags in the sources and from " << list
        << ".\n";
    std::string chapter;
    for (const Equation &e : papers.equations) {
        if (e.chapter != chapter)
            out << "\n## " << (chapter = e.chapter) << "\n\n| equation | says | where |\n|---|---|---|\n";
        out << "| " << e.key << " | " << std::regex_replace(e.says, std::regex("\\|"), "\\|") << " | ";
        std::string before;
        for (const bool lone_comment : {false, true})
            for (const Place &p : e.places) {
                if (p.code.empty() != lone_comment) continue;
                out << before << "[" << p.at() << "](../" << p.file << "#L" << p.line << ")";
                before = ", ";
            }
        out << (before.empty() || e.reason.empty() ? "" : "; ") << e.reason << " |\n";
    }
    return out.str();
}

void print(const Papers &papers, const Equation &e, const std::string &function) {
    std::cout << e.key << "  " << e.says << "\n";
    if (!e.reason.empty()) std::cout << "    " << e.reason << "\n";
    const std::vector<Place> &places =
        e.reason.starts_with("as ") ? papers.equations[papers.index.at(e.reason.substr(3))].places : e.places;
    for (const Place &p : places) {
        if (!function.empty() && p.function != function) continue;
        std::cout << "    " << p.at() << (p.function.empty() ? "" : " in " + p.function)
                  << (p.code.empty() ? "" : "    " + p.code) << "\n";
    }
}

void answer(const Papers &papers, const std::string &what) {
    bool any = false;
    std::vector<std::string> known = papers.names;
    for (const Equation &e : papers.equations) {
        for (const Place &p : e.places) known.push_back(p.function);
        const bool inside =
            std::any_of(e.places.begin(), e.places.end(), [&](const Place &p) { return p.function == what; });
        if (!inside && e.key != what && e.key.substr(0, e.key.find(' ')) != what) continue;
        print(papers, e, inside ? what : "");
        any = true;
    }
    std::sort(known.begin(), known.end());
    known.erase(std::unique(known.begin(), known.end()), known.end());
    if (!any)
        fail(cat("no equation is called ", what, ", and no function of that name has one"),
             did_you_mean(what, known));
}

struct MapOptions {
    std::vector<std::string> what;
    std::string sources = ".", out;
} map_options;

void run_map() {
    const MapOptions &o = map_options;
    Papers papers = read_equations(o.sources);
    for (const std::string &file : source_files(o.sources)) read_source(papers, o.sources, file);
    check(papers);
    if (!o.what.empty())
        return answer(papers, o.what.size() == 1 ? o.what[0] : cat(o.what[0], " (", o.what[1], ")"));
    const std::string text = page(papers);
    if (o.out.empty()) std::cout << text;
    else write_atomically(o.out, text);
    for (const std::string &wrong : papers.wrong) std::cerr << wrong << "\n";
    if (!papers.wrong.empty()) throw CLI::RuntimeError(1);
    if (!o.out.empty())
        std::cerr << "map: " << papers.equations.size() << " equations, none without a tag or a reason\n";
}

}  // namespace

void add_map(CLI::App &program) {
    CLI::App *v =
        program.add_subcommand("map", "Where is an equation of a paper, and which are in a function");
    v->footer("Examples:\n  deepseek map V2 9       where is equation (9) of DeepSeek-V2\n"
              "  deepseek map mla        which equations are in the function mla");
    v->add_option("what", map_options.what, "a paper, a paper and a number, or a function; nothing: all")
        ->expected(0, 2);
    v->add_option("--sources", map_options.sources, "the folder of the sources")->capture_default_str();
    v->add_option("--out", map_options.out, "write all to this file, and fail if an equation has no place");
    v->callback(run_map);
}

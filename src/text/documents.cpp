// documents.cpp: see documents.h.
#include "src/text/documents.h"

#include <filesystem>

#include "src/base/error.h"
#include "src/base/json.h"
#include "src/base/utf8.h"
#include "src/text/corpus.h"
#include "src/text/lines.h"

namespace fs = std::filesystem;

bool is_jsonl(const std::string &file) { return file.ends_with(".jsonl"); }

static bool blank(std::string_view text) { return without_end(text).empty(); }

static std::string_view all_of(const Mapping &file) { return {(const char *)file.data, file.size}; }

// A line of a .jsonl; `about`, if it is given, learns what the line says of its document.
static std::string parse_line(std::string_view line, const std::string &file, long number, Document *about) {
    const Json json = parse_json(repair_utf8(line), file, number);
    const JsonObject object(json, cat(file, ": line ", number));
    if (about) about->source = get_string(object, "source", about->source);
    if (about) about->path = get_string(object, "path", about->path);
    if (json.contains("text")) return get_string(object, "text");
    fail(cat(object.name, ": text is missing"), "a line of a .jsonl is a document, {\"text\": ...}; under "
                                                "another name the file is read as it stands");
}

void for_each_document(const std::string &file, const std::function<void(std::string_view)> &use) {
    const Mapping mapping(file);
    if (!is_jsonl(file)) return use(all_of(mapping));
    for_each_line(all_of(mapping), [&](std::string_view line, long number) {
        if (!blank(line)) use(parse_line(line, file, number, nullptr));
    });
}

Documents::Documents(const std::string &path, const std::optional<std::string> &separator)
    : files(texts_below(path)), open(files.size()) {
    const bool folder = fs::is_directory(path);
    for (size_t file = 0; file < files.size(); file++) {
        const size_t before = list.size();
        cut(file, separator);
        if (list.size() - before > 100)
            open[file] = Mapping(files[file]);                            // opening it costs more than a text
        const fs::path whole = files[file],
                       below = folder ? whole.lexically_relative(path) : whole.filename();
        for (size_t i = before; i < list.size(); i++) {
            list[i].path = repair_utf8(below.string()) + list[i].path;
            if (below.has_parent_path()) list[i].source = repair_utf8(below.begin()->string());
        }
    }
    expect(!list.empty(), path, ": no documents in it");
}

// The documents of one file; of their paths what comes behind its name.
void Documents::cut(size_t file, const std::optional<std::string> &separator) {
    const Mapping mapping(files[file]);
    const std::string_view text = all_of(mapping);
    const auto add = [&](size_t at, size_t length, const std::string &path, long line) {
        if (blank(text.substr(at, length))) return;
        list.push_back(
            {.path = path, .file = file, .at = at, .length = length, .line = line, .bytes = length});
    };
    if (is_jsonl(files[file]))
        return for_each_line(text, [&](std::string_view line, long n) {
            add(line.data() - text.data(), line.size(), cat(":", n), n);
        });
    if (!separator) return add(0, text.size(), "", 0);
    const size_t before = list.size();
    size_t start = 0;
    const auto end_at = [&](size_t end) { add(start, end - start, cat("#", list.size() - before + 1), 0); };
    for_each_line(text, [&](std::string_view line, long) {
        if (without_end(line) != *separator) return;
        end_at(line.data() - text.data());
        start = std::min(text.size(), line.data() - text.data() + line.size() + 1);
    });
    end_at(text.size());
}

std::string Documents::read(const Document &d, Document *about) const {
    const Mapping mine = open[d.file].data ? Mapping() : Mapping(files[d.file]);
    const std::string_view all = all_of(mine.data ? mine : open[d.file]);
    expect(d.at + d.length <= all.size(), files[d.file], ": became shorter while it was read");
    const std::string_view text = all.substr(d.at, d.length);
    if (d.line) return parse_line(text, files[d.file], d.line, about);
    return valid_utf8(text) ? std::string(text) : repair_utf8(text);
}

std::string Documents::read(long i) const { return read(list[i], nullptr); }

std::string Documents::read_first(long i) {
    std::string text = read(list[i], &list[i]);
    list[i].bytes = text.size();
    return text;
}

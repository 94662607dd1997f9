// documents.h: what the texts of a file or a folder are cut into.
//
// A document is a file; of a .jsonl, a line with its text under the key "text"; or what stands between lines
// that separate. Documents are read when they are needed, so a folder may be larger than the memory.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/files.h"

// Of a file or of a .jsonl, as training and the tokenizer's trainer read them.
void for_each_document(const std::string &file, const std::function<void(std::string_view)> &use);
bool is_jsonl(const std::string &file);

struct Document {
    std::string path;                             // below the folder: "web/a.txt", "web/b.jsonl:3", "c.txt#2"
    std::string source = ".";                    // the first folder of the path; in a .jsonl its key "source"
    size_t file = 0, at = 0, length = 0;                 // where it stands
    long line = 0;                                       // of a .jsonl; 0: plain text
    size_t bytes = 0;                                    // of its text
};

struct Documents {
    std::vector<std::string> files;
    std::vector<Document> list;                          // by path, then as they stand in the file

    // `separator`: a line that stands between two documents of a file; what is blank is none.
    Documents(const std::string &path, const std::optional<std::string> &separator = {});
    std::string read(long i) const;                      // valid UTF-8: what is broken has become U+FFFD
    // What a .jsonl says of its lines becomes known when they are read for the first time.
    std::string read_first(long i);

private:
    std::vector<Mapping> open;                           // by file: those of many documents
    std::string read(const Document &, Document *about) const;
    void cut(size_t file, const std::optional<std::string> &separator);
};

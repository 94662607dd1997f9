// outputs.cpp: see outputs.h.
#include "src/text/outputs.h"

#include <cfloat>
#include <set>

#include "src/base/error.h"
#include "src/base/files.h"
#include "src/base/json.h"
#include "src/base/utf8.h"
#include "src/text/lines.h"
#include "src/text/tokenizer.h"

static std::vector<int> encoded(const JsonObject &line, const char *key, const Tokenizer &tokenizer) {
    const std::string text = get_string(line, key);
    const std::vector<int> ids = tokenizer.encode_plain(text);
    const std::string again = tokenizer.decode(ids);
    if (again == text) return ids;
    size_t at = std::mismatch(text.begin(), text.end(), again.begin(), again.end()).first - text.begin();
    if (at < text.size()) at = start_of_character(text, at);
    fail(cat(line.name, ": ", key, ": the tokenizer makes ", in_quotes(std::string_view(again).substr(at)),
             " of ", in_quotes(std::string_view(text).substr(at))),
         "the model has no tokens for it: it belongs to texts of another kind");
}

// The rule's verdict; where there is none, a reward above 0.                                    Math (9)-(11)
static bool is_right(const JsonObject &line) {
    if (given(line, "right")) return get_bool(line, "right");
    if (!given(line, "reward")) fail(line.name + ": right, or a reward, is missing");
    return get_real(line, "reward", -DBL_MAX, DBL_MAX) > 0;
}

static Prompted prompted(const JsonObject &line, const std::vector<const char *> &keys,
                         const Tokenizer &tokenizer, int T) {
    Prompted p = {.prompt = tokenizer.begun(encoded(line, "prompt", tokenizer)), .outputs = {}};
    for (const char *key : keys) {
        p.outputs.push_back(encoded(line, key, tokenizer));
        p.outputs.back().push_back(tokenizer.eos[0]);
        const size_t n = p.prompt.size() + p.outputs.back().size();
        if ((int)n > T + 1)
            fail(cat(line.name, ": prompt, ", key, " and end are ", n, " tokens; a context of ", T,
                     " has room for ", T + 1),
                 "leave the line out, or give the model a longer context");
    }
    return p;
}

// Parts a file's lines: a question with an output in train is not asked again of what is held out.
static void part(const std::vector<Prompted> &all, OutputFile &f) {
    std::set<std::vector<int>> trained;
    for (size_t i = 0; i < all.size(); i++) {
        const bool early = i < all.size() - all.size() / 20;
        if (early) trained.insert(all[i].prompt);
        (early || trained.count(all[i].prompt) ? f.train : f.held_out).push_back(all[i]);
    }
}

OutputFile read_outputs(const std::string &file, const Tokenizer &tokenizer, int T, Lines which) {
    if (!exists(file))
        fail(cat("--data ", file, ": no such file"),
             cat("a .jsonl of ", which == Lines::pairs ? "pairs" : "outputs",
                 ", as `deepseek rollout` writes it"));
    expect(!tokenizer.eos.empty(), "--data ", file, ": the model has no token that ends an output");
    const bool pairs = which == Lines::pairs;
    const std::vector<const char *> keys = pairs ? std::vector{"chosen", "rejected"} : std::vector{"output"};
    OutputFile f;
    std::vector<Prompted> all;
    std::set<std::pair<std::string, std::string>> seen;
    const Mapping mapping(file);
    for_each_line({(const char *)mapping.data, mapping.size}, [&](std::string_view text, long number) {
        if (without_end(text).empty()) return;
        f.lines++;
        const Json json = parse_json(text, file, number);
        const JsonObject line(json, cat(file, ": line ", number));
        const std::string prompt = get_string(line, "prompt"), output = get_string(line, keys[0]);
        if (pairs && output == get_string(line, keys[1]))
            fail(line.name + ": chosen and rejected are the same");
        if (which == Lines::rewarded && !is_right(line)) return void(f.wrong++);
        if (which == Lines::rewarded && !seen.insert({prompt, output}).second) return void(f.twice++);
        all.push_back(prompted(line, keys, tokenizer, T));
    });
    expect(f.lines, file, ": no lines in it");
    expect(!all.empty(), file, ": none of its ", f.lines, " outputs is right");
    part(all, f);
    return f;
}

std::vector<Sample> packed(const std::vector<Prompted> &documents, int T) {
    std::vector<Sample> list;
    for (const Prompted &d : documents) {
        const size_t n = d.prompt.size() + d.outputs[0].size();
        if (list.empty() || list.back().ids.size() + n > (size_t)T + 1) list.emplace_back();
        pack(list.back(), d.prompt, d.outputs[0]);
    }
    return list;
}

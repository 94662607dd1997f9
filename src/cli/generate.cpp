// generate.cpp: `deepseek generate`: a text goes on.
#include <fstream>
#include <iostream>
#include <iterator>
#include <utility>

#include "src/base/files.h"
#include "src/base/utf8.h"
#include "src/cli/generation.h"
#include "src/infer/chat.h"
#include "src/model/huggingface.h"

namespace {
struct Generate {
    std::string prompt = "Once", prompt_file, suffix;
    int n = 1;
    bool control_tokens = false;
    GenerationOptions generation;
    Common common;

    void options(CLI::App &v) {
        generation.options(v);
        const auto text =
            v.add_option("--prompt", prompt, "what to continue; empty: begin anew")->capture_default_str();
        v.add_option("--prompt-file", prompt_file, "a file with what to continue; - is the standard input")
            ->excludes(text);
        v.add_option("--suffix", suffix, "what stands behind: the model fills the hole (FIM)");
        v.add_flag("--control-tokens", control_tokens, "control tokens in the prompt are tokens, not words");
        v.add_option("--n", n, "how many, side by side")->check(between(1, 4096))->capture_default_str();
        v.add_option("--speculate", generation.g.speculate,
                     "MTP modules that draft tokens, for the model to verify; 0: it says each itself")
            ->check(between(0, 64))
            ->capture_default_str();
    }
    std::string before() const {
        if (prompt_file.empty()) return prompt;
        if (prompt_file != "-") return repair_utf8(read_text(prompt_file, 1 << 26));
        return repair_utf8(std::string(std::istreambuf_iterator<char>(std::cin), {}));
    }
    std::vector<int> ids_of(const Tokenizer &tokenizer, const std::string &text) const {
        if (!suffix.empty()) return tokenizer.begun(fim_prompt(text, suffix).encode(tokenizer));
        return tokenizer.begun(control_tokens ? tokenizer.encode(text) : tokenizer.encode_plain(text));
    }
    // V3 section 5.4.3, in its numbers.
    static void report(const Speculation &s) {
        const size_t D = s.drafted.size();
        fprintf(stderr, "speculation:");
        for (size_t k = 0; k < D; k++)
            fprintf(stderr, "%s draft %zu accepted %.1f%% of %ld", k ? "," : "", k + 1,
                    100.0 * (double)s.accepted[k] / (double)std::max(1L, s.drafted[k]), s.drafted[k]);
        fprintf(stderr, "; %.3f tokens a trunk forward\n", s.tokens_per_forward());
        if (s.t_1.empty()) return;
        const auto ms = [](const std::vector<double> &t) { return 1000 * Speculation::median(t); };
        fprintf(stderr,
                "speculation: t_1 %.3f ms, t_%zu %.3f ms, t_mtp %.3f ms: %.3f t_1 / (t_%zu + t_mtp) = %.3f\n",
                ms(s.t_1), D + 1, ms(s.t_1D), ms(s.t_mtp), s.tokens_per_forward(), D + 1, s.gain());
    }
    void run() const {
        const Model m = load_model(generation.model);
        const Tokenizer tokenizer = tokenizer_of(m, generation.model);
        const std::string text = before();
        const std::vector<int> ids = ids_of(tokenizer, text);
        Generation g = generation.g;
        Speculation speculation;
        g.stop = tokenizer.eos;
        g.speculation = g.speculate ? &speculation : nullptr;
        bool cut = false;
        if (n == 1) {
            std::string first = text;                    // said once the model has agreed to it
            cut = stream(m, tokenizer, ids, g, [&](const std::string &part) {
                      std::cout << std::exchange(first, "") << part << std::flush;
                  }).cut;
            std::cout << suffix << "\n";
        } else {
            const Request request = {.prompt = ids, .samples = n, .max_tokens = g.max_tokens, .stop = g.stop};
            const auto answers = decode(m, {request}, g.options());
            for (const Answer &s : answers[0]) {
                std::cout << text << tokenizer.decode(s.text()) << suffix << "\n\n";
                cut |= s.end == End::context;
            }
        }
        if (speculation.forwards) report(speculation);
        if (cut)
            std::cerr << "the text ends where the model's context of " << m.c.context << " tokens does\n";
    }
};
}  // namespace

void add_generate(CLI::App &program) {
    add_verb<Generate>(program, "generate", "Continue a text",
                       "deepseek generate --model runs/v3 --prompt \"Once upon a time\"");
}

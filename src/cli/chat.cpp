// chat.cpp: `deepseek chat`: a line is a turn.
#include <iostream>
#include <unistd.h>

#include "src/cli/generation.h"
#include "src/infer/chat.h"
#include "src/model/huggingface.h"

namespace {
struct ChatVerb {
    std::string style = "v3", system;
    bool thinking = false, show = false;
    GenerationOptions generation;
    Common common;

    void options(CLI::App &v) {
        generation.options(v);
        v.add_option("--style", style, "the template")
            ->check(CLI::IsMember({"llm", "v2", "v3", "r1", "v3.1", "v3.2"}))
            ->capture_default_str();
        v.add_option("--system", system, "what stands before the conversation");
        v.add_flag("--thinking", thinking, "v3.1, v3.2: let it think first");
        v.add_flag("--show", show, "print each prompt as the model sees it: ids, and their texts");
    }
    static void warn(const Chat &chat) {
        std::string names;
        for (const std::string &name : chat.strangers()) names += " " + name;
        if (!names.empty())
            std::cerr << "note: the model never learned" << names
                      << ": it was not trained on this template\n";
    }
    static void print_prompt(const Tokenizer &tokenizer, const std::vector<int> &ids) {
        for (int id : ids) {
            std::cout << id << " ";
            for (char letter : tokenizer.decode({id}))
                std::cout << (letter == '\n' ? "\\n" : std::string(1, letter));
            std::cout << "  ";
        }
        std::cout << "\n";
    }
    void run() const {
        const Model m = load_model(generation.model);
        const Tokenizer tokenizer = tokenizer_of(m, generation.model);
        Chat chat(m, tokenizer, style, system, thinking, generation.g);
        warn(chat);
        const bool person = isatty(0);
        if (person) std::cout << "A line is a message. /new begins anew, Ctrl-D ends.\n";
        const auto next = [&](std::string &line) {
            if (person) std::cout << "> " << std::flush;
            return (bool)std::getline(std::cin, line);
        };
        for (std::string line; next(line);) {
            if (line == "/new") chat.begin_anew();
            if (line == "/new" || line.empty()) continue;
            try {
                chat.say(line);
            } catch (const Error &e) {                   // one line too long ends no conversation
                std::cerr << e.what() << "\n";
                continue;
            }
            if (show) print_prompt(tokenizer, chat.prompt());
            const bool cut =
                chat.answer([](const std::string &part) { std::cout << part << std::flush; }).cut;
            std::cout << "\n";
            if (cut) std::cerr << "the answer ends where the model's context does\n";
        }
        if (person) std::cout << "\n";
    }
};
}  // namespace

void add_chat(CLI::App &program) {
    add_verb<ChatVerb>(program, "chat", "Talk to a model, line by line",
                       "deepseek chat --model runs/v3 --style v3 --system \"Answer in one sentence.\"");
}

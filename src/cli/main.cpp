// main.cpp: the verbs and their options. Everything else is a call into the room that does the work.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <omp.h>
#include <optional>
#include <unistd.h>
#include <utility>

#include "src/infer/decoder.h"
#include "src/model/config.h"
#include "src/model/huggingface.h"
#include "src/text/corpus.h"
#include "src/train/training.h"
#include "src/text/tokenizer.h"
#include "src/base/files.h"
#include "src/cli/inspect.h"
#include "src/cli/verbs.h"
#include "src/lean/lean.h"
#include "src/base/progress.h"
#include "src/cli/tokenize.h"
#include "src/text/stories.h"
#include "src/base/text.h"

namespace {

void add_generation(CLI::App &v, std::string &model, Generation &g) {
    v.add_option("--model", model, "a checkpoint's folder")->required();
    v.add_option("--max-tokens", g.max_tokens, "")->capture_default_str();
    v.add_option("--temperature", g.sampling.temperature, "0: always the likeliest")->capture_default_str();
    v.add_option("--top-k", g.sampling.top_k, "choose among the k likeliest; 0: all");
    v.add_option("--top-p", g.sampling.top_p, "choose among the likeliest up to this probability")
        ->capture_default_str();
    v.add_option("--seed", g.sampling.seed, "")->capture_default_str();
}

Tokenizer tokenizer_of(const Model &m, const std::string &folder) {
    Tokenizer tokenizer = load_tokenizer(folder);
    expect(tokenizer.size() <= m.c.V, folder, ": the tokenizer has ", tokenizer.size(),
           " tokens, the model's vocabulary only ", m.c.V);
    return tokenizer;
}

void check_generation(const Generation &g) {
    expect(g.sampling.temperature >= 0, "--temperature ", g.sampling.temperature, " is negative");
    expect(g.sampling.top_p > 0 && g.sampling.top_p <= 1, "--top-p ", g.sampling.top_p, " is not in (0, 1]");
    expect(g.sampling.top_k >= 0, "--top-k ", g.sampling.top_k, " is negative");
    expect(g.max_tokens >= 1, "--max-tokens ", g.max_tokens, " is not positive");
}

struct GenerateOptions {
    std::string model, prompt = "Once";
    int n = 1;
    Generation g;
} generate_options;

void run_generate() {
    use_common();
    GenerateOptions &o = generate_options;
    check_generation(o.g);
    expect(o.n >= 1 && o.n <= 4096, "--n ", o.n, " is not between 1 and 4096");
    const Model m = load_model(o.model);
    const Tokenizer tokenizer = tokenizer_of(m, o.model);
    std::vector<int> prompt = tokenizer.encode_plain(o.prompt);
    if (prompt.empty())
        prompt = {tokenizer.special("<｜end▁of▁sentence｜>")};  // what stands before every story
    if (tokenizer.find("<｜end▁of▁sentence｜>") >= 0) o.g.stop = {tokenizer.find("<｜end▁of▁sentence｜>")};
    if (o.n == 1) {                                      // streamed
        StreamDecoder text{tokenizer, ""};
        std::string first = o.prompt;                    // said once the model has agreed to it
        generate(m, {prompt}, o.g,
                 [&](int, int id) { std::cout << std::exchange(first, "") << text.push(id) << std::flush; });
        std::cout << first << text.finish() << "\n";
        return;
    }
    for (const auto &ids : generate(m, Sequences(o.n, prompt), o.g))
        std::cout << o.prompt << tokenizer.decode(ids) << "\n\n";
}

void add_generate(CLI::App &app) {
    GenerateOptions &o = generate_options;
    CLI::App *v = add_verb(app, "generate", "Continue a text",
                           "deepseek generate --model runs/v3 --prompt \"Once upon a time\"");
    v->add_option("--prompt", o.prompt, "what to continue; empty: begin anew")->capture_default_str();
    v->add_option("--n", o.n, "how many, side by side")->capture_default_str();
    add_generation(*v, o.model, o.g);
    v->callback(run_generate);
}

struct ChatOptions {
    std::string model, style = "v3", system;
    bool thinking = false;
    Generation g;
};

// One answer, streamed. What the model thought (V3.2's template wants it apart) is all before </think>.
Message answer(const Model &m, const Tokenizer &tokenizer, const std::vector<int> &prompt,
               const Generation &g) {
    StreamDecoder text{tokenizer, ""};
    std::string said;
    const auto print = [&](const std::string &part) {
        said += part;
        std::cout << part << std::flush;
    };
    generate(m, {prompt}, g, [&](int, int id) { print(text.push(id)); });
    print(text.finish());
    std::cout << "\n";
    const std::string end_think = "</think>";
    const size_t end = said.find(end_think);
    if (end == std::string::npos) return {"assistant", said, {}, ""};
    return {"assistant", said.substr(end + end_think.size()), {}, said.substr(0, end)};
}

// A line is a turn. When the conversation no longer fits into the model's context, its oldest turns go.
void run_chat(ChatOptions &o) {
    use_common();
    check_generation(o.g);
    const Model m = load_model(o.model);
    const Tokenizer tokenizer = tokenizer_of(m, o.model);
    std::vector<Message> talk;
    if (!o.system.empty()) talk.push_back({"system", o.system, {}, ""});
    const auto encoded = [&] { return chat_prompt(o.style, talk, o.thinking).encode(tokenizer); };
    const size_t opening = talk.size(), fits = m.c.context - std::min(o.g.max_tokens, m.c.context / 2);
    expect(encoded().size() < fits, "--system: ", encoded().size(), " tokens leave no room in a context of ",
           m.c.context);
    o.g.stop = {tokenizer.special("<｜end▁of▁sentence｜>")};
    const bool person = isatty(0);
    if (person) std::cout << "A line is a message. /new begins anew, Ctrl-D ends.\n";
    const auto next = [&](std::string &line) {
        if (person) std::cout << "> " << std::flush;
        return (bool)std::getline(std::cin, line);
    };
    for (std::string line; next(line);) {
        if (line == "/new") talk.resize(opening);
        if (line == "/new" || line.empty()) continue;
        talk.push_back({"user", line, {}, ""});
        std::vector<int> prompt = encoded();
        for (; prompt.size() > fits && talk.size() > opening + 1; prompt = encoded())
            talk.erase(talk.begin() + opening, talk.begin() + opening + 2);
        if (prompt.size() > fits) {
            std::cerr << "too long: " << prompt.size() << " tokens, and there is room for " << fits << "\n";
            talk.pop_back();
            continue;
        }
        talk.push_back(answer(m, tokenizer, prompt, o.g));
    }
    if (person) std::cout << "\n";
}

void add_chat(CLI::App &app) {
    static ChatOptions o;
    CLI::App *v = add_verb(app, "chat", "Talk to a model, line by line",
                           "deepseek chat --model runs/v3 --style v3 --system \"Answer in one sentence.\"");
    v->add_option("--style", o.style, "the template: llm, v2, v3, r1, v3.1, v3.2")->capture_default_str();
    v->add_option("--system", o.system, "what stands before the conversation");
    v->add_flag("--thinking", o.thinking, "v3.1, v3.2: let it think first");
    add_generation(*v, o.model, o.g);
    v->callback([] { run_chat(o); });
}

void add_eval(CLI::App &app) {
    static std::string model, data = "stories";
    static int batch = 8, context = 0;
    CLI::App *v = add_verb(app, "eval", "Measure a model on held-out text",
                           "deepseek eval --model runs/v3 --data stories");
    v->add_option("--model", model, "a checkpoint's folder")->required();
    v->add_option("--data", data, "stories, a file or a folder; its held-out part is read")
        ->capture_default_str();
    v->add_option("--batch", batch, "sequences at a time")->capture_default_str();
    v->add_option("--context", context, "tokens of a sequence; 0: the model's");
    v->callback([] {
        use_common();
        expect(batch >= 1, "--batch ", batch, " is not positive");
        const Model m = load_model(model);
        const Tokenizer tokenizer = tokenizer_of(m, model);
        expect(context >= 0 && context <= m.c.context, "--context ", context,
               ": the model's longest sequence is ", m.c.context);
        const Corpus corpus = load_corpus(data, tokenizer, 1);
        const size_t T = std::min<size_t>(context ? context : m.c.context, corpus.valid.size() - 1);
        std::vector<Examples> batches(1);
        for (size_t at = 0; at + T < corpus.valid.size(); at += T) {
            if ((int)batches.back().size() == batch) batches.emplace_back();
            batches.back().push_back({.ids = corpus.valid.read(at, T + 1)});
        }
        std::optional<Progress> bar;
        if (isatty(1)) bar.emplace(0, (long)batches.size());
        const double nats = evaluate(m, batches, [&](long done) {
            if (bar) bar->update(done, "batches");
        });
        bar.reset();
        printf("%.4f nats per token, %.4f bits per byte, perplexity %.3f, on %zu held-out tokens\n", nats,
               nats / std::log(2.0) / corpus.valid_bytes_per_token, std::exp(nats), corpus.valid.size());
    });
}

void add_data(CLI::App &app) {
    static std::string out;
    static int n = 3, seed = 1;
    CLI::App *v = app.add_subcommand("data", "Show or write the embedded stories");
    v->footer("Example:\n  deepseek data --n 20000 --out stories.txt");
    v->add_option("--n", n, "how many stories of the training part")->capture_default_str();
    v->add_option("--seed", seed, "")->capture_default_str();
    v->add_option("--out", out, "a text file, one story a line; else the terminal");
    v->callback([] {
        expect(n >= 1 && n <= 10000000, "--n ", n, " is not between 1 and 10000000");
        std::string text;
        for (long i = 0, found = 0; found < n; i++) {
            const Tale tale = tell(seed, i);
            if (!tale.held_out) text += tale.text + (out.empty() ? "\n\n" : "\n"), found++;
        }
        if (out.empty()) std::cout << text;
        else write_atomically(out, text);
    });
}

void add_config(CLI::App &app) {
    static std::string preset, model;
    static std::vector<std::string> set;
    static bool list = false;
    CLI::App *v = add_verb(app, "config", "Show a configuration and what it costs",
                           "deepseek config --preset deepseek-v3");
    const auto by_name = v->add_option("--preset", preset, "a preset's name or file");
    v->add_option("--model", model, "or a checkpoint's folder")->excludes(by_name);
    v->add_option("--set", set, "field=value (repeatable)");
    v->add_flag("--list", list, "show presets and fields");
    v->callback([] {
        if (list || (preset.empty() && model.empty())) {
            std::cout << "presets:";
            for (const auto &name : preset_names()) std::cout << " " << name;
            std::cout << "\nfields:\n";
            for (const Field &field : config_fields())
                printf("  %-18s %-10s %s\n", field.name, field.get({}).c_str(), field.help);
            return;
        }
        Config c = model.empty() ? load_preset(preset) : load_config(model);
        for (const auto &assignment : set) set_field(c, assignment);
        validate(c);
        std::cout << print_config(c) << "\n" << print_census(c);
    });
}

void add_inspection(CLI::App &app) {
    static std::string model, tokens, out, in, name;
    static bool grads = false, list = false, json = false;
    static std::vector<std::string> set;
    CLI::App *d = add_verb(app, "dump", "Write logits, loss and gradients for comparison",
                           "deepseek dump --model DIR --tokens ids.txt --out dump.safetensors --grads");
    d->add_option("--model", model, "a checkpoint's folder")->required();
    d->add_option("--tokens", tokens, "token ids, one sequence a line")->required();
    d->add_option("--out", out, "a safetensors file")->required();
    d->add_flag("--grads", grads, "with the gradient of every weight, as grad.<name>");
    d->callback([] {
        use_common();
        dump(model, tokens, out, grads);
    });
    CLI::App *o =
        add_verb(app, "op", "Call one op",
                 "deepseek op rmsnorm --in x.safetensors --out y.safetensors --set eps=1e-6 --grads");
    o->add_option("name", name, "");
    o->add_flag("--list", list, "show all ops: inputs, outputs, formula, attributes");
    o->add_flag("--json", json, "the list as JSON");
    o->add_option("--in", in, "safetensors with the inputs by name; with --grads also d<output>");
    o->add_option("--out", out, "outputs by name; with --grads also d<input>");
    o->add_option("--set", set, "attribute=value (repeatable)");
    o->add_flag("--grads", grads, "run the backward too");
    o->callback([] {
        use_common();
        if (list || name.empty()) return list_ops(json);
        expect(!in.empty() && !out.empty(), "op ", name, ": --in and --out are needed");
        run_op(name, in, out, set, grads);
    });
}

void add_bench(CLI::App &app) {
    static BenchOptions b;
    CLI::App *v = add_verb(app, "bench", "Measure this machine and the models on it",
                           "deepseek bench --json bench.json");
    v->add_option("--preset", b.presets, "which models (repeatable); default v3-tiny and v3-small");
    v->add_option("--set", b.set, "field=value of their configurations (repeatable)");
    v->add_option("--batch", b.batch, "sequences of a training step")->capture_default_str();
    v->add_option("--context", b.context, "tokens of a sequence")->capture_default_str();
    v->add_option("--steps", b.steps, "timed steps")->capture_default_str();
    v->add_option("--json", b.json, "write the figures there");
    v->callback([] {
        use_common();
        bench(b);
    });
}

// Idle OpenMP threads spin for milliseconds by default. Where the cores are shared with others that costs
// more than it gains (on a busy machine 5 times fewer tokens a second were measured); where they are not,
// sleeping at once costs a third. So they spin for a part of one. libgomp reads this before main begins.
void let_idle_threads_sleep_soon([[maybe_unused]] char **argv) {
#ifndef DEBUG_PRESET
    if (getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT")) return;
    setenv("GOMP_SPINCOUNT", "50000", 1);
    execv("/proc/self/exe", argv);                       // returns only where it is not possible
#endif
}

int complain(const std::string &cause, const std::string &hint) {
    std::cerr << "deepseek: " << cause << "\n";
    if (!hint.empty()) std::cerr << "  " << hint << "\n";
    return 2;
}

}  // namespace

int main(int argc, char **argv) {
    let_idle_threads_sleep_soon(argv);
    CLI::App app{
        "The models of the DeepSeek papers, small enough to read: train, sample, measure, take apart."};
    app.require_subcommand(0, 1);
    app.footer("`deepseek VERB --help` shows a verb's options and an example.");
    add_train(app);
    add_generate(app);
    add_chat(app);
    add_eval(app);
    add_tokenize_verb(app);
    lean::lean_verb(
        *app.add_subcommand("lean", "Check proofs in a subset of Lean 4, generate and decide theorems"));
    add_data(app);
    add_config(app);
    add_inspection(app);
    add_map(app);
    add_bench(app);
    if (argc == 1) {
        std::cout << app.help();
        return 0;
    }
    std::vector<std::string> verbs;
    for (const CLI::App *v : app.get_subcommands({})) verbs.push_back(v->get_name());
    if (argv[1][0] != '-' && !std::count(verbs.begin(), verbs.end(), argv[1]))
        return complain(cat("no verb '", argv[1], "'"),
                        did_you_mean(argv[1], verbs, "`deepseek --help` shows all"));
    try {
        app.parse(argc, argv);
        return 0;
    } catch (const CLI::CallForHelp &e) {
        return app.exit(e);
    } catch (const CLI::RuntimeError &e) {
        return e.get_exit_code();
    } catch (const CLI::ParseError &e) {
        return complain(e.what(), cat("`deepseek ", argc > 1 ? argv[1] : "", " --help` shows the options"));
    } catch (const Interrupted &) {
        return 130;
    } catch (const Error &e) {
        return complain(e.what(), e.hint);
    } catch (const std::filesystem::filesystem_error &e) {
        return complain(cat(e.path1().string(), ": ", e.code().message()), "");
    } catch (const std::exception &e) {
        std::cerr << "deepseek: " << e.what() << "\n";
        return 1;
    }
}

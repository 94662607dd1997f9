// checkpoint.cpp: what a run saves, and how --resume goes on with it.
#include <cmath>
#include <filesystem>

#include "src/base/safetensors.h"
#include "src/model/config.h"
#include "src/model/huggingface.h"
#include "src/train/training.h"

namespace fs = std::filesystem;

// Weights and the tokens they know belong together: --init brings its tokenizer along.
std::string tokenizer_of(const Options &o) {
    if (!o.tokenizer.empty()) return o.tokenizer;
    return !o.init.empty() && fs::exists(o.init + "/tokenizer.json") ? o.init : "bytes";
}

// Two things are saved. The directory is a checkpoint in Hugging Face's layout, for everybody.
// training.safetensors is one file with all that --resume needs, so that it is never half of one step and
// half of another: weights, moments, selection biases, and in its metadata the step, the position in the data
// and the options that fix the numbers.
static std::string fixed_options(const Options &o, const Model &m) {
    return cat(print_config(m.c), "batch = ", o.batch, "\ncontext = ", o.context ? o.context : m.c.context,
               "\naccumulate = ", o.accumulate, "\ndata = ", o.data, "\ntokens = ", o.tokens,
               "\ntokenizer = ", tokenizer_of(o), "\nseed = ", o.seed, "\nlr = ", o.lr,
               "\nschedule = ", o.schedule, "\nwarmup = ", o.warmup, "\nweight decay = ", o.weight_decay,
               "\nbeta1 = ", o.beta1, "\nbeta2 = ", o.beta2, "\nadam eps = ", o.adam_eps, "\nclip = ", o.clip,
               "\n");
}

// The same options go on with a run; --steps alone may differ.
static void expect_same_options(const std::string &path, const std::string &then, const std::string &now) {
    std::istringstream old_lines(then), new_lines(now);
    for (std::string a, b; then != now;) {
        std::getline(old_lines, a);
        std::getline(new_lines, b);
        if (a != b || !old_lines || !new_lines)
            fail(path + ": was trained with other options: `" + a + "`, not `" + b + "`",
                 "the same options go on with a run");
    }
}

static long whole_number(const std::string &path, const char *key, const std::string &text) {
    const bool digits =
        !text.empty() && text.size() < 16 && text.find_first_not_of("0123456789") == std::string::npos;
    expect(digits, path, ": ", key, " '", text, "' is no count");
    return std::stol(text);
}

static void for_state(Training &t, const std::function<void(const std::string &, Tensor &)> &f) {
    size_t i = 0;
    visit(t.model, [&](const std::string &name, Tensor &w, Group group, const Shape &) {
        f(name, w);
        if (group == Group::bias || group == Group::counter) return;
        f("m." + name, t.optimiser.entries[i].m);
        f("v." + name, t.optimiser.entries[i++].v);
    });
}

void Training::save(const std::string &directory) {
    fs::create_directories(directory);
    save_model(model, directory);
    std::vector<TensorOut> out;
    std::vector<std::vector<real>> numbers;              // hold the copies until they are written
    std::vector<std::vector<int>> integers;
    for_state(*this, [&](const std::string &name, Tensor &w) {
        const std::vector<long> shape(w.shape.d, w.shape.d + w.shape.rank);
        if (w.s->type == INTS) integers.push_back(int_values(w));
        else numbers.push_back(values(w));
        const void *data = w.s->type == INTS ? (const void *)integers.back().data() : numbers.back().data();
        out.push_back({name, w.s->type == INTS ? "I32" : sizeof(real) == 4 ? "F32" : "F64", shape, data});
    });
    write_safetensors(
        directory + "/training.safetensors", out,
        {{"step", cat(step)}, {"position", cat(position)}, {"options", fixed_options(o, model)}});
}

void Training::resume(const std::string &directory) {
    const std::string path = directory + "/training.safetensors";
    expect(fs::exists(path), "--resume: ", path, " does not exist");
    const Safetensors file = read_safetensors(path);
    const auto text = [&](const char *key) {
        expect(file.metadata.count(key), path, ": no ", key, " in its metadata");
        return file.metadata.at(key);
    };
    expect_same_options(path, text("options"), fixed_options(o, model));
    step = whole_number(path, "step", text("step"));
    position = whole_number(path, "position", text("position"));
    expect(step <= 1000000000 && position <= step * o.accumulate * o.batch, path, ": position ", position,
           " is beyond step ", step);
    for_state(*this, [&](const std::string &name, Tensor &w) {
        const auto at = file.tensors.find(name);
        expect(at != file.tensors.end(), path, ": no tensor ", name);
        expect(at->second.shape == std::vector<long>(w.shape.d, w.shape.d + w.shape.rank), path, ": ", name,
               " has another shape than ", w.shape);
        std::vector<int> ids(w.s->type == INTS ? w.numel() : 0);
        std::vector<real> numbers(w.s->type == INTS ? 0 : w.numel());
        if (w.s->type == INTS) read_ints(at->second, ids.data());
        else read_reals(at->second, numbers.data());
        for (real x : numbers)
            expect(std::isfinite(x) && (x >= 0 || !name.starts_with("v.")), path, ": ", name, " holds a ", x);
        if (w.s->type == INTS) w.s->home->up(w.s->data, ids.data(), ids.size() * sizeof(int));
        else assign(w, numbers);
    });
}

// checkpoint.cpp: what a run saves, and how --resume goes on with it.
//
// Two things are saved. The directory is a checkpoint in Hugging Face's layout, for everybody.
// training.safetensors is one file with all that --resume needs, so that it is never half of one step and
// half of another: weights, moments and selection biases by name, and in its metadata the step, the
// position in the data, the configuration and the options.
#include <cmath>
#include <filesystem>

#include "src/base/safetensors.h"
#include "src/model/config.h"
#include "src/model/huggingface.h"
#include "src/train/training.h"

namespace fs = std::filesystem;

static std::string state_file(const std::string &directory) { return directory + "/training.safetensors"; }

static std::string metadata_of(const Safetensors &file, const std::string &path, const char *key) {
    expect(file.metadata.count(key), path, ": no ", key, " in its metadata");
    return file.metadata.at(key);
}

static long count_of(const Safetensors &file, const std::string &path, const char *key) {
    const std::string text = metadata_of(file, path, key);
    const bool digits =
        !text.empty() && text.size() < 16 && text.find_first_not_of("0123456789") == std::string::npos;
    expect(digits, path, ": ", key, " '", text, "' is no count");
    return std::stol(text);
}

static void for_state(Learner &l, const std::string &prefix,
                      const std::function<void(const std::string &, Tensor &)> &f) {
    visit(l.model, [&](const std::string &name, Tensor &w, const Spec &) { f(prefix + name, w); });
    for (Optimiser::Entry &e : l.optimiser.entries) {
        f(prefix + "m." + e.name, e.m);
        f(prefix + "v." + e.name, e.v);
    }
}
static void for_state(Training &t, const std::function<void(const std::string &, Tensor &)> &f) {
    for_state(t.policy, "", f);
    if (t.critic) for_state(*t.critic, "critic.", f);
    if (t.reference)
        visit(*t.reference,
              [&](const std::string &name, Tensor &w, const Spec &) { f("reference." + name, w); });
}
static const std::string kept_prefix = "kept.";

static std::vector<long> shape_of(const Tensor &w) { return {w.shape.d, w.shape.d + w.shape.rank}; }

void Training::save(const std::string &directory) {
    std::vector<TensorOut> out;
    std::vector<real> numbers;                         // of one tensor: a copy of all would double the memory
    for_state(*this, [&](const std::string &name, Tensor &w) {
        numbers = values(w);
        for (real x : numbers)
            if (!std::isfinite(x)) fail(cat(directory, ": not saved: ", name, " holds a ", x));
        const auto made = [&numbers, w] {
            numbers = values(w);
            return numbers.data();
        };
        out.push_back({name, sizeof(real) == 4 ? "F32" : "F64", shape_of(w), nullptr, made});
    });
    for (const auto &[name, list] : kept)
        out.push_back({kept_prefix + name, "F64", {(long)list.size()}, list.data(), {}});
    save_model(policy.model, directory);
    write_safetensors(state_file(directory), out,
                      {{"step", cat(step)},
                       {"position", cat(position)},
                       {"data", data},
                       {"config", print_config(policy.model.c)},
                       {"options", print_options(o)}});
}

SavedRun saved_run(const std::string &directory) {
    const std::string path = state_file(directory);
    if (!fs::exists(path))
        fail("--resume: " + path + " does not exist", "without --resume a run begins anew");
    const Safetensors file = read_safetensors(path);
    return {parse_options(metadata_of(file, path, "options"), path),
            parse_config(metadata_of(file, path, "config"), path), count_of(file, path, "step"),
            file.metadata.count("data") ? file.metadata.at("data") : ""};
}

void Training::resume(const std::string &directory) {
    const std::string path = state_file(directory);
    const Safetensors file = read_safetensors(path);
    step = count_of(file, path, "step");
    position = count_of(file, path, "position");
    const long of_step = std::max((long)o.accumulate * o.batch, (long)o.questions);
    expect(step <= 1000000000 && position <= step * of_step, path, ": position ", position,
           " is beyond step ", step);
    for_state(*this, [&](const std::string &name, Tensor &w) {
        const auto at = file.tensors.find(name);
        expect(at != file.tensors.end(), path, ": no tensor ", name);
        expect(at->second.shape == shape_of(w), path, ": ", name, " has another shape than ", w.shape);
        std::vector<real> numbers(w.numel());
        read_reals(at->second, numbers.data());
        for (real x : numbers)
            expect(std::isfinite(x) && (x >= 0 || !name.starts_with("v.")), path, ": ", name, " holds a ", x);
        assign(w, numbers);
    });
    kept.clear();
    for (const auto &[name, tensor] : file.tensors)
        if (name.starts_with(kept_prefix)) {
            std::vector<double> &list = kept[name.substr(kept_prefix.size())];
            list.resize(tensor.numel());
            read_reals(tensor, list.data());
        }
}

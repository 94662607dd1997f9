// dump.cpp: `deepseek dump`: logits, loss and gradients of a model, for comparison with others.
#include <algorithm>

#include "src/cli/verbs.h"
#include "src/model/huggingface.h"
#include "src/model/weights.h"
#include "src/tensor/tensors_out.h"
#include "src/text/corpus.h"

namespace {
// MTP modules stand behind the last layer, and have no part in this loss.
bool beyond_trunk(const std::string &name, int n_layers) {
    const std::string before = "model.layers.";
    return name.starts_with(before) && std::stoi(name.substr(before.size())) >= n_layers;
}

bool is_dump(const std::string &file) {
    try {
        const Safetensors known = read_safetensors(file);
        return known.tensors.count("logits") && known.tensors.count("loss");
    } catch (const Error &) {
        return false;
    }
}

struct Dump {
    std::string model, tokens, out;
    bool grads = false;
    Common common;

    void options(CLI::App &v) {
        v.add_option("--model", model, "a checkpoint's folder")->required()->check(refuse_nothing);
        v.add_option("--tokens", tokens, "token ids, one sequence a line")->required();
        v.add_option("--out", out, "a safetensors file")->required();
        v.add_flag("--grads", grads, "with the gradient of every weight, as grad.<name>");
    }
    void run() const;
};

// Logits (B,T,V), loss (mean next-token cross-entropy), and grad.<name> of every weight.
void Dump::run() const {
    expect_replaceable(out);
    expect(!exists(out) || is_dump(out), "--out ", out, ": a file is there that is no earlier dump");
    Model m = load_model(model);
    const Sequences sequences = read_sequences(tokens, m.c.V);
    for (const auto &s : sequences) {
        expect(s.size() == sequences[0].size(), "--tokens ", tokens, ": sequences differ in length");
        expect((int)s.size() <= m.c.context, "--tokens ", tokens, ": ", s.size(), " tokens, the context is ",
               m.c.context);
    }
    const int B = (int)sequences.size(), T = (int)sequences[0].size();
    std::vector<int> ids, next;
    for (const auto &s : sequences) {
        ids.insert(ids.end(), s.begin(), s.end());
        next.insert(next.end(), s.begin() + 1, s.end());
        next.push_back(-1);
    }
    TensorsOut result;
    const Tensor h = trunk(m, causal(from(ids, {B, T})));
    const Tensor loss =
        weighted_sum(logp(h, m.output_head(), from(next, {B, T})).logp, {}, -1.0 / (B * (T - 1)));
    {
        NoGrad off;
        result.add("logits", matmul(h, m.output_head()));
        result.add("loss", loss);
    }
    backward(loss);
    Tensor last;
    std::vector<real> numbers;                       // of last's gradient; an expert's tensor has many pieces
    for (const NamedTensor &t : released_names(m)) {
        if (!grads || beyond_trunk(t.name, m.c.n_layers)) continue;
        std::vector<real> g(t.shape.numel());
        bool trained = true;
        for (const Piece &piece : t.pieces) {
            trained &= piece.ours.s->wants_grad;
            if (!trained) break;
            if (last.s != piece.ours.s) numbers = values(gradient(piece.ours));
            last = piece.ours;
            const long width = t.shape.width();
            std::copy_n(numbers.begin() + piece.from_row * width, piece.rows * width,
                        g.begin() + piece.to_row * width);
        }
        if (trained) result.add("grad." + t.name, t.shape, g);
    }
    write_safetensors(out, result.tensors);
}
}  // namespace

void add_dump(CLI::App &program) {
    add_verb<Dump>(program, "dump", "Write logits, loss and gradients for comparison",
                   "deepseek dump --model DIR --tokens ids.txt --out dump.safetensors --grads");
}

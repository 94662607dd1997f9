// export.cpp: `deepseek export`: a checkpoint once more, in numbers of 16 bits or in several files.
#include <filesystem>
#include <iostream>
#include <map>

#include "src/base/files.h"
#include "src/cli/verbs.h"
#include "src/model/huggingface.h"

namespace {
struct Export {
    std::string model, out, dtype = "f32", type;
    size_t shard_size = 0;
    Common common;

    void options(CLI::App &v) {
        v.add_option("--model", model, "a checkpoint's folder")->required()->check(refuse_nothing);
        v.add_option("--out", out, "a folder without a model")->required();
        v.add_option("--dtype", dtype, "of the weights: f32, bf16 or f16, rounded to the nearest")
            ->check(CLI::IsMember({"f32", "bf16", "f16"}))
            ->capture_default_str();
        v.add_option("--type", type,
                     "model_type of config.json; refused by name if it cannot say all of the model")
            ->check(CLI::IsMember({"llama", "qwen2", "deepseek_v2", "deepseek_v3", "deepseek_edu"}));
        v.add_option("--shard-size", shard_size, "of a file at most: 500MB, 2GB; 0: all in one file")
            ->transform(CLI::AsSizeValue(true))
            ->check(between(0, 1e15))
            ->capture_default_str();
    }
    // What belongs to the text, and how others sample from the model, stays as it was.
    inline static const std::vector<std::string> rest = {"tokenizer.json", "tokenizer_config.json",
                                                         "special_tokens_map.json", "chat_template.jinja",
                                                         "generation_config.json"};
    void copy_the_rest() const {
        for (const std::string &file : rest)
            if (exists(model + "/" + file))
                write_atomically(out + "/" + file, read_text(model + "/" + file, 1l << 30));
    }
    void run() const {
        static const std::map<std::string, std::string> dtypes = {
            {"f32", ""}, {"bf16", "BF16"}, {"f16", "F16"}};
        std::vector<std::string> written = {"config.json", "model.safetensors",
                                            "model.safetensors.index.json"};
        written.insert(written.end(), rest.begin(), rest.end());
        for (const std::string &file : written)
            if (exists(out + "/" + file))
                fail("--out " + out + ": " + file + " is already there", "name another folder");
        Model m = load_model(model);
        save_model(m, out, {dtypes.at(dtype), (long)shard_size, type});
        copy_the_rest();
        const std::string is = type.empty() ? model_type(m.c) : type;
        std::cout << out << ": " << is << ", " << dtype
                  << (is == "deepseek_edu" ? "; no other program computes this model\n" : "\n");
    }
};
}  // namespace

void add_export(CLI::App &program) {
    add_verb<Export>(program, "export", "Write a model in 16 bits, or in several files",
                     "deepseek export --model runs/v3 --out v3-bf16 --dtype bf16 --shard-size 2GB");
}

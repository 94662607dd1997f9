// generation.h: the options of verbs that let a model speak.
#pragma once
#include "src/cli/verbs.h"
#include "src/infer/decoder.h"

struct GenerationOptions {
    std::string model;
    Generation g;

    void options(CLI::App &v) {
        v.add_option("--model", model, "a checkpoint's folder")->required()->check(refuse_nothing);
        v.add_option("--max-tokens", g.max_tokens, "of what is added")
            ->check(between(1, 1e9))
            ->capture_default_str();
        v.add_option("--temperature", g.sampling.temperature, "0: always the likeliest")
            ->check(between(0, 1e9))
            ->capture_default_str();
        v.add_option("--top-k", g.sampling.top_k, "choose among the k likeliest; 0: all")
            ->check(between(0, 1e9));
        v.add_option("--top-p", g.sampling.top_p, "choose among the likeliest up to this probability")
            ->check(between(1e-6, 1))
            ->capture_default_str();
        v.add_option("--seed", g.sampling.seed, "the same seed says the same again")->capture_default_str();
    }
};

// huggingface.h: a model as a Hugging Face directory, and back.
#pragma once
#include "deepseek.h"

void save_model(Model &, const std::string &directory);  // config.json, model.safetensors, each atomically
Model load_model(const std::string &directory);  // llama and deepseek_v3 layouts; refuses what it cannot hold
Config load_config(const std::string &directory);
// A tensor of model.safetensors, put together from rows of ours: kv_b_proj
// interleaves W_UK and W_UV head by head.
struct Piece {
    Tensor ours;
    long from_row, to_row, rows;
};                                                                       // rows of the flattened tensors
struct NamedTensor {
    std::string name;
    Shape shape;
    std::vector<Piece> pieces;
};
std::vector<NamedTensor> released_names(Model &);

// huggingface.h: a model as a Hugging Face directory, and back.
#pragma once
#include "deepseek.h"

struct Saving {
    std::string dtype = "";                              // BF16 or F16; "": as they are computed, F32
    long shard_bytes = 0;                                // of a file at most; 0: all in one
    std::string type = "";                               // model_type; "": the first that can say all of it
};
std::string model_type(const Config &);                  // the first that can say all of it
// config.json, generation_config.json, model.safetensors, each atomically; nothing is left out.
void save_model(Model &, const std::string &directory, const Saving & = {});
// Refuses by name what a checkpoint (of a type) could not hold: before the first step.
void expect_savable(Model &, const std::string &type = "");
Model load_model(const std::string &directory);          // refuses what it cannot hold, and what is not there
Config load_config(const std::string &directory);
// Of a folder or a config.json, as far as its fields are known; what could not be computed is only told.
Config load_config_for_census(const std::string &path, std::vector<std::string> &cannot);
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
std::vector<std::string> weights_lost(Model &, const std::vector<NamedTensor> &);    // whose rows none holds

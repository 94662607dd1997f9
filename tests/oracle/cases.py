"""Small models as transformers builds them: one case for every idea that a config.json can express.

A case: class, configuration, options of randomise(). Sizes are tiny and mostly unequal, so that no two
axes can be exchanged unseen.
"""

import torch
from transformers import (
    DeepseekV2Config,
    DeepseekV2ForCausalLM,
    DeepseekV3Config,
    DeepseekV3ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from common import InDouble, randomise, routing_margin

B, T = 3, 21  # of the tokens that a case is run on

LLAMA = dict(
    vocab_size=97,
    hidden_size=32,
    intermediate_size=88,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=4,
    max_position_embeddings=128,
    rms_norm_eps=1e-6,
)
V3 = dict(
    vocab_size=97,
    hidden_size=32,
    intermediate_size=56,
    moe_intermediate_size=24,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=4,
    q_lora_rank=20,
    kv_lora_rank=16,
    qk_nope_head_dim=12,
    qk_rope_head_dim=8,
    v_head_dim=10,
    n_routed_experts=8,
    n_shared_experts=1,
    num_experts_per_tok=3,
    first_k_dense_replace=1,
    n_group=1,
    topk_group=1,
    norm_topk_prob=True,
    routed_scaling_factor=2.5,
    max_position_embeddings=128,
    rms_norm_eps=1e-6,
    num_nextn_predict_layers=0,
)
V2 = {key: value for key, value in V3.items() if key not in ("norm_topk_prob", "num_nextn_predict_layers")} | dict(
    n_shared_experts=2, n_group=None, topk_group=None, topk_method="greedy", routed_scaling_factor=1.0
)
LIMITED = dict(n_routed_experts=12, n_group=4, topk_group=2, topk_method="group_limited_greedy")
YARN = dict(
    type="yarn", rope_type="yarn", factor=4.0, original_max_position_embeddings=32, beta_fast=32, beta_slow=1
)


LLAMA3 = dict(
    rope_type="llama3",
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=32,
)
CLASSES = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "mistral": (MistralConfig, MistralForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "v2": (DeepseekV2Config, DeepseekV2ForCausalLM),
    "v3": (DeepseekV3Config, DeepseekV3ForCausalLM),
}


def scaling(**changes):
    return dict(rope_scaling={**YARN, **changes})


CASES = {
    "llama": (LLAMA, {}),
    "llama GQA": (LLAMA | dict(num_attention_heads=8, num_key_value_heads=2, hidden_size=48, head_dim=6), {}),
    "llama MQA, theta 1e6": (LLAMA | dict(num_key_value_heads=1, rope_theta=1e6), {}),
    "llama tied head": (LLAMA | dict(tie_word_embeddings=True), {}),
    "llama odd sizes": (
        LLAMA
        | dict(
            vocab_size=101,
            hidden_size=33,
            intermediate_size=37,
            num_attention_heads=3,
            num_key_value_heads=3,
            head_dim=10,
            num_hidden_layers=3,
        ),
        {},
    ),
    "llama eps 1e-2": (LLAMA | dict(rms_norm_eps=1e-2), {}),
    "llama linear scaling": (LLAMA | dict(rope_theta=1e5, rope_scaling=dict(type="linear", factor=4.0)), {}),
    "llama YaRN": (LLAMA | scaling(), {}),
    "llama YaRN mscale uneven": (LLAMA | scaling(mscale=1.0, mscale_all_dim=0.5), {}),
    "llama YaRN attention_factor": (LLAMA | scaling(attention_factor=1.3), {}),
    "llama llama3 rope": (LLAMA | dict(rope_theta=500000.0, rope_scaling=LLAMA3), {}),
    "llama llama3 rope, other turns": (
        LLAMA
        | dict(
            head_dim=20,
            rope_scaling=LLAMA3
            | dict(factor=32.0, low_freq_factor=0.5, high_freq_factor=8.0, original_max_position_embeddings=64),
        ),
        {},
    ),
    "llama 3.2 nano: GQA, tied, llama3 rope": (
        LLAMA
        | dict(
            num_attention_heads=8,
            num_key_value_heads=2,
            head_dim=16,
            rms_norm_eps=1e-5,
            rope_theta=500000.0,
            tie_word_embeddings=True,
            rope_scaling=LLAMA3 | dict(factor=32.0),
        ),
        {},
    ),
    "llama attention_bias": (LLAMA | dict(attention_bias=True, num_key_value_heads=2), {}),
    "llama mlp_bias": (LLAMA | dict(mlp_bias=True), {}),
    "llama both biases, odd sizes": (
        LLAMA
        | dict(
            attention_bias=True,
            mlp_bias=True,
            vocab_size=101,
            hidden_size=33,
            intermediate_size=37,
            num_attention_heads=3,
            num_key_value_heads=3,
            head_dim=10,
        ),
        {},
    ),
    "mistral": (LLAMA | dict(num_key_value_heads=2, sliding_window=None, rope_theta=1e6), {}),
    "qwen2": (LLAMA | dict(num_key_value_heads=2, rope_theta=1e6), {}),
    "qwen2 tied": (LLAMA | dict(num_key_value_heads=1, tie_word_embeddings=True), {}),
    "qwen2 YaRN": (LLAMA | scaling(), {}),
    "qwen2 odd sizes": (
        LLAMA | dict(vocab_size=101, hidden_size=30, intermediate_size=37, num_attention_heads=3, num_key_value_heads=3),
        {},
    ),
    "v2 lite: greedy, no query compression": (V2 | dict(q_lora_rank=None), {}),
    "v2 greedy, query compression": (V2, {}),
    "v2 group-limited": (V2 | LIMITED, {}),
    "v2 group-limited, times 16": (V2 | LIMITED | dict(routed_scaling_factor=16.0), {}),
    "v2 group-limited, no compression, K 5": (V2 | LIMITED | dict(q_lora_rank=None, num_experts_per_tok=5), {}),
    "v2 YaRN .707": (V2 | LIMITED | scaling(factor=40.0, mscale=0.707, mscale_all_dim=0.707), {}),
    "v2 lite, YaRN .707": (
        V2 | dict(q_lora_rank=None) | scaling(factor=40.0, mscale=0.707, mscale_all_dim=0.707),
        {},
    ),
    "v2 YaRN mscale uneven": (V2 | scaling(mscale=1.0, mscale_all_dim=0.4), {}),
    "v2 one expert a token": (V2 | dict(num_experts_per_tok=1), {}),
    "v2 all layers dense": (V2 | dict(first_k_dense_replace=3), {}),
    "v2 no dense layer, no shared expert": (V2 | dict(first_k_dense_replace=0, n_shared_experts=0), {}),
    "v2 odd sizes, tied": (  # theirs wants even heads and latents: pairs become complex numbers
        V2
        | dict(
            vocab_size=89,
            hidden_size=33,
            intermediate_size=37,
            moe_intermediate_size=7,
            num_attention_heads=3,
            num_key_value_heads=3,
            q_lora_rank=11,
            kv_lora_rank=14,
            qk_nope_head_dim=4,
            qk_rope_head_dim=6,
            v_head_dim=7,
            n_routed_experts=7,
            num_experts_per_tok=2,
            tie_word_embeddings=True,
        ),
        {},
    ),
    "v3 all layers dense": (V3 | dict(first_k_dense_replace=3), {}),
    "v3 experts": (V3, {}),
    "v3 no query compression": (V3 | dict(q_lora_rank=None), {}),
    "v3 half-split rope": (V3 | dict(rope_interleave=False), {}),
    "v3 groups": (V3 | dict(n_group=4, topk_group=2), {}),
    "v3 groups, bias near -5": (V3 | dict(n_group=4, topk_group=2), dict(bias=-5.0, spread=0.5)),
    "v3 groups of 4, K 5": (
        V3 | dict(n_routed_experts=12, n_group=3, topk_group=2, num_experts_per_tok=5),
        {},
    ),
    "v3 large uneven bias": (V3, dict(spread=3.0)),
    "v3 gates not normalised": (V3 | dict(norm_topk_prob=False, routed_scaling_factor=1.7), {}),
    "v3 one expert a token": (V3 | dict(num_experts_per_tok=1), {}),
    "v3 all experts": (V3 | dict(num_experts_per_tok=8), {}),
    "v3 two leading dense layers": (V3 | dict(first_k_dense_replace=2), {}),
    "v3 no dense layer": (V3 | dict(first_k_dense_replace=0), {}),
    "v3 three shared experts": (V3 | dict(n_shared_experts=3), {}),
    "v3 no shared expert": (V3 | dict(n_shared_experts=0), {}),
    "v3 odd sizes": (
        V3
        | dict(
            vocab_size=89,
            hidden_size=31,
            intermediate_size=37,
            moe_intermediate_size=7,
            num_attention_heads=3,
            num_key_value_heads=3,
            q_lora_rank=11,
            kv_lora_rank=13,
            qk_nope_head_dim=5,
            qk_rope_head_dim=6,
            v_head_dim=7,
            n_routed_experts=7,
            num_experts_per_tok=2,
        ),
        {},
    ),
    "v3 tied head": (V3 | dict(tie_word_embeddings=True), {}),
    "v3 eps 1e-2": (V3 | dict(rms_norm_eps=1e-2), {}),
    "v3 theta 500": (V3 | dict(rope_theta=500.0), {}),
    "v3 linear scaling": (V3 | dict(rope_scaling=dict(type="linear", factor=3.0)), {}),
    "v3 linear scaling, mscale_all_dim": (
        V3 | dict(rope_scaling=dict(type="linear", factor=4.0, mscale=0.707, mscale_all_dim=0.707)),
        {},
    ),
    "v3 llama3 rope": (V3 | dict(rope_theta=500.0, rope_scaling=LLAMA3), {}),
    "v3 llama3 rope, mscale_all_dim": (V3 | dict(rope_scaling=LLAMA3 | dict(mscale_all_dim=1.0)), {}),
    "v3 YaRN mscale 1, 1": (V3 | scaling(mscale=1.0, mscale_all_dim=1.0), {}),
    "v3 YaRN mscale .707, .707": (V3 | scaling(factor=40.0, mscale=0.707, mscale_all_dim=0.707), {}),
    "v3 YaRN mscale uneven": (V3 | scaling(mscale=1.0, mscale_all_dim=0.4), {}),
    "v3 YaRN no mscale": (V3 | scaling(), {}),
    "v3 YaRN mscale only": (V3 | scaling(mscale=1.0), {}),
    "v3 YaRN mscale_all_dim only": (V3 | scaling(mscale_all_dim=1.0), {}),
    "v3 YaRN attention_factor": (V3 | scaling(mscale=1.0, mscale_all_dim=0.4, attention_factor=1.2), {}),
    "v3 YaRN other ramp": (
        V3 | scaling(beta_fast=8, beta_slow=2, original_max_position_embeddings=64, factor=2.0),
        {},
    ),
    "v3 YaRN half-split, no compression": (
        V3 | scaling(mscale=1.0, mscale_all_dim=1.0) | dict(rope_interleave=False, q_lora_rank=None),
        {},
    ),
}


def build(name, seed=0):
    """(model in float32, the same in double, ids): random, and with no close call in its routing."""
    fields, weights = CASES[name]
    config_class, model_class = CLASSES[name.split()[0]]
    config = config_class(**fields, attn_implementation="eager", experts_implementation="eager")
    while True:
        ids = torch.randint(config.vocab_size, (B, T), generator=torch.Generator().manual_seed(seed))
        model = model_class(config).eval()
        randomise(model, seed, **weights)
        if not name.startswith(("v2", "v3")) or routing_margin(model, ids) > 1e-4:
            break
        seed += 1000
    with InDouble():
        double = model_class(config).double().eval()
        double.load_state_dict(model.state_dict())
    return model, double, ids

"""Writes data/golden/oracle-*: models that transformers built and computed, for tests/model/checkpoints.cpp.

A directory holds the checkpoint as transformers saved it (config.json, model.safetensors), and
golden.safetensors: `tokens` (B,T), and as computed by transformers in double and rounded to float32:
`logits` (B,T,V), `loss`, and `grad.<name>` for every weight. Run it again only when a case is added: the
files are in the repository.
"""

import pathlib
import shutil

import torch
from safetensors.torch import save_file

import cases
from common import ROOT, InDouble, logits_loss_gradients

GOLDENS = {"oracle-llama": "llama GQA", "oracle-v3": "v3 golden", "oracle-v3-yarn": "v3 golden YaRN"}
NANO = cases.V3 | dict(
    vocab_size=61,
    hidden_size=16,
    intermediate_size=20,
    moe_intermediate_size=8,
    num_attention_heads=2,
    num_key_value_heads=2,
    q_lora_rank=12,
    kv_lora_rank=10,
    qk_nope_head_dim=6,
    qk_rope_head_dim=4,
    v_head_dim=5,
)
cases.CASES["llama GQA"] = (
    cases.LLAMA
    | dict(
        vocab_size=61,
        hidden_size=24,
        intermediate_size=30,
        head_dim=6,
        num_attention_heads=6,
        num_key_value_heads=2,
        rope_theta=500.0,
    ),
    {},
)
cases.CASES["v3 golden"] = (
    NANO | dict(n_group=4, topk_group=2, first_k_dense_replace=1),
    dict(bias=-5.0, spread=0.5),
)
cases.CASES["v3 golden YaRN"] = (
    NANO
    | cases.scaling(mscale=1.0, mscale_all_dim=0.4)
    | dict(
        q_lora_rank=None,
        n_shared_experts=2,
        norm_topk_prob=False,
        routed_scaling_factor=1.7,
        tie_word_embeddings=True,
        num_nextn_predict_layers=1,
        num_hidden_layers=2,
    ),
    {},
)


def main():
    for name, case in GOLDENS.items():
        folder = pathlib.Path(ROOT) / "data" / "golden" / name
        shutil.rmtree(folder, ignore_errors=True)
        model, double, ids = cases.build(case)
        ids = ids[:2, :17]
        model.save_pretrained(folder)
        (folder / "generation_config.json").unlink(missing_ok=True)
        with InDouble():
            logits, loss, gradients = logits_loss_gradients(double, ids)
        golden = {"grad." + key: torch.from_numpy(g).float().contiguous() for key, g in gradients.items()}
        golden |= dict(
            tokens=ids.int().contiguous(), logits=torch.from_numpy(logits).float(), loss=torch.tensor([loss])
        )
        save_file(golden, folder / "golden.safetensors")
        for file in folder.iterdir():
            file.chmod(0o644)
        size = sum(file.stat().st_size for file in folder.iterdir())
        print(f"{name:20}{size / 1000:8.0f} kB   loss {loss:.6f}")
        assert size < 300_000


if __name__ == "__main__":
    main()

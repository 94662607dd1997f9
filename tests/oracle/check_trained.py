"""A checkpoint that we trained, loaded by transformers: every key fits, and the logits are the same.

Without --model it trains presets for a few steps first (v3-nano has an MTP module, llm-nano is a llama).
transformers drops MTP modules unless the model has exactly 61 layers, so for ours it reports their
tensors, all named model.layers.<n_layers>., as unexpected: these and no others may be. They do not take
part in the logits. Its tokenizer must put nothing before a text that training has not put there.
"""

import pathlib
import re
import tempfile

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from common import InDouble, deepseek, device_options, error, options, verdict, write_tokens

LOGITS = 4e-6  # as in check_models.py


def check_reload(args, folder, failures, name):
    model, report = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.float32,
        attn_implementation="eager",
        experts_implementation="eager",
        output_loading_info=True,
    )
    layers = model.config.num_hidden_layers
    mtp = [
        key
        for key in report["unexpected_keys"]
        if re.match(rf"model\.layers\.({layers}|{layers + 1})\.", key)
    ]
    wrong = {
        kind: sorted(map(str, report[kind]))
        for kind in ("missing_keys", "mismatched_keys", "error_msgs")
        if report[kind]
    }
    if strange := sorted(set(report["unexpected_keys"]) - set(mtp)):
        wrong["unexpected_keys"] = strange
    if wrong:
        failures.append(f"{name}: {wrong}")
    text = "Once upon a time, there was a cat."
    theirs = AutoTokenizer.from_pretrained(folder)(text).input_ids  # special tokens where it adds some
    printed = deepseek(args, "tokenize", "--tokenizer", folder, "--text", text)
    ours = [int(line.split()[0]) for line in printed.splitlines() if line.strip()]
    if theirs != ours:
        failures.append(f"{name}: the tokenizer gives {theirs}, training saw {ours}")
    T = min(33, model.config.max_position_embeddings)
    ids = torch.randint(model.config.vocab_size, (2, T), generator=torch.Generator().manual_seed(3))
    with tempfile.TemporaryDirectory() as temporary:
        tokens, out = pathlib.Path(temporary) / "tokens.txt", pathlib.Path(temporary) / "dump.safetensors"
        write_tokens(tokens, ids)
        deepseek(args, "dump", "--model", folder, "--tokens", tokens, "--out", out, *device_options(args))
        ours = load_file(out)["logits"]
    with torch.no_grad(), InDouble():
        theirs = type(model)(model.config).double().eval()
        theirs.load_state_dict(model.state_dict())
        worst = error(ours, theirs(ids).logits)
    print(
        f"{name:36}{type(model).__name__:24}{len(mtp):4} MTP tensors dropped   logits {worst:.1e}", flush=True
    )
    if not worst <= LOGITS:
        failures.append(f"{name}: logits differ by {worst:.1e}")


def main():
    parser = options(__doc__.splitlines()[0])
    parser.add_argument("--model", help="the folder of a checkpoint")
    args, failures = parser.parse_args(), []
    if args.model:
        check_reload(args, args.model, failures, pathlib.Path(args.model).name)
        verdict(failures)
    for preset, fields in (
        ("llm-nano", []),
        ("v3-nano", []),
        ("v3-nano", ["tied=true", "N_s=0", "D=0"]),
        ("v3-nano", ["n_dense=0", "d_cq=0", "pairing=half_split", "scaling=yarn", "factor=4"]),
    ):
        with tempfile.TemporaryDirectory() as temporary:
            sets = [part for field in fields for part in ("--set", field)]
            deepseek(
                args,
                "train",
                "--preset",
                preset,
                "--steps",
                5,
                "--batch",
                2,
                "--context",
                32,
                "--out",
                temporary,
                *sets,
                *device_options(args),
            )
            check_reload(args, temporary, failures, " ".join([preset, *fields])[:70])
    verdict(failures)


if __name__ == "__main__":
    main()

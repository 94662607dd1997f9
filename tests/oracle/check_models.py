"""Our models against transformers': logits, loss and the gradient of every weight.

Each case of cases.py is built by transformers with random weights, saved by it, loaded by us, and run by
both. All is compared with transformers in double, so the table says whose error is whose: ours, and
transformers' own in float32. Then transformers loads what `deepseek export` writes, in 16 bits and in
shards, too.

Tolerances, relative to the largest number of the tensor, and beside them the worst of all cases with
three seeds, ours and transformers' own in float32:

    logits    4e-6   (1.3e-6, theirs 1.1e-6)
    loss      2e-7   (6.3e-8, theirs 1.6e-7)
    gradients 1e-5   (3.5e-6, theirs 2.6e-6)

A gradient is held against its own largest number, but at least a thousandth of the largest of all
gradients. With one expert a token and a gate that is normalised to 1, the router's gradient is zero but
for rounding (theirs, too), so it is held against the largest of all.
"""

import json
import pathlib
import shutil
import tempfile

import torch
from safetensors.torch import load_file, save_file

import cases
from common import (
    InDouble,
    deepseek,
    device_options,
    error,
    logits_loss_gradients,
    options,
    released,
    verdict,
    write_tokens,
)

LOGITS, LOSS, GRADIENT = 4e-6, 2e-7, 1e-5


def dump(args, folder, gradients=True):
    out = folder / "dump.safetensors"
    deepseek(
        args,
        "dump",
        "--model",
        folder,
        "--tokens",
        folder / "tokens.txt",
        "--out",
        out,
        *device_options(args),
        *(["--grads"] if gradients else []),
    )
    return {name: w.numpy() for name, w in load_file(out).items()}


def check(args, name, seed, failures):
    model, double, ids = cases.build(name, seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        model.save_pretrained(folder)
        write_tokens(folder / "tokens.txt", ids)
        ours = dump(args, folder)
    logits, loss, gradients = logits_loss_gradients(model, ids)
    with InDouble():
        logits_64, loss_64, gradients_64 = logits_loss_gradients(double, ids)
    largest = max(abs(g).max() for g in gradients_64.values() if g.size)

    written = {key[5:] for key in ours if key.startswith("grad.")}
    biases = {key for key in written if key.endswith("e_score_correction_bias")}
    if written - biases != set(gradients_64):
        failures.append(
            f"{name}: gradients of {sorted((written - biases) ^ set(gradients_64))} on one side only"
        )
    if any(ours["grad." + key].any() for key in biases):
        failures.append(f"{name}: a selection bias has a gradient")

    of_ours, of_theirs = {}, {}
    zero_router = getattr(model.config, "num_experts_per_tok", 0) == 1 and getattr(model.config, "norm_topk_prob", False)
    for key in sorted(set(gradients_64) & written):
        floor = largest * (1 if zero_router and key.endswith("mlp.gate.weight") else 1e-3)
        of_ours[key] = error(ours["grad." + key], gradients_64[key], floor)
        of_theirs[key] = error(gradients[key], gradients_64[key], floor)
    worst = max(of_ours, key=of_ours.get)
    row = (
        error(ours["logits"], logits_64),
        error(logits, logits_64),
        abs(ours["loss"].item() - loss_64) / loss_64,
        abs(loss - loss_64) / loss_64,
        of_ours[worst],
        max(of_theirs.values()),
    )
    print(
        f"{name:36}{abs(logits_64).max():7.1f}" + "".join(f"{x:10.1e}" for x in row) + f"  {worst}",
        flush=True,
    )
    for what, value, limit in (
        ("logits", row[0], LOGITS),
        ("loss", row[2], LOSS),
        ("gradient of " + worst, row[4], GRADIENT),
    ):
        if not value <= limit:
            failures.append(f"{name}, seed {seed}: {what}: error {value:.1e} above {limit:.0e}")
    return row


def check_layouts(args, failures):
    """The same weights in other files give the same bits: fused experts, no `model.` prefix, shards, old
    config keys, MTP announced but not there, and a 16-bit file against the same numbers in 32 bits."""
    model, _, ids = cases.build("v3 YaRN mscale uneven")
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        reference, other = folder / "reference", folder / "other"

        def differs(what, against=None):
            write_tokens(other / "tokens.txt", ids)
            got = dump(args, other, gradients=False)["logits"]
            same = (got == (against if against is not None else expected)).all()
            print(f"{what:36}{'the same bits' if same else 'DIFFERS'}")
            if not same:
                failures.append(what + ": other logits")

        model.save_pretrained(reference)
        write_tokens(reference / "tokens.txt", ids)
        expected = dump(args, reference, gradients=False)["logits"]
        weights, config = load_file(reference / "model.safetensors"), json.loads(
            (reference / "config.json").read_text()
        )

        def put(tensors, settings=config):
            shutil.rmtree(other, ignore_errors=True)
            other.mkdir()
            save_file(
                {name: w.contiguous() for name, w in tensors.items()},
                other / "model.safetensors",
                {"format": "pt"},
            )
            (other / "config.json").write_text(json.dumps(settings))

        put({name: w.detach() for name, w in model.state_dict().items()})
        differs("fused experts")
        put({name.removeprefix("model."): w for name, w in weights.items()})
        differs("no `model.` prefix")
        rope = {key: value for key, value in config["rope_parameters"].items() if key != "rope_theta"}
        old = {
            key: value
            for key, value in config.items()
            if key not in ("rope_parameters", "dtype", "head_dim", "qk_head_dim")
        }
        put(
            weights,
            old
            | dict(
                rope_scaling=rope, rope_theta=config["rope_parameters"]["rope_theta"], torch_dtype="float32"
            ),
        )
        differs("old names of keys")
        put(weights, config | dict(num_nextn_predict_layers=1))
        differs("MTP announced, not there")
        shutil.rmtree(other)
        model.save_pretrained(other, max_shard_size="20KB")
        assert len(list(other.glob("*.safetensors"))) > 3
        differs("shards")
        for dtype in (torch.bfloat16, torch.float16):
            rounded = {name: w.to(dtype) for name, w in weights.items()}
            put({name: w.float() for name, w in rounded.items()})
            write_tokens(other / "tokens.txt", ids)
            wide = dump(args, other, gradients=False)["logits"]
            put(rounded)
            differs(str(dtype), wide)


def check_export(args, name, failures):
    """`deepseek export` in 32 and 16 bits, in one file and in shards: transformers loads each with every key in
    its place, finds exactly torch's rounding of each number, and its logits and ours are the same."""
    model, _, ids = cases.build(name)
    weights = released(dict(model.state_dict()))
    with tempfile.TemporaryDirectory() as temporary:
        source, out = pathlib.Path(temporary) / "source", pathlib.Path(temporary) / "out"
        model.save_pretrained(source)
        for dtype, torch_dtype in (("f32", torch.float32), ("bf16", torch.bfloat16), ("f16", torch.float16)):
            for shard_size in (0, 20000):
                shutil.rmtree(out, ignore_errors=True)
                size = ["--shard-size", shard_size] if shard_size else []
                deepseek(args, "export", "--model", source, "--out", out, "--dtype", dtype, *size)
                files = len(list(out.glob("*.safetensors")))
                theirs, report = type(model).from_pretrained(
                    out,
                    dtype="auto",
                    attn_implementation="eager",
                    experts_implementation="eager",
                    output_loading_info=True,
                )
                wrong = [kind for kind in report if report[kind]]
                wrong += [] if theirs.dtype is torch_dtype and (files > 2) == bool(shard_size) else ["dtype, files"]
                for key, w in released(dict(theirs.state_dict())).items():
                    if not (w.float() == weights[key].to(w.dtype).float()).all():
                        wrong.append(key)
                write_tokens(out / "tokens.txt", ids)
                ours = dump(args, out, gradients=False)["logits"]
                with torch.no_grad(), InDouble():
                    double = type(model)(theirs.config).double().eval()
                    double.load_state_dict(theirs.state_dict())
                    worst = error(ours, double(ids).logits)
                if not worst <= LOGITS:
                    wrong.append(f"logits {worst:.1e}")
                print(f"{name + ', ' + dtype:36}{files:3} files   logits {worst:.1e}", flush=True)
                if wrong:
                    failures.append(f"export of {name}, {dtype}, shards {shard_size}: {wrong}")


EXPORTS = ["llama 3.2 nano: GQA, tied, llama3 rope", "llama both biases, odd sizes", "qwen2", "v2 YaRN .707", "v3 YaRN mscale uneven"]


def main():
    parser = options(__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1, help="how many sets of random weights a case gets")
    args = parser.parse_args()
    failures, rows = [], []
    print(
        f"{'errors against double':36}{'|logit|':>7}"
        + "".join(f"{x:>10}" for x in ("logits", "theirs", "loss", "theirs", "gradient", "theirs"))
        + "  worst gradient"
    )
    for name in cases.CASES:
        if args.only in name:
            rows += [check(args, name, seed, failures) for seed in range(args.seeds)]
    if rows:
        print(f"{'worst':43}" + "".join(f"{max(column):10.1e}" for column in zip(*rows)))
    for name in EXPORTS:
        if args.only in name:
            check_export(args, name, failures)
    if not args.only:
        check_layouts(args, failures)
    verdict(failures)


if __name__ == "__main__":
    main()

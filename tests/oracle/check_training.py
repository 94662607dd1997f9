"""Twenty AdamW steps on one batch, ours against PyTorch's, loss by loss.

transformers builds the model, torch.optim.AdamW and clip_grad_norm_ train it in double and in float32,
and our `train` starts from the same checkpoint. As in ours, weight decay falls on matrices only: not on
gains, not on the embedding. Balance loss and bias updates, which transformers does not have, are off. The
MTP module is put together here from transformers' own decoder layer and V3's equations (21)-(25).

Tolerances, relative: losses 5e-6 (measured 1.4e-6), norms of the gradient 1e-5 (3.3e-6). Twenty steps at a
learning rate of 0.003 take the loss from 5 nats to less than one, and rounding errors grow on the way; the
table shows PyTorch's own float32 beside ours.
"""

import csv
import pathlib
import tempfile

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3DecoderLayer, DeepseekV3RMSNorm

import cases
from check_trained import check_reload
from common import (
    InDouble,
    Margins,
    deepseek,
    device_options,
    options,
    randomise,
    released,
    verdict,
    write_tokens,
)

LOSS, NORM = 5e-6, 1e-5
STEPS, LR, DECAY, CLIP, BETAS = 20, 0.003, 0.1, 1.0, (0.9, 0.95)
LAMBDA = 0.3
CASES = (
    "llama GQA",
    "llama tied head",
    "v3 experts",
    "v3 groups, bias near -5",
    "v3 YaRN mscale uneven",
    "v3 no query compression",
)


class MTP(torch.nn.Module):
    """One module: V3 (21)-(23)."""

    def __init__(self, config):
        super().__init__()
        config._attn_implementation = "eager"
        d, self.layers = config.hidden_size, config.num_hidden_layers
        self.block = DeepseekV3DecoderLayer(config, layer_idx=self.layers)
        self.enorm, self.hnorm, self.out = (DeepseekV3RMSNorm(d, eps=config.rms_norm_eps) for _ in range(3))
        self.eh_proj = torch.nn.Linear(2 * d, d, bias=False)
        self.config = config

    def forward(self, model, h, ids):
        x = torch.cat([self.enorm(model.model.embed_tokens(ids)), self.hnorm(h)], -1)
        x = self.eh_proj(x)
        T = ids.shape[1]
        positions = torch.arange(T)[None]
        mask = torch.full((T, T), -float("inf"), dtype=x.dtype).triu(1)[None, None]
        x = self.block(
            x,
            attention_mask=mask,
            position_ids=positions,
            position_embeddings=model.model.rotary_emb(x, positions),
        )
        return model.lm_head(self.out(x[0] if isinstance(x, tuple) else x))

    def released(self, model):
        at = f"model.layers.{self.layers}."
        tensors = {at + name: w for name, w in released(dict(self.block.state_dict())).items()}
        tensors |= {
            at + "enorm.weight": self.enorm.weight,
            at + "hnorm.weight": self.hnorm.weight,
            at + "eh_proj.weight": self.eh_proj.weight,
            at + "shared_head.norm.weight": self.out.weight,
            at + "embed_tokens.weight": model.model.embed_tokens.weight,
            at + "shared_head.head.weight": model.lm_head.weight,
        }
        return {name: w.detach().clone().contiguous() for name, w in tensors.items()}


def losses(model, mtp, ids):
    """(total, main, MTP): means over the tokens that the main model predicts."""
    main = model(input_ids=ids, labels=ids).loss
    if mtp is None:
        return main, main, torch.zeros(())
    h = model.model(input_ids=ids[:, :-1]).last_hidden_state[:, :-1]
    logits = mtp(model, h, ids[:, 1:-1])
    extra = F.cross_entropy(logits.flatten(0, 1), ids[:, 2:].flatten(), reduction="sum") / ids[:, 1:].numel()
    return main + LAMBDA * extra, main, extra


def train(model, mtp, ids):
    """Rows of (total, main, MTP, norm of all gradients), before each step."""
    named = [*model.named_parameters(), *(mtp.named_parameters() if mtp else [])]
    matrix = [w for name, w in named if w.dim() > 1 and "embed_tokens" not in name]
    other = [w for name, w in named if w.dim() == 1 or "embed_tokens" in name]
    optimiser = torch.optim.AdamW(
        [dict(params=matrix, weight_decay=DECAY), dict(params=other, weight_decay=0.0)],
        lr=LR,
        betas=BETAS,
        eps=1e-8,
    )
    rows = []
    for _ in range(STEPS):
        optimiser.zero_grad()
        total, main, extra = losses(model, mtp, ids)
        total.backward()
        norm = torch.nn.utils.clip_grad_norm_([w for _, w in named], CLIP)
        optimiser.step()
        rows.append([x.item() for x in (total, main, extra, norm)])
    return torch.tensor(rows, dtype=torch.float64)


def draw(name, with_mtp, seed=0):
    """(model, its MTP module or None, ids, the losses in double): with no close call in the routing of
    any step, for one token that goes to another expert is a jump of 1e-4 in the loss."""
    while True:
        model, double, ids = cases.build(name, seed)
        mtp = double_mtp = None
        if with_mtp:
            mtp = MTP(model.config)
            randomise(mtp, seed + 17)
            with InDouble():
                double_mtp = MTP(model.config).double()
                double_mtp.load_state_dict(mtp.state_dict())
        with InDouble(), Margins(double, double_mtp) as margins:
            exact = train(double.train(), double_mtp, ids)
        if margins.smallest > 2e-5:
            return model, mtp, ids, exact
        seed += 1


def check(args, name, with_mtp, failures):
    model, mtp, ids, exact = draw(name, with_mtp)
    with tempfile.TemporaryDirectory() as temporary:
        folder, out = pathlib.Path(temporary), pathlib.Path(temporary) / "out"
        model.config.num_nextn_predict_layers = int(with_mtp)
        model.save_pretrained(folder)
        if with_mtp:
            tensors = load_file(folder / "model.safetensors") | mtp.released(model)
            save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        write_tokens(folder / "tokens.txt", ids)
        deepseek(
            args,
            "train",
            "--init",
            folder,
            "--tokens",
            folder / "tokens.txt",
            "--steps",
            STEPS,
            "--batch",
            len(ids),
            "--lr",
            LR,
            "--schedule",
            "constant",
            "--warmup",
            0,
            "--weight-decay",
            DECAY,
            "--clip",
            CLIP,
            "--beta1",
            BETAS[0],
            "--beta2",
            BETAS[1],
            "--adam-eps",
            1e-8,
            "--set",
            "alpha=0",
            "--set",
            "gamma=0",
            "--set",
            f"lambda={LAMBDA}",
            "--out",
            out,
            *device_options(args),
        )
        with open(out / "metrics.csv") as file:
            table = list(csv.DictReader(file))
        ours = torch.tensor(
            [[float(row.get(column) or 0) for column in ("loss", "lm", "mtp", "gradient_norm")] for row in table],
            dtype=torch.float64,
        )
        check_reload(args, out, failures, "  its checkpoint, in transformers")
    theirs = train(model.train(), mtp, ids)
    label = name + (" with MTP" if with_mtp else "")
    if ours.shape != exact.shape:
        failures.append(f"{label}: {len(ours)} rows in metrics.csv, not {STEPS}")
        return
    worst = ((ours - exact).abs() / exact.abs().clamp(min=1e-30) * (exact != 0)).amax(0).tolist()
    torch_worst = ((theirs - exact).abs() / exact.abs().clamp(min=1e-30) * (exact != 0)).amax(0).tolist()
    print(
        f"{label:36}{exact[0, 0]:8.4f}{exact[-1, 0]:8.4f}  "
        + "".join(f"{x:10.1e}{y:10.1e}" for x, y in zip(worst, torch_worst)),
        flush=True,
    )
    for what, value, limit in zip(("loss", "lm", "mtp", "gradient norm"), worst, (LOSS, LOSS, LOSS, NORM)):
        if not value <= limit:
            failures.append(f"{label}: {what}: error {value:.1e} above {limit:.0e}")


def main():
    args, failures = options(__doc__.splitlines()[0]).parse_args(), []
    print(
        f"{'errors against double':36}{'first':>8}{'last':>8}  "
        + "".join(
            f"{x:>10}" for x in ("loss", "torch's", "lm", "torch's", "mtp", "torch's", "norm", "torch's")
        )
    )
    for name, with_mtp in [(name, False) for name in CASES] + [("v3 experts", True)]:
        if args.only in name + (" with MTP" if with_mtp else ""):
            check(args, name, with_mtp, failures)
    verdict(failures)


if __name__ == "__main__":
    main()

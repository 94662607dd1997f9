"""What the checks against other implementations share: running our binary, random weights, and comparing.

Errors are relative to the largest number of the tensor: max |ours - theirs| / max |theirs|. NaN or
infinity on one side only is an infinite error.
"""

import argparse
import pathlib
import subprocess
import sys

import numpy as np
import torch
import transformers
from torch.overrides import TorchFunctionMode

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

ROOT = pathlib.Path(__file__).resolve().parents[2]


def options(description):
    """The options that all checks have; add more, then parse_args()."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--binary", default=str(ROOT / "deepseek"), help="our program")
    parser.add_argument("--device", default="cpu", help="its device: cpu, cuda or checked")
    parser.add_argument("--only", default="", help="only the cases whose name contains this")
    return parser


def deepseek(args, *arguments, fails=False):
    """Runs our program. Its output; with fails=True it must refuse with exit code 2, and that line comes
    back."""
    command = [args.binary, *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True)
    if fails:
        assert result.returncode == 2, f"{' '.join(command)}: exit code {result.returncode} instead of 2"
        return result.stderr
    if result.returncode:
        sys.exit(f"{' '.join(command)}\nfailed with exit code {result.returncode}:\n{result.stderr}")
    return result.stdout


def device_options(args):
    return [] if args.device == "cpu" else ["--device", args.device]


def write_tokens(path, ids):
    """Sequences of ids, one a line."""
    pathlib.Path(path).write_text("".join(" ".join(map(str, row)) + "\n" for row in ids.tolist()))


def error(ours, theirs, floor=0.0):
    """Relative to theirs' largest number, or to `floor` if that is larger."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if ours.shape != theirs.shape:
        raise AssertionError(f"shapes differ: {ours.shape} and {theirs.shape}")
    if theirs.size == 0:
        return 0.0
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        same = (
            (ours == theirs) | (np.isnan(ours) & np.isnan(theirs)) | (np.isfinite(ours) & np.isfinite(theirs))
        )
        if not same.all():
            return float("inf")
        finite = np.isfinite(ours)
        ours, theirs = ours[finite], theirs[finite]
        if theirs.size == 0:
            return 0.0
    largest = max(float(np.abs(theirs).max()), floor)
    worst = float(np.abs(ours - theirs).max())
    return worst / largest if largest else (0.0 if worst == 0 else float("inf"))


class InDouble(TorchFunctionMode):
    """transformers computes norms, angles, routers and softmax in float32 whatever the model's type.
    While this mode is on, float32 means float64, so a model that is built and run under it is in double
    throughout."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        lift = lambda x: torch.float64 if x is torch.float32 else x
        if function is torch.Tensor.float:
            function = torch.Tensor.double
        args = tuple(map(lift, args))
        kwargs = {key: lift(value) for key, value in (kwargs or {}).items()}
        return function(*args, **kwargs)


def randomise(model, seed, bias=0.0, spread=0.3):
    """Weights large enough that every part of the model shows in the logits. Selection biases: bias +
    noise."""
    generator = torch.Generator().manual_seed(seed)
    normal = lambda shape: torch.randn(shape, generator=generator)
    with torch.no_grad():
        for name, w in sorted(model.state_dict().items()):
            if name.endswith("e_score_correction_bias"):
                w.copy_(bias + spread * normal(w.shape))
            elif name.endswith("bias"):
                w.copy_(0.3 * normal(w.shape))
            elif w.dim() == 1:
                w.copy_(1 + 0.2 * normal(w.shape))
            elif "embed_tokens" in name:
                w.copy_(normal(w.shape) * (0.3 if model.config.tie_word_embeddings else 1))
            else:
                w.copy_(normal(w.shape) / w.shape[-1] ** 0.5)


class Margins:
    """While it is open, `smallest` is the closest call of all choices that the models' routers made:
    between the last one taken and the first one refused, of groups and experts. Where that is less than
    rounding errors, another program may choose otherwise without being wrong."""

    def __init__(self, *models):
        self.smallest = float("inf")
        modules = [module for model in models if model is not None for module in model.modules()]
        routers = [module for module in modules if type(module).__name__.endswith("TopkRouter")]
        self.hooks = [router.register_forward_hook(self.look) for router in routers]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for hook in self.hooks:
            hook.remove()

    @torch.no_grad()
    def look(self, router, inputs, output):
        v2 = not hasattr(router, "e_score_correction_bias")
        c = output[0].softmax(-1) if v2 else output[0].sigmoid() + router.e_score_correction_bias
        N, G, M, K = c.shape[0], router.num_group or 1, router.topk_group or 1, router.top_k
        groups = c.view(N, G, -1).topk(1 if v2 else 2).values.sum(-1)
        best = groups.sort(descending=True).values
        if M < G:
            self.smallest = min(self.smallest, (best[:, M - 1] - best[:, M]).min().item())
        kept = (groups >= best[:, M - 1 : M]).repeat_interleave(c.shape[1] // G, 1)
        allowed = c.masked_fill(~kept, -1e9).sort(descending=True).values
        if K < c.shape[1]:
            self.smallest = min(self.smallest, (allowed[:, K - 1] - allowed[:, K]).min().item())


def routing_margin(model, ids):
    with Margins(model) as margins, torch.no_grad():
        model(ids)
    return margins.smallest


def released(tensors):
    """transformers holds the experts of a layer in two tensors; a file has three for each."""
    out = {}
    for name, w in tensors.items():
        if name.endswith("experts.gate_up_proj"):
            for i in range(w.shape[0]):
                gate, up = w[i].chunk(2)
                out[name.replace("gate_up_proj", f"{i}.gate_proj.weight")] = gate
                out[name.replace("gate_up_proj", f"{i}.up_proj.weight")] = up
        elif name.endswith("experts.down_proj"):
            for i in range(w.shape[0]):
                out[name.replace("down_proj", f"{i}.down_proj.weight")] = w[i]
        else:
            out[name] = w
    return out


def logits_loss_gradients(model, ids):
    """As numpy: (logits, loss, gradients by the names of a file)."""
    model.zero_grad()
    result = model(input_ids=ids, labels=ids)
    result.loss.backward()
    gradients = {
        name: w.grad if w.grad is not None else torch.zeros_like(w) for name, w in model.named_parameters()
    }
    numbers = {name: w.numpy() for name, w in released(gradients).items()}
    return result.logits.detach().numpy(), result.loss.item(), numbers


def verdict(failures):
    for failure in failures:
        print("FAILED:", failure)
    print("all within tolerance" if not failures else f"{len(failures)} failed")
    sys.exit(1 if failures else 0)

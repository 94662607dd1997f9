"""Every objective of `deepseek loss --list`, with every switch, against PyTorch's autograd in double: loss, gradients,
advantages and returns. The formulas are the papers', written with torch for one output after another, on its tokens
alone; the masks are ragged, and where they are 0 our program is given NaN. DPO, GRPO and distillation also against
TRL, an implementation that we did not write: its trainers' losses, with what switches they share with us, on the same
numbers. What it has alone (IPO's square, DPO's tail by ld_alpha) is another formula.

Tolerances are relative to the largest number of the tensor. Measured worst: 8e-7 (float32 has 6e-8 a rounding).
"""

import itertools
import json
import pathlib
import tempfile
from unittest.mock import MagicMock

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from trl import DPOTrainer, GRPOTrainer
from trl.trainer.distillation_trainer import _chunked_divergence_loss

from common import deepseek, device_options, error, options, verdict

LIMIT = 2e-6
GROUPS = torch.tensor([3, 0, 3, 3, 0, 3, 0, 0], dtype=torch.int32)
LENGTHS = ["sequence", "token", "constant"]
LEAVES = dict(ppo=("logp", "values"), distill=("h", "W"))  # what gets a gradient; else logp


class Batch:
    """Random tensors; x["logp"][i] are the tokens of output i that count, in double, leaves of autograd."""

    def __init__(self, seed, B=8, T=11):
        generator = torch.Generator().manual_seed(seed)
        randn = lambda *shape: torch.randn(shape, generator=generator)
        self.B, self.T = B, T
        self.mask = (torch.rand(B, T, generator=generator) < 0.6).float()
        self.mask[:, seed % T] = 1
        logp = -randn(B, T).abs()
        self.file = dict(logp=logp, values=randn(B, T), returns=randn(B, T), A=randn(B, T))
        for name in ("logp_old", "logp_ref"):
            self.file[name] = logp + 0.4 * randn(B, T)
        self.file["values_old"] = self.file["values"] + 0.4 * randn(B, T)
        self.file = {name: torch.where(self.mask > 0, x, torch.nan) for name, x in self.file.items()}
        self.file |= dict(mask=self.mask, group=GROUPS, reward=torch.round(2 * randn(B)) / 2)
        self.steps = torch.where(torch.rand(B, T, generator=generator) < 0.4, randn(B, T), torch.nan)
        for name, width in (("h", 6), ("teacher_h", 4)):
            self.file[name] = torch.where(self.mask[..., None] > 0, randn(B, T, width), torch.nan)
        self.file |= dict(W=0.5 * randn(13, 6), teacher_W=0.5 * randn(13, 4))
        learnt = ("logp", *(name for names in LEAVES.values() for name in names))
        self.leaves = {name: x.double().requires_grad_(name in learnt) for name, x in self.file.items()}

    def of(self, name, i):
        return self.leaves[name][i][self.mask[i] > 0]

    def zeroed(self):
        """What is by token, with 0 where nothing counts."""
        by_token = {name: x for name, x in self.leaves.items() if x.shape[:2] == self.mask.shape}
        return {name: torch.where(self.mask.view(self.B, self.T, *[1] * (x.dim() - 2)) > 0, x, 0.0)
                for name, x in by_token.items()}  # fmt: skip

    def spread_out(self, parts):
        """One tensor by output -> (B,T), 0 where nothing counts."""
        x = torch.zeros(self.B, self.T, dtype=torch.float64)
        for i, part in enumerate(parts):
            x[i, self.mask[i] > 0] = part.detach().double()
        return x


def total(b, terms, length, L, rows=None):
    """The loss of J's terms, a tensor by output."""
    if length == "sequence":
        return -sum(t.mean() for t in terms if len(t)) / b.B
    tokens = b.mask.sum() if rows is None else b.mask[rows].sum()
    return -sum(t.sum() for t in terms) / (tokens if length == "token" else b.B * (L or b.T))


def sft(b, s):
    return dict(loss=total(b, [b.of("logp", i) for i in range(b.B)], s["length"], s["L"]))


def rft(b, s):
    right = [i for i in range(b.B) if b.file["reward"][i] > 0]
    return dict(loss=total(b, [b.of("logp", i) for i in right], s["length"], s["L"], right))


def dpo(b, s):
    average = torch.mean if s["length"] == "sequence" else torch.sum
    x = [s["beta"] * average(b.of("logp", i) - b.of("logp_ref", i)) for i in range(b.B)]
    return dict(loss=-sum(F.logsigmoid(x[i] - x[i + 1]) for i in range(0, b.B, 2)) / (b.B // 2))


def clipped(b, i, A, eps):
    rho = torch.exp(b.of("logp", i) - b.of("logp_old", i))
    return rho, torch.minimum(rho * A, rho.clamp(1 - eps, 1 + eps) * A)


def ppo(b, s, given):
    out, advantages, returns = {}, [], []
    for i in range(b.B):
        if given:
            advantages.append(b.of("A", i))
            returns.append(b.of("returns", i))
            continue
        r = -s["beta"] * (b.of("logp_old", i) - b.of("logp_ref", i)).detach()
        r[-1] += b.leaves["reward"][i]
        V = b.of("values_old", i)
        following = torch.cat([V[1:], torch.zeros(1)])
        delta = r + s["gamma"] * following - V
        n = len(V)
        keep = s["gamma"] * s["lambda"]
        advantages.append(torch.stack([sum(keep ** (l - t) * delta[l] for l in range(t, n)) for t in range(n)]))
        returns.append(advantages[-1] + V)
    if not given:
        out |= dict(A=b.spread_out(advantages), returns=b.spread_out(returns))
    loss = total(b, [clipped(b, i, advantages[i], s["eps"])[1] for i in range(b.B)], s["length"], s["L"])
    errors = []
    for i in range(b.B):
        V, old = b.of("values", i), b.of("values_old", i)
        square = (V - returns[i]) ** 2
        if s["eps_v"] > 0:
            near = old + (V - old).clamp(-s["eps_v"], s["eps_v"])
            square = torch.maximum(square, (near - returns[i]) ** 2)
        errors.append(-square / 2)
    return out | dict(loss=loss + s["c_v"] * total(b, errors, s["length"], s["L"]))


def normalised(r, pool, std):
    """(r - mean) / spread of the pool, over the population."""
    spread = pool.std(correction=0)
    return torch.zeros_like(r) if spread < 1e-8 else (r - pool.mean()) / (spread if std == "1" else 1)


def outcome(b, s):
    r = b.leaves["reward"]
    return [normalised(r[i], r[GROUPS == GROUPS[i]], s["std"]) * torch.ones(int(b.mask[i].sum())) for i in range(b.B)]


def process(b, s):
    steps = [b.steps[i][b.mask[i] > 0].double() for i in range(b.B)]
    result = []
    for i in range(b.B):
        pool = torch.cat([steps[j] for j in range(b.B) if GROUPS[j] == GROUPS[i]])
        r = normalised(steps[i], pool[~pool.isnan()], s["std"]).nan_to_num(0)
        result.append(r.flip(0).cumsum(0).flip(0))
    return result


def grpo(b, s, source):
    A = {"given": lambda: [b.of("A", i) for i in range(b.B)], "outcome": lambda: outcome(b, s),
         "process": lambda: process(b, s)}[source]()  # fmt: skip
    terms = []
    for i in range(b.B):
        rho, J = clipped(b, i, A[i], s["eps"])
        left = (b.of("logp_old", i) - b.of("logp", i)).mean().item()
        if s["delta"] and left > s["delta"]:
            J = torch.where(A[i] < 0, 0, J)
        ratio = torch.exp(b.of("logp_ref", i)) / torch.exp(b.of("logp", i))
        D = ratio - torch.log(ratio) - 1
        terms.append(J - s["beta"] * (rho * D if s["kl"] == "unbiased" else D))
    out = {} if source == "given" else dict(A=b.spread_out(A))
    return out | dict(loss=total(b, terms, s["length"], s["L"]))


def distill(b, s):
    terms = []
    for i in range(b.B):
        q, p = ((b.of(h, i) @ b.leaves[W].T / s["temperature"]).log_softmax(-1)
                for h, W in (("h", "W"), ("teacher_h", "teacher_W")))  # fmt: skip
        of, to = (q, p) if s["kl"] == "reverse" else (p, q)
        terms.append(-F.kl_div(to, of, reduction="none", log_target=True).sum(-1))
    return dict(loss=total(b, terms, s["length"], s["L"]))


def settings(**choices):
    return [dict(zip(choices, values)) for values in itertools.product(*choices.values())]


def cases():
    """(objective, where advantages come from, settings, tensors to leave out, reference)"""
    lengths = dict(length=LENGTHS, L=[0, 17])
    for s in settings(**lengths):
        yield "sft", "", s, (), sft
        yield "rft", "", s, (), rft
    for s in settings(beta=[0.1, 2.0], length=["none", "sequence"]):
        yield "dpo", "", s, (), dpo
    for s in settings(kl=["forward", "reverse"], temperature=[1.0, 0.7, 2.5], **lengths):
        yield "distill", "", s, (), distill
    for s in settings(eps=[0.2, 10], beta=[0.0, 0.3], gamma=[1.0, 0.9], **{"lambda": [1.0, 0.95]}, eps_v=[0.0, 0.2],
                      c_v=[1.0, 0.5], length=["sequence", "token"], L=[0]):  # fmt: skip
        yield "ppo", "gae", s, ("A", "returns"), lambda b, s: ppo(b, s, False)
    for s in settings(eps=[0.2], beta=[0.0], gamma=[1.0], **{"lambda": [1.0]}, eps_v=[0.0, 0.2], c_v=[1.0], **lengths):
        yield "ppo", "given", s, (), lambda b, s: ppo(b, s, True)
    for s in settings(eps=[0.2, 10], beta=[0.0, 0.04, 2.0], std=["1", "0"], kl=["k3", "unbiased"], delta=[0.0, 0.1],
                      length=LENGTHS, L=[0, 17]):  # fmt: skip
        if s["L"] and (s["length"] != "constant" or s["beta"] != 0.04):
            continue
        for source in ("outcome", "process", "given"):
            if source == "given" and s["std"] == "0":
                continue
            leave_out = () if source == "given" else ("A",)
            yield "grpo", source, s, leave_out, lambda b, s, source=source: grpo(b, s, source)


def trl_dpo(b, s):
    """Its batch is first all chosen, then all rejected, and its tokens begin behind the first."""
    x, order = b.zeroed(), [*range(0, b.B, 2), *range(1, b.B, 2)]
    sums = x["logp_ref"][order].sum(1)
    me = MagicMock(loss_types=["sigmoid_norm" if s["length"] == "sequence" else "sigmoid"], loss_weights=[1.0],
                   beta=s["beta"], ld_alpha=None, f_divergence_type="reverse_kl", precompute_ref_logps=True,
                   use_weighting=False, aux_loss_enabled=False, _total_train_tokens=0, _tp_size=1)  # fmt: skip
    me.accelerator.gather_for_metrics = me.accelerator.gather = lambda t: t
    nothing = torch.zeros(b.B, b.T)
    outputs = MagicMock(log_probs=x["logp"][order], entropy=nothing, mean_logits=nothing, is_top1=nothing > 0)
    mask = F.pad(b.mask[order], (1, 0))
    inputs = dict(input_ids=mask.long(), attention_mask=mask.long(), completion_mask=mask.long(),
                  ref_chosen_logps=sums[: b.B // 2], ref_rejected_logps=sums[b.B // 2 :])  # fmt: skip
    return dict(loss=DPOTrainer._compute_loss(me, lambda **_: outputs, inputs, return_outputs=False))


def trl_distill(b, s):
    """In float32, as it is."""
    x = {name: t.float() for name, t in (b.leaves | b.zeroed()).items()}
    return dict(loss=_chunked_divergence_loss(x["h"], x["teacher_h"], x["W"], x["teacher_W"], b.mask,
                                              beta=float(s["kl"] == "reverse"), temperature=s["temperature"])[0])  # fmt: skip


def trl_cases():
    """The same, by TRL: what it calls things, and a trainer that is nothing but its settings."""
    for s in settings(beta=[0.1, 2.0], length=["none", "sequence"]):
        yield "dpo", "TRL", s, (), trl_dpo
    for s in settings(kl=["forward", "reverse"], temperature=[1.0, 2.5], length=["token"], L=[0]):
        yield "distill", "TRL", s, (), trl_distill
    names = dict(sequence="grpo", token="bnpo", constant="dr_grpo")
    for s in settings(eps=[0.2], beta=[0.0, 0.5], kl=["k3", "unbiased"], delta=[0.0, 0.1], length=LENGTHS, L=[0]):

        def reference(b, s):
            x = b.zeroed()
            me = MagicMock(loss_type=names[s["length"]], beta=s["beta"], epsilon_low=s["eps"], epsilon_high=s["eps"],
                           off_policy_mask_threshold=s["delta"] or None, importance_sampling_level="token",
                           top_entropy_quantile=1.0, use_vllm=False, max_completion_length=b.T,
                           current_gradient_accumulation_steps=1, _entropy_bonus_enabled=False,
                           aux_loss_enabled=False, get_off_policy_mask=GRPOTrainer.get_off_policy_mask)  # fmt: skip
            me.args = MagicMock(use_bias_correction_kl=s["kl"] == "unbiased", delta=None)
            me.accelerator.gather = lambda t: t
            me.accelerator.reduce = lambda t, reduction: t
            me._get_per_token_logps_and_entropies.return_value = x["logp"], torch.zeros_like(x["logp"]), None
            empty = torch.zeros(b.B, 0, dtype=torch.int64)
            inputs = dict(prompt_ids=empty, prompt_mask=empty, completion_ids=b.mask.long(), completion_mask=b.mask,
                          advantages=x["A"], old_per_token_logps=x["logp_old"],
                          ref_per_token_logps=x["logp_ref"])  # fmt: skip
            return dict(loss=GRPOTrainer._compute_loss(me, None, inputs))

        yield "grpo", "TRL", s, (), reference


def check(args, number, case, folder, worst, failures):
    name, label, s, leave_out, reference = case
    b = Batch(number)
    tensors = {key: x for key, x in b.file.items() if key not in leave_out}
    if label == "process":
        tensors["reward"] = b.steps
    save_file({key: x.contiguous() for key, x in tensors.items()}, folder / "in.safetensors")
    set_options = [word for key, value in s.items() for word in ("--set", f"{key}={value}")]
    deepseek(args, "loss", name, "--in", folder / "in.safetensors", "--out", folder / "out.safetensors", *set_options,
             *device_options(args))  # fmt: skip
    ours, theirs = load_file(folder / "out.safetensors"), reference(b, s)
    theirs["loss"].backward()
    theirs["loss"] = theirs["loss"].detach().reshape(1)
    for leaf in LEAVES.get(name, ("logp",)):
        theirs["d" + leaf] = b.leaves[leaf].grad.nan_to_num(0)
    what = f"{name} {label} " + " ".join(f"{key}={value}" for key, value in s.items())
    if set(ours) != set(theirs):
        failures.append(f"{what}: outputs {sorted(ours)} instead of {sorted(theirs)}")
        return
    for key in ours:
        e = error(ours[key], theirs[key], 0.1 if key == "loss" else 0)
        worst[name, label, key] = max(worst.get((name, label, key), 0), e)
        if not e < LIMIT:
            failures.append(f"{what}: {key}: error {e:.1e}")


def main():
    args = options(__doc__.splitlines()[0]).parse_args()
    listed = {o["name"]: o for o in json.loads(deepseek(args, "loss", "--list", "--json"))}
    failures, worst, tried, count = [], {}, {}, 0
    with tempfile.TemporaryDirectory() as folder:
        for number, case in enumerate([*cases(), *trl_cases()]):
            name, _, s = case[:3]
            for key, value in s.items():
                tried.setdefault(name, {}).setdefault(key, set()).add(str(value))
            if args.only in name:
                check(args, number, case, pathlib.Path(folder), worst, failures)
                count += 1
    for name, o in listed.items():  # a switch that nobody tries is a failure
        for setting in o["settings"]:
            values = tried.get(name, {}).get(setting["name"], set())
            if len(values) < 2 or set(setting.get("choices", [])) - values:
                failures.append(f"{name}: setting {setting['name']} is not tried here")
    print(f"{'objective':28}{'output':10}{'worst error':>12}")
    for (name, label, key), e in worst.items():
        print(f"{name + ' ' + label:28}{key:10}{e:12.1e}")
    print(f"{count} cases")
    verdict(failures)


if __name__ == "__main__":
    main()

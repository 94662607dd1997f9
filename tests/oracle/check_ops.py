"""Every op of `deepseek op --list`, forwards and backwards, against a few lines of PyTorch in double.

A case: attributes, inputs, and a function that says the same with torch; its outputs come back by the
op's names, and autograd differentiates them. Ops that choose or act have integer or in-place results,
compared in the same way. An op without a case is a failure.

Tolerances are relative to the largest number of the tensor. Measured worst: outputs 2.5e-7, gradients
4.5e-7 (float32 has 6e-8 a rounding); another machine's contractions may differ by a few.
"""

import json
import math
import pathlib
import tempfile
import zlib

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from common import deepseek, device_options, error, options, verdict

OUTPUT, GRADIENT = 1e-6, 1.5e-6
generator = torch.Generator().manual_seed(1)


def own_generator(name):
    """For gradients: they do not depend on which other cases there are."""
    return torch.Generator().manual_seed(zlib.crc32(name.encode()))


later_generator = own_generator("cases that were added to those above and below them")


def randn(*shape, generator=generator):
    return torch.randn(shape, generator=generator)


def later(*shape):
    """For a case that was added later, so that the numbers of all others stay as they are."""
    return randn(*shape, generator=later_generator)


def randint(below, *shape, generator=generator):
    return torch.randint(below, shape, generator=generator, dtype=torch.int32)


def later_ints(below, *shape):
    return randint(below, *shape, generator=later_generator)


def away(*shape):
    """Both signs, 0.3 to 2: no kink near."""
    x = randn(*shape)
    return x.sign() * (0.3 + x.abs().clamp(max=1.7))


CASES = []  # (op, label, attributes, inputs, reference)


def case(op, label="", inputs=None, **attributes):
    def add(reference):
        CASES.append((op, label, attributes, inputs, reference))
        return reference

    return add


# --------------------------------------------------------------------------------------- rows and axes
@case("gather_rows", inputs=dict(x=randn(7, 5), ids=randint(7, 3, 4)))
def _(x, ids):
    return dict(y=x[ids.long()])


IDX = torch.stack(
    [torch.randperm(5, generator=generator)[:3] for _ in range(6)]
).int()  # 6 tokens choose 3 of 5


def dispatched(idx, n):
    """A stable counting sort: where (t,k) stands, whose row stands there, where each expert begins."""
    flat = idx.flatten().tolist()
    order = sorted((e, i) for i, e in enumerate(flat) if e >= 0)
    slot, token = [-1] * len(flat), [0] * len(flat)
    for place, (_, i) in enumerate(order):
        slot[i], token[place] = place, i // idx.shape[1]
    counts = [flat.count(e) for e in range(n)]
    offsets = [sum(counts[:e]) for e in range(n + 1)]
    to_int = lambda values: torch.tensor(values, dtype=torch.int32)
    return dict(
        slot=to_int(slot).view(idx.shape), token=to_int(token), offsets=to_int(offsets), counts=to_int(counts)
    )


SORTED = dispatched(IDX, 5)


@case("gather_rows", "with dispatch's inverse", dict(x=randn(6, 4), ids=SORTED["token"], slot=SORTED["slot"]))
def _(x, ids, slot):
    return dict(y=x[ids.long()])


@case(
    "combine",
    "one place dropped",
    dict(
        y=randn(18, 4), g=randn(6, 3), slot=torch.where(torch.arange(18).view(6, 3) == 7, -1, SORTED["slot"])
    ),
)
def _(y, slot, g):
    rows = torch.where((slot >= 0)[..., None], y[slot.long().clamp(min=0)], 0)
    return dict(z=(g[..., None] * rows).sum(1))


@case("combine", "no gate", dict(y=later(18, 4), slot=SORTED["slot"]))
def _(y, slot):
    return dict(z=y[slot.long()].sum(1))


@case("concat", inputs=dict(a=randn(2, 3, 4, 5), b=randn(2, 3, 4, 2)))
@case("concat", "one head for all", dict(a=randn(2, 3, 4, 5), b=randn(2, 3, 1, 2)))
def _(a, b):
    return dict(y=torch.cat([a, b.expand(*a.shape[:-1], b.shape[-1])], -1))


@case("slice", "axis 0", dict(x=randn(5, 3, 4)), axis=0, **{"from": 1, "n": 3})
@case("slice", "axis 1", dict(x=randn(2, 6, 4)), axis=1, **{"from": 2, "n": 4})
@case("slice", "axis 2", dict(x=randn(2, 3, 7)), axis=2, **{"from": 0, "n": 2})
def _(x, axis, n, **more):
    return dict(y=x.narrow(axis, more["from"], n))


@case("pick", inputs=dict(s=randn(6, 5), idx=IDX))
@case("pick", "-1 is nobody", dict(s=later(6, 5), idx=torch.where(torch.arange(18).view(6, 3) % 4 == 1, -1, IDX)))
def _(s, idx):
    return dict(y=torch.where(idx < 0, 0, s.gather(1, idx.long().clamp(min=0))))


# -------------------------------------------------------------------------------------------- products
@case("matmul", inputs=dict(x=randn(3, 5, 17), W=randn(9, 17)))
def _(x, W):
    return dict(y=x @ W.T)


class RoundGradient(torch.autograd.Function):
    """y as it is; its gradient rounded to bf16."""

    @staticmethod
    def forward(ctx, y):
        return y

    @staticmethod
    def backward(ctx, dy):
        return dy.bfloat16().double()


def in_bf16(x):
    """Rounded, and straight through."""
    return x + (x.bfloat16().double() - x).detach()


@case("matmul", "in bf16", dict(x=later(3, 5, 17), W=later(9, 17)), precision=1)
def _(x, W, precision):
    return dict(y=RoundGradient.apply(in_bf16(x) @ in_bf16(W).T))


@case("matmul_heads", inputs=dict(x=randn(2, 3, 4, 6), W=randn(4, 5, 6)))
def _(x, W):
    return dict(y=torch.einsum("bthi,hoi->btho", x, W))


@case("matmul_heads", "transposed", dict(x=randn(2, 3, 4, 5), W=randn(4, 5, 6)), transpose=1)
def _(x, W, transpose):
    return dict(y=torch.einsum("btho,hoi->bthi", x, W))


@case(
    "matmul_grouped",
    "an expert without rows, rows without an expert",
    dict(x=randn(12, 7), W=randn(4, 6, 7), offsets=torch.tensor([0, 3, 3, 8, 10], dtype=torch.int32)),
)
def _(x, W, offsets):
    o = offsets.tolist()
    parts = [x[o[e] : o[e + 1]] @ W[e].T for e in range(len(o) - 1)]
    return dict(y=torch.cat(parts + [x.new_zeros(len(x) - o[-1], W.shape[1])]))


# ------------------------------------------------------------------------------------- pointwise, rows
@case("weighted_sum", inputs=dict(x=randn(4, 5), w=randn(4, 5)), a=0.7)
@case("weighted_sum", "without weights", dict(x=randn(4, 5)), a=-1.5)
def _(x, w=None, a=1):
    return dict(y=(a * (x if w is None else w.detach() * x)).sum().view(1))


UNARY = [
    lambda x: x,
    F.silu,
    torch.sigmoid,
    torch.tanh,
    torch.exp,
    torch.log,
    F.relu,
    F.logsigmoid,
    lambda x: torch.exp(x) - x - 1,
]
for f, function in enumerate(UNARY):
    x = away(5, 7).abs() if function is torch.log else away(5, 7)
    a, c = (0.8, 0.1) if function is torch.log else (-1.3, 0.2)
    CASES.append(
        ("unary", f"f={f}", dict(f=f, a=a, shift=c), dict(x=x), lambda x, f, a, shift: dict(y=UNARY[f](a * x + shift)))
    )

BINARY = [torch.add, torch.sub, torch.mul, torch.minimum, torch.maximum]
for f in range(len(BINARY)):
    CASES.append(
        (
            "binary",
            f"f={f}",
            dict(f=f),
            dict(x=randn(5, 7), y=randn(5, 7)),
            lambda x, y, f: dict(z=BINARY[f](x, y)),
        )
    )


@case("swiglu", inputs=dict(a=2 * randn(4, 9), b=randn(4, 9)))
def _(a, b):
    return dict(y=F.silu(a) * b)


@case("scale_rows", inputs=dict(x=randn(6, 5), s=randn(6)))
def _(x, s):
    return dict(y=x * s[:, None])


@case("affine", inputs=dict(x=randn(2, 6, 5), alpha=randn(1), b=randn(5)))
@case("affine", "without alpha", dict(x=randn(6, 5), b=randn(5)))
def _(x, b, alpha=1):
    return dict(y=alpha * x + b)


@case("rmsnorm", inputs=dict(x=randn(2, 3, 16), g=randn(16)), eps=1e-2)
@case("rmsnorm", "without gain", dict(x=randn(5, 16)), eps=1e-6)
def _(x, g=None, eps=0):
    r = (x.square().mean(-1) + eps).rsqrt()
    return dict(y=x * r[..., None] * (1 if g is None else g), r=r)


@case("softmax", inputs=dict(x=4 * randn(5, 11)))
def _(x):
    return dict(y=x.softmax(-1))


@case("normalize_rows", inputs=dict(x=randn(5, 6).abs()), rho=2.5, eps=1e-3)
def _(x, rho, eps):
    return dict(y=rho * x / (x.sum(-1, keepdim=True) + eps))


# ------------------------------------------------------------------------------------------------ rope
def frequencies(dims, theta=10000.0, scaling=0, factor=1.0, original=4096.0, beta_fast=32.0, beta_slow=1.0):
    j = torch.arange(dims // 2, dtype=torch.float64)
    f = theta ** (-2 * j / dims)
    if scaling == 0:
        return f
    if scaling == 1:
        return f / factor
    if scaling == 3:
        smooth = ((original * f / (2 * math.pi) - beta_slow) / (beta_fast - beta_slow)).clamp(0, 1)
        return (1 - smooth) * f / factor + smooth * f
    corner = lambda turns: dims * math.log(original / (2 * math.pi * turns)) / (2 * math.log(theta))
    low, high = max(math.floor(corner(beta_fast)), 0), min(math.ceil(corner(beta_slow)), dims - 1)
    ramp = ((j - low) / ((high if high != low else high + 0.001) - low)).clamp(0, 1)
    return f / factor * ramp + f * (1 - ramp)


POS = torch.arange(12, dtype=torch.int32).view(2, 6) * 3


@case("rope", "neighbours", dict(x=randn(2, 6, 3, 8), pos=POS), dims=8)
@case("rope", "half-split", dict(x=randn(2, 6, 3, 8), pos=POS), dims=8, pairing=1, theta=500)
@case("rope", "a part, back", dict(x=randn(2, 6, 3, 12), pos=POS), first=4, dims=6, sign=-1, amplitude=1.2)
@case("rope", "linear", dict(x=randn(2, 6, 1, 8), pos=POS), dims=8, pairing=1, scaling=1, factor=4)
@case(
    "rope",
    "YaRN",
    dict(x=randn(2, 6, 2, 16), pos=POS),
    dims=16,
    scaling=2,
    factor=4,
    original=32,
    amplitude=0.9,
)
@case(
    "rope",
    "YaRN, other ramp",
    dict(x=randn(2, 6, 2, 16), pos=POS),
    dims=16,
    scaling=2,
    factor=8,
    original=256,
    beta_fast=16,
    beta_slow=2,
    pairing=1,
)
@case(
    "rope",
    "Llama 3",
    dict(x=randn(2, 6, 2, 16), pos=POS),
    dims=16,
    scaling=3,
    factor=8,
    original=64,
    beta_fast=4,
    beta_slow=1,
    pairing=1,
)
def _(x, pos, dims, first=0, pairing=0, sign=1, amplitude=1, **scaling):
    angle = sign * pos.double()[..., None, None] * frequencies(dims, **scaling)
    cos, sin = amplitude * angle.cos(), amplitude * angle.sin()
    part = x[..., first : first + dims]
    u, v = (part[..., 0::2], part[..., 1::2]) if pairing == 0 else part.chunk(2, -1)
    turned = [u * cos - v * sin, u * sin + v * cos]
    y = torch.stack(turned, -1).flatten(-2) if pairing == 0 else torch.cat(turned, -1)
    return dict(y=torch.cat([x[..., :first], y, x[..., first + dims :]], -1))


# ------------------------------------------------------------------------------------------- attention
CAUSAL = torch.stack(
    [torch.zeros(2, 5, dtype=torch.int32), torch.arange(5, dtype=torch.int32).expand(2, 5)], -1
)
WINDOWS = torch.tensor(
    [[[0, 6], [2, 4], [5, 5], [3, 2], [1, 6]]] * 2, dtype=torch.int32
)  # the fourth sees nothing
LISTS = torch.tensor([[[0, -1, -1], [1, 0, -1], [6, 2, 4], [-1, -1, -1], [3, -1, 5]]] * 2, dtype=torch.int32)


@case(
    "attention",
    "causal",
    dict(q=randn(2, 5, 4, 6), k=randn(2, 5, 4, 6), v=randn(2, 5, 4, 3), where=CAUSAL),
    scale=0.4,
)
@case(
    "attention",
    "grouped queries",
    dict(q=randn(2, 5, 6, 8), k=randn(2, 5, 2, 8), v=randn(2, 5, 2, 8), where=CAUSAL),
    scale=0.35,
)
@case(
    "attention",
    "spans",
    dict(q=randn(2, 5, 2, 6), k=randn(2, 7, 2, 6), v=randn(2, 7, 2, 4), where=WINDOWS),
    scale=0.5,
)
@case(
    "attention",
    "lists",
    dict(q=randn(2, 5, 2, 6), k=randn(2, 7, 2, 6), v=randn(2, 7, 2, 4), where=LISTS),
    scale=0.5,
    lists=1,
)
@case(
    "attention",
    "lists of two",
    dict(q=later(2, 5, 2, 6), k=later(2, 7, 2, 6), v=later(2, 7, 2, 4), where=LISTS[..., :2].contiguous()),
    scale=0.5,
    lists=1,
)
@case(
    "attention",
    "values are the first of the keys",
    dict(q=randn(2, 5, 4, 6), k=randn(2, 7, 1, 6), where=WINDOWS),
    scale=0.5,
    n=4,
)
def _(q, k, where, scale, v=None, lists=0, n=0):
    v = k[..., :n] if v is None else v
    B, T, S = q.shape[0], q.shape[1], k.shape[1]
    j = torch.arange(S)
    if lists:
        allowed = (where[..., None] == j).any(-2)
    else:
        allowed = (j >= where[..., :1]) & (j <= where[..., 1:])
    share = q.shape[2] // k.shape[2]
    k, v = k.repeat_interleave(share, 2), v.repeat_interleave(share, 2)
    scores = scale * torch.einsum("bthi,bshi->bths", q, k)
    scores = scores.masked_fill(~allowed[:, :, None], -float("inf"))
    seen = allowed.any(-1)[:, :, None, None]
    p = torch.where(seen, torch.where(seen, scores, 0).softmax(-1), 0)
    lse = torch.where(seen[..., 0], torch.where(seen, scores, 0).logsumexp(-1), -float("inf"))
    return dict(o=torch.einsum("bths,bshi->bthi", p, v), lse=lse)


# ------------------------------------------------------------------------------------------------ logp
TARGETS = torch.tensor([[3, 0, -1, 10], [7, 7, 2, -1]], dtype=torch.int32)
ALLOWED = (
    (torch.rand(2, 4, 11, generator=generator) < 0.6)
    .int()
    .scatter(2, TARGETS.long().clamp(min=0)[..., None], 1)
)


BITS = (ALLOWED << torch.arange(11, dtype=torch.int32)).sum(-1, keepdim=True).int()  # 11 ids are one word


@case("logp", inputs=dict(h=randn(2, 4, 6), W=randn(11, 6), ids=TARGETS))
@case("logp", "temperature", dict(h=randn(2, 4, 6), W=randn(11, 6), ids=TARGETS), temperature=0.6)
@case(
    "logp",
    "some allowed",
    dict(h=randn(2, 4, 6), W=randn(11, 6), ids=TARGETS, allowed=BITS),
    temperature=1.4,
)
def _(h, W, ids, allowed=None, temperature=1):
    z = h @ W.T / temperature
    if allowed is not None:
        z = z.masked_fill((allowed >> torch.arange(W.shape[0])) & 1 == 0, -1e30)
    logp, there = z.log_softmax(-1), ids >= 0
    H = -(logp.exp() * logp).sum(-1)
    y = logp.gather(-1, ids.long().clamp(min=0)[..., None])[..., 0]
    return dict(
        y=torch.where(there, y, 0), H=torch.where(there, H, 0), lse=torch.where(there, z.logsumexp(-1), 0)
    )


PLACES = torch.tensor([[0, 1, -1, 2], [0, 0, 0, -1]], dtype=torch.int32)
TAUGHT = {
    name: randn(*shape, generator=own_generator(f"kl_vocab {name}"))
    for name, shape in dict(h=(2, 4, 6), W=(11, 6), g=(2, 4, 3), U=(11, 3)).items()
}


@case("kl_vocab", inputs=TAUGHT)
@case("kl_vocab", "padding, temperature", TAUGHT | dict(pos=PLACES), temperature=0.6)
@case("kl_vocab", "reverse", TAUGHT | dict(pos=PLACES), reverse=1, temperature=1.4)
def _(h, W, g, U, pos=torch.zeros(2, 4), temperature=1, reverse=0):
    z_q, z_p = h @ W.T / temperature, g.detach() @ U.detach().T / temperature
    log_q, log_p = z_q.log_softmax(-1), z_p.log_softmax(-1)
    of, to = (log_q, log_p) if reverse else (log_p, log_q)
    y = F.kl_div(to, of, reduction="none", log_target=True).sum(-1)  # KL(of | to)
    counts = lambda x: torch.where(pos >= 0, x, 0).flatten()
    return dict(y=counts(y), lse_q=counts(z_q.logsumexp(-1)), lse_p=counts(z_p.logsumexp(-1)))


# ------------------------------------------------------------------------------------- ops that choose
@case("topk", inputs=dict(s=randn(9, 8)), K=3)
@case("topk", "bias", dict(s=randn(9, 8).sigmoid(), b=randn(8)), K=3)
@case(
    "topk",
    "groups by their best two",
    dict(s=randn(9, 12).sigmoid(), b=randn(12) - 5),
    K=4,
    groups=4,
    keep=2,
    best=2,
)
@case("topk", "padding", dict(s=later(6, 8), pos=torch.tensor([[0, 1, -1], [0, -1, -1]], dtype=torch.int32)), K=3)
@case("topk", "groups by their best", dict(s=randn(9, 12)), K=4, groups=3, keep=2, best=1)
def _(s, K, b=None, pos=None, groups=1, keep=1, best=1):
    c = s if b is None else s + b
    if groups > 1:
        score = c.view(len(c), groups, -1).topk(best).values.sum(-1)
        kept = torch.zeros_like(score).scatter(1, score.topk(keep).indices, 1).bool()
        c = c.masked_fill(~kept.repeat_interleave(c.shape[1] // groups, 1), -float("inf"))
    idx = c.topk(K).indices
    return dict(idx=idx if pos is None else torch.where(pos.view(-1, 1) < 0, -1, idx))


@case("hash_route", inputs=dict(ids=later_ints(1000, 4, 3), pos=torch.arange(12, dtype=torch.int32).view(4, 3) % 5 - 1), n=7)
def _(ids, pos, n):
    """The finaliser of splitmix64."""
    word, out = (1 << 64) - 1, []
    for i, p in zip(ids.flatten().tolist(), pos.flatten().tolist()):
        z = (i + 0x9E3779B97F4A7C15) & word
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & word
        z = (z ^ z >> 27) * 0x94D049BB133111EB & word
        out.append((z ^ z >> 31) % n if p >= 0 else -1)
    return dict(idx=torch.tensor(out, dtype=torch.int32).view(-1, 1))


@case("drop", inputs=dict(s=later(9, 6), idx=later_ints(6, 9, 2)), groups=3, capacity=0.8)
@case(
    "drop",
    "exempt rows, choices of nobody",
    dict(s=later(9, 6), idx=later_ints(7, 9, 2) - 1, exempt=(torch.arange(9) % 4 == 0).int()),
    groups=2,
    capacity=0.6,
)
def _(s, idx, groups, capacity, exempt=None):
    choices = [(n, k) for n in range(len(idx)) for k in range(idx.shape[1]) if idx[n, k] >= 0]
    room, kept, size = math.ceil(capacity * len(choices) / groups), idx.clone(), s.shape[1] // groups
    for g in range(groups):
        mine = [(n, k) for n, k in choices if idx[n, k] // size == g]
        free = [c for c in mine if exempt is None or not exempt[c[0]]]
        free.sort(key=lambda c: -s[c[0], idx[c[0], c[1]]].item())
        for n, k in free[max(0, room - (len(mine) - len(free))) :]:
            kept[n, k] = -1
    return dict(kept=kept)


@case("dispatch", inputs=dict(idx=IDX), n=5)
@case(
    "dispatch",
    "with dropped choices",
    dict(idx=torch.where(torch.arange(18).view(6, 3) % 4 == 1, -1, IDX)),
    n=6,
)
def _(idx, n):
    return dispatched(idx, n)


PADDED = torch.where(torch.arange(6)[:, None] % 3 == 2, -1, IDX)


@case("balance", inputs=dict(idx=IDX), n=5, T=3, a=0.01, groups=5)
@case("balance", "padded", dict(idx=PADDED), n=5, T=3, a=0.01, groups=5)
@case("balance", "by device", dict(idx=PADDED), n=6, T=3, a=0.01, groups=3)
@case("balance", "by communication", dict(idx=PADDED), n=6, T=3, a=0.01, groups=2, keep=2, once=1)
def _(idx, n, T, a, groups, keep=1, once=0):
    size, token = n // groups, (idx >= 0).any(1)
    tokens = token.view(-1, T).sum(1, keepdim=True).double()
    on = torch.stack([((idx >= 0) & (idx // size == g)).sum(1) for g in range(groups)], 1)
    count = (on.clamp(max=1) if once else on).view(-1, T, groups).sum(1).double()
    f = count * groups / ((keep if once else idx.shape[1]) * tokens)
    return dict(w=(a / tokens * f).repeat_interleave(T, 0).repeat_interleave(size, 1) * token[:, None])


def check_sample(args, folder, failures):
    """The kept set exactly, greedy exactly, and the frequencies of 30,000 draws within five standard
    deviations."""
    z, N = 1.5 * randn(13), 30000
    keys = torch.stack([torch.full((N,), 2), torch.arange(N), torch.full((N,), 5)], 1).int()
    for label, attributes in (
        ("all", {}),
        ("temperature", dict(temperature=0.7)),
        ("top_k", dict(top_k=4)),
        ("top_p", dict(top_p=0.8)),
        ("both", dict(top_k=6, top_p=0.7, temperature=1.3, seed=3)),
        ("greedy", dict(temperature=0)),
    ):
        save_file(dict(z=z.expand(N, 13).contiguous(), key=keys), folder / "in.safetensors")
        sets = [part for key, value in attributes.items() for part in ("--set", f"{key}={value}")]
        deepseek(
            args,
            "op",
            "sample",
            "--in",
            folder / "in.safetensors",
            "--out",
            folder / "out.safetensors",
            *sets,
            *device_options(args),
        )
        out = load_file(folder / "out.safetensors")
        temperature = attributes.get("temperature", 1)
        order = z.double().argsort(descending=True)[: 1 if temperature == 0 else attributes.get("top_k", 13)]
        p = (z.double()[order] / (temperature or 1)).softmax(0)
        n = int((p.cumsum(0) - p < attributes.get("top_p", 1)).sum())
        kept = (1 << order[:n]).sum()  # 13 ids are one word of bits
        expected = torch.zeros(13, dtype=torch.float64).scatter(0, order[:n], p[:n] / p[:n].sum())
        seen = torch.bincount(out["id"].flatten().long(), minlength=13).double() / N
        worst = ((seen - expected).abs() / (expected * (1 - expected) / N + 1e-12).sqrt()).max().item()
        good = (out["kept"].view(N) == kept).all().item() and worst < 5
        print(f"{'sample':16}{label:48}{'as told' if good else 'WRONG':>9}  {worst:.1f} standard deviations")
        if not good:
            failures.append(f"sample {label}: other choices")


# ---------------------------------------------------------------------------------------- ops that act
@case(
    "append",
    inputs=dict(
        rows=randn(2, 6, 1, 3),
        x=randn(2, 3, 1, 3),
        at=torch.tensor([[2, 3, -1], [0, -1, 4]], dtype=torch.int32),
    ),
)
def _(rows, x, at):
    rows = rows.clone()
    for b in range(2):
        for t in range(3):
            if at[b, t] >= 0:
                rows[b, at[b, t]] = x[b, t]
    return dict(rows=rows)


@case(
    "adamw",
    "first step",
    dict(W=randn(5, 4), m=torch.zeros(5, 4), v=torch.zeros(5, 4), dW=randn(5, 4)),
    lr=0.01,
    eps=1e-8,
    decay=0.1,
    step=1,
)
@case(
    "adamw",
    "third step, clipped",
    dict(W=randn(5, 4), m=randn(5, 4), v=randn(5, 4).square(), dW=randn(5, 4), norm2=torch.tensor([9.0])),
    lr=0.01,
    eps=1e-8,
    decay=0.1,
    step=3,
    clip=1,
)
@case(
    "adamw",
    "small enough not to be clipped",
    dict(W=randn(5, 4), m=randn(5, 4), v=randn(5, 4).square(), dW=randn(5, 4), norm2=torch.tensor([0.25])),
    lr=0.01,
    eps=1e-8,
    decay=0,
    step=2,
    clip=1,
    beta1=0.8,
    beta2=0.99,
)
def _(W, m, v, dW, lr, eps, decay, step, norm2=None, clip=0, beta1=0.9, beta2=0.95):
    weight = torch.nn.Parameter(W.clone())
    weight.grad = dW if norm2 is None else dW * (clip / (norm2.sqrt() + 1e-6)).clamp(max=1)
    optimiser = torch.optim.AdamW([weight], lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=decay)
    optimiser.state[weight] = dict(
        step=torch.tensor(float(step - 1)), exp_avg=m.clone(), exp_avg_sq=v.clone()
    )
    optimiser.step()
    state = optimiser.state[weight]
    return dict(W=weight.detach(), m=state["exp_avg"], v=state["exp_avg_sq"])


@case("sum_squares", inputs=dict(x=randn(70, 30), total=torch.tensor([2.0])))
def _(x, total):
    return dict(total=total + x.square().sum())


@case("scale_add", inputs=dict(y=randn(4, 5), x=randn(4, 5)), a=0.9, b=-0.3)
@case("scale_add", "integers", dict(y=randint(9, 7), x=randint(9, 7)), a=1, b=1)
def _(y, x, a, b):
    return dict(y=a * y + b * x)


@case(
    "bias_update", inputs=dict(b=randn(4), counts=torch.tensor([3, 9, 6, 6], dtype=torch.int32)), gamma=0.01
)
def _(b, counts, gamma):
    return dict(b=b + gamma * torch.sign(counts.double().mean() - counts))


# --------------------------------------------------------------------------------------------- compare
def check(args, op, label, attributes, inputs, reference, folder, failures):
    double = {
        name: x.double().requires_grad_(op["gradient"]) if x.is_floating_point() else x
        for name, x in inputs.items()
    }
    outputs = reference(**double, **attributes)
    saved = {name.strip("'") for name in op["signature"].split("->")[1].split() if name.endswith("'")}
    file, differentiable = dict(inputs), []
    if op["gradient"]:
        differentiable = [name for name in outputs if name not in saved]
        draws = own_generator(f"{op['name']} {label}")
        file |= {"d" + name: randn(*outputs[name].shape, generator=draws) for name in differentiable}
        torch.autograd.backward(
            [outputs[name] for name in differentiable], [file["d" + name].double() for name in differentiable]
        )
    save_file({name: x.contiguous() for name, x in file.items()}, folder / "in.safetensors")
    sets = [part for key, value in attributes.items() for part in ("--set", f"{key}={value}")]
    deepseek(
        args,
        "op",
        op["name"],
        "--in",
        folder / "in.safetensors",
        "--out",
        folder / "out.safetensors",
        *sets,
        *(["--grads"] if op["gradient"] else []),
        *device_options(args),
    )
    ours = load_file(folder / "out.safetensors")

    names = set(op["outputs"] or op["in_place"])
    if not names <= set(outputs):
        failures.append(f"{op['name']}: outputs {sorted(names - set(outputs))} have no reference")
    forward, backward = 0.0, 0.0
    for name, expected in outputs.items():
        if ours[name].is_floating_point():
            forward = max(forward, error(ours[name].view(expected.shape), expected.detach()))
        elif not (ours[name].flatten() == expected.flatten()).all():
            forward = float("inf")
    for name, x in double.items():
        if not op["gradient"] or not x.is_floating_point():
            continue
        expected = x.grad if x.grad is not None else torch.zeros_like(x)
        got = ours.get("d" + name, torch.zeros_like(expected))
        backward = max(backward, error(got, expected))
    print(
        f"{op['name']:16}{label:48}{forward:9.1e}" + (f"{backward:9.1e}" if op["gradient"] else ""),
        flush=True,
    )
    if not (forward <= OUTPUT and backward <= GRADIENT):
        failures.append(f"{op['name']} {label}: forward {forward:.1e}, backward {backward:.1e}")
    return forward, backward


def main():
    args = options(__doc__.splitlines()[0]).parse_args()
    ops = {op["name"]: op for op in json.loads(deepseek(args, "op", "--list", "--json"))}
    failures, worst = [], [(0.0, 0.0)]
    print(f"{'op':16}{'case':48}{'forward':>9}{'backward':>9}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        for name, op in ops.items():
            if args.only not in name:
                continue
            cases = [case for case in CASES if case[0] == name]
            if not cases and name != "sample":
                failures.append(f"{name}: has no case here")
            for _, label, attributes, inputs, reference in cases:
                worst.append(check(args, op, label, attributes, inputs, reference, folder, failures))
            if name == "sample":
                check_sample(args, folder, failures)
    print(f"{'worst':64}" + "".join(f"{max(column):9.1e}" for column in zip(*worst)))
    verdict(failures)


if __name__ == "__main__":
    main()

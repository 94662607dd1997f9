"""Tokens a second of training and of sampling beside transformers: the same model, batch and threads, in one run.

The two take turns, so that a busy machine is busy for both; each one's figure is the median of its steps. Theirs
is DeepseekV3ForCausalLM with eager attention, and the fastest of its implementations of the experts counts. MTP
is off (--set D=0): transformers does not train it.

    python tests/oracle/check_race.py --binary ./deepseek
"""

import argparse
import json
import pathlib
import statistics
import tempfile
import time

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from common import deepseek


class Theirs:
    def __init__(self, config, experts, args):
        torch.manual_seed(1)
        settings = dict(experts_implementation=experts) if experts else {}
        self.model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", **settings).train()
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1)
        self.shape = (args.batch, args.context)
        self.step()
        self.step()

    def step(self):
        """Seconds of one step."""
        ids = torch.randint(self.model.config.vocab_size, self.shape)
        begin = time.perf_counter()
        self.optimiser.zero_grad()
        self.model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        return time.perf_counter() - begin


    def decoding(self, tokens):
        """Tokens a second of 64 sampled answers, side by side."""
        self.model.eval()
        ids = torch.randint(self.model.config.vocab_size, (64, 7))
        begin = time.perf_counter()
        with torch.no_grad():
            self.model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=True, top_k=0, max_new_tokens=tokens,
                                min_new_tokens=tokens, eos_token_id=None, pad_token_id=0)
        self.model.train()
        return 64 * tokens / (time.perf_counter() - begin)


def ours(args, folder):
    """Tokens a second, the fraction of the machine's GEMM peak, and of decoding alone and by 64."""
    report = folder / "bench.json"
    sizes = ["--batch", args.batch, "--context", args.context, "--steps", args.steps]
    deepseek(args, "bench", "--preset", args.preset, "--set", "D=0", *sizes, "--threads", args.threads, "--json", report)
    model = json.loads(report.read_text())["models"][0]
    return [model[key] for key in ("training_tokens_per_s", "fraction_of_peak", "decode_tokens_per_s", "decode_64_tokens_per_s")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--preset", default="v3-tiny")
    parser.add_argument("--batch", type=int, default=8, help="sequences of a step")
    parser.add_argument("--context", type=int, default=128, help="tokens of a sequence")
    parser.add_argument("--steps", type=int, default=10, help="steps of a turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        deepseek(args, "train", "--preset", args.preset, "--set", "D=0", "--steps", 1, "--batch", 1, "--context", 8,
                 "--out", folder / "model")
        config = AutoConfig.from_pretrained(folder / "model")
        runners = {}
        for experts in ["eager", "batched_mm", "grouped_mm"] if config.model_type != "llama" else [None]:
            try:
                runners[experts or "transformers"] = Theirs(config, experts, args)
            except (RuntimeError, ValueError) as problem:  # grouped_mm wants widths that are multiples of 4
                print(f"{experts}: {str(problem).splitlines()[0][:100]}")
        mine, seconds, decoding = [], {name: [] for name in runners}, {name: [] for name in runners}
        for _ in range(args.turns):
            mine.append(ours(args, folder))
            for name, theirs in runners.items():
                seconds[name] += [theirs.step() for _ in range(args.steps)]
                decoding[name].append(theirs.decoding(min(64, args.context // 2)))
    rate, fraction, alone, by_64 = (statistics.median(figures) for figures in zip(*mine))
    print(f"{args.preset}, {args.batch} x {args.context}, {args.threads} threads, {args.turns} turns of {args.steps} steps")
    print(f"  ours                        {rate:8.0f} tokens/s   {100 * fraction:.0f}% of the GEMM peak")
    for name, times in seconds.items():
        theirs = args.batch * args.context / statistics.median(times)
        print(f"  transformers, {name:12}  {theirs:8.0f} tokens/s   ours is {rate / theirs:.2f} times as fast")
    print(f"  64 sampled answers, ours    {by_64:8.0f} tokens/s   {by_64 / alone:.1f} times as fast as one after the other")
    for name, rates in decoding.items():
        theirs = statistics.median(rates)
        print(f"  transformers, {name:12}  {theirs:8.0f} tokens/s   ours is {by_64 / theirs:.1f} times as fast")


if __name__ == "__main__":
    main()

"""How fast transformers trains the same model: tokens a second of forward, backward and AdamW on the CPU.

The shape comes from the config.json of --model (a checkpoint of ours), the weights are random. Attention
is eager; every implementation of the experts that this transformers has is timed and the best one is
reported. Judge only the ratio to `deepseek bench` with the same batch, context and threads, run in the
same minute on the same machine.
"""

import argparse
import json
import time

import torch
from transformers import AutoConfig, AutoModelForCausalLM

import common  # noqa: F401  (transformers' chatter off)


def tokens_per_second(model, args):
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1)
    ids = torch.randint(model.config.vocab_size, (args.batch, args.context + 1))
    best = 0.0
    for step in range(args.warmup + args.steps):
        begin = time.perf_counter()
        optimiser.zero_grad()
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        rate = args.batch * args.context / (time.perf_counter() - begin)
        if step >= args.warmup:
            best = max(best, rate)
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="a folder with the config.json of the model")
    parser.add_argument("--batch", type=int, default=8, help="sequences of a step")
    parser.add_argument("--context", type=int, default=256, help="tokens of a sequence")
    parser.add_argument("--steps", type=int, default=5, help="timed steps; the fastest counts")
    parser.add_argument("--warmup", type=int, default=2, help="steps before them")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--experts", nargs="*", default=["eager", "batched_mm", "grouped_mm"])
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of a table")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    config = AutoConfig.from_pretrained(args.model)
    rates = {}
    for experts in args.experts if config.model_type != "llama" else ["none"]:
        settings = {} if experts == "none" else dict(experts_implementation=experts)
        try:
            torch.manual_seed(1)
            model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", **settings).train()
            rates[experts] = tokens_per_second(model, args)
        except (RuntimeError, ValueError) as problem:  # grouped_mm wants widths that are multiples of 4
            print(f"{experts}: {str(problem).splitlines()[0][:100]}")
    best = max(rates, key=rates.get)
    if args.json:
        print(json.dumps(dict(tokens_per_s=rates[best], experts=best, threads=args.threads, all=rates)))
        return
    for experts, rate in rates.items():
        print(f"{experts:12}{rate:12.0f} tokens/s" + ("   best" if experts == best else ""))


if __name__ == "__main__":
    main()

#!/usr/bin/env bash
# rl.sh BINARY: `train --objective grpo` and its relatives, `eval --task`: what a run says, writes and goes on with, and
# what is refused. The last line is `N passed, N failed`.
. "$(dirname "$0")/shell.sh"
match=-qF
nano="--preset llm-nano --set context=64 --task countdown --level 2 --questions 4 --group 4 --schedule constant --warmup 0"
column() { awk -F, -v name="$2" 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == name) at = i } NR > 1 { print $at }' "$1"; }

# ------------------------------------------------------------------------------------------- what a run says and writes
says 0 "grpo on countdown: 3 rollouts of 4 questions x 4 outputs, 3 steps; reward accuracy=1,format=1" \
    train --objective grpo $nano --steps 3 --out grpo --show-every 1
holds "two outputs a rollout on the terminal" "$(grep -c 'reward [0-9.-]*)$' out)" = 6
holds "and in samples.jsonl" "$(wc -l <grpo/samples.jsonl)" = 6
holds "each is JSON" "$(python3 -c '
import json
keys = {"step", "prompt", "output", "reward", "right", "formed", "ended"}
print(all(set(json.loads(line)) == keys for line in open("grpo/samples.jsonl")))')" = True
for name in reward reward_spread right formed flat_groups tokens kl clipped entropy drift gradient_norm rollout_share tokens_per_s; do
    holds "metrics.csv has $name in every step" "$(column grpo/metrics.csv $name | grep -c .)" = 3
done
holds "on policy, training and sampler agree to the bit" "$(column grpo/metrics.csv drift | sort -u)" = 0
holds "what is held out is asked at the end" -n "$(column grpo/metrics.csv valid_right | tail -1)"
says 0 "ppo on countdown" train --objective ppo $nano --steps 2
says 0 "online-rft on countdown" train --objective online-rft $nano --steps 2
accepted train --objective grpo $nano --steps 2 --sampler bf16 --length token --kl unbiased --std off --delta 0.1
accepted train --objective grpo $nano --steps 2 --reward-at step --length constant --beta 0
accepted train --objective grpo $nano --steps 2 --top-p 0.9 --top-k 5 --keep-mask off --set N_r=4 --set K_r=2 --keep-routing off

# --------------------------------------------- it goes on as if it had not stopped, in the middle of a rollout's updates
updates="--updates 4 --epochs 2 --seed 3 --show-every 1"
for objective in grpo ppo; do
    accepted train --objective $objective $nano $updates --steps 13 --refresh 3 --out whole-$objective
    accepted train --objective $objective $nano $updates --steps 6 --refresh 3 --out parts-$objective
    says 0 "$objective on countdown" train --resume --out parts-$objective --steps 13
    for file in model training; do
        cmp -s <(tail -c 100000 whole-$objective/$file.safetensors) <(tail -c 100000 parts-$objective/$file.safetensors) &&
            pass || wrong "$objective: $file.safetensors is another after a stop at step 6"
    done
    for name in loss reward kl drift; do
        holds "$objective: the same $name" "$(column whole-$objective/metrics.csv $name)" = "$(column parts-$objective/metrics.csv $name)"
    done
    cmp -s whole-$objective/samples.jsonl parts-$objective/samples.jsonl && pass || wrong "$objective: other samples"
done
refused "--group 8 (the run has 4)" train --resume --out parts-grpo --group 8

# -------------------------------------------------------------------------------------------------------- distillation
says 0 "divergence 0.000" train --objective distill --teacher grpo --init grpo --data countdown --context 16 --steps 1
accepted train --objective distill --teacher grpo --preset llm-nano --data countdown --context 16 --steps 2 --divergence reverse
refused "--objective distill: --teacher is needed" train --objective distill --preset llm-nano --data countdown --steps 1
refused "a vocabulary of" train --objective distill --teacher grpo --preset llm-nano --data stories --steps 1
refused "is shorter than the sequences" train --objective distill --teacher grpo --preset r1-tiny --data countdown --steps 1
refused "--teacher: does not go with --objective lm" train --preset llm-nano --teacher grpo --data countdown --steps 1

# --------------------------------------------------------------------------------------------------------------- eval
says 0 "pass_4" eval --model grpo --task countdown --level 2 --questions 5 --samples 4 --out figures.csv --json all.json
holds "the figures are a CSV" "$(head -1 figures.csv) $(grep -c '^maj_4,' figures.csv)" = "figure,value,low,high 1"
holds "and JSON, with every output" "$(python3 -c '
import json
x = json.load(open("all.json"))
print(len(x["questions"]), {len(q["outputs"]) for q in x["questions"]}, sorted(x["figures"])[:2])')" = "5 {4} ['cut', 'flat_groups']"
cp figures.csv first
accepted eval --model grpo --task countdown --level 2 --questions 5 --samples 4 --out figures.csv --threads 2
cmp -s first figures.csv && pass || wrong "another number of threads, other figures"

# ----------------------------------------------------------------------------------------------- can it start at all?
says 0 "it cannot start" measure rl-viability --model grpo --task countdown --questions 4 --samples 4 --out levels.csv
holds "a row for every level, and the usual one again" "$(wc -l <levels.csv)" = 7
refused "measure rl-viability: --task is needed" measure rl-viability --model grpo
refused "--task: does not go with the measure load" measure load --model grpo --task countdown

# ------------------------------------------------------------------------------------------------------------ refused
refused "no task 'cuntdown'" train --objective grpo --preset llm-nano --task cuntdown --steps 1
hinted "did you mean countdown?"
refused "--objective grpo: --task is needed" train --objective grpo --preset llm-nano --steps 1
refused "--task: does not go with --objective lm" train --preset llm-nano --task countdown --steps 1
hinted "it goes with online-rft ppo grpo"
refused "--data: does not go with --objective grpo" train --objective grpo $nano --data stories --steps 1
refused "--delta: does not go with --objective ppo" train --objective ppo $nano --delta 0.1 --steps 1
refused "--objective gpro: not one of" train --objective gpro $nano --steps 1
hinted "grpo"
refused "do not part into so many" train --objective grpo $nano --updates 3 --steps 1
refused "level 9 is not between 2 and 6" train --objective grpo --preset llm-nano --task countdown --level 9 --steps 1
refused "--reward: no 'acuracy'" train --objective grpo $nano --reward acuracy=1 --steps 1
refused "leaves no room for an answer" train --objective grpo $nano --set context=4 --steps 1 --out small
holds "nothing was written" ! -e small/model.safetensors
accepted train --preset llm-nano --data chain --context 32 --batch 2 --steps 1 --out chain
refused "task countdown: the model has no tokens for" train --objective grpo --init chain --task countdown --steps 1
hinted "--data countdown"
refused "task countdown: the model has no tokens for" eval --model chain --task countdown
refused "--samples: only goes with --task" eval --model chain --samples 4
refused "--batch: does not go with --task" eval --model grpo --task countdown --batch 4
refused "nowhere/config.json: cannot be read" eval --model nowhere --task countdown
finish

#!/usr/bin/env bash
# The demo of reinforcement: a model of 0.1 million parameters has read how people of mixed quality look for signs between
# digits. Then it is asked, rewarded where its answer is right and well formed, and learns by GRPO to go on searching. A
# minute or two on two cores. DEMO_STEPS shortens both parts.
set -eu
cd "$(dirname "$0")/../.."
read=${DEMO_STEPS:-2000} asked=${DEMO_STEPS:-120}
out=runs/demo-rl
rm -rf "$out"
mkdir -p "$out"
echo "== The base reads traces of mixed quality: some guess, most try, few go on after a miss"
./deepseek task countdown --n 4 | grep -v '^  ' | sed 's/^/    /'
./deepseek train --preset r1-tiny --data countdown --steps "$read" --batch 16 --schedule multistep --out "$out/base"
echo
echo "== Before: ten held-out questions, and what it scores"
./deepseek eval --model "$out/base" --task countdown --show 10
echo
echo "== GRPO: 16 questions x 16 outputs a step, rewarded for a right answer and for the form; nobody shows how"
./deepseek train --objective grpo --task countdown --init "$out/base" --steps "$asked" --lr 3e-4 --beta 0.001 \
    --schedule constant --out "$out/r1"
echo
echo "== Right answers, and how much it writes"
awk -F, 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i }
    NR > 1 { right[NR - 1] = $at["right"]; tokens[NR - 1] = $at["tokens"] }
    END { for (k = 0; k <= 10; k++) { n = int((NR - 1) * k / 10); if (n < 1) n = 1
        printf "    step %4d  %5.1f%% right  %5.1f tokens  ", n, 100 * right[n], tokens[n]
        for (j = 0; j < right[n] * 40; j++) printf "#"; print "" } }' "$out/r1/metrics.csv"
echo
echo "== After: the same ten questions"
./deepseek eval --model "$out/r1" --task countdown --show 10
echo
echo "The model is in $out/r1. Its answers while it learned: $out/r1/samples.jsonl"

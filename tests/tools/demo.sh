#!/usr/bin/env bash
# The demo: a DeepSeek-V3-shaped model of two million parameters learns to tell stories, in about two minutes on two
# cores. DEMO_STEPS shortens it.
set -eu
cd "$(dirname "$0")/../.."
steps=${DEMO_STEPS:-700}
out=runs/demo
rm -rf "$out" "$out-before"
echo "Before training, the model writes:"
./deepseek train --preset v3-tiny --context 128 --batch 8 --steps 1 --lr 1e-9 --out "$out-before" >/dev/null
./deepseek generate --model "$out-before" --prompt "One day" --max-tokens 60 --seed 1 | tr -cd '\11\12\40-\176' | sed 's/^/    /'
echo
./deepseek train --preset v3-tiny --data stories --context 128 --batch 8 --steps "$steps" --lr 4e-3 --out "$out"
echo
awk -F, 'NR > 1 { loss[NR - 1] = $4 } END {
    for (i = 1; i <= 10; i++) { n = int((NR - 1) * i / 10); if (n < 1) n = 1
        printf "    step %5d  loss %.3f  ", n, loss[n]; for (j = 0; j < loss[n] * 10; j++) printf "#"; print "" } }' "$out/metrics.csv"
echo
echo "After training:"
for seed in 1 2 3; do
    ./deepseek generate --model "$out" --prompt "One day" --max-tokens 100 --temperature 0.7 --seed $seed | sed 's/^/    /'
    echo
done
rm -rf "$out-before"
echo "The model is in $out: ./deepseek generate --model $out --prompt \"Once\""

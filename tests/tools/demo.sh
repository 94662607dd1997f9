#!/usr/bin/env bash
# The demo: a DeepSeek-V3-shaped model of two million parameters learns to tell stories, in two minutes on two
# cores. DEMO_STEPS shortens it.
set -eu
cd "$(dirname "$0")/../.."
steps=${DEMO_STEPS:-900}
out=runs/demo
rm -rf "$out" "$out-before"
mkdir -p "$out/words"
options="--preset v3-tiny --context 192 --batch 6 --tokenizer $out/words"
tell() {                                                 # tell MODEL SEED
    ./deepseek generate --model "$1" --prompt "One day" --max-tokens 180 --temperature 0.6 --seed "$2" |
        tr -c '\11\12\40-\176' '.' | fold -s -w 100 | sed 's/^/    /'
    echo
}
echo "== A tokenizer of 1,024 pieces, from 4,000 stories"
./deepseek data --n 4000 --out "$out/words/stories.txt"
./deepseek tokenize --train "$out/words/stories.txt" --vocab 1024 --out "$out/words" | tail -n 1
echo
echo "== Before training, the model writes"
./deepseek train $options --steps 1 --lr 1e-9 --out "$out-before" >/dev/null
tell "$out-before" 1
echo "== Training a tiny DeepSeek-V3: latent attention, 16 routed experts, multi-token prediction"
./deepseek train $options --data stories --steps "$steps" --lr 6e-3 --out "$out"
echo
echo "== The loss (nats per token)"
awk -F, 'NR > 1 { loss[NR - 1] = $4 } END {
    for (i = 0; i <= 10; i++) { n = int((NR - 1) * i / 10); if (n < 1) n = 1
        printf "    step %5d  %.3f  ", n, loss[n]; for (j = 0; j < loss[n] * 10; j++) printf "#"; print "" } }' "$out/metrics.csv"
echo
echo "== After training"
for seed in 1 2 3; do tell "$out" $seed; done
rm -rf "$out-before"
echo "The model is in $out. Try: ./deepseek generate --model $out --prompt \"A small girl named Kate\""

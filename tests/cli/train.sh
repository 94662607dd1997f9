#!/usr/bin/env bash
# Runs: what a run says of itself, that it knows before its first step whether it can save, that what was saved is never
# ruined, and that it goes on from its folder alone.
. "$(dirname "$0")/shell.sh"

"$BINARY" data --n 40 --out text.txt >/dev/null
nano="train --preset v3-nano --data text.txt --batch 2 --context 16"

# ------------------------------------------------------------------------------------------ a run says what it is
says 0 "NOT saved: no --out" $nano --steps 1
says 0 "46.4K parameters, 37.2K activated; cpu, 1 thread" $nano --steps 1
says 0 "saved in run" $nano --steps 4 --out run --lr 0.01
holds "at its end, where the model is" -n "$(grep 'the model is in run' out)"
holds "how often the text is read" -n "$(grep 'times the .* there are' out)"

# --------------------------------------------------------------------------------- it goes on from its folder alone
says 0 "nothing to do: run is at step 4 of 4" train --resume --out run
refused "--batch 3 (the run has 2), --lr 0.002 (the run has 0.01)" train --resume --out run --lr 0.002 --batch 3
hinted "goes on with its own options"
accepted train --resume --out run --data ./text.txt
mkdir elsewhere
cd elsewhere
says 0 "the learning rate of step 5 is 0.00[0-9]* instead of 0.00" train --resume --out ../run --steps 6
cd ..
holds "as many rows as steps" "$(wc -l <run/metrics.csv)" = 7

accepted $nano --steps 6 --out whole --lr 0.01
accepted $nano --steps 6 --out parts --lr 0.01 --save-every 2 --eval-every 2
cp -r parts later
for step in 1 2 3 4 5 6; do echo "$step,rows of a run that was killed after its checkpoint" >>later/metrics.csv; done
head -c -1 later/expert_load.csv >/dev/null
says 0 "nothing to do" train --resume --out later
holds "a log is cut at the checkpoint" "$(grep -c killed later/metrics.csv)" = 6
cmp -s whole/model.safetensors parts/model.safetensors && pass || wrong "how often it saves changes no weight"

# ----------------------------------------------------------------------- what cannot be saved is known before a step
refused "cannot be made" $nano --steps 1 --out /proc/nowhere
touch file
refused "a file is there" $nano --steps 1 --out file
mkdir again
echo "a note" >again/notes.txt
echo "half a checkpoint" >again/model.safetensors.tmp-99999-0
accepted $nano --steps 1 --out again
holds "what a killed run left half written is removed" -z "$(ls again | grep tmp-)"
holds "other files stay" -e again/notes.txt
refused "already there" $nano --steps 1 --out again
mkdir log-only
echo "step,loss" >log-only/metrics.csv
accepted $nano --steps 1 --out log-only

"$BINARY" $nano --steps 100000 --out busy >busy.log 2>&1 &
other=$!
until [ -e busy/metrics.csv ]; do sleep 0.1; done
refused "another run is writing there" $nano --steps 1 --out busy
kill -INT $other
wait $other || true
holds "it was not disturbed" -n "$(grep 'stopped after step' busy.log)"

# ------------------------------------------------------------------------------ a step that would ruin it is not taken
run $nano --steps 60 --out wild --lr 900 --warmup 0 --schedule constant --save-every 1 --clip 0
if [ $code = 2 ] && grep -q "was not taken" err; then pass; else wrong "a wild run ends at the step that fails"; fi
accepted generate --model wild --prompt a --max-tokens 2
run train --resume --out wild
holds "it fails again at the same step" $code = 2

# ------------------------------------------------------------------------------------- weights: added, frozen, kept
says 0 "new: mtp.1.g_h" train --init run --set D=2 --data text.txt --batch 2 --context 16 --steps 1 --out deeper
holds "what it knew is named" -n "$(grep 'from .*run: [0-9]* weights' out)"
refused "blocks.1.moe.W_g is (8,16,32) there and (8,20,32) here" train --init run --set d_e=20 --data text.txt --steps 1
says 0 ", [0-9.]*K frozen" $nano --steps 2 --freeze 'blocks.*' --out frozen
refused "no weight has such a name" $nano --steps 1 --freeze nothing
accepted train --resume --out frozen --steps 3
accepted $nano --steps 1 --documents apart
refused "not one of together apart" $nano --steps 1 --documents side-by-side
refused "is not between 1 and 65536" train --batch 0
refused "no whole number" train --batch many
finish

#!/usr/bin/env bash
# Runs: what a run says of itself, that it knows before its first step whether it can save, that what was saved is never
# ruined, and that it goes on from its folder alone.
. "$(dirname "$0")/shell.sh"

"$BINARY" data --n 40 --out text.txt >/dev/null
nano="train --preset v3-nano --data text.txt --batch 2 --context 16"

# ------------------------------------------------------------------------------------------ a run says what it is
says 0 "NOT saved: no --out" $nano --steps 1
says 0 "46.4K parameters, 37.2K activated, 21.1K more of MTP; cpu, 1 thread" $nano --steps 1
says 0 "saved in run" $nano --steps 4 --out run --lr 0.01
holds "at its end, where the model is" -n "$(grep 'the model is in run' out)"
holds "how often the text is read" -n "$(grep 'times the .* there are' out)"

says 0 "alpha has no effect: the model has no experts; lambda has no effect: it has no modules of MTP" \
    train --preset llm-nano --data text.txt --batch 2 --context 16 --steps 1 --set alpha=0.1 --set lambda=0.1
accepted $nano --steps 1 --set alpha=0.1
holds "a field that has an effect is not named" "$(grep -c 'no effect' out)" = 0

# --------------------------------------------------------------------------------- it goes on from its folder alone
says 0 "nothing to do: run is at step 4 of 4" train --resume --out run
refused "--batch 3 (the run has 2), --beta1 0.5 (the run has 0.9)" train --resume --out run --beta1 0.5 --batch 3
hinted "goes on with its own options"
accepted train --resume --out run --data ./text.txt
refused "--steps 3: run is at step 4 already" train --resume --out run --steps 3
rm run/model.safetensors run/config.json
accepted train --resume --out run
holds "a finished run writes again what is gone" -s run/model.safetensors -a -s run/config.json
cp text.txt text.before
"$BINARY" data --n 40 --seed 2 >text.txt
says 0 "text.txt: is not what the run has read so far" train --resume --out run
mv text.before text.txt
run train --resume --out run
holds "nor is anything said where only the file's time is new" "$(grep -c 'is not what' out)" = 0
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
cp -r run foreign
echo "name,amount" >foreign/metrics.csv
refused "metrics.csv: is no log of a run" train --resume --out foreign --steps 7
for file in metrics.csv tokenizer.json; do
    mkdir -p in-the-way/$file
    refused "$file: is not a plain file" $nano --steps 1 --out in-the-way
    rmdir in-the-way/$file
done
echo "mine" | tee in-the-way/probe >in-the-way/notes.tmp-1
printf 'One day, a cat sat on a mat. %.0s' $(seq 20) >words.txt
accepted tokenize --train words.txt --vocab 300 --out in-the-way
cp in-the-way/tokenizer.json words.json
refused "is another tokenizer than that of the run" $nano --steps 1 --out in-the-way
accepted $nano --steps 1 --out in-the-way --tokenizer in-the-way
cmp -s in-the-way/tokenizer.json words.json && pass || wrong "the tokenizer of a folder is that of its run"
holds "no file of others is touched" "$(cat in-the-way/probe in-the-way/notes.tmp-1)" = "$(printf 'mine\nmine')"

"$BINARY" $nano --steps 100000 --out busy >busy.log 2>&1 &
other=$!
until [ -e busy/metrics.csv ]; do sleep 0.1; done
refused "another run is writing there" $nano --steps 1 --out busy
kill -INT $other
wait $other || true
holds "it was not disturbed" -n "$(grep 'stopped after step' busy.log)"

# ------------------------------------------------------------------------------ a step that would ruin it is not taken
refused "was not taken" $nano --steps 1000 --out wild --lr 1000 --warmup 400 --save-every 1
hinted "a lower --lr or a longer --warmup: --resume goes on from step"
accepted generate --model wild --prompt a --max-tokens 2
refused "was not taken" train --resume --out wild
says 0 "--steps 20.*; --lr 0.001: the run was of 1000; the learning rate of step" train --resume --out wild --lr 0.001 --steps 20
accepted train --resume --out wild
run $nano --steps 1000 --out nothing --lr 900 --warmup 0 --schedule constant --clip 0 --save-every 0
holds "where nothing good was saved, nothing is" ! -e nothing/model.safetensors -a $code = 2

# ------------------------------------------------------------------------------------- weights: added, frozen, kept
says 0 "new: mtp.1.g_h" train --init run --set D=2 --data text.txt --batch 2 --context 16 --steps 1 --out deeper
holds "what it knew is named" -n "$(grep 'from .*run: [0-9]* weights' out)"
refused "blocks.1.moe.W_g is (8,16,32) there and (8,20,32) here" train --init run --set d_e=20 --data text.txt --steps 1
says 0 ", [0-9.]*K frozen" $nano --steps 2 --freeze 'blocks.*' --out frozen
refused "no weight has such a name" $nano --steps 1 --freeze nothing
refused "no weight has such a name" $nano --steps 1 --freeze ""
refused "so nothing is trained" $nano --steps 1 --freeze "*"
refused "init .*run: Emb is (258,32) there and (258,64) here" train --init run --set d=64 --steps 1
accepted train --resume --out frozen --steps 3
accepted $nano --steps 1 --documents apart
refused "not one of together apart" $nano --steps 1 --documents side-by-side
refused "is not between 1 and 65536" train --batch 0
refused "no whole number" train --batch many
refused "between 1e-20 and 1" train --adam-eps 0
refused "is empty" train --init "" --steps 1
says 0 "batch INT:1..65536=8" train --help
holds "with what can be chosen" -n "$(grep 'schedule {constant,cosine,multistep,wsd}=cosine' out)"
refused "batch of 4194304 tokens, need memory" train --preset v3-nano --batch 65536 --steps 1

# -------------------------------------------------------------------------------------------------------------- games
game="train --preset llm-nano --context 24"
says 0 "recall:keys=12: 192 tokens in 4 steps, a vocabulary of 24" $game --data recall:keys=12 --batch 2 --steps 4 --out game
holds "its loss by kinds" -n "$(grep 'held out: .* nats per token; recall [0-9.]*, [0-9.]*% right; repeat' out)"
holds "which is no text's" -z "$(grep 'bits per byte' out)"
accepted train --resume --out game --steps 6
cp -r game game-later
holds "what it reads is known again" -z "$("$BINARY" train --resume --out game-later --steps 7 | grep 'is not what')"
accepted $game --data facts --batch 1 --steps 3 --out one-by-one --eval-every 2
holds "columns of kinds that a step has not" "$(cut -d, -f5,6 one-by-one/metrics.csv | tail -1 | grep -c '^[0-9.]*,$')" = 1
holds "right in the log" -n "$(head -1 one-by-one/metrics.csv | grep 'valid_fact,valid_fact_right,valid_grammar')"
says 0 "repeat: .* nats per token, .*% right" eval --model game --data recall:keys=12 --context 20
says 0 "[0-9.]* nats per token, perplexity" eval --model game --data recall:keys=12
says 0 "bits per byte" $game --data bytes --batch 2 --steps 1 --out letters
says 0 "bits per byte, perplexity" eval --model letters --data bytes --context 20
accepted generate --model game --prompt "k3 v5 k3" --max-tokens 2
refused "--data facts: has 304 tokens, the tokenizer only 24" eval --model game --data facts
refused "knows none of their letters" eval --model game --data stories
refused "the tokenizer has 304 tokens, the model's vocabulary only 99" $game --data facts --set V=99 --steps 1
refused "has a vocabulary of its own" $game --data facts --tokenizer bytes --steps 1
refused "no token that ends a document" $game --data facts --documents apart --steps 1
refused "facts:fact=1: no key 'fact'" $game --data facts:fact=1 --steps 1
hinted "did you mean facts? it knows facts=8192 (how many there are)"
refused "a context of 16 is too short for it; it needs 17" train --preset llm-nano --data recall --context 16 --steps 1
refused "fakts: no such file or folder" $game --data fakts --steps 1
hinted "or a game: facts factors recall needle bytes"
says 0 "^k[0-9]* v[0-9]* .*k[0-9]* \[v[0-9]*\]" data --game recall --n 2
holds "and what the best loss is" -n "$(grep 'repeat .*128 sequences, 64.0 targets each, at best [0-9.]* nats' err)"
refused "fact: no such game" data --game fact
refused "context: only goes with --game" data --context 9
refused "game: does not go with --prepare" data --prepare text.txt --out x.jsonl --game facts

# ------------------------------------------------------------------------------------ names, and other odd things
printf '1 2 3\n4 5 6 7 8\n' >ids.txt
says 0 "ids.txt: 12 tokens in 2 steps, 2 times the 6 there are" train --preset v3-nano --tokens ids.txt --batch 2 --steps 2
refused "longer than the context of 2" train --preset v3-nano --tokens ids.txt --context 2 --steps 1
refused "tokens excludes" train --preset v3-nano --tokens ids.txt --documents apart --steps 1
odd=$(printf 'a\nb')
cp text.txt "$odd"
accepted train --preset v3-nano --data "$odd" --batch 2 --context 16 --steps 1 --out odd --set "name=my model"
accepted train --resume --out odd --steps 2 --set "name=my model" --data "$odd"
mkdir stories
says 0 "^stories: " train --preset v3-nano --batch 2 --context 16 --steps 1
printf 'd = 48\n' | tee mine >v3-nano
says 0 "d  *48" config --preset mine --all
says 0 "46.4K parameters" $nano --steps 1
refused "a folder, not a preset" train --preset run --steps 1
hinted "init"
refused "has no line" train --preset /dev/null --steps 1

# ----------------------------------------------------------------------------------------- who reads no more, or waits
code=0
"$BINARY" $nano --steps 100000 --out piped 2>err | head -1 >out || code=$?
holds "a closed pipe saves" -s piped/training.safetensors
"$BINARY" train --preset v3-tiny --steps 9 --batch 8 --accumulate 2000 >out 2>err &
other=$!
until [ -s out ]; do sleep 0.1; done
sleep 0.5
kill -INT $other
until [ -s err ]; do sleep 0.1; done
holds "Ctrl-C gives a sign of life" -n "$(grep 'finishing this step' err)"
sleep 0.6                               # sooner, it would be one with the first
kill -INT $other
code=0
wait $other || code=$?
holds "a second one ends at once" $code = 130
finish

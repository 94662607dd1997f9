#!/usr/bin/env bash
# rollout.sh BINARY: `rollout` writes files of outputs, `train --objective sft`, rft and dpo learn from them: what is
# said, that a run goes on as if it had not stopped, and what is refused. The last line is `N passed, N failed`.
. "$(dirname "$0")/shell.sh"
match=-qF
same() { cmp -s "$1" "$2" && pass || wrong "$3"; }
json() { python3 -c "
import json
x = [json.loads(line) for line in open('$1')]
print($2)"; }

# A model that has seen the task, and often has its form.
accepted train --preset llm-nano --set d=32 --set context=64 --data countdown:level=2 --batch 8 --steps 150 --lr 0.01 --out base
ask="rollout --model base --task countdown --level 2 --questions 40 --samples 6"

# ---------------------------------------------------------------------------------------------------------- rollout
says 0 "countdown: 240 outputs: " $ask --out all.jsonl
counts="$(sed -E 's/.*: ([0-9]+) right, ([0-9]+) cut off, 0 duplicates dropped; ([0-9]+) lines in all.jsonl/\1 \2 \3/' out)"
read -r right cut lines <<<"$counts"
holds "a line an output, but for those that were cut off" $((cut + lines)) = 240 -a "$(wc -l <all.jsonl)" = "$lines"
holds "some are right and some are wrong" "$right" -gt 5 -a "$right" -lt "$lines"
holds "the keys" "$(json all.jsonl '*sorted({" ".join(sorted(line)) for line in x})')" = "formed output prompt question reward right"
holds "as many are right as it says" "$(json all.jsonl 'sum(line["right"] for line in x)')" = "$right"
holds "a reward is what was graded" "$(json all.jsonl 'all(line["reward"] == line["right"] + line["formed"] for line in x)')" = True
holds "questions of training" "$("$BINARY" task countdown --level 2 --n 40 --json | json /dev/stdin '*[line["prompt"] for line in x][:3]')" = \
    "$(json all.jsonl '*[next(line["prompt"] for line in x if line["question"] == i) for i in range(3)]')"
accepted $ask --out again.jsonl --threads 2
same all.jsonl again.jsonl "the same again, whatever the threads"
accepted $ask --out other.jsonl --seed 2
cmp -s all.jsonl other.jsonl && wrong "another seed, the same outputs" || pass
accepted $ask --out right.jsonl --right --distinct
holds "only right ones, none twice" "$(json right.jsonl 'all(line["right"] for line in x), len(x) == len({(line["prompt"], line["output"]) for line in x})')" = "True True"
holds "all of those" "$(json right.jsonl 'len(x)')" = "$(json all.jsonl 'len({(line["prompt"], line["output"]) for line in x if line["right"]})')"
holds "and says how many were dropped" "$(grep -c "$((right - $(wc -l <right.jsonl))) duplicates dropped" out)" = 1
accepted $ask --out pairs.jsonl --pairs
holds "pairs of a right and a wrong output to one question" "$(python3 -c '
import json
right = {(x["prompt"], x["output"]): x["right"] for x in map(json.loads, open("all.jsonl"))}
pairs = [json.loads(line) for line in open("pairs.jsonl")]
print(len(pairs) > 3, all(right[p["prompt"], p["chosen"]] and not right[p["prompt"], p["rejected"]] for p in pairs))')" = "True True"

cp all.jsonl kept.jsonl
refused "kept.jsonl: is not written, for nothing is left of 40 outputs: 0 right, 40 cut off" rollout --model base --task countdown --questions 40 --samples 1 --max-tokens 1 --out kept.jsonl
same all.jsonl kept.jsonl "what was there stays"
refused "--right: does not go with --pairs" $ask --out kept.jsonl --pairs --right
refused "--reward: no 'acuracy'" $ask --out kept.jsonl --reward acuracy=1
refused "no task 'cuntdown'" rollout --model base --task cuntdown --out kept.jsonl
refused "--out" rollout --model base --task countdown
refused "belongs to a model" $ask --out base/tokenizer.json
"$BINARY" rollout --model base --task countdown --questions 100000 --out late.jsonl >out 2>err &
other=$!
sleep 2
kill -INT $other
code=0
wait $other || code=$?
holds "Ctrl-C leaves no half file" $code = 130 -a -z "$(ls | grep late)"

# --------------------------------------------------------------------------------------- sft, rft and dpo learn from them
tuned="--init base --schedule constant --warmup 0 --lr 0.002 --batch 4"
says 0 "; $lines outputs, " train --objective sft --data all.jsonl $tuned --steps 3 --out sft
holds "some held out" -n "$(grep "; $lines outputs, [1-9][0-9]* held out" out)"
holds "and measured" -n "$(grep 'held out: .* nats per token$' out)"
says 0 "$lines outputs, $((lines - right)) not right, $((right - $(wc -l <right.jsonl))) twice, " train --objective rft --data all.jsonl $tuned --steps 3
says 0 "dpo on " train --objective dpo --data pairs.jsonl $tuned --steps 40 --out dpo
holds "margin and accuracy beside the bar" -n "$(grep 'loss [0-9.]*  margin [0-9.]*  accuracy' out)"
column() { awk -F, -v name="$2" 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == name) at = i } NR > 1 { print $at }' "$1"; }
holds "the first margin is 0, the last is not" "$(column dpo/metrics.csv margin | sed -n 1p)" = 0 -a "$(column dpo/metrics.csv margin | awk 'END { print ($1 > 0.05) }')" = 1
for name in loss margin accuracy logp_chosen logp_rejected distance; do
    holds "metrics.csv has $name in every step" "$(column dpo/metrics.csv $name | grep -c .)" = 40
done
holds "dpo's own defaults are remembered" "$(grep -acE '(length = none|beta = 0.1)\\n' dpo/training.safetensors)" = 1
accepted train --objective sft --data countdown:level=2 $tuned --steps 1
accepted train --objective sft --data all.jsonl --preset v3-nano --steps 1
for objective in sft rft dpo; do
    data=all.jsonl
    [ $objective != dpo ] || data=pairs.jsonl
    accepted train --objective $objective --data $data $tuned --steps 30 --out whole-$objective
    accepted train --objective $objective --data $data $tuned --steps 11 --out stopped-$objective
    accepted train --resume --out stopped-$objective --steps 30
    same whole-$objective/model.safetensors stopped-$objective/model.safetensors "$objective: another model after a stop"
    holds "$objective: the same losses" "$(column whole-$objective/metrics.csv loss)" = "$(column stopped-$objective/metrics.csv loss)"
done
accepted train --objective grpo --init base --task countdown --level 2 --questions 20 --group 2 --max-tokens 4 --steps 1 --out more-questions
accepted train --resume --out more-questions --steps 2

# ------------------------------------------------------------------------------------------------------------ refused
learn="train --init base --steps 1 --out never"
bad() { printf '%s\n' "$1" >bad.jsonl; }
: >bad.jsonl
refused "bad.jsonl: is empty" $learn --objective sft --data bad.jsonl
bad 'not JSON'
refused "bad.jsonl: line 1, column 2" $learn --objective sft --data bad.jsonl
bad '{"prompt": "12|", "text": "x"}'
refused "bad.jsonl: line 1: output is missing" $learn --objective sft --data bad.jsonl
bad '{"prompt": "12|", "output": 3}'
refused "bad.jsonl: line 1: output is 3, not a text in quotes" $learn --objective rft --data bad.jsonl
bad '{"prompt": "12|", "output": "hello"}'
refused "bad.jsonl: line 1: output: the tokenizer makes '' of 'hello'" $learn --objective sft --data bad.jsonl
bad "{\"prompt\": \"12|\", \"output\": \"$(printf '+%.0s' $(seq 62))\"}"
refused "line 1: prompt, output and end are 66 tokens; a context of 64 has room for 65" $learn --objective sft --data bad.jsonl
refused "a context of 32 has room for 33" $learn --objective sft --data bad.jsonl --context 32
bad '{"prompt": "12|", "output": "+", "right": false}'
refused "none of its 1 outputs is right" $learn --objective rft --data bad.jsonl
bad '{"prompt": "12|", "chosen": "+", "rejected": "+"}'
refused "line 1: chosen and rejected are the same" $learn --objective dpo --data bad.jsonl
refused "line 1: chosen is missing" $learn --objective dpo --data all.jsonl
refused "line 1: output is missing" $learn --objective sft --data pairs.jsonl
refused "--data stories: no such file" $learn --objective dpo
hinted "a .jsonl of pairs, as \`deepseek rollout\` writes it"
refused "--data stories: no such file" $learn --objective sft
refused "--context 65: the model's longest" $learn --objective dpo --data pairs.jsonl --context 65
refused "--length token: does not go with --objective dpo" $learn --objective dpo --data pairs.jsonl --length token
hinted "there it is one of none sequence"
refused "--length none: does not go with --objective grpo" $learn --objective grpo --task countdown --length none
refused "--length: does not go with --objective sft" $learn --objective sft --data all.jsonl --length none
refused "--beta: does not go with --objective rft" $learn --objective rft --data all.jsonl --beta 1
refused "--beta 0: nothing would be learned" $learn --objective dpo --data pairs.jsonl --beta 0
refused "--tokens: does not go with --objective sft" $learn --objective sft --tokens ids.txt
refused "--documents: does not go with --objective dpo" $learn --objective dpo --data pairs.jsonl --documents apart
refused "--task: does not go with --objective dpo" $learn --objective dpo --data pairs.jsonl --task countdown
holds "nothing was written" ! -e never
finish

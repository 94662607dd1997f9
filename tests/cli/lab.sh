#!/usr/bin/env bash
# lab.sh BINARY: `deepseek lab` as a user meets it: a verdict and its files, the quick form, runs that go on after
# they were killed, and what is refused. The last line is `N passed, N failed`.
. "$(dirname "$0")/shell.sh"
verb=lab match=-qF
check() {                               # check WHAT COMMAND...: it succeeds
    local what=$1
    shift
    if "$@" >/dev/null 2>&1; then pass; else wrong "$what"; fi
}
cat >small.lab <<'LAB'
claim = A higher learning rate learns faster.
paper = LLM
published = nothing
falsifier = It does not.
pilot = none
minutes = 1
seeds = 3
all = --preset llm-nano --data stories --batch 4 --context 16 --steps 60 --eval-every 60 --save-every 10
quick = --steps 3 --eval-every 3
differ = lr
equal = parameters flops tokens
metric loss = last(valid_nats)
metric late = mean(lm, 5)
bar faster = loss(slow) - loss(fast) > 0.01
then = eval --model {run} --data stories
[arm slow]
train = --lr 1e-4
[arm fast]
train = --lr 5e-3
LAB
says 0 "loss-free-balancing" --list
says 0 '"command": "deepseek lab loss-free-balancing"' --list --json
says 0 "refuted by: It does not." small.lab --show
says 0 "here: reproduced" small.lab --out whole
for file in verdict.json results.csv curves.csv curves.svg; do check "whole/$file is there" [ -s whole/$file ]; done
check "a verdict of the six runs" grep -q '"verdict": "reproduced"' whole/verdict.json
check "each arm has three runs" [ "$(ls whole/slow whole/fast | grep -c '^[123]$')" = 6 ]
check "then comes after the training" grep -q "nats per token" whole/fast/2/log.txt

# Killed in the middle, it goes on and ends with the same bytes; what is finished is not made again.
"$BINARY" lab small.lab --out parts >/dev/null 2>&1 &
for try in $(seq 100); do [ -e parts/slow/1/training.safetensors ] || sleep 0.05; done
kill -KILL $!
wait $! 2>/dev/null || true
sleep 1                                 # its runs save and end
check "it was killed before its end" [ ! -e parts/verdict.json ]
says 0 "here: reproduced" small.lab --out parts
for file in results.csv curves.csv curves.svg; do check "parts/$file has the same bytes" cmp -s {whole,parts}/$file; done
check "the same verdict" cmp -s <(grep -v minutes whole/verdict.json) <(grep -v minutes parts/verdict.json)
before=$(stat -c %Y.%i whole/fast/1/done)
accepted small.lab --out whole
check "a finished run is not made again" [ "$before" = "$(stat -c %Y.%i whole/fast/1/done)" ]
sed 's/5e-3/4e-3/' small.lab >other.lab
refused "is of another form of this lab" other.lab --out whole

# Commands before and after a training, of all arms before one, and after all; metrics of some arms.
cat >laws.lab <<'LAB'
claim = Four budgets.
paper = LLM
falsifier = none
pilot = none
minutes = 1
all = --preset llm-nano --data stories --context 16 --warmup 1 --batch 2
quick = --steps /10
differ = d d_ff n_h n_kv steps
curve = none
metric loss = last(valid_nats)
metric budgets of last = last(laws.budgets)
bar all-three = budgets(last) > 2.5
after = scaling fit {runs} --laws {lab}/laws.csv
after = config --preset llm-nano
[arm short]
train = --steps 20
[arm middle]
train = --steps 200
[arm long]
train = --steps 2000
[arm last]
before = scaling fit {others} --laws {run}/laws.csv --out {run}/budgets.csv
train = --steps 100
LAB
"$BINARY" config --preset llm-nano >config.txt
says 0 "budgets   noise floor" laws.lab --quick --out laws
check "a tenth of each arm's steps" [ "$(for a in short middle long last; do tail -n 1 laws/$a/1/metrics.csv | cut -d, -f1; done | xargs)" = "2 20 200 10" ]
check "before the training, of the arms before" grep -q "3 runs, 3 budgets, 1 seed" laws/last/1/log.txt
check "after all, of all runs" grep -q "8 runs, 4 budgets, 2 seeds" laws/after.txt
check "one after the other" grep -qF "$(tail -n 1 config.txt)" laws/after.txt
check "no curve, no picture" [ ! -e laws/curves.svg ]
sed 's/last(laws.budgets)/at(budgets.sizes, 7)/' laws.lab >row.lab
says 2 "metric budgets: budgets.sizes: no row '7'" row.lab --quick --out laws-row
sed 's/of last = last(laws/of lost = last(laws/' laws.lab >lost-arm.lab
says 2 "metric budgets of lost: no such arm" lost-arm.lab --show

says 0 "quick: no verdict" small.lab --quick --out quick
check "quick writes no verdict" [ ! -e quick/verdict.json ]
says 0 "inconclusive (it would take three seeds or more" small.lab --seeds 2 --out two
match=-qi
refused "no lab or file 'nothing'" nothing
refused "--scoreboard, is needed"
refused "only with --quick" all
refused "goes with --list" small.lab --json
refused "without a name" small.lab --list
refused "without a name" small.lab --scoreboard
says 0 "not run yet" --scoreboard
check "the scoreboard as a file" "$BINARY" lab --scoreboard --out board.md
check "it is the same" cmp -s board.md <("$BINARY" lab --scoreboard)
mkdir -p results/nothing
refused "results/nothing: is no lab's" --scoreboard --results results
sed 's/> 0.01/> 0/' small.lab >moved.lab
refused "metrics or bars have changed since the first run" moved.lab --out whole
sed 's/last(valid_nats)/last(valid_nuts)/' small.lab >lost.lab
refused "no column 'valid_nuts'" lost.lab --quick --out lost
hinted "valid_nats"
sed 's/loss(slow)/loss(slou)/' small.lab >arm.lab
refused "no arm 'slou'" arm.lab --quick --out arm
sed 's/--lr 5e-3/--lr 5e-3 --set eps=1e-5/' small.lab >undeclared.lab
refused "not declared in .differ." undeclared.lab --quick --out undeclared
sed 's/then = eval --model {run}/then = eval --model {run}\/nowhere/' small.lab >fails.lab
says 2 "failed; its log ends with" fails.lab --quick --out fails
finish

#!/usr/bin/env bash
# task.sh BINARY: `deepseek task`: the list, questions of every task, as text and as JSON, and what is refused. The last
# line is `N passed, N failed`.
. "$(dirname "$0")/shell.sh"
verb=task match=-qF
names="countdown chain add words permute parity"

# ----------------------------------------------------------------------------------------------------- the list
accepted --list
for name in $names; do holds "--list names $name" "$(grep -c "^$name " out)" = 1; done
holds "--list names nothing else" "$(wc -l <out)" = $((2 * $(wc -w <<<"$names")))
accepted --list --json
holds "the list is JSON" "$(python3 -c 'import json; print(*[task["name"] for task in json.load(open("out"))])')" = "$names"
says 0 "deepseek task countdown" --help

# ---------------------------------------------------------------------------------------------------- questions
for name in $names; do
    accepted $name --n 3 --gold
    holds "$name: three questions with their grades" "$(wc -l <out) $(grep -c '^    right$' out)" = "6 3"
    cp out first
    accepted $name --n 3 --gold --seed 1
    holds "$name: the same again" "$(cat out)" = "$(cat first)"
    accepted $name --n 3 --gold --seed 2
    holds "$name: others for another seed" "$(cat out)" != "$(cat first)"
    accepted $name --n 3 --json
    holds "$name: a line of JSON a question" "$(python3 -c '
import json
print(*[sorted(json.loads(line)) == ["answer", "formed", "level", "prompt", "right", "trace"] for line in open("out")])')" = "True True True"
done
accepted chain --level 8 --json --n 1
holds "the level is what was asked for" "$(grep -c '"level":8' out)" = 1
says 0 "wrong, not as it should be formed" permute --n 20

# ------------------------------------------------------------------------------------------------------ refused
refused "a name or --list is needed, not both"
refused "a name or --list is needed, not both" chain --list
refused "no task 'chian'" chian
hinted "did you mean chain? \`deepseek task --list\` shows all"
refused "no task 'zzzzzzzzzzzz'" zzzzzzzzzzzz
hinted "\`deepseek task --list\` shows all"
refused "chain: level 9 is not between 1 and 8" chain --level 9
refused "parity: level 9 is not between 10 and 20" parity --level 9
refused "--level" chain --level -1
refused "--n" chain --n 0
refused "--seed" chain --seed one
finish

#!/usr/bin/env bash
# measure.sh BINARY: `deepseek measure` on a small model: tables and CSVs of every measure, the same loss as eval,
# labels of a folder and of a file, and what is refused. The last line is `N passed, N failed`.
. "$(dirname "$0")/shell.sh"
accepted train --preset v3-nano --batch 2 --context 16 --steps 2 --out run
accepted train --preset llm-nano --batch 2 --context 16 --steps 2 --out dense
cell() { awk -F, -v item="$2" -v column="$3" 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == column) at = i }
    $2 == item { print $at }' "$1"; }
some="--windows 40 --batch 4"

# ----------------------------------------------------------------------------------------------------- the list
verb=measure
accepted --list
for name in load specialisation redundancy without-shared fewer-experts cache acceptance bigram rl-viability; do
    holds "--list names $name" "$(grep -c "^$name " out)" = 1
done
accepted --list --json
holds "the list as JSON has columns" "$(grep -c '"columns"' out)" = 9
refused "which one"
hinted "measure --list"
refused "no measure 'acceptence'" acceptence --model run
hinted "did you mean acceptance"
refused "excludes" load --list
refused "requires" load --model run --json

# ----------------------------------------------------------------------------------------------------- measures
for name in load redundancy without-shared fewer-experts acceptance bigram; do
    accepted $name --model run $some --out $name.csv
    holds "$name.csv begins with measure,item" "$(head -1 $name.csv | cut -d, -f1-2)" = measure,item
    holds "$name.csv has the same columns in every row" "$(awk -F, '{ print NF }' $name.csv | sort -u | wc -l)" = 1
    holds "$name.csv ends with a summary" "$(tail -1 $name.csv | cut -d, -f1-2)" = $name,summary
done
holds "load.csv has 2 routers with 8 experts in 4 groups, and a summary" "$(wc -l <load.csv)" = $((2 * (8 + 4 + 1) + 2))
holds "load: details are in the CSV alone" "$(cell load.csv "blocks.1 expert 7" tokens | wc -l)" = 1
says 0 "has 24 rows more" load --model run $some
verb=""
run eval --model run
nats=$(cut -d' ' -f1 out)
verb=measure
accepted fewer-experts --model run --out all.csv
holds "all experts: what eval says" "$(cell all.csv "K = 2" loss | xargs printf '%.4f')" = "$nats"
holds "as trained: the same with and without a mask of nothing" \
    "$(cell redundancy.csv 0/16 loss)" = "$(cell without-shared.csv "as trained" loss)"

accepted cache --model run --length 100 --out cache.csv
holds "cache: what is allocated is 2 layers of 16 + 8 numbers" "$(cell cache.csv allocated numbers)" = 48
says 0 "deepseek-llm-67b in 16 bits beside 6 .* 0.9334" cache --preset deepseek-v2
says 0 "MHA .* 0.9824" cache --preset deepseek-v2

# ------------------------------------------------------------------------------------------------------- labels
mkdir texts
for i in $(seq 400); do echo "the cat sat on mat $i, and purred"; done >texts/cats.txt
for i in $(seq 400); do echo "f($i) = $i * $i - 7;"; done >texts/code.txt
accepted specialisation --model run --data texts --out special.csv
holds "a label is a file" "$(cell special.csv summary labels)" = 2
holds "information is more than chance" \
    "$(awk -v I="$(cell special.csv blocks.1 information)" -v chance="$(cell special.csv blocks.1 shuffled)" \
        'BEGIN { print (I > 2 * chance) }')" = 1
# A game: its topics are labels, and only what it asks counts.
verb=""
accepted train --preset moe-tiny --set context=16 --data facts:facts=256 --batch 2 --context 16 --steps 2 --out game
accepted eval --model game --data facts:facts=256 --out game.csv
holds "eval's CSV has a row for all and each kind" "$(cut -d, -f1 game.csv | xargs)" = "kind all fact grammar"
refused "belongs to a model" eval --model game --data facts:facts=256 --out game/config.json
verb=measure
accepted fewer-experts --model game --data facts:facts=256 --out fewer.csv
holds "of a game: what eval says" "$(cell fewer.csv "K = 7" loss)" = "$(sed -n 's/^all,\([^,]*\),$/\1/p' game.csv)"
accepted specialisation --model game --data facts:facts=256 --out topics.csv
holds "a game's labels are kinds and topics" "$(cell topics.csv summary labels)" = 32
accepted bigram --model game --data facts:facts=256 --counted 20000 --out counted.csv
holds "pairs of a game are counted" "$(cell counted.csv bigram counted)" -ge 20000
refused "all sequences have one label" specialisation --model run --data texts/cats.txt
hinted "folder of several files"
refused "would be written over while it is read" load --model run --data texts/cats.txt --out texts/cats.txt
refused "each sequence has a label of its own" specialisation --model run --data texts --windows 1
printf '1 2 3\n4 5 6\n\n1 2 3\n' >ids.txt
printf 'a\nb\na\n' >labels.txt
accepted specialisation --model run --tokens ids.txt --labels labels.txt
echo c >>labels.txt
refused "4 labels for 3 sequences" specialisation --model run --tokens ids.txt --labels labels.txt
refused "one label" specialisation --model run --tokens ids.txt
refused "labels requires --tokens" specialisation --model run --labels labels.txt

# ------------------------------------------------------------------------------------------------------ refused
refused "llm-nano: has no routed experts" load --model dense $some
hinted "moe-tiny"
refused "llm-nano: has no multi-token prediction" acceptance --model dense $some
refused "nothing to count" bigram --model run --tokens ids.txt
accepted bigram --model run --tokens ids.txt --train-tokens ids.txt
refused "model is needed" load
refused "model is needed, or --preset" cache
refused "does not go with the measure load" load --preset v3-nano
refused "length: does not go with" load --model run --length 5
refused "data: does not go with" cache --model run --data stories
refused "length: goes with --model" cache --preset v3-nano --length 5
refused "does not fit into the memory" cache --model run --length 1000000000
refused "context 65" load --model run --context 65
refused "longer than the context" load --model run --tokens ids.txt --context 1
refused "no-such-file" load --model run --data no-such-file
refused "no-such-model" load --model no-such-model
refused "config.json is beside it" load --model run --out run/metrics.csv
refused "excludes" load --model run --data stories --tokens ids.txt
refused "excludes" load --model run --windows 3 --tokens ids.txt
refused "excludes" bigram --model run --counted 3 --tokens ids.txt
finish

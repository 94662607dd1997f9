#!/usr/bin/env bash
# `deepseek data --prepare`: what it says, what it refuses, that its output is whole or not there, and that training and
# the tokenizer's trainer read it.
. "$(dirname "$0")/shell.sh"
verb=data

mkdir -p texts/web texts/code texts/.git
for i in 1 2 3 4 5 6 7 8; do
    "$BINARY" data --n 3 --seed $i --out texts/web/$i.txt
    "$BINARY" data --n 3 --seed 10$i --out texts/code/$i.c
done
sed 's/$/ \r/' texts/web/1.txt >texts/web/copy.txt
sed '1s/[a-z]* / /' texts/web/2.txt >texts/web/nearly.txt
echo "Page not found." >texts/web/error.txt
printf 'no\0text' >texts/web/c.bin
: >texts/.git/config

# ------------------------------------------------------------------------------------------- what is written
accepted --prepare texts --out out.jsonl --report report.json
holds "hidden and binary files are left out, and counted" "$(grep -c 'left out: 1 hidden, 1 that are no text' err)" = 1
holds "the exact duplicate" -n "$(grep "exact-duplicate  *1 .*'web/copy.txt': repeats 'web/1.txt'" out)"
holds "the near duplicate" -n "$(grep "near-duplicate  *1 .*'web/nearly.txt': repeats 'web/2.txt'" out)"
holds "the rule" -n "$(grep "too-short  *1 .*'web/error.txt': words 3, below 20" out)"
holds "a line a document" "$(wc -l <out.jsonl)" = 16
holds "text, source and path" "$(grep -c '^{"text":".*","source":"code","path":"code/[1-8].c"}$' out.jsonl)" = 8
holds "the report has them, too" -n "$(grep '"example": "web/nearly.txt"' report.json)"
rm -r texts/.git texts/web/c.bin
accepted --prepare texts --out folder --mix web=0.5,code=2 --no-filter too-short,word-length
holds "twice as much of one source" "$(ls folder | grep -c 'code-[1-8].c.txt$')" = 16
holds "half of the other" "$(ls folder | grep -c web)" -le 5
cp -r folder before
refused "no empty folder" --prepare texts --out folder
hinted "choose another folder"
holds "which stays as it was" "$(diff -r before folder && echo same)" = same
mkdir empty
accepted --prepare texts --out empty/ --seed 2 --threads 2
holds "an empty folder is filled" "$(ls empty | wc -l)" = 16
accepted --prepare texts --out bytes.jsonl --tokenizer bytes
holds "tokens are counted" -n "$(grep "'web' .* [1-9][0-9]*$" out)"
accepted --prepare out.jsonl --out twice.jsonl
holds "nothing is left to remove" -n "$(grep 'deduplication removed 0%' out)"

# ------------------------------------------------------------------------------------------ who reads it
verb=""
for texts in out.jsonl folder; do
    accepted train --preset v3-nano --data $texts --batch 2 --context 16 --steps 2
    accepted tokenize --train $texts --vocab 300 --pretokenizer none --out words-$texts
done
accepted data --prepare texts --out plain
accepted tokenize --train plain --vocab 300 --pretokenizer none --out words-plain
holds "a .jsonl is its texts" "$(cmp words-plain/tokenizer.json words-out.jsonl/tokenizer.json && echo same)" = same
echo '{"content": "x"}' >other.jsonl
refused "other.jsonl: line 1: text is missing" train --preset v3-nano --data other.jsonl --steps 1
hinted "under another name"
refused "other.jsonl: line 1: text is missing" tokenize --train other.jsonl --vocab 300 --pretokenizer none --out words
verb=data

# ---------------------------------------------------------------------------------------------- contradictions
refused "n: does not go with --prepare" --prepare texts --out o --n 3
refused "out: NAME.jsonl or a folder" --prepare texts
for option in "--separator x" "--repeated-lines 3" "--no-filter too-short" "--mix web=1" "--report r" "--tokenizer bytes" \
    "--threads 1"; do
    refused "${option%% *}: only goes with --prepare" $option
done
refused "no-filter too-shor: no such rule" --prepare texts --out o --no-filter too-shor
hinted "did you mean too-short"
refused "mix wob: no such source" --prepare texts --out o --mix wob=2
hinted "did you mean web"
refused "mix web: is not SOURCE=WEIGHT" --prepare texts --out o --mix web
refused "mix web=x: 'x' is no number" --prepare texts --out o --mix web=x
refused "mix web=-1" --prepare texts --out o --mix web=-1
refused "mix web: is there twice" --prepare texts --out o --mix web=1,web=2
refused "inside of --prepare" --prepare texts --out texts/o
refused "inside of --prepare" --prepare . --out o
refused "report" --prepare texts --out o --report o/report.json
refused "no-such: cannot be read" --prepare no-such --out o
refused "no-such/o.jsonl: cannot be written" --prepare texts --out no-such/o.jsonl
refused "/proc/o: cannot be made" --prepare texts --out /proc/o
printf '{"text": "a"}\n{"text": }\n' >bad.jsonl
refused "bad.jsonl: line 2, column 10" --prepare bad.jsonl --out o
holds "nothing was left" "$(ls -d o o.* *.tmp* 2>/dev/null | wc -l)" = 0

# --------------------------------------------------------------------------------------------------- Ctrl-C
"$BINARY" data --n 100000 --out stories
sed G stories >many
code=0
timeout -s INT 1 "$BINARY" data --prepare many --separator "" --out stopped --report stopped.json >out 2>err || code=$?
holds "Ctrl-C" $code = 124
holds "leaves nothing" "$(ls -d stopped* 2>/dev/null | wc -l)" = 0
finish

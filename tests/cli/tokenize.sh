#!/usr/bin/env bash
# tokenize.sh BINARY: the command line of `deepseek tokenize`: mistakes end with exit code 2 and one line that
# names the cause (and perhaps a hint), and leave every file as it was. The last line is `N passed, N failed`.
. "$(dirname "$0")/shell.sh"
verb=tokenize
bytes="--tokenizer bytes"

# ------------------------------------------------------------------------------------------- what is written
printf 'two words\n' >text
printf '"ab"\n\n"c"\n' >good.jsonl
printf '"ab"\n{"x": 1}\n' >bad.jsonl
accepted $bytes --jsonl good.jsonl --out ids.jsonl
holds "jsonl: an array a line, empty lines skipped" "$(cat ids.jsonl)" = "$(printf '[97,98]\n[99]')"
refused "bad.jsonl: line 2" $bytes --jsonl bad.jsonl --out ids.jsonl
holds "a bad line leaves --out as it was" "$(cat ids.jsonl)" = "$(printf '[97,98]\n[99]')"
refused "bad.jsonl: line 2" $bytes --jsonl bad.jsonl --out new.jsonl
holds "a bad line leaves no half of a file" "$(ls | grep -c new)" = 0
refused "bad.jsonl: line 2" $bytes --jsonl bad.jsonl --out bad.jsonl
holds "nor does it empty its input" "$(wc -l <bad.jsonl)" = 2
cp good.jsonl same.jsonl
accepted $bytes --jsonl same.jsonl --out same.jsonl
accepted $bytes --jsonl same.jsonl --out same.jsonl --decode
holds "a file turned into ids and back in its own place" "$(cat same.jsonl)" = "$(printf '"ab"\n"c"')"
cp text same.txt
accepted $bytes --in same.txt --out same.txt
accepted $bytes --in same.txt --out same.txt --decode
holds "a text turned into ids and back in its own place" "$(cmp same.txt text && echo same)" = same
refused "out.*count\|count.*out" $bytes --in text --count --out same.txt
printf 'a\xffb\xff' >latin
accepted $bytes --in latin --count
holds "--count counts the bytes of the file" "$(cut -d ' ' -f 1-5 out)" = "tokens 8  bytes 4"
holds "--count leaves --out alone" "$(cmp same.txt text && echo same)" = same
refused "no-such-folder" $bytes --in text --out no-such-folder/ids
mkdir place
printf 'old\n' >place/target
ln -s place/target link
ln -s later place/dangling
accepted $bytes --text a --out link
holds "--out through a symbolic link replaces what it leads to" "$(cat place/target) $(readlink link)" = "97 place/target"
refused "bad.jsonl: line 2" $bytes --jsonl bad.jsonl --out link
holds "or nothing" "$(cat place/target) $(readlink link)" = "97 place/target"
accepted $bytes --text a --out place/dangling
holds "and makes what is not there yet" "$(cat place/later) $(readlink place/dangling)" = "97 later"
ln -s round round
refused "circle" $bytes --text a --out round
holds "no temporary file is left" "$(ls place | tr '\n' ' ')" = "dangling later target "
: >empty
accepted $bytes --jsonl empty
holds "no lines, no lines" ! -s out
printf '"a\xffb"\n' >broken.jsonl
accepted $bytes --jsonl broken.jsonl
holds "invalid UTF-8 in a line is replaced" "$(cat out)" = "[97,239,191,189,98]"
holds "and said" "$(grep -c U+FFFD err)" = 1

# ------------------------------------------------------------------------------------------------- what is read
refused "no-such-file" $bytes --in no-such-file
refused "no-such-file" $bytes --jsonl no-such-file
refused "is a directory" $bytes --in .
refused "not a plain file" $bytes --in /dev/zero
refused "not a plain file" $bytes --jsonl /dev/zero
refused "not a plain file" --tokenizer /dev/zero --text a
truncate -s 20G huge
refused "huge: has" $bytes --in huge
refused "huge: has" --tokenizer huge --text a
rm huge
input=text
for name in - /dev/stdin; do
    accepted $bytes --in $name
    holds "--in $name is standard input" "$(cut -c 1-11 out)" = "116 119 111"
done
input=good.jsonl
accepted $bytes --jsonl -
holds "--jsonl - is standard input" "$(wc -l <out)" = 2
input=/dev/null

# ------------------------------------------------------------------------------------------------- what is shown
accepted $bytes --text "é 猫"
holds "a token a line" "$(wc -l <out)" = 6
cp out pieces
accepted $bytes --decode --in pieces
holds "--decode reverses --text" "$(cat out)" = "é 猫"
refused "id 258 is beyond" $bytes --decode --text "65 258"
refused "id 99999999999*\|id 9999999999" $bytes --decode --text 9999999999
printf '[65, 300]\n' >far.jsonl
refused "far.jsonl: line 1: id 300 is beyond" $bytes --decode --jsonl far.jsonl
refused "not a token id" $bytes --decode --text "1 x"
refused "not a token id" $bytes --decode --text "1 -2"
refused "not a token id" $bytes --decode --text "$(printf '1 \033[31m\n')"
printf 'line\rdown \xc2\x9b31m \xe2\x80\xae \xe2\x81\xa6' >nasty
accepted --train nasty --vocab 400 --pretokenizer none --min-count 1 --out nasty-tokenizer
accepted --tokenizer nasty-tokenizer --text "$(cat nasty)"
holds "no control characters but the lines' own" "$(LC_ALL=C tr -d '\n\t' <out | LC_ALL=C grep -c '[[:cntrl:]]')" = 0
holds "C1 and direction marks are escaped" "$(grep -c 'U+009B.*U+202E.*U+2066' out)" = 1

# ---------------------------------------------------------------------------------------------- contradictions
refused "exactly one" $bytes
refused "exactly one" $bytes --text a --in text
refused "tokenizer" --text a
train="--train text --vocab 300 --out trained"
for option in "--text a" "--in text" "--jsonl good.jsonl" --decode --count "--tokenizer bytes" "--color always"; do
    refused "${option%% *}.*train" $train $option
done
for option in "--vocab 300" "--min-count 2" "--pretokenizer none"; do
    refused "${option%% *}.*train" $bytes --text a $option
done
refused "color" $bytes --in text --color always
refused "color" $bytes --text a --count --color always
refused "color" $bytes --text a --color sometimes
refused "min-count 0" $train --min-count 0
refused "min-count -1" $train --min-count -1
refused "vocab" --train text --vocab -5 --out trained
refused "vocab" --train text --out trained
refused "out" --train text --vocab 300
refused "count" $bytes --text 65 --decode --count
accepted $bytes --text a --color always

# ---------------------------------------------------------------------------------------------------- --train
mkdir run texts texts/.git
echo '{}' >run/config.json
echo '{"a": "tokenizer"}' >run/tokenizer.json
ln -s run another
ln -s run/tokenizer.json a.json
for out in run run/ run/tokenizer.json another a.json; do
    refused "a model is there (config.json)" --train text --vocab 300 --pretokenizer none --out $out
    hinted "choose a folder of its own"
done
holds "a run's tokenizer stays" "$(cat run/tokenizer.json)" = '{"a": "tokenizer"}'
holds "and nothing beside it" "$(ls run | wc -l)" = 2
refused "no-such/t.json" --train text --vocab 300 --pretokenizer none --out no-such/t.json
printf 'abab abab' | tee texts/a.txt texts/b.md >texts/.hidden
printf 'no\0text' >texts/c.bin
head -c 40000 /dev/zero | tr '\0' '\200' >texts/d.bin
printf 'gr\xfc\xdfe aus K\xf6ln, und noch viel mehr Text' >texts/latin.txt
printf 'x' >texts/.git/e
accepted --train texts --vocab 300 --pretokenizer none --out trained
holds "hidden and binary files of a folder are left out, and counted" \
    "$(grep -c '^texts: left out: 2 hidden, 2 that are no text$' err)" = 1
holds "others are read" "$(grep -c 'from 57 bytes' out)" = 1
rm texts/*.txt texts/*.md
: >nothing
refused "nothing: there is no text in it" --train nothing --vocab 300 --pretokenizer none --out from-nothing
holds "and no tokenizer made of it" ! -e from-nothing/tokenizer.json
refused "texts: no texts in it (left out: 2 hidden, 2 that are no text)" --train texts --vocab 300 --pretokenizer none --out trained
head -c 3000000 /dev/urandom | od -An -tx1 >large
code=0
timeout -s INT 1 "$BINARY" tokenize --train large --vocab 60000 --pretokenizer none --out stopped >out 2>err || code=$?
holds "Ctrl-C while learning leaves no file" "$(ls -A stopped | wc -l)" = 0

# ----------------------------------------------------------------------------------------------- tokenizer.json
accepted --train text --vocab 300 --pretokenizer none --out trained
edited() {                              # edited FROM TO: the trained file with this text for that
    sed "s/$1/$2/" trained/tokenizer.json >edited.json
    cmp -s trained/tokenizer.json edited.json && wrong "nothing to edit: $1"
    return 0
}
refused_file() {                        # refused_file PATTERN
    refused "edited.json: .*$1" --tokenizer edited.json --text a
}
echo '{}' >edited.json
refused_file "is no tokenizer.json"
echo '{"architectures": ["X"], "model_type": "deepseek_v3"}' >edited.json
refused_file "is no tokenizer.json"
edited '"truncation": null' '"truncation": {"max_length": 3, "direction": "Right", "strategy": "LongestFirst", "stride": 0}'
refused_file truncation
edited '"padding": null' '"padding": {"strategy": "BatchLongest"}'
refused_file padding
edited '"version": "1.0"' '"version": "2.0"'
refused_file 'version.*2.0'
edited '"normalizer": null' '"normalizer": null, "normalizer": null'
refused_file 'normalizer.*twice'
edited '"vocab":' '"vocab": {}, "vocab":'
refused_file 'vocab.*twice'
edited '"type": "BPE"' '"type": "BPE", "type": "BPE"'
refused_file 'type.*twice'
edited '"type": "BPE"' '"type": "B\\u001b[31m\\nPE"'
refused_file "model: 'B?"
edited '"decoder": {' '"decoder": {"type": "Metaspace"}, "was": {'
refused_file "decoder: 'Metaspace'"
edited '"post_processor": null' '"post_processor": {"type": "X"}'
refused_file "post_processor: 'X'"
edited '"byte_fallback": false' '"byte_fallback": true'
accepted --tokenizer edited.json --text "hello é"
cp out pieces
accepted --tokenizer trained --text "hello é"
holds "byte_fallback beside all bytes changes no id" "$(cmp out pieces && echo same)" = same
edited '"unk_token": null' '"unk_token": "<unk>"'
accepted --tokenizer edited.json --text "hello é"
holds "nor does an unk_token that cannot occur" "$(cmp out pieces && echo same)" = same
edited '"decoder": {' '"decoder": null, "was": {'
accepted --tokenizer edited.json --text "hello é"
holds "nor does a decoder" "$(cmp out pieces && echo same)" = same
refused "no decoder" --tokenizer edited.json --decode --text "65"
hinted ByteLevel
edited '"pretokenizers": \[' '"pretokenizers": [{"type": "Split", "pattern": {"Regex": "(?s)."}, "behavior": "Isolated"},'
refused_file '(?s'
finish

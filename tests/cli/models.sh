#!/usr/bin/env bash
# models.sh BINARY: what the program says to mistakes. Whatever is wrong with what it is given, it ends with exit
# code 2, one line that names the cause, perhaps one with a hint, no crash, no large allocation, and nothing
# overwritten. Then that Ctrl-C saves and --resume goes on. The last line is `N passed, N failed`.
. "$(dirname "$0")/shell.sh"
state() { (cd "$1" && find . -type f | sort | xargs sha256sum); }
base="train --preset v3-nano"
nano="$base --batch 2 --context 16 --steps 2"

# ------------------------------------------------------------------------------------------ verbs and options
refused "no verb 'trian'" trian --steps 3
hinted "did you mean train"
refused "no verb" frobnicate
accepted --help
holds "--help begins with a first visit: tokenize, train, eval, generate" \
    "$(grep -o '^  deepseek [a-z]*' out | head -4 | tr -d '\n')" = \
    "  deepseek tokenize  deepseek train  deepseek eval  deepseek generate"
refused "stpes" $nano --stpes 5
hinted "did you mean --steps"
refused "sizze" scaling plan --sizze 2x48
hinted "did you mean --size"
refused "2by48" scaling plan --size 2by48
accepted scaling plan --size 1x16 2x32 --out runs.csv
verb=""
for seed in 1 2; do                     # a row of the plan is a command line of train, and its folder a row of the fit
    line="$(cut -d, -f15 runs.csv | sed -n 2p | sed "s/--seed 1/--seed $seed/; s/--steps [0-9]*/--steps 3/")"
    accepted train $line --out planned$seed
done
holds "a planned model has the planned width" "$(grep -c '"hidden_size": 16,' planned1/config.json)" = 1
refused "planned1/../planned1, ...: 1 budget, a law needs" scaling fit planned1/../planned1 planned2
refused "nowhere: is no run of" scaling fit planned1 nowhere
refused "is not of the form LAYERSxWIDTH:FLOPs" scaling fit planned1 --foretell 3x64
refused "would be written over while it is read" scaling fit runs.csv --json runs.csv
awk -F, 'NR > 1 { $14 = 3 } 1' OFS=, runs.csv >filled.csv
refused "has losses of runs already" scaling plan --size 1x16 2x32 --out filled.csv
refused "is there twice" scaling plan --size 1x16 1x16
refused "runs.csv: no run has a loss" scaling fit runs.csv
refused "steps.*many" $base --steps many
refused "steps 0" $base --steps 0
refused "steps -5" $base --steps -5
refused "steps" $base --steps
refused "steps" $base --steps 99999999999999999999
refused "batch 0" $base --batch 0
refused "batch -1" $base --batch -1
refused "batch 100000000" $base --batch 100000000
refused "accumulate" $nano --accumulate 0
refused "context 65" $base --context 65
refused "context -3" $base --context -3
refused "lr" $nano --lr -1
refused "lr" $nano --lr nan
refused "lr" $nano --lr 0
refused "schedule" $nano --schedule linear
refused "warmup" $nano --warmup -7
refused "weight-decay" $nano --weight-decay nan
refused "beta1" $nano --beta1 1.5
refused "beta2" $nano --beta2 -1
refused "clip" $nano --clip -1
refused "clip" $nano --clip nan
refused "adam-eps" $nano --adam-eps -1
refused "save-every" $nano --save-every -1
refused "eval-every" $nano --eval-every -1
refused "seed" $nano --seed 1.5
refused "device" $nano --device gpu
refused "kernels" $nano --kernels quick
refused "threads" $nano --threads -1
refused "threads" $nano --threads 1000000
refused "preset" train --preset v3-nanno
hinted "v3-nano"
refused "preset" config --preset nothing-like-it
refused "does-not-exist" train --init does-not-exist
refused "model" generate --prompt x
refused "model" eval
refused "op" op frobnicate --in a --out b
refused "no-such-file" op rmsnorm --in no-such-file --out b
refused "nothing-like-it" bench --preset nothing-like-it
refused "steps" bench --preset v3-nano --steps 0
refused "batch" bench --preset v3-nano --batch 0
refused "longest sequence of v3-nano is 64" bench --preset v3-nano --context 99999
refused "bench.json" bench --preset v3-nano --json /proc/bench.json
for verb_ in tape check "bench --preset"; do
    refused "deepseek-v3: .*memory" ${verb_/ --preset/} --preset deepseek-v3
done
refused "memory" tape --preset v3-small --context 1024 --batch 4096
refused "shard-size" export --model run --out x --shard-size -1
refused "no op 'nope'" op nope
refused "no op 'rmsnrm'" op rmsnrm
hinted "did you mean rmsnorm"
accepted op --set eps=1e-6 rmsnorm --random
holds "an attribute does not swallow the op's name" "$(head -1 out | grep -c '^rmsnorm: ')" = 1
refused "excludes" op rmsnorm --random --out y.safetensors
refused "excludes" op rmsnorm --list
refused "which one" op --set eps=1e-6
refused "needs --preset or --model" config --set d=64
refused "needs --preset or --model" config --all
refused "excludes" config --list --preset nope
refused "is empty" eval --model ""
if [ -e /dev/full ]; then
    for args in "op --list" "config --list" "data --n 3" --help ""; do
        code=0
        "$BINARY" $args >/dev/full 2>err || code=$?
        holds "deepseek $args: a full disk is no success" $code = 2 -a -n "$(grep 'standard output: cannot be written' err)"
    done
fi

# ---------------------------------------------------------------------------------- fields of a configuration
refused "d_k" $nano --set d_k=3
hinted "did you mean"
refused "field=value" $nano --set d
refused "d:" $nano --set d=wide
refused "d:" $nano --set d=32.5
refused "d:" $nano --set d=
refused "d:" $nano --set d=99999999999999999999
refused "d = " $nano --set d=-5
refused "d = 1000000000 is not between 1 and 131072" $nano --set d=1000000000
refused "name: " $nano --set name=a#b
refused "beta_fast" $nano --set scaling=yarn --set factor=4 --set beta_fast=1 --set beta_slow=32
refused "n_layers" $nano --set n_layers=0
refused "n_layers" $nano --set n_layers=-1
refused "vocabulary only 1" $nano --set V=1
refused "tokenizer" $nano --set V=100
refused "d_hR" $nano --set d_hR=7
refused "d_hR" $nano --set d_hR=0
refused "d_c" $nano --set d_c=0
refused "d_cq" $nano --set d_cq=-1
refused "N_r" $nano --set N_r=7
refused "K_r" $nano --set K_r=9
refused "K_r" $nano --set K_r=0
refused "M = " $nano --set M=5
refused "groups" $nano --set groups=0
refused "group_best" $nano --set group_best=3
refused "d_e" $nano --set d_e=0
refused "D = " $nano --set D=-1
refused "D = " $nano --set D=1000
refused "alpha" $nano --set alpha=-1
refused "gamma" $nano --set gamma=nan
refused "theta" $nano --set theta=inf
refused "theta" $nano --set theta=0
refused "eps" $nano --set eps=-1
refused "init_std" $nano --set init_std=-1
refused "rho" $nano --set rho=0
refused "factor" $nano --set factor=0
refused "beta_fast" $nano --set scaling=yarn --set factor=4 --set beta_fast=0
refused "beta_slow" $nano --set scaling=yarn --set factor=4 --set beta_slow=-1
refused "mscale" $nano --set scaling=yarn --set factor=4 --set mscale=-100
refused "attention" $nano --set attention=XYZ
refused "tied" $nano --set tied=maybe
refused "n_kv" train --preset llm-nano --steps 1 --set n_kv=3
refused "n_kv" train --preset llm-nano --steps 1 --set attention=MHA
refused "d_h" train --preset llm-nano --steps 1 --set d_h=7
printf 'd = 32\nd_q = 3\n' >broken.preset
refused "broken.preset:2" train --preset ./broken.preset
refused "memory" train --preset deepseek-v3 --steps 1 --out big
holds "nothing is written before the memory is there" ! -e big

# ------------------------------------------------------------------------------------------------------- data
: >empty.txt
mkdir empty-folder
echo "too short" >short.txt
echo "1 2 three" >words.txt
echo "1 2 258" >large.txt
echo "5" >single.txt
seq 1 80 | tr '\n' ' ' >long.txt
refused "no-such-file" $nano --data no-such-file
refused "empty.txt" $nano --data empty.txt
refused "empty-folder" $nano --data empty-folder
refused "short.txt" $nano --data short.txt
refused "no-such-file" $nano --tokens no-such-file
refused "empty.txt" $nano --tokens empty.txt
refused "words.txt:1" $nano --tokens words.txt
refused "large.txt:1" $nano --tokens large.txt
refused "single.txt:1" $nano --tokens single.txt
refused "longer than the context" $nano --tokens long.txt
refused "no-such-tokenizer" $nano --tokenizer no-such-tokenizer
echo '{"model": 3}' >tokenizer.json
refused "tokenizer.json" $nano --tokenizer tokenizer.json

# -------------------------------------------------------------------------------- a run, and what protects it
accepted $nano --out run
for file in model.safetensors config.json training.safetensors tokenizer.json metrics.csv; do
    holds "a run leaves its $file" -s run/$file
done
before=$(state run)
refused "already there" $nano --out run
hinted "resume"
holds "--out on a run overwrites nothing" "$before" = "$(state run)"
refused "--out" $nano --resume
refused "does not exist" $nano --out new --resume
holds "--resume without a run makes none" ! -e new
refused "other options" $base --batch 3 --context 16 --steps 4 --out run --resume
holds "a refused --resume changes nothing" "$before" = "$(state run)"
refused "short.txt" $nano --out short.txt
holds "--out on a file leaves the file" "too short" = "$(cat short.txt)"
refused "/proc/nowhere: cannot be made" $nano --out /proc/nowhere
refused "no-such-file" $nano --out another --data no-such-file
holds "a run that cannot begin leaves no folder" ! -e another
cp -r run cut
head -c 3000 run/training.safetensors >cut/training.safetensors
refused "training.safetensors" $base --batch 2 --context 16 --steps 4 --out cut --resume

# What contradicts is refused, not chosen from.
refused "preset excludes" $nano --init run
refused "data excludes" $nano --data stories --tokens ids.txt
refused "preset excludes" config --preset v3-nano --model run
refused "context" eval --model run --context 65
refused "D = 20" $base --set context=16 --set D=20
refused "factor" $base --set scaling=yarn --set factor=0.5

# Another tokenizer is not the one that a checkpoint's weights know.
cp -r run other
printf 'One day, a cat sat on a mat. %.0s' $(seq 20) >words.txt
refused "a model is there" tokenize --train words.txt --vocab 300 --out other
"$BINARY" tokenize --train words.txt --vocab 300 --out foreign >out 2>err || wrong "tokenize --train"
cp foreign/tokenizer.json other
refused "its tokenizer has 29" train --out other --resume
refused "vocabulary only" eval --model other
refused "vocabulary only" generate --model other
XDG_CACHE_HOME=/proc/nowhere refused "cannot be written" $base --data words.txt --steps 1
hinted "XDG_CACHE_HOME"

# --------------------------------------------------------------------------------------------------- generate
accepted generate --model run --prompt "Once" --max-tokens 5
accepted eval --model run
refused "no-such-model" generate --model no-such-model
refused "empty-folder" generate --model empty-folder
refused "context" generate --model run --prompt "$(printf 'x%.0s' $(seq 64))"
refused "temperature" generate --model run --temperature -1
refused "temperature" generate --model run --temperature nan
refused "top-p" generate --model run --top-p 0
refused "top-p" generate --model run --top-p 1.5
refused "top-k" generate --model run --top-k -1
refused "max-tokens" generate --model run --max-tokens 0
refused "n: 0" generate --model run --n 0
refused "no-such-file" eval --model run --data no-such-file
printf 'Hello\n/new\n\nAgain\n' >talk.txt
accepted chat --model run --style llm --max-tokens 5
refused "no token" chat --model run --style v3
refused "v9 not in" chat --model run --style v9
hinted "did you mean v2"
refused "leave no room" chat --model run --style v2 --system "$(printf 'x%.0s' $(seq 64))"
code=0
"$BINARY" chat --model run --style v2 --max-tokens 5 >out 2>err <talk.txt || code=$?
holds "chat answers two of four lines" "$code" = 0 -a "$(wc -l <out)" -ge 2
printf '%0200d\n' 1 >talk.txt
"$BINARY" chat --model run --style llm --max-tokens 5 >out 2>err <talk.txt
holds "chat: what does not fit is said" "$(grep -c 'too long: 2[0-9]* tokens' err)" = 1

# The words of a prompt, wherever they come from, are the same words; a control token is one on request only.
run generate --model run --prompt "One day" --max-tokens 8 --seed 3
cp out by-option
printf 'One day' >prompt.txt
run generate --model run --prompt-file prompt.txt --max-tokens 8 --seed 3
holds "--prompt-file says what --prompt says" "$(cmp out by-option)" = ""
input=prompt.txt
run generate --model run --prompt-file - --max-tokens 8 --seed 3
holds "--prompt-file - reads the standard input" "$(cmp out by-option)" = ""
input=/dev/null
refused "prompt-file" generate --model run --prompt x --prompt-file prompt.txt
refused "no-such-file" generate --model run --prompt-file no-such-file
long_prompt="<｜begin▁of▁sentence｜>$(printf 'x%.0s' $(seq 62))"   # 63 tokens, or 93 bytes
accepted generate --model run --prompt "$long_prompt" --control-tokens --max-tokens 1
refused "prompt has" generate --model run --prompt "$long_prompt" --max-tokens 1
refused "fim" generate --model run --prompt "One" --suffix "end"
says 0 "ends where the model's context of 64" generate --model run --temperature 0 --max-tokens 100
holds "the note stands beside the text, not in it" "$(grep -c "context of 64" out)" = 0
run generate --model run --temperature 0 --max-tokens 3
holds "no note where --max-tokens ended it" ! -s err

# Drafts change how a text comes about, not the text; how it came about stands beside it.
for n in 1 3; do
    run generate --model run --temperature 0 --max-tokens 30 --n $n
    cp out alone
    run generate --model run --temperature 0 --max-tokens 30 --n $n --speculate 1
    holds "--speculate says what the model says alone" $code = 0 -a "$(cmp out alone)" = ""
    holds "--speculate tells the acceptance" \
        "$(grep -c '^speculation: draft 1 accepted [0-9.]*% of [0-9]*; [12]\.[0-9]* tokens a trunk forward$' err)" = 1
    holds "--speculate tells the gain" \
        "$(grep -c '^speculation: t_1 .* ms, t_2 .* ms, t_mtp .* ms: .* t_1 / (t_2 + t_mtp) = [0-9.]*$' err)" = 1
done
run generate --model run --max-tokens 30 --seed 4 --speculate 1
cp out once
run generate --model run --max-tokens 30 --seed 4 --speculate 1
holds "--speculate: the same seed says the same again" "$(cmp out once)" = ""
refused "speculate 2: v3-nano has 1 module of multi-token prediction" generate --model run --speculate 2
hinted "speculate 1"
refused "speculate" generate --model run --speculate -1
accepted train --preset llm-nano --batch 2 --context 16 --steps 1 --out without
refused "llm-nano has no multi-token prediction" generate --model without --speculate 1
hinted "D=1"
input=prompt.txt
run chat --model run --style v2 --max-tokens 3 --show
holds "--show prints the prompt with its ids" "$(grep -c '^256 <｜begin▁of▁sentence｜>  85 U  115 s  .*10 .n' out)" = 1
holds "nothing is said of training where none can be seen" ! -s err
accepted $base --batch 4 --context 64 --steps 40 --lr 1e-2 --data stories --set init_std=0.02 --out learned
run chat --model learned --style v2 --max-tokens 3
holds "chat names the control tokens that were never trained" \
    "$(grep -c 'never learned <｜begin▁of▁sentence｜>:' err)" = 1
input=/dev/null

# What eval says it measured is what it measured: all but the first token, the last 30 of 100 bytes included.
"$BINARY" data --n 20 --out t.txt
for tail in "$(printf 'a%.0s' $(seq 30))" "$(printf '~^%.0s' $(seq 15))"; do
    { head -c 1960 t.txt | tr '\n' ' '; echo "$tail"; } >tail.txt
    run eval --model run --data tail.txt
    cat out >>tails
done
holds "eval measures the last partial window" "$(sort -u tails | wc -l)" = 2
holds "and counts what it measures" "$(grep -c 'on 99 held-out tokens' tails)" = 2

holds "config --all shows the usual values too" \
    "$("$BINARY" config --preset v3-nano --all | grep -c '^  theta  *10000 ')" = 1
refused "empty.txt" eval --model run --data empty.txt
refused "batch" eval --model run --batch 0
refused "no-such-file" dump --model run --tokens no-such-file --out dump.safetensors
refused "large.txt:1" dump --model run --tokens large.txt --out dump.safetensors
holds "a refused dump writes nothing" ! -e dump.safetensors
before=$(state run)
seq 1 8 | tr '\n' ' ' >ids.txt
for out in run/model.safetensors run/config.json; do
    refused "belongs to a model" dump --model run --tokens ids.txt --out $out
    refused "belongs to a model" op rmsnorm --in y.safetensors --out $out
    refused "belongs to a model" bench --json $out
done
refused "no earlier dump" dump --model run --tokens ids.txt --out ids.txt
holds "and changes nothing" "$before" = "$(state run)"
accepted dump --model run --tokens ids.txt --out dump.safetensors
accepted dump --model run --tokens ids.txt --out dump.safetensors

refused "no tensor .x." op rmsnorm --in run/model.safetensors --out y.safetensors
refused "epsilon: unknown attribute" op rmsnorm --in run/model.safetensors --out y.safetensors --set epsilon=1

# ---------------------------------------------------------------------------------------- hostile checkpoints
# damaged NAME: a copy of the run, ready to be broken
damaged() { rm -rf damaged && cp -r run damaged; }
# config SED: config.json after this edit is refused, naming PATTERN
config() {
    damaged
    sed -i -E "$2" damaged/config.json
    if cmp -s run/config.json damaged/config.json; then wrong "the edit $2 changes nothing"; fi
    refused "$1" generate --model damaged
}
config "hidden_size" 's/"hidden_size": *[0-9]+/"hidden_size": "32"/'
config "hidden_size" 's/"hidden_size": *[0-9]+/"hidden_size": 32.5/'
config "hidden_size" 's/"hidden_size": *[0-9]+/"hidden_size": true/'
config "hidden_size" 's/"hidden_size": *[0-9]+/"hidden_size": null/'
config "hidden_size" 's/"hidden_size": *[0-9]+/"hidden_size": [32]/'
config "hidden_size" 's/"hidden_size": *[0-9]+/"hidden_size": -32/'
config "hidden_size" 's/"hidden_size": *[0-9]+/"hidden_size": 1e30/'
config "hidden_size" 's/"hidden_size"/"hidden_sizes"/'
config "the files of weights have [0-9]* bytes" 's/"hidden_size": *[0-9]+/"hidden_size": 130000/'
config "weights" 's/"vocab_size": *[0-9]+/"vocab_size": 16777216/'
config "weights" 's/"num_hidden_layers": *[0-9]+/"num_hidden_layers": 4000/'
config "d_hR" 's/"qk_rope_head_dim": *[0-9]+/"qk_rope_head_dim": 7/'
config "K_r" 's/"num_experts_per_tok": *[0-9]+/"num_experts_per_tok": 9/'
config "model_type" 's/"model_type": *"[a-z_0-9]+"/"model_type": "gpt2"/'
config "rms_norm_eps" 's/"rms_norm_eps": *[-0-9.e]+/"rms_norm_eps": -1/'
config "config.json" 's/\{/[/'
config "config.json" 's/:/ /'
damaged
head -c 100 run/config.json >damaged/config.json
refused "config.json" generate --model damaged
: >damaged/config.json
refused "config.json" generate --model damaged
yes '[' | head -c 100000 | tr -d '\n' >damaged/config.json
refused "config.json" generate --model damaged
rm damaged/config.json
refused "config.json" generate --model damaged

size=$(stat -c %s run/model.safetensors)
damaged
head -c $((size / 2)) run/model.safetensors >damaged/model.safetensors
refused "model.safetensors" generate --model damaged
head -c 4 run/model.safetensors >damaged/model.safetensors
refused "model.safetensors" generate --model damaged
: >damaged/model.safetensors
refused "model.safetensors" generate --model damaged
{ printf '\377\377\377\377\377\377\377\177'; tail -c +9 run/model.safetensors; } >damaged/model.safetensors
refused "model.safetensors" generate --model damaged
head -c "$size" /dev/zero >damaged/model.safetensors
refused "model.safetensors" generate --model damaged
cp run/model.safetensors damaged/model.safetensors
printf '\000\000\300\177' | dd of=damaged/model.safetensors bs=1 seek=$((size - 4)) conv=notrunc status=none
refused "no number" generate --model damaged
refused "no number" train --init damaged
printf '\377\377\177\177' | dd of=damaged/model.safetensors bs=1 seek=$((size - 4)) conv=notrunc status=none
says 1 "damaged: its loss is no number" eval --model damaged
sed 's/model\.norm\.weight/model.nurm.weight/' run/model.safetensors >damaged/model.safetensors
refused "model.norm.weight" generate --model damaged
rm damaged/model.safetensors
refused "safetensors" generate --model damaged

# ----------------------------------------------------------------------------- Ctrl-C saves, --resume goes on
long="train --preset v3-nano --batch 2 --context 16 --steps 100000 --eval-every 100000 --out stopped"
"$BINARY" $long >out 2>err </dev/null &
child=$!
for _ in $(seq 300); do
    if [ -f stopped/metrics.csv ] && [ "$(wc -l <stopped/metrics.csv)" -gt 3 ]; then break; fi
    sleep 0.1
done
kill -INT $child
code=0
wait $child || code=$?
holds "Ctrl-C ends a run with code 130, not $code" $code = 130
holds "Ctrl-C saves a checkpoint" -s stopped/training.safetensors
steps=$(($(wc -l <stopped/metrics.csv) - 1))
accepted train --preset v3-nano --batch 2 --context 16 --steps $((steps + 2)) --out stopped --resume
holds "--resume goes on where Ctrl-C stopped" "$(wc -l <stopped/metrics.csv)" = $((steps + 3))
cp stopped/training.safetensors before.safetensors
run train --preset v3-nano --batch 2 --context 16 --steps $((steps + 2)) --out stopped --resume
holds "a finished run has nothing to do, and says so" "$(grep -c "nothing to do" out)" = 1
holds "and is not touched" "$(cmp stopped/training.safetensors before.safetensors)" = ""
holds "no temporary file is left" -z "$(find run stopped -name '*tmp*' -o -name '*.part')"

# A closed terminal is Ctrl-C, unless nohup says otherwise.
run_in_background() {
    "$@" >out 2>err </dev/null &
    child=$!
    for _ in $(seq 300); do
        if [ -f hung/metrics.csv ] && [ "$(wc -l <hung/metrics.csv)" -gt 3 ]; then break; fi
        sleep 0.1
    done
}
hung="train --preset v3-nano --batch 2 --context 16 --steps 100000 --eval-every 100000 --out hung"
run_in_background env --default-signal=HUP "$BINARY" $hung   # the tests themselves may run under nohup
kill -HUP $child
code=0
wait $child || code=$?
holds "SIGHUP saves, and ends a run with code 130, not $code" $code = 130 -a -s hung/training.safetensors
rm -r hung
run_in_background nohup "$BINARY" $hung
kill -HUP $child
sleep 0.3
holds "under nohup a run goes on" "$(kill -INT $child && echo there)" = there
code=0
wait $child || code=$?
holds "until it is stopped" $code = 130

# A run in one piece, and the same run interrupted after 2 of 4 steps: the same bytes of weights.
flat="$base --batch 2 --context 16 --schedule constant --warmup 0"
accepted $flat --steps 4 --out whole
accepted $flat --steps 2 --out parts
accepted $flat --steps 4 --out parts --resume
for file in training.safetensors model.safetensors; do
    if cmp -s whole/$file parts/$file; then pass; else wrong "resumed and in one piece: another $file"; fi
done

# ------------------------------------------------------------------------------------ ops, called from a file
# tensors FILE NAME:TYPE:SHAPE:BYTES...: a safetensors file; BYTES as printf has them, SHAPE as 2,3
tensors() {
    local file=$1 header="" data="" at=0 part name type shape bytes size
    shift
    for part in "$@"; do
        IFS=: read -r name type shape bytes <<<"$part"
        size=$(printf "$bytes" | wc -c)
        header="$header${header:+,}\"$name\":{\"dtype\":\"$type\",\"shape\":[$shape],"
        header="$header\"data_offsets\":[$at,$((at + size))]}"
        at=$((at + size)) data="$data$bytes"
    done
    header="{$header}"
    { printf "\\x$(printf %02x $((${#header} % 256)))"
      printf "\\x$(printf %02x $((${#header} / 256)))\\0\\0\\0\\0\\0\\0"
      printf %s "$header"; printf "$data"; } >"$file"
}
zero='\0\0\0\0' one='\1\0\0\0' nine='\11\0\0\0' less='\376\377\377\377'
four="$zero$zero$zero$zero"
op() { refused "$1" op "$2" --in op.in --out op.out "${@:3}"; }
tensors op.in "x:F32:2,2:$four" "ids:I32:1:$one"
accepted op gather_rows --in op.in --out good.out
tensors op.in "x:F32:2,2:$four" "ids:I32:1:$nine"
op "ids holds 9" gather_rows
tensors op.in "x:F32:2,2:$four" "ids:I32:1:$less"
op "ids holds -2" gather_rows
tensors op.in "x:F32:2,2:$four" "ids:F32:1:$zero"
op "ids holds numbers" gather_rows
tensors op.in "x:F32:2,2:$four" "ids:I32:1,1,1,1:$zero"
op "ids .*4 axes" gather_rows
tensors op.in "s:F32:2,2:$four" "idx:I32:2,1:$one$nine"
op "idx holds 9" pick
tensors op.in "idx:I32:1,2:$zero$nine"
op "idx holds 9" dispatch --set n=3
op "n = 0" dispatch
tensors op.in "x:F32:2,2:$four" "W:F32:1,1,2:$zero$zero" "offsets:I32:2:$zero$nine"
op "offsets holds 9" matmul_grouped
tensors op.in "x:F32:2,2:$four" "W:F32:2,1,2:$four" "offsets:I32:3:$zero$one$zero"
op "offsets fall" matmul_grouped
tensors op.in "q:F32:1,1,1,2:$zero$zero" "k:F32:1,2,1,2:$four" "where:I32:1,1,2:$zero$nine"
op "span 0 to 9" attention --set n=2
tensors op.in "q:F32:1,1,1,2:$zero$zero" "k:F32:1,2,1,2:$four" "where:I32:1,1,2:$zero$one"
op "n = 3" attention --set n=3
accepted op attention --in op.in --out good.out --set n=2 --set lists=1
tensors op.in "q:F32:1,1,1,2:$zero$zero" "k:F32:1,2,1,2:$four" "where:I32:1,1,3:$zero$one$one"
op "spans" attention --set n=2
tensors op.in "x:F32:2,2:$four"
op "f = 9" unary --set f=9
op "f=sillu" unary --set f=sillu
hinted "silu"
accepted op unary --in op.in --out good.out --set f=silu
op "slice" slice --set from=2147483647 --set n=2147483647
op "K: unknown" softmax --set K=2
tensors op.in "x:F32:2,2:$four" "G:F32:2:$zero$zero"
op "'G'" rmsnorm
tensors op.in "x:F32:0,2:"
op "empty" softmax
tensors op.in "z:F32:1,2:$zero$zero" "key:I32:1,3:$zero$zero$zero"
op "top_p" sample --set top_p=0
op "temperature" sample --set temperature=nan
tensors op.in "h:F32:1,2:$zero$zero" "W:F32:2,2:$four" "ids:I32:1:$zero" "allowed:I32:2:$one$zero"
op "allowed" logp
tensors op.in "x:F32:2,2:$four" "W:F32:2,2:$four"
op "precision = 2" matmul --set precision=2
accepted op matmul --in op.in --out good.out --set precision=1
holds "a refused op writes nothing" ! -e op.out

# Every op has its entry here: whatever it says to a matrix of four numbers, it is a verdict on them and no
# failure of ours.
"$BINARY" op --list | sed 's/^integers/    integers/' >ops
for name in $(grep -o '^[a-z_0-9]*' ops | sort -u); do
    inputs=$(grep -A 1 "^$name\$" ops | sed -n '2{s/->.*//; s/[?!]//g; p}')
    integers=" $(sed -n "/^$name\$/,/^[a-z]/s/^ *integers: //p" ops) "
    given=()
    for word in $inputs; do
        case $integers in
            *" $word "*) given+=("$word:I32:2,2:$zero$zero$zero$zero") ;;
            *) given+=("$word:F32:2,2:$four") ;;
        esac
    done
    tensors op.in "${given[@]}"
    run op $name --in op.in --out op.out
    holds "deepseek op $name: exit code $code" $code != 1
done
holds "there are ops" "$(grep -c '^[a-z]' ops)" -gt 20

says 0 "dW (4,3)" op matmul --random
refused "no such input" op matmul --random --shape V=2,3
refused "shape requires" op matmul --shape x=2,3
says 0 "matmul .*numbers; worst" check matmul
says 0 "v3-nano .*numbers; worst" check --preset v3-nano --entries 1
refused "has no gradient" check topk
says 0 "rmsnorm -> y (2,8,32), r (16)" tape
refused "context 65" tape --context 65


finish

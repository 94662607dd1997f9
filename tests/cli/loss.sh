#!/usr/bin/env bash
# loss.sh BINARY: `deepseek loss`: the list, small batches with known results, and what is refused. Numbers are held
# against PyTorch in tests/oracle/check_losses.py. The last line is `N passed, N failed`.
. "$(dirname "$0")/shell.sh"
verb=loss match=-qF

# batch FILE NAME:SHAPE:NUMBERS...: a safetensors file. Numbers are those that `bytes` knows; integers: group
bytes() {
    case $1 in
        0) printf '\0\0\0\0' ;; 1) printf '\0\0\x80\x3f' ;; -1) printf '\0\0\x80\xbf' ;; 2) printf '\0\0\0\x40' ;;
        -2) printf '\0\0\0\xc0' ;; 0.5) printf '\0\0\0\x3f' ;; -0.5) printf '\0\0\0\xbf' ;; nan) printf '\0\0\xc0\x7f' ;;
        inf) printf '\0\0\x80\x7f' ;; i[0-9]) printf "\\x0${1#i}\\0\\0\\0" ;; i-1) printf '\xff\xff\xff\xff' ;;
    esac
}
batch() {
    local file=$1 header="" at=0 tensor name shape numbers x kind
    shift
    : >numbers
    for tensor in "$@"; do
        IFS=: read -r name shape numbers <<<"$tensor"
        kind=F32
        [[ $numbers != i* ]] || kind=I32
        for x in $numbers; do bytes "$x" >>numbers; done
        header+="${header:+,}\"$name\":{\"dtype\":\"$kind\",\"shape\":[$shape],\"data_offsets\":[$at,$(stat -c %s numbers)]}"
        at=$(stat -c %s numbers)
    done
    header="{$header}"
    { printf "\\x$(printf %02x $((${#header} % 256)))\\x$(printf %02x $((${#header} / 256)))\\0\\0\\0\\0\\0\\0%s" "$header"
      cat numbers; } >"$file"
}
# number FILE TENSOR INDEX: of what was written
number() {
    local header from length
    length=$(od -An -tu4 -N4 "$1")
    header=$(head -c $((8 + length)) "$1" | tail -c +9)
    from=$(sed -E "s/.*\"$2\": *\{[^}]*\"data_offsets\": *\[ *([0-9]+).*/\1/" <<<"$header")
    od -An -tf4 -j $((8 + length + from + 4 * $3)) -N4 "$1" | xargs
}
logp=logp:2,2:"-1 -2 -1 nan" mask=mask:2,2:"1 1 1 0" old=logp_old:2,2:"-1 -2 -1 nan" ref=logp_ref:2,2:"-1 -2 -1 nan"
reward=reward:2:"2 0" group=group:2:"i3 i3"
batch all "$logp" "$mask" "$old" "$ref" "$reward" "$group" values:2,2:"0 0 0 nan" values_old:2,2:"0 0 0 nan"

# ----------------------------------------------------------------------------------------------------- the list
accepted --list
for name in sft rft dpo ppo grpo distill; do
    holds "--list names $name" "$(grep -c "^$name " out)" = 1
done
says 0 "--set kl=k3" --list
accepted --list --json
holds "every objective has formula, source, reward and coefficient" \
    "$(grep -cE '"(formula|data_source|reward|gradient_coefficient)":' out)" -ge $((6 * 4))
says 0 "deepseek loss grpo" --help

# ------------------------------------------------------------------------------------------------ known results
io="--in all --out y"
accepted sft $io
holds "sft: the mean over outputs of means over tokens" "$(number y loss 0)" = 1.25
holds "sft: a token of two has a quarter" "$(number y dlogp 0)" = -0.25
holds "sft: the only token has half" "$(number y dlogp 2)" = -0.5
holds "sft: padding has no gradient" "$(number y dlogp 3)" = 0
accepted sft $io --set length=constant --set L=4
holds "sft: by a constant" "$(number y dlogp 2)" = -0.125
accepted rft $io
holds "rft: the output without reward has no gradient" "$(number y dlogp 2)" = 0
accepted dpo $io --set beta=1
holds "dpo: half of beta at the reference" "$(number y dlogp 0)" = -0.5
holds "dpo: the other way for the rejected" "$(number y dlogp 2)" = 0.5
accepted grpo $io
holds "grpo: A of rewards 2 and 0 is 1 and -1" "$(number y A 0) $(number y A 2)" = "1 -1"
holds "grpo: on policy, GC is A" "$(number y dlogp 0) $(number y dlogp 2)" = "-0.25 0.5"
accepted grpo $io --set std=0 --set beta=0 --set kl=unbiased --set delta=0.1 --set eps=10
accepted ppo $io
holds "ppo: the reward comes to all tokens" "$(number y A 0) $(number y A 1) $(number y A 2)" = "2 2 0"
holds "ppo: what the critic missed" "$(number y dvalues 0) $(number y dvalues 2)" = "-0.5 0"
batch steps "$logp" "$mask" "$old" "$ref" reward:2,2:"nan 1 -1 1" "$group"
accepted grpo --in steps --out y
holds "grpo: rewards by step, from the last one back" "$(number y A 0) $(number y A 2) $(number y A 3)" = "1 -1 0"

taught() {                              # taught FILE TEACHER_H TEACHER_W: a student of two ids without an opinion
    batch "$1" h:1,2,1:"0 nan" W:2,1:"1 -1" mask:1,2:"1 0" teacher_h:1,2,2:"$2" teacher_W:2,2:"$3"
}
four() { printf %.4f "$(number "$@")"; }
taught same "0 0 nan nan" "1 1 -1 2"
accepted distill --in same --out y
holds "distill: a teacher with the same distribution is 0 away" "$(number y loss 0) $(number y dh 0)" = "0 0"
taught sure "2 0 nan nan" "2 0 -2 0"    # logits 4 and -4: p = 0.9997
accepted distill --in sure --out y
holds "distill: KL of the teacher and the student" "$(four y loss 0)" = 0.6901
holds "distill: p - q of both ids" "$(four y dh 0)" = -0.9993
holds "distill: padding has no gradient" "$(number y dh 1)" = 0
accepted distill --in sure --out y --set kl=reverse
holds "distill: KL of the student and the teacher" "$(four y loss 0)" = 3.3072
accepted distill --in sure --out y --set kl=reverse --set temperature=8
holds "distill: temperature divides both logits, and the loss is not multiplied" "$(four y loss 0)" = 0.1201

# ------------------------------------------------------------------------------------------------------ refused
refused "of which objective"
hinted "loss --list"
refused "no objective 'grop'" grop $io
hinted "did you mean grpo"
refused "excludes" grpo --list
refused "requires" --json
refused "--in and --out are needed" grpo --in all
refused "no-such-file" grpo --in no-such-file --out y
refused "would be written over while it is read" grpo --in all --out all
refused "unknown setting of grpo" grpo $io --set epsilon=1
refused "unknown setting of sft" sft $io --set eps=1
refused "'much' is no number" grpo $io --set eps=much
refused "not between 0 and" grpo $io --set eps=-1
refused "not between 0 and" grpo $io --set beta=nan
refused "not between 0 and 1" ppo $io --set gamma=1.5
refused "not one of sequence, token, constant" grpo $io --set length=tokens
hinted "did you mean token"
refused "not one of none, sequence" dpo $io --set length=token
refused "not of the form" grpo $io --set eps
no() {                                  # no TENSOR PATTERN NAME SETTINGS...: without it
    local tensors=() tensor
    for tensor in "$logp" "$mask" "$old" "$ref" "$reward" "$group"; do
        [[ $tensor == "$1":* ]] || tensors+=("$tensor")
    done
    batch less "${tensors[@]}"
    refused "$2" "${@:3}" --in less --out y
}
no logp "no tensor 'logp'" sft
no mask "no tensor 'mask'" sft
no logp_old "no tensor 'logp_old'" grpo
no logp_ref "no tensor 'logp_ref'" dpo
no logp_ref "no tensor 'logp_ref', which is needed with beta above 0" grpo
no reward "no tensor 'reward'" rft
no reward "no tensor 'reward', which is needed where there is no A" grpo
no group "no tensor 'group'" grpo
no none "no tensor 'values_old', which is needed where there is no A" ppo
wrong_with() {                          # wrong_with TENSOR PATTERN NAME: with this instead
    local tensors=("$1") tensor
    for tensor in "$logp" "$mask" "$old" "$ref" "$reward" "$group"; do
        [[ $tensor == "${1%%:*}":* ]] || tensors+=("$tensor")
    done
    batch bad "${tensors[@]}"
    refused "$2" "$3" --in bad --out y
}
wrong_with logp:4:"-1 -1 -1 -1" "logp (4) is not (B,T)" sft
wrong_with logp_old:2,1:"-1 -1" "logp_old (2,1) is not (2,2)" grpo
wrong_with mask:2,1:"1 1" "mask (2,1) is not (2,2)" sft
wrong_with reward:2,2:"1 1 1 1" "reward (2,2) is not (2)" rft
wrong_with reward:1:"1" "reward (1) is not (2) or (2,2)" grpo
wrong_with group:1:"i1" "group (1) is not (2)" grpo
wrong_with group:2:"i-1 i1" "group: -1 is negative" grpo
wrong_with group:2:"1 1" "group holds numbers, not integers" grpo
wrong_with logp:2,2:"i1 i1 i1 i1" "logp holds integers" sft
wrong_with mask:2,2:"1 0.5 1 0" "neither 1 (counts) nor 0" sft
wrong_with mask:2,2:"0 0 0 0" "no token counts" sft
wrong_with mask:2,2:"1 1 0 0" "row 1 has no token that counts" dpo
wrong_with logp:2,2:"-1 nan -1 -1" "logp: nan at [0,1], where mask is 1" sft
wrong_with logp_old:2,2:"-1 inf -1 -1" "logp_old: inf at [0,1], where mask is 1" grpo
wrong_with reward:2:"1 nan" "reward: nan at [1]" grpo
wrong_with lopg:2,2:"-1 -1 -1 -1" "'lopg' is unknown" sft
hinted "did you mean logp"
misfit() {                              # misfit TENSOR PATTERN: distill with this instead
    local tensors=("$1") tensor
    for tensor in h:1,2,1:"0 nan" W:2,1:"1 -1" mask:1,2:"1 0" teacher_h:1,2,2:"0 0 nan nan" teacher_W:2,2:"1 1 1 1"; do
        [[ $tensor == "${1%%:*}":* ]] || tensors+=("$tensor")
    done
    batch bad "${tensors[@]}"
    refused "$2" distill --in bad --out y
}
misfit h:2:"1 1" "h (2) is not (B,T,d)"
misfit W:2,2:"1 1 1 1" "W (2,2) is not (V,1)"
misfit mask:2,1:"1 1" "mask (2,1) is not (1,2)"
misfit teacher_h:2,1,2:"1 1 1 1" "teacher_h (2,1,2) is not (1,2,d')"
misfit teacher_W:1,2:"1 1" "teacher_W (1,2) is not (2,2)"
misfit h:1,2,1:"nan 1" "h: nan at [0,0], where mask is 1"
misfit teacher_W:2,2:"1 1 1 nan" "teacher_W: nan at [3]"
misfit teacher_H:1,2,2:"1 1 1 1" "'teacher_H' is unknown"
refused "no tensor 'h', which distill needs" distill $io
refused "not one of forward, reverse" distill --in sure --out y --set kl=k3
refused "not between 0.01 and" distill --in sure --out y --set temperature=0
batch odd logp:3,1:"-1 -1 -1" logp_ref:3,1:"-1 -1 -1" mask:3,1:"1 1 1"
refused "odd number of rows" dpo --in odd --out y
mkdir model && touch model/config.json model/y
refused "belongs to a model" sft --in all --out model/y
refused "no-such-folder" sft --in all --out no-such-folder/y
rm -f y
refused "no pairs" dpo --in odd --out y
holds "what is refused writes nothing" ! -e y
finish

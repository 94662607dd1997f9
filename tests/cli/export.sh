#!/usr/bin/env bash
# export.sh BINARY: checkpoints of 16 bits and in shards, the census of any config.json, and the tokens that end a text.
. "$(dirname "$0")/shell.sh"

accepted train --preset v3-nano --batch 2 --context 16 --steps 2 --out run
holds "a run says what ends a text" "$(grep -c '"eos_token_id": 257' run/config.json run/generation_config.json | grep -c ':1')" = 2
holds "and names no token that training never saw" "$(grep -c '"bos_token_id": null' run/config.json)" = 1
holds "nor does its tokenizer" "$(grep -c '"post_processor": null' run/tokenizer.json)" = 1

# ----------------------------------------------------------------------------------------------------- export
says 0 "small: deepseek_v3, bf16" export --model run --out small --dtype bf16
holds "16 bits are half as long" "$(stat -c %s small/model.safetensors)" -lt $(($(stat -c %s run/model.safetensors) * 6 / 10))
holds "the type is said" "$(grep -c '"torch_dtype": "bfloat16"' small/config.json)" = 1
holds "the tokenizer comes along" "$(cmp run/tokenizer.json small/tokenizer.json)" = ""
accepted generate --model small --prompt Once --max-tokens 3
accepted export --model run --out shards --shard-size 100KB
holds "shards, not one file" ! -e shards/model.safetensors
holds "with an index" -s shards/model.safetensors.index.json
accepted export --model shards --out whole
holds "shards are the same model" "$(cmp run/model.safetensors whole/model.safetensors)" = ""
refused "config.json is already there" export --model run --out small
refused "config.json is already there" export --model run --out shards
mkdir words
echo '{"a": "tokenizer"}' >words/tokenizer.json
refused "tokenizer.json is already there" export --model run --out words
refused "dtype" export --model run --out new --dtype int8
refused "shard-size" export --model run --out new --shard-size many
refused "no-such-model" export --model no-such-model --out new
holds "what is refused leaves nothing" ! -e new
accepted train --preset v3-nano --batch 2 --context 16 --steps 1 --set gate=softmax --out edu
says 0 "no other program computes this model" export --model edu --out edu-16 --dtype f16

# ----------------------------------------------------------------------------------------------------- census
says 0 "routed experts" config --model run
says 0 "routed experts" config --model run/config.json
mkdir fp8
sed 's/"hidden_act"/"quantization_config": {"quant_method": "fp8"}, "hidden_act"/' run/config.json >fp8/config.json
says 0 "only counted: .*quantization_config" config --model fp8
refused "quantization_config" generate --model fp8
hinted "count its parameters"
sed 's/"deepseek_v3"/"gpt2"/' run/config.json >other.json
refused "unknown model_type 'gpt2'" config --model other.json
hinted "known: llama"

# -------------------------------------------------------------------------------------------- the end of a text
# Every token ends a text here, so the first one does, whichever it is; nearly none is the first of the list.
cp -r run stops
sed -i -E "s/\"eos_token_id\": *[0-9]+/\"eos_token_id\": [$(seq -s, 0 257)]/" stops/config.json
"$BINARY" generate --model stops --prompt a --temperature 0 --max-tokens 5 >out 2>err
holds "any token of the list ends a text" "$(cat out)" = a
cp run/config.json stops/config.json
echo "{\"eos_token_id\": [$(seq -s, 0 257)]}" >stops/generation_config.json
"$BINARY" generate --model stops --prompt a --temperature 0 --max-tokens 5 >out 2>err
holds "and so does one of generation_config.json" "$(cat out)" = a
accepted generate --model run --prompt "" --max-tokens 2
finish

#!/usr/bin/env bash
# libFuzzer (clang) on the readers of foreign files, FUZZ_SECONDS each.  fuzz.sh [NAME...]
set -eu
cd "$(dirname "$0")/../.."
mkdir -p build/fuzz
command -v clang++ >/dev/null || { echo "fuzz: clang++ with libFuzzer is needed (apt install clang)"; exit 1; }
sources_of() {
    case $1 in
        safetensors | config) echo src/base/files.cpp src/base/json.cpp src/base/utf8.cpp src/base/safetensors.cpp ;;
        tokenizer) echo tokenizer.cpp src/text/regex.cpp src/text/tokenizer_json.cpp src/base/files.cpp src/base/json.cpp src/base/utf8.cpp ;;
        lean | lean_bytes) echo src/lean/checker.cpp src/lean/syntax.cpp src/lean/theorems.cpp src/base/utf8.cpp tests/lean/second_opinion.cpp ;;
    esac
}
for name in ${@:-safetensors config tokenizer lean lean_bytes}; do
    target=tests/fuzz/${name%_bytes}.cpp                 # lean_bytes: plain bytes, not edits of valid proofs
    flags=$([ "$name" = lean_bytes ] && echo -DRAW_BYTES || true)
    clang++ -std=c++20 -O1 -g -fsanitize=fuzzer,address,undefined -I. -DHAVE_PCRE2 $flags "$target" $(sources_of "$name") \
        -lpcre2-8 -o "build/fuzz/$name"
    mkdir -p "build/fuzz/$name-corpus"
    seeds=""
    [ -d "tests/fuzz/seeds/$name" ] && seeds="tests/fuzz/seeds/$name"
    "build/fuzz/$name" -max_total_time="${FUZZ_SECONDS:-60}" -rss_limit_mb=2000 -timeout=10 -print_final_stats=1 \
        "build/fuzz/$name-corpus" $seeds 2>&1 | grep -E 'stat::number|ERROR|SUMMARY|DONE' | sed "s/^/$name: /"
    [ "${PIPESTATUS[0]}" = 0 ]
done

#!/usr/bin/env bash
# libFuzzer (clang) on the readers of foreign files, FUZZ_SECONDS each.
set -eu
cd "$(dirname "$0")/../.."
mkdir -p build/fuzz
for target in tests/fuzz/*.cpp; do
    name=$(basename "$target" .cpp)
    sources=$(sed -n 's|^//  *clang.*tests/fuzz/[a-z_]*\.cpp ||p' "$target")
    clang++ -std=c++20 -O1 -g -fsanitize=fuzzer,address,undefined -I. -DHAVE_PCRE2 "$target" $sources -lpcre2-8 -o "build/fuzz/$name"
    mkdir -p "build/fuzz/$name-corpus"
    seeds=""
    [ -d "tests/fuzz/seeds/$name" ] && seeds="tests/fuzz/seeds/$name"
    "build/fuzz/$name" -max_total_time="${FUZZ_SECONDS:-60}" -rss_limit_mb=2000 -timeout=10 -print_final_stats=1 \
        "build/fuzz/$name-corpus" $seeds 2>&1 | grep -E 'stat::number|ERROR|SUMMARY|DONE' | sed "s/^/$name: /"
    [ "${PIPESTATUS[0]}" = 0 ]
done

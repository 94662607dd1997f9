#!/usr/bin/env bash
# Fills build/gpu-carry with what a machine with a GPU may lack besides the CUDA Toolkit, CMake and a compiler: the
# headers of the libraries, and PCRE2 to link. A copy of this tree and that folder build there without a network:
#     cmake -S . -B build/gpu -DCUDA=on -DCMAKE_PREFIX_PATH=$PWD/build/gpu-carry     (make gpu-check does)
set -eu
cd "$(dirname "$0")/../.."
to=build/gpu-carry
rm -rf "$to"
mkdir -p "$to"
carry() {                                # carry FILE...: below a prefix, to the same place below $to
    local file prefix found
    for file in "$@"; do
        found=""
        for prefix in /usr /usr/local /opt/homebrew; do
            [ -n "$found" ] || [ ! -e "$prefix/$file" ] || found=$prefix
        done
        [ -n "$found" ] || { echo "gpu-carry: $file is not below /usr, /usr/local or /opt/homebrew; try make deps"; exit 1; }
        mkdir -p "$to/$(dirname "$file")"
        cp -RL "$found/$file" "$to/$file"
    done
}
carry include/doctest/doctest.h include/CLI include/nlohmann share/cmake/CLI11 share/cmake/nlohmann_json
library=$(find /usr/lib /usr/local/lib -name libpcre2-8.a 2>/dev/null | head -n 1)
if [ -n "$library" ]; then               # without it: no regexes, which the program can do without
    carry include/pcre2.h
    mkdir -p "$to/lib"
    cp "$library" "$to/lib"
fi
bytes=$(find "$to" -type f -printf '%s\n' | awk '{ sum += $1 } END { print sum }')
echo "gpu-carry: $(find "$to" -type f | wc -l) files, $((bytes / 1024)) KB in $to"
[ "$bytes" -lt 8000000 ] || { echo "gpu-carry: more than 8 MB"; exit 1; }

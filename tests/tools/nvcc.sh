#!/usr/bin/env bash
# nvcc must compile the CUDA sources unchanged, in float and in double.
set -eu
cd "$(dirname "$0")/../.."
nvcc=$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null || true)
[ -n "$nvcc" ] || { echo "nvcc: not installed here, nothing to check"; exit 0; }
mkdir -p build/nvcc
for f in deepseek.cu src/cuda/*.cu; do
    for real in float double; do
        "$nvcc" -std=c++20 -DREAL=$real -I. -arch=sm_80 -c "$f" -o "build/nvcc/$(basename "$f").$real.o"
        echo "nvcc $f $real: compiled"
    done
done

#!/usr/bin/env bash
# nvcc compiles and links the whole program and its tests for a GPU (sm_90), with no libraries but those that
# gpu_carry.sh carries to such a machine, and compiles the kernels in double. Kernels keep their numbers in registers:
# none may spill, nor have a large stack (build/nvcc-kernels.txt). Without a GPU the program must say so.
set -eu
cd "$(dirname "$0")/../.."
nvcc=$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null || true)
[ -n "$nvcc" ] || { echo "nvcc: not installed here, nothing to check"; exit 0; }
log=build/nvcc.log stack_bound=512
done_in() {
    echo "nvcc: $1 in $((SECONDS - start)) s"
    start=$SECONDS
}
wrong() {
    echo "nvcc: $*"
    exit 1
}
tests/tools/gpu_carry.sh
start=$SECONDS
# The debug preset: the host's half of the build is the smallest part of the matter, and nothing is inlined away.
cmake -S . -B build/nvcc -DPRESET=debug -DCUDA=on -DCUDA_ARCH=90 -DCMAKE_CUDA_FLAGS="-Xptxas -v" \
    -DCMAKE_PREFIX_PATH="$PWD/build/gpu-carry" -DCMAKE_FIND_USE_CMAKE_SYSTEM_PATH=OFF \
    -DCMAKE_FIND_USE_SYSTEM_ENVIRONMENT_PATH=OFF -DNVCC="$nvcc" -DCMAKE_CXX_COMPILER="$(command -v g++)" \
    -DCMAKE_MAKE_PROGRAM="$(command -v make)" -G "Unix Makefiles" -Wno-dev >"$log" 2>&1 ||
    { cat "$log"; wrong "CUDA=on does not configure"; }
done_in "CUDA=on configured"
find build/nvcc -name '*.cu.o' -delete                   # so that the log has every kernel
cmake --build build/nvcc -j "$(nproc)" >>"$log" 2>&1 ||
    { grep -E -A9 'error|Error|undefined' "$log" | head -n 60; wrong "CUDA=on does not build"; }
done_in "program and tests compiled and linked for sm_90"
strays=$(find build/nvcc -name '*.d' -exec cat {} + |
    grep -oE '/usr/(local/)?include/(doctest|CLI|nlohmann|boost|pcre2)[^ :]*' | sort -u || true)
[ -z "$strays" ] || wrong "not in build/gpu-carry, and used: $strays"

mkdir -p build/nvcc/double
for f in deepseek.cu src/cuda/*.cu; do
    "$nvcc" -std=c++20 -O3 -DREAL=double -DREAL_CUDA -I. -arch=sm_90 -Xptxas -v -c "$f" \
        -o "build/nvcc/double/$(basename "$f").o" >>"$log.double" 2>&1 || { cat "$log.double"; wrong "$f in double"; }
done
done_in "kernels compiled in double"

for real in "" .double; do
    awk -v real="${real#.}" '
        /Compiling entry function/ { split($0, part, "\047"); name = part[2] }
        /bytes stack frame/ { stack = $1; spill = $5 + $9 }
        /ptxas info *: Used/ { match($0, /Used [0-9]+/)
            print stack, spill, substr($0, RSTART + 5, RLENGTH - 5), name, real == "" ? "float" : real }' "$log$real"
done | c++filt | sort -k1,1nr -k3,3nr >build/nvcc-kernels.txt
rm -f "$log.double"
echo "nvcc: kernels with the largest stacks (bytes of stack, of spills, registers, name):"
head -n 3 build/nvcc-kernels.txt
awk -v bound="$stack_bound" '
    { stacks += $1 > 0; if ($3 > most) most = $3 }
    $1 > bound || $2 > 0 { print "nvcc: spills, or a stack above " bound " bytes: " $0; wrong = 1 }
    END { print "nvcc: " NR " kernels, " stacks + 0 " with a stack, at most " most " registers"
        exit wrong || NR == 0 }' build/nvcc-kernels.txt
if ! nvidia-smi -L >/dev/null 2>&1; then
    code=0
    build/nvcc/deepseek train --preset llm-nano --steps 1 --device cuda >/dev/null 2>build/nvcc.said || code=$?
    [ $code = 2 ] && grep -q '^deepseek: --device cuda: there is no ' build/nvcc.said && [ "$(wc -l <build/nvcc.said)" = 1 ] ||
        wrong "without a GPU: exit code $code, $(cat build/nvcc.said)"
    echo "nvcc: without a GPU: $(cat build/nvcc.said)"
fi

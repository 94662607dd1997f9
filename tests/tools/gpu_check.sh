#!/usr/bin/env bash
# What only a GPU can show, without a network, in one report: build/gpu-report.txt.
#     make gpu-carry                     first, where the libraries are: fills build/gpu-carry
#     tests/tools/gpu_check.sh [STEP...] then, on the machine with the GPU, in a copy of the tree with that folder:
#                                        all steps, or those named. Each has a time limit; all run, whatever failed.
# Without a GPU, or with GPU_CHECK_DEVICE=emulated, the same steps run on the CPU, shortened, to keep this file true.
set -u
cd "$(dirname "$0")/../.."
cores=$(env -u OMP_NUM_THREADS nproc)    # nproc reads it
export cores OMP_NUM_THREADS=1 PATH="$PATH:/usr/local/cuda/bin" logs=build/gpu-check
report=build/gpu-report.txt only=" $* " failed=0
mkdir -p "$logs"
[ "${GPU_CHECK_DEVICE:-}" = emulated ] || nvidia-smi -L >/dev/null 2>&1 || GPU_CHECK_DEVICE=emulated
if [ "${GPU_CHECK_DEVICE:-}" = emulated ]; then
    gpu="" cuda=auto float=build/release double=build/gradcheck
    parity="parity: swiglu*,checked: one NaN*" guards="-tc=rmsnorm*,softmax*" words="words: block_sum*"
    bench="--device cpu --preset v3-nano --batch 1 --context 16 --steps 1"
else
    gpu=yes cuda=on float=build/gpu-float double=build/gpu-double
    parity="parity*,checked*" guards="-sf=*tests/cpu/*,*tests/model/0*" words="words*"
    bench="--device cuda --preset v3-tiny --preset v3-small"
fi
export cuda float double parity guards words bench size="--batch 2 --context 24"

say() { tee -a "$report"; }
step() {                                 # step NAME SECONDS COMMANDS: in a shell of their own, the last line is the result
    local name=$1 limit=$2 start=$SECONDS code=0 verdict=ok
    case "$only" in "  " | *" $name "*) ;; *) return ;; esac
    timeout -k 5 "$limit" bash -euo pipefail -c "$3" >"$logs/$name.log" 2>&1 </dev/null || code=$?
    [ $code = 0 ] || verdict=FAILED
    case $code in 124 | 137) verdict="FAILED (over $limit s)" ;; esac
    printf '%-16s %-8s %4d s   %s\n' "$name" "$verdict" $((SECONDS - start)) \
        "$(grep -av '^$' "$logs/$name.log" | grep -a 'test cases:' || tail -n 1 "$logs/$name.log" | cut -c1-160)" | say
    [ $code = 0 ] && return
    failed=$((failed + 1))
    tail -n 15 "$logs/$name.log" | cut -c1-300 | sed 's/^/    | /' | say
}
gpu_step() {                             # one that means nothing without a GPU
    if [ -n "$gpu" ]; then step "$@"
    else case "$only" in "  " | *" $1 "*) printf '%-16s skipped          it needs a GPU\n' "$1" | say ;; esac
    fi
}

: >"$report"
{
    echo "gpu-check, $(date -u +%F), commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown)"
    if [ -n "$gpu" ]; then nvidia-smi --query-gpu=name,driver_version,memory.total,compute_cap --format=csv,noheader
    else echo "no GPU: a dry run of this script with the kernels emulated on the CPU"; fi
    echo "$cores cores, $(${CXX:-g++} --version | head -n 1), $(cmake --version | head -n 1)," \
        "nvcc $(nvcc --version 2>/dev/null | sed -n 's/.*release \([0-9.]*\).*/\1/p')"
    echo
} | say

build='
    options="-DPRESET=$preset -DCUDA=$cuda"
    if [ "$cuda" = on ]; then
        [ ! -d build/gpu-carry ] || options="$options -DCMAKE_PREFIX_PATH=$PWD/build/gpu-carry"
        ! command -v ninja || options="$options -G Ninja"
    fi
    cmake -S . -B $where $options
    cmake --build $where -j "$cores" --target $targets'
step build-float 300 "where=$float preset=release targets=all; $build"
step build-double 300 "where=$double preset=gradcheck targets=tests; $build"

step words 60 '$float/tests -tc="$words"'
gpu_step errors 60 '
    code=0
    $float/tests --no-skip -tc="words: a kernel that writes to nowhere*" || code=$?
    [ $code = 1 ]
    grep -q "^deepseek: CUDA: .*: cudaErrorIllegalAddress: " $logs/errors.log
    grep "the last kernel launched: writes_to_nowhere" $logs/errors.log'
step parity 150 '$float/tests -tc="$parity"'
step parity-double 150 '$double/tests -tc="$parity"'
step guards 240 'TEST_DEVICE=cuda $float/tests "$guards"'
step gradcheck 300 'TEST_DEVICE=cuda $double/tests "$guards"'

step checked 120 '
    for preset in llm-nano v3-nano; do
        rm -rf $logs/checked
        $float/deepseek train --device checked --preset $preset $size --steps 3 --out $logs/checked
    done
    echo "three steps each of llm-nano and v3-nano, every op compared with the CPU"'
step same-bits 120 '
    for preset in llm-nano v3-nano; do
        for run in once twice; do
            rm -rf $logs/$run
            $float/deepseek train --device cuda --preset $preset $size --steps 4 --out $logs/$run
        done
        cmp $logs/once/model.safetensors $logs/twice/model.safetensors
    done
    echo "two runs of four steps on cuda: the same bits in every weight"'

for tool in memcheck racecheck initcheck synccheck; do
    if [ -n "$gpu" ] && ! command -v compute-sanitizer >/dev/null; then
        printf '%-16s skipped          compute-sanitizer is not here\n' $tool | say
        continue
    fi
    gpu_step $tool 120 "
        rm -rf $logs/$tool
        compute-sanitizer --tool $tool --error-exitcode 9 $float/tests -tc=\"words: block_sum*,words: shared*\"
        compute-sanitizer --tool $tool --error-exitcode 9 $float/deepseek train --device cuda --preset v3-nano $size \\
            --steps 2 --out $logs/$tool"
done
rm -f $logs/bench.log
step bench 120 '$float/deepseek bench $bench'
[ ! -e $logs/bench.log ] || { echo; cat $logs/bench.log; } >>"$report"

echo | say
if [ $failed = 0 ]; then echo "gpu-check: every step passed" | say; else echo "gpu-check: $failed failed" | say; fi
echo "the report is in $report"
[ $failed = 0 ]

#!/usr/bin/env bash
# The laws of the house that a machine can check (DESIGN.md 3, 5 and 7). Prints file:line: what is wrong,
# and fails if anything is. Comments and strings are left out of account where a law is about code.
set -u
cd "$(dirname "$0")/../.."

# [1] The house, from below: a file includes only headers of its own floor or of floors below it. Floors
# 2 to 5, from the contract to the model, know nothing of files and texts (floor 1). A new file needs
# a place here.
house() {
    cat <<'END'
0 src/base/error.h src/base/numerics.h src/base/text.h src/base/parallel.h src/cpu/gemm.h src/tensor/pool.h src/base/progress.h src/cuda/cuda_on_cpu.h presets.inc
1 src/base/files.h src/base/files.cpp src/text/regex.h src/text/regex.cpp src/text/stories.h src/text/stories.cpp
1 src/text/tokenizer.h tokenizer.cpp src/text/tokenizer_json.cpp
1 src/lean/lean.h src/lean/checker.cpp src/lean/syntax.h src/lean/syntax.cpp src/lean/theorems.cpp
2 deepseek.h
3 src/tensor/kernels.h src/cpu/ops.cpp src/cpu/ops_no_grad.cpp src/cpu/fast.cpp deepseek.cu src/cuda/ops_no_grad.cu src/fast.cu src/cuda/device.cu
4 src/tensor/tape.cpp src/tensor/checked.h src/tensor/checked.cpp src/model/config.cpp
5 deepseek.cpp
6 src/text/corpus.cpp src/model/huggingface.cpp src/gguf.h src/gguf.cpp
7 train.cpp infer.cpp src/tasks.h src/tasks.cpp
8 src/reason.h src/reason.cpp src/verify.h src/verify.cpp
9 src/prover.h src/prover.cpp src/agent.h src/agent.cpp src/lab.h src/lab.cpp
9 src/cli/inspect.h src/cli/inspect.cpp src/cli/bench.cpp src/cli/tokenize.h src/cli/tokenize.cpp src/cli/lean.cpp
10 src/cli/main.cpp
END
}

list() { find "$@" -type f 2>/dev/null | sed 's|^\./||' | sort; }
find_in() {                                              # find_in PATTERN WHAT FILES
    local pattern=$1 what=$2
    shift 2
    grep -nHE -e "$pattern" "$@" | sed -E "s/^([^:]+:[0-9]+):.*/\\1: $what/"
}
report=$(mktemp)
trap 'rm -f "$report"' EXIT
in_code='\.(cpp|h|cu)$' in_texts='(\.(cpp|h|cu|sh|py|md|txt|preset|lab)|Makefile)$'
code=$( (list . -maxdepth 1; list src; list tests) | grep -E "$in_code" | sort -u)
texts=$( (list . -maxdepth 1; list src tests data notebooks) | grep -E "$in_texts" | sort -u)

{
    # shellcheck disable=SC2086
    awk -v house="$(house)" '
        function complain(what) { printf "%s:%d: %s\n", FILENAME, FNR, what }
        function resolve(from, header,   folder) {       # its path from the top of the tree
            if (header ~ /^\.\.\//) { sub(/^\.\.\//, "", header); return header }
            if (header in floor) return header
            folder = from
            if (!sub(/\/[^\/]*$/, "", folder)) return header
            return folder "/" header
        }
        BEGIN {
            rows = split(house, row, "\n")
            for (i = 1; i <= rows; i++) {
                n = split(row[i], word, " ")
                for (k = 2; k <= n; k++) floor[word[k]] = word[1] + 0
            }
        }
        FNR == 1 {
            in_comment = 0
            tests = FILENAME ~ /^tests\//
            cuda = FILENAME ~ /\.cu$/
            if (!tests && !(FILENAME in floor)) complain("has no floor in the house of tests/tools/lint.sh")
        }
        {
            columns = $0
            gsub(/[\200-\277]/, "", columns)             # bytes of UTF-8 that begin no character
            if (length(columns) > 110) complain("a line of " length(columns) " columns, more than 110")
            if (/\t/) complain("a tab")
            if (/[ \t]$/) complain("blanks at the end of the line")
            text = $0
            if (match(text, /^[ \t]*#[ \t]*include[ \t]*"[^"]+"/)) {
                header = text
                sub(/^[^"]*"/, "", header)
                sub(/".*/, "", header)
                header = resolve(FILENAME, header)
                if (!tests) {
                    mine = floor[FILENAME]
                    if (!(header in floor)) complain("includes " header ", which has no floor in the house")
                    else if (floor[header] > mine) complain("includes " header ", which is above it")
                    else if (mine >= 2 && mine <= 5 && floor[header] == 1)
                        complain("includes " header ": tensors, ops and models know no files and texts")
                }
                next
            }
            if (text ~ /include[ \t]*[<"](Eigen|unsupported\/Eigen)\// && FILENAME != "src/cpu/fast.cpp")
                complain("only src/cpu/fast.cpp includes Eigen")
            gsub(/\\["\\]/, "", text)                    # from here on: code without strings and comments
            gsub(/"[^"]*"/, "\"\"", text)
            gsub(/'"'"'[^'"'"']*'"'"'/, "0", text)
            if (in_comment && !sub(/^.*\*\//, "", text)) next
            in_comment = 0
            sub(/\/\/.*/, "", text)
            gsub(/\/\*[^*]*\*\//, "", text)
            if (sub(/\/\*.*/, "", text)) in_comment = 1
            if (cuda && text ~ /__shared__/) complain("__shared__: kernels say SHARED(type, name)")
            if (cuda && text ~ /__syncthreads/) complain("__syncthreads: kernels say barrier()")
            if (text ~ /__(expf|logf|sinf|cosf|fdividef|powf)|rsqrtf?[ ]*\(/ && FILENAME !~ /cuda_on_cpu.h$/)
                complain("fast maths: another result on each device")
            if (cuda && text ~ /atomic(Add|Sub|Max|Min|CAS|Exch)|atomic<(float|double|real)>/)
                complain("atomics: sums of numbers have a fixed order")
            if (text ~ /#pragma omp.*(atomic|reduction)/ && text !~ /simd/)
                complain("a sum whose order depends on the threads")
            if (text ~ /goto /) complain("goto")
            if (statements(text) > 1) complain("more than one statement on a line")
        }
        function statements(text,   i, c, depth, n) {    # semicolons outside of parentheses
            if (text ~ /(^|[ \t])(struct|class|union|enum)[ \t{]|^[ \t]*#|\\$/) return 0
            if (text ~ /^[ \t]*(case .*|default):/)     # a row of a table
                sub(/;[ ]*(break|return[^;]*);[ ]*$/, ";", text)
            gsub(/;[ ]*\}[})]*;/, ";", text)            # a one-line body, and the end of what it stands in
            for (i = 1; i <= length(text); i++) {
                c = substr(text, i, 1)
                if (c == "(" || c == "[") depth++
                if (c == ")" || c == "]") depth--
                if (c == ";" && depth <= 0) n++
            }
            return n
        }
    ' $code
    # shellcheck disable=SC2086
    {
        find_in '\b(TOD[O]|FIXM[E]|XX[X])\b' 'unfinished business belongs into an issue' $texts
        find_in '(^|[^A-Za-z0-9_.])/(wor[k]|roo[t]|hom[e])/' 'a path of one machine' $texts
        find_in 'add_(option|flag)\( *"([^"]*,)?-[A-Za-z0-9][",]' 'a single-letter option' src/cli/main.cpp
        find_in '^[^#]*(-use_fas[t]_math|-ff[a]st-math|-Of[a]st|-DNDE[B]UG)' 'fast maths, or no asserts' \
            CMakeLists.txt Makefile $(list tests/tools -name '*.sh')
    }
} >"$report"
sort -t: -k1,1 -k2,2n "$report"
found=$(wc -l <"$report")
if [ "$found" != 0 ]; then
    echo "lint: $found found"
    exit 1
fi
echo "lint: $(wc -w <<<"$code") files of code, $(wc -w <<<"$texts") of text: nothing found"

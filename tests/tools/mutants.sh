#!/usr/bin/env bash
# Do the tests find planted bugs? Each mutant of tests/mutants.txt (mutants_common.sh explains its fields) is
# planted in a copy of the sources under build/mutants; its file is compiled, and its tests must fail, under
# each pattern. A mutant also fails us if its line is no longer there, if it does not compile, or if the unharmed
# program fails its tests, or has none of that name.
#
#   tests/tools/mutants.sh [NAME...]     all of them, or these; MUTANTS=file reads another list
set -u
cd "$(dirname "$0")/../.."
. tests/tools/mutants_common.sh
export OMP_NUM_THREADS=1
where=build/mutants
list=${MUTANTS:-tests/mutants.txt}
mkdir -p "$where"
sync_tree "$where/tree" || exit 1
rm -rf "$where/kept"
list_mutants "$list" >"$where/list" || exit 1

run_tests() { timeout "${MUTANT_SECONDS:-300}" "$where/$1/tests" -tc="$2" >"$where/run.log" 2>&1; }

# The unharmed program must be built, must have tests under the pattern, and must pass them.
declare -A built healthy
build_healthy() {                                        # build_healthy PRESET
    if [ -n "${built[$1]+known}" ]; then return; fi
    built[$1]=yes
    if build_in "$where" "$1" tests; then return; fi
    grep -E 'error|Error' -A 3 "$where/$1.log" | head -n 20
    echo "mutants: the unharmed program does not build: $where/$1.log"
    exit 1
}
check_healthy() {                                        # check_healthy PRESET PATTERN: sets `cause`
    local key="$1|$2"
    if [ -z "${healthy[$key]+known}" ]; then
        healthy[$key]=""
        if ! run_tests "$1" "$2"; then healthy[$key]="the unharmed program fails \"$2\""
        elif ! grep -qE 'test cases: +[1-9]' "$where/run.log"; then healthy[$key]="no test is called \"$2\""
        fi
    fi
    cause=${healthy[$key]}
}

# One mutant, from planting to restoring: sets `cause`, empty if a test failed under each of `patterns`.
try_mutant() {                                           # try_mutant FILE LINE AFTER WRONG PRESET
    local file=$1 line=$2 after=$3 wrong=$4 preset=$5 object pattern
    local kept="$where/kept"
    mkdir -p "$kept"
    build_healthy "$preset"
    for pattern in "${patterns[@]}"; do
        check_healthy "$preset" "$pattern"
        [ -z "$cause" ] || return
    done
    cause=$(plant "$where/tree/$file" "$line" "$after" "$wrong" 2>&1 >"$kept/planted") || return
    cause=""
    object="$where/$preset/CMakeFiles/core.dir/$file.o"
    cp -p "$where/tree/$file" "$kept/source"
    cp -p "$where/$preset/tests" "$kept/tests"
    [ ! -f "$object" ] || cp -p "$object" "$kept/object"
    cp "$kept/planted" "$where/tree/$file"
    if ! build_in "$where" "$preset" tests; then
        cp "$where/$preset.log" "$where/failed.log"
        cause="does not compile: $where/failed.log"
    fi
    for pattern in "${patterns[@]}"; do
        [ -z "$cause" ] || break
        if run_tests "$preset" "$pattern"; then cause="NOT CAUGHT by \"$pattern\""; fi
    done
    cp -p "$kept/source" "$where/tree/$file"             # with its old date, as its object
    if [ -f "$kept/object" ]; then
        cp -p "$kept/object" "$object"
        cp "$kept/tests" "$where/$preset/tests"
    else                                                 # a header: who includes it is compiled once more
        touch "$where/tree/$file"
        build_in "$where" "$preset" tests
    fi
    rm -rf "$kept"
}

passed=0 failed=0 table=""
while IFS=$'\037' read -r name file line after wrong preset tests seen <&3; do
    if [ $# -gt 0 ]; then
        case " $* " in *" $name "*) ;; *) continue ;; esac
    fi
    IFS=, read -ra patterns <<<"$tests"
    for i in "${!patterns[@]}"; do patterns[i]=$(sed 's/^ *//; s/ *$//' <<<"${patterns[i]}"); done
    start=$SECONDS cause=""
    try_mutant "$file" "$line" "$after" "$wrong" "$preset"
    if [ -z "$cause" ]; then
        passed=$((passed + 1))
        verdict="caught by $tests"
    else
        failed=$((failed + 1))
        verdict="FAILED: $cause"
    fi
    row=$(printf '%-34s %-13s %4ds  %s' "$name" "$file" $((SECONDS - start)) "$verdict")
    echo "$row"
    table+="$row"$'\n'
done 3<"$where/list"
if [ $((passed + failed)) = 0 ]; then
    echo "mutants: none in $list is called $*"
    exit 1
fi
if [ $failed != 0 ]; then
    echo
    grep 'FAILED:' <<<"$table"
fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]

#!/usr/bin/env bash
# Runs the built test suites: float (with CUDA, emulated where there is no GPU), double, and the command line. Says
# how many test cases passed and failed, all together, and fails if any failed.
set -u
cd "$(dirname "$0")/../.."
export OMP_NUM_THREADS=1
passed=0 failed=0
count() {                                                # count NAME LOG STATUS: reads doctest's closing line
    local line p f
    line=$(grep -aE '^\[doctest\] test cases:' "$2" | tail -n 1)
    p=$(sed -E 's/.*\| *([0-9]+) passed.*/\1/' <<<"$line")
    f=$(sed -E 's/.*\| *([0-9]+) failed.*/\1/' <<<"$line")
    if [ -z "$line" ] || { [ "$3" != 0 ] && [ "${f:-0}" = 0 ]; }; then p=${p:-0} f=1; fi
    passed=$((passed + p)) failed=$((failed + f))
    printf '%-28s %s passed, %s failed\n' "$1" "$p" "$f"
    if [ "$f" != 0 ]; then cat "$2"; fi
}
for suite in release gradcheck; do
    log=build/$suite-tests.log
    build/$suite/tests >"$log" 2>&1
    count "$suite" "$log" $?
done
if build/release/tests -tc="no test has this name" >build/empty-filter.log 2>&1; then
    echo "a filter that matches no test passes"
    failed=$((failed + 1))
fi
for script in tests/cli/*.sh; do
    [ "$script" != tests/cli/shell.sh ] || continue      # what the others share
    cli=$(bash "$script" build/release/deepseek) || true
    line=$(tail -n 1 <<<"$cli")
    printf '%-28s %s\n' "$(basename "$script" .sh)" "$line"
    if [[ "$line" =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]]; then
        passed=$((passed + BASH_REMATCH[1])) failed=$((failed + BASH_REMATCH[2]))
    else
        failed=$((failed + 1))
    fi
    case "$line" in *" 0 failed") ;; *) echo "$cli" ;; esac
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]

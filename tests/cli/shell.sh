# shell.sh: what the command-line tests share. Sourced with the path of the binary; goes into a folder of its own.
# Each test ends with `finish`, whose last line is `N passed, N failed`.
set -eu
[ $# = 1 ] && [ -x "$1" ] || { echo "usage: $0 BINARY"; exit 2; }
BINARY=$(realpath "$1")
HERE=$(mktemp -d)
trap 'rm -rf "$HERE"' EXIT
cd "$HERE"
export OMP_NUM_THREADS=1 XDG_CACHE_HOME=$HERE/cache
passed=0 failed=0
verb=""                                 # in front of all arguments
input=/dev/null                         # the standard input
match=-qi                               # how grep reads patterns; -qF: to the letter

pass() { passed=$((passed + 1)); }
wrong() {                               # wrong WHAT: count it, show what was said
    failed=$((failed + 1))
    echo "FAILED: $1"
    cat out err 2>/dev/null | head -c 1000 | sed 's/^/    /'
}

# run ARGUMENTS...: sets code. In 4 GiB of address space: who asks for more on a file's word fails here.
run() {
    code=0
    (ulimit -v 4194304 -c 0 && exec timeout 30 "$BINARY" $verb "$@" >out 2>err <"$input") || code=$?
}

# refused PATTERN ARGUMENTS...: exit code 2, `deepseek: ` and the pattern in the first line, a hint at most
refused() {
    local pattern=$1 lines
    shift
    run "$@"
    lines=$(wc -l <err)
    if [ $code != 2 ]; then wrong "deepseek $verb $*: exit code $code, not 2"
    elif [ "$lines" != 1 ] && [ "$lines" != 2 ]; then wrong "deepseek $verb $*: $lines lines, not one and a hint"
    elif LC_ALL=C grep -q '[[:cntrl:]]' err; then wrong "deepseek $verb $*: control characters in the message"
    elif ! head -1 err | grep -q "^deepseek: "; then wrong "deepseek $verb $*: no 'deepseek: ' in front"
    elif ! head -1 err | grep $match -e "$pattern"; then wrong "deepseek $verb $*: the error does not name '$pattern'"
    else pass
    fi
}
hinted() {                              # hinted PATTERN: the last refusal's second line says this
    if sed -n 2p err | grep $match -e "$1"; then pass; else wrong "no hint of '$1'"; fi
}
accepted() {
    run "$@"
    if [ $code = 0 ]; then pass; else wrong "deepseek $verb $*: exit code $code, not 0"; fi
}
says() {                                # says CODE PATTERN ARGUMENTS...: this exit code, and the pattern is printed
    local wanted=$1 pattern=$2
    shift 2
    run "$@"
    if [ $code != "$wanted" ]; then wrong "deepseek $verb $*: exit code $code, not $wanted"
    elif ! grep $match -e "$pattern" out err; then wrong "deepseek $verb $*: does not say '$pattern'"
    else pass
    fi
}
holds() {                               # holds WHAT CONDITION...: of the test command
    local what=$1
    shift
    if test "$@"; then pass; else wrong "$what"; fi
}
finish() {
    echo "$passed passed, $failed failed"
    [ "$failed" = 0 ]
}

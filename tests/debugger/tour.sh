#!/usr/bin/env bash
# Takes the tour of notebooks/DEBUGGING.md in gdb and compares what gdb says with what the page says:
#
#     tests/debugger/tour.sh build/debug/deepseek [--update]
#
# A block of the page that begins with ```gdb is part of a session; a line  $ gdb ... --args PROGRAM ...
# begins a new one, with the given binary in place of PROGRAM. After a line  (gdb) command  stands
# what it prints: every line must come, in this order. Line numbers, addresses and folders may differ;
# numbers may, in their fourth digit. --update writes what gdb said into the page instead; read the
# difference before you keep it.
set -u
binary=$(realpath "${1:?the debug binary}")
cd "$(dirname "$0")/.."
page=notebooks/DEBUGGING.md
update=0
[ "${2:-}" != --update ] || update=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# One gdb script a session: session.N, its program's arguments in args.N. Before each command a mark
# with its number.
awk -v work="$work" '
    /^```gdb/ { inside = 1; next }
    /^```/ { inside = 0 }
    !inside { next }
    /^\$ gdb/ {
        session++
        sub(/^.*--args [^ ]+ /, "")
        print >(work "/args." session)
        next
    }
    /^\(gdb\) / {
        command++
        print "echo \\n@@@" command "\\n\n" substr($0, 7) >(work "/session." session)
    }' "$page"

: >"$work/said"
for script in "$work"/session.*; do
    [ -f "$script" ] || { echo "tour: no gdb session in $page"; exit 1; }
    read -ra args <"$work/args.${script##*.}"
    { echo "set pagination off"; echo "set confirm off"; echo "set width 0"
      echo "set filename-display basename"; echo "set debuginfod enabled off"; cat "$script"; } >"$script.gdb"
    OMP_NUM_THREADS=1 timeout 300 gdb -nx -q -batch -x tests/debugger/gdb_printers.py -x "$script.gdb" \
        --args "$binary" "${args[@]}" >>"$work/said" 2>&1
done
noise='^$|^\[Thread debugging|^Using host libthread_db|^\[New Thread|^\[Switching to'
grep -vE "$noise" "$work/said" | expand >"$work/clean"

awk -v update="$update" '
    function plain(text) {                               # without what may differ
        gsub(/0x[0-9a-f]+/, "ADDRESS", text)
        gsub(/[A-Za-z_0-9.\/-]*\//, "", text)
        gsub(/\.(cpp|cu|h):[0-9]+/, ".SOURCE", text)
        gsub(/, line [0-9]+\.?/, "", text)
        sub(/^[0-9]+ +/, "", text)
        sub(/ *\/\/.*$/, "", text)
        gsub(/ +/, " ", text)
        sub(/^ /, "", text)
        sub(/ $/, "", text)
        return text
    }
    function same(a, b,   x, y, difference, allowed) {   # numbers to three digits, integers exactly
        a = plain(a)
        b = plain(b)
        while (match(a, /-?[0-9]+(\.[0-9]+)?(e[-+]?[0-9]+)?/)) {
            x = substr(a, RSTART, RLENGTH)
            if (substr(b, 1, RSTART - 1) != substr(a, 1, RSTART - 1)) return 0
            b = substr(b, RSTART)
            a = substr(a, RSTART + RLENGTH)
            if (!match(b, /^-?[0-9]+(\.[0-9]+)?(e[-+]?[0-9]+)?/)) return 0
            y = substr(b, 1, RLENGTH)
            b = substr(b, RLENGTH + 1)
            difference = x > y + 0 ? x - y : y - x
            allowed = x !~ /[.e]/ && y !~ /[.e]/ ? 0 : 0.002 * (x < 0 ? -x : x) + 0.00001
            if (difference > allowed) return 0
        }
        return a == b
    }
    function compare(expected,   i) {                    # a line of the page with the rest of what gdb said
        for (i = at; i <= lines[command]; i++)
            if (same(expected, said[command, i])) { at = i + 1; compared++; return }
        if (!failed++) print "tour: after `" text "` the page says\n    " expected "\nand gdb says"
        else if (failed > 1) return
        for (i = 1; i <= lines[command]; i++) print "    " said[command, i]
        if (!lines[command]) print "    nothing"
    }
    FNR == NR {
        if (/^@@@/) { n = substr($0, 4) + 0; next }
        said[n, ++lines[n]] = $0
        next
    }
    {
        if (/^```gdb/) { inside = 1; if (update) print; next }
        if (/^```/) { inside = 0; if (update) print; next }
        if (!inside) { if (update) print; next }
        if (/^\$ gdb/) { if (update) print; next }
        if (/^\(gdb\) /) {
            command++
            text = $0
            at = 1
            if (update) { print; for (i = 1; i <= lines[command]; i++) print said[command, i] }
            next
        }
        if (!update && /[^ ]/) compare($0)
    }
    END {
        if (update) exit 0
        if (!failed) print "tour: " command " commands, " compared " lines of output, as the page says"
        exit failed > 0 || !compared
    }' "$work/clean" "$page" >"$work/result"
status=$?
if [ "$update" = 1 ]; then cp "$work/result" "$page"; echo "tour: $page is written anew"
else cat "$work/result"
fi
exit $status

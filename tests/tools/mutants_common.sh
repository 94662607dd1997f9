# mutants_common.sh: what mutants.sh and break.sh share. Sourced from the top of the tree.
#
# tests/mutants.txt holds a block of lines for each planted bug, blocks apart by an empty line:
#   name:    one word
#   file:    the file that gets the bug
#   line:    the line as it stands in the file, without indentation and closing comment; it stands there once
#   after:   (optional) a line that stands there once: the first `line:` below it is meant
#   wrong:   the line that replaces it; nothing: the line is removed
#   preset:  (optional) the build that the tests need; gradcheck if not given
#   tests:   patterns of doctest's --test-case, by commas; under each, a test must fail
#   seen:    where this bug really happened, or who says that it does

# Every mutant on one line: name, file, line, after, wrong, preset, tests, seen, apart by the byte 31.
list_mutants() {
    awk -v file="$1" '
        function complain(what) { print file ": " what >"/dev/stderr"; bad = 1 }
        function flush(   i, row) {
            if (!n) return
            for (i in need) if (!(need[i] in field)) complain("mutant " field["name"] ": no " need[i] ":")
            if (field["name"] in seen) complain("mutant " field["name"] " stands there twice")
            seen[field["name"]] = 1
            if (!("preset" in field)) field["preset"] = "gradcheck"
            row = field["name"]
            for (i = 2; i <= n_order; i++) row = row "\037" field[order[i]]
            print row
            delete field
            n = 0
        }
        BEGIN {
            split("name file line wrong tests seen", need, " ")
            n_order = split("name file line after wrong preset tests seen", order, " ")
            for (i in order) known[order[i]] = 1
        }
        /^#/ { next }
        /^[ \t]*$/ { flush(); next }
        !/^[a-z]+:/ { complain("line " NR ": not `field: value`"); next }
        {
            key = substr($0, 1, index($0, ":") - 1)
            value = substr($0, index($0, ":") + 1)
            gsub(/^ +| +$/, "", value)
            if (!(key in known)) complain("line " NR ": unknown field " key)
            if (key in field) complain("line " NR ": a second " key ": in one mutant")
            field[key] = value
            n++
        }
        END { flush(); exit bad }' "$1"
}

# plant FILE LINE AFTER WRONG >out: the file with the bug. Says why and fails if the line is not there once.
plant() {
    LINE="$2" AFTER="$3" WRONG="$4" awk '
        function code(text) {                            # without indentation and closing comment
            sub(/^[ \t]+/, "", text)
            sub(/[ \t]+\/\/.*$/, "", text)
            sub(/[ \t]+$/, "", text)
            return text
        }
        function refuse(what, times) {
            print what " stands there " times + 0 " times" >"/dev/stderr"
            exit 1
        }
        { text[NR] = $0 }
        END {
            line = code(ENVIRON["LINE"])
            after = code(ENVIRON["AFTER"])
            from = 1
            for (i = 1; after != "" && i <= NR; i++)
                if (code(text[i]) == after) { anchors++; from = i + 1 }
            if (after != "" && anchors != 1) refuse("the line of `after:`", anchors)
            for (i = from; i <= NR; i++)
                if (code(text[i]) == line && !found++) at = i
            if (!found || (after == "" && found > 1)) refuse("the line", found)
            for (i = 1; i <= NR; i++) {
                if (i != at) { print text[i]; continue }
                match(text[i], /^[ \t]*/)
                print substr(text[i], 1, RLENGTH) ENVIRON["WRONG"]
            }
        }' "$1"
}

list_sources() {
    find CMakeLists.txt ./*.cpp ./*.h ./*.cu src tests data -type f ! -path "tests/tools/*" |
        sed "s,^\\./,," | sort
}

# sync_tree DIR: DIR becomes a copy of the sources. A file that did not change is left alone, and so its object.
sync_tree() {
    local f
    mkdir -p "$1"
    list_sources | while IFS= read -r f; do
        cmp -s "$f" "$1/$f" && continue
        mkdir -p "$1/$(dirname "$f")"
        cp "$f" "$1/$f"
    done
    comm -13 <(list_sources) <(cd "$1" && list_sources) | while IFS= read -r f; do rm "$1/$f"; done
}

# build_in DIR PRESET TARGET: quietly; the log is DIR/PRESET.log.
build_in() {
    local log="$1/$2.log"
    : >"$log"
    if [ ! -f "$1/$2/Makefile" ]; then
        cmake -S "$1/tree" -B "$1/$2" -G "Unix Makefiles" -DPRESET="$2" >>"$log" 2>&1 || return 1
    fi
    make -C "$1/$2" -j "${JOBS:-$(nproc)}" "$3" >>"$log" 2>&1
}

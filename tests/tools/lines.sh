#!/usr/bin/env bash
# The budgets (DESIGN.md 3): a file has at most 1,300 lines, a function at most 60; main and what is a
# table rather than a text, at most 100. Prints a table of all files, and what the core adds up to. A
# smoke alarm, not a target.
set -u
cd "$(dirname "$0")/../.."

# Functions that are tables: file, name, why.
tables='
src/cli/main.cpp          main                  the list of verbs
src/model/config.cpp        config_fields         one row a field
tests/text/stories.cpp     Ledger::play          one case an event: what the world allows
'

list() { find "$@" -type f 2>/dev/null | sed 's|^\./||' | grep -E '\.(cpp|h|cu)$' | sort; }
# shellcheck disable=SC2046
awk -v tables="$tables" '
    function finish_file() {
        if (file == "") return
        core = file ~ /^[^\/]*$/ ||
               file ~ /^src\/(ops|act|tape|fast|gemm|numerics|checked|twins|error|parallel|pool)\./
        room = core ? "core" : file ~ /^src\// ? "src" : "tests"
        files[room]++
        sum[room] += count
        printf "%-26s %6d %6d   %s\n", file, count, functions, longest ? longest " " longest_name : ""
        if (count > 1300) bad[++n_bad] = file ":" count ": a file of " count " lines, more than 1,300"
    }
    function end_of_function(   name, lines, limit) {
        lines = FNR - start + 1
        name = head
        sub(/[ \t]*\(.*/, "", name)
        sub(/^.*[ \t*&]/, "", name)
        functions++
        if (lines > longest) { longest = lines; longest_name = name }
        limit = name == "main" || (file " " name) in table ? 100 : 60
        if (lines > limit) bad[++n_bad] = file ":" start ": " name " has " lines " lines, more than " limit
    }
    BEGIN {
        rows = split(tables, row, "\n")
        for (i = 1; i <= rows; i++) if (split(row[i], word, " ") >= 2) table[word[1] " " word[2]] = 1
        print "file                        lines  functions, the longest"
    }
    FNR == 1 {
        finish_file()
        file = FILENAME
        depth = functions = longest = count = in_comment = in_raw = skip = 0
        head = longest_name = ""
    }
    {
        count++
        text = $0
        if (in_raw) {                                    # R"name( ... )name"
            at = index(text, raw_end)
            if (!at) next
            text = "\"\"" substr(text, at + length(raw_end))
            in_raw = 0
        }
        if (match(text, /R"[a-z]*\(/)) {
            raw_end = ")" substr(text, RSTART + 2, RLENGTH - 3) "\""
            rest = substr(text, RSTART + RLENGTH)
            at = index(rest, raw_end)
            text = substr(text, 1, RSTART - 1) "\"\"" (at ? substr(rest, at + length(raw_end)) : "")
            in_raw = !at
        }
        gsub(/\\["\\]/, "", text)
        gsub(/"[^"]*"/, "\"\"", text)
        gsub(/'"'"'[^'"'"']*'"'"'/, "0", text)
        if (in_comment && !sub(/^.*\*\//, "", text)) next
        in_comment = 0
        sub(/\/\/.*/, "", text)
        gsub(/\/\*[^*]*\*\//, "", text)
        if (sub(/\/\*.*/, "", text)) in_comment = 1
        if (skip || text ~ /^[ \t]*#/) {                 # a preprocessor line, with those it continues on
            skip = text ~ /\\$/
            next
        }
        for (i = 1; i <= length(text); i++) {
            c = substr(text, i, 1)
            if (c == "{") {
                kind = "other"
                if (depth == 0 || open[depth] == "room") {
                    if (head ~ /\)[^=]*$/ && head !~ /(^|[^=!<>])=[^=]/ || head ~ /operator/)
                        kind = "function"
                    else if (head ~ /(namespace|struct|class|union|extern)([ \t]|$)/) kind = "room"
                    if (kind == "function") start = head_line
                }
                open[++depth] = kind
                if (kind == "room") head = ""
            } else if (c == "}") {
                if (depth > 0 && open[depth] == "function") end_of_function()
                if (depth > 0) depth--
                if (depth == 0 || open[depth] == "room") head = ""
            } else if (depth == 0 || open[depth] == "room") {
                if (c == ";") head = ""
                else {
                    if (head == "" && c != " ") head_line = FNR
                    if (head != "" || c != " ") head = head c
                }
            }
        }
        if (head != "") head = head " "
    }
    END {
        finish_file()
        print ""
        printf "core: the top level, ops and tape %7d lines in %d files\n", sum["core"], files["core"]
        printf "the rest of the engine room       %7d lines in %d files\n", sum["src"], files["src"]
        printf "tests                             %7d lines in %d files\n", sum["tests"], files["tests"]
        for (i = 1; i <= n_bad; i++) print bad[i]
        print "lines: " (n_bad ? n_bad " over the budget" : "within the budget")
        exit n_bad > 0
    }' $(list . -maxdepth 1; list src; list tests)

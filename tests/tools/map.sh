#!/usr/bin/env bash
# Where is which equation? Collects the tags  // V2 (9)  of the sources, writes notebooks/MAP.md, and fails on
# an equation of data/equations.txt that has neither a tag nor a reason, and on a tag the list does not know.
# A tag is a paper's short name and numbers, in a comment: V3 (21)(22), V3 (17)-(20), V2 (11) and (19).
set -u
cd "$(dirname "$0")/../.."
sources="deepseek.h deepseek.cpp train.cpp infer.cpp src/tensor/ops.h src/cpu/ops.cpp src/cpu/sequence.cpp src/cpu/ops_no_grad.cpp src/model/config.h src/model/config.cpp"
mkdir -p notebooks

# shellcheck disable=SC2086
awk -v list=data/equations.txt '
    function trim(text) { gsub(/^[ \t]+|[ \t]+$/, "", text); return text }
    function complain(text) { print text >"/dev/stderr"; wrong++ }
    function found(key,   place) {                       # a line of code comes before a lone comment
        place = "[" FILENAME ":" FNR "](../" FILENAME "#L" FNR ")"
        if (!(key in says)) { complain(FILENAME ":" FNR ": " key " is not in " list); return }
        if (index(in_code[key] in_essay[key], place)) return
        if ($0 ~ /^[ \t]*\/\//) in_essay[key] = in_essay[key] (in_essay[key] ? ", " : "") place
        else in_code[key] = in_code[key] (in_code[key] ? ", " : "") place
    }
    function tags(text,   paper, n, last, range) {
        while (match(text, /(^|[^A-Za-z0-9-])[A-Z][A-Za-z0-9]* \([0-9]+\)/)) {
            text = substr(text, RSTART)
            sub(/^[^A-Z]/, "", text)
            paper = substr(text, 1, index(text, " ") - 1)
            text = substr(text, length(paper) + 2)
            last = 0
            range = 0
            while (match(text, /^(-|, | and )?\([0-9]+\)/)) {
                range = text ~ /^-/
                n = substr(text, 1, RLENGTH)
                gsub(/[^0-9]/, "", n)
                n += 0
                if (paper in papers) {
                    for (last = range ? last + 1 : n; last <= n; last++) found(paper " (" last ")")
                    last = n
                }
                text = substr(text, RLENGTH + 1)
            }
        }
    }
    BEGIN {
        while ((getline row <list) > 0) {
            if (row ~ /^# -+ /) {
                sub(/^# -+ /, "", row)
                title = row
                continue
            }
            if (row ~ /^#/ || row !~ /[^ ]/) continue
            if (!match(row, /^[A-Za-z0-9]+ \([0-9]+\)/)) { complain(list ": no equation: " row); continue }
            key = substr(row, 1, RLENGTH)
            rest = substr(row, RLENGTH + 1)
            bar = match(rest, / \| /)
            papers[substr(key, 1, index(key, " ") - 1)] = 1
            order[++n_keys] = key
            titles[key] = title
            says[key] = trim(bar ? substr(rest, 1, RSTART) : rest)
            reason[key] = bar ? trim(substr(rest, RSTART + 3)) : ""
        }
    }
    (at = index($0, "//")) { tags(substr($0, at + 2)) }
    END {
        print "# Where is which equation"
        print ""
        print "Written by `make map` from the tags in the sources and from data/equations.txt."
        for (i = 1; i <= n_keys; i++) {
            key = order[i]
            if (titles[key] != before) {
                before = titles[key]
                print "\n## " before "\n\n| equation | says | where |\n|---|---|---|"
            }
            where = in_code[key] (in_code[key] && in_essay[key] ? "; " : "") in_essay[key]
            why = reason[key]
            if (where) n_tagged++
            else if (why ~ /^later/) n_later++
            else if (why ~ /^(as|text:) ./) n_told++
            else complain(key ": neither a tag in the sources nor a reason in " list ": " says[key])
            if (why ~ /^as /) {
                other = substr(why, 4)
                if (!in_code[other] && !in_essay[other]) complain(key ": as " other ", which has no tag")
            }
            if (where && why ~ /^later/) complain(key ": has a tag, so it is not `later` any more in " list)
            said = says[key]
            gsub(/\|/, "\\|", said)
            print "| " key " | " said " | " where (where && why ? "; " : "") why " |"
        }
        printf "map: %d equations: %d with a tag, %d told otherwise, %d later, %d wrong\n", n_keys, n_tagged,
               n_told, n_later, wrong >"/dev/stderr"
        exit wrong > 0
    }' $sources >notebooks/MAP.md

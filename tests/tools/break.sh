#!/usr/bin/env bash
# The program with a planted bug, for those who want to find it: tests/tools/break.sh NAME. Builds
# build/broken/NAME (PRESET=debug for the debugger; release if not given). Without a NAME, lists what
# can be broken.
set -u
cd "$(dirname "$0")/../.."
. tests/tools/mutants_common.sh
list=${MUTANTS:-tests/mutants.txt}
preset=${PRESET:-release}
mkdir -p build
list_mutants "$list" >build/mutants.list || exit 1
if [ $# != 1 ]; then
    echo "break NAME, one of:"
    cut -d $'\037' -f 1,2 build/mutants.list | sort | awk -F '\037' '{ printf "    %-34s %s\n", $1, $2 }'
    exit 2
fi
row=$(awk -F '\037' -v name="$1" '$1 == name' build/mutants.list)
if [ -z "$row" ]; then
    echo "break: no mutant is called $1; tests/tools/break.sh lists them"
    exit 2
fi
IFS=$'\037' read -r name file line after wrong _ tests seen <<<"$row"
where=build/broken/$name
sync_tree "$where/tree"
plant "$file" "$line" "$after" "$wrong" >"$where/planted" || exit 1
cp "$where/planted" "$where/tree/$file"
build_in "$where" "$preset" all || { tail -n 20 "$where/$preset.log"; exit 1; }
echo "$where/$preset/deepseek and $where/$preset/tests have the bug, in $file."
echo "It is known from: $seen"
echo "These tests see it: $tests. What do they say, and what do others not see?"

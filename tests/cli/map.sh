#!/usr/bin/env bash
# map.sh BINARY: `deepseek map`, on a small tree of its own. The last line is `N passed, N failed`.
. "$(dirname "$0")/shell.sh"
verb=map match=-qF
mkdir -p data src/model src/cli
cat >data/equations.txt <<'TREE'
# How to read this list.
# ---------------------------------------------- DeepSeek-V2, arXiv 2405.04434
V2 (1)    q = W_Q h
V2 (2)    k = |h|
V2 (3)    v = W_V h
V2 (4)    u = W_O o
V2 (5)    nothing yet      | later: some day
# ---------------------------------------------- DeepSeek-V3
V3 (1)    q again          | as V2 (1)
# ---------------------------------------------- DeepSeek-V3.2
V3.2 (1)  I = w q k
TREE
cat >model.cpp <<'TREE'
// A comment far above a function is nobody's: V2 (2).

// The paragraph above a function is its own: V2 (4) and (3).
Tensor mha(In h) {
    return matmul(h, w);   // V2 (1)   half a line of remark, and UTF (8)
}
TREE
echo 'int k = 0;  // V2 (1)-(3)' >src/model/more.h
echo 'int j = 0;  // V3.2 (1), V3.2.' >src/model/point.h
echo '// examples of this verb: V2 (77)' >src/cli/map.cpp

says 0 "model.cpp:5 in mha    return matmul(h, w);" V2 1
says 0 "src/model/more.h:1    int k = 0;" V2 2
says 0 "as V2 (1)" V3 1
says 0 "model.cpp:5 in mha" V3 1
says 0 "src/model/point.h:1    int j = 0;" V3.2 1
says 0 "later: some day" V2 5
says 0 "V2 (4)  u = W_O o" mha
run mha
holds "mha has V2 (1), (3), (4)" "$(grep -c '^V2' out)" = 3
holds "and only its own places" "$(grep -c more.h out)" = 0
run V2
holds "a paper has five equations" "$(grep -c '^V2' out)" = 5
refused "no equation is called mhaa" mhaa
hinted "did you mean mha"
refused "no equation is called V2 (9)" V2 9
refused "nowhere/data/equations.txt: no such file" --sources nowhere
hinted "in the folder of the sources"

# The page, and what it refuses.
says 0 "7 equations, none without a tag or a reason" --out MAP.md
for row in '| V2 (1) | q = W_Q h | [model.cpp:5](../model.cpp#L5), [src/model/more.h:1](../src/model/more.h#L1) |' \
    '| V2 (2) | k = \|h\| | [src/model/more.h:1](../src/model/more.h#L1), [model.cpp:1](../model.cpp#L1) |' \
    '| V3 (1) | q again | as V2 (1) |' '## DeepSeek-V3'; do
    holds "MAP.md has the row $row" "$(grep -cxF "$row" MAP.md)" = 1
done
echo '// V2 (6)' >src/model/wrong.h
says 1 "src/model/wrong.h:1: V2 (6) is not in data/equations.txt" --out MAP.md
echo '// V2 (5)' >src/model/wrong.h
says 1 'V2 (5): has a tag, so it is not `later` any more' --out MAP.md
rm src/model/wrong.h src/model/more.h
accepted --out MAP.md
sed -i 's/V2 (2)/V2 two/' model.cpp
says 1 "V2 (2): neither a tag in the sources nor a reason" --out MAP.md
sed -i 's/V2 (1)/V2 one/' model.cpp
says 1 "V3 (1): as V2 (1), which has no tag" --out MAP.md
finish

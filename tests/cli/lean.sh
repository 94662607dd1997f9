#!/usr/bin/env bash
# lean.sh BINARY: `deepseek lean` from outside. What it refuses ends with exit code 2 and one line that names
# the cause, perhaps one with a hint, and overwrites nothing. The last line is `N passed, N failed`.
. "$(dirname "$0")/shell.sh"
verb=lean input=in match=-qF
: >in
good='theorem thm0 (p q : Prop) : p ∧ q → q ∧ p := by
  intro h
  exact ⟨h.2, h.1⟩'
echo "$good" >good.lean
echo '{"id": "a", "source": "theorem thm0 (p : Prop) : True := by\n  constructor\n"}' >good.jsonl

# A file
says 0 "good.lean: complete, 2 steps" good.lean
cp good.lean in
says 0 "complete, 2 steps" -
: >in
: >empty.lean
says 1 "empty.lean:1:0: E_PARSE: there is no theorem in this text" empty.lean
says 1 "E_PARSE: there is no theorem" -
printf -- '-- nothing\n\n' >comments.lean
says 1 "there is no theorem in this text" comments.lean
refused "cannot read" none.lean
refused "is a folder" .
printf 'theorem thm0 (p : Prop) : p → p := by\n  exact \xef\xbb\xbfh\n' >bom.lean
says 1 "exact <U+FEFF>h" bom.lean
printf 'theorem thm0 (p : Prop) : p → p := by\n  exact \xff\x1b[2J\n' >bytes.lean
says 1 '  exact \xff<U+001B>[2J' bytes.lean
holds "no raw escape reaches the terminal" "$(grep -c $'\x1b' out)" = 0
{ echo "theorem thm0 (p : Prop) : p := by"; printf '  sorry%300s oops%200s x\n' "" ""; } >long.lean
says 1 "E_PARSE" long.lean
holds "a long line is cut on both sides" "$(sed -n 2p out | sed -E 's/^\.\.\..*\.\.\.$/cut/')" = cut
{ echo "theorem thm0 (p : Prop) (h : p) : p := by"; echo "  oops"; } >first.lean
says 1 "  h : p" first.lean
printf 'theorem thm0 (p : Prop) : p → p := by\r\n    intro h\r\n    exact h' >dos.lean
says 0 "dos.lean: complete, 2 steps" dos.lean
printf 'theorem thm0 (p : Prop) : p → p := by\r\n    exact oops\r\n' >dos.lean
says 1 "    exact oops" dos.lean
holds "the end of a line is not shown" "$(grep -c '000D' out)" = 0
{ echo "/-- It commutes. -/"; echo "$good"; } >doc.lean
says 0 "doc.lean: complete, 2 steps" doc.lean
echo "/-- Lost. -/" >>doc.lean
says 1 "doc.lean:5:0: E_LEX: a doc comment with no theorem behind it" doc.lean

# Options that would mean nothing
refused "--out means nothing with a FILE" good.lean --out good.lean
holds "the proof is as it was" "$(cat good.lean)" = "$good"
refused "--out means nothing with --decide" --decide p --out x
refused "--seed means nothing" good.lean --seed 3
refused "--difficulty means nothing" --jsonl good.jsonl --difficulty D1
refused "--goals means nothing" --jsonl good.jsonl --goals
refused "--goals means nothing" --decide p --goals
refused "one thing at a time" good.lean --decide p
refused "nothing to do"

# --jsonl
says 0 '{"id":"a","verdict":"complete","code":"","line":0,"column":0}' --jsonl good.jsonl
cp good.jsonl in
says 0 '"verdict":"complete"' --jsonl -
printf '\n \t\r\n' | cat - good.jsonl >in
says 0 "1 texts, 1 complete" --jsonl -
: >in
refused "holds no text" --jsonl -
: >empty.jsonl
refused "empty.jsonl holds no text" --jsonl empty.jsonl
refused "is a folder" --jsonl .
refused "cannot read" --jsonl none.jsonl
printf '{"source": "x"}\n\n{"source": 3}\n' >three.jsonl
refused "three.jsonl: line 3: no JSON object with a text" --jsonl three.jsonl
for id in null true '[1]' '{"a": 1}'; do
    echo "{\"source\": \"x\", \"id\": $id}" >id.jsonl
    refused "id.jsonl: line 1: \`id\` is neither" --jsonl id.jsonl
done
nested() { printf "$2%.0s" $(seq "$1"); }
echo "{\"source\": \"x\", \"id\": $(nested 50000 '[')$(nested 50000 ']')}" >deep.jsonl
refused "deep.jsonl: line 1, column" --jsonl deep.jsonl
echo "$(nested 100000 '[')" >deeper.jsonl
refused "deeper.jsonl: line 1, column" --jsonl deeper.jsonl
echo '{"source": "x"' >cut.jsonl
refused "cut.jsonl: line 1, column 15" --jsonl cut.jsonl

# --out is written at the end, whole, or not at all
says 0 "1 complete" --jsonl good.jsonl --out verdicts.jsonl
holds "a verdict is written" "$(wc -l <verdicts.jsonl)" = 1
cp good.jsonl kept.jsonl
refused "is the file that --jsonl reads" --jsonl kept.jsonl --out kept.jsonl
ln -s kept.jsonl link.jsonl
refused "is the file that --jsonl reads" --jsonl kept.jsonl --out link.jsonl
holds "the input is as it was" "$(cat kept.jsonl)" = "$(cat good.jsonl)"
refused "three.jsonl: line 3" --jsonl three.jsonl --out verdicts.jsonl
holds "an error leaves the old verdicts" "$(wc -l <verdicts.jsonl)" = 1
refused "D9 is none" --generate 3 --difficulty D9 --out verdicts.jsonl
refused "none.jsonl" --jsonl none.jsonl --out verdicts.jsonl
holds "and other mistakes do, too" "$(wc -l <verdicts.jsonl)" = 1
refused "not a plain file" --generate 1 --out .
refused "--out needs a name" --generate 1 --out ""
code=0; timeout -s INT 1 "$BINARY" lean --generate 1000000000 --out cut.out >out 2>err <in || code=$?
holds "Ctrl-C leaves no part of a file" -z "$(ls | grep cut.out || true)"
"$BINARY" lean --generate 1000000000 --out cut.out >out 2>err <in & sleep 0.5
kill -INT $!; sleep 0.05; kill -INT $! 2>/dev/null || true                # `timeout` sends two
code=0; wait $! || code=$?
holds "nor do two at once" $code = 130 -a -z "$(ls | grep cut.out || true)"
timeout -s INT 1 "$BINARY" lean --generate 1000000000 >out 2>err <in || true
holds "Ctrl-C ends with a whole last line" "$(tail -c 1 out | od -An -c | tr -d ' ')" = '\n'

# --generate
for count in 0 -5 1e9 1000000001 x ""; do refused "is no number from 1 to" --generate "$count"; done
for seed in -1 x 99999999999999999999; do refused "--seed $seed is no number" --generate 1 --seed "$seed"; done
says 0 "theorem thm0" --generate 1 --seed 18446744073709551615
for level in D1 D2 D3 D4 D5; do
    says 0 "-- $level" --generate 1 --difficulty $level
    says 0 "-- $level" --generate 1 --difficulty $level --nat
done

# --decide
says 0 "no: there is no proof" --decide "p ∨ ¬p"
says 0 "yes: D1, 2 lines" --decide "p → p -- it does"
says 0 "theorem thm7 (p q : Prop)" --decide "theorem thm7 (p q : Prop) : p → p"
refused "column 3:" --decide "p →"
refused "column 6:" --decide "  p → x"
refused "cannot read none.lean" --decide none.lean
refused "cannot read some/where" --decide some/where
echo "nonsense" >p
says 0 "no: there is no proof" --decide p
printf -- '-- two\ntheorem thm0 (p : Prop) : p → p\n\ntheorem thm1 (p : Prop) : p := by -- c\n  sorry\n' >two.lean
says 0 "theorem thm1" --decide two.lean
printf 'theorem thm0 (p : Prop) : p → p\n\ntheorem thm1 (p : Prop) : p ∧ := by\n' >broken.lean
refused "broken.lean:3:30: E_PARSE" --decide broken.lean
refused "has no line that starts with" --decide comments.lean
says 0 "yes: 1 line" --nat --decide "a + 1 + 1 = a + 2"
says 0 "yes: 3 lines" --nat --decide "n + 1 + b = n + b + 1"
says 0 "unknown" --nat --decide "a = b"
SECONDS=0
many="(p ∨ q)"
for _ in $(seq 59); do many="$many ∧ (p ∨ q)"; done
says 0 "no: there is no proof" --decide "p → q → ($many → r) → s"
holds "it takes no time" $SECONDS -lt 10

finish

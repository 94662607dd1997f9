#!/usr/bin/env bash
# Did a commit change numbers? Builds an older commit and the sources as they are now, on this machine, and compares
# twenty losses, gradient norms and all weights bit by bit.   signature.sh [COMMIT]   (usual: HEAD if there are changes
# that are not committed, else its parent)
set -eu
cd "$(dirname "$0")/../.."
commit=${1:-$(git diff --quiet HEAD && echo HEAD~1 || echo HEAD)}
where=$PWD/build/signature
mkdir -p "$where"
git rev-parse --quiet --verify "$commit^{commit}" >/dev/null || { echo "signature: no commit $commit"; exit 2; }
git archive --prefix=then/ "$commit" | tar -x -C "$where" -m --overwrite
cmake -S "$where/then" -B "$where/build" -DPRESET=release >"$where/log" 2>&1
cmake --build "$where/build" -j "$(nproc)" --target deepseek >>"$where/log" 2>&1 || { tail -n 20 "$where/log"; exit 1; }
for preset in llm-nano v3-nano; do
    for side in then now; do
        binary=build/release/deepseek
        [ "$side" = now ] || binary=$where/build/deepseek
        rm -rf "$where/$side-run"
        "$binary" train --preset $preset --batch 4 --context 32 --steps 20 --out "$where/$side-run" >"$where/log" 2>&1 ||
            { tail -n 5 "$where/log"; exit 1; }
        cut -d, -f1,2,4- "$where/$side-run/metrics.csv" >"$where/$side.csv"      # all but tokens_per_s
    done
    if ! cmp -s "$where/then.csv" "$where/now.csv"; then
        echo "$preset: other numbers than at $commit, first here (then, now):"
        diff "$where/then.csv" "$where/now.csv" | sed -n '2p; /^>/{p;q}'
        exit 1
    fi
    cmp "$where/then-run/model.safetensors" "$where/now-run/model.safetensors"
    echo "$preset: the same bits as at $commit"
done

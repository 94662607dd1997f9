#!/usr/bin/env bash
# What `make ci` runs last: every lab in its quick form (one seed), and a shortened demo whose loss must fall.
set -eu
cd "$(dirname "$0")/../.."
make --no-print-directory all
(cd build && ../deepseek lab all --quick --seeds 1 >labs.log 2>&1) || { tail -n 30 build/labs.log; exit 1; }
echo "labs: $(grep -c '^quick: no verdict' build/labs.log) of $(ls data/labs/*.lab | wc -l) run in their quick form"
rm -rf build/runs
DEMO_STEPS=40 tests/tools/demo.sh
awk -F, 'NR == 2 { first = $4 }
    END {
        if (!($4 < first - 0.5)) { print "demo: the loss did not fall: " first " to " $4; exit 1 }
        print "demo: the loss fell from " first " to " $4
    }' runs/demo/metrics.csv

#!/usr/bin/env bash
# What `make ci` runs last: a shortened demo whose loss must fall.
set -eu
cd "$(dirname "$0")/../.."
make --no-print-directory all
DEMO_STEPS=40 tests/tools/demo.sh
awk -F, 'NR == 2 { first = $4 }
    END {
        if (!($4 < first - 0.5)) { print "demo: the loss did not fall: " first " to " $4; exit 1 }
        print "demo: the loss fell from " first " to " $4
    }' runs/demo/metrics.csv

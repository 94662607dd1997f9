#!/usr/bin/env bash
# Holds us against implementations that we did not write: PyTorch, transformers, tokenizers and SciPy, installed by pip
# into build/venv (two minutes and 6 GB, once). Each check prints its errors beside its tolerances and fails above them.
#
#   tests/tools/oracle.sh [NAME...]      all of them, or these; every script has --help
#     ops         every op, forward and backward, against autograd                                   10 s
#     losses      every objective of `loss` with every switch, against autograd                       1 min
#     models      random llama and deepseek_v3 models: logits, loss, every weight's gradient        1 min
#     training    twenty AdamW steps, loss by loss                                                   2 min
#     trained     a model trained here, loaded by transformers                                       1 min
#     tokenizer   50,000 strings (ORACLE_STRINGS) and 18 trainings against the reference library
#     statistics  fits of scaling laws, against SciPy                                                10 s
#     prepare     near duplicates of 840 texts by comparing each with each, in plain Python         10 s
#     race        tokens a second beside transformers (not a check: it always passes)
set -eu
cd "$(dirname "$0")/../.."
python=build/venv/bin/python
if ! cmp -s tests/oracle/requirements.txt build/venv/requirements.txt; then
    python3 -m venv build/venv
    build/venv/bin/pip install --quiet -r tests/oracle/requirements.txt
    cp tests/oracle/requirements.txt build/venv/
fi
export OMP_NUM_THREADS=2
for check in ${@:-ops losses models training trained tokenizer statistics prepare}; do
    echo "== tests/oracle/check_$check.py"
    more=""
    [ $check != tokenizer ] || more="--strings ${ORACLE_STRINGS:-50000}"
    $python -W ignore tests/oracle/check_$check.py --binary ./deepseek $more
done

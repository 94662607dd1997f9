#!/usr/bin/env bash
# Holds models, gradients, training and every op against implementations that we did not write: PyTorch and
# transformers, installed by pip into build/venv.
set -eu
cd "$(dirname "$0")/../.."
if [ ! -x build/venv/bin/python ] || ! build/venv/bin/python -c 'import torch, transformers, safetensors, tokenizers' 2>/dev/null; then
    python3 -m venv build/venv
    build/venv/bin/pip install --quiet -r tests/oracle/requirements.txt
fi
export OMP_NUM_THREADS=2
for check in ops models training trained; do
    echo "== tests/oracle/check_$check.py"
    build/venv/bin/python -W ignore tests/oracle/check_$check.py --binary ./deepseek
done

#!/bin/sh
# Makes tests/oracle/.venv, about two minutes and 6 GB. Then, from the top of the repository:
#
#     tests/oracle/.venv/bin/python tests/oracle/check_ops.py        every op against PyTorch            10 s
#     tests/oracle/.venv/bin/python tests/oracle/check_models.py     models against transformers          1 min
#     tests/oracle/.venv/bin/python tests/oracle/check_training.py   twenty steps against PyTorch         2 min
#     tests/oracle/.venv/bin/python tests/oracle/check_trained.py    our checkpoints in transformers      1 min
#     tests/oracle/.venv/bin/python tests/oracle/bench_transformers.py --help
#
# Each runs ./deepseek (--binary names another), prints its errors beside its tolerances and fails above them.
set -e
cd "$(dirname "$0")"
python3 -m venv .venv
.venv/bin/pip install --quiet -r requirements.txt

#!/usr/bin/env bash
# Formats the sources (or, with --check, says which are not), with clang-format from PyPI in build/venv-format.
set -eu
cd "$(dirname "$0")/../.."
version=23.1.5
if [ ! -x build/venv-format/bin/clang-format ]; then
    python3 -m venv build/venv-format
    build/venv-format/bin/pip install --quiet "clang-format==$version"
fi
python3 tests/tools/format.py "$@"

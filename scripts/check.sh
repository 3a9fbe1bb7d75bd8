#!/usr/bin/env bash
# Everything that must pass before a change goes in: lint, format, types, tests. Run inside a virtual environment.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python -m pip install --quiet --editable ".[dev]"
ruff check .
ruff format --check .
mypy
# One process per core, each on one thread; a file's tests share what they have made, so they stay together; the longest
# files come first.
OMP_NUM_THREADS=1 python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder "$@"

#!/usr/bin/env bash
# Everything that must pass before a change goes in: lint, format, types, tests. Run inside a virtual environment.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python -m pip install --quiet --editable ".[dev]"
ruff check .
ruff format --check .
mypy
python -m pytest "$@"

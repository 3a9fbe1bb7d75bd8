"""The examples of docstrings, run as doctests."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest
import torch

import rnnnorm

PACKAGE = Path(rnnnorm.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


def test_there_are_examples() -> None:
    assert {"rnnnorm.nn.lstm", "rnnnorm.nn.gru", "rnnnorm.nn.rnn", "rnnnorm.nn.cells"} <= set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    """With `torch` and `rnnnorm` imported, as a reader would have them."""
    torch.manual_seed(0)
    module = importlib.import_module(name)
    options = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    result = doctest.testmod(module, extraglobs={"torch": torch, "rnnnorm": rnnnorm}, optionflags=options)
    assert result.attempted
    assert not result.failed

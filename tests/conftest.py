"""Shared fixtures: small thread count, fixed seeds, an environment that no test changes for the next."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

torch.set_num_threads(1)  # the matrices here are tiny: more threads only add hand-over time


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Give every test the same random stream, whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """Put the environment back: where a trainer has left LOCAL_RANK, one in another process waits for its peers."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


LONGEST = [
    *(
        "test_soak",
        "test_recipes",
        "test_compile",
        "test_worlds",
        "test_executors",
        "test_declared",
        "test_triton_launches",
    ),
    *(
        "test_synchronized",
        "test_onnx",
        "test_examples",
        "test_threads",
        "test_tuning",
        "test_traced",
        "test_sanitizer",
    ),
    *("test_contract", "test_processes", "test_library", "test_memory", "test_command"),
]
"""Files that take longest, so that no process is left with one of them when the others have ended."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))

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

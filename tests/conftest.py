"""Shared fixtures: small thread count, fixed seeds."""

from __future__ import annotations

import pytest
import torch

torch.set_num_threads(1)  # the matrices here are tiny: more threads only add hand-over time


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Give every test the same random stream, whatever ran before it."""
    torch.manual_seed(0)

"""What depends on the number of threads, and what does not: `docs/performance.md`, "Same bits"."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

import rnnnorm
from rnnnorm.scan.native.library import library

pytestmark = pytest.mark.skipif(library() is None, reason="needs a C++ compiler")
SHAPES = [(10, 20, 15, 8), (64, 128, 50, 32), (30, 101, 12, 33)]
SUMS = ("weight", "bias", "gain")  # sums over all rows, one part per thread


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def step(norm: str, shape: tuple[int, int, int, int], threads: int) -> dict[str, Tensor]:
    """What a training step computes, by name."""
    I, H, T, B = shape  # noqa: E741
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    lstm = rnnnorm.LSTM(I, H, norm=norm, backend="native")
    x, lengths = torch.randn(T, B, I, requires_grad=True), torch.randint(1, T + 1, (B,))
    lengths[0] = T
    output, (h_n, c_n) = lstm(x, lengths=lengths)
    (output.square().sum() + h_n.sum() + c_n.sum()).backward()
    found = {"output": output, "h_n": h_n, "c_n": c_n, "gradient of x": x.grad}
    found |= {f"gradient of {name}": p.grad for name, p in lstm.named_parameters()} | dict(lstm.named_buffers())
    return {name: value.detach() for name, value in found.items() if value is not None}


def differing(norm: str) -> set[str]:
    found = set()
    for shape in SHAPES:
        one = step(norm, shape, 1)
        for threads in (2, 3, 5):
            several = step(norm, shape, threads)
            found |= {name for name, value in one.items() if not torch.equal(value, several[name])}
    return found


@pytest.mark.parametrize("norm", ["bn-timestep", "bn-shared", "bn-vertical-framewise"])
def test_by_step_nothing_differs(norm: str) -> None:
    assert differing(norm) == set()


@pytest.mark.parametrize("norm", ["none", "ln", "ln-carried", "rms", "gn", "wn"])
def test_otherwise_gradients_that_are_sums_over_rows_differ(norm: str) -> None:
    assert all(name.startswith("gradient of ") and any(kind in name for kind in SUMS) for name in differing(norm))

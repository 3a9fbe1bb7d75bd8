"""What the tests of the compiled scan share: layers, batches, comparison with the reference, poisoned memory."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

import rnnnorm
from rnnnorm.equations import QUIET, CellNorms, Equations, Layer, Noise
from rnnnorm.norms import step_statistics
from rnnnorm.scan import plan
from rnnnorm.scan.native.buffers import Block
from rnnnorm.scan.native.library import library
from rnnnorm.scan.native.run import BUFFERS

INPUT = 5
GUARD = 1024
needs_library = pytest.mark.skipif(library() is None, reason="needs a C++ compiler")


def covered(by: Callable[[Equations, CellNorms, Noise], bool]) -> list[str]:
    """The presets of an LSTM that a scan covers."""
    networks = {name: rnnnorm.LSTM(2, 3, norm=name) for name in rnnnorm.presets()}
    return [name for name, lstm in networks.items() if by(lstm.cell, lstm.norms("_l0"), QUIET)]


COVERED = covered(plan.plain)
"""By the scan of plain LSTMs."""
SUPPORTED = covered(plan.supports)
"""By any scan in one pass."""
BY_COLUMN = [name for name in COVERED if name.startswith("bn")]
LENGTHS = {
    "ragged": (6, 4, 7, 6, 2, 5, 6, 4, 3, 5),  # 10, 10, 9, 8, 6, 4 and 1 rows: the last step is too small for moments
    "dense": (6,) * 9,
}


def build(
    norm: str | rnnnorm.Norm, hidden: int = 17, features: int = INPUT, cell: Any = rnnnorm.LSTM, **options: Any
) -> Any:
    """A network whose affine parameters and stored statistics are all away from their initial values."""
    lstm = cell(features, hidden, norm=norm, **{"dtype": torch.float64, "backend": "native", **options})
    with torch.no_grad():
        for name, parameter in lstm.named_parameters():
            if name.endswith(".gain"):
                parameter.mul_(torch.empty_like(parameter).uniform_(0.7, 1.3))
            elif "bias" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
        for stats in step_statistics(lstm):
            stats.running_mean.normal_(0, 0.3)
            stats.running_var.uniform_(0.5, 2)
            for added in (stats.total_weight, stats.running_still):
                if added is not None:
                    added.uniform_()
            stats.num_rows.random_(0, 3)  # those of 0 rows borrow from earlier ones
    return lstm


def twin(lstm: Any, backend: str = "reference", dtype: torch.dtype | None = None) -> Any:
    """A copy that runs by another backend or in another precision."""
    other = copy.deepcopy(lstm).to(dtype=dtype)
    other.backend = backend
    return other


def ran(lstm: Any, dtype: torch.dtype = torch.float32) -> str:
    """The backend that runs a small batch."""
    lstm(torch.randn(3, 6, lstm.input_size, dtype=dtype))
    backend: str = lstm.ran
    return backend


def layer_of(lstm: rnnnorm.LSTM) -> Layer:
    """Its first layer, as scans take it."""
    return Layer(lstm.cell, lstm.layer_weights("_l0"), lstm.norms("_l0"), lstm.noise)


def data(lengths: Sequence[int], features: int = INPUT, dtype: torch.dtype = torch.float64) -> Tensor:
    """Random (T, B, F)."""
    return torch.randn(max(lengths), len(lengths), features, dtype=dtype)


def states(lstm: Any, rows: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    """Random h_0 and c_0."""
    sizes = (getattr(lstm, "proj_size", 0) or lstm.hidden_size, lstm.hidden_size)
    return tuple(
        torch.randn(lstm.num_states, rows, F, dtype=dtype) for _, F in zip(lstm.cell.states, sizes, strict=False)
    )


def run(
    lstm: Any,
    x: Tensor,
    hx: tuple[Tensor, ...] | None = None,
    lengths: Sequence[int] | None = None,
    outputs: Sequence[str] = ("output", "h_n", "c_n"),
    seen: bool = True,
) -> dict[str, Tensor]:
    """Outputs, gradients of a fixed random function of `outputs` by every leaf that wants one, buffers afterwards.

    Args:
        lstm: the network.
        x: (T, B, F).
        hx: h_0 and c_0.
        lengths: of the sequences, where they differ.
        outputs: those the function depends on.
        seen: whether the input and states require gradients.
    """
    dtype = next(lstm.parameters()).dtype
    leaves = {"x": x} if hx is None else {"x": x, **dict(zip(("h_0", "c_0"), hx, strict=False))}
    leaves = {name: leaf.to(dtype).detach().requires_grad_(seen) for name, leaf in leaves.items()}
    first: Any = list(leaves.values())[1:]
    start = None if hx is None else tuple(first) if len(first) > 1 else first[0]
    output, last = lstm(leaves["x"], start, lengths=None if lengths is None else torch.tensor(lengths))
    results = {
        "output": output,
        **dict(zip(("h_n", "c_n"), last if isinstance(last, tuple) else (last,), strict=False)),
    }
    generator = torch.Generator().manual_seed(5)
    drawn = {n: torch.randn(y.shape, generator=generator, dtype=torch.float64).to(dtype) for n, y in results.items()}
    wanted = {n: t for n, t in {**leaves, **dict(lstm.named_parameters())}.items() if t.requires_grad}
    if wanted and torch.is_grad_enabled():
        loss = sum((results[name] * drawn[name]).sum() for name in outputs if name in results)
        found = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True)
        results |= {f"grad of {n}": g for n, g in zip(wanted, found, strict=True) if g is not None}
    return {n: y.detach() for n, y in results.items()} | {n: b.clone() for n, b in lstm.named_buffers()}


def distance(actual: Tensor, expected: Tensor) -> float:
    """Relative error, root mean square; of what is all zeros, the absolute one."""
    actual, expected = actual.double(), expected.double()
    scale = expected.norm()
    return float((actual - expected).norm() / scale if scale > 1e-12 else (actual - expected).norm())


def assert_near(
    actual: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float | dict[str, float] = 1e-10
) -> None:
    """The same names, shapes and types, and values within a relative error; counts exactly."""
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert actual[name].shape == value.shape, name
        assert actual[name].dtype == value.dtype, name
        if not value.is_floating_point():
            assert torch.equal(actual[name], value), name
            continue
        error = distance(actual[name], value)
        allowed = tolerance[name] if isinstance(tolerance, dict) else tolerance
        assert error < allowed, f"{name}: relative error {error:.2g}"  # NaN fails, too


def assert_as_reference(lstm: Any, *args: Any, **kw: Any) -> None:
    """Values, gradients and statistics of the compiled scan in float64; both modules have seen the batch afterwards."""
    other = twin(lstm)
    torch.manual_seed(1)  # of what is dropped
    expected = run(other, *args, **kw)
    torch.manual_seed(1)
    actual = run(lstm, *args, **kw)
    assert (lstm.ran, other.ran) == ("native", "reference")
    assert_near(actual, expected)


class Poison:
    """Fills whatever is allocated without a value with NaN, and what is lent to compiled code, too.

    Args:
        monkeypatch: takes it back after the test.
        guarded: also watch the bytes behind each block; `check` says whether they are untouched. Blocks then come back
            after the test only.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, guarded: bool = False) -> None:
        self.blocks = 0
        self._guarded: list[tuple[Block, int]] = []
        borrow = BUFFERS.borrow

        def poisoned(count: int) -> Block:
            block = borrow(count + GUARD if guarded else count)
            block.fill(255)  # all ones: NaN in both precisions, -1 as an integer
            self.blocks += 1
            if guarded:
                self._guarded.append((block, count))
            return block[:count] if guarded else block

        monkeypatch.setattr(BUFFERS, "borrow", poisoned)
        for owner, name in ((torch, "empty"), (torch, "empty_like"), (torch.Tensor, "new_empty")):
            monkeypatch.setattr(owner, name, _filled(getattr(owner, name)))

    def check(self) -> None:
        """Nobody has written behind the end of a block."""
        for block, count in self._guarded:
            assert (block[count:] == 255).all(), f"something was written behind a block of {count} bytes"


def _filled(allocate: Any) -> Any:
    def filled(*args: Any, **kw: Any) -> Tensor:
        tensor: Tensor = allocate(*args, **kw)
        with torch.no_grad():
            return tensor.fill_(torch.nan if tensor.is_floating_point() else 77)

    return filled


class Scanned(Dataset[Tensor]):
    """Items that are computed by a network, in whatever process asks for them."""

    def __init__(self, lstm: rnnnorm.LSTM, count: int) -> None:
        self.lstm, self.count = lstm, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Tensor:
        return scanned(self.lstm, index)


def scanned(lstm: rnnnorm.LSTM, index: int) -> Tensor:
    """An output and a gradient of a batch that is drawn from `index`."""
    generator = torch.Generator().manual_seed(index)
    x = torch.randn(6, 12, lstm.input_size, generator=generator, dtype=torch.float64, requires_grad=True)
    output = lstm(x)[0]
    (gradient,) = torch.autograd.grad(output.square().sum(), x)
    return torch.cat([output.detach().flatten(), gradient.flatten()])

"""Infinite numbers and NaN: they go where the equations carry them, and not through the padding of vectors."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from scan.native_cases import build, data, needs_library, states, twin
from torch import Tensor

import rnnnorm

pytestmark = needs_library


def results(lstm: Any, x: Tensor, hx: Any, d: Tensor) -> dict[str, Tensor]:
    """Outputs and all gradients, from that of the output."""
    leaves = {"x": x, "h_0": hx[0], "c_0": hx[1]}
    leaves = {name: leaf.detach().clone().requires_grad_() for name, leaf in leaves.items()}
    output, (h_n, c_n) = lstm(leaves["x"], (leaves["h_0"], leaves["c_0"]))
    wanted = leaves | dict(lstm.named_parameters())
    found = torch.autograd.grad(output, list(wanted.values()), d, allow_unused=True)
    named = {f"gradient of {name}": g for name, g in zip(wanted, found, strict=True) if g is not None}
    return {"output": output.detach(), "h_n": h_n.detach(), "c_n": c_n.detach(), **named}


@pytest.mark.parametrize("hidden", [1, 5, 16, 20])
@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("where", ["x", "h_0", "c_0", "d"])
@pytest.mark.parametrize("norm", ["none", "ln", "ln-cell-only", "bn-timestep", "bn-joint", "bn-vertical-framewise"])
def test_one_entry(norm: str, where: str, value: float, hidden: int) -> None:
    """What is finite by the reference is finite, and the same; trained, and by stored statistics."""
    for training in (True, False):
        lstm = build(norm, hidden, 4).train(training)
        other = twin(lstm)
        x, hx = data((4, 4, 4), 4), list(states(lstm, 3))
        d = torch.randn(4, 3, hidden, dtype=torch.float64)
        {"x": x, "h_0": hx[0], "c_0": hx[1], "d": d}[where].view(-1)[2 * hidden // 3] = value
        expected, actual = results(other, x, hx, d), results(lstm, x, hx, d)
        assert lstm.ran == "native"
        for name, y in expected.items():
            finite = y.isfinite()
            assert torch.equal(actual[name].isfinite(), finite), name
            torch.testing.assert_close(actual[name][finite], y[finite], msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_infinite_input_saturates(dtype: torch.dtype) -> None:
    """As in torch's own LSTM: gates are 0 or 1, and no gradient passes them."""
    theirs = torch.nn.LSTM(4, 20, dtype=dtype)
    ours = rnnnorm.LSTM.from_torch(theirs)
    x = torch.randn(6, 3, 4, dtype=dtype)
    x[2, 1, 3] = math.inf
    found = []
    for lstm in (ours, theirs):
        lstm(x)[0].sum().backward()
        assert lstm.weight_hh_l0.grad is not None
        found.append(lstm.weight_hh_l0.grad)
    assert ours.ran == "native"
    assert found[0].isfinite().all()
    torch.testing.assert_close(*found)

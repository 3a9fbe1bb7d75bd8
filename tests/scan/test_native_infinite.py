"""Infinite numbers and NaN: they go where the equations carry them, and not through the padding of vectors."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import pytest
import torch
from scan.native_cases import build, data, needs_library, states, twin
from torch import Tensor

import rnnnorm
from rnnnorm import GRU, LSTM, RNN, Norm

pytestmark = needs_library


STEP = "bn:statistics=timestep"
MIXED = Norm(input="ln", hidden=STEP, output="rms")
SEVERAL = {"zoneout": 0.3, "hidden_dropout": 0.3}
NETWORKS: dict[str, tuple[Any, str | Norm, dict[str, Any]]] = {
    **{f"plain-{norm}": (LSTM, norm, {}) for norm in ("none", "ln", "ln-cell-only", "bn-timestep", "bn-joint")},
    "LSTM-peepholes": (LSTM, MIXED, {"peepholes": True}),
    "LSTM-zoneout": (LSTM, "ln-carried", {**SEVERAL, "recurrent_dropout": 0.3}),
    "LSTM-kept": (LSTM, "ln-carried", {"zoneout": 1.0}),
    "LSTM-dyt": (LSTM, "dyt", {"zoneout": 0.2}),
    "GRU": (GRU, "none", {}),
    "GRU-bn": (GRU, "bn-joint", {**SEVERAL, "recurrent_dropout": 0.3}),
    "GRU-mixed": (GRU, MIXED, {}),
    "RNN": (RNN, "ln", SEVERAL),
    "RNN-relu": (RNN, "ln", {"nonlinearity": "relu"}),
    "RNN-identity": (RNN, Norm(joint="dyt", output=STEP), {"nonlinearity": "identity"}),
}


def results(network: Any, x: Tensor, hx: tuple[Tensor, ...], d: Tensor) -> dict[str, Tensor]:
    """Outputs and all gradients, from that of the output."""
    leaves = {"x": x, **dict(zip(("h_0", "c_0"), hx, strict=False))}
    leaves = {name: leaf.detach().clone().requires_grad_() for name, leaf in leaves.items()}
    torch.manual_seed(1)  # of what is dropped
    first = list(leaves.values())[1:]
    output, last = network(leaves["x"], tuple(first) if len(first) > 1 else first[0])
    wanted = leaves | dict(network.named_parameters())
    found = torch.autograd.grad(output, list(wanted.values()), d, allow_unused=True)
    named = {f"gradient of {name}": g for name, g in zip(wanted, found, strict=True) if g is not None}
    ends = last if isinstance(last, tuple) else (last,)
    return {"output": output.detach(), **{f"last state {k}": y.detach() for k, y in enumerate(ends)}, **named}


@pytest.mark.parametrize("hidden", [1, 20])
@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("case", NETWORKS)
def test_one_entry(case: str, value: float, hidden: int) -> None:
    """What is finite by the reference is finite, and the same; trained, and by stored statistics."""
    cell, norm, options = NETWORKS[case]
    for training, where in product((True, False), ("x", "h_0", "c_0", "d")):
        network = build(norm, hidden, 4, cell=cell, **options).train(training)
        other = twin(network)
        x, hx = data((4, 4, 4), 4), states(network, 3)
        d = torch.randn(4, 3, hidden, dtype=torch.float64)
        entries = {"x": x, "h_0": hx[0], "c_0": hx[-1], "d": d}[where].view(-1)
        entries[2 * len(entries) // 3] = value
        expected, actual = results(other, x, hx, d), results(network, x, hx, d)
        assert network.ran == "native"
        for name, y in expected.items():
            finite, what = y.isfinite(), f"{name}, where {where} is not finite"
            assert torch.equal(actual[name].isfinite(), finite), what
            torch.testing.assert_close(actual[name][finite], y[finite], msg=lambda m, what=what: f"{what}: {m}")


def test_no_gradient_passes_a_unit_that_is_off() -> None:
    """Not even an infinite one."""
    network = build("ln", 20, 4, cell=RNN, nonlinearity="relu")
    x = data((4, 4, 4), 4)
    output, _ = network(x)
    assert network.ran == "native"
    off = output == 0
    assert off.any()
    d = torch.where(off, math.inf, 1.0).to(output.dtype)
    assert all(g.isfinite().all() for g in torch.autograd.grad(output, list(network.parameters()), d))


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

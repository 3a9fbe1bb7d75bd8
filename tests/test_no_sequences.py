"""Batches of no sequences, which data loaders of several processes make: torch's results, shapes and gradients."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from support import HIDDEN, INPUT, PRESETS
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import rnnnorm

NONE = torch.zeros(0, dtype=torch.int64)


def observed(module: Any, input: Tensor, hx: list[Tensor] | None) -> dict[str, Any]:
    """Shapes and gradients of a forward and a backward pass; results without numbers say no more."""
    input = input.clone().requires_grad_()
    given = [h.clone().requires_grad_() for h in hx or []]
    results = tree_leaves(module(input, None if hx is None else tuple(given) if len(given) > 1 else given[0]))
    torch.autograd.backward([r.sum() for r in results])
    gradients = {f"gradient of {name}": p.grad for name, p in module.named_parameters()}
    gradients |= {f"gradient of argument {i}": t.grad for i, t in enumerate((input, *given))}
    assert all(g is not None and not g.any() for g in gradients.values())
    return {"results": [(r.shape, r.dtype) for r in results], **{name: g.shape for name, g in gradients.items()}}


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_layers(kind: str) -> None:
    for layers, bidirectional, batch_first, given, projection in product((1, 2), *[(False, True)] * 4):
        if projection and kind != "LSTM":
            continue
        keys: dict[str, Any] = {"batch_first": batch_first, "bidirectional": bidirectional, "dtype": torch.float64}
        keys |= {"proj_size": 3} if projection else {}
        sizes = [3 if projection else HIDDEN, HIDDEN][: 2 if kind == "LSTM" else 1]
        states = [torch.zeros(layers * (1 + bidirectional), 0, size, dtype=torch.float64) for size in sizes]
        input = torch.zeros(0, 6, INPUT) if batch_first else torch.zeros(6, 0, INPUT)
        found = [
            observed(getattr(library, kind)(INPUT, HIDDEN, layers, **keys), input.double(), states if given else None)
            for library in (nn, rnnnorm)
        ]
        assert found[0] == found[1], (layers, keys)


@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell", "RNNCell"])
def test_cells(kind: str) -> None:
    for given in (False, True):
        states = [torch.zeros(0, HIDDEN)] * (2 if kind == "LSTMCell" else 1)
        found = [
            observed(getattr(library, kind)(INPUT, HIDDEN), torch.zeros(0, INPUT), states if given else None)
            for library in (nn, rnnnorm)
        ]
        assert found[0] == found[1]


@pytest.mark.parametrize("norm", PRESETS)
def test_normalizers_see_nothing(norm: str) -> None:
    """No statistic moves or becomes nan, and every parameter takes part, as `DistributedDataParallel` wants it."""
    rnn = rnnnorm.LSTM(INPUT, HIDDEN, 2, bidirectional=True, norm=norm, initial_state="learned", dropout=0.5)
    before = {name: t.clone() for name, t in rnn.state_dict().items()}
    output, (h_n, c_n) = rnn(torch.zeros(6, 0, INPUT), lengths=NONE)
    (output.sum() + h_n.sum() + c_n.sum()).backward()
    assert output.shape == (6, 0, 2 * HIDDEN)
    for name, p in rnn.named_parameters():
        assert p.grad is not None, name
        assert not p.grad.any(), name
    cell = rnnnorm.LSTMCell(INPUT, HIDDEN, norm=norm)
    kept = {name: t.clone() for name, t in cell.state_dict().items()}
    assert [state.shape for state in cell(torch.zeros(0, INPUT), step=0)] == [(0, HIDDEN)] * 2
    for module, state in ((rnn, before), (cell, kept)):
        assert all(torch.equal(state[name], t) for name, t in module.state_dict().items())


def test_what_is_still_refused() -> None:
    """No steps, as in torch; lengths of sequences that are not there; other features."""
    rnn = rnnnorm.LSTM(INPUT, HIDDEN)
    for shape in ((0, 3, INPUT), (0, 0, INPUT), (0, INPUT)):
        with pytest.raises(RuntimeError, match="larger than 0"):
            nn.LSTM(INPUT, HIDDEN)(torch.zeros(shape))
        with pytest.raises(RuntimeError, match="at least one step"):
            rnn(torch.zeros(shape))
    with pytest.raises(
        ValueError, match=r"no lengths for no sequences; got input of shape \(6, 0, 4\) and lengths of shape \(1,\)"
    ):
        rnn(torch.zeros(6, 0, INPUT), lengths=torch.tensor([3]))
    with pytest.raises(RuntimeError, match=r"expected 4 features.*got input of shape \(6, 0, 3\)"):
        rnn(torch.zeros(6, 0, 3))
    with pytest.raises(RuntimeError, match=r"expected h_0 of shape \(1, 0, 6\), got \(1, 3, 6\)"):
        rnn(torch.zeros(6, 0, INPUT), (torch.zeros(1, 3, HIDDEN),) * 2)


def test_a_weight_that_is_computed_gets_its_gradient() -> None:
    """As after weight drop: the weight is no parameter of the module."""
    rnn = rnnnorm.LSTM(INPUT, HIDDEN)
    raw = nn.Parameter(rnn.weight_hh_l0.detach().clone())
    del rnn.weight_hh_l0
    rnn.weight_hh_l0 = raw * 0.5
    rnn(torch.zeros(6, 0, INPUT))[0].sum().backward()
    assert raw.grad is not None
    assert not raw.grad.any()

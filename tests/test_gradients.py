"""First and second derivatives of every preset against finite differences, in float64."""

from __future__ import annotations

import copy

import pytest
import torch
from support import HIDDEN, INPUT, PRESETS
from torch.autograd import gradcheck, gradgradcheck

import rnnnorm

LENGTHS = {"ragged": [2, 4, 1, 4, 3], "dense": [3, 3, 3]}


def exact(norm: str) -> bool:
    """Whether the backward pass of training is the derivative; normalizers of which it is not say so in their class."""
    uses = rnnnorm.presets()[norm].norm.places.values()
    return all(use.cls.exact_gradient for use in uses)


# In training, some methods define another backward pass than the derivative.
CASES = [(norm, mode) for norm in PRESETS for mode in ("train", "eval") if mode == "eval" or exact(norm)]


@pytest.mark.parametrize("shape", LENGTHS)
@pytest.mark.parametrize(("norm", "mode"), CASES)
def test_derivatives(norm: str, mode: str, shape: str) -> None:
    training = mode == "train"
    lengths = torch.tensor(LENGTHS[shape])
    # Beyond max_steps, a method that reads its averages in training reads there what this very batch has moved.
    memory = any(use.cls.remembers_batches for use in rnnnorm.presets()[norm].norm.places.values())
    # "reference": torch's own operator takes part through test_parity
    lstm = rnnnorm.LSTM(
        2,
        3,
        bidirectional=True,
        norm=norm,
        dtype=torch.float64,
        max_steps=4 if memory else 3,
        backend="reference",
        init="orthogonal",
    ).train(training)
    if not training:
        lstm.train()
        lstm(torch.randn(4, 5, 2, dtype=torch.float64))  # statistics other than 0 and 1
        lstm.eval()
    x = torch.randn(int(lengths.max()), len(lengths), 2, dtype=torch.float64, requires_grad=True)
    # a common h_0 would make the variance of step 0 vanish, where finite differences mean nothing
    hx = tuple(torch.randn(2, len(lengths), 3, dtype=torch.float64, requires_grad=True) for _ in range(2))

    names = [n for n, _ in lstm.named_parameters()]
    values = tuple(p.detach().clone().requires_grad_() for p in lstm.parameters())

    def function(*inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        parameters = dict(zip(names, inputs[3:], strict=True))
        fresh = copy.deepcopy(lstm)  # each call from the same statistics
        output, state = torch.func.functional_call(
            fresh, parameters, (inputs[0], tuple(inputs[1:3])), {"lengths": lengths}
        )
        return output, *state

    assert gradcheck(function, (x, *hx, *values), atol=1e-5, nondet_tol=1e-9)
    assert gradgradcheck(function, (x, *hx, *values), atol=1e-4, rtol=1e-3, nondet_tol=1e-7, fast_mode=True)


@pytest.mark.parametrize("norm", [name for name in PRESETS if exact(name)])
def test_two_layers_with_projection(norm: str) -> None:
    lstm = rnnnorm.LSTM(INPUT, HIDDEN, 2, proj_size=2, norm=norm, dtype=torch.float64, backend="reference")
    x = torch.randn(3, 4, INPUT, dtype=torch.float64, requires_grad=True)
    h = torch.randn(2, 4, 2, dtype=torch.float64, requires_grad=True)
    c = torch.randn(2, 4, HIDDEN, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([3, 1, 2, 3])
    assert gradcheck(
        lambda x, h, c: copy.deepcopy(lstm)(x, (h, c), lengths=lengths)[0], (x, h, c), atol=1e-5, nondet_tol=1e-9
    )

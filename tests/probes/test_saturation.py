"""Saturated gates and the size of states."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import rnnnorm
from rnnnorm.probes import record
from rnnnorm.probes.layer_record import LayerRecord
from rnnnorm.probes.recording import normalizers
from rnnnorm.probes.saturation import derivative, rms, saturated_share


def made(a: torch.Tensor, active: list[int]) -> LayerRecord:
    return LayerRecord(active, a, {}, gates=list(a.split_with_sizes(active)))


@pytest.mark.parametrize("nonlinearity", ["sigmoid", "tanh", "relu", "identity"])
def test_derivatives_are_those_of_autograd(nonlinearity: str) -> None:
    a = torch.linspace(-4, 4, 17, dtype=torch.float64, requires_grad=True)
    y: Any = a * 1 if nonlinearity == "identity" else getattr(torch, nonlinearity)(a)
    y.sum().backward()
    torch.testing.assert_close(derivative(a.detach(), nonlinearity), a.grad)
    with pytest.raises(ValueError, match="sigmoid, tanh, relu or identity, got 'cubic'"):
        derivative(a, "cubic")


def test_thresholds_are_where_the_documentation_says() -> None:
    lstm = rnnnorm.LSTM(1, 1)
    inside, outside = torch.tensor([2.88, -2.88, 2.17, 2.88]), torch.tensor([2.90, -2.90, -2.19, 2.90])
    shares = saturated_share(made(torch.stack([inside, outside, outside]), [2, 1]), lstm)
    assert {name: share.tolist() for name, share in shares.items()} == {name: [0.5, 1.0] for name in "ifgo"}


@pytest.mark.parametrize(
    ("network", "names", "nonlinearities"),
    [
        (rnnnorm.GRU(3, 4), "rzn", ("sigmoid", "sigmoid", "tanh")),
        (rnnnorm.RNN(3, 4), "h", ("tanh",)),
        (rnnnorm.RNN(3, 4, nonlinearity="relu"), "h", ("relu",)),
        (rnnnorm.RNN(3, 4, nonlinearity="identity"), "h", ("identity",)),
    ],
    ids=["gru", "tanh", "relu", "identity"],
)
def test_each_gate_has_its_nonlinearity(network: Any, names: str, nonlinearities: tuple[str, ...]) -> None:
    with record(network, gates=True) as recording:
        network(10 * torch.randn(5, 2, 3))
    shares = saturated_share(recording.layers["l0"], network)
    assert list(shares) == list(names)
    for k, (name, nonlinearity) in enumerate(zip(names, nonlinearities, strict=True)):
        for t, a in enumerate(recording.layers["l0"].gates):
            expected = (derivative(a.chunk(len(names), 1)[k], nonlinearity) < 0.05).double().mean()
            assert shares[name][t] == pytest.approx(float(expected))


def test_rms_is_over_active_rows_and_units() -> None:
    assert rms([torch.tensor([[3.0, 4.0]]), torch.zeros(2, 2)]).tolist() == pytest.approx([math.sqrt(12.5), 0.0])


def test_normalizers_are_named_by_layer_and_place() -> None:
    norm = rnnnorm.Norm(hidden="ln", cell="ln", between="ln")
    lstm = rnnnorm.LSTM(3, 4, num_layers=2, bidirectional=True, norm=norm)
    inside = {
        f"l{k}{direction}/{place}" for k in (0, 1) for direction in ("", "_reverse") for place in ("hidden", "cell")
    }
    assert set(normalizers(lstm)) == inside | {"l0/between"}
    assert normalizers(torch.nn.Sequential(lstm))["l1/cell"] is lstm.norms("_l1").cell

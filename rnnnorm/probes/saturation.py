"""Saturation of gates, and the size of states."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, ClassVar

import lightning as L
import torch
from torch import Tensor

from rnnnorm.nn.stack import RecurrentStack
from rnnnorm.probes.base import Measurement, Probe, finite_mean
from rnnnorm.probes.heat_maps import HeatMap
from rnnnorm.probes.layer_record import LayerRecord
from rnnnorm.probes.recording import directions, normalizers, observe

THRESHOLD = 0.05
"""A unit counts as saturated where the derivative of its nonlinearity is below this."""
GATES: dict[str, tuple[str, ...]] = {"LSTM": ("i", "f", "g", "o"), "GRU": ("r", "z", "n"), "RNN": ("h",)}
UPDATES = ("g", "n")
"""The gates that are squashed by tanh."""


def derivative(a: Tensor, nonlinearity: str) -> Tensor:
    """The derivative of "sigmoid", "tanh", "relu" or "identity" at pre-activations a.

    Raises:
        ValueError: another nonlinearity.
    """
    if nonlinearity == "sigmoid":
        s = a.sigmoid()
        return s * (1 - s)
    if nonlinearity == "tanh":
        return 1 - a.tanh().square()
    if nonlinearity == "relu":
        return (a > 0).to(a.dtype)
    if nonlinearity == "identity":
        return torch.ones_like(a)
    raise ValueError(f"nonlinearity must be sigmoid, tanh, relu or identity, got {nonlinearity!r}")


def saturated_share(record: LayerRecord, network: RecurrentStack) -> dict[str, Tensor]:
    """Per gate, the share of its (row, unit) pairs with a derivative below 0.05 at each step, (T,) float64."""
    names = GATES.get(network.cell.name, ())
    nonlinearity = network.cell.nonlinearity or "sigmoid"
    rows = torch.cat(record.gates)
    shares = {}
    for name, a in zip(names, rows.chunk(max(len(names), 1), 1), strict=False):
        slope = derivative(a, "tanh" if name in UPDATES else nonlinearity)
        per_row = (slope < THRESHOLD).double().mean(1)
        shares[name] = torch.stack([part.mean() for part in per_row.split_with_sizes(record.active)])
    return shares


def rms(states: list[Tensor]) -> Tensor:
    """√(mean of squares) over active rows and units at each step, (T,) float64."""
    return torch.stack([state.detach().double().square().mean() for state in states]).sqrt()


class Saturation(Probe):
    """The share of saturated gates, and the size of h_t and c_t, against t; the values of all gains.

    A gate is saturated where σ' = σ(1 - σ) < 0.05, that is |a| > 2.89; an update where tanh' = 1 - tanh² < 0.05, that
    is |a| > 2.18. A saturated forget gate may be memory, a saturated update is a gradient that is gone: read them
    apart. In an RNN, "h" is its one nonlinearity (a ReLU is saturated where it is off, the identity nowhere).

    Scalars per layer: `saturated/l0/i`, … and `rms/l0/h`, `rms/l0/c`, averaged over steps; `gain/l0/hidden`, the mean
    gain of each normalizer. Histograms: `gain/…`. Series: `saturated/l0/i`, …, `rms/l0/h`, ….

    Args:
        every: training batches from one measurement to the next.

    Source: Cooijmans et al., "Recurrent Batch Normalization", ICLR 2017, explain by the saturation of tanh why gains
    should start at 0.1.
    """

    name: ClassVar[str] = "saturation"
    heat_maps: ClassVar[tuple[HeatMap, ...]] = (
        HeatMap("saturated", "share of saturated units", "share"),
        HeatMap("rms", "root mean square", "log"),
    )

    def watch(self, pl_module: L.LightningModule) -> AbstractContextManager[Any]:
        """Observe states and pre-activations."""
        return observe(pl_module, gates=True)

    def measure(self, trainer: L.Trainer, pl_module: L.LightningModule, watched: Any) -> Measurement:
        """Look at what the nonlinearities saw."""
        found = Measurement()
        for layer, network, _ in directions(pl_module):
            states = watched.layers.get(layer)
            if states is not None:  # it ran
                for gate, share in saturated_share(states, network).items():
                    found.rows[f"saturated/{layer}/{gate}"] = share
                for state, values in states.states.items():
                    found.rows[f"rms/{layer}/{state}"] = rms(values)
        for name, normalizer in normalizers(pl_module).items():
            gain: Tensor | None = normalizer.gain  # some learn none
            if gain is not None:
                found.histograms[f"gain/{name}"] = gain.detach()
        found.scalars = {name: finite_mean(row) for name, row in found.rows.items()}
        found.scalars |= {name: finite_mean(gain) for name, gain in found.histograms.items()}
        return found

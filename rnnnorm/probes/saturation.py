"""Saturation of gates, and the size of states."""

from __future__ import annotations

import math
from collections.abc import Mapping
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
from rnnnorm.probes.table import Table

THRESHOLD = 0.05
"""A unit counts as saturated where the derivative of its nonlinearity is below this."""
GATES: dict[str, tuple[str, ...]] = {
    "LSTM": ("i", "f", "g", "o"), "GRU": ("r", "z", "n"), "LiGRU": ("z", "n"), "RNN": ("h",),
    "IndRNN": ("h",),
}  # fmt: skip
UPDATES = ("g", "n")
"""The gates that are updates: squashed by tanh, in a LiGRU cut off by a ReLU."""


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
        update = "relu" if network.cell.name == "LiGRU" else "tanh"
        slope = derivative(a, update if name in UPDATES else nonlinearity)
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
    apart. In an RNN, "h" is its one nonlinearity (a ReLU is saturated where it is off, the identity nowhere); the
    update of a LiGRU is a ReLU, too.

    Scalars: `saturated`, the share of all gates of all layers, averaged over steps; `saturated_update`, of the updates
    alone, in the layer with most of them; `state_rms`, the largest root mean square of any layer's h_t or c_t.
    Histograms: `gain/l0/hidden`, … of each normalizer. Series: `saturated/l0/i`, …, `rms/l0/h`, ….

    Args:
        every: training batches from one measurement to the next; None as in `Probe`.

    Source: Cooijmans et al., "Recurrent Batch Normalization", ICLR 2017, explain by the saturation of tanh why gains
    should start at 0.1.
    """

    name: ClassVar[str] = "saturation"
    heat_maps: ClassVar[tuple[HeatMap, ...]] = (
        HeatMap(
            "saturated",
            "share of saturated units at each timestep",
            "share",
            "Bright: no gradient passes. A bright update (g, n, h) dies out; a bright f may be memory.",
            names={"i": "i, input", "f": "f, forget", "g": "g, update", "o": "o, output", "n": "n, update"},
        ),
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
        shares = {name: finite_mean(row) for name, row in found.rows.items() if name.startswith("saturated/")}
        updates = [share for name, share in shares.items() if name[-1] in (*UPDATES, "h")]
        sizes = [float(row.max()) for name, row in found.rows.items() if name.startswith("rms/")]
        found.scalars = {
            "saturated": sum(shares.values()) / max(len(shares), 1),
            "saturated_update": max(updates, default=math.nan),
            "state_rms": max(sizes, default=math.nan),
        }
        return found

    def shows(self, heat_map: HeatMap, panels: Mapping[str, Table]) -> str:
        """The gate with most of them."""
        last = {gate: finite_mean(torch.from_numpy(table.array()[-1])) for gate, table in panels.items()}
        gate, step = max(last, key=lambda name: last[name]), next(iter(panels.values())).steps[-1]
        return f"Step {step:,}: most in {gate}, {100 * last[gate]:.0f} %."

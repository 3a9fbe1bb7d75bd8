"""Pre-activations of a cell, computed from the recorded parts of a step."""

from __future__ import annotations

import torch
from torch import Tensor

from rnnnorm.equations import Layer


def pre_activations(
    layer: Layer, heard: dict[str, Tensor], gates_x: Tensor, before: tuple[Tensor, ...], after: tuple[Tensor, ...]
) -> Tensor:
    """The pre-activations a_t of one step, (B_t, G·H), in the cell's order of gates.

    No normalizer is called again, since that would move its statistics a second time.

    Args:
        layer: the layer that took the step.
        heard: "sum", what `Layer.gates` returned; "hidden", what `Layer.gates_h` returned; "joint" and "candidate",
            what the normalizers there returned.
        gates_x: as in `Equations.step`.
        before: the states before the step.
        after: the states after it.

    Raises:
        ValueError: a cell that computes its gates in another way than those of this package.
    """
    if layer.cell.name == "GRU":
        return _of_gru(layer, heard, gates_x)
    if "sum" not in heard:
        raise ValueError(f"the gates of a {layer.cell.name} cannot be recorded: its step does not use Layer.gates")
    gates, peepholes = heard["sum"], layer.weights.peepholes
    if peepholes is None:
        return gates
    i, f, g, o = gates.chunk(4, 1)
    c, c_new = before[1], after[1]
    return torch.cat((i + peepholes[0] * c, f + peepholes[1] * c, g, o + peepholes[2] * c_new), 1)


def _of_gru(layer: Layer, heard: dict[str, Tensor], gates_x: Tensor) -> Tensor:
    """a_r, a_z and a_n, (B_t, 3H)."""
    b, b_hn = layer.split
    u = heard["hidden"]
    H = u.shape[1] // 3
    if "joint" in heard:
        gates = heard["joint"] if b is None else heard["joint"] + b[: 2 * H]
        candidate = heard["candidate"] if b is None else heard["candidate"] + b[2 * H :]
    else:
        gates = gates_x[:, : 2 * H] + u[:, : 2 * H]
        u_n = u[:, 2 * H :] if b_hn is None else u[:, 2 * H :] + b_hn
        candidate = gates_x[:, 2 * H :] + gates[:, :H].sigmoid() * u_n
    return torch.cat((gates, candidate), 1)

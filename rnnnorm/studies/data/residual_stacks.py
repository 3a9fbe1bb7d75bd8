"""Deep stacks with and without skips, and how large each block's part of what it hands on is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from rnnnorm.nn.recurrent import Recurrent
from rnnnorm.norms.places import Norm
from rnnnorm.norms.presets import parse_norm
from rnnnorm.studies.data.surgery import scale_weights
from rnnnorm.tasks.cells import build_recurrent

SEQUENCE = "bn:statistics=sequence"
METHODS: dict[str, dict[str, Any]] = {
    "no-skip": {},
    "plain": {"residual": "plain"},
    "bn-branch": {"residual": "plain", "between": SEQUENCE},
    "bn-sum": {"residual": "plain", "between": SEQUENCE, "between_on": "sum"},
    "skipinit-0": {"residual": "skipinit", "residual_scale": 0.0},
    "skipinit-depth": {"residual": "skipinit", "residual_scale": "depth"},
    "skipinit-1": {"residual": "skipinit", "residual_scale": 1.0},
    "fixup": {"residual": "fixup"},
}
"""Ways to make a stack deep: arguments of `rnnnorm.LSTM`, and the normalizer between layers."""


def arguments(method: str, norm: str) -> dict[str, Any]:
    """The arguments of a recurrent network that make a method, with a normalizer inside its layers.

    Raises:
        ValueError: there is no such method.
    """
    if method not in METHODS:
        raise ValueError(f"there is no method {method!r}; there are: {', '.join(METHODS)}")
    keys = dict(METHODS[method])
    between = keys.pop("between", None)
    inside = parse_norm(norm)
    places: dict[str, Any] = inside.places
    return {**keys, "norm": Norm(**{**places, "between": between}, carried=inside.carried) if between else inside}


def build_stack(cell: str, method: str, norm: str, size: int, depth: int, steps: int) -> Recurrent[Any]:
    """A stack whose input has as many features as its layers, so that every layer has a skip, in float64.

    W_ih is Glorot-uniform, multiplied by √2 for ReLU (He et al. 2015), which keeps E[h²] from layer to layer.
    """
    keys = {"max_steps": steps, "init": "orthogonal", "dtype": torch.float64, **arguments(method, norm)}
    network: Recurrent[Any] = build_recurrent(cell, None, size, size, depth, **keys)
    if cell == "rnn-relu":
        scale_weights(network, math.sqrt(2))
    return network


@torch.no_grad()
def moments(network: Recurrent[Any], rows: Tensor, batch_sizes: Tensor) -> Iterator[tuple[float, float]]:
    """Per layer the second moment of what it hands on, E[h²], and of what it adds to its input, over E[h²].

    Args:
        network: in training mode if batch statistics are to be those of the rows.
        rows: packed input, (N, F).
        batch_sizes: sequences at each step.
    """
    states = network.zero_states(rows, int(batch_sizes[0]))
    for layer in range(network.num_layers):
        output, _ = network.run_layer(rows, batch_sizes, [states] * network.num_directions, layer)
        square = float(output.square().mean())
        added = float((output - rows).square().mean()) if output.shape == rows.shape else square
        yield square, added / square
        rows = output


def growth(
    cell: str, method: str, norm: str, *, size: int, depth: int, batch: int, steps: int, draws: int, seed: int
) -> Iterator[tuple[int, float, float]]:
    """Per block its number from 1, E[h²] behind it (geometric mean over draws), and its branch's mean share of that.

    Args:
        cell: as for `build_stack`.
        method: one of `METHODS`.
        norm: inside the layers.
        size: features of the Gaussian rows that the stack reads.
        depth: blocks.
        batch: sequences.
        steps: of each sequence.
        draws: of weights and rows.
        seed: of all draws.
    """
    torch.manual_seed(seed)
    found, sizes = torch.empty(draws, depth, 2, dtype=torch.float64), torch.full((steps,), batch)
    for draw in found:
        rows = torch.randn(steps * batch, size, dtype=torch.float64)
        # One more than counts: nothing stands behind the last layer, so that its block has no normalizer between.
        network = build_stack(cell, method, norm, size, depth + 1, steps)
        draw.copy_(torch.tensor(list(islice(moments(network, rows, sizes), depth)), dtype=torch.float64))
    squares, shares = found[..., 0].log().mean(0).exp().tolist(), found[..., 1].mean(0).tolist()
    yield from zip(range(1, depth + 1), squares, shares, strict=True)

"""Gradient norms along time, ‖∂L/∂h_t‖, of networks at initialization and after training."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rnnnorm.probes import growth, record
from rnnnorm.studies.framework import Row, Trained
from rnnnorm.tasks.cells import build_recurrent

ALIVE = -6.0
"""Decades between ‖∂L/∂h_T‖ and ‖∂L/∂h_0‖: below, a gradient counts as vanished."""


def fate(decades: float) -> str:
    """The fate of a gradient over MNIST's pixels, in words."""
    word = "vanishes" if decades < ALIVE else "explodes" if decades > -ALIVE else "survives"
    return f"{word} over 784 pixels: {abs(decades):.0f} decades {'down' if decades < 0 else 'up'}"


def yang(batch_size: float) -> float:
    """√((B-2)/(B-3)), the growth of the gradient norm per normalized linear layer (Yang et al. 2019); infinite at 3."""
    return math.sqrt((batch_size - 2) / (batch_size - 3)) if batch_size > 3 else math.inf


def projected_gradients(
    network: torch.nn.Module, x: Tensor, h0: Tensor, projection: Tensor, c0: Tensor | None = None
) -> list[Tensor]:
    """‖∂L/∂h_t‖, (T,) per layer, the lowest first, of L = Σ projection ⊙ h_{T-1} of the last layer.

    Args:
        network: a recurrent network.
        x: (T, B, I).
        h0: (layers, B, H).
        projection: (B, H).
        c0: of an LSTM, like `h0`.
    """
    network.zero_grad()
    with record(network) as recording:
        output, _ = network(x, h0 if c0 is None else (h0, c0))
        (output[-1] * projection).sum().backward()
    return [layer.gradient_norms()["h"] for layer in recording.layers.values()]


def gradients_at_start(
    x: Tensor, norm: str, hidden_size: int, layers: int, scale: float, here: Mapping[str, Any]
) -> list[Tensor]:
    """‖∂L/∂h_t‖, (T,) per layer, of a new network with orthogonal W_hh, from a Gaussian state.

    Args:
        x: input, (T, B, I) float64.
        norm: the normalizer.
        hidden_size: H.
        layers: how many.
        scale: standard deviation of h_0.
        here: conditions: `cell`; `W_hh`, "identity" to begin with the identity; `input`, "no" for input of zeros.
    """
    T, B, size = x.shape
    network = build_recurrent(
        str(here["cell"]), None, size, hidden_size, layers, norm=norm, max_steps=T, init="orthogonal"
    )
    if here.get("W_hh") == "identity":
        network.assign("weight_hh_l0", torch.eye(hidden_size))
    h0 = scale * torch.randn(layers, B, hidden_size, dtype=torch.float64)
    c0 = torch.randn_like(h0) if here["cell"] == "lstm" else None
    projection = torch.randn(B, hidden_size, dtype=torch.float64)
    seen = torch.zeros_like(x) if here.get("input") == "no" else x
    return projected_gradients(network.double().train(), seen, h0, projection, c0)


def growths(layers: Sequence[Tensor]) -> Iterator[Row]:
    """`growth` of the last layer's gradient per step back, over the middle of the steps; `layer_growth` of several.

    Args:
        layers: ‖∂L/∂h_t‖, (T,) per layer, the lowest first.
    """
    T = len(layers[-1])
    yield {"quantity": "growth", "value": growth(layers[-1], T // 5, 4 * T // 5)}
    if len(layers) > 1:
        by_layer = torch.stack([norms.square().sum().sqrt() for norms in layers])
        yield {"quantity": "layer_growth", "value": growth(by_layer, 0, len(layers))}


def along(norms: Tensor, every: int = 1) -> Iterator[Row]:
    """`gradient_norm` by `t`, of every so many steps and of the last one; where some are left out also `decades`."""
    if every > 1:
        yield {"quantity": "decades", "value": float(torch.log10(norms[0].clamp(min=1e-300) / norms[-1]))}
    for t in sorted({*range(0, len(norms), every), len(norms) - 1}):
        yield {"quantity": "gradient_norm", "t": t, "value": float(norms[t])}


def task_gradients(trained: Trained) -> Tensor:
    """‖∂L/∂h_t‖, (T,), of the last layer, where L is the task's loss on a validation batch, in training mode."""
    model = trained.model().train()
    batch = next(iter(trained.data().val_dataloader()))
    with record(model) as recording:
        logits, _ = model(batch.input)
        model.losses(logits, batch.target).mean().backward()  # type: ignore[no-untyped-call]
    return list(recording.layers.values())[-1].gradient_norms()["h"]

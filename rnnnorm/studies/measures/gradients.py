"""Gradient norms along time, ‖∂L/∂h_t‖, of networks at initialization and after training."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from rnnnorm.probes import growth, record
from rnnnorm.studies.data.pixels import pixels
from rnnnorm.studies.framework import Lines, Row, Trained, Trial, where
from rnnnorm.studies.framework.plots import OTHERS
from rnnnorm.studies.framework.settings import Settings
from rnnnorm.tasks.cells import build_recurrent

ALIVE = -6.0
"""Decades between ‖∂L/∂h_T‖ and ‖∂L/∂h_0‖: below, a gradient counts as vanished."""

FINITE_WIDTH = Lines(
    "share", "log of growth / log of √((B-2)/(B-3))", "batch size / width, B/H",
    "How much of Yang's growth is left at finite width, linear RNN.", x="ratio", log="x", line="H = {width}",
    only={"cell": "rnn-identity"}, ticks=(0.01, 0.1, 1.0), curve=lambda ratio: math.exp(-ratio),
    formula="exp(−B/H), a description, no theory", colours=OTHERS,
)  # fmt: skip


def fate(decades: float) -> str:
    """The fate of a gradient over MNIST's pixels, in words."""
    word = "vanishes" if decades < ALIVE else "explodes" if decades > -ALIVE else "survives"
    return f"{word} over 784 pixels: {abs(decades):.0f} decades {'down' if decades < 0 else 'up'}"


def yang(batch_size: float) -> float:
    """√((B-2)/(B-3)), the growth of the gradient norm per normalized linear layer (Yang et al. 2019); infinite at 3."""
    return math.sqrt((batch_size - 2) / (batch_size - 3)) if batch_size > 3 else math.inf


def weight_of_width(here: Mapping[str, Any]) -> float:
    """About how many seconds a network of some width takes on the way of Yang's formula."""
    return 0.4 * max(1.0, float(here["width"]) / 100)


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


def untrained(trial: Trial, settings: Settings) -> list[Tensor]:
    """‖∂L/∂h_t‖, (T,) per layer, at initialization under the conditions of a trial of the gradient-flow study.

    Args:
        trial: its conditions say the part, the cell, and where they matter the gain, B, H and the steps.
        settings: their options are the sizes that no condition gives.
    """
    c, option = trial.conditions, settings.option
    depth, B = int(option("layers")) if c["part"] == "layers" else 1, int(c.get("batch", 100))
    H = int(c.get("width", option("hidden_size")))
    norm = f"{trial.norm}:gain={c['gain']:g}" if "gain" in c else trial.norm
    norm += ":eps=1e-12" if c["part"] == "batch" else ""
    torch.manual_seed(trial.seed)
    if c["part"] == "pixels":
        # Rows that all agree (h_0 = 0 before a black border) are the question of another study.
        return gradients_at_start(pixels(B, trial.seed, settings.data_dir), norm, H, depth, 0.1, c)
    x = torch.randn(int(c["steps"]), B, H if depth > 1 else 1, dtype=torch.float64)
    return gradients_at_start(x, norm, H, depth, 1.0, c)


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


def share_of_theory(linear: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """`share` of the logarithm of Yang's factor that growth has, with `ratio` B/H; `agreement`, 1 - |share - 1|.

    The share is 0 where nothing grows, however close to 1 the factor itself may be. B = 3, where the formula is
    infinite, is left out.

    Args:
        linear: measurements of linear networks; `growth` by `batch` and `width`.
    """
    rows = where(linear, quantity="growth")
    rows = rows[rows["batch"] > 3]
    if len(rows):
        share = np.log(rows["value"]) / np.log(rows["batch"].map(yang))
        yield rows.assign(quantity="share", value=share, ratio=rows["batch"] / rows["width"])
        yield rows.assign(quantity="agreement", value=1 - (share - 1).abs())


def decades_between(m: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """The `least` and the `most` of the `decades` by gain, over seeds, weights and forms; each as if of one seed."""
    for _, rows in where(m, quantity="decades").groupby("gain", sort=False):
        for name, value in (("least", rows["value"].min()), ("most", rows["value"].max())):
            yield rows.iloc[:1].assign(quantity=name, value=value)

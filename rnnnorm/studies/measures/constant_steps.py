"""Gradients through steps in which all sequences are alike: growth against 1/ε, and how both are drawn."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from itertools import pairwise

import pandas as pd
import torch
from matplotlib.axes import Axes
from torch import Tensor
from torch.nn import Module

from rnnnorm.report.canvas import Theme
from rnnnorm.studies.framework import paired, where
from rnnnorm.studies.framework.plots import rule
from rnnnorm.studies.framework.selection import occurring, signed
from rnnnorm.tasks.cells import build_recurrent


def inverse_eps(m: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """`deviation` of the ratio of `growth` at one ε and at the `following` one from the ratio of 1/ε."""
    for eps, following in pairwise(occurring(where(m, quantity="growth"), "eps")):
        both = where(m, eps=[eps, following])
        ratio = paired(both, "growth", {"eps": following}, "deviation", operator.truediv)
        yield ratio.assign(value=(ratio["value"] * eps / following - 1).abs(), following=following)


def rounding_shares(x: Tensor, hidden_size: int, norm: str, exact: str) -> Iterator[tuple[str, float]]:
    """Share of a gradient by all parameters that is not the true one, in float64 and in float32.

    One that is no number is all error. The gradient is that of a random projection of the last state of a new LSTM
    with orthogonal W_hh.

    Args:
        x: (T, B, I) float64.
        hidden_size: H.
        norm: the normalizer.
        exact: the one by which gradients in float64 are taken for true; with the same parameters.
    """
    networks = []
    state = torch.get_rng_state()
    for name in (exact, norm):
        torch.set_rng_state(state)
        made = build_recurrent("lstm", None, x.shape[2], hidden_size, 1, norm=name, max_steps=len(x), init="orthogonal")
        networks.append(made.double().train())
    projection = torch.randn(x.shape[1], hidden_size, dtype=torch.float64)
    true = _gradient(networks[0], x, projection)
    for dtype, precision in ((torch.float64, "float64"), (torch.float32, "float32")):
        found = _gradient(networks[1].to(dtype), x.to(dtype), projection.to(dtype))
        yield precision, float((found - true).norm() / found.norm()) if torch.isfinite(found).all() else 1.0


def _gradient(network: Module, x: Tensor, projection: Tensor) -> Tensor:
    parameters = list(network.parameters())
    loss = (network(x)[0][-1] * projection).sum()
    return torch.cat([part.double().flatten() for part in torch.autograd.grad(loss, parameters)])


def along_time(m: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Gradient norms as `along`, under the name `shown`: at the smallest gain by ε and noise, and of other norms."""
    norms = where(m, quantity="gradient_norm")
    steps = where(m, quantity="constant_steps", part=["eps", "norm"])["value"].max()
    gains = occurring(where(norms, part="eps"), "gain")[:1]
    of_bn = where(norms, part=["eps", "noise"], gain=gains, noise=[0.0, 0.1])
    names = [
        f"bn-timestep, ε = {signed(f'{eps:g}')}" + (f", noise {noise:g} on h_0" if noise else "")
        for eps, noise in zip(of_bn.get("eps", ()), of_bn.get("noise", ()), strict=True)
    ]
    others = where(norms, part="norm", norm=["none", "ln"])
    for rows, shown in ((of_bn, names), (others, others["norm"])):
        yield rows.assign(quantity="along", shown=shown, constant=steps)


def as_norm(shown: str) -> str:
    """The norm of a line of `along_time` as it is written for a network: with its ε where that is not 1e-5."""
    norm, _, rest = shown.partition(", ε = ")
    eps = rest.partition(",")[0]
    return f"{norm}:eps={eps.replace('−', '-')}" if eps not in ("", "1e−5") else norm


def shade_constant(axes: Axes, theme: Theme, rows: pd.DataFrame) -> None:
    """The steps that are the same in all sequences, as an area."""
    steps = float(rows["constant"].max())
    axes.axvspan(0, steps, color=theme.grid, alpha=0.5, linewidth=0)
    rule(axes, theme, x=steps, text="inputs begin to differ")


def draw_inverse(axes: Axes, theme: Theme, rows: pd.DataFrame) -> None:
    """A line ∝ 1/ε through the first point of each gain."""
    for number, (_, group) in enumerate(rows.groupby("gain")):
        mean = group.groupby("eps")["value"].mean().sort_index()
        line = mean.iloc[0] * mean.index[0] / mean.index.to_numpy(dtype=float)
        axes.plot(mean.index, line, "-.", color=theme.muted, linewidth=1, label="∝ 1/ε" if number == 0 else None)


def clipped(norm: float) -> str:
    """The largest norm of a gradient, 0 for any, in words."""
    return f"gradients clipped to {norm:g}" if norm else "no clipping"


def arm(norm: str, noise: float, clip: float) -> str:
    """A trained arm in words."""
    return f"{norm}{f', noise {noise:g}' if noise else ''}{'' if clip else ', no clipping'}"

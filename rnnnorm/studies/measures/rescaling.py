"""What a normalized network's output does not depend on: the rows of Ba et al.'s table of invariances, measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pandas as pd
import torch
from matplotlib.axes import Axes
from torch import Tensor
from torch.nn.utils import parametrize

from rnnnorm.nn.lstm import LSTM
from rnnnorm.report.canvas import Theme
from rnnnorm.studies.data.surgery import scale_weights

FACTOR = 3.0
CHANGES = ("matrix", "centre", "vector", "data", "shift", "case")
"""Weight matrix re-scaled, re-centred, one weight vector re-scaled, data re-scaled, re-centred, one case re-scaled."""
PUBLISHED = {
    "matrix": ("bn", "wn", "ln", "rms"),
    "centre": ("ln",),
    "vector": ("bn", "wn"),
    "data": ("bn", "ln", "rms"),
    "shift": ("bn",),
    "case": ("ln", "rms"),
}
"""The normalizers said to be invariant (Ba et al. 2016, table 1; RMS: Zhang & Sennrich 2019)."""


def deviations(norm: str, hidden_size: int, steps: int, batch: int, seed: int) -> Iterator[tuple[str, float]]:
    """For each change the relative deviation of an LSTM's normalized products, ‖N(a') - N(a)‖/‖N(a)‖.

    N(a) is what reaches the gates in the first step from h_0 = 0, without b: products with W_ih alone, so that a
    change of data or weights meets a single normalizer, as in the table. Float64, training mode, Gaussian input with
    a mean other than 0, LSTM of one layer.

    Args:
        norm: a preset with overrides that normalizes W_ih x, or none.
        hidden_size: H.
        steps: input steps.
        batch: sequences.
        seed: of weights and input.
    """
    torch.manual_seed(seed)
    lstm = LSTM(hidden_size, hidden_size, norm=norm, max_steps=steps, init="torch", dtype=torch.float64)
    x = torch.randn(steps * batch, hidden_size, dtype=torch.float64) + 0.3
    if lstm.needs_data:
        lstm.initialize_from_data(x.view(steps, batch, hidden_size))
    plain = products(lstm, x, batch)
    noise = torch.randn(hidden_size, dtype=torch.float64)
    before = {name: value.clone() for name, value in lstm.state_dict().items()}

    def changed(change: Callable[[], None] | None = None, rows: Tensor = x) -> float:
        if change is not None:
            change()
        found = products(lstm, rows, batch)
        lstm.load_state_dict(before)
        return float((found - plain).norm() / plain.norm())

    yield "matrix", changed(lambda: scale_weights(lstm, FACTOR, _has_direction(lstm)))
    yield "centre", changed(lambda: _centre(lstm, noise))
    yield "vector", changed(lambda: _scale_vector(lstm))
    yield "data", changed(rows=FACTOR * x)
    yield "shift", changed(rows=x + noise)
    case = x.view(steps, batch, hidden_size).clone()
    case[:, 0] *= FACTOR
    yield "case", changed(rows=case.view_as(x))


@torch.no_grad()
def products(lstm: LSTM, rows: Tensor, batch: int) -> Tensor:
    """What the normalizer of W_ih x makes of packed dense rows (N, F) in sequences that are `batch` wide, (N, 4H)."""
    product = rows @ lstm.layer_weights("_l0").W_ih.T
    normalizer = lstm.norms("_l0").input
    return product if normalizer is None else normalizer.sequence(product, [batch] * (len(rows) // batch))


def side_by_side(changes: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Deviations by `change` with a column `invariant`, whether the norm is said to be; and as `shown` at a `place`.

    Norms stand side by side, so that what is equal does not hide what is below.
    """
    pairs = zip(changes["norm"].str.split("[:-]").str[0], changes["change"], strict=True)
    yield changes.assign(invariant=[kind in PUBLISHED[change] for kind, change in pairs])
    norms = list(dict.fromkeys(changes["norm"]))
    beside = changes["norm"].map({norm: 0.12 * (k - (len(norms) - 1) / 2) for k, norm in enumerate(norms)})
    place = changes["change"].map(CHANGES.index) + beside
    yield changes.assign(quantity="shown", value=changes["value"].clip(lower=1e-7), place=place)


def name_changes(axes: Axes, theme: Theme, m: pd.DataFrame) -> None:
    """The names of the changes, short ones, at the x axis."""
    axes.set_xticks(range(len(CHANGES)), ["W × 3", "W shifted", "rows × 3", "data × 3", "shifted", "case × 3"])


def _has_direction(lstm: LSTM) -> bool:
    return parametrize.is_parametrized(lstm, "weight_ih_l0")


def _free(lstm: LSTM) -> Tensor:
    """The matrix that gradient descent turns: W_ih, or the v of weight normalization."""
    name = "parametrizations.weight_ih_l0.original1" if _has_direction(lstm) else "weight_ih_l0"
    return lstm.get_parameter(name)


@torch.no_grad()
def _centre(lstm: LSTM, noise: Tensor) -> None:
    """Add one vector to all rows of W, which shifts all products of a case by the same number."""
    _free(lstm).add_(noise)


@torch.no_grad()
def _scale_vector(lstm: LSTM) -> None:
    _free(lstm)[::2].mul_(FACTOR)

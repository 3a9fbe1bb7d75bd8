"""What the measurements of the study of depth say: growth, shares, the best learning rate, the deepest trainable."""

from __future__ import annotations

import math
from collections.abc import Iterable

import pandas as pd

from rnnnorm.studies.framework.measurements import values, where

CELLS = {"lstm": "LSTM", "rnn-tanh": "tanh RNN", "rnn-relu": "ReLU RNN"}
NAMES = {
    "no-skip": "no skip",
    "plain": "skip",
    "bn-branch": "BN on branch",
    "bn-sum": "BN on sum",
    "skipinit-0": "SkipInit α = 0",
    "skipinit-depth": "SkipInit α = 1/√d",
    "skipinit-1": "SkipInit α = 1",
    "fixup": "Fixup",
}
OPTIMIZERS = {"adam": "Adam", "sgd": "SGD"}
NATS = 0.05
"""The smallest difference of training losses that counts."""
SLACK = 0.1
"""A depth counts as trainable up to that many nats above a plain skip at the smallest depth."""
FADED = 1e-3
"""Where an E[h²] leaves the figure."""
PAINT = dict(
    zip(
        NAMES.values(),
        ("#222f3a", "#878787", "#4e6dea", "#2d6779", "#d77810", "#c5b500", "#a8453f", "#b04db1"),
        strict=True,
    )
)
STYLES = {NAMES["no-skip"]: ":", NAMES["skipinit-1"]: "--", NAMES["bn-sum"]: "-."}


def power(m: pd.DataFrame) -> float:
    """The p of E[h²] ∝ l^p from half the depth to all of it, one seed."""
    return math.log2(_late(m))


def per_block(m: pd.DataFrame) -> float:
    """The factor by which a block multiplies E[h²], over the second half of the depth, one seed."""
    last = int(m["block"].max())
    return math.pow(_late(m), 1 / (last - last // 2))


def _late(m: pd.DataFrame) -> float:
    squares = where(m, quantity="square").set_index("block")["value"]
    last = int(squares.index.max())
    return float(squares[last] / squares[last // 2])


def last_share(m: pd.DataFrame) -> list[float]:
    """The share of the last branch in E[h²], each seed."""
    rows = where(m, quantity="share")
    return [] if rows.empty else where(rows, block=rows["block"].max())["value"].tolist()


def tuned(m: pd.DataFrame) -> pd.DataFrame:
    """Of every cell, depth, method and norm the learning rate with the lowest mean training loss at the end."""
    keys = ["cell", "optimizer", "depth", "method", "norm"]
    losses = where(m, quantity="loss")
    if losses.empty:
        return losses
    mean = losses.groupby([*keys, "learning_rate"], sort=False)["value"].mean().reset_index()
    best = mean.sort_values("value", kind="stable").drop_duplicates(keys)[[*keys, "learning_rate"]]
    return m.merge(best, on=[*keys, "learning_rate"])


def trainable(m: pd.DataFrame) -> dict[str, str]:
    """Per method the greatest depth whose mean loss is within `SLACK` of a plain skip at the smallest depth.

    Args:
        m: final losses of one cell.
    """
    rows = labelled(m)
    mean = rows.groupby(["line", "depth"], sort=False)["value"].mean() if len(rows) else pd.Series(dtype=float)
    first = (NAMES["plain"], min(values(m, "depth"), default=0))
    if first not in mean.index:
        return {}
    found = {}
    for line in dict.fromkeys(rows["line"]):
        good = [depth for depth, loss in mean[line].items() if loss <= mean[first] + SLACK]
        found[str(line)] = f"{max(good):.0f}" if good else "none"
    return found


def labelled(m: pd.DataFrame) -> pd.DataFrame:
    """The same with a column `line`: the method, and the norm inside the layers, as a legend has them."""
    m = m.copy()
    m["line"] = [
        NAMES.get(method, method) + ("" if norm == "none" else f" + {norm}")
        for method, norm in zip(m.get("method", []), m.get("norm", []), strict=True)
    ]
    return m


def by_seed(m: pd.DataFrame) -> list[pd.DataFrame]:
    """The rows of E[h²], one table per seed."""
    rows = where(m, quantity="square")
    return [group for _, group in rows.groupby("seed")] if len(rows) else []


def occurring(m: pd.DataFrame, order: Iterable[str]) -> list[str]:
    """The cells in a table, in that order, others after them."""
    found = values(m, "cell")
    return [cell for cell in order if cell in found] + [cell for cell in found if cell not in order]


def arms(m: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Cells and optimizers that were trained, ReLU and SGD first, where the theory was made; and a name for each."""
    return [
        (cell, optimizer, f"{CELLS.get(cell, cell)}, {OPTIMIZERS.get(optimizer, optimizer)}")
        for cell in occurring(m, CELLS)[::-1]
        for optimizer in values(where(m, cell=cell), "optimizer")[::-1]
    ]


def chance(m: pd.DataFrame) -> float | None:
    """The loss of logits of 0; None where nothing was trained."""
    first = where(m, quantity="blank_loss")["value"]
    return float(first.median()) if len(first) else None


def layers(cell: str) -> str:
    """What a stack of that cell is called."""
    return "ReLU layers" if cell == "rnn-relu" else f"{CELLS.get(cell, cell)} layers"

"""Effects at sizes, their slopes per doubling, and the growth of the last step's gradient."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning import LightningDataModule

from rnnnorm.probes import growth, record
from rnnnorm.studies.framework.measurements import difference, per_seed, where
from rnnnorm.tasks import SequenceTask

BACK = 16
"""Steps back in time over which the growth of a gradient is measured: as many at every size."""


def decades_per_step(model: SequenceTask, data: LightningDataModule) -> float:
    """The logarithm to base 10 of the growth of ‖∂L/∂h_t‖ per step back in time.

    L is the mean loss of the last step of a validation batch, in training mode and float64, since losses of every step
    would feed the gradient on its way. Infinite where a gradient is not finite, minus infinity where one is 0.

    Args:
        model: with a target per row; is left in float64 and training mode.
        data: whose sequences are all of one length of more than `BACK` steps.
    """
    model.double().train()
    batch = next(iter(data.val_dataloader()))
    with record(model) as recording:
        logits, _ = model(batch.input)
        rows = int(batch.input.batch_sizes[-1])
        model.losses(logits, batch.target)[-rows:].mean().backward()  # type: ignore[no-untyped-call]
    norms = list(recording.layers.values())[-1].gradient_norms()["h"]
    factor = growth(norms, len(norms) - 1 - BACK, len(norms) - 1)
    if not math.isnan(factor):
        return math.log10(factor)
    return -math.inf if bool(torch.isfinite(norms).all()) else math.inf


def slope(sizes: Sequence[float], effects: Sequence[float]) -> float:
    """The least-squares slope of an effect on log₂(size): by how much a doubling changes it.

        Σ x e / Σ x²,  x = log₂(size) - its mean

    Infinite effects, as of a network that diverged, make it infinite: towards where they weigh more, 0 if they balance.

    Args:
        sizes: two or more.
        effects: one per size; infinite ones have a sign.
    """
    x, e = np.log2(np.asarray(sizes, float)), np.asarray(effects, float)
    x -= x.mean()
    lost = np.isinf(e)
    if lost.any():
        balance = float(x[lost] @ np.sign(e[lost]))
        return 0.0 if math.isclose(balance, 0.0, abs_tol=1e-9) else math.copysign(math.inf, balance)
    return float(x @ e / (x @ x))


def effects(m: pd.DataFrame, pairs: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]]) -> pd.DataFrame:
    """`effect` by `effect`, `along`, `size` and seed, with `doublings` of the smallest size.

    Args:
        m: measurements by `along` and `size`.
        pairs: effect → the columns of what is compared and of its reference; paired by seed, 0 where both diverged.
    """
    rows = []
    for (along, size), here in m.groupby(["along", "size"], sort=False):
        doublings = math.log2(size / m.loc[m["along"] == along, "size"].min())
        for name, (one, other) in pairs.items():
            values = per_seed(here, **one), per_seed(here, **other)
            seeds = values[0].index.intersection(values[1].index)
            place = {"quantity": "effect", "effect": name, "along": along, "size": size, "doublings": doublings}
            found = zip(seeds, difference(*values), strict=True)
            rows += [{**place, "seed": seed, "value": value} for seed, value in found]
    return pd.DataFrame(rows)


def slopes(found: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """`slope` by `effect`, `along` and seed; of seeds that have all sizes, of which there are two or more.

    Args:
        found: the table of `effects`.
    """
    if found.empty:
        return
    for (name, along), rows in where(found, quantity="effect").groupby(["effect", "along"], sort=False):
        table = rows.pivot(index="seed", columns="size", values="value").dropna()
        for seed, values in table.iterrows() if table.shape[1] > 1 else ():
            value = slope([*table.columns], [*values])
            yield {"quantity": "slope", "effect": name, "along": along, "seed": seed, "value": value}

"""Reading the measurements of raggedness: scores, gaps, what lag and noise cost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from rnnnorm.studies.framework.estimate import Estimate, estimate
from rnnnorm.studies.framework.measurements import difference, per_seed, where

BASE, WITHOUT = "bn-timestep", "none"
RAGGED, FRAMED, OWN = "heavy-tailed", "framed", "own"
LENGTHS = (RAGGED, "uniform", "fixed")
OVERALL, LATE, NATS = 0.01, 0.02, 0.01
LOSSES = ("JSB",)
"""Data whose score is a loss, in nats."""
NATS_NOTE = "(nats)"


def score(m: pd.DataFrame, norm: str, mode: str = "running", region: str = "all", **conditions: Any) -> pd.Series:
    """The score of each seed; without further conditions that of batches of similar length and no padding."""
    plain = {"batches": "similar", "padding": "no", "quantity": "score"}
    return per_seed(m, norm=norm, mode=mode, region=region, **{**plain, **conditions})


def gap(m: pd.DataFrame, norm: str, data: str, region: str = "all") -> pd.Series:
    """Score by the batch's own statistics minus by running averages."""
    rows = where(m, quantity="gap", region=region, batches="similar", padding="no")
    return per_seed(rows, norm=norm, data=data)


def spoken(data: str, batches: str = "similar") -> str:
    """Data and batches in words."""
    name = {RAGGED: "heavy-tailed lengths", "uniform": "uniform lengths", "fixed": "fixed lengths", OWN: "your data"}
    name |= {FRAMED: "heavy-tailed lengths, first symbol constant", **{loss: f"{loss} {NATS_NOTE}" for loss in LOSSES}}
    return name.get(data, data) + (", mixed batches" if batches == "mixed" else "")


def places(m: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Data and batches for which there are scores."""
    rows = where(m, quantity="score", padding="no")
    yield from dict.fromkeys(zip(rows.get("data", ()), rows.get("batches", ()), strict=True))


def least(data: str, region: str) -> float:
    """The smallest effect that counts."""
    return NATS if data in LOSSES else LATE if region == "late" else OVERALL


def home(m: pd.DataFrame) -> str:
    """The generated data with ragged lengths, or the user's."""
    return OWN if OWN in set(m.get("data", ())) else RAGGED


def cures(m: pd.DataFrame, data: str, batches: str = "similar") -> list[str]:
    """Variants of the base that were tried on some data."""
    rows = where(m, quantity="score", data=data, batches=batches, padding="no")
    kin = (BASE + ":", "bn-window", "brn")
    return [norm for norm in dict.fromkeys(rows["norm"]) if norm.startswith(kin)]


def lag_and_noise(
    m: pd.DataFrame, data: str, batches: str = "similar", region: str = "all"
) -> tuple[pd.Series, pd.Series]:
    """What resting weights win for running averages, and what these then lack to population statistics."""
    modes = ("running", "at rest", "population")
    trained, rested, exact = (score(m, BASE, mode, region, data=data, batches=batches) for mode in modes)
    return rested - trained, exact - rested


def minus(a: pd.Series, b: pd.Series) -> Estimate:
    """A - b, paired by seed."""
    return estimate(difference(a, b))


def by_mode(mode: str) -> str:
    """A mode of evaluation in words."""
    words = {"running": "running averages", "population": "population statistics", "batch": "each batch's own"}
    return words[mode]


def in_region(region: str) -> str:
    """A region of steps in words."""
    return "late steps" if region == "late" else "overall"

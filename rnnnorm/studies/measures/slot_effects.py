"""Effects of almost constant slots: which scores are compared, on which tasks, and from when a difference counts."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import pandas as pd

from rnnnorm.studies.framework.contrast import Contrast
from rnnnorm.studies.framework.derive import paired
from rnnnorm.studies.framework.measurements import where
from rnnnorm.studies.framework.selection import Point, Rule, beginning
from rnnnorm.studies.measures.mended import BASES

NEEDED, NEEDED_PER_CHORD = 0.02, 0.1
"""The smallest effects of interest: of an accuracy and of nats per letter; of nats per chord of 88 keys."""
CONTROLS = ("unframed", "language", "permuted", "digits", "chorales")
"""The tasks whose sequences do not begin alike; nor do recordings of digits, whose silence is cut off and is noise."""
PLAIN, per_slot = "bn-timestep", beginning("bn-timestep", "bn-star")


def smallest(point: Point) -> float:
    """The smallest effect of interest."""
    return NEEDED_PER_CHORD if point.get("task") == "chorales" else NEEDED


def alike(found: Iterable[Any]) -> list[Any]:
    """The tasks whose sequences begin alike."""
    return [task for task in found if task not in CONTROLS]


def controls(found: Iterable[Any]) -> list[Any]:
    """The tasks whose sequences do not."""
    return [task for task in found if task in CONTROLS]


def kept(taken: str, tasks: Rule = alike, **keys: Any) -> Contrast:
    """What stored statistics lose when some slots are mended, by task, statistics and norm."""
    return Contrast(
        "lost", "score", per_slot, by=("task", "base"), needed=smallest, label="{task}, {base}, {norm}",
        only={"task": tasks, "base": BASES, "taken": taken}, **keys,
    )  # fmt: skip


def exact(taken: str, norms: Any, **only: Any) -> Contrast:
    """What stored statistics lose in 64 bits, some slots estimated in place or none."""
    chosen = {"task": alike, "base": BASES, "taken": taken, **only}
    return Contrast(
        "exact", "score", norms, by=("task", "base"), needed=smallest, below=True, label="{task}, {base}, {norm}",
        only=chosen,
    )  # fmt: skip


share = Contrast(
    "share", "share of the loss", per_slot, by=("task",), needed=0.5, only={"task": alike}, label="{task}, {norm}"
)
injected = partial(Contrast, "injected", "score", per_slot, by=("task",), needed=smallest, label="{task}, {norm}")


def cure(option: str = "", noise: float = 0.0) -> Contrast:
    """By how much running averages of a cure stay below consistent statistics of plain training.

    Args:
        option: the cures whose norm has it.
        noise: on h_0, in place of an option.
    """
    norms: Any = (lambda found: sorted(norm for norm in found if option in norm)) if option else PLAIN
    return Contrast(
        "score", "score", norms, {"norm": PLAIN, "noise": 0.0, "taken": "all"}, ("task",), needed=smallest, below=True,
        turned=True, only={"noise": noise, "taken": "none", "base": "running"},
        label="{task}, {norm}" if option else "{task}",
    )  # fmt: skip


def shares(m: pd.DataFrame) -> pd.DataFrame:
    """`share` of what running averages lose that is regained where almost constant slots are estimated in place.

    Args:
        m: measurements with `lost`; where less is lost than counts there is no share.
    """
    rows = where(m, quantity="lost", base="running")
    left = paired(rows, "lost", {"taken": "none"}, "share", lambda settled, none: 1 - settled / none)
    lost = where(rows, taken="none")
    counts = lost[lost["value"] > [smallest({"task": task}) for task in lost["task"]]]
    keys = ["task", "norm", "seed"]
    return where(left, taken="settled").merge(counts[keys], on=keys)


def arms(m: pd.DataFrame) -> pd.DataFrame:
    """`cured` by `arm`: scores by running averages of plain training and of its cures, and by consistent statistics.

    Args:
        m: measurements with `score`.
    """
    scores = where(m, quantity="score", base="running")
    if scores.empty:
        return scores
    scores = scores[scores["norm"].str.startswith(PLAIN)]
    plain = (scores["norm"] == PLAIN) & (scores["noise"] == 0)
    cured = scores["task"].isin(scores[~plain]["task"])
    arm = scores["norm"].where(plain, scores["norm"].str.removeprefix(PLAIN + ":"))
    arm = arm.where(scores["noise"] == 0, "noise on h_0").where(~plain, "running averages")
    arm = arm.where(scores["taken"] == "none", "one consistent batch")
    return scores.assign(quantity="cured", arm=arm)[cured & (plain | (scores["taken"] == "none"))]

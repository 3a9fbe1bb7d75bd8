"""Learning curves, read from TensorBoard's event files, with mean and band over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """A scalar against the training step.

    Args:
        step: optimizer steps, increasing, (K,).
        value: the finite values logged there, (K,).
    """

    step: Array
    value: Array


@dataclass(frozen=True)
class Band:
    """A scalar over several seeds.

    Args:
        step: optimizer steps, increasing, (K,).
        mean: mean over the seeds that got as far as this step, (K,).
        low: their smallest value, (K,).
        high: their largest value, (K,).
    """

    step: Array
    mean: Array
    low: Array
    high: Array


def read_curves(folder: Path) -> dict[str, Curve]:
    """Every scalar that the event files directly in `folder` hold, by tag; values that are not finite are left out.

    A resumed run logs some steps again: the later value counts. Report and TensorBoard's overview, made one after the
    other, read files that have not changed once.
    """
    files = [(path.name, path.stat()) for path in sorted(folder.glob("*tfevents*"))]
    state = tuple((name, found.st_size, found.st_mtime_ns) for name, found in files)
    return dict(_read(folder.absolute(), state)) if files else {}


@lru_cache(maxsize=256)
def _read(folder: Path, state: tuple[tuple[str, int, int], ...]) -> dict[str, Curve]:
    """The same for a state of the files: names, sizes, times."""
    # Imported here: it takes a second that `rnnnorm --help` should not pay.
    from tensorboard.backend.event_processing import event_accumulator

    events = event_accumulator.EventAccumulator(str(folder), size_guidance={event_accumulator.SCALARS: 0})
    events.Reload()
    curves = {}
    for tag in events.Tags()["scalars"]:
        latest = {event.step: event.value for event in sorted(events.Scalars(tag), key=lambda event: event.wall_time)}
        step = np.array(sorted(latest), dtype=np.float64)
        value = np.array([latest[s] for s in sorted(latest)], dtype=np.float64)
        finite = np.isfinite(value)
        if finite.any():
            curves[tag] = Curve(step[finite], value[finite])
    return curves


def thin(curve: Curve, points: int) -> Curve:
    """At most `points` points: means over blocks of neighbours, each at its block's mean step."""
    if len(curve.step) <= points:
        return curve
    blocks = np.array_split(np.arange(len(curve.step)), points)
    return Curve(
        np.array([curve.step[block].mean() for block in blocks]),
        np.array([curve.value[block].mean() for block in blocks]),
    )


def band(curves: Sequence[Curve], points: int = 120) -> Band | None:
    """Mean, smallest and largest value over seeds; None without any curve.

    Each curve is first thinned to `points` block means. Seeds that logged at different steps are joined by linear
    interpolation, each within its own range.
    """
    curves = [thin(curve, points) for curve in curves if len(curve.step)]
    if not curves:
        return None
    step = np.unique(np.concatenate([curve.step for curve in curves]))
    if len(step) > 2 * points:
        step = np.linspace(step[0], step[-1], points)
    values = np.stack([np.interp(step, c.step, c.value, left=np.nan, right=np.nan) for c in curves])
    some = np.isfinite(values).any(axis=0)
    step, values = step[some], values[:, some]
    return Band(step, np.nanmean(values, axis=0), np.nanmin(values, axis=0), np.nanmax(values, axis=0))


def bands(curves: Mapping[str, Sequence[Mapping[str, Curve]]], tag: str) -> dict[str, Band]:
    """Norm → band of one tag, over the norms that logged it; `curves` maps a norm to the curves of each seed."""
    found = {norm: band([seed[tag] for seed in seeds if tag in seed]) for norm, seeds in curves.items()}
    return {norm: one for norm, one in found.items() if one is not None}

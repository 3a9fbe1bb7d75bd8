"""Means over seeds as curves: one TensorBoard run `<norm>/mean` beside the runs of the norm's seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from rnnnorm.engine.records import events
from rnnnorm.report.curves import Band, Curve, band, read_curves
from rnnnorm.report.runs import read_run

RUN = "mean"
MEAN, RANGE = "mean over seeds", "range over seeds"
"""Groups of cards: the means, and the two edges of each band."""

GAP = "validation loss, running minus batch statistics"
LOSSES = {"validation loss": "val/loss", "training loss": "train/loss"}
MEAN_LOSSES = ("nll", "mse")
"""Metrics that are the mean of the loss."""


def quantities(metric: str) -> dict[str, str]:
    """Name of each quantity that is averaged → its tag in the runs, the metric first; once where it is the loss."""
    if metric in MEAN_LOSSES:
        return {f"validation loss ({metric})": "val/loss", "training loss": LOSSES["training loss"]}
    return {**({} if metric in ("", "loss") else {f"validation {metric}": f"val/{metric}"}), **LOSSES}


def stale(norm: Path) -> bool:
    """Whether something of a norm's seeds is newer than their means, or there are none.

    Args:
        norm: the folder of the norm.
    """
    means = [path.stat().st_mtime_ns for path in (norm / RUN).glob("events.out.tfevents.*")]
    seeds = [path.stat().st_mtime_ns for path in norm.glob("seed=*/events.out.tfevents.*")]
    return bool(seeds) and (not means or max(seeds) > min(means))


def write_means(norm: Path) -> None:
    """Write the means and bands of a norm in place of those of before.

    At each step the mean is over the seeds that got as far, so a seed that diverged or stopped early counts up to there
    and the curve may jump where it leaves; the band reaches from the smallest to the largest of them. Runs that were
    cut by the time limit are left out as long as there are others. A curve of more than 120 points is averaged over
    blocks of neighbouring steps first.

    Args:
        norm: the folder of the norm, `<out>/<norm>`.

    Raises:
        OSError: it cannot be written.
    """
    runs = [read_run(folder) for folder in sorted(norm.glob("seed=*")) if folder.is_dir()]
    ended = [run for run in runs if run.status not in ("unfinished", "unreadable")]
    uncut = [run for run in ended if run.status != "cut"]
    if not ended:
        return
    metric = str(ended[0].facts.get("metric", ""))
    curves = [read_curves(run.folder) for run in uncut or ended]
    found = {name: band([seed[tag] for seed in curves if tag in seed]) for name, tag in quantities(metric).items()}
    if any(run.number("statistics") > 0 for run in ended):
        found[GAP] = band([gap for seed in curves if (gap := _gap(seed)) is not None])
    # TensorBoard, if it is looking, shall forget the means of before: they lie at the same steps.
    with events(norm / RUN, RUN, purge_step=0) as writer:
        for name, one in found.items():
            for tag, values in _tagged(name, one):
                for step, value in zip(one.step if one else (), values, strict=True):
                    writer.add_scalar(tag, value, round(step))


def layout(metric: str, gap: bool) -> dict[str, dict[str, list[object]]]:
    """Charts of the Custom Scalars tab, as of `SummaryWriter.add_custom_scalars`: means with their bands.

    Args:
        metric: by which runs are measured.
        gap: whether a norm stores statistics, whose gap to those of the batch has a chart.
    """
    names = [*([GAP] if gap else []), *reversed(quantities(metric))]  # the tab shows the last one first
    return {MEAN: {name: ["Margin", [f"{MEAN}/{name}", *edges(name)]] for name in names}}


def edges(name: str) -> tuple[str, str]:
    """Tags of the lower and the upper edge of a quantity's band."""
    return f"{RANGE}/{name}, smallest", f"{RANGE}/{name}, largest"


def _tagged(name: str, one: Band | None) -> Iterable[tuple[str, np.ndarray]]:
    return [] if one is None else zip((f"{MEAN}/{name}", *edges(name)), (one.mean, one.low, one.high), strict=True)


def _gap(curves: Mapping[str, Curve]) -> Curve | None:
    """Validation loss under running averages less that under the batch's own statistics, where both are known."""
    if not {"val/loss", "val/loss_batch"} <= curves.keys():
        return None
    running, batch = curves.get("val_running/loss", curves["val/loss"]), curves["val/loss_batch"]
    steps, at, there = np.intersect1d(running.step, batch.step, return_indices=True)
    return Curve(steps, running.value[at] - batch.value[there])

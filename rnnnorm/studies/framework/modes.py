"""Evaluation of one network by running averages, population statistics and batch statistics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from rnnnorm.data.base import Batch
from rnnnorm.engine.evaluation import MODES
from rnnnorm.norms import has_batch_statistics, recalibrate, statistics
from rnnnorm.tasks import SequenceTask

STYLES: Mapping[str, str] = {"population": "-", "running": "--", "batch": ":"}
"""Mode → line style, the same in every figure."""


def mode_style(line: str) -> str | None:
    """The line style of the mode that the name of a line names; None if it names none."""
    return next((style for mode, style in STYLES.items() if f"{mode} " in f"{line} " or f"{mode}'" in line), None)


def in_every_mode(
    model: SequenceTask,
    calibration: Iterable[Batch],
    modes: Sequence[str] = MODES,
    repeat: bool = False,
    as_trained: bool = False,
) -> Iterator[str]:
    """Recalibrate a network, then set it to one mode after the other and yield the name of the mode.

    The mode holds until the next one is asked for:

        for mode in in_every_mode(task, data.train_dataloader()):
            loss, score = evaluate(task, data.test_dataloader())

    Args:
        model: is left in evaluation mode, with population statistics where it has batch statistics.
        calibration: batches from which population statistics are taken, each row counted once.
        modes: of "running", "population" and "batch", see `rnnnorm.statistics`.
        repeat: yield all modes for a network without batch statistics, too, in which they do not differ; else only the
            first one.
        as_trained: recalibrate with dropout, as training computes statistics.
    """
    model.eval()
    stored = has_batch_statistics(model)
    if stored:
        recalibrate(model, calibration, forward=model.encode, rows=None, as_trained=as_trained)
    for mode in modes if stored or repeat else modes[:1]:
        with statistics(model, mode if stored else "running"):
            yield mode

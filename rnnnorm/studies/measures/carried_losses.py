"""Losses of one network by its statistics and by the state that a segment begins with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rnnnorm.data.base import Batch
from rnnnorm.data.module import SequenceDataModule
from rnnnorm.studies.data.plain_training import carrying, losses_by_step
from rnnnorm.studies.framework import in_every_mode
from rnnnorm.studies.framework.trial import Row
from rnnnorm.tasks import SequenceTask

STATES = ("reset", "carried")


def losses_by_state(
    task: SequenceTask, data: SequenceDataModule, calibration: Iterable[Batch], state: str
) -> Iterator[Row]:
    """Mean `loss` per step by `mode` and by `read`, the state in evaluation; as trained also `loss_at` step `t`.

    Args:
        task: a trained network.
        data: whose test batches continue each other; the first one is not counted.
        calibration: batches from which population statistics are taken.
        state: in training, one of `STATES`.
    """
    for mode in in_every_mode(task, calibration, ("population", "running", "batch"), repeat=True):
        for read in STATES:
            by_step = losses_by_step(task, carrying(data.test_dataloader(), read == "carried"), skip=1)
            yield {"quantity": "loss", "mode": mode, "read": read, "value": float(by_step.mean())}
            if read == state:
                for t, value in enumerate(by_step.tolist()):
                    yield {"quantity": "loss_at", "mode": mode, "t": t, "value": value}

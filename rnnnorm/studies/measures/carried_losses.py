"""Losses of one network by its statistics and by the state that a segment begins with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from rnnnorm.data.base import Batch
from rnnnorm.data.module import SequenceDataModule
from rnnnorm.studies.data.plain_training import carrying, losses_by_step
from rnnnorm.studies.framework import Row, in_every_mode
from rnnnorm.studies.framework.case import NEGLIGIBLE, OPPOSITE, SUPPORTED, UNDECIDED, Case
from rnnnorm.tasks import SequenceTask

STATES = ("reset", "carried")
ADVICE = {
    SUPPORTED: "keep them per step there",
    OPPOSITE: "share them",
    NEGLIGIBLE: "one pair for all steps is enough",
    UNDECIDED: "the seeds do not decide whether that matters; per-step statistics are the safe choice",
}


def losses_by_state(
    task: SequenceTask, data: SequenceDataModule, calibration: Iterable[Batch], state: str
) -> Iterator[Row]:
    """Mean `loss` per step by `mode` and by `read`, the state in evaluation; as trained also `loss_at` step `t`.

    And the `val_loss` as trained, by population statistics.

    Args:
        task: a trained network.
        data: whose test batches continue each other; the first one is not counted.
        calibration: batches from which population statistics are taken.
        state: in training, one of `STATES`.
    """
    calibration = carrying(calibration, state == "carried")
    for mode in in_every_mode(task, calibration, ("population", "running", "batch"), repeat=True):
        if mode == "population":
            by_step = losses_by_step(task, carrying(data.val_dataloader(), state == "carried"), skip=1)
            yield {"quantity": "val_loss", "value": float(by_step.mean())}
        for read in STATES:
            by_step = losses_by_step(task, carrying(data.test_dataloader(), read == "carried"), skip=1)
            yield {"quantity": "loss", "mode": mode, "read": read, "value": float(by_step.mean())}
            if read == state:
                for t, value in enumerate(by_step.tolist()):
                    yield {"quantity": "loss_at", "mode": mode, "t": t, "value": value}


def advice(cases: Mapping[str, Sequence[Case]], needed: float) -> Iterator[str]:
    """How much sharing statistics over steps costs at most, what per-step ones cost after a change of states; advice.

    Args:
        cases: `separate`, losses under shared statistics minus those under per-step ones; `trap`, per-step minus
            shared, trained on reset states and evaluated on carried ones.
        needed: the smallest difference that counts.
    """
    if cases.get("separate"):
        worst = max(cases["separate"], key=lambda case: case.effect.mean)
        mean, low, high = worst.effect.mean, worst.effect.low, worst.effect.high
        yield (
            f"Sharing costs most with {worst.condition} ({mean:+.3f} nats, 95 % interval {low:+.3f} to {high:+.3f}): "
            f"{ADVICE[worst.standing]}."
        )
    if cases.get("trap"):
        costs = [case.effect.mean for case in cases["trap"]]
        share = "share them there, or train on carried states" if min(costs) > needed else "no reason to share"
        yield (
            f"Trained on reset states and evaluated on carried ones, per-step statistics cost {min(costs):+.3f} to "
            f"{max(costs):+.3f} nats per step against shared ones: {share}."
        )

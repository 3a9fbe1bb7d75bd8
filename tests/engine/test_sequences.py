"""Scores by test sequence: the metric can be computed from them again, for every task and for metrics of one's own."""

from __future__ import annotations

from typing import Any, ClassVar

import lightning as L
import numpy as np
import pytest
import torch
from tasks.tiny import RAGGED, SPECS, Batches, batches_of, model_of, stream_of, trainer_of
from torchmetrics import MeanSquaredError, Metric

from rnnnorm.common.sequence_scores import FORMS, SequenceScores
from rnnnorm.engine.control import Interrupt
from rnnnorm.engine.evaluation import Collector, _by_sequence, evaluate
from rnnnorm.tasks import TASKS, Classification, Regression

pytestmark = pytest.mark.filterwarnings("ignore")


class Data(L.LightningDataModule):
    """Given batches as training and test split."""

    def __init__(self, batches: Batches) -> None:
        super().__init__()
        self.batches = batches

    def train_dataloader(self) -> Any:
        return self.batches

    def test_dataloader(self) -> Any:
        return self.batches


def evaluated(model: L.LightningModule, batches: Batches) -> tuple[SequenceScores | None, dict[str, dict[str, float]]]:
    collector = Collector(Interrupt(lambda: None))
    torch.manual_seed(0)
    values, _ = evaluate(trainer_of(callbacks=[collector]), model, Data(batches), collector, None)
    return collector.sequences(str(getattr(model, "metric", "loss")), values), values


def again(scores: SequenceScores, mode: str) -> float:
    return float(FORMS[scores.form](scores.sums_by(mode).sum() / scores.counts.sum()))


@pytest.mark.parametrize("norm", ["none", "bn-shared"])
@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_measured_again(task: str, norm: str) -> None:
    model = model_of(task, norm=norm)
    scores, values = evaluated(model, batches_of(task))
    assert scores is not None
    assert scores.unit == "sequence"
    assert len(scores.sums) == (1 if norm == "none" else 3)
    lengths = [length for batch in RAGGED for length in batch]  # in the order of the batches
    assert scores.counts.tolist() == (lengths if model.per_row else [1] * len(lengths))
    for mode, measured in values.items():
        assert again(scores, mode) == pytest.approx(measured[model.metric], rel=1e-5), mode


def test_a_sum_is_that_of_its_sequence() -> None:
    """Batches of one sequence each have the same sums."""
    model = model_of("tagging")
    scores, _ = evaluated(model, batches_of("tagging"))
    assert scores is not None
    batch = batches_of("tagging")[0]
    logits, _ = model(batch.input)
    right = logits.argmax(1) == batch.target
    sizes = batch.input.batch_sizes.tolist()
    rows = np.concatenate([np.arange(size) for size in sizes])
    by_hand = [int(right[torch.from_numpy(rows == k)].sum()) for k in range(sizes[0])]
    assert scores.sums["running"][: sizes[0]].tolist() == by_hand


@pytest.mark.parametrize(("unit", "form"), [("word", "exp"), ("char", "bits")])
def test_chunks_of_a_stream(unit: str, form: str) -> None:
    pieces, _ = stream_of(SPECS["language-modelling"], steps=9, sequences=3, bptt=4)
    model = model_of("language-modelling", unit=unit)
    scores, values = evaluated(model, pieces)
    assert scores is not None
    assert (scores.unit, scores.form) == ("chunk", form)
    assert scores.counts.tolist() == [4] * 3 + [4] * 3 + [1] * 3
    assert again(scores, "running") == pytest.approx(values["running"][model.metric], rel=1e-5)


class Root(Regression):
    """Regression by the root of the mean squared error."""

    metric = "rmse"

    def metrics(self) -> dict[str, Metric]:
        return {"rmse": MeanSquaredError(squared=False)}


class ByF1(Classification):
    """Classification by the F1 score, which no score of a sequence adds up to."""

    metric = "f1"


def test_metrics_of_ones_own() -> None:
    root, values = evaluated(Root(SPECS["regression"], hidden_size=8), batches_of("regression"))
    assert root is not None
    assert root.form == "root"
    assert again(root, "running") == pytest.approx(values["running"]["rmse"], rel=1e-5)
    f1, values = evaluated(ByF1(SPECS["classification"], hidden_size=8), batches_of("classification"))
    assert values["running"]["f1"] != values["running"]["accuracy"]
    assert f1 is None


class Plain(L.LightningModule):
    """A module that knows nothing of scores."""

    task: ClassVar[str] = "own"

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def test_step(self, batch: Any, index: int) -> None:
        self.log("test/loss", (self.weight * batch.input.data.float()).mean())


def test_a_module_without_scores_leaves_none() -> None:
    scores, values = evaluated(Plain(), batches_of("tagging"))
    assert scores is None
    assert "loss" in values["running"]


@pytest.mark.parametrize("count", [1, 3, 40])
def test_predictions_that_belong_to_no_sequence_are_not_told_apart(count: int) -> None:
    batch = batches_of("tagging")[0]  # four sequences, 21 rows
    sums, counts = _by_sequence(np.ones(count), batch)
    assert np.isnan(sums).all()
    assert SequenceScores.of("m", "sequence", counts, {"running": sums}, {"running": 1.0}) is None

"""Size of a run's event files: entries become rarer as the files grow."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from lightning.pytorch.loggers import TensorBoardLogger
from tasks.tiny import batches_of, model_of, trainer_of
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rnnnorm.common.event_budget import EventBudget
from rnnnorm.engine.logger import CurveLogger
from rnnnorm.probes import all_probes


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("events.out.tfevents.*"))


def test_entries_become_rarer_and_never_exceed_the_budget(tmp_path: Path) -> None:
    budget, file = EventBudget(1000), tmp_path / "events.out.tfevents.0"
    written = []
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for k in range(2000):
            if budget.grants(tmp_path):
                written.append(k)
                with file.open("ab") as appended:
                    appended.write(bytes(10))
    (text,) = {str(one.message) for one in said}  # of which Python prints one
    assert "fewer points of training curves and probes" in text
    assert written[:50] == list(range(50))
    assert np.diff(written[51:61]).tolist() == [4] * 9
    assert written[-1] > 1000, "it still shows something late"
    assert 900 < size(tmp_path) <= 1000


def test_training_curves_of_an_endless_run_stay_small_and_validation_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = CurveLogger(tmp_path, name="ln", version="seed=0", default_hp_metric=False)
    monkeypatch.setattr(logger, "_budget", EventBudget(20_000))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for step in range(1000):
            logger.log_metrics({"train/loss": 0.5, "train/accuracy": 0.5, "epoch": 0}, step)
            if step % 100 == 0:
                logger.log_metrics({"val/loss": 0.5, "epoch": 0}, step)
            logger.save()
    folder = Path(logger.log_dir)
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    steps = [point.step for point in found.Scalars("train/loss")]
    assert 100 < len(steps) < 500
    assert steps[-1] > 800
    assert len(found.Scalars("val/loss")) == 10
    assert "epoch" not in found.Tags()["scalars"]
    assert size(folder) < 22_000


def test_probes_keep_within_the_budget_of_any_tensorboard_logger(tmp_path: Path) -> None:
    sizes = {}
    for budget in (10**9, 60_000):
        logger = TensorBoardLogger(tmp_path, name=str(budget))
        probes = all_probes(every=1)
        for probe in probes:
            probe._budgets = EventBudget(budget), EventBudget(budget)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "the event files")
            trainer = trainer_of(callbacks=probes, logger=logger, max_epochs=8, log_every_n_steps=10**6)
            trainer.fit(model_of("tagging", norm="bn-timestep"), batches_of("tagging"), batches_of("tagging"))
        sizes[budget] = size(Path(logger.log_dir))
    assert sizes[10**9] > 300_000, "what would be written"
    assert sizes[60_000] < 120_000, "no more than a picture of each probe over it"

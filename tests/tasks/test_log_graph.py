"""Graphs of tasks, drawn by Lightning's logger for TensorBoard."""

from __future__ import annotations

from pathlib import Path

import lightning as L
import pytest
from lightning.pytorch.loggers import TensorBoardLogger
from tasks.tiny import SPECS, batches_of, model_of
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


@pytest.mark.parametrize("task", SPECS)
@pytest.mark.parametrize("example", [False, True])
def test_the_graph_of_a_task(task: str, example: bool, tmp_path: Path) -> None:
    """With an example, which Lightning wants for it, there is a graph; without one training goes on all the same."""
    model, batches = model_of(task, norm="bn-timestep"), batches_of(task)
    if example:
        first = batches[0].input
        model.example_input_array = ((first.data, first.batch_sizes),)
    logger = TensorBoardLogger(tmp_path, log_graph=True)
    quiet = {"enable_progress_bar": False, "enable_checkpointing": False}
    L.Trainer(max_steps=1, logger=logger, accelerator="cpu", **quiet).fit(model, batches, batches)
    events = EventAccumulator(logger.log_dir)
    events.Reload()
    assert events.Tags()["graph"] is example

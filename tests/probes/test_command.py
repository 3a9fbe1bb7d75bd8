"""Probes named in a configuration."""

from __future__ import annotations

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rnnnorm.cli import main

pytestmark = pytest.mark.filterwarnings("ignore")
CONFIG = """\
data:
  class_path: rnnnorm.data.TemporalOrder
  init_args: {num_train: 40, num_val: 20, num_test: 20, min_length: 10, max_length: 20, batch_size: 10}
model:
  init_args: {hidden_size: 4, embedding_size: 4}
trainer:
  max_epochs: 1
  accelerator: cpu
  callbacks:
    - {class_path: rnnnorm.probes.GradientFlow, init_args: {every: 2}}
    - {class_path: rnnnorm.probes.EvaluationGap, init_args: {every: 1, batches: 1}}
"""


def tags(folder: Path) -> dict[str, list[int]]:
    events = EventAccumulator(str(folder)).Reload()
    return {tag: [point.step for point in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


@pytest.mark.parametrize("command", ["compare", "fit"])
def test_a_configuration_can_name_probes(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rnnnorm.report.build", lambda out: out / "report.html")
    (tmp_path / "mine.yaml").write_text(CONFIG)
    norm = ["--norms", "bn-timestep", "--out", "o"] if command == "compare" else ["--model.norm", "bn-timestep"]
    assert main([command, "-c", "mine.yaml", *norm]) == 0
    folder = tmp_path / "o/bn-timestep/seed=0" if command == "compare" else next(tmp_path.glob("runs/fit/*"))
    found = tags(folder)
    assert found["probe/gradient_flow/growth/l0/h"] == [0, 2]
    assert found["probe/evaluation_gap/gap/running"] == [4]

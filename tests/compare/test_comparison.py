"""From command line and YAML to the objects of a run, the user's own classes included."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from rnnnorm.compare.comparison import Comparison, differences
from rnnnorm.norms.presets import CORE

if TYPE_CHECKING:
    from tests.compare.conftest import Small

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("without_report")]

MINE = '''
import torch
from torch import nn
import lightning as L
import rnnnorm
import rnnnorm.data
from rnnnorm.data import TemporalOrder


class MyData(TemporalOrder):
    """Mine."""

    def __init__(self, size: int = 30):
        super().__init__(num_train=size, num_val=10, num_test=20, min_length=10, max_length=20)


class MyModel(L.LightningModule):
    """Knows nothing of specs, metrics and scores."""

    def __init__(self, norm: str = "none", width: int = 3):
        super().__init__()
        self.embedding = nn.Embedding(8, width)
        self.lstm = rnnnorm.LSTM(width, width, norm=norm)
        self.head = nn.Linear(width, 4)

    def loss(self, batch):
        rows = batch.input._replace(data=self.embedding(batch.input.data[:, 0]))
        return nn.functional.cross_entropy(self.head(self.lstm(rows)[1][0][-1]), batch.target)

    def training_step(self, batch, index):
        loss = self.loss(batch)
        self.log("train/loss", loss, batch_size=len(batch.target))
        return loss

    def validation_step(self, batch, index):
        self.log("val/loss", self.loss(batch), batch_size=len(batch.target))

    def test_step(self, batch, index):
        self.log("test/loss", self.loss(batch), batch_size=len(batch.target))

    def forward(self, batch):
        return self.loss(batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class WithSpec(MyModel):
    """Takes the shape of the data, and its forward method takes no batch."""

    metric = "accuracy"
    metric_mode = "max"

    def __init__(self, spec: rnnnorm.data.Spec, norm: str = "none"):
        super().__init__(norm, spec.num_outputs)
        self.spec = spec

    def validation_step(self, batch, index):
        super().validation_step(batch, index)
        self.log("val/accuracy", float(index), batch_size=1)

    def forward(self, rows, state):
        return rows


class WithEncode(WithSpec):
    """Says how its network reads a batch."""

    def encode(self, batch):
        self.loss(batch)


class NoNorm(MyModel):
    """Cannot be compared."""

    def __init__(self, width: int = 3):
        super().__init__(width=width)
'''


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine_for_test.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mine_for_test", raising=False)


@pytest.mark.usefixtures("mine")
def test_a_data_module_and_a_model_of_ones_own(small: Small) -> None:
    small.config.write_text(
        "data: {class_path: mine_for_test.MyData, init_args: {size: 40}}\n"
        "model: {class_path: mine_for_test.MyModel, init_args: {width: 5}}\n"
        "trainer: {max_epochs: 2, accelerator: cpu}\n"
    )
    assert small("--norms", "none,bn-vertical") == 0
    found = small.result("bn-vertical")
    assert (found["metric"], found["metric_mode"], found["task"]) == ("loss", "min", "MyModel")
    assert found["test"]["running"]["loss"] > 0
    assert found["test"]["running"] != found["test"]["batch"] != found["test"]["population"]
    assert found["buckets"] == {"length": [], "step": []}


@pytest.mark.usefixtures("mine")
def test_a_model_that_takes_the_shape_of_the_data_is_evaluated_by_population_statistics(small: Small) -> None:
    assert small("--model", "mine_for_test.WithEncode", "--norms", "none,bn-vertical") == 0
    found = small.result("bn-vertical")
    assert (found["metric"], found["metric_mode"], found["evaluates_by"]) == ("accuracy", "max", "population")
    best = torch.load(small.out / "bn-vertical/seed=0/checkpoints/best.ckpt", weights_only=True)
    assert any(name.endswith("population_mean") for name in best["state_dict"]), "validated by them"


@pytest.mark.usefixtures("mine")
def test_a_model_whose_forward_takes_no_batch_is_told_what_to_do(small: Small) -> None:
    assert small("--model", "mine_for_test.WithSpec", "--norms", "none,bn-vertical") == 1
    assert small.result("none")["status"] == "finished"
    said = (small.out / "bn-vertical" / "seed=0" / "error.txt").read_text()
    assert "give WithSpec a method encode(batch) that runs its recurrent network" in said


PLUGIN = """
import rnnnorm


class Peak(rnnnorm.Normalizer):
    name = "peak-of-comparison"

    def forward(self, x, t=0):
        return self.gain * x / (x.abs().amax(1, keepdim=True) + 1)
"""


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_normalizers_of_ones_own_train_in_workers_and_are_read_again_with_the_configuration(
    jobs: str, small: Small, tmp_path: Path
) -> None:
    """In a process of its own, as the console script is run: the current folder is not on Python's path."""
    (tmp_path / "plugin_of_comparison.py").write_text(PLUGIN)
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"}

    def rnnnorm(*args: str) -> None:
        code = "import sys; from rnnnorm.cli import main; sys.exit(main())"
        command = [sys.executable, "-c", code, *args]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    norms = "plugin_of_comparison:Peak:gain=0.5,plugin_of_comparison.py:Peak"
    rnnnorm("compare", "-c", "small.yaml", "--norms", norms, "--jobs", jobs, "--out", "out")
    run = "out/plugin_of_comparison,Peak,gain=0.5/seed=0"
    assert small.result("plugin_of_comparison,Peak,gain=0.5")["norm"] == "plugin_of_comparison:Peak:gain=0.5"
    if jobs == "1":
        rnnnorm("test", "-c", f"{run}/config.yaml", "--ckpt_path", f"{run}/checkpoints/best.ckpt")


@pytest.mark.usefixtures("mine")
def test_a_model_without_norm_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="no argument `norm`"):
        Comparison(["--data", "TemporalOrder", "--model", "mine_for_test.NoNorm"])


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["-c", "nope"], "experiments: .*default"),
        (["--norms", "nope"], "bn-timestep"),
        (["--model.norm", "ln"], "--norms"),
        (["--seed_everything", "3"], "--seeds"),
        (["--data-dir", "data"], "reads no files"),
        (["--seeds", "0"], "--seeds"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_contradictions_are_refused_before_anything_runs(args: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Comparison(args)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--model.hidden_sizes", "3"], "hidden_size, num_layers"),
        (["--data.batchsize", "3"], "batch_size"),
        (["--data", "Nope"], "Nope"),
        (["--trainer.max_epoch", "3"], "max_epoch"),
        (["--max-minutes", "-1"], "max_minutes"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_unknown_keys_and_values_are_refused_by_the_parser(
    args: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as error:
        Comparison(args)
    assert error.value.code == 2
    assert message in capsys.readouterr().err


def test_no_argument_at_all_is_the_default_experiment() -> None:
    comparison = Comparison([])
    assert comparison.out == Path("runs/default")
    assert comparison.norms == list(CORE)
    assert len(comparison.seeds) == 3


def test_command_line_overrides_the_experiment_and_the_experiment_the_defaults() -> None:
    comparison = Comparison(["-c", "names", "--model.hidden_size", "9", "--trainer.max_epochs=2", "--norms", "ln"])
    config = comparison.config
    assert (config.model.init_args.hidden_size, config.trainer.max_epochs) == (9, 2)
    assert (config.model.init_args.dropout, comparison.seeds) == (0.3, [0, 1, 2])
    assert config.trainer.gradient_clip_val == 1.0
    assert comparison.norms == ["ln"]
    assert comparison.out == Path("runs/names")


def test_other_data_than_the_default_need_no_experiment(capsys: pytest.CaptureFixture[str]) -> None:
    comparison = Comparison(["--data", "AddingProblem", "--data.num_train", "10"])
    assert comparison.config.data.class_path.endswith("AddingProblem")
    assert comparison.build_data().spec.task == "regression"


def test_differences_are_named_as_they_are_typed() -> None:
    old = {"model": {"init_args": {"hidden_size": 64, "norm": "none"}}, "trainer": {"max_epochs": 3}}
    new = {"model": {"init_args": {"hidden_size": 32, "norm": "none"}}, "trainer": {"max_epochs": 3, "precision": 16}}
    assert differences(old, new) == ["model.hidden_size: 64 there, 32 now", "trainer.precision: None there, 16 now"]


def test_a_file_that_contains_itself(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("a: &a [*a]\n", encoding="utf-8")
    with pytest.raises(ValueError, match="a configuration contains itself"):
        Comparison(["-c", str(tmp_path / "mine.yaml")])


def test_a_section_without_keys_is_refused(small: Small) -> None:
    small.config.write_text(small.config.read_text().partition("trainer:")[0] + "trainer:\n")
    with pytest.raises(ValueError, match="trainer: expected a section with keys, got nothing"):
        Comparison(["-c", str(small.config)])


def test_the_folder_of_data_reaches_a_module_inside_another_one() -> None:
    """Where joined sequences are read from does not make another comparison."""
    described = []
    for folder in ("one", "two"):
        comparison = Comparison(["-c", "spoken-digits-joined", "--data-dir", folder])
        assert comparison.config.data.init_args.data.init_args.data_dir == folder
        described.append(comparison.describe())
    assert described[0] == described[1]
    inner = ["--data", "rnnnorm.studies.data.joined.Joined", "--data.data", "TemporalOrder", "--data-dir", "data"]
    with pytest.raises(ValueError, match=r"--data-dir data: .*Joined reads no files"):
        Comparison(inner)

"""Every experiment parses; those that need no files are run for a few steps."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from jsonargparse._util import import_object
from rich.console import Console

from rnnnorm.compare.comparison import Comparison
from rnnnorm.compare.experiments import experiments, find_experiment, folder, title
from rnnnorm.compare.runner import compare
from rnnnorm.data.synthetic import Generated

pytestmark = pytest.mark.filterwarnings("ignore")

NAMES = list(experiments())
FEW = ["--trainer.limit_train_batches=2", "--trainer.limit_val_batches=1", "--trainer.limit_test_batches=1"]


@pytest.mark.parametrize("name", NAMES)
def test_it_parses_says_what_it_is_and_overrides_defaults_only(name: str) -> None:
    """What an experiment says differs from what would be without it."""
    comparison, path = Comparison(["-c", name]), experiments()[name]
    assert comparison.out == Path("runs") / name
    assert len(title(path)) > 30
    assert comparison.norms
    assert comparison.seeds
    said, bare = yaml.safe_load(path.read_text()), comparison.parser.get_defaults().trainer
    assert all(bare[key] != value for key, value in said.get("trainer", {}).items())
    assert set(said) <= {"norms", "seeds", "threads", "data", "model", "trainer"}


def _needs_no_files(name: str) -> bool:
    said = yaml.safe_load(experiments()[name].read_text())
    return issubclass(import_object(said["data"]["class_path"]), Generated)


@pytest.mark.parametrize("name", filter(_needs_no_files, NAMES))
def test_it_runs_a_few_steps(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rnnnorm.report.build", lambda out: out / "report.html")
    args = ["-c", name, "--norms", "bn-timestep", "--seeds", "1", "--out", str(tmp_path / "out"), *FEW]
    assert compare([*args, "--trainer.max_epochs=1"], Console(quiet=True)) == 0
    assert (tmp_path / "out" / "bn-timestep" / "seed=0" / "result.json").is_file()


def test_a_name_a_path_and_a_file_of_ones_own_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    packaged = folder() / "names.yaml"
    assert find_experiment("names") == find_experiment("names.yaml") == packaged
    assert find_experiment("experiments/names.yaml") == packaged
    (tmp_path / "names.yaml").write_text("seeds: 2\n")
    assert find_experiment("names.yaml") == Path("names.yaml")
    assert find_experiment("names") == packaged


@pytest.mark.parametrize("name", ["nope", "nope.yaml", "experiments/nope.yaml", "elsewhere/names.yaml"])
def test_an_unknown_experiment_is_refused_and_those_that_exist_listed(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}.*default.*pos-tagging"):
        find_experiment(name)

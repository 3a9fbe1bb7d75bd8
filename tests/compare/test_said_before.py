"""What is said before anything runs: the help, what comes from the default experiment, options without an effect."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import lightning as L
import pytest

from rnnnorm.cli import main
from rnnnorm.compare.comparison import Comparison, folder_of
from rnnnorm.compare.idle import idle_options
from rnnnorm.data import TemporalOrder

if TYPE_CHECKING:
    from tests.compare.conftest import Small

pytestmark = pytest.mark.filterwarnings("ignore")


def help_of(*args: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        main(list(args))
    assert stop.value.code == 0
    return capsys.readouterr().out


def test_the_help_is_a_page_with_the_values_that_hold(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of("compare", "--help", capsys=capsys)
    assert len(text.splitlines()) < 70
    words = " ".join(text.split())
    for part in ("units of each layer and direction [32]", "passes over the training data [8]", "[TemporalOrder]"):
        assert part in words
    words = " ".join(help_of("compare", "-c", "names", "-h", "--model.hidden_size", "7", capsys=capsys).split())
    for part in ("units of each layer and direction [7]", "[Names]", "probability of dropping a unit [0.3]"):
        assert part in words
    words = " ".join(help_of("fit", "--help", capsys=capsys).split())
    assert "units of each layer and direction [64]" in words
    assert "usage: rnnnorm fit" in words
    assert "--norms" not in words


@pytest.mark.parametrize("command", ["compare", "fit"])
def test_every_key_is_in_the_long_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(command, "--help-all", capsys=capsys)
    assert len(text.splitlines()) > 200
    for key in ("--trainer.enable_autolog_hparams", "--trainer.max_epochs", "--model.help", "example"):
        assert key in text


def test_data_without_an_experiment_have_a_folder_of_their_own_and_the_rest_is_said() -> None:
    comparison = Comparison(["--data", "AddingProblem", "--model.hidden_size=9", "--trainer.max_epochs", "8"])
    assert comparison.out == Path("runs/adding-problem")
    (note,) = comparison.notes
    assert note.startswith("not given, so as in the default experiment: --seeds 3 --threads 1 ")
    assert "--model.learning_rate 0.002" in note
    assert "--data.batch_size 64" in note
    for key in ("hidden_size", "max_epochs", "num_relevant"):
        assert key not in note
    assert Comparison(["--norms", "ln"]).notes == []
    assert Comparison(["-c", "names", "--data", "AddingProblem"]).notes == []


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("rnnnorm.data.JapaneseVowels", "japanese-vowels"),
        ("rnnnorm.data.SequentialMNIST", "sequential-mnist"),
        ("mine.X2Data", "x2-data"),
        ("Names", "names"),
    ],
)
def test_folders_of_data(name: str, folder: str) -> None:
    assert folder_of(name) == folder


@pytest.fixture(scope="module")
def data() -> TemporalOrder:
    """Sequences of up to 20 steps in training, and of up to 20 in the other splits."""
    return TemporalOrder(num_train=20, num_val=5, num_test=5, min_length=20, max_length=20)


@pytest.mark.parametrize(
    ("norm", "max_steps", "said"),
    [
        ("bn-timestep", None, []),
        ("bn-timestep:tail=pool", None, ["tail=pool changes nothing: all 20 steps have statistics of their own"]),
        ("bn-timestep:tail=pool", 19, []),
        ("bn-timestep:tail=pool:max_steps=19", None, []),
        ("bn-timestep:max_steps=500", None, ["max_steps=500 is as good as 20: no sequence is longer"]),
        ("bn-timestep:max_steps=20", None, []),
        ("bn-shared:tail=pool", None, ["tail=pool changes nothing where steps share their statistics"]),
        ("input=bn:max_steps=3", None, ["max_steps=3 changes nothing where steps share their statistics"]),
        ("wn", None, []),
    ],
)
def test_options_without_an_effect(norm: str, max_steps: int | None, said: list[str], data: TemporalOrder) -> None:
    assert idle_options([norm], data, max_steps) == [f"{norm}: {text}" for text in said]


def test_norms_that_are_the_same(data: TemporalOrder) -> None:
    norms = ["ln", "ln:gain=1.0", "input=ln+hidden=ln+cell=ln", "ln:gain=2.0", "rms", "bn-timestep:gain=0.1"]
    expected = ["ln:gain=1.0 is the same as ln", "input=ln+hidden=ln+cell=ln is the same as ln"]
    assert idle_options(norms, data, None) == expected
    assert idle_options(["none"], data, 500) == ["max_steps=500 of the model is as good as 20: no sequence is longer"]


def test_of_data_that_do_not_tell_their_lengths_nothing_is_said_that_depends_on_them() -> None:
    data = L.LightningDataModule()
    assert idle_options(["bn-timestep:tail=pool:max_steps=9", "bn-timestep"], data, 500) == []


@pytest.mark.usefixtures("without_report")
def test_it_is_said_before_the_first_run(small: Small) -> None:
    assert small("--norms", "none,bn-timestep:tail=error") == 0
    said = small.printed.index("note: bn-timestep:tail=error: tail=error changes nothing")
    assert said < small.printed.index("[1/2]")
    assert "tail=error changes nothing" in (small.out / "data.json").read_text()


def test_options_of_tuning_without_tuning_are_named() -> None:
    typed = ["--norms", "ln", "--tune-trials", "4", "--tune-rounds=1"]
    said = ["--tune-trials changes nothing without --tune", "--tune-rounds changes nothing without --tune"]
    assert Comparison(typed).notes == said
    assert Comparison([*typed, "--tune"]).notes == []

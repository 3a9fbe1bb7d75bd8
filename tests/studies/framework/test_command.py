"""`rnnnorm study`: what it leaves behind, what it does not do twice, and what it refuses."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.image
import pytest
import torch
import yaml
from studies.framework.tiny import YAML, Tiny
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rnnnorm.cli import main
from rnnnorm.studies.framework.measurements import where
from rnnnorm.studies.framework.settings import load
from rnnnorm.studies.framework.study import STUDIES
from rnnnorm.studies.framework.trial import Trial

if TYPE_CHECKING:
    from tests.studies.framework.conftest import Runner

pytestmark = pytest.mark.filterwarnings("ignore")


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def drawn(tiny: Runner) -> None:
    """A study that trains nothing."""
    tiny.write(YAML.replace("trained: [none]", "trained: []"))


def test_it_leaves_table_figure_verdicts_settings_and_page(finished: Runner, finished_once: Any) -> None:
    assert finished_once[1] == 0
    for name in ("measurements.csv", "figure.png", "figure.svg", "verdict.json", "study.yaml", "../report.html"):
        assert (finished.folder / name).stat().st_size > 0, name
    picture = matplotlib.image.imread(finished.folder / "figure.png")
    assert picture.shape[0] > 300
    assert picture.std() > 0.01
    assert "<svg" in (finished.folder / "figure.svg").read_text()
    assert "tensorboard --logdir" in finished.printed
    assert "report.html" in finished.printed
    assert not list(finished.out.rglob("*.part"))


def test_every_trial_is_in_the_table(finished: Runner) -> None:
    table = finished.table()
    study = Tiny(load("tiny"))
    for trial in study.trials():
        rows = where(table, norm=trial.norm, seed=trial.seed, **trial.conditions)
        assert len(rows) > 0, trial.name()
    numbers = where(table, quantity="number", size=2, norm="none", seed=1).sort_values("t")["value"]
    torch.manual_seed(1)
    assert numbers.tolist() == pytest.approx(torch.randn(5).tolist())
    assert set(where(table, quantity="limit", norm="none")["value"]) == {math.inf}
    assert where(table, quantity="nothing")["value"].isna().all()


def test_a_trained_trial_has_what_its_training_left_behind(finished: Runner) -> None:
    table = finished.table()
    folder = Trial({"part": "trained"}, "none", 1).run(finished.folder).folder
    result = json.loads((folder / "result.json").read_text())

    def value(**keys: Any) -> float:
        rows = where(table, part="trained", seed=1, **keys)["value"].tolist()
        assert len(rows) == 1, keys
        return float(rows[0])

    assert value(quantity="diverged") == 0
    assert value(quantity="steps") == result["steps"] == 8
    assert value(quantity="best_val") == pytest.approx(result["best_val"])
    for mode in ("running", "population", "batch"):
        assert value(quantity="accuracy", mode=mode) == pytest.approx(result["test"][mode]["accuracy"])
    best = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    assert value(quantity="weights") == pytest.approx(float(sum(v.square().sum() for v in best.values())), rel=1e-5)
    buckets = where(table, part="trained", seed=1, quantity="score", axis="length", mode="running")
    assert buckets["count"].sum() == 20
    assert value(quantity="train_loss") > 0


def test_trials_of_one_seed_share_batches_and_differ_between_seeds(finished: Runner) -> None:
    losses = where(finished.table(), part="trained", quantity="train_loss")["value"]
    assert len(set(losses)) == 3


def test_verdicts_stand_in_verdict_json(finished: Runner) -> None:
    assert finished.verdicts() == {"higher": "supported", "lower": "contradicted", "either": "depends"}
    content = json.loads((finished.folder / "verdict.json").read_text())
    assert content["trials"] == content["measured"] == 15
    assert (content["seeds"], content["scale"]) == (3, "full")
    assert content["findings"] == ["There are 60 numbers < infinity & `code`."]
    assert content["command"].startswith("rnnnorm study tiny --out")
    effect = content["verdicts"][0]
    assert effect["effect"] == pytest.approx(10, abs=1e-6)
    assert effect["n"] == 3


def test_the_terminal_says_every_verdict(finished: Runner) -> None:
    assert "tiny: supported: With `ln` numbers are > those with none" in finished.printed
    assert "tiny: contradicted: With ln numbers are lower." in finished.printed
    assert "[15/15]" in finished.printed


def test_events_can_be_read_by_tensorboard(finished: Runner) -> None:
    folder = finished.folder / "part=drawn,size=2" / "ln" / "seed=0"
    events = EventAccumulator(str(folder)).Reload()
    points = events.Scalars("measured/number")
    assert [point.step for point in points] == [0, 1, 2, 3, 4]
    numbers = where(finished.table(), quantity="number", size=2, norm="ln", seed=0).sort_values("t")["value"]
    assert [point.value for point in points] == pytest.approx(numbers.tolist())
    trained = EventAccumulator(str(finished.folder / "part=trained" / "none" / "seed=0")).Reload()
    assert {"train/loss", "val/loss", "measured/weights", "measured/accuracy/running"} <= set(trained.Tags()["scalars"])


def test_the_study_file_is_the_resolved_configuration(finished: Runner) -> None:
    content = yaml.safe_load((finished.folder / "study.yaml").read_text())
    assert list(content)[:3] == ["seeds", "norms", "options"]  # as it was written
    assert content["seeds"] == [0, 1, 2]
    assert content["trainer"]["max_epochs"] == 2
    assert content["options"]["sizes"] == [2, 0.5]


def test_a_second_call_does_nothing_twice(finished: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("worked again")

    monkeypatch.setattr(Tiny, "measure", refuse)
    monkeypatch.setattr("rnnnorm.studies.framework.work.execute", refuse)
    before = files(finished.folder)
    assert finished() == 0
    assert "15 of 15 trials done before: skipped" in finished.printed
    after = files(finished.folder)
    pictures = {"figure.png", "figure.svg"}
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    assert changed <= pictures | {"verdict.json"}  # the command may be another
    assert finished.verdicts()["higher"] == "supported"


def test_a_trial_that_was_trained_and_not_measured_is_not_trained_again(
    finished: Runner, monkeypatch: pytest.MonkeyPatch, without_pictures: None
) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr("rnnnorm.studies.framework.work.execute", refuse)
    before = finished.table()
    for path in finished.folder.rglob("measurements.json"):
        path.unlink()
    assert finished() == 0
    assert finished.table().equals(before)


def test_it_does_not_matter_in_which_order_trials_run(
    finished: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_pictures: None
) -> None:
    trials = Tiny.trials
    monkeypatch.setattr(Tiny, "trials", lambda self: list(reversed(trials(self))))
    assert finished(out=tmp_path / "other") == 0
    columns = sorted(finished.table().columns)
    other = finished.table(tmp_path / "other")[columns].sort_values(columns).reset_index(drop=True)
    assert finished.table()[columns].sort_values(columns).reset_index(drop=True).equals(other)


def test_quick_and_full_do_not_share_a_folder_unnoticed(tiny: Runner, without_pictures: None) -> None:
    drawn(tiny)
    assert tiny("--quick") == 0
    with pytest.raises(ValueError, match=r"(?s)another configuration.*sizes: .2. there, .2, 0.5. now.*--overwrite"):
        tiny()


def test_another_configuration_is_refused_and_overwrite_deletes_only_its_own(
    finished: Runner, without_pictures: None
) -> None:
    mine = finished.folder / "notes" / "mine" / "note.json"
    mine.parent.mkdir(parents=True)
    mine.write_text("keep me")
    other = finished.out / "bare" / "all" / "none" / "seed=0" / "measurements.json"
    other.parent.mkdir(parents=True)
    other.write_text("[]")
    before = files(finished.out)
    drawn(finished)
    finished.write((finished.files / "tiny.yaml").read_text().replace("sizes: [2, 0.5]", "sizes: [3]"))
    with pytest.raises(
        ValueError, match=r"(?s)out/tiny holds measurements.*options\.sizes: \[2, 0\.5\] there, \[3\] now"
    ):
        finished()
    assert files(finished.out) == before
    assert finished("--overwrite") == 0
    assert mine.read_text() == "keep me"
    assert other.is_file()
    assert set(where(finished.table(), quantity="number")["size"]) == {3}
    assert not list(finished.folder.glob("part=trained/*/seed=*"))


def test_overwrite_leaves_no_verdict_of_the_other_configuration(
    finished: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("not today")

    drawn(finished)
    monkeypatch.setattr(Tiny, "measure", fail)
    assert finished("--overwrite") == 1
    assert not (finished.folder / "verdict.json").exists()
    assert not (finished.folder / "measurements.csv").exists()
    assert "With ln numbers are lower" not in (finished.out / "report.html").read_text()


def test_overwrite_without_another_configuration_deletes_nothing(
    finished: Runner, monkeypatch: pytest.MonkeyPatch, without_pictures: None
) -> None:
    monkeypatch.setattr("rnnnorm.studies.framework.work.execute", lambda *_: pytest.fail("trained again"))
    assert finished("--overwrite") == 0
    assert "15 of 15 trials done before: skipped" in finished.printed


def test_more_seeds_and_norms_go_on_with_what_is_there(tiny: Runner, without_pictures: None) -> None:
    drawn(tiny)
    assert tiny("--seeds", "0,1") == 0
    assert tiny("--seeds", "0,1,2", "--norms", "none,ln,wn") == 0
    assert "8 of 18 trials done before: skipped" in tiny.printed
    assert yaml.safe_load((tiny.folder / "study.yaml").read_text())["seeds"] == [0, 1, 2]
    assert set(tiny.table()["seed"]) == {0, 1, 2}


def test_seeds_and_norms_of_the_command_line(tiny: Runner, without_pictures: None) -> None:
    drawn(tiny)
    assert tiny("--seeds", "2", "--norms", "ln,wn") == 0
    assert set(tiny.table()["seed"]) == {0, 1}
    assert set(tiny.table()["norm"]) == {"ln", "wn"}


def test_a_norm_without_its_partner_has_no_verdict_on_the_difference(tiny: Runner) -> None:
    """No effect was measured, so nothing may be counted as supported, contradicted or dependent."""
    drawn(tiny)
    assert tiny("--norms", "ln") == 0
    assert tiny.verdicts() == {}


def test_several_studies_at_once_and_one_named_twice(tiny: Runner, without_pictures: None) -> None:
    drawn(tiny)
    assert tiny(name="tiny,bare,tiny") == 0
    assert "[14/14]" in tiny.printed
    assert (tiny.out / "bare" / "measurements.csv").is_file()
    assert len(tiny.table()) == 12 * 7


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["nope"], "unknown study nope; there are: constant-slots"),
        (["tiny,nope"], "unknown study nope"),
        (["tiny,bare", "-c", "default"], "-c belongs to one study"),
        (["tiny", "--norms", "nope"], "unknown norm 'nope'"),
        (["tiny", "--seeds", "x"], "--seeds x"),
        (["tiny", "-c", "no/such.yaml"], "no/such.yaml"),
    ],
)
def test_impossible_requests_exit_with_2_a_message_and_no_folder(
    args: list[str], message: str, tiny: Runner, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["study", *args, "--out", str(tiny.out)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not tiny.out.exists()


@pytest.mark.parametrize("args", [[], ["tiny", "--jobs", "0"], ["tiny", "--jobs", "two"], ["tiny", "--nope"]])
def test_what_the_parser_refuses_exits_with_2(args: list[str], tiny: Runner) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["study", *args, "--out", str(tiny.out)])
    assert stop.value.code == 2
    assert not tiny.out.exists()


@pytest.mark.parametrize(
    "text",
    [
        "model: {init_args: {hiden_size: 3}}",
        "trainer: {max_epoch: 3}",
        "data: {class_path: no.such.Data}",
        "data: {class_path: rnnnorm.data.TemporalOrder, init_args: {nope: 1}}",
    ],
)
def test_a_configuration_that_cannot_be_trained_is_refused_before_the_first_trial(
    text: str, tiny: Runner, tmp_path: Path, without_pictures: None, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    try:
        code = main(["study", "tiny", "-c", str(tmp_path / "mine.yaml"), "--out", str(tiny.out), "--jobs", "1"])
    except SystemExit as stop:
        code = int(stop.code or 0)
    error = capsys.readouterr().err
    assert code == 2
    assert any(word in error for word in ("hiden_size", "max_epoch", "no.such", "nope"))
    assert not list(tiny.out.rglob("measurements.json"))


def test_two_trials_in_one_folder_are_refused(tiny: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second would silently be given the measurements of the first."""
    monkeypatch.setattr(Tiny, "trials", lambda self: [Trial({"a": 1}, "ln", 0), Trial({"a": 1}, "ln", 0)])
    with pytest.raises(ValueError, match="a=1"):
        tiny()
    assert not list(tiny.out.rglob("measurements.json"))


def test_studies_are_listed_with_their_questions(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["list", "studies"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for name, cls in STUDIES.items():
        assert name in shown
        assert cls.question[:40] in shown


def test_help_names_the_studies_and_shows_examples(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")  # names shall not be broken at their hyphens
    with pytest.raises(SystemExit):
        main(["study", "--help"])
    shown = capsys.readouterr().out
    assert "rnnnorm study gradient-flow --quick" in shown
    assert all(name in shown for name in STUDIES)

"""The command `rnnnorm`."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from report.fake_runs import write_comparison

from rnnnorm import __version__, presets
from rnnnorm.cli import COMMANDS, main
from rnnnorm.compare.experiments import experiments

pytestmark = pytest.mark.filterwarnings("ignore")


def help_of(*args: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        main([*args, "--help"])
    assert stop.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", [*COMMANDS, ""])
def test_every_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(*command.split(), capsys=capsys)
    assert "example" in text
    assert f"  rnnnorm {command}" in text


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"rnnnorm {__version__}\n"


@pytest.mark.parametrize("args", [[], ["nope"], ["list", "nope"], ["list"]])
def test_unknown_commands_are_refused_and_those_that_exist_listed(
    args: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(args)
    assert stop.value.code == 2
    assert ("experiments" if "list" in args else "COMMAND") in capsys.readouterr().err


def test_lists_name_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "norms"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in presets())
    assert main(["list", "experiments"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in experiments())
    assert main(["list", "tasks"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("TemporalOrder", "PartOfSpeech", "perplexity", "multi-label"))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["compare", "-c", "nope"], "there is no experiment or file 'nope'"),
        (["compare", "--norms", "none,nope"], "unknown norm 'nope'"),
        (["report", "no/such/folder"], "no/such/folder"),
    ],
)
def test_impossible_requests_exit_with_2_and_a_message(
    args: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(args) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


def test_missing_data_exit_with_2_and_say_where_they_were_expected(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    args = [
        "-c",
        "names",
        "--data-dir",
        str(tmp_path / "data"),
        "--data.download",
        "false",
        "--out",
        str(tmp_path / "o"),
    ]
    assert main(["compare", *args]) == 2
    assert str(tmp_path / "data") in capsys.readouterr().err


SMALL = [
    *("--data", "TemporalOrder", "--data.num_train", "40", "--data.num_val", "20", "--data.num_test", "20"),
    *(
        "--data.max_length",
        "20",
        "--model.hidden_size",
        "4",
        "--trainer.max_epochs",
        "1",
        "--trainer.accelerator",
        "cpu",
    ),
]


def test_compare_from_a_shell_and_its_checkpoint_tested_by_lightning(tmp_path: Path) -> None:
    """In processes of their own: exit codes, output and files as a user sees them."""

    def rnnnorm(*args: str) -> subprocess.CompletedProcess[str]:
        root = Path(__file__).parents[1]
        environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "rnnnorm", *args]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)

    done = rnnnorm("compare", *SMALL, "--norms", "bn-vertical", "--seeds", "1", "--out", "o")
    assert done.returncode == 0, done.stderr
    assert "[1/1] bn-vertical/seed=0: 1 step in" in done.stdout
    assert "rnnnorm tensorboard o" in done.stdout
    assert done.stderr == ""
    run = "o/bn-vertical/seed=0"
    tested = rnnnorm("test", "-c", f"{run}/config.yaml", "--ckpt_path", f"{run}/checkpoints/best.ckpt")
    assert tested.returncode == 0, tested.stderr
    assert "test/accuracy" in tested.stdout


def test_fit_finds_the_model_for_the_data_and_prints_the_command_that_tests_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["fit", *SMALL, "--model.norm", "ln", "--trainer.enable_progress_bar", "false"]) == 0
    *_, saved, following = capsys.readouterr().out.splitlines()
    assert Path(saved.removeprefix("checkpoint:").strip()).is_file()
    program, *test = shlex.split(following.removeprefix("to test it:"))
    assert (program, test[0]) == ("rnnnorm", "test")
    assert main(test) == 0
    assert "test/accuracy" in capsys.readouterr().out
    config = tmp_path / "runs" / "fit" / "version_0" / "config.yaml"
    assert "class_path: rnnnorm.tasks.classification.Classification" in config.read_text()
    assert list(tmp_path.glob("runs/fit/*/checkpoints/*.ckpt"))


def test_an_interrupt_while_libraries_are_imported_is_one_line() -> None:
    program = """
import os, signal
from rnnnorm import cli
cli.import_module = lambda name: os.kill(os.getpid(), signal.SIGINT)
cli.main(["compare"])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_a_report_that_cannot_be_written_shows_its_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_comparison(tmp_path, ["none", "ln"], seeds=1)

    def refuse(out: Path, *_: object) -> Path:
        raise OSError(30, "Read-only file system", "results.csv")

    monkeypatch.setattr("rnnnorm.report.build", refuse)
    assert main(["report", str(tmp_path)]) != 0
    shown = capsys.readouterr()
    assert "Read-only file system" in shown.err
    assert "differences from none" in shown.out

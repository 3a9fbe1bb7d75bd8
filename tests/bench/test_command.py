"""`rnnnorm bench` as a user runs it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from matplotlib.image import imread

from rnnnorm.bench import GOALS, PARTS, Contest, Record, Settings, Shape, load, summarize
from rnnnorm.bench.command import bench
from rnnnorm.bench.contenders import KINDS
from rnnnorm.bench.records import OURS, RATIO, pick
from rnnnorm.cli import main

TINY = ["--quick", "--shapes", "4,2,3,4", "--seconds", "0.01"]
FAST = [*TINY, "--parts", "streaming", "--presets", "none"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are written to a folder of their own, and output is that of a pipe."""
    monkeypatch.chdir(tmp_path)
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


def test_every_part_is_measured_printed_saved_and_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    args = [*TINY, "--presets", "ln", "--json", "bench.json", "--figure", "bench.png"]
    assert main(["bench", *args]) == 0
    shown = capsys.readouterr().out
    run = load(Path("bench.json"))
    assert set(run.records["part"]) == set(PARTS)
    assert run.command == "rnnnorm bench " + " ".join(args)
    assert run.machine["threads"] == torch.get_num_threads()
    assert all(r.median > 0 and r.q1 <= r.median <= r.q3 for r in run.records.itertuples())
    assert set(summarize(run.records)["goal"]) == {goal.name for goal in GOALS}
    assert all(r.shape == Shape(4, 2, 3, 4) for r in run.records.itertuples() if r.part not in ("growth", "streaming"))
    assert set(pick(run.records, contender=OURS)["norm"]) == {"ln", *(f"{kind}, ln" for kind in KINDS)}
    assert imread("bench.png").shape[1] > 1000
    lines = shown.splitlines()
    contests = [line for line in lines if line.startswith("[")]
    assert contests[0].startswith(f"[1/{len(contests)}, ")
    assert "dense 4,2,3,4: ratio to torch.nn.LSTM" in contests[0]
    assert contests[-1].startswith(f"[{len(contests)}/{len(contests)}, ")
    for goal in GOALS:
        assert goal.name in shown
    assert lines[-2:] == ["numbers: bench.json", "figure: bench.png"]


def test_several_presets_shapes_and_parts(capsys: pytest.CaptureFixture[str]) -> None:
    shapes = ["--shapes", "4,2,3,4", "3,2,3,5"]
    options = ["--presets", "ln, none,ln", "--parts", "streaming,forward", "--backend", "reference", "--seed", "3"]
    assert main(["bench", *TINY, *shapes, *options, "--json", "b.json", "--figure", "b.svg"]) == 0
    records = load(Path("b.json")).records
    assert set(zip(records["part"], records["lengths"], strict=True)) == {
        ("streaming", "dense"),
        ("forward", "dense"),
        ("forward", "uniform"),
    }
    assert set(pick(records, part="forward")["shape"]) == {Shape(4, 2, 3, 4), Shape(3, 2, 3, 5)}
    ours = pick(records, contender=OURS)
    assert list(ours["norm"].unique()) == ["ln", "none"]
    assert set(ours["backend"]) == {"reference"}
    assert "<svg" in Path("b.svg").read_text(encoding="utf-8")
    assert "(reference)" in capsys.readouterr().out


def test_without_files_only_tables_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *FAST]) == 0
    shown = capsys.readouterr().out
    assert "One timestep of one sequence" in shown
    assert "Training step" not in shown
    assert "numbers:" not in shown
    assert list(tmp_path.iterdir()) == []


def test_a_terminal_shows_a_bar_and_then_the_tables(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert main(["bench", *FAST]) == 0
    shown = capsys.readouterr().out
    assert "[1/1" not in shown
    assert "1/1" in shown
    assert "One timestep of one sequence" in shown


@pytest.mark.parametrize(
    ("args", "messages"),
    [
        (["--parts", "dense,nope"], ["unknown part 'nope'", *PARTS]),
        (["--shapes", "4,2,3"], ["T,B,I,H", "'4,2,3'"]),
        (["--shapes", "4,2,3,4", "4,2,3,0"], ["at least 1", "'4,2,3,0'"]),
        (["--threads", "0"], ["threads must be at least 1, got 0"]),
        (["--threads", "-2"], ["threads must be at least 1, got -2"]),
        (["--json", "no/such/bench.json"], ["no/such/bench.json", "there is no folder"]),
        (["--figure", "no/such/bench.png"], ["no/such/bench.png", "there is no folder"]),
        (["--figure", "bench.jpg"], ["'bench.jpg'", ".png, .svg, .pdf"]),
    ],
    ids=lambda value: " ".join(value) if value and value[0].startswith("--") else "",
)
def test_impossible_requests_exit_with_2_before_anything_is_measured(
    args: list[str],
    messages: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rnnnorm.bench.command.measure", lambda *_: pytest.fail("measured something"))
    assert main(["bench", "--quick", "--json", "bench.json", *args]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("rnnnorm bench: error: ")
    for message in messages:
        assert message in captured.err
    assert captured.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("args", [["--threads", "two"], ["--nope"], ["--shapes"], ["--seconds", "s"]], ids=" ".join)
def test_what_cannot_be_read_exits_with_2_and_one_line(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["bench", *args])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("rnnnorm bench: error: ")
    assert error.count("\n") == 1
    assert args[0] in error


def test_help_names_parts_presets_and_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["bench", "--help"])
    assert stop.value.code == 0
    shown = "".join(capsys.readouterr().out.split())
    for words in (",".join(PARTS), "bn-timestep", "--figure", "rnnnormbench--quick", "100,64,128,256"):
        assert words in shown


def one_record(contest: Contest, settings: Settings) -> list[Record]:
    threads = float(torch.get_num_threads())
    return [Record(contest.part, contest.shape, contest.lengths, OURS, "ln", "", RATIO, threads, 1, 1, 1, 1)]


def test_threads_are_set_for_the_run_and_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rnnnorm.bench.command.measure", one_record)
    before = torch.get_num_threads()
    assert bench([*FAST, "--threads", str(before + 1), "--json", "b.json"]) == 0
    run = load(Path("b.json"))
    assert run.machine["threads"] == before + 1
    assert run.records["median"][0] == before + 1
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("error", "code"), [(KeyboardInterrupt(), 130), (ChildProcessError("it broke"), 2)], ids=["interrupt", "failure"]
)
def test_what_was_measured_before_the_end_is_saved(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(contest: Contest, settings: Settings) -> list[Record]:
        if contest.part == "ragged":
            raise error
        return one_record(contest, settings)

    monkeypatch.setattr("rnnnorm.bench.command.measure", measure)
    before = torch.get_num_threads()
    args = [*TINY, "--parts", "dense,ragged", "--threads", "1", "--json", "b.json"]
    assert main(["bench", *args]) == code
    assert list(load(Path("b.json")).records["part"]) == ["dense"]
    assert torch.get_num_threads() == before
    if code == 2:
        assert "it broke" in capsys.readouterr().err


def test_an_end_before_the_first_number_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(*_: object) -> list[Record]:
        raise KeyboardInterrupt

    monkeypatch.setattr("rnnnorm.bench.command.measure", measure)
    assert main(["bench", *FAST, "--json", "b.json"]) == 130
    assert list(tmp_path.iterdir()) == []


def test_options_come_to_the_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Contest, Settings]] = []

    def measure(contest: Contest, settings: Settings) -> list[Record]:
        seen.append((contest, settings))
        return one_record(contest, settings)

    monkeypatch.setattr("rnnnorm.bench.command.measure", measure)
    assert (
        bench(["--presets", "ln,rms", "--shapes", "4,2,3,4", "--seconds", "1.5", "--seed", "9", "--backend", "native"])
        == 0
    )
    contests, settings = [contest for contest, _ in seen], seen[0][1]
    assert list(dict.fromkeys(contest.part for contest in contests)) == list(PARTS)
    assert (settings.seconds, settings.seed, settings.backend, settings.device) == (1.5, 9, "native", "cpu")
    assert settings.presets == ("ln", "rms")
    assert settings.shapes == (Shape(4, 2, 3, 4),)
    seen.clear()
    assert bench(["--quick"]) == 0
    quick, default = seen[0][1], Settings()
    assert quick.seconds < default.seconds
    assert set(quick.presets) < set(default.presets)
    assert len(seen) < len(contests)
    seen.clear()
    assert bench(["--quick", "--parts", "dense"]) == 0
    assert [contest.part for contest, _ in seen] == ["dense"]


@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="it can run under the interpreter")
def test_a_backend_that_cannot_run_here_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--backend", "triton", "--presets", "ln", "--shapes", "3,2,2,2", "--parts", "dense"]) == 2
    assert "backend 'triton' cannot run" in capsys.readouterr().err


def test_a_folder_is_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--quick", "--json", str(tmp_path)]) == 2
    assert "it is a folder" in capsys.readouterr().err

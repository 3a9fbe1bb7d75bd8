"""Damaged checkpoints and results, folders that were moved, a disk that is full: one line each, and the run goes on."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from compare.conftest import Small
from rich.console import Console
from support import TIMELESS

from rnnnorm.cli import main
from rnnnorm.common import atomic
from rnnnorm.compare.runner import compare
from rnnnorm.engine import trial
from rnnnorm.engine.checkpoints import CheckpointFiles, read_checkpoint
from rnnnorm.engine.records import KEYS, read_result
from rnnnorm.engine.run import Run
from rnnnorm.report.curves import read_curves

if TYPE_CHECKING:
    from at_step import AtStep

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("without_report")]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def flip_a_bit(path: Path) -> None:
    """In the weights, where nothing but a checksum notices."""
    content = bytearray(path.read_bytes())
    weights = torch.load(path, weights_only=True)["state_dict"]["head.weight"]
    content[content.index(weights.numpy().tobytes()) + 5] ^= 4
    path.write_bytes(content)


def replace_by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def restamp(**other: Any) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        content = torch.load(path, weights_only=True)
        content["rnnnorm_run"] |= other
        torch.save(content, path)

    return damage


def a_pickle(path: Path) -> None:
    torch.save([1, 2], path)


DAMAGES = {
    "truncated": truncate,
    "empty": empty,
    "zeroed": zero,
    "a bit flipped": flip_a_bit,
    "a folder": replace_by_a_folder,
    "another norm": restamp(norm="ln"),
    "another seed": restamp(seed=7),
    "something else": a_pickle,
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a comparison that nothing happened to."""
    undisturbed = Small(tmp_path_factory.mktemp("whole"))
    assert undisturbed() == 0
    return undisturbed.out


def assert_same_run(small: Small, whole: Path) -> None:
    assert small.result() | TIMELESS == small.result(out=whole) | TIMELESS
    for name in ("last", "best"):
        states = [
            torch.load(out / "none" / "seed=0" / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]
            for out in (small.out, whole)
        ]
        assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    found, expected = (read_curves(out / "none" / "seed=0") for out in (small.out, whole))
    for tag in ("train/loss", "val/loss", "val/accuracy"):
        assert found[tag].step.tolist() == expected[tag].step.tolist(), tag
        assert found[tag].value.tolist() == expected[tag].value.tolist(), tag


def another_second() -> None:
    """TensorBoard orders the files of one second by their number as text, 10 before 9."""
    time.sleep(1 - time.time() % 1)


def interrupt_at(step: int, at_step: AtStep) -> None:
    pending = [signal.SIGINT]
    at_step(step, lambda trainer: os.kill(os.getpid(), pending.pop()) if pending else None)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("name", ["last.ckpt", "best.ckpt"])
def test_a_checkpoint_that_cannot_be_read_is_set_aside_and_the_run_trained_anew(
    small: Small, whole: Path, at_step: AtStep, name: str, damage: Callable[[Path], None]
) -> None:
    interrupt_at(8, at_step)
    assert small() == 130
    path = small.out / "none" / "seed=0" / "checkpoints" / name
    damage(path)
    another_second()
    assert small() == 0
    said = [line for line in small.printed.splitlines() if name in line]
    assert len(said) == 1
    assert f"kept as {name}.unreadable, and the run is trained anew" in said[0]
    assert path.with_name(f"{name}.unreadable").exists()
    assert_same_run(small, whole)


def test_a_best_checkpoint_lost_after_training_costs_a_training_and_no_wrong_result(
    small: Small, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:

        def stop(*_: Any, **__: Any) -> None:
            raise KeyboardInterrupt

        patch.setattr(trial, "evaluate", stop)
        assert small() == 130
    for _ in range(2):
        truncate(small.out / "none" / "seed=0" / "checkpoints" / "best.ckpt")
        (small.out / "none" / "seed=0" / "result.json").unlink(missing_ok=True)
        another_second()
        assert small() == 0
        assert_same_run(small, whole)
    kept = {path.name for path in (small.out / "none" / "seed=0" / "checkpoints").iterdir()}
    assert kept == {"last.ckpt", "best.ckpt", "best.ckpt.unreadable", "best.ckpt.unreadable-2"}


def test_any_flipped_bit_is_noticed_or_without_effect(tmp_path: Path) -> None:
    run = Run("none", 0, tmp_path)
    content = {"global_step": 3, "loops": {}, "state_dict": {"w": torch.arange(9.0), "v": torch.ones(3)}}
    CheckpointFiles(run).save_checkpoint(content, run.last)
    sound = run.last.read_bytes()
    noticed = 0
    for position in random.Random(0).sample(range(8 * len(sound)), 250):
        flipped = bytearray(sound)
        flipped[position // 8] ^= 1 << position % 8
        run.last.write_bytes(flipped)
        try:
            found = read_checkpoint(run.last, run)
        except ValueError:
            noticed += 1
            continue
        assert found["global_step"] == 3
        for name, tensor in content["state_dict"].items():  # type: ignore[attr-defined]
            assert torch.equal(found["state_dict"][name], tensor)
    assert noticed > 50


def test_checkpoints_are_staged_in_their_own_folder(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "no room for temporary files")

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    assert small() == 0


def test_a_folder_that_was_moved_keeps_its_best_score(small: Small, tmp_path: Path, at_step: AtStep) -> None:
    idle = ("--model.learning_rate", "0.0")  # no validation is better than the first one
    interrupt_at(8, at_step)
    assert small(*idle) == 130
    moved = tmp_path / "elsewhere" / "moved"
    moved.parent.mkdir()
    shutil.move(small.out, moved)
    assert small(*idle, out=moved) == 0
    assert small(*idle) == 0
    for key in ("best_val", "best_step"):
        assert small.result(out=moved)[key] == small.result()[key]
    assert small.result(out=moved)["best_step"] == 6


def result(folder: Path, **other: Any) -> Path:
    known = dict.fromkeys(KEYS) | {"norm": "bn-timestep:gain=1.0", "seed": 1, "status": "finished"}
    path = folder / "bn-timestep,gain=1.0" / "seed=1" / "result.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(known | {"test": {}, "buckets": {}} | other))
    return path


def test_a_result_is_believed_if_it_is_complete_and_of_this_run(tmp_path: Path) -> None:
    found = read_result(result(tmp_path))
    assert found is not None
    assert found["status"] == "finished"
    for other in ({"norm": "ln"}, {"seed": 2}, {"status": "nearly"}, {"test": None}, {"buckets": 3}):
        assert read_result(result(tmp_path, **other)) is None, other
    for key in KEYS:
        path = result(tmp_path)
        path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != key}))
        assert read_result(path) is None, key
    for text in ("", "null", "[]", "3", '{"norm": "ln"', "[" * 100_000):
        path.write_text(text)
        assert read_result(path) is None, text[:20]


def test_a_result_of_another_run_is_made_again(small: Small) -> None:
    assert small("--seeds", "2") == 0
    first, second = (small.out / "none" / f"seed={seed}" / "result.json" for seed in range(2))
    before = json.loads(second.read_text()) | TIMELESS
    shutil.copy(first, second)
    assert small("--seeds", "2") == 0
    assert "1 of 2 runs have been finished before" in small.printed
    assert json.loads(second.read_text()) | TIMELESS == before


@pytest.mark.parametrize(
    "content",
    [b"", b"\0\0", b"a: [", b"\xff\xfe", b"- 1\n", b"[" * 1500, b"day: 2020-13-45\n", b"1: 2\nmodel: {3: 4}\n", None],
    ids=["empty", "zeros", "syntax", "encoding", "a list", "deep", "no date", "numbers as keys", "a folder"],
)
def test_a_broken_configuration_is_one_line_and_exit_code_2(
    small: Small, capsys: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    args = ["compare", "-c", str(small.config), "--out", str(small.out)]
    path = small.out / "compare.yaml"
    small.out.mkdir()
    path.mkdir() if content is None else path.write_bytes(content)
    assert main(args) == 2
    said = capsys.readouterr().err
    assert said.startswith("rnnnorm compare: error: ")
    assert str(small.out) in said
    assert "--overwrite" in said
    assert "Traceback" not in said
    if content is not None:
        assert small("--overwrite") == 0
        assert small.result()["status"] == "finished"


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let every write of the files with some name fail, as on a full disk; half of each gets through."""
    original = atomic._flush

    def install(name: str) -> None:
        def flush(path: Path) -> None:
            if path.name == name + atomic.SUFFIX:
                truncate(path)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            original(path)

        monkeypatch.setattr(atomic, "_flush", flush)

    return install


@pytest.mark.parametrize("name", ["result.json", "last.next", "best.ckpt", "config.yaml", "error.txt"])
def test_a_full_disk_is_named_and_what_exists_is_shown(
    small: Small, full: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    assert small() == 0
    with monkeypatch.context() as patch:
        if name == "error.txt":
            patch.setattr("rnnnorm.compare.runner.execute", lambda *_: 1 / 0)
        full(name)
        assert small("--norms", "none,ln,wn") == 1
    assert not list(small.out.rglob("*.part"))
    assert "parameters" in small.printed
    if name == "error.txt":
        assert "failed, ZeroDivisionError" in small.printed
        assert "failed:      ln/seed=0\n" in small.printed
    else:
        where = small.out / "ln" / "seed=0"
        where = where / "checkpoints" if name in ("last.next", "best.ckpt") else where
        assert f"failed, OSError: [Errno 28] No space left on device: '{where / name}'" in small.printed
        assert "disk full: 1 run left; to go on: rnnnorm compare" in small.printed


def test_with_room_again_the_comparison_goes_on(small: Small, whole: Path, full: Callable[[str], None]) -> None:
    full("result.json")
    assert small() == 1
    full("nothing")
    another_second()
    assert small() == 0
    assert_same_run(small, whole)


def test_a_report_that_cannot_be_written_is_named(
    small: Small, full: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(out: Path) -> Path:
        atomic.write_text(out / "report.html", "a page")
        return out

    monkeypatch.setattr("rnnnorm.report.build", build)
    full("report.html")
    assert small() == 1
    assert f"not written, [Errno 28] No space left on device: '{small.out / 'report.html'}'" in small.printed
    assert "parameters" in small.printed
    assert not list(small.out.rglob("*.part"))


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("room", [0, 4, 40])
def test_a_disk_that_is_really_full(small: Small, tiny_disk: Path, room: int) -> None:
    """`room` KB are left when the second run begins, which is less than a run needs."""
    out = tiny_disk / "out"
    assert small(out=out) == 0
    free = shutil.disk_usage(tiny_disk).free
    (tiny_disk / "ballast").write_bytes(bytes(max(free - 1024 * room, 0)))
    console = Console(record=True, width=200, force_terminal=False)
    wide = ["--model.hidden_size", "4", "--norms", "none,ln,wn", "--out", str(out)]
    assert compare(["-c", str(small.config), *wide], console) == 1
    printed = console.export_text()
    assert "[Errno 28] No space left on device: '" in printed
    assert str(out / "ln" / "seed=0") in printed
    assert "parameters" in printed
    assert not list(out.rglob("*.part"))
    assert small.result(out=out)["status"] == "finished"

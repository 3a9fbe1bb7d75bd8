"""Which runs are planned, and where they live."""

from __future__ import annotations

from pathlib import Path

import pytest

from rnnnorm import presets
from rnnnorm.common.folder_names import norm_folder, norm_of_folder
from rnnnorm.compare.plan import parse_norms, parse_seeds, plan
from rnnnorm.engine.run import Run
from rnnnorm.norms.places import PLACES
from rnnnorm.norms.presets import CORE


@pytest.mark.parametrize(
    ("given", "norms"),
    [
        ("none,ln", ["none", "ln"]),
        (" none , ln ,", ["none", "ln"]),
        (["bn-timestep:gain=1.0"], ["bn-timestep:gain=1.0"]),
        ("ln,none,ln", ["ln", "none"]),
        ("all", list(presets())),
        (
            "core",
            ["none", "bn-vertical", "bn-vertical-framewise", "bn-shared", "bn-timestep", "ln", "ln-carried", "wn"],
        ),
        ("rms,core", ["rms", *CORE]),
        ("ln:gain=0.5,all", ["ln:gain=0.5", *presets()]),
    ],
)
def test_norms(given: str | list[str], norms: list[str]) -> None:
    assert parse_norms(given) == norms


@pytest.mark.parametrize(("given", "existing"), [("nope", "bn-timestep"), ("ln:slope=1", "gain"), (",", "bn-timestep")])
def test_unknown_norms_are_refused_and_those_that_exist_listed(given: str, existing: str) -> None:
    with pytest.raises(ValueError, match=existing):
        parse_norms(given)


@pytest.mark.parametrize(
    ("given", "seeds"), [(1, [0]), (3, [0, 1, 2]), ("3,7", [3, 7]), ([3, 7], [3, 7]), ("5,", [5]), ([3, 3], [3])]
)
def test_seeds(given: int | str | list[int], seeds: list[int]) -> None:
    assert parse_seeds(given) == seeds


@pytest.mark.parametrize("given", [0, -1, "", "a,b", "-1,2", [], None])
def test_impossible_seeds_are_refused(given: int | str | list[int] | None) -> None:
    with pytest.raises(ValueError, match="--seeds"):
        parse_seeds(given)


def test_no_norms_are_refused() -> None:
    with pytest.raises(ValueError, match="no norms to compare"):
        parse_norms(None)


def test_every_norm_gets_a_run_per_seed_and_seeds_come_one_after_the_other() -> None:
    runs = plan(["none", "ln"], [0, 1], Path("out"))
    assert [(run.norm, run.seed) for run in runs] == [("none", 0), ("ln", 0), ("none", 1), ("ln", 1)]


def test_folders_are_named_for_tensorboard_and_for_every_file_system() -> None:
    run = Run("bn-timestep:gain=1.0:max_steps=50", 3, Path("out"))
    assert run.name == "bn-timestep,gain=1.0,max_steps=50/seed=3"
    assert run.folder == Path("out/bn-timestep,gain=1.0,max_steps=50/seed=3")
    assert run.last == run.folder / "checkpoints" / "last.ckpt"


@pytest.mark.parametrize(
    ("norm", "folder"),
    [
        ("input=ln+hidden=bn:statistics=timestep", "input=ln+hidden=bn,statistics=timestep"),
        ("mine:peak:gain=1e+05", "mine,peak,gain=1e+05"),
        ("../my norms/Größe.py:peak", "%2E.%2Fmy%20norms%2FGr%C3%B6%C3%9Fe.py,peak"),
        ("~/x,y%2F.py:peak", "%7E%2Fx%2Cy%252F.py,peak"),
        ("C\\x.py:peak", "C%5Cx.py,peak"),
    ],
)
def test_any_norm_names_a_folder_and_is_read_back(norm: str, folder: str) -> None:
    assert norm_folder(norm) == folder
    assert norm_of_folder(folder) == norm


def test_norms_by_place() -> None:
    given = "none, input=ln + hidden=bn:statistics=timestep:gain=1e+00 ,hidden=ln"
    assert parse_norms(given) == ["none", "input=ln+hidden=bn:statistics=timestep:gain=1e+00", "hidden=ln"]


def test_a_norm_whose_folder_would_have_too_long_a_name() -> None:
    text = "+".join(f"{place}=bn:statistics=timestep:momentum=0.05:by_rows=true" for place in PLACES)
    with pytest.raises(ValueError, match=r"too long to name a folder .*rnnnorm\.register"):
        parse_norms(text)

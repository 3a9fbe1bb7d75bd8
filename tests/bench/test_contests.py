"""What is measured, and which requests are refused before anything is."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from rnnnorm.bench import GOALS, PARTS, PRESETS, SHAPES, Contest, Settings, Shape, plan
from rnnnorm.bench.contenders import KINDS
from rnnnorm.bench.contests import GROWTH, GROWTH_BASE, GROWTH_PRESETS, grown

TINY = Shape(4, 2, 3, 4)
LENGTHS_OF = {"dense": ["dense"], "ragged": ["uniform", "heavy-tailed"], "forward": ["dense", "uniform"]}


@pytest.fixture(scope="module")
def settings() -> Settings:
    return Settings()


def test_every_part_is_planned_once_per_shape_and_kind_of_lengths(settings: Settings) -> None:
    contests = plan(settings)
    assert len(set(contests)) == len(contests)
    assert list(dict.fromkeys(contest.part for contest in contests)) == list(PARTS)
    for part, kinds in LENGTHS_OF.items():
        found = [(contest.lengths, contest.shape) for contest in contests if contest.part == part]
        assert sorted(found) == sorted((kind, shape) for kind in kinds for shape in SHAPES)
    assert [contest.shape for contest in contests if contest.part == "memory"] == list(SHAPES)
    streamed = [contest.shape for contest in contests if contest.part == "streaming"]
    assert streamed == [Shape(1, 1, shape.I, shape.H) for shape in SHAPES]
    assert [contest.shape for contest in contests if contest.part == "growth"] == grown(settings)
    kinds = [(contest.kind, contest.shape) for contest in contests if contest.part == "kinds"]
    assert kinds == [(kind, shape) for kind in KINDS for shape in SHAPES]


def test_all_presets_run_everywhere_but_in_growth_and_beside_neighbours(settings: Settings) -> None:
    for contest in plan(settings):
        few = contest.part in ("growth", "busy", "busy-forward", "kinds")
        assert contest.norms == (GROWTH_PRESETS if few else PRESETS), str(contest)


def test_every_goal_has_cells_that_answer_it(settings: Settings) -> None:
    planned = {(contest.part, contest.lengths) for contest in plan(settings)}
    assert {(goal.part, goal.lengths) for goal in GOALS} <= planned


@pytest.mark.parametrize("part", PARTS)
def test_a_part_alone_is_what_it_is_among_all(part: str, settings: Settings) -> None:
    assert plan(Settings(parts=(part,))) == [contest for contest in plan(settings) if contest.part == part]


def test_shapes_that_differ_only_in_time_and_batch_are_streamed_once() -> None:
    settings = Settings(shapes=(TINY, TINY._replace(T=9), TINY._replace(B=5), TINY._replace(H=7)), parts=("streaming",))
    assert [contest.shape for contest in plan(settings)] == [Shape(1, 1, 3, 4), Shape(1, 1, 3, 7)]


def test_growth_changes_one_size_at_a_time(settings: Settings) -> None:
    shapes = grown(settings)
    assert shapes[0] == GROWTH_BASE
    assert len(set(shapes)) == len(shapes)
    for shape in shapes[1:]:
        assert sum(a != b for a, b in zip(shape, GROWTH_BASE, strict=True)) == 1
    for axis, values in GROWTH.items():
        others = [name for name in Shape._fields if name != axis]
        line = [s for s in shapes if all(getattr(s, name) == getattr(GROWTH_BASE, name) for name in others)]
        assert {getattr(shape, axis) for shape in line} == {*values, getattr(GROWTH_BASE, axis)}


@pytest.mark.parametrize(
    ("presets", "followed"),
    [
        (("ln", "wn", "none"), ("ln", "none")),
        (("rms", "gn"), ("rms", "gn")),
        (("rms", "gn", "wn", "bn-shared"), ("rms", "gn", "wn")),
    ],
)
def test_growth_follows_the_usual_presets_or_the_first_three(presets: tuple[str, ...], followed: tuple[str]) -> None:
    assert Settings(presets=presets).growth_presets == followed


@pytest.mark.parametrize(
    ("contest", "text"),
    [
        (Contest("dense", TINY), "dense 4,2,3,4"),
        (Contest("ragged", TINY, "heavy-tailed"), "ragged heavy-tailed 4,2,3,4"),
        (Contest("forward", TINY, "dense"), "forward dense 4,2,3,4"),
        (Contest("memory", TINY), "memory 4,2,3,4"),
        (Contest("streaming", Shape(1, 1, 3, 4)), "streaming 1,1,3,4"),
    ],
    ids=lambda value: value.part if isinstance(value, Contest) else None,
)
def test_a_cell_names_itself(contest: Contest, text: str) -> None:
    assert str(contest) == text


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"parts": ("dense", "nope")}, r"unknown part 'nope'; there are: dense, ragged, forward, memory, streaming"),
        ({"presets": ("none", "nope")}, r"unknown norm 'nope'.*bn-timestep"),
        ({"presets": ("ln:nope=1",)}, r"nope"),
        ({"backend": "nope"}, r"unknown backend 'nope'; there are: auto, native"),
        ({"backend": "torch", "presets": ("ln",)}, r"backend 'torch' does not cover"),
        ({"presets": ()}, r"at least one of presets"),
        ({"shapes": ()}, r"at least one of shapes"),
        ({"parts": ()}, r"at least one of parts"),
        ({"seconds": 0.0}, r"seconds per cell must be above 0, got 0"),
        ({"seconds": -1.5}, r"seconds per cell must be above 0, got -1.5"),
        ({"seconds": float("nan")}, r"seconds per cell must be above 0, got nan"),
        ({"device": "nope"}, r"unknown device 'nope'; expected cpu, cuda or cuda:<number>"),
        ({"device": "meta"}, r"cannot time on device 'meta'; expected cpu, cuda or cuda:<number>"),
        ({"device": "cuda:99"}, rf"'cuda:99' is not there; torch finds {torch.cuda.device_count()} CUDA devices"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_cannot_be_measured_is_refused_at_once(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Settings(**wrong)


def test_norms_with_overrides_can_be_measured() -> None:
    assert Settings(presets=("bn-timestep:gain=1.0", "wn:init=data")).presets == (
        "bn-timestep:gain=1.0",
        "wn:init=data",
    )

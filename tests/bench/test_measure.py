"""From times to records, with times that the tests choose; the steps themselves are run."""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan
from typing import Any

import pandas as pd
import pytest
import torch

from rnnnorm.bench import Contest, Settings, Shape, measure
from rnnnorm.bench.contenders import KINDS
from rnnnorm.bench.measure import STREAM, WITH_LENGTHS, Contender
from rnnnorm.bench.peak import Peak
from rnnnorm.bench.records import (
    AT_PEAK,
    EAGER,
    OUR_CELL,
    OURS,
    PADDED,
    PEAK,
    PRODUCTS,
    RATIO,
    REFERENCE,
    SAME_KIND,
    SCRIPT,
    SCRIPTED,
    SHARE,
    TORCH,
    TORCH_CELL,
    TORCH_PADDED,
    frame,
    pick,
)
from rnnnorm.bench.steps import ForwardStep, Step, TrainingStep

SHAPE = Shape(12, 3, 3, 4)
NORMS = ("none", "ln", "wn")
SECONDS = {
    TORCH: 4.0,
    TORCH_PADDED: 16.0,
    PRODUCTS: 1.0,
    AT_PEAK: 0.5,
    SCRIPTED: 32.0,
    REFERENCE: 64.0,
    WITH_LENGTHS: 24.0,
}
SECONDS |= {TORCH_CELL: 2.0, OUR_CELL: 3.0, OURS: 8.0}


class Timed:
    """Stands for `interleave`: runs each step once, then tells times that are exact."""

    def __init__(self) -> None:
        self.steps: dict[Contender, Step] = {}
        self.rest: tuple[Any, ...] = ()

    def __call__(self, steps: Mapping[Contender, Step], *rest: Any) -> dict[Contender, list[float]]:
        self.steps, self.rest = dict(steps), rest
        for step in steps.values():
            step.run()
            step.reset()
        # The machine is slower in the second round, for all alike.
        return {entry: [SECONDS[entry.name], 4 * SECONDS[entry.name], SECONDS[entry.name]] for entry in steps}


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> Timed:
    stand_in = Timed()
    monkeypatch.setattr(measure, "interleave", stand_in)
    return stand_in


def settings(**given: Any) -> Settings:
    return Settings(**{"presets": NORMS, "shapes": (SHAPE,), "seconds": 0.5, "seed": 5, **given})


def value(records: pd.DataFrame, contender: str, norm: str, metric: str) -> float:
    (found,) = pick(records, contender=contender, norm=norm, metric=metric).itertuples()
    assert found.q1 == found.median == found.q3  # the slow round is slow for both sides of a ratio
    assert found.rounds == 3
    return float(found.median)


@pytest.mark.parametrize("part", ["dense", "forward"])
def test_dense_cells(part: str, timed: Timed) -> None:
    records = frame(measure.measure(Contest(part, SHAPE, "dense", NORMS), settings()))
    assert timed.rest == (0.5, torch.device("cpu"), 5)
    assert set(timed.steps) == {
        Contender(TORCH),
        Contender(PRODUCTS),
        Contender(AT_PEAK),
        Contender(SCRIPTED),
        *(Contender(OURS, norm) for norm in NORMS),
        Contender(REFERENCE, "none"),
        Contender(REFERENCE, "ln"),
    }
    kind = TrainingStep if part == "dense" else ForwardStep
    assert all(isinstance(step, kind) for entry, step in timed.steps.items() if entry.name not in (PRODUCTS, AT_PEAK))
    assert timed.steps[Contender(PRODUCTS)].backward == (part == "dense")  # type: ignore[attr-defined]
    assert all((r.part, r.shape, r.lengths) == (part, SHAPE, "dense") for r in records.itertuples())
    assert value(records, TORCH, "", RATIO) == 1.0
    assert value(records, PRODUCTS, "", RATIO) == 0.25
    assert value(records, AT_PEAK, "", RATIO) == 0.125
    assert value(records, OURS, "ln", SHARE) == 0.0625
    assert value(records, SCRIPTED, "", RATIO) == 8.0
    assert value(records, REFERENCE, "ln", RATIO) == 16.0
    for norm in NORMS:
        assert value(records, OURS, norm, RATIO) == 2.0
        assert value(records, OURS, norm, SCRIPT) == 4.0
    assert value(records, OURS, "ln", EAGER) == 8.0
    assert pick(records, norm="wn", metric=EAGER).empty
    assert set(records["metric"]) == {RATIO, SCRIPT, EAGER, SHARE}
    (ours,) = pick(records, contender=OURS, norm="ln", metric=RATIO).itertuples()
    assert ours.ms == 8000.0
    assert ours.backend
    (eager,) = pick(records, contender=REFERENCE, norm="ln").itertuples()
    assert eager.backend == "reference"


@pytest.mark.parametrize(("part", "kind"), [("ragged", "uniform"), ("ragged", "heavy-tailed"), ("forward", "uniform")])
def test_ragged_cells_compare_packed_with_packed_and_lengths_with_padding(part: str, kind: str, timed: Timed) -> None:
    records = frame(measure.measure(Contest(part, SHAPE, kind, ("ln",)), settings(presets=("ln",))))
    assert {Contender(TORCH_PADDED), Contender(WITH_LENGTHS, "ln")} < set(timed.steps)
    if part == "ragged":
        training = {entry.name: step for entry, step in timed.steps.items() if isinstance(step, TrainingStep)}
        packed = {name for name, step in training.items() if step.leaf.dim() == 2}
        assert packed == {TORCH, OURS, REFERENCE}
        assert set(training) - packed == {TORCH_PADDED, WITH_LENGTHS, SCRIPTED}
    assert value(records, TORCH_PADDED, "", RATIO) == 4.0
    assert value(records, OURS, "ln", RATIO) == 2.0
    assert value(records, OURS, "ln", PADDED) == 1.5
    assert value(records, OURS, "ln", SCRIPT) == 4.0
    assert value(records, OURS, "ln", EAGER) == 8.0
    assert pick(records, contender=WITH_LENGTHS).empty  # told as ours, by another metric
    assert set(records["lengths"]) == {kind}


def test_growth_needs_no_peers_but_torch(timed: Timed) -> None:
    records = frame(measure.measure(Contest("growth", SHAPE, "dense", ("ln", "none")), settings()))
    assert set(timed.steps) == {Contender(TORCH), Contender(OURS, "ln"), Contender(OURS, "none")}
    assert set(records["metric"]) == {RATIO}
    assert len(records) == 3


def test_the_reference_is_not_said_to_be_faster_than_itself(timed: Timed) -> None:
    records = frame(
        measure.measure(Contest("dense", SHAPE, "dense", ("ln",)), settings(presets=("ln",), backend="reference"))
    )
    assert pick(records, metric=EAGER).empty
    (ours,) = pick(records, contender=OURS, metric=RATIO).itertuples()
    assert ours.backend == "reference"


@pytest.mark.parametrize("norms", [NORMS, ("bn-timestep", "bn-shared", "wn:init=data")], ids=["rows", "batches"])
def test_streams_are_told_per_timestep(norms: tuple[str, ...], timed: Timed) -> None:
    shape = Shape(1, 1, 3, 4)
    records = frame(measure.measure(Contest("streaming", shape, norms=norms), settings(presets=norms)))
    mine = {Contender(name, norm) for name in (OURS, OUR_CELL) for norm in norms}
    assert set(timed.steps) == {Contender(TORCH), Contender(TORCH_CELL), *mine}
    assert value(records, TORCH_CELL, "", RATIO) == 0.5
    for norm in norms:
        assert value(records, OURS, norm, RATIO) == 2.0
        assert value(records, OUR_CELL, norm, RATIO) == 0.75
    (torchs,) = pick(records, contender=TORCH).itertuples()
    assert torchs.ms == pytest.approx(4000.0 / STREAM)
    assert {r.backend for r in pick(records, contender=OUR_CELL).itertuples()} == {"step"}
    assert all(r.backend for r in pick(records, contender=OURS).itertuples())


def test_memory_is_told_relative_to_torch_and_in_mebibytes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fake_peak(contender: str, shape: Shape, norm: str, backend: str, device: torch.device) -> Peak:
        asked.append((contender, shape, norm, backend, device))
        return Peak({TORCH: 4, SCRIPTED: 12, OURS: 6}[contender] * 2**20, "VmHWM", "native" * (contender == OURS))

    monkeypatch.setattr(measure, "peak", fake_peak)
    records = frame(measure.measure(Contest("memory", SHAPE, norms=NORMS), settings()))
    cpu = torch.device("cpu")
    assert asked == [
        (TORCH, SHAPE, "none", "auto", cpu),
        (SCRIPTED, SHAPE, "ln", "auto", cpu),
        *((OURS, SHAPE, norm, "auto", cpu) for norm in NORMS),
    ]
    for contender, norm, ratio, mib in ((TORCH, "", 1.0, 4.0), (SCRIPTED, "ln", 3.0, 12.0), (OURS, "wn", 1.5, 6.0)):
        found = {r.metric: r for r in pick(records, contender=contender, norm=norm).itertuples()}
        assert (found[RATIO].median, found[PEAK].median) == (ratio, mib)
        assert all(isnan(r.ms) and r.rounds == 1 and r.q1 == r.median == r.q3 for r in found.values())
        assert found[RATIO].backend == ("native" if contender == OURS else "")


@pytest.mark.parametrize("kind", KINDS)
def test_other_kinds_are_measured_beside_torchs_module_of_the_kind(kind: str, timed: Timed) -> None:
    found = frame(measure.measure(Contest("kinds", SHAPE, norms=("none", "ln"), kind=kind), Settings()))
    assert found["norm"].tolist() == [f"{kind}, none", f"{kind}, ln"]
    assert set(found["metric"]) == {SAME_KIND}
    assert found["median"].tolist() == [2.0, 2.0]
    theirs, *ours = (step.module for step in timed.steps.values() if isinstance(step, TrainingStep))
    assert type(theirs).__module__ == "torch.nn.modules.rnn"
    for module in ours:
        assert torch.equal(module.weight_hh_l0, theirs.weight_hh_l0)
        assert module(torch.zeros(2, 2, 3))[0].shape == theirs(torch.zeros(2, 2, 3))[0].shape

"""What holds for every study in made-up worlds: verdicts, round trips through CSV, figures, parts of a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib.image
import pandas as pd
import pytest
from studies import (
    test_batch_size,
    test_constant_slots,
    test_cost,
    test_depth,
    test_gradient_flow,
    test_inference_gap,
    test_initialization,
    test_input_scaling,
    test_ladder,
    test_longer_than_trained,
    test_online,
    test_padding_study,
    test_regularization,
    test_step_statistics,
    test_vertical,
    test_zero_variance,
)
from studies.tables import reread, verdicts

from rnnnorm.studies import STUDIES
from rnnnorm.studies.framework.compose import save_figure
from rnnnorm.studies.framework.settings import load
from rnnnorm.studies.framework.study import Study

pytestmark = pytest.mark.filterwarnings("ignore")

Says = dict[str, bool | None]
SAYING: dict[str, Any] = {"gradient-flow": test_gradient_flow, "zero-variance": test_zero_variance}
"""Worlds in which each claim is true, false, or (None) true in some places only."""
AGREEING: dict[str, Any] = {
    "batch-size": test_batch_size,
    "constant-slots": test_constant_slots,
    "inference-gap": test_inference_gap,
    "padding": test_padding_study,
    "ladder": test_ladder,
    "vertical": test_vertical,
}
"""Worlds in which all claims are true, or all false."""
WORLDS: dict[str, Callable[[Study], pd.DataFrame]] = {
    "batch-size": lambda study: test_batch_size.table(True),
    "constant-slots": lambda study: test_constant_slots.table(True),
    "cost": test_cost.table,
    "depth": lambda study: test_depth.table(True),
    "gradient-flow": lambda study: test_gradient_flow.table(study, dict.fromkeys(test_gradient_flow.CLAIMS, True)),
    "inference-gap": lambda study: test_inference_gap.table(True),
    "initialization": lambda study: test_initialization.table(True),
    "input-scaling": test_input_scaling.table,
    "ladder": lambda study: test_ladder.table(True),
    "longer-than-trained": lambda study: test_longer_than_trained.table(),
    "online": lambda study: test_online.table(),
    "padding": lambda study: test_padding_study.table(True),
    "regularization": test_regularization.table,
    "step-statistics": lambda study: test_step_statistics.table(0.1, 0.03, 5, 0.2),
    "vertical": lambda study: test_vertical.table(True),
    "zero-variance": lambda study: test_zero_variance.table(study, dict.fromkeys(test_zero_variance.CLAIMS, True)),
}
JUDGED: dict[tuple[str, str], set[str]] = {
    ("cost", "preset"): {"costly", "cheap"},
    ("cost", "length"): set(),
    ("cost", "slots"): {"slots"},
    ("cost", "sizes"): {"memory"},
    ("depth", "start"): {"linear", "exponential", "identity"},
    ("depth", "trained"): {"bn-deep", "skipinit", "alpha-one", "fixup"},
    ("gradient-flow", "batch"): {"yang"},
    ("gradient-flow", "gain"): {"explodes"},
    ("gradient-flow", "norm"): set(),
    ("gradient-flow", "pixels"): {"vanishes"},
    ("gradient-flow", "layers"): {"vertical"},
    ("gradient-flow", "trained"): set(),
    ("initialization", "invariance"): {"invariances"},
    ("initialization", "trained"): {"resilient", "careful", "saturating", "data-dependent"},
    ("online", "learning"): {"online", "made-for-it", "drift"},
    ("online", "reading"): {"pieces"},
    ("zero-variance", "eps"): {"explodes", "scaling"},
    ("zero-variance", "noise"): {"noise"},
    ("zero-variance", "norm"): set(),
    ("zero-variance", "rounding"): {"rounding", "skipped"},
    ("zero-variance", "trained"): {"training", "eps", "skip"},
}
"""Which claims can be judged where one part of the trials has been measured."""

each = pytest.mark.parametrize("name", WORLDS)


def quick(name: str) -> Study:
    return STUDIES[name](load(name, quick=True))


def parts(m: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """What an interrupted study may have: one norm, one seed, one kind of quantity, a few rows."""
    for column in ("norm", "quantity"):
        every = [part for _, part in m.groupby(column)]
        yield from every[:: max(1, len(every) // 4)]  # each costs a second; four are as different as all
    yield from (m[m["seed"] == m["seed"].min()], m.iloc[:1], m.iloc[:3], m.iloc[-2:])


def concluded(study: Study, m: pd.DataFrame) -> set[str]:
    """The claims that are judged, where all else works, too."""
    said = study.findings(m)
    assert study.name == "step-statistics" or not any("nan" in text for text in said)  # it tells intervals of one seed
    for panel in study.panels(m):
        assert panel.title
    return {verdict.claim.key for verdict in study.verdicts(m)}


@pytest.mark.parametrize(("name", "key"), [(name, key) for name, module in SAYING.items() for key in module.CLAIMS])
@pytest.mark.parametrize(("true", "verdict"), [(True, "supported"), (False, "refuted"), (None, "open")], ids=str)
def test_each_verdict_follows_the_measurements(name: str, key: str, true: bool | None, verdict: str) -> None:
    module, study = SAYING[name], quick(name)
    found = verdicts(study, module.table(study, dict.fromkeys(module.CLAIMS, True) | {key: true}))
    assert found == dict.fromkeys(module.CLAIMS, "supported") | {key: verdict}


@pytest.mark.parametrize("name", AGREEING)
@pytest.mark.parametrize(("agrees", "verdict"), [(True, "supported"), (False, "refuted")])
def test_verdicts_follow_the_measurements(name: str, agrees: bool, verdict: str, tmp_path: Path) -> None:
    m = AGREEING[name].table(agrees)
    assert verdicts(quick(name), m) == dict.fromkeys(AGREEING[name].CLAIMS, verdict)
    save_figure(quick(name).panels(m), tmp_path, "?")


@each
def test_a_round_trip_through_csv_changes_nothing(name: str, tmp_path: Path) -> None:
    study = quick(name)
    m = WORLDS[name](study)
    again = reread(m, tmp_path)
    assert [verdict.as_dict() for verdict in study.judge(again)] == [verdict.as_dict() for verdict in study.judge(m)]
    assert study.findings(again) == study.findings(m)
    png, svg = save_figure(study.panels(again), tmp_path, study.question)
    assert matplotlib.image.imread(png).std() > 0.02
    assert svg.stat().st_size > 1000


@each
def test_whatever_has_been_measured_can_be_concluded(name: str, tmp_path: Path) -> None:
    study = quick(name)
    m = WORLDS[name](study)
    whole = concluded(study, m)
    for part in parts(m):
        assert concluded(study, reread(part, tmp_path)) <= whole
    save_figure(study.panels(part), tmp_path, "?")


@pytest.mark.parametrize(("name", "part"), JUDGED)
def test_one_part_alone_has_its_claims(name: str, part: str, tmp_path: Path) -> None:
    study = quick(name)
    m = WORLDS[name](study)
    one = m[m["part"] == part].reset_index(drop=True)
    assert {verdict.claim.key for verdict in study.verdicts(one)} == JUDGED[name, part]
    save_figure(study.panels(reread(one, tmp_path)), tmp_path, "?")
    bare = one.dropna(axis=1, how="all") if name == "initialization" else one
    assert concluded(study, bare) == JUDGED[name, part]

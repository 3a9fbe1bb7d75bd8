"""Every declared claim is supported in a world made to its contrasts, and not in the opposite one."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from studies.tables import PLAIN

from rnnnorm.norms.presets import presets
from rnnnorm.studies import STUDIES
from rnnnorm.studies.framework.contrast import Contrast
from rnnnorm.studies.framework.selection import chosen, fields
from rnnnorm.studies.framework.settings import load
from rnnnorm.studies.framework.study import Study

MADE = {"mode": ["running", "population", "batch", "training"]}
"""Values of columns that are no conditions of trials; of others numbers will do."""
NUMBERS = [1, 2, 3, 64, 128]
DECLARED = [(name, claim.key) for name, cls in STUDIES.items() for claim in cls.claims if claim.contrasts]

Place = tuple[str, frozenset[tuple[str, Hashable]]]
"""A quantity at a point."""


def candidates(study: Study, contrast: Contrast, column: str) -> list[Any]:
    """Values that a column of a contrast may have: those of trials, of its own rules, and of its reference."""
    of_trials = [trial.conditions[column] for trial in study.trials() if column in trial.conditions]
    if column == "norm":
        of_trials = [*(trial.norm for trial in study.trials()), *presets()]
    found = list(dict.fromkeys(of_trials)) or MADE.get(column, NUMBERS)
    rule = contrast.chosen.get(column)
    if rule is not None:
        meant = chosen(pd.DataFrame({column: found}), column, rule)
        if chosen(pd.DataFrame({column: meant}), column, rule) == meant:  # else it needs the others beside them
            found = meant
    against = {"norm": contrast.against} if isinstance(contrast.against, str) else contrast.against or {}
    reference = against.get(column, found[0] if found else 1)
    others = [value for value in of_trials or NUMBERS if callable(reference)]
    return list(dict.fromkeys([*found, *others, *([] if callable(reference) else [reference])]))


def grid(study: Study, contrast: Contrast) -> pd.DataFrame:
    """Every combination of the values that a contrast knows, one row each."""
    against = {"norm": contrast.against} if isinstance(contrast.against, str) else contrast.against or {}
    columns = dict.fromkeys([*contrast.chosen, *contrast.conditions, *against])
    values = [candidates(study, contrast, column) for column in columns]
    table = pd.DataFrame(product(*values), columns=list(columns))
    return table.assign(quantity=contrast.quantity, seed=0, value=0.0)


def place(quantity: str, point: Mapping[str, Any]) -> Place:
    return quantity, frozenset(point.items())


def world(study: Study, key: str, agrees: bool | str) -> tuple[pd.DataFrame, bool]:
    """A table of derived quantities in which a claim holds everywhere, or nowhere; and whether it can hold nowhere.

    Or one in which all norms are alike ("alike"), those meant are better by 2δ ("better"), or always diverge ("lost").
    """
    ends: dict[tuple[Place, Place | None, bool], dict[str, float]] = defaultdict(dict)
    points: dict[Place, dict[str, Any]] = {}
    nulls: dict[Place, float] = {}
    tables = []
    for contrast in study.claim(key).contrasts:
        tables.append(grid(study, contrast))
        for point, reference in contrast.pairs(tables[-1]):
            here = place(contrast.quantity, point)
            there = None if reference is None else place(contrast.quantity, reference)
            points[here] = {**point, "quantity": contrast.quantity}
            if there is not None and reference is not None:
                points[there] = {**reference, "quantity": contrast.quantity}
            needed, below = (rule(point) if callable(rule) else rule for rule in (contrast.needed, contrast.below))
            null = contrast.null(point) if callable(contrast.null) else contrast.null
            ends[here, there, contrast.turned]["high" if below else "low"] = float(needed)
            nulls[here] = float(null)
    effects = {here: (there, _inside(end, agrees, nulls[here]) * (-1 if turned else 1))
               for (here, there, turned), end in ends.items()}  # fmt: skip

    def value(here: Place | None) -> float:
        if here is None or here not in effects:
            return 0.0
        there, effect = effects[here]
        return value(there) + effect

    rows = []
    for table in tables:
        constant = {c: table[c].iloc[0] for c in table if c not in ("quantity", "seed", "value")}
        for here, point in points.items():
            if point["quantity"] == table["quantity"].iloc[0]:
                rows += [{**constant, **point, "seed": seed, "value": value(here)} for seed in (0, 1)]
    whole = pd.concat([pd.DataFrame(rows), *(table.assign(value=math.nan) for table in tables)], ignore_index=True)
    return whole.drop_duplicates(), all(len(end) == 1 for end in ends.values())


def _inside(end: Mapping[str, float], agrees: bool | str, null: float) -> float:
    """An effect on the claim's side of every threshold, or beyond one; or one of a made-up norm."""
    if isinstance(agrees, str):
        ((kind, needed),) = [*end.items()][:1]
        asserts = needed > null if kind == "low" else needed < null
        worst = -math.inf if kind == "low" else math.inf
        return {"alike": null, "better": null + 2 * (needed - null) * asserts, "lost": worst}[agrees]
    if len(end) == 2:
        return (end["low"] + end["high"]) / 2 if agrees else end["high"] + 1
    ((kind, needed),) = end.items()
    return needed + (1 if (kind == "low") is agrees else -1)


def told_apart(study: Study, key: str, table: pd.DataFrame) -> set[Any]:
    """The points of a claim by the columns that its labels name; what they leave out trials do not combine."""
    told: set[Any] = set()
    for number, contrast in enumerate(study.claim(key).contrasts):
        for point, _ in contrast.cases(table, study.words):
            named = [*point] if callable(contrast.label) or not contrast.label else fields(contrast.label)
            told.add((number, *(point.get(column) for column in named)))
    return told


@pytest.mark.parametrize(("name", "key"), DECLARED)
@pytest.mark.parametrize("agrees", [True, False])
def test_a_claim_follows_its_contrasts(name: str, key: str, agrees: bool, tmp_path: Path) -> None:
    study = STUDIES[name](load(name, quick=True, data_dir=str(tmp_path)))
    table, possible = world(study, key, agrees)
    found = {verdict.claim.key: verdict for verdict in study.judged(table)}
    expected = {"supported"} if agrees else {"refuted"} if possible else {"refuted", "open"}
    assert PLAIN[found[key].verdict] in expected
    names = [case.condition for case in found[key].cases]
    assert len(set(names)) == len(told_apart(study, key, table))


@pytest.mark.parametrize(("name", "key"), DECLARED)
def test_made_up_norms_get_the_verdicts_they_deserve(name: str, key: str, tmp_path: Path) -> None:
    """One that is equal to what it is compared with, one that is better by 2δ, one that always diverges."""
    study = STUDIES[name](load(name, quick=True, data_dir=str(tmp_path)))
    standings = {}
    for norm in ("alike", "better", "lost"):
        table, one_sided = world(study, key, norm)
        (verdict,) = (verdict for verdict in study.judged(table) if verdict.claim.key == key)
        standings[norm] = {case.standing for case in verdict.cases}
        asserting = [case.margin > 0 for case in verdict.cases]
    if not one_sided or not all(case.margin for case in verdict.cases):  # no worst, or no δ
        return
    assert standings["better"] == {"supported"}
    assert "opposite" in standings["lost"]
    assert standings["lost"] <= {"opposite", "negligible"}  # the latter where what it is compared with is lost, too
    expected = (
        {"negligible"} if all(asserting) else {"supported"} if not any(asserting) else {"negligible", "supported"}
    )
    assert standings["alike"] == expected


@pytest.mark.parametrize("name", dict.fromkeys(name for name, _ in DECLARED))
def test_a_study_is_declared_or_judges_itself(name: str) -> None:
    assert all(claim.contrasts for claim in STUDIES[name].claims) or "judge" in vars(STUDIES[name])

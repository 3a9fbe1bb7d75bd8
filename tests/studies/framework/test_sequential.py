"""Confirmatory runs: seeds where something is undecided."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import ClassVar

import numpy as np
import pytest
from studies.framework.conftest import Runner

from rnnnorm.studies.framework import Claim, Contrast, Row, Study, Trained, Trial
from rnnnorm.studies.framework.sequential import FIRST, arms, judged, tally, weigh
from rnnnorm.studies.framework.settings import load
from rnnnorm.studies.framework.study import STUDIES
from rnnnorm.studies.framework.verdict import Verdict

SHIFT = {"far": 3.0, "none": 0.0, "border": 1.0, "lost": -np.inf}
by = Contrast("number", "units", norms=["ln"], against="none", by=("arm",), needed=1.0, label="{arm}")


class Shifted(Study):
    """Numbers that are larger with ln, by an arm's shift; δ = 1."""

    name = "shifted"
    question = "How far?"
    method = "Numbers are drawn."
    claims: ClassVar[tuple[Claim, ...]] = tuple(
        Claim(arm, f"ln moves {arm}.", "Nobody, 2001", contrast=Contrast(**{**vars(by), "only": {"arm": arm}}))
        for arm in SHIFT
    )

    def trials(self) -> list[Trial]:
        return self.grid({"arm": list(SHIFT)}, ["none", "ln"])

    def measure(self, trial: Trial, trained: Trained | None) -> Iterable[Row]:
        shift = SHIFT[str(trial.conditions["arm"])] if trial.norm == "ln" else 0.0
        drawn = np.random.default_rng([trial.seed, trial.norm == "ln"]).normal()
        yield {"quantity": "number", "value": drawn * 0.3 + shift}


del STUDIES[Shifted.name]


@pytest.fixture
def shifted(tiny: Runner, without_pictures: None, monkeypatch: pytest.MonkeyPatch) -> Runner:
    monkeypatch.setitem(STUDIES, "shifted", Shifted)
    tiny.write("# How far?\nseeds: 2\n", "shifted")
    return tiny


def seeds_of(shifted: Runner) -> Counter[str]:
    return Counter(path.parent.parent.name for path in shifted.out.glob("shifted/*/ln/seed=*"))


def test_seeds_go_where_something_is_undecided(shifted: Runner) -> None:
    assert shifted("--confirm", name="shifted") == 0
    assert shifted.verdicts("shifted") == {
        "far": "supported", "none": "negligible", "border": "undecided", "lost": "opposite",
    }  # fmt: skip
    assert seeds_of(shifted) == {"arm=far": 5, "arm=none": 5, "arm=border": 40, "arm=lost": 5}
    seeds = {int(path.name.partition("=")[2]) for path in shifted.out.glob("shifted/*/*/seed=*")}
    assert seeds == set(range(FIRST, FIRST + 40))
    assert "3 of 4 claims decided" in shifted.printed
    assert "would get more seeds" not in shifted.printed
    border = next(
        v
        for v in json.loads((shifted.out / "shifted" / "verdict.json").read_text())["verdicts"]
        if v["key"] == "border"
    )
    assert border["conditions"][0]["n"] == 40
    assert shifted("--confirm", name="shifted") == 0  # nothing is left to do
    assert "trials in" not in shifted.printed


def test_the_budget_is_kept_and_the_same_command_goes_on(shifted: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, *[4000.0] * 1000])
    with monkeypatch.context() as patch:
        patch.setattr("rnnnorm.studies.framework.command.time.monotonic", lambda: next(clock))
        assert shifted("--confirm", "--hours", "1", name="shifted") == 0
    assert set(seeds_of(shifted).values()) == {5}
    assert "1 arm would get more seeds" in shifted.printed
    assert "to go on: rnnnorm study shifted" in shifted.printed
    assert shifted("--confirm", "--hours", "1", name="shifted") == 0
    assert seeds_of(shifted)["arm=border"] == 40


def test_other_seeds_repeat_it(shifted: Runner) -> None:
    assert shifted("--confirm", "--seeds", "5000", name="shifted") == 0
    assert {path.name for path in shifted.out.glob("shifted/arm=far/ln/seed=*")} == {
        f"seed={5000 + k}" for k in range(5)
    }


def test_the_nearest_decision_is_worth_most(shifted: Runner) -> None:
    study = Shifted(load("shifted", seeds=",".join(str(FIRST + k) for k in range(40))))
    found = arms(study)
    assert [arm.name for arm in found] == [f"arm={name}" for name in SHIFT]
    weigh(study, found, shifted.out, judged(study, shifted.out))
    assert all(arm.worth == np.inf and len(arm.next(shifted.out)) == 10 for arm in found)
    for values, arm in zip(((3.0, 0.1), (0.5, 0.35), (0.9, 0.35), (0.0, 0.1)), SHIFT, strict=True):
        mean, spread = values
        for seed, z in enumerate((-1.4, -0.7, 0.0, 0.7, 1.4)):
            for norm in ("none", "ln"):
                trial = next(
                    t for t in study.trials() if t.arm == f"arm={arm}" and t.norm == norm and t.seed == FIRST + seed
                )
                value = (mean + spread * z) if norm == "ln" else 0.0
                path = trial.measured(shifted.out / "shifted")
                path.parent.mkdir(parents=True)
                path.write_text(json.dumps([{"quantity": "number", "value": value}]))
    known = judged(study, shifted.out)
    weigh(study, found, shifted.out, known)
    far, half, close, none = (arm.worth for arm in found)
    assert far == none == 0.0
    assert half > close > 0.0
    # Beside many other claims each has to be decided more clearly; (0, 0.1) is so by 10 seeds, and (3, 0.1) is now.
    assert [verdict.p for verdict in known[1]] == pytest.approx([6.2e-6, 1, 1, 9.7e-5], rel=0.02)
    weigh(study, found, shifted.out, known, 1e-5)
    assert found[0].worth == 0.0
    assert found[3].worth == pytest.approx(1 / 10)


def test_progress_counts_what_survives_the_correction_for_the_number_of_claims() -> None:
    def verdict(word: str, p: float) -> Verdict:
        return Verdict(Shifted.claims[0], word, "", (), p=p)

    weak, strong, none = verdict("supported", 0.03), verdict("opposite", 0.001), verdict("undecided", 1.0)
    assert tally({"a": [weak]}) == "1 of 1 claims decided"
    assert tally({"a": [weak, none], "b": [none]}) == "0 of 3 claims decided"
    assert tally({"a": [weak, strong], "b": [strong, none]}) == "3 of 4 claims decided"
    assert tally({}) == "0 of 0 claims decided"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--hours", "2"], "--hours must be positive and belongs to --confirm"),
        (["--confirm", "--hours", "0"], "--hours must be positive"),
        (["--confirm", "--seeds", "1,2"], "--confirm takes the first of its seeds, 1000 if not given; got --seeds 1,2"),
    ],
)
def test_what_makes_no_sense_is_refused(shifted: Runner, args: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        shifted(*args, name="shifted")

"""The study of raggedness: what is derived from scores, its grid, and a run on data of the user's own."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib
import pandas as pd
import pytest

from rnnnorm.studies.data.plain_training import build_data
from rnnnorm.studies.data.ragged_arms import inert, sized
from rnnnorm.studies.data.rearranged import REARRANGED, can_be_rearranged, tail_start
from rnnnorm.studies.framework.command import study
from rnnnorm.studies.framework.grid import in_folder
from rnnnorm.studies.framework.measurements import per_seed, read, where
from rnnnorm.studies.framework.settings import load
from rnnnorm.studies.framework.trial import Trial
from rnnnorm.studies.measures.ragged_effects import least
from rnnnorm.studies.measures.ragged_tables import lag_and_noise
from rnnnorm.studies.raggedness import Raggedness

matplotlib.use("Agg")

PARITY = Path(__file__).parents[2] / "CONTRIBUTING.md"
MODES = {"running": 0.4, "at rest": 0.7, "population": 0.8, "batch": 0.75}


def quick(**keys: Any) -> Raggedness:
    return Raggedness(load("raggedness", True, **keys))


def score(norm: str, value: float, mode: str = "running", **here: Any) -> list[dict[str, Any]]:
    """The scores of two seeds, the second 0.01 better."""
    place = {"data": "heavy-tailed", "batches": "similar", "region": "late", **here}
    row = {**place, "norm": norm, "quantity": "score", "mode": mode}
    return [{**row, "seed": seed, "value": value + 0.01 * seed} for seed in (0, 1)]


def world() -> pd.DataFrame:
    """Late scores of the default, of two cures, and of a network without normalization."""
    base = [row for mode, value in MODES.items() for row in score("bn-timestep", value, mode)]
    cures = [*score("bn-timestep:min_rows=8", 0.6), *score("bn-window", 0.3)]
    others = [*score("none", 0.9), *score("ln", 0.95), *score("bn-timestep", 0.45, batches="mixed")]
    return pd.DataFrame([*base, *cures, *others])


@pytest.fixture
def measured() -> pd.DataFrame:
    return world()


class TestDerived:
    def test_lag_and_noise_add_up_to_what_running_averages_lack(self, measured: pd.DataFrame) -> None:
        found = where(lag_and_noise(measured, least), batches="similar")
        by_seed = {name: per_seed(found, quantity=name).tolist() for name in ("lag", "noise", "lag_minus_noise")}
        assert by_seed["lag"] == pytest.approx([0.3, 0.3])
        assert by_seed["noise"] == pytest.approx([0.1, 0.1])
        assert by_seed["lag_minus_noise"] == pytest.approx([0.2, 0.2])

    def test_where_nothing_fails_there_is_no_lag_to_compare(self, measured: pd.DataFrame) -> None:
        measured.loc[measured["mode"] == "running", "value"] += 0.39
        found = where(lag_and_noise(measured, least), batches="similar", quantity="lag_minus_noise")
        assert len(found) == 2
        assert found["value"].isna().all()

    def test_what_was_tried(self, measured: pd.DataFrame) -> None:
        found = quick().derived(measured)
        tried = where(found, quantity="tried", seed=0)
        assert dict(zip(tried["way"], tried["value"], strict=True)) == {
            "bn-timestep": 0.45, "recalibration": 0.8, "min_rows=8": 0.6, "bn-window": 0.3, "none": 0.9, "ln": 0.95,
        }  # fmt: skip

    def test_late_rows_are_those_from_the_start_of_the_tail_on(self) -> None:
        here = {"data": "own", "batches": "similar", "norm": "ln", "seed": 0}
        rows = [{**here, "quantity": "late_start", "value": 10.0}]
        rows += [{**here, "quantity": "active", "t": t, "value": 64.0 - t} for t in (0, 9, 10, 12)]
        found = quick().derived(pd.DataFrame(rows).assign(region=None, mode="running", last=0))
        assert where(found, quantity="late_active")["value"].tolist() == [54, 52]

    @pytest.mark.parametrize(
        ("data", "region", "needed"), [("own", "late", 0.02), ("own", "all", 0.01), ("JSB", "late", 0.01)]
    )
    def test_the_smallest_effect_that_counts(self, data: str, region: str, needed: float) -> None:
        assert least({"data": data, "region": region}) == needed


class TestSentences:
    def test_findings_carry_the_numbers_and_the_advice(self, measured: pd.DataFrame) -> None:
        best_of_all, *said = quick().findings(measured)
        assert best_of_all == "Best of all by score: ln in the late steps of heavy-tailed lengths (0.955)."
        assert "late steps: 0.405 by running averages, 0.805 by population statistics, 0.755 by each" in said[0]
        assert "lag behind the weights costs 0.300, noise 0.100." in said[0]
        best = "Best first, late steps of heavy-tailed lengths: ln 0.955, none 0.905, recalibration 0.805, min_rows=8"
        assert said[1].startswith(best)
        assert said[2] == (
            "For bn-timestep use recalibration: +0.400 [+0.400, +0.400] over the default's running averages. "
            "Also helpful: `bn-timestep:min_rows=8`."
        )

    def test_no_cure_is_advised_that_the_seeds_do_not_agree_upon(self, measured: pd.DataFrame) -> None:
        here = (measured["norm"] == "bn-timestep") & (measured["seed"] == 1) & (measured["mode"] == "running")
        measured.loc[here, "value"] = 1.0
        advice = quick().findings(measured)[-1]
        assert advice.startswith("No cure of bn-timestep is beyond doubt; the best on average is recalibration: ")
        assert "Nothing else helps" in advice

    def test_a_verdict_says_where_it_holds_and_between_which_effects(self, measured: pd.DataFrame) -> None:
        rows, cure = (next(v for v in quick().judge(measured) if v.claim.key == key) for key in ("rows", "cure"))
        assert rows.says == ("Of 1 conditions: 1 supported. Effect +0.200 [+0.200, +0.200] (heavy-tailed lengths).")
        assert "Of 2 conditions: 2 supported. Largest effect +0.500" in cure.says
        assert cure.says.endswith("(heavy-tailed lengths, late steps: recalibration against min_rows=8).")


class TestGrid:
    @pytest.mark.parametrize("size", ["quick", "full"])
    @pytest.mark.parametrize("kind", ["generated", "real"])
    def test_trials_are_unique_and_have_seeds_enough(
        self, size: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("RNNNORM_DATA", raising=False)
        data_dir = str(tmp_path) if kind == "real" else None
        trials = Raggedness(load("raggedness", size == "quick", data_dir=data_dir)).trials()
        assert len({(t.arm, t.norm, t.seed) for t in trials}) == len(trials)
        assert {t.seed for t in trials} >= {0, 1, 2}
        real = {"EWT", "JSB", "Japanese vowels", "spoken digits"}
        assert ({str(t.conditions["data"]) for t in trials} >= real) == (data_dir is not None)

    def test_the_folder_of_real_data_reaches_the_module_that_reads_it(self, tmp_path: Path) -> None:
        trials = quick(data_dir=str(tmp_path)).trials()
        configs = {t.conditions["data"]: t.config["data"]["init_args"] for t in trials if t.config is not None}
        assert configs["EWT"]["data_dir"] == str(tmp_path)
        assert configs["Japanese vowels"]["data"]["init_args"]["data_dir"] == str(tmp_path)

    def test_lengths_change_nothing_for_norms_without_statistics(self) -> None:
        fixed = {t.norm for t in quick().trials() if t.conditions["data"] == "fixed"}
        assert fixed == {"bn-vertical", "bn-shared", "bn-timestep"}

    def test_a_folder_is_given_to_the_module_inside(self) -> None:
        inner = {"class_path": "rnnnorm.data.JapaneseVowels", "init_args": {"batch_size": 16}}
        assert in_folder(inner, "x")["init_args"] == {"batch_size": 16, "data_dir": "x"}
        outer = {"class_path": REARRANGED, "init_args": {"split": "tail", "data": inner}}
        assert in_folder(outer, "x")["init_args"] == {"split": "tail", "data": in_folder(inner, "x")}

    @pytest.mark.parametrize(
        ("path", "can"),
        [
            ("rnnnorm.data.TemporalOrder", True),
            ("TemporalOrder", True),
            (REARRANGED, False),
            ("rnnnorm.data.Nothing", False),
            ("not.there.Module", True),
        ],
    )
    def test_which_modules_can_be_rearranged(self, path: str, can: bool) -> None:
        assert can_be_rearranged(path) is can


class TestConditions:
    def test_scores_of_the_same_runs_are_one_condition(self) -> None:
        """Late and overall, by running averages and by population statistics: four scores of a network, one case."""
        rows = []
        for region in ("late", "all"):
            for mode in ("running", "population", "batch"):
                rows += score("bn-timestep", 0.8, mode, batches="mixed", region=region)
        rows += [row for region in ("late", "all") for row in score("none", 0.9, batches="mixed", region=region)]
        found = {verdict.claim.key: verdict for verdict in quick().judge(pd.DataFrame(rows))}
        assert [case.condition for case in found["survivors"].cases] == ["heavy-tailed lengths, mixed batches"]

    @pytest.mark.parametrize("size", ["quick", "full"])
    def test_the_tail_is_pooled_where_that_of_the_data_begins(self, size: str) -> None:
        study = Raggedness(load("raggedness", size == "quick"))
        (pooled,) = {t.norm for t in study.trials() if "tail=pool" in t.norm}
        lengths = build_data(study.settings.configured(), 0).lengths("train")
        assert pooled == f"bn-timestep:max_steps={tail_start(lengths)}:tail=pool"
        assert tail_start(lengths) < max(lengths)

    def test_data_without_a_tail_have_no_such_cure(self) -> None:
        data = {"class_path": "rnnnorm.data.DelayedRecall", "init_args": {"length_distribution": "fixed"}}
        assert sized(["bn-timestep:max_steps=tail:tail=pool", "ln"], data) == ["ln"]

    @pytest.mark.parametrize(("steps", "applies"), [(48, False), (27, False), (26, True)])
    def test_a_cure_with_as_many_steps_as_the_data_is_not_applicable(self, steps: int, applies: bool) -> None:
        data: Any = SimpleNamespace(examples=lambda split: [(range(27 if split == "test" else 20), 0)])
        norm = f"bn-timestep:max_steps={steps}:tail=pool"
        assert inert(norm, data) is not applies
        assert not inert(f"bn-timestep:max_steps={steps}", data)
        if not applies:
            trial = Trial({"data": "own", "batches": "similar"}, norm, 0)
            nothing: Any = None
            assert list(quick().evaluate(trial, nothing, nothing, data)) == [{"quantity": "inapplicable", "value": 1.0}]


def parity_module(folder: Path) -> None:
    """The data module of CONTRIBUTING.md's recipe, with fewer sequences."""
    text = PARITY.read_text(encoding="utf-8").split("<!-- task: parity.py -->")[1]
    source = text.split("```python\n")[1].split("```")[0]
    (folder / "ragged_parity.py").write_text(source, encoding="utf-8")


@pytest.mark.filterwarnings("ignore")
def test_data_of_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parity_module(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        """
seeds: 1
norms: [none, bn-timestep]
options: {cures: ["bn-timestep:min_rows=4"], mixed_norms: [bn-timestep]}
data: {class_path: ragged_parity.Parity, init_args: {batch_size: 64}}
model: {init_args: {hidden_size: 8}}
trainer: {max_epochs: 1}
""",
        encoding="utf-8",
    )
    out = tmp_path / "out"
    assert study(["raggedness", "--quick", "-c", str(mine), "--jobs", "1", "--out", str(out)]) == 0
    measured = read(out / "raggedness")
    assert set(measured["data"]) == {"own"}
    assert set(measured["batches"]) == {"similar", "mixed"}
    scores = measured[(measured["quantity"] == "score") & measured["region"].notna()]
    assert scores["value"].between(0, 1).all()
    assert set(scores["region"]) == {"all"}  # every length is common, so there is no tail
    assert set(scores["mode"]) == {"running", "population", "batch", "at rest"}
    assert len(set(measured[measured["quantity"] == "bucket"]["t"])) > 2
    assert (out / "raggedness" / "figure.png").is_file()

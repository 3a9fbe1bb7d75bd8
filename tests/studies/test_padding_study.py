"""The study of padding: its grid, the shares of padding it promises, what is derived, what a network is measured by."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from studies.tables import verdicts

from rnnnorm.studies.data.padding import FINISHED, MASKED, CountPadding, treating, ways
from rnnnorm.studies.data.plain_training import build_data, build_task
from rnnnorm.studies.framework.measurements import per_seed, where
from rnnnorm.studies.framework.settings import load
from rnnnorm.studies.measures.padded import evaluated, padding_share
from rnnnorm.studies.padding import LITTLE, MUCH, SOME, Padding

CLAIMS = [claim.key for claim in Padding.claims]
BOUNDS = {LITTLE: (0.0, 0.3), SOME: (0.3, 0.6), MUCH: (0.6, 0.9)}


def quick(**keys: Any) -> Padding:
    return Padding(load("padding", True, **keys))


def table(agrees: bool) -> pd.DataFrame:
    """A world in which counting costs .1 (frozen) or .2, a mismatch .3 more, and little padding nothing; or gains.

    Without steps of few rows masked statistics are as good as counted ones; or worse by .2.
    """
    rows, sign = [], 1 if agrees else -1
    cost = {MASKED: 0.0, "frozen": 0.1, "running": 0.2}
    for share, hidden, norm, seed in product((MUCH, LITTLE), (24, 64), ("bn-timestep", "bn-shared"), (0, 1, 2)):
        if share == LITTLE and hidden == 64:
            continue
        for padding in (MASKED, *FINISHED):
            here = {"data": "words", "share": share, "hidden": hidden, "padding": padding, "norm": norm, "seed": seed}
            own = 0.6 + 0.001 * seed - sign * cost[padding] * (share == MUCH)
            rows.append({**here, "quantity": "padding_share", "value": 0.7 if share == MUCH else 0.1})
            rows.append({**here, "quantity": "scored", "mode": "running", "evaluated": padding, "value": own})
            for other in (MASKED, *FINISHED) if padding == MASKED else (MASKED, padding):
                value = own - sign * 0.3 * (other != padding)
                rows.append({**here, "quantity": "scored", "mode": "population", "evaluated": other, "value": value})
            if (padding, norm, share) == ("frozen", "bn-timestep", MUCH):
                few = {**here, "norm": f"{norm}:min_rows=8", "padding": MASKED, "mode": "running", "evaluated": MASKED}
                rows.append({**few, "quantity": "scored", "value": own if agrees else own - 0.2})
    return pd.DataFrame(rows)


class TestGrid:
    def test_each_norm_has_the_ways_that_differ_for_it(self) -> None:
        found: dict[str, set[Any]] = {}
        for trial in quick().trials():
            if trial.conditions["share"] == MUCH:
                found.setdefault(trial.norm, set()).add(trial.conditions["padding"])
        both = {MASKED, *FINISHED}
        assert found == {
            "none": {MASKED}, "ln": {MASKED}, "bn-vertical": {MASKED, "running"}, "bn-shared": both,
            "bn-timestep": both, "bn-timestep:min_rows=8": {MASKED},
        }  # fmt: skip

    @pytest.mark.parametrize("size", ["quick", "full"])
    def test_there_are_several_sizes_and_real_data_where_they_are(self, size: str, tmp_path: Path) -> None:
        trials = Padding(load("padding", size == "quick", data_dir=str(tmp_path))).trials()
        for data in ("words", "digits"):
            mixed = {
                t.conditions["hidden"] for t in trials if (t.conditions["data"], t.conditions["share"]) == (data, MUCH)
            }
            assert len(mixed) >= 2
        inner = next(t.config for t in trials if t.conditions["data"] == "digits" and t.config)["data"]["init_args"]
        assert inner["data"]["init_args"]["data"]["init_args"] == {"data_dir": str(tmp_path)}
        assert not any(t.conditions["data"] == "digits" for t in quick().trials())

    def test_every_seed_draws_its_own_data(self) -> None:
        one, other = (next(t.config for t in quick(seeds=seed).trials() if t.config) for seed in ("3,4", "4,5"))
        seeds = [config["data"]["init_args"]["data"]["init_args"]["seed"] for config in (one, other)]
        assert seeds == [3, 4]

    @pytest.mark.parametrize("size", ["quick", "full"])
    def test_conditions_have_the_share_of_padding_that_they_are_named_by(self, size: str) -> None:
        study, seen = Padding(load("padding", size == "quick")), set()
        for trial in study.trials():
            here = (trial.conditions["data"], str(trial.conditions["share"]))
            if here not in seen and trial.config is not None:
                seen.add(here)
                low, high = BOUNDS[here[1]]
                assert low <= padding_share([*build_data(trial.config, 0).train_dataloader()]) <= high, here
        assert {share for _, share in seen} == set(study.settings.option("shares"))


class TestDerived:
    def test_stored_harm_and_mismatch(self) -> None:
        found = quick().derived(table(True))
        here = {"share": MUCH, "hidden": 24, "norm": "bn-timestep"}
        assert per_seed(found, quantity="stored", padding="running", **here).tolist() == pytest.approx(
            [0.4, 0.401, 0.402]
        )
        assert per_seed(found, quantity="harm", counted="frozen", **here).tolist() == pytest.approx([0.1] * 3)
        assert set(where(found, quantity="mismatch")["value"].round(6)) == {0.3}
        both = where(found, quantity="mismatch", seed=0, **here)[["padding", "evaluated"]]
        assert set(both.itertuples(index=False, name=None)) == {
            (MASKED, "frozen"), (MASKED, "running"), ("frozen", MASKED), ("running", MASKED)
        }  # fmt: skip

    def test_conditions_with_little_padding_are_shown_and_do_not_count(self) -> None:
        (harm,) = (verdict for verdict in quick().judge(table(True)) if verdict.claim.key == "harm")
        assert {case.in_scope for case in harm.cases if LITTLE in case.condition} == {False}
        assert verdicts(quick(), table(True)) == dict.fromkeys(CLAIMS, "supported")

    def test_what_diverged_counts_as_guessing_in_every_evaluation(self) -> None:
        trained: Any = SimpleNamespace(spec=SimpleNamespace(task="tagging", num_outputs=10))
        rows = [*quick().lost(trained)]
        assert {row["value"] for row in rows} == {0.1}
        assert {(row["mode"], row["evaluated"]) for row in rows} == {
            *product(("running", "population"), (MASKED, *FINISHED))
        }


def measured(norm: str, padding: str) -> Iterator[tuple[str, str, float]]:
    """Scores of an untrained network by mode and by what is evaluated."""
    config = quick().settings.configured(
        data={"num_train": 60, "num_test": 100, "most": 5, "batch_size": 20}, model={"hidden_size": 8}
    )
    data = build_data(config, 0)
    model = build_task(config, data, norm, 0).eval()
    batches = [*data.train_dataloader()]
    for row in evaluated(model, batches, [*data.test_dataloader()], ways(norm), padding):
        yield row["mode"], row["evaluated"], row["value"]


class TestMeasured:
    @pytest.mark.parametrize(
        ("norm", "padding", "expected"),
        [
            ("none", MASKED, {("running", MASKED)}),
            ("bn-vertical", MASKED, {("running", MASKED), ("population", MASKED), ("population", "running")}),
            ("bn-timestep", "frozen", {("running", "frozen"), ("population", "frozen"), ("population", MASKED)}),
        ],
    )
    def test_evaluations(self, norm: str, padding: str, expected: set[tuple[str, str]]) -> None:
        found = [*measured(norm, padding)]
        assert {(mode, way) for mode, way, _ in found} == expected
        assert all(0 <= value <= 1 for _, _, value in found)

    def test_what_evaluation_counts_changes_population_statistics(self) -> None:
        by_way = {way: value for mode, way, value in measured("bn-timestep:gain=2.0", MASKED) if mode == "population"}
        assert len(set(by_way.values())) == 3

    def test_masked_is_the_configuration_as_it_is(self) -> None:
        config = {"trainer": {"max_epochs": 1, "callbacks": [{"class_path": "x"}]}}
        assert treating(config, MASKED) == config
        added = treating(config, "frozen")["trainer"]["callbacks"]
        assert added[0] == {"class_path": "x"}
        assert added[1]["class_path"].endswith(CountPadding.__name__)
        assert added[1]["init_args"] == {"finished": "frozen"}

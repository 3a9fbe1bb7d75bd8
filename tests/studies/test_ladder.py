"""The study of size: slopes per doubling, divergence, verdicts on made tables, rungs, a tiny real run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from studies.tables import made, run_tiny, verdicts

from rnnnorm.studies.data.plain_training import build_data, build_task
from rnnnorm.studies.framework.measurements import where
from rnnnorm.studies.framework.settings import load
from rnnnorm.studies.framework.trial import Trial
from rnnnorm.studies.ladder import Ladder
from rnnnorm.studies.measures.slopes import BACK, decades_per_step, slope

CLAIMS = {"averages", "ln", "bn", "bn-ln", "shared", "growth"}
BN = ("bn-timestep", "bn-shared")


def study(quick: bool = True, **keys: Any) -> Ladder:
    return Ladder(load("ladder", quick=quick, **keys))


def table(agrees: bool = True, per_doubling: float = 0.03) -> pd.DataFrame:
    """A world in which every effect grows (or shrinks) by so much with each doubling; all but the best rate is bad."""
    by = per_doubling if agrees else -per_doubling
    # bn-timestep gains `by`, ln twice as much, so that bn-timestep loses `by` to ln; running averages lose `by`.
    slopes = {"none": 0.0, "ln": -2 * by, "bn-timestep": -by, "bn-shared": 0.0}

    def rows(trial: Trial) -> Iterator[dict[str, Any]]:
        x, rate = math.log2(float(trial.conditions["size"])), float(trial.conditions["rate"])
        worse = 5.0 * (rate > 0.01)
        loss = 1.0 + slopes[trial.norm] * x + 1e-4 * trial.seed * x + worse
        for mode in ("running", "population", "batch"):
            yield {"quantity": "loss", "mode": mode, "value": loss + by * x * (mode == "running" and trial.norm in BN)}
        yield {"quantity": "chosen_by", "value": loss}
        yield {"quantity": "diverged", "value": 0.0}
        yield {"quantity": "above_guessing", "value": 0.6}
        if trial.norm in ("none", "bn-timestep"):
            yield {"quantity": "growth", "value": -0.1 + by * x * (trial.norm == "bn-timestep") + worse}

    return made(study().trials(), rows)


@pytest.mark.parametrize(("agrees", "verdict"), [(True, "supported"), (False, "refuted")])
def test_verdicts_follow_the_slopes(agrees: bool, verdict: str) -> None:
    assert verdicts(study(), table(agrees)) == dict.fromkeys(CLAIMS, verdict)


def test_effects_that_persist_are_negligible_in_their_slope() -> None:
    found = study().judge(table(per_doubling=0.001))
    assert {verdict.claim.key: verdict.verdict for verdict in found} == dict.fromkeys(CLAIMS, "negligible")
    assert {len(verdict.cases) for verdict in found} == {3}


def test_slopes_are_those_of_the_world_at_the_best_rate() -> None:
    found = where(study().derived(table(per_doubling=0.03)), quantity="slope")
    assert len(found) == len(CLAIMS) * 3 * 3
    for effect, expected in (("ln", 0.06), ("bn", 0.03), ("bn-ln", 0.03), ("averages", 0.03), ("growth", 0.03)):
        assert where(found, effect=effect)["value"].tolist() == pytest.approx([expected] * 9)


def test_a_norm_that_diverges_where_sizes_are_large_has_an_infinite_slope() -> None:
    m = table()
    lost = (
        (m["norm"] == "bn-timestep")
        & (m["along"] == "width")
        & (m["size"] == m.loc[m["along"] == "width", "size"].max())
    )
    m.loc[lost & m["quantity"].isin(["loss", "chosen_by", "growth"]), "value"] = math.inf
    found = where(study().derived(m), quantity="slope", along="width")
    assert set(where(found, effect="bn")["value"]) == {-math.inf}
    assert set(where(found, effect="bn-ln")["value"]) == {math.inf}
    assert set(where(found, effect="growth")["value"]) == {math.inf}
    standings = {v.claim.key: v.cases[0].standing for v in study().judge(m)}
    assert (standings["bn"], standings["bn-ln"], standings["ln"]) == ("opposite", "supported", "supported")


@pytest.mark.parametrize(
    ("effects", "expected"),
    [
        ([1.0, 2.0, 3.0], 1.0),
        ([0.0, 0.0, math.inf], math.inf),
        ([math.inf, 0.0, 0.0], -math.inf),
        ([0.0, -math.inf, -math.inf], -math.inf),
        ([math.inf, math.inf, math.inf], 0.0),
        ([-math.inf, 0.0, math.inf], math.inf),
    ],
)
def test_slope_per_doubling(effects: list[float], expected: float) -> None:
    assert slope([8, 16, 32], effects) == pytest.approx(expected)


def test_seeds_that_lack_a_rung_have_no_slope() -> None:
    m = table()
    missing = (m["seed"] == 2) & (m["along"] == "T") & (m["size"] == m.loc[m["along"] == "T", "size"].max())
    found = where(study().derived(m[~missing]), quantity="slope", effect="ln")
    assert set(where(found, along="T")["seed"]) == {0, 1}
    assert set(where(found, along="width")["seed"]) == {0, 1, 2}


def test_rungs_change_one_size_each() -> None:
    def sizes(trial: Trial) -> tuple[int, int, int]:
        assert trial.config is not None
        data, model = trial.config["data"]["init_args"], trial.config["model"]["init_args"]
        steps = data["num_train"] // data["batch_size"] * trial.config["trainer"]["max_epochs"]
        return model["hidden_size"], data["max_length"], steps

    for quick in (True, False):
        made_up = study(quick)
        option = made_up.settings.option
        expected = {
            tuple({**option("base"), along: size}.values())
            for along, rungs in option("rungs").items()
            for size in rungs
        }
        assert {sizes(trial) for trial in made_up.trials()} == expected
        assert all(min(rungs) == option("base")[along] for along, rungs in option("rungs").items())


def test_generated_data_are_drawn_anew_for_each_seed() -> None:
    configs = [(trial.seed, trial.config) for trial in study().trials()]
    assert all(config is not None and config["data"]["init_args"]["seed"] == seed for seed, config in configs)


def test_steps_that_are_no_whole_number_of_passes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("options: {fresh: 30}")
    with pytest.raises(ValueError, match=r"multiple of options.fresh, 30, .* got 100"):
        study(own=str(tmp_path / "mine.yaml")).trials()


TINY = {
    "data": {
        "class_path": "rnnnorm.studies.data.opened.OpenedLexicon",
        "init_args": {"num_train": 8, "num_val": 8, "num_test": 8, "length_distribution": "fixed", "max_length": 24},
    },
    "model": {"init_args": {"hidden_size": 4}},
}


def test_a_gradient_that_reaches_no_earlier_step_has_fallen_by_infinitely_many_decades() -> None:
    data = build_data(TINY, 0)
    task = build_task(TINY, data, "none", 0)
    assert -math.inf < decades_per_step(task, data) < 0
    with torch.no_grad():
        for name, weight in task.named_parameters():
            if "weight_hh" in name:
                weight.zero_()
            if "bias" in name:
                weight.fill_(-1e5)
    assert decades_per_step(task, data) == -math.inf


def test_a_tiny_run(tmp_path: Path) -> None:
    settings = """
seeds: 2
options:
  base: {width: 4, T: 20, steps: 2}
  rungs: {width: [4, 8], T: [20, 24], steps: [2, 4]}
  rates: [0.01]
  fresh: 2
data:
  class_path: rnnnorm.studies.data.opened.OpenedLexicon
  init_args: {length_distribution: fixed, num_val: 8, num_test: 8, batch_size: 4, eval_batch_size: 8}
"""
    m = run_tiny("ladder", settings, tmp_path)
    assert set(where(m, quantity="steps", along="steps", size=4)["value"]) == {4.0}
    assert len(where(m, quantity="growth")) == 2 * 2 * 3 * 2
    assert BACK < 20
    assert {verdict.claim.key for verdict in study().verdicts(m)} == CLAIMS

"""Tuned learning rates: what is tried, which is chosen, and that a trial is trained at its own."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from studies.framework.tiny import YAML, Tiny

import rnnnorm.studies as package
from rnnnorm.studies.framework.rates import FACTORS, SEEDS, WIDENINGS, Group, frozen, groups, works
from rnnnorm.studies.framework.settings import load
from rnnnorm.studies.framework.study import STUDIES, trains_as
from rnnnorm.studies.framework.work import comparison

if TYPE_CHECKING:
    from tests.studies.framework.conftest import Runner

assert package.__doc__  # studies enter by being imported


def tiny_study(trained: str = "[none, ln]") -> Tiny:
    content = yaml.safe_load(YAML.replace("trained: [none]", f"trained: {trained}"))
    settings = replace(load("cost"), seeds=SEEDS, norms=("none",), options=content["options"],
                       config={key: content[key] for key in ("data", "model", "trainer")})  # fmt: skip
    return Tiny(settings)


def measured(group: Group, out: Path, loss: Callable[[float], float]) -> None:
    """Losses of all rates of a group, as if they had been trained."""
    for factor in group.factors:
        rate, trials = group.at(factor)
        for trial in trials:
            path = trial.measured(out / group.study.name)
            path.parent.mkdir(parents=True, exist_ok=True)
            value = loss(rate)
            row = {"quantity": "val_loss", "value": value if math.isfinite(value) else str(value)}
            path.write_text(json.dumps([row]))


def widened(group: Group, out: Path, loss: Callable[[float], float]) -> None:
    measured(group, out, loss)
    while group.widen(out):
        measured(group, out, loss)


@pytest.mark.parametrize(
    ("norm", "same"),
    [
        ("bn-timestep:momentum=0.01:gain=1.0", "bn-timestep:gain=1.0"),
        ("bn-timestep:debias=true:momentum=none", "bn-timestep"),
        ("bn-timestep:eps=0.01", "bn-timestep:eps=0.01"),
        ("brn:momentum=0.1", "brn:momentum=0.1"),  # corrects by what it averages
        ("none", "none"),
    ],
)
def test_averages_change_no_training(norm: str, same: str) -> None:
    assert trains_as(norm) == same


def test_a_group_has_the_trials_of_all_seeds_and_only_trained_ones() -> None:
    found = groups(tiny_study())
    assert [(group.place, group.norm) for group in found] == [("part=trained", "none"), ("part=trained", "ln")]
    assert [[trial.seed for trial in group.trials] for group in found] == [[900, 901]] * 2
    assert found[0].base == 0.01


def test_the_grid_spans_eight_octaves_around_the_configured_rate(tmp_path: Path) -> None:
    (group, _) = groups(tiny_study())
    rates = [group.at(factor)[0] for factor in FACTORS]
    assert rates == [0.000625, 0.0025, 0.01, 0.04, 0.16]
    assert len([*works([group], tmp_path)]) == len(FACTORS) * len(SEEDS)
    measured(group, tmp_path, lambda rate: rate)
    assert [*works([group], tmp_path)] == []


def test_the_best_rate_has_the_least_mean_loss_and_the_smallest_of_equals_wins(tmp_path: Path) -> None:
    (group, _) = groups(tiny_study())
    measured(group, tmp_path, lambda rate: 1.0 if rate in (0.0025, 0.04) else 2.0)
    assert group.best(tmp_path) == 0.0025
    assert not group.at_end(tmp_path)
    assert not group.widen(tmp_path)


def test_one_diverged_seed_rules_a_rate_out(tmp_path: Path) -> None:
    (group, _) = groups(tiny_study())
    measured(group, tmp_path, lambda rate: abs(math.log(rate / 0.01)))
    trial = group.at(1.0)[1][1]
    trial.measured(tmp_path / "tiny").write_text('[{"quantity": "val_loss", "value": "inf"}]')
    assert group.losses(tmp_path)[0.01] == math.inf
    assert group.best(tmp_path) == 0.0025


@pytest.mark.parametrize(("sign", "best"), [(1, 0.01 / 4**4), (-1, 0.01 * 4**4)])
def test_a_best_rate_at_an_end_widens_what_is_tried_up_to_twice(tmp_path: Path, sign: int, best: float) -> None:
    (group, _) = groups(tiny_study())
    widened(group, tmp_path, lambda rate: sign * rate)
    assert len(group.factors) == len(FACTORS) + WIDENINGS
    assert group.best(tmp_path) == pytest.approx(best, rel=1e-3)
    assert group.at_end(tmp_path)


def test_what_always_diverges_has_no_rate(tmp_path: Path) -> None:
    first, second = groups(tiny_study())
    widened(first, tmp_path, lambda rate: math.inf)
    widened(second, tmp_path, lambda rate: (rate - 0.04) ** 2)
    assert first.best(tmp_path) is None
    assert len(first.factors) == len(FACTORS)
    assert yaml.safe_load(frozen([first, second], tmp_path)) == {"rates": {"part=trained": {"ln": 0.04}}}


def with_rates(study: Tiny, rates: Mapping[str, Mapping[str, float]]) -> Tiny:
    return Tiny(replace(study.settings, rates=rates))


def test_a_trial_is_built_at_the_tuned_rate_of_its_norm_and_place(tmp_path: Path) -> None:
    study = with_rates(tiny_study(), {"part=trained": {"ln": 0.04}, "part=other": {"none": 0.5}})
    rates = {}
    for trial in study.trials():
        if trial.config is None:
            assert study.place(trial) is None
        elif trial.seed == SEEDS[0]:
            model = comparison(study, trial, tmp_path).config.model
            rates[trial.norm] = model.init_args.learning_rate
    assert rates == {"none": 0.01, "ln": 0.04}


def test_a_rate_among_the_conditions_goes_before_the_tuned_one() -> None:
    study = with_rates(tiny_study(), {"part=trained": {"none": 0.04}})
    group = groups(study)[0]
    (trial, _) = group.at(4.0)[1]
    assert study.rated({"model": {"class_path": "a.B"}}, trial) == {
        "model": {"class_path": "a.B", "init_args": {"learning_rate": 0.04}}
    }


def test_rates_are_part_of_what_makes_two_runs_the_same(tiny: Runner, without_pictures: None) -> None:
    tiny.write(YAML + "rates: {part=trained: {none: 0.02}}\n")
    assert tiny("--seeds", "1") == 0
    tiny.write(YAML + "rates: {part=trained: {none: 0.03}}\n")
    with pytest.raises(ValueError, match=r"rates\.part=trained\.none"):
        tiny("--seeds", "1")


def test_the_command_writes_a_file_that_the_study_reads(tiny: Runner, without_pictures: None) -> None:
    tiny.write(YAML.replace("max_epochs: 2", "max_epochs: 1"))
    assert tiny("--tune") == 0
    path = tiny.folder / "rates.yaml"
    rates = yaml.safe_load(path.read_text())["rates"]
    assert [*rates] == ["part=trained"]
    tried = {folder.parents[1].name.split("learning_rate=")[1] for folder in tiny.folder.glob("*/none/seed=900")}
    assert str(rates["part=trained"]["none"]) in tried
    assert len(tried) >= len(FACTORS)
    assert "1 rate" in tiny.printed
    results = [json.loads(path.read_text()) for path in tiny.folder.rglob("result.json")]
    assert {len(result["scores"]) for result in results} == {1}
    assert not any("test" in result for result in results)
    before = {folder: folder.stat().st_mtime_ns for folder in tiny.folder.rglob("measurements.json")}
    assert tiny("--tune") == 0
    assert before == {folder: folder.stat().st_mtime_ns for folder in tiny.folder.rglob("measurements.json")}
    out = tiny.out / "used"
    assert tiny("-c", str(path), "--seeds", "1", out=out) == 0
    config = yaml.safe_load(next((out / "tiny").glob("part=trained/none/seed=0/trial.yaml")).read_text())
    assert config["model"]["init_args"]["learning_rate"] == rates["part=trained"]["none"]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--tune", "--confirm"), "--confirm and --tune are two runs"),
        (("--tune", "--hours", "1"), "--hours must be positive and belongs to --confirm"),
    ],
)
def test_what_does_not_go_together_is_refused(tiny: Runner, args: tuple[str, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        tiny(*args)


def test_a_study_that_varies_rates_itself_has_nothing_to_tune(tiny: Runner) -> None:
    with pytest.raises(ValueError, match="nothing to tune in bare"):
        tiny("--tune", name="bare")


@pytest.mark.parametrize("rates", ["{here: 0.1}", "{here: {none: 0}}", "{here: {none: fast}}", "[0.1]"])
def test_rates_that_are_none_are_refused(tiny: Runner, rates: str) -> None:
    tiny.write(YAML + f"rates: {rates}\n")
    with pytest.raises(ValueError, match="rates"):
        tiny()


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("name", [*STUDIES])
def test_every_rate_of_a_studys_file_is_that_of_a_trial(name: str, quick: bool) -> None:
    """A place or norm that was renamed would be trained at the common rate, and nobody would notice."""
    settings = load(name, quick, data_dir=".")
    study: Any = STUDIES[name](settings)
    meant = {(study.place(trial), trains_as(trial.norm)) for trial in study.trials()}
    assert {(place, norm) for place, norms in settings.rates.items() for norm in norms} <= meant


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("seeds: 1\n", True),
        ("model: {init_args: {hidden_size: 8}}\n", True),
        ("model: {init_args: {learning_rate: 0.01}}\n", False),
        ("options: {optimizers: {sgd: 0.3}}\n", False),
        ("data: {class_path: rnnnorm.data.TemporalOrder}\n", False),
    ],
)
def test_a_rate_that_the_user_names_is_not_overruled(text: str, kept: bool, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    assert bool(load("input-scaling", quick=True, own=str(path)).rates) is kept
    path.write_text(text + "rates: {here: {none: 0.5}}\n")
    assert load("input-scaling", quick=True, own=str(path)).rates["here"] == {"none": 0.5}

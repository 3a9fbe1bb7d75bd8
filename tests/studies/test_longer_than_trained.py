"""The study of sequences longer than trained: effects, advice, its figure, a tiny real run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from studies.tables import made, run_tiny

from rnnnorm.report.canvas import LIGHT
from rnnnorm.studies.framework.measurements import where
from rnnnorm.studies.framework.settings import load
from rnnnorm.studies.framework.trial import Trial
from rnnnorm.studies.longer_than_trained import FLOOR, WAYS, LongerThanTrained, has_slots

pytestmark = pytest.mark.filterwarnings("ignore")


def study(quick: bool = True, **keys: Any) -> LongerThanTrained:
    return LongerThanTrained(load("longer-than-trained", quick=quick, **keys))


def rise_of(norm: str, slots: float, mode: str) -> float:
    if norm not in ("ln", "bn-timestep", "bn-timestep:tail=pool"):
        return 0.3
    if slots < 1:
        return 0.15 if "tail=pool" in norm else 0.4
    return 0.01 + 0.1 * (mode == "batch")


def table() -> pd.DataFrame:
    """A world of the claims: what is stored serves at any length, unless there are fewer slots than steps."""

    def rows(trial: Trial) -> Iterator[dict[str, Any]]:
        yield {"quantity": "diverged", "value": 0.0}
        for mode in ("running", "population", "batch") if trial.norm.startswith("bn-") else ("running",):
            yield {"quantity": "loss", "mode": mode, "value": 7.0}  # of the best checkpoint, in nats: not ours
            rise = rise_of(trial.norm, float(trial.conditions["slots"]), mode)
            level = 1 + 1e-3 * trial.seed + 0.05 * (mode == "batch")
            yield {"quantity": "rise", "mode": mode, "value": rise + 1e-3 * trial.seed}
            for k in (1, 2, 10):
                far = rise * (k - 1) / 9 if mode != "batch" else 0.0
                yield {"quantity": "loss", "mode": mode, "times": k, "value": level + far}
            for number in range(40):
                here = {"t": number * 10, "reach": (number + 0.5) / 4}
                yield {"quantity": "loss_at", "mode": mode, **here, "value": level + rise * number / 40}

    return made(study().trials(), rows)


def test_the_cases_are_tasks_lengths_and_the_ends_of_time() -> None:
    by_key = {verdict.claim.key: verdict for verdict in study().judge(table())}
    assert len(by_key["last"].cases) == 2 * 2 * 2
    assert len(by_key["ln"].cases) == 2 * 2
    assert {case.condition.rpartition(", ")[2] for case in by_key["population"].cases} == {"1 T_max", "10 T_max"}
    assert by_key["last"].headline.effect.mean == pytest.approx(0.011)
    assert by_key["last"].headline.effect.n == 3
    near, far = by_key["population"].cases[:2]
    assert near.effect.mean == pytest.approx(0.05)
    assert far.effect.mean == pytest.approx(0.05 - 0.01)


def test_findings_are_the_numbers() -> None:
    best, *said = study().findings(table())
    assert best.startswith(
        "Best of all by bits per step at the greatest length: bn-timestep by population statistics on "
    )
    assert len(said) == 5
    assert said[0].startswith("On made-up language, equal lengths, at 10 T_max, bits per step under running averages")
    numbers = [float(part.rpartition(" ")[2]) for part in said[0].partition("averages: ")[2].rstrip(".").split(", ")]
    assert numbers == sorted(numbers)
    assert "bn-timestep:tail=pool with 0.7 T_max slots 1.15" in said[0]
    assert said[-1].index("bn-timestep, tail pooled (+0.151)") < said[-1].index("last slot repeated (+0.401)")
    assert said[-1].endswith("Least of all rises bn-timestep by population statistics (+0.011).")


def test_advice_is_for_the_worst_of_all_tasks() -> None:
    made_up = table()
    one = where(made_up, norm="bn-timestep", slots=1.0, quantity="rise", task="sum", lengths="fixed")
    made_up.loc[one.index, "value"] = 0.9
    advice = study().findings(made_up)[-1]
    assert "bn-timestep by running averages (+0.9)" in advice
    assert advice.endswith("Least of all rises ln (+0.011).")


def lines(made_up: pd.DataFrame) -> list[dict[str, list[float]]]:
    """Per plot the values of each line."""
    found = []
    for panel in study().panels(made_up):
        axes = Figure().subplots()
        panel.draw(axes, LIGHT)
        handles, labels = axes.get_legend_handles_labels()
        found.append({name: np.asarray(line.get_ydata()).tolist() for name, line in zip(labels, handles, strict=True)})
    return found


def test_lines_are_the_ways_to_predict() -> None:
    drawn = lines(table())
    assert len(drawn) == 4
    assert [*drawn[0]] == [*WAYS, "T_max"]
    assert drawn[0]["bn-timestep, tail pooled"][-1] == pytest.approx(1.001 + 0.15 * 39 / 40)
    assert drawn[0]["bn-timestep, last slot repeated"][-1] == pytest.approx(1.001 + 0.4 * 39 / 40)


def test_a_loss_of_zero_has_a_place_on_the_axis() -> None:
    made_up = table()
    made_up.loc[made_up["quantity"] == "loss_at", "value"] = 0.0
    assert {value for name, line in lines(made_up)[0].items() for value in line if name in WAYS} == {FLOOR}


def test_tasks_and_lengths_of_the_users_own_are_drawn() -> None:
    made_up = table().replace({"task": {"sum": "parity"}, "lengths": {"fixed": "uniform"}})
    assert "loss, bits per step; parity, uniform" in [panel.title for panel in study().panels(made_up)]
    assert "On parity, uniform, at 10 T_max" in " ".join(study().findings(made_up))


@pytest.mark.parametrize(
    ("norm", "slots"),
    [
        ("bn-timestep", True),
        ("bn-timestep:tail=pool", True),
        ("bn-shared", False),
        ("bn-vertical", False),
        ("ln", False),
        ("none", False),
        ("wn", False),
    ],
)
def test_which_norms_have_slots(norm: str, slots: bool) -> None:
    assert has_slots(norm) is slots


@pytest.mark.parametrize("quick", [True, False])
def test_fewer_slots_are_for_norms_that_have_any(quick: bool) -> None:
    trials = study(quick).trials()
    assert len({(t.arm, t.norm, t.seed) for t in trials}) == len(trials)
    assert len({t.seed for t in trials}) >= 3
    fewer = [t for t in trials if t.conditions["slots"] != 1]
    assert {t.norm for t in fewer} == {"bn-timestep", "bn-timestep:tail=pool"}
    assert "bn-timestep:tail=pool" not in {t.norm for t in trials if t.conditions["slots"] == 1}
    for trial in trials:
        config: Any = trial.config
        longest = config["data"]["init_args"]["max_length"]
        assert config["model"]["init_args"]["max_steps"] == round(float(trial.conditions["slots"]) * longest)
        assert config["data"]["init_args"]["length_distribution"] == trial.conditions["lengths"]


def test_own_data_need_an_answer_per_step(tmp_path: Path) -> None:
    own = tmp_path / "mine.yaml"
    own.write_text("data: {class_path: rnnnorm.data.DelayedRecall, init_args: {max_length: 20}}\n")
    trials = study(own=str(own)).trials()
    assert {t.conditions["task"] for t in trials} == {"own"}
    assert {(t.config or {})["model"]["init_args"]["max_steps"] for t in trials} == {20, 14}
    own.write_text("data: {class_path: rnnnorm.data.TemporalOrder}\n")
    with pytest.raises(ValueError, match="target at every step"):
        study(own=str(own)).trials()


def test_a_network_that_diverged_measures_no_more() -> None:
    lost: Any = SimpleNamespace(diverged=True, rows=lambda: iter([{"quantity": "diverged", "value": 1.0}]))
    rows = list(study().measure(Trial({"task": "sum", "lengths": "fixed", "slots": 1.0}, "ln", 0, {}), lost))
    assert rows == [{"quantity": "diverged", "value": 1.0}]


def test_a_tiny_run(tmp_path: Path) -> None:
    settings = (
        "seeds: 1\nnorms: [bn-timestep]\n"
        "options: {times: [1, 3], slots: [1.0], num_long: 6, batch_long: 3}\n"
        "data: {class_path: rnnnorm.studies.data.languages.RunningSum, init_args: "
        "{num_train: 16, num_val: 4, num_test: 4, length_distribution: fixed, max_length: 8, batch_size: 8}}\n"
        "model: {init_args: {hidden_size: 4}}\ntrainer: {max_epochs: 1, check_val_every_n_epoch: 1}\n"
    )
    m = run_tiny("longer-than-trained", settings, tmp_path)
    losses = where(m, quantity="loss").dropna(subset=["times"])
    assert sorted(zip(losses["mode"], losses["times"], strict=True)) == sorted(
        (mode, k) for mode in ("running", "population", "batch") for k in (1, 3)
    )
    for mode in ("running", "population", "batch"):
        at = where(m, quantity="loss_at", mode=mode).sort_values("t")
        assert at["t"].tolist() == list(range(0, 24, 2))
        assert at["reach"].tolist() == pytest.approx([(k + 0.5) / 4 for k in range(12)])
        short, long = (where(losses, mode=mode, times=k)["value"].item() for k in (1, 3))
        assert at["value"].mean() == pytest.approx(long, rel=1e-5)
        assert at["value"].iloc[:4].mean() == pytest.approx(short, rel=1e-5)
        rise = at["value"].iloc[-4:].mean() - at["value"].iloc[2:4].mean()
        assert where(m, quantity="rise", mode=mode)["value"].item() == pytest.approx(rise, abs=1e-5)

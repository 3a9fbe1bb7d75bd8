"""The study of sequences longer than trained: verdicts on made tables, advice, its figure, a tiny real run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from rich.console import Console
from studies.tables import made, reread, verdicts

from rnnnorm.studies.framework.command import study as run_study
from rnnnorm.studies.framework.measurements import read, where
from rnnnorm.studies.framework.plots import save_figure
from rnnnorm.studies.framework.settings import load
from rnnnorm.studies.framework.trial import Trial
from rnnnorm.studies.longer_than_trained import LongerThanTrained, has_slots

pytestmark = pytest.mark.filterwarnings("ignore")

CLAIMS = {"last", "population", "ln"}
TIMES = (1, 2, 10)


@pytest.fixture(autouse=True)
def _no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RNNNORM_DATA", raising=False)


def study(quick: bool = True, **keys: Any) -> LongerThanTrained:
    return LongerThanTrained(load("longer-than-trained", quick=quick, **keys))


def rise_of(norm: str, slots: float, mode: str, agrees: bool) -> float:
    """How much the loss rises beyond T_max, in a world in which the claims hold, or do not."""
    if norm not in ("ln", "bn-timestep", "bn-timestep:tail=pool"):
        return 0.3
    if "tail=pool" in norm:
        return 0.15
    if slots < 1:
        return 0.4 if agrees else 0.1
    return (0.01 if agrees else 0.2) + (0.1 if mode == "batch" else 0.0)


def table(agrees: bool, norms: str | None = None) -> pd.DataFrame:
    def rows(trial: Trial) -> Iterator[dict[str, Any]]:
        jitter = 1e-3 * trial.seed
        yield {"quantity": "diverged", "value": 0.0}
        for mode in ("running", "population", "batch") if trial.norm.startswith("bn-") else ("running",):
            yield {"quantity": "loss", "mode": mode, "value": 7.0}  # of the best checkpoint, in nats: not ours
            rise = rise_of(trial.norm, float(trial.conditions["slots"]), mode, agrees)
            level = 1 + jitter + (0.05 if agrees else -0.05) * (mode == "batch")
            yield {"quantity": "rise", "mode": mode, "value": rise + jitter}
            yield {"quantity": "settled", "mode": mode, "value": level}
            for k in TIMES:
                far = rise * (k - 1) / 9 if mode != "batch" else 0.0
                yield {"quantity": "loss", "mode": mode, "times": k, "value": level + far}
            for number in range(40):
                here = {"t": number * 10, "reach": (number + 0.5) / 4}
                yield {"quantity": "loss_at", "mode": mode, **here, "value": level + rise * number / 40}

    return made(study(norms=norms).trials(), rows)


@pytest.mark.parametrize(("agrees", "expected"), [(True, "supported"), (False, "contradicted")])
def test_verdicts_follow_the_numbers(agrees: bool, expected: str, tmp_path: Path) -> None:
    made_up = table(agrees)
    found = verdicts(study(), made_up)
    assert found == dict.fromkeys(CLAIMS, expected)
    assert verdicts(study(), reread(made_up, tmp_path)) == found


@pytest.mark.parametrize("column", ["task", "lengths"])
def test_verdicts_depend_where_conditions_disagree(column: str) -> None:
    first, second = table(True), table(False)
    one = first[column].iloc[0]
    mixed = pd.concat([first[first[column] == one], second[second[column] != one]])
    assert set(verdicts(study(), mixed).values()) == {"depends"}


def test_running_averages_are_judged_beside_population_statistics() -> None:
    made_up = table(True)
    here = (made_up["norm"] == "bn-timestep") & (made_up["mode"] == "running") & (made_up["quantity"] == "rise")
    made_up.loc[here, "value"] = 0.3 + 1e-3 * made_up.loc[here, "seed"]
    verdict = next(v for v in study().judge(made_up) if v.claim.key == "last")
    assert verdict.verdict == "depends"
    assert all((case.standing == "fails") is case.condition.endswith("running") for case in verdict.cases)


def test_the_cases_are_tasks_lengths_and_the_ends_of_time() -> None:
    by_key = {verdict.claim.key: verdict for verdict in study().judge(table(True))}
    assert len(by_key["last"].cases) == 2 * 2 * 2
    assert len(by_key["ln"].cases) == 2 * 2
    assert {case.condition.rpartition(", ")[2] for case in by_key["population"].cases} == {"1 T_max", "10 T_max"}
    assert by_key["last"].headline.effect.mean == pytest.approx(0.011)
    assert by_key["last"].headline.effect.n == 3
    near, far = by_key["population"].cases[:2]
    assert near.effect.mean == pytest.approx(0.05)
    assert far.effect.mean == pytest.approx(0.05 - 0.01)


@pytest.mark.parametrize(
    ("norms", "claims"),
    [("ln", {"ln"}), ("bn-timestep", {"last", "population"}), ("none", set()), ("bn-timestep:tail=pool", set())],
)
def test_claims_without_their_norms_are_left_out(norms: str, claims: set[str], tmp_path: Path) -> None:
    made_up = table(True, norms)
    assert set(verdicts(study(norms=norms), made_up)) == claims
    draw(reread(made_up, tmp_path), tmp_path)
    assert all(isinstance(said, str) for said in study(norms=norms).findings(made_up))


@pytest.mark.parametrize("agrees", [True, False])
def test_findings_are_the_numbers(agrees: bool, tmp_path: Path) -> None:
    said = study().findings(reread(table(agrees), tmp_path))
    assert len(said) == 5
    first = said[0]
    assert "equal lengths, at 10 T_max, bits per step under running averages" in first
    numbers = [float(part.rpartition(" ")[2]) for part in first.partition("averages: ")[2].rstrip(".").split(", ")]
    assert numbers == sorted(numbers)
    assert ("bn-timestep with 0.7 T_max slots 1.4" in first) is agrees
    assert "bn-timestep:tail=pool with 0.7 T_max slots 1.15" in first
    advice = said[-1]
    assert "a pooled tail, +0.151" in advice
    best = "running averages with a slot for every step" if agrees else "running averages with fewer slots, the last"
    assert f"Choose {best}" in advice
    assert advice.index(f"{best}") < advice.index("pooled tail")


def test_advice_is_for_the_worst_of_all_tasks() -> None:
    made_up = table(True)
    one = where(made_up, norm="bn-timestep", slots=1.0, quantity="rise", task="sum", lengths="fixed")
    made_up.loc[one.index, "value"] = 0.9
    advice = study().findings(made_up)[-1]
    assert "running averages with a slot for every step, +0.9" in advice
    assert "Choose running averages with fewer slots and a pooled tail" in advice


def test_divergence_is_told() -> None:
    made_up = table(True)
    lost = (made_up["norm"] == "bn-timestep") & (made_up["seed"] == 1) & (made_up["slots"] == 1)
    number = int((lost & (made_up["quantity"] == "diverged")).sum())
    made_up = made_up[~lost | (made_up["quantity"] == "diverged")]
    made_up.loc[lost & (made_up["quantity"] == "diverged"), "value"] = 1.0
    assert any(f"{number} networks diverged" in said for said in study().findings(made_up))


def draw(made_up: pd.DataFrame, folder: Path) -> list[str]:
    panels = study().panels(made_up)
    save_figure(panels, folder, study().question)
    assert (folder / "figure.png").stat().st_size > 5_000
    return [panel.title for panel in panels]


@pytest.mark.parametrize("agrees", [True, False])
def test_panels_draw(agrees: bool, tmp_path: Path) -> None:
    titles = draw(reread(table(agrees), tmp_path), tmp_path)
    assert len(titles) == len(set(titles)) == 4


@pytest.mark.parametrize(
    "partial", ["task == 'sum' and lengths == 'fixed'", "slots < 1", "mode == 'running'", "seed == 0 and norm == 'ln'"]
)
def test_part_of_the_table_is_enough(partial: str, tmp_path: Path) -> None:
    made_up = table(True).query(partial)
    assert draw(reread(made_up, tmp_path), tmp_path)
    study().verdicts(made_up)
    study().findings(made_up)


def test_a_loss_of_zero_has_a_place_on_the_axis(tmp_path: Path) -> None:
    made_up = table(True)
    made_up.loc[made_up["quantity"] == "loss_at", "value"] = 0.0
    assert draw(made_up, tmp_path)


def test_tasks_and_lengths_of_the_users_own_are_drawn(tmp_path: Path) -> None:
    made_up = table(True).replace({"task": {"sum": "parity"}, "lengths": {"fixed": "uniform"}})
    assert any("parity" in title for title in draw(made_up, tmp_path))
    assert "uniform" in " ".join(study().findings(made_up))
    assert set(verdicts(study(), made_up)) == CLAIMS


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
    (tmp_path / "mine.yaml").write_text(
        "seeds: 1\nnorms: [bn-timestep]\n"
        "options: {times: [1, 3], slots: [1.0], num_long: 6, batch_long: 3}\n"
        "data: {class_path: rnnnorm.studies.data.languages.RunningSum, init_args: "
        "{num_train: 16, num_val: 4, num_test: 4, length_distribution: fixed, max_length: 8, batch_size: 8}}\n"
        "model: {init_args: {hidden_size: 4}}\ntrainer: {max_epochs: 1, check_val_every_n_epoch: 1}\n"
    )
    out = tmp_path / "o"
    args = ["longer-than-trained", "--quick", "-c", str(tmp_path / "mine.yaml"), "--jobs", "1", "--out", str(out)]
    assert run_study(args, Console(record=True, width=200, force_terminal=False)) == 0
    m = read(out / "longer-than-trained")
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
    assert (out / "longer-than-trained" / "figure.png").is_file()

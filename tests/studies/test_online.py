"""The study of online learning: verdicts on made tables, its figure, a tiny real run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
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
from rnnnorm.studies.online import Online

pytestmark = pytest.mark.filterwarnings("ignore")

CLAIMS = {"online", "made-for-it", "drift", "pieces"}
MADE = {"online", "streaming"}


@pytest.fixture(autouse=True)
def _no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RNNNORM_DATA", raising=False)


def study(quick: bool = True) -> Online:
    return Online(load("online", quick=quick))


def table(agrees: bool, norms: str | None = None) -> pd.DataFrame:
    """A world in which the claims hold, or do not."""

    def level(norm: str) -> float:
        """Batch normalization is worst and `none` bad in the world of the claims; in the other it is the reverse."""
        if norm.startswith("bn-"):
            return 1.2 if agrees else 0.2
        if norm == "none":
            return 0.9 if agrees else 0.2
        return 0.5

    def rows(trial: Trial) -> Iterator[dict[str, Any]]:
        jitter = 1e-3 * trial.seed
        yield {"quantity": "diverged", "value": 0.0}
        if trial.conditions["part"] == "learning":
            yield {"quantity": "loss", "value": level(trial.norm) + jitter}
            for t in (200, 400, 600, 800):
                value = level(trial.norm) + jitter + 1 / t
                yield {"quantity": "prequential", "t": t, "value": value}
            return
        for mode in ("running", "population") if trial.norm.startswith("bn-") else ("running",):
            for chunk in (1, 5, 20, 40):
                lost = (0.5 if agrees else 0.01) * (trial.norm == "bn-timestep" and chunk < 40)
                yield {"quantity": "loss", "mode": mode, "chunk": chunk, "value": 1 + lost + jitter * (1 + 0.1 * lost)}

    return made(Online(load("online", quick=True, norms=norms)).trials(), rows)


@pytest.mark.parametrize(("agrees", "expected"), [(True, "supported"), (False, "contradicted")])
def test_verdicts_follow_the_numbers(agrees: bool, expected: str, tmp_path: Path) -> None:
    made_up = table(agrees)
    found = verdicts(study(), made_up)
    assert found == dict.fromkeys(CLAIMS, expected)
    assert verdicts(study(), reread(made_up, tmp_path)) == found


@pytest.mark.parametrize(
    ("claim", "spared"),
    [
        ("online", {"norm": "bn-shared", "part": "learning"}),
        ("made-for-it", {"norm": "bn-timestep", "part": "learning", "drift": "none"}),
        ("drift", {"norm": "none", "part": "learning", "drift": "abrupt", "batch": 8}),
        ("pieces", {"norm": "bn-timestep", "part": "reading", "mode": "population"}),
    ],
)
def test_verdicts_depend_where_conditions_disagree(claim: str, spared: dict[str, Any]) -> None:
    made_up = table(True)
    made_up.loc[where(where(made_up, quantity="loss"), **spared).index, "value"] = 0.3
    assert verdicts(study(), made_up)[claim] == "depends"


def test_a_difference_below_the_threshold_is_none() -> None:
    made_up = table(True)
    here = (made_up["norm"].str.startswith("bn-")) & (made_up["part"] == "learning")
    made_up.loc[here, "value"] = 0.53 + 1e-3 * made_up.loc[here, "seed"]
    found = verdicts(study(), made_up)
    assert found["online"] == found["made-for-it"] == "contradicted"


def test_effects_are_differences_paired_by_seed() -> None:
    by_key = {verdict.claim.key: verdict for verdict in study().judge(table(True))}
    online, drift = by_key["online"], by_key["drift"]
    assert online.headline.effect.mean == pytest.approx(0.7)
    assert online.headline.effect.low == pytest.approx(0.7)  # what all runs of a seed share cancels
    assert online.headline.condition == "bn-shared, no drift"
    assert drift.headline.effect.mean == pytest.approx(0.4)
    assert all("no drift" not in case.condition for case in drift.cases)
    assert len(by_key["pieces"].cases) == 6  # three sizes, two ways to evaluate; the whole is no piece


def test_claims_without_their_norms_are_left_out() -> None:
    made_up = table(True)
    assert set(verdicts(study(), made_up[~made_up["norm"].isin(MADE)])) == CLAIMS - {"made-for-it"}
    assert set(verdicts(study(), made_up[made_up["part"] == "reading"])) == {"pieces"}
    assert set(verdicts(study(), table(True, "ln"))) == {"pieces"}
    assert verdicts(study(), made_up[made_up["drift"] == "none"]).keys() == {"online", "made-for-it"}


@pytest.mark.parametrize("agrees", [True, False])
def test_findings_are_the_numbers(agrees: bool, tmp_path: Path) -> None:
    text = " ".join(study().findings(reread(table(agrees), tmp_path)))
    assert "no drift, nats: " in text
    assert "abrupt drift, nats: " in text
    assert ("`none` 0.901" if agrees else "`none` 0.201") in text
    assert ("`bn-timestep` +0.500" if agrees else "`bn-timestep` +0.010") in text
    assert "`ln` +0.000" in text
    assert "diverged" not in text
    ranked = next(said for said in study().findings(table(agrees)) if said.startswith("One sequence"))
    assert (ranked.index("`ln`") < ranked.index("`none`")) is agrees  # the best one first


def test_divergence_is_told() -> None:
    made_up = table(True)
    made_up.loc[(made_up["quantity"] == "diverged") & (made_up["norm"] == "wn"), "value"] = 1.0
    lost = len(where(made_up, quantity="diverged", norm="wn"))
    number = len(where(made_up, quantity="diverged"))
    assert f"{lost} of {number} networks diverged." in study().findings(made_up)


def draw(made_up: pd.DataFrame, folder: Path) -> list[str]:
    panels = study().panels(made_up)
    save_figure(panels, folder, study().question)
    assert (folder / "figure.png").stat().st_size > 10_000
    return [panel.title for panel in panels]


@pytest.mark.parametrize("agrees", [True, False])
def test_panels_draw(agrees: bool, tmp_path: Path) -> None:
    titles = draw(reread(table(agrees), tmp_path), tmp_path)
    assert len(titles) == 4
    assert "no drift" in titles[0]


def test_panels_draw_for_one_norm(tmp_path: Path) -> None:
    assert len(draw(table(True, "ln"), tmp_path)) == 4


@pytest.mark.parametrize(
    "partial", ["part == 'reading'", "drift == 'abrupt'", "batch == 8 or norm == 'ln'", "seed == 0 and norm == 'wn'"]
)
def test_panels_draw_from_part_of_the_table(partial: str, tmp_path: Path) -> None:
    made_up = table(True).query(partial)
    assert draw(reread(made_up, tmp_path), tmp_path)
    study().findings(made_up)
    study().verdicts(made_up)


@pytest.mark.parametrize("quick", [True, False])
def test_trials_are_unique_and_have_seeds(quick: bool) -> None:
    trials = study(quick).trials()
    assert len({(t.arm, t.norm, t.seed) for t in trials}) == len(trials)
    assert len({t.seed for t in trials}) >= 3
    assert {t.conditions["part"] for t in trials} == {"learning", "reading"}


def test_own_data_are_read_but_not_streamed(tmp_path: Path) -> None:
    own = tmp_path / "mine.yaml"
    own.write_text("data: {class_path: rnnnorm.data.DelayedRecall, init_args: {max_length: 15}}\n")
    trials = Online(load("online", quick=True, own=str(own))).trials()
    assert {t.conditions["part"] for t in trials} == {"reading"}


def reading(own: dict[str, Any], folder: Path, norm: str = "bn-timestep") -> list[dict[str, Any]]:
    lines = ", ".join(f"{key}: {value}" for key, value in own.items())
    path = folder / "mine.yaml"
    path.write_text(
        f"data: {{class_path: rnnnorm.data.DelayedRecall, init_args: {{{lines}}}}}\n"
        "model: {init_args: {hidden_size: 4}}\ntrainer: {max_epochs: 1}\n"
    )
    small = Online(load("online", quick=True, own=str(path)))
    return [dict(row) for row in small.measure(Trial({"part": "reading"}, norm, 0), None)]


SIZES = {"num_train": 32, "num_val": 2, "num_test": 8, "batch_size": 8}


def test_pieces_as_long_as_the_sequence_are_the_whole(tmp_path: Path) -> None:
    """Pieces of 20 steps of sequences of 15 are no pieces: there is one loss of the whole, and no case of it."""
    rows = reading(SIZES | {"length_distribution": "fixed", "max_length": 15}, tmp_path)
    losses = [row for row in rows if row["quantity"] == "loss"]
    assert {row["chunk"] for row in losses} == {1, 5, 15}
    assert {row["mode"] for row in losses} == {"running", "population"}


def test_ragged_sequences_are_refused_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rnnnorm.studies.online.train", lambda *_: pytest.fail("a network was trained"))
    with pytest.raises(ValueError, match="one length"):
        reading(SIZES | {"length_distribution": "uniform", "max_length": 15}, tmp_path)


def test_a_stream_that_diverges_counts_as_guessing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rnnnorm.studies.online.test_then_train", lambda *_: [1.0, 1.2, math.inf, math.inf])
    here = Trial({"part": "learning", "drift": "none", "batch": 1}, "none", 0)
    rows = [dict(row) for row in study().measure(here, None)]
    assert {"quantity": "loss", "value": math.log(4)} in rows
    assert {"quantity": "diverged", "value": 1.0} in rows
    assert [row["value"] for row in rows if row["quantity"] == "prequential"] == [1.0, 1.2]


def test_the_loss_is_the_mean_of_the_second_half(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = [float(k) for k in range(160)]
    monkeypatch.setattr("rnnnorm.studies.online.test_then_train", lambda *_: losses)
    here = Trial({"part": "learning", "drift": "none", "batch": 8}, "none", 0)
    rows = [dict(row) for row in study().measure(here, None)]
    assert {"quantity": "loss", "value": sum(range(80, 160)) / 80} in rows
    along = [row for row in rows if row["quantity"] == "prequential"]
    assert len(along) == 40
    assert along[0] == {"quantity": "prequential", "t": 32, "value": 1.5}  # four batches of eight
    assert along[-1]["t"] == 160 * 8


def test_a_tiny_run(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "seeds: 1\nnorms: [bn-timestep]\n"
        "options: {drifts: [abrupt], batch_sizes: [1], examples: 60, steps: 4, chunks: [2], "
        "chunk_norms: [bn-timestep]}\n"
        "model: {init_args: {hidden_size: 4}}\ntrainer: {max_epochs: 1}\n"
    )
    args = ["online", "--quick", "-c", str(tmp_path / "mine.yaml"), "--jobs", "1", "--out", str(tmp_path / "o")]
    assert run_study(args, Console(record=True, width=200, force_terminal=False)) == 0
    m = read(tmp_path / "o" / "online")
    assert len(where(m, quantity="loss", part="learning")) == 1
    assert where(m, quantity="prequential")["t"].tolist() == list(range(1, 61))
    assert where(m, quantity="loss", part="reading").groupby("mode")["chunk"].apply(list).to_dict() == {
        "running": [2, 40],
        "population": [2, 40],
    }
    assert (where(m, quantity="diverged")["value"] == 0).all()
    assert (tmp_path / "o" / "online" / "figure.png").is_file()

"""The study of online learning: effects, findings, its figure, a tiny real run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure
from studies.tables import made, run_tiny

from rnnnorm.report.canvas import LIGHT
from rnnnorm.studies.framework.measurements import where
from rnnnorm.studies.framework.settings import load
from rnnnorm.studies.framework.trial import Trial
from rnnnorm.studies.measures.streams import with_horizon
from rnnnorm.studies.online import Online

pytestmark = pytest.mark.filterwarnings("ignore")


def table() -> pd.DataFrame:
    """A world of the claims: batch normalization is worst, `none` bad, and pieces cost 0.5 with a slot per step."""

    def rows(trial: Trial) -> Iterator[dict[str, Any]]:
        jitter = 1e-3 * trial.seed
        stored = trial.norm.startswith("bn-")
        level = (1.2 if stored else 0.9 if trial.norm == "none" else 0.5) + jitter
        yield {"quantity": "diverged", "value": 0.0}
        if trial.conditions["part"] == "learning":
            if trial.norm == "bn-timestep" and trial.conditions["batch"] == 1:
                yield {"quantity": "inapplicable", "value": 1.0}
                return
            yield {"quantity": "loss", "value": level}
            yield from ({"quantity": "prequential", "t": t, "value": level + 1 / t} for t in (200, 400, 600, 800))
            return
        for mode in ("population", "running")[: 2 if stored else 1]:
            for chunk in (1, 5, 20, 40):
                lost = 0.5 * (trial.norm == "bn-timestep" and chunk < 40)
                yield {"quantity": "loss", "mode": mode, "chunk": chunk, "value": 1 + lost + jitter}

    return made(Online(load("online", quick=True)).trials(), rows)


def test_effects_are_differences_paired_by_seed() -> None:
    by_key = {verdict.claim.key: verdict for verdict in Online(load("online", quick=True)).judge(table())}
    online, drift, pieces = by_key["online"], by_key["drift"], by_key["pieces"]
    assert online.headline.effect.low == pytest.approx(0.7)  # what all runs of a seed share cancels
    assert online.headline.condition == "bn-vertical, no drift"
    assert drift.headline.effect.mean == pytest.approx(0.4)
    assert [case.condition for case in drift.cases] == ["ln, abrupt drift, B = 1", "ln, abrupt drift, B = 8"]
    assert len(pieces.cases) == 6  # three sizes, two ways to evaluate; the whole is no piece
    assert pieces.headline.effect.mean == pytest.approx(0.5)


def test_findings_are_the_numbers() -> None:
    best, calm, abrupt, pieces = Online(load("online", quick=True)).findings(table())
    assert best.startswith("Best of all by loss in nats of learning one sequence at a time: `ln` with no drift (0.501")
    assert calm.startswith("One sequence at a time, no drift, nats: `ln` 0.501,")  # the best one first
    assert calm.index("`none` 0.901") < calm.index("`bn-vertical` 1.201")
    assert "bn-timestep" not in calm  # refused
    assert "abrupt drift" in abrupt
    assert "`ln` +0.000, `bn-timestep` +0.500, `bn-shared` +0.000" in pieces


def test_lines_name_statistics_where_there_are_several() -> None:
    panels = Online(load("online", quick=True)).panels(table())
    titles = [panel.title for panel in panels]
    assert [title.rpartition(", ")[2] for title in titles] == ["no drift", "abrupt drift", "nats", "all drifts"]
    axes = Figure().subplots()
    panels[2].draw(axes, LIGHT)
    lines = [f"bn-{kind}, {mode}" for kind in ("timestep", "shared") for mode in ("population", "running")]
    assert sorted(axes.get_legend_handles_labels()[1]) == sorted(["none", "ln", *lines])


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


def learned(norm: str, batch: int) -> list[dict[str, Any]]:
    quick = load("online", quick=True)
    study = Online(replace(quick, options={**quick.options, "examples": 24, "steps": 6}))
    conditions: dict[str, Any] = {"part": "learning", "drift": "none", "batch": batch}
    return [dict(row) for row in study.measure(Trial(conditions, norm, 0), None)]


@pytest.mark.parametrize("norm", ["bn-timestep", "bn-shared", "cmbn"])
def test_moments_of_a_batch_are_refused_in_a_batch_of_one_and_not_trained_on_constants(norm: str) -> None:
    assert learned(norm, 1) == [{"quantity": "inapplicable", "value": 1.0}]
    assert {"loss", "prequential"} <= {row["quantity"] for row in learned(norm, 8)}


@pytest.mark.parametrize("norm", ["none", "ln", "bn-vertical", "power", "online"])
def test_moments_over_time_and_carried_ones_learn_from_one_sequence(norm: str) -> None:
    assert {"loss", "prequential"} <= {row["quantity"] for row in learned(norm, 1)}


def test_batch_normalization_is_judged_where_it_can_be_applied() -> None:
    verdict = next(v for v in Online(load("online", quick=True)).judge(table()) if v.claim.key == "online")
    assert {case.condition.split(",")[0] for case in verdict.cases} == {"bn-vertical"}


def test_the_horizon_is_a_share_of_the_stream() -> None:
    assert with_horizon("online", 10_000, 500, 0.01) == "online:alpha_forward=0.990000"
    assert with_horizon("online:groups=4", 200, 10, 0.01) == "online:groups=4:alpha_forward=0.500000"
    assert with_horizon("power", 10_000, 500, 0.01) == "power:warmup=5"
    for norm in ("ln", "streaming", "online:alpha_forward=0.9", "power:warmup=7"):
        assert with_horizon(norm, 10_000, 500, 0.01) == norm


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


def test_a_tiny_run(tmp_path: Path) -> None:
    settings = (
        "seeds: 1\nnorms: [bn-vertical]\n"
        "options: {drifts: [abrupt], batch_sizes: [1], examples: 60, steps: 4, chunks: [2], "
        "chunk_norms: [bn-timestep]}\n"
        "model: {init_args: {hidden_size: 4}}\ntrainer: {max_epochs: 1}\n"
    )
    m = run_tiny("online", settings, tmp_path)
    assert len(where(m, quantity="loss", part="learning")) == 1
    assert where(m, quantity="prequential")["t"].tolist() == list(range(1, 61))
    assert where(m, quantity="loss", part="reading").groupby("mode")["chunk"].apply(list).to_dict() == {
        "running": [2, 40],
        "population": [2, 40],
    }
    assert (where(m, quantity="diverged")["value"] == 0).all()

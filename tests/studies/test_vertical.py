"""The study of vertical normalization: verdicts on made tables, steps to a loss, the segments, a tiny real run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from studies.tables import made, reread, verdicts

from rnnnorm.engine.control import Interrupt
from rnnnorm.studies.data.segments import Segments
from rnnnorm.studies.framework.compose import save_figure
from rnnnorm.studies.framework.measurements import collect
from rnnnorm.studies.framework.settings import Settings, load
from rnnnorm.studies.framework.trial import Trial
from rnnnorm.studies.framework.work import work
from rnnnorm.studies.measures.outcome import NEVER, speed
from rnnnorm.studies.vertical import Vertical

CLAIMS = {"faster", "no-better", "depth", "shallow", "joint"}


def study(quick: bool = True, **keys: Any) -> Vertical:
    return Vertical(load("vertical", quick=quick, **keys))


def table(agrees: bool, **keys: Any) -> pd.DataFrame:
    """A world in which the claims hold, or do not; losses fall as 1/step."""

    def rows(trial: Trial) -> Iterator[dict[str, Any]]:
        layers, vertical = int(trial.conditions["layers"]), trial.norm.startswith("bn-vertical")
        speed = (2.0 if agrees else 0.5) if vertical else 1.0
        # Where the claims hold, normalization harms one layer and ever deeper stacks less, but helps none.
        gain = 0.0
        if vertical:
            gain = -0.5 + 0.05 * layers if agrees else 0.5 - 0.05 * layers
        final = 0.1 + (0.1 if (trial.norm == "bn-joint") is agrees else 0.0)
        for t in range(1, 101):
            yield {"quantity": "train_curve", "t": t, "value": (1 + 0.01 * trial.seed) / (speed * t)}
        noise = 1e-4 * trial.seed * (1 + layers)
        yield {"quantity": "best_val_loss", "value": 0.5}
        yield {"quantity": "test_loss", "value": 1.0 - gain + noise * vertical}
        yield {"quantity": "final_train_loss", "value": final + noise}
        yield {"quantity": "final_val_loss", "value": 1.0 - gain}
        yield {"quantity": "learned", "value": 0.7 + gain / 10}
        yield {"quantity": "diverged", "value": 0.0}
        yield {"quantity": "steps", "value": 100.0}
        yield {"quantity": "seconds", "value": 2.0 if vertical else 1.0}

    return made(study(**keys).trials(), rows)


def test_verdicts_depend_where_depths_disagree() -> None:
    first, second = table(True), table(False)
    mixed = pd.concat([first[first["layers"] == 1], second[second["layers"] != 1]])
    found = verdicts(study(), mixed)
    assert {key: found[key] for key in ("faster", "no-better", "joint")} == dict.fromkeys(
        ("faster", "no-better", "joint"), "open"
    )


def test_what_selects_a_rate_does_not_score_it() -> None:
    """The lowest validation loss of ever more noise is no gain, unless test sequences say so."""
    made_up = table(True)
    lucky = (made_up["quantity"] == "best_val_loss") & (made_up["norm"] != "none")
    expected = verdicts(study(), made_up)
    made_up.loc[lucky, "value"] -= 0.4
    assert verdicts(study(), made_up) == expected


def test_the_headline_is_the_deepest_stack() -> None:
    for verdict in study().judge(table(True)):
        assert ("1 layer" if verdict.claim.key == "shallow" else "5 layers") in verdict.headline.condition
        assert "framewise" not in verdict.headline.condition


@pytest.mark.parametrize("agrees", [True, False])
def test_panels_and_findings(agrees: bool, tmp_path: Path) -> None:
    made_up = reread(table(agrees), tmp_path)
    panels = study().panels(made_up)
    assert len(panels) == 4
    save_figure(panels, tmp_path, study().question)
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    text = " ".join(study().findings(made_up))
    assert f"bn-vertical on noisy segments, 5 layers: {0.5 if agrees else 2:.2f} times the steps of none" in text
    assert "a step taking 2.00 times as long" in text
    assert ("loss +0.251 nats" if agrees else "loss −0.249 nats") in text
    assert "diverged" not in text


def test_divergence_counts_in_differences_and_is_told() -> None:
    made_up = table(True)
    here = (made_up["norm"] == "bn-vertical") & (made_up["layers"] == 5) & (made_up["seed"] == 0)
    made_up.loc[here & made_up["quantity"].isin(["test_loss", "final_train_loss"]), "value"] = math.inf
    made_up.loc[here & (made_up["quantity"] == "diverged"), "value"] = 1.0
    (better,) = (verdict for verdict in study().judge(made_up) if verdict.claim.key == "no-better")
    lost = {case.condition: case for case in better.cases}["bn-vertical, 5 layers, noisy segments"]
    assert {case.effect.n for case in better.cases} == {len(study().settings.seeds)}
    assert lost.standing == "undecided"  # one of four is lost, the others support the claim
    assert "1 of 60 trainings diverged: bn-vertical (1)." in study().findings(made_up)


def test_steps_to_a_loss() -> None:
    curves = {
        "none": [8.0, 4.0, 3.0, 2.0, 1.0, 0.5],  # 3.0, at half of the training, after 3 steps
        "ln": [5.0, 2.9, 2.0, 1.0, 1.0, 1.0],
        "wn": [9.0, 8.0, 7.0, 6.0, 5.0, 4.0],
        "rms": [9.0, 2.0, 7.0, 6.0, 5.0, 1.0],  # there once, then back
    }
    m = pd.DataFrame(
        [
            {"layers": 1, "norm": norm, "seed": 0, "quantity": "train_curve", "t": t, "value": value}
            for norm, curve in curves.items()
            for t, value in enumerate(curve, start=1)
        ]
    )
    found = speed(m, ["layers"])
    assert set(found["quantity"]) == {"speed"}
    assert dict(zip(found["norm"], found["value"], strict=True)) == pytest.approx(
        {"ln": 2 / 3, "wn": NEVER, "rms": 2 / 3}
    )


def test_frames_carry_the_state_and_the_one_before() -> None:
    """Without noise a frame is M[s] + k C[s'], whichever the states."""
    keys = {"num_train": 50, "length_distribution": "fixed", "max_length": 40}
    data = Segments(num_states=5, num_features=3, trace=0.7, noise=0.0, **keys)
    M, C = data.means()
    durations = []
    for rows, target in data.examples("train"):
        states = np.asarray(target)
        ends = np.flatnonzero(np.diff(states)) + 1
        durations += np.diff(ends).tolist()
        begin = np.concatenate([[0], ends])
        segment = np.searchsorted(begin, np.arange(len(states)), side="right") - 1
        before = np.where(segment > 0, states[begin[segment] - 1], -1)
        expected = M[states] + np.where(before[:, None] >= 0, 0.7 * C[before], 0)
        np.testing.assert_allclose(np.asarray(rows), expected, atol=1e-5)
    assert np.mean(durations) == pytest.approx(4.0, rel=0.15)


@pytest.mark.parametrize("keys", [{"num_states": 1}, {"num_features": 0}, {"duration": 0.5}, {"noise": -1.0}])
def test_segments_that_cannot_be_are_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(keys)).split("_")[-1]):
        Segments(**keys)


@pytest.mark.filterwarnings("ignore")
def test_a_tiny_run(tmp_path: Path) -> None:
    sizes = {"num_train": 32, "num_val": 8, "num_test": 8, "length_distribution": "fixed", "max_length": 6}
    config = {
        "data": {"class_path": "rnnnorm.studies.data.segments.Segments", "init_args": {**sizes, "batch_size": 8}},
        "model": {"init_args": {"hidden_size": 8}},
        "trainer": {"max_epochs": 4, "log_every_n_steps": 1, "enable_progress_bar": False},
    }
    options = {"layers": [2], "learning_rates": [0.01], "real_layers": []}
    tiny = Vertical(Settings((0,), ("none", "bn-vertical"), options, config))
    for trial in tiny.trials():
        work(tiny, trial, tmp_path, Interrupt(lambda: None))
    m = collect(tiny.trials(), tmp_path)
    assert m[m["quantity"] == "train_curve"].groupby("norm")["t"].max().tolist() == [16, 16]
    assert len(speed(m, ["layers"])) == 1
    assert m[m["quantity"] == "best_val_loss"]["value"].map(math.isfinite).all()
    assert {v.claim.key for v in tiny.verdicts(m)} == {"faster", "no-better"}

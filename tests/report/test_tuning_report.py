"""Section of the report on tuning, from made-up searches."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from report.fake_runs import write_comparison
from report.test_report import Page

from rnnnorm.report import build, overview
from rnnnorm.report.tuning import expected_best, read_tuning
from rnnnorm.report.tuning_figures import pictures
from rnnnorm.report.tuning_words import choices_table, how_chosen, said

RATE = "model.learning_rate"
BEST = {"none": 0.003, "ln": 0.02, "bn-timestep": 0.01}


def write_search(out: Path, rounds: int = 1, lost: str = "", **more: Any) -> None:
    """Write `tuning.json` of a search in which each norm has a best rate of its own; all trials of `lost` diverge."""
    trials, choices = [], []
    for norm, number in itertools.product(BEST, range(rounds)):
        its: list[dict[str, Any]] = []
        for k in range(8):
            rate = float(f"{1e-4 * 1e3 ** ((k + 0.3 * number + 0.2) / 8):.4g}")
            score = 0.95 - 0.1 * abs(math.log10(rate / BEST[norm]))
            diverged = rate > 5 * BEST[norm] or norm == lost
            entry = {"norm": norm, "round": number, "trial": str(k), "values": {RATE: rate}, "epochs": 8}
            its.append(entry | {"status": "diverged" if diverged else "finished", "score": None if diverged else score})
        best = max((t for t in its if t["score"] is not None), key=lambda t: t["score"], default=None)
        trials += [trial | {"chosen": trial is best} for trial in its]
        choices.append({"norm": norm, "round": number, "values": best and best["values"], "edges": {}})
    content = {
        "space": {RATE: {"kind": "log", "range": "log:0.0001..0.1"}}, "trials": 8, "rounds": rounds, "halving": 0,
        "rungs": [], "seeds": [1000 + k for k in range(rounds)], "metric": "accuracy", "metric_mode": "max",
        "widened": [], "choices": choices, "records": trials,
    }  # fmt: skip
    (out / "tuning.json").write_text(json.dumps(content | more))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    write_comparison(tmp_path, list(BEST), seeds=2)
    return tmp_path


@pytest.mark.parametrize("larger", [True, False])
def test_the_expected_best_is_the_mean_over_all_subsets(larger: bool) -> None:
    scores = [0.3, 0.9, 0.5, 0.5, 0.7]
    best = max if larger else min
    for k, value in enumerate(expected_best(scores, larger), 1):
        assert value == pytest.approx(np.mean([best(some) for some in itertools.combinations(scores, k)]))


def test_a_diverged_trial_counts_as_the_worst_of_all(out: Path) -> None:
    write_search(out, lost="ln")
    tuning = read_tuning(out)
    assert tuning is not None
    worst = min(trial.score for trial in tuning.trials if math.isfinite(trial.score))
    assert tuning.expected_best("ln") == pytest.approx([worst] * 8)
    assert tuning.expected_best("none")[-1] == pytest.approx(max(t.score for t in tuning.of("none") if t.chosen))


def test_the_page_shows_the_search(out: Path) -> None:
    write_search(out)
    build(out)
    text = (out / "report.html").read_text()
    page = Page(text)
    assert not page.outside
    assert len(page.ids) == len(set(page.ids))
    assert "<h2>Learning rate of each norm</h2>" in text
    lead = "Each norm has its own learning rate: the best of 8 trials by validation accuracy."
    assert text.count(lead) == 2, "in the lead and in the section"
    assert "from the same\n  seed (1000)" in text
    assert f"<code>{RATE}=log:0.0001..0.1</code>" in text
    assert text.count('aria-label="Validation accuracy') == 1 + 3, "one of all norms, one of each"
    assert text.count('aria-label="Expected best validation accuracy') == 1
    assert lead in (out / "summary.md").read_text()
    assert str(overview(out).renderables[0].title) == lead


def test_without_a_search_one_rate_is_named(out: Path) -> None:
    (out / "compare.yaml").write_text("model:\n  init_args: {learning_rate: 0.002}\n")
    build(out)
    said = "All norms share one learning rate, 0.002; `--tune` gives each its own."
    assert str(overview(out).renderables[0].title) == said
    assert said in (out / "summary.md").read_text()
    text = (out / "report.html").read_text()
    assert "All norms share one learning rate, 0.002; <code>--tune</code> gives each its own." in text
    assert "of each norm</h2>" not in text


def test_rounds_have_a_column_each_and_a_median(out: Path) -> None:
    write_search(out, rounds=3)
    tuning = read_tuning(out)
    assert tuning is not None
    header, rows = choices_table(tuning, {"ln": (0.8, 0.9)}, {"ln": (0.7, 0.8, 0.95)})
    assert header[1:5] == [f"learning rate, round {k}" for k in range(3)] + ["learning rate, median"]
    row = dict(zip(header, next(row for row in rows if row[0] == "ln"), strict=True))
    rates = sorted(float(row[name]) for name in header[1:4])
    assert float(row["learning rate, median"]) == rates[1]
    assert (row["of its runs"], row["test accuracy"], row["trials"]) == ("0.8500", "0.8000", "24")
    assert "in each of 3 rounds" in how_chosen(out)
    build(out)
    assert "seeds (1000, 1001, 1002)" in (out / "report.html").read_text()


def test_what_must_be_known_is_said(out: Path) -> None:
    widened = [{"round": 0, "key": RATE, "end": "high", "times": 1, "range": "log:0.1..1"}]
    write_search(out, widened=widened, halving=2, rungs=[2, 4, 8], lost="none")
    content = json.loads((out / "tuning.json").read_text())
    content["choices"][1]["edges"] = {RATE: "high"}
    (out / "tuning.json").write_text(json.dumps(content))
    tuning = read_tuning(out)
    assert tuning is not None
    sentences = said(tuning, {"ln": (0.2, 0.3), "bn-timestep": (0.94,)})
    for part in (
        "all norms tried more values beyond it (log:0.1..1)",
        "The learning rate of `ln` is the largest tried: a better one may lie beyond.",
        "All trials of `none` diverged; its runs have the configured values.",
        "its runs 0.2500, worse than half of its trials",
        "Trials were compared after 2, 4 of 8 epochs, and the best 1/2 went on",
    ):
        assert sum(part in sentence for sentence in sentences) == 1, part
    assert len(sentences) == 5
    write_search(out)
    tuning = read_tuning(out)
    assert tuning is not None
    assert said(tuning, dict.fromkeys(BEST, (0.95,))) == []


def test_several_keys_have_a_figure_each_and_choices_have_none(out: Path) -> None:
    write_search(out)
    content = json.loads((out / "tuning.json").read_text())
    content["space"] |= {
        "trainer.gradient_clip_val": {"kind": "lin", "range": "lin:0..1"},
        "model.optimizer": {"kind": "choice", "range": "adam|sgd"},
    }
    for k, entry in enumerate((*content["records"], *content["choices"])):
        entry["values"] |= {"trainer.gradient_clip_val": k / 100, "model.optimizer": ("adam", "sgd")[k % 2]}
    (out / "tuning.json").write_text(json.dumps(content))
    build(out)
    text = (out / "report.html").read_text()
    assert "Each norm has its own learning rate, gradient clip val and optimizer" in text
    assert text.count('aria-label="Validation accuracy against') == 2
    assert "<td>adam</td>" in text


def test_pictures_for_tensorboard_show_something(out: Path) -> None:
    write_search(out, rounds=2)
    tuning = read_tuning(out)
    assert tuning is not None
    found = pictures(tuning)
    assert list(found) == [f"tuning/{RATE}", "tuning/trials"]
    for figure in found.values():
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        pixels = np.asarray(canvas.buffer_rgba())
        assert pixels.shape[1] > 600
        assert pixels[..., :3].std() > 5
        assert pixels[0, 0].tolist() == [255] * 4


@pytest.mark.parametrize("broken", ["{", "[]", '{"space": {}}', None])
def test_a_broken_file_is_named_and_left_out(out: Path, broken: str | None, caplog: pytest.LogCaptureFixture) -> None:
    write_search(out)
    if broken is None:
        content = json.loads((out / "tuning.json").read_text())
        content["records"][3]["values"] = {RATE: "fast"}
        broken = json.dumps(content)
    (out / "tuning.json").write_text(broken)
    build(out)
    assert "tuning.json cannot be read" in caplog.text
    assert "of each norm</h2>" not in (out / "report.html").read_text()


def test_runs_of_an_earlier_search_are_named(out: Path) -> None:
    write_search(out)
    lead = how_chosen(out)
    chosen = {entry["norm"]: entry["values"] for entry in json.loads((out / "tuning.json").read_text())["choices"]}
    for norm, seed in itertools.product(BEST, range(2)):
        init = {"learning_rate": chosen[norm][RATE] if (norm, seed) != ("ln", 1) else 0.5}
        config = {"model": {"class_path": "a.B", "init_args": init}}
        (out / norm / f"seed={seed}" / "config.yaml").write_text(json.dumps(config))
    said = " Not so ln/seed=1, left by an earlier search: compare again with these norms and seeds."
    assert how_chosen(out) == lead + said
    content = json.loads((out / "tuning.json").read_text())
    for part in ("choices", "records"):  # a search of some of the norms
        content[part] = [entry for entry in content[part] if entry["norm"] != "none"]
    (out / "tuning.json").write_text(json.dumps(content))
    assert "Not so ln/seed=1, none/seed=0, none/seed=1, left by" in how_chosen(out)
    build(out)
    assert "none/seed=1, left by an earlier search" in (out / "summary.md").read_text()


def test_a_search_without_any_choice_is_none(out: Path) -> None:
    write_search(out)
    content = json.loads((out / "tuning.json").read_text())
    content["choices"] = [{**entry, "values": None} for entry in content["choices"]]
    (out / "tuning.json").write_text(json.dumps(content))
    assert how_chosen(out) == "All norms have the configured learning rate: each trial of tuning diverged."

"""Tables, figures and page out of run folders: whole, partial, diverged, broken."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from report.fake_runs import CHARACTERS, write_comparison, write_run
from rich.table import Table
from tensorboard.backend.event_processing import event_accumulator
from torch.utils.tensorboard import SummaryWriter

import rnnnorm
from rnnnorm.report import build, overview, panels
from rnnnorm.report.canvas import LIGHT, canvas, compact, name_axes, small_canvas
from rnnnorm.report.colours import colour
from rnnnorm.report.curves import Band, Curve, band, read_curves
from rnnnorm.report.difference_tables import difference_notes
from rnnnorm.report.figures import Figures
from rnnnorm.report.numbers import number, p_text, signed
from rnnnorm.report.runs import find_runs
from rnnnorm.report.summary import summarize

VOID = {"meta", "br", "img", "link", "hr"}


def results(out: Path) -> list[dict[str, str]]:
    with (out / "results.csv").open() as file:
        return list(csv.DictReader(file))


class Page(HTMLParser):
    """Checks that tags are balanced, and gathers ids and whatever would be loaded from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.outside: list[str] = []
        self.feed(text)
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attributes:
            if name == "id" and value:
                self.ids.append(value)
            if tag != "a" and name in ("src", "href", "xlink:href") and value and not value.startswith(("#", "data:")):
                self.outside.append(value)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open, f"</{tag}> closes nothing"
            assert self.open.pop() == tag, f"</{tag}> out of place"


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("comparison")
    write_comparison(out, list(CHARACTERS)[:5], seeds=2)
    write_run(out, "bn-timestep:gain=1.0", 0, status="diverged", checkpoint=False)
    write_run(out, "bn-timestep:gain=1.0", 1)
    write_run(out, "ln", 0, status=None)
    build(out)
    return out


class TestFiles:
    def test_one_line_per_run(self, comparison: Path) -> None:
        rows = results(comparison)
        assert len(rows) == 13
        found = json.loads((comparison / "bn-timestep" / "seed=1" / "result.json").read_text())
        row = next(r for r in rows if (r["norm"], r["seed"]) == ("bn-timestep", "1"))
        assert float(row["test_running_accuracy"]) == found["test"]["running"]["accuracy"]
        assert float(row["seconds"]) == found["seconds"]
        diverged = next(r for r in rows if r["status"] == "diverged")
        assert (diverged["norm"], diverged["diverged_at"]) == ("bn-timestep:gain=1.0", "260")
        assert diverged["test_running_accuracy"] == ""
        assert next(r for r in rows if r["norm"] == "ln")["status"] == "unfinished"

    def test_summary_is_best_first_with_mean_and_deviation(self, comparison: Path) -> None:
        text = (comparison / "summary.md").read_text()
        summary = summarize(find_runs(comparison))
        means = [row.headline.mean for row in summary.ranked]
        assert means == sorted(means, reverse=True)
        table, _, _ = text.partition("## ")
        order = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("|")][2:]
        assert order == [row.norm for row in summary.rows]
        best = summary.rows[0]
        assert best.headline.mean == pytest.approx(np.mean(best.headline.values))
        assert best.headline.std == pytest.approx(np.std(best.headline.values, ddof=1))
        assert str(best.headline) in text
        assert "1 of 2 (step 260)" in text
        assert "Unfinished: ln/seed=0." in text

    def test_picture(self, comparison: Path) -> None:
        pixels = imread(comparison / "figure.png")
        assert pixels.shape[1] > 2000
        assert pixels[..., :3].std() > 0.02
        assert (comparison / "figure.svg").read_text().count("<path") > 50

    def test_terminal_table(self, comparison: Path) -> None:
        scores, differences = overview(comparison).renderables
        assert isinstance(scores, Table)
        assert isinstance(differences, Table)
        assert (scores.row_count, differences.row_count) == (7, 5)

    def test_again_gives_the_same(self, comparison: Path) -> None:
        names = ("results.csv", "summary.md", "report.html", "figure.svg")
        before = {name: (comparison / name).read_text() for name in names}
        build(comparison)
        for name in names:
            assert (comparison / name).read_text() == before[name], name


class TestPage:
    def test_is_whole_and_loads_nothing(self, comparison: Path) -> None:
        text = (comparison / "report.html").read_text()
        page = Page(text)
        assert page.outside == []
        assert len(page.ids) == len(set(page.ids))
        assert "url(http" not in text
        assert "@import" not in text
        assert "prefers-color-scheme" in text
        assert 'name="viewport"' in text

    def test_commands_can_be_copied_and_losses_have_a_panel_per_norm(self, comparison: Path) -> None:
        text = (comparison / "report.html").read_text()
        assert 'execCommand("copy")' in text  # works from file://, too
        assert "white-space: pre-wrap" in text
        panels = re.findall(r'aria-label="Training loss of (.*?) by training step"', text)
        assert panels == [row.norm for row in summarize(find_runs(comparison)).rows]

    def test_references_inside_figures_exist(self, comparison: Path) -> None:
        text = (comparison / "report.html").read_text()
        used = set(re.findall(r"url\(#([^)]+)\)", text)) | set(re.findall(r'href="#([^"]+)"', text))
        assert used
        assert used <= set(Page(text).ids)

    def test_says_what_came_out(self, comparison: Path) -> None:
        text = (comparison / "report.html").read_text()
        best = summarize(find_runs(comparison)).rows[0].norm
        assert re.search(f"<code>{best}</code> did best, with .*(can|cannot) be told apart from the runner-up", text)
        assert "<code>bn-timestep:gain=1.0</code> diverged in 1 of 2 runs at step 260." in text
        assert "How batch normalization is evaluated matters most for <code>bn-shared</code>" in text
        assert "1 of 13 runs has not ended yet" in text
        assert "Cooijmans et al. 2017" in text
        assert "hidden_size: 64" in text
        assert "rnnnorm tensorboard" in text

    def test_every_figure_has_a_text(self, comparison: Path) -> None:
        text = (comparison / "report.html").read_text()
        figures = re.findall(r"<svg\b[^>]*>", text)
        assert len(figures) > 10
        assert all('role="img"' in f and "aria-label=" in f for f in figures)

    def test_names_are_escaped(self, tmp_path: Path) -> None:
        folder = write_run(tmp_path, "none", 0)
        result = json.loads((folder / "result.json").read_text())
        (folder / "result.json").write_text(json.dumps({**result, "norm": "<script>alert(1)</script>"}))
        text = build(tmp_path).read_text()
        assert "<script>alert" not in text
        Page(text)


class TestPartial:
    def test_one_norm_one_seed(self, tmp_path: Path) -> None:
        write_run(tmp_path, "ln", 0)
        text = build(tmp_path).read_text()
        Page(text)
        assert "(one seed)" in text

    def test_nothing_has_ended(self, tmp_path: Path) -> None:
        write_run(tmp_path, "ln", 0, status=None)
        text = build(tmp_path).read_text()
        Page(text)
        assert "No run has a test score yet." in text

    def test_all_diverged(self, tmp_path: Path) -> None:
        for norm in ("none", "bn-timestep:gain=1.0"):
            write_run(tmp_path, norm, 0, status="diverged", checkpoint=False)
        Page(build(tmp_path).read_text())
        assert [row["status"] for row in results(tmp_path)] == ["diverged", "diverged"]

    def test_a_folder_without_events_still_counts(self, tmp_path: Path) -> None:
        folder = write_run(tmp_path, "ln", 0)
        for events in folder.glob("*tfevents*"):
            events.unlink()
        Page(build(tmp_path).read_text())

    @pytest.mark.parametrize("broken", ["{", "[]", "{}", '{"status": "finished"}'])
    def test_a_broken_result_is_named_and_the_others_reported(
        self, tmp_path: Path, broken: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        write_comparison(tmp_path, ["none", "ln"], seeds=1)
        (tmp_path / "ln" / "seed=0" / "result.json").write_text(broken)
        text = build(tmp_path).read_text()
        assert "ln/seed=0/result.json cannot be read" in text
        assert "ln/seed=0/result.json cannot be read" in caplog.text
        assert {row["norm"]: row["status"] for row in results(tmp_path)} == {"none": "finished", "ln": "unreadable"}

    def test_a_metric_that_is_better_when_smaller(self, tmp_path: Path) -> None:
        options = {"task": "language-modelling", "metric": "perplexity", "metric_mode": "min"}
        write_comparison(tmp_path, ["none", "ln", "bn-shared"], seeds=2, **options)
        Page(build(tmp_path).read_text())
        means = [row.headline.mean for row in summarize(find_runs(tmp_path)).ranked]
        assert means == sorted(means)

    def test_no_runs(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"no runs in .*expected folders <norm>/seed=<k>/"):
            build(tmp_path)
        with pytest.raises(ValueError, match="is not a folder"):
            build(tmp_path / "nowhere")

    def test_two_metrics_are_no_comparison(self, tmp_path: Path) -> None:
        write_run(tmp_path, "none", 0)
        write_run(tmp_path, "ln", 0, metric="perplexity", metric_mode="min")
        with pytest.raises(ValueError, match="must share one task and metric"):
            build(tmp_path)


class TestCurves:
    def test_values_that_are_not_finite_are_left_out(self, tmp_path: Path) -> None:
        folder = write_run(tmp_path, "none", 0, status="diverged")
        curve = read_curves(folder)["train/loss"]
        assert np.isfinite(curve.value).all()
        assert curve.step[-1] == 250

    def test_band_over_seeds(self) -> None:
        steps = np.array([0.0, 10.0, 20.0])
        one = band([Curve(steps, np.array([1.0, 2.0, 3.0])), Curve(steps[:2], np.array([3.0, 4.0]))])
        assert one is not None
        assert one.mean.tolist() == [2.0, 3.0, 3.0]
        assert one.low.tolist() == [1.0, 2.0, 3.0]
        assert one.high.tolist() == [3.0, 4.0, 3.0]
        assert band([]) is None


def test_colours_are_fixed_and_differ() -> None:
    names = [*rnnnorm.presets(), "bn-timestep:gain=1.0", "ln:gain=0.5", "mine"]
    colours = [colour(name) for name in names]
    assert len(set(colours)) == len(names)
    assert colours == [colour(name) for name in names]
    assert all(re.fullmatch("#[0-9a-f]{6}", c) for c in colours)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.98765, "0.9877"), (123.456, "123.5"), (1e-7, "1e−07"), (float("nan"), "–"), (0, "0.000"), (-0.5, "−0.5000")],
)
def test_numbers_have_four_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_numbers_of_a_column_have_its_decimals() -> None:
    assert [number(value, 2) for value in (0.98765, -3.0, 2e6, math.inf)] == ["0.99", "−3.00", "2e+06", "–"]
    assert [signed(value, 2) for value in (0.98765, -3.0, 0.0)] == ["+0.99", "−3.00", "+0.00"]
    assert [p_text(value) for value in (0.5, 0.00123, 1e-5, math.nan)] == ["0.5000", "0.0012", "< 0.0001", "–"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e-4, "10⁻⁴"),
        (3e-4, "0.0003"),
        (2.5e-6, "2.5·10⁻⁶"),
        (-0.5, "−0.5"),
        (0, "0"),
        (2500, "2.5k"),
        (-1e-12, "−1·10⁻¹²"),
    ],
)
def test_numbers_at_ticks_are_short(value: float, text: str) -> None:
    assert compact(value) == text


def test_losses_of_training_are_on_a_logarithmic_axis_with_two_ticks_where_they_span_a_factor_of_four() -> None:
    steps = np.arange(5.0)
    for low in np.geomspace(0.1, 1, 8):
        for factor, expected in ((3.9, "linear"), (4.1, "log"), (12.0, "log"), (90.0, "log")):
            fall = low * np.array([factor, 2, 1.5, 1.2, 1])
            _, axes = small_canvas(LIGHT)
            panels.one_of_many(axes, "ln", "norm:0", {"ln": Band(steps, fall, fall, fall)}, LIGHT)
            assert axes.get_yscale() == expected
            bottom, top = axes.get_ylim()
            assert sum(bottom <= tick <= top for tick in axes.get_yticks()) >= 2


def test_curves_are_read_again_only_where_they_have_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_run(tmp_path, "ln", 0)
    before = read_curves(folder)
    with monkeypatch.context() as patch:
        patch.setattr(event_accumulator.EventAccumulator, "Reload", lambda self: pytest.fail("read again"))
        assert read_curves(folder)["val/loss"] is before["val/loss"]
    with SummaryWriter(str(folder)) as writer:
        writer.add_scalar("val/loss", 0.25, 10_000)
    assert read_curves(folder)["val/loss"].value[-1] == 0.25
    assert before["val/loss"].value[-1] != 0.25


def test_a_metric_that_is_the_loss_has_one_panel(comparison: Path) -> None:
    summary = summarize(find_runs(comparison))
    steps = np.arange(4.0)
    loss = {norm: Curve(steps, steps + k) for k, norm in enumerate(row.norm for row in summary.rows)}

    def shown(change: float) -> list[str]:
        curves = {
            norm: [{"val/loss": curve, "val/accuracy": Curve(curve.step, curve.value * (1 + change))}]
            for norm, curve in loss.items()
        }
        return re.findall(r'aria-label="(validation .*?) against', "".join(Figures(summary, curves).curve_svgs()))

    assert shown(1e-7) == ["validation loss (accuracy)"]
    assert shown(0.1) == ["validation loss", "validation accuracy"]


@pytest.mark.parametrize("title", ["test accuracy", "a title that is wider than the plot but for the names"])
def test_titles_stay_in_the_figure(title: str) -> None:
    figure, axes = canvas(360, 200, (150, 14, 30, 44), LIGHT)
    name_axes(axes, "x", title, LIGHT)
    box = axes._left_title.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width
    assert (box.x0 == pytest.approx(150)) == (title == "test accuracy")


def test_a_norm_is_ranked_by_the_statistics_that_belong_to_it(tmp_path: Path) -> None:
    write_comparison(tmp_path, ["none", "bn-timestep", "bn-shared"], seeds=1)
    path = tmp_path / "bn-shared" / "seed=0" / "result.json"
    result = json.loads(path.read_text())
    path.write_text(json.dumps({**result, "evaluates_by": "running"}))
    rows = {row.norm: row for row in summarize(find_runs(tmp_path)).rows}
    assert rows["bn-shared"].headline.mean == result["test"]["running"]["accuracy"]
    assert rows["bn-timestep"].headline == rows["bn-timestep"].scores["population"]
    build(tmp_path)
    assert (
        "Ranked by running averages, which their training reads, too: bn-shared."
        in (tmp_path / "summary.md").read_text()
    )


def test_a_norm_without_stored_statistics_has_one_score(tmp_path: Path) -> None:
    write_comparison(tmp_path, ["none", "bn-shared"], seeds=2)
    build(tmp_path)
    lines = (tmp_path / "summary.md").read_text().partition("## ")[0].splitlines()
    cells = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:6]] for line in lines if "|" in line
    }
    assert cells["norm"] == ["accuracy", "running", "population", "batch"]
    assert cells["none"][1:] == ["", "", ""]
    assert cells["bn-shared"][0] == cells["bn-shared"][2]
    assert all(re.fullmatch(r"0\.\d{4} ± 0\.\d{4}", text) for text in (cells["none"][0], *cells["bn-shared"]))
    (row,) = [line for line in results(tmp_path) if (line["norm"], line["seed"]) == ("none", "0")]
    assert row["test_running_accuracy"] == row["test_batch_accuracy"] != ""


def test_all_scores_have_the_same_decimals(tmp_path: Path) -> None:
    write_comparison(tmp_path, ["none", "ln"], seeds=2, metric="perplexity", metric_mode="min")
    for seed in (0, 1):
        path = tmp_path / "ln" / f"seed={seed}" / "result.json"
        result = json.loads(path.read_text())
        path.write_text(json.dumps(result | {"test": {"population": {"perplexity": 1234.5678 + seed}}}))
    summary = summarize(find_runs(tmp_path))
    assert summary.modes == ()
    decimals = {len(text.partition(".")[2]) for row in summary.rows for text in summary.scores(row)[0].split(" ± ")}
    assert decimals == {2}


def test_the_page_tells_sizes_and_hyperparameters(tmp_path: Path) -> None:
    write_comparison(tmp_path, ["none"], seeds=1)
    init = {"hidden_size": 64, "cell": "gru", "num_layers": 2, "optimizer": "adam", "learning_rate": 0.002}
    config = {
        "model": {"class_path": "x.Y", "init_args": init},
        "data": {"batch_size": 16},
        "trainer": {"max_epochs": 7},
    }
    (tmp_path / "compare.yaml").write_text(json.dumps(config))
    counts = {f"{split}_lengths": {"count": count} for split, count in (("train", 1200), ("val", 30), ("test", 40))}
    (tmp_path / "data.json").write_text(json.dumps(counts))
    text = build(tmp_path).read_text()
    for fact in (
        "1,200 train, 30 val, 40 test",
        "GRU, 2 layers of 64",
        "adam, batches of 16, 7 epochs",
        "<dd>0.002</dd>",
    ):
        assert fact in text


def test_scores_by_timestep_are_shown_where_they_differ_from_those_by_length(tmp_path: Path) -> None:
    write_comparison(tmp_path, ["none"], seeds=1)
    assert "late within a sequence" in build(tmp_path).read_text()
    path = tmp_path / "none" / "seed=0" / "result.json"
    result = json.loads(path.read_text())
    lengths = result["buckets"]["length"]
    steps = [{**one, "low": one["low"] - 1, "high": one["high"] - 1} for one in lengths]
    path.write_text(json.dumps(result | {"buckets": {"length": lengths, "step": steps}}))
    assert "late within a sequence" not in build(tmp_path).read_text()


def test_runs_that_were_cut_stand_apart(tmp_path: Path) -> None:
    write_comparison(tmp_path, ["none", "ln"], seeds=2)
    times = summarize(find_runs(tmp_path)).times
    whole = {row.norm: row for row in summarize(find_runs(tmp_path)).rows}
    write_run(tmp_path, "ln", 2, status="cut")
    write_run(tmp_path, "wn", 0, status="cut")
    old = write_run(tmp_path, "wn", 1) / "result.json"
    old.write_text(json.dumps(json.loads(old.read_text()) | {"out_of_time": True}))
    build(tmp_path)
    summary = summarize(find_runs(tmp_path))
    assert [row.norm for row in summary.ranked] == ["ln", "none"]
    for row in summary.ranked:
        assert row.headline == whole[row.norm].headline
        assert summary.times.seconds[row.norm] == times.seconds[row.norm]
    assert [line["norm"] for line in results(tmp_path) if line["status"] == "cut"] == ["ln", "wn", "wn"]
    assert all(line["test_running_accuracy"] for line in results(tmp_path))
    text = (tmp_path / "summary.md").read_text()
    assert "3 of 7 runs cut by the time limit, neither ranked nor averaged: ln/seed=2 at step 300, accuracy 0." in text
    page = (tmp_path / "report.html").read_text()
    assert "3 of 7 runs were cut by the time limit and were not ranked." in page
    assert "4 of 7 ended, 3 cut" in page
    assert '2 <span class="same">+ 1 cut</span>' in page
    assert "| 0 + 2 cut |" in text


def test_a_result_of_another_run_is_not_counted_twice(tmp_path: Path) -> None:
    write_comparison(tmp_path, ["none"], seeds=2)
    shutil.copy(tmp_path / "none" / "seed=0" / "result.json", tmp_path / "none" / "seed=1" / "result.json")
    (row,) = summarize(find_runs(tmp_path)).rows
    assert row.counts == {"finished": 1, "unreadable": 1}
    assert row.runs[1].problem.startswith("none/seed=1/result.json cannot be read (it is of another run, norm none")


def test_a_finished_run_without_a_finite_score_is_named(tmp_path: Path) -> None:
    write_comparison(tmp_path, ["none", "ln"], metric="perplexity", metric_mode="min")
    build(tmp_path)
    assert "no finite test perplexity" not in (tmp_path / "summary.md").read_text()
    for norm in ("none", "ln"):
        path = tmp_path / norm / "seed=2" / "result.json"
        result = json.loads(path.read_text())
        for scores in result["test"].values():
            scores["perplexity"] = None  # as what is not finite is written
        path.write_text(json.dumps(result))
    said = "2 of 6 runs finished but have no finite test perplexity, so that means leave out what may be the worst: "
    build(tmp_path)
    for name in ("summary.md", "report.html"):
        assert said in (tmp_path / name).read_text()


def test_one_comparison_is_not_corrected_for(tmp_path: Path) -> None:
    for norm in ("none", "ln"):
        for seed in (0, 1, 2):
            write_run(tmp_path, norm, seed)
    notes = " ".join(difference_notes(summarize(find_runs(tmp_path))))
    assert "with one comparison there is nothing to correct for" in notes
    for seed in (0, 1, 2):
        write_run(tmp_path, "wn", seed)
    assert "corrected by Holm for 3 comparisons" in " ".join(difference_notes(summarize(find_runs(tmp_path))))

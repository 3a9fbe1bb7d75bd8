"""What TensorBoard shows of a comparison: means over seeds, the verdict, the view and its colours."""

from __future__ import annotations

import html
import io
import itertools
import json
import re
import socket
import time
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from urllib.request import urlopen

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from report.fake_runs import write_comparison, write_run
from tensorboard import assets
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.util import tensor_util

from rnnnorm.board.assets import GROUPS as PALETTE
from rnnnorm.board.assets import OUTLIERS, RUNS, SETTINGS, archive
from rnnnorm.board.command import start, tensorboard
from rnnnorm.board.means import GAP, MEAN, edges, quantities, stale, write_means
from rnnnorm.board.overview import RUN, VERDICT, refresh
from rnnnorm.board.verdict import HEIGHT, WIDTH, diverged, lead, shown, verdict
from rnnnorm.board.view import comparisons, metric_of, norm_of, query, started
from rnnnorm.board.view import diverged as a_run_diverged
from rnnnorm.report.canvas import settings
from rnnnorm.report.curves import read_curves
from rnnnorm.report.runs import find_runs
from rnnnorm.report.summary import summarize
from rnnnorm.tasks import MultiLabel, Regression


def events(folder: Path) -> Any:
    return EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()


def curve(folder: Path, tag: str) -> dict[int, float]:
    found = events(folder).Scalars(tag)
    assert len({point.step for point in found}) == len(found), "a step twice"
    return {point.step: point.value for point in found}


def test_the_mean_is_over_the_seeds_that_got_as_far(tmp_path: Path) -> None:
    for seed in range(2):
        write_run(tmp_path, "bn-timestep", seed)
    write_run(tmp_path, "bn-timestep", 2, status="diverged", diverged_at=260)
    write_run(tmp_path, "bn-timestep", 3, status="cut")
    write_run(tmp_path, "bn-timestep", 4, status=None)
    norm = tmp_path / "bn-timestep"
    write_means(norm)
    seeds = [curve(norm / f"seed={seed}", "val/accuracy") for seed in range(3)]
    mean, (low, high) = curve(norm / "mean", f"{MEAN}/validation accuracy"), edges("validation accuracy")
    lows, highs = curve(norm / "mean", low), curve(norm / "mean", high)
    del mean[0]  # where these runs have their hyperparameters
    assert sorted(mean) == list(range(50, 601, 50))
    for step in mean:
        values = [seed[step] for seed in seeds if step in seed]
        assert len(values) == (3 if step <= 250 else 2)
        assert mean[step] == pytest.approx(np.mean(values), rel=1e-6)
        assert (lows[step], highs[step]) == pytest.approx((min(values), max(values)), rel=1e-6)
    one = read_curves(norm / "seed=0")
    others = [read_curves(norm / f"seed={seed}") for seed in range(2)]
    gap = [float(each["val/loss"].value[-1] - each["val/loss_batch"].value[-1]) for each in others]
    assert curve(norm / "mean", f"{MEAN}/{GAP}")[int(one["val/loss"].step[-1])] == pytest.approx(np.mean(gap), rel=1e-5)


def test_means_are_written_again_in_place_of_those_of_before(tmp_path: Path) -> None:
    write_comparison(tmp_path, ["none"], seeds=2)
    norm = tmp_path / "none"
    assert stale(norm)
    write_means(norm)
    assert not stale(norm)
    before = curve(norm / "mean", f"{MEAN}/training loss")
    write_run(tmp_path, "none", 2)
    assert stale(norm)
    write_means(norm)
    assert len(list((norm / "mean").iterdir())) == 1
    after = curve(norm / "mean", f"{MEAN}/training loss")
    assert after.keys() == before.keys()
    assert after != before
    assert f"{MEAN}/{GAP}" not in events(norm / "mean").Tags()["scalars"], "it has no stored statistics"


def test_a_norm_without_a_run_that_ended_has_no_means(tmp_path: Path) -> None:
    write_run(tmp_path, "ln", 0, status=None)
    write_means(tmp_path / "ln")
    assert not (tmp_path / "ln" / "mean").exists()


def test_the_overview_has_verdict_text_and_charts(tmp_path: Path) -> None:
    write_comparison(tmp_path, ["none", "ln", "bn-timestep"])
    refresh(tmp_path)
    found = events(tmp_path / RUN)
    (picture,) = found.Images(VERDICT)
    assert (picture.width, picture.height, picture.step) == (326, 215, 600)
    (text,) = (tensor_util.make_ndarray(one.tensor_proto).item().decode() for one in found.Tensors(RUN))
    assert "`ln` did best" in text
    assert "| norm |" in text
    assert "How to read this" in text
    (layout,) = found.Tensors("custom_scalars__config__")
    (category,) = layout_pb2.Layout.FromString(tensor_util.make_ndarray(layout.tensor_proto).item()).category
    series = [chart.margin.series[0] for chart in category.chart]
    assert [chart.title for chart in category.chart][::-1] == [*quantities("accuracy"), GAP]
    for task in (MultiLabel, Regression):
        assert list(quantities(task.metric)) == [f"validation loss ({task.metric})", "training loss"]
    there = set(events(tmp_path / "bn-timestep" / "mean").Tags()["scalars"])
    assert {tag for one in series for tag in (one.value, one.lower, one.upper)} == there
    assert not (tmp_path / "results.csv").exists()


def test_no_empty_chart_where_nothing_is_stored(tmp_path: Path) -> None:
    write_comparison(tmp_path, ["none", "ln"])
    refresh(tmp_path)
    (layout,) = events(tmp_path / RUN).Tensors("custom_scalars__config__")
    (category,) = layout_pb2.Layout.FromString(tensor_util.make_ndarray(layout.tensor_proto).item()).category
    assert [chart.title for chart in category.chart][::-1] == [*quantities("accuracy")]


def test_the_verdict_names_norms_that_diverged(tmp_path: Path) -> None:
    write_comparison(tmp_path, ["none", "ln"])
    assert diverged(summary(tmp_path)) == []
    write_run(tmp_path, "wn", 0, status="diverged", diverged_at=260)
    assert diverged(summary(tmp_path)) == ["Diverged: wn."]
    assert a_run_diverged(tmp_path)
    for norm in ("bn-shared", "bn-timestep"):
        write_run(tmp_path, norm, 0, status="diverged", diverged_at=260)
    assert diverged(summary(tmp_path)) == ["Diverged: 3 norms."]


def summary(out: Path) -> Any:
    return summarize(find_runs(out))


def test_the_verdict_claims_no_more_than_is_shown(tmp_path: Path) -> None:
    write_comparison(tmp_path / "one", ["none", "ln"], seeds=1)
    assert lead(summary(tmp_path / "one")).startswith("ln leads (accuracy 0.")
    assert shown(summary(tmp_path / "one")) == [
        "One seed cannot tell a difference from luck: two at least, better five."
    ]
    write_comparison(tmp_path / "five", ["none", "ln", "bn-shared"], seeds=5)
    found = summary(tmp_path / "five")
    sure = found.differences.best.differs
    assert ("shown to be ahead of none" if sure else "cannot be told apart from none") in lead(found)
    names = {one.norm for one in found.differences.others if one.differs}
    assert names == {"ln", "bn-shared"}
    assert shown(found) == ["Shown against none: better: ln; worse: bn-shared."]
    write_run(tmp_path / "none", "none", 0, status="diverged", checkpoint=False)
    assert lead(summary(tmp_path / "none")) == "No run has a test score yet."
    write_comparison(tmp_path / "alone", ["ln"], seeds=2)
    assert re.fullmatch(r"ln: accuracy 0\.\d+, 2 seeds", lead(summary(tmp_path / "alone")))
    assert shown(summary(tmp_path / "alone")) == []


def test_no_label_of_the_verdict_is_cut_or_on_another_one(tmp_path: Path) -> None:
    norms = ["none", "wn", "ln", "ln-carried", "bn-shared", "bn-vertical-framewise", f"bn-timestep:gain=0.{'1' * 30}"]
    write_comparison(tmp_path, norms, seeds=5)
    write_run(tmp_path, "wn", 0, status="diverged", checkpoint=False)
    with settings():
        figure = verdict(summary(tmp_path))
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        (axes,) = figure.axes
        low, high = axes.get_xlim()
        ticks = [label for label in axes.get_xticklabels() if low <= label.get_position()[0] <= high]
        labels = [*figure.texts, *ticks, *axes.get_yticklabels(), axes.xaxis.label]
        boxes = {label.get_text(): label.get_window_extent(canvas.get_renderer()) for label in labels}  # type: ignore[no-untyped-call]
    assert "Diverged: wn." in boxes
    assert len(boxes) > 10
    for text, box in boxes.items():
        assert box.x0 > -1, text
        assert box.y0 > -1, text
        assert box.x1 < WIDTH + 1, text
        assert box.y1 < HEIGHT + 1, text
    for (one, a), (other, b) in itertools.combinations(boxes.items(), 2):
        wide, high = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert wide <= 1 or high <= 0.25 * min(a.height, b.height), f"{one!r} is on {other!r}"


def parsed(address: str) -> tuple[dict[str, str], list[dict[str, Any]]]:
    parts = urlsplit(address)
    assert parts.fragment == "timeseries"
    keys = {key: value for key, (value,) in parse_qs(parts.query).items()}
    return keys, json.loads(keys.pop("pinnedCards"))


def test_the_view_pins_the_verdict_and_the_means_or_what_moves(tmp_path: Path) -> None:
    keys, pinned = parsed(query(["accuracy"], done=True))
    assert keys["smoothing"] == "0"
    assert keys["runColorGroup"].startswith("regex:")
    assert [card["tag"] for card in pinned] == [
        VERDICT, f"{MEAN}/validation accuracy", f"{MEAN}/validation loss",
    ]  # fmt: skip
    assert pinned[0] == {"plugin": "images", "tag": VERDICT, "runId": "defaultExperimentId/comparison", "sample": 0}
    _, pinned = parsed(query(["loss"], done=False))
    assert [card["tag"] for card in pinned][:2] == ["val/loss", "train/loss"]
    _, pinned = parsed(query(["accuracy"], done=True, names=["a", "b"]))
    assert [card["runId"] for card in pinned[:2]] == [f"defaultExperimentId/{name}/comparison" for name in "ab"]
    _, pinned = parsed(query(["accuracy", "nll"], done=True, names=["a", "b"]))
    assert [card["tag"] for card in pinned[2:]] == [
        f"{MEAN}/validation {name}" for name in ("accuracy", "loss (nll)", "loss")
    ]  # fmt: skip
    write_run(tmp_path, "ln", 0, status=None)
    assert metric_of(tmp_path) == "accuracy", "from its curves"
    write_run(tmp_path, "ln", 1, metric="perplexity")
    assert metric_of(tmp_path) == "perplexity"


def test_seeds_and_mean_of_a_norm_are_one_group() -> None:
    for name in ("bn-timestep,gain=1.0/seed=3", "bn-timestep,gain=1.0/mean", "runs/bn-timestep,gain=1.0/seed=0"):
        assert norm_of(name) == "bn-timestep:gain=1.0"
    assert norm_of(RUN) is None
    assert norm_of("tuning") is None


def test_the_installed_page_takes_other_colours() -> None:
    provide = assets.get_default_assets_zip_provider()
    with provide() as file:
        content, recoloured = archive(file.read(), ["#111111", "#222222"], ["#333333"], "?a=1&b=2#timeseries")
    assert recoloured
    with zipfile.ZipFile(io.BytesIO(content)) as page:
        script, index = page.read("index.js").decode(), page.read("index.html").decode()
        assert 'url=./?a=1&amp;b=2#timeseries"' in page.read("view.html").decode()
    groups, runs = PALETTE.search(script), RUNS.search(script)
    assert groups is not None
    assert runs is not None
    assert '"lightHex": "#111111"' in groups[0]
    assert runs[0].endswith('["#333333"]')
    for old, new in {**SETTINGS, **OUTLIERS}.items():
        assert new in script
        assert old not in script
    with provide() as file:
        content, _ = archive(file.read(), [], [], "", outliers=False)
    with zipfile.ZipFile(io.BytesIO(content)) as page:
        assert all(old in page.read("index.js").decode() for old in OUTLIERS)
    assert "index.js?_file_hash=" in index


def test_a_page_without_that_palette_stays_as_it_is() -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as page:
        page.writestr("index.js", "colours={}")
        page.writestr("index.html", 'src="index.js?_file_hash=00"')
    content, recoloured = archive(packed.getvalue(), ["#111111"], [], "?x#timeseries")
    assert not recoloured
    with zipfile.ZipFile(io.BytesIO(content)) as page:
        assert (page.read("index.js"), page.read("index.html")) == (b"colours={}", b'src="index.js?_file_hash=00"')


def test_the_server_shows_the_comparison_in_the_colours_of_the_report(tmp_path: Path) -> None:
    write_comparison(tmp_path, ["ln", "none"], seeds=2)
    (tmp_path / "data.json").write_text('{"norms": ["none", "wn", "ln"]}')
    address = start([tmp_path], port=0, host="127.0.0.1")
    base = address.removesuffix("view.html")

    def ask(path: str) -> str:
        with urlopen(base + path, timeout=30) as answer:
            return str(answer.read().decode())

    assert "defaultExperimentId%2Fcomparison" in ask("view.html")
    expected = started([tmp_path])
    assert len(expected) == 7
    for _ in range(60):
        if len(runs := json.loads(ask("data/runs"))) == len(expected):
            break
        time.sleep(0.5)  # it is still reading
    assert runs == expected
    script = ask("index.js")
    found = PALETTE.search(script)
    assert found is not None
    assert re.findall(r"#\w{6}", found[0])[:9:3] == ["#48bc90", "#878787", "#b04db1"], "begun: ln, none; planned: wn"


def test_a_folder_of_comparisons_shows_all_of_them(tmp_path: Path) -> None:
    assert comparisons(tmp_path) == [tmp_path]
    for name in ("a, b: c", "späße #1 100%"):
        write_comparison(tmp_path / name, ["ln", "none"], seeds=2)
    assert comparisons(tmp_path / "a, b: c") == [tmp_path / "a, b: c"]
    assert comparisons(tmp_path) == [tmp_path / "a, b: c", tmp_path / "späße #1 100%"]
    address = start([tmp_path], port=0, host="127.0.0.1")
    with urlopen(address, timeout=30) as answer:
        page = html.unescape(answer.read().decode())
    found = re.search(r"url=\./(\S+)\">", page)
    assert found is not None
    keys, pinned = parsed(found[1])
    assert [card["runId"] for card in pinned[:2]] == [
        f"defaultExperimentId/{name}/comparison" for name in ("a, b: c", "späße #1 100%")
    ]
    with urlopen(address.replace("view.html", "data/runs"), timeout=30) as answer:
        runs = json.load(answer)
    assert all(re.match(keys["runColorGroup"].removeprefix("regex:"), run) for run in runs if "seed" in run)


def test_on_all_interfaces_the_address_names_this_machine(tmp_path: Path) -> None:
    write_run(tmp_path, "ln", 0)
    address = start([tmp_path], port=0, host="0.0.0.0")
    assert re.fullmatch(rf"http://{re.escape(socket.gethostname())}:\d+/view\.html", address)


def test_what_cannot_be_shown_is_said_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere is not a folder; expected the output folder of `rnnnorm compare`"):
        tensorboard([str(tmp_path / "nowhere")])
    with pytest.raises(ValueError, match="holds no curves"):
        tensorboard([str(tmp_path)])
    write_run(tmp_path / "a" / "x", "ln", 0)
    write_run(tmp_path / "b" / "x", "ln", 0)
    with pytest.raises(ValueError, match="folders of different names"):
        tensorboard([str(tmp_path / "a" / "x"), str(tmp_path / "b" / "x")])
    for port, said in (("-3", "--port must be 0 to 65535, got -3"), ("99999", "got 99999")):
        with pytest.raises(ValueError, match=said):
            tensorboard([str(tmp_path / "a" / "x"), "--port", port])
    with pytest.raises(ValueError, match=r"--host no\.invalid: .*; expected a name or address of this machine"):
        tensorboard([str(tmp_path / "a" / "x"), "--host", "no.invalid"])
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with pytest.raises(ValueError, match=f"--port {port} is taken"):
            tensorboard([str(tmp_path / "a" / "x"), "--port", port])

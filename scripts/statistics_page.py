"""Write docs/statistics.md and its figure: what evaluation of batch normalization depends on, measured.

python scripts/statistics_page.py --data-dir data      # trains 19 small networks first, about ten minutes

What has been trained and measured is kept in the output folder, and only the rest is done.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from torch import Tensor

import rnnnorm
from rnnnorm.compare.comparison import Comparison
from rnnnorm.compare.runner import compare
from rnnnorm.data import SequenceDataModule
from rnnnorm.data.collate import collate
from rnnnorm.engine.run import Run
from rnnnorm.norms import BatchNorm
from rnnnorm.report.canvas import LIGHT, dress, name_axes
from rnnnorm.studies.measures.slots import Moments, Slots, exchanged, put, stored, with_error
from rnnnorm.tasks import SequenceTask

DOCS = Path(__file__).parents[1] / "docs"
PAGE = Path(__file__).with_name("statistics_page.md")
CURED = "bn-timestep:mute=true:by_rows=true"
ROW_MNIST = ["-c", "row-mnist", "--norms", f"bn-timestep,{CURED}", "--seeds", "5", "--trainer.max_epochs", "2"]
ORDER = ["--norms", f"bn-timestep,{CURED},bn-star", "--seeds", "3"]
TRAINED = {"rows": (ROW_MNIST, "bn-timestep"), "order": (ORDER, "bn-timestep"), "star": (ORDER, "bn-star")}
DURING = {"rows": (ROW_MNIST, CURED), "order": (ORDER, CURED)}
NAMES = {
    "rows": "MNIST row by row, `bn-timestep`",
    "order": "temporal order, `bn-timestep`",
    "star": "temporal order, `bn-star`",
}
ROWS = (32, 100, 300, 1000, 4000)
SETS = {"none": (), "0": (0,), "1": (1,), "0, 1": (0, 1), "0–3": tuple(range(4)), "all": tuple(range(1000))}
INJECTED = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 3e-2, 1e-1, 0.3, 1.0)


def accuracy(model: SequenceTask, data: SequenceDataModule, source: str = "population") -> float:
    """Test accuracy by the statistics named."""
    with torch.no_grad(), rnnnorm.statistics(model, source):
        scores = torch.cat([model.scores(batch).score for batch in data.test_dataloader()])
    return float(scores.double().mean())


def at_steps(moments: Moments, steps: Iterable[int]) -> Slots:
    """The slots of some timesteps at all places; one slot for all steps counts as 0."""
    wanted = torch.tensor(list(steps), dtype=torch.long)
    return [torch.isin(torch.arange(len(rows)), wanted) for _, _, rows in moments]


def ways(model: SequenceTask, data: SequenceDataModule) -> Iterator[tuple[str, float, Moments | None]]:
    """Accuracy in every way of evaluation, and what was stored."""
    yield "running", accuracy(model, data, "running"), stored(model, "running")
    yield "batch", accuracy(model, data, "batch"), None
    rnnnorm.recalibrate(model, data.train_dataloader(), forward=model.encode, way="pooled", rows=None)
    yield "pooled", accuracy(model, data), stored(model)
    examples = data.examples("train")
    order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(0)).tolist()
    for rows in (*[rows for rows in ROWS if rows < len(examples)], len(examples)):
        one = collate([examples[k] for k in order[:rows]], data.task)
        rnnnorm.recalibrate(model, [one], forward=model.encode)
        yield str(rows) if rows < len(examples) else "all", accuracy(model, data), stored(model)
    # The same numbers but for the rounding of float32: rows are normalized by moments that torch takes in float32, and
    # the stored ones are taken in float64.
    backend, model.recurrent.backend = model.recurrent.backend, "reference"
    one = collate(list(examples[:4000]), data.task)
    rnnnorm.recalibrate(model, [one], forward=model.encode, way="pooled")
    yield "rounded", accuracy(model, data), None
    rnnnorm.recalibrate(model, [one], forward=model.encode)
    yield "unrounded", accuracy(model, data), None
    model.recurrent.backend = backend


@torch.no_grad()
def mismatch(model: SequenceTask, data: SequenceDataModule, source: str) -> list[float]:
    """How far each slot's stored mean is from the mean that evaluation meets there, in units of the stored √(σ² + ε).

    Root mean square over the features of all places, over the rows of the test set.
    """
    found: dict[tuple[Any, int], list[Tensor]] = {}
    norms = [m for m in model.modules() if isinstance(m, BatchNorm) and m.per_step]

    def look(norm: BatchNorm, args: tuple[Any, ...]) -> None:
        rows, t = args[0], args[1] if len(args) > 1 else 0
        found.setdefault((norm, t), []).append(torch.cat([rows.sum(0), rows.new_tensor([len(rows)])]).double())

    hooks = [norm.register_forward_pre_hook(look) for norm in norms]
    with rnnnorm.statistics(model, source):
        for batch in data.test_dataloader():
            model.encode(batch)
        by_step: dict[int, list[Tensor]] = {}
        for (norm, t), sums in found.items():
            total = torch.stack(sums).sum(0)
            mean_, var = norm.stats.recall(t)
            by_step.setdefault(t, []).append(
                (total[:-1] / total[-1] - mean_.double()) / (var.double() + norm.eps).sqrt()
            )
    for hook in hooks:
        hook.remove()
    return [float(torch.cat(by_step[t]).square().mean().sqrt()) for t in sorted(by_step)]


def deviation_by_slot(right: Moments) -> list[float]:
    """√ of the median variance over features and places, per slot."""
    return [float(v) for v in torch.cat([var for _, var, n in right if len(n) > 1], 1).double().median(1).values.sqrt()]


def injected(model: SequenceTask, data: SequenceDataModule, right: Moments, slot: int) -> list[float]:
    """Accuracy when the means of one slot are off by ±δ, alternately over features, at every place."""
    found = []
    for size in INJECTED:
        put(model, with_error(right, at_steps(right, (slot,)), [size] * len(right)))
        found.append(accuracy(model, data))
    return found


def measure(model: SequenceTask, data: SequenceDataModule) -> dict[str, Any]:
    """Everything about one trained network."""
    found = list(ways(model, data))
    moments = {name: kept for name, _, kept in found if kept is not None}
    right = moments["all"]
    result: dict[str, Any] = {"ways": {name: value for name, value, _ in found}}
    result["mismatch"] = {}
    for name in ("running", "pooled", "1000"):
        put(model, moments[name])
        result["mismatch"][name] = mismatch(model, data, "population")
    result["deviation"] = deviation_by_slot(right)
    result["replaced"] = {}
    for name in ("running", "pooled"):
        scores = {}
        for label, slots in SETS.items():
            put(model, exchanged(moments[name], right, at_steps(right, slots)))
            scores[label] = accuracy(model, data)
        result["replaced"][name] = scores
    result["injected"] = {str(slot): injected(model, data, right, slot) for slot in (0, 1, 10)}
    return result


def trained(arguments: Sequence[str], norm: str) -> Iterator[tuple[int, SequenceTask, SequenceDataModule]]:
    """The networks of a comparison with their last weights."""
    comparison = Comparison(list(arguments))
    for seed in comparison.seeds:
        run = Run(norm, seed, comparison.out)
        _, model = comparison.build(run, None, [])  # type: ignore[arg-type]
        model.load_state_dict(torch.load(run.last, map_location="cpu", weights_only=True)["state_dict"])
        yield seed, model.eval(), comparison.datamodule  # type: ignore[misc]


def collect(out: Path, data_dir: str) -> dict[str, dict[str, Any]]:
    """Train and measure whatever has not been."""
    results: dict[str, dict[str, Any]] = {}
    for key, (arguments, norm) in TRAINED.items():
        place = out / f"{key}.json"
        if not place.is_file():
            full = command(arguments, out, data_dir)
            compare(full)
            measured = {}
            for seed, model, data in trained(full, norm):
                measured[str(seed)] = measure(model, data)
                ways_ = measured[str(seed)]["ways"]
                print(key, "seed", seed, {name: round(value, 3) for name, value in ways_.items()}, flush=True)
            place.write_text(json.dumps(measured), encoding="utf-8")
        results[key] = json.loads(place.read_text(encoding="utf-8"))
    for key, (arguments, norm) in DURING.items():
        place = out / f"{key}-during.json"
        if not place.is_file():
            full = command(arguments, out, data_dir)
            compare(full)  # what has been trained is skipped
            measured = {str(seed): accuracy(model, data, "running") for seed, model, data in trained(full, norm)}
            place.write_text(json.dumps(measured), encoding="utf-8")
        for seed, value in json.loads(place.read_text(encoding="utf-8")).items():
            results[key][seed]["ways"]["muted"] = value
    return results


def command(arguments: Sequence[str], out: Path, data_dir: str) -> list[str]:
    """A comparison on one thread, in its folder."""
    real = "-c" in arguments
    data_keys = ["--data-dir", data_dir] if real else []
    return [*arguments, *data_keys, "--threads", "1", "--out", str(out / ("rows" if real else "order"))]


def over_seeds(results: dict[str, Any], pick: Callable[[dict[str, Any]], float]) -> list[float]:
    """One number per seed."""
    return [pick(one) for one in results.values()]


def cell(values: Sequence[float]) -> str:
    """Mean ± standard deviation, without the leading 0."""
    text = f"{mean(values):.3f} ± {stdev(values):.3f}"
    return text.replace("0.", ".").replace("1..", "1.")


def tables(results: dict[str, dict[str, Any]]) -> dict[str, str]:
    """The tables of the page."""
    shown = {
        "running": "running averages",
        "pooled": "pooled: each batch by its own moments, whole training set",
        "32": "one batch of 32 training sequences",
        "100": "one batch of 100",
        "300": "one batch of 300",
        "1000": "one batch of 1,000",
        "all": "all training sequences as one batch",
        "batch": "*each test batch by its own moments*",
    }
    head = "| statistics | " + " | ".join(NAMES[key] for key in results) + " |\n|---|" + "---:|" * len(results)
    lines = []
    for name, words in shown.items():
        values = [cell(over_seeds(one, lambda r, n=name: r["ways"][n])) for one in results.values()]
        lines.append(f"| {words} | " + " | ".join(values) + " |")
    replaced = ["| slots taken from the one batch | others running | others pooled |\n|---|---:|---:|"]
    for label in SETS:
        values = [
            cell(over_seeds(results["rows"], lambda r, n=name, s=label: r["replaced"][n][s]))
            for name in ("running", "pooled")
        ]
        replaced.append(f"| {label} | " + " | ".join(values) + " |")
    rounding = ["| | " + " | ".join(NAMES[key] for key in results) + " |\n|---|" + "---:|" * len(results)]
    for name, words in (("rounded", "stored means rounded otherwise"), ("unrounded", "the very numbers used")):
        values = [cell(over_seeds(one, lambda r, n=name: r["ways"][n])) for one in results.values()]
        rounding.append(f"| {words} | " + " | ".join(values) + " |")
    during = ["| running averages | " + " | ".join(NAMES[key] for key in DURING) + " |\n|---|" + "---:|" * len(DURING)]
    for name, words in (("running", "as usual"), ("muted", f"`{CURED.removeprefix('bn-timestep:')}`")):
        values = [cell(over_seeds(results[key], lambda r, n=name: r["ways"][n])) for key in DURING]
        during.append(f"| {words} | " + " | ".join(values) + " |")
    return {
        "during": "\n".join(during),
        "ways": "\n".join([head, *lines]),
        "replaced": "\n".join(replaced),
        "rounding": "\n".join(rounding),
    }


def draw(results: dict[str, dict[str, Any]], path: Path) -> None:
    """The figure: errors by slot, injected errors, replaced slots, rows."""
    figure, ((errors, inject), (replace, rows)) = plt.subplots(2, 2, figsize=(11, 7.4), dpi=130)
    for axes in (errors, inject, replace, rows):
        dress(axes, LIGHT)
    one = results["rows"]
    paints = {"running": "#c2571a", "pooled": "#2d6779", "1000": "#4e9a51"}
    labels = {"running": "running averages", "pooled": "pooled over 500 batches", "1000": "one batch of 1,000"}
    for name, paint in paints.items():
        _band(errors, [r["mismatch"][name] for r in one.values()], paint, labels[name])
    deviation = [max(mean(parts), 1e-4) for parts in zip(*(r["deviation"] for r in one.values()), strict=True)]
    errors.plot(range(len(deviation)), deviation, ":", color=LIGHT.ink, label="median σ of the slot")
    errors.axhline(1e-5**0.5, color=LIGHT.muted, linewidth=1, linestyle=(0, (2, 3)))
    errors.text(len(deviation) - 1, 1e-5**0.5, "√ε", color=LIGHT.muted, ha="right", va="bottom", fontsize=10)
    errors.set_yscale("log")
    errors.set_ylim(1e-4, 1e3)
    errors.legend(frameon=False, fontsize=9, ncol=2, loc="upper right")
    name_axes(errors, "slot (row of the image)", "Mean met in evaluation minus stored mean, in √(σ² + ε)", LIGHT)
    for slot, paint in (("0", "#c2571a"), ("1", "#d9a441"), ("10", "#2d6779")):
        values = [[r["injected"][slot][k] for k in range(len(INJECTED))] for r in one.values()]
        _band(inject, values, paint, f"slot {slot}", x=INJECTED)
    inject.set_xscale("log")
    inject.set_ylim(0, 1)
    inject.legend(frameon=False, fontsize=9)
    name_axes(inject, "size of the error put into the means of one slot", "Test accuracy with an error injected", LIGHT)
    places = range(len(SETS))
    for offset, name in ((-0.19, "running"), (0.19, "pooled")):
        values = [over_seeds(one, lambda r, n=name, s=label: r["replaced"][n][s]) for label in SETS]
        replace.bar([p + offset for p in places], [mean(v) for v in values], 0.36, color=paints[name], alpha=0.8,
                    label=f"others {'running' if name == 'running' else 'pooled'}")  # fmt: skip
        for p, v in zip(places, values, strict=True):
            replace.plot([p + offset] * len(v), v, "o", color=LIGHT.ink, markersize=2.5)
    replace.set_xticks(list(places), list(SETS))
    replace.set_ylim(0, 1.15)
    replace.legend(frameon=False, fontsize=9, loc="upper left", ncol=2)
    name_axes(replace, "slots taken from one batch of all rows", "Test accuracy when single slots are replaced", LIGHT)
    for key, paint in (("rows", "#2d6779"), ("order", "#c2571a"), ("star", "#7a4fa3")):
        sizes = [str(size) for size in ROWS]
        _band(rows, [[r["ways"].get(s, r["ways"]["all"]) for s in sizes] for r in results[key].values()], paint,
              NAMES[key].replace("`", ""), x=ROWS)  # fmt: skip
        pooled = mean(over_seeds(results[key], lambda r: r["ways"]["pooled"]))
        rows.axhline(pooled, color=paint, linestyle=(0, (4, 3)), linewidth=1.2)
    rows.set_xscale("log")
    rows.set_ylim(0, 1)
    rows.legend(frameon=False, fontsize=9, loc="lower right")
    name_axes(
        rows, "sequences in the one batch (dashed: whole training set, pooled)", "Test accuracy by one batch", LIGHT
    )
    figure.tight_layout(h_pad=2.2, w_pad=2.2)
    figure.savefig(path)


def _band(
    axes: Axes, values: Sequence[Sequence[float]], paint: str, label: str, x: Sequence[float] | None = None
) -> None:
    columns = list(zip(*values, strict=True))
    at = list(range(len(columns))) if x is None else list(x)
    axes.plot(at, [mean(c) for c in columns], color=paint, linewidth=2, label=label, marker="o", markersize=3)
    axes.fill_between(at, [min(c) for c in columns], [max(c) for c in columns], color=paint, alpha=0.15, linewidth=0)


def main(argv: Sequence[str] | None = None) -> None:
    """Train, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", required=True, help="where MNIST lies")
    parser.add_argument("--out", type=Path, default=Path("runs/statistics"), help="what is trained and measured")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of the page; default: docs")
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    results = collect(given.out, given.data_dir)
    draw(results, given.docs / "statistics.png")
    text = PAGE.read_text(encoding="utf-8")
    for name, table in tables(results).items():
        text = text.replace("{" + name + "}", table)
    (given.docs / "statistics.md").write_text(text, encoding="utf-8")
    print(given.docs / "statistics.md")


if __name__ == "__main__":
    main()

"""Page docs/performance.md and its figure, from what `rnnnorm bench --json` has measured.

rnnnorm bench --json bench.json
rnnnorm bench --parts dense --threads 1 --malloc no-trim --json one-kept.json     # and other settings
python scripts/performance.py bench.json --beside one-kept.json …
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from rnnnorm.bench.document import Benchmark, load
from rnnnorm.bench.figure import draw
from rnnnorm.bench.machine import one_line
from rnnnorm.bench.records import AT_PEAK, OURS, PRODUCTS, RATIO, SHARE, geometric_mean, pick
from rnnnorm.bench.sheets import sheets, summary_sheet

DOCS = Path(__file__).parents[1] / "docs"

PAGE = Path(__file__).with_name("performance_page.md")


def limit(run: Benchmark) -> str:
    """What the bare products say, and the processor's peak."""
    found = pick(run.records, part="dense", contender=PRODUCTS, metric=RATIO)
    ours = pick(run.records, part="dense", contender=OURS, metric=RATIO, norm="none")
    if not len(found) or not len(ours):
        return "Bare products were not measured in this run."
    products, none = geometric_mean(found["median"]), geometric_mean(ours["median"])
    peak = pick(run.records, part="dense", contender=AT_PEAK, metric=RATIO)
    shares = pick(run.records, part="dense", contender=OURS, metric=SHARE, norm="none")
    floor = ""
    if len(peak) and len(shares):
        reached = ", ".join(f"{r.median:.2f} at ({r.shape})" for r in shares.itertuples())
        first = peak.iloc[0]
        steps, rows, inputs, units = (int(size) for size in str(first["shape"]).split(","))
        rate = 24 * steps * rows * units * (inputs + units) / first["ms"] / 1e6 / run.machine["threads"]
        floor = (
            "\n\n*Products at FMA peak* are as many multiply-adds as these products take, in registers, with no\n"
            f"matrix at all: {geometric_mean(peak['median']):.2f} of the time of `torch.nn.LSTM`. No implementation\n"
            f"can be faster. It is {rate:.0f} GFLOP/s a thread here. The share of it which the compiled scan reaches\n"
            f"without normalizers, all its other work included, is {reached}."
        )
    return (
        "*Bare products* are the matrix products of a training step and nothing else, by `torch.mm` into memory that\n"
        f"was allocated beforehand. They take {products:.2f} of the time of `torch.nn.LSTM` (geometric mean, dense);\n"
        f"the compiled scan without normalizers takes {none:.2f} for everything, since its own products, with weights\n"
        "packed once per call, run faster than `torch.mm` at these sizes." + floor
    )


def settings(runs: Sequence[Benchmark]) -> str:
    """Training steps by threads and allocator, ratio to torch.nn.LSTM in the same setting, as a table."""
    norms = list(
        dict.fromkeys(norm for run in runs for norm in pick(run.records, part="dense", contender=OURS)["norm"])
    )
    lines = ["| threads | malloc | " + " | ".join(norms) + " |", "|---:|---|" + "---:|" * len(norms)]
    for run in runs:
        found = pick(run.records, part="dense", contender=OURS, metric=RATIO)
        of = {norm: f"{geometric_mean(its['median']):.2f}" for norm, its in found.groupby("norm")}
        first = f"| {run.machine['threads']} | {run.machine.get('malloc', 'default')} | "
        lines.append(first + " | ".join(of.get(norm, "–") for norm in norms) + " |")
    return "\n".join(lines) + "\n"


def joined(run: Benchmark, newer: Sequence[Benchmark]) -> Benchmark:
    """A run with the parts of newer ones in place of its own."""
    records = run.records
    for other in newer:
        records = pd.concat([records[~records["part"].isin(other.records["part"])], other.records], ignore_index=True)
    return replace(run, records=records)


def told(newer: Sequence[Benchmark]) -> str:
    """Parts that were measured later, one line each."""
    lines = []
    for run in newer:
        parts = ", ".join(f"*{part}*" for part in run.records["part"].unique())
        machine = run.machine
        lines.append(f"\n- {parts}: {machine['date']}, load {machine['load']}, {one_line(machine)}, `{run.command}`")
    return "".join(lines)


def page(run: Benchmark, figure: str, beside: Sequence[Benchmark] = (), newer: Sequence[Benchmark] = ()) -> str:
    """The page as Markdown."""
    run = joined(run, newer)
    tables = [f"## {s.title}\n\n{s.markdown()}" for s in sheets(run.records) if not s.title.startswith("Summary")]
    machine = run.machine
    return PAGE.read_text(encoding="utf-8").format(
        machine=one_line(machine),
        date=machine["date"],
        load=machine["load"],
        command=(run.command if "`" in run.command else f"`{run.command}`") + told(newer),
        figure=figure,
        summary=summary_sheet(run.records).markdown(),
        limit=limit(run),
        settings=settings([run, *beside]),
        sheets="\n\n".join(tables),
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Read the numbers, write page and figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("json", type=Path, help="written by `rnnnorm bench --json`")
    parser.add_argument("--beside", type=Path, nargs="+", default=[], help="the same with other threads and --malloc")
    parser.add_argument("--newer", type=Path, nargs="+", default=[], help="runs whose parts replace those of the first")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of the page; default: docs")
    given = parser.parse_args(argv)
    run = load(given.json)
    newer = [load(path) for path in given.newer]
    draw(joined(run, newer), given.docs / "performance.png")
    text = page(run, "performance.png", [load(path) for path in given.beside], newer)
    (given.docs / "performance.md").write_text(text, encoding="utf-8")
    print(given.docs / "performance.md")


if __name__ == "__main__":
    main()

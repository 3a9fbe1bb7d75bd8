"""Write docs/published.md from the runs of the rows of experiments/published.

    python scripts/published_page.py runs/published      # publish the runs there, and write the page
    python scripts/published_page.py                     # the page alone, from what is published

Runs are in folders ROW, ROW-scaled, and ROW-scaled-VARIANT with the further options that the row has for a variant.

Measurements are kept in docs/published/measurements.tar.xz, and the page is made from them alone, so that both agree.
What the papers say is scripts/published_rows.yaml, the prose of the page scripts/published_page.md.
"""

from __future__ import annotations

import argparse
import math
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from findings.templates import environment
from measurements import keep

from rnnnorm.common.estimate import estimate
from rnnnorm.report.differences import Difference, differences
from rnnnorm.report.inference import ALPHA, holm
from rnnnorm.report.markdown import markdown_table
from rnnnorm.report.numbers import common_places, number, p_text, places, signed
from rnnnorm.report.runs import find_runs, read_data
from rnnnorm.report.summary import Row, Summary, summarize
from rnnnorm.report.tuning import read_tuning

SCRIPTS = Path(__file__).parent
DOCS = SCRIPTS.parent / "docs"
EXPERIMENTS = SCRIPTS.parent / "experiments" / "published"
SIZES = ("", "-scaled")
"""Ends of the names of a row's two files."""
RATE = "model.learning_rate"
TRAINING = "training"
"""Mode of an ordering of the mean losses of the last epoch, nats."""
SEEDS = 5
"""Seeds that each norm needs for its row to count as run."""


@dataclass(frozen=True)
class Claim:
    """An ordering that a paper reports, and what came of it: the paired difference, its corrected p, a verdict."""

    better: str
    worse: str
    at: int | None
    found: Difference | None
    p: float

    @property
    def verdict(self) -> str:
        if self.found is None:
            return "not measured"
        if not self.p < ALPHA:
            return "open"
        return "yes" if self.found.seedwise.mean > 0 else "the reverse"


def seed_scores(row: Row, mode: str, at: int | None) -> dict[int, float]:
    """Scores by seed: of the whole test split, of its sequences of one length, or the loss of the last epoch."""
    if mode == TRAINING:
        return {run.seed: run.number("train_loss") for run in row.uncut if math.isfinite(run.number("train_loss"))}
    if at is None:
        return {run.seed: run.score(mode, row.metric) for run in row.uncut if run.facts}
    found = {}
    for run in row.uncut:
        buckets = [one for one in run.buckets.get("length", ()) if one.low <= at <= one.high]
        if buckets:
            found[run.seed] = buckets[0].scores.get(mode, math.nan)
    return found


def judge(summary: Summary, claims: Sequence[Mapping[str, Any]]) -> list[Claim]:
    """Each ordering by differences paired by seed, with Holm's correction over all of them."""
    rows = {row.norm: row for row in summary.rows}
    pairs: list[Difference | None] = []
    for one in claims:
        scores = []
        for side in (one["better"], one["worse"]):
            norm, _, mode = side.partition("|")
            row = rows.get(norm)
            scores.append({} if row is None else seed_scores(row, mode or row.headline_mode, one.get("at")))
        larger = summary.larger_is_better and not one["better"].endswith(f"|{TRAINING}")
        if any(not its for its in scores):
            pairs.append(None)
            continue
        found = differences({"a": scores[0], "b": scores[1]}, ["a", "b"], "b", larger).others
        pairs.append(found[0] if found and len(found[0].seeds) > 1 else None)
    corrected = iter(holm([pair.p for pair in pairs if pair is not None]))
    return [
        Claim(one["better"], one["worse"], one.get("at"), pair, math.nan if pair is None else next(corrected))
        for one, pair in zip(claims, pairs, strict=True)
    ]


def claims_table(claims: Sequence[Claim]) -> list[str]:
    """Orderings of the paper with our differences; positive where the paper's order came out."""
    lines = []
    for one in claims:
        fields = [_side(one.better), _side(one.worse), "all" if one.at is None else str(one.at)]
        if one.found is None:
            lines.append([*fields, "–", "–", "–", one.verdict])
            continue
        its = one.found.seedwise
        digits = places(10 * abs(its.mean))
        interval = f"{signed(its.mean, digits)} [{signed(its.low, digits)}, {signed(its.high, digits)}]"
        lines.append([*fields, interval, f"{one.found.ahead:g} of {len(one.found.ended)}", p_text(one.p), one.verdict])
    return markdown_table(
        ["ahead in the paper", "of", "length", "ours, by seed", "seeds ahead", "p (Holm)", "came out"], lines
    )


def _side(text: str) -> str:
    norm, _, mode = text.partition("|")
    if mode == TRAINING:
        return f"`{norm}`, training loss"
    return f"`{norm}`" + (f" by {mode} statistics" if mode else "")


def scores_table(summary: Summary, numbers: Mapping[str, str], rates: Mapping[str, str] | None = None) -> list[str]:
    """Norms, best first: the paper's number, ours with its interval over the seeds, training loss, tuned rates."""
    digits = common_places(row.headline.mean for row in summary.ranked)
    lines = []
    for row in summary.rows:
        its = estimate(row.headline.values)
        ours = number(its.mean, digits)
        if its.n > 1:
            ours += f" [{number(its.low, digits)}, {number(its.high, digits)}]"
        trained = estimate(list(seed_scores(row, TRAINING, None).values()))
        loss = number(trained.mean, places(trained.mean)) if trained.n else "–"
        lines.append([f"`{row.norm}`", numbers.get(row.norm, "–"), ours, loss, str(its.n), row.outcome])
    head = ["norm", "paper", f"ours: test {summary.metric}", "training loss, last epoch", "seeds", "runs"]
    if all(line[3] == "–" for line in lines):
        head, lines = head[:3] + head[4:], [line[:3] + line[4:] for line in lines]
    if rates:
        head, lines = (
            [*head, "learning rate"],
            [[*line, rates.get(row.norm, "–")] for line, row in zip(lines, summary.rows, strict=True)],
        )
    return markdown_table(head, lines)


def tuned_rates(folder: Path) -> dict[str, str]:
    """Learning rates that a comparison with `--tune` chose, by norm; empty where it tuned none."""
    tuning = read_tuning(folder)
    found: dict[str, list[float]] = {}
    for choice in () if tuning is None else tuning.choices:
        if choice.values is not None and RATE in choice.values:
            found.setdefault(choice.norm, []).append(float(choice.values[RATE]))
    return {norm: ", ".join(f"{rate:.2g}" for rate in rates) for norm, rates in found.items()}


def flat(options: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Options of an experiment by their names, without `init_args`."""
    found: dict[str, Any] = {}
    for key, value in options.items():
        name = before if key == "init_args" else f"{before}.{key}".lstrip(".")
        found |= flat(value, name) if isinstance(value, dict) else {name: value}
    return found


def changed(key: str, folder: Path = EXPERIMENTS) -> str:
    """What the scaled file of a row changes, from both files."""
    full, small = (
        flat(yaml.safe_load((folder / f"{name}.yaml").read_text("utf-8"))) for name in (key, f"{key}-scaled")
    )
    differ = [
        name for name in dict.fromkeys([*full, *small]) if full.get(name) != small.get(name) and name != "threads"
    ]

    def text(options: Mapping[str, Any], name: str) -> str:
        value = options.get(name, "not set")
        return ", ".join(map(str, value)) if isinstance(value, list) else str(value)

    said = [f"`{name}` {text(full, name)} → {text(small, name)}" for name in differ]
    return f"The scaled file against the full one: {'; '.join(said)}."


def read_row(key: str, facts: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A row as the template takes it."""
    names = [name for name in (key + size for size in SIZES) if (EXPERIMENTS / f"{name}.yaml").is_file()]
    runs, ran = [], list[str]()
    verdicts = dict[str, list[str]]()
    variants = facts.get("variants", {})
    for file, variant in ((file, variant) for file in names for variant in ("", *variants)):
        name = f"{file}-{variant}" if variant else file
        if not (folder / name).is_dir():
            continue
        found = find_runs(folder / name)
        summary = summarize(found, str(read_data(folder / name).get("baseline") or "none"))
        seeds = min(sum(run.status in ("finished", "diverged") for run in row.runs) for row in summary.rows)
        asked = read_data(folder / name).get("norms") or [row.norm for row in summary.rows]
        if set(asked) - {row.norm for row in summary.rows}:
            seeds = 0
        sources = read_data(folder / name).get("sources", [])
        minutes = sum(run.number("seconds") for run in found if math.isfinite(run.number("seconds"))) / 60
        # An unfinished comparison is shown, and not judged: which seeds it has is decided by when it was stopped.
        claims = judge(summary, facts["claims"]) if seeds >= SEEDS and file.endswith("-scaled") else []
        if seeds >= SEEDS:
            ran.append(f"{variant or ('scaled' if file.endswith('-scaled') else 'full')}, {seeds} seeds")
            verdicts[variant] = [claim.verdict for claim in claims]
        options = f", {variant} (`{variants[variant]}`)" if variant else ""
        said = f"**`{file}`**{options}: {len(found)} runs, {minutes:.0f} minutes of wall time summed over them"
        said += f", source `{'`, `'.join(sources)}`." if sources else ", source not noted."
        if seeds < SEEDS:
            said += " *Not finished, and not judged.*"
        table = scores_table(summary, facts["numbers"], tuned_rates(folder / name))
        runs.append({"facts": said, "table": table, "claims": claims_table(claims) if claims else []})
    differs = [*facts["differs"], *([changed(key)] if len(names) > 1 else [])]
    counts = [
        (variant and f"{variant}: ") + ", ".join(f"{its.count(word)} {word}" for word in dict.fromkeys(its))
        for variant, its in verdicts.items()
        if its
    ]
    return {
        "key": key, "name": facts["name"], "paper": facts["paper"], "read": facts["read"], "score": facts["score"],
        "numbers": ", ".join(f"`{norm}` {value}" for norm, value in facts["numbers"].items()),
        "claims": bool(facts["claims"]),
        "links": " and ".join(f"`experiments/published/{name}.yaml`" for name in names),
        "ran": "; ".join(ran) or ("not finished" if runs else "configuration only"), "runs": runs, "differs": differs,
        "verdict": "; ".join(counts) or "–",
    }  # fmt: skip


def read_facts() -> dict[str, Any]:
    """What the papers say, by row."""
    return dict(yaml.safe_load((SCRIPTS / "published_rows.yaml").read_text(encoding="utf-8")))


def render(folder: Path) -> str:
    """The page of the runs in a folder."""
    rows = [read_row(key, one, folder) for key, one in read_facts().items()]
    measured = [row for row in rows if "seeds" in row["ran"]]
    return (
        environment(SCRIPTS)
        .get_template("published_page.md")
        .render(rows=rows, measured=measured, open=[row for row in rows if row not in measured])
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Publish the measurements of a folder of runs, if one is given; write the page from what is published."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="?", help="folder of runs by row; the page alone if not given")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of the page; default: docs")
    given = parser.parse_args(argv)
    archive = given.docs / "published" / "measurements.tar.xz"
    if given.runs is not None:
        if not given.runs.is_dir():
            raise SystemExit(f"{given.runs} is no folder; expected one of comparisons named as the rows are")
        rows = {path.stem for path in EXPERIMENTS.glob("*.yaml")}
        rows |= {
            f"{row}{size}-{v}" for row, one in read_facts().items() for v in one.get("variants", {}) for size in SIZES
        }
        folders = sorted(given.runs.iterdir())
        keep({path.name: path for path in folders if path.name in rows}, archive)
    with TemporaryDirectory() as folder:
        if archive.is_file():
            with tarfile.open(archive) as packed:
                packed.extractall(folder, filter="data")
        (given.docs / "published.md").write_text(render(Path(folder)), encoding="utf-8")
    print(given.docs / "published.md")


if __name__ == "__main__":
    main()

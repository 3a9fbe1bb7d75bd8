"""Write docs/comparison.md, its figures and its measurements, from tuned and untuned comparisons.

    python scripts/comparison_page.py runs/comparison runs/untuned

Both folders hold comparisons by the same names, made by the commands on the page. Its prose is
scripts/comparison_page.md. What the page is made of is kept in docs/comparison/measurements.tar.xz (results, choices
and configurations, without curves, checkpoints and scores by sequence), from which the page can be made again:

    mkdir runs; tar xJf docs/comparison/measurements.tar.xz -C runs
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from findings.templates import environment
from matplotlib.figure import Figure
from measurements import keep

from rnnnorm.report.canvas import LIGHT, settings
from rnnnorm.report.lead import claims
from rnnnorm.report.numbers import p_text, places, signed
from rnnnorm.report.several.aggregate import aggregate
from rnnnorm.report.several.folders import DataSet, Several, read_several
from rnnnorm.report.several.ranks import rank
from rnnnorm.report.several.tables import aggregates_grid, direction, scores_grid
from rnnnorm.report.tuning import Tuning, read_tuning
from rnnnorm.report.tuning_figures import sensitivity

DOCS = Path(__file__).parents[1] / "docs"
NAMES = ("spoken-digits", "japanese-vowels", "jsb", "names", "pos-tagging")
KEY = "model.learning_rate"


def table(tuned: DataSet, untuned: DataSet, tuning: Tuning) -> list[str]:
    """Markdown table of one data set: places and scores with and without tuning, differences when tuned."""
    before = [row.norm for row in untuned.summary.ranked]
    lines = [
        f"| | norm | {direction(tuned)} | learning rate | − none | 95 %, all norms | p (Holm) | untuned | place |",
        "|---:|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    digits = places(10 * max(abs(one.seedwise.mean) for one in tuned.differences.values()))
    for place, row in enumerate(tuned.summary.ranked, 1):
        rates = [c.values[KEY] for c in tuning.choices if c.norm == row.norm and c.values is not None]
        rate = f"{median(rates):.2g} ({min(rates):.2g}–{max(rates):.2g})"
        one, old = tuned.differences.get(row.norm), untuned.rows[row.norm].headline
        against = ["", "", ""]
        if one is not None:
            low, high = one.simultaneous.low, one.simultaneous.high
            against = [
                signed(one.seedwise.mean, digits),
                f"{signed(low, digits)} to {signed(high, digits)}",
                p_text(one.p_holm),
            ]
            against = [f"**{field}**" if one.differs else field for field in against]
        cells = [str(place), f"`{row.norm}`", str(row.headline), rate, *against, str(old)]
        lines.append(f"| {' | '.join(cells)} | {before.index(row.norm) + 1 if row.norm in before else '–'} |")
    return lines


def changes(tuned: Several, untuned: Several) -> list[str]:
    """What tuning changed on each data set: gains, places, differences that are shown only with or only without it."""
    said = []
    for one, other in zip(tuned.sets, untuned.sets, strict=True):
        sign = 1 if one.summary.larger_is_better else -1
        ranks = [[row.norm for row in side.summary.ranked] for side in (one, other)]
        moved = {norm: ranks[1].index(norm) - ranks[0].index(norm) for norm in ranks[0] if norm in ranks[1]}
        gains = {n: sign * (one.rows[n].headline.mean - other.rows[n].headline.mean) for n in moved}
        most = max(gains, key=gains.__getitem__)
        shown = [{n for n, d in side.differences.items() if d.differs} for side in (one, other)]
        digits = places(one.rows[most].headline.mean)
        pairs = sum(ranks[1].index(a) > ranks[1].index(b) for k, a in enumerate(ranks[0]) for b in ranks[0][k + 1 :])
        words = f"{pairs} of {math.comb(len(moved), 2)} pairs of norms change places"
        said.append(
            f"- **{one.label}**: {words}. `{most}` gains most, {gains[most]:.{digits}f}; `none` gains "
            f"{gains['none']:.{digits}f}. Differences from `none` that are shown: {_names(shown[0])} with tuning, "
            f"{_names(shown[1])} without."
        )
    return said


def _names(norms: set[str]) -> str:
    return ", ".join(f"`{norm}`" for norm in sorted(norms)) or "none at all"


def draw(tuning: Tuning, order: Sequence[str], path: Path) -> None:
    """Validation score against the learning rate, all norms."""
    with settings():
        figure: Figure = sensitivity(tuning, KEY, order, LIGHT)[0]
        figure.set_facecolor(LIGHT.paper)
        figure.savefig(path, dpi=110)


def main(argv: Sequence[str] | None = None) -> None:
    """Read comparisons; write page, figures and measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tuned", type=Path, help="folder of the tuned comparisons")
    parser.add_argument("untuned", type=Path, help="folder of those without tuning")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of the page; default: docs")
    given = parser.parse_args(argv)
    names = [name for name in NAMES if (given.tuned / name / "tuning.json").is_file()]
    tuned = read_several([given.tuned / name for name in names])
    untuned = read_several([given.untuned / name for name in names])
    pictures = given.docs / "comparison"
    pictures.mkdir(parents=True, exist_ok=True)
    sets = []
    for one, other in zip(tuned.sets, untuned.sets, strict=True):
        tuning = read_tuning(one.folder)
        if tuning is None:
            raise SystemExit(f"{one.folder}: tuning.json cannot be read")
        draw(tuning, [row.norm for row in one.summary.rows], pictures / f"{one.label}.png")
        sets.append((one.label, claims(one.summary.differences, one.summary.metric), table(one, other, tuning)))
    found, skipped = aggregate(tuned)
    page = (
        environment(Path(__file__).parent)
        .get_template("comparison_page.md")
        .render(
            sets=sets,
            scores=scores_grid(tuned).markdown(),
            aggregates=aggregates_grid(tuned, found, rank(tuned), skipped).markdown(),
            changes=changes(tuned, untuned),
            missing=[name for name in NAMES if name not in names],
        )
    )
    (given.docs / "comparison.md").write_text(page, encoding="utf-8")
    sides = {"comparison": given.tuned, "untuned": given.untuned}
    keep(
        {f"{side}/{name}": folder / name for side, folder in sides.items() for name in NAMES},
        pictures / "measurements.tar.xz",
    )
    print(given.docs / "comparison.md")


if __name__ == "__main__":
    main()

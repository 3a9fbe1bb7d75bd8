"""Publish what `rnnnorm study` has measured, and write docs/findings.md from it.

    rnnnorm study all --confirm --quick --data-dir data --out runs/confirmed
    python scripts/findings.py runs/confirmed                            # publish a run
    python scripts/findings.py --repeated runs/repeated                  # publish its repetition with other seeds
    python scripts/findings.py                                           # the page alone, after a change of its prose
    python scripts/findings.py --restore docs/findings/data runs/again   # a run's folder again, to go on from there

Measurements go to docs/findings/data, packed, figures to docs/findings. The page is made from what is published, and
tests/studies/framework/test_published.py checks that it agrees. Its prose is scripts/findings_page.md, and
scripts/findings/<study>.md for what was seen while exploring. Pages docs/findings/*.md on single findings are made from
scripts/findings/pages/*.md, which take every number from the measurements, and are listed on top.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from findings.page import REPEATED, Content, contents, render
from findings.publish import check_size, draw, publish
from findings.repeated import as_csv, compare
from findings.restore import restore
from findings.single import draw as draw_single
from findings.single import pages

from rnnnorm.studies.framework.page import count_verdicts

DOCS = Path(__file__).parents[1] / "docs"


def published(docs: Path) -> tuple[dict[str, Content], dict[str, Content]]:
    """What the published measurements say, by study: those of the run, and those of its repetition, if there is one."""
    data = docs / "findings" / "data"
    return contents(data), contents(data / REPEATED) if (data / REPEATED).is_dir() else {}


def main(argv: Sequence[str] | None = None) -> None:
    """Publish measurements, draw figures, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", help="folder of the run to publish; the page alone if not given")
    parser.add_argument("--repeated", type=Path, metavar="RUN", help="folder of its repetition, to publish, too")
    parser.add_argument(
        "--restore", type=Path, nargs=2, metavar=("DATA", "RUN"), help="the folder of a run from published measurements"
    )
    parser.add_argument("--commit", help="of the source of a run that has not noted it")
    parser.add_argument("--digits", type=int, help="significant digits of the values; all if not given")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of the page; default: docs")
    given = parser.parse_args(argv)
    data = given.docs / "findings" / "data"
    if given.restore is not None:
        print(f"{given.restore[1]}: {restore(*given.restore)} measured trials")
        return
    if given.run is not None:
        draw(data, publish(given.run, data, given.commit, given.digits), given.docs / "findings")
        draw_single(data, given.docs / "findings")
    if given.repeated is not None:
        publish(given.repeated, data / REPEATED, given.commit, given.digits)
    found, repetition = published(given.docs)
    if repetition:
        (data / REPEATED / "standings.csv").write_text(as_csv(compare(found, repetition)), encoding="utf-8")
    for name, text in pages(data, found):
        (given.docs / "findings" / name).write_text(text, encoding="utf-8")
    (given.docs / "findings.md").write_text(render(given.docs, found, repetition), encoding="utf-8")
    counts = count_verdicts(found.values())
    print(f"{given.docs / 'findings.md'}: {counts}; {check_size(data) / 1e6:.2f} MB published")


if __name__ == "__main__":
    main()

"""Page docs/findings.md and its figures, from what `rnnnorm study all` has measured.

    rnnnorm study all --quick --data-dir data
    python scripts/findings.py runs/studies

The prose is scripts/findings_page.md; numbers, verdicts and figures come from what the studies have left.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from rnnnorm.studies import STUDIES
from rnnnorm.studies.framework.case import DECIDED, NOT_APPLICABLE, NOT_LEARNED, UNDECIDED
from rnnnorm.studies.framework.conclude import read_verdict
from rnnnorm.studies.framework.page import MARKS, correct, count_verdicts, effect, interval, tally

DOCS = Path(__file__).parents[1] / "docs"


def studies(out: Path) -> dict[str, dict[str, Any]]:
    """What every study in the folder has concluded, by name."""
    found = {name: content for name in STUDIES if (content := read_verdict(out / name))}
    if not found:
        raise SystemExit(f"{out} holds no study that has come to a verdict: run `rnnnorm study all` first")
    correct(found.values())
    return found


def table(found: dict[str, dict[str, Any]]) -> str:
    """All claims as a Markdown table."""
    lines = ["| claim | verdict | size, interval, n | where |", "|---|---|---|---|"]
    for name, content in found.items():
        for verdict in content["verdicts"]:
            size = f"{effect(verdict['effect'])} {interval(verdict['interval'])} {verdict['unit']}, n = {verdict['n']}"
            cells = (
                f"{verdict['claim']} ({verdict['source']})",
                f"{MARKS[verdict['verdict']]} {verdict['verdict']} ({tally(verdict['conditions'])})",
                f"{size}; {verdict['condition']}",
                f"[{name}](#{name})",
            )
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def short(verdict: dict[str, Any], most: int = 3) -> str:
    """Where a claim holds, fails and is undecided, with at most so many conditions of each; the report has all."""
    words = {s: f"{s.capitalize()} for" for s in (*DECIDED, UNDECIDED, NOT_LEARNED, NOT_APPLICABLE)}
    parts = []
    for standing, word in words.items():
        found = [case for case in verdict["conditions"] if case["standing"] == standing]
        named = [f"{case['condition']} ({effect(case['effect'])})" for case in found[:most]]
        more = f" and {len(found) - most} more" if len(found) > most else ""
        if named:
            parts.append(f"{word} {', '.join(named)}{more}.")
    return " ".join(parts)


def main(argv: Sequence[str] | None = None) -> None:
    """Read verdicts, copy figures, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the folder of `rnnnorm study`, runs/studies by default")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of the page; default: docs")
    given = parser.parse_args(argv)
    found = studies(given.out)
    pictures = given.docs / "findings"
    pictures.mkdir(parents=True, exist_ok=True)
    for name in found:
        shutil.copyfile(given.out / name / "figure.png", pictures / f"{name}.png")
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"effect": effect, "interval": interval, "short": short}
    page = environment.get_template("findings_page.md").render(
        studies=found,
        questions={name: STUDIES[name].question for name in found},
        methods={name: STUDIES[name].method for name in found},
        table=table(found),
        counts=count_verdicts(found.values()),
        marks=MARKS,
        machine=next(iter(found.values()))["machine"],
        commands=list(dict.fromkeys(content["command"] for content in found.values())),
    )
    (given.docs / "findings.md").write_text(page, encoding="utf-8")
    print(given.docs / "findings.md")


if __name__ == "__main__":
    main()

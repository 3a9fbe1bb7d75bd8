"""The text of docs/findings.md, a function of what is published and of the prose beside this file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from findings.publish import confirmatory
from findings.repeated import compare, summary
from findings.repeated import table as repeated_table
from findings.templates import environment
from findings.undecided import seeds_and_reason
from rnnnorm.studies import STUDIES
from rnnnorm.studies.framework.case import UNDECIDED
from rnnnorm.studies.framework.measurements import PACKED
from rnnnorm.studies.framework.page import MARKS, STANDINGS, concluded, correct, count_verdicts, effect, interval, tally
from rnnnorm.studies.framework.sitting import sittings
from rnnnorm.studies.framework.verdict import HETEROGENEOUS

Content = dict[str, Any]
REPEATED = "repeated"
"""Folder of the repetition, beside those of the studies."""


def contents(data: Path) -> dict[str, Content]:
    """What every published study says, by name: the content of its `verdict.json`, and `seeds`, the first and the last.

    Verdicts are corrected for the number of claims of all of them.

    Raises:
        SystemExit: nothing is published there.
    """
    found = {}
    for name in STUDIES:
        if (data / name / PACKED).is_file():
            _, table, content = concluded(name, data)
            found[name] = {**content, "seeds": (int(table["seed"].min()), int(table["seed"].max()))}
    if not found:
        raise SystemExit(f"{data} holds no measurements: publish a run, python scripts/findings.py RUN")
    correct(found.values())
    return found


def render(docs: Path, found: Mapping[str, Content], repetition: Mapping[str, Content]) -> str:
    """The page.

    Args:
        docs: the folder of the page.
        found: what the published measurements say, by study.
        repetition: what those of the repetition say; empty without one.
    """
    kinds: dict[bool, dict[str, Content]] = {True: {}, False: {}}
    for name, content in found.items():
        kinds[confirmatory(content["seeds"])][name] = content
    known = sittings(docs / "findings" / "data")
    again = compare(found, repetition)
    templates = environment(Path(__file__).parents[1])
    templates.filters["conditions"] = conditions
    return templates.get_template("findings_page.md").render(
        studies=found,
        confirmed=kinds[True],
        explored=kinds[False],
        questions={name: STUDIES[name].question for name in found},
        methods={name: STUDIES[name].method for name in found},
        by_verdict=by_verdict,
        later=by_later_rule(kinds[True]),
        counts=count_verdicts,
        seeds=_span(kinds[True].values()),
        marks=MARKS,
        commands=_once(one["command"] for one in known),
        commits=_once(one["commit"] for one in known),
        machines=_once(one["machine"] for one in known),
        hours=sum(one.get("seconds") or 0 for one in known) / 3600,
        notes={name: text for name in STUDIES if (text := _note(name))},
        pages=titles(docs / "findings"),
        repeated={"table": repeated_table(again), "summary": summary(again)} if again else None,
        repeated_seeds=_span(repetition.values()),
    )


def _span(every: Iterable[Content]) -> tuple[int, int] | None:
    """The first and the last seed of several studies."""
    seeds = [content["seeds"] for content in every]
    return (min(first for first, _ in seeds), max(last for _, last in seeds)) if seeds else None


def _once(values: Iterable[str | None]) -> list[str]:
    return list(dict.fromkeys(value for value in values if value))


def _note(name: str) -> str:
    path = Path(__file__).parent / f"{name}.md"
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""


def titles(folder: Path) -> dict[str, str]:
    """Pages on single findings: their titles, by file name."""
    first = {path.name: path.read_text(encoding="utf-8").splitlines()[0] for path in sorted(folder.glob("*.md"))}
    return {name: line.removeprefix("#").strip() for name, line in first.items()}


def by_later_rule(found: Mapping[str, Content]) -> list[str]:
    """Claims that only the rule of 24 November 2026 decides: heterogeneous without a common unit (docs/protocol.md)."""
    verdicts = (one for content in found.values() for one in content["verdicts"])
    return [one["claim"] for one in verdicts if one["verdict"] == HETEROGENEOUS and one["pooled"] is None]


def by_verdict(found: Mapping[str, Content], bought: bool) -> dict[str, str]:
    """A Markdown table of the claims of each verdict that there is, in the order of `VERDICTS`.

    Args:
        found: what studies say, by name.
        bought: whether seeds were bought as the protocol says, so that undecided claims need a reason.
    """
    common = ("claim", "size [interval]", "conditions", "mean over conditions")
    tables = {}
    for word in MARKS:
        head = (*common, "seeds it would take", "why they were not bought") if word == UNDECIDED and bought else common
        rows = [(name, one) for name, c in found.items() for one in c["verdicts"] if one["verdict"] == word]
        if rows:
            lines = [head, ["---"] * len(head), *(_row(*row)[: len(head)] for row in rows)]
            tables[word] = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return tables


def _row(name: str, verdict: Content) -> list[str]:
    cells = [
        f"{verdict['claim']}<br>*{verdict['source']}* · [{name}](#{name})",
        f"{effect(verdict['effect'])} {interval(verdict['interval'])} {verdict['unit']}<br>n = {verdict['n']}, "
        f"δ = {_delta(verdict)}; {verdict['condition']}",
        tally(verdict["conditions"]),
        _pooled(verdict["pooled"]),
    ]
    if verdict["verdict"] == UNDECIDED:
        cells += seeds_and_reason(verdict)
    return [text.replace("|", "\\|").replace("\n", " ") for text in cells]


def _delta(verdict: Content) -> str:
    """The smallest effect of interest of the condition whose size is shown; a dash where a threshold has none."""
    case = verdict["conditions"][0]
    size = abs(float(case["needed"].split()[1]) - case["null"])
    return effect(size) if size else "–"


def _pooled(pooled: Content | None) -> str:
    """Mean over conditions in units of δ, and where a further condition is to be expected."""
    if pooled is None:
        return ""
    ends = pooled["prediction"]
    further = f"<br>next: {interval(ends)} δ" if ends else ""
    return f"{effect(pooled['mean'])} {interval([pooled['low'], pooled['high']])} δ{further}"


def conditions(verdict: Content, most: int = 3) -> str:
    """Where a claim holds, fails and is undecided, with at most so many conditions of each; the report has all."""
    parts = []
    scope = [case for case in verdict["conditions"] if case["in_scope"]]
    for standing in STANDINGS:
        found = [case for case in scope if case["standing"] == standing]
        named = [f"{case['condition']} ({effect(case['effect'])}, n = {case['n']})" for case in found[:most]]
        more = f" and {len(found) - most} more" if len(found) > most else ""
        if named:
            parts.append(f"{standing.capitalize()} for {', '.join(named)}{more}.")
    if outside := len(verdict["conditions"]) - len(scope):
        parts.append(f"Outside the claim's scope: {outside} condition{'s' if outside > 1 else ''}.")
    return " ".join(parts)

"""Counts per kind, and each class of failures with its shortest case."""

from __future__ import annotations

import time
from collections import Counter, defaultdict

from soak.verdict import (
    ACCEPTED,
    ALLOWED,
    BROKEN,
    CRASH,
    FAILED,
    HANG,
    KIND,
    REFUSED,
    SILENT,
    STRICTER,
    UNNAMED,
    WRONG,
)
from soak.watch import Outcome

LABELS = (ACCEPTED, REFUSED, STRICTER, ALLOWED, FAILED)
SEVERITY = (CRASH, HANG, WRONG, SILENT, KIND, UNNAMED, BROKEN)


class Report:
    """Outcomes, counted and grouped.

    Args:
        script: how a case is run again.
        only: the kind of all cases; "" if there are several.
    """

    def __init__(self, script: str, only: str = "") -> None:
        self._script, self._only = script, only
        self._counts: dict[str, Counter[str]] = defaultdict(Counter)
        self._seconds: Counter[str] = Counter()
        self._examples: dict[tuple[str, str, str], Outcome] = {}
        self._groups: Counter[tuple[str, str, str]] = Counter()
        self._began = time.monotonic()
        self.cases = self.failures = 0

    def add(self, outcome: Outcome) -> None:
        """Count one."""
        kind, verdict = outcome.item.kind, outcome.verdict
        self.cases += 1
        self.failures += verdict.label == FAILED
        self._counts[kind][verdict.label] += 1
        self._seconds[kind] += outcome.seconds
        if verdict.group:
            group = (verdict.label, verdict.failure, verdict.group)
            self._groups[group] += 1
            shortest = self._examples.setdefault(group, outcome)
            if (shortest.first is not None, len(shortest.text)) > (outcome.first is not None, len(outcome.text)):
                self._examples[group] = outcome

    def again(self, outcome: Outcome) -> str:
        """The command that runs a case again, with those before it if it needs them."""
        item = outcome.item
        if outcome.first is None:
            return f"{self._script} --only {item.kind} --case {item.number}"
        only, count = f" --only {self._only}" if self._only else "", item.number - outcome.first + 1
        return f"{self._script}{only} --first {outcome.first} --cases {count} --batch {count}"

    def progress(self) -> str:
        seconds = time.monotonic() - self._began
        rate = self.cases / max(seconds, 1e-9)
        return f"{self.cases} cases in {seconds:.0f} s, {rate:.0f} a second, {self.failures} failures"

    def text(self, stricter: int = 12) -> str:
        """All of it.

        Args:
            stricter: how many reasons to list for which we refuse what torch accepts.
        """
        lines = [f"{'kind':<16}{'cases':>8}" + "".join(f"{label:>10}" for label in LABELS) + f"{'seconds':>9}"]
        for kind, counts in [*self._counts.items(), ("all", sum(self._counts.values(), Counter[str]()))]:
            seconds = self._seconds[kind] if kind != "all" else sum(self._seconds.values())
            row = "".join(f"{counts[label]:>10}" for label in LABELS)
            lines.append(f"{kind:<16}{sum(counts.values()):>8}{row}{seconds:>9.1f}")
        lines += self._section(FAILED, "failures", None)
        lines += self._section(ALLOWED, "known deviations", None, short=True)
        lines += self._section(STRICTER, "refused, though torch accepts", stricter, short=True)
        return "\n".join([*lines, "", self.progress()])

    def _section(self, label: str, title: str, most: int | None, short: bool = False) -> list[str]:
        groups = [group for group in self._groups if group[0] == label]
        if not groups:
            return []
        groups.sort(key=lambda group: (SEVERITY.index(group[1]) if group[1] else 0, -self._groups[group], group[2]))
        lines = ["", f"{title}: {sum(self._groups[group] for group in groups)} in {len(groups)} classes"]
        for group in groups[:most]:
            outcome = self._examples[group]
            name = f"{group[1]}: " if group[1] else ""
            if short:
                lines.append(f"  {self._groups[group]:>6} × {name}{group[2]}   [{self.again(outcome)}]")
                continue
            lines += ["", f"  {self._groups[group]} × {name}{group[2]}", f"    {self.again(outcome)}"]
            lines += [f"      | {line}" for line in outcome.text.splitlines()]
            lines += [f"      {line}" for line in outcome.verdict.detail.splitlines()[:8]]
        if most is not None and len(groups) > most:
            lines.append(f"  … and {len(groups) - most} more")
        return lines

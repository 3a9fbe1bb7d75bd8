"""Pages on single findings: prose beside this file, with every number and verdict taken from what is published."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from findings.publish import save_picture
from findings.templates import environment
from rnnnorm.studies.framework.interval import interval as over_seeds
from rnnnorm.studies.framework.measurements import PACKED, per_seed, read, where
from rnnnorm.studies.framework.page import STANDINGS, effect, interval, opened

Content = dict[str, Any]
PAGES = Path(__file__).parent / "pages"
FIGURES: dict[str, tuple[str, tuple[str, ...]]] = {
    "almost-constant-slots": (
        "constant-slots",
        tuple(
            f"{unit} lost by {base}" for unit in ("accuracy", "nats") for base in ("running averages", "pooled moments")
        ),
    ),
    "padding-scores": (
        "padding",
        (
            "score by running averages, words",
            "score by running averages, spoken digits",
            "population statistics, words, 64 units",
            "population statistics, spoken digits, 64 units",
        ),
    ),
}
"""For each figure of a page the study, and the titles of the panels that it takes from there."""


class MissingStudyError(Exception):
    """A study that a page is about is not published."""


class Published:
    """What a page may say: verdicts, sizes of effects, levels of quantities.

    Args:
        data: the folder of published measurements.
        found: what they say, by study.
    """

    def __init__(self, data: Path, found: Mapping[str, Content]) -> None:
        self.data, self.found = data, found
        self._derived = cache(self._derive)

    def size(self, study: str, claim: str, condition: str) -> str:
        """An effect with its interval: `0.885 [0.697, 1.07]`."""
        case = self._case(study, claim, condition)
        return f"{effect(case['effect'])} {interval(case['interval'])}"

    def seeds(self, study: str, claim: str, condition: str) -> int:
        """Seeds of an effect."""
        return int(self._case(study, claim, condition)["n"])

    def standing(self, study: str, claim: str, condition: str, word: str) -> str:
        """`word`, which must be the standing of a condition."""
        return self._must(f"{study}, {claim}, {condition}", self._case(study, claim, condition)["standing"], word)

    def verdict(self, study: str, claim: str, word: str) -> str:
        """`word`, which must be the verdict on a claim."""
        return self._must(f"{study}, {claim}", self._claim(study, claim)["verdict"], word)

    def said(self, study: str, claim: str) -> str:
        """The verdict on a claim, and how many of its conditions stand where: `undecided; 3 of 4 supported`."""
        verdict = self._claim(study, claim)
        standings = [case["standing"] for case in verdict["conditions"] if case["in_scope"]]
        counts = [f"{standings.count(word)} {word}" for word in STANDINGS if word in standings]
        return f"{verdict['verdict']}; of {len(standings)} conditions {', '.join(counts)}"

    def level(self, study: str, quantity: str, **point: Any) -> str:
        """Mean over seeds of a quantity, derived ones among them, with its interval.

        Raises:
            SystemExit: nothing was measured there.
        """
        rows = where(self._derived(study), quantity=quantity)
        found = over_seeds(per_seed(rows, **point))
        if not found.n:
            raise SystemExit(f"a page asks for {quantity} of {study} at {point}, where nothing was measured")
        return f"{effect(found.mean)} {interval([found.low, found.high])}"

    def _derive(self, study: str) -> pd.DataFrame:
        if study not in self.found:
            raise MissingStudyError(study)
        return opened(study, self.data / study).derived(read(self.data / study))

    def _claim(self, study: str, key: str) -> Content:
        if study not in self.found:
            raise MissingStudyError(study)
        verdicts = {one["key"]: one for one in self.found[study]["verdicts"]}
        if key not in verdicts:
            raise SystemExit(f"a page names claim {key!r} of {study}; there are: {', '.join(verdicts)}")
        return verdicts[key]

    def _case(self, study: str, claim: str, condition: str) -> Content:
        cases = {one["condition"]: one for one in self._claim(study, claim)["conditions"]}
        if condition not in cases:
            raise SystemExit(f"a page names condition {condition!r} of {study}, {claim}; there are: {'; '.join(cases)}")
        return cases[condition]

    @staticmethod
    def _must(what: str, found: str, word: str) -> str:
        if found != word:
            raise SystemExit(f"a page says that {what} is {word}, but it is {found}: its prose must be written anew")
        return word


def pages(data: Path, found: Mapping[str, Content]) -> Iterator[tuple[str, str]]:
    """File name and text of each page whose studies are published.

    Raises:
        SystemExit: a page says what the measurements do not.
    """
    templates = environment(PAGES)
    said = Published(data, found)
    for path in sorted(PAGES.glob("*.md")):
        try:
            yield path.name, templates.get_template(path.name).render(p=said)
        except MissingStudyError as error:
            print(f"{path.name}: not written, since study {error} is not published")


def draw(data: Path, pictures: Path) -> None:
    """The figure of each page whose study is published."""
    for name, (study_name, titles) in FIGURES.items():
        if not (data / study_name / PACKED).is_file():
            continue
        every = opened(study_name, data / study_name).panels(read(data / study_name))
        chosen = [panel for title in titles for panel in every if panel.title == title]
        if len(chosen) < len(titles):
            raise SystemExit(f"{name}: no panels {titles} in {study_name}; there are: {[one.title for one in every]}")
        save_picture(chosen, pictures / f"{name}.png")

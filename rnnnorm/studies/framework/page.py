"""`report.html` of the studies: a table of claims first, then a page per study."""

from __future__ import annotations

import json
import logging
import math
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from markupsafe import Markup

from rnnnorm._version import __version__
from rnnnorm.engine.records import write, write_json
from rnnnorm.report.markup import environment
from rnnnorm.report.numbers import minus
from rnnnorm.studies.framework.compose import Drawn, Entry, inline_panels, save_figure
from rnnnorm.studies.framework.conclude import VERDICT, describe, read_verdict
from rnnnorm.studies.framework.measurements import FILE, PACKED, read, save
from rnnnorm.studies.framework.settings import from_description, load
from rnnnorm.studies.framework.sitting import sittings
from rnnnorm.studies.framework.strips import in_units, strip
from rnnnorm.studies.framework.study import STUDIES, Study
from rnnnorm.studies.framework.verdict import VERDICTS, corrected

log = logging.getLogger(__name__)

MARKS = {"supported": "✓", "opposite": "✗", "negligible": "≈", "heterogeneous": "±", "undecided": "?"}
STANDINGS = {**MARKS, "not learned": "–", "not applicable": "–"}


@dataclass(frozen=True)
class Section:
    """One study on the page.

    Args:
        study: which.
        content: its `verdict.json`.
        panels: its plots.
        legend: what serves all of them.
        settings: its `study.yaml`.
    """

    study: Study
    content: dict[str, Any]
    panels: list[Drawn]
    legend: list[Entry]
    settings: str


def build(out: Path) -> Path:
    """Write `report.html` from everything that studies have left in a folder.

    Args:
        out: the folder with one folder per study.

    Returns:
        The path of `report.html`.
    """
    sections = [section for name in STUDIES if (section := _section(name, out)) is not None]
    templates = environment(Path(__file__).parent)
    templates.filters |= {"effect": effect, "interval": interval, "tally": tally}
    correct(section.content for section in sections)
    page = templates.get_template("studies.html.j2").render(
        sections=sections,
        marks=MARKS,
        standings={word: f"{mark} {word}" for word, mark in STANDINGS.items()},
        counts=count_verdicts(section.content for section in sections),
        strip=strip,
        in_units=in_units,
        markup=Markup,
        seconds=_spent(sections, out),
        tensorboard=f"tensorboard --logdir {shlex.quote(str(out))}",
        version=__version__,
    )
    path = out / "report.html"
    write(path, page)
    return path


def conclude_again(folder: Path, out: Path | None = None) -> list[str]:
    """Verdicts and figures of every study in a folder, from its measurements alone.

    Args:
        folder: the folder with one folder per study.
        out: where they are written, with the measurements, as a run leaves them; into the folder itself if not given.

    Returns:
        What went wrong, a line for each study that could not be concluded.

    Raises:
        ValueError: there is no study in the folder, or measurements are packed and `out` is missing.
    """
    found = [name for name in STUDIES if any((folder / name / file).is_file() for file in (FILE, PACKED))]
    if not found:
        raise ValueError(f"{folder} holds no study: expected folders <study>/ with {FILE} or {PACKED}")
    if out is None and (packed := [name for name in found if not (folder / name / FILE).is_file()]):
        raise ValueError(
            f"{folder / packed[0] / PACKED} is published and stays as it is: --out DIR says where the report goes"
        )
    problems = []
    for name in found:
        try:
            _conclude_again(name, folder, folder if out is None else out)
        except Exception as error:  # one study must not take the others with it
            problems.append(f"{name} could not be concluded, {type(error).__name__}: {error}")
    return problems


def _conclude_again(name: str, folder: Path, out: Path) -> None:
    study, table, content = concluded(name, folder)
    if out != folder:
        save(table, out / name)
        if (settings := folder / name / "study.yaml").is_file():
            write(out / name / settings.name, settings.read_text(encoding="utf-8"))
    write_json(out / name / VERDICT, content)
    panels = study.panels(table)
    if panels:
        save_figure(panels, out / name, study.question)


def concluded(name: str, out: Path) -> tuple[Study, pd.DataFrame, dict[str, Any]]:
    """A study, its measurements, and what they say: the content of `verdict.json`, made from them alone.

    Args:
        name: of the study.
        out: the folder with one folder per study.
    """
    folder = out / name
    study, table = opened(name, folder), read(folder)
    old = read_verdict(folder) or (sittings(out) or [{}])[-1]
    content = describe(study, study.verdicts(table), table, str(old.get("command", "")))
    # How many trials there were to be, and the machine, are not in the measurements.
    content |= {key: old[key] for key in ("trials", "measured", "scale", "version", "machine") if key in old}
    return study, table, content


def opened(name: str, folder: Path) -> Study:
    """A study with the settings of its `study.yaml`; with those of its full configuration where there is none.

    Args:
        name: of the study.
        folder: its own.
    """
    path = folder / "study.yaml"
    described = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None
    return STUDIES[name](from_description(described) if isinstance(described, dict) else load(name))


def _section(name: str, out: Path) -> Section | None:
    folder = out / name
    content = read_verdict(folder)
    if content is None or not (folder / "measurements.csv").is_file():
        return None
    if any("p" not in verdict for verdict in content["verdicts"]):
        log.warning("%s was judged by an earlier version of rnnnorm and is left out", folder / VERDICT)
        return None
    study = opened(name, folder)
    try:
        panels, legend = inline_panels(study.panels(read(folder)), name)
    except Exception as error:  # one study must not take the page with it
        log.warning("the figure of %s could not be drawn: %s: %s", name, type(error).__name__, error)
        panels, legend = [], []
    path = folder / "study.yaml"
    return Section(study, content, panels, legend, path.read_text(encoding="utf-8") if path.is_file() else "")


def _spent(sections: Sequence[Section], out: Path) -> float:
    """Seconds of training in all trials."""
    total = 0.0
    for section in sections:
        for path in (out / section.study.name).glob("*/*/seed=*/result.json"):
            total += float(json.loads(path.read_text(encoding="utf-8")).get("seconds") or 0)
    return total


def correct(contents: Iterable[dict[str, Any]]) -> None:
    """Let only those verdicts stand that survive the correction for the number of claims, over all studies.

    Args:
        contents: of `verdict.json`; the others become `undecided`, their `says` and `alone` tell what they were.
    """
    every = [verdict for content in contents for verdict in content["verdicts"]]
    for verdict, word in zip(every, corrected([(v["verdict"], v["p"]) for v in every]), strict=True):
        if word != verdict["verdict"]:
            verdict["says"] += f" (By itself it would be {verdict['verdict']}.)"
            verdict["alone"], verdict["verdict"] = verdict["verdict"], word


def count_verdicts(contents: Any) -> dict[str, int]:
    """How many claims have which verdict."""
    counts = dict.fromkeys(VERDICTS, 0)
    for content in contents:
        for verdict in content["verdicts"]:
            counts[verdict["verdict"]] += 1
    return counts


def tally(conditions: Sequence[Mapping[str, Any]]) -> str:
    """How many conditions have which standing, `3 ✓ 1 ✗ 2 ?`, what counts for nothing last, as –."""
    counts = Counter(STANDINGS[case["standing"]] if case.get("in_scope", True) else "–" for case in conditions)
    return " ".join(f"{counts[mark]} {mark}" for mark in dict.fromkeys(STANDINGS.values()) if counts[mark])


def effect(value: float | None) -> str:
    """A number with three digits, of more than three before the point `25,100`; what is not finite as a dash."""
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{value:.3g}"
    return minus(f"{float(text):,.0f}" if 999.5 <= abs(value) < 1e6 else text)


def interval(ends: Sequence[float | None]) -> str:
    """A confidence interval, or nothing where one seed cannot have one."""
    low, high = ends
    return "" if low is None or high is None else f"[{effect(low)}, {effect(high)}]"

"""From the folder of a run to docs/findings/data: its measurements, packed, and what they were measured with."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rnnnorm.engine.records import write_json
from rnnnorm.studies import STUDIES
from rnnnorm.studies.framework.compose import save_figure
from rnnnorm.studies.framework.conclude import read_verdict
from rnnnorm.studies.framework.measurements import FILE, collect, pack, read
from rnnnorm.studies.framework.page import opened
from rnnnorm.studies.framework.plots import Panel
from rnnnorm.studies.framework.sequential import FIRST
from rnnnorm.studies.framework.sitting import FILE as SITTINGS
from rnnnorm.studies.framework.sitting import sittings

LIMIT = 10_000_000
"""Bytes that all published measurements may have together."""
README = """\
# The measurements behind [findings.md](../../findings.md)

`<study>/{file}.xz` has one number per row, {precision}: what distinguishes conditions, `norm`, `seed`,
`quantity`, whatever says where it was measured (`t`, `mode`, …), and `value`. `<study>/study.yaml` has the settings,
`{sittings}` the commands, commit, machine and time. `repeated/` has the same of the repetition with other seeds.

```bash
rnnnorm report docs/findings/data --out runs/findings    # every verdict and figure again, and report.html
python scripts/findings.py                               # docs/findings.md again
python scripts/findings.py --restore docs/findings/data runs/confirmed    # the folder of the run, which then goes on
```
"""


def publish(run: Path, data: Path, commit: str | None = None, digits: int | None = None) -> list[str]:
    """Copy of a run's measurements and settings, without names of folders of the machine.

    Args:
        run: the folder of `rnnnorm study`.
        data: where they go, with one folder per study; what was there of other runs is deleted.
        commit: of the source, where the run has not noted it.
        digits: significant digits of the values; None keeps every bit.

    Returns:
        The names of the studies.
    """
    found = [name for name in STUDIES if (run / name / FILE).is_file()]
    if not found:
        raise SystemExit(f"{run} holds no study that was concluded: expected folders <study>/ with {FILE}")
    data.mkdir(parents=True, exist_ok=True)
    for old in data.glob("*/study.yaml"):
        shutil.rmtree(old.parent)
    for name in found:
        study = opened(name, run / name)
        table = collect(study.trials(), run / name, study.columns)  # newer than the table, where the run was killed
        (data / name).mkdir()
        pack(read(run / name) if table.empty else table, data / name, digits)
        shutil.copyfile(run / name / "study.yaml", data / name / "study.yaml")
    write_json(data / SITTINGS, _sittings(run, found[0], commit))
    precision = "with every bit" if digits is None else f"with {digits} significant digits"
    (data / "README.md").write_text(README.format(file=FILE, sittings=SITTINGS, precision=precision), encoding="utf-8")
    return found


def _sittings(run: Path, name: str, commit: str | None) -> list[dict[str, Any]]:
    """What is known of how the run was made; of one that did not note it, what a study's verdict says."""
    verdict = read_verdict(run / name) or {}
    known = sittings(run) or [{key: verdict.get(key) for key in ("command", "version", "machine")}]
    return [
        {**one, "command": _portable(one.get("command") or ""), "commit": one.get("commit") or commit} for one in known
    ]


def _portable(command: str) -> str:
    """A command with the last part alone of each path from the root."""
    words = shlex.split(command)
    return shlex.join(
        f"{key}{equals}{Path(value).name}" if value.startswith("/") else word
        for word in words
        for key, equals, value in [word.partition("=") if word.startswith("-") and "=" in word else ("", "", word)]
    )


def check_size(data: Path, limit: int = LIMIT) -> int:
    """Bytes of everything that is published.

    Raises:
        SystemExit: they are more than the limit.
    """
    size = sum(path.stat().st_size for path in data.rglob("*") if path.is_file())
    if size > limit:
        raise SystemExit(f"{data} has {size} bytes, more than {limit}: publish with fewer digits, as --digits 7")
    return size


def draw(data: Path, names: list[str], pictures: Path) -> None:
    """The figure of each study, from published measurements."""
    pictures.mkdir(parents=True, exist_ok=True)
    for name in names:
        study = opened(name, data / name)
        save_picture(study.panels(read(data / name)), pictures / f"{name}.png", study.question)


def save_picture(panels: Sequence[Panel], path: Path, title: str = "") -> None:
    """Write panels as one PNG file; without panels nothing is written."""
    with TemporaryDirectory() as folder:
        for picture in save_figure(panels, Path(folder), title)[:1]:
            shutil.copyfile(picture, path)


def confirmatory(seeds: tuple[int, int]) -> bool:
    """Whether seeds are those of a confirmatory run or its repetition, not explored ones."""
    return seeds[0] >= FIRST

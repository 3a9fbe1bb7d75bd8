"""One trial: train it as `rnnnorm compare` does, measure it, keep the measurements."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import yaml
from lightning import seed_everything
from rich.console import Console

from rnnnorm.compare.comparison import Comparison
from rnnnorm.engine.control import Interrupt
from rnnnorm.engine.progress import Display
from rnnnorm.engine.records import events, read_result, write
from rnnnorm.engine.trial import execute
from rnnnorm.engine.work import Report
from rnnnorm.studies.framework.study import Study
from rnnnorm.studies.framework.trained import Trained
from rnnnorm.studies.framework.trial import Row, Trial


def work(
    study: Study,
    trial: Trial,
    out: Path,
    interrupt: Interrupt,
    display: Display | None = None,
    seconds: float | None = None,
) -> Report:
    """Train and measure one trial; what has been done before is not done again.

    Args:
        study: whose trial it is.
        trial: which.
        out: the folder of the study.
        interrupt: whether the user wants to stop.
        display: where the steps of its training are shown; nowhere if not given.
        seconds: when to stop training.

    Raises:
        InterruptedRunError: the user stopped it; training goes on from there the next time.
    """
    if trial.read(out) is not None:
        return Report()
    trained = None
    run = trial.run(out)
    if trial.config is not None:
        shared = comparison(study, trial, out)
        result = read_result(run.result)
        if result is None:
            result = execute(shared, run, interrupt, display or Display(Console(quiet=True)), seconds)
        trained = Trained(run, result, shared)
        interrupt.check()
    rows = _measured(study, trial, trained)
    _log(rows, run.folder)
    write(trial.measured(out), json.dumps(rows, allow_nan=False) + "\n")
    return Report()


def _measured(study: Study, trial: Trial, trained: Trained | None) -> list[dict[str, Any]]:
    """The rows of a trial as JSON has them: infinities as words, NaN as null."""
    # A study that draws without saying from which seed must not depend on the trials before.
    seed_everything(trial.seed, workers=True, verbose=False)
    return [{key: _plain(value) for key, value in row.items()} for row in study.measure(trial, trained)]


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


def comparison(study: Study, trial: Trial, out: Path) -> Comparison:
    """How the network of a trial is built and trained, at the norm's own learning rate if it has one there.

    Args:
        study: whose trial it is.
        trial: which.
        out: the folder of the study.
    """
    run = trial.run(out)
    path = run.folder / "trial.yaml"  # not the arm's: two processes may begin the same arm
    text = yaml.safe_dump(study.rated(trial.config or {}, trial), sort_keys=False)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write(path, text)
    return parse(str(path), run.norm, str(run.out))


def parse(path: str, norm: str, out: str) -> Comparison:
    """The configuration of an arm.

    Raises:
        ValueError: with what the parser has to say about it.
    """
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            return Comparison(["-c", path, "--norms", norm, "--seeds", "1", "--out", out])
    except SystemExit:
        raise ValueError(said.getvalue().strip().removeprefix("rnnnorm compare: error: ")) from None


def _log(rows: Sequence[Row], folder: Path) -> None:
    """What was measured, to TensorBoard: against its `t` where it has one, else a single point."""
    rows = [row for row in rows if isinstance(row["value"], int | float) and math.isfinite(row["value"])]
    if not rows:
        return
    with events(folder, "measured") as writer:
        for row in rows:
            where = [str(v) for k, v in row.items() if k not in ("quantity", "value", "t") and v is not None]
            writer.add_scalar(
                "/".join(["measured", str(row["quantity"]), *where]), row["value"], int(row.get("t") or 0)
            )

"""All runs of a comparison, one after the other: skip what is done, resume what was interrupted, survive what fails."""

from __future__ import annotations

import logging
import shlex
import shutil
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch.distributed as dist
import yaml
from rich.console import Console

from rnnnorm.common.atomic import disk_is_full
from rnnnorm.compare.comparison import Comparison, differences
from rnnnorm.compare.configuration import cause
from rnnnorm.compare.foreign import look_at
from rnnnorm.compare.plan import plan
from rnnnorm.engine.control import Interrupt, InterruptedRunError
from rnnnorm.engine.evaluation import length_summary
from rnnnorm.engine.progress import Display, count, make_console
from rnnnorm.engine.records import leads, read_result, write, write_json
from rnnnorm.engine.run import Run
from rnnnorm.engine.threads import threads
from rnnnorm.engine.trial import describe, execute

OK, FAILED, INTERRUPTED = 0, 1, 130
"""Exit codes: all runs ended; a run failed; the user pressed Ctrl-C."""


@dataclass
class Outcome:
    """What became of the runs."""

    total: int
    failed: list[Run] = field(default_factory=list)
    cut: list[Run] = field(default_factory=list)
    waiting: list[Run] = field(default_factory=list)
    interrupted: bool = False
    disk_full: bool = False
    report_failed: bool = False


def compare(args: list[str], console: Console | None = None) -> int:
    """What `rnnnorm compare ARGS` does.

    Args:
        args: the command line after `compare`.
        console: where to print; standard output if not given. Of several processes (`--trainer.devices 2`) only the
            first one prints and writes; Lightning starts the others with the same command when training begins.

    Returns:
        the exit code: 0, or 1 if a run failed, 130 if the user interrupted.

    Raises:
        ValueError: the request cannot be met; nothing was run.
    """
    console = (console or make_console()) if leads() else Console(quiet=True)
    with quiet():
        comparison = Comparison(args)
        described, before = comparison.describe(), _stored(comparison)
        different = differences(before.configuration, described) if before.configuration is not None else []
        if different and not comparison.overwrite:
            raise ValueError(
                f"{comparison.out} holds runs of another configuration:\n  " + "\n  ".join(different) + "\n"
                "choose another folder with --out, or --overwrite to delete those runs"
            )
        with threads(comparison.threads, None if different else before.threads, console) as count:
            if leads():
                if different:
                    _delete(comparison)
                _prepare(comparison, {**described, "threads": count})
            runs = plan(comparison.norms, comparison.seeds, comparison.out)
            outcome = _run_all(comparison, runs, console)
            return _conclude(comparison, outcome, args, console)


class Stored(NamedTuple):
    """What the output folder says of the runs in it.

    Args:
        configuration: what they have in common, as of `Comparison.describe`; None where the folder is new.
        threads: CPU threads of the last of them; None where that is not known.
    """

    configuration: dict[str, Any] | None
    threads: int | None


def _stored(comparison: Comparison) -> Stored:
    """Read `compare.yaml`, if there is one.

    Raises:
        ValueError: it holds something else than a configuration, and nobody has said that it may be overwritten.
    """
    path = comparison.out / "compare.yaml"
    if not path.exists():
        return Stored(None, None)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError, IsADirectoryError):
        content = None
    if not isinstance(content, dict):
        if comparison.overwrite:
            return Stored({}, None)
        raise ValueError(
            f"{path} holds no configuration; choose another folder with --out, or --overwrite to delete the runs there"
        )
    count = content.pop("threads", None)
    return Stored(content, count if isinstance(count, int) and count > 0 else None)


def _prepare(comparison: Comparison, described: dict[str, Any]) -> None:
    """Read the data, so that what is wrong with them is said once, and write down what all runs have in common."""
    out, configuration = comparison.out, comparison.out / "compare.yaml"
    data = comparison.build_data()
    look_at(data)
    facts = {split: length_summary(data, split) for split in ("train", "test")}
    cls = comparison.config.data.class_path
    task = getattr(getattr(data, "spec", None), "task", "")
    content = {"train_lengths": facts["train"], "test_lengths": facts["test"], "task": task, "data": cls}
    write(configuration, yaml.safe_dump(described, sort_keys=False))
    write_json(out / "data.json", content)


def _delete(comparison: Comparison) -> None:
    """Delete the runs in the output folder, and nothing else that may lie there."""
    for folder in comparison.out.glob("*/seed=*"):
        shutil.rmtree(folder)


def _run_all(comparison: Comparison, runs: list[Run], console: Console) -> Outcome:
    outcome = Outcome(len(runs))
    ended = {run: read_result(run.result) for run in runs}
    done = [run for run, result in ended.items() if result is not None and result["status"] != "cut"]
    todo = [run for run in runs if run not in done]
    if done:
        console.print(f"{len(done)} of {len(runs)} runs have been finished before: skipped", highlight=False)
    budget = Budget(comparison.max_minutes)
    with Display(console, len(todo)) as display, Interrupt(lambda: display.say(STOPPING)) as interrupt:
        for position, run in enumerate(todo):
            requested, seconds = _of_the_first((interrupt.requested, budget.share(len(todo) - position)))
            if requested:
                outcome.interrupted, outcome.waiting = True, todo[position:]
                break
            if seconds is not None and seconds <= 0:
                outcome.waiting = todo[position:]
                break
            display.begin(run.name)
            try:
                result = execute(comparison, run, interrupt, display, seconds)
            except (InterruptedRunError, KeyboardInterrupt):
                outcome.interrupted, outcome.waiting = True, todo[position:]
                break
            except Exception as error:  # one run that fails must not take the others with it
                outcome.failed.append(run)
                reason = cause(error)
                display.end(f"{run.name}: failed, {type(reason).__name__}: {_first_line(reason)}")
                with suppress(OSError):  # where there is no room for a result, there may be none for this either
                    write(run.error, traceback.format_exc())
                if disk_is_full(error) is not None:
                    outcome.disk_full, outcome.waiting = True, todo[position + 1 :]
                    break
            else:
                run.error.unlink(missing_ok=True)
                display.end(f"{run.name}: {describe(result)}")
                if result["status"] == "cut":
                    outcome.cut.append(run)
    return outcome


def _of_the_first(decision: tuple[bool, float | None]) -> tuple[bool, float | None]:
    """The decision of the first process, whose clock and keyboard count for all that train together."""
    shared = [decision]
    if dist.is_available() and dist.is_initialized():
        dist.broadcast_object_list(shared)
    return shared[0]


STOPPING = "stopping after this step (Ctrl-C again: at once) …"


class Budget:
    """Shares the time that is left among the runs that are left.

    Args:
        minutes: for everything; None: no limit.
    """

    def __init__(self, minutes: float | None) -> None:
        self._end = None if minutes is None else time.monotonic() + 60 * minutes

    def share(self, runs: int) -> float | None:
        """Seconds for the next of `runs` runs, its evaluation included."""
        return None if self._end is None else (self._end - time.monotonic()) / runs


def _conclude(comparison: Comparison, outcome: Outcome, args: list[str], console: Console) -> int:
    """Tables, report and advice; what exists is shown, however it ended."""
    from rnnnorm.report import build, summary_table

    out = comparison.out

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True, markup=False)

    if leads() and any(read_result(path) for path in out.glob("*/seed=*/result.json")):
        console.print(summary_table(out))
        try:
            say(f"report:      {build(out)}")
        except OSError as error:
            outcome.report_failed = True
            say(f"report:      not written, {error}")
        say(f"curves:      tensorboard --logdir {out}")
    for run in outcome.failed:
        say(f"failed:      {run.name}" + (f", see {run.error}" if run.error.is_file() else ""))
    if outcome.waiting or outcome.cut:
        reason = "interrupted" if outcome.interrupted else "disk full" if outcome.disk_full else "out of time"
        left = [f"{len(outcome.cut)} of {count(outcome.total, 'run')} cut"] if outcome.cut else []
        left += [f"{count(len(outcome.waiting), 'run')} left"] if outcome.waiting else []
        command = shlex.join(["rnnnorm", "compare", *args])
        say(f"{reason}: {', '.join(left)}; to go on: {command}")
    if outcome.interrupted:
        return INTERRUPTED
    return FAILED if outcome.failed or outcome.report_failed else OK


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0]


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Lightning from talking: many runs would repeat the same lines many times."""
    loggers = [logging.getLogger(name) for name in ("lightning", "lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning\.")
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)

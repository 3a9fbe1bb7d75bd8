"""`rnnnorm compare`: the front door to the engine for a grid of norms and seeds."""

from __future__ import annotations

import shlex
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import torch
import yaml
from rich.console import Console

from rnnnorm.board.means import write_means
from rnnnorm.common.source import source
from rnnnorm.compare.comparison import Comparison, differences
from rnnnorm.compare.foreign import look_at
from rnnnorm.compare.idle import idle_options
from rnnnorm.compare.plan import plan
from rnnnorm.compare.search import SIZE
from rnnnorm.compare.tuning import forget, tune, tuned_runs
from rnnnorm.engine.control import Interrupt
from rnnnorm.engine.evaluation import length_summary
from rnnnorm.engine.folder import locked
from rnnnorm.engine.progress import Display, count, make_console, say
from rnnnorm.engine.quiet import quiet
from rnnnorm.engine.records import leads, read_result, write, write_json
from rnnnorm.engine.run import Run
from rnnnorm.engine.runner import Outcome, run
from rnnnorm.engine.threads import choose_threads, pinned
from rnnnorm.engine.trial import describe, execute
from rnnnorm.engine.work import Report, Work


def compare(args: list[str], console: Console | None = None) -> int:
    """What `rnnnorm compare ARGS` does.

    Args:
        args: the command line after `compare`.
        console: where to print; standard output if not given. Of several processes (`--trainer.devices 2`) only the
            first one prints and writes; Lightning starts the others with the same command when training begins.

    Returns:
        the exit code: 0, or 1 if a run failed, 130 or 143 if the user interrupted by Ctrl-C or SIGTERM.

    Raises:
        ValueError: the request cannot be met; nothing was run.
    """
    console = (console or make_console()) if leads() else Console(quiet=True)
    with quiet():
        comparison = Comparison(args)
        with locked(comparison.out):
            return _compare(comparison, args, console)


def _compare(comparison: Comparison, args: list[str], console: Console) -> int:
    described, before = comparison.describe(), _stored(comparison)
    different = _differences(before.configuration, described) if before.configuration is not None else []
    if different and not comparison.overwrite:
        raise ValueError(
            f"{comparison.out} holds runs of another configuration:\n  " + "\n  ".join(different) + "\n"
            "choose another folder with --out, or --overwrite to delete those runs"
        )
    own = torch.get_num_threads() if comparison.options.executor == "local" else 1
    threads = choose_threads(comparison.threads, None if different else before.threads, own, console)
    with pinned(threads):
        if leads():
            if different:
                _delete(comparison)
            for note in [*comparison.notes, *_prepare(comparison, {**described, "threads": threads}, console)]:
                say(console, f"note: {note}")
        runs = plan(comparison.norms, comparison.seeds, comparison.out)
        minutes = comparison.max_minutes
        if (search := comparison.search) is not None:
            end = None if minutes is None else time.monotonic() + 60 * minutes
            tuned = tune(comparison, search, threads, console, end)
            if tuned.values is None:
                return _conclude(comparison, tuned.outcome, tuned.outcome.total, args, console, noun="trial")
            runs = tuned_runs(comparison, runs, search, tuned, console)
            minutes = None if end is None else (end - time.monotonic()) / 60
        before_now = {one: read_result(one.result) for one in runs}
        todo = [one for one, result in before_now.items() if result is None or result["status"] == "cut"]
        if len(todo) < len(runs):
            text = f"{len(runs) - len(todo)} of {len(runs)} runs have been finished before: skipped"
            console.print(text, highlight=False)
        works = [Work(one.name, one.folder, partial(train, comparison, one)) for one in todo]

        def ended(work: Work, display: Display) -> None:
            """Draw the means of a norm whose last seed this was."""
            its = [one for one in runs if one.folder.parent == work.folder.parent]
            if leads() and all(read_result(one.result) for one in its):
                with suppress(OSError):  # tried again at the end, which says so
                    write_means(work.folder.parent)

        outcome = run(works, comparison.out, comparison.options, threads, console, minutes=minutes, ended=ended)
        return _conclude(comparison, outcome, len(runs), args, console)


def _differences(there: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Where the configurations differ; a search may have more trials or rounds than the one that is there."""
    grown = {key: there[key] for key in SIZE if key in there and key in now and there[key] <= now[key]}
    return differences(there, {**now, **grown})


def train(comparison: Comparison, one: Run, interrupt: Interrupt, display: Display, seconds: float | None) -> Report:
    """One run, for the engine."""
    result = execute(comparison, one, interrupt, display, seconds, comparison.options.jobs)
    return Report(describe(result), cut=result["status"] == "cut")


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


def _prepare(comparison: Comparison, described: dict[str, Any], console: Console) -> list[str]:
    """Read the data, so that what there is to say of them is said once, and write down what all runs have in common.

    A comparison that goes on from another source has both: its runs do not say which of them belongs to which.

    Returns:
        notes on options that change nothing on these data.
    """
    from rnnnorm.report.runs import read_data

    out, configuration = comparison.out, comparison.out / "compare.yaml"
    data = comparison.build_data()
    for line in look_at(data):
        say(console, line)
    facts = {split: length_summary(data, split) for split in ("train", "val", "test")}
    cls = comparison.config.data.class_path
    task = getattr(getattr(data, "spec", None), "task", "")
    notes = idle_options(comparison.norms, data, comparison.model_options.get("max_steps"))
    content = {**{f"{split}_lengths": its for split, its in facts.items() if its}, "task": task, "data": cls}
    before = read_data(out).get("sources", []) if any(out.glob("*/seed=*/result.json")) else []
    content |= {
        "sources": list(dict.fromkeys([*before, source()])),
        "baseline": comparison.baseline,
        "norms": list(comparison.norms),
        **({"notes": notes} if notes else {}),
    }
    write(configuration, yaml.safe_dump(described, sort_keys=False))
    with suppress(OSError):  # only the report reads it, and the first run to need a full disk says so
        write_json(out / "data.json", content)
    return notes


def _delete(comparison: Comparison) -> None:
    """Delete the runs in the output folder, and nothing else that may lie there."""
    for folder in comparison.out.glob("*/seed=*"):
        shutil.rmtree(folder)
    forget(comparison.out)


def _conclude(
    comparison: Comparison, outcome: Outcome, total: int, args: list[str], console: Console, noun: str = "run"
) -> int:
    """Tables, report and advice; what exists is shown, however it ended."""
    from rnnnorm.board.overview import refresh
    from rnnnorm.report import build, overview

    out, report_failed = comparison.out, False

    if leads() and any(read_result(path) for path in out.glob("*/seed=*/result.json")):
        console.print(overview(out))
        try:
            say(console, f"report:      {build(out)}")
        except OSError as error:
            report_failed = True
            say(console, f"report:      not written, {error}")
        try:
            refresh(out)
        except OSError as error:
            report_failed = True
            say(console, f"curves:      means over seeds not written, {error}")
        say(console, f"curves:      rnnnorm tensorboard {shlex.quote(str(out))}")
    for work in outcome.failed:
        say(console, f"failed:      {work.name}" + (f", see {work.error}" if work.error.is_file() else ""))
    if outcome.waiting or outcome.cut:
        reason = "interrupted" if outcome.signal is not None else "disk full" if outcome.disk_full else "out of time"
        left = [f"{len(outcome.cut)} of {count(total, noun)} cut"] if outcome.cut else []
        left += [f"{count(len(outcome.waiting), noun)} left"] if outcome.waiting else []
        command = shlex.join(["rnnnorm", "compare", *args])
        say(console, f"{reason}: {', '.join(left)}; to go on: {command}")
    return outcome.code or int(report_failed)

"""`rnnnorm study NAME|all`."""

from __future__ import annotations

import argparse
import math
import shlex
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml
from rich.console import Console

from rnnnorm.compare.runner import quiet
from rnnnorm.engine.progress import count, duration, make_console
from rnnnorm.engine.records import write
from rnnnorm.studies.framework.conclude import check_settings, conclude, note_settings
from rnnnorm.studies.framework.pool import DONE, FAILED, Ended, Pool, Task, default_jobs
from rnnnorm.studies.framework.progress import StudyDisplay
from rnnnorm.studies.framework.settings import load
from rnnnorm.studies.framework.study import STUDIES, Study
from rnnnorm.studies.framework.work import parse

OK, FAILURE, STOPPED = 0, 1, 130

EXAMPLES = """\
examples:
  rnnnorm study gradient-flow --quick                  a few minutes: a figure and verdicts on four claims
  rnnnorm study all --quick --data-dir data            every study, about 25 minutes on two cores
  rnnnorm study raggedness -c mine.yaml                on your own data: a YAML file with `data:`, as for compare
  rnnnorm report runs/studies                          write verdicts, figures and report.html again
The same command again skips what is done and goes on with what was interrupted.
`rnnnorm list studies` shows the questions; their full configurations are in experiments/studies/.
"""


def study(args: list[str], console: Console | None = None) -> int:
    """What `rnnnorm study ARGS` does.

    Args:
        args: the command line after `study`.
        console: where to print; standard output if not given.

    Returns:
        the exit code: 0, or 1 if a trial failed, 130 if the user interrupted.

    Raises:
        ValueError: the request cannot be met; nothing was run.
    """
    console = console or make_console()
    given = _parse(args)
    names = list(dict.fromkeys(STUDIES if given.name == "all" else filter(None, given.name.split(","))))
    unknown = [name for name in names if name not in STUDIES]
    if unknown or not names:
        raise ValueError(f"unknown study {', '.join(unknown) or given.name}; there are: {', '.join(STUDIES)}, or all")
    if given.config is not None and len(names) > 1:
        raise ValueError("-c belongs to one study; name it instead of all")
    out = Path(given.out or "runs/studies")
    chosen = [
        STUDIES[name](load(name, given.quick, given.config, given.norms, given.seeds, given.data_dir)) for name in names
    ]
    for one in chosen:  # what cannot be run is refused before the first trial, and before anything is deleted
        check_settings(one, out / one.name, given.overwrite)
        if given.config is not None:
            _check_configuration(one)
    for one in chosen:
        note_settings(one, out / one.name)
    return _run(chosen, out, given.jobs or default_jobs(), args, console)


def _parse(args: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="rnnnorm study",
        description="Answer questions about normalization by experiments: measurements, a figure, verdicts on claims.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("name", metavar="NAME|all", help=f"one of {', '.join(STUDIES)}; several with commas; or all")
    add("--quick", action="store_true", help="the small variant, at least 3 seeds where a verdict needs them")
    add("-c", "--config", metavar="FILE", help="YAML with what to change: seeds, norms, options, data, model, trainer")
    add("--norms", help="normalizers to compare, where the study leaves the choice open")
    add("--seeds", help="how many seeds, or a list of them such as 3,7")
    add("--out", metavar="DIR", help="folder of the results; runs/studies if not given")
    add(
        "--data-dir",
        metavar="DIR",
        help="where real data lie; without it, or RNNNORM_DATA, only generated data are used",
    )
    add(
        "--jobs",
        type=_positive,
        help="trials at the same time, each on one core; as many as there are cores if not given",
    )
    add("--overwrite", action="store_true", help="delete what another configuration left in the folder")
    return parser.parse_args(list(args))


def _check_configuration(one: Study) -> None:
    """Whether the user's configuration is one that the first trained trial could be built from.

    Raises:
        ValueError: it is not.
    """
    trial = next((trial for trial in one.trials() if trial.config is not None), None)
    if trial is None:
        return
    with TemporaryDirectory() as folder, quiet():
        path = Path(folder) / "config.yaml"
        path.write_text(yaml.safe_dump(dict(trial.config or {}), sort_keys=False), encoding="utf-8")
        parse(str(path), trial.norm, folder)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a positive whole number, got {text!r}")
    return int(text)


def _run(studies: Sequence[Study], out: Path, jobs: int, args: list[str], console: Console) -> int:
    # Those that measure time come last, when nothing runs beside them.
    ordered = sorted(studies, key=lambda one: one.alone)
    tasks = [Task(one, trial, out / one.name) for one in ordered for trial in one.trials()]
    todo = [task for task in tasks if task.trial.read(task.out) is None]
    command = shlex.join(["rnnnorm", "study", *args])
    if len(todo) < len(tasks):
        console.print(f"{len(tasks) - len(todo)} of {count(len(tasks), 'trial')} done before: skipped", highlight=False)
    failed: list[Ended] = []
    broken: list[str] = []
    began = time.monotonic()
    open_trials = {one.name: sum(task.study is one for task in todo) for one in ordered}
    with (
        StudyDisplay(console, [task.trial.weight for task in todo]) as display,
        Pool(jobs, lambda: display.say(STOPPING)) as pool,
    ):
        for one in ordered:
            if open_trials[one.name] == 0:
                broken += _conclude_one(display, one, out, command)
        for alone in (False, True):
            for ended in pool.run([task for task in todo if task.study.alone is alone], alone):
                task = ended.task
                if ended.status == FAILED:
                    failed.append(ended)
                if ended.status in (DONE, FAILED):
                    name = f"{task.study.name}: {task.trial.name()}"
                    note = f": failed, {ended.message}" if ended.status == FAILED else ""
                    display.end(name + note, task.trial.weight, loud=bool(note))
                open_trials[task.study.name] -= 1
                if open_trials[task.study.name] == 0:
                    broken += _conclude_one(display, task.study, out, command)
        interrupted = pool.interrupted
    if display.done:
        console.print(f"{count(display.done, 'trial')} in {duration(time.monotonic() - began)}", highlight=False)
    return _conclude(out, failed, broken, interrupted, command, console)


STOPPING = "stopping after this step (Ctrl-C again: at once) …"


def _conclude_one(display: StudyDisplay, one: Study, out: Path, command: str) -> list[str]:
    """Table, figure and verdicts of one study; what is wrong with it, if anything, so that the others go on."""
    try:
        verdicts = conclude(one, out / one.name, command)
    except Exception as error:
        write(out / one.name / "error.txt", traceback.format_exc())
        return [
            f"{one.name} could not be concluded, {type(error).__name__}: {error}, see {out / one.name / 'error.txt'}"
        ]
    (out / one.name / "error.txt").unlink(missing_ok=True)
    for verdict in verdicts:
        head = verdict.headline
        ends = "" if math.isnan(head.effect.low) else f"[{head.effect.low:.3g}, {head.effect.high:.3g}] "
        effect = f"{head.effect.mean:.3g} {ends}{verdict.unit}"
        display.say(
            f"{one.name}: {verdict.verdict}: {verdict.claim.text} ({effect}, n = {head.effect.n}, {head.condition})"
        )
    return []


def _conclude(
    out: Path, failed: Sequence[Ended], broken: Sequence[str], interrupted: bool, command: str, console: Console
) -> int:
    from rnnnorm.studies.framework.page import build

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True, markup=False)

    say(f"report:      {build(out)}")
    say(f"curves:      tensorboard --logdir {out}")
    for ended in failed:
        say(f"failed:      {ended.task.study.name}: {ended.task.trial.name()}, see {ended.task.error}")
    for text in broken:
        say(f"failed:      {text}")
    if interrupted:
        say(f"interrupted; to go on: {command}")
        return STOPPED
    return FAILURE if failed or broken else OK

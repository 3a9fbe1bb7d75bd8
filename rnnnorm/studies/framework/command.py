"""`rnnnorm study NAME|all`."""

from __future__ import annotations

import argparse
import math
import shlex
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml
from rich.console import Console

from rnnnorm.common.arguments import ArgumentParser
from rnnnorm.common.suggestions import did_you_mean
from rnnnorm.engine.folder import locked
from rnnnorm.engine.options import OPTIONS, Options, add_options, default_jobs
from rnnnorm.engine.progress import Display, count, duration, make_console, say
from rnnnorm.engine.quiet import quiet
from rnnnorm.engine.records import write
from rnnnorm.engine.runner import Outcome, run
from rnnnorm.engine.work import Work
from rnnnorm.studies.framework.conclude import check_settings, conclude, note_settings
from rnnnorm.studies.framework.interval import LOOKS
from rnnnorm.studies.framework.rates import SEEDS, tune
from rnnnorm.studies.framework.sequential import FIRST, arms, judged, p_values, tally, weigh
from rnnnorm.studies.framework.settings import load
from rnnnorm.studies.framework.sitting import sitting
from rnnnorm.studies.framework.study import STUDIES, Study
from rnnnorm.studies.framework.trial import Trial
from rnnnorm.studies.framework.verdict import surviving
from rnnnorm.studies.framework.work import parse, work

EXAMPLES = """\
examples:
  rnnnorm study gradient-flow --quick                  a few minutes: a figure and verdicts on four claims
  rnnnorm study all --quick --data-dir data            every study, about 25 minutes on two cores
  rnnnorm study raggedness -c mine.yaml                on your own data: a YAML file with `data:`, as for compare
  rnnnorm study all --confirm --hours 8                more seeds where claims are undecided; goes on when repeated
  rnnnorm study online --tune --quick                  the best learning rate of each norm, as YAML for -c
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
        the exit code: 0, or 1 if a trial failed, 130 or 143 if the user interrupted by Ctrl-C or SIGTERM.

    Raises:
        ValueError: the request cannot be met; nothing was run.
    """
    console = console or make_console()
    given = _parse(args)
    names = list(dict.fromkeys(STUDIES if given.name == "all" else filter(None, given.name.split(","))))
    unknown = [name for name in names if name not in STUDIES]
    if unknown or not names:
        hint = did_you_mean(unknown[0], STUDIES) if unknown else ""
        raise ValueError(
            f"unknown study {', '.join(unknown) or given.name}{hint}; there are: {', '.join(STUDIES)}, or all"
        )
    if given.config is not None and len(names) > 1:
        raise ValueError("-c belongs to one study; name it instead of all")
    options = Options(*(getattr(given, key) for key in OPTIONS)).resolved(default_jobs())
    out = Path(given.out or ("runs/tuning" if given.tune else "runs/studies"))
    seeds = _seeds(given)
    chosen = [
        STUDIES[name](load(name, given.quick, given.config, given.norms, seeds, given.data_dir)) for name in names
    ]
    for one in chosen:  # what cannot be run is refused before the first trial, and before anything is deleted
        check_settings(one, out / one.name, given.overwrite)
        if given.config is not None:
            _check_configuration(one)
    with locked(out):
        for one in chosen:
            note_settings(one, out / one.name)
        if given.tune:
            return tune(chosen, out, options, shlex.join(["rnnnorm", "study", *args]), console)
        if given.confirm:
            seconds = math.inf if given.hours is None else 3600 * given.hours
            with sitting(out, shlex.join(["rnnnorm", "study", *args])) as note:
                return _confirm(chosen, out, options, seconds, args, console, note)
        return _run(chosen, out, options, args, console)


def _seeds(given: argparse.Namespace) -> str | None:
    """The seeds asked for; those of a confirmatory run begin with the one named, or with `FIRST`.

    Raises:
        ValueError: --hours without --confirm, not positive, or several seeds with --confirm.
    """
    if given.hours is not None and not (given.confirm and given.hours > 0):
        raise ValueError(f"--hours must be positive and belongs to --confirm, got --hours {given.hours:g}")
    if given.confirm and given.tune:
        raise ValueError("--confirm and --tune are two runs: tune first, and freeze the rates")
    if given.tune and given.seeds is None:
        return ",".join(map(str, SEEDS))
    if not given.confirm:
        return str(given.seeds) if given.seeds is not None else None
    first = str(FIRST if given.seeds is None else given.seeds)
    if not first.isdigit():
        raise ValueError(f"--confirm takes the first of its seeds, {FIRST} if not given; got --seeds {given.seeds}")
    return ",".join(str(int(first) + k) for k in range(LOOKS[-1]))


def _parse(args: Sequence[str]) -> argparse.Namespace:
    parser = ArgumentParser(
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
        "--confirm",
        action="store_true",
        help=f"add seeds from {FIRST} on where something is undecided, looking at {', '.join(map(str, LOOKS))} of them",
    )
    add("--hours", type=float, metavar="H", help="with --confirm: stop after about so long; the same command goes on")
    add(
        "--tune",
        action="store_true",
        help=f"find the learning rate of each norm by its validation loss, with seeds {' and '.join(map(str, SEEDS))}",
    )
    add("--overwrite", action="store_true", help="delete what another configuration left in the folder")
    add_options(add)
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


def _run(studies: Sequence[Study], out: Path, options: Options, args: list[str], console: Console) -> int:
    ordered = sorted(studies, key=lambda one: one.alone)  # as the engine runs them
    trials = [(one, trial) for one in ordered for trial in one.trials()]
    todo = [(one, trial) for one, trial in trials if trial.read(out / one.name) is None]
    works = [_work(one, trial, out / one.name) for one, trial in todo]
    command = shlex.join(["rnnnorm", "study", *args])
    if len(todo) < len(trials):
        text = f"{len(trials) - len(todo)} of {count(len(trials), 'trial')} done before: skipped"
        console.print(text, highlight=False)
    broken: list[str] = []
    began = time.monotonic()
    study_of = {work.folder: one for work, (one, _) in zip(works, todo, strict=True)}
    left = Counter(one.name for one, _ in todo)

    def ended(work: Work, display: Display) -> None:
        one = study_of[work.folder]
        left[one.name] -= 1
        if left[one.name] == 0:
            broken.extend(_conclude_one(display.say, one, out, command))

    for one in ordered:
        if left[one.name] == 0:
            broken += _conclude_one(partial(say, console), one, out, command)
    outcome = run(works, out, options, 1, console, noun="trials", ended=ended)
    if done := outcome.done + len(outcome.failed):
        console.print(f"{count(done, 'trial')} in {duration(time.monotonic() - began)}", highlight=False)
    return _conclude(out, outcome, broken, command, console)


def _confirm(
    studies: Sequence[Study],
    out: Path,
    options: Options,
    seconds: float,
    args: list[str],
    console: Console,
    note: Callable[[], None],
) -> int:
    """Add seeds to the most informative arms until all is decided, or the time is over."""
    deadline, command = time.monotonic() + seconds, shlex.join(["rnnnorm", "study", *args])
    by_study = {one.name: arms(one) for one in studies}
    known = {one.name: judged(one, out) for one in studies}
    verdicts = {name: found for name, (_, found) in known.items()}
    total, threshold = Outcome(), math.nan

    def settle(changed: Sequence[Study]) -> None:
        """What seeds are worth now: of all studies, where the p value that survives has moved."""
        nonlocal threshold
        before, threshold = threshold, surviving(p_values(verdicts))
        for one in changed if threshold == before else studies:
            weigh(one, by_study[one.name], out, known[one.name], threshold)

    settle(studies)
    while time.monotonic() < deadline and total.signal is None and not total.disk_full:
        best = max((arm for found in by_study.values() for arm in found), key=lambda arm: arm.worth)
        if best.worth <= 0:
            break
        one = best.study
        alike = [arm for arm in by_study[one.name] if arm.worth >= best.worth / 2]  # workers take a while to start
        missing = [trial for arm in alike for trial in arm.next(out)]
        say(
            console,
            f"{tally(verdicts)}; next: {one.name}, {count(len(missing), 'trial')} of {count(len(alike), 'arm')}",
        )
        outcome = run([_work(one, trial, out / one.name) for trial in missing], out, options, 1, console, noun="trials")
        total.add(outcome)
        note()
        lost = {work.folder for work in outcome.failed}  # they would be tried for ever
        for arm in alike:
            arm.trials = [trial for trial in arm.trials if trial.run(out / one.name).folder not in lost]
        known[one.name] = judged(one, out)
        verdicts[one.name] = known[one.name][1]
        settle([one])
    broken = [text for one in studies for text in _conclude_one(partial(say, console), one, out, command)]
    left = sum(arm.worth > 0 for found in by_study.values() for arm in found)
    say(console, f"{tally(verdicts)}; {count(left, 'arm')} would get more seeds" if left else tally(verdicts))
    if left and total.signal is None:
        say(console, f"to go on: {command}")
    return _conclude(out, total, broken, command, console)


def _work(one: Study, trial: Trial, out: Path) -> Work:
    name = f"{one.name}: {trial.name()}"
    return Work(name, trial.run(out).folder, partial(work, one, trial, out), trial.weight, one.alone)


def _conclude_one(tell: Callable[[str], None], one: Study, out: Path, command: str) -> list[str]:
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
        tell(f"{one.name}: {verdict.verdict}: {verdict.claim.text} ({effect}, n = {head.effect.n}, {head.condition})")
    return []


def _conclude(out: Path, outcome: Outcome, broken: Sequence[str], command: str, console: Console) -> int:
    from rnnnorm.studies.framework.page import build

    say(console, f"report:      {build(out)}")
    say(console, f"curves:      tensorboard --logdir {out}")
    for failed in outcome.failed:
        say(console, f"failed:      {failed.name}, see {failed.error}")
    for text in broken:
        say(console, f"failed:      {text}")
    if outcome.signal is not None:
        say(console, f"interrupted; to go on: {command}")
    return outcome.code or int(bool(broken))

"""The command `rnnnorm`: compare, study, tensorboard, fit, validate, test, report, bench, list."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from rnnnorm._version import __version__
from rnnnorm.common.arguments import ArgumentParser, values_of
from rnnnorm.common.interrupts import interrupts_leave
from rnnnorm.engine.executors.server import begin

if TYPE_CHECKING:
    from rich.table import Table

EXAMPLES = """\
examples:
  rnnnorm compare                          eight presets on generated sequences: a table, curves and a report
  rnnnorm compare -c pos-tagging --norms none,ln,bn-vertical --seeds 3 --data-dir data
  rnnnorm tensorboard runs/default         its curves, coloured by norm, means over seeds and the verdict on top
  rnnnorm study gradient-flow --quick      one question, an experiment, a figure, verdicts on what papers claim
  rnnnorm fit --data TemporalOrder --model.norm ln --trainer.max_epochs 5
  rnnnorm bench --quick                    how fast rnnnorm.LSTM is beside torch.nn.LSTM
  rnnnorm list norms
`rnnnorm COMMAND --help` tells more.
"""

LIST_EXAMPLES = """\
examples:
  rnnnorm list norms            the presets and where they come from
  rnnnorm list tasks            the data modules, their tasks, and what they read
  rnnnorm list experiments      what `rnnnorm compare -c` knows by name
  rnnnorm list studies          the questions that `rnnnorm study` answers
"""

REPORT_EXAMPLES = """\
examples:
  rnnnorm report runs/default   write results.csv, summary.md and report.html again from the run folders
  rnnnorm report runs/default --baseline ln      differences from ln instead of none
  rnnnorm report runs/default --figures pdf      each panel in runs/default/figures as PDF, too, beside the SVG
  rnnnorm report runs/names runs/jsb --out runs/both   one report over several data sets, in runs/both
  rnnnorm report runs/studies   write verdicts, figures and report.html again from the studies' measurements
"""

RUN_EXAMPLES = {
    "fit": "  rnnnorm fit --data TemporalOrder --model.norm bn-timestep --model.hidden_size 64 --trainer.max_epochs 5\n"
    "  rnnnorm fit -c runs/default/ln/seed=0/config.yaml",
    "validate": "  rnnnorm validate -c runs/default/ln/seed=0/config.yaml "
    "--ckpt_path runs/default/ln/seed=0/checkpoints/best.ckpt",
    "test": "  rnnnorm test -c runs/default/ln/seed=0/config.yaml "
    "--ckpt_path runs/default/ln/seed=0/checkpoints/best.ckpt",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: what stands after `rnnnorm`; `sys.argv[1:]` if not given.

    Returns:
        exit code: 0, or 1 if something failed, 2 if the request cannot be met, 130 or 143 if the user interrupted by
        Ctrl-C or SIGTERM.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    parser = _parser()
    # Options of compare, fit, validate and test belong to LightningCLI; only the command's name is read here.
    command = parser.parse_args(args[:1]).command
    if "" not in sys.path:
        sys.path.append("")  # the user's own classes (--data mine.MyData) lie where she is, as with `python -m`
    with interrupts_leave():
        if command in ("compare", "study") and _several_jobs(args):
            begin(MODULES[command])
        import_module(MODULES[command])
    try:
        return COMMANDS[command](args[1:])
    except KeyboardInterrupt as error:
        print("interrupted", file=sys.stderr)
        return 128 + (error.args[0] if error.args and isinstance(error.args[0], int) else signal.SIGINT)
    except (ValueError, OSError) as error:
        from rnnnorm.engine.work import cause

        print(f"rnnnorm {command}: error: {cause(error)}", file=sys.stderr)
        return 2


def _several_jobs(args: Sequence[str]) -> bool:
    """Whether `--jobs` asks for several processes."""
    return any(value.isdigit() and int(value) > 1 for value in values_of(args, "--jobs"))


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="rnnnorm",
        description="What does normalization do to a recurrent network, vertically and horizontally?",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"rnnnorm {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, function in COMMANDS.items():
        commands.add_parser(name, help=_help(function), add_help=False)
    return parser


def _help(function: Callable[[list[str]], int]) -> str:
    text = function.__doc__ or ""
    return text[:1].lower() + text[1:].rstrip(".")


def _compare(args: list[str]) -> int:
    """Train the same network under several normalizers and compare them"""
    from rnnnorm.compare.runner import compare

    return compare(args)


def _study(args: list[str]) -> int:
    """Answer a question about normalization by an experiment, with a figure and verdicts"""
    from rnnnorm.studies.framework.command import study

    return study(args)


def _tensorboard(args: list[str]) -> int:
    """Start TensorBoard on a comparison: coloured by norm, the verdict and main curves on top"""
    from rnnnorm.board.command import tensorboard

    return tensorboard(args)


def _lightning(command: str) -> Callable[[list[str]], int]:
    def run(args: list[str]) -> int:
        from rnnnorm.compare.configuration import TaskCLI

        texts = {"epilog": f"examples:\n{RUN_EXAMPLES[command]}\n", "usage": f"rnnnorm {command} [-c CONFIG] [options]"}
        TaskCLI([command, *args], parser_kwargs={"prog": "rnnnorm", command: texts})
        return 0

    run.__doc__ = {
        "fit": "Train one model (LightningCLI)",
        "validate": "Validate a checkpoint (LightningCLI)",
        "test": "Test a checkpoint (LightningCLI)",
    }[command]
    return run


def _report(args: list[str]) -> int:
    """Write tables, figures and report.html from the folders of runs"""
    parser = ArgumentParser(
        prog="rnnnorm report",
        description="Write tables, figures and report.html again from the folders of runs.",
        epilog=REPORT_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", nargs="+", help="the output folder of `rnnnorm compare` or `rnnnorm study`; several: "
                        "comparisons on different data sets, reported together")  # fmt: skip
    parser.add_argument("--baseline", help="of a comparison: the norm that the others are compared with")
    parser.add_argument("--figures", default="", metavar="pdf", help="the panels as PDF, too, beside SVG")
    parser.add_argument("--out", help="of several comparisons, or of studies: the folder of the report")
    given = parser.parse_args(args)
    formats = given.figures.split(",") if given.figures else []
    if len(given.folder) > 1:
        return _report_several(given.folder, given.out, given.baseline, formats)
    (folder,) = given.folder
    if any(Path(folder).glob("*/measurements.csv*")):
        from rnnnorm.studies.framework import page as studies

        if formats:
            raise ValueError(f"--figures is for comparisons; the figures of studies are in {folder}/<study>")
        problems = studies.conclude_again(Path(folder), None if given.out is None else Path(given.out))
        print(f"report: {studies.build(Path(given.out or folder))}")
        for problem in problems:
            print(f"rnnnorm report: {problem}", file=sys.stderr)
        return 1 if problems else 0
    if given.out is not None:
        raise ValueError(f"--out {given.out} is for several folders, or for studies; the report of one comparison is "
                         "written into its folder")  # fmt: skip
    from rnnnorm.engine.progress import make_console
    from rnnnorm.report import build, overview

    make_console().print(overview(folder, given.baseline))  # also where nothing can be written
    print(f"report: {build(folder, given.baseline, formats)}", flush=True)
    return 0


def _report_several(folders: list[str], out: str | None, baseline: str | None, formats: list[str]) -> int:
    from rnnnorm.engine.progress import make_console
    from rnnnorm.report.several import build_several, overview_several

    if out is None:
        raise ValueError(f"{len(folders)} folders: --out DIR says where the report over all of them goes")
    page = build_several(folders, out, baseline, formats)
    make_console().print(overview_several(folders, baseline))
    print(f"report: {page}")
    return 0


def _bench(args: list[str]) -> int:
    """Measure how fast rnnnorm.LSTM is, as ratios to torch.nn.LSTM"""
    from rnnnorm.bench.command import bench

    return bench(args)


def _list_studies() -> Table:
    from rnnnorm.studies.framework.listing import list_studies

    return list_studies()


def _list(args: list[str]) -> int:
    """Show what exists: norms, tasks, experiments, studies"""
    from rnnnorm.compare.listing import LISTS

    parser = ArgumentParser(
        prog="rnnnorm list",
        description="Show what exists.",
        epilog=LIST_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    kinds = (*LISTS, "studies")
    parser.add_argument("what", choices=kinds, metavar="|".join(kinds))
    table = _list_studies() if (what := parser.parse_args(args).what) == "studies" else LISTS[what]()
    from rnnnorm.engine.progress import make_console

    make_console().print(table)
    return 0


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "compare": _compare,
    "study": _study,
    "tensorboard": _tensorboard,
    "fit": _lightning("fit"),
    "validate": _lightning("validate"),
    "test": _lightning("test"),
    "report": _report,
    "bench": _bench,
    "list": _list,
}

MODULES = {
    "compare": "rnnnorm.compare.runner",
    "study": "rnnnorm.studies.framework.command",
    "tensorboard": "rnnnorm.board.command",
    "fit": "rnnnorm.compare.configuration",
    "validate": "rnnnorm.compare.configuration",
    "test": "rnnnorm.compare.configuration",
    "report": "rnnnorm.report",
    "bench": "rnnnorm.bench.command",
    "list": "rnnnorm.compare.listing",
}
"""What each command imports first."""

if __name__ == "__main__":
    sys.exit(main())

"""Command `rnnnorm bench`."""

from __future__ import annotations

import argparse
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..common.arguments import ArgumentParser
from .allocator import ALLOCATORS, again, current
from .contests import PARTS, PRESETS, Settings, plan
from .document import Benchmark, save
from .figure import check_figure_path, draw
from .machine import describe, one_line
from .measure import measure
from .records import OURS, Record, frame
from .shapes import SHAPES, Shape, parse_shape
from .sheets import headline, sheets

EXAMPLES = """\
examples:
  rnnnorm bench --quick                                 three norms at one small shape, under half a minute
  rnnnorm bench --json bench.json --figure bench.png    everything: 40 minutes on two cores
  rnnnorm bench --presets ln,bn-timestep --shapes 100,64,128,256 50,32,10,200 --parts dense,ragged
  rnnnorm bench --backend reference --parts dense --presets ln
  rnnnorm bench --parts dense --threads 1 --malloc no-trim       one thread, and memory that is kept by the process
"""

_QUICK = Settings(
    presets=("none", "ln", "bn-timestep"),
    shapes=(Shape(50, 16, 32, 64),),
    seconds=0.2,
    growth_base=Shape(20, 8, 16, 32),
    growth={"T": (10, 20, 40), "B": (1, 8), "H": (16, 32, 64)},
)


def parser() -> ArgumentParser:
    """The options."""
    parser = ArgumentParser(
        prog="rnnnorm bench",
        description="How fast is rnnnorm.LSTM? Time and memory as ratios to torch.nn.LSTM, measured in turns inside "
        "one process, beside the eager reference, a TorchScript LayerNorm-LSTM, the bare matrix products, and the "
        "time that the processor takes for as many multiply-adds in registers (its FMA peak).",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--presets", metavar="A,B", help=f"norms; default: {','.join(PRESETS)}")
    add("--shapes", nargs="+", metavar="T,B,I,H", help=f"steps, sequences, inputs, units; default: {_words(SHAPES)}")
    add("--parts", metavar="A,B", help=f"out of, and by default, {','.join(PARTS)}")
    add("--backend", default="auto", help="of rnnnorm.LSTM: auto (default), or a name out of rnnnorm.scan.BACKENDS")
    add("--device", default="cpu", help="cpu (default), cuda, cuda:1")
    add("--threads", type=int, metavar="N", help="of torch on the CPU; default: what torch takes")
    add("--malloc", choices=ALLOCATORS, help="allocator of memory, in a process of its own; default: the present one")
    add("--seconds", type=float, metavar="S", help="per cell, and at least five rounds; default: 3")
    add("--seed", type=int, default=0, metavar="N", help="of data, lengths and order; default: 0")
    add("--json", type=Path, metavar="FILE", help="write all numbers")
    add("--figure", type=Path, metavar="FILE", help="draw them: .png, .svg or .pdf")
    add("--quick", action="store_true", help="three norms, one small shape, little time; other options still hold")
    return parser


def _words(shapes: Sequence[Shape]) -> str:
    return " ".join(map(str, shapes))


def bench(argv: Sequence[str]) -> int:
    """Measure, print tables, write files.

    Args:
        argv: what stands after `rnnnorm bench`.

    Returns:
        0, or the exit code of a process with another allocator.

    Raises:
        ValueError: a request that cannot be met.
        OSError: a file cannot be written, or a process of the memory part failed.
    """
    given = parser().parse_args(argv)
    if given.malloc not in (None, current()):
        return again(argv, given.malloc)
    start = _QUICK if given.quick else Settings()
    settings = Settings(
        presets=_split(given.presets) or start.presets,
        shapes=tuple(map(parse_shape, given.shapes or ())) or start.shapes,
        parts=_split(given.parts) or start.parts,
        backend=given.backend,
        device=given.device,
        seconds=start.seconds if given.seconds is None else given.seconds,
        seed=given.seed,
        growth_base=start.growth_base,
        growth=start.growth,
    )
    for path in filter(None, (given.json, given.figure)):
        if not path.parent.is_dir():
            raise ValueError(f"cannot write {path}: there is no folder {path.parent}")
        if path.is_dir():
            raise ValueError(f"cannot write {path}: it is a folder; expected the name of a file")
    if given.figure:
        check_figure_path(given.figure)
    console = Console()
    console = console if console.is_terminal else Console(width=160)
    with _threads(given.threads):
        machine = describe(torch.device(settings.device))
        console.print(one_line(machine), highlight=False, soft_wrap=True)
        records: list[Record] = []
        try:
            for found in _measure(settings, console):
                records += found
        finally:  # an interrupted run has measured something, too
            run = Benchmark(shlex.join(["rnnnorm", "bench", *argv]), machine, frame(records))
            if given.json and records:
                save(run, given.json)
    for sheet in sheets(run.records):
        console.print(sheet.rich(), highlight=False)
    if given.json:
        console.print(f"numbers: {given.json}", highlight=False, soft_wrap=True)
    if given.figure:
        draw(run, given.figure)
        console.print(f"figure: {given.figure}", highlight=False, soft_wrap=True)
    return 0


def _split(text: str | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in (text or "").split(",") if part.strip()))


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    """Another number of torch's threads for a while."""
    before = torch.get_num_threads()
    if number is not None and number < 1:
        raise ValueError(f"threads must be at least 1, got {number}")
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _measure(settings: Settings, console: Console) -> Iterator[list[Record]]:
    """All contests one after another; a bar on a terminal, otherwise a line per contest."""
    contests = plan(settings)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    bars = Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal, transient=True)
    began = time.monotonic()
    with bars:
        task = bars.add_task("", total=len(contests))
        for done, contest in enumerate(contests, 1):
            bars.update(task, description=str(contest))
            found = measure(contest, settings)
            bars.advance(task)
            if not console.is_terminal:
                main = next((r for r in found if r.contender == OURS), found[-1])
                line = f"[{done}/{len(contests)}, {time.monotonic() - began:.0f} s] {contest}: {headline(main)}"
                console.print(escape(line), highlight=False, soft_wrap=True)
            yield found

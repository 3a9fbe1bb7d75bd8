"""Measurement of one cell of the plan: the contenders of one shape against each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn

from .batch import Batch
from .contenders import build, make_step, our_cell, our_lstm, torch_lstm
from .peak import peak
from .products import Products
from .records import (
    EAGER,
    OUR_CELL,
    OURS,
    PADDED,
    PEAK,
    PRODUCTS,
    RATIO,
    REFERENCE,
    SCRIPT,
    SCRIPTED,
    TORCH,
    TORCH_CELL,
    TORCH_PADDED,
    Record,
)
from .shapes import Shape
from .steps import Step, StreamingStep
from .timing import Spread, interleave, ratios, spread

if TYPE_CHECKING:
    from .cells import Cell, Settings

STREAM = 50
"""Timesteps in one run of a stream: one alone is too short for the clock."""

WITH_LENGTHS = "rnnnorm.LSTM with lengths"

EAGER_PRESETS = ("none", "ln", "bn-timestep")
"""Also run by the reference, which is slow: one norm of each kind is enough to know how slow."""


class Entry(NamedTuple):
    """A contender, with its norm where it has one."""

    name: str
    norm: str = ""


def warm(step: Step) -> None:
    """TorchScript compiles and specializes during its first calls, longer than the common warm-up lasts."""
    for _ in range(5):
        step.run()
        step.reset()


def race(cell: Cell, settings: Settings) -> list[Record]:
    """Training steps or forward passes of all norms, torch's own, and the bare products.

    Ragged batches are given to both sides packed, and beside it padded: to torch's module without lengths, as most
    people do, and to ours with them. The TorchScript peer knows no lengths; it runs on padding, too.
    """
    device = torch.device(settings.device)
    training, ragged = cell.part != "forward", cell.lengths != "dense"
    batch = Batch(cell.shape, cell.lengths, device, settings.seed)
    form = "packed" if ragged else "padded"
    steps: dict[Entry, Step] = {Entry(TORCH): make_step(torch_lstm(cell.shape, device), batch, form, training)}
    if ragged:
        steps[Entry(TORCH_PADDED)] = make_step(torch_lstm(cell.shape, device), batch, "padded", training)
    if cell.part != "growth":
        steps[Entry(PRODUCTS)] = Products(batch, backward=training)
        scripted = build(SCRIPTED, cell.shape, "ln", settings.backend, device)
        steps[Entry(SCRIPTED)] = make_step(scripted, batch, "padded", training)
        warm(steps[Entry(SCRIPTED)])
    ours = {norm: our_lstm(cell.shape, norm, settings.backend, device) for norm in cell.norms}
    for norm, module in ours.items():
        steps[Entry(OURS, norm)] = make_step(module, batch, form, training)
        if ragged:
            steps[Entry(WITH_LENGTHS, norm)] = make_step(module, batch, "lengths", training)
        if cell.part != "growth" and norm in EAGER_PRESETS:
            eager = build(REFERENCE, cell.shape, norm, settings.backend, device)
            steps[Entry(REFERENCE, norm)] = make_step(eager, batch, form, training)
    times = interleave(steps, settings.seconds, device, settings.seed)
    return _race_records(cell, times, {norm: module.ran for norm, module in ours.items()})


def _race_records(cell: Cell, times: dict[Entry, list[float]], ran: dict[str, str]) -> list[Record]:
    torch_times = times[Entry(TORCH)]
    found = []
    for entry, mine in times.items():
        name, norm = entry
        backend = "reference" if name == REFERENCE else ran.get(norm, "")
        if name == WITH_LENGTHS:
            ratio = ratios(mine, times[Entry(TORCH_PADDED)])
            found.append(_timed(cell, OURS, norm, PADDED, ratio, mine, backend))
            continue
        found.append(_timed(cell, name, norm, RATIO, ratios(mine, torch_times), mine, backend))
        if name != OURS:
            continue
        for peer, metric in ((Entry(REFERENCE, norm), EAGER), (Entry(SCRIPTED), SCRIPT)):
            if peer in times and not (peer.name == REFERENCE and backend == "reference"):
                found.append(_timed(cell, OURS, norm, metric, ratios(times[peer], mine), mine, backend))
    return found


def stream(cell: Cell, settings: Settings) -> list[Record]:
    """Single timesteps of one sequence, each from the state that the last one left."""
    device = torch.device(settings.device)
    shape = cell.shape
    x = torch.randn(1, 1, shape.I, generator=torch.Generator().manual_seed(settings.seed)).to(device)
    row = x[0]
    theirs, their_cell = torch_lstm(shape, device), nn.LSTMCell(shape.I, shape.H, device=device)

    def sequence(module: nn.Module) -> StreamingStep:
        return StreamingStep(module, lambda state, t: module(x, state)[1], STREAM)

    steps: dict[Entry, Step] = {
        Entry(TORCH): sequence(theirs),
        Entry(TORCH_CELL): StreamingStep(their_cell, lambda state, t: their_cell(row, state), STREAM),
    }
    ours = {norm: our_lstm(shape, norm, settings.backend, device) for norm in cell.norms}
    for norm, module in ours.items():
        with torch.no_grad():
            module(torch.randn(1, 4, shape.I, device=device))  # statistics other than their initial values
        steps[Entry(OURS, norm)] = sequence(module)
        steps[Entry(OUR_CELL, norm)] = _cell_steps(shape, norm, row, device)
    times = interleave(steps, settings.seconds, device, settings.seed)
    found = []
    for (name, norm), run in times.items():
        each = [seconds / STREAM for seconds in run]
        backend = ours[norm].ran if name == OURS else "step" if name == OUR_CELL else ""
        found.append(_timed(cell, name, norm, RATIO, ratios(run, times[Entry(TORCH)]), each, backend))
    return found


def _cell_steps(shape: Shape, norm: str, row: torch.Tensor, device: torch.device) -> Step:
    module = our_cell(shape, norm, STREAM, device)
    counts = module.norms.per_step()
    return StreamingStep(module, lambda state, t: module(row, state, step=t if counts else None), STREAM)


def memory(cell: Cell, settings: Settings) -> list[Record]:
    """Peak of a training step above module and batch, each contender in a process of its own."""
    device = torch.device(settings.device)
    contenders = [(TORCH, ""), (SCRIPTED, "ln"), *((OURS, norm) for norm in cell.norms)]
    found = []
    base: int | None = None
    for name, norm in contenders:
        measured = peak(name, cell.shape, norm or "none", settings.backend, device)
        base = measured.bytes if base is None else base
        for metric, value in ((RATIO, measured.bytes / base), (PEAK, measured.bytes / 2**20)):
            found.append(_record(cell, name, norm, metric, Spread(value, value, value), None, 1, measured.backend))
    return found


def _timed(
    cell: Cell, contender: str, norm: str, metric: str, ratio: Spread, times: Sequence[float], backend: str = ""
) -> Record:
    return _record(cell, contender, norm, metric, ratio, 1e3 * spread(times).median, len(times), backend)


def _record(
    cell: Cell, contender: str, norm: str, metric: str, value: Spread, ms: float | None, rounds: int, backend: str
) -> Record:
    return Record(cell.part, cell.shape, cell.lengths, contender, norm, backend, metric, *value, ms, rounds)

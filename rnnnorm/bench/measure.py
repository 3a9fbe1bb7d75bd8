"""Measurement of a contest: the contenders of one shape against each other."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from ..scan.native.library import library
from .batch import Batch
from .contenders import build, make_step, of_kind, our_cell, our_kind, our_lstm, torch_lstm, warn_less
from .contests import Contest, Settings
from .neighbours import BesideNeighbours, neighbours
from .peak import peak
from .products import Products, ProductsAtPeak
from .records import (
    AT_PEAK,
    BUSY,
    EAGER,
    OUR_CELL,
    OURS,
    PADDED,
    PEAK,
    PRODUCTS,
    RATIO,
    REFERENCE,
    SAME_KIND,
    SCRIPT,
    SCRIPTED,
    SHARE,
    TORCH,
    TORCH_CELL,
    TORCH_PADDED,
    Record,
)
from .shapes import Shape
from .steps import Step, StreamingStep
from .timing import Spread, interleave, ratios, spread

STREAM = 50
"""Timesteps in one run of a stream: one alone is too short for the clock."""

WITH_LENGTHS = "rnnnorm.LSTM with lengths"

EAGER_PRESETS = ("none", "ln", "bn-timestep")
"""Also run by the reference, which is slow: one norm of each kind is enough to know how slow."""


class Contender(NamedTuple):
    """Contender by its name, with its norm if it has one."""

    name: str
    norm: str = ""


def warm(step: Step) -> None:
    """TorchScript compiles and specializes during its first calls, longer than the common warm-up lasts."""
    for _ in range(5):
        step.run()
        step.reset()


def measure(contest: Contest, settings: Settings) -> list[Record]:
    """Records of a contest, by the way of measuring that belongs to its part."""
    by_part = {"streaming": stream, "memory": memory, "busy": beside, "busy-forward": beside, "kinds": kinds}
    return by_part.get(contest.part, race)(contest, settings)


def race(contest: Contest, settings: Settings) -> list[Record]:
    """Training steps or forward passes of all norms, torch's own, and the bare products, by `torch.mm` and at the
    processor's peak.

    Ragged batches are given to both sides packed, and beside it padded: to torch's module without lengths, as most
    people do, and to ours with them. The TorchScript peer knows no lengths; it runs on padding, too.
    """
    device = torch.device(settings.device)
    training, ragged = contest.part != "forward", contest.lengths != "dense"
    batch = Batch(contest.shape, contest.lengths, device, settings.seed)
    form = "packed" if ragged else "padded"
    steps: dict[Contender, Step] = {
        Contender(TORCH): make_step(torch_lstm(contest.shape, device), batch, form, training)
    }
    if ragged:
        steps[Contender(TORCH_PADDED)] = make_step(torch_lstm(contest.shape, device), batch, "padded", training)
    if contest.part != "growth":
        steps[Contender(PRODUCTS)] = Products(batch, backward=training)
        if device.type == "cpu" and library() is not None:
            steps[Contender(AT_PEAK)] = ProductsAtPeak(batch, backward=training)
        scripted = build(SCRIPTED, contest.shape, "ln", settings.backend, device)
        steps[Contender(SCRIPTED)] = make_step(scripted, batch, "padded", training)
        warm(steps[Contender(SCRIPTED)])
    ours = {norm: our_lstm(contest.shape, norm, settings.backend, device) for norm in contest.norms}
    for norm, module in ours.items():
        steps[Contender(OURS, norm)] = make_step(module, batch, form, training)
        if ragged:
            steps[Contender(WITH_LENGTHS, norm)] = make_step(module, batch, "lengths", training)
        if contest.part != "growth" and norm in EAGER_PRESETS:
            eager = build(REFERENCE, contest.shape, norm, settings.backend, device)
            steps[Contender(REFERENCE, norm)] = make_step(eager, batch, form, training)
    times = interleave(steps, settings.seconds, device, settings.seed)
    return _race_records(contest, times, {norm: module.ran for norm, module in ours.items()})


def _race_records(contest: Contest, times: dict[Contender, list[float]], ran: dict[str, str]) -> list[Record]:
    torch_times = times[Contender(TORCH)]
    found = []
    for entry, mine in times.items():
        name, norm = entry
        backend = "reference" if name == REFERENCE else ran.get(norm, "")
        if name == WITH_LENGTHS:
            ratio = ratios(mine, times[Contender(TORCH_PADDED)])
            found.append(_timed(contest, OURS, norm, PADDED, ratio, mine, backend))
            continue
        found.append(_timed(contest, name, norm, RATIO, ratios(mine, torch_times), mine, backend))
        if name != OURS:
            continue
        peers = ((Contender(REFERENCE, norm), EAGER), (Contender(SCRIPTED), SCRIPT), (Contender(AT_PEAK), SHARE))
        for peer, metric in peers:
            if peer in times and not (peer.name == REFERENCE and backend == "reference"):
                found.append(_timed(contest, OURS, norm, metric, ratios(times[peer], mine), mine, backend))
    return found


def stream(contest: Contest, settings: Settings) -> list[Record]:
    """Single timesteps of one sequence, each from the state that the last one left."""
    device = torch.device(settings.device)
    shape = contest.shape
    x = torch.randn(1, 1, shape.I, generator=torch.Generator().manual_seed(settings.seed)).to(device)
    row = x[0]
    theirs, their_cell = torch_lstm(shape, device), nn.LSTMCell(shape.I, shape.H, device=device)

    def sequence(module: nn.Module) -> StreamingStep:
        return StreamingStep(module, lambda state, t: module(x, state)[1], STREAM)

    steps: dict[Contender, Step] = {
        Contender(TORCH): sequence(theirs),
        Contender(TORCH_CELL): StreamingStep(their_cell, lambda state, t: their_cell(row, state), STREAM),
    }
    ours = {norm: our_lstm(shape, norm, settings.backend, device) for norm in contest.norms}
    for norm, module in ours.items():
        with torch.no_grad():
            module(torch.randn(1, 4, shape.I, device=device))  # statistics other than their initial values
        steps[Contender(OURS, norm)] = sequence(module)
        steps[Contender(OUR_CELL, norm)] = _cell_steps(shape, norm, row, device)
    times = interleave(steps, settings.seconds, device, settings.seed)
    found = []
    for (name, norm), run in times.items():
        each = [seconds / STREAM for seconds in run]
        backend = ours[norm].ran if name == OURS else "step" if name == OUR_CELL else ""
        found.append(_timed(contest, name, norm, RATIO, ratios(run, times[Contender(TORCH)]), each, backend))
    return found


def _cell_steps(shape: Shape, norm: str, row: torch.Tensor, device: torch.device) -> Step:
    module = our_cell(shape, norm, STREAM, device)
    counts = module.norms.per_step()
    return StreamingStep(module, lambda state, t: module(row, state, step=t if counts else None), STREAM)


def beside(contest: Contest, settings: Settings) -> list[Record]:
    """Steps while other processes compute, in turns with the same steps while they stand still."""
    device = torch.device(settings.device)
    training = contest.part == "busy"
    batch = Batch(contest.shape, contest.lengths, device, settings.seed)
    ours = {norm: our_lstm(contest.shape, norm, settings.backend, device) for norm in contest.norms}
    modules: dict[Contender, nn.Module] = {Contender(TORCH): torch_lstm(contest.shape, device)}
    modules |= {Contender(OURS, norm): module for norm, module in ours.items()}
    quiet = {contender: make_step(module, batch, "padded", training) for contender, module in modules.items()}
    with neighbours(torch.get_num_threads()) as them:
        steps: dict[tuple[Contender, bool], Step] = {}
        for contender, step in quiet.items():
            steps[contender, False], steps[contender, True] = step, BesideNeighbours(step, them)
        times = interleave(steps, settings.seconds, device, settings.seed)
    found = []
    for contender in modules:
        name, norm = contender
        busy, backend = times[contender, True], ours[norm].ran if norm in ours else ""
        against_torch = ratios(busy, times[Contender(TORCH), True])
        found.append(_timed(contest, name, norm, RATIO, against_torch, busy, backend))
        # Rounds are not paired here: which core a neighbour takes has nothing to do with the quiet run beside it.
        calm = spread(times[contender, False]).median
        found.append(_timed(contest, name, norm, BUSY, spread([t / calm for t in busy]), busy, backend))
    return found


def kinds(contest: Contest, settings: Settings) -> list[Record]:
    """Training steps of another cell, or of an LSTM with an option, beside torch's module of the kind."""
    device = torch.device(settings.device)
    theirs, backend = of_kind(contest.kind, contest.shape, device), settings.backend
    emitted = contest.shape._replace(H=theirs.proj_size or theirs.hidden_size)
    batch = Batch(emitted, contest.lengths, device, settings.seed)
    modules: dict[Contender, nn.Module] = {Contender(TORCH): theirs}
    ours = {norm: our_kind(contest.kind, contest.shape, norm, backend, device) for norm in contest.norms}
    modules |= {Contender(OURS, norm): module for norm, module in ours.items()}
    steps = {contender: make_step(module, batch, "padded", True) for contender, module in modules.items()}
    with warnings.catch_warnings():
        warn_less()
        times = interleave(steps, settings.seconds, device, settings.seed)
    found = []
    for norm, module in ours.items():
        mine = times[Contender(OURS, norm)]
        ratio = ratios(mine, times[Contender(TORCH)])
        found.append(_timed(contest, OURS, f"{contest.kind}, {norm}", SAME_KIND, ratio, mine, module.ran))
    return found


def memory(contest: Contest, settings: Settings) -> list[Record]:
    """Peak of a training step above module and batch, each contender in a process of its own."""
    device = torch.device(settings.device)
    contenders = [(TORCH, ""), (SCRIPTED, "ln"), *((OURS, norm) for norm in contest.norms)]
    found = []
    base: int | None = None
    for name, norm in contenders:
        measured = peak(name, contest.shape, norm or "none", settings.backend, device)
        base = measured.bytes if base is None else base
        for metric, value in ((RATIO, measured.bytes / base), (PEAK, measured.bytes / 2**20)):
            found.append(_record(contest, name, norm, metric, Spread(value, value, value), None, 1, measured.backend))
    return found


def _timed(
    contest: Contest, contender: str, norm: str, metric: str, ratio: Spread, times: Sequence[float], backend: str = ""
) -> Record:
    return _record(contest, contender, norm, metric, ratio, 1e3 * spread(times).median, len(times), backend)


def _record(
    contest: Contest, contender: str, norm: str, metric: str, value: Spread, ms: float | None, rounds: int, backend: str
) -> Record:
    return Record(contest.part, contest.shape, contest.lengths, contender, norm, backend, metric, *value, ms, rounds)

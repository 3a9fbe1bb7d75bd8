"""Population statistics: re-estimated over training sequences, as of one batch or pooled over batches."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import ExitStack, contextmanager
from itertools import islice
from typing import Any

import torch
from torch import nn

from .accumulator import Accumulator
from .base import Normalizer
from .evaluation import statistics, step_statistics
from .recorder import Recordable, Recorder, mergeable
from .statistics import StoredStatistics

WAYS = ("consistent", "pooled")
ROWS = 1000
"""Sequences that consistent statistics are taken of, unless the caller says otherwise."""

Forward = Callable[[Any], Any]


def recalibrate(
    model: nn.Module,
    batches: Iterable[Any],
    forward: Forward | None = None,
    *,
    way: str = "consistent",
    rows: int | None = ROWS,
    as_trained: bool = False,
) -> None:
    """Re-estimation of population statistics over training batches.

    "consistent": all sequences are normalized as one batch, so that the moments of each slot are those of rows whose
    earlier slots and layers were normalized by the very statistics that are stored. Evaluating the same sequences by
    the result then computes what the forward pass of that batch did (up to Bessel's correction). Sequences are recorded
    where they enter a network and run again as one batch, whatever the batches they came in: memory for the inputs and
    the states of a network, not for its activations. Where a slot stands for several steps (statistics "shared",
    `window`, steps ≥ T_max), each step of a network is normalized by its own moments meanwhile, and the agreement is as
    good as these are like each other.

    "pooled": each batch is normalized by its own moments, and these are pooled, every row of a slot counting once: the
    extra pass of the authors of BN-LSTM. Where a slot is almost constant over a batch, its mean becomes the mean over
    differently normalized networks, and the difference is multiplied by γ/√(σ² + ε), slot after slot: there, one
    consistent batch of 100 sequences is worth more than a pooled training set (`docs/statistics.md`).

    Both run the model in evaluation mode, except that the noise on h_0 is drawn as in training, since it is part of
    what the normalizers have seen. Running averages and random streams stay as they are. The result is used inside
    `statistics(model, "population")`.

    A slot needs two sequences that reach it; later steps use the last slot that has them. So the `rows` should hold
    enough long sequences. A network that runs several times per batch counts each run as further sequences, from the
    state in which that run began. Under distributed training, normalizers with `sync` take the moments of all
    processes, which must call this together.

    Args:
        model: any module that contains normalizers; nothing happens if none keeps statistics.
        batches: what to run the model on; read until there are `rows` sequences. They are kept, and run again for each
            further network, so a loader must not reuse their memory.
        forward: called with each batch; default: the model itself.
        way: "consistent" or "pooled".
        rows: how many sequences are enough; None: all there are. The last batch is taken whole.
        as_trained: draw dropout as in training, that of rnnnorm's networks and of `torch.nn.Dropout` modules, for
            models that are evaluated with it. Otherwise the statistics are those of the network that is evaluated,
            whose variances differ from those in training (Li et al. 2019: variance shift).

    Raises:
        ValueError: there was no batch, or one sequence only; another `way`; `rows` below 2; consistent statistics over
            several batches for normalizers outside `rnnnorm.LSTM`, `GRU`, `RNN` and `RaggedBatchNorm`, as in a single
            cell: only the caller's loop knows what belongs together there, so there has to be one batch.
        TypeError: the model does not take a batch as its one argument, and `forward` was not given.

    Source: Cooijmans et al., "Recurrent Batch Normalization", ICLR 2017, and their released code, for "pooled".

    Example:
        >>> model, x = rnnnorm.LSTM(10, 20, norm="bn-timestep"), torch.randn(5, 8, 10)
        >>> recalibrate(model, [x])
        >>> with rnnnorm.statistics(model, "population"):
        ...     model.eval()(x)[0].shape
        torch.Size([5, 8, 20])
    """
    if way not in WAYS:
        raise ValueError(f"way must be one of {', '.join(WAYS)}, got {way!r}")
    if rows is not None and (isinstance(rows, bool) or not isinstance(rows, int) or rows < 2):
        raise ValueError(
            f"rows must be an integer of at least 2, since one sequence has no variance, or None; got {rows!r}"
        )
    found = step_statistics(model)
    if not found:
        return
    run = _runner(model, forward)
    with torch.no_grad(), _evaluating(model, as_trained):
        # Before a normalizer by itself nothing is normalized.
        if way == "pooled" or isinstance(model, Normalizer) or not mergeable(model):
            _pool(model, found, batches, run, rows)
        else:
            _unify(model, found, batches, run, rows)


def _runner(model: nn.Module, forward: Forward | None) -> Forward:
    """The function that runs one batch; raises TypeError for a model that takes more than a batch."""
    if forward is not None:
        return forward
    try:
        inspect.signature(model.forward).bind(None)
    except TypeError as error:
        raise TypeError(
            f"{type(model).__name__} does not take a batch as its one argument ({error}); say how a batch is run: "
            "recalibrate(model, batches, forward=lambda batch: model(…))"
        ) from error

    def run(batch: Any) -> Any:
        try:
            return model(batch)
        except Exception as error:
            error.add_note(
                f"recalibrate called {type(model).__name__} with a {type(batch).__name__} as its one argument; "
                "if it wants something else, say so: recalibrate(model, batches, forward=lambda batch: model(…))"
            )
            raise

    return run


@contextmanager
def _evaluating(model: nn.Module, as_trained: bool) -> Iterator[None]:
    """Evaluation mode, apart from what `as_trained` draws; afterwards modes and random streams are what they were."""
    modes = {module: module.training for module in model.modules()}
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    model.eval()
    if as_trained:
        for module in modes:
            module.training = isinstance(module, Recordable | nn.modules.dropout._DropoutNd)
    try:
        # What is gathered is gathered by the modules themselves: compiled graphs run as they were written.
        with torch.random.fork_rng(devices), torch.compiler.set_stance("force_eager"):
            yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def _gathering(found: Sequence[StoredStatistics], serves: bool) -> Iterator[dict[StoredStatistics, Accumulator]]:
    """Gather what the normalizers see."""
    gathered = {s: Accumulator(s.running_mean, serves) for s in found}
    for s, accumulator in gathered.items():
        s.accumulator = accumulator
    try:
        yield gathered
    finally:
        for s in found:
            s.accumulator = None


@contextmanager
def _restored(found: Sequence[StoredStatistics]) -> Iterator[None]:
    """Put the population statistics back that there were, should anything go wrong."""
    before = [(s, {name: getattr(s, name) for name in s.population}) for s in found]
    try:
        yield
    except BaseException:
        for s, values in before:
            for name, value in values.items():
                setattr(s, name, value)
        raise


def _one_pass_is_enough(recorder: Recorder, found: Sequence[StoredStatistics]) -> bool:
    """Whether one batch, normalized by its own moments, was normalized by those that are stored, as far as can be.

    It was not where a module ran twice, nor behind a module in which slots stand for several steps.
    """
    alone = len(recorder.modules) <= 1 or not any(s.pools_steps(recorder.steps) for s in found)
    return alone and max(recorder.times.values(), default=1) == 1


def _store(gathered: dict[StoredStatistics, Accumulator]) -> None:
    """Store what was gathered.

    Raises:
        ValueError: there was one row only.
    """
    for accumulator in gathered.values():
        accumulator.finish()
    if max(int(accumulator.count.max()) for accumulator in gathered.values()) == 1:
        raise ValueError("population statistics need at least two sequences, since one has no variance; got one")
    for s, accumulator in gathered.items():
        s.store_population(accumulator)


def _pool(
    model: nn.Module, found: Sequence[StoredStatistics], batches: Iterable[Any], run: Forward, rows: int | None
) -> None:
    """Pooled statistics: the moments that each batch's own normalization leads to, of all batches together."""
    with _gathering(found, serves=False) as gathered:
        _run_until(Recorder(keep=False), model, batches, run, rows, gathered)
    _store(gathered)


def _run_until(
    recorder: Recorder,
    model: nn.Module,
    batches: Iterable[Any],
    run: Forward,
    rows: int | None,
    gathered: dict[StoredStatistics, Accumulator] | None = None,
) -> list[Any]:
    """Run batches until there are enough sequences; returns those that were run."""
    used = []
    with recorder.listening(model):
        for batch in batches:
            run(batch)
            used.append(batch)
            if rows is not None and max(recorder.sequences, _rows_of_first_slots(gathered or {})) >= rows:
                break
    if not used:
        raise ValueError("recalibrate got no batches")
    return used


def _rows_of_first_slots(gathered: dict[StoredStatistics, Accumulator]) -> int:
    """Rows that the slots of step 0 have: how many sequences there were, where nothing tells of whole runs."""
    counts = [int(a.count[0]) for s, a in gathered.items() if not s.pools_steps(0) and bool(a.count.any())]
    return min(counts, default=0)


def _as_one(model: nn.Module, found: Sequence[StoredStatistics], batches: Iterable[Any], run: Forward) -> bool:
    """Consistent statistics of one batch by one pass, if that is enough; returns whether it was."""
    recorder = Recorder(keep=False)
    with statistics(model, "batch"), _gathering(found, serves=True) as gathered:
        _run_until(recorder, model, batches, run, None)
    enough = _one_pass_is_enough(recorder, found)
    if enough:
        _store(gathered)
    return enough


def _in_a_loop(
    model: nn.Module, found: Sequence[StoredStatistics], batches: Iterable[Any], run: Forward, rows: int | None
) -> None:
    """Consistent statistics of normalizers that stand in loops of the caller's: those of one batch."""
    iterator = iter(batches)
    with statistics(model, "batch"), _gathering(found, serves=True) as gathered:
        _run_until(Recorder(keep=False), model, islice(iterator, 1), run, None)
    if (rows is None or _rows_of_first_slots(gathered) < rows) and any(True for _ in iterator):
        raise ValueError(
            "some statistics stand outside rnnnorm.LSTM, GRU, RNN and RaggedBatchNorm, in a single cell perhaps: those "
            'of one batch would be consistent, those of several are not; give one batch, or way="pooled"'
        )
    _store(gathered)


def _unify(
    model: nn.Module, found: Sequence[StoredStatistics], batches: Iterable[Any], run: Forward, rows: int | None
) -> None:
    """Consistent statistics: one module after the other, in the order in which they run.

    The inputs of the first one are recorded over all batches and run as one batch; then, with its statistics in place,
    those of the second, and so on. For a single batch one pass is often enough, and needs no record.
    """
    if not set(found) <= {part for m in model.modules() if isinstance(m, Recordable) for part in m.modules()}:
        _in_a_loop(model, found, batches, run, rows)
        return
    if isinstance(batches, Sized) and len(batches) == 1 and _as_one(model, found, batches, run):
        return
    recorder = Recorder()
    with statistics(model, "batch"):
        used = _run_until(recorder, model, batches, run, rows)
    order, final = recorder.modules, dict[StoredStatistics, Accumulator]()
    with _restored(found), ExitStack() as done:
        done.enter_context(statistics(model, "batch"))
        for module in order:
            if module is not order[0]:
                recorder = Recorder(keep=module)
                _run_until(recorder, model, used, run, None)
            own = step_statistics(module)
            with _gathering(own, serves=True) as gathered, recorder.autocast:
                module.rerun(recorder.as_one_batch())
            final |= gathered
            for s, accumulator in gathered.items():
                s.store_population(accumulator, biased=True)  # as the one batch was normalized
            done.enter_context(statistics(module, "population"))
        unused = [s for s in found if s not in final]
        if final:
            _store(final)
        for s in unused:
            s.forget_population()

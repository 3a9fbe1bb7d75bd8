"""Streams: one timestep of a few sequences without a graph, through all layers, by compiled code.

Whoever reads a stream calls a network once per timestep, and at the sizes of streams most of the time goes into what is
asked and arranged before a product is computed. Here that is done once; see `rnnnorm.scan.native.one`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, distributed, nn

from ..common.settings import listened_to
from ..common.transforms import plain, transformed
from ..equations import QUIET, Layer
from ..scan.native.one import MOST_ROWS, OneStep
from ..scan.native.watch import Watch

_local = threading.local()  # the structure that compiled code reads is written to at each step
_BACKENDS = ("auto", "native")
_GONE_ROUND = (
    *("run", "run_layers", "_run_layers", "run_layer", "run_direction", "ready_layer", "leave_layer", "emit", "norms"),
    *("emitted", "between", "skip", "layer_weights", "read_weights", "_initial_states", "_omitted_states"),
    *("zero_states", "check_tensors", "_as_state", "_as_tuple"),
)
"""Methods of a network that are not called here, so that no subclass may have others."""


class _Prepared:
    """The steps of a network's layers; none where compiled code does not cover all of them.

    Args:
        module: the network (`Recurrent`), or a cell (`RecurrentCell`); both import this file, so it does not name them.
        steps: makes the steps.
    """

    def __init__(self, module: Any, steps: Callable[[], list[OneStep]]) -> None:
        self.settings, self.cell, self.noise = module._settings, module.cell, vars(module).get("noise", QUIET)
        self.options = dict(vars(module.cell))
        self.kind = type(module)
        self.busy = False
        """Whether a step is being made, which may be interrupted by a signal whose handler makes another one."""
        self.watch = Watch()
        self.watch.contents(module)
        try:
            self.steps = steps()
        except ValueError:
            self.steps = []

    def holds(self, module: Any) -> bool:
        """Whether nothing has changed since; where nothing is covered, other settings may help."""
        return (
            type(module) is self.kind
            and module._settings is self.settings
            and module.cell is self.cell
            and vars(module.cell) == self.options
            and vars(module).get("noise", QUIET) is self.noise
            and (not self.steps or (self.watch.unchanged() and all(step.holds(module) for step in self.steps)))
        )

    def serves(self) -> bool:
        """Whether there are steps that may run now."""
        return bool(self.steps) and not self.busy and all(step.recalls() for step in self.steps)


def _prepared(module: Any, dtype: torch.dtype, steps: Callable[[], list[OneStep]]) -> _Prepared | None:
    try:
        known: WeakKeyDictionary[nn.Module, dict[torch.dtype, _Prepared]] = _local.known
    except AttributeError:
        known = _local.known = WeakKeyDictionary()
    by_type = known.setdefault(module, {})
    found = by_type.get(dtype)
    if found is None or not (found.busy or found.holds(module)):
        found = by_type[dtype] = _Prepared(module, steps)
    return found if found.serves() else None


def quiet() -> bool:
    """Whether nothing follows what is computed: no graph, no transform, no other process."""
    return not (
        torch.is_grad_enabled()
        or torch.is_autocast_enabled("cpu")
        or transformed()
        or (distributed.is_available() and distributed.is_initialized())
    )


def _dense(tensor: Tensor, dtype: torch.dtype) -> bool:
    return tensor.dtype is dtype and plain(tensor)


def _addresses(tensors: Sequence[Tensor]) -> tuple[int, ...]:
    return tuple(tensor.data_ptr() for tensor in tensors)


def step_network(network: Any, general: type, input: Tensor, hx: Any) -> tuple[Tensor, tuple[Tensor, ...]] | None:
    """Output and last states of a network for one timestep of a few sequences, as `Recurrent.forward` returns them.

    None where the general code must run, or say what is wrong.

    Args:
        network: a `Recurrent`.
        general: the class `Recurrent`; a subclass with methods of its own is left to the general code.
        input: one timestep.
        hx: as given to `Recurrent.forward`.
    """
    size = input.shape
    unbatched = len(size) == 2
    if len(size) != 3 and not unbatched:
        return None
    time = 1 if network.batch_first and not unbatched else 0
    rows = 1 if unbatched else size[1 - time]
    if size[time] != 1 or not 0 < rows <= MOST_ROWS or size[-1] != network.input_size or network.recorder is not None:
        return None
    dtype = input.dtype
    if network.training or not quiet() or not plain(input):
        return None
    prepared = _prepared(network, dtype, lambda: _network_steps(network, general, input.reshape(rows, -1)))
    if prepared is None:
        return None
    steps = prepared.steps
    sizes, layers = steps[0].sizes, len(steps)
    shapes = [(layers, size) if unbatched else (layers, rows, size) for size in sizes]
    if hx is None:
        if network.initial_state != "zeros":
            return None
        before = [input.new_zeros(shape) for shape in shapes]
    else:
        before = list(hx) if isinstance(hx, tuple | list) else [hx]
        if len(before) != len(shapes) or (len(before) == 1) is isinstance(hx, tuple | list):
            return None
        for k, (state, shape) in enumerate(zip(before, shapes, strict=True)):
            if not isinstance(state, Tensor) or state.shape != shape or not _dense(state, dtype):
                return None
            before[k] = state.contiguous()
    last = tuple(input.new_empty(shape) for shape in shapes)
    output = input.new_empty((*size[:-1], sizes[0]))
    contiguous = input.contiguous()
    x, bytes_each = contiguous.data_ptr(), dtype.itemsize
    starts, ends = _addresses(before), _addresses(last)
    offsets = tuple(rows * size * bytes_each for size in sizes)
    if not x or 0 in starts:  # memory that was taken away
        return None
    prepared.busy = True
    try:
        for k, step in enumerate(steps):
            old = tuple(start + k * offset for start, offset in zip(starts, offsets, strict=True))
            new = tuple(start + k * offset for start, offset in zip(ends, offsets, strict=True))
            step.run(rows, x, old, new, output.data_ptr() if k == layers - 1 else 0)
            x = new[0]
    finally:
        prepared.busy = False
    vars(network)["ran"] = "native"
    return output, last


def step_cell(cell: Any, general: type, rows: Tensor, states: tuple[Tensor, ...], t: int) -> tuple[Tensor, ...] | None:
    """The states of a cell after step t, (B, ·) each, from checked ones; None where the general code must run.

    Args:
        cell: a `RecurrentCell`.
        general: the class `RecurrentCell`.
        rows: inputs, (B, I).
        states: those before the step.
        t: the step.
    """
    B, dtype = rows.shape[0], rows.dtype
    if cell.training or not 0 < B <= MOST_ROWS or not quiet() or not plain(rows):
        return None
    if not all(_dense(state, dtype) for state in states):
        return None
    prepared = _prepared(cell, dtype, lambda: _cell_steps(cell, general, rows))
    if prepared is None or type(t) is not int:
        return None
    kept = [rows.contiguous(), *(state.contiguous() for state in states)]
    last = tuple(torch.empty_like(state) for state in kept[1:])
    x, *before = _addresses(kept)
    if not x or 0 in before:
        return None
    prepared.busy = True
    try:
        prepared.steps[0].run(B, x, tuple(before), _addresses(last), t=t)
    finally:
        prepared.busy = False
    return last


def _cell_steps(cell: Any, general: type, like: Tensor) -> list[OneStep]:
    """The step of a cell; none where a method is another one, or weights have other sizes than the cell."""
    if listened_to(cell, hooks=False) or _others(type(cell), general, ("layer_weights", "read_weights")):
        return []
    step = _step(cell, "", cell.norms, QUIET, like)
    return [step] if set(step.sizes) == {cell.hidden_size} else []


def _step(module: Any, suffix: str, norms: Any, noise: Any, like: Tensor) -> OneStep:
    layer = Layer(module.cell, module.read_weights(suffix), norms, noise)
    return OneStep(module, suffix, layer, like)


def _network_steps(network: Any, general: type, like: Tensor) -> list[OneStep]:
    """The steps of all layers; none where something stands between them, or a method is another one."""
    if network.bidirectional or network.backend not in _BACKENDS or listened_to(network, hooks=False):
        return []
    if _others(type(network), general, _GONE_ROUND):
        return []
    suffixes = network.all_suffixes()
    if any(network.emitted(s) or network.between(k) or network.skip(k) for k, s in enumerate(suffixes)):
        return []
    steps = []
    for suffix in suffixes:
        steps.append(_step(network, suffix, network.norms(suffix), network.noise.evaluating(), like))
        if list(steps[-1].sizes) != network.state_sizes:
            return []
        like = like.new_empty(1, steps[-1].sizes[0])
    return steps


def _others(kind: type, general: type, names: Sequence[str]) -> bool:
    """Whether a class has methods of its own under some names."""
    return any(getattr(kind, name) is not getattr(general, name) for name in names)

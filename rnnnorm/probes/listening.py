"""Listeners at a recurrent network: records of each layer's run, without any effect on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from types import MethodType
from typing import Any, cast

from torch import Tensor

from rnnnorm.equations import CellNorms, Equations, Layer, Noise
from rnnnorm.nn.stack import RecurrentStack
from rnnnorm.norms.base import in_backward
from rnnnorm.probes.layer_record import LayerRecord
from rnnnorm.probes.pre_activations import pre_activations
from rnnnorm.probes.repetition import Repetition


@dataclass(frozen=True, eq=False)
class Listener:
    """Receiver of records of a network's layers.

    Args:
        layers: where they go.
        prefix: what their names begin with.
        states: whether the states are wanted.
        gates: whether the pre-activations are wanted.
        repetitions: where the runs go, if the network is to run as ever, and states and pre-activations are to be those
            of a repetition apart from it.
        gradients: whether the gradients of the states are wanted, too, in the case of a repetition.
    """

    layers: dict[str, LayerRecord]
    prefix: str
    states: bool
    gates: bool
    repetitions: dict[str, Repetition] | None = None
    gradients: bool = False

    @property
    def inside(self) -> bool:
        """True if the run itself must be recorded."""
        return self.states and self.repetitions is None


class Tap:
    """Replacement of a network's `run_direction` that records each call for all listeners.

    Where a listener records the run itself, the network has another backend, cell and noise during a call, also if
    it ends with an exception. Otherwise it runs as usual.

    Args:
        network: the network.
    """

    def __init__(self, network: RecurrentStack) -> None:
        self.network = network
        self.listeners: list[Listener] = []

    def __call__(
        self, rows: Tensor, batch_sizes: Tensor, states: tuple[Tensor, ...], suffix: str, quiet: bool = False
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """`RecurrentStack.run_direction`, and a record."""
        network = self.network
        initial = dict(zip(network.cell.states, (state.detach() for state in states), strict=True))
        record = LayerRecord(batch_sizes.tolist(), rows.detach(), initial)
        before = network.backend, network.cell, network.noise
        apart = [listener for listener in self.listeners if listener.repetitions is not None]
        repetition = Repetition(network, rows, batch_sizes, states, suffix, quiet) if apart else None
        inside = [listener for listener in self.listeners if listener.inside]
        if inside:
            network.backend = "reference"
            options = {f.name: getattr(network.noise, f.name) for f in fields(Noise)}
            network.noise = _HeardNoise(**options, record=record)
            if any(listener.gates for listener in inside):
                network.cell = cast(Equations, _HeardCell(network.cell, record))
        try:
            result = type(network).run_direction(network, rows, batch_sizes, states, suffix, quiet)
        finally:
            network.backend, network.cell, network.noise = before
        if repetition is not None:
            repetition.gates = any(listener.gates for listener in apart)
            repetition.gradients = any(listener.gradients for listener in apart)
            repetition.follow((result[0], *result[1]))
        for listener in self.listeners:
            name = listener.prefix + suffix.removeprefix("_")
            if listener.repetitions is not None and repetition is not None:
                first = listener.repetitions.get(name)
                if in_backward() and first is not None and first.differentiable:
                    continue  # activations that are computed again: gradients reach those of the first time
                listener.repetitions[name] = repetition
            listener.layers[name] = record
        return result

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """A copy of the network, which is being made, is an ordinary one.

        Raises:
            TypeError: no copy of the network is being made.
        """
        made = memo.get(id(self.network))
        if made is None:
            raise TypeError(f"a {type(self.network).__name__} cannot be copied while it is recorded")
        return MethodType(type(made).run_direction, made)

    def __reduce__(self) -> Any:
        """Nothing that could be kept."""
        raise TypeError(f"a {type(self.network).__name__} cannot be pickled while it is recorded")


def listen(network: RecurrentStack, listener: Listener) -> Callable[[], None]:
    """Begin to record a network for a listener; returns what ends it again."""
    # In the instance's dictionary: the class keeps its method, and other networks do not notice.
    tap = vars(network).get("run_direction")
    if not isinstance(tap, Tap):
        tap = Tap(network)
        network.run_direction = tap  # type: ignore[method-assign]
    tap.listeners.append(listener)

    def remove() -> None:
        tap.listeners.remove(listener)
        if not tap.listeners:
            del network.run_direction  # so that compiled graphs notice, too

    return remove


@dataclass(frozen=True)
class _HeardNoise(Noise):
    """The same noise; every step ends with `zone`, which returns the states as the network has them."""

    record: LayerRecord | None = None

    def zone(self, old: tuple[Tensor, ...], new: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        states = super().zone(old, new)
        if self.record is not None:
            self.record.add_states(states)
        return states


class _HeardCell:
    """A cell that also notes the pre-activations of each step."""

    def __init__(self, cell: Equations, record: LayerRecord) -> None:
        self._cell, self._record = cell, record
        self._layers: tuple[Layer, _HeardLayer] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cell, name)

    def step(self, layer: Layer, gates_x: Tensor, states: tuple[Tensor, ...], t: int) -> tuple[Tensor, ...]:
        if self._layers is None or self._layers[0] is not layer:
            options = {f.name: getattr(layer, f.name) for f in fields(Layer) if f.init}
            last: dict[str, Tensor] = {}
            norms = cast(CellNorms, _HeardNorms(layer.norms, last))
            self._layers = layer, _HeardLayer(**{**options, "cell": self._cell, "norms": norms}, last=last)
        heard = self._layers[1]
        after = self._cell.step(heard, gates_x, states, t)
        if not len(gates_x):  # a step that only other processes have, see `scan_reference`
            return after
        self._record.gates.append(pre_activations(heard, heard.last, gates_x, states, after).detach())
        return after


@dataclass(frozen=True)
class _HeardLayer(Layer):
    """A layer that remembers the products of its last step: "hidden", "sum", and what its normalizers returned."""

    last: dict[str, Tensor] = field(default_factory=dict)

    def gates_h(self, h: Tensor, t: int) -> Tensor:
        self.last["hidden"] = super().gates_h(h, t)
        return self.last["hidden"]

    def gates(self, gates_x: Tensor, h: Tensor, t: int) -> Tensor:
        self.last["sum"] = super().gates(gates_x, h, t)
        return self.last["sum"]


class _HeardNorms:
    """The normalizers of a layer, of which those at `joint` and `candidate` leave what they returned in `last`."""

    def __init__(self, norms: CellNorms, last: dict[str, Tensor]) -> None:
        self._norms, self._last = norms, last

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._norms, name)
        if name not in ("joint", "candidate") or found is None:
            return found

        def call(x: Tensor, t: int = 0) -> Tensor:
            self._last[name] = found(x, t)
            return self._last[name]

        return call

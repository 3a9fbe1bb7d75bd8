"""Recurrent networks as modules: inputs, states and torch's conventions, common to LSTM, GRU and RNN."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, Self, TypeVar, cast, overload

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from ..common.settings import Settings, built
from ..common.transforms import by_plain_operators, compiling, sizes_are_fixed
from ..equations import Equations
from ..norms.places import Norm
from ..norms.processes import processes
from ..norms.recorder import Rows
from ..norms.synchronized import SynchronizedNormalizer
from ..packing import Packed, pack_dense
from . import compiled, padded, unrolled
from .from_data import initialize_weight_norm
from .inputs import InputError, check_rows, enter, enter_padded, enter_states, leave, leave_states
from .options import Options
from .skeleton import architecture, insides
from .streaming import step_network
from .torch_interface import TorchInterface
from .wavefront import stream
from .weights import NAMES, collector

State = TypeVar("State")


NETWORKS: dict[str, tuple[type[Recurrent[Any]], Mapping[str, Any]]] = {}
"""Networks by the names that tasks have for them, with the arguments that each name fixes."""


class Recurrent(TorchInterface, Generic[State]):
    """A (multi-layer, bidirectional) recurrent network; `LSTM`, `GRU` and `RNN` say with which cell.

    Args:
        cell: the equations.
        options: those of the subclass's constructor.
    """

    variants: ClassVar[Mapping[str, Mapping[str, Any]]]
    """Names of the network for tasks, such as "lstm", and the arguments that each of them fixes."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        NETWORKS.update({name: (cls, fixed) for name, fixed in vars(cls).get("variants", {}).items()})

    def __init__(self, cell: Equations, options: Options) -> None:
        super().__init__(cell, options)
        self.architecture, self.insides = architecture(self), insides(self)
        self.cell_options = tuple(vars(cell).items())
        for inside in self.modules():
            if isinstance(inside, Settings):
                built(inside)
        self.draw_weights()
        for suffix in self.all_suffixes():
            self.normalize_weights(suffix)

    @classmethod
    def without_constructor(cls, cell: Equations, options: Options) -> Self:
        """A network of this class; the constructor of a subclass, whose arguments are its own, is not called."""
        new = cls.__new__(cls)
        Recurrent.__init__(new, cell, options)
        return new

    @classmethod
    def from_torch(cls, module: nn.RNNBase, norm: str | Norm = "none", **options: Any) -> Self:
        """A normalized network that starts from the weights of torch's module; `options` as in the constructor.

        Raises:
            TypeError: something else than torch's module of the same kind.
        """
        if cls.torch_class is None:
            raise TypeError(f"torch has no {cls.__name__} to start from")
        if not isinstance(module, cls.torch_class):
            raise TypeError(f"expected a torch.nn.{cls.torch_class.__name__}, got {type(module).__name__}")
        weight = next(module.parameters())
        names = ["input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional"]
        known = inspect.signature(collector(cls)).parameters
        names += [name for name in ("proj_size", "nonlinearity") if name in known]
        arguments: dict[str, Any] = {name: getattr(module, name) for name in names}
        arguments |= {"device": weight.device, "dtype": weight.dtype, "norm": norm}
        new = cls(**arguments, **options)
        for suffix in new.all_suffixes():
            # By attribute: a weight that is composed from other parameters is none itself.
            found = {name: getattr(module, name + suffix, None) for name in NAMES}
            new.assign_torch(suffix, {name: weight.detach() for name, weight in found.items() if weight is not None})
        new.train(module.training)
        return new

    @property
    def needs_data(self) -> bool:
        """Whether `initialize_from_data` must be called before training (`wn:init=data`)."""
        return self._starts_from_data and not bool(self.initialized_from_data)

    def initialize_from_data(self, input: Tensor | PackedSequence, *, lengths: Tensor | None = None) -> None:
        """Set gains and biases of weight normalization from one batch (Salimans & Kingma 2016, section 3).

        Raises:
            ValueError: the norm has no weight normalization with `init=data`.
        """
        if not self._starts_from_data:
            raise ValueError(f'norm {self.norm.name!r} does not start from data; use "wn:init=data"')
        initialize_weight_norm(self, enter(input, lengths, self.input_size, self.batch_first))
        self.initialized_from_data.fill_(True)

    def _as_state(self, states: tuple[Tensor, ...]) -> State:
        """The states as the caller sees them: a tuple of several, or the only one."""
        return cast(State, states if len(states) > 1 else states[0])

    @overload
    def forward(
        self, input: Tensor, hx: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]: ...

    @overload
    def forward(self, input: PackedSequence, hx: State | None = None) -> tuple[PackedSequence, State]: ...

    def forward(
        self, input: Tensor | PackedSequence, hx: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor | PackedSequence, State]:
        """Run all layers; see the class for shapes."""
        if self._starts_from_data and self.training and self.needs_data:
            raise RuntimeError(
                f"norm {self.norm.name!r} starts from data: call initialize_from_data(first_batch) before training"
            )
        if by_plain_operators():  # first, since it asks for no sizes
            return self._unrolled(input, hx, lengths)
        if isinstance(input, Tensor) and self._no_sequences(input):
            return self._nothing(input, hx, lengths)
        if compiling(input.data if isinstance(input, PackedSequence) else input):
            return self._as_operator(input, hx, lengths)
        if not self.training and lengths is None and isinstance(input, Tensor):
            stepped = step_network(self, Recurrent, input, hx)
            if stepped is not None:
                return stepped[0], self._as_state(stepped[1])
        packed = enter(input, lengths, self.input_size, self.batch_first)
        unbatched = isinstance(input, Tensor) and input.dim() == 2
        states = self._initial_states(hx, packed, unbatched)
        data, last = self.run(packed.data, packed.batch_sizes, states, lengths is not None)
        output = leave(input, lengths, packed, data, self.batch_first)
        return output, self._as_state(leave_states(last, packed, unbatched))

    def rerun(self, rows: Rows) -> None:
        """All layers over rows, for the sake of the normalizers inside: step by step where outputs would be many."""
        if not stream(self, rows):
            self.run_layers(*rows)

    def _unrolled(
        self, input: Tensor | PackedSequence, hx: State | None, lengths: Tensor | None
    ) -> tuple[Tensor | PackedSequence, State]:
        """`forward` by plain operators, for a graph that is being recorded."""
        if isinstance(input, tuple):  # what a trace makes of a PackedSequence
            input = PackedSequence(*input)
        rows, grid, order = padded.enter(input, lengths, self.input_size, self.batch_first)
        unbatched = isinstance(input, Tensor) and input.dim() == 2
        with sizes_are_fixed():
            states = self._initial_states(hx, order, unbatched)
            rows, last = unrolled.run(self, rows, grid, states)
        output = padded.leave(input, rows, grid, self.batch_first)
        return output, self._as_state(leave_states(last, order, unbatched))

    def _as_operator(
        self, input: Tensor | PackedSequence, hx: State | None, lengths: Tensor | None
    ) -> tuple[Tensor | PackedSequence, State]:
        """`forward` as one operator, for compilers; nothing here depends on sizes or lengths."""
        reason = compiled.obstacle(self)
        if reason:
            result: tuple[Tensor | PackedSequence, State] = compiled.run_eagerly(self, reason, input, hx, lengths)
            return result
        unbatched = isinstance(input, Tensor) and input.dim() == 2
        if isinstance(input, PackedSequence):
            check_rows(input.data, self.input_size)
            order = input.sorted_indices
            packed = Packed(*input, batch=None if order is None else order.shape[0])
            data, sizes = packed.data, cast(Tensor | None, packed.batch_sizes)
        else:
            data = enter_padded(input, lengths, self.input_size, self.batch_first)
            sizes = None if lengths is None else torch.as_tensor(lengths)
            packed = Packed(data, torch.empty(0), batch=data.shape[1])
        states: tuple[Tensor, ...] = ()
        if hx is None and self.initial_state == "zeros" and not (self.training and self.initial_state_noise):
            self.check_tensors(data)
        else:
            states = self._initial_states(hx, packed, unbatched)
        output, last = compiled.run(self, data, sizes, states)
        state = self._as_state(leave_states(last, packed, unbatched))
        if isinstance(input, PackedSequence):
            return PackedSequence(output, *packed[1:4]), state
        output = output.squeeze(1) if unbatched else output
        return output.transpose(0, 1) if self.batch_first and not unbatched else output, state

    def _initial_states(self, hx: State | None, packed: Packed, unbatched: bool) -> tuple[Tensor, ...]:
        """The states to begin with, (layers·directions, B, ·), in packed order.

        Raises:
            InputError: rows or given states do not fit each other or the weights.
        """
        if hx is None:
            self.check_tensors(packed.data)
            return self._omitted_states(packed)
        given = self._as_tuple(hx)
        self.check_tensors(packed.data, given)
        return enter_states(given, self.cell.states, self.state_sizes, self.num_states, packed, unbatched)

    def _omitted_states(self, packed: Packed) -> tuple[Tensor, ...]:
        """The states where the caller gives none, (layers·directions, B, ·)."""
        B = packed.sequences
        if self.initial_state == "learned":
            learned = (getattr(self, f"{name}_0") for name in self.cell.states)
            states = tuple(state.unsqueeze(1).expand(-1, B, -1) for state in learned)
        else:
            states = self.zero_states(packed.data, self.num_states, B)
        # Noise belongs to what the normalizers have seen in training, so also to the population that they estimate.
        if (self.training or self.recorder is not None) and self.initial_state_noise:
            noise = torch.randn_like(states[0])  # in the caller's order: a compiled graph sorts later
            noise = noise if packed.sorted_indices is None else noise[:, packed.sorted_indices]
            states = (states[0] + self.initial_state_noise * noise, *states[1:])
        return states

    def _no_sequences(self, input: Tensor) -> bool:
        """Whether an input that fits otherwise holds no sequence: (T, 0, F)."""
        batch = 0 if self.batch_first else 1
        return input.dim() == 3 and not input.shape[batch] and 0 not in (input.shape[1 - batch], input.shape[2])

    def _nothing(self, input: Tensor, hx: State | None, lengths: Tensor | None) -> tuple[Tensor, State]:
        """The output for no sequences, (T, 0, ·): no numbers, but zero gradients for all inputs and weights."""
        given = (0,) if lengths is None else tuple(torch.as_tensor(lengths).shape)
        if input.shape[-1] != self.input_size or given != (0,):
            raise InputError(
                f"expected {self.input_size} features, and no lengths for no sequences; "
                f"got input of shape {tuple(input.shape)} and lengths of shape {given}"
            )
        packed = pack_dense(input.transpose(0, 1) if self.batch_first else input)
        states = self._initial_states(hx, packed, unbatched=False)
        if processes() > 1 and any(isinstance(m, SynchronizedNormalizer) and m.synchronizes() for m in self.modules()):
            data, last = self._accompany(packed, states)
        else:
            data = self.nothing(self.all_suffixes(), packed.data, *states)
            last = tuple(data.view(self.num_states, 0, size) for size in self.state_sizes)
        return data.view(*input.shape[:2], self.output_size), self._as_state(last)

    def _accompany(self, packed: Packed, states: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """A run without rows, so that other processes, whose normalizers wait for ours, can go on."""
        backend, self.backend = self.backend, "reference"  # which can do without rows
        try:
            return self.run(packed.data, packed.batch_sizes, states)
        finally:
            self.backend = backend

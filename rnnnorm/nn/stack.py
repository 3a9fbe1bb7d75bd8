"""Stacks of recurrent layers over packed rows: layers, directions, skips and dropout, common to LSTM, GRU and RNN."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, distributed, nn

from ..common.transforms import transformed
from ..equations import NO_NORMS, QUIET, CellNorms, Equations, Layer, draw_seed, drop_rows, dropout, seeded
from ..norms import Normalizer
from ..norms.recorder import Recordable, Rows
from ..norms.synchronized import agreement
from ..packing import reversal, row_sequences
from ..scan import BACKENDS, check_backend, resolve
from .options import Options
from .residual import Skip, fixup_scale, initial_scale, skipping_layers
from .weights import RecurrentWeights

Names = tuple[str, ...]


class RecurrentStack(Recordable, RecurrentWeights):
    """A stack of recurrent layers with normalizers, skips and dropout, on packed rows.

    Args:
        cell: the equations.
        options: those of the subclass's constructor.
    """

    untold: ClassVar[tuple[str, ...]] = ("ran", "architecture", "cell_options", "insides")
    initialized_from_data: Tensor
    architecture: str
    """Description of what the network was built from; "" where that cannot be told."""
    cell_options: tuple[tuple[str, Any], ...]
    """Arguments of the equations."""
    insides: tuple[tuple[str, str, Names, Names, Names], ...]
    """The modules inside: path, class, and the names of parameters, buffers and further statistics."""

    def __init__(self, cell: Equations, options: Options) -> None:
        super().__init__(cell, options)
        self.num_layers, self.bidirectional = options.num_layers, options.bidirectional
        self.batch_first = options.batch_first
        self.dropout, self.variational_dropout = float(options.dropout), float(options.variational_dropout)
        self.weight_dropout = float(options.weight_dropout)
        self.noise = options.noise(cell)
        self.initial_state, self.initial_state_noise = options.initial_state, float(options.initial_state_noise)
        self.residual, self.between_on, self.backend = options.residual, options.between_on, options.backend
        self.ran = ""
        """The backend that ran last; "" before the first forward pass."""
        device, dtype, max_steps = options.device, options.dtype, options.max_steps
        keys: dict[str, Any]
        for layer in range(self.num_layers):
            for suffix in self.suffixes(layer):
                self.create_weights(suffix, self.input_size if layer == 0 else self.output_size)
                norms = cell.build_norms(self.norm, self.hidden_size, max_steps, device, dtype)
                check_backend(self.backend, cell, norms, self.noise)
                setattr(self, "norms" + suffix, norms if norms.any() else None)
                emitted = self.norm.places.get("emitted")
                keys = {"bias": True, "groups": 1, "max_steps": max_steps, "device": device, "dtype": dtype}
                built = emitted.build(self.proj_size or self.hidden_size, **keys) if emitted else None
                setattr(self, "emitted" + suffix, built)
        between = self.norm.places.get("between")
        if between is not None and self.num_layers == 1:
            warnings.warn("a norm between layers does nothing with num_layers=1", stacklevel=4)
        for layer in range(self.num_layers - 1):
            keys = {"bias": True, "max_steps": max_steps, "device": device, "dtype": dtype}
            setattr(self, f"between_l{layer}", between.build(self.output_size, **keys) if between else None)
        self._skipping: list[int] = []
        if self.residual != "none":
            self._skipping = skipping_layers(self.input_size, self.output_size, self.num_layers)
        scale = initial_scale(self.residual, options.residual_scale, len(self._skipping))
        for layer in self._skipping:
            self.add_module(f"skip_l{layer}", Skip(self.residual, scale, device, dtype))
        if self.initial_state == "learned":
            for name, size in zip(cell.states, self.state_sizes, strict=True):
                initial = torch.zeros(self.num_states, size, device=device, dtype=dtype)
                self.register_parameter(f"{name}_0", nn.Parameter(initial))
        self._starts_from_data = self.norm.starts_from_data
        if self._starts_from_data:
            self.register_buffer("initialized_from_data", torch.tensor(False, device=device))

    @property
    def num_directions(self) -> int:
        """2 if bidirectional, otherwise 1."""
        return 2 if self.bidirectional else 1

    @property
    def num_states(self) -> int:
        """Layers times directions."""
        return self.num_layers * self.num_directions

    @property
    def output_size(self) -> int:
        """Features per row of the output."""
        return self.num_directions * (self.proj_size or self.hidden_size)

    @property
    def state_sizes(self) -> list[int]:
        """Features of each state: a projection makes the first one smaller."""
        return [self.proj_size or self.hidden_size, self.hidden_size][: len(self.cell.states)]

    def suffixes(self, layer: int) -> list[str]:
        """Suffixes of the names of a layer's weights, one per direction."""
        return [f"_l{layer}", f"_l{layer}_reverse"][: self.num_directions]

    def all_suffixes(self) -> list[str]:
        """Suffixes of all layers and directions."""
        return [suffix for layer in range(self.num_layers) for suffix in self.suffixes(layer)]

    def norms(self, suffix: str) -> CellNorms:
        """The normalizers inside one layer and direction, such as "_l0" or "_l1_reverse"."""
        module: CellNorms | None = getattr(self, "norms" + suffix)
        return NO_NORMS if module is None else module

    def emitted(self, suffix: str) -> Normalizer | None:
        """The normalizer of the rows that one layer and direction emits, which its recurrence does not see."""
        module: Normalizer | None = getattr(self, "emitted" + suffix, None)
        return module

    def emit(self, output: Tensor, sizes: list[int], suffix: str) -> Tensor:
        """The rows of h_t (N, H) of one layer and direction as others see them."""
        norm = self.emitted(suffix)
        if norm is None:
            return output
        norm.reset_sequence()
        output = norm.sequence(output, sizes)
        norm.reset_sequence()
        return output

    def between(self, layer: int) -> Normalizer | None:
        """The normalizer of the rows that leave `layer` for the next one."""
        module: Normalizer | None = getattr(self, f"between_l{layer}", None)
        return module

    def skip(self, layer: int) -> Skip | None:
        """The residual connection around a layer."""
        module: Skip | None = getattr(self, f"skip_l{layer}", None)
        return module

    def draw_weights(self) -> None:
        """Draw new weights, layer by layer."""
        for layer in range(self.num_layers):
            for suffix in self.suffixes(layer):
                self.initialize(suffix)
                if self.residual == "fixup" and layer in self._skipping:
                    W = getattr(self, "weight_ih" + suffix).detach()
                    self.assign("weight_ih" + suffix, W * fixup_scale(len(self._skipping)))
                    if self.proj_size:
                        self.assign("weight_hr" + suffix, torch.zeros_like(getattr(self, "weight_hr" + suffix)))

    def reset_parameters(self) -> None:
        """Draw new weights; gains, biases, learned states, scales and statistics go back to their initial values."""
        self.draw_weights()
        self.reset_norms()
        for layer in self._skipping:
            getattr(self, f"skip_l{layer}").reset_parameters()
        if self.initial_state == "learned":
            for name in self.cell.states:
                nn.init.zeros_(getattr(self, f"{name}_0"))
        if self._starts_from_data:
            self.initialized_from_data.fill_(False)

    def zero_states(self, like: Tensor, *batch: int) -> tuple[Tensor, ...]:
        """States of zeros, (…, B, ·)."""
        return tuple(like.new_zeros(*batch, size) for size in self.state_sizes)

    def draws(self, rows: bool) -> bool:
        """Whether a run needs a seed: for whatever is random but the rows between layers, or for them, too."""
        if not self.training:
            return False
        dropped = self.variational_dropout or self.weight_dropout or (rows and self.drops_rows())
        return bool(dropped) or (self.noise != QUIET and self.noise.any())

    def drops_rows(self) -> bool:
        """Whether a run drops rows between layers."""
        return self.training and bool(self.dropout) and self.num_layers > 1

    def run(
        self, data: Tensor, batch_sizes: Tensor, states: tuple[Tensor, ...], ragged: bool = False
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """All layers over packed rows (N, F), states in packed order.

        `ragged` rows come from padded sequences: then compiled graphs do not know N, and masks follow from a seed.
        """
        if not self.draws(ragged) or transformed() or data.is_meta:
            return self.run_layers(data, batch_sizes, states)
        with seeded(draw_seed(), data.device, ragged):
            return self.run_layers(data, batch_sizes, states)

    def run_layers(
        self, data: Tensor, batch_sizes: Tensor, states: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """All layers over packed rows; random numbers come from the present stream."""
        if self.recorder is not None:
            self.recorder.note(self, Rows(data, batch_sizes, states))
        if distributed.is_available() and distributed.is_initialized():
            with agreement(self.modules(), batch_sizes, data.device):
                return self._run_layers(data, batch_sizes, states)
        return self._run_layers(data, batch_sizes, states)

    def _run_layers(
        self, data: Tensor, batch_sizes: Tensor, states: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        D = self.num_directions
        each = list(zip(*(state.unbind() for state in states), strict=True))  # per layer and direction
        last: list[tuple[Tensor, ...]] = []
        for layer in range(self.num_layers):
            data, ended = self.run_layer(data, batch_sizes, each[layer * D : (layer + 1) * D], layer)
            last += ended
        if self.variational_dropout and self.training:
            data = self._drop_per_sequence(data, batch_sizes)
        return data, tuple(torch.stack(parts) for parts in zip(*last, strict=True))

    def run_layer(
        self,
        data: Tensor,
        batch_sizes: Tensor,
        states: Sequence[tuple[Tensor, ...]],
        layer: int,
        quiet: bool = False,
    ) -> tuple[Tensor, list[tuple[Tensor, ...]]]:
        """All directions of one layer, its skip, and what happens to the rows on their way to the next one."""
        random, sizes = self.training and not quiet, batch_sizes.tolist()
        rows = self._drop_per_sequence(data, batch_sizes) if self.variational_dropout and random else data
        outputs, last = [], []
        for direction, suffix in enumerate(self.suffixes(layer)):
            turn = reversal(batch_sizes).to(data.device) if direction else None
            seen = rows if turn is None else rows[turn]
            output, ended = self.run_direction(seen, batch_sizes, states[direction], suffix, quiet)
            output = self.emit(output, sizes, suffix)
            outputs.append(output if turn is None else output[turn])
            last.append(ended)
        output = torch.cat(outputs, 1) if len(outputs) > 1 else outputs[0]
        return self.leave_layer(data, output, sizes, layer, quiet), last

    def leave_layer(
        self,
        data: Tensor,
        output: Tensor,
        sizes: list[int],
        layer: int,
        quiet: bool = False,
        normalize: Callable[[Normalizer, Tensor], Tensor] | None = None,
    ) -> Tensor:
        """A layer's output rows on their way to the next layer: norm, dropout and skip; `data` are its input rows.

        Where rows are not packed, `normalize` sends them through a normalizer instead of its `sequence`.
        """
        between, skip = self.between(layer), self.skip(layer)
        on_sum = skip is not None and self.between_on == "sum"
        normalize = normalize or (lambda norm, rows: norm.sequence(rows, sizes))
        if between is not None and not on_sum:
            output = normalize(between, output)
        if self.dropout and self.training and not quiet and layer < self.num_layers - 1:
            output = drop_rows(output, self.dropout)
        if skip is not None:
            output = skip(data, output)
        if between is not None and on_sum:
            output = normalize(between, output)
        return output

    def run_direction(
        self, rows: Tensor, batch_sizes: Tensor, states: tuple[Tensor, ...], suffix: str, quiet: bool = False
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """One layer in one direction, without what is random if `quiet`."""
        layer = self.ready_layer(suffix, states[0], quiet)
        backend = self.backend
        if backend != "reference":  # which covers everything
            # By the steps of all processes where they are synchronized: their backends must be the same one.
            backend = resolve(backend, layer, rows, layer.norms.agreed_steps(batch_sizes.shape[0]))
        vars(self)["ran"] = backend  # not by `Settings.__setattr__`, since it is no setting
        return BACKENDS[backend].scan(layer, rows, batch_sizes, states)

    def ready_layer(self, suffix: str, h_0: Tensor, quiet: bool = False) -> Layer:
        """One layer and direction with what is dropped in this run, without what is random if `quiet`."""
        random = self.training and not quiet
        weights = self.layer_weights(suffix, self.weight_dropout if random else 0.0)
        if self.noise == QUIET:
            return Layer(self.cell, weights, self.norms(suffix))
        noise = self.noise if random else self.noise.evaluating()
        return Layer(self.cell, weights, self.norms(suffix), noise, noise.mask(h_0), noise.update_mask(h_0))

    def _drop_per_sequence(self, data: Tensor, batch_sizes: Tensor) -> Tensor:
        """Dropout with one mask per sequence, the same at all its steps."""
        B = int(batch_sizes[0])
        mask = dropout(data.new_ones(B, data.shape[1]), self.variational_dropout)
        return data * mask[row_sequences(batch_sizes).to(data.device)]

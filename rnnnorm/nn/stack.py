"""Layers and directions over packed rows: what LSTM, GRU and RNN have in common behind the border."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from ..common.settings import Settings, built
from ..common.transforms import transformed
from ..equations import NO_NORMS, Cell, CellNorms, Layer, draw_seed, drop_rows, dropout, seeded
from ..norms import Normalizer
from ..norms.recorder import Recordable, Rows
from ..norms.synchronized import agreement
from ..packing import reversal, row_sequences
from ..scan import BACKENDS, check_backend, resolve
from .from_data import wants_data
from .options import check_options, noise_of
from .residual import Skip, fixup_scale, initial_scale, skipping_layers
from .skeleton import architecture, insides
from .wavefront import stream
from .weights import RecurrentWeights


class RecurrentStack(Recordable, RecurrentWeights):
    """A stack of recurrent layers with normalizers, skips and dropout, on packed rows.

    Args:
        cell: the equations.
        arguments: those of the subclass's constructor, by name.
    """

    untold: ClassVar[tuple[str, ...]] = ("ran", "architecture", "cell_options", "insides")
    initialized_from_data: Tensor

    def __init__(self, cell: Cell, arguments: dict[str, Any]) -> None:
        check_options(cell, arguments)
        super().__init__(cell, arguments)
        a = arguments
        self.num_layers: int = a["num_layers"]
        self.batch_first: bool = a["batch_first"]
        self.bidirectional: bool = a["bidirectional"]
        self.dropout, self.variational_dropout = float(a["dropout"]), float(a["variational_dropout"])
        self.weight_dropout = float(a["weight_dropout"])
        self.noise = noise_of(cell, a)
        self.initial_state: str = a["initial_state"]
        self.initial_state_noise = float(a["initial_state_noise"])
        self.residual: str = a["residual"]
        self.between_on: str = a["between_on"]
        self.backend: str = a["backend"]
        self.ran = ""
        """The backend that ran last; "" before the first forward pass."""
        keys = {key: a[key] for key in ("device", "dtype")}
        for layer in range(self.num_layers):
            for suffix in self.suffixes(layer):
                self.create_weights(suffix, self.input_size if layer == 0 else self.output_size)
                norms = cell.build_norms(self.norm, self.hidden_size, a["max_steps"], **keys)
                check_backend(self.backend, cell, norms, self.noise)
                setattr(self, "norms" + suffix, norms if norms.any() else None)
        between = self.norm.places.get("between")
        if between is not None and self.num_layers == 1:
            warnings.warn("a norm between layers does nothing with num_layers=1", stacklevel=4)
        for layer in range(self.num_layers - 1):
            module = between.build(self.output_size, bias=True, max_steps=a["max_steps"], **keys) if between else None
            setattr(self, f"between_l{layer}", module)
        self._skipping: list[int] = []
        if self.residual != "none":
            self._skipping = skipping_layers(self.input_size, self.output_size, self.num_layers)
        scale = initial_scale(self.residual, a["residual_scale"], len(self._skipping))
        for layer in self._skipping:
            self.add_module(f"skip_l{layer}", Skip(self.residual, scale, **keys))
        if self.initial_state == "learned":
            for name, size in zip(cell.states, self.state_sizes, strict=True):
                self.register_parameter(f"{name}_0", nn.Parameter(torch.zeros(self.num_states, size, **keys)))
        if wants_data(self.norm):
            self.register_buffer("initialized_from_data", torch.tensor(False, device=a["device"]))
        self.architecture = architecture(self)
        """What the network was built from, as a text; "" where that cannot be told."""
        self.cell_options = tuple(vars(cell).items())
        """What the equations were made with."""
        self.insides = insides(self)
        """The modules inside, and the names of their tensors."""
        for inside in self.modules():
            if isinstance(inside, Settings):
                built(inside)
        self._initialize_all()
        for suffix in self.all_suffixes():
            self.normalize_weights(suffix)

    @classmethod
    def without_constructor(cls, cell: Cell, arguments: dict[str, Any]) -> Self:
        """A stack of this class; the constructor of a subclass, whose arguments are its own, is not called."""
        new = cls.__new__(cls)
        RecurrentStack.__init__(new, cell, arguments)
        return new

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
        """What the names of a layer's weights end in, per direction."""
        return [f"_l{layer}", f"_l{layer}_reverse"][: self.num_directions]

    def all_suffixes(self) -> list[str]:
        """Those of all layers and directions."""
        return [suffix for layer in range(self.num_layers) for suffix in self.suffixes(layer)]

    def norms(self, suffix: str) -> CellNorms:
        """The normalizers inside one layer and direction, such as "_l0" or "_l1_reverse"."""
        module: CellNorms | None = getattr(self, "norms" + suffix)
        return NO_NORMS if module is None else module

    def between(self, layer: int) -> Normalizer | None:
        """The normalizer of the rows that leave `layer` for the next one."""
        module: Normalizer | None = getattr(self, f"between_l{layer}", None)
        return module

    def skip(self, layer: int) -> Skip | None:
        """The residual connection around a layer."""
        module: Skip | None = getattr(self, f"skip_l{layer}", None)
        return module

    def _initialize_all(self) -> None:
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
        self._initialize_all()
        self.reset_norms()
        for layer in self._skipping:
            getattr(self, f"skip_l{layer}").reset_parameters()
        if self.initial_state == "learned":
            for name in self.cell.states:
                nn.init.zeros_(getattr(self, f"{name}_0"))
        if wants_data(self.norm):
            self.initialized_from_data.fill_(False)

    def zero_states(self, like: Tensor, *batch: int) -> tuple[Tensor, ...]:
        """States of zeros, (…, B, ·)."""
        return tuple(like.new_zeros(*batch, size) for size in self.state_sizes)

    def draws(self, rows: bool) -> bool:
        """Whether a run needs a seed: for whatever is random but the rows between layers, or for them, too."""
        if not self.training:
            return False
        dropped = self.variational_dropout or self.weight_dropout or (rows and self.drops_rows())
        return bool(dropped or self.noise.any())

    def drops_rows(self) -> bool:
        """Whether a run drops rows between layers."""
        return self.training and bool(self.dropout) and self.num_layers > 1

    def run(
        self, data: Tensor, batch_sizes: Tensor, states: tuple[Tensor, ...], ragged: bool = False
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """All layers over packed rows (N, F), states in packed order: the inside of `forward`, without borders.

        `ragged` rows come from padded sequences: then N is not known outside, and what is dropped follows from a seed.
        """
        if not self.draws(ragged) or transformed() or data.is_meta:
            return self.run_layers(data, batch_sizes, states)
        with seeded(draw_seed(), data.device, ragged):
            return self.run_layers(data, batch_sizes, states)

    def run_layers(
        self, data: Tensor, batch_sizes: Tensor, states: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The same, random numbers from whatever stream they come."""
        self.recorded(data, batch_sizes, states)
        D = self.num_directions
        each = list(zip(*(state.unbind() for state in states), strict=True))  # per layer and direction
        last: list[tuple[Tensor, ...]] = []
        with agreement(self.modules(), batch_sizes, data.device):
            for layer in range(self.num_layers):
                data, ended = self.run_layer(data, batch_sizes, each[layer * D : (layer + 1) * D], layer)
                last += ended
        if self.variational_dropout and self.training:
            data = self._drop_per_sequence(data, batch_sizes)
        return data, tuple(torch.stack(parts) for parts in zip(*last, strict=True))

    def rerun(self, rows: Rows) -> None:
        """All layers over rows, for the sake of the normalizers inside: step by step where outputs would be many."""
        if not stream(self, rows):
            self.run_layers(*rows)

    def run_layer(
        self,
        data: Tensor,
        batch_sizes: Tensor,
        states: Sequence[tuple[Tensor, ...]],
        layer: int,
        quiet: bool = False,
    ) -> tuple[Tensor, list[tuple[Tensor, ...]]]:
        """All directions of one layer, its skip, and what happens to the rows on their way to the next one."""
        random = self.training and not quiet
        rows = self._drop_per_sequence(data, batch_sizes) if self.variational_dropout and random else data
        outputs, last = [], []
        for direction, suffix in enumerate(self.suffixes(layer)):
            turn = reversal(batch_sizes).to(data.device) if direction else None
            seen = rows if turn is None else rows[turn]
            output, ended = self.run_direction(seen, batch_sizes, states[direction], suffix, quiet)
            outputs.append(output if turn is None else output[turn])
            last.append(ended)
        output = torch.cat(outputs, 1) if len(outputs) > 1 else outputs[0]
        return self.leave_layer(data, output, batch_sizes.tolist(), layer, quiet), last

    def leave_layer(
        self,
        data: Tensor,
        output: Tensor,
        sizes: list[int],
        layer: int,
        quiet: bool = False,
        normalize: Callable[[Normalizer, Tensor], Tensor] | None = None,
    ) -> Tensor:
        """What becomes of a layer's output rows on their way to the next layer; `data` are its input rows.

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
        # By the steps of all processes where they are synchronized: their backends must be the same one.
        self.ran = resolve(self.backend, layer, rows, layer.norms.agreed_steps(batch_sizes.shape[0]))
        return BACKENDS[self.ran].scan(layer, rows, batch_sizes, states)

    def ready_layer(self, suffix: str, h_0: Tensor, quiet: bool = False) -> Layer:
        """One layer and direction with what is dropped in this run, without what is random if `quiet`."""
        random = self.training and not quiet
        noise = self.noise if random else self.noise.evaluating()
        weights = self.layer_weights(suffix, self.weight_dropout if random else 0.0)
        return Layer(self.cell, weights, self.norms(suffix), noise, noise.mask(h_0))

    def _drop_per_sequence(self, data: Tensor, batch_sizes: Tensor) -> Tensor:
        """Dropout with one mask per sequence, the same at all its steps."""
        B = int(batch_sizes[0])
        mask = dropout(data.new_ones(B, data.shape[1]), self.variational_dropout)
        return data * mask[row_sequences(batch_sizes).to(data.device)]

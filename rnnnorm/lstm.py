"""`torch.nn.LSTM` with normalizers: layers, directions, ragged batches, states."""

from __future__ import annotations

import warnings
from typing import Any, Self, overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from .cell import NO_NORMS, CellNorms
from .data_dependent import initialize_weight_norm, wants_data
from .norms import Normalizer
from .placement import Norm, parse_norm
from .ragged import Packed, pack_dense, pack_padded, reversal, unpack
from .scan import resolve, scan
from .weights import RecurrentWeights

State = tuple[Tensor, Tensor]
INITIAL_STATES = ("zeros", "learned")


class LSTM(RecurrentWeights):
    """A (multi-layer, bidirectional) LSTM with normalizers, as `torch.nn.LSTM` otherwise.

        a_t = N_input(W_ih x_t) + N_hidden(W_hh h_{t-1}) + b      i, f, o = σ(·)   g = tanh(·)
        c_t = f ⊙ c_{t-1} + i ⊙ g          h_t = o ⊙ tanh(N_cell(c_t))

    With `norm="none"` it has `torch.nn.LSTM`'s parameters, names and results. Sequences of different lengths go in as a
    PackedSequence or with `lengths=`; padding never enters a statistic, a state or a gradient. In the reverse direction
    step t counts from each sequence's own end.

    Args:
        input_size: features per row.
        hidden_size: H.
        num_layers: layers, each reading the one before.
        bias: learn b. With a norm there is one bias vector per layer, `bias_ih_l{k}`; without, torch's pair.
        batch_first: dense and padded tensors are (B, T, F) instead of (T, B, F).
        dropout: on the rows that leave each layer but the last, in training.
        bidirectional: add a second, independent direction per layer, outputs concatenated.
        proj_size: if above 0, h_t is projected to that size.
        device: where parameters live.
        dtype: their type.
        norm: a preset out of `rnnnorm.presets()`, with overrides (`"bn-timestep:gain=1.0"`), or a `Norm`.
        max_steps: T_max, slots of per-timestep statistics; best the longest training sequence.
        init: "torch" (uniform ±1/√H) or "orthogonal" (orthogonal W_hh per gate, forget bias 1).
        initial_state: "zeros", or "learned" (parameters `h_0`, `c_0`), used where `hx` is omitted.
        initial_state_noise: s; adds N(0, s²) to h_0 in training where `hx` is omitted. It removes steps at which all
            rows agree, whose normalization multiplies gradients by g/√ε (Cooijmans et al. use 0.1 on MNIST).
        backend: "auto", or a name out of `rnnnorm.scan.BACKENDS`.

    Shape:
        input: PackedSequence; (T, B, input_size), with `lengths` or dense; or (T, input_size).
        hx: (h_0, c_0) of shapes (layers·directions, B, proj_size or H) and (layers·directions, B, H), without B for
            unbatched input.
        output: as the input, with directions·(proj_size or H) features and zeros in the padding.
        (h_n, c_n): each sequence's state after its own last step, shapes as `hx`.

    Raises:
        ValueError: an argument or shape that does not fit.

    Example:
        >>> lstm = LSTM(10, 20, num_layers=2, batch_first=True, norm="bn-timestep", max_steps=50)
        >>> x = torch.randn(3, 50, 10)
        >>> output, (h_n, c_n) = lstm(x, lengths=torch.tensor([50, 7, 23]))
    """

    initialized_from_data: Tensor

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        norm: str | Norm = "none",
        max_steps: int = 100,
        init: str = "torch",
        initial_state: str = "zeros",
        initial_state_noise: float = 0.0,
        backend: str = "auto",
    ) -> None:
        arguments = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        super().__init__(arguments)
        _check_arguments(**arguments)
        self.norm = parse_norm(norm)
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout = bias, batch_first, float(dropout)
        self.bidirectional, self.proj_size = bidirectional, proj_size
        self.initial_state, self.initial_state_noise, self.backend = initial_state, float(initial_state_noise), backend
        keys: dict[str, Any] = {"device": device, "dtype": dtype}
        for layer in range(num_layers):
            for suffix in self.suffixes(layer):
                rows = input_size if layer == 0 else self.output_size
                self.create_weights(suffix, rows, hidden_size, proj_size, bias, self.norm)
                norms = CellNorms(self.norm, hidden_size, max_steps, **keys)
                resolve(backend, norms)
                self.add_module("norms" + suffix, norms if norms.any() else None)
        between = self.norm.places.get("between")
        if between is not None and num_layers == 1:
            warnings.warn("a norm between layers does nothing with num_layers=1", stacklevel=2)
        for layer in range(num_layers - 1):
            module = between.build(self.output_size, bias=True, max_steps=max_steps, **keys) if between else None
            self.register_module(f"between_l{layer}", module)
        if initial_state == "learned":
            states = num_layers * self.num_directions
            self.h_0 = nn.Parameter(torch.zeros(states, proj_size or hidden_size, **keys))
            self.c_0 = nn.Parameter(torch.zeros(states, hidden_size, **keys))
        if wants_data(self.norm):
            self.register_buffer("initialized_from_data", torch.tensor(False, device=device))
        for suffix in self._all_suffixes():
            self.initialize(suffix, hidden_size, bias)
        for suffix in self._all_suffixes():
            self.normalize_weights(suffix, self.norm)

    @property
    def num_directions(self) -> int:
        """2 if bidirectional, otherwise 1."""
        return 2 if self.bidirectional else 1

    @property
    def output_size(self) -> int:
        """Features per row of the output."""
        return self.num_directions * (self.proj_size or self.hidden_size)

    def suffixes(self, layer: int) -> list[str]:
        """What the names of a layer's weights end in, per direction."""
        return [f"_l{layer}", f"_l{layer}_reverse"][: self.num_directions]

    def _all_suffixes(self) -> list[str]:
        return [suffix for layer in range(self.num_layers) for suffix in self.suffixes(layer)]

    def norms(self, suffix: str) -> CellNorms:
        """The normalizers inside one layer and direction, such as "_l0" or "_l1_reverse"."""
        module: CellNorms | None = getattr(self, "norms" + suffix)
        return NO_NORMS if module is None else module

    def between(self, layer: int) -> Normalizer | None:
        """The normalizer of the rows that leave `layer` for the next one."""
        module: Normalizer | None = getattr(self, f"between_l{layer}", None)
        return module

    def reset_parameters(self) -> None:
        """Draw new weights; gains, biases, learned states and statistics go back to their initial values."""
        for suffix in self._all_suffixes():
            self.initialize(suffix, self.hidden_size, self.bias)
        self.reset_norms()
        if self.initial_state == "learned":
            nn.init.zeros_(self.h_0)
            nn.init.zeros_(self.c_0)
        if wants_data(self.norm):
            self.initialized_from_data.fill_(False)

    def flatten_parameters(self) -> None:
        """Nothing to do; kept so that code written for `torch.nn.LSTM` runs."""

    @property
    def all_weights(self) -> list[list[Tensor]]:
        """The weights per layer and direction, as `torch.nn.LSTM` lists them."""
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
        return [[getattr(self, n + s) for n in names if hasattr(self, n + s)] for s in self._all_suffixes()]

    @classmethod
    def from_torch(cls, lstm: nn.LSTM, norm: str | Norm = "none", **options: Any) -> Self:
        """A normalized LSTM that starts from the weights of a `torch.nn.LSTM`; `options` as in the constructor.

        Raises:
            TypeError: something else than a `torch.nn.LSTM`.
        """
        if not isinstance(lstm, nn.LSTM):
            raise TypeError(f"expected a torch.nn.LSTM, got {type(lstm).__name__}")
        weight = next(lstm.parameters())
        sizes = (lstm.input_size, lstm.hidden_size, lstm.num_layers, lstm.bias, lstm.batch_first, lstm.dropout)
        new = cls(*sizes, lstm.bidirectional, lstm.proj_size, weight.device, weight.dtype, norm=norm, **options)
        source = dict(lstm.named_parameters())
        for suffix in new._all_suffixes():
            merged = lstm.bias and not hasattr(new, "bias_hh" + suffix)
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr"):
                if hasattr(new, name + suffix):
                    value = source[name + suffix].detach()
                    if merged and name == "bias_ih":
                        value = value + source["bias_hh" + suffix].detach()
                    new.assign(name + suffix, value)
        new.train(lstm.training)
        return new

    @property
    def needs_data(self) -> bool:
        """Whether `initialize_from_data` must be called before training (`wn:init=data`)."""
        return wants_data(self.norm) and not bool(self.initialized_from_data)

    def initialize_from_data(self, input: Tensor | PackedSequence, *, lengths: Tensor | None = None) -> None:
        """Set gains and biases of weight normalization from one batch (Salimans & Kingma 2016, section 3).

        Raises:
            ValueError: the norm has no weight normalization with `init=data`.
        """
        if not wants_data(self.norm):
            raise ValueError(f'norm {self.norm.name!r} does not start from data; use "wn:init=data"')
        initialize_weight_norm(self, self._enter(input, lengths))
        self.initialized_from_data.fill_(True)

    @overload
    def forward(
        self, input: Tensor, hx: State | None = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]: ...

    @overload
    def forward(self, input: PackedSequence, hx: State | None = None) -> tuple[PackedSequence, State]: ...

    def forward(
        self, input: Tensor | PackedSequence, hx: State | None = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor | PackedSequence, State]:
        """Run all layers; see the class for shapes."""
        if self.training and self.needs_data:
            raise RuntimeError(
                f"norm {self.norm.name!r} starts from data: call initialize_from_data(first_batch) before training"
            )
        packed = self._enter(input, lengths)
        unbatched = isinstance(input, Tensor) and input.dim() == 2
        h_0, c_0 = self._initial_state(packed, hx, unbatched)
        data, (h_n, c_n) = self.run(packed.data, packed.batch_sizes, h_0, c_0)
        if packed.unsorted_indices is not None:
            h_n, c_n = h_n[:, packed.unsorted_indices], c_n[:, packed.unsorted_indices]
        output: Tensor | PackedSequence
        if isinstance(input, PackedSequence):
            output = PackedSequence(data, *packed[1:])
        elif lengths is not None:
            output = unpack(packed._replace(data=data), self.batch_first, input.shape[1 if self.batch_first else 0])
        elif unbatched:
            output, h_n, c_n = data, h_n.squeeze(1), c_n.squeeze(1)
        else:
            output = data.view(packed.batch_sizes.shape[0], -1, self.output_size)
            output = output.transpose(0, 1) if self.batch_first else output
        return output, (h_n, c_n)

    def run(self, data: Tensor, batch_sizes: Tensor, h_0: Tensor, c_0: Tensor) -> tuple[Tensor, State]:
        """All layers over packed rows (N, F), states in packed order: the inside of `forward`, without borders."""
        turn = reversal(batch_sizes).to(data.device) if self.bidirectional else None
        h_n: list[Tensor] = []
        c_n: list[Tensor] = []
        for layer in range(self.num_layers):
            outputs = []
            for direction, suffix in enumerate(self.suffixes(layer)):
                rows = data[turn] if direction and turn is not None else data
                k = layer * self.num_directions + direction
                rows, h, c = scan(
                    self.backend, rows, batch_sizes, h_0[k], c_0[k], self.layer_weights(suffix), self.norms(suffix)
                )
                outputs.append(rows[turn] if direction and turn is not None else rows)
                h_n.append(h)
                c_n.append(c)
            data = torch.cat(outputs, 1) if len(outputs) > 1 else outputs[0]
            if layer < self.num_layers - 1:
                data = self._leave_layer(data, batch_sizes, layer)
        return data, (torch.stack(h_n), torch.stack(c_n))

    def _leave_layer(self, data: Tensor, batch_sizes: Tensor, layer: int) -> Tensor:
        """What happens to the rows between two layers: the norm, then dropout."""
        between = self.between(layer)
        if between is not None:
            data = between.sequence(data, batch_sizes.tolist())
        return F.dropout(data, self.dropout, self.training) if self.dropout else data

    def _enter(self, input: Tensor | PackedSequence, lengths: Tensor | None) -> Packed:
        """Turn any accepted input into packed rows."""
        if isinstance(input, PackedSequence):
            if lengths is not None:
                raise ValueError("lengths are given, but a PackedSequence carries its own")
            packed = Packed(*input)
            if packed.data.dim() != 2 or packed.data.shape[-1] != self.input_size:
                raise ValueError(f"expected rows of {self.input_size} features, got {tuple(packed.data.shape)}")
            return packed
        if not isinstance(input, Tensor):
            raise TypeError(f"expected a Tensor or PackedSequence, got {type(input).__name__}")
        if input.dim() not in (2, 3) or input.shape[-1] != self.input_size:
            order = "(B, T, F)" if self.batch_first else "(T, B, F)"
            raise ValueError(
                f"expected input {order} or (T, F) with F = {self.input_size}, got shape {tuple(input.shape)}"
            )
        if input.dim() == 2:
            if lengths is not None:
                raise ValueError("lengths are given, but the input is unbatched: (T, F)")
            input = input.unsqueeze(1)
        elif self.batch_first:
            input = input.transpose(0, 1)
        if 0 in input.shape[:2]:
            raise ValueError(f"expected at least one step and one sequence, got T, B = {tuple(input.shape[:2])}")
        return pack_dense(input) if lengths is None else pack_padded(input, lengths)

    def _initial_state(self, packed: Packed, hx: State | None, unbatched: bool) -> State:
        """h_0 and c_0, (layers·directions, B, ·), in packed order."""
        B = int(packed.batch_sizes[0])
        states = self.num_layers * self.num_directions
        sizes = (self.proj_size or self.hidden_size, self.hidden_size)
        if hx is None:
            if self.initial_state == "learned":
                h_0, c_0 = (s.unsqueeze(1).expand(-1, B, -1) for s in (self.h_0, self.c_0))
            else:
                h_0, c_0 = (packed.data.new_zeros(states, B, size) for size in sizes)
            if self.training and self.initial_state_noise:
                h_0 = h_0 + self.initial_state_noise * torch.randn_like(h_0)
            return h_0, c_0
        if not isinstance(hx, tuple | list) or len(hx) != 2:
            raise ValueError(f"hx must be a pair (h_0, c_0), got {type(hx).__name__}")
        for name, state, size in zip(("h_0", "c_0"), hx, sizes, strict=True):
            expected = (states, size) if unbatched else (states, B, size)
            if tuple(state.shape) != expected:
                raise ValueError(f"expected {name} of shape {expected}, got {tuple(state.shape)}")
        h_0, c_0 = (state.unsqueeze(1) if unbatched else state for state in hx)
        if packed.sorted_indices is not None:
            h_0, c_0 = h_0[:, packed.sorted_indices], c_0[:, packed.sorted_indices]
        return h_0, c_0

    def extra_repr(self) -> str:
        """Sizes, and every option that differs from its default."""
        defaults = {
            "num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0, "bidirectional": False, "proj_size": 0,
            "initial_state": "zeros", "initial_state_noise": 0.0, "backend": "auto",
        }  # fmt: skip
        changed = [f"{k}={getattr(self, k)}" for k, v in defaults.items() if getattr(self, k) != v]
        init = self._arguments["init"]
        changed += [f"init={init}"] if init != "torch" else []
        return ", ".join([f"{self.input_size}, {self.hidden_size}", *changed, f"norm={self.norm.name}"])


def _check_arguments(**a: Any) -> None:
    for name in ("input_size", "hidden_size", "num_layers", "max_steps"):
        if not isinstance(a[name], int) or isinstance(a[name], bool) or a[name] < 1:
            raise ValueError(f"{name} must be an integer of at least 1, got {a[name]!r}")
    if not isinstance(a["dropout"], int | float) or isinstance(a["dropout"], bool) or not 0 <= a["dropout"] <= 1:
        raise ValueError(f"dropout must be a probability between 0 and 1, got {a['dropout']!r}")
    if not 0 <= a["proj_size"] < a["hidden_size"]:
        raise ValueError(f"proj_size must be at least 0 and below hidden_size={a['hidden_size']}, got {a['proj_size']}")
    if a["initial_state"] not in INITIAL_STATES:
        raise ValueError(f"initial_state must be one of {', '.join(INITIAL_STATES)}, got {a['initial_state']!r}")
    if a["initial_state_noise"] < 0:
        raise ValueError(f"initial_state_noise is a standard deviation, got {a['initial_state_noise']}")
    if a["dropout"] and a["num_layers"] == 1:
        warnings.warn("dropout acts between layers: it does nothing with num_layers=1", stacklevel=3)

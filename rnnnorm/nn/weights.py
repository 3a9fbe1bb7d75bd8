"""The weights of recurrent layers under torch's names, possibly reparametrized; shared by layers and single cells."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..common.settings import Settings
from ..common.transforms import Unscriptable
from ..equations import Equations, LayerWeights, dropout
from ..norms import Normalizer, StoredStatistics
from ..norms.presets import parse_norm
from .initialization import check_init, initial_weights
from .inputs import InputError, check_not_quantized
from .options import Options


class StateTypeError(InputError, TypeError):
    """States that are not tensors, or not as many as the cell has; torch raises now one, now the other error."""


NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
"""Torch's names, in torch's order."""
PEEPHOLES = ("weight_ci", "weight_cf", "weight_co")


class RecurrentWeights(Unscriptable, Settings):
    """Owns `weight_ih…`, `weight_hh…`, `bias_ih…`, `bias_hh…`, `weight_hr…` of any number of layers and directions.

    Without any normalizer the names, shapes and initial values are those of torch. With one, b is a single vector,
    `bias_ih…`, since a second one would be redundant; a GRU keeps `bias_hn…` (H,) beside it. A weight normalizer at
    `input` or `hidden` reparametrizes the weight through `torch.nn.utils.parametrize`; it can still be read and
    assigned under its name.

    Args:
        cell: the equations.
        options: those of the subclass's constructor.
    """

    def __init__(self, cell: Equations, options: Options) -> None:
        options.check_equations(cell)
        super().__init__()
        self._options = options
        self.cell = cell
        self.input_size, self.hidden_size, self.proj_size = options.input_size, options.hidden_size, options.proj_size
        self.bias = options.bias
        check_init(options.init, cell, options.bias, options.max_steps)
        self.norm = cell.adapt(parse_norm(options.norm))

    def _shapes(self, input_size: int, pair: bool) -> dict[str, tuple[int, ...]]:
        """Shapes of one layer and direction, in torch's order, with torch's pair of biases or without redundancy."""
        H, gates = self.hidden_size, self.cell.gates * self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {
            "weight_ih": (gates, input_size),
            "weight_hh": (gates,) if self.cell.diagonal else (gates, self.proj_size or H),
        }
        if self.bias:
            shapes |= {name: (length,) for name, length in self.cell.biases(H, pair).items()}
        if self.proj_size:
            shapes["weight_hr"] = (self.proj_size, H)
        return shapes | (dict.fromkeys(PEEPHOLES, (H,)) if self.cell.peepholes else {})

    def create_weights(self, suffix: str, input_size: int) -> None:
        """Register the parameters of one layer and direction, not yet initialized."""
        device, dtype = self._options.device, self._options.dtype
        for name, shape in self._shapes(input_size, pair=not self.norm.places).items():
            self.register_parameter(name + suffix, nn.Parameter(torch.empty(shape, device=device, dtype=dtype)))

    def normalize_weights(self, suffix: str) -> None:
        """Let the weight normalizers of the norm, if any, take hold of this layer's weights."""
        for place, weight in (("input", "weight_ih"), ("hidden", "weight_hh")):
            use = self.norm.places.get(place)
            if use is not None and use.is_weight:
                use.weight_normalizer().register(self, weight + suffix)

    def initialize(self, suffix: str) -> None:
        """Draw this layer's weights; see `initial_weights`."""
        W_ih = getattr(self, "weight_ih" + suffix)
        if W_ih.is_meta:  # no numbers to draw, and none taken from the random stream
            return
        shapes = self._shapes(W_ih.shape[1], pair=True)
        init, max_steps = self._options.init, self._options.max_steps
        self.assign_torch(suffix, initial_weights(shapes, self.hidden_size, init, self.cell, max_steps))

    def assign_torch(self, suffix: str, weights: Mapping[str, Tensor]) -> None:
        """Overwrite a layer's weights by those of torch, whose pair of biases is merged where we have one."""
        values = dict(weights)
        if self.bias and not hasattr(self, "bias_hh" + suffix):
            values |= self.cell.merge_biases(values["bias_ih"], values.pop("bias_hh"))
        for name, value in values.items():
            self.assign(name + suffix, value)

    @torch.no_grad()
    def assign(self, name: str, value: Tensor) -> None:
        """Overwrite a weight by its torch name, also one that is reparametrized."""
        old = getattr(self, name)
        if parametrize.is_parametrized(self, name):
            setattr(self, name, value.to(old))
        else:
            old.copy_(value)

    def layer_weights(self, suffix: str, p: float = 0.0) -> LayerWeights:
        """The weights of one layer and direction; reparametrized ones are composed here, once per forward pass.

        `p` is DropConnect on W_hh: entries are dropped with that probability, the others scaled by 1/(1-p).
        """
        weights = self.read_weights(suffix)
        if self.cell.diagonal:
            weights = weights._replace(W_hh=self.cell.bounded(weights.W_hh))
        return weights._replace(W_hh=dropout(weights.W_hh, p)) if p else weights

    def read_weights(self, suffix: str) -> LayerWeights:
        """The weights of one layer and direction, as they are."""
        # One look at each: a parametrized weight is composed anew whenever it is read.
        W_ih, W_hh = getattr(self, "weight_ih" + suffix), getattr(self, "weight_hh" + suffix)
        for name, weight in (("weight_ih", W_ih), ("weight_hh", W_hh)):
            vector = self.cell.diagonal and name == "weight_hh"
            if weight.dim() != (1 if vector else 2):  # a product with another shape might broadcast
                kind = "vector" if vector else "matrix"
                raise InputError(f"{name + suffix} must be a {kind}, got shape {tuple(weight.shape)}")
        biases = tuple(b for n in ("bias_ih", "bias_hh") if (b := getattr(self, n + suffix, None)) is not None)
        return LayerWeights(
            W_ih,
            W_hh,
            biases,
            getattr(self, "weight_hr" + suffix, None),
            getattr(self, "bias_hn" + suffix, None),
            tuple(getattr(self, name + suffix) for name in PEEPHOLES) if self.cell.peepholes else None,
        )

    def reset_norms(self) -> None:
        """Gains, biases and stored statistics of all normalizers back to their initial values."""
        for module in self.modules():
            if isinstance(module, Normalizer):
                module.reset_parameters()
            elif isinstance(module, StoredStatistics):
                module.reset_running_stats()

    def _as_tuple(self, hx: Any) -> tuple[Tensor, ...]:
        """The caller's state as a tuple of tensors.

        Raises:
            StateTypeError: it is none.
        """
        names = self.cell.states
        given = (hx,) if len(names) == 1 else hx
        several = isinstance(given, tuple | list)
        if several and len(given) == len(names) and all(isinstance(state, Tensor) for state in given):
            return tuple(given)
        if len(names) == 1:
            raise StateTypeError(f"hx must be the tensor h_0, got {type(hx).__name__}")
        found = "(" + ", ".join(type(h).__name__ for h in given) + ")" if several else type(hx).__name__
        raise StateTypeError(f"hx must be a pair of tensors (h_0, c_0), got {found}")

    def check_tensors(self, rows: Tensor, states: Sequence[Tensor] = ()) -> None:
        """Raise InputError unless input rows and given states are dense, of the weights' type, and where they are."""
        weight: Tensor | None = next((p for p in self._parameters.values() if p is not None), None)
        if weight is None:  # all of them are composed when they are read
            weight = next(self.parameters(), rows)
        dtype, device = weight.dtype, weight.device
        for name, tensor in (("input", rows), *zip(self.cell.states, states, strict=False)):
            check_not_quantized(name, tensor)
            if tensor.layout is not torch.strided:  # some of torch's operators read others as if they were this
                raise InputError(f"{name} is a tensor of layout {tensor.layout}, expected a dense one: use .to_dense()")
            if tensor.device != device and device.type == "meta":
                raise InputError(
                    f"the weights are on the meta device, but the {name} is on {tensor.device}: make them by to_empty"
                )
            if tensor.device != device:
                raise InputError(f"{name} is on {tensor.device}, the weights are on {device}: use .to({str(device)!r})")
            if tensor.dtype != dtype and not torch.is_autocast_enabled(device.type):
                cure = f"use {name}.to({dtype})"
                if tensor.dtype.is_floating_point:
                    cure += f", or convert the module by .to({tensor.dtype})"
                raise InputError(f"{name} is {tensor.dtype}, the weights are {dtype}: {cure}")

    def nothing(self, suffixes: Iterable[str], *tensors: Tensor) -> Tensor:
        """No numbers, (0,), with gradients of zeros for these tensors and all weights and parameters, as in torch."""
        found = [part for suffix in suffixes for part in self.layer_weights(suffix)]
        weights = [w for part in found for w in (part if isinstance(part, tuple) else (part,)) if w is not None]
        return torch.cat([t.reshape(-1)[:0] for t in (*tensors, *weights, *self.parameters())])

    def extra_repr(self) -> str:
        """Sizes, and every option that differs from its default, as the constructor takes them."""
        changed = []
        parameters = inspect.signature(collector(type(self))).parameters.values()
        defaults = {p.name: p.default for p in parameters if p.kind is not p.VAR_KEYWORD}
        defaults |= {field.name: field.default for field in fields(Options) if field.name not in defaults}
        for name, default in sorted(defaults.items(), key=lambda item: item[0] != "proj_size"):  # torch's order
            value = next(getattr(where, name) for where in (self, self._options, self.cell) if hasattr(where, name))
            if name not in ("input_size", "hidden_size", "device", "dtype", "norm") and value != default:
                changed.append(f"{name}={value!r}")
        if self.norm.places:
            given = self._options.norm
            changed.append(f"norm={given!r}" if isinstance(given, str) else f"norm={self.norm.written()}")
        return ", ".join([f"{self.input_size}, {self.hidden_size}", *changed])

    def __setstate__(self, state: dict[str, Any]) -> None:
        """The state of any module, without what torch's recurrent classes add to it."""
        nn.Module.__setstate__(self, state)  # type: ignore[no-untyped-call]

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle reparametrized modules, too, which torch refuses: their class is made at run time."""
        if not parametrize.is_parametrized(self):
            return super().__reduce_ex__(protocol)
        plain = parametrize.type_before_parametrizations(self)
        names = tuple(self.parametrizations)  # type: ignore[arg-type]
        return _parametrized, (plain, names), plain.__getstate__(self)  # type: ignore[call-arg]


def collector(cls: type) -> type:
    """The class whose constructor collects the options, such as `LSTM`, not a subclass with arguments of its own."""
    classes = [c for c in cls.__mro__ if issubclass(c, RecurrentWeights)]
    own = [c for c in classes if "__init__" in vars(c)]
    return [c for c in own if [*inspect.signature(c).parameters] != ["cell", "options"]][-1]


def _parametrized(cls: type[RecurrentWeights], names: Iterable[str]) -> RecurrentWeights:
    """A module without state, of the class that torch makes at run time for weights that are composed when read.

    No constructor is called: that of a subclass may take any arguments.
    """
    module = cls.__new__(cls)
    parametrize._inject_new_class(module)
    for name in names:
        parametrize._inject_property(module, name)
    return module

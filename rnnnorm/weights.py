"""The weights of recurrent layers under torch's names, possibly reparametrized; shared by layers and single cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .equations import Cell, LayerWeights, dropout
from .initialization import check_init, initial_weights
from .norms import Normalizer, StepStatistics
from .settings import Settings
from .table import parse_norm
from .tracing import Unscriptable

NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
"""Torch's names, in torch's order."""
PEEPHOLES = ("weight_ci", "weight_cf", "weight_co")


class RecurrentWeights(Unscriptable, Settings):
    """Owns `weight_ih…`, `weight_hh…`, `bias_ih…`, `bias_hh…`, `weight_hr…` of any number of layers and directions.

    Without any normalizer the names, shapes and initial values are those of torch. With one, b is a single vector,
    `bias_ih…`, since a second one would be redundant; a GRU keeps `bias_hn…` (H,) beside it. A weight normalizer at
    `input` or `hidden` reparametrizes the weight through `torch.nn.utils.parametrizations`; it can still be read and
    assigned under its name.

    Args:
        cell: the equations.
        arguments: those of the subclass's constructor, by name.
    """

    def __init__(self, cell: Cell, arguments: dict[str, Any]) -> None:
        super().__init__()
        self._arguments = arguments
        self.cell = cell
        self.input_size: int = arguments["input_size"]
        self.hidden_size: int = arguments["hidden_size"]
        self.proj_size: int = arguments.get("proj_size", 0)
        self.bias: bool = arguments["bias"]
        check_init(arguments["init"], cell, self.bias, arguments["max_steps"])
        self.norm = cell.adapt(parse_norm(arguments["norm"]))

    def _shapes(self, input_size: int, pair: bool) -> dict[str, tuple[int, ...]]:
        """Shapes of one layer and direction, in torch's order, with torch's pair of biases or without redundancy."""
        H, gates = self.hidden_size, self.cell.gates * self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {
            "weight_ih": (gates, input_size),
            "weight_hh": (gates, self.proj_size or H),
        }
        if self.bias:
            shapes |= {name: (length,) for name, length in self.cell.biases(H, pair).items()}
        if self.proj_size:
            shapes["weight_hr"] = (self.proj_size, H)
        return shapes | (dict.fromkeys(PEEPHOLES, (H,)) if self.cell.peepholes else {})

    def create_weights(self, suffix: str, input_size: int) -> None:
        """Register the parameters of one layer and direction, not yet initialized."""
        keys = {key: self._arguments[key] for key in ("device", "dtype")}
        for name, shape in self._shapes(input_size, pair=not self.norm.places).items():
            self.register_parameter(name + suffix, nn.Parameter(torch.empty(shape, **keys)))

    def normalize_weights(self, suffix: str) -> None:
        """Let the weight normalizers of the norm, if any, take hold of this layer's weights."""
        for place, weight in (("input", "weight_ih"), ("hidden", "weight_hh")):
            use = self.norm.places.get(place)
            if use is not None and use.is_weight:
                use.weight_normalizer().register(self, weight + suffix)

    def initialize(self, suffix: str) -> None:
        """Draw this layer's weights; see `initial_weights`."""
        shapes = self._shapes(getattr(self, "weight_ih" + suffix).shape[1], pair=True)
        init, max_steps = self._arguments["init"], self._arguments["max_steps"]
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
        return weights._replace(W_hh=dropout(weights.W_hh, p)) if p else weights

    def read_weights(self, suffix: str) -> LayerWeights:
        """The weights of one layer and direction, as they are."""
        biases = tuple(getattr(self, name + suffix) for name in ("bias_ih", "bias_hh") if hasattr(self, name + suffix))
        return LayerWeights(
            getattr(self, "weight_ih" + suffix),
            getattr(self, "weight_hh" + suffix),
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
            elif isinstance(module, StepStatistics):
                module.reset_running_stats()

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle reparametrized modules, too, which torch refuses: their class is made at run time."""
        if not parametrize.is_parametrized(self):
            return super().__reduce_ex__(protocol)
        plain = type(self).__mro__[1]  # torch puts its run-time class in front
        # torch's hook for old weight-norm checkpoints is a local function: the rebuilt module brings its own.
        state = {k: v for k, v in self.__dict__.items() if k != "_load_state_dict_pre_hooks"}
        return _rebuild, (plain, self._arguments, state)


def _rebuild(cls: type[RecurrentWeights], arguments: dict[str, Any], state: dict[str, Any]) -> RecurrentWeights:
    module = cls(**arguments)
    module.__setstate__({**module.__dict__, **state})  # type: ignore[no-untyped-call]
    return module

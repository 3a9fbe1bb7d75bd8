"""The weights of recurrent layers under torch's names, possibly reparametrized; shared by `LSTM` and `LSTMCell`."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .initialization import check_init, initial_weights
from .norms import Normalizer, StepStatistics
from .placement import Norm


class LayerWeights(NamedTuple):
    """The weights of one layer and direction, as used in the equations.

    Args:
        W_ih: (4H, I).
        W_hh: (4H, H), or (4H, proj_size).
        biases: none, one (4H,), or torch's pair of them.
        W_hr: (proj_size, H), or None.
    """

    W_ih: Tensor
    W_hh: Tensor
    biases: tuple[Tensor, ...]
    W_hr: Tensor | None

    @property
    def bias(self) -> Tensor | None:
        """The one bias b of the equations."""
        return sum(self.biases[1:], self.biases[0]) if self.biases else None


class RecurrentWeights(nn.Module):
    """Owns `weight_ih…`, `weight_hh…`, `bias_ih…`, `bias_hh…`, `weight_hr…` of any number of layers and directions.

    Without any normalizer the names, shapes and initial values are those of `torch.nn.LSTM`. With one, b is a single
    vector, `bias_ih…`, since a second one would be redundant. A weight normalizer at `input` or `hidden` reparametrizes
    the weight through `torch.nn.utils.parametrizations`; it can still be read and assigned under its name.
    """

    def __init__(self, arguments: dict[str, Any]) -> None:
        super().__init__()
        self._arguments = arguments
        check_init(arguments["init"])

    def create_weights(
        self, suffix: str, input_size: int, hidden_size: int, proj_size: int, bias: bool, norm: Norm
    ) -> None:
        """Register the parameters of one layer and direction, not yet initialized."""
        keys = {key: self._arguments[key] for key in ("device", "dtype")}
        gates = 4 * hidden_size
        shapes: dict[str, tuple[int, ...]] = {
            "weight_ih": (gates, input_size),
            "weight_hh": (gates, proj_size or hidden_size),
        }
        if bias:
            shapes["bias_ih"] = (gates,)
            if not norm.places:
                shapes["bias_hh"] = (gates,)
        if proj_size:
            shapes["weight_hr"] = (proj_size, hidden_size)
        for name, shape in shapes.items():
            self.register_parameter(name + suffix, nn.Parameter(torch.empty(shape, **keys)))

    def normalize_weights(self, suffix: str, norm: Norm) -> None:
        """Let the weight normalizers of `norm`, if any, take hold of this layer's weights."""
        for place, weight in (("input", "weight_ih"), ("hidden", "weight_hh")):
            use = norm.places.get(place)
            if use is not None and use.is_weight:
                use.weight_normalizer().register(self, weight + suffix)

    @torch.no_grad()
    def initialize(self, suffix: str, hidden_size: int, bias: bool) -> None:
        """Draw this layer's weights; see `initial_weights`."""
        shapes = {n: getattr(self, n + suffix).shape for n in ("weight_ih", "weight_hh")}
        if bias:
            shapes |= dict.fromkeys(("bias_ih", "bias_hh"), getattr(self, "bias_ih" + suffix).shape)
        if hasattr(self, "weight_hr" + suffix):
            shapes["weight_hr"] = getattr(self, "weight_hr" + suffix).shape
        drawn = initial_weights(shapes, hidden_size, self._arguments["init"])
        if bias and not hasattr(self, "bias_hh" + suffix):
            drawn["bias_ih"] = drawn["bias_ih"] + drawn.pop("bias_hh")
        for name, value in drawn.items():
            self.assign(name + suffix, value)

    @torch.no_grad()
    def assign(self, name: str, value: Tensor) -> None:
        """Overwrite a weight by its torch name, also one that is reparametrized."""
        old = getattr(self, name)
        if parametrize.is_parametrized(self, name):
            setattr(self, name, value.to(old))
        else:
            old.copy_(value)

    def layer_weights(self, suffix: str) -> LayerWeights:
        """The weights of one layer and direction; reparametrized ones are composed here, once per forward pass."""
        biases = tuple(getattr(self, name + suffix) for name in ("bias_ih", "bias_hh") if hasattr(self, name + suffix))
        return LayerWeights(
            getattr(self, "weight_ih" + suffix),
            getattr(self, "weight_hh" + suffix),
            biases,
            getattr(self, "weight_hr" + suffix, None),
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
    module.__dict__.update(state)
    return module

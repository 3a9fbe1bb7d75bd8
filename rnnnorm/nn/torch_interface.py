"""The interface of `torch.nn.RNNBase`, for code that was written for torch's modules and reads or calls it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from ..common.settings import Settings
from .stack import RecurrentStack


class TorchInterface(RecurrentStack, nn.RNNBase):
    """A stack of layers that is a `torch.nn.RNNBase` for `isinstance`, with its attributes and methods.

    Torch's class keeps its weights twice, as parameters and in a list for its operators, and most of its own methods
    keep the two alike. Here there are parameters only: the list is made when it is read, and those methods are those of
    `nn.Module` again. It is not a `torch.nn.LSTM`, `GRU` or `RNN`, which `torch.compile` refuses by their classes.
    """

    torch_class: ClassVar[type[nn.RNNBase] | None] = None
    """Torch's module of the same kind, if there is one."""

    __setattr__ = Settings.__setattr__  # type: ignore[assignment]
    __getstate__ = object.__getstate__
    _apply = nn.Module._apply
    _replicate_for_data_parallel = nn.Module._replicate_for_data_parallel

    def flatten_parameters(self) -> None:
        """No operation; it exists so that code written for torch runs."""

    @property
    def mode(self) -> str:  # type: ignore[override]
        """Torch's name of the cell: "LSTM", "GRU", "RNN_TANH", "RNN_RELU"; and "RNN_IDENTITY", which torch lacks."""
        name, nonlinearity = self.cell.name, self.cell.nonlinearity
        return name if nonlinearity is None else f"{name}_{nonlinearity.upper()}"

    @property
    def _all_weights(self) -> list[list[str]]:  # type: ignore[override]
        names = self._shapes(self.input_size, pair=not self.norm.places)
        return [[name + suffix for name in names] for suffix in self.all_suffixes()]

    @property
    def _flat_weights_names(self) -> list[str]:  # type: ignore[override]
        return [name for names in self._all_weights for name in names]

    @property
    def all_weights(self) -> list[list[Tensor]]:  # type: ignore[override]
        """The weights per layer and direction, as torch lists them."""
        return [[getattr(self, name) for name in names] for names in self._all_weights]

    @property  # type: ignore[override]
    def _flat_weights(self) -> tuple[Tensor | None, ...]:
        """All weights; a tuple, since a list could be written to in vain."""
        return tuple(getattr(self, name, None) for name in self._flat_weights_names)

    @_flat_weights.setter
    def _flat_weights(self, weights: Sequence[Tensor | None]) -> None:
        for name, weight in zip(self._flat_weights_names, weights, strict=True):
            if weight is not getattr(self, name, None):
                setattr(self, name, weight)

    def _init_flat_weights(self) -> None:
        """No operation, as above."""

    def _update_flat_weights(self) -> None:
        """No operation, as above."""

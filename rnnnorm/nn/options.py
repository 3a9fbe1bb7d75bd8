"""Options of recurrent networks and single cells: the arguments of a constructor, checked."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import torch

from ..common.ranges import FLAG, PROBABILITY, STEPS, OptionTypeError, Range, at_least, one_of
from ..equations import QUIET, Equations, Noise
from ..norms.places import Norm
from ..packing import InputError
from .initialization import INITS
from .residual import RESIDUALS

INITIAL_STATES = ("zeros", "learned")
_SIZE = at_least(1, kinds=(int,))
_PROBABILITY = replace(PROBABILITY, kinds=(float,))


def _words(*words: str) -> Range:
    return one_of(*words, kinds=(str,))


RANGES: Mapping[str, Range] = {
    "input_size": _SIZE,
    "hidden_size": _SIZE,
    "num_layers": at_least(1, 10_000, kinds=(int,)),
    "proj_size": at_least(0, kinds=(int,)),
    "max_steps": replace(STEPS, kinds=(int,)),
    **dict.fromkeys(("bias", "batch_first", "bidirectional"), FLAG),
    **dict.fromkeys(
        ("dropout", "variational_dropout", "hidden_dropout", "recurrent_dropout", "weight_dropout"), _PROBABILITY
    ),
    "init": _words(*INITS),
    "initial_state": _words(*INITIAL_STATES),
    "initial_state_noise": at_least(0, kinds=(float,), why="since it is a standard deviation"),
    "residual": _words(*RESIDUALS),
    "residual_scale": Range(kinds=(float, str), optional=True),
    "between_on": _words("branch", "sum"),
    "backend": Range(kinds=(str,)),
}
"""Values that the options may have, by name, each for itself."""
_ELEMENTS = 2**60
"""Numbers in a weight from which on their bytes no longer fit into an index of 64 bits."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of a recurrent network or of a single cell, which has a few of them only; `rnnnorm.LSTM` explains them.

    They are checked as they are made; NumPy's numbers and booleans become Python's. What depends on the equations, too,
    `check_equations` checks.

    Raises:
        OptionTypeError: a value of another type, which is a ValueError and a TypeError.
        InputError: a value outside its range, a ValueError and, as torch's cells raise, a RuntimeError.
        ValueError: one that contradicts another.
    """

    input_size: int
    hidden_size: int
    num_layers: int = 1
    bias: bool = True
    batch_first: bool = False
    dropout: float = 0.0
    bidirectional: bool = False
    proj_size: int = 0
    device: torch.device | str | None = None
    dtype: torch.dtype | None = None
    norm: str | Norm = "none"
    max_steps: int = 100
    init: str = "torch"
    initial_state: str = "zeros"
    initial_state_noise: float = 0.0
    residual: str = "none"
    residual_scale: float | str | None = None
    between_on: str = "branch"
    variational_dropout: float = 0.0
    hidden_dropout: float = 0.0
    recurrent_dropout: float = 0.0
    weight_dropout: float = 0.0
    zoneout: float | tuple[float, ...] = 0.0
    backend: str = "auto"

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self) if field.name in RANGES):
            value = getattr(self, name)
            if name == "bidirectional" and type(value) is int and value in (0, 1):  # as torch takes it
                value = bool(value)
            try:
                object.__setattr__(self, name, RANGES[name].check(name, value))
            except OptionTypeError:
                raise
            except ValueError as error:
                raise InputError(*error.args) from None
        self._check_device()
        if self.dtype is not None and not isinstance(self.dtype, torch.dtype):
            raise OptionTypeError(f"dtype must be a floating-point torch.dtype or None, got {self.dtype!r}")
        if self.dtype is not None and not (self.dtype.is_floating_point or self.dtype.is_complex):
            raise InputError(f"dtype must be a floating-point torch.dtype or None, got {self.dtype!r}")
        if self.proj_size >= self.hidden_size:
            raise ValueError(
                f"proj_size must be at least 0 and below hidden_size={self.hidden_size}, got {self.proj_size}"
            )

    def _check_device(self) -> None:
        if self.device is None:
            return
        try:
            torch.device(self.device)
        except TypeError:
            raise OptionTypeError(f"device must be a torch.device or its name, got {self.device!r}") from None
        except RuntimeError as error:
            reason = str(error).partition("\n")[0]
            raise InputError(f"device must be a torch.device or its name, got {self.device!r}: {reason}") from None

    def check_equations(self, cell: Equations) -> None:
        """Raise ValueError for options that do not fit the equations; warn of one without effect."""
        H, I = self.hidden_size, self.input_size  # noqa: E741
        if cell.gates * H * max(H, I) >= _ELEMENTS:
            raise ValueError(f"weights this large cannot be held: got hidden_size={H}, input_size={I}")
        if self.proj_size and not cell.projects:
            raise ValueError(f"a {cell.name} has no projection, got proj_size={self.proj_size}")
        if self.recurrent_dropout and not cell.has_update:
            raise ValueError(
                f"recurrent_dropout drops what is added to the state, but a {cell.name} replaces its state; "
                "there are: hidden_dropout, weight_dropout, zoneout"
            )
        if self.dropout and self.num_layers == 1:
            warnings.warn("dropout acts between layers: it does nothing with num_layers=1", stacklevel=6)

    def noise(self, cell: Equations) -> Noise:
        """The dropout inside the recurrence."""
        zoneout, states = self.zoneout, cell.states
        values = tuple(zoneout) if isinstance(zoneout, tuple | list) else (zoneout,) * len(states)
        if len(values) != len(states):
            raise ValueError(f"zoneout takes one probability, or one for each of {', '.join(states)}; got {zoneout!r}")
        kept = tuple(float(_PROBABILITY.check("zoneout", value)) for value in values)
        noise = Noise(float(self.hidden_dropout), float(self.recurrent_dropout), kept, steady=cell.steady_dropout)
        return noise if noise.any() else QUIET

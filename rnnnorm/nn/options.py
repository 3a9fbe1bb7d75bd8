"""Checks of the options that all recurrent layers and cells share, and what they mean together."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from ..common.ranges import PROBABILITY, STEPS, OptionTypeError, Range, at_least, one_of
from ..equations import Cell, Noise
from ..packing import InputError
from .initialization import INITS
from .residual import RESIDUALS

INITIAL_STATES = ("zeros", "learned")
_SIZE = at_least(1, kinds=(int,))
_FLAG = Range(kinds=(bool,))
_PROBABILITY = replace(PROBABILITY, kinds=(float,))


def _words(*words: str) -> Range:
    return one_of(*words, kinds=(str,))


RANGES: Mapping[str, Range] = {
    "input_size": _SIZE,
    "hidden_size": _SIZE,
    "num_layers": at_least(1, 10_000, kinds=(int,)),
    "proj_size": at_least(0, kinds=(int,)),
    "max_steps": replace(STEPS, kinds=(int,)),
    **dict.fromkeys(("bias", "batch_first", "bidirectional", "peepholes"), _FLAG),
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
"""What the arguments of `LSTM`, `GRU`, `RNN` and their cells may be, by name, each for itself."""
_ELEMENTS = 2**60
"""Numbers in a weight from which on their bytes no longer fit into an index of 64 bits."""


def check_options(cell: Cell, a: dict[str, Any]) -> None:
    """Check the arguments of a constructor; numpy's numbers and booleans become Python's.

    Args:
        cell: the equations.
        a: the arguments by name; a single cell has a few of them only.

    Raises:
        OptionTypeError: a value of another type, which is a ValueError and a TypeError.
        InputError: a value outside its range, a ValueError and, as torch's cells raise, a RuntimeError.
        ValueError: one that contradicts another.
    """
    for name in a:
        if name in RANGES:
            try:
                as_in_torch = name == "bidirectional" and type(a[name]) is int and a[name] in (0, 1)
                a[name] = bool(a[name]) if as_in_torch else RANGES[name].check(name, a[name])
            except OptionTypeError:
                raise
            except ValueError as error:
                raise InputError(*error.args) from None
    dtype = a.get("dtype")
    if dtype is not None and not isinstance(dtype, torch.dtype):
        raise OptionTypeError(f"dtype must be a floating-point torch.dtype or None, got {dtype!r}")
    if dtype is not None and not (dtype.is_floating_point or dtype.is_complex):
        raise InputError(f"dtype must be a floating-point torch.dtype or None, got {dtype!r}")
    H, width = a["hidden_size"], max(a["hidden_size"], a["input_size"])
    if cell.gates * H * width >= _ELEMENTS:
        raise ValueError(f"weights this large cannot be held: got hidden_size={H}, input_size={a['input_size']}")
    if a.get("proj_size", 0) >= H:
        raise ValueError(f"proj_size must be at least 0 and below hidden_size={H}, got {a['proj_size']}")
    if a.get("recurrent_dropout") and not cell.has_update:
        raise ValueError(
            f"recurrent_dropout drops what is added to the state, but a {cell.name} replaces its state; "
            "there are: hidden_dropout, weight_dropout, zoneout"
        )
    if a.get("dropout") and a["num_layers"] == 1:
        warnings.warn("dropout acts between layers: it does nothing with num_layers=1", stacklevel=5)


def noise_of(cell: Cell, a: Mapping[str, Any]) -> Noise:
    """What is dropped inside the recurrence."""
    zoneout = a["zoneout"]
    values = tuple(zoneout) if isinstance(zoneout, tuple | list) else (zoneout,) * len(cell.states)
    if len(values) != len(cell.states):
        raise ValueError(f"zoneout takes one probability, or one for each of {', '.join(cell.states)}; got {zoneout!r}")
    kept = tuple(float(_PROBABILITY.check("zoneout", value)) for value in values)
    return Noise(float(a["hidden_dropout"]), float(a["recurrent_dropout"]), kept)

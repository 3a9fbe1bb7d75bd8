"""Checks of the options that all recurrent layers share, and what they mean together."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from .equations import Cell, Noise
from .residual import RESIDUALS

INITIAL_STATES = ("zeros", "learned")
PROBABILITIES = ("dropout", "variational_dropout", "hidden_dropout", "recurrent_dropout", "weight_dropout")


def check_options(cell: Cell, a: Mapping[str, Any]) -> None:
    """Raise ValueError for constructor arguments outside their range; warn about those that would do nothing."""
    for name in ("input_size", "hidden_size", "num_layers", "max_steps"):
        if not isinstance(a[name], int) or isinstance(a[name], bool) or a[name] < 1:
            raise ValueError(f"{name} must be an integer of at least 1, got {a[name]!r}")
    for name in PROBABILITIES:
        _check_probability(name, a[name])
    if not 0 <= a.get("proj_size", 0) < a["hidden_size"]:
        raise ValueError(f"proj_size must be at least 0 and below hidden_size={a['hidden_size']}, got {a['proj_size']}")
    for name, values in (
        ("initial_state", INITIAL_STATES),
        ("residual", RESIDUALS),
        ("between_on", ("branch", "sum")),
    ):
        if a[name] not in values:
            raise ValueError(f"{name} must be one of {', '.join(values)}, got {a[name]!r}")
    if a["initial_state_noise"] < 0:
        raise ValueError(f"initial_state_noise is a standard deviation, got {a['initial_state_noise']}")
    if a["recurrent_dropout"] and not cell.has_update:
        raise ValueError(
            f"recurrent_dropout drops what is added to the state, but a {cell.name} replaces its state; "
            "there are: hidden_dropout, weight_dropout, zoneout"
        )
    if a["dropout"] and a["num_layers"] == 1:
        warnings.warn("dropout acts between layers: it does nothing with num_layers=1", stacklevel=5)


def noise_of(cell: Cell, a: Mapping[str, Any]) -> Noise:
    """What is dropped inside the recurrence."""
    zoneout = a["zoneout"]
    values = tuple(zoneout) if isinstance(zoneout, tuple | list) else (zoneout,) * len(cell.states)
    if len(values) != len(cell.states):
        raise ValueError(f"zoneout takes one probability, or one for each of {', '.join(cell.states)}; got {zoneout!r}")
    for value in values:
        _check_probability("zoneout", value)
    return Noise(float(a["hidden_dropout"]), float(a["recurrent_dropout"]), tuple(float(v) for v in values))


def _check_probability(name: str, value: Any) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
        raise ValueError(f"{name} must be a probability between 0 and 1, got {value!r}")


class OptionTypeError(ValueError, TypeError):
    """An option of the wrong type; a TypeError, as torch raises, and a ValueError like other refusals of options."""


def check_types(a: Mapping[str, Any]) -> None:
    """Raise OptionTypeError for arguments that torch's constructors have, too, if they are of the wrong type."""
    for name in ("input_size", "hidden_size", "num_layers", "proj_size"):
        value = a.get(name, 1)
        if not isinstance(value, int) or isinstance(value, bool):
            least = 0 if name == "proj_size" else 1
            raise OptionTypeError(f"{name} must be an integer of at least {least}, got {value!r}")
    for name in ("bias", "batch_first"):
        if not isinstance(a.get(name, True), bool):
            raise OptionTypeError(f"{name} must be True or False, got {a[name]!r}")
    dropout = a.get("dropout", 0.0)
    if not isinstance(dropout, int | float) or isinstance(dropout, bool):
        raise OptionTypeError(f"dropout must be a probability between 0 and 1, got {dropout!r}")

"""Recurrent networks that a task can be built on."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from rnnnorm.nn.gru import GRU
from rnnnorm.nn.lstm import LSTM
from rnnnorm.nn.rnn import RNN

CELLS: dict[str, tuple[type[LSTM] | type[GRU] | type[RNN], dict[str, Any]]] = {
    "lstm": (LSTM, {}),
    "gru": (GRU, {}),
    "rnn-tanh": (RNN, {"nonlinearity": "tanh"}),
    "rnn-relu": (RNN, {"nonlinearity": "relu"}),
    "rnn-identity": (RNN, {"nonlinearity": "identity"}),
}
"""By the value of a task's `cell`: the class, and what of its arguments that fixes."""


def build_recurrent(
    cell: str, options: Mapping[str, Any] | None, input_size: int, hidden_size: int, num_layers: int, **common: Any
) -> LSTM | GRU | RNN:
    """The network named `cell`, with arguments that all cells have and `options` that only some do.

    Raises:
        ValueError: an unknown cell, or an option that it does not have; the message lists those that exist.
    """
    if cell not in CELLS:
        raise ValueError(f"cell must be one of {', '.join(CELLS)}, got {cell!r}")
    network: Any
    network, fixed = CELLS[cell]
    known = inspect.signature(network).parameters
    for key in options or {}:
        if key not in known:
            raise ValueError(f"cell {cell!r} has no option {key!r}; it has: {', '.join(known)}")
    built: LSTM | GRU | RNN = network(input_size, hidden_size, num_layers, **{**common, **fixed, **(options or {})})
    return built

"""Recurrent networks that a task can be built on."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from rnnnorm.nn.options import Options
from rnnnorm.nn.recurrent import NETWORKS, Recurrent


def build_recurrent(
    cell: str, options: Mapping[str, Any] | None, input_size: int, hidden_size: int, num_layers: int, **common: Any
) -> Recurrent[Any]:
    """The network named `cell`, with arguments that all cells have and `options` that only some do.

    Raises:
        ValueError: an unknown cell, or an option that it does not have; the message lists those that exist.
    """
    if cell not in NETWORKS:
        raise ValueError(f"cell must be one of {', '.join(NETWORKS)}, got {cell!r}")
    network: Any
    network, fixed = NETWORKS[cell]
    parameters = inspect.signature(network).parameters.values()
    known = [p.name for p in parameters if p.kind is not p.VAR_KEYWORD]
    if len(known) < len(parameters):
        known += [field.name for field in fields(Options) if field.name not in known]
    for key in options or {}:
        if key not in known:
            raise ValueError(f"cell {cell!r} has no option {key!r}; it has: {', '.join(known)}")
    built: Recurrent[Any] = network(input_size, hidden_size, num_layers, **{**common, **fixed, **(options or {})})
    return built

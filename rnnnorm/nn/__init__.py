"""Recurrent networks. Every module of this package is imported, so that defining a network registers it."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

_FIRST = "lstm", "gru", "rnn", "ligru", "indrnn"
"""In the order of `NETWORKS`."""

for _name in (*_FIRST, *(module.name for module in iter_modules(__path__))):
    import_module(f"{__name__}.{_name}")

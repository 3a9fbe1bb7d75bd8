"""Recurrent networks. Every module of this package is imported, so that defining a network registers it."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

for _name in ("lstm", "gru", "rnn", *(module.name for module in iter_modules(__path__))):  # in the order of `NETWORKS`
    import_module(f"{__name__}.{_name}")

"""Normalizers: rows in, rows out. Every module of this package is imported, so that defining a class registers it."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from .auxiliary import auxiliary_loss
from .base import NORMALIZERS, Normalizer, WeightNormalizer, normalizer_class, options_of
from .batch import BatchNorm
from .evaluation import evaluates_by, has_batch_statistics, statistics, step_statistics
from .layer import LayerNorm
from .population import recalibrate
from .statistics import StoredStatistics
from .use import Use, split_options
from .weight import WeightNorm

for _module in iter_modules(__path__):
    if _module.name != "presets":  # which are made of the others
        import_module(f"{__name__}.{_module.name}")

__all__ = [
    "NORMALIZERS",
    "BatchNorm",
    "LayerNorm",
    "Normalizer",
    "StoredStatistics",
    "Use",
    "WeightNorm",
    "WeightNormalizer",
    "auxiliary_loss",
    "evaluates_by",
    "has_batch_statistics",
    "normalizer_class",
    "options_of",
    "recalibrate",
    "split_options",
    "statistics",
    "step_statistics",
]

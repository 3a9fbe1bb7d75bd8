"""Benchmark of `rnnnorm.LSTM`: ratios to `torch.nn.LSTM`, measured in turns inside one process."""

from __future__ import annotations

from .cells import PARTS, PRESETS, Cell, Settings, plan
from .records import Record, geometric_mean, load, save
from .shapes import SHAPES, Shape
from .summary import GOALS, Goal, summarize

__all__ = [
    "GOALS",
    "PARTS",
    "PRESETS",
    "SHAPES",
    "Cell",
    "Goal",
    "Record",
    "Settings",
    "Shape",
    "geometric_mean",
    "load",
    "plan",
    "save",
    "summarize",
]

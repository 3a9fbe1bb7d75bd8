"""Benchmark of `rnnnorm.LSTM`: ratios to `torch.nn.LSTM`, measured in turns inside one process."""

from __future__ import annotations

from .contests import PARTS, PRESETS, Contest, Settings, plan
from .document import load, save
from .records import Record, geometric_mean
from .shapes import SHAPES, Shape
from .summary import GOALS, Goal, summarize

__all__ = [
    "GOALS",
    "PARTS",
    "PRESETS",
    "SHAPES",
    "Contest",
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

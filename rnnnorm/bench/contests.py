"""Contests of a benchmark: contenders measured in turns, one contest for each part, shape and kind of lengths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from .contenders import KINDS, our_lstm
from .neighbours import CAN_BE_STOPPED
from .shapes import SHAPES, Shape

PARTS = ("dense", "ragged", "forward", "memory", "streaming", "growth", "busy", "busy-forward", "kinds")
"""Training step; the same on ragged batches; forward pass alone; peak memory; single timesteps; growth with T, B, H;
training step and forward pass beside a busy process for every two threads (left out on Windows); training step of other
cells and options."""

PRESETS = ("none", "ln", "ln-carried", "rms", "gn", "bn-vertical", "bn-shared", "bn-timestep", "wn")
"""Measured unless told otherwise: no norm, per row, by batch statistics in the three ways, weights."""

GROWTH_PRESETS = ("none", "ln", "bn-timestep")

GROWTH_BASE = Shape(100, 32, 64, 128)
GROWTH: Mapping[str, tuple[int, ...]] = {
    "T": (25, 50, 100, 200, 400),
    "B": (1, 4, 16, 64, 256),
    "H": (32, 64, 128, 256, 512, 1024),
}


@dataclass(frozen=True)
class Settings:
    """Choice of what to measure, and how.

    Args:
        presets: norms, with overrides or without.
        shapes: sizes.
        parts: out of `PARTS`.
        backend: of `rnnnorm.LSTM`.
        device: "cpu", "cuda" or "cuda:1".
        seconds: per cell, all contenders together; at least five rounds are run in any case.
        seed: of data, lengths and the order of contenders.
        growth_base: the shape around which T, B and H grow.
        growth: their values.

    Raises:
        ValueError: something that cannot be measured; the message says what could.
    """

    presets: tuple[str, ...] = PRESETS
    shapes: tuple[Shape, ...] = SHAPES
    parts: tuple[str, ...] = PARTS
    backend: str = "auto"
    device: str = "cpu"
    seconds: float = 3.0
    seed: int = 0
    growth_base: Shape = GROWTH_BASE
    growth: Mapping[str, tuple[int, ...]] = field(default_factory=lambda: GROWTH)

    def __post_init__(self) -> None:
        for part in self.parts:
            if part not in PARTS:
                raise ValueError(f"unknown part {part!r}; there are: {', '.join(PARTS)}")
        for name in ("presets", "shapes", "parts"):
            if not getattr(self, name):
                raise ValueError(f"expected at least one of {name}")
        if not self.seconds > 0:
            raise ValueError(f"seconds per cell must be above 0, got {self.seconds:g}")
        check_device(self.device)
        for norm in self.presets:  # a name that does not exist must not end a run in its twentieth minute
            device = torch.device(self.device)
            lstm = our_lstm(Shape(2, 2, 2, 2), norm, self.backend, device)
            try:
                lstm(torch.zeros(2, 2, 2, device=device))
            except RuntimeError as error:  # a backend that covers the norm and cannot run here
                raise ValueError(str(error)) from error

    @property
    def growth_presets(self) -> tuple[str, ...]:
        """Those that are followed over T, B and H, beside neighbours and in other cells: three usual ones, if any."""
        return tuple(p for p in self.presets if p in GROWTH_PRESETS) or self.presets[:3]


def check_device(name: str) -> None:
    """Raise ValueError for a device that is not there, or neither a CPU nor a CUDA one."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"unknown device {name!r}; expected cpu, cuda or cuda:<number>") from error
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"cannot time on device {name!r}; expected cpu, cuda or cuda:<number>")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= count:
        raise ValueError(f"device {name!r} is not there; torch finds {count} CUDA devices")


@dataclass(frozen=True)
class Contest:
    """Contenders that are measured in turns.

    Args:
        part: out of `PARTS`.
        shape: T, B, I, H.
        lengths: out of `rnnnorm.bench.shapes.LENGTHS`.
        norms: the presets.
        kind: out of `rnnnorm.bench.contenders.KINDS`, where it is no plain LSTM.
    """

    part: str
    shape: Shape
    lengths: str = "dense"
    norms: tuple[str, ...] = ()
    kind: str = ""

    def __str__(self) -> str:
        always_dense = self.part in ("memory", "streaming", "busy", "busy-forward", "kinds")
        lengths = "" if self.lengths == self.part or always_dense else self.lengths
        return " ".join(filter(None, (self.part, self.kind, lengths, str(self.shape))))


def plan(settings: Settings) -> list[Contest]:
    """All contests of a benchmark, part by part."""
    every = {"dense": ("dense",), "ragged": ("uniform", "heavy-tailed"), "forward": ("dense", "uniform")}
    contests: list[Contest] = []
    for part in settings.parts:
        if part == "memory":
            contests += [Contest(part, shape, norms=settings.presets) for shape in settings.shapes]
        elif part == "streaming":
            shapes = dict.fromkeys(Shape(1, 1, shape.I, shape.H) for shape in settings.shapes)
            contests += [Contest(part, shape, norms=settings.presets) for shape in shapes]
        elif part.startswith("busy"):
            if CAN_BE_STOPPED:
                contests += [Contest(part, shape, norms=settings.growth_presets) for shape in settings.shapes]
        elif part == "kinds":
            several = [(kind, shape) for kind in KINDS for shape in settings.shapes]
            contests += [Contest(part, shape, norms=settings.growth_presets, kind=kind) for kind, shape in several]
        elif part == "growth":
            contests += [Contest(part, shape, norms=settings.growth_presets) for shape in grown(settings)]
        else:
            contests += [
                Contest(part, shape, lengths, settings.presets) for lengths in every[part] for shape in settings.shapes
            ]
    return contests


def grown(settings: Settings) -> list[Shape]:
    """The base shape and those that differ from it in one of T, B, H."""
    base = settings.growth_base
    shapes = [base._replace(**{name: value}) for name, values in settings.growth.items() for value in values]
    return list(dict.fromkeys([base, *shapes]))

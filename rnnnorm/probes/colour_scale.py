"""Colour scale of a quantity: which colour a value has, and which values the bar beside a picture names."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

KINDS = ("linear", "share", "log", "signed")
GRAY = 216
"""Brightness of what has no colour: nan."""
_MANTISSAS = (1.0, 2.0, 5.0)


@dataclass(frozen=True)
class ColourScale:
    """Mapping of values to colours, and to places on the bar.

    Args:
        kind: "linear", from 0; "share", from 0 to 1; "log", for what grows exponentially; or "signed", symmetric
            around 0.
        low: value of the first colour.
        high: value of the last one.
    """

    kind: str
    low: float
    high: float

    @classmethod
    def of(cls, kind: str, arrays: Iterable[NDArray[Any]]) -> ColourScale | None:
        """The scale of values: their 1st to 99th percentile, rounded outwards; None if none of them has a colour.

        A few entries, such as the first step without variance, would otherwise leave one colour to all others.
        """
        found = np.concatenate([np.empty(0), *(values.ravel() for values in arrays)]).astype(np.float64)
        found = found[np.isfinite(found)]
        found = found[found > 0] if kind == "log" else found
        if not len(found):
            return None
        low, high = np.percentile(found, (1, 99)).tolist()
        if kind == "share":
            return cls(kind, 0.0, 1.0)
        if kind == "signed":
            reach = _above(max(-low, high))
            return cls(kind, -reach, reach)
        if kind == "linear":
            return cls(kind, -_above(-low) if low < 0 else 0.0, _above(high))
        low, high = _below(low), _above(high)
        return cls(kind, low, high if high > low else 10 * low)

    def places(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Place of each value, 0 (the first colour) to 1; nan for what has none."""
        with np.errstate(all="ignore"):
            if self.kind == "log":
                low, high = math.log(self.low), math.log(self.high)
                positive = np.where(values >= 0, values, np.nan).astype(np.float64)  # log 0 has the first colour
                places = (np.log(positive) - low) / (high - low)
            else:
                places = (values.astype(np.float64) - self.low) / (self.high - self.low)
        return np.clip(places, 0, 1)

    def colours(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """RGB of each value, (…, 3)."""
        from matplotlib import colormaps  # slow to import, and a run may never draw

        places = self.places(values)
        found = colormaps["RdBu_r" if self.kind == "signed" else "viridis"](np.nan_to_num(places), bytes=True)[..., :3]
        return np.where(np.isnan(places)[..., None], np.uint8(GRAY), found).astype(np.uint8)

    def ticks(self, most: int = 5) -> list[tuple[float, str]]:
        """Two to `most` places on the bar and what is written there."""
        if self.kind == "share":
            return [(0.0, "0%"), (0.5, "50%"), (1.0, "100%")]
        if self.kind != "log":
            values: NDArray[Any] = np.linspace(self.low, self.high, 5 if self.kind == "signed" else 3)
        else:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            if last > first:
                stride = -(-(last - first + 1) // most)
                values = 10.0 ** np.arange(first, last + 1, stride)
            else:
                values = np.array([self.low, self.high])
        return [(float(place), number(v)) for place, v in zip(self.places(values), values.tolist(), strict=True)]


def number(value: float) -> str:
    """A number as short as it can be read without superscripts: 0.02, 150, 1e−5, 2e7."""
    if value == 0 or 1e-2 <= abs(value) < 1e4 or not math.isfinite(value):
        return f"{value:.3g}".replace("-", "−") if abs(value) < 1e3 else f"{value:.0f}".replace("-", "−")
    mantissa, exponent = f"{value:.0e}".split("e")
    return f"{mantissa}e{int(exponent)}".replace("-", "−")


def _above(value: float) -> float:
    """The next of 1, 2, 5, 10, … (or 0.5, 0.2, …) that is not below a value; 1 for what is not above 0."""
    if value <= 0:
        return 1.0
    decade = 10.0 ** math.floor(math.log10(value))
    return next((m * decade for m in _MANTISSAS if m * decade >= value * (1 - 1e-9)), 10 * decade)


def _below(value: float) -> float:
    """The last of … 0.5, 1, 2, 5, 10, … that is not above a value."""
    decade = 10.0 ** math.floor(math.log10(value) + 1e-9)
    return max((m * decade for m in _MANTISSAS if m * decade <= value * (1 + 1e-9)), default=decade)

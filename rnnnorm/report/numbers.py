"""Numbers and enumerations as text."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence


def number(value: float, digits: int | None = None, sign: str = "") -> str:
    """A measured number with a real minus sign, `–` if it is not finite.

    Args:
        value: the number.
        digits: decimals, of `places` or `common_places`; None: those that show four significant digits. 0, and numbers
            of more than six digits before the point, are written as if they stood by themselves.
        sign: `+` puts a sign before positive numbers, too.
    """
    if not math.isfinite(value):
        return "–"
    if not digits or abs(value) >= 1e6:
        digits = places(value)
    return minus(f"{value:{sign}.{digits}f}" if digits else f"{value:{sign}.3g}")


def signed(value: float, digits: int | None = None) -> str:
    """A difference, `+0.0123`; see `number`."""
    return number(value, digits, "+")


def minus(text: str) -> str:
    """A number written by Python with a minus sign in place of its hyphens."""
    return text.replace("-", "−")


def places(value: float) -> int:
    """Decimals that show about four significant digits; 0 where scientific notation reads better."""
    if value == 0:
        return 3
    exponent = math.floor(math.log10(abs(value)))
    return min(max(3 - exponent, 1), 6) if -4 <= exponent <= 4 else 0


def common_places(values: Iterable[float]) -> int:
    """Decimals of a column of numbers, those that its median magnitude has in `number`; 0: each by itself."""
    sizes = [abs(value) for value in values if math.isfinite(value)]
    return places(statistics.median_low(sizes)) if sizes else 0


def p_text(value: float) -> str:
    """A p value with four decimals, `< 0.0001` below that, `–` if there is none."""
    if not math.isfinite(value):
        return "–"
    return "< 0.0001" if value < 1e-4 else f"{value:.4f}"


def listed(items: Sequence[str]) -> str:
    """An enumeration: `a, b and c`."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def some(items: Sequence[str], separator: str, most: int = 6) -> str:
    """The first few items, and how many more there are."""
    return separator.join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")

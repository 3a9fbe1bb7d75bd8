"""Numbers and enumerations as text."""

from __future__ import annotations

import math
from collections.abc import Sequence


def number(value: float) -> str:
    """A measured number with four significant digits, `–` if it is not finite."""
    if not math.isfinite(value):
        return "–"
    digits = places(value)
    return f"{value:.{digits}f}" if digits else f"{value:.3g}"


def places(value: float) -> int:
    """Decimals that show about four significant digits; 0 where scientific notation reads better."""
    if value == 0:
        return 3
    exponent = math.floor(math.log10(abs(value)))
    return min(max(3 - exponent, 1), 6) if -4 <= exponent <= 4 else 0


def signed(value: float, like: float | None = None) -> str:
    """A difference with its sign, `+0.0123`, to the decimals of a number of four digits.

    Args:
        value: the difference.
        like: the number that says how many decimals there are; the value itself if not given.
    """
    if not math.isfinite(value):
        return "–"
    digits = places(value if like is None else like)
    text = f"{value:+.{digits}f}" if digits else f"{value:+.3g}"
    return text.replace("-", "−", 1) if text.startswith("-") else text


def p_text(value: float) -> str:
    """A p value: two digits, `< 0.0001` below that, `–` if there is none."""
    if not math.isfinite(value):
        return "–"
    return "< 0.0001" if value < 1e-4 else f"{value:.2g}"


def listed(items: Sequence[str]) -> str:
    """An enumeration: `a, b and c`."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def some(items: Sequence[str], separator: str, most: int = 6) -> str:
    """The first few items, and how many more there are."""
    return separator.join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")

"""Numbers and enumerations as text."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence


def number(value: float, like: float | None = None) -> str:
    """A measured number with four significant digits, `–` if it is not finite.

    Args:
        value: the number.
        like: the number that says how many decimals there are; the value itself if not given.
    """
    if not math.isfinite(value):
        return "–"
    digits = places(value if like is None else like)
    return f"{value:.{digits}f}" if digits else f"{value:.3g}"


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


def fixed(value: float, digits: int) -> str:
    """A measured number with the decimals of its column.

    Args:
        value: the number; `–` if it is not finite.
        digits: of `common_places`; 0, and numbers of more than six digits before the point: as `number` writes them.
    """
    return f"{value:.{digits}f}" if digits and abs(value) < 1e6 else number(value)


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

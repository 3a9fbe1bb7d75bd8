"""Descriptions of normalizers for scans in one pass, which compute them themselves."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RowStatistics:
    """Each row is divided by statistics of its own features.

    Args:
        eps: ε inside the root.
        groups: equal blocks of neighbouring features, each with statistics of its own.
        centered: subtract the mean and divide by the standard deviation; otherwise divide by the root mean square.
    """

    eps: float
    groups: int = 1
    centered: bool = True


@dataclass(frozen=True)
class ColumnStatistics:
    """Each feature is normalized by mean and variance over rows, its batch's own or stored ones.

    Which of the two, and what is stored, the normalizer tells by `ColumnSteps`.

    Args:
        eps: ε inside the root.
        sequence: over the rows of all steps at once; otherwise over those of each step.
        skip_constant: what is constant but for `rounding` becomes 0 without a gradient.
    """

    eps: float
    sequence: bool = False
    skip_constant: bool = False


@dataclass(frozen=True)
class Constant:
    """Each entry is multiplied by one number, which is not learned; gain and bias are those that there are.

    Args:
        factor: the number.
    """

    factor: float


@dataclass(frozen=True)
class Squash:
    """Each entry becomes tanh(α x), with a learned `alpha` (1,)."""


Fusible = RowStatistics | ColumnStatistics | Constant | Squash

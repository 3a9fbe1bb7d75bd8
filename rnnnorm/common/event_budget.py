"""Budget of a folder of event files: entries become rarer as the files grow."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

LIMIT = 20_000_000
"""Bytes that the event files of a run stay below: TensorBoard reads all of them before it shows a run."""
_SHARED_OUT = 18_000_000
"""Bytes of them that are given to what can be left out; the rest is for validation curves and final results."""


class EventBudget:
    """Decision which of many entries of one kind are written into a folder of event files.

    All are as long as half of the budget is left, every fourth one after that, every sixteenth when a quarter is left,
    and so on: each half of what is left lasts twice as long as the one before, so that a run of any length stays within
    the budget and goes on to show something.

    Args:
        size: of the budget in bytes.
    """

    def __init__(self, size: int = _SHARED_OUT) -> None:
        self.size = size
        self._seen = -1

    def grants(self, folder: Path) -> bool:
        """Whether the next entry is written; a warning says once that not all are.

        Args:
            folder: of the event files; it need not exist yet.
        """
        self._seen += 1
        left = 1 - sum(path.stat().st_size for path in folder.glob("events.out.tfevents.*")) / self.size
        if left > 0.5:
            return True
        warnings.warn(
            f"the event files in {folder} have grown to {self.size // 2 / 1e6:.3g} MB; from now on fewer points of "
            f"training curves and probes are written, so that they stay below {LIMIT // 1_000_000} MB",
            stacklevel=1,  # one place and one text, so that Python says it once, whoever asks
        )
        return left > 0 and self._seen % 4 ** math.floor(-math.log2(left)) == 0

"""Logger: the curves of a run, as TensorBoard shows them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from rnnnorm.common.event_budget import EventBudget


class CurveLogger(TensorBoardLogger):
    """Lightning's TensorBoard logger without the curve `epoch`, which Lightning adds to every entry.

    Entries reach the disk as they are logged: Lightning saves a logger after each of them. A run that is so long that
    its event files would exceed 20 MB has fewer points of its training curves and probes from 9 MB on
    (`rnnnorm.common.event_budget`). Takes the arguments of `lightning.pytorch.loggers.TensorBoardLogger`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._budget = EventBudget()

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log scalars by tag, all but `epoch`."""
        found = {tag: value for tag, value in metrics.items() if tag != "epoch"}
        if found and all(tag.startswith("train/") for tag in found) and not self._budget.grants(Path(self.log_dir)):
            return
        super().log_metrics(found, step)

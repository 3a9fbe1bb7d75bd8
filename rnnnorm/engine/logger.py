"""Logger: the curves of a run, as TensorBoard shows them."""

from __future__ import annotations

from collections.abc import Mapping

from lightning.pytorch.loggers import TensorBoardLogger


class CurveLogger(TensorBoardLogger):
    """Lightning's TensorBoard logger without the curve `epoch`, which Lightning adds to every entry.

    Entries reach the disk as they are logged: Lightning saves a logger after each of them. Takes the arguments of
    `lightning.pytorch.loggers.TensorBoardLogger`.
    """

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log scalars by tag, all but `epoch`."""
        super().log_metrics({tag: value for tag, value in metrics.items() if tag != "epoch"}, step)

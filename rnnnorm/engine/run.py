"""Run: one norm trained with one seed, and the files it leaves in its folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rnnnorm.common.folder_names import norm_folder

TUNING = "tuning"
"""Folder, in that of a comparison, of the trials by which norms are tuned."""


@dataclass(frozen=True)
class Run:
    """One norm trained with one seed.

    Args:
        norm: a preset with optional overrides, as typed.
        seed: of the initial weights and of dropout.
        out: the folder of the comparison.
        values: keys of the configuration in which it differs from that of the comparison, with their values.
    """

    norm: str
    seed: int
    out: Path
    values: tuple[tuple[str, Any], ...] = ()

    @property
    def folder(self) -> Path:
        """`<out>/<norm>/seed=<k>`; see `norm_folder`."""
        return self.out / norm_folder(self.norm) / f"seed={self.seed}"

    @property
    def name(self) -> str:
        """What TensorBoard calls it: `<norm>/seed=<k>`."""
        return f"{norm_folder(self.norm)}/seed={self.seed}"

    @property
    def result(self) -> Path:
        """Where the result is written once the run has ended."""
        return self.folder / "result.json"

    @property
    def sequences(self) -> Path:
        """Where the scores by test sequence are written, if the metric is a function of their mean."""
        return self.folder / "test_sequences.npz"

    @property
    def error(self) -> Path:
        """Where the traceback is written if the run failed."""
        return self.folder / "error.txt"

    @property
    def best(self) -> Path:
        """The checkpoint with the best validation metric."""
        return self.folder / "checkpoints" / "best.ckpt"

    @property
    def last(self) -> Path:
        """The checkpoint to go on from."""
        return self.folder / "checkpoints" / "last.ckpt"


@dataclass(frozen=True)
class TuningRun(Run):
    """A trial by which a norm is tuned: its score is the best validation metric, and the test split is not touched.

    Args:
        round: one of several independent searches.
        trial: its name within the round.
    """

    round: int = 0
    trial: str = "0"

    @property
    def folder(self) -> Path:
        """`<out>/tuning/<norm>/round=<r>/trial=<k>`."""
        return self.out / self.name

    @property
    def name(self) -> str:
        """`tuning/<norm>/round=<r>/trial=<k>`."""
        return f"{TUNING}/{norm_folder(self.norm)}/round={self.round}/trial={self.trial}"

"""Run: one norm trained with one seed, and the files it leaves in its folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Run:
    """One norm trained with one seed.

    Args:
        norm: a preset with optional overrides, as typed.
        seed: of the initial weights and of dropout.
        out: the folder of the comparison.
    """

    norm: str
    seed: int
    out: Path

    @property
    def folder(self) -> Path:
        """`<out>/<norm>/seed=<k>`; ":" becomes "," because not every file system takes it."""
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


def norm_folder(norm: str) -> str:
    """A norm's name as a folder's name."""
    return norm.replace(":", ",")

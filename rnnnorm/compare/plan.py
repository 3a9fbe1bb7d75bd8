"""Which runs a comparison consists of, and in which folders they live."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rnnnorm.norms.presets import CORE, parse_norm, presets


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


def parse_norms(given: str | Sequence[str] | None) -> list[str]:
    """The norms to compare: the "core" presets, "all" of them, or `a,b:gain=1.0,c`, without repetitions.

    Raises:
        ValueError: none given, or an unknown preset or option; the message lists those that exist.
    """
    items = given.split(",") if isinstance(given, str) else list(given or ())
    names = [item.strip() for item in items if item.strip()]
    if not names:
        raise ValueError(f"no norms to compare; presets: {', '.join(presets())}, or core, or all")
    groups = {"core": CORE, "all": tuple(presets())}
    names = [name for item in names for name in groups.get(item, (item,))]
    for name in names:
        parse_norm(name)
    return list(dict.fromkeys(names))


def parse_seeds(given: int | str | Sequence[int] | None) -> list[int]:
    """The seeds to run: N means 0, 1, …, N - 1; "3,7" and [3, 7] mean just those.

    Raises:
        ValueError: not a positive number or a list of seeds ≥ 0.
    """
    try:
        if isinstance(given, str):
            seeds = [int(part) for part in given.split(",") if part.strip()]
        else:
            seeds = list(range(given)) if isinstance(given, int) else [int(seed) for seed in given or ()]
    except (ValueError, TypeError):
        seeds = []
    if not seeds or min(seeds) < 0:
        raise ValueError(f"--seeds {given}: expected a positive number of seeds, or a list of them such as 3,7")
    return list(dict.fromkeys(seeds))


def plan(norms: Sequence[str], seeds: Sequence[int], out: Path) -> list[Run]:
    """All runs, seed by seed: whenever it is stopped, every norm has been trained about equally often."""
    return [Run(norm, seed, out) for seed in seeds for norm in norms]

"""Plan: the norms and seeds of a comparison, and the order of its runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rnnnorm.common.folder_names import norm_folder
from rnnnorm.engine.run import Run
from rnnnorm.norms.presets import CORE, load_plugins, parse_norm, presets

LONGEST = 200
"""Characters of a norm's folder; file systems allow 255."""


def parse_norms(given: str | Sequence[str] | None) -> list[str]:
    """The norms to compare: the "core" presets, "all" of them, or `a,b:gain=1.0,c`, without repetitions.

    Modules and files that they name, as in `mymodule:peak`, are imported; see `rnnnorm.parse_norm` for what can be
    written.

    Raises:
        ValueError: none given, an unknown preset or option (the message lists those that exist), or one whose text is
            longer than a folder's name can be.
    """
    items = given.split(",") if isinstance(given, str) else list(given or ())
    names = ["".join(item.split()) for item in items if item.strip()]
    if not names:
        raise ValueError(f"no norms to compare; presets: {', '.join(presets())}, or core, or all")
    groups = {"core": CORE, "all": tuple(presets())}
    names = [name for item in names for name in groups.get(item, (item,))]
    for name in names:
        load_plugins(name)
        parse_norm(name)
        if len(norm_folder(name)) > LONGEST:
            raise ValueError(
                f"norm {name!r} is too long to name a folder ({LONGEST} characters): give it a name by rnnnorm.register"
            )
    return list(dict.fromkeys(names))


def parse_baseline(given: str) -> str:
    """The norm that the others are compared with, which need not be among those of this command.

    Raises:
        ValueError: an unknown preset or option, or several.
    """
    names = parse_norms(given)
    if len(names) != 1:
        raise ValueError(f"--baseline {given}: expected one norm, got {len(names)}")
    return names[0]


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

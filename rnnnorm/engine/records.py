"""Records: what a run leaves in its folder beside curves and checkpoints, written so that no file is ever half there.

Of several processes that train together the first one writes and prints.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only
from torch.utils.tensorboard import SummaryWriter

from rnnnorm.common.atomic import write_text
from rnnnorm.common.folder_names import norm_folder

KEYS = frozenset(
    {"norm", "seed", "status", "diverged_at", "task", "metric", "metric_mode", "steps", "epochs", "seconds"}
    | {"parameters", "statistics", "best_val", "best_step", "test", "buckets"}
)
"""What every `result.json` has."""

STATUSES = ("finished", "cut", "diverged")
"""How a run ends: as configured, by `--max-minutes` before that, or because its loss is no longer finite."""


def leads() -> bool:
    """Whether this process prints and writes: the first of those that train together, or the only one."""
    return not getattr(rank_zero_only, "rank", 0)


def write(path: Path, text: str) -> None:
    """Write a file at once: a reader, or a crash, sees the old one or the new one. Only the first process writes.

    A file that says the same already is left alone: a comparison that is done can be shown although the disk is full.

    Raises:
        OSError: it cannot be written; the error names it.
    """
    if leads() and not (path.is_file() and path.read_bytes() == text.encode("utf-8")):
        write_text(path, text)


def write_json(path: Path, content: Any) -> None:
    """Write JSON as all readers take it: numbers that are not finite become null."""
    write(path, json.dumps(finite(content), indent=1, allow_nan=False) + "\n")


def finite(content: Any) -> Any:
    """The same content with None in place of NaN and infinities."""
    if isinstance(content, dict):
        return {key: finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


@contextmanager
def events(folder: Path, name: str, purge_step: int | None = None) -> Iterator[SummaryWriter]:
    """Writer of an event file of its own, which takes the place of what an attempt that was killed has left of it.

    TensorBoard purges by step, which does not help where the axis of a curve is something else.

    Args:
        folder: of the run.
        name: with which the file's name ends.
        purge_step: from which on a TensorBoard that has read the former file forgets all that the folder held.
    """
    for left in folder.glob(f"events.out.tfevents.*.{name}"):
        left.unlink()
    with SummaryWriter(str(folder), filename_suffix=f".{name}", purge_step=purge_step) as writer:
        yield writer


def read_result(path: Path) -> dict[str, Any] | None:
    """Result of a run that has ended, as of `rnnnorm.engine.trial.execute`; None if there is none to be believed.

    It is believed if it is complete and of the run in whose folder, `<norm>/seed=<k>/`, it lies. Earlier versions
    called a run that was cut "finished" and `out_of_time`: that is read as "cut".

    Args:
        path: a `result.json`.
    """
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(result, dict) or not result.keys() >= KEYS or result["status"] not in STATUSES:
        return None
    if not isinstance(result["test"], dict) or not isinstance(result["buckets"], dict):
        return None
    folder = path.absolute().parent
    if (norm_folder(str(result["norm"])), f"seed={result['seed']}") != (folder.parent.name, folder.name):
        return None
    if result["status"] == "finished" and result.pop("out_of_time", False):
        result["status"] = "cut"
    return result

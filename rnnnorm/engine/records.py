"""What a run leaves in its folder beside curves and checkpoints, written so that no file is ever half there.

Of several processes that train together the first one writes and prints.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only


def leads() -> bool:
    """Whether this process prints and writes: the first of those that train together, or the only one."""
    return not getattr(rank_zero_only, "rank", 0)


def write(path: Path, text: str) -> None:
    """Write a file at once: a reader, or a crash, sees the old one or the new one. Only the first process writes."""
    if not leads():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


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


def is_result(path: Path) -> bool:
    """Whether a run has ended: its `result.json` is there and can be read."""
    try:
        return isinstance(json.loads(path.read_text(encoding="utf-8")), dict)
    except (OSError, ValueError):
        return False

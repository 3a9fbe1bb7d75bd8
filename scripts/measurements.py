"""Measurements behind a page: the results of run folders in one archive, from which the page can be made again."""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

KEPT = ("compare.yaml", "data.json", "tuning.json", "*/seed=*/result.json", "*/seed=*/config.yaml")


def keep(folders: Mapping[str, Path], path: Path, kept: Sequence[str] = KEPT) -> None:
    """Archive of comparisons, name inside it → folder, without curves and checkpoints.

    The same bytes for the same content: entries are sorted and have neither dates nor owners. Where data lay on the
    machine that measured is left out.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:xz", preset=9) as archive:
        for name, folder in sorted(folders.items()):
            for file in sorted(file for pattern in kept for file in folder.glob(pattern)):
                content = re.sub(rb"(?m)^(\s*data_dir:) /.*$", rb"\1 data", file.read_bytes())
                entry = tarfile.TarInfo(f"{name}/{file.relative_to(folder)}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))

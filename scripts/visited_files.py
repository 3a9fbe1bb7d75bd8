"""Files of rnnnorm that one forward pass visits, as a measure of how much somebody must read to follow it.

python scripts/visited_files.py
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType

import torch

import rnnnorm

PACKAGE = Path(rnnnorm.__file__).parent


def visited(module: torch.nn.Module, *arguments: torch.Tensor) -> tuple[list[str], int]:
    """Files that a call of a module visits, in the order of their first visits, and the hops from file to file."""
    files: dict[str, None] = {}
    hops, last = 0, ""

    def profile(frame: FrameType, event: str, _: object) -> None:
        nonlocal hops, last
        file = Path(frame.f_code.co_filename)
        if event != "call" or PACKAGE not in file.parents:
            return
        name = file.relative_to(PACKAGE).as_posix()
        files.setdefault(name)
        hops, last = hops + (name != last), name

    sys.setprofile(profile)
    try:
        module(*arguments)
    finally:
        sys.setprofile(None)
    return list(files), hops


def main() -> None:
    """Print the files of one training step of `LSTM(norm="bn-timestep", backend="reference")`."""
    lstm = rnnnorm.LSTM(3, 4, norm="bn-timestep", backend="reference")
    files, hops = visited(lstm, torch.randn(5, 6, 3))
    print("\n".join(files))
    print(f"{len(files)} files, {hops} hops between them")


if __name__ == "__main__":
    main()

"""CPU threads: the last digits of a run depend on their number, so all runs of a comparison have the same one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from rich.console import Console

from rnnnorm.engine.progress import count


def choose_threads(asked: int | None, before: int | None, own: int, console: Console) -> int:
    """The number of threads asked for, or else that of the runs before, or else an own choice.

    Sums that are cut into parts are rounded otherwise when the parts are others, in torch's operators as in ours; see
    "Same bits" in `docs/performance.md`. So a comparison that goes on, on another machine perhaps, takes the number it
    began with unless it is told otherwise, and says so.

    Args:
        asked: by the user.
        before: of the runs that are there already; None where there are none.
        own: where nobody says anything.
        console: where to say what is not as expected.
    """
    if asked is not None and before is not None and asked != before:
        console.print(
            f"the runs before had {count(before, 'CPU thread')}: those left have {asked}, and other last digits",
            highlight=False,
        )
    elif asked is None and (before or own) != own:
        console.print(
            f"{count(before or own, 'CPU thread')}, as the runs before; --threads says otherwise", highlight=False
        )
    return asked or before or own


@contextmanager
def pinned(threads: int) -> Iterator[None]:
    """A block that computes with so many CPU threads."""
    own = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(own)

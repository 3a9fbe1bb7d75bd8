"""How many CPU threads compute: the last digits of a run depend on it, so a comparison keeps to one number."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from rich.console import Console

from rnnnorm.engine.progress import count


@contextmanager
def threads(asked: int | None, before: int | None, console: Console) -> Iterator[int]:
    """A block that computes with the threads asked for, or else those of the runs before, or else torch's own choice.

    Sums that are cut into parts are rounded otherwise when the parts are others, in torch's operators as in ours; see
    "Same bits" in `docs/performance.md`. So a comparison that goes on, on another machine perhaps, takes the number it
    began with unless it is told otherwise, and says so.

    Args:
        asked: by the user.
        before: of the runs that are there already; None where there are none.
        console: where to say what is not as expected.
    """
    own = torch.get_num_threads()
    chosen = asked or before or own
    if asked is not None and before is not None and asked != before:
        console.print(
            f"the runs before had {count(before, 'CPU thread')}: those left have {asked}, and other last digits",
            highlight=False,
        )
    elif asked is None and chosen != own:
        console.print(f"{count(chosen, 'CPU thread')}, as the runs before; --threads says otherwise", highlight=False)
    torch.set_num_threads(chosen)
    try:
        yield chosen
    finally:
        torch.set_num_threads(own)

"""The kinds of cases, and which number is of which kind."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple, Protocol

from soak.draw import Draw
from soak.verdict import Verdict


class Case(Protocol):
    """What can be run and told in one line or a few."""

    @property
    def text(self) -> str:
        """What will be done."""

    def run(self, announce: Callable[[str], None], alone: str = "") -> Verdict:
        """Do it; `announce` is told by whose code. `alone` by one side only, if there are several."""


class Kind(NamedTuple):
    """A kind of cases.

    Args:
        share: how many of 10,000 cases are of this kind.
        draw: makes a case.
        seconds: after which a case hangs.
    """

    share: int
    draw: Callable[[Draw], Case]
    seconds: float = 60.0


def kinds() -> dict[str, Kind]:
    """All of them; they import what they need, which takes seconds."""
    from soak.calls import calls
    from soak.compiled import compiled
    from soak.configs import configs
    from soak.constructors import constructors
    from soak.files import files
    from soak.options import options
    from soak.packed import packed
    from soak.planted import planted
    from soak.replaced import replaced
    from soak.transformations import transformations

    return {
        "constructors": Kind(2200, constructors, 30.0),
        "options": Kind(1200, options, 30.0),
        "calls": Kind(3200, calls),
        "packed": Kind(1100, packed),
        "replaced": Kind(1100, replaced),
        "transformations": Kind(1055, transformations),
        "compiled": Kind(25, compiled, 120.0),
        "files": Kind(80, files),
        "configs": Kind(40, configs),
        "planted": Kind(0, planted, 2.0),
    }


def kind_of(seed: int, number: int, shares: dict[str, int]) -> str:
    """Which kind a case is of."""
    return random.Random(f"{seed}/{number}").choices(list(shares), list(shares.values()))[0]

"""Claims: what somebody has said, and the contrasts that it is judged by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rnnnorm.studies.framework.contrast import Contrast


@dataclass(frozen=True)
class Claim:
    """What somebody has said.

    Args:
        key: a short name, unique within the study.
        text: the claim, in one sentence.
        source: who made it, where.
        published: published numbers to put beside ours, with their source.
        contrast: the effects that bear on it, one or several; none where the study judges it itself.
    """

    key: str
    text: str
    source: str
    published: str = ""
    contrast: Contrast | Sequence[Contrast] = ()

    @property
    def contrasts(self) -> tuple[Contrast, ...]:
        """All contrasts, in the order of their cases."""
        return (self.contrast,) if isinstance(self.contrast, Contrast) else tuple(self.contrast)

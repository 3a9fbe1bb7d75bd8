"""The normalizers inside one recurrent layer."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any

import torch

from ..common.settings import Settings
from ..norms import Normalizer
from ..norms.places import Norm
from ..norms.synchronized import SynchronizedNormalizer


class CellNorms(Settings):
    """The normalizers inside one layer and direction: at `input`, `hidden`, `joint`, `cell`, `output`; any may be None.

    The bias b of the gates is one and stands outside, so those at the gates learn a gain only; the others a bias, too.
    A GRU has a second normalizer of the kind at `joint`, `candidate`; see `GRUEquations`.

    Where the features are blocks of H, as at the gates, a normalizer whose class says `per_gate = True` gets one group
    per block unless its option `groups` is set.

    Args:
        norm: which normalizer stands where.
        sizes: for each place of the cell, blocks of `hidden_size` features and whether the normalizer learns a bias.
        hidden_size: H.
        max_steps: slots of per-timestep statistics.
        device: where parameters live.
        dtype: their type.
    """

    input: Normalizer | None
    hidden: Normalizer | None
    joint: Normalizer | None
    candidate: Normalizer | None
    cell: Normalizer | None
    output: Normalizer | None

    def __init__(
        self,
        norm: Norm,
        sizes: Mapping[str, tuple[int, bool]],
        hidden_size: int = 1,
        max_steps: int = 100,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.carried = norm.carried
        for place in ("input", "hidden", "joint", "candidate", "cell", "output"):
            use = norm.places.get("joint" if place == "candidate" else place)
            module = None
            if use is not None and not use.is_weight and place in sizes:
                blocks, bias = sizes[place]
                keys: dict[str, Any] = {"bias": bias, "max_steps": max_steps, "device": device, "dtype": dtype}
                if use.cls.per_gate:
                    keys["groups"] = blocks
                module = use.build(blocks * hidden_size, **keys)
            setattr(self, place, module)  # an absent one is no submodule, which would show in repr

    def _present(self) -> list[Normalizer]:
        """The normalizers, without what `children` does beside: this is asked at every step of a stream."""
        found: Any = self._modules.values()
        return [module for module in found if module is not None]

    def any(self) -> bool:
        """Whether there is a normalizer at all."""
        return bool(self._present())

    def reset_sequence(self) -> None:
        """Call `reset_sequence` of all normalizers, since other sequences come now."""
        for module in self._present():
            module.reset_sequence()

    def per_step(self) -> bool:
        """Whether some normalizer keeps statistics per timestep, so that the number of a step matters."""
        return any(module.per_step for module in self._present())

    def agreed_steps(self, steps: int) -> int:
        """Steps of the longest sequence of any process, where normalizers are synchronized; otherwise `steps`."""
        totals = [m.total for m in self._present() if isinstance(m, SynchronizedNormalizer) and m.total is not None]
        return max([steps, *(len(total) for total in totals)])

    def synchronized(self) -> CellNorms:
        """The synchronized normalizers alone: those that a process calls at steps at which it has no rows."""
        kept = copy(self)
        kept._modules = {
            place: m if isinstance(m, SynchronizedNormalizer) and m.synchronizes() else None
            for place, m in self._modules.items()
        }
        return kept


NO_NORMS = CellNorms(Norm(), {})
"""No normalizers."""

"""Plans: which layers a scan in one pass covers, and what it computes at each place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from torch import Tensor

from ..equations import CellNorms, Equations, GRUEquations, Layer, LSTMEquations, Noise, RNNEquations
from ..norms import Normalizer
from ..norms.column_steps import ColumnSteps
from ..norms.fusible import ColumnStatistics, Constant, Fusible, RowStatistics, Squash
from ..norms.synchronized import SynchronizedNormalizer

PLACES = ("input", "hidden", "joint", "candidate", "cell", "output")
_CELLS = (LSTMEquations, GRUEquations, RNNEquations)


class Place(NamedTuple):
    """One normalizer as a scan computes it: y = g ⊙ (x - μ) / √(σ² + ε) + b, or as `statistics` says otherwise.

    Args:
        statistics: over what μ and σ² are taken.
        gain: g (F,), or None.
        bias: b (F,), or None.
        columns: the normalizer that stores the moments (`recall` reads, `observe` updates), if they are over rows.
        alpha: α (1,) of `Squash`.
    """

    statistics: Fusible
    gain: Tensor | None
    bias: Tensor | None
    columns: ColumnSteps | None = None
    alpha: Tensor | None = None

    @property
    def eps(self) -> float:
        """ε inside the root; 0 where there is none."""
        return self.statistics.eps if isinstance(self.statistics, RowStatistics | ColumnStatistics) else 0.0

    @property
    def groups(self) -> int:
        """Blocks of features with moments of their own, where rows have them."""
        return self.statistics.groups if isinstance(self.statistics, RowStatistics) else 1

    @property
    def centered(self) -> bool:
        """Whether μ is subtracted."""
        return self.statistics.centered if isinstance(self.statistics, RowStatistics) else True

    @property
    def skips(self) -> bool:
        """Whether constants of a batch become 0 without a gradient."""
        return isinstance(self.statistics, ColumnStatistics) and self.statistics.skip_constant

    @property
    def whole(self) -> bool:
        """Whether moments are taken over the rows of all steps at once."""
        return _whole(self.statistics)

    @property
    def by_column(self) -> bool:
        """Whether each step has moments per feature."""
        return isinstance(self.statistics, ColumnStatistics) and not self.statistics.sequence

    @property
    def by_row(self) -> bool:
        """Whether each row has moments of its own."""
        return isinstance(self.statistics, RowStatistics)


@dataclass(frozen=True)
class Plan:
    """The places of one layer that is run in one pass; absent ones are None.

    Either `joint` stands alone at the gates, or `input` and `hidden` do.
    """

    input: Place | None
    hidden: Place | None
    joint: Place | None
    cell: Place | None
    carried: bool
    candidate: Place | None = None
    output: Place | None = None

    @cached_property
    def places(self) -> dict[str, Place]:
        """The occupied places by name."""
        places = {name: getattr(self, name) for name in PLACES}
        return {name: place for name, place in places.items() if place is not None}

    @cached_property
    def by_column(self) -> bool:
        """Whether some place needs moments over the active rows of each step."""
        return any(place.by_column for place in self.places.values())

    def own_steps_by_place(self, batch_sizes: Sequence[int]) -> dict[str, int]:
        """Number of steps, from the first one, that use moments of their own rows, of each place by column."""
        by_column = {name: place for name, place in self.places.items() if place.by_column}
        return {name: p.columns.own_steps(batch_sizes) for name, p in by_column.items() if p.columns is not None}

    def own_steps(self, batch_sizes: Sequence[int]) -> int:
        """That number where all places agree on it."""
        return max(self.own_steps_by_place(batch_sizes).values(), default=len(batch_sizes))


def supports(cell: Equations, norms: CellNorms, noise: Noise) -> bool:
    """Whether a layer can be run in one pass: an LSTM, GRU or RNN whose normalizers are known to the scan."""
    found = {name: norm for name, norm in norms._modules.items() if norm is not None}
    if type(cell) not in _CELLS or type(noise) is not Noise or not found.keys() <= set(PLACES):
        return False
    if "joint" in found and ("input" in found or "hidden" in found):
        return False
    return all(_fusible(norm) is not None for norm in found.values())


def plain(cell: Equations, norms: CellNorms, noise: Noise) -> bool:
    """Whether a layer that is supported is an LSTM without anything rare.

    Nothing random, no peepholes, moments by row or by column, not both, of whole rows or one group per gate.
    """
    if not supports(cell, norms, noise) or cell.name != "LSTM" or cell.peepholes or noise.any():
        return False
    kinds = set()
    for name, norm in norms._modules.items():
        if norm is None:
            continue
        statistics = _fusible(norm)
        if name == "output" or not isinstance(statistics, RowStatistics | ColumnStatistics):
            return False
        if isinstance(statistics, RowStatistics) and not _fits(statistics, name):
            return False
        if not _whole(statistics):
            kinds.add(type(statistics))
    return len(kinds) <= 1


def watched(norms: CellNorms) -> bool:
    """Whether a normalizer has hooks or a replaced `forward`, so that it must be called."""
    for module in norms._modules.values():
        if module is not None and (
            module._forward_hooks
            or module._forward_pre_hooks
            or module._backward_hooks
            or module._backward_pre_hooks
            or "forward" in vars(module)
        ):
            return True
    return False


def applies(layer: Layer) -> bool:
    """Whether a layer that is supported can be run in one pass as it is now.

    Against it speak hooks in a normalizer, one that has lost its gain, and steps whose moments are taken over the
    rows of several processes.
    """
    if watched(layer.norms):
        return False
    norms: list[Any] = [norm for norm in layer.norms._modules.values() if norm is not None]
    for norm in norms:
        if norm.gain is None and not isinstance(_fusible(norm), Constant):
            return False
        if isinstance(norm, SynchronizedNormalizer) and not _whole(_fusible(norm)) and norm.synchronizes():
            return False
    return True


def agrees(layer: Layer) -> bool:
    """Whether a plain layer is plain as it is now.

    It has no projection, no mask of h_{t-1}, and all places by column have the same steps.
    """
    norms: list[Any] = list(layer.norms._modules.values())
    by_step = [m for m in norms if isinstance(m, ColumnSteps) and not _whole(_fusible(m))]
    if layer.weights.W_hr is not None or layer.mask is not None:
        return False
    return len({(m.uses_own(), m.min_rows) for m in by_step}) <= 1


def skips_constants(layer: Layer) -> bool:
    """Whether a normalizer of a layer that is supported takes constants of a batch for 0 without a gradient."""
    norms: list[Any] = list(layer.norms._modules.values())
    return any(norm is not None and getattr(_fusible(norm), "skip_constant", False) for norm in norms)


def make_plan(layer: Layer) -> Plan:
    """The plan of a layer that is supported and to which it applies."""
    norms = layer.norms
    return Plan(**{name: place_of(getattr(norms, name)) for name in PLACES}, carried=norms.carried)


def place_of(norm: Normalizer | None) -> Place | None:
    """A normalizer that is supported as a scan computes it."""
    if norm is None:
        return None
    statistics = _fusible(norm)
    assert statistics is not None
    alpha: Any = getattr(norm, "alpha", None) if isinstance(statistics, Squash) else None
    return Place(statistics, norm.gain, norm.bias, norm if isinstance(norm, ColumnSteps) else None, alpha)


def _fusible(norm: Any) -> Fusible | None:
    """Description by the normalizer's own class; a subclass that does not repeat it may compute something else."""
    found: Fusible | None = norm.fusible() if "fusible" in vars(type(norm)) else None
    return found


def _whole(statistics: Fusible | None) -> bool:
    return isinstance(statistics, ColumnStatistics) and statistics.sequence


def _fits(statistics: RowStatistics, place: str) -> bool:
    """Groups must be whole rows, or at the gates one per gate."""
    return statistics.groups == 1 or (statistics.groups == 4 and place != "cell")

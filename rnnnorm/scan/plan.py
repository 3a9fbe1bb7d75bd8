"""Which layers a scan in one pass covers, and what it must compute at each place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from ..equations import Cell, CellNorms, Layer, Noise
from ..norms import Normalizer
from ..norms.column_steps import ColumnSteps
from ..norms.fusible import ColumnStatistics, Fusible, RowStatistics

PLACES = ("input", "hidden", "joint", "cell")


class Place(NamedTuple):
    """One normalizer as a scan computes it: y = g ⊙ (x - μ) / √(σ² + ε) + b.

    Args:
        statistics: over what μ and σ² are taken.
        gain: g (F,).
        bias: b (F,), or None.
        columns: whom to ask for stored moments and to tell new ones, where statistics are over rows of a batch.
    """

    statistics: Fusible
    gain: Tensor
    bias: Tensor | None
    columns: ColumnSteps | None

    @property
    def features(self) -> int:
        """F."""
        return self.gain.shape[0]

    @property
    def groups(self) -> int:
        """Blocks of features with moments of their own, where rows have them."""
        return self.statistics.groups if isinstance(self.statistics, RowStatistics) else 1

    @property
    def centered(self) -> bool:
        """Whether μ is subtracted."""
        return self.statistics.centered if isinstance(self.statistics, RowStatistics) else True

    @property
    def whole(self) -> bool:
        """Whether moments are taken over the rows of all steps at once."""
        return isinstance(self.statistics, ColumnStatistics) and self.statistics.sequence

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

    Either `joint` stands alone at the gates, or `input` and `hidden` do; steps are normalized by rows or by columns,
    not both.
    """

    input: Place | None
    hidden: Place | None
    joint: Place | None
    cell: Place | None
    carried: bool

    @property
    def places(self) -> dict[str, Place]:
        """The occupied places by name."""
        places = {name: getattr(self, name) for name in PLACES}
        return {name: place for name, place in places.items() if place is not None}

    @property
    def by_column(self) -> bool:
        """Whether some place needs moments over the active rows of each step."""
        return any(place.by_column for place in self.places.values())

    def own_steps(self, batch_sizes: Sequence[int]) -> int | None:
        """How many steps, from the first one, use moments of their own rows; None if the places do not agree."""
        counts = {p.columns.own_steps(batch_sizes) for p in self.places.values() if p.by_column and p.columns}
        return counts.pop() if len(counts) == 1 else None if counts else len(batch_sizes)


def supports(cell: Cell, norms: CellNorms, noise: Noise) -> bool:
    """Whether a layer can be run in one pass: an LSTM without anything random whose normalizers are known to it."""
    if cell.name != "LSTM" or cell.peepholes or noise.any() or norms.output is not None or norms.candidate is not None:
        return False
    found = {name: norm for name in PLACES if (norm := getattr(norms, name)) is not None}
    if "joint" in found and ("input" in found or "hidden" in found):
        return False
    kinds = set()
    for name, norm in found.items():
        statistics = _fusible(norm)
        if statistics is None or (isinstance(statistics, RowStatistics) and not _fits(statistics, name)):
            return False
        if not (isinstance(statistics, ColumnStatistics) and statistics.sequence):
            kinds.add(type(statistics))
    return len(kinds) <= 1


def watched(norms: CellNorms) -> bool:
    """Whether somebody has hooked into a normalizer or replaced its `forward`: then it must really be called."""
    return any(
        bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks)
        or "forward" in vars(module)
        for module in norms.children()
    )


def make_plan(layer: Layer) -> Plan | None:
    """The plan of a layer that is supported, or None where a projection or a mask of h_{t-1} stands in the way."""
    if layer.weights.W_hr is not None or layer.mask is not None:
        return None
    norms = layer.norms
    return Plan(_place(norms.input), _place(norms.hidden), _place(norms.joint), _place(norms.cell), norms.carried)


def _place(norm: Normalizer | None) -> Place | None:
    if norm is None:
        return None
    statistics = _fusible(norm)
    assert statistics is not None
    return Place(statistics, norm.gain, norm.bias, norm if isinstance(norm, ColumnSteps) else None)


def _fusible(norm: Normalizer) -> Fusible | None:
    """What the normalizer's own class says; a subclass that does not repeat it may compute something else."""
    return norm.fusible() if "fusible" in vars(type(norm)) else None


def _fits(statistics: RowStatistics, place: str) -> bool:
    """Groups must be whole rows, or at the gates one per gate."""
    return statistics.groups == 1 or (statistics.groups == 4 and place != "cell")

"""Auxiliary losses: what normalizers add to the loss of a training step."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor, nn

from ..common.transforms import transformed
from .base import in_backward

_KEY = "rnnnorm.auxiliary"


class AuxiliaryLoss:
    """Auxiliary loss of one normalizer: the mean of what its training forward passes have left since it was last taken.

    A term lives exactly as long as the graph of the rows that it belongs to, and no graph stays behind on the module:
    what is kept here is a weak reference. Copies and pickles start empty.
    """

    def __init__(self) -> None:
        self._terms: list[tuple[weakref.ref[Tensor], int]] = []

    def keep(self, y: Tensor, total: Tensor, rows: int) -> None:
        """Keep a term for as long as a graph lives.

        Args:
            y: rows that were normalized, with their graph.
            total: the sum of the loss over these rows, a scalar; it must not depend on `y`.
            rows: how many they are.
        """
        self._terms = [term for term in self._terms if term[0]() is not None]
        if y.grad_fn is None or in_backward() or transformed():
            return
        node: Any = y.grad_fn
        node.metadata[_KEY] = total
        self._terms.append((weakref.ref(total), rows))

    def take(self) -> Tensor | None:
        """The mean over all rows, and nothing is left; None where there was nothing."""
        found = [(total, rows) for term, rows in self._terms if (total := term()) is not None]
        self._terms = []
        return torch.stack([total for total, _ in found]).sum() / sum(rows for _, rows in found) if found else None

    def __getstate__(self) -> dict[str, Any]:
        return {"_terms": []}


def auxiliaries(module: nn.Module) -> list[AuxiliaryLoss]:
    """The auxiliary losses inside a module: those of its parts that have one as their attribute `auxiliary`."""
    found = [getattr(part, "auxiliary", None) for part in module.modules()]
    return [auxiliary for auxiliary in found if isinstance(auxiliary, AuxiliaryLoss)]


def auxiliary_loss(module: nn.Module) -> Tensor:
    """The sum of the auxiliary losses of all normalizers inside a module, such as those of `rbn`; a scalar.

    They are those of the training forward passes since it was last asked for, and have their graph: add it to the
    loss before `backward`. A normalizer's auxiliary loss is a mean over its rows, so it depends neither on B nor on T.
    Without any, and in evaluation, it is 0. `rnnnorm.tasks` adds it by itself.

    A network with auxiliary losses runs outside of compiled graphs while it trains. Under activation checkpointing it
    needs `use_reentrant=False`: otherwise the first pass has no graph, and this is 0.

    Args:
        module: any module that contains normalizers.

    Example:
        >>> def training_step(self, batch, batch_idx):
        ...     x, target = batch
        ...     return F.cross_entropy(self(x), target) + rnnnorm.auxiliary_loss(self)
    """
    losses = [loss for auxiliary in auxiliaries(module) if (loss := auxiliary.take()) is not None]
    if losses:
        return torch.stack(losses).sum()
    like = next(module.parameters(), None)
    return torch.zeros(()) if like is None else like.new_zeros(())

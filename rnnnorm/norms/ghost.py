"""Ghost batches: the parts of a batch that have moments of their own."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Ghosts(NamedTuple):
    """Parts of the rows of a batch.

    Args:
        part: number of the part that each row is in, (n,).
        sizes: rows of each part, as numbers.
        rows: the same as a column of floating-point numbers, (parts, 1).
    """

    part: Tensor
    sizes: list[int]
    rows: Tensor

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and biased variance (parts, F) of rows x (n, F), in two passes."""
        none = x.new_zeros(len(self.sizes), x.shape[1])
        mean = none.index_add(0, self.part, x) / self.rows
        var = none.index_add(0, self.part, (x - mean[self.part]).square()) / self.rows
        return mean, var


def ghosts(active: list[int], k: int, like: Tensor) -> Ghosts | None:
    """The parts of a batch by sequences; None where there are too few of them for two parts.

    ⌊B / k⌋ parts, B being the sequences that the first step has: so each has k sequences or more, and the B mod k left
    over go one by one to the first parts. Sequence b is in part b mod ⌊B / k⌋: since sequences are sorted by length,
    all parts get long and short ones alike, and lose them alike.

    Args:
        active: rows of consecutive steps, which never become more.
        k: sequences of a part.
        like: a tensor of the device and type that numbers of rows shall have.
    """
    parts = active[0] // k
    if parts < 2:
        return None
    number = torch.cat([torch.arange(rows, device=like.device) % parts for rows in active])
    sizes = [sum(-(-(rows - j) // parts) for rows in active if rows > j) for j in range(parts)]
    return Ghosts(number, sizes, like.new_tensor(sizes).unsqueeze(1))

"""The noise of a batch's own statistics: how much σ̂ varies from batch to batch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from rnnnorm.data.base import Batch
from rnnnorm.probes import record
from rnnnorm.tasks import SequenceTask


def gaussian_noise(batch_size: float) -> float:
    """1/√(2(B-1)): the relative standard deviation of σ̂ over B independent Gaussian values, to first order."""
    return 1 / math.sqrt(2 * (batch_size - 1))


@torch.no_grad()
def hidden_products(task: SequenceTask, batches: Iterable[Batch]) -> list[Tensor]:
    """W_hh h_t of the last layer at a quarter, a half and three quarters of each batch, (rows, 4H) float64 per step.

    Args:
        task: is put into evaluation mode.
        batches: of which only sequences count that last that long.
    """
    found: dict[int, list[Tensor]] = {}
    with record(task.eval()) as recording:
        for batch in batches:
            task.scores(batch)
            states = list(recording.layers.values())[-1].states["h"]
            for t in sorted({len(states) // 4, len(states) // 2, 3 * len(states) // 4}):
                found.setdefault(t, []).append(states[t])
    name = f"weight_hh_l{task.recurrent.num_layers - 1}"
    weight = task.recurrent.get_parameter(name)
    return [(torch.cat(rows) @ weight.T).double() for rows in found.values()]


def noise(products: Iterable[Tensor], sizes: Iterable[int], draws: int, seed: int) -> Iterator[tuple[int, float]]:
    """Batch size and relative standard deviation of σ̂, mean over `products`.

    Args:
        products: (n, F) each.
        sizes: batch sizes; those below 2 have no σ̂.
        draws: random batches of each size.
        seed: of the batches.
    """
    generator, products = torch.Generator().manual_seed(seed), [rows for rows in products if len(rows) > 1]
    for size in sizes:
        if size >= 2 and products:
            values = [relative_spread(rows, size, draws, generator) for rows in products]
            yield size, sum(values) / len(values)


def relative_spread(rows: Tensor, size: int, draws: int, generator: torch.Generator) -> float:
    """Standard deviation over mean of σ̂ (unbiased variance) over random batches of `size` rows, mean over features.

    Batches are drawn with replacement: without, large ones would be nearly the whole of the rows, and hardly vary.

    Args:
        rows: (n, F), at least two.
        size: B, at least 2.
        draws: how many batches.
        generator: which.

    Raises:
        ValueError: fewer than two rows, or fewer than two in a batch.
    """
    if size < 2 or len(rows) < 2:
        raise ValueError(f"σ̂ needs batches of at least 2 out of at least 2 rows, got {size} out of {len(rows)}")
    sigma = torch.stack([rows[torch.randint(len(rows), (size,), generator=generator)].std(0) for _ in range(draws)])
    mean = sigma.mean(0)
    return float((sigma.std(0)[mean > 0] / mean[mean > 0]).mean())

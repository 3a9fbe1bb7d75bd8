"""What depth does to a stack: growth over its second half at initialization, and the deepest one that was trainable."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np
import pandas as pd

from rnnnorm.studies.framework import Row, paired, where

SLACK = 0.1
"""A depth counts as trainable up to that many nats above a plain skip at the smallest depth."""


def by_block(method: str, found: Iterable[tuple[int, float, float]]) -> Iterator[Row]:
    """`square` and `share` by `block`; where the difference to the input is not the branch, there is no share."""
    for block, square, share in found:
        yield {"quantity": "square", "block": block, "value": square}
        if method not in ("no-skip", "bn-sum"):
            yield {"quantity": "share", "block": block, "value": share}


def second_half(m: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """`off_linear`, |p - 1| where E[h²] ∝ depth^p, and `factor` per block from half of all blocks to the last one.

    Of the last block also `last_share`, by `branch`, and E[h²] `with_skip` alone and `with_bn`.

    Args:
        m: measurements with `square` and `share` by `block`.
    """
    end = m["block"].max()
    grown = partial(paired, m, "square", {"block": end // 2})
    yield where(grown("off_linear", lambda whole, half: (np.log2(whole / half) - 1).abs()), block=end)
    yield where(grown("factor", lambda whole, half: (whole / half) ** (1 / (end - end // 2))), block=end)
    for method, branch, square in (("plain", "without", "with_skip"), ("bn-branch", "with BN", "with_bn")):
        here = where(m, block=end, method=method, norm="none")
        yield where(here, quantity="share").assign(quantity="last_share", branch=branch)
        yield where(here, quantity="square").assign(quantity=square)


def deepest(m: pd.DataFrame) -> pd.DataFrame:
    """The greatest depth at which the mean loss is within `SLACK` of a plain skip at the smallest depth; 0: none."""
    keys = ["cell", "optimizer", "method", "norm"]
    mean = m.groupby([*keys, "depth"], sort=False)["value"].mean().reset_index()
    least = where(mean, method="plain", norm="none", depth=m["depth"].min())[["cell", "optimizer", "value"]]
    both = mean.merge(least, on=["cell", "optimizer"], suffixes=("", "_least"))
    trainable = both["depth"].where(both["value"] <= both["value_least"] + SLACK, 0)
    found = both.assign(value=trainable).groupby(keys, sort=False)["value"].max().reset_index()
    among = ", ".join(f"{depth:.0f}" for depth in sorted(m["depth"].unique()))
    return found.assign(quantity="deepest", seed=0, depths=among)

"""What is measured of a network trained with padding masked or counted: scores by what its evaluation counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy

import pandas as pd

from rnnnorm.data.base import Batch
from rnnnorm.studies.data.padding import MASKED, CountPadding
from rnnnorm.studies.data.plain_training import evaluate
from rnnnorm.studies.framework import Row, in_every_mode, paired, where
from rnnnorm.tasks import SequenceTask


def padding_share(batches: Sequence[Batch]) -> float:
    """Share of the B · T cells of padded batches that is padding: 1 - Σ rows / Σ B · T.

    Args:
        batches: as they are trained on.
    """
    sizes = [batch.input.batch_sizes for batch in batches]
    return 1 - sum(int(size.sum()) for size in sizes) / sum(len(size) * int(size[0]) for size in sizes)


def evaluated(
    model: SequenceTask, train: Sequence[Batch], test: Sequence[Batch], ways: Sequence[str], padding: str
) -> Iterator[Row]:
    """`scored` with `mode` and `evaluated`: the mean metric, larger being better; losses have their sign turned.

    By the running averages of the training, which know one way to treat padding, and by population statistics
    estimated with padding treated in that way and in others.

    Args:
        model: in evaluation mode.
        train: batches of which population statistics are taken.
        test: batches to be scored.
        ways: see `rnnnorm.studies.data.padding.ways`.
        padding: which of them the training had.
    """
    sign = 1.0 if model.metric_mode == "max" else -1.0
    # A third way, counting otherwise than in training, is no question that anybody asks.
    for way in ways if padding == MASKED else (padding, MASKED):
        network = deepcopy(model)
        if way != MASKED:
            CountPadding(way).apply(network)
        for mode in in_every_mode(network, train, ("running", "population") if way == padding else ("population",)):
            yield {"quantity": "scored", "mode": mode, "evaluated": way, "value": sign * evaluate(network, test)[1]}


def tables(m: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """All that was measured, and what is computed of `scored`.

    - `stored`: by running averages; `harm`, with `counted` in place of `padding`: masked minus counted.
    - `fresh`: by population statistics, by `padding` and `evaluated`; `mismatch`: evaluated as trained minus this.

    Args:
        m: measurements.
    """
    yield m
    scored = where(m, quantity="scored").dropna(axis=1, how="all")
    if scored.empty:
        return
    stored, fresh = (where(scored, mode=mode) for mode in ("running", "population"))
    own = stored["evaluated"] == stored["padding"]
    stored = stored[own].drop(columns="evaluated").assign(quantity="stored")
    yield stored
    harm = paired(stored, "stored", {"padding": MASKED}, "harm", lambda counted, masked: masked - counted)
    yield harm.rename(columns={"padding": "counted"})
    yield fresh.assign(quantity="fresh")
    same = fresh["evaluated"] == fresh["padding"]
    keys = [column for column in fresh if column not in ("evaluated", "value")]
    both = fresh[~same].merge(fresh[same][[*keys, "value"]], on=keys, suffixes=("", "_own"))
    yield both.assign(quantity="mismatch", value=both["value_own"] - both["value"]).drop(columns="value_own")

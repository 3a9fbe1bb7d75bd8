"""One long text as B parallel streams read a few steps at a time: truncated backpropagation through time."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence
from torch.utils.data import Dataset

from rnnnorm.data.base import Batch


class Stream(Dataset[Batch]):
    """Batches of the classic stateful stream of language modelling (Mikolov et al. 2010; Zaremba et al. 2014).

    The text of L tokens is cut into S = `batch_size` · `world_size` streams of ⌊L/S⌋ consecutive tokens, of which the
    process `rank` reads those from rank·`batch_size` to (rank+1)·`batch_size` - 1. Item k is their steps from k·bptt to
    (k+1)·bptt - 1: input x_t, target x_{t+1}, dense (every entry of `batch_sizes` is `batch_size`). Every item but the
    first continues the one before, so they must be read in order. The last one may have fewer steps.

    The arithmetic is that of torchtext's `BPTTIterator`, with two differences. The L mod S tokens that fill no step are
    left out, where torchtext adds padding tokens, and with them padding targets, to the text. And items are indexed, so
    that reading can resume in the middle of an epoch.

    Args:
        ids: the text, (L,) int64.
        batch_size: streams of one process.
        bptt: steps of one item.
        rank: this process.
        world_size: processes that share the text.

    Raises:
        ValueError: the text is shorter than two tokens a stream, or `batch_size` or `bptt` is below 1.
    """

    def __init__(self, ids: Tensor, batch_size: int, bptt: int, *, rank: int = 0, world_size: int = 1) -> None:
        if batch_size < 1 or bptt < 1:
            raise ValueError(f"batch_size and bptt must be at least 1, got batch_size={batch_size} and bptt={bptt}")
        streams = batch_size * world_size
        length = len(ids) // streams
        if length < 2:
            raise ValueError(
                f"a text of {len(ids)} tokens is too short for {streams} parallel streams of at least 2 tokens each: "
                f"use a smaller batch size"
            )
        own = ids[: streams * length].view(streams, length)[rank * batch_size : (rank + 1) * batch_size]
        self._steps = own.t().contiguous()
        self._bptt = bptt

    def __len__(self) -> int:
        return -(-(len(self._steps) - 1) // self._bptt)

    def __getitem__(self, index: int) -> Batch:
        if not 0 <= index < len(self):
            raise IndexError(f"item {index} of a stream of {len(self)} items")
        start = index * self._bptt
        stop = min(start + self._bptt, len(self._steps) - 1)
        rows = self._steps[start:stop]
        return Batch(
            input=PackedSequence(rows.reshape(-1, 1), torch.full((stop - start,), rows.size(1), dtype=torch.int64)),
            target=self._steps[start + 1 : stop + 1].reshape(-1),
            continues=index > 0,
        )

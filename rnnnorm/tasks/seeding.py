"""Initial weights that depend on the seed alone, so that all norms of a comparison start from the same point."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def own_random_stream(name: str) -> Iterator[None]:
    """Draw from the stream of that name under the current seed, and leave the global one where it was.

    What was drawn before does not matter to what is drawn inside, nor the other way around: a normalizer that takes
    random numbers while it is built changes neither other weights, nor the data, nor the dropout masks that come later.
    Two models built one after the other therefore start equal; seed again (`lightning.seed_everything`) for another
    start. The name goes into the seed, for two streams of one seed would repeat each other's numbers.
    """
    digest = hashlib.sha256(f"{torch.initial_seed()} {name}".encode()).digest()
    initialized = torch.cuda.is_available() and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(range(torch.cuda.device_count()) if initialized else ()):
        torch.manual_seed(int.from_bytes(digest[:7], "big"))
        yield

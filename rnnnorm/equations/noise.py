"""Noise: the random numbers of recurrent networks, and three kinds of recurrent dropout."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class _Source(NamedTuple):
    """Source of a run's random numbers.

    Args:
        generator: a stream of its own; None: torch's.
        masks: those of the rows between layers, if they were drawn before the run.
        rows: whether masks of rows come from the stream of its own, too.
    """

    generator: torch.Generator | None = None
    masks: Iterator[Tensor] | None = None
    rows: bool = False


_TORCH = _Source()
_source: ContextVar[_Source] = ContextVar("_source", default=_TORCH)


def draw_seed() -> Tensor:
    """One number (1,) from torch's random stream of the CPU, from which random numbers of a run follow.

    So a run is a function of its arguments and this number, which a compiled graph draws outside of it.
    """
    return torch.randint(2**62, (1,), device="cpu")


@contextmanager
def seeded(seed: Tensor | None, device: torch.device, rows: bool, masks: Iterable[Tensor] = ()) -> Iterator[None]:
    """Draw random numbers from a stream that begins with a seed; None: from torch's own.

    Args:
        seed: from `draw_seed`.
        device: where numbers are drawn.
        rows: draw masks of rows between layers from it, too, since their number is not known outside; otherwise they
            are `masks`, or come from torch's stream, as torch's own networks draw them.
        masks: of the rows between layers, scaled by 1/(1-p).
    """
    given = list(masks)
    generator = None if seed is None else torch.Generator(device).manual_seed(int(seed))
    token = _source.set(_Source(generator, iter(given) if given else None, rows))
    try:
        yield
    finally:
        _source.reset(token)


def drawn_again() -> Callable[[], AbstractContextManager[None]]:
    """A function that makes contexts in which the next numbers of `seeded` are drawn once more."""
    source = _source.get()
    state = None if source.generator is None else source.generator.get_state()

    @contextmanager
    def again() -> Iterator[None]:
        generator = None
        if source.generator is not None and state is not None:
            generator = torch.Generator(source.generator.device)
            generator.set_state(state)
        token = _source.set(source._replace(generator=generator))
        try:
            yield
        finally:
            _source.reset(token)

    return again


def dropout(x: Tensor, p: float) -> Tensor:
    """Entries of x dropped with probability p, the others scaled by 1/(1-p)."""
    generator = _source.get().generator
    if generator is None:
        return F.dropout(x, p)
    kept = (uniform(x) >= p).to(x.dtype)
    return x * (kept if p in (0, 1) else kept.div_(1 - p))


def drop_rows(x: Tensor, p: float) -> Tensor:
    """Dropout of the rows between two layers, which torch's networks draw from torch's stream."""
    source = _source.get()
    if source.masks is not None:
        return x * next(source.masks).view_as(x)
    return dropout(x, p) if source.rows else F.dropout(x, p)


def uniform(like: Tensor, *shape: int) -> Tensor:
    """Numbers of at least 0 and less than 1, of the shape of a tensor or another one, in 32 bits or more.

    On a CPU a stream gives the same numbers whether they are drawn at once or one part after the other.
    """
    wide = like.dtype if like.dtype in (torch.float32, torch.float64) else torch.float32  # 8 bits are coarse
    size, generator = shape or like.shape, _source.get().generator
    if generator is None:
        return torch.rand_like(like, dtype=wide) if not shape else torch.rand(size, dtype=wide, device=like.device)
    return torch.rand(size, generator=generator, dtype=wide, device=like.device)


@dataclass(frozen=True)
class Noise:
    """The dropout inside the recurrence of one layer; all of it acts on active rows only.

    Args:
        hidden: probability of dropping an entry of h_{t-1} where W_hh reads it; one mask per sequence, the same at all
            steps (Gal & Ghahramani 2016).
        update: probability of dropping an entry of what is added to the state, the LSTM's g_t or the GRU's n_t; a mask
            per step (Semeniuta et al. 2016). What is remembered is never dropped.
        zoneout: probability that an entry of h (and c) keeps its value of the step before, one per state
            (Krueger et al. 2017); a mask per step. In evaluation the expectation takes its place.
        training: draw masks; otherwise only zoneout's expectation remains.
        steady: the mask of the update is one per sequence, the same at all steps (Ravanelli et al. 2018).
    """

    hidden: float = 0.0
    update: float = 0.0
    zoneout: tuple[float, ...] = ()
    training: bool = True
    steady: bool = False

    def any(self) -> bool:
        """Whether anything differs from the plain recurrence."""
        return bool(self.hidden or self.update or any(self.zoneout))

    def evaluating(self) -> Noise:
        """The noise in evaluation: zoneout's expectation."""
        return replace(self, hidden=0.0, update=0.0, training=False)

    def mask(self, h: Tensor) -> Tensor | None:
        """Draw the mask of h_{t-1} for all sequences, (B, H), scaled by 1/(1-p)."""
        return dropout(torch.ones_like(h), self.hidden) if self.hidden else None

    def drop(self, update: Tensor) -> Tensor:
        """Drop entries of the update of one step, if there is a mask per step."""
        return dropout(update, self.update) if self.update and not self.steady else update

    def update_mask(self, h: Tensor) -> Tensor | None:
        """Draw the mask of the update for all sequences, (B, H), scaled by 1/(1-p), if there is one per sequence."""
        return dropout(torch.ones_like(h), self.update) if self.update and self.steady else None

    def zone(self, old: tuple[Tensor, ...], new: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Let entries of the states keep their old value: d ⊙ old + (1 - d) ⊙ new with P(d = 1) = p, or with d = p."""
        if not any(self.zoneout):
            return new
        zoned = []
        for before, after, p in zip(old, new, self.zoneout, strict=True):
            if self.training and p:
                zoned.append(torch.where(uniform(after) < p, before, after))
            else:
                zoned.append(after + p * (before - after) if p else after)
        return tuple(zoned)


QUIET = Noise()
"""No noise."""

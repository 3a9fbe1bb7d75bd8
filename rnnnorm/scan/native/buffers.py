"""Buffers that are reused from step to step, since fresh pages of memory cost more than the computation on them."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from typing import Any

import numpy as np

Block = np.ndarray[Any, np.dtype[np.uint8]]
ALIGNMENT = 128
_SMALLEST = 1 << 16


class _Loan(weakref.ref[Block]):
    """Tells when the borrower has let go; `weakref.finalize` does so, too, and takes several times as long."""

    block: Block


class Buffers:
    """Lends blocks of bytes and takes them back when the borrower lets go of them.

    All of them together are never more than twice what was lent at the same time at some moment of the last `patience`
    loans, so that a step finds its blocks of different sizes again, and one big batch is not remembered for ever.

    Args:
        patience: loans after which a peak is forgotten.
        exact: lend nothing but fresh blocks of the very size, so that a sanitizer sees who writes behind their end.
    """

    def __init__(self, patience: int = 256, exact: bool = False) -> None:
        self.patience, self.exact = patience, exact
        self._lock = threading.Lock()
        self._idle: list[Block] = []
        self._out: dict[int, weakref.ref[Block]] = {}
        self._returned: deque[Any] = deque()  # filled by finalizers, which may run anywhere, so without the lock
        self._lent = self._peak = self._loans = 0

    def borrow(self, count: int) -> Block:
        """At least `count` bytes, aligned, of any content; they come back when the array is garbage."""
        if self.exact:
            return np.empty(count, np.uint8)
        size = _rounded(count)
        with self._lock:
            self._take_back()
            chosen = -1
            for k, other in enumerate(self._idle):
                fits = size <= other.nbytes <= 4 * size
                if fits and (chosen < 0 or other.nbytes < self._idle[chosen].nbytes):
                    chosen = k
            block = _aligned(size) if chosen < 0 else self._idle.pop(chosen)
            self._loans += 1
            if self._loans % self.patience == 0:
                self._peak = self._lent
            self._lent += block.nbytes
            self._peak = max(self._peak, self._lent)
            loan = block[:count]
            ended = _Loan(loan, self._returned.append)
            ended.block = block
            self._out[id(ended)] = ended
        return loan

    def _take_back(self) -> None:
        while self._returned:
            ended = self._returned.popleft()
            del self._out[id(ended)]
            block = ended.block
            self._lent -= block.nbytes
            self._idle.append(block)
        while self._idle and sum(b.nbytes for b in self._idle) + self._lent > 2 * self._peak:
            self._idle.pop(0)

    @property
    def lent(self) -> int:
        """Bytes in use."""
        with self._lock:
            self._take_back()
            return self._lent

    @property
    def idle(self) -> int:
        """Bytes that are free for reuse."""
        with self._lock:
            self._take_back()
            return sum(block.nbytes for block in self._idle)


def start_of(block: Block) -> int:
    """The address of a block, in half the time of `block.ctypes.data`."""
    return int(block.__array_interface__["data"][0])


def _aligned(count: int) -> Block:
    whole = np.empty(count + ALIGNMENT, np.uint8)
    start = -start_of(whole) % ALIGNMENT
    return whole[start : start + count]


def _rounded(count: int) -> int:
    """The next of sizes in steps of an eighth, so that batches of similar size share blocks."""
    size = max(count, _SMALLEST)
    step = 1 << (size.bit_length() - 4)
    return -(-size // step) * step

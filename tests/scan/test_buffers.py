"""Memory that is lent and taken back."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from rnnnorm.scan.native.buffers import ALIGNMENT, Block, Buffers

KIB = 1 << 10
MIB = 1 << 20


def address(block: Block) -> int:
    return int(block.ctypes.data)


@pytest.mark.parametrize("count", [1, 127, 128, 65_535, 65_536, 65_537, 1_000_003, 3 * MIB])
def test_enough_aligned_bytes(count: int) -> None:
    block = Buffers().borrow(count)
    assert block.nbytes == count
    assert block.dtype == np.uint8
    assert address(block) % ALIGNMENT == 0
    block.fill(7)
    assert (block == 7).all()


def test_nobody_else_has_a_block_that_is_lent() -> None:
    buffers = Buffers()
    blocks = [buffers.borrow(100 * KIB) for _ in range(20)]
    for k, block in enumerate(blocks):
        block.fill(k)
    assert all((block == k).all() for k, block in enumerate(blocks))


def test_a_block_comes_back_and_is_lent_again() -> None:
    buffers = Buffers()
    block = buffers.borrow(MIB)
    first = address(block)
    assert buffers.idle == 0
    del block
    assert buffers.idle >= MIB
    block = buffers.borrow(MIB - 1000)  # nearly the same size finds it, too
    assert address(block) == first
    assert buffers.idle == 0


def test_the_smallest_fitting_block_is_lent() -> None:
    buffers = Buffers()
    sizes = [MIB, 2 * MIB, 3 * MIB]
    blocks = {size: buffers.borrow(size) for size in sizes}
    addresses = {size: address(block) for size, block in blocks.items()}
    blocks.clear()
    assert address(buffers.borrow(2 * MIB)) == addresses[2 * MIB]


def test_a_small_loan_does_not_take_a_big_block() -> None:
    buffers = Buffers()
    big = buffers.borrow(8 * MIB)
    first = address(big)
    del big
    small = buffers.borrow(100 * KIB)
    assert not first <= address(small) < first + 8 * MIB


def test_blocks_come_back_in_any_order() -> None:
    buffers = Buffers()
    blocks = [buffers.borrow(MIB) for _ in range(4)]
    addresses = {address(block) for block in blocks}
    for k in (2, 0, 3, 1):
        blocks[k] = np.empty(0, np.uint8)
    assert {address(block) for block in [buffers.borrow(MIB) for _ in range(1)]} <= addresses
    again = [buffers.borrow(MIB) for _ in range(4)]
    assert {address(block) for block in again} == addresses


def test_idle_memory_is_bounded() -> None:
    """Whatever sizes were lent one after the other: at most twice what was lent at one moment."""
    buffers = Buffers()
    for k in range(1, 60):
        block = buffers.borrow(k * 100 * KIB)
        peak = block.nbytes
        del block
        assert buffers.idle <= 2.5 * peak  # sizes are rounded up by less than a quarter


def test_one_big_batch_is_forgotten() -> None:
    buffers = Buffers(patience=16)
    big = buffers.borrow(64 * MIB)
    del big
    assert buffers.idle >= 64 * MIB
    for _ in range(40):
        block = buffers.borrow(200 * KIB)
        del block
    assert buffers.idle < MIB


def test_a_step_finds_its_blocks_again() -> None:
    """Blocks of different sizes, all lent at once in each step: nothing is allocated after the first."""
    buffers = Buffers(patience=8)
    sizes = [300 * KIB, MIB, 5 * MIB, 5 * MIB, 70 * KIB]
    seen = []
    for _ in range(30):
        blocks = [buffers.borrow(size) for size in sizes]
        seen.append({address(block) for block in blocks})
        del blocks
    assert all(addresses == seen[0] for addresses in seen)


def test_threads() -> None:
    """Many borrow, write, check and let go at once."""
    buffers = Buffers(patience=16)
    wrong: list[int] = []

    def work(me: int) -> None:
        for k in range(150):
            block = buffers.borrow((1 + (k * 7 + me) % 5) * 70 * KIB)
            ends = block[:64], block[-64:]
            for end in ends:
                end.fill(me)
            other = buffers.borrow(80 * KIB)
            other[:64].fill(100 + me)
            if not all((end == me).all() for end in ends):
                wrong.append(me)

    threads = [threading.Thread(target=work, args=(me,)) for me in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.collect()
    assert not wrong
    assert buffers.lent == 0


class Cycle:
    """Garbage that only the cycle collector finds, as what a graph keeps can be."""

    def __init__(self, block: Block) -> None:
        self.block, self.me = block, self


class Collecting(list[Block]):
    """A list that is walked just when the interpreter decides to collect garbage."""

    def __iter__(self) -> Iterator[Block]:
        gc.collect()
        return super().__iter__()


@pytest.mark.timeout(60)
def test_the_collector_may_return_a_block_during_a_loan() -> None:
    """It runs wherever something is allocated, also while a block is being looked for."""
    buffers = Buffers()

    def work() -> None:
        Cycle(buffers.borrow(70 * KIB))
        buffers.borrow(70 * KIB)

    buffers._idle = Collecting()
    gc.disable()  # so that the cycle is still there at the second loan
    try:
        thread = threading.Thread(target=work, daemon=True)  # if it waits for itself, this test still ends
        thread.start()
        thread.join(5)
        assert not thread.is_alive(), "borrow waits for a lock that its own thread holds"
    finally:
        gc.enable()

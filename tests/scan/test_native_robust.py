"""The compiled scan among threads and processes."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection

import pytest
import torch
from scan.native_cases import COVERED, Scanned, assert_near, build, data, needs_library, run, scanned, twin
from torch import Tensor
from torch.utils.data import DataLoader

import rnnnorm

pytestmark = needs_library


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("norm", ["none", "ln", "bn-timestep", "bn-star"])
def test_different_modules_in_different_threads(norm: str) -> None:
    """Training steps of eight networks at once, as those of one after the other."""
    networks = [build(norm, 20) for _ in range(8)]
    inputs = [data((5 + k,) * 10) for k in range(8)]
    expected = [[run(twin(lstm, "native"), x) for lstm, x in zip(networks, inputs, strict=True)]]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            copies = [twin(lstm, "native") for lstm in networks]
            expected.append(list(pool.map(run, copies, inputs)))
    for found in expected[1:]:
        for actual, alone in zip(found, expected[0], strict=True):
            assert_near(actual, alone, 1e-13)


@pytest.mark.parametrize("norm", COVERED)
def test_one_module_in_several_threads(norm: str) -> None:
    lstm = build(norm, 20).eval()
    inputs = [data((3 + k % 5,) * 10) for k in range(24)]
    expected = [run(lstm, x) for x in inputs]
    with ThreadPoolExecutor(6) as pool:
        for actual, alone in zip(pool.map(lambda x: run(lstm, x), inputs), expected, strict=True):
            assert_near(actual, alone, 1e-13)


def test_backward_in_another_thread(two_threads: None) -> None:
    """Whatever number of threads torch has there."""
    lstm = build("ln", 20)
    x = data((6,) * 12).requires_grad_()
    (expected,) = torch.autograd.grad(lstm(x)[0].square().sum(), x)
    loss, found = lstm(x)[0].square().sum(), []

    def differentiate() -> None:
        torch.set_num_threads(1)
        found.extend(torch.autograd.grad(loss, x))

    thread = threading.Thread(target=differentiate)
    thread.start()
    thread.join()
    assert_near({"x": found[0]}, {"x": expected}, 1e-12)


def _answer(connection: Connection, work: Callable[[], Tensor]) -> None:
    connection.send(work().numpy())
    connection.close()


def in_fork(work: Callable[[], Tensor], seconds: float = 8) -> Tensor:
    """What `work` returns in a forked child; fails if it does not within some seconds."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    child = context.Process(target=_answer, args=(theirs, work), daemon=True)
    child.start()
    theirs.close()
    try:
        assert ours.poll(seconds), "the forked child hangs"
        return torch.from_numpy(ours.recv())
    except EOFError:
        child.join()
        pytest.fail(f"the forked child ended with exit code {child.exitcode}")
    finally:
        child.kill()
        child.join()


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("norm", "threads"), [("ln", 1), ("bn-timestep", 1), ("none", 1), ("ln", 2)])
def test_a_child_that_was_forked(norm: str, threads: int, two_threads: None) -> None:
    """After the parent has run with two threads, of which the child has none."""
    lstm = build(norm, 20)
    expected = scanned(twin(lstm, "native"), 3)

    def work() -> Tensor:
        torch.set_num_threads(threads)
        return scanned(lstm, 3)

    assert_near({"all": in_fork(work)}, {"all": expected}, 1e-12)


@pytest.mark.timeout(60)
def test_a_child_that_inherits_the_threads(two_threads: None) -> None:
    """Nobody told the child to use fewer."""
    lstm = build("ln", 20)
    expected = scanned(twin(lstm, "native"), 3)
    assert_near({"all": in_fork(lambda: scanned(lstm, 3))}, {"all": expected}, 1e-12)
    assert_near({"all": scanned(lstm, 3)}, {"all": expected}, 1e-12)  # and the parent goes on


@pytest.mark.timeout(120)
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_a_data_loader(method: str, two_threads: None) -> None:
    lstm = build("bn-timestep", 20).eval()
    items = Scanned(lstm, 6)
    expected = [items[k] for k in range(6)]
    loader = DataLoader(items, batch_size=3, num_workers=2, multiprocessing_context=method, timeout=60)
    found = torch.cat(list(loader))
    assert_near({"all": found}, {"all": torch.stack(expected)}, 1e-12)


@pytest.mark.timeout(60)
def test_torch_keeps_its_threads(two_threads: None) -> None:
    """Another number of threads for the scan leaves torch's own products as they were."""
    a = torch.randn(300, 300)
    before = a @ a
    rnnnorm.LSTM(8, 64, norm="ln")(torch.randn(5, 32, 8))
    assert torch.get_num_threads() == 2
    torch.testing.assert_close(a @ a, before)

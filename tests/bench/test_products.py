"""The bare products are all products of an LSTM, and nothing else; those at peak as many multiply-adds."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from rnnnorm.bench import products
from rnnnorm.bench.batch import Batch
from rnnnorm.bench.products import Products, ProductsAtPeak
from rnnnorm.bench.shapes import LENGTHS, Shape

CPU = torch.device("cpu")
SHAPE = Shape(15, 4, 3, 5)


def spoilt(kind: str, backward: bool) -> tuple[Products, Batch]:
    """Products whose results are not there yet."""
    batch = Batch(SHAPE, kind, CPU)
    p = Products(batch, backward)
    for result in (p.gates_x, p.gates_h, p.dx, p.dh, p.dW_ih, p.dW_hh):
        result.fill_(torch.nan)
    return p, batch


@pytest.mark.parametrize("kind", LENGTHS)
def test_the_products_are_right(kind: str) -> None:
    p, batch = spoilt(kind, backward=True)
    p.run()
    p.reset()
    N = sum(batch.batch_sizes)
    assert len(batch.packed.data) == N
    assert p.x.shape == (N, SHAPE.I)
    assert p.h.shape == (N, SHAPE.H)
    torch.testing.assert_close(p.gates_x, p.x @ p.W_ih.T)
    torch.testing.assert_close(p.gates_h, p.h @ p.W_hh.T)
    torch.testing.assert_close(p.dh, p.gates_h @ p.W_hh)
    torch.testing.assert_close(p.dx, p.gates_x @ p.W_ih)
    torch.testing.assert_close(p.dW_ih, p.gates_x.T @ p.x)
    torch.testing.assert_close(p.dW_hh, p.gates_h.T @ p.h)


def test_the_forward_pass_alone_leaves_the_gradients_alone() -> None:
    p, _ = spoilt("uniform", backward=False)
    p.run()
    torch.testing.assert_close(p.gates_h, p.h @ p.W_hh.T)
    assert all(result.isnan().all() for result in (p.dx, p.dh, p.dW_ih, p.dW_hh))


@pytest.mark.parametrize("kind", LENGTHS)
@pytest.mark.parametrize(("backward", "passes"), [(False, 1), (True, 3)], ids=["forward", "training"])
def test_the_arithmetic_is_that_of_an_lstm(kind: str, backward: bool, passes: int) -> None:
    """2·N·4H·(I + H) floating-point operations in the forward pass, twice as many in the backward pass."""
    p, batch = spoilt(kind, backward)
    with FlopCounterMode(display=False) as counter:
        p.run()
    forward = 2 * sum(batch.batch_sizes) * 4 * SHAPE.H * (SHAPE.I + SHAPE.H)
    assert counter.get_total_flops() == passes * forward
    assert 2 * ProductsAtPeak(batch, backward).count == passes * forward


@pytest.mark.parametrize("threads", [1, 2])
def test_the_processor_multiplies_as_often_as_it_is_asked(threads: int) -> None:
    """Each lane adds up ¼ per round; what is returned is the sum of one lane of each tile and thread."""
    run = ProductsAtPeak(Batch(SHAPE, "dense", CPU), backward=True).call
    few, many = (run(count, threads) for count in (100_000, 200_000))
    assert few > 0
    assert many == pytest.approx(2 * few, rel=0.05)


def test_without_a_compiled_scan_there_is_no_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "library", lambda: None)
    with pytest.raises(RuntimeError, match="compiled"):
        ProductsAtPeak(Batch(SHAPE, "dense", CPU), backward=True)


@pytest.mark.parametrize("kind", LENGTHS)
def test_there_is_one_recurrent_product_per_step_over_its_active_rows(kind: str) -> None:
    p, batch = spoilt(kind, backward=True)
    assert [len(h) for h, _, _ in p.steps] == batch.batch_sizes
    assert len(p.steps) == SHAPE.T
    assert p.steps[0][0].data_ptr() == p.h.data_ptr()

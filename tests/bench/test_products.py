"""The bare products are all products of an LSTM, and nothing else."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from rnnnorm.bench.batch import Batch
from rnnnorm.bench.products import Products
from rnnnorm.bench.shapes import LENGTHS, Shape

CPU = torch.device("cpu")
SHAPE = Shape(15, 4, 3, 5)


def spoilt(kind: str, backward: bool) -> tuple[Products, Batch]:
    """Products whose results are not there yet."""
    batch = Batch(SHAPE, kind, CPU)
    products = Products(batch, backward)
    for result in (products.gates_x, products.gates_h, products.dx, products.dh, products.dW_ih, products.dW_hh):
        result.fill_(torch.nan)
    return products, batch


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


@pytest.mark.parametrize("kind", LENGTHS)
def test_there_is_one_recurrent_product_per_step_over_its_active_rows(kind: str) -> None:
    p, batch = spoilt(kind, backward=True)
    assert [len(h) for h, _, _ in p.steps] == batch.batch_sizes
    assert len(p.steps) == SHAPE.T
    assert p.steps[0][0].data_ptr() == p.h.data_ptr()

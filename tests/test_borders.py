"""What enters a recurrent network: packed garbage is refused by name, before anything reads it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import rnnnorm
from rnnnorm.nn.inputs import InputError
from rnnnorm.packing import check_packed

NORMS = ("none", "ln", "bn-timestep")
SIZES = (5, 4, 3, 3, 2, 1)


def packed() -> PackedSequence:
    return pack_padded_sequence(torch.randn(6, 5, 4), [6, 5, 4, 2, 1])


WRONG_SIZES: dict[str, tuple[Any, str]] = {
    "increasing": ((1, 2, 3, 3, 4, 5), r"batch_sizes\[1\] = 2 after 1, expected no increase"),
    "increasing-later": ((5, 4, 3, 2, 3, 1), r"batch_sizes\[4\] = 3 after 2, expected no increase"),
    "too-large": ((3000,) * 6, "batch_sizes add up to 18000 rows, but there are 18"),
    "too-many": ((3,) * 8, "batch_sizes add up to 24 rows, but there are 18"),
    "too-small": ((3, 2, 2), "batch_sizes add up to 7 rows, but there are 18"),
    "zero": ((5, 4, 4, 3, 2, 0), r"batch_sizes\[5\] = 0, expected at least 1 row"),
    "zero-inside": ((5, 4, 0, 4, 3, 2), r"batch_sizes\[2\] = 0, expected at least 1 row"),
    "negative": ((9, 9, 9, -9), r"batch_sizes\[3\] = -9, expected at least 1 row"),
    "overflow": ((2**62, 2**62, 2**62), "batch_sizes add up to"),
    "empty": ((), "batch_sizes are empty, expected at least one step"),
}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("wrong", WRONG_SIZES)
def test_batch_sizes(wrong: str, norm: str) -> None:
    """Values: these were heap corruption, segmentation faults and wrong numbers."""
    sizes, message = WRONG_SIZES[wrong]
    lstm = rnnnorm.LSTM(4, 5, norm=norm)
    with pytest.raises(InputError, match=message):
        lstm(PackedSequence(packed().data, torch.tensor(sizes, dtype=torch.int64)))


def test_a_row_too_few() -> None:
    p = packed()
    with pytest.raises(InputError, match="batch_sizes add up to 18 rows, but there are 17"):
        rnnnorm.LSTM(4, 5)(PackedSequence(p.data[:-1], p.batch_sizes))


@pytest.mark.parametrize("cell", [rnnnorm.LSTM, rnnnorm.GRU, rnnnorm.RNN])
@pytest.mark.parametrize(
    "sizes", [torch.tensor(SIZES).int(), torch.tensor(SIZES).float(), torch.tensor([SIZES]), torch.tensor(18)]
)
def test_batch_sizes_of_another_kind(sizes: Tensor, cell: Any) -> None:
    with pytest.raises(InputError, match=r"batch_sizes must be int64 \(T,\) on the CPU, got torch\..* on cpu"):
        cell(4, 5)(PackedSequence(packed().data, sizes))


def test_batch_sizes_elsewhere() -> None:
    """A PackedSequence refuses them by itself; the operator behind a compiled graph is given both apart."""
    with pytest.raises(InputError, match=r"on the CPU, got torch.int64 \(6,\) on meta"):
        check_packed(18, torch.tensor(SIZES, device="meta"))
    assert check_packed(18, torch.tensor(SIZES)) == list(SIZES)


WRONG_ORDERS: dict[str, tuple[Tensor, str]] = {
    "short": (torch.arange(3), r"must be int64 of shape \(5,\), one per sequence, got torch.int64 \(3,\)"),
    "long": (torch.arange(6), r"must be int64 of shape \(5,\)"),
    "matrix": (torch.arange(5)[None], r"must be int64 of shape \(5,\), one per sequence, got torch.int64 \(1, 5\)"),
    "float": (torch.arange(5.0), "must be int64 .* got torch.float32"),
    "bool": (torch.ones(5, dtype=torch.bool), "must be int64 .* got torch.bool"),
    "twice": (torch.tensor([0, 1, 2, 3, 3]), r"must hold each of 0 … 4 once, got \[0, 1, 2, 3, 3\]"),
    "too-large": (torch.tensor([0, 1, 2, 3, 9]), r"must hold each of 0 … 4 once, got \[0, 1, 2, 3, 9\]"),
    "negative": (torch.tensor([0, 1, 2, 3, -1]), r"must hold each of 0 … 4 once, got \[0, 1, 2, 3, -1\]"),
}


@pytest.mark.parametrize("which", ["sorted_indices", "unsorted_indices"])
@pytest.mark.parametrize("wrong", WRONG_ORDERS)
def test_orders(wrong: str, which: str) -> None:
    order, message = WRONG_ORDERS[wrong]
    p = packed()
    given = {"sorted_indices": torch.arange(5), "unsorted_indices": torch.arange(5), which: order}
    with pytest.raises(InputError, match=f"{which} {message}"):
        rnnnorm.LSTM(4, 5)(PackedSequence(p.data, p.batch_sizes, **given))


def test_a_long_order_is_not_printed_whole() -> None:
    with pytest.raises(InputError, match=r"got \[0, (0, ){18}0, …\]$"):
        rnnnorm.LSTM(4, 5)(
            PackedSequence(torch.randn(300, 4), torch.tensor([300]), torch.zeros(300, dtype=torch.int64))
        )


@pytest.mark.parametrize("kind", [torch.int32, torch.int64])
@pytest.mark.parametrize("given", [{"sorted_indices"}, {"unsorted_indices"}, {"sorted_indices", "unsorted_indices"}])
def test_orders_that_torch_takes(given: set[str], kind: torch.dtype) -> None:
    p, order = packed(), torch.tensor([2, 0, 1, 4, 3])
    orders = {"sorted_indices": order.to(kind), "unsorted_indices": order.argsort().to(kind)}
    torch_lstm = torch.nn.LSTM(4, 5)
    lstm = rnnnorm.LSTM.from_torch(torch_lstm)
    hx = torch.randn(1, 5, 5), torch.randn(1, 5, 5)
    if kind == torch.int32 and given == {"sorted_indices"}:
        pytest.skip("torch cannot invert it")
    p = PackedSequence(p.data, p.batch_sizes, **{name: orders[name] for name in given})
    actual, expected = lstm(p, hx), torch_lstm(p, hx)
    torch.testing.assert_close(actual[0].data, expected[0].data)
    torch.testing.assert_close(actual[1], expected[1])


@pytest.mark.parametrize("shape", [(18,), (18, 3), (1, 18, 4), ()])
def test_rows_of_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="expected rows of 4 features"):
        rnnnorm.LSTM(4, 5)(PackedSequence(torch.randn(shape), torch.tensor(SIZES)))


def test_an_input_error_is_what_torch_raises_and_what_it_is() -> None:
    assert issubclass(InputError, ValueError)
    assert issubclass(InputError, RuntimeError)


@pytest.mark.parametrize("backend", ["native", "reference", "auto"])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}], ids=["one", "four"])
def test_batch_sizes_that_change_before_backward(options: dict[str, Any], norm: str, backend: str) -> None:
    """They are the caller's; the backward pass reads a copy."""
    first = rnnnorm.LSTM(4, 5, norm=norm, backend=backend, **options)
    gradients = []
    for value in (None, 10**6, 0):
        p, lstm = packed(), copy.deepcopy(first)
        torch.manual_seed(1)
        x = torch.randn(18, 4).requires_grad_()
        output, _ = lstm(PackedSequence(x, p.batch_sizes))
        assert output.batch_sizes is p.batch_sizes
        if value is not None:
            p.batch_sizes.fill_(value)
        gradients += torch.autograd.grad(output.data.square().sum(), x)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0, atol=0)
    torch.testing.assert_close(gradients[2], gradients[0], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([6, 0, 3], r"lengths\[1\] = 0, expected between 1 and 6"),
        ([6, 3, 7], r"lengths\[2\] = 7, expected between 1 and 6"),
        ([-1, 3, 6], r"lengths\[0\] = -1, expected between 1 and 6"),
        ([2**62, 3, 6], r"lengths\[0\] = 4611686018427387904, expected between 1 and 6"),
        ([6.0, 3.0, 2.0], "lengths must be integers, got torch.float32"),
        ([True, True, True], "lengths must be integers, got torch.bool"),
        ([6, 3], r"lengths must have one entry per sequence, \(3,\), got shape \(2,\)"),
        ([[6, 3, 2]], r"lengths must have one entry per sequence, \(3,\), got shape \(1, 3\)"),
    ],
)
def test_lengths(lengths: Any, message: str) -> None:
    """As torch's `pack_padded_sequence`, a RuntimeError; and a ValueError."""
    with pytest.raises(InputError, match=message):
        rnnnorm.LSTM(4, 5)(torch.randn(6, 3, 4), lengths=torch.tensor(lengths))


def test_under_another_default_device() -> None:
    """Lengths are numbers on the CPU, wherever new tensors are made."""
    lstm = rnnnorm.LSTM(4, 5, bidirectional=True)
    x, lengths = torch.randn(6, 3, 4), torch.tensor([6, 2, 4])
    expected = lstm(x, lengths=lengths)[0], lstm(x)[0]
    with torch.device("meta"):
        actual = lstm(x, lengths=lengths)[0], lstm(x)[0]
    torch.testing.assert_close(actual, expected)


NO_TENSORS = {
    "data": lambda p: p._replace(data=p.data.numpy()),
    "batch_sizes": lambda p: p._replace(batch_sizes=p.batch_sizes.tolist()),
    "sorted_indices": lambda p: p._replace(sorted_indices=list(range(5))),
    "unsorted_indices": lambda p: p._replace(unsorted_indices=list(range(5))),
}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("part", NO_TENSORS)
def test_parts_that_are_no_tensors(part: str, norm: str) -> None:
    with pytest.raises(TypeError, match=f"{part} .*must be a Tensor, got (list|ndarray)"):
        rnnnorm.LSTM(4, 5, norm=norm)(NO_TENSORS[part](packed()))


@pytest.mark.parametrize("name", ["sorted_indices", "unsorted_indices"])
def test_indices_on_another_device(name: str) -> None:
    p = packed()._replace(**{name: torch.arange(5, device="meta")})
    with pytest.raises(InputError, match=f"{name} is on meta, the data are on cpu"):
        rnnnorm.GRU(4, 5)(p)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("norm", NORMS)
def test_other_layouts(norm: str, dtype: torch.dtype) -> None:
    """Some of torch's operators write behind the end of what they take for dense."""
    lstm, x = rnnnorm.LSTM(4, 16, dtype=dtype, norm=norm), torch.randn(1, 5, 4, dtype=dtype)
    with pytest.raises(InputError, match=r"input is a tensor of layout torch\._mkldnn, expected a dense one"):
        lstm(x.to_mkldnn())
    h, c = torch.zeros(1, 5, 16, dtype=dtype), torch.zeros(1, 5, 16, dtype=dtype)
    with pytest.raises(InputError, match=r"h is a tensor of layout torch\.sparse_coo, expected a dense one"):
        lstm(x, (h.to_sparse(), c))

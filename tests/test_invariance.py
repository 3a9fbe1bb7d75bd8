"""What stands in the padding, how much padding there is and the order of the batch change nothing."""

from __future__ import annotations

import pytest
import torch
from support import HIDDEN, INPUT, LENGTHS, PRESETS, assert_same, buffers, padded, valid
from torch import Tensor

import rnnnorm


def make(norm: str, training: bool) -> rnnnorm.LSTM:
    torch.manual_seed(5)
    lstm = rnnnorm.LSTM(INPUT, HIDDEN, 2, bidirectional=True, norm=norm, max_steps=6, dtype=torch.float64)
    lstm(padded(dtype=torch.float64))  # statistics other than 0 and 1
    return lstm.train(training)


def run(norm: str, training: bool, x: Tensor, lengths: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
    """Results, statistics afterwards, and the gradient that reaches the input."""
    lstm = make(norm, training)
    x = x.clone().requires_grad_()
    output, (h_n, c_n) = lstm(x, lengths=lengths)
    torch.manual_seed(9)
    weight = torch.randn(HIDDEN * 2, dtype=x.dtype)
    (output @ weight).sum().backward()
    return {"output": output, "h_n": h_n, "c_n": c_n}, buffers(lstm), x.grad


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("norm", PRESETS)
class TestInvariance:
    @pytest.mark.parametrize("fill", [1e30, float("nan"), float("inf")])
    def test_values_in_the_padding(self, norm: str, training: bool, fill: float) -> None:
        x = padded(dtype=torch.float64)
        filled = torch.where(valid().unsqueeze(-1), x, fill)
        expected, expected_stats, expected_grad = run(norm, training, x, LENGTHS)
        actual, stats, grad = run(norm, training, filled, LENGTHS)
        for name in expected:
            assert torch.equal(actual[name], expected[name]), name
        for name in expected_stats:
            assert torch.equal(stats[name], expected_stats[name]), name
        assert torch.equal(grad, expected_grad)
        assert not grad[~valid()].any()

    def test_more_padding(self, norm: str, training: bool) -> None:
        x = padded(dtype=torch.float64)
        longer = torch.cat([x, torch.full((9, *x.shape[1:]), 1e30, dtype=x.dtype)])
        expected, expected_stats, _ = run(norm, training, x, LENGTHS)
        actual, stats, _ = run(norm, training, longer, LENGTHS)
        assert torch.equal(actual["output"][: len(x)], expected["output"])
        assert not actual["output"][len(x) :].any()
        assert torch.equal(actual["h_n"], expected["h_n"])
        for name in expected_stats:
            assert torch.equal(stats[name], expected_stats[name]), name

    def test_order_of_the_batch(self, norm: str, training: bool) -> None:
        x = padded(dtype=torch.float64)
        order = torch.tensor([4, 2, 0, 3, 1])
        expected, expected_stats, expected_grad = run(norm, training, x, LENGTHS)
        actual, stats, grad = run(norm, training, x[:, order], LENGTHS[order])
        for name in expected:
            assert_same(actual[name], expected[name][:, order], name, 1e-9)
        for name in expected_stats:
            assert_same(stats[name], expected_stats[name], name, 1e-9)
        assert_same(grad, expected_grad[:, order], "grad", 1e-6)

    def test_packed_padded_and_one_by_one_agree(self, norm: str, training: bool) -> None:
        x = padded(dtype=torch.float64)
        together, _, _ = run(norm, training, x, LENGTHS)
        packed = torch.nn.utils.rnn.pack_padded_sequence(x, LENGTHS, enforce_sorted=False)
        output, (h_n, _) = make(norm, training)(packed)
        output, _ = torch.nn.utils.rnn.pad_packed_sequence(output)
        assert torch.equal(output, together["output"])
        assert torch.equal(h_n, together["h_n"])
        if training and rnnnorm.has_batch_statistics(make(norm, training)):
            return  # in training, batch statistics couple the sequences: that is what they are
        for b, length in enumerate(LENGTHS.tolist()):
            alone, (h, _) = make(norm, training)(x[:length, b])
            assert_same(alone, together["output"][:length, b], f"sequence {b}", 1e-10)
            assert_same(h, together["h_n"][:, b], f"state of sequence {b}", 1e-10)


def test_the_last_state_is_that_of_each_sequences_own_end() -> None:
    lstm = rnnnorm.LSTM(INPUT, HIDDEN, bidirectional=True, norm="ln")
    output, (h_n, _) = lstm(padded(), lengths=LENGTHS)
    for b, length in enumerate(LENGTHS.tolist()):
        assert torch.equal(h_n[0, b], output[length - 1, b, :HIDDEN])
        assert torch.equal(h_n[1, b], output[0, b, HIDDEN:])

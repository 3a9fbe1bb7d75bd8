"""Assorted-time normalization against NumPy: windows over time, ragged, step by step and at once."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from support import INPUT, LENGTHS, assert_same, packed, padded
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

import rnnnorm
from rnnnorm.norms import LayerNorm
from rnnnorm.norms.assorted import AssortedTimeNorm

F = 3
DOUBLE = torch.float64
SIZES = [4, 4, 3, 1, 1, 1]
WINDOWS = [1, 2, 3, 5, 50]


def made(window: int = 3, **options: object) -> AssortedTimeNorm:
    norm = AssortedTimeNorm(F, window=window, dtype=DOUBLE, **options)  # type: ignore[arg-type]
    for p in norm.parameters():
        torch.nn.init.uniform_(p, 0.5, 1.5)
    return norm


def steps(norm: AssortedTimeNorm, x: Tensor, sizes: list[int]) -> Tensor:
    y = torch.cat([norm(rows, t) for t, rows in enumerate(x.split_with_sizes(sizes))])
    norm.reset_sequence()
    return y


def expected(norm: AssortedTimeNorm, x: Tensor, sizes: list[int], eps: float = 1e-5) -> Tensor:
    """Sequence by sequence: the window itself, not the moments of its steps."""
    parts = [a.detach().numpy() for a in x.split_with_sizes(sizes)]
    gain = norm.gain.detach().numpy()
    bias = 0 if norm.bias is None else norm.bias.detach().numpy()
    rows = []
    for t, size in enumerate(sizes):
        for b in range(size):
            seen = np.stack([parts[s][b] for s in range(max(0, t - norm.window + 1), t + 1)])
            rows.append(gain * (parts[t][b] - seen.mean()) / np.sqrt(seen.var() + eps) + bias)
    return torch.from_numpy(np.stack(rows))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("window", WINDOWS)
def test_equation(window: int, bias: bool) -> None:
    norm = made(window, bias=bias, eps=1e-3)
    for _ in range(2):  # nothing of the first batch is left in the second
        x = torch.randn(sum(SIZES), F, dtype=DOUBLE)
        assert_same(norm.sequence(x, SIZES), expected(norm, x, SIZES, 1e-3), "at once", 1e-12)
        assert_same(steps(norm, x, SIZES), expected(norm, x, SIZES, 1e-3), "step by step", 1e-12)


@pytest.mark.parametrize("window", WINDOWS)
def test_gradients_of_both_forms_agree(window: int) -> None:
    norm, weight = made(window), torch.randn(sum(SIZES), F, dtype=DOUBLE)
    grads = []
    for form in (norm.sequence, lambda x, sizes: steps(norm, x, sizes)):
        x = torch.linspace(-2, 3, sum(SIZES) * F, dtype=DOUBLE).sin().view(-1, F).requires_grad_()
        norm.zero_grad()
        (form(x, SIZES) * weight).sum().backward()
        grads.append((x.grad, norm.gain.grad.clone()))
    assert_same(grads[0][0], grads[1][0], "dx", 1e-12)
    assert_same(grads[0][1], grads[1][1], "dgain", 1e-12)


def test_derivatives() -> None:
    norm = made(2, bias=True)
    x = torch.randn(6, F, dtype=DOUBLE, requires_grad=True)
    for form in (norm.sequence, lambda x, sizes: steps(norm, x, sizes)):
        assert gradcheck(lambda x, form=form: form(x, [2, 2, 1, 1]), (x,))
        assert gradgradcheck(lambda x, form=form: form(x, [2, 2, 1, 1]), (x,))


def test_the_gradient_reaches_back_as_far_as_the_window() -> None:
    norm = made(3)
    x = torch.randn(6, F, dtype=DOUBLE, requires_grad=True)
    norm.sequence(x, [1] * 6)[5].square().sum().backward()
    assert (x.grad.abs().sum(1) > 0).tolist() == [False, False, False, True, True, True]


def test_a_window_of_one_is_layer_norm() -> None:
    norm, ln = made(1), LayerNorm(F, dtype=DOUBLE)
    ln.load_state_dict(norm.state_dict())
    x = torch.randn(sum(SIZES), F, dtype=DOUBLE)
    assert_same(norm.sequence(x, SIZES), ln(x), "at once", 1e-12)
    assert_same(steps(norm, x, SIZES), ln(x), "step by step", 1e-12)


def test_scale_of_the_whole_sequence_changes_nothing_of_a_step_does() -> None:
    norm, x = made(3, eps=1e-12), torch.randn(5, F, dtype=DOUBLE)
    assert_same(norm.sequence(50 * x, [1] * 5), norm.sequence(x, [1] * 5), "scaled", 1e-9)
    louder = x.clone()
    louder[4] *= 50  # layer normalization would not see it
    assert not torch.allclose(norm.sequence(louder, [1] * 5)[4], norm.sequence(x, [1] * 5)[4])


def test_large_offsets_do_not_cancel() -> None:
    norm = AssortedTimeNorm(F, window=3)
    x = torch.randn(5, F)
    shifted = 1e4 + x
    exact = norm.double().sequence(shifted.double(), [1] * 5)
    assert_same(norm.float().sequence(shifted, [1] * 5).double(), exact, "y", 1e-2)


class TestInAnLSTM:
    def test_written_out(self) -> None:
        H, k = 4, 3
        lstm = rnnnorm.LSTM(INPUT, H, norm=f"atn:window={k}", dtype=DOUBLE)
        norms = lstm.norms("_l0")
        for p in norms.parameters():
            torch.nn.init.uniform_(p, 0.5, 1.5)
        past: dict[str, list[Tensor]] = {"input": [], "hidden": [], "cell": []}

        def normalize(place: str, rows: Tensor) -> Tensor:
            past[place] = [*past[place], rows][-k:]
            seen = torch.stack(past[place], 1).flatten(1)
            y = (rows - seen.mean(1, keepdim=True)) / (seen.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
            norm = getattr(norms, place)
            return norm.gain * y + (0 if norm.bias is None else norm.bias)

        x = torch.randn(6, 3, INPUT, dtype=DOUBLE)
        h = c = torch.zeros(3, H, dtype=DOUBLE)
        for x_t in x:
            z = normalize("input", x_t @ lstm.weight_ih_l0.T) + normalize("hidden", h @ lstm.weight_hh_l0.T)
            i, f, g, o = (z + lstm.bias_ih_l0).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * normalize("cell", c).tanh()
        assert_same(lstm(x)[0][-1], h, "h", 1e-10)

    def test_nothing_is_left_behind(self) -> None:
        lstm = rnnnorm.LSTM(INPUT, 4, norm="atn")
        first = lstm(packed())[0].data
        for place in ("input", "hidden", "cell"):
            norm = getattr(lstm.norms("_l0"), place)
            assert norm._past == []
            assert norm._last is None
        first.sum().backward()
        x = padded()
        with torch.inference_mode():
            alone = lstm(x, lengths=LENGTHS)[0].clone()
        assert torch.equal(lstm(x, lengths=LENGTHS)[0], alone)
        lstm(x, lengths=LENGTHS)[0].sum().backward()

    def test_a_cell_in_the_middle_of_a_sequence_can_be_copied(self) -> None:
        cell = rnnnorm.LSTMCell(INPUT, 4, norm="atn")
        x, state = torch.randn(4, 2, INPUT), None
        for t in range(3):
            state = cell(x[t], state, step=t)
        for other in (copy.deepcopy(cell), pickle.loads(pickle.dumps(cell))):
            assert torch.equal(other(x[0], step=0)[0], cell(x[0], step=0)[0])

    def test_a_cell_needs_the_number_of_the_step(self) -> None:
        with pytest.raises(ValueError, match="call the cell with step=t"):
            rnnnorm.LSTMCell(INPUT, 4, norm="atn")(torch.randn(2, INPUT))

    def test_the_window_matters(self) -> None:
        torch.manual_seed(1)
        short, x = rnnnorm.LSTM(INPUT, 4, norm="atn:window=2"), torch.randn(6, 3, INPUT)
        long = rnnnorm.LSTM(INPUT, 4, norm="atn:window=4")
        long.load_state_dict(short.state_dict())
        assert torch.allclose(short(x)[0][:2], long(x)[0][:2])
        assert not torch.allclose(short(x)[0][2:], long(x)[0][2:])


class TestErrors:
    @pytest.mark.parametrize("window", [0, -1, 2.0, True])
    def test_window(self, window: object) -> None:
        with pytest.raises(ValueError, match="window must be an integer of at least 1"):
            AssortedTimeNorm(F, window=window)  # type: ignore[arg-type]

    def test_eps(self) -> None:
        with pytest.raises(ValueError, match="eps must be a positive number"):
            AssortedTimeNorm(F, eps=0)

    def test_a_step_out_of_turn(self) -> None:
        norm = AssortedTimeNorm(F)
        norm(torch.randn(2, F), 0)
        with pytest.raises(ValueError, match="step 2 does not follow step 0: call reset_sequence"):
            norm(torch.randn(2, F), 2)
        norm.reset_sequence()
        norm(torch.randn(2, F), 2)

    def test_sequences_that_begin_late(self) -> None:
        norm = AssortedTimeNorm(F)
        norm(torch.randn(2, F), 0)
        with pytest.raises(ValueError, match="step 1 has 3 rows, the step before had 2"):
            norm(torch.randn(3, F), 1)

"""norm="none" is torch.nn.LSTM: outputs, states and all gradients."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from support import HIDDEN, INPUT, LENGTHS, assert_same, padded
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import rnnnorm

KINDS = ("packed", "packed-sorted", "padded", "dense", "dense-batch-first", "unbatched")
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


def run(lstm: nn.Module, kind: str, x: Tensor, hx: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Output as (T, B, F), zeros in the padding, and both states; torch gets packed what ours gets padded."""
    if kind == "packed":
        output, state = lstm(pack_padded_sequence(x, LENGTHS, enforce_sorted=False), hx)
        output, _ = pad_packed_sequence(output, total_length=x.shape[0])
    elif kind == "packed-sorted":
        lengths = LENGTHS.sort(descending=True).values
        output, state = lstm(pack_padded_sequence(x, lengths), hx)
        output, _ = pad_packed_sequence(output, total_length=x.shape[0])
    elif kind == "padded":
        if isinstance(lstm, rnnnorm.LSTM):
            output, state = lstm(x, hx, lengths=LENGTHS)
        else:
            return run(lstm, "packed", x, hx)
    elif kind == "dense-batch-first":
        lstm.batch_first = True
        output, state = lstm(x.transpose(0, 1), hx)
        output = output.transpose(0, 1)
    else:
        output, state = lstm(x, hx)
    return output, *state


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_outputs_states_and_gradients(kind: str, dtype: torch.dtype, backend: str) -> None:
    for layers, bidirectional, proj, given, bias in product(
        (1, 2), (False, True), (0, 3), (False, True), (True, False)
    ):
        theirs = nn.LSTM(INPUT, HIDDEN, layers, bias, bidirectional=bidirectional, proj_size=proj, dtype=dtype)
        ours = rnnnorm.LSTM(
            INPUT, HIDDEN, layers, bias, bidirectional=bidirectional, proj_size=proj, dtype=dtype, backend=backend
        )
        ours.load_state_dict(theirs.state_dict())
        x = padded(dtype=dtype)[:, 0] if kind == "unbatched" else padded(dtype=dtype)
        batch = () if kind == "unbatched" else (len(LENGTHS),)
        states = layers * (2 if bidirectional else 1)
        hx = [torch.randn(states, *batch, n, dtype=dtype) for n in (proj or HIDDEN, HIDDEN)] if given else None
        results = []
        for lstm in (theirs, ours):
            leaves = [t.clone().requires_grad_() for t in (x, *(hx or ()))]
            outputs = run(lstm, kind, leaves[0], tuple(leaves[1:]) or None)
            torch.manual_seed(1)
            sum((torch.randn_like(o) * o).sum() for o in outputs).backward()
            grads = {f"grad of {n}": p.grad for n, p in lstm.named_parameters()}
            grads |= {f"grad of leaf {i}": leaf.grad for i, leaf in enumerate(leaves)}
            results.append({"output": outputs[0], "h_n": outputs[1], "c_n": outputs[2], **grads})
        assert results[0].keys() == results[1].keys()
        for name, expected in results[0].items():
            assert_same(results[1][name], expected, f"{name} ({layers=} {bidirectional=} {proj=})", TOLERANCE[dtype])


@pytest.mark.parametrize("proj", [0, 3])
def test_state_dicts_go_both_ways(proj: int) -> None:
    theirs = nn.LSTM(INPUT, HIDDEN, 2, bidirectional=True, proj_size=proj)
    ours = rnnnorm.LSTM(INPUT, HIDDEN, 2, bidirectional=True, proj_size=proj)
    assert [(n, p.shape) for n, p in ours.named_parameters()] == [(n, p.shape) for n, p in theirs.named_parameters()]
    theirs.load_state_dict(ours.state_dict())
    x = padded()
    assert torch.allclose(ours(x)[0], theirs(x)[0], atol=1e-6)


def test_the_same_seed_draws_the_same_weights() -> None:
    torch.manual_seed(3)
    theirs = nn.LSTM(INPUT, HIDDEN, 2, bidirectional=True, proj_size=2)
    torch.manual_seed(3)
    ours = rnnnorm.LSTM(INPUT, HIDDEN, 2, bidirectional=True, proj_size=2)
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("bias", [True, False])
def test_from_torch(bias: bool) -> None:
    theirs = nn.LSTM(INPUT, HIDDEN, 2, bias, batch_first=True, dropout=0.3, bidirectional=True, proj_size=2).eval()
    x = torch.randn(3, 5, INPUT)
    for norm in ("none", "wn"):
        ours = rnnnorm.LSTM.from_torch(theirs, norm=norm)
        assert torch.allclose(ours(x)[0], theirs(x)[0], atol=1e-6), norm
        assert ours.dropout == 0.3
        assert not ours.training
    normalized = rnnnorm.LSTM.from_torch(theirs, norm="ln")
    assert torch.equal(normalized.weight_ih_l1_reverse, theirs.weight_ih_l1_reverse)
    if bias:
        assert torch.equal(normalized.bias_ih_l0, theirs.bias_ih_l0 + theirs.bias_hh_l0)
    with pytest.raises(TypeError, match="GRU"):
        rnnnorm.LSTM.from_torch(nn.GRU(2, 2))  # type: ignore[arg-type]


def test_dropout_between_layers_matches_in_distribution_and_is_off_in_evaluation() -> None:
    lstm = rnnnorm.LSTM(INPUT, HIDDEN, 2, dropout=0.5)
    x = padded()
    assert not torch.equal(lstm(x)[0], lstm(x)[0])
    lstm.eval()
    assert torch.equal(lstm(x)[0], lstm(x)[0])


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("packed", [False, True], ids=["dense", "packed"])
def test_the_same_seed_drops_the_same_entries(kind: str, packed: bool) -> None:
    theirs, ours = (getattr(m, kind)(INPUT, HIDDEN, 3, dropout=0.5, bidirectional=True) for m in (nn, rnnnorm))
    ours.load_state_dict(theirs.state_dict())
    x = pack_padded_sequence(padded(), LENGTHS, enforce_sorted=False) if packed else padded()
    outputs = []
    for rnn in (theirs, ours):
        torch.manual_seed(1)
        output = rnn(x)[0]
        outputs.append(output.data if packed else output)
    assert_same(outputs[1], outputs[0], "output", 1e-6)


def test_packed_output_keeps_the_callers_order() -> None:
    lstm = rnnnorm.LSTM(INPUT, HIDDEN)
    x = pack_padded_sequence(padded(), LENGTHS, enforce_sorted=False)
    output, _ = lstm(x)
    assert isinstance(output, PackedSequence)
    assert torch.equal(output.unsorted_indices, x.unsorted_indices)
    assert torch.equal(output.batch_sizes, x.batch_sizes)


def test_cell_equals_torch() -> None:
    theirs = nn.LSTMCell(INPUT, HIDDEN, dtype=torch.float64)
    ours = rnnnorm.LSTMCell(INPUT, HIDDEN, dtype=torch.float64)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(3, INPUT, dtype=torch.float64)
    state = (torch.randn(3, HIDDEN, dtype=torch.float64), torch.randn(3, HIDDEN, dtype=torch.float64))
    for hx in (None, state):
        for a, b in zip(ours(x, hx), theirs(x, hx), strict=True):
            assert_same(a, b, "cell", 1e-12)
        for a, b in zip(ours(x[0]), theirs(x[0]), strict=True):
            assert_same(a, b, "unbatched cell", 1e-12)

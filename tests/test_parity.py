"""norm="none" is torch's LSTM, GRU and RNN: outputs, states and all gradients, weights by name and by seed."""

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
CELLS: dict[str, tuple[str, dict[str, Any]]] = {
    "LSTM": ("LSTM", {}),
    "GRU": ("GRU", {}),
    "RNN-tanh": ("RNN", {}),
    "RNN-relu": ("RNN", {"nonlinearity": "relu"}),
}
DOUBLE = torch.float64


def pair(cell: str, *args: Any, single: bool = False, **keys: Any) -> tuple[Any, Any]:
    """Torch's module and ours, with the weights of the former."""
    kind, own = CELLS[cell]
    theirs, ours = (getattr(m, kind + "Cell" * single)(INPUT, HIDDEN, *args, **own, **keys) for m in (nn, rnnnorm))
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def run(rnn: nn.Module, kind: str, x: Tensor, hx: Any) -> list[Tensor]:
    """Output as (T, B, F), zeros in the padding, and states; torch gets packed what ours gets padded."""
    if kind == "padded" and not isinstance(rnn, nn.LSTM | nn.GRU | nn.RNN):
        output, state = rnn(x, hx, lengths=LENGTHS)
    elif kind in ("packed", "packed-sorted", "padded"):
        lengths = LENGTHS.sort(descending=True).values if kind == "packed-sorted" else LENGTHS
        output, state = rnn(pack_padded_sequence(x, lengths, enforce_sorted=kind == "packed-sorted"), hx)
        output, _ = pad_packed_sequence(output, total_length=x.shape[0])
    elif kind == "dense-batch-first":
        rnn.batch_first = True
        output, state = rnn(x.transpose(0, 1), hx)
        output = output.transpose(0, 1)
    else:
        output, state = rnn(x, hx)
    return [output, *(state if isinstance(state, tuple) else (state,))]


@pytest.mark.parametrize(("dtype", "backend"), [(torch.float32, "auto"), (DOUBLE, "auto"), (DOUBLE, "reference")])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cell", CELLS)
def test_outputs_states_and_gradients(cell: str, kind: str, dtype: torch.dtype, backend: str) -> None:
    """Of each number of layers and directions, with and without bias, states and projection."""
    projections = (0, 3) if cell == "LSTM" else (0,)
    for layers, bidirectional, proj, given, bias in product(
        (1, 2), (False, True), projections, (False, True), (True, False)
    ):
        keys = {"num_layers": layers, "bidirectional": bidirectional, "bias": bias, "dtype": dtype}
        theirs, ours = pair(cell, **keys, **({"proj_size": proj} if proj else {}))
        ours.backend = backend
        x = padded(dtype=dtype)[:, 0] if kind == "unbatched" else padded(dtype=dtype)
        shape = (layers * (1 + bidirectional), *(() if kind == "unbatched" else (len(LENGTHS),)))
        sizes = [proj or HIDDEN, HIDDEN][: 2 if cell == "LSTM" else 1] if given else []
        hx = [torch.randn(*shape, n, dtype=dtype) for n in sizes]
        results = []
        for rnn in (theirs, ours):
            leaves = [t.clone().requires_grad_() for t in (x, *hx)]
            outputs = run(rnn, kind, leaves[0], tuple(leaves[1:]) if len(hx) == 2 else leaves[1] if hx else None)
            torch.manual_seed(1)
            sum((torch.randn_like(o) * o).sum() for o in outputs).backward()
            found = {f"result {k}": o for k, o in enumerate(outputs)}
            found |= {f"grad of {n}": p.grad for n, p in rnn.named_parameters()}
            results.append(found | {f"grad of leaf {i}": leaf.grad for i, leaf in enumerate(leaves)})
        assert results[0].keys() == results[1].keys()
        for name, expected in results[0].items():
            assert_same(results[1][name], expected, f"{name} ({layers=} {bidirectional=} {proj=})", TOLERANCE[dtype])


@pytest.mark.parametrize("keys", [{}, {"proj_size": 3}], ids=["", "projection"])
@pytest.mark.parametrize("cell", CELLS)
def test_state_dicts_go_both_ways_and_a_seed_draws_the_same(cell: str, keys: dict[str, int]) -> None:
    if keys and cell != "LSTM":
        return
    kind, own = CELLS[cell]
    found = []
    for library in (nn, rnnnorm):
        torch.manual_seed(3)
        found.append(getattr(library, kind)(INPUT, HIDDEN, 2, bidirectional=True, **own, **keys))
    theirs, ours = found
    for (name, a), (other, b) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert name == other
        assert torch.equal(a, b), name
    nn.init.normal_(ours.weight_hh_l0)
    theirs.load_state_dict(ours.state_dict())
    x = padded()
    assert torch.allclose(ours(x)[0], theirs(x)[0], atol=1e-6)


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize("cell", CELLS)
def test_from_torch(cell: str, bias: bool) -> None:
    """Weight normalization starts at the weights it is given."""
    projection = {"proj_size": 2} if cell == "LSTM" else {}
    theirs, ours = pair(cell, 2, bias=bias, batch_first=True, dropout=0.3, bidirectional=True, **projection)
    theirs.eval()
    x = torch.randn(3, 5, INPUT)
    for norm in ("none", "wn"):
        other = type(ours).from_torch(theirs, norm=norm)
        assert torch.allclose(other(x)[0], theirs(x)[0], atol=1e-6), norm
        assert other.dropout == 0.3
        assert not other.training
    normalized = type(ours).from_torch(theirs, norm="ln")
    assert torch.equal(normalized.weight_ih_l1_reverse, theirs.weight_ih_l1_reverse)
    if bias and cell == "LSTM":
        assert torch.equal(normalized.bias_ih_l0, theirs.bias_ih_l0 + theirs.bias_hh_l0)
    wrong = nn.GRU if cell == "LSTM" else nn.LSTM
    with pytest.raises(TypeError, match=wrong.__name__):
        type(ours).from_torch(wrong(2, 2))


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize("cell", CELLS)
def test_single_steps(cell: str, bias: bool) -> None:
    theirs, ours = pair(cell, bias, single=True, dtype=DOUBLE)
    x, *states = (torch.randn(3, n, dtype=DOUBLE) for n in (INPUT, HIDDEN, HIDDEN))
    for hx in (None, tuple(states) if cell == "LSTM" else states[0]):
        torch.testing.assert_close(ours(x, hx), theirs(x, hx), rtol=0, atol=1e-12)
    torch.testing.assert_close(ours(x[0]), theirs(x[0]), rtol=0, atol=1e-12)
    if cell != "LSTM":
        assert_same(ours(x[0], states[0][0]), theirs(x[0], states[0][0]), "unbatched", 1e-12)


@pytest.mark.parametrize("packed", [False, True], ids=["dense", "packed"])
@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN-tanh"])
def test_the_same_seed_drops_the_same_entries(cell: str, packed: bool) -> None:
    """Between layers, in training alone."""
    theirs, ours = pair(cell, 3, dropout=0.5, bidirectional=True)
    x: Any = pack_padded_sequence(padded(), LENGTHS, enforce_sorted=False) if packed else padded()
    outputs = []
    for rnn in (theirs, ours, ours):
        torch.manual_seed(1 if len(outputs) < 2 else 2)
        output = rnn(x)[0]
        outputs.append(output.data if packed else output)
    assert_same(outputs[1], outputs[0], "output", 1e-6)
    assert not torch.equal(outputs[2], outputs[1])
    ours.eval()
    assert torch.equal(*(ours(x)[1][0] for _ in range(2)))


def test_packed_output_keeps_the_callers_order() -> None:
    x = pack_padded_sequence(padded(), LENGTHS, enforce_sorted=False)
    output, _ = rnnnorm.LSTM(INPUT, HIDDEN)(x)
    assert isinstance(output, PackedSequence)
    assert torch.equal(output.unsorted_indices, x.unsorted_indices)
    assert torch.equal(output.batch_sizes, x.batch_sizes)


@pytest.mark.parametrize("cell", ["GRU", "RNN-tanh", "RNN-relu"])
def test_errors_beside_those_of_the_lstm(cell: str) -> None:
    kind, own = CELLS[cell]
    make = getattr(rnnnorm, kind)
    rnn = make(INPUT, HIDDEN, 2, **own)
    with pytest.raises(ValueError, match=r"expected h_0 of shape \(2, 5, 6\), got \(1, 5, 6\)"):
        rnn(padded(), torch.zeros(1, 5, HIDDEN))
    with pytest.raises(ValueError, match="hx must be the tensor h_0, got tuple"):
        rnn(padded(), (torch.zeros(2, 5, HIDDEN), torch.zeros(2, 5, HIDDEN)))
    with pytest.raises(TypeError, match="proj_size"):
        make(2, 3, proj_size=1)
    with pytest.raises(ValueError, match="'torch' does not cover"):
        make(2, 2, norm="ln", backend="torch", **own)

"""GRU and RNN beside torch's: results, gradients, names; and what the cells make of the preset table."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from support import HIDDEN, INPUT, LENGTHS, PRESETS, assert_same, padded
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import rnnnorm

KINDS = ("packed", "padded", "dense", "dense-batch-first", "unbatched")
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
CELLS: dict[str, tuple[Callable[..., Any], Callable[..., Any], dict[str, Any]]] = {
    "GRU": (rnnnorm.GRU, nn.GRU, {}),
    "RNN-tanh": (rnnnorm.RNN, nn.RNN, {}),
    "RNN-relu": (rnnnorm.RNN, nn.RNN, {"nonlinearity": "relu"}),
}
SINGLE: dict[str, tuple[Callable[..., Any], Callable[..., Any], dict[str, Any]]] = {
    "GRU": (rnnnorm.GRUCell, nn.GRUCell, {}),
    "RNN-tanh": (rnnnorm.RNNCell, nn.RNNCell, {}),
    "RNN-relu": (rnnnorm.RNNCell, nn.RNNCell, {"nonlinearity": "relu"}),
}


def run(rnn: nn.Module, kind: str, x: Tensor, hx: Tensor | None) -> tuple[Tensor, Tensor]:
    """Output as (T, B, F), zeros in the padding, and the state; torch gets packed what ours gets padded."""
    if kind == "padded" and isinstance(rnn, rnnnorm.GRU | rnnnorm.RNN):
        return rnn(x, hx, lengths=LENGTHS)
    if kind in ("packed", "padded"):
        output, state = rnn(pack_padded_sequence(x, LENGTHS, enforce_sorted=False), hx)
        return pad_packed_sequence(output, total_length=x.shape[0])[0], state
    if kind == "dense-batch-first":
        rnn.batch_first = True
        output, state = rnn(x.transpose(0, 1), hx)
        return output.transpose(0, 1), state
    return rnn(x, hx)


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("cell", CELLS)
def test_outputs_states_and_gradients(cell: str, kind: str, dtype: torch.dtype, backend: str) -> None:
    make_ours, make_theirs, keys = CELLS[cell]
    for layers, bidirectional, given, bias in product((1, 2), (False, True), (False, True), (True, False)):
        options = {"num_layers": layers, "bias": bias, "bidirectional": bidirectional, "dtype": dtype, **keys}
        theirs, ours = make_theirs(INPUT, HIDDEN, **options), make_ours(INPUT, HIDDEN, backend=backend, **options)
        ours.load_state_dict(theirs.state_dict())
        x = padded(dtype=dtype)[:, 0] if kind == "unbatched" else padded(dtype=dtype)
        batch = () if kind == "unbatched" else (len(LENGTHS),)
        hx = [torch.randn(layers * (2 if bidirectional else 1), *batch, HIDDEN, dtype=dtype)] if given else []
        results = []
        for rnn in (theirs, ours):
            leaves = [t.clone().requires_grad_() for t in (x, *hx)]
            outputs = run(rnn, kind, leaves[0], leaves[1] if given else None)
            torch.manual_seed(1)
            sum((torch.randn_like(o) * o).sum() for o in outputs).backward()
            grads = {f"grad of {n}": p.grad for n, p in rnn.named_parameters()}
            grads |= {f"grad of leaf {i}": leaf.grad for i, leaf in enumerate(leaves)}
            results.append({"output": outputs[0], "h_n": outputs[1], **grads})
        assert results[0].keys() == results[1].keys()
        for name, expected in results[0].items():
            assert_same(results[1][name], expected, f"{name} ({layers=} {bidirectional=} {bias=})", TOLERANCE[dtype])


@pytest.mark.parametrize("cell", CELLS)
class TestBesideTorch:
    def test_state_dicts_go_both_ways(self, cell: str) -> None:
        make_ours, make_theirs, keys = CELLS[cell]
        theirs, ours = (make(INPUT, HIDDEN, 2, bidirectional=True, **keys) for make in (make_theirs, make_ours))
        shapes = [[(n, p.shape) for n, p in m.named_parameters()] for m in (ours, theirs)]
        assert shapes[0] == shapes[1]
        theirs.load_state_dict(ours.state_dict())
        x = padded()
        assert torch.allclose(ours(x)[0], theirs(x)[0], atol=1e-6)

    def test_the_same_seed_draws_the_same_weights(self, cell: str) -> None:
        weights = []
        for make in CELLS[cell][:2]:
            torch.manual_seed(3)
            weights.append(make(INPUT, HIDDEN, 2, bidirectional=True, **CELLS[cell][2]).state_dict())
        for name, value in weights[0].items():
            assert torch.equal(value, weights[1][name]), name

    @pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
    def test_from_torch(self, cell: str, bias: bool) -> None:
        make_ours, make_theirs, keys = CELLS[cell]
        theirs = make_theirs(INPUT, HIDDEN, 2, bias=bias, batch_first=True, dropout=0.3, bidirectional=True, **keys)
        theirs.eval()
        x = torch.randn(3, 5, INPUT)
        for norm in ("none", "wn"):  # weight normalization starts at the weights it is given
            ours = make_ours.from_torch(theirs, norm=norm)  # type: ignore[attr-defined]
            assert torch.allclose(ours(x)[0], theirs(x)[0], atol=1e-6), norm
            assert ours.dropout == 0.3
            assert not ours.training
        with pytest.raises(TypeError, match="LSTM"):
            make_ours.from_torch(nn.LSTM(2, 2))  # type: ignore[attr-defined]

    def test_single_step(self, cell: str) -> None:
        make_ours, make_theirs, keys = SINGLE[cell]
        for bias in (True, False):
            theirs = make_theirs(INPUT, HIDDEN, bias, dtype=torch.float64, **keys)
            ours = make_ours(INPUT, HIDDEN, bias, dtype=torch.float64, **keys)
            ours.load_state_dict(theirs.state_dict())
            x, h = torch.randn(3, INPUT, dtype=torch.float64), torch.randn(3, HIDDEN, dtype=torch.float64)
            assert_same(ours(x), theirs(x), "from zeros", 1e-12)
            assert_same(ours(x, h), theirs(x, h), "from h", 1e-12)
            assert_same(ours(x[0], h[0]), theirs(x[0], h[0]), "unbatched", 1e-12)

    def test_torch_backend_refuses_normalizers(self, cell: str) -> None:
        with pytest.raises(ValueError, match="'torch' does not cover"):
            CELLS[cell][0](2, 2, norm="ln", backend="torch", **CELLS[cell][2])

    def test_errors(self, cell: str) -> None:
        rnn = CELLS[cell][0](INPUT, HIDDEN, 2, **CELLS[cell][2])
        with pytest.raises(ValueError, match=r"expected h_0 of shape \(2, 5, 6\), got \(1, 5, 6\)"):
            rnn(padded(), torch.zeros(1, 5, HIDDEN))
        with pytest.raises(ValueError, match="hx must be the tensor h_0, got tuple"):
            rnn(padded(), (torch.zeros(2, 5, HIDDEN), torch.zeros(2, 5, HIDDEN)))
        with pytest.raises(TypeError, match="proj_size"):
            CELLS[cell][0](2, 3, proj_size=1)


@pytest.mark.parametrize("cell", [rnnnorm.GRU, rnnnorm.RNN], ids=["GRU", "RNN"])
class TestPresets:
    @pytest.mark.parametrize("norm", PRESETS)
    def test_a_preset_runs_or_says_why_not(self, cell: Any, norm: str) -> None:
        """Refused are those about the cell state alone; all others train, copy and load."""
        placement = rnnnorm.presets()[norm].norm
        derived = any(getattr(use.cls, "cells", None) is not None for use in placement.places.values())
        if placement.carried or set(placement.places) == {"cell"} or derived:
            with pytest.raises(ValueError, match=f"norm '{norm}'.* a {cell.__name__}"):
                cell(INPUT, 12, norm=norm)
            return
        rnn = cell(INPUT, 12, 2, bidirectional=True, norm=norm, max_steps=7)
        assert rnn.norms("_l0").cell is None
        rnn(padded(), lengths=LENGTHS)[0].square().sum().backward()
        for name, p in rnn.named_parameters():
            assert p.grad is not None, name
            assert p.grad.isfinite().all(), name
        rnn.eval()
        x = padded()
        for other in (copy.deepcopy(rnn), pickle.loads(pickle.dumps(rnn))):
            other.load_state_dict(rnn.state_dict())
            assert torch.equal(other(x, lengths=LENGTHS)[0], rnn(x, lengths=LENGTHS)[0])
        assert (f"norm={norm!r}" in repr(rnn)) == (norm != "none")

    @pytest.mark.parametrize("norm", ["ln-carried", "ln-cell-only"])
    def test_refusals(self, cell: Any, norm: str) -> None:
        with pytest.raises(ValueError, match=f"norm '{norm}' .*but a {cell.__name__} has no cell state"):
            cell(2, 3, norm=norm)

    def test_a_place_that_was_asked_for_is_not_dropped(self, cell: Any) -> None:
        with pytest.raises(ValueError, match=f"a {cell.__name__} has no cell state, so nothing can stand at `cell`"):
            cell(2, 3, norm=rnnnorm.Norm(input="ln", cell="ln"))

    def test_the_cell_norm_of_a_preset_is_dropped(self, cell: Any) -> None:
        rnn = cell(2, 3, norm="bn-timestep")
        assert list(rnn.norm.places) == ["input", "hidden"]
        assert rnn.norm.name == "bn-timestep"

    @pytest.mark.parametrize("norm", ["none", "bn-timestep", "ln"])
    def test_the_reverse_direction_counts_from_each_sequences_own_end(self, cell: Any, norm: str) -> None:
        both = cell(INPUT, HIDDEN, bidirectional=True, norm=norm, dtype=torch.float64)
        alone = cell(INPUT, HIDDEN, norm=norm, dtype=torch.float64)
        alone.load_state_dict({k.replace("_reverse", ""): v for k, v in both.state_dict().items() if "_reverse" in k})
        x = padded(dtype=torch.float64)
        turned = torch.zeros_like(x)
        for b, length in enumerate(LENGTHS.tolist()):
            turned[:length, b] = x[:length, b].flip(0)
        output, h_n = both(x, lengths=LENGTHS)
        reverse, h = alone(turned, lengths=LENGTHS)
        assert_same(h_n[1], h[0], "h_n", 1e-12)
        for b, length in enumerate(LENGTHS.tolist()):
            assert_same(output[:length, b, HIDDEN:], reverse[:length, b].flip(0), f"sequence {b}", 1e-12)

    def test_learned_state(self, cell: Any) -> None:
        rnn = cell(INPUT, HIDDEN, 2, initial_state="learned")
        assert [n for n, _ in rnn.named_parameters() if n.endswith("_0")] == ["h_0"]
        before = rnn(padded() * 0)[0]
        nn.init.normal_(rnn.h_0)
        assert not torch.allclose(rnn(padded() * 0)[0], before)

    @pytest.mark.parametrize("norm", ["wn:init=data"])
    def test_weight_norm_starts_from_data(self, cell: Any, norm: str) -> None:
        rnn = cell(INPUT, HIDDEN, 2, bidirectional=True, norm=norm)
        x = torch.randn(30, 20, INPUT)
        rnn.initialize_from_data(x)
        b = rnn.cell.split_biases(rnn.layer_weights("_l0"))[0]
        products = x.flatten(0, 1) @ rnn.weight_ih_l0.T
        candidate = slice(-HIDDEN, None)  # the input's share alone enters here in a GRU; in an RNN b has both shifts
        assert_same(products.std(0, unbiased=False), torch.ones(len(b)), "deviation", 1e-4)
        if cell is rnnnorm.GRU:
            assert_same((products + b)[:, candidate].mean(0), rnn_bias_offset(rnn), "mean", 1e-4)


def rnn_bias_offset(rnn: rnnnorm.GRU) -> Tensor:
    """What b_n was before: drawn as the pair's first half with the same seed."""
    torch.manual_seed(0)
    fresh = rnnnorm.GRU(INPUT, HIDDEN, 2, bidirectional=True, norm="wn")
    return fresh.bias_ih_l0[-HIDDEN:].detach()


@pytest.mark.parametrize("norm", ["none", "ln", "bn-timestep", "ln-sum", "bn-joint", "wn"])
@pytest.mark.parametrize("cell", SINGLE)
def test_single_steps_and_layers_are_the_same_equations(cell: str, norm: str) -> None:
    keys = {"norm": norm, "max_steps": 5, "dtype": torch.float64, **CELLS[cell][2]}
    layer, single = CELLS[cell][0](INPUT, HIDDEN, **keys), SINGLE[cell][0](INPUT, HIDDEN, **keys)
    single.load_state_dict({k.replace("_l0", ""): v for k, v in layer.state_dict().items()})
    x = torch.randn(5, 8, INPUT, dtype=torch.float64)
    output, _ = layer(x)
    h = None
    for t in range(5):
        h = single(x[t], h, step=t)
        assert_same(h, output[t], f"h at {t}", 1e-10)


@pytest.mark.parametrize("step", [1.5, "0", [1]])
@pytest.mark.parametrize("norm", ["none", "bn-timestep", "cmbn", "cbn"])
def test_a_step_that_is_no_integer(norm: str, step: Any) -> None:
    with pytest.raises(TypeError, match="step must be an integer, got"):
        rnnnorm.GRUCell(2, 3, norm=norm)(torch.randn(4, 2), step=step)

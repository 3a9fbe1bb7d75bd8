"""`torch.jit.trace`, TensorBoard's graphs, and what TorchScript's compiler is told."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from plain import randomize
from support import KINDS, WithLengths
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence
from torch.utils.tensorboard import SummaryWriter

import rnnnorm

T, B, INPUT, HIDDEN = 4, 3, 3, 5
LENGTHS, OTHER_LENGTHS = torch.tensor([4, 2, 1]), torch.tensor([2, 4, 1, 3, 2])
CELLS = [rnnnorm.LSTM, rnnnorm.GRU, rnnnorm.RNN]


def trained(cell: Any = rnnnorm.LSTM, norm: Any = "bn-timestep", **options: Any) -> Any:
    """A network with slots for three of four steps, in evaluation mode."""
    module = cell(INPUT, HIDDEN, norm=norm, max_steps=3, **options)
    randomize(module)
    with torch.no_grad():
        module(rows(6), lengths=torch.tensor([4, 4, 3, 2, 2, 1]))
    return module.eval()


def rows(batch: int = B) -> Tensor:
    return torch.randn(T, batch, INPUT) * 2 + 1


class Packing(WithLengths):
    """What code for torch does: packs, runs, pads."""

    def forward(self, x: Tensor, lengths: Tensor) -> Any:
        packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
        output, state = self.network(packed)
        return pad_packed_sequence(output, total_length=T)[0], state


def gradients(call: Any, module: nn.Module, *inputs: Any) -> list[Tensor]:
    outputs = call(*inputs)
    loss = outputs[0].square().sum() + sum(s.sin().sum() for s in torch.utils._pytree.tree_leaves(outputs[1]))
    return list(torch.autograd.grad(loss, list(module.parameters()), allow_unused=True))


@pytest.mark.parametrize("norm", KINDS)
def test_every_kind(norm: str) -> None:
    """Values and gradients, for other lengths and another number of sequences than those of the trace."""
    model = WithLengths(trained(norm=norm, num_layers=2, bidirectional=True)).eval()
    trace = torch.jit.trace(model, (rows(), LENGTHS))
    x = rows(5)
    torch.testing.assert_close(trace(x, OTHER_LENGTHS), model(x, OTHER_LENGTHS), rtol=1e-4, atol=1e-5)
    actual = gradients(trace, model, x, OTHER_LENGTHS)
    torch.testing.assert_close(actual, gradients(model, model, x, OTHER_LENGTHS), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("norm", ["none", "bn-timestep", "wn"])
def test_dense_batches(cell: Any, norm: str) -> None:
    module = trained(cell, norm)
    trace = torch.jit.trace(module, rows())
    for batch in (B, 1, 5):
        x = rows(batch)
        torch.testing.assert_close(trace(x), module(x))


@pytest.mark.parametrize("training", [False, True])
def test_given_states(training: bool) -> None:
    """Also in training, where nothing keeps statistics."""
    module = trained(norm="ln", num_layers=2).train(training)
    trace = torch.jit.trace(module, (rows(), (torch.randn(2, B, HIDDEN), torch.randn(2, B, HIDDEN))))
    inputs = rows(5), (torch.randn(2, 5, HIDDEN), torch.randn(2, 5, HIDDEN))
    torch.testing.assert_close(trace(*inputs), module(*inputs))
    torch.testing.assert_close(gradients(trace, module, *inputs), gradients(module, module, *inputs))


def test_dropout_is_drawn_anew() -> None:
    module, x = rnnnorm.LSTM(INPUT, HIDDEN, 2, dropout=0.5, variational_dropout=0.2), rows()
    trace = torch.jit.trace(module, x, check_trace=False)
    first, second = trace(x)[0], trace(x)[0]
    dropped = first == 0
    assert 0.05 < dropped.float().mean() < 0.5
    assert dropped.eq(dropped[0]).all()
    assert not torch.equal(first, second)


def test_what_stands_in_the_padding_is_not_read() -> None:
    model = WithLengths(trained(norm="ln", bidirectional=True)).eval()
    trace, x = torch.jit.trace(model, (rows(), LENGTHS)), rows()
    clean = x.clone()
    for b, length in enumerate(LENGTHS.tolist()):
        x[length:, b], clean[length:, b] = float("nan"), 0
    torch.testing.assert_close(trace(x, LENGTHS), model(clean, LENGTHS))
    assert trace(x, LENGTHS)[0][2:, 1].eq(0).all()
    torch.testing.assert_close(gradients(trace, model, x, LENGTHS), gradients(model, model, clean, LENGTHS))


def test_packed_sequences() -> None:
    """Where the longest sequence may be shorter, too."""
    model = Packing(trained(bidirectional=True)).eval()
    trace = torch.jit.trace(model, (rows(), LENGTHS))
    for lengths in (OTHER_LENGTHS, torch.tensor([3, 1, 2])):
        x = rows(len(lengths))
        torch.testing.assert_close(trace(x, lengths), model(x, lengths))


def test_a_packed_sequence_as_input() -> None:
    module = trained()
    packed = pack_padded_sequence(rows(), torch.tensor([1, 4, 2]), enforce_sorted=False)
    output, state = torch.jit.trace(module, (packed,))(packed)
    expected, expected_state = module(packed)
    torch.testing.assert_close(PackedSequence(*output).data, expected.data)
    torch.testing.assert_close(state, expected_state)


def test_statistics_are_those_of_the_state_dict() -> None:
    """Not only their values: also which slots know any."""
    one, other = (rnnnorm.LSTM(INPUT, HIDDEN, norm="bn-timestep", max_steps=4) for _ in range(2))
    with torch.no_grad():
        one(rows(9)[:2]), other(rows(9))
    one.eval(), other.eval()
    trace, x = torch.jit.trace(one, rows()), rows()
    assert not torch.allclose(trace(x)[0], other(x)[0])
    trace.load_state_dict(other.state_dict())
    torch.testing.assert_close(trace(x), other(x))


@pytest.mark.parametrize("cell", [rnnnorm.LSTMCell, rnnnorm.GRUCell, rnnnorm.RNNCell])
@pytest.mark.parametrize("norm", ["none", "ln", "wn"])
def test_single_cells(cell: Any, norm: str) -> None:
    module, x = cell(INPUT, HIDDEN, norm=norm).eval(), torch.randn(5, INPUT)
    state = module(torch.randn(5, INPUT))
    torch.testing.assert_close(torch.jit.trace(module, x[:2])(x), module(x))
    torch.testing.assert_close(torch.jit.trace(module, (x, state))(x, state), module(x, state))


def test_no_warning_that_could_be_meant_seriously() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", torch.jit.TracerWarning)
        torch.jit.trace(trained(bidirectional=True), (rows(), (torch.randn(2, B, HIDDEN),) * 2), check_trace=False)
        torch.jit.trace(rnnnorm.GRUCell(INPUT, HIDDEN, norm="ln"), torch.randn(B, INPUT), check_trace=False)


LOAD = """
import sys, torch
trace, x, expected = torch.jit.load(sys.argv[1]), *torch.load(sys.argv[2])
torch.testing.assert_close(trace(x), expected)
assert "rnnnorm" not in sys.modules
"""


def test_it_runs_without_the_package(tmp_path: Path) -> None:
    module, x = trained(norm="bn-star", bidirectional=True), rows()
    torch.jit.trace(module, rows()).save(tmp_path / "trace.pt")
    torch.save((x, module(x)), tmp_path / "expected.pt")
    arguments = [str(tmp_path / "trace.pt"), str(tmp_path / "expected.pt")]
    subprocess.run([sys.executable, "-c", LOAD, *arguments], check=True, cwd=tmp_path)


class TestRefused:
    def test_statistics_that_would_move(self) -> None:
        for module in (trained().train(), rnnnorm.RaggedBatchNorm(INPUT)):
            with pytest.raises(RuntimeError, match=r"cannot move statistics \(BatchNorm\): call model.eval\(\) first"):
                torch.jit.trace(module, rows())
        cell = rnnnorm.LSTMCell(INPUT, HIDDEN, norm="bn-shared")
        with pytest.raises(RuntimeError, match="cannot move statistics"):
            torch.jit.trace(cell, torch.randn(B, INPUT))

    def test_frozen_ones_do_not(self) -> None:
        module, x = rnnnorm.LSTM(INPUT, HIDDEN, norm="bn-frozen"), rows()
        torch.testing.assert_close(torch.jit.trace(module, rows())(x), module(x))

    def test_moments_of_ragged_batches(self) -> None:
        model = WithLengths(trained())
        with rnnnorm.statistics(model, "batch"), pytest.raises(RuntimeError, match="moments of ragged batches"):
            torch.jit.trace(model, (rows(), LENGTHS))

    def test_another_number_of_steps(self) -> None:
        with pytest.raises(RuntimeError, match="unflatten"):
            torch.jit.trace(trained(), rows())(torch.randn(T + 1, B, INPUT))

    @pytest.mark.parametrize("lengths", [[4, 5, 1], [0, 4, 1]])
    def test_lengths_at_the_trace(self, lengths: list[int]) -> None:
        with pytest.raises(ValueError, match=r"expected between 1 and 4"):
            torch.jit.trace(WithLengths(trained()), (rows(), torch.tensor(lengths)))

    def test_packed_sequences_that_contradict_themselves(self) -> None:
        """At the trace; what comes later only torch's own operators see."""
        packed = pack_padded_sequence(rows(), torch.tensor([1, 4, 2]), enforce_sorted=False)
        with pytest.raises(RuntimeError, match=r"batch_sizes\[2\] = 2 after 1, expected no increase"):
            torch.jit.trace(trained(), (PackedSequence(packed.data, packed.batch_sizes.flip(0), *packed[2:]),))

    @pytest.mark.parametrize(
        "module",
        [*(c(3, 4) for c in CELLS), rnnnorm.GRUCell(3, 4), rnnnorm.RaggedBatchNorm(3)],
        ids=lambda module: type(module).__name__,
    )
    def test_scripting(self, module: nn.Module) -> None:
        name = type(module).__name__
        for model in (module, nn.Sequential(nn.Linear(3, 3), module)):
            with pytest.raises(RuntimeError, match=f"^torch.jit.script cannot compile {name}: use torch.jit.trace"):
                torch.jit.script(model)


@pytest.mark.parametrize("norm", ["none", "bn-timestep", "wn"])
@pytest.mark.parametrize("cell", CELLS)
def test_a_graph_in_tensorboard(cell: Any, norm: str, tmp_path: Path) -> None:
    module = cell(INPUT, HIDDEN, 2, norm=norm)
    with SummaryWriter(str(tmp_path)) as writer:
        writer.add_graph(module, rows())
    assert module.training
    assert next(tmp_path.glob("events*")).stat().st_size > 5_000


def test_a_graph_of_a_single_cell(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        writer.add_graph(rnnnorm.LSTMCell(INPUT, HIDDEN, norm="bn-shared"), torch.randn(B, INPUT))
    assert next(tmp_path.glob("events*")).stat().st_size > 1_000

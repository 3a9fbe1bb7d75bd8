"""Both of torch's ONNX exporters, checked by onnxruntime against what the module computes eagerly."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from typing import Any

import onnx
import onnxruntime
import pytest
import torch
from plain import randomize
from support import KINDS, WithLengths
from torch import Tensor, nn
from torch.export import Dim
from torch.nn.utils.rnn import pack_padded_sequence

import rnnnorm

T, B, INPUT, HIDDEN = 3, 3, 3, 4
LENGTHS = torch.tensor([3, 2, 1])
OTHER_LENGTHS = torch.tensor([2, 1, 3, 1, 2])


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # both exporters warn of themselves
        yield


def trained(cell: Any = rnnnorm.LSTM, norm: Any = "bn-timestep", **options: Any) -> Any:
    """A network whose statistics, slots for two of three steps, have seen ragged batches; in evaluation mode."""
    module = cell(INPUT, HIDDEN, norm=norm, max_steps=2, **options)
    randomize(module)
    for name, parameter in module.named_parameters():
        if name in ("h_0", "c_0"):
            nn.init.normal_(parameter)
    with torch.no_grad():
        for _ in range(3):
            module(rows(6, module.batch_first), lengths=torch.tensor([3, 3, 3, 2, 2, 1]))
    return module.eval()


def rows(batch: int = B, batch_first: bool = False, steps: int = T) -> Tensor:
    x = torch.randn(steps, batch, INPUT) * 2 + 1
    return x.transpose(0, 1).contiguous() if batch_first else x


def flat(value: Any) -> list[Tensor]:
    return [value] if isinstance(value, Tensor) else [t for part in value for t in flat(part)]


def by_scripting(model: nn.Module, inputs: tuple[Any, ...], axes: tuple[dict[int, str], ...] = (), **keys: Any) -> Any:
    """A session of what the TorchScript-based exporter makes; `axes` are dynamic, by input."""
    names = [f"input_{k}" for k in range(len(flat(inputs)))]
    file = io.BytesIO()
    keys |= {"input_names": names, "dynamic_axes": dict(zip(names, axes, strict=False))}
    torch.onnx.export(model, inputs, file, dynamo=False, **keys)
    return session(onnx.load_from_string(file.getvalue()))


def by_dynamo(model: nn.Module, inputs: tuple[Any, ...], shapes: Any = None) -> Any:
    """A session of what the exporter over `torch.export` makes."""
    program = torch.onnx.export(model, inputs, dynamo=True, dynamic_shapes=shapes, verbose=False)
    assert program is not None
    return session(program.model_proto)


def session(model: Any) -> Any:
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} <= {""}
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def assert_agrees(session: Any, model: nn.Module, *inputs: Any) -> None:
    names = [entry.name for entry in session.get_inputs()]
    fed = {name: t.numpy() for name, t in zip(names, flat(inputs), strict=True)}
    with torch.no_grad():
        expected = flat(model(*inputs))
    for actual, right in zip(session.run(None, fed), expected, strict=True):
        torch.testing.assert_close(torch.from_numpy(actual), right, rtol=1e-4, atol=1e-5)


RAGGED_AXES = ({1: "batch"}, {0: "batch"})
FULL = {"num_layers": 2, "bidirectional": True}


@pytest.mark.parametrize("norm", KINDS)
def test_every_preset_on_ragged_batches(norm: str) -> None:
    """Other lengths and other numbers of sequences than those of the export, also by steps beyond `max_steps`."""
    model = WithLengths(trained(norm=norm, bidirectional=True)).eval()
    exported = by_scripting(model, (rows(), LENGTHS), RAGGED_AXES)
    assert_agrees(exported, model, rows(), torch.tensor([1, 3, 2]))
    assert_agrees(exported, model, rows(5), OTHER_LENGTHS)


@pytest.mark.parametrize("norm", ["none", "bn-vertical", "bn-timestep", "ln", "wn", "atn"])
@pytest.mark.parametrize("cell", [rnnnorm.LSTM, rnnnorm.GRU, rnnnorm.RNN])
def test_dense_batches(cell: Any, norm: str) -> None:
    module = trained(cell, norm, bidirectional=cell is rnnnorm.RNN)
    exported = by_scripting(module, (rows(),), ({1: "batch"},))
    for batch in (B, 1, 5):
        assert_agrees(exported, module, rows(batch))


OPTIONS: list[tuple[Any, Any, dict[str, Any]]] = [
    (rnnnorm.LSTM, "ln", {"proj_size": 2, **FULL}),
    (rnnnorm.LSTM, "bn-timestep:tail=pool", {"peepholes": True}),
    (rnnnorm.LSTM, "bn-window:window=2", {"initial_state": "learned", **FULL}),
    (rnnnorm.LSTM, "bn-timestep:mute=true:min_rows=9", {}),
    (rnnnorm.LSTM, "bn-shared", {"num_layers": 3, "residual": "fixup"}),
    (
        rnnnorm.LSTM,
        rnnnorm.Norm(hidden="ln", between="bn:statistics=timestep"),
        {"num_layers": 3, "residual": "plain", "between_on": "sum"},
    ),
    (rnnnorm.LSTM, rnnnorm.Norm(between="atn"), {"num_layers": 2}),
    (rnnnorm.LSTM, "bn-timestep", {"batch_first": True, **FULL}),
    (rnnnorm.LSTM, "none", {"zoneout": (0.2, 0.3), "dropout": 0.2, "weight_dropout": 0.2, "variational_dropout": 0.1}),
    (rnnnorm.GRU, "bn-joint", {"bias": False}),
    (rnnnorm.GRU, "online", {"zoneout": 0.2, "initial_state": "learned"}),
    (rnnnorm.RNN, "wn-mobn", {"nonlinearity": "identity"}),
]


@pytest.mark.parametrize(("cell", "norm", "options"), OPTIONS)
def test_options(cell: Any, norm: Any, options: dict[str, Any]) -> None:
    module = trained(cell, norm, **options)
    model, first = WithLengths(module).eval(), module.batch_first
    exported = by_scripting(model, (rows(B, first), LENGTHS), ({0 if first else 1: "batch"}, {0: "batch"}))
    assert_agrees(exported, model, rows(5, first), OTHER_LENGTHS)


@pytest.mark.parametrize("norm", ["none", "ln", "bn-timestep", "wn"])
def test_by_way_of_torch_export(norm: str) -> None:
    module = trained(norm=norm, bidirectional=norm == "bn-timestep")
    model, batch = WithLengths(module).eval(), Dim("batch")
    exported = by_dynamo(model, (rows(), LENGTHS), ({1: batch}, {0: batch}))
    assert_agrees(exported, model, rows(), torch.tensor([1, 3, 2]))
    assert_agrees(exported, model, rows(5), OTHER_LENGTHS)


@pytest.mark.parametrize(("cell", "norm"), [(rnnnorm.LSTM, "bn-timestep"), (rnnnorm.GRU, "ln")])
def test_an_open_number_of_steps(cell: Any, norm: str) -> None:
    model = WithLengths(trained(cell, norm)).eval()
    steps, batch = Dim("steps"), Dim("batch")
    exported = by_dynamo(model, (rows(), LENGTHS), ({0: steps, 1: batch}, {0: batch}))
    for T in (2, 3, 6):
        assert_agrees(exported, model, rows(5, steps=T), torch.tensor([1, 2, T, 1, 2]))


def test_an_open_number_of_steps_by_population_statistics() -> None:
    """They are no buffers, and `Scan` takes no constants."""
    model, steps = WithLengths(trained(num_layers=2)).eval(), Dim("steps")
    rnnnorm.recalibrate(model, [(rows(9), torch.tensor([3] * 5 + [2] * 4))], forward=lambda batch: model(*batch))
    with rnnnorm.statistics(model, "population"):
        exported = by_dynamo(model, (rows(), LENGTHS), ({0: steps}, None))
        for T in (2, 6):
            assert_agrees(exported, model, rows(steps=T), torch.tensor([1, 2, T]))
        by_population = model(rows(), LENGTHS)[0]
    assert not torch.allclose(by_population, model(rows(), LENGTHS)[0])
    normalizers = [module for module in model.modules() if hasattr(module, "population_mean")]
    assert all(type(module.population_mean) is Tensor for module in normalizers)


@pytest.mark.parametrize("norm", ["atn", "bn-timestep:tail=error"])
def test_an_open_number_of_steps_that_must_be_known(norm: str) -> None:
    module = rnnnorm.LSTM(INPUT, HIDDEN, norm=norm).eval()
    with pytest.raises(Exception, match="must know the number of steps"):
        by_dynamo(module, (rows(),), ({0: Dim("steps")},))


@pytest.mark.parametrize("export", [by_scripting, by_dynamo])
def test_given_states(export: Any) -> None:
    module = trained(norm="ln", num_layers=2)
    states = torch.randn(2, B, HIDDEN), torch.randn(2, B, HIDDEN)
    inputs = rows(), states
    assert_agrees(export(module, inputs), module, *inputs)


def test_population_statistics() -> None:
    module = trained()
    rnnnorm.recalibrate(module, [rows(40)])
    with rnnnorm.statistics(module, "population"):
        exported = by_scripting(module, (rows(),))
        assert_agrees(exported, module, rows())
    with pytest.raises(AssertionError, match="not close"):
        assert_agrees(exported, module, rows())


def test_one_sequence_without_a_batch() -> None:
    module = trained()
    x = rows()[:, 0]
    assert_agrees(by_scripting(module, (x,)), module, x)


def test_lengths_by_keyword() -> None:
    module = trained()
    exported = by_scripting(module, (rows(),), kwargs={"lengths": LENGTHS})
    assert_agrees(exported, WithLengths(module), rows(), torch.tensor([1, 3, 2]))


@pytest.mark.parametrize("cell", [rnnnorm.LSTMCell, rnnnorm.GRUCell, rnnnorm.RNNCell])
def test_single_cells(cell: Any) -> None:
    module = cell(INPUT, HIDDEN, norm="ln").eval()
    exported = by_scripting(module, (torch.randn(B, INPUT),), ({0: "batch"},))
    assert_agrees(exported, module, torch.randn(5, INPUT))


@pytest.mark.parametrize("statistics", ["sequence", "timestep"])
def test_ragged_batch_normalization(statistics: str) -> None:
    norm = rnnnorm.RaggedBatchNorm(INPUT, statistics=statistics, max_steps=2)
    norm(rows(9))
    model = WithLengths(norm).eval()
    exported = by_scripting(model, (rows(), LENGTHS), RAGGED_AXES)
    assert_agrees(exported, model, rows(5), OTHER_LENGTHS)


class TestRefused:
    def test_moments_of_ragged_batches(self) -> None:
        model = WithLengths(trained()).eval()
        for export in (by_scripting, by_dynamo):
            with rnnnorm.statistics(model, "batch"), pytest.raises(Exception, match="moments of ragged batches"):
                export(model, (rows(), LENGTHS))

    def test_moments_of_dense_batches_are_not(self) -> None:
        module = trained()
        with rnnnorm.statistics(module, "batch"):
            assert_agrees(by_scripting(module, (rows(),)), module, rows())

    def test_packed_sequences(self) -> None:
        class Packing(WithLengths):
            def forward(self, x: Tensor, lengths: Tensor) -> Any:
                return self.network(pack_padded_sequence(x, lengths))[1]

        with pytest.raises(RuntimeError, match=r"padded input and lengths="):
            by_scripting(Packing(trained()).eval(), (rows(), LENGTHS))

    def test_another_number_of_steps(self) -> None:
        """What was unrolled says so, instead of computing something else."""
        module = trained()
        exported = by_scripting(module, (rows(),), ({0: "steps", 1: "batch"},))
        with pytest.raises(Exception, match="reshape"):
            exported.run(None, {"input_0": rows(steps=7).numpy()})

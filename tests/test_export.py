"""`torch.export`: a program that holds weights and statistics, and runs where rnnnorm is imported."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import rnnnorm
from rnnnorm.nn import compiled, operator, skeleton

INPUT, HIDDEN = 4, 5
Dim = torch.export.Dim


def build(norm: str = "bn-timestep", **options: Any) -> Any:
    return rnnnorm.LSTM(INPUT, HIDDEN, norm=norm, **options)


def elsewhere(code: str, folder: Path) -> str:
    """What a process of its own prints that has built other networks before."""
    before = "import torch, rnnnorm\nfor _ in range(3): rnnnorm.LSTM(4, 5, norm='bn-timestep')\n"
    done = subprocess.run(
        [sys.executable, "-c", before + code], capture_output=True, text=True, cwd=folder, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("norm", ["none", "wn", "bn-timestep", "ln"])
def test_a_saved_program_runs_elsewhere(norm: str, tmp_path: Path) -> None:
    module = build(norm, num_layers=2, bidirectional=True)
    x = torch.randn(6, 3, INPUT)
    module(x)
    module.eval()
    torch.export.save(torch.export.export(module, (x,)), tmp_path / "program.pt2")
    torch.save((x, module(x)[0].detach()), tmp_path / "expected.pt")
    code = """
x, expected = torch.load("expected.pt")
print(torch.equal(torch.export.load("program.pt2").module()(x)[0], expected))
"""
    assert elsewhere(code, tmp_path) == "True"


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("norm", ["none", "bn-timestep", "wn"])
def test_other_weights(norm: str, strict: bool) -> None:
    """A program follows its state dict, which is a copy."""
    module, x = build(norm).eval(), torch.randn(6, 3, INPUT)
    program = copy.deepcopy(torch.export.export(module, (x,), strict=strict).module())
    torch.testing.assert_close(program(x), module(x))
    other = copy.deepcopy(module)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(2)
    program.load_state_dict({k: other.state_dict()[k] for k in program.state_dict()})
    torch.testing.assert_close(program(x), other(x))


def test_training_goes_on() -> None:
    """Gradients, masks and statistics of an exported network are those of the network."""
    module = build(num_layers=2, dropout=0.3, zoneout=0.1)
    plain, x = copy.deepcopy(module), torch.randn(6, 3, INPUT)
    program = torch.export.export(module, (x,)).module()
    for seed in (1, 2):
        for network in (program, plain):
            network.zero_grad()
            torch.manual_seed(seed)
            network(x)[0].square().sum().backward()
        for name, parameter in plain.named_parameters():
            torch.testing.assert_close(program.get_parameter(name).grad, parameter.grad)
        buffers = dict(program.named_buffers())
        for name, buffer in plain.named_buffers():
            torch.testing.assert_close(buffers[name], buffer)


def test_a_trained_program_is_saved(tmp_path: Path) -> None:
    module, x = build(dropout=0.0), torch.randn(6, 3, INPUT)
    torch.export.save(torch.export.export(module, (x,)), tmp_path / "program.pt2")
    program = torch.export.load(tmp_path / "program.pt2").module()
    torch.testing.assert_close(program(x), module(x))


def test_sizes_that_vary() -> None:
    module = build(batch_first=True).eval()
    B, T = Dim("B"), Dim("T")
    x, lengths = torch.randn(3, 6, INPUT), torch.tensor([6, 2, 4])
    y, further = torch.randn(7, 11, INPUT), torch.randint(1, 12, (7,))
    dense = torch.export.export(module, (x,), dynamic_shapes={"input": {0: B, 1: T}}).module()
    torch.testing.assert_close(dense(y), module(y))
    shapes = {"input": {0: B, 1: T}, "lengths": {0: B}}
    ragged = torch.export.export(module, (x,), {"lengths": lengths}, dynamic_shapes=shapes).module()
    torch.testing.assert_close(ragged(y, lengths=further), module(y, lengths=further))
    with pytest.raises(ValueError, match=r"lengths\[0\]"):
        ragged(y, lengths=torch.zeros(7, dtype=torch.int64))


def test_packed_rows() -> None:
    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = build("ln", bidirectional=True)

        def forward(self, data: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
            output, (h_n, _) = self.lstm(PackedSequence(data, sizes))
            return output.data, h_n

    model = Model().eval()
    first, second = (
        pack_padded_sequence(torch.randn(9, 4, INPUT), lengths) for lengths in ([9, 5, 2, 1], [9, 4, 4, 4])
    )
    N, T = Dim("N"), Dim("T")
    program = torch.export.export(model, tuple(first[:2]), dynamic_shapes={"data": {0: N}, "sizes": {0: T}}).module()
    torch.testing.assert_close(program(*second[:2]), model(*second[:2]))


def test_population_statistics_are_exported() -> None:
    module, x = build(), torch.randn(6, 8, INPUT)
    module(x)
    rnnnorm.recalibrate(module, [x, torch.randn(6, 8, INPUT)])
    module.eval()
    with rnnnorm.statistics(module, "population"):
        expected = module(x)
        program = torch.export.export(module, (x,)).module()
    torch.testing.assert_close(program(x), expected)


def test_what_cannot_be_exported_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"the backward pass of norms_l0.joint moves"):
        torch.export.export(build("online"), (torch.randn(6, 3, INPUT),))
    torch.export.export(build("online").eval(), (torch.randn(6, 3, INPUT),))


def test_a_class_that_is_not_there() -> None:
    """Says which; nothing is imported because a file asks for it."""
    module = build("ln")
    told = json.loads(module.architecture)
    told["network"] = "os.path.LSTM"
    settings = compiled.tell(module).settings
    with (
        pytest.raises(RuntimeError, match=r"os\.path\.LSTM, which this process has not imported"),
        skeleton.skeleton(json.dumps(told), settings, [], [], []),
    ):
        pass


def test_the_operator_keeps_its_promises() -> None:
    """Schema, fake results, gradients and compiled gradients, as torch checks them."""
    module = build("bn-timestep").double()
    now = compiled.tell(module)
    x = torch.randn(6, 3, INPUT, dtype=torch.float64, requires_grad=True)
    tensors = None, None, [], [], now.parameters, [b.clone() for b in now.buffers], now.constants
    for graph in (False, True):
        wanted = [graph] * (1 + len(now.parameters))
        arguments = module.architecture, now.settings, "", wanted, True, x.detach().requires_grad_(graph), *tensors
        checks = ["test_schema", "test_autograd_registration", "test_faketensor"]
        # A ticket is another number each time, so compiled results with one are never the same.
        checks += [] if graph else ["test_aot_dispatch_dynamic"]
        torch.library.opcheck(operator.run_network, arguments, test_utils=checks)


@pytest.mark.parametrize("text", ["__import__('os').abort()", "open('made', 'w')", "('LSTM', {'training': f'{1}'})"])
def test_settings_are_words_and_numbers(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a file says of a network is read, not run."""
    monkeypatch.chdir(tmp_path)
    module = build("none")
    with (
        pytest.raises(ValueError, match="malformed"),
        skeleton.skeleton(module.architecture, f"2000\n||{text}", [], [], []),
    ):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("made", ["with gradients", "without a graph", "frozen"])
def test_gradients_that_nobody_wanted_when_it_was_made(made: str) -> None:
    """Of inputs and parameters: a program is fine-tuned, or stands behind other layers."""
    module, x = build(num_layers=2, dropout=0.3, zoneout=0.1), torch.randn(6, 3, INPUT)
    plain = copy.deepcopy(module)
    module.requires_grad_(made != "frozen")
    with torch.set_grad_enabled(made != "without a graph"):
        program = torch.export.export(module, (x,)).module()
    program.requires_grad_(True)
    found = []
    for network in (program, plain):
        torch.manual_seed(1)
        entering = x.clone().requires_grad_()
        network(entering)[0].square().sum().backward()
        assert entering.grad is not None
        found.append({"input": entering.grad} | {name: p.grad for name, p in network.named_parameters()})
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("training", [False, True])
def test_inference_mode(training: bool) -> None:
    """A program that was made with gradients in mind runs where there are none, and leaves nothing behind."""
    module, x = build().train(training), torch.randn(6, 3, INPUT)
    plain, waiting = copy.deepcopy(module), len(operator._waiting)
    program = torch.export.export(module, (x,)).module()
    with torch.inference_mode():
        torch.testing.assert_close(program(x.clone()), plain(x))
    assert len(operator._waiting) == waiting
    buffers = dict(program.named_buffers())
    for name, buffer in plain.named_buffers():
        torch.testing.assert_close(buffers[name], buffer)

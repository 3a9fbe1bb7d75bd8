"""Residual stacks: the sum, what α is, who may skip, where the norm between layers stands."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from support import HIDDEN, LENGTHS, assert_same, packed
from torch import Tensor, nn

import rnnnorm

CELLS: dict[str, Any] = {"LSTM": rnnnorm.LSTM, "GRU": rnnnorm.GRU, "RNN": rnnnorm.RNN}
H = HIDDEN
DOUBLE = torch.float64


def branch(rnn: Any, layer: int, x: Any) -> Tensor:
    """One layer of a stack by itself, on packed rows."""
    alone = type(rnn)(x.data.shape[1], H, bidirectional=rnn.bidirectional, norm=rnn.norm.name, dtype=DOUBLE)
    values = {
        k.replace(f"_l{layer}", "_l0"): v
        for k, v in rnn.state_dict().items()
        if f"_l{layer}" in k and not k.startswith(("skip", "between"))
    }
    alone.load_state_dict(values)
    return alone(x)[0].data


@pytest.mark.parametrize("residual", ["plain", "skipinit", "fixup"])
@pytest.mark.parametrize("size", ["equal", "other"])
@pytest.mark.parametrize("cell", CELLS)
def test_written_out(cell: str, size: str, residual: str) -> None:
    I = 2 * H if size == "equal" else 3  # noqa: E741
    rnn = CELLS[cell](I, H, 3, bidirectional=True, norm="ln", residual=residual, dtype=DOUBLE)
    x = packed(LENGTHS, I, dtype=DOUBLE)
    for name, p in rnn.named_parameters():
        if name.startswith("skip"):
            nn.init.uniform_(p, 0.3, 0.9)
    data = x.data
    for layer in range(3):
        out = branch(rnn, layer, x._replace(data=data))
        if layer == 0 and size == "other":
            assert rnn.skip(0) is None
            data = out
            continue
        skip = rnn.skip(layer)
        alpha = 1.0 if skip.scale is None else skip.scale.item()
        data = data + alpha * out + (0.0 if skip.shift is None else skip.shift.item())
    assert_same(rnn(x)[0].data, data, "output", 1e-12)


@pytest.mark.parametrize("cell", CELLS)
def test_skipinit_starts_as_the_identity_and_learns(cell: str) -> None:
    rnn = CELLS[cell](H, H, 4, residual="skipinit")
    x = torch.randn(5, 3, H)
    output, _ = rnn(x)
    assert torch.equal(output, x)
    (output * torch.randn_like(output)).sum().backward()
    for layer in range(4):
        assert rnn.skip(layer).scale.grad.abs() > 0
    optimizer = torch.optim.SGD(rnn.parameters(), 0.1)
    optimizer.step()
    assert not torch.equal(rnn(x)[0], x)
    rnn.reset_parameters()
    assert torch.equal(rnn(x)[0], x)


@pytest.mark.parametrize(("scale", "expected"), [(None, 0.0), (1, 1.0), (0.25, 0.25), ("depth", 0.5)])
def test_initial_scale(scale: Any, expected: float) -> None:
    rnn = rnnnorm.LSTM(3, H, 5, residual="skipinit", residual_scale=scale)
    assert [rnn.skip(k).scale.item() for k in range(1, 5)] == [expected] * 4
    assert rnn.skip(0) is None


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
def test_fixup_scales_the_input_weights_of_the_branches_alone() -> None:
    rnns = []
    for residual in ("plain", "fixup"):
        torch.manual_seed(1)
        rnns.append(rnnnorm.LSTM(3, H, 5, residual=residual))
    plain, fixup = rnns
    assert torch.equal(fixup.weight_ih_l0, plain.weight_ih_l0)
    for k in range(1, 5):
        assert torch.allclose(getattr(fixup, f"weight_ih_l{k}"), getattr(plain, f"weight_ih_l{k}") / 2)
        assert torch.equal(getattr(fixup, f"weight_hh_l{k}"), getattr(plain, f"weight_hh_l{k}"))
        assert (fixup.skip(k).scale.item(), fixup.skip(k).shift.item()) == (1.0, 0.0)
    projected = rnnnorm.LSTM(2, H, 3, proj_size=2, residual="fixup")
    assert not projected.weight_hr_l1.any()
    x = torch.randn(5, 3, 2)
    assert torch.equal(projected(x)[0], x)


def test_fixup_keeps_a_deep_stack_from_growing() -> None:
    sizes = {}
    for residual in ("plain", "fixup"):
        torch.manual_seed(2)
        rnn = rnnnorm.RNN(20, 20, 64, "identity", residual=residual, init="orthogonal")
        for k in range(64):
            nn.init.zeros_(getattr(rnn, f"weight_hh_l{k}"))  # depth alone
        sizes[residual] = rnn(torch.randn(2, 50, 20))[0].std().item()
    assert sizes["plain"] > 1e3
    assert sizes["fixup"] < 4


@pytest.mark.parametrize("on", ["branch", "sum"])
def test_the_norm_between_layers_stands_on_the_branch_or_on_the_sum(on: str) -> None:
    rnn = rnnnorm.LSTM(H, H, 2, norm=rnnnorm.Norm(between="bn"), residual="plain", between_on=on, dtype=DOUBLE)
    seen: dict[str, Tensor] = {}
    rnn.between(0).register_forward_hook(lambda m, args, y: seen.update(before=args[0], after=y))
    x = packed(LENGTHS, H, dtype=DOUBLE)
    inside: list[Tensor] = []
    run = rnn.run_layer

    def watch(data: Tensor, *args: Any, **keys: Any) -> Any:
        inside.append(data)
        return run(data, *args, **keys)

    rnn.run_layer = watch
    rnn(x)
    out = rnn.run_direction(x.data, x.batch_sizes, rnn.zero_states(x.data, len(LENGTHS)), "_l0")[0]
    assert_same(seen["before"], out if on == "branch" else x.data + out, "what is normalized", 1e-12)
    assert_same(inside[1], x.data + seen["after"] if on == "branch" else seen["after"], "what is handed on", 1e-12)


@pytest.mark.parametrize("residual", ["plain", "skipinit", "fixup"])
def test_copies(residual: str) -> None:
    rnn = rnnnorm.LSTM(3, H, 3, norm="wn", residual=residual, residual_scale=None).eval()
    x = torch.randn(4, 2, 3)
    for other in (copy.deepcopy(rnn), pickle.loads(pickle.dumps(rnn))):
        assert torch.equal(other(x)[0], rnn(x)[0])
    assert f"residual={residual!r}" in repr(rnn)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"residual": "highway"}, "residual must be one of none, plain, skipinit, fixup, got 'highway'"),
        ({"residual": "plain", "num_layers": 1}, "turns 3 features into 6"),
        ({"residual": "plain", "residual_scale": 0.5}, 'residual_scale=0.5 needs residual="skipinit" or "fixup"'),
        ({"residual_scale": 0.5}, "residual_scale=0.5 needs"),
        ({"residual": "skipinit", "residual_scale": "deep"}, "must be a number or \"depth\" .*got 'deep'"),
        ({"between_on": "both"}, "between_on must be one of branch, sum, got 'both'"),
    ],
    ids=str,
)
def test_errors(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        rnnnorm.LSTM(**{"input_size": 3, "hidden_size": H, "num_layers": 2, **keys})

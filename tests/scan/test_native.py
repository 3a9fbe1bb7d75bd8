"""The compiled scan against the reference: values and every gradient."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from scan.native_cases import (
    COVERED,
    INPUT,
    LENGTHS,
    Poison,
    assert_as_reference,
    assert_near,
    build,
    data,
    distance,
    needs_library,
    run,
    states,
    twin,
)
from torch import Tensor, nn
from torch.nn.utils import parametrize

import rnnnorm

pytestmark = needs_library
NETWORKS = {  # layers, directions, states given
    "1-layer": (1, 1, False),
    "2-layers-hx": (2, 1, True),
    "both-hx": (1, 2, True),
    "2-layers-both": (2, 2, False),
}


@pytest.fixture(autouse=True)
def poison(monkeypatch: pytest.MonkeyPatch) -> Iterator[Poison]:
    poison = Poison(monkeypatch, guarded=True)
    yield poison
    poison.check()


@pytest.fixture
def threads() -> Iterator[None]:
    """A test may change the number of threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_memory_is_poisoned(poison: Poison) -> None:
    """Otherwise the tests of this file would show less than they claim."""
    like = torch.zeros(2)
    assert all(t.isnan().all() for t in (torch.empty(3), torch.empty_like(like), like.new_empty(4)))
    run(build("ln"), data((3, 3)))
    assert poison.blocks >= 3  # what is kept, and workspace of forward and of backward


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("shape", LENGTHS)
@pytest.mark.parametrize("norm", COVERED)
def test_float64(norm: str, shape: str, network: str) -> None:
    """A training batch, and one in evaluation by the statistics that it has moved."""
    lengths, (layers, directions, given) = LENGTHS[shape], NETWORKS[network]
    lstm = build(norm, num_layers=layers, bidirectional=directions == 2, max_steps=6)
    for training in (True, False):
        hx = states(lstm, len(lengths)) if given else None
        assert_as_reference(lstm.train(training), data(lengths), hx, lengths if shape == "ragged" else None)


@pytest.mark.parametrize(("shape", "network"), [("ragged", "both-hx"), ("dense", "2-layers-both")])
@pytest.mark.parametrize("norm", COVERED)
def test_float32(norm: str, shape: str, network: str) -> None:
    """As near to double precision as 1e-5, or as a few times the error of the reference itself."""
    lengths, (layers, directions, given) = LENGTHS[shape], NETWORKS[network]
    lstm = build(norm, 40, num_layers=layers, bidirectional=directions == 2, max_steps=6, dtype=torch.float32)
    x, hx = data(lengths), states(lstm, len(lengths)) if given else None
    args = (x, hx, lengths if shape == "ragged" else None)
    exact, rounded = run(twin(lstm, dtype=torch.float64), *args), run(twin(lstm), *args)
    actual = run(lstm, *args)
    assert lstm.ran == "native"
    allowed = {name: max(1e-5, 3 * distance(rounded[name], exact[name])) for name in exact}
    assert_near(actual, {name: value.to(rounded[name].dtype) for name, value in exact.items()}, allowed)


SIZES: dict[str, tuple[int, int, tuple[int, ...]]] = {  # features, H, lengths
    "all-ones": (1, 1, (1,)),
    "one-sequence": (3, 5, (6,)),
    "one-step": (3, 5, (1, 1, 1)),
    "one-unit": (2, 1, (4, 4, 3, 1)),
    "one-feature": (1, 9, (5, 4, 4, 2)),
    "one-row-tail": (3, 6, (9, 4, 3, 3)),
    "whole-vectors": (16, 32, (4, 3, 3, 3, 2)),
    "many-features": (75, 7, (4, 4, 3, 1)),
    "more-rows-than-a-chunk": (4, 6, (3,) * 150 + (2,) * 100 + (1,) * 50),
    "chunks-of-many-steps": (4, 6, (300, 300)),
    "every-length": (3, 7, tuple(range(1, 25))),
    "rows-at-the-edge-of-a-chunk": (3, 4, (3,) * 128),
    "as-many-columns-as-have-kernels": (8, 40, (3,) * 100),
    "one-column-more": (9, 56, (3,) * 100),
    "half-a-panel": (5, 100, (3, 3, 2)),
    "deeper-than-a-piece": (520, 24, (2,) * 30),
}


@pytest.mark.parametrize("norm", ["none", "ln", "ln-carried", "gn", "bn-timestep", "bn-star"])
@pytest.mark.parametrize("size", SIZES)
def test_sizes(norm: str, size: str) -> None:
    features, hidden, lengths = SIZES[size]
    lstm = build(norm, hidden, features, max_steps=8)
    if norm == "bn-star" and features > 4 * hidden:
        pytest.skip("more features than gates: nothing is folded")
    assert_as_reference(lstm, data(lengths, features), states(lstm, len(lengths)), lengths)


@pytest.mark.parametrize("norm", ["ln", "ln-carried", "bn-timestep", "none"])
def test_without_bias(norm: str) -> None:
    lstm = build(norm, bias=False)
    assert_as_reference(lstm, data(LENGTHS["ragged"]), None, LENGTHS["ragged"])


@pytest.mark.parametrize("bias", [True, False], ids=["b", "no-b"])
@pytest.mark.parametrize("norm", ["ln", "gn", "ln-sum", "bn-timestep", "bn-joint", "bn-vertical", "bn-star"])
def test_biases_behind_the_normalizers_of_the_gates(norm: str, bias: bool) -> None:
    lstm = build(f"{norm}:bias=true", bias=bias)
    assert_as_reference(lstm, data(LENGTHS["ragged"]), states(lstm, 10), LENGTHS["ragged"])


WORK: dict[str, tuple[str | rnnnorm.Norm, int, int, int]] = {  # norm, H, B, T
    "elements-by-row": ("ln", 21, 13, 5),
    "carried-by-row": ("ln-carried", 21, 13, 5),
    "plain-by-row": ("none", 21, 13, 5),
    "elements-by-column": ("bn-timestep", 37, 13, 5),
    "columns-of-few-rows": ("none", 37, 3, 5),
    "columns-of-large-weights": ("none", 300, 13, 2),
    "products-by-column": ("ln", 400, 5, 2),
    "products-by-column-carried": ("ln-carried", 300, 14, 3),
    "fewer-columns-than-threads": ("bn-timestep", 3, 13, 5),
}


@pytest.mark.parametrize("work", WORK)
def test_threads_share_the_work(work: str, threads: None) -> None:
    """Any number of them finds the same up to rounding; the same number exactly the same."""
    norm, hidden, rows, steps = WORK[work]
    lengths = [steps] * (rows // 2) + [max(1, steps - 1)] * (rows - rows // 2)
    lstm = build(norm, hidden)
    x, hx = data(lengths), states(lstm, rows)
    expected = run(twin(lstm), x, hx, lengths)
    found = {}
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        found[count] = run(twin(lstm, "native"), x, hx, lengths)
        again = run(twin(lstm, "native"), x, hx, lengths)
        assert_near(found[count], expected)
        assert_near(found[count], found[1], 1e-12)
        for name, value in again.items():
            assert torch.equal(value, found[count][name]), f"{name} differs from run to run with {count} threads"


class Transposed(nn.Module):
    """Stores a matrix by columns."""

    def forward(self, stored: Tensor) -> Tensor:
        return stored.t()

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight.t().contiguous()


@pytest.mark.parametrize("norm", ["none", "ln", "bn-timestep", "bn-vertical"])
@pytest.mark.parametrize("layout", ["batch-first", "strided-input", "transposed-weights", "expanded-states"])
def test_memory_layouts(layout: str, norm: str) -> None:
    lstm = build(norm, bidirectional=True, batch_first=layout == "batch-first")
    x, hx = data(LENGTHS["ragged"]), states(lstm, 10)
    if layout == "batch-first":
        x = x.transpose(0, 1)
    elif layout == "strided-input":
        x = data(LENGTHS["ragged"], 2 * INPUT)[:, :, ::2]
    elif layout == "expanded-states":
        hx = tuple(state[:, :1].expand(-1, 10, -1) for state in hx)
    else:
        for name in ("weight_ih_l0", "weight_hh_l0"):
            parametrize.register_parametrization(lstm, name, Transposed())
        assert not lstm.weight_hh_l0.is_contiguous()
    assert_as_reference(lstm, x, hx, LENGTHS["ragged"])


@pytest.mark.parametrize("norm", ["ln", "bn-timestep"])
def test_learned_states(norm: str) -> None:
    lstm = build(norm, initial_state="learned")
    assert_as_reference(lstm, data(LENGTHS["ragged"]), None, LENGTHS["ragged"])


@pytest.mark.parametrize("norm", ["none", "ln", "ln-sum", "bn-timestep", "bn-star"])
@pytest.mark.parametrize("outputs", [("output",), ("h_n",), ("c_n",), ("output", "c_n")], ids="-".join)
def test_a_part_of_the_outputs(outputs: tuple[str, ...], norm: str) -> None:
    lstm = build(norm)
    assert_as_reference(lstm, data(LENGTHS["ragged"]), states(lstm, 10), LENGTHS["ragged"], outputs=outputs)


FROZEN = {
    "input-weights": ("weight_ih",),
    "recurrent-weights": ("weight_hh",),
    "weights": ("weight_ih", "weight_hh"),
    "bias": ("bias_ih", "bias_hh"),
    "affine": (".gain", ".bias"),
    "one-gain": ("hidden.gain",),
    "all-but-bias": ("weight", ".gain", ".bias"),
    "everything": ("",),
}


@pytest.mark.parametrize("norm", ["none", "ln", "bn-timestep", "bn-vertical"])
@pytest.mark.parametrize("seen", [True, False], ids=["input-wants", "input-does-not"])
@pytest.mark.parametrize("frozen", FROZEN)
def test_frozen_parameters(frozen: str, seen: bool, norm: str) -> None:
    """What needs no gradient gets none, and the others get theirs."""
    lstm = build(norm)
    for name, parameter in lstm.named_parameters():
        parameter.requires_grad_(not any(part in name for part in FROZEN[frozen]))
    assert_as_reference(lstm, data(LENGTHS["ragged"]), states(lstm, 10), LENGTHS["ragged"], seen=seen)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf, 1e100], ids=["nan", "inf", "-inf", "huge"])
@pytest.mark.parametrize("norm", ["none", "ln", "ln-carried", "rms"])
def test_one_bad_sequence_does_not_spread(norm: str, value: float) -> None:
    """Rows are independent here: NaN stands where the reference has it, and the others are untouched."""
    lstm, x = build(norm), data((5,) * 9)
    x[2, 4] = value
    with torch.no_grad():
        expected, (actual, _) = twin(lstm)(x)[0], lstm(x)
    good = torch.arange(9) != 4
    assert distance(actual[:, good], expected[:, good]) < 1e-10
    assert torch.equal(actual.isnan(), expected.isnan())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_nonlinearities_over_their_whole_range(dtype: torch.dtype) -> None:
    """One unit whose gates are the inputs themselves: saturation, tiny values, and where the polynomial changes."""
    lstm = build("none", 4, 4, dtype=dtype)
    with torch.no_grad():
        for name, parameter in lstm.named_parameters():
            parameter.zero_()
            if name.startswith("weight_ih"):
                parameter.copy_(torch.eye(4, dtype=dtype).repeat(4, 1))
    ends = torch.logspace(-30, 4, 60, dtype=torch.float64)
    x = torch.cat([-ends, torch.linspace(-12, 12, 80, dtype=torch.float64), ends]).view(1, -1, 1).expand(-1, -1, 4)
    expected, actual = run(twin(lstm, dtype=torch.float64), x), run(lstm, x)
    rounded = x.to(dtype).double()
    a, n = rounded.sigmoid(), rounded.tanh()
    assert distance(actual["c_n"], a * n) < 8 * torch.finfo(dtype).eps
    relative = (actual["c_n"] / (a * n) - 1).abs()[(a * n).abs() > 1e-30]
    assert relative.max() < 16 * torch.finfo(dtype).eps
    assert_near(actual, {n: v.to(dtype) for n, v in expected.items()}, 1e-5 if dtype == torch.float32 else 1e-10)

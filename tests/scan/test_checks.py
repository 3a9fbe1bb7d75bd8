"""What compiled code is given: shapes, types and memory that it does not expect never reach it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from scan.native_cases import BY_COLUMN, COVERED, assert_near, build, data, needs_library, run, twin
from torch import Tensor, nn

import rnnnorm
from rnnnorm.common.transforms import plain
from rnnnorm.equations import Layer
from rnnnorm.nn.inputs import InputError
from rnnnorm.norms import step_statistics
from rnnnorm.scan import BACKENDS
from rnnnorm.scan.checks import address
from rnnnorm.scan.native import run as native_run

H, F = 5, 4
Place = Callable[[rnnnorm.LSTM], nn.Parameter]


def outcome(lstm: Any, x: Tensor, hx: Any = None) -> dict[str, Tensor] | type[Exception]:
    """Outputs and gradients, or the kind of error."""
    try:
        return run(lstm, x, hx)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        return type(error)


def assert_same_outcome(lstm: Any, x: Tensor, hx: Any = None) -> None:
    """By whatever backend is chosen: the values of the reference, or an error where it has one."""
    expected, actual = outcome(twin(lstm), x, hx), outcome(lstm, x, hx)
    assert isinstance(actual, dict) == isinstance(expected, dict), (actual, expected)
    if isinstance(actual, dict):
        assert isinstance(expected, dict)
        assert_near(actual, expected, 1e-9)


WEIGHTS = {
    "weight_ih_l0": [(1,), (4 * H,), (4 * H, F + 3), (4 * H, 1), (8 * H, F), (1, F), (F, 4 * H), (0, F), (4 * H, F, 1)],
    "weight_hh_l0": [(1,), (160, 40), (4 * H, 1), (4 * H, H + 1), (8 * H, H), (H, H), (0, 0), (4 * H, H, 1), ()],
    "bias_ih_l0": [(1,), (4 * H - 1,), (4 * H + 1,), (8 * H,), (1, 4 * H), (0,), ()],
}
SHAPES = [(name, shape) for name, shapes in WEIGHTS.items() for shape in shapes]


@pytest.mark.parametrize("norm", ["none", "ln", "ln-sum", "bn-timestep", "bn-star"])
@pytest.mark.parametrize(("name", "shape"), SHAPES, ids=lambda value: str(value).replace(" ", ""))
@pytest.mark.parametrize("cell", [rnnnorm.LSTM, rnnnorm.GRU, rnnnorm.RNN])
def test_weights_of_another_shape(cell: Any, name: str, shape: tuple[int, ...], norm: str) -> None:
    """As the reference: that broadcasts, or says what does not fit. Torch's own operators read out of bounds, too."""
    network = cell(F, H, norm=norm, dtype=torch.float64)
    setattr(network, name, nn.Parameter(torch.randn(shape, dtype=torch.float64)))
    assert_same_outcome(network, data((6,) * 3, F))


AFFINE: dict[str, Callable[[Any], tuple[Any, str]]] = {
    "hidden-gain": lambda norms: (norms.hidden, "gain"),
    "input-gain": lambda norms: (norms.input, "gain"),
    "cell-gain": lambda norms: (norms.cell, "gain"),
    "cell-bias": lambda norms: (norms.cell, "bias"),
}


@needs_library
@pytest.mark.parametrize("norm", ["ln", "gn", "rms", "bn-timestep", "bn-star"])
@pytest.mark.parametrize("which", AFFINE)
@pytest.mark.parametrize("shape", [(1,), (5,), (19,), (21,), (20, 1), (), (0,)])
def test_gains_and_biases_of_another_shape(shape: tuple[int, ...], which: str, norm: str) -> None:
    """A gain of one number scales all features; others are errors. A gain of the very shape is what runs compiled."""
    lstm = rnnnorm.LSTM(F, H, norm=norm, dtype=torch.float64)
    owner, name = AFFINE[which](lstm.norms("_l0"))
    if getattr(owner, name, None) is None:
        pytest.skip("there is none")
    fits = getattr(owner, name).shape == shape
    setattr(owner, name, nn.Parameter(torch.randn(shape, dtype=torch.float64)))
    x = data((6,) * 3, F)
    assert_same_outcome(lstm, x)
    if fits:
        assert lstm.ran == "native"


def expand(t: Tensor) -> Tensor:
    return t.detach()[:1].expand_as(t)


KINDS: dict[str, Callable[[Tensor], Tensor]] = {
    "expanded": expand,
    "strided": lambda t: torch.stack([t.detach()] * 2, -1)[..., 0],
    "transposed": lambda t: t.detach().t().contiguous().t(),
    "negated": lambda t: torch._neg_view(t.detach()),
    "conjugated": lambda t: torch.complex(t.detach(), t.detach()).conj().imag,
    "zero": lambda t: torch._efficientzerotensor(t.shape, dtype=t.dtype),
    "sparse": lambda t: t.detach().to_sparse(),
    "half": lambda t: t.detach().half(),
    "complex": lambda t: t.detach().to(torch.complex128),
    "integers": lambda t: t.detach().long(),
    "meta": lambda t: t.detach().to("meta"),
    "single": lambda t: t.detach().float(),
}


@needs_library
@pytest.mark.parametrize("norm", ["none", "ln", "bn-timestep"])
@pytest.mark.parametrize("name", ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "x", "h_0", "c_0"])
@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_tensors(kind: str, name: str, norm: str) -> None:
    """Parameters need not be dense, nor of the type of the input."""
    lstm = build(norm, H, F, backend="auto")
    given = {
        "x": data((6,) * 3, F),
        **dict(zip(("h_0", "c_0"), (torch.randn(1, 3, H).double() for _ in "hc"), strict=True)),
    }
    if kind == "transposed" and name == "bias_ih_l0":
        pytest.skip("a vector")
    if kind == "zero" and name not in given:
        pytest.skip("no such parameter can be copied")
    with torch.no_grad():
        if name in given:
            if kind == "transposed":
                pytest.skip("three dimensions")
            given[name] = KINDS[kind](given[name])
        else:
            value = KINDS[kind](getattr(lstm, name))
            del lstm._parameters[name]
            setattr(lstm, name, value)
    networks = [lstm, twin(lstm)]
    found = []
    for network in networks:
        try:
            with torch.no_grad():
                found.append(network(given["x"], (given["h_0"], given["c_0"]))[0])
        except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
            found.append(type(error))
    actual, expected = found
    if isinstance(expected, Tensor):
        assert isinstance(actual, Tensor)
        assert actual.device == expected.device
        torch.testing.assert_close(actual, expected)
    else:
        assert not isinstance(actual, Tensor)


@pytest.mark.parametrize("cell", [rnnnorm.LSTM, rnnnorm.GRU, rnnnorm.RNN])
@pytest.mark.parametrize("norm", ["none", "ln", "bn-timestep"])
def test_weights_without_values(norm: str, cell: Any) -> None:
    """A product of numbers and none is garbage in torch."""
    network = cell(F, H, norm=norm, device="meta")
    with pytest.raises(
        InputError, match="weights are on the meta device, but the input is on cpu: make them by to_empty"
    ):
        network(torch.randn(6, 3, F))


class Sub(Tensor):
    """A subclass that torch's functions return, too."""


@pytest.mark.parametrize("norm", ["none", "ln"])
def test_subclasses_stay_what_they_are(norm: str) -> None:
    lstm = rnnnorm.LSTM(F, H, norm=norm)
    x = torch.randn(6, 3, F)
    output, _ = lstm(x.as_subclass(Sub))
    assert type(output) is type(torch.nn.LSTM(F, H)(x.as_subclass(Sub))[0]) is Sub
    torch.testing.assert_close(output.as_subclass(Tensor), lstm(x)[0])


def test_plain() -> None:
    x = torch.randn(3)
    with torch.inference_mode():
        made = torch.randn(3)
    assert all(map(plain, (x, x[1:], nn.Parameter(x), made, x.requires_grad_())))
    others = [torch._neg_view(x), x.as_subclass(Sub), x.to("meta"), x.to_sparse(), torch._efficientzerotensor(3)]
    assert not any(map(plain, others))
    assert not plain(x, "cuda")


# Between forward and backward.


def shorter(p: nn.Parameter) -> None:
    p.data = torch.zeros(1, dtype=p.dtype)


def other_type(p: nn.Parameter) -> None:
    p.data = p.data.float()


def freed(p: nn.Parameter) -> None:
    p.untyped_storage().resize_(0)


PARAMETERS: dict[str, Place] = {
    "W_ih": lambda lstm: lstm.weight_ih_l0,
    "W_hh": lambda lstm: lstm.weight_hh_l0,
    "hidden gain": lambda lstm: lstm.norms("_l0").hidden.gain,
    "cell bias": lambda lstm: lstm.norms("_l0").cell.bias,
}


@needs_library
@pytest.mark.parametrize("change", [shorter, other_type, freed])
@pytest.mark.parametrize("which", PARAMETERS)
@pytest.mark.parametrize("norm", ["ln", "bn-timestep"])
def test_memory_that_changes_before_backward(norm: str, which: str, change: Callable[[nn.Parameter], None]) -> None:
    """By ways that autograd does not see; torch's own operators would read freed memory."""
    lstm = build(norm, H, F)
    output = lstm(data((6,) * 3, F))[0].sum()
    assert lstm.ran == "native"
    change(PARAMETERS[which](lstm))
    with pytest.raises(InputError, match=r"^(W_.h|gain at hidden|bias at cell): expected contiguous torch.float64"):
        output.backward()


@needs_library
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("norm", BY_COLUMN)
@pytest.mark.parametrize("shape", [(1,), (0, 20), (100, 3), (100, 40), (7,)])
def test_statistics_of_another_shape(shape: tuple[int, ...], norm: str, training: bool) -> None:
    """An error, or by chance a value; never a read out of bounds."""
    lstm = rnnnorm.LSTM(F, H, norm=norm, dtype=torch.float64, max_steps=6).train(training)
    for stats in step_statistics(lstm):
        stats.running_mean, stats.running_var = torch.zeros(shape), torch.ones(shape)
    lengths = torch.tensor([6, 6, 2, 1])
    for network in (lstm, twin(lstm)):
        try:
            output, _ = network(data((6,) * 4, F), lengths=lengths)
            output.sum().backward()
        except (RuntimeError, ValueError, IndexError):
            continue
        assert output.isfinite().all()


def layer_of(lstm: rnnnorm.LSTM) -> Layer:
    return lstm.ready_layer("_l0", torch.zeros(1))


@needs_library
@pytest.mark.parametrize("name", ["native", "torch", "triton"])
def test_states_and_sizes_that_reach_a_scan_by_another_way(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`run` and scans are called without the border, too."""
    lstm = rnnnorm.LSTM(F, H)
    layer, scan = layer_of(lstm), BACKENDS[name].scan
    if name == "triton":
        pytest.importorskip("triton")
        from rnnnorm.scan.triton.run import scan
    x, sizes, fitting = torch.randn(6, F), torch.tensor([3, 2, 1]), torch.zeros(3, H)
    for states in [
        (torch.zeros(2, H), fitting),
        (fitting, torch.zeros(2, H)),
        (torch.zeros(3, H + 4), fitting),
        (fitting, torch.zeros(1, H)),
        (torch.zeros(H), fitting),
    ]:
        with pytest.raises(InputError, match=r"expected [hc]_0 of shape \(3, 5\), got"):
            scan(layer, x, sizes, states)
    if name != "torch":  # which checks that by itself
        for wrong in ([1, 2, 3], [3, 3, 3], [3, 2], [6, 0], [3000] * 6):
            with pytest.raises(InputError, match="batch_sizes"):
                scan(layer, x, torch.tensor(wrong), (torch.zeros(wrong[0], H),) * 2)


def test_address() -> None:
    x = torch.randn(3, 4)
    assert address("x", x, (3, 4), torch.float32) == x.data_ptr()
    expected = r"expected contiguous torch.float32 of shape \(3, 4\) in the CPU's memory"
    with pytest.raises(InputError, match=rf"^x: {expected}, got torch.float32 of shape \(4, 3\) on cpu$"):
        address("x", x.t(), (3, 4), torch.float32)
    for other in (x.double(), x[:, :1].expand(3, 4), x.t().contiguous().t(), torch._neg_view(x), x.to("meta")):
        with pytest.raises(InputError, match=expected):
            address("x", other, (3, 4), torch.float32)
    with pytest.raises(InputError, match=r"^gain at cell: expected contiguous torch.float64"):
        address("gain", x, (3, 4), torch.float64, "cell")
    x.untyped_storage().resize_(0)
    with pytest.raises(InputError, match=f"^x: {expected}, .* on cpu without memory$"):
        address("x", x, (3, 4), torch.float32)


@needs_library
@pytest.mark.parametrize("norm", COVERED)
def test_every_pointer_is_checked(norm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not allocated by the scan itself goes through `address`, forward and backward."""
    seen: set[tuple[str, str]] = set()

    def recorded(name: str, tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype, place: str = "") -> int:
        seen.add((name, place))
        return address(name, tensor, shape, dtype, place)

    monkeypatch.setattr(native_run, "address", recorded)
    lstm = build(norm, H, F, max_steps=6)
    output, (h_n, c_n) = lstm(data((6, 6, 1, 1), F), lengths=torch.tensor([6, 5, 1, 1]))
    assert lstm.ran == "native"
    read = {(name, "") for name in ("x", "h_0", "c_0", "W_ih", "W_hh", "bias", "out")}
    norms = lstm.norms("_l0")
    for place in ("input", "hidden", "joint", "cell"):
        norm_there = getattr(norms, place)
        if norm_there is not None and not (place == "input" and getattr(norm_there, "sequence_wise", False)):
            read |= {("gain", place)} | ({("bias", place)} if norm_there.bias is not None else set())
            # The last step has one row.
            if norm in BY_COLUMN and not isinstance(norm_there, rnnnorm.norms.LayerNorm):
                read |= {("given_mean", place), ("given_var", place)}
    assert seen == read | {("h_n", ""), ("c_n", "")}
    seen.clear()
    (output.sum() + h_n.sum() + c_n.sum()).backward()
    assert seen == read | {(name, "") for name in ("d_out", "d_h_n", "d_c_n", "what forward kept")}


@needs_library
def test_a_size_of_nothing() -> None:
    """No rows, no features: not for compiled code."""
    lstm = rnnnorm.LSTM(F, H)
    layer = layer_of(lstm)
    assert BACKENDS["native"].ready(layer, torch.randn(6, F))
    for shape in [(0, F), (6, 0), (6, F + 1), (F,), (6, F, 1)]:
        assert not BACKENDS["native"].ready(layer, torch.zeros(shape))
        assert not BACKENDS["torch"].ready(layer, torch.zeros(shape))


@pytest.mark.parametrize(
    ("norm", "training"), [("none", True), ("ln", False), ("bn-timestep", True), ("bn-star", False)]
)
def test_no_sequences(norm: str, training: bool) -> None:
    """Steps without any row: states without any come out, and no gradient is missing."""
    lstm = rnnnorm.LSTM(F, H, norm=norm, num_layers=2, bidirectional=True).train(training)
    x = torch.zeros(0, F, requires_grad=True)
    output, states = lstm.run(x, torch.zeros(6, dtype=torch.int64), (torch.zeros(4, 0, H),) * 2)
    assert lstm.ran == "reference"
    assert output.shape == (0, 2 * H)
    assert all(state.shape == (4, 0, H) for state in states)
    assert torch.autograd.grad(output.sum(), x)[0].shape == (0, F)

"""The Triton scan against the reference; under Triton's interpreter where there is no GPU."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor

import rnnnorm
from rnnnorm.equations import Layer
from rnnnorm.norms import step_statistics
from rnnnorm.scan.reference import scan_reference
from rnnnorm.scan.triton import check, launches, ready, scan_triton, supports
from rnnnorm.scan.triton.graphs import Recorder
from rnnnorm.scan.triton.launches import Tiling

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
pytestmark = pytest.mark.skipif(
    find_spec("triton") is None or not (INTERPRETED or torch.cuda.is_available()),
    reason="needs Triton, and a GPU or TRITON_INTERPRET=1",
)
DEVICE = "cpu" if INTERPRETED else "cuda"
INPUT, HIDDEN = 3, 5
SHAPES = {"ragged": (5, 4, 4, 2, 1, 1), "dense": (3, 3, 3), "one-step": (3,), "one-sequence": (1, 1)}
MIXED = rnnnorm.Norm(input="bn:statistics=sequence", hidden="ln")
NORMS: dict[str, str | rnnnorm.Norm] = {
    name: name
    for name in [
        *("none", "wn", "ln", "ln-carried", "ln-sum", "ln-cell-only", "ln-per-gate", "rms", "gn"),
        *(
            "bn-vertical",
            "bn-vertical-framewise",
            "bn-star",
            "bn-joint",
            "bn-frozen",
            "bn-shared",
            "bn-window:window=2",
        ),
        *("bn-timestep", "bn-timestep:max_steps=2", "bn-timestep:max_steps=2:tail=pool", "bn-timestep:momentum=none"),
        *("bn-star:by_rows=true:mute=true", "bn-timestep:debias=true:mute=true:max_steps=2:tail=pool"),
    ]
} | {
    "bn-sequence-and-ln": MIXED,
    "bn-carried": rnnnorm.Norm(cell="bn:statistics=timestep", carried=True),
}
COLUMNS = [name for name in NORMS if name.startswith("bn") and "vertical" not in name]
Scan = Callable[..., tuple[Tensor, tuple[Tensor, ...]]]


def build(norm: str, dtype: torch.dtype = torch.float64, **options: Any) -> rnnnorm.LSTM:
    """A layer whose parameters and stored statistics are all away from their initial values."""
    torch.manual_seed(3)
    options |= {"norm": NORMS.get(norm, norm), "backend": "reference", "dtype": torch.float64}
    lstm = rnnnorm.LSTM(INPUT, options.pop("hidden", HIDDEN), **options)
    with torch.no_grad():
        for parameter in lstm.parameters():
            parameter.add_(0.4 * torch.randn_like(parameter))
        for statistics in step_statistics(lstm):
            statistics.running_mean.normal_(0, 0.3)
            statistics.running_var.uniform_(0.5, 2)
            for added in (statistics.total_weight, statistics.running_still):
                if added is not None:
                    added.uniform_()
            statistics.num_rows.random_(0, 3)
    return lstm.to(DEVICE, dtype)


def inputs(sizes: tuple[int, ...], dtype: torch.dtype, hidden: int = HIDDEN) -> tuple[Tensor, ...]:
    torch.manual_seed(4)
    shapes = (sum(sizes), INPUT), (sizes[0], hidden), (sizes[0], hidden)
    return tuple(torch.randn(shape, dtype=torch.float64).to(DEVICE, dtype).requires_grad_() for shape in shapes)


def run(
    scan: Scan, lstm: rnnnorm.LSTM, sizes: tuple[int, ...], dtype: torch.dtype = torch.float64
) -> dict[str, Tensor]:
    """Outputs, the gradient of a random function of them by every leaf, and the buffers afterwards, by name."""
    data, h_0, c_0 = inputs(sizes, dtype, lstm.hidden_size)
    layer = Layer(lstm.cell, lstm.layer_weights("_l0"), lstm.norms("_l0"))
    assert supports(layer.cell, layer.norms, layer.noise)
    assert ready(layer, data)
    rows, (h_n, c_n) = scan(layer, data, torch.tensor(sizes), (h_0, c_0))
    results = {"rows": rows, "h_n": h_n, "c_n": c_n}
    if not torch.is_grad_enabled():
        return results
    torch.manual_seed(5)
    leaves = {"data": data, "h_0": h_0, "c_0": c_0, **dict(lstm.named_parameters())}
    weights = [torch.randn(y.shape, dtype=torch.float64).to(y) for y in results.values()]
    grads = torch.autograd.grad(list(results.values()), list(leaves.values()), weights, allow_unused=True)
    results |= {f"grad of {n}": g for n, g in zip(leaves, grads, strict=True) if g is not None}
    return results | {name: buffer.clone() for name, buffer in lstm.named_buffers()}


def distance(actual: Tensor, expected: Tensor) -> float:
    """Relative error, root mean square."""
    actual, expected = actual.detach().double(), expected.detach().double()
    return float((actual - expected).norm() / expected.norm().clamp(min=1e-12))


def assert_close(actual: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float | dict[str, float]) -> None:
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert actual[name].shape == value.shape, name
        assert actual[name].dtype == value.dtype, name
        allowed = tolerance[name] if isinstance(tolerance, dict) else tolerance
        assert distance(actual[name], value) <= allowed, f"{name}: {distance(actual[name], value):.2g}"


@pytest.mark.parametrize(("shape", "training"), [("ragged", True), ("dense", False)], ids=["train", "eval"])
@pytest.mark.parametrize("norm", NORMS)
def test_values_gradients_and_statistics(norm: str, shape: str, training: bool) -> None:
    expected, actual = (run(scan, build(norm).train(training), SHAPES[shape]) for scan in (scan_reference, scan_triton))
    assert_close(actual, expected, 1e-10)


@pytest.mark.parametrize("shape", ["one-step", "one-sequence"])
@pytest.mark.parametrize("norm", ["none", "ln", "bn-timestep", "bn-joint", "bn-vertical-framewise"])
def test_small_batches(norm: str, shape: str) -> None:
    expected, actual = (run(scan, build(norm), SHAPES[shape]) for scan in (scan_reference, scan_triton))
    assert_close(actual, expected, 1e-10)


@pytest.mark.parametrize("norm", ["none", "ln", "ln-sum", "bn-timestep", "bn-joint", "bn-star"])
def test_single_precision(norm: str) -> None:
    """As near to double precision as the reference is, or nearer than 5e-5: a sum's order makes 1e-5 of a gain."""
    lstm = build(norm)
    exact = run(scan_reference, lstm, SHAPES["ragged"])
    rounded, actual = (
        run(scan, build(norm, torch.float32), SHAPES["ragged"], torch.float32) for scan in (scan_reference, scan_triton)
    )
    allowed = {name: max(5e-5, 3 * distance(rounded[name], exact[name])) for name in exact}
    assert_close(actual, {name: value.to(rounded[name].dtype) for name, value in exact.items()}, allowed)


@pytest.mark.parametrize(
    ("norm", "half", "autocast"),
    [
        *(("ln", half, autocast) for half in (torch.bfloat16, torch.float16) for autocast in (False, True)),
        *((norm, torch.bfloat16, True) for norm in ("none", "bn-timestep")),
        *((norm, torch.float16, False) for norm in ("none", "bn-timestep")),
    ],
)
def test_half_precision(norm: str, half: torch.dtype, autocast: bool) -> None:
    """Types as in the reference, and not farther from double precision than a few roundings."""
    dtype = torch.float32 if autocast else half
    exact = run(scan_reference, build(norm), SHAPES["dense"])
    with torch.autocast(DEVICE, half, enabled=autocast):
        rounded, actual = (
            run(scan, build(norm, dtype), SHAPES["dense"], dtype) for scan in (scan_reference, scan_triton)
        )
    roundings = 8 * torch.finfo(half).eps
    allowed = {name: max(roundings, 3 * distance(rounded[name], exact[name])) for name in exact}
    assert_close(actual, {name: value.to(rounded[name].dtype) for name, value in exact.items()}, allowed)


@pytest.fixture(params=["several-programs", "library-product"])
def other_tiling(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Tiling]]:
    """Tilings that small layers do not get: programs that share a step, and products outside the kernel."""
    from rnnnorm.scan.triton import run as module

    chosen = []

    def choose(rows: int, hidden: int, by_row: bool, by_column: bool, can_multiply: bool) -> Tiling:
        high = 8 if by_column else 2
        several = Tiling(high, 8 if by_row else 2, 4, product=not by_row, whole=False)
        library = Tiling(high, 8 if by_row else 4, 4, product=False, whole=False)
        chosen.append(several if request.param == "several-programs" else library)
        return chosen[-1]

    if not INTERPRETED:
        pytest.skip("tiles that are too small for a GPU")
    monkeypatch.setattr(module, "choose_tiling", choose)
    yield chosen
    assert chosen


@pytest.mark.parametrize("norm", ["none", "ln", "gn", "ln-carried", "bn-timestep", "bn-joint", "bn-carried"])
def test_tilings_agree(norm: str, other_tiling: list[Tiling]) -> None:
    expected, actual = (run(scan, build(norm), SHAPES["ragged"]) for scan in (scan_reference, scan_triton))
    assert_close(actual, expected, 1e-10)


@pytest.mark.parametrize("norm", ["none", "ln", "bn-timestep", "bn-joint", "ln-carried"])
def test_recorded_launches(norm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first pass runs as it comes, the second one is recorded, and later ones repeat it with other numbers."""
    from rnnnorm.scan.triton import recurrence

    monkeypatch.setenv(launches.MODE_VARIABLE, "graph")
    monkeypatch.setattr(recurrence, "RECORDER", Recorder())
    ours, reference = build(norm), build(norm)
    for _ in range(4):
        with torch.no_grad():
            for lstm in (ours, reference):
                lstm.weight_hh_l0.mul_(0.7)
        assert_close(run(scan_triton, ours, SHAPES["dense"]), run(scan_reference, reference, SHAPES["dense"]), 1e-10)
    assert len(recurrence.RECORDER._recorded) == 2  # forward and backward


@pytest.mark.parametrize("norm", ["none", "bn-timestep", "bn-joint"])
def test_one_launch_whose_programs_wait_for_each_other(norm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter runs programs one after the other, so there it is a single one that waits for itself."""
    from rnnnorm.scan.triton import run as module

    dtype, hidden, tolerance = torch.float32, 200, 1e-4
    if INTERPRETED:
        dtype, hidden, tolerance = torch.float64, HIDDEN, 1e-10
        monkeypatch.setattr(module, "choose_tiling", lambda *_: Tiling(8, 8, 4, product=True, whole=False))
    monkeypatch.setenv(launches.MODE_VARIABLE, "persistent")
    expected, actual = (
        run(scan, build(norm, dtype, hidden=hidden), SHAPES["ragged"], dtype) for scan in (scan_reference, scan_triton)
    )
    assert_close(actual, expected, tolerance)


@pytest.mark.usefixtures("other_tiling")
def test_half_precision_with_the_products_of_the_library() -> None:
    with torch.autocast(DEVICE, torch.bfloat16):
        expected, actual = (
            run(scan, build("ln", torch.float32), SHAPES["dense"], torch.float32)
            for scan in (scan_reference, scan_triton)
        )
    assert_close(actual, expected, 0.05)


def test_more_rows_or_units_than_a_tile_holds_go_through_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launches, "MAX_ROWS", 2)
    expected, actual = (run(scan, build("bn-timestep"), SHAPES["dense"]) for scan in (scan_reference, scan_triton))
    assert all(torch.equal(actual[name], expected[name]) for name in expected)


@pytest.mark.parametrize("norm", COLUMNS)
def test_population_statistics(norm: str) -> None:
    """Gathered at every step, and used afterwards."""
    found = []
    for scan in (scan_reference, scan_triton):
        lstm = build(norm)
        forward = lambda sizes, s=scan, m=lstm: run(s, m, sizes)  # type: ignore[misc]  # noqa: E731
        rnnnorm.recalibrate(lstm, SHAPES.values(), forward, way="pooled")  # a scan is no network that could be rerun
        with rnnnorm.statistics(lstm, "population"):
            found.append(run(scan, lstm.eval(), SHAPES["ragged"]))
        with rnnnorm.statistics(lstm, "batch"):
            found[-1] |= {f"batch {n}": v for n, v in run(scan, lstm, SHAPES["ragged"]).items()}
    assert_close(found[1], found[0], 1e-9)


def test_too_long_a_sequence_is_the_same_error() -> None:
    lstm = build("bn-timestep:max_steps=2:tail=error")
    with pytest.raises(ValueError, match=r"raise max_steps, or choose tail"):
        run(scan_triton, lstm, SHAPES["dense"])


@pytest.mark.parametrize("norm", ["none", "ln-sum", "bn-timestep", "bn-vertical-framewise", "ln-carried"])
def test_nothing_uninitialised_is_read(norm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = run(scan_reference, build(norm), SHAPES["ragged"])

    def poisoned(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def fill(*args: Any, **keys: Any) -> Tensor:
            tensor = original(*args, **keys)
            return tensor.fill_(torch.nan) if tensor.is_floating_point() else tensor.fill_(-(2**31))

        return fill

    lstm = build(norm)
    for owner, name in ((torch, "empty"), (torch, "empty_like"), (Tensor, "new_empty")):
        monkeypatch.setattr(owner, name, poisoned(getattr(owner, name)))
    actual = run(scan_triton, lstm, SHAPES["ragged"])
    assert_close(actual, expected, 1e-10)


@pytest.mark.parametrize("norm", ["ln", "bn-timestep"])
def test_two_runs_are_equal(norm: str) -> None:
    one, other = (run(scan_triton, build(norm, torch.float32), SHAPES["ragged"], torch.float32) for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)


def scanned(norm: str) -> tuple[rnnnorm.LSTM, Tensor, Tensor]:
    lstm = build(norm)
    data, h_0, c_0 = inputs(SHAPES["ragged"], torch.float64)
    layer = Layer(lstm.cell, lstm.layer_weights("_l0"), lstm.norms("_l0"))
    rows, _ = scan_triton(layer, data, torch.tensor(SHAPES["ragged"]), (h_0, c_0))
    return lstm, data, rows


@pytest.mark.parametrize("norm", ["none", "ln", "bn-timestep", "bn-vertical-framewise"])
def test_a_second_backward_pass_through_the_same_graph(norm: str) -> None:
    lstm, data, rows = scanned(norm)
    leaves = [data, *(p for p in lstm.parameters() if p.requires_grad)]
    first = torch.autograd.grad(rows.sum(), leaves, retain_graph=True, allow_unused=True)
    second = torch.autograd.grad(rows.sum(), leaves, allow_unused=True)
    assert all(a is b is None or torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("norm", ["ln", "bn-vertical-framewise"])
def test_second_derivatives_are_a_clear_error(norm: str) -> None:
    _, data, rows = scanned(norm)
    with pytest.raises(RuntimeError, match="backend='reference'"):
        torch.autograd.grad(rows.sum(), data, create_graph=True)


def test_the_output_may_be_changed_in_place() -> None:
    _, data, rows = scanned("ln")
    (expected,) = torch.autograd.grad(2 * rows.sum(), data, retain_graph=True)
    (actual,) = torch.autograd.grad(rows.mul_(2).sum(), data)
    assert torch.equal(actual, expected)


@pytest.mark.parametrize("norm", ["none", "ln", "bn-timestep"])
def test_only_what_is_asked_for_gets_a_gradient(norm: str) -> None:
    lstm = build(norm)
    lstm.weight_hh_l0.requires_grad_(False)
    results = run_partly(lstm)
    assert results["weight_ih_l0"] is not None
    assert results["weight_hh_l0"] is None


def run_partly(lstm: rnnnorm.LSTM) -> dict[str, Tensor | None]:
    data, h_0, c_0 = (x.detach() for x in inputs(SHAPES["dense"], torch.float64))
    layer = Layer(lstm.cell, lstm.layer_weights("_l0"), lstm.norms("_l0"))
    rows, _ = scan_triton(layer, data, torch.tensor(SHAPES["dense"]), (h_0, c_0))
    rows.sum().backward()
    return {name: p.grad for name, p in lstm.named_parameters()}


def test_without_gradients() -> None:
    with torch.inference_mode():
        _, _, rows = scanned("bn-timestep")
    _, data, expected = scanned("bn-timestep")
    assert torch.equal(rows, expected)
    expected.sum().backward()  # what the first run has kept is no obstacle
    assert data.grad is not None


def test_checkpointing_moves_running_statistics_once() -> None:
    from torch.utils.checkpoint import checkpoint

    found = []
    for use in (False, True):
        lstm = build("bn-timestep")
        data, h_0, c_0 = inputs(SHAPES["dense"], torch.float64)

        def forward(data: Tensor, lstm: rnnnorm.LSTM = lstm, states: Any = (h_0, c_0)) -> Tensor:
            layer = Layer(lstm.cell, lstm.layer_weights("_l0"), lstm.norms("_l0"))
            return scan_triton(layer, data, torch.tensor(SHAPES["dense"]), states)[0]

        rows = checkpoint(forward, data, use_reentrant=False) if use else forward(data)
        rows.sum().backward()
        found.append({"data": data.grad, **{n: b.clone() for n, b in lstm.named_buffers()}})
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_tanh_is_accurate_near_zero_too() -> None:
    """Through the cell: with open gates h_1 = tanh(c_0), whatever its size."""
    values = torch.logspace(-12, 2, 57, dtype=torch.float64, device=DEVICE)
    c_0 = torch.cat([-values, values]).unsqueeze(0)
    H = c_0.shape[1]
    lstm = rnnnorm.LSTM(1, H, dtype=torch.float64, device=DEVICE, backend="reference")
    with torch.no_grad():
        for parameter in lstm.parameters():
            parameter.zero_()
        lstm.bias_ih_l0[: 4 * H] = torch.tensor([-100.0, 100, 0, 100], device=DEVICE).repeat_interleave(H)
    layer = Layer(lstm.cell, lstm.layer_weights("_l0"), lstm.norms("_l0"))
    data = torch.zeros(1, 1, dtype=torch.float64, device=DEVICE)
    rows, _ = scan_triton(layer, data, torch.tensor([1]), (torch.zeros_like(c_0), c_0))
    assert ((rows - c_0.tanh()).abs() <= 1e-14 * c_0.tanh().abs()).all()


class TestTrust:
    """Kernels are used on a device after they have agreed there with the reference."""

    @staticmethod
    def trusted(monkeypatch: pytest.MonkeyPatch, change: Callable[[Tensor], Tensor] | None = None) -> bool:
        """Ask anew, with what the kernels return changed."""
        from rnnnorm.scan.triton import run as triton_run  # needs Triton, which this file can do without

        if change is not None:
            real = triton_run.scan

            def scan(*arguments: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
                rows, states = real(*arguments)
                return change(rows), states

            monkeypatch.setattr(triton_run, "scan", scan)
        return check.trusted.__wrapped__(torch.device(DEVICE))

    def test_right_kernels(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.trusted(monkeypatch)

    def test_wrong_values(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.warns(UserWarning, match="does not use its Triton kernels on .*differ from the reference by 1"):
            assert not self.trusted(monkeypatch, lambda rows: rows * 1.01)

    def test_wrong_gradients(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.warns(UserWarning, match="differ"):
            assert not self.trusted(monkeypatch, lambda rows: rows + 0.1 * (rows - rows.detach()))

    def test_nan(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.warns(UserWarning, match="nan"):
            assert not self.trusted(monkeypatch, lambda rows: rows * float("nan"))

    def test_a_compiler_that_fails(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(rows: Tensor) -> Tensor:
            raise OSError("no ptxas")

        with pytest.warns(UserWarning, match="OSError: no ptxas"):
            assert not self.trusted(monkeypatch, fail)

    def test_it_asks_in_any_mode_and_leaves_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        before = torch.get_float32_matmul_precision(), torch.random.get_rng_state()
        with torch.inference_mode():
            assert self.trusted(monkeypatch)
        assert torch.get_float32_matmul_precision() == before[0]
        assert torch.equal(torch.random.get_rng_state(), before[1])

"""What of the Triton scan needs neither a GPU nor its interpreter: choices, recordings, compilation for a target."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import rnnnorm
from rnnnorm.equations import Layer
from rnnnorm.scan.plan import make_plan
from rnnnorm.scan.triton import launches, ready, scan_triton
from rnnnorm.scan.triton.graphs import Recorder, Tensors

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="needs Triton")
not_interpreted = pytest.mark.skipif(INTERPRETED, reason="the interpreter is on")


def layer_of(norm: str | rnnnorm.Norm, hidden: int = 4, **options: Any) -> Layer:
    lstm = rnnnorm.LSTM(3, hidden, norm=norm, backend="reference", **options)
    return Layer(lstm.cell, lstm.layer_weights("_l0"), lstm.norms("_l0"))


@needs_triton
@not_interpreted
def test_everything_under_the_interpreter() -> None:
    """So that a machine with Triton covers the kernels in an ordinary test run."""
    file = Path(__file__).with_name("test_triton.py")
    command = [sys.executable, "-m", "pytest", str(file), "-p", "no:cacheprovider"]
    done = subprocess.run(command, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


@not_interpreted
def test_data_on_the_cpu_is_not_ready_and_says_why() -> None:
    layer, data = layer_of("ln"), torch.randn(2, 3)
    assert not ready(layer, data)
    with pytest.raises(RuntimeError, match="on a GPU"):
        scan_triton(layer, data, torch.tensor([2]), (torch.zeros(2, 4), torch.zeros(2, 4)))


DIFFERENT = rnnnorm.Norm(hidden="bn:statistics=timestep", cell="bn:statistics=timestep:min_rows=3")


@pytest.mark.parametrize(
    "options", [{"norm": "ln", "proj_size": 2}, {"norm": DIFFERENT}], ids=["projection", "min-rows"]
)
def test_what_it_does_not_run_is_not_ready_and_says_why(options: dict[str, Any]) -> None:
    layer, data = layer_of(**options), torch.randn(2, 3)
    assert not ready(layer, data)
    with pytest.raises(RuntimeError, match="no projection"):
        scan_triton(layer, data, torch.tensor([2]), (torch.zeros(2, 2), torch.zeros(2, 4)))


def test_other_types_are_not_ready() -> None:
    assert not ready(layer_of("none"), torch.zeros(2, 3, dtype=torch.int64))


@pytest.mark.parametrize("can_multiply", [True, False])
@pytest.mark.parametrize("kind", ["row", "column", "none"])
@pytest.mark.parametrize("hidden", [1, 16, 100, 256, 1000, 8192])
@pytest.mark.parametrize("rows", [1, 32, 64, 300, 4096])
def test_a_tile_holds_what_moments_are_taken_over(rows: int, hidden: int, kind: str, can_multiply: bool) -> None:
    tiling = launches.choose_tiling(rows, hidden, kind == "row", kind == "column", can_multiply)
    by_units, by_rows = tiling.grid(rows, hidden)
    assert tiling.units * by_units >= hidden
    assert tiling.rows * by_rows >= rows
    assert kind != "row" or by_units == 1
    assert kind != "column" or by_rows == 1
    assert not tiling.product or (can_multiply and tiling.rows >= 16 and tiling.units >= 16)
    # All steps in one launch: no program may wait for units that another one owns.
    assert not tiling.whole or (tiling.product and by_units == 1)
    assert tiling.warps in (4, 8, 16)
    assert launches.fits(rows, hidden, kind == "row", kind == "column")


def test_what_no_tile_holds() -> None:
    assert not launches.fits(2, launches.MAX_HIDDEN + 1, by_row=True, by_column=False)
    assert not launches.fits(launches.MAX_ROWS + 1, 2, by_row=False, by_column=True)
    assert launches.fits(launches.MAX_ROWS + 1, launches.MAX_HIDDEN + 1, by_row=False, by_column=False)


def test_an_unknown_way_to_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    assert launches.launch_mode() in launches.MODES
    monkeypatch.setenv(launches.MODE_VARIABLE, "magic")
    with pytest.raises(ValueError, match="steps, graph, persistent, got 'magic'"):
        launches.launch_mode()


def test_precision_follows_the_matrix_products_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_float32_matmul_precision()
    try:
        for setting, expected in (("highest", "ieee"), ("high", "tf32")):
            torch.set_float32_matmul_precision(setting)
            assert launches.precision() == expected
    finally:
        torch.set_float32_matmul_precision(before)


class Counting:
    """Stands for a CUDA graph: repeats a launch, and counts recordings and replays."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def __call__(self, launch: Callable[[], None]) -> Callable[[], None]:
        self.recorded += 1

        def replay() -> None:
            self.replayed += 1
            launch()

        return replay


def double(tensors: Tensors) -> None:
    x, y = tensors["x"], tensors["y"]
    assert x is not None
    assert y is not None
    y.copy_(2 * x)


def run_recorded(recorder: Recorder, x: Tensor, key: object = "double") -> Tensor:
    y = torch.full_like(x, torch.nan)
    recorder.run(key, double, {"x": x, "absent": None}, {"y": y})
    assert torch.equal(y, 2 * x)
    return y


def test_a_shape_is_recorded_when_it_comes_again() -> None:
    record = Counting()
    recorder = Recorder(record)
    results = [run_recorded(recorder, torch.randn(3)) for _ in range(4)]
    assert (record.recorded, record.replayed) == (1, 3)
    assert len({y.data_ptr() for y in results}) == 4
    run_recorded(recorder, torch.randn(2))
    run_recorded(recorder, torch.randn(3, dtype=torch.float64))
    run_recorded(recorder, torch.randn(3), key="another")
    assert record.recorded == 1


def test_a_replay_leaves_earlier_results_alone() -> None:
    recorder = Recorder(Counting())
    inputs = [torch.randn(3) for _ in range(4)]
    results = [run_recorded(recorder, x) for x in inputs]
    assert all(torch.equal(y, 2 * x) for x, y in zip(inputs, results, strict=True))


def test_least_recently_used_recordings_are_dropped() -> None:
    record = Counting()
    recorder = Recorder(record, capacity=2)
    for size in (1, 1, 2, 2, 1, 3, 3):  # 3 drops 2
        run_recorded(recorder, torch.randn(size))
    assert record.recorded == 3
    run_recorded(recorder, torch.randn(1))
    assert record.recorded == 3
    for _ in range(2):
        run_recorded(recorder, torch.randn(2))
    assert record.recorded == 4


def compile_for(capability: int, norm: str, rows: int, hidden: int, together: bool) -> list[bytes]:
    """Machine code of both loops for an NVIDIA GPU, which need not be here."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from rnnnorm.scan.triton.backward import backward_steps
    from rnnnorm.scan.triton.forward import forward_steps
    from rnnnorm.scan.triton.recurrence import Recurrence

    plan = make_plan(layer_of(norm, hidden))
    assert plan is not None
    places = [place for place in (plan.hidden, plan.joint, plan.cell) if place is not None]
    by_row, by_column = any(p.by_row for p in places), any(p.by_column for p in places)
    run = Recurrence(plan, (rows,), 1, launches.choose_tiling(rows, hidden, by_row, by_column, True))
    constants = {**run.constants(), "H": hidden, "OWN": True, "TOGETHER": together}
    options = {name: constants.pop(name) for name in ("num_warps", "enable_fp_fusion")}
    options["launch_cooperative_grid"] = together
    present = {"kept": run.carried, "d_gates_x": run.norm == "hidden", "counter": together}
    present |= dict.fromkeys(("gain", "mean", "var", "d_gain"), run.gates is not None)
    present |= dict.fromkeys(("bias", "d_bias"), run.norm == "joint")
    cell = plan.cell is not None
    present |= dict.fromkeys(("cell_gain", "cell_mean", "cell_var", "d_cell_gain"), cell)
    present |= dict.fromkeys(("cell_bias", "d_cell_bias"), plan.cell is not None and plan.cell.bias is not None)
    code = []
    for kernel in (forward_steps, backward_steps):
        signature, values = {}, {}
        for i, name in enumerate(kernel.arg_names):
            if name in constants or not present.get(name, True):
                signature[name], values[(i,)] = "constexpr", constants.get(name)
            elif name in ("first", "last"):
                signature[name] = "i32"
            else:
                signature[name] = {"offsets": "*i64", "counter": "*i32"}.get(name, "*fp32")
        source = ASTSource(kernel, signature=signature, constexprs=values)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
        code.append(compiled.asm["cubin"])
    return code


@needs_triton
@not_interpreted
@pytest.mark.parametrize(
    ("capability", "norm", "rows", "hidden", "together"),
    [(80, "bn-timestep", 64, 256, False), (90, "bn-joint", 64, 256, True), (90, "ln-carried", 64, 100, False)],
    ids=["A100-bn", "H200-bn-persistent", "H200-ln-whole"],
)
def test_kernels_compile_for_gpus(capability: int, norm: str, rows: int, hidden: int, together: bool) -> None:
    triton = pytest.importorskip("triton")
    if tuple(map(int, triton.__version__.split(".")[:2])) < (3, 3) or "nvidia" not in triton.backends.backends:
        pytest.skip("another interface of the compiler")
    assert all(code.startswith(b"\x7fELF") for code in compile_for(capability, norm, rows, hidden, together))

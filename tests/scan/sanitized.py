"""Generated cases for a scan that checks itself; run by `test_sanitizer`, in a process with the sanitizer's runtime."""

from __future__ import annotations

import ctypes
import os
import random
import sys
from typing import Any

import torch
from scan.native_cases import COVERED, build, data, run, states, twin
from torch import Tensor

import rnnnorm
from rnnnorm.scan.native import run as native_run
from rnnnorm.scan.native.buffers import ALIGNMENT, Block
from rnnnorm.scan.native.library import sanitizes

TOLERANCE = {
    torch.float64: 1e-8,
    torch.float32: 5e-2,
}  # rounding is multiplied by up to 1/√ε
WIDEST, MOST_FEATURES = 70, 40
BY_STEP = "bn:statistics=timestep"
ANYWHERE = (None, None, "ln", "rms", "gn", "gn:groups=1", BY_STEP, f"{BY_STEP}:min_rows=4", "dyt", "dyt:bias=true")
NOISE = {"zoneout": (0.3, 1.0), "hidden_dropout": (0.4,), "recurrent_dropout": (0.4,), "weight_dropout": (0.3,)}


def any_norm(cell: Any) -> rnnnorm.Norm:
    """Normalizers of any kind at any place."""
    places = ("hidden", "output") if random.random() < 0.7 else ("joint", "output")
    drawn: dict[str, Any] = {place: random.choice(ANYWHERE) for place in places}
    if "joint" not in drawn:
        drawn["input"] = random.choice((*ANYWHERE, "bn:statistics=sequence"))
    if cell is rnnnorm.LSTM:
        drawn["cell"] = random.choice((*ANYWHERE, "normprop-cell"))
        drawn["carried"] = drawn["cell"] is not None and random.random() < 0.3
    return rnnnorm.Norm(**drawn)


def network(hidden: int, features: int, **options: Any) -> tuple[Any, Any]:
    """One cell, and its normalizers: every second one a plain LSTM."""
    if random.random() < 0.5:
        norm: Any = random.choice(COVERED)
        return build(norm, hidden, features, **options), norm
    cell = random.choice((rnnnorm.LSTM, rnnnorm.GRU, rnnnorm.RNN))
    noise = {name: random.choice(values) for name, values in NOISE.items() if random.random() < 0.3}
    if cell is rnnnorm.LSTM:
        options["peepholes"] = random.random() < 0.5
        if not noise and hidden > 1 and random.random() < 0.5:
            options["proj_size"] = random.randint(1, hidden - 1)
    if cell is rnnnorm.RNN:
        noise.pop("recurrent_dropout", None)
        options["nonlinearity"] = random.choice(("tanh", "relu", "identity"))
    norm = any_norm(cell)
    return build(norm, hidden, features, cell=cell, **options, **noise), norm


def case(number: int) -> None:
    """One network and one batch, values, gradients and statistics as by the reference."""
    random.seed(number)
    torch.manual_seed(number)
    torch.set_num_threads(random.choice((1, 1, 1, 2, 3)))
    dtype = random.choice((torch.float32, torch.float64))
    hidden, features = random.randint(1, WIDEST), random.randint(1, MOST_FEATURES)
    rows, steps = random.choice((1, 2, 3, 5, 12, 40)), random.randint(1, 6)
    if number % 20 == 0:
        hidden, rows, steps = 1 + hidden // 10, 300, 3  # more rows than the backward pass takes at once
    options = {"num_layers": random.choice((1, 1, 2)), "bidirectional": random.random() < 0.3}
    net, norm = network(hidden, features, dtype=dtype, bias=random.random() < 0.8, max_steps=4, **options)
    net.train(random.random() < 0.7)
    lengths = [random.randint(1, steps) for _ in range(rows)]
    lengths[random.randrange(rows)] = steps
    hx = states(net, rows) if random.random() < 0.5 else None
    ragged = lengths if random.random() < 0.6 else None
    last = ("h_n", "c_n")[: len(net.cell.states)]
    outputs = random.choice((("output", *last), ("output",), *((state,) for state in last)))
    args: dict[str, Any] = {"outputs": outputs, "seen": random.random() < 0.8}
    x = data([steps] * rows, features)
    found = []
    for either in (twin(net), net):
        torch.manual_seed(number)  # of what is dropped
        with torch.set_grad_enabled(number % 7 > 0):
            found.append(run(either, x, hx, ragged, **args))
    assert net.ran == "native"
    compare(found, dtype, f"{net.cell.name}, {norm}, H = {hidden}")
    few = min(rows, 3)
    hx = states(net, few) if random.random() < 0.5 else None
    step: dict[str, Any] = {"x": data([1] * few, features), "hx": hx, "seen": False}
    with torch.no_grad():
        found = [run(either.eval(), **step) for either in (twin(net), net)]
    compare(found, dtype, f"one step of {net.cell.name}, {norm}, H = {hidden}")


def compare(found: list[dict[str, Tensor]], dtype: torch.dtype, of: str) -> None:
    """The reference's results and the others."""
    for name, value in found[0].items():
        # What only rows of one feature or the last step could change, autograd calls zero or nothing at all.
        error = (found[1].get(name, torch.zeros_like(value)) - value).double().norm()
        allowed = TOLERANCE[dtype] * (value.double().norm() + 1e-2 * value.numel() ** 0.5)
        assert error <= allowed, f"{name} of {of}: {error:.2g} instead of {allowed:.2g}"


def guard_what_is_kept() -> None:
    """Make the space between the arrays that forward keeps out of bounds."""
    poison = ctypes.CDLL(None).__asan_poison_memory_region
    poison.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    allocate, gap = native_run.Run._allocate, 5 * ALIGNMENT

    def guarded(self: native_run.Run, inputs: native_run.Inputs) -> tuple[Tensor, Tensor, Tensor]:
        results = allocate(self, inputs)
        for end in [*list(self.offsets.values())[1:], self.total]:
            poison(self.base + end - gap, gap)
        return results

    native_run.Run._allocate = guarded  # type: ignore[method-assign]


def short_workspace() -> None:
    """A block of memory that is too small."""
    borrow = native_run.BUFFERS.borrow

    def shorter(count: int) -> Block:
        return borrow(count // 2)

    native_run.BUFFERS.borrow = shorter  # type: ignore[method-assign]
    _train()


def short_bias() -> None:
    """A parameter that is a number too short, where nobody checks."""
    check, short = native_run.address, torch.zeros(4 * 9 - 1)

    def trusting(name: str, *expected: Any) -> int:
        return short.data_ptr() if name == "bias" else check(name, *expected)

    native_run.address = trusting
    _train()


def _train() -> None:
    rnnnorm.LSTM(5, 9, backend="native")(torch.randn(4, 3, 5))[0].sum().backward()


def ends_in_a_report(sabotage: Any) -> bool:
    """Whether a forked process that does it is ended by the sanitizer."""
    sys.stdout.flush()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(write, 2)
        sabotage()
        os._exit(0)
    os.close(write)
    with os.fdopen(read, errors="replace") as report:
        text = report.read()
    _, status = os.waitpid(child, 0)
    return status != 0 and "ERROR: AddressSanitizer: " in text and "rnnnorm/scan/native/" in text


if __name__ == "__main__":
    assert sanitizes(), "RNNNORM_CXXFLAGS has no -fsanitize"
    torch.set_num_threads(1)
    for sabotage in (short_workspace, short_bias):
        assert ends_in_a_report(sabotage), f"{sabotage.__name__}: the sanitizer has not seen it"
    guard_what_is_kept()
    first, count = int(sys.argv[1]), int(sys.argv[2])
    for number in range(first, first + count):
        try:
            case(number)
        except AssertionError as error:
            raise AssertionError(f"case {number}: {error}") from error
    print(f"{count} cases")

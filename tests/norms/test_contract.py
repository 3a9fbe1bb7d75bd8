"""The contract over the whole preset table, in two processes, and what each normalizer says about itself."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from norms.contract import NormalizerContract
from torch.autograd import gradcheck, gradgradcheck

import rnnnorm
from rnnnorm.norms import NORMALIZERS, Normalizer, Use, WeightNormalizer, options_of


class TestPresets(NormalizerContract):
    """Every preset in every cell that takes it."""


class TestOtherScopes(NormalizerContract):
    """Normalizers of the batch family over rows that no preset takes their statistics over."""

    cells: ClassVar = [rnnnorm.LSTM]
    norms: ClassVar = [
        "input=bn-l1+hidden=bn-l1:statistics=timestep+cell=bn-l1:statistics=shared",
        "input=brn+hidden=brn:statistics=shared",
        "input=mobn+cell=mobn:statistics=shared",
        "input=cmbn",
        "input=cmbn-accumulated",
        "input=cbn",
    ]


class TestEarlierStepsAsEarlierBatches(NormalizerContract):
    """Cross mini-batch normalization shared over time: earlier steps are constants, as earlier batches are."""

    cells: ClassVar = [rnnnorm.LSTM]
    norms: ClassVar = [f"hidden={name}:statistics=shared" for name in ("cmbn", "cmbn-accumulated")]
    test_gradient = test_second_derivative = None  # type: ignore[assignment]


DISTRIBUTED = ["bn-timestep", "bn-shared", "online", "streaming", "power", "ln", "wn"]

WORKER = """
import json, os, sys
import torch
import torch.distributed as dist
import rnnnorm

torch.set_num_threads(1)
dist.init_process_group("gloo")
rank, found = dist.get_rank(), {}
for norm in json.loads(sys.argv[1]):
    torch.manual_seed(0)
    lstm = rnnnorm.LSTM(3, 4, norm=norm, max_steps=4)
    model = torch.nn.parallel.DistributedDataParallel(lstm)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    torch.manual_seed(1 + rank)
    for T in (4, 2):
        optimizer.zero_grad()
        model(torch.randn(T + rank, 5, 3))[0].square().sum().backward()
        optimizer.step()
    local = sum(float(b.double().sum()) for b in lstm.buffers())
    model.eval()
    model(torch.randn(3, 5, 3))  # shares the buffers of rank 0
    found[norm] = {
        "parameters": [float(p.detach().double().sum()) for p in lstm.parameters()],
        "local": local,
        "buffers": [float(b.double().sum()) for b in lstm.buffers()],
        "moved": bool(sum(float(b.double().abs().sum()) for b in lstm.buffers())),
    }
print(json.dumps(found), flush=True)
dist.barrier()
dist.destroy_process_group()
os._exit(0)  # gloo's threads may outlive the interpreter, which then aborts
"""


def test_two_processes_agree() -> None:
    """Distributed training with batches of different lengths: parameters agree, and so do statistics once shared."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    root = Path(rnnnorm.__file__).parents[1]
    names = [name for name in DISTRIBUTED if name in rnnnorm.presets()]
    workers = []
    for rank in range(2):
        env = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": str(rank), "WORLD_SIZE": "2"}
        command = [sys.executable, "-c", WORKER, json.dumps(names)]
        workers.append(subprocess.Popen(command, cwd=root, env=env, stdout=subprocess.PIPE, text=True))
    try:
        printed = [worker.communicate(timeout=120)[0] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers] == [0, 0]
    first, second = (json.loads(text.strip().splitlines()[-1]) for text in printed)
    for name in names:
        assert first[name]["parameters"] == second[name]["parameters"], name
        assert first[name]["buffers"] == second[name]["buffers"], name
        if first[name]["moved"]:
            assert first[name]["local"] != second[name]["local"], f"{name}: ranks saw different rows"


@pytest.mark.parametrize("text", ["ln", "gn:groups=2", "rms", "lrn:size=3:alpha=0.5", "dyt"])
def test_derivatives_of_normalizers_of_single_rows(text: str) -> None:
    """By rows, gain, bias and whatever else is learned."""
    use = Use.parse(text)
    assert use is not None
    norm = use.build(6, bias=True, dtype=torch.float64)
    names = [name for name, _ in norm.named_parameters()]
    values = tuple(torch.empty_like(p).uniform_(0.5, 1.5).requires_grad_() for p in norm.parameters())

    def function(x: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = torch.func.functional_call(norm, dict(zip(names, values, strict=True)), (x,))
        return result

    x = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    assert gradcheck(function, (x, *values))
    assert gradgradcheck(function, (x, *values))


SAYS = {
    "an equation": r"=|←",
    "what its symbols' shapes are": r"\bF\b|\(B_t|\bH\b|outputs",
    "what one row does": r"[Oo]ne row|one-row|[Ff]ewer|a single row|does not look at activations|no activation",
    "what is stored": r"[Ss]tored|stores|[Nn]othing is (estimated|stored)|no statistic",
    "what is shared over time": r"shared over time|all (time)?steps|over time|per step|of time|on time",
}


@pytest.mark.parametrize("name", list(NORMALIZERS))
class TestDescription:
    def test_docstring(self, name: str) -> None:
        text = documentation(NORMALIZERS[name])
        missing = [what for what, pattern in SAYS.items() if not re.search(pattern, text)]
        assert not missing, f"the docstring of {name!r} does not say: {', '.join(missing)}"

    def test_options(self, name: str) -> None:
        """Each option is explained under its name."""
        cls = NORMALIZERS[name]
        text = documentation(cls)
        missing = [key for key in options_of(cls) if not re.search(rf"^\s+{key}:", text, re.MULTILINE)]
        assert not missing, f"the docstring of {name!r} does not explain: {', '.join(missing)}"

    def test_summary_and_source(self, name: str) -> None:
        cls = NORMALIZERS[name]
        assert cls.summary
        assert "\n" not in cls.summary
        assert re.search(r"\d{4}|CONTRIBUTING", cls.source), "a source has a year"


def documentation(cls: type[Normalizer] | type[WeightNormalizer]) -> str:
    """The docstring of a class and of the bases it refers to."""
    bases = [base for base in cls.__mro__ if base.__module__.startswith("rnnnorm.") and base is not WeightNormalizer]
    return "\n".join(base.__doc__ or "" for base in bases)


def test_a_broken_normalizer_breaks_the_contract() -> None:
    """The contract can fail: a normalizer that counts twice in recomputation, keeps its graph, sees padding order."""

    class Broken(NormalizerContract):
        pass

    contract = Broken()
    net = contract.make(rnnnorm.LSTM, "bn-timestep")
    module = net.norms("_l0").hidden
    plain = type(module).forward

    def forward(x: torch.Tensor, t: int = 0) -> torch.Tensor:
        y = plain(module, x, t)
        module.kept = y
        return y

    module.forward = forward
    Broken.make = staticmethod(lambda *args, **options: net)  # type: ignore[method-assign]
    with pytest.raises(AssertionError, match=r"hidden\.kept keeps a graph"):
        contract.test_training_steps_in_a_row(rnnnorm.LSTM, "bn-timestep")

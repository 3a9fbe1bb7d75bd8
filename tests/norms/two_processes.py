"""Cases of synchronized batch normalization, and the program that runs them on one of two processes.

Each process also runs the whole batch by itself, without synchronization, and compares: errors are printed as JSON.
"""

from __future__ import annotations

import copy
import json
import os
import random
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.checkpoint import checkpoint

import rnnnorm

Case = dict[str, Any]
Errors = dict[str, float]
INPUT, HIDDEN = 3, 4
NORMS = {
    "bn-vertical": "bn-vertical",
    "bn-vertical-framewise": "bn-vertical-framewise",
    "bn-shared": "bn-shared",
    "bn-timestep": "bn-timestep",
    "bn-window": "bn-window:window=2",
    "bn-star": "bn-star",
    "bn-joint": "bn-joint",
    "wn-mobn": "wn-mobn",
}
LSTM_ONLY: dict[str, Any] = {"proj_size": 2, "peepholes": True}
NOISES: list[dict[str, Any]] = [{"zoneout": 0.3}, {"hidden_dropout": 0.3}, {"recurrent_dropout": 0.3}, {"dropout": 0.3}]


def random_case(seed: int) -> Case:
    """A case of any kind; the first of two processes gets the first lengths."""
    r = random.Random(seed)
    cell = r.choice(["LSTM", "GRU", "RNN"])
    norm = NORMS[r.choice(list(NORMS))]
    if r.random() < 0.3:
        norm += f":min_rows={r.randint(3, 4)}"
    if r.random() < 0.2:
        norm += ":momentum=none"
    if r.random() < 0.2 and "mobn" not in norm:
        norm += ":tail=pool"
    options: Case = {"num_layers": r.randint(1, 3), "bidirectional": r.random() < 0.5}
    if cell == "LSTM" and r.random() < 0.4:
        key = r.choice(list(LSTM_ONLY))
        options[key] = LSTM_ONLY[key]
    exact = r.random() < 0.8
    if not exact:
        options |= r.choice([n for n in NOISES if cell != "RNN" or "recurrent_dropout" not in n])
    return {
        "cell": cell,
        "norm": norm,
        "options": options,
        "exact": exact,
        "lengths": [[r.randint(1, 9) for _ in range(r.randint(1, 5))] for _ in range(2)],
        "loss": r.choice(["output", "h_n", "all", "last", "none"] + ["c_n"] * (cell == "LSTM")),
        "checkpoint": r.choice(["", "", "", "reentrant", "other"]) if exact else "",
        "dtype": "float64",
        "seed": seed,
    }


def loss_of(kind: str, output: Tensor, states: tuple[Tensor, ...]) -> Tensor:
    """A sum over sequences, so that processes add up to the whole batch."""
    parts = {"output": [output], "h_n": states[:1], "c_n": states[1:], "last": [states[0][-1]]}
    chosen = parts.get(kind, [output, *states])
    return sum((p * torch.linspace(-1, 2, p.shape[-1], dtype=p.dtype) + p.square()).sum() for p in chosen)  # type: ignore[return-value]


def run(net: Any, x: Tensor, lengths: Tensor, case: Case) -> tuple[Tensor, ...]:
    """Forward and backward; output and states, detached."""

    def forward(x: Tensor) -> tuple[Tensor, ...]:
        output, state = net(x, lengths=lengths)
        return (output, *(state if isinstance(state, tuple) else (state,)))

    with torch.set_grad_enabled(case["loss"] != "none"):
        if case["checkpoint"]:
            results = checkpoint(forward, x, use_reentrant=case["checkpoint"] == "reentrant")
        else:
            results = forward(x)
    if case["loss"] != "none":
        loss_of(case["loss"], results[0], results[1:]).backward()
    return tuple(r.detach() for r in results)


def make(case: Case) -> Any:
    """A synchronized network; the same on all processes."""
    torch.manual_seed(case["seed"])
    keys = {"max_steps": 6, "dtype": getattr(torch, case["dtype"]), "init": "orthogonal", **case["options"]}
    return getattr(rnnnorm, case["cell"])(INPUT, HIDDEN, norm=case["norm"] + ":sync=true", **keys)


def alone(net: Any) -> Any:
    """A copy that knows nothing of other processes."""
    twin = copy.deepcopy(net)
    for module in twin.modules():
        if hasattr(module, "sync"):
            module.sync = False
    return twin


def batch(case: Case) -> tuple[Tensor, Tensor]:
    """Rows and lengths of both processes together."""
    lengths = torch.tensor([length for lengths in case["lengths"] for length in lengths])
    return torch.randn(int(lengths.max()), len(lengths), INPUT, dtype=getattr(torch, case["dtype"])), lengths


def largest(a: Tensor, b: Tensor) -> float:
    """The largest difference, relative where numbers are large: two rows that nearly agree make large gradients."""
    assert a.isfinite().all(), "a number is not finite"
    assert a.shape == b.shape
    return (a - b).abs().max().item() / max(1.0, b.abs().max().item()) if a.numel() else 0.0


def compare(case: Case, rank: int) -> Errors:
    """Two training batches on two processes against one: the largest differences."""
    net = make(case)
    whole = alone(net)
    first = len(case["lengths"][0])
    mine = slice(None, first) if rank == 0 else slice(first, None)
    errors: Errors = dict.fromkeys(("results", "gradients", "statistics"), 0.0)
    for _ in range(2):  # the second batch reads what the first one has moved
        x, lengths = batch(case)
        net.zero_grad()
        whole.zero_grad()
        own = (
            x[: int(lengths[mine].max()) if len(lengths[mine]) else len(x), mine]
            .clone()
            .requires_grad_(case["loss"] != "none")
        )
        x.requires_grad_(case["loss"] != "none")
        results = run(net, own, lengths[mine], case)
        if not case["exact"]:
            expected: tuple[Tensor, ...] = results
        else:
            output, *states = run(whole, x, lengths, case)
            expected = (output[: len(own), mine], *(s[:, mine] for s in states))
        errors["results"] = max(errors["results"], *map(largest, results, expected))
        if case["loss"] != "none" and case["exact"]:
            errors["gradients"] = max(errors["gradients"], largest(own.grad, x.grad[: len(own), mine]))  # type: ignore[index,arg-type]
            for p, q in zip(net.parameters(), whole.parameters(), strict=True):
                assert (p.grad is None) == (q.grad is None)
                if p.grad is not None:
                    dist.all_reduce(p.grad)
                    errors["gradients"] = max(errors["gradients"], largest(p.grad, q.grad))
        for b, e in zip(net.buffers(), whole.buffers(), strict=True):
            other = b.clone()
            dist.broadcast(other, 0)
            assert torch.equal(other, b), "processes store different statistics"
            if case["exact"]:
                errors["statistics"] = max(errors["statistics"], largest(b, e))
    return errors


def launch(program: str, argument: Any, timeout: float) -> list[Any]:
    """Run `program`, the name of a function of `two_processes` or `synchronized_programs`, on two processes.

    Returns:
        what each of them found.

    Raises:
        subprocess.TimeoutExpired: they did not end in time.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    root = Path(rnnnorm.__file__).parents[1]
    workers = []
    for rank in range(2):
        env = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": str(rank), "WORLD_SIZE": "2"}
        env |= {"PYTHONPATH": f"{root}:{Path(__file__).parent}", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", f"import synchronized_programs as p; p.main({program!r})"]
        worker = subprocess.Popen(command, cwd=root, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert worker.stdin is not None
        worker.stdin.write(json.dumps(argument))
        worker.stdin.close()
        worker.stdin = None
        workers.append(worker)
    end = time.monotonic() + timeout
    try:
        printed = [worker.communicate(timeout=max(end - time.monotonic(), 0.1))[0] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers] == [0, 0]
    return [json.loads(text.strip().splitlines()[-1]) for text in printed]

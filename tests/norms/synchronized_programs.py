"""What two processes are asked to do in `test_synchronized`; each function runs on both and returns what it found."""

from __future__ import annotations

import copy
import json
import os
import sys
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from two_processes import HIDDEN, INPUT, Errors, alone, batch, compare, largest, make, random_case

import rnnnorm


def main(program: str) -> None:
    """Join the other process, run, print the result."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", timeout=timedelta(seconds=60))
    found = globals()[program](json.loads(sys.stdin.read()), dist.get_rank())
    print(json.dumps(found), flush=True)
    dist.barrier()
    dist.destroy_process_group()
    os._exit(0)  # gloo's threads may outlive the interpreter, which then aborts


def compare_all(cases: dict[str, Any], rank: int) -> dict[str, Errors]:
    return {name: compare(case, rank) for name, case in cases.items()}


def one_after_the_other(names: list[str], rank: int) -> dict[str, Any]:
    found = {}
    for name in names:
        torch.manual_seed(0)
        found[name] = globals()[name](None, rank)
    return found


def soak(number: int, rank: int) -> list[Any]:
    """The worst of many random cases."""
    worst: list[Any] = [0.0, -1]
    for seed in range(number):
        try:
            worst = max(worst, [max(compare(random_case(seed), rank).values()), seed])
        except Exception as error:
            raise RuntimeError(f"case {seed}: {random_case(seed)}") from error
    return worst


BASE: dict[str, Any] = {
    "cell": "LSTM",
    "norm": "bn-timestep",
    "options": {"num_layers": 2, "bidirectional": True},
    "lengths": [[5, 2, 4], [7, 1]],
    "dtype": "float64",
    "seed": 0,
}


def data_parallel(_: None, rank: int) -> Errors:
    """Three optimizer steps of `DistributedDataParallel`, which averages, and of one process."""
    net = make(BASE)
    whole = alone(net)
    model = torch.nn.parallel.DistributedDataParallel(net)
    ours, theirs = torch.optim.SGD(model.parameters(), lr=0.1), torch.optim.SGD(whole.parameters(), lr=0.05)
    mine = slice(None, 3) if rank == 0 else slice(3, None)
    for _ in range(3):
        x, lengths = batch(BASE)
        for optimizer, module, part in ((ours, model, mine), (theirs, whole, slice(None))):
            optimizer.zero_grad()
            module(x[: int(lengths[part].max()), part], lengths=lengths[part])[0].square().mean(2).sum().backward()
            optimizer.step()
    pairs = zip(net.parameters(), whole.parameters(), strict=True)
    buffers = zip(net.buffers(), whole.buffers(), strict=True)
    return {
        "parameters": max(largest(p.detach(), q.detach()) for p, q in pairs),
        "statistics": max(largest(p, q) for p, q in buffers),
    }


def population(_: None, rank: int) -> Errors:
    """Population statistics from halves of batches and from whole ones."""
    errors: Errors = {}
    for norm in ("bn-shared", "bn-timestep", "bn-star", "bn-joint"):
        batches = [batch(BASE) for _ in range(3)]
        mine = slice(None, 3) if rank == 0 else slice(3, None)
        halves = [(x[: int(lengths[mine].max()), mine], lengths[mine]) for x, lengths in batches]
        for way in ("consistent", "pooled"):
            net = make({**BASE, "norm": norm})
            whole = alone(net)
            rnnnorm.recalibrate(net, halves, forward=lambda b, n=net: n(b[0], lengths=b[1]), way=way)
            rnnnorm.recalibrate(whole, batches, forward=lambda b, n=whole: n(b[0], lengths=b[1]), way=way)
            for (name, found), expected in zip(net.state_dict().items(), whole.state_dict().values(), strict=True):
                errors[f"{norm}, {way}, {name}"] = largest(found, expected)
    # What consistent statistics are does not depend on how sequences are dealt out, not even in how many batches.
    x, lengths = batch(BASE)
    net = make({**BASE, "norm": "bn-timestep"})
    whole = alone(net)
    dealt = [[0, 3], [1]] if rank == 0 else [[2, 4]]
    parts = [(x[:, part], lengths[part]) for part in dealt]
    rnnnorm.recalibrate(net, parts, forward=lambda b: net(b[0][: int(b[1].max())], lengths=b[1]))
    rnnnorm.recalibrate(whole, [(x, lengths)], forward=lambda b: whole(b[0], lengths=b[1]))
    for (name, found), expected in zip(net.state_dict().items(), whole.state_dict().values(), strict=True):
        errors[f"dealt otherwise, {name}"] = largest(found, expected)
    return errors


def counts(_: None, rank: int) -> dict[str, list[int]]:
    """Collectives of each kind in the forward and the backward pass over 4 steps."""
    called: list[str] = []
    real_ones = {name: getattr(dist, name) for name in ("all_gather", "all_reduce")}
    for name, real in real_ones.items():

        def counted(*args: Any, _real: Any = real, _name: str = name, **keys: Any) -> Any:
            called.append(_name)
            return _real(*args, **keys)

        setattr(dist, name, counted)
    found = {}
    for norm in ("bn-timestep", "bn-vertical", "bn-vertical-framewise", "bn-joint"):
        net = make({**BASE, "norm": norm, "options": {}})
        output = net(torch.randn(4 - rank, 3, INPUT, dtype=torch.float64))[0]
        found[norm] = [called.count("all_gather"), called.count("all_reduce")]
        called.clear()
        output.sum().backward()
        found[norm] += [called.count("all_gather"), called.count("all_reduce")]
        called.clear()
    vars(dist).update(real_ones)
    return found


def on_one_process(_: None, rank: int) -> dict[str, Any]:
    """What must not wait for the other process: evaluation, frozen statistics, `sync` not asked for."""
    if rank:
        return {}
    x = torch.randn(4, 3, INPUT)
    net = rnnnorm.LSTM(INPUT, HIDDEN, norm="bn-timestep:sync=true").eval()
    net(x)
    with rnnnorm.statistics(net, "batch"):
        net(x)[0].sum().backward()
    for norm in ("bn-frozen:sync=true", "bn-timestep", "bn-timestep:sync=false"):
        rnnnorm.LSTM(INPUT, HIDDEN, norm=norm)(x)[0].sum().backward()
    net.train()
    with rnnnorm.norms.synchronized.unsynchronized(net):
        net(x)[0].sum().backward()
        rnnnorm.recalibrate(net, [x])
    return {"sync": net.norms("_l0").hidden.sync}


def backends(_: None, rank: int) -> dict[str, str]:
    """The backend that runs, and what is said of one that cannot."""
    x = torch.randn(1 + rank, 3, INPUT)  # one step is run by the reference, but not where another process has more
    found = {}
    for norm in ("bn-vertical", "bn-timestep", "bn-star"):
        net = rnnnorm.LSTM(INPUT, HIDDEN, norm=f"{norm}:sync=true")
        net(x)
        found[norm] = net.ran
    try:
        rnnnorm.LSTM(INPUT, HIDDEN, norm="bn-timestep:sync=true", backend="native")(x)
    except RuntimeError as error:
        found["error"] = str(error)
    return found


def single_cells(_: None, rank: int) -> Errors:
    """A loop over `LSTMCell`, which agrees on nothing beforehand."""
    torch.manual_seed(0)
    cell = rnnnorm.LSTMCell(INPUT, HIDDEN, norm="bn-timestep:sync=true:min_rows=3", dtype=torch.float64)
    whole = alone(cell)
    x = torch.randn(4, 5, INPUT, dtype=torch.float64)
    mine = slice(None, 3) if rank == 0 else slice(3, None)
    ends = []
    for module, part in ((cell, mine), (whole, slice(None))):
        state = None
        for t, x_t in enumerate(x):
            state = module(x_t[part], state, step=t)
        state[0].square().sum().backward()  # type: ignore[index]
        ends.append(state[0].detach())  # type: ignore[index]
    for p in cell.parameters():
        dist.all_reduce(p.grad)
    gradients = [largest(p.grad, q.grad) for p, q in zip(cell.parameters(), whole.parameters(), strict=True)]
    return {"state": largest(ends[0], ends[1][mine]), "gradients": max(gradients)}


def mixed(_: None, rank: int) -> dict[str, bool]:
    """Normalizers that are not synchronized never see steps without rows; probes record none."""
    from rnnnorm.probes.recording import record

    norm = rnnnorm.Norm(input="power", hidden="bn:statistics=timestep:sync=true", cell="online")
    net = rnnnorm.LSTM(INPUT, HIDDEN, norm=norm, zoneout=0.1)
    with record(net, gates=True) as recording:
        output = net(torch.randn(2 + 4 * rank, 3, INPUT))[0]
        output.sum().backward()
    layer = recording.layers["l0"]
    steps = len(layer.active) == len(layer.gates) == len(layer.states["h"]) == 2 + 4 * rank
    finite = all(bool(b.isfinite().all()) for b in [*net.buffers(), *(p.grad for p in net.parameters())])
    twin = copy.deepcopy(net)
    return {"steps": steps, "finite": finite, "forgotten": twin.norms("_l0").hidden.total is None}

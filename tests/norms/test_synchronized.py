"""Batch normalization on two processes equals that of one process on the whole batch."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from norms.two_processes import NORMS, launch

import rnnnorm
from rnnnorm.norms import BatchNorm
from rnnnorm.norms.synchronized import synchronize

SOAK = int(os.environ.get("RNNNORM_SOAK", "30"))
"""Random cases; 1000 take some minutes."""
BASE = {"exact": True, "loss": "all", "checkpoint": "", "dtype": "float64", "seed": 0}
LENGTHS = {
    "ragged": [[5, 2, 4], [5, 1, 3, 3]],
    "unequal": [[2, 2, 1], [8, 3, 8]],
    "one row": [[7], [3]],
    "many": [[5, 1, 4, 3, 2, 4] * 3, [2, 3, 3, 6, 1] * 3],
    "dense": [[4, 4, 4], [4, 4]],
    "no sequences": [[], [5, 1, 3]],
    "none of the other": [[2, 6], []],
}


def cases() -> dict[str, Any]:
    found: dict[str, Any] = {}

    def add(name: str, cell: str = "LSTM", norm: str = "bn-timestep", lengths: str = "unequal", **keys: Any) -> None:
        options = {"num_layers": 2, "bidirectional": True, **keys.pop("options", {})}
        found[name] = {**BASE, "cell": cell, "norm": norm, "lengths": LENGTHS[lengths], "options": options, **keys}

    for norm, text in NORMS.items():
        for lengths in ("ragged", "unequal", "one row", "dense", "no sequences", "none of the other"):
            add(f"{norm}-LSTM-{lengths}", "LSTM", text, lengths)
        for cell in ("GRU", "RNN"):
            add(f"{norm}-{cell}-unequal", cell, text)
            add(f"{norm}-{cell}-no sequences", cell, text, "no sequences")
    for loss in ("output", "h_n", "c_n", "last", "none"):
        for checkpoint in ("", "reentrant", "other"):
            add(f"loss {loss}-{checkpoint or 'kept'}", loss=loss, checkpoint=checkpoint)
    for cell in ("LSTM", "GRU", "RNN"):
        add(f"few rows-{cell}", cell, "bn-shared:min_rows=4")
        add(f"average-{cell}", cell, "bn-timestep:momentum=none:tail=pool")
        add(f"checkpoint-{cell}", cell, checkpoint="other")
    add("projection", options={"proj_size": 2})
    add("peepholes", options={"peepholes": True})
    add("carried", norm="bn-timestep:carried=true")
    add("output", norm="bn-joint", options={"residual": "plain"})
    for kind in ("zoneout", "hidden_dropout", "recurrent_dropout"):
        add(f"random-{kind}", options={kind: 0.3}, exact=False)
    for norm, text in NORMS.items():
        add(f"float32-{norm}", norm=text, dtype="float32", lengths="many")
    return found


CASES = cases()


@pytest.fixture(scope="module")
def errors(request: pytest.FixtureRequest) -> list[dict[str, dict[str, float]]]:
    """What differs in each case that is wanted: both processes compute all of them at once."""
    here = [item for item in request.session.items if item.path == request.path and hasattr(item, "callspec")]
    chosen = [item.callspec.params.get("name") for item in here]
    return launch("compare_all", {name: case for name, case in CASES.items() if name in chosen}, 200)


@pytest.mark.parametrize("name", list(CASES))
def test_two_processes_equal_one(name: str, errors: list[dict[str, dict[str, float]]]) -> None:
    tolerances = dict.fromkeys(("results", "gradients", "statistics"), 1e-10)
    if (
        CASES[name]["dtype"] == "float32"
    ):  # in which the gradients of one process alone are as far from those in 64 bits
        tolerances = {"results": 1e-6, "gradients": 5e-6, "statistics": 1e-6}
    for rank, found in enumerate(errors):
        for what, error in found[name].items():
            assert error < tolerances[what], f"{what} of process {rank}"


@pytest.mark.timeout(60 + 3 * SOAK)
def test_random_cases_neither_hang_nor_differ() -> None:
    for worst, seed in launch("soak", SOAK, 30 + 2 * SOAK):
        assert worst < 1e-9, f"case {seed}"


@pytest.fixture(scope="module")
def programs() -> dict[str, list[Any]]:
    """What each of the small programs found on both processes."""
    names = ["data_parallel", "population", "single_cells", "counts", "on_one_process", "backends", "mixed"]
    found = launch("one_after_the_other", names, 100)
    return {name: [process[name] for process in found] for name in names}


@pytest.mark.parametrize("program", ["data_parallel", "population", "single_cells"])
def test_other_uses_equal_one_process(program: str, programs: dict[str, list[Any]]) -> None:
    for found in programs[program]:
        assert found
        for what, error in found.items():
            assert error < 1e-10, what


def test_collectives(programs: dict[str, list[Any]]) -> None:
    """Gathers and reductions, forward and backward: one per normalizer and step, or for all steps of an input."""
    first, second = programs["counts"]
    assert first == second
    assert first == {
        "bn-timestep": [1 + 4 + 4, 2, 0, 1 + 4 + 4],
        "bn-vertical": [1, 2, 0, 1],
        "bn-vertical-framewise": [1, 2, 0, 1],
        "bn-joint": [4, 2, 0, 4],
    }


def test_what_waits_for_no_other_process(programs: dict[str, list[Any]]) -> None:
    assert programs["on_one_process"][0] == {"sync": True}


def test_backends(programs: dict[str, list[Any]]) -> None:
    first, second = programs["backends"]
    assert first == second
    fast = rnnnorm.LSTM(3, 4)
    fast(torch.randn(2, 3, 3))
    assert first["bn-vertical"] == fast.ran
    assert first["bn-timestep"] == first["bn-star"] == "reference"
    assert "use backend='auto'" in first["error"]


def test_steps_without_rows_concern_synchronized_normalizers_only(programs: dict[str, list[Any]]) -> None:
    for found in programs["mixed"]:
        assert found == {"steps": True, "finite": True, "forgotten": True}


@pytest.mark.parametrize("grouped", [False, True], ids=["no group", "group of one"])
@pytest.mark.parametrize("norm", ["bn-vertical", "bn-timestep"])
def test_one_process_is_not_changed(norm: str, grouped: bool) -> None:
    if grouped:
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        x, found = torch.randn(5, 4, 3), []
        for sync in ("none", "false", "true"):
            torch.manual_seed(0)
            lstm = rnnnorm.LSTM(3, 4, norm=f"{norm}:sync={sync}")
            output = lstm(x)[0]
            output.square().sum().backward()
            found.append([output, *(p.grad for p in lstm.parameters()), *lstm.buffers()])
            assert lstm.ran == found_backend()
        for other in found[1:]:
            assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))
    finally:
        if grouped:
            dist.destroy_process_group()


def found_backend() -> str:
    """What runs an LSTM that covers everything."""
    lstm = rnnnorm.LSTM(3, 4, norm="bn-timestep")
    lstm(torch.randn(2, 3, 3))
    return lstm.ran


@pytest.mark.parametrize("sync", ["yes", 1, 0.0])
def test_the_option_is_checked(sync: object) -> None:
    with pytest.raises(ValueError, match=f"sync must be true, false or None, got {sync!r}"):
        BatchNorm(3, sync=sync)  # type: ignore[arg-type]


def test_normalizers_without_the_option_say_what_they_have() -> None:
    with pytest.raises(ValueError, match=r"has no option 'sync'; it has:.*momentum"):
        rnnnorm.Norm(input="bn-l1:sync=true")


def test_tasks_synchronize_what_was_not_told() -> None:
    from rnnnorm.data import Spec
    from rnnnorm.tasks import for_spec

    spec = Spec(task="classification", vocabularies=(2,), num_outputs=2, max_length=4)
    for size, norm, expected in (
        (2, "bn-timestep", True),
        (1, "bn-timestep", None),
        (2, "bn-timestep:sync=false", False),
    ):
        task = for_spec(spec)(spec, norm=norm)
        task._trainer = SimpleNamespace(world_size=size)
        task.setup("fit")
        assert task.recurrent.norms("_l0").hidden.sync is expected


def test_synchronize_knows_every_place() -> None:
    gru = rnnnorm.GRU(3, 4, 2, norm=rnnnorm.Norm(input="bn:sync=false", joint="bn:statistics=shared", between="bn"))
    synchronize(gru)
    norms = gru.norms("_l0")
    assert [m.sync for m in (norms.input, norms.joint, norms.candidate, gru.between(0))] == [False, True, True, True]

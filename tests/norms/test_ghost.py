"""Ghost batch normalization: the moments of parts of a batch."""

from __future__ import annotations

import copy
from typing import ClassVar

import pytest
import torch
from norms.contract import NormalizerContract
from support import INPUT, LENGTHS, assert_same, packed, padded
from torch import nn

import rnnnorm
from rnnnorm.nn.wavefront import stream
from rnnnorm.norms import BatchNorm, step_statistics
from rnnnorm.norms.recorder import Rows

F, DOUBLE = 3, torch.float64


class TestContract(NormalizerContract):
    """Parts of two sequences; which sequences are together depends on their order among those of one length."""

    cells: ClassVar = [rnnnorm.LSTM]
    norms: ClassVar = ["bn-ghost:ghost=2", "input=bn:ghost=2+cell=bn:statistics=shared:ghost=2:by_rows=true"]
    test_order_of_the_batch = None  # type: ignore[assignment]


def test_parts_are_batches_of_their_own() -> None:
    """Eight rows in three parts, against one torch module whose running averages move three times."""
    ours = BatchNorm(F, statistics="timestep", ghost=2, bias=True, dtype=DOUBLE)
    theirs = nn.BatchNorm1d(F, dtype=DOUBLE)
    x = torch.randn(7, F, dtype=DOUBLE)
    expected = torch.empty_like(x)
    for j in range(3):
        expected[j::3] = theirs(x[j::3])  # 3, 2 and 2 rows
    assert_same(ours(x, 0), expected, "rows", 1e-12)
    assert ours.stats.num_rows.tolist()[0] == 7
    assert theirs.running_mean is not None
    assert theirs.running_var is not None
    assert_same(ours.stats.running_mean[0], theirs.running_mean, "mean", 1e-12)
    assert_same(ours.stats.running_var[0], theirs.running_var, "variance", 1e-12)


@pytest.mark.parametrize("rows", [2, 4, 7])
def test_fewer_than_two_parts_are_plain_batch_normalization(rows: int) -> None:
    ghost, plain = (BatchNorm(F, statistics="timestep", ghost=k) for k in (4, None))
    x = torch.randn(rows, F)
    assert torch.equal(ghost(x, 0), plain(x, 0))
    assert torch.equal(ghost.stats.running_var, plain.stats.running_var)


def test_sequence_wise_parts_are_whole_sequences() -> None:
    """Two parts of five sequences: each is normalized as a batch of those sequences alone is."""
    x = packed(dtype=DOUBLE)
    ghost, plain = (BatchNorm(INPUT, ghost=k, dtype=DOUBLE) for k in (2, None))
    sizes = x.batch_sizes.tolist()
    y = ghost.sequence(x.data, sizes).split(sizes)
    rows = x.data.split(sizes)
    for j in range(2):
        alone = plain.sequence(torch.cat([part[j::2] for part in rows]), [len(part[j::2]) for part in rows])
        assert_same(torch.cat([part[j::2] for part in y]), alone, f"part {j}", 1e-12)
    assert_same(ghost.stats.running_mean, plain.stats.running_mean, "mean", 1e-12)


def test_evaluation_is_that_of_batch_normalization() -> None:
    """The same stored statistics give the same outputs; population statistics are those of all sequences."""
    torch.manual_seed(0)
    ghost = rnnnorm.LSTM(INPUT, 5, norm="bn-ghost:ghost=2", dtype=DOUBLE)
    ghost(padded(dtype=DOUBLE), lengths=LENGTHS)
    plain = rnnnorm.LSTM(INPUT, 5, norm="bn-timestep", dtype=DOUBLE)
    plain.load_state_dict(ghost.state_dict())
    x = padded(dtype=DOUBLE)
    outputs = {}
    for name, lstm in (("ghost", ghost.eval()), ("plain", plain.eval())):
        rnnnorm.recalibrate(lstm, [x], lambda batch, lstm=lstm: lstm(batch, lengths=LENGTHS))
        for source in ("running", "population", "batch"):
            with rnnnorm.statistics(lstm, source):
                outputs[name, source] = lstm(x, lengths=LENGTHS)[0].detach()
    for source in ("running", "population"):
        assert_same(outputs["ghost", source], outputs["plain", source], source, 1e-9)
    assert not torch.allclose(outputs["ghost", "batch"], outputs["plain", "batch"])
    with rnnnorm.statistics(ghost, "batch"):
        assert_same(outputs["ghost", "batch"], ghost.train()(x, lengths=LENGTHS)[0], "batch", 1e-12)


def test_large_runs_for_the_sake_of_statistics() -> None:
    """Recalibration step by step folds sequence-wise statistics into weights, which parts have none of."""
    lstm = rnnnorm.LSTM(INPUT, 5, norm="bn-vertical:ghost=2").eval()
    x = packed()
    states = tuple(torch.zeros(1, 5, 5) for _ in range(2))
    assert not stream(lstm, Rows(x.data, x.batch_sizes, states), limit=0)
    assert stream(rnnnorm.LSTM(INPUT, 5, norm="bn-vertical").eval(), Rows(x.data, x.batch_sizes, states), limit=0)


def test_the_eager_reference_runs_it() -> None:
    lstm = rnnnorm.LSTM(4, 5, norm="bn-ghost")
    lstm(torch.randn(3, 40, 4))
    assert lstm.ran == "reference"


def test_a_traced_graph_takes_no_moments_of_parts() -> None:
    lstm = rnnnorm.LSTM(INPUT, 5, norm="bn-vertical:ghost=2").eval()
    x = torch.randn(4, 6, INPUT)
    with rnnnorm.statistics(lstm, "batch"), pytest.raises(RuntimeError, match=r"BatchNorm, ghost=2.*\"running\""):
        torch.jit.trace(lstm, x)
    assert torch.allclose(torch.jit.trace(lstm, x)(x)[0], lstm(x)[0], atol=1e-6)


@pytest.mark.parametrize(("options", "said"), [({"ghost": 1}, "ghost"), ({"ghost": 3, "min_rows": 4}, "min_rows=4")])
def test_parts_that_are_too_small(options: dict[str, int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        BatchNorm(F, **options)  # type: ignore[arg-type]


def test_gathering_does_not_depend_on_parts() -> None:
    """Pooled population statistics count every row once."""
    ghost, plain = (BatchNorm(F, statistics="timestep", ghost=k).eval() for k in (2, None))
    batches = [torch.randn(9, F), torch.randn(5, F)]
    for norm in (ghost, plain):
        rnnnorm.recalibrate(norm, copy.deepcopy(batches), lambda x, norm=norm: norm(x, 0), way="pooled")
    for ours, theirs in zip(step_statistics(ghost), step_statistics(plain), strict=True):
        assert torch.equal(ours.population_mean[0], theirs.population_mean[0])  # type: ignore[index]


def test_processes_have_parts_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """In training; population statistics are those of all."""
    monkeypatch.setattr("rnnnorm.norms.synchronized.processes", lambda: 2)
    ghost, plain = (BatchNorm(F, ghost=k, sync=True) for k in (2, None))
    assert plain.synchronizes()
    assert not ghost.synchronizes()
    monkeypatch.setattr(ghost, "wants_moments", lambda: True)
    assert ghost.eval().synchronizes()

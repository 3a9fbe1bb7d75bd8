"""Which layers the scan in one pass covers, and what it must compute there."""

from __future__ import annotations

import pytest
from scan.native_cases import (
    BY_COLUMN,
    COVERED,
    SUPPORTED,
    assert_near,
    build,
    data,
    layer_of,
    needs_library,
    ran,
    run,
    states,
    twin,
)
from torch import Tensor

import rnnnorm
from rnnnorm.norms.layer import LayerNorm
from rnnnorm.scan import plan

ROWS = {"ln", "ln-carried", "rms", "gn", "ln-sum", "ln-cell-only", "ln-per-gate", "ln-simple"}
COLUMNS = {"bn-timestep", "bn-shared", "bn-window", "bn-joint", "bn-star", "bn-frozen"}
OTHERS = {"adanorm", "basicnorm", "biasnorm", "derf"}
VERTICAL = {"bn-vertical", "bn-vertical-framewise"}


class Shifted(LayerNorm):
    """A subclass that computes something else and does not say so."""

    name = "test-shifted"

    def forward(self, x: Tensor, t: int = 0) -> Tensor:
        return super().forward(x, t) + 1


def test_covered_presets() -> None:
    assert {"none", "wn"} | ROWS | COLUMNS | VERTICAL <= set(COVERED)
    assert not OTHERS & set(SUPPORTED)
    assert set(SUPPORTED) - set(COVERED) == {"dyt", "normprop"}


@pytest.mark.parametrize("norm", [name for name in rnnnorm.presets() if name not in SUPPORTED])
def test_other_presets_run_by_the_reference(norm: str) -> None:
    assert ran(rnnnorm.LSTM(3, 4, norm=norm)) == "reference"
    with pytest.raises(ValueError, match="'native' does not cover this LSTM"):
        rnnnorm.LSTM(3, 4, norm=norm, backend="native")


@pytest.mark.parametrize("norm", sorted(OTHERS))
def test_so_do_other_cells(norm: str) -> None:
    """A squashing that is derived from a known one is another one."""
    assert ran(rnnnorm.GRU(3, 4, norm=rnnnorm.Norm(input=norm, hidden="ln"))) == "reference"
    assert ran(rnnnorm.RNN(3, 4, norm=rnnnorm.Norm(output=norm))) == "reference"


@needs_library
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("norm", SUPPORTED)
def test_covered_presets_run_natively(norm: str, training: bool) -> None:
    lstm = rnnnorm.LSTM(3, 4, norm=norm).train(training)
    assert lstm.ran == ""
    assert ran(lstm) == "native"


@needs_library
@pytest.mark.parametrize(
    "norm",
    [
        rnnnorm.Norm(cell="bn:statistics=timestep", carried=True),
        rnnnorm.Norm(joint="gn:groups=4", cell="ln", carried=True),
        rnnnorm.Norm(input="rms"),
        rnnnorm.Norm(input="bn:statistics=sequence", hidden="ln", cell="rms"),
        rnnnorm.Norm(input="gn:groups=1", hidden="ln:eps=0.01"),
        rnnnorm.Norm(input="wn", hidden="rms"),
        rnnnorm.Norm(hidden="bn:statistics=shared"),
        rnnnorm.Norm(joint="rms"),
        rnnnorm.Norm(input="ln", hidden="bn:statistics=timestep"),
        rnnnorm.Norm(hidden="gn:groups=2"),
        rnnnorm.Norm(cell="gn:groups=17"),
        rnnnorm.Norm(input="ln", output="ln"),
    ],
    ids=str,
)
def test_own_combinations(norm: rnnnorm.Norm) -> None:
    """What no preset does: another place alone, kinds mixed, another ε in each place."""
    lengths = (5, 5, 4, 4, 3, 3, 3, 1)
    lstm = build(norm, num_layers=2, max_steps=5, backend="auto")
    x, hx = data(lengths), states(lstm, 8)
    expected = run(twin(lstm), x, hx, lengths)
    assert_near(run(lstm, x, hx, lengths), expected)
    assert lstm.ran == "native"


@pytest.mark.parametrize(
    "norm",
    [
        rnnnorm.Norm(joint="ln", input="ln"),
        rnnnorm.Norm(joint="bn:statistics=timestep", input="bn:statistics=sequence"),
        rnnnorm.Norm(hidden="test-shifted"),
    ],
    ids=str,
)
def test_combinations_that_are_not_covered(norm: rnnnorm.Norm) -> None:
    assert ran(rnnnorm.LSTM(3, 4, norm=norm)) == "reference"
    with pytest.raises(ValueError, match="use backend='auto'"):
        rnnnorm.LSTM(3, 4, norm=norm, backend="native")


def test_plan_of_a_layer() -> None:
    made = plan.make_plan(layer_of(rnnnorm.LSTM(3, 5, norm="bn-star")))
    assert list(made.places) == ["input", "hidden", "cell"]
    assert [p.gain.shape for p in made.places.values() if p.gain is not None] == [(20,), (20,), (5,)]
    assert [p.whole for p in made.places.values()] == [True, False, False]
    assert [p.by_column for p in made.places.values()] == [False, True, True]
    assert made.by_column
    made = plan.make_plan(layer_of(rnnnorm.LSTM(3, 5, norm="ln-per-gate")))
    assert [(p.groups, p.centered, p.by_row) for p in made.places.values()] == [(4, True, True)] * 2
    assert not plan.make_plan(layer_of(rnnnorm.LSTM(3, 5, norm="rms"))).places["cell"].centered
    assert plan.make_plan(layer_of(rnnnorm.LSTM(3, 5, norm="ln-carried"))).carried


@pytest.mark.parametrize("norm", [name for name in BY_COLUMN if name != "bn-frozen"])
def test_steps_with_moments_of_their_own(norm: str) -> None:
    lstm = rnnnorm.LSTM(3, 5, norm=norm)
    whole = norm in ("bn-vertical", "bn-vertical-ln")
    made = plan.make_plan(layer_of(lstm))
    assert made.own_steps([4, 3, 2, 2, 1, 1]) == (6 if whole else 4)
    assert made.own_steps([1]) == (1 if whole else 0)
    lstm.eval()
    assert made.own_steps([4, 1]) == (2 if whole else 0)
    with rnnnorm.statistics(lstm, "batch"):
        assert made.own_steps([4, 1]) == (2 if whole else 1)

"""The study of costs: conditions and findings, counts and ratios, one tiny real run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from studies.tables import drawn, made, reread, run_tiny, verdicts

import rnnnorm.studies.cost as module
from rnnnorm import LSTM
from rnnnorm.bench.peak import Peak
from rnnnorm.bench.shapes import Shape
from rnnnorm.studies.cost import CHEAP, COSTLY, PUBLISHED, Cost
from rnnnorm.studies.framework.compose import save_figure
from rnnnorm.studies.framework.measurements import where
from rnnnorm.studies.framework.settings import load
from rnnnorm.studies.framework.trial import Trial

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def quick() -> Cost:
    return Cost(load("cost", quick=True))


def table(cost: Cost) -> pd.DataFrame:
    """What the trials might measure."""

    def rows(trial: Trial) -> Iterator[dict[str, Any]]:
        c, jitter = trial.conditions, 1e-3 * ((trial.seed * 7 + len(trial.norm)) % 5 - 2)
        if c["part"] == "sizes":
            yield {"quantity": "stored", "value": 9 * float(c["max_steps"]) / 4 / float(c["width"])}
            return
        times = {"none": 1.0, "bn-timestep": 1.5, "ln": 1.5, "wn": 1.04, "normprop": 1.04}
        time = 1 + float(c["T"]) / 1000 if c["part"] == "length" else times.get(trial.norm, 1.15)
        yield {"quantity": "time", "value": time + jitter}
        if c["part"] == "slots":
            yield {"quantity": "stored", "value": 1 + float(c["max_steps"]) / 100}
        if c["part"] == "preset" and c["backend"] == "auto" and trial.seed == 0:
            yield {"quantity": "memory", "value": 1.0 if trial.norm == "none" else 2.0}

    return made(cost.trials(), rows)


def put(m: pd.DataFrame, value: float, **chosen: Any) -> None:
    here = m["quantity"] == "time"
    for column, wanted in chosen.items():
        here &= m[column].isin(wanted) if isinstance(wanted, list) else m[column] == wanted
    assert here.any()
    m.loc[here, "value"] = value + 1e-4 * m.loc[here, "seed"]


@pytest.mark.parametrize("off", [-0.01, 0.01])
def test_costly_and_cheap_are_above_and_below_what_the_method_says(quick: Cost, off: float) -> None:
    m = table(quick)
    put(m, COSTLY + off, part="preset", norm=["bn-timestep", "ln"])
    put(m, CHEAP + off, part="preset", norm=["wn", "normprop"])
    found = verdicts(quick, m)
    assert found["costly"] == ("supported" if off > 0 else "refuted")
    assert found["cheap"] == ("supported" if off < 0 else "refuted")
    assert f"more than {COSTLY:g} times" in Cost.method
    assert f"less than {CHEAP:g} times" in Cost.method


def test_headlines_are_eager_as_the_published_numbers_are(quick: Cost) -> None:
    found = {v.claim.key: [case.condition for case in v.cases] for v in quick.judge(table(quick))}
    assert found["costly"] == ["bn-timestep, eager", "ln, eager", "bn-timestep, compiled", "ln, compiled"]
    assert found["cheap"][0] == "wn, eager"
    assert found["memory"][:4] == [*(f"H = 64, max_steps = {T}" for T in (50, 100, 400)), "H = 256, max_steps = 50"]
    assert found["slots"] == ["max_steps 100 → 1000", "max_steps 100 → 10000"]


def test_slots_are_compared_with_the_fewest_seed_by_seed(quick: Cost) -> None:
    m = table(quick)
    for seed in quick.settings.seeds:  # a slow machine in one repetition is slow with many slots, too
        put(m, 1.0 + seed, part="slots", max_steps=100, seed=seed)
        put(m, 1.05 + seed, part="slots", max_steps=[1000, 10000], seed=seed)
    (found,) = (v for v in quick.judge(m) if v.claim.key == "slots")
    assert [case.effect.mean for case in found.cases] == pytest.approx([0.05, 0.05])
    assert found.verdict == "supported"


def test_findings_name_the_cheapest_and_the_dearest(quick: Cost) -> None:
    m = table(quick)
    put(m, 3.21, part="preset", norm="gn", backend="auto")
    put(m, 0.87, part="preset", norm="rms", backend="auto")
    put(m, 9.5, part="preset", norm="brn", backend="reference")
    put(m, 1.77, part="preset", norm="bn-timestep", backend="reference")
    best, compiled, eager, beside, memory = quick.findings(m)
    assert "`rms` compiled (0.87)" in best
    assert compiled == (
        "A training step, compiled, takes 0.87 (`rms`) to 3.21 (`gn`) times the time of the plain LSTM."
    )
    assert eager.startswith("A training step, eager, takes ")
    assert "to 9.50 (`brn`)" in eager
    assert beside.startswith("Beside the published numbers, eagerly: `bn-timestep` 1.77 (published 1.41), `ln` ")
    assert "`wn` 1.04 (published 1.04)" in beside
    assert memory == (
        "Statistics of `bn-timestep` outgrow W_ih and W_hh beyond T = 28 at H = 64, 114 at H = 256, 228 at H = 512, "
        "444 at H = 1000."
    )


def test_findings_need_no_other_norm_than_there_is(quick: Cost) -> None:
    m = table(quick)
    assert quick.findings(m[m["norm"] == "none"]) == []
    said = quick.findings(m[m["norm"] == "gn"])
    assert len(said) == 2
    assert not any("published" in sentence for sentence in said)


def test_published_ratios_are_those_of_the_claims() -> None:
    published = " ".join(claim.published for claim in Cost.claims)
    for ratio in PUBLISHED.values():
        assert f"{ratio:.2f}" in published


def test_the_figure_shows_the_numbers(quick: Cost, tmp_path: Path) -> None:
    m = reread(table(quick), tmp_path)
    panels = quick.panels(m)
    png, _ = save_figure(panels, tmp_path, quick.question)
    assert matplotlib.image.imread(png).std() > 0.02
    *presets, memory, length, slots = (drawn(panel) for panel in panels)
    for backend, axes in zip(("auto", "reference"), presets, strict=True):
        marks = [float(x) for line in axes.lines for x in np.ravel(line.get_xdata())]
        for norm in quick.settings.norms:
            mean = where(m, quantity="time", part="preset", norm=norm, backend=backend)["value"].mean()
            assert any(abs(x - mean) < 1e-12 for x in marks), (norm, backend)
        assert axes.get_yticklabels()[::-1][0].get_text() == "none"  # the cheapest on top
        assert len(axes.get_yticklabels()[::-1]) == len(quick.settings.norms)
    assert len(memory.get_yticklabels()[::-1]) == len(quick.settings.norms)
    lines = {line.get_label(): line for line in length.lines}
    assert lines["ln"].get_xdata().tolist() == [25, 100, 400]
    assert lines["ln"].get_ydata().tolist() == pytest.approx([1.025, 1.1, 1.4], abs=0.003)
    lines = {line.get_label(): line for line in slots.lines}
    assert lines["stored statistics / weights"].get_ydata().tolist() == pytest.approx([2, 11, 101])


@pytest.mark.parametrize(("H", "T", "ratio"), [(64, 100, 3.5), (512, 100, 0.44), (9, 4, 1.0)])
def test_statistics_against_weights_are_what_the_formula_says(quick: Cost, H: int, T: int, ratio: float) -> None:
    trial = Trial({"part": "sizes", "width": H, "max_steps": T}, "bn-timestep", 0)
    (row,) = quick.measure(trial, None)
    assert row["quantity"] == "stored"
    assert row["value"] == pytest.approx(9 * T / (4 * H))
    assert row["value"] == pytest.approx(ratio, abs=0.02)


def test_whether_statistics_outgrow_the_weights_depends_on_both_sizes(quick: Cost) -> None:
    (found,) = (v for v in quick.judge(table(quick)) if v.claim.key == "memory")
    holds = {case.condition for case in found.cases if case.standing == "supported"}
    assert "H = 64, max_steps = 100" in holds
    assert "H = 512, max_steps = 100" not in holds
    assert len(found.cases) == 12


def test_times_are_measured_one_at_a_time() -> None:
    assert Cost.alone  # beside another process no time means anything


@pytest.fixture
def tiny(tmp_path: Path) -> Cost:
    (tmp_path / "tiny.yaml").write_text(
        "seeds: 2\nnorms: [none, ln]\n"
        "options: {steps: 5, batch_size: 4, hidden_size: 8, seconds: 0.02, lengths: [5], slots: [5, 50],"
        " growing: [ln]}\n"
    )
    return Cost(load("cost", quick=True, own=str(tmp_path / "tiny.yaml")))


@pytest.fixture
def peaks(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Peak memory as it would be measured in a process of its own: 3 MB, and 1 MB without a norm."""
    asked: list[tuple[Any, ...]] = []

    def peak(*of: Any) -> Peak:
        asked.append(of[:4])
        return Peak(1_000_000 if of[2] == "none" else 3_000_000, "VmHWM", "auto")

    monkeypatch.setattr(module, "peak", peak)
    return asked


def measured(cost: Cost, norm: str, seed: int = 0, **conditions: Any) -> dict[str, float]:
    here = {"part": "preset", "backend": "auto", "T": 5, "max_steps": 5, **conditions}
    return {str(row["quantity"]): float(row["value"]) for row in cost.measure(Trial(here, norm, seed), None)}


def test_memory_is_a_ratio_of_two_processes_and_measured_once(tiny: Cost, peaks: list[tuple[Any, ...]]) -> None:
    assert measured(tiny, "ln")["memory"] == 3
    shape = Shape(5, 4, 8, 8)
    assert [(one[1], one[2]) for one in peaks] == [(shape, "ln"), (shape, "none")]
    assert "memory" not in measured(tiny, "ln", seed=1)
    assert "memory" not in measured(tiny, "ln", backend="reference")
    assert "memory" not in measured(tiny, "ln", part="length")
    assert len(peaks) == 2


@pytest.mark.parametrize(
    ("norm", "added"), [("none", 0), ("ln", 10), ("bn-timestep", 10), ("bn-shared", 10), ("wn", 8)]
)
def test_parameters_and_statistics_are_those_of_a_layer(
    tiny: Cost, peaks: list[tuple[Any, ...]], norm: str, added: int
) -> None:
    """Multiples of H: gains of both products, 4 each, and of c, and a bias; the lengths of the rows of both weights."""
    found = measured(tiny, norm, max_steps=20)
    own = LSTM(8, 8, norm=norm, max_steps=20)
    weights = own.weight_ih_l0.numel() + own.weight_hh_l0.numel()
    assert weights == 8 * 8 * 8
    assert found["parameters"] == pytest.approx(added * 8 / weights)
    kept = sum(b.numel() for name, b in own.named_buffers() if name.endswith(("running_mean", "running_var")))
    assert found["stored"] == pytest.approx(kept / weights)
    assert (found["stored"] > 0) == norm.startswith("bn-")


def test_statistics_per_timestep_grow_with_the_slots_and_shared_ones_do_not(tiny: Cost) -> None:
    """4H for W_ih x, 4H for W_hh h and H for c, a mean and a variance of each, per slot."""
    for slots in (20, 40, 200):
        here = {"part": "slots", "max_steps": slots}
        assert measured(tiny, "bn-timestep", **here)["stored"] == pytest.approx(2 * 9 * 8 * slots / (8 * 64))
    assert measured(tiny, "bn-shared", part="slots", max_steps=20)["stored"] == pytest.approx(2 * 9 * 8 / (8 * 64))


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_ratios_are_those_of_the_rounds(
    tiny: Cost, peaks: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    asked: list[Any] = []

    def interleave(steps: dict[str, Any], seconds: float, device: Any, seed: int) -> dict[str, list[float]]:
        asked.append((steps, seconds, seed))
        for step in steps.values():
            step.run()
            step.reset()
        return {"none": [1.0, 2.0, 4.0], "norm": [3.0, 4.0, 4.0]}

    monkeypatch.setattr(module, "interleave", interleave)
    found = measured(tiny, "ln", seed=1, backend=backend)
    assert found["time"] == 2.0  # the median of 3, 2 and 1
    assert found["milliseconds"] == 4000.0
    ((steps, seconds, seed),) = asked
    assert (list(steps), seconds, seed) == (["none", "norm"], 0.02, 1)
    assert "parameters" in found or backend == "reference"


def test_the_reference_is_slower_than_the_compiled_scan(tiny: Cost, peaks: list[tuple[Any, ...]]) -> None:
    """Both are what they are called."""
    compiled, eager = (measured(tiny, "ln", backend=b)["milliseconds"] for b in ("auto", "reference"))
    assert eager > compiled > 0


def test_a_tiny_run(tmp_path: Path) -> None:
    settings = (
        "seeds: 1\nnorms: [ln]\n"
        "options: {steps: 5, batch_size: 4, hidden_size: 8, seconds: 0.02, backends: [auto], lengths: [], slots: [50],"
        " growing: []}\n"
    )
    m = run_tiny("cost", settings, tmp_path)
    assert set(m["part"]) == {"preset", "sizes", "slots"}
    times = where(m, quantity="time")["value"]
    assert len(times) == 2
    assert times.between(0.1, 100).all()
    assert where(m, quantity="memory")["value"].item() > 0
    assert where(m, quantity="stored", part="slots")["value"].item() == pytest.approx(2 * 9 * 8 * 50 / (8 * 64))

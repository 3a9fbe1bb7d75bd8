"""The study of raggedness: verdicts, figure, grid, and a run on data of the user's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
import pytest
from studies.tables import made, reread, verdicts

from rnnnorm.studies.framework.command import study
from rnnnorm.studies.framework.measurements import read
from rnnnorm.studies.framework.plots import save_figure
from rnnnorm.studies.framework.settings import load
from rnnnorm.studies.framework.trial import Trial
from rnnnorm.studies.measures.ragged_claims import CLAIMS
from rnnnorm.studies.raggedness import Raggedness

matplotlib.use("Agg")

CLAIMED = [claim.key for claim in CLAIMS]
PARITY = Path(__file__).parents[2] / "CONTRIBUTING.md"


def quick(**keys: Any) -> Raggedness:
    return Raggedness(load("raggedness", True, **keys))


def rows(trial: Trial, claim: str = "", answer: str = "yes") -> Iterator[dict[str, Any]]:
    """Measurements by which every claim holds, apart from one, which fails or depends on the seed."""

    def sign(key: str) -> float:
        if key != claim:
            return 1.0
        return {"yes": 1.0, "no": -1.0, "by seed": (-1.0) ** trial.seed}[answer]

    c, norm = trial.conditions, trial.norm
    jitter = 1e-4 * trial.seed
    base, cure = norm == "bn-timestep", norm.startswith(("bn-timestep:", "bn-window", "brn"))
    yield {"quantity": "diverged", "value": 0.0}
    if c["data"] != "fixed":
        yield {"quantity": "late_start", "value": 48}
    for t in (1, 10, 50, 60):
        yield {"quantity": "active", "t": t, "value": 64.0 - t}
        yield {"quantity": "visits", "t": t, "value": 1 - t / 64}
        for mode in ("running", "population") if norm.startswith("bn") else ():
            yield {"quantity": "off_by", "mode": mode, "t": t, "value": 0.01 * (t + 1)}
    for region in ("all",) if c["data"] == "fixed" else ("all", "early", "late"):
        exact = 0.7 + jitter
        if c["data"] == "framed":
            exact -= 0.1 * sign("constant")
        if c["padding"] != "no":
            exact -= 0.1 * sign("padding")
        if base and region == "late":
            exact -= 0.3 * sign("survivors")
        values = dict.fromkeys(("running", "population", "batch"), exact)
        if base:
            values["running"] = exact - 0.15 * sign("running")
            values["at rest"] = values["running"] + (0.1 if sign("lag") > 0 else 0.05) * sign("running")
        if cure:  # compared with the base's population statistics, and late with its running averages
            fallen = 0.3 * sign("survivors") if region == "late" else 0.0
            values["running"] = exact - fallen - 0.1 * sign("cure")
            if "min_rows" in norm:
                values["running"] -= 0.1 - 0.1 * sign("rows")
            if "pool" in norm:
                values["running"] -= 0.1 - 0.1 * sign("tail")
        for mode, value in values.items():
            yield {"quantity": "score", "region": region, "mode": mode, "value": value}
            yield {"quantity": "bucket", "mode": mode, "t": 10, "last": 20, "count": 9, "value": value}
            yield {"quantity": "bucket", "mode": mode, "t": 21, "last": 63, "count": 9, "value": value - 0.1}
        if norm.startswith("bn"):
            spread = {"fixed": 0.0, "uniform": 0.1}.get(str(c["data"]), 0.2)
            yield {"quantity": "gap", "region": region, "value": spread * sign("gap") + jitter * (1 + spread)}


def table(claim: str = "", answer: str = "yes", study: Raggedness | None = None) -> pd.DataFrame:
    return made((study or quick()).trials(), lambda trial: rows(trial, claim, answer))


class TestVerdicts:
    def test_every_claim_can_be_supported(self) -> None:
        assert verdicts(quick(), table()) == dict.fromkeys(CLAIMED, "supported")

    @pytest.mark.parametrize("claim", [key for key in CLAIMED if key != "running"])
    @pytest.mark.parametrize(("answer", "expected"), [("no", "contradicted"), ("by seed", "depends")])
    def test_a_claim_follows_its_measurements(self, claim: str, answer: str, expected: str, tmp_path: Path) -> None:
        found = table(claim, answer)
        assert verdicts(quick(), reread(found, tmp_path))[claim] == expected

    def test_a_verdict_says_where_it_holds_and_between_which_effects(self) -> None:
        (tail,) = (verdict for verdict in quick().judge(table("tail", "no")) if verdict.claim.key == "tail")
        assert tail.says == (
            "Of 1 conditions it holds in 0 and fails in 1; open: 0. "
            "Effect -0.150 [-0.150, -0.150] (heavy-tailed lengths)."
        )

    def test_a_round_trip_changes_no_verdict(self, tmp_path: Path) -> None:
        before, after = (quick().judge(found) for found in (table(), reread(table(), tmp_path)))
        assert [verdict.says for verdict in before] == [verdict.says for verdict in after]

    def test_running_averages_that_are_better_contradict_that_they_are_terrible(self) -> None:
        found = verdicts(quick(), table("running", "no"))
        assert found["running"] == "contradicted"
        assert "lag" not in found  # nothing fails that lag could explain

    @pytest.mark.parametrize("norms", ["ln", "none,ln", "bn-timestep", "none,bn-vertical"])
    def test_fewer_norms_leave_out_claims_without_data(self, norms: str) -> None:
        chosen = quick(norms=norms)
        found = verdicts(chosen, table(study=chosen))
        assert set(found) <= set(CLAIMED)
        assert ("survivors" in found) == ({"none", "bn-timestep"} <= set(norms.split(",")))
        chosen.findings(table(study=chosen))

    def test_findings_carry_the_numbers(self) -> None:
        said = " ".join(quick().findings(table()))
        assert "0.450" in said  # running averages where the first symbol is constant: 0.7 - 0.1 - 0.15
        assert "Advice: use recalibration: +0.150" in said
        assert "lag costs 0.100, noise 0.050" in said

    def test_a_diverged_run_is_reported(self) -> None:
        found = table()
        first = (found["quantity"] == "diverged") & (found["norm"] == "bn-shared") & (found["seed"] == 0)
        found.loc[first, "value"] = 1.0
        assert "3 runs diverged and have no scores: bn-shared" in quick().findings(found)[-1]


class TestGrid:
    @pytest.mark.parametrize("size", ["quick", "full"])
    @pytest.mark.parametrize("kind", ["generated", "real"])
    def test_trials_are_unique_and_have_seeds_enough(
        self, size: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("RNNNORM_DATA", raising=False)
        data_dir = str(tmp_path) if kind == "real" else None
        trials = Raggedness(load("raggedness", size == "quick", data_dir=data_dir)).trials()
        assert len({(t.arm, t.norm, t.seed) for t in trials}) == len(trials)
        assert {t.seed for t in trials} >= {0, 1, 2}
        real = {"EWT", "JSB", "Japanese vowels", "spoken digits"}
        assert ({str(t.conditions["data"]) for t in trials} >= real) == (data_dir is not None)

    def test_the_folder_of_real_data_reaches_the_module_that_reads_it(self, tmp_path: Path) -> None:
        trials = quick(data_dir=str(tmp_path)).trials()
        configs = {t.conditions["data"]: t.config["data"]["init_args"] for t in trials if t.config is not None}
        assert configs["EWT"]["data_dir"] == str(tmp_path)
        assert configs["Japanese vowels"]["data"]["init_args"]["data_dir"] == str(tmp_path)

    def test_lengths_change_nothing_for_norms_without_statistics(self) -> None:
        fixed = {t.norm for t in quick().trials() if t.conditions["data"] == "fixed"}
        assert fixed == {"bn-vertical", "bn-shared", "bn-timestep"}


class TestFigure:
    def test_panels_draw(self, tmp_path: Path) -> None:
        png, svg = save_figure(quick().panels(table()), tmp_path, "title")
        assert png.stat().st_size > 10_000
        assert svg.is_file()

    @pytest.mark.parametrize("norms", ["ln", "bn-timestep"])
    def test_panels_draw_what_there_is(self, norms: str, tmp_path: Path) -> None:
        chosen = quick(norms=norms)
        save_figure(chosen.panels(table(study=chosen)), tmp_path, "title")


def parity_module(folder: Path) -> None:
    """The data module of CONTRIBUTING.md's recipe, with fewer sequences."""
    text = PARITY.read_text(encoding="utf-8").split("<!-- task: parity.py -->")[1]
    source = text.split("```python\n")[1].split("```")[0]
    (folder / "ragged_parity.py").write_text(source, encoding="utf-8")


@pytest.mark.filterwarnings("ignore")
def test_data_of_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parity_module(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        """
seeds: 1
norms: [none, bn-timestep]
options: {cures: ["bn-timestep:min_rows=4"], mixed_norms: [bn-timestep]}
data: {class_path: ragged_parity.Parity, init_args: {batch_size: 64}}
model: {init_args: {hidden_size: 8}}
trainer: {max_epochs: 1}
""",
        encoding="utf-8",
    )
    out = tmp_path / "out"
    assert study(["raggedness", "--quick", "-c", str(mine), "--jobs", "1", "--out", str(out)]) == 0
    measured = read(out / "raggedness")
    assert set(measured["data"]) == {"own"}
    assert set(measured["padding"]) == {"no", "frozen", "running"}
    assert set(measured["batches"]) == {"similar", "mixed"}
    scores = measured[(measured["quantity"] == "score") & measured["region"].notna()]
    assert scores["value"].between(0, 1).all()
    assert set(scores["region"]) == {"all"}  # every length is common, so there is no tail
    assert set(scores["mode"]) == {"running", "population", "batch", "at rest"}
    assert len(set(measured[measured["quantity"] == "bucket"]["t"])) > 2
    assert (out / "raggedness" / "figure.png").is_file()

"""The sampling error of a finite test set: files by sequence, and intervals over sequences and seeds."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from report.fake_runs import write_comparison, write_run

from rnnnorm.common.sequence_scores import FORMS, SequenceScores
from rnnnorm.report import build
from rnnnorm.report.runs import find_runs
from rnnnorm.report.sampling import ScoredSequences, half_width, sampled
from rnnnorm.report.summary import Summary, summarize

COUNTS = np.random.default_rng(0).integers(1, 30, size=50)


def scores(metric: str, values: float, form: str = "mean", **sums: np.ndarray) -> SequenceScores | None:
    measured = dict.fromkeys(sums, values)
    return SequenceScores.of(metric, "sequence", COUNTS.astype(float), sums, measured)


class TestFile:
    @pytest.mark.parametrize("form", FORMS)
    def test_the_metric_can_be_computed_again(self, form: str, tmp_path: Path) -> None:
        sums = np.random.default_rng(1).random(50) * COUNTS
        mean = sums.sum() / COUNTS.sum()
        value = float(FORMS[form](np.array(mean)))
        found = scores("m", value * (1 + 1e-6), running=sums, batch=sums)
        assert found is not None
        assert found.form == form
        found.write(tmp_path / "f.npz")
        again = SequenceScores.read(tmp_path / "f.npz")
        assert (again.metric, again.form, again.unit) == ("m", form, "sequence")
        assert again.sums["batch"].dtype == np.float32
        assert again.counts.dtype == np.int32
        assert np.array_equal(again.counts, COUNTS)
        assert FORMS[form](again.sums_by("batch").sum() / again.counts.sum()) == pytest.approx(value, rel=1e-5)
        assert np.array_equal(again.sums_by("population"), again.sums_by("running"))  # the only way to evaluate
        first = (tmp_path / "f.npz").read_bytes()
        found.write(tmp_path / "f.npz")
        assert (tmp_path / "f.npz").read_bytes() == first

    def test_numbers_of_right_answers_are_whole(self) -> None:
        found = scores("accuracy", 0.5, running=COUNTS / 2)
        whole = scores("accuracy", 1.0, running=COUNTS.astype(float))
        assert found is not None
        assert whole is not None
        assert (found.sums["running"].dtype, whole.sums["running"].dtype) == (np.float32, np.int32)

    def test_a_metric_that_is_no_function_of_a_mean_is_left_out(self) -> None:
        sums = np.random.default_rng(1).random(50) * COUNTS
        assert scores("f1", 0.123, running=sums) is None
        assert scores("f1", math.nan, running=sums) is None
        assert scores("accuracy", 0.5, running=np.full(50, math.nan)) is None
        assert SequenceScores.of("m", "sequence", COUNTS, {}, {}) is None

    def test_broken_files(self, tmp_path: Path) -> None:
        path = tmp_path / "f.npz"
        for content in (b"", b"PK\x03\x04broken"):
            path.write_bytes(content)
            with pytest.raises(ValueError, match="holds no scores per sequence"):
                SequenceScores.read(path)
        np.savez(path, metric="m", form="cube", unit="sequence", count=[1], sum_running=[1.0])
        with pytest.raises(ValueError, match="form 'cube'"):
            SequenceScores.read(path)
        ones: dict[str, object] = {
            "metric": "m",
            "form": "mean",
            "unit": "sequence",
            "count": [1],
            "sum_running": [1.0],
        }
        for key, value in (("unit", "banana"), ("count", [0]), ("count", [-1]), ("sum_running", ["a"]),
                           ("sum_running", [1j])):  # fmt: skip
            np.savez(path, **{**ones, key: value})  # type: ignore[arg-type]
            with pytest.raises(ValueError, match="holds no scores per sequence"):
                SequenceScores.read(path)
        np.savez(path, **{**ones, "count": [], "sum_running": []})  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="no numbers of predictions"):
            SequenceScores.read(path)
        with pytest.raises(OSError, match="nowhere"):
            SequenceScores.read(tmp_path / "nowhere.npz")


def test_resampling_is_that_of_a_bootstrap() -> None:
    random = np.random.default_rng(2)
    right = (random.random((2, 400)) < [[0.8], [0.7]]).astype(int)
    made = ScoredSequences("mean", "sequence", np.ones(400, int), {("a", 0): right[0], ("b", 0): right[1]})
    drawn = made.resampled(4000)
    difference = drawn["a", 0] - drawn["b", 0]
    assert difference.mean() == pytest.approx((right[0] - right[1]).mean(), abs=0.002)
    assert difference.std() == pytest.approx((right[0] - right[1]).std() / 20, rel=0.05)  # the same draws for both
    assert all(np.array_equal(values, made.resampled(4000)[key]) for key, values in drawn.items())


def test_blocks_do_not_change_the_number_of_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    made = ScoredSequences("exp", "sequence", COUNTS, {("a", 0): COUNTS * 0.5})
    monkeypatch.setattr("rnnnorm.report.sampling.ENTRIES", 170)  # three resamples of 50 units
    assert made.resampled(10)["a", 0] == pytest.approx([math.exp(0.5)] * 10)


@pytest.mark.parametrize("seeds", [2, 3, 10])
@pytest.mark.parametrize(("own", "sequence", "both"), [(0, 0.3, 0.1), (0.03, 0.1, 0.3), (0.3, 0.1, 0.3)])
def test_intervals_over_both_cover(seeds: int, own: float, sequence: float, both: float) -> None:
    """Differences that are sums of an effect of the seed, of the sequence, and of both."""
    random = np.random.default_rng(seeds)
    covered = []
    for _ in range(1500):
        d = own * random.normal(size=(seeds, 1)) + sequence * random.normal(size=(1, 100))
        d = d + both * random.normal(size=d.shape)
        error = d.mean(1).std(ddof=1) / math.sqrt(seeds)
        covered.append(abs(d.mean()) < half_width(0.05, error, seeds - 1, d.mean(0).std(ddof=1) / 10))
    assert np.mean(covered) >= 0.935


def with_sequences(out: Path, units: int = 200, **options: object) -> None:
    """Two norms with three seeds that have scores by sequence."""
    random = np.random.default_rng(0)
    write_comparison(out, ["none", "ln"], seeds=3, **options)
    for folder in out.glob("*/seed=*"):
        path = folder / "result.json"
        result = json.loads(path.read_text()) | {"ended_by": "max_steps"}
        right = (random.random(units) < 0.7 + 0.2 * (folder.parent.name == "ln")).astype(float)
        for scored in result["test"].values():
            scored["accuracy"] = right.mean()
        path.write_text(json.dumps(result))
        made = SequenceScores.of("accuracy", "sequence", np.ones(units), {"running": right}, {"running": right.mean()})
        assert made is not None
        made.write(folder / "test_sequences.npz")


def summary(out: Path) -> Summary:
    return sampled(summarize(find_runs(out)))


class TestReport:
    def test_it_has_intervals_over_sequences(self, tmp_path: Path) -> None:
        with_sequences(tmp_path)
        (one,) = summary(tmp_path).differences.others
        assert one.sequences.low < one.seedwise.mean < one.sequences.high
        for alone in (one.seedwise, one.sequences):
            assert one.both.high - one.both.low > alone.high - alone.low
        assert (one.p_both < 0.05) == (one.both.low > 0)
        build(tmp_path)
        text = (tmp_path / "summary.md").read_text()
        assert "other draws of the 200 test sequences" in text
        assert "95 % over sequences" in (tmp_path / "report.html").read_text()
        before = (tmp_path / "differences.csv").read_text()
        build(tmp_path)
        assert (tmp_path / "differences.csv").read_text() == before

    def test_p_agrees_with_the_interval(self) -> None:
        assert half_width(0.05, 1.0, 2, 0.0) == pytest.approx(4.302653, rel=1e-6)  # Student's t
        assert half_width(0.05, 0.0, 2, 1.0) == pytest.approx(1.959964, rel=1e-6)  # normal
        assert half_width(0.05, 1.0, 2, 1.0) == pytest.approx(math.hypot(4.302653, 1.959964), rel=1e-6)

    def test_older_folders_have_none_and_say_so(self, tmp_path: Path) -> None:
        write_comparison(tmp_path, ["none", "ln"], seeds=3)
        assert all(math.isnan(one.sequences.low) for one in summary(tmp_path).differences.others)
        build(tmp_path)
        text = (tmp_path / "summary.md").read_text()
        assert "95 % over sequences" not in text
        assert "The sampling error of the test set is not known: the runs are of a version that kept no scores" in text

    def test_a_missing_file_leaves_its_norm_out(self, tmp_path: Path) -> None:
        with_sequences(tmp_path)
        write_run(tmp_path, "wn", 0)
        write_run(tmp_path, "wn", 1)
        by_norm = {one.norm: one for one in summary(tmp_path).differences.others}
        assert math.isnan(by_norm["wn"].sequences.low)
        assert not math.isnan(by_norm["ln"].sequences.low)

    def test_a_metric_of_ones_own_is_said_to_be_left_out(self, tmp_path: Path) -> None:
        with_sequences(tmp_path)
        for path in tmp_path.glob("*/seed=*/test_sequences.npz"):
            path.unlink()
        assert summary(tmp_path).sampling.startswith("accuracy is no function of a mean over predictions")

    def test_other_test_sequences_are_not_paired(self, tmp_path: Path) -> None:
        with_sequences(tmp_path)
        path = tmp_path / "ln" / "seed=1" / "test_sequences.npz"
        found = SequenceScores.read(path)
        twice = {mode: 2 * values for mode, values in found.sums.items()}
        SequenceScores("accuracy", "mean", "sequence", 2 * found.counts, twice).write(path)
        assert summary(tmp_path).sampling == "the test sequences are not the same in all runs"
        path.write_bytes(b"broken")
        build(tmp_path)

    @pytest.mark.parametrize("changed", [{"sum_running": np.ones(200)}, {"unit": "banana"}, {"count": np.zeros(200)}])
    def test_scores_of_another_run_give_no_interval(self, tmp_path: Path, changed: dict[str, object]) -> None:
        with_sequences(tmp_path)
        for name in ("none", "ln"):
            path = tmp_path / name / "seed=1" / "test_sequences.npz"
            with np.load(path) as file:
                content = {**file, **changed}
            np.savez(path, **content)  # type: ignore[arg-type]
        found = summary(tmp_path)
        assert all(math.isnan(one.sequences.low) for one in found.differences.others)
        build(tmp_path)

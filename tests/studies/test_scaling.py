"""Badly scaled series, scalings fitted on the training split, and the path of two weights."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import expit

from rnnnorm.data import DelayedRecall
from rnnnorm.studies.data.scaling import SCALES, SCALINGS, BadlyScaled, Scaled, WeightPath, scaler, zigzag

INNER = {
    "class_path": "rnnnorm.studies.data.scaling.BadlyScaled",
    "init_args": {
        "num_train": 40,
        "num_val": 5,
        "num_test": 7,
        "length_distribution": "uniform",
        "min_length": 3,
        "max_length": 9,
    },
}


def badly(**keys: Any) -> BadlyScaled:
    sizes = {"num_train": 300, "num_val": 3, "num_test": 3, "length_distribution": "fixed", "max_length": 40}
    return BadlyScaled(**{**sizes, **keys})


def rows_of(data: Any, split: str = "train") -> np.ndarray:
    return torch.cat([rows for rows, _ in data.examples(split)]).double().numpy()


@pytest.fixture(scope="module")
def series() -> BadlyScaled:
    return badly(num_train=1500)


def latent(series: BadlyScaled) -> list[tuple[np.ndarray, int]]:
    """The series as they were before tails, scales and shifts: the inverse of what the docstring says."""
    found = []
    for rows, source in series.examples("train"):
        z = rows.double().numpy() / np.array(SCALES) - 5
        z[:, 1::2] = np.arcsinh(z[:, 1::2]) / 1.5
        found.append((z, int(source)))
    return found


def test_series_have_six_features_and_four_classes(series: BadlyScaled) -> None:
    rows, source = series.examples("train")[0]
    assert rows.shape == (40, 6)
    assert rows.dtype == torch.float32
    assert source.dtype == torch.int64
    assert {int(s) for _, s in series.examples("train")} == {0, 1, 2, 3}
    spec = series.spec
    assert (spec.task, spec.num_features, spec.num_outputs, spec.max_length) == ("classification", 6, 4, 40)


def test_scales_span_six_decades_and_none_is_centred(series: BadlyScaled) -> None:
    rows = rows_of(series)
    quiet = rows[:, ::2]  # without heavy tails: standard deviation √(1 + contrast²) of the scale, about
    assert quiet.std(0) / np.array(SCALES[::2]) == pytest.approx(1.0, rel=0.1)
    assert np.median(rows, 0) / np.array(SCALES) == pytest.approx(5.0, abs=1.0)
    assert max(SCALES) / min(SCALES) == pytest.approx(1e6)


def test_half_of_the_features_have_heavy_tails(series: BadlyScaled) -> None:
    rows = rows_of(series)
    z = (rows - rows.mean(0)) / rows.std(0)
    kurtosis = (z**4).mean(0)
    assert (kurtosis[::2] < 4).all()
    assert (kurtosis[1::2] > 8).all()


def test_what_lies_beneath_is_an_autoregression_around_the_mean_of_its_source(series: BadlyScaled) -> None:
    found = latent(series)
    means = {s: np.concatenate([z for z, source in found if source == s]).mean(0) for s in range(4)}
    centred = [z - means[source] for z, source in found]
    together = np.concatenate(centred)
    assert together.std(0) == pytest.approx(1.0, rel=0.03)
    for lag in (1, 2, 5):
        correlation = np.concatenate([z[lag:] * z[:-lag] for z in centred]).mean(0)
        assert correlation == pytest.approx(0.7**lag, abs=0.04)
    first = np.stack([z[0] for z in centred])  # stationary from the first step on
    assert first.std(0) == pytest.approx(1.0, rel=0.1)


def test_contrast_is_the_spread_of_the_sources() -> None:
    narrow, wide = badly(contrast=0.01), badly(contrast=2.0)
    spreads = []
    for data in (narrow, wide):
        found = latent(data)
        means = np.stack([np.concatenate([z for z, source in found if source == s]).mean(0) for s in range(4)])
        spreads.append(float(means.std()))
    assert spreads[0] < 0.15
    assert 1.0 < spreads[1] < 3.0


def test_sources_are_the_same_in_all_splits() -> None:
    """Else what was learned in training would be of no use in testing."""
    data = badly(num_train=400, num_test=400, contrast=1.0)
    means = {}
    for split in ("train", "test"):
        rows = [(rows.double().numpy() / np.array(SCALES), int(s)) for rows, s in data.examples(split)]
        means[split] = np.stack([np.concatenate([r for r, s in rows if s == k])[:, ::2].mean(0) for k in range(4)])
    assert means["train"] == pytest.approx(means["test"], abs=0.25)
    assert not torch.equal(data.examples("train")[0][0], data.examples("test")[0][0])


def test_series_depend_on_their_seed_alone() -> None:
    torch.manual_seed(3)
    np.random.seed(3)
    assert np.array_equal(rows_of(badly()), rows_of(badly()))
    assert not np.array_equal(rows_of(badly()), rows_of(badly(seed=1)))


@pytest.mark.parametrize("contrast", [0.0, -1.0, math.nan])
def test_without_contrast_there_is_nothing_to_tell_apart(contrast: float) -> None:
    with pytest.raises(ValueError, match="contrast must be a positive number"):
        badly(contrast=contrast)


def test_each_scaling_is_what_it_is_called() -> None:
    random = np.random.default_rng(0)
    fitted, new = random.normal(3, 2, (50, 4)), random.normal(-1, 5, (20, 4))
    low, high = fitted.min(0), fitted.max(0)
    expected = {
        "none": new,
        "minmax": (new - low) / (high - low),
        "zscore": (new - fitted.mean(0)) / np.sqrt(((fitted - fitted.mean(0)) ** 2).mean(0)),
        "log": np.where(new < 0, -np.log(1 - np.minimum(new, 0)), np.log(1 + np.maximum(new, 0))),
        "arctan": np.angle(1 + 1j * new),
        "minmax-centred": (new - fitted.mean(0)) / (high - low),
        "zscore-offset": (new - fitted.mean(0)) / fitted.std(0) + 3,
    }
    logs = [np.sign(x) * np.log1p(np.abs(x)) for x in (fitted, new)]
    expected["log-zscore"] = (logs[1] - logs[0].mean(0)) / logs[0].std(0)
    assert set(expected) == set(SCALINGS)
    for scaling, values in expected.items():
        np.testing.assert_allclose(scaler(scaling, fitted)(new), values, rtol=1e-12, atol=1e-12)


def test_the_training_split_ends_up_where_it_should() -> None:
    rows = expit(np.random.default_rng(1).normal(size=(500, 3))) * np.array([1e-3, 1.0, 1e4]) + 7
    scaled = {scaling: scaler(scaling, rows)(rows) for scaling in SCALINGS}
    assert scaled["minmax"].min(0) == pytest.approx(0.0, abs=1e-12)
    assert scaled["minmax"].max(0) == pytest.approx(1.0)
    assert scaled["zscore"].mean(0) == pytest.approx(0.0, abs=1e-9)
    assert scaled["zscore"].std(0) == pytest.approx(1.0)
    assert np.abs(scaled["arctan"]).max() < math.pi / 2


@pytest.mark.parametrize("scaling", ["minmax", "zscore"])
@pytest.mark.parametrize("value", [0.0, 255.0, float(np.float32(0.1))])
def test_a_feature_that_never_changes_is_left_at_zero(scaling: str, value: float) -> None:
    rows = np.stack([np.full(1000, value), np.arange(1000.0)], 1)
    scaled = scaler(scaling, rows)(rows)
    assert (scaled[:, 0] == 0).all()
    assert np.isfinite(scaled).all()


@pytest.mark.parametrize("scaling", ["log", "arctan"])
def test_compression_keeps_order_and_sign(scaling: str) -> None:
    x = np.array([-1e6, -1.0, -1e-3, 0.0, 1e-3, 1.0, 1e6])[:, None]
    y = scaler(scaling, x)(x)
    assert (np.diff(y[:, 0]) > 0).all()
    np.testing.assert_allclose(y, -y[::-1])
    assert y[-1] < 15


def test_scales_span_as_many_decades_as_they_should() -> None:
    def spread(**keys: float) -> float:
        module = BadlyScaled(num_train=50, num_val=1, num_test=1, max_length=20, **keys)
        sizes = torch.cat([rows for rows, _ in module.examples("train")])[:, ::5].double().std(0)
        return float(torch.log10(sizes[1] / sizes[0]))

    assert spread() - spread(decades=2.0) == pytest.approx(4.0, abs=1e-3)


def test_unknown_scalings_are_refused() -> None:
    with pytest.raises(ValueError, match="scaling must be one of none, minmax"):
        scaler("sqrt", np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"scaling must be one of .*got 'sqrt'"):
        Scaled(INNER, "sqrt")


def test_tokens_cannot_be_scaled() -> None:
    keys = {"num_train": 4, "num_val": 2, "num_test": 2, "max_length": 12, "length_distribution": "fixed"}
    path = f"{DelayedRecall.__module__}.DelayedRecall"
    with pytest.raises(ValueError, match=r"DelayedRecall has tokens and no features: there is nothing to scale"):
        Scaled({"class_path": path, "init_args": keys}, "zscore")


@pytest.mark.parametrize("scaling", SCALINGS)
def test_all_splits_are_scaled_by_what_the_training_split_says(scaling: str) -> None:
    scaled, inner = Scaled(INNER, scaling), BadlyScaled(**INNER["init_args"])
    scale = scaler(scaling, rows_of(inner))
    for split, count in (("train", 40), ("val", 5), ("test", 7)):
        assert len(scaled.examples(split)) == count
        for (rows, target), (raw, same) in zip(scaled.examples(split), inner.examples(split), strict=True):
            assert rows.dtype == torch.float32
            assert torch.equal(target, same)
            np.testing.assert_allclose(rows.numpy(), scale(raw.double().numpy()), rtol=1e-5, atol=1e-6)
    assert scaled.spec == inner.spec
    assert scaled.task == "classification"


def test_one_scaling_leaves_the_data_of_another_alone() -> None:
    """The unscaled data are shared in a process."""
    first = Scaled(INNER, "none").examples("train")[0][0].clone()
    Scaled(INNER, "zscore").examples("train")[0][0].mul_(0)
    raw = Scaled(INNER, "none").examples("train")[0][0]
    assert torch.equal(raw, first)
    raw.mul_(0)
    assert torch.equal(Scaled(INNER, "none").examples("train")[0][0], first)


def test_batch_sizes_are_those_of_the_outer_module_and_examples_those_of_the_inner_one() -> None:
    other = {**INNER, "init_args": {**INNER["init_args"], "seed": 5}}
    here = Scaled(INNER, "none", batch_size=8, eval_batch_size=3, seed=5)
    assert here.train_dataloader().plan.batch_size == 8
    assert next(iter(here.test_dataloader())).input.batch_sizes[0] == 3
    first = here.examples("train")[0][0]
    assert torch.equal(first, Scaled(INNER, "none").examples("train")[0][0])
    assert not torch.equal(first[:3], Scaled(other, "none").examples("train")[0][0][:3])


def test_the_path_of_a_straight_line_is_as_long_as_the_way() -> None:
    line = np.linspace(0, 1, 50)[:, None] * np.array([3.0, -4.0])
    assert zigzag(line) == pytest.approx(1.0)
    assert zigzag(line[[0, -1]]) == pytest.approx(1.0)


def test_zigzag_of_known_paths() -> None:
    corner = np.array([[0, 0], [1, 0], [1, 1]], dtype=float)
    assert zigzag(corner) == pytest.approx(math.sqrt(2))
    there_and_back = np.array([[0, 0], [3, 0], [1, 0]], dtype=float)
    assert zigzag(there_and_back) == pytest.approx(5.0)
    angle = np.linspace(0, math.pi, 2001)
    half_circle = np.stack([np.cos(angle), np.sin(angle)], 1)
    assert zigzag(half_circle) == pytest.approx(math.pi / 2, rel=1e-5)
    assert zigzag(1e-6 * corner + 5) == pytest.approx(math.sqrt(2), rel=1e-6)


def test_a_path_that_ends_where_it_began_never_got_anywhere() -> None:
    assert zigzag(np.array([[0, 0], [1, 0], [0, 0]], dtype=float)) == math.inf


def walker(weight: torch.Tensor) -> Any:
    return SimpleNamespace(recurrent=SimpleNamespace(weight_ih_l0=weight))


def test_the_path_notes_two_weights_after_every_step_and_is_written_at_the_end(tmp_path: Path) -> None:
    weight = torch.arange(12.0).view(3, 4)
    trainer: Any = SimpleNamespace(loggers=[SimpleNamespace(log_dir=str(tmp_path))], is_global_zero=True)
    path = WeightPath(features=(3, 1), unit=2)
    path.on_train_start(trainer, walker(weight))
    for _ in range(3):
        weight += 1
        path.on_train_batch_end(trainer, walker(weight), None, None, 0)
    path.on_train_end(trainer, walker(weight))
    written = json.loads((tmp_path / "path.json").read_text())
    assert written == [[11.0 + k, 9.0 + k] for k in range(4)]


def test_a_path_goes_on_from_a_checkpoint() -> None:
    weight = torch.zeros(1, 2)
    whole = WeightPath()
    whole.on_train_start(None, walker(weight))
    whole.on_train_batch_end(None, walker(weight + 1), None, None, 0)
    again = WeightPath()
    again.load_state_dict(json.loads(json.dumps(whole.state_dict())))
    again.on_train_start(None, walker(weight + 1))  # must not be noted twice
    again.on_train_batch_end(None, walker(weight + 2), None, None, 1)
    assert again.points == [(0.0, 0.0), (1.0, 1.0), (2.0, 2.0)]


@pytest.mark.parametrize("keys", [{"features": (-1, 2)}, {"unit": -1}], ids=str)
def test_negative_places_are_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="at least 0, got -1"):
        WeightPath(**keys)

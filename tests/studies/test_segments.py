"""Framewise data: what the frames are made of is taken apart again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from rnnnorm.studies.data.segments import Segments

SMALL: dict[str, Any] = {"num_train": 40, "num_val": 2, "num_test": 5, "min_length": 10, "max_length": 60}


def expected(states: list[int], data: Segments) -> np.ndarray[Any, Any]:
    """The frames of a sequence without noise, one after the other."""
    M, C = data.means()
    rows, before = [], None
    for t, state in enumerate(states):
        if t > 0 and state != states[t - 1]:
            before = states[t - 1]
        rows.append(M[state] + (0 if before is None else data.trace * C[before]))
    return np.array(rows)


@pytest.mark.parametrize("keys", [{}, {"num_states": 2, "num_features": 3, "trace": 2.0, "duration": 1.5}])
def test_frames_are_the_state_and_a_trace_of_the_one_before(keys: dict[str, Any]) -> None:
    data = Segments(noise=0.0, **SMALL, **keys)
    for rows, states in data.examples("train"):
        np.testing.assert_allclose(rows.numpy(), expected(states.tolist(), data), rtol=1e-5, atol=1e-5)


def test_noise_has_the_size_that_was_asked_for() -> None:
    data = Segments(noise=1.5, **SMALL)
    rest = [rows.numpy() - expected(states.tolist(), data) for rows, states in data.examples("train")]
    assert np.concatenate(rest).std() == pytest.approx(1.5, rel=0.03)


@pytest.mark.parametrize("duration", [2.0, 6.0])
def test_segments_last_as_long_as_expected(duration: float) -> None:
    data = Segments(duration=duration, num_train=200, num_val=1, num_test=1, length_distribution="fixed")
    states = torch.stack([states for _, states in data.examples("train")])
    ends = (states[:, 1:] != states[:, :-1]).double().mean()
    assert float(ends) == pytest.approx(1 / duration, rel=0.05)


def test_a_duration_of_one_frame_changes_the_state_at_every_step() -> None:
    for _, states in Segments(duration=1, **SMALL).examples("train"):
        assert (states[1:] != states[:-1]).all()


def test_every_state_is_as_likely() -> None:
    data = Segments(num_states=4, num_train=300, num_val=1, num_test=1)
    states = torch.cat([states for _, states in data.examples("train")])
    shares = torch.bincount(states, minlength=4) / len(states)
    assert shares.tolist() == pytest.approx([0.25] * 4, abs=0.02)
    first = torch.stack([states[0] for _, states in data.examples("train")])
    assert len(first.unique()) == 4


def test_splits_share_the_task_and_seeds_do_not() -> None:
    one, other = Segments(**SMALL), Segments(**SMALL | {"num_train": 3, "max_length": 90})
    np.testing.assert_array_equal(one.means()[0], other.means()[0])
    assert not np.allclose(one.means()[0], one.means()[1])
    assert not np.allclose(one.means()[0], Segments(**SMALL, seed=5).means()[0])
    assert not one.examples("train")[0][0][:5].equal(one.examples("test")[0][0][:5])


def test_its_shape() -> None:
    spec = Segments(num_states=7, num_features=3, **SMALL).spec
    assert (spec.task, spec.num_features, spec.num_outputs, spec.max_length) == ("tagging", 3, 7, 60)


@pytest.mark.parametrize(
    "keys", [{"num_states": 1}, {"num_features": 0}, {"duration": 0.5}, {"trace": -1.0}, {"noise": -0.1}]
)
def test_segments_that_are_none_are_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(keys))):
        Segments(**SMALL, **keys)

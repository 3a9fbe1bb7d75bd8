"""Drifting streams, and learning from what comes, against plain computations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import PackedSequence

from rnnnorm.studies.data.drifting import CLASSES, DRIFTS, FEATURES, drifting, test_then_train
from rnnnorm.tasks import Classification

prequential = test_then_train  # under its own name pytest would take it for a test
del test_then_train


def classifier(norm: str = "none", **keys: float) -> Classification:
    torch.manual_seed(0)
    return Classification(drifting(4, 3, "none", 0).spec, norm=norm, hidden_size=5, **keys)


def test_the_drifts_differ_by_scale_and_shift_alone() -> None:
    calm, abrupt, gradual = (drifting(40, 7, drift, 3) for drift in ("none", "abrupt", "gradual"))
    assert calm.rows.shape == (40, 7, FEATURES)
    torch.testing.assert_close(abrupt.rows[:20], calm.rows[:20])
    torch.testing.assert_close(abrupt.rows[20:], 4 * calm.rows[20:] + 2)
    torch.testing.assert_close(gradual.rows[0], calm.rows[0])
    torch.testing.assert_close(gradual.rows[20], 2 * calm.rows[20] + 1)  # halfway: 4 ** 0.5, 2 * 0.5
    assert calm.classes.equal(abrupt.classes)
    assert calm.classes.equal(gradual.classes)


def test_sources_have_means_of_their_own_under_noise_of_variance_one() -> None:
    stream = drifting(4000, 5, "none", 0)
    means = torch.stack([stream.rows[stream.classes == c].mean((0, 1)) for c in range(CLASSES)])
    residual = stream.rows - means[stream.classes][:, None]
    assert float(residual.var()) == pytest.approx(1, abs=0.03)
    assert float(torch.pdist(means).min()) > 0.3
    assert np.bincount(stream.classes.numpy()).min() > 800


def test_streams_follow_their_seed() -> None:
    assert drifting(10, 3, "none", 1).rows.equal(drifting(10, 3, "none", 1).rows)
    assert not drifting(10, 3, "none", 1).rows.equal(drifting(10, 3, "none", 2).rows)


def test_unknown_drifts_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="abrupt, got 'sudden'"):
        drifting(10, 3, "sudden", 0)
    assert len(DRIFTS) == 3


def test_batches_come_in_order_time_major_and_whole() -> None:
    stream = drifting(7, 3, "none", 0)
    batches = list(stream.batches(2))
    assert len(batches) == 3  # one sequence is left over
    assert batches[1].target.equal(stream.classes[2:4])
    assert batches[1].input.batch_sizes.tolist() == [2, 2, 2]
    assert batches[1].input.data.view(3, 2, FEATURES)[2, 1].equal(stream.rows[3, 2])


def test_each_batch_is_predicted_before_it_is_learned_from() -> None:
    stream, task, by_hand = drifting(12, 3, "none", 0), classifier(), classifier()
    found = prequential(task, stream, 2, 1.0)
    optimizer = by_hand.configure_optimizers()
    expected = []
    for k in range(6):
        part = stream.rows[2 * k : 2 * k + 2].transpose(0, 1).reshape(-1, FEATURES)
        logits, _ = by_hand(PackedSequence(part, torch.full((3,), 2)))
        loss = torch.nn.functional.cross_entropy(logits, stream.classes[2 * k : 2 * k + 2])
        expected.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(by_hand.parameters(), 1.0)
        optimizer.step()
    assert found == pytest.approx(expected, rel=1e-5)


def test_predictions_are_by_stored_statistics() -> None:
    """Those of the batch itself would be another prediction, one that a single sequence does not allow."""
    stream = drifting(4, 3, "none", 0)
    found = prequential(classifier("bn-timestep"), stream, 4, None)
    batch, fresh = next(stream.batches(4)), classifier("bn-timestep")
    stored, own = (
        float(torch.nn.functional.cross_entropy(task(batch.input)[0], batch.target).detach())
        for task in (fresh.eval(), classifier("bn-timestep").train())
    )
    assert found == [pytest.approx(stored)]
    assert abs(stored - own) > 1e-3


def test_learning_from_the_stream_beats_guessing() -> None:
    losses = prequential(classifier(learning_rate=0.02), drifting(600, 8, "none", 0), 4, 1.0)
    assert len(losses) == 150
    assert np.mean(losses[-50:]) < math.log(CLASSES) - 0.1


def test_divergence_is_infinite_to_the_end() -> None:
    stream = drifting(10, 3, "none", 0)
    stream.rows[6:] = math.inf
    losses = prequential(classifier(), stream, 2, 1.0)
    assert [math.isfinite(loss) for loss in losses] == [True] * 3 + [False] * 2
    assert losses[3:] == [math.inf] * 2

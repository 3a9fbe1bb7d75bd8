"""All norms of a comparison start from the same weights, whatever they or the data draw."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from tasks.tiny import batches_of, model_of
from torch import Tensor

import rnnnorm
from rnnnorm.norms import NORMALIZERS, Normalizer
from rnnnorm.norms.places import Norm
from rnnnorm.tasks import SequenceTask
from rnnnorm.tasks.seeding import own_random_stream

KEYS: dict[str, Any] = {"num_layers": 2, "bidirectional": True}


def start(model: SequenceTask) -> dict[str, Tensor]:
    """The weights that every norm has, under torch's names; the two biases of the plain LSTM as their sum."""
    weights = {n: p.detach() for m in ("embedding", "head") for n, p in getattr(model, m).named_parameters(prefix=m)}
    for suffix in ("_l0", "_l0_reverse", "_l1", "_l1_reverse"):
        parts = model.recurrent.layer_weights(suffix)
        weights |= {"W_ih" + suffix: parts.W_ih, "W_hh" + suffix: parts.W_hh, "b" + suffix: parts.bias}  # type: ignore[dict-item]
    return weights


def assert_equal_start(model: SequenceTask, plain: SequenceTask) -> None:
    expected = start(plain)
    uses = model.recurrent.norm.places.values()
    kept = all(use.cls.keeps_weights for use in uses)
    directed = all(use.cls.keeps_directions for use in uses)
    for name, weight in start(model).items():
        if "W_" in name and not directed:
            continue
        if "W_" in name and not kept:  # normalization propagation keeps the directions of the rows only
            angles = F.cosine_similarity(weight, expected[name])
            torch.testing.assert_close(angles, torch.ones_like(angles), msg=name)
            continue
        composed = "W_" in name and model.recurrent.norm.name == "wn"  # g · v / ‖v‖ rounds
        tolerance = 1e-6 if composed else 0.0
        torch.testing.assert_close(weight, expected[name], rtol=tolerance, atol=tolerance, msg=name)


@pytest.mark.parametrize("init", ["orthogonal", "torch"])
@pytest.mark.parametrize("norm", rnnnorm.presets())
def test_every_preset_starts_from_the_plain_weights(norm: str, init: str) -> None:
    L.seed_everything(3, verbose=False)
    plain = model_of("tagging", init=init, **KEYS)
    L.seed_everything(3, verbose=False)
    assert_equal_start(model_of("tagging", norm=norm, init=init, **KEYS), plain)


@pytest.fixture
def noisy_norm() -> Iterator[str]:
    class Noisy(Normalizer):
        """Draws while it is built and reset, as some normalizers may."""

        name = "noisy"

        def reset_parameters(self) -> None:
            super().reset_parameters()
            torch.randn(7)

        def forward(self, x: Tensor, t: int = 0) -> Tensor:
            return x * self.gain

    yield Noisy.name
    del NORMALIZERS[Noisy.name]


def test_a_normalizer_that_draws_changes_nothing_else(noisy_norm: str) -> None:
    norm = Norm(input=noisy_norm, hidden=noisy_norm, name=noisy_norm)
    L.seed_everything(3, verbose=False)
    plain = model_of("tagging", **KEYS)
    after_plain = torch.randn(3)
    L.seed_everything(3, verbose=False)
    noisy = model_of("tagging", norm=norm, **KEYS)
    assert torch.equal(torch.randn(3), after_plain)
    assert_equal_start(noisy, plain)


def test_what_the_data_drew_does_not_matter() -> None:
    L.seed_everything(3, verbose=False)
    plain = model_of("tagging", **KEYS)
    L.seed_everything(3, verbose=False)
    torch.randn(1000)
    assert_equal_start(model_of("tagging", **KEYS), plain)


def test_another_seed_is_another_start() -> None:
    L.seed_everything(3, verbose=False)
    one = start(model_of("tagging", **KEYS))
    L.seed_everything(4, verbose=False)
    other = start(model_of("tagging", **KEYS))
    drawn = [name for name in one if not name.startswith("b_")]  # biases start at 0 and 1
    assert not any(torch.equal(one[name], other[name]) for name in drawn)


def test_streams_of_one_seed_do_not_repeat_each_other() -> None:
    def draw(name: str) -> Tensor:
        with own_random_stream(name):
            return torch.randn(4)

    torch.manual_seed(5)
    assert torch.equal(draw("a"), draw("a"))
    draws = [draw("a"), draw("b"), torch.randn(4)]
    assert not any(torch.equal(draws[i], draws[j]) for i in range(3) for j in range(i))


def test_first_losses_of_norms_without_effect_agree() -> None:
    """Weight normalization composes to the same weights, so the first loss must be the plain one."""
    batch = batches_of("tagging")[0]
    losses = [model_of("tagging", norm=norm, **KEYS).scores(batch).loss for norm in ("none", "wn")]
    torch.testing.assert_close(losses[0], losses[1])

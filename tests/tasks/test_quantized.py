"""Quantized weights: their values, straight-through gradients, what is learned, and what they are composed with."""

from __future__ import annotations

import pickle

import pytest
import torch
from tasks.tiny import SPECS, batches_of, model_of, trainer_of
from torch import Tensor

from rnnnorm import GRU, LSTM
from rnnnorm.tasks import TASKS
from rnnnorm.tasks.quantized import QUANTIZERS, quantize_weights


def lstm(norm: str, kind: str) -> tuple[LSTM, LSTM]:
    """A plain network, and one with the same weights quantized."""
    pair = []
    for _ in range(2):
        torch.manual_seed(0)
        pair.append(LSTM(5, 8, num_layers=2, bidirectional=True, norm=norm, max_steps=6, dtype=torch.float64))
    quantize_weights(pair[1], kind)
    return pair[0], pair[1]


def by_gate(W: Tensor, kind: str) -> Tensor:
    """The values that are published, gate by gate."""
    blocks = []
    for block in W.detach().chunk(4):
        least = 0.0 if kind == "binary" else 0.7 * block.abs().sum() / block.numel()
        blocks.append((block > least).double() - (block < -least).double())
    return torch.cat(blocks)


@pytest.mark.parametrize("kind", QUANTIZERS)
@pytest.mark.parametrize("norm", ["none", "wn", "ln", "bn-timestep"])
def test_weights_are_signs_and_gradients_pass_straight_through(norm: str, kind: str) -> None:
    plain, quantized = lstm(norm, kind)
    x = torch.randn(6, 4, 5, dtype=torch.float64)
    expected = {}
    with torch.no_grad():
        for suffix in plain.all_suffixes():
            for name in ("weight_ih" + suffix, "weight_hh" + suffix):
                W = getattr(plain, name).clone()
                signs = by_gate(W, kind)
                if norm == "wn":
                    signs *= (W.norm(dim=1) / signs.norm(dim=1)).unsqueeze(1)  # the gain stays
                    assert torch.allclose(getattr(quantized, name), signs, atol=1e-12)
                else:
                    assert torch.equal(getattr(quantized, name), signs)
                    plain.assign(name, signs)
                    expected[name] = W
    quantized(x)[0].square().sum().backward()
    if norm == "wn":
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in quantized.parameters())
        return
    plain(x)[0].square().sum().backward()
    for name, W in expected.items():
        learned = quantized.get_parameter(f"parametrizations.{name}.original")
        assert torch.equal(learned, W)
        assert torch.allclose(learned.grad, getattr(plain, name).grad)


def test_a_step_too_small_to_change_a_sign_changes_what_is_learned_only() -> None:
    _, network = lstm("none", "binary")
    learned = network.get_parameter("parametrizations.weight_hh_l0.original")
    before, signs = learned.detach().clone(), network.weight_hh_l0.detach().clone()
    with torch.no_grad():
        learned += 1e-9
    assert not torch.equal(learned, before)
    assert torch.equal(network.weight_hh_l0, signs)


def test_other_cells_copies_and_new_weights() -> None:
    network = GRU(3, 4, norm="wn")
    quantize_weights(network, "ternary")
    again = pickle.loads(pickle.dumps(network))
    again.load_state_dict(network.state_dict())
    x = torch.randn(5, 2, 3)
    assert torch.equal(again(x)[0], network(x)[0])
    network.reset_parameters()
    assert not torch.equal(again(x)[0], network(x)[0])


def test_norms_of_a_task_start_from_the_same_quantized_weights_and_learn() -> None:
    models = []
    for norm in ("none", "ln"):
        torch.manual_seed(0)
        models.append(model_of("tagging", norm=norm, quantize="binary"))
    assert torch.equal(models[0].recurrent.weight_hh_l0, models[1].recurrent.weight_hh_l0)
    learned = models[1].recurrent.get_parameter("parametrizations.weight_hh_l0.original").detach().clone()
    trainer_of(max_epochs=1).fit(models[1], batches_of("tagging"))
    assert set(models[1].recurrent.weight_hh_l0.detach().unique().tolist()) == {-1.0, 1.0}
    assert not torch.equal(learned, models[1].recurrent.get_parameter("parametrizations.weight_hh_l0.original"))


def test_tied_embeddings_are_the_weights_of_the_head() -> None:
    model = TASKS["language-modelling"](SPECS["language-modelling"], hidden_size=8, embedding_size=8, tied=True)
    untied = TASKS["language-modelling"](SPECS["language-modelling"], hidden_size=8, embedding_size=8)
    count = [sum(p.numel() for p in m.parameters()) for m in (model, untied)]
    assert count[1] - count[0] == 11 * 8
    trainer_of(max_epochs=1).fit(model, batches_of("language-modelling"))
    assert model.embedding.embeddings[0].weight is model.head.weight
    again = TASKS["language-modelling"](SPECS["language-modelling"], hidden_size=8, embedding_size=8, tied=True)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.head.weight, model.head.weight)

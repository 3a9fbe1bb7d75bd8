"""A probe looks on: what is trained is the same to the last bit, with it and without."""

from __future__ import annotations

from functools import cache
from typing import Any

import lightning as L
import pytest
import torch
from tasks.tiny import Batches, batches_of, model_of, trainer_of
from torch import Tensor
from torch.utils.checkpoint import checkpoint

import rnnnorm
from rnnnorm.probes import ALL, Probe, all_probes

pytestmark = pytest.mark.filterwarnings("ignore")
EPOCHS = 4  # of three batches
CASES: dict[str, dict[str, Any]] = {
    "none": {"norm": "none"},
    "ln": {"norm": "ln"},
    "bn-timestep": {"norm": "bn-timestep"},
    "bn-vertical": {"norm": "bn-vertical"},
    "online": {"norm": "online"},
    "brn": {"norm": "brn"},
    "wn": {"norm": "wn"},
    "bidirectional": {"norm": "ln", "bidirectional": True, "dropout": 0.3},
    "gru": {"norm": "bn-timestep", "cell": "gru"},
    "rnn": {"norm": "none", "cell": "rnn-tanh"},
    "starts from data": {"norm": "wn:init=data"},
    "classes": {"task": "classification", "norm": "bn-shared", "cell": "gru"},
    "numbers": {"task": "regression", "norm": "wn-mobn", "cell": "rnn-identity", "initial_state_noise": 0.1},
    "noise": {
        "norm": "none",
        "initial_state_noise": 0.1,
        "cell_options": {"zoneout": 0.2, "hidden_dropout": 0.2, "recurrent_dropout": 0.1, "weight_dropout": 0.2},
    },
}


def trained(case: str, probes: list[Probe]) -> dict[str, Tensor]:
    """The state of a model, its optimizer's, what it logged and the random stream after twelve steps."""
    keys = {"task": "tagging", "num_layers": 2, "hidden_size": 12, **CASES[case]}
    torch.manual_seed(3)
    model = model_of(**keys)
    trainer = trainer_of(max_epochs=EPOCHS, callbacks=probes)
    trainer.fit(model, batches_of(keys["task"]), batches_of(keys["task"], 7))
    assert "run_direction" not in vars(model.recurrent)
    state = dict(model.state_dict()) | trainer.callback_metrics
    for k, values in trainer.optimizers[0].state_dict()["state"].items():
        state |= {f"optimizer.{k}.{name}": torch.as_tensor(value) for name, value in values.items()}
    return state | {"random": torch.get_rng_state()}


@cache
def plain(case: str) -> dict[str, Tensor]:
    return trained(case, [])


def same_bits(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    different = [name for name, value in expected.items() if not torch.equal(found[name], value)]
    assert not different, different


@pytest.mark.parametrize(("number", "case"), enumerate(CASES))
def test_no_bit_changes(number: int, case: str) -> None:
    """One probe for each case, in turns."""
    measured = ALL[number % len(ALL)](every=2)
    same_bits(trained(case, [measured]), plain(case))
    assert measured._measured >= 4


@pytest.mark.parametrize("case", CASES)
def test_nor_by_all_of_them(case: str) -> None:
    probes = all_probes(every=1)
    same_bits(trained(case, probes), plain(case))
    first = 1 if case == "starts from data" else 0  # before that it has nothing to show
    assert probes[0].steps == list(range(first, 3 * EPOCHS))


def test_a_normalizer_of_another_kind_has_no_bound_and_breaks_nothing() -> None:
    probe = ALL[-1](every=2)
    trained("online", [probe])
    assert not any(name.startswith("bound/") for name in probe.tables)


class Somebody(L.LightningModule):
    """Uses its network in ways of its own: weights computed anew, activations computed twice, hooks that count."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.calls = kind, 0
        self.network = rnnnorm.LSTM(3, 5, 2, norm="ln")
        self.scale = torch.nn.Parameter(torch.ones(20, 5))
        if kind == "computed":
            self.raw = torch.nn.Parameter(self.network.weight_hh_l0.detach().clone())
            del self.network._parameters["weight_hh_l0"]
        if kind == "hooked":
            self.network.norms_l1.cell.register_forward_hook(self._count)
        self.automatic_optimization = kind != "manual"

    def _count(self, *_: Any) -> None:
        self.calls += 1

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        network = self.network
        if self.kind == "computed":
            vars(network)["weight_hh_l0"] = self.raw * self.scale
        if self.kind in ("checkpoint", "reentrant"):
            rows = batch.requires_grad_()
            out = checkpoint(lambda x: network(x)[0], rows, use_reentrant=self.kind == "reentrant")
        else:
            out, state = network(batch)
        if self.kind == "twice":
            out = network(batch, state)[0] + out.sum(0)
        loss: Tensor = out.square().mean()
        if self.kind == "manual":
            optimizer: Any = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(loss, retain_graph=True)
            self.manual_backward(loss)
            optimizer.step()
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.01)


@pytest.mark.parametrize("kind", ["plain", "computed", "checkpoint", "reentrant", "hooked", "twice", "manual"])
def test_nor_of_somebody_elses_model(kind: str) -> None:
    def run(probes: list[Probe]) -> tuple[Somebody, dict[str, Tensor]]:
        torch.manual_seed(3)
        model = Somebody(kind)
        batches = Batches(torch.randn(4, 6, 3) for _ in range(3))  # type: ignore[misc]
        trainer_of(max_epochs=EPOCHS, callbacks=probes).fit(model, batches)
        return model, {name: p.detach() for name, p in model.named_parameters()}

    probes = [probe(every=2) for probe in ALL if probe.name != "evaluation_gap"]
    (expected, plain_state), (found, state) = run([]), run(probes)
    same_bits(state, plain_state)
    assert found.calls == expected.calls == (4 * 3 * EPOCHS if kind == "hooked" else 0)
    assert all(probe.table.size for probe in probes if probe.heat_maps and probe.tables)
    gradient = probes[0].tables["gradient/l1/h"].array()
    assert bool((gradient > 0).all())

"""Networks of one's own in the place of `rnnnorm.LSTM`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import rnnnorm
from rnnnorm.tasks import TASKS
from tests.tasks.tiny import SPECS, batch_of, batches_of, model_of, stream_of, trainer_of

pytestmark = pytest.mark.filterwarnings("ignore")


class Plain(nn.Module):
    """What the task's own LSTM does, on padded batches."""

    def __init__(self, input_size: int, hidden_size: int, norm: str, max_steps: int, wide: bool = False) -> None:
        super().__init__()
        self.lstm = rnnnorm.LSTM(input_size, hidden_size, batch_first=True, norm=norm, max_steps=max_steps)
        if wide:
            self.output_size = hidden_size + 1

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        assert lengths.device.type == "cpu"
        output: Tensor = self.lstm(x, lengths=lengths)[0]
        return output + 0


class Pooled(Plain):
    """One row per sequence."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return super().forward(x, lengths).sum(1)


class NoNorm(nn.Module):
    """Nothing to compare."""

    def __init__(self, input_size: int) -> None:
        super().__init__()


class Demanding(Plain):
    """Wants more than a task knows."""

    def __init__(self, heads: int, **keys: Any) -> None:
        super().__init__(**{k: keys[k] for k in ("input_size", "hidden_size", "norm", "max_steps")})
        self.heads = heads


def name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


@pytest.mark.parametrize("norm", ["none", "ln", "bn-timestep"])
@pytest.mark.parametrize("task", ["tagging", "classification", "regression", "multi-label"])
def test_a_network_that_does_the_same_computes_the_same(task: str, norm: str) -> None:
    own, usual = model_of(task, norm=norm, network=name(Plain)), model_of(task, norm=norm)
    usual.embedding.load_state_dict(own.embedding.state_dict())
    usual.recurrent.load_state_dict(own.recurrent.module.lstm.state_dict())
    usual.head.load_state_dict(own.head.state_dict())
    batch = batch_of(SPECS[task], [5, 3, 3, 1])
    torch.testing.assert_close(own.training_step(batch), usual.training_step(batch))


@pytest.mark.parametrize("cls", [Plain, Pooled])
def test_it_trains_and_is_evaluated_by_population_statistics(cls: type, tmp_path: Any) -> None:
    model = model_of("classification", norm="bn-timestep", network=name(cls))
    trainer = trainer_of(max_epochs=2)
    trainer.fit(model, batches_of("classification"), batches_of("classification"))
    assert {"val/loss", "val_running/loss"} <= set(trainer.callback_metrics)
    assert trainer.callback_metrics["val/loss"] != trainer.callback_metrics["val_running/loss"]
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    again = TASKS["classification"].load_from_checkpoint(tmp_path / "x.ckpt")
    assert isinstance(again.recurrent.module, cls)


@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        ("no.where.Net", None, "the module 'no.where' is not imported"),
        (f"{__name__}.Plian", None, r"has no torch module 'Plian' \(did you mean 'Plain'\?\)"),
        (f"{__name__}.name", None, "has no torch module 'name'"),
        ("Plain", None, "the module '' is not imported"),
        (name(NoNorm), None, "no argument `norm`"),
        (name(Plain), {"wied": True}, r"no option 'wied'; it has: .*did you mean 'wide'"),
        (name(Demanding), None, "needs heads: give it by network_options"),
    ],
)
def test_what_is_no_network_is_refused(network: str, options: dict[str, Any] | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model_of("tagging", network=network, network_options=options)


def test_options_reach_it() -> None:
    assert model_of("tagging", network=name(Demanding), network_options={"heads": 3}).recurrent.module.heads == 3


@pytest.mark.parametrize(
    ("task", "cls", "options", "message"),
    [
        ("tagging", Plain, {"wide": True}, r"returned \(4, 5, 8\) for x \(4, 5, \d+\): expected .* with O = 9"),
        ("tagging", Pooled, {}, "4 predictions for a target of shape"),
    ],
)
def test_results_of_another_shape(task: str, cls: type, options: dict[str, Any], message: str) -> None:
    model = model_of(task, network=name(cls), network_options=options)
    with pytest.raises(ValueError, match=message):
        model.training_step(batch_of(SPECS[task], [5, 3, 3, 1]))


def test_a_stream_cannot_go_on() -> None:
    pieces, _ = stream_of(SPECS["language-modelling"], 12)
    with pytest.raises(ValueError, match="keeps no state between batches"):
        trainer_of().fit(model_of("language-modelling", network=name(Plain)), pieces)

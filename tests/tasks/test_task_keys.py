"""Every key of a task matters, and a wrong one is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tasks.tiny import SPECS, batches_of, model_of, trainer_of

from rnnnorm.data.base import Spec
from rnnnorm.tasks import TASKS, SequenceTask, for_spec

OPTIONS: dict[str, dict[str, Any]] = {
    "norm": {"norm": "ln"},
    "hidden_size": {"hidden_size": 9},
    "num_layers": {"num_layers": 2},
    "bidirectional": {"bidirectional": True},
    "dropout": {"dropout": 0.5},
    "embedding_size": {"embedding_size": 7},
    "columns": {"columns": "concatenate"},
    "init": {"init": "torch"},
    "initial_state": {"initial_state": "learned"},
    "initial_state_noise": {"initial_state_noise": 0.5},
    "max_steps": {"norm": "bn-timestep", "max_steps": 2},
    "optimizer": {"optimizer": "rmsprop"},
    "learning_rate": {"learning_rate": 0.1},
    "weight_decay": {"optimizer": "sgd", "weight_decay": 0.5},
    "momentum": {"optimizer": "sgd", "momentum": 0.9},
    "lr_decay": {"lr_decay": 0.5},
    "lr_decay_after": {"lr_decay": 0.5, "lr_decay_after": 2},
    "smoothing": {"optimizer": "rmsprop", "smoothing": 0.5},
    "quantize": {"quantize": "binary"},
}


@pytest.mark.parametrize("key", OPTIONS)
def test_every_key_changes_the_run(key: str) -> None:
    def run(keys: dict[str, Any]) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        model = model_of("tagging", **keys)
        trainer_of(max_epochs=2).fit(model, batches_of("tagging")[:2])
        return {**model.state_dict(), "logits": model.eval()(batches_of("tagging", seed=3)[0].input)[0]}

    with_key = OPTIONS[key]
    without = {k: v for k, v in with_key.items() if k != key}
    a, b = run(with_key), run(without)
    same = a.keys() == b.keys() and all(a[n].shape == b[n].shape and torch.equal(a[n], b[n]) for n in a)
    assert not same


def test_max_steps_is_the_longest_training_sequence_unless_given() -> None:
    slots = [
        {m.running_mean.shape[0] for m in model.modules() if hasattr(m, "running_mean")}
        for model in (model_of("tagging", norm="bn-timestep"), model_of("tagging", norm="bn-timestep", max_steps=4))
    ]
    assert slots == [{9}, {4}]


@pytest.mark.parametrize("task", SPECS)
def test_for_spec_finds_the_task(task: str) -> None:
    assert for_spec(SPECS[task]).task == task


def test_for_spec_lists_the_tasks_it_knows() -> None:
    with pytest.raises(ValueError, match="'parsing'; there are: classification, tagging, language-modelling, regres"):
        for_spec(Spec("parsing"))  # type: ignore[arg-type]


BAD: dict[str, tuple[Callable[[], object], str]] = {
    "other task": (lambda: TASKS["tagging"](SPECS["regression"]), "Tagging is for tagging data.*'regression'"),
    "no outputs": (lambda: TASKS["tagging"](Spec("tagging", (3,), max_length=4)), "num_outputs and max_length"),
    "spec key": (lambda: TASKS["tagging"]({"task": "tagging", "classes": 3}), "num_outputs.*'classes': 3"),
    "norm": (lambda: model_of("tagging", norm="batchnorm"), "batchnorm"),
    "optimizer": (
        lambda: model_of("tagging", optimizer="lion"),
        "one of adam, adamw, sgd, rmsprop, got 'lion'",
    ),
    "momentum": (lambda: model_of("tagging", momentum=0.9), "momentum=0.9 has no meaning for 'adam'"),
    "smoothing": (lambda: model_of("tagging", smoothing=0.9), "smoothing=0.9 has no meaning for 'adam'"),
    "decay after": (lambda: model_of("tagging", lr_decay_after=3), "lr_decay_after=3 has no meaning"),
    "decay after words": (
        lambda: model_of("tagging", lr_decay=0.5, lr_decay_after="later"),
        "lr_decay_after must be a number of epochs from 1 on, plateau or None, got 'later'",
    ),
    "quantize": (lambda: model_of("tagging", quantize="int8"), "quantize must be one of binary, ternary, got 'int8'"),
    "quantize from data": (lambda: model_of("tagging", norm="wn:init=data", quantize="binary"), "use init=norm"),
    "tied sizes": (lambda: model_of("language-modelling", tied=True), r"choose embedding_size=8"),
    "decay": (lambda: model_of("tagging", lr_decay=1.5), r"lr_decay must be a number in \(0, 1\], got 1.5"),
    "unit": (lambda: model_of("language-modelling", unit="byte"), "word, char, got 'byte'"),
    "two-way LM": (lambda: model_of("language-modelling", bidirectional=True), "cannot be bidirectional"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments_are_named(case: str) -> None:
    build, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        build()


def test_targets_must_match_the_predictions() -> None:
    batch = batches_of("tagging")[0]
    with pytest.raises(ValueError, match=r"21 predictions for a target of shape \(20,\)"):
        model_of("tagging").scores(batch._replace(target=batch.target[1:]))
    batch = batches_of("regression")[0]
    with pytest.raises(ValueError, match=r"target must be \(4, 2\), got \(4, 1\)"):
        model_of("regression").scores(batch._replace(target=batch.target[:, :1]))


def test_the_base_is_no_task() -> None:
    with pytest.raises(TypeError, match="abstract"):
        SequenceTask(SPECS["tagging"])  # type: ignore[abstract]

"""A fixture for the tests of runs and of trials: something done after a training step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning as L
import pytest

from rnnnorm.engine.control import Control

AtStep = Callable[[int, Callable[[L.Trainer], None]], None]


@pytest.fixture
def at_step(monkeypatch: pytest.MonkeyPatch) -> AtStep:
    """Do something after a training step of everything that trains, before the callback that stops and saves."""

    def do(step: int, action: Callable[[L.Trainer], None]) -> None:
        original = Control.on_train_batch_end

        def with_action(self: Control, trainer: L.Trainer, *args: Any) -> None:
            if trainer.global_step == step:
                action(trainer)
            original(self, trainer, *args)

        monkeypatch.setattr(Control, "on_train_batch_end", with_action)

    return do

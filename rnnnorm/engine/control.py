"""Stopping and going on: Ctrl-C, time limits, and a checkpoint to resume from that loses nothing."""

from __future__ import annotations

import math
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import numpy as np
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

FORWARD = 0.4
"""Time of a forward pass as a part of that of a training step, in the planning of the time that evaluation takes."""


class InterruptedRunError(Exception):
    """The user pressed Ctrl-C; the run can be resumed."""


class OutOfTimeError(Exception):
    """The time for the run is up; it can be resumed."""


class PausedError(Exception):
    """The run has come as far as it was to; it can be resumed."""


class Interrupt:
    """Turns Ctrl-C or SIGTERM into a request that the run honours at the next step it can be resumed from.

    The second signal is a KeyboardInterrupt with its number. Outside the main thread, where Python delivers no signals,
    nothing is changed.

    Args:
        notify: called once, at the first signal.
        at_once: called at the second one, before the KeyboardInterrupt.
    """

    def __init__(self, notify: Callable[[], None], at_once: Callable[[], None] = lambda: None) -> None:
        self.requested = False
        self.signal: int | None = None
        self._notify, self._at_once = notify, at_once
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            self._at_once()
            raise KeyboardInterrupt(number)
        self.requested, self.signal = True, number
        self._notify()

    def check(self) -> None:
        """Raise InterruptedRunError if the user has asked to stop."""
        if self.requested:
            raise InterruptedRunError


class Control(Checkpoint):
    """Keeps `last.ckpt` up to date and ends training when time is up or the user asks.

    The checkpoint holds the random streams too, so that a resumed run draws what it would have drawn: with a data
    loader that resumes, it ends with the same weights as one that was never interrupted.

    Args:
        path: the checkpoint to go on from.
        interrupt: whether to stop.
        deadline: of the run, its evaluation included, by `time.monotonic()`; None: none.
        every: seconds between two checkpoints.
    """

    until: int | None = None
    """Completed epochs after which training is paused; None: it goes on to its end."""

    def __init__(self, path: Path, interrupt: Interrupt, deadline: float | None = None, every: float = 60.0) -> None:
        self.path, self.interrupt, self.deadline, self.every = path, interrupt, deadline, every
        self.evaluated_rows = 0
        """Packed rows that the evaluation will run over; time is kept for them."""
        self.trained = 0.0
        """Seconds of training so far, validation not counted."""
        self.cpu = 0.0
        """CPU time of the same in seconds, over all threads of this process; NaN if a part of it is not known."""
        self._rows, self._trained_before = 0, 0.0
        self._next, self._written = path.with_suffix(".next"), False
        self._stopping: type[Exception] | None = None
        self._streams: dict[str, Any] | None = None
        self._began = self._saved = time.monotonic()
        self._resume()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the random streams of the checkpoint back."""
        self._began = self._saved = time.monotonic()
        self._resume()
        self._trained_before = self.trained
        if self._streams is not None:
            set_random_streams(self._streams)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Finish what the last step began: Lightning logs a step after the hooks that end it."""
        self._publish(trainer)
        if self._stopping is not None:
            raise self._stopping
        if self.until is not None and trainer.current_epoch >= self.until:
            raise PausedError

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validation is not training time."""
        self._pause()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Training goes on."""
        self._resume()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save, stop or go on."""
        data = getattr(getattr(batch, "input", None), "data", ())  # other batches than ours: it is not known
        self._rows += len(data)
        if not validates_next(trainer, batch_idx):
            # Resumed from here, Lightning would leave that validation out.
            self._at_resumable_step(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save or stop, validation being done."""
        self._at_resumable_step(trainer, trainer.current_epoch + 1 == self.until)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the end of training: if the evaluation is interrupted, nothing is trained again."""
        self._pause()
        self._save(trainer)
        self._publish(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Training ends here."""
        self._pause()
        if trainer.is_global_zero:
            self._next.unlink(missing_ok=True)

    def _at_resumable_step(self, trainer: Trainer, save: bool = False) -> None:
        now = time.monotonic()
        if anywhere(trainer, self.interrupt.requested):
            self._stopping = InterruptedRunError
        elif anywhere(trainer, self._is_over(now)):
            self._stopping = OutOfTimeError
        if save or self._stopping is not None or anywhere(trainer, now - self._saved > self.every):
            self._save(trainer)
            self._saved = now

    def _is_over(self, now: float) -> bool:
        """Whether there is just time left to evaluate; if that takes more than half of it, all is for training."""
        if self.deadline is None:
            return False
        trained = self.trained - self._trained_before + now - self._resumed
        wanted = FORWARD * self.evaluated_rows * trained / self._rows if self._rows else 0.0
        kept = wanted if wanted < (self.deadline - self._began) / 2 else 0.0
        return now + kept > self.deadline

    def _resume(self) -> None:
        self._resumed, self._cpu_resumed = time.monotonic(), time.process_time()

    def _pause(self) -> None:
        self.trained += time.monotonic() - self._resumed
        self.cpu += time.process_time() - self._cpu_resumed
        self._resume()

    def _save(self, trainer: Trainer) -> None:
        """Write the checkpoint, which takes its place once the curves have its step."""
        trainer.save_checkpoint(self._next)
        self._written = True

    def _publish(self, trainer: Trainer) -> None:
        """Put the checkpoint that was written last in its place, now that its curves are on the disk.

        In the other order, a process that is killed in between would go on behind a step that no curve has.
        """
        if not self._written:
            return
        self._written = False
        for logger in trainer.loggers:
            logger.save()
        if trainer.is_global_zero:
            self._next.replace(self.path)

    def state_dict(self) -> dict[str, Any]:
        """The random streams and the time spent."""
        trained = self.trained + time.monotonic() - self._resumed
        cpu = self.cpu + time.process_time() - self._cpu_resumed
        return {"streams": random_streams(), "trained": trained, "cpu": cpu}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._streams, self.trained = state_dict["streams"], state_dict["trained"]
        self.cpu = state_dict.get("cpu", math.nan)  # checkpoints of earlier versions have none


def anywhere(trainer: Trainer, decision: bool) -> bool:
    """Whether some process has decided so: one that stopped or saved alone would leave the others waiting."""
    return bool(trainer.strategy.reduce_boolean_decision(decision, all=False))


def validates_next(trainer: Trainer, batch_idx: int) -> bool:
    """Whether a validation follows right after this training batch."""
    every = trainer.val_check_batch
    index = trainer.fit_loop.total_batch_idx if trainer.check_val_every_n_epoch is None else batch_idx
    return bool(trainer.is_last_batch or (every and every != float("inf") and (index + 1) % every == 0))


def random_streams() -> dict[str, Any]:
    """The state of every global random generator, in types that `torch.load(weights_only=True)` takes."""
    kind, keys, *rest = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest),
    }


def set_random_streams(streams: dict[str, Any]) -> None:
    """Put every global random generator back to a state of `random_streams`."""
    torch.set_rng_state(streams["torch"])
    if streams["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(streams["cuda"])
    version, state, gauss = streams["python"]
    random.setstate((version, tuple(state), gauss))
    kind, keys, *rest = streams["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))

"""Time that all probes together add to training, at their default interval.

    python scripts/probe_cost.py --norm bn-timestep --turns 8

Two copies of one model are trained in turns, in one process, with probes and without: some steps and a validation, in
which each probe measures once. The median difference of neighbouring turns is what one measurement takes; over the
default interval's training steps that is the share of the time. Drawing is timed apart from it: a run draws its heat
maps after 2, 3, 4, 6, 8, 12, 16, … measurements and at its end. All times are those of the process on the CPU.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch.nn.utils.rnn import PackedSequence

from rnnnorm.data.base import Batch, Spec
from rnnnorm.probes import ALL, Measurement, Probe
from rnnnorm.probes.base import INTERVAL, is_drawn
from rnnnorm.tasks import for_spec

T, B, FEATURES, HIDDEN = 100, 32, 64, 128
OUTPUTS = 10
STEPS = 10


class Batches(list[Batch]):
    """A list that Lightning takes for one loader."""


def make_batches(number: int, ragged: bool) -> Batches:
    """Random rows and targets; ragged sequences are of 1 … T steps, one of each batch has T."""
    batches = Batches()
    for _ in range(number):
        lengths = torch.randint(1, T + 1, (B,)) if ragged else torch.full((B,), T)
        lengths[0] = T
        sizes = (lengths.unsqueeze(0) > torch.arange(T).unsqueeze(1)).sum(1)
        N = int(sizes.sum())
        target = (torch.rand(N, OUTPUTS) < 0.3).float()
        batches.append(Batch(PackedSequence(torch.randn(N, FEATURES), sizes), target))
    return batches


class StepTime(L.Callback):
    """Seconds inside training steps."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def on_train_batch_start(self, *_: Any) -> None:
        self._began = time.process_time()

    def on_train_batch_end(self, *_: Any) -> None:
        self.seconds += time.process_time() - self._began


class Side:
    """One of the two that take turns."""

    def __init__(self, norm: str, probes: list[Probe], folder: Path) -> None:
        torch.manual_seed(0)
        spec = Spec("multi-label", num_features=FEATURES, num_outputs=OUTPUTS, max_length=T)
        self.model = for_spec(spec)(spec, norm=norm, hidden_size=HIDDEN, num_layers=2)
        quiet: dict[str, Any] = dict.fromkeys(
            ("enable_progress_bar", "enable_checkpointing", "enable_model_summary"), False
        )
        logger = TensorBoardLogger(folder, name="probes" if probes else "plain")
        self.steps = StepTime()
        self.trainer = L.Trainer(
            accelerator="cpu",
            max_epochs=0,
            num_sanity_val_steps=0,
            logger=logger,
            callbacks=[*probes, self.steps],
            **quiet,
        )

    def turn(self, train: Batches, validation: Batches) -> float:
        """Seconds of one more epoch."""
        self.trainer.fit_loop.max_epochs = self.trainer.current_epoch + 1
        began = time.process_time()
        self.trainer.fit(self.model, train, validation)
        return time.process_time() - began


class Drawings:
    """Times every drawing, so that it can be taken out of the turn in which it happened."""

    def __init__(self) -> None:
        self.seconds = 0.0
        original = Probe._draw

        def timed(probe: Probe, trainer: L.Trainer, found: Measurement) -> None:
            began = time.process_time()
            original(probe, trainer, found)
            self.seconds += time.process_time() - began

        Probe._draw = timed  # type: ignore[method-assign]

    def take(self) -> float:
        """Seconds since the last call."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--norm", default="bn-timestep", help="a preset")
    parser.add_argument("--turns", type=int, default=8, help="how many of each side")
    parser.add_argument("--ragged", action="store_true", help="sequences of 1 … T steps instead of T")
    parser.add_argument("--only", choices=[probe.name for probe in ALL], help="one probe instead of all")
    given = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    chosen = [probe for probe in ALL if given.only in (None, probe.name)]
    train, validation = make_batches(STEPS, given.ragged), make_batches(2, given.ragged)
    drawings = Drawings()
    with tempfile.TemporaryDirectory() as folder:
        plain, probed = (
            Side(given.norm, probes, Path(folder)) for probes in ([], [probe(every=STEPS) for probe in chosen])
        )
        for side in (plain, probed):  # compilers, imports, allocators
            side.turn(train, validation)
        drawings.take()
        plain.steps.seconds = 0.0
        costs, drawn = [], []
        for _ in range(given.turns):
            without, with_probes = plain.turn(train, validation), probed.turn(train, validation)
            seconds = drawings.take()
            drawn += [seconds] * is_drawn(len(costs) + 2)  # after one turn to warm up
            costs.append(with_probes - seconds - without)
    step, cost = plain.steps.seconds / (given.turns * STEPS), statistics.median(costs)
    low, high = (100 * c / (INTERVAL * step) for c in (min(costs), max(costs)))
    print(
        f"{given.norm}, T={T}, B={B}, I={FEATURES}, H={HIDDEN}, 2 layers{', ragged' if given.ragged else ''}: "
        f"{1000 * step:.1f} ms a step; {given.only or 'all probes'}: {1000 * cost:.0f} ms a measurement, every "
        f"{INTERVAL} steps {100 * cost / (INTERVAL * step):.1f} % ({low:.1f} … {high:.1f}); "
        f"one drawing of all heat maps: {statistics.median(drawn):.2f} s"
    )


if __name__ == "__main__":
    main()

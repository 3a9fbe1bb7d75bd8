"""What the training of a trial left behind: result, curves, the best checkpoint, the data."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from lightning import LightningDataModule

from rnnnorm.compare.comparison import Comparison
from rnnnorm.compare.configuration import AutoTask
from rnnnorm.data.base import Spec
from rnnnorm.engine.evaluation import MODES
from rnnnorm.engine.run import Run
from rnnnorm.report.curves import Curve, read_curves
from rnnnorm.studies.framework.trial import Row
from rnnnorm.tasks import SequenceTask, for_spec

CLASSIFIERS = ("classification", "tagging", "language-modelling")
"""Tasks whose targets are classes."""


@dataclass(frozen=True)
class Trained:
    """A trained trial.

    Args:
        run: where it lies.
        result: its `result.json`.
        comparison: how it was configured.
    """

    run: Run
    result: dict[str, Any]
    comparison: Comparison

    @property
    def folder(self) -> Path:
        """Its folder."""
        return self.run.folder

    @property
    def diverged(self) -> bool:
        """Whether its loss ceased to be finite."""
        return bool(self.result["status"] == "diverged")

    @cached_property
    def curves(self) -> dict[str, Curve]:
        """Every scalar it logged, by tag."""
        return read_curves(self.folder)

    def data(self) -> LightningDataModule:
        """Its data, anew."""
        return self.comparison.build_data()

    def model(self, checkpoint: Path | None = None, data: LightningDataModule | None = None) -> SequenceTask:
        """Its network with the weights of the best checkpoint (or another one), in evaluation mode, on the CPU.

        Args:
            checkpoint: another one.
            data: its data, if they are at hand; a model that is not named is the one that fits them.

        Raises:
            FileNotFoundError: nothing was saved, because the run diverged before its first validation.
        """
        path = checkpoint or self.run.best
        if not path.is_file():
            path = self.run.last
        saved = torch.load(path, map_location="cpu", weights_only=True)
        module, _, name = str(self.comparison.config.model.class_path).rpartition(".")
        cls: type[SequenceTask] = getattr(import_module(module), name)
        if cls is AutoTask:  # what is meant where no model is named
            cls = for_spec((self.data() if data is None else data).spec)  # type: ignore[attr-defined]
        model = cls(**{key: value for key, value in saved["hyper_parameters"].items() if not key.startswith("_")})
        model.load_state_dict(saved["state_dict"])
        return model.eval()

    @cached_property
    def spec(self) -> Spec:
        """The shape of its data."""
        found: Spec = self.data().spec  # type: ignore[attr-defined]
        return found

    def above_guessing(self) -> Iterator[Row]:
        """`above_guessing`: how far the best checkpoint got from guessing to certainty: 1 - test loss / ln K.

        0 for a network that diverged, or is worse than a guess; nothing where targets are no classes.
        """
        spec = self.spec
        if spec.task not in CLASSIFIERS or spec.num_outputs < 2:
            return
        tested = self.result["test"]
        losses = [tested[mode]["loss"] for mode in ("population", "running", "batch") if "loss" in tested.get(mode, {})]
        loss = losses[0] if losses and not self.diverged and losses[0] is not None else math.inf
        yield {"quantity": "above_guessing", "value": max(0.0, 1 - loss / math.log(spec.num_outputs))}

    def rows(self) -> Iterator[Row]:
        """What every trained trial has.

        `diverged` (0 or 1), `steps`, `seconds`, `parameters`, `best_val`; per evaluation `mode` each test metric under
        its own name and `loss`; `score` (the metric per example) by bucket, with `axis` ("length" or "step"), `low`,
        `high`, `count` and `mode`; `above_guessing`; `train_loss` and `val_loss` at the end, the former as the mean of
        the last tenth of the logged steps. A network that diverged has no test values; its losses are infinite.
        """
        result = self.result
        yield {"quantity": "diverged", "value": float(self.diverged)}
        for key in ("steps", "seconds", "parameters", "best_val"):
            yield {"quantity": key, "value": result[key]}
        for mode in MODES:
            for metric, value in result["test"].get(mode, {}).items():
                yield {"quantity": metric, "mode": mode, "value": value}
        for axis, buckets in result["buckets"].items():
            for bucket in buckets:
                where = {key: bucket[key] for key in ("low", "high", "count")}
                for mode in MODES:
                    yield {"quantity": "score", "axis": axis, "mode": mode, **where, "value": bucket[mode]}
        for tag in ("train/loss", "val/loss"):
            curve = self.curves.get(tag)
            value = math.inf if self.diverged else math.nan
            if curve is not None and not self.diverged:
                last = max(len(curve.value) // 10, 1) if tag == "train/loss" else 1
                value = float(curve.value[-last:].mean())
            yield {"quantity": tag.replace("/", "_"), "value": value}
        yield from self.above_guessing()

"""Badly scaled inputs, ways to scale them, and the path that two weights take while a network learns from them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rnnnorm.common.ranges import POSITIVE, Checked, Range, at_least, one_of
from rnnnorm.data.base import Spec
from rnnnorm.data.collate import Example
from rnnnorm.data.module import SequenceDataModule
from rnnnorm.data.synthetic import Generated, Integers
from rnnnorm.engine.records import write_json
from rnnnorm.studies.data.plain_training import named_class

Rows = NDArray[np.float64]
SCALES = (1e-3, 1e-2, 1e-1, 1e1, 1e2, 1e3)
"""Standard deviations of the features of `BadlyScaled`, before half of them get heavy tails."""
SCALINGS = ("none", "minmax", "minmax-centred", "zscore", "zscore-offset", "log", "log-zscore", "arctan")
OFFSET = 3.0
"""How far "zscore-offset" leaves every feature from 0, in its standard deviations."""
_SCALING = one_of(*SCALINGS, kinds=(str,))


class BadlyScaled(Generated):
    """Which of four sources made this series? Six features whose scales span six decades.

    Feature k of source s is z_t + m_{s,k}, where z is a first-order autoregression with coefficient 0.7 and variance 1
    and m_{s,k} is drawn once, N(0, `contrast`²): every feature tells a little, and no single step tells enough. Then
    odd features get heavy tails, sinh(1.5 z); feature k is multiplied by `SCALES[k]` and shifted by five times that.

    Args:
        contrast: standard deviation of the sources' means, in units of the features' own.
        decades: that the scales span; with fewer than 6, `SCALES` to the power of decades / 6.
        **keys: see `rnnnorm.data.synthetic.Generated`.
    """

    task = "classification"
    ranges: ClassVar[Mapping[str, Range]] = {"contrast": POSITIVE, "decades": at_least(0)}
    SOURCES = 4

    def __init__(self, contrast: float = 0.3, decades: float = 6.0, **keys: Any) -> None:
        super().__init__(**keys)
        self.contrast, self.decades = contrast, decades

    @property
    def spec(self) -> Spec:
        """Six features, four classes."""
        return Spec(self.task, num_features=len(SCALES), num_outputs=self.SOURCES, max_length=self.max_length)

    def generate(self, lengths: Integers, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Make (N, 6) rows and (B,) sources."""
        scales = np.array(SCALES) ** (self.decades / 6)
        means = np.random.default_rng(self.seed).normal(0, self.contrast, (self.SOURCES, len(scales)))  # of all splits
        classes = random.integers(self.SOURCES, size=len(lengths))
        series = []
        for length, source in zip(lengths.tolist(), classes.tolist(), strict=True):
            z = random.normal(size=(length, len(scales)))
            for t in range(1, length):
                z[t] = 0.7 * z[t - 1] + np.sqrt(1 - 0.7**2) * z[t]
            series.append(z + means[source])
        rows = np.concatenate(series)
        rows[:, 1::2] = np.sinh(1.5 * rows[:, 1::2])
        return torch.from_numpy((scales * (rows + 5)).astype(np.float32)), torch.from_numpy(classes)


def scaler(scaling: str, rows: Rows) -> Callable[[Rows], Rows]:
    """The map of features that a scaling stands for, fitted on the rows of the training split.

    "minmax": (x - min) / (max - min); "zscore": (x - mean) / standard deviation; "log": sign(x) log(1 + |x|);
    "arctan": arctan x; "none": x. A feature that never changes is left at 0 by the first two. The others tell factors
    apart: "minmax-centred", as "minmax" with mean 0; "zscore-offset", as "zscore" with mean `OFFSET`; "log-zscore", the
    z-score of the logarithm.

    Args:
        scaling: one of `SCALINGS`.
        rows: (N, F).

    Raises:
        ValueError: an unknown scaling.
    """
    _SCALING.check("scaling", scaling)
    if scaling == "log-zscore":
        standardize = scaler("zscore", _log(rows))
        return lambda x: standardize(_log(x))
    wide = np.ptp(rows, axis=0) if scaling.startswith("minmax") else rows.std(0)
    low = rows.min(0) if scaling == "minmax" else rows.mean(0)
    wide = np.where(wide > 0, wide, 1.0)
    maps: dict[str, Callable[[Rows], Rows]] = {
        "none": lambda x: x,
        **dict.fromkeys(("minmax", "minmax-centred", "zscore"), lambda x: (x - low) / wide),
        "zscore-offset": lambda x: (x - low) / wide + OFFSET,
        "log": _log,
        "arctan": np.arctan,
    }
    return maps[scaling]


def _log(x: Rows) -> Rows:
    return np.sign(x) * np.log1p(np.abs(x))


class Scaled(SequenceDataModule):
    """Another data module of real-valued features, scaled.

    Args:
        data: `class_path` and `init_args` of the other one.
        scaling: one of `SCALINGS`.
        **common: see `SequenceDataModule`. The other one's seed decides which examples there are; batch sizes, and the
            seed of their order, are those given here.

    Raises:
        ValueError: rows are tokens, or the scaling is unknown.
    """

    ranges: ClassVar[Mapping[str, Range]] = {"scaling": _SCALING}

    def __init__(self, data: dict[str, Any], scaling: str = "none", **common: Any) -> None:
        super().__init__(**common)
        self.scaling = scaling
        self.inner = _built(str(data["class_path"]), json.dumps(data.get("init_args") or {}, sort_keys=True))
        self.task = self.inner.task  # type: ignore[misc]
        if self.inner.spec.num_features == 0:
            raise ValueError(f"{data['class_path']} has tokens and no features: there is nothing to scale")

    @property
    def spec(self) -> Spec:
        """That of the other one."""
        return self.inner.spec

    def load(self) -> dict[str, list[Example]]:
        """Its splits, scaled by what the training split says."""
        splits = self.inner.splits
        scale = scaler(self.scaling, np.concatenate([rows.numpy() for rows, _ in splits["train"]]).astype(np.float64))
        return {
            split: [(torch.from_numpy(scale(rows.double().numpy())).float(), target) for rows, target in examples]
            for split, examples in splits.items()
        }


def scaled(data: Mapping[str, Any], scaling: str) -> dict[str, Any]:
    """The `data` part of a configuration with `Scaled` around it, which takes over its batch size."""
    keys = dict(data.get("init_args", {}))
    batches = {"batch_size": keys.pop("batch_size")} if "batch_size" in keys else {}
    inner = {"class_path": data["class_path"], "init_args": keys}
    return {"class_path": f"{__name__}.Scaled", "init_args": {"data": inner, "scaling": scaling, **batches}}


@lru_cache(maxsize=2)
def _built(class_path: str, init_args: str) -> SequenceDataModule:
    """The other module; kept, since one process trains on the same data under many scalings."""
    built = named_class(class_path)(**json.loads(init_args))
    assert isinstance(built, SequenceDataModule)
    return built


class WeightPath(Checked, L.Callback):
    """Notes two entries of the first layer's W_ih after every step, and writes them to `path.json` in the log folder.

    Args:
        features: which columns.
        unit: which row.
    """

    ranges: ClassVar[Mapping[str, Range]] = {"unit": at_least(0)}

    def __init__(self, features: tuple[int, int] = (0, 1), unit: int = 0) -> None:
        at_least(0, kinds=(int,)).check("features", min(features))
        self.features, self.unit = features, unit
        self.points: list[tuple[float, float]] = []

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Where it begins."""
        if not self.points:
            self._note(pl_module)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        """One step more."""
        self._note(pl_module)

    def _note(self, pl_module: L.LightningModule) -> None:
        network: Any = pl_module.recurrent
        a, b = network.weight_ih_l0[self.unit, list(self.features)].tolist()
        self.points.append((a, b))

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the path."""
        for logger in trainer.loggers:
            if logger.log_dir is not None and trainer.is_global_zero:
                write_json(Path(logger.log_dir) / "path.json", self.points)

    def state_dict(self) -> dict[str, Any]:
        """The path so far."""
        return {"points": self.points}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.points = [(a, b) for a, b in state_dict["points"]]


def zigzag(points: Rows) -> float:
    """Length of a path over the distance between its ends: 1 is straight; (K, 2) points."""
    length = float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())
    net = float(np.linalg.norm(points[-1] - points[0]))
    return length / net if net > 0 else float("inf")

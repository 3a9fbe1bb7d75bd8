"""Checkpoints of a run: written at once, and believed only if they are whole and of that run."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint

from rnnnorm.common.atomic import write_bytes
from rnnnorm.engine.records import leads
from rnnnorm.engine.run import Run
from rnnnorm.tasks.divergence import StopOnDivergence

RUN = "rnnnorm_run"
"""Key of a checkpoint under which the norm and the seed of its run stand, and values that are its own."""


class CheckpointFiles(TorchCheckpointIO):
    """Checkpoint files of one run: staged in their own folder, and marked with the run's norm and seed.

    Lightning stages them in the system's folder for temporary files, on another disk perhaps, which may be full.
    Checkpoints that callbacks of the user's own keep elsewhere are written by Lightning.

    Args:
        run: whose they are.
    """

    def __init__(self, run: Run) -> None:
        self.run = run

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint at once.

        Raises:
            OSError: it cannot be written; the error names it.
        """
        if Path(path).resolve().parent != self.run.last.parent.resolve():
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        content = io.BytesIO()
        torch.save({**checkpoint, RUN: _identity(self.run)}, content)
        write_bytes(Path(path), content.getbuffer())


class Best(ModelCheckpoint):
    """The checkpoint with the best validation metric, never one of a model that has diverged.

    A model whose loss is not a number still predicts something, and its accuracy can be the best so far.

    Args:
        path: where it is kept.
        metric: name of the validation metric.
        mode: "min" or "max": which values are better.
    """

    def __init__(self, path: Path, metric: str, mode: str) -> None:
        super().__init__(
            path.parent,
            filename=path.stem,
            monitor=f"val/{metric}",
            mode=mode,
            save_on_train_epoch_end=False,  # but when validation ends
            save_weights_only=True,
            auto_insert_metric_name=False,
            enable_version_counter=False,
        )

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save if it is the best."""
        if diverged_at(trainer) is None:
            super().on_validation_end(trainer, pl_module)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint, of a folder that has been moved or copied perhaps: Lightning stores full paths."""

        def here(path: str) -> str:
            return str(Path(str(self.dirpath)) / Path(path).name) if path else path

        paths = {key: here(state_dict[key]) for key in ("best_model_path", "kth_best_model_path", "last_model_path")}
        models = {here(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **paths, "best_k_models": models, "dirpath": self.dirpath})


def diverged_at(trainer: Trainer) -> int | None:
    """Step at which a run diverged; None while all is well."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return next((c.diverged_at for c in callbacks if isinstance(c, StopOnDivergence)), None)


def resume_from(run: Run, say: Callable[[str], None]) -> dict[str, Any] | None:
    """Checkpoint from which a run goes on; None for a run that begins, or begins anew.

    A run goes on if its last checkpoint and, once it has been validated, its best one are there, whole, and its own.
    Otherwise it is trained anew: a result without its best checkpoint would be one of other weights. What cannot be
    read is kept under another name, `last.ckpt.unreadable`.

    Args:
        run: which.
        say: told of each file that was set aside, in a line.
    """
    found: dict[Path, dict[str, Any]] = {}
    for path in (run.last, run.best):
        if not path.exists() and not path.is_symlink():
            continue
        try:
            found[path] = read_checkpoint(path, run)
        except ValueError as error:
            if leads():
                name = _set_aside(path).name
                say(f"{run.name}: {path.name} {error}; kept as {name}, and the run is trained anew")
    last = found.get(run.last)
    if last is not None and (run.best in found or not _has_best(last)):
        return last
    if leads():
        for path in found:  # of a training that does not go on
            path.unlink(missing_ok=True)
    return None


def read_checkpoint(path: Path, run: Run) -> dict[str, Any]:
    """Content of a checkpoint, which is checked against the checksums that `torch.save` puts into it.

    Args:
        path: the file.
        run: whose it should be.

    Raises:
        ValueError: it is broken or of another run; a predicate such as "is broken: …".
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"wrong checksum of {damaged}")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the readers fail by errors of all kinds
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"cannot be read ({reason})") from error
    if not isinstance(content, dict) or not {"global_step", "state_dict", "loops"} <= content.keys():
        raise ValueError("is not a checkpoint of Lightning")
    given = content.get("hyper_parameters") or {}
    stamp = content.get(RUN) or {"norm": given.get("norm", run.norm), "seed": run.seed}
    if stamp != _identity(run):
        raise ValueError(f"is of another run, norm {stamp.get('norm')} and seed {stamp.get('seed')}")
    return content


def _identity(run: Run) -> dict[str, Any]:
    values = {"values": dict(run.values)} if run.values else {}
    return {"norm": run.norm, "seed": run.seed, **values}


def _has_best(checkpoint: Mapping[str, Any]) -> bool:
    """Whether a best checkpoint had been saved when this one was."""
    states = checkpoint.get("callbacks", {}).items()
    return any(name.startswith(Best.__name__) and state["best_model_score"] is not None for name, state in states)


def _set_aside(path: Path) -> Path:
    """Rename what cannot be read; what had been set aside before stays."""
    aside, number = path.with_name(f"{path.name}.unreadable"), 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.unreadable-{number}")
    return path.rename(aside)

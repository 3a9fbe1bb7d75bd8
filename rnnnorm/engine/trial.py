"""Trial: train a norm with a seed, evaluate its best checkpoint, record the result."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from lightning import Callback, LightningDataModule, LightningModule, Trainer, seed_everything
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.loggers import TensorBoardLogger

from rnnnorm.common.atomic import naming
from rnnnorm.common.sequence_scores import SequenceScores
from rnnnorm.engine.checkpoints import Best, CheckpointFiles, diverged_at, resume_from
from rnnnorm.engine.control import Control, Interrupt, InterruptedRunError, OutOfTimeError, PausedError
from rnnnorm.engine.endings import ended_by, timing
from rnnnorm.engine.entries import hyperparameters, log_final, log_start
from rnnnorm.engine.evaluation import ROWS, ROWS_OF_CUT, Collector, evaluate, evaluated_rows, stored_statistics
from rnnnorm.engine.logger import CurveLogger
from rnnnorm.engine.progress import Display, StepProgress, count, duration
from rnnnorm.engine.records import leads, write, write_json
from rnnnorm.engine.run import Run
from rnnnorm.engine.scores import TrainingLoss, ValidationScores
from rnnnorm.norms import evaluates_by
from rnnnorm.tasks.divergence import StopOnDivergence


class Experiment(Protocol):
    """Experiment: what several runs share, and how the objects of one run are built from it."""

    @property
    def datamodule(self) -> LightningDataModule:
        """Data of the run that was built last."""

    @property
    def model_options(self) -> Mapping[str, Any]:
        """Constructor arguments of the model, by name."""

    def build(self, run: Run, logger: TensorBoardLogger, callbacks: list[Callback]) -> tuple[Trainer, LightningModule]:
        """Trainer and model of a run."""

    def tester(self, callback: Callback) -> Trainer:
        """A trainer that only tests, on the same devices and with the same precision."""

    def run_config(self) -> str:
        """Configuration of the run that was built last, as YAML."""


STOPPED = {"cut": "--max-minutes", "paused": "--tune-halving"}
"""What ends a training before its time, by status."""


@dataclass(frozen=True)
class Task:
    """What a model says of how it is measured; models that say nothing are measured by their loss."""

    name: str
    metric: str
    mode: str

    @staticmethod
    def of(model: LightningModule) -> Task:
        """Read it off a model."""
        kind = str(getattr(model, "task", type(model).__name__))
        return Task(kind, str(getattr(model, "metric", "loss")), str(getattr(model, "metric_mode", "min")))


def execute(
    experiment: Experiment,
    run: Run,
    interrupt: Interrupt,
    display: Display,
    seconds: float | None = None,
    jobs: int | None = None,
) -> dict[str, Any]:
    """Train, evaluate and record one run, going on from its last checkpoint if it has one (`resume_from`).

    Args:
        experiment: what all runs share.
        run: which one.
        interrupt: whether the user wants to stop.
        display: where progress is shown.
        seconds: time for training and evaluation. A training that would take longer is cut, and can be resumed; then
            the evaluation ends in time, too, and may be incomplete. That of a training which has ended is always whole.
        jobs: how many runs share the machine, to be recorded; None: nobody knows.

    Returns:
        what stands in `result.json`.

    Raises:
        InterruptedRunError: the user stopped the run; it can be resumed.
        OSError: something cannot be written; the error names it, or the run's folder.
    """
    with naming(run.folder):  # TensorBoard's errors name nothing
        return _execute(experiment, run, interrupt, display, seconds, jobs)


def train(
    experiment: Experiment,
    run: Run,
    interrupt: Interrupt,
    display: Display,
    seconds: float | None = None,
    until: int | None = None,
) -> dict[str, Any]:
    """Train one run and record its validation scores; the test split is not touched.

    It goes on from its last checkpoint, as that of `execute` does, and a training that is paused and resumed ends with
    the same weights as one that was not.

    Args:
        experiment: what all runs share.
        run: which one.
        interrupt: whether the user wants to stop.
        display: where progress is shown.
        seconds: time for training; one that would take longer is cut, and can be resumed.
        until: completed epochs after which it is paused; None: it is trained to its end.

    Returns:
        what stands in `result.json`: facts, and "scores", pairs of epoch and validation metric.

    Raises:
        InterruptedRunError: the user stopped the run; it can be resumed.
        OSError: something cannot be written; the error names it, or the run's folder.
        ValueError: nothing was validated.
    """
    with naming(run.folder):
        deadline = None if seconds is None else time.monotonic() + seconds
        trained = _fit(experiment, run, interrupt, display, deadline, until)
        interrupt.check()
        result = trained.facts | {"scores": trained.scores.seen, "values": dict(run.values)}
        if result["status"] in ("finished", "paused") and not trained.scores.validations:
            raise ValueError(f"nothing was validated: a search compares runs by {trained.scores.tag}")
        trained.logger.finalize("success")
        write_json(run.result, result)
    return result


@dataclass(frozen=True)
class Training:
    """A training that has ended or is paused."""

    trainer: Trainer
    model: LightningModule
    task: Task
    logger: TensorBoardLogger
    scores: ValidationScores
    facts: dict[str, Any]


def _execute(
    experiment: Experiment, run: Run, interrupt: Interrupt, display: Display, seconds: float | None, jobs: int | None
) -> dict[str, Any]:
    deadline = None if seconds is None else time.monotonic() + seconds
    trained = _fit(experiment, run, interrupt, display, deadline, None, jobs, tested=True)
    result = trained.facts
    interrupt.check()
    collector = Collector(interrupt, display.step, deadline if result["status"] == "cut" else None)
    result |= _evaluate(experiment, run, trained.model, trained.trainer, result["status"], collector)
    if leads():
        _write_sequences(run, collector.sequences(trained.task.metric, result["test"]))
    trained.logger.finalize("success")
    if result["status"] != "cut" and leads():  # the curves of one that was cut go on
        log_final(run.folder, result)
    write_json(run.result, result)
    return result


def _fit(
    experiment: Experiment,
    run: Run,
    interrupt: Interrupt,
    display: Display,
    deadline: float | None,
    until: int | None = None,
    jobs: int | None = None,
    tested: bool = False,
) -> Training:
    """Train one run, from its last checkpoint if it has one; where it is `tested`, time is kept for that."""
    resume = resume_from(run, display.say)
    again: dict[str, Any] = {}
    if any(run.folder.glob("*tfevents*")):
        # Steps after the checkpoint are about to be taken again: TensorBoard shall forget the first time.
        again["purge_step"] = 0 if resume is None else resume["global_step"]
    logger = CurveLogger(
        run.folder.parent.parent,
        name=run.folder.parent.name,
        version=run.folder.name,
        default_hp_metric=False,
        **again,
    )
    control = Control(run.last, interrupt, deadline)
    control.until = until
    run.last.parent.mkdir(parents=True, exist_ok=True)
    trainer, model = experiment.build(run, logger, [StopOnDivergence(), StepProgress(display), control])
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:  # not one of the user's own
        trainer.strategy.checkpoint_io = CheckpointFiles(run)
    task = Task.of(model)
    best = Best(run.best, task.metric, task.mode)
    scores, losses = ValidationScores(f"val/{task.metric}"), TrainingLoss()
    # Before `control`: the checkpoint to resume from has to know the best one and the scores.
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    callbacks[callbacks.index(control) : callbacks.index(control)] = [scores, losses, best]
    if resume is None:
        write(run.folder / "config.yaml", experiment.run_config())
        values = hyperparameters(experiment.model_options, experiment.datamodule, run)
        own = {part for key, _ in run.values for part in (key, key.rpartition(".")[2])}
        log_start(logger, values, {"norm", "seed", *own}, task.metric)
    if deadline is not None and tested:
        control.evaluated_rows = evaluated_rows(model, experiment.datamodule)
    seed_everything(run.seed, workers=True, verbose=False)  # dropout draws the same, whatever building the norm drew
    status = "finished"
    try:
        last = run.last if resume is not None else None
        trainer.fit(model, datamodule=experiment.datamodule, ckpt_path=last, weights_only=True)
    except SystemExit as error:  # Lightning's answer to a second Ctrl-C
        raise InterruptedRunError from error
    except OutOfTimeError:
        status = "cut"
    except PausedError:
        status = "paused"
    facts = _facts(run, task, trainer, model, control.trained, status) | _best(run, best)
    facts |= {"train_loss": losses.mean, "timing": timing(trainer, control.cpu, jobs)}
    return Training(trainer, model, task, logger, scores, facts)


def _facts(
    run: Run, task: Task, trainer: Trainer, model: LightningModule, seconds: float, status: str
) -> dict[str, Any]:
    stopped = diverged_at(trainer)
    return {
        "norm": run.norm,
        "seed": run.seed,
        "status": status if stopped is None else "diverged",
        "ended_by": "divergence" if stopped is not None else STOPPED.get(status) or ended_by(trainer),
        "diverged_at": stopped,
        "task": task.name,
        "metric": task.metric,
        "metric_mode": task.mode,
        "steps": trainer.global_step,
        "epochs": trainer.current_epoch,
        "seconds": round(seconds, 3),
        "threads": torch.get_num_threads(),
        "parameters": sum(p.numel() for p in model.parameters()),
        "statistics": stored_statistics(model),
        "evaluates_by": evaluates_by(model),
    }


def _best(run: Run, best: Best) -> dict[str, Any]:
    score = best.best_model_score
    if score is None or not run.best.is_file():
        return {"best_val": None, "best_step": None}
    step = torch.load(run.best, map_location="cpu", weights_only=True)["global_step"]
    return {"best_val": float(score), "best_step": int(step)}


def _evaluate(
    experiment: Experiment, run: Run, model: LightningModule, trained: Trainer, status: str, collector: Collector
) -> dict[str, Any]:
    """The best checkpoint on the test split; the last weights where nothing was validated, unless they diverged."""
    if run.best.is_file():
        model.load_state_dict(torch.load(run.best, map_location="cpu", weights_only=True)["state_dict"])
    elif status == "diverged":
        return {"test": {}, "buckets": {"length": [], "step": []}}
    limit, limited = trained.num_training_batches, trained.limit_train_batches != 1.0
    test, buckets = evaluate(
        experiment.tester(collector),
        model,
        experiment.datamodule,
        collector,
        int(limit) if limited and not math.isinf(limit) else None,
        ROWS_OF_CUT if status == "cut" else ROWS,
    )
    return {"test": test, "buckets": buckets}


def _write_sequences(run: Run, scores: SequenceScores | None) -> None:
    """Scores by test sequence beside the result; none are left of an evaluation before."""
    if scores is None:
        run.sequences.unlink(missing_ok=True)
    else:
        scores.write(run.sequences)


def describe(result: dict[str, Any]) -> str:
    """How a run ended, in a line."""
    if result["status"] == "diverged":
        ending = f"diverged at step {result['diverged_at']}"
    else:
        ending = f"{count(result['steps'], 'step')} in {duration(result['seconds'])}"
        ending += " (out of time)" if result["status"] == "cut" else ""
    values = [
        f"{mode} {values[result['metric']]:.4g}"
        for mode, values in result["test"].items()
        if result["metric"] in values and (mode == "running" or result["statistics"])
    ]
    return f"{ending}; test {result['metric']} {', '.join(values)}" if values else ending

"""Slurm by submitit: job arrays, requeued when they are preempted or their time is over."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import submitit
import yaml
from submitit.local.local import LOCAL_REQUEUE_RETURN_CODE

from rnnnorm.engine.executors.base import Order, Terms
from rnnnorm.engine.work import Ended, Work

ARRAY = 1000
"""Jobs that are submitted at the same time where the user does not say how many: what Slurm takes by default."""
SHARED = ("name", "timeout_min", "mem_gb", "nodes", "cpus_per_task", "gpus_per_node", "tasks_per_node")
"""Parameters that submitit has for every kind of cluster; the others get the prefix `slurm_`."""


class Requeued:
    """One attempt in a Slurm job, which goes on from its checkpoint when Slurm takes the job away.

    Args:
        order: the attempt.
    """

    def __init__(self, order: Order) -> None:
        self.order = order
        self._taken_away = False

    def __call__(self) -> Ended:
        """Attempt the trial; the signal that announces the end arrives as SystemExit, which the trial catches."""
        os.environ["SLURM_JOB_NAME"] = "interactive"  # else Lightning takes the job's tasks for processes of its own
        ended = self.order()
        if self._taken_away:
            sys.exit(LOCAL_REQUEUE_RETURN_CODE if os.environ.get("SUBMITIT_EXECUTOR") == "local" else -1)
        return ended

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """What submitit shall run when the job begins again."""
        self._taken_away = True
        return submitit.helpers.DelayedSubmission(Requeued(self.order))


class SlurmJobs:
    """Submits attempts as jobs and looks once a second which have ended.

    Args:
        folder: of scripts, pickles and logs, seen by all machines; those of a job are deleted when it has succeeded.
        jobs: how many at the same time; None: `ARRAY`.
        parameters: of submitit, `partition=gpu,timeout_min=60`; `cluster=local` tries everything out on this machine.
        terms: what each worker is told.

    Raises:
        ValueError: a parameter that submitit refuses, or no Slurm.
    """

    def __init__(self, folder: Path, jobs: int | None, parameters: str | None, terms: Terms) -> None:
        self.width = jobs or ARRAY
        self.parallel = jobs
        self._terms = terms
        given = {"timeout_min": 60, "cpus_per_task": terms.threads, **parse(parameters)}
        cluster = given.pop("cluster", "slurm")
        more = {"slurm_max_num_timeout": given.pop("max_num_timeout", 100)} if cluster == "slurm" else {}
        named = {key if key in SHARED else f"slurm_{key}": value for key, value in given.items()}
        try:
            self._submitit = submitit.AutoExecutor(folder, cluster, **more)
            self._submitit.update_parameters(**named)
        except (RuntimeError, ValueError, NameError, AssertionError) as error:
            raise ValueError(f"--executor slurm: {error}") from error
        self._slurm = cluster == "slurm"
        self._jobs: dict[Future[Ended], Any] = {}
        self._ended = threading.Event()

    def submit(self, works: Sequence[tuple[Work, float | None]]) -> list[Future[Ended]]:
        """Submit them as one array."""
        orders = [self._terms.order(work, seconds) for work, seconds in works]
        with self._submitit.batch():
            jobs = [self._submitit.submit(Requeued(order)) for order in orders]
        futures: list[Future[Ended]] = [Future() for _ in jobs]
        self._jobs.update(zip(futures, jobs, strict=True))
        return futures

    def stop(self) -> None:
        """Cancel the jobs that have not begun; the others look at the sign."""
        arrays = {str(job.job_id).partition("_")[0] for job in list(self._jobs.values())}
        if self._slurm and arrays:
            subprocess.run(["scancel", "--state=PENDING", *sorted(arrays)], check=False, capture_output=True)

    def kill(self) -> None:
        """Cancel all jobs."""
        for job in list(self._jobs.values()):
            job.cancel(check=False)

    def _watch(self) -> None:
        while not self._ended.wait(1.0):
            for future, job in list(self._jobs.items()):
                with suppress(OSError):  # of the file system: it is asked again
                    if job.done():
                        del self._jobs[future]
                        _hand_over(job, future)

    def __enter__(self) -> Self:
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if error is not None:
            self.kill()
        self._ended.set()


def _hand_over(job: Any, future: Future[Ended]) -> None:
    """Result or error of a job that has ended; what a successful one left on the disk is deleted."""
    try:
        result = job.result()
    except Exception as error:  # whatever it was, nobody knows how the attempt ended
        future.set_exception(error)
        return
    for file in job.paths.folder.glob(f"{job.job_id}_*"):
        file.unlink(missing_ok=True)
    future.set_result(result)


def parse(text: str | None) -> dict[str, Any]:
    """`partition=gpu,timeout_min=60` → keys and values; a comma without a key after it belongs to the value.

    Raises:
        ValueError: no key at all.
    """
    pieces: list[str] = []
    for piece in (text or "").split(","):
        if "=" in piece or not pieces:
            pieces.append(piece)
        else:
            pieces[-1] += f",{piece}"
    if pieces != [""] and "=" not in pieces[0]:
        raise ValueError(f"--slurm {text}: expected KEY=VALUE,KEY=VALUE")
    pairs = (piece.partition("=") for piece in pieces if piece)
    return {key.strip(): yaml.safe_load(value) for key, _, value in pairs}

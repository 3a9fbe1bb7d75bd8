"""Run folders as `rnnnorm compare` leaves them, without training anything."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import TensorBoardLogger

# norm → (error it converges to, speed, factor by which running averages lose, seconds, stored statistics)
CHARACTERS = {
    "none": (0.13, 1.0, 1.0, 61.0, 0),
    "bn-vertical": (0.11, 1.6, 1.15, 66.0, 1024),
    "bn-vertical-framewise": (0.12, 1.5, 1.35, 70.0, 60000),
    "bn-shared": (0.16, 1.2, 4.0, 150.0, 2304),
    "bn-timestep": (0.10, 2.1, 1.9, 171.0, 130000),
    "ln": (0.085, 2.4, 1.0, 124.0, 0),
    "ln-carried": (0.105, 2.0, 1.0, 126.0, 0),
    "wn": (0.125, 1.3, 1.0, 80.0, 0),
}


def write_run(
    out: Path,
    norm: str,
    seed: int,
    *,
    status: str | None = "finished",
    diverged_at: int = 260,
    checkpoint: bool = True,
    task: str = "classification",
    metric: str = "accuracy",
    metric_mode: str = "max",
    steps: int = 600,
) -> Path:
    """Write one run's folder: events, and `result.json` unless `status` is None (unfinished)."""
    folder = out / norm.replace(":", ",") / f"seed={seed}"
    random = np.random.default_rng([seed, len(norm)])
    floor, speed, lossy, seconds, statistics = CHARACTERS.get(norm, CHARACTERS[norm.partition(":")[0]])
    floor *= 1.0 + 0.04 * random.normal() + (0.3 if ":" in norm else 0.0)
    last = diverged_at if status == "diverged" else steps if status == "finished" else steps // 2

    def error(step: float) -> float:
        return floor + (0.75 - floor) * math.exp(-speed * step / 150.0)

    def score(mistakes: float) -> float:
        return 1.0 - min(mistakes, 0.95) if metric == "accuracy" else math.exp(2.0 + 3.0 * mistakes)

    logger = TensorBoardLogger(out, name=norm.replace(":", ","), version=f"seed={seed}", default_hp_metric=False)
    logger.log_hyperparams({"norm": norm, "seed": seed}, {"val/loss": 0.0, f"val/{metric}": 0.0})
    for step in range(10, last + 1, 10):
        noise = math.exp(0.12 * random.normal())
        loss = 3.0 * error(step) * noise
        if status == "diverged" and step > last - 60:
            loss *= 10.0 ** ((step - last + 60) / 12.0)
        loss = math.nan if status == "diverged" and step == last else loss
        logger.log_metrics({"train/loss": loss, f"train/{metric}": score(error(step) * noise)}, step)
        if step % 50 == 0:
            noise = math.exp(0.04 * random.normal())
            gap = lossy * (1 + 0.5 * (lossy - 1) * abs(random.normal()))
            logger.log_metrics(
                {
                    "val/loss": 3.1 * error(step) * noise * gap,
                    "val/loss_batch": 3.1 * error(step) * noise,
                    f"val/{metric}": score(error(step) * noise * gap),
                    "epoch": step // 50,
                },
                step,
            )
    logger.finalize("success")
    if status is None:
        return folder

    def tested(factor: float) -> dict[str, float]:
        return {"loss": 3.2 * error(last) * factor, metric: score(error(last) * factor)}

    def buckets(edges: list[int], difficulty: float) -> list[dict[str, Any]]:
        found = []
        for k, (low, high) in enumerate(pairwise(edges)):
            hard = 1.0 + difficulty * k * (1.6 if norm == "none" else 1.0)
            found.append({"low": low + 1, "high": high, "count": 100, "running": score(error(last) * hard * lossy),
                          "population": score(error(last) * hard), "batch": score(error(last) * hard)})  # fmt: skip
        return found

    scored = status in ("finished", "cut") or checkpoint
    result = {
        "norm": norm,
        "seed": seed,
        "status": status,
        "diverged_at": last if status == "diverged" else None,
        "task": task,
        "metric": metric,
        "metric_mode": metric_mode,
        "steps": last,
        "epochs": last // 50,
        "seconds": seconds * last / steps * (1.0 + 0.02 * random.normal()),
        "parameters": 24_000 + 512 * (norm != "none"),
        "statistics": statistics,
        "best_val": score(error(last)) if scored else None,
        "best_step": last - last % 50 if scored else None,
        "test": {"running": tested(lossy), "population": tested(1.0), "batch": tested(0.98 if lossy > 1 else 1.0)}
        if scored
        else {},
        "buckets": {"length": buckets([0, 12, 25, 50, 100, 200], 0.25), "step": buckets([0, 10, 40, 90, 200], 0.1)}
        if scored
        else {},
    }
    (folder / "result.json").write_text(json.dumps(result))
    return folder


def write_comparison(out: Path, norms: list[str], seeds: int = 3, **options: Any) -> None:
    """Write finished runs of several norms, `compare.yaml` and `data.json`."""
    for norm in norms:
        for seed in range(seeds):
            write_run(out, norm, seed, **options)
    (out / "compare.yaml").write_text("model:\n  hidden_size: 64\ntrainer:\n  max_steps: 600\n")
    lengths = {"min": 3, "median": 41, "p95": 160, "max": 198}
    data = {"train_lengths": lengths, "test_lengths": lengths, "task": options.get("task", "classification"),
            "data": "rnnnorm.data.synthetic.Parity"}  # fmt: skip
    (out / "data.json").write_text(json.dumps(data))

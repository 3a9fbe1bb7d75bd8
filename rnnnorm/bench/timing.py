"""Timing of contenders in turns, so that other load on the machine affects all of them alike."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import torch

from .steps import Step

MIN_ROUNDS, FEWEST_ROUNDS, MAX_ROUNDS = 5, 3, 2000


Name = TypeVar("Name", bound=Hashable)


class Spread(NamedTuple):
    """Median and quartiles of a sample."""

    median: float
    q1: float
    q3: float


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles.

    Raises:
        ValueError: no values.
    """
    if not len(values):
        raise ValueError("expected at least one value")
    q1, median, q3 = np.percentile(np.asarray(values, dtype=np.float64), [25, 50, 75]).tolist()
    return Spread(median, q1, q3)


def ratios(numerator: Sequence[float], denominator: Sequence[float]) -> Spread:
    """Median and quartiles of the ratios round by round."""
    return spread([a / b for a, b in zip(numerator, denominator, strict=True)])


def interleave(
    steps: Mapping[Name, Step],
    seconds: float,
    device: torch.device,
    seed: int = 0,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[Name, list[float]]:
    """Run all contenders once per round, in an order that is shuffled anew in each, and time each run.

    After two rounds of warm-up there are at least 5 rounds, and as many as fit into `seconds`; where one round alone
    takes longer than that, after one of warm-up, there are 3. Garbage is collected before and not during the rounds.

    Args:
        steps: contenders by name.
        seconds: time to spend on all of them together.
        device: waited for before and after each run where it works on its own.
        seed: of the order.
        clock: tells the time in seconds.

    Returns:
        Seconds of each contender, one entry per round.
    """
    wait: Callable[[], object] = (lambda: torch.cuda.synchronize(device)) if device.type == "cuda" else lambda: None
    order, shuffle = list(steps), random.Random(seed)
    times: dict[Name, list[float]] = {name: [] for name in steps}

    def one_round(into: dict[Name, list[float]] | None) -> None:
        shuffle.shuffle(order)
        for name in order:
            steps[name].prepare()
            wait()
            start = clock()
            steps[name].run()
            wait()
            if into is not None:
                into[name].append(clock() - start)
            steps[name].reset()

    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        began = clock()
        one_round(None)
        long = clock() - began > seconds
        if not long:
            one_round(None)
        began = clock()
        for number in range(MAX_ROUNDS):
            if number >= (FEWEST_ROUNDS if long else MIN_ROUNDS) and clock() - began > seconds:
                break
            one_round(times)
    finally:
        if enabled:
            gc.enable()
    return times

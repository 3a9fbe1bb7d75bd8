"""Options of `rnnnorm compare` that say what is tuned, checked against the configuration."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import NonNegativeInt, PositiveInt

from rnnnorm.compare.keys import check, read
from rnnnorm.compare.search import ENDS, RATE, WIDENINGS, Dimension, Search, parse_dimension, parse_tune

TUNE = ("tune", "tune_trials", "tune_rounds", "tune_halving")


class Configured(Protocol):
    """A comparison, as far as it matters here."""

    parser: Any
    config: Namespace
    seeds: list[int]


def add_tuning(add: Callable[..., Any]) -> None:
    """Add the options to a parser.

    Args:
        add: the parser's `add_argument`.
    """
    add(
        "--tune",
        type=Any,
        default=None,
        metavar="[KEY[=RANGE]]",
        help=f"tune each norm by itself, {RATE} unless said otherwise; RANGE is log:1e-4..1e-1, lin:0..0.5, "
        "int:1..4 or a|b|c; may be given several times",
    )
    add("--tune-trials", type=PositiveInt, default=8, help="trials of each norm in each round of tuning")
    add("--tune-rounds", type=PositiveInt, default=1, help="independent rounds of tuning, dealt out to the seeds")
    add(
        "--tune-halving",
        type=NonNegativeInt,
        default=0,
        metavar="ETA",
        help="only the best 1/ETA of the trials go on, after 1/ETA² and 1/ETA of the epochs; 0: all go to the end",
    )


def read_search(comparison: Configured, own: Mapping[str, Any], others: Collection[str]) -> Search | None:
    """The search that a comparison is asked for; None if nothing is to be tuned.

    Args:
        comparison: with its configuration and seeds.
        own: values of the options `TUNE`.
        others: keys that cannot be tuned.

    Raises:
        ValueError: a key that does not exist or cannot be tuned, a range that is none or goes beyond what its key
            takes, a final seed that is one of tuning, or more rounds than seeds.
    """
    given = parse_tune(own["tune"])
    if not given:
        return None
    trials, rounds, halving = (int(own[key]) for key in TUNE[1:])
    if halving == 1:
        raise ValueError("--tune-halving 1: expected 0, for none, or at least 2: the best 1/ETA of the trials go on")
    dimensions = []
    for typed, range in given.items():
        key = typed.replace(".init_args.", ".")
        _check_key(key, others, halving)
        try:
            dim = parse_dimension(key, range, read(comparison.config, key))
            for end in dim.ends:
                check(comparison.parser, comparison.config, key, end)
        except ValueError as error:
            raise ValueError(str(error) if "--tune" in str(error) else f"--tune {typed}: {error}") from error
        dimensions.append(replace(dim, reach=_reach(comparison, dim)))
    search = Search(tuple(dimensions), trials, rounds, halving)
    if rounds > len(comparison.seeds):
        raise ValueError(
            f"--tune-rounds {rounds}: each round chooses for seeds of its own, so there must be as many; "
            f"--seeds gives {len(comparison.seeds)}"
        )
    taken = sorted({*comparison.seeds} & {*search.seeds})
    if taken:
        raise ValueError(f"--seeds {taken[0]}: tuning has the seeds {search.seeds}; final runs must have others")
    return search


def idle_tuning(typed: Sequence[str]) -> list[str]:
    """Notes on options of tuning that were typed where nothing is tuned.

    Args:
        typed: the command line.
    """
    names = [arg.partition("=")[0] for arg in typed]
    idle = [f"--{key.replace('_', '-')}" for key in TUNE[1:]]
    return [f"{option} changes nothing without --tune" for option in idle if option in names]


def _check_key(key: str, others: Collection[str], halving: int) -> None:
    if key == "model.norm":
        raise ValueError(f"--tune {key}: a comparison takes its norms from --norms")
    taken = {other.replace(".init_args.", ".") for other in others} | {"seed_everything"}
    if key in taken or key.rpartition(".")[2] in ("class_path", "init_args"):
        raise ValueError(f"--tune {key}: expected a key of model, data or trainer that changes what is trained")
    if halving and key in ("trainer.max_epochs", "trainer.max_steps"):
        raise ValueError(f"--tune {key}: with --tune-halving {halving} all trials are compared at the same epochs")


def _reach(comparison: Configured, dim: Dimension) -> tuple[int, int]:
    """How often a range can be widened at its low and high end, within what its key takes."""
    found = []
    parser: ArgumentParser = comparison.parser
    for place, end in enumerate(ENDS):
        times = 0
        while dim.kind == "log" and times < WIDENINGS:
            try:
                check(parser, comparison.config, dim.key, dim.beyond(end, times + 1).ends[place])
            except ValueError:
                break
            times += 1
        found.append(times)
    return found[0], found[1]

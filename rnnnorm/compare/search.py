"""Search: the keys that are tuned, their ranges, and the quasi-random points that all norms try.

Points are those of a scrambled Sobol sequence of scipy. Samplers that learn from the scores would give each norm other
points, and Optuna's quasi-random one is scipy's, too.
"""

from __future__ import annotations

import json
import math
import warnings
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import yaml
from scipy.stats import qmc

RATE = "model.learning_rate"
"""What `--tune` alone tunes."""
FACTOR = 30.0
"""Ratio of the ends of a default range to the configured value: from 1/30 of it to its 30-fold."""
WIDENINGS = 2
"""How often a range can be widened at each of its ends."""
PART = 3
"""A widening adds a range as wide as one PART-th of the first one, with one PART-th of its trials: the same density."""
FIRST_SEED = 1000
"""Seed of the trials of round 0; round r has this plus r. Final runs may have none of them."""
ENDS = ("low", "high")

EXPECTED = "expected log:LOW..HIGH with 0 < LOW < HIGH, lin:LOW..HIGH, int:LOW..HIGH with LOW < HIGH, or A|B|C"


@dataclass(frozen=True)
class Dimension:
    """One key and the values it may take.

    Args:
        key: as typed, `model.learning_rate`.
        kind: "log", "lin", "int" or "choice": how values are spread.
        low: smallest value; 0 for a choice.
        high: largest value; 0 for a choice.
        choices: the values of a choice.
        reach: how often it can be widened at its low and its high end; only "log" ranges are, the others mean what
            they say.
    """

    key: str
    kind: str
    low: float = 0.0
    high: float = 0.0
    choices: tuple[Any, ...] = ()
    reach: tuple[int, int] = (0, 0)

    @property
    def text(self) -> str:
        """The range as it is typed: `log:0.0001..0.1`, `adam|sgd`."""
        if self.kind == "choice":
            return "|".join(yaml.safe_dump(value, default_flow_style=True).split("\n")[0] for value in self.choices)
        return f"{self.kind}:{self.low:.12g}..{self.high:.12g}"

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values that must be allowed: the ends of a range, or all of a choice."""
        if self.kind == "choice":
            return self.choices
        return tuple(int(end) if self.kind == "int" else end for end in (self.low, self.high))

    def value(self, u: float) -> Any:
        """The value at a part u of the range, 0 ≤ u < 1, with four significant digits."""
        if self.kind == "choice":
            return self.choices[int(u * len(self.choices))]
        if self.kind == "int":
            return int(self.low + u * (self.high - self.low + 1))
        found = self.low * (self.high / self.low) ** u if self.kind == "log" else self.low + u * (self.high - self.low)
        return min(max(float(f"{found:.4g}"), self.low), self.high)

    def beyond(self, end: str, times: int) -> Dimension:
        """The range that the widening number `times` (1, 2, …) adds at an end of a "log" range."""
        step = (self.high / self.low) ** ((1 if end == "high" else -1) / PART)
        first = self.high if end == "high" else self.low
        near, far = (float(f"{first * step**k:.4g}") for k in (times - 1, times))
        return Dimension(self.key, "log", min(near, far), max(near, far))


@dataclass(frozen=True)
class Widening:
    """A range added at one end of a dimension: its key, "low" or "high", and the how-manieth time."""

    key: str
    end: str
    times: int

    @property
    def label(self) -> str:
        """Prefix of the names of its trials."""
        return f"{self.end}{self.times}-{self.key}"


@dataclass(frozen=True)
class Point:
    """The values of one trial, the same for all norms.

    Args:
        name: of the trial within its round.
        values: key → value, in the order of the dimensions.
    """

    name: str
    values: tuple[tuple[str, Any], ...] = field(compare=False)

    def __getitem__(self, key: str) -> Any:
        return dict(self.values)[key]


@dataclass(frozen=True)
class Search:
    """What is tuned, and with how much effort.

    Args:
        dimensions: the keys.
        trials: of each norm in each round, before any widening.
        rounds: independent ones, each with points and a seed of its own.
        halving: η: the best 1/η of the trials go on from each rung to the next; 0: all run to the end.
    """

    dimensions: tuple[Dimension, ...]
    trials: int = 8
    rounds: int = 1
    halving: int = 0

    @property
    def seeds(self) -> list[int]:
        """Seeds of the trials, by round."""
        return [FIRST_SEED + r for r in range(self.rounds)]

    @property
    def added(self) -> int:
        """Trials that each widening adds."""
        return math.ceil(self.trials / PART)

    @property
    def widenings(self) -> list[Widening]:
        """All that there can be."""
        return [
            Widening(dim.key, end, times + 1)
            for dim in self.dimensions
            for end, reach in zip(ENDS, dim.reach, strict=True)
            for times in range(reach)
        ]

    def points(self, round: int, widenings: Sequence[Widening] = ()) -> list[Point]:
        """The points of a round: with more trials come further points, those before stay."""
        found = _draw(self.dimensions, self.trials, round, "")
        for widening in widenings:
            dimensions = [
                dim.beyond(widening.end, widening.times) if dim.key == widening.key else dim for dim in self.dimensions
            ]
            found += _draw(dimensions, self.added, round, widening.label)
        return found

    def describe(self) -> dict[str, Any]:
        """The search as keys of a comparison."""
        return {
            "tune": {dim.key: list(dim.choices) if dim.kind == "choice" else dim.text for dim in self.dimensions},
            "tune_halving": self.halving,
            **dict(zip(SIZE, (self.trials, self.rounds), strict=True)),
        }


SIZE = ("tune_trials", "tune_rounds")
"""Keys of a search that may grow: what has been tried before stays a part of it."""


def _draw(dimensions: Sequence[Dimension], count: int, round: int, label: str) -> list[Point]:
    scramble = np.random.default_rng([round, zlib.crc32(label.encode())])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about numbers of points that are no powers of two
        places = qmc.Sobol(len(dimensions), scramble=True, seed=scramble).random(count)
    prefix = f"{label}-" if label else ""
    return [
        Point(f"{prefix}{k}", tuple((dim.key, dim.value(float(u))) for dim, u in zip(dimensions, place, strict=True)))
        for k, place in enumerate(places)
    ]


def parse_tune(given: Any) -> dict[str, Any]:
    """Key → range as given, None for the default one; empty where nothing is to be tuned.

    Args:
        given: what stands after `--tune` or behind `tune:` in YAML: true, `KEY`, `KEY=RANGE`, a list of these, or a
            mapping from keys to ranges.

    Raises:
        ValueError: something else, or a key twice.
    """
    if given is None or given is False:
        return {}
    if isinstance(given, Mapping):
        return {str(key): None if value is True else value for key, value in given.items()}
    found: dict[str, Any] = {}
    for item in given if isinstance(given, list) else [given]:
        if item is not True and not (isinstance(item, str) and item.strip()):
            raise ValueError(f"tune: {item!r}: expected KEY or KEY=RANGE, such as {RATE}=log:1e-4..1e-1")
        key, equals, text = (RATE, "", "") if item is True else item.strip().partition("=")
        if key in found:
            raise ValueError(f"--tune {item}: {key} is there twice")
        found[key] = text if equals else None
    return found


def parse_dimension(key: str, given: Any, configured: Any) -> Dimension:
    """One key with its range.

    Args:
        key: as typed.
        given: `log:1e-4..1e-1`, `lin:0..0.5`, `int:1..4`, `a|b|c`, a list of values; None: the default range.
        configured: its value without tuning; the middle of a default range.

    Raises:
        ValueError: no such range; the message says what was expected.
    """
    if given is None:
        if isinstance(configured, bool) or not isinstance(configured, int | float) or configured <= 0:
            raise ValueError(f"--tune {key}: {configured!r} has no default range around it; {EXPECTED}")
        low, high = (float(f"{configured * factor:.4g}") for factor in (1 / FACTOR, FACTOR))
        return Dimension(key, "log", low, high)
    said = f"--tune {key}={given}: {EXPECTED}"
    if isinstance(given, list) or (isinstance(given, str) and "|" in given):
        values = given if isinstance(given, list) else [yaml.safe_load(part) for part in given.split("|")]
        if len(values) < 2 or any(value in values[:k] for k, value in enumerate(values)):
            raise ValueError(said)
        return Dimension(key, "choice", choices=tuple(values))
    kind, _, ends = str(given).partition(":")
    try:
        low, high = (float(end) for end in ends.split("..", 1))
    except ValueError:
        raise ValueError(said) from None
    whole = kind != "int" or (low.is_integer() and high.is_integer())
    if kind not in ("log", "lin", "int") or not (math.isfinite(high - low) and low < high and whole):
        raise ValueError(said)
    if kind == "log" and low <= 0:
        raise ValueError(said)
    return Dimension(key, kind, low, high)


def gather(args: Sequence[str]) -> list[str]:
    """The command line with all its `--tune [KEY[=RANGE]]` as a single option, which the parser takes."""
    rest: list[str] = []
    found: list[Any] = []
    place = 0
    while place < len(args):
        arg = args[place]
        place += 1
        option, equals, value = arg.partition("=")
        if option != "--tune":
            rest.append(arg)
            continue
        if not equals and place < len(args) and not args[place].startswith("-"):
            value = args[place]
            place += 1
        found.append({"": True, "true": True, "false": False}.get(value, value))
    if not found:
        return rest
    return [*rest, f"--tune={json.dumps(found if found[-1] is not False else False)}"]

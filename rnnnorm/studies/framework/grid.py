"""Grids of trials, and the data that a study can be made with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from itertools import product
from typing import Any

from rnnnorm.studies.framework.settings import Settings, merged
from rnnnorm.studies.framework.trial import Condition, Trial

Conditions = Mapping[str, Condition]


@dataclass(frozen=True)
class Source:
    """Data that a study is made with.

    Args:
        name: as a condition.
        settings: of the study.
        data: the `data` part of a configuration that replaces that of the settings; None: theirs.
        real: whether they are read from files of `--data-dir`.
    """

    name: str
    settings: Settings
    data: Mapping[str, Any] | None = None
    real: bool = False

    def configured(self, **changes: Any) -> dict[str, Any]:
        """The configuration with these data, and `changes` as in `Settings.configured`."""
        return self.settings.configured(**({} if self.data is None else {"data": self.data}), **changes)


def sources(
    settings: Settings,
    generated: str | Mapping[str, Mapping[str, Any] | None],
    real: Mapping[str, Mapping[str, Any]] | None = None,
    common: Mapping[str, Any] | None = None,
) -> list[Source]:
    """The data at hand: the user's own by `-c`, under the name "own", or else generated ones and real ones.

    Args:
        settings: of the study.
        generated: the name of the settings' data; or several names, each with its `data` part.
        real: name → `data` part; left out without `--data-dir`, which is added to their keys.
        common: keys of all generated ones that are named, where they do not say otherwise.
    """
    if settings.own:
        return [Source("own", settings)]
    named = {generated: None} if isinstance(generated, str) else generated
    made = [
        Source(name, settings, data if common is None else merged({"init_args": common}, data or {}))
        for name, data in named.items()
    ]
    if settings.data_dir is not None:
        for name, data in (real or {}).items():
            made.append(Source(name, settings, in_folder(data, settings.data_dir), real=True))
    return made


def in_folder(data: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """The configuration of a data module that reads files from a folder; of one around another, the module inside."""
    keys = data.get("init_args", {})
    inner = {"data": in_folder(keys["data"], folder)} if "data" in keys else {"data_dir": folder}
    return {**data, "init_args": {**keys, **inner}}


def grid(
    axes: Mapping[str, Any],
    norms: Iterable[str],
    seeds: Iterable[int],
    config: Mapping[str, Any] | Callable[[Conditions], Mapping[str, Any]] | None = None,
    weight: float | Callable[[Conditions], float] = 1.0,
) -> list[Trial]:
    """A trial for every combination of conditions, norms and seeds, the first axis being the outermost loop.

    Generated data are drawn anew for each seed.

    Args:
        axes: condition → its value, or several.
        norms: of each combination.
        seeds: of each norm.
        config: of what is trained, or a function of the conditions; None: nothing is trained beforehand.
        weight: about how many seconds a trial takes, or a function of the conditions.
    """
    norms, seeds = list(norms), list(seeds)
    several = [[v] if isinstance(v, str | int | float) else list(v) for v in axes.values()]
    made = []
    for combination in product(*several):
        here: dict[str, Condition] = dict(zip(axes, combination, strict=True))
        shared = config(here) if callable(config) else config
        seconds = weight(here) if callable(weight) else weight
        drawn = {seed: None if shared is None else drawn_anew(shared, seed) for seed in seeds}
        made += [Trial(here, norm, seed, drawn[seed], seconds) for norm in norms for seed in seeds]
    return made


def drawn_anew(config: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """A configuration whose generated data are drawn from a seed, test sequences among them.

    A replicate is everything that is drawn: intervals over seeds that share their data say nothing about other data.
    Data of files, and those whose seed the configuration names, stay as they are.

    Args:
        config: with `class_path` and `init_args` at any depth.
        seed: of the trial.
    """
    made = {key: drawn_anew(value, seed) if isinstance(value, Mapping) else value for key, value in config.items()}
    if _drawn(str(made.get("class_path"))):
        made["init_args"] = {"seed": seed, **(made.get("init_args") or {})}
    return made


@cache
def _drawn(class_path: str) -> bool:
    """Whether a class draws its examples from its seed; one that cannot be imported is complained about later."""
    module, _, name = class_path.rpartition(".")
    try:
        found = getattr(import_module(module or "rnnnorm.data"), name, None)
    except ImportError:
        return False
    return bool(getattr(found, "drawn", False))

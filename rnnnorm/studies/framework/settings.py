"""How large a study is: its YAML file, the quick variant in it, and what the user says instead."""

from __future__ import annotations

import os
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from rnnnorm.common.suggestions import did_you_mean
from rnnnorm.compare.experiments import find_experiment, folder
from rnnnorm.compare.parameters import parameters_of
from rnnnorm.compare.plan import parse_norms, parse_seeds

KEYS = ("seeds", "norms", "options", "data", "model", "trainer", "rates", "quick")
MACHINE = {"data": ("data_dir", "download", "num_workers"), "trainer": ("accelerator", "default_root_dir", "logger")}
"""Keys that say where and how to compute, not what."""


@dataclass(frozen=True)
class Settings:
    """The size of one study.

    Args:
        seeds: the seeds.
        norms: the normalizers, where the study does not fix them itself.
        options: the study's own: the grid.
        config: `data`, `model`, `trainer`: what is trained, as for `rnnnorm compare -c`.
        quick: whether this is the quick variant.
        own: whether the user brought data of her own.
        data_dir: where real data lie; None: real data are left out.
        rates: tuned learning rates, place → norm → rate; see `framework.rates`.
    """

    seeds: tuple[int, ...]
    norms: tuple[str, ...]
    options: Mapping[str, Any]
    config: Mapping[str, Any]
    quick: bool = False
    own: bool = False
    data_dir: str | None = None
    rates: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def option(self, name: str) -> Any:
        """One of the study's own options.

        Raises:
            ValueError: the study's file does not have it.
        """
        if name not in self.options:
            raise ValueError(f"options.{name} is missing; there are: {', '.join(self.options) or 'none'}")
        return self.options[name]

    def configured(self, **changes: Any) -> dict[str, Any]:
        """The configuration with some keys replaced: `configured(model={"hidden_size": 8}, trainer={"max_epochs": 1})`.

        Keys of `data` and `model` are those of the class (its `init_args`); another `data={"class_path": …}` replaces
        the data module and its keys.
        """
        config = deepcopy(dict(self.config))
        for part, keys in changes.items():
            if part not in ("data", "model", "trainer"):
                raise ValueError(f"a configuration has data, model and trainer, not {part!r}")
            if part == "trainer":
                config[part] = {**config.get(part, {}), **keys}
                continue
            whole = {key: keys[key] for key in ("class_path", "init_args") if key in keys}
            rest = {key: value for key, value in keys.items() if key not in whole}
            config[part] = merged(config.get(part, {}), {**whole, "init_args": {**whole.get("init_args", {}), **rest}})
        return config

    def describe(self) -> dict[str, Any]:
        """All that makes two runs of a study the same one."""
        config = deepcopy(dict(self.config))
        for part, keys in MACHINE.items():
            where = config.get(part, {})
            for key in keys:
                (where.get("init_args", {}) if part == "data" else where).pop(key, None)
        own: dict[str, Any] = {"seeds": list(self.seeds), "norms": list(self.norms), "options": dict(self.options)}
        if self.rates:
            own["rates"] = {place: dict(norms) for place, norms in self.rates.items()}
        return {**own, **config, "quick": self.quick, "own": self.own, "real_data": self.data_dir is not None}


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """One mapping laid over another, key by key; another `class_path` takes nothing from the class below."""
    if "class_path" in above and above["class_path"] != below.get("class_path", above["class_path"]):
        return deepcopy(dict(above))
    result = deepcopy(dict(below))
    for key, value in above.items():
        inner = result.get(key)
        both = isinstance(inner, Mapping) and isinstance(value, Mapping)
        result[key] = merged(inner, value) if both else deepcopy(value)  # type: ignore[arg-type]
    return result


def study_file(name: str) -> Path:
    """The file with a study's full configuration: `experiments/studies/<name>.yaml`."""
    return folder() / "studies" / f"{name}.yaml"


def load(
    name: str,
    quick: bool = False,
    own: str | None = None,
    norms: str | None = None,
    seeds: str | int | None = None,
    data_dir: str | None = None,
) -> Settings:
    """The settings of a study.

    Args:
        name: of the study.
        quick: lay the file's `quick` part over the rest.
        own: a YAML file of the user (or an experiment's name) laid over that. Where it names data, a learning rate or
            optimizers, the study's tuned rates do not hold any more.
        norms: instead of the file's.
        seeds: instead of the file's.
        data_dir: where real data lie; the environment variable RNNNORM_DATA if not given.

    Raises:
        ValueError: a key that does not exist, or no such file.
    """
    path = study_file(name)
    content = _read(path)
    options = set(content.get("options", {}))
    small = content.pop("quick", {})
    if quick:  # rates of the full variant are tuned for larger networks
        content = merged({key: value for key, value in content.items() if key != "rates"}, small)
    user: dict[str, Any] = {}
    if own is not None:
        user = _read(find_experiment(own))
        small = user.pop("quick", {})
        unknown = {str(key) for part in (user, small) for key in part.get("options", {})} - options
        if unknown:
            raise ValueError(
                f"{own}: options {', '.join(sorted(unknown))} do not exist in study {name!r}; "
                f"there are: {', '.join(sorted(options)) or 'none'}{did_you_mean(min(unknown), options)}"
            )
        for key in ("threads", "out"):  # an experiment file of `rnnnorm compare` is welcome
            user.pop(key, None)
        if "data" in user and "class_path" not in user["data"]:
            raise ValueError(f"{own}: data has no class_path, so it does not say which data")
        if "data" in user and "model" in content and "model" not in user:
            content["model"] = {"init_args": dict(content["model"].get("init_args", {}))}
        if "data" in user:  # all of it: what it leaves out is not for the study to say
            content.pop("data", None)
        if "data" in user or _names_a_rate(user):  # tuned rates are those of the study's own data and optimizers
            content.pop("rates", None)
        content = merged(merged(content, user), small if quick else {})
    data_dir = data_dir or os.environ.get("RNNNORM_DATA") or None
    if data_dir is not None and not Path(data_dir).is_dir():
        raise ValueError(f"no folder {data_dir}, where --data-dir or RNNNORM_DATA says that data lie")
    if "data" in user and data_dir is not None and _reads_files(content["data"]["class_path"]):
        content["data"].setdefault("init_args", {}).setdefault("data_dir", data_dir)
    chosen = content.get("norms", ["none"]) if norms is None else norms
    if isinstance(seeds, str) and seeds.strip().isdigit():
        seeds = int(seeds)
    config: dict[str, Any] = {key: content[key] for key in ("data", "model", "trainer") if key in content}
    return Settings(
        tuple(parse_seeds(content.get("seeds", 1) if seeds is None else seeds)),
        tuple(parse_norms(chosen)),
        content.get("options", {}),
        config,
        quick,
        "data" in user,
        data_dir,
        content.get("rates", {}),
    )


def from_description(described: Mapping[str, Any]) -> Settings:
    """The settings that `Settings.describe` wrote, as far as verdicts and figures need them."""
    config: dict[str, Any] = {key: described[key] for key in ("data", "model", "trainer") if key in described}
    return Settings(
        tuple(described["seeds"]),
        tuple(described["norms"]),
        described["options"],
        config,
        bool(described.get("quick")),
        bool(described.get("own")),
        data_dir="" if described.get("real_data") else None,
        rates=described.get("rates", {}),
    )


def _names_a_rate(user: Mapping[str, Any]) -> bool:
    """Whether a user's file says at which learning rate to train."""
    return "learning_rate" in user.get("model", {}).get("init_args", {}) or "optimizers" in user.get("options", {})


def _reads_files(class_path: str) -> bool:
    """Whether a data module has the key `data_dir`; one that cannot be imported is complained about later."""
    module, _, name = str(class_path).rpartition(".")
    try:
        cls = getattr(import_module(module or "rnnnorm.data"), name)
    except (ImportError, AttributeError):
        return False
    return "data_dir" in parameters_of(cls)


def _read(path: Path) -> dict[str, Any]:
    """A settings file; empty keys are as if they were not there.

    Raises:
        ValueError: no YAML, a key that does not exist, or a value of another kind.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no YAML: {error}") from error
    return _checked(content, str(path))


def _checked(given: Any, where: str) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise ValueError(f"{where}: expected keys and values, got {type(given).__name__}")
    unknown = {str(key) for key in given} - {*KEYS, "threads", "out"}
    if unknown:
        raise ValueError(
            f"{where}: unknown keys {', '.join(sorted(unknown))}; there are: {', '.join(KEYS)}"
            f"{did_you_mean(min(unknown), KEYS)}"
        )
    content: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    for key in ("options", "data", "model", "trainer", "rates"):
        if not isinstance(content.get(key, {}), dict):
            raise ValueError(f"{where}: {key} must be keys and values, got {content[key]!r}")
    for key in ("data", "model"):
        if not isinstance(content.get(key, {}).get("class_path", ""), str):
            raise ValueError(f"{where}: {key}.class_path must name a class, got {content[key]['class_path']!r}")
    for place, norms in content.get("rates", {}).items():
        values = norms.values() if isinstance(norms, dict) else [None]
        if not all(isinstance(rate, int | float) and rate > 0 for rate in values):
            raise ValueError(f"{where}: rates of {place} must be norms with positive rates, got {norms!r}")
    if not isinstance(content.get("seeds", 1), int | list | str):
        raise ValueError(f"{where}: seeds must be a number of seeds or a list of them, got {content['seeds']!r}")
    if not isinstance(content.get("norms", ""), list | str):
        raise ValueError(f"{where}: norms must be a list of normalizers, got {content['norms']!r}")
    if "quick" in content:
        content["quick"] = _checked(content["quick"], f"{where}: quick")
    return content

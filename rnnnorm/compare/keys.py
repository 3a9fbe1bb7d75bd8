"""Keys of a configuration by the names that users type, `model.learning_rate`: found, checked, set."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from rnnnorm.common.ranges import ranges_of


def locate(config: Namespace, key: str) -> tuple[Any, str]:
    """The group that holds a key, and the key's name in it; `init_args` need not be typed.

    Args:
        config: of a comparison.
        key: dotted.

    Raises:
        ValueError: there is no such key; the message lists those of its group.
    """
    group: Any = config
    passed: list[str] = []
    *groups, leaf = key.split(".")
    for name in (*groups, leaf):
        if "class_path" in group and name != "init_args":
            group = group["init_args"]
        if name not in group:
            there = f"{'.'.join(passed)} has" if passed else "there are"
            raise ValueError(f"there is no key {key!r}; {there}: {', '.join(_names(group))}")
        if len(passed) < len(groups):
            passed.append(name)
            group = group[name]
            if not isinstance(group, Namespace | Mapping):
                raise ValueError(f"there is no key {key!r}; {'.'.join(passed)} is {group!r} and has none")
    return group, leaf


def _names(group: Any) -> list[str]:
    return sorted({*(group if isinstance(group, Mapping) else vars(group))} - {"config", "spec"})


def read(config: Namespace, key: str) -> Any:
    """The value of a key.

    Raises:
        ValueError: there is no such key.
    """
    group, leaf = locate(config, key)
    return group[leaf]


def assign(config: Namespace, key: str, value: Any) -> None:
    """Give a key a value.

    Raises:
        ValueError: there is no such key.
    """
    group, leaf = locate(config, key)
    group[leaf] = value


def check(parser: ArgumentParser, config: Namespace, key: str, value: Any) -> None:
    """Complain about a value that the class behind a key does not take, by its ranges and by its types.

    Raises:
        ValueError: it does not, or there is no such key.
    """
    changed = config.clone()
    assign(changed, key, value)
    section, _, name = key.partition(".")
    path = config[section].get("class_path") if isinstance(config[section], Namespace) else None
    if path:
        module, _, cls = path.rpartition(".")
        known = ranges_of(getattr(import_module(module), cls))
        if name in known:
            known[name].check(key, value)
    try:
        parser.validate(changed)
    except (TypeError, ValueError, KeyError) as error:
        lines = [line.strip(" -") for line in str(error).splitlines()]
        reason = next((line for line in reversed(lines) if "xpected" in line), lines[-1])
        raise ValueError(f"{key} cannot be {value!r}: {reason}") from error

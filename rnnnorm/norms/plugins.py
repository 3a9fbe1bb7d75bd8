"""Plug-ins: presets and normalizers in a user's own modules and files, and in installed packages."""

from __future__ import annotations

import re
import sys
from functools import cache
from hashlib import sha256
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from ..common.suggestions import did_you_mean

GROUP = "rnnnorm.presets"
"""Entry points of this group are presets of installed packages."""

PLUGINS: dict[str, Any] = {}
"""What has been loaded, by its reference `module:attribute`."""

_REFERENCE = re.compile(r"\s*([^:=,\s]+:[A-Za-z_]\w*(?:\.\w+)*)\s*(?=:|$)(.*)", re.DOTALL)


def split_reference(text: str) -> tuple[str, str] | None:
    """The reference with which a text begins, and what follows: `mine:peak:gain=0.5` → `mine:peak`, `:gain=0.5`.

    A reference is `module:attribute` or `path/to/file.py:attribute`; None where the text begins with something else.
    """
    match = _REFERENCE.fullmatch(text)
    return (match[1], match[2]) if match else None


def load(reference: str) -> Any:
    """The object that a reference names; its module is imported, that is, its code is run.

    So this is for what a user typed, on the command line or in a configuration, and not for what a checkpoint says.

    Raises:
        ValueError: no such module, file or attribute, or the module cannot be imported.
    """
    if reference not in PLUGINS:
        where, _, attribute = reference.rpartition(":")
        found: Any = _file(Path(where), reference) if where.endswith(".py") else _module(where, reference)
        for name in attribute.split("."):
            if not hasattr(found, name):
                hint = did_you_mean(name, [known for known in vars(found) if not known.startswith("_")])
                raise ValueError(f"norm {reference!r}: {where} has no attribute {name!r}{hint}")
            found = getattr(found, name)
        PLUGINS[reference] = found
    return PLUGINS[reference]


def loaded(reference: str) -> Any:
    """The object that a reference names, if it has been loaded.

    Raises:
        ValueError: it has not; importing it would run code that nobody has asked for, a checkpoint's author perhaps.
    """
    if reference not in PLUGINS:
        raise ValueError(
            f"norm {reference!r} is not loaded: name it by --norms or --model.norm on the command line; in Python, "
            f"import it and call rnnnorm.register({reference!r}, …)"
        )
    return PLUGINS[reference]


@cache
def installed() -> dict[str, EntryPoint]:
    """Presets that installed packages offer, by name."""
    return {point.name: point for point in entry_points(group=GROUP)}


def load_installed(name: str) -> Any:
    """The object behind an installed package's preset.

    Raises:
        ValueError: it cannot be imported.
    """
    point = installed()[name]
    try:
        return point.load()
    except Exception as error:
        raise ValueError(f"norm {name!r} of {point.value} cannot be loaded: {_said(error)}") from error


def _module(name: str, reference: str) -> ModuleType:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise ValueError(f"norm {reference!r}: {name} cannot be imported: {_said(error)}") from error
        raise ValueError(f"norm {reference!r}: there is no module {name!r}, neither here nor installed") from error
    except Exception as error:
        raise ValueError(f"norm {reference!r}: {name} cannot be imported: {_said(error)}") from error


def _file(path: Path, reference: str) -> ModuleType:
    if not path.is_file():
        raise ValueError(f"norm {reference!r}: there is no file {str(path)!r}")
    # Once per file, whatever path leads to it: a class that is defined twice is two classes.
    name = f"rnnnorm_{path.stem}_{sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if not isinstance(error, Exception):
            raise
        raise ValueError(f"norm {reference!r}: {path} cannot be imported: {_said(error)}") from error
    return module


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"

"""Settings: a module's attributes with plain values, as one text that is always up to date."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

_PLAIN = (bool, int, float, str, type(None))


class Settings(nn.Module):
    """A module that keeps its public attributes with plain values as a text, `_settings`.

    A compiled graph is valid for the settings that it was made with. The compiler guards this one text instead of
    dozens of attributes, some of which it would take for numbers that vary from call to call.
    """

    _listeners: tuple[dict[int, Any], ...]
    _settings: str
    untold: ClassVar[tuple[str, ...]] = ()
    """Public attributes that are no settings, since they change from run to run."""
    population: ClassVar[tuple[str, ...]] = ()
    """Public attributes with further statistics, which a graph receives as tensors."""

    def __init__(self) -> None:
        nn.Module.__init__(self)  # not that of torch's recurrent classes, which may be among the bases
        # Under another name, since compilers leave what is called a hook unwatched.
        hooks = self._forward_hooks, self._forward_pre_hooks, self._backward_hooks, self._backward_pre_hooks
        self.__dict__["_listeners"] = hooks
        self.__dict__["_settings"] = _text(self)

    def __setattr__(self, name: str, value: Any) -> None:
        before = self.__dict__.get(name, self)
        nn.Module.__setattr__(self, name, value)
        if value is before or name.startswith("_") or name in self.untold:
            return
        first = self.__dict__.get("_built", ())
        if _counts(value) or _counts(before) or name in first or (first and hasattr(type(self), name)):
            self.__dict__["_settings"] = _text(self)

    def __delattr__(self, name: str) -> None:
        nn.Module.__delattr__(self, name)
        self.__dict__["_settings"] = _text(self)


def listened_to(module: Settings, hooks: bool = True) -> bool:
    """Whether a module has hooks or a method that was replaced."""
    if hooks:
        for listeners in module._listeners:
            if len(listeners):
                return True
    return "<replaced>" in module._settings


def built(module: Settings) -> None:
    """Remember the attributes after construction, from which any other module of that class starts, too."""
    module.__dict__["_built"] = _public(module)


def _text(module: Settings) -> str:
    text = repr((type(module).__qualname__, settings_of(module)))
    replaced = any(callable(v) and callable(getattr(type(module), n, None)) for n, v in vars(module).items())
    first: dict[str, Any] | None = vars(module).get("_built")
    if first is not None and not replaced:  # what else is there now, and was not when it was built
        others = [(n, v) for n, v in _public(module).items() if not plain(v)]
        replaced = any(v is not first[n] if n in first else hasattr(type(module), n) for n, v in others)
    return text + "<replaced>" * replaced


def _public(module: Settings) -> dict[str, Any]:
    passing = *module.untold, *module.population
    return {name: value for name, value in vars(module).items() if not name.startswith("_") and name not in passing}


def _counts(value: Any) -> bool:
    return plain(value) or (callable(value) and not isinstance(value, nn.Module | torch.Tensor))


def settings_of(module: Settings) -> dict[str, Any]:
    """The public attributes of a module with plain values."""
    return {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in vars(module).items()
        if not name.startswith("_") and name not in module.untold and plain(value)
    }


def plain(value: Any) -> bool:
    """Whether a value is a finite number, NumPy's, too, a word, a boolean, None, or a tuple of Python's own such."""
    kind = type(value)
    if kind in _PLAIN:
        return kind is not float or math.isfinite(value)
    if kind is tuple:
        return not any(isinstance(v, np.generic) for v in value) and all(map(plain, value))
    return isinstance(value, np.generic) and type(value.item()) in _PLAIN and plain(value.item())

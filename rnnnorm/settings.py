"""Settings: what a module's plain attributes say, as one text that is always up to date."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn

_PLAIN = (bool, int, float, str, type(None))


class Settings(nn.Module):
    """A module that keeps its public attributes with plain values as a text, `_settings`.

    A compiled graph holds for the settings that it was made with. The compiler is asked to watch this one text, not
    dozens of attributes, whose changes it would partly take for numbers that vary from call to call.
    """

    _listeners: tuple[dict[int, Any], ...]
    _settings: str
    untold: ClassVar[tuple[str, ...]] = ()
    """Public attributes that change from run to run and are no settings."""

    def __init__(self) -> None:
        nn.Module.__init__(self)  # not that of torch's recurrent classes, which may be among the bases
        # Under another name, since compilers leave what is called a hook unwatched.
        hooks = self._forward_hooks, self._forward_pre_hooks, self._backward_hooks, self._backward_pre_hooks
        self.__dict__["_listeners"] = hooks
        self.training = True  # told from here on

    def __setattr__(self, name: str, value: Any) -> None:
        before = self.__dict__.get(name, self)
        nn.Module.__setattr__(self, name, value)
        if not name.startswith("_") and name not in self.untold and (_counts(value) or _counts(before)):
            self.__dict__["_settings"] = _text(self)

    def __delattr__(self, name: str) -> None:
        nn.Module.__delattr__(self, name)
        self.__dict__["_settings"] = _text(self)


def listened_to(module: Settings, hooks: bool = True) -> bool:
    """Whether somebody has replaced a method of a module, or hooked into it."""
    if hooks:
        for listeners in module._listeners:
            if len(listeners):
                return True
    return "<replaced>" in module._settings


def _text(module: Settings) -> str:
    text = repr((type(module).__qualname__, settings_of(module)))
    replaced = any(callable(v) and callable(getattr(type(module), n, None)) for n, v in vars(module).items())
    return text + "<replaced>" * replaced


def _counts(value: Any) -> bool:
    return plain(value) or (callable(value) and not isinstance(value, nn.Module | torch.Tensor))


def settings_of(module: Settings) -> dict[str, Any]:
    """The public attributes of a module with plain values."""
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and name not in module.untold and plain(value)
    }


def plain(value: Any) -> bool:
    """Whether a value is a number, a word, a boolean, None, or a tuple of such."""
    return type(value) in _PLAIN or (type(value) is tuple and all(map(plain, value)))

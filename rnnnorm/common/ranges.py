"""Ranges: the types and values that options of a constructor may have, and their checks."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from os import PathLike
from types import MappingProxyType, NoneType, UnionType
from typing import Any, ClassVar, Literal, Self, Union, get_args, get_origin

import numpy as np
import torch

_LARGEST, _SMALLEST = torch.finfo(torch.float32).max, torch.finfo(torch.float32).tiny
_COUNTS = 2**31 - 1
"""Largest integer unless a range says otherwise: larger ones overflow in some operator."""


class OptionTypeError(ValueError, TypeError):
    """Error for a value of the wrong type: a TypeError, as `torch.nn` raises, and a ValueError, as others do."""


@dataclass(frozen=True)
class Range:
    """The values that an option may have.

    Args:
        low: smallest number.
        high: largest number; None: what float32 or an index of 32 bits can hold.
        ends: whether the two belong to the range, as "[]", "(]", "[)" or "()".
        words: the only values there are, if not all of a type.
        noun: what a number is called; by default "an integer" or "a number".
        why: the reason, as in "since one row has no variance".
        kinds: types, out of bool, int, float and str; () takes those of the option's annotation.
        optional: whether None is a value, too; the option's annotation says so where there is one.
    """

    low: float = -math.inf
    high: float | None = None
    ends: str = "[]"
    words: tuple[Any, ...] = ()
    noun: str = ""
    why: str = ""
    kinds: tuple[type, ...] = ()
    optional: bool = False

    def check(self, name: str, value: Any) -> Any:
        """The value of an option, a numpy scalar as Python's own.

        Raises:
            OptionTypeError: a value of another type.
            ValueError: a value outside the range, or one that is not finite.
        """
        if isinstance(value, np.generic):
            value = value.item()
        if value is None and self.optional:
            return value
        if not self._fits(value):
            raise OptionTypeError(f"{name} must be {self}, got {value!r}")
        if self.words:
            if value not in self.words:
                raise ValueError(f"{name} must be {self}, got {value!r}")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            self._check_number(name, value)
        return value

    def _fits(self, value: Any) -> bool:
        """Whether the type is right: True and False are no numbers, but an integer is one, and a path a word."""
        if isinstance(value, bool):
            return bool in self.kinds
        also = ((int,) if float in self.kinds else ()) + ((PathLike,) if str in self.kinds and not self.words else ())
        return isinstance(value, self.kinds + also)

    def _check_number(self, name: str, value: float) -> None:
        real = float in self.kinds
        high = self.high if self.high is not None else math.inf if real else _COUNTS
        above = self.low <= value if self.ends[0] == "[" else self.low < value
        below = value <= high if self.ends[1] == "]" else value < high
        if not above or (real and not (below and (isinstance(value, int) or math.isfinite(value)))):
            raise ValueError(f"{name} must be {self}, got {value!r}")
        if not below:
            raise ValueError(f"{name} must be {self} and at most {high}, got {value!r}")
        if real and (abs(value) > _LARGEST or 0 < abs(value) < _SMALLEST):
            raise ValueError(f"{name} must be {self} that float32 can hold, got {value!r}")

    def __str__(self) -> str:
        """Words for the range: "an integer of at least 2, since one row has no variance", "true, false or None"."""
        if self.kinds == (bool,):
            return "true, false or None" if self.optional else "true or false"
        if self.words:
            text = f"one of {', '.join(map(str, self.words))}"
        elif str in self.kinds:
            text = "a word" if self.kinds == (str,) else f"a word or {self._number()}"
        else:
            text = self._number()
        return text + (" or None" if self.optional else "") + (f", {self.why}" if self.why else "")

    def _number(self) -> str:
        kind, real = self.noun or ("a number" if float in self.kinds else "an integer"), float in self.kinds
        if self.low == -math.inf:
            return "a finite number" if real else kind
        if real and self.high is not None:
            if self.ends == "[]":
                return f"{kind} between {self.low:g} and {self.high:g}"
            return f"{kind} in {self.ends[0]}{self.low:g}, {self.high:g}{self.ends[1]}"
        if self.ends[0] == "(":
            return "a positive number" if self.low == 0 else f"{kind} above {self.low:g}"
        return f"{kind} of at least {self.low:g}"


def at_least(low: float, high: float | None = None, **more: Any) -> Range:
    """Numbers from `low` on."""
    return Range(low, high, **more)


def between(low: float, high: float, ends: str = "[]", **more: Any) -> Range:
    """Numbers between two."""
    return Range(low, high, ends, **more)


def one_of(*words: Any, **more: Any) -> Range:
    """A few values."""
    return Range(words=words, **more)


FLAG = Range(kinds=(bool,))
POSITIVE = Range(0, ends="(]")
PROBABILITY = Range(0, 1, noun="a probability")
STEPS = Range(1, 1_000_000)
"""Timesteps that something is stored for."""
SEED = Range(0, 2**63 - 1)


class Checked:
    """A class whose constructor's arguments are checked before it runs, its own and those it hands on as `**kw`.

    The type of an argument is that of its annotation, as far as that is made of `bool`, `int`, `float`, `str`,
    `Literal` and None; other arguments are not checked. Numbers must be finite. `ranges` restricts values further; a
    subclass inherits the ranges that it does not override.

    Raises:
        ValueError: a value of another type (then a TypeError, too) or outside its range; it names both.
    """

    ranges: ClassVar[Mapping[str, Range | None]] = MappingProxyType({})
    """Ranges by the name of an argument, beyond its type; None: it is checked elsewhere."""

    def __new__(cls, *args: Any, **kw: Any) -> Self:
        """Check, and make the object; pickle and copy give no arguments."""
        if args or kw:
            check_arguments(cls, args, kw)
        return super().__new__(cls)


def check_arguments(cls: type, args: tuple[Any, ...], kw: Mapping[str, Any]) -> None:
    """Raise ValueError for an argument of a constructor that its class does not allow; see `Checked`."""
    known = ranges_of(cls)
    names = _positional(cls)[: len(args)]
    for name, value in (*zip(names, args, strict=False), *kw.items()):
        if name in known:
            known[name].check(name, value)


@cache
def ranges_of(cls: type) -> Mapping[str, Range]:
    """Ranges of the arguments of a class's constructor, by name; a subclass overrides those of its bases."""
    types: dict[str, Range] = {}
    declared: dict[str, Range | None] = {}
    for base in reversed(cls.__mro__):
        own = base.__dict__.get("__init__")
        types |= _annotated(own) if inspect.isfunction(own) else {}
        declared |= base.__dict__.get("ranges", {})
    found = dict(types)
    for name, range in declared.items():
        if range is None:
            found.pop(name, None)
        elif name in types:
            found[name] = replace(range, kinds=range.kinds or types[name].kinds, optional=types[name].optional)
        elif range.kinds:
            found[name] = range
    return MappingProxyType(found)


@cache
def _positional(cls: type) -> tuple[str, ...]:
    """Names of a constructor's positional arguments, without `self`."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]  # type: ignore[misc]
    return tuple(p.name for p in parameters if p.kind in kinds)


def _annotated(function: Callable[..., Any]) -> dict[str, Range]:
    """All values of their types, for the arguments whose annotation is made of plain types."""
    found = {}
    for name, parameter in inspect.signature(function).parameters.items():
        hint = parameter.annotation
        if isinstance(hint, str):
            try:
                hint = eval(hint, getattr(function, "__globals__", {}))
            except Exception:  # a name that exists for type checkers only
                continue
        range = _of_type(hint)
        if range is not None and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            found[name] = range
    return found


def _of_type(hint: Any) -> Range | None:
    """All values of a type; None where it is not made of plain ones."""
    parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    words = tuple(word for part in parts if get_origin(part) is Literal for word in get_args(part))
    plain = [part for part in parts if get_origin(part) is not Literal and part is not NoneType]
    kinds = [*plain, *map(type, words)]
    if not kinds or any(kind not in (bool, int, float, str) for kind in kinds) or (words and plain):
        return None
    return Range(words=words, kinds=tuple(dict.fromkeys(kinds)), optional=NoneType in parts)

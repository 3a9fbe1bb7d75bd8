"""A normalizer by name and options, as users write it."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..common.suggestions import did_you_mean
from .base import NORMALIZERS, Normalizer, WeightNormalizer, normalizer_class, options_of
from .plugins import loaded, split_reference


@dataclass(frozen=True)
class Use:
    """A normalizer with its options, before it is known how many features it gets: `bn:statistics=timestep:gain=0.1`.

    Args:
        normalizer: a name out of `rnnnorm.norms.NORMALIZERS`.
        options: keyword arguments of its class.

    Raises:
        ValueError: unknown name or option; the message lists those that exist. A value of another type, or outside its
            range.
    """

    normalizer: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = options_of(self.cls)
        for key in self.options:
            if key not in known:
                raise ValueError(
                    f"{self.normalizer!r} has no option {key!r}; "
                    f"it has: {', '.join(known) or 'none'}{did_you_mean(key, known)}"
                )
        object.__setattr__(self, "options", dict(self.options))
        try:  # a wrong value is better found here than in the middle of a model
            self._example()
        except (TypeError, ValueError) as error:
            raise ValueError(f"{self}: {error}") from error

    @property
    def cls(self) -> type[Normalizer] | type[WeightNormalizer]:
        """The class behind the name."""
        return normalizer_class(self.normalizer)

    @property
    def is_weight(self) -> bool:
        """Whether it normalizes a weight matrix instead of rows."""
        return issubclass(self.cls, WeightNormalizer)

    def _example(self) -> Normalizer | WeightNormalizer:
        return self.weight_normalizer() if self.is_weight else self.build(1)

    def check(self, place: str) -> None:
        """Raise ValueError if this normalizer cannot stand at that place."""
        reason = self._example().forbids(place)
        if reason is not None:
            raise ValueError(f"{str(self)!r} cannot stand at {place}: {reason}")

    def stands_at(self, place: str) -> bool:
        """Whether this normalizer can stand at that place."""
        return self._example().forbids(place) is None

    def accepts(self, option: str) -> bool:
        """Whether the class has that option."""
        return option in options_of(self.cls)

    def build(self, num_features: int, **defaults: Any) -> Normalizer:
        """The module, for F features; `defaults` that the class knows hold where the user said nothing."""
        assert issubclass(self.cls, Normalizer)
        kept = {k: v for k, v in defaults.items() if self.accepts(k) or k in ("device", "dtype")}
        return self.cls(num_features, **{**kept, **self.options})

    def weight_normalizer(self) -> WeightNormalizer:
        """The weight normalizer."""
        assert issubclass(self.cls, WeightNormalizer)
        return self.cls(**self.options)

    @staticmethod
    def parse(text: str | Use | None) -> Use | None:
        """Read `name:key=value:key=value`; None, "none" and "" stand for no normalizer.

        `module:Class:key=value` names a normalizer of one's own, which has been loaded; see `rnnnorm.norms.plugins`.
        """
        if text is None or isinstance(text, Use):
            return text
        if not isinstance(text, str):
            raise ValueError(f"a place takes a normalizer's name or None, got {text!r}")
        reference = split_reference(text)
        if reference is not None and reference[0].partition(":")[0] not in NORMALIZERS:
            return Use(class_name(reference[0], loaded(reference[0])), split_options(reference[1])[1])
        name, options = split_options(text)
        return None if name in ("", "none") else Use(name, options)

    def __str__(self) -> str:
        return ":".join([self.normalizer, *(f"{k}={v}" for k, v in self.options.items())])


def class_name(given: str, found: Any) -> str:
    """The name by which a normalizer's class is known.

    Args:
        given: what the user calls it.
        found: the class.

    Raises:
        ValueError: it is no such class, or one without a name.
    """
    if not (isinstance(found, type) and issubclass(found, Normalizer | WeightNormalizer)):
        raise ValueError(f"norm {given!r}: a place takes a class derived from rnnnorm.Normalizer, got {found!r}")
    if getattr(found, "name", None) is None:
        raise ValueError(f"norm {given!r}: {found.__qualname__} has no class attribute `name`")
    return found.name


def split_options(text: str) -> tuple[str, dict[str, Any]]:
    """Read `name:key=value:…` as name and options; values are numbers, booleans, None or plain words.

    Raises:
        ValueError: a part that is not key=value, or a key given twice.
    """
    name, *rest = text.strip().split(":")
    options: dict[str, Any] = {}
    for item in rest:
        key, equals, value = item.partition("=")
        if not equals or not key.strip() or not value.strip():
            raise ValueError(f"in {text!r}: expected key=value after each colon, got {item!r}")
        if key.strip() in options:
            raise ValueError(f"in {text!r}: {key.strip()!r} is given twice")
        options[key.strip()] = _value(value.strip())
    return name.strip(), options


def _value(text: str) -> Any:
    words = {"true": True, "false": False, "none": None, "null": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text

"""Parameters: the keys with which a class can be configured."""

from __future__ import annotations

import inspect


def parameters_of(cls: type) -> list[str]:
    """The keys a class can be configured with, its bases' where it hands on **kwargs."""
    names: dict[str, None] = {}
    for base in cls.__mro__:
        constructor = vars(base).get("__init__")
        if constructor is None:
            continue
        parameters = list(inspect.signature(constructor).parameters.values())[1:]
        names.update({p.name: None for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)})
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return list(names)

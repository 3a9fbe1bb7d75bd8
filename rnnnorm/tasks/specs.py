"""`Spec`s as plain numbers and words, as checkpoints and configuration files hold them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from rnnnorm.data.base import Spec


def spec_to_dict(spec: Spec) -> dict[str, Any]:
    """Only words, numbers and lists: what `torch.load(weights_only=True)` and YAML take."""
    return {**asdict(spec), "vocabularies": list(spec.vocabularies)}


def as_spec(spec: Spec | Mapping[str, Any]) -> Spec:
    """A `Spec` from itself or from its dictionary.

    Raises:
        ValueError: keys that a `Spec` does not have, or no task.
    """
    if isinstance(spec, Spec):
        return spec
    names = [field.name for field in fields(Spec)]
    unknown = [key for key in spec if key not in names]
    if unknown or "task" not in spec:
        raise ValueError(f"a spec has a task and any of the keys {', '.join(names)}, got {dict(spec)}")
    return Spec(**{**spec, "vocabularies": tuple(spec.get("vocabularies") or ())})

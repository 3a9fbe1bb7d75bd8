"""Variations of a norm: with cell norm and without, and with other gains."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rnnnorm.norms.places import Norm
from rnnnorm.norms.presets import parse_norm
from rnnnorm.studies.framework.trial import Condition


def variations(norm: str, gains: Iterable[float]) -> dict[str, Sequence[str] | Sequence[float]]:
    """Axes of a grid: `cell` norm, yes or no, where a norm has one, and `gain` where it is batch normalization."""
    places = parse_norm(norm).places
    cells = ("yes", "no") if "cell" in places and len(places) > 1 else ("no",)
    gained = any(use.normalizer == "bn" for use in places.values())
    return {"cell": cells, **({"gain": [float(gain) for gain in gains]} if gained else {})}


def varied(norm: str, conditions: Mapping[str, Condition]) -> Norm:
    """The norm under the conditions `cell` and `gain` of such a grid."""
    found = parse_norm(norm)
    if "gain" in conditions:
        found = found.override({"gain": conditions["gain"]}, name=found.name)
    return found if conditions["cell"] == "yes" else found.without("cell")


def has_slots(norm: str) -> bool:
    """Whether a norm keeps statistics per timestep, so that T_max and the tail policy mean something to it."""
    return any(use.options.get("statistics") == "timestep" for use in parse_norm(norm).places.values())

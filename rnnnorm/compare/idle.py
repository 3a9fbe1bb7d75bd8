"""Options of norms that change nothing on the data at hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightning import LightningDataModule

from rnnnorm.norms import Normalizer, Use
from rnnnorm.norms.presets import parse_norm

SPLITS = ("train", "val", "test")


def idle_options(norms: Sequence[str], data: LightningDataModule, max_steps: int | None) -> list[str]:
    """Notes on options without an effect: norms that are the same, slots and tails that no sequence reaches.

    Args:
        norms: as they were typed.
        data: tells the lengths of its sequences, as a `SequenceDataModule` does; of others they are not known.
        max_steps: of the model; None: the longest training sequence.
    """
    lengths = getattr(data, "lengths", None)
    longest = {split: max(lengths(split), default=0) for split in SPLITS} if lengths is not None else {}
    notes: list[str] = []
    seen: dict[Any, str] = {}
    for name in norms:
        norm = parse_norm(name)
        first = seen.setdefault(norm.effective, name)
        if first != name:
            notes.append(f"{name} is the same as {first}")
        for text in dict.fromkeys(t for use in norm.places.values() for t in _idle(use, longest, max_steps)):
            notes.append(f"{name}: {text}")
    top = max(longest.values(), default=0)
    if max_steps is not None and longest and max_steps > top:
        notes.append(f"max_steps={max_steps} of the model is as good as {top}: no sequence is longer")
    return notes


def _idle(use: Use, longest: dict[str, int], max_steps: int | None) -> list[str]:
    """What is said of one normalizer, the same for each place."""
    own = {key: use.options[key] for key in ("tail", "max_steps") if key in use.options}
    if not own or use.is_weight:
        return []
    module = use.build(1, max_steps=1)
    if isinstance(module, Normalizer) and not module.per_step:
        return [f"{key}={value} changes nothing where steps share their statistics" for key, value in own.items()]
    if not longest:
        return []
    notes, top = [], max(longest.values())
    slots = own.get("max_steps") or max_steps or longest["train"]
    if own.get("max_steps", 0) > top:
        notes.append(f"max_steps={own['max_steps']} is as good as {top}: no sequence is longer")
    if "tail" in own and slots >= top:
        notes.append(f"tail={own['tail']} changes nothing: all {top} steps have statistics of their own")
    return notes

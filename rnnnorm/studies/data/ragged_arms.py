"""Arms of the study of raggedness: data and batches, each with the norms that are trained there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

import rnnnorm
from rnnnorm.norms import has_batch_statistics
from rnnnorm.studies.data.plain_training import build_data
from rnnnorm.studies.data.rearranged import REARRANGED, can_be_rearranged, tail_start
from rnnnorm.studies.framework.grid import grid, in_folder
from rnnnorm.studies.framework.settings import Settings
from rnnnorm.studies.framework.trial import Trial

BASE = "bn-timestep"
RAGGED, FRAMED, OWN = "heavy-tailed", "framed", "own"
LENGTHS = (RAGGED, "uniform", "fixed")
ORIGINAL = "rnnnorm.data.TemporalOrder"
TAIL = "max_steps=tail"
"""In the name of a cure: as many steps as there are before t*, where the tail of the lengths begins."""


def arms(settings: Settings) -> Iterator[Trial]:
    """Trials: lengths, framed data, mixed batches, cures, real data; of the user's data what makes sense."""

    def arm(data: str, norms: Iterable[str], config: dict[str, Any], batches: str = "similar") -> Iterator[Trial]:
        for norm in dict.fromkeys(norms):
            weight = 4.0 if norm.startswith("brn") else 1.0
            yield from grid({"data": data, "batches": batches}, [norm], settings.seeds, config, weight)

    option, config, inner = settings.option, settings.configured(), dict(settings.config["data"])
    name = OWN if settings.own else RAGGED
    yield from arm(name, [*settings.norms, *_chosen(settings, sized(option("cures"), inner))], config)
    if not settings.own:
        stored = [norm for norm in settings.norms if has_batch_statistics(rnnnorm.LSTM(4, 4, norm=norm))]
        for lengths in LENGTHS[1:]:  # without stored statistics there is no gap that could change
            yield from arm(lengths, stored, settings.configured(data={"length_distribution": lengths}))
        original = settings.configured(data={"class_path": ORIGINAL, "init_args": dict(inner["init_args"])})
        yield from arm(FRAMED, _chosen(settings, option("framed_norms")), original)
    if can_be_rearranged(inner["class_path"]):
        rearranged = {"class_path": REARRANGED, "init_args": {"batches": "mixed", "data": inner}}
        mixed = settings.configured(data=rearranged)
        yield from arm(name, _chosen(settings, option("mixed_norms")), mixed, "mixed")
    if settings.data_dir is not None and not settings.own:
        for name, spec in option("real").items():
            parts = {key: spec.get(key, {}) for key in ("model", "trainer")}
            config = settings.configured(data=in_folder(spec["data"], settings.data_dir), **parts)
            yield from arm(name, _chosen(settings, spec["norms"]), config)


def sized(norms: Iterable[str], data: dict[str, Any]) -> list[str]:
    """Norms whose number of steps is that before the tail of the data; of data without a tail these are left out.

    Args:
        norms: names, some of them with `TAIL`.
        data: the `data` part of a configuration.
    """
    norms = list(norms)
    if not any(TAIL in norm for norm in norms):
        return norms
    start = _start_of_tail(json.dumps(data, sort_keys=True))
    return [norm.replace(TAIL, f"max_steps={start}") for norm in norms if start or TAIL not in norm]


@lru_cache
def _start_of_tail(data: str) -> int:
    """t* of data; 0 where no training or test sequence is longer."""
    module = build_data({"data": json.loads(data)}, 0)
    start = tail_start(module.lengths("train"))
    return start if start < max(map(max, (module.lengths("train"), module.lengths("test")))) else 0


def inert(norm: str, data: Any) -> bool:
    """Whether a norm has as many steps as the longest sequence, so that nothing is pooled beyond them.

    Args:
        norm: its name.
        data: the data module that it is trained and tested on.
    """
    options = dict(part.split("=", 1) for part in norm.split(":")[1:])
    if "tail" not in options or "max_steps" not in options:
        return False
    return int(options["max_steps"]) >= max(
        len(rows) for split in ("train", "test") for rows, _ in data.examples(split)
    )


def _chosen(settings: Settings, norms: Iterable[str]) -> list[str]:
    """Those that the user has chosen; variants and cures of the base come with it."""
    presets = {norm.partition(":")[0] for norm in settings.norms}
    kin = {"bn-window", "brn"} if BASE in presets else set()
    return [norm for norm in norms if norm.partition(":")[0] in presets | kin]

"""Arms of the study of raggedness: data, batches and padding, each with the norms that are trained there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import rnnnorm
from rnnnorm.norms import has_batch_statistics
from rnnnorm.studies.data.padding import FINISHED, counting
from rnnnorm.studies.data.rearranged import REARRANGED, can_be_rearranged, in_folder
from rnnnorm.studies.framework.grid import grid
from rnnnorm.studies.framework.settings import Settings
from rnnnorm.studies.framework.trial import Trial

BASE, VERTICAL = "bn-timestep", "bn-vertical"
RAGGED, FRAMED, OWN = "heavy-tailed", "framed", "own"
LENGTHS = (RAGGED, "uniform", "fixed")
ORIGINAL = "rnnnorm.data.TemporalOrder"


def arms(settings: Settings) -> Iterator[Trial]:
    """Trials: lengths, framed data, mixed batches, cures, padding, real data; of the user's data what makes sense."""

    def arm(
        data: str, norms: Iterable[str], config: dict[str, Any], batches: str = "similar", padding: str = "no"
    ) -> Iterator[Trial]:
        for norm in dict.fromkeys(norms):
            slow = padding != "no" or norm.startswith("brn")
            here = {"data": data, "batches": batches, "padding": padding}
            yield from grid(here, [norm], settings.seeds, config, 4.0 if slow else 1.0)

    option, config, inner = settings.option, settings.configured(), dict(settings.config["data"])
    name, batches = OWN if settings.own else RAGGED, "similar"
    yield from arm(name, [*settings.norms, *_chosen(settings, option("cures"))], config)
    if not settings.own:
        stored = [norm for norm in settings.norms if has_batch_statistics(rnnnorm.LSTM(4, 4, norm=norm))]
        for lengths in LENGTHS[1:]:  # without stored statistics there is no gap that could change
            yield from arm(lengths, stored, settings.configured(data={"length_distribution": lengths}))
        original = settings.configured(data={"class_path": ORIGINAL, "init_args": dict(inner["init_args"])})
        yield from arm(FRAMED, _chosen(settings, option("framed_norms")), original)
    if can_be_rearranged(inner["class_path"]):
        rearranged = {"class_path": REARRANGED, "init_args": {"batches": "mixed", "data": inner}}
        config, batches = settings.configured(data=rearranged), "mixed"
        yield from arm(name, _chosen(settings, option("mixed_norms")), config, batches)
    for finished in FINISHED:
        # With vertical normalization alone, what finished sequences do meanwhile changes nothing.
        norms = [BASE, VERTICAL] if finished == "running" else [BASE]
        yield from arm(name, _chosen(settings, norms), counting(config, finished), batches, finished)
    if settings.data_dir is not None and not settings.own:
        for name, spec in option("real").items():
            parts = {key: spec.get(key, {}) for key in ("model", "trainer")}
            config = settings.configured(data=in_folder(spec["data"], settings.data_dir), **parts)
            yield from arm(name, _chosen(settings, spec["norms"]), config)
            if name in option("real_padding"):
                yield from arm(name, _chosen(settings, [BASE]), counting(config, "frozen"), padding="frozen")


def _chosen(settings: Settings, norms: Iterable[str]) -> list[str]:
    """Those that the user has chosen; variants and cures of the base come with it."""
    presets = {norm.partition(":")[0] for norm in settings.norms}
    kin = {"bn-window", "brn"} if BASE in presets else set()
    return [norm for norm in norms if norm.partition(":")[0] in presets | kin]

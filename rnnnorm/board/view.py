"""View of a comparison: the address at which TensorBoard opens with what one wants to see first."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlencode

from rnnnorm.board.means import LOSSES, MEAN, quantities
from rnnnorm.board.overview import RUN, VERDICT
from rnnnorm.common.folder_names import norm_of_folder
from rnnnorm.engine.records import read_result

GROUPS = r"^(?:[^/]+/)?([^/]+)/(?:seed=\d+|mean)$"
"""What TensorBoard colours by: the norm in `<norm>/seed=<k>` and `<norm>/mean`, of one folder or of several."""


def query(metrics: Sequence[str], done: bool, names: Sequence[str] = ()) -> str:
    """Query and fragment of the address: the Time Series tab, coloured by norm, unsmoothed, the main cards pinned.

    The verdict and the means come first where there are any, the curves of single seeds while it is still training.
    Cards that do not exist yet appear where they are pinned as soon as they do.

    Args:
        metrics: by which runs are measured; empty if that is not known yet.
        done: whether there is an overview.
        names: what TensorBoard calls the folders, if there are several.
    """
    prefixes = [f"{name}/" for name in names] or [""]
    verdicts = [
        {"plugin": "images", "tag": VERDICT, "runId": f"defaultExperimentId/{prefix}{RUN}", "sample": 0}
        for prefix in prefixes
    ]
    own = {name: tag for metric in metrics for name, tag in quantities(metric).items() if name not in LOSSES}
    found = {**own, **LOSSES}
    means = [{"plugin": "scalars", "tag": f"{MEAN}/{name}"} for name in list(found)[: max(len(own) + 1, 2)]]
    seeds = [{"plugin": "scalars", "tag": tag} for tag in found.values()]
    pinned = [*verdicts, *means] if done else [*seeds, *verdicts, *means]
    if not metrics and not done:
        return "?smoothing=0#timeseries"  # runs that are of no comparison
    keys = {"runColorGroup": f"regex:{GROUPS}", "smoothing": 0, "pinnedCards": json.dumps(pinned)}
    return f"?{urlencode(keys)}#timeseries"


def comparisons(folder: Path) -> list[Path]:
    """The folder itself, or, where it is none of a comparison but has some in it, those."""
    if any(folder.glob("*/seed=*")):
        return [folder]
    return sorted({path.parent.parent for path in folder.glob("*/*/seed=*/")}) or [folder]


def diverged(out: Path) -> bool:
    """Whether a run of a comparison has diverged."""
    results = map(read_result, out.glob("*/seed=*/result.json"))
    return any(result is not None and result["status"] == "diverged" for result in results)


def metric_of(out: Path) -> str:
    """The metric by which the runs of a comparison are measured; empty if that is not known yet."""
    for path in sorted(out.glob("*/seed=*/result.json")):
        if (result := read_result(path)) is not None:
            return str(result["metric"])
    return next((tag.removeprefix("train/") for tag in _first_tags(out) if tag.startswith("train/")), "")


def _first_tags(out: Path) -> list[str]:
    """Tags of the first run that has any, but for the losses."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for folder in sorted({path.parent for path in out.glob("*/seed=*/events.out.tfevents.*")}):
        tags = EventAccumulator(str(folder)).Reload().Tags()["scalars"]
        if found := [tag for tag in tags if tag.partition("/")[2] not in ("loss", "loss_batch")]:
            return found
    return []


def started(outs: Sequence[Path], names: Sequence[str] = ()) -> list[str]:
    """Names of all runs in the order in which TensorBoard hands out colours: by their first events.

    Args:
        outs: the folders of comparisons.
        names: what TensorBoard calls them, if there are several.
    """
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    first: dict[str, float] = {}
    for k, out in enumerate(outs):
        for folder in {path.parent for path in out.rglob("events.out.tfevents.*")}:
            path = min(folder.glob("events.out.tfevents.*"))
            time = next((event.wall_time for event in EventFileLoader(str(path)).Load()), None)
            if time is not None:
                first["/".join((*names[k : k + 1], folder.relative_to(out).as_posix()))] = time
    return sorted(first, key=lambda name: (first[name], name))


def norm_of(run: str) -> str | None:
    """The norm of a run by its name in TensorBoard; None for one that is of no single norm."""
    found = re.match(GROUPS, run)
    return None if found is None else norm_of_folder(found[1])

"""Entries of a run in TensorBoard beside its curves: hyperparameters, and the results of the final test."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from lightning import LightningDataModule
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo
from torch.utils.tensorboard.summary import hparams

from rnnnorm.engine.evaluation import MODES
from rnnnorm.engine.records import events
from rnnnorm.engine.run import Run

STATUS = {"finished": api_pb2.STATUS_SUCCESS, "diverged": api_pb2.STATUS_FAILURE}
"""How TensorBoard's HParams tab calls the ways in which a run ends; one that was cut has not ended yet."""


def hyperparameters(model_options: Mapping[str, Any], data: LightningDataModule, run: Run) -> dict[str, Any]:
    """What TensorBoard's HParams tab shows of a run: few columns, since it draws an axis for each of them.

    All else is the same in all runs of a comparison and stands in `compare.yaml`.

    Args:
        model_options: constructor arguments of the model, by name.
        data: of the run; for the number of sequences in a batch.
        run: whose values of its own are shown, too.
    """
    known = {**model_options, "batch_size": getattr(data, "batch_size", None)}
    order = ("learning_rate", "batch_size", "hidden_size", "num_layers")
    sizes = {key: known[key] for key in order if known.get(key) is not None}
    tuned = {key: value for key, value in run.values if key.rpartition(".")[2] not in sizes}
    return {"norm": run.norm, "seed": run.seed, **sizes, **tuned}


@rank_zero_only
def log_start(logger: TensorBoardLogger, values: Mapping[str, Any], differing: Collection[str], metric: str) -> None:
    """Hyperparameters of a run that begins, and the tags of its final results, that by which norms are ranked first.

    Args:
        logger: of the run.
        values: hyperparameters by name.
        differing: names of those in which the runs of a comparison differ, which come first in the HParams tab.
        metric: by which the run is measured.
    """
    known = {key: value for key, value in values.items() if isinstance(value, bool | int | float | str)}
    logger.hparams.update(known)
    shown = {f"test/{metric}": f"test {metric}", **{f"test/{metric}_{mode}": mode for mode in MODES}}
    parts: Any = hparams(known, dict.fromkeys(shown, math.nan))  # type: ignore[no-untyped-call]
    experiment, start, _ = parts
    content = HParamsPluginData.FromString(experiment.value[0].metadata.plugin_data.content)
    for info in content.experiment.hparam_infos:
        info.differs = info.name in differing
    for column in content.experiment.metric_infos:
        column.display_name = shown[column.name.tag]
    experiment.value[0].metadata.plugin_data.content = content.SerializeToString()
    for summary in (experiment, start):
        logger.experiment._get_file_writer().add_summary(summary, 0)


def log_final(folder: Path, result: Mapping[str, Any]) -> None:
    """Final results as curves: test values at the last step, the tables by length and step over length and step.

    `test/<metric>` is the metric in the evaluation mode by which the norm is ranked: `evaluates_by` of the result.

    Args:
        folder: of the run.
        result: its `result.json`.
    """
    metric = result["metric"]
    with events(folder, "final") as writer:
        own = (result.get("evaluates_by"), "population", "running")
        ranked = next((result["test"][mode] for mode in own if metric in result["test"].get(mode, {})), None)
        if ranked is not None:
            writer.add_scalar(f"test/{metric}", ranked[metric], result["steps"])
        for mode, values in result["test"].items():
            for name in dict.fromkeys((metric, "loss")):
                if name in values:
                    writer.add_scalar(f"test/{name}_{mode}", values[name], result["steps"])
        score = metric if result["metric_mode"] == "max" else "score"
        for axis, buckets in result["buckets"].items():
            for bucket in buckets:
                for mode in MODES:
                    writer.add_scalar(f"test_by_{axis}/{score}_{mode}", bucket[mode], bucket["high"])
        file: Any = writer
        file._get_file_writer().add_summary(_end(result["status"]), result["steps"])


def _end(status: str) -> Summary:
    """The entry by which the HParams tab knows how a run ended."""
    info = SessionEndInfo(status=STATUS[status], end_time_secs=time.time())
    content = HParamsPluginData(session_end_info=info, version=metadata.PLUGIN_DATA_VERSION).SerializeToString()
    data = SummaryMetadata.PluginData(plugin_name=metadata.PLUGIN_NAME, content=content)
    return Summary(value=[Summary.Value(tag=metadata.SESSION_END_INFO_TAG, metadata=SummaryMetadata(plugin_data=data))])

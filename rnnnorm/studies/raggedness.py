"""Does batch normalization break on ragged sequences, and what of raggedness breaks it?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, ClassVar

import pandas as pd
from lightning import LightningDataModule

import rnnnorm
from rnnnorm.data.module import SequenceDataModule
from rnnnorm.norms import has_batch_statistics
from rnnnorm.studies.data.padding import FINISHED, CountPadding
from rnnnorm.studies.framework.plots import Panel
from rnnnorm.studies.framework.study import Study
from rnnnorm.studies.framework.trained import Trained
from rnnnorm.studies.framework.trial import Row, Trial
from rnnnorm.studies.framework.verdict import Claim, Verdict
from rnnnorm.studies.measures import ragged_findings, ragged_measures, ragged_panels, ragged_verdicts
from rnnnorm.studies.measures.ragged_claims import CLAIMS
from rnnnorm.studies.measures.ragged_scores import BASE, FRAMED, LENGTHS, OWN, RAGGED

REARRANGED = "rnnnorm.studies.data.rearranged.Rearranged"
ORIGINAL = "rnnnorm.data.TemporalOrder"
PLAIN = {"batches": "similar", "padding": "no"}
VERTICAL = "bn-vertical"


@dataclass(frozen=True)
class _Loaded(Trained):
    """A trained trial whose data are loaded already."""

    module: LightningDataModule

    def data(self) -> LightningDataModule:
        return self.module


@dataclass(frozen=True)
class _Arm:
    """Trials that differ in norm and seed only."""

    data: str
    norms: Sequence[str]
    config: dict[str, Any]
    conditions: dict[str, str] = field(default_factory=dict)
    weight: float = 1.0


class Raggedness(Study):
    """The same data with lengths fixed, uniform, heavy-tailed; one cause after the other taken away."""

    name = "raggedness"
    question = "Does batch normalization break on ragged sequences, and what of raggedness breaks it?"
    method = (
        "Temporal order over heavy-tailed, uniform and fixed lengths, with a random first and last symbol, and as"
        " it is (all sequences begin with the same symbol). Batches hold sequences of similar length, or as they "
        "come (`mixed`), where late steps have few rows. Scores are accuracies (losses with their sign turned), "
        "overall and late: from t* on, where fewer than one in 16 training sequences is left. They are taken by "
        "running averages, by population statistics (one more pass over the training data) and by each batch's "
        "own; the gap is own minus running. Running averages `at rest` have seen one pass with unchanging "
        "weights: what they are better than the trained ones is lag, what they lack to population statistics "
        "noise. `Off by`: the root mean square error that stored moments make in a normalized value, against "
        "moments of the test data at the same step. Padding counted: every normalizer sees all B rows at all "
        "steps, finished sequences frozen or running on over zeros. Effects below .01 overall and .02 late do not"
        " count. Real data, where given: EWT, trained on sentences of at most 20 words; JSB chorales; Japanese "
        "vowels and spoken digits with a tenth of their long sequences in training."
    )
    columns: ClassVar[tuple[str, ...]] = ("mode", "axis", "low", "high", "count", "t", "last", "rows", "place")
    claims: ClassVar[tuple[Claim, ...]] = CLAIMS

    def trials(self) -> list[Trial]:
        """Lengths, framed data, mixed batches, cures, padding, real data; of the user's data what makes sense."""
        made = []
        for arm in self._arms():
            conditions = {"data": arm.data, **PLAIN, **arm.conditions}
            for norm in dict.fromkeys(arm.norms):
                weight = arm.weight * (4 if norm.startswith("brn") else 1)
                made += [Trial(conditions, norm, seed, arm.config, weight) for seed in self.settings.seeds]
        return made

    def _arms(self) -> Iterator[_Arm]:
        settings, option = self.settings, self.settings.option
        own, config, inner = settings.own, settings.configured(), dict(settings.config["data"])
        name, batches = OWN if own else RAGGED, "similar"
        yield _Arm(name, [*settings.norms, *self._chosen(option("cures"))], config)
        if not own:
            keeping = [norm for norm in settings.norms if _keeps(norm)]  # others have no gap that could change
            for lengths in LENGTHS[1:]:
                yield _Arm(lengths, keeping, settings.configured(data={"length_distribution": lengths}))
            original = {"class_path": ORIGINAL, "init_args": dict(inner["init_args"])}
            yield _Arm(FRAMED, self._chosen(option("framed_norms")), settings.configured(data=original))
        if _is_sequence_module(inner["class_path"]):
            rearranged = {"class_path": REARRANGED, "init_args": {"batches": "mixed", "data": deepcopy(inner)}}
            config, batches = settings.configured(data=rearranged), "mixed"
            yield _Arm(name, self._chosen(option("mixed_norms")), config, {"batches": batches})
        for finished in FINISHED:
            # With vertical normalization alone, what finished sequences do meanwhile changes nothing.
            norms = [BASE, VERTICAL] if finished == "running" else [BASE]
            padded = {"batches": batches, "padding": finished}
            yield _Arm(name, self._chosen(norms), _counting(config, finished), padded, 4.0)
        if settings.data_dir is not None and not own:
            yield from self._real(settings.data_dir)

    def _real(self, folder: str) -> Iterator[_Arm]:
        for name, spec in self.settings.option("real").items():
            parts = {key: spec.get(key, {}) for key in ("model", "trainer")}
            config = self.settings.configured(data=_with_folder(spec["data"], folder), **parts)
            yield _Arm(name, self._chosen(spec["norms"]), config, weight=1.5)
            if name in self.settings.option("real_padding"):
                yield _Arm(name, self._chosen([BASE]), _counting(config, "frozen"), {"padding": "frozen"}, 4.0)

    def _chosen(self, norms: Iterable[str]) -> list[str]:
        """Those that the user has chosen; variants and cures of the base come with it."""
        presets = {norm.partition(":")[0] for norm in self.settings.norms}
        kin = {"bn-window", "brn"} if BASE in presets else set()
        return [norm for norm in norms if norm.partition(":")[0] in presets | kin]

    def measure(self, trial: Trial, trained: Trained | None) -> Iterable[Row]:
        """What every trained trial has, and `ragged_measures.measure`."""
        assert trained is not None
        yield from trained.rows()
        if trained.diverged:
            return
        data = trained.data()
        model = _Loaded(trained.run, trained.result, trained.comparison, data).model()
        padding = str(trial.conditions["padding"])
        if padding != "no":
            CountPadding(padding).apply(model)
        yield from ragged_measures.measure(model, data, by_step=padding == "no")

    def judge(self, m: pd.DataFrame) -> list[Verdict]:
        """See `ragged_verdicts`."""
        return ragged_verdicts.verdicts(m)

    def panels(self, m: pd.DataFrame) -> Sequence[Panel]:
        """See `ragged_panels`."""
        return ragged_panels.panels(m)

    def findings(self, m: pd.DataFrame) -> list[str]:
        """See `ragged_findings`."""
        return ragged_findings.findings(m)


def _keeps(norm: str) -> bool:
    """Whether a norm keeps statistics of batches."""
    return has_batch_statistics(rnnnorm.LSTM(4, 4, norm=norm))


def _is_sequence_module(class_path: str) -> bool:
    """Whether a data module can be rearranged; one that cannot be imported is complained about when it is to run."""
    module, _, name = class_path.rpartition(".")
    try:
        found = getattr(import_module(module or "rnnnorm.data"), name, None)
    except ImportError:
        return True
    return isinstance(found, type) and issubclass(found, SequenceDataModule)


def _counting(config: dict[str, Any], finished: str) -> dict[str, Any]:
    """The configuration with `CountPadding` among the callbacks."""
    trainer = dict(config.get("trainer", {}))
    callbacks = trainer.get("callbacks") or []
    path = f"{CountPadding.__module__}.{CountPadding.__name__}"
    added = {"class_path": path, "init_args": {"finished": finished}}
    trainer["callbacks"] = [*(callbacks if isinstance(callbacks, list) else [callbacks]), added]
    return {**config, "trainer": trainer}


def _with_folder(data: dict[str, Any], folder: str) -> dict[str, Any]:
    """The configuration of a data module that reads files from a folder; of a `Rearranged` one, the module inside."""
    data = deepcopy(data)
    keys = data.setdefault("init_args", {})
    if data["class_path"] == REARRANGED:
        keys["data"] = _with_folder(keys["data"], folder)
    else:
        keys["data_dir"] = folder
    return data

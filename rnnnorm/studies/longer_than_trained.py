"""What happens on sequences longer than any in training? Loss against t, by statistics and tail policy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from itertools import islice
from typing import Any

import pandas as pd
from lightning import LightningDataModule

from rnnnorm.report.colours import colour, dashes
from rnnnorm.studies.data.real import shakespeare
from rnnnorm.studies.data.varied_norms import has_slots
from rnnnorm.studies.framework import Best, Claim, Contrast, Lines, Row, Sentence, Trained, TrainedStudy, Trial, Words
from rnnnorm.studies.framework.grid import Source
from rnnnorm.studies.framework.measurements import where
from rnnnorm.studies.framework.modes import mode_style
from rnnnorm.studies.framework.selection import ends, last, narrowed, within
from rnnnorm.studies.framework.trial import Condition
from rnnnorm.studies.measures.stepwise import beyond_training, require_answers_per_step
from rnnnorm.tasks import SequenceTask

TEXT = "shakespeare"
RISE = 0.02  # bits per step: the smallest difference that Cooijmans et al. make something of
ONE_LENGTH = within(lengths=("fixed", "own"))
FLOOR = 1e-4  # bits: zero has no place on a logarithmic axis
FULL = {"norm": "bn-timestep", "slots": 1.0}
FEWER = {"slots": lambda found: [share for share in found if share < 1], "mode": "running"}
WAYS: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "bn-timestep by population statistics": ({**FULL, "mode": "population"}, "bn-timestep"),
    "bn-timestep by batch statistics": ({**FULL, "mode": "batch"}, "bn-timestep"),
    "bn-timestep by running averages": ({**FULL, "mode": "running"}, "bn-timestep"),
    "bn-timestep, last slot repeated": ({"norm": "bn-timestep", **FEWER}, "bn-timestep:tail=last"),
    "bn-timestep, tail pooled": ({"norm": "bn-timestep:tail=pool", **FEWER}, "bn-timestep:tail=pool"),
    "bn-shared by population statistics": ({"norm": "bn-shared", "mode": "population"}, "bn-shared"),
    "none": ({"norm": "none"}, "none"), "ln": ({"norm": "ln"}, "ln"),
}  # fmt: skip
"""Ways to predict beyond T_max: which rows are meant, and the norm as which they are drawn."""

rise = partial(Contrast, "rise", "bits of rise", needed=RISE, below=True, by=("task", "lengths"),
               only={"slots": 1.0, "mode": "running"}, label="{task}, {lengths}")  # fmt: skip


class LongerThanTrained(TrainedStudy):
    """Loss beyond T_max."""

    name = "longer-than-trained"
    tuned_by = ("task", "lengths")
    question = "Which statistics serve on sequences longer than any in training?"
    method = (
        "Networks are trained on sequences of at most T_max steps, all of T_max or with heavy-tailed lengths, and "
        "read test sequences of 10 T_max from a fresh state, on tasks that are the same at every step: the next "
        "letter of a made-up language, and the sum of all digits so far modulo 3. Losses are bits per step. The rise "
        "is the loss in the last T_max steps minus that at the end of what was trained, from T_max/2 to T_max, past "
        "the transient. Slots are the share of T_max that has statistics of its own: with fewer slots than steps, "
        "tail=last takes the last slot for all later steps and tail=pool pools all of them. A rise of less than "
        f"{RISE} bits counts as none."
    )
    columns = ("mode", "times", "t", "reach", "axis", "low", "high", "count")
    claims = (
        Claim("last",
              "The statistics of the last training step serve for all later ones: BN-LSTM generalizes to longer "
              "sequences.", "Cooijmans et al., ICLR 2017, section 5.2 and its figure of the Penn Treebank "
              "(trained on segments of one length)",
              "char PTB, population statistics, T_max = 100: 1.398 bits at length 100, 1.338 at 500, 1.333 at 1000 "
              "(read off)",
              contrast=rise(norms="bn-timestep", by=("task", "lengths", "mode"), label="{task}, {lengths}, {mode}",
                            scope=ONE_LENGTH,
                            only={"slots": 1.0, "mode": ("population", "running")})),
        Claim("population", "Population statistics beat the batch's own at every length.",
              "Cooijmans et al., ICLR 2017, the same figure",
              "0.022 bits at length 100, 0.023 at 500, 0.029 at 1000 (read off)",
              contrast=Contrast("loss", "bits, batch minus population", "bn-timestep", {"mode": "population"},
                                by=("task", "lengths", "times"), only={"slots": 1.0, "times": ends, "mode": "batch"},
                                needed=RISE, scope=ONE_LENGTH, label="{task}, {lengths}, {times} T_max")),
        Claim(
            "ln", "Layer normalization has no problem with sequences longer than any in training.",
            "Ba et al. 2016, introduction and section 3.1", "no measurement was published", contrast=rise(norms="ln"),
        ),
    )  # fmt: skip
    diverged = "are in no mean"
    words = Words(task={"language": "made-up language", "sum": "running sum", "shakespeare": "Tiny Shakespeare",
                        "own": "own data"},
                  lengths={"fixed": "equal lengths", "heavy-tailed": "ragged lengths", "own": "its own lengths"},
                  slots=lambda share: "" if share == 1 else f" with {share:g} T_max slots")  # fmt: skip
    plots = (
        Lines("along", "loss, bits per step; {task}, {lengths}", "timestep t / T_max",
              "The loss along time, within and beyond the trained lengths.", x="reach", each=("task", "lengths"),
              line="{way}", log="xy", base=2, ticks=(0.25, 0.5, 1, 2, 4, 8),
              colours={way: colour(norm) for way, (_, norm) in WAYS.items()}, marker=None,
              styles=lambda way: mode_style(way) if WAYS[way][1] == "bn-timestep" else dashes(WAYS[way][1]),
              at=1.0, at_text="T_max"),
    )  # fmt: skip
    best = Best("beyond", "bits per step at the greatest length", "{way}", "on {task}, {lengths}", {"times": last})
    sentences = (
        Sentence("On {task}, {lengths}, at {times} T_max, bits per step under running averages: {items}.",
                 by=("task", "lengths", "times"), only={"times": last, "mode": "running"},
                 items="{norm}{slots} {loss:.3g}", over=("norm", "slots"), rising=True),
        Sentence("Worst rise over all tasks and lengths, in bits: {items}. Least of all rises {first}.",
                 items="{way} ({worst:+.3g})", over=("way",), rising=True, least=2),
    )  # fmt: skip

    def trials(self) -> list[Trial]:
        """Task × lengths × slots × norm; fewer slots only where a norm has any."""
        option, keys, made = self.settings.option, self._keys(), list[Trial]()
        if self.settings.own:
            require_answers_per_step(self.settings.config["data"], self.name)
        text = shakespeare(**{key: keys.get(key) for key in ("max_length", "batch_size")})
        for source in self.sources(option("tasks"), {TEXT: text}, keys):
            lengths = "own" if source.real or self.settings.own else option("lengths")
            axes = {"task": source.name, "lengths": lengths, "slots": [float(share) for share in option("slots")]}
            made += self.grid(axes, config=partial(self._configured, source), weight=2.0)
        return [trial for trial in made if self._makes_sense(trial)]

    def _keys(self) -> dict[str, Any]:
        keys = self.settings.config["data"].get("init_args", {})
        return {key: value for key, value in keys.items() if key != "length_distribution"}

    def _makes_sense(self, trial: Trial) -> bool:
        if trial.conditions["slots"] == 1.0:
            return "tail=pool" not in trial.norm  # with a slot for every step there is no tail to pool
        return "max_length" in self._keys() and has_slots(trial.norm)  # else it is not known how many slots that is

    def _configured(self, source: Source, here: Mapping[str, Condition]) -> dict[str, Any]:
        longest, trainer = self._keys().get("max_length"), dict[str, Any]()
        model = {} if longest is None else {"max_steps": max(1, round(float(here["slots"]) * longest))}
        if source.real:
            steps = self.settings.option("text_steps")
            trainer = {"max_epochs": 1, "limit_train_batches": steps, "check_val_every_n_epoch": 1}
        config = source.configured(model=model, trainer=trainer)
        if here["lengths"] != "own":
            config["data"]["init_args"]["length_distribution"] = here["lengths"]
        return config

    def evaluate(self, trial: Trial, trained: Trained, model: SequenceTask, data: LightningDataModule) -> Iterable[Row]:
        """In bits and by mode: `loss` at `times` T_max, `loss_at` step `t` (`reach` = t/T_max), `rise`."""
        require_answers_per_step(data, self.name)
        option, options = self.settings.option, (trial.config or {})["data"].get("init_args", {})
        limit, times = option("text_steps") if trial.conditions["task"] == TEXT else None, sorted(option("times"))
        calibration, sizes = (
            islice(data.train_dataloader(), limit),
            (int(option("num_long")), int(option("batch_long"))),
        )
        yield from beyond_training(model, data, options, calibration, [*map(int, times)], *sizes)

    def derive(self, m: pd.DataFrame) -> Iterable[pd.DataFrame]:
        """By `way`: the loss `along` time and `beyond` T_max, and the `worst` rise over all tasks and lengths."""
        yield m
        for way, (chosen, _) in WAYS.items():
            rows = narrowed(m, chosen).assign(way=way)
            yield where(rows, quantity="loss").assign(quantity="beyond")
            along = where(rows, quantity="loss_at")
            yield along.assign(quantity="along", value=along["value"].clip(lower=FLOOR))
            if len(rises := where(rows, quantity="rise")):
                worst = rises.groupby(["task", "lengths"])["value"].mean().max()
                yield pd.DataFrame([{"way": way, "seed": 0, "quantity": "worst", "value": worst}])

"""Does normalization work online? One pass, one sequence at a time, a source that drifts, a state carried on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from rnnnorm.report.canvas import Theme
from rnnnorm.studies.data.drifting import CLASSES
from rnnnorm.studies.data.plain_training import build_data, build_task, curve, train
from rnnnorm.studies.framework import Best, Claim, Contrast, Lines, Points, Row, Sentence, Study, Trained, Trial, Words
from rnnnorm.studies.framework.derive import paired
from rnnnorm.studies.framework.measurements import where
from rnnnorm.studies.framework.modes import mode_style
from rnnnorm.studies.framework.plots import OTHERS, rule
from rnnnorm.studies.framework.selection import Rule, beginning, leading, names_matching
from rnnnorm.studies.measures.streams import MODES, learning, reading

NEEDED = 0.05
STREAMING = ("online", "streaming")
APPLICABLE = ("bn-vertical", "power")
"""Batch normalization that does not need several sequences: by moments over time, by carried ones."""


def alphabetical(rule: Rule) -> Rule:
    """What a rule means, in alphabetical order."""
    return lambda found: sorted(rule(found))


def calm_first(drifts: Sequence[str]) -> list[str]:
    """No drift, then the others in alphabetical order."""
    return leading("none")(sorted(drifts))


def shift(axes: Axes, theme: Theme, rows: pd.DataFrame) -> None:
    """Mark where the source drifts abruptly; a network that got worse than guessing must not squeeze the others."""
    axes.set_ylim(0, min(float(rows["value"].max()) * 1.05, 3.0))
    if (rows["drift"] == "abrupt").all():
        rule(axes, theme, x=float(rows["t"].max()) / 2, text="scale × 4, mean + 2")


single = partial(Contrast, "loss", "nats", by=("drift",), only={"part": "learning", "drift": calm_first, "batch": 1},
                 needed=NEEDED, label="{norm}, {drift}")  # fmt: skip


class Online(Study):
    """Streams: learned from, and read."""

    name = "online"
    tuned_by, own_loop = ("part", "drift", "batch"), True
    question = "Does normalization work online, one sequence at a time?"
    method = (
        "Learning: sequences of four noisy sources come one after the other and are predicted (by stored statistics) "
        "before they are learned from, once. Moments of a batch need two rows: a norm that finds none to normalize by "
        "in a batch of one sequence would train on constants, and is refused there. What can be applied takes its "
        "moments over time (bn-vertical) or carries them on (power, online, streaming; a horizon, or a warm-up, is a "
        "hundredth of the stream, as the published ones are of an epoch). The prequential loss is the mean over the "
        "second half of the stream, in nats; where the source drifts abruptly its scale is fourfold and its mean "
        "moves by two at the beginning of that half. Reading: networks trained on whole segments of a made-up "
        "language read test segments in pieces, each from the state that the last one left, as a stream is served; "
        "the loss is compared with that of reading the segment at once. A difference counts from 0.05 nats; a loss "
        "that ceases to be finite counts as that of guessing."
    )
    columns = ("t", "mode", "chunk")
    claims = (
        Claim("online", "Batch normalization cannot be applied to online learning, where a batch is one sequence.",
              "Ba, Kiros & Hinton 2016, section 1",
              "of moments over a batch this is so by definition; measured are moments over time and carried ones",
              contrast=single(alphabetical(names_matching(*APPLICABLE)), "ln")),
        Claim("made-for-it",
              "Normalizers made for streams help a network that learns from single sequences.",
              "Chiley et al., NeurIPS 2019 (online normalization); Liao et al. 2016 (streaming normalization)",
              contrast=single(alphabetical(names_matching(*STREAMING)), "none", turned=True)),
        Claim("drift",
              "A normalizer that looks at one sequence only carries a network over a change of scale of its inputs.",
              "invariance to rescaling of single cases: Ba, Kiros & Hinton 2016, table 1; after Zhang & Sennrich 2019",
              contrast=single(alphabetical(names_matching("ln", "rms", "gn")), "none", by=("drift", "batch"),
                              turned=True, only={"part": "learning", "drift": alphabetical(beginning(but=("none",)))},
                              label="{norm}, {drift}, B = {batch}")),
        Claim("pieces",
              "Statistics per timestep do not serve where a stream is read in pieces: each piece begins at step 0 "
              "again.", "reported as a bug of public code: Element-Research/rnn#252; never measured",
              contrast=Contrast("lost", "nats", names_matching("bn-timestep"), by=("norm", "mode", "chunk"),
                                only={"mode": MODES}, needed=NEEDED, label="{norm}, {mode}, {chunk} steps at a time")),
    )  # fmt: skip
    words = Words(drift=lambda drift: f"{'no' if drift == 'none' else drift} drift")
    plots = (
        Lines("prequential", "loss before learning, nats, {drift}", "sequences seen", "B = 1.", x="t", each=("drift",),
              only={"batch": 1, "drift": calm_first}, rule=math.log(CLASSES), text="guessing", marker=None, band=False,
              also=shift),
        Lines("reading", "test loss, nats", "steps read at a time", "The last point is the whole segment.",
              x="chunk", log="x", line="{norm}{by}", styles=mode_style),
        Points("loss", "loss before learning, nats, second half, all drifts", "nats", "By norm and batch size.",
               only={"part": "learning"}, series="B = {batch}", colours=OTHERS),
    )  # fmt: skip
    best = Best("loss", "loss in nats of learning one sequence at a time", at="with {drift}",
                only={"part": "learning", "drift": calm_first, "batch": 1})  # fmt: skip
    sentences = (
        Sentence("One sequence at a time, {drift}, nats: {items}.", by=("drift",),
                 only={"part": "learning", "drift": calm_first, "batch": 1}, items="`{norm}` {loss:.3f}", rising=True,
                 least=2),
        Sentence("Reading in pieces changes the loss by (nats, mean over sizes and statistics): {items}.",
                 items="`{norm}` {lost:+.3f}"),
    )  # fmt: skip

    def trials(self) -> list[Trial]:
        """Drift × batch size × norm; then networks that are read in pieces."""
        option, slow = self.settings.option, names_matching(*STREAMING, "power")(self.settings.norms)
        fast = [norm for norm in self.settings.norms if norm not in slow]
        axes = {"part": "learning", "drift": option("drifts"), "batch": option("batch_sizes")}
        learning = [
            *self.grid(axes, fast, weight=lambda here: 3 / float(here["batch"])),
            *self.grid(axes, slow, weight=lambda here: 9 / float(here["batch"])),
        ]
        reading = self.grid({"part": "reading"}, option("chunk_norms"), weight=2.0)
        return reading if self.settings.own else [*learning, *reading]

    def measure(self, trial: Trial, trained: Trained | None) -> Iterable[Row]:
        """`prequential` loss by `t` and `loss` of the second half, or `inapplicable`; or `loss` by `chunk`, `mode`."""
        config = self.rated(self.settings.configured(), trial)
        if trial.conditions["part"] == "learning":
            yield from learning(trial, self.settings, config["model"]["init_args"])
        else:
            yield from self._reading(trial, config)

    def _reading(self, trial: Trial, config: Mapping[str, Any]) -> Iterable[Row]:
        data = build_data(config, trial.seed)
        batches = list(data.test_dataloader())
        if any(len(set(b.input.batch_sizes.tolist())) > 1 or len(b.target) != len(b.input.data) for b in batches):
            raise ValueError(f"study {self.name!r} reads in pieces: it needs sequences of one length, a target per row")
        task = build_task(config, data, trial.norm, trial.seed)
        trainer = config["trainer"]
        losses = train(task, data, trainer["max_epochs"], trainer.get("gradient_clip_val"))
        yield from curve(losses)
        yield {"quantity": "diverged", "value": float(not math.isfinite(losses[-1]))}
        if math.isfinite(losses[-1]):
            yield from reading(task, batches, data, self.settings.option("chunks"))

    def derive(self, m: pd.DataFrame) -> Iterable[pd.DataFrame]:
        """The loss of `reading` with its statistics, where there are several; and what is `lost` against the whole."""
        yield m
        read = where(m, quantity="loss", part="reading")
        for (_, mode), rows in read.groupby(["norm", "mode"], sort=False) if len(read) else ():
            several = where(read, norm=rows["norm"].iloc[0])["mode"].nunique() > 1
            yield rows.assign(quantity="reading", by=f", {mode}" if several else "")
            yield paired(rows, "loss", {"chunk": rows["chunk"].max()}, "lost")

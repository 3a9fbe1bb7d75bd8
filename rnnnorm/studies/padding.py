"""Does it matter whether batch statistics count padding? In training, in evaluation, with finished sequences frozen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import pandas as pd
from lightning import LightningDataModule

from rnnnorm.studies.data.padding import FINISHED, MASKED, treating, ways
from rnnnorm.studies.data.rearranged import REARRANGED, can_be_rearranged
from rnnnorm.studies.framework import (
    Best,
    Claim,
    Contrast,
    Points,
    Row,
    Sentence,
    Trained,
    TrainedStudy,
    Trial,
    Words,
    last,
    names_matching,
)
from rnnnorm.studies.framework.plots import OTHERS
from rnnnorm.studies.framework.selection import Point
from rnnnorm.studies.framework.settings import merged
from rnnnorm.studies.measures.guessing import guess
from rnnnorm.studies.measures.padded import evaluated, padding_share, tables
from rnnnorm.tasks import SequenceTask

LITTLE, SOME, MUCH, OWN = "under 30 %", "30 to 60 %", "60 to 90 %", "own"
MOSTLY = [MUCH, OWN]
SHARES: Mapping[str, Mapping[str, Any]] = {
    MUCH: {"batches": "mixed"},
    SOME: {"batches": "mixed", "data": {"init_args": {"length_distribution": "uniform"}}},
    LITTLE: {"batches": "similar"},
}
"""Share of padding in a batch → the keys of `Rearranged` that make it of heavy-tailed data."""
KINDS = {MASKED: "masked", "frozen": "counted and frozen", "running": "counted and run on"}
COLOURS = dict(zip(KINDS.values(), OTHERS, strict=False))
NEEDED = 0.01
ROWS = 8


def in_scope(point: Point) -> bool:
    """Whether most of a batch is padding, as the claims have it: where little is, there is little to be counted."""
    return point["share"] in MOSTLY


def rearranged(data: Mapping[str, Any], share: str) -> dict[str, Any]:
    """The `data` part of a configuration with that share of padding; own data are mixed if they can be."""
    if share == OWN and not can_be_rearranged(data["class_path"]):
        return dict(data)
    return {"class_path": REARRANGED, "init_args": merged({"data": data}, SHARES.get(share, SHARES[MUCH]))}


counting = names_matching("bn-vertical", "bn-shared", "bn-timestep")  # what their statistics count is in question
difference = partial(Contrast, norms=counting, unit="difference of scores", needed=NEEDED, scope=in_scope)


class Padding(TrainedStudy):
    """Padding masked, counted with finished sequences frozen, counted with them running on: training × evaluation."""

    name = "padding"
    tuned_by = ("data", "hidden")
    question = "Does it matter whether batch statistics count padding?"
    method = (
        "Words: short paths through 13 features, with noise, several of them joined; spoken digits: cepstra of "
        "recordings, every fifth frame, joined alike. The number of words in a sequence is heavy-tailed, and batches "
        "hold sequences as they come, so that 60 to 90 % of a padded batch is padding; in batches of similar length "
        "it is under 30 %. At every frame the class of the present word is asked for: a small network learns that in "
        "a few hundred steps, and each frame counts, late ones among them. Temporal order asks once, at the end. "
        "Padding masked: statistics over present rows only. Counted: all B rows at all steps, finished sequences "
        "frozen (a step is computed and undone) or running on over zeros; only `bn-vertical` does not tell these two "
        "apart. Running averages are what training made; population statistics are estimated anew, with padding "
        "masked or counted whatever the training did. Sizes are hidden units. Scores are accuracies, and effects "
        f"below {NEEDED:g} do not count."
    )
    counts, columns = True, ("mode", "evaluated", "axis", "low", "high", "count")
    diverged, diverged_by = "count as guessing", "{norm}, {padding}"
    claims = (
        Claim("harm", "Batch normalization whose statistics count padding is incorrect, and does harm.",
              "pytorch#70529; Laurent et al., ICASSP 2016 (statistics of the last frames); Cooijmans et al., ICLR 2017",
              "validation error of the attentive reader 49.5 % with statistics per step, 47.1 % with masked ones of "
              "the input (BN-e* of Cooijmans et al., who also changed learning rate and batch size)",
              contrast=difference("stored", against={"padding": MASKED}, turned=True,
                                  by=("share", "data", "hidden", "norm", "padding"), only={"padding": FINISHED},
                                  label="{data}, {norm}, {hidden} units, {share}, padding {padding}")),
        Claim("mismatch", "What does harm is a mismatch: padding counted in training or in evaluation, not in both.",
              "after Ioffe & Szegedy, ICML 2015 (statistics of evaluation are to be those of training)",
              contrast=difference("mismatch", by=("share", "data", "hidden", "norm", "padding", "evaluated"),
                                  label="{data}, {norm}, {hidden} units, {share}, trained {padding}, evaluated "
                                        "{evaluated}")),
        Claim("freezing", "Where padding is counted, finished sequences should be frozen and not run on over zeros.",
              "after the code of Cooijmans et al., ICLR 2017, which masks states but not statistics per step",
              contrast=difference("stored", against={"padding": "running"},
                                  by=("share", "data", "hidden", "norm", "padding"), only={"padding": "frozen"},
                                  label="{data}, {norm}, {hidden} units, {share}")),
        Claim("rows", "Masked statistics are as good as counted ones where steps with few rows are left out.",
              "after the code of Cooijmans et al., ICLR 2017 (low sample size in later steps)",
              contrast=difference("stored", norms=f"bn-timestep:min_rows={ROWS}", turned=True, null=0.0, below=True,
                                  against={"norm": "bn-timestep", "padding": "frozen"}, only={"padding": MASKED},
                                  by=("share", "data", "hidden"), label="{data}, {hidden} units, {share}")),
        Claim("share", "The more of a batch is padding, the more harm is done by counting it.",
              "after Multilingual_Text_to_Speech#81 (variances are too small where lengths differ widely)",
              contrast=difference("harm", against={"share": LITTLE},
                                  by=("share", "data", "hidden", "norm", "counted"),
                                  label="{data}, {norm}, {hidden} units, {share} against {against[share]}, {counted}")),
    )  # fmt: skip
    words = Words(data={"order": "temporal order", "digits": "spoken digits", OWN: "your data"}, padding=KINDS,
                  evaluated=KINDS, counted=KINDS, share={OWN: "as it comes"})  # fmt: skip
    plots = (
        Points("stored", "score by running averages, {data}", "score", "Scores with padding masked and counted.",
               only={"share": MOSTLY}, each=("data",), line="{norm}, {hidden} units", series="{padding}",
               colours=COLOURS),
        Points("fresh", "population statistics, {data}, {hidden} units", "score",
               "Training by evaluation: padding masked or counted in either.",
               only={"share": MOSTLY, "hidden": last}, each=("data", "hidden"),
               line="{norm}, trained: {padding}", series="{evaluated}", colours=COLOURS),
        Points("harm", "score lost by counting padding, {data}", "masked minus counted",
               "What counting padding costs, by its share.", each=("data",), line="{norm}, {hidden} units, {counted}",
               series="{share}", colours=dict(zip(SHARES, reversed(OTHERS), strict=False))),
    )  # fmt: skip
    best = Best("stored", "score by running averages", "`{norm}`, padding {padding},",
                "on {data}, {hidden} units, {share}", {"share": MOSTLY}, greatest=True)  # fmt: skip
    sentences = (
        Sentence("Padding of a training batch: {items}.", items="{data} ({share}) {padding_share:.0%}",
                 over=("data", "share")),
        Sentence("{data}, `{norm}`, {hidden} units, by running averages, padding {items}.",
                 by=("data", "norm", "hidden"), only={"share": MOSTLY},
                 items="{padding} {stored:.3f}", over=("padding",), least=2),
        Sentence("{data}, `{norm}`, {hidden} units, by population statistics, training / evaluation: {items}.",
                 by=("data", "norm", "hidden"), only={"share": MOSTLY, "hidden": last},
                 items="{padding} / {evaluated} {fresh:.3f}", over=("padding", "evaluated"), least=2),
    )  # fmt: skip

    def trials(self) -> list[Trial]:
        """Data × share × size × padding × norm; of real and of own data mixed batches only.

        Where most is padding there are all sizes, and norms without batch statistics, which it cannot change, beside.
        """
        settings, option, made = self.settings, self.settings.option, list[Trial]()
        for source in self.sources({name: option("generated")[name] for name in option("tasks")}, option("real")):
            given = settings.config["model"].get("init_args", {}).get("hidden_size") if settings.own else None
            sizes = option("sizes") if given is None else [given]
            for share in [OWN] if settings.own else [MUCH] if source.real else option("shares"):
                for size in sizes if share in MOSTLY else sizes[:1]:
                    config = source.configured(model={"hidden_size": int(size)})
                    config = {**config, "data": rearranged(config["data"], share)}
                    for padding in (MASKED, *FINISHED):
                        differing = [norm for norm in settings.norms if padding in (found := ways(norm))
                                     and (share in MOSTLY or len(found) > 1)
                                     and (":" not in norm or (padding == MASKED and share in MOSTLY))]  # fmt: skip
                        here = {"data": source.name, "share": share, "hidden": int(size), "padding": padding}
                        made += self.grid(here, differing, treating(config, padding), 1.5 if padding == MASKED else 5.0)
        return made

    def lost(self, trained: Trained) -> Iterable[Row]:
        """The score of guessing, however it is evaluated."""
        for mode in ("running", "population"):
            for padding in (MASKED, *FINISHED):
                yield {"quantity": "scored", "mode": mode, "evaluated": padding, "value": guess(trained)}

    def evaluate(self, trial: Trial, trained: Trained, model: SequenceTask, data: LightningDataModule) -> Iterable[Row]:
        """`padding_share` of the training batches, and `scored` by `mode` and by what padding is `evaluated`."""
        train = [*data.train_dataloader()]
        yield {"quantity": "padding_share", "value": padding_share(train)}
        yield from evaluated(
            model, train, [*data.test_dataloader()], ways(trial.norm), str(trial.conditions["padding"])
        )

    def derive(self, m: pd.DataFrame) -> Iterable[pd.DataFrame]:
        """Scores by running averages and by population statistics, mismatches, harm: see `measures.padded`."""
        yield from tables(m)

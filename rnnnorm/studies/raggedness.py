"""Does batch normalization break on ragged sequences, and what of raggedness breaks it?"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import pandas as pd
from lightning import LightningDataModule

from rnnnorm.studies.data.ragged_arms import BASE, FRAMED, LENGTHS, OWN, RAGGED, arms, inert
from rnnnorm.studies.framework import Best, Claim, Lines, Points, Row, Sentence, Trained, TrainedStudy, Trial, Words
from rnnnorm.studies.framework.measurements import where
from rnnnorm.studies.framework.modes import mode_style
from rnnnorm.studies.framework.plots import OTHERS
from rnnnorm.studies.framework.selection import narrowed
from rnnnorm.studies.measures import ragged_effects as effects
from rnnnorm.studies.measures.ragged_effects import cured, late_if_any, recalibrated, scores, wider
from rnnnorm.studies.measures.ragged_measures import measure
from rnnnorm.studies.measures.ragged_tables import PLAIN, best_cure, tables
from rnnnorm.tasks import SequenceTask

scored = partial(Sentence,
                 f"{BASE} on {{data}}{{batches}}, {{region}}: {{running:.3f}} by running averages, {{population:.3f}} "
                 "by population statistics, {batch:.3f} by each batch's own; lag behind the weights costs {lag:.3f}, "
                 "noise {noise:.3f}.", ("data", "batches", "region"))  # fmt: skip


class Raggedness(TrainedStudy):
    """The same data with lengths fixed, uniform, heavy-tailed; one cause after the other taken away."""

    name = "raggedness"
    tuned_by = ("data",)
    question = "Does batch normalization break on ragged sequences, and what of raggedness breaks it?"
    method = (
        "Temporal order over heavy-tailed, uniform and fixed lengths, with a random first and last symbol, and as it "
        "is (all sequences begin with the same symbol). Batches hold sequences of similar length, or as they come "
        "(`mixed`), where late steps have few rows. Scores are accuracies (losses with their sign turned), overall "
        "and late: from t* on, where fewer than one in 16 training sequences is left. They are taken by running "
        "averages, by population statistics (one more pass over the training data) and by each batch's own; the gap "
        "is own minus running. Running averages `at rest` have seen one pass with unchanging weights: what they are "
        "better than the trained ones is lag, what they lack to population statistics noise. `Off by`: the root mean "
        "square error that stored moments make in a normalized value, against moments of the test data at the same "
        "step. A claim is judged by one score of each run: by running averages, late where there are late steps. A "
        "cure with as many steps as the longest sequence is inert, and no condition. Effects below .01 overall and .02 "
        "late do not count. Real data, where given: EWT, trained on sentences of at most 20 words; JSB chorales; "
        "Japanese vowels and spoken digits with a tenth of their long sequences in training."
    )
    counts, columns = True, ("mode", "axis", "low", "high", "count", "t", "region", "last", "rows", "place")
    claims = (
        Claim("survivors", "Batch normalization per timestep fails at late steps, which few sequences reach.",
              "Cooijmans et al., ICLR 2017, and their code (population statistics against low sample size in later "
              "steps); Ba et al. 2016",
              contrast=scores("score", norms=BASE, against="none",
                              only={"mode": "running", "region": "late"}, turned=True,
                              by=("data", "batches", "region"), label="{data}{batches}")),
        Claim("gap", "The more ragged the lengths, the larger the gap between training and evaluation.",
              "Ba et al. 2016, as a reason for layer normalization",
              contrast=(wider(RAGGED, "uniform"), wider("uniform", "fixed"))),
        Claim("running",
              "Running averages are terrible: population statistics need an extra pass over the training set.",
              "Cooijmans et al., ICLR 2017, and their code",
              contrast=scores("score", norms=BASE, against={"mode": "running"},
                              only={"data": effects.framed_first, "mode": "population", "region": "all"},
                              label="{data}{batches}")),
        Claim("constant", "Where all sequences of a batch agree, as in their first symbol, stored statistics break.",
              "after Cooijmans et al., ICLR 2017, who saw zero variance break the gradient",
              contrast=scores("tried", by=("norm",), against={"data": RAGGED}, turned=True, needed=0.01,
                              only={**PLAIN, "data": FRAMED, "mode": "running", "region": "all"}, label="{norm}")),
        Claim("lag", "Running averages fail because they lag behind the weights, not because they are noisy.",
              "after Ioffe & Szegedy, ICML 2015 (population statistics at fixed weights); Cooijmans et al., ICLR 2017",
              contrast=scores("lag_minus_noise", by=("batches", "data", "region"),
                              label="{data}{batches}, {region}, lag minus noise",
                              only={"data": effects.framed_first, "region": late_if_any})),
        Claim("rows", "Few rows are to blame: leaving out steps with less than 8 cures the late steps.",
              "Cooijmans et al., code of ICLR 2017 (low sample size in later steps)", contrast=cured(":min_rows=8")),
        Claim("tail",
              "The thin tail before T_max is to blame: one pooled slot for all of its steps cures the late steps.",
              "after Cooijmans et al., ICLR 2017, who repeat the last step's statistics beyond T_max",
              contrast=cured("tail=pool")),
        Claim("cure",
              "Only recalibration makes statistics per step usable: no cheaper cure comes as close to each batch's "
              "own.", "Cooijmans et al., ICLR 2017 (`an extra pass over the training set`)",
              contrast=tuple(recalibrated(only={**PLAIN, "mode": "running", "data": data, "region": region})
                             for data, region in (([RAGGED, OWN], late_if_any), (FRAMED, "all")))),
    )  # fmt: skip
    words = Words(data={RAGGED: "heavy-tailed lengths", "uniform": "uniform lengths", "fixed": "fixed lengths",
                        OWN: "your data", FRAMED: "heavy-tailed lengths, first symbol constant", "JSB": "JSB (nats)"},
                  batches={"similar": "", "mixed": ", mixed batches"},
                  mode={"running": "running averages", "population": "population statistics",
                        "batch": "each batch's own"},
                  region={"late": "late steps", "all": "overall"})  # fmt: skip
    plots = (
        Lines("score_by_step", "score, {data}", "timestep t",
              "Scores by timestep: normalization per step loses at late steps.", only={"data": [RAGGED, OWN]}, x="t",
              line="{norm}{how}", also=effects.mark_late, styles=mode_style),
        Lines("moments_off_by", "stored moments are off by, in normalized units", "timestep t",
              "Error of stored statistics by timestep.", x="t", log="y",
              line="{what}", marker=None, colours=OTHERS, styles=mode_style),
        Points("gap_by_lengths", "score by the batch's own statistics minus by running averages",
               "difference of scores", "The gap by distribution of lengths.",
               only={"data": [*LENGTHS, FRAMED, OWN], "region": "all", "batches": "similar"}, line="{norm}, {data}"),
        Points("tried", "score by running averages, cures, {region}", "score",
               "Cures at late steps.", only={"data": [RAGGED, OWN], "region": late_if_any},
               line="{way}{batches}"),
    )  # fmt: skip
    best = Best("tried", "score", "{way}", "in the {region} of {data}",
                {"data": effects.telling, "region": late_if_any, **PLAIN}, greatest=True)  # fmt: skip
    sentences = (
        scored(only={"data": FRAMED, "region": "all"}), scored(only={"data": effects.unframed, "region": late_if_any}),
        Sentence("Late steps of {data}{batches} begin at t = {late_start:.0f}; one has {late_active:.0f} rows and "
                 "comes in {late_visits:.0%} of the batches.", by=("data", "batches")),
        Sentence("Best first, {region} of {data}: {items}.", by=("data", "region"), items="{way} {tried:.3f}",
                 over=("way",), only={"data": effects.telling, "region": late_if_any, **PLAIN}, rising=False, least=2),
    )  # fmt: skip

    def trials(self) -> list[Trial]:
        """Lengths, framed data, mixed batches, cures, real data; of the user's data what makes sense."""
        return [*arms(self.settings)]

    def evaluate(self, trial: Trial, trained: Trained, model: SequenceTask, data: LightningDataModule) -> Iterable[Row]:
        """What `ragged_measures.measure` says."""
        if inert(trial.norm, data):
            yield {"quantity": "inapplicable", "value": 1.0}
            return
        yield from measure(model, data)

    def derive(self, m: pd.DataFrame) -> Iterable[pd.DataFrame]:
        """Scores by their way, lag and noise, the gap by lengths, late rows, curves: see `ragged_tables`."""
        yield from tables(m, effects.least)

    def findings(self, m: pd.DataFrame) -> list[str]:
        """The sentences, and the cure with the best score: late, or overall where there is no late step."""
        tried = where(self.derived(m), quantity="tried", data=[RAGGED, OWN], **PLAIN)
        return [*super().findings(m), *best_cure(narrowed(tried, {"region": late_if_any}))]

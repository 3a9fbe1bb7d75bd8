"""Where does batch normalization break down horizontally? Slots that are almost constant over the batch, mended."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd
from lightning import LightningDataModule

from rnnnorm.norms import has_batch_statistics
from rnnnorm.studies.framework import (
    Best,
    Claim,
    Contrast,
    Lines,
    Points,
    Row,
    Sentence,
    Trained,
    TrainedStudy,
    Trial,
    Words,
)
from rnnnorm.studies.framework.measurements import where
from rnnnorm.studies.framework.plots import OTHERS
from rnnnorm.studies.measures import slot_effects as effects
from rnnnorm.studies.measures.guessing import guess
from rnnnorm.studies.measures.mended import BASES, Mended, everything
from rnnnorm.studies.measures.slot_effects import alike, controls, cure, exact, injected, kept, per_slot, smallest
from rnnnorm.tasks import SequenceTask

OURS = "this package, docs/statistics.md"
ERRORS = {"unit": "accuracy", "norm": effects.PLAIN, "task": alike}


class ConstantSlots(TrainedStudy):
    """Which slots carry the loss of stored statistics: mended, given errors, cured."""

    name = "constant-slots"
    tuned_by = ("task", "noise")
    question = "Where does batch normalization break down horizontally? In almost constant slots?"
    method = (
        "A slot is a place of a normalizer and a timestep. An error δ of its stored mean shifts normalized values by "
        "γδ/√(σ² + ε) in all sequences alike. Almost constant is a slot that multiplies errors by more than 3 (median "
        "over features, in one batch of 1,000 training sequences); where gains have grown, that includes slots of "
        "moderate variance. The last weights are evaluated by running averages and by moments pooled over training "
        "batches, after some slots were mended: copied from the one consistent batch, or estimated in place, with all "
        "others as they were stored; the latter also with all numbers in 64 bits. Lost is the score by the one batch "
        "minus that score: accuracy, or nats per letter or chord. Errors of the mean are put into the slot of largest "
        "and of median amplification. Cures are trained by themselves and compared by seed with consistent statistics "
        f"of plain training. Differences count from {effects.NEEDED:g} ({effects.NEEDED_PER_CHORD:g} nats per chord)."
    )
    last_weights = True
    columns = ("base", "taken", "above", "rows", "slot", "size", "shift", "unit")
    diverged = "count as guessing"
    claims = (
        Claim("most", "Where sequences begin alike, almost constant slots carry most of what running averages lose.",
              OURS, contrast=effects.share),
        Claim("mended", "Where sequences begin alike, mending the almost constant slots regains what stored statistics "
              "lose.", OURS, "rows of MNIST: accuracy .537 → .957 by four of 28 steps",
              contrast=kept("constant", below=True)),
        Claim("settled", "It also does if these slots are estimated in place, whatever is wrong with all others.",
              OURS, contrast=kept("settled", below=True)),
        Claim("exactly", "In 64 bits, estimating the almost constant slots in place regains what stored statistics "
              "lose.", OURS, contrast=exact("settled", per_slot)),
        Claim("rounding", "In 64 bits pooled moments lose nothing where sequences begin with the same symbol.", OURS,
              contrast=exact("none", (effects.PLAIN,), base="pooled", task=("order", "opened"))),
        Claim("others", "Mending all other slots leaves a loss.", OURS, contrast=kept("others")),
        Claim("controls", "Where sequences do not begin alike, stored statistics lose nothing.", OURS,
              contrast=kept("none", controls, below=True)),
        Claim("one", "One batch of 100 sequences serves better than the whole training set, pooled over batches.",
              OURS + ", against the extra pass of Cooijmans et al., ICLR 2017", "rows of MNIST: .953 against .557",
              contrast=Contrast("gained", "score", per_slot, by=("task",), needed=smallest, label="{task}, {norm}",
                                only={"task": alike, "rows": 100})),
        Claim("sensitive", "An error of 0.01 in the mean of one almost constant slot spoils a network.", OURS,
              contrast=injected(only={"slot": "constant", "size": 0.01})),
        Claim("insensitive", "The same error in an ordinary slot does nothing.", OURS,
              contrast=injected(only={"slot": "ordinary", "size": 0.01}, below=True)),
        Claim("mute", "Running averages serve if features that were constant in training are evaluated as constants.",
              OURS, "rows of MNIST .943, temporal order .935", contrast=cure("mute=true")),
        Claim("debias", "Running averages serve if they are free of their initial values.",
              "after Kingma & Ba, ICLR 2015 (Adam)", contrast=cure("debias=true")),
        Claim("eps", "Running averages serve after training with a larger ε.",
              "common advice; after Yang et al., ICLR 2019", contrast=cure("eps=")),
        Claim("noise", "Running averages serve after training with noise of standard deviation 0.1 on h_0.",
              "after Cooijmans et al., ICLR 2017, who add noise on in-order MNIST", contrast=cure(noise=0.1)),
        Claim("floor", "Stored statistics serve with variances of at least 0.01.", OURS,
              contrast=kept("floor", below=True)),
    )  # fmt: skip
    words = Words(
        task={"order": "temporal order", "unframed": "order, random ends", "opened": "language after a sign",
              "language": "language", "rows": "rows of MNIST", "permuted": "permuted MNIST",
              "digits": "spoken digits", "own": "own data"},
        taken={"none": "as stored", "constant": "almost constant slots copied", "others": "all others copied",
               "settled": "almost constant slots estimated in place"},
        base={"running": "running averages", "pooled": "pooled moments"},
    )  # fmt: skip
    plots = (
        Points("lost", "{unit} lost by {base}", "below one consistent batch",
               "What is left of the loss when almost constant slots, or all others, are mended.",
               each=("unit", "base"), line="{task}, {norm}", series="{taken}",
               only={"unit": ["accuracy", "nats"], "base": BASES, "taken": ("none", "others", "constant", "settled")},
               colours={"as stored": OTHERS[0], "all others copied": OTHERS[1],
                        "almost constant slots copied": OTHERS[2],
                        "almost constant slots estimated in place": OTHERS[3]}),
        Lines("left", "accuracy lost by running averages, bn-timestep", "copied: slots with an amplification above",
              "What is left of the loss against the amplification above which slots are copied.", x="above", log="x",
              only={"unit": "accuracy", "norm": effects.PLAIN, "base": "running",
                    "above": lambda found: [x for x in found if x]}, line="{task}", colours=OTHERS),
        Lines("injected", "accuracy lost by an error in one slot", "size of the error of the mean",
              "Loss against the size of an error in one slot.", x="size", log="x", line="{slot} slot, {task}",
              colours=OTHERS, only=ERRORS),
        Lines("shifted", "accuracy lost by an error in one slot", "shift γδ/√(σ² + ε) that it makes",
              "Loss against the shift of normalized values.", x="shift", log="x", line="{slot} slot, {task}",
              colours=OTHERS, only=ERRORS),
        Points("cured", "{task}, bn-timestep: cures", "score by running averages",
               "Scores by running averages under each cure, and by one consistent batch.", each=("task",),
               line="{arm}"),
    )  # fmt: skip
    best = Best("cured", "score by running averages", "{arm}", "on {task}", greatest=True)
    sentences = (
        Sentence("{task}, {norm}: {constant:.0f} of {slots:.0f} slots are almost constant. Running averages lose "
                 "{running_none:.3f}; with these slots copied {running_constant:.3f}, estimated in place "
                 "{running_settled:.3f}, with all others copied {running_others:.3f}; pooled moments "
                 "{pooled_none:.3f}, {pooled_constant:.3f}, {pooled_settled:.3f} and {pooled_others:.3f}.",
                 by=("task", "norm")),
        Sentence("{task}, bn-timestep: {items}.", by=("task",), items="{arm} {cured:.3f}", over=("arm",), rising=False),
    )  # fmt: skip

    def trials(self) -> list[Trial]:
        """Task × norm, on real data the first norm only; then the cures."""
        settings, option, made = self.settings, self.settings.option, list[Trial]()
        common, real = settings.config["data"].get("init_args", {}), option("real")
        for source in self.sources(option("tasks"), {name: part["data"] for name, part in real.items()}, common):
            keys = {key: real[source.name].get(key, {}) for key in ("model", "trainer")} if source.real else {}
            norms = settings.norms[:1] if source.real else settings.norms
            made += self.grid({"task": source.name, "noise": 0.0}, norms, source.configured(**keys), 3.0)
            for arm in option("cures") if source.name in option("cured") else ():
                noise, norm = float(arm["noise"]), str(arm["norm"])
                changed = {**keys, "model": {**keys.get("model", {}), "initial_state_noise": noise}}
                if noise or norm not in norms:
                    made += self.grid({"task": source.name, "noise": noise}, [norm], source.configured(**changed))
        return made

    def lost(self, trained: Trained) -> Iterable[Row]:
        """The score of guessing."""
        yield {"quantity": "score", "base": "running", "taken": "none", "value": guess(trained)}

    def evaluate(self, trial: Trial, trained: Trained, model: SequenceTask, data: LightningDataModule) -> Iterable[Row]:
        """`score` by `base` and `taken`; of trainings that are no cures all that `measures.mended` measures."""
        if not has_batch_statistics(model):
            return
        larger = trained.result["metric_mode"] == "max"
        mended = Mended(model, data, 1.0 if larger else -1.0, int(self.settings.option("rows")))  # type: ignore[arg-type]
        rows = [*mended.by_base()]
        if not trial.conditions["noise"] and trial.norm in self.settings.norms:
            rows += everything(mended, self.settings.options)
            wide = Mended(model.double(), data, mended.sign, mended.rows)  # type: ignore[arg-type]
            rows += wide.exactly(float(self.settings.option("limit")))
        yield from ({"unit": "accuracy" if larger else "nats", **row} for row in rows)

    def derive(self, m: pd.DataFrame) -> Iterable[pd.DataFrame]:
        """`running_none`, `pooled_constant` and so on: `lost` by name; `share`; `cured` by `arm`."""
        lost = where(m, quantity="lost")
        named = lost["base"].astype(str) + "_" + lost["taken"].astype(str)
        yield from (m, lost.assign(quantity=named), effects.shares(m), effects.arms(m))

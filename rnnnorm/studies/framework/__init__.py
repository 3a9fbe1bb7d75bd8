"""Framework of the studies: what a declared study is made of.

A study is a class in a file of `rnnnorm/studies/` and a YAML file of the same name in `experiments/studies/`. It
enters `STUDIES` by being defined, and with that the command line, the report and the tests. It has six parts:

    class Warmth(Study):
        name, question, method = "warmth", "Does it get warmer?", "…"        # a paragraph for the report
        claims = (Claim("warmer", "It gets warmer.", "Somebody 2020", "by 1 nat",
                        Contrast("gain", "nats below none's loss", norms=BN, by=("data", "layers"), needed=0.01,
                                 label="{norm}, {layers}, {data}")),)
        plots = (Lines("loss", "loss (nats), {data}", "layers", "Loss against depth.", x="layers", each=("data",)),)
        sentences = (Sentence("On {data}, `{norm}` gains {gain:.3f} nats.", by=("data", "norm")),)
        best = Best("best_val_loss", "validation loss in nats", at="on {data}, {layers}")
        words = Words(layers="{} layers")

        def trials(self):                   # conditions × norms × seeds
            return self.grid({"data": "made", "layers": self.settings.option("layers")}, config=self.settings.config)

        def measure(self, trial, trained):  # one trial → rows of `quantity`, `value` and whatever says where
            yield from outcome(trained)

        def derive(self, m):                # tables → quantities that are computed from others
            best = best_by(m, "best_val_loss", over="lr", per=["data", "layers", "norm"])
            yield best
            yield paired(best, "best_val_loss", against="none", name="gain", how=lambda a, b: b - a)

**Measurements** are a tidy table (`measurements.csv`): the conditions, `norm`, `seed`, `quantity`, `value`, and the
columns that `measure` adds. Everything after `measure` works on this table alone. Claims, plots and sentences see what
`derive` yields; without `derive`, the table itself.

**Contrasts** yield one case per condition: the level of a quantity, or its difference to a reference (`against`),
paired by seed. Conditions are the columns `by`, the first being the outermost loop, and the norm where several are
named. `only` says which values of a column are meant: one, a list (in that order), or a rule, a function from those
that occur (numbers ascending, words as they come in the table) to those that are meant: `first`, `names_matching("ln")`
and others of `framework.selection`. `needed` and `below` may be functions of the point (column → value). A claim with
several contrasts has the cases of all of them. `needed` - `null` is the smallest effect of interest δ: a case is
supported, opposite, negligible or undecided by where its interval lies to ±δ; where the claim asserts that nothing
worse than δ happens, supported, opposite or undecided (see `framework.case`). `judge` makes a verdict of the cases in
the `scope` of the claim's source (see `framework.verdict`). The first measured case stands in the table of
claims, unless `Study.headline` gives another one a larger key.

**Plots** are `Lines` and `Points`; what is measured without a value draws nothing. `line` names a line, `each` makes
one plot per value, `also` draws what no argument says. Findings begin with what is **best** of all that the study
compares, batch normalization or not. **Sentences** are formats filled in with means over seeds; a
sentence of which a quantity is missing is left out, and divergence is always told. **Words** say how the values of a
column are written: a mapping, a function, or a format.

What cannot be declared is programmed: `judge`, `headline`, `panels` and `findings` are methods of `Study`. A study that
evaluates what it trains is a `TrainedStudy`, with a method `evaluate` in place of `measure`.
`sources` are the data at hand, `in_every_mode` evaluates one network by running averages, population statistics and
batch statistics. Names for one study's own use: `framework.measurements` (`per_seed`), `common.estimate`,
`framework.plots` (panels drawn by hand), `studies.data` (data modules, training) and `studies.measures`.
"""

from rnnnorm.studies.framework.claim import Claim
from rnnnorm.studies.framework.contrast import Contrast
from rnnnorm.studies.framework.derive import best_by, mapped, paired
from rnnnorm.studies.framework.figure import Lines, Points
from rnnnorm.studies.framework.measurements import where
from rnnnorm.studies.framework.modes import in_every_mode
from rnnnorm.studies.framework.selection import Words, first, last, names_matching
from rnnnorm.studies.framework.sentence import Best, Sentence
from rnnnorm.studies.framework.study import STUDIES, Study, TrainedStudy
from rnnnorm.studies.framework.trained import Trained
from rnnnorm.studies.framework.trial import Row, Trial

__all__ = [
    "STUDIES",
    "Best",
    "Claim",
    "Contrast",
    "Lines",
    "Points",
    "Row",
    "Sentence",
    "Study",
    "Trained",
    "TrainedStudy",
    "Trial",
    "Words",
    "best_by",
    "first",
    "in_every_mode",
    "last",
    "mapped",
    "names_matching",
    "paired",
    "where",
]

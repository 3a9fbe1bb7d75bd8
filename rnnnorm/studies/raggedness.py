"""Does batch normalization break on ragged sequences, and what of raggedness breaks it?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, ClassVar

import pandas as pd
from matplotlib.axes import Axes

import rnnnorm
from rnnnorm.common.estimate import estimate
from rnnnorm.norms import has_batch_statistics
from rnnnorm.report.canvas import Theme
from rnnnorm.studies.data.padding import FINISHED, CountPadding, counting
from rnnnorm.studies.data.rearranged import REARRANGED, can_be_rearranged, in_folder
from rnnnorm.studies.framework import Claim, Contrast, Lines, Points, Sentence, Study
from rnnnorm.studies.framework.case import FAILS, HOLDS, Case
from rnnnorm.studies.framework.measurements import difference, per_seed, where
from rnnnorm.studies.framework.plots import rule
from rnnnorm.studies.framework.selection import Point, Words, narrowed, occurring
from rnnnorm.studies.framework.trained import Trained
from rnnnorm.studies.framework.trial import Row, Trial
from rnnnorm.studies.measures import ragged_measures, ragged_tables
from rnnnorm.studies.measures.ragged_tables import BASE, FRAMED, MODES, OWN, RAGGED, RECALIBRATION

VERTICAL = "bn-vertical"
KIN = (f"{BASE}:", "bn-window", "brn")
"""Variants of the base begin with one of these."""
LENGTHS = (RAGGED, "uniform", "fixed")
PLAIN = {"batches": "similar", "padding": "no"}
STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
ORIGINAL = "rnnnorm.data.TemporalOrder"
PATH = ("data", "batches", "region")


def least(point: Point) -> float:
    """The smallest effect that counts; the score of JSB is a loss, in nats."""
    return 0.02 if point["region"] == "late" and point["data"] != "JSB" else 0.01


def framed_first(found: Sequence[str]) -> list[str]:
    """All data, those whose first symbol is constant before the others."""
    return sorted(found, key=lambda data: data != FRAMED)


def base_first(found: Sequence[str]) -> list[str]:
    """All norms, the base before the others."""
    return sorted(found, key=lambda norm: norm != BASE)


def late_if_any(found: Sequence[str]) -> list[str]:
    """Late steps where there are any, else all of them."""
    return ["late" if "late" in found else "all"]


def cures(found: Sequence[str]) -> list[str]:
    """Variants of the base."""
    return [norm for norm in found if norm.startswith(KIN)]


def telling(found: Sequence[str]) -> list[str]:
    """All data but those that only differ in lengths."""
    return [data for data in found if data not in LENGTHS[1:]]


def mark_late(axes: Axes, theme: Theme, rows: pd.DataFrame) -> None:
    """A line where late steps begin."""
    if rows["start"].notna().any():
        rule(axes, theme, x=float(rows["start"].mean()), text="t*")


scores = partial(Contrast, "score", "difference of scores", by=("batches", "data", "mode", "region"), needed=least)
recalibrated = partial(
    scores, norms=cures, against={"norm": BASE, "mode": "population", "way": RECALIBRATION}, turned=True,
    by=("data", "region", "way"), label="{data}, {region}: recalibration against {way}",
)  # fmt: skip
scored = partial(
    Sentence,
    f"{BASE} on {{data}}{{batches}}, {{region}}: {{running:.3f}} by running averages, {{population:.3f}} by population "
    "statistics, {batch:.3f} by each batch's own; lag behind the weights costs {lag:.3f}, noise {noise:.3f}.", PATH,
)  # fmt: skip


def cured(option: str) -> Contrast:
    """What the base wins at late steps by an option."""
    return scores(
        norms=lambda found: [norm for norm in found if norm.startswith(BASE) and option in norm], against=BASE,
        only={"mode": "running", "region": "late", "padding": "no"}, label="{data}{batches}",
    )  # fmt: skip


def wider(more: str, less: str, region: str = "all", needed: float = 0.01) -> Contrast:
    """What the gap gains from one distribution of lengths to a more ragged one."""
    return Contrast(
        "gap_by_lengths", "difference of gaps", base_first,
        {"data": less}, (), {"data": more, "region": region, **PLAIN}, needed,
        label=f"{{norm}}, {more} against {less}, {'late steps' if region == 'late' else 'overall'}",
    )  # fmt: skip


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
    columns = ("mode", "axis", "low", "high", "count", "t", "region", "last", "rows", "place")
    claims = (
        Claim(
            "padding", "Batch normalization whose statistics count padding is incorrect, and does harm.",
            "pytorch#70529; Laurent et al., ICASSP 2016 (statistics of the last frames); Cooijmans et al., ICLR 2017",
            "validation error of the attentive reader 49.5 % with statistics per step, 47.1 % with masked ones of the "
            "input (BN-e* of Cooijmans et al., who also changed learning rate and batch size)",
            contrast=scores(
                norms=base_first, against={"padding": "no"}, turned=True,
                by=("data", "norm", "padding", "batches", "mode", "region"),
                only={"padding": FINISHED, "mode": MODES[:2], "region": ["late", "all"]},
                label="{data}{batches}, {norm}, finished sequences {padding}, {mode}, {region}",
            ),
        ),
        Claim(
            "survivors", "Batch normalization per timestep fails at late steps, which few sequences reach.",
            "Cooijmans et al., ICLR 2017, and their code (population statistics against low sample size in later steps)"
            "; Ba et al. 2016",
            contrast=scores(
                norms=BASE, against="none", only={"mode": MODES, "region": "late", "padding": "no"}, turned=True,
                by=("data", "batches", "mode", "region"), label="{data}{batches}, {mode}",
            ),
        ),
        Claim(
            "gap", "The more ragged the lengths, the larger the gap between training and evaluation.",
            "Ba et al. 2016, as a reason for layer normalization",
            contrast=(
                wider(RAGGED, "fixed"), wider(RAGGED, "uniform"), wider(RAGGED, "uniform", "late", 0.02),
                wider("uniform", "fixed"),
            ),
        ),
        Claim(
            "running", "Running averages are terrible: population statistics need an extra pass over the training set.",
            "Cooijmans et al., ICLR 2017, and their code",
            contrast=scores(
                norms=BASE, against={"mode": "running"},
                only={"data": framed_first, "mode": "population", "region": "all", "padding": "no"},
                label="{data}{batches}",
            ),
        ),
        Claim(
            "constant", "Where all sequences of a batch agree, as in their first symbol, stored statistics break.",
            "after Cooijmans et al., ICLR 2017, who saw zero variance break the gradient",
            contrast=Contrast(
                "tried", "difference of scores", against={"data": RAGGED}, by=("norm", "mode"), turned=True,
                needed=0.01,
                only={**PLAIN, "data": FRAMED, "mode": MODES[:2], "region": "all"}, label="{norm}, {mode}",
            ),
        ),
        Claim(
            "lag", "Running averages fail because they lag behind the weights, not because they are noisy.",
            "Ioffe & Szegedy, ICML 2015 (population statistics at fixed weights); Cooijmans et al., ICLR 2017",
            contrast=Contrast(
                "lag_minus_noise", "difference of scores", by=("batches", "data", "region"), needed=least,
                only={"data": framed_first, "region": ["all", "late"]},
                label="{data}{batches}, {region}, lag minus noise",
            ),
        ),
        Claim(
            "rows", "Few rows are to blame: leaving out steps with less than 8 cures the late steps.",
            "Cooijmans et al., code of ICLR 2017 (low sample size in later steps)",
            contrast=cured(":min_rows=8"),
        ),
        Claim(
            "tail",
            "The thin tail before T_max is to blame: one pooled slot for all of its steps cures the late steps.",
            "after Cooijmans et al., ICLR 2017, who repeat the last step's statistics beyond T_max",
            contrast=cured("tail=pool"),
        ),
        Claim(
            "cure",
            "Only recalibration makes statistics per step usable: no cheaper cure comes as close to each batch's own.",
            "Cooijmans et al., ICLR 2017 (`an extra pass over the training set`)",
            contrast=(
                recalibrated(only={**PLAIN, "mode": "running", "data": [RAGGED, OWN], "region": ["late", "all"]}),
                recalibrated(only={**PLAIN, "mode": "running", "data": FRAMED, "region": "all"}),
            ),
        ),
    )  # fmt: skip
    words: ClassVar[Words] = {
        "data": {
            RAGGED: "heavy-tailed lengths", "uniform": "uniform lengths", "fixed": "fixed lengths", OWN: "your data",
            FRAMED: "heavy-tailed lengths, first symbol constant", "JSB": "JSB (nats)",
        },
        "batches": {"similar": "", "mixed": ", mixed batches"},
        "mode": {"running": "running averages", "population": "population statistics", "batch": "each batch's own"},
        "region": {"late": "late steps", "all": "overall"},
    }  # fmt: skip
    plots = (
        Lines(
            "score_by_step", "score, {data}", "timestep t",
            "Scores by timestep: normalization per step loses at late steps.", only={"data": [RAGGED, OWN]}, x="t",
            log="x", ticks=STEPS, line="{norm}, {mode}", also=mark_late,
            styles=lambda line: "--" if "population" in line else ":" if "own" in line else None,
        ),
        Lines(
            "moments_off_by", "stored moments are off by (standard deviations of a normalized value)",
            "timestep, counted from 1", "Error of stored statistics by timestep.", x="t", log="xy", ticks=STEPS,
            line="{what}", marker=None, colours=["#d77810", "#4e6dea", "#2d6779", "#b04db1", "#48bc90"],
            styles=lambda line: "--" if "population" in line else None,
        ),
        Points(
            "gap_by_lengths", "lengths",
            "gap: score by the batch's own statistics minus by running averages", "The gap by distribution of lengths.",
            only={"data": [*LENGTHS, FRAMED, OWN], "region": "all", "batches": "similar"}, line="{norm}, {data}",
        ),
        Points(
            "tried", "cures and padding, {region}", "score by running averages",
            "Cures, and padding counted, at late steps.",
            only={"data": [RAGGED, OWN], "region": late_if_any}, line="{way}{batches}",
        ),
    )  # fmt: skip
    sentences = (
        scored(only={"data": FRAMED, "region": "all"}),
        scored(only={"data": lambda found: [data for data in telling(found) if data != FRAMED], "region": late_if_any}),
        Sentence(
            "Late steps of {data}{batches} begin at t = {late_start:.0f}; one has {late_active:.0f} rows and comes in "
            "{late_visits:.0%} of the batches.",
            by=("data", "batches"),
        ),
        Sentence(
            f"Padding counted in the statistics of {BASE}, finished sequences {{padding}} ({{region}} of "
            "{data}{batches}, running averages): {tried:.3f}, {harm:+.3f} against statistics without it.",
            by=("data", "batches", "region", "padding"), only={"region": late_if_any, "padding": FINISHED},
        ),
        Sentence(
            "Best first, {region} of {data}: {items}.", by=("data", "region"), items="{way} {tried:.3f}",
            over=("way",), only={"data": telling, "region": late_if_any, **PLAIN}, rising=False, least=2,
        ),
    )  # fmt: skip

    def trials(self) -> list[Trial]:
        """Lengths, framed data, mixed batches, cures, padding, real data; of the user's data what makes sense."""
        settings, option, made = self.settings, self.settings.option, list[Trial]()
        config, inner = settings.configured(), dict(settings.config["data"])

        def arm(
            data: str, norms: Iterable[str], config: dict[str, Any], batches: str = "similar", padding: str = "no"
        ) -> None:
            here = {"data": data, "batches": batches, "padding": padding}
            for norm in dict.fromkeys(norms):
                slow = 4.0 if padding != "no" or norm.startswith("brn") else 1.0
                made.extend(self.grid(here, [norm], config=config, weight=slow))

        name, batches = OWN if settings.own else RAGGED, "similar"
        arm(name, [*settings.norms, *self._chosen(option("cures"))], config)
        if not settings.own:
            stored = [norm for norm in settings.norms if has_batch_statistics(rnnnorm.LSTM(4, 4, norm=norm))]
            for lengths in LENGTHS[1:]:  # without stored statistics there is no gap that could change
                arm(lengths, stored, settings.configured(data={"length_distribution": lengths}))
            original = {"class_path": ORIGINAL, "init_args": dict(inner["init_args"])}
            arm(FRAMED, self._chosen(option("framed_norms")), settings.configured(data=original))
        if can_be_rearranged(inner["class_path"]):
            rearranged = {"class_path": REARRANGED, "init_args": {"batches": "mixed", "data": inner}}
            config, batches = settings.configured(data=rearranged), "mixed"
            arm(name, self._chosen(option("mixed_norms")), config, batches)
        for finished in FINISHED:
            # With vertical normalization alone, what finished sequences do meanwhile changes nothing.
            norms = [BASE, VERTICAL] if finished == "running" else [BASE]
            arm(name, self._chosen(norms), counting(config, finished), batches, finished)
        if settings.data_dir is not None and not settings.own:
            for name, spec in option("real").items():
                parts = {key: spec.get(key, {}) for key in ("model", "trainer")}
                config = settings.configured(data=in_folder(spec["data"], settings.data_dir), **parts)
                arm(name, self._chosen(spec["norms"]), config)
                if name in option("real_padding"):
                    arm(name, self._chosen([BASE]), counting(config, "frozen"), padding="frozen")
        return made

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
        model, padding = trained.model(), str(trial.conditions["padding"])
        if padding != "no":
            CountPadding(padding).apply(model)
        yield from ragged_measures.measure(model, trained.data(), by_step=padding == "no")

    def derive(self, m: pd.DataFrame) -> Iterable[pd.DataFrame]:
        """Scores by their way, lag and noise, the gap by lengths, late rows, curves: see `ragged_tables`."""
        m = m.reindex(columns=list(dict.fromkeys([*m, *self.columns])))
        yield m[m["quantity"] != "score"]
        yield from ragged_tables.scores(m)
        yield ragged_tables.lag_and_noise(m, least)
        yield ragged_tables.by_lengths(m)
        yield from ragged_tables.by_step(m)

    def findings(self, m: pd.DataFrame) -> list[str]:
        """The sentences, and the cure with the best score: late, or overall where there is no late step.

        Counted padding is no cure: what it does is said by itself, and real data do not confirm that it helps.
        """
        tried = where(self.derived(m), quantity="tried", batches="similar", padding="no")
        tried = narrowed(tried, {"data": [RAGGED, OWN], "region": late_if_any})
        usual, norms = per_seed(tried, way=BASE), cures(occurring(tried, "norm"))
        found = {RECALIBRATION: per_seed(tried, way=RECALIBRATION)}
        found |= {f"`{norm}`": per_seed(tried, norm=norm) for norm in norms}
        effects = {name: estimate(difference(values, usual)) for name, values in found.items()}
        effects = {name: effect for name, effect in effects.items() if effect.n}
        if not effects:
            return super().findings(m)
        name = max(effects, key=lambda key: effects[key].mean)
        best, others = effects[name], [key for key, effect in effects.items() if effect.low > 0 and key != name]
        verb = "Advice: use" if best.low > 0 else "No cure is beyond doubt; the best on average is"
        helpful = f"Also helpful: {'; '.join(others)}." if others else "Nothing else helps beyond the seeds' spread."
        spread = f"{best.mean:+.3f} [{best.low:+.3f}, {best.high:+.3f}]"
        return [*super().findings(m), f"{verb} {name}: {spread} over the default's running averages. {helpful}"]

    def says(self, cases: Sequence[Case]) -> str:
        """In how many conditions the claim holds and fails, and between which effects."""
        counts = Counter(case.standing for case in cases)
        rest = len(cases) - counts[HOLDS] - counts[FAILS]
        says = f"Of {len(cases)} conditions it holds in {counts[HOLDS]} and fails in {counts[FAILS]}; open: {rest}."
        alike = sorted((c for c in cases if "(nats)" not in c.condition), key=lambda c: c.effect.mean) or [*cases]
        words = [
            f"{e.mean:+.3f} [{e.low:+.3f}, {e.high:+.3f}] ({case.condition})"
            for case, e in ((case, case.effect) for case in (alike[-1], alike[0]))
        ]
        return (
            f"{says} Largest effect {words[0]}; smallest {words[1]}."
            if len(cases) > 1
            else f"{says} Effect {words[0]}."
        )

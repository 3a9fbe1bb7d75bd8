"""Lead sentences of a report: which differences from the baseline are shown, and which are not."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rnnnorm.common.estimate import Estimate
from rnnnorm.report.differences import Difference, Differences
from rnnnorm.report.inference import ALPHA
from rnnnorm.report.numbers import listed, number


def claims(found: Differences, metric: str, scale: float = math.inf) -> list[str]:
    """Sentences on the differences from the baseline; together with `best` their family-wise error is at most 5 %.

    A norm is said to be better or worse only where Holm's corrected p value is below 0.05. Otherwise the sentence says
    that no difference can be shown, and which differences can be excluded: those beyond all simultaneous intervals.

    Args:
        found: the differences.
        metric: what they are differences of.
        scale: the largest score; a limit beyond it is no news.
    """
    base = f"`{found.baseline}`"
    if not found.others:
        return []
    if found.seeds < 2:
        return [
            f"One seed cannot tell a difference from {base} from luck: it takes at least two, better five (--seeds)."
        ]
    shown = [one for one in found.others if one.differs]
    open_ = [one for one in found.others if not one.differs and len(one.seeds) > 1 and not one.equal]
    said = []
    for word, sign in (("Better", 1), ("Worse", -1)):
        its = [one for one in shown if sign * one.seedwise.mean > 0]
        if its:
            items = [
                f"`{one.norm}` by {number(abs(one.seedwise.mean), found.digits)} ({_bounds(one, sign, found.digits)})"
                for one in its
            ]
            said.append(f"{word} than {base} in test {metric}: {listed(items)}{_over(its)}.")
    if open_:
        of = f"any of the {len(open_)} other norms" if len(open_) > 3 and not shown else _names(open_)
        limit = max(max(-one.simultaneous.low, one.simultaneous.high) for one in open_)
        rest = f"differences of more than {number(limit, found.digits)} are excluded"
        if limit > scale:
            rest = "so few seeds exclude hardly any"
        said.append(f"No difference from {base} in test {metric} can be shown for {of}{_seeds(open_)}; {rest}.")
    same = [one for one in found.others if one.equal]
    if same:
        said.append(
            f"For {_names(same)} the difference from {base} is the same on all seeds, which leaves no spread to judge "
            "it by: none can be shown."
        )
    alone = [one for one in found.others if len(one.seeds) == 1]
    if alone:
        said.append(f"{_names(alone)} and {base} have one seed in common, which cannot tell a difference from luck.")
    return said


def best(found: Differences, score: str, seeds: int) -> str:
    """The sentence on the best norm: never without whether the runner-up can be told apart from it.

    Args:
        found: the differences, with two norms or more.
        score: of the best norm, in words.
        seeds: how many it is over.
    """
    one = found.best
    assert one is not None
    over = f"{score} over {seeds} seeds" if seeds > 1 else f"{score} (one seed)"
    lead = one.seedwise.mean
    if not one.seeds:
        return f"`{one.norm}` did best, with {over}; it has no seed in common with the runner-up, `{one.other}`."
    if len(one.seeds) == 1:
        return (
            f"`{one.norm}` did best, with {over}; one seed cannot tell whether its lead of "
            f"{number(lead, found.digits)} over `{one.other}` is luck."
        )
    if one.equal:
        return (
            f"`{one.norm}` did best, with {over}, but cannot be told apart from the runner-up, `{one.other}`: its lead "
            f"is {number(lead, found.digits)} on each seed, which leaves no spread to judge it by."
        )
    bounds = f"{number(lead, found.digits)} ahead, {_interval(one.simultaneous, found.digits)}"
    if one.differs and lead > 0:
        return (
            f"`{one.norm}` did best, with {over}, and can be told apart from the runner-up, `{one.other}` ({bounds})."
        )
    return f"`{one.norm}` did best, with {over}, but cannot be told apart from the runner-up, `{one.other}` ({bounds})."


def beyond(found: Differences, units: str) -> str:
    """The sentence on what the finite test set adds.

    Args:
        found: differences with intervals over test sequences; without, there is no sentence.
        units: how many sequences: `370 test sequences`.
    """
    known = [one for one in found.others if not math.isnan(one.sequences.low)]
    if not known:
        return ""
    shown = [one for one in known if one.differs and not math.isnan(one.p_both)]
    if not shown:
        width = max(max(one.seedwise.mean - one.sequences.low, one.sequences.high - one.seedwise.mean) for one in known)
        return (
            f"The test set is a sample, too: other draws of its {units} would move these differences by up to "
            f"{number(width, found.digits)}."
        )
    fails = [one for one in shown if not one.p_both < ALPHA]
    holds = [one for one in shown if one.p_both < ALPHA]
    said = f"With the sampling error of the {units} counted, too, the difference of"
    if not holds:
        return f"{said} {_names(fails)} is not shown."
    rest = f", that of {_names(fails)} is not" if fails else ""
    return f"{said} {_names(holds)} is still shown{rest}."


def _bounds(one: Difference, sign: int, digits: int) -> str:
    low, high = sorted((sign * one.simultaneous.low, sign * one.simultaneous.high))
    return f"{number(low, digits)} to {number(high, digits)}"


def _interval(found: Estimate, digits: int) -> str:
    return f"{number(found.low, digits)} to {number(found.high, digits)}"


def _over(its: Sequence[Difference]) -> str:
    return f"{_seeds(its)}, with simultaneous 95 % intervals"


def _seeds(its: Sequence[Difference]) -> str:
    low, high = min(len(one.seeds) for one in its), max(len(one.seeds) for one in its)
    return f" over {high} seeds" if low == high else f" over {low} to {high} seeds"


def _names(its: Sequence[Difference]) -> str:
    return listed([f"`{one.norm}`" for one in its])

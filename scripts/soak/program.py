"""A case as a small program of text, run with rnnnorm's classes and with those that it is measured by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from soak.deviations import reason_for
from soak.execution import Result, execute, execute_apart
from soak.numbers import difference
from soak.sides import OURS, REFERENCE, TORCH, WIDE
from soak.verdict import (
    ACCEPTED,
    ALLOWED,
    FAILED,
    KIND,
    REFUSED,
    SILENT,
    STRICTER,
    UNNAMED,
    WRONG,
    Error,
    Verdict,
    gist,
)


@dataclass(frozen=True)
class Program:
    """A case as Python statements.

    Args:
        lines: the statements; names are those of `soak.sides`.
        torch: whether torch's own classes can run them, so that what they refuse must be refused.
        numbers: whose numbers must agree with ours: "torch", "reference" or nobody's.
        finite: whether all numbers are moderate; otherwise gradients are not compared.
        must_refuse: why nobody may accept this; "" if others are to judge.
        plain: whether nothing is asked for that torch does not have, so that what it accepts should be accepted.
        names: of which a refusal has to name one; empty if it need not.
        kinds: error classes that users can expect here beside ValueError, TypeError and RuntimeError; "torch" is
            whatever torch raises. The very error that torch raises is always right.
        tolerance: of numbers, instead of that of their type.
        seed: of random numbers.
    """

    lines: tuple[str, ...]
    torch: bool = True
    numbers: str = ""
    finite: bool = True
    must_refuse: str = ""
    plain: bool = True
    names: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ("torch",)
    tolerance: float = 0.0
    seed: int = 0

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def run(self, announce: Callable[[str], None], alone: str = "") -> Verdict:
        """Run it on every side, or on one `alone`; `announce` is told which one comes next.

        Torch's classes do harm to memory here and there when they are given garbage: they run in another process.
        """
        if alone:
            announce(alone)
            execute(self.text, alone, self.seed)
            return Verdict(ACCEPTED)
        results: dict[str, Result] = {}
        for side in (OURS, *[REFERENCE] * (self.numbers == REFERENCE)):
            announce(side)
            results[side] = execute(self.text, side, self.seed)
        if not self.torch:
            return self._judge(results, announce)
        for fresh in (False, True):
            announce(f"{TORCH}, apart")
            result = execute_apart(self.text, TORCH, self.seed, fresh)
            theirs = {} if result is None else {TORCH: result}
            if self.numbers == TORCH and result is not None and result.error and not results[OURS].error:
                announce(REFERENCE)  # whether or not this refusal is one for us, too: are at least the numbers right?
                theirs[REFERENCE] = execute(self.text, REFERENCE, self.seed)
            verdict = self._judge({**results, **theirs}, announce)
            if verdict.label != FAILED:
                break  # otherwise it may be the harm that another case has done there: once more elsewhere
        return verdict

    def _judge(self, results: dict[str, Result], announce: Callable[[str], None]) -> Verdict:
        ours = results[OURS]
        others = {side: result for side, result in results.items() if side != OURS}
        for side, result in others.items():
            if side not in (self.numbers, REFERENCE):
                continue
            found = difference(result.recorded, ours.recorded, self.finite, self.tolerance)
            if found is None:
                continue
            announce(WIDE)
            truth = execute(self.text, WIDE, self.seed).recorded
            found = difference(result.recorded, ours.recorded, self.finite, self.tolerance, truth)
            if found is not None:
                name, text = found
                return self._failed(WRONG, f"{name} beside {side}", f"{name}, beside {side}: {text}")
        errors = {side: result.error for side, result in others.items() if result.error}
        return self._accepted(errors) if ours.error is None else self._refused(ours.error, errors)

    def _accepted(self, errors: dict[str, Error]) -> Verdict:
        verdicts = [
            self._failed(SILENT, f"{side}: {error.kind}: {gist(error.message)}", f"{side}: {error}")
            for side, error in errors.items()
        ]
        if self.must_refuse:
            verdicts.append(self._failed(SILENT, self.must_refuse, self.must_refuse))
        verdicts.sort(key=lambda verdict: verdict.label == ALLOWED)
        return verdicts[0] if verdicts else Verdict(ACCEPTED)

    def _refused(self, error: Error, errors: dict[str, Error]) -> Verdict:
        line = self.lines[min(error.line, len(self.lines) - 1)]
        group = f"{error.kind} in {error.where}: {gist(error.message)}"
        same = any(gist(error.message) == gist(other.message) for other in errors.values())
        as_torch = TORCH in errors and error.kind == errors[TORCH].kind and (same or "torch" in self.kinds)
        if not (error.proper or error.kind in self.kinds or as_torch):
            return self._failed(KIND, f"{error.kind} in {error.where}", f"{error} at {line!r}")
        if self.names and not same and not any(name in error.message for name in self.names):
            return self._failed(UNNAMED, group, f"{error}; expected one of {', '.join(self.names)}")
        if errors or self.must_refuse or not self.plain:
            return Verdict(REFUSED)
        return Verdict(STRICTER, group=group, detail=str(error))

    def _failed(self, failure: str, group: str, detail: str) -> Verdict:
        reason = reason_for(failure, self.text, detail)
        return Verdict(ALLOWED if reason else FAILED, failure, reason or group, detail)

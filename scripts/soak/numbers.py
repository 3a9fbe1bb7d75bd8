"""Comparison of what a program has recorded on two sides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

TOLERANCE = {torch.float64: 1e-7, torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 0.1}
"""Relative to the largest entry of a tensor."""

LEAST, NOTHING = 1e-2, 1e-5
"""What counts as small, beside 1 or, of gradients, beside the largest of them; and what is small beside anything."""

WORSE = 10.0
"""How many times further from the truth ours may be than what it is compared with."""


def difference(
    theirs: Mapping[str, Any],
    ours: Mapping[str, Any],
    finite: bool,
    tolerance: float = 0.0,
    truth: Mapping[str, Any] | None = None,
) -> tuple[str, str] | None:
    """What differs first, by name, and how; None if nothing does.

    Args:
        theirs: what is right.
        ours: what is to be judged; where one side was ended by an error, what both have recorded counts.
        finite: whether gradients are to be compared, too.
        tolerance: instead of that of the numbers' type; 0 is the latter.
        truth: the same in double precision: where theirs is far from it, too, the case has no better numbers.
    """
    gradients = [v for n, v in theirs.items() if n.startswith("gradient") and _numbers(v)]
    largest = max((float(v.abs().nan_to_num(0, 0, 0).max()) for v in gradients), default=0.0)
    for name, expected in theirs.items():
        is_gradient = name.startswith("gradient")
        if name not in ours or (is_gradient and not finite):
            continue
        least = max(LEAST * (largest if is_gradient else 1.0), NOTHING)
        found = _differs(expected, ours[name], tolerance, least, None if truth is None else truth.get(name))
        if found:
            return name, found
    return None


def _numbers(value: Any) -> bool:
    if not isinstance(value, Tensor) or value.is_meta or not value.numel():
        return False
    return value.is_floating_point() or value.is_complex()


def _differs(expected: Any, actual: Any, tolerance: float, least: float, truth: Any) -> str | None:
    if not isinstance(expected, Tensor) or not isinstance(actual, Tensor):
        same = type(expected) is type(actual) and expected == actual
        return None if same else f"{str(actual)[:100]} instead of {str(expected)[:100]}"
    for what in ("shape", "dtype", "device"):
        if getattr(actual, what) != getattr(expected, what):
            return f"{what} {getattr(actual, what)} instead of {getattr(expected, what)}"
    if not _numbers(expected):
        same = expected.is_meta or torch.equal(expected, actual)
        return None if same else f"{actual.tolist()} instead of {expected.tolist()}"[:200]
    if expected.is_complex():
        expected, actual = torch.view_as_real(expected.resolve_conj()), torch.view_as_real(actual.resolve_conj())
    allowed = tolerance or TOLERANCE[expected.dtype]
    a, e = actual.double().flatten(), expected.double().flatten()
    bad, wanted = ~a.isfinite(), ~e.isfinite()
    if bool((bad != wanted).any()):
        more = int((bad & ~wanted).sum())
        what = f"{more} more are not finite" if more else f"{int((wanted & ~bad).sum())} more are finite"
        return f"of {a.numel()} entries {what}"
    if bool(bad.all()):
        return None
    scale, error = float(e[~bad].abs().max()), float((a - e)[~bad].abs().max())
    room = allowed * max(scale, least)
    if error <= room:
        return None
    if _numbers(truth) and truth.is_floating_point() and truth.shape == expected.shape:
        t = truth.double().flatten()[~bad]
        if float((a[~bad] - t).abs().max()) <= WORSE * float((e[~bad] - t).abs().max()) + room:
            return None
    return f"error {error:.3g} in numbers up to {scale:.3g}"

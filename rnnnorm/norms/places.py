"""Places: the normalizers of a recurrent layer, and where each of them stands."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..common.ranges import FLAG
from ..common.suggestions import did_you_mean
from .base import options_of
from .use import Use

PLACES = ("input", "hidden", "joint", "cell", "output", "emitted", "between")


@dataclass(frozen=True)
class Norm:
    """The normalizers of a recurrent layer: which one stands at which place, here in an LSTM.

        a_t = N_joint(N_input(W_ih x_t) + N_hidden(W_hh h_{t-1})) + b      i, f, o = σ(·)   g = tanh(·)
        c_t = f ⊙ c_{t-1} + i ⊙ g          h_t = N_output(o ⊙ tanh(N_cell(c_t)))

    A GRU and a plain RNN have the same places but `cell`, with 3H and H features at the gates; see
    `rnnnorm.equations`.

    Args:
        input: vertical, on all rows of W_ih x; F = 4H, a gain and no bias.
        hidden: horizontal, on the active rows of W_hh h_{t-1}; F = 4H, a gain and no bias.
        joint: horizontal, on the active rows of the sum W_ih x + W_hh h_{t-1}; F = 4H, a gain and no bias.
        cell: on the active rows of c_t, on the way to the output; F = H, gain and bias.
        output: on the active rows of o ⊙ tanh(·), before any projection; F = H, gain and bias.
        emitted: vertical, on all rows that leave a layer and direction, after any projection, but not on what goes back
            into its recurrence: h_t and the last states stay as they are; F = H or proj_size, gain and bias. With
            `gn:groups=k:bias=false` it is the multi-head norm of xLSTM with k heads (Beck et al. 2024).
        between: vertical, on all rows that leave one layer for the next.
        carried: c_t itself is replaced by N_cell(c_t) and carried on: another model, in wide circulation.
        name: what the user called it; for display.

    A place takes None, `"ln"`, `"bn:statistics=timestep:gain=0.1"` or a `Use`. `wn` at `input` (`hidden`)
    reparametrizes W_ih (W_hh).

    Raises:
        ValueError: unknown normalizer or option, or one that cannot stand at that place.

    Example:
        >>> print(Norm(input="ln", hidden="bn:statistics=timestep:gain=0.1"))
        input=ln+hidden=bn:statistics=timestep:gain=0.1
    """

    input: Use | None = None
    hidden: Use | None = None
    joint: Use | None = None
    cell: Use | None = None
    output: Use | None = None
    emitted: Use | None = None
    between: Use | None = None
    carried: bool = False
    name: str = field(default="", compare=False)

    def __init__(
        self,
        input: Use | str | None = None,
        hidden: Use | str | None = None,
        cell: Use | str | None = None,
        between: Use | str | None = None,
        carried: bool = False,
        name: str = "",
        *,
        joint: Use | str | None = None,
        output: Use | str | None = None,
        emitted: Use | str | None = None,
    ) -> None:
        values = {
            "input": input, "hidden": hidden, "joint": joint, "cell": cell, "output": output, "emitted": emitted,
            "between": between,
        }  # fmt: skip
        for place, value in values.items():
            use = Use.parse(value)
            if use is not None:
                use.check(place)
            object.__setattr__(self, place, use)
        carried = FLAG.check("carried", carried)
        if carried and self.cell is None:
            raise ValueError("carried=True replaces c_t by N_cell(c_t), but cell=None")
        object.__setattr__(self, "carried", carried)
        object.__setattr__(self, "name", name or str(self))

    @property
    def places(self) -> dict[str, Use]:
        """The occupied places, in the order of the equations."""
        uses = {place: getattr(self, place) for place in PLACES}
        return {place: use for place, use in uses.items() if use is not None}

    @property
    def effective(self) -> tuple[Any, ...]:
        """All that it computes with, defaults included: equal for norms that are the same, however they are written."""
        places = []
        for place, use in self.places.items():
            options = {key: parameter.default for key, parameter in options_of(use.cls).items()} | dict(use.options)
            same = {key: float(value) if type(value) is int else value for key, value in options.items()}
            places.append((place, use.normalizer, repr(sorted(same.items()))))
        return self.carried, *places

    @property
    def starts_from_data(self) -> bool:
        """Whether some weight normalizer asks for data-dependent initialization (`wn:init=data`)."""
        return any(use.options.get("init") == "data" for use in self.places.values() if use.is_weight)

    def without(self, place: str) -> Norm:
        """A copy under the same name, with nothing at that place."""
        uses: dict[str, Any] = {p: use for p, use in self.places.items() if p != place}
        return Norm(**uses, carried=self.carried, name=self.name)

    def override(self, options: Mapping[str, Any], name: str = "") -> Norm:
        """A copy with options changed: `gain` at every place that has a gain, `hidden.gain` at that place only.

        Raises:
            ValueError: no place has that option; the message lists what exists.
        """
        uses: dict[str, Use] = self.places
        carried = self.carried
        for key, value in options.items():
            if key == "carried":
                carried = value
                continue
            place, dot, option = key.rpartition(".")
            targets = [p for p in uses if (not dot or p == place) and uses[p].accepts(option)]
            if not targets:
                exist = sorted({o for u in uses.values() for o in options_of(u.cls)})
                hint = did_you_mean(option, exist) if option not in exist else did_you_mean(place, uses)
                raise ValueError(
                    f"norm {self.name!r} has no option {key!r}; it has: {', '.join(exist) or 'none'}"
                    + (f"; places: {', '.join(uses)}" if dot else "")
                    + hint
                )
            for p in targets:
                uses[p] = replace(uses[p], options={**uses[p].options, option: value})
        return Norm(**uses, carried=carried, name=name or self.name)

    def written(self) -> str:
        """The expression that builds it: `Norm(input='ln', cell='bn:gain=0.1')`."""
        parts = [f"{place}={str(use)!r}" for place, use in self.places.items()]
        return f"Norm({', '.join(parts + ['carried=True'] * self.carried)})"

    @staticmethod
    def by_place(text: str) -> Norm | None:
        """Read `input=ln+hidden=bn:statistics=timestep+carried`, as `str` writes it; None for a text of another kind.

        Raises:
            ValueError: no such place, one that is given twice, or whatever the constructor refuses.
        """
        if not re.match(r"\s*\w+\s*=", text):
            return None
        uses: dict[str, Any] = {}
        for part in re.split(r"\+(?=\s*[A-Za-z_])", text):  # not the plus sign of 1e+05
            place, equals, use = (word.strip() for word in part.partition("="))
            if place not in PLACES and part.strip() != "carried":
                hint = did_you_mean(place, PLACES)
                raise ValueError(
                    f"norm {text!r}: no place {place!r}{hint}; expected place=normalizer+place=normalizer, with the "
                    f"places {', '.join(PLACES)}, and carried"
                )
            if place in uses:
                raise ValueError(f"norm {text!r}: {place!r} is given twice")
            if not use and part.strip() != "carried":
                raise ValueError(f"norm {text!r}: {place!r} names no normalizer, as in {place}=ln")
            uses[place] = use if equals else True
        return Norm(**uses)

    def __str__(self) -> str:
        parts = [f"{place}={use}" for place, use in self.places.items()] + (["carried"] if self.carried else [])
        return "+".join(parts) or "none"

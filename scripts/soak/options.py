"""Cases: options of normalizers, as users type them."""

from __future__ import annotations

import inspect

import rnnnorm
from rnnnorm.norms import options_of
from soak.draw import Draw
from soak.networks import NORMS
from soak.program import Program

VALUES = {
    "float": ("0.1", "1.0", "1e-3", "0.9", "0.5", "2"),
    "int": ("1", "2", "3", "4"),
    "bool": ("true", "false"),
    "str": ("timestep", "sequence", "shared", "last", "data", "none"),
}
ODD = ("-1", "0", "1e30", "1e-30", "0.999999", "7", "1e-320", "true", "none", "1e3")
HOPELESS = {
    "float": ("abc", "nan", "inf", "-inf", "[]", "(1, 2)", "1e400", "'1.0'x", "1j", "{}", "0x", "π"),
    "int": ("abc", "nan", "inf", "2.5", "[1]", "1_", "ten", "1j"),
    "bool": ("abc", "2", "yes", "[]", "0.5", "TRUE!", "wahr"),
    "str": ("garbage", "3.5", "[]", "Timestep ", "steps", "{1}"),
}
NEVER = {"eps": ("0", "-1", "-1e-5")}
"""Values outside the range of an option that every normalizer shares."""
WRECKS = (
    "{0}:",
    "{0}::",
    "{0}:=1",
    "{0}:gain",
    "{0}:gain=",
    "{0}:gain=1:gain=2",
    ":{0}",
    "{0} gain=1",
    "{0};gain=1",
    "{0}:input.gain",
    "{0}:.gain=1",
    "{0}:gain.=1",
    "{0}:middle.gain=1",
    "{0}:no_such=1",
    "{0}:norm=ln",
    "{0}:num_features=3",
    "{0}:self=1",
    "{0}:kw=1",
    "{0}:device=meta",
    "{0}:__class__=1",
    "{0}:gain=" + "9" * 400,
    "{0}:gain=" + "(" * 200,
    "{0}\\x00:gain=1",
    "{0}:gain=__import__('os')",
)


def kind_of(annotation: object) -> str:
    """Which of `VALUES` an option takes."""
    text = str(annotation)
    return next((kind for kind in ("bool", "int", "float", "str") if kind in text), "float")


def _options(norm: str) -> dict[str, str]:
    found = {}
    for use in rnnnorm.presets()[norm].norm.places.values():
        for cls in use.cls.__mro__:
            constructor = vars(cls).get("__init__")
            for name, parameter in inspect.signature(constructor).parameters.items() if constructor else ():
                if name in options_of(use.cls) and parameter.annotation is not inspect.Parameter.empty:
                    found.setdefault(name, kind_of(parameter.annotation))
    return found


OPTIONS = {norm: _options(norm) for norm in NORMS}


def options(draw: Draw) -> Program:
    """A preset with an override or two, and, if it is accepted, one training step."""
    norm = draw.pick(NORMS)
    name = draw.pick(("LSTM", "LSTM", "LSTM", "GRU", "RNN", "LSTMCell"))
    must, told, bad, chosen = "", norm, "", list[str]()
    if draw.chance(0.15):
        told, must = draw.pick(WRECKS).format(norm), "a norm that cannot be read"
    else:
        chosen = draw.sample(list(OPTIONS[norm]), draw.pick((1, 1, 2)))
        for option in chosen:
            kind = OPTIONS[norm][option]
            roll = draw.integer(0, 9)
            if roll < 4 and not bad:
                value, bad = draw.pick(HOPELESS[kind]), option
                must = f"{option}={value}"
            elif roll < 5 and option in NEVER and not bad:
                value, bad = draw.pick(NEVER[option]), option
                must = f"{option}={value}"
            else:
                value = draw.pick(ODD if roll < 7 else VALUES[kind])
            told += f":{option}={value}"
    cell = name == "LSTMCell"
    lines = [f'm = {name}(3, 4, norm="{told}")', "see(m.state_dict(), 'state')"]
    lines += ["x = randn(4, 3).requires_grad_()" if cell else "x = randn(5, 4, 3).requires_grad_()"]
    lines += ["out = m(x, step=0)" if cell and draw.chance(0.5) else "out = m(x)"]
    lines += ["see(out)", "loss(out).backward()", "see_gradients(m, x)"]
    odd = any(f"={value}" in told for value in ("1e30", "1e-30", "1e-320", "0.999999", "-1", "0:", "0"))
    return Program(
        tuple(lines),
        torch=False,
        plain=False,
        numbers="" if cell else "reference",
        finite=not odd,
        must_refuse=must,
        names=tuple(chosen),
        kinds=(),
        seed=draw.number,
    )

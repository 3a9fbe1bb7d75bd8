"""Cases: arguments of constructors, good and bad."""

from __future__ import annotations

from soak.draw import Draw
from soak.networks import CELLS, LAYERS, NORMS
from soak.program import Program
from soak.values import ANY, ENDLESS, NO_NUMBERS

INTEGER, FLAG, SHARE, WORD, PLACE, TYPE = "integer", "flag", "share", "word", "place", "type"
SHARED = {
    "input_size": INTEGER,
    "hidden_size": INTEGER,
    "num_layers": INTEGER,
    "bias": FLAG,
    "batch_first": FLAG,
    "dropout": SHARE,
    "bidirectional": FLAG,
    "proj_size": INTEGER,
    "device": PLACE,
    "dtype": TYPE,
}
OWN = {
    "norm": WORD,
    "max_steps": INTEGER,
    "init": WORD,
    "initial_state": WORD,
    "initial_state_noise": SHARE,
    "peepholes": FLAG,
    "residual": WORD,
    "residual_scale": SHARE,
    "between_on": WORD,
    "variational_dropout": SHARE,
    "hidden_dropout": SHARE,
    "recurrent_dropout": SHARE,
    "weight_dropout": SHARE,
    "zoneout": SHARE,
    "backend": WORD,
}
GOOD = {
    INTEGER: ("1", "2", "3", "4", "5"),
    FLAG: ("True", "False"),
    SHARE: ("0", "0.0", "0.5", "1.0", "1"),
    PLACE: ("None", "'cpu'", "'meta'", "device('cpu')"),
    TYPE: ("None", "float32", "float64", "float16", "bfloat16"),
}
BAD = {
    INTEGER: ANY,
    FLAG: ANY,
    SHARE: ANY,
    PLACE: ("'gpu'", "'cpu:7'", "-1", "''", "2.5", "[]", "'cuda:99'", "float32", "'mkldnn'", "object()"),
    TYPE: ("int32", "bool", "int8", "'float32'", "np.float32", "float", "32", "[]", "torch.quint8", "object()"),
}
WORDS = {
    "norm": ("None", "Norm(input='ln')", "Norm(cell='ln', carried=True)", *map(repr, NORMS)),
    "init": ("'torch'", "'orthogonal'", "'chrono'"),
    "initial_state": ("'zeros'", "'learned'"),
    "residual": ("'none'", "'plain'", "'skipinit'", "'fixup'"),
    "between_on": ("'branch'", "'sum'"),
    "backend": ("'auto'", "'native'", "'torch'", "'reference'"),
}
GARBAGE = {
    "'lnn'",
    "'LN'",
    "'ln:'",
    "'ln::'",
    "'ln:gain'",
    "'ln:gain=1:gain=2'",
    "'none:gain=1'",
    "'ln ln'",
    "':'",
    "'core'",
    "'all'",
    "'learned '",
    "'torch,reference'",
    "'cuda'",
    "'a' * 10000",
    "Norm",
    "norm",
}
REFUSED_BY_ALL = {
    INTEGER: {*NO_NUMBERS, "0", "-1", "2.5", "nan", "inf", "-inf", "-2**63", "-10**30", "True", "False"},
    FLAG: {*NO_NUMBERS, "2.5", "nan", "5"},
    SHARE: {*NO_NUMBERS, "-1", "nan", "inf", "-inf", "5", "2.5", "2**63", "-10**30"},
    WORD: {*(set(NO_NUMBERS) - {"None", "''"}), "2.5", "nan"},
}
"""Values of our own options that nobody may take for something else, by what the option is."""
FREE = {"None", "2.5", "5", "2**63"}  # values of a residual scale or of a standard deviation


def constructors(draw: Draw) -> Program:
    """One to three arguments of any value, and some good ones."""
    name = draw.pick((*LAYERS, *LAYERS, *CELLS))
    keys = {**SHARED, **OWN}
    for key in ("proj_size", "peepholes", "recurrent_dropout") if not name.startswith("LSTM") else ():
        del keys[key]
    if name in CELLS:
        keep = ["input_size", "hidden_size", "bias", "device", "dtype", "norm", "max_steps", "init"]
        keys = {key: keys[key] for key in (*keep, *(["peepholes"] if name == "LSTMCell" else []))}
    own = draw.chance(0.45)
    keys = {key: kind for key, kind in keys.items() if own or key in SHARED}
    given = {"input_size": draw.pick(GOOD[INTEGER]), "hidden_size": draw.pick(("3", "4", "5", "8"))}
    for key in draw.sample([*keys], draw.integer(0, 3)):
        given[key] = draw.pick(WORDS[key] if keys[key] == WORD else GOOD[keys[key]])
    bad = draw.sample([*keys], draw.pick((0, 1, 1, 1, 1, 2)))
    for key in bad:
        kind = keys[key]
        given[key] = draw.pick(tuple(sorted(GARBAGE)) if kind == WORD and draw.chance(0.5) else BAD.get(kind, ANY))
    if draw.chance(0.04):
        given[draw.pick(("nonlinear", "hidden", "norms", "proj", "hx"))] = "1"
    text = ", ".join(f"{key}={value}" for key, value in given.items())
    endless = given.get("num_layers") in ENDLESS
    hopeless = [key for key in bad if key not in SHARED and _hopeless(key, keys[key], given[key])]
    must = f"{hopeless[0]} of a wrong kind" if hopeless else "an endless number of layers" if endless else ""
    lines = [f"m = {name}({text})", "see({n: list(p.shape) for n, p in m.named_parameters()}, 'shapes')"]
    lines += ["if side == 'rnnnorm': repr(m)"]  # torch's own has errors
    plain = not any(key in OWN for key in given)
    return Program(
        tuple(lines),
        torch=not endless,
        numbers="torch" if plain and not endless else "",
        must_refuse=must,
        plain=plain,
        names=(*given, given.get("norm", "norm").strip("'")),
        kinds=(),
        seed=draw.number,
    )


def _hopeless(key: str, kind: str, value: str) -> bool:
    if key in ("residual_scale", "initial_state_noise") and value in FREE:
        return False
    if key in ("init", "initial_state", "residual", "between_on", "backend") and value in GARBAGE | {"None", "''"}:
        return True
    if key == "zoneout" and value in ("[]", "(4, 5)", "[4]"):
        return True
    return value in REFUSED_BY_ALL.get(kind, set())

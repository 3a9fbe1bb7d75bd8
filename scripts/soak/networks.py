"""Random networks and what fits them: the sound part of a case."""

from __future__ import annotations

from dataclasses import dataclass, field

import rnnnorm
from soak.draw import Draw

LAYERS, CELLS = ("LSTM", "GRU", "RNN"), ("LSTMCell", "GRUCell", "RNNCell")
NORMS = [name for name in rnnnorm.presets() if name != "none"]
NEEDS_CELL = ("ln-cell-only", "ln-carried", "normprop")
SIZES = (1, 2, 3, 5, 6, 8, 16, 17, 20, 33)
FEATURES = (1, 3, 4, 5, 8)
OWN = {  # options that torch does not have; the last column says whether random numbers are drawn
    "residual": ("'plain'", "'skipinit'", "'fixup'"),
    "init": ("'orthogonal'",),
    "initial_state": ("'learned'",),
    "initial_state_noise": ("0.1",),
    "variational_dropout": ("0.5",),
    "hidden_dropout": ("0.5", "1.0"),
    "weight_dropout": ("0.5",),
    "zoneout": ("0.1",),
    "max_steps": ("1", "3"),
}


@dataclass
class Network:
    """A module of moderate size and a batch that fits it.

    Args:
        name: of its class.
        F: features.
        H: hidden units.
        T: steps.
        B: sequences.
        layers: of them.
        directions: 1 or 2.
        projected: 0, or the size of h.
        batch_first: whether batches are (B, T, F).
        dtype: of its parameters.
        device: of its parameters.
        arguments: further ones, as text.
        own: whether some of them are not torch's.
        training: its mode.
    """

    name: str
    F: int
    H: int
    T: int
    B: int
    layers: int = 1
    directions: int = 1
    projected: int = 0
    batch_first: bool = False
    bias: bool = True
    dtype: str = "float32"
    device: str = "cpu"
    norm: str = "none"
    arguments: list[str] = field(default_factory=list)
    own: bool = False
    random: bool = False
    training: bool = True

    @property
    def is_cell(self) -> bool:
        return self.name in CELLS

    @property
    def has_cell_state(self) -> bool:
        return self.name.startswith("LSTM")

    @property
    def coarse(self) -> bool:
        """Whether its numbers have so few digits that those of gradients say little."""
        return self.dtype in ("float16", "bfloat16")

    @property
    def oracle(self) -> str:
        """Whose numbers ours must be: those of torch where nothing else is asked for."""
        if not self.own:
            return "" if self.random else "torch"
        return "" if self.is_cell else "reference"

    def lines(self) -> list[str]:
        """Its construction; the same seed draws torch's weights in single precision only."""
        built = [f"m = {self.name}({', '.join([str(self.F), str(self.H), *self.arguments])})"]
        return [*built, *["fill(m)"] * (self.dtype != "float32"), *["m.eval()"] * (not self.training)]

    def of(self) -> str:
        """Keys of a tensor of its type."""
        return ("" if self.dtype == "float32" else f", dtype={self.dtype}") + (
            "" if self.device == "cpu" else f", device='{self.device}'"
        )

    def shape(self, T: int | None = None, B: int | None = None, F: int | None = None) -> tuple[int, ...]:
        """Of a batch, with parts replaced."""
        T, B, F = (self.T if T is None else T), (self.B if B is None else B), (self.F if F is None else F)
        if self.is_cell:
            return (B, F)
        return (B, T, F) if self.batch_first else (T, B, F)

    def input(self) -> str:
        return f"randn{self.shape()}"[:-1] + self.of() + ")"

    def states(self, batch: int | None = None, unbatched: bool = False) -> list[str]:
        """One random tensor per state."""
        B = () if unbatched else (self.B if batch is None else batch,)
        first = () if self.is_cell else (self.layers * self.directions,)
        sizes = [self.projected or self.H, self.H][: 2 if self.has_cell_state else 1]
        return [f"randn{(*first, *B, size)}"[:-1].rstrip(",") + self.of() + ")" for size in sizes]


def network(draw: Draw, cells: bool = True, plain: float = 0.5, strange: bool = True) -> Network:
    """A random network.

    Args:
        draw: the choices of the case.
        cells: whether it may be a single cell.
        plain: the probability that nothing is normalized and no option is ours.
        strange: whether it may have low precision or no memory.
    """
    name = draw.pick(CELLS) if cells and draw.chance(0.12) else draw.pick((*LAYERS, "LSTM"))
    net = Network(name, draw.pick(FEATURES), draw.pick(SIZES), draw.integer(1, 6), draw.pick((1, 2, 3, 4, 5, 10)))
    given: dict[str, str] = {}
    if draw.chance(0.2):
        net.bias = False
        given["bias"] = "False"
    if not net.is_cell:
        if draw.chance(0.3):
            net.layers = draw.integer(2, 3)
            given["num_layers"] = str(net.layers)
        if draw.chance(0.3):
            net.directions = 2
            given["bidirectional"] = "True"
        if draw.chance(0.3):
            net.batch_first = True
            given["batch_first"] = "True"
        if draw.chance(0.1):
            given["dropout"] = draw.pick(("0.5", "1.0", "0"))
            net.random = given["dropout"] == "0.5" and net.layers > 1
        if name == "LSTM" and net.H > 1 and draw.chance(0.15):
            net.projected = draw.integer(1, net.H - 1)
            given["proj_size"] = str(net.projected)
    if net.name.startswith("RNN") and draw.chance(0.4):
        given["nonlinearity"] = "'relu'"
    if draw.chance(0.35):
        net.dtype = draw.pick(("float64", "float64", "float64", "bfloat16", "float16") if strange else ("float64",))
        given["dtype"] = net.dtype
    if strange and draw.chance(0.03):
        net.device = "meta"
        given["device"] = "'meta'"
    if not draw.chance(plain):
        net.own = True
        norms = NORMS if net.has_cell_state else [norm for norm in NORMS if norm not in NEEDS_CELL]
        net.norm = draw.pick(norms) if draw.chance(0.85) else "none"
        given["norm"] = repr(net.norm)
        if not net.is_cell:
            for option in draw.sample(list(OWN), draw.pick((0, 0, 0, 1, 2))):
                if option != "residual" or net.layers > 1:
                    given[option] = draw.pick(OWN[option])
    net.training = not draw.chance(0.25)
    net.random = net.random and net.training
    net.arguments = [f"{key}={value}" for key, value in given.items()]
    return net

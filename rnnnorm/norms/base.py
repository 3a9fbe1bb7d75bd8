"""Normalizers: their base classes, and the registry that finds one by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..common.ranges import POSITIVE, Checked, Range, at_least
from ..common.settings import Settings
from ..common.suggestions import did_you_mean
from .fusible import Fusible

NORMALIZERS: dict[str, type[Normalizer] | type[WeightNormalizer]] = {}
"""Every normalizer by its name; a class enters by being defined."""

_NO_OPTIONS = ("self", "num_features", "device", "dtype", "stored")


def _register(cls: type[Normalizer] | type[WeightNormalizer]) -> None:
    name = cls.__dict__.get("name")
    if name is None:  # an abstract base of a family
        return
    known = NORMALIZERS.get(name)
    if known is not None and known.__qualname__ != cls.__qualname__:
        raise ValueError(f"normalizer name {name!r} is taken by {known.__module__}.{known.__qualname__}")
    NORMALIZERS[name] = cls


class Traits(Checked):
    """Traits of a method; a class overrides the defaults that do not hold for it.

    Options are checked by the annotations of the constructor and by `ranges`; see `rnnnorm.common.ranges.Checked`.
    """

    name: ClassVar[str]
    summary: ClassVar[str] = ""
    source: ClassVar[str] = ""
    cells: ClassVar[tuple[str, ...] | None] = None
    """The recurrent cells it is derived for, such as ("LSTM",); None: any."""
    per_gate: ClassVar[bool] = False
    """Whether a recurrent layer sets its option `groups` to one per block of H features, unless the user does."""
    exact_gradient: ClassVar[bool] = True
    """Whether the backward pass of training is the derivative of the forward pass; some methods define another one."""
    memoryless: ClassVar[bool] = True
    """Whether a sequence can be continued from its state (h, c) alone."""
    remembers_batches: ClassVar[bool] = False
    """Whether a training forward pass depends on earlier training batches, and not only moves what evaluation uses."""
    evaluates_by: str = "population"
    """The stored statistics that belong to the method: "running" where training itself reads the running ones."""
    lacks: ClassVar[tuple[str, ...]] = ()
    """Options of the base classes that it does not have."""
    learns_backward: ClassVar[bool] = False
    """Whether the backward pass moves stored statistics, too."""
    penalizes: ClassVar[bool] = False
    """Whether training leaves an auxiliary loss behind, which `rnnnorm.auxiliary_loss` sums up."""
    keeps_weights: ClassVar[bool] = True
    """Whether a weight is read as it was drawn or assigned, up to rounding."""
    keeps_directions: ClassVar[bool] = True
    """Whether its rows have at least the directions of those that were drawn or assigned."""


class Normalizer(Traits, Settings):
    """Maps rows to rows of the same shape, (B_t, F) → (B_t, F); knows nothing about LSTMs.

    A subclass gives a `name`, one line of `summary`, a `source`, and `forward(x, t)` for the rows of one timestep; if
    the rows of all timesteps can be treated at once, it overrides `sequence`, too.

    State that is kept from call to call must be in buffers: compiled and exported networks receive parameters, buffers
    and public attributes with plain values. Anything else, such as private attributes and the contents of lists, has
    there the values that the constructor gave it. Random numbers come from the functions of `rnnnorm.equations.noise`,
    which draw the same ones again where a backward pass repeats the forward pass.

    Args:
        num_features: F, features per row.
        gain: initial value of the learned gain g (F,); shared over time.
        bias: learn a bias (F,), initially 0; shared over time.
    """

    ranges: ClassVar[Mapping[str, Range]] = {"num_features": at_least(1), "eps": POSITIVE}
    per_step: bool = False
    """Whether the result depends on the number of the step, so that a caller must name it."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _register(cls)

    def __init__(
        self,
        num_features: int,
        *,
        gain: float = 1.0,
        bias: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.num_features = num_features
        self.initial_gain = float(gain)
        self.gain: Tensor = nn.Parameter(torch.empty(num_features, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(num_features, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def _fix_affine(self) -> None:
        """Make the gain a constant and leave out the bias, for methods that learn neither."""
        gain = self.gain.detach()
        del self.gain
        # Not in state dicts: it is an option of the constructor.
        self.register_buffer("gain", gain, persistent=False)
        self.bias = None

    def reset_parameters(self) -> None:
        """Set gain and bias to their initial values."""
        nn.init.constant_(self.gain, self.initial_gain)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, t: int = 0) -> Tensor:
        """Normalize the rows of timestep `t`: (B_t, F) → (B_t, F)."""
        raise TypeError(f"{type(self).__name__} must define forward(x, t)")

    def sequence(self, x: Tensor, batch_sizes: list[int]) -> Tensor:
        """Normalize all packed rows: (N, F) → (N, F), where the rows of step t are the next `batch_sizes[t]` ones."""
        return torch.cat([self(rows, t) for t, rows in enumerate(x.split_with_sizes(batch_sizes))])

    def linear(self, x: Tensor, W: Tensor, t: int = 0) -> Tensor:
        """Normalize W x of one timestep, for x (B_t, I) and W (F, I); override it if the factors themselves matter."""
        y: Tensor = self(F.linear(x, W), t)  # a call, so that hooks are run
        return y

    def sequence_linear(self, x: Tensor, W: Tensor, batch_sizes: list[int]) -> Tensor:
        """Normalize W x of all packed rows, for x (N, I)."""
        return self.sequence(F.linear(x, W), batch_sizes)

    def reset_sequence(self) -> None:
        """Forget the sequences at hand; called before and after each run over a batch of sequences."""

    def forbids(self, place: str) -> str | None:
        """Reason why this normalizer cannot stand at a place of `rnnnorm.norms.places.PLACES`; None where it can."""
        return None

    def fusible(self) -> Fusible | None:
        """Description for scans that compute this normalizer themselves; None: it must be called.

        Only the class that says so is meant: a subclass computes something else and must say it again.
        """
        return None

    def stored_values(self) -> int:
        """Number of values kept beside the parameters, without counters."""
        return sum(b.numel() for name, b in self.named_buffers() if b.is_floating_point() and name != "gain")

    def extra_repr(self) -> str:
        """Features and initial gain."""
        return f"{self.num_features}, gain={self.initial_gain:g}, bias={self.bias is not None}"


class WeightNormalizer(Traits):
    """Normalizes a weight matrix instead of activations: `register` reparametrizes it inside its module."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _register(cls)

    def register(self, module: nn.Module, weight: str) -> None:
        """Reparametrize `module.<weight>` (outputs, inputs) in place."""
        raise TypeError(f"{type(self).__name__} must define register(module, weight)")

    def forbids(self, place: str) -> str | None:
        """Reason why this normalizer cannot stand at a place: only input and hidden have a weight."""
        return None if place in ("input", "hidden") else "it normalizes a weight, and only input and hidden have one"


def normalizer_class(name: str) -> type[Normalizer] | type[WeightNormalizer]:
    """The normalizer of that name.

    Raises:
        ValueError: no normalizer has that name; the message lists those that exist.
    """
    if name not in NORMALIZERS:
        hint = did_you_mean(name, NORMALIZERS)
        raise ValueError(f"unknown normalizer {name!r}; there are: {', '.join(sorted(NORMALIZERS))}{hint}")
    return NORMALIZERS[name]


def options_of(cls: type[Normalizer] | type[WeightNormalizer]) -> dict[str, inspect.Parameter]:
    """The keys a user may set on a normalizer: those of its family, its own, and those that all have."""
    constructors: list[Mapping[str, inspect.Parameter]] = []
    for base in cls.__mro__:
        if inspect.isfunction(own := vars(base).get("__init__")):
            parameters = inspect.signature(own).parameters
            constructors.append({key: p for key, p in parameters.items() if p.kind is not p.VAR_KEYWORD})
            if len(constructors[-1]) == len(parameters):  # nothing is handed on
                break
    found: dict[str, inspect.Parameter] = {}
    for named in reversed(constructors[:-1]):
        found.update(named)
    for named in constructors[-1:]:
        found.update({key: p for key, p in named.items() if key not in found})
    return {key: p for key, p in found.items() if key not in (*_NO_OPTIONS, *cls.lacks)}


def at_least_float32(x: Tensor) -> Tensor:
    """Half-precision rows as float32, since moments of 16-bit numbers lose most of their digits."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def by_blocks(x: Tensor, size: int, normalize: Callable[[Tensor], Tensor]) -> Tensor:
    """Blocks of `size` neighbouring features, each normalized by itself: for graphs, where B must not be named."""
    return torch.cat([normalize(block) for block in torch.split(x, size, -1)], -1)


_first_pass: ContextVar[bool] = ContextVar("_first_pass", default=False)


def in_backward() -> bool:
    """Whether autograd is running, that is, whether activation checkpointing runs the forward pass a second time."""
    if torch.compiler.is_compiling():  # what is computed again there is a function of what the first pass read
        return False
    return bool(torch._C._current_graph_task_id() != -1) and not _first_pass.get()


@contextmanager
def first_pass() -> Iterator[None]:
    """Take what runs for a first pass, wherever: it works on statistics as they were then, and may move them."""
    token = _first_pass.set(True)
    try:
        yield
    finally:
        _first_pass.reset(token)

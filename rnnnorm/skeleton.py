"""Skeletons: networks without weights or statistics of their own, which compiled graphs run with those they are given.

A graph knows a network by two texts, what it was built from (`architecture`) and what its attributes say now
(`Settings`). From them any process that knows the class can build one that does the same.
"""

from __future__ import annotations

import ast
import json
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import repeat
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .equations import Cell, LayerWeights
from .norms import Use
from .placement import Norm
from .settings import Settings, settings_of

if TYPE_CHECKING:
    from .stack import RecurrentStack

Tensors = list[Tensor]
Names = tuple[str, ...]

INNER = (
    "run_layers", "run_layer", "run_direction", "ready_layer", "leave_layer", "layer_weights", "read_weights",
    "norms", "between", "skip", "zero_states", "state_sizes", "output_size", "_drop_per_sequence",
)  # fmt: skip
"""What a run goes through, apart from the borders: a class that changes any of it is a class of its own."""


def architecture(stack: RecurrentStack) -> str:
    """What a network was built from, as a text; "" where that cannot be told by numbers and words."""
    cell = stack.cell
    norm = stack.norm
    uses = {place: [use.normalizer, dict(use.options)] for place, use in norm.places.items() if not use.is_weight}
    arguments = {k: v for k, v in stack._arguments.items() if k not in ("norm", "device", "dtype")}
    told = {
        "network": _origin(_class_of_runs(type(stack))),
        "cell": [_origin(type(cell)), vars(cell)],
        "norm": [uses, norm.carried and "cell" in uses, norm.name],
        "arguments": arguments,
        "input_size": stack.input_size,
        "output_size": stack.output_size,
        "state_sizes": stack.state_sizes,
        "num_states": stack.num_states,
    }
    try:
        return json.dumps(told)
    except TypeError:
        return ""


@lru_cache(256)
def told(text: str) -> dict[str, Any]:
    """What an architecture says."""
    found: dict[str, Any] = json.loads(text)
    return found


def insides(stack: RecurrentStack) -> tuple[tuple[str, str, Names, Names, Names], ...]:
    """The modules inside a network: path, class, and the names of parameters, buffers and further statistics."""
    return tuple(
        (
            path,
            type(module).__qualname__,
            tuple(module._parameters),
            tuple(module._buffers),
            tuple(getattr(module, "population", ())),
        )
        for path, module in stack.named_modules()
        if path and isinstance(module, Settings)
    )


_lock = threading.Lock()
_idle: dict[str, list[RecurrentStack]] = {}
_KEPT = 64


@contextmanager
def skeleton(text: str, settings: str, parameters: Tensors, buffers: Tensors, constants: Tensors) -> Iterator[Any]:
    """A network by its two texts with the tensors that it is given, in the order in which `opaque.Told` lists them.

    Several threads get one each. What it was given is let go afterwards.

    Raises:
        RuntimeError: a class that does not exist here, or modules that differ from those it was built with.
    """
    with _lock:
        found = _idle.get(text, [])
        network = found.pop() if found else None
    network = network or _build(text)
    _apply(network, settings)
    _bind(network, settings, parameters, buffers, constants)
    try:
        yield network
    finally:
        _bind(network, settings)
        with _lock:
            _idle.setdefault(text, []).append(network)
            while len(_idle) > _KEPT:  # the oldest one
                del _idle[next(iter(_idle))]


def _build(text: str) -> RecurrentStack:
    say = told(text)
    cls: type[RecurrentStack] = _find(Settings, say["network"])
    kind = _find(Cell, say["cell"][0])
    cell = kind.__new__(kind)
    vars(cell).update(say["cell"][1])
    uses, carried, name = say["norm"]
    norm = Norm(**{place: Use(*use) for place, use in uses.items()}, carried=carried, name=name)
    arguments = {k: tuple(v) if isinstance(v, list) else v for k, v in say["arguments"].items()}
    # Nothing is drawn from anybody's random stream.
    with warnings.catch_warnings(), torch.random.fork_rng(devices=()):
        warnings.simplefilter("ignore")
        return cls.without_constructor(cell, {**arguments, "norm": norm, "device": "meta", "dtype": None})


def _apply(network: RecurrentStack, settings: str) -> None:
    """Give all modules the attributes that the text names; those it does not name are not there."""
    if network.__dict__.get("_applied") == settings:
        return
    modules = dict(network.named_modules())
    lines = {path: (kind, values) for path, _, (kind, values) in _lines(settings)}
    for path, module in modules.items():
        if path and path not in lines and isinstance(module, Settings):
            owner, _, name = path.rpartition(".")
            modules[owner]._modules[name] = None
    for path, (kind, values) in lines.items():
        module = modules.get(path)
        if not isinstance(module, Settings) or (path and type(module).__qualname__ != kind):
            raise RuntimeError(
                f"{path!r} in a {type(network).__name__} is now a {kind}, and was built as a {type(module).__name__}: "
                "a compiled graph runs what the constructor has built"
            )
        module.__dict__.update({name: value for name, value in values.items() if name in settings_of(module)})
    network.__dict__["_applied"] = settings


def _bind(network: RecurrentStack, settings: str, *given: Tensors) -> None:
    """Give a skeleton its tensors, or, without any, take them away."""
    parameters, *others = [iter(group) for group in given] or [repeat(torch.empty(0))] * 3
    weights = {}
    if given:
        layout = _layout(settings)
        weights = {s: LayerWeights.from_tensors(parameters, layout) for s in network.all_suffixes()}
    network.__dict__["read_weights"] = weights.__getitem__
    modules = dict(network.named_modules())
    inside = {path: names for path, _, *names in network.insides}
    for path, present, _ in _lines(settings):
        if not path:
            continue
        module = modules[path]
        places = (module._parameters, module._buffers, module.__dict__)
        for names, place, source in zip(inside[path], places, (parameters, *others), strict=True):
            for name in names:
                place[name] = next(source) if given and name in present else None


def _layout(settings: str) -> tuple[int, bool, bool, bool]:
    biases, projected, inside, peepholes = list(settings.partition("\n")[0])
    return int(biases), projected == "1", inside == "1", peepholes == "1"


@lru_cache(256)
def _lines(settings: str) -> list[tuple[str, tuple[str, ...], tuple[str, dict[str, Any]]]]:
    """Path, names of the tensors that are there, class and attributes of each module."""
    lines = [line.split("|", 2) for line in settings.split("\n")[1:]]
    return [
        (path, tuple(present.split(",")) if present else (), ast.literal_eval(values))
        for path, present, values in lines
    ]


def _class_of_runs(cls: type) -> type:
    """The first class of this package, from `cls` upwards, whose runs are those of `cls`."""
    for base in cls.__mro__:
        ours = base.__module__.partition(".")[0] == __name__.partition(".")[0]
        if ours and all(getattr(base, name, None) is getattr(cls, name, None) for name in INNER):
            return base
    return cls


def _origin(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _find(base: type, origin: str) -> Any:
    """The newest subclass of that origin."""
    found = None
    waiting = [base]
    while waiting:
        cls = waiting.pop(0)
        found = cls if _origin(cls) == origin else found
        waiting += cls.__subclasses__()
    if found is None:
        raise RuntimeError(f"a compiled graph needs the class {origin}, which this process has not imported")
    return found

"""Skeletons: networks without tensors of their own, which compiled graphs run with those that they are given.

A graph describes a network by two texts: what it was built from (`architecture`), and its present attributes
(`Settings`). From them any process that has imported the class can build an equivalent network.
"""

from __future__ import annotations

import ast
import json
import secrets
import threading
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import repeat
from typing import Any

import torch
from torch import Tensor

from ..common.settings import Settings, settings_of
from ..equations import Equations, LayerWeights
from ..norms import Use
from ..norms.places import Norm
from .options import Options
from .stack import RecurrentStack

Tensors = list[Tensor]
Names = tuple[str, ...]

INNER = (
    "run_layers", "run_layer", "run_direction", "ready_layer", "leave_layer", "layer_weights", "read_weights",
    "norms", "emitted", "emit", "between", "skip", "zero_states", "state_sizes", "output_size", "_drop_per_sequence",
)  # fmt: skip
"""Methods of a run: a class that overrides one of them is not interchangeable with its base class."""


def architecture(stack: RecurrentStack) -> str:
    """Description of what a network was built from, as JSON; "" where values are not numbers and words."""
    cell = stack.cell
    norm = stack.norm
    uses = {place: [use.normalizer, dict(use.options)] for place, use in norm.places.items() if not use.is_weight}
    options = {k: v for k, v in vars(stack._options).items() if k not in ("norm", "device", "dtype")}
    told = {
        "network": _origin(_class_of_runs(type(stack))),
        "cell": [_origin(type(cell)), vars(cell)],
        "norm": [uses, norm.carried and "cell" in uses, norm.name],
        "normalizers": [_origin(use.cls) for use in norm.places.values() if not _ours(use.cls)],
        "options": options,
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
    """The parsed description."""
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
            tuple(module.population),
        )
        for path, module in stack.named_modules()
        if path and isinstance(module, Settings)
    )


_lock = threading.Lock()
_idle: dict[tuple[str, Names], list[RecurrentStack]] = {}
"""By architecture and by the modules that are still there."""
_KEPT = 64


@contextmanager
def skeleton(text: str, settings: str, parameters: Tensors, buffers: Tensors, constants: Tensors) -> Iterator[Any]:
    """A network by its two texts with the tensors that it is given, in the order in which `compiled.Told` lists them.

    Several threads get one each. What it was given is let go afterwards.

    Raises:
        RuntimeError: a class that does not exist here, or modules that differ from those it was built with.
    """
    key = text, tuple(path for path, _, _ in _lines(settings))
    with _lock:
        found = _idle.get(key, [])
        network = found.pop() if found else None
    network = network or _build(text)
    _apply(network, settings)
    _bind(network, settings, parameters, buffers, constants)
    texts = [module._settings for module in network.modules() if isinstance(module, Settings)]
    try:
        yield network
        _check_unmoved(network, texts)
    finally:
        _bind(network, settings)
        with _lock:
            _idle.setdefault(key, []).append(network)
            while len(_idle) > _KEPT:  # the oldest one
                del _idle[next(iter(_idle))]


def _build(text: str) -> RecurrentStack:
    say = told(text)
    cls = _find(Settings, say["network"])
    kind = _find(Equations, say["cell"][0])
    cell = kind.__new__(kind)
    vars(cell).update(say["cell"][1])
    uses, carried, name = say["norm"]
    norm = Norm(**{place: Use(*use) for place, use in uses.items()}, carried=carried, name=name)
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in say["options"].items()}
    # Nothing is drawn from anybody's random stream.
    with warnings.catch_warnings(), torch.random.fork_rng(devices=()):
        warnings.simplefilter("ignore")
        new: RecurrentStack = cls.without_constructor(cell, Options(**values, norm=norm, device="meta"))
        return new


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
        first = module.__dict__["_built"]
        for name in settings_of(module).keys() - values.keys() - first.keys():
            del module.__dict__[name]
        tensors = module._parameters.keys() | module._buffers.keys() | module._modules.keys()
        options = {n: value for n, value in values.items() if n not in tensors and not n.startswith("_")}
        module.__dict__.update({**first, **options})
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


def _check_unmoved(network: RecurrentStack, texts: list[str]) -> None:
    """Raise RuntimeError if a module has set an option while it ran: the one it stands for would not know."""
    modules = [(path, module) for path, module in network.named_modules() if isinstance(module, Settings)]
    for (path, module), text in zip(modules, texts, strict=True):
        if module._settings != text:
            raise RuntimeError(
                f"{path} ({type(module).__name__}) sets attributes while it runs, which a compiled graph cannot keep: "
                "make them buffers, or run the network eagerly"
            )


def keep_assigned(network: RecurrentStack, settings: str, buffers: Tensors) -> None:
    """Buffers that were replaced in a run, not written into, as values of those that were bound."""
    bound = iter(buffers)
    modules = dict(network.named_modules())
    inside = {path: names[1] for path, _, *names in network.insides}
    for path, present, _ in _lines(settings):
        for name in inside.get(path, ()):
            if name in present:
                old, new = next(bound), modules[path]._buffers[name]
                if new is not old:
                    assert new is not None
                    old.copy_(new.detach())


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
        if _ours(base) and all(getattr(base, name, None) is getattr(cls, name, None) for name in INNER):
            return base
    return cls


_marks: weakref.WeakKeyDictionary[type, str] = weakref.WeakKeyDictionary()


def _origin(cls: type) -> str:
    """Module and name of a class, and a mark outside this package, where it may be defined anew, as in a notebook."""
    origin = f"{cls.__module__}.{cls.__qualname__}"
    return origin if _ours(cls) else f"{origin}#{_marks.setdefault(cls, secrets.token_hex(4))}"


def _ours(cls: type) -> bool:
    return cls.__module__.partition(".")[0] == __name__.partition(".")[0]


def _find(base: type, origin: str) -> Any:
    """The subclass of that origin; of several, or if it comes from another process, the newest one of that name."""
    found = None
    name, _, mark = origin.partition("#")
    waiting = [base]
    while waiting:
        cls = waiting.pop(0)
        if f"{cls.__module__}.{cls.__qualname__}" == name and (found is None or _marks.get(found) != mark or not mark):
            found = cls
        waiting += cls.__subclasses__()
    if found is None:
        raise RuntimeError(f"a compiled graph needs the class {origin}, which this process has not imported")
    return found

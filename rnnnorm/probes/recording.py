"""Recordings of every state of a recurrent network, from which gradients per timestep can be read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from rnnnorm.nn.recurrent import Recurrent
from rnnnorm.norms import Normalizer
from rnnnorm.probes.layer_record import LayerRecord
from rnnnorm.probes.listening import Listener, listen
from rnnnorm.probes.repetition import Repetition


class Recording:
    """Records of the last run of the networks inside a module.

    Attributes:
        layers: the record of each layer and direction, "l0", "l0_reverse", "l1", …; where a module contains several
            recurrent networks, after the path of the network, as in "encoder.l0".
    """

    def __init__(self) -> None:
        self.layers: dict[str, LayerRecord] = {}


class Observation(Recording):
    """A `Recording` of networks that run as ever: `finish` adds what is recorded of repetitions apart from them."""

    def __init__(self) -> None:
        super().__init__()
        self.repetitions: dict[str, Repetition] = {}

    def finish(self) -> None:
        """Repeat the last run of each layer; processes whose normalizers are synchronized must do so together."""
        for name, repetition in self.repetitions.items():
            self.layers[name] = repetition.run(record)
        self.repetitions.clear()


def networks(module: nn.Module) -> dict[str, Recurrent[Any]]:
    """The recurrent networks inside a module by the prefix of their layers' names: "" for a single one.

    Raises:
        ValueError: there is none.
    """
    found = {path: network for path, network in module.named_modules() if isinstance(network, Recurrent)}
    if not found:
        raise ValueError(f"{type(module).__name__} contains no recurrent network: no rnnnorm.LSTM, GRU or RNN")
    if len(found) == 1:
        return {"": next(iter(found.values()))}
    return {path + "." if path else "": network for path, network in found.items()}


def directions(module: nn.Module) -> Iterator[tuple[str, Recurrent[Any], str]]:
    """Every layer and direction: its name in a recording, its network, and what the names of its weights end in."""
    for prefix, network in networks(module).items():
        for layer in range(network.num_layers):
            for suffix in network.suffixes(layer):
                yield prefix + suffix.removeprefix("_"), network, suffix


def normalizers(module: nn.Module) -> dict[str, Normalizer]:
    """The normalizers of activations inside recurrent networks, by layer and place: "l0/hidden", "l0/between", …."""
    found = {}
    for prefix, network in networks(module).items():
        for path, normalizer in network.named_modules():
            if isinstance(normalizer, Normalizer):
                place, _, name = path.partition("_")
                name = name if place == "norms" else f"{name}/{place}"  # else between or emitted
                found[prefix + name.replace(".", "/")] = normalizer
    return found


@contextmanager
def record(module: nn.Module, gates: bool = False, states: bool = True) -> Iterator[Recording]:
    """Record the recurrent networks inside a module for the time of a `with` block.

    Each network runs step by step on the eager reference, which every other backend agrees with; parameters,
    statistics, state dict and hooks are those of an ordinary run. A network that runs more than once leaves the record
    of its last run. Blocks can be nested and overlap; a network then still runs once.

    Args:
        module: any module that contains `rnnnorm.LSTM`, `GRU` or `RNN`.
        gates: keep the pre-activations, too.
        states: keep the states; without them and without gates, only `active`, `inputs` and `initial` are recorded, and
            the network runs on its own backend.

    Raises:
        ValueError: the module contains no recurrent network.

    Example:
        >>> import rnnnorm, torch
        >>> lstm = rnnnorm.LSTM(10, 20, norm="ln")
        >>> with record(lstm) as recording:
        ...     output = lstm(torch.randn(50, 3, 10))[0]
        ...     output[-1].sum().backward()
        >>> recording.layers["l0"].gradient_norms()["h"].shape  # ‖∂L/∂h_t‖ by t
        torch.Size([50])
    """
    recording = Recording()
    with _listening(module, lambda prefix: Listener(recording.layers, prefix, states or gates, gates)):
        yield recording


@contextmanager
def observe(module: nn.Module, gates: bool = False, gradients: bool = False) -> Iterator[Observation]:
    """Record the recurrent networks inside a module as `record` does, but leave their runs alone to the last bit.

    Each network runs on its own backend. What is recorded is a repetition on the eager reference, by copies of the
    network, its statistics and the random streams as they were when the run began; hooks of the network's normalizers
    are not called again. It takes place in `Observation.finish`, after the block and the backward pass: then the
    gradients that reached the network's outputs are sent back through the repetition.

    Args:
        module: any module that contains `rnnnorm.LSTM`, `GRU` or `RNN`.
        gates: record the pre-activations, too.
        gradients: give the states their gradients.

    Raises:
        ValueError: the module contains no recurrent network.
    """
    found = Observation()

    def listener(prefix: str) -> Listener:
        return Listener(found.layers, prefix, True, gates, found.repetitions, gradients)

    with _listening(module, listener):
        yield found


@contextmanager
def _listening(module: nn.Module, listener: Callable[[str], Listener]) -> Iterator[None]:
    """Have a listener for each network, made for the prefix of its layers' names."""
    removals: list[Callable[[], None]] = []
    try:
        for prefix, network in networks(module).items():
            removals.append(listen(network, listener(prefix)))
        yield
    finally:
        for remove in removals:
            remove()


def growth(norms: Tensor, start: int, stop: int) -> float:
    """The factor by which a gradient's norm grows per step back in time.

        log ‖∂L/∂h_t‖ ≈ α - t · log(growth),  t = start … stop - 1,  by least squares

    Above 1 gradients explode on their way back, below 1 they vanish.

    Args:
        norms: (T,), such as one of `LayerRecord.gradient_norms`.
        start: first step.
        stop: step after the last one.

    Returns:
        the factor; nan if a norm in the range is 0 or not finite.

    Raises:
        ValueError: fewer than two steps, or steps that do not exist.
    """
    if not 0 <= start <= stop - 2 or stop > len(norms):
        raise ValueError(f"growth needs two steps or more of 0 … {len(norms) - 1}, got start={start}, stop={stop}")
    y = norms[start:stop].detach().double().log()
    if not bool(torch.isfinite(y).all()):
        return math.nan
    t = torch.arange(stop - start, dtype=torch.float64, device=y.device)
    t = t - t.mean()
    return math.exp(-float((t * (y - y.mean())).sum() / t.square().sum()))

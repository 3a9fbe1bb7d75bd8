"""Networks of one's own in the place of `rnnnorm.LSTM`: from packed rows to padded sequences, and back."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from rnnnorm.common.suggestions import did_you_mean


class OwnNetwork(nn.Module):
    """A torch module of the user's with the interface that tasks expect of a recurrent network.

    Its constructor is called with those of `arguments` that it names, and with `options`; it needs `norm`, which it
    gives to an `rnnnorm.LSTM`, `GRU` or `RNN` inside. Its `forward(x, lengths)` takes x (B, T, F), padded by zeros, and
    lengths (B,) int64 on the CPU, longest first. It returns (B, T, O), of which the padding is ignored, or (B, O) where
    there is one target per sequence; such a target is read off the last step of each sequence of (B, T, O). O is its
    attribute `output_size`, or else `hidden_size`.

    Args:
        name: `module.Class` of a module that has been imported.
        arguments: what the task has to say, such as `input_size` (F), `hidden_size` and `norm`.
        options: further arguments, those of the user.

    Raises:
        ValueError: no such class, or one without `norm`; an argument that it does not have or lacks; in the forward
            pass, a result of another shape, or a batch that continues the one before.
    """

    bidirectional = False
    num_directions = 1
    needs_data = False

    def __init__(self, name: str, arguments: Mapping[str, Any], options: Mapping[str, Any] | None) -> None:
        super().__init__()
        cls = imported(name)
        known = inspect.signature(cls).parameters
        takes_all = any(p.kind is p.VAR_KEYWORD for p in known.values())
        if "norm" not in known and not takes_all:
            raise ValueError(f"network {name!r} has no argument `norm`, so nothing in it can be normalized")
        unknown = [key for key in options or {} if key not in known and not takes_all]
        if unknown:
            raise ValueError(
                f"network {name!r} has no option {unknown[0]!r}; it has: {', '.join(known)}"
                f"{did_you_mean(unknown[0], known)}"
            )
        given = {key: value for key, value in arguments.items() if key in known or takes_all} | dict(options or {})
        missing = [k for k, p in known.items() if p.default is p.empty and k not in given and p.kind not in (2, 4)]
        if missing:
            raise ValueError(f"network {name!r} needs {', '.join(missing)}: give it by network_options")
        self.name = name
        self.module = cls(**given)
        self.output_size = int(getattr(self.module, "output_size", arguments["hidden_size"]))

    def forward(self, input: PackedSequence, hx: Any = None) -> tuple[PackedSequence, Tensor]:
        """Rows (N, O), those of a result (B, O) being the sequences' own, and each sequence's result (1, B, O)."""
        if hx is not None:
            raise ValueError(f"network {self.name!r} keeps no state between batches, so a stream cannot go on with it")
        rows = PackedSequence(input.data, input.batch_sizes)
        x, lengths = pad_packed_sequence(rows, batch_first=True)
        output: Tensor = self.module(x, lengths)
        B, T = x.shape[:2]
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        if shape == (B, self.output_size):
            return PackedSequence(output, torch.tensor([B])), output.unsqueeze(0)
        if shape != (B, T, self.output_size):
            raise ValueError(
                f"network {self.name!r} returned {shape} for x {tuple(x.shape)}: expected (B, T, O) or (B, O) with "
                f"O = {self.output_size}, its attribute output_size or else hidden_size"
            )
        last = output[torch.arange(B, device=output.device), (lengths - 1).to(output.device)]
        return pack_padded_sequence(output, lengths, batch_first=True), last.unsqueeze(0)


def import_network(name: str) -> None:
    """Import the module of a class that a user has named by `module.Class`.

    Raises:
        ValueError: it cannot be imported, or has no such torch module.
    """
    module = name.rpartition(".")[0]
    if not module:
        raise ValueError(f"network {name!r}: expected module.Class")
    try:
        import_module(module)
    except Exception as error:
        said = (str(error).strip().splitlines() or [""])[0]
        raise ValueError(f"network {name!r}: {module} cannot be imported: {type(error).__name__}: {said}") from error
    imported(name)


def imported(name: str) -> type[nn.Module]:
    """The class `module.Class`, in a module that has been imported: a checkpoint must not say what is.

    Raises:
        ValueError: the module has not been imported, or has no such torch module.
    """
    module, _, own = name.rpartition(".")
    if module not in sys.modules:
        raise ValueError(
            f"network {name!r}: the module {module!r} is not imported; name the network by --model.network on the "
            "command line, or import it first"
        )
    cls = getattr(sys.modules[module], own, None)
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        classes = [key for key, value in vars(sys.modules[module]).items() if isinstance(value, type)]
        raise ValueError(f"network {name!r}: {module} has no torch module {own!r}{did_you_mean(own, classes)}")
    return cls

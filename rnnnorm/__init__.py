"""What does normalization do to a recurrent network, vertically and horizontally?

`LSTM`, `GRU` and `RNN` are those of `torch.nn` with normalizers; `presets()` lists them; `recalibrate` and `statistics`
say how batch normalization evaluates. Experiments run from the command line: `rnnnorm compare`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from .nn.batch_norm import RaggedBatchNorm
    from .nn.cells import GRUCell, LSTMCell, RNNCell
    from .nn.gru import GRU
    from .nn.lstm import LSTM
    from .nn.rnn import RNN
    from .norms import Normalizer, has_batch_statistics, recalibrate, statistics
    from .norms.places import Norm
    from .norms.presets import Preset, parse_norm, presets

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "GRUCell",
    "LSTMCell",
    "Norm",
    "Normalizer",
    "Preset",
    "RNNCell",
    "RaggedBatchNorm",
    "__version__",
    "has_batch_statistics",
    "parse_norm",
    "presets",
    "recalibrate",
    "statistics",
]

_MODULES = {
    "GRU": "nn.gru",
    "GRUCell": "nn.cells",
    "LSTM": "nn.lstm",
    "LSTMCell": "nn.cells",
    "Norm": "norms.places",
    "Normalizer": "norms",
    "Preset": "norms.presets",
    "RNN": "nn.rnn",
    "RNNCell": "nn.cells",
    "RaggedBatchNorm": "nn.batch_norm",
    "has_batch_statistics": "norms",
    "parse_norm": "norms.presets",
    "presets": "norms.presets",
    "recalibrate": "norms",
    "statistics": "norms",
}


def __getattr__(name: str) -> Any:
    """A public name, imported when it is first used: the command line answers before torch is there."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""What does normalization do to a recurrent network, vertically and horizontally?

`LSTM` is `torch.nn.LSTM` with normalizers; `presets()` lists them; `recalibrate` and `statistics` say how batch
normalization evaluates. Experiments run from the command line: `rnnnorm compare`.
"""

from __future__ import annotations

from ._version import __version__
from .cell import LSTMCell
from .lstm import LSTM
from .norms import Normalizer, has_batch_statistics, recalibrate, statistics
from .placement import Norm, Preset, parse_norm, presets

__all__ = [
    "LSTM",
    "LSTMCell",
    "Norm",
    "Normalizer",
    "Preset",
    "__version__",
    "has_batch_statistics",
    "parse_norm",
    "presets",
    "recalibrate",
    "statistics",
]

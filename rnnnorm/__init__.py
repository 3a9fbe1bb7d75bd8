"""What does normalization do to a recurrent network, vertically and horizontally?

`LSTM`, `GRU` and `RNN` are those of `torch.nn` with normalizers; `presets()` lists them, `register` adds
one; `recalibrate` and `statistics`
say how batch normalization evaluates. Experiments run from the command line: `rnnnorm compare`.
"""

from __future__ import annotations

from ._version import __version__
from .common.interrupts import interrupts_leave, is_command

with interrupts_leave(is_command()):
    from .nn.batch_norm import RaggedBatchNorm
    from .nn.cells import GRUCell, LSTMCell, RNNCell
    from .nn.gru import GRU
    from .nn.indrnn import IndRNN
    from .nn.ligru import LiGRU
    from .nn.lstm import LSTM
    from .nn.rnn import RNN
    from .norms import Normalizer, auxiliary_loss, has_batch_statistics, recalibrate, statistics
    from .norms.places import Norm
    from .norms.presets import Preset, parse_norm, presets, register

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "GRUCell",
    "IndRNN",
    "LSTMCell",
    "LiGRU",
    "Norm",
    "Normalizer",
    "Preset",
    "RNNCell",
    "RaggedBatchNorm",
    "__version__",
    "auxiliary_loss",
    "has_batch_statistics",
    "parse_norm",
    "presets",
    "recalibrate",
    "register",
    "statistics",
]

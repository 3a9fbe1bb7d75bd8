"""Cases that fail, each in one way, for the test of the soak itself. They are run only where asked for."""

from __future__ import annotations

from soak.draw import Draw
from soak.program import Program

PLANTED = (
    Program(("m = LSTM(2, 3)", "out = m(randn(4, 2, 2))", "see(out)"), numbers="torch"),
    Program(("import ctypes", "ctypes.string_at(0)")),
    Program(("import os", "os.abort()")),
    Program(("import os", "os._exit(3)")),
    Program(("while True: pass",)),
    Program(("import time", "time.sleep(10**6)")),
    Program(("see(tensor(1.5 if side == 'rnnnorm' else 1.0), 'planted')",), numbers="torch"),
    Program(("if side == 'torch': raise RuntimeError('planted: torch refuses')",)),
    Program(("LSTM(2, 3).norms('planted')",), torch=False),
    Program(("if side == 'rnnnorm': raise ValueError('planted')",), names=("hidden_size",)),
    Program(("pass",), must_refuse="planted: nobody may accept this"),
    Program(
        ("import signal", "signal.signal(signal.SIGPROF, signal.SIG_DFL)", "signal.setitimer(signal.ITIMER_PROF, 0.02)")
    ),
    *[Program(("sum(range(4 * 10**6))",), torch=False)] * 3,
)
"""The first one is sound, and so are the last three, during which the one before them ends the process."""


def planted(draw: Draw) -> Program:
    """The next of them."""
    return PLANTED[draw.number % len(PLANTED)]

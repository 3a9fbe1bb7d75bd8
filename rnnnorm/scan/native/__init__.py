"""One layer in one pass over packed rows on a CPU, in C++ that is compiled for the machine it runs on."""

from __future__ import annotations

from .function import ready, scan_native

__all__ = ["ready", "scan_native"]

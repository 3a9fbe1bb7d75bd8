"""Reports: tables, figures and one HTML page from the run folders of a comparison."""

from __future__ import annotations

from rnnnorm.report.build import build, overview
from rnnnorm.report.colours import colour

__all__ = ["build", "colour", "overview"]

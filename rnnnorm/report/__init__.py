"""Run folders → tables, figures and one HTML page."""

from __future__ import annotations

from rnnnorm.report.build import build, summary_table
from rnnnorm.report.colours import colour

__all__ = ["build", "colour", "summary_table"]

"""Reports over several data sets: tables, figures and one page from the folders of several comparisons."""

from __future__ import annotations

from rnnnorm.report.several.build import build_several, overview_several

__all__ = ["build_several", "overview_several"]
